//! From a message to bytes: the header and the fixed part are written, payloads are shared.

use bytes::{BufMut, Bytes, BytesMut};
use jangada_entry::Frame;
use jangada_raft::{
    AppendOutcome, AppendRequest, Index, Message, Position, Range, RecoverTo, RecoveryNumber,
};

use super::{
    APPEND_BYTES, ENTRIES_MAX, EncodeError, HEADER_BYTES, PAYLOAD_BYTES_MAX, PROPOSAL_BYTES,
    PROPOSALS_MAX, RUN_BYTES, kind, payloads, snapshot,
};
use crate::{PeerMessage, Proposal};

/// A message as bytes: `head`, then `slices` one after the other.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// The header and the fixed part.
    pub head: Bytes,
    /// The payloads, sharing the message's memory.
    pub slices: Vec<Bytes>,
}

/// The size of a message's parts in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Size {
    /// The fixed part.
    pub fixed: usize,
    /// All payloads together.
    pub payload: usize,
}

impl Size {
    /// The whole message, header included.
    #[must_use]
    pub fn total(self) -> usize {
        HEADER_BYTES + self.fixed + self.payload
    }
}

/// A message as bytes, for `group`.
///
/// # Errors
/// The message exceeds a limit or contradicts itself.
pub fn encode(group: u64, message: &PeerMessage) -> Result<Encoded, EncodeError> {
    let size = measure(message)?;
    let mut head = BytesMut::with_capacity(HEADER_BYTES + size.fixed);
    encode_head(group, message, size, &mut head);
    Ok(Encoded { head: head.freeze(), slices: payloads(message).cloned().collect() })
}

/// Checks that a message can be sent, and says how large it is.
///
/// # Errors
/// The message exceeds a limit or contradicts itself.
///
/// # Panics
/// If the message is [`PeerMessage::Raft`] around a [`Message::AppendRequest`], which only travels
/// as [`PeerMessage::Append`].
pub fn measure(message: &PeerMessage) -> Result<Size, EncodeError> {
    let fixed = match message {
        PeerMessage::Raft(message) => raft_bytes(message),
        PeerMessage::Append { request, frames } => {
            check_frames(&request.range, frames)?;
            APPEND_BYTES + RUN_BYTES * request.range.more.len()
        }
        PeerMessage::Forward(proposals) => {
            check_count(proposals.len())?;
            8 + PROPOSAL_BYTES * proposals.len()
        }
        PeerMessage::ForwardRefused { sequences, .. } => {
            check_count(sequences.len())?;
            16 + 8 * sequences.len()
        }
        PeerMessage::Snapshot(message) => snapshot::fixed_bytes(message)?,
        PeerMessage::FramesRequest { .. } => 24,
        PeerMessage::FramesResponse { first, frames, .. } => {
            check_follow(*first, frames)?;
            32
        }
        PeerMessage::ReadIndexRequest { .. } | PeerMessage::HashQuestion { .. } => 8,
        PeerMessage::HashAnswer { .. } | PeerMessage::HashDiffers { .. } => 16,
        PeerMessage::ReadIndexResponse { .. } => 24,
        // Rare, so written twice.
        PeerMessage::Ask { .. } | PeerMessage::Answer { .. } => super::ask::encode(message)?.len(),
        PeerMessage::Consult { .. } | PeerMessage::Counsel { .. } => {
            super::consult::fixed_bytes(message)?
        }
    };
    let payload = payloads(message).map(Bytes::len).sum();
    if PAYLOAD_BYTES_MAX < payload {
        return Err(EncodeError::Payload(payload));
    }
    Ok(Size { fixed, payload })
}

/// Appends the header and the fixed part to `out`. `size` is what [`measure`] said of the same
/// message; [`payloads`] are to follow.
///
/// # Panics
/// If `size` is not the message's.
pub fn encode_head(group: u64, message: &PeerMessage, size: Size, out: &mut BytesMut) {
    let start = out.len();
    let length = u32::try_from(size.total()).expect("messages are bounded by measure");
    let fixed = u32::try_from(size.fixed).expect("messages are bounded by measure");
    out.reserve(HEADER_BYTES + size.fixed);
    out.put_u32_le(length);
    out.put_u8(kind_of(message));
    out.put_u8(0);
    out.put_u16_le(0);
    out.put_u64_le(group);
    out.put_u32_le(fixed);
    out.put_u32_le(0);
    match message {
        PeerMessage::Raft(message) => put_raft(message, out),
        PeerMessage::Append { request, .. } => put_append(request, out),
        PeerMessage::Forward(proposals) => put_proposals(proposals, out),
        PeerMessage::ForwardRefused { process, sequences, reason } => {
            out.put_u8(*reason as u8);
            out.put_bytes(0, 3);
            out.put_u32_le(u32::try_from(sequences.len()).expect("bounded by measure"));
            out.put_u64_le(*process);
            sequences.iter().for_each(|sequence| out.put_u64_le(*sequence));
        }
        PeerMessage::Snapshot(message) => snapshot::put(message, out),
        PeerMessage::FramesRequest { first, last } => {
            put_position(*first, out);
            out.put_u64_le(last.0);
        }
        PeerMessage::FramesResponse { first, begins, frames } => {
            put_position(*first, out);
            out.put_u64_le(begins.0);
            out.put_u32_le(u32::try_from(frames.len()).expect("bounded by measure"));
            out.put_u32_le(0);
        }
        PeerMessage::ReadIndexRequest { number } => out.put_u64_le(*number),
        PeerMessage::HashQuestion { index } => out.put_u64_le(index.0),
        PeerMessage::HashAnswer { index, hash } | PeerMessage::HashDiffers { index, hash } => {
            out.put_u64_le(index.0);
            out.put_u64_le(*hash);
        }
        PeerMessage::ReadIndexResponse { number, index } => {
            out.put_u64_le(*number);
            out.put_u64_le(index.map_or(0, |index| index.0));
            put_flag(index.is_some(), out);
        }
        PeerMessage::Ask { .. } | PeerMessage::Answer { .. } => {
            out.put_slice(&super::ask::encode(message).expect("checked by measure"));
        }
        PeerMessage::Consult { .. } | PeerMessage::Counsel { .. } => {
            super::consult::put(message, out);
        }
    }
    assert_eq!(out.len() - start, HEADER_BYTES + size.fixed, "wire invariant 1");
    let crc = super::decode::head_crc(&out[start..]);
    out[start + 20..start + 24].copy_from_slice(&crc.to_le_bytes());
}

fn kind_of(message: &PeerMessage) -> u8 {
    match message {
        PeerMessage::Raft(Message::PreVoteRequest(_)) => kind::PRE_VOTE_REQUEST,
        PeerMessage::Raft(Message::PreVoteResponse(_)) => kind::PRE_VOTE_RESPONSE,
        PeerMessage::Raft(Message::VoteRequest(_)) => kind::VOTE_REQUEST,
        PeerMessage::Raft(Message::VoteResponse(_)) => kind::VOTE_RESPONSE,
        PeerMessage::Raft(Message::AppendResponse(_)) => kind::APPEND_RESPONSE,
        PeerMessage::Raft(Message::Heartbeat(_)) => kind::HEARTBEAT,
        PeerMessage::Raft(Message::HeartbeatResponse(_)) => kind::HEARTBEAT_RESPONSE,
        PeerMessage::Raft(Message::TimeoutNow(_)) => kind::TIMEOUT_NOW,
        PeerMessage::Raft(Message::AppendRequest(_)) | PeerMessage::Append { .. } => kind::APPEND,
        PeerMessage::Forward(_) => kind::FORWARD,
        PeerMessage::ForwardRefused { .. } => kind::FORWARD_REFUSED,
        PeerMessage::ReadIndexRequest { .. } => kind::READ_INDEX_REQUEST,
        PeerMessage::ReadIndexResponse { .. } => kind::READ_INDEX_RESPONSE,
        PeerMessage::HashQuestion { .. } => kind::HASH_QUESTION,
        PeerMessage::HashAnswer { .. } => kind::HASH_ANSWER,
        PeerMessage::HashDiffers { .. } => kind::HASH_DIFFERS,
        PeerMessage::Snapshot(message) => snapshot::kind_of(message),
        PeerMessage::FramesRequest { .. } => kind::FRAMES_REQUEST,
        PeerMessage::FramesResponse { .. } => kind::FRAMES_RESPONSE,
        PeerMessage::Ask { .. } => kind::ASK,
        PeerMessage::Answer { .. } => kind::ANSWER,
        PeerMessage::Consult { .. } => kind::CONSULT,
        PeerMessage::Counsel { .. } => kind::COUNSEL,
    }
}

fn raft_bytes(message: &Message) -> usize {
    match message {
        Message::TimeoutNow(_) => 8,
        Message::PreVoteRequest(_) => 24,
        Message::VoteRequest(_) => 32,
        Message::PreVoteResponse(_) | Message::VoteResponse(_) => 16,
        // What concerns a recovery stands at the end, and only where there is one.
        Message::Heartbeat(heartbeat) => 24 + heartbeat.recover_to.map_or(0, |_| 16),
        Message::HeartbeatResponse(response) => 16 + response.recovering.map_or(0, |_| 8),
        Message::AppendResponse(response) => 40 + response.recovering.map_or(0, |_| 8),
        Message::AppendRequest(_) => panic!("an AppendRequest travels as PeerMessage::Append"),
    }
}

fn put_raft(message: &Message, out: &mut BytesMut) {
    match message {
        Message::PreVoteRequest(request) => {
            out.put_u64_le(request.term.0);
            put_position(request.last, out);
        }
        Message::VoteRequest(request) => {
            out.put_u64_le(request.term.0);
            put_position(request.last, out);
            put_flag(request.transfer, out);
        }
        Message::PreVoteResponse(response) => {
            out.put_u64_le(response.term.0);
            put_flag(response.granted, out);
        }
        Message::VoteResponse(response) => {
            out.put_u64_le(response.term.0);
            put_flag(response.granted, out);
        }
        Message::AppendResponse(response) => {
            out.put_u64_le(response.term.0);
            let (conflict, index, hint) = match response.outcome {
                AppendOutcome::Match(index) => (false, index, Position::default()),
                AppendOutcome::Conflict { probe, hint } => (true, probe, hint),
            };
            put_flag(conflict, out);
            out.put_u64_le(index.0);
            put_position(hint, out);
            put_recovering(response.recovering, out);
        }
        Message::Heartbeat(heartbeat) => {
            out.put_u64_le(heartbeat.term.0);
            out.put_u64_le(heartbeat.commit.0);
            out.put_u64_le(heartbeat.round.0);
            if let Some(RecoverTo { number, last }) = heartbeat.recover_to {
                out.put_u64_le(number.0);
                out.put_u64_le(last.0);
            }
        }
        Message::HeartbeatResponse(response) => {
            out.put_u64_le(response.term.0);
            out.put_u64_le(response.round.0);
            put_recovering(response.recovering, out);
        }
        Message::TimeoutNow(request) => out.put_u64_le(request.term.0),
        Message::AppendRequest(_) => panic!("an AppendRequest travels as PeerMessage::Append"),
    }
}

fn put_append(request: &AppendRequest, out: &mut BytesMut) {
    let range = &request.range;
    out.put_u64_le(request.term.0);
    out.put_u64_le(request.commit.0);
    put_position(range.prev, out);
    out.put_u64_le(range.last.0);
    out.put_u64_le(range.first_term.0);
    out.put_u32_le(u32::try_from(range.more.len()).expect("bounded by measure"));
    out.put_u32_le(0);
    for run in &range.more {
        out.put_u64_le(run.term.0);
        out.put_u64_le(run.first.0);
    }
}

fn put_proposals(proposals: &[Proposal], out: &mut BytesMut) {
    out.put_u32_le(u32::try_from(proposals.len()).expect("bounded by measure"));
    out.put_u32_le(0);
    for proposal in proposals {
        let length = u32::try_from(proposal.payload.len()).expect("bounded by measure");
        out.put_u8(proposal.kind as u8);
        out.put_u8(0);
        out.put_u16_le(proposal.version);
        out.put_u32_le(length);
        out.put_u32_le(crc32c::crc32c(&proposal.payload));
        out.put_u32_le(0);
        out.put_u64_le(proposal.origin.incarnation);
        out.put_u64_le(proposal.origin.sequence);
    }
}

pub(super) fn put_position(position: Position, out: &mut BytesMut) {
    out.put_u64_le(position.index.0);
    out.put_u64_le(position.term.0);
}

fn put_recovering(recovering: Option<RecoveryNumber>, out: &mut BytesMut) {
    if let Some(number) = recovering {
        out.put_u64_le(number.0);
    }
}

fn put_flag(flag: bool, out: &mut BytesMut) {
    out.put_u8(u8::from(flag));
    out.put_bytes(0, 7);
}

fn check_count(count: usize) -> Result<(), EncodeError> {
    if PROPOSALS_MAX < count {
        return Err(EncodeError::Proposals(count));
    }
    Ok(())
}

/// Invariant 3 on the sender's side.
fn check_frames(range: &Range, frames: &[Frame]) -> Result<(), EncodeError> {
    if ENTRIES_MAX < frames.len() {
        return Err(EncodeError::Entries(frames.len()));
    }
    if !range.is_well_formed() || range.len() != frames.len() as u64 {
        return Err(EncodeError::Frames);
    }
    let mut names = Names::of(range);
    if frames.iter().any(|frame| frame.position() != names.next()) {
        return Err(EncodeError::Frames);
    }
    Ok(())
}

/// The frames of an answer follow one another, from the first one asked for on.
fn check_follow(first: Position, frames: &[Frame]) -> Result<(), EncodeError> {
    if ENTRIES_MAX < frames.len() {
        return Err(EncodeError::Entries(frames.len()));
    }
    let starts = frames.first().is_none_or(|frame| frame.position() == first);
    let follows = |pair: &[Frame]| pair[1].position().index == pair[0].position().index.next();
    if !starts || !frames.windows(2).all(follows) {
        return Err(EncodeError::Frames);
    }
    Ok(())
}

/// Walks the names of a range's entries, in order.
pub(super) struct Names<'a> {
    position: Position,
    more: &'a [jangada_raft::Run],
}

impl<'a> Names<'a> {
    pub(super) fn of(range: &'a Range) -> Names<'a> {
        let position = Position { index: range.prev.index, term: range.first_term };
        Names { position, more: &range.more }
    }

    /// The name of the next entry. The caller stops at the range's end.
    pub(super) fn next(&mut self) -> Position {
        self.position.index = Index(self.position.index.0 + 1);
        if let Some((run, rest)) = self.more.split_first()
            && run.first == self.position.index
        {
            self.position.term = run.term;
            self.more = rest;
        }
        self.position
    }
}
