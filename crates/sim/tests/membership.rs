//! Members that change and leaders that are moved while other things go wrong, from many seeds.

use jangada_sim::application::tally::TallyApplication;
use jangada_sim::application::tally_clients::TallyClients;
use jangada_sim::faults::{FAULTS, Fault};
use jangada_sim::{Choices, FaultCounts, FaultRates, WorldOptions, run};

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

/// Runs seeds, each with the given rates of changes and whatever else it draws of the allowed.
fn hold(first: u64, seeds: u64, allowed: &[Fault]) {
    let first = variable("JANGADA_SIM_SEED").unwrap_or(first);
    let seeds = variable("JANGADA_SIM_SEEDS").unwrap_or(seeds);
    let (mut faults, mut changes, mut transfers, mut acknowledged) =
        (FaultCounts::default(), 0, 0, 0);
    for seed in first..first + seeds {
        let mut choices = Choices::of_seed(seed);
        let rates = FaultRates::swarm(&mut choices, allowed)
            .with(Fault::MembersChanged, 60_000)
            .with(Fault::LeadershipMoved, 30_000);
        let lines_max = variable("JANGADA_SIM_LINES").unwrap_or(0) as usize;
        let options = WorldOptions { rates, lines_max, ..WorldOptions::default() };
        let mut clients = TallyClients::new(6);
        let result = run(TallyApplication, options, choices, 15_000_000, &mut clients);
        let report = result.unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
        faults.add(&report.faults);
        changes += report.deeds.changes;
        transfers += report.deeds.transfers;
        acknowledged += clients.acknowledged();
    }
    println!(
        "{seeds} seeds, {changes} changes, {transfers} transfers, {acknowledged} answers; {faults}"
    );
    assert!(seeds < 10 || seeds < changes, "{changes} changes came about in {seeds} seeds");
    assert!(seeds < 10 || seeds / 2 < transfers, "{transfers} transfers came about");
}

#[test]
fn members_change_and_leaders_move_and_nothing_is_lost() {
    hold(0, 20, &[]);
}

#[test]
fn whatever_else_goes_wrong_members_change() {
    hold(1_000, 40, &FAULTS);
}
