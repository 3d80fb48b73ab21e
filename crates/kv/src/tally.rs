//! Counts rows: how many there are, and the sum of their checksums.
//!
//! Two numbers that change with each row added or removed, and that a walk over all rows must come
//! to again. They notice what no row's own checksum can: that a row is gone, or that one is there
//! which must not be, as after a disk has put a page elsewhere and left an older one in its place.

use crate::engine::EngineError;
use crate::row::ROW_CRC_BYTES;

/// What the rows of a table come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Tally {
    /// How many rows there are.
    pub(crate) rows: u64,
    /// The sum of their checksums, in 64 bits.
    pub(crate) sum: u64,
}

impl Tally {
    /// Counts a row.
    pub(crate) fn add(&mut self, sealed: &[u8]) {
        self.rows += 1;
        self.sum = self.sum.wrapping_add(checksum(sealed));
    }

    /// Whether these are the rows that are noted.
    pub(crate) fn check(self, noted: Tally) -> Result<(), EngineError> {
        if self == noted {
            return Ok(());
        }
        Err(EngineError::Meta(format!(
            "they count {} rows with the sum {:x}, the file holds {} with {:x}",
            noted.rows, noted.sum, self.rows, self.sum
        )))
    }

    /// Counts rows that are no longer there.
    pub(crate) fn remove(&mut self, gone: Tally) {
        self.rows = self.rows.wrapping_sub(gone.rows);
        self.sum = self.sum.wrapping_sub(gone.sum);
    }
}

/// A row's own checksum, which stands at its end; 0 for what is too short to be a row.
fn checksum(sealed: &[u8]) -> u64 {
    let crc = sealed.last_chunk::<ROW_CRC_BYTES>();
    crc.map_or(0, |crc| u64::from(u32::from_le_bytes(*crc)))
}
