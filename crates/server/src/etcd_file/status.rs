//! What etcdctl tells of a snapshot file.

use std::path::Path;

use jangada_bolt::{Item, WalkError};

use super::buckets::{KEY, revision_of};
use super::file::{Check, SnapshotFile, SnapshotFileError};

/// Figures of a snapshot file, by etcdctl's rules.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SnapshotStatus {
    /// CRC-32C over the names and entries of all buckets.
    pub hash: u32,
    /// The main revision of the last row.
    pub revision: i64,
    /// The entries of all buckets, every version of a key among them.
    pub total_keys: u64,
    /// The bytes of all pages.
    pub total_bytes: u64,
}

/// Reads a whole snapshot file, and holds it against its checksum if it has one.
///
/// # Errors
/// It cannot be read, or is damaged.
pub fn status(path: &Path) -> Result<SnapshotStatus, SnapshotFileError> {
    let file = SnapshotFile::open(path, Check::IfThere)?;
    let reader = file.reader()?;
    let mut status = SnapshotStatus { total_bytes: reader.bytes(), ..SnapshotStatus::default() };
    let mut in_keys = false;
    let walked = reader.walk(&mut |item| {
        match item {
            Item::Bucket(name) => {
                in_keys = name == KEY;
                status.hash = crc32c::crc32c_append(status.hash, name);
            }
            Item::Entry { key, value } => {
                status.hash = crc32c::crc32c_append(status.hash, key);
                status.hash = crc32c::crc32c_append(status.hash, value);
                status.total_keys += 1;
                if in_keys {
                    let revision = revision_of(key).ok_or_else(|| SnapshotFileError::Entry {
                        bucket: "key",
                        problem: "an entry's key is no revision".to_owned(),
                    })?;
                    status.revision = revision;
                }
            }
        }
        Ok(())
    });
    match walked {
        Ok(()) => Ok(status),
        Err(WalkError::Read(error)) => Err(error.into()),
        Err(WalkError::Visit(error)) => Err(error),
    }
}
