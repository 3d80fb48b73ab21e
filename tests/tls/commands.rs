//! Every family of etcdctl's commands over TLS, by a client that shows a certificate, and what it does
//! to the names that a certificate may have.

use std::process::Command;

use super::{Access, LIMIT, Members, text};
use crate::support::certificates::{Authority, Issued};
use crate::support::foreign::{self, Etcd};
use crate::support::process::Process;
use crate::support::{run, until};

/// Commands that end by themselves, words divided by bars, and what each prints.
const COMMANDS: &[(&str, &str)] = &[
    ("put|a|1", "OK"),
    ("get|a", "a\n1"),
    ("del|a", "1"),
    ("compaction|2", "compacted revision 2"),
    ("lease|grant|600", "granted with TTL(600s)"),
    ("lease|list", "found 1 leases"),
    ("lock|l|echo|held", "held"),
    ("member|list", "started"),
    ("endpoint|status", "https://"),
    ("endpoint|health", "is healthy"),
    ("endpoint|hashkv", "https://"),
    ("alarm|list", ""),
    ("alarm|disarm", ""),
    ("defrag", "Finished defragmenting"),
    ("snapshot|save|FILE", "Snapshot saved"),
    ("role|add|r", "Role r created"),
    ("role|grant-permission|r|readwrite|a", "Role r updated"),
    ("user|add|root:root", "User root created"),
    ("user|grant-role|root|root", "Role root is granted to user root"),
    ("auth|enable", "Authentication Enabled"),
    ("user|list|--user=root:root", "root"),
    ("auth|disable|--user=root:root", "Authentication Disabled"),
    ("role|delete|r", "Role r deleted"),
    ("user|delete|root", "User root deleted"),
];

/// A secured member that asks clients for certificates.
fn secured(members: &mut Members, ours: &Authority) -> Access {
    members.pair(0, "", &ours.issue("server", &["127.0.0.1"]));
    members.flag(0, "trusted-ca-file", &ours.file);
    members.flag(0, "client-cert-auth", "true");
    Access { trusted: ours.file.clone(), own: Some(ours.issue("client", &["client.test"])) }
}

/// A command that goes on until it is ended.
fn standing(program: &Etcd, members: &Members, access: &Access, words: &[&str]) -> Process {
    let mut command = Command::new(&program.path);
    command
        .env("ETCDCTL_API", "3")
        .arg(format!("--endpoints={}", members.members[0].client))
        .args(access.arguments())
        .args(words);
    let log = members.folder().join(format!("etcdctl-{}-{}.log", program.version, words[0]));
    Process::start(words[0], command, &log)
}

#[test]
fn etcdctl_does_everything_over_tls_with_a_certificate() {
    let etcdctls = foreign::etcdctls();
    if etcdctls.is_empty() {
        return foreign::skip("etcdctl");
    }
    run(LIMIT, async {
        for program in &etcdctls {
            let mut members = Members::new(1, "https", "http");
            let ours = Authority::new(members.folder(), "ours");
            let access = secured(&mut members, &ours);
            members.start(0);
            let endpoint = members.members[0].client.clone();
            access.put(&endpoint, "ready", "1").await;
            let file = members.folder().join("snapshot.db").display().to_string();
            for (line, expected) in COMMANDS {
                let line = line.replace("FILE", &file);
                let words: Vec<&str> = line.split('|').collect();
                let output = access.etcdctl(program, &endpoint, &words);
                let printed = text(&output);
                let is_right = output.status.success() && printed.contains(expected);
                assert!(is_right, "etcdctl {} {line}: {printed}", program.version);
            }
            let mut watching = standing(program, &members, &access, &["watch", "w", "--rev=3"]);
            access.put(&endpoint, "w", "seen over TLS").await;
            watching.logged("seen over TLS").await;
            let mut leading = standing(program, &members, &access, &["elect", "e", "leads"]);
            leading.logged("leads").await;
        }
    });
}

#[test]
fn a_mirror_is_made_over_tls_on_both_sides() {
    run(LIMIT, async {
        let mut members = Members::new(1, "https", "http");
        let ours = Authority::new(members.folder(), "ours");
        let access = secured(&mut members, &ours);
        members.start(0);
        let endpoint = members.members[0].client.clone();
        access.put(&endpoint, "from/a", "1").await;
        let mut command = Command::new(env!("CARGO_BIN_EXE_jangada"));
        command
            .args(["make-mirror", "--prefix=from/", "--dest-prefix=to/", &endpoint])
            .arg(format!("--endpoints={endpoint}"))
            .args(access.arguments())
            .args(access.arguments().iter().map(|word| word.replacen("--", "--dest-", 1)));
        let log = members.folder().join("mirror.log");
        let mirror = Process::start("mirror", command, &log);
        for (key, value) in [("from/a", "1"), ("from/b", "2")] {
            access.put(&endpoint, key, value).await;
            let copy = key.replace("from", "to");
            until(async || {
                assert!(mirror.status().is_none(), "it ended: {}", mirror.log());
                let got = access.jangada(&endpoint, &["get", &copy, "--print-value-only"]);
                (text(&got).trim() == value).then_some(())
            })
            .await;
        }
    });
}

#[test]
fn benchmarks_and_checks_go_over_tls_and_say_who_asks() {
    run(LIMIT, async {
        let mut members = Members::new(1, "https", "http");
        let ours = Authority::new(members.folder(), "ours");
        let access = secured(&mut members, &ours);
        members.flag(0, "bcrypt-cost", "4");
        members.start(0);
        let endpoint = members.members[0].client.clone();
        access.put(&endpoint, "ready", "1").await;
        for words in [
            &["user", "add", "root:root"][..],
            &["auth", "enable"],
            &["bench", "put", "--total=20", "--clients=2", "--no-floor", "--user=root:root"],
            &["bench", "get", "--total=20", "--clients=2", "--no-floor", "--user=root:root"],
            &[
                "bench",
                "put",
                "--total=2",
                "--clients=1",
                "--no-floor",
                "--target-leader",
                "--user=root:root",
            ],
            &[
                "bench",
                "watch",
                "--watchers=2",
                "--streams=1",
                "--writers=1",
                "--duration=100ms",
                "--user=root:root",
            ],
            &[
                "bench",
                "connections",
                "--count=3",
                "--watchers",
                "--writers=1",
                "--duration=100ms",
                "--user=root:root",
            ],
            &[
                "bench",
                "leases",
                "--leases=3",
                "--end-after=4s",
                "--before=100ms",
                "--writers=1",
                "--user=root:root",
            ],
        ] {
            let output = access.jangada(&endpoint, words);
            assert!(output.status.success(), "{words:?}: {}", text(&output));
        }
        let words = ["bench", "put", "--total=2", "--clients=1", "--no-floor"];
        let output = access.jangada(&endpoint, &words);
        assert!(!output.status.success(), "{}", text(&output));
        // The certificate names who asks, and nobody of that name may.
        assert!(text(&output).contains("permission denied"), "{}", text(&output));
    });
}

#[test]
fn a_client_whose_certificate_is_for_another_host_is_turned_away() {
    run(LIMIT, async {
        let mut members = Members::new(1, "https", "http");
        let ours = Authority::new(members.folder(), "ours");
        let access = secured(&mut members, &ours);
        members.flag(0, "client-cert-allowed-hostname", "other.test,client.test");
        members.start(0);
        let endpoint = members.members[0].client.clone();
        access.put(&endpoint, "a", "1").await;
        let with = |own: Issued| Access { own: Some(own), ..access.clone() };
        with(ours.issue("client", &["elsewhere.test"])).refused(&endpoint).await;
        members.process(0).logged("rejected connection on client endpoint").await;
        with(ours.issue("client", &["other.test"])).put(&endpoint, "a", "2").await;
    });
}
