//! A snapshot file on disk: its content, and the checksum behind it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use jangada_bolt::{ReadError, Reader, Source};
use jangada_kv::ImportError;
use sha2::{Digest, Sha256};

/// The checksum's bytes.
const SUM_BYTES: u64 = 32;

/// Pages are whole multiples of it, so a length that is not says that a checksum follows.
const SECTOR_BYTES: u64 = 512;

/// What is read at a time.
const READ_BYTES: usize = 1 << 20;

/// Why a snapshot file is of no use.
#[derive(Debug)]
pub enum SnapshotFileError {
    /// The file cannot be opened or read.
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// There is no checksum behind its content.
    NoChecksum(PathBuf),
    /// The checksum is not that of the content.
    Checksum(PathBuf),
    /// Its pages are damaged, or it is no database.
    Read(ReadError),
    /// An entry cannot be understood.
    Entry {
        /// The bucket.
        bucket: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The new store cannot be written, or a row is none.
    Import(ImportError),
    /// What is to be written is there already.
    NotEmpty(PathBuf),
    /// The flags do not fit.
    Config(crate::config::ConfigError),
    /// The log cannot be made.
    Log(String),
}

impl std::fmt::Display for SnapshotFileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SnapshotFileError::Io { path, error } => write!(f, "{}: {error}", path.display()),
            SnapshotFileError::NoChecksum(path) => write!(
                f,
                "{} has no checksum behind its content, so it was not made by 'snapshot save'; if it \
                 is the file of a data directory, say --skip-hash-check",
                path.display()
            ),
            SnapshotFileError::Checksum(path) => write!(
                f,
                "the checksum of {} is not that of its content: it is damaged; take another copy",
                path.display()
            ),
            SnapshotFileError::Read(error) => error.fmt(f),
            SnapshotFileError::Entry { bucket, problem } => {
                write!(f, "the snapshot's bucket '{bucket}' cannot be understood: {problem}")
            }
            SnapshotFileError::Import(error) => error.fmt(f),
            SnapshotFileError::NotEmpty(path) => write!(
                f,
                "{} is not empty; name a directory that does not exist yet",
                path.display()
            ),
            SnapshotFileError::Config(error) => error.fmt(f),
            SnapshotFileError::Log(problem) => write!(f, "the log cannot be made: {problem}"),
        }
    }
}

impl std::error::Error for SnapshotFileError {}

impl From<ReadError> for SnapshotFileError {
    fn from(error: ReadError) -> SnapshotFileError {
        SnapshotFileError::Read(error)
    }
}

impl From<ImportError> for SnapshotFileError {
    fn from(error: ImportError) -> SnapshotFileError {
        SnapshotFileError::Import(error)
    }
}

/// Whether the content is held against the checksum behind it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Check {
    /// There must be one, and it must be right.
    Always,
    /// It must be right if there is one.
    IfThere,
    /// It is not looked at.
    Never,
}

/// A snapshot file that is open.
pub(super) struct SnapshotFile {
    file: File,
    /// The length of its content.
    length: u64,
}

impl SnapshotFile {
    pub(super) fn open(path: &Path, check: Check) -> Result<SnapshotFile, SnapshotFileError> {
        let io = |error| SnapshotFileError::Io { path: path.to_owned(), error };
        let file = File::open(path).map_err(io)?;
        let whole = file.metadata().map_err(io)?.len();
        let has_sum = whole % SECTOR_BYTES == SUM_BYTES;
        let length = if has_sum { whole - SUM_BYTES } else { whole };
        match (check, has_sum) {
            (Check::Always, false) => return Err(SnapshotFileError::NoChecksum(path.to_owned())),
            (Check::Always | Check::IfThere, true) => {
                let mut noted = [0; SUM_BYTES as usize];
                file.read_at(length, &mut noted).map_err(io)?;
                if sum(&file, length).map_err(io)? != noted {
                    return Err(SnapshotFileError::Checksum(path.to_owned()));
                }
            }
            (Check::IfThere, false) | (Check::Never, _) => {}
        }
        Ok(SnapshotFile { file, length })
    }

    pub(super) fn reader(&self) -> Result<Reader<'_, File>, SnapshotFileError> {
        Ok(Reader::open(&self.file, self.length)?)
    }
}

fn sum(file: &File, length: u64) -> io::Result<[u8; SUM_BYTES as usize]> {
    let mut sum = Sha256::new();
    let mut bytes = vec![0; READ_BYTES];
    let mut done = 0;
    while done < length {
        let now = usize::try_from(length - done).map_or(READ_BYTES, |left| left.min(READ_BYTES));
        file.read_at(done, &mut bytes[..now])?;
        sum.update(&bytes[..now]);
        done += now as u64;
    }
    Ok(sum.finalize().into())
}
