//! The same writes to a real etcd and to Jangada, with watchers of all kinds that begin anywhere: each
//! must be told the same, event for event.
//!
//! Compared are what is said of each watcher (made, refused with which reason, ended) and its events: kind, key, value, revisions, versions and what was there before. How
//! events are divided into responses is each server's own, but for the events of one revision, which
//! come together.
//!
//! Nothing is compacted meanwhile: the etcds that are compared look at watchers that begin in the past
//! now and then alone, say progress before they have, and end one that had nothing to be told if a
//! compaction comes first. What compactions end is compared by `etcdctl/watch.rs`.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use jangada_server::proto::etcdserverpb as pb;
use jangada_server::proto::mvccpb::{Event, KeyValue};
use pb::watch_client::WatchClient;
use pb::watch_request::RequestUnion;
use tokio::sync::mpsc;
use tonic::Streaming;

use crate::support::client::Client;
use crate::support::cluster::Cluster;

/// How many writes each reference and Jangada are given.
const WRITES: usize = 600;

/// Watchers at a time.
const WATCHERS_MAX: usize = 24;

/// How long to wait before etcd is asked again how far it is: it does not answer while a watcher is
/// behind.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// One server, and a stream of watchers on it.
pub(crate) struct Side {
    client: Client,
    requests: mpsc::UnboundedSender<pb::WatchRequest>,
    responses: Streaming<pb::WatchResponse>,
    /// What was said of watchers in answer to requests, and of those that were ended.
    said: Vec<String>,
    events: BTreeMap<i64, Vec<String>>,
    /// The last revision of each watcher's events.
    last: BTreeMap<i64, i64>,
    progress: i64,
}

/// Requests as they are given.
struct Requests(mpsc::UnboundedReceiver<pb::WatchRequest>);

impl tonic::codegen::tokio_stream::Stream for Requests {
    type Item = pb::WatchRequest;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}

impl Side {
    pub(crate) async fn open(cluster: &Cluster, member: usize) -> Side {
        let url = cluster.members[member].client_url.clone();
        let endpoint = tonic::transport::Endpoint::from_shared(url).expect("a URL of this test");
        let channel = endpoint.connect().await.expect("the member serves");
        let mut client = WatchClient::new(channel);
        let (requests, receiver) = mpsc::unbounded_channel();
        // One that nobody can end, so that there is one to say progress of. etcd does not open the
        // stream before it has something to say.
        let request = pb::WatchCreateRequest {
            key: Bytes::from_static(b"nothing"),
            watch_id: 99,
            ..pb::WatchCreateRequest::default()
        };
        let request_union = Some(RequestUnion::CreateRequest(request));
        requests.send(pb::WatchRequest { request_union }).expect("the receiver is here");
        let responses = client.watch(Requests(receiver)).await.expect("a stream opens");
        let mut side = Side {
            client: cluster.client(member),
            requests,
            responses: responses.into_inner(),
            said: Vec::new(),
            events: BTreeMap::new(),
            last: BTreeMap::new(),
            progress: 0,
        };
        while side.said.is_empty() {
            side.take().await;
        }
        side
    }

    fn ask(&self, request: RequestUnion) {
        let request = pb::WatchRequest { request_union: Some(request) };
        self.requests.send(request).expect("the stream is open");
    }

    /// Takes the next response.
    async fn take(&mut self) {
        let response = self.responses.message().await.expect("the stream goes on");
        let response = response.expect("the stream does not end");
        let (id, header) = (response.watch_id, response.header.expect("it has a header"));
        if response.created || response.canceled {
            self.said.push(format!(
                "{id}: created {} canceled {} compacted {} because {:?} at {}",
                response.created,
                response.canceled,
                response.compact_revision,
                response.cancel_reason,
                header.revision,
            ));
            return;
        }
        if response.events.is_empty() {
            self.progress = header.revision;
            return;
        }
        let events = self.events.entry(id).or_default();
        for event in &response.events {
            events.push(shown(event));
        }
        let revision = |event: &Event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
        let first = response.events.first().map_or(0, revision);
        let last = self.last.insert(id, response.events.last().map_or(0, revision));
        assert!(last < Some(first), "the events of a revision come together, and in order");
    }

    /// Makes a request and waits until something is said of it.
    async fn asked(&mut self, request: RequestUnion) {
        let before = self.said.len();
        self.ask(request);
        while self.said.len() == before {
            self.take().await;
        }
    }

    /// Waits until every watcher has been told everything up to a revision.
    async fn sync(&mut self, revision: i64) {
        while self.progress < revision {
            self.ask(RequestUnion::ProgressRequest(pb::WatchProgressRequest {}));
            // Whatever comes meanwhile is taken.
            let _ = tokio::time::timeout(ASK_AGAIN, async {
                while self.progress < revision {
                    self.take().await;
                }
            })
            .await;
        }
    }

    fn count(&self, id: i64) -> usize {
        self.events.get(&id).map_or(0, Vec::len)
    }
}

fn shown(event: &Event) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let kv = |kv: &KeyValue| {
        let KeyValue { create_revision, mod_revision, version, lease, .. } = kv;
        let (key, value) = (text(&kv.key), text(&kv.value));
        format!("{key}={value} {create_revision}/{mod_revision}/{version}/{lease}")
    };
    let before = event.prev_kv.as_ref().map(|before| format!(" was {}", kv(before)));
    let after = event.kv.as_ref().map(kv).unwrap_or_default();
    format!("{:?} {after}{}", event.r#type(), before.unwrap_or_default())
}

/// What is done to both.
struct Generator {
    rng: Rng,
    revision: i64,
    /// Watchers that were made and not ended by a request.
    watching: Vec<i64>,
    /// The last id that the client has chosen.
    chosen: i64,
}

impl Generator {
    fn key(&mut self) -> Bytes {
        Bytes::from(format!("k{}", self.rng.u8(0..10)))
    }

    fn put(&mut self) -> pb::PutRequest {
        let value = Bytes::from("v".repeat(self.rng.usize(0..40)));
        pb::PutRequest { key: self.key(), value, ..pb::PutRequest::default() }
    }

    fn write(&mut self) -> pb::TxnRequest {
        use pb::request_op::Request;
        let op = |request| pb::RequestOp { request: Some(request) };
        let success = match self.rng.u8(0..10) {
            0..=5 => vec![op(Request::RequestPut(self.put()))],
            6..=7 => {
                let (key, range_end) = (self.key(), Bytes::new());
                let range_end = if self.rng.bool() { Bytes::from_static(b"k5") } else { range_end };
                let delete = pb::DeleteRangeRequest { key, range_end, prev_kv: false };
                vec![op(Request::RequestDeleteRange(delete))]
            }
            _ => {
                let mut puts: Vec<pb::PutRequest> = (0..4).map(|_| self.put()).collect();
                puts.sort_by(|a, b| a.key.cmp(&b.key));
                puts.dedup_by(|a, b| a.key == b.key);
                puts.into_iter().map(|put| op(Request::RequestPut(put))).collect()
            }
        };
        pb::TxnRequest { success, ..pb::TxnRequest::default() }
    }

    /// A watcher, perhaps under the id of another one.
    fn watch(&mut self) -> pb::WatchCreateRequest {
        let watch_id = match self.rng.u8(0..8) {
            0 if !self.watching.is_empty() => self.watching[self.rng.usize(0..self.watching.len())],
            0..=1 => {
                self.chosen += 1;
                self.chosen
            }
            _ => 0,
        };
        let range_end = match self.rng.u8(0..5) {
            0 => Bytes::new(),
            1 => Bytes::from_static(b"\0"),
            2 => Bytes::from_static(b"l"),
            _ => self.key(),
        };
        let start_revision = match self.rng.u8(0..5) {
            0..=1 => 0,
            2 => self.revision + self.rng.i64(0..3),
            3 => 1,
            _ => self.rng.i64(1..=self.revision),
        };
        pb::WatchCreateRequest {
            key: if self.rng.u8(0..10) == 0 { Bytes::new() } else { self.key() },
            range_end,
            start_revision,
            progress_notify: self.rng.bool(),
            filters: match self.rng.u8(0..6) {
                0 => vec![0],
                1 => vec![1],
                2 => vec![0, 1],
                _ => Vec::new(),
            },
            prev_kv: self.rng.bool(),
            watch_id,
            fragment: self.rng.bool(),
        }
    }
}

/// Does the same to both, and holds what they tell against each other.
pub(crate) async fn compare(seed: u64, version: &str, theirs: &mut Side, ours: &mut Side) {
    let rng = Rng::with_seed(seed);
    let watching = Vec::new();
    let mut generator = Generator { rng, revision: 1, watching, chosen: 1000 };
    let mut made = 0;
    for position in 0..WRITES {
        match generator.rng.u8(0..20) {
            0..=2 if generator.watching.len() < WATCHERS_MAX => {
                let request = RequestUnion::CreateRequest(generator.watch());
                tokio::join!(theirs.asked(request.clone()), ours.asked(request));
                let said = ours.said.last().expect("something was said");
                let id = said.split(':').next().and_then(|id| id.parse().ok());
                generator.watching.extend(id.filter(|id: &i64| 0 <= *id));
                made += 1;
            }
            3 if !generator.watching.is_empty() => {
                sync(&mut generator, theirs, ours).await;
                let at = generator.rng.usize(0..generator.watching.len());
                let watch_id = generator.watching.swap_remove(at);
                let request = RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id });
                tokio::join!(theirs.asked(request.clone()), ours.asked(request));
            }
            _ => {
                let write = generator.write();
                let both =
                    tokio::join!(theirs.client.txn(write.clone()), ours.client.txn(write.clone()));
                let revision = |answer: Result<pb::TxnResponse, tonic::Status>| {
                    answer.expect("it is written").header.expect("it has a header").revision
                };
                generator.revision = revision(both.0);
                assert_eq!(generator.revision, revision(both.1), "seed {seed}, at {position}");
            }
        }
    }
    sync(&mut generator, theirs, ours).await;
    let events: usize = ours.events.values().map(Vec::len).sum();
    println!("etcd {version}: {made} watchers, {events} events");
    assert!(WRITES < events, "seed {seed} does too little");
}

/// Waits until all watchers of both have been told everything, and compares that.
async fn sync(generator: &mut Generator, theirs: &mut Side, ours: &mut Side) {
    // Every watcher begins before so many writes more.
    for _ in 0..4 {
        let (key, value) = (Bytes::from_static(b"k3"), Bytes::from_static(b"fence"));
        let put = pb::PutRequest { key, value, ..pb::PutRequest::default() };
        let both = tokio::join!(theirs.client.put(put.clone()), ours.client.put(put));
        let answer = both.0.expect("it is written");
        generator.revision = answer.header.expect("it has a header").revision;
        both.1.expect("it is written");
    }
    tokio::join!(theirs.sync(generator.revision), ours.sync(generator.revision));
    let ids: Vec<i64> = ours.events.keys().copied().collect();
    for id in ids {
        // An older etcd says progress before it has sent everything.
        while theirs.count(id) < ours.count(id) {
            theirs.take().await;
        }
    }
    assert_eq!(ours.events, theirs.events);
    let (mut said, mut expected) = (ours.said.clone(), theirs.said.clone());
    // What is said of two watchers by themselves comes in no order.
    said.sort();
    expected.sort();
    assert_eq!(said, expected);
}
