//! The server's side of every simulated process: the API over the shipped handle, its futures polled
//! by hand.
//!
//! Responsible for doing with requests what the server's runtime does: starting them, polling them
//! when they are woken, ending them with their process; and for the lessor that each process has.
//! Not responsible for what clients make of it.
//!
//! 1. A process that is paused, or whose disk has failed under it, answers nothing.
//! 2. A request whose caller has gone is dropped, and what it proposed is not taken back.

mod lessors;
mod streams;

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use jangada::{Effect, Event, Figures, Waiters};
use jangada_entry::Origin;
use jangada_kv::auth::{AuthCommand, Envelope, TOKEN_KEY_BYTES, TokenKey};
use jangada_kv::{AlarmAction, AlarmKind, COMMAND_VERSION, Command};
use jangada_raft::{Index, NodeId};
use jangada_server::auth::AuthSettings;
use jangada_server::errors::ApiError;
use jangada_server::grpc::methods::Method;
use jangada_server::machine::KvMachine;
use jangada_server::proto::etcdserverpb as pb;
use jangada_server::{
    Backend, Edge, Metrics, Served, ServedMember, Settings, Sight, Space, Timer, WatchCuts,
};

use prost::Message;

use super::model::LEASE_TTL_MIN;
use super::request::Request;
use super::users::{Caller, Change};
use crate::application::store::StoreApplication;
use crate::choices::Choices;
use crate::world::{Happened, World};
use lessors::LessorOf;
pub use lessors::Ordered;
use streams::Stream;
pub use streams::{Ending, Told};

/// The cluster's id, as answers name it.
pub const CLUSTER_ID: u64 = 0x6a61_6e67_6164_6121;

/// How long a request may take: 5 s and two election timeouts, as etcd's.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(7);
/// The default of a member.
const ELECTION_TIMEOUT: Duration = Duration::from_secs(1);

/// By how many bytes the engine may lag before proposals are answered *busy*: as it ships.
const ENGINE_LAG_BYTES_MAX: u64 = 64 << 20;

/// For how long there must be space again before the alarm ends. As it ships it is a minute; a run
/// lasts seconds.
const SPACE_CALM: Duration = Duration::from_secs(2);

/// How often watchers who want to know are told that nothing happened. As it ships it is ten minutes.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(400);

/// Responses to watchers end after so many bytes, and fragments do, so that there are many: as it ships
/// it is a megabyte and more.
const WATCH_CUTS: WatchCuts = WatchCuts { response_bytes: 600, fragment_bytes: Some(300) };

/// In one of so many turns a request that could go on has to wait for the next turn, so that other
/// things happen between what it waited for and what it does then.
const LATE_TURNS: u64 = 8;

/// Names a call of a client.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct CallId(pub u64);

/// An error's code and text, as a client gets them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The gRPC code.
    pub code: i32,
    /// The text.
    pub text: String,
}

/// Something that became of a call.
#[derive(Debug)]
pub enum Became {
    /// It has made a proposal.
    Proposed(Origin),
    /// It was answered.
    Answered(Answered),
    /// Its process ended.
    Lost,
}

/// An answer, and where the member stood when it gave it.
#[derive(Debug)]
pub struct Answered {
    /// The answer's bytes.
    pub result: Result<Bytes, Refusal>,
    /// The process that answered.
    pub process: u64,
    /// The term it was in.
    pub term: u64,
    /// The last entry it had applied when the answer was begun, and when it was complete.
    pub applied: (Index, Index),
    /// Whether the answer was put together in more than one turn.
    pub slices: bool,
    /// Whether the disk of the member that answered is damaged.
    pub damaged: bool,
    /// Whether the member that answered is quarantined.
    pub quarantined: bool,
}

type Answering = Pin<Box<dyn Future<Output = Result<Bytes, Refusal>> + Send>>;

/// A call under way.
struct Call {
    member: NodeId,
    process: u64,
    future: Answering,
    waker: Waker,
    /// What was applied when the call last went on after waiting.
    begun: Option<Index>,
    /// Whether it let others have their turn in the middle of its answer.
    slices: bool,
}

/// A process that serves.
struct Process {
    number: u64,
    waiters: Waiters<KvMachine>,
    edge: Edge<Served<SimTimer>>,
    backend: Served<SimTimer>,
    /// Whether answers are kept that nobody has been told of.
    untold: bool,
    /// When the alarm NOSPACE is raised and ended.
    space: Space,
    lessor: LessorOf,
}

/// The calls that can go on.
#[derive(Debug, Default)]
struct Ready {
    calls: Mutex<Vec<CallId>>,
    /// The processes whose lessors can.
    lessors: Mutex<Vec<u64>>,
}

/// Wakes one call.
struct CallWaker {
    call: CallId,
    ready: Arc<Ready>,
}

impl Wake for CallWaker {
    fn wake(self: Arc<Self>) {
        lock(&self.ready.calls).push(self.call);
    }
}

/// The earlier of two times, if there are any.
fn earlier(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    [one, other].into_iter().flatten().min()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Those who wait, and how many there were.
#[derive(Debug, Default)]
struct Sleepers {
    queue: BTreeMap<(u64, u64), Waker>,
    count: u64,
}

/// The simulator's clock, as the server's request handling is given it.
#[derive(Clone, Debug, Default)]
pub(crate) struct SimTimer {
    now_us: Arc<AtomicU64>,
    /// Whom to wake when, in the order of time, and of coming.
    sleepers: Arc<Mutex<Sleepers>>,
}

impl SimTimer {
    /// Wakes those whose time has come. Answers when the next one's comes.
    fn advance(&self, now_us: u64) -> Option<u64> {
        self.now_us.store(now_us, Ordering::Relaxed);
        let mut sleepers = lock(&self.sleepers);
        while let Some(first) = sleepers.queue.first_entry() {
            let (at_us, _) = *first.key();
            if now_us < at_us {
                return Some(at_us);
            }
            first.remove().wake();
        }
        None
    }
}

impl Timer for SimTimer {
    fn now(&self) -> Duration {
        Duration::from_micros(self.now_us.load(Ordering::Relaxed))
    }

    async fn within<F>(&self, after: Duration, future: F) -> Option<F::Output>
    where
        F: Future<Output: Send> + Send,
    {
        let after_us = u64::try_from(after.as_micros()).expect("a request takes seconds");
        let until_us = self.now_us.load(Ordering::Relaxed) + after_us;
        let mut future = pin!(future);
        let mut sleeps = false;
        poll_fn(move |context: &mut Context<'_>| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Some(output));
            }
            if until_us <= self.now_us.load(Ordering::Relaxed) {
                return Poll::Ready(None);
            }
            if !sleeps {
                sleeps = true;
                let mut sleepers = lock(&self.sleepers);
                sleepers.count += 1;
                let place = (until_us, sleepers.count);
                sleepers.queue.insert(place, context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}

/// Every process' server.
pub struct Service {
    processes: BTreeMap<NodeId, Process>,
    calls: BTreeMap<CallId, Call>,
    streams: BTreeMap<CallId, Stream>,
    ready: Arc<Ready>,
    /// Calls that can go on and have not yet.
    late: Vec<CallId>,
    timer: SimTimer,
    /// Lessors that can go on and have not yet, by their process.
    late_lessors: Vec<u64>,
    /// Decides about those.
    lessor_choices: Choices,
    /// What lessors have proposed and nobody was told of.
    ordered: Vec<Ordered>,
    /// Whom proposals name, and nobody was told of.
    enclosed: Vec<(Origin, Caller)>,
    /// When a lessor answered a question last.
    counselled_us: u64,
    metrics: Arc<Metrics>,
    settings: Settings,
    with_leader: HeaderMap,
    events: Vec<Event>,
}

impl Default for Service {
    fn default() -> Service {
        Service::new()
    }
}

impl Service {
    /// Nobody serves yet.
    #[must_use]
    pub fn new() -> Service {
        let mut with_leader = HeaderMap::new();
        with_leader.insert("hasleader", HeaderValue::from_static("true"));
        Service {
            processes: BTreeMap::new(),
            calls: BTreeMap::new(),
            streams: BTreeMap::new(),
            ready: Arc::default(),
            late: Vec::new(),
            timer: SimTimer::default(),
            late_lessors: Vec::new(),
            lessor_choices: Choices::of_seed(0),
            ordered: Vec::new(),
            enclosed: Vec::new(),
            counselled_us: 0,
            metrics: Arc::default(),
            settings: Settings {
                watch_progress_interval: PROGRESS_INTERVAL,
                watch_cuts: WATCH_CUTS,
                auth: AuthSettings { certificates: true, ..AuthSettings::default() },
                ..Settings::default()
            },
            with_leader,
            events: Vec::new(),
        }
    }

    /// Whether no call is under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.calls.is_empty()
    }

    /// Calls a member. False if its process does not live, so that nobody listens.
    pub fn call(
        &mut self,
        world: &World<StoreApplication>,
        id: CallId,
        member: NodeId,
        request: &Request,
        demands_leader: bool,
        name: Option<&'static str>,
    ) -> bool {
        if *request == Request::Auth(Change::Enable) {
            // Asked over the API the member draws a key, differently in each run.
            let key = TokenKey([7; TOKEN_KEY_BYTES]);
            return self.propose(world, id, member, Command::Auth(AuthCommand::Enable { key }));
        }
        let message = (request.method(), request.encode());
        self.call_method(world, id, member, message, demands_leader, name)
    }

    /// Lets a member propose something by itself, answered as if a client had asked. False if its
    /// process does not live.
    pub fn propose(
        &mut self,
        world: &World<StoreApplication>,
        id: CallId,
        member: NodeId,
        command: Command,
    ) -> bool {
        let Some(process) = self.process(world, member) else { return false };
        let (number, backend) = (process.number, process.backend.clone());
        let future: Answering = Box::pin(async move {
            let refuse = |error: ApiError| Refusal {
                code: error.code() as i32,
                text: error.text().to_owned(),
            };
            let reply = backend.propose(command).await.map_err(|error| refuse(error.into()))?;
            let answer = reply.result.map_err(|error| refuse(error.into()))?;
            let header = Some(pb::ResponseHeader {
                cluster_id: CLUSTER_ID,
                member_id: member.0,
                revision: reply.revision,
                raft_term: backend.status().term,
            });
            let bytes = match answer {
                jangada_kv::Answer::Auth => pb::AuthEnableResponse { header }.encode_to_vec(),
                jangada_kv::Answer::Alarm(alarms) => {
                    let alarms = alarms.into_iter().map(|alarm| pb::AlarmMember {
                        member_id: alarm.member,
                        alarm: match alarm.kind {
                            AlarmKind::NoSpace => i32::from(pb::AlarmType::Nospace),
                            AlarmKind::Corrupt => i32::from(pb::AlarmType::Corrupt),
                        },
                    });
                    let alarms = alarms.collect();
                    pb::AlarmResponse { header, alarms }.encode_to_vec()
                }
                other => panic!("{other:?} is asked for over the API"),
            };
            Ok(bytes.into())
        });
        self.begin(id, member, number, future);
        true
    }

    fn begin(&mut self, id: CallId, member: NodeId, process: u64, future: Answering) {
        let waker = Waker::from(Arc::new(CallWaker { call: id, ready: Arc::clone(&self.ready) }));
        let call = Call { member, process, future, waker, begun: None, slices: false };
        self.calls.insert(id, call);
        lock(&self.ready.calls).push(id);
    }

    /// Calls a method of a member with a message's bytes. False if its process does not live.
    pub fn call_method(
        &mut self,
        world: &World<StoreApplication>,
        id: CallId,
        member: NodeId,
        (method, message): (Method, Bytes),
        demands_leader: bool,
        name: Option<&'static str>,
    ) -> bool {
        let Some(process) = self.process(world, member) else { return false };
        let (number, edge) = (process.number, process.edge.clone());
        let metadata = if demands_leader { self.with_leader.clone() } else { HeaderMap::new() };
        let future = async move {
            let answer = match name {
                Some(name) => edge.answer_message_of(name, method, &metadata, message).await,
                None => edge.answer_message(method, &metadata, message).await,
            };
            answer.map_err(|status| Refusal {
                code: status.code() as i32,
                text: status.message().to_owned(),
            })
        };
        self.begin(id, member, number, Box::pin(future));
        true
    }

    /// What a member wants to have done about the space on its disk, if its process serves: its server
    /// looks at it each second.
    pub fn looks_at_space(
        &mut self,
        world: &World<StoreApplication>,
        member: NodeId,
    ) -> Option<(Request, Command)> {
        if world.is_paused(member) {
            return None;
        }
        let process = self.process(world, member)?;
        let status = world.status(member)?;
        let alarms = world.machine(member)?.shared().read().alarms();
        let raised = alarms.into_iter().filter(|alarm| alarm.kind == AlarmKind::NoSpace);
        // Members alone: a server that was removed and does not know it may still call.
        let others = status.configuration.members();
        let connected = others.filter(|other| world.are_connected(member, *other));
        let sight = Sight {
            own: member.0,
            leads: status.standing.leader == Some(member),
            disk_full: status.log_full,
            in_use: 0,
            quota: None,
            raised: raised.map(|alarm| alarm.member).collect(),
            connected: connected.map(|member| member.0).collect(),
        };
        let now = Duration::from_micros(world.now_us());
        let command = process.space.step(now, &sight)?;
        let Command::Alarm { action, member, .. } = command else {
            panic!("the space on a disk is a reason for alarms alone");
        };
        let action = match action {
            AlarmAction::Activate => pb::alarm_request::AlarmAction::Activate,
            AlarmAction::Deactivate => pb::alarm_request::AlarmAction::Deactivate,
        };
        let (action, alarm) = (i32::from(action), i32::from(pb::AlarmType::Nospace));
        let request = Request::Alarm(pb::AlarmRequest { action, member_id: member, alarm });
        Some((request, command))
    }

    /// Whom proposals name, of those that were made since the last time.
    pub fn take_enclosed(&mut self) -> Vec<(Origin, Caller)> {
        std::mem::take(&mut self.enclosed)
    }

    /// The caller has gone.
    pub fn leave(&mut self, id: CallId) {
        self.calls.remove(&id);
    }

    /// The process of a member, made when it is first called.
    fn process(&mut self, world: &World<StoreApplication>, member: NodeId) -> Option<&mut Process> {
        let number = world.process(member)?;
        let known = self.processes.get(&member).is_some_and(|process| process.number == number);
        if !known {
            let status = world.status(member)?;
            let store = world.machine_itself(member)?.shared().clone();
            let (waiters, handle) = Waiters::new(number, 0, status);
            let served = ServedMember {
                handle,
                figures: Arc::new(Figures::default()),
                store,
                cluster_id: CLUSTER_ID,
                member_id: member.0,
                election_timeout: ELECTION_TIMEOUT,
                request_timeout: REQUEST_TIMEOUT,
                quota_bytes: 0,
                // One call is one proposal, which its history tells.
                again_bytes_max: 0,
                lease_ttl_min: LEASE_TTL_MIN,
                engine_lag_bytes_max: ENGINE_LAG_BYTES_MAX,
            };
            let backend = Served::new(served, self.timer.clone());
            let lessor = LessorOf::new(&backend, &self.metrics, number, &self.ready);
            let edge = Edge::new(backend.clone(), self.settings.clone(), Arc::clone(&self.metrics));
            self.processes.insert(
                member,
                Process {
                    number,
                    waiters,
                    edge,
                    backend,
                    untold: false,
                    space: Space::new(SPACE_CALM),
                    lessor,
                },
            );
        }
        self.processes.get_mut(&member)
    }

    /// Something happened in the world: keeps what concerns calls. Answers the calls that have ended
    /// with their process, and the caller's timer if it is one.
    pub fn happened(
        &mut self,
        happened: Happened<jangada_kv::Reply>,
        ended: &mut Vec<CallId>,
    ) -> Option<u64> {
        let (number, effect) = match happened {
            Happened::Replied { origin, reply } => {
                (origin.incarnation, Effect::Reply { sequence: origin.sequence, reply })
            }
            Happened::Refused { origin, reason } => {
                (origin.incarnation, Effect::Refuse { sequence: origin.sequence, reason })
            }
            Happened::Doubtful { process, sequence_max } => {
                (process, Effect::Doubt { sequence_max })
            }
            Happened::ReadReady { member, batch } => {
                (self.number(member), Effect::ReadReady(batch))
            }
            Happened::ReadExpired { member, batch } => {
                (self.number(member), Effect::ReadExpired(batch))
            }
            Happened::Ended { member, process } => {
                let lost = self.calls.iter().filter(|(_, call)| call.process == process);
                ended.extend(lost.map(|(id, _)| *id));
                ended.iter().for_each(|id| drop(self.calls.remove(id)));
                let lost = self.streams.iter().filter(|(_, stream)| stream.process == process);
                let lost: Vec<CallId> = lost.map(|(id, _)| *id).collect();
                lost.iter().for_each(|id| drop(self.streams.remove(id)));
                ended.extend(lost);
                self.processes.remove(&member);
                return None;
            }
            Happened::Consulted { process, asked } => (process, Effect::Consulted(asked)),
            Happened::Counselled { process, ticket, outcome } => {
                (process, Effect::Counselled { ticket, outcome })
            }
            Happened::Started { .. } => return None,
            Happened::Timer(token) => return Some(token),
        };
        let process = self.processes.values_mut().find(|process| process.number == number);
        if let Some(process) = process {
            let left = process.waiters.keep(effect);
            assert!(left.is_none(), "what concerns clients is kept for them");
            process.untold = true;
        }
        None
    }

    fn number(&self, member: NodeId) -> u64 {
        self.processes.get(&member).map_or(0, |process| process.number)
    }

    /// Lets every call go on that can, and answers what became of which in `became`. Returns when to
    /// turn again at the latest; `None` if nobody waits for the clock.
    pub fn turn(
        &mut self,
        world: &mut World<StoreApplication>,
        choices: &mut Choices,
        became: &mut Vec<(CallId, Became)>,
        told: &mut Vec<(CallId, Told)>,
    ) -> Option<u64> {
        self.end_astray(world, told);
        let next_us = self.timer.advance(world.now_us());
        self.wind_lessors(world);
        for (member, process) in &mut self.processes {
            if process.untold {
                Service::tell(world, *member, process);
            }
        }
        let mut calls = std::mem::take(&mut self.late);
        calls.append(&mut lock(&self.ready.calls));
        let lessors = self.ready_lessors();
        if calls.is_empty() && lessors.is_empty() {
            return earlier(next_us, self.lessors_next_us());
        }
        for (member, process) in &mut self.processes {
            Service::tell(world, *member, process);
        }
        for id in calls {
            let call = self.calls.get(&id).map(|call| call.member);
            let stream = self.streams.get(&id).map(Stream::member);
            let Some(member) = call.or(stream) else { continue };
            if world.is_paused(member) || choices.below(LATE_TURNS) == 0 {
                self.late.push(id); // invariant 1
                continue;
            }
            match call {
                Some(_) => self.poll(world, id, became),
                None => self.poll_stream(world, id, told),
            }
        }
        self.poll_lessors(world, lessors);
        for (member, process) in &mut self.processes {
            process.waiters.take(&mut self.events);
            for event in self.events.drain(..) {
                match &event {
                    Event::ProposeInTerm { draft, term } => {
                        self.ordered.push(Ordered::of(draft, *term));
                    }
                    // Most proposals name nobody.
                    Event::Propose(draft) if Envelope::is_first_of(draft.payload()) => {
                        let bytes = Bytes::copy_from_slice(draft.payload());
                        if let Ok(Command::As(caller, _)) = Command::decode(&bytes, COMMAND_VERSION)
                        {
                            let caller = Caller { name: caller.user, revision: caller.revision };
                            self.enclosed.push((draft.origin(), caller));
                        }
                    }
                    Event::Counsel { .. } => self.counselled_us = world.now_us(),
                    _ => {}
                }
                world.submit(*member, event);
            }
        }
        earlier(next_us, self.lessors_next_us())
    }

    /// Tells who waits for a process what was kept for them, and how the member stands.
    fn tell(world: &World<StoreApplication>, member: NodeId, process: &mut Process) {
        process.untold = false;
        if let (Some(machine), Some(status)) = (world.machine_itself(member), world.status(member))
        {
            process.waiters.answer(machine, status);
        }
    }

    fn poll(
        &mut self,
        world: &World<StoreApplication>,
        id: CallId,
        became: &mut Vec<(CallId, Became)>,
    ) {
        let call = self.calls.get_mut(&id).expect("the call is under way");
        let process = self.processes.get_mut(&call.member).expect("calls end with their process");
        let status = world.status(call.member).expect("calls end with their process");
        // A snapshot that has just been finished is shown to readers before the member has told so.
        let applied = status.record.applied.index.max(status.machine_durable);
        let proposed_before = process.waiters.proposed_last();
        let polled = call.future.as_mut().poll(&mut Context::from_waker(&call.waker));
        let sequence = process.waiters.proposed_last();
        if proposed_before < sequence {
            let origin = Origin { incarnation: process.number, sequence };
            became.push((id, Became::Proposed(origin)));
        }
        let begun = *call.begun.get_or_insert(applied);
        let Poll::Ready(result) = polled else {
            // A call that goes on by itself is in the middle of its answer.
            let goes_on = lock(&self.ready.calls).last() == Some(&id);
            call.begun = goes_on.then_some(begun);
            call.slices |= goes_on;
            return;
        };
        let (member, number, slices) = (call.member, process.number, call.slices);
        self.calls.remove(&id);
        let disk = world.disk(member);
        // Nor does one that is astray answer anything that counts.
        if disk.is_dead() || disk.failure().is_some() || world.is_astray(member) {
            became.push((id, Became::Lost)); // invariant 1
            return;
        }
        let applied = (begun, applied);
        let term = status.standing.term.0;
        let damaged = world.ledger().is_marked(member);
        let quarantined = status.quarantine.is_some();
        let answered =
            Answered { result, process: number, term, applied, slices, damaged, quarantined };
        became.push((id, Became::Answered(answered)));
    }
}
