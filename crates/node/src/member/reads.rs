//! Linearizable reads: who waits for which round, and what the leader answers followers.
//!
//! Reads come in batches: all that arrived at a member between two of its steps wait together. On the
//! leader a batch waits for a read round (thesis section 6.4). On a follower all waiting batches ask
//! the leader for one index. Either way a batch never joins a round that was opened before the
//! batch arrived. A read changes nothing, so after a change of leader it is simply asked again.

use std::collections::VecDeque;

use jangada_net::PeerMessage;
use jangada_raft::{Index, Input, NodeId, Output, ReadRound, RoleKind, canon};

use super::{Effect, Member};
use crate::machine::StateMachine;
use crate::record::mix;

/// Names a batch of reads; given by whoever hands the batch to the member.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReadBatch(pub u64);

/// A batch and when it came (microseconds, monotonic).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Waiting {
    pub(super) batch: ReadBatch,
    pub(super) since_us: u64,
}

/// Who waits for a read round at the leader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asker {
    Local(Waiting),
    Peer { peer: NodeId, number: u64 },
}

/// The question a follower has put to the leader.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) number: u64,
    pub(super) sent_us: u64,
    pub(super) batches: Vec<Waiting>,
}

#[derive(Debug, Default)]
pub(super) struct Reads {
    /// Not yet asked for.
    pub(super) arrived: Vec<Waiting>,
    /// At the leader: waiting for these rounds, in order.
    rounds: VecDeque<(ReadRound, Asker)>,
    /// At a follower: what the leader was asked.
    pub(super) asked: Option<Asked>,
    /// The number of the last question.
    asked_last: u64,
    /// The index is known; waiting until it is applied.
    ready: Vec<(Index, Waiting)>,
}

impl Reads {
    /// Nobody waits. `process` names this life of the process, never used before: questions are
    /// numbered from a place of its own, or a late answer to an earlier life's question could be
    /// taken for one to this life's, and confirm a round that was over before the read began.
    pub(super) fn new(process: u64) -> Reads {
        if canon!(read_questions_are_numbered_alike_in_each_life) {
            return Reads::default();
        }
        Reads { asked_last: mix(process, 0), ..Reads::default() }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.arrived.is_empty()
            && self.rounds.is_empty()
            && self.asked.is_none()
            && self.ready.is_empty()
    }

    pub(super) fn queue(&mut self, round: ReadRound, asker: Asker) {
        assert!(
            self.rounds.back().is_none_or(|(last, _)| *last <= round),
            "read rounds only rise within a term"
        );
        self.rounds.push_back((round, asker));
    }

    /// Puts all that has arrived into one question to the leader and numbers it.
    pub(super) fn ask(&mut self, now_us: u64) -> u64 {
        assert!(self.asked.is_none(), "one question at a time");
        self.asked_last = self.asked_last.wrapping_add(1);
        let batches = std::mem::take(&mut self.arrived);
        self.asked = Some(Asked { number: self.asked_last, sent_us: now_us, batches });
        self.asked_last
    }

    /// The leader has answered; a late answer to an earlier question is ignored, since the batches
    /// have been asked for again.
    ///
    /// A member that does not lead has no index to give. It is not asked again at once: until this
    /// member hears of another leader, which starts everything over, the two would send each other
    /// the same two messages as fast as they can.
    pub(super) fn answered(&mut self, number: u64, index: Option<Index>) {
        let Some(index) = index else { return };
        let any = canon!(answer_to_an_earlier_question_is_taken);
        let Some(asked) = self.asked.take_if(|asked| any || asked.number == number) else { return };
        self.ready.extend(asked.batches.into_iter().map(|batch| (index, batch)));
    }

    /// Rounds up to `round` are confirmed at `index`. Returns the followers to tell.
    pub(super) fn confirmed(&mut self, round: ReadRound, index: Index) -> Vec<(NodeId, u64)> {
        let mut tell = Vec::new();
        while self.rounds.front().is_some_and(|(waits, _)| *waits <= round) {
            let (_, asker) = self.rounds.pop_front().expect("there is a front");
            match asker {
                Asker::Local(batch) => self.ready.push((index, batch)),
                Asker::Peer { peer, number } => tell.push((peer, number)),
            }
        }
        tell
    }

    /// Leadership is in doubt: what waits is asked for again. Returns the followers to tell that
    /// this member has no answer for them.
    pub(super) fn start_over(&mut self) -> Vec<(NodeId, u64)> {
        let mut tell = Vec::new();
        for (_, asker) in self.rounds.drain(..) {
            match asker {
                Asker::Local(batch) => self.arrived.push(batch),
                Asker::Peer { peer, number } => tell.push((peer, number)),
            }
        }
        self.ask_again();
        tell
    }

    /// The question may be lost: its batches wait to be asked for again.
    pub(super) fn ask_again(&mut self) {
        if let Some(asked) = self.asked.take() {
            self.arrived.extend(asked.batches);
        }
    }

    /// Takes the batches that may run with everything up to `applied` applied.
    pub(super) fn runnable(&mut self, applied: Index, run: &mut Vec<ReadBatch>) {
        self.ready.retain(|(index, waiting)| {
            let waits = applied < *index && !canon!(read_runs_before_apply);
            if !waits {
                run.push(waiting.batch);
            }
            waits
        });
    }

    /// Since when the batch that has waited longest waits.
    pub(super) fn oldest_us(&self) -> Option<u64> {
        let rounds = self.rounds.iter().filter_map(|(_, asker)| match asker {
            Asker::Local(waiting) => Some(waiting),
            Asker::Peer { .. } => None,
        });
        let asked = self.asked.iter().flat_map(|asked| &asked.batches);
        let ready = self.ready.iter().map(|(_, waiting)| waiting);
        let all = self.arrived.iter().chain(rounds).chain(asked).chain(ready);
        all.map(|waiting| waiting.since_us).min()
    }

    /// Takes the batches that have waited since `before_us` or longer.
    pub(super) fn expired(&mut self, before_us: u64, expired: &mut Vec<ReadBatch>) {
        let mut keep = |waiting: &Waiting| {
            let fresh = before_us < waiting.since_us;
            if !fresh {
                expired.push(waiting.batch);
            }
            fresh
        };
        self.arrived.retain(&mut keep);
        self.ready.retain(|(_, waiting)| keep(waiting));
        if let Some(asked) = &mut self.asked {
            asked.batches.retain(&mut keep);
        }
        self.rounds.retain(|(_, asker)| match asker {
            Asker::Local(waiting) => keep(waiting),
            Asker::Peer { .. } => true,
        });
    }
}

/// How long a follower waits for the answer to a read index before it asks again, at least
/// (microseconds); as long as etcd waits.
const READ_RETRY_US: u64 = 500_000;

impl<M: StateMachine> Member<M> {
    /// How long to wait for the answer to a read index: members whose election timeout is long are
    /// far from one another.
    pub(super) fn read_retry_us(&self) -> u64 {
        READ_RETRY_US.max(self.options.election_timeout_us / 2)
    }

    pub(super) fn ask_for_reads(&mut self) {
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

    pub(super) fn read_for(&mut self, asker: Asker) {
        self.input(Input::Read);
        match (self.read_outcome.take(), asker) {
            (Some(Output::ReadQueued(round)), asker) => self.reads.queue(round, asker),
            (_, Asker::Local(waiting)) => self.reads.arrived.push(waiting),
            (_, Asker::Peer { peer, number }) => {
                self.send(peer, PeerMessage::ReadIndexResponse { number, index: None });
            }
        }
    }

    pub(super) fn run_reads(&mut self) {
        self.reads.runnable(self.record.applied.index, &mut self.runnable);
        self.effects.extend(self.runnable.drain(..).map(Effect::ReadReady));
    }
}
