//! The `bench` commands: options in, tables out.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use jangada_bench::Access;
use jangada_bench::cluster_file::ClusterFile;
use jangada_bench::floor::{self, Floor};
use jangada_bench::load::{self, KeyOrder, Operation, Progress, Stop};
use jangada_bench::{Latency, failover, floor_put, status};
use serde_json::json;

use super::side_by_side::{self, Runs, Scenario};
use super::{catch_up, compare};
use crate::arguments::{self, Bench, BenchCommand, Consistency, Failover, Format, Keys, Load};
use crate::client::Client;
use crate::failure::Failure;
use crate::output;

/// How long a run goes when nothing is said.
const DURATION: Duration = Duration::from_secs(10);
/// How many connections when nothing is said; the figure of most published runs.
const CONNECTIONS: usize = 16;
/// Without any answer for so long, a run ends.
const STALL: Duration = Duration::from_secs(20);

/// Runs a benchmark.
pub(crate) fn run(options: &arguments::Client, bench: &Bench) -> Result<(), Failure> {
    match &bench.command {
        BenchCommand::Put(load) => drive(options, load, Operation::Put),
        BenchCommand::Txn(load) => drive(options, load, Operation::Txn),
        BenchCommand::Mixed { load, reads } => {
            drive(options, load, Operation::Mixed { reads_percent: *reads })
        }
        BenchCommand::Get { load, consistency } => {
            let operation = match consistency {
                Consistency::L => Operation::GetLinearizable,
                Consistency::S => Operation::GetSerializable,
            };
            drive(options, load, operation)
        }
        BenchCommand::Range { load, keys, consistency } => {
            let operation = match consistency {
                Consistency::L => Operation::RangeLinearizable { keys: *keys },
                Consistency::S => Operation::RangeSerializable { keys: *keys },
            };
            drive(options, load, operation)
        }
        BenchCommand::Failover(failover) => fail_over(options, failover),
        BenchCommand::Compare(compare) => compare::run(options, compare),
        BenchCommand::Snapshot(snapshot) => catch_up::run(options, snapshot),
        BenchCommand::Connections(bench) => super::bench_connections::run(options, bench),
        BenchCommand::Leases(bench) => super::bench_leases::run(options, bench),
        BenchCommand::Floor(floor) => super::bench_floor::run(options, floor),
        BenchCommand::FloorFollower { file } => Ok(floor_put::follow(file)?),
        BenchCommand::FloorLeader { file, followers } => Ok(floor_put::lead(file, followers)?),
        BenchCommand::Watch(watch) => super::bench_watch::run(options, watch),
    }
}

fn drive(client: &arguments::Client, load: &Load, operation: Operation) -> Result<(), Failure> {
    let (mut endpoints, mut access) = (Vec::new(), Access::default());
    let mut pids = load.pids.clone();
    if load.dir.is_none() {
        (endpoints, access) = Client::block_on(Client::new(client).access())?;
    }
    if let Some(folder) = &load.dir {
        let file = ClusterFile::read(folder)?;
        endpoints = file.endpoints();
        if pids.is_empty() {
            pids = file.members.iter().map(|member| member.pid).collect();
        }
    }
    let mut targets = Vec::new();
    if !load.compare.is_empty() {
        targets.push(("others".to_owned(), load.compare.clone(), load.compare_pids.clone()));
    }
    targets.push(("servers".to_owned(), endpoints, pids));
    if load.target_leader {
        for (_, endpoints, _) in &mut targets {
            *endpoints = vec![Client::block_on(status::leader(endpoints, &access))?];
        }
    }
    let floor = (!load.no_floor).then(|| floor::measure(&load.floor_dir)).transpose()?;
    let mut measured: Vec<Runs> = targets
        .iter()
        .map(|(server, ..)| Runs { server: server.clone(), reports: Vec::new() })
        .collect();
    for _ in 0..load.runs {
        for ((_, endpoints, pids), measured) in targets.iter().zip(&mut measured) {
            measured.reports.push(measure(load, operation, endpoints, &access, pids)?);
        }
    }
    let reports = || measured.iter().flat_map(|runs| &runs.reports);
    let (errors, answers) = (
        reports().map(load::Report::error_count).sum::<u64>(),
        reports().map(|report| report.latency.count).sum::<u64>(),
    );
    let only = reports().next().filter(|_| reports().count() == 1);
    match (client.output.unwrap_or(Format::Simple), only) {
        (Format::Json, Some(report)) => {
            output::print_json(&json!({"report": report, "floor": floor}))?;
        }
        (Format::Json, None) => {
            output::print_json(&json!({"scenarios": [measured], "floor": floor}))?;
        }
        (_, Some(report)) => print_load(report, floor.as_ref())?,
        (_, None) => side_by_side::print(&[Scenario(measured)], floor.as_ref())?,
    }
    match errors {
        0 => Ok(()),
        errors if answers == 0 => {
            Err(Failure::Failed(format!("none of {errors} requests was answered")))
        }
        errors => Err(Failure::Failed(format!("{errors} requests failed"))),
    }
}

/// Whether all members are on this machine.
fn is_here(endpoints: &[String]) -> bool {
    let local = ["127.", "localhost:", "[::1]:"];
    endpoints.iter().all(|endpoint| {
        let authority = endpoint.split_once("://").map_or(endpoint.as_str(), |(_, rest)| rest);
        local.iter().any(|start| authority.starts_with(start))
    })
}

/// Measures one run, and shows how far it is.
fn measure(
    load: &Load,
    operation: Operation,
    endpoints: &[String],
    access: &Access,
    pids: &[u32],
) -> Result<load::Report, Failure> {
    let stop = match (load.total, load.duration) {
        (Some(total), _) => Stop::Total(total),
        (None, duration) => Stop::Duration(duration.unwrap_or(DURATION)),
    };
    let bar = progress_bar(stop);
    let report = load::run(
        &load::Options {
            endpoints: endpoints.to_vec(),
            access: access.clone(),
            operation,
            clients: load.clients,
            connections: load.connections.unwrap_or(load.clients.min(CONNECTIONS)),
            stop,
            rate: load.rate,
            key_space: load.key_space,
            key_order: match load.key_order {
                Keys::Random => KeyOrder::Random,
                Keys::Skewed => KeyOrder::Skewed,
                Keys::Sequential => KeyOrder::Sequential,
            },
            busy: load::Busy::Fails,
            value_bytes: load.val_size,
            stall: STALL,
            pids: pids.to_vec(),
            disk: (!load.no_floor && is_here(endpoints)).then(|| load.floor_dir.clone()),
            seed: load.seed,
        },
        |progress| advance(&bar, stop, progress),
    )?;
    bar.finish_and_clear();
    Ok(report)
}

/// A bar on a terminal; nothing elsewhere.
fn progress_bar(stop: Stop) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let length = match stop {
        Stop::Total(total) => total,
        Stop::Duration(duration) => duration.as_millis().try_into().unwrap_or(u64::MAX),
    };
    let style = ProgressStyle::with_template("{bar:40} {percent:>3} %  {msg}")
        .expect("the template is a constant");
    ProgressBar::new(length).with_style(style)
}

fn advance(bar: &ProgressBar, stop: Stop, progress: Progress) {
    let seconds = progress.elapsed.as_secs_f64();
    bar.set_position(match stop {
        Stop::Total(_) => progress.done,
        Stop::Duration(_) => progress.elapsed.as_millis().try_into().unwrap_or(u64::MAX),
    });
    let rate = if seconds == 0.0 { 0.0 } else { progress.done as f64 / seconds };
    bar.set_message(format!("{rate:.0}/s, {} errors", progress.errors));
}

const LATENCY_HEADING: &[&str] = &["what", "count", "rate /s", "p50", "p90", "p99", "p99.9", "max"];

fn latency_row(what: &str, rate: Option<f64>, latency: &Latency) -> Vec<String> {
    let mut row = vec![what.to_owned(), latency.count.to_string()];
    row.push(rate.map_or(String::new(), |rate| format!("{rate:.0}")));
    for microseconds in
        [latency.p50_us, latency.p90_us, latency.p99_us, latency.p999_us, latency.max_us]
    {
        row.push(time_text(microseconds));
    }
    row
}

/// Microseconds as people read them.
pub(super) fn time_text(microseconds: u64) -> String {
    let value = microseconds as f64;
    match microseconds {
        0..1000 => format!("{microseconds} us"),
        1000..1_000_000 => format!("{:.2} ms", value / 1e3),
        _ => format!("{:.2} s", value / 1e6),
    }
}

fn print_load(report: &load::Report, floor: Option<&Floor>) -> io::Result<()> {
    let mut rows = vec![latency_row(&report.operation, Some(report.rate), &report.latency)];
    if let Some(floor) = floor {
        rows.push(latency_row("floor: write 4 KiB + fdatasync", None, &floor.fdatasync));
        rows.push(latency_row("floor: loopback ping-pong 64 B", None, &floor.ping_pong));
    }
    output::print_table(LATENCY_HEADING, &rows)?;
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{} clients on {} connections, {} B values, {} keys, {:.2} s",
        report.clients, report.connections, report.value_bytes, report.key_space, report.seconds
    )?;
    if let Some(rate) = report.rate_asked {
        writeln!(
            out,
            "{rate:.0} requests a second were asked for; times count from when each was due"
        )?;
    }
    writeln!(out, "client CPU: {:.1} us a request", report.client_cpu_us_per_request)?;
    if let Some(servers) = &report.servers {
        writeln!(
            out,
            "servers together: {:.1} us CPU a request, {} of memory, {} at most",
            servers.cpu_us_per_request,
            output::bytes_text(servers.resident_bytes),
            output::bytes_text(servers.resident_peak_bytes)
        )?;
    }
    if let Some(bytes) = report.disk_bytes_per_request {
        writeln!(out, "this machine, to the disk: {bytes:.0} B a request")?;
    }
    for (kind, count) in &report.errors {
        writeln!(out, "errors: {count} x {kind}")?;
    }
    Ok(())
}

fn fail_over(client: &arguments::Client, failover: &Failover) -> Result<(), Failure> {
    let ((endpoints, access), pid) = match (&failover.dir, failover.pid) {
        (Some(folder), _) => leader_of(folder)?,
        (None, Some(pid)) => (Client::block_on(Client::new(client).access())?, pid),
        (None, None) => return Err(Failure::Usage("name the leader with --pid".to_owned())),
    };
    let options = failover::Options {
        endpoints,
        access,
        pid,
        writers: failover.writers,
        deadline: failover.deadline,
        before: failover.before,
        after: failover.after,
        patience: failover.patience,
        value_bytes: failover.val_size,
    };
    let report = failover::run(&options, |sentence| eprintln!("{sentence}"))?;
    match client.output.unwrap_or(Format::Simple) {
        Format::Json => output::print_json(&json!({"report": report}))?,
        Format::Simple | Format::Table => print_failover(&report)?,
    }
    if report.lost.is_empty() {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "{} acknowledged writes are lost, {} the first of them",
        report.lost.len(),
        report.lost[0]
    )))
}

/// The endpoints of a `jangada dev`, and the process of the member that leads.
pub(super) fn leader_of(folder: &Path) -> Result<((Vec<String>, Access), u32), Failure> {
    let file = ClusterFile::read(folder)?;
    let endpoints = file.endpoints();
    let leader = Client::block_on(status::leader(&endpoints, &Access::default()))?;
    let member = file.members.iter().find(|member| member.endpoint == leader);
    let member = member.expect("the leader was found among these endpoints");
    Ok(((endpoints, Access::default()), member.pid))
}

fn print_failover(report: &failover::Report) -> io::Result<()> {
    let milliseconds = |value: f64| format!("{value:.1} ms");
    let rows = [
        ("time without an acknowledged write", milliseconds(report.gap_ms)),
        ("kill to first write begun after it", milliseconds(report.first_write_ms)),
        ("longest time without one before", milliseconds(report.gap_before_ms)),
        ("acknowledged before the kill", report.acknowledged_before.to_string()),
        ("acknowledged after it", report.acknowledged_after.to_string()),
        ("outcome unknown", report.unknown.to_string()),
        ("acknowledged and lost", report.lost.len().to_string()),
    ];
    let rows: Vec<_> = rows.map(|(what, value)| vec![what.to_owned(), value]).into();
    output::print_table(&["leader killed", "value"], &rows)?;
    let mut out = io::stdout().lock();
    for (kind, count) in &report.errors {
        writeln!(out, "unknown: {count} x {kind}")?;
    }
    writeln!(
        out,
        "{} writers, each write with a deadline of {} ms; nothing was started again",
        report.writers, report.deadline_ms
    )
}
