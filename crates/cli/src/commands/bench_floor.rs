//! `bench floor`: what the machine can do, and a put beside it.

use std::io::{self, Write};

use jangada_bench::floor::{self, Floor};
use jangada_bench::floor_put::{Cluster, PutFloor};
use jangada_bench::load::{self, KeyOrder, Operation, Stop};
use jangada_bench::{Access, Latency};
use serde::Serialize;
use serde_json::json;

use super::bench::{leader_of, time_text};
use super::side_by_side::median;
use crate::arguments::{self, FloorBench, Format};
use crate::failure::Failure;
use crate::output;

/// What was measured in one go.
#[derive(Serialize)]
struct Round {
    floor: Floor,
    processes: PutFloor,
    /// One client's puts at a cluster's leader.
    put: Option<Latency>,
}

/// Measures and prints.
pub(crate) fn run(client: &arguments::Client, bench: &FloorBench) -> Result<(), Failure> {
    let own = std::env::current_exe()
        .map_err(|error| Failure::Failed(format!("this program has no path: {error}")))?;
    let cluster = Cluster::start(
        &own,
        &["bench", "floor-follower"],
        &["bench", "floor-leader"],
        &bench.floor_dir,
    )?;
    let leader = bench.dir.as_ref().map(|folder| leader_of(folder)).transpose()?;
    let mut rounds = Vec::new();
    for _ in 0..bench.runs {
        let floor = floor::measure(&bench.floor_dir)?;
        let processes = cluster.measure(bench.duration)?;
        let put = match &leader {
            Some(((endpoints, _), _)) => Some(put(endpoints, bench)?),
            None => None,
        };
        rounds.push(Round { floor, processes, put });
    }
    match client.output.unwrap_or(Format::Simple) {
        Format::Json => output::print_json(&json!({"rounds": rounds}))?,
        Format::Simple | Format::Table => print(&rounds)?,
    }
    Ok(())
}

fn put(endpoints: &[String], bench: &FloorBench) -> Result<Latency, Failure> {
    let report = load::run(
        &load::Options {
            endpoints: endpoints.to_vec(),
            access: Access::default(),
            operation: Operation::Put,
            clients: 1,
            connections: 1,
            stop: Stop::Duration(bench.duration),
            rate: None,
            key_space: 100_000,
            key_order: KeyOrder::Random,
            value_bytes: 256,
            busy: load::Busy::Fails,
            stall: bench.duration * 10,
            pids: Vec::new(),
            disk: None,
            seed: 1,
        },
        |_| {},
    )?;
    match report.error_count() {
        0 => Ok(report.latency),
        _ => Err(Failure::Failed(format!("requests failed: {}", report.errors_text()))),
    }
}

fn print(rounds: &[Round]) -> io::Result<()> {
    let row = |what: &str, of: &dyn Fn(&Round) -> Option<Latency>| {
        let all: Option<Vec<Latency>> = rounds.iter().map(of).collect();
        all.map(|all| {
            let at = |of: fn(&Latency) -> u64| {
                time_text(median(all.iter().map(|latency| of(latency) as f64).collect()) as u64)
            };
            let p50s = || all.iter().map(|latency| latency.p50_us);
            let spread = format!(
                "{} to {}",
                time_text(p50s().min().unwrap_or(0)),
                time_text(p50s().max().unwrap_or(0))
            );
            vec![what.to_owned(), at(|it| it.p50_us), spread, at(|it| it.p99_us)]
        })
    };
    let rows: Vec<_> = [
        row("write 4 KiB + fdatasync", &|round| Some(round.floor.fdatasync)),
        row("loopback ping-pong 64 B", &|round| Some(round.floor.ping_pong)),
        row("empty gRPC call", &|round| Some(round.processes.call)),
        row("put floor: three bare processes", &|round| Some(round.processes.put)),
        row("put, one client", &|round| round.put),
    ]
    .into_iter()
    .flatten()
    .collect();
    output::print_table(&["what", "p50", "p50 of the runs", "p99"], &rows)?;
    let ratios: Option<Vec<f64>> = rounds
        .iter()
        .map(|round| Some(round.put?.p50_us as f64 / round.processes.put.p50_us as f64))
        .collect();
    if let Some(mut ratios) = ratios {
        ratios.sort_by(f64::total_cmp);
        let (lowest, highest) = (ratios[0], ratios[ratios.len() - 1]);
        writeln!(
            io::stdout().lock(),
            "put / put floor, p50: {:.2} ({lowest:.2} to {highest:.2})",
            median(ratios)
        )?;
    }
    Ok(())
}
