//! Ends a stream whose client wants a leader, when the member has none.

use std::task::{Context, Poll};
use std::time::Duration;

use super::ticks::Ticks;
use crate::backend::Backend;

/// For how many election timeouts in a row a member has no leader before the stream is ended; etcd's
/// figure. An ordinary election is over within one.
const TIMEOUTS_MAX: u32 = 3;

/// Looks for the leader, once in an election timeout.
pub(super) struct LeaderWatch {
    ticks: Ticks,
    missed: u32,
}

impl LeaderWatch {
    pub(super) fn new(backend: &impl Backend, election_timeout: Duration) -> LeaderWatch {
        LeaderWatch { ticks: Ticks::new(backend, election_timeout), missed: 0 }
    }

    /// Ready when there has been no leader for too long.
    pub(super) fn poll_lost(
        &mut self,
        backend: &impl Backend,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        while self.ticks.poll_tick(backend, context).is_ready() {
            let missing = backend.status().leader.is_none();
            self.missed = if missing { self.missed + 1 } else { 0 };
            if TIMEOUTS_MAX <= self.missed {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }
}
