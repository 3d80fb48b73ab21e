//! Every change between memberships of four, step by step.

use super::*;

const MEMBERS: u64 = 4;

fn of_mask(mask: u64) -> Vec<NodeId> {
    (0..MEMBERS).filter(|bit| mask & (1 << bit) != 0).map(|bit| NodeId(bit + 1)).collect()
}

/// Every membership: some voters, and some of the others as learners.
fn memberships() -> Vec<MemberChange> {
    let all = 0..1_u64 << MEMBERS;
    let pairs = all.clone().flat_map(|voters| all.clone().map(move |learners| (voters, learners)));
    let disjoint = pairs.filter(|(voters, learners)| *voters != 0 && voters & learners == 0);
    disjoint
        .map(|(voters, learners)| MemberChange {
            voters: of_mask(voters),
            learners: of_mask(learners),
            ..MemberChange::default()
        })
        .collect()
}

/// §6: two quorums, one of each of two neighbouring configurations, share a voter.
fn quorums_overlap(one: &Configuration, other: &Configuration) -> bool {
    let all = || (0..1_u64 << MEMBERS).map(of_mask);
    let quorums = |of: &Configuration| -> Vec<Vec<NodeId>> {
        all().filter(|set| of.agrees(|id| set.contains(&id))).collect()
    };
    let others = quorums(other);
    quorums(one).iter().all(|set| others.iter().all(|it| it.iter().any(|id| set.contains(id))))
}

fn settled(of: &MemberChange) -> Configuration {
    let (voters, learners) = (of.voters.clone(), of.learners.clone());
    Configuration { voters, learners, ..Configuration::default() }
}

#[test]
fn every_change_arrives_by_steps_whose_quorums_overlap() {
    let mut overlapping = std::collections::BTreeMap::new();
    let mut overlap = |one: &Configuration, other: &Configuration| {
        let halves = |it: &Configuration| (it.voters.clone(), it.outgoing.clone());
        let key = (halves(one), halves(other));
        *overlapping.entry(key).or_insert_with(|| quorums_overlap(one, other))
    };
    for from in memberships() {
        let start = settled(&from);
        for to in memberships() {
            for catch_up in [CatchUp::First, CatchUp::Skip] {
                let wanted = MemberChange { catch_up, ..to.clone() };
                let mut current = start.clone();
                let mut steps = 0;
                while let Some(next) = match () {
                    () if current.is_joint() => Some(leave_joint(&current)),
                    () if !current.target.is_empty() => Some(enter_joint(&current)),
                    () if steps == 0 => plan(&current, &wanted).expect("it is possible"),
                    () => None,
                } {
                    assert!(follows(&current, &next), "{current} {next}");
                    assert!(overlap(&current, &next), "{current} {next}");
                    current = next;
                    steps += 1;
                    assert!(steps <= 3, "learners, joint, final");
                }
                assert_eq!(current, settled(&to), "from {start} by {steps} steps");
                assert_eq!(plan(&current, &wanted), Ok(None), "there is nothing left to do");
            }
        }
    }
}

#[test]
fn quorums_overlap_only_where_one_configuration_may_follow_the_other() {
    let two = |ids: [u64; 2]| Configuration::of_voters(ids.map(NodeId));
    assert!(!quorums_overlap(&two([1, 2]), &two([3, 4])));
    assert!(!follows(&two([1, 2]), &two([3, 4])));
    let joint = Configuration { outgoing: two([1, 2]).voters, ..two([3, 4]) };
    assert!(quorums_overlap(&two([1, 2]), &joint) && quorums_overlap(&joint, &two([3, 4])));
    assert!(follows(&two([1, 2]), &joint) && follows(&joint, &two([3, 4])));
    assert!(!follows(&joint, &two([1, 2])), "a joint configuration is left forwards only");
}

#[test]
fn new_voters_listen_first_and_voters_on_the_way_out_vote_to_the_end() {
    let current = Configuration::of_voters([1, 2, 3].map(NodeId));
    let wanted = MemberChange {
        voters: [1, 2, 4].map(NodeId).to_vec(),
        learners: vec![NodeId(3)],
        ..MemberChange::default()
    };
    let first = plan(&current, &wanted).expect("possible").expect("a change");
    assert_eq!(first.to_string(), "{1 2 3} learners {3 4} target {1 2 4}");
    let joint = enter_joint(&first);
    assert_eq!(joint.to_string(), "{1 2 4} leaving {1 2 3} learners {3}");
    assert_eq!(leave_joint(&joint).to_string(), "{1 2 4} learners {3}");
}

#[test]
fn addresses_stay_with_their_members() {
    let at = |address: &str| vec![address.to_owned()];
    let mut current = Configuration::of_voters([1, 2].map(NodeId));
    current.addresses = [(NodeId(1), at("one:1")), (NodeId(2), at("two:1"))].into();
    let wanted = MemberChange {
        voters: [2, 3].map(NodeId).to_vec(),
        addresses: [(NodeId(3), at("three:1")), (NodeId(9), at("nobody:1"))].into(),
        ..MemberChange::default()
    };
    let first = plan(&current, &wanted).expect("possible").expect("a change");
    assert_eq!(first.addresses.keys().map(|id| id.0).collect::<Vec<_>>(), [1, 2, 3]);
    let last = leave_joint(&enter_joint(&first));
    assert_eq!(last.addresses.keys().map(|id| id.0).collect::<Vec<_>>(), [2, 3]);
    let moved = MemberChange {
        voters: last.voters.clone(),
        addresses: [(NodeId(2), at("two:2"))].into(),
        ..MemberChange::default()
    };
    let next = plan(&last, &moved).expect("possible").expect("another address is a change");
    assert_eq!(next.addresses[&NodeId(2)], at("two:2"));
    assert_eq!(next.voters, last.voters);
}

#[test]
fn what_cannot_be_is_refused() {
    let current = Configuration::of_voters([NodeId(1)]);
    let ids = |ids: std::ops::Range<u64>| ids.map(NodeId).collect::<Vec<_>>();
    let long = "a".repeat(ADDRESS_BYTES_MAX + 1);
    for (voters, learners, addresses) in [
        (vec![], ids(1..2), vec![]),
        (vec![NodeId(1), NodeId(1)], vec![], vec![]),
        (ids(1..2), ids(1..2), vec![]),
        (ids(1..2), vec![NodeId(2), NodeId(2)], vec![]),
        (ids(1..34), vec![], vec![]),
        (ids(1..33), ids(33..66), vec![]),
        (ids(1..2), vec![], vec![long]),
        (ids(1..2), vec![], vec![String::new(); MEMBER_ADDRESSES_MAX + 1]),
    ] {
        let addresses = [(NodeId(1), addresses)].into();
        let wanted = MemberChange { voters, learners, addresses, catch_up: CatchUp::First };
        assert_eq!(plan(&current, &wanted), Err(ChangeRefused::Impossible), "{wanted:?}");
    }
    let most = MemberChange { voters: ids(1..33), learners: ids(33..65), ..Default::default() };
    assert!(plan(&current, &most).is_ok_and(|next| next.is_some()));
}
