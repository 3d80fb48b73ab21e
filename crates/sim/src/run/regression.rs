//! A failing run in a small file that a person can read: `jangada sim --replay` runs it, and every
//! file in `regressions/` is run by the tests.
//!
//! One `name = value` a line; what begins with `#` is for the reader. Faults stand with their rates,
//! so that what other seeds draw can change without a regression losing its meaning.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::faults::{FAULTS, Fault};
use crate::run::plan::{FaultPlan, Plan};
use crate::world::dice::Suppressed;

/// A run that failed once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Regression {
    /// What went wrong, in a few words joined by hyphens.
    pub name: String,
    /// The name of the world.
    pub world: String,
    /// The run.
    pub plan: Plan,
    /// The invariant that did not hold.
    pub violated: String,
}

/// The names of all lines, in the order in which they are written.
const NAMES: [&str; 9] =
    ["name", "world", "violated", "seed", "members", "clients", "seconds", "faults", "left-out"];

impl fmt::Display for Regression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = &self.plan;
        let seconds = plan.duration_us as f64 / 1e6;
        writeln!(f, "# A run that failed once. 'jangada sim --replay FILE' runs it again.")?;
        writeln!(f, "name = {}", self.name)?;
        writeln!(f, "world = {}", self.world)?;
        writeln!(f, "violated = {}", self.violated)?;
        writeln!(f, "seed = {}", plan.seed)?;
        writeln!(f, "members = {}", plan.members)?;
        if let Some(clients) = plan.clients {
            writeln!(f, "clients = {clients}")?;
        }
        writeln!(f, "seconds = {seconds}")?;
        writeln!(f, "faults = {}", plan.faults)?;
        if !plan.suppressed.is_empty() {
            writeln!(f, "left-out = {}", left_out_text(&plan.suppressed))?;
        }
        Ok(())
    }
}

impl FromStr for Regression {
    type Err = String;

    fn from_str(text: &str) -> Result<Regression, String> {
        let mut values = BTreeMap::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |what: &str| format!("line {}: {what}", number + 1);
            let Some((name, value)) = line.split_once('=') else {
                return Err(wrong("write a name, '=' and a value"));
            };
            let (name, value) = (name.trim(), value.trim().to_owned());
            if !NAMES.contains(&name) {
                return Err(wrong(&format!("there is no {name:?}")));
            }
            if values.insert(name, value).is_some() {
                return Err(wrong(&format!("{name} stands here twice")));
            }
        }
        let value = |name: &str| values.get(name).map(String::as_str);
        let needed = |name: &str| value(name).ok_or_else(|| format!("{name} is missing"));
        let count = |name: &str, text: &str| match text.parse::<u64>() {
            Ok(count) if 0 < count => Ok(count),
            _ => Err(format!("{name}: {text:?} is not a number from 1")),
        };
        let plan = Plan {
            seed: needed("seed")?.parse().map_err(|error| format!("seed: {error}"))?,
            members: count("members", needed("members")?)?,
            clients: value("clients").map(|text| count("clients", text)).transpose()?,
            duration_us: microseconds(needed("seconds")?)?,
            faults: needed("faults")?.parse().map_err(|error| format!("faults: {error}"))?,
            suppressed: left_out(value("left-out").unwrap_or_default())?,
            lines_max: 0,
        };
        Ok(Regression {
            name: needed("name")?.to_owned(),
            world: needed("world")?.to_owned(),
            violated: needed("violated")?.to_owned(),
            plan,
        })
    }
}

fn microseconds(text: &str) -> Result<u64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if 0.0 < seconds && seconds <= 86_400.0 => Ok((seconds * 1e6).round() as u64),
        _ => Err(format!("seconds: {text:?} is not a number of seconds, up to a day")),
    }
}

/// Occurrences that are left out: `power-lost 1-3 5, paused 2`.
fn left_out_text(suppressed: &Suppressed) -> String {
    let of = |fault: Fault| {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for (_, number) in suppressed.range((fault, 0)..=(fault, u64::MAX)) {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == *number => *last = *number,
                _ => ranges.push((*number, *number)),
            }
        }
        let range = |(first, last): (u64, u64)| {
            if first == last { format!(" {first}") } else { format!(" {first}-{last}") }
        };
        let text: String = ranges.into_iter().map(range).collect();
        (!text.is_empty()).then(|| format!("{}{text}", fault.name()))
    };
    FAULTS.into_iter().filter_map(of).collect::<Vec<_>>().join(", ")
}

fn left_out(text: &str) -> Result<Suppressed, String> {
    let mut suppressed = Suppressed::new();
    for part in text.split(',').filter(|part| !part.trim().is_empty()) {
        let mut words = part.split_whitespace();
        let name = words.next().unwrap_or_default();
        let fault = Fault::of_name(name).ok_or_else(|| format!("there is no fault {name:?}"))?;
        for word in words {
            let (first, last) = word.split_once('-').unwrap_or((word, word));
            let number = |text: &str| text.parse::<u64>().ok();
            match (number(first), number(last)) {
                (Some(first), Some(last)) if first <= last && last < 1_000_000 => {
                    suppressed.extend((first..=last).map(|number| (fault, number)));
                }
                _ => return Err(format!("left-out: {word:?} is no range of numbers")),
            }
        }
    }
    Ok(suppressed)
}

impl Regression {
    /// A run that has just failed. Its faults are written with their rates.
    #[must_use]
    pub fn new(name: String, world: &str, plan: &Plan, violated: &str) -> Regression {
        let faults = FaultPlan::of_rates(&plan.rates());
        let plan = Plan { faults, lines_max: 0, ..plan.clone() };
        Regression { name, world: world.to_owned(), plan, violated: violated.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Seed;

    #[test]
    fn a_regression_is_read_as_it_is_written() {
        let faults = "power-lost=0.04,paused=0.000001".parse().expect("known faults");
        let numbers = [1, 2, 3, 5, 9, 10];
        let suppressed = numbers.map(|number| (Fault::PowerLost, number));
        let plan = Plan {
            seed: Seed::Bytes(vec![0, 255]),
            members: 5,
            clients: Some(2),
            duration_us: 2_113_001,
            faults,
            suppressed: Suppressed::from_iter(suppressed),
            lines_max: 0,
        };
        let name = "a-vote-was-forgotten".to_owned();
        let regression = Regression::new(name, "tally", &plan, "election safety");
        let text = regression.to_string();
        assert!(text.contains("left-out = power-lost 1-3 5 9-10\n"), "{text}");
        assert!(text.contains("seconds = 2.113001\n"), "{text}");
        let read: Regression = text.parse().expect("what was written");
        assert_eq!(read.to_string(), text);
        assert_eq!(read.plan.rates(), regression.plan.rates());
        assert_eq!(read.plan.suppressed, plan.suppressed);
        let bare = Plan { clients: None, suppressed: Suppressed::new(), ..plan };
        let bare = Regression::new("b".to_owned(), "core", &bare, "x");
        assert_eq!(bare.to_string().parse(), Ok(bare));
    }

    #[test]
    fn a_file_that_is_wrong_says_where() {
        let good = "name=a\nworld=core\nviolated=x\nseed=1\nmembers=3\nseconds=1\nfaults=none\n";
        assert!(good.parse::<Regression>().is_ok());
        for (wrong, said) in [
            ("members 3", "line 8"),
            ("colour = red", "colour"),
            ("seed = 2", "twice"),
            ("left-out = paused x", "left-out"),
            ("left-out = nonsense 1", "nonsense"),
            ("clients = 0", "clients"),
        ] {
            let error = format!("{good}{wrong}").parse::<Regression>().expect_err(wrong);
            assert!(error.contains(said), "{wrong}: {error}");
        }
        for line in good.lines() {
            let without = good.replacen(&format!("{line}\n"), "", 1);
            assert!(without.parse::<Regression>().is_err(), "{line}");
        }
    }
}
