//! Everything that decides one run, beside the world it runs in: two runs of one plan are the same
//! run.

use std::fmt;
use std::str::FromStr;

use crate::choices::MILLION;
use crate::faults::{FAULTS, Fault, FaultRates};
use crate::run::seed::Seed;
use crate::world::WorldOptions;
use crate::world::dice::Suppressed;

/// Names the decisions about rates; far from those of single faults.
const RATES: u64 = u64::MAX;

/// Names the decisions about the members' limits.
const LIMITS: u64 = u64::MAX - 1;

/// Names the decision about how long a process waits for its disk.
const PATIENCE: u64 = u64::MAX - 2;

/// How long a process waits for its disk, in microseconds: so short that runs of seconds see it give
/// up, though beyond any slow sync; or as long as it ships to.
const PATIENCE_US: [u64; 3] = [3_000_000, 5_000_000, 60_000_000];

/// What a run may suffer.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FaultPlan {
    /// The faults of which the seed draws which happen, and how often.
    pub drawn: Vec<Fault>,
    /// The faults whose rates are given, in parts of a million.
    pub given: Vec<(Fault, u32)>,
}

/// One run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// What decides whatever is open.
    pub seed: Seed,
    /// How many members there are.
    pub members: u64,
    /// How many clients there are; `None` for as many as the world has by itself.
    pub clients: Option<u64>,
    /// How long the run goes with faults, in simulated microseconds.
    pub duration_us: u64,
    /// What may go wrong.
    pub faults: FaultPlan,
    /// What does not go wrong although it was drawn.
    pub suppressed: Suppressed,
    /// How many of the newest raw events are kept as text when the run fails; with none of them
    /// the timeline is not kept either, and the run is faster.
    pub lines_max: usize,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            seed: Seed::default(),
            members: 3,
            clients: None,
            duration_us: 10_000_000,
            faults: FaultPlan::all(),
            suppressed: Suppressed::new(),
            lines_max: 0,
        }
    }
}

impl Plan {
    /// The rates of this plan's faults. They take nothing from the run's own decisions, so that a
    /// plan which gives the same rates is the same run.
    #[must_use]
    pub fn rates(&self) -> FaultRates {
        let mut choices = self.seed.choices().apart(RATES);
        let drawn = FaultRates::swarm(&mut choices, &self.faults.drawn);
        self.faults.given.iter().fold(drawn, |rates, (fault, parts)| rates.with(*fault, *parts))
    }

    /// The members' limits. Runs last seconds, so logs are cut and state is saved after little, or
    /// nobody would ever be sent a snapshot; and every other run has limits so narrow that they are
    /// reached. Like the rates, they take nothing from the run's own decisions.
    #[must_use]
    pub fn limits(&self) -> jangada::Options {
        let mut choices = self.seed.choices().apart(LIMITS);
        let mut options = jangada::Options {
            trailing_bytes_max: *choices.pick(&[0, 4 << 10, 64 << 10, 1 << 20]),
            save_after_bytes: *choices.pick(&[16 << 10, 128 << 10]),
            transfer_log_bytes_max: *choices.pick(&[64 << 10, 1 << 30]),
            stall_abort_us: *self.seed.choices().apart(PATIENCE).pick(&PATIENCE_US),
            ..jangada::Options::default()
        };
        if choices.below(2) == 0 {
            return options;
        }
        options.limits.append_bytes_max = *choices.pick(&[512, 16 << 10]);
        options.limits.inflight_messages_max = *choices.pick(&[1, 4]);
        options.limits.inflight_bytes_max = *choices.pick(&[4 << 10, 64 << 10]);
        options.limits.uncommitted_bytes_max = *choices.pick(&[16 << 10, 256 << 10]);
        options.tail_bytes_max = *choices.pick(&[0, 16 << 10]);
        options.held_bytes_max = *choices.pick(&[4 << 10, 64 << 10]);
        options.apply_bytes_max = *choices.pick(&[1 << 10, 64 << 10]);
        options
    }

    /// What a world needs to know of it.
    #[must_use]
    pub fn world(&self) -> WorldOptions {
        WorldOptions {
            members: self.members,
            rates: self.rates(),
            suppressed: self.suppressed.clone(),
            member: self.limits(),
            programs: Vec::new(),
            lines_max: self.lines_max,
        }
    }
}

impl FaultPlan {
    /// Whatever the seed draws.
    #[must_use]
    pub fn all() -> FaultPlan {
        FaultPlan::drawn_of(FAULTS.to_vec())
    }

    /// Nothing.
    #[must_use]
    pub fn none() -> FaultPlan {
        FaultPlan::default()
    }

    /// What the seed draws of these.
    #[must_use]
    pub fn drawn_of(drawn: Vec<Fault>) -> FaultPlan {
        FaultPlan { drawn, given: Vec::new() }
    }

    /// These rates, whatever the seed.
    #[must_use]
    pub fn of_rates(rates: &FaultRates) -> FaultPlan {
        let given = FAULTS.into_iter().map(|fault| (fault, rates.of(fault)));
        FaultPlan { drawn: Vec::new(), given: given.filter(|(_, parts)| 0 < *parts).collect() }
    }
}

impl fmt::Display for FaultPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == FaultPlan::all() {
            return f.write_str("all");
        }
        if *self == FaultPlan::none() {
            return f.write_str("none");
        }
        let drawn = self.drawn.iter().map(|fault| fault.name().to_owned());
        let given = self.given.iter().map(|(fault, parts)| {
            format!("{}={}", fault.name(), f64::from(*parts) / f64::from(MILLION))
        });
        f.write_str(&drawn.chain(given).collect::<Vec<_>>().join(","))
    }
}

impl FromStr for FaultPlan {
    type Err = String;

    /// `all`, `none`, or names divided by commas, each with `=` and a rate from 0 to 1 if the seed
    /// is not to draw it.
    fn from_str(text: &str) -> Result<FaultPlan, String> {
        match text.trim() {
            "all" => return Ok(FaultPlan::all()),
            "none" => return Ok(FaultPlan::none()),
            _ => {}
        }
        let mut plan = FaultPlan::none();
        for part in text.split(',') {
            let (name, rate) = match part.split_once('=') {
                Some((name, rate)) => (name.trim(), Some(rate.trim())),
                None => (part.trim(), None),
            };
            let fault = Fault::of_name(name).ok_or_else(|| {
                format!("there is no fault {name:?}; 'jangada sim faults' lists all")
            })?;
            match rate {
                None => plan.drawn.push(fault),
                Some(rate) => plan.given.push((fault, parts_of(rate)?)),
            }
        }
        Ok(plan)
    }
}

/// A rate from 0 to 1, in parts of a million.
fn parts_of(rate: &str) -> Result<u32, String> {
    let wrong = || format!("{rate:?} is not a rate; write a number from 0 to 1, such as 0.01");
    let rate: f64 = rate.parse().map_err(|_| wrong())?;
    if !(0.0..=1.0).contains(&rate) {
        return Err(wrong());
    }
    Ok((rate * f64::from(MILLION)).round() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_as_they_are_written() {
        for text in ["all", "none", "partition", "partition,power-lost", "paused=0.000001"] {
            assert_eq!(text.parse::<FaultPlan>().expect(text).to_string(), text);
        }
        let plan: FaultPlan = "message-lost = 0.5, paused".parse().expect("spaces do no harm");
        assert_eq!(plan.to_string(), "paused,message-lost=0.5");
        for text in ["", "nonsense", "all,none", "paused=", "paused=2", "paused=x", "paused=NaN"] {
            assert!(text.parse::<FaultPlan>().is_err(), "{text}");
        }
    }

    #[test]
    fn rates_that_are_given_replace_those_that_are_drawn_and_move_nothing() {
        let drawn = Plan { seed: Seed::Number(7), ..Plan::default() };
        let rates = drawn.rates();
        assert!(FAULTS.iter().any(|fault| 0 < rates.of(*fault)));
        let given = Plan { faults: FaultPlan::of_rates(&rates), ..drawn };
        assert_eq!(given.rates(), rates);
    }
}
