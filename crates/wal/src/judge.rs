//! Looks at the place where a batch is expected, and tells what is there.
//!
//! Not responsible for what follows from it: that is the table's.

use jangada_entry::{FrameError, HEADER_BYTES, Header, decode_configuration};
use jangada_raft::{Configuration, Index, Position, canon};

use crate::batch::{BatchHeader, Summary};
use crate::disk::File;
use crate::layout::{Place, SECTOR, sectors, u32_at};
use crate::segment::{HEADER_SECTORS_MAX, HeaderFault, SegmentHeader};
use crate::window::Window;

/// What a batch must say to belong where it stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    pub(crate) salt: u64,
    pub(crate) place: Place,
    pub(crate) sequence: u64,
    pub(crate) previous_crc: u32,
    pub(crate) group: u64,
    /// Where the batches of the segment end.
    pub(crate) limit: u64,
}

/// What stands where a batch is expected.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) header_good: bool,
    pub(crate) trailer_good: bool,
    /// The header or its copy, where one is sound, and where that stands.
    pub(crate) list: Option<(BatchHeader, u64)>,
    pub(crate) frames: Frames,
    pub(crate) blank: bool,
    /// A later batch of the same segment states that this place was durable, or the file has lost
    /// its end.
    pub(crate) stated: bool,
}

/// What was found of a batch's frames.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    /// The damaged ones.
    pub(crate) bad: Vec<Position>,
    /// Whether a configuration is among them.
    pub(crate) configuration_bad: bool,
    /// A frame that is sound and cannot be understood.
    pub(crate) unknown: Option<(Index, u8)>,
    /// The configurations among the sound ones.
    pub(crate) configurations: Vec<(Index, Configuration)>,
    /// Whether a whole sector of a damaged one is zeros.
    blank: bool,
}

/// One frame as it is found.
pub(crate) enum Found {
    Good(Header),
    Bad,
    /// Sound, and of a kind that this version does not know.
    Unknown(u8),
}

impl Found {
    /// The header of a sound frame of a known kind.
    pub(crate) fn good(&self) -> Option<Header> {
        match self {
            Found::Good(header) => Some(*header),
            Found::Bad | Found::Unknown(_) => None,
        }
    }

    pub(crate) fn is_bad(&self) -> bool {
        matches!(self, Found::Bad)
    }
}

impl Expected {
    fn fits(&self, header: &BatchHeader) -> bool {
        if canon!(old_bytes_of_a_recycled_segment_pass) {
            return header.place.offset == self.place.offset;
        }
        header.salt == self.salt
            && header.place == self.place
            && header.sequence == self.sequence
            && header.previous_crc == self.previous_crc
            && header.place.offset + header.batch_bytes() <= self.limit
    }
}

/// The sound batch header at `offset`, whatever it belongs to.
pub(crate) fn record_at<F: File>(window: &mut Window<'_, F>, offset: u64) -> Option<BatchHeader> {
    let bytes = BatchHeader::peek(window.sector(offset)?)?;
    BatchHeader::decode(window.bytes(offset, bytes as u64)?)
}

/// The segment header at the beginning of the file, from either copy.
pub(crate) fn segment_header<F: File>(
    window: &mut Window<'_, F>,
) -> Result<SegmentHeader, HeaderFault> {
    let mut fault = HeaderFault::Bad;
    for sector in 0..=HEADER_SECTORS_MAX {
        let offset = sector * SECTOR as u64;
        let Some(bytes) = window.sector(offset).and_then(SegmentHeader::peek) else { continue };
        let belongs = offset == 0 || sectors(bytes as u64) == offset;
        let Some(bytes) = window.bytes(offset, bytes as u64).filter(|_| belongs) else { continue };
        match SegmentHeader::decode(bytes) {
            Ok(header) => return Ok(header),
            Err(HeaderFault::Bad) => {}
            Err(other) => fault = other,
        }
    }
    Err(fault)
}

/// Looks at the place where a batch is expected.
pub(crate) fn judge<F: File>(
    window: &mut Window<'_, F>,
    expected: &Expected,
    capacity: u64,
) -> Judged {
    let offset = expected.place.offset;
    let header = record_at(window, offset).filter(|header| expected.fits(header));
    if let Some(header) = header {
        let trailer = record_at(window, offset + header.trailer_at());
        let trailer_good = trailer.as_ref() == Some(&header);
        let frames = check_frames(window, &header, expected.group);
        let stated =
            !frames.bad.is_empty() && (window.length() < capacity || scan(window, expected).1);
        let blank = frames.blank;
        let list = Some((header, offset));
        return Judged { header_good: true, trailer_good, list, frames, blank, stated };
    }
    let (trailer, stated) = scan(window, expected);
    let stated = stated || window.length() < capacity;
    let Some((header, at)) = trailer else {
        let blank = window.is_blank(offset);
        let frames = Frames::default();
        let (header_good, trailer_good) = (false, false);
        return Judged { header_good, trailer_good, list: None, frames, blank, stated };
    };
    let frames = check_frames(window, &header, expected.group);
    let blank = frames.blank;
    let list = Some((header, at));
    Judged { header_good: false, trailer_good: true, list, frames, blank, stated }
}

/// Looks through the rest of the file: for the trailer of the batch that is expected, and for a
/// later batch that states this place to have been durable.
fn scan<F: File>(
    window: &mut Window<'_, F>,
    expected: &Expected,
) -> (Option<(BatchHeader, u64)>, bool) {
    let mut trailer = None;
    let mut at = expected.place.offset + SECTOR as u64;
    while at < window.length() {
        // The salt first: payloads must not be able to make the search slow.
        let ours =
            window.sector(at).is_some_and(|sector| BatchHeader::salt(sector) == expected.salt);
        let record = if ours { record_at(window, at) } else { None };
        if let Some(record) = record.filter(|record| record.place.segment == expected.place.segment)
        {
            // A copy of a batch inside a payload stands in neither of its places.
            let is_trailer = at == record.place.offset + record.trailer_at();
            if expected.place < record.durable && (is_trailer || at == record.place.offset) {
                return (trailer, true);
            }
            if is_trailer && expected.fits(&record) {
                trailer = Some((record, at));
            }
        }
        at += SECTOR as u64;
    }
    (trailer, false)
}

/// Every sound header and trailer of a batch in the segment's file, which stand where they say. A
/// salt, where the segment's is known, must be theirs.
pub(crate) fn records<F: File>(
    window: &mut Window<'_, F>,
    number: u64,
    salt: Option<u64>,
    visit: &mut dyn FnMut(&BatchHeader),
) {
    let mut at = 0;
    while at < window.length() {
        if let Some(record) = record_at(window, at)
            && record.place.segment == number
            && (at == record.place.offset || at == record.place.offset + record.trailer_at())
            && salt.is_none_or(|salt| record.salt == salt)
        {
            visit(&record);
        }
        at += SECTOR as u64;
    }
}

/// Whether a segment whose header is lost was ever begun, so that the loss is rot.
///
/// A power cut in the middle of a roll may leave the first batch without the header: then a sector
/// of the header is still zeros, and nothing in the file states that the first batch was durable.
/// A batch that names the segment is otherwise a trace of a header that was there.
pub(crate) fn was_begun<F: File>(window: &mut Window<'_, F>, number: u64) -> bool {
    let header_bytes = window.sector(0).and_then(SegmentHeader::peek).unwrap_or(SECTOR);
    let header_torn =
        (0..header_bytes.div_ceil(SECTOR)).any(|sector| window.is_blank((sector * SECTOR) as u64));
    let mut at = 0;
    while at < window.length() {
        if let Some(record) = record_at(window, at)
            && record.place == (Place { segment: number, offset: at })
            && (!header_torn || record.durable.segment == number)
        {
            return true;
        }
        at += SECTOR as u64;
    }
    false
}

fn check_frames<F: File>(window: &mut Window<'_, F>, header: &BatchHeader, group: u64) -> Frames {
    let mut frames = Frames::default();
    let mut at = header.place.offset + header.frames_at();
    let mut index = header.after.index;
    for summary in &header.entries {
        index = index.next();
        let length = u64::from(summary.length);
        let bytes = window.bytes(at, length).unwrap_or_default();
        match check_frame(bytes, summary, index, group) {
            Found::Good(_) if summary.is_configuration() => {
                match decode_configuration(&bytes[HEADER_BYTES..]) {
                    Ok(configuration) => frames.configurations.push((index, configuration)),
                    Err(_) => frames.unknown = frames.unknown.or(Some((index, summary.kind))),
                }
            }
            Found::Good(_) => {}
            Found::Unknown(kind) => frames.unknown = frames.unknown.or(Some((index, kind))),
            Found::Bad => {
                frames.bad.push(Position { index, term: summary.term });
                frames.configuration_bad |= summary.is_configuration();
                frames.blank |= any_blank(window, at, at + length);
            }
        }
        at += length;
    }
    frames
}

/// Whether a sector that overlaps `start..end` is all zeros.
fn any_blank<F: File>(window: &mut Window<'_, F>, start: u64, end: u64) -> bool {
    let mut at = start / SECTOR as u64 * SECTOR as u64;
    while at < end {
        if window.is_blank(at) {
            return true;
        }
        at += SECTOR as u64;
    }
    false
}

/// Checks a frame against the list.
pub(crate) fn check_frame(bytes: &[u8], summary: &Summary, index: Index, group: u64) -> Found {
    if bytes.len() < HEADER_BYTES || u32_at(bytes, 4) != summary.header_crc {
        return Found::Bad;
    }
    let header = match Header::decode(bytes) {
        Ok(header) => header,
        Err(FrameError::Kind(kind)) => return Found::Unknown(kind),
        // Its checksum is good: a later version wrote it, and no damage.
        Err(FrameError::Reserved) => return Found::Unknown(summary.kind),
        Err(_) => return Found::Bad,
    };
    let position = Position { index, term: summary.term };
    let sound = header.length == summary.length
        && header.payload_crc == summary.payload_crc
        && header.position == position
        && header.group == group
        && header.kind as u8 == summary.kind
        && bytes.len() == header.length as usize
        && crc32c::crc32c(&bytes[HEADER_BYTES..]) == header.payload_crc;
    if sound { Found::Good(header) } else { Found::Bad }
}
