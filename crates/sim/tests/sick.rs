//! Sick machines, from many seeds: disks that stall, state machines that err, disks without space, and
//! damage while members come and go.

use jangada_server::errors::ApiError;
use jangada_sim::application::store::StoreApplication;
use jangada_sim::application::store_clients::{StoreClients, StoreLoad};
use jangada_sim::application::tally::TallyApplication;
use jangada_sim::application::tally_clients::TallyClients;
use jangada_sim::faults::Fault;
use jangada_sim::workload::coverage::Outcome;
use jangada_sim::workload::{Workload, WorkloadOptions};
use jangada_sim::{Choices, Deeds, FaultCounts, FaultRates, Report, WorldOptions, run};

fn options(rates: FaultRates, change: impl FnOnce(&mut jangada::Options)) -> WorldOptions {
    let mut options = WorldOptions { rates, ..WorldOptions::default() };
    // Runs are short: logs are cut early, so that there are snapshots.
    options.member.trailing_bytes_max = 4 << 10;
    change(&mut options.member);
    options
}

/// Runs the counter from so many seeds.
fn tally(seeds: u64, options: &WorldOptions) -> (Deeds, FaultCounts) {
    sum(seeds, |seed| {
        let mut clients = TallyClients::new(4);
        let (choices, options) = (Choices::of_seed(seed), options.clone());
        run(TallyApplication, options, choices, 10_000_000, &mut clients)
            .unwrap_or_else(|failure| panic!("seed {seed}: {failure}"))
    })
}

/// Runs the store from so many seeds.
fn store(seeds: u64, options: &WorldOptions) -> (Deeds, FaultCounts) {
    sum(seeds, |seed| {
        let mut clients = StoreClients::new(StoreLoad { clients: 4, ..StoreLoad::default() });
        let (choices, options) = (Choices::of_seed(seed), options.clone());
        run(StoreApplication, options, choices, 8_000_000, &mut clients)
            .unwrap_or_else(|failure| panic!("seed {seed}: {failure}"))
    })
}

fn sum(seeds: u64, run: impl Fn(u64) -> Report) -> (Deeds, FaultCounts) {
    let (mut deeds, mut faults) = (Deeds::default(), FaultCounts::default());
    for seed in 0..seeds {
        let report = run(seed);
        deeds.add(report.deeds);
        faults.add(&report.faults);
    }
    println!("{deeds}; {faults}");
    (deeds, faults)
}

#[test]
fn a_leader_leaves_its_place_and_a_process_gives_up_when_its_disk_stalls() {
    let rates = FaultRates::none().with(Fault::DiskStalled, 8_000);
    let patience_us = 3_000_000;
    let options = options(rates, |member| member.stall_abort_us = patience_us);
    let (deeds, faults) = tally(8, &options);
    assert!(5 < faults.of(Fault::DiskStalled), "{faults}");
    assert!(2 < deeds.stalled_leaders && 2 < deeds.aborted, "{deeds}");
}

#[test]
fn a_machine_that_errs_is_found_and_holds_in_the_end_what_the_others_hold() {
    let rates = FaultRates::none().with(Fault::MachineErred, 20_000).with(Fault::PowerLost, 4_000);
    let options = options(rates, |_| {});
    for (deeds, faults) in [tally(5, &options), store(4, &options)] {
        assert!(3 < faults.of(Fault::MachineErred), "{faults}");
        assert!(2 < deeds.quarantined && 2 < deeds.brought_back, "{deeds}");
    }
}

#[test]
fn a_disk_without_space_raises_the_alarm_that_ends_when_there_is_some() {
    let rates = FaultRates::none().with(Fault::DiskFull, 10_000);
    let (mut raised, mut refused) = (0, 0);
    for seed in 0..8 {
        let mut clients = Workload::new(WorkloadOptions::default());
        let (choices, options) = (Choices::of_seed(seed), options(rates.clone(), |_| {}));
        run(StoreApplication, options, choices, 10_000_000, &mut clients)
            .unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
        raised += clients.alarms_raised();
        refused += clients.coverage().of_outcome(Outcome::Refused(ApiError::NoSpace));
    }
    println!("{raised} alarms were raised, {refused} requests refused");
    assert!(3 < raised && 20 < refused, "{raised} alarms were raised, {refused} requests refused");
}

#[test]
fn disks_are_damaged_while_members_come_and_go() {
    let rates = FaultRates::none()
        .with(Fault::MembersChanged, 30_000)
        .with(Fault::SectorSpoiled, 10_000)
        .with(Fault::EngineBitFlipped, 5_000)
        .with(Fault::BitFlipped, 300_000)
        .with(Fault::MachineErred, 3_000)
        .with(Fault::ProcessKilled, 10_000);
    let (deeds, faults) = store(8, &options(rates, |_| {}));
    assert!(4 < deeds.changes, "{deeds}");
    assert!(5 < faults.of(Fault::SectorSpoiled), "{faults}");
}
