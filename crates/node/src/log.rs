//! The log as the node sees it: what makes entries durable and gives them back.
//!
//! [`jangada_wal::Wal`] is the one that survives a crash. [`MemoryLog`] is for members that are to
//! vanish with their process: tests, benchmarks, and groups whose state can be rebuilt.

use std::collections::VecDeque;

use jangada_entry::Frame;
use jangada_raft::{Index, Position};
use jangada_wal::{
    Anew, BATCH_BYTES_MAX, BATCH_ENTRIES_MAX, Batch, Disk, Recovered, Wal, WalError,
};

use crate::member::{LogBatch, LogCut, LogRead, Mend, Mended};

/// A log. Calls come from one thread, one at a time, in the order in which the member asked.
pub trait Log: Send + 'static {
    /// Makes a batch durable: it is when this returns.
    ///
    /// # Errors
    /// If there is no space, which may be tried again, or the log is broken, which may not.
    fn append(&mut self, batch: &LogBatch) -> Result<(), WalError>;

    /// Reads entries back: at least the first one asked for, and none if that was cut off or is damaged.
    ///
    /// # Errors
    /// If the log is broken.
    fn read(&mut self, read: &LogRead) -> Result<Vec<Frame>, WalError>;

    /// Lets entries go that are no longer needed, as far as is convenient and the trailing part and
    /// what is needed leaves, and names the entry that
    /// stands before the first one kept.
    ///
    /// # Errors
    /// If the log is broken.
    fn cut(&mut self, cut: &LogCut) -> Result<Position, WalError>;

    /// Does something about its damage.
    ///
    /// # Errors
    /// If there is no space, which may be tried again, or the log is broken, which may not.
    fn mend(&mut self, mend: &Mend) -> Result<Mended, WalError>;

    /// Drops every entry: the log goes on behind a snapshot that the machine holds durably. Durable
    /// when this returns, and at every moment before that the old log is whole.
    ///
    /// # Errors
    /// If there is no space, which may be tried again, or the log is broken, which may not.
    fn begin_anew(&mut self, anew: &Anew) -> Result<(), WalError>;
}

impl<D: Disk> Log for Wal<D> {
    /// More entries than a batch of the log may hold become several batches; after a crash in
    /// between, a prefix is durable, of which nothing was acknowledged.
    fn append(&mut self, batch: &LogBatch) -> Result<(), WalError> {
        let mut rest = batch.entries.as_slice();
        let mut note = batch.note.clone();
        let mut after = batch.after;
        if let Some((position, configuration)) = &batch.anew {
            let (hard_state, note) = (batch.hard_state, note.take());
            let (position, configuration) = (*position, configuration.clone());
            Wal::begin_anew(self, &Anew { position, configuration, hard_state, note })?;
            if rest.is_empty() {
                return Ok(());
            }
        }
        loop {
            let (entries, later) = rest.split_at(one_batch(rest));
            let (hard_state, note_now) = (batch.hard_state, note.take());
            Wal::append(self, &Batch { hard_state, note: note_now, after, entries })?;
            if later.is_empty() {
                return Ok(());
            }
            after = entries.last().expect("a part of something is not empty").position().index;
            rest = later;
        }
    }

    fn read(&mut self, read: &LogRead) -> Result<Vec<Frame>, WalError> {
        if read.from < self.first_index() {
            return Ok(Vec::new());
        }
        match Wal::read(self, read.from, read.last, read.bytes_max) {
            Err(WalError::Faulty { .. }) => Ok(Vec::new()),
            read => read,
        }
    }

    fn cut(&mut self, cut: &LogCut) -> Result<Position, WalError> {
        let index = up_to(cut, self.index_keeping(cut.trailing_bytes), self.bytes());
        match self.position_at(index) {
            Some(position) => Wal::cut(self, position, &cut.configuration),
            None => Ok(self.base()),
        }
    }

    fn mend(&mut self, mend: &Mend) -> Result<Mended, WalError> {
        match mend {
            Mend::Repair(frames) => match Wal::repair(self, frames) {
                Err(WalError::NotTheEntry { .. }) => Ok(Mended::Missing(self.faulty().len())),
                repaired => repaired.map(Mended::Missing),
            },
            Mend::GiveUp => self.give_up_faulty().map(Mended::GaveUp),
            Mend::EndRecovering => self.end_recovering().map(|()| Mended::Recovered),
        }
    }

    fn begin_anew(&mut self, anew: &Anew) -> Result<(), WalError> {
        Wal::begin_anew(self, anew)
    }
}

/// Up to where the log is cut: `trailing` is where its trailing part begins, `bytes` what it retains.
fn up_to(cut: &LogCut, trailing: Index, bytes: u64) -> Index {
    let needed = cut.needed.filter(|(_, bytes_max)| bytes <= *bytes_max);
    let needed = needed.map_or(cut.up_to.index, |(index, _)| index);
    cut.up_to.index.min(trailing).min(needed)
}

/// The time stamped on the last entry that a log holds whole, in milliseconds since the Unix epoch; 0
/// if there is none. Those behind it bring their own when they are mended.
///
/// # Errors
/// If the log is broken.
pub fn last_time_ms<D: Disk>(wal: &Wal<D>, recovered: &Recovered) -> Result<u64, WalError> {
    let faulty = |index: Index| recovered.faulty.iter().any(|entry| entry.index == index);
    let range = &recovered.range;
    let whole = (range.prev.index.0 + 1..=range.last.0).rev().map(Index).find(|at| !faulty(*at));
    let Some(last) = whole else { return Ok(0) };
    let frames = wal.read(last, last, 1)?;
    Ok(frames.last().map_or(0, |frame| frame.header().time_ms))
}

/// How many of the entries fit into one batch of the log.
fn one_batch(entries: &[Frame]) -> usize {
    let mut bytes = 0;
    let fits = entries.iter().take(BATCH_ENTRIES_MAX).take_while(|entry| {
        bytes += entry.bytes().len() as u64;
        bytes <= BATCH_FRAME_BYTES_MAX
    });
    fits.count()
}

/// The most bytes of frames put into one batch of the log: a quarter of what it can hold, which leaves
/// room for its headers, and more than the largest frame.
const BATCH_FRAME_BYTES_MAX: u64 = BATCH_BYTES_MAX / 4;

/// A log that vanishes with its process.
#[derive(Debug, Default)]
pub struct MemoryLog {
    begins: Position,
    frames: VecDeque<Frame>,
}

impl MemoryLog {
    /// The bytes of the entries that it holds.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.frames.iter().map(|frame| frame.bytes().len() as u64).sum()
    }

    fn place(&self, index: Index) -> usize {
        let place = index.0.checked_sub(self.begins.index.0 + 1).expect("the log reaches so far");
        usize::try_from(place).expect("held in memory")
    }
}

impl Log for MemoryLog {
    fn append(&mut self, batch: &LogBatch) -> Result<(), WalError> {
        if let Some((position, _)) = &batch.anew {
            self.frames.clear();
            self.begins = *position;
        }
        self.frames.truncate(self.place(batch.after.next()));
        self.frames.extend(batch.entries.iter().cloned());
        Ok(())
    }

    fn read(&mut self, read: &LogRead) -> Result<Vec<Frame>, WalError> {
        let mut bytes = 0;
        let mut frames = Vec::new();
        if read.from <= self.begins.index {
            return Ok(frames);
        }
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
        let mut kept = 0;
        let mut trailing = self.begins.index;
        for frame in self.frames.iter().rev() {
            kept += frame.bytes().len() as u64;
            if cut.trailing_bytes < kept {
                trailing = frame.position().index;
                break;
            }
        }
        let bytes = self.bytes();
        let index = up_to(cut, trailing, bytes);
        if self.begins.index < index {
            let place = self.place(index.next());
            self.begins = self.frames[place - 1].position();
            self.frames.drain(..place);
        }
        Ok(self.begins)
    }

    /// Memory does not rot.
    fn mend(&mut self, mend: &Mend) -> Result<Mended, WalError> {
        Ok(match mend {
            Mend::Repair(_) => Mended::Missing(0),
            Mend::GiveUp => Mended::GaveUp(self.frames.back().map_or(self.begins, Frame::position)),
            Mend::EndRecovering => Mended::Recovered,
        })
    }

    fn begin_anew(&mut self, anew: &Anew) -> Result<(), WalError> {
        self.frames.clear();
        self.begins = anew.position;
        Ok(())
    }
}
