//! `bench connections`: very many connections that do nothing.

use std::io::{self, Write};

use jangada_bench::connections::{self, Report};

use super::bench::time_text;
use super::contest::{self, Reports, Targets, ratio};
use crate::arguments::{self, ConnectionsBench};
use crate::failure::Failure;
use crate::output;

/// Measures each, and prints what was measured.
pub(crate) fn run(client: &arguments::Client, bench: &ConnectionsBench) -> Result<(), Failure> {
    let targets = Targets::of(client, &bench.measured)?;
    let mut reports = Vec::new();
    for target in &targets.all {
        let report = connections::run(&connections::Options {
            endpoints: target.endpoints.clone(),
            access: target.access.clone(),
            count: bench.count,
            watchers: bench.watchers,
            writers: bench.writers,
            duration: bench.duration,
            value_bytes: bench.val_size,
            pids: target.pids.clone(),
        })?;
        reports.push((target.name.clone(), report));
    }
    contest::print(client.output, &reports, print)?;
    let short: usize = reports.iter().map(|(_, report)| report.refused + report.lost).sum();
    match short {
        0 => Ok(()),
        short => Err(Failure::Failed(format!(
            "{short} connections were refused or lost; look at the limits of open files ('ulimit -n')"
        ))),
    }
}

const HEADING: &[&str] = &[
    "server",
    "connections",
    "opened in",
    "memory each",
    "memory",
    "CPU idle",
    "p50 before",
    "p50",
    "p99 before",
    "p99",
];

fn print(reports: &Reports<Report>) -> io::Result<()> {
    output::print_table(HEADING, &contest::rows(reports, row, ratios))?;
    let mut out = io::stdout().lock();
    for (name, report) in reports {
        let (refused, lost, failed) = (report.refused, report.lost, report.failed_writes);
        let watchers = if report.watchers { "with a watcher each" } else { "without a stream" };
        writeln!(
            out,
            "{name}: connections {watchers}, {refused} refused, {lost} lost, {failed} failed writes; \
             memory is that of all members together"
        )?;
    }
    Ok(())
}

fn row(name: &str, report: &Report) -> Vec<String> {
    let bytes = |bytes: f64| output::bytes_text(bytes.max(0.0) as u64);
    vec![
        name.to_owned(),
        report.connections.to_string(),
        format!("{:.1} s", report.opening_seconds),
        report.bytes_per_connection.map(bytes).unwrap_or_default(),
        report.resident_bytes.map(output::bytes_text).unwrap_or_default(),
        report.idle_cpu_ms_per_second.map(|cpu| format!("{cpu:.1} ms/s")).unwrap_or_default(),
        time_text(report.latency_before.p50_us),
        time_text(report.latency.p50_us),
        time_text(report.latency_before.p99_us),
        time_text(report.latency.p99_us),
    ]
}

fn ratios(name: &str, ours: &Report, theirs: &Report) -> Vec<String> {
    let both = |of: fn(&Report) -> Option<f64>| {
        of(ours).zip(of(theirs)).map(|(ours, theirs)| ratio(ours, theirs)).unwrap_or_default()
    };
    vec![
        name.to_owned(),
        String::new(),
        ratio(ours.opening_seconds, theirs.opening_seconds),
        both(|report| report.bytes_per_connection),
        both(|report| report.resident_bytes.map(|bytes| bytes as f64)),
        both(|report| report.idle_cpu_ms_per_second),
        both(|report| Some(report.latency_before.p50_us as f64)),
        both(|report| Some(report.latency.p50_us as f64)),
        both(|report| Some(report.latency_before.p99_us as f64)),
        both(|report| Some(report.latency.p99_us as f64)),
    ]
}
