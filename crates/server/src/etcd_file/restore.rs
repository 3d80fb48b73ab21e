//! Makes a data directory for a member of a new cluster out of a snapshot file, of ours or of etcd's.
//!
//! Every member of the new cluster is restored from the same file with the same flags but its own name
//! and URLs. The state is as of an entry of its own, the first of the new log; the cluster forms behind
//! it as any other.
//!
//! Invariants:
//! 1. Members that are restored from different files, or otherwise, differ in their running hash: the
//!    first comparison tells.
//! 2. The log is made when the store is complete: a directory without a log is no member's.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jangada::raft::{Configuration, HardState, Index, Position, Term};
use jangada::wal::{Anew, FileDisk, Identity, Options, Wal};
use jangada::{Membership, Record};
use jangada_bolt::{Item, WalkError};
use jangada_kv::{Import, ImportRest, Imported};
use prost::Message;

use super::auth::Found;
use super::buckets::{
    AUTH, FINISHED, KEY, LEASE, LeaseRow, META, ROLES, SCHEDULED, USERS, revision_of,
};
use super::file::{Check, SnapshotFile, SnapshotFileError};
use crate::config::Config;
use crate::member::{STORE_FILE, Start};

/// The entry as of which a restored state is.
const APPLIED: Position = Position { index: Index(1), term: Term(1) };

/// Where the store is while it is being filled.
const UNFINISHED: &str = "db.unfinished";

/// What is to be restored, and how.
#[derive(Clone, Debug)]
pub struct Restoration {
    /// The snapshot file.
    pub snapshot: PathBuf,
    /// Whether a file without a checksum, such as one out of a data directory, will do.
    pub skip_hash_check: bool,
    /// By how much the revision is raised. If it is, everything before counts as compacted: clients that
    /// remember revisions of the old cluster learn that these are gone, and do not take new ones for
    /// old. 0 keeps revisions and history.
    pub bump_revision: u64,
}

/// What was restored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Restored {
    /// The member.
    pub member_id: u64,
    /// The cluster.
    pub cluster_id: u64,
    /// The store's revision.
    pub revision: i64,
    /// How many rows there are.
    pub rows: u64,
    /// How many leases were made up for keys whose lease was missing.
    pub leases_made_up: usize,
}

/// What was found beside rows.
#[derive(Default)]
struct Beside {
    compacted: Option<i64>,
    leases: Vec<(i64, i64, i64)>,
    auth: Found,
}

/// Restores a snapshot into the configuration's data directory.
///
/// # Errors
/// The file is damaged or not to be understood; the flags do not name this member; the directory is
/// not empty or cannot be written. What was written by then is of no use; the next restoration into the
/// same directory removes it, as long as there is nothing else.
pub fn restore(config: &Config, what: &Restoration) -> Result<Restored, SnapshotFileError> {
    let start = Start::first(config).map_err(SnapshotFileError::Config)?;
    for folder in [&config.data_dir, &config.wal_dir] {
        check_empty(folder, &config.wal_dir)?;
    }
    let unfinished = config.data_dir.join(UNFINISHED);
    let io = |error| SnapshotFileError::Io { path: unfinished.clone(), error };
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    let check = if what.skip_hash_check { Check::Never } else { Check::Always };
    let file = SnapshotFile::open(&what.snapshot, check)?;
    config.create_directories().map_err(SnapshotFileError::Config)?;
    let backend = jangada_kv::open_file(&unfinished).map_err(io)?;
    let mut import = Import::begin(backend)?;
    let beside = read(&file, &mut import)?;
    let configuration = Configuration {
        addresses: start.members.iter().map(|m| (m.id, m.addresses.clone())).collect(),
        ..Configuration::of_voters(start.members.iter().map(|member| member.id))
    };
    let newest = import.revision().max(beside.compacted.unwrap_or_default());
    let bump = i64::try_from(what.bump_revision).unwrap_or(i64::MAX);
    let compacted = match bump {
        0 => beside.compacted,
        bump => Some(newest.saturating_add(bump).min(REVISION_MAX)),
    };
    // restore invariant 1
    let hash = import.digest() ^ compacted.unwrap_or_default().rotate_left(32) as u64;
    let record = Record {
        applied: APPLIED,
        time_ms: 0,
        hash,
        version: 0,
        membership: Arc::new(Membership::new(configuration.clone())),
    };
    let (applied, record) = (APPLIED.index.0, record.encode());
    let auth = beside.auth.finish()?;
    let rest = ImportRest { applied, record, compacted, leases: beside.leases, auth };
    let Imported { revision, rows, leases_made_up } = import.finish(rest)?;
    let store = config.data_dir.join(STORE_FILE);
    std::fs::rename(&unfinished, &store).map_err(io)?;
    let folder = std::fs::File::open(&config.data_dir).map_err(io)?;
    folder.sync_all().map_err(io)?;
    make_log(&config.wal_dir, &start, configuration)?; // restore invariant 2
    Ok(Restored {
        member_id: start.member,
        cluster_id: start.cluster,
        revision,
        rows,
        leases_made_up,
    })
}

/// The highest revision that is restored: far from where numbers end.
const REVISION_MAX: i64 = i64::MAX / 2;

/// Whether nothing is in a folder but what an interrupted restoration has left, which nobody reads: the
/// store that was being filled, and an empty folder for the log.
fn check_empty(folder: &Path, wal_folder: &Path) -> Result<(), SnapshotFileError> {
    let io = |error| SnapshotFileError::Io { path: folder.to_owned(), error };
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(io)?,
    };
    for entry in entries {
        let path = entry.map_err(io)?.path();
        let is_store = path.file_name() == Some(UNFINISHED.as_ref()) && path.is_file();
        let is_empty = || std::fs::read_dir(&path).is_ok_and(|mut inner| inner.next().is_none());
        let is_empty_log = path == wal_folder && is_empty();
        if !is_store && !is_empty_log {
            return Err(SnapshotFileError::NotEmpty(folder.to_owned()));
        }
    }
    Ok(())
}

/// Brings the rows in, and answers what stands beside them.
fn read(file: &SnapshotFile, import: &mut Import) -> Result<Beside, SnapshotFileError> {
    let reader = file.reader()?;
    let mut beside = Beside::default();
    let mut bucket = Vec::new();
    let walked = reader.walk(&mut |item| {
        match item {
            Item::Bucket(name) => {
                bucket.clear();
                bucket.extend_from_slice(name);
            }
            Item::Entry { key, value } => match bucket.as_slice() {
                KEY => import.row(key, value)?,
                META if key == SCHEDULED || key == FINISHED => {
                    let revision = revision_of(value).filter(|revision| 0 <= *revision);
                    let revision = revision.ok_or_else(|| SnapshotFileError::Entry {
                        bucket: "meta",
                        problem: "a compaction's revision is none".to_owned(),
                    })?;
                    beside.compacted = beside.compacted.max(Some(revision).filter(|r| 0 < *r));
                }
                LEASE => beside.leases.push(lease(key, value)?),
                AUTH => beside.auth.setting(key, value)?,
                ROLES => beside.auth.role(value)?,
                USERS => beside.auth.user(value)?,
                // Members, alarms and the like were those of the old cluster.
                _ => {}
            },
        }
        Ok(())
    });
    match walked {
        Ok(()) => Ok(beside),
        Err(WalkError::Read(error)) => Err(error.into()),
        Err(WalkError::Visit(error)) => Err(error),
    }
}

/// A lease: its id, the seconds granted, the seconds that remain.
fn lease(key: &[u8], value: &[u8]) -> Result<(i64, i64, i64), SnapshotFileError> {
    let bad =
        |problem: &str| SnapshotFileError::Entry { bucket: "lease", problem: problem.to_owned() };
    let LeaseRow { id, ttl, remaining } =
        LeaseRow::decode(value).map_err(|_| bad("an entry is no lease"))?;
    if key != id.to_be_bytes() {
        return Err(bad("a lease stands under another one's id"));
    }
    Ok((id, ttl, remaining))
}

fn make_log(
    folder: &Path,
    start: &Start,
    configuration: Configuration,
) -> Result<(), SnapshotFileError> {
    let failed = |error: &dyn std::fmt::Display| SnapshotFileError::Log(error.to_string());
    let disk = FileDisk::open(folder).map_err(|error| failed(&error))?;
    let identity =
        Identity { cluster: start.cluster, member: start.member, incarnation: 0, group: 0 };
    let created = Wal::create(disk, Options::default(), identity, configuration.clone());
    let (mut wal, _) = created.map_err(|error| failed(&error))?;
    let hard_state = HardState { term: APPLIED.term, vote: None };
    let anew = Anew { position: APPLIED, configuration, hard_state, note: None };
    wal.begin_anew(&anew).map_err(|error| failed(&error))
}
