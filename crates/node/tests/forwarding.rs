//! Member invariant 3, as other members see it: a proposal that was forwarded is never applied twice.

#[allow(dead_code, reason = "each test binary uses a part of it")]
mod hand;

use hand::{Hand, THREE, TWO, Told, heartbeat, propose};
use jangada::net::PeerMessage;
use jangada::{Event, NodeId, ProposeError};

/// How often a proposal was sent to a peer.
fn forwarded(hand: &Hand, to: NodeId, sequence: u64) -> usize {
    let holds = |message: &&PeerMessage| match message {
        PeerMessage::Forward(proposals) => {
            proposals.iter().any(|proposal| proposal.origin.sequence == sequence)
        }
        _ => false,
    };
    hand.sent_to(to).filter(holds).count()
}

#[test]
fn a_forwarded_proposal_is_handed_over_once_and_never_taken_back() {
    let mut hand = Hand::follower();
    hand.step([propose(1)]);
    assert_eq!(forwarded(&hand, TWO, 1), 1);
    // Its connection breaks and stands again, its leader is heard again, another comes to lead.
    hand.step([Event::LaneLost(TWO), Event::PeerDown(TWO)]);
    hand.step([Event::PeerUp(TWO), Event::LaneUp(TWO), heartbeat(TWO, 1, 0)]);
    hand.step([heartbeat(THREE, 2, 0)]);
    let before_us = hand.now_us;
    while hand.now_us < before_us + 3_000_000 {
        hand.sleep_until(hand.now_us + 500_000, THREE, 2);
    }
    assert_eq!((forwarded(&hand, TWO, 1), forwarded(&hand, THREE, 1)), (1, 0));
    assert!(hand.told.contains(&Told::Doubt(1)), "its client decides: {:?}", hand.told);
    // Nor does it stand in this member's own log, should it come to lead.
    hand.win();
    let own = hand.member.status().last;
    hand.step([]);
    assert_eq!(hand.member.status().last, own);
    assert!(!hand.told.iter().any(|told| matches!(told, Told::Reply(1, _))));
}

#[test]
fn a_proposal_that_a_leader_has_refused_is_forwarded_no_second_time() {
    let mut hand = Hand::follower();
    hand.step([propose(1)]);
    let reason = jangada::net::ForwardRefusal::NotLeader;
    let message =
        PeerMessage::ForwardRefused { process: hand::PROCESS, sequences: vec![1], reason };
    hand.step([Event::Received { from: TWO, message }]);
    assert!(hand.told.contains(&Told::Refuse(1, ProposeError::NoLeader)), "{:?}", hand.told);
    hand.step([heartbeat(THREE, 2, 0)]);
    assert_eq!((forwarded(&hand, TWO, 1), forwarded(&hand, THREE, 1)), (1, 0));
}
