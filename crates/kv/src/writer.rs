//! Brings effect batches into the engine.
//!
//! A stepped part: it owns no thread and no clock. Whoever runs it calls [`EngineWriter::turn`]
//! until it says that there is nothing to do, and tells it the time.
//!
//! Rows go into a transaction as they come, a slice a turn; the transaction is committed when
//! enough has been waiting, or for long enough. A commit holds whole batches and the record of the
//! last one. The rows that a compaction does not keep are removed in slices too.
//!
//! Invariants:
//! 1. The engine takes a batch only once the log holds its last entry durably.
//! 2. What a commit holds is a prefix of the log: all effects up to one index and none after it.
//! 3. A row is removed only by a transaction that notes the compaction, or after one that did.
//! 4. A state from another member is put in force by one transaction, when all of it is staged
//!    durably and has been read back.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use redb::StorageBackend;

use crate::auth::Auth;
use crate::effects::{Batch, Note};
use crate::engine::{Engine, EngineError, Meta, Table, Transaction, Unavailable};
use crate::history::History;
use crate::machine::Options;
use crate::redb_engine::RedbEngine;
use crate::row::RowKey;
use crate::shared::Shared;
use crate::stage::Stage;
use crate::store::Store;

/// How many rows a turn appends or removes at most, so that whoever shares the processor is not held
/// up for long.
const SLICE_ROWS: usize = 512;

/// How many keys a turn looks at for a compaction, under the store's lock: few enough
/// for a reader not to notice.
const SLICE_KEYS: usize = 1024;

/// Rows are brought into the transaction once this many bytes wait, not one by one.
const SLICE_BYTES: usize = 64 << 10;

/// The longest wait between two turns while something waits, so that rows come in small slices
/// rather than in one at the end.
const SLICE_WAIT_MS: u64 = 100;

/// What a turn of the writer came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// There is more to do at once.
    More,
    /// Nothing to do for so many milliseconds.
    Wait(u64),
    /// Nothing to do until the machine ends a batch or the log becomes durable further.
    Idle,
}

/// Brings effect batches into the engine, a slice a turn.
pub struct EngineWriter {
    pub(crate) shared: Shared,
    pub(crate) engine: Arc<dyn Engine>,
    /// The file that the engine was opened with.
    file: Arc<dyn StorageBackend>,
    options: Options,
    /// What the engine holds durably.
    pub(crate) durable: Meta,
    /// What it will hold once the transaction is committed.
    next: Meta,
    transaction: Option<Open>,
    /// When the oldest effect that waits was first seen, by the caller's clock.
    since_ms: Option<u64>,
    sweep: Option<Sweep>,
    /// What is done about a state from another member.
    pub(crate) stage: Stage,
}

/// The transaction that is open, and what is in it.
pub(crate) struct Open {
    /// `None` once it has failed.
    transaction: Option<Box<dyn Transaction>>,
    /// The batches in it; they stand at the head of the queue. The last one may be in by part.
    batches: Vec<Arc<Batch>>,
    /// What of the last batch is to be brought in next.
    part: Part,
    /// The bytes of those batches, and of the rows that it stages.
    pub(crate) bytes: usize,
    /// The rows removed by it, in case it must be repeated.
    removed: Vec<RowKey>,
    /// What those rows counted.
    removed_bytes: u64,
}

impl Sweep {
    /// The compaction that a state has not finished.
    fn due(meta: &Meta) -> Option<Sweep> {
        let due =
            meta.compact_scheduled.filter(|_| meta.compact_scheduled != meta.compact_finished);
        due.map(|revision| Sweep { revision, walk: Walk::Start, pending: VecDeque::new() })
    }
}

/// A part of a batch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Rows from this one on.
    Rows(usize),
    /// What it does beside rows.
    Notes,
    /// Nothing: it is in.
    Done,
}

/// A compaction whose rows are being removed.
struct Sweep {
    revision: i64,
    /// The walk over the keys.
    walk: Walk,
    /// Rows that memory has forgotten and that still stand in the engine.
    pending: VecDeque<RowKey>,
}

/// How far the walk over the keys has come.
#[derive(Clone)]
enum Walk {
    Start,
    From(Bytes),
    Done,
}

/// The batches that may be taken.
struct Ready {
    first: Option<Arc<Batch>>,
    bytes: usize,
}

impl EngineWriter {
    pub(crate) fn new(
        shared: Shared,
        engine: Arc<dyn Engine>,
        file: Arc<dyn StorageBackend>,
        options: Options,
        durable: Meta,
    ) -> EngineWriter {
        EngineWriter {
            shared,
            engine,
            file,
            options,
            next: durable.clone(),
            sweep: Sweep::due(&durable),
            durable,
            transaction: None,
            since_ms: None,
            stage: Stage::Nothing,
        }
    }

    /// Does one slice of work. `now_ms` is any clock that does not go backwards.
    ///
    /// # Errors
    /// The engine failed. After [`EngineError::NoSpace`] the writer can go on with
    /// [`EngineWriter::reopen`]; after anything else the member must stop.
    pub fn turn(&mut self, now_ms: u64) -> Result<Turn, EngineError> {
        if self.append_slice()? || self.stage_slice()? {
            return Ok(Turn::More);
        }
        let Ready { first, bytes: ready_bytes } = self.ready();
        if first.is_none() && self.transaction.is_none() && self.sweep.is_none() {
            self.since_ms = None;
            return Ok(Turn::Idle);
        }
        let waited_ms = now_ms.saturating_sub(*self.since_ms.get_or_insert(now_ms));
        let open_bytes = self.transaction.as_ref().map_or(0, Open::weight);
        let full = self.options.commit_bytes <= open_bytes;
        let due = full
            || self.options.commit_bytes <= open_bytes + ready_bytes
            || self.options.commit_after_ms <= waited_ms
            || self.durable.applied < self.shared.gauges().wanted.load(Ordering::Acquire);
        if let Some(batch) = first
            && !full
            && (due || SLICE_BYTES <= ready_bytes)
        {
            self.take(batch)?;
            return Ok(Turn::More);
        }
        if due && self.transaction.is_some() {
            self.commit()?;
            return Ok(Turn::More);
        }
        if self.sweep_slice()? {
            return Ok(Turn::More);
        }
        let left_ms = self.options.commit_after_ms.saturating_sub(waited_ms);
        Ok(Turn::Wait(left_ms.clamp(1, SLICE_WAIT_MS)))
    }

    /// Brings everything that may be taken into the engine and commits it, whatever the pace.
    ///
    /// # Errors
    /// As [`EngineWriter::turn`].
    pub fn flush(&mut self) -> Result<(), EngineError> {
        loop {
            while self.append_slice()? || self.sweep_slice()? {}
            match self.ready().first {
                Some(batch) => self.take(batch)?,
                None if self.transaction.is_some() => self.commit()?,
                None => return Ok(()),
            }
        }
    }

    /// Closes the engine after it failed, so that its file can be opened again. Until then what it
    /// held durably is read from the file as it is, through the backend that it was opened with.
    pub fn close(&mut self) {
        if let Some(open) = &mut self.transaction {
            open.transaction = None;
        }
        let shared = self.shared.clone();
        let mut store = shared.write();
        // An engine may write while it closes; so it is gone before its file is read aside.
        self.set_engine(&mut store, Arc::new(Unavailable));
        self.read_aside(&mut store);
    }

    /// Goes on with the file opened again, after it had no space and was
    /// [closed](EngineWriter::close). What was not committed is brought in anew from memory.
    ///
    /// # Errors
    /// The file cannot be opened, or is not the one that this writer wrote. After
    /// [`EngineError::NoSpace`] this can be tried again.
    pub fn reopen(&mut self, backend: Box<dyn StorageBackend>) -> Result<(), EngineError> {
        self.file = Arc::from(backend);
        let shared = self.shared.clone();
        let mut store = shared.write();
        // Reading aside ends before the file is written again. Commands wait meanwhile: one of them
        // may need to read.
        self.set_engine(&mut store, Arc::new(Unavailable));
        match RedbEngine::open(Arc::clone(&self.file)) {
            Ok(engine) => self.set_engine(&mut store, Arc::new(engine)),
            Err(error) => {
                self.read_aside(&mut store);
                return Err(error);
            }
        }
        drop(store);
        let found = self.engine.snapshot()?.commits()?;
        let happened = self.transaction.is_some() && found == self.durable.commits + 1;
        if !happened && found != self.durable.commits {
            return Err(EngineError::Meta(format!(
                "they count {found} commits where {} are expected",
                self.durable.commits
            )));
        }
        if self.stage_reopened(happened) {
            return Ok(());
        }
        match self.transaction.take() {
            Some(open) if happened => self.committed(open.batches, open.removed_bytes),
            Some(open) => self.repeat(open.removed),
            None => {}
        }
        Ok(())
    }

    /// Reads what is durable, if it can be read.
    fn read_aside(&mut self, store: &mut Store) {
        if let Ok(aside) = RedbEngine::open_aside(Arc::clone(&self.file)) {
            self.set_engine(store, Arc::new(aside));
        }
    }

    fn set_engine(&mut self, store: &mut Store, engine: Arc<dyn Engine>) {
        if let History::Engine { engine: of_readers, .. } = store.history_mut() {
            *of_readers = Arc::clone(&engine);
        }
        self.engine = engine;
    }

    /// A transaction is lost. Its batches are still in the queue; the rows that it removed stand in
    /// the engine again, and memory no longer knows them.
    fn repeat(&mut self, removed: Vec<RowKey>) {
        let scheduled = self.next.compact_scheduled;
        let finished = self.next.compact_finished != self.durable.compact_finished;
        self.next = self.durable.clone();
        if let Some(revision) = scheduled
            && (finished || !removed.is_empty())
        {
            let sweep = self.sweep.get_or_insert_with(|| Sweep {
                revision,
                walk: Walk::Done,
                pending: VecDeque::new(),
            });
            removed.into_iter().rev().for_each(|row_key| sweep.pending.push_front(row_key));
        }
    }

    /// What the log allows to take next (invariant 1).
    fn ready(&self) -> Ready {
        let log_durable = self.shared.gauges().log_durable.load(Ordering::Acquire);
        let taken = self.transaction.as_ref().map_or(0, |open| open.batches.len());
        let view = self.shared.read();
        let waiting = view.waiting_batches().skip(taken);
        let mut ready = Ready { first: None, bytes: 0 };
        let ahead = canon!(engine_is_ahead_of_the_log);
        for batch in waiting.take_while(|batch| ahead || batch.applied <= log_durable) {
            ready.bytes += batch.bytes();
            ready.first.get_or_insert_with(|| Arc::clone(batch));
        }
        ready
    }

    pub(crate) fn open(&mut self) -> Result<&mut Open, EngineError> {
        if self.transaction.is_none() {
            self.transaction = Some(Open {
                transaction: Some(self.engine.begin()?),
                batches: Vec::new(),
                part: Part::Done,
                bytes: 0,
                removed: Vec::new(),
                removed_bytes: 0,
            });
        }
        Ok(self.transaction.as_mut().expect("writer: the transaction was just begun"))
    }

    fn take(&mut self, batch: Arc<Batch>) -> Result<(), EngineError> {
        assert!(self.next.applied <= batch.applied, "writer invariant 2");
        let open = self.open()?;
        assert!(open.part == Part::Done, "writer invariant 2");
        open.part = Part::Rows(0);
        open.bytes += batch.bytes();
        open.batches.push(batch);
        Ok(())
    }

    /// Brings in a part of the batch taken last; answers whether there was anything to do.
    fn append_slice(&mut self) -> Result<bool, EngineError> {
        let Some(open) = &mut self.transaction else {
            return Ok(false);
        };
        let Some(batch) = open.batches.last().map(Arc::clone) else {
            return Ok(false);
        };
        match open.part {
            Part::Rows(start) => {
                let end = batch.len().min(start + SLICE_ROWS);
                if start < end {
                    let rows = &mut (start..end).map(|at| batch.row(at));
                    open.live()?.append(Table::Rows, rows)?;
                    (start..end).for_each(|at| self.next.tally.add(batch.row(at).1));
                }
                open.part = if end == batch.len() { Part::Notes } else { Part::Rows(end) };
            }
            Part::Notes => {
                self.note(&batch)?;
                self.open()?.part = Part::Done;
            }
            Part::Done => return Ok(false),
        }
        Ok(true)
    }

    /// The rows of the batch are in; takes over what it does beside them.
    fn note(&mut self, batch: &Batch) -> Result<(), EngineError> {
        for note in &batch.notes {
            match note {
                Note::Member(member) => self.open()?.live()?.set_member(member)?,
                Note::Retracted(id) => self.open()?.live()?.remove_member(*id)?,
                Note::Raised(alarm) => self.open()?.live()?.set_alarm(*alarm, true)?,
                Note::Cleared(alarm) => self.open()?.live()?.set_alarm(*alarm, false)?,
                // Together, below.
                Note::Lease(_) | Note::LeaseGone(_) => {}
                Note::Auth(note) => self.open()?.live()?.set_auth(note)?,
                Note::Compacted(revision) => {
                    self.next.compact_scheduled = Some(*revision);
                    match &mut self.sweep {
                        Some(sweep) if *revision <= sweep.revision => {}
                        Some(sweep) => {
                            sweep.revision = *revision;
                            sweep.walk = Walk::Start;
                        }
                        None => {
                            self.sweep = Some(Sweep {
                                revision: *revision,
                                walk: Walk::Start,
                                pending: VecDeque::new(),
                            });
                        }
                    }
                }
            }
        }
        let leases = batch.leases();
        if !leases.is_empty() {
            self.open()?.live()?.set_leases(&leases)?;
        }
        self.next.applied = batch.applied;
        self.next.record = batch.record.clone();
        self.next.revision = batch.revision;
        Ok(())
    }

    /// Does a slice of the compaction; answers whether there was anything to do.
    fn sweep_slice(&mut self) -> Result<bool, EngineError> {
        let Some(mut sweep) = self.sweep.take() else {
            return Ok(false);
        };
        // Invariant 3: after a transaction failed, the compaction's own batch goes first.
        if self.next.compact_scheduled < Some(sweep.revision) {
            self.sweep = Some(sweep);
            return Ok(false);
        }
        if sweep.pending.is_empty() && matches!(sweep.walk, Walk::Done) {
            let revision = sweep.revision;
            self.sweep = Some(sweep);
            self.open()?;
            self.sweep = None;
            self.next.compact_finished = Some(revision);
            return Ok(true);
        }
        let done = if sweep.pending.is_empty() {
            self.walk_slice(&mut sweep);
            Ok(())
        } else {
            self.remove_slice(&mut sweep)
        };
        self.sweep = Some(sweep);
        done.map(|()| true)
    }

    fn walk_slice(&mut self, sweep: &mut Sweep) {
        let start = match &sweep.walk {
            Walk::From(key) => Some(key.clone()),
            Walk::Start | Walk::Done => None,
        };
        let mut removed = Vec::new();
        let next =
            self.shared.write().forget(sweep.revision, start.as_ref(), SLICE_KEYS, &mut removed);
        sweep.walk = next.map_or(Walk::Done, Walk::From);
        let row_keys = removed.iter().map(|name| RowKey::new(name.revision, name.tombstone));
        sweep.pending.extend(row_keys);
    }

    fn remove_slice(&mut self, sweep: &mut Sweep) -> Result<(), EngineError> {
        let count = sweep.pending.len().min(SLICE_ROWS);
        let mut slice: Vec<RowKey> = sweep.pending.iter().take(count).copied().collect();
        slice.sort_unstable_by_key(|row_key| *row_key.order());
        let open = self.open()?;
        let removed = open.live()?.remove(&slice)?;
        open.removed_bytes += removed.bytes;
        open.removed.append(&mut slice);
        self.next.tally.remove(removed.tally);
        sweep.pending.drain(..count);
        Ok(())
    }

    /// Whether there is a transaction.
    pub(crate) fn is_open(&self) -> bool {
        self.transaction.is_some()
    }

    /// Whether the transaction weighs enough to be committed.
    pub(crate) fn is_full(&self) -> bool {
        self.transaction.as_ref().is_some_and(|open| self.options.commit_bytes <= open.weight())
    }

    /// Another state is in force: everything that was under way about the one before is void.
    pub(crate) fn begin_from(&mut self, meta: &Meta) {
        self.transaction = None;
        self.since_ms = None;
        self.sweep = Sweep::due(meta);
        self.durable = Meta { leases: Vec::new(), auth: Auth::default(), ..meta.clone() };
        self.next = self.durable.clone();
    }

    pub(crate) fn commit(&mut self) -> Result<(), EngineError> {
        self.next.commits = self.durable.commits + 1;
        let open = self.transaction.as_mut().expect("writer: there is a transaction to commit");
        assert!(open.part == Part::Done, "writer invariant 2");
        let mut meta = self.next.clone();
        if canon!(record_is_stored_apart_from_its_rows) && 0 < self.durable.applied {
            (meta.applied, meta.record) = (self.durable.applied, self.durable.record.clone());
        }
        open.live()?.set_meta(&meta)?;
        self.commit_open()?;
        let open = self.transaction.take().expect("writer: there is a transaction to commit");
        self.committed(open.batches, open.removed_bytes);
        Ok(())
    }

    /// Commits the transaction as it is. If that fails, whether it has happened is told by the number
    /// of commits, once the file is open again.
    pub(crate) fn commit_open(&mut self) -> Result<(), EngineError> {
        let transaction = self.open()?.transaction.take().ok_or(EngineError::Unavailable)?;
        transaction.commit()
    }

    fn committed(&mut self, batches: Vec<Arc<Batch>>, removed_bytes: u64) {
        self.durable = self.next.clone();
        self.since_ms = None;
        let gone = self.shared.write().release(batches.len(), removed_bytes);
        let bytes: usize = gone.iter().map(|batch| batch.bytes()).sum();
        let gauges = self.shared.gauges();
        gauges.lag_bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
        gauges.durable.store(self.durable.applied, Ordering::Release);
    }
}

impl Open {
    pub(crate) fn live(&mut self) -> Result<&mut dyn Transaction, EngineError> {
        match &mut self.transaction {
            Some(transaction) => Ok(transaction.as_mut()),
            None => Err(EngineError::Unavailable),
        }
    }

    /// What the transaction weighs when it is held against the pace of commits.
    fn weight(&self) -> usize {
        self.bytes + usize::try_from(self.removed_bytes).unwrap_or(usize::MAX - self.bytes)
    }
}
