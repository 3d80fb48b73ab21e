//! Damage at rest in a member's log: chooses the place and does it.
//!
//! Responsible for leaving the log in a state that a disk can leave it in, and for telling what of it
//! the member can do without. What may follow is the ledger's business.
//!
//! 1. The last batch keeps all but a bit. Whatever else it lost could not be told from a batch that
//!    was being written when the power went (`docs/log-format.md`, "What is not protected").

use jangada_entry::Kind;
use jangada_raft::Index;
use jangada_wal::inspect::{Finding, inspect};

use crate::choices::Choices;
use crate::disk::ledger::{Damage, Side};
use crate::disk::sectors::SECTOR_BYTES;
use crate::disk::{DamagedPlace, SimDisk};
use crate::faults::Fault;

/// How many sectors a misdirected write has at most: a page.
const MISDIRECTED_SECTORS_MAX: u64 = 8;

/// A bit that is to flip when a member's log is opened next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Aim {
    side: Side,
    batch: u64,
    bit: u64,
}

/// A batch of the log, as it lies on the disk.
#[derive(Clone, Debug)]
struct Batch {
    file: String,
    offset: u64,
    bytes: u64,
    side: Side,
    configuration: bool,
}

impl Batch {
    fn damaged(&self, fault: Fault, offset: u64, bytes: u64) -> Damage {
        let place = DamagedPlace { fault, file: self.file.clone(), offset, bytes };
        Damage { side: Some(self.side), configuration: self.configuration, ..Damage::at(place) }
    }

    /// A sector of the batch.
    fn sector(&self, choices: &mut Choices) -> u64 {
        let sectors = self.bytes / SECTOR_BYTES as u64;
        self.offset + choices.below(sectors) * SECTOR_BYTES as u64
    }
}

/// The batches of a log whose machine is durable up to `applied`, oldest first.
fn batches(disk: &SimDisk, applied: Index) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    let looked = inspect(&disk.observer(), &mut |finding| match finding {
        Finding::Batch(batch) => {
            let last = batch.after.index.0 + batch.entries as u64;
            batches.push(Batch {
                file: format!("segment-{:016x}", batch.place.segment),
                offset: batch.place.offset,
                bytes: batch.bytes,
                side: if last <= applied.0 { Side::Below } else { Side::Above },
                configuration: false,
            });
        }
        Finding::Entry(entry) if entry.kind == Kind::Configuration as u8 => {
            let batch = batches.last_mut().expect("an entry follows its batch");
            batch.configuration = true;
        }
        _ => {}
    });
    match looked {
        Ok(_) => batches,
        Err(_) => Vec::new(),
    }
}

impl Aim {
    pub(crate) fn draw(choices: &mut Choices) -> Aim {
        let side = if choices.below(2) == 0 { Side::Below } else { Side::Above };
        Aim { side, batch: choices.bits(), bit: choices.bits() }
    }

    /// Flips the bit in a log whose machine is durable up to `applied`; `None` if no batch is on
    /// this side.
    pub(crate) fn flip(self, disk: &SimDisk, applied: Index) -> Option<Damage> {
        let mut batches = batches(disk, applied);
        batches.retain(|batch| batch.side == self.side);
        let count = u64::try_from(batches.len()).expect("batches are countable");
        let batch = &batches[self.batch.checked_rem(count)? as usize];
        let offset = batch.offset + self.bit / 8 % batch.bytes;
        disk.flip(&batch.file, offset, (self.bit % 8) as u8).ok()?;
        Some(batch.damaged(Fault::BitFlipped, offset, 1))
    }
}

/// Makes a sector of the log unreadable; `None` if there is no batch for it (rot invariant 1).
pub(crate) fn spoil(disk: &SimDisk, applied: Index, choices: &mut Choices) -> Option<Damage> {
    let mut batches = batches(disk, applied);
    batches.pop()?;
    let count = u64::try_from(batches.len()).expect("batches are countable");
    let batch = &batches[choices.bits().checked_rem(count)? as usize];
    let offset = batch.sector(choices);
    disk.spoil(&batch.file, offset).ok()?;
    Some(batch.damaged(Fault::SectorSpoiled, offset, SECTOR_BYTES as u64))
}

/// Lets a write of the past have landed elsewhere: its place in the log holds the zeros that were
/// there before, and another place, in the log or in the engine's file, holds its bytes. Empty if
/// there is no batch for it (rot invariant 1).
pub(crate) fn misdirect(
    disk: &SimDisk,
    engine: Option<&str>,
    applied: Index,
    choices: &mut Choices,
) -> Vec<Damage> {
    let mut batches = batches(disk, applied);
    batches.pop();
    if batches.is_empty() {
        return Vec::new();
    }
    let sector = SECTOR_BYTES as u64;
    let from = choices.pick(&batches).clone();
    let start = from.sector(choices);
    let sectors = choices.between(1, MISDIRECTED_SECTORS_MAX);
    let bytes = (sectors * sector).min(from.offset + from.bytes - start);
    let Ok(content) = disk.content(&from.file, start, bytes) else { return Vec::new() };
    let zeros = vec![0; content.len()];
    let mut damages = Vec::new();
    if disk.overwrite(&from.file, start, &zeros).is_ok() {
        damages.push(from.damaged(Fault::WriteMisdirected, start, bytes));
    }
    let (to, at) = match (choices.below(3), engine) {
        (0, _) => {
            let to = choices.pick(&batches).clone();
            let at = to.sector(choices).min(to.offset + to.bytes - bytes.min(to.bytes));
            (Some(to), at)
        }
        (1, Some(engine)) => {
            let part = choices.below(1_000_000);
            if let Ok(Some(at)) = disk.used_place(engine, part)
                && disk.overwrite(engine, at, &content).is_ok()
            {
                damages.push(Damage::at(DamagedPlace {
                    fault: Fault::WriteMisdirected,
                    file: engine.to_owned(),
                    offset: at,
                    bytes,
                }));
            }
            (None, 0)
        }
        _ => (None, 0),
    };
    if let Some(to) = to {
        let bytes = bytes.min(to.bytes);
        if disk.overwrite(&to.file, at, &content[..bytes as usize]).is_ok() {
            damages.push(to.damaged(Fault::WriteMisdirected, at, bytes));
        }
    }
    damages
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use jangada_entry::{Draft, Origin};
    use jangada_raft::{Configuration, HardState, NodeId, Position, Term};
    use jangada_wal::{Batch as LogBatch, Identity, OpenError, Options, Wal};

    use super::*;

    /// A log of ten batches with a hundred bytes each.
    fn written(disk: &SimDisk) {
        let identity = Identity { cluster: 1, member: 1, incarnation: 1, group: 0 };
        let options = Options { seed: Some(1), ..Options::default() };
        let configuration = Configuration::of_voters([NodeId(1)]);
        let (mut wal, _) = Wal::create(disk.handle(), options, identity, configuration)
            .expect("an empty folder takes a log");
        for index in 1..=10 {
            let mut draft = Draft::buffer(100);
            draft.extend_from_slice(&[7; 100]);
            let position = Position { index: Index(index), term: Term(1) };
            let frame =
                Draft::new(draft, Kind::Command, 1, 0, Origin::default()).stamp(position, 0);
            let hard_state = HardState { term: Term(1), vote: None };
            let batch = LogBatch {
                hard_state,
                note: None::<Bytes>,
                after: Index(index - 1),
                entries: &[frame],
            };
            wal.append(&batch).expect("appended");
        }
    }

    fn open(disk: &SimDisk, applied: u64) -> Result<Index, OpenError> {
        let options = Options { seed: Some(2), ..Options::default() };
        let (wal, _) = Wal::open(disk.handle(), options, Index(applied))?;
        Ok(wal.last_position().index)
    }

    #[test]
    fn whatever_befalls_the_log_it_is_whole_cut_below_or_refused() {
        let mut outcomes = [0; 2];
        for seed in 0..60 {
            let mut choices = Choices::of_seed(seed);
            let disk = SimDisk::new();
            written(&disk);
            let applied = choices.below(11);
            let damages = match seed % 2 {
                0 => spoil(&disk, Index(applied), &mut choices).into_iter().collect(),
                _ => misdirect(&disk, None, Index(applied), &mut choices),
            };
            assert!(!damages.is_empty());
            match open(&disk, applied) {
                Ok(last) => {
                    assert_eq!(last, Index(10), "seed {seed}: {damages:?}");
                    outcomes[0] += 1;
                }
                Err(OpenError::Rot { .. }) => {
                    let needed = damages.iter().any(Damage::is_needed);
                    assert!(needed, "seed {seed}: {damages:?}");
                    outcomes[1] += 1;
                }
                Err(error) => panic!("seed {seed}: {error}"),
            }
        }
        assert!(outcomes.iter().all(|count| 5 < *count), "{outcomes:?}");
    }
}
