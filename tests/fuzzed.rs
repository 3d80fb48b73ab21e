//! Requests that no client makes, at a server that runs: malformed, oversized, nested deeply, not
//! allowed, or never finished, as JSON, as frames of gRPC and as bytes that are neither. Each refusal says
//! something, the server stays up, and its memory stays within a bound.
//!
//! `JANGADA_SEED` runs another sequence; the seed is printed.

mod support;

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use fastrand::Rng;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use jangada_server::proto::etcdserverpb as pb;
use prost::Message;
use serde_json::Value;
use support::cluster::{Cluster, Plan, Program};
use support::http::Http;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How many requests of each kind.
const REQUESTS: usize = 80;

/// How many connections are begun and never finished.
const UNFINISHED: usize = 50;

/// The most memory of the server at any time: its own at rest, a request of the largest size, and what
/// that is while it is looked at, some dozens of times its size when it is made of the smallest parts.
const MEMORY_MAX_KIB: u64 = 768 << 10;

/// A body larger than any request.
const OVERSIZED_BYTES: usize = 6 << 20;

/// When a call that may well wait for others is given up.
const GIVEN_UP: Duration = Duration::from_millis(200);

/// The hang guard.
const LIMIT: Duration = Duration::from_secs(300);

/// Requests that are good, to be spoiled.
const GOOD: &[(&str, &str)] = &[
    ("/v3/kv/put", r#"{"key":"YQ==","value":"MQ==","prev_kv":true}"#),
    ("/v3/kv/range", r#"{"key":"YQ==","range_end":"Yg==","limit":"3","sort_order":"ASCEND"}"#),
    ("/v3/kv/deleterange", r#"{"key":"eg==","prev_kv":true}"#),
    (
        "/v3/kv/txn",
        r#"{"compare":[{"key":"YQ==","target":"VALUE","value":"MQ=="}],
            "success":[{"request_txn":{"success":[{"request_put":{"key":"Yg==","value":"Mg=="}}]}}],
            "failure":[{"request_range":{"key":"YQ=="}}]}"#,
    ),
    ("/v3/lease/timetolive", r#"{"ID":"7","keys":true}"#),
    ("/v3/lease/keepalive", r#"{"ID":"7"}{"ID":"8"}"#),
    ("/v3/watch", r#"{"create_request":{"key":"YQ==","start_revision":"1"}}"#),
    ("/v3/auth/authenticate", r#"{"name":"root","password":"r"}"#),
    ("/v3/maintenance/status", "{}"),
];

/// What takes the place of a value.
const WRONG: &[&str] = &[
    "\"*\"",
    "\"YQ=\"",
    "\"====\"",
    "-1",
    "1e400",
    "-0.0",
    "99999999999999999999999999",
    "true",
    "null",
    "[]",
    "{}",
    "\"\\ud800\"",
    "\"\\u0000\"",
    "\"9223372036854775808\"",
    "\"-\"",
    "[[1]]",
];

/// Methods that are called with frames made up: none that changes members, users or alarms.
const METHODS: &[&str] = &[
    "/etcdserverpb.KV/Range",
    "/etcdserverpb.KV/Put",
    "/etcdserverpb.KV/Txn",
    "/etcdserverpb.KV/RangeStream",
    "/etcdserverpb.Watch/Watch",
    "/etcdserverpb.Lease/LeaseKeepAlive",
    "/etcdserverpb.Lease/LeaseTimeToLive",
    "/etcdserverpb.Maintenance/Status",
    "/etcdserverpb.Maintenance/HashKV",
    "/grpc.health.v1.Health/Check",
    "/etcdserverpb.KV/Fly",
    "/nobody.Knows/This",
    "/",
];

/// A request's path and body as JSON, spoiled.
fn json(rng: &mut Rng) -> (String, Vec<u8>) {
    let (path, good) = GOOD[rng.usize(0..GOOD.len())];
    let mut path = path.to_owned();
    let mut body = good.as_bytes().to_vec();
    match rng.u32(0..12) {
        0 => body.truncate(rng.usize(0..body.len())),
        1 => {
            for _ in 0..rng.usize(1..4) {
                let at = rng.usize(0..body.len());
                body[at] = rng.u8(..);
            }
        }
        2..6 => {
            let text = String::from_utf8(body).expect("what is good is text");
            let (before, after) = text.split_once(':').unwrap_or((&text, ""));
            let wrong = WRONG[rng.usize(0..WRONG.len())];
            let rest = after.find([',', '}']).map_or("", |at| &after[at..]);
            body = format!("{before}:{wrong}{rest}").into_bytes();
        }
        6 => body = (0..rng.usize(0..2000)).map(|_| rng.u8(..)).collect(),
        7 => {
            let depth = [100, 127, 129, 10_000, 500_000][rng.usize(0..5)];
            let (open, close) = [("[", "]"), (r#"{"a":"#, "}")][rng.usize(0..2)];
            body =
                format!(r#"{{"a":{}1{}}}"#, open.repeat(depth), close.repeat(depth)).into_bytes();
        }
        8 => {
            // Nested as far as a transaction can be, and further.
            let depth = rng.usize(1..60);
            let nested =
                r#"{"success":[{"request_txn":"#.repeat(depth) + "{}" + &"}]}".repeat(depth);
            (path, body) = ("/v3/kv/txn".to_owned(), nested.into_bytes());
        }
        9 => {
            // The smallest parts, as many as fit.
            let many = "{},".repeat((4 << 20) / 3 - 100);
            let name = ["success", "nobody_knows"][rng.usize(0..2)];
            (path, body) =
                ("/v3/kv/txn".to_owned(), format!(r#"{{"{name}":[{many}{{}}]}}"#).into_bytes());
        }
        10 => body = vec![[b' ', b'{', b'"', b'1'][rng.usize(0..4)]; OVERSIZED_BYTES],
        _ => {
            let at = rng.usize(1..path.len());
            path.insert(at, char::from(rng.u8(b'!'..b'"')));
        }
    }
    (path, body)
}

/// A sentence is there, whatever it says.
fn assert_polite(status: u16, kind: &str, body: &[u8], what: &str) {
    let text = String::from_utf8_lossy(body);
    match status {
        200 => {}
        400 | 401 | 403 | 404 | 409 | 429 | 501 | 503 if kind == "application/json" => {
            let value: Value = serde_json::from_str(text.lines().next().unwrap_or_default())
                .unwrap_or_else(|error| panic!("{error}: {text}: {what}"));
            let error = if value["error"].is_object() { &value["error"] } else { &value };
            assert!(error["message"].as_str().is_some_and(|text| 5 < text.len()), "{text}: {what}");
        }
        404 | 405 => assert!(!text.is_empty(), "{what}"),
        other => panic!("{other} {text}: {what}"),
    }
}

/// Sends spoiled JSON; whoever sends too much may be cut off before he hears why.
async fn ask_in_json(url: &str, rng: &mut Rng) {
    let (path, body) = json(rng);
    let what = format!("{path} {}", String::from_utf8_lossy(&body[..body.len().min(300)]));
    let token = format!("{}.{}", rng.u64(..), rng.u8(..));
    let mut headers = Vec::new();
    if rng.u32(0..4) == 0 {
        headers.push(("authorization", &*token));
    }
    let (oversized, method) =
        (3 << 20 < body.len(), if rng.u32(0..20) == 0 { "PUT" } else { "POST" });
    let mut http = Http::connect(url).await;
    let response = match http.begin(method, &path, &headers, body).await {
        Ok(response) => response,
        Err(error) => {
            assert!(oversized, "{error}: {what}");
            return;
        }
    };
    let (head, body) = response.into_parts();
    let kind = head.headers.get("content-type").map(|kind| kind.to_str().expect("it is text"));
    let kind = kind.unwrap_or_default().split(';').next().unwrap_or_default().to_owned();
    if path == "/v3/watch" && head.status == 200 {
        // It goes on for as long as anybody listens.
        return;
    }
    match body.collect().await {
        Ok(body) => assert_polite(head.status.as_u16(), &kind, &body.to_bytes(), &what),
        Err(error) => assert!(oversized, "{error}: {what}"),
    }
}

/// The body of a call, spoiled.
fn frames(rng: &mut Rng) -> Bytes {
    let message = match rng.u32(0..6) {
        0 => Vec::new(),
        1 => (0..rng.usize(0..500)).map(|_| rng.u8(..)).collect(),
        2 => {
            let mut put = pb::PutRequest { key: "a".into(), ..Default::default() }.encode_to_vec();
            let at = rng.usize(0..put.len());
            put[at] = rng.u8(..);
            put
        }
        3 => {
            // Deeper than any decoder goes.
            let mut txn = pb::TxnRequest::default();
            for _ in 0..rng.usize(1..200) {
                let request = Some(pb::request_op::Request::RequestTxn(txn));
                txn = pb::TxnRequest {
                    success: vec![pb::RequestOp { request }],
                    ..Default::default()
                };
            }
            txn.encode_to_vec()
        }
        // The smallest parts, as many as fit.
        4 => [0x12, 0].repeat((2 << 20) / 2 - 100),
        _ => vec![b'a'; OVERSIZED_BYTES],
    };
    let mut body = BytesMut::new();
    let length = u32::try_from(message.len()).expect("it is short");
    for _ in 0..rng.usize(1..3) {
        let (flag, length) = match rng.u32(0..8) {
            0 => (1, length),
            1 => (rng.u8(..), length),
            2 => (0, u32::MAX),
            3 => (0, length.wrapping_add(1)),
            4 => (0, length / 2),
            _ => (0, length),
        };
        body.put_u8(flag);
        body.put_u32(length);
        body.put_slice(&message);
    }
    if rng.u32(0..6) == 0 {
        body.truncate(rng.usize(0..body.len()));
    }
    body.freeze()
}

/// Sends spoiled frames to a method, or to none.
async fn ask_in_grpc(url: &str, rng: &mut Rng) {
    let path = METHODS[rng.usize(0..METHODS.len())];
    let body = frames(rng);
    let what = format!("{path} {:?}", &body[..body.len().min(100)]);
    let stream = TcpStream::connect(url.trim_start_matches("http://")).await;
    let stream = TokioIo::new(stream.expect("the member listens"));
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), stream).await.expect("it speaks HTTP/2");
    let driver = tokio::spawn(connection);
    let request = http::Request::post(format!("{url}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("token", "none.1")
        .body(Full::new(body))
        .expect("the request is well formed");
    let calling = async {
        let response = sender.send_request(request).await?;
        let (head, body) = response.into_parts();
        assert_eq!(head.status, 200, "{what}");
        if head.headers.contains_key("grpc-status") {
            return Ok(Some(head.headers));
        }
        Ok::<_, hyper::Error>(body.collect().await?.trailers().cloned())
    };
    // A watch, or whatever else a frame happens to be that waits for more.
    // And a stream may be reset while its client still sends.
    if let Ok(Ok(trailers)) = tokio::time::timeout(GIVEN_UP, calling).await {
        let trailers = trailers.unwrap_or_else(|| panic!("no status: {what}"));
        let code = trailers.get("grpc-status").expect("there is a status").to_str();
        let code: i32 = code.expect("it is text").parse().expect("it is a number");
        assert!((0..=16).contains(&code) && code != 2, "{code}: {what}");
        let text = trailers.get("grpc-message").map_or(0, http::HeaderValue::len);
        assert!(code == 0 || 5 < text, "{code} without a sentence: {what}");
    }
    driver.abort();
}

/// Sends bytes that are neither, and reads whatever is said to them.
async fn ask_in_tongues(url: &str, rng: &mut Rng) {
    let address = url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.expect("the member listens");
    let bytes: Vec<u8> = match rng.u32(0..6) {
        0 => (0..rng.usize(1..3000)).map(|_| rng.u8(..)).collect(),
        // The beginning of TLS.
        1 => [&[0x16, 3, 1, 2, 0, 1][..], &[7; 300]].concat(),
        2 => [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &[rng.u8(..); 100]].concat(),
        3 => format!("GET /v3/watch HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(1 << 20)).into_bytes(),
        4 => b"POST /v3/kv/put HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nfffffffff\r\n"
            .to_vec(),
        _ => b"POST /v3/kv/put HTTP/1.1\r\nhost: a\r\ncontent-length: 18446744073709551615\r\n\r\n{"
            .to_vec(),
    };
    // It may be cut off while it still speaks, or never be answered.
    let _ = stream.write_all(&bytes).await;
    let _ = stream.shutdown().await;
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

/// The most memory that the process ever had, where the system tells.
fn memory_max_kib(cluster: &mut Cluster) -> Option<u64> {
    let pid = cluster.process(0).pid().as_raw_nonzero();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

#[test]
fn what_no_client_sends_is_refused_politely_and_within_bounds() {
    let given = std::env::var("JANGADA_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let seed: u64 = given.unwrap_or(20_262);
    println!("JANGADA_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    support::run(LIMIT, async {
        let mut cluster = Plan::new(Program::Jangada, 1).start().await;
        let url = cluster.members[0].client_url.clone();
        let mut unfinished = Vec::new();
        for _ in 0..UNFINISHED {
            let stream = TcpStream::connect(url.trim_start_matches("http://")).await;
            let mut stream = stream.expect("the member listens");
            let head =
                "POST /v3/kv/put HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n{\"key\":";
            let begun = &head[..rng.usize(0..head.len())];
            stream.write_all(begun.as_bytes()).await.expect("the member listens");
            unfinished.push(stream);
        }
        for _ in 0..REQUESTS {
            ask_in_json(&url, &mut rng).await;
            ask_in_grpc(&url, &mut rng).await;
            ask_in_tongues(&url, &mut rng).await;
        }
        assert!(cluster.is_running(0), "the server stays up");
        let mut http = Http::connect(&url).await;
        let answered = http.post("/v3/kv/put", r#"{"key":"YQ==","value":"MQ=="}"#).await;
        assert_eq!(answered.status, 200, "{answered:?}");
        if let Some(memory) = memory_max_kib(&mut cluster) {
            println!("{REQUESTS} of each kind; the most memory: {} MiB", memory >> 10);
            assert!(memory < MEMORY_MAX_KIB, "seed {seed}: {memory} KiB");
        }
        let log = cluster.process(0).log();
        assert!(!log.contains("panicked"), "{log}");
        drop(unfinished);
    });
}
