//! What users get wrong: each mistake gets a sentence that says what to do, and loses nothing.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use jangada_server::proto::etcdserverpb::{
    PutRequest, RangeRequest, RequestOp, TxnRequest, request_op,
};
use support::cluster::{Cluster, Plan, Program};
use support::foreign;
use support::ports::is_free;
use support::process::Process;
use support::{run, until};
use tonic::{Code, Status};

/// The hang guard.
const LIMIT: Duration = Duration::from_secs(120);

async fn one() -> Cluster {
    Plan::new(Program::Jangada, 1).start().await
}

/// Runs a command that must end by itself with an error, and answers what it said.
async fn refused(cluster: &Cluster, command: Command) -> String {
    let log = cluster.home().join("refused.log");
    let mut process = Process::start("refused", command, &log);
    let status = process.ended().await;
    let said = process.log();
    assert!(!status.success(), "it must end with an error:\n{said}");
    assert!(status.code().is_some(), "it must end by itself, not by {status}:\n{said}");
    assert!(!said.contains("panicked"), "a mistake is no panic:\n{said}");
    said
}

fn assert_says(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "{word:?} is missing in:\n{said}");
    }
}

#[test]
fn an_unknown_flag_names_the_nearest_one() {
    run(LIMIT, async {
        let cluster = Plan::new(Program::Jangada, 1).prepare();
        let mut command = cluster.command(0);
        command.arg("--electon-timeout=1000");
        let said = refused(&cluster, command).await;
        assert_says(&said, &["--electon-timeout", "--election-timeout"]);
        assert!(!cluster.members[0].data.exists(), "nothing is made before the flags are read");
    });
}

#[test]
fn a_data_directory_says_who_its_member_is_whatever_the_flags_say() {
    run(LIMIT, async {
        let mut first = one().await;
        first.client(0).put_key("kept", "yes").await.expect("a healthy member");
        let id = first.id(0).await;
        first.terminate(0).await;
        let mut other = Plan::new(Program::Jangada, 1).folder(0, &first.members[0].data).prepare();
        other.start(0);
        other.ready(0).await;
        other.process(0).logged("this member is what its data directory says").await;
        let kept = other.client(0).get_key("kept").await.expect("a healthy member");
        assert_eq!((kept.as_deref(), other.id(0).await), (Some("yes"), id));
    });
}

#[test]
fn an_etcd_data_directory_is_left_alone() {
    run(LIMIT, async {
        let cluster = Plan::new(Program::Jangada, 1).prepare();
        let data = &cluster.members[0].data;
        fs::create_dir_all(data.join("member/snap")).expect("a folder");
        fs::create_dir_all(data.join("member/wal")).expect("a folder");
        fs::write(data.join("member/snap/db"), b"not ours").expect("a file");
        fs::write(data.join("member/wal/0.wal"), b"nor this").expect("a file");
        let said = refused(&cluster, cluster.command(0)).await;
        assert_says(&said, &["etcd", "data-dir"]);
        assert_eq!(fs::read(data.join("member/snap/db")).expect("still there"), b"not ours");
        assert_eq!(fs::read(data.join("member/wal/0.wal")).expect("still there"), b"nor this");
        assert_eq!(fs::read_dir(data).expect("a folder").count(), 1, "nothing is added");
    });
}

#[test]
fn a_port_in_use_is_named() {
    run(LIMIT, async {
        let mut cluster = one().await;
        cluster.client(0).put_key("kept", "yes").await.expect("a healthy member");
        cluster.terminate(0).await;
        for url in [cluster.members[0].client_url.clone(), cluster.members[0].peer_url.clone()] {
            let address = url.trim_start_matches("http://").to_owned();
            let taken = TcpListener::bind(&address).expect("the member has ended");
            let said = refused(&cluster, cluster.command(0)).await;
            assert_says(&said, &["already in use", &address]);
            let port = taken.local_addr().expect("bound").port();
            drop(taken);
            until(async || is_free(port).then_some(())).await;
        }
        cluster.start(0);
        cluster.ready(0).await;
        let kept = cluster.client(0).get_key("kept").await.expect("a healthy member");
        assert_eq!(kept.as_deref(), Some("yes"));
    });
}

#[test]
fn an_unreachable_peer_is_named_and_awaited() {
    run(LIMIT, async {
        let mut cluster = Plan::new(Program::Jangada, 3).prepare();
        cluster.start(0);
        cluster.start(1);
        cluster.ready(0).await;
        cluster.ready(1).await;
        cluster.client(0).put_key("kept", "yes").await.expect("two of three are enough");
        let absent = cluster.members[2].peer_url.trim_start_matches("http://").to_owned();
        cluster.process(0).logged(&absent).await;
        cluster.start(2);
        cluster.ready(2).await;
        let kept = cluster.client(2).get_key("kept").await.expect("a healthy member");
        assert_eq!(kept.as_deref(), Some("yes"));
    });
}

#[test]
fn a_bad_config_file_is_named() {
    run(LIMIT, async {
        let cluster = Plan::new(Program::Jangada, 1).prepare();
        let file = cluster.home().join("jangada.yaml");
        let path = file.display().to_string();
        let with_file = || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_jangada"));
            command.arg("server").arg(format!("--config-file={path}"));
            command.current_dir(cluster.home());
            command
        };
        let said = refused(&cluster, with_file()).await;
        assert_says(&said, &[&path, "cannot be read"]);
        for (text, words) in [
            ("name: [unclosed\n  : {{", &[path.as_str()][..]),
            ("just a sentence", &[path.as_str()]),
            ("name: m1\nelection-timeot: 1000\n", &["election-timeot", "election-timeout"]),
            ("name: m1\nheartbeat-interval: soon\n", &["heartbeat-interval", "soon"]),
        ] {
            fs::write(&file, text).expect("a file can be written");
            assert_says(&refused(&cluster, with_file()).await, words);
        }
        assert_eq!(
            fs::read_dir(cluster.home()).expect("a folder").count(),
            2,
            "there are the file and the log of this test, and nothing else"
        );
    });
}

#[test]
fn a_held_data_directory_is_not_opened_twice() {
    run(LIMIT, async {
        let cluster = one().await;
        let mut client = cluster.client(0);
        client.put_key("kept", "yes").await.expect("a healthy member");
        let second = Plan::new(Program::Jangada, 1).folder(0, &cluster.members[0].data).prepare();
        let said = refused(&second, second.command(0)).await;
        assert_says(&said, &["in use by"]);
        client.put_key("kept", "still").await.expect("the first goes on");
        let kept = client.get_key("kept").await.expect("a healthy member");
        assert_eq!(kept.as_deref(), Some("still"));
    });
}

#[test]
fn an_oversized_request_is_refused_and_loses_nothing() {
    run(LIMIT, async {
        let cluster = one().await;
        let mut client = cluster.client(0);
        client.put_key("kept", "yes").await.expect("a healthy member");
        let put = |bytes: usize| PutRequest {
            key: "kept".into(),
            value: vec![b'x'; bytes].into(),
            ..PutRequest::default()
        };
        let status = client.put(put(1_600_000)).await.expect_err("larger than 1.5 MiB");
        assert_refused(&status, Code::InvalidArgument, "etcdserver: request is too large");
        let status = client.put(put(3 << 20)).await.expect_err("larger than any message");
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
        let kept = client.get_key("kept").await.expect("a healthy member");
        assert_eq!(kept.as_deref(), Some("yes"));
    });
}

#[test]
fn an_invalid_range_is_refused() {
    run(LIMIT, async {
        let cluster = one().await;
        let mut client = cluster.client(0);
        let revision = client.put_key("kept", "yes").await.expect("a healthy member");
        let good = RangeRequest { key: "kept".into(), ..RangeRequest::default() };
        let bad = [
            (RangeRequest::default(), Code::InvalidArgument, "etcdserver: key is not provided"),
            (
                RangeRequest { sort_target: 9, ..good.clone() },
                Code::InvalidArgument,
                "etcdserver: invalid sort option",
            ),
            (
                RangeRequest { sort_order: -1, ..good.clone() },
                Code::InvalidArgument,
                "etcdserver: invalid sort option",
            ),
            (
                RangeRequest { revision: revision + 1, ..good.clone() },
                Code::OutOfRange,
                "etcdserver: mvcc: required revision is a future revision",
            ),
        ];
        for (range, code, text) in bad {
            let status = client.range(range.clone()).await.expect_err("an invalid range");
            assert_refused(&status, code, text);
            // In a transaction it refuses the whole.
            let put = PutRequest { key: "kept".into(), ..PutRequest::default() };
            let operation = |request| RequestOp { request: Some(request) };
            let txn = TxnRequest {
                success: vec![
                    operation(request_op::Request::RequestPut(put)),
                    operation(request_op::Request::RequestRange(range)),
                ],
                ..TxnRequest::default()
            };
            let status = client.txn(txn).await.expect_err("an invalid range within");
            assert_refused(&status, code, text);
        }
        let kept = client.range(good).await.expect("a healthy member");
        assert_eq!(kept.header.map(|header| header.revision), Some(revision));
        assert_eq!(kept.kvs[0].value, "yes");
    });
}

fn assert_refused(status: &Status, code: Code, text: &str) {
    assert_eq!((status.code(), status.message()), (code, text));
}

#[test]
fn every_flag_of_a_real_etcd_is_known() {
    let etcds = foreign::etcds();
    if etcds.is_empty() {
        foreign::skip("etcd");
    }
    let help = |command: &mut Command| {
        let output = command.arg("--help").output().expect("the program runs");
        String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
    };
    let mut command = Command::new(env!("CARGO_BIN_EXE_jangada"));
    let ours = help(command.arg("server"));
    let words: BTreeSet<&str> = ours.split_whitespace().collect();
    for etcd in etcds {
        let theirs = help(&mut Command::new(&etcd.path));
        let lines = theirs.lines().map(str::trim_start);
        let flags = lines.filter_map(|line| line.strip_prefix("--"));
        let names = flags.filter_map(|flag| flag.split([' ', '=']).next());
        let mut count = 0;
        for name in names {
            count += 1;
            let known = words.contains(name) || words.contains(&*format!("--{name}"));
            assert!(known, "--{name} of etcd {} is unknown", etcd.version);
        }
        assert!(50 < count, "the help of etcd {} lists its flags:\n{theirs}", etcd.version);
    }
}
