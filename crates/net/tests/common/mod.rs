//! Messages for the tests.

use jangada_entry::{Draft, Frame, Kind, Origin};
use jangada_net::PeerMessage;
use jangada_raft::{AppendRequest, Heartbeat, Index, Message, Position, Range, ReadRound, Term};

pub(crate) const GROUP: u64 = 1;

pub(crate) fn heartbeat(round: u64) -> PeerMessage {
    let (term, commit) = (Term(3), Index(9));
    PeerMessage::Raft(Message::Heartbeat(Heartbeat {
        term,
        commit,
        round: ReadRound(round),
        recover_to: None,
    }))
}

pub(crate) fn frame(index: u64, payload: &[u8]) -> Frame {
    let mut buffer = Draft::buffer(payload.len());
    buffer.extend_from_slice(payload);
    let draft = Draft::new(buffer, Kind::Command, 1, GROUP, Origin::default());
    draft.stamp(Position { index: Index(index), term: Term(3) }, 1_700_000_000_000)
}

/// An append of the entries after `prev`, with these payloads.
pub(crate) fn append(prev: u64, payloads: &[Vec<u8>]) -> PeerMessage {
    let frames: Vec<Frame> =
        (prev + 1..).zip(payloads).map(|(index, payload)| frame(index, payload)).collect();
    let before = Position { index: Index(prev), term: Term(3) };
    let range = match frames.last() {
        Some(last) => Range::of_term(before, Term(3), last.position().index),
        None => Range::empty(before),
    };
    PeerMessage::Append {
        request: AppendRequest {
            term: Term(3),
            range,
            commit: Index(prev),
            configurations: Vec::new(),
        },
        frames,
    }
}
