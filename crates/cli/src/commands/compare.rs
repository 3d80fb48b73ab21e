//! `bench compare`: this server and a real etcd, on one machine in one run, as ratios.
//!
//! Both clusters of three run all the time, and each scenario measures one right after the other,
//! so that a machine which drifts from minute to minute drifts for both. Both are started with the
//! same flags and durable in the same folder, which is removed in the end.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use jangada_bench::Access;
use jangada_bench::floor::{self, Floor};
use jangada_bench::load::{self, Operation, Report, Stop};
use jangada_bench::status;
use serde::Serialize;
use serde_json::json;

use super::bench::time_text;
use crate::arguments::{self, Compare, Format};
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
/// How many different keys.
const KEY_SPACE: u64 = 100_000;

/// One scenario, measured on both.
#[derive(Serialize)]
struct Row {
    etcd: Option<Report>,
    jangada: Report,
}

/// Runs every scenario on both and prints the table.
pub(crate) fn run(client: &arguments::Client, compare: &Compare) -> Result<(), Failure> {
    let folder = Workspace::make(&compare.dir)?;
    let floor = floor::measure(&folder.path)?;
    let own = std::env::current_exe()
        .map_err(|error| Failure::Failed(format!("this program has no path: {error}")))?;
    let version = version_of(&compare.etcd);
    let etcd = match &version {
        Some(_) => {
            let port = compare.base_port.saturating_add(PORT_STEP);
            Some(Contestant::start(&folder.path, "etcd", &compare.etcd, port)?)
        }
        None => {
            eprintln!("there is no etcd to compare with; name one with --etcd");
            None
        }
    };
    let jangada = Contestant::start(&folder.path, "jangada", &own, compare.base_port)?;
    let mut rows = Vec::new();
    for operation in [Operation::Put, Operation::GetLinearizable, Operation::GetSerializable] {
        for clients in &compare.clients {
            eprintln!("{}, {clients} clients", operation.name());
            let etcd = match &etcd {
                Some(etcd) => Some(etcd.measure(compare, operation, *clients)?),
                None => None,
            };
            rows.push(Row { etcd, jangada: jangada.measure(compare, operation, *clients)? });
        }
    }
    if client.output == Some(Format::Json) {
        let etcd = version.as_deref();
        return Ok(output::print_json(&json!({"etcd": etcd, "rows": rows, "floor": floor}))?);
    }
    Ok(print(version.as_deref(), &rows, &floor)?)
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
        let mut contestant = Contestant { plan, processes: Vec::new(), endpoints };
        for member in &contestant.plan.members {
            let home = folder.join(format!("{name}-{}", member.name));
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
            key_space: KEY_SPACE,
            key_order: load::KeyOrder::Random,
            busy: load::Busy::Fails,
            value_bytes: compare.val_size,
            stall: STALL,
            pids: self.pids(),
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

fn print(version: Option<&str>, rows: &[Row], floor: &Floor) -> io::Result<()> {
    let heading =
        ["operation", "clients", "server", "rate /s", "p50", "p99", "CPU us/op", "memory"];
    let mut lines = Vec::new();
    for row in rows {
        if let Some(etcd) = &row.etcd {
            lines.push(report_row(&format!("etcd {}", version.unwrap_or_default()), etcd));
        }
        lines.push(report_row("jangada", &row.jangada));
        if let Some(etcd) = &row.etcd {
            lines.push(ratio_row(etcd, &row.jangada));
        }
    }
    output::print_table(&heading, &lines)?;
    writeln!(
        io::stdout().lock(),
        "jangada / etcd: above 1 is better for the rate, below 1 for all else; CPU is that of all \
         three members\nfloor: write 4 KiB + fdatasync p50 {} p99 {}, loopback ping-pong p50 {} \
         p99 {}",
        time_text(floor.fdatasync.p50_us),
        time_text(floor.fdatasync.p99_us),
        time_text(floor.ping_pong.p50_us),
        time_text(floor.ping_pong.p99_us),
    )
}

fn report_row(server: &str, report: &Report) -> Vec<String> {
    let errors = report.error_count();
    let used = report.servers;
    vec![
        report.operation.to_owned(),
        report.clients.to_string(),
        if errors == 0 { server.to_owned() } else { format!("{server} ({errors} errors)") },
        format!("{:.0}", report.rate),
        time_text(report.latency.p50_us),
        time_text(report.latency.p99_us),
        used.map_or(String::new(), |used| format!("{:.1}", used.cpu_us_per_request)),
        used.map_or(String::new(), |used| output::bytes_text(used.resident_bytes)),
    ]
}

fn ratio_row(etcd: &Report, jangada: &Report) -> Vec<String> {
    let ratio = |ours: f64, theirs: f64| match theirs {
        0.0 => String::new(),
        theirs => format!("{:.2}", ours / theirs),
    };
    let latency = |of: fn(&Report) -> u64| ratio(of(jangada) as f64, of(etcd) as f64);
    let servers = jangada.servers.zip(etcd.servers);
    vec![
        String::new(),
        String::new(),
        "jangada / etcd".to_owned(),
        ratio(jangada.rate, etcd.rate),
        latency(|report| report.latency.p50_us),
        latency(|report| report.latency.p99_us),
        servers.map_or(String::new(), |(ours, theirs)| {
            ratio(ours.cpu_us_per_request, theirs.cpu_us_per_request)
        }),
        servers.map_or(String::new(), |(ours, theirs)| {
            ratio(ours.resident_bytes as f64, theirs.resident_bytes as f64)
        }),
    ]
}
