//! `etcdctl`, unchanged, against three members of Jangada.
//!
//! Every command of a list is run against a real etcd too, and must print the same and end with the
//! same status; ids, terms and the client's own log lines are taken out. What names addresses or
//! sizes (status, health, members) is compared with what it must say.

mod support;

#[path = "etcdctl/check.rs"]
mod check;
#[path = "etcdctl/maintenance.rs"]
mod maintenance;
#[path = "etcdctl/utility.rs"]
mod utility;
#[path = "etcdctl/watch.rs"]
mod watch;

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use jangada_server::proto::etcdserverpb::alarm_request::AlarmAction;
use jangada_server::proto::etcdserverpb::{AlarmRequest, AlarmType};
use serde_json::Value;
use support::cluster::{Cluster, Plan, Program};
use support::foreign::{self, Etcd};
use support::ports::free_port;
use support::{run, until};

/// The hang guard.
const LIMIT: Duration = Duration::from_secs(180);

/// The commands, in order; words are separated by a bar, so that one can be empty or hold blanks.
const COMMANDS: &[&str] = &[
    "put|a|1",
    "put|ab|2",
    "put|b|3",
    "put|c|four words are here",
    "put|a|5|--prev-kv",
    "put|new|6|--prev-kv",
    "put|z\u{e9}|7",
    "put||no key",
    "put|a|--ignore-value",
    "put|missing|--ignore-value",
    "put|missing|8|--ignore-lease",
    "put|a|9|--lease=1234",
    "version",
    "get|a",
    "get|a|-w=json",
    "get|a|-w=fields",
    "get|missing",
    "get|a|--hex",
    "get|a|b",
    "get|a|--prefix",
    "get||--prefix",
    "get||--prefix|--limit=2",
    "get||--prefix|--limit=2|-w=json",
    "get|b|--from-key",
    "get||--from-key",
    "get||--prefix|--order=ASCEND",
    "get||--prefix|--order=DESCEND",
    "get||--prefix|--sort-by=KEY|--order=DESCEND",
    "get||--prefix|--sort-by=CREATE|--order=DESCEND",
    "get||--prefix|--sort-by=MODIFY|--order=ASCEND",
    "get||--prefix|--sort-by=VALUE|--order=DESCEND",
    "get||--prefix|--sort-by=VERSION|--order=DESCEND|--limit=1",
    "get|a|--rev=2",
    "get||--prefix|--rev=4|-w=fields",
    "get|a|--rev=999",
    "get||--prefix|--keys-only",
    "get|a|--print-value-only",
    "get|a|--consistency=s",
    "txn",
    "get||--prefix",
    "del|ab",
    "del|ab",
    "del|missing|--prev-kv",
    "del|c|--prev-kv",
    "del|x|--prefix",
    "put|x/1|1",
    "put|x/2|2",
    "del|x/|--prefix|--prev-kv",
    "compaction|5",
    "get|a|--rev=4",
    "get|a|--rev=5",
    "compaction|5",
    "compaction|4",
    "compaction|999",
    "compaction|7|--physical",
    "get||--prefix|--rev=7|-w=json",
    "del||--from-key|--prev-kv",
    "get||--prefix|-w=fields",
];

/// Only in etcdctl 3.5 and later.
const LATER_COMMANDS: &[&str] =
    &["get||--prefix|--count-only", "get||--prefix|--count-only|-w=fields"];

/// What `txn` reads: compares, the success branch, the failure branch.
const TXN: &str = "value(\"a\") = \"5\"\nversion(\"a\") > \"1\"\n\nput a from-txn\nget a\nput t 1\n\n\
                   put failed 1\n\n";

/// What a command printed, comparable.
#[derive(PartialEq, Debug)]
struct Printed {
    success: bool,
    out: String,
    error: String,
}

fn etcdctl(program: &Etcd, endpoints: &str, words: &[&str]) -> Printed {
    let mut child = Command::new(&program.path)
        .env("ETCDCTL_API", "3")
        .arg(format!("--endpoints={endpoints}"))
        // Ours may wait for an election at first; the client's default is five seconds.
        .arg("--command-timeout=30s")
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("etcdctl starts");
    let input = child.stdin.take();
    if words == ["txn"] {
        input.expect("piped").write_all(TXN.as_bytes()).expect("etcdctl reads its input");
    }
    let output = child.wait_with_output().expect("etcdctl ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let error = text(&output.stderr);
    let error = error.lines().filter(|line| line.starts_with("Error")).collect::<Vec<_>>();
    Printed {
        success: output.status.success(),
        out: comparable(&text(&output.stdout)),
        error: error.join("\n"),
    }
}

/// Takes ids and terms out.
fn comparable(out: &str) -> String {
    if let Ok(Value::Object(mut answer)) = serde_json::from_str(out) {
        if let Some(Value::Object(header)) = answer.get_mut("header") {
            header.retain(|name, _| name == "revision");
        }
        return Value::Object(answer).to_string();
    }
    let own = ["\"ClusterID\"", "\"MemberID\"", "\"RaftTerm\""];
    let lines = out.lines().filter(|line| !own.iter().any(|name| line.starts_with(name)));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn etcdctl_prints_the_same_as_against_etcd() {
    let (etcdctls, etcds) = (foreign::etcdctls(), foreign::etcds());
    let Some(etcd) = etcds.last() else { return foreign::skip("etcd") };
    if etcdctls.is_empty() {
        return foreign::skip("etcdctl");
    }
    run(LIMIT, async {
        for program in &etcdctls {
            let theirs = Plan::new(Program::Etcd(etcd.clone()), 1).start().await;
            let ours = Cluster::three().await;
            let later = if program.version.starts_with("3.4") { &[] } else { LATER_COMMANDS };
            for command in COMMANDS.iter().chain(later) {
                let words: Vec<&str> = command.split('|').collect();
                let expected = etcdctl(program, &theirs.endpoints(), &words);
                let found = etcdctl(program, &ours.endpoints(), &words);
                assert_eq!(found, expected, "etcdctl {} {command}", program.version);
            }
        }
    });
}

#[test]
fn etcdctl_sees_three_members_and_one_leader() {
    let etcdctls = foreign::etcdctls();
    if etcdctls.is_empty() {
        return foreign::skip("etcdctl");
    }
    run(LIMIT, async {
        let cluster = Cluster::three().await;
        for program in &etcdctls {
            see_members(program, &cluster);
            see_status(program, &cluster);
            see_health(program, &cluster);
        }
    });
}

/// `host:port` of each member, as etcdctl's own default has it.
fn addresses(cluster: &Cluster) -> String {
    cluster.endpoints().replace("http://", "")
}

fn json(program: &Etcd, cluster: &Cluster, words: &[&str]) -> Value {
    let printed = etcdctl(program, &addresses(cluster), words);
    assert!(printed.success, "{printed:?}");
    serde_json::from_str(&printed.out).unwrap_or_else(|error| panic!("{error}: {}", printed.out))
}

fn see_members(program: &Etcd, cluster: &Cluster) {
    let listed = json(program, cluster, &["member", "list", "-w=json"]);
    let mut names: Vec<(String, String, String)> = listed["members"]
        .as_array()
        .expect("a list of members")
        .iter()
        .map(|member| {
            let text = |value: &Value| value.as_str().expect("a string").to_owned();
            (text(&member["name"]), text(&member["peerURLs"][0]), text(&member["clientURLs"][0]))
        })
        .collect();
    names.sort();
    let expected: Vec<(String, String, String)> = cluster
        .members
        .iter()
        .map(|member| (member.name.clone(), member.peer_url.clone(), member.client_url.clone()))
        .collect();
    assert_eq!(names, expected);
    let printed = etcdctl(program, &addresses(cluster), &["member", "list"]);
    let started = printed.out.lines().filter(|line| line.contains(", started, m")).count();
    assert_eq!(started, 3, "{}", printed.out);
}

fn see_status(program: &Etcd, cluster: &Cluster) {
    let statuses = json(program, cluster, &["endpoint", "status", "-w=json"]);
    let statuses = statuses.as_array().expect("a list of endpoints");
    assert_eq!(statuses.len(), 3);
    let number = |value: &Value, name: &str| value[name].as_u64().unwrap_or(0);
    let leader = number(&statuses[0]["Status"], "leader");
    let mut leading = 0;
    for status in statuses {
        let status = &status["Status"];
        assert_ne!(number(status, "leader"), 0);
        assert_eq!(number(status, "leader"), leader);
        assert_eq!(number(status, "raftTerm"), number(&status["header"], "raft_term"));
        assert!(number(status, "raftAppliedIndex") <= number(status, "raftIndex"));
        assert!(0 < number(status, "raftAppliedIndex") && 0 < number(status, "dbSize"));
        let version = status["version"].as_str().expect("a version");
        assert!(version.split('.').all(|part| part.parse::<u32>().is_ok()), "{version}");
        leading += usize::from(number(&status["header"], "member_id") == leader);
    }
    assert_eq!(leading, 1, "one of the endpoints leads");
    let printed = etcdctl(program, &addresses(cluster), &["endpoint", "status"]);
    assert_eq!(printed.out.lines().count(), 3, "{}", printed.out);
}

fn see_health(program: &Etcd, cluster: &Cluster) {
    let health = json(program, cluster, &["endpoint", "health", "-w=json"]);
    let health = health.as_array().expect("a list of endpoints");
    assert_eq!(health.len(), 3);
    for endpoint in health {
        assert_eq!(endpoint["health"], Value::Bool(true), "{endpoint}");
    }
    let alarms = etcdctl(program, &addresses(cluster), &["alarm", "list"]);
    assert_eq!((alarms.success, alarms.out.as_str()), (true, ""));
}

#[test]
fn etcdctl_changes_members_moves_leaders_and_ends_alarms() {
    let etcdctls = foreign::etcdctls();
    if etcdctls.is_empty() {
        return foreign::skip("etcdctl");
    }
    run(LIMIT, async {
        let cluster = Cluster::three().await;
        for program in &etcdctls {
            change_members(program, &cluster).await;
            move_leader(program, &cluster).await;
            end_alarms(program, &cluster).await;
        }
    });
}

/// The id that `member add` prints: `Member <id> added to cluster <id>`, the ids padded with spaces.
fn added(printed: &Printed) -> String {
    let word = printed.out.lines().find_map(|line| line.strip_prefix("Member "));
    let word = word.and_then(|rest| rest.split_whitespace().next());
    word.unwrap_or_else(|| panic!("no member was added: {printed:?}")).to_owned()
}

async fn change_members(program: &Etcd, cluster: &Cluster) {
    let endpoints = addresses(cluster);
    let etcdctl = |words: &[&str]| etcdctl(program, &endpoints, words);
    let url = format!("http://127.0.0.1:{}", free_port());
    let peer_urls = format!("--peer-urls={url}");
    // Refused until all have been connected for a while with whichever member is asked.
    let add = async |words: &[&str]| {
        until(async || {
            let printed = etcdctl(words);
            printed.success.then_some(printed)
        })
        .await
    };
    let printed = add(&["member", "add", "m4", &peer_urls]).await;
    let id = added(&printed);
    for line in
        ["ETCD_NAME=\"m4\"", "ETCD_INITIAL_CLUSTER_STATE=\"existing\"", &format!("m4={url}")]
    {
        assert!(printed.out.contains(line), "{line} in {}", printed.out);
    }
    let list = etcdctl(&["member", "list"]);
    let row = list.out.lines().find(|line| line.starts_with(&id)).expect("it is listed");
    assert!(row.contains("unstarted") && row.contains(&url), "{row}");

    let moved = format!("http://127.0.0.1:{}", free_port());
    let updated = etcdctl(&["member", "update", &id, &format!("--peer-urls={moved}")]);
    assert!(updated.success && updated.out.contains("updated"), "{updated:?}");
    assert!(etcdctl(&["member", "list"]).out.contains(&moved));
    let promoted = etcdctl(&["member", "promote", &id]);
    assert!(promoted.error.contains("can only promote a learner member"), "{promoted:?}");
    let removed = etcdctl(&["member", "remove", &id]);
    assert!(removed.success && removed.out.contains("removed from cluster"), "{removed:?}");

    let id = added(&add(&["member", "add", "m5", "--learner", &peer_urls]).await);
    let promoted = etcdctl(&["member", "promote", &id]);
    assert!(!promoted.success && promoted.error.contains("in sync with leader"), "{promoted:?}");
    let removed = etcdctl(&["member", "remove", &id]);
    assert!(removed.success, "{removed:?}");
    let again = etcdctl(&["member", "remove", &id]);
    assert!(!again.success && again.error.contains("member not found"), "{again:?}");
    assert_eq!(etcdctl(&["member", "list"]).out.lines().count(), 3);
}

async fn move_leader(program: &Etcd, cluster: &Cluster) {
    let leader = cluster.leader().await;
    let next = (leader + 1) % cluster.members.len();
    let to = format!("{:x}", cluster.id(next).await);
    let printed = etcdctl(program, &addresses(cluster), &["move-leader", &to]);
    let expected = format!("Leadership transferred from {:x} to {to}", cluster.id(leader).await);
    assert_eq!((printed.success, printed.out.as_str()), (true, expected.as_str()), "{printed:?}");
    assert_eq!(cluster.leader().await, next);
    let printed = etcdctl(program, &addresses(cluster), &["move-leader", "4711"]);
    assert!(printed.error.contains("bad leader transferee"), "{printed:?}");
}

async fn end_alarms(program: &Etcd, cluster: &Cluster) {
    let request = AlarmRequest {
        action: AlarmAction::Activate.into(),
        member_id: 7,
        alarm: AlarmType::Nospace.into(),
    };
    cluster.client(0).alarm(request).await.expect("a healthy cluster");
    let etcdctl = |words: &[&str]| etcdctl(program, &addresses(cluster), words);
    let list = etcdctl(&["alarm", "list"]);
    assert_eq!((list.success, list.out.trim()), (true, "memberID:7 alarm:NOSPACE"));
    let put = etcdctl(&["put", "a", "b"]);
    assert!(!put.success && put.error.contains("database space exceeded"), "{put:?}");
    let disarmed = etcdctl(&["alarm", "disarm"]);
    assert_eq!((disarmed.success, disarmed.out.trim()), (true, "memberID:7 alarm:NOSPACE"));
    assert!(etcdctl(&["put", "a", "b"]).success);
}

#[test]
fn etcdctl_watches_as_it_watches_etcd() {
    let (etcdctls, etcds) = (foreign::etcdctls(), foreign::etcds());
    let Some(etcd) = etcds.last() else { return foreign::skip("etcd") };
    if etcdctls.is_empty() {
        return foreign::skip("etcdctl");
    }
    run(LIMIT, async {
        for program in &etcdctls {
            let theirs = Plan::new(Program::Etcd(etcd.clone()), 1).start().await;
            let ours = Cluster::three().await;
            watch::watch(program, &theirs, &ours).await;
        }
    });
}
