//! What can be written after `jangada sim check`.

use clap::{Args, ValueEnum};
use jangada_sim::checker::{MEMBERS_MAX, Preset};

pub(crate) const SIM_CHECK_AFTER_HELP: &str = "\
Examples:
  jangada sim check                           some ten million states, in minutes
  jangada sim check --preset small            a few seconds
  jangada sim check --preset nightly          more than a billion transitions
  jangada sim check --members 4 --minutes 5 --output json

Every interleaving within the bounds is walked through: messages that arrive in any order, twice or
never, timers, crashes that lose what was not durable. The bounds are printed first. A violation is
told as a script for crates/raft/tests/scripts. Exit status 0 when everything held, 1 when
something did not. Ctrl-C ends with what was done.";

/// Options of `sim check`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Check {
    /// How much may happen
    #[arg(long, value_enum, default_value_t = CheckPreset::Default, conflicts_with = "nightly")]
    pub(crate) preset: CheckPreset,
    /// The same as --preset nightly
    #[arg(long)]
    pub(crate) nightly: bool,
    /// How many voters [default: what the preset says]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=MEMBERS_MAX as u64))]
    pub(crate) members: Option<u64>,
    /// Stop each scope when it has found so many states; one takes 30 to 50 bytes
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) states: Option<u64>,
    /// Stop after so many minutes
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) minutes: Option<u64>,
    /// On how many threads to search [default: as many as cores]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=8))]
    pub(crate) threads: Option<u16>,
}

/// Bounds by name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum CheckPreset {
    /// A few seconds.
    Small,
    /// Some ten million states, in minutes.
    Default,
    /// More than a billion transitions.
    Nightly,
}

impl Check {
    /// The preset that was asked for.
    pub(crate) fn preset(&self) -> Preset {
        match self.preset {
            _ if self.nightly => Preset::Nightly,
            CheckPreset::Small => Preset::Small,
            CheckPreset::Default => Preset::Default,
            CheckPreset::Nightly => Preset::Nightly,
        }
    }
}
