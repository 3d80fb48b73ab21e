//! Draws whether a fault happens, and can leave single ones out.
//!
//! Responsible for the yes or no of every fault; what a fault does, and how often it had an effect,
//! is not its business. A shrinker makes a failing run smaller by leaving faults out, so what is left
//! must not change by it more than it has to:
//!
//! 1. Each fault has a sequence of decisions of its own. A fault that is turned off, and one more
//!    message of another kind, change nothing about when this one happens.
//! 2. A fault that is left out is drawn all the same, so those after it keep their numbers.
//! 3. While the seed has bytes left, decisions come from them: they belong to whoever wrote them.

use std::collections::BTreeSet;

use crate::choices::{Choices, MILLION, mix};
use crate::faults::{FAULTS, Fault, FaultCounts, FaultRates};

/// Occurrences that are left out of a run: the fault, and its number, from 1.
pub type Suppressed = BTreeSet<(Fault, u64)>;

/// Draws faults.
#[derive(Clone, Debug)]
pub struct Dice {
    rates: FaultRates,
    own: [Choices; FAULTS.len()],
    struck: FaultCounts,
    suppressed: Suppressed,
}

impl Dice {
    /// Dice for one run. The sequences start from where `choices` stands.
    #[must_use]
    pub fn new(rates: FaultRates, suppressed: Suppressed, choices: &Choices) -> Dice {
        Dice {
            rates,
            own: FAULTS.map(|fault| choices.apart(label(fault))),
            struck: FaultCounts::default(),
            suppressed,
        }
    }

    /// Whether a fault happens.
    pub fn strikes(&mut self, fault: Fault, choices: &mut Choices) -> bool {
        self.strikes_times(fault, 1, choices)
    }

    /// Whether a fault happens where it is so many times as likely as its rate.
    pub fn strikes_times(&mut self, fault: Fault, times: u32, choices: &mut Choices) -> bool {
        let parts = self.rates.of(fault).saturating_mul(times).min(MILLION);
        let own = &mut self.own[fault as usize];
        let from = if choices.has_bytes() { choices } else { own };
        if !from.chance(parts) {
            return false;
        }
        self.struck.count(fault);
        !self.suppressed.contains(&(fault, self.struck.of(fault)))
    }

    /// How many occurrences were drawn so far, left out or not.
    #[must_use]
    pub fn struck(&self) -> &FaultCounts {
        &self.struck
    }

    /// Nothing goes wrong from here on.
    pub fn rest(&mut self) {
        self.rates = FaultRates::none();
    }
}

/// Names a fault's sequence by the fault's name, so that a new fault moves no other's.
fn label(fault: Fault) -> u64 {
    fault.name().bytes().fold(0, |label, byte| mix(label ^ u64::from(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The periods, of a hundred, in which a fault strikes.
    fn periods(rates: &FaultRates, suppressed: Suppressed, fault: Fault) -> Vec<u32> {
        let mut choices = Choices::of_seed(5);
        let mut dice = Dice::new(rates.clone(), suppressed, &choices);
        let mut struck = Vec::new();
        for period in 0..100 {
            for other in FAULTS {
                if dice.strikes(other, &mut choices) && other == fault {
                    struck.push(period);
                }
            }
        }
        struck
    }

    #[test]
    fn a_fault_left_out_leaves_the_others_where_they_were() {
        let rates =
            FaultRates::none().with(Fault::PowerLost, 100_000).with(Fault::MessageLost, 500_000);
        let all = periods(&rates, Suppressed::new(), Fault::PowerLost);
        assert!(2 < all.len(), "{all:?}");
        let without_loss = rates.clone().with(Fault::MessageLost, 0);
        assert_eq!(periods(&without_loss, Suppressed::new(), Fault::PowerLost), all);
        let second = Suppressed::from([(Fault::PowerLost, 2)]);
        let mut expect = all;
        expect.remove(1);
        assert_eq!(periods(&rates, second, Fault::PowerLost), expect);
    }

    #[test]
    fn bytes_decide_first() {
        let mut choices = Choices::of_bytes(&[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
        let rates = FaultRates::none().with(Fault::Paused, 1);
        let mut dice = Dice::new(rates, Suppressed::new(), &choices);
        assert!(dice.strikes(Fault::Paused, &mut choices));
        assert!(!dice.strikes(Fault::Paused, &mut choices));
        assert_eq!(dice.struck().of(Fault::Paused), 1);
    }
}
