//! Fingerprints of 128 bits, and tables of them.
//!
//! Responsible for hashing whatever implements [`Hash`] to the same 128 bits in every run, and for an
//! open-addressing table that keeps fingerprints instead of values. Two values of equal fingerprint
//! are taken for one: with 10^9 of them the chance that this ever hides a state is about 10^-21.
//!
//! A table is never iterated, so its order decides nothing.

use std::hash::{Hash, Hasher};

/// The fingerprint of a value; never 0, which marks an empty place.
pub(crate) fn fingerprint(value: &impl Hash) -> u128 {
    let mut lanes = Lanes { high: 0x243f_6a88_85a3_08d3, low: 0x1319_8a2e_0370_7344 };
    value.hash(&mut lanes);
    lanes.finish_both().max(1)
}

/// The fingerprint of a few numbers.
pub(crate) fn mixed(numbers: &[u64]) -> u128 {
    let mut lanes = Lanes { high: 0xa409_3822_299f_31d0, low: 0x082e_fa98_ec4e_6c89 };
    numbers.iter().for_each(|number| lanes.write_u64(*number));
    lanes.finish_both().max(1)
}

/// Two hashes of 64 bits over the same words, with different constants.
struct Lanes {
    high: u64,
    low: u64,
}

impl Lanes {
    fn finish_both(&self) -> u128 {
        let high = fold(self.high ^ self.low.rotate_left(32), 0x9e37_79b9_7f4a_7c15);
        let low = fold(self.low ^ 0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb);
        (u128::from(high ^ self.high) << 64) | u128::from(low ^ self.low)
    }
}

impl Hasher for Lanes {
    fn finish(&self) -> u64 {
        self.finish_both() as u64
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.high = fold(self.high ^ word, 0xd6e8_feb8_6659_fd93).wrapping_add(word);
        self.low = fold(self.low.rotate_left(23) ^ word, 0xa076_1d64_78bd_642f) ^ word;
    }

    fn write_u8(&mut self, word: u8) {
        self.write_u64(u64::from(word));
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn write_isize(&mut self, word: isize) {
        self.write_u64(word as u64);
    }
}

/// Multiplies to 128 bits and folds both halves together.
fn fold(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    (product >> 64) as u64 ^ product as u64
}

/// Values by fingerprint. With `()` as the value it is a set.
#[derive(Debug)]
pub(crate) struct Table<V> {
    keys: Vec<u128>,
    values: Vec<V>,
    len: usize,
}

/// The places of a table that holds something; a power of two.
const PLACES_MIN: usize = 64;

impl<V: Copy + Default> Table<V> {
    pub(crate) fn new() -> Table<V> {
        Table { keys: Vec::new(), values: Vec::new(), len: 0 }
    }

    pub(crate) fn get(&self, key: u128) -> Option<V> {
        if self.keys.is_empty() {
            return None;
        }
        let place = self.place_of(key);
        (self.keys[place] == key).then(|| self.values[place])
    }

    /// Adds a value unless there is one; whether it was added.
    pub(crate) fn insert(&mut self, key: u128, value: V) -> bool {
        assert!(key != 0, "0 marks an empty place");
        if self.keys.len() * 4 <= self.len * 5 {
            self.grow();
        }
        let place = self.place_of(key);
        if self.keys[place] == key {
            return false;
        }
        self.keys[place] = key;
        self.values[place] = value;
        self.len += 1;
        true
    }

    fn grow(&mut self) {
        let places = (self.keys.len() * 2).max(PLACES_MIN);
        let keys = std::mem::replace(&mut self.keys, vec![0; places]);
        let values = std::mem::replace(&mut self.values, vec![V::default(); places]);
        for (key, value) in keys.into_iter().zip(values).filter(|(key, _)| *key != 0) {
            let place = self.place_of(key);
            self.keys[place] = key;
            self.values[place] = value;
        }
    }

    /// Where the key is, or the empty place where it belongs.
    fn place_of(&self, key: u128) -> usize {
        let mask = self.keys.len() - 1;
        let mut place = key as usize & mask;
        while self.keys[place] != key && self.keys[place] != 0 {
            place = (place + 1) & mask;
        }
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_keeps_what_was_put_in_while_it_grows() {
        let mut table: Table<u32> = Table::new();
        for number in 0..10_000_u32 {
            assert_eq!(table.get(mixed(&[u64::from(number)])), None);
            assert!(table.insert(mixed(&[u64::from(number)]), number));
            assert!(!table.insert(mixed(&[u64::from(number)]), 0));
        }
        assert_eq!(table.len, 10_000);
        let found = (0..10_000).all(|n| table.get(mixed(&[n])) == Some(n as u32));
        assert!(found);
    }

    #[test]
    fn each_half_of_a_fingerprint_tells_small_values_apart() {
        let mut high: Table<()> = Table::new();
        let mut low: Table<()> = Table::new();
        for one in 0..200_u64 {
            for other in 0..200_u64 {
                let key = fingerprint(&(one, Some(other), vec![one]));
                assert!(high.insert(key >> 64, ()));
                assert!(low.insert(u128::from(key as u64), ()));
            }
        }
    }
}
