//! The in-process runtime: all members of a cluster on one thread, joined by memory.
//!
//! For embedding where one process is enough, for tests, and for measuring the library without disk
//! and network. The members are the same stepped parts that the networked runtime drives.
//!
//! A state machine that can write its state as bytes ([`crate::Snapshots::Whole`]) has its log cut behind
//! what it has applied: nobody here starts again, so its state need not be kept. The log of one that
//! cannot grows with every command.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc;
use std::task::Waker;
use std::time::Duration;

use jangada_net::PeerMessage;
use jangada_raft::{Configuration, HardState, Index, NodeId, Position, Range, Standing};

use crate::clock::Clock;
use crate::driver::{Driver, Io};
use crate::handle::{Handle, Inbox, Unpark};
use crate::log::{Log, MemoryLog};
use crate::machine::StateMachine;
use crate::member::{
    Event, FEATURE_LEVEL, LogBatch, LogCut, LogRead, Member, MemberStart, Mend, Options, Peers,
    Quarantine, SnapshotWork, StartError,
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
        mut machine: impl FnMut(NodeId) -> M,
    ) -> Result<LocalCluster<M>, StartError> {
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
            places.push(Place { driver, log: MemoryLog::default(), works });
            handles.push(handle);
        }
        let thread = std::thread::Builder::new()
            .name("jangada-local".into())
            .spawn(move || run(places, &clock))
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

struct Place<M: StateMachine> {
    driver: Driver<M>,
    log: MemoryLog,
    /// Work on snapshots that is under way, and from when on it goes on (microseconds).
    works: VecDeque<(u64, SnapshotWork)>,
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

/// What one member's turn leaves for the others and for itself.
struct Memory<'a> {
    log: &'a mut MemoryLog,
    works: &'a mut VecDeque<(u64, SnapshotWork)>,
    own: Vec<Event>,
    sent: mpsc::Sender<(NodeId, NodeId, PeerMessage)>,
    from: NodeId,
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
        let sent = self.sent.send((self.from, to, message));
        sent.expect("the receiver lives as long as the loop");
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

fn run<M: StateMachine>(mut places: Vec<Place<M>>, clock: &Clock) {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let (sender, sent) = mpsc::channel();
    loop {
        let mut idle = true;
        for place in &mut places {
            if place.driver.collect(&waker) == Inbox::Stopping {
                return;
            }
            let now = clock.now();
            if !place.driver.has_events() && now.monotonic_us < place.next_us() {
                continue;
            }
            idle = false;
            place.work(now.monotonic_us);
            let from = place.driver.member().id();
            let (log, works) = (&mut place.log, &mut place.works);
            let mut io = Memory { log, works, own: Vec::new(), sent: sender.clone(), from };
            place.driver.turn(now, &mut io);
            io.own.into_iter().for_each(|event| place.driver.push(event));
        }
        while let Ok((from, to, message)) = sent.try_recv() {
            let place = places.iter_mut().find(|place| place.driver.member().id() == to);
            // Whoever was removed and has ended hears nothing more.
            let Some(place) = place else { continue };
            place.driver.push(Event::Received { from, message });
            idle = false;
        }
        places.retain(|place| place.driver.ended().is_none());
        if idle {
            let next = places.iter().map(Place::next_us).min();
            let now = clock.now().monotonic_us;
            let wait = next.map_or(0, |next| next.saturating_sub(now));
            std::thread::park_timeout(Duration::from_micros(wait));
        }
    }
}
