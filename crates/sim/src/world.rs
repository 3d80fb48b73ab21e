//! The simulated world: members as they ship, on simulated disks and a simulated network, stepped
//! one event at a time on one thread.
//!
//! Responsible for carrying out what members ask and for handing them what happens, for the lives
//! and deaths of their processes (`seat.rs`), and for putting every fact before the
//! [`Invariants`]. What goes wrong and when is `chaos.rs`' business; what clients ask is the
//! caller's.
//!
//! 1. Nothing happens but by an event of the queue, so the queue's order is the run's order.
//! 2. Every event that reaches a member and every effect it has enters the trace.
//! 3. Whatever is open is decided by [`Choices`].

pub mod dice;
pub mod net;
pub mod programs;
pub mod queue;
pub mod topology;

pub(crate) mod chaos;
pub(crate) mod clocks;
pub(crate) mod fingerprint;
pub(crate) mod liveness;
pub(crate) mod operator;
pub(crate) mod seat;
pub(crate) mod sick;
pub(crate) mod watch;

use std::collections::{BTreeMap, VecDeque};
use std::hash::Hash;

use bytes::Bytes;
use jangada::{
    ConsultError, Consultation, Effect, Event, Mended, ProposeError, ReadBatch, StateMachine,
    Status, Ticket, TurnedAway,
};
use jangada_entry::{Draft, Kind, Origin};
use jangada_net::{Lane, PeerMessage};
use jangada_raft::{Index, NodeId, Position, RoleKind};

use crate::application::{Application, Witness, let_err, take};
use crate::bounds::Bounds;
use crate::choices::Choices;
use crate::disk::SimDisk;
use crate::disk::ledger::{Damage, Ledger, RotCounts};
use crate::disk::rot::Aim;
use crate::faults::{Fault, FaultCounts, FaultRates};
use crate::invariants::{AppliedCommand, Invariants, Violation};
use crate::run::panics::caught;
use crate::run::timeline::{Timeline, Who};
use crate::run::trace::Trace;
use crate::world::dice::{Dice, Suppressed};
use crate::world::liveness::{Calm, LeftOut};
use crate::world::net::{Ending, NetworkEvent, Notice, Repeat, SimNetwork, Weather};
use crate::world::operator::Operator;
use crate::world::programs::Program;
use crate::world::queue::Queue;
use crate::world::seat::Origin::Founds;
use crate::world::seat::{Job, LogOutcome, Running, Seat, Upset};
use crate::world::sick::WriteUnderWay;
use crate::world::topology::Topology;
use crate::world::watch::LOOK_PERIOD_US;

/// How often it is drawn whether something goes wrong, in microseconds.
pub const FAULT_PERIOD: u64 = 100_000;

/// How long a member takes from an event to its step, in microseconds; what comes in between is
/// stepped together.
const STEP_US: (u64, u64) = (1, 60);

/// How late a timer can fire, in microseconds.
const TIMER_LATE_US: (u64, u64) = (0, 1_000);

/// How long a sync takes, in microseconds.
const SYNC_US: (u64, u64) = (100, 2_000);

/// How long a slow sync takes, in microseconds.
const SYNC_SLOW_US: (u64, u64) = (10_000, 1_500_000);

/// How long reading back from the log takes, in microseconds.
const READ_US: (u64, u64) = (20, 500);

/// How long the machine's worker takes for a piece of its work, in microseconds.
const WORK_US: u64 = 1_000;

/// How long a segment takes to prepare, in microseconds.
const PREPARE_US: (u64, u64) = (1_000, 50_000);

/// How often it is looked whether a process stands still no more, in microseconds.
const PAUSE_LOOK_US: u64 = 100_000;

/// How long the log waits before it tries a full disk again, in microseconds.
const FULL_RETRY_US: u64 = 100_000;

/// What is simulated.
#[derive(Clone, Debug)]
pub struct WorldOptions {
    /// How many members there are.
    pub members: u64,
    /// How often what goes wrong.
    pub rates: FaultRates,
    /// Which occurrences of faults are left out, to make a failing run smaller.
    pub suppressed: Suppressed,
    /// The members' bounds and intervals.
    pub member: jangada::Options,
    /// The versions of the program that processes are of; empty for one alone.
    pub programs: Vec<Program>,
    /// How many of the newest lines of the trace are kept as text.
    pub lines_max: usize,
}

impl Default for WorldOptions {
    fn default() -> WorldOptions {
        WorldOptions {
            members: 3,
            rates: FaultRates::none(),
            suppressed: Suppressed::new(),
            member: jangada::Options::default(),
            programs: Vec::new(),
            lines_max: 0,
        }
    }
}

/// What happened that concerns clients.
#[derive(Debug)]
pub enum Happened<R> {
    /// A proposal was applied where it was made.
    Replied {
        /// The proposal.
        origin: Origin,
        /// The state machine's answer.
        reply: R,
    },
    /// A proposal was not taken.
    Refused {
        /// The proposal.
        origin: Origin,
        /// Why.
        reason: ProposeError,
    },
    /// Proposals of this process up to this number that are not answered may or may not happen.
    Doubtful {
        /// The proposals' process.
        process: u64,
        /// The highest number concerned.
        sequence_max: u64,
    },
    /// A read may run on this member, now.
    ReadReady {
        /// The member.
        member: NodeId,
        /// The read.
        batch: ReadBatch,
    },
    /// A read was given up.
    ReadExpired {
        /// The member.
        member: NodeId,
        /// The read.
        batch: ReadBatch,
    },
    /// A process of the leader's is asked something by a member's application.
    Consulted {
        /// The leader's process.
        process: u64,
        /// What is asked.
        asked: Consultation,
    },
    /// What a process asked of the leader's application is answered.
    Counselled {
        /// The process that has asked.
        process: u64,
        /// Its question.
        ticket: Ticket,
        /// The answer.
        outcome: Result<Bytes, ConsultError>,
    },
    /// A process of this member begins.
    Started {
        /// The member.
        member: NodeId,
    },
    /// A member's process has ended; whatever was asked of it gets no answer.
    Ended {
        /// The member.
        member: NodeId,
        /// The process.
        process: u64,
    },
    /// A timer that the caller has set.
    Timer(u64),
}

/// Something that happens later.
#[derive(Debug)]
pub(crate) enum Later {
    Network(NetworkEvent<PeerMessage>),
    Step {
        member: NodeId,
        life: u64,
        at_us: u64,
    },
    LogDone {
        member: NodeId,
        life: u64,
    },
    Prepared {
        member: NodeId,
        life: u64,
    },
    Work {
        member: NodeId,
        life: u64,
        at_us: u64,
    },
    Start(NodeId),
    Chaos,
    Look,
    Heal,
    /// A keeper ends a process whose disk hangs.
    Keeper {
        member: NodeId,
        life: u64,
    },
    /// Somebody starts a quarantined process anew.
    Anew {
        member: NodeId,
        life: u64,
    },
    Freed(NodeId),
    Timer(u64),
}

/// The world.
pub struct World<A: Application> {
    pub(crate) application: A,
    pub(crate) options: WorldOptions,
    pub(crate) choices: Choices,
    pub(crate) dice: Dice,
    pub(crate) counts: FaultCounts,
    pub(crate) queue: Queue<Later>,
    pub(crate) network: SimNetwork<PeerMessage>,
    pub(crate) seats: BTreeMap<NodeId, Seat<A>>,
    pub(crate) invariants: Invariants,
    pub(crate) bounds: Bounds,
    pub(crate) calm: Calm,
    pub(crate) trace: Trace,
    pub(crate) timeline: Timeline,
    pub(crate) ledger: Ledger,
    pub(crate) operator: Operator,
    happened: VecDeque<Happened<<A::Machine as StateMachine>::Reply>>,
    /// The commands that were new when a member applied them, if somebody takes them.
    new_commands: Option<VecDeque<AppliedCommand>>,
    /// The highest index that any member has applied.
    applied_max: Index,
}

/// How a process ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Death {
    Killed,
    PowerLost,
}

/// What may be said twice without harm (network rule 4). A forwarded proposal said twice would be
/// two proposals.
fn repeat_of(message: &PeerMessage) -> Repeat {
    match message {
        PeerMessage::Forward(_)
        | PeerMessage::ForwardRefused { .. }
        | PeerMessage::Ask { .. }
        | PeerMessage::Answer { .. }
        | PeerMessage::Consult { .. }
        | PeerMessage::Counsel { .. } => Repeat::Forbidden,
        PeerMessage::Raft(_)
        | PeerMessage::Append { .. }
        | PeerMessage::Snapshot(_)
        | PeerMessage::FramesRequest { .. }
        | PeerMessage::FramesResponse { .. }
        | PeerMessage::ReadIndexRequest { .. }
        | PeerMessage::ReadIndexResponse { .. }
        | PeerMessage::HashQuestion { .. }
        | PeerMessage::HashAnswer { .. }
        | PeerMessage::HashDiffers { .. } => Repeat::Allowed,
    }
}

impl<A: Application> World<A> {
    /// A world whose members all start at about time 0.
    #[must_use]
    pub fn new(application: A, options: WorldOptions, choices: Choices) -> World<A> {
        let ids: Vec<NodeId> = (1..=options.members).map(NodeId).collect();
        let held_bytes_max = options.member.held_bytes_max;
        let ledger = Ledger::new(&ids);
        let mut world = World {
            application,
            trace: Trace::new(options.lines_max),
            timeline: Timeline::new(0 < options.lines_max),
            dice: Dice::new(options.rates.clone(), options.suppressed.clone(), &choices),
            options,
            choices,
            counts: FaultCounts::default(),
            queue: Queue::new(),
            network: SimNetwork::new(&ids),
            seats: ids.iter().map(|id| (*id, Seat::new(*id, Founds))).collect(),
            invariants: Invariants::of(&ids),
            bounds: Bounds::new(held_bytes_max),
            calm: Calm::default(),
            ledger,
            operator: Operator::default(),
            happened: VecDeque::new(),
            new_commands: None,
            applied_max: Index(0),
        };
        for id in ids {
            let at = world.choices.between(0, 50_000);
            world.queue.push(at, Later::Start(id));
        }
        world.queue.push(FAULT_PERIOD, Later::Chaos);
        world.queue.push(LOOK_PERIOD_US, Later::Look);
        world
    }

    /// The simulated time in microseconds.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        self.queue.now_us()
    }

    /// Everything that happened, as a hash and as the newest lines.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// What happened, in words; empty unless lines are kept.
    #[must_use]
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// Adds a line to the timeline, if it is kept.
    pub fn tell(&mut self, who: Who, what: std::fmt::Arguments<'_>) {
        self.timeline.tell(self.queue.now_us(), who, what);
    }

    /// A command in words.
    #[must_use]
    pub fn describe_command(&self, command: &[u8]) -> String {
        self.application.describe(command)
    }

    /// How often what has gone wrong.
    #[must_use]
    pub fn counts(&self) -> &FaultCounts {
        &self.counts
    }

    /// How many occurrences of each fault were drawn, those left out among them.
    #[must_use]
    pub fn struck(&self) -> &FaultCounts {
        self.dice.struck()
    }

    /// What queues, windows and buffers held at most.
    #[must_use]
    pub fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// What became of damage to members' files.
    #[must_use]
    pub fn rot(&self) -> RotCounts {
        self.ledger.counts()
    }

    /// What the members' disks have damaged.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What has been seen and found in order.
    #[must_use]
    pub fn invariants(&self) -> &Invariants {
        &self.invariants
    }

    /// Where the caller's decisions come from, too, so that one seed decides all.
    pub fn choices(&mut self) -> &mut Choices {
        &mut self.choices
    }

    /// The members, those that are about to join and those that were removed and run on among them.
    #[must_use]
    pub fn members(&self) -> Vec<NodeId> {
        self.seats.values().filter(|seat| !seat.gone).map(|seat| seat.id).collect()
    }

    /// The members that the cluster began with.
    pub(crate) fn founders(&self) -> Vec<NodeId> {
        (1..=self.options.members).map(NodeId).collect()
    }

    /// The members that are expected to be there and up to date in the end: those that have not
    /// refused a damaged log and are not left out of the calm.
    #[must_use]
    pub fn standing_members(&self) -> Vec<NodeId> {
        self.seats.values().filter(|seat| self.counts_on(seat)).map(|seat| seat.id).collect()
    }

    /// A member's disk.
    #[must_use]
    pub fn disk(&self, member: NodeId) -> &SimDisk {
        &self.seats[&member].disk
    }

    /// The state machine of a member whose process lives, unless it is astray: nothing that it shows
    /// counts.
    #[must_use]
    pub fn machine(&self, member: NodeId) -> Option<&A::Machine> {
        if self.is_astray(member) { None } else { self.machine_itself(member) }
    }

    /// The same, whatever it shows.
    pub(crate) fn machine_itself(&self, member: NodeId) -> Option<&A::Machine> {
        let running = self.seats[&member].running.as_ref()?;
        Some(running.member.machine().machine())
    }

    /// How a member whose process lives stands.
    #[must_use]
    pub fn status(&self, member: NodeId) -> Option<Status> {
        Some(self.seats[&member].running.as_ref()?.member.status())
    }

    /// Lets a client of a member propose a command; `None` if the process does not live.
    pub fn propose(&mut self, member: NodeId, command: &[u8], version: u16) -> Option<Origin> {
        let seat = self.seats.get_mut(&member).expect("there is such a member");
        let running = seat.running.as_mut()?;
        running.sequence += 1;
        let origin = Origin { incarnation: running.process, sequence: running.sequence };
        let mut buffer = Draft::buffer(command.len());
        buffer.extend_from_slice(command);
        let draft = Draft::new(buffer, Kind::Command, version, 0, origin);
        self.deliver(member, Event::Propose(draft));
        Some(origin)
    }

    /// Lets a client of a member wait for a linearizable read; `None` if the process does not live.
    pub fn read(&mut self, member: NodeId) -> Option<ReadBatch> {
        let seat = self.seats.get_mut(&member).expect("there is such a member");
        let running = seat.running.as_mut()?;
        running.batch += 1;
        let batch = ReadBatch(running.batch);
        self.deliver(member, Event::Read(batch));
        Some(batch)
    }

    /// Hands a member what its clients ask, as its runtime does: for callers that keep the waiters of
    /// its process themselves. It is lost if the process does not live.
    pub fn submit(&mut self, member: NodeId, event: Event) {
        self.deliver(member, event);
    }

    /// The process of a member, if it lives: never the same number twice.
    #[must_use]
    pub fn process(&self, member: NodeId) -> Option<u64> {
        Some(self.seats[&member].running.as_ref()?.process)
    }

    /// Whether two members live and reach each other.
    #[must_use]
    pub fn are_connected(&self, one: NodeId, other: NodeId) -> bool {
        let lives = |member: NodeId| self.process(member).is_some();
        let reaches = self.network.reaches(one, other) && self.network.reaches(other, one);
        lives(one) && lives(other) && reaches
    }

    /// Whether a member's process stands still at the moment.
    #[must_use]
    pub fn is_paused(&self, member: NodeId) -> bool {
        self.now_us() < self.seats[&member].paused_until_us
    }

    /// What the own clock of a member shows, in microseconds: it runs at its own pace, from anywhere,
    /// and never back while a process lives.
    #[must_use]
    pub fn own_clock_us(&self, member: NodeId) -> u64 {
        self.seats[&member].clocks.now(self.now_us()).monotonic_us
    }

    /// The simulated time at which the own clock of a member shows this, if its pace stays.
    #[must_use]
    pub fn when_own_clock(&self, member: NodeId, own_us: u64) -> u64 {
        self.seats[&member].clocks.when(own_us, self.now_us())
    }

    /// From here on [`World::new_command`] tells what is applied.
    pub fn watch_commands(&mut self) {
        self.new_commands.get_or_insert_default();
    }

    /// The next command in the log's order that some member has applied.
    pub fn new_command(&mut self) -> Option<AppliedCommand> {
        self.new_commands.as_mut()?.pop_front()
    }

    /// Sets a timer of the caller's.
    pub fn set_timer(&mut self, after_us: u64, token: u64) {
        self.queue.push(self.now_us() + after_us, Later::Timer(token));
    }

    /// Lets one event happen, if one is due by `end_us`; false if none is.
    ///
    /// # Errors
    /// The first invariant that does not hold.
    pub fn advance(&mut self, end_us: u64) -> Result<bool, Violation> {
        let Some(later) = self.queue.pop_until(end_us) else { return Ok(false) };
        match later {
            Later::Network(event) => self.network_event(event),
            Later::Step { member, life, at_us } => self.step(member, life, at_us)?,
            Later::LogDone { member, life } => self.log_done(member, life)?,
            Later::Prepared { member, life } => self.prepared(member, life)?,
            Later::Work { member, life, at_us } => self.work(member, life, at_us)?,
            Later::Start(member) => self.start(member)?,
            Later::Chaos => self.chaos(),
            Later::Look => self.look_at_all()?,
            Later::Heal => self.heal(),
            Later::Keeper { member, life } => self.keeper(member, life),
            Later::Anew { member, life } => {
                if self.seats[&member].life == life {
                    self.end(member, Death::Killed);
                }
            }
            Later::Freed(member) => self.seats[&member].disk.set_capacity(None),
            Later::Timer(token) => self.happened.push_back(Happened::Timer(token)),
        }
        self.timeline.counts(self.queue.now_us(), &self.counts);
        Ok(true)
    }

    /// What happened that concerns clients, in order.
    pub fn happened(&mut self) -> Option<Happened<<A::Machine as StateMachine>::Reply>> {
        self.happened.pop_front()
    }

    /// Nothing goes wrong from here on, and what is broken is mended.
    pub fn calm(&mut self) {
        self.note(format_args!("calm"));
        self.tell(Who::World, format_args!("no more faults; everything is mended"));
        self.dice.rest();
        self.network.heal();
        self.network.hasten();
        for member in self.members() {
            self.count_struck(member);
            let now_us = self.now_us();
            let seat = self.seats.get_mut(&member).expect("listed");
            seat.paused_until_us = seat.paused_until_us.min(now_us);
            if let Some(stall) = &mut seat.stall {
                stall.until_us = stall.until_us.min(now_us);
            }
            if let Some(running) = &seat.running {
                let_err(&running.seen, false);
            }
            self.ledger.never_erred(member);
            seat.disk.set_capacity(None);
            seat.disk.die_never();
            self.step_by(member, now_us);
        }
        self.leave_out_some();
    }

    /// Gives the network this shape, in place of whatever was cut, until it [heals](World::heal).
    pub fn shape(&mut self, topology: &Topology) {
        self.note(format_args!("the network: {topology}"));
        self.tell(Who::World, format_args!("the network is cut: {topology}"));
        self.network.heal();
        for (from, to) in topology.cut(&self.members()) {
            self.network.cut(from, to);
        }
    }

    /// Everything passes everywhere again.
    pub fn heal(&mut self) {
        self.note(format_args!("the network heals"));
        self.tell(Who::World, format_args!("the network heals"));
        self.network.heal();
        self.cut_off_left_out();
    }

    /// Whether all [standing](World::standing_members) members live, follow one leader, and have
    /// applied and written all there is.
    #[must_use]
    pub fn has_settled(&self) -> bool {
        let mut leaders = 0;
        let mut indexes = Vec::new();
        for seat in self.seats.values().filter(|seat| self.counts_on(seat)) {
            let Some(running) = &seat.running else { return false };
            let status = running.member.status();
            leaders += usize::from(status.standing.role == RoleKind::Leader);
            if !running.member.is_idle() || running.is_busy() || status.standing.leader.is_none() {
                return false;
            }
            // All restarted at once, members agree for a moment on a log of which nothing is
            // known to be committed.
            if status.commit != status.last || status.record.applied.index != status.last {
                return false;
            }
            if status.quarantine.is_some() || self.is_astray(seat.id) {
                return false;
            }
            if status.configuration.is_joint() || !status.configuration.target.is_empty() {
                return false;
            }
            indexes.push(status.record.applied);
        }
        leaders == 1 && indexes.windows(2).all(|pair| pair[0] == pair[1])
    }

    /// How every member stands, for a report.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut lines = String::new();
        for (member, seat) in &self.seats {
            let state = match &seat.running {
                Some(running) => {
                    format!("{:?}, busy: {}", running.member.status(), running.is_busy())
                }
                None if self.calm.leaves_out(*member) == Some(LeftOut::Down) => {
                    "down, and left so".to_owned()
                }
                None if seat.refused => "down for good: its log is damaged".to_owned(),
                None => "down".to_owned(),
            };
            lines.push_str(&format!("  member {member}: {state}\n"));
        }
        lines
    }

    fn counts_on(&self, seat: &Seat<A>) -> bool {
        let members = self.invariants.configuration();
        let is_member = members.is_none_or(|members| members.members().any(|id| id == seat.id));
        is_member && !seat.refused && !seat.gone && self.calm.leaves_out(seat.id).is_none()
    }

    /// Whether a member's disk may be damaged, or its machine err: whoever is to decide, now or once a
    /// change that was asked for is made, a minority of them is struck at most. A server that is to
    /// decide once it has caught up is not struck before: nobody waits for one that stays down.
    pub(crate) fn may_strike(&self, member: NodeId) -> bool {
        let decides = self.invariants.configuration().is_none_or(|members| {
            members.voters.contains(&member) || members.outgoing.contains(&member)
        });
        let may = decides || !self.ledger.is_to_decide(member) || self.ledger.is_struck(member);
        may && self.ledger.may_strike(member)
    }

    // ---- helpers of the world's other files ----

    pub(crate) fn note(&mut self, event: std::fmt::Arguments<'_>) {
        let now_us = self.queue.now_us();
        self.trace.note(format_args!("{now_us} {event}"));
    }

    /// Lets the network do something, and takes what it leaves for later.
    pub(crate) fn with_network<T>(
        &mut self,
        act: impl FnOnce(&mut SimNetwork<PeerMessage>, &mut Weather<'_>) -> T,
    ) -> T {
        let mut weather = Weather {
            now_us: self.queue.now_us(),
            choices: &mut self.choices,
            dice: &mut self.dice,
            counts: &mut self.counts,
        };
        let result = act(&mut self.network, &mut weather);
        for (at_us, event) in self.network.later.drain(..) {
            self.queue.push(at_us, Later::Network(event));
        }
        result
    }

    /// A process ends, and starts again after a while.
    pub(crate) fn end(&mut self, member: NodeId, death: Death) {
        let seat = self.seats.get_mut(&member).expect("there is such a member");
        let Some(running) = seat.running.take() else { return };
        self.note(format_args!("{member} ends: {death:?}"));
        self.tell_end(member, death, &running);
        let seat = self.seats.get_mut(&member).expect("there is such a member");
        // The disk goes first: nothing that the process does while it is taken apart counts.
        let ending = match death {
            Death::Killed => {
                seat.disk.kill_process();
                Ending::Refused
            }
            Death::PowerLost => {
                self.lose_power(member);
                Ending::Silent
            }
        };
        let seat = self.seats.get_mut(&member).expect("there is such a member");
        seat.life += 1;
        seat.step_at_us = None;
        seat.work_at_us = None;
        seat.guests.clear();
        seat.write = None;
        let process = running.process;
        drop(running);
        self.ledger.never_erred(member);
        self.count_struck(member);
        self.with_network(|network, weather| network.ended(weather, member, ending));
        self.happened.push_back(Happened::Ended { member, process });
        let down_us = match self.choices.below(3) {
            0 => self.choices.between(1_000, 20_000),
            1 => self.choices.between(20_000, 500_000),
            _ => self.choices.between(500_000, 5_000_000),
        };
        self.queue.push(self.now_us() + down_us, Later::Start(member));
    }

    fn tell_end(&mut self, member: NodeId, death: Death, running: &Running<A>) {
        self.timeline.ended(member);
        let what = match death {
            Death::Killed => "is killed",
            Death::PowerLost => "loses power",
        };
        let who = Who::Member(member);
        match running.jobs.front().filter(|_| running.working) {
            Some(Job::Write(batch)) => {
                let Position { index, term } = batch.last;
                self.tell(who, format_args!("{what} while writing up to #{index} of term {term}"));
            }
            _ => self.tell(who, format_args!("{what}")),
        }
    }

    /// The power of a member's machine goes.
    fn lose_power(&mut self, member: NodeId) {
        let may = self.may_strike(member);
        let World { seats, dice, choices, .. } = self;
        let strikes = &mut |fault: Fault, choices: &mut Choices| {
            dice.strikes(fault, choices) && (may || !fault.damages())
        };
        seats[&member].disk.lose_power(choices, strikes);
        self.count_struck(member);
    }

    /// Counts what a member's disk has made go wrong.
    pub(crate) fn count_struck(&mut self, member: NodeId) {
        let disk = &self.seats[&member].disk;
        let (struck, damaged) = (disk.take_struck(), disk.take_damaged());
        for fault in struck {
            self.counts.count(fault);
        }
        for place in damaged {
            self.damaged(member, Damage::at(place));
        }
    }

    /// A member's disk has been damaged.
    pub(crate) fn damaged(&mut self, member: NodeId, damage: Damage) {
        self.note(format_args!("{member}'s disk is damaged, {damage}"));
        self.tell(Who::Member(member), format_args!("has a damaged disk: {damage}"));
        self.ledger.enter(member, damage);
    }

    /// A keeper gives up on a process whose disk hangs.
    fn keeper(&mut self, member: NodeId, life: u64) {
        let seat = &self.seats[&member];
        if seat.life == life && seat.held_up_until(self.now_us()).is_some() {
            self.end(member, Death::Killed);
        }
    }

    // ---- what happens ----

    fn network_event(&mut self, event: NetworkEvent<PeerMessage>) {
        match event {
            NetworkEvent::Arrive(packet) => {
                if self.with_network(|network, weather| network.arrives(weather, &packet)) {
                    let event = Event::Received { from: packet.from, message: packet.message };
                    self.deliver(packet.to, event);
                }
            }
            NetworkEvent::Reconnect { from, to, lane, epoch } => {
                let way = (from, to, lane);
                if self.is_turned_away(from, to) {
                    self.with_network(|network, weather| network.turned_away(weather, way, epoch));
                    let reason = TurnedAway::Removed;
                    self.deliver(from, Event::TurnedAway { by: to, reason });
                    return;
                }
                let notices =
                    self.with_network(|network, weather| network.reconnect(weather, way, epoch));
                for notice in notices {
                    self.notice(from, to, notice);
                }
            }
        }
    }

    fn notice(&mut self, member: NodeId, peer: NodeId, notice: Notice) {
        match notice {
            Notice::LaneLost(Lane::Snapshots) => self.deliver(member, Event::SnapshotsLost(peer)),
            Notice::LaneLost(_) => self.deliver(member, Event::LaneLost(peer)),
            Notice::PeerDown => self.deliver(member, Event::PeerDown(peer)),
            Notice::PeerUp => self.deliver(member, Event::PeerUp(peer)),
            Notice::Connected(_) => {
                self.meets_guest(peer, member);
                for (one, other) in [(member, peer), (peer, member)] {
                    let seat = &self.seats[&other];
                    let (incarnation, level) = (seat.incarnation, seat.program.level);
                    self.deliver(one, Event::Hello { peer: other, incarnation, level });
                }
            }
        }
    }

    /// Hands a member an event; it is stepped soon.
    fn deliver(&mut self, member: NodeId, event: Event) {
        let seat = self.seats.get_mut(&member).expect("there is such a member");
        let Some(running) = seat.running.as_mut() else { return };
        let now_us = self.queue.now_us();
        self.trace.chain(
            |into| {
                (now_us, member).hash(into);
                fingerprint::event(&event, into);
            },
            format_args!("{now_us} {member} <- {event:?}"),
        );
        if let Event::Propose(draft) = &event {
            let describe = || self.application.describe(draft.payload());
            self.timeline.asked(now_us, draft.origin(), describe);
        }
        running.inbox.push(event);
        let after = self.choices.between(STEP_US.0, STEP_US.1);
        self.step_by(member, now_us + after);
    }

    /// Lets a member step at this time or earlier, but not while it is paused.
    fn step_by(&mut self, member: NodeId, at_us: u64) {
        let seat = self.seats.get_mut(&member).expect("there is such a member");
        let at_us = at_us.max(seat.paused_until_us).max(self.queue.now_us());
        if seat.step_at_us.is_some_and(|known| known <= at_us) {
            return;
        }
        seat.step_at_us = Some(at_us);
        let life = seat.life;
        self.queue.push(at_us, Later::Step { member, life, at_us });
    }

    fn step(&mut self, member: NodeId, life: u64, at_us: u64) -> Result<(), Violation> {
        let seat = self.seats.get_mut(&member).expect("there is such a member");
        if seat.life != life || seat.step_at_us != Some(at_us) {
            return Ok(());
        }
        seat.step_at_us = None;
        if at_us < seat.paused_until_us {
            let until = seat.paused_until_us;
            self.step_by(member, until);
            return Ok(());
        }
        let now = seat.clocks.now(self.queue.now_us());
        let Some(running) = seat.running.as_mut() else { return Ok(()) };
        let mut effects = std::mem::take(&mut running.effects);
        self.bounds.arrives(&running.inbox);
        let stepped = caught(|| running.member.step(now, &mut running.inbox, &mut effects));
        if let Err(panic) = stepped {
            return self.stops_for_good(member, panic);
        }
        let sight = take(&running.seen);
        self.look_at_members(member);
        if sight.erred {
            self.goes_astray(member);
        }
        let astray = self.is_astray(member);
        for command in sight.commands {
            self.invariants.applies(member, command, astray)?;
            if self.applied_max < command.position.index {
                self.applied_max = command.position.index;
                self.new_commands.iter_mut().for_each(|commands| commands.push_back(command));
            }
        }
        for effect in effects.drain(..) {
            // A member that ends by itself has said all that it has to say before.
            if self.seats[&member].running.is_none() {
                break;
            }
            self.effect(member, effect)?;
        }
        let Some(running) = self.seats.get_mut(&member).and_then(|seat| seat.running.as_mut())
        else {
            return Ok(());
        };
        running.effects = effects;
        let next_us = running.member.next_step_us();
        let next_us = self.seats[&member].clocks.when(next_us, self.queue.now_us());
        self.work_by(member, self.queue.now_us() + WORK_US);
        self.look(member)?;
        self.start_job(member);
        let late = self.choices.between(TIMER_LATE_US.0, TIMER_LATE_US.1);
        self.step_by(member, next_us + late);
        Ok(())
    }

    fn effect(
        &mut self,
        member: NodeId,
        effect: Effect<<A::Machine as StateMachine>::Reply>,
    ) -> Result<(), Violation> {
        let now_us = self.queue.now_us();
        self.trace.chain(
            |into| {
                (now_us, member).hash(into);
                fingerprint::effect(&effect, into);
            },
            format_args!("{now_us} {member} -> {effect:?}"),
        );
        let seat = self.seats.get_mut(&member).expect("there is such a member");
        let running = seat.running.as_mut().expect("it has just been stepped");
        let process = running.process;
        match effect {
            Effect::Write(batch) => {
                self.operator.deeds.snapshots += u64::from(batch.anew.is_some());
                running.jobs.push_back(Job::Write(batch));
            }
            Effect::Read(read) => running.jobs.push_back(Job::Read(read)),
            Effect::Cut(cut) => running.jobs.push_back(Job::Cut(cut)),
            Effect::Mend(mend) => running.jobs.push_back(Job::Mend(mend)),
            Effect::SnapshotWork(work) => {
                self.works_astray(member, &work)?;
                let seat = self.seats.get_mut(&member).expect("there is such a member");
                if let Some(running) = seat.running.as_mut() {
                    running.jobs.push_back(Job::Snapshot(work));
                }
            }
            Effect::SaveState(state) => running.jobs.push_back(Job::Save(state.write())),
            Effect::Send { to, message } => {
                if let PeerMessage::Raft(message) = &message {
                    self.invariants.says(member, to, message)?;
                }
                let way = (member, to, message.lane());
                let repeat = repeat_of(&message);
                let message = self.carried(member, to, message);
                self.with_network(|network, weather| network.send(weather, way, message, repeat));
            }
            Effect::Reply { sequence, reply } => {
                let origin = Origin { incarnation: process, sequence };
                self.timeline.answered(now_us, member, origin, format_args!("{reply:?}"));
                self.invariants.acknowledged(origin)?;
                // It happened; what the machine says came of it counts for nothing.
                let reason = ProposeError::InDoubt;
                self.happened.push_back(match self.is_astray(member) {
                    true => Happened::Refused { origin, reason },
                    false => Happened::Replied { origin, reply },
                });
            }
            Effect::Refuse { sequence, reason } => {
                let origin = Origin { incarnation: process, sequence };
                self.timeline.answered(now_us, member, origin, format_args!("refused: {reason}"));
                if !matches!(reason, ProposeError::InDoubt | ProposeError::Stopped) {
                    self.invariants.refused(origin)?;
                }
                self.happened.push_back(Happened::Refused { origin, reason });
            }
            Effect::Doubt { sequence_max } => {
                self.happened.push_back(Happened::Doubtful { process, sequence_max });
            }
            Effect::ReadReady(batch) if self.is_astray(member) => {
                self.happened.push_back(Happened::ReadExpired { member, batch });
            }
            Effect::ReadReady(batch) => {
                self.happened.push_back(Happened::ReadReady { member, batch });
            }
            Effect::ReadExpired(batch) | Effect::ReadRefused(batch) => {
                self.happened.push_back(Happened::ReadExpired { member, batch });
            }
            Effect::Peers(peers) => self.follows(member, &peers),
            Effect::ChangeAnswered { outcome, .. } => self.change_answered(member, &outcome),
            Effect::TransferAnswered { outcome, .. } => self.transfer_answered(member, &outcome),
            Effect::Ends(ended) => self.goes(member, ended)?,
            // Nobody waits for it: processes end without a word here.
            Effect::Changed(_) | Effect::HandedOver => {}
            Effect::Consulted(asked) => {
                self.happened.push_back(Happened::Consulted { process, asked });
            }
            Effect::Counselled { ticket, outcome } => {
                self.happened.push_back(Happened::Counselled { process, ticket, outcome });
            }
            Effect::Abort { stalled_us } => self.aborts(member, stalled_us)?,
            Effect::Quarantined(quarantine) => self.quarantined(member, quarantine)?,
            Effect::HashesDiffer { index, hashes } => self.hashes_differ(index, &hashes)?,
            Effect::Stranger { peer, met, shown } => {
                return Err(Violation {
                    invariant: "a peer keeps its incarnation",
                    seen: format!("{member} met {peer} as {met:x} and is shown {shown:x}"),
                });
            }
        }
        Ok(())
    }

    // ---- the log ----

    /// Begins the log's next job, if it waits for none.
    fn start_job(&mut self, member: NodeId) {
        let seat = self.seats.get_mut(&member).expect("there is such a member");
        let Some(running) = seat.running.as_mut() else { return };
        if running.working {
            return;
        }
        let Some(job) = running.jobs.front() else { return };
        let mut range = READ_US;
        if let Job::Write(batch) = job {
            let since_us = self.queue.now_us();
            let shown_us = seat.clocks.now(since_us).monotonic_us;
            let led = running.member.status().standing.role == RoleKind::Leader;
            seat.write = Some(WriteUnderWay { since_us, shown_us, led });
            self.invariants.writes(member, batch.into());
            range = SYNC_US;
            if self.dice.strikes(Fault::SyncSlow, &mut self.choices) {
                self.counts.count(Fault::SyncSlow);
                range = SYNC_SLOW_US;
            }
        }
        running.working = true;
        let life = seat.life;
        let after = self.choices.between(range.0, range.1);
        let at_us = self.queue.now_us() + after;
        self.queue.push(at_us, Later::LogDone { member, life });
    }

    fn log_done(&mut self, member: NodeId, life: u64) -> Result<(), Violation> {
        let now_us = self.queue.now_us();
        let seat = self.seats.get_mut(&member).expect("there is such a member");
        if seat.life != life {
            return Ok(());
        }
        if now_us < seat.paused_until_us {
            // Looked at now and then, since the calm ends a pause before its time.
            let until_us = seat.paused_until_us.min(now_us + PAUSE_LOOK_US);
            self.queue.push(until_us, Later::LogDone { member, life });
            return Ok(());
        }
        if let Some(until) = seat.held_up_until(now_us).filter(|_| seat.writes()) {
            self.hangs(member);
            self.look_at_stalled(member)?;
            self.queue.push(until, Later::LogDone { member, life });
            return Ok(());
        }
        match seat.do_job() {
            Ok(LogOutcome::Done(event)) => {
                if matches!(event, Event::LogWritten(_)) {
                    seat.write = None;
                }
                self.goes_on(member)?;
                match &event {
                    Event::LogWritten(_) => self.invariants.wrote(member)?,
                    Event::Mended(Mended::Missing(0) | Mended::Recovered) => {
                        self.operator.deeds.recovered += 1;
                        self.tell(Who::Member(member), format_args!("has made up for its damage"));
                    }
                    _ => {}
                }
                self.deliver(member, event);
            }
            Ok(LogOutcome::More) => {}
            Ok(LogOutcome::Full) => {
                self.note(format_args!("{member} has no space for its log"));
                self.tell(Who::Member(member), format_args!("has no space for its log"));
                self.log_space(member);
                self.queue.push(now_us + FULL_RETRY_US, Later::LogDone { member, life });
                self.start_preparation(member);
                return Ok(());
            }
            Err(upset) => return self.upset(member, upset),
        }
        self.log_space(member);
        self.start_preparation(member);
        self.start_job(member);
        Ok(())
    }

    /// Tells a member when its log begins to want space, and when it has it again.
    fn log_space(&mut self, member: NodeId) {
        let seat = self.seats.get_mut(&member).expect("there is such a member");
        if let Some(event) = seat.log_space() {
            self.deliver(member, event);
        }
    }

    /// Gives the log's background work its time.
    fn start_preparation(&mut self, member: NodeId) {
        let seat = self.seats.get_mut(&member).expect("there is such a member");
        let life = seat.life;
        let Some(running) = seat.running.as_mut() else { return };
        if running.wants_preparation() {
            let after = self.choices.between(PREPARE_US.0, PREPARE_US.1);
            self.queue.push(self.queue.now_us() + after, Later::Prepared { member, life });
        }
    }

    fn prepared(&mut self, member: NodeId, life: u64) -> Result<(), Violation> {
        let seat = self.seats.get_mut(&member).expect("there is such a member");
        if seat.life != life {
            return Ok(());
        }
        if let Some(until) = seat.held_up_until(self.queue.now_us()) {
            self.queue.push(until, Later::Prepared { member, life });
            return Ok(());
        }
        if let Err(upset) = seat.prepare() {
            return self.upset(member, upset);
        }
        self.goes_on(member)?;
        self.log_space(member);
        self.start_preparation(member);
        // While space is short the log looks now and then whether there is some again.
        let seat = self.seats.get_mut(&member).expect("there is such a member");
        if seat.retries_space() {
            self.queue.push(self.queue.now_us() + FULL_RETRY_US, Later::Prepared { member, life });
        }
        Ok(())
    }

    /// Lets a machine's worker work at this time or earlier.
    fn work_by(&mut self, member: NodeId, at_us: u64) {
        let seat = self.seats.get_mut(&member).expect("there is such a member");
        let at_us = at_us.max(seat.paused_until_us);
        if seat.work_at_us.is_some_and(|known| known <= at_us) {
            return;
        }
        seat.work_at_us = Some(at_us);
        let life = seat.life;
        self.queue.push(at_us, Later::Work { member, life, at_us });
    }

    fn work(&mut self, member: NodeId, life: u64, at_us: u64) -> Result<(), Violation> {
        let seat = self.seats.get_mut(&member).expect("there is such a member");
        if seat.life != life || seat.work_at_us != Some(at_us) {
            return Ok(());
        }
        seat.work_at_us = None;
        if at_us < seat.paused_until_us {
            let until = seat.paused_until_us;
            self.work_by(member, until);
            return Ok(());
        }
        if let Some(until) = seat.held_up_until(at_us) {
            self.hangs(member);
            self.work_by(member, until);
            return Ok(());
        }
        let Some(running) = seat.running.as_mut() else { return Ok(()) };
        match self.application.work(running.worker(), at_us) {
            Ok(Some(after_us)) => self.work_by(member, at_us + after_us.max(WORK_US)),
            Ok(None) => {}
            Err(error) => return self.upset(member, error.into()),
        }
        self.goes_on(member)
    }

    /// A disk that hangs holds up a sync, or what a sync follows on. Counted once for each time that
    /// it hangs.
    fn hangs(&mut self, member: NodeId) {
        let seat = self.seats.get_mut(&member).expect("there is such a member");
        let Some(stall) = &mut seat.stall else { return };
        if !std::mem::replace(&mut stall.felt, true) {
            self.counts.count(stall.fault);
        }
    }

    /// A process has used its disk and goes on.
    fn goes_on(&self, member: NodeId) -> Result<(), Violation> {
        match self.seats[&member].disk.failure() {
            Some(fault @ (Fault::SyncFailed | Fault::WriteFailed)) => Err(Violation {
                invariant: "a process does not outlive a failed sync or write",
                seen: format!("member {member} goes on after {}", fault.name()),
            }),
            _ => Ok(()),
        }
    }

    /// The disk has let a process down.
    fn upset(&mut self, member: NodeId, upset: Upset) -> Result<(), Violation> {
        let seat = self.seats.get_mut(&member).expect("there is such a member");
        self.trace.note(format_args!("{} {member} is upset: {upset}", self.queue.now_us()));
        if !seat.disk.is_dead() {
            let failure = seat.disk.failure();
            self.count_struck(member);
            if failure.is_none() {
                self.ledger.stops(member, &upset)?;
            }
            if failure == Some(Fault::SyncFailed) {
                // What was not synced may be gone from the page cache, too.
                self.end(member, Death::PowerLost);
                return Ok(());
            }
        }
        let death = if self.choices.below(2) == 0 { Death::Killed } else { Death::PowerLost };
        self.end(member, death);
        Ok(())
    }

    fn start(&mut self, member: NodeId) -> Result<(), Violation> {
        if self.calm.leaves_out(member) == Some(LeftOut::Down) {
            return Ok(());
        }
        let founders = self.founders();
        let seed = self.choices.bits();
        let seat = self.seats.get_mut(&member).expect("there is such a member");
        if seat.running.is_some() || seat.gone || seat.refused {
            return Ok(());
        }
        if let Some(until) = seat.held_up_until(self.queue.now_us()) {
            self.hangs(member);
            self.queue.push(until, Later::Start(member));
            return Ok(());
        }
        seat.clocks.start(self.queue.now_us(), self.choices.below(1 << 40));
        self.aim_at_log(member);
        self.draw_program(member);
        let seat = self.seats.get_mut(&member).expect("there is such a member");
        let now = seat.clocks.now(self.queue.now_us());
        let started = seat.open(&self.application, &founders, self.options.member, now, seed);
        if let Some(flipped) = seat.flipped.take() {
            self.counts.count(Fault::BitFlipped);
            self.damaged(member, flipped);
        }
        let running = match started {
            Ok(running) => running,
            Err(upset) => return self.failed_to_start(member, upset),
        };
        let (hard_state, log) = (running.hard_state, running.log.clone());
        let process = running.process;
        self.ledger.opened(member, &running.report);
        self.note(format_args!("{member} starts as {process}: {hard_state:?} {log:?}"));
        if self.ledger.is_marked(member) {
            self.invariants.damaged(member);
        }
        let (term, last) = (hard_state.term, log.last);
        let what = format_args!("starts in term {term} with a log up to #{last}");
        self.tell(Who::Member(member), what);
        self.invariants.recovers(member, hard_state, &log)?;
        let seat = self.seats.get_mut(&member).expect("there is such a member");
        seat.running = Some(running);
        let running = self.seats[&member].running.as_ref().expect("it has just started");
        let peers = running.member.peers();
        self.follows(member, &peers);
        self.with_network(|network, weather| network.started(weather, member));
        self.happened.push_back(Happened::Started { member });
        self.look(member)?;
        self.start_preparation(member);
        self.step_by(member, self.queue.now_us());
        Ok(())
    }

    /// Draws whether a bit of a member's log has flipped since it was last read. It may happen to a
    /// minority at most: what a member refuses is gone.
    fn aim_at_log(&mut self, member: NodeId) {
        self.seats.get_mut(&member).expect("there is such a member").aim = None;
        let may = !self.ledger.is_unread(member) && self.may_strike(member);
        if may && self.dice.strikes(Fault::BitFlipped, &mut self.choices) {
            let aim = Aim::draw(&mut self.choices);
            self.seats.get_mut(&member).expect("there is such a member").aim = Some(aim);
        }
    }

    /// A process that died in its recovery is started again; one that refuses a damaged log is not.
    fn failed_to_start(&mut self, member: NodeId, upset: Upset) -> Result<(), Violation> {
        let now_us = self.queue.now_us();
        self.trace.note(format_args!("{now_us} {member} cannot start: {upset}"));
        self.tell(Who::Member(member), format_args!("cannot start: {upset}"));
        let seat = self.seats.get_mut(&member).expect("there is such a member");
        let broken = seat.disk.is_dead() || seat.disk.failure().is_some();
        self.count_struck(member);
        match upset {
            Upset::Removed(_) => return self.stays_away(member),
            Upset::TooOld => {
                self.starts_newer(member);
                return Ok(());
            }
            _ => {}
        }
        if !broken && !upset.is_full() {
            self.ledger.refuses(member, &upset)?;
            let seat = self.seats.get_mut(&member).expect("there is such a member");
            seat.refused = true;
            self.invariants.damaged(member);
            let seat = self.seats.get_mut(&member).expect("there is such a member");
            seat.disk.kill_process();
            return Ok(());
        }
        let seat = self.seats.get_mut(&member).expect("there is such a member");
        if broken && self.choices.below(2) == 0 {
            self.lose_power(member);
        } else {
            seat.disk.kill_process();
        }
        self.seats.get_mut(&member).expect("there is such a member").life += 1;
        self.count_struck(member);
        self.queue.push(now_us + FULL_RETRY_US, Later::Start(member));
        Ok(())
    }
}

/// A payload that no other proposal of a run has: a number and filling.
#[must_use]
pub fn unique_payload(number: u64, bytes: usize) -> Bytes {
    let mut payload = vec![b'.'; bytes.max(8)];
    payload[..8].copy_from_slice(&number.to_le_bytes());
    payload.into()
}

/// The machine of a member, as its checks see it.
impl<M> AsRef<M> for Witness<M> {
    fn as_ref(&self) -> &M {
        self.machine()
    }
}
