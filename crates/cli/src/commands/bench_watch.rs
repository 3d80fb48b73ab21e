//! `bench watch`: watchers while clients write, with and without streams that are never read.

use std::io::{self, Write};
use std::time::Duration;

use jangada_bench::cluster_file::ClusterFile;
use jangada_bench::watch::{self, Report};
use serde_json::json;

use super::bench::time_text;
use crate::arguments::{self, Format, WatchBench};
use crate::failure::Failure;
use crate::output;

/// Without any event for so long, a run ends.
const STALL: Duration = Duration::from_secs(20);

/// Runs once or twice, and prints what was measured.
pub(crate) fn run(client: &arguments::Client, bench: &WatchBench) -> Result<(), Failure> {
    let (mut endpoints, mut pids) = (client.endpoints(), bench.pids.clone());
    if let Some(folder) = &bench.dir {
        let file = ClusterFile::read(folder)?;
        endpoints = file.endpoints();
        if pids.is_empty() {
            pids = file.members.iter().map(|member| member.pid).collect();
        }
    }
    let mut reports = Vec::new();
    let runs = if bench.stalled == 0 { vec![0] } else { vec![0, bench.stalled] };
    for stalled in runs {
        reports.push(watch::run(&watch::Options {
            endpoints: endpoints.clone(),
            watchers: bench.watchers,
            streams: bench.streams,
            connections: bench.connections.min(bench.streams),
            stalled,
            writers: bench.writers,
            duration: bench.duration,
            key_space: bench.key_space,
            value_bytes: bench.val_size,
            stall: STALL,
            pids: pids.clone(),
            seed: bench.seed,
        })?);
    }
    match client.output.unwrap_or(Format::Simple) {
        Format::Json => output::print_json(&json!({"reports": reports}))?,
        Format::Simple | Format::Table => print(&reports)?,
    }
    match reports.iter().map(|report| report.missing).sum::<u64>() {
        0 => Ok(()),
        missing => Err(Failure::Failed(format!("{missing} events did not come"))),
    }
}

const HEADING: &[&str] =
    &["stalled", "events", "events /s", "writes /s", "p50", "p99", "max", "CPU an event", "memory"];

fn print(reports: &[Report]) -> io::Result<()> {
    let rows: Vec<Vec<String>> = reports.iter().map(row).collect();
    output::print_table(HEADING, &rows)?;
    let mut out = io::stdout().lock();
    for report in reports {
        let (watchers, streams, writers) = (report.watchers, report.streams, report.writers);
        let (stalled, bytes) = (report.stalled, report.value_bytes);
        let failed = report.failed_writes;
        writeln!(
            out,
            "{watchers} watchers on {streams} streams and {stalled} stalled, {writers} writers, \
             {bytes} B values, {:.2} s, {failed} failed writes",
            report.seconds
        )?;
    }
    Ok(())
}

fn row(report: &Report) -> Vec<String> {
    let latency = &report.latency;
    let servers = report.servers.as_ref();
    let cpu = servers.map(|servers| format!("{:.2} us", servers.cpu_us_per_request));
    let memory = servers.map(|servers| output::bytes_text(servers.resident_bytes));
    vec![
        report.stalled.to_string(),
        report.events.to_string(),
        format!("{:.0}", report.events_per_second),
        format!("{:.0}", report.writes_per_second),
        time_text(latency.p50_us),
        time_text(latency.p99_us),
        time_text(latency.max_us),
        cpu.unwrap_or_default(),
        memory.unwrap_or_default(),
    ]
}
