//! `jangada bench` against real members, of this server and of etcd: it does what it was asked, counts
//! what was done, and says so. How fast anything is is not looked at.

mod support;

use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use jangada_server::proto::etcdserverpb::RangeRequest;
use serde_json::Value;
use support::cluster::{Cluster, Plan, Program};
use support::foreign;

/// The hang guard.
const LIMIT: Duration = Duration::from_secs(180);

/// Runs a benchmark and answers its report.
async fn bench(endpoints: &str, words: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jangada"));
    command.arg("bench").args(words).args(["--no-floor", "-o", "json"]);
    command.arg(format!("--endpoints={endpoints}"));
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = output.await.expect("it does not panic").expect("it runs");
    let problem = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {problem}");
    serde_json::from_slice(&output.stdout).expect("it is JSON")
}

/// Keys, and what they add up to of versions: how many writes there were.
async fn written(cluster: &Cluster) -> (usize, i64) {
    let (key, range_end) = (Bytes::from_static(b"bench/"), Bytes::from_static(b"bench0"));
    let range = RangeRequest { key, range_end, ..RangeRequest::default() };
    let all = cluster.client(0).range(range).await.expect("a healthy cluster");
    (all.kvs.len(), all.kvs.iter().map(|kv| kv.version).sum())
}

async fn check(cluster: &Cluster) {
    let endpoints = cluster.endpoints();
    let put = ["put", "--total=300", "--clients=7", "--key-space=100", "--key-order=sequential"];
    let report = bench(&endpoints, &put).await;
    assert_eq!(report["report"]["latency"]["count"], 300);
    assert_eq!(written(cluster).await, (100, 300));

    for (words, writes) in [
        (&["txn", "--total=50", "--clients=4"][..], 50),
        (&["range", "--total=50", "--keys=20", "--clients=4"], 0),
        (&["range", "--total=50", "--consistency=s"], 0),
        (&["get", "--total=50", "--key-order=skewed"], 0),
        (&["mixed", "--total=50", "--reads=0", "--rate=2000"], 50),
        // More than one frame of HTTP/2, and more than the windows that a connection begins with.
        (&["put", "--total=12", "--clients=3", "--val-size=200000"], 12),
    ] {
        let (_, before) = written(cluster).await;
        let mut words = words.to_vec();
        words.push("--key-space=100");
        let report = bench(&endpoints, &words).await;
        assert_eq!(report["report"]["errors"], serde_json::json!({}), "{words:?}");
        assert_eq!(written(cluster).await.1 - before, writes, "{words:?}");
    }
}

#[test]
fn benchmarks_do_what_they_are_asked() {
    support::run(LIMIT, async { check(&Cluster::three().await).await });
}

#[test]
fn the_floor_of_a_put_is_three_processes_that_are_gone_afterwards() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let output = Command::new(env!("CARGO_BIN_EXE_jangada"))
        .args(["bench", "floor", "--runs=1", "--duration=200ms", "-o", "json", "--floor-dir"])
        .arg(folder.path())
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    for what in ["put", "call"] {
        let count = &report["rounds"][0]["processes"][what]["count"];
        assert!(count.as_u64().is_some_and(|count| 0 < count), "{what}: {report}");
    }
    assert_eq!(folder.path().read_dir().expect("it is there").count(), 0);
}

#[test]
fn benchmarks_do_the_same_to_real_etcds_and_set_both_side_by_side() {
    foreign::beside_etcds(LIMIT, async |etcd| {
        let theirs = Plan::new(Program::Etcd(etcd.clone()), 1).start().await;
        check(&theirs).await;
        let ours = Plan::new(Program::Jangada, 1).start().await;
        let compare = format!("--compare={}", theirs.endpoints());
        let report = bench(&ours.endpoints(), &["put", "--total=20", "--runs=3", &compare]).await;
        let servers = report["scenarios"][0].as_array().expect("a scenario has servers");
        for server in servers {
            assert_eq!(server["reports"].as_array().map(Vec::len), Some(3), "{server}");
        }
        assert_eq!(servers.len(), 2);
        assert_eq!(written(&theirs).await.1, 300 + 50 + 50 + 12 + 60);
        assert_eq!(written(&ours).await.1, 60);
    });
}
