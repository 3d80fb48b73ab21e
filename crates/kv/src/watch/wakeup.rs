//! Who is to be woken when a key changes.
//!
//! Responsible for finding, of all streams, those that may watch a key. It may name one too many, which
//! costs that stream a look, but never one too few. Not responsible for which watcher an event is for:
//! the stream finds that out (`group.rs`).
//!
//! A stream that watches one key stands under the key, every other under a prefix that all of its range
//! has in common. Prefixes are of a few lengths only, so that a key is looked up a few times, however
//! many streams there are and whatever they watch.
//!
//! Invariants:
//! 1. A key in a watched range begins with the prefix that the range stands under.
//! 2. What is added under a name is removed under it: the name hangs on the range alone.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::group::Watched;

/// Up to here prefixes are of every length.
const EXACT_BYTES: usize = 16;

/// Longer ones are of lengths that are so many bytes apart.
const STEP_BYTES: usize = 4;

/// No prefix is longer: with the two above, a key is looked up under at most 29 of them.
const PREFIX_BYTES_MAX: usize = 64;

/// Streams by what they watch, each named by its place.
#[derive(Default)]
pub(super) struct Wakeup {
    ones: BTreeMap<Bytes, Sleepers>,
    prefixes: BTreeMap<Bytes, Sleepers>,
    /// How many prefixes there are of each length.
    lengths: BTreeMap<usize, usize>,
}

/// The streams that watch the same.
#[derive(Default)]
struct Sleepers {
    /// How many watchers each of them has there.
    places: BTreeMap<usize, u32>,
    /// The look at which all of them were found last.
    found_at: u64,
}

impl Wakeup {
    /// A stream watches this, too.
    pub(super) fn add(&mut self, watched: &Watched, place: usize) {
        let sleepers = match watched {
            Watched::One(key) => self.ones.entry(key.clone()).or_default(),
            Watched::Span(start, end) => {
                let prefix = &start[..prefix_bytes(start, end.as_deref())];
                if !self.prefixes.contains_key(prefix) {
                    *self.lengths.entry(prefix.len()).or_default() += 1;
                    self.prefixes.insert(Bytes::copy_from_slice(prefix), Sleepers::default());
                }
                self.prefixes.get_mut(prefix).expect("wakeup: it was just added")
            }
        };
        *sleepers.places.entry(place).or_default() += 1;
    }

    /// One watcher less of a stream watches this (invariant 2).
    pub(super) fn remove(&mut self, watched: &Watched, place: usize) {
        match watched {
            Watched::One(key) => {
                let sleepers = self.ones.get_mut(key).expect("wakeup invariant 2");
                if sleepers.remove(place) {
                    self.ones.remove(key);
                }
            }
            Watched::Span(start, end) => {
                let prefix = &start[..prefix_bytes(start, end.as_deref())];
                let sleepers = self.prefixes.get_mut(prefix).expect("wakeup invariant 2");
                if !sleepers.remove(place) {
                    return;
                }
                self.prefixes.remove(prefix);
                let count = self.lengths.get_mut(&prefix.len()).expect("wakeup: it is counted");
                *count -= 1;
                if *count == 0 {
                    self.lengths.remove(&prefix.len());
                }
            }
        }
    }

    /// Calls `hit` with every stream that may watch a key, unless it was called with it for another key
    /// of the same look. Looks are numbered from 1 on.
    pub(super) fn find(&mut self, look: u64, key: &[u8], hit: &mut impl FnMut(usize)) {
        if let Some(sleepers) = self.ones.get_mut(key) {
            sleepers.found(look, hit);
        }
        for length in self.lengths.range(..=key.len()).map(|(length, _)| *length) {
            if let Some(sleepers) = self.prefixes.get_mut(&key[..length]) {
                sleepers.found(look, hit);
            }
        }
    }
}

impl Sleepers {
    /// Answers whether none is left.
    fn remove(&mut self, place: usize) -> bool {
        let count = self.places.get_mut(&place).expect("wakeup invariant 2");
        *count -= 1;
        if *count == 0 {
            self.places.remove(&place);
        }
        self.places.is_empty()
    }

    fn found(&mut self, look: u64, hit: &mut impl FnMut(usize)) {
        if std::mem::replace(&mut self.found_at, look) != look {
            self.places.keys().copied().for_each(hit);
        }
    }
}

/// The length of the prefix that a range stands under (invariant 1).
fn prefix_bytes(start: &[u8], end: Option<&[u8]>) -> usize {
    let Some(end) = end else { return 0 };
    let common = start.iter().zip(end).take_while(|(a, b)| a == b).count();
    // From `foo` up to `fop` all keys begin with `foo`: the third byte can be neither less nor more.
    let successor = start.get(common).and_then(|byte| byte.checked_add(1));
    let bounded = end.len() == common + 1 && successor == end.last().copied();
    allowed(if bounded { common + 1 } else { common })
}

/// The greatest length of a prefix that is not above this one.
fn allowed(length: usize) -> usize {
    match length.min(PREFIX_BYTES_MAX) {
        length @ 0..=EXACT_BYTES => length,
        length => length - length % STEP_BYTES,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(wakeup: &mut Wakeup, look: u64, key: &[u8]) -> Vec<usize> {
        let mut found = Vec::new();
        wakeup.find(look, key, &mut |place| found.push(place));
        found
    }

    fn span(start: &str, end: &str) -> Watched {
        let end = (!end.is_empty()).then(|| Bytes::copy_from_slice(end.as_bytes()));
        Watched::Span(Bytes::copy_from_slice(start.as_bytes()), end)
    }

    #[test]
    fn a_key_wakes_those_who_watch_it_and_not_those_beside() {
        let mut wakeup = Wakeup::default();
        wakeup.add(&span("foo", "fop"), 1);
        wakeup.add(&span("bar", "bas"), 2);
        wakeup.add(&Watched::One(Bytes::from_static(b"foo/1")), 3);
        wakeup.add(&span("x", ""), 4);
        assert_eq!(found(&mut wakeup, 1, b"foo/1"), [3, 4, 1]);
        assert_eq!(found(&mut wakeup, 2, b"foo/2"), [4, 1]);
        // What was found is not found again at the same look.
        assert_eq!(found(&mut wakeup, 2, b"bar"), [2]);
        wakeup.remove(&span("x", ""), 4);
        wakeup.remove(&span("foo", "fop"), 1);
        assert_eq!(found(&mut wakeup, 3, b"foo/2"), Vec::<usize>::new());
    }

    proptest! {
        #[test]
        fn nobody_who_watches_a_key_is_missed(
            spans in prop::collection::vec(
                (prop::collection::vec(any::<u8>(), 0..70), prop::collection::vec(any::<u8>(), 0..70),
                 0..70usize, 0..4u8),
                1..20,
            ),
            tail in prop::collection::vec(any::<u8>(), 0..4),
        ) {
            let mut wakeup = Wakeup::default();
            let mut watched = Vec::new();
            for (place, (start, other, shared, kind)) in spans.iter().enumerate() {
                let start = Bytes::copy_from_slice(start);
                let end = match kind {
                    0 => None,
                    1 => Some(Bytes::copy_from_slice(other)),
                    2 => Some([&start[..start.len().min(*shared)], &other[..]].concat().into()),
                    _ => {
                        let mut end = start.to_vec();
                        match end.last_mut() {
                            Some(last) => *last = last.saturating_add(1),
                            None => end.push(1),
                        }
                        Some(end.into())
                    }
                };
                if end.as_ref().is_some_and(|end| *end <= start) {
                    continue;
                }
                let span = Watched::Span(start, end);
                wakeup.add(&span, place);
                watched.push((span, place));
            }
            let mut look = 0;
            for (start, other, ..) in &spans {
                for key in [start, other, &[&start[..], &tail[..]].concat()] {
                    look += 1;
                    let hits = found(&mut wakeup, look, key);
                    for (span, place) in &watched {
                        let Watched::Span(start, end) = span else { unreachable!("all are spans") };
                        let within = start <= key && end.as_ref().is_none_or(|end| key < end);
                        prop_assert!(!within || hits.contains(place));
                    }
                }
            }
            for (span, place) in &watched {
                wakeup.remove(span, *place);
            }
            prop_assert!(wakeup.prefixes.is_empty() && wakeup.lengths.is_empty());
        }
    }
}
