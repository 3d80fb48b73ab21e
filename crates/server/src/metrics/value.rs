//! The three kinds of metric: counters, gauges and histograms.
//!
//! Responsible for being cheap to write from any thread; a write is one or two relaxed atomic
//! additions. Not responsible for names and labels (see the exposition).

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// A number that only rises.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

/// A number that rises and falls.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

/// How durations are spread over buckets whose bounds double.
#[derive(Debug)]
pub struct Histogram {
    /// The upper bound of each bucket, in nanoseconds.
    bounds: Box<[u64]>,
    /// The observations in each bucket and in none of those before; one more than there are bounds.
    counts: Box<[AtomicU64]>,
    /// All observations, in nanoseconds.
    sum: AtomicU64,
}

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `amount`.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// The number.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Gauge {
    /// Sets the number.
    pub fn set(&self, number: i64) {
        self.0.store(number, Ordering::Relaxed);
    }

    /// Adds `amount`, which may be negative.
    pub fn add(&self, amount: i64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// The number.
    #[must_use]
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Histogram {
    /// `buckets` buckets, the first up to `start`, each bound twice the one before.
    #[must_use]
    pub fn doubling(start: Duration, buckets: usize) -> Histogram {
        let start = nanoseconds(start);
        let bounds: Box<[u64]> =
            (0..buckets).map(|bucket| start.saturating_mul(1 << bucket.min(63))).collect();
        let counts = (0..=buckets).map(|_| AtomicU64::new(0)).collect();
        Histogram { bounds, counts, sum: AtomicU64::new(0) }
    }

    /// Buckets up to these bounds, which rise.
    ///
    /// # Panics
    /// If they do not rise.
    #[must_use]
    pub fn up_to(bounds: &[Duration]) -> Histogram {
        let bounds: Box<[u64]> = bounds.iter().copied().map(nanoseconds).collect();
        assert!(bounds.is_sorted_by(|a, b| a < b), "bounds of buckets rise");
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Histogram { bounds, counts, sum: AtomicU64::new(0) }
    }

    /// The buckets that etcd uses for syncs and commits: 1 ms, doubled 13 times.
    #[must_use]
    pub fn of_disk() -> Histogram {
        Histogram::doubling(Duration::from_millis(1), 14)
    }

    /// Notes one duration.
    pub fn observe(&self, duration: Duration) {
        let duration = nanoseconds(duration);
        let bucket = self.bounds.partition_point(|bound| *bound < duration);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(duration, Ordering::Relaxed);
    }

    /// The number of observations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// The sum of all observations, in seconds.
    #[must_use]
    pub fn sum_seconds(&self) -> f64 {
        seconds(self.sum.load(Ordering::Relaxed))
    }

    /// Each bucket's upper bound in seconds, with the observations up to it.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let mut total = 0;
        self.bounds.iter().zip(&self.counts).map(move |(bound, count)| {
            total += count.load(Ordering::Relaxed);
            (seconds(*bound), total)
        })
    }
}

/// Beyond five centuries it saturates.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_at_a_bound_belongs_below_it() {
        let histogram = Histogram::doubling(Duration::from_millis(1), 3);
        for millis in [1, 2, 3, 4, 5] {
            histogram.observe(Duration::from_millis(millis));
        }
        let buckets: Vec<_> = histogram.cumulative().collect();
        assert_eq!(buckets, [(0.001, 1), (0.002, 2), (0.004, 4)]);
        assert_eq!(histogram.count(), 5);
        assert_eq!(histogram.sum_seconds(), 0.015);
    }
}
