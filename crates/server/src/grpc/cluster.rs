//! The Cluster service.
//!
//! Responsible for reading what is asked, for etcd's checks before anything is proposed, and for the
//! answers. The members listed are those that this member has applied; the checks use them as they
//! are, without asking anyone, so that a cluster without a quorum refuses at once, as etcd does.

use bytes::Bytes;
use http::HeaderMap;
use tonic::Status;

use super::{Received, framing, header::header};
use crate::backend::{Backend, Member};
use crate::config::{MemberId, Url};
use crate::edge::Context;
use crate::errors::ApiError;
use crate::membership::{self, Change, NewRole, Rules};
use crate::proto::etcdserverpb as pb;

/// The name of a call's metadata by which a caller of `MemberAdd` insists that the new voter counts at
/// once, before it holds the log: its value is `skip`. Until then the cluster may lack a quorum.
pub const CATCH_UP_METADATA: &str = "jangada-catch-up";

/// The members; as the whole cluster has them now, if the request says so.
pub(crate) async fn member_list<B: Backend>(
    context: &Context<B>,
    request: Received<pb::MemberListRequest>,
) -> Result<Bytes, Status> {
    if request.message.linearizable {
        context.backend.read_barrier().await.map_err(ApiError::from)?;
    }
    let (header, members) = (header(&context.backend, 0), listed(context));
    // A server that has joined may have applied what the leader had committed and still know nobody.
    if request.message.linearizable && members.is_empty() {
        return Err(ApiError::NotSupportedForLearner.into());
    }
    framing::encode(&pb::MemberListResponse { header: Some(header), members })
}

/// Another member comes: a learner, or a voter, which is a learner until it holds the log.
pub(crate) async fn member_add<B: Backend>(
    context: &Context<B>,
    metadata: &HeaderMap,
    request: Received<pb::MemberAddRequest>,
) -> Result<Bytes, Status> {
    let pb::MemberAddRequest { peer_ur_ls: mut peer_urls, is_learner } = request.message;
    let at_once = metadata.get(CATCH_UP_METADATA).is_some_and(|value| value == "skip");
    let role = match (is_learner, at_once) {
        (true, _) => NewRole::Learner,
        (false, true) => NewRole::VoterAtOnce,
        (false, false) => NewRole::Voter,
    };
    peer_urls.sort();
    let id = new_id(context, &peer_urls)?;
    change(context, Change::Add { id, peer_urls: peer_urls.clone(), role }).await?;
    let members = listed(context);
    let added = pb::Member { id, peer_ur_ls: peer_urls, is_learner, ..pb::Member::default() };
    framing::encode(&pb::MemberAddResponse {
        header: Some(header(&context.backend, 0)),
        member: Some(added),
        members,
    })
}

/// A member goes, for good: its id is never used again.
pub(crate) async fn member_remove<B: Backend>(
    context: &Context<B>,
    request: Received<pb::MemberRemoveRequest>,
) -> Result<Bytes, Status> {
    change(context, Change::Remove { id: request.message.id }).await?;
    let (header, members) = (header(&context.backend, 0), listed(context));
    framing::encode(&pb::MemberRemoveResponse { header: Some(header), members })
}

/// A member is reached elsewhere.
pub(crate) async fn member_update<B: Backend>(
    context: &Context<B>,
    request: Received<pb::MemberUpdateRequest>,
) -> Result<Bytes, Status> {
    let pb::MemberUpdateRequest { id, peer_ur_ls: mut peer_urls } = request.message;
    peer_urls.sort();
    change(context, Change::Update { id, peer_urls }).await?;
    let (header, members) = (header(&context.backend, 0), listed(context));
    framing::encode(&pb::MemberUpdateResponse { header: Some(header), members })
}

/// A learner that holds the log becomes a voter.
pub(crate) async fn member_promote<B: Backend>(
    context: &Context<B>,
    request: Received<pb::MemberPromoteRequest>,
) -> Result<Bytes, Status> {
    let promoted = change(context, Change::Promote { id: request.message.id }).await;
    context.metrics.promotions.count(promoted.as_ref().err().copied());
    promoted?;
    let (header, members) = (header(&context.backend, 0), listed(context));
    framing::encode(&pb::MemberPromoteResponse { header: Some(header), members })
}

async fn change<B: Backend>(context: &Context<B>, change: Change) -> Result<(), ApiError> {
    let Context { backend, settings, .. } = context;
    let rules = Rules { strict: settings.strict_reconfig, learners_max: settings.learners_max };
    membership::check(&change, backend.status().member_id, &backend.members(), rules)?;
    backend.change_members(change).await
}

/// An id that no member of this cluster has had: made from the URLs, as etcd's, and from the place in
/// the log up to which this member has applied, where etcd takes the time of day.
fn new_id<B: Backend>(context: &Context<B>, peer_urls: &[String]) -> Result<u64, ApiError> {
    let urls: Result<Vec<Url>, _> = peer_urls.iter().map(|url| url.parse()).collect();
    let urls = urls.map_err(|_| ApiError::MemberBadUrls)?;
    let status = context.backend.status();
    Ok(MemberId::of_later_member(&urls, status.member_id, status.applied_index).0)
}

fn listed<B: Backend>(context: &Context<B>) -> Vec<pb::Member> {
    context.backend.members().into_iter().map(member).collect()
}

fn member(member: Member) -> pb::Member {
    pb::Member {
        id: member.id,
        name: member.name,
        peer_ur_ls: member.peer_urls,
        client_ur_ls: member.client_urls,
        is_learner: member.is_learner,
    }
}
