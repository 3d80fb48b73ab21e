//! What a change of the membership turns into: from the configuration in force and the membership
//! wanted to the next configuration (§6, thesis §4.2.1, §4.3).
//!
//! Responsible for the arithmetic, which is pure. Not responsible for when a step may be taken
//! (`membership.rs`).
//!
//! | in force | wanted | next |
//! |---|---|---|
//! | voters V | voters V | voters V, the learners wanted: one entry |
//! | voters V | voters W, none new, or at once | W leaving V: joint |
//! | voters V | voters W, some new | V, the new ones as learners, target W |
//! | V, target W | (all new ones have caught up) | W leaving V: joint |
//! | W leaving V | (committed) | W |
//!
//! A voter that is to become a learner stands among the learners from the start, and votes until the
//! joint configuration is left: with two lists, nothing has to be remembered beside them.

use std::collections::BTreeMap;

use crate::contract::{CatchUp, ChangeRefused, Configuration, MemberChange, NodeId};

/// The most voters. A decision waits for a majority; beyond a handful more voters only make it slower.
pub const VOTERS_MAX: usize = 32;

/// The most members, learners included: the leader sends the log to each. A joint configuration may
/// name twice as many.
pub const MEMBERS_MAX: usize = 64;

/// The most addresses of one member, as the entry's encoding has room for.
pub const MEMBER_ADDRESSES_MAX: usize = 16;

/// The longest address in bytes, as the entry's encoding has room for.
pub const ADDRESS_BYTES_MAX: usize = 512;

/// The next configuration on the way from `current`, which is committed and not joint, to what is
/// wanted; `None` when that is what there is, or is on its way already.
pub(crate) fn plan(
    current: &Configuration,
    wanted: &MemberChange,
) -> Result<Option<Configuration>, ChangeRefused> {
    assert!(!current.is_joint(), "a joint configuration is left before anything else");
    let voters = sorted(&wanted.voters).ok_or(ChangeRefused::Impossible)?;
    let learners = sorted(&wanted.learners).ok_or(ChangeRefused::Impossible)?;
    let is_possible = !voters.is_empty()
        && voters.len() <= VOTERS_MAX
        && voters.len() + learners.len() <= MEMBERS_MAX
        && !learners.iter().any(|id| voters.contains(id))
        && wanted.addresses.values().all(|addresses| are_addresses(addresses));
    if !is_possible {
        return Err(ChangeRefused::Impossible);
    }
    let new = voters.iter().filter(|id| !current.voters.contains(id));
    let mut next = if voters == current.voters {
        Configuration { voters, learners, ..Configuration::default() }
    } else if wanted.catch_up == CatchUp::First && new.clone().next().is_some() {
        let learners = union(&learners, new);
        Configuration {
            voters: current.voters.clone(),
            learners,
            target: voters,
            ..Configuration::default()
        }
    } else {
        let outgoing = current.voters.clone();
        Configuration { voters, outgoing, learners, ..Configuration::default() }
    };
    next.addresses = current.addresses.clone();
    next.addresses.extend(wanted.addresses.clone());
    retain_members(&mut next);
    Ok((next != *current).then_some(next))
}

/// The joint configuration that moves to the target of `current`.
pub(crate) fn enter_joint(current: &Configuration) -> Configuration {
    let voters = current.target.clone();
    let mut learners = current.learners.clone();
    learners.retain(|id| !voters.contains(id));
    Configuration {
        voters,
        outgoing: current.voters.clone(),
        learners,
        addresses: current.addresses.clone(),
        ..Configuration::default()
    }
}

/// The configuration after the joint one.
pub(crate) fn leave_joint(current: &Configuration) -> Configuration {
    let mut next = Configuration { outgoing: Vec::new(), ..current.clone() };
    retain_members(&mut next);
    next
}

/// Whether `next` may follow `current` in a log. Then a quorum of the one and a quorum of the other
/// have a voter in common, unless an operator has given the quorums of the one up.
pub(crate) fn follows(current: &Configuration, next: &Configuration) -> bool {
    if next.forced {
        return next.voters.len() == 1 && !next.is_joint() && next.target.is_empty();
    }
    match (current.is_joint(), next.is_joint()) {
        (false, false) => next.voters == current.voters,
        (false, true) => next.outgoing == current.voters,
        (true, false) => next.voters == current.voters && next.target.is_empty(),
        (true, true) => false,
    }
}

/// The members in order; `None` if one is named twice.
fn sorted(members: &[NodeId]) -> Option<Vec<NodeId>> {
    let mut members = members.to_vec();
    members.sort_unstable();
    members.windows(2).all(|pair| pair[0] < pair[1]).then_some(members)
}

fn union<'a>(one: &'a [NodeId], other: impl Iterator<Item = &'a NodeId>) -> Vec<NodeId> {
    let mut members: Vec<NodeId> = one.iter().chain(other).copied().collect();
    members.sort_unstable();
    members.dedup();
    members
}

fn are_addresses(addresses: &[String]) -> bool {
    addresses.len() <= MEMBER_ADDRESSES_MAX
        && addresses.iter().all(|address| address.len() <= ADDRESS_BYTES_MAX)
}

/// Forgets where those are found that are no members.
fn retain_members(configuration: &mut Configuration) {
    let addresses: BTreeMap<_, _> = std::mem::take(&mut configuration.addresses);
    let of_members = addresses.into_iter().filter(|(id, _)| configuration.is_member(*id));
    configuration.addresses = of_members.collect();
}

#[cfg(test)]
#[path = "change_tests.rs"]
mod tests;
