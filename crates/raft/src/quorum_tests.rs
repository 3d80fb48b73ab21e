//! Exhaustive: every set of votes and every match index up to five voters, simple and joint.

use super::*;

fn ids(set: u32) -> Vec<NodeId> {
    (0..5).filter(|bit| set & (1 << bit) != 0).map(NodeId).collect()
}

fn contains(set: u32, id: NodeId) -> bool {
    set & (1 << id.0) != 0
}

fn joint(voters: u32, outgoing: u32) -> Configuration {
    Configuration { voters: ids(voters), outgoing: ids(outgoing), ..Configuration::default() }
}

/// The definition, in other words than the code's: strictly more than half of each half.
fn is_quorum(yes: u32, voters: u32, outgoing: u32) -> bool {
    let more_than_half = |set: u32| 2 * (yes & set).count_ones() > set.count_ones();
    more_than_half(voters) && (outgoing == 0 || more_than_half(outgoing))
}

#[test]
fn every_vote_set_is_counted_by_the_definition() {
    for voters in 0..32 {
        for outgoing in 0..32 {
            let configuration = joint(voters, outgoing);
            for yes in 0..32 {
                let agrees = configuration.agrees(|id| contains(yes, id));
                assert_eq!(agrees, is_quorum(yes, voters, outgoing), "{voters} {outgoing} {yes}");
            }
        }
    }
}

#[test]
fn every_tally_says_what_can_still_happen() {
    for voters in 0..32 {
        for outgoing in [0, 0b00111, 0b11100, 0b11111, 0b10001] {
            let configuration = joint(voters, outgoing);
            for yes in 0..32_u32 {
                for no in (0..32_u32).filter(|no| no & yes == 0) {
                    let tally = configuration.tally(|id| {
                        if contains(yes, id) {
                            return Some(true);
                        }
                        contains(no, id).then_some(false)
                    });
                    let expected = if is_quorum(yes, voters, outgoing) {
                        Tally::Won
                    } else if is_quorum(31 & !no, voters, outgoing) {
                        Tally::Pending
                    } else {
                        Tally::Lost
                    };
                    assert_eq!(tally, expected, "{voters} {outgoing} {yes} {no}");
                }
            }
        }
    }
}

#[test]
fn every_match_index_is_the_highest_that_a_quorum_reached() {
    for voters in 0..32 {
        for outgoing in [0, 0b00111, 0b11100, 0b11111, 0b10001] {
            let configuration = joint(voters, outgoing);
            // All rows of five values from 0 to 3.
            for row in 0..4_u64.pow(5) {
                let value = |id: NodeId| row / 4_u64.pow(id.0 as u32) % 4;
                let reached = |bound: u64| {
                    let yes = (0..5).filter(|bit| bound <= value(NodeId(*bit)));
                    is_quorum(yes.fold(0, |set, bit| set | (1 << bit)), voters, outgoing)
                };
                let expected = (0..4).filter(|bound| reached(*bound)).max().unwrap_or(0);
                assert_eq!(
                    configuration.quorum_value(value),
                    expected,
                    "{voters} {outgoing} {row}"
                );
            }
        }
    }
}

#[test]
fn quorums_of_a_joint_configuration_meet_those_of_both_halves() {
    for voters in 1..32 {
        for outgoing in 1..32 {
            for yes in (0..32).filter(|yes| is_quorum(*yes, voters, outgoing)) {
                for other in 0..32 {
                    let meets = yes & other != 0;
                    assert!(meets || !is_quorum(other, voters, 0), "one half");
                    assert!(meets || !is_quorum(other, outgoing, 0), "the other half");
                    assert!(meets || !is_quorum(other, voters, outgoing), "both");
                }
            }
        }
    }
}

#[test]
fn learners_and_strangers_are_never_counted() {
    let mut configuration = Configuration::of_voters([NodeId(1), NodeId(2), NodeId(3)]);
    configuration.learners = vec![NodeId(4), NodeId(5)];
    assert!(!configuration.agrees(|id| id == NodeId(1) || NodeId(3) < id));
    assert_eq!(configuration.quorum_value(|id| if NodeId(3) < id { 9 } else { 1 }), 1);
    assert!(!configuration.is_voter(NodeId(4)));
    assert_eq!(configuration.members().count(), 5);
}

#[test]
fn nobody_decides_nothing() {
    let nobody = Configuration::default();
    assert!(!nobody.agrees(|_| true));
    assert_eq!(nobody.tally(|_| Some(true)), Tally::Lost);
    assert_eq!(nobody.quorum_value(|_| 7), 0);
}
