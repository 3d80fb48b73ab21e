//! The round trip of a cache line between two cores.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Round trips in one sample: some microseconds, much shorter than the time that a thread is given.
const ROUND_TRIPS: u32 = 50;
/// Samples of which the median is taken: enough that those in which a thread lost its core fall out.
const SAMPLES: usize = 201;
/// When it ends at the latest: a machine that is busy takes the cores away.
const TIME_MAX: Duration = Duration::from_millis(50);
/// How often a thread looks before it lets others have the core: much longer than a round trip.
const LOOKS_MAX: u32 = 500;
/// The number that ends it.
const END: u64 = u64::MAX;

/// How long a cache line takes from one thread to another and back; `None` on a machine with one core.
#[must_use]
pub fn round_trip() -> Option<Duration> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if cores < 2 {
        return None;
    }
    let turn = AtomicU64::new(0);
    let mut samples = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 1;
            while wait_for(&turn, number) != END {
                // Who asks does not write before it is answered.
                turn.store(number + 1, Ordering::Release);
                number += 2;
            }
        });
        let samples = samples(&turn);
        turn.store(END, Ordering::Release);
        samples
    });
    samples.sort_unstable();
    samples.get(samples.len() / 2).map(|sample| *sample / ROUND_TRIPS)
}

/// The asking side.
fn samples(turn: &AtomicU64) -> Vec<Duration> {
    let mut samples = Vec::with_capacity(SAMPLES);
    let mut number = 0;
    let begin = Instant::now();
    while samples.len() < SAMPLES {
        let sample = Instant::now();
        for _ in 0..ROUND_TRIPS {
            turn.store(number + 1, Ordering::Release);
            number += 2;
            wait_for(turn, number);
        }
        samples.push(sample.elapsed());
        if TIME_MAX < begin.elapsed() {
            return samples;
        }
    }
    samples
}

/// Looks until it is this number's turn, or the end.
fn wait_for(turn: &AtomicU64, number: u64) -> u64 {
    let mut looks = 0;
    loop {
        let seen = turn.load(Ordering::Acquire);
        if seen == number || seen == END {
            return seen;
        }
        looks += 1;
        if looks % LOOKS_MAX == 0 {
            std::thread::yield_now();
        }
        std::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn takes_some_time_and_ends() {
        if let Some(round_trip) = super::round_trip() {
            assert!(!round_trip.is_zero());
        }
    }
}
