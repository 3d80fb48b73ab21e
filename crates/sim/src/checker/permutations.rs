//! The renamings under which a cluster behaves alike: the permutations of its members that leave as
//! they are the configuration, the memberships that may be wanted, and who knows of them at first.

use jangada_raft::{Configuration, MemberChange, NodeId};

use super::bounds::Bounds;

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

/// All permutations of the members that keep what the bounds say of them; the identity comes first.
pub(crate) fn keeping(bounds: &Bounds) -> Vec<Permutation> {
    let members = &bounds.members();
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
    named.filter(|permutation| keeps(permutation, bounds)).collect()
}

fn keeps(permutation: &Permutation, bounds: &Bounds) -> bool {
    let name = |id: NodeId| permutation.name(id);
    let list = |members: &[NodeId]| {
        let mut members: Vec<NodeId> = members.iter().map(|id| name(*id)).collect();
        members.sort_unstable();
        members
    };
    let renamed = |change: &MemberChange| MemberChange {
        voters: list(&change.voters),
        learners: list(&change.learners),
        ..change.clone()
    };
    let same = |configuration: &Configuration| configuration.renamed(&name) == *configuration;
    // A renamed joiner is a joiner, for everyone else is of the configuration.
    same(&bounds.configuration)
        && bounds.changes.iter().all(|change| bounds.changes.contains(&renamed(change)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_joint_configuration_keeps_its_halves_apart() {
        let ids = |ids: &[u64]| ids.iter().map(|id| NodeId(*id)).collect::<Vec<_>>();
        let members = ids(&[1, 2, 3, 4]);
        let simple = Bounds::of_voters(4);
        assert_eq!(keeping(&simple).len(), 24);
        assert_eq!(keeping(&simple)[0], identity(&members)[0]);
        let joint = Configuration {
            voters: ids(&[1, 2, 3]),
            outgoing: ids(&[3, 4]),
            ..Configuration::default()
        };
        let kept = keeping(&Bounds { configuration: joint, ..simple });
        assert_eq!(kept.len(), 2, "1 and 2 may change places, 3 and 4 may not");
        assert!(kept.iter().all(|permutation| permutation.name(NodeId(4)) == NodeId(4)));
    }

    #[test]
    fn who_may_join_and_who_is_to_go_have_places_of_their_own() {
        let wanted = |voters: &[u64]| MemberChange {
            voters: voters.iter().map(|id| NodeId(*id)).collect(),
            ..MemberChange::default()
        };
        let open = Bounds { joiners: vec![NodeId(4)], ..Bounds::of_voters(3) };
        assert_eq!(keeping(&open).len(), 6, "the voters may change places");
        let one = Bounds { changes: vec![wanted(&[1, 2, 4])], ..open.clone() };
        assert_eq!(keeping(&one).len(), 2, "3 goes, 4 comes");
        let all = [wanted(&[1, 2, 4]), wanted(&[1, 3, 4]), wanted(&[2, 3, 4])];
        assert_eq!(keeping(&Bounds { changes: all.to_vec(), ..open }).len(), 6, "any may go");
    }
}
