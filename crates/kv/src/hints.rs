//! A sorted row of keys made quick to search.
//!
//! Responsible for finding a key's place among sorted keys while touching few of them. Keys lie all
//! over memory, and a binary search that looks at each waits for memory at every step. Of each key
//! the eight bytes behind the prefix that all of them share stand here side by side; the search goes
//! over these, and only keys that agree in them are looked at.
//!
//! Invariants:
//! 1. There is one word for each key, in the keys' order, and words never fall along the row.
//! 2. Every key begins with `prefix`.

/// The words of a sorted row of keys without duplicates. The keys themselves are the owner's.
#[derive(Default)]
pub(crate) struct Hints {
    prefix: Box<[u8]>,
    words: Vec<u64>,
}

/// The eight bytes of a key behind its first `skip`, zeros where it is shorter. A key that is not
/// above another has a word that is not above the other's.
pub(crate) fn word(key: &[u8], skip: usize) -> u64 {
    let rest = &key[skip..];
    let mut bytes = [0; 8];
    let length = rest.len().min(8);
    bytes[..length].copy_from_slice(&rest[..length]);
    u64::from_be_bytes(bytes)
}

/// How many bytes two keys share at their beginning.
pub(crate) fn shared(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl Hints {
    /// The hints of these keys, which ascend.
    pub(crate) fn of<'a>(mut keys: impl DoubleEndedIterator<Item = &'a [u8]> + Clone) -> Hints {
        let all = keys.clone();
        let Some(first) = keys.next() else { return Hints::default() };
        // What the first and the last key share, all between them share.
        let skip = keys.next_back().map_or(0, |last| shared(first, last));
        Hints { prefix: first[..skip].into(), words: all.map(|key| word(key, skip)).collect() }
    }

    /// Where a key stands, or where it would. `at` gives the key of a number.
    pub(crate) fn find<'a>(
        &self,
        key: &[u8],
        at: impl Fn(usize) -> &'a [u8],
    ) -> Result<usize, usize> {
        let skip = self.prefix.len();
        let head = &key[..skip.min(key.len())];
        if *head != *self.prefix {
            // Less also if the key ends within the prefix: then it comes before all that go on.
            return Err(if *head < *self.prefix { 0 } else { self.words.len() });
        }
        let word = word(key, skip);
        let mut low = self.words.partition_point(|other| *other < word);
        let mut high = low + self.words[low..].partition_point(|other| *other == word);
        while low < high {
            let middle = low + (high - low) / 2;
            match at(middle).cmp(key) {
                std::cmp::Ordering::Equal => return Ok(middle),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    /// Adds a key at the place where it was not found. `False` if it does not begin with what the
    /// others share: the hints are then to be made anew.
    #[must_use]
    pub(crate) fn insert(&mut self, place: usize, key: &[u8]) -> bool {
        if self.words.is_empty() || !key.starts_with(&self.prefix) {
            return false;
        }
        self.words.insert(place, word(key, self.prefix.len()));
        true
    }

    /// Takes the key of a number away.
    pub(crate) fn remove(&mut self, place: usize) {
        self.words.remove(place);
    }

    /// The number of keys.
    pub(crate) fn len(&self) -> usize {
        self.words.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

    use super::*;

    /// Keys that share prefixes, end early and hold zeros.
    fn key() -> impl Strategy<Value = Vec<u8>> {
        let tail = vec(prop_oneof![Just(0u8), Just(1), Just(255)], 0..12);
        (prop_oneof![Just("shared/"), Just("shared"), Just("")], tail)
            .prop_map(|(head, tail)| [head.as_bytes(), &tail].concat())
    }

    proptest! {
        #[test]
        fn finds_as_a_plain_search_does(
            keys in btree_set(key(), 0..40),
            added in vec(key(), 0..20),
            sought in vec(key(), 0..40),
        ) {
            let mut keys: Vec<Vec<u8>> = keys.into_iter().collect();
            let of = |keys: &[Vec<u8>]| {
                Hints::of(keys.to_vec().iter().map(Vec::as_slice))
            };
            let mut hints = of(&keys);
            for key in added {
                let Err(place) = keys.binary_search(&key) else { continue };
                keys.insert(place, key.clone());
                if !hints.insert(place, &key) {
                    hints = of(&keys);
                }
            }
            prop_assert_eq!(hints.len(), keys.len());
            let present: BTreeSet<Vec<u8>> = keys.iter().cloned().collect();
            for key in sought.iter().chain(&present) {
                let found = hints.find(key, |at| &keys[at]);
                prop_assert_eq!(found, keys.binary_search(key));
            }
        }
    }
}
