//! Leadership transfer (thesis §3.10), and giving up a leader or leadership for the driver's reasons.
//!
//! Responsible for handing over: to whom, when that member is asked to stand, and when it is given up.
//! Not responsible for the election that follows (`election.rs`).
//!
//! ```text
//!   1 (leader, term 4)                       2
//!   TransferLeadership{2}
//!     proposals and changes are refused from here on; the last entry is 7
//!     -- AppendRequest 6 7 ----------------> writes them
//!     <- AppendResponse match 7 ------------
//!     -- TimeoutNow 4 ---------------------> stands at once for term 5, without asking around:
//!     <- VoteRequest 5, on transfer --------   its log is as long as any
//!   follower, term 5: votes for 2            leader, term 5
//! ```
//!
//! `TimeoutNow` is repeated with each heartbeat, for it may be lost. One that comes late or twice is
//! of an older term by then: whoever stood for term 5 has left term 4, and so has everyone that voted.
//! Should the target not take over within an election timeout, the leader goes on as before.
//!
//! Invariants:
//!
//! 1. Whoever is asked to stand holds, durably, everything that its leader's log holds.
//! 2. A leader that hands over takes in nothing new: otherwise the target might never catch up.
//! 3. A transfer ends: by an election, by its timer, or with the leader's role.

use crate::contract::{
    Message, NodeId, Output, Refused, RoleKind, TimeoutNow, Timer, TransferEnded,
};
use crate::raft::Raft;
use crate::role::{Leader, Role, Stickiness};

/// A leader that hands over.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Transfer {
    /// The voter that is to lead.
    pub(crate) to: NodeId,
    /// Whether it is to be asked, once it has all of the log.
    pub(crate) summons: Summons,
}

/// Whether the target of a transfer was asked to stand.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Summons {
    /// It is to be asked.
    Due,
    /// It was asked since the last heartbeat.
    Sent,
}

impl Raft {
    /// Leader: the voter that leadership is being handed to.
    #[must_use]
    pub fn transfer_target(&self) -> Option<NodeId> {
        let Role::Leader(leader) = &self.role else { return None };
        leader.transfer.map(|transfer| transfer.to)
    }

    /// Leadership is to be handed over.
    pub(crate) fn transfer_leadership(&mut self, to: Option<NodeId>, out: &mut Vec<Output>) {
        let believed = self.leader();
        let Role::Leader(leader) = &self.role else {
            return out.push(Output::TransferEnded(TransferEnded::NotLeader(believed)));
        };
        let under_way = leader.transfer.map(|transfer| transfer.to);
        if to == Some(self.id) || (under_way.is_some() && (to.is_none() || to == under_way)) {
            return mark!(transfer_asks_for_what_is);
        }
        let Some(to) = to.or_else(|| self.best_successor()).filter(|to| self.may_succeed(*to))
        else {
            return out.push(Output::TransferEnded(TransferEnded::NoVoter));
        };
        if under_way.is_some() {
            out.push(Output::TransferEnded(TransferEnded::Replaced));
            if canon!(replaced_transfer_target_is_kept) {
                return;
            }
        }
        self.begin_transfer(to, out);
    }

    /// A leader that is no voter any more, by a configuration that is committed, hands over. Should
    /// nobody take over in time, it steps down and leaves the others to their timers.
    pub(crate) fn leave_office(&mut self, out: &mut Vec<Output>) {
        let Role::Leader(leader) = &self.role else { return };
        if leader.transfer.is_some() {
            return;
        }
        match self.best_successor() {
            Some(to) => {
                mark!(removed_leader_hands_over);
                self.begin_transfer(to, out);
            }
            None => unreachable!("a configuration in force has a voter"),
        }
    }

    /// The transfer has lasted for an election timeout.
    pub(crate) fn give_transfer_up(&mut self, out: &mut Vec<Output>) {
        let is_voter = self.configuration().is_voter(self.id);
        let is_committed = self.is_configuration_committed();
        let Role::Leader(leader) = &mut self.role else { return };
        if canon!(transfer_never_ends) || leader.transfer.take().is_none() {
            return;
        }
        mark!(transfer_given_up);
        out.push(Output::TransferEnded(TransferEnded::TimedOut));
        if !is_voter && is_committed {
            self.become_follower(self.term(), None, out);
        }
    }

    /// A configuration came into force by which the target cannot lead.
    pub(crate) fn check_transfer_target(&mut self, out: &mut Vec<Output>) {
        let current = self.membership.current();
        let Role::Leader(leader) = &mut self.role else { return };
        if leader.transfer.is_some_and(|transfer| !current.voters.contains(&transfer.to)) {
            leader.transfer = None;
            out.push(Output::TransferEnded(TransferEnded::NoVoter));
        }
    }

    /// Asks the target to stand if that is due and it has all of the log. On a flush and behind the
    /// grants, so that it has been told what is committed.
    pub(crate) fn flush_transfer(&mut self, out: &mut Vec<Output>) {
        let last = self.log.last_index();
        let term = self.term();
        let Role::Leader(Leader { transfer: Some(transfer), peers, .. }) = &mut self.role else {
            return;
        };
        let holds = peers.get(&transfer.to).is_some_and(|peer| peer.match_index() == last);
        if transfer.summons == Summons::Sent || !(holds || canon!(successor_may_lag)) {
            return;
        }
        transfer.summons = Summons::Sent;
        let message = Message::TimeoutNow(TimeoutNow { term });
        out.push(Output::Send { to: transfer.to, message });
    }

    /// The heartbeat timer has fired: what was asked of the target may be lost.
    pub(crate) fn repeat_summons(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        if let Some(transfer) = &mut leader.transfer {
            transfer.summons = Summons::Due;
        }
    }

    /// The leader of this term asks this member to stand at once.
    pub(crate) fn obey_summons(&mut self, from: NodeId, out: &mut Vec<Output>) {
        if !self.may_campaign() {
            // It was removed meanwhile, or holds less than it thinks.
            return mark!(summons_of_a_non_voter_ignored);
        }
        assert!(self.leader().is_none_or(|leader| leader == from), "election safety");
        mark!(summons_obeyed);
        self.campaign_at_once(out);
    }

    /// The driver gives its leader up.
    pub(crate) fn forget_leader(&mut self, out: &mut Vec<Output>) {
        let Role::Follower(follower) = &mut self.role else { return };
        follower.leader = None;
        follower.stickiness = Stickiness::Free;
        follower.haste = None;
        self.announce(out);
    }

    /// A leader gives up, for its driver's reasons, and is silent.
    pub(crate) fn step_down(&mut self, out: &mut Vec<Output>) {
        if self.role() == RoleKind::Leader {
            self.become_follower(self.term(), None, out);
        }
    }

    /// Why a leader takes nothing in at the moment.
    pub(crate) fn refuses_proposals(&self) -> Option<Refused> {
        self.transfer_target().map(|_| Refused::HandingOver)
    }

    fn begin_transfer(&mut self, to: NodeId, out: &mut Vec<Output>) {
        assert!(to != self.id && self.may_succeed(to), "leadership goes to another voter");
        let (start, last) = (self.log.start().index, self.log.last_index());
        let Role::Leader(leader) = &mut self.role else {
            unreachable!("only a leader hands over");
        };
        leader.transfer = Some(Transfer { to, summons: Summons::Due });
        if let Some(progress) = leader.peers.get_mut(&to) {
            progress.resume(start, last);
        }
        self.restart(Timer::Transfer, out);
    }

    /// A voter of the configuration that will stay: who is on the way out would have to hand over
    /// again.
    fn may_succeed(&self, to: NodeId) -> bool {
        to != self.id && self.configuration().voters.contains(&to)
    }

    /// Of the other voters, the one that holds most of the log; of several, one that was heard since
    /// the last quorum check.
    fn best_successor(&self) -> Option<NodeId> {
        let Role::Leader(leader) = &self.role else { return None };
        let others = self.configuration().voters.iter().filter(|id| **id != self.id);
        let rank = |id: &&NodeId| {
            let peer = leader.peers.get(id);
            peer.map(|peer| (peer.match_index(), peer.is_heard(), std::cmp::Reverse(**id)))
        };
        others.max_by_key(rank).copied()
    }
}
