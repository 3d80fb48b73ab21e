//! Watchers: many on a stream, from the past and from now on, with what was there before, progress and
//! the end.

use etcd_client::{Client, Error, EventType, WatchOptions, WatchResponse, WatchStream};

use crate::{PREFIX, key};

async fn next(stream: &mut WatchStream) -> Result<WatchResponse, Error> {
    Ok(stream.message().await?.expect("the stream goes on"))
}

/// Events in short: key, value, and what was there before.
fn in_short(response: &WatchResponse) -> Vec<String> {
    let events = response.events().iter().map(|event| {
        let kv = event.kv().expect("an event is about a key");
        let name = kv.key_str().expect("text").trim_start_matches(PREFIX).to_owned();
        let value = kv.value_str().expect("text");
        let before = event.prev_kv().map(|before| before.value_str().expect("text").to_owned());
        match event.event_type() {
            EventType::Put => format!("{name}={value} before {before:?}"),
            EventType::Delete => format!("{name} gone before {before:?}"),
        }
    });
    events.collect()
}

pub(crate) async fn watch(client: &mut Client) -> Result<(), Error> {
    let first = client.put(key("watched"), "1", None).await?;
    let from = first.header().expect("a header").revision();
    client.put(key("watched"), "2", None).await?;
    let options = WatchOptions::new().with_start_revision(from).with_prev_key();
    let mut stream = client.watch(key("watched"), Some(options)).await?;
    let created = next(&mut stream).await?;
    assert!(created.created() && !created.canceled());
    let past = created.watch_id();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.extend(in_short(&next(&mut stream).await?));
    }
    assert_eq!(seen, ["watched=1 before None", "watched=2 before Some(\"1\")"]);

    let options = WatchOptions::new().with_prefix().with_watch_id(77);
    stream.watch(PREFIX, Some(options)).await?;
    let created = next(&mut stream).await?;
    assert_eq!((created.created(), created.watch_id()), (true, 77));
    client.delete(key("watched"), None).await?;
    let mut seen = [next(&mut stream).await?, next(&mut stream).await?];
    seen.sort_by_key(WatchResponse::watch_id);
    assert_eq!(in_short(&seen[0]), ["watched gone before Some(\"2\")"]);
    assert_eq!((seen[0].watch_id(), seen[1].watch_id()), (past, 77));
    assert_eq!(in_short(&seen[1]), ["watched gone before None"]);

    stream.request_progress().await?;
    let progress = next(&mut stream).await?;
    assert!(progress.events().is_empty() && !progress.created());
    assert!(from + 2 <= progress.header().expect("a header").revision());

    stream.cancel(past).await?;
    let ended = next(&mut stream).await?;
    assert_eq!((ended.canceled(), ended.watch_id()), (true, past));
    client.put(key("watched"), "3", None).await?;
    assert_eq!(in_short(&next(&mut stream).await?), ["watched=3 before None"]);
    Ok(())
}
