//! A new engine, filled with rows of etcd's.
//!
//! Responsible for a store that a machine opens as if it had written it itself. The rows come in the
//! order of their revisions, from a file that anybody may have written, and each is looked at. Not
//! responsible for that file, nor for the log beside the store.
//!
//! Invariants:
//! 1. Nothing is in force before everything is there: what is left by a crash is an empty store.
//! 2. A key that exists and holds a lease has one: those that are missing are made up, to live as long
//!    as a lease may, for etcd keeps such keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use redb::StorageBackend;

use crate::auth::Auth;
use crate::engine::{Engine, EngineError, Meta, Table, Transaction};
use crate::lease::{LEASE_TTL_MAX, Lease, LeaseName};
use crate::redb_engine::RedbEngine;
use crate::row::{Revision, RowKey, decode_message, seal};
use crate::tally::Tally;

/// Rows are brought into the transaction once this many bytes are gathered.
const SLICE_BYTES: usize = 1 << 20;

/// A transaction is committed once it holds this many bytes: what a commit takes of memory.
const COMMIT_BYTES: usize = 32 << 20;

/// The store's first revision, as etcd's.
const FIRST_REVISION: i64 = 1;

/// Why rows cannot be taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ImportError {
    /// The engine's file cannot be written.
    Engine(EngineError),
    /// The engine's file holds a state already.
    Exists,
    /// A row is none.
    Row {
        /// The last revision before it.
        after: i64,
        /// What is wrong with it.
        reason: String,
    },
}

impl std::fmt::Display for ImportError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ImportError::Engine(error) => error.fmt(f),
            ImportError::Exists => {
                write!(f, "the store to be filled holds data already; name an empty data directory")
            }
            ImportError::Row { after, reason } => {
                write!(f, "the row behind revision {after} cannot be taken: {reason}")
            }
        }
    }
}

impl std::error::Error for ImportError {}

impl From<EngineError> for ImportError {
    fn from(error: EngineError) -> ImportError {
        ImportError::Engine(error)
    }
}

/// An engine that is being filled.
pub struct Import {
    engine: RedbEngine,
    transaction: Option<Box<dyn Transaction>>,
    committing_bytes: usize,
    /// Rows that are to be brought in: keys, and where each sealed value ends.
    gathered: Vec<(RowKey, usize)>,
    sealed: Vec<u8>,
    tally: Tally,
    last: Revision,
    /// The newest revision, also of rows that only name it.
    revision: i64,
    /// The leases of keys that exist.
    leased: BTreeMap<Bytes, i64>,
}

/// What stands beside rows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ImportRest {
    /// The log index as of which the state is to be.
    pub applied: u64,
    /// The node's record as of that index.
    pub record: Bytes,
    /// The compacted revision, if there is one. Rows that it does not keep are removed once the store
    /// is in use. It may lie above all rows: then it is the store's revision.
    pub compacted: Option<i64>,
    /// The leases: id, seconds granted, seconds that remain.
    pub leases: Vec<(i64, i64, i64)>,
    /// Users, roles and whether they are in use.
    pub auth: Auth,
}

/// What an import came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Imported {
    /// The store's revision.
    pub revision: i64,
    /// How many rows there are.
    pub rows: u64,
    /// How many leases were made up for keys whose lease was missing.
    pub leases_made_up: usize,
}

impl Import {
    /// Begins to fill an empty file.
    ///
    /// # Errors
    /// It cannot be written, or is not empty.
    pub fn begin(backend: Box<dyn StorageBackend>) -> Result<Import, ImportError> {
        let engine = RedbEngine::open(Arc::from(backend))?;
        if engine.snapshot()?.meta()?.is_some() {
            return Err(ImportError::Exists);
        }
        Ok(Import {
            engine,
            transaction: None,
            committing_bytes: 0,
            gathered: Vec::new(),
            sealed: Vec::new(),
            tally: Tally::default(),
            last: Revision::default(),
            revision: FIRST_REVISION,
            leased: BTreeMap::new(),
        })
    }

    /// Takes a row: etcd's key and its `mvccpb.KeyValue`. A row that only names a revision, as etcd's
    /// tools write it to raise that, is not kept.
    ///
    /// # Errors
    /// It is none, or does not follow the row before; the file cannot be written.
    pub fn row(&mut self, row_key: &[u8], message: &[u8]) -> Result<(), ImportError> {
        let after = self.last.main;
        let bad = |reason: &str| ImportError::Row { after, reason: reason.to_owned() };
        let (revision, tombstone) =
            RowKey::decode(row_key).map_err(|error| bad(&error.to_string()))?;
        if revision <= self.last {
            return Err(bad("it stands out of order"));
        }
        if message.is_empty() {
            self.revision = self.revision.max(revision.main);
            return Ok(());
        }
        let row = decode_message(message).map_err(|error| bad(&error.to_string()))?;
        if !tombstone && (row.main != revision.main || row.version < 1) {
            return Err(bad("its key and its message name different revisions"));
        }
        self.last = revision;
        self.revision = self.revision.max(revision.main);
        if tombstone || row.lease == 0 {
            self.leased.remove(row.key);
        } else {
            self.leased.insert(Bytes::copy_from_slice(row.key), row.lease);
        }
        let start = self.sealed.len();
        seal(row_key, message, &mut self.sealed);
        self.tally.add(&self.sealed[start..]);
        self.gathered.push((RowKey::new(revision, tombstone), self.sealed.len()));
        if SLICE_BYTES <= self.sealed.len() { self.bring_in() } else { Ok(()) }
    }

    /// The newest revision so far.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Tells rows apart: other rows have another digest, but for one time in 2^64.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let Tally { rows, sum } = self.tally;
        sum.rotate_left(24) ^ rows.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    /// Puts what was brought in in force, durably.
    ///
    /// # Errors
    /// The file cannot be written.
    ///
    /// # Panics
    /// If `rest` names no applied index.
    pub fn finish(mut self, rest: ImportRest) -> Result<Imported, ImportError> {
        assert!(0 < rest.applied, "a state is as of an entry");
        self.bring_in()?;
        let mut leases: BTreeMap<i64, Lease> = BTreeMap::new();
        let mut add = |id: i64, ttl: i64, remaining: i64| {
            let ttl = ttl.clamp(1, LEASE_TTL_MAX);
            let remaining = if remaining <= 0 { ttl } else { remaining.min(ttl) };
            let name = LeaseName { id, granted: rest.applied };
            leases.insert(id, Lease { name, ttl, remaining });
        };
        rest.leases.iter().filter(|lease| lease.0 != 0).for_each(|lease| {
            add(lease.0, lease.1, lease.2);
        });
        let known = leases.len();
        for id in self.leased.values() {
            // import invariant 2
            leases.entry(*id).or_insert_with(|| Lease {
                name: LeaseName { id: *id, granted: rest.applied },
                ttl: LEASE_TTL_MAX,
                remaining: LEASE_TTL_MAX,
            });
        }
        let leases_made_up = leases.len() - known;
        let revision = self.revision.max(rest.compacted.unwrap_or_default());
        // A store that knows no compaction ends where its rows do.
        let raised = (self.last.main.max(FIRST_REVISION) < revision).then_some(revision);
        let meta = Meta {
            commits: 1,
            applied: rest.applied,
            record: rest.record,
            revision,
            compact_scheduled: raised.or(rest.compacted),
            compact_finished: None,
            tally: self.tally,
            leases: leases.into_values().collect(),
            auth: rest.auth,
            ..Meta::default()
        };
        let mut transaction = self.open()?;
        transaction.put_staged_in_force(&meta)?; // import invariant 1
        transaction.commit()?;
        let mut transaction = self.engine.begin()?;
        transaction.drop_staged()?;
        transaction.commit()?;
        Ok(Imported { revision, rows: self.tally.rows, leases_made_up })
    }

    fn open(&mut self) -> Result<Box<dyn Transaction>, EngineError> {
        match self.transaction.take() {
            Some(open) => Ok(open),
            None => self.engine.begin(),
        }
    }

    fn bring_in(&mut self) -> Result<(), ImportError> {
        let mut transaction = self.open()?;
        let mut start = 0;
        let sealed = &self.sealed;
        let mut rows = self.gathered.iter().map(|(row_key, end)| {
            let row = (*row_key, &sealed[start..*end]);
            start = *end;
            row
        });
        transaction.append(Table::Staged, &mut rows)?;
        self.committing_bytes += self.sealed.len();
        self.gathered.clear();
        self.sealed.clear();
        if COMMIT_BYTES <= self.committing_bytes {
            self.committing_bytes = 0;
            transaction.commit()?;
        } else {
            self.transaction = Some(transaction);
        }
        Ok(())
    }
}
