//! A disk whose power can be cut: it remembers which sectors and names were synced, and yields every
//! state that a cut may leave behind.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use jangada_wal::{Disk, File};

pub(crate) const SECTOR: usize = 512;

/// A file: what reads see, and what a power cut leaves for certain.
#[derive(Clone, Default)]
struct Inode {
    cached: Vec<u8>,
    durable: Vec<u8>,
}

/// A change of names that is not durable.
#[derive(Clone)]
enum NameChange {
    Create(String, usize),
    Rename(String, String, usize),
    Remove(String),
}

/// Everything on the disk, at one moment.
#[derive(Clone, Default)]
pub(crate) struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    changes: Vec<NameChange>,
    /// Sectors that cannot be read.
    unreadable: BTreeSet<(usize, u64)>,
}

/// What befalls a disk on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// The n-th sync from now fails, and so does all that follows.
    Sync(u64),
    /// The n-th write from now finds no space, having written half.
    Full(u64),
    /// The n-th write from now finds no space, having written all.
    FullLate(u64),
    /// No file can grow.
    FullForGood,
}

struct Inner {
    state: State,
    /// The states after each change, for as long as they are recorded.
    history: Option<Vec<State>>,
    fault: Option<Fault>,
    broken: bool,
}

/// A disk that can be broken. Clones share it.
#[derive(Clone)]
pub(crate) struct FaultDisk {
    inner: Arc<Mutex<Inner>>,
}

pub(crate) struct FaultFile {
    disk: FaultDisk,
    inode: usize,
}

/// What becomes of an unsynced sector.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    Lost,
    Kept,
    Garbage,
    Unreadable,
}

impl State {
    /// The unsynced sectors.
    pub(crate) fn dirty(&self) -> Vec<(usize, u64)> {
        let mut dirty = Vec::new();
        for (number, inode) in self.inodes.iter().enumerate() {
            for (at, sector) in inode.cached.chunks(SECTOR).enumerate() {
                let start = at * SECTOR;
                let durable = inode.durable.get(start..start + sector.len());
                if durable != Some(sector) {
                    dirty.push((number, at as u64));
                }
            }
        }
        dirty
    }

    /// The number of unsynced changes of names.
    pub(crate) fn changes(&self) -> usize {
        self.changes.len()
    }

    /// What a power cut leaves: the unsynced sectors by their fates, and of the unsynced changes of
    /// names those whose bit is set.
    pub(crate) fn after_power_cut(&self, fates: &[Fate], names: u32) -> State {
        let mut state = self.clone();
        for inode in &mut state.inodes {
            inode.cached = inode.durable.clone();
        }
        for ((number, at), fate) in self.dirty().into_iter().zip(fates) {
            let start = at as usize * SECTOR;
            let new = &self.inodes[number].cached;
            let end = new.len().min(start + SECTOR);
            let cached = &mut state.inodes[number].cached;
            if *fate != Fate::Lost && cached.len() < end {
                cached.resize(end, 0);
            }
            match fate {
                Fate::Lost => {}
                Fate::Kept => cached[start..end].copy_from_slice(&new[start..end]),
                Fate::Garbage => cached[start..end].fill(0x5a),
                Fate::Unreadable => {
                    cached[start..end].fill(0x5a);
                    state.unreadable.insert((number, at));
                }
            }
        }
        let mut known = self.durable_names.clone();
        for (bit, change) in self.changes.iter().enumerate() {
            if names & (1 << bit) == 0 {
                continue;
            }
            match change {
                NameChange::Create(name, inode) => {
                    known.insert(name.clone(), *inode);
                }
                NameChange::Rename(from, to, inode) => {
                    known.remove(from);
                    known.insert(to.clone(), *inode);
                }
                NameChange::Remove(name) => {
                    known.remove(name);
                }
            }
        }
        state.names = known;
        state.settled()
    }

    /// What a killed process leaves: all that it wrote, no more durable than before.
    pub(crate) fn after_kill(&self) -> State {
        self.clone()
    }

    /// The same, all of it durable.
    fn settled(mut self) -> State {
        for inode in &mut self.inodes {
            inode.durable = inode.cached.clone();
        }
        self.durable_names = self.names.clone();
        self.changes.clear();
        self
    }

    /// The names and their files' contents, to be changed by hand.
    pub(crate) fn contents(&mut self, name: &str) -> &mut Vec<u8> {
        let inode = self.names[name];
        &mut self.inodes[inode].cached
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.names.keys().cloned().collect()
    }

    pub(crate) fn forget(&mut self, name: &str) {
        self.names.remove(name);
        self.durable_names.remove(name);
    }
}

impl FaultDisk {
    pub(crate) fn new(state: State) -> FaultDisk {
        let inner = Inner { state, history: None, fault: None, broken: false };
        FaultDisk { inner: Arc::new(Mutex::new(inner)) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no test panics while it holds the disk")
    }

    pub(crate) fn state(&self) -> State {
        self.inner().state.clone()
    }

    /// Flips a bit of what lies on the disk.
    pub(crate) fn rot(&self, name: &str, at: usize) {
        let mut inner = self.inner();
        let inode = inner.state.names[name];
        let Inode { cached, durable } = &mut inner.state.inodes[inode];
        cached[at] ^= 1;
        durable[at] ^= 1;
    }

    /// Starts to record the states after each change; the present one is the first.
    pub(crate) fn record(&self) {
        let mut inner = self.inner();
        inner.history = Some(vec![inner.state.clone()]);
    }

    /// The states since [`FaultDisk::record`].
    pub(crate) fn recorded(&self) -> Vec<State> {
        self.inner().history.take().unwrap_or_default()
    }

    pub(crate) fn break_with(&self, fault: Fault) {
        self.inner().fault = Some(fault);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut inner = self.inner();
        change(&mut inner.state);
        let Inner { state, history, .. } = &mut *inner;
        if let Some(history) = history {
            history.push(state.clone());
        }
    }

    /// Fails if the disk is broken, or breaks now.
    fn sync_fault(&self) -> io::Result<()> {
        let mut inner = self.inner();
        if let Some(Fault::Sync(left)) = &mut inner.fault {
            if *left == 0 {
                inner.broken = true;
            } else {
                *left -= 1;
            }
        }
        if inner.broken { Err(io::Error::other("the disk is broken")) } else { Ok(()) }
    }

    /// How much of a write of this many bytes is done, if not all goes well.
    fn write_fault(&self, bytes: usize, grows: bool) -> Option<usize> {
        let mut inner = self.inner();
        if inner.fault == Some(Fault::FullForGood) {
            return grows.then_some(0);
        }
        let (left, done) = match &mut inner.fault {
            Some(Fault::Full(left)) => (left, bytes / 2),
            Some(Fault::FullLate(left)) => (left, bytes),
            _ => return None,
        };
        if *left == 0 {
            return Some(done);
        }
        *left -= 1;
        None
    }

    fn alive(&self) -> io::Result<()> {
        if self.inner().broken { Err(io::Error::other("the disk is broken")) } else { Ok(()) }
    }
}

impl Disk for FaultDisk {
    type File = FaultFile;

    fn create(&self, name: &str) -> io::Result<FaultFile> {
        self.alive()?;
        if self.inner().state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let mut inode = 0;
        self.change(|state| {
            inode = state.inodes.len();
            state.inodes.push(Inode::default());
            state.names.insert(name.to_string(), inode);
            state.changes.push(NameChange::Create(name.to_string(), inode));
        });
        Ok(FaultFile { disk: self.clone(), inode })
    }

    fn open(&self, name: &str) -> io::Result<FaultFile> {
        let inode = *self.inner().state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(FaultFile { disk: self.clone(), inode })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.alive()?;
        if !self.inner().state.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.change(|state| {
            let inode = state.names.remove(from).expect("it was there just now");
            state.names.insert(to.to_string(), inode);
            state.changes.push(NameChange::Rename(from.to_string(), to.to_string(), inode));
        });
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.alive()?;
        self.change(|state| {
            state.names.remove(name);
            state.changes.push(NameChange::Remove(name.to_string()));
        });
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.inner().state.names())
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.sync_fault()?;
        self.change(|state| {
            state.durable_names = state.names.clone();
            state.changes.clear();
        });
        Ok(())
    }
}

impl File for FaultFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.disk.inner().state.inodes[self.inode].cached.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let inner = self.disk.inner();
        let start = offset as usize;
        let end = start + buffer.len();
        let sectors = start / SECTOR..end.div_ceil(SECTOR);
        for sector in sectors {
            if inner.state.unreadable.contains(&(self.inode, sector as u64)) {
                return Err(io::Error::other("the sector is unreadable"));
            }
        }
        let bytes = &inner.state.inodes[self.inode].cached;
        buffer.copy_from_slice(bytes.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, offset: u64, slices: &[&[u8]]) -> io::Result<()> {
        self.disk.alive()?;
        let mut bytes = slices.concat();
        let grows = self.length()? < offset + bytes.len() as u64;
        let full = self.disk.write_fault(bytes.len(), grows);
        bytes.truncate(full.unwrap_or(bytes.len()));
        let inode = self.inode;
        self.disk.change(|state| {
            let start = offset as usize;
            let end = start + bytes.len();
            let cached = &mut state.inodes[inode].cached;
            if cached.len() < end {
                cached.resize(end, 0);
            }
            cached[start..end].copy_from_slice(&bytes);
            for sector in start / SECTOR..end.div_ceil(SECTOR) {
                state.unreadable.remove(&(inode, sector as u64));
            }
        });
        if full.is_some() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.sync_fault()?;
        let inode = self.inode;
        self.disk.change(|state| {
            state.inodes[inode].durable = state.inodes[inode].cached.clone();
        });
        Ok(())
    }
}
