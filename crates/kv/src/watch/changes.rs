//! Tells when something in a range changes, to one who looks at the store by itself.

use std::task::Waker;

use bytes::Bytes;

use super::group::Watched;
use super::watching::Watcher;
use crate::shared::Shared;

/// A range that is waited on.
pub struct Changes {
    place: Watcher,
    watched: Watched,
}

impl Changes {
    /// Waits on the keys from `start` up to one before `end`.
    #[must_use]
    pub fn new(shared: &Shared, start: &Bytes, end: &Bytes) -> Changes {
        let watched = Watched::Span(start.clone(), Some(end.clone()));
        let place = Watcher::new(shared.clone());
        place.watch(&watched);
        Changes { place, watched }
    }

    /// Has the waker woken, once, when a batch has changed something in the range. Look at the store
    /// after it: what it held already is not told.
    pub fn arm(&self, waker: &Waker) {
        self.place.sleep_anyhow(waker);
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.place.unwatch([&self.watched]);
    }
}
