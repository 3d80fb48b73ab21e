//! `jangada sim check`: the consensus module through all interleavings in small bounds.
//!
//! Responsible for the options, the progress and the words. What can happen, and what must hold, is
//! the checker's.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use jangada_sim::checker::{
    self, Counterexample, Coverage, Next, Options, Progress, Report, Scope, UNCOVERED,
};
use serde_json::{Map, Value, json};

use super::interrupt::Interrupt;
use crate::arguments::{Check, Client, Format};
use crate::failure::Failure;
use crate::output;

/// A scope that was searched.
struct Searched {
    scope: Scope,
    report: Report,
    elapsed: Duration,
}

/// Checks the preset's scopes one after the other.
pub(super) fn run(client: &Client, check: &Check) -> Result<(), Failure> {
    let scopes = check.preset().scopes(check.members);
    let format = client.output.unwrap_or(Format::Simple);
    let interrupt = Interrupt::watch();
    let begin = Instant::now();
    let until = check.minutes.map(|minutes| begin + Duration::from_secs(60 * minutes));
    let is_over = || interrupt.is_pressed() || until.is_some_and(|until| until <= Instant::now());
    let mut searched = Vec::new();
    for scope in scopes {
        if is_over() {
            break;
        }
        if format != Format::Json {
            print_bounds(&scope)?;
        }
        let (from, bar) = (Instant::now(), progress_line());
        let report = checker::check(&options(check, &scope), |progress| {
            bar.set_message(progress_text(scope.name, progress, from.elapsed()));
            if is_over() { Next::Stop } else { Next::Go }
        });
        bar.finish_and_clear();
        let report = report.map_err(|broken| Failure::Failed(broken_text(&scope, &broken)))?;
        searched.push(Searched { scope, report, elapsed: from.elapsed() });
    }
    match format {
        Format::Json => output::print_json(&json(&searched, begin.elapsed()))?,
        Format::Simple | Format::Table => print(&searched, begin.elapsed())?,
    }
    Ok(())
}

fn options(check: &Check, scope: &Scope) -> Options {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Options {
        threads: check.threads.map_or(cores, usize::from),
        states_max: check.states.unwrap_or(scope.states_max),
        ..Options::new(scope.bounds.clone())
    }
}

/// A line on a terminal; nothing elsewhere.
fn progress_line() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("{spinner} {msg}").expect("the template is a constant");
    ProgressBar::new_spinner().with_style(style)
}

fn progress_text(scope: &str, progress: &Progress, elapsed: Duration) -> String {
    let Progress { states, transitions, depth, .. } = progress;
    let rate = rate(*transitions, elapsed);
    format!("{scope}: depth {depth}, {states} states, {transitions} transitions, {rate}/s")
}

fn rate(count: u64, elapsed: Duration) -> u64 {
    let seconds = elapsed.as_secs_f64();
    if seconds == 0.0 { 0 } else { (count as f64 / seconds) as u64 }
}

fn print_bounds(scope: &Scope) -> io::Result<()> {
    writeln!(io::stdout(), "{}: {}", scope.name, scope.bounds)
}

fn broken_text(scope: &Scope, broken: &Counterexample) -> String {
    format!("{}: {broken}", scope.name)
}

/// How much of a scope was seen.
fn covered(report: &Report) -> &'static str {
    match report.coverage {
        Coverage::Exhausted => "all",
        Coverage::Stopped => "stopped",
    }
}

fn json(searched: &[Searched], elapsed: Duration) -> Value {
    let scope = |searched: &Searched| {
        let Searched { scope, report, elapsed } = searched;
        let rows = scope.bounds.rows().into_iter();
        let bounds: Map<String, Value> =
            rows.map(|(name, value)| (name.to_owned(), json!(value))).collect();
        json!({
            "scope": scope.name,
            "bounds": bounds,
            "exhausted": report.coverage == Coverage::Exhausted,
            "states": report.progress.states,
            "transitions": report.progress.transitions,
            "not_taken": report.progress.pruned,
            "depth": report.progress.depth,
            "liveness_checks": report.progress.liveness_checks,
            "module_turns": report.met.turns,
            "member_states": report.met.members,
            "histories": report.met.histories,
            "seconds": elapsed.as_secs_f64(),
        })
    };
    let sum = |of: fn(&Progress) -> u64| -> u64 {
        searched.iter().map(|searched| of(&searched.report.progress)).sum()
    };
    json!({
        "scopes": searched.iter().map(scope).collect::<Vec<_>>(),
        "states": sum(|progress| progress.states),
        "transitions": sum(|progress| progress.transitions),
        "seconds": elapsed.as_secs_f64(),
    })
}

fn print(searched: &[Searched], elapsed: Duration) -> io::Result<()> {
    let heading = [
        "scope",
        "seen",
        "states",
        "transitions",
        "depth",
        "module turns",
        "member states",
        "liveness",
        "time",
        "states /s",
    ];
    let row = |searched: &Searched| {
        let Searched { scope, report, elapsed } = searched;
        let Progress { states, transitions, depth, liveness_checks, .. } = report.progress;
        vec![
            scope.name.to_owned(),
            covered(report).to_owned(),
            states.to_string(),
            transitions.to_string(),
            depth.to_string(),
            report.met.turns.to_string(),
            report.met.members.to_string(),
            liveness_checks.to_string(),
            format!("{:.1} s", elapsed.as_secs_f64()),
            rate(states, *elapsed).to_string(),
        ]
    };
    let rows: Vec<Vec<String>> = searched.iter().map(row).collect();
    output::print_table(&heading, &rows)?;
    let states: u64 = searched.iter().map(|searched| searched.report.progress.states).sum();
    let transitions: u64 =
        searched.iter().map(|searched| searched.report.progress.transitions).sum();
    let seconds = elapsed.as_secs_f64();
    let mut out = io::stdout().lock();
    for left_out in UNCOVERED {
        writeln!(out, "not covered: {left_out}")?;
    }
    writeln!(
        out,
        "{states} distinct states and {transitions} transitions in {seconds:.1} s: everything held"
    )
}
