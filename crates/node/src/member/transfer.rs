//! Handing leadership over (thesis section 3.10), as asked by an operator, or because the member is
//! about to stop.
//!
//! Responsible for: telling whoever asked what became of it. Not responsible for: how leadership
//! passes on, which is the consensus module's.

use jangada_net::{Answer, Ask, AskRefusal};
use jangada_raft::{Input, NodeId, TransferEnded};

use super::asks::Asker;
use super::{Effect, Member};
use crate::machine::StateMachine;

/// A transfer that this member carries out as the leader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TransferUnderWay {
    asker: Asker,
    to: Option<NodeId>,
    /// When nobody can say any more what became of it.
    doubtful_us: u64,
}

impl<M: StateMachine> Member<M> {
    /// This member leads and is to hand over.
    pub(super) fn transfer_leadership(&mut self, asker: Asker, to: Option<NodeId>) {
        // The module gives it one election timeout, the next leader the same to make itself heard.
        let doubtful_us = self.now.monotonic_us + 2 * self.options.election_timeout_us;
        let under_way = TransferUnderWay { asker, to, doubtful_us };
        if to == Some(self.id) {
            self.answer_transfer(under_way, Answer::Transferred(self.id));
            return;
        }
        self.input(Input::TransferLeadership { to });
        let ended = std::mem::take(&mut self.transfers_ended);
        if ended.contains(&TransferEnded::Replaced) {
            for before in std::mem::take(&mut self.transfers) {
                self.answer_transfer(before, Answer::Refused(AskRefusal::Replaced));
            }
        }
        match ended.iter().find(|ended| **ended != TransferEnded::Replaced) {
            Some(ended) => self.answer_transfer(under_way, Answer::Refused(refusal(*ended))),
            // It has begun, or is what had begun before.
            None => self.transfers.push(under_way),
        }
    }

    /// The member is about to stop. Whoever leads next should be found before that.
    pub(super) fn hand_over(&mut self) {
        let deadline_us = self.now.monotonic_us + self.options.election_timeout_us;
        self.handing_over_us.get_or_insert(deadline_us);
        if self.leads() {
            self.input(Input::TransferLeadership { to: None });
        }
    }

    /// Tells what became of transfers, at the end of each step.
    pub(super) fn settle_transfers(&mut self) {
        let ended = std::mem::take(&mut self.transfers_ended);
        if self.leads() && ended.is_empty() {
            let now_us = self.now.monotonic_us;
            if self.handing_over_us.is_some_and(|deadline_us| deadline_us <= now_us) {
                self.handed_over();
            }
            return;
        }
        // Without a leader it is too early to tell; with one it has ended either way.
        let leader = self.leader();
        if leader.is_some() || ended.iter().any(|e| *e != TransferEnded::Replaced) {
            self.handed_over();
        }
        let now_us = self.now.monotonic_us;
        for under_way in std::mem::take(&mut self.transfers) {
            let answer = match (ended.last(), leader) {
                (Some(ended), _) => Answer::Refused(refusal(*ended)),
                (None, Some(leader)) => Answer::Transferred(leader),
                (None, None) if under_way.doubtful_us <= now_us => {
                    Answer::Refused(AskRefusal::InDoubt)
                }
                (None, None) => {
                    self.transfers.push(under_way);
                    continue;
                }
            };
            self.answer_transfer(under_way, answer);
        }
    }

    fn handed_over(&mut self) {
        if self.handing_over_us.take().is_some() {
            self.effects.push(Effect::HandedOver);
        }
    }

    fn answer_transfer(&mut self, under_way: TransferUnderWay, answer: Answer) {
        let TransferUnderWay { asker, to, .. } = under_way;
        match asker {
            Asker::Own(ticket) => self.ask_answered(ticket, answer),
            Asker::Peer { .. } => self.tell(asker, &Ask::TransferLeadership(to), answer),
        }
    }

    /// When what became of a transfer is known at the latest.
    pub(super) fn transfers_next_us(&self) -> Option<u64> {
        let under_way = self.transfers.iter().map(|under_way| under_way.doubtful_us).min();
        [under_way, self.handing_over_us].into_iter().flatten().min()
    }
}

fn refusal(ended: TransferEnded) -> AskRefusal {
    match ended {
        TransferEnded::NotLeader(_) => AskRefusal::NotLeader,
        TransferEnded::NoVoter => AskRefusal::NoVoter,
        TransferEnded::TimedOut => AskRefusal::TimedOut,
        TransferEnded::Replaced => AskRefusal::Replaced,
    }
}
