//! The log as its owner sees it: open, append, read, cut.

use std::io;

use bytes::{Bytes, BytesMut};
use jangada_entry::{Frame, Kind, decode_configuration};
use jangada_raft::{Configuration, HardState, Index, Position};

use crate::batch::{BATCH_BYTES_MAX, BATCH_ENTRIES_MAX, BatchHeader, Summary};
use crate::disk::{Disk, File};
use crate::error::{OpenError, WalError};
use crate::layout::{Place, SECTOR, sectors, segment_name, spare_name, spare_number, u64_at};
use crate::options::{Entropy, Identity, Options};
use crate::prepare::{Make, Origin, Preparation, Prepared, Spare};
use crate::recover::{Recovered, Report, SegmentPlace, Survey, segment_numbers, survey};
use crate::segment::{NOTE_BYTES_MAX, SegmentHeader};
use crate::state::{BatchPlace, LogState};

/// What fills the last sector of a header or of frames.
static PADDING: [u8; SECTOR] = [0; SECTOR];

/// One write of the log: what one sync makes durable.
#[derive(Clone, Debug)]
pub struct Batch<'a> {
    /// The term and vote in force.
    pub hard_state: HardState,
    /// The member's own note, opaque to the log: in force until another one is written. At most
    /// [`NOTE_BYTES_MAX`] bytes.
    pub note: Option<Bytes>,
    /// Everything behind this index is dropped, then the entries follow; the log's last index when
    /// nothing is dropped.
    pub after: Index,
    /// The entries, contiguous from `after` on.
    pub entries: &'a [Frame],
}

/// What has been written and is not durable yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Pending {
    /// Nothing.
    Nothing,
    /// Contents of the active segment.
    Contents,
    /// The same, and the segment's name.
    ContentsAndName,
}

/// The log. One process owns it, one thread steps it.
#[derive(Debug)]
pub struct Wal<D: Disk> {
    disk: D,
    options: Options,
    entropy: Entropy,
    identity: Identity,
    state: LogState,
    /// The segments in use, oldest first; the last one is active.
    segments: Vec<SegmentPlace>,
    file: D::File,
    salt: u64,
    /// The length of the active segment's file.
    capacity: u64,
    /// The number and the crc that the next batch names.
    sequence: u64,
    crc: u32,
    pending: Pending,
    poisoned: bool,
    /// The size of the next segment.
    segment_bytes: u64,
    spares: Vec<Spare>,
    /// Files that can be made spares, or removed.
    recycled: Vec<String>,
    /// Whether a [`Preparation`] is under way.
    preparing: bool,
    spare_number: u64,
}

/// How a segment begins.
struct Beginning {
    number: u64,
    start: Position,
    previous_end: u64,
    sequence: u64,
    previous_crc: u32,
}

impl<D: Disk> Wal<D> {
    /// Whether the folder holds a log, sound or not.
    ///
    /// # Errors
    /// If the folder belongs to another program, or the disk fails.
    pub fn exists(disk: &D) -> Result<bool, OpenError> {
        Ok(!segment_numbers(&disk.list()?)?.is_empty())
    }

    /// Makes an empty log, durable on return. An `identity` with incarnation 0 gets a random one.
    ///
    /// # Errors
    /// If there is a log already, the folder is another program's, or the disk fails.
    pub fn create(
        disk: D,
        options: Options,
        identity: Identity,
        configuration: Configuration,
    ) -> Result<(Wal<D>, Recovered), OpenError> {
        if Wal::exists(&disk)? {
            return Err(OpenError::Exists);
        }
        let mut entropy = Entropy::new(options.seed);
        let mut identity = identity;
        if identity.incarnation == 0 {
            identity.incarnation = entropy.draw()?;
        }
        let hard_state = HardState::default();
        let state = LogState::new(Position::default(), configuration, hard_state, Bytes::new());
        let leftovers: Vec<String> =
            disk.list()?.into_iter().filter(|name| is_spare(name)).collect();
        let beginning = Beginning {
            number: 1,
            start: Position::default(),
            previous_end: 0,
            sequence: 1,
            previous_crc: 0,
        };
        let spare_number = leftovers.iter().filter_map(|name| spare_number(name)).max();
        let wal = Wal::begin(
            Setting { disk, options, entropy, identity, spare_number: spare_number.unwrap_or(0) },
            state,
            Vec::new(),
            leftovers,
            &beginning,
            &[],
        )?;
        let recovered = wal.recovered(Report::default());
        Ok((wal, recovered))
    }

    /// Opens the log: reads and checks all of it, decides what a crash or rot has left, and begins
    /// a segment with a fresh copy of the last batch, durable on return. Until then no file is
    /// changed.
    ///
    /// `durable_applied` is the index up to which the state machine itself is durable: rot at or
    /// below it is cut away, rot above it is refused.
    ///
    /// # Errors
    /// What is wrong with the log, in a sentence.
    pub fn open(
        disk: D,
        options: Options,
        durable_applied: Index,
    ) -> Result<(Wal<D>, Recovered), OpenError> {
        let Survey {
            identity,
            mut state,
            mut segments,
            newest,
            last_batch,
            sequence,
            crc,
            leftovers,
            spare_number,
            report,
        } = survey(&disk, durable_applied)?;
        let mut entries = Vec::new();
        let end = segments.last().expect("there is a segment").end;
        let beginning = match last_batch {
            // The newest segment holds this batch alone: a copy takes its place.
            Some(last) if last.place.offset == newest.opening_bytes() => {
                entries = copy_of(&disk, &state, &last)?;
                segments.pop();
                Beginning {
                    number: newest.number,
                    start: newest.start,
                    previous_end: newest.previous_end,
                    sequence: newest.sequence,
                    previous_crc: newest.previous_crc,
                }
            }
            Some(last) => {
                entries = copy_of(&disk, &state, &last)?;
                segments.last_mut().expect("there is a segment").end = last.place.offset;
                Beginning {
                    number: newest.number + 1,
                    start: last.after,
                    previous_end: last.place.offset,
                    sequence: last.sequence,
                    previous_crc: last.previous_crc,
                }
            }
            None => Beginning {
                number: newest.number + 1,
                start: state.last_position(),
                previous_end: end,
                sequence,
                previous_crc: crc,
            },
        };
        state.truncate(beginning.start.index);
        let entropy = Entropy::new(options.seed);
        let setting = Setting { disk, options, entropy, identity, spare_number };
        let wal = Wal::begin(setting, state, segments, leftovers, &beginning, &entries)?;
        let recovered = wal.recovered(report);
        Ok((wal, recovered))
    }

    /// Begins a segment at start: it gets its name only when it is whole and durable, so that it is
    /// there altogether or not at all.
    fn begin(
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
        let mut leftovers = leftovers;
        // A file that is there already takes no new space on a disk that may be full.
        let recycled = leftovers.iter().position(is_spare);
        let mut spare_number = spare_number;
        let make = match recycled {
            Some(at) => Make {
                name: leftovers.swap_remove(at),
                bytes: segment_bytes.max(needed),
                origin: Origin::Recycled,
            },
            None => {
                spare_number += 1;
                Make {
                    name: spare_name(spare_number),
                    bytes: segment_bytes.max(needed),
                    origin: Origin::New,
                }
            }
        };
        // A released segment whose new name is not durable yet must not lose its contents.
        disk.sync_directory()?;
        let (spare, file) = make.run(&disk)?;
        header.capacity = spare.bytes;
        write_batch(&file, 0, &header.opening(), &mut batch, entries)?;
        file.sync()?;
        let name = segment_name(beginning.number);
        disk.rename(&spare.name, &name)?;
        disk.sync_directory()?;
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
            recycled: Vec::new(),
            preparing: false,
            spare_number,
        };
        wal.segments.push(SegmentPlace { number: beginning.number, start: beginning.start, end });
        wal.state.append(&batch, batch.place.offset, configurations_of(entries));
        for leftover in leftovers.into_iter().filter(|leftover| *leftover != name) {
            wal.release(leftover)?;
        }
        wal.disk.sync_directory()?;
        Ok(wal)
    }

    fn recovered(&self, report: Report) -> Recovered {
        Recovered {
            identity: self.identity,
            hard_state: self.state.hard_state,
            note: self.state.note.clone(),
            configuration: self.state.configuration_at(self.state.last).clone(),
            base_configuration: self.state.base_configuration().clone(),
            range: self.state.range(),
            report,
        }
    }

    /// Writes a batch and makes it durable: [`Wal::write`] and [`Wal::sync`].
    ///
    /// # Errors
    /// As theirs.
    pub fn append(&mut self, batch: &Batch<'_>) -> Result<(), WalError> {
        self.write(batch)?;
        self.sync()
    }

    /// Writes a batch; it is durable once [`Wal::sync`] has returned.
    ///
    /// # Errors
    /// [`WalError::Full`], [`WalError::NoteTooLarge`] and [`WalError::BatchTooLarge`] leave the log
    /// as it was. After [`WalError::Io`] nothing more can be done.
    ///
    /// # Panics
    /// If the batch before is not durable yet (log invariant 1), the entries do not follow on
    /// `after` (2), or term or vote go back (3).
    pub fn write(&mut self, batch: &Batch<'_>) -> Result<(), WalError> {
        self.usable()?;
        assert!(self.pending == Pending::Nothing, "log invariant 1");
        self.check(batch);
        let note_bytes = batch.note.as_ref().map_or(0, Bytes::len);
        if NOTE_BYTES_MAX < note_bytes {
            return Err(WalError::NoteTooLarge { bytes: note_bytes });
        }
        let mut header = self.batch_header(batch);
        let bytes = header.batch_bytes();
        if BATCH_BYTES_MAX < bytes || BATCH_ENTRIES_MAX < batch.entries.len() {
            return Err(WalError::BatchTooLarge { bytes, entries: batch.entries.len() });
        }
        let end = header.place.offset;
        if batch.after < self.state.last || self.capacity < end + bytes {
            return self.roll(batch);
        }
        if let Err(error) = write_batch(&self.file, end, &[], &mut header, batch.entries) {
            return Err(self.failed_write(error));
        }
        self.wrote(&header, batch.entries, Pending::Contents);
        Ok(())
    }

    /// Makes what was written durable.
    ///
    /// # Errors
    /// [`WalError::Io`] if the disk fails: the log is poisoned, and the process has to stop.
    pub fn sync(&mut self) -> Result<(), WalError> {
        self.usable()?;
        let mut result = Ok(());
        if self.pending != Pending::Nothing {
            result = self.file.sync();
        }
        if result.is_ok() && self.pending == Pending::ContentsAndName {
            result = self.disk.sync_directory();
        }
        match result {
            Ok(()) => {
                self.pending = Pending::Nothing;
                Ok(())
            }
            Err(error) => Err(self.poison(error)),
        }
    }

    /// Reads entries from `from` up to `last`, as many as fit into `bytes_max` bytes but at least
    /// one. Each is checked against the checksums and its name.
    ///
    /// # Errors
    /// [`WalError::Rot`] if an entry is damaged; [`WalError::Io`] if the disk fails.
    ///
    /// # Panics
    /// If the log does not hold all of `from..=last`.
    pub fn read(&self, from: Index, last: Index, bytes_max: u64) -> Result<Vec<Frame>, WalError> {
        self.usable()?;
        assert!(self.state.base.index < from && from <= last, "the entries lie within the log");
        assert!(last <= self.state.last, "the entries lie within the log");
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

    /// Releases entries at or before `up_to`, whole segments at a time, and tells what is now the
    /// entry before the log's first.
    ///
    /// When the log does not hold `up_to` (a snapshot that reaches further was restored, §7), all
    /// entries go, and the log starts anew behind it with `configuration` in force, durable on
    /// return.
    ///
    /// # Errors
    /// [`WalError::Full`] if a segment is needed and there is no space; nothing has changed then.
    /// [`WalError::Io`] if the disk fails.
    pub fn cut(
        &mut self,
        up_to: Position,
        configuration: &Configuration,
    ) -> Result<Position, WalError> {
        self.usable()?;
        assert!(self.pending == Pending::Nothing, "log invariant 1");
        if up_to.index <= self.state.base.index {
            return Ok(self.state.base);
        }
        if self.state.term_at(up_to.index) != Some(up_to.term) {
            self.restart_behind(up_to, configuration)?;
        }
        let Some((keep, base)) = self.cut_point(up_to.index) else {
            return Ok(self.state.base);
        };
        let released: Vec<SegmentPlace> = self.segments.drain(..keep).collect();
        if self.state.base.index < base.index {
            self.state.advance_base(base);
        }
        for segment in released {
            if let Err(error) = self.release(segment_name(segment.number)) {
                return Err(self.poison(error));
            }
        }
        match self.disk.sync_directory() {
            Ok(()) => Ok(self.state.base),
            Err(error) => Err(self.poison(error)),
        }
    }

    /// The first segment to keep and what the log then begins behind, when something can go.
    ///
    /// A later segment may start behind an earlier entry than the one before it, where entries were
    /// dropped: so it is the lowest start of all that are kept which counts.
    fn cut_point(&self, up_to: Index) -> Option<(usize, Position)> {
        let mut lowest: Option<Position> = None;
        for (at, segment) in self.segments.iter().enumerate().rev() {
            let start = segment.start;
            let base = lowest.filter(|lowest| lowest.index < start.index).unwrap_or(start);
            if base.index <= up_to {
                return (0 < at).then_some((at, base));
            }
            lowest = Some(base);
        }
        None
    }

    /// Drops every entry: the log goes on behind `position`.
    fn restart_behind(
        &mut self,
        position: Position,
        configuration: &Configuration,
    ) -> Result<(), WalError> {
        let before = self.state.clone();
        self.state.reset(position, configuration.clone());
        let batch = Batch {
            hard_state: self.state.hard_state,
            note: None,
            after: position.index,
            entries: &[],
        };
        if let Err(error) = self.roll(&batch) {
            self.state = before;
            return Err(error);
        }
        self.sync()
    }

    /// The entry before the log's first.
    #[must_use]
    pub fn base(&self) -> Position {
        self.state.base
    }

    /// The index of the log's first entry, or of the next one when the log is empty.
    #[must_use]
    pub fn first_index(&self) -> Index {
        self.state.base.index.next()
    }

    /// The name of the log's last entry.
    #[must_use]
    pub fn last_position(&self) -> Position {
        self.state.last_position()
    }

    /// The bytes of the segments in use, as far as they are written.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.end).sum()
    }

    /// Whose log it is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// How many segments are ready for use. When none is and the disk is full, the next roll fails.
    #[must_use]
    pub fn spares_ready(&self) -> usize {
        self.spares.len()
    }

    /// A job for a background thread, if there is one to do: making segments ready, removing files
    /// that are of no use. One is under way at a time, until [`Wal::prepared`] takes its result.
    pub fn preparation(&mut self) -> Option<Preparation> {
        if self.preparing || self.poisoned {
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
                Ok(())
            }
            Err(WalError::Io(error)) => Err(self.poison(error)),
            Err(error) => {
                let smaller = sectors(self.segment_bytes / 2);
                self.segment_bytes = smaller.max(sectors(self.options.segment_bytes_min));
                Err(error)
            }
        }
    }

    /// What to make the next spare segment of.
    fn next_make(&mut self) -> Make {
        let bytes = self.segment_bytes;
        if let Some(name) = self.recycled.pop() {
            return Make { name, bytes, origin: Origin::Recycled };
        }
        self.spare_number += 1;
        Make { name: spare_name(self.spare_number), bytes, origin: Origin::New }
    }

    fn active(&self) -> &SegmentPlace {
        self.segments.last().expect("a segment is active")
    }

    fn usable(&self) -> Result<(), WalError> {
        if self.poisoned { Err(WalError::Poisoned) } else { Ok(()) }
    }

    fn poison(&mut self, error: io::Error) -> WalError {
        self.poisoned = true;
        WalError::Io(error)
    }

    /// A failed write of a batch: no space leaves the log as it was, anything else poisons it.
    fn failed_write(&mut self, error: io::Error) -> WalError {
        match WalError::from(error) {
            WalError::Io(error) => self.poison(error),
            other => other,
        }
    }

    /// Asserts that the batch keeps the log's invariants.
    fn check(&self, batch: &Batch<'_>) {
        assert!(self.state.base.index <= batch.after, "log invariant 2: behind the base");
        assert!(batch.after <= self.state.last, "log invariant 2: no gap");
        let HardState { term, vote } = self.state.hard_state;
        let forward = term < batch.hard_state.term
            || (term == batch.hard_state.term && (vote.is_none() || vote == batch.hard_state.vote));
        assert!(forward, "log invariant 3");
        let mut before = self.state.position_at(batch.after);
        for frame in batch.entries {
            let position = frame.position();
            assert!(position.index == before.index.next(), "log invariant 2: contiguous");
            assert!(before.term <= position.term, "log invariant 2: terms never fall");
            let group = u64_at(frame.bytes(), 16);
            assert!(group == self.identity.group, "an entry of the log's own group");
            before = position;
        }
        let entry_term = batch.entries.last().map_or(batch.hard_state.term, |_| before.term);
        assert!(entry_term <= batch.hard_state.term, "log invariant 2: the term in force");
    }

    /// The header of a batch at the end of the active segment.
    fn batch_header(&self, batch: &Batch<'_>) -> BatchHeader {
        let place = Place { segment: self.active().number, offset: self.active().end };
        BatchHeader {
            salt: self.salt,
            place,
            sequence: self.sequence,
            previous_crc: self.crc,
            crc: 0,
            durable: place,
            hard_state: batch.hard_state,
            after: self.state.position_at(batch.after),
            note: batch.note.clone(),
            entries: batch.entries.iter().map(Summary::of).collect(),
        }
    }

    fn wrote(&mut self, header: &BatchHeader, entries: &[Frame], pending: Pending) {
        self.state.append(header, header.place.offset, configurations_of(entries));
        let end = header.place.offset + header.batch_bytes();
        self.segments.last_mut().expect("a segment is active").end = end;
        self.sequence = header.sequence + 1;
        self.crc = header.crc;
        self.pending = pending;
    }

    /// Begins a segment with `batch`, which does not fit into the active one or drops entries.
    fn roll(&mut self, batch: &Batch<'_>) -> Result<(), WalError> {
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
        segment.hard_state = batch.hard_state;
        segment.note = batch.note.clone().unwrap_or_else(|| self.state.note.clone());
        let mut header = self.batch_header(batch);
        header.salt = salt;
        header.note = None;
        header.place = Place { segment: beginning.number, offset: segment.opening_bytes() };
        let needed = segment.opening_bytes() + header.batch_bytes();
        let (spare, file) = self.take_spare(needed).map_err(|error| self.failed_write(error))?;
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
    fn unroll(&mut self, name: &str, error: io::Error) -> WalError {
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

    /// A segment of at least `needed` bytes that is ready; made on the spot if there is none.
    fn take_spare(&mut self, needed: u64) -> io::Result<(Spare, D::File)> {
        if let Some(at) = self.spares.iter().position(|spare| needed <= spare.bytes) {
            let spare = self.spares.remove(at);
            let file = self.disk.open(&spare.name)?;
            return Ok((spare, file));
        }
        let mut make = self.next_make();
        make.bytes = make.bytes.max(needed);
        let (name, origin) = (make.name.clone(), make.origin);
        let made = make.run(&self.disk);
        if made.is_err() && origin == Origin::New {
            // A file that is half made takes the space that is short. That removing it fails too
            // adds nothing: the next opening of the log finds the file.
            let _ = self.disk.remove(&name);
        }
        made
    }

    /// Takes a file out of the log: under another name it can be made a spare, or removed.
    fn release(&mut self, name: String) -> io::Result<()> {
        if is_spare(&name) {
            self.recycled.push(name);
            return Ok(());
        }
        self.spare_number += 1;
        let spare = spare_name(self.spare_number);
        self.disk.rename(&name, &spare)?;
        self.recycled.push(spare);
        Ok(())
    }
}

/// What [`Wal::begin`] starts from.
struct Setting<D> {
    disk: D,
    options: Options,
    entropy: Entropy,
    identity: Identity,
    spare_number: u64,
}

/// Which entries of a batch to read.
struct Span {
    first: Index,
    last: Index,
    bytes_max: u64,
    /// Whether the first one is read however large it is.
    one_at_least: bool,
}

/// Whether a file is no part of the log.
fn is_spare(name: impl AsRef<str>) -> bool {
    spare_number(name.as_ref()).is_some()
}

/// The header of a segment that begins behind `beginning.start`, with what is in force in `state`.
fn segment_header(
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
    }
}

/// The configurations among the entries.
fn configurations_of(entries: &[Frame]) -> Vec<(Index, Configuration)> {
    let is_configuration = |frame: &&Frame| frame.bytes()[12] == Kind::Configuration as u8;
    let configuration = |frame: &Frame| {
        let configuration = decode_configuration(frame.payload());
        (frame.position().index, configuration.expect("an entry is checked before it is written"))
    };
    entries.iter().filter(is_configuration).map(configuration).collect()
}

/// Writes `opening` and the batch behind it at `offset`, the frames by their own bytes.
fn write_batch<F: File>(
    file: &F,
    offset: u64,
    opening: &[u8],
    header: &mut BatchHeader,
    entries: &[Frame],
) -> io::Result<()> {
    let list = header.encode();
    let padding = |bytes: u64| {
        let rest = usize::try_from(sectors(bytes) - bytes).expect("less than a sector");
        &PADDING[..rest]
    };
    let mut slices: Vec<&[u8]> = Vec::with_capacity(entries.len() + 5);
    if !opening.is_empty() {
        slices.push(opening);
    }
    slices.push(&list);
    slices.extend(entries.iter().map(|frame| &frame.bytes()[..]));
    slices.push(padding(header.header_bytes() + header.frames_bytes()));
    slices.push(&list);
    slices.push(padding(header.header_bytes()));
    file.write_at(offset, &slices)
}

/// The entries of the last batch, read back and checked, to be written anew.
fn copy_of<D: Disk>(
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
    let mut list = vec![0; place.header_bytes as usize];
    file.read_at(place.list_at, &mut list)?;
    let header = BatchHeader::decode(&list).ok_or_else(|| rot(span.first, place.list_at))?;
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
