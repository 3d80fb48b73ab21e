//! Keys that wait for their turn: what locks and elections have in common.
//!
//! Whoever wants a turn writes a key of its own under a common prefix, held by its lease. The turn is
//! that of the key that was created first; the next one comes when that key is gone, because it was
//! deleted or because its lease is over. The layout is etcd's (its Go client's package `concurrency`),
//! so that its clients and these services queue with one another:
//!
//! ```text
//!   NAME/LEASE   the lease's id in hexadecimal; ordered by create revision
//! ```
//!
//! The create revision of the key that has its turn is a fencing token: it is greater than that of
//! every turn before, and a transaction that compares it does nothing once the turn is over.

use std::task::Poll;

use bytes::Bytes;
use jangada_kv::auth::Access;
use jangada_kv::{
    Answer, Command, Compare, CompareResult, CompareTarget, DeleteRangeRequest, KeyValue,
    PutRequest, RangeRequest, RequestOp, ResponseOp, SortOrder, SortTarget, TxnRequest,
    TxnResponse,
};

use super::{kv, lease};
use crate::auth::Asker;
use crate::backend::Backend;
use crate::edge::Context;
use crate::errors::ApiError;

/// The seconds of a lease that is made for one who has none. Nobody keeps it alive.
const SESSION_TTL: i64 = 60;

/// A key that waits for its turn or has it.
#[derive(Clone, Debug)]
pub(super) struct Turn {
    /// The common prefix.
    pub(super) prefix: Bytes,
    /// The key.
    pub(super) key: Bytes,
    /// Its create revision.
    pub(super) created: i64,
    /// The lease that holds it.
    pub(super) lease: i64,
    /// The revision as of which it was taken.
    pub(super) revision: i64,
}

/// The prefix under a name.
pub(super) fn prefix_of(name: &[u8]) -> Bytes {
    [name, b"/"].concat().into()
}

/// The lease given, or one that is made.
pub(super) async fn session<B: Backend>(
    context: &Context<B>,
    asker: Asker<'_>,
    lease: i64,
) -> Result<i64, ApiError> {
    if lease != 0 {
        return Ok(lease);
    }
    let (_, granted) = lease::granted(context, asker, 0, SESSION_TTL).await?;
    Ok(granted.name.id)
}

/// Writes the key of a lease under a name, unless it is there; answers it, and what it had before if it
/// was.
pub(super) async fn take<B: Backend>(
    context: &Context<B>,
    asker: Asker<'_>,
    name: &[u8],
    lease: i64,
    value: Bytes,
) -> Result<(Turn, Option<KeyValue>), ApiError> {
    let prefix = prefix_of(name);
    let key: Bytes = [&prefix[..], hexadecimal(lease).as_bytes()].concat().into();
    let put = PutRequest { key: key.clone(), value, lease, ..PutRequest::default() };
    let known = RangeRequest { key: key.clone(), ..RangeRequest::default() };
    let transaction = TxnRequest {
        compare: vec![created_at(&key, 0)],
        success: vec![RequestOp::Put(put)],
        failure: vec![RequestOp::Range(known)],
    };
    // To wait for the others' keys is to see them.
    let access = Access::Read(&prefix, &end_of(&prefix));
    context.guard.judge(&context.backend, asker, access).await?;
    let (revision, answer) = transact(context, asker, transaction).await?;
    let mut turn = Turn { prefix, key, created: revision, lease, revision };
    if answer.succeeded {
        return Ok((turn, None));
    }
    let Some(ResponseOp::Range(range)) = answer.responses.into_iter().next() else {
        panic!("a range is answered as a range")
    };
    let known = range.kvs.into_iter().next().expect("a key that was created is there");
    turn.created = known.create_revision;
    Ok((turn, Some(known)))
}

/// Writes and reads as a client would.
pub(super) async fn transact<B: Backend>(
    context: &Context<B>,
    asker: Asker<'_>,
    transaction: TxnRequest,
) -> Result<(i64, TxnResponse), ApiError> {
    let command = Command::Txn(transaction);
    kv::check_quota(context, jangada_kv::cost(&command)).await?;
    match kv::propose_for(context, asker, command).await? {
        (revision, Answer::Txn(response)) => Ok((revision, response)),
        (_, other) => panic!("a transaction is answered as one, not by {other:?}"),
    }
}

/// The condition that a key was created at this revision; 0 if it is not there.
pub(super) fn created_at(key: &Bytes, revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal,
        target: CompareTarget::Create(revision),
        key: key.clone(),
        range_end: Bytes::new(),
    }
}

/// The key under a prefix that was created first: whose turn it is. Answers the revision looked at
/// too.
pub(super) async fn first<B: Backend>(
    context: &Context<B>,
    asker: Asker<'_>,
    prefix: &Bytes,
) -> Result<(i64, Option<KeyValue>), ApiError> {
    let range = RangeRequest {
        key: prefix.clone(),
        range_end: end_of(prefix),
        limit: 1,
        sort_order: SortOrder::Ascend,
        sort_target: SortTarget::Create,
        ..RangeRequest::default()
    };
    let access = Access::Read(&range.key, &range.range_end);
    let judged = context.guard.judge(&context.backend, asker, access).await?;
    let store = context.backend.store();
    let (revision, response) = store.range(&range);
    let first = response?.kvs.into_iter().next();
    judged.still_holds(store)?;
    Ok((revision, first))
}

/// Waits until no key under the prefix is older. Answers whether the key is still there then; it is not
/// waited for once it is gone.
pub(super) async fn wait<B: Backend>(context: &Context<B>, turn: &Turn) -> Result<bool, ApiError> {
    let store = context.backend.store();
    let changes = Changes::new(context, &turn.prefix);
    loop {
        // What this member has applied is committed: a key that is gone here is gone.
        let own = RangeRequest { key: turn.key.clone(), ..RangeRequest::default() };
        let (revision, own) = store.range(&own);
        if own?.kvs.first().is_none_or(|kv| kv.create_revision != turn.created) {
            return Ok(false);
        }
        let older = RangeRequest {
            key: turn.prefix.clone(),
            range_end: end_of(&turn.prefix),
            max_create_revision: turn.created - 1,
            keys_only: true,
            limit: 1,
            sort_target: SortTarget::Create,
            sort_order: SortOrder::Descend,
            ..RangeRequest::default()
        };
        if store.range(&older).1?.kvs.is_empty() {
            return Ok(true);
        }
        changes.after(revision).await?;
    }
}

/// Tells when something changes under a prefix.
pub(super) struct Changes<'a, B> {
    context: &'a Context<B>,
    under: jangada_kv::Changes,
}

impl<'a, B: Backend> Changes<'a, B> {
    pub(super) fn new(context: &'a Context<B>, prefix: &Bytes) -> Changes<'a, B> {
        let store = context.backend.store();
        Changes { context, under: jangada_kv::Changes::new(store, prefix, &end_of(prefix)) }
    }

    /// Resolves once there may be something under the prefix that a look at this revision has not seen.
    ///
    /// # Errors
    /// The member serves nobody any more.
    pub(super) async fn after(&self, seen: i64) -> Result<(), ApiError> {
        let store = self.context.backend.store();
        let mut ended = self.context.serving.watch();
        let mut slept = false;
        std::future::poll_fn(|task| {
            if let Poll::Ready(reason) = ended.poll(task) {
                return Poll::Ready(Err(reason));
            }
            let woken = std::mem::replace(&mut slept, true);
            self.under.arm(task.waker());
            if woken || store.read().revision() != seen {
                Poll::Ready(Ok(()))
            } else {
                Poll::Pending
            }
        })
        .await
    }
}

/// The command that gives a turn up, or the place in the queue.
fn giving_up(turn: &Turn) -> Command {
    let delete = DeleteRangeRequest { key: turn.key.clone(), ..DeleteRangeRequest::default() };
    Command::Txn(TxnRequest {
        compare: vec![created_at(&turn.key, turn.created)],
        success: vec![RequestOp::DeleteRange(delete)],
        failure: Vec::new(),
    })
}

/// Gives a place up when it is dropped: its client has gone while it waited, or was refused.
pub(super) struct Place<'a, B: Backend> {
    context: &'a Context<B>,
    turn: Option<Turn>,
}

impl<'a, B: Backend> Place<'a, B> {
    pub(super) fn new(context: &'a Context<B>, turn: &Turn) -> Place<'a, B> {
        Place { context, turn: Some(turn.clone()) }
    }

    /// The client has its turn, and it is its own to give up.
    pub(super) fn keep(mut self) {
        self.turn = None;
    }
}

impl<B: Backend> Drop for Place<'_, B> {
    fn drop(&mut self) {
        if let Some(turn) = self.turn.take() {
            let backend = self.context.backend.clone();
            // Should it be lost, the lease's end does the same.
            tokio::spawn(async move { backend.propose(giving_up(&turn)).await });
        }
    }
}

/// As Go writes a number.
fn hexadecimal(lease: i64) -> String {
    let sign = if lease < 0 { "-" } else { "" };
    format!("{sign}{:x}", lease.unsigned_abs())
}

/// One past the last key with this prefix, which ends in a slash.
fn end_of(prefix: &Bytes) -> Bytes {
    let mut end = prefix.to_vec();
    *end.last_mut().expect("a prefix ends in a slash") = b'/' + 1;
    end.into()
}
