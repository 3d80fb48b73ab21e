//! What all of the log's bytes have in common: sectors, places, little-endian fields, file names.

/// The unit a disk writes whole or not at all. Batches start on its boundary, so that no power cut
/// on the next batch damages durable bytes.
pub(crate) const SECTOR: usize = 512;

/// A byte position in the log: a segment's number and an offset in its file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Place {
    /// The segment's number.
    pub segment: u64,
    /// The byte in the segment's file.
    pub offset: u64,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "byte {} of {}", self.offset, segment_name(self.segment))
    }
}

/// `bytes` rounded up to whole sectors.
pub(crate) fn sectors(bytes: u64) -> u64 {
    bytes.div_ceil(SECTOR as u64) * SECTOR as u64
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(crate) fn put_u64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

const SEGMENT_PREFIX: &str = "segment-";
const SPARE_PREFIX: &str = "spare-";

/// The file name of a segment.
pub(crate) fn segment_name(number: u64) -> String {
    format!("{SEGMENT_PREFIX}{number:016x}")
}

/// The file name of a segment that is not in use.
pub(crate) fn spare_name(number: u64) -> String {
    format!("{SPARE_PREFIX}{number:016x}")
}

/// The number in a segment's file name.
pub(crate) fn segment_number(name: &str) -> Option<u64> {
    number_after(SEGMENT_PREFIX, name)
}

/// The number in a spare segment's file name.
pub(crate) fn spare_number(name: &str) -> Option<u64> {
    number_after(SPARE_PREFIX, name)
}

fn number_after(prefix: &str, name: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix)?;
    let lower = digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if digits.len() != 16 || !lower {
        return None;
    }
    u64::from_str_radix(digits, 16).ok()
}
