//! Ticks by the member's clock, for streams that are polled and have no task of their own.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::backend::{Backend, Pause};

/// Ticks at an interval. The next is counted from when the last was seen: nobody catches up.
pub(super) struct Ticks {
    period: Duration,
    next: Pause,
}

impl Ticks {
    /// The first comes after one period.
    pub(super) fn new(backend: &impl Backend, period: Duration) -> Ticks {
        Ticks { period, next: backend.pause(period) }
    }

    /// Ready once for each tick.
    pub(super) fn poll_tick(
        &mut self,
        backend: &impl Backend,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        ready!(self.next.as_mut().poll(context));
        self.next = backend.pause(self.period);
        Poll::Ready(())
    }
}
