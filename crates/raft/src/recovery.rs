//! A member that may have lost what it had acknowledged (the *recovering* state), from both sides.
//!
//! Responsible for what such a member does not do, for when it has recovered, and for what its leader
//! does not count meanwhile. Not responsible for finding out that something was lost: the log does
//! that at its start ([`Start::recovering`](crate::Start::recovering)).
//!
//! The paper assumes that what was written stays (§5.1, "stable storage"). Disks rot. A member that
//! comes back with less than it had acknowledged would break the very argument that keeps committed
//! entries: the majority that holds an entry and the majority that elects a leader share a member,
//! and that member would have forgotten.
//!
//! ```text
//!   index   1  2  3
//!   1       1  1  1     commits 3 with the acknowledgement of 2, and is cut off
//!   2       1  1        had 3, and lost it
//!   3       1  1        stands: 2 must not vote for it, though its log looks as good
//! ```
//!
//! So the member gives no vote, gives no leave to stand and does not stand, and says in each answer
//! that it is recovering. It holds enough again once it durably holds *all that a leader held at an
//! instant after this start at which it certainly was the leader*: everything that the member can ever
//! have helped to commit had been acknowledged before, so that leader has it (Leader Completeness,
//! §5.4.3). The instant is certain by a round of the read index (thesis §6.4):
//!
//! ```text
//!   member                               leader
//!   starts, number 8
//!   -- answers, recovering 8 --------->  notes its last entry, 5, and waits for the next round
//!                                        round 3 opens, and is confirmed by a quorum without the member
//!   <- Heartbeat, recovery 8 to 5 -----
//!   holds 5, verified and durable
//!   -- answers as anyone does --------->  counts it again
//! ```
//!
//! A leader that was deposed and does not know it yet confirms no round, for whoever deposed it did
//! so without the member, or with a vote that the member gave before. A quorum that may not count the
//! member is the price: of two members, or of three of which another is down, one does not recover.
//! The leader makes no change of the voters that would lead there ([`Raft::can_confirm_with`]): with 2
//! recovering, neither `{1 2 3}` to `{1 2}` nor `{1}` to `{1 2}`. Where it came to that all the same,
//! nobody but an operator can know that the other member is gone for good (`docs/operations.md`).
//!
//! The number is drawn anew for each start. Without it, what the leader said to an earlier recovery of
//! the same member, and was held up, would pass for an answer to this one, which has more to regain.
//!
//! What is lost are *entries*. The term and the vote must be the newest that were durable: no leader
//! can say whom the member has voted for.
//!
//! Invariants:
//!
//! 1. A recovering member is a follower, and grants nothing.
//! 2. While a member is recovering its leader counts it for nothing: no commit, no read, no quorum check.
//! 3. What an earlier life of the member has said is not counted once the leader knows of the recovery,
//!    unless it knows as well that the member can have recovered.

use crate::contract::{Configuration, Index, NodeId, Output, ReadRound, RecoverTo, RecoveryNumber};
use crate::raft::Raft;
use crate::role::{Debt, Role};

/// The recovery of a peer, as its leader sees it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Recovery {
    /// Its number.
    pub(crate) number: RecoveryNumber,
    /// The leader's last entry when it heard of it.
    pub(crate) last: Index,
    /// The first round that was opened after that.
    pub(crate) round: ReadRound,
}

impl Recovery {
    /// What the peer may be told, the rounds up to `confirmed` being confirmed by others.
    pub(crate) fn answer(&self, confirmed: ReadRound) -> Option<RecoverTo> {
        let waits = confirmed < self.round && !canon!(recovery_is_answered_unconfirmed);
        (!waits).then_some(RecoverTo { number: self.number, last: self.last })
    }
}

/// The leader's side.
impl Raft {
    /// Whether a leader could confirm its leadership among the new voters of `next` without those that
    /// are known to be recovering. If not, none of them would ever recover.
    pub(crate) fn can_confirm_with(&self, next: &Configuration) -> bool {
        let Role::Leader(leader) = &self.role else { return true };
        let recovers = |id| leader.peers.get(&id).is_some_and(|peer| peer.recovery().is_some());
        let voters = Configuration::of_voters(next.voters.iter().copied());
        voters.agrees(|id| !recovers(id))
    }

    /// Takes note of whether a peer says that it is recovering. Says whether its answer is to be taken
    /// at all: one of an earlier life is not.
    pub(crate) fn is_of_this_life(
        &mut self,
        from: NodeId,
        recovering: Option<RecoveryNumber>,
    ) -> bool {
        let confirmed = self.confirmed_round();
        let last = self.log.last_index();
        let Role::Leader(leader) = &mut self.role else { return true };
        let Some(progress) = leader.peers.get_mut(&from) else { return true };
        match (progress.recovery(), recovering) {
            (None, None) => true,
            (Some(known), Some(number)) if known.number == number => true,
            (_, Some(number)) => {
                mark!(recovery_begun);
                let round = leader.reads.wait();
                progress.begin_recovery(Recovery { number, last, round }, last);
                true
            }
            // The peer has been told what it must hold, and holds it; or this was said in an earlier
            // life. Then it does no harm, for the peer gives no vote before it holds so much again;
            // and its next answer, which names the number, begins the recovery once more.
            (Some(known), None) if known.answer(confirmed).is_some() => {
                progress.end_recovery();
                true
            }
            (Some(_), None) => false,
        }
    }
}

/// The member's side.
impl Raft {
    /// Whether this member gives votes and pre-votes.
    pub(crate) fn may_vote(&self) -> bool {
        self.recovering.is_none() || canon!(recovering_member_votes)
    }

    /// Whether this member stands for election.
    pub(crate) fn may_stand(&self) -> bool {
        self.recovering.is_none()
    }

    /// The leader of this term says what a recovering member must hold.
    pub(crate) fn note_recover_to(&mut self, recover_to: Option<RecoverTo>) {
        let Some(RecoverTo { number, last }) = recover_to else { return };
        let is_other = self.recovering != Some(number) && !canon!(recovery_number_is_not_compared);
        if self.recovering.is_none() || is_other {
            mark!(answer_to_another_recovery_ignored);
            return;
        }
        let Role::Follower(follower) = &mut self.role else { return };
        follower.recover_to = Some(last);
    }

    /// Ends the recovery when this member holds what the leader of this term has named: durably,
    /// verified, and in a term that is durable itself.
    pub(crate) fn finish_recovery(&mut self, out: &mut Vec<Output>) {
        if self.recovering.is_none() {
            return;
        }
        let durable = self.stable.durable_index();
        let term_is_durable = self.stable.is_hard_state_durable();
        let Role::Follower(follower) = &mut self.role else {
            unreachable!("recovery invariant 1: a recovering member is a follower");
        };
        let held = follower.verified.min(durable);
        if !term_is_durable || follower.recover_to.is_none_or(|last| held < last) {
            return;
        }
        mark!(recovered);
        follower.recover_to = None;
        // The leader counts this member as soon as it hears from it.
        follower.debt = Debt::Owed;
        self.recovering = None;
        out.push(Output::Recovered);
    }
}
