//! The Election service: a leader among clients, by keys that wait for their turn.

use bytes::Bytes;
use jangada_kv::{DeleteRangeRequest, KeyValue, PutRequest, RequestOp, TxnRequest};
use tonic::Status;

use super::header::header;
use super::streams::Outbound;
use super::turns::{self, Changes, Place, Turn};
use super::{Received, framing, kv};
use crate::auth::{Asker, OwnedAsker};
use crate::backend::Backend;
use crate::convert;
use crate::edge::Context;
use crate::proto::v3electionpb as pb;

/// What etcd's client says of one who does not lead, or no longer.
const NOT_LEADER: &str = "election: not leader";

/// What it says when nobody does.
const NO_LEADER: &str = "election: no leader";

/// Stands for election, and waits to be elected for as long as the client does. One who stands already
/// changes its value.
pub(crate) async fn campaign<B: Backend>(
    context: &Context<B>,
    asker: Asker<'_>,
    request: Received<pb::CampaignRequest>,
) -> Result<Bytes, Status> {
    let pb::CampaignRequest { name, lease, value } = request.message;
    let lease = turns::session(context, asker, lease).await?;
    let (turn, known) = turns::take(context, asker, &name, lease, value.clone()).await?;
    let place = Place::new(context, &turn);
    if known.is_some_and(|known| known.value != value) {
        say(context, asker, &turn, value).await?;
    }
    if !turns::wait(context, &turn).await? {
        return Err(Status::unknown(NOT_LEADER));
    }
    place.keep();
    let Turn { key, created, lease, revision, .. } = turn;
    framing::encode(&pb::CampaignResponse {
        header: Some(header(&context.backend, revision)),
        leader: Some(pb::LeaderKey { name, key, rev: created, lease }),
    })
}

/// Changes the leader's value.
pub(crate) async fn proclaim<B: Backend>(
    context: &Context<B>,
    asker: Asker<'_>,
    request: Received<pb::ProclaimRequest>,
) -> Result<Bytes, Status> {
    let pb::ProclaimRequest { leader, value } = request.message;
    let revision = say(context, asker, &turn_of(leader)?, value).await?;
    framing::encode(&pb::ProclaimResponse { header: Some(header(&context.backend, revision)) })
}

/// Gives leadership up. One who has lost it already has nothing to give up.
pub(crate) async fn resign<B: Backend>(
    context: &Context<B>,
    asker: Asker<'_>,
    request: Received<pb::ResignRequest>,
) -> Result<Bytes, Status> {
    let turn = turn_of(request.message.leader)?;
    let delete = DeleteRangeRequest { key: turn.key.clone(), ..DeleteRangeRequest::default() };
    let transaction = TxnRequest {
        compare: vec![turns::created_at(&turn.key, turn.created)],
        success: vec![RequestOp::DeleteRange(delete)],
        failure: Vec::new(),
    };
    let (revision, _) = turns::transact(context, asker, transaction).await?;
    framing::encode(&pb::ResignResponse { header: Some(header(&context.backend, revision)) })
}

/// Who leads.
pub(crate) async fn leader<B: Backend>(
    context: &Context<B>,
    asker: Asker<'_>,
    request: Received<pb::LeaderRequest>,
) -> Result<Bytes, Status> {
    kv::barrier(context).await?;
    let prefix = turns::prefix_of(&request.message.name);
    let (revision, first) = turns::first(context, asker, &prefix).await?;
    let leader = first.ok_or_else(|| Status::unknown(NO_LEADER))?;
    framing::encode(&told(context, revision, leader))
}

/// Tells who leads, and then each leader that follows and each value that one proclaims. What is over
/// before it is looked at is passed over.
pub(crate) async fn observe<B: Backend>(
    context: Context<B>,
    asker: OwnedAsker,
    request: Received<pb::LeaderRequest>,
    outbound: Outbound,
) -> Result<(), Status> {
    let prefix = turns::prefix_of(&request.message.name);
    kv::barrier(&context).await?;
    let changes = Changes::new(&context, &prefix);
    let mut last = None;
    loop {
        let (revision, first) = turns::first(&context, asker.borrow(), &prefix).await?;
        if let Some(leader) = first {
            let place = (leader.key.clone(), leader.mod_revision);
            if last.as_ref() != Some(&place) {
                outbound.send(&told(&context, revision, leader)).await?;
                last = Some(place);
            }
        }
        changes.after(revision).await?;
    }
}

fn told<B: Backend>(context: &Context<B>, revision: i64, leader: KeyValue) -> pb::LeaderResponse {
    let header = Some(header(&context.backend, revision));
    pb::LeaderResponse { header, kv: Some(convert::key_value(leader)) }
}

/// The turn that a client says it has.
fn turn_of(leader: Option<pb::LeaderKey>) -> Result<Turn, Status> {
    let missing = || Status::invalid_argument("\"leader\" field must be provided");
    let pb::LeaderKey { name, key, rev, lease } = leader.ok_or_else(missing)?;
    let prefix = turns::prefix_of(&name);
    Ok(Turn { prefix, key, created: rev, lease, revision: rev })
}

/// Writes a value, if the key is still the one that has or waits for its turn.
async fn say<B: Backend>(
    context: &Context<B>,
    asker: Asker<'_>,
    turn: &Turn,
    value: Bytes,
) -> Result<i64, Status> {
    let (key, lease) = (turn.key.clone(), turn.lease);
    let put = PutRequest { key, value, lease, ..PutRequest::default() };
    jangada_kv::check_put(&put).map_err(crate::errors::ApiError::from)?;
    let transaction = TxnRequest {
        compare: vec![turns::created_at(&turn.key, turn.created)],
        success: vec![RequestOp::Put(put)],
        failure: Vec::new(),
    };
    let (revision, answer) = turns::transact(context, asker, transaction).await?;
    if answer.succeeded { Ok(revision) } else { Err(Status::unknown(NOT_LEADER)) }
}
