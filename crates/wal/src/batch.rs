//! The header of a batch: its bytes, and nothing else.

use bytes::Bytes;
use jangada_entry::{FRAME_BYTES_MAX, Frame, HEADER_BYTES, Kind};
use jangada_raft::{HardState, Index, NodeId, Position, Term};

use crate::layout::{Place, SECTOR, put_u32, put_u64, sectors, u32_at, u64_at};
use crate::segment::NOTE_BYTES_MAX;

/// The most entries in one batch. Its header lists them all, twice; what queued while a sync ran
/// stays far below.
pub const BATCH_ENTRIES_MAX: usize = 1 << 18;

/// The most bytes of a batch as it stands on disk. Recovery holds one batch in memory.
pub const BATCH_BYTES_MAX: u64 = 256 << 20;

const MAGIC: u32 = u32::from_le_bytes(*b"jbat");
const FIXED_BYTES: usize = 128;
const SUMMARY_BYTES: usize = 24;
const VOTE: u32 = 1;
const NOTE: u32 = 2;

const HEADER_BYTES_MAX: usize = FIXED_BYTES + NOTE_BYTES_MAX + SUMMARY_BYTES * BATCH_ENTRIES_MAX;

/// What a batch's header tells of one entry: enough to know it and to check a copy of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Summary {
    pub(crate) term: Term,
    pub(crate) length: u32,
    pub(crate) header_crc: u32,
    pub(crate) payload_crc: u32,
    /// The number of the entry's kind, also of a kind that this version does not know.
    pub(crate) kind: u8,
}

/// A batch's header, decoded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct BatchHeader {
    pub(crate) salt: u64,
    /// Where the batch stands; also where it must be found.
    pub(crate) place: Place,
    /// Numbers the batches of a log without gaps.
    pub(crate) sequence: u64,
    /// The crc of the batch before.
    pub(crate) previous_crc: u32,
    /// The crc of this header.
    pub(crate) crc: u32,
    /// Everything before this place was durable when the batch was written.
    pub(crate) durable: Place,
    pub(crate) hard_state: HardState,
    /// The entry before the batch's first.
    pub(crate) after: Position,
    pub(crate) note: Option<Bytes>,
    pub(crate) entries: Vec<Summary>,
}

impl Summary {
    pub(crate) fn of(frame: &Frame) -> Summary {
        let bytes = frame.bytes();
        Summary {
            term: frame.position().term,
            length: u32_at(bytes, 0),
            header_crc: u32_at(bytes, 4),
            payload_crc: u32_at(bytes, 8),
            kind: bytes[12],
        }
    }

    pub(crate) fn is_configuration(&self) -> bool {
        self.kind == Kind::Configuration as u8
    }
}

impl BatchHeader {
    /// The header's bytes.
    pub(crate) fn header_bytes(&self) -> u64 {
        let note = self.note.as_ref().map_or(0, Bytes::len);
        (FIXED_BYTES + note + SUMMARY_BYTES * self.entries.len()) as u64
    }

    /// Where the first frame stands, counted from the batch's first byte: right behind the header.
    pub(crate) fn frames_at(&self) -> u64 {
        self.header_bytes()
    }

    /// The bytes of all frames.
    pub(crate) fn frames_bytes(&self) -> u64 {
        self.entries.iter().map(|summary| u64::from(summary.length)).sum()
    }

    /// Where the trailer stands, counted from the batch's first byte: the next whole sector behind
    /// the frames, so that no sector holds both header and trailer.
    pub(crate) fn trailer_at(&self) -> u64 {
        sectors(self.header_bytes() + self.frames_bytes())
    }

    /// The bytes of the whole batch: header, frames, trailer and padding.
    pub(crate) fn batch_bytes(&self) -> u64 {
        self.trailer_at() + sectors(self.header_bytes())
    }

    /// The name of the batch's last entry; `after` when it has none.
    pub(crate) fn last(&self) -> Position {
        let Some(summary) = self.entries.last() else { return self.after };
        Position {
            index: Index(self.after.index.0 + self.entries.len() as u64),
            term: summary.term,
        }
    }

    /// The header's bytes; sets `crc`.
    pub(crate) fn encode(&mut self) -> Vec<u8> {
        let length = usize::try_from(self.header_bytes()).expect("headers are bounded");
        let mut bytes = Vec::with_capacity(length);
        bytes.resize(FIXED_BYTES, 0);
        put_u32(&mut bytes, 0, MAGIC);
        put_u64(&mut bytes, 8, self.salt);
        put_u64(&mut bytes, 16, self.place.segment);
        put_u64(&mut bytes, 24, self.place.offset);
        put_u64(&mut bytes, 32, self.sequence);
        put_u32(&mut bytes, 40, self.previous_crc);
        put_u32(&mut bytes, 44, self.flags());
        put_u64(&mut bytes, 48, self.batch_bytes());
        put_u32(&mut bytes, 56, u32::try_from(length).expect("headers are bounded"));
        put_u32(&mut bytes, 60, u32::try_from(self.entries.len()).expect("entries are bounded"));
        put_u64(&mut bytes, 64, self.durable.segment);
        put_u64(&mut bytes, 72, self.durable.offset);
        put_u64(&mut bytes, 80, self.hard_state.term.0);
        put_u64(&mut bytes, 88, self.hard_state.vote.unwrap_or_default().0);
        put_u64(&mut bytes, 96, self.after.index.0);
        put_u64(&mut bytes, 104, self.after.term.0);
        let note = self.note.as_deref().unwrap_or_default();
        put_u32(&mut bytes, 112, u32::try_from(note.len()).expect("notes are bounded"));
        bytes.extend_from_slice(note);
        for summary in &self.entries {
            bytes.extend_from_slice(&summary.term.0.to_le_bytes());
            bytes.extend_from_slice(&summary.length.to_le_bytes());
            bytes.extend_from_slice(&summary.header_crc.to_le_bytes());
            bytes.extend_from_slice(&summary.payload_crc.to_le_bytes());
            bytes.extend_from_slice(&[summary.kind, 0, 0, 0]);
        }
        self.crc = header_crc(&bytes);
        put_u32(&mut bytes, 4, self.crc);
        bytes
    }

    fn flags(&self) -> u32 {
        let vote = if self.hard_state.vote.is_some() { VOTE } else { 0 };
        vote | if self.note.is_some() { NOTE } else { 0 }
    }

    /// How many bytes the header that starts with `sector` takes; `None` if none starts there.
    pub(crate) fn peek(sector: &[u8]) -> Option<usize> {
        if u32_at(sector, 0) != MAGIC {
            return None;
        }
        let length = u32_at(sector, 56) as usize;
        (FIXED_BYTES..=HEADER_BYTES_MAX).contains(&length).then_some(length)
    }

    /// The salt of the header that starts with `sector`, if one does.
    pub(crate) fn salt(sector: &[u8]) -> u64 {
        u64_at(sector, 8)
    }

    /// Reads a header of the length that [`BatchHeader::peek`] gave; `None` if it is damaged.
    pub(crate) fn decode(bytes: &[u8]) -> Option<BatchHeader> {
        if bytes.len() < FIXED_BYTES || u32_at(bytes, 4) != header_crc(bytes) {
            return None;
        }
        let flags = u32_at(bytes, 44);
        let count = u32_at(bytes, 60) as usize;
        let note_bytes = u32_at(bytes, 112) as usize;
        let expected = FIXED_BYTES
            .saturating_add(note_bytes)
            .saturating_add(count.saturating_mul(SUMMARY_BYTES));
        if bytes.len() != expected || NOTE_BYTES_MAX < note_bytes || BATCH_ENTRIES_MAX < count {
            return None;
        }
        if !is_canonical(bytes, note_bytes) {
            return None;
        }
        let (note, list) = bytes[FIXED_BYTES..].split_at(note_bytes);
        let header = BatchHeader {
            salt: u64_at(bytes, 8),
            place: Place { segment: u64_at(bytes, 16), offset: u64_at(bytes, 24) },
            sequence: u64_at(bytes, 32),
            previous_crc: u32_at(bytes, 40),
            crc: u32_at(bytes, 4),
            durable: Place { segment: u64_at(bytes, 64), offset: u64_at(bytes, 72) },
            hard_state: HardState {
                term: Term(u64_at(bytes, 80)),
                vote: (flags & VOTE != 0).then(|| NodeId(u64_at(bytes, 88))),
            },
            after: Position { index: Index(u64_at(bytes, 96)), term: Term(u64_at(bytes, 104)) },
            note: (flags & NOTE != 0).then(|| Bytes::copy_from_slice(note)),
            entries: list.chunks_exact(SUMMARY_BYTES).map(summary).collect(),
        };
        header.is_sane(u64_at(bytes, 48)).then_some(header)
    }

    /// Whether the sizes and names of a header with a good crc make sense. A writer that never
    /// writes such a header and a crc that finds damage make this certain; arithmetic on foreign
    /// bytes must stay within bounds all the same.
    fn is_sane(&self, batch_bytes: u64) -> bool {
        let index_max = u64::MAX - BATCH_ENTRIES_MAX as u64 - 1;
        let length_max = u32::try_from(FRAME_BYTES_MAX).expect("frames are below 4 GiB");
        let lengths = HEADER_BYTES as u32..=length_max;
        let mut term = self.after.term;
        for summary in &self.entries {
            if summary.term < term || !lengths.contains(&summary.length) {
                return false;
            }
            term = summary.term;
        }
        self.after.index.0 <= index_max
            && self.place.offset <= u64::MAX - BATCH_BYTES_MAX
            && self.place.offset.is_multiple_of(SECTOR as u64)
            && self.batch_bytes() == batch_bytes
            && batch_bytes <= BATCH_BYTES_MAX
    }
}

/// Whether all that is unused is zero: nothing is read past what this format says.
fn is_canonical(bytes: &[u8], note_bytes: usize) -> bool {
    let flags = u32_at(bytes, 44);
    let vote = flags & VOTE != 0 || u64_at(bytes, 88) == 0;
    let note = flags & NOTE != 0 || note_bytes == 0;
    let list = &bytes[FIXED_BYTES + note_bytes..];
    flags & !(VOTE | NOTE) == 0
        && vote
        && note
        && bytes[116..FIXED_BYTES].iter().all(|byte| *byte == 0)
        && list.chunks_exact(SUMMARY_BYTES).all(|summary| summary[21..] == [0; 3])
}

fn summary(bytes: &[u8]) -> Summary {
    Summary {
        term: Term(u64_at(bytes, 0)),
        length: u32_at(bytes, 8),
        header_crc: u32_at(bytes, 12),
        payload_crc: u32_at(bytes, 16),
        kind: bytes[20],
    }
}

/// CRC-32C of a header: all of it but the checksum's own place.
fn header_crc(header: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&header[0..4]), &header[8..])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found while its fuzz target was written: what the format keeps at zero was not looked at.
    #[test]
    fn bits_that_the_format_does_not_use_are_refused() {
        let place = Place { segment: 2, offset: 1024 };
        let entry = Summary { term: Term(3), length: 64, header_crc: 1, payload_crc: 2, kind: 1 };
        let mut header = BatchHeader {
            salt: 1,
            place,
            sequence: 4,
            previous_crc: 5,
            crc: 0,
            durable: place,
            hard_state: HardState { term: Term(3), vote: None },
            after: Position::default(),
            note: None,
            entries: vec![entry],
        };
        let bytes = header.encode();
        assert_eq!(BatchHeader::decode(&bytes), Some(header));
        for at in [44, 47, 88, 116, 127, FIXED_BYTES + 21, FIXED_BYTES + 23] {
            let mut changed = bytes.clone();
            changed[at] ^= 4;
            let crc = header_crc(&changed);
            put_u32(&mut changed, 4, crc);
            assert_eq!(BatchHeader::decode(&changed), None, "byte {at}");
        }
    }
}
