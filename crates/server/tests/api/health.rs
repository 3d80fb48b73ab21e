//! The standard health service of gRPC.

use jangada_server::proto::health::health_check_response::ServingStatus;
use jangada_server::proto::health::health_client::HealthClient;
use jangada_server::proto::health::{HealthCheckRequest, HealthCheckResponse};
use tonic::Code;

use crate::support::Server;

fn request(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

#[tokio::test]
async fn the_server_as_a_whole_serves() {
    let server = Server::start().await;
    let mut health = HealthClient::new(server.channel().await);
    let answer = health.check(request("")).await.expect("it is served").into_inner();
    assert_eq!(answer.status(), ServingStatus::Serving);
    let status = health.check(request("etcdserverpb.KV")).await.expect_err("none is known by name");
    assert_eq!((status.code(), status.message()), (Code::NotFound, "unknown service"));
}

#[tokio::test]
async fn a_watch_begins_with_the_state_and_stays_open() {
    let server = Server::start().await;
    let mut health = HealthClient::new(server.channel().await);
    for (service, expected) in [("", ServingStatus::Serving), ("x", ServingStatus::ServiceUnknown)]
    {
        let mut stream = health.watch(request(service)).await.expect("it is served").into_inner();
        let first = stream.message().await.expect("the stream is whole");
        assert_eq!(first.as_ref().map(HealthCheckResponse::status), Some(expected));
        // Other calls go on beside it.
        health.check(request("")).await.expect("it is served");
        drop(stream);
    }
}
