//! The writer's side of the state machine: apply, batches, recovery.
//!
//! Responsible for joining the store and its engine. It knows log indexes and the node's record as
//! numbers and bytes, and nothing of consensus.
//!
//! Invariants:
//! 1. Indexes never fall, and no entry at or below the recovered index is applied again; only a
//!    state that is taken from another member begins elsewhere.
//! 2. The write lock is taken once for a run of commands.
//! 3. No command is applied while such a state is being put in force.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use redb::StorageBackend;

use crate::Outcome;
use crate::auth::Auth;
use crate::command::DecodeError;
use crate::engine::{Engine, EngineError, Meta, Next, Table};
use crate::guard::guarded;
use crate::history::History;
use crate::rebuild::Rebuild;
use crate::redb_engine::RedbEngine;
use crate::scrub::Scrub;
use crate::shared::Shared;
use crate::signal::Signal;
use crate::store::Store;
use crate::writer::{EngineWriter, Turn};

/// How many keys a machine without an engine looks at for a compaction with every batch, so that no
/// batch is held up.
const FORGET_KEYS: usize = 1024;

/// How the engine is paced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// A commit is due once this many bytes of effects wait. 8 MiB: a commit costs a few
    /// milliseconds of syncing, which this spreads over some twenty thousand small rows; what waits
    /// takes memory twice, here and in the engine's pages.
    pub commit_bytes: usize,
    /// A commit is due once an effect has waited this long. 2 s: bounds what a restart replays and
    /// how far the log's cut lies behind.
    pub commit_after_ms: u64,
    /// Above this many waiting bytes proposals should be answered *busy*. 256 MiB: what memory is
    /// given to a disk that has fallen behind.
    pub engine_lag_bytes_max: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options { commit_bytes: 8 << 20, commit_after_ms: 2_000, engine_lag_bytes_max: 256 << 20 }
    }
}

/// A committed command.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Its index in the log.
    pub index: u64,
    /// The term of the leader that proposed it.
    pub term: u64,
    /// The cluster's time, in milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// The version of the command's encoding.
    pub version: u16,
    /// The command's bytes.
    pub payload: &'a [u8],
}

/// An entry that cannot be applied: its bytes are not a command that this build knows. The member
/// must stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ApplyError {
    /// The entry.
    pub index: u64,
    /// What is wrong with it.
    pub error: DecodeError,
}

impl std::fmt::Display for ApplyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the entry {} cannot be applied: {}", self.index, self.error)
    }
}

impl std::error::Error for ApplyError {}

/// The state machine, as its one writer sees it.
pub struct Machine {
    pub(crate) shared: Shared,
    pub(crate) signal: Arc<Signal>,
    pub(crate) recovered: Option<Bytes>,
    pub(crate) applied: u64,
    pub(crate) keeping: Keeping,
    writer: Option<EngineWriter>,
}

/// Where superseded versions are kept, and so who forgets them.
pub(crate) enum Keeping {
    /// In memory; the machine itself. Nobody else keeps the record of the last batch.
    Memory { forgetting: Forgetting, record: Bytes, ended: u64 },
    /// In the engine; its writer.
    Engine,
}

/// How far a machine without an engine has come in forgetting what is compacted.
pub(crate) enum Forgetting {
    Nothing,
    From(i64, Option<Bytes>),
}

impl Machine {
    /// Opens the state machine over a file, or in memory alone if there is none.
    ///
    /// # Errors
    /// The file cannot be read, is damaged or of a format that this build does not know. After
    /// [damage](EngineError::is_damage) a member that has others can [set the file
    /// aside](crate::set_aside) and open a new one, to be filled by a [snapshot](Machine::restore).
    pub fn open(
        backend: Option<Box<dyn StorageBackend>>,
        options: Options,
    ) -> Result<Machine, EngineError> {
        let Some(backend) = backend else {
            let shared = Shared::new(Store::new(History::Memory(BTreeMap::new())));
            return Ok(Machine::new(shared, None, None));
        };
        let file: Arc<dyn StorageBackend> = Arc::from(backend);
        let engine: Arc<dyn Engine> = Arc::new(RedbEngine::open(Arc::clone(&file))?);
        let history = History::Engine { engine: Arc::clone(&engine), queue: VecDeque::new() };
        // Damage can also be sound rows that contradict each other, over which the store's own
        // invariants break.
        let (store, meta, durable) = guarded(|| restart(history, engine.as_ref()))?;
        let shared = Shared::new(store);
        shared.gauges().durable.store(durable.applied, Ordering::Release);
        let writer = EngineWriter::new(shared.clone(), engine, file, options, durable);
        Ok(Machine::new(shared, meta, Some(writer)))
    }

    fn new(shared: Shared, meta: Option<Meta>, writer: Option<EngineWriter>) -> Machine {
        let keeping = match writer {
            None => {
                Keeping::Memory { forgetting: Forgetting::Nothing, record: Bytes::new(), ended: 0 }
            }
            Some(_) => Keeping::Engine,
        };
        Machine {
            shared,
            signal: Arc::new(Signal::default()),
            applied: meta.as_ref().map_or(0, |meta| meta.applied),
            recovered: meta.map(|meta| meta.record),
            keeping,
            writer,
        }
    }

    /// The readers' side.
    #[must_use]
    pub fn shared(&self) -> Shared {
        self.shared.clone()
    }

    /// Whether the machine keeps anything durable.
    #[must_use]
    pub fn has_engine(&self) -> bool {
        matches!(self.keeping, Keeping::Engine)
    }

    /// The record of the last batch that was durable when the machine was opened.
    #[must_use]
    pub fn recovered(&self) -> Option<Bytes> {
        self.recovered.clone()
    }

    /// Applies committed commands in order.
    ///
    /// # Errors
    /// An entry is not a command that this build knows; nothing of it and of those behind it is
    /// applied, and the member must stop.
    pub fn apply<'a>(
        &mut self,
        entries: impl IntoIterator<Item = Entry<'a>>,
    ) -> Result<Vec<Outcome>, ApplyError> {
        self.refuse_while_finishing();
        let entries = entries.into_iter();
        let mut outcomes = Vec::with_capacity(entries.size_hint().0);
        let mut store = self.shared.write();
        for entry in entries {
            assert!(self.applied < entry.index, "machine invariant 1");
            let outcome = store.apply(&entry);
            outcomes.push(outcome.map_err(|error| ApplyError { index: entry.index, error })?);
            self.applied = entry.index;
        }
        self.shared.gauge_auth(&store);
        Ok(outcomes)
    }

    /// Applies one command; for a run of them [`Machine::apply`] takes the lock once.
    ///
    /// # Errors
    /// As [`Machine::apply`].
    pub fn apply_one(&mut self, entry: Entry<'_>) -> Result<Outcome, ApplyError> {
        let mut outcomes = self.apply([entry])?;
        Ok(outcomes.pop().expect("machine: one entry has one outcome"))
    }

    /// Ends a batch: `applied` is the last index it covers, `record` the node's notes as of then.
    /// A machine with an engine stores both in one transaction with the batch's effects, once
    /// [`Machine::log_durable`] has reached `applied`.
    pub fn end_batch(&mut self, applied: u64, record: Bytes) {
        assert!(self.applied <= applied, "machine invariant 1");
        self.refuse_while_finishing();
        self.applied = applied;
        let mut store = self.shared.write();
        match &mut self.keeping {
            Keeping::Memory { forgetting, record: last, ended } => {
                (*last, *ended) = (record, applied);
                forgetting.advance(&mut store);
                let sealed = store.sealed();
                drop(store);
                self.shared.watching().moved(&self.shared, sealed);
            }
            Keeping::Engine => {
                let added = store.seal(applied, record);
                let sealed = store.sealed();
                drop(store);
                self.shared.watching().moved(&self.shared, sealed);
                self.shared.gauges().lag_bytes.fetch_add(added, Ordering::Relaxed);
                self.signal.wake();
            }
        }
    }

    /// This member's own log is durable up to `index`.
    pub fn log_durable(&mut self, index: u64) {
        let before = self.shared.gauges().log_durable.fetch_max(index, Ordering::AcqRel);
        if before < index {
            self.signal.wake();
        }
    }

    /// The last index whose batch the engine holds durably; 0 without an engine. The log is cut
    /// only behind it.
    #[must_use]
    pub fn durable_index(&self) -> u64 {
        self.shared.durable_index()
    }

    /// Does one slice of the engine's work: for a caller that steps the engine itself and has not
    /// taken the [writer](Machine::take_writer). Without an engine there is nothing to do.
    ///
    /// # Errors
    /// As [`EngineWriter::turn`].
    pub fn engine_turn(&mut self, now_ms: u64) -> Result<Turn, EngineError> {
        self.writer.as_mut().map_or(Ok(Turn::Idle), |writer| writer.turn(now_ms))
    }

    /// A walk over the engine's rows that looks for damage, to be run beside the machine.
    #[must_use]
    pub fn scrub(&self) -> Scrub {
        Scrub::new(self.shared())
    }

    /// Hands out the engine's writer, to be run elsewhere, as by
    /// [`EngineThread`](crate::EngineThread). `None` without an engine, or the second time.
    pub fn take_writer(&mut self) -> Option<EngineWriter> {
        self.writer.take()
    }

    /// What a thread that runs the writer waits on.
    pub(crate) fn signal(&self) -> Arc<Signal> {
        Arc::clone(&self.signal)
    }

    fn refuse_while_finishing(&self) {
        assert!(!self.shared.staging().is_finishing(), "machine invariant 3");
    }
}

impl Forgetting {
    /// What is to be forgotten of a state that comes from elsewhere.
    pub(crate) fn due(meta: &Meta) -> Forgetting {
        match meta.compact_scheduled {
            Some(revision) if meta.compact_finished != Some(revision) => {
                Forgetting::From(revision, None)
            }
            _ => Forgetting::Nothing,
        }
    }

    /// Forgets a little of what the last compaction does not keep.
    fn advance(&mut self, store: &mut Store) {
        if let Some(revision) = store.open().compacted() {
            *self = Forgetting::From(revision, None);
        }
        store.close();
        if let Forgetting::From(revision, start) = self {
            let next = store.forget(*revision, start.as_ref(), FORGET_KEYS, &mut Vec::new());
            *self = match next {
                Some(key) => Forgetting::From(*revision, Some(key)),
                None => Forgetting::Nothing,
            };
        }
    }
}

/// Rebuilds the store from the engine: one walk over the rows, each of them checked. Answers the
/// store, what the engine has noted, and the same with what is counted before anything is noted.
fn restart(
    history: History,
    engine: &dyn Engine,
) -> Result<(Store, Option<Meta>, Meta), EngineError> {
    let snapshot = engine.snapshot()?;
    let meta = snapshot.meta()?;
    let mut rebuild = Rebuild::new(history);
    snapshot.rows_after(Table::Rows, None, &mut |row_key, sealed| {
        rebuild.row(row_key, sealed)?;
        Ok(Next::Go)
    })?;
    let Some(meta) = meta else {
        let durable = Meta { commits: snapshot.commits()?, ..Meta::default() };
        return Ok((rebuild.finish_empty()?, None, durable));
    };
    rebuild.check_tally(meta.tally)?;
    let store = rebuild.finish(&meta)?;
    let durable = Meta { leases: Vec::new(), auth: Auth::default(), ..meta };
    Ok((store, Some(durable.clone()), durable))
}
