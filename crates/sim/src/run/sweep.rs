//! Many seeds, on as many threads as there are cores: what `jangada sim` runs.
//!
//! Each seed runs on one thread, and a seed alone decides its run. So what a sweep finds does not
//! depend on the number of threads:
//!
//! 1. Results are joined in the order of the seeds, whatever order they come in.
//! 2. Seeds are begun in order. When one fails, those before it are finished, and the first one that
//!    failed is told; what came after it does not count.
//! 3. Whoever has enough gets what there was at that moment; yet a seed under way that fails is told.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use crate::bounds::Bounds;
use crate::choices::mix;
use crate::disk::ledger::RotCounts;
use crate::faults::{FAULTS, Fault, FaultCounts};
use crate::run::plan::Plan;
use crate::run::scenario::{Held, SCENARIOS, Scenario};
use crate::run::{Failure, Rest};
use crate::workload::Coverage;
use crate::world::operator::Deeds;

/// What is run.
#[derive(Clone)]
pub struct SweepOptions<'a> {
    /// The first run; the following ones count the seed up.
    pub plan: Plan,
    /// How many seeds at most.
    pub seeds_max: u64,
    /// The worlds in which each seed runs, one after the other.
    pub worlds: Vec<&'a dyn Scenario>,
    /// On how many threads; at least one.
    pub threads: usize,
}

impl Default for SweepOptions<'_> {
    fn default() -> Self {
        SweepOptions {
            plan: Plan::default(),
            seeds_max: u64::MAX,
            worlds: SCENARIOS.to_vec(),
            threads: 1,
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
    /// What became of damage to members' files.
    pub rot: RotCounts,
    /// What was asked through the API and what came of it.
    pub coverage: Coverage,
    /// What queues, windows and buffers held at most.
    pub bounds: Bounds,
    /// How the slowest of the runs came to rest.
    pub rest: Rest,
    /// What came of what operators asked, and of what members do about their disks.
    pub deeds: Deeds,
    /// The hash over everything that happened in all runs, in the order of the seeds.
    pub trace_hash: u64,
}

/// Whether a sweep goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// With the next seed.
    Seed,
    /// Enough: seeds that are under way are finished, and no more begun.
    Stop,
}

/// A seed that did not hold.
#[derive(Clone, Debug)]
pub struct FailedSeed {
    /// The name of the world that it failed in.
    pub world: String,
    /// The run that failed.
    pub plan: Plan,
    /// What did not hold.
    pub failure: Box<Failure>,
    /// What the seeds before it came to.
    pub before: Progress,
}

impl std::fmt::Display for FailedSeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seed = &self.plan.seed;
        write!(f, "seed {seed} failed in the world {}: {}", self.world, self.failure.reason)
    }
}

impl std::error::Error for FailedSeed {}

/// The faults that every member survives. Damage can stop one for good, until it can recover from its
/// peers.
#[must_use]
pub fn survivable() -> Vec<Fault> {
    FAULTS.into_iter().filter(|fault| !fault.damages()).collect()
}

impl Progress {
    fn ran(&mut self, held: &Held) {
        let report = &held.report;
        self.simulated_us += report.simulated_us;
        self.events += report.events;
        self.requests += held.requests;
        self.faults.add(&report.faults);
        self.rot.add(&report.rot);
        self.coverage.add(&held.coverage);
        self.bounds.add(&report.bounds);
        self.rest = self.rest.and(report.rest);
        self.deeds.add(report.deeds);
        self.trace_hash = mix(self.trace_hash.wrapping_add(1) ^ report.trace_hash);
    }
}

/// What came of one seed in all worlds: what held, and the world that did not.
type Outcome<'a> = (Vec<Held>, Option<(&'a dyn Scenario, Box<Failure>)>);

/// Runs seed after seed. `progress` is called after each, in order, and says whether to go on; it is
/// called on the caller's thread.
///
/// # Errors
/// The first seed that does not hold.
pub fn sweep(
    options: &SweepOptions<'_>,
    mut progress: impl FnMut(&Progress) -> Next,
) -> Result<Progress, Box<FailedSeed>> {
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let mut done = Progress::default();
    thread::scope(|scope| {
        let (sender, results) = mpsc::channel();
        for _ in 0..options.threads.max(1) {
            let (sender, next, stop) = (sender.clone(), &next, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some(plan) = plan_of(options, place) else { return };
                    let outcome = run_seed(options, &plan);
                    if outcome.1.is_some() {
                        stop.store(true, Ordering::Relaxed);
                    }
                    if sender.send((place, plan, outcome)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let (mut place_next, mut enough) = (0, false);
        let mut early: BTreeMap<u64, (Plan, Outcome<'_>)> = BTreeMap::new();
        for (place, plan, outcome) in results {
            early.insert(place, (plan, outcome));
            while let Some((plan, (held, failed))) = early.remove(&place_next) {
                if let Some((world, failure)) = failed {
                    stop.store(true, Ordering::Relaxed);
                    let world = world.name().to_owned();
                    return Err(Box::new(FailedSeed { world, plan, failure, before: done }));
                }
                place_next += 1;
                if enough {
                    continue;
                }
                held.iter().for_each(|held| done.ran(held));
                done.seeds += 1;
                if progress(&done) == Next::Stop {
                    enough = true;
                    stop.store(true, Ordering::Relaxed);
                }
            }
        }
        Ok(done)
    })
}

/// The run in this place of the sweep, if it has that many.
fn plan_of(options: &SweepOptions<'_>, place: u64) -> Option<Plan> {
    if options.seeds_max <= place {
        return None;
    }
    // Text costs more than all else, so a run is told in full only when it has failed.
    let seed = options.plan.seed.after(place)?;
    Some(Plan { seed, lines_max: 0, ..options.plan.clone() })
}

fn run_seed<'a>(options: &SweepOptions<'a>, plan: &Plan) -> Outcome<'a> {
    let mut all = Vec::new();
    for world in options.worlds.iter().copied() {
        match world.run(plan) {
            Ok(held) => all.push(held),
            Err(failure) => return (all, Some((world, failure))),
        }
    }
    (all, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Seed;

    /// Holds or fails by the seed alone, and takes longer the lower the seed.
    struct Scripted {
        fails: Vec<u64>,
    }

    impl Scenario for Scripted {
        fn name(&self) -> &'static str {
            "scripted"
        }

        fn about(&self) -> &'static str {
            "nothing"
        }

        fn run(&self, plan: &Plan) -> Result<Held, Box<Failure>> {
            let Seed::Number(number) = plan.seed else { panic!("numbers only") };
            let spun = (0..200_000 / (number + 1)).fold(number, |sum, next| mix(sum ^ next));
            assert_ne!(spun, 1, "the work is not left out");
            if self.fails.contains(&number) {
                return Err(Box::new(Failure {
                    reason: format!("{number}"),
                    ..Failure::default()
                }));
            }
            let report = crate::Report {
                trace_hash: mix(number),
                events: 1,
                simulated_us: 1,
                ..crate::Report::default()
            };
            Ok(Held { report, requests: 2, coverage: Coverage::default() })
        }
    }

    fn swept(fails: &[u64], threads: usize, stop_at: u64) -> Result<Progress, Box<FailedSeed>> {
        let scripted = Scripted { fails: fails.to_vec() };
        let options = SweepOptions {
            seeds_max: 40,
            worlds: vec![&scripted],
            threads,
            ..SweepOptions::default()
        };
        sweep(&options, |progress| match progress.seeds < stop_at {
            true => Next::Seed,
            false => Next::Stop,
        })
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let one = swept(&[], 1, 100).expect("all hold");
        assert_eq!((one.seeds, one.events, one.requests), (40, 40, 80));
        for threads in [2, 5, 64] {
            assert_eq!(swept(&[], threads, 100).expect("all hold"), one);
        }
    }

    #[test]
    fn the_first_seed_that_fails_is_told_with_what_came_before_it() {
        let one = swept(&[7, 9, 30], 1, 100).expect_err("a seed fails");
        assert_eq!((&one.plan.seed, one.before.seeds), (&Seed::Number(7), 7));
        for threads in [2, 3, 8] {
            let many = swept(&[7, 9, 30], threads, 100).expect_err("a seed fails");
            assert_eq!((&many.plan, &many.before), (&one.plan, &one.before));
        }
    }

    #[test]
    fn whoever_has_enough_gets_what_was_finished() {
        for threads in [1, 4] {
            assert_eq!(swept(&[], threads, 3).expect("all hold").seeds, 3);
        }
    }
}
