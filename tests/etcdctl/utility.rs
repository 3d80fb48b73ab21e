//! `etcdutl`, etcd's program for files, on our snapshots.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::cluster::{Cluster, Plan, Program};
use crate::support::{foreign, run};
use crate::{LIMIT, addresses, etcdctl};

fn etcdutl(path: &Path, words: &[&str]) -> String {
    let output = Command::new(path).args(words).output().expect("etcdutl starts");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "etcdutl {words:?}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn etcdutl_examines_and_restores_our_snapshots() {
    // It stands beside an etcdctl of version 3.5 or later.
    let beside = |etcdctl: &foreign::Etcd| {
        let path = etcdctl.path.with_file_name("etcdutl");
        path.exists().then(|| (etcdctl.clone(), path))
    };
    let found = foreign::etcdctls().iter().find_map(beside);
    let Some((program, path)) = found else { return foreign::skip("etcdutl") };
    let etcds = foreign::etcds();
    let etcd = etcds.iter().find(|etcd| etcd.version == program.version);
    let Some(etcd) = etcd else { return foreign::skip("etcd of etcdutl's version") };
    run(LIMIT, async {
        let ours = Cluster::three().await;
        let mut revision = 0;
        for number in 0..20 {
            let (key, value) = (format!("key/{}", number % 7), number.to_string());
            revision = ours.client(0).put_key(&key, &value).await.expect("a healthy cluster");
        }
        let file = ours.home().join("snapshot.db").display().to_string();
        let first = addresses(&ours).split(',').next().expect("there are three").to_owned();
        let saved = etcdctl(&program, &first, &["snapshot", "save", &file]);
        assert!(saved.success, "{saved:?}");
        let status = etcdutl(&path, &["snapshot", "status", &file, "-w=json"]);
        let status: Value = serde_json::from_str(&status).expect("it is JSON");
        assert_eq!(status["revision"].as_i64(), Some(revision), "{status}");
        assert!(status["totalKey"].as_i64().is_some_and(|count| 20 <= count), "{status}");

        let mut theirs = Plan::new(Program::Etcd(etcd.clone()), 1).prepare();
        let member = &theirs.members[0];
        etcdutl(
            &path,
            &[
                "snapshot",
                "restore",
                &file,
                &format!("--name={}", member.name),
                &format!("--data-dir={}", member.data.display()),
                &format!("--initial-cluster={}={}", member.name, member.peer_url),
                &format!("--initial-advertise-peer-urls={}", member.peer_url),
            ],
        );
        theirs.start_all().await;
        for number in 13..20 {
            let key = format!("key/{}", number % 7);
            let value = theirs.client(0).get_key(&key).await.expect("a healthy etcd");
            assert_eq!(value, Some(number.to_string()), "{key}");
        }
    });
}
