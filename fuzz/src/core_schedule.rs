//! Schedules of the consensus module: the input decides, byte by byte, what happens next in a
//! cluster of the module alone. Half of the inputs are schedules of the module's own tests
//! (`schedule.rs`), where anything may come in any order; half are seeds of the simulator's core
//! world, where every step must be one that the specification allows.

use jangada_raft::{Configuration, NodeId};
use jangada_sim::core_world::{self, CORE_FAULTS, CoreOptions};
use jangada_sim::{Choices, FaultRates};

use crate::Input;

#[path = "../../crates/raft/tests/harness/mod.rs"]
mod harness;

use harness::schedule::{Random, run};

/// Steps before the faults stop: enough for a few elections, little enough for thousands of runs a
/// minute.
const STEPS: u64 = 400;

/// How long a core world goes on with faults, in simulated microseconds.
const DURATION_US: u64 = 3_000_000;

/// Runs one schedule in a cluster of one of four shapes, or in a core world of one to four sizes.
///
/// # Panics
/// If an invariant does not hold, or the cluster does not recover.
pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let voters = |count: u64| Configuration::of_voters((1..=count).map(NodeId));
    let configuration = match input.byte() % 8 {
        0 => voters(3),
        1 => voters(5),
        2 => voters(2),
        3 => Configuration {
            voters: vec![NodeId(1), NodeId(2), NodeId(3)],
            outgoing: vec![NodeId(3), NodeId(4), NodeId(5)],
            learners: vec![NodeId(6)],
            ..Configuration::default()
        },
        shape => return core(u64::from(shape) - 2, input.rest()),
    };
    let facts = run(Random::of_bytes(input.rest()), &configuration, STEPS);
    assert!(0 < facts.elections, "the cluster recovers under a leader");
}

fn core(members: u64, seed: &[u8]) {
    let mut choices = Choices::of_bytes(seed);
    let rates = FaultRates::swarm(&mut choices, &CORE_FAULTS);
    let options = CoreOptions { members, rates, ..CoreOptions::default() };
    if let Err(failure) = core_world::run(options, choices, DURATION_US) {
        panic!("{failure}");
    }
}

/// One schedule for each shape.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    (0..8).map(|shape| (0..200_u32).map(|at| (at * at * 31 + shape) as u8).collect()).collect()
}
