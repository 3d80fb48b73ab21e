//! Quorum arithmetic: what a configuration has decided (§5.2, §5.3, §6).
//!
//! Responsible for counting, and for nothing else: the same three questions serve votes, the
//! commit index, read rounds and the quorum check. Not responsible for what is counted.
//!
//! Invariants:
//!
//! 1. Two sets that each [`Configuration::agrees`] with share a voter, also when one of them was
//!    counted in a joint configuration and the other in one of its two halves.
//! 2. A configuration without voters decides nothing: a member that knows no configuration never
//!    elects itself.
//! 3. Learners are never counted (thesis §4.2.1).
//!
//! The code is quadratic in the number of voters on purpose. There are a handful of them, nothing
//! is allocated, and each function is its own definition.

use crate::contract::{Configuration, NodeId};

/// How an election stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tally {
    /// A quorum has said yes.
    Won,
    /// So many have said no that no quorum can say yes any more.
    Lost,
    /// It still depends on those who have not answered.
    Pending,
}

impl Configuration {
    /// Whether the members for which `yes` holds are a quorum: a majority of the voters and, in a
    /// joint configuration, also a majority of the outgoing ones (§6).
    pub fn agrees(&self, yes: impl Fn(NodeId) -> bool) -> bool {
        let incoming = majority_agrees(&self.voters, &yes);
        let outgoing = self.outgoing.is_empty()
            || canon!(joint_needs_the_new_half_only)
            || majority_agrees(&self.outgoing, &yes);
        incoming && outgoing
    }

    /// How an election stands, `vote` being what each member has answered so far.
    pub fn tally(&self, vote: impl Fn(NodeId) -> Option<bool>) -> Tally {
        if self.agrees(|id| vote(id) == Some(true)) {
            return Tally::Won;
        }
        if self.agrees(|id| vote(id) != Some(false)) {
            return Tally::Pending;
        }
        Tally::Lost
    }

    /// The highest value that a quorum has reached: with match indexes, what is committed
    /// (figure 2, last rule for leaders); with read rounds, what is confirmed. 0 when there is no
    /// voter.
    pub fn quorum_value(&self, value: impl Fn(NodeId) -> u64) -> u64 {
        if canon!(learner_is_counted) {
            return majority_value(&[&self.voters[..], &self.learners].concat(), &value);
        }
        let incoming = majority_value(&self.voters, &value);
        if self.outgoing.is_empty() || canon!(joint_needs_the_new_half_only) {
            return incoming;
        }
        incoming.min(majority_value(&self.outgoing, &value))
    }

    /// Whether the member votes. While the configuration is joint, those of both halves do.
    #[must_use]
    pub fn is_voter(&self, id: NodeId) -> bool {
        self.voters.contains(&id) || self.outgoing.contains(&id)
    }

    /// Whether the member is one, with a vote or without.
    #[must_use]
    pub fn is_member(&self, id: NodeId) -> bool {
        self.members().any(|member| member == id)
    }

    /// Every member: voters, outgoing voters and learners. A member of both halves of a joint
    /// configuration is named twice, and so is a voter that is to become a learner.
    pub fn members(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.voters.iter().chain(&self.outgoing).chain(&self.learners).copied()
    }
}

/// The least number of `count` voters that is more than half of them.
fn majority(count: usize) -> usize {
    count / 2 + usize::from(!canon!(half_is_a_quorum))
}

/// Whether more than half of `voters` say yes. Nobody is no majority (invariant 2).
fn majority_agrees(voters: &[NodeId], yes: &impl Fn(NodeId) -> bool) -> bool {
    majority(voters.len()) <= voters.iter().filter(|id| yes(**id)).count()
}

/// The highest of the voters' values which a majority has reached or passed.
fn majority_value(voters: &[NodeId], value: &impl Fn(NodeId) -> u64) -> u64 {
    let reached = |bound: u64| {
        let enough = majority(voters.len()) - usize::from(canon!(commit_below_a_quorum));
        enough <= voters.iter().filter(|id| bound <= value(**id)).count()
    };
    voters.iter().map(|id| value(*id)).filter(|bound| reached(*bound)).max().unwrap_or(0)
}

#[cfg(test)]
#[path = "quorum_tests.rs"]
mod tests;
