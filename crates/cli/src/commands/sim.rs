//! `jangada sim`: seeds in, what was proved out.
//!
//! Responsible for the options, the progress and the words. What is simulated, and what must hold,
//! is the simulator's.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use jangada_sim::faults::FAULTS;
use jangada_sim::sweep::{FailedSeed, Next, Progress, Replicated, SweepOptions, sweep};
use serde_json::{Map, Value, json};

use crate::arguments::{self, Format, Sim, World};
use crate::failure::Failure;
use crate::output;

/// How many seeds when nothing is said: some seconds.
const SEEDS: u64 = 100;

/// How many of the last events of a failed run are printed.
const LINES_MAX: usize = 60;

/// Runs seeds until one fails or all have held.
pub(crate) fn run(client: &arguments::Client, sim: &Sim) -> Result<(), Failure> {
    let options = sweep_options(sim);
    let duration = sim.minutes.map(|minutes| Duration::from_secs(60 * minutes));
    let bar = progress_bar(&options, duration);
    let begin = Instant::now();
    let swept = sweep(&options, |progress| {
        let elapsed = begin.elapsed();
        bar.set_position(duration.map_or(progress.seeds, |_| milliseconds(elapsed)));
        bar.set_message(format!("{} seeds held", progress.seeds));
        match duration {
            Some(duration) if duration <= elapsed => Next::Stop,
            _ => Next::Seed,
        }
    });
    bar.finish_and_clear();
    let progress = swept.map_err(|failed| Failure::Failed(failed_text(&failed, sim)))?;
    let elapsed = begin.elapsed();
    match client.output.unwrap_or(Format::Simple) {
        Format::Json => output::print_json(&progress_json(&options, &progress, elapsed))?,
        Format::Simple | Format::Table => print(&options, &progress, elapsed)?,
    }
    Ok(())
}

fn sweep_options(sim: &Sim) -> SweepOptions {
    let both = SweepOptions::default();
    SweepOptions {
        first_seed: sim.seed,
        seeds_max: match (sim.seeds, sim.minutes) {
            (Some(seeds), _) => seeds,
            (None, Some(_)) => u64::MAX,
            (None, None) => SEEDS,
        },
        worlds: match sim.world {
            Some(World::Store) => vec![Replicated::Store],
            Some(World::Tally) => vec![Replicated::Tally],
            None => both.worlds.clone(),
        },
        members: sim.members,
        duration_us: sim.seconds * 1_000_000,
        lines_max: LINES_MAX,
        ..both
    }
}

fn milliseconds(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}

/// A bar on a terminal; nothing elsewhere.
fn progress_bar(options: &SweepOptions, duration: Option<Duration>) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {percent:>3} %  {msg}")
        .expect("the template is a constant");
    ProgressBar::new(duration.map_or(options.seeds_max, milliseconds)).with_style(style)
}

/// What did not hold, and how to see it again.
fn failed_text(failed: &FailedSeed, sim: &Sim) -> String {
    let world = match failed.world {
        Replicated::Store => "store",
        Replicated::Tally => "tally",
    };
    format!(
        "{failed}\nreplay it with: jangada sim --seed {} --seeds 1 --world {world} --members {} \
         --seconds {}",
        failed.seed, sim.members, sim.seconds
    )
}

fn rate(events: u64, elapsed: Duration) -> f64 {
    let seconds = elapsed.as_secs_f64();
    if seconds == 0.0 { 0.0 } else { (events as f64 / seconds).round() }
}

fn progress_json(options: &SweepOptions, progress: &Progress, elapsed: Duration) -> Value {
    let count =
        |fault: &jangada_sim::Fault| (fault.name().to_owned(), json!(progress.faults.of(*fault)));
    let faults: Map<String, Value> = FAULTS.iter().map(count).collect();
    let rot = progress.rot;
    json!({
        "first_seed": options.first_seed,
        "seeds": progress.seeds,
        "members": options.members,
        "simulated_seconds": progress.simulated_us as f64 / 1e6,
        "seconds": elapsed.as_secs_f64(),
        "events": progress.events,
        "events_per_second": rate(progress.events, elapsed),
        "requests": progress.requests,
        "faults": faults,
        "flipped_bits": {
            "below": rot.below,
            "above": rot.above,
            "mended": rot.mended,
            "cut": rot.cut,
            "refused": rot.refused,
            "harmless": rot.harmless,
        },
        "trace_hash": format!("{:016x}", progress.trace_hash),
    })
}

fn print(options: &SweepOptions, progress: &Progress, elapsed: Duration) -> io::Result<()> {
    let mut rows = vec![
        ("seeds that held".to_owned(), seeds_text(options.first_seed, progress.seeds)),
        ("simulated time".to_owned(), format!("{:.2} h", progress.simulated_us as f64 / 3.6e9)),
        ("time".to_owned(), format!("{:.1} s", elapsed.as_secs_f64())),
        ("events".to_owned(), progress.events.to_string()),
        ("events /s".to_owned(), format!("{:.0}", rate(progress.events, elapsed))),
        ("answered requests".to_owned(), progress.requests.to_string()),
        ("faults".to_owned(), progress.faults.total().to_string()),
    ];
    let happened = FAULTS.iter().filter(|fault| 0 < progress.faults.of(**fault));
    rows.extend(
        happened
            .map(|fault| (format!("  {}", fault.name()), progress.faults.of(*fault).to_string())),
    );
    let rows: Vec<_> = rows.into_iter().map(|(what, value)| vec![what, value]).collect();
    output::print_table(&["simulation", "value"], &rows)?;
    let mut out = io::stdout().lock();
    writeln!(out, "flipped bits: {}", progress.rot)?;
    writeln!(out, "trace hash: {:016x}", progress.trace_hash)
}

/// The seeds by name.
fn seeds_text(first: u64, count: u64) -> String {
    match count {
        0 => "0".to_owned(),
        1 => format!("1 ({first})"),
        _ => format!("{count} ({first} to {})", first.wrapping_add(count - 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jangada_sim::{Failure as Cause, FaultCounts};

    #[test]
    fn a_failed_seed_is_told_with_its_last_events_and_the_command_that_replays_it() {
        let sim =
            Sim { seed: 7, seeds: None, minutes: Some(1), members: 5, seconds: 20, world: None };
        let failure = Box::new(Cause {
            reason: "election safety is violated".to_owned(),
            simulated_us: 12,
            members: String::new(),
            lines: vec!["11 2 leads".to_owned()],
            faults: FaultCounts::default(),
        });
        let failed = FailedSeed { seed: 9, world: Replicated::Tally, failure };
        let text = failed_text(&failed, &sim);
        for part in ["seed 9 failed", "11 2 leads", "election safety is violated"] {
            assert!(text.contains(part), "{text}");
        }
        let command = "jangada sim --seed 9 --seeds 1 --world tally --members 5 --seconds 20";
        assert!(text.ends_with(command), "{text}");
    }

    #[test]
    fn seeds_by_name() {
        assert_eq!(seeds_text(5, 0), "0");
        assert_eq!(seeds_text(5, 1), "1 (5)");
        assert_eq!(seeds_text(5, 3), "3 (5 to 7)");
    }
}
