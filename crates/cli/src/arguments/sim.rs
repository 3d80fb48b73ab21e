//! What can be written after `jangada sim`.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Args, Subcommand};
use jangada_sim::run::explore::SHRINK_RUNS_MAX;
use jangada_sim::run::scenario::SCENARIOS;
use jangada_sim::{FaultPlan, Seed};

use super::sim_check::{Check, SIM_CHECK_AFTER_HELP};

/// Below what a first seed is drawn that is to be random: short enough to be read out.
const RANDOM_BOUND: u64 = 1_000_000_000_000;

pub(crate) const SIM_AFTER_HELP: &str = "\
Examples:
  jangada sim                                 a hundred seeds in every world
  jangada sim --minutes 10 --seed random      fresh seeds for ten minutes
  jangada sim --until-failure --members 5     until something does not hold, or Ctrl-C
  jangada sim --faults message-lost,power-lost=0.02 --world store
  jangada sim --seed 1017 --seeds 1 --world store --trace 200
  jangada sim --replay store-1017.regression  what an earlier failure wrote
  jangada sim faults                          every fault, in a sentence each
  jangada sim check                           every interleaving in small bounds

Each seed decides faults, requests and timing, so it does the same every time, on any number of
threads. A seed that does not hold is told as a timeline, made smaller, and written to a file that
--replay runs. Exit status: 0 every seed held, 1 one did not. Ctrl-C ends with what was done.";

/// Options of `sim`.
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Sim {
    #[command(subcommand)]
    pub(crate) command: Option<SimCommand>,
    #[command(flatten)]
    pub(crate) sweep: Sweep,
}

/// Where a sweep begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct FirstSeed {
    /// The seed.
    pub(crate) seed: Seed,
    /// Whether it was drawn, so that it must be told before anything can go wrong.
    pub(crate) is_random: bool,
}

/// What the simulator does beside running seeds.
#[derive(Subcommand, Clone, Debug)]
pub(crate) enum SimCommand {
    /// List every fault: its name, the highest rate a seed draws, and what happens.
    Faults,
    /// Walk the consensus module through every interleaving of events in small bounds.
    #[command(after_help = SIM_CHECK_AFTER_HELP)]
    Check(Check),
}

/// Options of running seeds.
#[derive(Args, Clone, Debug)]
pub(crate) struct Sweep {
    /// The first seed: a number from which the following ones count up, bytes in hexadecimal after
    /// 0x, or 'random'
    #[arg(long, default_value = "0", value_parser = seed)]
    pub(crate) seed: FirstSeed,
    /// How many seeds [default: 100]
    #[arg(long, conflicts_with = "until_failure",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) seeds: Option<u64>,
    /// Run seeds until one fails, or the time is up
    #[arg(long)]
    pub(crate) until_failure: bool,
    /// Run seeds for so many minutes
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) minutes: Option<u64>,
    /// Run seeds until so many hours are simulated
    #[arg(long, value_parser = hours)]
    pub(crate) hours: Option<f64>,
    /// How many simulated seconds each seed runs with faults
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) seconds: u64,
    /// How many members each world has
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=9))]
    pub(crate) members: u64,
    /// How many clients ask [default: what suits the world]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(crate) clients: Option<u64>,
    /// What may go wrong: all, none, or names divided by commas, each with '=' and a rate from 0 to
    /// 1 if the seed is not to draw it; 'jangada sim faults' lists them
    #[arg(long, default_value = "all")]
    pub(crate) faults: FaultPlan,
    /// What the members replicate; may be given more than once [default: one after the other]
    #[arg(long, value_parser = PossibleValuesParser::new(worlds()))]
    pub(crate) world: Vec<String>,
    /// On how many threads seeds run [default: as many as cores]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// How many of the last raw events of a failed run to print
    #[arg(long, default_value_t = 0, value_name = "EVENTS")]
    pub(crate) trace: usize,
    /// In how many runs at most a failed one is made smaller; 0 to leave it as it is
    #[arg(long, default_value_t = SHRINK_RUNS_MAX, value_name = "RUNS")]
    pub(crate) shrink: u32,
    /// Where to write the file that replays a failed run [default: its world and seed, here]
    #[arg(long, value_name = "FILE")]
    pub(crate) save: Option<PathBuf>,
    /// Run again what such a file says
    #[arg(long, value_name = "FILE",
          conflicts_with_all = ["seed", "seeds", "until_failure", "minutes", "hours", "seconds",
                                "members", "clients", "faults", "world", "save"])]
    pub(crate) replay: Option<PathBuf>,
}

fn worlds() -> impl Iterator<Item = PossibleValue> {
    SCENARIOS.iter().map(|world| PossibleValue::new(world.name()).help(world.about()))
}

fn seed(text: &str) -> Result<FirstSeed, String> {
    if text == "random" {
        // The standard library keys each hash map anew, from the system's randomness.
        let number = RandomState::new().build_hasher().finish() % RANDOM_BOUND;
        return Ok(FirstSeed { seed: Seed::Number(number), is_random: true });
    }
    Ok(FirstSeed { seed: text.parse()?, is_random: false })
}

fn hours(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(hours) if 0.0 < hours && hours < 1e6 => Ok(hours),
        _ => Err("write a number of hours, such as 200 or 0.5".to_owned()),
    }
}
