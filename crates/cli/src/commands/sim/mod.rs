//! `jangada sim`: seeds in, what was proved out.
//!
//! Responsible for the options, the progress and the words. What is simulated, and what must hold,
//! is the simulator's.

mod check;
mod failed;
mod interrupt;
mod summary;

use std::io::{self, IsTerminal};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use jangada_sim::Plan;
use jangada_sim::choices::MILLION;
use jangada_sim::faults::FAULTS;
use jangada_sim::run::scenario::{SCENARIOS, scenario};
use jangada_sim::run::sweep::{Next, Progress, SweepOptions, sweep};

use crate::arguments::{Client, Format, Sim, SimCommand, Sweep};
use crate::failure::Failure;
use crate::output;
use interrupt::Interrupt;
use summary::Summary;

/// How many seeds when nothing is said: some seconds.
const SEEDS: u64 = 100;

/// How many steps the bar has, whatever it counts: time, simulated hours or seeds.
const BAR_STEPS: f64 = 1_000_000.0;

/// Runs what the command line says.
pub(crate) fn run(client: &Client, sim: &Sim) -> Result<(), Failure> {
    match &sim.command {
        Some(SimCommand::Faults) => Ok(list_faults()?),
        Some(SimCommand::Check(check)) => check::run(client, check),
        None => match &sim.sweep.replay {
            Some(file) => failed::replay(client, &sim.sweep, file),
            None => run_seeds(client, &sim.sweep),
        },
    }
}

/// Runs seeds until one fails or enough have held.
fn run_seeds(client: &Client, wish: &Sweep) -> Result<(), Failure> {
    let options = sweep_options(wish);
    if wish.seed.is_random {
        eprintln!("the first seed is {}", wish.seed.seed);
    }
    let interrupt = Interrupt::watch();
    let bar = progress_bar(wish);
    let begin = Instant::now();
    let swept = sweep(&options, |progress| {
        let elapsed = begin.elapsed();
        let part = part_done(wish, &options, progress, elapsed);
        bar.set_position((part.min(1.0) * BAR_STEPS) as u64);
        bar.set_message(progress_text(progress, elapsed));
        if 1.0 <= part || interrupt.is_pressed() { Next::Stop } else { Next::Seed }
    });
    bar.finish_and_clear();
    let elapsed = begin.elapsed();
    match swept {
        Ok(progress) => {
            let summary = Summary { options: &options, progress: &progress, elapsed };
            match client.output.unwrap_or(Format::Simple) {
                Format::Json => output::print_json(&summary.json())?,
                Format::Simple | Format::Table => summary.print()?,
            }
            Ok(())
        }
        Err(failed) => failed::seed(client, wish, &options.worlds, &failed, &interrupt),
    }
}

fn sweep_options(wish: &Sweep) -> SweepOptions<'static> {
    let bounded = wish.until_failure || wish.minutes.is_some() || wish.hours.is_some();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let mut worlds: Vec<_> = wish.world.iter().filter_map(|name| scenario(name)).collect();
    if worlds.is_empty() {
        worlds = SCENARIOS.to_vec();
    }
    SweepOptions {
        plan: Plan {
            seed: wish.seed.seed.clone(),
            members: wish.members,
            clients: wish.clients,
            duration_us: wish.seconds * 1_000_000,
            faults: wish.faults.clone(),
            ..Plan::default()
        },
        seeds_max: match wish.seeds {
            Some(seeds) => seeds,
            None if bounded => u64::MAX,
            None => SEEDS,
        },
        worlds,
        threads: wish.threads.map_or(cores, usize::from),
    }
}

/// How much of what was asked for is done; 1 for all.
fn part_done(
    wish: &Sweep,
    options: &SweepOptions<'_>,
    progress: &Progress,
    elapsed: Duration,
) -> f64 {
    let seeds = progress.seeds as f64 / options.seeds_max as f64;
    let minutes = wish.minutes.map_or(0.0, |minutes| elapsed.as_secs_f64() / 60.0 / minutes as f64);
    let hours = wish.hours.map_or(0.0, |hours| progress.simulated_us as f64 / 3.6e9 / hours);
    seeds.max(minutes).max(hours)
}

fn progress_text(progress: &Progress, elapsed: Duration) -> String {
    format!(
        "{} seeds held, {:.2} simulated hours, {:.0} requests/s, {} faults",
        progress.seeds,
        progress.simulated_us as f64 / 3.6e9,
        summary::rate(progress.requests, elapsed),
        progress.faults.total()
    )
}

/// A bar on a terminal, or a line where no end is known; nothing elsewhere.
fn progress_bar(wish: &Sweep) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let endless = wish.until_failure && wish.minutes.is_none() && wish.hours.is_none();
    let template = if endless { "{spinner} {msg}" } else { "{bar:24} {percent:>3} %  {msg}" };
    let style = ProgressStyle::with_template(template).expect("the template is a constant");
    ProgressBar::new(BAR_STEPS as u64).with_style(style)
}

/// Every fault.
fn list_faults() -> io::Result<()> {
    let row = |fault: &jangada_sim::Fault| {
        let rate = f64::from(fault.rate_max()) / f64::from(MILLION);
        vec![fault.name().to_owned(), rate.to_string(), fault.sentence().to_owned()]
    };
    let rows: Vec<_> = FAULTS.iter().map(row).collect();
    output::print_table(&["fault", "highest rate drawn", "what happens"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn wish(line: &str) -> Sweep {
        use crate::arguments::{Arguments, Command};
        let words = ["jangada", "sim"].into_iter().chain(line.split_whitespace());
        match Arguments::try_parse_from(words).expect("a good line").command {
            Command::Sim(sim) => sim.sweep,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_ends_a_sweep() {
        let check = |line: &str, progress: Progress, seconds: u64, done: bool| {
            let wish = wish(line);
            let options = sweep_options(&wish);
            let part = part_done(&wish, &options, &progress, Duration::from_secs(seconds));
            assert_eq!(1.0 <= part, done, "{line}: {part}");
        };
        let held = |seeds, hours: u64| Progress {
            seeds,
            simulated_us: hours * 3_600_000_000,
            ..Progress::default()
        };
        check("", held(99, 1000), 1_000_000, false);
        check("", held(100, 0), 0, true);
        check("--seeds 5", held(5, 0), 0, true);
        check("--minutes 2", held(5_000, 50), 119, false);
        check("--minutes 2", held(5, 0), 120, true);
        check("--hours 2", held(5_000, 1), 1_000_000, false);
        check("--hours 2 --minutes 5", held(5, 2), 1, true);
        check("--until-failure", held(5_000, 1000), 1_000_000, false);
    }

    #[test]
    fn a_random_seed_differs() {
        assert_ne!(wish("--seed random").seed, wish("--seed random").seed);
    }
}
