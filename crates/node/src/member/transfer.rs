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
        let before = self.transfer.take();
        // The module gives it one election timeout, the next leader the same to make itself heard.
        let doubtful_us = self.now.monotonic_us + 2 * self.options.election_timeout_us;
        let under_way = TransferUnderWay { asker, to, doubtful_us };
        if to == Some(self.id) {
            self.answer_transfer(under_way, Answer::Transferred(self.id));
            self.transfer = before;
            return;
        }
        self.input(Input::TransferLeadership { to });
        let ended = std::mem::take(&mut self.transfers_ended);
        if let Some(last) = ended.iter().find(|ended| **ended != TransferEnded::Replaced) {
            self.answer_transfer(under_way, Answer::Refused(refusal(*last)));
            let replaced = ended.contains(&TransferEnded::Replaced);
            self.transfer = before.filter(|_| !replaced);
        } else {
            self.transfer = Some(under_way);
        }
        if let Some(before) = before
            && self.transfer != Some(before)
        {
            self.answer_transfer(before, Answer::Refused(AskRefusal::Replaced));
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
        let Some(under_way) = self.transfer.take() else { return };
        let last = ended.last().copied();
        let answer = match (last, leader) {
            (Some(ended), _) => Answer::Refused(refusal(ended)),
            (None, Some(leader)) => Answer::Transferred(leader),
            (None, None) if under_way.doubtful_us <= self.now.monotonic_us => {
                Answer::Refused(AskRefusal::InDoubt)
            }
            (None, None) => {
                self.transfer = Some(under_way);
                return;
            }
        };
        self.answer_transfer(under_way, answer);
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
        let under_way = self.transfer.map(|under_way| under_way.doubtful_us);
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
