//! A state of the store as etcd keeps it: for snapshots that etcd's tools read and that a real etcd
//! starts from, and the way back.
//!
//! Responsible for what etcd's buckets are called and hold. Not responsible for the file's pages
//! (`jangada_bolt`), nor for the store (`jangada_kv`). The layout stands in `docs/snapshot-file.md`.

mod auth;
mod buckets;
mod file;
mod restore;
mod send;
mod status;

pub(crate) use buckets::hash;
pub(crate) use send::{Piece, send};

pub use file::SnapshotFileError;
pub use restore::{Restoration, Restored, restore};
pub use status::{SnapshotStatus, status};

use jangada_kv::Export;

use crate::backend::Member;

/// A state of the store, and what stands beside it in etcd.
pub struct Exported {
    /// The state.
    pub state: Export,
    /// The term of its last entry.
    pub term: u64,
    /// The members as of that entry.
    pub members: Vec<Member>,
    /// Those that were removed.
    pub removed: Vec<u64>,
}
