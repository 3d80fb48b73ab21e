//! What can go wrong with a log, in sentences.

use std::io;
use std::path::PathBuf;

use jangada_raft::{Index, Position};

use crate::batch::{BATCH_BYTES_MAX, BATCH_ENTRIES_MAX};
use crate::layout::Place;
use crate::options::Identity;
use crate::segment::{FORMAT_VERSION, NOTE_BYTES_MAX};

/// Why a log that is open did not do what was asked.
#[derive(Debug)]
pub enum WalError {
    /// No space is left for another segment. The log is as it was and goes on once there is space.
    Full,
    /// The disk failed. Nothing is known about what was written: the log is poisoned, and the
    /// process stops (Rebello et al., ATC '20).
    Io(io::Error),
    /// What was read back is not what was written.
    Rot {
        /// Where.
        place: Place,
        /// The entry that was looked for.
        index: Index,
    },
    /// The entry's payload was lost to rot, and its name is known: [`crate::Wal::repair`] takes it from
    /// elsewhere.
    Faulty {
        /// The entry.
        position: Position,
    },
    /// What was given to [`crate::Wal::repair`] is not the entry that was lost. Nothing was taken.
    NotTheEntry {
        /// What was given.
        position: Position,
    },
    /// The disk is nearly full, and what is left of the log's space is kept for batches that are
    /// essential. Nothing was written.
    Reserved,
    /// The note is longer than [`NOTE_BYTES_MAX`]. Nothing was written.
    NoteTooLarge {
        /// Its length in bytes.
        bytes: usize,
    },
    /// The batch is beyond [`BATCH_BYTES_MAX`] or [`BATCH_ENTRIES_MAX`]. Nothing was written.
    BatchTooLarge {
        /// Its size on disk in bytes.
        bytes: u64,
        /// Its number of entries.
        entries: usize,
    },
    /// The disk failed earlier; nothing more is done.
    Poisoned,
}

impl std::fmt::Display for WalError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            WalError::Full => {
                write!(f, "the disk has no space for another segment of the log; free some space")
            }
            WalError::Io(error) => {
                write!(f, "the disk of the log failed ({error}); the process has to stop")
            }
            WalError::Rot { place, index } => write!(
                f,
                "entry {index} of the log is damaged at {place}; check the disk, then remove this \
                 member from the cluster and add it anew"
            ),
            WalError::Faulty { position } => write!(
                f,
                "entry {} of the log is damaged and has to come from another member",
                position.index
            ),
            WalError::NotTheEntry { position } => write!(
                f,
                "what came for entry {} of the log is not what its checksums say; nothing was taken",
                position.index
            ),
            WalError::Reserved => write!(
                f,
                "the disk has no space for another segment of the log, and the last one is kept for \
                 what frees space; free some space"
            ),
            WalError::NoteTooLarge { bytes } => {
                write!(f, "the note has {bytes} bytes, more than {NOTE_BYTES_MAX}")
            }
            WalError::BatchTooLarge { bytes, entries } => write!(
                f,
                "a batch of {entries} entries and {bytes} bytes is beyond {BATCH_ENTRIES_MAX} \
                 entries or {BATCH_BYTES_MAX} bytes; write it in parts"
            ),
            WalError::Poisoned => {
                write!(f, "the disk of the log failed earlier; the process has to stop")
            }
        }
    }
}

impl std::error::Error for WalError {}

/// Why a log was not opened or created. The files are left untouched.
#[derive(Debug)]
pub enum OpenError {
    /// Another process owns the log.
    Locked {
        /// The log's folder.
        directory: PathBuf,
        /// The owner, where its lock file says.
        pid: Option<u32>,
    },
    /// There is a log already.
    Exists,
    /// There is no log.
    NoLog,
    /// The folder belongs to another program.
    Foreign {
        /// A name that gives it away.
        name: String,
    },
    /// The log was written by a version with another format.
    Format {
        /// The format's version.
        found: u32,
    },
    /// An entry of a kind that this version does not know. It is never skipped.
    UnknownEntry {
        /// The entry.
        index: Index,
        /// Its kind.
        kind: u8,
    },
    /// The log is damaged above the state machine's durable index: what it loses exists nowhere
    /// else on this member.
    Rot {
        /// Where.
        place: Place,
        /// The last index before the damage.
        after: Index,
        /// The state machine's durable index.
        durable_applied: Index,
    },
    /// The log has lost entries that the state machine does not hold, and no other member is there to
    /// give them back.
    Alone {
        /// Where the damage stands.
        place: Place,
        /// The last index before the damage.
        after: Index,
    },
    /// The log begins behind entries that the state machine does not hold.
    Missing {
        /// The entry before the log's first.
        base: Index,
        /// The state machine's durable index.
        durable_applied: Index,
    },
    /// Segments of different logs are in one folder.
    AnotherIdentity {
        /// The oldest segment's.
        expected: Identity,
        /// The other one's.
        found: Identity,
        /// The other segment.
        place: Place,
    },
    /// No space is left for the segment that opening a log begins.
    Full,
    /// The disk failed.
    Io(io::Error),
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            OpenError::Locked { directory, pid: Some(pid) } => write!(
                f,
                "the log in {} is in use by process {pid}; stop that process first",
                directory.display()
            ),
            OpenError::Locked { directory, pid: None } => write!(
                f,
                "the log in {} is in use by another process; stop that process first",
                directory.display()
            ),
            OpenError::Exists => {
                write!(f, "the folder holds a log already; open that one, or name another folder")
            }
            OpenError::NoLog => {
                write!(f, "the folder holds no log; name the right one, or create a log")
            }
            OpenError::Foreign { name } => write!(
                f,
                "the folder holds {name:?} and so belongs to another program; name another folder"
            ),
            OpenError::Format { found } => write!(
                f,
                "the log is of format {found}, this version of jangada knows {FORMAT_VERSION}; \
                 run the version that wrote it"
            ),
            OpenError::UnknownEntry { index, kind } => write!(
                f,
                "entry {index} is of kind {kind} or of a version that this version of jangada \
                 does not know; run the version that wrote it"
            ),
            OpenError::Rot { place, after, durable_applied } => write!(
                f,
                "the log is damaged at {place}, behind entry {after}, and the state machine holds \
                 only what is up to {durable_applied}; nothing was changed: remove this member \
                 from the cluster and add it anew with an empty folder"
            ),
            OpenError::Alone { place, after } => write!(
                f,
                "the log is damaged at {place}, the last sound entry is {after}, and this member is \
                 the only voter, so that nobody can give back what is lost; nothing was changed: \
                 restore the folders of this member from a copy"
            ),
            OpenError::Missing { base, durable_applied } => write!(
                f,
                "the log begins behind entry {base}, but the state machine holds only what is up \
                 to {durable_applied}; nothing was changed: restore the missing files, or remove \
                 this member from the cluster and add it anew with an empty folder"
            ),
            OpenError::AnotherIdentity { expected, found, place } => write!(
                f,
                "the folder mixes logs: cluster {:x} member {:x} life {:x} group {}, and, in {}, \
                 cluster {:x} member {:x} life {:x} group {}; take out what does not belong here",
                expected.cluster,
                expected.member,
                expected.incarnation,
                expected.group,
                crate::layout::segment_name(place.segment),
                found.cluster,
                found.member,
                found.incarnation,
                found.group
            ),
            OpenError::Full => {
                write!(f, "the disk has no space to open the log; free some space")
            }
            OpenError::Io(error) => write!(f, "the disk of the log failed ({error})"),
        }
    }
}

impl std::error::Error for OpenError {}

/// Whether an error says that space is missing.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl From<io::Error> for WalError {
    fn from(error: io::Error) -> WalError {
        if is_full(&error) { WalError::Full } else { WalError::Io(error) }
    }
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> OpenError {
        if is_full(&error) { OpenError::Full } else { OpenError::Io(error) }
    }
}
