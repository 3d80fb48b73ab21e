//! Intervals of keys as requests give them.

use std::ops::Bound;

/// The keys that a request names by a key and a range end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Interval<'a> {
    /// One key.
    One(&'a [u8]),
    /// From the first key on, up to one past the last; no end if `None`.
    Span(&'a [u8], Option<&'a [u8]>),
    /// Nothing: the end is not above the start.
    Empty,
}

/// From where to where a walk goes.
pub(crate) type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

impl<'a> Interval<'a> {
    /// An empty end names the key alone, a single zero byte means that there is no end.
    pub(crate) fn new(key: &'a [u8], range_end: &'a [u8]) -> Interval<'a> {
        match range_end {
            [] => Interval::One(key),
            [0] => Interval::Span(key, None),
            end if end <= key => Interval::Empty,
            end => Interval::Span(key, Some(end)),
        }
    }

    /// The bounds of a walk over an ordered map; `None` if there is nothing to walk over.
    pub(crate) fn bounds(self) -> Option<Bounds<'a>> {
        match self {
            Interval::One(key) => Some((Bound::Included(key), Bound::Included(key))),
            Interval::Span(key, None) => Some((Bound::Included(key), Bound::Unbounded)),
            Interval::Span(key, Some(end)) => Some((Bound::Included(key), Bound::Excluded(end))),
            Interval::Empty => None,
        }
    }
}
