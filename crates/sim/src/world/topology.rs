//! Shapes that a broken network can have, by name; `docs/partitions.md` says which of them Raft
//! survives.

use std::fmt;

use jangada_raft::NodeId;

/// Who reaches whom.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Topology {
    /// These members reach each other, and so do all others; no member reaches the other side.
    Sides(Vec<NodeId>),
    /// Nothing passes from the first to the second.
    OneWay(NodeId, NodeId),
    /// These two do not reach each other.
    Pair(NodeId, NodeId),
    /// Two sides, one of which is `side`, that do not reach each other, and a member that reaches
    /// both.
    Bridge {
        /// The member between the sides.
        bridge: NodeId,
        /// One of the sides.
        side: Vec<NodeId>,
    },
    /// Each reaches the one before it and the one behind it.
    Chain(Vec<NodeId>),
    /// All reach this member, and no other. Where the leader is another one, this is the quorum loss
    /// of the OmniPaxos paper (Ng et al., EuroSys '23).
    Star(NodeId),
    /// As [`Topology::Star`], and nobody reaches `alone`: the constrained election of the same paper,
    /// where `alone` is the leader of so far and the middle lags.
    StarWithout {
        /// The member that all others reach.
        middle: NodeId,
        /// The member that nobody reaches.
        alone: NodeId,
    },
}

impl Topology {
    /// The ways that are cut among these members.
    #[must_use]
    pub fn cut(&self, members: &[NodeId]) -> Vec<(NodeId, NodeId)> {
        pairs(members).filter(|(from, to)| !self.passes(*from, *to)).collect()
    }

    /// Whether something passes from one member to another.
    fn passes(&self, from: NodeId, to: NodeId) -> bool {
        match self {
            Topology::Sides(side) => side.contains(&from) == side.contains(&to),
            Topology::OneWay(one, other) => (from, to) != (*one, *other),
            Topology::Pair(one, other) => ![(*one, *other), (*other, *one)].contains(&(from, to)),
            Topology::Bridge { bridge, side } => {
                from == *bridge || to == *bridge || side.contains(&from) == side.contains(&to)
            }
            Topology::Chain(row) => {
                let neighbours = |pair: &[NodeId]| pair == [from, to] || pair == [to, from];
                row.windows(2).any(neighbours)
            }
            Topology::Star(middle) => from == *middle || to == *middle,
            Topology::StarWithout { middle, alone } => {
                from != *alone && to != *alone && (from == *middle || to == *middle)
            }
        }
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |members: &[NodeId]| {
            members.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        match self {
            Topology::Sides(side) => write!(f, "{} and the others apart", list(side)),
            Topology::OneWay(from, to) => write!(f, "nothing passes from {from} to {to}"),
            Topology::Pair(one, other) => write!(f, "{one} and {other} apart"),
            Topology::Bridge { bridge, side } => {
                write!(f, "{} and the others apart, {bridge} between", list(side))
            }
            Topology::Chain(row) => write!(f, "a chain: {}", list(row)),
            Topology::Star(middle) => write!(f, "a star around {middle}"),
            Topology::StarWithout { middle, alone } => {
                write!(f, "a star around {middle}, {alone} alone")
            }
        }
    }
}

/// All ordered pairs of different members.
pub(crate) fn pairs(members: &[NodeId]) -> impl Iterator<Item = (NodeId, NodeId)> {
    members.iter().flat_map(move |from| {
        members.iter().filter(move |to| *to != from).map(move |to| (*from, *to))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks who reaches whom among five: a row for each sender, a column for each receiver.
    fn check(topology: &Topology, rows: [&str; 5]) {
        let members: Vec<NodeId> = (1..=5).map(NodeId).collect();
        let cut = topology.cut(&members);
        for (from, row) in members.iter().zip(rows) {
            for (to, reaches) in members.iter().zip(row.chars()) {
                assert_eq!(
                    reaches == '.',
                    cut.contains(&(*from, *to)),
                    "{topology}: {from} to {to}"
                );
            }
        }
    }

    fn ids<const N: usize>(ids: [u64; N]) -> Vec<NodeId> {
        ids.map(NodeId).to_vec()
    }

    #[test]
    fn each_shape_cuts_what_its_name_says() {
        check(&Topology::Sides(ids([1, 2])), ["xx...", "xx...", "..xxx", "..xxx", "..xxx"]);
        check(
            &Topology::OneWay(NodeId(2), NodeId(1)),
            ["xxxxx", ".xxxx", "xxxxx", "xxxxx", "xxxxx"],
        );
        check(&Topology::Pair(NodeId(1), NodeId(5)), ["xxxx.", "xxxxx", "xxxxx", "xxxxx", ".xxxx"]);
        check(
            &Topology::Bridge { bridge: NodeId(3), side: ids([1, 2]) },
            ["xxx..", "xxx..", "xxxxx", "..xxx", "..xxx"],
        );
        check(
            &Topology::Chain(ids([1, 2, 3, 4, 5])),
            ["xx...", "xxx..", ".xxx.", "..xxx", "...xx"],
        );
        check(&Topology::Star(NodeId(2)), ["xx...", "xxxxx", ".xx..", ".x.x.", ".x..x"]);
        check(
            &Topology::StarWithout { middle: NodeId(2), alone: NodeId(1) },
            ["x....", ".xxxx", ".xx..", ".x.x.", ".x..x"],
        );
    }
}
