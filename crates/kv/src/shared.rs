//! The readers' side of the state machine.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;

use crate::apply::Check;
use crate::auth::{Access, Auth, Caller};
use crate::command::{Alarm, AlarmKind, Member};
use crate::effects::Batch;
use crate::engine::EngineError;
use crate::history::History;
use crate::interval::Interval;
use crate::lease::Lease;
use crate::range::{Plan, ReadError, Slice};
use crate::staging::Staging;
use crate::store::Store;
use crate::watch::{EventLog, Watching};
use crate::{
    KeyValue, KvError, RangeRequest, RangeResponse, RequestOp, ResponseOp, TxnRequest, TxnResponse,
    is_read_only,
};

/// The state, as readers on any thread see it. Cloning shares it.
///
/// Readers never wait for the disk while they hold the lock if they use the methods here; those of
/// [`View`] keep the lock until their answer is complete, which is as good for reads at the newest
/// revision.
#[derive(Clone)]
pub struct Shared {
    inner: Arc<Inner>,
}

struct Inner {
    store: RwLock<Store>,
    gauges: Gauges,
    fault: Mutex<Option<EngineError>>,
    staging: Staging,
    watching: Watching,
    events: EventLog,
}

/// Figures that change with every batch and are read without the lock.
#[derive(Default)]
pub(crate) struct Gauges {
    /// The log's durable index.
    pub(crate) log_durable: AtomicU64,
    /// The engine's durable index.
    pub(crate) durable: AtomicU64,
    /// Bytes of batches that the engine does not hold durably.
    pub(crate) lag_bytes: AtomicU64,
    /// Whether users are in use.
    auth_enabled: AtomicBool,
    /// The index up to which somebody wants the engine to hold everything soon.
    pub(crate) wanted: AtomicU64,
}

/// A consistent look at the state; commands wait while it is held, so hold it briefly.
pub struct View<'a> {
    store: RwLockReadGuard<'a, Store>,
    shared: &'a Shared,
}

impl Shared {
    pub(crate) fn new(store: Store) -> Shared {
        let gauges = Gauges::default();
        gauges.auth_enabled.store(store.auth().is_enabled(), Ordering::Release);
        let inner = Inner {
            watching: Watching::new(store.sealed()),
            events: EventLog::default(),
            store: RwLock::new(store),
            gauges,
            fault: Mutex::new(None),
            staging: Staging::default(),
        };
        Shared { inner: Arc::new(inner) }
    }

    /// Looks at the state.
    #[must_use]
    pub fn read(&self) -> View<'_> {
        // A writer that panicked was applying a command: a broken invariant, which stops the
        // process. Nobody reads a state half changed.
        let store = self.inner.store.read().expect("the state machine stopped while applying");
        View { store, shared: self }
    }

    /// Reads keys and answers the newest revision for the header beside them. The lock is released
    /// before rows are read from the engine.
    ///
    /// # Errors
    /// [`KvError::FutureRevision`], [`KvError::Compacted`], [`KvError::Corrupt`].
    pub fn range(&self, range: &RangeRequest) -> (i64, Result<RangeResponse, KvError>) {
        let (revision, plan) = {
            let view = self.read();
            (view.revision(), view.plan(range))
        };
        (revision, plan.and_then(|plan| self.answer(plan, range)))
    }

    /// Runs a read-only transaction, otherwise like [`Shared::range`].
    ///
    /// # Errors
    /// As [`Shared::range`].
    ///
    /// # Panics
    /// If the transaction is not [read-only](crate::is_read_only).
    pub fn txn_read(&self, txn: &TxnRequest) -> (i64, Result<TxnResponse, KvError>) {
        let (revision, plan) = {
            let view = self.read();
            (view.revision(), view.plan_txn(txn))
        };
        (revision, plan.and_then(|plan| self.finish_txn(plan)))
    }

    /// The index up to which the engine holds everything durably.
    #[must_use]
    pub fn durable_index(&self) -> u64 {
        self.inner.gauges.durable.load(Ordering::Acquire)
    }

    /// Asks the engine's writer to commit everything up to `index` without waiting for more; it does
    /// once the log holds that durably. Whoever wants to know when looks at
    /// [`Shared::durable_index`].
    pub fn commit_soon(&self, index: u64) {
        self.inner.gauges.wanted.fetch_max(index, Ordering::AcqRel);
    }

    /// The bytes of effects that wait for the engine. Above
    /// [`Options::engine_lag_bytes_max`](crate::Options) proposals should be answered *busy*.
    #[must_use]
    pub fn engine_lag_bytes(&self) -> u64 {
        self.inner.gauges.lag_bytes.load(Ordering::Relaxed)
    }

    /// Whether users are in use, told without waiting for a command that is being applied.
    #[must_use]
    pub fn is_auth_enabled(&self) -> bool {
        self.inner.gauges.auth_enabled.load(Ordering::Acquire)
    }

    /// How watching stands.
    #[must_use]
    pub fn watch_figures(&self) -> crate::WatchFigures {
        self.inner.watching.figures()
    }

    /// Why the engine could not be read, once that has happened. The member must stop.
    #[must_use]
    pub fn fault(&self) -> Option<EngineError> {
        self.inner.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Store> {
        self.inner.store.write().expect("the state machine stopped while applying")
    }

    /// Takes over whether users are in use; the caller holds the lock for writing.
    pub(crate) fn gauge_auth(&self, store: &Store) {
        self.inner.gauges.auth_enabled.store(store.auth().is_enabled(), Ordering::Release);
    }

    pub(crate) fn gauges(&self) -> &Gauges {
        &self.inner.gauges
    }

    pub(crate) fn staging(&self) -> &Staging {
        &self.inner.staging
    }

    /// Who watches.
    pub(crate) fn watching(&self) -> &Watching {
        &self.inner.watching
    }

    /// What has happened, for those who watch.
    pub(crate) fn event_log(&self) -> &EventLog {
        &self.inner.events
    }

    /// Puts another state in the place of the present one, and hands that out. Whoever watches is to
    /// be woken once the lock is released.
    pub(crate) fn replace(&self, present: &mut Store, mut store: Store) -> Store {
        store.set_interest(self.watching().interest());
        self.watching().replaced(store.sealed());
        std::mem::replace(present, store)
    }

    /// A read that fails for the engine's sake is answered as corruption, and the fault kept. While
    /// the engine waits for space, only versions that it alone holds are out of reach.
    pub(crate) fn fail(&self, error: EngineError) -> KvError {
        if matches!(error, EngineError::NoSpace(_) | EngineError::Unavailable) {
            return KvError::NoSpace;
        }
        let mut fault = self.inner.fault.lock().unwrap_or_else(PoisonError::into_inner);
        fault.get_or_insert(error);
        KvError::Corrupt
    }

    /// The keys of a slice of a read.
    pub(crate) fn finish(
        &self,
        plan: Plan,
        range: &RangeRequest,
    ) -> Result<Vec<KeyValue>, KvError> {
        Ok(self.answer(plan, range)?.kvs)
    }

    fn answer(&self, plan: Plan, range: &RangeRequest) -> Result<RangeResponse, KvError> {
        plan.finish(range).map_err(|error| self.fail(error))
    }

    fn finish_txn(&self, plan: TxnPlan<'_>) -> Result<TxnResponse, KvError> {
        let mut responses = Vec::with_capacity(plan.ranges.len());
        for (range, plan) in plan.ranges {
            responses.push(ResponseOp::Range(self.answer(plan, range)?));
        }
        Ok(TxnResponse { succeeded: plan.succeeded, responses })
    }
}

/// A read-only transaction whose keys are found.
struct TxnPlan<'r> {
    succeeded: bool,
    ranges: Vec<(&'r RangeRequest, Plan)>,
}

impl View<'_> {
    /// Reads keys.
    ///
    /// # Errors
    /// [`KvError::FutureRevision`], [`KvError::Compacted`], [`KvError::Corrupt`].
    pub fn range(&self, range: &RangeRequest) -> Result<RangeResponse, KvError> {
        self.plan(range).and_then(|plan| self.shared.answer(plan, range))
    }

    /// Runs a read-only transaction.
    ///
    /// # Errors
    /// As [`View::range`].
    ///
    /// # Panics
    /// If the transaction is not [read-only](crate::is_read_only).
    pub fn txn_read(&self, txn: &TxnRequest) -> Result<TxnResponse, KvError> {
        self.plan_txn(txn).and_then(|plan| self.shared.finish_txn(plan))
    }

    /// The newest revision.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.store.revision()
    }

    /// The oldest revision that can be read; -1 before any compaction, as in etcd.
    #[must_use]
    pub fn compact_revision(&self) -> i64 {
        self.store.compact_revision()
    }

    /// The alarms that are raised, by kind and member.
    #[must_use]
    pub fn alarms(&self) -> Vec<Alarm> {
        self.store.alarms().iter().copied().collect()
    }

    /// Whether an alarm of this kind is raised, about whatever member.
    #[must_use]
    pub fn is_raised(&self, kind: AlarmKind) -> bool {
        self.store.is_raised(kind)
    }

    /// What the members have published, by id.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        self.store.members().values().cloned().collect()
    }

    /// The lease of this id.
    #[must_use]
    pub fn lease(&self, id: i64) -> Option<Lease> {
        self.store.leases().get(id)
    }

    /// All leases, in the order of their ids.
    #[must_use]
    pub fn leases(&self) -> Vec<Lease> {
        self.store.leases().iter().collect()
    }

    /// How many leases there are.
    #[must_use]
    pub fn lease_count(&self) -> usize {
        self.store.leases().len()
    }

    /// The keys that hold a lease, in order; `None` if there is no such lease.
    #[must_use]
    pub fn lease_keys(&self, id: i64) -> Option<impl ExactSizeIterator<Item = &Bytes>> {
        self.store.leases().keys(id).map(|keys| keys.iter())
    }

    /// Users and roles.
    #[must_use]
    pub fn auth(&self) -> &Auth {
        self.store.auth()
    }

    /// Judges what somebody is about to read or to do with the cluster. What changes the store is
    /// judged where it is applied.
    ///
    /// # Errors
    /// [`KvError::UserEmpty`], [`KvError::AuthOldRevision`], [`KvError::UserNotFound`],
    /// [`KvError::PermissionDenied`]; none while users are not in use.
    pub fn permit(&self, caller: &Caller, access: Access<'_>) -> Result<(), KvError> {
        self.store.permit(caller, access)
    }

    /// The bytes of all rows that are not removed, and of the leases: what the quota is held against.
    /// Logical, so the same on every member once compactions are done.
    #[must_use]
    pub fn size_in_use(&self) -> u64 {
        self.store.bytes() + self.store.leases().bytes()
    }

    /// The bytes that the store occupies: the engine's file, or without an engine the rows.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self.store.history() {
            History::Memory(_) => self.store.bytes(),
            History::Engine { engine, .. } => engine.size(),
        }
    }

    /// The number of keys that exist at the newest revision.
    #[must_use]
    pub fn keys(&self) -> u64 {
        self.store.live()
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// The batches that the engine does not hold durably, from the oldest on.
    pub(crate) fn waiting_batches(&self) -> impl Iterator<Item = &Arc<Batch>> {
        let queue = match self.store.history() {
            History::Memory(_) => None,
            History::Engine { queue, .. } => Some(queue),
        };
        queue.into_iter().flatten()
    }

    fn refuse_while_corrupt(&self) -> Result<(), KvError> {
        if self.store.is_raised(AlarmKind::Corrupt) { Err(KvError::Corrupt) } else { Ok(()) }
    }

    fn plan(&self, range: &RangeRequest) -> Result<Plan, KvError> {
        self.refuse_while_corrupt()?;
        self.store.plan(range, self.store.revision()).map_err(|error| self.refusal(error))
    }

    pub(crate) fn plan_slice(&self, range: &RangeRequest) -> Result<Slice, KvError> {
        self.refuse_while_corrupt()?;
        let slice = self.store.plan_slice(range, self.store.revision());
        slice.map_err(|error| self.refusal(error))
    }

    /// How many keys of a range exist at its revision, whatever else it asks for.
    pub(crate) fn count(&self, range: &RangeRequest) -> i64 {
        let bounds = Interval::new(&range.key, &range.range_end).bounds();
        bounds.map_or(0, |bounds| self.store.keys().count(bounds, range.revision) as i64)
    }

    fn plan_txn<'r>(&self, txn: &'r TxnRequest) -> Result<TxnPlan<'r>, KvError> {
        assert!(is_read_only(txn), "a transaction that writes goes through the log");
        self.refuse_while_corrupt()?;
        let mut path = Vec::new();
        self.store.choose(txn, &mut path);
        self.store.check_branch(txn, &mut path.iter(), Check::Ranges)?;
        let mut ranges = Vec::new();
        for op in path[0].of(txn) {
            if let RequestOp::Range(range) = op {
                let plan = self.store.plan(range, self.store.revision());
                ranges.push((range, plan.map_err(|error| self.refusal(error))?));
            }
        }
        Ok(TxnPlan { succeeded: path[0] == crate::apply::Branch::Success, ranges })
    }

    fn refusal(&self, error: ReadError) -> KvError {
        match error {
            ReadError::Kv(error) => error,
            ReadError::Engine(error) => self.shared.fail(error),
        }
    }
}
