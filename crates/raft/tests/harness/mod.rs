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
    Position, Raft, Range, RecoveryNumber, RoleKind, Start, Term, TransferEnded, WriteNumber,
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
    /// The configuration at `start`; the cluster's first where nothing else is said.
    pub(crate) base: Option<Configuration>,
    /// The configurations among the entries, by index.
    pub(crate) configurations: Vec<(Index, Configuration)>,
    /// The newest snapshot that the state machine has installed.
    pub(crate) snapshot: Snapshot,
    /// Set while the log may have lost what was acknowledged.
    pub(crate) recovering: Option<RecoveryNumber>,
    /// What the log held before each of its last writes, the newest last.
    pub(crate) former: VecDeque<Former>,
}

/// What a snapshot is known by: its last entry, and the configuration in force there.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) last: Position,
    pub(crate) configuration: Configuration,
}

/// A log as it was: the entry before the first, the terms, and the configurations.
pub(crate) type Former = (Position, Vec<Term>, Option<Configuration>, Vec<(Index, Configuration)>);

/// A write that the member asked for and that is not durable.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) number: WriteNumber,
    pub(crate) hard_state: HardState,
    pub(crate) range: Option<Range>,
    /// The configurations among the range's entries, by index.
    pub(crate) configurations: Vec<(Index, Configuration)>,
    /// The configuration at its start, if the log is begun anew.
    pub(crate) anew: Option<Configuration>,
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
    /// A member became a candidate in this term, by this configuration.
    Stands(NodeId, Term, Configuration),
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
    /// The snapshots that were asked for and are under way: by sender and receiver the sender's term,
    /// and what the sender had applied by then.
    pub(crate) transfers: BTreeMap<(NodeId, NodeId), (Term, Snapshot)>,
    /// The number of the last recovery.
    pub(crate) recoveries: u64,
}

/// How many of its former states a disk remembers, for rot to take it back to.
const FORMER_MAX: usize = 6;

/// How many completions are kept to be told again.
const COMPLETED_MAX: usize = 8;

impl Disk {
    pub(crate) fn empty() -> Disk {
        Disk {
            hard_state: HardState::default(),
            start: Position::default(),
            terms: Vec::new(),
            applied: Index(0),
            base: None,
            configurations: Vec::new(),
            snapshot: Snapshot::default(),
            recovering: None,
            former: VecDeque::new(),
        }
    }

    /// The disk of a member that is to join: it knows of no other.
    pub(crate) fn of_joiner() -> Disk {
        Disk { base: Some(Configuration::default()), ..Disk::empty() }
    }

    /// What the driver does at a start that finds the state machine ahead of the log: it begins the log
    /// anew behind the snapshot.
    fn join_snapshot(&mut self) {
        let Snapshot { last, configuration } = self.snapshot.clone();
        let held = self.term_at(last.index) == Some(last.term);
        if self.start.index < last.index && !held {
            self.begin_anew(last, configuration);
        }
        self.applied = self.applied.max(last.index);
    }

    fn begin_anew(&mut self, last: Position, configuration: Configuration) {
        self.start = last;
        self.terms.clear();
        self.base = Some(configuration);
        self.configurations.clear();
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
        if self.former.len() == FORMER_MAX {
            self.former.pop_front();
        }
        let configurations = (self.base.clone(), self.configurations.clone());
        let former = (self.start, self.terms.clone(), configurations.0, configurations.1);
        self.former.push_back(former);
        self.hard_state = write.hard_state;
        let Some(range) = &write.range else { return };
        if let Some(configuration) = &write.anew {
            assert!(range.is_empty(), "a log begun anew is empty");
            return self.begin_anew(range.prev, configuration.clone());
        }
        assert!(self.start.index <= range.prev.index, "what was cut is not written again");
        self.terms.truncate((range.prev.index.0 - self.start.index.0) as usize);
        assert_eq!(self.names().last_position(), range.prev, "a write joins the log on disk");
        self.configurations.retain(|(index, _)| *index <= range.prev.index);
        self.configurations.extend(write.configurations.iter().cloned());
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
            transfers: BTreeMap::new(),
            recoveries: 0,
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
            configuration: disk.base.clone().unwrap_or_else(|| self.configuration.clone()),
            log: disk.names(),
            commit: disk.applied,
            limits: self.limits,
            configurations: disk.configurations.clone(),
            recovering: disk.recovering,
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
        let mut among = match &input {
            Input::Receive { message: Message::AppendRequest(request), .. } => {
                request.configurations.clone()
            }
            _ => Vec::new(),
        };
        let asked = match &input {
            Input::TransferLeadership { to } => *to,
            _ => None,
        };
        let is_report = matches!(input, Input::Sent { .. });
        raft.step(input, &mut out);
        assert!(!is_report || out.is_empty(), "a report of what was sent is answered by nothing");
        if out.contains(&Output::TransferEnded(TransferEnded::Replaced)) {
            assert_eq!(raft.transfer_target(), asked, "a transfer goes where it was last asked to");
        }
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
            if let Output::Changed(_) = &output {
                self.transfers.retain(|(from, _), _| *from != id);
            }
            match &output {
                Output::Send { to, message } => {
                    if let Message::TimeoutNow(_) = message {
                        let raft = self.raft(id.0);
                        let held = raft.match_index(*to);
                        let all = Some(raft.last_index());
                        assert_eq!(held, all, "who is asked to stand holds the whole log");
                    }
                    self.send(id, *to, message.clone());
                }
                Output::Grant(grant) => grants.push(grant.clone()),
                Output::Configured { position, configuration } => {
                    among.push((position.index, configuration.clone()));
                }
                Output::Changed(standing) if standing.role == RoleKind::Candidate => {
                    let configuration = self.raft(id.0).configuration().clone();
                    self.events.push(Event::Stands(id, standing.term, configuration));
                }
                Output::SendSnapshot { peer, at_least } => {
                    let raft = self.members[&id].raft.as_ref().expect("the member runs");
                    assert!(*at_least <= raft.first_position().index, "no more than it needs");
                    let made = (raft.term(), self.snapshot(id).expect("the member runs"));
                    assert!(*at_least <= made.1.last.index, "what was cut is applied");
                    let before = self.transfers.insert((id, *peer), made);
                    assert!(before.is_none(), "one snapshot at a time for each peer");
                }
                Output::Recovered => {
                    let member = self.members.get_mut(&id).expect("a known member");
                    assert!(member.disk.recovering.is_some(), "only a recovering member recovers");
                    member.disk.recovering = None;
                }
                _ => self.keep(id, &output, &among),
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
        // Its connections end with it.
        self.transfers.retain(|(from, _), _| *from != id);
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
        let mut disk = self.members[&id].disk.clone();
        disk.join_snapshot();
        if disk.recovering.is_some() {
            self.recoveries += 1;
            disk.recovering = Some(RecoveryNumber(self.recoveries));
        }
        self.start(id, disk);
    }

    /// Takes a stopped member's log back by `writes`, or as far as is remembered: what was written
    /// since is lost. Term and vote are not. What the log has then may never have been what the state
    /// machine was given; the log is begun anew behind the machine in that case.
    pub(crate) fn rot(&mut self, id: NodeId, writes: usize) {
        let configuration = self.configuration.clone();
        let member = self.members.get_mut(&id).expect("a known member");
        assert!(member.raft.is_none(), "rot is found at a start");
        let disk = &mut member.disk;
        disk.recovering = Some(RecoveryNumber(0));
        if let Some(term) = disk.term_at(disk.applied)
            && disk.snapshot.last.index < disk.applied
        {
            let before = disk.configurations.iter().rfind(|(index, _)| *index <= disk.applied);
            let base = || disk.base.clone().unwrap_or(configuration);
            let configuration = before.map_or_else(base, |(_, newest)| newest.clone());
            let last = Position { index: disk.applied, term };
            disk.snapshot = Snapshot { last, configuration };
        }
        for _ in 0..writes {
            let Some((start, terms, base, configurations)) = disk.former.pop_back() else {
                break;
            };
            if start.index < disk.start.index {
                break; // It was cut since.
            }
            (disk.start, disk.terms) = (start, terms);
            (disk.base, disk.configurations) = (base, configurations);
        }
    }

    /// A stopped member's log loses the entries after `last`.
    pub(crate) fn rot_to(&mut self, id: NodeId, last: Index) {
        let disk = &mut self.members.get_mut(&id).expect("a known member").disk;
        assert!(disk.applied <= last, "what is applied is not needed from the log");
        disk.terms.truncate((last.0 - disk.start.index.0) as usize);
        disk.configurations.retain(|(index, _)| *index <= last);
        disk.recovering = Some(RecoveryNumber(0));
    }

    /// Installs the snapshot that is under way from one member to another: the one given, or one of all
    /// that the sender has applied. Whether it was installed; if not, it has failed.
    pub(crate) fn deliver_snapshot(
        &mut self,
        from: NodeId,
        to: NodeId,
        given: Option<Snapshot>,
    ) -> bool {
        let Some((term, _)) = self.transfers.remove(&(from, to)) else { return false };
        let Some(snapshot) = given.or_else(|| self.snapshot(from)) else { return false };
        let ready = |raft: &Raft| term <= raft.term() && raft.is_hard_state_durable();
        let reached = !self.cut.contains(&(from, to)) && !self.cut.contains(&(to, from));
        if !reached || !self.members[&to].raft.as_ref().is_some_and(ready) {
            self.step(from, Input::SnapshotFailed(to));
            return false;
        }
        self.hold_snapshot(to, snapshot.clone());
        let Snapshot { last, configuration } = snapshot;
        self.step(to, Input::SnapshotInstalled { last, configuration });
        self.step(from, Input::SnapshotDelivered { peer: to, last: last.index });
        true
    }

    /// The snapshot that is under way is lost.
    pub(crate) fn fail_snapshot(&mut self, from: NodeId, to: NodeId) -> bool {
        if self.transfers.remove(&(from, to)).is_none() {
            return false;
        }
        self.step(from, Input::SnapshotFailed(to));
        true
    }

    /// The state machine of `to` durably holds a snapshot; the module has not been told.
    pub(crate) fn hold_snapshot(&mut self, to: NodeId, snapshot: Snapshot) {
        let Member { raft, disk, .. } = self.members.get_mut(&to).expect("a known member");
        let applied = raft.as_ref().map_or(disk.applied, Raft::commit_index);
        if applied.max(disk.applied) < snapshot.last.index {
            disk.applied = snapshot.last.index;
            disk.snapshot = snapshot;
        }
    }

    /// A snapshot of what a member has applied.
    pub(crate) fn snapshot(&self, id: NodeId) -> Option<Snapshot> {
        let raft = self.members[&id].raft.as_ref()?;
        let applied = raft.commit_index().min(raft.durable_index());
        let index = applied.max(raft.first_position().index);
        let last = Position { index, term: raft.term_at(index)? };
        Some(Snapshot { last, configuration: raft.configuration_at(index)?.clone() })
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
        let later = member.disk.configurations.partition_point(|(at, _)| *at <= index);
        if let Some((_, newest)) = member.disk.configurations.drain(..later).next_back() {
            member.disk.base = Some(newest);
        }
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
            let transfers: Vec<(NodeId, NodeId)> = self.transfers.keys().copied().collect();
            for (from, to) in transfers {
                busy |= self.deliver_snapshot(from, to, None);
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
                        && (index <= disk.start.index.max(disk.applied)
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

    fn keep(&mut self, id: NodeId, output: &Output, among: &[(Index, Configuration)]) {
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
                let within =
                    |range: &Range, index: Index| range.prev.index < index && index <= range.last;
                let configurations = write.range.iter().flat_map(|range| {
                    among.iter().filter(|(index, _)| within(range, *index)).cloned()
                });
                let configurations = configurations.collect();
                member.pending.push_back(Pending {
                    configurations,
                    number,
                    hard_state,
                    range: write.range.clone(),
                    anew: write.anew.clone(),
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
            let known = raft.match_index(*from).filter(|_| response.recovering.is_none());
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
