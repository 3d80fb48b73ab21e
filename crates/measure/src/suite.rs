//! Subjects that take turns.

use std::io::IsTerminal;
use std::time::Duration;

use crate::arguments::{Arguments, Output};
use crate::cache_line;
use crate::report::{Measured, MeasuredFigure, Report};
use crate::spread::Spread;

/// Something that a run has measured.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Figure {
    /// What.
    pub name: &'static str,
    /// In what.
    pub unit: &'static str,
    /// How much.
    pub value: f64,
}

impl Figure {
    /// A figure.
    #[must_use]
    pub fn new(name: &'static str, unit: &'static str, value: f64) -> Figure {
        Figure { name, unit, value }
    }
}

/// One run: for about so long.
type Run<'a> = Box<dyn FnMut(Duration) -> Vec<Figure> + 'a>;

/// What is measured beside others.
pub struct Subject<'a> {
    name: String,
    run: Run<'a>,
}

impl<'a> Subject<'a> {
    /// A subject; `run` runs it for about so long and gives the same figures each time.
    pub fn new(
        name: impl Into<String>,
        run: impl FnMut(Duration) -> Vec<Figure> + 'a,
    ) -> Subject<'a> {
        Subject { name: name.into(), run: Box::new(run) }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Scenarios, measured one after the other.
pub struct Suite {
    arguments: Arguments,
    name: String,
    round_trips_ns: Vec<f64>,
    measured: Vec<Measured>,
}

impl Suite {
    /// A suite that has measured nothing.
    #[must_use]
    pub fn new(name: &str, arguments: &Arguments) -> Suite {
        Suite {
            arguments: arguments.clone(),
            name: name.to_owned(),
            round_trips_ns: Vec::new(),
            measured: Vec::new(),
        }
    }

    /// Whether the scenario is one that was asked for. Setting one up may be dear.
    #[must_use]
    pub fn wants(&self, scenario: &str) -> bool {
        self.arguments.only.as_ref().is_none_or(|only| scenario.contains(only))
    }

    /// Measures the subjects in alternation, unless the scenario was not asked for. The others are
    /// compared with the first one. Each round begins with another subject.
    ///
    /// # Panics
    /// If a subject gives other figures than in its first run.
    pub fn scenario(&mut self, scenario: &str, mut subjects: Vec<Subject<'_>>) {
        if !self.wants(scenario) {
            return;
        }
        let rounds = self.arguments.runs as usize;
        let count = subjects.len();
        let mut figures: Vec<Vec<Vec<Figure>>> = vec![Vec::with_capacity(rounds); count];
        for round in 0..rounds {
            if std::io::stderr().is_terminal() {
                eprint!("\r\x1b[K{}: {scenario}, run {} of {rounds}", self.name, round + 1);
            }
            let round_trip = cache_line::round_trip();
            self.round_trips_ns.extend(round_trip.map(|time| time.as_secs_f64() * 1e9));
            for turn in 0..count {
                let at = (round + turn) % count;
                figures[at].push((subjects[at].run)(self.arguments.time()));
            }
        }
        if std::io::stderr().is_terminal() {
            eprint!("\r\x1b[K");
        }
        let first = figures.first().cloned().unwrap_or_default();
        for (subject, runs) in subjects.iter().zip(&figures) {
            self.measured.push(Measured {
                scenario: scenario.to_owned(),
                subject: subject.name.clone(),
                figures: measured(runs, &first),
            });
        }
    }

    /// Everything that was measured.
    #[must_use]
    pub fn report(self) -> Report {
        Report {
            bench: self.name,
            runs: self.arguments.runs,
            seconds: self.arguments.seconds,
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            cache_line_round_trip_ns: Spread::of(self.round_trips_ns),
            measured: self.measured,
        }
    }

    /// Prints everything that was measured in the form that was asked for.
    pub fn finish(self) {
        let output = self.arguments.output;
        let report = self.report();
        match output {
            Output::Table => println!("{report}"),
            Output::Json => println!("{}", report.json()),
        }
    }
}

/// Puts the runs of one subject together; `first` has those of the subject that it is compared with.
fn measured(runs: &[Vec<Figure>], first: &[Vec<Figure>]) -> Vec<MeasuredFigure> {
    let Some(one) = runs.first() else { return Vec::new() };
    let all = one.iter().enumerate().map(|(at, figure)| {
        let values = runs.iter().map(|run| {
            assert!(run[at].name == figure.name, "a subject gives the same figures each time");
            run[at].value
        });
        let values: Vec<f64> = values.collect();
        let others = first
            .iter()
            .map(|run| run.iter().find(|other| other.name == figure.name).map(|other| other.value));
        let ratios: Option<Vec<f64>> = values
            .iter()
            .zip(others)
            .map(|(value, other)| other.filter(|other| 0.0 < *other).map(|other| value / other))
            .collect();
        MeasuredFigure {
            name: figure.name.to_owned(),
            unit: figure.unit.to_owned(),
            spread: Spread::of(values).expect("there is a run"),
            ratio: ratios.and_then(Spread::of),
        }
    });
    all.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(only: Option<&str>) -> Arguments {
        let only = only.map(str::to_owned);
        Arguments { runs: 3, seconds: 0.001, only, output: Output::Table, bench: false }
    }

    #[test]
    fn subjects_take_turns_and_are_compared_with_the_first() {
        let order = std::cell::RefCell::new(Vec::new());
        let subject = |name: &'static str, value: f64| {
            let order = &order;
            Subject::new(name, move |_| {
                order.borrow_mut().push(name);
                vec![Figure::new("rate", "/s", value)]
            })
        };
        let mut suite = Suite::new("a test", &arguments(None));
        suite.scenario("one", vec![subject("a", 2.0), subject("b", 3.0)]);
        assert_eq!(*order.borrow(), ["a", "b", "b", "a", "a", "b"]);
        let report = suite.report();
        let ratio = report.measured[1].figures[0].ratio.as_ref();
        assert_eq!(ratio.map(|ratio| ratio.median), Some(1.5));
        let table = report.to_string();
        assert!(table.contains("rate /s") && table.contains("1.50"), "{table}");
        assert!(report.json().contains("\"subject\": \"b\""));
    }

    #[test]
    fn only_what_was_asked_for_is_measured() {
        let mut suite = Suite::new("a test", &arguments(Some("two")));
        let subject = || Subject::new("a", |_| vec![Figure::new("rate", "/s", 1.0)]);
        suite.scenario("one", vec![subject()]);
        suite.scenario("two", vec![subject()]);
        assert_eq!(suite.report().measured.len(), 1);
    }
}
