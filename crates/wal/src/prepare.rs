//! Makes segments ready ahead of time, so that no write waits for one.
//!
//! A segment is ready when every byte of it is zero and durable. Then a sync of what is written into
//! it changes no metadata (measured: 1.3 to 3 times faster than a growing file), and recovery can
//! tell a sector that was never written from one that rotted. A file of a segment that was cut is
//! taken again and filled with zeros anew.

use std::io;

use crate::disk::{Disk, File};
use crate::error::WalError;

/// How much is filled in one write, so that a sync of the log in between waits for one such piece
/// at most.
const FILL_BYTES: usize = 1 << 20;

/// The zeros that are written.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// A job for a background thread: [`Preparation::run`] it with a handle of the log's disk and give
/// what it returns to [`crate::Wal::prepared`].
#[derive(Debug)]
pub struct Preparation {
    /// Files that are of no use.
    pub(crate) remove: Vec<String>,
    /// The segment to make ready, if one is wanted.
    pub(crate) make: Option<Make>,
}

/// A segment to make ready.
#[derive(Debug)]
pub(crate) struct Make {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) origin: Origin,
}

/// Where a segment's file comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Origin {
    /// It does not exist.
    New,
    /// It is a file of the log that is not needed any more.
    Recycled,
}

/// A segment that is ready.
#[derive(Debug)]
pub(crate) struct Spare {
    pub(crate) name: String,
    pub(crate) bytes: u64,
}

/// What came of a [`Preparation`].
#[derive(Debug)]
pub struct Prepared {
    pub(crate) result: Result<Option<Spare>, WalError>,
}

impl Preparation {
    /// Does the job: takes as long as the disk needs to write a segment.
    #[must_use]
    pub fn run<D: Disk>(self, disk: &D) -> Prepared {
        Prepared { result: self.try_run(disk).map_err(WalError::from) }
    }

    fn try_run<D: Disk>(self, disk: &D) -> io::Result<Option<Spare>> {
        for name in &self.remove {
            disk.remove(name)?;
        }
        let Some(make) = self.make else { return Ok(None) };
        match make.run(disk) {
            Ok((spare, _)) => Ok(Some(spare)),
            Err(error) => {
                // What is half made would take space that is short; that this fails too adds
                // nothing to what is known, and the next opening of the log finds the file.
                let _ = disk.remove(&make.name);
                Err(error)
            }
        }
    }
}

impl Make {
    /// Makes the file, fills it with zeros, and makes both durable.
    pub(crate) fn run<D: Disk>(&self, disk: &D) -> io::Result<(Spare, D::File)> {
        let file = match self.origin {
            Origin::New => disk.create(&self.name)?,
            Origin::Recycled => disk.open(&self.name)?,
        };
        let bytes = self.bytes.max(file.length()?);
        let mut at = 0;
        while at < bytes {
            let piece = (bytes - at).min(FILL_BYTES as u64);
            fill(&file, at, piece)?;
            file.sync()?;
            at += piece;
        }
        disk.sync_directory()?;
        Ok((Spare { name: self.name.clone(), bytes }, file))
    }
}

/// Writes `bytes` zeros.
fn fill<F: File>(file: &F, offset: u64, bytes: u64) -> io::Result<()> {
    let bytes = usize::try_from(bytes).expect("a piece is small");
    let mut slices = [&ZEROS[..]; FILL_BYTES / ZEROS.len()];
    let whole = bytes / ZEROS.len();
    let mut count = whole;
    if !bytes.is_multiple_of(ZEROS.len()) {
        slices[whole] = &ZEROS[..bytes % ZEROS.len()];
        count += 1;
    }
    file.write_at(offset, &slices[..count])
}
