//! What operators ask of one member, stepped by hand.

#[allow(dead_code, reason = "each test binary uses a part of it")]
mod hand;
#[path = "histories/operators.rs"]
mod operators;

use jangada::net::{Basis, PeerMessage};
use jangada::raft::{Message, NodeId};
use jangada::{ChangeError, Ended, Event, MemoryLog, Options, Ticket, TransferError, TurnedAway};

use hand::{Hand, SELF, THREE, TWO, Told, heartbeat};
use operators::{change, put_to, transfer, wanted};

#[test]
fn a_question_waits_for_a_leader_and_is_put_to_it_once() {
    operators::a_question_waits_for_a_leader_and_is_put_to_it_once();
}

#[test]
fn a_question_without_a_leader_is_refused_in_the_end() {
    let mut hand = Hand::new();
    hand.step([change(1, &[SELF]), transfer(2, TWO)]);
    while hand.now_us < Options::default().leader_wait_us {
        hand.sleep();
    }
    let no_leader = Told::Changed(1, Some(ChangeError::NoLeader));
    assert_eq!(hand.told, [no_leader, Told::Transferred(2, Err(TransferError::NoLeader))]);
}

#[test]
fn a_change_is_answered_once_when_it_is_applied_here_too() {
    operators::a_change_is_answered_once_when_it_is_applied_here_too();
}

#[test]
fn a_membership_that_cannot_be_is_refused_without_asking_anyone() {
    let mut hand = Hand::follower();
    let twice = [TWO, TWO];
    let mut far = wanted(&[SELF]);
    far.addresses.insert(SELF, vec!["x".repeat(1000)]);
    hand.step([
        change(1, &twice),
        Event::ChangeMembers { ticket: Ticket(2), change: far, basis: Basis::ANY },
    ]);
    let impossible = Some(ChangeError::Impossible);
    assert_eq!(hand.told, [Told::Changed(1, impossible), Told::Changed(2, impossible)]);
    assert_eq!(put_to(&hand, TWO), []);
}

#[test]
fn the_leader_answers_a_peer_when_the_change_is_final_and_lets_who_left_go() {
    operators::the_leader_answers_a_peer_when_the_change_is_final_and_lets_who_left_go();
}

#[test]
fn of_two_changes_made_out_from_the_same_members_the_later_is_not_made() {
    operators::of_two_changes_made_out_from_the_same_members_the_later_is_not_made();
}

#[test]
fn a_member_about_to_stop_hands_over_or_gives_up_in_time() {
    let mut hand = Hand::follower();
    hand.step([Event::HandOver]);
    assert_eq!(hand.told, [Told::HandedOver], "a follower has nothing to hand over");

    let mut hand = Hand::leader();
    hand.step([Event::HandOver]);
    let asked = |hand: &Hand| {
        let stand = |(_, message): &(NodeId, PeerMessage)| {
            matches!(message, PeerMessage::Raft(Message::TimeoutNow(_)))
        };
        hand.sent.iter().any(stand)
    };
    assert!(asked(&hand) && hand.told.is_empty());
    hand.step([heartbeat(TWO, 2, 0)]);
    assert_eq!(hand.told, [Told::HandedOver]);

    let mut hand = Hand::leader();
    hand.step([Event::HandOver]);
    while hand.told.is_empty() {
        assert!(hand.now_us < 3 * Options::default().election_timeout_us, "it gives up in time");
        hand.sleep();
    }
    assert_eq!(hand.told, [Told::HandedOver]);
}

#[test]
fn a_transfer_is_answered_with_the_new_leader() {
    let mut hand = Hand::leader();
    hand.step([transfer(1, TWO), transfer(2, TWO), transfer(3, SELF), transfer(4, NodeId(9))]);
    let no_voter = Told::Transferred(4, Err(TransferError::NoVoter));
    assert_eq!(hand.told, [Told::Transferred(3, Ok(SELF)), no_voter]);
    hand.told.clear();
    hand.step([heartbeat(TWO, 2, 0)]);
    assert_eq!(hand.told, [Told::Transferred(1, Ok(TWO)), Told::Transferred(2, Ok(TWO))]);

    let mut hand = Hand::leader();
    hand.step([transfer(1, TWO), transfer(2, THREE)]);
    assert_eq!(hand.told, [Told::Transferred(1, Err(TransferError::Replaced))]);
}

#[test]
fn who_is_turned_away_ends_when_it_is_certain() {
    let wiped = |by| Event::TurnedAway { by, reason: TurnedAway::Wiped };
    let removed = Event::TurnedAway { by: TWO, reason: TurnedAway::Removed };
    let mut hand = Hand::follower();
    hand.step([removed]);
    assert_eq!(hand.told, [Told::Ends(Ended::Removed(SELF))]);

    // One without a log is the one that lost it.
    let mut hand = Hand::start(MemoryLog::default(), Default::default());
    hand.step([wiped(TWO)]);
    assert_eq!(hand.told, [Told::Ends(Ended::Wiped { id: SELF, witness: TWO })]);

    // One that has a log believes a majority.
    let mut hand = Hand::leader();
    hand.step([wiped(TWO), wiped(TWO)]);
    assert_eq!(hand.told, []);
    hand.step([wiped(THREE)]);
    assert_eq!(hand.told, [Told::Ends(Ended::Wiped { id: SELF, witness: THREE })]);
}
