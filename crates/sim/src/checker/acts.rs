//! What can happen to a member whatever is under way, and what it costs.
//!
//! A timer that has no meaning in the member's role is left out: the module ignores it. So are a
//! proposal and a read where nobody leads, which are refused.

use jangada_raft::{RoleKind, Term, Timer};

use super::bounds::{Bounds, Cost, Spent};
use super::member::{Act, Member};

/// Everything that can happen to the member. What the bounds do not allow is not left out.
pub(crate) fn acts(bounds: &Bounds, member: &Member) -> Vec<(Act, Spent)> {
    let free = Spent::default();
    let Some(raft) = &member.raft else {
        let rots = member.may_lose().map(|kept| (Act::Rot { kept }, Cost::Rot.spent()));
        return std::iter::once((Act::Restart, free)).chain(rots).collect();
    };
    let mut acts = vec![(Act::Flush, free)];
    for count in 1..=member.pending.len() {
        acts.push((Act::Persist(count), free));
    }
    if member.may_cut() {
        acts.push((Act::Cut, Cost::Cut.spent()));
    }
    let in_snapshot = bounds.members().into_iter().filter(|peer| raft.is_in_snapshot(*peer));
    acts.extend(in_snapshot.map(|peer| (Act::SnapshotFailed(peer), Cost::SnapshotFailure.spent())));
    let leads = raft.role() == RoleKind::Leader;
    let mut timers = Vec::new();
    if leads {
        timers.push((Timer::Heartbeat, Cost::Heartbeat));
        timers.push((Timer::QuorumCheck, Cost::QuorumCheck));
        if raft.last_index().0 < bounds.entries_max {
            acts.push((Act::Propose, Cost::Proposal.spent()));
        }
        acts.push((Act::Read, Cost::Read.spent()));
        let changes = bounds.changes.iter().filter(|_| raft.last_index().0 < bounds.entries_max);
        acts.extend(changes.map(|wanted| (Act::Change(wanted.clone()), Cost::Change.spent())));
        let others = bounds.members().into_iter().filter(|to| *to != member.id);
        acts.extend(others.map(|to| (Act::Transfer(to), Cost::Transfer.spent())));
        timers.push((Timer::Transfer, Cost::TransferTimer));
        acts.push((Act::StepDown, Cost::GiveUp.spent()));
    } else {
        timers.push((Timer::Quiet, Cost::Quiet));
        acts.push((Act::ForgetLeader, Cost::GiveUp.spent()));
        if raft.term() < Term(bounds.terms_max) {
            timers.push((Timer::Election, Cost::Election));
            timers.push((Timer::ElectionSoon, Cost::ElectionSoon));
        }
    }
    acts.extend(timers.into_iter().map(|(timer, cost)| (Act::Timer(timer), cost.spent())));
    for peer in bounds.members().into_iter().filter(|peer| *peer != member.id) {
        acts.push((Act::PeerDown(peer), Cost::PeerDown.spent()));
        acts.push((Act::PeerUp(peer), Cost::PeerUp.spent()));
        acts.push((Act::Unreachable(peer), Cost::Disconnect.spent()));
    }
    let mut kept = vec![member.applied_most()];
    kept.extend(Some(member.disk.applied).filter(|applied| *applied != kept[0]));
    for survive in 0..=member.pending.len() {
        for applied in kept.iter().copied() {
            acts.push((Act::Crash { survive, applied }, Cost::Crash.spent()));
        }
    }
    acts
}
