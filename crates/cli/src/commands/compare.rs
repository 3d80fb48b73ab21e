//! `bench compare`: this server and a real etcd, on one machine in one run, as ratios.
//!
//! Both clusters of three run all the time, and each scenario measures one right after the other,
//! so that a machine which drifts from minute to minute drifts for both. Both are started with the
//! same flags and durable in the same folder, which is removed in the end.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use jangada_bench::Access;
use jangada_bench::floor;
use jangada_bench::load::{self, Operation, Report, Stop};
use jangada_bench::status;
use serde_json::json;

use super::side_by_side::{self, Runs, Scenario};
use crate::arguments::{self, Compare, Format, Measurable};
use crate::client::Client;
use crate::dev::health;
use crate::dev::plan::{Member, Plan};
use crate::failure::Failure;
use crate::output;

/// Ports between the two clusters.
pub(super) const PORT_STEP: u16 = 1000;
/// How long a cluster may take to serve.
const READY: Duration = Duration::from_secs(30);
/// Between two looks at a member that is not ready.
const POLL: Duration = Duration::from_millis(50);
/// Without any answer for so long, a run ends.
const STALL: Duration = Duration::from_secs(20);

/// Runs every scenario on both and prints the table.
pub(crate) fn run(client: &arguments::Client, compare: &Compare) -> Result<(), Failure> {
    let folder = Workspace::make(&compare.dir)?;
    let floor = floor::measure(&folder.path)?;
    let own = std::env::current_exe()
        .map_err(|error| Failure::Failed(format!("this program has no path: {error}")))?;
    let mut servers = Vec::new();
    match version_of(&compare.etcd) {
        Some(version) => {
            let port = compare.base_port.saturating_add(PORT_STEP);
            let etcd = Contestant::start(&folder.path, "etcd", &compare.etcd, port)?;
            servers.push((format!("etcd {version}"), etcd));
        }
        None => eprintln!("there is no etcd to compare with; name one with --etcd"),
    }
    let jangada = Contestant::start(&folder.path, "jangada", &own, compare.base_port)?;
    servers.push(("jangada".to_owned(), jangada));
    let mut scenarios = Vec::new();
    for operation in compare.operations.iter().copied().map(operation_of) {
        for clients in &compare.clients {
            let mut measured: Vec<Runs> = servers
                .iter()
                .map(|(name, _)| Runs { server: name.clone(), reports: Vec::new() })
                .collect();
            for run in 1..=compare.runs {
                eprintln!("{}, {clients} clients, run {run} of {}", operation.name(), compare.runs);
                for ((_, server), measured) in servers.iter().zip(&mut measured) {
                    measured.reports.push(server.measure(compare, operation, *clients)?);
                }
            }
            scenarios.push(Scenario(measured));
        }
    }
    if client.output == Some(Format::Json) {
        return Ok(output::print_json(&json!({"scenarios": scenarios, "floor": floor}))?);
    }
    Ok(side_by_side::print(&scenarios, Some(&floor))?)
}

fn operation_of(measurable: Measurable) -> Operation {
    match measurable {
        Measurable::Put => Operation::Put,
        Measurable::Get => Operation::GetLinearizable,
        Measurable::SerializableGet => Operation::GetSerializable,
        Measurable::Txn => Operation::Txn,
        Measurable::Mixed => Operation::Mixed { reads_percent: 90 },
        Measurable::Range => Operation::RangeLinearizable { keys: 100 },
    }
}

/// The first line of `--version`; `None` when there is no such program.
pub(super) fn version_of(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let first = text.lines().next().filter(|_| output.status.success())?;
    Some(first.trim_start_matches("etcd Version: ").to_owned())
}

/// A folder of its own, removed in the end.
pub(super) struct Workspace {
    pub(super) path: PathBuf,
}

impl Workspace {
    pub(super) fn make(beside: &Path) -> Result<Workspace, Failure> {
        let path = beside.join(format!("jangada-bench-{}", std::process::id()));
        std::fs::create_dir(&path)
            .map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))?;
        Ok(Workspace { path })
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            eprintln!("{} is left behind: {error}", self.path.display());
        }
    }
}

/// Three members of one program.
pub(super) struct Contestant {
    plan: Plan,
    /// Where they write.
    folder: PathBuf,
    processes: Vec<Child>,
    /// The leader's first, so that a lone connection goes to the leader on both sides.
    pub(super) endpoints: Vec<String>,
}

impl Drop for Contestant {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // Its data goes with it, so there is nothing to close in order; a process that has
            // ended already is just as well.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Contestant {
    pub(super) fn start(
        folder: &Path,
        name: &str,
        program: &Path,
        base_port: u16,
    ) -> Result<Contestant, Failure> {
        let plan = Plan::new(3, base_port)?;
        let endpoints = plan.members.iter().map(Member::endpoint).collect();
        let folder = folder.to_path_buf();
        let mut contestant = Contestant { plan, folder, processes: Vec::new(), endpoints };
        for member in &contestant.plan.members {
            let home = contestant.folder.join(format!("{name}-{}", member.name));
            let plan = &contestant.plan;
            let process = spawn(program, plan, member, &home, "new").map_err(|error| {
                Failure::Failed(format!("{} cannot be started: {error}", program.display()))
            })?;
            contestant.processes.push(process);
        }
        Client::block_on(contestant.ready(name))?;
        let leader = Client::block_on(status::leader(&contestant.endpoints, &Access::default()))?;
        contestant.endpoints.sort_by_key(|endpoint| *endpoint != leader);
        Ok(contestant)
    }

    /// The members' processes.
    pub(super) fn pids(&self) -> Vec<u32> {
        self.processes.iter().map(Child::id).collect()
    }

    async fn ready(&self, name: &str) -> Result<(), Failure> {
        let begin = Instant::now();
        for member in &self.plan.members {
            while let Err(reason) = health::check(&member.endpoint()).await {
                if READY <= begin.elapsed() {
                    return Err(Failure::Failed(format!(
                        "{name} does not serve on {} after {READY:?}: {reason}; other --base-port \
                         may be free",
                        member.endpoint()
                    )));
                }
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(())
    }

    fn measure(
        &self,
        compare: &Compare,
        operation: Operation,
        clients: usize,
    ) -> Result<Report, Failure> {
        let options = load::Options {
            endpoints: self.endpoints.clone(),
            access: Access::default(),
            operation,
            clients,
            // As the published figures of etcd have them.
            connections: clients.min(if clients <= 64 { 16 } else { 100 }),
            stop: Stop::Duration(compare.duration),
            rate: None,
            key_space: compare.key_space,
            key_order: load::KeyOrder::Random,
            busy: load::Busy::Fails,
            value_bytes: compare.val_size,
            stall: STALL,
            pids: self.pids(),
            disk: Some(self.folder.clone()),
            seed: 1,
        };
        Ok(load::run(&options, |_| {})?)
    }
}

/// Starts a member; etcd and this server take the same flags. `state` is that of the cluster, `new` or
/// `existing`.
pub(super) fn spawn(
    program: &Path,
    plan: &Plan,
    member: &Member,
    home: &Path,
    state: &str,
) -> io::Result<Child> {
    let client = format!("http://{}", member.endpoint());
    let peer = format!("http://{}", member.peer());
    let log = File::create(home.with_extension("log"))?;
    let mut command = Command::new(program);
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("ETCD_") {
            command.env_remove(variable);
        }
    }
    command
        .args(["--name", &member.name])
        .arg("--data-dir")
        .arg(home)
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &plan.initial_cluster()])
        .args(["--initial-cluster-state", state])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
}
