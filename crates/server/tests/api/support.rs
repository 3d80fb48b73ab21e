//! A member in memory, a server over it, and clients for it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use jangada_entry::{Draft, Kind, Origin};
use jangada_kv::{Command, Entry, Machine, Options, Reply, Shared};
use jangada_server::backend::{Backend, Connection, Member, Pause, RequestError, Sizes, Status};
use jangada_server::connection::serve;
use jangada_server::errors::ApiError;
use jangada_server::etcd_file::Exported;
use jangada_server::membership::{Change, NewRole};
use jangada_server::metrics::{Exposition, Kind as MetricKind};
use jangada_server::proto::etcdserverpb::kv_client::KvClient;
use jangada_server::serving::Serving;
use jangada_server::{Edge, Metrics, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tonic::transport::Channel;

/// The ids of etcd's own default member, as a known answer.
pub(crate) const MEMBER_ID: u64 = 0x8e9e_05c5_2164_694d;

/// The cluster of that member.
pub(crate) const CLUSTER_ID: u64 = 0xcdf8_1819_4e3a_8c32;

/// The term that the member pretends to be in.
pub(crate) const TERM: u64 = 7;

/// A member that commits at once what is proposed to it.
#[derive(Clone)]
pub(crate) struct Fake {
    store: Shared,
    inner: Arc<Inner>,
}

struct Inner {
    machine: Mutex<(Machine, u64)>,
    script: Mutex<Script>,
    members: Mutex<Vec<Member>>,
    /// The changes of the membership that were carried out.
    changes: Mutex<Vec<Change>>,
    /// Proposals wait while this is false.
    open: watch::Sender<bool>,
    /// How many proposals have begun to wait.
    waiting: watch::Sender<usize>,
}

/// What a test makes of the member.
#[derive(Clone, Copy)]
pub(crate) struct Script {
    pub(crate) leader: Option<u64>,
    pub(crate) is_learner: bool,
    pub(crate) is_quarantined: bool,
    pub(crate) proposals: Option<RequestError>,
    pub(crate) barriers: Option<RequestError>,
    pub(crate) barriers_taken: u64,
    pub(crate) changes: Option<ApiError>,
    pub(crate) quota: Option<u64>,
    pub(crate) time_ms: u64,
    /// What becomes of what the leader is asked about leases.
    pub(crate) lessor: Option<RequestError>,
    /// How many ids were chosen for leases, and one.
    pub(crate) lease_ids: i64,
}

impl Fake {
    pub(crate) fn new() -> Fake {
        let machine = Machine::open(None, Options::default()).expect("memory can be opened");
        let script = Script {
            leader: Some(MEMBER_ID),
            is_learner: false,
            is_quarantined: false,
            proposals: None,
            barriers: None,
            barriers_taken: 0,
            changes: None,
            quota: Some(2 << 30),
            time_ms: 1_000_000,
            lessor: None,
            lease_ids: 1,
        };
        let store = machine.shared();
        let inner = Inner {
            machine: Mutex::new((machine, 0)),
            script: Mutex::new(script),
            members: Mutex::new(vec![member(1, "two", 22379), member(MEMBER_ID, "one", 2379)]),
            changes: Mutex::new(Vec::new()),
            open: watch::channel(true).0,
            waiting: watch::channel(0).0,
        };
        Fake { store, inner: Arc::new(inner) }
    }

    /// Changes how the member behaves from now on.
    pub(crate) fn script(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.inner.script.lock().expect("no test thread panics while it scripts"));
    }

    pub(crate) fn scripted(&self) -> Script {
        *self.inner.script.lock().expect("no test thread panics while it scripts")
    }

    /// Changes the members as if others had.
    pub(crate) fn set_members(&self, change: impl FnOnce(&mut Vec<Member>)) {
        change(&mut self.inner.members.lock().expect("no test thread panics while it changes"));
    }

    /// The changes of the membership that were carried out.
    pub(crate) fn changes(&self) -> Vec<Change> {
        self.inner.changes.lock().expect("no test thread panics while it looks").clone()
    }

    /// Lets proposals wait, or go on.
    pub(crate) fn open(&self, open: bool) {
        self.inner.open.send_replace(open);
    }

    /// Resolves when so many proposals have begun to wait.
    pub(crate) async fn proposals_wait(&self, count: usize) {
        let mut waiting = self.inner.waiting.subscribe();
        let enough = waiting.wait_for(|waiting| count <= *waiting).await;
        enough.expect("the member outlives its proposals");
    }

    /// Applies a command as if another member had proposed it.
    pub(crate) fn apply(&self, command: &Command) -> Reply {
        let mut buffer = Draft::buffer(0);
        command.encode_into(&mut buffer);
        self.commit(buffer)
    }

    fn commit(&self, buffer: BytesMut) -> Reply {
        let version = jangada_kv::COMMAND_VERSION;
        let draft = Draft::new(buffer, Kind::Command, version, 0, Origin::default());
        let mut machine = self.inner.machine.lock().expect("the machine does not panic");
        let index = machine.1 + 1;
        let entry = Entry { index, term: 1, time_ms: index, version, payload: draft.payload() };
        let outcome = machine.0.apply_one(entry).expect("the command is one of this version");
        machine.0.end_batch(index, Bytes::new());
        machine.1 = index;
        outcome.reply
    }
}

/// A started member; all but the one that is served are learners.
pub(crate) fn member(id: u64, name: &str, port: u16) -> Member {
    Member {
        id,
        name: name.to_owned(),
        peer_urls: vec![format!("http://localhost:{}", port + 1)],
        client_urls: vec![format!("http://localhost:{port}")],
        is_learner: id != MEMBER_ID,
        connection: Connection::Lasting,
    }
}

fn one_of(members: &mut [Member], id: u64) -> &mut Member {
    members.iter_mut().find(|member| member.id == id).expect("it was checked")
}

impl Backend for Fake {
    async fn propose_encoded(&self, buffer: BytesMut) -> Result<Reply, RequestError> {
        let mut open = self.inner.open.subscribe();
        if !*open.borrow_and_update() {
            self.inner.waiting.send_modify(|waiting| *waiting += 1);
            open.wait_for(|open| *open).await.expect("the member outlives its proposals");
        }
        match self.scripted().proposals {
            Some(error) => Err(error),
            None => Ok(self.commit(buffer)),
        }
    }

    async fn read_barrier(&self) -> Result<(), RequestError> {
        self.script(|script| script.barriers_taken += 1);
        self.scripted().barriers.map_or(Ok(()), Err)
    }

    fn store(&self) -> &Shared {
        &self.store
    }

    fn pause(&self, time: Duration) -> Pause {
        Box::pin(tokio::time::sleep(time))
    }

    async fn export(&self) -> Result<Exported, ApiError> {
        let state = self.store.export().map_err(ApiError::from)?;
        Ok(Exported { state, term: TERM, members: self.members(), removed: vec![7, 0xf00] })
    }

    fn status(&self) -> Status {
        let script = self.scripted();
        let applied = self.inner.machine.lock().expect("the machine does not panic").1;
        Status {
            cluster_id: CLUSTER_ID,
            member_id: MEMBER_ID,
            term: TERM,
            leader: script.leader,
            commit_index: applied + 1,
            applied_index: applied,
            is_learner: script.is_learner,
            is_quarantined: script.is_quarantined,
            leader_changes: 3,
            proposals_pending: 2,
            proposals_failed: 1,
        }
    }

    fn time_ms(&self) -> u64 {
        self.scripted().time_ms
    }

    fn sizes(&self) -> Sizes {
        Sizes { allocated: 4096, in_use: 1024, quota: 2 << 30 }
    }

    fn quota(&self) -> Option<u64> {
        self.scripted().quota
    }

    async fn renew_leases(&self, ids: Vec<i64>) -> Result<Vec<Option<i64>>, RequestError> {
        if let Some(error) = self.scripted().lessor {
            return Err(error);
        }
        let view = self.store.read();
        Ok(ids.into_iter().map(|id| view.lease(id).map(|lease| lease.ttl)).collect())
    }

    /// One second has passed of each.
    async fn leases_remaining(&self, ids: Vec<i64>) -> Result<Vec<Option<i64>>, RequestError> {
        let granted = self.renew_leases(ids).await?;
        Ok(granted.into_iter().map(|ttl| ttl.map(|ttl| ttl - 1)).collect())
    }

    fn lease_ttl_min(&self) -> i64 {
        2
    }

    /// Each twice.
    fn new_lease_id(&self) -> i64 {
        self.script(|script| script.lease_ids += 1);
        1000 + self.scripted().lease_ids / 2
    }

    fn members(&self) -> Vec<Member> {
        self.inner.members.lock().expect("no test thread panics while it looks").clone()
    }

    async fn change_members(&self, change: Change) -> Result<(), ApiError> {
        if let Some(error) = self.scripted().changes {
            return Err(error);
        }
        self.set_members(|members| match change.clone() {
            Change::Add { id, peer_urls, role } => {
                let is_learner = role == NewRole::Learner;
                members.push(Member { id, peer_urls, is_learner, ..Member::default() });
            }
            Change::Remove { id } => members.retain(|member| member.id != id),
            Change::Update { id, peer_urls } => one_of(members, id).peer_urls = peer_urls,
            Change::Promote { id } => one_of(members, id).is_learner = false,
        });
        self.inner.changes.lock().expect("nor while it changes").push(change);
        Ok(())
    }

    async fn transfer_leadership(&self, to: u64) -> Result<(), ApiError> {
        if let Some(error) = self.scripted().changes {
            return Err(error);
        }
        self.script(|script| script.leader = Some(to));
        Ok(())
    }

    fn expose(&self, exposition: &mut Exposition) {
        exposition
            .family("etcd_network_peer_sent_bytes_total", MetricKind::Counter, "Sent.")
            .sample(&[("To", "1")], 42);
    }
}

/// A server, and the member it serves.
pub(crate) struct Server {
    pub(crate) fake: Fake,
    pub(crate) address: SocketAddr,
    /// Whether it serves.
    pub(crate) serving: Serving,
    stop: Option<oneshot::Sender<()>>,
    pub(crate) task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start() -> Server {
        Server::with(Settings::default()).await
    }

    pub(crate) async fn with(settings: Settings) -> Server {
        let fake = Fake::new();
        let edge = Edge::new(fake.clone(), settings, Arc::new(Metrics::default()));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("the listener is bound");
        let serving = edge.serving().clone();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve(edge, listener, async {
            // A test that ends drops the sender, which stops the server too.
            let _ = stopped.await;
        }));
        Server { fake, address, serving, stop: Some(stop), task }
    }

    /// Asks the server to stop, gracefully.
    pub(crate) fn stop(&mut self) {
        let stop = self.stop.take().expect("a server is stopped once");
        stop.send(()).expect("the server waits to be stopped");
    }

    pub(crate) async fn channel(&self) -> Channel {
        let uri = format!("http://{}", self.address);
        let endpoint = tonic::transport::Endpoint::from_shared(uri).expect("the address is a URI");
        endpoint.connect().await.expect("the server accepts")
    }

    pub(crate) async fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel().await).max_decoding_message_size(usize::MAX)
    }

    /// Sends one request over HTTP/1.1 and answers status line, headers and body.
    pub(crate) async fn http(&self, method: &str, path: &str, headers: &str) -> HttpAnswer {
        let mut stream = TcpStream::connect(self.address).await.expect("the server accepts");
        let host = if headers.contains("Host:") { "" } else { "Host: localhost\r\n" };
        let request =
            format!("{method} {path} HTTP/1.1\r\n{host}{headers}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("the server reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("the server answers text");
        HttpAnswer::of(&answer)
    }

    pub(crate) async fn get(&self, path: &str) -> HttpAnswer {
        self.http("GET", path, "").await
    }
}

/// An answer over HTTP/1.1.
#[derive(Debug)]
pub(crate) struct HttpAnswer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl HttpAnswer {
    fn of(answer: &str) -> HttpAnswer {
        let (head, body) = answer.split_once("\r\n\r\n").expect("the answer has a head");
        let status = head.split(' ').nth(1).expect("the head has a status");
        HttpAnswer {
            status: status.parse().expect("the status is a number"),
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// Asserts that a call failed with this error, by text and by code.
#[track_caller]
pub(crate) fn assert_refused<T: std::fmt::Debug>(
    result: Result<tonic::Response<T>, tonic::Status>,
    error: ApiError,
) {
    let status = result.expect_err("the call is refused");
    assert_eq!((status.message(), status.code()), (error.text(), error.code()));
}

/// Bytes of a text.
pub(crate) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}
