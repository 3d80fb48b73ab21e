//! Entry points for fuzzing: what has no way in from outside, and what must hold of it. Not part of
//! the crate's interface; only built for the package `jangada-fuzz`.

use bytes::Bytes;
use jangada_raft::{Configuration, HardState, NodeId, Position};

use crate::batch::{BATCH_BYTES_MAX, BATCH_ENTRIES_MAX, BatchHeader, Summary};
use crate::layout::{Place, SECTOR, sectors, u32_at};
use crate::options::Identity;
use crate::segment::{HeaderFault, NOTE_BYTES_MAX, SegmentHeader};

/// Reads `bytes` as a segment's header, as recovery would: how long it is from its first sector,
/// then all of it. Answers whether it is sound.
///
/// # Panics
/// If what is taken for sound would not be written as it stands.
#[must_use]
pub fn check_segment_header(bytes: &[u8]) -> bool {
    let Some(length) = first_sector(bytes).and_then(|sector| SegmentHeader::peek(&sector)) else {
        return false;
    };
    let Some(bytes) = bytes.get(..length) else { return false };
    let header = match SegmentHeader::decode(bytes) {
        Ok(header) => header,
        Err(HeaderFault::Bad | HeaderFault::Format(_)) => return false,
    };
    assert!(header.encode() == bytes, "a segment's header has one encoding");
    assert!(header.note.len() <= NOTE_BYTES_MAX, "notes are bounded");
    let opening = header.opening();
    assert_eq!(opening.len() as u64, header.opening_bytes(), "the first batch follows the opening");
    assert_eq!(opening.len() as u64, 2 * sectors(length as u64), "the header stands there twice");
    true
}

/// Reads `bytes` as a batch's header, as recovery would. Answers whether it is sound.
///
/// # Panics
/// If what is taken for sound would not be written as it stands, or exceeds a limit.
#[must_use]
pub fn check_batch_header(bytes: &[u8]) -> bool {
    let Some(length) = first_sector(bytes).and_then(|sector| BatchHeader::peek(&sector)) else {
        return false;
    };
    let Some(bytes) = bytes.get(..length) else { return false };
    let Some(mut header) = BatchHeader::decode(bytes) else { return false };
    let again = header.clone();
    assert!(header.encode() == bytes, "a batch's header has one encoding");
    assert!(header == again, "encoding changes nothing");
    assert!(header.entries.len() <= BATCH_ENTRIES_MAX, "entries are bounded");
    assert!(header.batch_bytes() <= BATCH_BYTES_MAX, "batches are bounded");
    assert_eq!(header.header_bytes(), length as u64);
    let end = header.place.offset.checked_add(header.batch_bytes()).expect("places are bounded");
    assert!(end.is_multiple_of(SECTOR as u64), "the next batch starts on a sector");
    assert!(header.header_bytes() <= header.trailer_at(), "no sector holds header and trailer");
    let last = header.last();
    let count = last.index.0.checked_sub(header.after.index.0).expect("indexes rise");
    assert_eq!(count, header.entries.len() as u64);
    assert!(header.after.term <= last.term, "terms never fall");
    true
}

/// Makes the checksums of every header in a segment's file good: at each sector where the magic of
/// one stands, as far as the length it names makes sense.
pub fn seal(contents: &mut [u8]) {
    for at in (0..contents.len()).step_by(SECTOR) {
        let rest = &mut contents[at..];
        let Some(sector) = first_sector(rest) else { return };
        if let Some(length) = SegmentHeader::peek(&sector).filter(|length| *length <= rest.len()) {
            let crc = crc32c::crc32c(&rest[12..length]);
            rest[8..12].copy_from_slice(&crc.to_le_bytes());
        }
        if let Some(length) = BatchHeader::peek(&sector).filter(|length| *length <= rest.len()) {
            let crc = crc32c::crc32c_append(crc32c::crc32c(&rest[..4]), &rest[8..length]);
            rest[4..8].copy_from_slice(&crc.to_le_bytes());
        }
    }
}

/// The length that a header at the beginning of `bytes` names, of whichever kind it is.
#[must_use]
pub fn header_bytes(bytes: &[u8]) -> Option<usize> {
    let sector = first_sector(bytes)?;
    SegmentHeader::peek(&sector).or_else(|| BatchHeader::peek(&sector))
}

/// Sound headers: of a segment, and of a batch.
#[must_use]
pub fn headers(
    configuration: Configuration,
    note: Bytes,
    entries: &[jangada_entry::Frame],
) -> [Vec<u8>; 2] {
    let hard_state = HardState { term: jangada_raft::Term(3), vote: Some(NodeId(1)) };
    let segment = SegmentHeader {
        salt: 11,
        number: 2,
        identity: Identity { cluster: 0xc, member: 1, incarnation: 9, group: 7 },
        hard_state,
        start: Position::default(),
        previous_end: 4096,
        sequence: 5,
        previous_crc: 77,
        capacity: 8192,
        configuration,
        note: note.clone(),
        recovering: false,
    };
    let place = Place { segment: 2, offset: segment.opening_bytes() };
    let mut batch = BatchHeader {
        salt: 11,
        place,
        sequence: 5,
        previous_crc: 77,
        crc: 0,
        durable: place,
        hard_state,
        after: Position::default(),
        note: Some(note),
        entries: entries.iter().map(Summary::of).collect(),
    };
    [segment.encode(), batch.encode()]
}

/// The first sector, filled up with zeros where there are fewer bytes; `None` of nothing.
fn first_sector(bytes: &[u8]) -> Option<[u8; SECTOR]> {
    let mut sector = [0; SECTOR];
    let there = bytes.len().min(SECTOR);
    sector[..there].copy_from_slice(&bytes[..there]);
    // A length that is named is only believed where it stands.
    (0 < there && u32_at(&sector, 0) != 0).then_some(sector)
}
