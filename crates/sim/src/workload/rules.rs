//! What is wrong with a request whatever the store holds: the refusals of etcd's API, in its order.
//!
//! Written from etcd's rules and not from the server's code, with which it shares nothing.

use bytes::Bytes;
use jangada_server::errors::ApiError;
use jangada_server::proto::etcdserverpb as pb;
use pb::request_op::Request as Op;

use super::request::{Request, is_read_only};

/// The most operations of a transaction: etcd's default of `--max-txn-ops`.
pub const TXN_OPS_MAX: usize = 128;

/// The largest request in bytes: etcd's default of `--max-request-bytes`.
pub const REQUEST_BYTES_MAX: usize = 3 << 19;

/// The longest time of a lease, in seconds, as etcd's.
pub const LEASE_TTL_MAX: i64 = 9_000_000_000;

/// Why a request is refused by any store.
///
/// # Errors
/// The refusal.
pub fn check(request: &Request) -> Result<(), ApiError> {
    match request {
        Request::Range(range) => check_range(range),
        Request::Put(put) => check_put(put).and_then(|()| check_size(request)),
        Request::DeleteRange(delete) => check_key(&delete.key).and_then(|()| check_size(request)),
        Request::Txn(txn) => {
            check_operations(txn, TXN_OPS_MAX)?;
            for branch in [&txn.success, &txn.failure] {
                written_by(branch)?;
            }
            if is_read_only(txn) { Ok(()) } else { check_size(request) }
        }
        Request::LeaseGrant(grant) if LEASE_TTL_MAX < grant.ttl => Err(ApiError::LeaseTtlTooLarge),
        Request::LeaseGrant(_)
        | Request::LeaseRevoke(_)
        | Request::LeaseLeases
        | Request::Auth(_)
        | Request::Compact(_)
        | Request::MemberList(_)
        | Request::Alarm(_)
        | Request::Status
        | Request::Unserved(_)
        | Request::Garbage(_) => Ok(()),
    }
}

fn check_key(key: &Bytes) -> Result<(), ApiError> {
    if key.is_empty() { Err(ApiError::EmptyKey) } else { Ok(()) }
}

fn check_range(range: &pb::RangeRequest) -> Result<(), ApiError> {
    check_key(&range.key)?;
    let known = (0..=2).contains(&range.sort_order) && (0..=4).contains(&range.sort_target);
    if known { Ok(()) } else { Err(ApiError::InvalidSortOption) }
}

fn check_put(put: &pb::PutRequest) -> Result<(), ApiError> {
    check_key(&put.key)?;
    if put.ignore_value && !put.value.is_empty() {
        return Err(ApiError::ValueProvided);
    }
    if put.ignore_lease && put.lease != 0 {
        return Err(ApiError::LeaseProvided);
    }
    Ok(())
}

/// etcd measures the entry that it would log: a header of a tag of two bytes, a length of one and an
/// id of ten, then the request behind its own tag and length.
fn check_size(request: &Request) -> Result<(), ApiError> {
    let bytes = request.encoded_bytes();
    let length_bytes = (1..).find(|count| bytes >> (7 * count) == 0).unwrap_or(10);
    let logged = 13 + 1 + length_bytes + bytes;
    if REQUEST_BYTES_MAX < logged { Err(ApiError::RequestTooLarge) } else { Ok(()) }
}

/// `budget` is how many operations this level may have; levels within share what it leaves.
fn check_operations(txn: &pb::TxnRequest, budget: usize) -> Result<(), ApiError> {
    let count = txn.compare.len().max(txn.success.len()).max(txn.failure.len());
    if budget < count {
        return Err(ApiError::TooManyOps);
    }
    txn.compare.iter().try_for_each(|compare| check_key(&compare.key))?;
    txn.success.iter().chain(&txn.failure).try_for_each(|op| match &op.request {
        None => Err(ApiError::KeyNotFound),
        Some(Op::RequestRange(range)) => check_range(range),
        Some(Op::RequestPut(put)) => check_put(put),
        Some(Op::RequestDeleteRange(delete)) => check_key(&delete.key),
        Some(Op::RequestTxn(txn)) => check_operations(txn, budget - count),
    })
}

/// Whether a key lies in an interval as a deletion names it. An end that is not above the start,
/// "no end" among them, contains nothing for this rule: etcd has it so.
fn deletes(interval: &(Bytes, Bytes), key: &Bytes) -> bool {
    let (start, end) = interval;
    if end.is_empty() { key == start } else { start <= key && key < end }
}

/// The keys that a branch may put and the intervals that it may delete.
type Written = (Vec<Bytes>, Vec<(Bytes, Bytes)>);

/// A branch writes no key twice. Its own deletions count first, then each transaction within (its
/// two branches exclude each other, so they may put the same keys), then its own puts. The deletions
/// of a transaction within count for what comes after it.
fn written_by(branch: &[pb::RequestOp]) -> Result<Written, ApiError> {
    fn put(written: &mut Written, key: &Bytes) -> Result<(), ApiError> {
        if written.0.contains(key) || written.1.iter().any(|interval| deletes(interval, key)) {
            return Err(ApiError::DuplicateKey);
        }
        written.0.push(key.clone());
        Ok(())
    }
    let mut written = Written::default();
    for op in branch {
        if let Some(Op::RequestDeleteRange(delete)) = &op.request {
            written.1.push((delete.key.clone(), delete.range_end.clone()));
        }
    }
    for op in branch {
        let Some(Op::RequestTxn(txn)) = &op.request else { continue };
        let (mut keys, mut intervals) = written_by(&txn.success)?;
        let (failure_keys, failure_intervals) = written_by(&txn.failure)?;
        keys.extend(failure_keys);
        keys.sort();
        keys.dedup();
        intervals.extend(failure_intervals);
        keys.iter().try_for_each(|key| put(&mut written, key))?;
        written.1.extend(intervals);
    }
    for op in branch {
        if let Some(Op::RequestPut(request)) = &op.request {
            put(&mut written, &request.key)?;
        }
    }
    Ok(written)
}
