//! Turns messages of the wire into requests of the store, and answers of the store into messages.
//!
//! Responsible for what only the wire can get wrong: an operation left unset, a number that is no
//! enumeration value. Checks that the store knows too are called where etcd's order of checks
//! demands it, so that a request which is wrong in two ways gets the answer etcd gives.

use bytes::Bytes;
use jangada_kv as kv;

use crate::errors::ApiError;
use crate::proto::etcdserverpb as pb;
use crate::proto::mvccpb;

/// A read.
///
/// # Errors
/// The key is empty, or the sort does not exist.
pub(crate) fn range(request: pb::RangeRequest) -> Result<kv::RangeRequest, ApiError> {
    let sort_order = pb::range_request::SortOrder::try_from(request.sort_order);
    let sort_target = pb::range_request::SortTarget::try_from(request.sort_target);
    let range = kv::RangeRequest {
        key: request.key,
        range_end: request.range_end,
        limit: request.limit,
        revision: request.revision,
        keys_only: request.keys_only,
        count_only: request.count_only,
        min_mod_revision: request.min_mod_revision,
        max_mod_revision: request.max_mod_revision,
        min_create_revision: request.min_create_revision,
        max_create_revision: request.max_create_revision,
        ..kv::RangeRequest::default()
    };
    kv::check_range(&range)?;
    let (Ok(order), Ok(target)) = (sort_order, sort_target) else {
        return Err(ApiError::InvalidSortOption);
    };
    let sort_order = match order {
        pb::range_request::SortOrder::None => kv::SortOrder::None,
        pb::range_request::SortOrder::Ascend => kv::SortOrder::Ascend,
        pb::range_request::SortOrder::Descend => kv::SortOrder::Descend,
    };
    let sort_target = match target {
        pb::range_request::SortTarget::Key => kv::SortTarget::Key,
        pb::range_request::SortTarget::Version => kv::SortTarget::Version,
        pb::range_request::SortTarget::Create => kv::SortTarget::Create,
        pb::range_request::SortTarget::Mod => kv::SortTarget::Mod,
        pb::range_request::SortTarget::Value => kv::SortTarget::Value,
    };
    Ok(kv::RangeRequest { sort_order, sort_target, ..range })
}

/// A write.
///
/// # Errors
/// What [`kv::check_put`] says.
pub(crate) fn put(request: pb::PutRequest) -> Result<kv::PutRequest, ApiError> {
    let put = kv::PutRequest {
        key: request.key,
        value: request.value,
        lease: request.lease,
        prev_kv: request.prev_kv,
        ignore_value: request.ignore_value,
        ignore_lease: request.ignore_lease,
    };
    kv::check_put(&put)?;
    Ok(put)
}

/// A deletion.
///
/// # Errors
/// What [`kv::check_delete`] says.
pub(crate) fn delete(request: pb::DeleteRangeRequest) -> Result<kv::DeleteRangeRequest, ApiError> {
    let delete = kv::DeleteRangeRequest {
        key: request.key,
        range_end: request.range_end,
        prev_kv: request.prev_kv,
    };
    kv::check_delete(&delete)?;
    Ok(delete)
}

/// A transaction of at most `max_ops` operations.
///
/// # Errors
/// Too many operations, an operation left unset or wrong, or what [`kv::check_txn`] says.
pub(crate) fn txn(request: pb::TxnRequest, max_ops: usize) -> Result<kv::TxnRequest, ApiError> {
    let txn = txn_level(request, max_ops)?;
    kv::check_txn(&txn, max_ops)?;
    Ok(txn)
}

/// One level of a transaction. Its depth is bounded by the decoder, which refuses messages nested
/// more than a hundred deep.
fn txn_level(request: pb::TxnRequest, max_ops: usize) -> Result<kv::TxnRequest, ApiError> {
    let ops = request.compare.len().max(request.success.len()).max(request.failure.len());
    let Some(max_ops) = max_ops.checked_sub(ops) else {
        return Err(ApiError::TooManyOps);
    };
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(ApiError::EmptyKey);
    }
    let compare = request.compare.into_iter().map(compare).collect();
    let branch = |ops: Vec<pb::RequestOp>| -> Result<Vec<kv::RequestOp>, ApiError> {
        ops.into_iter().map(|op| operation(op, max_ops)).collect()
    };
    Ok(kv::TxnRequest {
        compare,
        success: branch(request.success)?,
        failure: branch(request.failure)?,
    })
}

fn operation(op: pb::RequestOp, max_ops: usize) -> Result<kv::RequestOp, ApiError> {
    use pb::request_op::Request;
    Ok(match op.request {
        None => return Err(ApiError::KeyNotFound),
        Some(Request::RequestRange(request)) => kv::RequestOp::Range(range(request)?),
        Some(Request::RequestPut(request)) => kv::RequestOp::Put(put(request)?),
        Some(Request::RequestDeleteRange(request)) => kv::RequestOp::DeleteRange(delete(request)?),
        Some(Request::RequestTxn(request)) => kv::RequestOp::Txn(txn_level(request, max_ops)?),
    })
}

/// A condition. One that always holds, or never, looks at its keys all the same: who asks must be
/// allowed to read them.
///
/// An operand of another kind than the target counts as zero or empty. Numbers that are no
/// enumeration values are not refused, as etcd does not: a relation that does not exist always
/// holds (a value that there is), and a target that does not exist is equal to its operand.
fn compare(compare: pb::Compare) -> kv::Compare {
    use pb::compare::{CompareResult as Result, CompareTarget as Target, TargetUnion as Operand};
    let result = match Result::try_from(compare.result) {
        Ok(Result::Equal) => kv::CompareResult::Equal,
        Ok(Result::Greater) => kv::CompareResult::Greater,
        Ok(Result::Less) => kv::CompareResult::Less,
        Ok(Result::NotEqual) => kv::CompareResult::NotEqual,
        // No comparison of values holds for a key that is not there, not even this one.
        Err(_) if compare.target == i32::from(Target::Value) => {
            return kv::Compare {
                result: kv::CompareResult::Greater,
                target: kv::CompareTarget::Version(0),
                key: compare.key,
                range_end: compare.range_end,
            };
        }
        Err(_) => return always_of(compare.key, compare.range_end),
    };
    let target = match (Target::try_from(compare.target), compare.target_union) {
        (Ok(Target::Version), Some(Operand::Version(n))) => kv::CompareTarget::Version(n),
        (Ok(Target::Version), _) => kv::CompareTarget::Version(0),
        (Ok(Target::Create), Some(Operand::CreateRevision(n))) => kv::CompareTarget::Create(n),
        (Ok(Target::Create), _) => kv::CompareTarget::Create(0),
        (Ok(Target::Mod), Some(Operand::ModRevision(n))) => kv::CompareTarget::Mod(n),
        (Ok(Target::Mod), _) => kv::CompareTarget::Mod(0),
        (Ok(Target::Value), Some(Operand::Value(value))) => kv::CompareTarget::Value(value),
        (Ok(Target::Value), _) => kv::CompareTarget::Value(Default::default()),
        (Ok(Target::Lease), Some(Operand::Lease(n))) => kv::CompareTarget::Lease(n),
        (Ok(Target::Lease), _) => kv::CompareTarget::Lease(0),
        (Err(_), _) if result == kv::CompareResult::Equal => {
            return always_of(compare.key, compare.range_end);
        }
        // No version is below zero: this never holds.
        (Err(_), _) => {
            return kv::Compare {
                result: kv::CompareResult::Less,
                target: kv::CompareTarget::Version(0),
                key: compare.key,
                range_end: compare.range_end,
            };
        }
    };
    kv::Compare { result, target, key: compare.key, range_end: compare.range_end }
}

/// A condition that always holds: no version is below zero.
fn always_of(key: Bytes, range_end: Bytes) -> kv::Compare {
    let (result, target) = (kv::CompareResult::NotEqual, kv::CompareTarget::Version(-1));
    kv::Compare { result, target, key, range_end }
}

/// Whether every read of the transaction may be answered by this member as it is. Meant for
/// transactions of reads alone.
pub(crate) fn is_serializable(txn: &pb::TxnRequest) -> bool {
    txn.success.iter().chain(&txn.failure).all(|op| match &op.request {
        Some(pb::request_op::Request::RequestRange(range)) => range.serializable,
        _ => false,
    })
}

/// A key.
pub(crate) fn key_value(kv: kv::KeyValue) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: kv.key,
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        value: kv.value,
        lease: kv.lease,
    }
}

/// The answer to a read.
pub(crate) fn range_response(
    response: kv::RangeResponse,
    header: pb::ResponseHeader,
) -> pb::RangeResponse {
    pb::RangeResponse {
        header: Some(header),
        kvs: response.kvs.into_iter().map(key_value).collect(),
        more: response.more,
        count: response.count,
    }
}

/// The answer to a write.
pub(crate) fn put_response(
    response: kv::PutResponse,
    header: pb::ResponseHeader,
) -> pb::PutResponse {
    pb::PutResponse { header: Some(header), prev_kv: response.prev_kv.map(key_value) }
}

/// The answer to a deletion.
pub(crate) fn delete_response(
    response: kv::DeleteRangeResponse,
    header: pb::ResponseHeader,
) -> pb::DeleteRangeResponse {
    pb::DeleteRangeResponse {
        header: Some(header),
        deleted: response.deleted,
        prev_kvs: response.prev_kvs.into_iter().map(key_value).collect(),
    }
}

/// The answer to a transaction. An answer within carries the revision alone, as etcd has it: the
/// store's when that operation was done, that is, the transaction's own from its first change on. A
/// transaction within carries none.
pub(crate) fn txn_response(
    response: kv::TxnResponse,
    header: pb::ResponseHeader,
) -> pb::TxnResponse {
    let mut revision = header.revision - i64::from(changes(&response));
    txn_response_at(response, header, header.revision, &mut revision)
}

/// `revision` is the store's before the next operation; it becomes `after` with the first change.
fn txn_response_at(
    response: kv::TxnResponse,
    header: pb::ResponseHeader,
    after: i64,
    revision: &mut i64,
) -> pb::TxnResponse {
    use pb::response_op::Response;
    let at = |revision| pb::ResponseHeader { revision, ..Default::default() };
    let mut responses = Vec::with_capacity(response.responses.len());
    for response in response.responses {
        if is_change(&response) {
            *revision = after;
        }
        let response = match response {
            kv::ResponseOp::Range(range) => {
                Response::ResponseRange(range_response(range, at(*revision)))
            }
            kv::ResponseOp::Put(put) => Response::ResponsePut(put_response(put, at(*revision))),
            kv::ResponseOp::DeleteRange(delete) => {
                Response::ResponseDeleteRange(delete_response(delete, at(*revision)))
            }
            kv::ResponseOp::Txn(txn) => {
                Response::ResponseTxn(txn_response_at(txn, at(0), after, revision))
            }
        };
        responses.push(pb::ResponseOp { response: Some(response) });
    }
    pb::TxnResponse { header: Some(header), succeeded: response.succeeded, responses }
}

/// Whether a transaction changed the store.
fn changes(response: &kv::TxnResponse) -> bool {
    response.responses.iter().any(|response| match response {
        kv::ResponseOp::Txn(txn) => changes(txn),
        other => is_change(other),
    })
}

/// Whether this operation itself changed the store; a transaction within does so by its own.
fn is_change(response: &kv::ResponseOp) -> bool {
    match response {
        kv::ResponseOp::Put(_) => true,
        kv::ResponseOp::DeleteRange(delete) => 0 < delete.deleted,
        kv::ResponseOp::Range(_) | kv::ResponseOp::Txn(_) => false,
    }
}
