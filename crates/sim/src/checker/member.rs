//! One member as its driver keeps it: the shipped module, the disk under it, and what waits.
//!
//! Responsible for playing the driver in turns, for what a crash leaves, and for all that can be
//! judged of one turn by itself:
//!
//! 1. Every invariant of [`jangada_raft::invariants::MEMBER`] holds after each step.
//! 2. A message that rests on a term, a vote or an entry leaves only when the disk holds them
//!    (figure 2; "durability before acknowledgement").
//! 3. A leader never drops an entry of its log (Leader Append-Only, figure 3).
//! 4. A read never joins a round that was sent before it came.
//!
//! A turn is one input and a flush, as the runtimes drive the module; a *held* turn leaves the flush
//! out, so that the next input comes together with this one. Grants are honoured at once and in full.

use std::collections::VecDeque;

use jangada_raft::{
    AppendOutcome, Configuration, Grant, HardState, Index, Input, Limits, MemberChange, Message,
    NodeId, Output, Position, Raft, Range, ReadRound, RecoveryNumber, RoleKind, Start, Term, Timer,
    WriteNumber, invariants,
};

use super::history::Fact;
use super::parcel::{Covered, Parcel};
use super::violation::Violation;
use crate::specification::{self, Glimpse};

/// The size of every entry, in bytes.
pub(crate) const ENTRY_BYTES: u64 = 10;

/// What all members of a cluster share.
#[derive(Clone, Debug)]
pub(crate) struct Ground {
    pub(crate) configuration: Configuration,
    /// Members that start without knowing of any.
    pub(crate) joiners: Vec<NodeId>,
    pub(crate) limits: Limits,
    /// Whether writes are numbered anew after each turn.
    pub(crate) numbering: Numbering,
    /// Whether each step is held against the specification.
    pub(crate) refinement: Refinement,
}

/// Whether each step is held against the executable specification.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Refinement {
    /// It is; what the specification remembers is part of each state.
    Checked,
    /// It is not: the properties of figure 3 are checked alone, and states are fewer.
    #[default]
    Unchecked,
}

/// How writes are numbered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Numbering {
    /// From the newest durable write, so that a member's past does not tell states apart.
    Canonical,
    /// As the module does, for whoever reads it.
    Plain,
}

/// What survives a crash.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) term: Term,
    pub(crate) vote: Option<NodeId>,
    /// The term of each entry from index 1.
    pub(crate) log: Vec<Term>,
    /// The configurations among them, by index.
    pub(crate) configurations: Vec<(Index, Configuration)>,
    /// The log is kept from behind this entry on; what was cut off stays here for the checks.
    start: Index,
    /// The configuration at `start`, if it was ever cut or begun anew.
    base: Option<Configuration>,
    /// What the state machine has durably applied.
    pub(crate) applied: Index,
    /// A snapshot that the state machine has installed and the log does not follow yet.
    pub(crate) installed: Option<Covered>,
    /// Whether the log may have lost what was acknowledged.
    pub(crate) is_recovering: bool,
    /// How many recoveries have begun.
    recoveries: u64,
}

/// A write that the member asked for and that is not durable.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Pending {
    number: WriteNumber,
    hard_state: HardState,
    range: Option<Range>,
    /// The configurations among its entries, by index.
    configurations: Vec<(Index, Configuration)>,
    /// What takes the place of the whole log, if it is begun anew.
    anew: Option<Covered>,
    /// The log's last entry as of this write.
    last: Position,
}

/// A member.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Member {
    pub(crate) id: NodeId,
    /// `None` while it is down.
    pub(crate) raft: Option<Raft>,
    /// The terms of what was cut off the log that runs.
    prefix: Vec<Term>,
    pub(crate) disk: Disk,
    pub(crate) pending: VecDeque<Pending>,
    durable: WriteNumber,
    /// Messages that wait for a write.
    held: Vec<(WriteNumber, NodeId, Message)>,
    /// The newest read round that has left in this term of leadership.
    round_sent: ReadRound,
}

/// What can happen to a member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Act {
    /// A message arrives.
    Receive { from: NodeId, message: Parcel },
    /// A timer fires.
    Timer(Timer),
    /// A peer's process seems gone.
    PeerDown(NodeId),
    /// It shook hands again.
    PeerUp(NodeId),
    /// The connection to a peer broke.
    Unreachable(NodeId),
    /// A client proposes a command.
    Propose,
    /// A client reads.
    Read,
    /// Another membership is wanted.
    Change(MemberChange),
    /// Leadership is to be handed over.
    Transfer(NodeId),
    /// The driver gives its leader up.
    ForgetLeader,
    /// The driver gives leadership up.
    StepDown,
    /// The oldest writes become durable, so many of them at once.
    Persist(usize),
    /// The process ends. So many of the writes under way survive, and the state machine has kept what
    /// it had applied up to an index.
    Crash { survive: usize, applied: Index },
    /// The log is cut behind all that is applied.
    Cut,
    /// The driver says that the snapshot for this peer was not delivered.
    SnapshotFailed(NodeId),
    /// While the member is down its log loses all but so many entries.
    Rot { kept: u64 },
    /// It starts from its disk.
    Restart,
    /// No more inputs are at hand.
    Flush,
}

/// Whether a turn ends with a flush.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Ending {
    /// It does.
    Flushed,
    /// More inputs follow.
    Held,
}

/// What a member did in a turn, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Said {
    /// An output of the module.
    Output(Output),
    /// A message left it.
    Sent(NodeId, Parcel),
}

/// A turn.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Turn {
    pub(crate) said: Vec<Said>,
    pub(crate) facts: Vec<Fact>,
    /// The first thing that did not hold.
    pub(crate) violation: Option<Violation>,
    refinement: Refinement,
    /// Whether a snapshot is being installed: what it commits is learnt and not counted.
    installs: bool,
}

impl Turn {
    /// Takes down what the specification is to judge.
    fn acts(&mut self, facts: impl IntoIterator<Item = specification::Fact>) {
        if self.refinement == Refinement::Checked {
            self.facts.extend(facts.into_iter().map(Fact::Acts));
        }
    }
}

impl Disk {
    fn range(&self) -> Range {
        let start = self.start.0 as usize;
        let term = start.checked_sub(1).map_or(Term(0), |last| self.log[last]);
        let mut range = Range::empty(Position { index: self.start, term });
        self.log[start..].iter().for_each(|term| range.push(*term));
        range
    }

    fn begin_anew(&mut self, covered: &Covered) {
        self.log = covered.log.clone();
        self.configurations = covered.configurations.clone();
        self.start = covered.last().index;
        self.base = Some(covered.base.clone());
    }

    /// What the state machine has installed is of no interest any more where the log follows it.
    fn forget_installed(&mut self) {
        if self.installed.as_ref().is_some_and(|covered| self.log.starts_with(&covered.log)) {
            self.installed = None;
        }
    }

    fn write(&mut self, write: &Pending) {
        (self.term, self.vote) = (write.hard_state.term, write.hard_state.vote);
        let Some(range) = &write.range else { return };
        if let Some(covered) = &write.anew {
            self.begin_anew(covered);
            return self.forget_installed();
        }
        self.log.truncate(range.prev.index.0 as usize);
        self.configurations.retain(|(index, _)| *index <= range.prev.index);
        self.configurations.extend(write.configurations.iter().cloned());
        assert!(self.range().last_position() == range.prev, "a write joins the log on disk");
        for index in range.first().0..=range.last.0 {
            self.log.push(range.term_at(Index(index)).expect("within the range"));
        }
        self.forget_installed();
    }
}

impl Member {
    /// A member that starts with an empty disk.
    pub(crate) fn new(id: NodeId, ground: &Ground) -> Member {
        let mut member = Member {
            id,
            raft: None,
            prefix: Vec::new(),
            disk: Disk::default(),
            pending: VecDeque::new(),
            durable: WriteNumber(0),
            held: Vec::new(),
            round_sent: ReadRound(0),
        };
        member.start(ground, &mut Turn::default());
        member
    }

    /// Takes a turn.
    ///
    /// # Panics
    /// If the module does.
    pub(crate) fn take(&mut self, act: &Act, ending: Ending, ground: &Ground) -> Turn {
        let mut turn = Turn { refinement: ground.refinement, ..Turn::default() };
        match act {
            Act::Crash { survive, applied } => self.crash(*survive, *applied, &mut turn),
            Act::Restart => self.start(ground, &mut turn),
            Act::Persist(count) => self.persist(*count, &mut turn),
            Act::Flush => {}
            Act::Receive { from, message: Parcel::Word(message) } => {
                let (from, message) = (*from, message.clone());
                self.step(Input::Receive { from, message }, &mut turn);
            }
            Act::Receive { from, message: Parcel::Snapshot(term, covered) } => {
                self.install(*from, *term, covered, &mut turn);
            }
            Act::Receive { from, message: Parcel::Delivered(term, last) } => {
                let raft = self.raft.as_ref().expect("only who runs receives");
                // The driver tells nobody whose term or role has changed since.
                if raft.role() == RoleKind::Leader && raft.term() == *term {
                    let input = Input::SnapshotDelivered { peer: *from, last: *last };
                    self.step(input, &mut turn);
                }
            }
            Act::Cut => self.cut(),
            Act::SnapshotFailed(peer) => self.step(Input::SnapshotFailed(*peer), &mut turn),
            Act::Rot { kept } => {
                self.disk.log.truncate(*kept as usize);
                self.disk.configurations.retain(|(index, _)| index.0 <= *kept);
                self.disk.is_recovering = true;
            }
            Act::Timer(timer) => self.step(Input::Timer(*timer), &mut turn),
            Act::PeerDown(peer) => self.step(Input::PeerDown(*peer), &mut turn),
            Act::PeerUp(peer) => self.step(Input::PeerUp(*peer), &mut turn),
            Act::Unreachable(peer) => self.step(Input::Unreachable(*peer), &mut turn),
            Act::Propose => {
                self.step(Input::Propose { entries: 1, bytes: ENTRY_BYTES }, &mut turn);
            }
            Act::Read => self.step(Input::Read, &mut turn),
            Act::Change(wanted) => self.step(Input::ChangeMembers(wanted.clone()), &mut turn),
            Act::Transfer(to) => {
                self.step(Input::TransferLeadership { to: Some(*to) }, &mut turn);
            }
            Act::ForgetLeader => self.step(Input::ForgetLeader, &mut turn),
            Act::StepDown => self.step(Input::StepDown, &mut turn),
        }
        if ending == Ending::Flushed && self.raft.is_some() && !matches!(act, Act::Restart) {
            self.flush(&mut turn);
        }
        if ground.numbering == Numbering::Canonical {
            self.renumber(&mut turn);
        }
        turn
    }

    /// The terms of the log from index 1; of the disk's while the member is down.
    pub(crate) fn log(&self) -> Vec<Term> {
        let Some(raft) = &self.raft else { return self.disk.log.clone() };
        terms(&self.prefix, raft, raft.last_index())
    }

    /// What the state machine may have kept at most: what is committed and durable here.
    pub(crate) fn applied_most(&self) -> Index {
        let raft = self.raft.as_ref();
        let applied = raft.map_or(Index(0), |raft| raft.commit_index().min(raft.durable_index()));
        self.disk.applied.max(applied)
    }

    /// Whether the log may be cut: all that was asked of the disk is done, and something is applied.
    pub(crate) fn may_cut(&self) -> bool {
        let start = self.raft.as_ref().map(|raft| raft.first_position().index);
        self.pending.is_empty() && start < Some(self.applied_most())
    }

    /// How many entries a log that rots may be left with: those that the state machine has applied,
    /// and perhaps more.
    pub(crate) fn may_lose(&self) -> impl Iterator<Item = u64> + use<> {
        let least = self.disk.applied.max(self.disk.start);
        let sound = !self.disk.is_recovering && self.disk.installed.is_none();
        (least.0..self.disk.log.len() as u64).filter(move |_| sound)
    }

    /// Whether a driver installs a snapshot that the leader of this term sends.
    pub(crate) fn installs(raft: &Raft, term: Term) -> bool {
        term <= raft.term() && raft.is_hard_state_durable()
    }

    fn install(&mut self, from: NodeId, term: Term, covered: &Covered, turn: &mut Turn) {
        let raft = self.raft.as_ref().expect("only who runs receives");
        if !Member::installs(raft, term) {
            return;
        }
        let last = covered.last();
        if raft.commit_index().max(self.disk.applied) < last.index {
            self.disk.applied = last.index;
            self.disk.installed = Some(covered.clone());
            self.disk.forget_installed();
        }
        let configuration = covered.base.clone();
        turn.installs = true;
        self.step(Input::SnapshotInstalled { last, configuration }, turn);
        turn.installs = false;
        turn.said.push(Said::Sent(from, Parcel::Delivered(term, last.index)));
    }

    fn cut(&mut self) {
        let index = self.applied_most();
        let raft = self.raft.as_mut().expect("only who runs cuts");
        let term = raft.term_at(index).expect("what is applied is in the log");
        self.disk.base = raft.configuration_at(index).cloned();
        raft.compact(Position { index, term });
        self.disk.start = index;
        self.disk.applied = index;
        self.prefix = self.disk.log[..index.0 as usize].to_vec();
    }

    /// All that is applied, as a snapshot.
    fn covered(&self) -> Covered {
        let raft = self.raft.as_ref().expect("only who runs makes one");
        let index = raft.commit_index().min(raft.durable_index());
        let configurations = self.disk.configurations.iter();
        Covered {
            log: self.disk.log[..index.0 as usize].to_vec(),
            configurations: configurations.filter(|(at, _)| *at <= index).cloned().collect(),
            base: raft.configuration_at(index).cloned().unwrap_or_default(),
        }
    }

    /// The same member, every member being called what `name` says. What waits is put in order, for
    /// messages that leave together leave in no order.
    pub(crate) fn renamed(&self, name: &dyn Fn(NodeId) -> NodeId) -> Member {
        let mut held: Vec<_> = self
            .held
            .iter()
            .map(|(after, to, message)| (*after, name(*to), message.clone()))
            .collect();
        held.sort_by_key(|(after, to, _)| (*after, *to));
        let pending = self.pending.iter().map(|write| Pending {
            hard_state: write.hard_state.renamed(name),
            configurations: renamed_all(&write.configurations, name),
            anew: write.anew.as_ref().map(|covered| covered.renamed(name)),
            ..write.clone()
        });
        let configurations = renamed_all(&self.disk.configurations, name);
        Member {
            id: name(self.id),
            raft: self.raft.as_ref().map(|raft| raft.renamed(name)),
            prefix: self.prefix.clone(),
            disk: Disk {
                vote: self.disk.vote.map(name),
                configurations,
                base: self.disk.base.as_ref().map(|base| base.renamed(name)),
                installed: self.disk.installed.as_ref().map(|covered| covered.renamed(name)),
                ..self.disk.clone()
            },
            pending: pending.collect(),
            durable: self.durable,
            held,
            round_sent: self.round_sent,
        }
    }

    fn start(&mut self, ground: &Ground, turn: &mut Turn) {
        assert!(self.raft.is_none(), "only who is down starts");
        let knows = !ground.joiners.contains(&self.id);
        let configuration = match knows {
            true => ground.configuration.clone(),
            false => Configuration::default(),
        };
        if let Some(covered) = self.disk.installed.take()
            && !self.disk.log.starts_with(&covered.log)
        {
            self.disk.begin_anew(&covered);
        }
        let configuration = self.disk.base.clone().unwrap_or(configuration);
        self.prefix = self.disk.log[..self.disk.start.0 as usize].to_vec();
        self.disk.recoveries += u64::from(self.disk.is_recovering);
        let recovering = self.disk.is_recovering.then_some(RecoveryNumber(self.disk.recoveries));
        let kept = self.disk.configurations.iter().filter(|(at, _)| self.disk.start < *at);
        let start = Start {
            id: self.id,
            hard_state: HardState { term: self.disk.term, vote: self.disk.vote },
            configuration,
            log: self.disk.range(),
            commit: self.disk.applied,
            limits: ground.limits,
            configurations: kept.cloned().collect(),
            recovering,
        };
        turn.acts([specification::recovery(&start)]);
        self.raft = Some(Raft::new(start));
    }

    fn crash(&mut self, survive: usize, applied: Index, turn: &mut Turn) {
        assert!(applied <= self.applied_most(), "only what was applied is kept");
        for write in self.pending.drain(..).take(survive) {
            self.disk.write(&write);
        }
        self.disk.applied = applied;
        self.raft = None;
        self.prefix.clear();
        self.durable = WriteNumber(0);
        self.held.clear();
        self.round_sent = ReadRound(0);
        turn.facts.push(Fact::ForgetsReads);
    }

    fn persist(&mut self, count: usize, turn: &mut Turn) {
        let writes: Vec<Pending> = self.pending.drain(..count).collect();
        writes.iter().for_each(|write| self.disk.write(write));
        let newest = writes.last().expect("a write is under way");
        self.durable = newest.number;
        let durable = self.durable;
        let released: Vec<_> = self.held.extract_if(.., |(after, ..)| *after <= durable).collect();
        let released: Vec<_> = released.into_iter().map(|(_, to, message)| (to, message)).collect();
        for (to, message) in &released {
            self.send(*to, message.clone(), turn);
        }
        let input = Input::Persisted { write: newest.number, last: newest.last };
        self.step_releasing(input, &released, turn);
    }

    fn flush(&mut self, turn: &mut Turn) {
        loop {
            let sent = |turn: &Turn| {
                turn.said.iter().filter(|said| matches!(said, Said::Sent(..))).count()
            };
            let before = sent(turn);
            self.step(Input::Flush, turn);
            if before == sent(turn) {
                return;
            }
        }
    }

    fn step(&mut self, input: Input, turn: &mut Turn) {
        self.step_releasing(input, &[], turn);
    }

    /// Steps the module, these messages having left because of the write that the input completes.
    fn step_releasing(&mut self, input: Input, released: &[(NodeId, Message)], turn: &mut Turn) {
        let raft = self.raft.as_mut().expect("only who runs is stepped");
        let led = (raft.role() == RoleKind::Leader)
            .then(|| (raft.term(), terms(&self.prefix, raft, raft.last_index())));
        let mut outputs = Vec::new();
        let mut among = match &input {
            Input::Receive { message: Message::AppendRequest(request), .. } => {
                request.configurations.clone()
            }
            _ => Vec::new(),
        };
        match turn.refinement {
            Refinement::Unchecked => raft.step(input, &mut outputs),
            Refinement::Checked => {
                let before = Glimpse::of(raft);
                raft.step(input.clone(), &mut outputs);
                let mut facts = Vec::new();
                specification::observe(&before, &input, &outputs, released, raft, &mut facts);
                turn.acts(facts);
            }
        }
        for invariant in invariants::MEMBER {
            if !(invariant.holds)(raft) {
                let name = format!("invariant {}: {}", invariant.number, invariant.name);
                turn.violation.get_or_insert(Violation::new(&name, format!("{raft:?}")));
            }
        }
        if let Some((term, log)) = led
            && (raft.role(), raft.term()) == (RoleKind::Leader, term)
            && !terms(&self.prefix, raft, raft.last_index()).starts_with(&log)
        {
            let detail = format!("{} leads term {term} and drops entries of its own", self.id);
            turn.violation.get_or_insert(Violation::new("leader append-only", detail));
        }
        let mut grants = Vec::new();
        for output in outputs {
            if let Output::Configured { position, configuration } = &output {
                among.push((position.index, configuration.clone()));
            }
            self.keep(&output, &among, turn);
            match output {
                Output::Send { to, message } => self.send(to, message, turn),
                Output::Grant(grant) => grants.push(grant),
                output => turn.said.push(Said::Output(output)),
            }
        }
        grants.iter().for_each(|grant| self.honour(grant, turn));
    }

    /// Keeps what the driver has to, and takes down the facts.
    fn keep(&mut self, output: &Output, among: &[(Index, Configuration)], turn: &mut Turn) {
        let raft = self.raft.as_ref().expect("it has just been stepped");
        match output {
            Output::Write(write) => {
                if write.anew.is_some() {
                    let installed = self.disk.installed.as_ref();
                    self.prefix = installed.map(|covered| covered.log.clone()).unwrap_or_default();
                }
                self.pending.push_back(Pending {
                    number: write.number,
                    hard_state: write.hard_state,
                    range: write.range.clone(),
                    configurations: within(write.range.as_ref(), among),
                    anew: self.disk.installed.clone().filter(|_| write.anew.is_some()),
                    last: raft.last_position(),
                });
            }
            Output::SendAfter { after, to, message } => {
                self.held.push((*after, *to, message.clone()));
            }
            Output::Changed(standing) => {
                self.round_sent = ReadRound(0);
                turn.facts.push(Fact::ForgetsReads);
                if standing.role == RoleKind::Leader {
                    turn.facts.push(Fact::Leads { term: standing.term, log: self.log() });
                }
            }
            Output::Commit(index) => turn.facts.push(Fact::Commits {
                leads: (raft.role() == RoleKind::Leader && !turn.installs).then(|| raft.term()),
                log: terms(&self.prefix, raft, *index),
            }),
            Output::ReadQueued(round) => {
                if *round <= self.round_sent {
                    let detail =
                        format!("{} queues a read for round {}, which is out", self.id, round.0);
                    turn.violation
                        .get_or_insert(Violation::new("a read joins no round sent", detail));
                }
                turn.facts.push(Fact::QueuesRead { round: *round });
            }
            Output::ReadsReady { round, index } => {
                turn.facts.push(Fact::ServesReads { round: *round, index: *index });
            }
            Output::SendSnapshot { peer, .. } => {
                let snapshot = Parcel::Snapshot(raft.term(), self.covered());
                turn.said.push(Said::Sent(*peer, snapshot));
            }
            Output::Recovered => self.disk.is_recovering = false,
            Output::Send { .. }
            | Output::Grant(_)
            | Output::Assigned { .. }
            | Output::NoOp { .. }
            | Output::Configured { .. }
            | Output::MembersChanged
            | Output::ChangeRefused(_)
            | Output::TransferEnded(_)
            | Output::ProposalRefused(_)
            | Output::ReadRefused(_)
            | Output::Restart(_) => {}
        }
    }

    fn send(&mut self, to: NodeId, message: Message, turn: &mut Turn) {
        if let Some(what) = self.not_durable(to, &message) {
            let detail = format!("{} sends {message} to {to}, and {what}", self.id);
            turn.violation
                .get_or_insert(Violation::new("durability before acknowledgement", detail));
        }
        if let Message::Heartbeat(heartbeat) = &message {
            self.round_sent = self.round_sent.max(heartbeat.round);
        }
        turn.said.push(Said::Sent(to, Parcel::Word(message)));
    }

    fn honour(&mut self, grant: &Grant, turn: &mut Turn) {
        let entries = (grant.bytes_max / ENTRY_BYTES).max(1).min(grant.range.len());
        let last = Index(grant.range.prev.index.0 + entries);
        self.send(grant.peer, Message::AppendRequest(grant.request(last)), turn);
        let bytes = entries * ENTRY_BYTES;
        self.step(Input::Sent { peer: grant.peer, last, bytes }, turn);
    }

    /// What the message promises and the disk does not hold.
    fn not_durable(&self, to: NodeId, message: &Message) -> Option<&'static str> {
        let holds_vote = |term: Term, vote: NodeId| {
            term < self.disk.term || (term == self.disk.term && self.disk.vote == Some(vote))
        };
        let is_kept = match message {
            Message::VoteRequest(request) => holds_vote(request.term, self.id),
            Message::VoteResponse(response) => !response.granted || holds_vote(response.term, to),
            Message::AppendRequest(request) => holds_vote(request.term, self.id),
            Message::Heartbeat(heartbeat) => holds_vote(heartbeat.term, self.id),
            Message::AppendResponse(response) => match response.outcome {
                AppendOutcome::Match(index) => {
                    let raft = self.raft.as_ref().expect("only who runs answers");
                    let promised = terms(&self.prefix, raft, index);
                    let is_held = self.disk.log.starts_with(&promised);
                    if promised.len() < index.0 as usize || !is_held {
                        return Some("its disk does not hold the entries");
                    }
                    response.term <= self.disk.term
                }
                AppendOutcome::Conflict { .. } => true,
            },
            Message::PreVoteRequest(_)
            | Message::PreVoteResponse(_)
            | Message::TimeoutNow(_)
            | Message::HeartbeatResponse(_) => true,
        };
        (!is_kept).then_some("its disk does not hold that term and vote")
    }

    fn renumber(&mut self, turn: &mut Turn) {
        let Some(raft) = &mut self.raft else { return };
        let shift = raft.renumber_writes();
        let lower = |number: &mut WriteNumber| number.0 = number.0.saturating_sub(shift);
        lower(&mut self.durable);
        self.pending.iter_mut().for_each(|write| lower(&mut write.number));
        self.held.iter_mut().for_each(|(after, ..)| lower(after));
        assert!(self.durable == WriteNumber(0), "the driver and the module number alike");
        if turn.refinement == Refinement::Checked && 0 < shift {
            turn.facts.push(Fact::RenumbersWrites(shift));
        }
    }
}

/// The configurations that lie in a range.
fn within(range: Option<&Range>, among: &[(Index, Configuration)]) -> Vec<(Index, Configuration)> {
    let Some(range) = range else { return Vec::new() };
    let lies =
        |(index, _): &&(Index, Configuration)| range.prev.index < *index && *index <= range.last;
    among.iter().filter(lies).cloned().collect()
}

pub(crate) fn renamed_all(
    configurations: &[(Index, Configuration)],
    name: &dyn Fn(NodeId) -> NodeId,
) -> Vec<(Index, Configuration)> {
    configurations.iter().map(|(index, members)| (*index, members.renamed(name))).collect()
}

/// The same message, every member in it being called what `name` says.
pub(crate) fn renamed_message(message: &Message, name: &dyn Fn(NodeId) -> NodeId) -> Message {
    let mut message = message.clone();
    if let Message::AppendRequest(request) = &mut message {
        request.configurations = renamed_all(&request.configurations, name);
    }
    message
}

/// The terms of a log up to an index, or to its end; `prefix` holds those that were cut off.
fn terms(prefix: &[Term], raft: &Raft, last: Index) -> Vec<Term> {
    let cut = raft.first_position().index;
    let known = prefix.iter().copied().take(cut.0.min(last.0) as usize);
    let kept = (cut.0 + 1..=last.0).map_while(|index| raft.term_at(Index(index)));
    known.chain(kept).collect()
}
