//! What the binary's exit status and its two outputs say, without a cluster.

use std::net::TcpListener;
use std::process::{Command, Output};

fn jangada(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jangada"));
    for (variable, _) in std::env::vars_os() {
        let name = variable.to_string_lossy();
        if ["ETCD_", "ETCDCTL_", "JANGADA_"].iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(&variable);
        }
    }
    command.args(words).output().expect("the binary runs")
}

/// The line ends with this status, says this on the standard error, and prints no result.
fn fails(words: &[&str], status: i32, sentence: &str) {
    let output = jangada(words);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{words:?}: {said}");
    assert!(said.contains(sentence), "{words:?}: {said}");
    assert_eq!(output.stdout, b"", "{words:?}");
}

#[test]
fn a_wrong_command_line_is_2() {
    fails(&[], 2, "Usage:");
    fails(&["nonsense"], 2, "unrecognized subcommand");
    fails(&["get"], 2, "<KEY>");
    fails(&["get", "a", "b", "--prefix"], 2, "exclude one another");
    fails(&["put", "a", "b", "--timeout", "soon"], 2, "write a duration");
    fails(&["txn", "--interactive=true"], 2, "there are no prompts");
    fails(&["dev", "--base-port", "60000"], 2, "choose a lower --base-port");
    fails(&["bench", "put", "--clients", "0", "--no-floor"], 2, "at least one client");
    fails(&["bench", "failover"], 2, "--pid");
}

#[test]
fn wrong_flags_of_the_server_are_2() {
    fails(&["--nmae", "a"], 2, "did you mean --name?");
    fails(&["server", "--cert-file", "a"], 2, "must both be present");
    fails(&["server", "--heartbeat-interval", "500"], 2, "at least as 5 times as");
    fails(&["server", "--initial-cluster", "a=http://localhost:2380"], 2, "local name \"default\"");
}

#[test]
fn what_cannot_be_done_is_1() {
    fails(&["server", "--config-file", "/nowhere/etcd.yml"], 1, "cannot be read");
    fails(&["log", "check", "/nowhere/wal"], 1, "/nowhere/wal");
    fails(&["bench", "failover", "--dir", "/nowhere"], 1, "jangada dev");
}

#[test]
fn a_cluster_that_is_not_there_is_1_and_every_endpoint_is_named() {
    // Bound and closed again: nobody listens there.
    let closed = |_| {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        listener.local_addr().expect("a bound socket").to_string()
    };
    let [a, b] = [(); 2].map(closed);
    let endpoints = format!("{a},{b}");
    for words in [&["get", "k"][..], &["put", "k", "v"], &["del", "k"], &["member", "list"]] {
        let words = [&["--endpoints", &endpoints], words].concat();
        fails(&words, 1, &a);
        fails(&words, 1, &b);
    }
    // Not even a port that is taken by somebody who never answers may hold a command up.
    let silent = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let address = silent.local_addr().expect("a bound socket").to_string();
    let words = ["--timeout", "200ms", "--endpoints", &address, "put", "k", "v"];
    fails(&words, 1, "may or may not have happened");
}

#[test]
fn what_was_asked_for_is_0() {
    for words in [&["--help"][..], &["server", "--help"], &["--version"], &["get", "--help"]] {
        let output = jangada(words);
        assert_eq!(output.status.code(), Some(0), "{words:?}");
        assert!(!output.stdout.is_empty(), "{words:?}");
        assert_eq!(output.stderr, b"", "{words:?}");
    }
    let version = jangada(&["--version"]).stdout;
    assert!(version.starts_with(b"etcd Version: 3.6."));
}
