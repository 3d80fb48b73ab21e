//! Members that differ by a name only: for model checkers.
//!
//! Responsible for renaming members within a member's state, and for numbering its writes anew.
//! Neither is ever used by a driver. Both rest on the same fact: the module compares names and write
//! numbers with one another and does nothing else with them, so that two members which differ by a
//! renaming, or by a shift of their write numbers, behave alike up to the same difference.

use std::collections::BTreeMap;

use crate::contract::{Configuration, HardState, NodeId, Standing};
use crate::raft::Raft;
use crate::role::{Campaign, Follower, Haste, Leader, Role};
use crate::transfer::Transfer;

impl Raft {
    /// This member, every member being called what `name` says.
    ///
    /// A model checker counts states that differ by a permutation of the members as one.
    #[must_use]
    pub fn renamed(&self, name: &dyn Fn(NodeId) -> NodeId) -> Raft {
        let Standing { role, term, leader } = self.announced;
        Raft {
            id: name(self.id),
            membership: self.membership.map(|members| members.renamed(name)),
            hard_state: self.hard_state.renamed(name),
            stable: self.stable.with_hard_state(self.stable.hard_state().renamed(name)),
            role: self.role.renamed(name),
            announced: Standing { role, term, leader: leader.map(name) },
            ..self.clone()
        }
    }

    /// Numbers the writes from the newest durable one, which becomes number 0. The driver shifts
    /// whatever waits for a write by as much; completions are reported by the new numbers.
    ///
    /// Returns by how much the numbers were lowered. A model checker counts states that differ by
    /// the number of their past writes as one.
    pub fn renumber_writes(&mut self) -> u64 {
        self.stable.renumber()
    }
}

impl HardState {
    /// The same term and vote, every member being called what `name` says.
    #[must_use]
    pub fn renamed(self, name: &dyn Fn(NodeId) -> NodeId) -> HardState {
        HardState { term: self.term, vote: self.vote.map(name) }
    }
}

impl Configuration {
    /// The same configuration, every member being called what `name` says.
    #[must_use]
    pub fn renamed(&self, name: &dyn Fn(NodeId) -> NodeId) -> Configuration {
        let list = |members: &[NodeId]| {
            let mut members: Vec<NodeId> = members.iter().map(|id| name(*id)).collect();
            members.sort_unstable();
            members
        };
        Configuration {
            voters: list(&self.voters),
            outgoing: list(&self.outgoing),
            learners: list(&self.learners),
            target: list(&self.target),
            addresses: self.addresses.iter().map(|(id, at)| (name(*id), at.clone())).collect(),
            forced: self.forced,
        }
    }
}

impl Role {
    fn renamed(&self, name: &dyn Fn(NodeId) -> NodeId) -> Role {
        match self {
            Role::Follower(follower) => Role::Follower(Follower {
                leader: follower.leader.map(name),
                haste: follower.haste.map(|haste| haste.renamed(name)),
                ..follower.clone()
            }),
            Role::PreCandidate(campaign) => Role::PreCandidate(campaign.renamed(name)),
            Role::Candidate(campaign) => Role::Candidate(campaign.renamed(name)),
            Role::Leader(leader) => {
                let peers: BTreeMap<_, _> =
                    leader.peers.iter().map(|(id, peer)| (name(*id), peer.clone())).collect();
                let departing = leader.departing.iter().map(|(id, left)| (name(*id), *left));
                let transfer = leader.transfer;
                let transfer = transfer.map(|it| Transfer { to: name(it.to), ..it });
                let departing = departing.collect();
                Role::Leader(Leader { peers, departing, transfer, ..leader.clone() })
            }
        }
    }
}

impl Campaign {
    fn renamed(&self, name: &dyn Fn(NodeId) -> NodeId) -> Campaign {
        Campaign {
            votes: self.votes.iter().map(|(id, vote)| (name(*id), *vote)).collect(),
            haste: self.haste.map(|haste| haste.renamed(name)),
        }
    }
}

impl Haste {
    fn renamed(self, name: &dyn Fn(NodeId) -> NodeId) -> Haste {
        Haste { suspect: name(self.suspect), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{
        Index, Input, Limits, Message, Output, Position, PreVoteResponse, Range, Start,
        VoteResponse, WriteNumber,
    };
    use crate::{Term, Timer};

    fn member(id: u64, configuration: &Configuration) -> Raft {
        Raft::new(Start {
            id: NodeId(id),
            hard_state: HardState::default(),
            configuration: configuration.clone(),
            log: Range::default(),
            commit: Index(0),
            limits: Limits::default(),
            configurations: Vec::new(),
            recovering: None,
        })
    }

    /// The inputs that make a leader of a member of three.
    fn election(peer: u64) -> Vec<Input> {
        let pre_vote = PreVoteResponse { term: Term(1), granted: true };
        let vote = VoteResponse { term: Term(1), granted: true };
        let from = NodeId(peer);
        vec![
            Input::Timer(Timer::Election),
            Input::Receive { from, message: Message::PreVoteResponse(pre_vote) },
            Input::Persisted { write: WriteNumber(1), last: Position::default() },
            Input::Receive { from, message: Message::VoteResponse(vote) },
            Input::Flush,
        ]
    }

    #[test]
    fn a_renamed_member_is_the_member_that_lived_under_the_other_names() {
        let configuration = Configuration::of_voters([1, 2, 3].map(NodeId));
        let name = |id: NodeId| NodeId(id.0 % 3 + 1);
        let (mut one, mut other) = (member(1, &configuration), member(2, &configuration));
        for (input, renamed) in election(2).into_iter().zip(election(3)) {
            let (mut out, mut out_renamed) = (Vec::new(), Vec::new());
            one.step(input, &mut out);
            other.step(renamed, &mut out_renamed);
            assert_eq!(one.renamed(&name), other);
            assert_eq!(out.len(), out_renamed.len());
        }
        assert_eq!(one.role(), crate::RoleKind::Leader);
    }

    #[test]
    fn renumbered_writes_shift_and_change_nothing_else() {
        let configuration = Configuration::of_voters([1, 2, 3].map(NodeId));
        let mut plain = member(1, &configuration);
        let mut out = Vec::new();
        election(2).into_iter().for_each(|input| plain.step(input, &mut out));
        let mut shifted = plain.clone();
        assert_eq!(shifted.renumber_writes(), 1, "the vote is durable, the no-op is not");
        assert_ne!(shifted, plain);
        out.clear();
        let last = plain.last_position();
        plain.step(Input::Persisted { write: WriteNumber(2), last }, &mut out);
        shifted.step(Input::Persisted { write: WriteNumber(1), last }, &mut out);
        assert_eq!(out, Vec::<Output>::new());
        assert_eq!(plain.renumber_writes(), 2);
        assert_eq!(shifted.renumber_writes(), 1);
        assert_eq!(shifted, plain);
    }
}
