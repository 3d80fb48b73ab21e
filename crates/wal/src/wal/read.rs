//! Reading entries back, each checked against its checksums and its name.

use std::io;

use bytes::BytesMut;
use jangada_entry::Frame;
use jangada_raft::Index;

use super::Wal;
use crate::batch::{BatchHeader, Summary};
use crate::disk::{Disk, File};
use crate::error::{OpenError, WalError};
use crate::layout::{Place, segment_name};
use crate::state::{BatchPlace, LogState};

impl<D: Disk> Wal<D> {
    /// Reads entries from `from` up to `last`, as many as fit into `bytes_max` bytes but at least
    /// one, and none from the first on that is known to be damaged. Each is checked against the
    /// checksums and its name.
    ///
    /// # Errors
    /// [`WalError::Faulty`] if the first one is known to be damaged; [`WalError::Rot`] if an entry is damaged; [`WalError::Io`] if the disk fails.
    ///
    /// # Panics
    /// If the log does not hold all of `from..=last`.
    pub fn read(&self, from: Index, last: Index, bytes_max: u64) -> Result<Vec<Frame>, WalError> {
        self.usable()?;
        assert!(self.state.base.index < from && from <= last, "the entries lie within the log");
        assert!(last <= self.state.last, "the entries lie within the log");
        let faulty = self.state.first_faulty_from(from);
        if faulty == Some(from) {
            return Err(WalError::Faulty { position: self.state.position_at(from) });
        }
        let last = faulty.map_or(last, |index| last.min(index.previous()));
        let mut frames = Vec::new();
        let mut bytes = 0;
        for place in self.state.batches_from(from) {
            let first = from.max(place.first);
            if last < first || (bytes_max <= bytes && !frames.is_empty()) {
                break;
            }
            let until = last.min(place.last);
            let rest = bytes_max.saturating_sub(bytes);
            let some = self.read_batch(place, first, until, rest, frames.is_empty())?;
            bytes += some.iter().map(|frame| frame.bytes().len() as u64).sum::<u64>();
            let whole = some.len() as u64 == until.0 - first.0 + 1;
            frames.extend(some);
            if !whole {
                break;
            }
        }
        assert!(!frames.is_empty(), "log invariant 2");
        Ok(frames)
    }

    /// What the list of its batch says of the entry at `index`, which is in the log.
    pub(super) fn summary_of(&self, index: Index) -> Result<Summary, WalError> {
        let place = self.state.batches_from(index).next().expect("the entry is in a batch");
        let list = if place.segment == self.active().number {
            list_of(&self.file, place)?
        } else {
            list_of(&self.disk.open(&segment_name(place.segment))?, place)?
        };
        let at = Place { segment: place.segment, offset: place.list_at };
        let list = list.ok_or(WalError::Rot { place: at, index })?;
        Ok(list.entries[usize::try_from(index.0 - place.first.0).expect("within a batch")])
    }

    /// Reads entries of one batch, from the active file or another.
    fn read_batch(
        &self,
        place: &BatchPlace,
        first: Index,
        last: Index,
        bytes_max: u64,
        one_at_least: bool,
    ) -> Result<Vec<Frame>, WalError> {
        let span = Span { first, last, bytes_max, one_at_least };
        if place.segment == self.active().number {
            return read_span(&self.file, place, &span, &self.state);
        }
        let file = self.disk.open(&segment_name(place.segment))?;
        read_span(&file, place, &span, &self.state)
    }
}

/// Which entries of a batch to read.
struct Span {
    first: Index,
    last: Index,
    bytes_max: u64,
    /// Whether the first one is read however large it is.
    one_at_least: bool,
}

/// The entries of the last batch, read back and checked, to be written anew.
pub(super) fn copy_of<D: Disk>(
    disk: &D,
    state: &LogState,
    last: &BatchHeader,
) -> Result<Vec<Frame>, OpenError> {
    if last.entries.is_empty() {
        return Ok(Vec::new());
    }
    let place = state.batches.back().expect("the last batch has entries");
    let file = disk.open(&segment_name(place.segment))?;
    let span =
        Span { first: place.first, last: place.last, bytes_max: u64::MAX, one_at_least: true };
    read_span(&file, place, &span, state).map_err(|error| match error {
        WalError::Io(error) => OpenError::Io(error),
        _ => OpenError::Io(io::Error::other("the last batch changed while it was read")),
    })
}

/// The header of a batch, read back; `None` if it is damaged.
fn list_of<F: File>(file: &F, place: &BatchPlace) -> io::Result<Option<BatchHeader>> {
    let mut list = vec![0; place.header_bytes as usize];
    file.read_at(place.list_at, &mut list)?;
    Ok(BatchHeader::decode(&list))
}

/// Reads entries of one batch, each checked against its checksums and its name.
fn read_span<F: File>(
    file: &F,
    place: &BatchPlace,
    span: &Span,
    state: &LogState,
) -> Result<Vec<Frame>, WalError> {
    let rot = |index: Index, offset: u64| WalError::Rot {
        place: Place { segment: place.segment, offset },
        index,
    };
    let header = list_of(file, place)?.ok_or_else(|| rot(span.first, place.list_at))?;
    let lengths = |from: Index, to: Index| {
        let at = |index: Index| usize::try_from(index.0 - place.first.0).expect("within a batch");
        header.entries[at(from)..at(to)].iter().map(|summary| u64::from(summary.length))
    };
    let start = place.frames_at + lengths(place.first, span.first).sum::<u64>();
    let mut bytes = 0;
    let mut count = 0;
    for length in lengths(span.first, span.last.next()) {
        let free = count == 0 && span.one_at_least;
        if span.bytes_max < bytes + length && !free {
            break;
        }
        bytes += length;
        count += 1;
    }
    let mut buffer = BytesMut::zeroed(usize::try_from(bytes).expect("a batch fits in memory"));
    file.read_at(start, &mut buffer)?;
    let mut buffer = buffer.freeze();
    let mut frames = Vec::with_capacity(count);
    let mut index = span.first;
    for _ in 0..count {
        let frame = Frame::decode(&mut buffer).map_err(|_| rot(index, start))?;
        if Some(frame.position().term) != state.term_at(index) || frame.position().index != index {
            return Err(rot(index, start));
        }
        frames.push(frame);
        index = index.next();
    }
    Ok(frames)
}
