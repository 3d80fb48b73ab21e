//! What operators ask of one member, stepped by hand.

#[allow(dead_code, reason = "each test binary uses a part of it")]
mod hand;

use jangada::net::{Answer, Ask, AskRefusal, Basis, PeerMessage};
use jangada::raft::{Index, Message, NodeId, Position};
use jangada::{
    ChangeError, Configuration, Ended, Event, MemberChange, MemoryLog, Options, Peers, Ticket,
    TransferError, TurnedAway,
};

use hand::{Hand, PROCESS, SELF, THREE, TWO, Told, append, heartbeat, matched};

fn wanted(voters: &[NodeId]) -> MemberChange {
    MemberChange { voters: voters.to_vec(), ..MemberChange::default() }
}

fn change(ticket: u64, voters: &[NodeId]) -> Event {
    Event::ChangeMembers { ticket: Ticket(ticket), change: wanted(voters), basis: Basis::ANY }
}

fn transfer(ticket: u64, to: NodeId) -> Event {
    Event::TransferLeadership { ticket: Ticket(ticket), to: Some(to) }
}

fn answer(process: u64, number: u64, answer: Answer) -> Event {
    Event::Received { from: TWO, message: PeerMessage::Answer { process, number, answer } }
}

fn done(index: u64) -> Answer {
    let configuration = Configuration::of_voters([SELF, TWO]);
    Answer::Changed { index: Index(index), configuration }
}

/// The numbers of the questions that were put to `leader`.
fn put_to(hand: &Hand, leader: NodeId) -> Vec<u64> {
    let numbers = hand.sent_to(leader).filter_map(|message| match message {
        PeerMessage::Ask { process, number, .. } => {
            assert_eq!(*process, PROCESS);
            Some(*number)
        }
        _ => None,
    });
    numbers.collect()
}

#[test]
fn a_question_waits_for_a_leader_and_is_put_to_it_once() {
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

#[test]
fn of_two_changes_made_out_from_the_same_members_the_later_is_not_made() {
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
