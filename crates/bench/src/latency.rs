//! How long things took, in microseconds.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// The longest time told apart; longer ones count as this.
const LONGEST_US: u64 = 600_000_000;
/// Three digits: an error below a thousandth.
const DIGITS: u8 = 3;

/// Collects times.
#[derive(Clone, Debug)]
pub struct Recorder {
    histogram: Histogram<u64>,
}

impl Default for Recorder {
    fn default() -> Recorder {
        let histogram = Histogram::new_with_max(LONGEST_US, DIGITS)
            .expect("the bounds are ones the histogram allows");
        Recorder { histogram }
    }
}

impl Recorder {
    /// Notes one time.
    pub fn record(&mut self, time: Duration) {
        let microseconds = u64::try_from(time.as_micros()).unwrap_or(LONGEST_US);
        self.histogram.saturating_record(microseconds);
    }

    /// What was collected.
    #[must_use]
    pub fn latency(&self) -> Latency {
        let at = |quantile| self.histogram.value_at_quantile(quantile);
        Latency {
            count: self.histogram.len(),
            mean_us: self.histogram.mean(),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: self.histogram.max(),
        }
    }
}

/// A distribution of times, in microseconds.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Latency {
    /// How many.
    pub count: u64,
    /// The mean.
    pub mean_us: f64,
    /// Half of them took at most this.
    pub p50_us: u64,
    /// 90 % took at most this.
    pub p90_us: u64,
    /// 99 % took at most this.
    pub p99_us: u64,
    /// 99.9 % took at most this.
    pub p999_us: u64,
    /// The longest.
    pub max_us: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_known_times() {
        let mut recorder = Recorder::default();
        for milliseconds in 1..=100 {
            recorder.record(Duration::from_millis(milliseconds));
        }
        recorder.record(Duration::from_secs(100_000));
        let latency = recorder.latency();
        let near = |value: u64, expect: u64| value.abs_diff(expect) * 500 <= expect;
        assert_eq!(latency.count, 101);
        assert!(near(latency.p50_us, 51_000), "{latency:?}");
        assert!(near(latency.p99_us, 100_000), "{latency:?}");
        assert!(near(latency.max_us, LONGEST_US), "{latency:?}");
    }
}
