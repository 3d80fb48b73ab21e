//! Random KV requests from the grammar of the API, good and bad ones.
//!
//! One seed decides all, together with the revisions that the answers name: old, current and future
//! revisions are only worth asking for when one knows which is which.

use bytes::Bytes;
use fastrand::Rng;
use jangada_server::proto::etcdserverpb::compare::TargetUnion;
use jangada_server::proto::etcdserverpb::request_op;
use jangada_server::proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

/// Few keys, so that requests meet; prefixes of each other, with the bytes at both ends of the
/// alphabet, and one that is not text.
const KEYS: [&[u8]; 12] = [
    b"a",
    b"aa",
    b"ab",
    b"a\x00",
    b"b",
    b"ba",
    b"c",
    b"cc",
    b"\x00",
    b"\xff",
    b"\xff\xff",
    b"\xc3(",
];

/// One KV request.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Request {
    Range(RangeRequest),
    Put(PutRequest),
    DeleteRange(DeleteRangeRequest),
    Txn(TxnRequest),
    Compact(CompactionRequest),
}

/// How many operations a transaction may have: etcd's default of `--max-txn-ops`.
const TXN_OPS_MAX: usize = 128;

/// Makes requests.
pub(crate) struct Generator {
    rng: Rng,
    /// The store's revision, as the last answer named it.
    pub(crate) revision: i64,
    /// The last revision that was compacted.
    pub(crate) compacted: i64,
    serial: u64,
}

impl Generator {
    pub(crate) fn new(seed: u64) -> Generator {
        Generator { rng: Rng::with_seed(seed), revision: 1, compacted: 0, serial: 0 }
    }

    /// The next request.
    pub(crate) fn next(&mut self) -> Request {
        match self.rng.u32(0..1000) {
            0..330 => Request::Put(self.put()),
            330..610 => Request::Range(self.range()),
            610..620 => Request::Range(self.unknown_sort()),
            620..720 => Request::DeleteRange(self.delete_range()),
            720..985 => Request::Txn(sparing(self.txn(0))),
            985..987 => Request::Put(self.oversized_put()),
            987..989 => Request::Txn(self.crowded_txn()),
            _ => Request::Compact(self.compact()),
        }
    }

    fn one_in(&mut self, count: u32) -> bool {
        self.rng.u32(0..count) == 0
    }

    fn key(&mut self) -> Bytes {
        if self.one_in(60) {
            return Bytes::new();
        }
        Bytes::from_static(KEYS[self.rng.usize(0..KEYS.len())])
    }

    fn value(&mut self) -> Bytes {
        self.serial += 1;
        match self.rng.u32(0..10) {
            0 => Bytes::new(),
            1 => Bytes::from_static(b"same"),
            2 => Bytes::from(vec![b'v'; self.rng.usize(0..3000)]),
            _ => Bytes::from(self.serial.to_string()),
        }
    }

    /// One key, everything from the key on, a prefix, an interval, an empty interval.
    fn range_end(&mut self, key: &Bytes) -> Bytes {
        match self.rng.u32(0..10) {
            0..4 => Bytes::new(),
            4 => Bytes::from_static(b"\x00"),
            5 => {
                let mut end = key.to_vec();
                if let Some(last) = end.last_mut() {
                    *last = last.wrapping_add(1);
                }
                Bytes::from(end)
            }
            6 => key.clone(),
            _ => self.key(),
        }
    }

    /// Now, the past, the compacted past, the future, and numbers that are no revisions.
    fn revision(&mut self) -> i64 {
        match self.rng.u32(0..16) {
            0..6 => 0,
            6..10 => self.rng.i64(self.compacted.max(1)..=self.revision),
            10 => self.revision,
            11 => self.revision + self.rng.i64(1..4),
            12 => self.compacted + self.rng.i64(-1..=1),
            13 => self.rng.i64(1..=self.revision),
            14 => -self.rng.i64(1..4),
            _ => [i64::MAX, i64::MIN, 1, 2][self.rng.usize(0..4)],
        }
    }

    fn bound(&mut self) -> i64 {
        if self.one_in(6) { self.revision() } else { 0 }
    }

    /// A number of an enum with `count` members; sometimes one that it does not have.
    fn choice(&mut self, count: i32) -> i32 {
        if self.one_in(40) {
            return [count, -1, 77, i32::MAX][self.rng.usize(0..4)];
        }
        self.rng.i32(0..count)
    }

    fn lease(&mut self) -> i64 {
        if self.one_in(25) { [1, -1, 0x1234_5678][self.rng.usize(0..3)] } else { 0 }
    }

    fn range(&mut self) -> RangeRequest {
        let key = self.key();
        let sorted = self.one_in(3);
        RangeRequest {
            range_end: self.range_end(&key),
            key,
            limit: match self.rng.u32(0..12) {
                0..7 => 0,
                7 => -1,
                8 => i64::MAX,
                _ => self.rng.i64(1..5),
            },
            revision: self.revision(),
            sort_order: if sorted { self.rng.i32(0..3) } else { 0 },
            sort_target: if sorted { self.rng.i32(0..5) } else { 0 },
            serializable: self.rng.bool(),
            keys_only: self.one_in(5),
            count_only: self.one_in(8),
            min_mod_revision: self.bound(),
            max_mod_revision: self.bound(),
            min_create_revision: self.bound(),
            max_create_revision: self.bound(),
        }
    }

    /// A sort that the API does not have. In a transaction it would part the stores of etcd's
    /// versions, so it stands alone.
    fn unknown_sort(&mut self) -> RangeRequest {
        let unknown = [3, 5, -1, i32::MAX][self.rng.usize(0..4)];
        let range = self.range();
        if self.rng.bool() {
            return RangeRequest { sort_order: unknown, ..range };
        }
        RangeRequest { sort_target: unknown.max(5), ..range }
    }

    fn put(&mut self) -> PutRequest {
        let ignore_value = self.one_in(10);
        PutRequest {
            key: self.key(),
            value: if ignore_value && !self.one_in(4) { Bytes::new() } else { self.value() },
            lease: self.lease(),
            prev_kv: self.one_in(3),
            ignore_value,
            ignore_lease: self.one_in(10),
        }
    }

    fn delete_range(&mut self) -> DeleteRangeRequest {
        // Mostly of one key: otherwise the store would be almost empty all the time.
        let key = self.key();
        let range_end = if self.one_in(3) { self.range_end(&key) } else { Bytes::new() };
        DeleteRangeRequest { range_end, key, prev_kv: self.rng.bool() }
    }

    fn compact(&mut self) -> CompactionRequest {
        let revision = match self.rng.u32(0..8) {
            0 => self.revision(),
            1 => self.revision,
            2 => self.compacted,
            3 => self.revision + 1,
            // Not too near the present, so that reads of the past have some.
            _ => self.compacted + (self.revision - self.compacted) / 4,
        };
        CompactionRequest { revision, physical: self.rng.bool() }
    }

    fn compare(&mut self) -> Compare {
        let key = self.key();
        let target = self.choice(5);
        let number = match self.rng.u32(0..4) {
            0 => 0,
            1 => self.rng.i64(0..4),
            2 => self.revision,
            _ => self.rng.i64(1..=self.revision),
        };
        let union = if self.one_in(20) { self.rng.i32(0..6) } else { target };
        let target_union = match union {
            0 => Some(TargetUnion::Version(number.min(5))),
            1 => Some(TargetUnion::CreateRevision(number)),
            2 => Some(TargetUnion::ModRevision(number)),
            3 => Some(TargetUnion::Value(self.value())),
            4 => Some(TargetUnion::Lease(self.lease())),
            _ => None,
        };
        Compare {
            result: self.choice(4),
            target,
            range_end: if self.one_in(3) { self.range_end(&key) } else { Bytes::new() },
            key,
            target_union,
        }
    }

    fn operation(&mut self, depth: u32) -> RequestOp {
        let request = match self.rng.u32(0..100) {
            0..35 => Some(request_op::Request::RequestRange(self.range_in_txn())),
            35..75 => Some(request_op::Request::RequestPut(self.put())),
            75..88 => Some(request_op::Request::RequestDeleteRange(self.delete_range())),
            88..99 if depth < 3 => Some(request_op::Request::RequestTxn(self.txn(depth + 1))),
            88..99 => Some(request_op::Request::RequestRange(self.range_in_txn())),
            _ => None,
        };
        RequestOp { request }
    }

    /// Mostly at the present: one bad revision refuses the whole transaction.
    fn range_in_txn(&mut self) -> RangeRequest {
        let range = self.range();
        if self.one_in(5) { range } else { RangeRequest { revision: 0, ..range } }
    }

    fn txn(&mut self, depth: u32) -> TxnRequest {
        let compares = if self.one_in(4) { 0 } else { self.rng.usize(1..3) };
        let success = self.rng.usize(0..4);
        let failure = self.rng.usize(0..4);
        TxnRequest {
            compare: (0..compares).map(|_| self.compare()).collect(),
            success: (0..success).map(|_| self.operation(depth)).collect(),
            failure: (0..failure).map(|_| self.operation(depth)).collect(),
        }
    }

    /// Around the limit of the request (1.5 MiB) and of the message (2 MiB).
    fn oversized_put(&mut self) -> PutRequest {
        let limit = 1_572_864;
        let bytes = match self.rng.u32(0..5) {
            0 => limit - 200,
            1 => limit,
            2 => limit + 1000,
            3 => limit + (512 << 10) - 2000,
            _ => limit + (512 << 10) + 1000,
        };
        let key = self.key();
        PutRequest { key, value: Bytes::from(vec![b'x'; bytes]), ..PutRequest::default() }
    }

    /// Around the limit of operations, flat or in two levels.
    fn crowded_txn(&mut self) -> TxnRequest {
        let count = TXN_OPS_MAX - 1 + self.rng.usize(0..3);
        let range = |key: Bytes| RequestOp {
            request: Some(request_op::Request::RequestRange(RangeRequest {
                key,
                ..RangeRequest::default()
            })),
        };
        let inner = TxnRequest {
            success: (0..count / 2).map(|_| range(self.key())).collect(),
            ..TxnRequest::default()
        };
        let nested = RequestOp { request: Some(request_op::Request::RequestTxn(inner)) };
        let mut success: Vec<RequestOp> = (0..count).map(|_| range(self.key())).collect();
        if self.rng.bool() {
            success.truncate(count / 2 + self.rng.usize(0..3));
            success.push(nested);
        }
        TxnRequest { success, ..TxnRequest::default() }
    }
}

/// A put that keeps a value or lease must find its key. etcd checks that before the transaction
/// begins; if the transaction itself then deletes the key first, etcd's process ends. Its rule
/// against writing a key twice prevents that, save for deletions without an end, which it does not
/// see. Such transactions keep the deletion and lose the flags.
fn sparing(mut txn: TxnRequest) -> TxnRequest {
    fn deletes_without_end(txn: &TxnRequest) -> bool {
        txn.success.iter().chain(&txn.failure).any(|operation| match &operation.request {
            Some(request_op::Request::RequestDeleteRange(delete)) => delete.range_end == b"\0"[..],
            Some(request_op::Request::RequestTxn(txn)) => deletes_without_end(txn),
            _ => false,
        })
    }
    fn keep_nothing(txn: &mut TxnRequest) {
        for operation in txn.success.iter_mut().chain(&mut txn.failure) {
            match &mut operation.request {
                Some(request_op::Request::RequestPut(put)) => {
                    (put.ignore_value, put.ignore_lease) = (false, false);
                }
                Some(request_op::Request::RequestTxn(txn)) => keep_nothing(txn),
                _ => {}
            }
        }
    }
    if deletes_without_end(&txn) {
        keep_nothing(&mut txn);
    }
    txn
}
