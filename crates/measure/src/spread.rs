//! A median, and how far the runs lie apart.

use serde::Serialize;

/// What several runs gave.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Spread {
    /// Half of the runs gave at most this; between two, their mean.
    pub median: f64,
    /// The smallest.
    pub least: f64,
    /// The largest.
    pub most: f64,
    /// Each run, in order.
    pub runs: Vec<f64>,
}

impl Spread {
    /// Of these runs; `None` without any.
    #[must_use]
    pub fn of(runs: Vec<f64>) -> Option<Spread> {
        let mut sorted = runs.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let (least, most) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            0 => (sorted[middle - 1] + sorted[middle]) / 2.0,
            _ => sorted[middle],
        };
        Some(Spread { median, least, most, runs })
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.least == self.most {
            return write!(f, "{}", short(self.median));
        }
        write!(f, "{} ({}..{})", short(self.median), short(self.least), short(self.most))
    }
}

/// A number in at most three digits that matter.
#[must_use]
pub fn short(number: f64) -> String {
    let size = number.abs();
    match size {
        _ if 999_500_000.0 <= size => digits(number / 1e9, " G"),
        _ if 999_500.0 <= size => digits(number / 1e6, " M"),
        _ if 9_995.0 <= size => digits(number / 1e3, " k"),
        _ => digits(number, ""),
    }
}

fn digits(number: f64, unit: &str) -> String {
    let size = number.abs();
    match size {
        _ if 99.95 <= size || size == 0.0 => format!("{number:.0}{unit}"),
        _ if 9.995 <= size => format!("{number:.1}{unit}"),
        _ => format!("{number:.2}{unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one_and_runs_keep_their_order() {
        let spread = Spread::of(vec![3.0, 1.0, 2.0]).expect("there are runs");
        assert_eq!((spread.median, spread.least, spread.most), (2.0, 1.0, 3.0));
        assert_eq!(spread.runs, [3.0, 1.0, 2.0]);
        assert_eq!(Spread::of(vec![1.0, 4.0]).map(|spread| spread.median), Some(2.5));
        assert_eq!(Spread::of(Vec::new()), None);
    }

    #[test]
    fn numbers_keep_three_digits() {
        let texts = [0.0, 0.123, 12.34, 123.4, 1234.0, 12_340.0, 1_234_000.0].map(short);
        assert_eq!(texts, ["0", "0.12", "12.3", "123", "1234", "12.3 k", "1.23 M"]);
    }
}
