//! Checks of requests that need no state: what a server refuses before it proposes.
//!
//! Follows the checks of etcd's KV service, in its order, so that a request which is wrong in two
//! ways gets the same answer from both.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::ops::Bound::{Included, Unbounded};

use bytes::Bytes;

use crate::lease::{LEASE_BYTES, LeaseCommand};
use crate::{
    Command, Compare, DeleteRangeRequest, KvError, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

/// The deepest nesting of transactions. A recursion over a request is bounded by it; etcd's clients
/// are bounded by protobuf's own limit, which lies below.
pub const TXN_DEPTH_MAX: usize = 128;

/// What a put costs beside its key and value when it is held against the quota (etcd's figure).
const PUT_COST_BYTES: u64 = 256;

/// Checks a read.
///
/// # Errors
/// [`KvError::EmptyKey`].
pub fn check_range(range: &RangeRequest) -> Result<(), KvError> {
    check_key(&range.key)
}

/// Checks a write.
///
/// # Errors
/// [`KvError::EmptyKey`], [`KvError::ValueProvided`], [`KvError::LeaseProvided`].
pub fn check_put(put: &PutRequest) -> Result<(), KvError> {
    check_key(&put.key)?;
    if put.ignore_value && !put.value.is_empty() {
        return Err(KvError::ValueProvided);
    }
    if put.ignore_lease && put.lease != 0 {
        return Err(KvError::LeaseProvided);
    }
    Ok(())
}

/// Checks a deletion.
///
/// # Errors
/// [`KvError::EmptyKey`].
pub fn check_delete(delete: &DeleteRangeRequest) -> Result<(), KvError> {
    check_key(&delete.key)
}

/// Checks a transaction: the number of operations, each of them, then the keys written twice.
///
/// # Errors
/// [`KvError::TooManyOps`], what the checks of the operations say, [`KvError::DuplicateKey`].
pub fn check_txn(txn: &TxnRequest, max_ops: usize) -> Result<(), KvError> {
    check_ops(txn, max_ops, 1)?;
    for branch in [&txn.success, &txn.failure] {
        Written::of(branch)?;
    }
    Ok(())
}

/// Whether the transaction needs no log entry: both branches consist of ranges alone. A transaction
/// within counts as a write, as in etcd.
#[must_use]
pub fn is_read_only(txn: &TxnRequest) -> bool {
    txn.success.iter().chain(&txn.failure).all(|op| matches!(op, RequestOp::Range(_)))
}

/// What the command adds to the store at most, as etcd counts it against the quota.
#[must_use]
pub fn cost(command: &Command) -> u64 {
    match command {
        Command::Put(put) => put_cost(&put.key, &put.value),
        Command::Txn(txn) => txn_cost(txn),
        Command::DeleteRange(_)
        | Command::Compact { .. }
        | Command::Alarm { .. }
        | Command::Member(_)
        | Command::RetractMember(_)
        | Command::Auth(_) => 0,
        Command::Lease(LeaseCommand::Grant { .. }) => LEASE_BYTES,
        Command::Lease(_) => 0,
        Command::As(_, command) => cost(command),
    }
}

/// Whether a transaction contains a put, wherever it stands.
pub(crate) fn contains_put(txn: &TxnRequest) -> bool {
    txn_cost(txn) > 0
}

/// The [`cost`] of a put.
#[must_use]
pub fn put_cost(key: &[u8], value: &[u8]) -> u64 {
    PUT_COST_BYTES + key.len() as u64 + value.len() as u64
}

/// The greater of the two branches.
fn txn_cost(txn: &TxnRequest) -> u64 {
    let branch_cost = |branch: &[RequestOp]| -> u64 {
        branch
            .iter()
            .map(|op| match op {
                RequestOp::Put(put) => put_cost(&put.key, &put.value),
                RequestOp::Txn(txn) => txn_cost(txn),
                RequestOp::Range(_) | RequestOp::DeleteRange(_) => 0,
            })
            .sum()
    };
    branch_cost(&txn.success).max(branch_cost(&txn.failure))
}

fn check_key(key: &[u8]) -> Result<(), KvError> {
    if key.is_empty() { Err(KvError::EmptyKey) } else { Ok(()) }
}

fn check_ops(txn: &TxnRequest, max_ops: usize, depth: usize) -> Result<(), KvError> {
    let ops = txn.compare.len().max(txn.success.len()).max(txn.failure.len());
    if ops > max_ops || depth > TXN_DEPTH_MAX {
        return Err(KvError::TooManyOps);
    }
    for Compare { key, .. } in &txn.compare {
        check_key(key)?;
    }
    for op in txn.success.iter().chain(&txn.failure) {
        match op {
            RequestOp::Range(range) => check_range(range)?,
            RequestOp::Put(put) => check_put(put)?,
            RequestOp::DeleteRange(delete) => check_delete(delete)?,
            RequestOp::Txn(txn) => check_ops(txn, max_ops - ops, depth + 1)?,
        }
    }
    Ok(())
}

/// What a branch writes: the keys it may put and the intervals it may delete.
///
/// Two puts of one key, or a put inside a deleted interval, are refused. Overlapping deletions are
/// fine. Three finer points are etcd's and are kept:
/// - the two branches of one transaction within exclude each other, so they may put the same key;
/// - a transaction within is held against the deletions of this level and of its elder siblings,
///   but a younger sibling may delete what an elder one puts;
/// - an interval whose end is not above its start, "no end" included, contains nothing here.
#[derive(Default)]
struct Written<'a> {
    puts: BTreeSet<&'a Bytes>,
    deletes: Intervals<'a>,
}

impl<'a> Written<'a> {
    fn of(branch: &'a [RequestOp]) -> Result<Written<'a>, KvError> {
        let mut written = Written::default();
        for op in branch {
            if let RequestOp::DeleteRange(delete) = op {
                written.deletes.insert(&delete.key, &delete.range_end);
            }
        }
        for op in branch {
            if let RequestOp::Txn(txn) = op {
                written.absorb(txn)?;
            }
        }
        for op in branch {
            if let RequestOp::Put(put) = op {
                written.put(&put.key)?;
            }
        }
        Ok(written)
    }

    fn absorb(&mut self, txn: &'a TxnRequest) -> Result<(), KvError> {
        let success = Written::of(&txn.success)?;
        let failure = Written::of(&txn.failure)?;
        let either: BTreeSet<&Bytes> = success.puts.union(&failure.puts).copied().collect();
        for key in either {
            self.put(key)?;
        }
        self.deletes.absorb(success.deletes);
        self.deletes.absorb(failure.deletes);
        Ok(())
    }

    fn put(&mut self, key: &'a Bytes) -> Result<(), KvError> {
        if self.deletes.contain(key) || !self.puts.insert(key) {
            return Err(KvError::DuplicateKey);
        }
        Ok(())
    }
}

/// A union of intervals of keys, none of which touch.
#[derive(Default)]
struct Intervals<'a> {
    /// From the first key to one past the last; an empty end means the first key alone.
    ends: BTreeMap<&'a [u8], IntervalEnd<'a>>,
}

/// Where an interval ends. The order is the order of the keys that it excludes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum IntervalEnd<'a> {
    /// Before this key.
    Before(&'a [u8]),
    /// After the interval's only key.
    Point,
}

impl<'a> Intervals<'a> {
    fn insert(&mut self, start: &'a [u8], end: &'a [u8]) {
        if end.is_empty() {
            if !self.contain(start) {
                self.ends.insert(start, IntervalEnd::Point);
            }
            return;
        }
        if end <= start {
            return;
        }
        let (mut first, mut last) = (start, end);
        // An interval that begins before this one and reaches into it swallows its start.
        if let Some((&before, &IntervalEnd::Before(before_end))) =
            self.ends.range::<[u8], _>((Unbounded, Included(start))).next_back()
            && start <= before_end
        {
            first = before;
            last = last.max(before_end);
        }
        let inside: Vec<&[u8]> = self
            .ends
            .range::<[u8], _>((Included(first), Included(last)))
            .map(|(&key, _)| key)
            .collect();
        for key in inside {
            match self.ends[key] {
                // A point just past the end stays a point of its own.
                IntervalEnd::Point if last <= key => {}
                IntervalEnd::Point => {
                    self.ends.remove(key);
                }
                IntervalEnd::Before(key_end) => {
                    last = last.max(key_end);
                    self.ends.remove(key);
                }
            }
        }
        self.ends.insert(first, IntervalEnd::Before(last));
    }

    fn absorb(&mut self, other: Intervals<'a>) {
        for (start, end) in other.ends {
            match end {
                IntervalEnd::Point => self.insert(start, &[]),
                IntervalEnd::Before(end) => self.insert(start, end),
            }
        }
    }

    fn contain(&self, key: &[u8]) -> bool {
        match self.ends.range::<[u8], _>((Unbounded, Included(key))).next_back() {
            None => false,
            Some((&start, IntervalEnd::Point)) => start == key,
            Some((_, IntervalEnd::Before(end))) => key < *end,
        }
    }
}
