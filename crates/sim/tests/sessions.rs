//! Sessions in the simulated world: crashes, changes of leader, lost answers and clients that ask
//! again, and every number is listed once.

use jangada_sim::application::exactly_once::{ExactlyOnce, member_options};
use jangada_sim::application::exactly_once_clients::ExactlyOnceClients;
use jangada_sim::faults::FAULTS;
use jangada_sim::{Choices, Fault, FaultCounts, FaultRates, WorldOptions, run};

#[test]
fn whatever_goes_wrong_the_counter_ends_exact() {
    let first = std::env::var("JANGADA_SIM_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    let seeds = std::env::var("JANGADA_SIM_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(40);
    let (mut faults, mut answered, mut expired) = (FaultCounts::default(), 0, 0);
    for seed in first..first + seeds {
        let mut choices = Choices::of_seed(seed);
        let rates = FaultRates::swarm(&mut choices, &FAULTS);
        let options = WorldOptions { rates, member: member_options(), ..WorldOptions::default() };
        let mut clients = ExactlyOnceClients::new(6);
        let report = run(ExactlyOnce, options, choices, 10_000_000, &mut clients)
            .unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
        faults.add(&report.faults);
        answered += clients.answered();
        expired += clients.expired();
    }
    if seeds < 40 {
        return;
    }
    assert!(1_000 < answered, "{answered} numbers were answered");
    assert!(20 < expired, "{expired} sessions expired");
    for fault in [Fault::ProcessKilled, Fault::PowerLost, Fault::MessageLost, Fault::Partition] {
        assert!(0 < faults.of(fault), "{} never happened: {faults}", fault.name());
    }
}
