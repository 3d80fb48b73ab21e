//! Beginning a segment: at start, and when a batch does not fit or drops entries.

use std::collections::BTreeMap;
use std::io;

use jangada_entry::Frame;
use jangada_raft::{Position, canon};

use super::spares::{is_spare, make_now};
use super::{Batch, Pending, Wal, Weight, configurations_of, write_batch};
use crate::batch::{BatchHeader, Summary};
use crate::disk::{Disk, File};
use crate::error::{OpenError, WalError};
use crate::layout::{Place, SECTOR, sectors, segment_name, spare_name};
use crate::options::{Entropy, Identity, Options};
use crate::recover::SegmentPlace;
use crate::segment::SegmentHeader;
use crate::state::LogState;

/// How a segment begins.
pub(super) struct Beginning {
    pub(super) number: u64,
    pub(super) start: Position,
    pub(super) previous_end: u64,
    pub(super) sequence: u64,
    pub(super) previous_crc: u32,
}

/// What [`Wal::begin`] starts from.
pub(super) struct Setting<D> {
    pub(super) disk: D,
    pub(super) options: Options,
    pub(super) entropy: Entropy,
    pub(super) identity: Identity,
    pub(super) spare_number: u64,
}

impl<D: Disk> Wal<D> {
    /// Begins a segment at start: it gets its name only when it is whole and durable, so that it is
    /// there altogether or not at all.
    pub(super) fn begin(
        setting: Setting<D>,
        state: LogState,
        segments: Vec<SegmentPlace>,
        leftovers: Vec<String>,
        beginning: &Beginning,
        entries: &[Frame],
    ) -> Result<Wal<D>, OpenError> {
        let Setting { disk, options, mut entropy, identity, spare_number } = setting;
        let salt = entropy.draw()?;
        let segment_bytes = sectors(options.segment_bytes_min.max(SECTOR as u64));
        let mut header = segment_header(&state, identity, salt, beginning);
        let mut batch = BatchHeader {
            salt,
            place: Place { segment: beginning.number, offset: header.opening_bytes() },
            sequence: beginning.sequence,
            previous_crc: beginning.previous_crc,
            crc: 0,
            durable: Place { segment: beginning.number, offset: 0 },
            hard_state: state.hard_state,
            after: beginning.start,
            note: None,
            entries: entries.iter().map(Summary::of).collect(),
        };
        let needed = header.opening_bytes() + batch.batch_bytes();
        let (mut recycled, leftovers): (Vec<_>, Vec<_>) =
            leftovers.into_iter().partition(|name| is_spare(name));
        let spare_number = spare_number + 1;
        // A released segment whose new name is not durable yet must not lose its contents.
        if !canon!(released_segment_is_overwritten_at_once) {
            disk.sync_directory()?;
        }
        let bytes = segment_bytes.max(needed);
        let (spare, file) = make_now(&disk, spare_name(spare_number), &mut recycled, bytes)?;
        header.capacity = spare.bytes;
        write_batch(&file, 0, &header.opening(), &mut batch, entries)?;
        if !canon!(recovered_tail_is_not_synced) {
            file.sync()?;
        }
        let name = segment_name(beginning.number);
        disk.rename(&spare.name, &name)?;
        if !canon!(recovered_tail_has_no_durable_name) {
            disk.sync_directory()?;
        }
        let end = needed;
        let mut wal = Wal {
            disk,
            segment_bytes,
            options,
            entropy,
            identity,
            state,
            segments,
            file,
            salt,
            capacity: spare.bytes,
            sequence: batch.sequence + 1,
            crc: batch.crc,
            pending: Pending::Nothing,
            poisoned: false,
            spares: Vec::new(),
            recycled,
            preparing: false,
            batches_until_retry: 0,
            spare_number,
            short: false,
            starved: false,
            mended: BTreeMap::new(),
        };
        wal.segments.push(SegmentPlace { number: beginning.number, start: beginning.start, end });
        wal.state.append(&batch, batch.place.offset, configurations_of(entries));
        for leftover in leftovers.into_iter().filter(|leftover| *leftover != name) {
            wal.release(leftover)?;
        }
        if !canon!(recovered_tail_has_no_durable_name) {
            wal.disk.sync_directory()?;
        }
        Ok(wal)
    }

    /// Begins a segment with `batch`, which does not fit into the active one or drops entries.
    pub(super) fn roll(&mut self, batch: &Batch<'_>, weight: Weight) -> Result<(), WalError> {
        let full = batch.after == self.state.last;
        let salt = self.entropy.draw().map_err(|error| self.failed_write(error))?;
        let beginning = Beginning {
            number: self.active().number + 1,
            start: self.state.position_at(batch.after),
            previous_end: self.active().end,
            sequence: self.sequence,
            previous_crc: self.crc,
        };
        let mut segment = segment_header(&self.state, self.identity, salt, &beginning);
        segment.recovering &= !canon!(recovering_mark_ends_with_its_segment);
        segment.hard_state = batch.hard_state;
        segment.note = batch.note.clone().unwrap_or_else(|| self.state.note.clone());
        let mut header = self.batch_header(batch);
        header.salt = salt;
        header.note = None;
        header.place = Place { segment: beginning.number, offset: segment.opening_bytes() };
        let needed = segment.opening_bytes() + header.batch_bytes();
        let (spare, file) = self.take_spare(needed, weight)?;
        segment.capacity = spare.bytes;
        let name = segment_name(beginning.number);
        let written = self
            .disk
            .rename(&spare.name, &name)
            .and_then(|()| write_batch(&file, 0, &segment.opening(), &mut header, batch.entries));
        if let Err(error) = written {
            return Err(self.unroll(&name, error));
        }
        if full {
            let doubled = self.segment_bytes.saturating_mul(2);
            self.segment_bytes = doubled.min(sectors(self.options.segment_bytes_max));
        }
        self.state.truncate(batch.after);
        self.state.note = segment.note;
        self.segments.push(SegmentPlace {
            number: beginning.number,
            start: beginning.start,
            end: 0,
        });
        self.file = file;
        self.salt = salt;
        self.capacity = spare.bytes;
        self.wrote(&header, batch.entries, Pending::ContentsAndName);
        Ok(())
    }

    /// Takes back a segment whose first batch could not be written. If it stayed, recovery could
    /// take it for the log's end, in place of what is written to the active segment after it.
    pub(super) fn unroll(&mut self, name: &str, error: io::Error) -> WalError {
        match WalError::from(error) {
            WalError::Full => {}
            WalError::Io(error) => return self.poison(error),
            other => return other,
        }
        let removed = self.disk.remove(name).and_then(|()| self.disk.sync_directory());
        match removed {
            Ok(()) => WalError::Full,
            Err(error) => self.poison(error),
        }
    }
}

/// The header of a segment that begins behind `beginning.start`, with what is in force in `state`.
pub(super) fn segment_header(
    state: &LogState,
    identity: Identity,
    salt: u64,
    beginning: &Beginning,
) -> SegmentHeader {
    SegmentHeader {
        salt,
        number: beginning.number,
        identity,
        hard_state: state.hard_state,
        start: beginning.start,
        previous_end: beginning.previous_end,
        sequence: beginning.sequence,
        previous_crc: beginning.previous_crc,
        capacity: 0,
        configuration: state.configuration_at(beginning.start.index).clone(),
        note: state.note.clone(),
        recovering: state.recovering,
    }
}
