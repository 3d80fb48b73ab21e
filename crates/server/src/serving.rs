//! Whether this member serves, and who is told when it does no longer.
//!
//! Responsible for the end of what stays open: streams, and calls that wait for their turn. A request
//! that is answered by itself is not interrupted.
//!
//! Invariants:
//! 1. Whoever waits when serving ends is woken and told why; whoever comes later is told at once.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use crate::errors::ApiError;

/// The server is told to stop.
const STOPPED: u8 = 1;
/// The member is quarantined: what it would tell may be wrong.
const SET_ASIDE: u8 = 2;

/// Whether a member serves. A clone is another handle of the same.
#[derive(Clone, Debug, Default)]
pub struct Serving {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    state: AtomicU8,
    changed: Arc<Notify>,
}

/// Waits for the end of serving.
pub(crate) struct Ended {
    serving: Serving,
    changed: Pin<Box<OwnedNotified>>,
}

impl Serving {
    /// The server stops: streams end so that their clients go elsewhere.
    pub fn stop(&self) {
        self.inner.state.fetch_or(STOPPED, Ordering::SeqCst);
        self.inner.changed.notify_waiters();
    }

    /// The member is quarantined, or no longer. While it is, it tells nobody anything.
    pub fn set_aside(&self, aside: bool) {
        let before = if aside {
            self.inner.state.fetch_or(SET_ASIDE, Ordering::SeqCst)
        } else {
            self.inner.state.fetch_and(!SET_ASIDE, Ordering::SeqCst)
        };
        if aside && before & SET_ASIDE == 0 {
            self.inner.changed.notify_waiters();
        }
    }

    /// Why nobody is served, if so. The codes are such that clients look for another member.
    fn reason(&self) -> Option<ApiError> {
        match self.inner.state.load(Ordering::SeqCst) {
            0 => None,
            state if state & STOPPED != 0 => Some(ApiError::Stopped),
            _ => Some(ApiError::Unhealthy),
        }
    }

    /// For one who is to be told.
    pub(crate) fn watch(&self) -> Ended {
        let changed = Box::pin(Arc::clone(&self.inner.changed).notified_owned());
        Ended { serving: self.clone(), changed }
    }
}

impl Ended {
    /// Ready when serving has ended, with the reason.
    pub(crate) fn poll(&mut self, task: &mut Context<'_>) -> Poll<ApiError> {
        loop {
            let waits = self.changed.as_mut().poll(task).is_pending();
            // After the wait has begun, so that no end falls in between (invariant 1).
            if let Some(reason) = self.serving.reason() {
                return Poll::Ready(reason);
            }
            if waits {
                return Poll::Pending;
            }
            *self = self.serving.watch();
        }
    }
}
