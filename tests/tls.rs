//! TLS with real processes: clients and members, their certificates, and what is turned away.

#[path = "tls/commands.rs"]
mod commands;
mod support;

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use rustix::process::Signal;
use support::certificates::{Authority, Issued};
use support::foreign::{self, Etcd};
use support::ports::free_port;
use support::process::Process;
use support::{run, until};
use tempfile::TempDir;

/// The hang guard.
const LIMIT: Duration = Duration::from_secs(180);

/// A member by itself or one of several.
struct Member {
    client: String,
    peer: String,
    flags: Vec<String>,
    process: Option<Process>,
}

/// Members in one folder.
struct Members {
    home: TempDir,
    members: Vec<Member>,
}

impl Members {
    /// Lays out members whose URLs begin with these schemes.
    fn new(count: usize, client: &str, peer: &str) -> Members {
        let home = TempDir::new().expect("a temporary folder can be made");
        let member = |_| Member {
            client: format!("{client}://127.0.0.1:{}", free_port()),
            peer: format!("{peer}://127.0.0.1:{}", free_port()),
            flags: Vec::new(),
            process: None,
        };
        Members { home, members: (0..count).map(member).collect() }
    }

    fn folder(&self) -> &Path {
        self.home.path()
    }

    fn flag(&mut self, member: usize, flag: &str, value: impl AsRef<std::ffi::OsStr>) {
        let value = value.as_ref().to_string_lossy().into_owned();
        self.members[member].flags.push(format!("--{flag}={value}"));
    }

    fn pair(&mut self, member: usize, prefix: &str, issued: &Issued) {
        self.flag(member, &format!("{prefix}cert-file"), &issued.certificate);
        self.flag(member, &format!("{prefix}key-file"), &issued.key);
    }

    fn start(&mut self, member: usize) {
        let initial: Vec<String> =
            self.members.iter().enumerate().map(|(n, m)| format!("m{n}={}", m.peer)).collect();
        let home = self.home.path();
        let Member { client, peer, flags, process } = &mut self.members[member];
        let mut command = Command::new(env!("CARGO_BIN_EXE_jangada"));
        let listen = format!("--listen-client-urls={client}");
        let listens = flags.iter().any(|flag| flag.starts_with("--listen-client-urls="));
        command
            .arg("server")
            .arg(format!("--name=m{member}"))
            .arg(format!("--data-dir={}", home.join(format!("m{member}")).display()))
            .args((!listens).then_some(listen))
            .arg(format!("--advertise-client-urls={client}"))
            .arg(format!("--listen-peer-urls={peer}"))
            .arg(format!("--initial-advertise-peer-urls={peer}"))
            .arg(format!("--initial-cluster={}", initial.join(",")))
            .args(flags);
        let log = home.join(format!("m{member}.log"));
        *process = Some(Process::start(&format!("m{member}"), command, &log));
    }

    fn process(&mut self, member: usize) -> &mut Process {
        self.members[member].process.as_mut().expect("the member was started")
    }

    fn authority(&self, member: usize) -> &str {
        let (_, authority) = self.members[member].client.split_once("://").expect("it is a URL");
        authority
    }
}

/// Whom a client believes and who it says it is.
#[derive(Clone)]
struct Access {
    trusted: PathBuf,
    own: Option<Issued>,
}

impl Access {
    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![format!("--cacert={}", self.trusted.display())];
        if let Some(own) = &self.own {
            arguments.push(format!("--cert={}", own.certificate.display()));
            arguments.push(format!("--key={}", own.key.display()));
        }
        arguments
    }

    /// Runs a command of our own client. Blocks; the members run in processes of their own.
    fn jangada(&self, endpoint: &str, command: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_jangada"))
            .args(command)
            .arg(format!("--endpoints={endpoint}"))
            .args(self.arguments())
            .output()
            .expect("the program runs")
    }

    /// Runs a command of etcdctl.
    fn etcdctl(&self, etcdctl: &Etcd, endpoint: &str, command: &[&str]) -> Output {
        Command::new(&etcdctl.path)
            .env("ETCDCTL_API", "3")
            .arg(format!("--endpoints={endpoint}"))
            .args(self.arguments())
            .args(command)
            .output()
            .expect("the program runs")
    }

    /// Waits until a put succeeds.
    async fn put(&self, endpoint: &str, key: &str, value: &str) {
        until(async || self.jangada(endpoint, &["put", key, value]).status.success().then_some(()))
            .await;
    }

    /// Waits until a put is refused; the sentence.
    async fn refused(&self, endpoint: &str) -> String {
        until(async || {
            let output = self.jangada(endpoint, &["put", "--timeout=2s", "refused", "1"]);
            (!output.status.success()).then(|| text(&output))
        })
        .await
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

#[test]
fn clients_are_served_over_tls_when_their_certificates_are_good() {
    run(LIMIT, async {
        let mut members = Members::new(1, "https", "http");
        let ours = Authority::new(members.folder(), "ours");
        let theirs = Authority::new(members.folder(), "theirs");
        let revoked = members.folder().join("revoked.crl");
        let (good, bad) = (ours.issue("good", &[]), ours.issue("bad", &[]));
        ours.revoke(&[&bad], &revoked);
        members.pair(0, "", &ours.issue("server", &["127.0.0.1"]));
        members.flag(0, "trusted-ca-file", &ours.file);
        members.flag(0, "client-cert-auth", "true");
        members.flag(0, "client-crl-file", &revoked);
        members.start(0);
        let endpoint = members.members[0].client.clone();
        let with = |own: Option<&Issued>| Access { trusted: ours.file.clone(), own: own.cloned() };
        let access = with(Some(&good));
        access.put(&endpoint, "a", "1").await;
        members.process(0).logged("serving client traffic securely").await;

        // Nobody, somebody else's, one that was revoked, and a server that is not believed.
        with(None).refused(&endpoint).await;
        members.process(0).logged("peer sent no certificates").await;
        with(Some(&theirs.issue("good", &[]))).refused(&endpoint).await;
        with(Some(&bad)).refused(&endpoint).await;
        members.process(0).logged("invalid peer certificate: Revoked").await;
        let trusting = Access { trusted: theirs.file.clone(), own: Some(good.clone()) };
        let refused = trusting.refused(&endpoint).await;
        assert!(refused.contains("UnknownIssuer"), "{refused}");
        let plain = Command::new(env!("CARGO_BIN_EXE_jangada"))
            .args(["get", "a", "--timeout=2s"])
            .arg(format!("--endpoints=http://{}", members.authority(0)))
            .output()
            .expect("the program runs");
        assert!(!plain.status.success(), "{}", text(&plain));
        members.process(0).logged("rejected connection on client endpoint").await;

        let etcdctls = foreign::etcdctls();
        if etcdctls.is_empty() {
            foreign::skip("etcdctl");
        }
        for etcdctl in &etcdctls {
            let version = &etcdctl.version;
            let put = access.etcdctl(etcdctl, &endpoint, &["put", "b", version]);
            assert!(put.status.success(), "etcdctl {version}: {}", text(&put));
            let got = access.etcdctl(etcdctl, &endpoint, &["get", "b", "--print-value-only"]);
            assert_eq!(text(&got).trim(), version);
            let health = access.etcdctl(etcdctl, &endpoint, &["endpoint", "health"]);
            assert!(text(&health).contains("is healthy"), "{}", text(&health));
            let none =
                with(None).etcdctl(etcdctl, &endpoint, &["get", "b", "--command-timeout=2s"]);
            assert!(!none.status.success(), "etcdctl {version}: {}", text(&none));
        }
        members.process(0).signal(Signal::TERM);
        assert!(members.process(0).ended().await.success());
    });
}

#[test]
fn changed_certificates_count_without_a_restart() {
    run(LIMIT, async {
        let mut members = Members::new(1, "https", "http");
        let old = Authority::new(members.folder(), "old");
        let new = Authority::new(members.folder(), "new");
        let revoked = members.folder().join("revoked.crl");
        old.revoke(&[], &revoked);
        let server = old.issue("server", &["127.0.0.1"]);
        members.pair(0, "", &server);
        members.flag(0, "trusted-ca-file", &old.file);
        members.flag(0, "client-crl-file", &revoked);
        members.start(0);
        let endpoint = members.members[0].client.clone();
        let (first, second) = (old.issue("first", &[]), old.issue("second", &[]));
        let access = |trusted: &Authority, own: &Issued| Access {
            trusted: trusted.file.clone(),
            own: Some(own.clone()),
        };
        access(&old, &first).put(&endpoint, "a", "1").await;

        // Another authority's certificate, by another file under the same name.
        new.issue("server", &["127.0.0.1"]).replace(&server);
        access(&new, &first).put(&endpoint, "a", "2").await;
        access(&old, &first).refused(&endpoint).await;

        // A certificate that does not count any more; the other one does.
        old.revoke(&[&first], &revoked);
        access(&new, &first).refused(&endpoint).await;
        access(&new, &second).put(&endpoint, "a", "3").await;

        // A file that is none changes nothing, and is told.
        std::fs::write(&server.certificate, "nonsense").expect("a file can be written");
        access(&new, &second).put(&endpoint, "a", "4").await;
        members.process(0).logged("the former ones stay").await;
    });
}

#[test]
fn handshakes_that_stall_delay_nobody_and_both_kinds_share_a_port() {
    run(LIMIT, async {
        let mut members = Members::new(1, "https", "http");
        let ours = Authority::new(members.folder(), "ours");
        members.pair(0, "", &ours.issue("server", &["127.0.0.1"]));
        let authority = members.authority(0).to_owned();
        members.flag(0, "listen-client-urls", format!("http://{authority},https://{authority}"));
        members.start(0);
        members.process(0).logged("ready to serve client requests").await;
        // Some say nothing, some say half of a hello.
        let stalled: Vec<TcpStream> = (0..200)
            .map(|number| {
                let mut stream = TcpStream::connect(&authority).expect("the port is open");
                if number % 2 == 0 {
                    let begun = [0x16, 0x03, 0x01, 0x02, 0x00, 0x01];
                    std::io::Write::write_all(&mut stream, &begun).expect("the port is open");
                }
                stream
            })
            .collect();
        let access = Access { trusted: ours.file.clone(), own: None };
        access.put(&format!("https://{authority}"), "a", "1").await;
        access.put(&format!("http://{authority}"), "a", "2").await;
        drop(stalled);
        members.process(0).signal(Signal::TERM);
        assert!(members.process(0).ended().await.success());
    });
}

#[test]
fn members_trust_one_another_by_their_certificates() {
    run(LIMIT, async {
        let mut members = Members::new(3, "http", "https");
        let ours = Authority::new(members.folder(), "ours");
        let theirs = Authority::new(members.folder(), "theirs");
        for member in 0..3 {
            // The third is vouched for by somebody else at first.
            let authority = if member == 2 { &theirs } else { &ours };
            let issued = authority.issue("member", &["127.0.0.1", "localhost"]);
            members.pair(member, "peer-", &issued);
            members.flag(member, "peer-trusted-ca-file", &ours.file);
            members.flag(member, "peer-client-cert-auth", "true");
            members.flag(member, "peer-cert-allowed-cn", "member");
            members.start(member);
        }
        let access = Access { trusted: ours.file.clone(), own: None };
        let first = members.members[0].client.clone();
        access.put(&first, "a", "1").await;
        members.process(0).logged("rejected connection on peer endpoint").await;
        members.process(0).logged("could not be secured").await;

        // Its certificate is replaced by a good one while it runs, and it takes part.
        let flags = members.members[2].flags.clone();
        let value = |name: &str| {
            let prefix = format!("--peer-{name}=");
            let found = flags.iter().find_map(|flag| flag.strip_prefix(&prefix));
            PathBuf::from(found.expect("the flag was given"))
        };
        let good = ours.issue("member", &["127.0.0.1"]);
        for (from, to) in [(&good.key, value("key-file")), (&good.certificate, value("cert-file"))]
        {
            std::fs::copy(from, to).expect("a file can be copied");
        }
        let third = members.members[2].client.clone();
        access.put(&third, "a", "2").await;
        // Two of three go on, over TLS, when the first is killed.
        members.process(0).kill().await;
        access.put(&third, "a", "3").await;
    });
}

#[test]
fn a_member_joins_and_certificates_are_made_where_nobody_brings_any() {
    run(LIMIT, async {
        let mut members = Members::new(3, "https", "https");
        for member in 0..3 {
            members.flag(member, "auto-tls", "true");
            members.flag(member, "peer-auto-tls", "true");
            members.start(member);
        }
        let ask = |endpoint: &str, command: &[&str]| {
            Command::new(env!("CARGO_BIN_EXE_jangada"))
                .args(command)
                .arg(format!("--endpoints={endpoint}"))
                .arg("--insecure-skip-tls-verify")
                .output()
                .expect("the program runs")
        };
        let first = members.members[0].client.clone();
        until(async || ask(&first, &["put", "a", "1"]).status.success().then_some(())).await;
        let key = members.folder().join("m0/fixtures/peer/key.pem");
        let mode = std::os::unix::fs::MetadataExt::mode(&key.metadata().expect("it was made"));
        assert_eq!(mode & 0o777, 0o600);

        // A fourth finds out over TLS who the cluster is.
        let peer = format!("https://127.0.0.1:{}", free_port());
        let client = format!("https://127.0.0.1:{}", free_port());
        until(async || {
            let added = ask(&first, &["member", "add", "m3", "--peer-urls", &peer]);
            added.status.success().then_some(())
        })
        .await;
        members.members.push(Member { client, peer, flags: Vec::new(), process: None });
        members.flag(3, "auto-tls", "true");
        members.flag(3, "peer-auto-tls", "true");
        members.flag(3, "initial-cluster-state", "existing");
        members.start(3);
        let fourth = members.members[3].client.clone();
        until(async || {
            let got = ask(&fourth, &["get", "a"]);
            (got.status.success() && text(&got).contains('1')).then_some(())
        })
        .await;
    });
}
