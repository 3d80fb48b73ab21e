//! The log as the node sees it: what makes entries durable and gives them back.
//!
//! [`jangada_wal::Wal`] is the one that survives a crash. [`MemoryLog`] is for members that are to
//! vanish with their process: tests, benchmarks, and groups whose state can be rebuilt.

use std::collections::VecDeque;

use jangada_entry::Frame;
use jangada_raft::{Index, Position};
use jangada_wal::{Batch, Disk, Wal, WalError};

use crate::member::{LogBatch, LogCut, LogRead};

/// A log. Calls come from one thread, one at a time, in the order in which the member asked.
pub trait Log: Send + 'static {
    /// Makes a batch durable: it is when this returns.
    ///
    /// # Errors
    /// If there is no space, which may be tried again, or the log is broken, which may not.
    fn append(&mut self, batch: &LogBatch) -> Result<(), WalError>;

    /// Reads entries back: at least the first one asked for.
    ///
    /// # Errors
    /// If the log is broken.
    fn read(&mut self, read: &LogRead) -> Result<Vec<Frame>, WalError>;

    /// Lets entries go that are no longer needed, as far as is convenient, and names the entry that
    /// stands before the first one kept.
    ///
    /// # Errors
    /// If the log is broken.
    fn cut(&mut self, cut: &LogCut) -> Result<Position, WalError>;
}

impl<D: Disk> Log for Wal<D> {
    fn append(&mut self, batch: &LogBatch) -> Result<(), WalError> {
        Wal::append(
            self,
            &Batch {
                hard_state: batch.hard_state,
                note: batch.note.clone(),
                after: batch.after,
                entries: &batch.entries,
            },
        )
    }

    fn read(&mut self, read: &LogRead) -> Result<Vec<Frame>, WalError> {
        Wal::read(self, read.from, read.last, read.bytes_max)
    }

    fn cut(&mut self, cut: &LogCut) -> Result<Position, WalError> {
        Wal::cut(self, cut.up_to, &cut.configuration)
    }
}

/// A log that vanishes with its process.
#[derive(Debug, Default)]
pub struct MemoryLog {
    begins: Position,
    frames: VecDeque<Frame>,
}

impl MemoryLog {
    fn place(&self, index: Index) -> usize {
        let place = index.0.checked_sub(self.begins.index.0 + 1).expect("the log reaches so far");
        usize::try_from(place).expect("held in memory")
    }
}

impl Log for MemoryLog {
    fn append(&mut self, batch: &LogBatch) -> Result<(), WalError> {
        self.frames.truncate(self.place(batch.after.next()));
        self.frames.extend(batch.entries.iter().cloned());
        Ok(())
    }

    fn read(&mut self, read: &LogRead) -> Result<Vec<Frame>, WalError> {
        let mut bytes = 0;
        let mut frames = Vec::new();
        for frame in self.frames.range(self.place(read.from)..=self.place(read.last)) {
            bytes += frame.bytes().len() as u64;
            if read.bytes_max < bytes && !frames.is_empty() {
                break;
            }
            frames.push(frame.clone());
        }
        Ok(frames)
    }

    fn cut(&mut self, cut: &LogCut) -> Result<Position, WalError> {
        if self.begins.index < cut.up_to.index {
            self.frames.drain(..self.place(cut.up_to.index.next()));
            self.begins = cut.up_to;
        }
        Ok(self.begins)
    }
}
