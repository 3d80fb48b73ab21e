//! A sick disk under one member, stepped by hand: writes that do not end, and want of space.

#[allow(dead_code, reason = "each test binary uses a part of it")]
mod hand;

use hand::{Disk, Hand, SELF, THREE, TWO, Told, append, at, draft, matched, propose};
use jangada::net::{ForwardRefusal, PeerMessage, Proposal};
use jangada::raft::{Message, RoleKind, Term, TimeoutNow};
use jangada::{Event, Options, ProposeError};

fn options() -> Options {
    Options::default()
}

/// Lets time pass in the steps that the member asks for, with both peers answering what a leader
/// needs to lead on.
fn pass(hand: &mut Hand, us: u64) {
    let until_us = hand.now_us + us;
    while hand.now_us < until_us {
        hand.now_us = hand.member.next_step_us().clamp(hand.now_us + 1, until_us);
        let term = hand.member.status().standing.term.0;
        hand.step([]);
        if hand.member.status().standing.role == RoleKind::Leader {
            hand.step([TWO, THREE].map(|peer| alive(peer, term)));
        }
    }
}

fn alive(peer: jangada::NodeId, term: u64) -> Event {
    use jangada::raft::{HeartbeatResponse, ReadRound};
    let (term, round) = (Term(term), ReadRound(0));
    hand::raft(
        peer,
        Message::HeartbeatResponse(HeartbeatResponse { term, round, recovering: None }),
    )
}

fn summons(hand: &Hand) -> usize {
    let is_summons = |(_, message): &&(_, PeerMessage)| {
        matches!(message, PeerMessage::Raft(Message::TimeoutNow(_)))
    };
    hand.sent.iter().filter(is_summons).count()
}

fn role(hand: &Hand) -> RoleKind {
    hand.member.status().standing.role
}

#[test]
fn a_leader_whose_write_does_not_end_hands_over_then_steps_down() {
    let mut hand = Hand::leader();
    hand.disk = Disk::Stalled;
    hand.step([propose(1)]);
    hand.step([matched(TWO, 1, 2), matched(THREE, 1, 2)]);
    let timeout_us = options().election_timeout_us;
    pass(&mut hand, timeout_us - 1);
    assert_eq!(summons(&hand), 0, "a slow disk is not a sick one");
    pass(&mut hand, 2);
    assert!(0 < summons(&hand), "one that holds all of the log is asked to stand");
    assert_eq!(role(&hand), RoleKind::Leader);
    pass(&mut hand, timeout_us);
    assert_eq!(role(&hand), RoleKind::Follower, "nobody took over, and it serves nobody");
    assert_eq!(hand.member.status().standing.term, Term(1));
    // It hears nothing, and does not stand while the disk is stuck.
    hand.sent.clear();
    pass(&mut hand, 10 * timeout_us);
    assert_eq!(role(&hand), RoleKind::Follower);
    assert!(hand.sent.is_empty(), "{:?}", hand.sent);
    assert!(11 * timeout_us < hand.member.status().log_stalled_us);
    // The write ends, and it is a member like any other.
    let written = hand.write();
    hand.disk = Disk::Prompt;
    hand.step(written);
    assert_eq!(hand.member.status().log_stalled_us, 0);
    pass(&mut hand, 3 * timeout_us);
    assert_eq!(role(&hand), RoleKind::PreCandidate);
}

#[test]
fn a_write_that_never_ends_stops_the_process() {
    let mut hand = Hand::follower();
    hand.disk = Disk::Stalled;
    hand.step([append(TWO, 1, at(0, 0), 1, 0)]);
    let abort_us = options().stall_abort_us;
    pass(&mut hand, abort_us - 1);
    assert!(!hand.told.iter().any(|told| matches!(told, Told::Abort(_))), "{:?}", hand.told);
    pass(&mut hand, 2);
    assert_eq!(hand.told.iter().filter(|told| matches!(told, Told::Abort(_))).count(), 1);
}

#[test]
fn a_process_that_stood_still_does_not_blame_its_disk() {
    let mut hand = Hand::leader();
    hand.disk = Disk::Stalled;
    hand.step([propose(1)]);
    // The machine was suspended for an hour; the write had ended long before.
    hand.now_us += 3_600_000_000;
    hand.step([]);
    assert!(!hand.told.iter().any(|told| matches!(told, Told::Abort(_))), "{:?}", hand.told);
}

#[test]
fn a_disk_that_moves_is_not_stuck_however_much_waits() {
    let mut hand = Hand::leader();
    hand.disk = Disk::Stalled;
    let timeout_us = options().election_timeout_us;
    for sequence in 1..40 {
        hand.step([propose(sequence)]);
        pass(&mut hand, timeout_us / 2);
        let written = hand.write();
        hand.step(written);
    }
    assert_eq!(role(&hand), RoleKind::Leader);
    assert_eq!(summons(&hand), 0);
}

#[test]
fn a_member_whose_disk_is_stuck_does_not_take_over() {
    let mut hand = Hand::follower();
    hand.disk = Disk::Stalled;
    hand.step([append(TWO, 1, at(0, 0), 1, 0)]);
    let until_us = hand.now_us + 2 * options().election_timeout_us;
    hand.sleep_until(until_us, TWO, 1);
    hand.step([hand::raft(TWO, Message::TimeoutNow(TimeoutNow { term: Term(1) }))]);
    assert_eq!(role(&hand), RoleKind::Follower);
}

fn refused(hand: &Hand, sequence: u64) -> bool {
    hand.told.contains(&Told::Refuse(sequence, ProposeError::NoSpace))
}

#[test]
fn a_leader_short_of_space_takes_what_frees_some_and_nothing_else() {
    let mut hand = Hand::leader();
    hand.step([Event::LogFull]);
    assert!(hand.member.status().log_full);
    let last = hand.member.status().last;
    hand.step([propose(1), Event::Propose(draft(2, b"!delete")), propose(3)]);
    assert!(refused(&hand, 1) && refused(&hand, 3) && !refused(&hand, 2), "{:?}", hand.told);
    assert_eq!(hand.member.status().last, last.next());
    // Those of other members are told in words that they understand.
    let foreign = |sequence, payload: &'static [u8]| Proposal {
        kind: jangada::entry::Kind::Command,
        version: 1,
        origin: jangada::entry::Origin { incarnation: 5, sequence },
        payload: payload.into(),
    };
    let forward = PeerMessage::Forward(vec![foreign(7, b"put"), foreign(8, b"!compact")]);
    hand.step([Event::Received { from: TWO, message: forward }]);
    let told = hand.sent_to(TWO).any(|message| {
        let expected = PeerMessage::ForwardRefused {
            process: 5,
            sequences: vec![7],
            reason: ForwardRefusal::NoSpace,
        };
        *message == expected
    });
    assert!(told, "{:?}", hand.sent);
    assert_eq!(hand.member.status().last, last.next().next());
    // It comes back by itself.
    hand.step([Event::LogHasSpace, propose(4)]);
    assert!(!refused(&hand, 4));
    assert_eq!(hand.member.status().last, last.next().next().next());
    assert!(!hand.member.status().log_full);
}

#[test]
fn a_refusal_for_want_of_space_reaches_the_client_of_another_member() {
    let mut hand = Hand::follower();
    hand.step([propose(1)]);
    let reason = ForwardRefusal::NoSpace;
    let message =
        PeerMessage::ForwardRefused { process: hand::PROCESS, sequences: vec![1], reason };
    hand.step([Event::Received { from: TWO, message }]);
    assert!(refused(&hand, 1));
}

#[test]
fn a_leader_that_runs_short_of_space_hands_over_once() {
    let mut hand = Hand::leader();
    hand.step([matched(THREE, 1, 1), Event::LogFull]);
    let timeout_us = options().election_timeout_us;
    pass(&mut hand, timeout_us - 1);
    assert_eq!(summons(&hand), 0);
    pass(&mut hand, 2);
    assert!(0 < summons(&hand));
    // Nobody took over: it leads on, and takes what it can.
    pass(&mut hand, 2 * timeout_us);
    hand.sent.clear();
    pass(&mut hand, 20 * timeout_us);
    assert_eq!((role(&hand), summons(&hand)), (RoleKind::Leader, 0));
    hand.step([Event::Propose(draft(1, b"!delete"))]);
    hand.step([matched(TWO, 1, 2)]);
    assert!(hand.told.contains(&Told::Reply(1, 1)), "{:?}", hand.told);
}

#[test]
fn whoever_is_short_already_when_it_comes_to_lead_stays() {
    let mut hand = Hand::new();
    hand.step([Event::LogFull]);
    hand.win();
    hand.step([matched(TWO, 1, 1), matched(THREE, 1, 1)]);
    pass(&mut hand, 5 * options().election_timeout_us);
    assert_eq!((role(&hand), summons(&hand)), (RoleKind::Leader, 0));
    assert_eq!(hand.member.status().standing.leader, Some(SELF));
}
