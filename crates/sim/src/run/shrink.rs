//! Makes a failing run smaller: a plan that violates the same invariant with less in it.
//!
//! Greedy and in rounds: each step proposes a smaller plan, and it is taken when it still fails in
//! the same way. What is tried, from what saves most to what saves least: rates given instead of
//! drawn (the same run), the time behind the failure, fewer members, fewer clients, no faults at
//! all, no faults of one kind, no occurrences of some numbers, bytes of the seed gone or zero. A
//! round that has found nothing is the last.
//!
//! 1. Whatever is handed back has failed with the same invariant.
//! 2. Nothing in it is larger than in the plan that was given.

use crate::faults::{FAULTS, Fault};
use crate::run::Failure;
use crate::run::plan::{FaultPlan, Plan};
use crate::run::scenario::Scenario;
use crate::run::seed::Seed;
use crate::run::sweep::Next;

/// How many single occurrences of one fault are looked at. Of a fault that strikes more often, such
/// as one of messages, occurrences behind these are left out together or not at all.
const OCCURRENCES_MAX: u64 = 256;

/// The shortest run that is tried, in simulated microseconds.
const DURATION_MIN_US: u64 = 100_000;

/// How far a shrinker has come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attempts {
    /// How many runs were tried.
    pub runs: u32,
    /// How many of them failed in the same way and were smaller.
    pub smaller: u32,
    /// The smallest failing plan so far.
    pub plan: Plan,
}

/// The smallest failing run that was found.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The run.
    pub plan: Plan,
    /// How it fails.
    pub failure: Box<Failure>,
    /// How many runs were tried.
    pub runs: u32,
}

struct Shrinker<'a> {
    world: &'a dyn Scenario,
    runs_max: u32,
    attempts: Attempts,
    failure: Box<Failure>,
    progress: &'a mut dyn FnMut(&Attempts) -> Next,
    has_enough: bool,
}

/// Makes a failing run smaller in at most so many runs. `progress` is called after each and says
/// whether to go on.
pub fn shrink(
    world: &dyn Scenario,
    plan: &Plan,
    failure: &Failure,
    runs_max: u32,
    mut progress: impl FnMut(&Attempts) -> Next,
) -> Shrunk {
    let attempts = Attempts { runs: 0, smaller: 0, plan: plan.clone() };
    let failure = Box::new(failure.clone());
    let progress = &mut progress;
    let mut shrinker =
        Shrinker { world, runs_max, attempts, failure, progress, has_enough: runs_max == 0 };
    shrinker.give_rates();
    while !shrinker.has_enough && shrinker.round() {}
    let Shrinker { attempts: Attempts { plan, runs, .. }, failure, .. } = shrinker;
    Shrunk { plan, failure, runs }
}

impl Shrinker<'_> {
    fn plan(&self) -> &Plan {
        &self.attempts.plan
    }

    /// Runs a plan, and takes it if it fails in the same way.
    fn takes(&mut self, plan: Plan) -> bool {
        if self.has_enough || plan == *self.plan() {
            return false;
        }
        self.attempts.runs += 1;
        let failure = self.world.run(&plan).err();
        let same = failure.filter(|failure| failure.invariant == self.failure.invariant);
        let taken = same.is_some();
        if let Some(failure) = same {
            self.attempts.smaller += 1;
            self.attempts.plan = plan;
            self.failure = failure;
        }
        let wants_more = (self.progress)(&self.attempts) == Next::Seed;
        self.has_enough = !wants_more || self.runs_max <= self.attempts.runs;
        taken
    }

    /// Gives the rates that the seed has drawn, so that each can be turned off.
    fn give_rates(&mut self) {
        let faults = FaultPlan::of_rates(&self.plan().rates());
        self.takes(Plan { faults, ..self.plan().clone() });
    }

    /// Tries everything once; whether something has become smaller.
    fn round(&mut self) -> bool {
        let before = self.attempts.smaller;
        self.shorten();
        self.reduce_members();
        self.reduce_clients();
        self.drop_faults();
        self.leave_out_occurrences();
        self.shrink_bytes();
        self.shorten();
        before < self.attempts.smaller
    }

    /// Cuts the time: to when it failed, which is the same run, then to less.
    fn shorten(&mut self) {
        if self.failure.simulated_us < self.plan().duration_us {
            let duration_us = self.failure.simulated_us.max(DURATION_MIN_US);
            self.takes(Plan { duration_us, ..self.plan().clone() });
        }
        let mut step_us = self.plan().duration_us / 2;
        while DURATION_MIN_US / 2 <= step_us && !self.has_enough {
            let duration_us = self.plan().duration_us.saturating_sub(step_us);
            let plan = Plan { duration_us, ..self.plan().clone() };
            if duration_us < DURATION_MIN_US || !self.takes(plan) {
                step_us /= 2;
            }
        }
    }

    fn reduce_members(&mut self) {
        for members in 1..self.plan().members {
            if self.takes(Plan { members, ..self.plan().clone() }) {
                return;
            }
        }
    }

    fn reduce_clients(&mut self) {
        for clients in [1, 2, 3] {
            let fewer = self.plan().clients.is_none_or(|present| clients < present);
            if fewer && self.takes(Plan { clients: Some(clients), ..self.plan().clone() }) {
                return;
            }
        }
    }

    /// Turns faults off: all, halves, then each by itself.
    fn drop_faults(&mut self) {
        let mut size = self.plan().faults.given.len();
        while 0 < size && !self.has_enough {
            let mut place = 0;
            while place < self.plan().faults.given.len() {
                let mut plan = self.plan().clone();
                let end = (place + size).min(plan.faults.given.len());
                plan.faults.given.drain(place..end);
                let on: Vec<Fault> = plan.faults.given.iter().map(|(fault, _)| *fault).collect();
                plan.suppressed.retain(|(fault, _)| on.contains(fault));
                if !self.takes(plan) {
                    place += size;
                }
            }
            size /= 2;
        }
    }

    /// Leaves out occurrences: all of a fault that were seen, halves, then each by itself.
    fn leave_out_occurrences(&mut self) {
        for fault in FAULTS {
            let struck = self.failure.struck.of(fault).min(OCCURRENCES_MAX);
            let left = |number: &u64| !self.plan().suppressed.contains(&(fault, *number));
            let mut numbers: Vec<u64> = (1..=struck).filter(left).collect();
            let mut size = numbers.len();
            while 0 < size && !self.has_enough {
                let mut place = 0;
                while place < numbers.len() {
                    let end = (place + size).min(numbers.len());
                    let mut plan = self.plan().clone();
                    plan.suppressed.extend(numbers[place..end].iter().map(|n| (fault, *n)));
                    if self.takes(plan) {
                        numbers.drain(place..end);
                    } else {
                        place += size;
                    }
                }
                size /= 2;
            }
        }
    }

    /// Removes bytes of a seed that is a byte string, from the end first, then makes them zero.
    fn shrink_bytes(&mut self) {
        for change in [remove as fn(&mut Vec<u8>, usize, usize), clear] {
            let Seed::Bytes(bytes) = &self.plan().seed else { return };
            let mut size = bytes.len().div_ceil(2);
            while 0 < size && !self.has_enough {
                let Seed::Bytes(bytes) = &self.plan().seed else { return };
                let mut end = bytes.len();
                while 0 < end && !self.has_enough {
                    let begin = end.saturating_sub(size);
                    let Seed::Bytes(bytes) = &self.plan().seed else { return };
                    let mut changed = bytes.clone();
                    change(&mut changed, begin, end);
                    self.takes(Plan { seed: Seed::Bytes(changed), ..self.plan().clone() });
                    end = begin;
                }
                size /= 2;
            }
        }
    }
}

fn remove(bytes: &mut Vec<u8>, begin: usize, end: usize) {
    bytes.drain(begin..end);
}

#[expect(clippy::ptr_arg, reason = "of one type with `remove`")]
fn clear(bytes: &mut Vec<u8>, begin: usize, end: usize) {
    bytes[begin..end].fill(0);
}

#[cfg(test)]
#[path = "shrink_tests.rs"]
mod tests;
