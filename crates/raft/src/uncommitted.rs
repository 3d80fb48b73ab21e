//! The bytes that a leader has proposed and not committed yet.
//!
//! Responsible for the bound that keeps a leader which is cut off from its quorum from growing
//! (thesis §6.2 lets it go on for an election timeout). Not responsible for refusing: it answers
//! whether there is room.
//!
//! Invariants:
//!
//! 1. `total` is the sum of the parcels' bytes.
//! 2. The parcels' last indexes rise strictly.

use std::collections::VecDeque;

use crate::contract::Index;

/// Neighbouring proposals are counted as one while they are smaller than this fraction of the
/// bound: the row then never holds more than twice as many parcels, however small the proposals
/// are, and bytes are given back late by at most this fraction.
const PARCELS: u64 = 1024;

/// What was proposed up to an index, in bytes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Parcel {
    last: Index,
    bytes: u64,
}

/// The proposals of the present leader that are not committed.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Uncommitted {
    parcels: VecDeque<Parcel>,
    total: u64,
}

impl Uncommitted {
    /// Whether `bytes` more may be proposed. The first proposal always may, whatever its size:
    /// otherwise one that is larger than the bound would never pass.
    pub(crate) fn has_room_for(&self, bytes: u64, bytes_max: u64) -> bool {
        self.total == 0 || self.total.saturating_add(bytes) <= bytes_max
    }

    /// Adds a proposal of `bytes` that ends at `last`.
    pub(crate) fn add(&mut self, last: Index, bytes: u64, bytes_max: u64) {
        self.total += bytes;
        if let Some(newest) = self.parcels.back_mut() {
            assert!(newest.last < last, "uncommitted invariant 2");
            if newest.bytes + bytes <= bytes_max / PARCELS {
                newest.last = last;
                newest.bytes += bytes;
                return;
            }
        }
        self.parcels.push_back(Parcel { last, bytes });
    }

    /// Takes out what is committed.
    pub(crate) fn commit(&mut self, commit: Index) {
        while let Some(oldest) = self.parcels.front().filter(|oldest| oldest.last <= commit) {
            self.total -= oldest.bytes;
            self.parcels.pop_front();
        }
    }

    /// The bytes proposed and not known to be committed.
    pub(crate) fn bytes(&self) -> u64 {
        self.total
    }

    /// Whether the invariants above hold.
    pub(crate) fn is_well_formed(&self) -> bool {
        let sum: u64 = self.parcels.iter().map(|parcel| parcel.bytes).sum();
        let mut pairs = self.parcels.iter().zip(self.parcels.iter().skip(1));
        sum == self.total && pairs.all(|(one, next)| one.last < next.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_proposal_always_passes_and_the_bound_holds_after_it() {
        let mut uncommitted = Uncommitted::default();
        assert!(uncommitted.has_room_for(1 << 40, 100));
        uncommitted.add(Index(1), 90, 100);
        assert!(uncommitted.has_room_for(10, 100));
        assert!(!uncommitted.has_room_for(11, 100));
        assert!(!uncommitted.has_room_for(u64::MAX, 100));
        uncommitted.commit(Index(1));
        assert_eq!(uncommitted.bytes(), 0);
    }

    #[test]
    fn the_row_stays_short_however_small_the_proposals_are() {
        let bytes_max = 1 << 20;
        let mut uncommitted = Uncommitted::default();
        for index in 1..=100_000 {
            uncommitted.add(Index(index), 10, bytes_max);
        }
        assert!(uncommitted.parcels.len() <= 2 * PARCELS as usize);
        assert!(uncommitted.is_well_formed());
        assert_eq!(uncommitted.bytes(), 1_000_000);
        uncommitted.commit(Index(50_000));
        assert!(500_000 <= uncommitted.bytes());
        assert!(uncommitted.bytes() <= 500_000 + bytes_max / PARCELS);
        uncommitted.commit(Index(100_000));
        assert_eq!(uncommitted.bytes(), 0);
    }
}
