//! The shared history of events.
//!
//! Responsible for answering what happened from a revision on, some revisions at a time, to whoever
//! asks: from memory what is recent, within a budget of bytes; from the batches that wait for the
//! engine, or from the engine, what is older. Nothing is done before somebody asks.
//!
//! Invariants:
//! 1. What lies in memory is without a gap, and of the state that is in force.
//! 2. What is read from the engine is complete: it is not below what is compacted, and was so under
//!    the lock under which the engine's state was taken.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::events::{Builder, Events};
use crate::KvError;
use crate::engine::{EngineError, Next, Snapshot, Table};
use crate::history::History;
use crate::record::Name;
use crate::row::{Revision, RowKey, unseal};
use crate::shared::Shared;
use crate::store::Store;

/// What recent events may take of memory: some ten thousand of them with small values, so that one who
/// falls behind by a second or so does not have to be read for from the engine.
pub const EVENT_LOG_BYTES_MAX: usize = 16 << 20;

/// Small batches are put together up to so much, so that whoever is behind has few steps to go.
const JOIN_BYTES: usize = 64 << 10;

/// How much is read from the engine at a time: about a millisecond, for which whoever shares the thread
/// is held up.
const OLDER_BYTES: usize = 128 << 10;

/// How many rows at most, for the same reason.
const OLDER_ROWS: usize = 512;

/// How many parts that were read from the engine are kept, for others who come along the same way: all
/// who reconnect after a member was away begin at about the same revision.
const OLDER_MAX: usize = 8;

/// Why there are no events to be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WatchError {
    /// The engine cannot be read: [`KvError::NoSpace`] while it waits for space,
    /// [`KvError::Corrupt`] for good.
    Store(KvError),
    /// The state that was watched was put aside for another one that is behind it. Nobody knows what
    /// was true of what was seen; whoever watches must begin anew.
    Replaced,
}

/// Why a part of the history is not there.
pub(super) enum Absent {
    /// It is compacted, up to this revision.
    Compacted(i64),
    Error(KvError),
}

/// The history.
#[derive(Default)]
pub(crate) struct EventLog {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    generation: u64,
    /// Invariant 1.
    recent: VecDeque<Arc<Events>>,
    bytes: usize,
    older: VecDeque<Arc<Events>>,
}

/// Where older events are to be read, once the store's lock is released.
enum Older {
    Engine(Box<dyn Snapshot>, i64),
    Here(Events),
}

impl EventLog {
    /// The events of some revisions, the first of which is at or below `from`, and covers it; `None`
    /// if there is no such revision yet.
    pub(super) fn read(&self, shared: &Shared, from: i64) -> Result<Option<Arc<Events>>, Absent> {
        let mut inner = self.inner();
        let older = {
            let view = shared.read();
            let store = view.store();
            if store.sealed() < from {
                return Ok(None);
            }
            let other_state = inner.follow(shared.watching().generation());
            if other_state && canon!(watch_jumps_over_a_snapshot) {
                return Ok(Some(Arc::new(Builder::default().finish(from, store.sealed()))));
            }
            inner.extend(store, from);
            if let Some(found) = inner.recent(from) {
                return Ok(Some(found));
            }
            let compacted = store.compact_revision();
            if from < compacted && !canon!(watch_goes_on_below_a_compaction) {
                return Err(Absent::Compacted(compacted));
            }
            if let Some(found) = inner.older.iter().find(|part| covers(part, from)) {
                return Ok(Some(Arc::clone(found)));
            }
            older(store, from).map_err(|error| Absent::Error(shared.fail(error)))?
        };
        let events = match older {
            Older::Here(events) => events,
            Older::Engine(snapshot, last) => read_older(snapshot.as_ref(), from, last)
                .map_err(|error| Absent::Error(shared.fail(error)))?,
        };
        let events = Arc::new(events);
        if OLDER_MAX <= inner.older.len() {
            inner.older.pop_front();
        }
        inner.older.push_back(Arc::clone(&events));
        Ok(Some(events))
    }

    /// Lets go of everything: nobody watches.
    pub(super) fn clear(&self) {
        *self.inner() = Inner::default();
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// What was read of another state is of no use. Answers whether the state is another one.
    fn follow(&mut self, generation: u64) -> bool {
        if self.generation == generation {
            return false;
        }
        *self = Inner { generation, ..Inner::default() };
        true
    }

    /// Brings in what has been sealed since; if there is nothing yet, from the batch that covers
    /// `from` on.
    fn extend(&mut self, store: &Store, from: i64) {
        let batches = store.sealed_batches();
        let end = self.recent.back().map_or(from - 1, |events| events.last());
        if end == store.sealed() {
            return;
        }
        let start = batches.partition_point(|batch| batch.revision <= end);
        let Some(first) = batches.get(start) else { return };
        if self.recent.is_empty() {
            if end < first.since {
                return; // older than every batch that is in memory
            }
        } else if end < first.since {
            // Nobody has asked for so long that what lies between has left memory.
            self.recent.clear();
            self.bytes = 0;
        }
        // A batch that was read may have been joined by another since.
        let twice = self.recent.is_empty() || canon!(watch_reads_a_joined_batch_twice);
        let after = if twice { first.since } else { first.since.max(end) };
        let mut begin = after + 1;
        let mut builder = Builder::default();
        for batch in batches.iter().skip(start) {
            builder.batch(batch, after);
            if JOIN_BYTES <= builder.bytes() && begin <= batch.revision {
                let full = std::mem::take(&mut builder);
                self.push(full.finish(begin, batch.revision));
                begin = batch.revision + 1;
            }
        }
        if begin <= store.sealed() {
            self.push(builder.finish(begin, store.sealed()));
        }
    }

    /// The recent part that covers a revision.
    fn recent(&self, from: i64) -> Option<Arc<Events>> {
        let at = self.recent.partition_point(|part| part.last() < from);
        self.recent.get(at).filter(|part| covers(part, from)).map(Arc::clone)
    }

    fn push(&mut self, events: Events) {
        let follows = self.recent.back().is_none_or(|back| back.last() + 1 == events.first());
        assert!(follows, "event log invariant 1");
        self.bytes += events.weight();
        self.recent.push_back(Arc::new(events));
        while EVENT_LOG_BYTES_MAX < self.bytes && 1 < self.recent.len() {
            let gone = self.recent.pop_front();
            self.bytes -= gone.map_or(0, |events| events.weight());
        }
    }
}

fn covers(part: &Events, revision: i64) -> bool {
    (part.first()..=part.last()).contains(&revision)
}

/// Where the events at a revision are that are not among the recent ones.
fn older(store: &Store, from: i64) -> Result<Older, EngineError> {
    let batches = store.sealed_batches();
    if let Some(batch) = batches.get(batches.partition_point(|batch| batch.revision < from))
        && batch.since < from
    {
        let mut builder = Builder::default();
        builder.batch(batch, batch.since);
        return Ok(Older::Here(builder.finish(batch.since + 1, batch.revision)));
    }
    let last = batches.front().map_or(store.sealed(), |batch| batch.since);
    match store.history() {
        History::Engine { engine, .. } => Ok(Older::Engine(engine.snapshot()?, last)),
        History::Memory(contents) => {
            let mut builder = Builder::default();
            let mut message = Vec::new();
            for row in store.memory_rows(contents) {
                if (from..=last).contains(&row.name.revision.main) {
                    message.clear();
                    row.content.row(&row.key, row.name).encode(&mut message);
                    let added = builder.row(row.name, &message);
                    added.expect("memory: a row is what it was encoded as");
                }
            }
            Ok(Older::Here(builder.finish(from, last)))
        }
    }
}

/// Reads events from the engine: whole revisions from `from` on, up to `last` at most.
fn read_older(snapshot: &dyn Snapshot, from: i64, last: i64) -> Result<Events, EngineError> {
    let before = RowKey::new(Revision { main: from - 1, sub: u32::MAX }, true);
    let mut builder = Builder::default();
    let (mut rows, mut end) = (0, last);
    snapshot.rows_after(Table::Rows, Some(&before), &mut |row_key, sealed| {
        let (revision, tombstone) = RowKey::decode(row_key)
            .map_err(|error| EngineError::damaged(Revision { main: from, sub: 0 }, error))?;
        if last < revision.main {
            return Ok(Next::Stop);
        }
        if let Some(so_far) = builder.last()
            && so_far < revision.main
            && (OLDER_BYTES <= builder.bytes() || OLDER_ROWS <= rows)
        {
            end = so_far;
            return Ok(Next::Stop);
        }
        let name = Name { revision, tombstone };
        let added = unseal(row_key, sealed).and_then(|message| builder.row(name, message));
        added.map_err(|error| EngineError::damaged(revision, error))?;
        rows += 1;
        Ok(Next::Go)
    })?;
    Ok(builder.finish(from, end))
}
