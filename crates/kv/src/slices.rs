//! Reads of many keys, a slice at a time.
//!
//! Responsible for answering a range without holding up whoever shares the thread or waits to apply:
//! the lock is held for a slice only, and the caller does other things between slices. All slices
//! are read at one revision, so together they are what a read at once would have answered.
//!
//! Invariants:
//! 1. The revision is that of the first slice.

use bytes::{Bytes, BytesMut};

use crate::range::{Direction, Slice, direction};
use crate::shared::Shared;
use crate::{KeyValue, KvError, RangeRequest, SortTarget};

/// A range that is read in slices.
pub struct RangeSlices {
    /// What is left to read; without a limit.
    range: RangeRequest,
    revision: i64,
    count: i64,
    /// How many more keys are answered; `None` for all.
    left: Option<usize>,
    more: bool,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    Begun,
    Done,
}

impl RangeSlices {
    /// Whether a range can be read in slices: it must name more than one key, and answer them in
    /// the order of keys.
    #[must_use]
    pub fn fit(range: &RangeRequest) -> bool {
        !range.range_end.is_empty() && !range.count_only && range.sort_target == SortTarget::Key
    }

    /// Starts to read a range; nothing is read yet.
    ///
    /// # Panics
    /// If it does not [fit](RangeSlices::fit).
    #[must_use]
    pub fn new(mut range: RangeRequest) -> RangeSlices {
        assert!(RangeSlices::fit(&range), "a range is read in slices only if it fits");
        let left = usize::try_from(range.limit).ok().filter(|limit| 0 < *limit);
        range.limit = 0;
        RangeSlices { range, revision: 0, count: 0, left, more: false, state: State::New }
    }

    /// Reads the next slice; it may be empty without being the last.
    ///
    /// # Errors
    /// As [`Shared::range`]; [`KvError::Compacted`] also if the revision has been compacted since
    /// the first slice.
    ///
    /// # Panics
    /// If all is [done](RangeSlices::is_done).
    pub fn next(&mut self, shared: &Shared) -> Result<Vec<KeyValue>, KvError> {
        assert!(self.state != State::Done, "slices: there is no slice behind the last");
        let Slice { plan, next } = {
            let view = shared.read();
            if self.state == State::New {
                self.revision = view.revision();
                if self.range.revision <= 0 {
                    self.range.revision = self.revision;
                }
            }
            let slice = view.plan_slice(&self.range)?;
            if self.state == State::New && self.left.is_some() {
                self.count = view.count(&self.range);
            }
            slice
        };
        self.state = State::Begun;
        if self.left.is_none() {
            self.count += plan.count();
        }
        let mut kvs = shared.finish(plan, &self.range)?;
        if let Some(left) = &mut self.left {
            self.more = *left < kvs.len();
            kvs.truncate(*left);
            *left -= kvs.len();
        }
        match next {
            Some(next) if !self.more => self.go_on(next),
            _ => self.state = State::Done,
        }
        Ok(kvs)
    }

    /// The next slice begins with this key.
    fn go_on(&mut self, next: Bytes) {
        match direction(&self.range) {
            Direction::Forward => self.range.key = next,
            Direction::Backward => {
                let mut end = BytesMut::with_capacity(next.len() + 1);
                end.extend_from_slice(&next);
                end.extend_from_slice(b"\0");
                self.range.range_end = end.freeze();
            }
        }
    }

    /// Whether the last slice has been read.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The newest revision when the first slice was read, for the answer's header.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// As [`RangeResponse::count`](crate::RangeResponse::count), once all is done.
    #[must_use]
    pub fn count(&self) -> i64 {
        self.count
    }

    /// As [`RangeResponse::more`](crate::RangeResponse::more), once all is done.
    #[must_use]
    pub fn more(&self) -> bool {
        self.more
    }
}
