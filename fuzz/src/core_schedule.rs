//! Schedules of the consensus module: the input decides, byte by byte, what happens next in a
//! cluster of the module alone; every fact is held against every earlier one (`schedule.rs`).

use jangada_raft::{Configuration, NodeId};

use crate::Input;

#[path = "../../crates/raft/tests/harness/mod.rs"]
mod harness;

use harness::schedule::{Random, run};

/// Steps before the faults stop: enough for a few elections, little enough for thousands of runs a
/// minute.
const STEPS: u64 = 400;

/// Runs one schedule in a cluster of one of four shapes.
///
/// # Panics
/// If an invariant does not hold, or the cluster does not recover.
pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let voters = |count: u64| Configuration::of_voters((1..=count).map(NodeId));
    let configuration = match input.byte() % 4 {
        0 => voters(3),
        1 => voters(5),
        2 => voters(2),
        _ => Configuration {
            voters: vec![NodeId(1), NodeId(2), NodeId(3)],
            outgoing: vec![NodeId(3), NodeId(4), NodeId(5)],
            learners: vec![NodeId(6)],
        },
    };
    let facts = run(Random::of_bytes(input.rest()), &configuration, STEPS);
    assert!(0 < facts.elections, "the cluster recovers under a leader");
}

/// One schedule for each shape.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    (0..4).map(|shape| (0..200_u32).map(|at| (at * at * 31 + shape) as u8).collect()).collect()
}
