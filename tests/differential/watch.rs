//! The same writes to a real etcd and to Jangada, with watchers of all kinds that begin anywhere: each
//! must be told the same, event for event.
//!
//! Compared are what is said of each watcher (made, refused with which reason, ended) and its events:
//! kind, key, value, lease, revisions, versions and what was there before. How events are divided into
//! responses is each server's own, but for the events of one revision, which come together: those of a
//! lease that ends among them, in the order of its keys.
//!
//! Four differences are known. Our header tells the newest revision with the end of a watcher for a
//! compaction, too, where etcd's tells none. A watcher that a compaction has ended is gone from our stream; etcd wants
//! it cancelled, too. etcd looks at watchers that begin in the past every 100 ms, and says progress before
//! it has ([`Side::settle`] waits for that). And it ends one that it has not looked at if a compaction
//! comes first, whether or not there was anything for it; ours has seen what there was by then.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use jangada_server::proto::etcdserverpb as pb;
use jangada_server::proto::mvccpb::{Event, KeyValue};
use pb::lease_client::LeaseClient;
use pb::watch_client::WatchClient;
use pb::watch_request::RequestUnion;
use tokio::sync::mpsc;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::support::client::Client;
use crate::support::cluster::{Cluster, get_http};
use crate::support::until;

/// How many writes each reference and Jangada are given.
const WRITES: usize = 600;

/// Watchers at a time.
const WATCHERS_MAX: usize = 24;

/// Which leases there are: few, so that requests meet.
const LEASES: std::ops::Range<i64> = 1..5;

/// The lease that is left to end by itself.
const LEFT: i64 = 9;

/// A watcher that is made and ended at once.
const FENCE: i64 = 98;

/// How long to wait before etcd is asked again how far it is: it does not answer while a watcher is
/// behind.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// One server, and a stream of watchers on it.
pub(crate) struct Side {
    client: Client,
    leases: LeaseClient<Channel>,
    address: String,
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
        let leases = LeaseClient::new(channel.clone());
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
            leases,
            address: cluster.members[member].client_url.trim_start_matches("http://").to_owned(),
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
            // etcd says no revision with the end for a compaction.
            let of_compaction = response.compact_revision != 0;
            let revision = if of_compaction { 0 } else { header.revision };
            self.said.push(format!(
                "{id}: created {} canceled {} compacted {} because {:?} at {revision}",
                response.created,
                response.canceled,
                response.compact_revision,
                response.cancel_reason,
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

    /// Waits until the server has looked at every watcher that begins in the past.
    async fn settle(&self) {
        until(async || {
            let metrics = get_http(&self.address, "/metrics").await?;
            let slow = metrics
                .lines()
                .find_map(|line| line.strip_prefix("etcd_debugging_mvcc_slow_watcher_total "))?;
            (slow.trim() == "0").then_some(())
        })
        .await;
    }

    /// Whether a watcher is said to be ended, not being asked for.
    fn is_ended(&self, id: i64) -> bool {
        let of_it = format!("{id}: ");
        let last = self.said.iter().rfind(|said| said.starts_with(&of_it));
        last.is_some_and(|said| said.contains("created false canceled true"))
    }

    /// Takes a watcher's end that was asked for out of what is compared.
    async fn cancel_quietly(&mut self, watch_id: i64) {
        self.asked(RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id })).await;
        let said = self.said.pop().expect("something was said");
        assert!(said.starts_with(&format!("{watch_id}: created false canceled true")), "{said}");
    }

    /// Takes everything that was sent by now.
    async fn fence(&mut self) {
        let request = pb::WatchCreateRequest {
            key: Bytes::from_static(b"nothing"),
            watch_id: FENCE,
            ..pb::WatchCreateRequest::default()
        };
        self.ask(RequestUnion::CreateRequest(request));
        let fence = format!("{FENCE}: created true");
        while !self.said.iter().any(|said| said.starts_with(&fence)) {
            self.take().await;
        }
        self.said.retain(|said| !said.starts_with(&fence));
        self.ask(RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id: FENCE }));
        let fence = format!("{FENCE}: created false");
        while !self.said.iter().any(|said| said.starts_with(&fence)) {
            self.take().await;
        }
        self.said.retain(|said| !said.starts_with(&fence));
    }

    async fn lease(&mut self, request: &LeaseRequest) -> String {
        let answer = match *request {
            LeaseRequest::Grant { id, ttl } => {
                let granted = self.leases.lease_grant(pb::LeaseGrantRequest { id, ttl }).await;
                granted.map(|granted| format!("for {} s", granted.into_inner().ttl))
            }
            LeaseRequest::Revoke { id } => {
                let revoked = self.leases.lease_revoke(pb::LeaseRevokeRequest { id }).await;
                revoked.map(|_| "revoked".to_owned())
            }
        };
        answer.unwrap_or_else(|status| refused(&status))
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

/// What is asked about leases.
#[derive(Debug)]
enum LeaseRequest {
    Grant { id: i64, ttl: i64 },
    Revoke { id: i64 },
}

fn refused(status: &Status) -> String {
    format!("refused: {:?} {}", status.code(), status.message())
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
    /// Of these, those that etcd may not have looked at yet: their ids and where they begin.
    fresh: Vec<(i64, i64)>,
    compacted: i64,
    /// Watchers that etcd has ended for a compaction because it had not looked at them yet.
    ended_unseen: usize,
    /// Watchers that were ended for a compaction by both, and that etcd had to be asked to forget.
    ended: usize,
    /// The last id that the client has chosen.
    chosen: i64,
}

impl Generator {
    fn key(&mut self) -> Bytes {
        Bytes::from(format!("k{}", self.rng.u8(0..10)))
    }

    fn put(&mut self) -> pb::PutRequest {
        let value = Bytes::from("v".repeat(self.rng.usize(0..40)));
        // Of a lease that is not there the whole write is refused.
        let lease = if self.rng.u8(0..6) == 0 { self.rng.i64(LEASES) } else { 0 };
        pb::PutRequest { key: self.key(), value, lease, ..pb::PutRequest::default() }
    }

    fn lease(&mut self) -> LeaseRequest {
        let id = self.rng.i64(LEASES);
        if self.rng.u8(0..3) == 0 {
            return LeaseRequest::Revoke { id };
        }
        LeaseRequest::Grant { id, ttl: self.rng.i64(1000..2000) }
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
    let (watching, fresh) = Default::default();
    let mut generator = Generator {
        rng,
        revision: 1,
        watching,
        fresh,
        compacted: 0,
        ended_unseen: 0,
        ended: 0,
        chosen: 1000,
    };
    let mut made = 0;
    for position in 0..WRITES {
        let at = format!("seed {seed}, at {position}, etcd {version}");
        match generator.rng.u8(0..24) {
            0..=2 if generator.watching.len() < WATCHERS_MAX => {
                create(&mut generator, theirs, ours).await;
                made += 1;
            }
            3 if !generator.watching.is_empty() => {
                sync(&mut generator, theirs, ours).await;
                let place = generator.rng.usize(0..generator.watching.len());
                let watch_id = generator.watching.swap_remove(place);
                generator.fresh.retain(|(id, _)| *id != watch_id);
                let request = RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id });
                tokio::join!(theirs.asked(request.clone()), ours.asked(request));
            }
            4 => compact(&mut generator, theirs, ours, &at).await,
            5..=6 => {
                let request = generator.lease();
                let (expected, found) = tokio::join!(theirs.lease(&request), ours.lease(&request));
                assert_eq!(found, expected, "{at}: {request:?}");
            }
            _ => {
                let write = generator.write();
                let both =
                    tokio::join!(theirs.client.txn(write.clone()), ours.client.txn(write.clone()));
                let answer = |answer: Result<pb::TxnResponse, Status>| match answer {
                    Ok(answer) => Ok(answer.header.expect("it has a header").revision),
                    Err(status) => Err(refused(&status)),
                };
                let (expected, found) = (answer(both.0), answer(both.1));
                assert_eq!(found, expected, "{at}: {write:?}");
                generator.revision = found.unwrap_or(generator.revision);
            }
        }
    }
    leave(&mut generator, theirs, ours).await;
    sync(&mut generator, theirs, ours).await;
    let events: usize = ours.events.values().map(Vec::len).sum();
    let Generator { ended, ended_unseen, .. } = generator;
    println!(
        "etcd {version}: {made} watchers, {events} events; {ended} times etcd wanted a watcher cancelled \
         that a compaction had ended; {ended_unseen} times it ended one that it had not looked at"
    );
    assert!(WRITES < events, "seed {seed} does too little");
    assert!(0 < ended, "seed {seed} begins no watcher below a compaction");
}

/// Makes a watcher on both.
async fn create(generator: &mut Generator, theirs: &mut Side, ours: &mut Side) {
    let request = generator.watch();
    let start = request.start_revision;
    let request = RequestUnion::CreateRequest(request);
    tokio::join!(theirs.asked(request.clone()), ours.asked(request));
    let said = ours.said.last().expect("something was said");
    let id: i64 = said.split(':').next().and_then(|id| id.parse().ok()).expect("it has an id");
    if id < 0 || said.contains("canceled true") {
        return; // it was refused
    }
    if 0 < start && start < generator.compacted {
        for side in [&mut *theirs, &mut *ours] {
            while !side.is_ended(id) {
                side.take().await;
            }
        }
        theirs.cancel_quietly(id).await;
        generator.ended += 1;
        return;
    }
    generator.watching.push(id);
    if 0 < start && start <= generator.revision {
        generator.fresh.push((id, start));
    }
}

/// Compacts both; half of the time without waiting for etcd to look at every watcher first.
async fn compact(generator: &mut Generator, theirs: &mut Side, ours: &mut Side, at: &str) {
    if generator.rng.bool() {
        theirs.settle().await;
        generator.fresh.clear();
    }
    let revision = match generator.rng.u8(0..8) {
        0 => generator.revision,
        1 => generator.compacted,
        2 => generator.revision + 1,
        _ => (generator.compacted + generator.revision) / 2,
    };
    let request = pb::CompactionRequest { revision, physical: false };
    let both = tokio::join!(theirs.client.compact(request), ours.client.compact(request));
    let answer = |answer: Result<pb::CompactionResponse, Status>| match answer {
        Ok(_) => "compacted".to_owned(),
        Err(status) => refused(&status),
    };
    let (expected, found) = (answer(both.0), answer(both.1));
    assert_eq!(found, expected, "{at}: compact {revision}");
    if found != "compacted" {
        return;
    }
    generator.compacted = revision;
    theirs.settle().await;
    // Whatever was said of watchers has been sent by now. What is asked for comes behind it, but not
    // always in etcd, which chooses by lot between the two.
    for _ in 0..2 {
        tokio::join!(theirs.fence(), ours.fence());
    }
    for (id, start) in std::mem::take(&mut generator.fresh) {
        if revision <= start {
            continue;
        }
        assert!(!ours.is_ended(id), "{at}: ours had seen everything");
        if !theirs.is_ended(id) {
            continue;
        }
        generator.ended_unseen += 1;
        let of_it = format!("{id}: created false canceled true compacted {revision} ");
        let ended = theirs.said.iter().rposition(|said| said.starts_with(&of_it));
        theirs.said.remove(ended.expect("it was ended for this compaction"));
        theirs.cancel_quietly(id).await;
        ours.cancel_quietly(id).await;
        generator.watching.retain(|other| *other != id);
        // What etcd has told it until then was right.
        let (told, all) = (theirs.events.remove(&id), ours.events.remove(&id));
        let (told, all) = (told.unwrap_or_default(), all.unwrap_or_default());
        assert!(all.starts_with(&told), "{at}: {told:?}\n{all:?}");
    }
}

/// A lease with some keys is left to end by itself.
async fn leave(generator: &mut Generator, theirs: &mut Side, ours: &mut Side) {
    let request = LeaseRequest::Grant { id: LEFT, ttl: 1 };
    let (expected, found) = tokio::join!(theirs.lease(&request), ours.lease(&request));
    assert_eq!(found, expected);
    for key in ["k7", "k1", "k4", "k1"] {
        let (key, value) = (Bytes::from(key), Bytes::from_static(b"left"));
        let put = pb::PutRequest { key, value, lease: LEFT, ..pb::PutRequest::default() };
        let both = tokio::join!(theirs.client.put(put.clone()), ours.client.put(put));
        both.0.expect("it is written");
        let answer = both.1.expect("it is written");
        generator.revision = answer.header.expect("it has a header").revision;
    }
    // All of its keys go in one revision.
    generator.revision += 1;
    for side in [&mut *theirs, &mut *ours] {
        until(async || {
            let range = pb::RangeRequest { key: Bytes::from_static(b"k7"), ..Default::default() };
            let answer = side.client.range(range).await.ok()?;
            let revision = answer.header.expect("it has a header").revision;
            assert!(revision <= generator.revision, "it went in more than one revision");
            (answer.count == 0 && revision == generator.revision).then_some(())
        })
        .await;
    }
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
