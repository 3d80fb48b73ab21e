//! Your own state machine in a world where everything goes wrong that can.
//!
//! `cargo run --release -p jangada-sim --example simulate_yours` finds the bug in this one, tells how
//! it came about, and makes the run smaller; with `-- mended` the bug is gone, and every seed holds.

use std::collections::BTreeSet;
use std::process::ExitCode;

use jangada::{Frame, Outcome, StateMachine};
use jangada_sim::{Simulation, SweepOptions, explore};

/// Counts deposits. A client that does not know whether its deposit happened sends it again, under
/// the same number, and it must count once.
#[derive(Default)]
struct Account {
    balance: u64,
    seen: BTreeSet<u64>,
    remembers_all: bool,
}

impl StateMachine for Account {
    type Reply = u64;

    fn apply(&mut self, commands: &[Frame], outcomes: &mut Vec<Outcome<u64>>) {
        for command in commands {
            let number = number_of(command.payload());
            // The bug: to keep the set small, everything but the newest number is forgotten. That is
            // enough for one client, and for as long as nothing of another's comes in between.
            if self.seen.insert(number) {
                self.balance += 1;
            }
            if !self.remembers_all {
                self.seen.retain(|seen| *seen == number);
            }
            outcomes.push(Outcome { reply: self.balance, digest: self.balance });
        }
    }
}

fn number_of(command: &[u8]) -> u64 {
    command.try_into().map_or(0, u64::from_le_bytes)
}

/// The machine, what its clients ask for, and what must hold.
fn simulation(remembers_all: bool) -> Simulation<Account> {
    let machine = move || Account { remembers_all, ..Account::default() };
    Simulation::new("account", machine, |_, number| number.to_le_bytes().to_vec())
        .retrying()
        .describe(|command| format!("deposit {}", number_of(command)))
        .check("each deposit counts once", |account, sent| {
            let (balance, deposits) = (account.balance, sent.acknowledged.len() as u64);
            if balance == deposits {
                return Ok(());
            }
            Err(format!("the balance is {balance} after {deposits} deposits"))
        })
}

fn main() -> ExitCode {
    let simulation = simulation(std::env::args().any(|word| word == "mended"));
    let seeds =
        SweepOptions { worlds: vec![&simulation], seeds_max: 200, ..SweepOptions::default() };
    match explore(&seeds) {
        Ok(held) => {
            println!("{} seeds held, with {} faults", held.seeds, held.faults.total());
            ExitCode::SUCCESS
        }
        Err(found) => {
            println!("{found}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jangada_sim::Plan;

    fn explored(remembers_all: bool) -> Result<u64, Box<jangada_sim::Found>> {
        let simulation = simulation(remembers_all);
        let plan = Plan { duration_us: 3_000_000, ..Plan::default() };
        let options =
            SweepOptions { plan, worlds: vec![&simulation], seeds_max: 12, ..Default::default() };
        explore(&options).map(|held| held.seeds)
    }

    #[test]
    fn the_bug_is_found_told_and_made_smaller() {
        let found = explored(false).expect_err("the bug is found");
        let (first, small) = (&found.first, &found.smallest);
        assert_eq!(small.failure.invariant, "each deposit counts once");
        assert!(small.failure.faults.total() < first.failure.faults.total());
        assert!(small.plan.duration_us < first.plan.duration_us);
        let story = found.to_string();
        for part in ["becomes leader of term", "it retries", "world = account", "deposit"] {
            assert!(story.contains(part), "{part:?} is missing in:\n{story}");
        }
        println!("{story}");
    }

    #[test]
    fn without_the_bug_the_same_seeds_hold() {
        assert_eq!(explored(true).expect("every seed holds"), 12);
    }
}
