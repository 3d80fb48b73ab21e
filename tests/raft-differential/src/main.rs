//! Jangada's consensus module and the crate `raft` under the same schedules: the same commands, the
//! same links cut, the same crashes; and the same committed sequences. See `compare.rs` for what is
//! compared.
//!
//! ```text
//! jangada-raft-differential [SCHEDULES] [FIRST_SEED]
//! ```
//!
//! First, Jangada's driver is sabotaged in some ways, each of which the comparison has to notice.

mod cluster;
mod compare;
mod jangada;
mod raft_rs;
mod schedule;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use compare::{Outcome, compare};
use jangada::{Jangada, Sabotage};
use raft_rs::RaftRs;
use schedule::{Kind, Schedule};

/// How many schedules when nothing is said.
const SCHEDULES: u64 = 1_000;

/// Within how many schedules each sabotage has to be noticed.
const SABOTAGE_SCHEDULES: u64 = 500;

const SABOTAGES: [Sabotage; 4] = [
    Sabotage::ForgetsLastEntry,
    Sabotage::AcknowledgesEarly,
    Sabotage::SwapsCommands,
    Sabotage::RepeatsCommand,
];

fn main() -> ExitCode {
    let numbers: Option<Vec<u64>> =
        std::env::args().skip(1).map(|word| word.parse().ok()).collect();
    let Some((schedules, first)) = numbers.as_deref().and_then(|numbers| match numbers {
        [] => Some((SCHEDULES, 0)),
        [schedules] => Some((*schedules, 0)),
        [schedules, first] => Some((*schedules, *first)),
        _ => None,
    }) else {
        eprintln!("usage: jangada-raft-differential [SCHEDULES] [FIRST_SEED]");
        return ExitCode::from(2);
    };
    if !sabotages_are_noticed() {
        return ExitCode::FAILURE;
    }
    let mut sum = Outcome::default();
    let mut determined = 0;
    for seed in first..first + schedules {
        let schedule = Schedule::of_seed(seed);
        determined += u64::from(schedule.kind == Kind::Determined);
        match run(&schedule, None) {
            Ok(outcome) => {
                sum.acknowledged += outcome.acknowledged;
                sum.lost += outcome.lost;
                sum.elections += outcome.elections;
            }
            Err(difference) => {
                eprintln!("schedule {seed}: {difference}\n{schedule:?}");
                return ExitCode::FAILURE;
            }
        }
    }
    println!(
        "{schedules} schedules, {determined} of them determined: no difference; {} commands \
         acknowledged and {} taken and lost by both together, {} elections",
        sum.acknowledged, sum.lost, sum.elections
    );
    ExitCode::SUCCESS
}

/// Runs a schedule on both.
fn run(schedule: &Schedule, sabotage: Option<Sabotage>) -> Result<Outcome, String> {
    let mut jangada = Jangada::new(schedule.members, sabotage);
    let mut raft_rs = RaftRs::new(schedule.members);
    compare(schedule, ("jangada", &mut jangada), ("raft", &mut raft_rs))
}

/// Whether the comparison notices each sabotage. A module that stops at one has noticed it, too.
fn sabotages_are_noticed() -> bool {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let missed: Vec<Sabotage> = SABOTAGES
        .into_iter()
        .filter(|sabotage| {
            let noticed = (0..SABOTAGE_SCHEDULES).find(|seed| {
                let schedule = Schedule::of_seed(*seed);
                let run = || run(&schedule, Some(*sabotage));
                !matches!(catch_unwind(AssertUnwindSafe(run)), Ok(Ok(_)))
            });
            if let Some(seed) = noticed {
                println!("{sabotage:?}: noticed by schedule {seed}");
            }
            noticed.is_none()
        })
        .collect();
    std::panic::set_hook(usual);
    if !missed.is_empty() {
        eprintln!("not noticed within {SABOTAGE_SCHEDULES} schedules: {missed:?}");
    }
    missed.is_empty()
}
