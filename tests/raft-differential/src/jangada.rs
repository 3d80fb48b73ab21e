//! Jangada's module under the schedule: the driver that keeps payloads, disks and timers for it.

use std::collections::{BTreeMap, VecDeque};

use jangada_raft::{
    Configuration, Grant, HardState, Index, Input, Limits, Message, NodeId, Output, Position, Raft,
    Range, RoleKind, Start, Term, Timer, Write, WriteNumber,
};

use crate::cluster::{Cluster, ELECTION_TICKS, Links, Network};

/// The bytes of an entry.
const ENTRY_BYTES: u64 = 16;

/// An entry as the disk has it: its term, and its command if it is not a leader's own.
type Entry = (Term, Option<u64>);

/// A message with the payloads of its entries.
#[derive(Debug)]
struct Envelope {
    message: Message,
    commands: Vec<Option<u64>>,
}

#[derive(Debug)]
struct Member {
    raft: Option<Raft>,
    hard_state: HardState,
    log: Vec<Entry>,
    /// How many entries the state machine has applied, and what they did.
    applied_index: u64,
    applied: Vec<u64>,
    ticks: u64,
    deadlines: BTreeMap<Timer, u64>,
    held: Vec<(WriteNumber, NodeId, Message)>,
    proposed: VecDeque<(Position, u64)>,
}

/// A way of being wrong that the comparison has to notice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sabotage {
    /// A crash takes the last entry of the disk along.
    ForgetsLastEntry,
    /// A command is acknowledged when it is taken.
    AcknowledgesEarly,
    /// A follower writes what it takes in the wrong order.
    SwapsCommands,
    /// A command is written once more in place of the next one.
    RepeatsCommand,
}

/// Members of Jangada.
#[derive(Debug)]
pub struct Jangada {
    members: BTreeMap<u64, Member>,
    configuration: Configuration,
    network: Network<Envelope>,
    acknowledged: Vec<u64>,
    sabotage: Option<Sabotage>,
}

impl Jangada {
    pub fn new(members: u64, sabotage: Option<Sabotage>) -> Jangada {
        let mut cluster = Jangada {
            members: BTreeMap::new(),
            configuration: Configuration::of_voters((1..=members).map(NodeId)),
            network: Network::default(),
            acknowledged: Vec::new(),
            sabotage,
        };
        for id in 1..=members {
            let member = Member {
                raft: None,
                hard_state: HardState::default(),
                log: Vec::new(),
                applied_index: 0,
                applied: Vec::new(),
                ticks: 0,
                deadlines: BTreeMap::new(),
                held: Vec::new(),
                proposed: VecDeque::new(),
            };
            cluster.members.insert(id, member);
            cluster.restart(id);
        }
        cluster
    }

    fn member(&mut self, id: u64) -> &mut Member {
        self.members.get_mut(&id).expect("a known member")
    }

    /// Steps a member and flushes it, until it has nothing more to say.
    fn input(&mut self, id: u64, input: Input, commands: &[Option<u64>]) {
        let mut more = self.step(id, input, commands);
        while more {
            more = self.step(id, Input::Flush, &[]);
        }
    }

    /// One step with everything that comes of it. `commands` are the payloads of the input's entries.
    /// Whether another flush is due.
    fn step(&mut self, id: u64, input: Input, commands: &[Option<u64>]) -> bool {
        let Some(raft) = self.member(id).raft.as_mut() else { return false };
        let is_flush = input == Input::Flush;
        let first = match &input {
            Input::Receive { message: Message::AppendRequest(request), .. } => {
                request.range.first()
            }
            _ => raft.last_index().next(),
        };
        let mut outputs = Vec::new();
        raft.step(input, &mut outputs);
        raft.check_invariants();
        let last = raft.last_position();
        let mut written = None;
        let mut more = !is_flush;
        for output in outputs {
            match output {
                Output::Write(write) => {
                    self.write(id, &write, first, commands);
                    written = Some(write.number);
                }
                Output::Send { to, message } => self.send(id, to, message),
                Output::SendAfter { after, to, message } => {
                    self.member(id).held.push((after, to, message));
                }
                Output::Grant(grant) => {
                    self.honour(id, &grant);
                    more = true;
                }
                Output::Assigned { range } => {
                    let command = commands[0].expect("a proposal is a command");
                    if self.sabotage == Some(Sabotage::AcknowledgesEarly) {
                        self.acknowledged.push(command);
                        continue;
                    }
                    self.member(id).proposed.push_back((range.last_position(), command));
                }
                Output::Commit(index) => self.apply(id, index),
                Output::Changed(_) => self.member(id).proposed.clear(),
                Output::Restart(timer) => {
                    let member = self.member(id);
                    let ticks = match timer {
                        Timer::Heartbeat => 1,
                        Timer::QuorumCheck | Timer::Quiet | Timer::Transfer => ELECTION_TICKS,
                        // The schedule decides when elections begin.
                        Timer::Election | Timer::ElectionSoon => continue,
                    };
                    let at = member.ticks + ticks;
                    member.deadlines.insert(timer, at);
                }
                Output::NoOp { .. } | Output::ProposalRefused(_) => {}
                // Neither the members nor who leads them is changed from outside here, and no log is
                // cut.
                Output::Configured { .. }
                | Output::MembersChanged
                | Output::ChangeRefused(_)
                | Output::TransferEnded(_)
                | Output::SendSnapshot { .. }
                | Output::Recovered => unreachable!("nobody asked for it"),
                Output::ReadQueued(_) | Output::ReadRefused(_) | Output::ReadsReady { .. } => {}
            }
        }
        if let Some(write) = written {
            self.persisted(id, write, last);
            more = true;
        }
        more
    }

    /// Every write up to this one is durable, and what waits for it goes out.
    fn persisted(&mut self, id: u64, write: WriteNumber, last: Position) {
        let held = std::mem::take(&mut self.member(id).held);
        let (released, held) = held.into_iter().partition(|(after, ..)| *after <= write);
        self.member(id).held = held;
        let released: Vec<(WriteNumber, NodeId, Message)> = released;
        for (_, to, message) in released {
            self.send(id, to, message);
        }
        self.step(id, Input::Persisted { write, last }, &[]);
    }

    /// Writes to the disk.
    fn write(&mut self, id: u64, write: &Write, first: Index, commands: &[Option<u64>]) {
        let sabotage = self.sabotage;
        let member = self.member(id);
        member.hard_state = write.hard_state;
        if let Some(range) = &write.range {
            member.log.truncate(range.prev.index.0 as usize);
            for index in range.first().0..=range.last.0 {
                let term = range.term_at(Index(index)).expect("within the range");
                let place = (index - first.0) as usize;
                let mut command = commands.get(place).copied().flatten();
                let last = member.log.last().and_then(|(_, command)| *command);
                if sabotage == Some(Sabotage::RepeatsCommand) && command.is_some() && index % 7 == 0
                {
                    command = last.or(command);
                }
                member.log.push((term, command));
                let end = member.log.len();
                if sabotage == Some(Sabotage::SwapsCommands)
                    && commands.len() > 1
                    && last.is_some()
                    && command.is_some()
                {
                    (member.log[end - 1].1, member.log[end - 2].1) = (last, command);
                }
            }
        }
    }

    fn honour(&mut self, id: u64, grant: &Grant) {
        let last = grant.range.last;
        self.send(id, grant.peer, Message::AppendRequest(grant.request(last)));
        let bytes = grant.range.len() * ENTRY_BYTES;
        self.step(id, Input::Sent { peer: grant.peer, last, bytes }, &[]);
    }

    fn send(&mut self, from: u64, to: NodeId, message: Message) {
        let log = &self.members[&from].log;
        let commands = match &message {
            Message::AppendRequest(request) => {
                let range = request.range.first().0..=request.range.last.0;
                range.map(|index| log[index as usize - 1].1).collect()
            }
            _ => Vec::new(),
        };
        self.network.send(from, to.0, Envelope { message, commands });
    }

    fn apply(&mut self, id: u64, commit: Index) {
        let member = self.members.get_mut(&id).expect("a known member");
        let entries = &member.log[member.applied_index as usize..commit.0 as usize];
        member.applied.extend(entries.iter().filter_map(|(_, command)| *command));
        member.applied_index = commit.0;
        while let Some((position, command)) = member.proposed.front().copied()
            && position.index <= commit
        {
            member.proposed.pop_front();
            self.acknowledged.push(command);
        }
    }
}

impl Cluster for Jangada {
    fn tick(&mut self, member: u64) {
        if !self.runs(member) {
            return;
        }
        let state = self.member(member);
        state.ticks += 1;
        let ticks = state.ticks;
        // As in the crate `raft`, a leader that finds itself without a quorum says no more.
        let due = [Timer::QuorumCheck, Timer::Heartbeat, Timer::Quiet]
            .into_iter()
            .filter(|timer| state.deadlines.get(timer).is_some_and(|at| *at <= ticks));
        let due: Vec<Timer> = due.collect();
        for timer in due {
            self.member(member).deadlines.remove(&timer);
            self.input(member, Input::Timer(timer), &[]);
        }
    }

    fn campaign(&mut self, member: u64) {
        self.input(member, Input::Timer(Timer::Election), &[]);
    }

    fn propose(&mut self, member: u64, command: u64) -> bool {
        let leads = self.leads(member);
        self.input(member, Input::Propose { entries: 1, bytes: ENTRY_BYTES }, &[Some(command)]);
        leads
    }

    fn deliver(&mut self, links: &Links, each: usize) -> bool {
        let (any, taken) = self.network.take(links, each);
        for (from, to, Envelope { message, commands }) in taken {
            self.input(to, Input::Receive { from: NodeId(from), message }, &commands);
        }
        any
    }

    fn crash(&mut self, member: u64) {
        let sabotage = self.sabotage;
        let member = self.member(member);
        member.raft = None;
        member.held.clear();
        member.proposed.clear();
        member.deadlines.clear();
        match sabotage {
            Some(Sabotage::ForgetsLastEntry) if member.applied_index < member.log.len() as u64 => {
                member.log.pop();
            }
            _ => {}
        }
    }

    fn restart(&mut self, member: u64) {
        let configuration = self.configuration.clone();
        let state = self.member(member);
        if state.raft.is_some() {
            return;
        }
        let mut log = Range::default();
        state.log.iter().for_each(|(term, _)| log.push(*term));
        state.raft = Some(Raft::new(Start {
            id: NodeId(member),
            hard_state: state.hard_state,
            configuration,
            log,
            commit: Index(state.applied_index),
            limits: Limits::default(),
            configurations: Vec::new(),
            recovering: None,
        }));
        self.input(member, Input::Flush, &[]);
    }

    fn runs(&self, member: u64) -> bool {
        self.members[&member].raft.is_some()
    }

    fn leads(&self, member: u64) -> bool {
        let raft = self.members[&member].raft.as_ref();
        raft.is_some_and(|raft| raft.role() == RoleKind::Leader)
    }

    fn applied(&self, member: u64) -> &[u64] {
        &self.members[&member].applied
    }

    fn acknowledged(&self) -> &[u64] {
        &self.acknowledged
    }
}
