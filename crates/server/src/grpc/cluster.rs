//! The Cluster service.

use bytes::Bytes;
use tonic::Status;

use super::{Received, framing, header::header};
use crate::backend::{Backend, Member};
use crate::edge::Context;
use crate::errors::ApiError;
use crate::proto::etcdserverpb as pb;

/// The members; as the whole cluster has them now, if the request says so.
pub(crate) async fn member_list<B: Backend>(
    context: &Context<B>,
    request: Received<pb::MemberListRequest>,
) -> Result<Bytes, Status> {
    if request.message.linearizable {
        context.backend.read_barrier().await.map_err(ApiError::from)?;
    }
    let members = context.backend.members().into_iter().map(member).collect();
    let header = header(&context.backend, 0);
    framing::encode(&pb::MemberListResponse { header: Some(header), members })
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
