//! One member in a test's hands: its log, its clock and its two peers are the test's.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use jangada::entry::{Draft, Frame, Kind, Origin};
use jangada::net::PeerMessage;
use jangada::raft::{
    AppendOutcome, AppendRequest, AppendResponse, Configuration, HardState, Heartbeat, Index,
    Message, NodeId, Position, PreVoteResponse, Range, ReadRound, RoleKind, Term, VoteResponse,
};
use jangada::{
    ChangeError, ConsultError, Consultation, Effect, Ended, Event, FEATURE_LEVEL, Log, LogBatch,
    LogCut, LogRead, LogWritten, Member, MemberStart, MemoryLog, Now, Options, Outcome, Peers,
    ProposeError, Quarantine, StateMachine, TransferError,
};

pub(crate) const SELF: NodeId = NodeId(1);
pub(crate) const TWO: NodeId = NodeId(2);
pub(crate) const THREE: NodeId = NodeId(3);

/// Names the process under test.
pub(crate) const PROCESS: u64 = 77;

/// Remembers every command, and what it was told of the log.
#[derive(Default)]
pub(crate) struct Journal {
    pub(crate) commands: Vec<Vec<u8>>,
    pub(crate) durable: u64,
    pub(crate) record: Option<Bytes>,
    pub(crate) log_durable: Arc<Mutex<u64>>,
}

impl StateMachine for Journal {
    type Reply = usize;

    fn apply(&mut self, commands: &[Frame], outcomes: &mut Vec<Outcome<usize>>) {
        for command in commands {
            self.commands.push(command.payload().to_vec());
            outcomes.push(Outcome { reply: self.commands.len(), digest: 0 });
        }
    }

    /// What begins with an exclamation mark frees space.
    fn is_essential(&self, _: u16, command: &[u8]) -> bool {
        command.first() == Some(&b'!')
    }

    fn log_durable(&mut self, index: Index) {
        let mut told = self.log_durable.lock().expect("nobody panics under the lock");
        *told = index.0.max(*told);
    }

    fn recovered(&self) -> Option<Bytes> {
        self.record.clone()
    }

    fn durable_index(&self) -> Index {
        Index(self.durable)
    }
}

/// Whether the log completes what it is asked at once, or when it is told to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disk {
    Prompt,
    Stalled,
}

/// A member in the test's hands.
pub(crate) struct Hand {
    pub(crate) member: Member<Journal>,
    pub(crate) log: MemoryLog,
    pub(crate) disk: Disk,
    pub(crate) unwritten: Vec<LogBatch>,
    pub(crate) unread: Vec<LogRead>,
    pub(crate) now_us: u64,
    pub(crate) wall_ms: u64,
    pub(crate) sent: Vec<(NodeId, PeerMessage)>,
    pub(crate) told: Vec<Told>,
    pub(crate) cuts: Vec<LogCut>,
    /// What changes that are done have led to.
    pub(crate) configurations: Vec<Configuration>,
    pub(crate) peers: Vec<Peers>,
    /// What its application is asked, and what the leader's has answered.
    pub(crate) consulted: Vec<Consultation>,
    pub(crate) counselled: Vec<(u64, Result<Bytes, ConsultError>)>,
}

/// What clients are told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Told {
    Reply(u64, usize),
    Refuse(u64, ProposeError),
    Changed(u64, Option<ChangeError>),
    Transferred(u64, Result<NodeId, TransferError>),
    HandedOver,
    Ends(Ended),
    Doubt(u64),
    ReadReady(u64),
    ReadExpired(u64),
    Stranger(NodeId),
    ReadRefused(u64),
    Abort(u64),
    Quarantined(Quarantine),
    HashesDiffer(Index, usize),
}

pub(crate) fn at(index: u64, term: u64) -> Position {
    Position { index: Index(index), term: Term(term) }
}

pub(crate) fn draft(sequence: u64, command: &[u8]) -> Draft {
    let mut buffer = Draft::buffer(command.len());
    buffer.extend_from_slice(command);
    let origin = Origin { incarnation: PROCESS, sequence };
    Draft::new(buffer, Kind::Command, 1, 0, origin)
}

pub(crate) fn propose(sequence: u64) -> Event {
    Event::Propose(draft(sequence, &sequence.to_le_bytes()))
}

pub(crate) fn raft(from: NodeId, message: Message) -> Event {
    Event::Received { from, message: PeerMessage::Raft(message) }
}

pub(crate) fn heartbeat(from: NodeId, term: u64, commit: u64) -> Event {
    let (term, commit, round) = (Term(term), Index(commit), ReadRound(0));
    raft(from, Message::Heartbeat(Heartbeat { term, commit, round, recover_to: None }))
}

/// Commands of `term` behind `prev`, as their leader sends them.
pub(crate) fn append(from: NodeId, term: u64, prev: Position, last: u64, commit: u64) -> Event {
    let range = if last == prev.index.0 {
        Range::empty(prev)
    } else {
        Range::of_term(prev, Term(term), Index(last))
    };
    let frame = |index| {
        let draft = Draft::new(Draft::buffer(0), Kind::Command, 1, 0, Origin::default());
        draft.stamp(at(index, term), 0)
    };
    let frames = (prev.index.0 + 1..=last).map(frame).collect();
    let request = AppendRequest {
        term: Term(term),
        range,
        commit: Index(commit),
        configurations: Vec::new(),
    };
    Event::Received { from, message: PeerMessage::Append { request, frames } }
}

pub(crate) fn matched(from: NodeId, term: u64, index: u64) -> Event {
    let outcome = AppendOutcome::Match(Index(index));
    raft(
        from,
        Message::AppendResponse(AppendResponse { term: Term(term), outcome, recovering: None }),
    )
}

impl Hand {
    /// A member of three that starts on `log`, with a machine that remembers nothing.
    pub(crate) fn start(log: MemoryLog, range: Range) -> Hand {
        Hand::start_as(PROCESS, log, range)
    }

    /// As `start`, in a life of this name.
    pub(crate) fn start_as(process: u64, log: MemoryLog, range: Range) -> Hand {
        Hand::start_with(process, log, range, Journal::default())
    }

    /// As `start_as`, with this machine.
    pub(crate) fn start_with(process: u64, log: MemoryLog, range: Range, machine: Journal) -> Hand {
        let start = MemberStart {
            id: SELF,
            group: 0,
            process,
            hard_state: HardState { term: range.last_position().term, vote: None },
            configuration: Configuration::of_voters([SELF, TWO, THREE]),
            log: range,
            time_ms: 0,
            note: Bytes::new(),
            level: FEATURE_LEVEL,
            options: Options::default(),
            seed: 1,
            configurations: Vec::new(),
            faulty: Vec::new(),
            recovering: false,
            saved: None,
        };
        let member = Member::new(Now::default(), start, machine).expect("it starts");
        Hand {
            member,
            log,
            disk: Disk::Prompt,
            unwritten: Vec::new(),
            unread: Vec::new(),
            now_us: 0,
            wall_ms: 0,
            sent: Vec::new(),
            told: Vec::new(),
            cuts: Vec::new(),
            configurations: Vec::new(),
            peers: Vec::new(),
            consulted: Vec::new(),
            counselled: Vec::new(),
        }
    }

    /// As `start`, with an empty log, and both peers met.
    pub(crate) fn new() -> Hand {
        let mut hand = Hand::start(MemoryLog::default(), Range::empty(Position::default()));
        hand.meet();
        hand
    }

    pub(crate) fn meet(&mut self) {
        for peer in [TWO, THREE] {
            self.step([Event::Hello { peer, incarnation: peer.0, level: 0 }, Event::PeerUp(peer)]);
        }
    }

    /// A follower of `TWO` in term 1.
    pub(crate) fn follower() -> Hand {
        let mut hand = Hand::new();
        hand.step([heartbeat(TWO, 1, 0)]);
        assert_eq!(hand.member.status().standing.leader, Some(TWO));
        hand.sent.clear();
        hand
    }

    /// Stands for election, with the vote of `TWO`.
    pub(crate) fn win(&mut self) {
        while self.member.status().standing.role == RoleKind::Follower {
            self.sleep();
        }
        let term = Term(self.member.status().standing.term.0 + 1);
        let granted = true;
        self.step([raft(TWO, Message::PreVoteResponse(PreVoteResponse { term, granted }))]);
        self.step([raft(TWO, Message::VoteResponse(VoteResponse { term, granted }))]);
    }

    /// The leader of term 1, whose no-op is committed.
    pub(crate) fn leader() -> Hand {
        let mut hand = Hand::new();
        hand.win();
        hand.step([matched(TWO, 1, 1)]);
        assert_eq!(hand.member.status().standing.role, RoleKind::Leader);
        assert_eq!(hand.member.status().commit, Index(1));
        hand.sent.clear();
        hand
    }

    /// Steps until the member has nothing more to do at this moment.
    pub(crate) fn step(&mut self, events: impl IntoIterator<Item = Event>) {
        let mut events: Vec<Event> = events.into_iter().collect();
        let mut effects = Vec::new();
        loop {
            let now = Now { monotonic_us: self.now_us, wall_ms: self.wall_ms };
            self.member.step(now, &mut events, &mut effects);
            for effect in effects.drain(..) {
                self.carry_out(effect, &mut events);
            }
            if events.is_empty() && self.now_us < self.member.next_step_us() {
                return;
            }
        }
    }

    pub(crate) fn carry_out(&mut self, effect: Effect<usize>, events: &mut Vec<Event>) {
        let told = match effect {
            Effect::Write(batch) => {
                self.unwritten.push(batch);
                if self.disk == Disk::Prompt {
                    events.extend(self.write());
                }
                return;
            }
            Effect::Read(read) if self.disk == Disk::Stalled => {
                self.unread.push(read);
                return;
            }
            Effect::Read(read) => {
                let frames = self.log.read(&read).expect("in memory");
                events.push(Event::LogRead { reader: read.reader, frames });
                return;
            }
            Effect::Cut(cut) => {
                let begins = self.log.cut(&cut).expect("in memory");
                self.cuts.push(cut);
                events.push(Event::LogBegins(begins));
                return;
            }
            Effect::Mend(mend) => {
                events.push(Event::Mended(self.log.mend(&mend).expect("in memory")));
                return;
            }
            effect @ (Effect::SnapshotWork(_) | Effect::SaveState(_)) => {
                unreachable!("the journal has no snapshots: {effect:?}")
            }
            Effect::Send { to, message } => {
                self.sent.push((to, message));
                return;
            }
            Effect::Changed(_) => return,
            Effect::Reply { sequence, reply } => Told::Reply(sequence, reply),
            Effect::Refuse { sequence, reason } => Told::Refuse(sequence, reason),
            Effect::Doubt { sequence_max } => Told::Doubt(sequence_max),
            Effect::ReadReady(batch) => Told::ReadReady(batch.0),
            Effect::ReadExpired(batch) => Told::ReadExpired(batch.0),
            Effect::ReadRefused(batch) => Told::ReadRefused(batch.0),
            Effect::Abort { stalled_us } => Told::Abort(stalled_us),
            Effect::Quarantined(quarantine) => Told::Quarantined(quarantine),
            Effect::HashesDiffer { index, hashes } => Told::HashesDiffer(index, hashes.len()),
            Effect::Stranger { peer, .. } => Told::Stranger(peer),
            Effect::ChangeAnswered { ticket, outcome } => {
                let error = outcome.as_ref().err().copied();
                self.configurations.extend(outcome);
                Told::Changed(ticket.0, error)
            }
            Effect::TransferAnswered { ticket, outcome } => Told::Transferred(ticket.0, outcome),
            Effect::Peers(peers) => {
                self.peers.push(peers);
                return;
            }
            Effect::Consulted(asked) => {
                self.consulted.push(asked);
                return;
            }
            Effect::Counselled { ticket, outcome } => {
                self.counselled.push((ticket.0, outcome));
                return;
            }
            Effect::HandedOver => Told::HandedOver,
            Effect::Ends(ended) => Told::Ends(ended),
        };
        self.told.push(told);
    }

    /// Does what the log was asked, and tells that it is durable.
    pub(crate) fn write(&mut self) -> Vec<Event> {
        let written = |batch: LogBatch| {
            self.log.append(&batch).expect("in memory");
            Event::LogWritten(LogWritten { number: batch.number, last: batch.last })
        };
        self.unwritten.drain(..).map(written).collect()
    }

    /// Reads what the log was asked first.
    pub(crate) fn read(&mut self) -> Event {
        let read = self.unread.remove(0);
        let frames = self.log.read(&read).expect("in memory");
        Event::LogRead { reader: read.reader, frames }
    }

    /// Sleeps until the member wants to be stepped.
    pub(crate) fn sleep(&mut self) {
        self.now_us = self.now_us.max(self.member.next_step_us());
        self.step([]);
    }

    /// Sleeps on until `until_us`, hearing from the leader all the while.
    pub(crate) fn sleep_until(&mut self, until_us: u64, leader: NodeId, term: u64) {
        while self.now_us < until_us {
            let next = self.member.next_step_us().min(self.now_us + 50_000);
            self.now_us = next.clamp(self.now_us + 1, until_us);
            self.step([heartbeat(leader, term, 0)]);
        }
    }

    pub(crate) fn sent_to(&self, to: NodeId) -> impl Iterator<Item = &PeerMessage> {
        self.sent.iter().filter(move |sent| sent.0 == to).map(|(_, message)| message)
    }

    pub(crate) fn log_durable(&self) -> u64 {
        *self.member.machine().log_durable.lock().expect("nobody panics under the lock")
    }
}
