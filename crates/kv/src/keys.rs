//! The ordered map from key to its versions.
//!
//! Responsible for order, for room, and for counting: the keys of a range are counted without a
//! walk over them. Keys lie in chunks, sorted vectors one behind the other. A chunk knows how many
//! of its keys exist at the newest revision, and when it changed last; so at any revision since
//! then, a chunk that lies wholly inside a range is counted by one addition.
//!
//! A sorted vector is fuller than the nodes of a tree, and a page of a listing is a slice of it.
//! The price is an insertion that moves half a chunk, some ten kilobytes, in well under a
//! microsecond.
//!
//! Invariants:
//! 1. Keys ascend within a chunk and from chunk to chunk; no chunk is empty or above its maximum.
//! 2. A chunk's separator is not above its keys and above those of the chunk before; the first
//!    chunk's is not looked at.
//! 3. A chunk's hints and the separators' tell the keys and the separators as they are.
//! 4. `live` counts the chunk's keys that exist; no record of a chunk has changed after `changed`.

use std::ops::Bound;

use bytes::Bytes;

use crate::hints::Hints;
use crate::interval::Bounds;
use crate::record::{Record, Remainder};

/// Keys to a chunk. Larger ones count faster and insert slower: a record takes about 100 bytes.
const CHUNK_KEYS: usize = 256;

/// How much room a full vector gains at once; small, so that little of it stays empty.
const GROWTH: usize = 8;

/// The keys, in order.
pub(crate) struct Keys<const MAX: usize = CHUNK_KEYS> {
    chunks: Vec<Chunk>,
    /// One for each chunk.
    separators: Vec<Box<[u8]>>,
    /// Of all separators but the first, which need not be in order with them.
    separator_hints: Hints,
}

struct Chunk {
    records: Vec<(Bytes, Record)>,
    hints: Hints,
    live: u64,
    changed: i64,
}

/// A place between records: before the one of this number in the chunk of that number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Place {
    chunk: usize,
    record: usize,
}

impl<const MAX: usize> Keys<MAX> {
    pub(crate) fn new() -> Keys<MAX> {
        Keys { chunks: Vec::new(), separators: Vec::new(), separator_hints: Hints::default() }
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<(&Bytes, &Record)> {
        let place = self.find(key).ok()?;
        let (key, record) = &self.chunks[place.chunk].records[place.record];
        Some((key, record))
    }

    /// Changes the record at a place where a key was found.
    pub(crate) fn change<T>(&mut self, place: Place, change: impl FnOnce(&mut Record) -> T) -> T {
        let chunk = &mut self.chunks[place.chunk];
        let record = &mut chunk.records[place.record].1;
        let was_live = record.is_live();
        let result = change(record);
        let (is_live, main) = (record.is_live(), record.newest().revision.main);
        chunk.note(was_live, is_live, main);
        result
    }

    /// Adds a key at the place where it was not found.
    pub(crate) fn insert(&mut self, mut place: Place, key: Bytes, record: Record) {
        if self.chunks.is_empty() {
            self.add_chunk(0, &key, Vec::new());
        } else if self.chunks[place.chunk].records.len() == MAX {
            place = self.split(place, &key);
        }
        let chunk = &mut self.chunks[place.chunk];
        if chunk.records.len() == chunk.records.capacity() {
            chunk.records.reserve_exact((MAX / GROWTH).max(1));
        }
        chunk.note(false, record.is_live(), record.newest().revision.main);
        let hinted = chunk.hints.insert(place.record, &key);
        chunk.records.insert(place.record, (key, record));
        if !hinted {
            chunk.hint();
        }
    }

    /// Brings in many records at once. Their keys ascend, and their versions are newer than those
    /// that are here.
    pub(crate) fn merge(&mut self, records: Vec<(Bytes, Record)>) {
        let mut coming = records.into_iter();
        let mut chunks = std::mem::take(&mut self.chunks);
        let mut separators = std::mem::take(&mut self.separators);
        if chunks.is_empty() && !coming.as_slice().is_empty() {
            chunks.push(Chunk::of(Vec::new()));
            separators.push(Box::default());
        }
        let mut ends = separators.iter().skip(1);
        for (chunk, separator) in chunks.into_iter().zip(&separators) {
            let end = ends.next();
            let belongs = |(key, _): &&(Bytes, Record)| end.is_none_or(|end| **key < **end);
            let ours = coming.as_slice().iter().take_while(belongs);
            let places: Vec<_> = ours.map(|(key, _)| chunk.find(key)).collect();
            if places.is_empty() {
                self.chunks.push(chunk);
                self.separators.push(separator.clone());
                continue;
            }
            let mut merged = Vec::with_capacity(chunk.records.len() + places.len());
            let mut here = chunk.records.into_iter();
            let length = here.len();
            for (place, (key, record)) in places.into_iter().zip(coming.by_ref()) {
                let (Ok(at) | Err(at)) = place;
                let done = length - here.len();
                merged.extend(here.by_ref().take(at - done));
                if place.is_err() {
                    merged.push((key, record));
                } else if let Some((key, mut older)) = here.next() {
                    older.append(record);
                    merged.push((key, older));
                }
            }
            merged.extend(here);
            self.push_merged(merged, separator);
        }
        let looked_at = self.separators.iter().skip(1);
        self.separator_hints = Hints::of(looked_at.map(|separator| &**separator));
    }

    /// Adds records behind all others, as one chunk or, where they are too many, as several of
    /// about three quarters of the maximum.
    fn push_merged(&mut self, records: Vec<(Bytes, Record)>, separator: &[u8]) {
        let pieces = if records.len() <= MAX { 1 } else { records.len().div_ceil(MAX * 3 / 4) };
        let length = records.len().div_ceil(pieces);
        let mut rest = records.into_iter();
        let mut separator: Box<[u8]> = separator.into();
        loop {
            let mut piece = Vec::with_capacity(length.min(rest.len()));
            piece.extend(rest.by_ref().take(length));
            self.chunks.push(Chunk::of(piece));
            self.separators.push(separator);
            match rest.as_slice().first() {
                Some((next, _)) => separator = next.as_ref().into(),
                None => return,
            }
        }
    }

    /// Panics unless the invariants hold.
    #[cfg(test)]
    pub(crate) fn assert_invariants(&self) {
        let mut last: Option<&Bytes> = None;
        for (at, chunk) in self.chunks.iter().enumerate() {
            assert!((1..=MAX).contains(&chunk.records.len()), "keys invariant 1");
            let live = chunk.records.iter().filter(|(_, record)| record.is_live()).count() as u64;
            assert_eq!(chunk.live, live, "keys invariant 4");
            assert_eq!(chunk.hints.len(), chunk.records.len(), "keys invariant 3");
            for (key, record) in &chunk.records {
                assert!(last.is_none_or(|last| last < key), "keys invariant 1");
                assert!(at == 0 || *self.separators[at] <= **key, "keys invariant 2");
                assert!(record.newest().revision.main <= chunk.changed, "keys invariant 4");
                last = Some(key);
            }
        }
        assert_eq!(self.separators.len(), self.chunks.len());
    }

    /// The records of a range, in order.
    pub(crate) fn range(
        &self,
        bounds: Bounds<'_>,
    ) -> impl DoubleEndedIterator<Item = (&Bytes, &Record)> {
        let (start, end) = self.places(bounds);
        let chunks = self.chunks.get(start.chunk..=end.chunk).unwrap_or_default();
        chunks.iter().enumerate().flat_map(move |(at, chunk)| {
            chunk.part(at + start.chunk, start, end).iter().map(|(key, record)| (key, record))
        })
    }

    /// All records, in order.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (&Bytes, &Record)> {
        self.range((Bound::Unbounded, Bound::Unbounded))
    }

    /// How many keys of a range exist at a revision.
    pub(crate) fn count(&self, bounds: Bounds<'_>, revision: i64) -> u64 {
        let (start, end) = self.places(bounds);
        let chunks = self.chunks.get(start.chunk..=end.chunk).unwrap_or_default();
        let mut count = 0;
        for (at, chunk) in chunks.iter().enumerate() {
            let part = chunk.part(at + start.chunk, start, end);
            count += if part.len() == chunk.records.len() && chunk.changed <= revision {
                chunk.live
            } else {
                part.iter().filter(|(_, record)| record.find(revision).is_some()).count() as u64
            };
        }
        count
    }

    /// How many keys exist at the newest revision.
    pub(crate) fn live(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.live).sum()
    }

    /// Changes the records of a range, in order.
    pub(crate) fn for_each(
        &mut self,
        bounds: Bounds<'_>,
        mut change: impl FnMut(&Bytes, &mut Record),
    ) {
        let (start, end) = self.places(bounds);
        let chunks = self.chunks.get_mut(start.chunk..=end.chunk).unwrap_or_default();
        for (at, chunk) in chunks.iter_mut().enumerate() {
            let Chunk { records, live, changed, .. } = chunk;
            for (key, record) in trim(records, at + start.chunk, start, end) {
                let was_live = record.is_live();
                change(key, record);
                *live = *live + u64::from(record.is_live()) - u64::from(was_live);
                *changed = (*changed).max(record.newest().revision.main);
            }
        }
    }

    /// Goes over all records of the chunks from `start` on until at least `keys` have been seen,
    /// and drops those of which `keep` leaves nothing. Answers the key to go on from; what is
    /// before it in the same chunk has been seen.
    pub(crate) fn sweep(
        &mut self,
        start: Option<&[u8]>,
        keys: usize,
        mut keep: impl FnMut(&Bytes, &mut Record) -> Remainder,
    ) -> Option<Bytes> {
        let first = start.map_or(0, |key| self.chunk_of(key));
        let (mut seen, mut end) = (0, first);
        for chunk in self.chunks.iter_mut().skip(first) {
            seen += chunk.records.len();
            end += 1;
            chunk.records.retain_mut(|(key, record)| keep(key, record) == Remainder::Some);
            if chunk.records.len() < chunk.hints.len() {
                chunk.hint();
            }
            chunk.live = chunk.records.iter().filter(|(_, record)| record.is_live()).count() as u64;
            if seen >= keys {
                break;
            }
        }
        let next = self.chunks.get(end).map(|chunk| chunk.records[0].0.clone());
        self.join(first, end);
        next
    }

    /// Joins what has become small among the chunks of these numbers.
    fn join(&mut self, first: usize, end: usize) {
        for at in (first..end).rev() {
            let length = self.chunks[at].records.len();
            let before = at.checked_sub(1).map(|before| self.chunks[before].records.len());
            if length > 0 && before.is_none_or(|before| length + before > MAX / 2) {
                continue;
            }
            let mut chunk = self.chunks.remove(at);
            self.separators.remove(at);
            // Without the first chunk the second is the first, and its separator not looked at.
            if self.separator_hints.len() > 0 {
                self.separator_hints.remove(at.saturating_sub(1));
            }
            if length > 0 {
                let into = &mut self.chunks[at - 1];
                into.records.append(&mut chunk.records);
                into.hint();
                into.live += chunk.live;
                into.changed = into.changed.max(chunk.changed);
            }
        }
    }

    /// Makes room for a key in a full chunk; answers where it goes.
    fn split(&mut self, place: Place, key: &[u8]) -> Place {
        let Place { chunk: at, record } = place;
        if at + 1 == self.chunks.len() && record == MAX {
            // Keys that come in order leave full chunks behind.
            self.add_chunk(at + 1, key, Vec::new());
            return Place { chunk: at + 1, record: 0 };
        }
        let half = MAX / 2;
        let chunk = &mut self.chunks[at];
        let tail = chunk.records.split_off(half);
        chunk.records.shrink_to_fit();
        chunk.hint();
        let changed = chunk.changed;
        let live = tail.iter().filter(|(_, record)| record.is_live()).count() as u64;
        chunk.live -= live;
        let separator = tail[0].0.clone();
        self.add_chunk(at + 1, &separator, tail);
        let added = &mut self.chunks[at + 1];
        (added.live, added.changed) = (live, changed);
        if record <= half { place } else { Place { chunk: at + 1, record: record - half } }
    }

    fn add_chunk(&mut self, at: usize, separator: &[u8], records: Vec<(Bytes, Record)>) {
        self.separators.insert(at, separator.into());
        if at > 0 && !self.separator_hints.insert(at - 1, separator) {
            let looked_at = self.separators[1..].iter();
            self.separator_hints = Hints::of(looked_at.map(|separator| &**separator));
        }
        let mut chunk = Chunk { records, hints: Hints::default(), live: 0, changed: 0 };
        chunk.hint();
        self.chunks.insert(at, chunk);
    }

    /// The chunk that a key belongs to.
    fn chunk_of(&self, key: &[u8]) -> usize {
        match self.separator_hints.find(key, |at| &self.separators[at + 1]) {
            Ok(at) => at + 1,
            Err(at) => at,
        }
    }

    /// A key's place, or where it would be; good until the next insertion.
    pub(crate) fn find(&self, key: &[u8]) -> Result<Place, Place> {
        let at = self.chunk_of(key);
        let Some(chunk) = self.chunks.get(at) else {
            return Err(Place { chunk: 0, record: 0 });
        };
        let place = |record| Place { chunk: at, record };
        let found = chunk.find(key);
        found.map(place).map_err(place)
    }

    /// The places before the first record of a range and behind its last one.
    fn places(&self, (from, to): Bounds<'_>) -> (Place, Place) {
        let either = |found: Result<Place, Place>| found.unwrap_or_else(|place| place);
        let behind = |found: Result<Place, Place>| match found {
            Ok(place) => Place { record: place.record + 1, ..place },
            Err(place) => place,
        };
        let start = match from {
            Bound::Unbounded => Place { chunk: 0, record: 0 },
            Bound::Included(key) => either(self.find(key)),
            Bound::Excluded(key) => behind(self.find(key)),
        };
        let end = match to {
            Bound::Unbounded => {
                let chunk = self.chunks.len().saturating_sub(1);
                Place { chunk, record: usize::MAX }
            }
            Bound::Included(key) => behind(self.find(key)),
            Bound::Excluded(key) => either(self.find(key)),
        };
        (start, end.max(start))
    }
}

impl Chunk {
    fn of(records: Vec<(Bytes, Record)>) -> Chunk {
        let live = records.iter().filter(|(_, record)| record.is_live()).count() as u64;
        let changed = records.iter().map(|(_, record)| record.newest().revision.main).max();
        let mut chunk =
            Chunk { records, hints: Hints::default(), live, changed: changed.unwrap_or(0) };
        chunk.hint();
        chunk
    }

    fn find(&self, key: &[u8]) -> Result<usize, usize> {
        self.hints.find(key, |at| &self.records[at].0)
    }

    /// Makes the hints anew.
    fn hint(&mut self) {
        self.hints = Hints::of(self.records.iter().map(|(key, _)| &**key));
    }

    fn note(&mut self, was_live: bool, is_live: bool, main: i64) {
        self.live = self.live + u64::from(is_live) - u64::from(was_live);
        self.changed = self.changed.max(main);
    }

    /// The records of the chunk of this number that lie between two places.
    fn part(&self, at: usize, start: Place, end: Place) -> &[(Bytes, Record)] {
        let (from, to) = cut(self.records.len(), at, start, end);
        &self.records[from..to]
    }
}

fn trim(
    records: &mut [(Bytes, Record)],
    at: usize,
    start: Place,
    end: Place,
) -> impl Iterator<Item = (&Bytes, &mut Record)> {
    let (from, to) = cut(records.len(), at, start, end);
    records[from..to].iter_mut().map(|(key, record)| (&*key, record))
}

/// Which records of the chunk of this number lie between two places.
fn cut(length: usize, at: usize, start: Place, end: Place) -> (usize, usize) {
    let from = if at == start.chunk { start.record } else { 0 };
    let to = if at == end.chunk { end.record.min(length) } else { length };
    (from, to)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::record::{Content, Name};
    use crate::row::Revision;

    #[derive(Clone, Debug)]
    enum Step {
        Put(Bytes),
        Delete(Bytes, Bytes),
        Sweep(i64, usize),
    }

    fn key() -> impl Strategy<Value = Bytes> {
        "[a-h]{1,2}".prop_map(Bytes::from)
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            12 => key().prop_map(Step::Put),
            2 => (key(), key()).prop_map(|(a, b)| Step::Delete(a.clone().min(b.clone()), a.max(b))),
            1 => (0i64..200, 1usize..20).prop_map(|(revision, keys)| Step::Sweep(revision, keys)),
        ]
    }

    /// The keys and, for each, when it came and went.
    type Lives = BTreeMap<Bytes, Vec<(i64, bool)>>;

    fn count(lives: &Lives, from: &Bytes, to: &Bytes, revision: i64) -> u64 {
        let inside = lives.range(from.clone()..to.clone());
        let lives_then = |changes: &Vec<(i64, bool)>| {
            changes.iter().rev().find(|(main, _)| *main <= revision).is_some_and(|(_, live)| *live)
        };
        inside.filter(|(_, changes)| lives_then(changes)).count() as u64
    }

    fn change(keys: &mut Keys<4>, key: &Bytes, main: i64, tombstone: bool) {
        let name = Name { revision: Revision { main, sub: 0 }, tombstone };
        match keys.find(key) {
            Ok(place) => drop(keys.change(place, |record| record.push(name, Content::default()))),
            Err(place) => keys.insert(place, key.clone(), Record::new(name, Content::default())),
        }
    }

    proptest! {
        #[test]
        fn chunks_are_a_map(steps in vec(step(), 1..150), probes in vec((key(), key(), 0i64..150), 4)) {
            let (mut keys, mut lives, mut main, mut swept) = (Keys::<4>::new(), Lives::new(), 0, 0);
            for step in steps {
                main += 1;
                match step {
                    Step::Put(key) => {
                        change(&mut keys, &key, main, false);
                        lives.entry(key).or_default().push((main, true));
                    }
                    Step::Delete(from, to) => {
                        let bounds = (Bound::Included(&from[..]), Bound::Excluded(&to[..]));
                        let name =
                            Name { revision: Revision { main, sub: 0 }, tombstone: true };
                        keys.for_each(bounds, |key, record| {
                            if record.is_live() {
                                record.push(name, Content::default());
                                let changes = lives.get_mut(key).expect("the model has it too");
                                changes.push((main, false));
                            }
                        });
                    }
                    Step::Sweep(revision, slice) => {
                        swept = swept.max(revision.min(main));
                        let mut next = None;
                        loop {
                            next = keys.sweep(next.as_deref(), slice, |_, record| {
                                record.compact(swept, &mut Vec::new())
                            });
                            keys.assert_invariants();
                            if next.is_none() {
                                break;
                            }
                        }
                    }
                }
                keys.assert_invariants();
            }
            prop_assert_eq!(keys.live(), count(&lives, &Bytes::new(), &"z".into(), main));
            for (a, b, revision) in probes {
                let (from, to) = (a.clone().min(b.clone()), a.max(b));
                let revision = revision.clamp(swept, main.max(swept));
                let bounds = (Bound::Included(&from[..]), Bound::Excluded(&to[..]));
                let expected = count(&lives, &from, &to, revision);
                prop_assert_eq!(keys.count(bounds, revision), expected);
                let live = |(_, record): &(&Bytes, &Record)| record.find(revision).is_some();
                prop_assert_eq!(keys.range(bounds).filter(live).count() as u64, expected);
                let forward: Vec<_> = keys.range(bounds).map(|(key, _)| key).collect();
                let mut backward: Vec<_> = keys.range(bounds).rev().map(|(key, _)| key).collect();
                backward.reverse();
                prop_assert_eq!(forward, backward);
                prop_assert_eq!(keys.get(&from).is_some(), keys.iter().any(|(k, _)| *k == from));
            }
        }
    }
}
