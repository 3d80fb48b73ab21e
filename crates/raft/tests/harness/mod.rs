//! Members, their disks and the network between them, in memory, for the tests.
//!
//! Responsible for playing the driver of the consensus module: it keeps what was written, holds back
//! what waits for a write, honours grants, and carries messages. Nothing happens by itself: the test
//! says which message is delivered, which write is completed and which timer fires.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod schedule;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jangada_raft::{
    AppendOutcome, Configuration, Grant, HardState, Index, Input, Limits, Message, NodeId, Output,
    Position, Raft, Range, RoleKind, Start, Term, WriteNumber,
};

/// The size of every entry, in bytes.
pub(crate) const ENTRY_BYTES: u64 = 10;

/// What survives a crash.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) hard_state: HardState,
    /// The entry before the first retained one.
    pub(crate) start: Position,
    /// The terms of the entries after it.
    pub(crate) terms: Vec<Term>,
    /// What the state machine has durably applied.
    pub(crate) applied: Index,
}

/// A write that the member asked for and that is not durable.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) number: WriteNumber,
    pub(crate) hard_state: HardState,
    pub(crate) range: Option<Range>,
    /// The log's last entry as of this write.
    pub(crate) last: Position,
}

/// One member: the module, the disk under it, and what its driver holds for it.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// `None` while it is down.
    pub(crate) raft: Option<Raft>,
    pub(crate) disk: Disk,
    pub(crate) pending: VecDeque<Pending>,
    pub(crate) durable: WriteNumber,
    /// Messages that wait for a write.
    pub(crate) held: Vec<(WriteNumber, NodeId, Message)>,
    /// The completions of this life, the newest last.
    pub(crate) completed: VecDeque<(WriteNumber, Position)>,
}

/// What a cluster's members did in answer to one input.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// An output of the module, grants excepted.
    Output(NodeId, Output),
    /// A message was put on the network.
    Sent(NodeId, NodeId, Message),
}

/// A cluster.
pub(crate) struct Cluster {
    pub(crate) members: BTreeMap<NodeId, Member>,
    pub(crate) network: BTreeMap<(NodeId, NodeId), VecDeque<Message>>,
    pub(crate) configuration: Configuration,
    pub(crate) limits: Limits,
    /// What happened since the test last took it.
    pub(crate) events: Vec<Event>,
    /// Whether grants are honoured.
    pub(crate) honours_grants: bool,
    /// The links on which everything is lost.
    pub(crate) cut: BTreeSet<(NodeId, NodeId)>,
}

/// How many completions are kept to be told again.
const COMPLETED_MAX: usize = 8;

impl Disk {
    pub(crate) fn empty() -> Disk {
        Disk {
            hard_state: HardState::default(),
            start: Position::default(),
            terms: Vec::new(),
            applied: Index(0),
        }
    }

    pub(crate) fn names(&self) -> Range {
        let mut range = Range::empty(self.start);
        self.terms.iter().for_each(|term| range.push(*term));
        range
    }

    fn term_at(&self, index: Index) -> Option<Term> {
        let place = index.0.checked_sub(self.start.index.0)?;
        match place {
            0 => Some(self.start.term),
            _ => self.terms.get(place as usize - 1).copied(),
        }
    }

    fn write(&mut self, write: &Pending) {
        self.hard_state = write.hard_state;
        let Some(range) = &write.range else { return };
        assert!(self.start.index <= range.prev.index, "what was cut is not written again");
        self.terms.truncate((range.prev.index.0 - self.start.index.0) as usize);
        assert_eq!(self.names().last_position(), range.prev, "a write joins the log on disk");
        for index in range.first().0..=range.last.0 {
            self.terms.push(range.term_at(Index(index)).expect("within the range"));
        }
        assert_eq!(self.names().last_position(), write.last, "a write ends where it says");
    }
}

impl Cluster {
    /// Members 1 to `count`, all voters, with empty disks.
    pub(crate) fn new(count: u64) -> Cluster {
        let configuration = Configuration::of_voters((1..=count).map(NodeId));
        Cluster::with_configuration(configuration)
    }

    pub(crate) fn with_configuration(configuration: Configuration) -> Cluster {
        let mut cluster = Cluster {
            members: BTreeMap::new(),
            network: BTreeMap::new(),
            configuration,
            limits: Limits::default(),
            events: Vec::new(),
            honours_grants: true,
            cut: BTreeSet::new(),
        };
        let ids: Vec<NodeId> = cluster.configuration.members().collect();
        for id in ids {
            cluster.start(id, Disk::empty());
        }
        cluster
    }

    /// Starts or restarts a member from a disk.
    pub(crate) fn start(&mut self, id: NodeId, disk: Disk) {
        let raft = Raft::new(Start {
            id,
            hard_state: disk.hard_state,
            configuration: self.configuration.clone(),
            log: disk.names(),
            commit: disk.applied,
            limits: self.limits,
            configurations: Vec::new(),
            recovering: None,
        });
        let member = Member {
            raft: Some(raft),
            disk,
            pending: VecDeque::new(),
            durable: WriteNumber(0),
            held: Vec::new(),
            completed: VecDeque::new(),
        };
        self.members.insert(id, member);
    }

    pub(crate) fn raft(&self, id: u64) -> &Raft {
        self.members[&NodeId(id)].raft.as_ref().expect("the member runs")
    }

    pub(crate) fn running(&self) -> Vec<&Raft> {
        self.members.values().filter_map(|member| member.raft.as_ref()).collect()
    }

    pub(crate) fn is_running(&self, id: NodeId) -> bool {
        self.members[&id].raft.is_some()
    }

    /// Steps one member and does what its driver does with the outputs. A flush is not implied.
    pub(crate) fn step(&mut self, id: NodeId, input: Input) {
        let member = self.members.get_mut(&id).expect("a known member");
        let Some(raft) = member.raft.as_mut() else { return };
        let mut out = Vec::new();
        let before = is_stale_refusal(raft, &input).then(|| raft.clone());
        raft.step(input, &mut out);
        if let Some(before) = before {
            let flushed = |mut raft: Raft| {
                let mut out = Vec::new();
                raft.step(Input::Flush, &mut out);
                out
            };
            let same = flushed(before) == flushed(raft.clone());
            assert!(same, "a refusal of what was acknowledged since says nothing");
        }
        raft.check_invariants();
        let mut grants: Vec<Grant> = Vec::new();
        for output in out {
            match &output {
                Output::Send { to, message } => self.send(id, *to, message.clone()),
                Output::Grant(grant) => grants.push(grant.clone()),
                _ => self.keep(id, &output),
            }
            if !matches!(output, Output::Grant(_) | Output::Send { .. }) {
                self.events.push(Event::Output(id, output));
            }
        }
        if self.honours_grants {
            grants.iter().for_each(|grant| self.honour(id, grant));
        }
    }

    /// Tells a member that no more inputs are at hand, until it has nothing more to send.
    pub(crate) fn flush(&mut self, id: NodeId) {
        loop {
            let before = self.network.values().map(VecDeque::len).sum::<usize>();
            self.step(id, Input::Flush);
            let after = self.network.values().map(VecDeque::len).sum::<usize>();
            if before == after {
                return;
            }
        }
    }

    /// Takes the first message off a link.
    pub(crate) fn take(&mut self, from: NodeId, to: NodeId) -> Option<Message> {
        self.network.get_mut(&(from, to))?.pop_front()
    }

    /// Completes the oldest write of a member, if it has any under way.
    pub(crate) fn persist(&mut self, id: NodeId) -> bool {
        let member = self.members.get_mut(&id).expect("a known member");
        !member.pending.is_empty() && self.persist_merged(id, 1)
    }

    /// Completes the `count` oldest writes of a member at once, if so many are under way.
    pub(crate) fn persist_merged(&mut self, id: NodeId, count: usize) -> bool {
        let member = self.members.get_mut(&id).expect("a known member");
        if member.pending.len() < count {
            return false;
        }
        let merged: Vec<Pending> = member.pending.drain(..count).collect();
        merged.iter().for_each(|write| member.disk.write(write));
        let Some(write) = merged.last() else { return false };
        member.durable = write.number;
        if member.completed.len() == COMPLETED_MAX {
            member.completed.pop_front();
        }
        member.completed.push_back((write.number, write.last));
        let released: Vec<_> =
            member.held.extract_if(.., |(after, ..)| *after <= write.number).collect();
        for (_, to, message) in released {
            self.send(id, to, message);
        }
        self.step(id, Input::Persisted { write: write.number, last: write.last });
        true
    }

    /// Tells a member once more of a completion that it was told of, the `back`-th before the last.
    pub(crate) fn complete_again(&mut self, id: NodeId, back: usize) {
        let completed = &self.members[&id].completed;
        let Some((write, last)) = completed.iter().rev().nth(back).copied() else { return };
        self.step(id, Input::Persisted { write, last });
    }

    /// Stops a member. Of its writes under way, the first `survive` reach the disk.
    pub(crate) fn crash(&mut self, id: NodeId, survive: usize) {
        let member = self.members.get_mut(&id).expect("a known member");
        for write in member.pending.drain(..).take(survive) {
            member.disk.write(&write);
        }
        if let Some(raft) = member.raft.take() {
            // The machine applies what is committed and durable in the member's own log.
            let applied = raft.commit_index().min(raft.durable_index());
            member.disk.applied = member.disk.applied.max(applied);
        }
        member.held.clear();
    }

    /// As `crash`, the state machine having kept no more than it had applied up to `applied`.
    pub(crate) fn crash_applied(&mut self, id: NodeId, survive: usize, applied: Index) {
        let before = self.members[&id].disk.applied;
        self.crash(id, survive);
        let member = self.members.get_mut(&id).expect("a known member");
        assert!(before <= applied && applied <= member.disk.applied, "applied and durable");
        member.disk.applied = applied;
    }

    pub(crate) fn restart(&mut self, id: NodeId) {
        let disk = self.members[&id].disk.clone();
        self.start(id, disk);
    }

    /// Cuts a member's log, all of whose writes are done, before `index`.
    pub(crate) fn cut(&mut self, id: NodeId, index: Index) {
        let member = self.members.get_mut(&id).expect("a known member");
        assert!(member.pending.is_empty(), "only what is on the disk is cut");
        let raft = member.raft.as_mut().expect("the member runs");
        let term = raft.term_at(index).expect("the log reaches to the cut");
        let up_to = Position { index, term };
        raft.compact(up_to);
        member.disk.terms.drain(..(index.0 - member.disk.start.index.0) as usize);
        member.disk.start = up_to;
        member.disk.applied = member.disk.applied.max(index);
    }

    pub(crate) fn send(&mut self, from: NodeId, to: NodeId, message: Message) {
        assert!(is_well_formed(&message), "{message:?} keeps the contract");
        self.assert_durable(from, to, &message);
        if self.cut.contains(&(from, to)) {
            return;
        }
        self.events.push(Event::Sent(from, to, message.clone()));
        self.network.entry((from, to)).or_default().push_back(message);
    }

    /// Delivers everything and completes every write, in order, until nothing is left to do.
    pub(crate) fn settle(&mut self) {
        for _ in 0..10_000 {
            let mut busy = false;
            let links: Vec<(NodeId, NodeId)> = self.network.keys().copied().collect();
            for (from, to) in links {
                while let Some(message) = self.take(from, to) {
                    busy = true;
                    self.step(to, Input::Receive { from, message });
                }
            }
            let ids: Vec<NodeId> = self.members.keys().copied().collect();
            for id in ids {
                while self.persist(id) {
                    busy = true;
                }
                self.flush(id);
            }
            let waiting: usize = self.network.values().map(VecDeque::len).sum();
            if !busy && waiting == 0 {
                return;
            }
        }
        panic!("the cluster never comes to rest");
    }

    /// What a message rests on is on the disk (figure 2, "updated on stable storage before
    /// responding to RPCs").
    fn assert_durable(&self, from: NodeId, to: NodeId, message: &Message) {
        let Member { raft: Some(raft), disk, .. } = &self.members[&from] else { return };
        let HardState { term, vote } = disk.hard_state;
        if let Message::AppendResponse(response) = message
            && let AppendOutcome::Match(index) = response.outcome
            && let Some(leader) = self.members[&to].raft.as_ref()
            && leader.role() == RoleKind::Leader
            && leader.term() == response.term
        {
            let same = leader.term_at(index) == raft.term_at(index);
            let cut = index < leader.first_position().index.max(raft.first_position().index);
            assert!(same || cut, "what {from} acknowledges up to {index} is not its leader's");
        }
        let holds = match message {
            Message::VoteRequest(request) => {
                request.term < term || (request.term == term && vote == Some(from))
            }
            Message::VoteResponse(response) => {
                !response.granted
                    || response.term < term
                    || (response.term == term && vote == Some(to))
            }
            Message::AppendResponse(response) => match response.outcome {
                AppendOutcome::Match(index) => {
                    response.term <= term
                        && (index <= raft.first_position().index
                            || disk.term_at(index) == raft.term_at(index))
                }
                AppendOutcome::Conflict { .. } => true,
            },
            _ => true,
        };
        assert!(
            holds,
            "durability before answer: {from} has {term}, {vote:?} and says {message:?}"
        );
    }

    fn keep(&mut self, id: NodeId, output: &Output) {
        let member = self.members.get_mut(&id).expect("a known member");
        match output {
            Output::Write(write) => {
                let raft = member.raft.as_ref().expect("the member runs");
                let last = raft.last_position();
                let (number, hard_state) = (write.number, write.hard_state);
                let before = member.pending.back().map_or(member.durable, |write| write.number);
                assert_eq!(number.0, before.0 + 1, "writes are numbered without gaps");
                if let Some(range) = &write.range {
                    assert_eq!(range.last_position(), last, "a write says where the log ends");
                    assert!(range.last_position().term <= hard_state.term, "the term comes first");
                }
                member.pending.push_back(Pending {
                    number,
                    hard_state,
                    range: write.range.clone(),
                    last,
                });
            }
            Output::SendAfter { after, to, message } => {
                assert!(member.durable < *after, "what may go at once is not held back");
                member.held.push((*after, *to, message.clone()));
            }
            _ => {}
        }
    }

    fn honour(&mut self, id: NodeId, grant: &Grant) {
        let entries = (grant.bytes_max / ENTRY_BYTES).max(1).min(grant.range.len());
        let last = Index(grant.range.prev.index.0 + entries);
        self.send(id, grant.peer, Message::AppendRequest(grant.request(last)));
        self.step(id, Input::Sent { peer: grant.peer, last, bytes: entries * ENTRY_BYTES });
    }
}

/// Whether this is an answer of the present term that refuses what its sender has acknowledged since.
fn is_stale_refusal(raft: &Raft, input: &Input) -> bool {
    let Input::Receive { from, message: Message::AppendResponse(response) } = input else {
        return false;
    };
    match response.outcome {
        AppendOutcome::Conflict { probe, .. } => {
            let known = raft.match_index(*from);
            response.term == raft.term() && known.is_some_and(|known| probe <= known)
        }
        AppendOutcome::Match(_) => false,
    }
}

/// What the contract says of a message, and a decoder demands.
fn is_well_formed(message: &Message) -> bool {
    match message {
        Message::AppendRequest(request) => {
            request.range.is_well_formed() && request.range.last_position().term <= request.term
        }
        Message::AppendResponse(response) => match &response.outcome {
            AppendOutcome::Match(_) => true,
            AppendOutcome::Conflict { probe, hint } => hint.index < *probe,
        },
        _ => true,
    }
}
