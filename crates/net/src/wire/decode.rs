//! From bytes to a message: everything is checked, nothing is copied but the fixed part's numbers.

use bytes::Bytes;
use jangada_entry::{Frame, Kind, Origin, decode_configuration};
use jangada_raft::{
    AppendOutcome, AppendRequest, AppendResponse, Heartbeat, HeartbeatResponse, Index, Message,
    Position, PreVoteRequest, PreVoteResponse, Range, ReadRound, RecoverTo, RecoveryNumber, Run,
    Term, TimeoutNow, VoteRequest, VoteResponse,
};

use super::encode::Names;
use super::{
    DecodeError, ENTRIES_MAX, FIXED_BYTES_MAX, HEADER_BYTES, MESSAGE_BYTES_MAX, NUMBER_MAX,
    PROPOSAL_BYTES, PROPOSALS_MAX, RUN_BYTES, kind, snapshot,
};
use crate::{ForwardRefusal, PeerMessage, Proposal};

/// A message's header, decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// The message's length in bytes, header included.
    pub length: u32,
    /// The number of its type.
    pub kind: u8,
    /// The group it is for.
    pub group: u64,
    /// The length of the fixed part in bytes.
    pub fixed: u32,
    /// CRC-32C of the header, up to this field, and the fixed part.
    pub crc: u32,
}

impl Header {
    /// Reads a header and checks its lengths. The checksum is checked by [`decode`], once the fixed
    /// part is there too.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Header, DecodeError> {
        let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(DecodeError::Short);
        };
        let mut fields = Fields(bytes);
        let length = fields.u32()?;
        if (length as usize) < HEADER_BYTES || MESSAGE_BYTES_MAX < length as usize {
            return Err(DecodeError::Length(length));
        }
        let kind = fields.u8()?;
        fields.zero(3)?;
        let group = fields.u64()?;
        let fixed = fields.u32()?;
        let crc = fields.u32()?;
        if FIXED_BYTES_MAX < fixed as usize || (length as usize) < HEADER_BYTES + fixed as usize {
            return Err(DecodeError::FixedLength(fixed));
        }
        Ok(Header { length, kind, group, fixed, crc })
    }
}

/// CRC-32C of a header, all of it but the checksum's own place, and of the fixed part after it.
pub(super) fn head_crc(head: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&head[..HEADER_BYTES - 4]), &head[HEADER_BYTES..])
}

/// Reads one whole message, header included, of `group`. Entries and proposals share the memory of
/// `bytes`; each is checked against its own checksum, and entries against the names in the range.
///
/// # Errors
/// What is wrong with the bytes.
pub fn decode(group: u64, mut bytes: Bytes) -> Result<PeerMessage, DecodeError> {
    let header = Header::decode(&bytes)?;
    let fixed_end = HEADER_BYTES + header.fixed as usize;
    if bytes.len() < header.length as usize {
        return Err(DecodeError::Short);
    }
    if (header.length as usize) < bytes.len() {
        return Err(DecodeError::Long);
    }
    if head_crc(&bytes[..fixed_end]) != header.crc {
        return Err(DecodeError::Checksum);
    }
    if header.group != group {
        return Err(DecodeError::Group { ours: group, theirs: header.group });
    }
    let head = bytes.split_to(fixed_end);
    let mut fields = Fields(&head[HEADER_BYTES..]);
    let message = decode_body(header.kind, group, &mut fields, &mut bytes)?;
    if !fields.0.is_empty() || !bytes.is_empty() {
        return Err(DecodeError::Long);
    }
    Ok(message)
}

fn decode_body(
    kind: u8,
    group: u64,
    fields: &mut Fields<'_>,
    payloads: &mut Bytes,
) -> Result<PeerMessage, DecodeError> {
    let message = match kind {
        kind::PRE_VOTE_REQUEST => Message::PreVoteRequest(PreVoteRequest {
            term: fields.term()?,
            last: fields.position()?,
        }),
        kind::PRE_VOTE_RESPONSE => Message::PreVoteResponse(PreVoteResponse {
            term: fields.term()?,
            granted: fields.flag()?,
        }),
        kind::VOTE_REQUEST => {
            let (term, last) = (fields.term()?, fields.position()?);
            Message::VoteRequest(VoteRequest { term, last, transfer: fields.flag()? })
        }
        kind::VOTE_RESPONSE => {
            Message::VoteResponse(VoteResponse { term: fields.term()?, granted: fields.flag()? })
        }
        kind::APPEND => return append(group, fields, payloads),
        kind::APPEND_RESPONSE => Message::AppendResponse(append_response(fields)?),
        kind::HEARTBEAT => Message::Heartbeat(Heartbeat {
            term: fields.term()?,
            commit: fields.index()?,
            round: ReadRound(fields.number()?),
            recover_to: match fields.recovering()? {
                Some(number) => Some(RecoverTo { number, last: fields.index()? }),
                None => None,
            },
        }),
        kind::HEARTBEAT_RESPONSE => Message::HeartbeatResponse(HeartbeatResponse {
            term: fields.term()?,
            round: ReadRound(fields.number()?),
            recovering: fields.recovering()?,
        }),
        kind::TIMEOUT_NOW => Message::TimeoutNow(TimeoutNow { term: fields.term()? }),
        kind::FORWARD => return forward(fields, payloads),
        kind::FORWARD_REFUSED => return forward_refused(fields),
        kind::READ_INDEX_REQUEST => {
            return Ok(PeerMessage::ReadIndexRequest { number: fields.u64()? });
        }
        kind::READ_INDEX_RESPONSE => return read_index_response(fields),
        kind::SNAPSHOT_WANTED..=kind::SNAPSHOT_REFUSED => {
            return Ok(PeerMessage::Snapshot(snapshot::decode(kind, fields, payloads)?));
        }
        kind::FRAMES_REQUEST => {
            let (first, last) = (fields.position()?, fields.index()?);
            return Ok(PeerMessage::FramesRequest { first, last });
        }
        kind::FRAMES_RESPONSE => return frames_response(group, fields, payloads),
        kind::ASK => return super::ask::ask(fields),
        kind::ANSWER => return super::ask::answer(fields),
        kind::CONSULT => return super::consult::consult(fields),
        kind::COUNSEL => return super::consult::counsel(fields),
        kind::HASH_QUESTION => {
            return Ok(PeerMessage::HashQuestion { index: fields.index()? });
        }
        kind::HASH_ANSWER => {
            let (index, hash) = (fields.index()?, fields.u64()?);
            return Ok(PeerMessage::HashAnswer { index, hash });
        }
        kind::HASH_DIFFERS => {
            let (index, hash) = (fields.index()?, fields.u64()?);
            return Ok(PeerMessage::HashDiffers { index, hash });
        }
        other => return Err(DecodeError::Kind(other)),
    };
    Ok(PeerMessage::Raft(message))
}

fn append(
    group: u64,
    fields: &mut Fields<'_>,
    payloads: &mut Bytes,
) -> Result<PeerMessage, DecodeError> {
    let term = fields.term()?;
    let commit = fields.index()?;
    let range = range(fields)?;
    if term < range.last_position().term {
        return Err(DecodeError::Range);
    }
    let count = usize::try_from(range.len()).expect("bounded by range");
    let mut names = Names::of(&range);
    let mut frames = Vec::with_capacity(count.min(payloads.len() / jangada_entry::HEADER_BYTES));
    let mut configurations = Vec::new();
    for _ in 0..count {
        let frame = Frame::decode(payloads)?;
        let (expected, found) = (names.next(), frame.position());
        if found != expected {
            return Err(DecodeError::FrameName { expected, found });
        }
        let theirs = frame.header().group;
        if theirs != group {
            return Err(DecodeError::Group { ours: group, theirs });
        }
        if frame.kind() == Kind::Configuration {
            let configuration = decode_configuration(frame.payload())?;
            configurations.push((found.index, configuration));
        }
        frames.push(frame);
    }
    Ok(PeerMessage::Append {
        request: AppendRequest { term, range, commit, configurations },
        frames,
    })
}

fn range(fields: &mut Fields<'_>) -> Result<Range, DecodeError> {
    let prev = fields.position()?;
    let last = fields.index()?;
    let first_term = fields.term()?;
    let runs = fields.u32()?;
    fields.zero(4)?;
    let count = last.0.checked_sub(prev.index.0).ok_or(DecodeError::Range)?;
    if (ENTRIES_MAX as u64) < count {
        return Err(DecodeError::Count(count));
    }
    // Capacity follows the bytes that are there, not the number that is claimed.
    let mut more = Vec::with_capacity((runs as usize).min(fields.0.len() / RUN_BYTES));
    for _ in 0..runs {
        more.push(Run { term: fields.term()?, first: fields.index()? });
    }
    let range = Range { prev, last, first_term, more };
    if range.is_well_formed() { Ok(range) } else { Err(DecodeError::Range) }
}

fn append_response(fields: &mut Fields<'_>) -> Result<AppendResponse, DecodeError> {
    let term = fields.term()?;
    let conflict = fields.flag()?;
    let index = fields.index()?;
    let hint = fields.position()?;
    let recovering = fields.recovering()?;
    if !conflict {
        if hint != Position::default() {
            return Err(DecodeError::Reserved);
        }
        return Ok(AppendResponse { term, outcome: AppendOutcome::Match(index), recovering });
    }
    if index <= hint.index {
        return Err(DecodeError::Hint);
    }
    Ok(AppendResponse { term, outcome: AppendOutcome::Conflict { probe: index, hint }, recovering })
}

fn forward(fields: &mut Fields<'_>, payloads: &mut Bytes) -> Result<PeerMessage, DecodeError> {
    let count = fields.count()?;
    fields.zero(4)?;
    // Capacity follows the bytes that are there, not the number that is claimed.
    let mut proposals = Vec::with_capacity(count.min(fields.0.len() / PROPOSAL_BYTES));
    for _ in 0..count {
        let kind = Kind::of(fields.u8()?)?;
        fields.zero(1)?;
        let version = fields.u16()?;
        let length = fields.u32()? as usize;
        let crc = fields.u32()?;
        fields.zero(4)?;
        let origin = Origin { incarnation: fields.u64()?, sequence: fields.u64()? };
        if payloads.len() < length {
            return Err(DecodeError::Short);
        }
        let payload = payloads.split_to(length);
        if crc32c::crc32c(&payload) != crc {
            return Err(DecodeError::ProposalChecksum);
        }
        proposals.push(Proposal { kind, version, origin, payload });
    }
    Ok(PeerMessage::Forward(proposals))
}

fn forward_refused(fields: &mut Fields<'_>) -> Result<PeerMessage, DecodeError> {
    let reason = match fields.u8()? {
        0 => ForwardRefusal::NotLeader,
        1 => ForwardRefusal::Busy,
        2 => ForwardRefusal::NoSpace,
        other => return Err(DecodeError::Choice(other)),
    };
    fields.zero(3)?;
    let count = fields.count()?;
    let process = fields.u64()?;
    let mut sequences = Vec::with_capacity(count.min(fields.0.len() / 8));
    for _ in 0..count {
        sequences.push(fields.u64()?);
    }
    Ok(PeerMessage::ForwardRefused { process, sequences, reason })
}

fn read_index_response(fields: &mut Fields<'_>) -> Result<PeerMessage, DecodeError> {
    let number = fields.u64()?;
    let index = fields.index()?;
    if fields.flag()? {
        return Ok(PeerMessage::ReadIndexResponse { number, index: Some(index) });
    }
    if index != Index(0) {
        return Err(DecodeError::Reserved);
    }
    Ok(PeerMessage::ReadIndexResponse { number, index: None })
}

fn frames_response(
    group: u64,
    fields: &mut Fields<'_>,
    payloads: &mut Bytes,
) -> Result<PeerMessage, DecodeError> {
    let (first, begins, count) = (fields.position()?, fields.index()?, fields.u32()?);
    fields.zero(4)?;
    if ENTRIES_MAX < count as usize {
        return Err(DecodeError::Count(u64::from(count)));
    }
    let room = (count as usize).min(payloads.len() / jangada_entry::HEADER_BYTES);
    let mut frames: Vec<Frame> = Vec::with_capacity(room);
    let mut expected = first;
    for _ in 0..count {
        let frame = Frame::decode(payloads)?;
        let found = frame.position();
        if found.index != expected.index || (frames.is_empty() && found != first) {
            return Err(DecodeError::FrameName { expected, found });
        }
        let theirs = frame.header().group;
        if theirs != group {
            return Err(DecodeError::Group { ours: group, theirs });
        }
        expected = Position { index: found.index.next(), term: found.term };
        frames.push(frame);
    }
    Ok(PeerMessage::FramesResponse { first, begins, frames })
}

/// What is left to read of a fixed part.
pub(super) struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(DecodeError::Short)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.take::<1>()?[0])
    }

    fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.take()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    /// All that is left.
    pub(super) fn rest(&mut self) -> &[u8] {
        std::mem::take(&mut self.0)
    }

    /// Reserved bytes.
    pub(super) fn zero(&mut self, bytes: usize) -> Result<(), DecodeError> {
        for _ in 0..bytes {
            if self.u8()? != 0 {
                return Err(DecodeError::Reserved);
            }
        }
        Ok(())
    }

    /// A number that counts up from 0 or 1.
    pub(super) fn number(&mut self) -> Result<u64, DecodeError> {
        let number = self.u64()?;
        if NUMBER_MAX < number {
            return Err(DecodeError::Number(number));
        }
        Ok(number)
    }

    pub(super) fn term(&mut self) -> Result<Term, DecodeError> {
        self.number().map(Term)
    }

    pub(super) fn index(&mut self) -> Result<Index, DecodeError> {
        self.number().map(Index)
    }

    /// Bytes behind their own length, at most `max`.
    pub(super) fn bytes(&mut self, max: usize) -> Result<Bytes, DecodeError> {
        let length = self.u32()? as usize;
        if max < length {
            return Err(DecodeError::Count(length as u64));
        }
        let (taken, rest) = self.0.split_at_checked(length).ok_or(DecodeError::Short)?;
        self.0 = rest;
        Ok(Bytes::copy_from_slice(taken))
    }

    pub(super) fn position(&mut self) -> Result<Position, DecodeError> {
        Ok(Position { index: self.index()?, term: self.term()? })
    }

    /// The number of a recovery, where anything is left.
    fn recovering(&mut self) -> Result<Option<RecoveryNumber>, DecodeError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        Ok(Some(RecoveryNumber(self.u64()?)))
    }

    fn flag(&mut self) -> Result<bool, DecodeError> {
        let flag = match self.u8()? {
            0 => false,
            1 => true,
            other => return Err(DecodeError::Choice(other)),
        };
        self.zero(7)?;
        Ok(flag)
    }

    fn count(&mut self) -> Result<usize, DecodeError> {
        let count = self.u32()?;
        if PROPOSALS_MAX < count as usize {
            return Err(DecodeError::Count(u64::from(count)));
        }
        Ok(count as usize)
    }
}
