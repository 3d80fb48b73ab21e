//! Many seeds, one after the other: what `jangada sim` runs.
//!
//! A seed alone decides its run: the rates of its faults, the faults, the requests. So a seed that
//! fails is all that is needed to see it fail again.

use crate::choices::{Choices, mix};
use crate::faults::{FAULTS, Fault, FaultCounts, FaultRates};
use crate::rot::RotCounts;
use crate::run::{Failure, Report, run};
use crate::store::StoreApplication;
use crate::store_clients::{StoreClients, StoreLoad};
use crate::tally::TallyApplication;
use crate::tally_clients::TallyClients;
use crate::world::WorldOptions;

/// How many clients the tally has.
const TALLY_CLIENTS: u64 = 6;

/// What the members of a world replicate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Replicated {
    /// The store that ships, with its engine; every history is judged.
    Store,
    /// The tally, which keeps nothing durable beside the log.
    Tally,
}

/// What is simulated.
#[derive(Clone, Debug)]
pub struct SweepOptions {
    /// The first seed; the following ones count up.
    pub first_seed: u64,
    /// How many seeds at most.
    pub seeds_max: u64,
    /// The worlds in which each seed runs, one after the other.
    pub worlds: Vec<Replicated>,
    /// How many members there are.
    pub members: u64,
    /// How long each seed runs with faults, in simulated microseconds.
    pub duration_us: u64,
    /// What a seed may suffer; each seed draws which of it, and how often.
    pub faults: Vec<Fault>,
    /// How many of the newest lines of a failed run are kept.
    pub lines_max: usize,
}

impl Default for SweepOptions {
    fn default() -> SweepOptions {
        SweepOptions {
            first_seed: 0,
            seeds_max: u64::MAX,
            worlds: vec![Replicated::Store, Replicated::Tally],
            members: 3,
            duration_us: 10_000_000,
            faults: FAULTS.to_vec(),
            lines_max: 200,
        }
    }
}

/// How far a sweep has come.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// Seeds that held.
    pub seeds: u64,
    /// Simulated time, in microseconds.
    pub simulated_us: u64,
    /// Events and effects.
    pub events: u64,
    /// Requests that were answered.
    pub requests: u64,
    /// What went wrong, how often.
    pub faults: FaultCounts,
    /// What became of the bits that flipped.
    pub rot: RotCounts,
    /// The hash over everything that happened in all runs.
    pub trace_hash: u64,
}

/// Whether a sweep goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// With the next seed.
    Seed,
    /// Enough.
    Stop,
}

/// A seed that did not hold.
#[derive(Clone, Debug)]
pub struct FailedSeed {
    /// The seed.
    pub seed: u64,
    /// The world that it failed in.
    pub world: Replicated,
    /// What did not hold.
    pub failure: Box<Failure>,
}

impl std::fmt::Display for FailedSeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "seed {} failed; its last events:\n{}", self.seed, self.failure)
    }
}

impl std::error::Error for FailedSeed {}

/// The faults that every member survives. A bit that flips at rest can stop one for good, until it
/// can recover from its peers.
#[must_use]
pub fn survivable() -> Vec<Fault> {
    FAULTS.into_iter().filter(|fault| *fault != Fault::BitFlipped).collect()
}

/// Runs one world under one seed. Answers also how many requests were answered.
///
/// # Errors
/// The first thing that does not hold.
pub fn run_seed(
    seed: u64,
    replicated: Replicated,
    options: &SweepOptions,
) -> Result<(Report, u64), Box<Failure>> {
    let mut choices = Choices::of_seed(seed);
    let world = WorldOptions {
        members: options.members,
        rates: FaultRates::swarm(&mut choices, &options.faults),
        lines_max: options.lines_max,
        ..WorldOptions::default()
    };
    match replicated {
        Replicated::Store => {
            let mut clients = StoreClients::new(StoreLoad::default());
            let report = run(StoreApplication, world, choices, options.duration_us, &mut clients)?;
            Ok((report, clients.requests()))
        }
        Replicated::Tally => {
            let mut clients = TallyClients::new(TALLY_CLIENTS);
            let report = run(TallyApplication, world, choices, options.duration_us, &mut clients)?;
            Ok((report, clients.acknowledged() as u64 + clients.reads()))
        }
    }
}

impl Progress {
    fn ran(&mut self, report: &Report, requests: u64) {
        self.simulated_us += report.simulated_us;
        self.events += report.events;
        self.requests += requests;
        self.faults.add(&report.faults);
        self.rot.add(&report.rot);
        self.trace_hash = mix(self.trace_hash.wrapping_add(1) ^ report.trace_hash);
    }
}

/// Runs seed after seed. `progress` is called after each and says whether to go on.
///
/// # Errors
/// The first seed that does not hold.
pub fn sweep(
    options: &SweepOptions,
    mut progress: impl FnMut(&Progress) -> Next,
) -> Result<Progress, FailedSeed> {
    let mut done = Progress::default();
    // Lines cost more than all else, so a seed is only told in full when it has failed.
    let silent = SweepOptions { lines_max: 0, ..options.clone() };
    while done.seeds < options.seeds_max {
        let seed = options.first_seed.wrapping_add(done.seeds);
        for world in options.worlds.iter().copied() {
            let (report, requests) = run_seed(seed, world, &silent).map_err(|failure| {
                let told = run_seed(seed, world, options).err();
                FailedSeed { seed, world, failure: told.unwrap_or(failure) }
            })?;
            done.ran(&report, requests);
        }
        done.seeds += 1;
        if progress(&done) == Next::Stop {
            break;
        }
    }
    Ok(done)
}
