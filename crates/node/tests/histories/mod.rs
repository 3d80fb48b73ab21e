//! Chosen histories of one member, in which what belongs to an earlier question comes late, or what is
//! said rests on what is not certain yet.

use jangada::entry::{Draft, Frame, Kind, Origin};
use jangada::net::PeerMessage;
use jangada::raft::{
    AppendOutcome, AppendResponse, HardState, HeartbeatResponse, Index, Message, Position, Range,
    ReadRound, RecoverTo, RecoveryNumber, Term, WriteNumber,
};
use jangada::{Event, Log, LogBatch, MemoryLog, ReadBatch};

use crate::hand::{Disk, Hand, PROCESS, THREE, TWO, append, at, heartbeat, matched, raft};

/// The read index that an earlier life of the member had asked for arrives in this one, whose client
/// came after the round that it is about: the read does not run by it (etcd #20418 in kind).
pub(crate) fn an_answer_to_an_earlier_life_runs_no_read() {
    let question = |process| {
        let mut hand = Hand::start_as(process, MemoryLog::default(), Range::default());
        hand.meet();
        hand.step([heartbeat(TWO, 1, 0)]);
        hand.step([Event::Read(ReadBatch(1))]);
        let asked = hand.sent_to(TWO).find_map(|message| match message {
            PeerMessage::ReadIndexRequest { number } => Some(*number),
            _ => None,
        });
        (hand, asked.expect("a follower asks its leader"))
    };
    let (_, before) = question(PROCESS);
    let (mut hand, _) = question(PROCESS + 1);
    let late = PeerMessage::ReadIndexResponse { number: before, index: Some(Index(0)) };
    hand.step([Event::Received { from: TWO, message: late }]);
    assert_eq!(hand.told, [], "a round that was over before the read began confirms nothing");
}

/// A leader reads entries back for a peer; before it has them, the peer says that it lacks earlier
/// ones, too. What was read is not sent as if it stood there (LogCabin #160).
pub(crate) fn entries_read_for_one_place_are_not_sent_for_another() {
    let frames: Vec<Frame> = (1..=10)
        .map(|index| {
            let draft = Draft::new(Draft::buffer(0), Kind::Command, 1, 0, Origin::default());
            draft.stamp(at(index, 1), 0)
        })
        .collect();
    let mut log = MemoryLog::default();
    log.append(&LogBatch {
        anew: None,
        number: WriteNumber(1),
        last: at(10, 1),
        hard_state: HardState { term: Term(1), vote: None },
        after: Index(0),
        entries: frames,
        note: None,
    })
    .expect("in memory");
    let range = Range::of_term(Position::default(), Term(1), Index(10));
    let mut hand = Hand::start(log, range);
    hand.meet();
    hand.win();
    let refuses = |probe: u64, hint: Position| {
        let outcome = AppendOutcome::Conflict { probe: Index(probe), hint };
        raft(
            THREE,
            Message::AppendResponse(AppendResponse { term: Term(2), outcome, recovering: None }),
        )
    };
    hand.disk = Disk::Stalled;
    hand.sent.clear();
    hand.step([refuses(10, at(5, 1))]);
    hand.step([refuses(5, at(2, 1))]);
    while !hand.unread.is_empty() {
        let read = hand.read();
        hand.step([read]);
    }
    let mut appends = 0;
    for message in hand.sent_to(THREE) {
        let PeerMessage::Append { request, frames } = message else { continue };
        let names = frames.iter().map(|frame| frame.position().index.0);
        let named = request.range.prev.index.0 + 1..=request.range.last.0;
        assert!(names.eq(named), "the frames of an append are those that its range names");
        appends += frames.len();
    }
    assert!(8 <= appends, "the peer gets what it lacks");
}

/// Entry 2 of term 1 is durable here and not committed; the leader of term 2 replaces it, and others
/// commit the new one before it is durable here. Should the machine store its effects by then, a crash
/// would leave a machine that is ahead of its log.
pub(crate) fn what_is_durable_may_be_replaced_before_it_is_safe_to_store() {
    let mut hand = Hand::follower();
    hand.step([append(TWO, 1, at(0, 0), 2, 1)]);
    assert_eq!(hand.log_durable(), 1, "entry 2 is durable and not committed");
    hand.disk = Disk::Stalled;
    hand.step([append(THREE, 2, at(1, 1), 2, 2)]);
    assert_eq!(hand.member.status().record.applied, at(2, 2));
    assert_eq!(hand.log_durable(), 1, "entry 2 of term 2 is applied and not durable here");
    let written = hand.write();
    hand.step(written);
    let written = hand.write();
    hand.step(written);
    assert_eq!(hand.log_durable(), 2);
}

/// A member that may have lost entries asks what it must hold. A leader that was deposed would name too
/// little, so the answer waits for a read round that others confirm and that began after the question
/// (thesis §6.4).
pub(crate) fn what_must_be_held_again_is_named_once_leadership_is_confirmed() {
    let mut hand = Hand::leader();
    let recovering = Some(RecoveryNumber(5));
    let answers = |from, round, recovering| {
        let response = HeartbeatResponse { term: Term(1), round: ReadRound(round), recovering };
        raft(from, Message::HeartbeatResponse(response))
    };
    let named = |hand: &Hand| -> Option<RecoverTo> {
        let named = |message: &PeerMessage| match message {
            PeerMessage::Raft(Message::Heartbeat(heartbeat)) => heartbeat.recover_to,
            _ => None,
        };
        hand.sent_to(THREE).filter_map(named).last()
    };
    hand.step([answers(THREE, 0, recovering)]);
    let until_us = hand.now_us + 300_000;
    while hand.now_us < until_us {
        hand.sleep();
        // An answer to an earlier round says nothing of the present.
        hand.step([matched(TWO, 1, 1), answers(TWO, 0, None), answers(THREE, 1, recovering)]);
    }
    assert_eq!(named(&hand), None, "nobody has confirmed that this member still leads");
    hand.step([answers(TWO, 1, None)]);
    let until_us = hand.now_us + 300_000;
    while hand.now_us < until_us {
        hand.sleep();
    }
    let recover_to = RecoverTo { number: RecoveryNumber(5), last: Index(1) };
    assert_eq!(named(&hand), Some(recover_to));
}
