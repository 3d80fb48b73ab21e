//! Snapshots between Jangada and real etcds, both ways: whoever is restored from the other's file holds
//! every key at every revision.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use jangada_server::proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest,
};
use serde_json::Value;
use support::client::Client;
use support::cluster::{Cluster, Plan, Program};
use support::foreign::{self, Etcd};
use support::run;

/// The hang guard.
const LIMIT: Duration = Duration::from_secs(300);

/// The revision that [`fill`] compacts.
const COMPACTED: i64 = 150;

/// Each etcd that an etcdctl of the same version is there for, and that.
fn pairs() -> Vec<(Etcd, Etcd)> {
    let etcdctls = foreign::etcdctls();
    let of_version = |etcd: &Etcd| etcdctls.iter().find(|ctl| ctl.version == etcd.version).cloned();
    foreign::etcds().into_iter().filter_map(|etcd| Some((of_version(&etcd)?, etcd))).collect()
}

/// Puts, overwrites, deletes and compacts: pages of every kind, and long values. Answers the newest
/// revision.
async fn fill(client: &mut Client) -> i64 {
    let put = |key: String, value: String| PutRequest {
        key: key.into(),
        value: value.into(),
        ..PutRequest::default()
    };
    for n in 0..400_usize {
        let value = match n % 100 {
            99 => "long ".repeat(n * 20),
            _ => format!("value {n}"),
        };
        client.put(put(format!("key/{}", n % 170), value)).await.expect("it is put");
        if n % 50 == 49 {
            let delete = DeleteRangeRequest {
                key: format!("key/{}", n % 13).into(),
                ..DeleteRangeRequest::default()
            };
            client.delete_range(delete).await.expect("it is deleted");
        }
    }
    let compact = CompactionRequest { revision: COMPACTED, physical: true };
    client.compact(compact).await.expect("it is compacted");
    client.put_key("last", "one").await.expect("it is put")
}

fn everything(revision: i64) -> RangeRequest {
    let (key, range_end) = (b"\0".as_slice().into(), b"\0".as_slice().into());
    RangeRequest { key, range_end, revision, ..RangeRequest::default() }
}

/// Both hold the same, now and at every revision that is left.
async fn compare(one: &mut Client, other: &mut Client, newest: i64) {
    for revision in COMPACTED..=newest {
        let one = one.range(everything(revision)).await.expect("it is not compacted");
        let other = other.range(everything(revision)).await.expect("it is not compacted");
        assert_eq!((&one.kvs, one.count), (&other.kvs, other.count), "at revision {revision}");
        assert_eq!(one.header.map(|h| h.revision), other.header.map(|h| h.revision));
    }
    let hash = async |client: &mut Client| {
        let hashed = client.hash_kv(0).await.expect("it is hashed");
        (hashed.hash, hashed.compact_revision)
    };
    assert_eq!(hash(one).await, hash(other).await);
}

fn jangada() -> Command {
    Command::new(env!("CARGO_BIN_EXE_jangada"))
}

fn etcdctl(program: &Etcd) -> Command {
    let mut command = Command::new(&program.path);
    command.env("ETCDCTL_API", "3");
    command
}

fn output(mut command: Command, words: &[&str]) -> Output {
    let output = command.args(words).output().expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let told = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{words:?}: {told}");
    output
}

fn json(command: Command, words: &[&str]) -> Value {
    let output = output(command, words);
    serde_json::from_slice(&output.stdout).expect("it is JSON")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}

/// Restores a member that is laid out, with the flags that it will be started with.
fn restore(restorer: Command, snapshot: &Path, cluster: &Cluster, member: usize, more: &[&str]) {
    let started_with = cluster.command(member);
    let wanted = ["--name=", "--data-dir=", "--initial-cluster=", "--initial-cluster-token="];
    let flags = started_with.get_args().filter_map(|word| word.to_str()).filter(|word| {
        wanted.iter().chain(&["--initial-advertise-peer-urls="]).any(|flag| word.starts_with(flag))
    });
    let mut words = vec!["snapshot", "restore", text(snapshot)];
    words.extend(flags);
    words.extend(more);
    output(restorer, &words);
}

/// The file's figures, as a program prints them.
fn figures(program: Command, format: &str, snapshot: &Path) -> Value {
    json(program, &["snapshot", "status", text(snapshot), format])
}

#[test]
fn a_real_etcd_starts_from_our_snapshot() {
    let pairs = pairs();
    if pairs.is_empty() {
        return foreign::skip("etcd with an etcdctl");
    }
    run(LIMIT, async {
        let ours = Cluster::three().await;
        let mut client = ours.client(1);
        let newest = fill(&mut client).await;
        for (program, etcd) in &pairs {
            let snapshot = ours.home().join(format!("of-{}.db", etcd.version));
            let endpoint = format!("--endpoints={}", ours.members[1].client_url);
            output(etcdctl(program), &[&endpoint, "snapshot", "save", text(&snapshot)]);
            let told = figures(jangada(), "--output=json", &snapshot);
            assert_eq!(told, figures(etcdctl(program), "--write-out=json", &snapshot));
            assert_eq!(told["revision"], newest);
            let mut theirs = Plan::new(Program::Etcd(etcd.clone()), 1).prepare();
            restore(etcdctl(program), &snapshot, &theirs, 0, &[]);
            theirs.start_all().await;
            compare(&mut client, &mut theirs.client(0), newest).await;
            let written = theirs.client(0).put_key("after", "restoring").await;
            assert_eq!(written.expect("it serves"), newest + 1);
        }
    });
}

#[test]
fn we_start_from_the_snapshot_of_a_real_etcd() {
    foreign::beside_etcds(LIMIT, async |etcd| {
        let theirs = Plan::new(Program::Etcd(etcd.clone()), 1).start().await;
        let mut client = theirs.client(0);
        let newest = fill(&mut client).await;
        let snapshot = theirs.home().join("snapshot.db");
        save(&theirs, &snapshot);
        let mut ours = Plan::new(Program::Jangada, 3).prepare();
        for member in 0..3 {
            restore(jangada(), &snapshot, &ours, member, &["--bump-revision=0"]);
        }
        ours.start_all().await;
        compare(&mut client, &mut ours.client(0), newest).await;
        let written = ours.client(2).put_key("after", "restoring").await.expect("it serves");
        assert_eq!(written, newest + 1);
        // What was restored is there after a restart as anything else.
        for member in 0..3 {
            ours.kill(member).await;
        }
        ours.start_all().await;
        let after = ours.client(0).get_key("after").await.expect("it serves");
        assert_eq!(after.as_deref(), Some("restoring"));
    });
}

fn save(cluster: &Cluster, snapshot: &Path) -> PathBuf {
    let endpoint = format!("--endpoints={}", cluster.endpoints());
    output(jangada(), &[&endpoint, "snapshot", "save", text(snapshot)]);
    snapshot.to_owned()
}

#[test]
fn a_restored_cluster_is_not_taken_for_the_old_one() {
    run(LIMIT, async {
        let old = Plan::new(Program::Jangada, 1).start().await;
        let newest = fill(&mut old.client(0)).await;
        let snapshot = save(&old, &old.home().join("snapshot.db"));
        let mut new = Plan::new(Program::Jangada, 3).prepare();
        for member in 0..3 {
            restore(jangada(), &snapshot, &new, member, &[]);
        }
        new.start_all().await;
        let mut client = new.client(1);
        let all = client.range(everything(0)).await.expect("it serves");
        let of_old = old.client(0).range(everything(0)).await.expect("it serves");
        assert_eq!(all.kvs, of_old.kvs, "every key is there as it was");
        let revision = all.header.expect("every answer has a header").revision;
        assert_eq!(revision, newest + 1_000_000_000);
        let past = client.range(everything(newest)).await.expect_err("it is compacted");
        assert!(past.message().contains("compacted"), "{}", past.message());
        // A member added later gets the same by a snapshot from its leader, or by the log.
        let added = new.lay_out();
        new.join(added, 0, false).await;
        new.ready(added).await;
        let found = new.client(added).range(everything(0)).await.expect("it serves");
        assert_eq!(found.kvs, of_old.kvs);
        // A snapshot of the new cluster starts a third.
        let again = save(&new, &new.home().join("again.db"));
        let mut third = Plan::new(Program::Jangada, 1).prepare();
        restore(jangada(), &again, &third, 0, &["--bump-revision=0"]);
        third.start_all().await;
        let found = third.client(0).range(everything(0)).await.expect("it serves");
        assert_eq!(found.kvs, of_old.kvs);
        assert_eq!(found.header.map(|header| header.revision), Some(revision));
    });
}

#[test]
fn members_that_are_restored_from_different_files_do_not_go_on_together() {
    run(LIMIT, async {
        let old = Plan::new(Program::Jangada, 1).start().await;
        fill(&mut old.client(0)).await;
        let first = save(&old, &old.home().join("first.db"));
        old.client(0).put_key("more", "of it").await.expect("it is put");
        let second = save(&old, &old.home().join("second.db"));
        let mut new = Plan::new(Program::Jangada, 3).prepare();
        for member in 0..3 {
            let snapshot = if member == 2 { &second } else { &first };
            restore(jangada(), snapshot, &new, member, &[]);
        }
        for member in 0..3 {
            new.start(member);
        }
        new.ready(0).await;
        // The odd one is mended by the others' state, and is no longer odd.
        support::until(async || {
            new.client(0).put_key("goes", "on").await.ok()?;
            let found = new.client(2).get_key("more").await.ok()?;
            let goes = new.client(2).get_key("goes").await.ok()?;
            (found.is_none() && goes.as_deref() == Some("on")).then_some(())
        })
        .await;
    });
}

#[test]
fn an_interrupted_restoration_does_not_keep_the_next_from_its_directory() {
    run(LIMIT, async {
        let old = Plan::new(Program::Jangada, 1).start().await;
        fill(&mut old.client(0)).await;
        let snapshot = save(&old, &old.home().join("snapshot.db"));
        let mut new = Plan::new(Program::Jangada, 1).prepare();
        // What one leaves that is killed while it fills the store.
        let data = new.members[0].data.clone();
        std::fs::create_dir_all(data.join("wal")).expect("it can be made");
        std::fs::write(data.join("db.unfinished"), [7; 5000]).expect("there is space");
        restore(jangada(), &snapshot, &new, 0, &[]);
        assert!(!data.join("db.unfinished").exists());
        // What it has made is a member's, and nobody restores over it.
        let flag = format!("--data-dir={}", data.display());
        let words = ["snapshot", "restore", text(&snapshot), &flag];
        let output = jangada().args(words).output().expect("the program starts");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && told.contains("is not empty"), "{told}");
        new.start_all().await;
        new.client(0).put_key("goes", "on").await.expect("it serves");
    });
}

#[test]
fn what_is_no_snapshot_is_refused_with_a_sentence() {
    let home = tempfile::tempdir().expect("a temporary folder can be made");
    let file = home.path().join("file");
    std::fs::write(&file, vec![7; 10_000]).expect("there is space");
    let data = format!("--data-dir={}", home.path().join("data").display());
    let cases: [(&[&str], &str); 3] = [
        (&["snapshot", "status", text(&file)], "no database of etcd's"),
        (&["snapshot", "restore", text(&file), &data], "no checksum"),
        (
            &["snapshot", "restore", text(&file), &data, "--mark-compacted", "--bump-revision=0"],
            "goes with",
        ),
    ];
    for (words, what) in cases {
        let output = jangada().args(words).output().expect("the program starts");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && told.contains(what), "{words:?}: {told}");
    }
    assert!(!home.path().join("data").exists(), "nothing was made");
}
