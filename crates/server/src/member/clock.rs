//! The cluster's time between two entries of the log.
//!
//! The leader stamps entries with the time; between them a member goes on by its own clock. So members
//! agree about the time without any two clocks being compared, but for what they drift apart until the
//! next entry.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The time of the last entry that was seen, and when that was by the member's own clock.
#[derive(Debug, Default)]
pub(super) struct ClusterClock {
    anchor: Mutex<(u64, Duration)>,
}

impl ClusterClock {
    /// The cluster's time, in milliseconds since the Unix epoch, where the last entry applied is of
    /// `entry_ms` and the member's own clock says `now`. To be asked now and then: an entry counts from
    /// when it is first seen here.
    pub(super) fn time_ms(&self, entry_ms: u64, now: Duration) -> u64 {
        let mut anchor = self.anchor.lock().unwrap_or_else(PoisonError::into_inner);
        if anchor.0 < entry_ms {
            *anchor = (entry_ms, now);
        }
        let since = now.saturating_sub(anchor.1).as_millis();
        anchor.0.saturating_add(u64::try_from(since).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_between_entries_and_is_set_by_each() {
        let clock = ClusterClock::default();
        let at = |entry_ms, ms| clock.time_ms(entry_ms, Duration::from_millis(ms));
        assert_eq!(at(1_000_000, 10), 1_000_000);
        assert_eq!(at(1_000_000, 60), 1_000_050);
        assert_eq!(at(1_000_020, 70), 1_000_020, "the leader's clock is the one that counts");
        assert_eq!(at(1_000_020, 100), 1_000_050);
    }
}
