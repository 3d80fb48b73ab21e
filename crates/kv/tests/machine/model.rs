//! The store as one would write it without a thought for speed: a copy of all keys for every
//! revision, and the list of all rows ever written.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use jangada_kv::{
    Answer, Command, Compare, CompareResult, CompareTarget, DeleteRangeRequest,
    DeleteRangeResponse, KeyValue, KvError, Lease, LeaseAnswer, LeaseCommand, LeaseName,
    PutRequest, PutResponse, RangeRequest, RangeResponse, RequestOp, ResponseOp, SortOrder,
    SortTarget, TxnRequest, TxnResponse,
};

type Keys = BTreeMap<Vec<u8>, KeyValue>;

/// One row: what etcd would have in its key bucket.
#[derive(Clone)]
pub(crate) struct Row {
    main: i64,
    sub: i64,
    key: Vec<u8>,
    /// `None` for a deletion.
    kv: Option<KeyValue>,
}

#[derive(Clone)]
pub(crate) struct Model {
    /// The keys at each revision; the last is the newest.
    states: BTreeMap<i64, Keys>,
    /// The rows that compactions have left.
    rows: Vec<Row>,
    compacted: i64,
    pub(crate) leases: BTreeMap<i64, Lease>,
    /// The index of the last command.
    index: u64,
}

/// The term of every entry.
pub(crate) const TERM: u64 = 1;

/// A command under way.
struct Work {
    main: i64,
    sub: i64,
    keys: Keys,
    rows: Vec<Row>,
}

impl Model {
    pub(crate) fn new() -> Model {
        Model {
            states: BTreeMap::from([(1, Keys::new())]),
            rows: Vec::new(),
            compacted: -1,
            leases: BTreeMap::new(),
            index: 0,
        }
    }

    pub(crate) fn revision(&self) -> i64 {
        *self.states.keys().next_back().expect("there is always a state")
    }

    pub(crate) fn compact_revision(&self) -> i64 {
        self.compacted
    }

    pub(crate) fn live(&self) -> u64 {
        self.newest().len() as u64
    }

    fn newest(&self) -> &Keys {
        &self.states[&self.revision()]
    }

    /// The revision for the header, and the answer.
    pub(crate) fn apply(&mut self, command: &Command) -> (i64, Result<Answer, KvError>) {
        self.index += 1;
        let mut work = Work {
            main: self.revision() + 1,
            sub: 0,
            keys: self.newest().clone(),
            rows: Vec::new(),
        };
        let result = match command {
            Command::Put(put) => self.check_put(put).map(|()| Answer::Put(work.put(put))),
            Command::DeleteRange(delete) => Ok(Answer::DeleteRange(work.delete(delete))),
            Command::Txn(txn) => {
                let mut chosen = self.choose(txn);
                let checked = self.check(txn, &mut chosen.clone());
                checked.map(|()| Answer::Txn(self.run(&mut work, txn, &mut chosen)))
            }
            Command::Compact { revision, .. } => self.compact(*revision),
            Command::Lease(command) => self.apply_lease(command).map(Answer::Lease),
            other => panic!("the model does not know {other:?}"),
        };
        if result.is_ok() && work.sub > 0 {
            self.states.insert(work.main, work.keys);
            self.rows.extend(work.rows);
        }
        (self.revision(), result)
    }

    pub(crate) fn range(&self, range: &RangeRequest) -> Result<RangeResponse, KvError> {
        let revision = if range.revision <= 0 { self.revision() } else { range.revision };
        if revision > self.revision() {
            return Err(KvError::FutureRevision);
        }
        if revision < self.compacted {
            return Err(KvError::Compacted);
        }
        Ok(select(self.at(revision), range))
    }

    fn at(&self, revision: i64) -> &Keys {
        self.states.range(..=revision).next_back().expect("the first state is at 1").1
    }

    fn compact(&mut self, revision: i64) -> Result<Answer, KvError> {
        if revision <= self.compacted {
            return Err(KvError::Compacted);
        }
        if revision > self.revision() {
            return Err(KvError::FutureRevision);
        }
        self.compacted = revision;
        let rows = std::mem::take(&mut self.rows);
        let last = last_at(&rows, revision);
        self.rows = rows
            .into_iter()
            .enumerate()
            .filter(|(at, row)| {
                let newest = last.get(&row.key) == Some(at);
                row.main > revision || newest && (row.kv.is_some() || row.main == revision)
            })
            .map(|(_, row)| row)
            .collect();
        Ok(Answer::Compact)
    }

    /// etcd's formula over the rows that compactions have left.
    pub(crate) fn hash(&self, revision: i64) -> Result<u32, KvError> {
        if 0 < revision && revision < self.compacted {
            return Err(KvError::Compacted);
        }
        if revision > self.revision() {
            return Err(KvError::FutureRevision);
        }
        let revision = if revision == 0 { self.revision() } else { revision };
        let last = last_at(&self.rows, revision);
        let keep: Vec<usize> =
            last.values().copied().filter(|at| self.rows[*at].kv.is_some()).collect();
        let mut bytes = b"key".to_vec();
        for (at, row) in self.rows.iter().enumerate() {
            if row.main > revision
                || row.main <= self.compacted && !keep.is_empty() && !keep.contains(&at)
                || row.main == self.compacted && row.kv.is_none()
            {
                continue;
            }
            bytes.extend(row.main.to_be_bytes());
            bytes.push(b'_');
            bytes.extend(row.sub.to_be_bytes());
            if row.kv.is_none() {
                bytes.push(b't');
            }
            bytes.extend(message(row));
        }
        Ok(crc32c::crc32c(&bytes))
    }

    fn check_put(&self, put: &PutRequest) -> Result<(), KvError> {
        self.check_lease(put)?;
        check_kept(self.newest(), put)
    }

    /// Inside a transaction the order is the other one.
    fn check_put_within(&self, put: &PutRequest) -> Result<(), KvError> {
        check_kept(self.newest(), put)?;
        self.check_lease(put)
    }

    fn check_lease(&self, put: &PutRequest) -> Result<(), KvError> {
        let known = put.lease == 0 || self.leases.contains_key(&put.lease);
        if known { Ok(()) } else { Err(KvError::LeaseNotFound) }
    }

    /// The keys that hold a lease.
    pub(crate) fn keys_of(&self, id: i64) -> Vec<Vec<u8>> {
        let held = self.newest().iter().filter(|(_, kv)| kv.lease == id);
        held.map(|(key, _)| key.clone()).collect()
    }

    fn apply_lease(&mut self, command: &LeaseCommand) -> Result<LeaseAnswer, KvError> {
        match command {
            LeaseCommand::Grant { id, ttl } => {
                if self.leases.contains_key(id) {
                    return Err(KvError::LeaseExists);
                }
                let name = LeaseName { id: *id, granted: self.index };
                let lease = Lease { name, ttl: *ttl, remaining: *ttl };
                self.leases.insert(*id, lease);
                Ok(LeaseAnswer::Granted(lease))
            }
            LeaseCommand::Revoke { id } => {
                let lease = self.leases.get(id).copied().ok_or(KvError::LeaseNotFound)?;
                self.end_lease(lease.name);
                Ok(LeaseAnswer::Revoked)
            }
            LeaseCommand::Expire { term, leases } => {
                let due = if *term == TERM { &leases[..] } else { &[] };
                let ended = due.iter().filter(|name| self.end_lease(**name)).count();
                Ok(LeaseAnswer::Counted(ended as u64))
            }
            LeaseCommand::Checkpoint { term, leases } => {
                let mut counted = 0;
                for (name, remaining) in leases {
                    let lease = self.leases.get_mut(&name.id);
                    if let Some(lease) = lease
                        && lease.name == *name
                        && *term == TERM
                        && lease.remaining != *remaining
                    {
                        lease.remaining = *remaining;
                        counted += 1;
                    }
                }
                Ok(LeaseAnswer::Counted(counted))
            }
        }
    }

    /// Each lease that ends with keys is a revision by itself.
    fn end_lease(&mut self, name: LeaseName) -> bool {
        if self.leases.get(&name.id).is_none_or(|lease| lease.name != name) {
            return false;
        }
        let (main, keys) = (self.revision() + 1, self.newest().clone());
        let mut work = Work { main, sub: 0, keys, rows: Vec::new() };
        for key in self.keys_of(name.id) {
            work.delete(&DeleteRangeRequest { key: key.into(), ..Default::default() });
        }
        self.leases.remove(&name.id);
        if work.sub > 0 {
            self.states.insert(work.main, work.keys);
            self.rows.extend(work.rows);
        }
        true
    }

    /// The branches taken, in the order in which they are met.
    fn choose(&self, txn: &TxnRequest) -> Vec<bool> {
        let taken = txn.compare.iter().all(|compare| holds(self.newest(), compare));
        let mut chosen = vec![taken];
        for op in if taken { &txn.success } else { &txn.failure } {
            if let RequestOp::Txn(txn) = op {
                chosen.extend(self.choose(txn));
            }
        }
        chosen
    }

    fn check(&self, txn: &TxnRequest, chosen: &mut Vec<bool>) -> Result<(), KvError> {
        let mut ops = Vec::new();
        flatten(txn, chosen, &mut ops);
        for op in &ops {
            if let RequestOp::Put(put) = op {
                self.check_put_within(put)?;
            }
        }
        for op in &ops {
            if let RequestOp::Range(range) = op {
                if range.revision > self.revision() {
                    return Err(KvError::FutureRevision);
                }
                if range.revision != 0 && range.revision < self.compacted {
                    return Err(KvError::Compacted);
                }
            }
        }
        Ok(())
    }

    fn run(&self, work: &mut Work, txn: &TxnRequest, chosen: &mut Vec<bool>) -> TxnResponse {
        let succeeded = chosen.remove(0);
        let mut responses = Vec::new();
        for op in if succeeded { &txn.success } else { &txn.failure } {
            responses.push(match op {
                RequestOp::Range(range) if range.revision > 0 => {
                    ResponseOp::Range(select(self.at(range.revision), range))
                }
                RequestOp::Range(range) => ResponseOp::Range(select(&work.keys, range)),
                RequestOp::Put(put) => ResponseOp::Put(work.put(put)),
                RequestOp::DeleteRange(delete) => ResponseOp::DeleteRange(work.delete(delete)),
                RequestOp::Txn(txn) => ResponseOp::Txn(self.run(work, txn, chosen)),
            });
        }
        TxnResponse { succeeded, responses }
    }
}

impl Work {
    fn put(&mut self, put: &PutRequest) -> PutResponse {
        let before = self.keys.get(&put.key[..]).cloned();
        let mut kv = before.clone().unwrap_or_default();
        kv.key = put.key.clone();
        if before.is_none() {
            kv.create_revision = self.main;
        }
        kv.mod_revision = self.main;
        kv.version += 1;
        if !put.ignore_value {
            kv.value = put.value.clone();
        }
        if !put.ignore_lease {
            kv.lease = put.lease;
        }
        self.row(&put.key, Some(kv.clone()));
        self.keys.insert(put.key.to_vec(), kv);
        PutResponse { prev_kv: before.filter(|_| put.prev_kv) }
    }

    fn delete(&mut self, delete: &DeleteRangeRequest) -> DeleteRangeResponse {
        let mut response = DeleteRangeResponse::default();
        let inside: Vec<Vec<u8>> = self
            .keys
            .keys()
            .filter(|key| contains(&delete.key, &delete.range_end, key))
            .cloned()
            .collect();
        for key in inside {
            let kv = self.keys.remove(&key).expect("the key was just seen");
            self.row(&key, None);
            response.deleted += 1;
            if delete.prev_kv {
                response.prev_kvs.push(kv);
            }
        }
        response
    }

    fn row(&mut self, key: &[u8], kv: Option<KeyValue>) {
        self.rows.push(Row { main: self.main, sub: self.sub, key: key.to_vec(), kv });
        self.sub += 1;
    }
}

/// For each key, the last of its rows at or before a revision.
fn last_at(rows: &[Row], revision: i64) -> BTreeMap<Vec<u8>, usize> {
    let mut last = BTreeMap::new();
    for (at, row) in rows.iter().enumerate().filter(|(_, row)| row.main <= revision) {
        last.insert(row.key.clone(), at);
    }
    last
}

fn flatten<'a>(txn: &'a TxnRequest, chosen: &mut Vec<bool>, ops: &mut Vec<&'a RequestOp>) {
    for op in if chosen.remove(0) { &txn.success } else { &txn.failure } {
        match op {
            RequestOp::Txn(txn) => flatten(txn, chosen, ops),
            op => ops.push(op),
        }
    }
}

fn check_kept(keys: &Keys, put: &PutRequest) -> Result<(), KvError> {
    let keeps = put.ignore_value || put.ignore_lease;
    if keeps && !keys.contains_key(&put.key[..]) { Err(KvError::KeyNotFound) } else { Ok(()) }
}

fn contains(start: &[u8], end: &[u8], key: &[u8]) -> bool {
    match end {
        [] => key == start,
        [0] => key >= start,
        end => key >= start && key < end,
    }
}

fn holds(keys: &Keys, compare: &Compare) -> bool {
    let inside: Vec<&KeyValue> = keys
        .iter()
        .filter(|(key, _)| contains(&compare.key, &compare.range_end, key))
        .map(|(_, kv)| kv)
        .collect();
    if inside.is_empty() {
        return match compare.target {
            CompareTarget::Value(_) => false,
            _ => holds_one(compare, &KeyValue::default()),
        };
    }
    inside.into_iter().all(|kv| holds_one(compare, kv))
}

fn holds_one(compare: &Compare, kv: &KeyValue) -> bool {
    let ordering = match &compare.target {
        CompareTarget::Version(number) => kv.version.cmp(number),
        CompareTarget::Create(number) => kv.create_revision.cmp(number),
        CompareTarget::Mod(number) => kv.mod_revision.cmp(number),
        CompareTarget::Lease(number) => kv.lease.cmp(number),
        CompareTarget::Value(value) => kv.value.cmp(value),
    };
    match compare.result {
        CompareResult::Equal => ordering == Ordering::Equal,
        CompareResult::NotEqual => ordering != Ordering::Equal,
        CompareResult::Greater => ordering == Ordering::Greater,
        CompareResult::Less => ordering == Ordering::Less,
    }
}

fn select(keys: &Keys, range: &RangeRequest) -> RangeResponse {
    let mut kvs: Vec<KeyValue> = keys
        .iter()
        .filter(|(key, _)| contains(&range.key, &range.range_end, key))
        .map(|(_, kv)| kv.clone())
        .collect();
    let count = kvs.len() as i64;
    if range.count_only {
        return RangeResponse { kvs: Vec::new(), more: false, count };
    }
    kvs.retain(|kv| range.min_mod_revision == 0 || kv.mod_revision >= range.min_mod_revision);
    kvs.retain(|kv| range.max_mod_revision == 0 || kv.mod_revision <= range.max_mod_revision);
    kvs.retain(|kv| {
        range.min_create_revision == 0 || kv.create_revision >= range.min_create_revision
    });
    kvs.retain(|kv| {
        range.max_create_revision == 0 || kv.create_revision <= range.max_create_revision
    });
    let filters = [
        range.min_mod_revision,
        range.max_mod_revision,
        range.min_create_revision,
        range.max_create_revision,
    ];
    // As in etcd: without an order and without filters, only one key more than the limit is looked
    // at, so that a target without an order sorts those alone.
    if range.sort_order == SortOrder::None && filters == [0; 4] && range.limit > 0 {
        kvs.truncate((range.limit as usize).saturating_add(1));
    }
    let descend = range.sort_order == SortOrder::Descend;
    match range.sort_target {
        SortTarget::Key if descend => kvs.reverse(),
        SortTarget::Key => {}
        target => kvs.sort_by(|a, b| {
            let ordering = match target {
                SortTarget::Version => a.version.cmp(&b.version),
                SortTarget::Create => a.create_revision.cmp(&b.create_revision),
                SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
                SortTarget::Value | SortTarget::Key => a.value.cmp(&b.value),
            };
            if descend { ordering.reverse() } else { ordering }
        }),
    }
    let mut more = false;
    if range.limit > 0 && kvs.len() as i64 > range.limit {
        kvs.truncate(range.limit as usize);
        more = true;
    }
    if range.keys_only {
        kvs.iter_mut().for_each(|kv| kv.value.clear());
    }
    RangeResponse { kvs, more, count }
}

/// The row's protobuf message.
fn message(row: &Row) -> Vec<u8> {
    let mut bytes = Vec::new();
    let number = |bytes: &mut Vec<u8>, mut number: u64| {
        loop {
            let low = (number & 0x7f) as u8;
            number >>= 7;
            if number == 0 {
                bytes.push(low);
                return;
            }
            bytes.push(low | 0x80);
        }
    };
    let field = |bytes: &mut Vec<u8>, tag: u8, content: &[u8]| {
        bytes.push(tag);
        number(bytes, content.len() as u64);
        bytes.extend_from_slice(content);
    };
    field(&mut bytes, 0x0a, &row.key);
    let Some(kv) = &row.kv else {
        return bytes;
    };
    for (tag, value) in [(0x10, kv.create_revision), (0x18, kv.mod_revision), (0x20, kv.version)] {
        bytes.push(tag);
        number(&mut bytes, value as u64);
    }
    if !kv.value.is_empty() {
        bytes.push(0x2a);
        number(&mut bytes, kv.value.len() as u64);
        bytes.extend_from_slice(&kv.value);
    }
    if kv.lease != 0 {
        bytes.push(0x30);
        number(&mut bytes, kv.lease as u64);
    }
    bytes
}
