//! `jangada watch` against real members.

mod support;

use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use support::cluster::Cluster;
use support::process::Process;
use support::run;

/// The hang guard.
const LIMIT: Duration = Duration::from_secs(180);

fn watch(cluster: &Cluster, name: &str, words: &[&str]) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jangada"));
    command.arg("watch").arg(format!("--endpoints={}", cluster.endpoints())).args(words);
    Process::start(name, command, &cluster.home().join(format!("{name}.log")))
}

#[test]
fn watches_are_printed_run_programs_and_end() {
    run(LIMIT, async {
        let cluster = Cluster::three().await;
        let mut client = cluster.client(0);
        for (key, value) in [("a", "1"), ("b", "1"), ("a", "2")] {
            client.put_key(key, value).await.expect("a healthy cluster");
        }
        let mut plain = watch(&cluster, "plain", &["a", "--rev=2", "--prev-kv", "--count=2"]);
        assert!(plain.ended().await.success(), "{}", plain.log());
        assert_eq!(plain.log(), "PUT\na\n1\nPUT\na\n1\na\n2\n");

        let words = ["", "--prefix", "--rev=3", "--count=2", "-o", "json"];
        let mut json = watch(&cluster, "json", &words);
        assert!(json.ended().await.success(), "{}", json.log());
        let log = json.log();
        let events = log.lines().map(|line| {
            let response: Value = serde_json::from_str(line).expect("a line is a response");
            response["Events"].as_array().cloned().expect("a response has events")
        });
        let revisions: Vec<u64> =
            events.flatten().filter_map(|event| event["kv"]["mod_revision"].as_u64()).collect();
        assert_eq!(revisions, [3, 4]);

        let words =
            ["a", "--rev=2", "--filter=delete", "--count=1", "--", "printenv", "ETCD_WATCH_KEY"];
        let mut program = watch(&cluster, "program", &words);
        assert!(program.ended().await.success(), "{}", program.log());
        assert_eq!(program.log(), "PUT\na\n1\n\"a\"\n");

        let mut refused = watch(&cluster, "refused", &["b", "a"]);
        assert_eq!(refused.ended().await.code(), Some(1));
        assert!(refused.log().contains("watcher range is empty"), "{}", refused.log());
    });
}

#[test]
fn a_watch_goes_on_at_another_member_when_its_own_is_killed() {
    run(LIMIT, async {
        let mut cluster = Cluster::three().await;
        let put = async |cluster: &Cluster, member: usize, number: u64| {
            let number = number.to_string();
            support::until(async || cluster.client(member).put_key("a", &number).await.ok()).await
        };
        // From the first write on: whichever comes first, the watch or the write.
        let mut watching = watch(&cluster, "resumed", &["a", "--rev=2", "--count=4"]);
        put(&cluster, 1, 1).await;
        put(&cluster, 1, 2).await;
        watching.logged("PUT\na\n2\n").await;
        cluster.kill(0).await;
        // A write may be made twice, while a leader is elected; then there are two events of it.
        put(&cluster, 1, 3).await;
        put(&cluster, 2, 4).await;
        assert!(watching.ended().await.success(), "{}", watching.log());
        let log = watching.log();
        let mut values: Vec<&str> = log.split("PUT\na\n").skip(1).map(str::trim).collect();
        assert_eq!(values[..3], ["1", "2", "3"]);
        values.dedup();
        assert!(values == ["1", "2", "3", "4"] || values == ["1", "2", "3"], "{log}");
    });
}
