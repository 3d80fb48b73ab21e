//! Which of many spans of keys a key lies in.
//!
//! Responsible for answering that without looking at every span: they are sorted by their starts, and
//! each part of the order knows how far its spans reach.

use bytes::Bytes;

/// A span of keys, and the watcher that it is of.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Span {
    start: Bytes,
    /// `None` for no end.
    end: Option<Bytes>,
    watcher: usize,
}

/// Spans of keys.
#[derive(Default, Debug)]
pub(super) struct Spans {
    spans: Vec<Span>,
    /// For the middle of each part that a search halves: the place of the span that reaches furthest
    /// in that part.
    furthest: Vec<usize>,
    is_sorted: bool,
}

impl Spans {
    pub(super) fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    pub(super) fn watchers(&self) -> impl Iterator<Item = usize> + '_ {
        self.spans.iter().map(|span| span.watcher)
    }

    pub(super) fn add(&mut self, start: Bytes, end: Option<Bytes>, watcher: usize) {
        self.spans.push(Span { start, end, watcher });
        self.is_sorted = false;
    }

    pub(super) fn remove(&mut self, watcher: usize) {
        self.spans.retain(|span| span.watcher != watcher);
        self.is_sorted = false;
    }

    pub(super) fn append(&mut self, other: &mut Spans) {
        self.spans.append(&mut other.spans);
        self.is_sorted = false;
    }

    /// Puts what was added in order; a search comes after.
    pub(super) fn sort(&mut self) {
        if std::mem::replace(&mut self.is_sorted, true) {
            return;
        }
        self.spans.sort_unstable_by(|a, b| a.start.cmp(&b.start));
        self.furthest.clear();
        self.furthest.resize(self.spans.len(), 0);
        self.measure(0, self.spans.len());
    }

    fn measure(&mut self, low: usize, high: usize) -> Option<usize> {
        if low == high {
            return None;
        }
        let middle = low + (high - low) / 2;
        let parts = [self.measure(low, middle), self.measure(middle + 1, high)];
        let furthest = parts
            .into_iter()
            .flatten()
            .fold(middle, |a, b| if reaches(&self.spans[a], &self.spans[b]) { b } else { a });
        self.furthest[middle] = furthest;
        Some(furthest)
    }

    /// Calls `hit` with the watcher of each span that the key lies in.
    pub(super) fn find(&self, key: &[u8], hit: &mut impl FnMut(usize)) {
        debug_assert!(self.is_sorted, "spans: a search comes after the sort");
        self.search(0, self.spans.len(), key, hit);
    }

    fn search(&self, low: usize, high: usize, key: &[u8], hit: &mut impl FnMut(usize)) {
        if low == high {
            return;
        }
        let middle = low + (high - low) / 2;
        if !ends_behind(&self.spans[self.furthest[middle]], key) {
            return;
        }
        self.search(low, middle, key, hit);
        let span = &self.spans[middle];
        if span.start[..] <= *key {
            if ends_behind(span, key) {
                hit(span.watcher);
            }
            self.search(middle + 1, high, key, hit);
        }
    }
}

/// Whether the span does not end at or before the key.
fn ends_behind(span: &Span, key: &[u8]) -> bool {
    span.end.as_ref().is_none_or(|end| *key < end[..])
}

/// Whether the other span reaches at least as far.
fn reaches(span: &Span, other: &Span) -> bool {
    match (&span.end, &other.end) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(end), Some(further)) => end <= further,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(letter: u8) -> Bytes {
        Bytes::copy_from_slice(&[letter])
    }

    proptest! {
        #[test]
        fn a_search_finds_what_looking_at_all_finds(
            spans in proptest::collection::vec((0u8..20, proptest::option::of(0u8..20)), 0..30),
            removed in proptest::collection::vec(0usize..30, 0..5),
        ) {
            let mut index = Spans::default();
            for (watcher, (start, end)) in spans.iter().enumerate() {
                index.add(key(*start), end.map(key), watcher);
            }
            index.sort();
            removed.iter().for_each(|watcher| index.remove(*watcher));
            index.sort();
            for probe in 0..20u8 {
                let mut found = Vec::new();
                index.find(&[probe], &mut |watcher| found.push(watcher));
                found.sort_unstable();
                let lies_in = |(at, (start, end)): (usize, &(u8, Option<u8>))| {
                    let within = *start <= probe && end.is_none_or(|end| probe < end);
                    (within && !removed.contains(&at)).then_some(at)
                };
                let expected: Vec<_> = spans.iter().enumerate().filter_map(lies_in).collect();
                prop_assert_eq!(found, expected);
            }
        }
    }
}
