//! Chosen histories of one member, in which what belongs to an earlier question comes late.

use jangada::entry::{Draft, Frame, Kind, Origin};
use jangada::net::PeerMessage;
use jangada::raft::{
    AppendOutcome, AppendResponse, HardState, Index, Message, Position, Range, Term, WriteNumber,
};
use jangada::{Event, Log, LogBatch, MemoryLog, ReadBatch};

use crate::hand::{Disk, Hand, PROCESS, THREE, TWO, at, heartbeat, raft};

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
