//! The log as its owner sees it: open, append, read, cut.

mod anew;
mod cut;
mod read;
mod repair;
mod roll;
mod spares;

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;
use jangada_entry::{Frame, Kind, decode_configuration};
use jangada_raft::{Configuration, HardState, Index, Position, canon};

use crate::batch::{BATCH_BYTES_MAX, BATCH_ENTRIES_MAX, BatchHeader, Summary};
use crate::disk::{Disk, File};
use crate::error::{OpenError, WalError};
use crate::layout::{Place, SECTOR, sectors, segment_name, spare_number, u64_at};
use crate::machine::Machine;
use crate::options::{Entropy, Identity, Options};
use crate::prepare::Spare;
use crate::recover::{Beside, Recovered, Report, SegmentPlace, Survey, segment_numbers, survey};
use crate::segment::NOTE_BYTES_MAX;
use crate::state::LogState;

pub use self::anew::Anew;
use self::read::copy_of;
use self::roll::{Beginning, Setting};
use self::spares::is_spare;

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
    /// How many more batches are written before a spare is tried again; not 0 after one failed for
    /// want of space.
    batches_until_retry: u32,
    spare_number: u64,
    /// Whether the last attempt to make a segment found no space.
    short: bool,
    /// Whether the last write that needed a segment got none. It may have wanted a larger one than
    /// those that are ready.
    starved: bool,
    /// Entries that came to replace damaged ones, until all are there.
    mended: BTreeMap<Index, Frame>,
}

/// Whether the disk has space for the log to go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Space {
    /// It has.
    Plenty,
    /// The next segments could not be made: what the log has left is kept for essential batches.
    Reserve,
}

/// Whether a batch may use the space that is kept in reserve.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Weight {
    /// It is refused when only the reserve is left.
    Ordinary,
    /// It is needed to get out of want of space, or to stay in the cluster meanwhile: term and vote, a
    /// no-op, a configuration, a compaction, a deletion, an alarm.
    Essential,
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
        let recovered = wal.found(Report::default());
        Ok((wal, recovered))
    }

    /// Opens the log of a member that is to stand alone, or of which nothing is known but how far its
    /// state machine is: reads and checks all of it, decides what a crash or rot has left, and begins
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
        let survey = survey(&disk, Beside::Index(durable_applied))?;
        Wal::open_surveyed(disk, options, survey, None)
    }

    /// Opens the log of a member of a cluster, beside its state machine. As [`Wal::open`], save for
    /// two things.
    ///
    /// What the log has lost to rot and the machine lacks is to come from the other members. Where the
    /// names of the entries are known, they stay in the log and are [`Recovered::faulty`]. Where they
    /// are not, the log ends before the damage and is [`Recovered::recovering`], which is durable.
    ///
    /// A machine that holds what the log does not (a crash came between the installation of a snapshot
    /// and [`Wal::begin_anew`]) is right: the log begins anew behind it.
    ///
    /// # Errors
    /// What is wrong with the log, in a sentence: [`OpenError::Alone`] where something is lost and this
    /// member is the only voter.
    pub fn open_beside(
        disk: D,
        options: Options,
        machine: &Machine,
    ) -> Result<(Wal<D>, Recovered), OpenError> {
        let survey = survey(&disk, Beside::Machine(machine))?;
        Wal::open_surveyed(disk, options, survey, Some(machine))
    }

    fn open_surveyed(
        disk: D,
        options: Options,
        survey: Survey,
        machine: Option<&Machine>,
    ) -> Result<(Wal<D>, Recovered), OpenError> {
        let Survey { identity, mut state, mut segments, newest, sequence, crc, .. } = survey;
        let Survey { last_batch, last_is_faulty, leftovers, spare_number, mut report, .. } = survey;
        let mut entries = Vec::new();
        let end = segments.last().expect("there is a segment").end;
        let behind = |start: Position| Beginning {
            number: newest.number + 1,
            start,
            previous_end: end,
            sequence,
            previous_crc: crc,
        };
        if last_is_faulty {
            // No copy of it can be made, so what there is of it must be durable as it stands.
            disk.open(&segment_name(newest.number))?.sync()?;
        }
        // One that lies behind the log's beginning has lost its state: the log is all there is.
        let lost = |machine: &&Machine| machine.applied.index < state.base.index;
        let ahead = machine.filter(|m| !state.holds(m.applied) && !lost(m));
        let beginning = match (ahead, last_batch, &newest.header) {
            (Some(machine), _, _) => {
                let Machine { applied, configuration } = machine;
                state.reset(*applied, configuration.clone());
                if state.hard_state.term < applied.term {
                    state.hard_state = HardState { term: applied.term, vote: None };
                }
                report.anew = Some(*applied);
                behind(*applied)
            }
            // The newest segment holds this batch alone: a copy takes its place.
            (None, Some(last), Some(newest)) if last.place.offset == newest.opening_bytes() => {
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
            (None, Some(last), _) => {
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
            (None, None, _) => behind(state.last_position()),
        };
        report.faulty = state.faulty().len() as u64;
        state.truncate(beginning.start.index);
        let entropy = Entropy::new(options.seed);
        let setting = Setting { disk, options, entropy, identity, spare_number };
        let mut wal = Wal::begin(setting, state, segments, leftovers, &beginning, &entries)?;
        if ahead.is_some() {
            wal.release_first(wal.segments.len() - 1).map_err(of_release)?;
        }
        let recovered = wal.found(report);
        Ok((wal, recovered))
    }

    fn found(&self, report: Report) -> Recovered {
        Recovered {
            identity: self.identity,
            hard_state: self.state.hard_state,
            note: self.state.note.clone(),
            configuration: self.state.configuration_at(self.state.last).clone(),
            base_configuration: self.state.base_configuration().clone(),
            configurations: self.state.configurations().cloned().collect(),
            range: self.state.range(),
            faulty: self.faulty(),
            recovering: self.state.recovering,
            report,
        }
    }

    /// Writes a batch and makes it durable: [`Wal::write`] and [`Wal::sync`].
    ///
    /// # Errors
    /// As theirs.
    pub fn append(&mut self, batch: &Batch<'_>) -> Result<(), WalError> {
        self.append_as(Weight::Essential, batch)
    }

    /// As [`Wal::append`]; an ordinary batch leaves the reserve alone.
    ///
    /// # Errors
    /// As [`Wal::write_as`] and [`Wal::sync`].
    pub fn append_as(&mut self, weight: Weight, batch: &Batch<'_>) -> Result<(), WalError> {
        self.write_as(weight, batch)?;
        self.sync()
    }

    /// Writes a batch; it is durable once [`Wal::sync`] has returned.
    ///
    /// # Errors
    /// [`WalError::Full`], [`WalError::NoteTooLarge`] and [`WalError::BatchTooLarge`] leave the log
    /// as it was (where a file system without in-place writes found no space at the very end, the
    /// batch may be there after a restart, as one that was never acknowledged may). After
    /// [`WalError::Io`] nothing more can be done.
    ///
    /// # Panics
    /// If the batch before is not durable yet (log invariant 1), the entries do not follow on
    /// `after` (2), or term or vote go back (3).
    pub fn write(&mut self, batch: &Batch<'_>) -> Result<(), WalError> {
        self.write_as(Weight::Essential, batch)
    }

    /// As [`Wal::write`]; an ordinary batch leaves the reserve alone.
    ///
    /// # Errors
    /// As [`Wal::write`], and [`WalError::Reserved`] for an ordinary batch while [`Wal::space`] is
    /// [`Space::Reserve`], or when it would need the reserve itself.
    ///
    /// # Panics
    /// As [`Wal::write`].
    pub fn write_as(&mut self, weight: Weight, batch: &Batch<'_>) -> Result<(), WalError> {
        self.usable()?;
        assert!(self.pending == Pending::Nothing, "log invariant 1");
        self.check(batch);
        if weight == Weight::Ordinary && self.is_at_its_reserve() {
            return Err(WalError::Reserved);
        }
        self.check_note(batch.note.as_ref())?;
        let mut header = self.batch_header(batch);
        let bytes = header.batch_bytes();
        if BATCH_BYTES_MAX < bytes || BATCH_ENTRIES_MAX < batch.entries.len() {
            return Err(WalError::BatchTooLarge { bytes, entries: batch.entries.len() });
        }
        let end = header.place.offset;
        if batch.after < self.state.last || self.capacity < end + bytes {
            return self.roll(batch, weight);
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
        if self.pending != Pending::Nothing && !canon!(batch_is_acknowledged_before_its_sync) {
            result = self.file.sync();
        }
        if result.is_err() && canon!(failed_sync_is_tried_again) {
            result = self.file.sync();
        }
        let named = self.pending == Pending::ContentsAndName && !canon!(directory_is_not_synced);
        if result.is_ok() && named {
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

    /// The lowest index such that the entries behind it, as far as can be told batch by batch, take at
    /// most so many bytes: up to there a log that keeps a trailing part of that size is cut. Takes
    /// time with the number of batches that are kept.
    #[must_use]
    pub fn index_keeping(&self, bytes: u64) -> Index {
        let mut kept = 0;
        for batch in self.state.batches.iter().rev() {
            kept += batch.frames_bytes;
            if bytes < kept {
                return batch.last;
            }
        }
        self.state.base.index
    }

    /// The name of the entry at `index`, or of the one that the log begins behind; `None` outside.
    #[must_use]
    pub fn position_at(&self, index: Index) -> Option<Position> {
        self.state.term_at(index).map(|term| Position { index, term })
    }

    /// Whether the member has to recover before it votes or counts: see [`Recovered::recovering`].
    #[must_use]
    pub fn is_recovering(&self) -> bool {
        self.state.recovering
    }

    /// Whose log it is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
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
        self.check_hard_state(batch.hard_state);
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

    /// Asserts that term and vote do not go back.
    fn check_hard_state(&self, next: HardState) {
        let HardState { term, vote } = self.state.hard_state;
        let same_term = term == next.term && (vote.is_none() || vote == next.vote);
        assert!(term < next.term || same_term, "log invariant 3");
    }

    fn check_note(&self, note: Option<&Bytes>) -> Result<(), WalError> {
        match note.map_or(0, Bytes::len) {
            bytes if NOTE_BYTES_MAX < bytes => Err(WalError::NoteTooLarge { bytes }),
            _ => Ok(()),
        }
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
        self.batches_until_retry = self.batches_until_retry.saturating_sub(1);
    }
}

/// Why a log was not opened, segments not being released.
fn of_release(error: WalError) -> OpenError {
    match error {
        WalError::Io(error) => OpenError::Io(error),
        other => OpenError::Io(io::Error::other(other.to_string())),
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
