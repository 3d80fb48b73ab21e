//! The chunks of a snapshot: what travels from a member's store to another's.
//!
//! Responsible for the bytes of a chunk (`docs/store-format.md`): each says what it is, which row it
//! follows and as of which log index its rows were read, and ends with a checksum over all of it.
//! Not responsible for reading rows or for storing them.
//!
//! Invariants:
//! 1. Decoding never panics and allocates no more than a constant times the chunk's length.
//! 2. Rows ascend within a chunk, and the first stands behind the one that the chunk follows.
//! 3. Each row passes its own checksum: damage does not travel.

use std::ops::Range;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::auth::Auth;
use crate::command::{Alarm, AlarmKind, decode_member, member_body};
use crate::engine::Meta;
use crate::lease::{Lease, LeaseName};
use crate::row::{RowKey, decode_message, unseal};
use crate::tally::Tally;

/// The version of the chunks, and of the rows in them.
const FORMAT: u8 = 1;

const KIND_ROWS: u8 = 1;
const KIND_END: u8 = 2;
const KIND_LEASES: u8 = 3;

/// Id, the index that granted it, seconds granted, seconds that remain.
const LEASE_BYTES: usize = 32;

/// Format, kind, the length of the row key that is followed, zero; a number of rows; the state.
const HEADER_BYTES: usize = 8 + STATE_BYTES;

/// An index, two revisions, a number of rows and a sum.
const STATE_BYTES: usize = 40;

const CRC_BYTES: usize = 4;

/// What a row costs beside its key and its sealed value.
const ROW_HEADER_BYTES: usize = 5;

/// What stands for a revision that there is not.
const NONE: i64 = -1;

/// A chunk that was read.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    /// The state that it was read from.
    pub(crate) state: State,
    /// The row that it follows; `None` at the beginning.
    pub(crate) after: Option<RowKey>,
    pub(crate) content: Content,
}

/// What is to be known of a state to tell whether rows of another one fit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct State {
    /// The log index as of which it is.
    pub(crate) applied: u64,
    /// The last compaction asked for.
    pub(crate) scheduled: Option<i64>,
    /// The last compaction whose rows are all removed.
    pub(crate) finished: Option<i64>,
    /// What its rows come to: between two states of one index a compaction may have removed some.
    pub(crate) tally: Tally,
}

/// What a chunk brings.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Rows(Rows),
    /// No row follows. Leases, in the order of their ids.
    Leases {
        /// How many stood in the chunks before.
        before: usize,
        leases: Vec<Lease>,
    },
    /// Nothing follows; what stands beside rows and leases.
    End {
        meta: Box<Meta>,
        /// How many leases the state has.
        leases: usize,
    },
}

/// Rows, in the order of their revisions.
#[derive(Clone, Debug)]
pub(crate) struct Rows {
    bytes: Bytes,
    rows: Vec<(RowKey, Range<usize>)>,
}

/// Why bytes are not a chunk, or not this stream's next one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChunkError {
    /// The bytes end inside the chunk, or go on behind it.
    Length,
    /// The checksum does not match.
    Checksum,
    /// A format that this build does not know.
    Format(u8),
    /// A field has no meaning.
    Field,
    /// A row is damaged or out of order.
    Row,
}

impl std::fmt::Display for ChunkError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ChunkError::Length => write!(f, "the chunk is cut short or followed by stray bytes"),
            ChunkError::Checksum => write!(f, "the chunk's checksum does not match"),
            ChunkError::Format(format) => write!(
                f,
                "the chunk has format {format}, this build knows {FORMAT}; run a build that knows \
                 it"
            ),
            ChunkError::Field => write!(f, "the chunk contains a field without a meaning"),
            ChunkError::Row => write!(f, "the chunk contains a row that is damaged or misplaced"),
        }
    }
}

impl std::error::Error for ChunkError {}

/// Collects rows until they fill a chunk.
pub(crate) struct Filling {
    buffer: BytesMut,
    rows: u32,
}

impl Filling {
    /// An empty chunk at a place.
    pub(crate) fn new(place: Place) -> Filling {
        let mut buffer = BytesMut::new();
        header(&mut buffer, KIND_ROWS, place);
        Filling { buffer, rows: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Whether a row fits without going beyond `bytes_max`. The first one always does.
    pub(crate) fn has_room_for(&self, row_key: &[u8], sealed: &[u8], bytes_max: usize) -> bool {
        let row = ROW_HEADER_BYTES + row_key.len() + sealed.len();
        self.is_empty() || self.buffer.len() + row + CRC_BYTES <= bytes_max
    }

    /// Takes a row.
    pub(crate) fn push(&mut self, row_key: &[u8], sealed: &[u8]) {
        self.rows += 1;
        self.buffer.put_u8(row_key.len() as u8);
        self.buffer.put_u32_le(sealed.len() as u32);
        self.buffer.put_slice(row_key);
        self.buffer.put_slice(sealed);
    }

    /// The chunk.
    pub(crate) fn finish(mut self) -> Bytes {
        self.buffer[4..8].copy_from_slice(&self.rows.to_le_bytes());
        seal(self.buffer)
    }
}

/// How many leases a chunk of so many bytes holds; one at least.
pub(crate) fn leases_max(bytes_max: usize) -> usize {
    let head = HEADER_BYTES + crate::row::ROW_KEY_BYTES + 1 + size_of::<u32>() + CRC_BYTES;
    (bytes_max.saturating_sub(head) / LEASE_BYTES).max(1)
}

/// A chunk of leases, behind the rows and so many other leases.
pub(crate) fn leases(place: Place, before: usize, leases: &[Lease]) -> Bytes {
    let mut buffer = BytesMut::new();
    header(&mut buffer, KIND_LEASES, place);
    buffer[4..8].copy_from_slice(&(leases.len() as u32).to_le_bytes());
    buffer.put_u32_le(before as u32);
    for lease in leases {
        buffer.put_i64_le(lease.name.id);
        buffer.put_u64_le(lease.name.granted);
        buffer.put_i64_le(lease.ttl);
        buffer.put_i64_le(lease.remaining);
    }
    seal(buffer)
}

/// The last chunk: what stands beside rows and leases.
pub(crate) fn end(meta: &Meta, after: Option<RowKey>) -> Bytes {
    let mut buffer = BytesMut::new();
    header(&mut buffer, KIND_END, Place { state: State::of(meta), after });
    buffer.put_i64_le(meta.revision);
    buffer.put_u32_le(meta.record.len() as u32);
    buffer.put_slice(&meta.record);
    buffer.put_u32_le(meta.members.len() as u32);
    for member in &meta.members {
        let mut row = BytesMut::new();
        member_body(&mut row, member);
        buffer.put_u32_le(row.len() as u32);
        buffer.put_slice(&row);
    }
    buffer.put_u32_le(meta.alarms.len() as u32);
    for alarm in &meta.alarms {
        buffer.put_u8(alarm.kind as u8);
        buffer.put_u64_le(alarm.member);
    }
    buffer.put_u32_le(meta.leases.len() as u32);
    let rows = meta.auth.rows().map(|note| (note.row_key(), note.row().unwrap_or_default()));
    let rows: Vec<_> = rows.collect();
    buffer.put_u32_le(rows.len() as u32);
    for bytes in rows.iter().flat_map(|(row_key, row)| [row_key, row]) {
        buffer.put_u32_le(bytes.len() as u32);
        buffer.put_slice(bytes);
    }
    seal(buffer)
}

fn header(buffer: &mut BytesMut, kind: u8, place: Place) {
    let after = place.after.as_ref().map(RowKey::as_bytes).unwrap_or_default();
    buffer.put_slice(&[FORMAT, kind, after.len() as u8, 0]);
    buffer.put_u32_le(0);
    place.state.encode(buffer);
    buffer.put_slice(after);
}

fn seal(mut buffer: BytesMut) -> Bytes {
    let crc = crc32c::crc32c(&buffer);
    buffer.put_u32_le(crc);
    buffer.freeze()
}

/// Reads a chunk. Its rows share the chunk's memory.
pub(crate) fn decode(bytes: &Bytes) -> Result<Chunk, ChunkError> {
    let length = bytes.len().checked_sub(CRC_BYTES).ok_or(ChunkError::Length)?;
    let body = bytes.slice(..length);
    if crc32c::crc32c(&body).to_le_bytes() != bytes[length..] {
        return Err(ChunkError::Checksum);
    }
    let mut rest = &body[..];
    let head = take(&mut rest, HEADER_BYTES)?;
    let (format, kind, after, zero) = (head[0], head[1], usize::from(head[2]), head[3]);
    if format != FORMAT {
        return Err(ChunkError::Format(format));
    }
    let count = u32::from_le_bytes(head[4..8].try_into().expect("four bytes"));
    let state = State::decode(&head[8..]).ok_or(ChunkError::Field)?;
    let after = match after {
        0 => None,
        length => Some(row_key(take(&mut rest, length)?)?),
    };
    let content = match (kind, count, zero) {
        (KIND_ROWS, 1.., 0) => {
            let offset = body.len() - rest.len();
            Content::Rows(decode_rows(&body, offset, count, after)?)
        }
        (KIND_LEASES, 1.., 0) => decode_leases(rest, count)?,
        (KIND_END, 0, 0) => decode_end(rest, state)?,
        _ => return Err(ChunkError::Field),
    };
    Ok(Chunk { state, after, content })
}

fn row_key(bytes: &[u8]) -> Result<RowKey, ChunkError> {
    let (revision, tombstone) = RowKey::decode(bytes).map_err(|_| ChunkError::Row)?;
    Ok(RowKey::new(revision, tombstone))
}

fn decode_rows(
    body: &Bytes,
    offset: usize,
    count: u32,
    after: Option<RowKey>,
) -> Result<Rows, ChunkError> {
    let (mut rest, mut last, mut rows) = (&body[offset..], after, Vec::new());
    for _ in 0..count {
        let head = take(&mut rest, ROW_HEADER_BYTES)?;
        let key_length = usize::from(head[0]);
        let length = u32::from_le_bytes(head[1..5].try_into().expect("four bytes")) as usize;
        let key = row_key(take(&mut rest, key_length)?)?;
        let start = body.len() - rest.len();
        let sealed = take(&mut rest, length)?;
        if last.is_some_and(|last| key.order() <= last.order()) {
            return Err(ChunkError::Row);
        }
        let row = unseal(key.as_bytes(), sealed).and_then(decode_message);
        row.map_err(|_| ChunkError::Row)?;
        rows.push((key, start..start + length));
        last = Some(key);
    }
    if !rest.is_empty() {
        return Err(ChunkError::Length);
    }
    Ok(Rows { bytes: body.clone(), rows })
}

fn decode_leases(mut rest: &[u8], count: u32) -> Result<Content, ChunkError> {
    let before = number(&mut rest)? as usize;
    let mut leases: Vec<Lease> = Vec::new();
    for _ in 0..count {
        let mut bytes = take(&mut rest, LEASE_BYTES)?;
        let name = LeaseName { id: bytes.get_i64_le(), granted: bytes.get_u64_le() };
        let lease = Lease { name, ttl: bytes.get_i64_le(), remaining: bytes.get_i64_le() };
        let sound = (1..=lease.ttl).contains(&lease.remaining) && name.id != 0;
        if !sound || leases.last().is_some_and(|last| name.id <= last.name.id) {
            return Err(ChunkError::Field);
        }
        leases.push(lease);
    }
    if rest.is_empty() { Ok(Content::Leases { before, leases }) } else { Err(ChunkError::Length) }
}

fn decode_end(mut rest: &[u8], state: State) -> Result<Content, ChunkError> {
    let revision = take(&mut rest, 8)?.get_i64_le();
    let record = Bytes::copy_from_slice(field(&mut rest)?);
    let mut meta = Meta {
        commits: 0,
        applied: state.applied,
        record,
        revision,
        compact_scheduled: state.scheduled,
        compact_finished: state.finished,
        tally: state.tally,
        members: Vec::new(),
        alarms: Vec::new(),
        leases: Vec::new(),
        auth: Auth::default(),
    };
    for _ in 0..number(&mut rest)? {
        let member = decode_member(field(&mut rest)?).map_err(|_| ChunkError::Field)?;
        meta.members.push(member);
    }
    for _ in 0..number(&mut rest)? {
        let mut alarm = take(&mut rest, 9)?;
        let kind = AlarmKind::of(alarm.get_u8()).map_err(|_| ChunkError::Field)?;
        meta.alarms.push(Alarm { kind, member: alarm.get_u64_le() });
    }
    let leases = number(&mut rest)? as usize;
    let mut rows = Vec::new();
    for _ in 0..number(&mut rest)? {
        rows.push((field(&mut rest)?, field(&mut rest)?));
    }
    meta.auth = Auth::of_rows(rows).map_err(|_| ChunkError::Field)?;
    if revision <= 0 || Some(revision) < meta.compact_scheduled {
        return Err(ChunkError::Field);
    }
    if !rest.is_empty() {
        return Err(ChunkError::Length);
    }
    Ok(Content::End { meta: Box::new(meta), leases })
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], ChunkError> {
    let (taken, left) = rest.split_at_checked(length).ok_or(ChunkError::Length)?;
    *rest = left;
    Ok(taken)
}

fn number(rest: &mut &[u8]) -> Result<u32, ChunkError> {
    let bytes = take(rest, 4)?;
    Ok(u32::from_le_bytes(bytes.try_into().expect("four bytes")))
}

fn field<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], ChunkError> {
    let length = number(rest)? as usize;
    take(rest, length)
}

impl Rows {
    /// The rows' keys and sealed values.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (RowKey, &[u8])> {
        self.rows.iter().map(|(row_key, place)| (*row_key, &self.bytes[place.clone()]))
    }

    /// The last row's key.
    pub(crate) fn last(&self) -> RowKey {
        self.rows.last().expect("chunk: rows are at least one").0
    }

    /// The bytes that they occupy.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

/// Where a stream of chunks stands: behind a row, in a state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Place {
    pub(crate) state: State,
    pub(crate) after: Option<RowKey>,
}

impl State {
    /// The state that these notes are of.
    pub(crate) fn of(meta: &Meta) -> State {
        State {
            applied: meta.applied,
            scheduled: meta.compact_scheduled,
            finished: meta.compact_finished,
            tally: meta.tally,
        }
    }

    fn encode(&self, buffer: &mut BytesMut) {
        buffer.put_u64_le(self.applied);
        buffer.put_i64_le(self.scheduled.unwrap_or(NONE));
        buffer.put_i64_le(self.finished.unwrap_or(NONE));
        buffer.put_u64_le(self.tally.rows);
        buffer.put_u64_le(self.tally.sum);
    }

    /// Reads a state; `None` if there cannot be such a one.
    fn decode(bytes: &[u8]) -> Option<State> {
        let mut bytes = bytes.get(..STATE_BYTES)?;
        let applied = bytes.get_u64_le();
        let mut revision = || match bytes.get_i64_le() {
            NONE => Some(None),
            revision @ 0.. => Some(Some(revision)),
            _ => None,
        };
        let (scheduled, finished) = (revision()?, revision()?);
        let tally = Tally { rows: bytes.get_u64_le(), sum: bytes.get_u64_le() };
        let sound = 0 < applied && finished <= scheduled;
        sound.then_some(State { applied, scheduled, finished, tally })
    }
}

impl Place {
    /// Whether what was read up to here goes on in a state.
    ///
    /// Rows never change, and none is added at a revision that is past. But a compaction removes
    /// some, and with them the trace of a deletion:
    ///
    /// ```text
    ///   rows of a key        10: put      50: deleted      compaction at 60
    ///   read up to 40        10: put
    ///   read on in a state behind the compaction:          neither 10 nor 50 is there
    /// ```
    ///
    /// The put at 10 would stay for ever. So all that the compaction judges must have been read, or
    /// nothing may have been removed since.
    pub(crate) fn goes_on_in(&self, state: &State) -> bool {
        let Some(after) = &self.after else {
            return true;
        };
        let (read, _) =
            RowKey::decode(after.as_bytes()).expect("row: a key is what it was made as");
        let within = state.scheduled <= Some(read.main);
        let untouched =
            self.state.finished == state.scheduled || canon!(stream_goes_on_behind_a_compaction);
        self.state.applied <= state.applied && (within || untouched)
    }

    /// The place as bytes, for whoever serves the stream; none at the beginning.
    pub(crate) fn encode(&self) -> Bytes {
        let mut buffer = BytesMut::new();
        if let Some(after) = &self.after {
            self.state.encode(&mut buffer);
            buffer.put_slice(after.as_bytes());
        }
        buffer.freeze()
    }

    /// Reads what [`Place::encode`] wrote.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Place> {
        if bytes.is_empty() {
            return Some(Place::default());
        }
        let (state, after) = bytes.split_at_checked(STATE_BYTES)?;
        Some(Place { state: State::decode(state)?, after: Some(row_key(after).ok()?) })
    }
}
