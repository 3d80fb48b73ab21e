//! The digest of a command's effects, which the node chains into the running hash.
//!
//! It covers what the command wrote and removed (through the checksums of the rows) and what it
//! answered. Members that executed the same command on the same state get the same digest.

use crate::lease::LeaseAnswer;
use crate::{Answer, KeyValue, KvError, RangeResponse, ResponseOp, TxnResponse};

/// A 64-bit accumulator. It detects accidents, not malice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Digest(u64);

/// The fractional part of the golden ratio, odd: multiplying by it spreads every bit upwards.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

impl Digest {
    pub(crate) fn new() -> Digest {
        Digest(SPREAD)
    }

    pub(crate) fn mix(&mut self, word: u64) {
        let product = (self.0 ^ word).wrapping_mul(SPREAD);
        self.0 = product ^ (product >> 29);
    }

    pub(crate) fn finish(self) -> u64 {
        self.0
    }

    /// Adds a command's answer.
    pub(crate) fn mix_result(&mut self, revision: i64, result: &Result<Answer, KvError>) {
        self.mix(revision as u64);
        match result {
            Err(error) => self.mix(0x100 | *error as u64),
            Ok(Answer::Put(put)) => self.mix_optional(put.prev_kv.as_ref()),
            Ok(Answer::DeleteRange(delete)) => {
                self.mix(delete.deleted as u64);
                self.mix_all(&delete.prev_kvs);
            }
            Ok(Answer::Txn(txn)) => self.mix_txn(txn),
            Ok(Answer::Compact) => self.mix(1),
            Ok(Answer::Alarm(alarms)) => {
                for alarm in alarms {
                    self.mix(alarm.kind as u64);
                    self.mix(alarm.member);
                }
            }
            Ok(Answer::Member) => self.mix(2),
            Ok(Answer::Lease(answer)) => self.mix_lease(answer),
            Ok(Answer::Auth) => self.mix(6),
        }
    }

    fn mix_lease(&mut self, answer: &LeaseAnswer) {
        match answer {
            LeaseAnswer::Granted(lease) => {
                self.mix(3);
                self.mix(lease.name.id as u64);
                self.mix(lease.ttl as u64);
            }
            LeaseAnswer::Revoked => self.mix(4),
            LeaseAnswer::Counted(count) => {
                self.mix(5);
                self.mix(*count);
            }
        }
    }

    fn mix_txn(&mut self, txn: &TxnResponse) {
        self.mix(u64::from(txn.succeeded));
        for response in &txn.responses {
            match response {
                ResponseOp::Range(range) => self.mix_range(range),
                ResponseOp::Put(put) => self.mix_optional(put.prev_kv.as_ref()),
                ResponseOp::DeleteRange(delete) => {
                    self.mix(delete.deleted as u64);
                    self.mix_all(&delete.prev_kvs);
                }
                ResponseOp::Txn(txn) => self.mix_txn(txn),
            }
        }
    }

    fn mix_range(&mut self, range: &RangeResponse) {
        self.mix(range.count as u64);
        self.mix(u64::from(range.more));
        self.mix_all(&range.kvs);
    }

    fn mix_all(&mut self, kvs: &[KeyValue]) {
        self.mix(kvs.len() as u64);
        for kv in kvs {
            self.mix_kv(kv);
        }
    }

    fn mix_optional(&mut self, kv: Option<&KeyValue>) {
        match kv {
            None => self.mix(0),
            Some(kv) => self.mix_kv(kv),
        }
    }

    fn mix_kv(&mut self, kv: &KeyValue) {
        self.mix(u64::from(crc32c::crc32c(&kv.key)) << 32 | u64::from(crc32c::crc32c(&kv.value)));
        for number in [kv.create_revision, kv.mod_revision, kv.version, kv.lease] {
            self.mix(number as u64);
        }
    }
}
