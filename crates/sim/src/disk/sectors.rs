//! The contents of one simulated file: what a reader sees now, and what is left of it when the
//! power goes.
//!
//! The disk model, which `docs/log-format.md` assumes:
//!
//! 1. A sector of 512 bytes is the unit of damage: after a loss of power each sector that was
//!    written since the last sync is, independently of all others, old, new, or unreadable.
//! 2. A sector that was not written since the last sync is untouched.
//! 3. The length is one that the file had since the last sync; where a write made it grow, also
//!    anything between (a file system grows a file as it writes its blocks, and cuts it in one step).
//! 4. A killed process loses nothing: what it wrote stays in the page cache.

use std::collections::BTreeSet;

use crate::choices::Choices;

/// The unit of damage in bytes.
pub const SECTOR_BYTES: usize = 512;

const ZEROS: [u8; SECTOR_BYTES] = [0; SECTOR_BYTES];

/// A file's bytes, with the way back to what is durable.
///
/// `undo` holds the durable contents of each sector that has been written since it was last
/// durable. What is not in it is durable as it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contents {
    bytes: Vec<u8>,
    durable_length: usize,
    /// Each change of the length since the last sync.
    lengths: Vec<LengthChange>,
    undo: Undo,
    unreadable: BTreeSet<usize>,
}

/// The durable contents of sectors that were written since. Most writes of a run end here, so none of
/// it allocates but to grow: the sectors' bytes lie behind one another.
#[derive(Clone, Debug, Default)]
struct Undo {
    /// For each sector, whether and where its old bytes are kept.
    kept: Vec<Kept>,
    /// The sectors that are kept, in the order in which they were first written.
    sectors: Vec<usize>,
    old: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kept {
    Not,
    Zeros,
    /// From this place in `old` on.
    Bytes(usize),
}

impl Undo {
    fn is_empty(&self) -> bool {
        self.sectors.is_empty()
    }

    fn of(&self, sector: usize) -> Kept {
        self.kept.get(sector).copied().unwrap_or(Kept::Not)
    }

    /// Keeps a sector that is not kept; what is missing of it beyond the file's end is zeros.
    fn keep(&mut self, sector: usize, present: &[u8]) {
        if self.kept.len() <= sector {
            self.kept.resize(sector + 1, Kept::Not);
        }
        self.sectors.push(sector);
        if present == &ZEROS[..present.len()] {
            self.kept[sector] = Kept::Zeros;
            return;
        }
        let place = self.old.len();
        self.kept[sector] = Kept::Bytes(place);
        self.old.extend_from_slice(present);
        self.old.resize(place + SECTOR_BYTES, 0);
    }

    fn old(&self, sector: usize) -> Option<&[u8]> {
        match self.of(sector) {
            Kept::Not => None,
            Kept::Zeros => Some(&ZEROS),
            Kept::Bytes(place) => Some(&self.old[place..place + SECTOR_BYTES]),
        }
    }

    /// Every kept sector, in rising order.
    fn sectors(&self) -> Vec<usize> {
        let mut sectors = self.sectors.clone();
        sectors.sort_unstable();
        sectors
    }

    /// Lets go of those sectors that `stays` is false for, asked in rising order. Their bytes stay
    /// until all are let go.
    fn retain(&mut self, mut stays: impl FnMut(usize) -> bool) {
        let kept = self.sectors();
        self.sectors.clear();
        for sector in kept {
            if stays(sector) {
                self.sectors.push(sector);
            } else {
                self.kept[sector] = Kept::Not;
            }
        }
    }

    fn clear(&mut self) {
        for sector in self.sectors.drain(..) {
            self.kept[sector] = Kept::Not;
        }
        self.old.clear();
    }
}

/// A change of a file's length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum LengthChange {
    /// A write made it grow to this.
    Grown(usize),
    /// It was set to this.
    Set(usize),
}

/// Why bytes cannot be read or written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Damage {
    /// The file ends before.
    End,
    /// The sector cannot be read.
    Unreadable,
}

/// The sectors that a range of bytes touches.
fn sectors_of(offset: usize, length: usize) -> std::ops::Range<usize> {
    if length == 0 {
        return 0..0;
    }
    offset / SECTOR_BYTES..(offset + length).div_ceil(SECTOR_BYTES)
}

impl Contents {
    pub(crate) fn length(&self) -> usize {
        self.bytes.len()
    }

    /// Whether anything would be at stake in a loss of power.
    pub(crate) fn is_durable(&self) -> bool {
        self.undo.is_empty() && self.lengths.is_empty()
    }

    pub(crate) fn read(&self, offset: usize, buffer: &mut [u8]) -> Result<(), Damage> {
        let end = offset.checked_add(buffer.len()).ok_or(Damage::End)?;
        if self.bytes.len() < end {
            return Err(Damage::End);
        }
        if self.unreadable.range(sectors_of(offset, buffer.len())).next().is_some() {
            return Err(Damage::Unreadable);
        }
        buffer.copy_from_slice(&self.bytes[offset..end]);
        Ok(())
    }

    /// Writes, growing the file when needed. A sector that cannot be read is healed by being
    /// written whole and cannot be written in part: the rest of it would have to be read first.
    pub(crate) fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<(), Damage> {
        let end = offset + bytes.len();
        for sector in sectors_of(offset, bytes.len()) {
            let start = sector * SECTOR_BYTES;
            let whole = offset <= start && start + SECTOR_BYTES <= end;
            if !whole && self.unreadable.contains(&sector) {
                return Err(Damage::Unreadable);
            }
        }
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
            if let Some(LengthChange::Grown(length)) = self.lengths.last_mut() {
                *length = end;
            } else {
                self.lengths.push(LengthChange::Grown(end));
            }
        }
        for sector in sectors_of(offset, bytes.len()) {
            self.remember(sector);
            if !self.unreadable.is_empty() {
                self.unreadable.remove(&sector);
            }
        }
        self.bytes[offset..end].copy_from_slice(bytes);
        Ok(())
    }

    pub(crate) fn set_length(&mut self, length: usize) {
        if length < self.bytes.len() {
            for sector in sectors_of(length, self.bytes.len() - length) {
                self.remember(sector);
            }
            self.unreadable.split_off(&length.div_ceil(SECTOR_BYTES));
        }
        if length != self.bytes.len() {
            self.lengths.push(LengthChange::Set(length));
        }
        self.bytes.resize(length, 0);
    }

    pub(crate) fn sync(&mut self) {
        self.undo.clear();
        self.lengths.clear();
        self.durable_length = self.bytes.len();
    }

    /// The disk writes some sectors back by itself, in any order, as it may at any time. They hold
    /// what they hold now, whatever is written over them later.
    pub(crate) fn write_back(&mut self, choices: &mut Choices) {
        self.undo.retain(|_| choices.below(2) == 0);
    }

    /// The power goes (rules 1 to 3). `unreadable` decides of each sector in flight whether it ends
    /// up unreadable; answers which did.
    pub(crate) fn lose_power(
        &mut self,
        choices: &mut Choices,
        unreadable: &mut dyn FnMut(&mut Choices) -> bool,
    ) -> Vec<usize> {
        let mut lost = Vec::new();
        if self.is_durable() {
            return lost;
        }
        let length = self.length_after_power_loss(choices);
        self.bytes.resize(length.max(self.bytes.len()), 0);
        let undo = std::mem::take(&mut self.undo);
        for sector in undo.sectors() {
            let start = sector * SECTOR_BYTES;
            if self.bytes.len() <= start {
                continue;
            }
            if unreadable(choices) {
                self.unreadable.insert(sector);
                lost.push(sector);
                continue;
            }
            if choices.below(2) == 0 {
                continue;
            }
            let end = self.bytes.len().min(start + SECTOR_BYTES);
            let old = undo.old(sector).expect("it is kept");
            self.bytes[start..end].copy_from_slice(&old[..end - start]);
        }
        self.bytes.truncate(length);
        self.unreadable.split_off(&length.div_ceil(SECTOR_BYTES));
        self.durable_length = length;
        lost.retain(|sector| sector * SECTOR_BYTES < length);
        lost
    }

    /// Puts other bytes in a place at rest: the durable ones and what a reader sees. Nothing happens
    /// beyond the file's end.
    pub(crate) fn overwrite(&mut self, offset: usize, bytes: &[u8]) {
        let end = self.bytes.len().min(offset + bytes.len());
        for (at, byte) in (offset..end).zip(bytes) {
            self.bytes[at] = *byte;
            if let Kept::Bytes(place) = self.undo.of(at / SECTOR_BYTES) {
                self.undo.old[place + at % SECTOR_BYTES] = *byte;
            }
        }
    }

    /// What a place holds, readable or not; `None` if the file ends before.
    pub(crate) fn held(&self, offset: usize, bytes: usize) -> Option<Vec<u8>> {
        Some(self.bytes.get(offset..offset.checked_add(bytes)?)?.to_vec())
    }

    /// The first sector from `from` on, and then from the beginning, that is not all zeros.
    pub(crate) fn used_sector(&self, from: usize) -> Option<usize> {
        let sectors = self.bytes.len() / SECTOR_BYTES;
        let used = |sector: &usize| self.bytes[sector * SECTOR_BYTES..][..SECTOR_BYTES] != ZEROS;
        (from.min(sectors)..sectors).chain(0..from.min(sectors)).find(used)
    }

    /// The durable contents: every sector and the length as they were when last made durable.
    pub(crate) fn durable_copy(&self) -> Contents {
        let mut bytes = self.bytes.clone();
        bytes.resize(self.durable_length, 0);
        for sector in self.undo.sectors() {
            let start = sector * SECTOR_BYTES;
            if start < bytes.len() {
                let end = bytes.len().min(start + SECTOR_BYTES);
                let old = self.undo.old(sector).expect("it is kept");
                bytes[start..end].copy_from_slice(&old[..end - start]);
            }
        }
        let mut unreadable = self.unreadable.clone();
        unreadable.split_off(&bytes.len().div_ceil(SECTOR_BYTES));
        let durable_length = bytes.len();
        Contents { bytes, durable_length, unreadable, ..Contents::default() }
    }

    /// Flips one bit, at rest: the durable bytes and what a reader sees.
    pub(crate) fn flip(&mut self, offset: usize, bit: u8) {
        if let Some(byte) = self.bytes.get_mut(offset) {
            *byte ^= 1 << (bit % 8);
        }
        if let Kept::Bytes(place) = self.undo.of(offset / SECTOR_BYTES) {
            self.undo.old[place + offset % SECTOR_BYTES] ^= 1 << (bit % 8);
        }
    }

    /// The sector at `offset` cannot be read any more.
    pub(crate) fn spoil(&mut self, offset: usize) {
        if offset < self.bytes.len() {
            self.unreadable.insert(offset / SECTOR_BYTES);
        }
    }

    fn length_after_power_loss(&mut self, choices: &mut Choices) -> usize {
        let changes = std::mem::take(&mut self.lengths);
        let happened = choices.between(0, changes.len() as u64) as usize;
        let length = |change: &LengthChange| match change {
            LengthChange::Grown(length) | LengthChange::Set(length) => *length,
        };
        let before = changes[..happened].last().map_or(self.durable_length, length);
        match changes.get(happened) {
            Some(LengthChange::Grown(after)) if choices.below(2) == 0 => {
                choices.between(before as u64, *after as u64) as usize
            }
            _ => before,
        }
    }

    /// Keeps the durable contents of a sector that is about to change.
    fn remember(&mut self, sector: usize) {
        if self.undo.of(sector) != Kept::Not {
            return;
        }
        let start = sector * SECTOR_BYTES;
        let end = self.bytes.len().min(start + SECTOR_BYTES).max(start);
        self.undo.keep(sector, self.bytes.get(start..end).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(contents: &Contents) -> Vec<u8> {
        let mut bytes = vec![0; contents.length()];
        contents.read(0, &mut bytes).expect("readable");
        bytes
    }

    fn synced(bytes: &[u8]) -> Contents {
        let mut contents = Contents::default();
        contents.write(0, bytes).expect("written");
        contents.sync();
        contents
    }

    #[test]
    fn what_is_synced_survives_a_loss_of_power() {
        for seed in 0..50 {
            let mut contents = synced(&[7; 3000]);
            contents
                .lose_power(&mut Choices::of_seed(seed), &mut |choices| choices.chance(500_000));
            assert_eq!(read(&contents), [7; 3000]);
        }
    }

    #[test]
    fn each_unsynced_sector_is_old_new_or_unreadable_by_itself() {
        let mut outcomes = BTreeSet::new();
        for seed in 0..200 {
            let mut contents = synced(&[1; 4 * SECTOR_BYTES]);
            contents.write(SECTOR_BYTES, &[2; 2 * SECTOR_BYTES]).expect("written");
            contents
                .lose_power(&mut Choices::of_seed(seed), &mut |choices| choices.chance(300_000));
            let mut outcome = Vec::new();
            for sector in 0..4 {
                let mut bytes = [0; SECTOR_BYTES];
                let readable = contents.read(sector * SECTOR_BYTES, &mut bytes).is_ok();
                assert!(!readable || bytes == [bytes[0]; SECTOR_BYTES], "sectors are whole");
                outcome.push(if readable { bytes[0] } else { 9 });
            }
            assert_eq!((outcome[0], outcome[3]), (1, 1), "untouched sectors are untouched");
            outcomes.insert((outcome[1], outcome[2]));
        }
        assert_eq!(outcomes.len(), 9, "every combination: {outcomes:?}");
    }

    #[test]
    fn an_unsynced_length_is_old_new_or_between() {
        let mut lengths = BTreeSet::new();
        for seed in 0..300 {
            let mut contents = synced(&[1; 100]);
            contents.write(100, &[2; 1000]).expect("written");
            contents.lose_power(&mut Choices::of_seed(seed), &mut |_| false);
            assert!((100..=1100).contains(&contents.length()));
            assert_eq!(read(&contents)[..100], [1; 100]);
            lengths.insert(contents.length());
        }
        assert!(lengths.contains(&100) && lengths.contains(&1100) && 3 < lengths.len());
    }

    #[test]
    fn a_cut_that_was_not_synced_may_come_back_with_its_bytes() {
        let (mut back, mut lengths) = (false, BTreeSet::new());
        for seed in 0..100 {
            let mut contents = synced(&[5; 1024]);
            contents.set_length(100);
            contents.set_length(600);
            assert_eq!(read(&contents)[100..], [0; 500], "a reader sees zeros");
            contents.lose_power(&mut Choices::of_seed(seed), &mut |_| false);
            let bytes = read(&contents);
            assert_eq!(bytes[..100], [5; 100]);
            lengths.insert(bytes.len());
            back |= bytes == [5; 1024];
        }
        assert!(back);
        assert_eq!(lengths, BTreeSet::from([100, 600, 1024]), "what is set is set in one step");
    }

    #[test]
    fn what_the_disk_wrote_back_by_itself_can_be_what_survives() {
        let mut survivors = BTreeSet::new();
        for seed in 0..100 {
            let mut choices = Choices::of_seed(seed);
            let mut contents = synced(&[1; SECTOR_BYTES]);
            contents.write(0, &[2; SECTOR_BYTES]).expect("written");
            contents.write_back(&mut choices);
            contents.write(0, &[3; SECTOR_BYTES]).expect("written");
            contents.lose_power(&mut choices, &mut |_| false);
            survivors.insert(read(&contents)[0]);
        }
        assert_eq!(survivors, BTreeSet::from([1, 2, 3]));
    }

    #[test]
    fn an_unreadable_sector_is_healed_by_a_whole_write_only() {
        let mut contents = synced(&[1; 3 * SECTOR_BYTES]);
        contents.spoil(SECTOR_BYTES + 5);
        assert_eq!(contents.read(SECTOR_BYTES, &mut [0; 1]), Err(Damage::Unreadable));
        assert_eq!(contents.read(0, &mut [0; SECTOR_BYTES]), Ok(()));
        assert_eq!(contents.write(SECTOR_BYTES + 1, &[2]), Err(Damage::Unreadable));
        assert_eq!(contents.write(SECTOR_BYTES, &[2; SECTOR_BYTES]), Ok(()));
        assert_eq!(contents.read(0, &mut [0; 3 * SECTOR_BYTES]), Ok(()));
        assert_eq!(contents.read(1, &mut [0; 3 * SECTOR_BYTES]), Err(Damage::End));
    }

    #[test]
    fn a_flipped_bit_is_flipped_for_good() {
        let mut contents = synced(&[0; 10]);
        contents.flip(3, 1);
        contents.lose_power(&mut Choices::of_seed(1), &mut |_| false);
        assert_eq!(read(&contents)[3], 2);
    }
}
