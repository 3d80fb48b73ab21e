//! What every benchmark can be told.

use std::time::Duration;

use clap::{Args, ValueEnum};

/// What every benchmark can be told.
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// How many rounds: in each, every subject of a scenario runs once
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub runs: u32,
    /// How long one run of one subject takes, in seconds
    #[arg(long, default_value_t = 0.5, value_parser = seconds)]
    pub seconds: f64,
    /// Only the scenarios whose name contains this
    #[arg(long)]
    pub only: Option<String>,
    /// The form of the report
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// Cargo says so to every benchmark
    #[arg(long, hide = true)]
    pub bench: bool,
}

/// The form of a report.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output {
    /// A table for people.
    Table,
    /// JSON, with every run.
    Json,
}

impl Arguments {
    /// How long one run takes.
    #[must_use]
    pub fn time(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

/// A time that a run may take.
fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.001..=600.0).contains(&seconds) => Ok(seconds),
        _ => Err("it takes a number of seconds from 0.001 to 600".to_owned()),
    }
}
