//! The states of machines that keep nothing durable, in files that the node writes.
//!
//! Responsible for the file: a crash at any point leaves the old one or the new one. Not responsible
//! for when a state is saved; the member asks for that.
//!
//! A file is named `state-` and the index it covers, in 16 hexadecimal digits. All numbers in it are
//! little-endian, checksums are CRC-32C:
//!
//! | bytes | field |
//! |---|---|
//! | 0..8 | magic: `jngstate` |
//! | 8..10 | version: 1 |
//! | 10..16 | zero |
//! | 16..24 | the index of the last entry covered |
//! | 24..32 | length of the record |
//! | 32..40 | length of the state |
//! | 40..44 | checksum of the record and the state |
//! | 44..48 | checksum of bytes 0..44 |
//! | 48.. | the node's record, then the machine's state |
//!
//! It is written under another name, synced, and given its own; once the folder is synced, older files
//! are removed. What a crash leaves under the other name is overwritten.
//!
//! A damaged file is told and never passed over: an older one may lie before where the log begins.

use std::io;

use bytes::Bytes;
use jangada_raft::Index;
use jangada_wal::{Disk, File};

use crate::snapshot::WholeState;

const MAGIC: &[u8; 8] = b"jngstate";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 48;
const PREFIX: &str = "state-";
const UNFINISHED: &str = "state-unfinished";

/// The largest file that is believed: more than any state that is taken.
const FILE_BYTES_MAX: u64 = 2 << 30;

/// The state of a machine as of an applied entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SavedState {
    /// The last entry covered.
    pub applied: Index,
    /// The node's record as of that entry.
    pub record: Bytes,
    /// What the machine has written: [`crate::StateMachine::save`].
    pub state: Bytes,
}

/// The state of a machine as of an applied entry, perhaps not written yet.
#[derive(Debug)]
pub struct UnsavedState {
    /// The last entry covered.
    pub applied: Index,
    /// The node's record as of that entry.
    pub record: Bytes,
    /// The machine's state.
    pub state: WholeState,
}

impl UnsavedState {
    /// Writes the state as bytes, which may take long: not on the member's thread.
    #[must_use]
    pub fn write(self) -> SavedState {
        let UnsavedState { applied, record, state } = self;
        SavedState { applied, record, state: state.into_bytes() }
    }
}

/// A state was saved, durably.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct StateSaved {
    /// The last entry covered.
    pub applied: Index,
    /// How large the machine's state is (bytes).
    pub bytes: u64,
}

/// Why a saved state cannot be read or written.
#[derive(Debug)]
pub enum SavedError {
    /// The disk failed.
    Io(io::Error),
    /// The file is damaged.
    Damaged {
        /// The file's name.
        name: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The file is of a version that this program does not know.
    Version {
        /// The file's name.
        name: String,
        /// The version.
        version: u16,
    },
}

impl std::fmt::Display for SavedError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SavedError::Io(error) => write!(f, "the saved state cannot be read: {error}"),
            SavedError::Damaged { name, what } => write!(
                f,
                "the saved state in {name} is damaged ({what}): check the disk, then remove the \
                 member and add it anew with an empty data directory"
            ),
            SavedError::Version { name, version } => write!(
                f,
                "the saved state in {name} is of version {version}, which this program does not \
                 know; start a version of the program that is at least as new as the one that \
                 wrote it"
            ),
        }
    }
}

impl std::error::Error for SavedError {}

impl From<io::Error> for SavedError {
    fn from(error: io::Error) -> SavedError {
        SavedError::Io(error)
    }
}

impl SavedState {
    /// What the member is told once this is durable.
    #[must_use]
    pub fn told(&self) -> StateSaved {
        StateSaved { applied: self.applied, bytes: self.state.len() as u64 }
    }

    /// Writes the state into the folder; it is durable on return, and older ones are gone.
    ///
    /// # Errors
    /// If the disk is full ([`io::ErrorKind::StorageFull`]): what was saved before is as it was, and
    /// the same may be tried again. Anything else is a broken disk.
    pub fn save<D: Disk>(&self, disk: &D) -> io::Result<()> {
        match disk.remove(UNFINISHED) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = disk.create(UNFINISHED)?;
        file.write_at(0, &[&self.header(), &self.record, &self.state])?;
        file.sync()?;
        drop(file);
        let name = name_of(self.applied);
        disk.rename(UNFINISHED, &name)?;
        disk.sync_directory()?;
        let older = disk.list()?.into_iter().filter_map(|other| Some((index_of(&other)?, other)));
        for (_, other) in older.filter(|(index, _)| *index < self.applied) {
            disk.remove(&other)?;
        }
        disk.sync_directory()
    }

    /// Reads the newest state in the folder; `None` if there is none.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn load<D: Disk>(disk: &D) -> Result<Option<SavedState>, SavedError> {
        let names = disk.list()?;
        let newest = names.iter().filter_map(|name| Some((index_of(name)?, name))).max();
        let Some((applied, name)) = newest else { return Ok(None) };
        let damaged = |what| SavedError::Damaged { name: name.clone(), what };
        let file = disk.open(name)?;
        let length = file.length()?;
        if length < HEADER_BYTES as u64 || FILE_BYTES_MAX < length {
            return Err(damaged("its length is impossible"));
        }
        let mut header = [0; HEADER_BYTES];
        file.read_at(0, &mut header)?;
        if crc32c::crc32c(&header[..44]) != word(&header, 44) || &header[..8] != MAGIC {
            return Err(damaged("its header does not pass its check"));
        }
        let version = u16::from_le_bytes([header[8], header[9]]);
        if version != VERSION {
            return Err(SavedError::Version { name: name.clone(), version });
        }
        let (record_bytes, state_bytes) = (long(&header, 24), long(&header, 32));
        let whole = record_bytes.checked_add(state_bytes).and_then(|n| n.checked_add(48));
        if whole != Some(length) || long(&header, 16) != applied.0 {
            return Err(damaged("its header is another file's"));
        }
        let rest = usize::try_from(length).expect("bounded") - HEADER_BYTES;
        let mut bytes = vec![0; rest];
        file.read_at(HEADER_BYTES as u64, &mut bytes)?;
        if crc32c::crc32c(&bytes) != word(&header, 40) {
            return Err(damaged("its content does not pass its check"));
        }
        let mut record = Bytes::from(bytes);
        let state = record.split_off(usize::try_from(record_bytes).expect("bounded"));
        Ok(Some(SavedState { applied, record, state }))
    }

    fn header(&self) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(MAGIC);
        header[8..10].copy_from_slice(&VERSION.to_le_bytes());
        header[16..24].copy_from_slice(&self.applied.0.to_le_bytes());
        header[24..32].copy_from_slice(&(self.record.len() as u64).to_le_bytes());
        header[32..40].copy_from_slice(&(self.state.len() as u64).to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&self.record), &self.state);
        header[40..44].copy_from_slice(&crc.to_le_bytes());
        let crc = crc32c::crc32c(&header[..44]);
        header[44..].copy_from_slice(&crc.to_le_bytes());
        header
    }
}

fn name_of(applied: Index) -> String {
    format!("{PREFIX}{:016x}", applied.0)
}

fn index_of(name: &str) -> Option<Index> {
    let digits = name.strip_prefix(PREFIX).filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok().map(Index)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use jangada_wal::MemoryDisk;

    use super::*;

    fn state(applied: u64) -> SavedState {
        let (record, state) = (Bytes::from_static(b"record"), Bytes::from(vec![7; 3000]));
        SavedState { applied: Index(applied), record, state }
    }

    #[test]
    fn the_newest_state_comes_back_and_older_ones_are_gone() {
        let disk = MemoryDisk::new();
        assert_eq!(SavedState::load(&disk).expect("a sound disk"), None);
        for applied in [3, 500] {
            state(applied).save(&disk).expect("a sound disk");
            assert_eq!(SavedState::load(&disk).expect("a sound disk"), Some(state(applied)));
        }
        assert_eq!(disk.list().expect("a sound disk"), [name_of(Index(500))]);
    }

    #[test]
    fn every_damaged_byte_is_told() {
        let disk = MemoryDisk::new();
        state(3).save(&disk).expect("a sound disk");
        let name = name_of(Index(3));
        for at in (0..60).chain([3000, 48 + 6 + 3000 - 1]) {
            let damaged = disk.snapshot();
            let file = damaged.open(&name).expect("a sound disk");
            let mut byte = [0];
            file.read_at(at, &mut byte).expect("a sound disk");
            file.write_at(at, &[&[byte[0] ^ 4]]).expect("a sound disk");
            let read = SavedState::load(&damaged);
            assert!(matches!(read, Err(SavedError::Damaged { .. })), "byte {at}: {read:?}");
        }
    }
}
