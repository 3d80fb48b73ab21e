//! `make-mirror` between clusters of ours and of etcd, and etcdctl's between ours.

mod support;

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use jangada_server::proto::etcdserverpb as pb;
use pb::request_op::Request;
use rustix::process::Signal;
use serde_json::Value;
use support::cluster::{Cluster, Plan, Program};
use support::foreign;
use support::process::Process;
use support::{run, until};

/// The hang guard.
const LIMIT: Duration = Duration::from_secs(300);

async fn one(program: Program) -> Cluster {
    Plan::new(program, 1).start().await
}

/// Starts `jangada make-mirror` with these words behind the destination.
fn mirror(name: &str, from: &Cluster, to: &Cluster, words: &[&str]) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jangada"));
    command
        .arg("make-mirror")
        .arg(format!("--endpoints={}", from.endpoints()))
        .arg(to.endpoints())
        .args(words);
    Process::start(name, command, &from.home().join(format!("{name}.log")))
}

/// All keys that begin with the prefix: their values and modification revisions.
async fn keys(cluster: &Cluster, prefix: &str) -> BTreeMap<String, (String, i64)> {
    let mut end = prefix.as_bytes().to_vec();
    match end.last_mut() {
        Some(last) => *last += 1,
        None => end.push(0),
    }
    let key = if prefix.is_empty() { "\0" } else { prefix };
    let request = pb::RangeRequest {
        key: key.to_owned().into(),
        range_end: end.into(),
        ..pb::RangeRequest::default()
    };
    let answer = cluster.client(0).range(request).await.expect("a healthy cluster");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    answer.kvs.iter().map(|kv| (text(&kv.key), (text(&kv.value), kv.mod_revision))).collect()
}

/// The same without revisions, under the names of the destination.
async fn values(cluster: &Cluster, prefix: &str, to: &str) -> BTreeMap<String, String> {
    let renamed = |key: &str| format!("{to}{}", &key[prefix.len()..]);
    let keys = keys(cluster, prefix).await;
    keys.into_iter().map(|(key, (value, _))| (renamed(&key), value)).collect()
}

async fn delete(cluster: &Cluster, key: &str) {
    let request =
        pb::DeleteRangeRequest { key: key.to_owned().into(), ..pb::DeleteRangeRequest::default() };
    cluster.client(0).delete_range(request).await.expect("a healthy cluster");
}

/// One transaction that puts all of these keys; its revision.
async fn put_together(cluster: &Cluster, keys: &[String], value: &str) -> i64 {
    let put = |key: &String| {
        let (key, value) = (key.clone().into(), value.to_owned().into());
        let put = pb::PutRequest { key, value, ..pb::PutRequest::default() };
        pb::RequestOp { request: Some(Request::RequestPut(put)) }
    };
    let success = keys.iter().map(put).collect();
    let request = pb::TxnRequest { success, ..pb::TxnRequest::default() };
    let answer = cluster.client(0).txn(request).await.expect("a healthy cluster");
    answer.header.expect("every answer has a header").revision
}

/// Waits until the destination has what the source has.
async fn mirrored(mirror: &mut Process, from: (&Cluster, &str), to: (&Cluster, &str)) {
    until(async || {
        assert!(mirror.status().is_none(), "it ended: {}", mirror.log());
        let expected = values(from.0, from.1, to.1).await;
        (values(to.0, to.1, to.1).await == expected).then_some(())
    })
    .await;
}

async fn fill(cluster: &Cluster) {
    for group in 0..3 {
        let keys: Vec<String> = (0..100).map(|key| format!("a/{group}{key:02}")).collect();
        put_together(cluster, &keys, "first").await;
    }
    cluster.client(0).put_key("a/large", &"x".repeat(1 << 20)).await.expect("it takes it");
    cluster.client(0).put_key("b/other", "not mirrored").await.expect("a healthy cluster");
}

/// What goes on at the source while it is mirrored.
async fn change(cluster: &Cluster) {
    delete(cluster, "a/000").await;
    let keys: Vec<String> = (0..3).map(|key| format!("a/together{key}")).collect();
    put_together(cluster, &keys, "1").await;
    for value in ["2", "3"] {
        cluster.client(0).put_key("a/together0", value).await.expect("a healthy cluster");
    }
}

#[test]
fn a_cluster_is_mirrored_and_its_mirror_goes_on() {
    run(LIMIT, async {
        let (from, to) = tokio::join!(one(Program::Jangada), one(Program::Jangada));
        fill(&from).await;
        to.client(0).put_key("copy/own", "kept").await.expect("a healthy cluster");
        let words = ["--prefix=a/", "--dest-prefix=copy/a/", "-o", "json", "--every=100ms"];
        let mut running = mirror("first", &from, &to, &words);
        mirrored(&mut running, (&from, "a/"), (&to, "copy/a/")).await;
        change(&from).await;
        mirrored(&mut running, (&from, "a/"), (&to, "copy/a/")).await;
        // One revision of the source is one of the destination.
        let copied = keys(&to, "copy/a/").await;
        assert_eq!(copied["copy/a/together1"].1, copied["copy/a/together2"].1);
        assert!(copied["copy/a/together1"].1 < copied["copy/a/together0"].1);
        assert_eq!(
            to.client(0).get_key("copy/own").await.expect("it serves").as_deref(),
            Some("kept")
        );

        // 301 copied; a deletion, three together, two more.
        running.logged("{\"mirrored\":307,").await;
        running.signal(Signal::INT);
        assert!(running.ended().await.success(), "{}", running.log());
        let log = running.log();
        let last: Value =
            serde_json::from_str(log.lines().last().expect("a count")).expect("a line is JSON");
        let reached = last["revision"].as_i64().expect("a revision");
        assert!(7 < reached, "{log}");

        // Deleted and written while nobody mirrors: seen from the revision that was said.
        delete(&from, "a/001").await;
        let late: Vec<String> = (0..5).map(|key| format!("a/late{key}")).collect();
        let revision = put_together(&from, &late, "1").await;
        let rev = format!("--rev={}", reached + 1);
        let words = [words[0], words[1], &rev, "--max-txn-ops=2"];
        let mut running = mirror("second", &from, &to, &words);
        mirrored(&mut running, (&from, "a/"), (&to, "copy/a/")).await;
        let copied = keys(&to, "copy/a/").await;
        let revisions: Vec<i64> =
            (0..5).map(|key| copied[&format!("copy/a/late{key}")].1).collect();
        assert_eq!(revisions[0], revisions[1]);
        assert_eq!(revisions[2], revisions[3]);
        assert!(revisions[0] < revisions[2] && revisions[2] < revisions[4]);
        running.signal(Signal::TERM);
        assert!(running.ended().await.success(), "{}", running.log());

        let compaction = pb::CompactionRequest { revision, physical: true };
        from.client(0).compact(compaction).await.expect("a healthy cluster");
        let mut refused = mirror("compacted", &from, &to, &words);
        assert_eq!(refused.ended().await.code(), Some(1));
        assert!(refused.log().contains("start again without --rev"), "{}", refused.log());

        let mut refused = mirror("itself", &from, &from, &[]);
        assert_eq!(refused.ended().await.code(), Some(2));
        assert!(refused.log().contains("the same cluster"), "{}", refused.log());
    });
}

#[test]
fn a_mirror_outlives_the_restart_of_the_member_that_it_follows() {
    run(LIMIT, async {
        let (mut from, to) = tokio::join!(one(Program::Jangada), one(Program::Jangada));
        let put = async |from: &Cluster, value: &str| {
            from.client(0).put_key("a", value).await.expect("a healthy cluster");
        };
        put(&from, "1").await;
        let mut running = mirror("mirror", &from, &to, &["--timeout=120s"]);
        mirrored(&mut running, (&from, ""), (&to, "")).await;
        from.kill(0).await;
        from.start_all().await;
        put(&from, "2").await;
        mirrored(&mut running, (&from, ""), (&to, "")).await;
    });
}

#[test]
fn etcd_is_mirrored_and_a_mirror() {
    let (etcds, etcdctls) = (foreign::etcds(), foreign::etcdctls());
    let Some(etcd) = etcds.last() else { return foreign::skip("etcd") };
    if etcdctls.is_empty() {
        return foreign::skip("etcdctl");
    }
    run(LIMIT, async {
        let etcd = || one(Program::Etcd(etcd.clone()));
        let (ours, other, theirs, copied) =
            tokio::join!(one(Program::Jangada), one(Program::Jangada), etcd(), etcd());
        fill(&ours).await;
        fill(&theirs).await;
        let words = ["--prefix=a/"];
        let mut to_etcd = mirror("to-etcd", &ours, &copied, &words);
        let mut from_etcd = mirror("from-etcd", &theirs, &other, &words);
        mirrored(&mut to_etcd, (&ours, "a/"), (&copied, "a/")).await;
        mirrored(&mut from_etcd, (&theirs, "a/"), (&other, "a/")).await;
        change(&ours).await;
        change(&theirs).await;
        mirrored(&mut to_etcd, (&ours, "a/"), (&copied, "a/")).await;
        mirrored(&mut from_etcd, (&theirs, "a/"), (&other, "a/")).await;

        // etcdctl's own, between two of ours.
        for program in &etcdctls {
            let prefix = format!("by-{}/", program.version);
            let mut command = Command::new(&program.path);
            command
                .env("ETCDCTL_API", "3")
                .arg(format!("--endpoints={}", ours.endpoints()))
                .args(["make-mirror", "--prefix=a/", &format!("--dest-prefix={prefix}")])
                .arg(other.endpoints());
            let log = ours.home().join(format!("etcdctl-{}.log", program.version));
            let mut running = Process::start("etcdctl", command, &log);
            mirrored(&mut running, (&ours, "a/"), (&other, &prefix)).await;
            change_once_more(&ours, &program.version).await;
            mirrored(&mut running, (&ours, "a/"), (&other, &prefix)).await;
        }
    });
}

async fn change_once_more(cluster: &Cluster, version: &str) {
    let keys = [format!("a/{version}/x"), format!("a/{version}/y")];
    put_together(cluster, &keys, "1").await;
    delete(cluster, &keys[0]).await;
}
