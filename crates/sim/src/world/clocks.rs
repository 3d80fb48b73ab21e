//! A member's clocks: a wall clock that may be wrong, and a monotonic one that may run at another
//! pace than the world's.
//!
//! 1. The monotonic clock never goes back within a life of the process.

use jangada::Now;

/// The wall clock at time 0, in milliseconds since the Unix epoch. Any will do; this one is plausible.
const WALL_MS: u64 = 1_767_225_600_000;

/// One million: paces are given in parts of it.
const MILLION: u64 = 1_000_000;

/// What one member's clocks show at a simulated time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Clocks {
    /// When the monotonic clock was last looked at to set it, and what it showed.
    base_us: u64,
    shown_us: u64,
    /// Microseconds of the monotonic clock in a simulated second.
    pace: u64,
    wall_offset_ms: i64,
}

impl Default for Clocks {
    fn default() -> Clocks {
        Clocks { base_us: 0, shown_us: 0, pace: MILLION, wall_offset_ms: 0 }
    }
}

impl Clocks {
    /// The clocks at a simulated time.
    pub(crate) fn now(&self, now_us: u64) -> Now {
        let wall_ms = (WALL_MS + now_us / 1000).saturating_add_signed(self.wall_offset_ms);
        Now { monotonic_us: self.monotonic_us(now_us), wall_ms }
    }

    /// The simulated time at which the monotonic clock shows this; not before `now_us`.
    pub(crate) fn when(&self, monotonic_us: u64, now_us: u64) -> u64 {
        let ahead = monotonic_us.saturating_sub(self.shown_us);
        let elapsed = u128::from(ahead) * u128::from(MILLION);
        let elapsed = elapsed.div_ceil(u128::from(self.pace));
        self.base_us.saturating_add(u64::try_from(elapsed).unwrap_or(u64::MAX)).max(now_us)
    }

    /// A machine starts: its monotonic clock begins anywhere.
    pub(crate) fn start(&mut self, now_us: u64, shown_us: u64) {
        (self.base_us, self.shown_us) = (now_us, shown_us);
    }

    /// The monotonic clock runs at this pace from now on: so many microseconds in a simulated second.
    pub(crate) fn drift(&mut self, now_us: u64, pace: u64) {
        self.start(now_us, self.monotonic_us(now_us));
        self.pace = pace;
    }

    /// The wall clock is off by so much from now on.
    pub(crate) fn jump(&mut self, offset_ms: i64) {
        self.wall_offset_ms = offset_ms;
    }

    fn monotonic_us(&self, now_us: u64) -> u64 {
        let elapsed = now_us - self.base_us;
        if self.pace == MILLION {
            return self.shown_us + elapsed;
        }
        let shown = u128::from(elapsed) * u128::from(self.pace) / u128::from(MILLION);
        self.shown_us + u64::try_from(shown).expect("a run is shorter than 500,000 years")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_drifts_never_goes_back_and_its_timers_follow() {
        let mut clocks = Clocks::default();
        clocks.start(1_000, 77);
        let mut last = clocks.now(1_000).monotonic_us;
        assert_eq!(last, 77);
        for (turn, pace) in [950_000, 1_050_000, 1_000_000, 970_001].into_iter().enumerate() {
            let now_us = 10_000_003 * (turn as u64 + 1);
            clocks.drift(now_us, pace);
            let shown = clocks.now(now_us).monotonic_us;
            assert!(last <= shown, "clocks invariant 1");
            for after in [0, 1, 999_999, 3_000_000] {
                let due = clocks.when(shown + after, now_us);
                assert!(now_us <= due && shown + after <= clocks.now(due).monotonic_us);
                assert!(due <= now_us + after * 1_000_000 / pace + 1, "not later than needed");
            }
            last = clocks.now(now_us + 5).monotonic_us;
        }
        assert_eq!(clocks.when(0, 60_000_000), 60_000_000, "what is past is due");
    }
}
