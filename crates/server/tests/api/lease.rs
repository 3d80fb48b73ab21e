//! The Lease service.

use jangada_kv::{AlarmAction, AlarmKind, Command};
use jangada_server::backend::RequestError;
use jangada_server::errors::ApiError;
use jangada_server::proto::etcdserverpb::lease_client::LeaseClient;
use jangada_server::proto::etcdserverpb::{
    DeleteRangeRequest, LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest,
    LeaseLeasesRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
    PutRequest, RangeRequest,
};
use tonic::transport::Channel;
use tonic::{Code, Response, Status, Streaming};

use crate::support::{CLUSTER_ID, MEMBER_ID, Server, TERM, assert_refused, bytes};

type LeaseKeepAlives = Streaming<jangada_server::proto::etcdserverpb::LeaseKeepAliveResponse>;

async fn client(server: &Server) -> LeaseClient<Channel> {
    LeaseClient::new(server.channel().await)
}

async fn grant(
    client: &mut LeaseClient<Channel>,
    id: i64,
    ttl: i64,
) -> Result<Response<LeaseGrantResponse>, Status> {
    client.lease_grant(LeaseGrantRequest { id, ttl }).await
}

async fn put(server: &Server, key: &str, lease: i64) -> Result<(), Status> {
    let request = PutRequest { key: bytes(key), lease, ..PutRequest::default() };
    server.kv().await.put(request).await.map(|_| ())
}

async fn time_to_live(
    client: &mut LeaseClient<Channel>,
    id: i64,
    keys: bool,
) -> LeaseTimeToLiveResponse {
    let answer = client.lease_time_to_live(LeaseTimeToLiveRequest { id, keys }).await;
    answer.expect("it is answered").into_inner()
}

async fn ids(client: &mut LeaseClient<Channel>) -> Vec<i64> {
    let answer = client.lease_leases(LeaseLeasesRequest {}).await.expect("they are listed");
    answer.into_inner().leases.into_iter().map(|lease| lease.id).collect()
}

#[tokio::test]
async fn a_lease_is_granted_under_the_id_and_for_the_time_asked_for() {
    let server = Server::start().await;
    let mut client = client(&server).await;
    let granted = grant(&mut client, 7, 60).await.expect("it is granted").into_inner();
    assert_eq!((granted.id, granted.ttl, granted.error.as_str()), (7, 60, ""));
    let header = granted.header.expect("there is a header");
    assert_eq!((header.cluster_id, header.member_id), (CLUSTER_ID, MEMBER_ID));
    assert_eq!((header.revision, header.raft_term), (1, TERM), "no revision is made");
    assert_refused(grant(&mut client, 7, 60).await, ApiError::LeaseExists);
    let granted = grant(&mut client, -5, 60).await.expect("any id but 0 is one").into_inner();
    assert_eq!(granted.id, -5);
}

#[tokio::test]
async fn a_time_that_is_too_short_is_raised_and_one_too_long_refused() {
    let server = Server::start().await;
    let mut client = client(&server).await;
    for (id, ttl) in [(1, 1), (2, 0), (3, -9), (4, i64::MIN)] {
        let granted = grant(&mut client, id, ttl).await.expect("it is granted").into_inner();
        assert_eq!(granted.ttl, 2);
    }
    let longest = grant(&mut client, 5, 9_000_000_000).await.expect("it is granted");
    assert_eq!(longest.into_inner().ttl, 9_000_000_000);
    assert_refused(grant(&mut client, 6, 9_000_000_001).await, ApiError::LeaseTtlTooLarge);
}

#[tokio::test]
async fn an_id_is_chosen_and_another_one_if_it_is_taken() {
    let server = Server::start().await;
    let mut client = client(&server).await;
    // The first choice is 1001, and the second, too.
    for expected in [1001, 1002] {
        let granted = grant(&mut client, 0, 60).await.expect("it is granted").into_inner();
        assert_eq!(granted.id, expected);
    }
}

#[tokio::test]
async fn the_end_of_a_lease_deletes_its_keys_in_one_revision() {
    let server = Server::start().await;
    let mut client = client(&server).await;
    grant(&mut client, 7, 60).await.expect("it is granted");
    for key in ["b", "a"] {
        put(&server, key, 7).await.expect("the lease exists");
    }
    put(&server, "other", 0).await.expect("no lease is one");
    let revoked = client.lease_revoke(LeaseRevokeRequest { id: 7 }).await.expect("it is there");
    assert_eq!(revoked.into_inner().header.expect("a header").revision, 5);
    let all = RangeRequest { key: bytes("\0"), range_end: bytes("\0"), ..RangeRequest::default() };
    let left = server.kv().await.range(all).await.expect("it is read").into_inner();
    assert_eq!(left.kvs.iter().map(|kv| &kv.key[..]).collect::<Vec<_>>(), [b"other"]);
    let again = client.lease_revoke(LeaseRevokeRequest { id: 7 }).await;
    assert_refused(again, ApiError::LeaseNotFound);
    let late = put(&server, "a", 7).await.map(Response::new);
    assert_refused(late, ApiError::LeaseNotFound);
}

#[tokio::test]
async fn the_time_to_live_tells_the_keys_if_it_is_asked_for_them() {
    let server = Server::start().await;
    let mut client = client(&server).await;
    grant(&mut client, 7, 60).await.expect("it is granted");
    put(&server, "a", 7).await.expect("the lease exists");
    put(&server, "b", 7).await.expect("the lease exists");
    let delete = DeleteRangeRequest { key: bytes("a"), ..DeleteRangeRequest::default() };
    server.kv().await.delete_range(delete).await.expect("it is there");
    let told = time_to_live(&mut client, 7, true).await;
    assert_eq!((told.id, told.ttl, told.granted_ttl), (7, 59, 60));
    assert_eq!(told.keys, [bytes("b")]);
    assert_eq!(told.header.expect("there is a header").revision, 4);
    assert_eq!(time_to_live(&mut client, 7, false).await.keys.len(), 0);
    let gone = time_to_live(&mut client, 8, true).await;
    assert_eq!((gone.id, gone.ttl, gone.granted_ttl, gone.keys.len()), (8, -1, 0, 0));
}

#[tokio::test]
async fn leases_are_listed_in_the_order_of_their_ids() {
    let server = Server::start().await;
    let mut client = client(&server).await;
    assert!(ids(&mut client).await.is_empty());
    for id in [9, -2, 4] {
        grant(&mut client, id, 60).await.expect("it is granted");
    }
    assert_eq!(ids(&mut client).await, [-2, 4, 9]);
}

#[tokio::test]
async fn keep_alives_are_answered_in_order_and_with_zero_for_what_is_gone() {
    let server = Server::start().await;
    let mut client = client(&server).await;
    for id in 1..=300 {
        server.fake.apply(&Command::Lease(jangada_kv::LeaseCommand::Grant { id, ttl: id }));
    }
    let (sender, requests) = tokio::sync::mpsc::channel(400);
    let requests = tokio_stream(requests);
    let answers = client.lease_keep_alive(requests).await.expect("the stream opens");
    let mut answers: LeaseKeepAlives = answers.into_inner();
    // One by one, and then all at once.
    for id in [3, 999, 7] {
        sender.send(LeaseKeepAliveRequest { id }).await.expect("the server reads");
        let answer = answers.message().await.expect("it is answered").expect("one by one");
        assert_eq!((answer.id, answer.ttl), (id, if id == 999 { 0 } else { id }));
        assert_eq!(answer.header.expect("there is a header").member_id, MEMBER_ID);
    }
    for id in 1..=300 {
        sender.send(LeaseKeepAliveRequest { id }).await.expect("the server reads");
    }
    drop(sender);
    for id in 1..=300 {
        let answer = answers.message().await.expect("it is answered").expect("all of them");
        assert_eq!((answer.id, answer.ttl), (id, id));
    }
    assert!(answers.message().await.expect("it ends well").is_none());
}

#[tokio::test]
async fn a_keep_alive_that_the_leader_does_not_answer_ends_the_stream_with_the_reason() {
    let server = Server::start().await;
    let mut client = client(&server).await;
    server.fake.script(|script| script.lessor = Some(RequestError::Timeout));
    let requests = tokio_stream_of(vec![LeaseKeepAliveRequest { id: 1 }]);
    let answers = client.lease_keep_alive(requests).await.expect("the stream opens");
    let status = answers.into_inner().message().await.expect_err("it fails");
    assert_eq!(status.message(), ApiError::Timeout.text());
    assert_eq!(status.code(), ApiError::Timeout.code());
    let ttl = client.lease_time_to_live(LeaseTimeToLiveRequest { id: 1, keys: false }).await;
    assert_eq!(ttl.expect("what is not there is nobody's business").into_inner().ttl, -1);
}

#[tokio::test]
async fn no_lease_is_granted_while_space_is_short_but_leases_end() {
    let server = Server::start().await;
    let mut client = client(&server).await;
    grant(&mut client, 7, 60).await.expect("it is granted");
    server.fake.script(|script| script.quota = Some(100));
    assert_refused(grant(&mut client, 8, 60).await, ApiError::NoSpace);
    let kind = AlarmKind::NoSpace;
    assert!(
        server
            .fake
            .apply(&Command::Alarm { action: AlarmAction::Activate, member: 1, kind })
            .result
            .is_ok()
    );
    server.fake.script(|script| script.quota = None);
    assert_refused(grant(&mut client, 8, 60).await, ApiError::NoSpace);
    client.lease_revoke(LeaseRevokeRequest { id: 7 }).await.expect("it ends");
    let kind = AlarmKind::Corrupt;
    server.fake.apply(&Command::Alarm { action: AlarmAction::Activate, member: 1, kind });
    assert_refused(grant(&mut client, 8, 60).await, ApiError::Corrupt);
    let revoked = client.lease_revoke(LeaseRevokeRequest { id: 7 }).await;
    assert_refused(revoked, ApiError::Corrupt);
}

#[tokio::test]
async fn a_learner_serves_no_leases() {
    let server = Server::start().await;
    let mut client = client(&server).await;
    server.fake.script(|script| script.is_learner = true);
    assert_refused(grant(&mut client, 7, 60).await, ApiError::NotSupportedForLearner);
    let requests = tokio_stream_of(vec![LeaseKeepAliveRequest { id: 1 }]);
    let status = client.lease_keep_alive(requests).await.expect_err("it is refused");
    assert_eq!(status.code(), ApiError::NotSupportedForLearner.code());
}

#[tokio::test]
async fn leases_and_calls_of_many_messages_are_counted() {
    let server = Server::start().await;
    let mut client = client(&server).await;
    grant(&mut client, 7, 60).await.expect("it is granted");
    grant(&mut client, 8, 3).await.expect("it is granted");
    client.lease_revoke(LeaseRevokeRequest { id: 8 }).await.expect("it is there");
    let requests = tokio_stream_of(vec![LeaseKeepAliveRequest { id: 7 }; 3]);
    let answers = client.lease_keep_alive(requests).await.expect("the stream opens");
    let mut answers = answers.into_inner();
    while answers.message().await.expect("it ends well").is_some() {}
    let metrics = server.get("/metrics").await.body;
    let of_call = "grpc_method=\"LeaseKeepAlive\",grpc_service=\"etcdserverpb.Lease\",\
                   grpc_type=\"bidi_stream\"";
    for line in [
        "etcd_debugging_lease_granted_total 2".to_owned(),
        "etcd_debugging_lease_revoked_total 1".to_owned(),
        "etcd_debugging_lease_ttl_total_bucket{le=\"4\"} 1".to_owned(),
        "etcd_debugging_lease_ttl_total_count 2".to_owned(),
        format!("grpc_server_msg_received_total{{{of_call}}} 3"),
        format!("grpc_server_msg_sent_total{{{of_call}}} 3"),
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is missing");
    }
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_a_cancelled_call() {
    let server = Server::start().await;
    let mut client = client(&server).await;
    let (sender, requests) = tokio::sync::mpsc::channel(1);
    let answers = client.lease_keep_alive(tokio_stream(requests)).await.expect("it opens");
    drop((answers, sender, client));
    let line = "grpc_server_handled_total{grpc_code=\"Canceled\",grpc_method=\"LeaseKeepAlive\"";
    loop {
        let metrics = server.get("/metrics").await.body;
        let ended = metrics.lines().find(|found| found.starts_with(line));
        if ended.is_some_and(|found| found.ends_with(" 1")) {
            break;
        }
        tokio::task::yield_now().await;
    }
}

/// A stream of what a channel brings.
fn tokio_stream<T: Send + 'static>(
    mut receiver: tokio::sync::mpsc::Receiver<T>,
) -> impl tonic::IntoStreamingRequest<Message = T> {
    Messages(Box::new(move |context| receiver.poll_recv(context)))
}

fn tokio_stream_of<T: Send + Unpin + 'static>(
    messages: Vec<T>,
) -> impl tonic::IntoStreamingRequest<Message = T> {
    let mut messages = messages.into_iter();
    Messages(Box::new(move |_| std::task::Poll::Ready(messages.next())))
}

type PollMessages<T> = dyn FnMut(&mut std::task::Context<'_>) -> std::task::Poll<Option<T>> + Send;

struct Messages<T>(Box<PollMessages<T>>);

impl<T> tonic::codegen::tokio_stream::Stream for Messages<T> {
    type Item = T;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<T>> {
        (self.0)(context)
    }
}

#[tokio::test]
async fn a_request_that_is_none_ends_the_stream() {
    let server = Server::start().await;
    let mut grpc = tonic::client::Grpc::new(server.channel().await);
    grpc.ready().await.expect("the server accepts");
    let path = http::uri::PathAndQuery::from_static("/etcdserverpb.Lease/LeaseKeepAlive");
    // A message of another kind: its first field is no number.
    let other = PutRequest { key: bytes("key"), ..PutRequest::default() };
    let codec: tonic_prost::ProstCodec<PutRequest, LeaseGrantResponse> = Default::default();
    let request = tonic::IntoStreamingRequest::into_streaming_request(tokio_stream_of(vec![other]));
    let answers = grpc.streaming(request, path, codec).await.expect("the stream opens");
    let status = answers.into_inner().message().await.expect_err("it is refused");
    assert_eq!(status.code(), Code::Internal);
}
