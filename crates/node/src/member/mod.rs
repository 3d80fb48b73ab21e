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
mod bounds;
mod log;
mod reads;
mod timers;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jangada_entry::{CONFIGURATION_VERSION, Draft, Frame, Kind, Origin, encode_configuration};
use jangada_net::{ForwardRefusal, PeerMessage, Proposal};
use jangada_raft::{
    Configuration, Grant, HardState, Index, Input, Limits, Message, NodeId, Output, Position, Raft,
    Range, Refused, RoleKind, Standing, Start, Term, Write, canon,
};

pub use bounds::{Bound, Piece};
pub use log::{LogBatch, LogCut, LogRead, LogReader, LogWritten};
pub use reads::ReadBatch;
pub use timers::Now;

use crate::machine::{Outcome, StateMachine};
use crate::record::{Acquaintances, NotesError, Record};
use crate::tail::Tail;
use log::Writer;
use reads::{Asker, Reads, Waiting};
use timers::Timers;

/// What can happen to a member.
#[derive(Debug)]
pub enum Event {
    /// A message of a peer arrived. A handshake with that peer was told of before.
    Received {
        /// The sender.
        from: NodeId,
        /// The message.
        message: PeerMessage,
    },
    /// A handshake with a peer, in either direction, showed this incarnation.
    Hello {
        /// The peer.
        peer: NodeId,
        /// Names the life of the peer's data directory.
        incarnation: u64,
    },
    /// The control lane to the peer stands.
    PeerUp(NodeId),
    /// The control lane to the peer broke and could not be mended at once.
    PeerDown(NodeId),
    /// What was sent to the peer on the lane of entries may be lost.
    LaneLost(NodeId),
    /// The lane of entries to the peer is open: what is sent from here on travels.
    LaneUp(NodeId),
    /// The outstanding batch is durable.
    LogWritten(LogWritten),
    /// Entries that were asked for, in order, from the first one asked for on.
    LogRead {
        /// For whom they were read.
        reader: LogReader,
        /// The entries.
        frames: Vec<Frame>,
    },
    /// The log now begins after this entry.
    LogBegins(Position),
    /// A client of this member proposes a command.
    Propose(Draft),
    /// Clients of this member wait for a linearizable read. Answered by [`Effect::ReadReady`] or
    /// [`Effect::ReadExpired`].
    Read(ReadBatch),
}

/// What a member asks of its driver, in order.
#[derive(Debug)]
pub enum Effect<R> {
    /// Make this batch durable and report [`Event::LogWritten`]. The next batch comes after that.
    Write(LogBatch),
    /// Read entries back and report [`Event::LogRead`].
    Read(LogRead),
    /// Cut the log and report [`Event::LogBegins`].
    Cut(LogCut),
    /// Send to a peer. If it cannot be sent, report [`Event::LaneLost`].
    Send {
        /// The receiver.
        to: NodeId,
        /// The message.
        message: PeerMessage,
    },
    /// A command of one of this member's clients was applied here.
    Reply {
        /// The number the command was proposed under.
        sequence: u64,
        /// The state machine's answer.
        reply: R,
    },
    /// A command of one of this member's clients will not happen.
    Refuse {
        /// The number the command was proposed under.
        sequence: u64,
        /// Why.
        reason: ProposeError,
    },
    /// The commands of this member's clients with numbers up to this one that are not answered by
    /// now may or may not happen.
    Doubt {
        /// The highest number concerned.
        sequence_max: u64,
    },
    /// Everything committed before the batch came is applied here.
    ReadReady(ReadBatch),
    /// No leader confirmed itself in time for this batch.
    ReadExpired(ReadBatch),
    /// Role, term or leader changed.
    Changed(Standing),
    /// A peer shows an incarnation other than the one it was first met under; nothing of it counts.
    Stranger {
        /// The peer.
        peer: NodeId,
        /// The incarnation it was met under.
        met: u64,
        /// The incarnation it shows.
        shown: u64,
    },
}

/// Why a proposal got no answer from the state machine.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ProposeError {
    /// No leader was found in time. The command did not happen.
    NoLeader,
    /// Too much is under way. The command did not happen; try again after a while.
    Busy,
    /// The leader changed, the connection to it broke, or no answer came in time, while the command
    /// was under way. It may or may not happen.
    InDoubt,
    /// The command is larger than an entry may be. It did not happen.
    TooLarge,
    /// The member is stopping. The command may or may not happen.
    Stopped,
}

impl std::fmt::Display for ProposeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ProposeError::NoLeader => "no leader was found in time; the command did not happen",
            ProposeError::Busy => {
                "too much is under way; the command did not happen, try again after a while"
            }
            ProposeError::InDoubt => {
                "the leader changed or was silent while the command was under way; it may or may \
                 not happen"
            }
            ProposeError::TooLarge => {
                "the command is larger than an entry may be; it did not happen"
            }
            ProposeError::Stopped => "the member is stopping; the command may or may not happen",
        })
    }
}

impl std::error::Error for ProposeError {}

/// The bounds and intervals of a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// How often the leader makes itself heard.
    pub heartbeat_interval_us: u64,
    /// How long a follower waits for word from the leader at least.
    pub election_timeout_us: u64,
    /// How long a proposal or a read waits for a leader to be found, and how long a proposal that
    /// was handed to one waits for its answer.
    pub leader_wait_us: u64,
    /// The consensus module's bounds.
    pub limits: Limits,
    /// The most bytes of settled entries (durable and applied) that are kept in memory for followers
    /// that lag.
    pub tail_bytes_max: u64,
    /// The most bytes of proposals that wait for a leader to be found.
    pub held_bytes_max: u64,
    /// The most bytes of entries that are applied in one step, so that heartbeats are not held up.
    pub apply_bytes_max: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            // etcd's defaults.
            heartbeat_interval_us: 100_000,
            election_timeout_us: 1_000_000,
            // etcd's request timeout: five seconds and two election timeouts.
            leader_wait_us: 7_000_000,
            limits: Limits::default(),
            // A follower that is further behind than this reads from disk anyway.
            tail_bytes_max: 8 << 20,
            // As much as a leader would take uncommitted from all of its clients.
            held_bytes_max: 16 << 20,
            // A few milliseconds of work.
            apply_bytes_max: 4 << 20,
        }
    }
}

/// What a member starts from.
#[derive(Debug)]
pub struct MemberStart {
    /// This member.
    pub id: NodeId,
    /// The group whose log this is.
    pub group: u64,
    /// Names this life of the process, never used before: stamps the proposals of its clients.
    pub process: u64,
    /// The durable term and vote.
    pub hard_state: HardState,
    /// The configuration in force where the log begins.
    pub configuration: Configuration,
    /// The configurations among the log's entries, by index.
    pub configurations: Vec<(Index, Configuration)>,
    /// The durable log's names.
    pub log: Range,
    /// The time stamped on the log's last entry, in milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// The notes that the log gave back.
    pub note: bytes::Bytes,
    /// Bounds and intervals.
    pub options: Options,
    /// Decides everything random.
    pub seed: u64,
}

/// Why a member cannot start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StartError {
    /// The log ends before, or begins after, what the state machine has applied.
    Gap {
        /// The last entry applied by the state machine.
        applied: Position,
        /// The entry before the log's first one.
        begins: Position,
        /// The log's last entry.
        ends: Position,
    },
    /// Stored notes cannot be read.
    Notes(NotesError),
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StartError::Gap { applied, begins, ends } => write!(
                f,
                "the state machine has applied entry {} of term {}, but the log holds the entries \
                 after {} of term {} up to {} of term {}: the two do not belong together; restore \
                 both from one backup, or remove the member and add it anew",
                applied.index, applied.term, begins.index, begins.term, ends.index, ends.term
            ),
            StartError::Notes(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StartError {}

impl From<NotesError> for StartError {
    fn from(error: NotesError) -> StartError {
        StartError::Notes(error)
    }
}

/// How a member stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Status {
    /// Role, term and leader.
    pub standing: Standing,
    /// The highest index known to be committed.
    pub commit: Index,
    /// The last entry applied here, the cluster's time and the running hash as of it.
    pub record: Record,
    /// The log's last entry.
    pub last: Index,
    /// The entry before the first one that the log retains.
    pub log_begins: Position,
    /// The last index that the state machine holds durably.
    pub machine_durable: Index,
    /// How far every member's log is known to reach.
    pub everyone_holds: Index,
    /// How many leaders have come since the member started.
    pub leader_changes: u64,
}

/// A command on its way into the leader's log.
#[derive(Debug)]
struct Submission {
    draft: Draft,
    /// The member that forwarded it, if it is not this member's own.
    from: Option<NodeId>,
}

/// How often the leader tells how far every log reaches, and each member looks whether its log can
/// be cut (microseconds). The log grows by this much more than needed; cutting costs little.
const RETENTION_INTERVAL_US: u64 = 1_000_000;

/// How long a follower waits for the answer to a read index before it asks again, at least
/// (microseconds); as long as etcd waits.
const READ_RETRY_US: u64 = 500_000;

/// The most bytes of entries that a leader holds in memory because they are not durable here or not
/// applied; beyond it proposals are refused as busy. Twice what may be uncommitted by default: a
/// disk or a machine that is behind by more will not catch up by itself.
const UNSETTLED_BYTES_MAX: u64 = 128 << 20;

/// The most commands in one message to the leader, and the most that one message refuses; no more
/// than the codec takes.
const FORWARD_PROPOSALS_MAX: usize = 4096;
const _: () = assert!(FORWARD_PROPOSALS_MAX <= jangada_net::wire::PROPOSALS_MAX);

/// The most bytes of commands in one message to the leader, unless it is a single one. What a full
/// lane does not take is refused, so a message should be small against what a lane holds.
const FORWARD_BYTES_MAX: u64 = 1 << 20;

/// The times at which unanswered commands become doubtful are rounded up to multiples of this
/// (microseconds), so that a few dozen of them stand for all commands under way.
const DEADLINE_STEP_US: u64 = 250_000;

/// The most messages kept of a peer while the note of its incarnation is being written. A handful
/// come in the milliseconds that takes; what is beyond is repeated by the protocol.
const UNMET_MESSAGES_MAX: usize = 256;

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
    everyone_holds: Index,
    retention_at_us: u64,
    /// The last leader there was, and the term it led.
    leader_last: Option<(Term, NodeId)>,
    leader_changes: u64,

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
    sent_on: Vec<Proposal>,
    read_outcome: Option<Output>,
    more_to_apply: bool,
    /// What the machine was last told to be safe in this member's log.
    log_safe: Index,

    outputs: Vec<Output>,
    commands: Vec<Frame>,
    outcomes: Vec<Outcome<M::Reply>>,
    runnable: Vec<ReadBatch>,
    effects: Vec<Effect<M::Reply>>,
}

fn proposal_of(draft: Draft) -> Proposal {
    let (kind, version, origin) = (draft.kind(), draft.version(), draft.origin());
    Proposal { kind, version, origin, payload: draft.into_payload() }
}

impl<M: StateMachine> Member<M> {
    /// A member that has just started, on a log and a state machine that were recovered.
    ///
    /// # Errors
    /// If the log and the state machine do not belong together.
    ///
    /// # Panics
    /// If an interval is 0.
    pub fn new(now: Now, start: MemberStart, machine: M) -> Result<Member<M>, StartError> {
        let record = match machine.recovered() {
            Some(bytes) => Record::decode(&bytes)?,
            None => Record::default(),
        };
        let applied = record.applied;
        let last = start.log.last_position();
        if start.log.term_at(applied.index) != Some(applied.term) {
            return Err(StartError::Gap { applied, begins: start.log.prev, ends: last });
        }
        let acquaintances = Acquaintances::decode(&start.note)?;
        let options = start.options;
        assert!(0 < options.heartbeat_interval_us, "a leader makes itself heard now and then");
        assert!(0 < options.election_timeout_us, "a leader is given time to make itself heard");
        let random = fastrand::Rng::with_seed(start.seed);
        let log_begins = start.log.prev;
        let raft = Raft::new(Start {
            id: start.id,
            hard_state: start.hard_state,
            configuration: start.configuration,
            configurations: start.configurations,
            log: start.log,
            commit: applied.index,
            limits: options.limits,
            recovering: None,
        });
        let timers =
            Timers::new(options.heartbeat_interval_us, options.election_timeout_us, random);
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
            record,
            time_ms: start.time_ms.max(record.time_ms),
            log_begins,
            everyone_holds: log_begins.index,
            retention_at_us: now.monotonic_us + RETENTION_INTERVAL_US,
            leader_last: None,
            leader_changes: 0,
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
            log_safe: applied.index,
            outputs: Vec::new(),
            commands: Vec::new(),
            outcomes: Vec::new(),
            runnable: Vec::new(),
            effects: Vec::new(),
        };
        member.machine.log_durable(applied.index);
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
        while let Some(timer) = self.timers.due(now) {
            self.input(Input::Timer(timer));
        }
        self.submit_held();
        self.submit();
        self.ask_for_reads();
        self.send_granted();
        self.tell_log_durable();
        self.apply();
        self.run_reads();
        self.write_log();
        self.look_after_retention();
        self.expire();
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
        let mut next = self.retention_at_us;
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
        next
    }

    /// How the member stands.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            standing: self.raft.standing(),
            commit: self.raft.commit_index(),
            record: self.record,
            last: self.raft.last_index(),
            log_begins: self.log_begins,
            machine_durable: self.machine.durable_index(),
            everyone_holds: self.everyone_holds,
            leader_changes: self.leader_changes,
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
            Event::Hello { peer, incarnation } => self.hello(peer, incarnation),
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
            Event::LogWritten(written) => self.log_written(written),
            Event::LogRead { reader: LogReader::Peer(peer), frames } => {
                self.log_read_for(peer, frames);
            }
            Event::LogRead { reader: LogReader::Apply, frames } => {
                assert!(self.reading_to_apply, "the log answers what it was asked");
                self.reading_to_apply = false;
                self.apply_frames(frames);
            }
            Event::LogBegins(position) => {
                self.log_begins = position;
                self.raft.compact(position);
            }
            Event::Propose(draft) => self.submissions.push(Submission { draft, from: None }),
            Event::Read(batch) => {
                let since_us = self.now.monotonic_us;
                self.reads.arrived.push(Waiting { batch, since_us });
            }
        }
    }

    /// A peer is counted only under the incarnation it was first met under (member invariant 4).
    fn hello(&mut self, peer: NodeId, incarnation: u64) {
        match self.acquaintances.of(peer) {
            Some(met) if met == incarnation => {
                self.strangers.remove(&peer);
            }
            Some(met) => {
                if self.strangers.insert(peer) {
                    self.effects.push(Effect::Stranger { peer, met, shown: incarnation });
                }
            }
            None => {
                self.acquaintances.meet(peer, incarnation);
                self.unmet.insert(peer, Vec::new());
                self.writer.queue_note(self.acquaintances.encode());
            }
        }
    }

    fn received(&mut self, from: NodeId, message: PeerMessage) {
        if self.strangers.contains(&from) || self.acquaintances.of(from).is_none() {
            return;
        }
        if let Some(kept) = self.unmet.get_mut(&from) {
            if kept.len() < UNMET_MESSAGES_MAX {
                kept.push(message);
            }
            return;
        }
        match message {
            PeerMessage::Raft(message) => self.input(Input::Receive { from, message }),
            PeerMessage::Append { request, frames } => {
                self.incoming = frames;
                self.input(Input::Receive { from, message: Message::AppendRequest(request) });
                self.incoming.clear();
            }
            PeerMessage::Forward(proposals) => self.forwarded(from, proposals),
            // For an earlier process of this member, which numbered other proposals alike.
            PeerMessage::ForwardRefused { process, .. }
                if process != self.process && !canon!(refusal_for_an_earlier_life_is_taken) => {}
            PeerMessage::ForwardRefused { sequences, reason, .. } => {
                let reason = match reason {
                    ForwardRefusal::NotLeader => ProposeError::NoLeader,
                    ForwardRefusal::Busy => ProposeError::Busy,
                };
                for sequence in sequences {
                    self.effects.push(Effect::Refuse { sequence, reason });
                }
            }
            PeerMessage::ReadIndexRequest { number } => {
                self.read_for(Asker::Peer { peer: from, number });
            }
            PeerMessage::ReadIndexResponse { number, index } => {
                self.reads.answered(number, index);
            }
            PeerMessage::Retention { everyone_holds } => {
                if self.leader() == Some(from) {
                    self.everyone_holds = self.everyone_holds.max(everyone_holds);
                }
            }
        }
    }

    // ---- the consensus module ----

    fn input(&mut self, input: Input) {
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
            }
            Output::MembersChanged
            | Output::ChangeRefused(_)
            | Output::TransferEnded(_)
            | Output::SendSnapshot { .. }
            | Output::Recovered => {}
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
        for (peer, number) in self.reads.start_over() {
            self.send(peer, PeerMessage::ReadIndexResponse { number, index: None });
        }
        self.doubt();
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

    // ---- the log ----

    /// Puts the frames of this step into the log under the names the module gave them.
    fn write(&mut self, write: &Write) {
        if let Some(range) = &write.range {
            self.tail.truncate_after(range.prev);
            let mut frames = std::mem::take(&mut self.incoming);
            for frame in frames.drain(..) {
                let position = frame.position();
                if position.index <= range.prev.index || range.last < position.index {
                    continue;
                }
                assert!(
                    range.term_at(position.index) == Some(position.term),
                    "member invariant 1: a frame enters under the name it was given"
                );
                self.time_ms = self.time_ms.max(frame.header().time_ms);
                self.tail.push(frame);
            }
            self.incoming = frames;
            assert!(
                self.tail.last() == range.last_position(),
                "member invariant 1: every entry of a write has its frame"
            );
        }
        self.writer.queue(write);
    }

    fn write_log(&mut self) {
        let (tail, last) = (&self.tail, self.tail.last());
        let batch = self.writer.next(last, |after| {
            if after == last.index {
                return Vec::new();
            }
            tail.read(after.next(), last.index, u64::MAX)
        });
        if let Some(batch) = batch {
            self.effects.push(Effect::Write(batch));
        }
    }

    fn log_written(&mut self, written: LogWritten) {
        for (to, message) in self.writer.written(written) {
            self.effects.push(Effect::Send { to, message: PeerMessage::Raft(message) });
        }
        self.input(Input::Persisted { write: written.number, last: written.last });
        // Every note queued before this batch was handed out went with it; one queued since has its
        // own batch, and its peers wait for that one.
        if !self.writer.has_note() {
            for (peer, messages) in std::mem::take(&mut self.unmet) {
                for message in messages {
                    self.received(peer, message);
                }
            }
        }
    }

    /// Tells the machine how far it may make its own state durable: up to what is durable in this
    /// member's log *and* committed. Durable alone is not enough, for it can be taken back:
    ///
    /// ```text
    ///   log        7 8 9      9 is durable and not committed
    ///   append     7 8 9'     another leader replaces 9; the write of 9' is under way
    ///   commit 9'             by the disks of others: 9' is applied here
    /// ```
    ///
    /// A machine that took "9 is durable" for leave to store the effects of 9' would, after a crash,
    /// have applied an entry that its log does not hold.
    fn tell_log_durable(&mut self) {
        let mut safe = self.raft.durable_index().min(self.raft.commit_index());
        if canon!(engine_stores_what_is_durable_alone) {
            safe = self.raft.durable_index();
        }
        if self.log_safe < safe {
            self.log_safe = safe;
            self.machine.log_durable(safe);
        }
    }

    fn look_after_retention(&mut self) {
        if self.now.monotonic_us < self.retention_at_us {
            return;
        }
        self.retention_at_us = self.now.monotonic_us + RETENTION_INTERVAL_US;
        if self.raft.role() == RoleKind::Leader {
            self.everyone_holds = self.raft.matched_by_all();
            let configuration = self.raft.configuration();
            let members = configuration.voters.iter().chain(&configuration.learners);
            let peers: Vec<NodeId> = members.copied().filter(|peer| *peer != self.id).collect();
            for peer in peers {
                let everyone_holds = self.everyone_holds;
                self.send(peer, PeerMessage::Retention { everyone_holds });
            }
        }
        let mut index = self.machine.durable_index().min(self.everyone_holds);
        if canon!(log_is_cut_ahead_of_the_engine) {
            index = self.everyone_holds.min(self.settled());
        }
        if canon!(log_is_cut_ahead_of_the_others) {
            index = self.machine.durable_index();
        }
        if self.log_begins.index < index
            && let Some(term) = self.raft.term_at(index)
        {
            let up_to = Position { index, term };
            let configuration = self.raft.configuration().clone();
            self.effects.push(Effect::Cut(LogCut { up_to, configuration }));
        }
    }

    // ---- sending entries ----

    fn send_granted(&mut self) {
        loop {
            self.input(Input::Flush);
            let mut sent_entries = false;
            let mut grants = std::mem::take(&mut self.grants);
            for grant in grants.drain(..) {
                sent_entries |= self.send_grant(grant);
            }
            self.grants = grants;
            // The module grants one append at a time; there may be room for more.
            if !sent_entries {
                return;
            }
        }
    }

    /// Uses a grant, or has its entries read back from the log. True if entries were sent.
    fn send_grant(&mut self, grant: Grant) -> bool {
        if grant.range.is_empty() {
            self.send_append(&grant, Vec::new());
            return false;
        }
        let first = grant.range.first();
        if self.tail.holds(first) {
            let frames = self.tail.read(first, grant.range.last, grant.bytes_max);
            self.send_append(&grant, frames);
            return true;
        }
        let peer = grant.peer;
        let read = LogRead {
            reader: LogReader::Peer(peer),
            from: first,
            // What is held here may not have reached the log yet.
            last: match canon!(entries_are_read_back_before_they_are_written) {
                true => grant.range.last,
                false => grant.range.last.min(self.tail.before().index),
            },
            bytes_max: grant.bytes_max,
        };
        self.reading.insert(peer, grant);
        // Should a read be under way for an earlier grant, the right one follows its answer.
        if self.reads_under_way.insert(peer) {
            self.effects.push(Effect::Read(read));
        }
        false
    }

    fn send_append(&mut self, grant: &Grant, frames: Vec<Frame>) {
        let last = frames.last().map_or(grant.range.prev.index, |frame| frame.position().index);
        let named_alike = frames.iter().all(|frame| {
            let position = frame.position();
            grant.range.term_at(position.index) == Some(position.term)
        });
        if !named_alike {
            // The log was overwritten while the entries were read; the peer is probed anew.
            self.input(Input::Unreachable(grant.peer));
            return;
        }
        let bytes = frames.iter().map(|frame| frame.bytes().len() as u64).sum();
        let request = grant.request(last);
        self.send(grant.peer, PeerMessage::Append { request, frames });
        self.input(Input::Sent { peer: grant.peer, last, bytes });
    }

    fn log_read_for(&mut self, peer: NodeId, frames: Vec<Frame>) {
        assert!(self.reads_under_way.remove(&peer), "the log answers what it was asked");
        // No grant: leadership ended or the lane broke while the log was read.
        let Some(grant) = self.reading.remove(&peer) else { return };
        let first = grant.range.first();
        let other = frames.first().is_none_or(|frame| frame.position().index != first);
        if other && !canon!(entries_of_an_earlier_grant_are_sent) {
            self.send_grant(grant);
            return;
        }
        let wanted = frames.into_iter().take_while(|f| f.position().index <= grant.range.last);
        self.send_append(&grant, wanted.collect());
    }

    // ---- proposals ----

    fn forwarded(&mut self, from: NodeId, proposals: Vec<Proposal>) {
        for Proposal { kind, version, origin, payload } in proposals {
            let mut buffer = Draft::buffer(payload.len());
            buffer.extend_from_slice(&payload);
            let draft = Draft::new(buffer, kind, version, self.group, origin);
            self.submissions.push(Submission { draft, from: Some(from) });
        }
    }

    /// Commands that were held because there was no leader are submitted before newer ones.
    fn submit_held(&mut self) {
        if self.held.is_empty() || self.leader().is_none() {
            return;
        }
        self.held_bytes = 0;
        let held = self.held.drain(..).map(|(draft, _)| Submission { draft, from: None });
        self.submissions.splice(0..0, held);
    }

    /// Hands all commands that came in this step to the consensus module as one proposal.
    fn submit(&mut self) {
        if self.submissions.is_empty() {
            return;
        }
        let entries = self.submissions.len() as u64;
        let bytes = self.submissions.iter().map(|s| s.draft.frame_bytes() as u64).sum();
        // The others may commit while this member's own disk or machine lags behind.
        let unsettled_bytes_max = self.options.tail_bytes_max + UNSETTLED_BYTES_MAX;
        if self.raft.role() == RoleKind::Leader && unsettled_bytes_max < self.tail.bytes() {
            self.refuse(Refused::Busy);
            return;
        }
        self.input(Input::Propose { entries, bytes });
        self.incoming.clear();
        assert!(self.submissions.is_empty(), "every command was stamped or refused");
    }

    /// The commands of this step got their names.
    fn stamp(&mut self, range: &Range) {
        let time_ms = self.cluster_time();
        let mut submissions = std::mem::take(&mut self.submissions);
        let mut index = range.prev.index;
        for Submission { draft, .. } in submissions.drain(..) {
            index = index.next();
            self.note_under_way(&draft);
            let term = range.term_at(index).expect("a name for every command");
            self.incoming.push(draft.stamp(Position { index, term }, time_ms));
        }
        assert!(index == range.last, "a command for every name");
        self.submissions = submissions;
    }

    fn note_under_way(&mut self, draft: &Draft) {
        let origin = draft.origin();
        if origin.incarnation != self.process {
            return;
        }
        self.sequence_last = self.sequence_last.max(origin.sequence);
        let wait_us = self.now.monotonic_us + self.options.leader_wait_us;
        let at = wait_us.next_multiple_of(DEADLINE_STEP_US);
        match self.deadlines.back_mut() {
            Some((sequence_max, last_at)) if *last_at == at => *sequence_max = self.sequence_last,
            _ => self.deadlines.push_back((self.sequence_last, at)),
        }
    }

    /// The module did not take the commands of this step.
    fn refuse(&mut self, refused: Refused) {
        let mut submissions = std::mem::take(&mut self.submissions);
        let (reason, refusal) = match refused {
            Refused::Busy => (ProposeError::Busy, ForwardRefusal::Busy),
            Refused::NotLeader(_) | Refused::HandingOver => {
                (ProposeError::NoLeader, ForwardRefusal::NotLeader)
            }
        };
        let mut refused_to: BTreeMap<(NodeId, u64), Vec<u64>> = BTreeMap::new();
        let mut forward = Vec::new();
        for Submission { draft, from } in submissions.drain(..) {
            let Origin { incarnation: process, sequence } = draft.origin();
            match (from, refused) {
                // Forwarded once already: a second hop could put it into two logs' futures.
                (Some(peer), _) => refused_to.entry((peer, process)).or_default().push(sequence),
                (None, Refused::NotLeader(Some(_))) => {
                    self.note_under_way(&draft);
                    forward.push(proposal_of(draft));
                }
                // Within an election timeout there is a leader again.
                (None, Refused::NotLeader(None) | Refused::HandingOver) => self.hold(draft),
                (None, Refused::Busy) => self.effects.push(Effect::Refuse { sequence, reason }),
            }
        }
        self.submissions = submissions;
        if let Refused::NotLeader(Some(leader)) = refused {
            self.forward(leader, forward);
        }
        for ((peer, process), sequences) in refused_to {
            for sequences in sequences.chunks(FORWARD_PROPOSALS_MAX) {
                let (sequences, reason) = (sequences.to_vec(), refusal);
                self.send(peer, PeerMessage::ForwardRefused { process, sequences, reason });
            }
        }
    }

    /// Sends commands to the leader, in messages that a lane takes.
    fn forward(&mut self, leader: NodeId, proposals: Vec<Proposal>) {
        #[cfg(feature = "canon")]
        self.remember(&proposals);
        let mut part = Vec::new();
        let mut bytes = 0;
        for proposal in proposals {
            let more = proposal.payload.len() as u64;
            let full = FORWARD_PROPOSALS_MAX <= part.len() || FORWARD_BYTES_MAX < bytes + more;
            if full && !part.is_empty() {
                self.send(leader, PeerMessage::Forward(std::mem::take(&mut part)));
                bytes = 0;
            }
            bytes += more;
            part.push(proposal);
        }
        if !part.is_empty() {
            self.send(leader, PeerMessage::Forward(part));
        }
    }

    fn hold(&mut self, draft: Draft) {
        let bytes = draft.frame_bytes() as u64;
        if self.options.held_bytes_max < self.held_bytes + bytes {
            let sequence = draft.origin().sequence;
            self.effects.push(Effect::Refuse { sequence, reason: ProposeError::Busy });
            return;
        }
        self.held_bytes += bytes;
        self.held.push_back((draft, self.now.monotonic_us));
    }

    fn doubt_if_leader(&mut self, peer: NodeId) {
        if self.leader() == Some(peer) {
            self.doubt();
            #[cfg(feature = "canon")]
            self.send_again();
        }
    }

    /// What is under way may be lost, or may yet be committed by the next leader: it gets one
    /// election timeout to show up in the log before its clients are told.
    fn doubt(&mut self) {
        let sequence_max = self.sequence_last;
        if sequence_max == 0 || self.doubts.back().is_some_and(|(max, _)| *max == sequence_max) {
            return;
        }
        let at = self.now.monotonic_us + self.options.election_timeout_us;
        self.doubts.push_back((sequence_max, at));
    }

    fn expire(&mut self) {
        let now_us = self.now.monotonic_us;
        let mut doubtful = 0;
        for queue in [&mut self.doubts, &mut self.deadlines] {
            while let Some((sequence_max, _)) = queue.front().filter(|(_, at)| *at <= now_us) {
                doubtful = doubtful.max(*sequence_max);
                queue.pop_front();
            }
        }
        if 0 < doubtful && !canon!(nobody_is_told_of_doubt) {
            self.effects.push(Effect::Doubt { sequence_max: doubtful });
        }
        let Some(before_us) = now_us.checked_sub(self.options.leader_wait_us) else { return };
        while self.held.front().is_some_and(|(_, since_us)| *since_us <= before_us) {
            let (draft, _) = self.held.pop_front().expect("there is a front");
            self.held_bytes -= draft.frame_bytes() as u64;
            let sequence = draft.origin().sequence;
            self.effects.push(Effect::Refuse { sequence, reason: ProposeError::NoLeader });
        }
        if !self.reads.is_idle() {
            self.reads.expired(before_us, &mut self.runnable);
            self.effects.extend(self.runnable.drain(..).map(Effect::ReadExpired));
        }
    }

    // ---- reads ----

    /// How long to wait for the answer to a read index: members whose election timeout is long are
    /// far from one another.
    fn read_retry_us(&self) -> u64 {
        READ_RETRY_US.max(self.options.election_timeout_us / 2)
    }

    fn ask_for_reads(&mut self) {
        let late = |sent_us: u64| sent_us + self.read_retry_us() <= self.now.monotonic_us;
        if self.reads.asked.as_ref().is_some_and(|asked| late(asked.sent_us)) {
            self.reads.ask_again();
        }
        if self.reads.arrived.is_empty() {
            return;
        }
        if self.raft.role() == RoleKind::Leader {
            for waiting in std::mem::take(&mut self.reads.arrived) {
                self.read_for(Asker::Local(waiting));
            }
            return;
        }
        if let Some(leader) = self.leader()
            && self.reads.asked.is_none()
        {
            let number = self.reads.ask(self.now.monotonic_us);
            self.send(leader, PeerMessage::ReadIndexRequest { number });
        }
    }

    fn read_for(&mut self, asker: Asker) {
        self.input(Input::Read);
        match (self.read_outcome.take(), asker) {
            (Some(Output::ReadQueued(round)), asker) => self.reads.queue(round, asker),
            (_, Asker::Local(waiting)) => self.reads.arrived.push(waiting),
            (_, Asker::Peer { peer, number }) => {
                self.send(peer, PeerMessage::ReadIndexResponse { number, index: None });
            }
        }
    }

    fn run_reads(&mut self) {
        self.reads.runnable(self.record.applied.index, &mut self.runnable);
        self.effects.extend(self.runnable.drain(..).map(Effect::ReadReady));
    }

    // ---- applying ----

    fn apply(&mut self) {
        self.more_to_apply = false;
        let applied = self.record.applied.index;
        let commit = self.raft.commit_index();
        if applied == commit || self.reading_to_apply {
            return;
        }
        let from = applied.next();
        let bytes_max = self.options.apply_bytes_max;
        if self.tail.holds(from) {
            let frames = self.tail.read(from, commit, bytes_max);
            self.apply_frames(frames);
            self.more_to_apply = self.record.applied.index < self.raft.commit_index();
            return;
        }
        self.reading_to_apply = true;
        // What is held here may not have reached the log yet.
        let last = commit.min(self.tail.before().index);
        let read = LogRead { reader: LogReader::Apply, from, last, bytes_max };
        self.effects.push(Effect::Read(read));
    }

    /// Applies committed entries in order (member invariant 2).
    fn apply_frames(&mut self, frames: Vec<Frame>) {
        let last = frames.last().expect("at least one entry is read").position();
        assert!(last.index <= self.raft.commit_index(), "member invariant 2: only committed");
        let mut commands = std::mem::take(&mut self.commands);
        commands.extend(frames.iter().filter(|f| f.kind() == Kind::Command).cloned());
        self.machine.apply(&commands, &mut self.outcomes);
        assert!(self.outcomes.len() == commands.len(), "one outcome for each command");
        commands.clear();
        self.commands = commands;
        let mut outcomes = self.outcomes.drain(..);
        for frame in &frames {
            let header = frame.header();
            if header.kind != Kind::Command {
                self.record.chain(header.position, header.time_ms, 0);
                continue;
            }
            let outcome = outcomes.next().expect("one outcome for each command");
            self.record.chain(header.position, header.time_ms, outcome.digest);
            let of_another_life = canon!(another_life_of_the_member_is_answered)
                && header.origin.incarnation >> 32 == self.process >> 32;
            if header.origin.incarnation == self.process || of_another_life {
                let sequence = header.origin.sequence;
                self.effects.push(Effect::Reply { sequence, reply: outcome.reply });
            }
        }
        drop(outcomes);
        self.machine.end_batch(last.index, self.record.encode());
    }
}
