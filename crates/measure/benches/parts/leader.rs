//! The consensus module of a leader, fed what one replicated batch brings, in the order and with the
//! flushes of `jangada::Member`: the turn that proposes, the turns of the followers' answers, the
//! turn in which the own disk is done.

use std::collections::VecDeque;

use jangada_raft::{
    AppendOutcome, AppendResponse, Configuration, Grant, HardState, Index, Input, Limits, Message,
    NodeId, Output, Position, PreVoteResponse, Raft, Range, RoleKind, Start, Timer, VoteResponse,
    WriteNumber,
};

const LEADER: NodeId = NodeId(1);

/// A leader whose followers are played by hand.
pub(crate) struct Leader {
    raft: Raft,
    outputs: Vec<Output>,
    followers: Vec<NodeId>,
    grants: Vec<Grant>,
    written: WriteNumber,
    /// Up to where the entries were handed to a state machine.
    applied: Index,
}

impl Leader {
    /// The leader of so many members, elected, with its first entry committed.
    pub(crate) fn elected(members: u64) -> Leader {
        let raft = Raft::new(Start {
            id: LEADER,
            hard_state: HardState::default(),
            configuration: Configuration::of_voters((1..=members).map(NodeId)),
            configurations: Vec::new(),
            log: Range::empty(Position::default()),
            commit: Index(0),
            recovering: None,
            limits: Limits::default(),
        });
        let followers = (2..=members).map(NodeId).collect();
        let (outputs, grants) = (Vec::new(), Vec::new());
        let written = WriteNumber(0);
        let mut leader = Leader { raft, outputs, followers, grants, written, applied: Index(0) };
        leader.win();
        leader
    }

    /// Plays an election in which everybody votes for it, up to the commitment of its first entry.
    fn win(&mut self) {
        let mut inputs = VecDeque::from([Input::Timer(Timer::Election)]);
        while let Some(input) = inputs.pop_front() {
            self.raft.step(input, &mut self.outputs);
            self.raft.step(Input::Flush, &mut self.outputs);
            for output in std::mem::take(&mut self.outputs) {
                match output {
                    Output::Write(write) => {
                        self.written = write.number;
                        let last = self.raft.last_position();
                        inputs.push_back(Input::Persisted { write: write.number, last });
                    }
                    Output::Send { to, message } | Output::SendAfter { to, message, .. } => {
                        let answer = vote(message);
                        inputs.extend(answer.map(|message| Input::Receive { from: to, message }));
                    }
                    Output::Grant(grant) => inputs.extend(whole(&grant)),
                    _ => {}
                }
            }
        }
        assert!(self.raft.role() == RoleKind::Leader, "everybody voted for it");
        assert!(self.raft.commit_index() == self.raft.last_index(), "everybody answered");
        self.applied = self.raft.commit_index();
    }

    /// Everything that one batch of so many entries and bytes brings, until it is applied.
    pub(crate) fn replicate(&mut self, entries: u64, bytes: u64) {
        self.step(Input::Propose { entries, bytes });
        self.send(bytes);
        let last = self.raft.last_position();
        self.acknowledge(0, last);
        self.step(Input::Persisted { write: self.written, last });
        self.send(0);
        for follower in 1..self.followers.len() {
            self.acknowledge(follower, last);
        }
        let committed = self.raft.commit_index();
        assert!(committed == last.index, "a batch that everybody holds is committed");
        self.applied = committed;
    }

    /// An answer of a follower, in a turn of its own.
    fn acknowledge(&mut self, follower: usize, last: Position) {
        let outcome = AppendOutcome::Match(last.index);
        let term = self.raft.term();
        let message = Message::AppendResponse(AppendResponse { term, outcome, recovering: None });
        self.step(Input::Receive { from: self.followers[follower], message });
        self.send(0);
    }

    /// The end of a turn: what is granted is sent, until nothing more is.
    fn send(&mut self, bytes: u64) {
        loop {
            self.step(Input::Flush);
            let mut sent_entries = false;
            let mut grants = std::mem::take(&mut self.grants);
            for grant in grants.drain(..) {
                let last = grant.range.last;
                let entries = grant.range.len();
                std::hint::black_box(grant.request(last));
                let bytes = if 0 < entries { bytes } else { 0 };
                self.step(Input::Sent { peer: grant.peer, last, bytes });
                sent_entries |= 0 < entries;
            }
            self.grants = grants;
            if !sent_entries {
                return;
            }
        }
    }

    fn step(&mut self, input: Input) {
        self.raft.step(input, &mut self.outputs);
        for output in self.outputs.drain(..) {
            match output {
                Output::Write(write) => self.written = write.number,
                Output::Grant(grant) => self.grants.push(grant),
                other => {
                    std::hint::black_box(other);
                }
            }
        }
    }
}

/// The vote that a message asks for, if it does.
fn vote(message: Message) -> Option<Message> {
    match message {
        Message::PreVoteRequest(request) => {
            let response = PreVoteResponse { term: request.term, granted: true };
            Some(Message::PreVoteResponse(response))
        }
        Message::VoteRequest(request) => {
            Some(Message::VoteResponse(VoteResponse { term: request.term, granted: true }))
        }
        _ => None,
    }
}

/// Sends all that a grant allows, of whatever size, and has it acknowledged.
fn whole(grant: &Grant) -> [Input; 2] {
    let (peer, last) = (grant.peer, grant.range.last);
    let outcome = AppendOutcome::Match(last);
    let response = AppendResponse { term: grant.term, outcome, recovering: None };
    let message = Message::AppendResponse(response);
    [
        Input::Sent { peer, last, bytes: 64 * grant.range.len() },
        Input::Receive { from: peer, message },
    ]
}
