//! A member of the cluster as a stepped part: the four parts of Raft (consensus module, log, state
//! machine, transport) joined, without a thread, a clock, a socket or randomness of their own.
//!
//! Whoever drives a member hands it what has happened ([`Event`]) and carries out what it asks for
//! ([`Effect`]). The server's runtime, the in-process runtime and the simulator all drive this same
//! code.
//!
//! Responsible for: attaching payloads to the names the consensus module deals in, merging what
//! comes together, telling clients' proposals and reads apart, applying what is committed, and
//! keeping the log no longer than needed. Not responsible for: deciding anything that figure 2 of
//! the paper decides; that is the consensus module's.
//!
//! Invariants:
//! 1. A frame enters the log only under the index and term that the consensus module gave it.
//! 2. Entries are applied in order, each once, and only when committed.
//! 3. A proposal is put into a log at most once: it is held, or submitted, or forwarded, and never
//!    moves back.
//! 4. Nothing of a peer is counted before its incarnation stands in this member's own log.

#[cfg(feature = "canon")]
mod again;
mod applying;
mod asks;
mod bounds;
mod consults;
mod disk;
mod event;
mod hashes;
mod keeping;
mod log;
mod membership;
mod mending;
mod proposals;
mod reads;
mod received;
mod sending;
mod snapshots;
mod start;
mod timers;
mod transfer;
mod version;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use jangada_entry::{CONFIGURATION_VERSION, Draft, Frame, Kind, Origin, encode_configuration};
use jangada_net::{Ask, PeerMessage};
use jangada_raft::{
    Configuration, Grant, Index, Input, NodeId, Output, Position, Raft, RecoveryNumber, RoleKind,
    Standing, Start, Term, Timer, TransferEnded, canon,
};

pub use asks::{ChangeError, TransferError};
pub use bounds::{Bound, Piece};
pub use consults::{ConsultError, Consultation, Consulter};
pub use event::{Effect, Ended, Event, Peers, ProposeError, Ticket, TurnedAway};
pub use hashes::Quarantine;
pub use log::{LogBatch, LogCut, LogRead, LogReader, LogWritten};
pub use mending::{Mend, Mended};
pub use reads::ReadBatch;
pub use snapshots::{PeerSnapshots, SnapshotWork};
pub use start::{Concern, MemberStart, Options, StartError, Status};
pub use timers::Now;
pub use version::FEATURE_LEVEL;

use crate::machine::{Outcome, StateMachine};
use crate::notes::Notes;
use crate::record::{Acquaintances, Membership, Record};
use crate::saved::SavedState;
use crate::snapshot::Snapshots as Offers;
use crate::tail::Tail;
use asks::Asks;
use consults::Consults;
use disk::DiskWatch;
use hashes::Hashes;
use keeping::CUT_INTERVAL_US;
use log::Writer;
use membership::{ChangeUnderWay, Configured, LingeringMembers};
use mending::Mending;
use proposals::Submission;
use reads::{Reads, Waiting};
use snapshots::{Keeping, Snapshots};
use timers::Timers;
use transfer::TransferUnderWay;
use version::Levels;

/// A member: see the module's documentation.
pub struct Member<M: StateMachine> {
    id: NodeId,
    group: u64,
    process: u64,
    options: Options,
    now: Now,
    raft: Raft,
    machine: M,
    tail: Tail,
    writer: Writer,
    timers: Timers,
    reads: Reads,
    record: Record,
    /// The highest time stamped on an entry of the log.
    time_ms: u64,
    /// The entry before the first one that the log retains.
    log_begins: Position,
    /// When it is looked next whether the log can be cut.
    cut_at_us: u64,
    /// The last leader there was, and the term it led.
    leader_last: Option<(Term, NodeId)>,
    leader_changes: u64,

    /// The configuration in force.
    configuration: Arc<Configuration>,
    peers_told: Peers,
    lingering: LingeringMembers,
    levels: Levels,
    /// Who took this member for one that has lost its data directory.
    turned_away_by: BTreeSet<NodeId>,
    /// When this member, which was removed, ends.
    ends_us: Option<u64>,
    ended: Option<Ended>,

    asks: Asks,
    consults: Consults,
    /// As the leader: the change that somebody waits for, and what the module last said to one.
    change: Option<ChangeUnderWay>,
    configured: Option<Configured>,
    /// As the leader: who waits for the transfer that is under way, and what the module has said since.
    transfers: Vec<TransferUnderWay>,
    transfers_ended: Vec<TransferEnded>,
    /// Until when a member that is about to stop tries to hand over.
    handing_over_us: Option<u64>,

    disk: DiskWatch,
    hashes: Hashes,

    acquaintances: Acquaintances,
    /// Peers whose first meeting is being written, with what they have said since.
    unmet: BTreeMap<NodeId, Vec<PeerMessage>>,
    strangers: BTreeSet<NodeId>,

    /// Commands that came in this step.
    submissions: Vec<Submission>,
    /// Commands of this member's clients that wait for a leader, and since when.
    held: VecDeque<(Draft, u64)>,
    held_bytes: u64,
    /// The highest number of this member's clients' commands that is under way.
    sequence_last: u64,
    /// Commands up to these numbers become doubtful at these times, for their leader was lost.
    doubts: VecDeque<(u64, u64)>,
    /// Commands up to these numbers become doubtful at these times, whatever happens.
    deadlines: VecDeque<(u64, u64)>,

    /// The frames of the proposal, no-op or message that is being stepped.
    incoming: Vec<Frame>,
    grants: Vec<Grant>,
    /// Grants whose entries are being read back from the log.
    reading: BTreeMap<NodeId, Grant>,
    /// The peers for whom the log is being read, whether or not their grant still stands: one read
    /// at a time for each.
    reads_under_way: BTreeSet<NodeId>,
    reading_to_apply: bool,
    #[cfg(feature = "canon")]
    sent_on: Vec<jangada_net::Proposal>,
    read_outcome: Option<Output>,
    more_to_apply: bool,
    snapshots: Snapshots,
    /// Set while entries of the log are missing.
    mending: Option<Mending>,
    /// Peers for whom entries are read that they asked for by name, and the first of those.
    frames_for: BTreeMap<NodeId, Position>,
    /// What the machine was last told to be safe in this member's log.
    log_safe: Index,

    outputs: Vec<Output>,
    commands: Vec<Frame>,
    outcomes: Vec<Outcome<M::Reply>>,
    runnable: Vec<ReadBatch>,
    effects: Vec<Effect<M::Reply>>,
}

/// Whether there are others to get back from what this member's disk has lost, as far as it knows. A
/// server that has joined begins with an empty configuration: who the others are stands in its log's
/// entries, or it is still to be told.
fn has_peers(start: &MemberStart, record: &Record) -> bool {
    let newest = start.configurations.last().map(|(_, newest)| newest);
    let known = [Some(&start.configuration), newest, Some(record.membership.configuration())];
    let known = known.into_iter().flatten();
    let mut members = known.flat_map(jangada_raft::Configuration::members).peekable();
    members.peek().is_none() || members.any(|member| member != start.id)
}

/// What the machine, or the state that was saved for it, says of itself.
fn recovered<M: StateMachine>(
    machine: &mut M,
    saved: Option<&SavedState>,
) -> Result<(Record, Keeping), StartError> {
    if let (Offers::Whole, Some(saved)) = (machine.snapshots(), saved) {
        machine.load(&saved.state).map_err(StartError::Saved)?;
        let keeping = Keeping::new(saved.told());
        return Ok((Record::decode(&saved.record)?, keeping));
    }
    let record = match machine.recovered() {
        Some(bytes) => Record::decode(&bytes)?,
        None => Record::default(),
    };
    Ok((record, Keeping::default()))
}

impl<M: StateMachine> Member<M> {
    /// A member that has just started, on a log and a state machine that were recovered.
    ///
    /// # Errors
    /// If the log and the state machine do not belong together.
    ///
    /// # Panics
    /// If an interval is 0.
    pub fn new(now: Now, start: MemberStart, mut machine: M) -> Result<Member<M>, StartError> {
        let (mut record, keeping) = recovered(&mut machine, start.saved.as_ref())?;
        if start.level < record.version {
            return Err(StartError::Version { cluster: record.version, own: start.level });
        }
        if record.membership.removed().contains(&start.id) {
            return Err(StartError::Removed(start.id));
        }
        let applied = record.applied;
        let last = start.log.last_position();
        // The machine of a member may be lost without its log, which was cut since.
        let has_peers = has_peers(&start, &record);
        let needed = (machine.snapshots() != Offers::None
            && has_peers
            && applied.index < start.log.prev.index)
            .then_some(start.log.prev.index);
        if needed.is_none() && start.log.term_at(applied.index) != Some(applied.term) {
            return Err(StartError::Gap { applied, begins: start.log.prev, ends: last });
        }
        let commit = applied.index.max(start.log.prev.index);
        let Notes { acquaintances, quarantine } = Notes::decode(&start.note)?;
        let options = start.options;
        assert!(0 < options.heartbeat_interval_us, "a leader makes itself heard now and then");
        assert!(0 < options.election_timeout_us, "a leader is given time to make itself heard");
        let random = fastrand::Rng::with_seed(start.seed);
        let log_begins = start.log.prev;
        if record.membership.configuration() == &Configuration::default() {
            // Never told: the machine starts empty, or its record is of version 1.
            let applied_ones = start.configurations.iter().rev();
            let newest = applied_ones.map(|(at, c)| (*at, c)).find(|(at, _)| *at <= applied.index);
            let configuration = newest.map_or(&start.configuration, |(_, c)| c);
            record.membership = Arc::new(Membership::new(configuration.clone()));
        }
        let recovering = start.recovering.then_some(RecoveryNumber(start.process));
        if !has_peers && (recovering.is_some() || !start.faulty.is_empty()) {
            return Err(StartError::Alone { ends: last });
        }
        let raft_start = Start {
            id: start.id,
            hard_state: start.hard_state,
            configuration: start.configuration,
            configurations: start.configurations,
            log: start.log,
            commit,
            limits: options.limits,
            recovering,
        };
        let mending = Mending::new(&raft_start, start.faulty, now.monotonic_us);
        let raft = Raft::new(raft_start);
        let timers =
            Timers::new(options.heartbeat_interval_us, options.election_timeout_us, random);
        let hashes = Hashes::new(applied.index, record.hash);
        let mut member = Member {
            id: start.id,
            group: start.group,
            process: start.process,
            options,
            now,
            raft,
            machine,
            tail: Tail::new(last),
            writer: Writer::new(start.hard_state),
            timers,
            reads: Reads::new(start.process),
            time_ms: start.time_ms.max(record.time_ms),
            record,
            log_begins,
            cut_at_us: now.monotonic_us + CUT_INTERVAL_US,
            leader_last: None,
            leader_changes: 0,
            configuration: Arc::default(),
            peers_told: Peers::default(),
            lingering: LingeringMembers::new(),
            levels: Levels::new(start.level),
            turned_away_by: BTreeSet::new(),
            ends_us: None,
            ended: None,
            asks: Asks::default(),
            consults: Consults::default(),
            change: None,
            configured: None,
            transfers: Vec::new(),
            transfers_ended: Vec::new(),
            handing_over_us: None,
            disk: DiskWatch::new(now.monotonic_us),
            hashes,
            acquaintances,
            unmet: BTreeMap::new(),
            strangers: BTreeSet::new(),
            submissions: Vec::new(),
            held: VecDeque::new(),
            held_bytes: 0,
            sequence_last: 0,
            doubts: VecDeque::new(),
            deadlines: VecDeque::new(),
            incoming: Vec::new(),
            grants: Vec::new(),
            reading: BTreeMap::new(),
            reads_under_way: BTreeSet::new(),
            reading_to_apply: false,
            #[cfg(feature = "canon")]
            sent_on: Vec::new(),
            read_outcome: None,
            more_to_apply: false,
            snapshots: Snapshots::new(keeping, needed),
            mending,
            frames_for: BTreeMap::new(),
            log_safe: applied.index,
            outputs: Vec::new(),
            commands: Vec::new(),
            outcomes: Vec::new(),
            runnable: Vec::new(),
            effects: Vec::new(),
        };
        member.configuration = Arc::new(member.raft.configuration().clone());
        member.peers_told = member.peers();
        member.machine.log_durable(applied.index);
        if let Some(quarantine) = quarantine {
            member.stay_quarantined(quarantine);
        }
        Ok(member)
    }

    /// Takes what has happened, and appends what is to be done to `effects`.
    pub fn step(&mut self, now: Now, events: &mut Vec<Event>, effects: &mut Vec<Effect<M::Reply>>) {
        assert!(self.now.monotonic_us <= now.monotonic_us, "the monotonic clock never goes back");
        self.now = now;
        std::mem::swap(&mut self.effects, effects);
        for event in events.drain(..) {
            self.event(event);
        }
        self.tend_disk();
        while let Some(timer) = self.timers.due(now) {
            self.timer(timer);
        }
        self.tend_snapshots();
        self.tend_mending();
        self.submit_held();
        self.raise_version();
        self.submit();
        self.ask_leader();
        self.consult_leader();
        self.ask_for_reads();
        self.send_granted();
        self.tell_log_durable();
        self.apply();
        self.tend_hashes();
        self.settle_asks();
        self.settle_transfers();
        self.run_reads();
        self.write_log();
        self.cut_log();
        self.expire();
        self.expire_asks();
        self.expire_consults();
        self.expire_membership();
        self.tail.shrink(self.options.tail_bytes_max, self.settled());
        std::mem::swap(&mut self.effects, effects);
    }

    /// When the member wants to be stepped again at the latest, in microseconds of the monotonic
    /// clock, should nothing happen before.
    #[must_use]
    pub fn next_step_us(&self) -> u64 {
        if self.more_to_apply {
            return self.now.monotonic_us;
        }
        let mut next = self.cut_at_us;
        if let Some(timer) = self.timers.next() {
            next = next.min(timer);
        }
        for queue in [&self.doubts, &self.deadlines] {
            if let Some((_, at)) = queue.front() {
                next = next.min(*at);
            }
        }
        if let Some(asked) = &self.reads.asked {
            next = next.min(asked.sent_us + self.read_retry_us());
        }
        if let Some((_, since_us)) = self.held.front() {
            next = next.min(since_us + self.options.leader_wait_us);
        }
        if let Some(since_us) = self.reads.oldest_us() {
            next = next.min(since_us + self.options.leader_wait_us);
        }
        let others = [
            self.asks_next_us(),
            self.consults_next_us(),
            self.transfers_next_us(),
            self.membership_next_us(),
            self.snapshots_next_us(),
            self.mending_next_us(),
            self.disk_next_us(),
            self.hashes_next_us(),
        ];
        others.into_iter().flatten().fold(next, u64::min)
    }

    /// What is wrong with this member though it can run: for whoever starts it.
    #[must_use]
    pub fn concern(&self) -> Option<Concern> {
        if self.machine.snapshots() != Offers::None {
            return None;
        }
        if Index(0) < self.log_begins.index {
            return Some(Concern::StrandsNewMembers { begins: self.log_begins.index });
        }
        (Index(0) < self.machine.durable_index()).then_some(Concern::NoSnapshots)
    }

    /// How the member stands.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            standing: self.raft.standing(),
            commit: self.raft.commit_index(),
            record: self.record.clone(),
            configuration: self.configuration.clone(),
            last: self.raft.last_index(),
            log_begins: self.log_begins,
            machine_durable: self.machine_durable(),
            leader_changes: self.leader_changes,
            snapshots_sent: self.snapshots.sent,
            snapshots_installed: self.snapshots.installed,
            snapshots_by_peer: self.snapshots.by_peer.clone(),
            needs_snapshot: self.needs_snapshot(),
            log_full: self.disk.is_full(),
            log_stalled_us: self.disk.stalled_us(),
            quarantine: self.hashes.quarantine(),
            hashes_differ: self.hashes.split(),
        }
    }

    /// This member.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// The consensus module, to look at.
    #[must_use]
    pub fn raft(&self) -> &Raft {
        &self.raft
    }

    /// The state machine, to look at.
    #[must_use]
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// Whether nothing is under way: no write, no read, no proposal that waits.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        !self.writer.is_busy()
            && self.reads.is_idle()
            && self.held.is_empty()
            && self.asks.is_idle()
            && self.consults.is_idle()
            && self.snapshots.is_idle()
            && !self.is_mending()
            && self.record.applied.index == self.raft.commit_index()
    }

    /// The bytes of entries held in memory.
    #[must_use]
    pub fn tail_bytes(&self) -> u64 {
        self.tail.bytes()
    }

    fn leader(&self) -> Option<NodeId> {
        self.raft.leader()
    }

    /// The last index that is durable here and applied.
    fn settled(&self) -> Index {
        self.raft.durable_index().min(self.record.applied.index)
    }

    fn send(&mut self, to: NodeId, message: PeerMessage) {
        self.effects.push(Effect::Send { to, message });
    }

    // ---- what has happened ----

    fn event(&mut self, event: Event) {
        match event {
            Event::Received { from, message } => self.received(from, message),
            Event::Hello { peer, incarnation, level } => {
                self.hello(peer, incarnation);
                self.level_shown(peer, level);
            }
            Event::TurnedAway { by, reason } => self.turned_away(by, reason),
            Event::ChangeMembers { ticket, change, basis } => {
                self.asked(ticket, Ask::ChangeMembers { change, basis });
            }
            Event::TransferLeadership { ticket, to } => {
                self.asked(ticket, Ask::TransferLeadership(to));
            }
            Event::HandOver => self.hand_over(),
            Event::Consult { ticket, bytes } => self.consult(ticket, bytes),
            Event::Counsel { to, outcome } => self.counsel(to, outcome),
            Event::PeerUp(peer) => {
                self.input(Input::PeerUp(peer));
                if self.leader() == Some(peer) {
                    self.reads.ask_again();
                }
            }
            Event::PeerDown(peer) => {
                self.doubt_if_leader(peer);
                self.input(Input::PeerDown(peer));
            }
            Event::LaneLost(peer) => {
                self.doubt_if_leader(peer);
                self.reading.remove(&peer);
                self.input(Input::Unreachable(peer));
            }
            // What was granted while the lane was closed went nowhere: the leader probes at once. To a
            // follower the lane of entries says nothing about who leads.
            Event::LaneUp(peer) => {
                if self.raft.role() == RoleKind::Leader {
                    self.input(Input::PeerUp(peer));
                }
            }
            Event::SnapshotsLost(peer) => self.snapshots_lost(peer),
            Event::SnapshotWorked(work) => self.snapshot_worked(work),
            Event::StateSaved(saved) => self.state_saved(saved),
            Event::Mended(mended) => self.mended(mended),
            Event::LogRead { reader: LogReader::Frames(peer), frames } => {
                self.frames_read(peer, frames);
            }
            Event::LogWritten(written) => self.log_written(written),
            Event::LogRead { reader: LogReader::Peer(peer), frames } => {
                self.log_read_for(peer, frames);
            }
            Event::LogRead { reader: LogReader::Apply, frames } => {
                assert!(self.reading_to_apply, "the log answers what it was asked");
                self.reading_to_apply = false;
                // What a snapshot covers is not applied any more.
                let next = self.record.applied.index.next();
                let first = frames.first().map(|frame| frame.position().index);
                if first == Some(next) && !self.is_paused() && !self.is_quarantined() {
                    self.apply_frames(frames);
                }
            }
            Event::LogBegins(position) => {
                self.log_begins = position;
                self.raft.compact(position);
            }
            Event::LogFull => self.log_space(true),
            Event::LogHasSpace => self.log_space(false),
            Event::Propose(draft) => self.submissions.push(Submission::own(draft)),
            Event::ProposeInTerm { draft, term } => {
                self.submissions.push(Submission { term: Some(term), ..Submission::own(draft) });
            }
            Event::Read(batch) if self.is_quarantined() => {
                self.effects.push(Effect::ReadRefused(batch));
            }
            Event::Read(batch) => {
                let since_us = self.now.monotonic_us;
                self.reads.arrived.push(Waiting { batch, since_us });
            }
        }
    }

    /// Has this member's notes made durable; they go with the next batch of the log.
    fn queue_notes(&mut self) {
        let acquaintances = self.acquaintances.clone();
        let notes = Notes { acquaintances, quarantine: self.hashes.quarantine() };
        self.writer.queue_note(notes.encode());
    }

    // ---- the consensus module ----

    fn timer(&mut self, timer: Timer) {
        // Who could not lead does not stand, and looks again later.
        if matches!(timer, Timer::Election | Timer::ElectionSoon) && !self.may_lead() {
            self.timers.restart(Timer::Election, self.now);
            return;
        }
        self.input(Input::Timer(timer));
    }

    /// Whether the log's disk and the machine would let this member lead: one whose machine lacks what
    /// no log holds could neither apply nor serve what it would lead.
    fn may_lead(&self) -> bool {
        !self.is_stalled() && !self.is_quarantined() && !self.needs_snapshot()
    }

    fn input(&mut self, input: Input) {
        if self.is_mending() {
            return; // mending invariant 1
        }
        let mut outputs = std::mem::take(&mut self.outputs);
        self.raft.step(input, &mut outputs);
        for output in outputs.drain(..) {
            self.output(output);
        }
        self.outputs = outputs;
    }

    /// Carries out one output. Never steps the module again: grants are collected.
    fn output(&mut self, output: Output) {
        match output {
            Output::Write(write) => self.write(&write),
            Output::Send { to, message } => self.send(to, PeerMessage::Raft(message)),
            Output::SendAfter { after, to, message } => {
                if let Some((to, message)) = self.writer.gate(after, to, message) {
                    self.send(to, PeerMessage::Raft(message));
                }
            }
            Output::Grant(grant) => self.grants.push(grant),
            Output::Assigned { range } => self.stamp(&range),
            Output::NoOp { position } => {
                let draft =
                    Draft::new(Draft::buffer(0), Kind::NoOp, 1, self.group, Origin::default());
                let time_ms = self.cluster_time();
                self.incoming.push(draft.stamp(position, time_ms));
            }
            Output::Configured { position, configuration } => {
                let payload = encode_configuration(&configuration);
                let mut buffer = Draft::buffer(payload.len());
                buffer.extend_from_slice(&payload);
                let (kind, version) = (Kind::Configuration, CONFIGURATION_VERSION);
                let draft = Draft::new(buffer, kind, version, self.group, Origin::default());
                let time_ms = self.cluster_time();
                self.incoming.push(draft.stamp(position, time_ms));
                self.configured(Configured::As(position));
            }
            Output::ChangeRefused(refused) => self.configured(Configured::Refused(refused)),
            Output::MembersChanged => self.members_changed(),
            Output::TransferEnded(ended) => self.transfers_ended.push(ended),
            Output::Recovered => self.effects.push(Effect::Mend(Mend::EndRecovering)),
            Output::SendSnapshot { peer, at_least } => self.snapshot_asked_for(peer, at_least),
            Output::ProposalRefused(refused) => self.refuse(refused),
            Output::ReadQueued(_) | Output::ReadRefused(_) => self.read_outcome = Some(output),
            Output::ReadsReady { round, index } => {
                for (peer, number) in self.reads.confirmed(round, index) {
                    let index = Some(index);
                    self.send(peer, PeerMessage::ReadIndexResponse { number, index });
                }
            }
            // Read from the module where it is needed.
            Output::Commit(_) => {}
            Output::Changed(standing) => self.changed(standing),
            Output::Restart(timer) => self.timers.restart(timer, self.now),
        }
    }

    fn changed(&mut self, standing: Standing) {
        self.grants.clear();
        self.reading.clear();
        self.forget_rounds();
        for (peer, number) in self.reads.start_over() {
            self.send(peer, PeerMessage::ReadIndexResponse { number, index: None });
        }
        self.doubt();
        self.doubt_asks();
        self.doubt_consults(standing.leader);
        if standing.role != RoleKind::Leader {
            self.doubt_change();
        }
        if let Some(leader) = standing.leader {
            self.leader_seen_by_asks(leader);
        }
        self.stop_sending();
        let leader = standing.leader.map(|leader| (standing.term, leader));
        if leader.is_some() && leader != self.leader_last {
            self.leader_last = leader;
            self.leader_changes += 1;
        }
        self.effects.push(Effect::Changed(standing));
    }

    /// The time to stamp on an entry: never below what the log has.
    fn cluster_time(&mut self) -> u64 {
        if canon!(cluster_time_goes_back) {
            return self.now.wall_ms;
        }
        self.time_ms = self.time_ms.max(self.now.wall_ms);
        self.time_ms
    }
}
