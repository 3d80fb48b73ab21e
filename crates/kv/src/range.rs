//! Reads: `Range` with every option, at any revision that is not compacted.
//!
//! A read has two steps. The first walks the keys under the store's lock and copies nothing: values
//! are shared by reference count. The second, without the lock, reads from the engine what memory
//! has let go, then filters and sorts.

use std::cmp::Ordering;

use bytes::Bytes;

use crate::engine::{EngineError, Snapshot};
use crate::history::Lookup;
use crate::interval::Interval;
use crate::record::{Content, Found, Record};
use crate::row::{Revision, RowKey, decode_message, unseal};
use crate::store::Store;
use crate::{KeyValue, KvError, RangeRequest, RangeResponse, SortOrder, SortTarget};

/// A read whose keys are found; what is left is to be done without the store's lock.
pub(crate) struct Plan {
    kvs: Vec<KeyValue>,
    count: i64,
    /// What to fetch from the engine: the place in `kvs` and the version.
    pending: Vec<(usize, Revision)>,
    snapshot: Option<Box<dyn Snapshot>>,
}

/// The most keys to a slice: little enough that a heartbeat is not held up, encoding included, even
/// where older versions must be fetched from the engine, which takes far longer.
const SLICE_KEYS: usize = 512;

/// The most records that are looked at for a slice, whether they exist at its revision or not.
const SLICE_RECORDS: usize = 4 * SLICE_KEYS;

/// A slice ends once it has gathered this many bytes: copying them takes as long as gathering keys.
const SLICE_BYTES: usize = 512 << 10;

/// A part of a read.
pub(crate) struct Slice {
    pub(crate) plan: Plan,
    /// The key that the next slice begins with.
    pub(crate) next: Option<Bytes>,
}

/// When the walk may stop to collect.
#[derive(Clone, Copy)]
pub(crate) enum Direction {
    Forward,
    Backward,
}

impl Store {
    /// The first step of a read. `current` is the revision that the reader sees as the newest.
    pub(crate) fn plan(&self, range: &RangeRequest, current: i64) -> Result<Plan, ReadError> {
        let mut walk = self.walk(range, current, collect_max(range))?;
        let interval = Interval::new(&range.key, &range.range_end);
        if let Interval::One(key) = interval {
            if let Some((key, record)) = self.keys().get(key) {
                walk.visit(key, record);
            }
        } else if let Some(bounds) = interval.bounds() {
            let records = self.keys().range(bounds);
            let complete = match direction(range) {
                Direction::Forward => walk.over(records),
                Direction::Backward => walk.over(records.rev()),
            };
            if !complete {
                walk.plan.count = self.keys().count(bounds, walk.revision) as i64;
            }
        }
        walk.end()
    }

    /// The first step of a part of a read, from the beginning of its range on.
    pub(crate) fn plan_slice(
        &self,
        range: &RangeRequest,
        current: i64,
    ) -> Result<Slice, ReadError> {
        let mut walk = self.walk(range, current, usize::MAX)?;
        let mut next = None;
        if let Some(bounds) = Interval::new(&range.key, &range.range_end).bounds() {
            let records = self.keys().range(bounds);
            next = match direction(range) {
                Direction::Forward => walk.slice(records),
                Direction::Backward => walk.slice(records.rev()),
            };
        }
        Ok(Slice { plan: walk.end()?, next })
    }

    fn walk(
        &self,
        range: &RangeRequest,
        current: i64,
        collect_max: usize,
    ) -> Result<Walk<'_>, ReadError> {
        let revision = if range.revision <= 0 { current } else { range.revision };
        if current < revision {
            return Err(ReadError::Kv(KvError::FutureRevision));
        }
        if revision < self.compact_revision() {
            return Err(ReadError::Kv(KvError::Compacted));
        }
        let plan = Plan { kvs: Vec::new(), count: 0, pending: Vec::new(), snapshot: None };
        Ok(Walk { store: self, revision, plan, collect_max })
    }
}

/// Why a read has no answer.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// The request is refused.
    Kv(KvError),
    /// The engine is broken.
    Engine(EngineError),
}

struct Walk<'a> {
    store: &'a Store,
    revision: i64,
    plan: Plan,
    collect_max: usize,
}

impl Walk<'_> {
    /// Goes over records until enough is collected; answers whether all have been seen.
    fn over<'a>(&mut self, mut records: impl Iterator<Item = (&'a Bytes, &'a Record)>) -> bool {
        while self.plan.kvs.len() < self.collect_max {
            let Some((key, record)) = records.next() else {
                return true;
            };
            self.visit(key, record);
        }
        false
    }

    /// Goes over the records of a slice; answers the key of the first one behind it.
    fn slice<'a>(
        &mut self,
        records: impl Iterator<Item = (&'a Bytes, &'a Record)>,
    ) -> Option<Bytes> {
        let mut bytes = 0;
        for (seen, (key, record)) in records.enumerate() {
            let collected = self.plan.kvs.len();
            if seen == SLICE_RECORDS || collected == SLICE_KEYS || SLICE_BYTES <= bytes {
                return Some(Bytes::copy_from_slice(key));
            }
            self.visit(key, record);
            let added = self.plan.kvs[collected..].iter();
            bytes += added.map(|kv| kv.key.len() + kv.value.len()).sum::<usize>();
        }
        None
    }

    fn end(self) -> Result<Plan, ReadError> {
        let mut plan = self.plan;
        if !plan.pending.is_empty() {
            let snapshot = self.store.history().snapshot();
            plan.snapshot = Some(snapshot.map_err(ReadError::Engine)?);
        }
        Ok(plan)
    }

    fn visit(&mut self, key: &Bytes, record: &Record) {
        let Some(found) = record.find(self.revision) else {
            return;
        };
        self.plan.count += 1;
        if self.plan.kvs.len() >= self.collect_max {
            return;
        }
        let kv = match found {
            Found::Newest(record) => record.key_value(key),
            Found::Older(revision) => match self.store.lookup(revision) {
                Lookup::Here(content) => content.key_value(key.clone(), revision.main),
                Lookup::Engine => {
                    self.plan.pending.push((self.plan.kvs.len(), revision));
                    Content::default().key_value(key.clone(), revision.main)
                }
            },
        };
        self.plan.kvs.push(kv);
    }
}

impl Plan {
    /// How many keys of those that were walked over exist.
    pub(crate) fn count(&self) -> i64 {
        self.count
    }

    /// The second step of a read.
    pub(crate) fn finish(mut self, range: &RangeRequest) -> Result<RangeResponse, EngineError> {
        if let Some(snapshot) = self.snapshot {
            for (at, revision) in self.pending {
                let content = fetch(snapshot.as_ref(), revision)?;
                let kv = &mut self.kvs[at];
                kv.create_revision = content.create;
                kv.version = content.version;
                kv.value = content.value;
                kv.lease = content.lease;
            }
        }
        let mut kvs = self.kvs;
        if has_filter(range) {
            kvs.retain(|kv| passes(range, kv));
        }
        if needs_sort(range) {
            sort(range, &mut kvs);
        }
        let limit = limit(range);
        let more = !range.count_only && kvs.len() > limit;
        kvs.truncate(limit);
        if range.keys_only {
            for kv in &mut kvs {
                kv.value = Bytes::new();
            }
        }
        Ok(RangeResponse { kvs, more, count: self.count })
    }
}

/// Reads one version from the engine.
pub(crate) fn fetch(snapshot: &dyn Snapshot, revision: Revision) -> Result<Content, EngineError> {
    let row_key = RowKey::new(revision, false);
    let Some(sealed) = snapshot.row(&row_key)? else {
        return Err(EngineError::Missing(revision));
    };
    let row = unseal(row_key.as_bytes(), &sealed).and_then(decode_message);
    row.map(|row| Content::of(&row)).map_err(|error| EngineError::damaged(revision, error))
}

/// The most keys to answer.
fn limit(range: &RangeRequest) -> usize {
    match usize::try_from(range.limit) {
        Ok(0) | Err(_) => usize::MAX,
        Ok(limit) => limit,
    }
}

/// The most keys to collect: one more than the limit, to see whether it cuts, but all of them if
/// they must be filtered or sorted first. As in etcd, a target without an order sorts only what
/// the limit lets through.
fn collect_max(range: &RangeRequest) -> usize {
    if range.count_only {
        return 0;
    }
    let sorted_first = needs_sort(range) && range.sort_order != SortOrder::None;
    if has_filter(range) || sorted_first {
        return usize::MAX;
    }
    limit(range).saturating_add(1)
}

/// The order of the walk is the answer's order when it sorts by key.
pub(crate) fn direction(range: &RangeRequest) -> Direction {
    match (range.sort_target, range.sort_order) {
        (SortTarget::Key, SortOrder::Descend) => Direction::Backward,
        _ => Direction::Forward,
    }
}

fn needs_sort(range: &RangeRequest) -> bool {
    range.sort_target != SortTarget::Key
}

fn has_filter(range: &RangeRequest) -> bool {
    range.min_mod_revision != 0
        || range.max_mod_revision != 0
        || range.min_create_revision != 0
        || range.max_create_revision != 0
}

fn passes(range: &RangeRequest, kv: &KeyValue) -> bool {
    let within = |min: i64, number: i64, max: i64| {
        (min == 0 || min <= number) && (max == 0 || number <= max)
    };
    within(range.min_mod_revision, kv.mod_revision, range.max_mod_revision)
        && within(range.min_create_revision, kv.create_revision, range.max_create_revision)
}

/// Keys that the target does not tell apart stay in key order, in either direction.
fn sort(range: &RangeRequest, kvs: &mut [KeyValue]) {
    let compare = |a: &KeyValue, b: &KeyValue| -> Ordering {
        match range.sort_target {
            SortTarget::Key => a.key.cmp(&b.key),
            SortTarget::Version => a.version.cmp(&b.version),
            SortTarget::Create => a.create_revision.cmp(&b.create_revision),
            SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
            SortTarget::Value => a.value.cmp(&b.value),
        }
    };
    match range.sort_order {
        SortOrder::None | SortOrder::Ascend => kvs.sort_by(compare),
        SortOrder::Descend => kvs.sort_by(|a, b| compare(b, a)),
    }
}
