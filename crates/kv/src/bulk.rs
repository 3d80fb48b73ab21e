//! Rebuilds the keys from rows in the order of their revisions.
//!
//! Responsible for a restart's pace: rows come in no order of keys, and finding a place for each
//! among all keys waits for memory again and again. Rows are gathered, sorted by key and merged into
//! the keys in one walk. Keys are sorted by eight bytes at a time, which stand side by side with the
//! rows' numbers, so that the keys themselves are looked at once or twice.
//!
//! Invariants:
//! 1. Rows of one key come in the order of their revisions, and stay in it.

use bytes::Bytes;

use crate::hints::{shared, word};
use crate::keys::Keys;
use crate::record::{Content, Name, Record};
use crate::row::RowView;

/// Rows are merged once this many bytes of them are gathered: enough that few merges are needed,
/// and little beside what a store of that size takes anyway.
const GATHERED_BYTES_MIN: usize = 32 << 20;

/// Rows are merged at the latest once they amount to such a part of what is merged already. Each
/// merge moves all keys, so the parts must grow with them.
const GATHERED_PART: usize = 4;

/// Runs of rows up to this length are sorted by whole keys.
const SHORT_RUN: usize = 16;

/// Rows that are gathered.
#[derive(Default)]
pub(crate) struct Bulk {
    rows: Vec<Gathered>,
    bytes: usize,
    merged_bytes: usize,
}

struct Gathered {
    key: Bytes,
    name: Name,
    content: Content,
}

impl Bulk {
    /// Takes a row.
    pub(crate) fn add(&mut self, name: Name, row: &RowView<'_>) {
        let content = if name.tombstone { Content::default() } else { Content::of(row) };
        self.bytes += size_of::<Gathered>() + row.key.len() + row.value.len();
        self.rows.push(Gathered { key: Bytes::copy_from_slice(row.key), name, content });
    }

    /// Whether it is time to merge.
    pub(crate) fn is_full(&self) -> bool {
        GATHERED_BYTES_MIN.max(self.merged_bytes / GATHERED_PART) <= self.bytes
    }

    /// Brings what is gathered into the keys. All of it is newer than what they hold.
    pub(crate) fn merge<const MAX: usize>(&mut self, keys: &mut Keys<MAX>) {
        self.merged_bytes += std::mem::take(&mut self.bytes);
        let order = order(&self.rows);
        let mut records: Vec<(Bytes, Record)> = Vec::new();
        for at in order {
            let Gathered { key, name, content } = &mut self.rows[at];
            let (key, content) = (std::mem::take(key), std::mem::take(content));
            match records.last_mut() {
                Some((last, record)) if *last == key => drop(record.push(*name, content)),
                _ => records.push((key, Record::new(*name, content))),
            }
        }
        self.rows.clear();
        keys.merge(records);
    }
}

/// The rows' numbers in the order of keys and, within a key, as they came (invariant 1).
fn order(rows: &[Gathered]) -> Vec<usize> {
    let mut words: Vec<(u64, u32)> = Vec::with_capacity(rows.len());
    words.extend((0..rows.len()).map(|at| (0, u32::try_from(at).expect("rows fit in memory"))));
    let key = |at: u32| &*rows[at as usize].key;
    // Runs yet to be sorted, with the length of a prefix that all keys of the run share.
    let mut runs = vec![(0..rows.len(), 0)];
    while let Some((run, known)) = runs.pop() {
        let words = &mut words[run.clone()];
        let Some(&(_, first)) = words.first() else { continue };
        let first = key(first);
        let skip = words.iter().fold(first.len(), |skip, &(_, at)| {
            known + shared(&first[known..skip], &key(at)[known..])
        });
        if words.len() <= SHORT_RUN {
            words.sort_unstable_by(|a, b| {
                key(a.1)[skip..].cmp(&key(b.1)[skip..]).then(a.1.cmp(&b.1))
            });
            continue;
        }
        for (of_key, at) in words.iter_mut() {
            *of_key = word(key(*at), skip);
        }
        words.sort_unstable();
        let mut start = 0;
        for tied in words.chunk_by_mut(|a, b| a.0 == b.0) {
            let (from, length) = (start, tied.len());
            start += length;
            // A key that ends within the word may be tied with one that goes on with zeros.
            if tied.iter().any(|&(_, at)| key(at).len() < skip + size_of::<u64>()) {
                tied.sort_unstable_by(|a, b| {
                    key(a.1)[skip..].cmp(&key(b.1)[skip..]).then(a.1.cmp(&b.1))
                });
            } else if 1 < length {
                let from = run.start + from;
                runs.push((from..from + length, skip + size_of::<u64>()));
            }
        }
    }
    words.into_iter().map(|(_, at)| at as usize).collect()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::row::Revision;

    /// Keys that share prefixes of many lengths, end early and hold zeros.
    fn key() -> impl Strategy<Value = Vec<u8>> {
        let head =
            prop_oneof![Just("a long prefix that many share/"), Just("a long pre"), Just("")];
        let tail = vec(prop_oneof![4 => Just(0u8), 2 => Just(1), 1 => Just(255)], 0..20);
        (head, tail).prop_map(|(head, tail)| [b"/", head.as_bytes(), &tail].concat())
    }

    proptest! {
        #[test]
        fn merging_is_putting_one_by_one(
            keys in vec(key(), 0..400),
            rows in vec((any::<prop::sample::Index>(), any::<bool>()), 0..800),
            merge_at in vec(0usize..800, 0..4),
        ) {
            let (mut bulk, mut merged, mut expected) =
                (Bulk::default(), Keys::<8>::new(), Keys::<8>::new());
            let rows = rows.into_iter().filter(|_| !keys.is_empty());
            for (at, (index, tombstone)) in rows.enumerate() {
                let key = index.get(&keys);
                let name = Name { revision: Revision { main: at as i64 + 2, sub: 1 }, tombstone };
                let lease = if at % 3 == 0 { 7 } else { 0 };
                let value = at.to_le_bytes();
                let row = RowView { key, create: 2, main: 2, version: 1, value: &value, lease };
                bulk.add(name, &row);
                let content = if tombstone { Content::default() } else { Content::of(&row) };
                match expected.find(key) {
                    Ok(place) => drop(expected.change(place, |record| record.push(name, content))),
                    Err(place) => {
                        let record = Record::new(name, content);
                        expected.insert(place, Bytes::copy_from_slice(key), record);
                    }
                }
                if merge_at.contains(&at) {
                    bulk.merge(&mut merged);
                }
            }
            bulk.merge(&mut merged);
            merged.assert_invariants();
            prop_assert_eq!(merged.live(), expected.live());
            let all = |keys: &Keys<8>| -> Vec<_> {
                let each = |(key, record): (&Bytes, &Record)| {
                    (key.clone(), record.names().collect::<Vec<_>>(), record.content())
                };
                keys.iter().map(each).collect()
            };
            prop_assert_eq!(all(&merged), all(&expected));
            for key in &keys {
                prop_assert_eq!(merged.get(key).is_some(), expected.get(key).is_some());
            }
        }
    }
}
