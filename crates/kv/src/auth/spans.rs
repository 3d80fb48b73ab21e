//! Ranges of keys, normalised: the union of many, by which a request's range is covered or not.
//!
//! Invariants:
//! 1. Spans ascend, none is empty, and between two of them lies at least one key.

use bytes::{BufMut, Bytes, BytesMut};

use crate::interval::Interval;

/// A union of ranges.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Spans(Vec<Span>);

/// The keys from `start` up to one before `end`; no end if `None`.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Span {
    start: Bytes,
    end: Option<Bytes>,
}

impl Spans {
    /// The union of ranges, each a key and a range end as requests have them.
    pub(super) fn of<'a>(ranges: impl Iterator<Item = (&'a Bytes, &'a Bytes)>) -> Spans {
        let mut spans: Vec<Span> =
            ranges.filter_map(|(key, range_end)| Span::of(key, range_end)).collect();
        spans.sort_by(|left, right| left.start.cmp(&right.start));
        let mut merged: Vec<Span> = Vec::with_capacity(spans.len());
        for span in spans {
            match merged.last_mut() {
                Some(last) if last.reaches(&span.start) => last.extend(span.end),
                _ => merged.push(span),
            }
        }
        merged.shrink_to_fit();
        Spans(merged)
    }

    /// Whether every key of a request's range is in the union. A range that holds no key, because it
    /// ends where it begins or before, counts as its first key does, as in etcd.
    pub(super) fn cover(&self, key: &[u8], range_end: &[u8]) -> bool {
        let behind = self.0.partition_point(|span| span.start[..] <= *key);
        let Some(Span { end, .. }) = behind.checked_sub(1).and_then(|at| self.0.get(at)) else {
            return false;
        };
        let Some(end) = end else { return true };
        let last = match Interval::new(key, range_end) {
            Interval::Span(_, None) => return false,
            Interval::Span(_, Some(last)) => last,
            Interval::One(_) | Interval::Empty => return key < &end[..],
        };
        last <= &end[..]
    }
}

impl Span {
    /// `None` if there is no key in it.
    fn of(key: &Bytes, range_end: &Bytes) -> Option<Span> {
        let end = match Interval::new(key, range_end) {
            Interval::One(_) => Some(behind(key)),
            Interval::Span(_, end) => end.map(|_| range_end.clone()),
            Interval::Empty => return None,
        };
        Some(Span { start: key.clone(), end })
    }

    /// Whether no key lies between this span and another that begins at `start` or later.
    fn reaches(&self, start: &Bytes) -> bool {
        self.end.as_ref().is_none_or(|end| start <= end)
    }

    fn extend(&mut self, end: Option<Bytes>) {
        match (&mut self.end, end) {
            (None, _) => {}
            (Some(_), None) => self.end = None,
            (Some(own), Some(end)) if *own < end => *own = end,
            (Some(_), Some(_)) => {}
        }
    }
}

/// The key right behind a key.
fn behind(key: &[u8]) -> Bytes {
    let mut next = BytesMut::with_capacity(key.len() + 1);
    next.put_slice(key);
    next.put_u8(0);
    next.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    type Range = (Bytes, Bytes);

    fn spans(ranges: &[Range]) -> Spans {
        Spans::of(ranges.iter().map(|(key, end)| (key, end)))
    }

    fn range(key: &[u8], end: &[u8]) -> Range {
        (Bytes::copy_from_slice(key), Bytes::copy_from_slice(end))
    }

    #[test]
    fn what_touches_becomes_one() {
        let merged = spans(&[range(b"c", b"e"), range(b"a", b"c"), range(b"e", b"")]);
        assert_eq!(merged.0.len(), 1);
        assert!(merged.cover(b"a", b"e\0"));
        assert!(!merged.cover(b"a", b"e\0\0"));
        assert!(!merged.cover(b"a", b"f"));
    }

    #[test]
    fn a_range_without_an_end_needs_one_without_an_end() {
        let open = spans(&[range(b"m", b"\0")]);
        assert!(open.cover(b"m", b"\0") && open.cover(b"z", b"\0") && open.cover(b"x", b"z"));
        assert!(!open.cover(b"l", b"\0") && !open.cover(b"l", b"n"));
        assert!(!spans(&[range(b"a", b"z")]).cover(b"a", b"\0"));
    }

    #[test]
    fn a_range_without_keys_counts_as_its_first_key() {
        let some = spans(&[range(b"b", b"d")]);
        assert!(some.cover(b"c", b"a") && some.cover(b"b", b"b"));
        assert!(!some.cover(b"d", b"a") && !some.cover(b"a", b"a"));
    }

    /// All keys of up to two letters out of two, and what stands for the end of a range.
    const KEYS: [&[u8]; 14] = [
        b"\0", b"\0\0", b"\0a", b"a", b"a\0", b"aa", b"ab", b"b", b"b\0", b"ba", b"bb", b"c",
        b"c\0", b"ca",
    ];

    fn any_range() -> impl Strategy<Value = Range> {
        let key = prop::sample::select(KEYS.to_vec());
        let mut ends = KEYS.to_vec();
        ends.push(b"");
        (key, prop::sample::select(ends)).prop_map(|(key, end)| range(key, end))
    }

    fn holds(range: &Range, key: &[u8]) -> bool {
        match &range.1[..] {
            [] => range.0 == key,
            [0] => range.0 <= key,
            end => range.0 <= key && key < end,
        }
    }

    proptest! {
        #[test]
        fn the_union_covers_what_its_ranges_hold_key_by_key(
            ranges in vec(any_range(), 0..6),
            asked in any_range(),
        ) {
            let union = spans(&ranges);
            // Between two neighbouring bounds nothing changes, so a key behind each one tells.
            let mut probes: Vec<Bytes> = Vec::new();
            for key in KEYS {
                probes.push(Bytes::copy_from_slice(key));
                probes.push([key, b"\0"].concat().into());
                probes.push([key, b"\0\0"].concat().into());
            }
            probes.push(Bytes::from_static(b"\xff\xff"));
            let in_one = |key: &[u8]| ranges.iter().any(|range| holds(range, key));
            let mut wanted: Vec<&Bytes> =
                probes.iter().filter(|key| holds(&asked, key)).collect();
            if wanted.is_empty() {
                wanted.push(&asked.0);
            }
            let naive = wanted.iter().all(|key| in_one(key));
            prop_assert_eq!(union.cover(&asked.0, &asked.1), naive);
            for pair in union.0.windows(2) {
                let end = pair[0].end.as_ref().expect("only the last has no end");
                prop_assert!(end < &pair[1].start);
            }
        }
    }
}
