//! Figures of two servers beside each other: medians of several runs in turn, and their ratios.
//!
//! Run k of the one stands beside run k of the other, so that a machine which drifts from minute to minute
//! drifts for both; a ratio is that of two such runs.

use std::io::{self, Write};

use jangada_bench::floor::Floor;
use jangada_bench::load::Report;
use serde::Serialize;

use super::bench::time_text;
use super::contest::ratio;
use crate::output;

/// One server's runs of a scenario.
#[derive(Serialize)]
pub(super) struct Runs {
    pub(super) server: String,
    pub(super) reports: Vec<Report>,
}

/// A scenario: the runs of each server; with two, the last one's figures in parts of the first's.
#[derive(Serialize)]
pub(super) struct Scenario(pub(super) Vec<Runs>);

/// What a table shows of a run.
struct Figure {
    of: fn(&Report) -> Option<f64>,
    text: fn(f64) -> String,
}

const HEADING: &[&str] = &[
    "operation",
    "clients",
    "server",
    "rate /s",
    "p50",
    "p99",
    "CPU us/op",
    "disk B/op",
    "memory",
];

/// In the order of the heading, from the rate on.
const FIGURES: &[Figure] = &[
    Figure { of: |report| Some(report.rate), text: |rate| format!("{rate:.0}") },
    Figure { of: |report| Some(report.latency.p50_us as f64), text: |time| time_text(time as u64) },
    Figure { of: |report| Some(report.latency.p99_us as f64), text: |time| time_text(time as u64) },
    Figure {
        of: |report| Some(report.servers?.cpu_us_per_request),
        text: |time| format!("{time:.1}"),
    },
    Figure { of: |report| report.disk_bytes_per_request, text: |bytes| format!("{bytes:.0}") },
    Figure {
        of: |report| Some(report.servers?.resident_bytes as f64),
        text: |bytes| output::bytes_text(bytes as u64),
    },
];

/// Prints a table, and the floors if they were measured.
pub(super) fn print(scenarios: &[Scenario], floor: Option<&Floor>) -> io::Result<()> {
    let mut rows = Vec::new();
    for Scenario(servers) in scenarios {
        rows.extend(servers.iter().map(row));
        if let [theirs, ours] = &servers[..] {
            rows.push(ratios(ours, theirs));
        }
    }
    output::print_table(HEADING, &rows)?;
    let mut out = io::stdout().lock();
    let runs = scenarios.first().map_or(0, |Scenario(servers)| servers[0].reports.len());
    if 1 < runs {
        writeln!(
            out,
            "medians of {runs} runs; behind a ratio, the lowest and the highest of them"
        )?;
    }
    writeln!(
        out,
        "CPU and memory are those of all members together, disk bytes those of the whole machine"
    )?;
    if let Some(floor) = floor {
        writeln!(
            out,
            "floor: write 4 KiB + fdatasync p50 {} p99 {}, loopback ping-pong p50 {} p99 {}",
            time_text(floor.fdatasync.p50_us),
            time_text(floor.fdatasync.p99_us),
            time_text(floor.ping_pong.p50_us),
            time_text(floor.ping_pong.p99_us),
        )?;
    }
    Ok(())
}

fn row(runs: &Runs) -> Vec<String> {
    let errors: u64 = runs.reports.iter().map(Report::error_count).sum();
    let server = match errors {
        0 => runs.server.clone(),
        errors => format!("{} ({errors} errors)", runs.server),
    };
    let first = &runs.reports[0];
    let mut row = vec![first.operation.clone(), first.clients.to_string(), server];
    for Figure { of, text } in FIGURES {
        let figures: Option<Vec<f64>> = runs.reports.iter().map(of).collect();
        row.push(figures.map_or(String::new(), |figures| text(median(figures))));
    }
    row
}

fn ratios(ours: &Runs, theirs: &Runs) -> Vec<String> {
    let mut row =
        vec![String::new(), String::new(), format!("{} / {}", ours.server, theirs.server)];
    for Figure { of, .. } in FIGURES {
        let pairs = ours.reports.iter().zip(&theirs.reports);
        let ratios: Option<Vec<f64>> = pairs
            .map(|(ours, theirs)| Some(of(ours)? / of(theirs).filter(|&it| it != 0.0)?))
            .collect();
        row.push(ratios.map_or(String::new(), |mut ratios| {
            let middle = ratio(median(ratios.clone()), 1.0);
            ratios.sort_by(f64::total_cmp);
            match &ratios[..] {
                [lowest, .., highest] => format!("{middle} ({lowest:.2} to {highest:.2})"),
                _ => middle,
            }
        }));
    }
    row
}

/// The middle one, or the mean of the two in the middle.
pub(super) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    if figures.len() % 2 == 1 {
        figures[middle]
    } else {
        f64::midpoint(figures[middle - 1], figures[middle])
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn a_median_is_the_middle_one_or_between_the_two() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(vec![7.0]), 7.0);
    }
}
