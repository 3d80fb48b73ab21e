//! Members on simulated disks and a simulated network, from many seeds.

use jangada_sim::application::tally::TallyApplication;
use jangada_sim::application::tally_clients::TallyClients;
use jangada_sim::faults::FAULTS;
use jangada_sim::run::sweep::survivable;
use jangada_sim::{Choices, Failure, FaultCounts, FaultRates, Report, WorldOptions, run};

fn simulate(
    seed: u64,
    rates: impl FnOnce(&mut Choices) -> FaultRates,
    seconds: u64,
) -> (Result<Report, Box<Failure>>, TallyClients) {
    let mut choices = Choices::of_seed(seed);
    let lines_max = std::env::var("JANGADA_SIM_LINES").ok().and_then(|n| n.parse().ok());
    let options = WorldOptions {
        rates: rates(&mut choices),
        lines_max: lines_max.unwrap_or(0),
        ..WorldOptions::default()
    };
    let mut clients = TallyClients::new(6);
    let result = run(TallyApplication, options, choices, seconds * 1_000_000, &mut clients);
    (result, clients)
}

#[test]
fn without_faults_nobody_waits_long() {
    let (result, clients) = simulate(1, |_| FaultRates::none(), 5);
    let report = result.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(1_000 < clients.acknowledged(), "{} were acknowledged", clients.acknowledged());
    assert!(100 < clients.reads());
    assert_eq!(report.faults.total(), 0);
}

#[test]
fn whatever_goes_wrong_every_seed_holds() {
    let first = std::env::var("JANGADA_SIM_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    let seeds = std::env::var("JANGADA_SIM_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(80);
    let mut faults = FaultCounts::default();
    for seed in first..first + seeds {
        let (result, _) = simulate(seed, |choices| FaultRates::swarm(choices, &FAULTS), 10);
        let report = result.unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
        faults.add(&report.faults);
    }
    if seeds < 80 {
        return;
    }
    for fault in FAULTS.into_iter().filter(|fault| !fault.needs_engine()) {
        assert!(0 < faults.of(fault), "{} never happened: {faults}", fault.name());
    }
}

/// Seeds that once failed, and what they found.
#[test]
fn seeds_that_once_failed_hold() {
    let found = [
        (0, "a leader read back entries that had not reached its log yet"),
        (4, "a full disk at the preparation of a segment counted as a broken one"),
        (183, "a roll that the power cut was taken for rot"),
        (1202, "a refusal for an earlier process refused a proposal of the next one"),
        (2026, "all members, just restarted, counted as settled with nothing committed"),
    ];
    for (seed, what) in found {
        let (result, _) = simulate(seed, |choices| FaultRates::swarm(choices, &survivable()), 15);
        result.unwrap_or_else(|failure| panic!("seed {seed}, {what}: {failure}"));
    }
}

#[test]
fn the_same_seed_does_the_same_twice() {
    for seed in 0..5 {
        let once = simulate(seed, |choices| FaultRates::swarm(choices, &survivable()), 5).0;
        let again = simulate(seed, |choices| FaultRates::swarm(choices, &survivable()), 5).0;
        let once = once.unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
        assert_eq!(Some(once), again.ok());
    }
}
