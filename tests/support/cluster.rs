//! A cluster of real processes on the loopback: Jangada or etcd, by the same flags.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use jangada_server::proto::etcdserverpb;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client::Client;
use super::foreign::Etcd;
use super::ports::free_port;
use super::process::Process;
use super::until;

/// Longer than any single answer takes; afterwards the question is asked again.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// What the members run.
#[derive(Clone, Debug)]
pub(crate) enum Program {
    /// The binary under test.
    Jangada,
    /// A real etcd.
    Etcd(Etcd),
}

impl Program {
    fn command(&self) -> Command {
        match self {
            Program::Jangada => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_jangada"));
                command.arg("server");
                command
            }
            Program::Etcd(etcd) => Command::new(&etcd.path),
        }
    }

    /// For messages.
    pub(crate) fn name(&self) -> String {
        match self {
            Program::Jangada => "jangada".to_owned(),
            Program::Etcd(etcd) => format!("etcd {}", etcd.version),
        }
    }
}

/// How a cluster is to be.
pub(crate) struct Plan {
    program: Program,
    members: usize,
    flags: Vec<String>,
    folders: Vec<Option<PathBuf>>,
    token: String,
}

impl Plan {
    /// A cluster of `members`, each with a data directory in one temporary folder.
    pub(crate) fn new(program: Program, members: usize) -> Plan {
        let token = format!("token-{}", fastrand::u64(..));
        Plan { program, members, flags: Vec::new(), folders: vec![None; members], token }
    }

    /// Gives every member another flag.
    pub(crate) fn flag(mut self, flag: &str, value: impl ToString) -> Plan {
        self.flags.push(format!("--{flag}={}", value.to_string()));
        self
    }

    /// Gives one member a data directory elsewhere.
    pub(crate) fn folder(mut self, member: usize, folder: &Path) -> Plan {
        self.folders[member] = Some(folder.to_owned());
        self
    }

    /// Lays the cluster out without starting a member.
    pub(crate) fn prepare(self) -> Cluster {
        let home = TempDir::new().expect("a temporary folder can be made");
        let members = self
            .folders
            .iter()
            .enumerate()
            .map(|(position, folder)| {
                let name = format!("m{}", position + 1);
                let data =
                    folder.clone().unwrap_or_else(|| home.path().join(format!("{name}.data")));
                Member {
                    log: home.path().join(format!("{name}.log")),
                    data,
                    client_url: format!("http://127.0.0.1:{}", free_port()),
                    peer_url: format!("http://127.0.0.1:{}", free_port()),
                    name,
                    joins: None,
                    process: None,
                }
            })
            .collect();
        Cluster { program: self.program, flags: self.flags, token: self.token, members, home }
    }

    /// Starts all members and waits until each of them serves.
    pub(crate) async fn start(self) -> Cluster {
        let mut cluster = self.prepare();
        cluster.start_all().await;
        cluster
    }
}

/// One member: where it is, and its process if it runs.
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) data: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) client_url: String,
    pub(crate) peer_url: String,
    /// `--initial-cluster` of a member that joins a cluster that is there.
    joins: Option<String>,
    process: Option<Process>,
}

/// A cluster. Members are named by position, from 0.
pub(crate) struct Cluster {
    pub(crate) program: Program,
    flags: Vec<String>,
    token: String,
    pub(crate) members: Vec<Member>,
    home: TempDir,
}

impl Cluster {
    /// Three members of the binary under test.
    pub(crate) async fn three() -> Cluster {
        Plan::new(Program::Jangada, 3).start().await
    }

    /// The folder that holds logs and data directories.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// All client URLs, joined by commas.
    pub(crate) fn endpoints(&self) -> String {
        let urls: Vec<&str> =
            self.members.iter().map(|member| member.client_url.as_str()).collect();
        urls.join(",")
    }

    /// The command line by which a member is started.
    pub(crate) fn command(&self, member: usize) -> Command {
        let first = self.members.iter().filter(|member| member.joins.is_none());
        let initial: Vec<String> =
            first.map(|member| format!("{}={}", member.name, member.peer_url)).collect();
        let member = &self.members[member];
        let (initial, state) = match &member.joins {
            Some(initial) => (initial.clone(), "existing"),
            None => (initial.join(","), "new"),
        };
        let mut command = self.program.command();
        command
            .arg(format!("--name={}", member.name))
            .arg(format!("--data-dir={}", member.data.display()))
            .arg(format!("--listen-client-urls={}", member.client_url))
            .arg(format!("--advertise-client-urls={}", member.client_url))
            .arg(format!("--listen-peer-urls={}", member.peer_url))
            .arg(format!("--initial-advertise-peer-urls={}", member.peer_url))
            .arg(format!("--initial-cluster={initial}"))
            .arg(format!("--initial-cluster-token={}", self.token))
            .arg(format!("--initial-cluster-state={state}"))
            .args(&self.flags)
            .current_dir(self.home.path());
        command
    }

    /// Lays out another member, which is not one of the cluster yet. Its position.
    pub(crate) fn lay_out(&mut self) -> usize {
        let name = format!("m{}", self.members.len() + 1);
        self.members.push(Member {
            log: self.home.path().join(format!("{name}.log")),
            data: self.home.path().join(format!("{name}.data")),
            client_url: format!("http://127.0.0.1:{}", free_port()),
            peer_url: format!("http://127.0.0.1:{}", free_port()),
            name,
            joins: None,
            process: None,
        });
        self.members.len() - 1
    }

    /// Has a member that was laid out claim that it was let in by the members that `initial` names.
    pub(crate) fn claim(&mut self, member: usize, initial: &str) {
        self.members[member].joins = Some(initial.to_owned());
    }

    /// Has the cluster let in a member that was laid out, asking one of those that run until it
    /// agrees, and starts it. Its id.
    pub(crate) async fn join(&mut self, member: usize, asked: usize, is_learner: bool) -> u64 {
        let urls = [self.members[member].peer_url.clone()];
        let added =
            until(async || self.client(asked).member_add(&urls, is_learner).await.ok()).await;
        let id = added.member.expect("the new member is named").id;
        let name = |other: &etcdserverpb::Member| match other.id == id {
            true => self.members[member].name.clone(),
            false => other.name.clone(),
        };
        let initial: Vec<String> = added
            .members
            .iter()
            .flat_map(|other| {
                other.peer_ur_ls.iter().map(move |url| format!("{}={url}", name(other)))
            })
            .collect();
        self.members[member].joins = Some(initial.join(","));
        self.start(member);
        id
    }

    /// The id of a member that runs.
    pub(crate) async fn id(&self, member: usize) -> u64 {
        let status = until(async || self.client(member).status().await.ok()).await;
        status.header.expect("every answer has a header").member_id
    }

    /// Starts a member that does not run.
    pub(crate) fn start(&mut self, member: usize) {
        self.start_with(member, &[]);
    }

    /// The same, with flags of its own.
    pub(crate) fn start_with(&mut self, member: usize, flags: &[&str]) {
        assert!(!self.is_running(member), "a member runs once");
        let mut command = self.command(member);
        command.args(flags);
        let member = &mut self.members[member];
        member.process = Some(Process::start(&member.name, command, &member.log));
    }

    /// Starts all members and waits until each of them serves.
    pub(crate) async fn start_all(&mut self) {
        for member in 0..self.members.len() {
            self.start(member);
        }
        for member in 0..self.members.len() {
            self.ready(member).await;
        }
    }

    /// Whether the member's process is there.
    pub(crate) fn is_running(&self, member: usize) -> bool {
        self.members[member].process.as_ref().is_some_and(|process| process.status().is_none())
    }

    /// The member's process.
    pub(crate) fn process(&mut self, member: usize) -> &mut Process {
        self.members[member].process.as_mut().expect("the member was started")
    }

    /// Waits until the member says that it is healthy: it can do a linearizable read.
    pub(crate) async fn ready(&self, member: usize) {
        let member = &self.members[member];
        let address = member.client_url.trim_start_matches("http://").to_owned();
        until(|| {
            let process = member.process.as_ref().expect("the member was started");
            if let Some(status) = process.status() {
                panic!("{} ended ({status}) instead of serving:\n{}", member.name, process.tail());
            }
            let address = address.clone();
            async move {
                let answer = get_http(&address, "/health").await?;
                answer.contains("\"health\":\"true\"").then_some(())
            }
        })
        .await;
    }

    /// SIGKILL, and waits until the process is gone.
    pub(crate) async fn kill(&mut self, member: usize) {
        self.process(member).kill().await;
    }

    /// SIGTERM, and waits for the end.
    pub(crate) async fn terminate(&mut self, member: usize) -> ExitStatus {
        let process = self.process(member);
        process.signal(Signal::TERM);
        process.ended().await
    }

    /// A client of one member.
    pub(crate) fn client(&self, member: usize) -> Client {
        Client::new(&self.members[member].client_url)
    }

    /// The position of the leader, as soon as a running member knows one that runs.
    pub(crate) async fn leader(&self) -> usize {
        until(|| async {
            for member in (0..self.members.len()).filter(|member| self.is_running(*member)) {
                let status = self.client(member).status().await;
                if let Ok(status) = status
                    && status.leader != 0
                    && status.header.is_some_and(|header| header.member_id == status.leader)
                {
                    return Some(member);
                }
            }
            None
        })
        .await
    }
}

/// A GET by HTTP/1.1; the whole answer as text, or `None` if there is none.
pub(crate) async fn get_http(address: &str, path: &str) -> Option<String> {
    let ask = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        let question =
            format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(question.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok()?;
        Some(String::from_utf8_lossy(&answer).into_owned())
    };
    tokio::time::timeout(ANSWER_LIMIT, ask).await.ok()?
}
