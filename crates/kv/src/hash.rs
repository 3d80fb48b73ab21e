//! HashKV: one number over the rows up to a revision, by etcd's formula.
//!
//! CRC-32C over the table's name `key`, then over every row's key and message in the order of
//! revisions. Of the rows at or before the compacted revision only those count that a compaction at
//! the hashed revision would keep, so that the number does not depend on how far the removal of
//! rows has come; a deletion exactly at the compacted revision never counts, because versions of
//! etcd differ in keeping it.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use crate::KvError;
use crate::engine::{EngineError, Next, Snapshot, Table};
use crate::history::History;
use crate::range::ReadError;
use crate::record::Content;
use crate::row::{Revision, RowKey, unseal};
use crate::shared::Shared;
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

/// How many keys are looked at under one hold of the lock: for a fraction of a millisecond.
const SLICE_KEYS: usize = 2048;

/// How often a walk begins anew because of a compaction before it goes on to its end under the lock.
const BEGINNINGS_MAX: usize = 8;

/// A walk over all keys that finds the rows at or before the compacted revision that count.
pub(crate) struct HashWalk {
    answer: HashKv,
    /// What is to be looked at next; `None` at the end.
    next: Option<Bound<Bytes>>,
    /// Whether anything at all is there at the hashed revision.
    any: bool,
    kept: Vec<Revision>,
    /// What the last compaction kept. If nothing at all would be kept, etcd counts whatever is there,
    /// which is this.
    kept_last: Vec<Revision>,
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

impl Shared {
    /// Hashes the rows at and before a revision, 0 for the newest, as etcd's HashKV does. Keys are walked
    /// over in slices, so that nobody who writes waits for long, and the lock is released while rows are
    /// read and hashed.
    ///
    /// # Errors
    /// [`KvError::FutureRevision`], [`KvError::Compacted`]; [`KvError::Corrupt`] if the engine
    /// cannot be read.
    pub fn hash_kv(&self, revision: i64) -> Result<HashKv, KvError> {
        let plan = self.plan_hash(revision, SLICE_KEYS).map_err(|error| match error {
            ReadError::Kv(error) => error,
            ReadError::Engine(error) => self.fail(error),
        })?;
        plan.finish().map_err(|error| self.fail(error))
    }

    fn plan_hash(&self, revision: i64, slice: usize) -> Result<HashPlan, ReadError> {
        let mut walk = self.read().store().begin_hash(revision)?;
        let mut beginnings = 1;
        loop {
            let view = self.read();
            let store = view.store();
            // What is kept hangs on what is compacted, and on which state it is.
            if !walk.is_of(store) {
                walk = store.begin_hash(revision)?;
                beginnings += 1;
            }
            let slice = if beginnings < BEGINNINGS_MAX { slice } else { usize::MAX };
            if walk.go_on(store, slice) {
                return store.end_hash(walk);
            }
        }
    }
}

impl HashWalk {
    /// Whether what was found is of this store as it is.
    fn is_of(&self, store: &Store) -> bool {
        self.answer.compact_revision == store.compact_revision()
            && self.answer.revision <= store.revision()
    }

    /// Looks at so many keys more; answers whether that was all.
    fn go_on(&mut self, store: &Store, slice: usize) -> bool {
        let Some(next) = self.next.take() else { return true };
        let HashKv { compact_revision, hash_revision, .. } = self.answer;
        let mut last = None;
        let bounds = (next.as_ref().map(AsRef::as_ref), Bound::Unbounded);
        for (key, record) in store.keys().range(bounds).take(slice) {
            let live_at = |at: i64| record.kept(at).filter(|name| !name.tombstone);
            if let Some(name) = live_at(hash_revision) {
                self.any = true;
                let compacted = name.revision.main <= compact_revision;
                self.kept.extend(compacted.then_some(name.revision));
            }
            if !self.any {
                self.kept_last.extend(live_at(compact_revision).map(|name| name.revision));
            }
            last = Some(key);
        }
        self.next = last.map(|key| Bound::Excluded(key.clone()));
        self.next.is_none()
    }
}

impl Store {
    fn begin_hash(&self, revision: i64) -> Result<HashWalk, ReadError> {
        let compact_revision = self.compact_revision();
        if 0 < revision && revision < compact_revision {
            return Err(ReadError::Kv(KvError::Compacted));
        }
        if self.revision() < revision {
            return Err(ReadError::Kv(KvError::FutureRevision));
        }
        let hash_revision = if revision == 0 { self.revision() } else { revision };
        let answer = HashKv { hash: 0, compact_revision, hash_revision, revision: self.revision() };
        // Before any compaction every row counts.
        let next = (0 < compact_revision).then_some(Bound::Unbounded);
        Ok(HashWalk { answer, next, any: false, kept: Vec::new(), kept_last: Vec::new() })
    }

    fn end_hash(&self, walk: HashWalk) -> Result<HashPlan, ReadError> {
        let HashWalk { answer, any, kept, kept_last, .. } = walk;
        let mut kept = if any { kept } else { kept_last };
        kept.sort_unstable();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{COMMAND_VERSION, Command, Entry, Machine, Options, PutRequest};

    #[test]
    fn what_is_hashed_in_slices_is_what_is_hashed_at_once() {
        let mut machine = Machine::open(None, Options::default()).expect("memory");
        let mut index = 0;
        let mut apply = |machine: &mut Machine, command: Command| {
            index += 1;
            let mut payload = bytes::BytesMut::new();
            command.encode_into(&mut payload);
            let version = COMMAND_VERSION;
            let entry = Entry { index, term: 1, time_ms: 0, version, payload: &payload };
            machine.apply_one(entry).expect("a command");
            machine.end_batch(index, Bytes::new());
        };
        for round in 0..3 {
            for key in 0..40 {
                let key = format!("{}", key * (round + 1)).into();
                let put = PutRequest { key, ..PutRequest::default() };
                apply(&mut machine, Command::Put(put));
            }
        }
        apply(&mut machine, Command::Compact { revision: 70, physical: false });
        let shared = machine.shared();
        for revision in [70, 71, 90, 121] {
            let hash = |slice| {
                let plan =
                    shared.plan_hash(revision, slice).unwrap_or_else(|_| panic!("it is there"));
                plan.finish().expect("memory can be read")
            };
            let expected = hash(usize::MAX);
            for slice in [1, 7, 39, 40] {
                assert_eq!(hash(slice), expected, "revision {revision}, slices of {slice}");
            }
        }
        // One that is overtaken by a compaction begins anew.
        let mut walk =
            shared.read().store().begin_hash(0).unwrap_or_else(|_| panic!("it is there"));
        assert!(!walk.go_on(shared.read().store(), 5));
        apply(&mut machine, Command::Compact { revision: 100, physical: false });
        assert!(!walk.is_of(shared.read().store()));
    }
}
