//! The way back from rot: damaged entries are replaced, or given up.
//!
//! Invariant: at any crash point the log holds the entries as they were, the damaged ones known by
//! name, or all of them whole. Nothing is repaired in place: a sector that the disk cannot read makes
//! its neighbours unreadable too, and the page cache cannot write a part of it. The log's tail from
//! the first damaged entry on is written anew, as a segment that gets its name when it is durable.

use jangada_entry::Frame;
use jangada_raft::{Index, Position, canon};

use super::roll::{Beginning, segment_header};
use super::{Batch, Pending, Wal, Weight, configurations_of, write_batch};
use crate::batch::{BatchHeader, Summary};
use crate::disk::{Disk, File};
use crate::error::WalError;
use crate::layout::{Place, segment_name};
use crate::recover::SegmentPlace;
use crate::state::LogState;

/// How many bytes of frames are copied into one batch, save for a larger frame.
const COPY_BYTES: u64 = 8 << 20;

/// How many entries are copied into one batch.
const COPY_ENTRIES: usize = 1 << 14;

/// What a batch takes on the disk beside its frames and 48 bytes for each entry: two headers without
/// their lists, and the rests of four sectors.
const BATCH_OVERHEAD_BYTES: u64 = 4096;

/// A segment that is being written and has no name yet.
struct Copy<'a, F: File> {
    file: &'a F,
    opening: Vec<u8>,
    salt: u64,
    number: u64,
    end: u64,
    sequence: u64,
    previous_crc: u32,
}

impl<D: Disk> Wal<D> {
    /// The entries whose payloads are damaged, in order. [`Wal::read`] does not hand them out.
    #[must_use]
    pub fn faulty(&self) -> Vec<Position> {
        self.state.faulty().iter().map(|index| self.state.position_at(*index)).collect()
    }

    /// Takes entries from elsewhere in place of damaged ones; others are left alone. Once the last
    /// one has come, all are whole again, durably so on return; until then they are held in memory.
    /// Tells how many are still missing.
    ///
    /// # Errors
    /// [`WalError::NotTheEntry`] if one is not what was lost; [`WalError::Full`] if there is no space to
    /// write the log's tail anew, which is tried again with any further call. Both leave the log as
    /// it was. [`WalError::Rot`] if more of it turns out to be damaged; [`WalError::Io`] if the disk
    /// fails.
    ///
    /// # Panics
    /// If a batch is not durable yet (log invariant 1).
    pub fn repair(&mut self, frames: &[Frame]) -> Result<usize, WalError> {
        self.usable()?;
        assert!(self.pending == Pending::Nothing, "log invariant 1");
        for frame in frames {
            let position = frame.position();
            if self.state.first_faulty_from(position.index) != Some(position.index) {
                continue;
            }
            let same = Summary::of(frame) == self.summary_of(position.index)?;
            if !same && !canon!(any_entry_repairs) {
                return Err(WalError::NotTheEntry { position });
            }
            self.mended.insert(position.index, frame.clone());
        }
        let faulty = self.state.faulty();
        self.mended.retain(|index, _| faulty.binary_search(index).is_ok());
        let missing = faulty.len() - self.mended.len();
        if missing == 0 && !faulty.is_empty() {
            self.write_tail_anew()?;
            self.mended.clear();
        }
        Ok(missing)
    }

    /// Gives the damaged entries up: the log ends before the first of them, and the member has to
    /// recover what it may have acknowledged ([`crate::Recovered::recovering`]); durable on return.
    /// Tells the log's last entry.
    ///
    /// # Errors
    /// [`WalError::Full`] if there is no space for a segment: the log is as it was. [`WalError::Io`] if
    /// the disk fails.
    ///
    /// # Panics
    /// If a batch is not durable yet (log invariant 1).
    pub fn give_up_faulty(&mut self) -> Result<Position, WalError> {
        if let Some(first) = self.state.faulty().front().copied() {
            self.mark(true, first.previous())?;
        }
        Ok(self.state.last_position())
    }

    /// The member has recovered: it holds, durably, all that a leader held which confirmed its
    /// leadership since. The log is no longer marked, durably so on return.
    ///
    /// # Errors
    /// [`WalError::Full`] if there is no space for a segment: the log is as it was. [`WalError::Io`] if
    /// the disk fails.
    ///
    /// # Panics
    /// If a batch is not durable yet (log invariant 1).
    pub fn end_recovering(&mut self) -> Result<(), WalError> {
        if !self.state.recovering {
            return self.usable();
        }
        self.mark(false, self.state.last)
    }

    /// Begins a segment that says whether the member has to recover, and drops what is behind `after`.
    fn mark(&mut self, recovering: bool, after: Index) -> Result<(), WalError> {
        self.usable()?;
        assert!(self.pending == Pending::Nothing, "log invariant 1");
        let before = std::mem::replace(&mut self.state.recovering, recovering);
        let hard_state = self.state.hard_state;
        let batch = Batch { hard_state, note: None, after, entries: &[] };
        if let Err(error) = self.roll(&batch, Weight::Essential) {
            self.state.recovering = before;
            return Err(error);
        }
        self.sync()
    }

    /// Writes the log's tail from the first damaged entry on to a segment of its own.
    fn write_tail_anew(&mut self) -> Result<(), WalError> {
        let first = *self.state.faulty().front().expect("something is damaged");
        let beginning = Beginning {
            number: self.active().number + 1,
            start: self.state.position_at(first.previous()),
            previous_end: self.active().end,
            sequence: self.sequence,
            previous_crc: self.crc,
        };
        let salt = self.entropy.draw().map_err(|error| self.failed_write(error))?;
        let mut header = segment_header(&self.state, self.identity, salt, &beginning);
        let (spare, file) =
            self.take_spare(header.opening_bytes() + self.tail_bytes(first), Weight::Essential)?;
        header.capacity = spare.bytes;
        let mut copy = Copy {
            file: &file,
            opening: header.opening(),
            salt,
            number: beginning.number,
            end: 0,
            sequence: beginning.sequence,
            previous_crc: beginning.previous_crc,
        };
        let mut state = self.state.clone();
        state.truncate(beginning.start.index);
        let copied = self.copy_tail(first, &mut copy, &mut state);
        let Copy { end, sequence, previous_crc, .. } = copy;
        let named = copied.and_then(|()| {
            if !canon!(repaired_tail_is_named_before_it_is_durable) {
                file.sync()?;
            }
            self.disk.rename(&spare.name, &segment_name(beginning.number))?;
            Ok(self.disk.sync_directory()?)
        });
        if let Err(error) = named {
            // Written in part, it is no segment that is ready.
            self.recycled.push(spare.name);
            return Err(match error {
                WalError::Io(error) => self.poison(error),
                other => other,
            });
        }
        self.state = state;
        let Beginning { number, start, .. } = beginning;
        self.segments.push(SegmentPlace { number, start, end });
        self.file = file;
        self.salt = salt;
        self.capacity = spare.bytes;
        self.sequence = sequence;
        self.crc = previous_crc;
        Ok(())
    }

    /// The most bytes that the batches of the log's tail from `first` on take.
    fn tail_bytes(&self, first: Index) -> u64 {
        let frames: u64 = self.state.batches_from(first).map(|batch| batch.frames_bytes).sum();
        let entries = self.state.last.0 - first.previous().0;
        let batches = frames / COPY_BYTES + entries / COPY_ENTRIES as u64 + 1;
        frames + 48 * entries + BATCH_OVERHEAD_BYTES * batches
    }

    /// Copies the entries from `first` on, those that came from elsewhere in their places.
    fn copy_tail(
        &self,
        first: Index,
        copy: &mut Copy<'_, D::File>,
        state: &mut LogState,
    ) -> Result<(), WalError> {
        let last = self.state.last;
        let mut index = first;
        let mut entries: Vec<Frame> = Vec::new();
        let mut bytes = 0;
        while index <= last {
            let some = match self.mended.get(&index) {
                Some(frame) => vec![frame.clone()],
                None => self.read(index, last, COPY_BYTES - bytes.min(COPY_BYTES - 1))?,
            };
            for frame in some {
                bytes += frame.bytes().len() as u64;
                index = index.next();
                entries.push(frame);
                if COPY_BYTES <= bytes || entries.len() == COPY_ENTRIES {
                    copy.batch(&entries, state)?;
                    entries.clear();
                    bytes = 0;
                }
            }
        }
        if entries.is_empty() { Ok(()) } else { copy.batch(&entries, state) }
    }
}

impl<F: File> Copy<'_, F> {
    /// Writes a batch behind what is written, and says so to `state`.
    fn batch(&mut self, entries: &[Frame], state: &mut LogState) -> Result<(), WalError> {
        let opening = std::mem::take(&mut self.opening);
        let offset = self.end + opening.len() as u64;
        let place = Place { segment: self.number, offset };
        let mut header = BatchHeader {
            salt: self.salt,
            place,
            sequence: self.sequence,
            previous_crc: self.previous_crc,
            crc: 0,
            // The segment has its name when all of it is durable.
            durable: place,
            hard_state: state.hard_state,
            after: state.last_position(),
            note: None,
            entries: entries.iter().map(Summary::of).collect(),
        };
        write_batch(self.file, self.end, &opening, &mut header, entries)?;
        self.end = offset + header.batch_bytes();
        self.sequence += 1;
        self.previous_crc = header.crc;
        state.append(&header, offset, configurations_of(entries));
        Ok(())
    }
}
