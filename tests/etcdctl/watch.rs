//! `etcdctl watch` in all its forms: it must print the same as against a real etcd.

use std::process::Command;

use jangada_server::proto::etcdserverpb::{CompactionRequest, DeleteRangeRequest};
use serde_json::Value;

use crate::support::cluster::Cluster;
use crate::support::foreign::Etcd;
use crate::support::process::Process;
use crate::support::until;

/// What is watched, words separated by a bar. Each sees the last write.
const WATCHES: &[&str] = &[
    "w/a|--rev=2",
    "w/a|--rev=2|--prev-kv",
    "w/|--prefix|--rev=2",
    "w/|--prefix|--rev=4|--prev-kv",
    "w/|--prefix|--rev=2|--progress-notify",
    "w/a|w/c|--rev=2",
    "w/a|--rev=2|-w=json|--prev-kv",
    "w/|--prefix|--rev=2|-w=json",
    "w/a|--rev=2|--hex",
    "w/a|--rev=2|--|printenv|ETCD_WATCH_VALUE",
    "w/b|--rev=9",
];

/// Watches that are written before the watchers begin.
async fn write(cluster: &Cluster) {
    let mut client = cluster.client(0);
    for (key, value) in [("w/a", "1"), ("w/b", "1"), ("w/a", "2"), ("other", "1"), ("w/c", "1")] {
        client.put_key(key, value).await.expect("a healthy cluster");
    }
    let delete = DeleteRangeRequest { key: "w/b".into(), ..DeleteRangeRequest::default() };
    client.delete_range(delete).await.expect("a healthy cluster");
}

/// What comes once all watchers are there; the last write is the end of each.
async fn write_the_end(cluster: &Cluster) {
    for (key, value) in [("w/a", ""), ("w/b", "8"), ("w/a", "the end"), ("w/b", "the end")] {
        cluster.client(0).put_key(key, value).await.expect("a healthy cluster");
    }
}

fn start(program: &Etcd, cluster: &Cluster, watch: &str, number: usize) -> Process {
    let mut command = Command::new(&program.path);
    command
        .env("ETCDCTL_API", "3")
        .arg(format!("--endpoints={}", cluster.endpoints()))
        .arg("watch")
        .args(watch.split('|'));
    let name = format!("etcdctl-{}-watch-{number}", program.version);
    let log = cluster.home().join(format!("{name}.log"));
    Process::start(&name, command, &log)
}

/// What was printed, without what differs from one cluster to another, and from one division of events
/// into responses to another.
fn printed(process: &Process) -> Vec<String> {
    let mut lines = Vec::new();
    for line in process.log().lines() {
        match serde_json::from_str(line) {
            Ok(Value::Object(response)) => {
                let events = response["Events"].as_array().cloned().unwrap_or_default();
                lines.extend(events.iter().map(Value::to_string));
            }
            _ => lines.push(line.to_owned()),
        }
    }
    lines
}

/// Whether the end of what is watched was printed: in plain, in base64 or in hexadecimal digits.
fn has_ended(process: &Process) -> bool {
    let log = process.log();
    let ends = ["the end", "dGhlIGVuZA==", "\\x74\\x68\\x65\\x20\\x65\\x6e\\x64"];
    ends.iter().any(|end| log.contains(end))
}

/// Watches both clusters in every form.
pub(crate) async fn watch(program: &Etcd, theirs: &Cluster, ours: &Cluster) {
    tokio::join!(write(theirs), write(ours));
    // etcdctl 3.4 does not know how to ask for progress.
    let knows = |form: &str| !program.version.starts_with("3.4") || !form.contains("progress");
    let forms = WATCHES.iter().filter(|form| knows(form)).enumerate();
    let running: Vec<(&str, Process, Process)> = forms
        .map(|(number, form)| {
            let (theirs, ours) =
                (start(program, theirs, form, number), start(program, ours, form, number));
            (*form, theirs, ours)
        })
        .collect();
    // Whoever waits for the first of these has made its watcher; the others may still, from the past.
    tokio::join!(write_the_end(theirs), write_the_end(ours));
    for (form, theirs, ours) in &running {
        until(async || (has_ended(theirs) && has_ended(ours)).then_some(())).await;
        // Where two keys are watched there are two ends.
        until(async || (printed(ours).len() == printed(theirs).len()).then_some(())).await;
        let (mut ours, mut theirs) = (printed(ours), printed(theirs));
        if form.contains("printenv") {
            // A response is printed before its commands run.
            ours.sort();
            theirs.sort();
        }
        assert_eq!(ours, theirs, "etcdctl {} watch {form}", program.version);
    }
    for cluster in [theirs, ours] {
        let compaction = CompactionRequest { revision: 5, physical: true };
        cluster.client(0).compact(compaction).await.expect("a healthy cluster");
        let mut ended = start(program, cluster, "w/a|--rev=2", WATCHES.len());
        ended.ended().await;
        let sentence = "required revision has been compacted";
        assert!(ended.log().contains(sentence), "{}", ended.log());
    }
}
