//! HashKV: one number over the rows up to a revision, by etcd's formula.
//!
//! CRC-32C over the table's name `key`, then over every row's key and message in the order of
//! revisions. Of the rows at or before the compacted revision only those count that a compaction at
//! the hashed revision would keep, so that the number does not depend on how far the removal of
//! rows has come; a deletion exactly at the compacted revision never counts, because versions of
//! etcd differ in keeping it.

use std::collections::BTreeMap;

use crate::KvError;
use crate::engine::{EngineError, Next, Snapshot, Table};
use crate::history::History;
use crate::range::ReadError;
use crate::record::Content;
use crate::row::{Revision, RowKey, unseal};
use crate::snapshot::MemoryRow;
use crate::store::Store;

/// The answer to HashKV.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HashKv {
    /// The hash.
    pub hash: u32,
    /// The compacted revision that the hash starts from; -1 before any compaction.
    pub compact_revision: i64,
    /// The revision that was hashed.
    pub hash_revision: i64,
    /// The newest revision.
    pub revision: i64,
}

/// A hash whose rows are known.
pub(crate) struct HashPlan {
    answer: HashKv,
    /// The rows at or before the compacted revision that count, ascending.
    kept: Vec<Revision>,
    /// Rows that the engine holds, if there is one.
    snapshot: Option<Box<dyn Snapshot>>,
    /// Rows behind those, ascending: the row's key and its message.
    rows: Vec<(RowKey, Vec<u8>)>,
}

impl Store {
    pub(crate) fn plan_hash(&self, revision: i64) -> Result<HashPlan, ReadError> {
        let compact_revision = self.compact_revision();
        if 0 < revision && revision < compact_revision {
            return Err(ReadError::Kv(KvError::Compacted));
        }
        if self.revision() < revision {
            return Err(ReadError::Kv(KvError::FutureRevision));
        }
        let hash_revision = if revision == 0 { self.revision() } else { revision };
        let answer = HashKv { hash: 0, compact_revision, hash_revision, revision: self.revision() };
        let kept = self.counted(compact_revision, hash_revision);
        let (snapshot, rows) = match self.history() {
            History::Memory(contents) => {
                let sealed = self.memory_rows(contents).into_iter().map(|row| {
                    let MemoryRow { name, key, content } = row;
                    let mut message = Vec::new();
                    content.row(&key, name).encode(&mut message);
                    (RowKey::new(name.revision, name.tombstone), message)
                });
                (None, sealed.collect())
            }
            History::Engine { queue, .. } => {
                let mut rows = Vec::new();
                let open = std::iter::once(self.open());
                for batch in queue.iter().map(AsRef::as_ref).chain(open) {
                    for at in 0..batch.len() {
                        let (row_key, sealed) = batch.row(at);
                        let message = unseal(row_key.as_bytes(), sealed);
                        rows.push((row_key, message.expect("effects: rows are sealed").to_vec()));
                    }
                }
                (Some(self.history().snapshot().map_err(ReadError::Engine)?), rows)
            }
        };
        Ok(HashPlan { answer, kept, snapshot, rows })
    }

    /// The rows at or before the compacted revision that count. If nothing at all would be kept,
    /// etcd counts whatever is there, which is what the last compaction kept.
    fn counted(&self, compact_revision: i64, hash_revision: i64) -> Vec<Revision> {
        let live_at = |revision: i64| {
            let kept = self.keys().iter().filter_map(move |(_, record)| record.kept(revision));
            kept.filter(|name| !name.tombstone).map(|name| name.revision)
        };
        let mut any = false;
        let mut counted: Vec<Revision> = live_at(hash_revision)
            .inspect(|_| any = true)
            .filter(|revision| revision.main <= compact_revision)
            .collect();
        if !any {
            counted = live_at(compact_revision).collect();
        }
        counted.sort_unstable();
        counted
    }

    /// The rows of a store without an engine, from the oldest on.
    pub(crate) fn memory_rows(&self, contents: &BTreeMap<Revision, Content>) -> Vec<MemoryRow> {
        let mut rows = Vec::new();
        for (key, record) in self.keys().iter() {
            let newest = record.newest();
            for name in record.names() {
                let content = if name == newest {
                    record.content()
                } else {
                    contents.get(&name.revision).cloned().unwrap_or_default()
                };
                rows.push(MemoryRow { name, key: key.clone(), content });
            }
        }
        rows.sort_unstable_by_key(|row| row.name.revision);
        rows
    }
}

impl HashPlan {
    /// Reads the rows and hashes them.
    pub(crate) fn finish(self) -> Result<HashKv, EngineError> {
        let mut hash = crc32c::crc32c(b"key");
        let mut last = None;
        let mut visit = |row_key: &[u8], message: &[u8], revision: Revision, tombstone: bool| {
            // A batch may stand in the engine already while it still waits in memory.
            if last.is_some_and(|last| revision <= last) {
                return;
            }
            last = Some(revision);
            if self.counts(revision, tombstone) {
                hash = crc32c::crc32c_append(hash, row_key);
                hash = crc32c::crc32c_append(hash, message);
            }
        };
        if let Some(snapshot) = &self.snapshot {
            snapshot.rows_after(Table::Rows, None, &mut |row_key, sealed| {
                let (revision, tombstone) = RowKey::decode(row_key)
                    .map_err(|error| EngineError::damaged(Revision::default(), error))?;
                let message = unseal(row_key, sealed)
                    .map_err(|error| EngineError::damaged(revision, error))?;
                visit(row_key, message, revision, tombstone);
                Ok(Next::Go)
            })?;
        }
        for (row_key, message) in &self.rows {
            let (revision, tombstone) =
                RowKey::decode(row_key.as_bytes()).expect("row: a key is what it was made as");
            visit(row_key.as_bytes(), message, revision, tombstone);
        }
        Ok(HashKv { hash, ..self.answer })
    }

    fn counts(&self, revision: Revision, tombstone: bool) -> bool {
        if self.answer.hash_revision < revision.main {
            return false;
        }
        if self.answer.compact_revision < revision.main {
            return true;
        }
        !tombstone && self.kept.binary_search(&revision).is_ok()
    }
}
