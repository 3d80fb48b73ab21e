//! Events for one watcher, cut into responses.
//!
//! Responsible for where a response may end. Bytes are not copied: a response is a list of slices of
//! what all watchers share.
//!
//! Invariants:
//! 1. The events of one revision go in one response, unless the watcher has asked for fragments.
//! 2. A fragment that is not the last says so; only the last is none.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::events::Events;

/// Events for one watcher.
#[derive(Debug)]
pub struct Delivery {
    watcher: i64,
    through: i64,
    fragments: bool,
    events: Arc<Events>,
    /// The place from which on events come with what they replaced.
    full_from: usize,
    /// Places of events, in order, none of them empty.
    places: std::collections::VecDeque<Range<usize>>,
}

/// What one response holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WatchResponse {
    /// The events, one behind the other, each as the field `events` of etcd's `WatchResponse`.
    pub slices: Vec<Bytes>,
    /// Their bytes.
    pub bytes: usize,
    /// Their number.
    pub events: usize,
    /// Up to which revision the watcher has seen everything after this response.
    pub revision: i64,
    /// Whether the rest of the same revisions follows in further responses.
    pub fragment: bool,
}

impl Delivery {
    pub(super) fn new(
        watcher: i64,
        events: Arc<Events>,
        through: i64,
        fragments: bool,
        full_from: usize,
        places: Vec<Range<usize>>,
    ) -> Delivery {
        Delivery { watcher, through, fragments, events, full_from, places: places.into() }
    }

    /// The watcher that they are for.
    #[must_use]
    pub fn watcher(&self) -> i64 {
        self.watcher
    }

    /// The events of the next response, which ends once it has so many bytes or more, between two
    /// revisions; `None` behind the last. For a watcher that has asked for fragments `fragment_bytes`
    /// is a limit: above it there are several, of at least one event each.
    pub fn next_response(
        &mut self,
        bytes_enough: usize,
        fragment_bytes: usize,
    ) -> Option<WatchResponse> {
        let mut response = WatchResponse::default();
        let mut revision = 0;
        while let Some(places) = self.places.front().cloned() {
            let mut end = places.start;
            let mut full = false;
            while end < places.end {
                let length = self.length(end);
                let cut = if self.fragments {
                    0 < response.events && fragment_bytes < response.bytes + length
                } else {
                    // Invariant 1.
                    bytes_enough <= response.bytes && revision != self.events.revision(end)
                };
                if cut {
                    full = true;
                    break;
                }
                revision = self.events.revision(end);
                response.bytes += length;
                response.events += 1;
                end += 1;
            }
            self.take(&mut response, places.start..end);
            if full {
                break;
            }
        }
        if response.events == 0 {
            return None;
        }
        response.fragment = self.fragments && !self.places.is_empty();
        response.revision = if self.places.is_empty() { self.through } else { revision };
        Some(response)
    }

    fn length(&self, at: usize) -> usize {
        if at < self.full_from {
            self.events.byte_length(at)
        } else {
            self.events.full_byte_length(at)
        }
    }

    /// Moves places from the front into a response.
    fn take(&mut self, response: &mut WatchResponse, places: Range<usize>) {
        let front = self.places.front_mut().expect("delivery: places are taken from the front");
        front.start = places.end;
        if front.start == front.end {
            self.places.pop_front();
        }
        let middle = self.full_from.clamp(places.start, places.end);
        if places.start < middle {
            response.slices.push(self.events.bytes(places.start..middle));
        }
        if middle < places.end {
            response.slices.push(self.events.full_bytes(middle..places.end));
        }
    }
}
