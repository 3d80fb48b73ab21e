//! Changes of the membership, and who leads.

use jangada_server::Settings;
use jangada_server::backend::Connection;
use jangada_server::errors::ApiError;
use jangada_server::membership::{Change, NewRole};
use jangada_server::proto::etcdserverpb as pb;
use pb::cluster_client::ClusterClient;
use pb::maintenance_client::MaintenanceClient;
use tonic::Request;
use tonic::transport::Channel;

use crate::support::{MEMBER_ID, Server, assert_refused, member};

const URL: &str = "http://localhost:32380";

fn urls(urls: &[&str]) -> Vec<String> {
    urls.iter().map(|url| (*url).to_owned()).collect()
}

fn add(peer_urls: &[&str], is_learner: bool) -> pb::MemberAddRequest {
    pb::MemberAddRequest { peer_ur_ls: urls(peer_urls), is_learner }
}

fn update(id: u64, peer_urls: &[&str]) -> pb::MemberUpdateRequest {
    pb::MemberUpdateRequest { id, peer_ur_ls: urls(peer_urls) }
}

/// A server of one voter and one learner, and a client of its Cluster service.
async fn started() -> (Server, ClusterClient<Channel>) {
    let server = Server::start().await;
    let cluster = ClusterClient::new(server.channel().await);
    (server, cluster)
}

#[tokio::test]
async fn a_voter_is_added_to_catch_up_first_unless_the_caller_insists() {
    let (server, mut cluster) = started().await;
    let request = add(&["http://localhost:42380", URL], false);
    let answer = cluster.member_add(request).await.expect("it is served").into_inner();
    let added = answer.member.expect("the new member is named");
    assert_eq!(added.peer_ur_ls, [URL, "http://localhost:42380"], "sorted, as in etcd");
    assert_eq!((added.name.as_str(), added.is_learner), ("", false));
    assert_eq!(answer.header.expect("it has a header").revision, 0);
    assert!(answer.members.contains(&added), "{:?}", answer.members);

    server.fake.set_members(|members| members[2].name = "three".to_owned());
    let mut request = Request::new(add(&["http://localhost:5"], false));
    request.metadata_mut().insert("jangada-catch-up", "skip".parse().expect("ASCII"));
    server.fake.set_members(|members| members[2].connection = Connection::Lasting);
    let answer = cluster.member_add(request).await.expect("it is served").into_inner();
    let insisted = answer.member.expect("the new member is named");
    assert_ne!(insisted.id, added.id);

    let role = |change: &Change| match change {
        Change::Add { id, role, .. } => Some((*id, *role)),
        _ => None,
    };
    let roles: Vec<_> = server.fake.changes().iter().filter_map(role).collect();
    assert_eq!(roles, [(added.id, NewRole::Voter), (insisted.id, NewRole::VoterAtOnce)]);
}

#[tokio::test]
async fn bad_additions_are_refused_as_in_etcd() {
    let (server, mut cluster) = started().await;
    for bad in [&[][..], &["localhost:1"], &["http://localhost"], &["x"]] {
        assert_refused(cluster.member_add(add(bad, false)).await, ApiError::MemberBadUrls);
    }
    let taken = add(&["http://localhost:2380"], false);
    assert_refused(cluster.member_add(taken).await, ApiError::PeerUrlsExist);
    assert_refused(cluster.member_add(add(&[URL], true)).await, ApiError::TooManyLearners);
    server.fake.set_members(|members| members[0] = unstarted(1));
    let status = cluster.member_add(add(&[URL], false)).await.expect_err("too few have started");
    assert_eq!(status.message(), ApiError::MemberNotEnoughStarted.text());
    assert_eq!(status.code(), tonic::Code::Unknown, "etcd's code on the wire");
    assert_eq!(server.fake.changes(), []);
}

fn unstarted(id: u64) -> jangada_server::backend::Member {
    jangada_server::backend::Member { is_learner: false, name: String::new(), ..member(id, "", 7) }
}

#[tokio::test]
async fn the_settings_say_how_strict_the_checks_are() {
    let lax = Settings { strict_reconfig: false, learners_max: 2, ..Settings::default() };
    let server = Server::with(lax).await;
    let mut cluster = ClusterClient::new(server.channel().await);
    server.fake.set_members(|members| members.push(unstarted(9)));
    cluster.member_add(add(&[URL], false)).await.expect("nobody looks who runs");
    cluster.member_add(add(&["http://localhost:9"], true)).await.expect("two learners may be");
    let third = add(&["http://localhost:10"], true);
    assert_refused(cluster.member_add(third).await, ApiError::TooManyLearners);
}

#[tokio::test]
async fn members_are_removed_updated_and_promoted() {
    let (server, mut cluster) = started().await;
    let answer = cluster.member_update(update(1, &[URL])).await.expect("it is served");
    assert_eq!(answer.into_inner().members[0].peer_ur_ls, [URL]);
    let promote = pb::MemberPromoteRequest { id: 1 };
    let answer = cluster.member_promote(promote).await.expect("it is served").into_inner();
    assert!(!answer.members[0].is_learner);
    assert_refused(cluster.member_promote(promote).await, ApiError::MemberNotLearner);
    let answer = cluster.member_remove(pb::MemberRemoveRequest { id: 1 }).await;
    let answer = answer.expect("it is served").into_inner();
    assert_eq!(answer.members.iter().map(|member| member.id).collect::<Vec<_>>(), [MEMBER_ID]);
    assert_eq!(answer.header.expect("it has a header").revision, 0);

    let gone = pb::MemberRemoveRequest { id: 1 };
    assert_refused(cluster.member_remove(gone).await, ApiError::MemberNotFound);
    assert_refused(cluster.member_promote(promote).await, ApiError::MemberNotFound);
    assert_refused(cluster.member_update(update(1, &[URL])).await, ApiError::MemberNotFound);
    let update = update(MEMBER_ID, &["nowhere"]);
    assert_refused(cluster.member_update(update).await, ApiError::MemberBadUrls);
    let last = pb::MemberRemoveRequest { id: MEMBER_ID };
    assert_refused(cluster.member_remove(last).await, ApiError::MemberNotEnoughStarted);
    assert_eq!(server.fake.changes().len(), 3);
}

#[tokio::test]
async fn promotions_are_counted_with_the_reasons_of_those_that_failed() {
    let (server, mut cluster) = started().await;
    let promote = pb::MemberPromoteRequest { id: 1 };
    server.fake.script(|script| script.changes = Some(ApiError::LearnerNotReady));
    assert_refused(cluster.member_promote(promote).await, ApiError::LearnerNotReady);
    server.fake.script(|script| script.changes = None);
    cluster.member_promote(promote).await.expect("it is served");
    let metrics = server.get("/metrics").await.body;
    let failed = "etcd_server_learner_promote_failures{Reason=\"etcdserver: can only promote a \
                  learner member which is in sync with leader\"} 1";
    assert!(metrics.contains(failed), "{metrics}");
    assert!(metrics.contains("etcd_server_learner_promote_successes 1"), "{metrics}");
}

#[tokio::test]
async fn only_the_leader_hands_over_and_only_to_a_voter() {
    let server = Server::start().await;
    server.fake.set_members(|members| members.push(unstarted(3)));
    let mut maintenance = MaintenanceClient::new(server.channel().await);
    let to = |target_id| pb::MoveLeaderRequest { target_id };
    assert_refused(maintenance.move_leader(to(99)).await, ApiError::BadLeaderTransferee);
    assert_refused(maintenance.move_leader(to(1)).await, ApiError::BadLeaderTransferee);
    maintenance.move_leader(to(MEMBER_ID)).await.expect("it leads already");
    server.fake.script(|script| script.changes = Some(ApiError::TimeoutLeaderTransfer));
    assert_refused(maintenance.move_leader(to(3)).await, ApiError::TimeoutLeaderTransfer);
    server.fake.script(|script| script.changes = None);
    let answer = maintenance.move_leader(to(3)).await.expect("it is served").into_inner();
    assert_eq!(answer.header, None, "as in etcd");
    assert_refused(maintenance.move_leader(to(3)).await, ApiError::NotLeader);
}

#[tokio::test]
async fn a_learner_refuses_changes() {
    let (server, mut cluster) = started().await;
    server.fake.script(|script| script.is_learner = true);
    let refused = ApiError::NotSupportedForLearner;
    assert_refused(cluster.member_add(add(&[URL], false)).await, refused);
    let list = pb::MemberListRequest { linearizable: false };
    assert_refused(cluster.member_list(list).await, refused);
}
