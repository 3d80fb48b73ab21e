//! The renamings under which a cluster behaves alike: the permutations of its members that leave the
//! configuration as it is.

use jangada_raft::{Configuration, NodeId};

/// A renaming: what each member is called.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Permutation {
    names: Vec<(NodeId, NodeId)>,
}

impl Permutation {
    /// What a member is called.
    pub(crate) fn name(&self, id: NodeId) -> NodeId {
        let found = self.names.iter().find(|(from, _)| *from == id);
        found.expect("every member has a name").1
    }
}

/// The identity alone.
pub(crate) fn identity(members: &[NodeId]) -> Vec<Permutation> {
    vec![Permutation { names: members.iter().map(|id| (*id, *id)).collect() }]
}

/// All permutations of the members that keep the configuration; the identity comes first.
pub(crate) fn keeping(configuration: &Configuration, members: &[NodeId]) -> Vec<Permutation> {
    let mut all: Vec<Vec<NodeId>> = vec![Vec::new()];
    for _ in members {
        let longer = |prefix: &Vec<NodeId>| {
            let left: Vec<NodeId> =
                members.iter().copied().filter(|id| !prefix.contains(id)).collect();
            let prefix = prefix.clone();
            left.into_iter().map(move |id| [prefix.clone(), vec![id]].concat())
        };
        all = all.iter().flat_map(longer).collect();
    }
    let named = all
        .into_iter()
        .map(|names| Permutation { names: members.iter().copied().zip(names).collect() });
    named
        .filter(|permutation| configuration.renamed(&|id| permutation.name(id)) == *configuration)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_joint_configuration_keeps_its_halves_apart() {
        let ids = |ids: &[u64]| ids.iter().map(|id| NodeId(*id)).collect::<Vec<_>>();
        let members = ids(&[1, 2, 3, 4]);
        let simple = Configuration::of_voters(members.clone());
        assert_eq!(keeping(&simple, &members).len(), 24);
        assert_eq!(keeping(&simple, &members)[0], identity(&members)[0]);
        let joint = Configuration {
            voters: ids(&[1, 2, 3]),
            outgoing: ids(&[3, 4]),
            ..Configuration::default()
        };
        let kept = keeping(&joint, &members);
        assert_eq!(kept.len(), 2, "1 and 2 may change places, 3 and 4 may not");
        assert!(kept.iter().all(|permutation| permutation.name(NodeId(4)) == NodeId(4)));
    }
}
