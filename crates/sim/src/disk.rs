//! A simulated disk: the folder in which one member keeps its files.
//!
//! The world holds the [`SimDisk`] and decides when it breaks; the process under test holds a
//! [`DiskHandle`] of one life, which fails from the moment the process dies. What happens to the
//! contents of a file is `sectors.rs`' business; names are decided here:
//!
//! 1. After a loss of power each creation, renaming and removal since the last sync of the folder
//!    has either happened or not, independently of the others.
//! 2. An operation of a dead process has no effect, save the one in which it died, which may have
//!    been done in part.
//! 3. A full disk takes what fits and refuses the rest; what is allocated can be overwritten.
//! 4. A failed sync makes nothing durable and says so once.
//! 5. What goes wrong is counted here, when it does.

pub mod engine_file;
pub mod ledger;

pub(crate) mod rot;
pub(crate) mod sectors;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use jangada_wal::{Disk, File};

use crate::choices::{Choices, mix};
use crate::disk::sectors::{Contents, Damage, SECTOR_BYTES};
use crate::faults::Fault;

type Shared = Arc<Mutex<Contents>>;

/// A change of names that is not durable yet.
#[derive(Clone, Debug)]
enum NameChange {
    Put { name: String, file: Shared },
    Rename { from: String, to: String },
    Remove { name: String },
}

/// What a disk has done so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DiskCounts {
    /// Operations that change anything: creations, renamings, removals, writes, syncs.
    pub operations: u64,
    /// Syncs of files and of the folder.
    pub syncs: u64,
    /// Writes.
    pub writes: u64,
    /// Reads.
    pub reads: u64,
    /// Bytes written.
    pub bytes: u64,
}

/// A moment at which a death is at its worst: what was just done is not durable yet, or just is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment {
    /// A file was renamed: a segment begins, or is let go.
    Renamed,
    /// The folder was synced.
    FolderSynced,
    /// A segment of the log, or a file that is to become one, was synced.
    LogSynced,
    /// The engine's file was synced.
    EngineSynced,
    /// A file was made, removed, or given another length.
    Resized,
}

/// Every moment.
pub(crate) const MOMENTS: [Moment; 5] = [
    Moment::Renamed,
    Moment::FolderSynced,
    Moment::LogSynced,
    Moment::EngineSynced,
    Moment::Resized,
];

#[derive(Debug, Default)]
struct State {
    names: BTreeMap<String, Shared>,
    durable_names: BTreeMap<String, Shared>,
    pending: Vec<NameChange>,
    counts: DiskCounts,
    /// Rises with each death of the process; handles of an earlier life are dead.
    life: u64,
    /// What the process died of in the middle of an operation.
    dead: Option<Fault>,
    die_at: Option<(u64, Fault)>,
    /// In which operation behind a moment the process dies.
    die_after: Option<(Moment, u64)>,
    sync_fails_at: Option<u64>,
    write_fails_at: Option<(u64, Fault)>,
    read_fails_at: Option<u64>,
    misdirected: Option<Misdirection>,
    /// What has been damaged and has not been told.
    damaged: Vec<DamagedPlace>,
    /// How the disk has failed in this life of the process, first.
    failed: Option<Fault>,
    /// What has gone wrong and has not been counted.
    struck: Vec<Fault>,
    capacity: Option<u64>,
}

/// A write of the engine that is to land elsewhere.
#[derive(Clone, Copy, Debug)]
struct Misdirection {
    /// Which write, by its number.
    at: u64,
    /// Where it lands: this part of a million of the file; nowhere if `None`.
    lands: Option<u64>,
}

/// A place that no longer holds what was written there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct DamagedPlace {
    pub(crate) fault: Fault,
    pub(crate) file: String,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

/// One member's disk, as the world holds it.
#[derive(Clone, Debug, Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

/// The same disk, as one life of the member's process holds it.
#[derive(Clone, Debug)]
pub struct DiskHandle {
    state: Arc<Mutex<State>>,
    life: u64,
    /// Whether this only looks, and is no part of what is tested: then nothing fails in it.
    observes: bool,
}

/// An open file of one life of the process.
#[derive(Clone, Debug)]
pub struct SimFile {
    state: Arc<Mutex<State>>,
    life: u64,
    contents: Shared,
    name: Arc<str>,
    observes: bool,
}

/// How an operation goes.
enum Fate {
    Done,
    /// The process dies in it; this part of a million of it is done.
    DiesAt(u64),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn dead() -> io::Error {
    io::Error::other("the process that held this file is dead")
}

fn read_error(damage: Damage) -> io::Error {
    match damage {
        Damage::End => io::Error::new(io::ErrorKind::UnexpectedEof, "the file ends before"),
        Damage::Unreadable => io::Error::other("the sector cannot be read"),
    }
}

fn missing(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("there is no file {name}"))
}

impl State {
    fn check_alive(&self, life: u64) -> io::Result<()> {
        if self.dead.is_some() || self.life != life {
            return Err(dead());
        }
        Ok(())
    }

    /// Counts an operation that changes something.
    fn begin(&mut self, life: u64) -> io::Result<Fate> {
        self.check_alive(life)?;
        self.counts.operations += 1;
        let Some((at, fault)) = self.die_at else { return Ok(Fate::Done) };
        if self.counts.operations < at {
            return Ok(Fate::Done);
        }
        self.dead = Some(fault);
        self.die_at = None;
        self.struck.push(fault);
        Ok(Fate::DiesAt(mix(self.counts.operations ^ self.counts.bytes << 20) % 1_000_001))
    }

    /// A moment is about to come: the process may be meant to die in it, or soon after.
    fn comes(&mut self, moment: Moment) {
        if let Some((_, number)) = self.die_after.take_if(|(wanted, _)| *wanted == moment) {
            self.die_at = Some((self.counts.operations + 1 + number, Fault::CrashAtWorst));
        }
    }

    fn fails(&mut self, fault: Fault) {
        self.failed.get_or_insert(fault);
        self.struck.push(fault);
    }

    fn damages(&mut self, fault: Fault, places: impl IntoIterator<Item = DamagedPlace>) {
        self.struck.push(fault);
        self.damaged.extend(places);
    }

    fn disarm(&mut self) {
        self.die_at = None;
        self.die_after = None;
        self.sync_fails_at = None;
        self.write_fails_at = None;
        self.read_fails_at = None;
        self.misdirected = None;
    }

    /// An operation that is done whole or not at all, as the process dies in it.
    fn begin_whole(&mut self, life: u64) -> io::Result<()> {
        match self.begin(life)? {
            Fate::Done => Ok(()),
            Fate::DiesAt(_) => Err(dead()),
        }
    }

    fn change_names(&mut self, change: NameChange) {
        apply_name_change(&mut self.names, &change);
        self.pending.push(change);
    }

    fn used_bytes(&self) -> u64 {
        self.names.values().map(|file| lock(file).length() as u64).sum()
    }

    /// Every file that a name leads to, or led to when the folder was last synced.
    fn files(&self) -> Vec<Shared> {
        let mut files: Vec<Shared> = Vec::new();
        for file in self.names.values().chain(self.durable_names.values()) {
            if !files.iter().any(|known| Arc::ptr_eq(known, file)) {
                files.push(Arc::clone(file));
            }
        }
        files
    }
}

fn apply_name_change(names: &mut BTreeMap<String, Shared>, change: &NameChange) {
    match change {
        NameChange::Put { name, file } => {
            names.insert(name.clone(), Arc::clone(file));
        }
        NameChange::Rename { from, to } => {
            if let Some(file) = names.remove(from) {
                names.insert(to.clone(), file);
            }
        }
        NameChange::Remove { name } => {
            names.remove(name);
        }
    }
}

impl SimDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> SimDisk {
        SimDisk::default()
    }

    /// The disk for the present life of the process.
    #[must_use]
    pub fn handle(&self) -> DiskHandle {
        DiskHandle { state: Arc::clone(&self.state), life: lock(&self.state).life, observes: false }
    }

    /// The same for whoever looks at the disk from outside: what is to go wrong does not.
    pub(crate) fn observer(&self) -> DiskHandle {
        DiskHandle { observes: true, ..self.handle() }
    }

    /// What the disk has done so far.
    #[must_use]
    pub fn counts(&self) -> DiskCounts {
        lock(&self.state).counts
    }

    /// Whether the process died in an operation, as [`SimDisk::die_in_operation`] or
    /// [`SimDisk::die_after`] asked.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        lock(&self.state).dead.is_some()
    }

    /// The process dies in the `number`-th operation from now that changes anything, counted from
    /// 1. A write is then done up to some sector.
    pub fn die_in_operation(&self, number: u64) {
        let mut state = lock(&self.state);
        state.die_at = Some((state.counts.operations + number, Fault::CrashInOperation));
    }

    /// The process dies when the moment comes next: in that operation if `number` is 0, in the
    /// `number`-th one after it if not.
    pub fn die_after(&self, moment: Moment, number: u64) {
        lock(&self.state).die_after = Some((moment, number));
    }

    /// How the disk has failed first in this life of the process, if it has: in a sync, a write or
    /// a read.
    #[must_use]
    pub fn failure(&self) -> Option<Fault> {
        lock(&self.state).failed
    }

    /// What has gone wrong since this was last asked.
    pub(crate) fn take_struck(&self) -> Vec<Fault> {
        std::mem::take(&mut lock(&self.state).struck)
    }

    /// Takes back whatever is to go wrong later.
    pub fn die_never(&self) {
        lock(&self.state).disarm();
    }

    /// The `number`-th sync from now fails, counted from 1.
    pub fn fail_sync(&self, number: u64) {
        let mut state = lock(&self.state);
        state.sync_fails_at = Some(state.counts.syncs + number);
    }

    /// The `number`-th write from now fails after a part of it, counted from 1: as a disk that fails
    /// ([`Fault::WriteFailed`]), or as one that has no space ([`Fault::WriteShort`]).
    pub fn fail_write(&self, number: u64, fault: Fault) {
        let mut state = lock(&self.state);
        state.write_fails_at = Some((state.counts.writes + number, fault));
    }

    /// The `number`-th read from now fails, counted from 1; the same read succeeds later.
    pub fn fail_read(&self, number: u64) {
        let mut state = lock(&self.state);
        state.read_fails_at = Some(state.counts.reads + number);
    }

    /// Limits the sum of all files' lengths; `None` for no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        lock(&self.state).capacity = bytes;
    }

    /// The sum of all files' lengths in bytes.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        lock(&self.state).used_bytes()
    }

    /// The process dies; the page cache survives. Every handle is dead from here on; the next life
    /// begins with [`SimDisk::handle`].
    pub fn kill_process(&self) {
        let mut state = lock(&self.state);
        state.life += 1;
        state.dead = None;
        state.failed = None;
        state.disarm();
    }

    /// The power goes: the process dies, and what was not synced is lost in part. `strikes` decides
    /// of each unsynced change of a name whether it is lost ([`Fault::NameLost`]), and of each sector
    /// in flight whether it cannot be read afterwards ([`Fault::SectorUnreadable`]).
    pub fn lose_power(
        &self,
        choices: &mut Choices,
        strikes: &mut dyn FnMut(Fault, &mut Choices) -> bool,
    ) {
        self.kill_process();
        let mut state = lock(&self.state);
        let mut lost: Vec<(Shared, Vec<usize>)> = Vec::new();
        for file in state.files() {
            let unreadable = &mut |choices: &mut Choices| strikes(Fault::SectorUnreadable, choices);
            let sectors = lock(&file).lose_power(choices, unreadable);
            lost.push((file, sectors));
        }
        let mut names = state.durable_names.clone();
        for change in std::mem::take(&mut state.pending) {
            if !strikes(Fault::NameLost, choices) {
                apply_name_change(&mut names, &change);
                continue;
            }
            if !matches!(change, NameChange::Remove { .. }) {
                state.struck.push(Fault::NameLost);
            }
        }
        // A file whose name comes back, or comes into being, has lost what its file lost.
        for file in names.values() {
            lock(file).lose_power(choices, &mut |_| false);
        }
        for (name, file) in &names {
            let lost = lost.iter().find(|(known, _)| Arc::ptr_eq(known, file));
            let Some((_, sectors)) = lost else { continue };
            let Some(first) = sectors.first() else { continue };
            let fault = Fault::SectorUnreadable;
            let (offset, bytes) = (first * SECTOR_BYTES, sectors.len() * SECTOR_BYTES);
            let (offset, bytes) = (offset as u64, bytes as u64);
            let place = DamagedPlace { fault, file: name.clone(), offset, bytes };
            state.damages(fault, [place]);
        }
        state.durable_names = names.clone();
        state.names = names;
    }

    /// The disk writes some of what is unsynced by itself.
    pub fn write_back(&self, choices: &mut Choices) {
        for file in lock(&self.state).files() {
            lock(&file).write_back(choices);
        }
    }

    /// The `number`-th write of the engine from now, counted from 1, does not reach its place, which
    /// keeps what it held. It lands in this part of a million of the file, or nowhere.
    pub fn misdirect_write(&self, number: u64, lands: Option<u64>) {
        let mut state = lock(&self.state);
        state.misdirected = Some(Misdirection { at: state.counts.writes + number, lands });
    }

    /// What has been damaged since this was last asked.
    pub(crate) fn take_damaged(&self) -> Vec<DamagedPlace> {
        std::mem::take(&mut lock(&self.state).damaged)
    }

    /// Flips a bit of a file at rest. Nothing happens beyond the file's end.
    ///
    /// # Errors
    /// If there is no such file.
    pub fn flip(&self, name: &str, offset: u64, bit: u8) -> io::Result<()> {
        self.with_contents(name, |contents| contents.flip(offset as usize, bit))
    }

    /// Makes a sector of a file unreadable. Nothing happens beyond the file's end.
    ///
    /// # Errors
    /// If there is no such file.
    pub fn spoil(&self, name: &str, offset: u64) -> io::Result<()> {
        self.with_contents(name, |contents| contents.spoil(offset as usize))
    }

    /// Puts other bytes in a place of a file at rest. Nothing happens beyond the file's end.
    ///
    /// # Errors
    /// If there is no such file.
    pub fn overwrite(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.with_contents(name, |contents| contents.overwrite(offset as usize, bytes))
    }

    /// A place in a file that is not zeros, at the beginning of a sector, the next one from this part
    /// of a million of the file on; `None` if all is zeros.
    ///
    /// # Errors
    /// If there is no such file.
    pub fn used_place(&self, name: &str, part: u64) -> io::Result<Option<u64>> {
        self.with_contents(name, |contents| {
            let sectors = (contents.length() / SECTOR_BYTES) as u64;
            let from = sectors * part / 1_000_000;
            contents.used_sector(from as usize).map(|sector| (sector * SECTOR_BYTES) as u64)
        })
    }

    /// What a place of a file holds, as written: also what cannot be read any more.
    ///
    /// # Errors
    /// If there is no such file, or it ends before.
    pub(crate) fn content(&self, name: &str, offset: u64, bytes: u64) -> io::Result<Vec<u8>> {
        let held =
            self.with_contents(name, |contents| contents.held(offset as usize, bytes as usize))?;
        held.ok_or_else(|| read_error(Damage::End))
    }

    fn with_contents<T>(&self, name: &str, act: impl FnOnce(&mut Contents) -> T) -> io::Result<T> {
        let state = lock(&self.state);
        let file = state.names.get(name).ok_or_else(|| missing(name))?;
        Ok(act(&mut lock(file)))
    }

    /// Another disk that holds what this one would hold if the power went at this moment and all was
    /// lost that can be: every sector, length and name as it was when last made durable.
    #[must_use]
    pub fn durable_copy(&self) -> SimDisk {
        let state = lock(&self.state);
        let copy = |(name, file): (&String, &Shared)| {
            (name.clone(), Arc::new(Mutex::new(lock(file).durable_copy())))
        };
        let names: BTreeMap<String, Shared> = state.durable_names.iter().map(copy).collect();
        let state = State { durable_names: names.clone(), names, ..State::default() };
        SimDisk { state: Arc::new(Mutex::new(state)) }
    }

    /// The files' names and lengths in bytes, sorted by name.
    #[must_use]
    pub fn listing(&self) -> Vec<(String, u64)> {
        let state = lock(&self.state);
        let length = |file: &Shared| lock(file).length() as u64;
        state.names.iter().map(|(name, file)| (name.clone(), length(file))).collect()
    }
}

impl DiskHandle {
    /// Opens a file, creating it when there is none.
    ///
    /// # Errors
    /// If the process is dead.
    pub fn open_or_create(&self, name: &str) -> io::Result<SimFile> {
        match self.open(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.create(name),
            result => result,
        }
    }

    fn file(&self, contents: Shared, name: &str) -> SimFile {
        SimFile {
            state: Arc::clone(&self.state),
            life: self.life,
            contents,
            name: name.into(),
            observes: self.observes,
        }
    }
}

impl Disk for DiskHandle {
    type File = SimFile;

    fn create(&self, name: &str) -> io::Result<SimFile> {
        let mut state = lock(&self.state);
        state.comes(Moment::Resized);
        state.begin_whole(self.life)?;
        if state.names.contains_key(name) {
            let text = format!("there is a file {name} already");
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        let file = Shared::default();
        state.change_names(NameChange::Put { name: name.to_owned(), file: Arc::clone(&file) });
        Ok(self.file(file, name))
    }

    fn open(&self, name: &str) -> io::Result<SimFile> {
        let state = lock(&self.state);
        state.check_alive(self.life)?;
        let contents = state.names.get(name).ok_or_else(|| missing(name))?;
        Ok(self.file(Arc::clone(contents), name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.comes(Moment::Renamed);
        state.begin_whole(self.life)?;
        if !state.names.contains_key(from) {
            return Err(missing(from));
        }
        state.change_names(NameChange::Rename { from: from.to_owned(), to: to.to_owned() });
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.comes(Moment::Resized);
        state.begin_whole(self.life)?;
        if !state.names.contains_key(name) {
            return Err(missing(name));
        }
        state.change_names(NameChange::Remove { name: name.to_owned() });
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let state = lock(&self.state);
        state.check_alive(self.life)?;
        Ok(state.names.keys().cloned().collect())
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.begin_sync(self.life, Moment::FolderSynced)?;
        state.durable_names = state.names.clone();
        state.pending.clear();
        Ok(())
    }
}

/// Whether a file is the log's: a segment or a spare.
pub(crate) fn is_of_log(name: &str) -> bool {
    name.starts_with("segment-") || name.starts_with("spare-")
}

impl State {
    fn begin_read(&mut self, life: u64) -> io::Result<()> {
        self.check_alive(life)?;
        self.counts.reads += 1;
        if self.read_fails_at.take_if(|at| *at <= self.counts.reads).is_some() {
            self.fails(Fault::ReadFailed);
            return Err(io::Error::other("the disk failed to read"));
        }
        Ok(())
    }

    fn begin_sync(&mut self, life: u64, moment: Moment) -> io::Result<()> {
        self.comes(moment);
        self.begin_whole(life)?;
        self.counts.syncs += 1;
        if self.sync_fails_at.take_if(|at| *at <= self.counts.syncs).is_some() {
            self.fails(Fault::SyncFailed);
            return Err(io::Error::other("the disk failed to make its contents durable"));
        }
        Ok(())
    }
}

impl SimFile {
    /// Writes at `offset`; the file grows when needed.
    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = lock(&self.state);
        let fate = state.begin(self.life)?;
        let offset = offset as usize;
        let mut done = bytes.len();
        let mut result = Ok(());
        if let Fate::DiesAt(part) = fate {
            done = (bytes.len() as u64 * part / 1_000_000) as usize;
            let over = (offset + done) % SECTOR_BYTES;
            done = done.saturating_sub(over);
            result = Err(dead());
        }
        let fits = state.room_for(offset, &self.contents);
        if fits < done {
            done = fits;
            result =
                result.and(Err(io::Error::new(io::ErrorKind::StorageFull, "the disk is full")));
        }
        state.counts.writes += 1;
        let writes = state.counts.writes;
        let fails = state.write_fails_at.take_if(|(at, _)| *at <= writes);
        if let (Some((_, fault)), true) = (fails, result.is_ok()) {
            match fault {
                // The disk is not broken, it says, and whoever waits may try again.
                Fault::WriteShort => state.struck.push(fault),
                _ => state.fails(fault),
            }
            // The page cache takes pages, so that a write stops between two sectors.
            done =
                (mix(state.counts.bytes ^ state.counts.writes << 24) % (done as u64 + 1)) as usize;
            done = done.saturating_sub((offset + done) % SECTOR_BYTES);
            result = Err(match fault {
                Fault::WriteShort => io::Error::new(io::ErrorKind::StorageFull, "no space is left"),
                _ => io::Error::other("the disk failed to write"),
            });
        }
        state.counts.bytes += done as u64;
        let bytes = &bytes[..done];
        if let Some(lands) = state.misdirects(&self.name).filter(|_| result.is_ok()) {
            return state.misdirect(self, offset, bytes, lands);
        }
        lock(&self.contents).write(offset, bytes).map_err(read_error)?;
        result
    }

    /// Changes the length; new bytes are zero.
    pub(crate) fn set_length(&self, length: u64) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.comes(Moment::Resized);
        state.begin_whole(self.life)?;
        let present = lock(&self.contents).length();
        if state.room_for(present, &self.contents) < (length as usize).saturating_sub(present) {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "the disk is full"));
        }
        lock(&self.contents).set_length(length as usize);
        Ok(())
    }
}

impl State {
    /// Whether the present write is to land elsewhere, and where.
    fn misdirects(&mut self, name: &str) -> Option<Option<u64>> {
        let writes = self.counts.writes;
        if is_of_log(name) {
            return None;
        }
        self.misdirected.take_if(|wanted| wanted.at <= writes).map(|wanted| wanted.lands)
    }

    /// A write lands elsewhere in its file, or nowhere. The file has the length that it was to get.
    fn misdirect(
        &mut self,
        file: &SimFile,
        offset: usize,
        bytes: &[u8],
        lands: Option<u64>,
    ) -> io::Result<()> {
        let mut contents = lock(&file.contents);
        let length = contents.length();
        contents.set_length(length.max(offset + bytes.len()));
        let mut places = vec![offset];
        if let Some(part) = lands {
            // As far as the place is a block's: what is misdirected is a whole command to the disk.
            let room = (contents.length() - bytes.len()) as u64;
            let block = (bytes.len().next_power_of_two().max(SECTOR_BYTES)) as u64;
            let place = (room * part / 1_000_000 / block * block) as usize;
            contents.write(place, bytes).map_err(read_error)?;
            places.push(place);
        }
        drop(contents);
        let fault = Fault::WriteMisdirected;
        let damaged = places.into_iter().map(|place| DamagedPlace {
            fault,
            file: file.name.to_string(),
            offset: place as u64,
            bytes: bytes.len() as u64,
        });
        self.damages(fault, damaged);
        Ok(())
    }

    /// How many bytes from `offset` on can be written into the file before the disk is full.
    fn room_for(&self, offset: usize, file: &Shared) -> usize {
        let Some(capacity) = self.capacity else {
            return usize::MAX;
        };
        let length = lock(file).length();
        let free = capacity.saturating_sub(self.used_bytes()) as usize;
        (length + free).saturating_sub(offset)
    }
}

impl File for SimFile {
    fn length(&self) -> io::Result<u64> {
        lock(&self.state).check_alive(self.life)?;
        Ok(lock(&self.contents).length() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        if !self.observes {
            lock(&self.state).begin_read(self.life)?;
        }
        lock(&self.contents).read(offset as usize, buffer).map_err(read_error)
    }

    fn write_at(&self, offset: u64, slices: &[&[u8]]) -> io::Result<()> {
        if let [bytes] = slices {
            return self.write(offset, bytes);
        }
        self.write(offset, &slices.concat())
    }

    fn sync(&self) -> io::Result<()> {
        let moment = if is_of_log(&self.name) { Moment::LogSynced } else { Moment::EngineSynced };
        lock(&self.state).begin_sync(self.life, moment)?;
        lock(&self.contents).sync();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
