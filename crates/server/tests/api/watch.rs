//! The Watch service.

use std::time::Duration;

use jangada_kv::{Command, DeleteRangeRequest, PutRequest, RequestOp, TxnRequest};
use jangada_server::Settings;
use jangada_server::backend::Backend;
use jangada_server::errors::{ApiError, WATCH_DUPLICATE_ID, WATCH_EMPTY_RANGE};
use jangada_server::proto::etcdserverpb as pb;
use pb::watch_create_request::FilterType;

use crate::support::{CLUSTER_ID, Fake, MEMBER_ID, Server, TERM, assert_refused, bytes};
use crate::watch_support::{Watching, in_short, on, on_all};

fn put(fake: &Fake, key: &str, value: &str) -> i64 {
    let put = PutRequest { key: bytes(key), value: bytes(value), ..PutRequest::default() };
    fake.apply(&Command::Put(put)).revision
}

fn delete(fake: &Fake, key: &str) -> i64 {
    let delete = DeleteRangeRequest { key: bytes(key), ..DeleteRangeRequest::default() };
    fake.apply(&Command::DeleteRange(delete)).revision
}

fn put_all(fake: &Fake, keys: &[&str], value: &str) -> i64 {
    let put = |key: &&str| {
        let (key, value) = (bytes(key), bytes(value));
        RequestOp::Put(PutRequest { key, value, ..PutRequest::default() })
    };
    let success = keys.iter().map(put).collect();
    fake.apply(&Command::Txn(TxnRequest { success, ..TxnRequest::default() })).revision
}

#[tokio::test]
async fn a_watcher_is_made_sees_what_happens_and_is_ended() {
    let server = Server::start().await;
    let mut watching = Watching::open(&server).await;
    let created = watching.create(on("a")).await;
    let header = created.header.expect("it has a header");
    assert_eq!((header.cluster_id, header.member_id), (CLUSTER_ID, MEMBER_ID));
    assert_eq!((header.raft_term, header.revision), (TERM, 1));
    assert_eq!((created.watch_id, created.canceled), (0, false));
    put(&server.fake, "a", "1");
    let response = watching.next().await;
    assert_eq!(in_short(&response.events), ["a=1@2"]);
    assert_eq!((response.watch_id, response.created, response.canceled), (0, false, false));
    assert_eq!(response.header.expect("it has a header").revision, 2);
    put(&server.fake, "b", "1");
    put(&server.fake, "a", "2");
    assert_eq!(in_short(&watching.next().await.events), ["a=2@4"]);
    watching.cancel(0);
    let canceled = watching.next().await;
    assert!(canceled.canceled && canceled.cancel_reason.is_empty());
    assert_eq!((canceled.watch_id, canceled.compact_revision), (0, 0));
    put(&server.fake, "a", "3");
    // One that is not there is none to answer about.
    watching.cancel(0);
    assert_eq!(watching.create(on("b")).await.watch_id, 1);
    put(&server.fake, "b", "2");
    assert_eq!(in_short(&watching.next().await.events), ["b=2@6"]);
}

#[tokio::test]
async fn events_of_one_revision_come_together_and_to_each_watcher_what_it_asked_for() {
    let server = Server::start().await;
    let mut watching = Watching::open(&server).await;
    put(&server.fake, "a", "old");
    let from_b = pb::WatchCreateRequest { range_end: bytes("\0"), ..on("b") };
    watching.create(pb::WatchCreateRequest { prev_kv: true, ..on_all() }).await;
    watching.create(from_b).await;
    let without = |filter| pb::WatchCreateRequest { filters: vec![filter as i32], ..on_all() };
    watching.create(without(FilterType::Noput)).await;
    watching.create(without(FilterType::Nodelete)).await;
    put_all(&server.fake, &["a", "b", "c"], "new");
    delete(&server.fake, "b");
    let mut seen = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
    while seen.iter().map(Vec::len).sum::<usize>() < 4 + 3 + 1 + 3 {
        let response = watching.next().await;
        seen[response.watch_id as usize].extend(in_short(&response.events));
    }
    assert_eq!(seen[0], ["a=new@3 was old@2", "b=new@3", "c=new@3", "b gone@4 was new@3"]);
    assert_eq!(seen[1], ["b=new@3", "c=new@3", "b gone@4"]);
    assert_eq!(seen[2], ["b gone@4"]);
    assert_eq!(seen[3], ["a=new@3", "b=new@3", "c=new@3"]);
}

#[tokio::test]
async fn a_watcher_begins_in_the_past_and_in_the_future() {
    let server = Server::start().await;
    for value in ["1", "2", "3"] {
        put(&server.fake, "a", value);
    }
    let mut watching = Watching::open(&server).await;
    let past = pb::WatchCreateRequest { start_revision: 3, prev_kv: true, ..on("a") };
    let created = watching.create(past).await;
    assert_eq!(created.header.expect("it has a header").revision, 4);
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.extend(in_short(&watching.next().await.events));
    }
    assert_eq!(seen, ["a=2@3 was 1@2", "a=3@4 was 2@3"]);
    watching.create(pb::WatchCreateRequest { start_revision: 6, ..on("a") }).await;
    put(&server.fake, "a", "5");
    put(&server.fake, "a", "6");
    let mut seen = [Vec::new(), Vec::new()];
    while seen[0].len() < 2 || seen[1].is_empty() {
        let response = watching.next().await;
        seen[response.watch_id as usize].extend(in_short(&response.events));
    }
    assert_eq!(seen, [vec!["a=5@5 was 3@4", "a=6@6 was 5@5"], vec!["a=6@6"]]);
}

#[tokio::test]
async fn what_is_compacted_ends_a_watcher_after_it_was_made() {
    let server = Server::start().await;
    for value in ["1", "2", "3"] {
        put(&server.fake, "a", value);
    }
    delete(&server.fake, "a");
    server.fake.apply(&Command::Compact { revision: 5, physical: false });
    let mut watching = Watching::open(&server).await;
    let created = watching.create(pb::WatchCreateRequest { start_revision: 4, ..on("a") }).await;
    assert!(!created.canceled && created.watch_id == 0);
    let ended = watching.next().await;
    assert!(ended.canceled && !ended.created && ended.cancel_reason.is_empty());
    assert_eq!((ended.watch_id, ended.compact_revision), (0, 5));
    // The deletion at the compaction itself is still there.
    watching.create(pb::WatchCreateRequest { start_revision: 5, ..on("a") }).await;
    assert_eq!(in_short(&watching.next().await.events), ["a gone@5"]);
}

#[tokio::test]
async fn what_cannot_be_watched_is_refused_on_the_stream_which_goes_on() {
    let server = Server::start().await;
    let mut watching = Watching::open(&server).await;
    let refused = |response: pb::WatchResponse, reason: &str| {
        assert!(response.created && response.canceled);
        assert_eq!((response.watch_id, response.cancel_reason.as_str()), (-1, reason));
    };
    assert_eq!(
        watching.create(pb::WatchCreateRequest { watch_id: 7, ..on("a") }).await.watch_id,
        7
    );
    let again = watching.create(pb::WatchCreateRequest { watch_id: 7, ..on("b") }).await;
    refused(again, WATCH_DUPLICATE_ID);
    let empty = pb::WatchCreateRequest { range_end: bytes("a"), ..on("b") };
    refused(watching.create(empty).await, WATCH_EMPTY_RANGE);
    let negative = pb::WatchCreateRequest { start_revision: -1, ..on("a") };
    refused(watching.create(negative).await, ApiError::Compacted.text());
    watching.cancel(7);
    assert!(watching.next().await.canceled);
    let free = watching.create(pb::WatchCreateRequest { watch_id: 7, ..on("b") }).await;
    assert!(!free.canceled);
    put(&server.fake, "b", "1");
    assert_eq!(in_short(&watching.next().await.events), ["b=1@2"]);
}

#[tokio::test]
async fn progress_is_told_when_asked_for_and_only_then() {
    let server = Server::start().await;
    let mut watching = Watching::open(&server).await;
    // Nobody is there to be told.
    watching.ask_progress();
    watching.create(on("a")).await;
    put(&server.fake, "a", "1");
    put(&server.fake, "b", "1");
    assert_eq!(in_short(&watching.next().await.events), ["a=1@2"]);
    watching.ask_progress();
    let progress = watching.next().await;
    assert_eq!((progress.watch_id, progress.header.expect("a header").revision), (-1, 3));
    assert!(progress.events.is_empty() && !progress.created && !progress.canceled);
    // Nothing is said of one that begins in the future.
    watching.create(pb::WatchCreateRequest { start_revision: 5, ..on("a") }).await;
    watching.ask_progress();
    watching.create(on("c")).await;
    put(&server.fake, "c", "1");
    assert_eq!(in_short(&watching.next().await.events), ["c=1@4"]);
}

#[tokio::test]
async fn progress_is_told_at_intervals_to_whoever_wants_it() {
    let watch_progress_interval = Duration::from_millis(100);
    let server = Server::with(Settings { watch_progress_interval, ..Settings::default() }).await;
    put(&server.fake, "a", "1");
    let mut watching = Watching::open(&server).await;
    watching.create(on("a")).await;
    watching.create(pb::WatchCreateRequest { progress_notify: true, ..on("b") }).await;
    for _ in 0..2 {
        let progress = watching.next().await;
        assert_eq!((progress.watch_id, progress.events.len()), (1, 0));
        assert_eq!(progress.header.expect("it has a header").revision, 2);
    }
}

#[tokio::test]
async fn large_responses_come_in_fragments_where_that_is_asked_for() {
    let settings = Settings { max_request_bytes: 1, ..Settings::default() };
    let server = Server::with(settings).await;
    let mut watching = Watching::open(&server).await;
    watching.create(on_all()).await;
    watching.create(pb::WatchCreateRequest { fragment: true, ..on_all() }).await;
    let keys = ["a", "b", "c", "d"];
    put_all(&server.fake, &keys, &"v".repeat(200 << 10));
    let (mut whole, mut fragments) = (Vec::new(), Vec::new());
    while fragments.last() != Some(&false) || whole.is_empty() {
        let response = watching.next().await;
        match response.watch_id {
            0 => whole.push((response.events.len(), response.fragment)),
            _ => fragments.push(response.fragment),
        }
    }
    assert_eq!(whole, [(4, false)], "a revision is not split unasked for");
    assert_eq!(fragments, [true, false]);
}

#[tokio::test]
async fn one_that_wants_a_leader_is_ended_without_one() {
    let election_timeout = Duration::from_millis(20);
    let server = Server::with(Settings { election_timeout, ..Settings::default() }).await;
    let wants = |request: &mut tonic::Request<()>| {
        let value = "true".parse().expect("it is text");
        request.metadata_mut().insert("hasleader", value);
    };
    let mut with = Watching::with(&server, wants).await.expect("there is a leader");
    let mut without = Watching::open(&server).await;
    with.create(on("a")).await;
    without.create(on("a")).await;
    server.fake.script(|script| script.leader = None);
    let status = with.try_next().await.expect_err("there is no leader");
    assert_eq!(
        (status.code(), status.message()),
        (ApiError::NoLeader.code(), ApiError::NoLeader.text())
    );
    put(&server.fake, "a", "1");
    assert_eq!(in_short(&without.next().await.events), ["a=1@2"]);
    let refused = Watching::with(&server, wants).await.map(|_| tonic::Response::new(()));
    assert_refused(refused, ApiError::NoLeader);
}

#[tokio::test]
async fn a_client_that_sends_no_more_still_sees_what_happens() {
    let server = Server::start().await;
    let mut watching = Watching::open(&server).await;
    watching.create(on("a")).await;
    watching.close();
    for value in ["1", "2"] {
        put(&server.fake, "a", value);
        assert_eq!(watching.next().await.events.len(), 1);
    }
}

/// One stream does not read: it holds up neither writers nor others, and what it has missed comes when
/// it reads.
#[tokio::test]
async fn a_stream_that_does_not_read_holds_up_nobody() {
    let server = Server::start().await;
    let (mut stalled, mut reader) = (Watching::open(&server).await, Watching::open(&server).await);
    stalled.create(on_all()).await;
    reader.create(on_all()).await;
    let value = "v".repeat(64 << 10);
    let mut seen = 0;
    for written in 1..=400 {
        put(&server.fake, "a", &value);
        while seen < written {
            seen += reader.next().await.events.len();
        }
    }
    let figures = server.fake.store().watch_figures();
    assert_eq!((figures.streams, figures.slow_watchers), (2, 1), "{figures:?}");
    assert!(0 < figures.pending);
    let mut revisions = Vec::new();
    while revisions.len() < 400 {
        let events = stalled.next().await.events;
        revisions.extend(events.into_iter().map(|event| event.kv.expect("a key").mod_revision));
    }
    assert!(revisions.iter().copied().eq(2..=401));
    let metrics = server.get("/metrics").await.body;
    for line in ["watch_stream_total 2", "watcher_total 2", "events_total 800"] {
        assert!(metrics.contains(&format!("etcd_debugging_mvcc_{line}\n")), "{metrics}");
    }
    drop(stalled);
    drop(reader);
}

#[tokio::test]
async fn a_learner_serves_no_watchers() {
    let server = Server::start().await;
    server.fake.script(|script| script.is_learner = true);
    let refused = Watching::with(&server, |_| {}).await.map(|_| tonic::Response::new(()));
    assert_refused(refused, ApiError::NotSupportedForLearner);
}
