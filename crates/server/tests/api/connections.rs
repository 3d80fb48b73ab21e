//! Connections: both protocols on one port, many streams on one connection, stops.

use jangada_server::Settings;
use jangada_server::proto::etcdserverpb as pb;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tonic::Code;
use tonic::codegen::Service;

use crate::support::{Server, bytes};

fn put(key: &str) -> pb::PutRequest {
    pb::PutRequest { key: bytes(key), value: bytes("v"), ..Default::default() }
}

#[tokio::test]
async fn grpc_and_http_share_a_port() {
    let server = Server::start().await;
    let mut kv = server.kv().await;
    for round in 0..3 {
        kv.put(put(&round.to_string())).await.expect("it is served");
        assert_eq!(server.get("/health").await.status, 200);
    }
}

#[tokio::test]
async fn one_connection_carries_a_thousand_calls_at_a_time() {
    let server = Server::start().await;
    server.fake.open(false);
    let kv = server.kv().await;
    let mut calls = JoinSet::new();
    for call in 0..1000 {
        let mut kv = kv.clone();
        calls.spawn(async move { kv.put(put(&call.to_string())).await });
    }
    // Each call waits for all the others to have come: none waits for a free stream.
    server.fake.proposals_wait(1000).await;
    server.fake.open(true);
    while let Some(call) = calls.join_next().await {
        call.expect("the call does not panic").expect("it is served");
    }
    assert_eq!(server.fake.apply(&jangada_kv::Command::Member(Default::default())).revision, 1001);
}

#[tokio::test]
async fn http_is_answered_over_http_2_too() {
    let server = Server::start().await;
    let mut channel = server.channel().await;
    let mut kv = server.kv().await;
    for _ in 0..2 {
        std::future::poll_fn(|context| channel.poll_ready(context))
            .await
            .expect("the connection stands");
        let uri = format!("http://{}/livez", server.address);
        let request = http::Request::get(uri).body(tonic::body::Body::empty());
        let answer = channel.call(request.expect("the request is well formed")).await;
        let answer = answer.expect("it is answered");
        assert_eq!((answer.status().as_u16(), answer.version()), (200, http::Version::HTTP_2));
        kv.put(put("a")).await.expect("calls go on beside it");
    }
}

#[tokio::test]
async fn an_unknown_method_is_named() {
    let server = Server::start().await;
    let mut grpc = tonic::client::Grpc::new(server.channel().await);
    let cases = [
        ("/etcdserverpb.KV/Fly", "unknown method Fly for service etcdserverpb.KV"),
        ("/some.Service/Call", "unknown service some.Service"),
        (
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            "unknown service grpc.reflection.v1.ServerReflection",
        ),
    ];
    for (path, sentence) in cases {
        grpc.ready().await.expect("the connection stands");
        let codec = tonic_prost::ProstCodec::<pb::StatusRequest, pb::StatusResponse>::default();
        let path = path.parse().expect("the path is one");
        let request = tonic::Request::new(pb::StatusRequest {});
        let status = grpc.unary(request, path, codec).await.expect_err("it is unknown");
        assert_eq!((status.code(), status.message()), (Code::Unimplemented, sentence));
    }
}

#[tokio::test]
async fn grpc_needs_http_2() {
    let server = Server::start().await;
    let headers = "Content-Type: application/grpc\r\nContent-Length: 0\r\n";
    let answer = server.http("POST", "/etcdserverpb.KV/Range", headers).await;
    assert_eq!(answer.status, 404);
}

#[tokio::test]
async fn a_call_given_up_leaves_the_connection_usable() {
    let server = Server::start().await;
    server.fake.open(false);
    let mut kv = server.kv().await;
    let mut call = tokio::spawn({
        let mut kv = kv.clone();
        async move { kv.put(put("given up")).await }
    });
    server.fake.proposals_wait(1).await;
    call.abort();
    assert!((&mut call).await.expect_err("the call is gone").is_cancelled());
    server.fake.open(true);
    kv.put(put("a")).await.expect("the connection serves on");
}

#[tokio::test]
async fn a_stop_lets_calls_under_way_finish_and_takes_no_more() {
    let mut server = Server::start().await;
    server.fake.open(false);
    let mut kv = server.kv().await;
    let call = tokio::spawn(async move { kv.put(put("a")).await });
    server.fake.proposals_wait(1).await;
    server.stop();
    // The listener is gone before the call has been answered.
    while TcpStream::connect(server.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    server.fake.open(true);
    call.await.expect("the call does not panic").expect("it is answered all the same");
    server.task.await.expect("the server stops");
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_ever() {
    let mut server = Server::start().await;
    server.fake.open(false);
    let mut kv = server.kv().await;
    let call = tokio::spawn(async move { kv.put(put("a")).await });
    server.fake.proposals_wait(1).await;
    server.stop();
    server.task.await.expect("the server stops although the call is not answered");
    call.abort();
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_place() {
    let server = Server::with(Settings { connections_max: 1, ..Settings::default() }).await;
    let mut first = TcpStream::connect(server.address).await.expect("the kernel accepts");
    let request = b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n";
    first.write_all(request).await.expect("the server reads");
    let mut answer = [0; 15];
    first.read_exact(&mut answer).await.expect("the first is served");
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    let mut second = TcpStream::connect(server.address).await.expect("the kernel accepts");
    second.write_all(request).await.expect("the kernel takes it");
    // The first is served on while the second waits.
    first.write_all(request).await.expect("the server reads");
    first.read_exact(&mut answer).await.expect("the first is served");
    assert!(second.try_read(&mut answer).is_err(), "the second has no place");
    drop(first);
    second.read_exact(&mut answer).await.expect("the second is served in its turn");
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
}

#[tokio::test]
async fn nonsense_ends_its_own_connection_alone() {
    let server = Server::start().await;
    let mut kv = server.kv().await;
    for nonsense in [&b"\x16\x03\x01\x02\x00\x01\x00"[..], b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n123"] {
        let mut stream = TcpStream::connect(server.address).await.expect("the server accepts");
        stream.write_all(nonsense).await.expect("the kernel takes it");
        stream.shutdown().await.expect("the kernel takes it");
        let mut answer = Vec::new();
        let ended = stream.read_to_end(&mut answer).await;
        assert!(ended.is_ok() || answer.is_empty(), "the connection ends: {ended:?}");
        kv.put(put("a")).await.expect("others are served on");
    }
}
