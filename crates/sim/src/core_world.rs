//! The consensus module alone in a simulated world: thousands of simulated seconds in one.
//!
//! No log files, no state machine, no requests: members are the shipped module, a disk that completes
//! writes late and loses them in crashes, timers, and a network that loses, delays, doubles and
//! reorders. After every step the module's own invariants are asked for, and the step must be one
//! that the [`specification`](crate::specification) allows. Responsible for being fast, and for
//! what only long runs reach; what needs the real log, node and server is the full world's
//! ([`World`](crate::World)).
//!
//! One seed decides everything. [`run`] is one run: a while with faults under load, then calm, in
//! which a leader must come within [`LEADER_US`] and everything be finished within [`FINISH_US`].

mod changes;
mod chaos;
mod network;
mod seat;
mod snapshots;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash;

use jangada_raft::{
    Configuration, Grant, Index, Input, Limits, Message, NodeId, Output, Raft, RoleKind, Timer,
    invariants, marks,
};

use crate::choices::{Choices, MILLION};
use crate::faults::{Fault, FaultCounts, FaultRates};
use crate::invariants::{Violation, require};
use crate::run::Failure;
use crate::run::panics::caught;
use crate::run::trace::Trace;
use crate::specification::{Fact, Glimpse, Name, Specification, observe, recovery};
use crate::world::dice::{Dice, Suppressed};
use crate::world::queue::{Queue, take_first};

use network::{Network, Way};
use seat::{Look, Seat};
use snapshots::Transfer;

pub use chaos::CORE_FAULTS;

/// The shortest election timeout, in microseconds; the longest is twice that.
pub const ELECTION_US: u64 = 1_000_000;

/// Between two heartbeats, in microseconds.
pub const HEARTBEAT_US: u64 = 100_000;

/// Once faults stop: how soon there is a leader that everyone can reach, in microseconds. Ten
/// election timeouts.
pub const LEADER_US: u64 = 10 * ELECTION_US;

/// Once faults stop: how soon all logs are equal and everything in them is committed, in
/// microseconds. A leader, and as much again.
pub const FINISH_US: u64 = 2 * LEADER_US;

/// How long a sync takes, in microseconds.
const SYNC_US: (u64, u64) = (50, 500);

/// How long a slow sync takes, in microseconds: up to two election timeouts.
const SYNC_SLOW_US: (u64, u64) = (10_000, 2_000_000);

/// A hasty election's delay, in microseconds.
const SOON_US: (u64, u64) = (1_000, 10_000);

/// The bytes of every entry.
const ENTRY_BYTES: u64 = 100;

/// How often logs are cut, in microseconds.
const CUT_US: u64 = 2_000_000;

/// In how many events the properties of figure 3 are looked at once more, by the module's own
/// account: it compares whole logs, which costs more than a step.
const CLUSTER_CHECK_EVENTS: u64 = 4_096;

/// What is simulated.
#[derive(Clone, Debug)]
pub struct CoreOptions {
    /// How many voters there are at first.
    pub members: u64,
    /// How many members more there are, which may be added.
    pub joiners: u64,
    /// How many changes of the membership are asked for in each simulated minute.
    pub changes_per_minute: u64,
    /// How many times leadership is to be handed over, or given up, in each simulated minute.
    pub transfers_per_minute: u64,
    /// How often what goes wrong.
    pub rates: FaultRates,
    /// Occurrences of faults that are left out.
    pub suppressed: Suppressed,
    /// How many commands are proposed in each simulated second, each by itself.
    pub proposals_per_second: u64,
    /// How many reads are asked for in each simulated second.
    pub reads_per_second: u64,
    /// How many of the newest lines of a failed run are kept; 0 is much faster.
    pub lines_max: usize,
}

/// What came of a run that held.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CoreReport {
    /// The hash over everything that happened.
    pub trace_hash: u64,
    /// How many events reached a member.
    pub events: u64,
    /// The simulated time, in microseconds.
    pub simulated_us: u64,
    /// Commands that were proposed, accepted and committed under the same leader.
    pub acknowledged: u64,
    /// Reads that could run.
    pub reads: u64,
    /// How often a member became leader.
    pub elections: u64,
    /// What went wrong, how often.
    pub faults: FaultCounts,
    /// The module's coverage marks that were reached; none without debug assertions.
    pub marks: BTreeSet<&'static str>,
}

/// What happens later.
#[derive(Clone, Debug)]
enum Later {
    Arrive { from: NodeId, to: NodeId, message: Message },
    Timer { member: NodeId, timer: Timer, life: u32 },
    Synced { member: NodeId, life: u32 },
    Hint { member: NodeId, peer: NodeId, hint: Hint },
    Snapshot(Transfer),
    SnapshotEnds { member: NodeId, peer: NodeId, life: u32, last: Option<Index> },
    Start(NodeId),
    Propose,
    Read,
    Change,
    HandOver,
    Cut,
    Chaos,
    Heal,
}

/// What a member learns of a peer beside messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Hint {
    Down,
    Up,
    Lost,
}

/// A cluster of modules, its disks, its network and its clients.
#[derive(Clone, Debug)]
pub struct CoreWorld {
    options: CoreOptions,
    configuration: Configuration,
    limits: Limits,
    choices: Choices,
    dice: Dice,
    counts: FaultCounts,
    queue: Queue<Later>,
    network: Network,
    seats: Vec<Seat>,
    specification: Specification,
    /// Every configuration that was ever made, by the name of its entry.
    configured: BTreeMap<Name, Configuration>,
    trace: Trace,
    /// The member that the clients believe to lead.
    believed: NodeId,
    is_calm: bool,
    acknowledged: u64,
    reads: u64,
    elections: u64,
    scratch: Scratch,
}

/// Vectors that are used again and again.
#[derive(Clone, Debug, Default)]
struct Scratch {
    outputs: Vec<Output>,
    facts: Vec<Fact>,
    grants: Vec<Grant>,
    released: Vec<(NodeId, Message)>,
}

impl Default for CoreOptions {
    fn default() -> CoreOptions {
        CoreOptions {
            members: 3,
            joiners: 0,
            changes_per_minute: 0,
            transfers_per_minute: 0,
            rates: FaultRates::none(),
            suppressed: Suppressed::new(),
            proposals_per_second: 100,
            reads_per_second: 5,
            lines_max: 0,
        }
    }
}

/// Runs a core world for a while with faults, then without until everything is finished.
///
/// # Errors
/// The first thing that does not hold. A panic of the module is one.
pub fn run(
    options: CoreOptions,
    choices: Choices,
    duration_us: u64,
) -> Result<CoreReport, Box<Failure>> {
    let _earlier = marks::take();
    let mut world = CoreWorld::new(options, choices);
    let result = caught(|| world.live(duration_us));
    let (invariant, reason) = match result {
        Ok(Ok(())) => return Ok(world.report()),
        Ok(Err(violation)) => (violation.invariant.to_owned(), violation.to_string()),
        Err(panic) => {
            let invariant = format!("the assertion at {}", panic.place);
            (invariant, format!("the module stopped at {}: {}", panic.place, panic.said))
        }
    };
    Err(Box::new(Failure {
        invariant,
        reason,
        simulated_us: world.queue.now_us(),
        members: world.describe(),
        timeline: Vec::new(),
        lines: world.trace.lines(),
        faults: world.counts.clone(),
        struck: world.dice.struck().clone(),
    }))
}

impl CoreWorld {
    /// A cluster whose members are about to start.
    ///
    /// # Panics
    /// If there is no member.
    #[must_use]
    pub fn new(options: CoreOptions, mut choices: Choices) -> CoreWorld {
        assert!(0 < options.members, "a cluster has members");
        let configuration = Configuration::of_voters((1..=options.members).map(NodeId));
        let dice = Dice::new(options.rates.clone(), options.suppressed.clone(), &choices);
        let limits = match choices.below(4) {
            // Tight bounds, so that windows fill.
            0 => Limits {
                append_bytes_max: 3 * ENTRY_BYTES,
                inflight_messages_max: 3,
                inflight_bytes_max: 6 * ENTRY_BYTES,
                uncommitted_bytes_max: 50 * ENTRY_BYTES,
            },
            _ => Limits::default(),
        };
        let mut world = CoreWorld {
            specification: Specification::with_joiners(
                &configuration,
                (1..=options.joiners).map(|joiner| NodeId(options.members + joiner)),
            ),
            configured: BTreeMap::new(),
            network: Network::new((options.members + options.joiners) as usize),
            seats: (1..=options.members + options.joiners)
                .map(|id| Seat::new(NodeId(id)))
                .collect(),
            trace: Trace::new(options.lines_max),
            counts: FaultCounts::default(),
            queue: Queue::new(),
            believed: NodeId(1),
            is_calm: false,
            acknowledged: 0,
            reads: 0,
            elections: 0,
            scratch: Scratch::default(),
            options,
            configuration,
            limits,
            choices,
            dice,
        };
        for member in world.members() {
            let at_us = world.choices.below(HEARTBEAT_US);
            world.queue.push(at_us, Later::Start(member));
        }
        world.queue.push(chaos::PERIOD_US, Later::Chaos);
        world.queue.push(CUT_US, Later::Cut);
        world.queue.push(HEARTBEAT_US, Later::Propose);
        world.queue.push(HEARTBEAT_US, Later::Read);
        world.begins_changes();
        world
    }

    fn members(&self) -> impl Iterator<Item = NodeId> + use<> {
        (1..=self.options.members + self.options.joiners).map(NodeId)
    }

    fn seat(&mut self, id: NodeId) -> &mut Seat {
        &mut self.seats[id.0 as usize - 1]
    }

    fn raft(&self, id: NodeId) -> Option<&Raft> {
        self.seats[id.0 as usize - 1].raft.as_ref()
    }

    fn live(&mut self, duration_us: u64) -> Result<(), Violation> {
        while let Some(event) = self.queue.pop_until(duration_us) {
            self.happens(event)?;
        }
        self.calm();
        self.settles()
    }

    /// Waits, nothing going wrong any more, until everything is finished.
    fn settles(&mut self) -> Result<(), Violation> {
        let begin_us = self.queue.now_us();
        let mut leader_us = None;
        while let Some(event) = self.queue.pop_until(begin_us + FINISH_US) {
            self.happens(event)?;
            let now_us = self.queue.now_us();
            if leader_us.is_none() && self.is_led() {
                leader_us = Some(now_us);
            }
            let in_time = leader_us.is_some() || now_us <= begin_us + LEADER_US;
            require(in_time, "once faults stop, a leader comes", || {
                format!("none after {LEADER_US} us")
            })?;
            if leader_us.is_some() && self.is_finished() {
                self.check_cluster();
                return Ok(());
            }
        }
        require(false, "once faults stop, all pending work finishes", || {
            format!("not within {FINISH_US} us")
        })
    }

    /// Faults and clients stop; everything that is down comes back.
    fn calm(&mut self) {
        self.is_calm = true;
        self.dice.rest();
        self.network.heal();
        let now_us = self.queue.now_us();
        for member in self.members() {
            let seat = self.seat(member);
            seat.paused_until_us = seat.paused_until_us.min(now_us);
            seat.tick_parts = u64::from(MILLION);
            if seat.raft.is_none() {
                self.queue.push(now_us, Later::Start(member));
            }
        }
    }

    /// Whether a leader is followed by all members of its configuration.
    fn is_led(&self) -> bool {
        let Some((leader, members)) = self.newest() else { return false };
        let follows = |raft: &Raft| raft.leader() == Some(leader.id());
        let mut seats = self.seats.iter().filter(|seat| members.is_member(seat.id));
        seats.all(|seat| seat.raft.as_ref().is_some_and(follows))
    }

    /// Whether everything that was begun is done, everywhere.
    fn is_finished(&self) -> bool {
        let Some((leader, members)) = self.newest() else { return false };
        let end = leader.last_position();
        let stays = !members.is_joint() && members.target.is_empty();
        self.is_led()
            && stays
            && members.voters.contains(&leader.id())
            && leader.transfer_target().is_none()
            && self.seats.iter().filter(|seat| members.is_member(seat.id)).all(|seat| {
                let commit = seat.raft.as_ref().map(Raft::commit_index);
                seat.raft.as_ref().map(Raft::last_position) == Some(end)
                    && commit == Some(end.index)
                    && seat.is_written()
                    && !seat.disk.is_recovering()
                    && seat.proposals.is_empty()
                    && seat.reads.is_empty()
            })
    }

    fn happens(&mut self, event: Later) -> Result<(), Violation> {
        let now_us = self.queue.now_us();
        match event {
            Later::Arrive { from, to, message } => {
                let seat = &self.seats[to.0 as usize - 1];
                if now_us < seat.paused_until_us {
                    let at_us = seat.paused_until_us;
                    self.queue.push(at_us, Later::Arrive { from, to, message });
                    return Ok(());
                }
                self.takes(to, Input::Receive { from, message })
            }
            Later::Timer { member, timer, life } => {
                let seat = self.seat(member);
                if seat.life != life {
                    return Ok(());
                }
                match seat.look(timer, now_us) {
                    Look::Stale => Ok(()),
                    Look::Again(at_us) => {
                        self.queue.push(at_us, Later::Timer { member, timer, life });
                        Ok(())
                    }
                    Look::Fires if now_us < seat.paused_until_us => {
                        let at_us = seat.paused_until_us;
                        self.sets(member, timer, at_us);
                        Ok(())
                    }
                    Look::Fires => self.takes(member, Input::Timer(timer)),
                }
            }
            Later::Synced { member, life } => {
                let seat = self.seat(member);
                if seat.life != life {
                    return Ok(());
                }
                if now_us < seat.paused_until_us {
                    let at_us = seat.paused_until_us;
                    self.queue.push(at_us, Later::Synced { member, life });
                    return Ok(());
                }
                let (write, last) = seat.ends_sync();
                let mut released = std::mem::take(&mut self.scratch.released);
                self.seat(member).release(write, &mut released);
                self.scratch.released = released;
                self.takes(member, Input::Persisted { write, last })
            }
            Later::Hint { member, peer, hint } => {
                let paused_until_us = self.seat(member).paused_until_us;
                if now_us < paused_until_us {
                    self.queue.push(paused_until_us, Later::Hint { member, peer, hint });
                    return Ok(());
                }
                let input = match hint {
                    Hint::Down => Input::PeerDown(peer),
                    Hint::Up => Input::PeerUp(peer),
                    Hint::Lost => Input::Unreachable(peer),
                };
                self.takes(member, input)
            }
            Later::Snapshot(transfer) => self.arrives(transfer),
            Later::SnapshotEnds { member, peer, life, last } => {
                if self.seat(member).life != life {
                    return Ok(());
                }
                self.takes(
                    member,
                    match last {
                        Some(last) => Input::SnapshotDelivered { peer, last },
                        None => Input::SnapshotFailed(peer),
                    },
                )
            }
            Later::Start(member) => self.starts(member),
            Later::Propose => {
                let entries = 1;
                self.asks(
                    Later::Propose,
                    self.options.proposals_per_second,
                    Input::Propose { entries, bytes: entries * ENTRY_BYTES },
                )
            }
            Later::Read => self.asks(Later::Read, self.options.reads_per_second, Input::Read),
            Later::Change => self.changes(),
            Later::HandOver => self.hands_over(),
            Later::Cut => {
                self.queue.push(now_us + CUT_US, Later::Cut);
                self.cuts();
                Ok(())
            }
            Later::Chaos => {
                self.queue.push(now_us + chaos::PERIOD_US, Later::Chaos);
                self.chaos();
                Ok(())
            }
            Later::Heal => {
                self.network.heal();
                Ok(())
            }
        }
    }

    /// A client asks, and the next one will. Requests go where a leader is believed to be; whoever
    /// does not lead says who does.
    fn asks(&mut self, next: Later, per_second: u64, input: Input) -> Result<(), Violation> {
        if self.is_calm || per_second == 0 {
            return Ok(());
        }
        let gap_us = self.choices.between(0, 2_000_000 / per_second);
        self.queue.push(self.queue.now_us() + gap_us, next);
        let member = self.believed;
        match self.raft(member) {
            Some(raft) if raft.role() == RoleKind::Leader => {}
            Some(raft) if raft.leader().is_some() => self.believed = raft.leader().expect("some"),
            _ => self.believed = NodeId(member.0 % self.seats.len() as u64 + 1),
        }
        if self.queue.now_us() < self.seats[member.0 as usize - 1].paused_until_us {
            return Ok(());
        }
        self.takes(member, input)
    }

    /// A member takes an input, is flushed, and everything that comes of it is done.
    fn takes(&mut self, id: NodeId, input: Input) -> Result<(), Violation> {
        if self.raft(id).is_none() {
            self.scratch.released.clear();
            return Ok(());
        }
        let now_us = self.queue.now_us();
        self.trace.chain(
            |hash| (now_us, id, &input).hash(hash),
            format_args!("{now_us:>10} {id}: {input:?}"),
        );
        self.steps(id, input)?;
        while self.steps(id, Input::Flush)? == Flushed::More {}
        if self.seat(id).begins_sync() {
            let is_slow = self.dice.strikes(Fault::SyncSlow, &mut self.choices);
            if is_slow {
                self.counts.count(Fault::SyncSlow);
            }
            let range = if is_slow { SYNC_SLOW_US } else { SYNC_US };
            let at_us = now_us + self.choices.between(range.0, range.1);
            let life = self.seat(id).life;
            self.queue.push(at_us, Later::Synced { member: id, life });
        }
        if self.trace.events().is_multiple_of(CLUSTER_CHECK_EVENTS) {
            self.check_cluster();
        }
        Ok(())
    }

    /// One step, its judgement, and its outputs.
    fn steps(&mut self, id: NodeId, input: Input) -> Result<Flushed, Violation> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let Scratch { outputs, facts, grants, released } = &mut scratch;
        let raft = self.seats[id.0 as usize - 1].raft.as_mut().expect("it runs");
        let before = Glimpse::of(raft);
        raft.step(input.clone(), outputs);
        raft.check_invariants();
        observe(&before, &input, outputs, released, raft, facts);
        self.specification.accept_all(id, facts)?;
        facts.clear();
        for (to, message) in released.drain(..) {
            self.sends(id, to, message);
        }
        for output in outputs.drain(..) {
            match output {
                Output::Grant(grant) => grants.push(grant),
                output => self.does(id, output),
            }
        }
        let mut flushed = Flushed::All;
        for grant in grants.drain(..) {
            if self.honours(id, &grant) {
                flushed = Flushed::More;
            }
        }
        self.scratch = scratch;
        Ok(flushed)
    }

    /// Sends what a grant allows. Whether there may be more to send.
    fn honours(&mut self, id: NodeId, grant: &Grant) -> bool {
        let entries = (grant.bytes_max / ENTRY_BYTES).max(1).min(grant.range.len());
        let last = Index(grant.range.prev.index.0 + entries);
        self.sends(id, grant.peer, Message::AppendRequest(grant.request(last)));
        let bytes = entries * ENTRY_BYTES;
        let raft = self.seats[id.0 as usize - 1].raft.as_mut().expect("it runs");
        raft.step(Input::Sent { peer: grant.peer, last, bytes }, &mut self.scratch.outputs);
        assert!(self.scratch.outputs.is_empty(), "a sent grant is taken note of");
        last < raft.last_index()
    }

    fn does(&mut self, id: NodeId, output: Output) {
        match output {
            Output::Write(write) => self.seat(id).write(write),
            Output::Send { to, message } => self.sends(id, to, message),
            Output::SendAfter { after, to, message } => self.seat(id).hold(after, to, message),
            Output::Assigned { range } => {
                let last = range.last_position();
                self.seat(id).proposals.push_back(last);
            }
            Output::Commit(index) => {
                let proposals = &mut self.seats[id.0 as usize - 1].proposals;
                while take_first(proposals, |position| position.index <= index).is_some() {
                    self.acknowledged += 1;
                }
            }
            Output::ReadQueued(round) => self.seat(id).reads.push_back(round),
            Output::ReadsReady { round, .. } => {
                let reads = &mut self.seats[id.0 as usize - 1].reads;
                while take_first(reads, |read| *read <= round).is_some() {
                    self.reads += 1;
                }
            }
            Output::Changed(standing) => {
                // What had been asked of the former leader has an unknown outcome.
                self.elections += u64::from(standing.role == RoleKind::Leader);
                let seat = self.seat(id);
                seat.proposals.clear();
                seat.reads.clear();
            }
            Output::Restart(timer) => {
                let delay_us = match timer {
                    Timer::Heartbeat => HEARTBEAT_US,
                    Timer::QuorumCheck | Timer::Quiet | Timer::Transfer => ELECTION_US,
                    Timer::Election => self.choices.between(ELECTION_US, 2 * ELECTION_US),
                    Timer::ElectionSoon => self.choices.between(SOON_US.0, SOON_US.1),
                };
                let delay_us = delay_us * self.seat(id).tick_parts / u64::from(MILLION);
                self.sets(id, timer, self.queue.now_us() + delay_us);
            }
            Output::SendSnapshot { peer, .. } => self.sends_snapshot(id, peer),
            Output::Recovered => self.seat(id).disk.recovers(),
            Output::Configured { position, configuration } => self.keeps(position, configuration),
            // The entries are in the write that follows; a refused client asks again.
            Output::NoOp { .. }
            | Output::MembersChanged
            | Output::ChangeRefused(_)
            | Output::TransferEnded(_)
            | Output::ProposalRefused(_)
            | Output::ReadRefused(_) => {}
            Output::Grant(_) => unreachable!("grants are taken apart"),
        }
    }

    fn sets(&mut self, member: NodeId, timer: Timer, at_us: u64) {
        let seat = self.seat(member);
        let life = seat.life;
        if let Some(at_us) = seat.set(timer, at_us) {
            self.queue.push(at_us, Later::Timer { member, timer, life });
        }
    }

    fn sends(&mut self, from: NodeId, to: NodeId, message: Message) {
        let now_us = self.queue.now_us();
        let faults = (&mut self.dice, &mut self.counts);
        match self.network.send((from, to), now_us, &mut self.choices, faults) {
            Way::Lost => {}
            Way::Arrives(at_us) => self.queue.push(at_us, Later::Arrive { from, to, message }),
            Way::Doubled(one_us, two_us) => {
                let again = Later::Arrive { from, to, message: message.clone() };
                self.queue.push(one_us, Later::Arrive { from, to, message });
                self.queue.push(two_us, again);
            }
        }
    }

    fn starts(&mut self, member: NodeId) -> Result<(), Violation> {
        if self.raft(member).is_some() {
            return Ok(());
        }
        self.may_rot(member);
        let limits = self.limits;
        let (log, start) = self.seat(member).disk.kept();
        let held = self.held_by(member, &log, start);
        let start = self.seat(member).start(held, limits);
        self.specification.accept(member, &recovery(&start))?;
        let now_us = self.queue.now_us();
        for peer in self.members().filter(|peer| *peer != member) {
            let at_us = now_us + self.choices.between(SOON_US.0, SOON_US.1);
            self.queue.push(at_us, Later::Hint { member: peer, peer: member, hint: Hint::Up });
            let hint = Later::Hint { member: peer, peer: member, hint: Hint::Lost };
            self.queue.push(at_us, hint);
        }
        self.takes(member, Input::Flush)
    }

    /// Cuts logs behind what everyone holds, or behind what the member itself has applied, so that who
    /// lags behind needs a snapshot.
    fn cuts(&mut self) {
        let held = |seat: &Seat| seat.applied().min(seat.durable());
        let least = self.seats.iter().map(held).min().unwrap_or_default();
        for member in self.members() {
            if self.choices.below(2) == 0 && self.seat(member).is_written() {
                let own = held(self.seat(member));
                let bound = if self.choices.below(3) == 0 { own } else { least };
                self.seat(member).cut(bound);
            }
        }
    }

    /// The properties of figure 3 once more, by the module's own account.
    fn check_cluster(&self) {
        let running: Vec<&Raft> = self.seats.iter().filter_map(|seat| seat.raft.as_ref()).collect();
        invariants::check_cluster(&running);
    }

    fn report(&self) -> CoreReport {
        CoreReport {
            trace_hash: self.trace.hash(),
            events: self.trace.events(),
            simulated_us: self.queue.now_us(),
            acknowledged: self.acknowledged,
            reads: self.reads,
            elections: self.elections,
            faults: self.counts.clone(),
            marks: marks::take().into_iter().collect(),
        }
    }

    fn describe(&self) -> String {
        let of = |seat: &Seat| match &seat.raft {
            Some(raft) => format!(
                "{}: {}, log {} to {}, commit {}, durable {}, {} writes under way\n",
                seat.id,
                raft.standing(),
                raft.first_position(),
                raft.last_position(),
                raft.commit_index(),
                raft.durable_index(),
                seat.writes()
            ),
            None => format!("{}: down\n", seat.id),
        };
        self.seats.iter().map(of).collect()
    }
}

/// Whether a flush has sent everything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Flushed {
    All,
    More,
}

#[cfg(test)]
mod tests;
