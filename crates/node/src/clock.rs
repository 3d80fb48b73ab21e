//! The machine's clocks, for the runtimes. Nothing else in this crate reads a clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::member::Now;

/// A monotonic clock with its own origin, beside the wall clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(crate) fn start() -> Clock {
        Clock { origin: Instant::now() }
    }

    pub(crate) fn now(&self) -> Now {
        let monotonic = self.origin.elapsed();
        // A wall clock before 1970 stamps nothing; entries then keep the highest time seen.
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Now { monotonic_us: micros(monotonic), wall_ms: micros(wall) / 1000 }
    }

    /// The instant of a moment on this clock.
    pub(crate) fn instant(&self, monotonic_us: u64) -> Instant {
        self.origin + Duration::from_micros(monotonic_us)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).expect("the clock is within half a million years")
}
