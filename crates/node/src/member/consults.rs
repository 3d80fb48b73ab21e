//! What a member's application asks of the leader's: bytes there, bytes back.
//!
//! Responsible for: getting each question to one leader, once, wherever it was asked, and answering it
//! once, with the answer or with the word that none is to be had. Not responsible for: what is asked
//! and answered, which is the applications' business; they must also bear that a question is asked
//! again, since whoever asked is told when its leader may be lost, not whether it was heard.
//!
//! Invariants:
//! 1. A question is put to one leader at most: it waits, or it has been put, and never goes back to
//!    waiting.
//! 2. A question is answered once.
//! 3. An application is asked only while its member leads, and is told the term.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use jangada_net::wire::CONSULT_BYTES_MAX;
use jangada_net::{ConsultRefusal, PeerMessage};
use jangada_raft::{NodeId, RoleKind, Term};

use super::{Effect, Member, Ticket};
use crate::machine::StateMachine;

/// The most questions of this member's application that are not answered. It asks about many things
/// at once rather than one by one, so a few are under way; this many are when the leader is silent.
pub(super) const CONSULTS_MAX: usize = 1024;

/// Why a question got no answer from the leader's application.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ConsultError {
    /// No leader was found in time; nobody was asked.
    NoLeader,
    /// Too many questions are under way, here or at the leader; nobody was asked.
    Busy,
    /// The question or its answer is longer than one may be.
    TooLarge,
    /// The leader changed, the connection to it broke, or no answer came in time. The leader may or may
    /// not have heard the question.
    InDoubt,
    /// The member is stopping.
    Stopped,
}

impl std::fmt::Display for ConsultError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ConsultError::NoLeader => "no leader was found in time, so none was asked; ask again",
            ConsultError::Busy => "too much is asked of the leader; ask again after a while",
            ConsultError::TooLarge => "what is asked of the leader is longer than it may be",
            ConsultError::InDoubt => {
                "the leader changed or was silent before it answered; ask again"
            }
            ConsultError::Stopped => "the member is stopping",
        })
    }
}

impl std::error::Error for ConsultError {}

impl From<ConsultRefusal> for ConsultError {
    fn from(reason: ConsultRefusal) -> ConsultError {
        match reason {
            ConsultRefusal::NotLeader => ConsultError::NoLeader,
            ConsultRefusal::Busy => ConsultError::Busy,
            ConsultRefusal::Unanswered => ConsultError::InDoubt,
        }
    }
}

/// Who waits for the answer of the leader's application.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Consulter {
    /// This member's own application.
    Own(Ticket),
    /// Another member's.
    Peer {
        /// The member.
        peer: NodeId,
        /// The life of its process.
        process: u64,
        /// Its number for the question.
        number: u64,
    },
}

/// A question to this member's application, since this member leads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Consultation {
    /// Who asks.
    pub from: Consulter,
    /// The term in which this member leads.
    pub term: Term,
    /// What is asked.
    pub bytes: Bytes,
}

/// A question of this member's application that no leader has been asked yet.
#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    bytes: Bytes,
    since_us: u64,
}

/// Where a question was put, and when its outcome becomes doubtful.
#[derive(Debug)]
struct Put {
    leader: NodeId,
    doubtful_us: u64,
}

/// The questions of this member's application.
#[derive(Debug, Default)]
pub(super) struct Consults {
    waiting: VecDeque<Waiting>,
    put: BTreeMap<Ticket, Put>,
}

impl Consults {
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.put.is_empty()
    }
}

impl<M: StateMachine> Member<M> {
    /// This member's application asks.
    pub(super) fn consult(&mut self, ticket: Ticket, bytes: Bytes) {
        if CONSULT_BYTES_MAX < bytes.len() {
            return self.counselled(ticket, Err(ConsultError::TooLarge));
        }
        if CONSULTS_MAX <= self.consults.waiting.len() + self.consults.put.len() {
            return self.counselled(ticket, Err(ConsultError::Busy));
        }
        let since_us = self.now.monotonic_us;
        self.consults.waiting.push_back(Waiting { ticket, bytes, since_us });
    }

    /// Puts what waits to whoever leads.
    pub(super) fn consult_leader(&mut self) {
        if self.consults.waiting.is_empty() {
            return;
        }
        let Some(leader) = self.leader() else { return };
        for Waiting { ticket, bytes, .. } in std::mem::take(&mut self.consults.waiting) {
            let doubtful_us = self.now.monotonic_us + self.options.leader_wait_us;
            let before = self.consults.put.insert(ticket, Put { leader, doubtful_us });
            assert!(before.is_none(), "consults invariant 1");
            if leader == self.id {
                self.consulted(Consulter::Own(ticket), bytes);
            } else {
                let (process, number) = (self.process, ticket.0);
                self.send(leader, PeerMessage::Consult { process, number, bytes });
            }
        }
    }

    /// A question for this member's application, if this member leads (invariant 3).
    pub(super) fn consulted(&mut self, from: Consulter, bytes: Bytes) {
        if self.raft.role() != RoleKind::Leader {
            return self.counsel(from, Err(ConsultRefusal::NotLeader));
        }
        let term = self.raft.standing().term;
        self.effects.push(Effect::Consulted(Consultation { from, term, bytes }));
    }

    /// This member's application has answered, or was not asked.
    pub(super) fn counsel(&mut self, to: Consulter, outcome: Result<Bytes, ConsultRefusal>) {
        let outcome = match outcome {
            Ok(bytes) if CONSULT_BYTES_MAX < bytes.len() => Err(ConsultRefusal::Unanswered),
            outcome => outcome,
        };
        match to {
            Consulter::Own(ticket) => self.counsel_came(ticket, outcome),
            Consulter::Peer { peer, process, number } => {
                self.send(peer, PeerMessage::Counsel { process, number, outcome });
            }
        }
    }

    /// The leader's application has answered a question of this member's.
    pub(super) fn counsel_came(&mut self, ticket: Ticket, outcome: Result<Bytes, ConsultRefusal>) {
        // Given up meanwhile (invariant 2).
        if self.consults.put.remove(&ticket).is_some() {
            self.counselled(ticket, outcome.map_err(ConsultError::from));
        }
    }

    fn counselled(&mut self, ticket: Ticket, outcome: Result<Bytes, ConsultError>) {
        self.effects.push(Effect::Counselled { ticket, outcome });
    }

    /// Whoever leads now, or nobody: what was put to another one is given up, so that it can be asked
    /// anew at once.
    pub(super) fn doubt_consults(&mut self, leader: Option<NodeId>) {
        self.give_up_consults(|put| Some(put.leader) != leader);
    }

    /// What was sent to this peer, or its answer, may be lost.
    pub(super) fn consults_lost(&mut self, peer: NodeId) {
        self.give_up_consults(|put| put.leader == peer);
    }

    /// When the next question expires.
    pub(super) fn consults_next_us(&self) -> Option<u64> {
        let wait_us = self.options.leader_wait_us;
        let waiting = self.consults.waiting.front().map(|waiting| waiting.since_us + wait_us);
        let put = self.consults.put.values().map(|put| put.doubtful_us).min();
        [waiting, put].into_iter().flatten().min()
    }

    pub(super) fn expire_consults(&mut self) {
        let (now_us, wait_us) = (self.now.monotonic_us, self.options.leader_wait_us);
        let late = |waiting: &Waiting| waiting.since_us + wait_us <= now_us;
        while self.consults.waiting.front().is_some_and(late) {
            let waiting = self.consults.waiting.pop_front().expect("there is a front");
            self.counselled(waiting.ticket, Err(ConsultError::NoLeader));
        }
        if self.consults.put.values().any(|put| put.doubtful_us <= now_us) {
            self.give_up_consults(|put| put.doubtful_us <= now_us);
        }
    }

    fn give_up_consults(&mut self, lost: impl Fn(&Put) -> bool) {
        let mut given_up = Vec::new();
        self.consults.put.retain(|ticket, put| {
            let lost = lost(put);
            given_up.extend(lost.then_some(*ticket));
            !lost
        });
        for ticket in given_up {
            self.counselled(ticket, Err(ConsultError::InDoubt));
        }
    }
}
