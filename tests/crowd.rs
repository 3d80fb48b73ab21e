//! A crowd before the door: clients that say nothing, read nothing, or speak nonsense. The server stays up
//! and within bounds, and others are served.

mod support;

use std::time::Duration;

use jangada_server::proto::etcdserverpb as pb;
use pb::auth_client::AuthClient;
use support::client::Client;
use support::cluster::{Cluster, Plan, Program};
use support::raw::{
    DATA, END_HEADERS, END_STREAM, HEADERS, PING, PREFACE, RST_STREAM, Raw, SETTINGS, frame, head,
    message,
};
use support::{run, until};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};

/// The hang guard.
const LIMIT: Duration = Duration::from_secs(240);

/// Connections that do nothing.
const IDLE: usize = 1000;

/// What the server may grow by for such a crowd: 64 KiB for each, which is far above what one takes.
const IDLE_BYTES_MAX: u64 = 64 << 20;

/// What it may grow by whatever is thrown at it.
const FLOOD_BYTES_MAX: u64 = 256 << 20;

const RANGE: &str = "/etcdserverpb.KV/Range";
const PUT: &str = "/etcdserverpb.KV/Put";
const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// One member, and what it takes.
struct Server {
    cluster: Cluster,
    address: String,
    client: Client,
}

impl Server {
    async fn start() -> Server {
        Server::of(Plan::new(Program::Jangada, 1)).await
    }

    async fn of(plan: Plan) -> Server {
        let cluster = plan.start().await;
        let address = cluster.members[0].client_url.trim_start_matches("http://").to_owned();
        let client = cluster.client(0);
        Server { cluster, address, client }
    }

    /// The memory it takes; `None` where the system does not say.
    fn resident_bytes(&mut self) -> Option<u64> {
        let pid = self.cluster.process(0).pid().as_raw_nonzero();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
        Some(kilobytes << 10)
    }

    /// It runs, serves another client, and has not grown too much.
    async fn assert_well(&mut self, before: Option<u64>, bytes_max: u64, after: &str) {
        self.client.put_key("well", after).await.expect(after);
        assert_eq!(self.client.get_key("well").await.expect(after).as_deref(), Some(after));
        if let Some((before, now)) = before.zip(self.resident_bytes()) {
            let grown = now.saturating_sub(before);
            println!("{after}: grown by {} KiB", grown >> 10);
            assert!(grown < bytes_max, "{after}: it has grown by {grown} bytes");
        }
    }

    fn channel(&self) -> Channel {
        let url = format!("http://{}", self.address);
        Endpoint::from_shared(url).expect("a URL that this test made").connect_lazy()
    }
}

#[test]
fn a_crowd_that_does_nothing_costs_little() {
    run(LIMIT, async {
        jangada_bench::process::raise_files_limit();
        let mut server = Server::start().await;
        server.client.put_key("a", "1").await.expect("it serves");
        let before = server.resident_bytes();
        let mut crowd = Vec::new();
        for number in 0..IDLE {
            crowd.push(match number % 4 {
                // Half open: it says nothing, or half of what it is to say.
                0 => Raw::connect(&server.address).await,
                1 => {
                    let mut raw = Raw::connect(&server.address).await;
                    raw.send(&PREFACE[..12]).await;
                    raw
                }
                // Nothing but an open connection, or one with a stream.
                2 => Raw::open(&server.address).await,
                _ => {
                    let mut raw = Raw::open(&server.address).await;
                    raw.send(&frame(HEADERS, END_HEADERS, 1, &head(WATCH, &[]))).await;
                    raw
                }
            });
        }
        // Whoever has said that it speaks HTTP/2 was heard.
        for raw in crowd.iter_mut().skip(2).step_by(4) {
            let settings = raw.until(|frame| frame.kind == SETTINGS).await;
            assert!(settings.is_some(), "it is served");
        }
        server.assert_well(before, IDLE_BYTES_MAX, "a crowd that does nothing").await;
        drop(crowd);
        server.assert_well(before, IDLE_BYTES_MAX, "the crowd is gone").await;
    });
}

#[test]
fn one_who_reads_nothing_costs_a_bounded_amount_and_holds_up_nobody() {
    run(LIMIT, async {
        let mut server = Server::start().await;
        let value = "v".repeat(1 << 20);
        for number in 0..4 {
            let written = server.client.put_key(&format!("large/{number}"), &value).await;
            written.expect("it serves");
        }
        let range = |count_only| pb::RangeRequest {
            key: "large/".into(),
            range_end: "large0".into(),
            count_only,
            ..pb::RangeRequest::default()
        };
        // What an answer needs while it is made is not what is looked at.
        server.client.range(range(false)).await.expect("it serves");
        let before = server.resident_bytes();
        // The same, as it is on the wire.
        let asked = message(16, b"\x0a\x06large/\x12\x06large0");
        // 1.6 GB of answers are asked for, and none is read.
        let mut deaf = Vec::new();
        for _ in 0..2 {
            let mut raw = Raw::open(&server.address).await;
            for stream in 0..200 {
                raw.call(2 * stream + 1, RANGE, &asked).await;
            }
            deaf.push(raw);
        }
        for _ in 0..100 {
            server.client.range(range(true)).await.expect("others are served");
        }
        server.assert_well(before, FLOOD_BYTES_MAX, "answers that nobody reads").await;
        // Who reads after all is answered.
        let credit = frame(8, 0, 0, &(1_u32 << 30).to_be_bytes());
        let stream = frame(8, 0, 1, &(1_u32 << 30).to_be_bytes());
        let mut raw = deaf.pop().expect("there are two");
        raw.send(&[credit, stream].concat()).await;
        let end = raw.until(|frame| frame.stream == 1 && frame.flags & END_STREAM != 0).await;
        assert!(end.is_some(), "the answer comes");
    });
}

#[test]
fn floods_of_nonsense_are_answered_politely_or_cut_off() {
    run(LIMIT, async {
        let mut server = Server::start().await;
        server.client.put_key("a", "1").await.expect("it serves");
        let before = server.resident_bytes();
        let mut dice = fastrand::Rng::with_seed(7);

        // Bytes of no protocol, and frames of none.
        for number in 0..200 {
            let mut raw = Raw::connect(&server.address).await;
            if number % 2 == 0 {
                raw.send(PREFACE).await;
            }
            let noise: Vec<u8> = (0..dice.usize(1..4000)).map(|_| dice.u8(..)).collect();
            raw.send(&noise).await;
        }
        server.assert_well(before, FLOOD_BYTES_MAX, "noise").await;

        // Messages that claim to be gigabytes, are cut short, are compressed, or say nothing sensible.
        let mut raw = Raw::open(&server.address).await;
        let mut stream = 1;
        for _ in 0..300 {
            let noise: Vec<u8> = (0..dice.usize(1..200)).map(|_| dice.u8(..)).collect();
            let length = u32::try_from(noise.len()).expect("it is small");
            let mut said = match dice.u8(0..4) {
                0 => message(u32::MAX, &noise),
                1 => message(length + 1, &noise),
                2 => message(length, &noise),
                _ => noise,
            };
            if dice.u8(0..8) == 0 {
                said[0] = 1;
            }
            let path = [RANGE, PUT, WATCH, "/etcdserverpb.KV/Fly", "/"][dice.usize(0..5)];
            assert!(raw.call(stream, path, &said).await, "it is answered call by call");
            stream += 2;
        }
        // All of it is answered, by a status in the head or behind it; streams of watchers stay open.
        raw.call(stream, "/etcdserverpb.Maintenance/Status", &message(0, &[])).await;
        let answered = raw.until(|frame| frame.stream == stream && frame.kind == DATA).await;
        assert!(answered.is_some(), "the connection serves on");
        server.assert_well(before, FLOOD_BYTES_MAX, "malformed messages").await;

        // One that is told how large it is and does not stop.
        for _ in 0..8 {
            let mut raw = Raw::open(&server.address).await;
            raw.send(&frame(HEADERS, END_HEADERS, 1, &head(PUT, &[]))).await;
            raw.send(&frame(DATA, 0, 1, &message(u32::MAX, &[b'x'; 8 << 10]))).await;
            let status = raw.until(|frame| frame.stream == 1 && frame.kind == HEADERS).await;
            assert!(status.is_some(), "it is refused before it has come");
        }
        server.assert_well(before, FLOOD_BYTES_MAX, "oversized messages").await;

        // Calls that are given up as soon as they are made, and pings and settings without end.
        for kind in [RST_STREAM, PING, SETTINGS] {
            let mut raw = Raw::open(&server.address).await;
            for number in 0..20_000_u32 {
                let stream = 2 * number + 1;
                let said = match kind {
                    RST_STREAM => [
                        frame(HEADERS, END_HEADERS, stream, &head(RANGE, &[])),
                        frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()),
                    ]
                    .concat(),
                    PING => frame(PING, 0, 0, &[0; 8]),
                    _ => frame(SETTINGS, 0, 0, &[]),
                };
                // The server may close it, and need not read on while its answers are not read.
                let sending = tokio::time::timeout(Duration::from_secs(1), raw.send(&said));
                if sending.await != Ok(true) {
                    break;
                }
            }
            let flood = format!("a flood of frames of kind {kind}");
            server.assert_well(before, FLOOD_BYTES_MAX, &flood).await;
        }
    });
}

#[test]
fn floods_of_the_unauthorised_are_refused() {
    run(LIMIT, async {
        let mut server = Server::of(Plan::new(Program::Jangada, 1).flag("bcrypt-cost", 4)).await;
        server.client.put_key("a", "1").await.expect("it serves");
        let mut auth = AuthClient::new(server.channel());
        let add = pb::AuthUserAddRequest {
            name: "root".to_owned(),
            password: "secret".to_owned(),
            ..pb::AuthUserAddRequest::default()
        };
        auth.user_add(add).await.expect("it is added");
        let grant = pb::AuthUserGrantRoleRequest { user: "root".into(), role: "root".into() };
        auth.user_grant_role(grant).await.expect("it is granted");
        auth.auth_enable(pb::AuthEnableRequest {}).await.expect("it is enabled");
        let login = |password: &str| pb::AuthenticateRequest {
            name: "root".to_owned(),
            password: password.to_owned(),
        };
        let token =
            auth.authenticate(login("secret")).await.expect("it is right").into_inner().token;
        let before = server.resident_bytes();

        let mut flood = tokio::task::JoinSet::new();
        for number in 0..8 {
            let mut kv = pb::kv_client::KvClient::new(server.channel());
            let mut auth = AuthClient::new(server.channel());
            flood.spawn(async move {
                for turn in 0..250 {
                    let put = pb::PutRequest { key: "a".into(), ..pb::PutRequest::default() };
                    let mut put = Request::new(put);
                    let token = format!("token.{number}.{turn}").parse().expect("it is text");
                    put.metadata_mut().insert("token", token);
                    let refused = kv.put(put).await.expect_err("nobody has this token");
                    assert_eq!(refused.code(), Code::Unauthenticated);
                    let get = pb::RangeRequest { key: "a".into(), ..pb::RangeRequest::default() };
                    let refused = kv.range(get).await.expect_err("it does not say who it is");
                    assert_eq!(refused.code(), Code::InvalidArgument);
                    if turn % 10 == 0 {
                        let wrong = pb::AuthenticateRequest {
                            name: "root".to_owned(),
                            password: turn.to_string(),
                        };
                        let refused = auth.authenticate(wrong).await.expect_err("it is wrong");
                        assert!([Code::InvalidArgument, Code::Unknown].contains(&refused.code()));
                    }
                }
            });
        }
        // Who may is served meanwhile.
        let mut kv = pb::kv_client::KvClient::new(server.channel());
        let mut served = 0;
        while !flood.is_empty() {
            let put = pb::PutRequest { key: "a".into(), ..pb::PutRequest::default() };
            let mut put = Request::new(put);
            put.metadata_mut().insert("token", token.parse().expect("it is text"));
            kv.put(put).await.expect("root may");
            served += 1;
            while let Some(ended) = flood.try_join_next() {
                ended.expect("the refusals are the right ones");
            }
        }
        assert!(0 < served);
        if let Some((before, now)) = before.zip(server.resident_bytes()) {
            assert!(now.saturating_sub(before) < FLOOD_BYTES_MAX, "it has grown");
        }
        until(async || auth.authenticate(login("secret")).await.ok()).await;
    });
}
