//! The Maintenance service: this member's state and the alarms.

use bytes::Bytes;
use jangada_kv::AlarmKind;
use tonic::Status;

use super::{Received, framing, header::header, kv};
use crate::backend::Backend;
use crate::edge::Context;
use crate::errors::ApiError;
use crate::proto::etcdserverpb as pb;
use pb::alarm_request::AlarmAction;

/// The state of this member, as it is: no other member is asked.
pub(crate) fn status<B: Backend>(
    context: &Context<B>,
    _: Received<pb::StatusRequest>,
) -> Result<Bytes, Status> {
    let status = context.backend.status();
    let sizes = context.backend.sizes();
    let (revision, alarms) = {
        let view = context.backend.store().read();
        (view.revision(), view.alarms())
    };
    let mut errors = Vec::new();
    if status.leader.is_none() {
        errors.push(ApiError::NoLeader.text().to_owned());
    }
    // The space at the end is etcd's, which prints a message of its protocol here.
    errors.extend(alarms.into_iter().map(|alarm| {
        format!("memberID:{} alarm:{} ", alarm.member, alarm_type(alarm.kind).as_str_name())
    }));
    let version = &context.settings.version;
    framing::encode(&pb::StatusResponse {
        header: Some(header(&context.backend, revision)),
        version: version.server.clone(),
        db_size: signed(sizes.allocated),
        leader: status.leader.unwrap_or_default(),
        raft_index: status.commit_index,
        raft_term: status.term,
        raft_applied_index: status.applied_index,
        errors,
        db_size_in_use: signed(sizes.in_use),
        is_learner: status.is_learner,
        storage_version: version.storage.clone(),
        db_size_quota: signed(sizes.quota),
        downgrade_info: Some(pb::DowngradeInfo::default()),
    })
}

/// The alarms that are raised. Raising and ending them is not served.
pub(crate) async fn alarm<B: Backend>(
    context: &Context<B>,
    request: Received<pb::AlarmRequest>,
) -> Result<Bytes, Status> {
    let request = request.message;
    if request.action() != AlarmAction::Get {
        return Err(Status::unimplemented(
            "raising and ending alarms is not served by this version",
        ));
    }
    kv::barrier(context).await?;
    let (revision, alarms) = {
        let view = context.backend.store().read();
        (view.revision(), view.alarms())
    };
    let wanted = |member: u64, kind: i32| {
        (request.member_id == 0 || request.member_id == member)
            && (request.alarm == pb::AlarmType::None as i32 || request.alarm == kind)
    };
    let alarms = alarms
        .into_iter()
        .map(|alarm| (alarm.member, alarm_type(alarm.kind) as i32))
        .filter(|(member, kind)| wanted(*member, *kind))
        .map(|(member_id, alarm)| pb::AlarmMember { member_id, alarm })
        .collect();
    framing::encode(&pb::AlarmResponse { header: Some(header(&context.backend, revision)), alarms })
}

/// The alarm's name on the wire.
fn alarm_type(kind: AlarmKind) -> pb::AlarmType {
    match kind {
        AlarmKind::NoSpace => pb::AlarmType::Nospace,
        AlarmKind::Corrupt => pb::AlarmType::Corrupt,
    }
}

/// The wire's sizes are signed; beyond half of what an unsigned one holds they stay at the top.
fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
