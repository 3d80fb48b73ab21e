//! etcdctl and `jangada`, about leases, locks and elections.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::LIMIT;
use super::support::cluster::Cluster;
use super::support::foreign::{self, Etcd};
use super::support::run;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

fn etcdctl(program: &Etcd, cluster: &Cluster, words: &[&str]) -> Command {
    let mut command = Command::new(&program.path);
    command.env("ETCDCTL_API", "3").arg(format!("--endpoints={}", cluster.endpoints()));
    command.arg("--command-timeout=30s").args(words);
    command
}

fn jangada(cluster: &Cluster, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jangada"));
    command.arg(format!("--endpoints={}", cluster.endpoints())).args(["--timeout", "30s"]);
    command.args(words);
    command
}

#[track_caller]
fn ran(mut command: Command) -> String {
    let Output { status, stdout, stderr } = command.output().expect("it starts");
    assert!(status.success(), "{command:?}: {}{}", text(&stdout), text(&stderr));
    text(&stdout)
}

#[test]
fn etcdctl_makes_renews_shows_and_ends_leases() {
    let etcdctls = foreign::etcdctls();
    if etcdctls.is_empty() {
        return foreign::skip("etcdctl");
    }
    run(LIMIT, async {
        let cluster = Cluster::three().await;
        for program in &etcdctls {
            let ctl = |words: &[&str]| ran(etcdctl(program, &cluster, words));
            let granted = ctl(&["lease", "grant", "600"]);
            let id = granted.split_whitespace().nth(1).expect("lease ID granted ...").to_owned();
            assert_eq!(granted, format!("lease {id} granted with TTL(600s)"));
            assert_eq!(ctl(&["put", "a", "1", &format!("--lease={id}")]), "OK");
            let shown = ctl(&["lease", "timetolive", &id, "--keys"]);
            assert!(
                shown.starts_with(&format!("lease {id} granted with TTL(600s), remaining("))
                    && shown.ends_with("attached keys([a])"),
                "{shown}"
            );
            assert_eq!(ctl(&["lease", "list"]), format!("found 1 leases\n{id}"));
            let renewed = ctl(&["lease", "keep-alive", "--once", &id]);
            assert_eq!(renewed, format!("lease {id} keepalived with TTL(600)"));
            assert_eq!(ctl(&["lease", "revoke", &id]), format!("lease {id} revoked"));
            assert_eq!(ctl(&["get", "a"]), "");
            let gone = ctl(&["lease", "timetolive", &id]);
            assert_eq!(gone, format!("lease {id} already expired"));
            let again = etcdctl(program, &cluster, &["lease", "revoke", &id]).output();
            let again = again.expect("it starts");
            assert!(!again.status.success());
            assert!(text(&again.stderr).contains("requested lease not found"));
        }
    });
}

/// A program that goes on until it is interrupted.
struct Running {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(mut command: Command) -> Running {
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Running { child, lines }
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("it says something").expect("it is text")
    }

    fn interrupt(mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a pid is positive"), Signal::INT).expect("it runs");
        self.child.wait().expect("it ends");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn jangada_makes_renews_shows_and_ends_leases() {
    run(LIMIT, async {
        let cluster = Cluster::three().await;
        let run = |words: &[&str]| ran(jangada(&cluster, words));
        let id = run(&["lease", "grant", "600"]);
        assert_eq!(id.len(), 16, "{id}");
        run(&["put", "a", "1", "--lease", &id]);
        let shown = run(&["lease", "timetolive", &id, "--keys"]);
        assert!(shown.ends_with(" of 600 s remain\na"), "{shown}");
        let shown = run(&["lease", "timetolive", &id, "-o", "json"]);
        assert!(shown.contains("\"granted-ttl\":600") && !shown.contains("keys"), "{shown}");
        assert_eq!(run(&["lease", "list"]), id);
        let renewed = run(&["lease", "keep-alive", "--once", &id]);
        assert_eq!(renewed, format!("{id} renewed for 600 s"));
        assert_eq!(run(&["lease", "revoke", &id]), "");
        assert_eq!(run(&["get", "a"]), "");
        for words in [["timetolive", &id], ["revoke", &id], ["keep-alive", &id]] {
            let output = jangada(&cluster, &[&["lease"], &words[..]].concat()).output();
            assert_eq!(output.expect("it starts").status.code(), Some(1), "{words:?}");
        }
    });
}

/// How many keys wait under a name.
fn waiting(cluster: &Cluster, name: &str) -> usize {
    let prefix = format!("{name}/");
    let keys = ran(jangada(cluster, &["get", &prefix, "--prefix", "--keys-only"]));
    keys.lines().filter(|line| !line.is_empty()).count()
}

/// The last word: the create revision.
fn token(line: &str) -> i64 {
    let word = line.split_whitespace().last().expect("key and revision");
    word.parse().unwrap_or_else(|_| panic!("no revision: {line}"))
}

#[test]
fn jangada_holds_locks_and_stands_for_election_one_after_the_other() {
    run(LIMIT, async {
        let cluster = Cluster::three().await;
        let start = |words: &[&str]| Running::start(jangada(&cluster, words));
        let mut first = start(&["lock", "name"]);
        let held = first.line();
        assert!(held.starts_with("name/"), "{held}");
        let mut second = start(&["lock", "name"]);
        while waiting(&cluster, "name") < 2 {}
        first.interrupt();
        assert!(token(&held) < token(&second.line()), "the fencing token rises");
        second.interrupt();
        assert_eq!(waiting(&cluster, "name"), 0);
        let print = "echo $JANGADA_LOCK_KEY $JANGADA_LOCK_REV";
        let printed = ran(jangada(&cluster, &["lock", "name", "--", "sh", "-c", print]));
        assert!(printed.starts_with("name/") && 0 < token(&printed), "{printed}");
        let output = jangada(&cluster, &["lock", "name", "--", "false"]).output();
        assert_eq!(output.expect("it starts").status.code(), Some(1));

        let mut listener = start(&["elect", "e", "--listen"]);
        let mut a = start(&["elect", "e", "a"]);
        let elected = a.line();
        assert_eq!(elected.split_whitespace().nth(1), Some("a"), "{elected}");
        assert_eq!(listener.line(), elected);
        let mut b = start(&["elect", "e", "b"]);
        while waiting(&cluster, "e") < 2 {}
        a.interrupt();
        let followed = b.line();
        assert_eq!(followed.split_whitespace().nth(1), Some("b"), "{followed}");
        assert_eq!(listener.line(), followed);
        b.interrupt();
        listener.interrupt();

        let mut fencing = Command::new("sh");
        fencing
            .args([concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/fencing.sh")])
            .arg(env!("CARGO_BIN_EXE_jangada"))
            .env("JANGADA_ENDPOINTS", cluster.endpoints())
            .current_dir(cluster.home());
        assert!(ran(fencing).ends_with("nothing was written"));
    });
}

#[test]
fn etcdctl_and_jangada_wait_for_one_another() {
    let Some(program) = foreign::etcdctls().pop() else { return foreign::skip("etcdctl") };
    run(LIMIT, async {
        let cluster = Cluster::three().await;
        let mut ours = Running::start(jangada(&cluster, &["lock", "name"]));
        let held = ours.line();
        // The last part of what it needs is watching, which waits for nobody who is first.
        ours.interrupt();
        let printed = ran(jangada(&cluster, &["lock", "name", "--", "true"]));
        assert_eq!(printed, "");
        let id = ran(etcdctl(&program, &cluster, &["lease", "grant", "600"]));
        let id = id.split_whitespace().nth(1).expect("lease ID granted ...").to_owned();
        let key = format!("name/{}", id.trim_start_matches('0'));
        ran(etcdctl(&program, &cluster, &["put", &key, "", &format!("--lease={id}")]));
        let mut ours = Running::start(jangada(&cluster, &["lock", "name"]));
        while waiting(&cluster, "name") < 2 {}
        ran(etcdctl(&program, &cluster, &["lease", "revoke", &id]));
        assert!(token(&held) < token(&ours.line()));
        ours.interrupt();
    });
}
