//! Schedules of the whole: the input is the seed of a simulated run, so each of its bytes decides
//! one delay, one fault or one request of a cluster with its log, network and clients.

use jangada_sim::application::tally::TallyApplication;
use jangada_sim::application::tally_clients::TallyClients;
use jangada_sim::faults::FAULTS;
use jangada_sim::{Choices, FaultRates, WorldOptions, run};

/// How long a run goes on with faults, in simulated microseconds.
const DURATION_US: u64 = 1_500_000;

/// How many clients there are.
const CLIENTS: u64 = 4;

/// Runs the tally in a world with every fault, each as often as the input says, and lets it settle.
///
/// # Panics
/// If an invariant does not hold, or the world does not settle.
pub fn check(data: &[u8]) {
    let mut choices = Choices::of_bytes(data);
    let options =
        WorldOptions { rates: FaultRates::swarm(&mut choices, &FAULTS), ..WorldOptions::default() };
    let mut clients = TallyClients::new(CLIENTS);
    let outcome = run(TallyApplication, options, choices, DURATION_US, &mut clients);
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

/// A few strings; after their last byte a generator decides.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    (0..6_u32).map(|seed| (0..seed * 150).map(|at| (at * at * 31 + seed) as u8).collect()).collect()
}
