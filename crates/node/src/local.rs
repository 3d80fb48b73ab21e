//! The in-process runtime: all members of a cluster on one thread or task, joined by memory.
//!
//! For embedding where one process is enough, for tests, and for measuring the library without disk
//! and network. The members are the same stepped parts that the networked runtime drives.
//!
//! A state machine that can write its state as bytes ([`crate::Snapshots::Whole`]) has its log cut behind
//! what it has applied: nobody here starts again, so its state need not be kept. The log of one that
//! cannot grows with every command.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use jangada_net::PeerMessage;
use jangada_raft::{Configuration, HardState, Index, NodeId, Position, Range, RoleKind, Standing};

use crate::clock::Clock;
use crate::driver::{Driver, Io};
use crate::handle::{Handle, Inbox, Unpark};
use crate::log::{Log, MemoryLog};
use crate::machine::StateMachine;
use crate::member::{
    Event, FEATURE_LEVEL, LogBatch, LogCut, LogRead, Member, MemberStart, Mend, Now, Options,
    Peers, Quarantine, SnapshotWork, StartError,
};
use crate::saved::{StateSaved, UnsavedState};
use crate::snapshot::Turn;

/// A cluster within this process. Its thread ends when this is dropped.
pub struct LocalCluster<M: StateMachine> {
    handles: Vec<Handle<M>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl<M: StateMachine> LocalCluster<M> {
    /// Starts `members` members that keep their log in memory, each with a machine that `machine`
    /// makes for it, numbered from 1.
    ///
    /// # Errors
    /// If a machine remembers more than an empty log can hold.
    pub fn start(
        members: u64,
        options: Options,
        machine: impl FnMut(NodeId) -> M,
    ) -> Result<LocalCluster<M>, StartError> {
        let LocalMembers { mut cluster, handles } = LocalMembers::open(members, options, machine)?;
        let thread = std::thread::Builder::new()
            .name("jangada-local".into())
            .spawn(move || cluster.run_on_this_thread())
            .expect("the machine can start a thread");
        Ok(LocalCluster { handles, thread: Some(thread) })
    }

    /// A handle on each member, in order.
    #[must_use]
    pub fn handles(&self) -> &[Handle<M>] {
        &self.handles
    }
}

impl<M: StateMachine> Drop for LocalCluster<M> {
    fn drop(&mut self) {
        self.handles.iter().for_each(Handle::stop);
        if let Some(thread) = self.thread.take() {
            let panicked = thread.join().is_err();
            assert!(!panicked || std::thread::panicking(), "the members' thread has panicked");
        }
    }
}

/// As [`LocalCluster`], for an event loop of yours: the members are one task of it, so that a command
/// need not be handed from thread to thread. That is what a lone client waits for most.
///
/// ```
/// # use jangada::{Frame, LocalMembers, Options, Outcome, StateMachine};
/// # #[derive(Default)]
/// # struct Counter(u64);
/// # impl StateMachine for Counter {
/// #     type Reply = u64;
/// #     fn apply(&mut self, commands: &[Frame], outcomes: &mut Vec<Outcome<u64>>) {
/// #         for _ in commands {
/// #             self.0 += 1;
/// #             outcomes.push(Outcome { reply: self.0, digest: self.0 });
/// #         }
/// #     }
/// # }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
/// # runtime.block_on(async {
/// let members = LocalMembers::open(3, Options::default(), |_| Counter::default())?;
/// let handle = members.handles()[0].clone();
/// let members = tokio::spawn(members.run());
/// assert_eq!(handle.propose(b"increment").await?, 1);
/// handle.stop();
/// members.await?;
/// # Ok(())
/// # })
/// # }
/// ```
pub struct LocalMembers<M: StateMachine> {
    handles: Vec<Handle<M>>,
    cluster: Cluster<M>,
}

impl<M: StateMachine> LocalMembers<M> {
    /// Makes the members, as [`LocalCluster::start`] does. Nothing happens until they are run.
    ///
    /// # Errors
    /// If a machine remembers more than an empty log can hold.
    pub fn open(
        members: u64,
        options: Options,
        mut machine: impl FnMut(NodeId) -> M,
    ) -> Result<LocalMembers<M>, StartError> {
        let clock = Clock::start();
        let ids: Vec<NodeId> = (1..=members).map(NodeId).collect();
        let mut places = Vec::new();
        let mut handles = Vec::new();
        for id in &ids {
            let start = MemberStart {
                id: *id,
                group: 0,
                process: id.0,
                hard_state: HardState::default(),
                configuration: Configuration::of_voters(ids.iter().copied()),
                log: Range::empty(Position::default()),
                time_ms: 0,
                note: bytes::Bytes::new(),
                level: FEATURE_LEVEL,
                options,
                seed: id.0,
                configurations: Vec::new(),
                faulty: Vec::new(),
                recovering: false,
                saved: None,
            };
            let member = Member::new(clock.now(), start, machine(*id))?;
            let (mut driver, handle) = Driver::new(id.0, 0, member);
            for peer in ids.iter().filter(|peer| *peer != id) {
                let (incarnation, level) = (peer.0, FEATURE_LEVEL);
                driver.push(Event::Hello { peer: *peer, incarnation, level });
                driver.push(Event::PeerUp(*peer));
            }
            let works = VecDeque::new();
            places.push(Place { driver, log: MemoryLog::default(), works, hears: true });
            handles.push(handle);
        }
        let (sent, own) = (Vec::new(), Vec::new());
        let cluster = Cluster { places, clock, sent, own, collected: 0 };
        Ok(LocalMembers { handles, cluster })
    }

    /// A handle on each member, in order.
    #[must_use]
    pub fn handles(&self) -> &[Handle<M>] {
        &self.handles
    }

    /// Runs the members until one of their handles is told to stop. When the future is dropped, what
    /// is under way ends with [`ProposeError::Stopped`](crate::ProposeError), as it does at the end.
    ///
    /// # Panics
    /// Without a tokio runtime that has timers.
    pub async fn run(self) {
        let mut cluster = self.cluster;
        let mut armed = cluster.clock.instant(cluster.next_us());
        let mut alarm = pin!(tokio::time::sleep_until(armed.into()));
        loop {
            let deadline = cluster.clock.instant(cluster.next_us());
            // Most turns move the deadline back. One that comes too early finds nothing to do.
            if deadline < armed {
                armed = deadline;
                alarm.as_mut().reset(armed.into());
            }
            // Those who were just answered come first, and so do those who are about to ask: what they
            // ask comes along. A lone client is not kept waiting.
            let mut yields = true;
            let crowded = 1 < cluster.collected;
            let mut pause = pin!(tokio::task::yield_now());
            let stops = poll_fn(|context| {
                match cluster.collect(context.waker()) {
                    Inbox::Stopping => return Poll::Ready(true),
                    Inbox::Filled if yields => {
                        yields = false;
                        return pause.as_mut().poll(context).map(|()| false);
                    }
                    Inbox::Filled => return Poll::Ready(false),
                    Inbox::Empty => yields &= crowded,
                }
                alarm.as_mut().poll(context).map(|()| false)
            });
            if stops.await {
                return;
            }
            cluster.settle();
            if armed <= Instant::now() {
                armed = cluster.clock.instant(cluster.next_us());
                alarm.as_mut().reset(armed.into());
            }
        }
    }
}

struct Place<M: StateMachine> {
    driver: Driver<M>,
    log: MemoryLog,
    /// Work on snapshots that is under way, and from when on it goes on (microseconds).
    works: VecDeque<(u64, SnapshotWork)>,
    /// Whether something came from others since its last turn.
    hears: bool,
}

impl<M: StateMachine> Place<M> {
    /// Gives each piece of work that is due a turn. All members share one thread, so none of them waits
    /// for one that has to.
    fn work(&mut self, now_us: u64) {
        for _ in 0..self.works.len() {
            let (at, mut work) = self.works.pop_front().expect("as many as there were");
            if now_us < at {
                self.works.push_back((at, work));
                continue;
            }
            match work.turn().unwrap_or_else(|sentence| panic!("{sentence}")) {
                Turn::Done => self.driver.push(Event::SnapshotWorked(work)),
                Turn::More => self.works.push_back((now_us, work)),
                Turn::Wait(microseconds) => self.works.push_back((now_us + microseconds, work)),
            }
        }
    }

    /// When there is something to do next, should nothing happen before (microseconds).
    fn next_us(&self) -> u64 {
        let works = self.works.iter().map(|(at, _)| *at).min();
        works.unwrap_or(u64::MAX).min(self.driver.member().next_step_us())
    }
}

/// A message on its way: to, what.
type Letter = (NodeId, PeerMessage);

/// What one member's turn leaves for the others and for itself.
struct Memory<'a> {
    log: &'a mut MemoryLog,
    works: &'a mut VecDeque<(u64, SnapshotWork)>,
    own: &'a mut Vec<Event>,
    sent: &'a mut Vec<Letter>,
}

/// A log in memory has neither a disk to fill nor one to fail.
const NO_DISK: &str = "a log in memory does not fail";

impl Io for Memory<'_> {
    fn write(&mut self, batch: LogBatch) {
        self.log.append(&batch).expect(NO_DISK);
        let (number, last) = (batch.number, batch.last);
        self.own.push(Event::LogWritten(crate::member::LogWritten { number, last }));
    }

    fn read(&mut self, read: LogRead) {
        let frames = self.log.read(&read).expect(NO_DISK);
        self.own.push(Event::LogRead { reader: read.reader, frames });
    }

    fn cut(&mut self, cut: LogCut) {
        let begins = self.log.cut(&cut).expect(NO_DISK);
        self.own.push(Event::LogBegins(begins));
    }

    fn mend(&mut self, mend: Mend) {
        let mended = self.log.mend(&mend).expect(NO_DISK);
        self.own.push(Event::Mended(mended));
    }

    fn work(&mut self, work: SnapshotWork) {
        self.works.push_back((0, work));
    }

    /// Nobody here starts again: the state is not even written, if the machine has given a view.
    fn save(&mut self, state: UnsavedState) {
        self.own.push(Event::StateSaved(StateSaved { applied: state.applied, bytes: 0 }));
    }

    fn send(&mut self, to: NodeId, message: PeerMessage) {
        self.sent.push((to, message));
    }

    fn changed(&mut self, _: Standing) {}

    fn stranger(&mut self, _: NodeId, _: u64, _: u64) {
        unreachable!("members of one process keep their incarnation")
    }

    /// Memory joins everybody, and who was removed is told by its own log.
    fn peers(&mut self, _: Peers) {}

    fn abort(&mut self, _: u64) {
        unreachable!("a log in memory does not stall")
    }

    /// The member's status says so.
    fn quarantined(&mut self, _: Quarantine) {}

    /// The leader's status says so.
    fn hashes_differ(&mut self, _: Index, _: BTreeMap<NodeId, u64>) {}
}

/// The most rounds without a look at the clients: several times what a command takes through all members,
/// and a fraction of a millisecond.
const ROUNDS_MAX: usize = 32;

/// What came of a round.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Round {
    /// Nobody had anything to do.
    Idle,
    /// Somebody had.
    Went,
    /// And a client was answered.
    Answered,
}

/// All members, with the memory that joins them.
struct Cluster<M: StateMachine> {
    places: Vec<Place<M>>,
    clock: Clock,
    sent: Vec<Letter>,
    own: Vec<Event>,
    /// How much one member's clients had asked when it was looked last.
    collected: usize,
}

impl<M: StateMachine> Cluster<M> {
    /// Takes what clients ask, or leaves word whom to wake if nobody asks anything.
    fn collect(&mut self, waker: &Waker) -> Inbox {
        let mut most = 0;
        for place in &mut self.places {
            match place.driver.collect(waker) {
                Inbox::Stopping => return Inbox::Stopping,
                Inbox::Filled => place.hears = true,
                Inbox::Empty => {}
            }
            most = most.max(place.driver.events());
        }
        if 0 < most {
            self.collected = most;
        }
        let found = if 0 < most { Inbox::Filled } else { Inbox::Empty };
        // Members that have all ended by themselves do nothing more.
        if self.places.is_empty() { Inbox::Stopping } else { found }
    }

    /// Gives every member turns until none has anything to do, or others should have the loop again:
    /// above all those who were answered. What they ask next goes to the followers together with the
    /// news of what is committed.
    fn settle(&mut self) {
        let now = self.clock.now();
        for _ in 0..ROUNDS_MAX {
            if self.round(now) != Round::Went {
                return;
            }
        }
    }

    /// Gives each member that has something to do a turn. What comes together is handled together: a
    /// leader that has heard something comes first, so that its followers hear all of it in one turn,
    /// and one whose own log alone is done comes last, with its followers' answers.
    fn round(&mut self, now: Now) -> Round {
        let leads = |place: &Place<M>| place.driver.member().raft().role() == RoleKind::Leader;
        let leader = self.places.iter().position(leads);
        let hears = |place: &Place<M>| place.hears || place.next_us() <= now.monotonic_us;
        let first = leader.filter(|leader| hears(&self.places[*leader]));
        let last = leader.filter(|_| first.is_none());
        let others = (0..self.places.len()).filter(|at| Some(*at) != leader);
        let mut round = Round::Idle;
        for at in first.into_iter().chain(others).chain(last) {
            round = round.max(self.turn(at, now));
        }
        self.places.retain(|place| place.driver.ended().is_none());
        round
    }

    /// Gives a member a turn if it has something to do, and delivers what it sends.
    fn turn(&mut self, at: usize, now: Now) -> Round {
        let place = &mut self.places[at];
        if place.driver.events() == 0 && now.monotonic_us < place.next_us() {
            return Round::Idle;
        }
        place.hears = false;
        place.work(now.monotonic_us);
        let from = place.driver.member().id();
        let (log, works) = (&mut place.log, &mut place.works);
        let (own, sent) = (&mut self.own, &mut self.sent);
        let answered = place.driver.turn(now, &mut Memory { log, works, own, sent });
        self.own.drain(..).for_each(|event| place.driver.push(event));
        for (to, message) in self.sent.drain(..) {
            let place = self.places.iter_mut().find(|place| place.driver.member().id() == to);
            // Whoever was removed and has ended hears nothing more.
            let Some(place) = place else { continue };
            place.driver.push(Event::Received { from, message });
            place.hears = true;
        }
        if answered { Round::Answered } else { Round::Went }
    }

    /// When there is something to do next, should nothing happen before (microseconds).
    fn next_us(&self) -> u64 {
        self.places.iter().map(Place::next_us).min().unwrap_or(u64::MAX)
    }

    fn run_on_this_thread(&mut self) {
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        while self.collect(&waker) != Inbox::Stopping {
            if self.round(self.clock.now()) != Round::Idle {
                continue;
            }
            let wait = self.next_us().saturating_sub(self.clock.now().monotonic_us);
            std::thread::park_timeout(Duration::from_micros(wait));
        }
    }
}
