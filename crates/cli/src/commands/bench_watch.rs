//! `bench watch`: watchers while clients write, with and without streams that are never read.

use std::io::{self, Write};
use std::time::Duration;

use jangada_bench::watch::{self, Report};

use super::bench::time_text;
use super::contest::{self, Reports, Targets, ratio};
use crate::arguments::{self, WatchBench};
use crate::failure::Failure;
use crate::output;

/// Without any event for so long, a run ends.
const STALL: Duration = Duration::from_secs(20);

/// Runs once or twice for each, and prints what was measured.
pub(crate) fn run(client: &arguments::Client, bench: &WatchBench) -> Result<(), Failure> {
    let targets = Targets::of(client, &bench.measured)?;
    let mut reports = Vec::new();
    let runs = if bench.stalled == 0 { vec![0] } else { vec![0, bench.stalled] };
    // One right after the other, so that a machine which drifts does so for both.
    for stalled in runs {
        for target in &targets.all {
            let report = watch::run(&watch::Options {
                endpoints: target.endpoints.clone(),
                access: target.access.clone(),
                watchers: bench.watchers,
                streams: bench.streams,
                connections: bench.connections.min(bench.streams),
                stalled,
                writers: bench.writers,
                duration: bench.duration,
                key_space: bench.key_space,
                value_bytes: bench.val_size,
                stall: STALL,
                pids: target.pids.clone(),
                seed: bench.seed,
            })?;
            reports.push((target.name.clone(), report));
        }
    }
    contest::print(client.output, &reports, |reports| print(targets.all.len(), reports))?;
    match reports.iter().map(|(_, report)| report.missing).sum::<u64>() {
        0 => Ok(()),
        missing => Err(Failure::Failed(format!("{missing} events did not come"))),
    }
}

const HEADING: &[&str] = &[
    "server",
    "stalled",
    "events",
    "events /s",
    "writes /s",
    "p50",
    "p99",
    "max",
    "CPU an event",
    "memory",
];

fn print(servers: usize, reports: &Reports<Report>) -> io::Result<()> {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for together in reports.chunks(servers) {
        rows.extend(contest::rows(together, row, ratios));
    }
    if let (true, Some((without, with))) =
        (servers < reports.len(), reports.split_at_checked(servers))
    {
        for ((name, without), (_, with)) in without.iter().zip(with) {
            rows.push(ratios(&format!("{name}: stalled / not"), with, without));
        }
    }
    output::print_table(HEADING, &rows)?;
    let mut out = io::stdout().lock();
    for (name, report) in reports {
        let (watchers, streams, writers) = (report.watchers, report.streams, report.writers);
        let (stalled, bytes) = (report.stalled, report.value_bytes);
        let failed = report.failed_writes;
        writeln!(
            out,
            "{name}: {watchers} watchers on {streams} streams and {stalled} stalled, {writers} \
             writers, {bytes} B values, {:.2} s, {failed} failed writes",
            report.seconds
        )?;
    }
    Ok(())
}

fn row(name: &str, report: &Report) -> Vec<String> {
    let latency = &report.latency;
    let servers = report.servers.as_ref();
    let cpu = servers.map(|servers| format!("{:.2} us", servers.cpu_us_per_request));
    let memory = servers.map(|servers| output::bytes_text(servers.resident_bytes));
    vec![
        name.to_owned(),
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

fn ratios(name: &str, first: &Report, second: &Report) -> Vec<String> {
    let of = |of: fn(&Report) -> f64| ratio(of(first), of(second));
    let servers = first.servers.zip(second.servers);
    vec![
        name.to_owned(),
        String::new(),
        of(|report| report.events as f64),
        of(|report| report.events_per_second),
        of(|report| report.writes_per_second),
        of(|report| report.latency.p50_us as f64),
        of(|report| report.latency.p99_us as f64),
        of(|report| report.latency.max_us as f64),
        servers.map_or(String::new(), |(first, second)| {
            ratio(first.cpu_us_per_request, second.cpu_us_per_request)
        }),
        servers.map_or(String::new(), |(first, second)| {
            ratio(first.resident_bytes as f64, second.resident_bytes as f64)
        }),
    ]
}
