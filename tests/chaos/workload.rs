//! Clients that read and write all members at once, and write down what they saw.

#![allow(dead_code, reason = "every test uses another part of this")]

use std::error::Error;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fastrand::Rng;
use jangada_server::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use jangada_server::proto::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, ResponseHeader, TxnRequest,
    request_op, response_op,
};
use jangada_server::proto::mvccpb::KeyValue;
use jangada_sim::history::{
    Action, Change, Consistency, Contents, Found, Guard, History, OperationId, Outcome,
};
use jangada_sim::linearizability::{self, Approval};
use tokio::task::JoinHandle;
use tonic::Status;

use crate::support::client::Client;
use crate::support::cluster::Cluster;
use crate::support::until;

/// Pairs of keys; the two of a pair meet in transactions. The search looks at each pair alone.
const PAIRS: u32 = 8;

/// Clients for each member.
const CLIENTS_PER_MEMBER: u32 = 3;

/// How long a client waits for an answer before it calls the outcome unknown. Longer than any
/// failover, shorter than a member is paused.
const PATIENCE: Duration = Duration::from_secs(3);

/// The pause after an answer that says that the member cannot serve.
const PAUSE: Duration = Duration::from_millis(10);

/// What the clients share.
struct Shared {
    started: Instant,
    history: Mutex<History>,
    stopped: std::sync::atomic::AtomicBool,
    /// Where clients that roam find members that they may ask.
    urls: Mutex<Vec<String>>,
}

impl Shared {
    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).expect("less than 584 years")
    }
}

/// A running workload.
pub(crate) struct Workload {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

impl Workload {
    /// Starts clients on every member of a cluster whose store is empty. Each stays with its member.
    pub(crate) fn start(cluster: &Cluster, seed: u64) -> Workload {
        Workload::begin(cluster, seed, Habit::Stays)
    }

    /// As [`Workload::start`], but clients that are not answered ask another member, and members that
    /// are no longer named by [`Workload::ask`] are left.
    pub(crate) fn roaming(cluster: &Cluster, seed: u64) -> Workload {
        Workload::begin(cluster, seed, Habit::Roams)
    }

    /// Names the members that clients may ask from here on.
    pub(crate) fn ask(&self, cluster: &Cluster, members: &[usize]) {
        let url = |member: &usize| cluster.members[*member].client_url.clone();
        *self.shared.urls.lock().expect("no client panics while it chooses") =
            members.iter().map(url).collect();
    }

    fn begin(cluster: &Cluster, seed: u64, habit: Habit) -> Workload {
        let urls = cluster.members.iter().map(|member| member.client_url.clone()).collect();
        let shared = Arc::new(Shared {
            started: Instant::now(),
            history: Mutex::new(History::new(1)),
            stopped: std::sync::atomic::AtomicBool::new(false),
            urls: Mutex::new(urls),
        });
        let mut clients = Vec::new();
        for member in 0..cluster.members.len() {
            for _ in 0..CLIENTS_PER_MEMBER {
                let number = u32::try_from(clients.len()).expect("few clients");
                let worker = Worker {
                    shared: shared.clone(),
                    client: cluster.client(member),
                    url: cluster.members[member].client_url.clone(),
                    habit,
                    number,
                    serial: 0,
                    rng: Rng::with_seed(seed.wrapping_add(u64::from(number))),
                    seen: vec![[None, None]; PAIRS as usize],
                };
                clients.push(tokio::spawn(worker.work()));
            }
        }
        Workload { shared, clients }
    }

    /// Waits until `count` writes that were invoked from now on are acknowledged.
    pub(crate) async fn acknowledged(&self, count: usize) {
        let from = self.shared.now();
        until(|| {
            let history = self.shared.history.lock().expect("no client panics while it holds this");
            let newer = history.operations.iter().rev().take_while(|it| from <= it.invoked);
            let done = newer.filter(|operation| operation.changed_at().is_some()).count();
            std::future::ready((count <= done).then_some(()))
        })
        .await;
    }

    /// Stops the clients, reads the store and judges the history. All members that run must serve.
    pub(crate) async fn judge(self, cluster: &Cluster) -> Approval {
        self.shared.stopped.store(true, std::sync::atomic::Ordering::SeqCst);
        for client in self.clients {
            client.await.expect("a client does not panic");
        }
        let mut history =
            self.shared.history.lock().expect("no client panicked while it held this").clone();
        let running: Vec<usize> =
            (0..cluster.members.len()).filter(|member| cluster.is_running(*member)).collect();
        let mut reader = cluster.client(running[0]);
        history.contents = contents(&mut reader, 0, false).await;
        let revision = history.contents.revision;
        for member in running {
            let mut reader = cluster.client(member);
            // The linearizable read brings the member up to date; the other is its own store's.
            contents(&mut reader, revision, false).await;
            let own = contents(&mut reader, revision, true).await;
            assert_eq!(own.keys, history.contents.keys, "member {member} at revision {revision}");
        }
        for revision in history.unclaimed_revisions() {
            let before = contents(&mut reader, revision - 1, false).await;
            let after = contents(&mut reader, revision, false).await;
            history.observed.insert(revision, changes(&before, &after));
        }
        let approval = linearizability::check(&history).unwrap_or_else(|fault| {
            panic!("{fault}\n{}", explain(&history, &fault));
        });
        assert_eq!(approval.undecided, 0, "the search must reach a verdict for each pair of keys");
        println!("{} operations: {:?}", history.operations.len(), approval.summary);
        println!("longest time without an acknowledged write: {:?}", longest_gap(&history));
        approval
    }
}

/// The longest time between two acknowledgements of writes, for the reader.
fn longest_gap(history: &History) -> Duration {
    let changes = history.operations.iter().filter(|operation| operation.changed_at().is_some());
    let mut acknowledged: Vec<u64> = changes.map(|operation| operation.returned).collect();
    acknowledged.sort_unstable();
    let gaps = acknowledged.windows(2).map(|pair| pair[1] - pair[0]);
    Duration::from_nanos(gaps.max().unwrap_or(0))
}

/// The operations that a fault names, for the reader of a failure.
fn explain(history: &History, fault: &linearizability::Fault) -> String {
    let text = format!("{fault:?}");
    let named = text.split(|letter: char| !letter.is_ascii_digit());
    named
        .filter_map(|number| number.parse::<usize>().ok())
        .filter_map(|id| Some(format!("{id}: {:?}\n", history.operations.get(id)?)))
        .take(12)
        .collect()
}

/// All keys at a revision; 0 for the present.
async fn contents(client: &mut Client, revision: i64, serializable: bool) -> Contents {
    let request = RangeRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        revision: if revision == 1 { 0 } else { revision },
        // Revision 1 is the empty store, of which nothing can be asked in etcd either.
        max_mod_revision: i64::from(revision == 1),
        serializable,
        ..RangeRequest::default()
    };
    let answer = until(|| {
        let (mut client, request) = (client.clone(), request.clone());
        async move { client.range(request).await.ok() }
    })
    .await;
    let current = answer.header.map_or(0, |header| header.revision);
    let keys = answer.kvs.into_iter().map(|kv| (kv.key.clone(), found(&kv))).collect();
    Contents { revision: if revision == 0 { current } else { revision }, keys }
}

fn changes(before: &Contents, after: &Contents) -> Vec<Change> {
    let gone = before.keys.keys().filter(|key| !after.keys.contains_key(*key));
    let gone = gone.map(|key| Change { key: key.clone(), value: None });
    let put = after.keys.iter().filter(|(key, found)| before.keys.get(*key) != Some(*found));
    let put = put.map(|(key, found)| Change { key: key.clone(), value: Some(found.value.clone()) });
    gone.chain(put).collect()
}

fn found(kv: &KeyValue) -> Found {
    Found {
        value: kv.value.clone(),
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
    }
}

/// What a client does when its member does not answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Habit {
    Stays,
    Roams,
}

/// One client: one operation after the other.
struct Worker {
    shared: Arc<Shared>,
    client: Client,
    /// The member that the client asks.
    url: String,
    habit: Habit,
    number: u32,
    serial: u64,
    rng: Rng,
    /// The last value read of each key; what a compare expects.
    seen: Vec<[Option<Bytes>; 2]>,
}

impl Worker {
    async fn work(mut self) {
        while !self.shared.stopped.load(std::sync::atomic::Ordering::SeqCst) {
            if self.habit == Habit::Roams && !self.urls().contains(&self.url) {
                self.roam();
            }
            let (pair, action) = self.choose();
            let id = self.begin(action.clone());
            let outcome = match tokio::time::timeout(PATIENCE, self.ask(&action)).await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(status)) => outcome_of(&status),
                Err(_) => Outcome::Unknown,
            };
            self.learn(pair, &action, &outcome);
            let failed = matches!(outcome, Outcome::Unknown | Outcome::Refused);
            let now = self.shared.now();
            self.history(|history| history.returned(id, now, outcome));
            if failed {
                if self.habit == Habit::Roams {
                    self.roam();
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    fn urls(&self) -> Vec<String> {
        self.shared.urls.lock().expect("nobody panics while holding this").clone()
    }

    /// Goes on to another member, if there is one.
    fn roam(&mut self) {
        let others: Vec<String> = self.urls().into_iter().filter(|url| *url != self.url).collect();
        if let Some(url) = self.rng.choice(&others) {
            self.url.clone_from(url);
            self.client = Client::new(url);
        }
    }

    fn history<T>(&self, record: impl FnOnce(&mut History) -> T) -> T {
        record(&mut self.shared.history.lock().expect("nobody panics while holding this"))
    }

    /// The time is taken under the lock, so that the history is in the order of invocation.
    fn begin(&self, action: Action) -> OperationId {
        self.history(|history| history.invoked(self.number, self.shared.now(), action))
    }

    fn choose(&mut self) -> (usize, Action) {
        let pair = self.rng.u32(0..PAIRS);
        let side = self.rng.usize(0..2);
        let key = |side: usize| Bytes::from(format!("pair {pair}, key {side}"));
        self.serial += 1;
        let value = |part: u32| Bytes::from(format!("{}.{}.{part}", self.number, self.serial));
        let seen = self.seen[pair as usize][side].clone();
        let action = match self.rng.u32(0..20) {
            0..5 => Action::put(key(side), value(0)),
            5 => Action::delete(key(side)),
            6..10 => Action::compare_and_set(key(side), seen, value(0)),
            10..12 => Action::Write {
                guards: vec![Guard { key: key(side), expected: seen }],
                puts: vec![(key(0), value(0)), (key(1), value(1))],
                deletes: Vec::new(),
            },
            12..15 => Action::get(key(side), Consistency::Serializable),
            15..17 => {
                Action::Read { keys: vec![key(0), key(1)], consistency: Consistency::Linearizable }
            }
            _ => Action::get(key(side), Consistency::Linearizable),
        };
        (pair as usize, action)
    }

    /// Remembers what was read, and what was written by itself, for the next compare.
    fn learn(&mut self, pair: usize, action: &Action, outcome: &Outcome) {
        let side = |key: &Bytes| usize::from(key.ends_with(b"1"));
        match (action, outcome) {
            (Action::Read { keys, .. }, Outcome::Read { found, .. }) => {
                for (key, found) in keys.iter().zip(found) {
                    self.seen[pair][side(key)] = found.as_ref().map(|found| found.value.clone());
                }
            }
            (Action::Write { puts, .. }, Outcome::Written { succeeded: true, .. }) => {
                for (key, value) in puts {
                    self.seen[pair][side(key)] = Some(value.clone());
                }
            }
            _ => {}
        }
    }

    async fn ask(&mut self, action: &Action) -> Result<Outcome, Status> {
        match action {
            Action::Read { keys, consistency } => {
                self.read(keys, *consistency == Consistency::Serializable).await
            }
            Action::Write { guards, puts, deletes } if guards.is_empty() => {
                match (puts.as_slice(), deletes.as_slice()) {
                    ([(key, value)], []) => self.put(key, value).await,
                    ([], [key]) => self.delete(key).await,
                    _ => self.transact(guards, puts).await,
                }
            }
            Action::Write { guards, puts, .. } => self.transact(guards, puts).await,
        }
    }

    async fn read(&mut self, keys: &[Bytes], serializable: bool) -> Result<Outcome, Status> {
        let range = |key: &Bytes| RangeRequest {
            key: key.clone(),
            serializable,
            ..RangeRequest::default()
        };
        if let [key] = keys {
            let answer = self.client.range(range(key)).await?;
            let found = vec![answer.kvs.first().map(found)];
            return Ok(Outcome::Read { revision: revision(&answer.header), found });
        }
        let ranges = keys.iter().map(|key| request_op::Request::RequestRange(range(key)));
        let success = ranges.map(|range| RequestOp { request: Some(range) }).collect();
        let answer = self.client.txn(TxnRequest { success, ..TxnRequest::default() }).await?;
        let found = answer
            .responses
            .iter()
            .map(|operation| match &operation.response {
                Some(response_op::Response::ResponseRange(range)) => range.kvs.first().map(found),
                other => panic!("a range is answered by a range, not {other:?}"),
            })
            .collect();
        Ok(Outcome::Read { revision: revision(&answer.header), found })
    }

    async fn put(&mut self, key: &Bytes, value: &Bytes) -> Result<Outcome, Status> {
        let request =
            PutRequest { key: key.clone(), value: value.clone(), ..PutRequest::default() };
        let answer = self.client.put(request).await?;
        let revision = revision(&answer.header);
        Ok(Outcome::Written { revision, succeeded: true, deleted: 0 })
    }

    async fn delete(&mut self, key: &Bytes) -> Result<Outcome, Status> {
        let request = DeleteRangeRequest { key: key.clone(), ..DeleteRangeRequest::default() };
        let answer = self.client.delete_range(request).await?;
        let (revision, deleted) = (revision(&answer.header), answer.deleted);
        Ok(Outcome::Written { revision, succeeded: true, deleted })
    }

    async fn transact(
        &mut self,
        guards: &[Guard],
        puts: &[(Bytes, Bytes)],
    ) -> Result<Outcome, Status> {
        let compare = guards
            .iter()
            .map(|guard| {
                let (target, union) = match &guard.expected {
                    Some(value) => (CompareTarget::Value, TargetUnion::Value(value.clone())),
                    None => (CompareTarget::Version, TargetUnion::Version(0)),
                };
                Compare {
                    result: i32::from(CompareResult::Equal),
                    target: i32::from(target),
                    key: guard.key.clone(),
                    target_union: Some(union),
                    range_end: Bytes::new(),
                }
            })
            .collect();
        let success = puts
            .iter()
            .map(|(key, value)| {
                let put =
                    PutRequest { key: key.clone(), value: value.clone(), ..PutRequest::default() };
                RequestOp { request: Some(request_op::Request::RequestPut(put)) }
            })
            .collect();
        let request = TxnRequest { compare, success, failure: Vec::new() };
        let answer = self.client.txn(request).await?;
        let revision = revision(&answer.header);
        Ok(Outcome::Written { revision, succeeded: answer.succeeded, deleted: 0 })
    }
}

fn revision(header: &Option<ResponseHeader>) -> i64 {
    header.as_ref().expect("every answer has a header").revision
}

/// Nothing was sent if no connection came about. Whatever else happened, the request may have
/// arrived. A complaint about the request itself would be an error of this test.
fn outcome_of(status: &Status) -> Outcome {
    let mut source = status.source();
    while let Some(error) = source {
        let refused = error
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
        if refused {
            return Outcome::Refused;
        }
        source = error.source();
    }
    let expected = [
        tonic::Code::Unavailable,
        tonic::Code::Unknown,
        tonic::Code::Cancelled,
        tonic::Code::DeadlineExceeded,
        tonic::Code::Internal,
        tonic::Code::ResourceExhausted,
    ];
    assert!(expected.contains(&status.code()), "an answer that no fault explains: {status:?}");
    Outcome::Unknown
}
