//! The codec of messages between members (`jangada_net::wire`).

use bytes::{BufMut, Bytes, BytesMut};
use jangada_entry::{Kind, Origin};
use jangada_net::wire::{self, DecodeError, HEADER_BYTES, NUMBER_MAX};
use jangada_net::{Answer, ForwardRefusal, PeerMessage, Proposal};
use jangada_raft::{
    AppendOutcome, AppendRequest, AppendResponse, Heartbeat, HeartbeatResponse, Index, Message,
    Position, PreVoteRequest, PreVoteResponse, Range, ReadRound, Term, VoteRequest, VoteResponse,
};

use crate::entry::{GROUP, frame};
use crate::{Input, sentence};

/// Reads the input as a message, as it is and with everything a checksum covers made good; and
/// makes messages from it, which must come back as they were.
///
/// # Panics
/// At the first thing that is wrong.
pub fn check(data: &[u8]) {
    decode(Bytes::copy_from_slice(data));
    let mut sealed = data.to_vec();
    seal(&mut sealed);
    decode(sealed.into());
    let mut input = Input::new(data);
    while !input.is_empty() {
        come_back(&message(&mut input));
    }
}

/// A message as it goes over the wire.
pub(crate) fn whole(message: &PeerMessage) -> Bytes {
    let size = wire::measure(message).expect("the message is sound");
    let encoded = wire::encode(GROUP, message).expect("the message is sound");
    let mut out = BytesMut::from(&encoded.head[..]);
    encoded.slices.iter().for_each(|slice| out.extend_from_slice(slice));
    assert_eq!(out.len(), size.total(), "a message is as long as was measured");
    out.freeze()
}

/// Whatever decodes encodes to the same bytes.
fn decode(bytes: Bytes) {
    match wire::decode(GROUP, bytes.clone()) {
        Ok(message) => {
            assert_eq!(whole(&message), bytes, "a message has one encoding");
            assert_eq!(wire::Header::decode(&bytes).map(|h| h.length as usize), Ok(bytes.len()));
            bounded(&message);
        }
        Err(error) => {
            sentence(&error);
            if let DecodeError::Group { ours, theirs } = error {
                assert!(ours == GROUP && theirs != GROUP, "only another group is refused as one");
            }
        }
    }
}

/// No number that could overflow by adding one comes in.
fn bounded(message: &PeerMessage) {
    let fine = match message {
        PeerMessage::Append { request, frames } => {
            let last = request.range.last_position();
            assert_eq!(request.range.len(), frames.len() as u64, "wire invariant 3");
            assert!(request.range.is_well_formed() && last.term <= request.term);
            last.index.0.max(request.term.0).max(request.commit.0) <= NUMBER_MAX
        }
        PeerMessage::Raft(message) => match message {
            Message::AppendRequest(_) => false,
            Message::AppendResponse(AppendResponse { outcome, term, .. }) => match outcome {
                AppendOutcome::Match(index) => index.0.max(term.0) <= NUMBER_MAX,
                AppendOutcome::Conflict { probe, hint } => {
                    hint.index < *probe && probe.0.max(hint.term.0) <= NUMBER_MAX
                }
            },
            Message::Heartbeat(heartbeat) => heartbeat.round.0 <= NUMBER_MAX,
            Message::HeartbeatResponse(response) => response.round.0 <= NUMBER_MAX,
            Message::PreVoteRequest(request) => request.last.index.0 <= NUMBER_MAX,
            Message::VoteRequest(request) => request.last.index.0 <= NUMBER_MAX,
            Message::PreVoteResponse(response) => response.term.0 <= NUMBER_MAX,
            Message::VoteResponse(response) => response.term.0 <= NUMBER_MAX,
            Message::TimeoutNow(request) => request.term.0 <= NUMBER_MAX,
        },
        PeerMessage::HashQuestion { index }
        | PeerMessage::HashAnswer { index, .. }
        | PeerMessage::HashDiffers { index, .. } => index.0 <= NUMBER_MAX,
        PeerMessage::ReadIndexResponse { index, .. } => {
            index.is_none_or(|index| index.0 <= NUMBER_MAX)
        }
        PeerMessage::Answer { answer: Answer::Changed { index, .. }, .. } => index.0 <= NUMBER_MAX,
        PeerMessage::FramesRequest { first, last } => first.index.0.max(last.0) <= NUMBER_MAX,
        PeerMessage::FramesResponse { .. }
        | PeerMessage::Snapshot(_)
        | PeerMessage::Ask { .. }
        | PeerMessage::Answer { .. }
        | PeerMessage::Consult { .. }
        | PeerMessage::Counsel { .. }
        | PeerMessage::Forward(_)
        | PeerMessage::ForwardRefused { .. }
        | PeerMessage::ReadIndexRequest { .. } => true,
    };
    assert!(fine, "{message:?}");
}

/// Whatever is encoded decodes to what it was.
fn come_back(message: &PeerMessage) {
    let bytes = whole(message);
    let decoded = wire::decode(GROUP, bytes.clone()).expect("what was encoded decodes");
    assert_eq!(decoded, *message, "wire invariant 1");
    let cut = bytes.slice(..bytes.len() - 1);
    assert_eq!(wire::decode(GROUP, cut), Err(DecodeError::Short), "a message is whole or refused");
}

/// Makes lengths, group and checksums good, those of entries and proposals in it included.
pub(crate) fn seal(bytes: &mut [u8]) {
    if bytes.len() < HEADER_BYTES {
        return;
    }
    let length = u32::try_from(bytes.len()).expect("inputs are small");
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    bytes[5..8].fill(0);
    bytes[8..16].copy_from_slice(&GROUP.to_le_bytes());
    let rest = bytes.len() - HEADER_BYTES;
    let fixed = u32::from_le_bytes([bytes[16], bytes[17], bytes[18], bytes[19]]) as usize;
    let fixed = fixed.min(rest);
    bytes[16..20].copy_from_slice(&(fixed as u32).to_le_bytes());
    let (head, payloads) = bytes.split_at_mut(HEADER_BYTES + fixed);
    match head[4] {
        5 => crate::entry::seal(payloads),
        9 => seal_proposals(&mut head[HEADER_BYTES..], payloads),
        _ => {}
    }
    let crc = crc32c::crc32c_append(crc32c::crc32c(&head[..20]), &head[HEADER_BYTES..]);
    head[20..24].copy_from_slice(&crc.to_le_bytes());
}

fn seal_proposals(fixed: &mut [u8], payloads: &[u8]) {
    let mut payloads = payloads;
    for proposal in fixed.get_mut(8..).unwrap_or_default().chunks_exact_mut(32) {
        let length =
            u32::from_le_bytes([proposal[4], proposal[5], proposal[6], proposal[7]]) as usize;
        let Some((payload, rest)) = payloads.split_at_checked(length) else { return };
        proposal[8..12].copy_from_slice(&crc32c::crc32c(payload).to_le_bytes());
        payloads = rest;
    }
}

/// The next message that an input tells of.
pub(crate) fn message(input: &mut Input<'_>) -> PeerMessage {
    let raft = |message| PeerMessage::Raft(message);
    match input.byte() % 18 {
        0 => {
            let (term, last) = (Term(input.small()), position(input));
            raft(Message::PreVoteRequest(PreVoteRequest { term, last }))
        }
        1 => {
            let (term, granted) = (Term(input.small()), input.byte() & 1 == 1);
            raft(Message::PreVoteResponse(PreVoteResponse { term, granted }))
        }
        2 => {
            let (term, last) = (Term(input.small()), position(input));
            raft(Message::VoteRequest(VoteRequest { term, last, transfer: false }))
        }
        3 => {
            let (term, granted) = (Term(input.small()), input.byte() & 1 == 1);
            raft(Message::VoteResponse(VoteResponse { term, granted }))
        }
        4 => {
            let (term, outcome) = (Term(input.small()), AppendOutcome::Match(Index(input.small())));
            raft(Message::AppendResponse(AppendResponse { term, outcome, recovering: None }))
        }
        5 => {
            let (term, hint) = (Term(input.small()), position(input));
            let beyond = hint.index.0.saturating_add(1 + u64::from(input.byte())).min(NUMBER_MAX);
            let hint = Position { index: Index(hint.index.0.min(beyond - 1)), ..hint };
            let outcome = AppendOutcome::Conflict { probe: Index(beyond), hint };
            raft(Message::AppendResponse(AppendResponse { term, outcome, recovering: None }))
        }
        6 => {
            let (term, commit) = (Term(input.small()), Index(input.small()));
            raft(Message::Heartbeat(Heartbeat {
                term,
                commit,
                round: ReadRound(input.small()),
                recover_to: None,
            }))
        }
        7 => {
            let (term, round) = (Term(input.small()), ReadRound(input.small()));
            raft(Message::HeartbeatResponse(HeartbeatResponse { term, round, recovering: None }))
        }
        8 | 9 => append(input),
        10 => PeerMessage::Forward((0..input.byte() % 8).map(|_| proposal(input)).collect()),
        11 => PeerMessage::ForwardRefused {
            reason: [ForwardRefusal::NotLeader, ForwardRefusal::Busy, ForwardRefusal::NoSpace]
                [usize::from(input.byte() % 3)],
            process: input.number(),
            sequences: (0..input.byte() % 16).map(|_| input.number()).collect(),
        },
        12 => PeerMessage::ReadIndexRequest { number: input.number() },
        13 => PeerMessage::ReadIndexResponse {
            number: input.number(),
            index: (input.byte() & 1 == 1).then(|| Index(input.small())),
        },
        14 => PeerMessage::HashQuestion { index: Index(input.small()) },
        15 => PeerMessage::HashAnswer { index: Index(input.small()), hash: input.number() },
        16 => PeerMessage::HashDiffers { index: Index(input.small()), hash: input.number() },
        _ => {
            let (first, last) = (position(input), Index(input.small()));
            PeerMessage::FramesRequest { first, last }
        }
    }
}

fn position(input: &mut Input<'_>) -> Position {
    Position { index: Index(input.small()), term: Term(input.small()) }
}

fn proposal(input: &mut Input<'_>) -> Proposal {
    Proposal {
        kind: Kind::of(input.byte() % 3).expect("there are three kinds"),
        version: input.word(),
        origin: Origin { incarnation: input.number(), sequence: input.number() },
        payload: Bytes::copy_from_slice(input.piece()),
    }
}

/// Entries behind some place, whose terms rise now and then.
fn append(input: &mut Input<'_>) -> PeerMessage {
    let prev = position(input);
    // Room for what follows, as every log has.
    let prev = Position {
        index: Index(prev.index.0.min(NUMBER_MAX - 16)),
        term: Term(prev.term.0.min(NUMBER_MAX - 64)),
    };
    let mut range = Range::empty(prev);
    let mut frames = Vec::new();
    let mut term = prev.term.0;
    for _ in 0..input.byte() % 12 {
        let step = input.byte();
        term += u64::from(step & 3);
        range.push(Term(term));
        let at = range.last_position();
        let kind = Kind::of(step >> 2 & 1).expect("there are three kinds");
        frames.push(frame(kind, at.index.0, at.term.0, input.piece()));
    }
    let request = AppendRequest {
        term: Term(term + 2),
        range,
        commit: Index(input.small()),
        configurations: Vec::new(),
    };
    PeerMessage::Append { request, frames }
}

/// A message of each kind, as bytes; and the input that tells of them all.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut tale = BytesMut::new();
    let mut seeds = Vec::new();
    for kind in 0..15_u8 {
        let mut told = BytesMut::new();
        told.put_u8(kind);
        (0..40_u8).for_each(|at| told.put_u8(at.wrapping_mul(13) ^ kind));
        seeds.push(whole(&message(&mut Input::new(&told))).to_vec());
        tale.extend_from_slice(&told);
    }
    seeds.push(tale.to_vec());
    seeds
}
