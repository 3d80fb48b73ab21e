//! The KV service.
//!
//! Responsible for the order in which a request can fail, which is etcd's: what is wrong with the
//! request itself, its size, then what the cluster and the store say. Reads that must be
//! linearizable wait for a barrier first; reads that need not are answered from this member as it
//! is.

use bytes::Bytes;
use jangada_kv::auth::{Access, Envelope};
use jangada_kv::{AlarmAction, AlarmKind, Answer, Command, RangeRequest, RangeSlices, Reply};
use tonic::Status;

use super::frame::{Frame, RangeEncoder};
use super::{Received, framing, header::header};
use crate::auth::{Asker, Judged};
use crate::backend::Backend;
use crate::convert;
use crate::edge::Context;
use crate::errors::ApiError;
use crate::proto::etcdserverpb as pb;

/// What a request grows by when etcd wraps it for its log: the entry's own header (a tag of two
/// bytes, a length, and a request id of ten) and the request's tag. Its length field comes on top.
const WRAPPING_BYTES: usize = 2 + 1 + 10 + 1;

/// Reads keys.
pub(crate) async fn range<B: Backend>(
    context: &Context<B>,
    asker: Asker<'_>,
    request: Received<pb::RangeRequest>,
) -> Result<Frame, Status> {
    let serializable = request.message.serializable;
    if !serializable && context.backend.status().is_learner {
        return Err(ApiError::NotSupportedForLearner.into());
    }
    let range = convert::range(request.message)?;
    if !serializable {
        barrier(context).await?;
    }
    let access = Access::Read(&range.key, &range.range_end);
    let judged = context.guard.judge(&context.backend, asker, access).await?;
    if RangeSlices::fit(&range) {
        return range_in_slices(context, range, judged).await;
    }
    context.backlog.room().await;
    let store = context.backend.store();
    let (revision, response) = store.range(&range);
    let response = response.map_err(ApiError::from)?;
    judged.still_holds(store)?;
    context.metrics.ranges.increment();
    let header = header(&context.backend, revision);
    framing::encode(&convert::range_response(response, header)).map(Frame::Whole)
}

/// Reads keys of which there may be very many: others have their turn between two slices, the
/// member's heartbeats among them.
async fn range_in_slices<B: Backend>(
    context: &Context<B>,
    range: RangeRequest,
    judged: Judged,
) -> Result<Frame, Status> {
    let store = context.backend.store();
    context.backlog.room().await;
    let mut slices = RangeSlices::new(range);
    let first = slices.next(store).map_err(ApiError::from)?;
    let mut encoder = RangeEncoder::new(header(&context.backend, slices.revision()));
    encoder.add(first)?;
    let _turn =
        if slices.is_done() { None } else { Some(context.backlog.turn(encoder.bytes()).await) };
    while !slices.is_done() {
        tokio::task::yield_now().await;
        encoder.add(slices.next(store).map_err(ApiError::from)?)?;
    }
    judged.still_holds(store)?;
    context.metrics.ranges.increment();
    encoder.finish(slices.more(), slices.count())
}

/// Writes a key.
pub(crate) async fn put<B: Backend>(
    context: &Context<B>,
    asker: Asker<'_>,
    request: Received<pb::PutRequest>,
) -> Result<Bytes, Status> {
    let put = convert::put(request.message)?;
    check_size(context, request.bytes)?;
    check_quota(context, jangada_kv::put_cost(&put.key, &put.value)).await?;
    let caller = context.guard.caller(&context.backend, asker).await?;
    let bytes = jangada_kv::put_bytes_max(&put.key, &put.value)
        + caller.as_ref().map_or(0, Envelope::bytes_max);
    let mut buffer = jangada_entry::Draft::buffer(bytes);
    if let Some(caller) = &caller {
        Envelope::encode(&mut buffer, caller);
    }
    let flags = jangada_kv::PutFlags::of(&put);
    jangada_kv::encode_put(&mut buffer, &put.key, &put.value, put.lease, flags);
    // The receive buffer is not to be held for as long as the proposal takes.
    drop(put);
    let reply = context.backend.propose_encoded(buffer).await.map_err(ApiError::from)?;
    let (revision, answer) = answer(reply)?;
    let Answer::Put(response) = answer else { panic!("a put is answered as a put") };
    context.metrics.puts.increment();
    framing::encode(&convert::put_response(response, header(&context.backend, revision)))
}

/// Deletes keys.
pub(crate) async fn delete_range<B: Backend>(
    context: &Context<B>,
    asker: Asker<'_>,
    request: Received<pb::DeleteRangeRequest>,
) -> Result<Bytes, Status> {
    let delete = convert::delete(request.message)?;
    check_size(context, request.bytes)?;
    let (revision, answer) = propose_for(context, asker, Command::DeleteRange(delete)).await?;
    let Answer::DeleteRange(response) = answer else {
        panic!("a deletion is answered as a deletion")
    };
    context.metrics.deletes.increment();
    framing::encode(&convert::delete_response(response, header(&context.backend, revision)))
}

/// Compares, then reads and writes. A transaction of reads alone needs no log entry.
pub(crate) async fn txn<B: Backend>(
    context: &Context<B>,
    asker: Asker<'_>,
    request: Received<pb::TxnRequest>,
) -> Result<Bytes, Status> {
    let serializable = convert::is_serializable(&request.message);
    let txn = convert::txn(request.message, context.settings.max_txn_ops)?;
    let (revision, response) = if jangada_kv::is_read_only(&txn) {
        if !serializable {
            barrier(context).await?;
        }
        let judged = context.guard.judge(&context.backend, asker, Access::Txn(&txn)).await?;
        context.backlog.room().await;
        let store = context.backend.store();
        let (revision, response) = store.txn_read(&txn);
        let response = response.map_err(ApiError::from)?;
        judged.still_holds(store)?;
        (revision, response)
    } else {
        check_size(context, request.bytes)?;
        let command = Command::Txn(txn);
        check_quota(context, jangada_kv::cost(&command)).await?;
        let (revision, answer) = propose_for(context, asker, command).await?;
        let Answer::Txn(response) = answer else {
            panic!("a transaction is answered as a transaction")
        };
        (revision, response)
    };
    context.metrics.txns.increment();
    framing::encode(&convert::txn_response(response, header(&context.backend, revision)))
}

/// Forgets the history below a revision.
pub(crate) async fn compact<B: Backend>(
    context: &Context<B>,
    asker: Asker<'_>,
    request: Received<pb::CompactionRequest>,
) -> Result<Bytes, Status> {
    let pb::CompactionRequest { revision, physical } = request.message;
    let command = Command::Compact { revision, physical };
    let (revision, answer) = propose_for(context, asker, command).await?;
    assert!(answer == Answer::Compact, "a compaction is answered as a compaction");
    let header = header(&context.backend, revision);
    framing::encode(&pb::CompactionResponse { header: Some(header) })
}

/// Waits until a read of this member's store is linearizable.
pub(crate) async fn barrier<B: Backend>(context: &Context<B>) -> Result<(), ApiError> {
    context.backend.read_barrier().await.map_err(|error| {
        context.metrics.read_indexes_failed.increment();
        ApiError::from(error)
    })
}

/// Proposes a client's command, on the client's behalf.
pub(super) async fn propose_for<B: Backend>(
    context: &Context<B>,
    asker: Asker<'_>,
    command: Command,
) -> Result<(i64, Answer), ApiError> {
    let command = context.guard.enclose(&context.backend, asker, command).await?;
    propose(context, command).await
}

/// Proposes a command on the member's own account, so that nobody's permissions are looked at.
pub(super) async fn propose<B: Backend>(
    context: &Context<B>,
    command: Command,
) -> Result<(i64, Answer), ApiError> {
    answer(context.backend.propose(command).await?)
}

/// The revision and the answer of a reply.
fn answer(reply: Reply) -> Result<(i64, Answer), ApiError> {
    Ok((reply.revision, reply.result?))
}

/// Refuses a request that is larger than allowed, by the measure of etcd.
fn check_size<B: Backend>(context: &Context<B>, bytes: usize) -> Result<(), ApiError> {
    let wrapped = WRAPPING_BYTES + prost::length_delimiter_len(bytes) + bytes;
    if context.settings.max_request_bytes < wrapped {
        return Err(ApiError::RequestTooLarge);
    }
    Ok(())
}

/// Refuses what does not fit below the quota, and raises the alarm so that every member refuses. This
/// member's quota is looked at here alone: what is applied obeys the alarm, which is the same
/// everywhere. What adds nothing, such as a deletion, always fits.
pub(super) async fn check_quota<B: Backend>(
    context: &Context<B>,
    cost: u64,
) -> Result<(), ApiError> {
    let Context { backend, .. } = context;
    let Some(quota) = backend.quota().filter(|_| 0 < cost) else { return Ok(()) };
    let (in_use, raised) = {
        let view = backend.store().read();
        (view.size_in_use(), view.is_raised(AlarmKind::NoSpace))
    };
    if in_use.saturating_add(cost) < quota {
        return Ok(());
    }
    if !raised {
        let member = backend.status().member_id;
        tracing::warn!(in_use, quota, "the quota is used up; raising the alarm NOSPACE");
        let kind = AlarmKind::NoSpace;
        propose(context, Command::Alarm { action: AlarmAction::Activate, member, kind }).await?;
    }
    Err(ApiError::NoSpace)
}
