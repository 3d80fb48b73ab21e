//! Requests from the grammar of the API, good and bad ones.
//!
//! Every option of every request is drawn on its own, so that they meet in every combination; most
//! requests are in order, for a store that refuses everything proves little. Old, present and future
//! revisions are only worth asking for when one knows which is which: whoever asks tells what the
//! last answers named.

use bytes::Bytes;
use jangada_server::grpc::methods::Method;
use jangada_server::proto::etcdserverpb as pb;
use pb::compare::TargetUnion;
use pb::request_op::Request as Op;

use super::request::Request;
use super::rules::{LEASE_TTL_MAX, REQUEST_BYTES_MAX, TXN_OPS_MAX};
use crate::choices::Choices;

/// Short keys that are prefixes of one another, with the bytes at both ends of the alphabet, and one
/// that is not text.
const ODD_KEYS: [&[u8]; 12] = [
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

/// How deep transactions are nested at most.
const DEPTH_MAX: u64 = 3;

/// Methods that are not served where one message is answered by one: their answers are streams.
const UNSERVED: [Method; 5] =
    [Method::Watch, Method::LeaseKeepAlive, Method::Observe, Method::Snapshot, Method::HealthWatch];

/// Methods whose messages are garbled.
const GARBLED: [Method; 5] =
    [Method::Range, Method::Put, Method::DeleteRange, Method::Txn, Method::Compact];

/// How often what is asked, in parts of a thousand; the rest are transactions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mixture {
    /// Writes of one key.
    pub puts: u64,
    /// Reads.
    pub ranges: u64,
    /// Deletions.
    pub deletes: u64,
    /// Compactions.
    pub compactions: u64,
    /// Leases that are granted, revoked and listed, where clients use any.
    pub leases: u64,
    /// Questions to the member itself, methods that are not served, garbled messages.
    pub others: u64,
    /// Requests of megabytes, in parts of a hundred thousand.
    pub oversized: u64,
}

impl Default for Mixture {
    fn default() -> Mixture {
        Mixture {
            puts: 330,
            ranges: 300,
            deletes: 80,
            compactions: 15,
            leases: 40,
            others: 25,
            oversized: 40,
        }
    }
}

/// Makes requests.
#[derive(Clone, Debug)]
pub struct Grammar {
    mixture: Mixture,
    /// How many keys there are beside the odd ones.
    plain_keys: u64,
    /// The store's revision, as the last answer named it.
    pub revision: i64,
    /// The last revision that was compacted.
    pub compacted: i64,
    serial: u64,
    /// Whether clients use leases.
    pub uses_leases: bool,
}

/// The ids of leases: few, so that they come and go.
pub(super) const LEASES: [i64; 5] = [1, 2, 3, -1, 0x1234_5678];

impl Grammar {
    /// Requests over some plain keys and a dozen odd ones.
    #[must_use]
    pub fn new(mixture: Mixture, plain_keys: u64) -> Grammar {
        Grammar { mixture, plain_keys, revision: 1, compacted: 0, serial: 0, uses_leases: false }
    }

    /// The next request.
    pub fn next(&mut self, choices: &mut Choices) -> Request {
        let mixture = self.mixture;
        if choices.below(100_000) < mixture.oversized {
            return self.oversized(choices);
        }
        let mut left = choices.below(1000);
        for (parts, ask) in [
            (mixture.puts, Grammar::any_put as fn(&mut Grammar, &mut Choices) -> Request),
            (mixture.ranges, Grammar::any_range),
            (mixture.deletes, Grammar::any_delete),
            (mixture.compactions, Grammar::any_compaction),
            (if self.uses_leases { mixture.leases } else { 0 }, Grammar::any_lease),
            (mixture.others, Grammar::any_other),
        ] {
            if left < parts {
                return ask(self, choices);
            }
            left -= parts;
        }
        Request::Txn(sparing(self.txn(choices, 0)))
    }

    fn any_put(&mut self, choices: &mut Choices) -> Request {
        Request::Put(self.put(choices))
    }

    fn any_range(&mut self, choices: &mut Choices) -> Request {
        let mut range = self.range(choices);
        if one_in(choices, 60) {
            match choices.below(2) {
                0 => range.sort_order = unknown(choices, 3),
                _ => range.sort_target = unknown(choices, 5),
            }
        }
        Request::Range(range)
    }

    fn any_delete(&mut self, choices: &mut Choices) -> Request {
        Request::DeleteRange(self.delete_range(choices))
    }

    fn any_compaction(&mut self, choices: &mut Choices) -> Request {
        let revision = match choices.below(10) {
            0 => self.any_revision(choices),
            1 => self.revision,
            2 => self.compacted,
            3 => self.revision + 1 + choices.below(1000) as i64,
            // Not too near the present, so that reads of the past have some.
            _ => self.compacted + (self.revision - self.compacted) / 4,
        };
        Request::Compact(pb::CompactionRequest { revision, physical: choices.below(2) == 0 })
    }

    fn any_lease(&mut self, choices: &mut Choices) -> Request {
        let id = *choices.pick(&LEASES);
        match choices.below(10) {
            0..5 => {
                let ttl = *choices.pick(&[0, 3, 6, 60, LEASE_TTL_MAX, LEASE_TTL_MAX + 1]);
                Request::LeaseGrant(pb::LeaseGrantRequest { id, ttl })
            }
            5..8 => Request::LeaseRevoke(pb::LeaseRevokeRequest { id }),
            _ => Request::LeaseLeases,
        }
    }

    fn any_other(&mut self, choices: &mut Choices) -> Request {
        match choices.below(10) {
            0..3 => {
                let linearizable = choices.below(2) == 0;
                Request::MemberList(pb::MemberListRequest { linearizable })
            }
            3..6 => {
                let member_id = choices.below(3);
                // A change of no kind changes nothing: alarms themselves are the world's to raise.
                let (action, kind) = (choices.below(10) / 8, choices.below(3));
                let alarm = if action == 0 { kind as i32 } else { 0 };
                let action = action as i32;
                Request::Alarm(pb::AlarmRequest { action, member_id, alarm })
            }
            6..8 => Request::Status,
            8 => Request::Unserved(*choices.pick(&UNSERVED)),
            _ => Request::Garbage(*choices.pick(&GARBLED)),
        }
    }

    /// Near the largest request that is taken, or a transaction of about as many operations as are.
    fn oversized(&mut self, choices: &mut Choices) -> Request {
        match choices.below(8) {
            0 => {
                let bytes = REQUEST_BYTES_MAX - 200 + choices.below(400) as usize;
                let (key, value) = (self.key(choices), vec![b'x'; bytes].into());
                Request::Put(pb::PutRequest { key, value, ..pb::PutRequest::default() })
            }
            1..4 => {
                let bytes = 60_000 + choices.below(150_000) as usize;
                let (key, value) = (self.key(choices), vec![b'x'; bytes].into());
                Request::Put(pb::PutRequest { key, value, ..pb::PutRequest::default() })
            }
            _ => Request::Txn(self.crowded_txn(choices)),
        }
    }

    /// A key; rarely none at all.
    pub fn key(&mut self, choices: &mut Choices) -> Bytes {
        if one_in(choices, 100) {
            return Bytes::new();
        }
        if one_in(choices, 3) {
            let key: &'static [u8] = ODD_KEYS[choices.below(ODD_KEYS.len() as u64) as usize];
            return Bytes::from_static(key);
        }
        // Some keys are more popular than others.
        let bound = choices.between(1, self.plain_keys);
        format!("key-{:02}", choices.below(bound)).into()
    }

    fn value(&mut self, choices: &mut Choices) -> Bytes {
        self.serial += 1;
        let mut value = format!("value-{}-", self.serial).into_bytes();
        match choices.below(20) {
            0 => return Bytes::new(),
            1 => return Bytes::from_static(b"same"),
            2 => value.resize(value.len() + choices.below(3_000) as usize, b'.'),
            3 if one_in(choices, 4) => value.resize(value.len() + 6_000, b'.'),
            _ => value.resize(value.len() + 40, b'.'),
        }
        value.into()
    }

    /// One key, everything from the key on, a prefix, an interval, an interval of nothing.
    fn range_end(&mut self, choices: &mut Choices, key: &Bytes) -> Bytes {
        match choices.below(10) {
            0..4 => Bytes::new(),
            4 => Bytes::from_static(b"\x00"),
            5 | 6 => prefix_end(key),
            7 => key.clone(),
            _ => self.key(choices),
        }
    }

    /// Now, the past, the compacted past, the future, and numbers that are no revisions.
    fn any_revision(&mut self, choices: &mut Choices) -> i64 {
        let newest = self.revision;
        let kept = self.compacted.clamp(1, newest);
        match choices.below(16) {
            0..6 => 0,
            6..10 => kept + choices.below((newest - kept + 1) as u64) as i64,
            10 => newest,
            11 => newest + 1 + choices.below(1000) as i64,
            12 => self.compacted + choices.below(3) as i64 - 1,
            13 => 1 + choices.below(newest as u64) as i64,
            14 => -1 - choices.below(3) as i64,
            _ => *choices.pick(&[i64::MAX, i64::MIN, 1, 2]),
        }
    }

    fn bound(&mut self, choices: &mut Choices) -> i64 {
        if one_in(choices, 8) { self.any_revision(choices) } else { 0 }
    }

    fn lease(&self, choices: &mut Choices) -> i64 {
        let rare = if self.uses_leases { 4 } else { 40 };
        if one_in(choices, rare) { *choices.pick(&LEASES) } else { 0 }
    }

    fn range(&mut self, choices: &mut Choices) -> pb::RangeRequest {
        let key = self.key(choices);
        let sorted = one_in(choices, 3);
        pb::RangeRequest {
            range_end: self.range_end(choices, &key),
            key,
            limit: match choices.below(12) {
                0..7 => 0,
                7 => -1,
                8 => i64::MAX,
                _ => choices.between(1, 4) as i64,
            },
            revision: self.any_revision(choices),
            sort_order: if sorted { choices.below(3) as i32 } else { 0 },
            sort_target: if sorted { choices.below(5) as i32 } else { 0 },
            serializable: choices.below(2) == 0,
            keys_only: one_in(choices, 6),
            count_only: one_in(choices, 8),
            min_mod_revision: self.bound(choices),
            max_mod_revision: self.bound(choices),
            min_create_revision: self.bound(choices),
            max_create_revision: self.bound(choices),
        }
    }

    fn put(&mut self, choices: &mut Choices) -> pb::PutRequest {
        let ignore_value = one_in(choices, 10);
        let no_value = ignore_value && !one_in(choices, 4);
        pb::PutRequest {
            key: self.key(choices),
            value: if no_value { Bytes::new() } else { self.value(choices) },
            lease: self.lease(choices),
            prev_kv: one_in(choices, 3),
            ignore_value,
            ignore_lease: one_in(choices, 10),
        }
    }

    fn delete_range(&mut self, choices: &mut Choices) -> pb::DeleteRangeRequest {
        let key = self.key(choices);
        // Mostly of one key: otherwise the store would be almost empty all the time.
        let wide = one_in(choices, 5);
        let range_end = if wide { self.range_end(choices, &key) } else { Bytes::new() };
        pb::DeleteRangeRequest { range_end, key, prev_kv: choices.below(2) == 0 }
    }

    fn compare(&mut self, choices: &mut Choices) -> pb::Compare {
        let key = self.key(choices);
        let target = if one_in(choices, 40) { unknown(choices, 5) } else { below(choices, 5) };
        let result = if one_in(choices, 40) { unknown(choices, 4) } else { below(choices, 4) };
        let number = match choices.below(4) {
            0 => 0,
            1 => choices.below(4) as i64,
            2 => self.revision,
            _ => 1 + choices.below(self.revision as u64) as i64,
        };
        // Mostly an operand of the target's own kind.
        let operand = if one_in(choices, 20) { below(choices, 6) } else { target };
        let target_union = match operand {
            0 => Some(TargetUnion::Version(number.min(5))),
            1 => Some(TargetUnion::CreateRevision(number)),
            2 => Some(TargetUnion::ModRevision(number)),
            3 => Some(TargetUnion::Value(self.value(choices))),
            4 => Some(TargetUnion::Lease(self.lease(choices))),
            _ => None,
        };
        let wide = one_in(choices, 4);
        let range_end = if wide { self.range_end(choices, &key) } else { Bytes::new() };
        pb::Compare { result, target, range_end, key, target_union }
    }

    fn operation(&mut self, choices: &mut Choices, depth: u64) -> pb::RequestOp {
        let request = match choices.below(400) {
            0..140 => Some(Op::RequestRange(self.range_within(choices))),
            140..300 => Some(Op::RequestPut(self.put(choices))),
            300..352 => Some(Op::RequestDeleteRange(self.delete_range(choices))),
            352..398 if depth < DEPTH_MAX => Some(Op::RequestTxn(self.txn(choices, depth + 1))),
            352..398 => Some(Op::RequestRange(self.range_within(choices))),
            _ => None,
        };
        pb::RequestOp { request }
    }

    /// Mostly at the present: one bad revision refuses the whole transaction.
    fn range_within(&mut self, choices: &mut Choices) -> pb::RangeRequest {
        let range = self.range(choices);
        if one_in(choices, 6) { range } else { pb::RangeRequest { revision: 0, ..range } }
    }

    fn txn(&mut self, choices: &mut Choices, depth: u64) -> pb::TxnRequest {
        let compares = if one_in(choices, 4) { 0 } else { choices.between(1, 2) };
        let compare = (0..compares).map(|_| self.compare(choices)).collect();
        if depth == 0 && one_in(choices, 4) {
            return self.reading_txn(choices, compare);
        }
        let mut branch = |choices: &mut Choices| -> Vec<pb::RequestOp> {
            (0..choices.below(4)).map(|_| self.operation(choices, depth)).collect()
        };
        let (success, failure) = (branch(choices), branch(choices));
        pb::TxnRequest { compare, success, failure }
    }

    /// Reads alone, which need no entry of the log; half of them need not be up to date either.
    fn reading_txn(&mut self, choices: &mut Choices, compare: Vec<pb::Compare>) -> pb::TxnRequest {
        let serializable = choices.below(2) == 0;
        let mut branch = |choices: &mut Choices| -> Vec<pb::RequestOp> {
            let reads = (0..choices.below(4)).map(|_| {
                let range = self.range_within(choices);
                let serializable = serializable || range.serializable;
                let range = pb::RangeRequest { serializable, ..range };
                pb::RequestOp { request: Some(Op::RequestRange(range)) }
            });
            reads.collect()
        };
        let (success, failure) = (branch(choices), branch(choices));
        pb::TxnRequest { compare, success, failure }
    }

    /// Around the limit of operations, flat or in two levels.
    fn crowded_txn(&mut self, choices: &mut Choices) -> pb::TxnRequest {
        let count = TXN_OPS_MAX - 1 + choices.below(3) as usize;
        let puts = |count: usize| -> Vec<pb::RequestOp> {
            let put = |number: usize| {
                let key = format!("crowd-{number:03}").into();
                let value = Bytes::from(format!("{}", self.serial + number as u64));
                let put = pb::PutRequest { key, value, ..pb::PutRequest::default() };
                pb::RequestOp { request: Some(Op::RequestPut(put)) }
            };
            (0..count).map(put).collect()
        };
        if choices.below(2) == 0 {
            let success = puts(count);
            return pb::TxnRequest { success, ..pb::TxnRequest::default() };
        }
        let inner = pb::TxnRequest { success: puts(count / 2), ..pb::TxnRequest::default() };
        let nothing = pb::DeleteRangeRequest { key: "none".into(), ..Default::default() };
        let nothing = pb::RequestOp { request: Some(Op::RequestDeleteRange(nothing)) };
        let outer = count / 2 + choices.below(3) as usize;
        let mut success = vec![nothing; outer];
        success.push(pb::RequestOp { request: Some(Op::RequestTxn(inner)) });
        pb::TxnRequest { success, ..pb::TxnRequest::default() }
    }
}

fn one_in(choices: &mut Choices, count: u64) -> bool {
    choices.below(count) == 0
}

fn below(choices: &mut Choices, count: u64) -> i32 {
    choices.below(count) as i32
}

/// A number that an enumeration of so many values does not have.
fn unknown(choices: &mut Choices, count: i32) -> i32 {
    *choices.pick(&[count, -1, 77, i32::MAX])
}

/// The first key behind all that begin like this one.
fn prefix_end(key: &Bytes) -> Bytes {
    let mut end = key.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end.into();
        }
    }
    Bytes::from_static(b"\0")
}

/// A put that keeps a value or lease must find its key. The store checks that before the transaction
/// begins; that the transaction then deletes the key first is prevented by the rule against writing
/// a key twice, save for deletions without an end, which the rule does not see. etcd's process ends
/// on such a transaction. It keeps the deletion here and loses the flags.
fn sparing(mut txn: pb::TxnRequest) -> pb::TxnRequest {
    fn deletes_without_end(txn: &pb::TxnRequest) -> bool {
        txn.success.iter().chain(&txn.failure).any(|op| match &op.request {
            Some(Op::RequestDeleteRange(delete)) => delete.range_end == b"\0"[..],
            Some(Op::RequestTxn(txn)) => deletes_without_end(txn),
            _ => false,
        })
    }
    fn keep_nothing(txn: &mut pb::TxnRequest) {
        for op in txn.success.iter_mut().chain(&mut txn.failure) {
            match &mut op.request {
                Some(Op::RequestPut(put)) => (put.ignore_value, put.ignore_lease) = (false, false),
                Some(Op::RequestTxn(txn)) => keep_nothing(txn),
                _ => {}
            }
        }
    }
    if deletes_without_end(&txn) {
        keep_nothing(&mut txn);
    }
    txn
}
