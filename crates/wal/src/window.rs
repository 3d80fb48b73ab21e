//! Reads a file piece by piece, for whoever looks at all of it. A sector that the disk cannot read
//! is a fact to be judged, not an error: it reads as a pattern that is neither zero nor sound.

use std::io;

use crate::disk::File;
use crate::layout::SECTOR;

/// What a sector reads as that cannot be read.
const UNREADABLE: u8 = 0xdb;

/// How much is read at a time.
const WINDOW_BYTES: u64 = 256 << 10;

pub(crate) struct Window<'a, F: File> {
    file: &'a F,
    length: u64,
    start: u64,
    buffer: Vec<u8>,
}

impl<'a, F: File> Window<'a, F> {
    pub(crate) fn new(file: &'a F) -> io::Result<Window<'a, F>> {
        Ok(Window { file, length: file.length()?, start: 0, buffer: Vec::new() })
    }

    /// The file's length in bytes.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// `bytes` bytes from `offset` on; `None` beyond the end of the file.
    pub(crate) fn bytes(&mut self, offset: u64, bytes: u64) -> Option<&[u8]> {
        let end = offset.checked_add(bytes)?;
        if self.length < end {
            return None;
        }
        if offset < self.start || self.start + (self.buffer.len() as u64) < end {
            self.fill(offset, bytes);
        }
        let from = usize::try_from(offset - self.start).expect("the window is in memory");
        Some(&self.buffer[from..from + usize::try_from(bytes).expect("the window is in memory")])
    }

    /// The sector at `offset`; `None` beyond the end of the file.
    pub(crate) fn sector(&mut self, offset: u64) -> Option<&[u8]> {
        self.bytes(offset, SECTOR as u64)
    }

    /// Whether the sector at `offset` is all zeros: never written since it was prepared.
    pub(crate) fn is_blank(&mut self, offset: u64) -> bool {
        self.sector(offset).is_none_or(|sector| sector.iter().all(|byte| *byte == 0))
    }

    fn fill(&mut self, offset: u64, bytes: u64) {
        // Whole sectors, so that one that cannot be read spoils no other.
        let start = offset / SECTOR as u64 * SECTOR as u64;
        let bytes = (bytes + offset - start).max(WINDOW_BYTES).min(self.length - start);
        self.start = start;
        self.buffer.clear();
        self.buffer.resize(usize::try_from(bytes).expect("pieces fit in memory"), 0);
        if self.file.read_at(start, &mut self.buffer).is_ok() {
            return;
        }
        let mut at = start;
        for sector in self.buffer.chunks_mut(SECTOR) {
            if self.file.read_at(at, sector).is_err() {
                sector.fill(UNREADABLE);
            }
            at += sector.len() as u64;
        }
    }
}
