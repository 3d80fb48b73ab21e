//! `bench leases`: very many leases that end together while clients write.

use std::io::{self, Write};

use jangada_bench::leases::{self, Report};

use super::bench::time_text;
use super::contest::{self, Reports, Targets, ratio};
use crate::arguments::{self, LeasesBench};
use crate::failure::Failure;
use crate::output;

/// Measures each, and prints what was measured.
pub(crate) fn run(client: &arguments::Client, bench: &LeasesBench) -> Result<(), Failure> {
    let targets = Targets::of(client, &bench.measured)?;
    let mut reports = Vec::new();
    for target in &targets.all {
        let report = leases::run(&leases::Options {
            endpoints: target.endpoints.clone(),
            access: target.access.clone(),
            leases: bench.leases,
            end_after: bench.end_after,
            writers: bench.writers,
            before: bench.before,
            value_bytes: bench.val_size,
            patience: bench.patience,
            pids: target.pids.clone(),
        })?;
        reports.push((target.name.clone(), report));
    }
    contest::print(client.output, &reports, print)?;
    match reports.iter().map(|(_, report)| report.left).sum::<u64>() {
        0 => Ok(()),
        left => Err(Failure::Failed(format!("{left} leases had not ended in time"))),
    }
}

const HEADING: &[&str] = &[
    "server",
    "leases",
    "granted /s",
    "ended in",
    "p50 before",
    "p50",
    "p99 before",
    "p99",
    "max",
    "memory",
];

fn print(reports: &Reports<Report>) -> io::Result<()> {
    output::print_table(HEADING, &contest::rows(reports, row, ratios))?;
    let mut out = io::stdout().lock();
    for (name, report) in reports {
        let (left, failed) = (report.left, report.failed_writes);
        writeln!(out, "{name}: {left} leases left, {failed} failed writes")?;
    }
    Ok(())
}

fn row(name: &str, report: &Report) -> Vec<String> {
    vec![
        name.to_owned(),
        report.leases.to_string(),
        format!("{:.0}", report.granted_per_second),
        format!("{:.1} s", report.ending_seconds),
        time_text(report.latency_before.p50_us),
        time_text(report.latency.p50_us),
        time_text(report.latency_before.p99_us),
        time_text(report.latency.p99_us),
        time_text(report.latency.max_us),
        report.resident_bytes.map(output::bytes_text).unwrap_or_default(),
    ]
}

fn ratios(name: &str, ours: &Report, theirs: &Report) -> Vec<String> {
    let of = |of: fn(&Report) -> f64| ratio(of(ours), of(theirs));
    vec![
        name.to_owned(),
        String::new(),
        of(|report| report.granted_per_second),
        of(|report| report.ending_seconds),
        of(|report| report.latency_before.p50_us as f64),
        of(|report| report.latency.p50_us as f64),
        of(|report| report.latency_before.p99_us as f64),
        of(|report| report.latency.p99_us as f64),
        of(|report| report.latency.max_us as f64),
        of(|report| report.resident_bytes.unwrap_or(0) as f64),
    ]
}
