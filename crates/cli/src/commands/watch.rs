//! `watch`: prints what happens to keys, or runs a program for each event.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::pin::Pin;
use std::process::Command;
use std::task::{Context, Poll};

use jangada_server::proto::etcdserverpb as pb;
use jangada_server::proto::mvccpb::{Event, KeyValue, event::EventType};
use pb::watch_client::WatchClient;
use pb::watch_create_request::FilterType;
use serde_json::{Map, Value, json};
use tonic::codegen::tokio_stream::Stream;
use tonic::{Code, Status, Streaming};

use super::kv::range;
use crate::arguments::{self, Format, LeftOut, Watch};
use crate::client::Client;
use crate::failure::Failure;
use crate::output;

/// `watch`.
pub(crate) fn run(options: &arguments::Client, watch: &Watch) -> Result<(), Failure> {
    let request = create_request(watch)?;
    let mut watching = Watching {
        format: options.output.unwrap_or(Format::Simple),
        command: watch.command.iter().map(|word| word.as_os_str()).collect(),
        left: watch.count,
        next: request.start_revision,
    };
    if watching.format == Format::Table {
        let sentence = "events are printed one by one, not as a table; use simple or json";
        return Err(Failure::Usage(sentence.to_owned()));
    }
    Client::block_on(async {
        loop {
            let request =
                pb::WatchCreateRequest { start_revision: watching.next, ..request.clone() };
            let client = Client::new(options);
            let stream = client.read(async |channel| open(channel, request.clone()).await).await?;
            match watching.follow(stream).await {
                Ok(()) => return Ok(()),
                Err(Broken::Failed(failure)) => return Err(failure),
                // The member went away; another one knows what came after.
                Err(Broken::Lost) => {}
            }
        }
    })
}

fn create_request(watch: &Watch) -> Result<pb::WatchCreateRequest, Failure> {
    let (key, range_end) =
        range(&watch.key, watch.range_end.as_deref(), watch.prefix, watch.from_key)?;
    let filter = |left_out: &LeftOut| match left_out {
        LeftOut::Put => FilterType::Noput as i32,
        LeftOut::Delete => FilterType::Nodelete as i32,
    };
    Ok(pb::WatchCreateRequest {
        key,
        range_end,
        start_revision: watch.rev,
        progress_notify: watch.progress_notify,
        filters: watch.filter.iter().map(filter).collect(),
        prev_kv: watch.prev_kv,
        watch_id: 0,
        fragment: true,
    })
}

/// One request; the client's side stays open behind it.
struct Requests(Option<pb::WatchRequest>);

impl Stream for Requests {
    type Item = pb::WatchRequest;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.take().map_or(Poll::Pending, |request| Poll::Ready(Some(request)))
    }
}

/// Opens a stream with one watcher.
pub(super) async fn open(
    channel: crate::client::Channel,
    request: pb::WatchCreateRequest,
) -> Result<Streaming<pb::WatchResponse>, Status> {
    let request = pb::watch_request::RequestUnion::CreateRequest(request);
    let request = pb::WatchRequest { request_union: Some(request) };
    let mut client = WatchClient::new(channel).max_decoding_message_size(usize::MAX);
    Ok(client.watch(Requests(Some(request))).await?.into_inner())
}

/// Why a stream is not followed any more.
enum Broken {
    Lost,
    Failed(Failure),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Broken {
        Broken::Failed(error.into())
    }
}

/// What is done with events.
struct Watching<'a> {
    format: Format,
    command: Vec<&'a OsStr>,
    /// How many more events are wanted.
    left: Option<u64>,
    /// The revision to go on from.
    next: i64,
}

impl Watching<'_> {
    /// Follows a stream until there are events enough.
    async fn follow(&mut self, mut stream: Streaming<pb::WatchResponse>) -> Result<(), Broken> {
        loop {
            let response = match stream.message().await {
                Ok(Some(response)) => response,
                Ok(None) => return Err(Broken::Lost),
                Err(status) if is_loss(&status) => return Err(Broken::Lost),
                Err(status) => {
                    let sentence = format!("the watch was ended: {}", status.message());
                    return Err(Broken::Failed(Failure::Failed(sentence)));
                }
            };
            if response.canceled {
                return Err(Broken::Failed(canceled(&response)));
            }
            self.take(&response)?;
            if self.left == Some(0) {
                return Ok(());
            }
        }
    }

    fn take(&mut self, response: &pb::WatchResponse) -> Result<(), Broken> {
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        if response.created {
            if self.next == 0 {
                self.next = revision + 1;
            }
            return Ok(());
        }
        let wanted = match self.left {
            Some(left) => response.events.len().min(usize::try_from(left).unwrap_or(usize::MAX)),
            None => response.events.len(),
        };
        let events = &response.events[..wanted];
        match self.format {
            Format::Json => output::print_json(&response_json(response, events))?,
            Format::Simple | Format::Table => print(&mut io::stdout().lock(), events, revision)?,
        }
        for event in events {
            self.run_command(event, revision)?;
        }
        if !response.fragment {
            // The header of events may be ahead of them: etcd's is, while a watcher catches up.
            let last = response.events.last().and_then(|event| event.kv.as_ref());
            let told = last.map_or(revision, |kv| kv.mod_revision);
            self.next = self.next.max(told + 1);
        }
        if let Some(left) = &mut self.left {
            *left -= events.len() as u64;
        }
        Ok(())
    }

    fn run_command(&self, event: &Event, revision: i64) -> Result<(), Broken> {
        let Some((program, arguments)) = self.command.split_first() else { return Ok(()) };
        let empty = KeyValue::default();
        let kv = event.kv.as_ref().unwrap_or(&empty);
        let status = Command::new(program)
            .args(arguments)
            .env("ETCD_WATCH_REVISION", revision.to_string())
            .env("ETCD_WATCH_EVENT_TYPE", quoted(kind(event).as_bytes()))
            .env("ETCD_WATCH_KEY", quoted(&kv.key))
            .env("ETCD_WATCH_VALUE", quoted(&kv.value))
            .status();
        let program = program.to_string_lossy();
        let problem = match status {
            Ok(status) if status.success() => return Ok(()),
            Ok(status) => format!("{program} ended with {status}"),
            Err(error) => format!("{program} cannot be run: {error}"),
        };
        Err(Broken::Failed(Failure::Failed(problem)))
    }
}

/// Whether another member may have what this one cannot send any more.
pub(super) fn is_loss(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled)
}

fn canceled(response: &pb::WatchResponse) -> Failure {
    Failure::Failed(match response.compact_revision {
        0 => format!("the watch was refused: {}", response.cancel_reason),
        revision => format!(
            "what happened before revision {revision} is compacted; read the keys, and watch from \
             the revision of that answer on"
        ),
    })
}

fn kind(event: &Event) -> &'static str {
    match event.r#type() {
        EventType::Put => "PUT",
        EventType::Delete => "DELETE",
    }
}

/// As etcdctl prints events, and that there are none.
fn print(out: &mut impl Write, events: &[Event], revision: i64) -> io::Result<()> {
    if events.is_empty() {
        writeln!(out, "progress notify: {revision}")?;
    }
    for event in events {
        writeln!(out, "{}", kind(event))?;
        for kv in event.prev_kv.iter().chain(&event.kv) {
            out.write_all(&kv.key)?;
            out.write_all(b"\n")?;
            out.write_all(&kv.value)?;
            out.write_all(b"\n")?;
        }
    }
    out.flush()
}

/// A response with etcdctl's keys.
fn response_json(response: &pb::WatchResponse, events: &[Event]) -> Value {
    let events: Vec<Value> = events.iter().map(event_json).collect();
    json!({
        "Header": output::header_json(response.header),
        "Events": events,
        "CompactRevision": response.compact_revision,
        "Canceled": response.canceled,
        "Created": response.created,
    })
}

fn event_json(event: &Event) -> Value {
    let mut map = Map::new();
    if event.r#type() == EventType::Delete {
        map.insert("type".to_owned(), json!(event.r#type));
    }
    let versions = [("kv", &event.kv), ("prev_kv", &event.prev_kv)];
    for (name, kv) in versions {
        if let Some(kv) = kv {
            map.insert(name.to_owned(), key_json(kv));
        }
    }
    Value::Object(map)
}

/// A deletion's key has no more than its name and revision.
fn key_json(kv: &KeyValue) -> Value {
    let mut value = output::key_value_json(kv);
    if let Some(map) = value.as_object_mut() {
        map.retain(|_, value| *value != json!(0));
    }
    value
}

/// In quotes, with what is not plain text escaped, as etcdctl gives it to programs.
fn quoted(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '"' | '\\' => text.extend(['\\', letter]),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                letter if letter.is_control() => {
                    let mut buffer = [0; 4];
                    for byte in letter.encode_utf8(&mut buffer).bytes() {
                        text.push_str(&format!("\\x{byte:02x}"));
                    }
                }
                letter => text.push(letter),
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(is_delete: bool) -> Event {
        let kv = |value: &'static str| KeyValue {
            key: "a".into(),
            value: value.into(),
            mod_revision: 2,
            ..KeyValue::default()
        };
        Event {
            r#type: i32::from(is_delete),
            kv: Some(kv(if is_delete { "" } else { "new" })),
            prev_kv: Some(kv("old")),
        }
    }

    #[test]
    fn events_are_printed_as_etcdctl_does() {
        let mut out = Vec::new();
        print(&mut out, &[event(false), event(true)], 2).expect("memory takes it");
        print(&mut out, &[], 7).expect("memory takes it");
        let expect = "PUT\na\nold\na\nnew\nDELETE\na\nold\na\n\nprogress notify: 7\n";
        assert_eq!(String::from_utf8_lossy(&out), expect);
        let kv = json!({"key": "YQ==", "mod_revision": 2});
        let before = json!({"key": "YQ==", "mod_revision": 2, "value": "b2xk"});
        assert_eq!(event_json(&event(true)), json!({"type": 1, "kv": kv, "prev_kv": before}));
    }

    #[test]
    fn what_a_program_is_given_is_one_line() {
        assert_eq!(quoted(b"a \"b\"\\\n"), r#""a \"b\"\\\n""#);
        assert_eq!(quoted(&[b'x', 0xff, 1]), r#""x\xff\x01""#);
        assert_eq!(quoted("\u{e9}".as_bytes()), "\"\u{e9}\"");
    }
}
