//! The Lock service: mutual exclusion by keys that wait for their turn.
//!
//! A lock is no more than a turn that may end without its holder's knowledge, when the lease runs out:
//! what must not happen twice is to be fenced by the key's create revision
//! (`docs/locks-and-elections.md`).

use bytes::Bytes;
use jangada_kv::{Answer, Command, DeleteRangeRequest};
use tonic::Status;

use super::header::header;
use super::turns::{self, Place};
use super::{Received, framing, kv};
use crate::auth::Asker;
use crate::backend::Backend;
use crate::edge::Context;
use crate::proto::v3lockpb as pb;

/// What etcd's client says when its lease ran out while it waited.
const SESSION_EXPIRED: &str = "mutex: session is expired";

/// Waits for the lock, for as long as the client does.
pub(crate) async fn lock<B: Backend>(
    context: &Context<B>,
    asker: Asker<'_>,
    request: Received<pb::LockRequest>,
) -> Result<Bytes, Status> {
    let pb::LockRequest { name, lease } = request.message;
    let lease = turns::session(context, asker, lease).await?;
    let (turn, _) = turns::take(context, asker, &name, lease, Bytes::new()).await?;
    let place = Place::new(context, &turn);
    if !turns::wait(context, &turn).await? {
        return Err(Status::unknown(SESSION_EXPIRED));
    }
    place.keep();
    let revision = context.backend.store().read().revision();
    framing::encode(&pb::LockResponse {
        header: Some(header(&context.backend, revision)),
        key: turn.key,
    })
}

/// Deletes the key of a lock, whoever holds it, as etcd does.
pub(crate) async fn unlock<B: Backend>(
    context: &Context<B>,
    asker: Asker<'_>,
    request: Received<pb::UnlockRequest>,
) -> Result<Bytes, Status> {
    let delete = DeleteRangeRequest { key: request.message.key, ..DeleteRangeRequest::default() };
    jangada_kv::check_delete(&delete).map_err(crate::errors::ApiError::from)?;
    let (revision, answer) = kv::propose_for(context, asker, Command::DeleteRange(delete)).await?;
    assert!(matches!(answer, Answer::DeleteRange(_)), "a deletion is answered as a deletion");
    framing::encode(&pb::UnlockResponse { header: Some(header(&context.backend, revision)) })
}
