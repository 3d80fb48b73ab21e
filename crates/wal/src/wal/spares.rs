//! The segments that are ready for use, and the files that could be made so.

use std::io;

use super::{Space, Wal, Weight};
use crate::disk::Disk;
use crate::error::{WalError, is_full};
use crate::layout::{sectors, spare_name, spare_number};
use crate::prepare::{Make, Origin, Preparation, Prepared, Spare};

/// After a failure for want of space, how many batches are written before a spare segment is tried
/// again: trying writes up to a segment of zeros, and there is no clock here to go by. A write that
/// needs a segment tries on its own.
const RETRY_BATCHES: u32 = 256;

/// How many of the segments that are ready are kept for essential batches. One takes megabytes of
/// no-ops, compactions and deletions, which is more than it takes to free space.
const RESERVED: usize = 1;

impl<D: Disk> Wal<D> {
    /// Whether there is space to go on. It is known before the active segment is full: the segment
    /// that is to be ready behind the next one could not be made. A write that waits for a segment
    /// wants space in any case.
    #[must_use]
    pub fn space(&self) -> Space {
        if self.starved || self.is_at_its_reserve() { Space::Reserve } else { Space::Plenty }
    }

    /// Whether the segment that is ready is the last there is space for.
    pub(super) fn is_at_its_reserve(&self) -> bool {
        self.short && self.spares.len() <= RESERVED
    }

    /// Space may be back, for all that its owner knows: the next [`Wal::preparation`] tries, and says
    /// so. The log tries on its own from time to time only, since it has no clock.
    pub fn retry_space(&mut self) {
        self.batches_until_retry = 0;
    }

    /// How many segments are ready for use. When none is and the disk is full, the next roll fails.
    #[must_use]
    pub fn spares_ready(&self) -> usize {
        self.spares.len()
    }

    /// A job for a background thread, if there is one to do: making segments ready, removing files
    /// that are of no use. One is under way at a time, until [`Wal::prepared`] takes its result.
    pub fn preparation(&mut self) -> Option<Preparation> {
        if self.preparing || self.poisoned || 0 < self.batches_until_retry {
            return None;
        }
        let make = (self.spares.len() < self.options.spares).then(|| self.next_make());
        let remove = match make {
            Some(_) => Vec::new(),
            None => std::mem::take(&mut self.recycled),
        };
        if make.is_none() && remove.is_empty() {
            return None;
        }
        self.preparing = true;
        Some(Preparation { remove, make })
    }

    /// Takes the result of the [`Preparation`] that was under way.
    ///
    /// # Errors
    /// [`WalError::Full`] if there was no space: the log goes on with the segments it has, and the
    /// next [`Wal::preparation`] tries a smaller one. [`WalError::Io`] if the disk failed: the log
    /// is poisoned.
    pub fn prepared(&mut self, prepared: Prepared) -> Result<(), WalError> {
        self.preparing = false;
        match prepared.result {
            Ok(spare) => {
                self.spares.extend(spare);
                // The reserve alone is not plenty.
                self.short &= self.spares.len() < self.options.spares.min(RESERVED + 1);
                Ok(())
            }
            Err(WalError::Io(error)) => Err(self.poison(error)),
            Err(error) => {
                let smaller = sectors(self.segment_bytes / 2);
                self.segment_bytes = smaller.max(sectors(self.options.segment_bytes_min));
                self.batches_until_retry = RETRY_BATCHES;
                self.short = true;
                Err(error)
            }
        }
    }

    /// What to make the next spare segment of.
    pub(super) fn next_make(&mut self) -> Make {
        let bytes = self.segment_bytes;
        if let Some(name) = self.recycled.pop() {
            return Make { name, bytes, origin: Origin::Recycled };
        }
        Make { name: self.new_spare_name(), bytes, origin: Origin::New }
    }

    /// A name that no file has had while the log has been open.
    pub(super) fn new_spare_name(&mut self) -> String {
        self.spare_number += 1;
        spare_name(self.spare_number)
    }

    /// A segment of at least `needed` bytes that is ready. If there is none, the smallest that will
    /// do is made on the spot, since a write waits for it. An ordinary write leaves the last one that
    /// is ready alone.
    pub(super) fn take_spare(
        &mut self,
        needed: u64,
        weight: Weight,
    ) -> Result<(Spare, D::File), WalError> {
        let taken = self.try_take_spare(needed, weight);
        self.starved = matches!(taken, Err(WalError::Full | WalError::Reserved));
        taken
    }

    fn try_take_spare(
        &mut self,
        needed: u64,
        weight: Weight,
    ) -> Result<(Spare, D::File), WalError> {
        let reserved = if weight == Weight::Ordinary { RESERVED } else { 0 };
        let fit = self.spares.iter().position(|spare| needed <= spare.bytes);
        if let Some(at) = fit.filter(|_| reserved < self.spares.len()) {
            let spare = self.spares.remove(at);
            let file = self.disk.open(&spare.name).map_err(|error| self.failed_write(error))?;
            return Ok((spare, file));
        }
        let bytes = needed.max(sectors(self.options.segment_bytes_min));
        let name = self.new_spare_name();
        match make_now(&self.disk, name, &mut self.recycled, bytes) {
            Ok(made) => Ok(made),
            Err(error) if is_full(&error) => {
                self.short = true;
                Err(if fit.is_some() { WalError::Reserved } else { WalError::Full })
            }
            Err(error) => Err(self.failed_write(error)),
        }
    }

    /// Takes a file out of the log: under another name it can be made a spare, or removed.
    pub(super) fn release(&mut self, name: String) -> io::Result<()> {
        let spare = self.new_spare_name();
        self.disk.rename(&name, &spare)?;
        self.recycled.push(spare);
        Ok(())
    }
}

/// Whether a file is no part of the log.
pub(super) fn is_spare(name: impl AsRef<str>) -> bool {
    spare_number(name.as_ref()).is_some()
}

/// Makes a segment ready while somebody waits: a new and small file, which is soon filled; on a full
/// disk one of those that are there already, which may need no new space.
pub(super) fn make_now<D: Disk>(
    disk: &D,
    name: String,
    recycled: &mut Vec<String>,
    bytes: u64,
) -> io::Result<(Spare, D::File)> {
    let make = Make { name, bytes, origin: Origin::New };
    let error = match make.run(disk) {
        Ok(made) => return Ok(made),
        Err(error) => error,
    };
    // A file that is half made takes the space that is short. That removing it fails too adds
    // nothing: the next opening of the log finds the file.
    let _ = disk.remove(&make.name);
    if !is_full(&error) {
        return Err(error);
    }
    let Some(name) = recycled.pop() else { return Err(error) };
    let make = Make { name, bytes, origin: Origin::Recycled };
    let made = make.run(disk);
    if made.is_err() {
        recycled.push(make.name);
    }
    made
}
