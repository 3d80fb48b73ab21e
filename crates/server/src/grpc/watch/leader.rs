//! Ends a stream whose client wants a leader, when the member has none.

use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval_at};

use crate::backend::Backend;

/// For how many election timeouts in a row a member has no leader before the stream is ended; etcd's
/// figure. An ordinary election is over within one.
const TIMEOUTS_MAX: u32 = 3;

/// Looks for the leader, once in an election timeout.
pub(super) struct LeaderWatch {
    interval: Interval,
    missed: u32,
}

impl LeaderWatch {
    pub(super) fn new(election_timeout: Duration) -> LeaderWatch {
        let start = tokio::time::Instant::now() + election_timeout;
        let mut interval = interval_at(start, election_timeout);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        LeaderWatch { interval, missed: 0 }
    }

    /// Ready when there has been no leader for too long.
    pub(super) fn poll_lost(
        &mut self,
        backend: &impl Backend,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        while self.interval.poll_tick(context).is_ready() {
            let missing = backend.status().leader.is_none();
            self.missed = if missing { self.missed + 1 } else { 0 };
            if TIMEOUTS_MAX <= self.missed {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }
}
