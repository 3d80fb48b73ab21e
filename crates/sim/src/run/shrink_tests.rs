//! The shrinker, on worlds that fail by a rule of the plan alone.

use super::*;
use crate::run::scenario::Held;
use crate::world::dice::Dice;

/// Draws a hundred periods of two faults, and fails when enough of both happened.
struct Rule {
    power_lost: u64,
    seed_byte: Option<u8>,
}

impl Scenario for Rule {
    fn name(&self) -> &'static str {
        "rule"
    }

    fn about(&self) -> &'static str {
        "no state machine"
    }

    fn run(&self, plan: &Plan) -> Result<Held, Box<Failure>> {
        let mut choices = plan.seed.choices();
        let mut dice = Dice::new(plan.rates(), plan.suppressed.clone(), &choices);
        let mut happened = Failure::default();
        for period in 1..=plan.duration_us / 100_000 {
            for fault in [Fault::PowerLost, Fault::Paused, Fault::DiskFull] {
                if dice.strikes(fault, &mut choices) {
                    happened.faults.count(fault);
                }
            }
            happened.simulated_us = 100_000 * period;
            if self.power_lost <= happened.faults.of(Fault::PowerLost) {
                break;
            }
        }
        let byte = |byte: u8| matches!(&plan.seed, Seed::Bytes(bytes) if bytes.contains(&byte));
        let fails = self.power_lost <= happened.faults.of(Fault::PowerLost)
            && self.seed_byte.is_none_or(byte);
        happened.invariant = if fails { "power holds" } else { "nothing is quiet" }.to_owned();
        happened.struck = dice.struck().clone();
        Err(Box::new(happened))
    }
}

fn shrunk(rule: &Rule, plan: &Plan, runs_max: u32) -> Shrunk {
    let failure = rule.run(plan).expect_err("it always fails");
    assert_eq!(failure.invariant, "power holds");
    shrink(rule, plan, &failure, runs_max, |_| Next::Seed)
}

fn plan() -> Plan {
    let given = vec![
        (Fault::Paused, 300_000),
        (Fault::PowerLost, 300_000),
        (Fault::DiskFull, 300_000),
        (Fault::MessageLost, 300_000),
    ];
    let faults = FaultPlan { drawn: Vec::new(), given };
    Plan { seed: Seed::Number(4), members: 5, faults, ..Plan::default() }
}

#[test]
fn only_what_the_failure_needs_is_left() {
    let rule = Rule { power_lost: 2, seed_byte: None };
    let small = shrunk(&rule, &plan(), 10_000);
    assert_eq!(small.failure.invariant, "power holds");
    assert_eq!(small.failure.faults.of(Fault::PowerLost), 2);
    assert_eq!(small.failure.faults.total(), 2);
    let kinds: Vec<Fault> = small.plan.faults.given.iter().map(|(fault, _)| *fault).collect();
    assert_eq!((kinds, small.plan.members), (vec![Fault::PowerLost], 1));
    assert_eq!(small.plan.clients, Some(1));
    assert!(small.plan.duration_us < plan().duration_us);
    let again = rule.run(&small.plan).expect_err("it always fails");
    assert_eq!(again.invariant, "power holds");
}

#[test]
fn an_occurrence_in_the_middle_can_be_the_one_that_is_left_out() {
    // Of the first three losses of power, the failure needs the last two alone.
    struct NeedsLater;
    impl Scenario for NeedsLater {
        fn name(&self) -> &'static str {
            "later"
        }
        fn about(&self) -> &'static str {
            "no state machine"
        }
        fn run(&self, plan: &Plan) -> Result<Held, Box<Failure>> {
            let mut choices = plan.seed.choices();
            let mut dice = Dice::new(plan.rates(), plan.suppressed.clone(), &choices);
            let mut struck = Vec::new();
            for _ in 0..60 {
                if dice.strikes(Fault::PowerLost, &mut choices) {
                    struck.push(dice.struck().of(Fault::PowerLost));
                }
            }
            let fails = struck.contains(&2) && struck.contains(&3);
            let invariant = if fails { "power holds" } else { "other" }.to_owned();
            let struck = dice.struck().clone();
            Err(Box::new(Failure { invariant, struck, ..Failure::default() }))
        }
    }
    let failure = NeedsLater.run(&plan()).expect_err("it always fails");
    let small = shrink(&NeedsLater, &plan(), &failure, 10_000, |_| Next::Seed);
    let struck = small.failure.struck.of(Fault::PowerLost);
    let left: Vec<u64> = (1..=struck)
        .filter(|number| !small.plan.suppressed.contains(&(Fault::PowerLost, *number)))
        .collect();
    assert_eq!(left, [2, 3]);
}

#[test]
fn bytes_of_a_seed_go_or_become_zero() {
    let rule = Rule { power_lost: 0, seed_byte: Some(7) };
    let bytes = [3, 1, 4, 1, 5, 7, 2, 6].repeat(6);
    let small = shrunk(&rule, &Plan { seed: Seed::Bytes(bytes), ..plan() }, 10_000);
    assert_eq!(small.plan.seed, Seed::Bytes(vec![7]));
}

#[test]
fn there_are_no_more_runs_than_allowed_and_whoever_has_enough_is_heard() {
    let rule = Rule { power_lost: 2, seed_byte: None };
    for runs_max in [0, 1, 5] {
        assert!(shrunk(&rule, &plan(), runs_max).runs <= runs_max);
    }
    let failure = rule.run(&plan()).expect_err("it always fails");
    let stopped = shrink(&rule, &plan(), &failure, 10_000, |_| Next::Stop);
    assert_eq!(stopped.runs, 1);
}
