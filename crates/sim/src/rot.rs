//! Bits that flip at rest in a member's log, found when its next process reads it.
//!
//! Responsible for choosing the bit and for telling what may follow: the member comes up with all
//! that it had, or it refuses its log with a sentence and stays down. One bit flips at a time; the
//! world lets it happen to a minority of the members at most, for what a member refuses is gone.

use jangada_entry::Kind;
use jangada_raft::Index;
use jangada_wal::inspect::{Finding, inspect};
use jangada_wal::{OpenError, Report};

use crate::choices::Choices;
use crate::disk::{DiskHandle, SimDisk};
use crate::invariants::Violation;
use crate::seat::Upset;

/// Where a bit flips, as seen from the index up to which the state machine is durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    /// In a batch whose entries the machine holds: the member can do without it.
    Below,
    /// In a batch of which the machine lacks something.
    Above,
}

/// A bit that is to flip when a member's log is opened next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Aim {
    side: Side,
    batch: u64,
    bit: u64,
}

/// A bit that has flipped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Flipped {
    file: String,
    offset: u64,
    side: Side,
    /// Whether the batch holds a configuration, which is in force beyond its index.
    configuration: bool,
}

/// How often bits flipped, and what members made of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RotCounts {
    /// In entries that the member's state machine held durably.
    pub below: u64,
    /// In entries that it did not.
    pub above: u64,
    /// The log was read by the other copy of what was damaged.
    pub mended: u64,
    /// The log began behind the damage, in a later life.
    pub cut: u64,
    /// The member refused its log and stayed down.
    pub refused: u64,
    /// The bit meant nothing.
    pub harmless: u64,
}

impl RotCounts {
    /// Adds another run's counts.
    pub fn add(&mut self, other: &RotCounts) {
        self.below += other.below;
        self.above += other.above;
        self.mended += other.mended;
        self.cut += other.cut;
        self.refused += other.refused;
        self.harmless += other.harmless;
    }

    pub(crate) fn flipped(&mut self, flipped: &Flipped) {
        match flipped.side {
            Side::Below => self.below += 1,
            Side::Above => self.above += 1,
        }
    }

    /// The member has opened its log.
    pub(crate) fn opened(&mut self, report: &Report) {
        match report {
            Report { cut: Some(_), .. } => self.cut += 1,
            Report { mended: 0, .. } => self.harmless += 1,
            Report { .. } => self.mended += 1,
        }
    }
}

impl std::fmt::Display for RotCounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let RotCounts { below, above, mended, cut, refused, harmless } = self;
        write!(
            f,
            "{below} below and {above} above the durable index: {mended} mended, {cut} cut, \
             {refused} refused, {harmless} harmless"
        )
    }
}

impl Aim {
    pub(crate) fn draw(choices: &mut Choices) -> Aim {
        let side = if choices.below(2) == 0 { Side::Below } else { Side::Above };
        Aim { side, batch: choices.bits(), bit: choices.bits() }
    }

    /// Flips the bit in a log whose machine is durable up to `applied`; `None` if no batch is on
    /// this side, or the process is dead.
    pub(crate) fn flip(
        self,
        disk: &SimDisk,
        handle: &DiskHandle,
        applied: Index,
    ) -> Option<Flipped> {
        let mut batches: Vec<(Flipped, u64)> = Vec::new();
        let looked = inspect(handle, &mut |finding| match finding {
            Finding::Batch(batch) => {
                let last = batch.after.index.0 + batch.entries as u64;
                let side = if last <= applied.0 { Side::Below } else { Side::Above };
                let file = format!("segment-{:016x}", batch.place.segment);
                let offset = batch.place.offset;
                batches.push((Flipped { file, offset, side, configuration: false }, batch.bytes));
            }
            Finding::Entry(entry) if entry.kind == Kind::Configuration as u8 => {
                let (batch, _) = batches.last_mut().expect("an entry follows its batch");
                batch.configuration = true;
            }
            _ => {}
        });
        looked.ok()?;
        batches.retain(|(batch, _)| batch.side == self.side);
        let count = u64::try_from(batches.len()).expect("batches are countable");
        let chosen = self.batch.checked_rem(count)?;
        let (mut flipped, bytes) = batches.swap_remove(chosen as usize);
        flipped.offset += self.bit / 8 % bytes;
        disk.flip(&flipped.file, flipped.offset, (self.bit % 8) as u8).ok()?;
        Some(flipped)
    }
}

/// Judges why a member whose log was damaged does not start. `flips` is how many of its bits have
/// flipped so far in the run.
///
/// # Errors
/// If the member could have done without what is lost: the machine holds it, it is no
/// configuration, and no earlier damage was in the way.
pub(crate) fn refuses(upset: &Upset, flipped: &Flipped, flips: u64) -> Result<(), Violation> {
    let refused = matches!(upset, Upset::Open(OpenError::Rot { .. }));
    let needed = flipped.side == Side::Above || flipped.configuration || 1 < flips;
    if refused && needed {
        return Ok(());
    }
    Err(Violation {
        invariant: "a member stops only over damage that it cannot do without",
        seen: format!("{flipped:?}, {flips} in all: {upset}"),
    })
}
