//! The header of a segment: its bytes, and nothing else.

use bytes::Bytes;
use jangada_entry::{
    ADDRESS_BYTES_MAX, CONFIGURATION_MEMBERS_MAX, MEMBER_ADDRESSES_MAX, decode_configuration,
    encode_configuration,
};
use jangada_raft::{Configuration, HardState, Index, NodeId, Position, Term};

use crate::layout::{SECTOR, put_u32, put_u64, sectors, u32_at, u64_at};
use crate::options::Identity;

/// The most bytes of the member's note. A note names the peers' incarnations, 16 bytes each, and
/// stands in every segment's header twice.
pub const NOTE_BYTES_MAX: usize = 16 << 10;

/// The newest version of the format. What is written under a higher number is not read. A header that
/// says nothing which version 1 cannot say is of version 1, so that each has one encoding.
pub(crate) const FORMAT_VERSION: u32 = 2;

const MAGIC: [u8; 8] = *b"jangada\0";
const FIXED_BYTES: usize = 144;
const VOTE: u32 = 1;
const RECOVERING: u32 = 2;

/// The most bytes of a configuration: four full lists, and every member with all its addresses.
const CONFIGURATION_BYTES_MAX: usize = 12
    + 4 * 8 * CONFIGURATION_MEMBERS_MAX
    + CONFIGURATION_MEMBERS_MAX * (10 + MEMBER_ADDRESSES_MAX * (2 + ADDRESS_BYTES_MAX));

/// The most bytes of a header: the fixed fields, a full configuration, a full note.
const HEADER_BYTES_MAX: usize = FIXED_BYTES + CONFIGURATION_BYTES_MAX + NOTE_BYTES_MAX;

/// The most sectors of a header.
pub(crate) const HEADER_SECTORS_MAX: u64 = HEADER_BYTES_MAX.div_ceil(SECTOR) as u64;

/// A segment's header, decoded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SegmentHeader {
    /// Random; every batch of the segment carries it.
    pub(crate) salt: u64,
    pub(crate) number: u64,
    pub(crate) identity: Identity,
    /// In force as of the segment's first batch.
    pub(crate) hard_state: HardState,
    /// The entry behind which the segment's entries follow. What earlier segments hold behind it
    /// is dropped.
    pub(crate) start: Position,
    /// Where the segment before ends: what stands there from this byte on does not count.
    pub(crate) previous_end: u64,
    /// The number of the segment's first batch.
    pub(crate) sequence: u64,
    /// The crc of the batch before the first.
    pub(crate) previous_crc: u32,
    /// The length of the file, all of which was durable before the segment was begun. A shorter
    /// file has lost something.
    pub(crate) capacity: u64,
    /// In force as of `start`.
    pub(crate) configuration: Configuration,
    /// In force as of the segment's first batch.
    pub(crate) note: Bytes,
    /// Entries that were durable may be gone without a trace; in force until a later segment says
    /// otherwise.
    pub(crate) recovering: bool,
}

/// Why bytes are not a segment's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum HeaderFault {
    /// Not a header, or a damaged one.
    Bad,
    /// A sound header of another format.
    Format(u32),
}

impl SegmentHeader {
    /// The header's bytes, once, without padding.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let configuration = encode_configuration(&self.configuration);
        assert!(self.note.len() <= NOTE_BYTES_MAX, "the note is checked when it is given");
        let mut bytes = vec![0; FIXED_BYTES];
        bytes[0..8].copy_from_slice(&MAGIC);
        let length = FIXED_BYTES + configuration.len() + self.note.len();
        put_u32(&mut bytes, 12, u32::try_from(length).expect("headers are small"));
        put_u32(&mut bytes, 16, self.version());
        let vote = if self.hard_state.vote.is_some() { VOTE } else { 0 };
        put_u32(&mut bytes, 20, vote | if self.recovering { RECOVERING } else { 0 });
        put_u64(&mut bytes, 24, self.salt);
        put_u64(&mut bytes, 32, self.number);
        put_u64(&mut bytes, 40, self.identity.cluster);
        put_u64(&mut bytes, 48, self.identity.member);
        put_u64(&mut bytes, 56, self.identity.incarnation);
        put_u64(&mut bytes, 64, self.identity.group);
        put_u64(&mut bytes, 72, self.hard_state.term.0);
        put_u64(&mut bytes, 80, self.hard_state.vote.unwrap_or_default().0);
        put_u64(&mut bytes, 88, self.start.index.0);
        put_u64(&mut bytes, 96, self.start.term.0);
        put_u64(&mut bytes, 104, self.previous_end);
        put_u64(&mut bytes, 112, self.sequence);
        put_u32(&mut bytes, 120, self.previous_crc);
        put_u32(&mut bytes, 124, u32::try_from(configuration.len()).expect("it is bounded"));
        put_u32(&mut bytes, 128, u32::try_from(self.note.len()).expect("it is bounded"));
        put_u64(&mut bytes, 136, self.capacity);
        bytes.extend_from_slice(&configuration);
        bytes.extend_from_slice(&self.note);
        let crc = crc32c::crc32c(&bytes[12..]);
        put_u32(&mut bytes, 8, crc);
        bytes
    }

    /// The version of the format that can say it.
    fn version(&self) -> u32 {
        let Configuration { target, addresses, forced, .. } = &self.configuration;
        let is_plain = !self.recovering && target.is_empty() && addresses.is_empty() && !forced;
        if is_plain { 1 } else { FORMAT_VERSION }
    }

    /// The header as it stands at the beginning of a segment: twice, each in sectors of its own.
    pub(crate) fn opening(&self) -> Vec<u8> {
        let mut bytes = self.encode();
        bytes.resize(usize::try_from(sectors(bytes.len() as u64)).expect("it is bounded"), 0);
        bytes.extend_from_within(..);
        bytes
    }

    /// The number of bytes [`SegmentHeader::opening`] takes: where the first batch starts.
    pub(crate) fn opening_bytes(&self) -> u64 {
        let configuration = encode_configuration(&self.configuration).len();
        2 * sectors((FIXED_BYTES + configuration + self.note.len()) as u64)
    }

    /// How many bytes the header that starts with `sector` takes; `None` if none starts there.
    pub(crate) fn peek(sector: &[u8]) -> Option<usize> {
        if sector[..8] != MAGIC {
            return None;
        }
        let length = u32_at(sector, 12) as usize;
        (FIXED_BYTES..=HEADER_BYTES_MAX).contains(&length).then_some(length)
    }

    /// Reads a header of the length that [`SegmentHeader::peek`] gave.
    pub(crate) fn decode(bytes: &[u8]) -> Result<SegmentHeader, HeaderFault> {
        if bytes.len() < FIXED_BYTES || u32_at(bytes, 8) != crc32c::crc32c(&bytes[12..]) {
            return Err(HeaderFault::Bad);
        }
        let version = u32_at(bytes, 16);
        if !(1..=FORMAT_VERSION).contains(&version) {
            return Err(HeaderFault::Format(version));
        }
        let configuration_bytes = u32_at(bytes, 124) as usize;
        let note_bytes = u32_at(bytes, 128) as usize;
        if NOTE_BYTES_MAX < note_bytes
            || FIXED_BYTES.saturating_add(configuration_bytes).saturating_add(note_bytes)
                != bytes.len()
        {
            return Err(HeaderFault::Bad);
        }
        if !is_canonical(bytes) {
            return Err(HeaderFault::Bad);
        }
        let (configuration, note) = bytes[FIXED_BYTES..].split_at(configuration_bytes);
        let configuration = decode_configuration(configuration).map_err(|_| HeaderFault::Bad)?;
        let vote = (u32_at(bytes, 20) & VOTE != 0).then(|| NodeId(u64_at(bytes, 80)));
        let header = SegmentHeader {
            salt: u64_at(bytes, 24),
            number: u64_at(bytes, 32),
            identity: Identity {
                cluster: u64_at(bytes, 40),
                member: u64_at(bytes, 48),
                incarnation: u64_at(bytes, 56),
                group: u64_at(bytes, 64),
            },
            hard_state: HardState { term: Term(u64_at(bytes, 72)), vote },
            start: Position { index: Index(u64_at(bytes, 88)), term: Term(u64_at(bytes, 96)) },
            previous_end: u64_at(bytes, 104),
            sequence: u64_at(bytes, 112),
            previous_crc: u32_at(bytes, 120),
            capacity: u64_at(bytes, 136),
            configuration,
            note: Bytes::copy_from_slice(note),
            recovering: u32_at(bytes, 20) & RECOVERING != 0,
        };
        if header.version() == version { Ok(header) } else { Err(HeaderFault::Bad) }
    }
}

/// Whether all that is unused is zero: nothing is read past what this format says.
fn is_canonical(bytes: &[u8]) -> bool {
    let flags = u32_at(bytes, 20);
    let vote = flags & VOTE != 0 || u64_at(bytes, 80) == 0;
    flags & !(VOTE | RECOVERING) == 0 && vote && u32_at(bytes, 132) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found while its fuzz target was written: what the format keeps at zero was not looked at.
    #[test]
    fn bits_that_the_format_does_not_use_are_refused() {
        let header = SegmentHeader {
            salt: 1,
            number: 2,
            identity: Identity::default(),
            hard_state: HardState { term: Term(3), vote: None },
            start: Position::default(),
            previous_end: 0,
            sequence: 4,
            previous_crc: 5,
            capacity: 4096,
            configuration: Configuration::default(),
            note: Bytes::from_static(b"note"),
            recovering: false,
        };
        let bytes = header.encode();
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
        for at in [20, 23, 80, 132, 135] {
            let mut changed = bytes.clone();
            changed[at] ^= 2;
            let crc = crc32c::crc32c(&changed[12..]);
            changed[8..12].copy_from_slice(&crc.to_le_bytes());
            assert_eq!(SegmentHeader::decode(&changed), Err(HeaderFault::Bad), "byte {at}");
        }
    }
}
