//! What was measured, as a table and as JSON.

use comfy_table::presets::ASCII_BORDERS_ONLY_CONDENSED;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use crate::spread::{Spread, short};

/// What a suite has measured.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Report {
    /// The suite.
    pub bench: String,
    /// How many rounds.
    pub runs: u32,
    /// How long a run took, about.
    pub seconds: f64,
    /// How many cores the machine offers.
    pub cores: usize,
    /// A cache line from one core to another and back, in nanoseconds, as of each round; `None` with
    /// one core.
    pub cache_line_round_trip_ns: Option<Spread>,
    /// What was measured, scenario by scenario.
    pub measured: Vec<Measured>,
}

/// One subject in one scenario.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Measured {
    /// The scenario.
    pub scenario: String,
    /// The subject.
    pub subject: String,
    /// Its figures.
    pub figures: Vec<MeasuredFigure>,
}

/// One figure of one subject.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct MeasuredFigure {
    /// What.
    pub name: String,
    /// In what.
    pub unit: String,
    /// Its runs.
    pub spread: Spread,
    /// Round by round, how many times the figure of the scenario's first subject it is.
    pub ratio: Option<Spread>,
}

impl Report {
    /// The report as JSON.
    ///
    /// # Panics
    /// Never: names and numbers are all that it holds.
    #[must_use]
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("names and numbers")
    }

    /// The names of all figures with their units, in the order in which they were first seen.
    fn columns(&self) -> Vec<(&str, &str)> {
        let mut columns = Vec::new();
        for figure in self.measured.iter().flat_map(|measured| &measured.figures) {
            let column = (figure.name.as_str(), figure.unit.as_str());
            if !columns.contains(&column) {
                columns.push(column);
            }
        }
        columns
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.columns();
        let mut table = Table::new();
        table.load_style(ASCII_BORDERS_ONLY_CONDENSED);
        let titles = columns.iter().map(|(name, unit)| format!("{name} {unit}"));
        let head = ["scenario".to_owned(), "subject".to_owned()];
        table.set_header(head.into_iter().chain(titles).chain(["ratio".to_owned()]));
        let mut scenario = "";
        for measured in &self.measured {
            let news = scenario != measured.scenario;
            scenario = &measured.scenario;
            let cells = columns.iter().map(|(name, _)| {
                let figure = measured.figures.iter().find(|figure| figure.name == *name);
                figure.map_or(String::new(), |figure| figure.spread.to_string())
            });
            let first = measured.figures.first();
            let ratio = first.and_then(|figure| figure.ratio.as_ref());
            let ratio = ratio.map_or(String::new(), |ratio| short(ratio.median));
            let head = [if news { scenario } else { "" }.to_owned(), measured.subject.clone()];
            table.add_row(head.into_iter().chain(cells).chain([ratio]));
        }
        for column in table.column_iter_mut().skip(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        writeln!(f, "{table}")?;
        writeln!(
            f,
            "Medians of {} alternating runs of {} s, with the least and the most; the ratio is that of \
             the first\nfigure to the same figure of the scenario's first subject, run by run.",
            self.runs, self.seconds
        )?;
        match &self.cache_line_round_trip_ns {
            Some(spread) => write!(
                f,
                "A cache line between two of {} cores and back, in every round: {spread} ns.",
                self.cores
            ),
            None => write!(f, "One core."),
        }
    }
}
