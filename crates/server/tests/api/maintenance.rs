//! The Maintenance service.

use jangada_kv::{AlarmAction as Action, AlarmKind, Command};
use jangada_server::Settings;
use jangada_server::backend::{Backend, RequestError};
use jangada_server::errors::ApiError;
use jangada_server::proto::etcdserverpb as pb;
use jangada_server::settings::Versions;
use pb::alarm_request::AlarmAction;
use pb::maintenance_client::MaintenanceClient;

use crate::support::{CLUSTER_ID, MEMBER_ID, Server, TERM, assert_refused, bytes};

fn raise(member: u64, kind: AlarmKind) -> Command {
    Command::Alarm { action: Action::Activate, member, kind }
}

#[tokio::test]
async fn status_tells_where_the_member_stands() {
    let version = Versions::compatible_with("3.6.5");
    let server = Server::with(Settings { version, ..Settings::default() }).await;
    let mut maintenance = MaintenanceClient::new(server.channel().await);
    server.fake.apply(&Command::Member(Default::default()));
    let status = maintenance.status(pb::StatusRequest {}).await.expect("it is served").into_inner();
    let header = pb::ResponseHeader {
        cluster_id: CLUSTER_ID,
        member_id: MEMBER_ID,
        revision: 1,
        raft_term: TERM,
    };
    let expected = pb::StatusResponse {
        header: Some(header),
        version: "3.6.5".to_owned(),
        db_size: 4096,
        leader: MEMBER_ID,
        raft_index: 2,
        raft_term: TERM,
        raft_applied_index: 1,
        errors: vec![],
        db_size_in_use: 1024,
        is_learner: false,
        storage_version: "3.6.0".to_owned(),
        db_size_quota: 2 << 30,
        downgrade_info: Some(pb::DowngradeInfo::default()),
    };
    assert_eq!(status, expected);
}

#[tokio::test]
async fn status_tells_what_is_wrong_even_without_a_leader() {
    let server = Server::start().await;
    let mut maintenance = MaintenanceClient::new(server.channel().await);
    server.fake.script(|script| {
        script.leader = None;
        script.is_learner = true;
        script.barriers = Some(RequestError::NoLeader);
    });
    server.fake.apply(&raise(255, AlarmKind::NoSpace));
    let status = maintenance.status(pb::StatusRequest {}).await.expect("it is served").into_inner();
    assert_eq!((status.leader, status.is_learner), (0, true));
    assert_eq!(status.errors, ["etcdserver: no leader", "memberID:255 alarm:NOSPACE "]);
}

#[tokio::test]
async fn alarms_are_listed_and_filtered() {
    let server = Server::start().await;
    let mut maintenance = MaintenanceClient::new(server.channel().await);
    for command in [raise(1, AlarmKind::NoSpace), raise(2, AlarmKind::Corrupt)] {
        server.fake.apply(&command);
    }
    let one = pb::AlarmMember { member_id: 1, alarm: pb::AlarmType::Nospace.into() };
    let two = pb::AlarmMember { member_id: 2, alarm: pb::AlarmType::Corrupt.into() };
    let cases = [
        (0, pb::AlarmType::None, vec![one, two]),
        (2, pb::AlarmType::None, vec![two]),
        (0, pb::AlarmType::Nospace, vec![one]),
        (2, pb::AlarmType::Nospace, vec![]),
    ];
    for (member_id, alarm, expected) in cases {
        let request =
            pb::AlarmRequest { action: AlarmAction::Get.into(), member_id, alarm: alarm.into() };
        let answer = maintenance.alarm(request).await.expect("it is served").into_inner();
        assert_eq!(answer.alarms, expected, "{member_id} {alarm:?}");
        assert_eq!(answer.header.expect("it has a header").member_id, MEMBER_ID);
    }
    server.fake.script(|script| script.barriers = Some(RequestError::Timeout));
    assert_refused(maintenance.alarm(pb::AlarmRequest::default()).await, ApiError::Timeout);
}

fn change(action: AlarmAction, member_id: u64, alarm: pb::AlarmType) -> pb::AlarmRequest {
    pb::AlarmRequest { action: action.into(), member_id, alarm: alarm.into() }
}

#[tokio::test]
async fn alarms_are_raised_and_ended() {
    use AlarmAction::{Activate, Deactivate};
    use pb::AlarmType::{Corrupt, None as NoKind, Nospace};
    let server = Server::start().await;
    let mut maintenance = MaintenanceClient::new(server.channel().await);
    let alarm = |member_id, kind: pb::AlarmType| pb::AlarmMember { member_id, alarm: kind.into() };
    let (one, two) = (alarm(1, Nospace), alarm(2, Nospace));
    let cases = [
        (change(Activate, 1, NoKind), vec![]),
        (change(Activate, 1, Nospace), vec![one]),
        (change(Activate, 1, Nospace), vec![one]),
        (change(Activate, 2, Nospace), vec![two]),
        (change(Deactivate, 1, Corrupt), vec![]),
        (change(Deactivate, 3, Nospace), vec![]),
        (change(Deactivate, 1, Nospace), vec![one]),
        (change(Deactivate, 1, Nospace), vec![]),
        (change(Activate, 1, Nospace), vec![one]),
        (change(Deactivate, 0, Nospace), vec![one, two]),
        (change(Deactivate, 0, NoKind), vec![]),
    ];
    for (request, expected) in cases {
        let answer = maintenance.alarm(request).await.expect("it is served").into_inner();
        assert_eq!(answer.alarms, expected, "{request:?}");
    }
    assert!(server.fake.store().read().alarms().is_empty());
}

#[tokio::test]
async fn the_quota_raises_the_alarm_and_deletions_pass() {
    let server = Server::start().await;
    let (mut kv, mut maintenance) =
        (server.kv().await, MaintenanceClient::new(server.channel().await));
    server.fake.script(|script| script.quota = Some(2000));
    let put = |value: usize| pb::PutRequest {
        key: bytes("k"),
        value: vec![b'.'; value].into(),
        ..pb::PutRequest::default()
    };
    kv.put(put(100)).await.expect("it fits");
    let refused = kv.put(put(2000)).await;
    assert_refused(refused, ApiError::NoSpace);
    let raised = maintenance.alarm(pb::AlarmRequest::default()).await.expect("it is served");
    let expected = pb::AlarmMember { member_id: MEMBER_ID, alarm: pb::AlarmType::Nospace.into() };
    assert_eq!(raised.into_inner().alarms, [expected]);
    assert_refused(kv.put(put(1)).await, ApiError::NoSpace);
    let txn = pb::TxnRequest {
        success: vec![pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put(1))) }],
        ..pb::TxnRequest::default()
    };
    assert_refused(kv.txn(txn.clone()).await, ApiError::NoSpace);
    let delete = pb::DeleteRangeRequest { key: bytes("k"), ..pb::DeleteRangeRequest::default() };
    kv.delete_range(delete).await.expect("a deletion always passes");
    let health = server.get("/health").await;
    assert_eq!((health.status, health.body.contains("ALARM NOSPACE")), (503, true));
    maintenance
        .alarm(change(AlarmAction::Deactivate, 0, pb::AlarmType::Nospace))
        .await
        .expect("it is served");
    kv.txn(txn).await.expect("it fits");
    server.fake.script(|script| script.quota = None);
    kv.put(put(100_000)).await.expect("there is no quota");
}

async fn put(server: &Server, key: &str, value: &str) {
    let request = pb::PutRequest { key: bytes(key), value: bytes(value), ..Default::default() };
    server.kv().await.put(request).await.expect("it is served");
}

#[tokio::test]
async fn hashes_tell_states_and_revisions_apart() {
    let (one, two) = (Server::start().await, Server::start().await);
    let mut of_one = MaintenanceClient::new(one.channel().await);
    let mut of_two = MaintenanceClient::new(two.channel().await);
    for server in [&one, &two] {
        put(server, "a", "1").await;
        put(server, "b", "2").await;
    }
    let at = |revision| pb::HashKvRequest { revision };
    let first = of_one.hash_kv(at(0)).await.expect("it is served").into_inner();
    let figures = |answer: &pb::HashKvResponse| {
        let revision = answer.header.expect("it has a header").revision;
        (revision, answer.compact_revision, answer.hash_revision)
    };
    assert_eq!(figures(&first), (3, -1, 3));
    assert_eq!(of_two.hash_kv(at(0)).await.expect("it is served").into_inner(), first);
    put(&one, "a", "3").await;
    put(&two, "a", "4").await;
    let then = of_one.hash_kv(at(3)).await.expect("it is served").into_inner();
    assert_eq!((then.hash, figures(&then)), (first.hash, (4, -1, 3)));
    let of_one_now = of_one.hash_kv(at(0)).await.expect("it is served").into_inner();
    let of_two_now = of_two.hash_kv(at(0)).await.expect("it is served").into_inner();
    assert_ne!(of_one_now.hash, of_two_now.hash);
    one.fake.apply(&Command::Compact { revision: 4, physical: false });
    assert_refused(of_one.hash_kv(at(3)).await, ApiError::Compacted);
    assert_refused(of_one.hash_kv(at(5)).await, ApiError::FutureRevision);
}

#[tokio::test]
async fn a_defragmentation_succeeds_at_once() {
    let server = Server::start().await;
    server.fake.script(|script| script.barriers = Some(RequestError::NoLeader));
    let mut maintenance = MaintenanceClient::new(server.channel().await);
    let answer = maintenance.defragment(pb::DefragmentRequest {}).await.expect("it is served");
    assert_eq!(answer.into_inner().header, None);
    server.fake.script(|script| script.is_learner = true);
    let refused = maintenance.defragment(pb::DefragmentRequest {}).await;
    assert_refused(refused, ApiError::NotSupportedForLearner);
}

#[tokio::test]
async fn downgrades_are_judged_as_in_etcd_and_not_made() {
    use pb::downgrade_request::DowngradeAction::{Cancel, Enable, Validate};
    let version = Versions::compatible_with("3.6.5");
    let server = Server::with(Settings { version, ..Settings::default() }).await;
    let mut maintenance = MaintenanceClient::new(server.channel().await);
    for action in [Validate, Enable] {
        let to = |version: &str| pb::DowngradeRequest {
            action: action.into(),
            version: version.to_owned(),
        };
        for bad in ["", "3", "new", "3.5.0.1", "v3.5"] {
            assert_refused(maintenance.downgrade(to(bad)).await, ApiError::DowngradeVersionFormat);
        }
        for wrong in ["3.6.0", "3.4", "3.7.0", "2.5"] {
            let refused = maintenance.downgrade(to(wrong)).await;
            assert_refused(refused, ApiError::DowngradeVersionInvalid);
        }
        let refused = maintenance.downgrade(to("3.5.0")).await.expect_err("there is no downgrade");
        assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
        assert!(refused.message().contains("snapshot"), "{}", refused.message());
    }
    let cancel = pb::DowngradeRequest { action: Cancel.into(), version: String::new() };
    let answer = maintenance.downgrade(cancel).await.expect("as in etcd").into_inner();
    assert_eq!((answer.version.as_str(), answer.header.is_some()), ("3.6", true));
    let unknown = pb::DowngradeRequest { action: 7, version: String::new() };
    let refused = maintenance.downgrade(unknown).await.expect_err("there is no such action");
    assert_eq!(refused.message(), "etcdserver: unknown method");
}
