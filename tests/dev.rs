//! `jangada dev`: a durable cluster by one command, and the client commands against it.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;
use support::client::Client;
use support::ports::is_free;
use support::process::Process;
use support::{run, until};

/// The hang guard.
const LIMIT: Duration = Duration::from_secs(180);

/// The members' ports lie 20,000 and 30,000 above the first's, and all six must be below the range
/// of outgoing connections (32,768).
const BASE_PORTS: std::ops::Range<u16> = 1100..2700;

/// A run of `jangada dev`, and its folder.
struct Dev {
    process: Process,
    folder: PathBuf,
}

impl Dev {
    async fn start(folder: &Path, base_port: u16, flags: &[&str]) -> Dev {
        let mut command = Command::new(env!("CARGO_BIN_EXE_jangada"));
        command
            .arg("dev")
            .arg(format!("--dir={}", folder.display()))
            .arg(format!("--base-port={base_port}"))
            .args(flags);
        let log = folder.with_extension("log");
        let mut dev = Dev { process: Process::start("dev", command, &log), folder: folder.into() };
        let endpoints = until(async || {
            assert!(dev.process.status().is_none(), "dev ended:\n{}", dev.process.log());
            let members = dev.members();
            let own = Some(u64::from(dev.process.pid().as_raw_nonzero().get().unsigned_abs()));
            (dev.written()?["pid"].as_u64() == own && !members.is_empty()).then_some(members)
        })
        .await;
        for (_, endpoint) in endpoints {
            dev.process.logged(&endpoint).await;
            let client = Client::new(&format!("http://{endpoint}"));
            until(|| {
                let mut client = client.clone();
                async move { client.get_key("ready?").await.ok() }
            })
            .await;
        }
        dev
    }

    fn written(&self) -> Option<Value> {
        let text = std::fs::read(self.folder.join("jangada-dev.json")).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Process and endpoint of each member.
    fn members(&self) -> Vec<(Pid, String)> {
        let written = self.written().unwrap_or_default();
        let members = written["members"].as_array().cloned().unwrap_or_default();
        members
            .iter()
            .map(|member| {
                let pid = member["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
                let endpoint = member["endpoint"].as_str().expect("an endpoint").to_owned();
                (pid.and_then(Pid::from_raw).expect("a pid"), endpoint)
            })
            .collect()
    }

    fn endpoints(&self) -> String {
        self.members().into_iter().map(|(_, endpoint)| endpoint).collect::<Vec<_>>().join(",")
    }

    async fn stop(&mut self, signal: Signal) -> ExitStatus {
        let members = self.members();
        self.process.signal(signal);
        let status = self.process.ended().await;
        for (pid, endpoint) in members {
            assert!(test_kill_process(pid).is_err(), "the member at {endpoint} must be gone");
        }
        status
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // A failed test leaves nothing behind; after an orderly stop there is nobody to kill.
        if self.process.status().is_none() {
            for (pid, _) in self.members() {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

fn free_base_port() -> u16 {
    loop {
        let base = fastrand::u16(BASE_PORTS);
        let ports = [0, 1, 20_000, 20_001, 30_000, 30_001].map(|offset| base + offset);
        if ports.into_iter().all(is_free) {
            return base;
        }
    }
}

/// Runs a client command.
fn jangada(endpoints: &str, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_jangada"))
        .args(words)
        .arg(format!("--endpoints={endpoints}"))
        .output()
        .expect("the binary under test starts")
}

fn printed(endpoints: &str, words: &[&str]) -> String {
    let output = jangada(endpoints, words);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{words:?}: {text}{:?}", output.stderr.escape_ascii());
    text
}

fn json(endpoints: &str, words: &[&str]) -> Value {
    let text = printed(endpoints, &[words, &["--output=json"]].concat());
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{words:?}: {error}: {text}"))
}

#[test]
fn dev_serves_survives_a_killed_member_and_keeps_its_data() {
    run(LIMIT, async {
        let home = tempfile::tempdir().expect("a temporary folder can be made");
        let (folder, base) = (home.path().join("cluster"), free_base_port());
        let mut dev = Dev::start(&folder, base, &[]).await;
        let endpoints = dev.endpoints();
        let expected = [base, base + 20_000, base + 30_000].map(|port| format!("127.0.0.1:{port}"));
        assert_eq!(endpoints, expected.join(","));
        see_commands(&endpoints);

        let (pid, _) = dev.members()[0];
        kill_process(pid, Signal::KILL).expect("a member can be killed");
        let others = expected[1..].join(",");
        until(async || {
            jangada(&others, &["put", "after", "the kill"]).status.success().then_some(())
        })
        .await;
        assert_eq!(printed(&others, &["get", "after", "--print-value-only"]).trim(), "the kill");
        assert!(dev.process.status().is_none(), "dev goes on:\n{}", dev.process.log());
        let status = dev.stop(Signal::INT).await;
        assert_eq!(status.code(), Some(0), "{}", dev.process.log());

        let mut dev = Dev::start(&folder, base, &[]).await;
        assert_eq!(printed(&endpoints, &["get", "after", "--print-value-only"]).trim(), "the kill");
        assert_eq!(dev.stop(Signal::TERM).await.code(), Some(0), "{}", dev.process.log());

        let mut dev = Dev::start(&folder, base, &["--fresh"]).await;
        assert_eq!(json(&endpoints, &["get", "after"])["count"], 0);
        assert_eq!(dev.stop(Signal::TERM).await.code(), Some(0), "{}", dev.process.log());
    });
}

/// put, get, del, status, member list, as text and as JSON, and their exit statuses.
fn see_commands(endpoints: &str) {
    let put = json(endpoints, &["put", "greeting", "hello"]);
    let revision = put["header"]["revision"].as_i64().expect("a revision");
    printed(endpoints, &["put", "greeting", "hello again"]);
    let got = printed(endpoints, &["get", "greeting"]);
    assert!(got.contains("greeting") && got.contains("hello again"), "{got}");
    let old = format!("--rev={revision}");
    let old = json(endpoints, &["get", "greeting", &old]);
    assert_eq!(old["kvs"][0]["value"], "aGVsbG8=", "base64 of hello");
    assert_eq!(old["count"], 1);
    assert_eq!(json(endpoints, &["del", "greeting"])["deleted"], 1);

    let status = json(endpoints, &["status"]);
    assert_eq!(status.as_array().map(Vec::len), Some(3), "{status}");
    let table = printed(endpoints, &["status", "--output=table"]);
    for endpoint in endpoints.split(',') {
        assert!(table.contains(endpoint), "{table}");
    }
    let list = json(endpoints, &["member", "list"]);
    assert_eq!(list["members"].as_array().map(Vec::len), Some(3), "{list}");

    let nobody = jangada("127.0.0.1:1", &["get", "greeting"]);
    assert_eq!(nobody.status.code(), Some(1), "no member answers");
    assert!(!nobody.stderr.is_empty());
    assert_eq!(jangada(endpoints, &["gett", "greeting"]).status.code(), Some(2));
}

#[test]
fn fresh_removes_no_folder_that_dev_did_not_make() {
    run(LIMIT, async {
        let home = tempfile::tempdir().expect("a temporary folder can be made");
        let folder = home.path().join("precious");
        std::fs::create_dir(&folder).expect("a folder can be made");
        std::fs::write(folder.join("letter"), b"dear").expect("a file can be written");
        let output = Command::new(env!("CARGO_BIN_EXE_jangada"))
            .args(["dev", "--fresh"])
            .arg(format!("--dir={}", folder.display()))
            .arg(format!("--base-port={}", free_base_port()))
            .output()
            .expect("the binary under test starts");
        assert!(!output.status.success() && !output.stderr.is_empty());
        assert_eq!(std::fs::read(folder.join("letter")).expect("still there"), b"dear");
    });
}
