//! The one source of every decision in a simulated run.
//!
//! A run asks here, and nowhere else, whatever is left open: delays, faults, requests. It is *not*
//! responsible for what the answers mean.
//!
//! 1. The same seed gives the same answers in the same order, on every machine and with every
//!    version of every dependency; so a failing seed that is written down keeps its meaning.
//! 2. A seed is a byte string. Its bytes are used up first, so that whoever changes a byte (a
//!    fuzzer, a shrinker) changes one decision; after them a generator takes over.

/// One million: rates are given in parts of it.
pub const MILLION: u32 = 1_000_000;

/// Where decisions come from: first a byte string, then a generator seeded with it.
#[derive(Clone, Debug)]
pub struct Choices {
    bytes: Vec<u8>,
    used: usize,
    state: u64,
}

/// Mixes 64 bits so that every output bit depends on every input bit (the finaliser of Stafford's
/// variant 13, as used by SplitMix64).
#[must_use]
pub(crate) fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

impl Choices {
    /// Decisions from a number alone.
    #[must_use]
    pub fn of_seed(seed: u64) -> Choices {
        Choices { bytes: Vec::new(), used: 0, state: mix(seed.wrapping_add(1)) }
    }

    /// Decisions from a byte string, then from a generator that the same string seeds.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Choices {
        let state = bytes.iter().fold(bytes.len() as u64, |state, byte| {
            mix(state.wrapping_mul(0x0000_0100_0000_01b3) ^ u64::from(*byte))
        });
        Choices { bytes: bytes.to_vec(), used: 0, state }
    }

    /// A generator of its own, which differs for each `label` and takes nothing from this one.
    #[must_use]
    pub fn apart(&self, label: u64) -> Choices {
        Choices { bytes: Vec::new(), used: 0, state: mix(self.state ^ mix(label.wrapping_add(1))) }
    }

    /// Whether the byte string is not used up.
    #[must_use]
    pub fn has_bytes(&self) -> bool {
        self.used < self.bytes.len()
    }

    /// Any 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.draw(8)
    }

    /// A number below `bound`, which is at least 1.
    ///
    /// # Panics
    /// If `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(0 < bound, "there is nothing below 0");
        if bound == 1 {
            return 0;
        }
        let width = match bound - 1 {
            0..=0xff => 1,
            0x100..=0xffff => 2,
            0x1_0000..=0xffff_ffff => 4,
            _ => 8,
        };
        self.draw(width) % bound
    }

    /// A number from `low` to `high`, both included.
    ///
    /// # Panics
    /// If `high` is below `low`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        assert!(low <= high, "the range is not empty");
        low + self.below((high - low).saturating_add(1))
    }

    /// True in `parts` of a [`MILLION`] cases. Nothing is drawn when the answer is certain, so that
    /// a fault that is off costs no decision.
    pub fn chance(&mut self, parts: u32) -> bool {
        if parts == 0 {
            return false;
        }
        MILLION <= parts || self.below(u64::from(MILLION)) < u64::from(parts)
    }

    /// One of the items, which are at least one.
    ///
    /// # Panics
    /// If there are no items.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }

    /// The next `width` bytes as a number.
    fn draw(&mut self, width: usize) -> u64 {
        if self.bytes.len() - self.used < width {
            self.used = self.bytes.len();
            self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let bits = mix(self.state);
            return if width == 8 { bits } else { bits >> (64 - 8 * width) };
        }
        let bytes = &self.bytes[self.used..self.used + width];
        self.used += width;
        bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_answers() {
        let mut one = Choices::of_seed(7);
        let mut two = Choices::of_seed(7);
        let mut other = Choices::of_seed(8);
        let answers: Vec<u64> = (0..100).map(|_| one.bits()).collect();
        assert_eq!(answers, (0..100).map(|_| two.bits()).collect::<Vec<_>>());
        assert_ne!(answers, (0..100).map(|_| other.bits()).collect::<Vec<_>>());
    }

    #[test]
    fn bytes_are_used_one_decision_each_and_then_the_generator_takes_over() {
        let mut choices = Choices::of_bytes(&[3, 200, 5]);
        assert_eq!([choices.below(256), choices.below(100), choices.below(10)], [3, 0, 5]);
        let mut again = Choices::of_bytes(&[3, 200, 5]);
        for _ in 0..3 {
            again.below(256);
        }
        assert_eq!(choices.bits(), again.bits());
    }

    #[test]
    fn answers_keep_their_bounds_and_reach_all_of_them() {
        let mut choices = Choices::of_seed(1);
        let mut seen = [false; 5];
        for _ in 0..1000 {
            seen[choices.between(2, 6) as usize - 2] = true;
        }
        assert_eq!(seen, [true; 5]);
        let hits = (0..100_000).filter(|_| choices.chance(MILLION / 10)).count();
        assert!((9_000..11_000).contains(&hits), "{hits}");
        assert!(!choices.chance(0) && choices.chance(MILLION));
    }

    #[test]
    fn the_generator_never_changes() {
        // A seed written down in a regression test must keep its meaning.
        let mut choices = Choices::of_seed(42);
        let first: Vec<u64> = (0..3).map(|_| choices.below(1000)).collect();
        assert_eq!(first, [326, 149, 119]);
    }
}
