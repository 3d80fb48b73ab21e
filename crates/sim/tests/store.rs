//! The store that ships, on members that ship, from many seeds; every history is judged.

use jangada_sim::application::store::StoreApplication;
use jangada_sim::application::store_clients::{Judges, StoreClients, StoreLoad};
use jangada_sim::faults::{FAULTS, Fault};
use jangada_sim::{
    Choices, Failure, FaultCounts, FaultRates, Report, RotCounts, WorldOptions, run,
};

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

fn simulate(
    choices: Choices,
    rates: FaultRates,
    seconds: u64,
    load: StoreLoad,
) -> (Result<Report, Box<Failure>>, StoreClients) {
    let lines_max = variable("JANGADA_SIM_LINES").unwrap_or(0) as usize;
    let options = WorldOptions { rates, lines_max, ..WorldOptions::default() };
    let mut clients = StoreClients::new(load);
    let result = run(StoreApplication, options, choices, seconds * 1_000_000, &mut clients);
    (result, clients)
}

#[test]
fn whatever_goes_wrong_every_history_is_linearizable() {
    let first = variable("JANGADA_SIM_SEED").unwrap_or(0);
    let seeds = variable("JANGADA_SIM_SEEDS").unwrap_or(80);
    let mut faults = FaultCounts::default();
    let (mut puts, mut reads, mut compactions) = (0, 0, 0);
    for seed in first..first + seeds {
        let mut choices = Choices::of_seed(seed);
        let rates = FaultRates::swarm(&mut choices, &FAULTS);
        // Every fourth seed is shorter, so that the search can have its say, too.
        let (seconds, judges) = match seed % 4 {
            0 => (4, Judges::ByRevisionAndSearch),
            _ => (10, Judges::ByRevision),
        };
        let load = StoreLoad { judges, ..StoreLoad::default() };
        let (result, clients) = simulate(choices, rates, seconds, load);
        let report = result.unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
        faults.add(&report.faults);
        puts += clients.puts();
        reads += clients.reads();
        compactions += clients.compactions();
    }
    println!("{seeds} seeds, {puts} puts, {reads} reads, {compactions} compactions; {faults}");
    if seeds < 80 {
        return;
    }
    assert!(0 < puts && 0 < reads && 0 < compactions);
    for fault in FAULTS {
        assert!(0 < faults.of(fault), "{} never happened: {faults}", fault.name());
    }
}

/// A member whose log has rotted comes up with all that it had, or gets it from the others; they go
/// on meanwhile, and nothing that was acknowledged is lost.
#[test]
fn rot_is_mended_or_made_up_for_and_nobody_stays_down() {
    let seeds = variable("JANGADA_SIM_SEEDS").unwrap_or(60);
    let (mut rot, mut recovered) = (RotCounts::default(), 0);
    for seed in 0..seeds {
        let rates = FaultRates::none()
            .with(Fault::BitFlipped, 700_000)
            .with(Fault::ProcessKilled, 20_000)
            .with(Fault::PowerLost, 20_000);
        let (result, _) = simulate(Choices::of_seed(seed), rates, 6, StoreLoad::default());
        let report = result.unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
        rot.add(&report.rot);
        recovered += report.deeds.recovered;
    }
    println!("{rot}; {recovered} recovered");
    if seeds < 60 {
        return;
    }
    let RotCounts { below, above, mended, refused, .. } = rot;
    for (what, count) in
        [("below", below), ("above", above), ("mended", mended), ("recovered", recovered)]
    {
        assert!(0 < count, "{what} never happened: {rot}");
    }
    assert_eq!(refused, 0, "a member that has others to make up for the damage stays up: {rot}");
}

#[test]
fn ten_thousand_puts_among_faults_do_the_same_twice() {
    let once = || {
        let rates = FaultRates::none()
            .with(Fault::MessageLost, 2_000)
            .with(Fault::ProcessKilled, 10_000)
            .with(Fault::PowerLost, 10_000)
            .with(Fault::CrashInOperation, 10_000);
        let load = StoreLoad {
            clients: 16,
            keys: 40,
            think_us_max: 1_000,
            puts_of_hundred: 90,
            puts_max: 10_000,
            ..StoreLoad::default()
        };
        let (result, clients) = simulate(Choices::of_seed(2), rates, 600, load);
        let report = result.unwrap_or_else(|failure| panic!("{failure}"));
        assert!(10_000 <= clients.puts());
        let wanted =
            [Fault::MessageLost, Fault::ProcessKilled, Fault::PowerLost, Fault::CrashInOperation];
        for fault in wanted {
            assert!(0 < report.faults.of(fault), "{} never happened", fault.name());
        }
        report
    };
    assert_eq!(once(), once());
}
