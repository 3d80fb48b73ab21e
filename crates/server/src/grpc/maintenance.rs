//! The Maintenance service: this member's state, the alarms, who leads, hashes.

use bytes::Bytes;
use jangada_kv::auth::Access;
use jangada_kv::{Alarm, AlarmAction as Action, AlarmKind, Answer, Command};
use tonic::Status;

use super::{Received, framing, header::header, kv};
use crate::auth::Asker;
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

/// Shows, raises or ends alarms. To end those of member 0 is to end those of every member; an alarm
/// without a kind is none to raise or end, as in etcd.
pub(crate) async fn alarm<B: Backend>(
    context: &Context<B>,
    asker: Asker<'_>,
    request: Received<pb::AlarmRequest>,
) -> Result<Bytes, Status> {
    let request = request.message;
    let action = match request.action() {
        AlarmAction::Get => None,
        AlarmAction::Activate => Some(Action::Activate),
        AlarmAction::Deactivate => Some(Action::Deactivate),
    };
    let kind = match request.alarm() {
        pb::AlarmType::None => None,
        pb::AlarmType::Nospace => Some(AlarmKind::NoSpace),
        pb::AlarmType::Corrupt => Some(AlarmKind::Corrupt),
    };
    // Everybody may look who says who he is; what the log takes is judged there too.
    let access = if action.is_none() { Access::Known } else { Access::Root };
    context.guard.judge(&context.backend, asker, access).await?;
    let (revision, alarms) = match (action, kind) {
        (None, kind) => raised(context, request.member_id, kind).await?,
        (Some(action), Some(kind)) => {
            let command = Command::Alarm { action, member: request.member_id, kind };
            let (revision, answer) = kv::propose_for(context, asker, command).await?;
            let Answer::Alarm(alarms) = answer else {
                panic!("an alarm's change is answered as one")
            };
            (revision, alarms)
        }
        (Some(_), None) => {
            kv::barrier(context).await?;
            (context.backend.store().read().revision(), Vec::new())
        }
    };
    let alarms = alarms.into_iter().map(|alarm| pb::AlarmMember {
        member_id: alarm.member,
        alarm: alarm_type(alarm.kind) as i32,
    });
    framing::encode(&pb::AlarmResponse {
        header: Some(header(&context.backend, revision)),
        alarms: alarms.collect(),
    })
}

/// The alarms that are raised about a member (0: any) of a kind (none: any).
async fn raised<B: Backend>(
    context: &Context<B>,
    member: u64,
    kind: Option<AlarmKind>,
) -> Result<(i64, Vec<Alarm>), ApiError> {
    kv::barrier(context).await?;
    let view = context.backend.store().read();
    let wanted = |alarm: &Alarm| {
        (member == 0 || alarm.member == member) && kind.is_none_or(|kind| alarm.kind == kind)
    };
    Ok((view.revision(), view.alarms().into_iter().filter(wanted).collect()))
}

/// Hands leadership over to another voter. Only the leader does.
pub(crate) async fn move_leader<B: Backend>(
    context: &Context<B>,
    request: Received<pb::MoveLeaderRequest>,
) -> Result<Bytes, Status> {
    let (backend, to) = (&context.backend, request.message.target_id);
    let status = backend.status();
    if status.leader != Some(status.member_id) {
        return Err(ApiError::NotLeader.into());
    }
    if !backend.members().iter().any(|member| member.id == to && !member.is_learner) {
        return Err(ApiError::BadLeaderTransferee.into());
    }
    if to != status.member_id {
        backend.transfer_leadership(to).await?;
    }
    // etcd's has no header.
    framing::encode(&pb::MoveLeaderResponse { header: None })
}

/// Hashes the rows of this member up to a revision, as they are: no other member is asked.
pub(crate) async fn hash_kv<B: Backend>(
    context: &Context<B>,
    request: Received<pb::HashKvRequest>,
) -> Result<Bytes, Status> {
    let revision = request.message.revision;
    let hashed = context.backend.beside(move |store| store.hash_kv(revision)).await;
    let hashed = hashed.map_err(ApiError::from)?;
    framing::encode(&pb::HashKvResponse {
        header: Some(header(&context.backend, hashed.revision)),
        hash: hashed.hash,
        compact_revision: hashed.compact_revision,
        hash_revision: hashed.hash_revision,
    })
}

/// Hashes everything that this member holds durably, as etcd's tests ask for it.
pub(crate) async fn hash<B: Backend>(
    context: &Context<B>,
    _: Received<pb::HashRequest>,
) -> Result<Bytes, Status> {
    let exported = context.backend.export().await?;
    let revision = exported.state.revision();
    let hashed = context.backend.beside(move |_| crate::etcd_file::hash(&exported)).await;
    let hash = hashed.map_err(|_| ApiError::Corrupt)?;
    framing::encode(&pb::HashResponse { header: Some(header(&context.backend, revision)), hash })
}

/// What etcd's users do to get space back. The engine uses the pages of removed rows again by itself,
/// once what removed them is committed; so that is hastened, and nobody waits.
pub(crate) fn defragment<B: Backend>(
    context: &Context<B>,
    _: Received<pb::DefragmentRequest>,
) -> Result<Bytes, Status> {
    context.backend.store().commit_soon(context.backend.status().applied_index);
    // etcd's has no header.
    framing::encode(&pb::DefragmentResponse { header: None })
}

/// Judges the target of a downgrade as etcd does. A target that etcd would go to is refused with a
/// sentence, for no other version of the program could read what this one has written. So none is ever
/// in progress.
pub(crate) async fn downgrade<B: Backend>(
    context: &Context<B>,
    request: Received<pb::DowngradeRequest>,
) -> Result<Bytes, Status> {
    use pb::downgrade_request::DowngradeAction;
    let request = request.message;
    let action = DowngradeAction::try_from(request.action)
        .map_err(|_| crate::errors::unknown_downgrade_action())?;
    if action == DowngradeAction::Cancel {
        // etcd 3.6 answers a success, whether there was one or not.
        kv::barrier(context).await?;
        let revision = context.backend.store().read().revision();
        return framing::encode(&pb::DowngradeResponse {
            header: Some(header(&context.backend, revision)),
            version: context.settings.version.cluster_minor(),
        });
    }
    let target = minor_of(&request.version).ok_or(ApiError::DowngradeVersionFormat)?;
    kv::barrier(context).await?;
    let cluster = minor_of(&context.settings.version.cluster).expect("settings name a version");
    if cluster.1.checked_sub(1).map(|minor| (cluster.0, minor)) != Some(target) {
        return Err(ApiError::DowngradeVersionInvalid.into());
    }
    Err(crate::errors::no_downgrade(&request.version))
}

/// The first two numbers of a version of two or three.
fn minor_of(version: &str) -> Option<(u32, u32)> {
    let numbers: Option<Vec<u32>> = version.split('.').map(|part| part.parse().ok()).collect();
    match numbers?.as_slice() {
        [major, minor] | [major, minor, _] => Some((*major, *minor)),
        _ => None,
    }
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
