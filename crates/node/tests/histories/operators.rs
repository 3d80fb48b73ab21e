//! Chosen histories of what operators ask of one member; the canon of known bugs runs them, too.

use jangada::net::{Answer, Ask, AskRefusal, Basis, PeerMessage};
use jangada::raft::{Index, NodeId, Position};
use jangada::{ChangeError, Configuration, Event, MemberChange, Options, Peers, Ticket};

use crate::hand::{Hand, PROCESS, SELF, THREE, TWO, Told, append, heartbeat, matched};

pub(crate) fn wanted(voters: &[NodeId]) -> MemberChange {
    MemberChange { voters: voters.to_vec(), ..MemberChange::default() }
}

pub(crate) fn change(ticket: u64, voters: &[NodeId]) -> Event {
    Event::ChangeMembers { ticket: Ticket(ticket), change: wanted(voters), basis: Basis::ANY }
}

pub(crate) fn transfer(ticket: u64, to: NodeId) -> Event {
    Event::TransferLeadership { ticket: Ticket(ticket), to: Some(to) }
}

pub(crate) fn answer(process: u64, number: u64, answer: Answer) -> Event {
    Event::Received { from: TWO, message: PeerMessage::Answer { process, number, answer } }
}

pub(crate) fn done(index: u64) -> Answer {
    let configuration = Configuration::of_voters([SELF, TWO]);
    Answer::Changed { index: Index(index), configuration }
}

/// The numbers of the questions that were put to `leader`.
pub(crate) fn put_to(hand: &Hand, leader: NodeId) -> Vec<u64> {
    let numbers = hand.sent_to(leader).filter_map(|message| match message {
        PeerMessage::Ask { process, number, .. } => {
            assert_eq!(*process, PROCESS);
            Some(*number)
        }
        _ => None,
    });
    numbers.collect()
}

/// A question is put to one leader. When that one is lost, the next is not asked: the change may have
/// been made (etcd clients).
pub(crate) fn a_question_waits_for_a_leader_and_is_put_to_it_once() {
    let mut hand = Hand::new();
    hand.step([change(1, &[SELF, TWO])]);
    assert!(hand.sent.iter().all(|(_, message)| !matches!(message, PeerMessage::Ask { .. })));
    hand.step([heartbeat(TWO, 1, 0)]);
    assert_eq!(put_to(&hand, TWO), [1]);
    // The leader is lost. The next one is not asked, and the outcome is not known.
    hand.step([Event::LaneLost(TWO), Event::PeerDown(TWO), heartbeat(THREE, 2, 0)]);
    hand.sleep_until(Options::default().election_timeout_us + 100_000, THREE, 2);
    assert_eq!(hand.told, [Told::Changed(1, Some(ChangeError::InDoubt))]);
    assert_eq!((put_to(&hand, TWO), put_to(&hand, THREE)), (vec![1], vec![]));
    // An answer that comes all the same changes nothing.
    hand.step([answer(PROCESS, 1, Answer::Refused(AskRefusal::UnderWay))]);
    assert_eq!(hand.told.len(), 1);
}

/// Whoever asked is told once, when the change can be seen where it was asked for.
pub(crate) fn a_change_is_answered_once_when_it_is_applied_here_too() {
    let mut hand = Hand::follower();
    hand.step([change(7, &[SELF, TWO])]);
    hand.step([answer(PROCESS - 1, 7, done(1))]);
    hand.step([answer(PROCESS, 7, done(2)), answer(PROCESS, 7, done(2))]);
    assert_eq!(hand.told, [], "nothing is applied here");
    hand.step([append(TWO, 1, Position::default(), 2, 2)]);
    hand.step([answer(PROCESS, 7, done(2))]);
    assert_eq!(hand.told, [Told::Changed(7, None)]);
    assert_eq!(hand.configurations, [Configuration::of_voters([SELF, TWO])]);
}

/// A change is done with its final configuration, and whoever it has removed is turned away after a
/// while.
pub(crate) fn the_leader_answers_a_peer_when_the_change_is_final_and_lets_who_left_go() {
    let mut hand = Hand::leader();
    let ask = Ask::ChangeMembers { change: wanted(&[SELF, TWO]), basis: Basis::ANY };
    let message = PeerMessage::Ask { process: 5, number: 6, ask };
    hand.step([Event::Received { from: TWO, message }]);
    hand.step([change(9, &[SELF, THREE])]);
    assert_eq!(hand.told, [Told::Changed(9, Some(ChangeError::UnderWay))]);
    let answers = |hand: &Hand| -> Vec<Answer> {
        let answer = hand.sent_to(TWO).filter_map(|message| match message {
            PeerMessage::Answer { process: 5, number: 6, answer } => Some(answer.clone()),
            _ => None,
        });
        answer.collect()
    };
    hand.step([matched(TWO, 1, 2)]);
    assert_eq!(answers(&hand), [], "the joint configuration is committed, the final one is not");
    hand.step([matched(TWO, 1, 3)]);
    assert_eq!(answers(&hand), [done(3)]);
    let membership = hand.member.status().record.membership;
    assert_eq!((membership.configuration().voters.len(), membership.removed()), (2, &[THREE][..]));
    let named = |peers: &Peers| (peers.addresses.contains_key(&THREE), peers.removed.clone());
    assert!(hand.peers.iter().all(|peers| named(peers) == (true, vec![])), "it is told first");

    // Ids are not used again.
    hand.told.clear();
    hand.step([change(10, &[SELF, TWO, THREE])]);
    assert_eq!(hand.told, [Told::Changed(10, Some(ChangeError::RemovedBefore))]);

    let until_us = hand.now_us + 4 * Options::default().election_timeout_us;
    while hand.now_us < until_us {
        hand.sleep();
    }
    assert_eq!(hand.peers.last().map(named), Some((false, vec![THREE])));
}

/// Two operators have looked at the same members and ask for different ones.
pub(crate) fn of_two_changes_made_out_from_the_same_members_the_later_is_not_made() {
    let mut hand = Hand::leader();
    let basis = Basis::of(hand.member.status().record.membership.configuration());
    let of = |ticket: u64, voters: &[NodeId]| Event::ChangeMembers {
        ticket: Ticket(ticket),
        change: wanted(voters),
        basis,
    };
    hand.step([of(1, &[SELF, TWO])]);
    for index in [2, 3] {
        hand.step([matched(TWO, 1, index)]);
    }
    assert_eq!(hand.told, [Told::Changed(1, None)]);
    hand.told.clear();

    // It would bring back whom the first has removed, or remove whom it has added.
    hand.step([of(2, &[SELF, TWO, NodeId(7)])]);
    assert_eq!(hand.told, [Told::Changed(2, Some(ChangeError::Overtaken))]);
    hand.told.clear();
    let basis = Basis::of(hand.member.status().record.membership.configuration());
    let change = wanted(&[SELF, TWO]);
    hand.step([Event::ChangeMembers { ticket: Ticket(3), change, basis }]);
    assert_eq!(hand.told, [Told::Changed(3, None)], "they are so already");
}
