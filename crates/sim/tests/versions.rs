//! Two versions of the program in one cluster: members are upgraded one by one, and back, while other
//! things go wrong, from many seeds.

use jangada::FEATURE_LEVEL;
use jangada_net::handshake::NEWEST_VERSION;
use jangada_net::wire::NEXT_VERSION;
use jangada_sim::application::tally::TallyApplication;
use jangada_sim::application::tally_clients::TallyClients;
use jangada_sim::faults::Fault;
use jangada_sim::run::sweep::survivable;
use jangada_sim::world::programs::Program;
use jangada_sim::{Choices, Deeds, FaultRates, Plan, Seed, WorldOptions, run};

#[test]
fn members_are_upgraded_and_back_and_nothing_is_lost() {
    let old = Program { wire: NEWEST_VERSION, level: FEATURE_LEVEL };
    let wire = Program { wire: NEXT_VERSION, ..old };
    let new = Program { level: FEATURE_LEVEL + 1, ..wire };
    let (mut deeds, mut acknowledged) = (Deeds::default(), 0);
    for seed in 0..40 {
        // In half of the runs the cluster's version can rise, from where there is no way back.
        let programs = if seed % 2 == 0 { vec![old, wire] } else { vec![old, new, new] };
        let mut choices = Choices::of_seed(seed);
        let rates = FaultRates::swarm(&mut choices, &survivable())
            .with(Fault::ProcessKilled, 30_000)
            .with(Fault::MembersChanged, 10_000);
        let member = Plan { seed: Seed::Number(seed), ..Plan::default() }.limits();
        let options = WorldOptions { rates, programs, member, ..WorldOptions::default() };
        let mut clients = TallyClients::new(6);
        let result = run(TallyApplication, options, choices, 15_000_000, &mut clients);
        let report = result.unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
        deeds.add(report.deeds);
        acknowledged += clients.acknowledged();
    }
    let Deeds { upgrades, downgrades, too_old, .. } = deeds;
    println!("{upgrades} upgrades, {downgrades} back, {too_old} too old; {acknowledged} answers");
    assert!(40 < upgrades && 40 < downgrades, "{deeds:?}");
    assert!(0 < too_old, "the cluster's version rises in some runs: {deeds:?}");
}
