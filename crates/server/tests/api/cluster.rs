//! The Cluster service.

use jangada_server::backend::RequestError;
use jangada_server::errors::ApiError;
use jangada_server::proto::etcdserverpb as pb;
use pb::cluster_client::ClusterClient;

use crate::support::{CLUSTER_ID, MEMBER_ID, Server, TERM, assert_refused};

#[tokio::test]
async fn members_are_listed_under_a_header_without_revision() {
    let server = Server::start().await;
    let mut cluster = ClusterClient::new(server.channel().await);
    let request = pb::MemberListRequest { linearizable: true };
    let answer = cluster.member_list(request).await.expect("it is served").into_inner();
    let header = pb::ResponseHeader {
        cluster_id: CLUSTER_ID,
        member_id: MEMBER_ID,
        revision: 0,
        raft_term: TERM,
    };
    assert_eq!(answer.header, Some(header));
    let expected = pb::Member {
        id: MEMBER_ID,
        name: "one".to_owned(),
        peer_ur_ls: vec!["http://localhost:2380".to_owned()],
        client_ur_ls: vec!["http://localhost:2379".to_owned()],
        is_learner: false,
    };
    assert_eq!((answer.members.len(), &answer.members[1]), (2, &expected));
    assert!(answer.members[0].is_learner);
}

#[tokio::test]
async fn only_a_linearizable_list_needs_the_cluster() {
    let server = Server::start().await;
    server.fake.script(|script| script.barriers = Some(RequestError::NoLeader));
    let mut cluster = ClusterClient::new(server.channel().await);
    let request = pb::MemberListRequest { linearizable: true };
    assert_refused(cluster.member_list(request).await, ApiError::NoLeader);
    let request = pb::MemberListRequest { linearizable: false };
    cluster.member_list(request).await.expect("it is served");
}
