//! Finds out what a log holds after a crash. Reads only: whatever is decided, the files stay as
//! they are until [`crate::Wal::open`] begins a segment behind what was found.

use std::collections::BTreeSet;

use bytes::Bytes;
use jangada_raft::{Configuration, HardState, Index, Position, Range};

use crate::batch::BatchHeader;
use crate::disk::Disk;
use crate::error::OpenError;
use crate::judge::segment_header;
use crate::layout::{Place, SECTOR, segment_name, segment_number, spare_number};
use crate::machine::Machine;
use crate::options::Identity;
use crate::reader::Reader;
use crate::segment::{HeaderFault, SegmentHeader};
use crate::state::LogState;
use crate::window::Window;

/// What a log held when it was opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovered {
    /// Whose log it is.
    pub identity: Identity,
    /// The durable term and vote.
    pub hard_state: HardState,
    /// The newest note; empty if none was ever written.
    pub note: Bytes,
    /// In force at the end of the log (§6: as soon as it is appended).
    pub configuration: Configuration,
    /// In force where the log begins.
    pub base_configuration: Configuration,
    /// Those among the log's entries, by index.
    pub configurations: Vec<(Index, Configuration)>,
    /// The names of the entries; `prev` is where the retained log begins.
    pub range: Range,
    /// Those of them whose payloads are damaged, while their names are known for certain:
    /// [`crate::Wal::repair`] takes them from elsewhere.
    pub faulty: Vec<Position>,
    /// Entries that were durable may be gone without a trace, in this life of the process or an
    /// earlier one: the member neither votes nor counts until it holds again what a leader held,
    /// and [`crate::Wal::end_recovering`] has been told so.
    pub recovering: bool,
    /// What was found.
    pub report: Report,
}

/// What was found when a log was opened, beside the log itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Where a batch stood that the power failed in the middle of. It was never durable.
    pub torn: Option<Place>,
    /// Damage that the state machine does not need, and where the log begins therefore.
    pub cut: Option<RotCut>,
    /// Damage of which nothing tells what it held, and where the log ends therefore.
    pub lost: Option<Lost>,
    /// How many entries are damaged, their names being known.
    pub faulty: u64,
    /// The machine was ahead of the log, which begins anew behind this entry.
    pub anew: Option<Position>,
    /// How many batches were whole though a copy of their header was not.
    pub mended: u64,
}

/// Damage that the log was cut behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RotCut {
    /// Where the last damage stands.
    pub place: Place,
    /// The entry behind which the log begins.
    pub base: Position,
}

/// Damage that took entries without a trace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lost {
    /// Where it stands.
    pub place: Place,
    /// The last entry before it: the log's last one.
    pub after: Position,
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if *self == Report::default() {
            return write!(f, "the log is clean");
        }
        let mut join = "";
        if let Some(place) = self.torn {
            write!(f, "a batch was being written when the power failed: cut at {place}")?;
            join = "; ";
        }
        if let Some(RotCut { place, base }) = self.cut {
            write!(
                f,
                "{join}damage at {place}, in entries that the state machine holds: the log begins \
                 behind entry {}; check the disk",
                base.index
            )?;
            join = "; ";
        }
        if let Some(Lost { place, after }) = self.lost {
            write!(
                f,
                "{join}damage at {place}: what was behind entry {} is lost, and the member does \
                 not vote until the others have given it back; check the disk",
                after.index
            )?;
            join = "; ";
        }
        if 0 < self.faulty {
            write!(
                f,
                "{join}{} entries are damaged and have to come from the other members; check the \
                 disk",
                self.faulty
            )?;
            join = "; ";
        }
        if let Some(position) = self.anew {
            write!(
                f,
                "{join}the state machine was ahead of the log, which begins anew behind entry {}",
                position.index
            )?;
            join = "; ";
        }
        if 0 < self.mended {
            write!(f, "{join}{} batches were read by one copy of their header", self.mended)?;
        }
        Ok(())
    }
}

/// A segment that is in use.
#[derive(Clone, Debug)]
pub(crate) struct SegmentPlace {
    pub(crate) number: u64,
    /// What it starts behind; [`SegmentPlace::NOWHERE`] if nothing of it counts.
    pub(crate) start: Position,
    /// Where its batches end.
    pub(crate) end: u64,
}

impl SegmentPlace {
    /// Where a segment starts of which nothing counts: it stays for the sake of the unbroken
    /// numbers, until all before it goes.
    const NOWHERE: Position = Position { index: Index(u64::MAX), term: jangada_raft::Term(0) };

    /// A segment of which nothing counts.
    pub(crate) fn void(number: u64) -> SegmentPlace {
        SegmentPlace { number, start: SegmentPlace::NOWHERE, end: 0 }
    }
}

/// All that opening a log needs to know.
#[derive(Debug)]
pub(crate) struct Survey {
    pub(crate) identity: Identity,
    pub(crate) state: LogState,
    /// The segments in use, oldest first; at least one.
    pub(crate) segments: Vec<SegmentPlace>,
    /// The newest segment's number, and its header where that is sound.
    pub(crate) newest: Opening,
    /// Whether the newest batch is damaged in part, so that no copy can be made of it.
    pub(crate) last_is_faulty: bool,
    /// The newest batch that was taken, if it is the log's last: the only one that nothing states
    /// to be durable.
    pub(crate) last_batch: Option<BatchHeader>,
    /// The number and the crc that the next batch names.
    pub(crate) sequence: u64,
    pub(crate) crc: u32,
    /// Files that do not count: left over from a cut, or never begun.
    pub(crate) leftovers: Vec<String>,
    /// The highest number of a spare file.
    pub(crate) spare_number: u64,
    pub(crate) report: Report,
}

/// The least length of a segment's file: two headers, a batch's header and its trailer.
pub(crate) const SEGMENT_BYTES_LEAST: u64 = 4 * SECTOR as u64;

/// Names that only an etcd data directory has.
const FOREIGN: [&str; 3] = ["member", "snap", "wal"];

/// The numbers of the segment files, oldest first.
///
/// # Errors
/// If the folder is another program's, or the disk fails.
pub(crate) fn segment_numbers(names: &[String]) -> Result<BTreeSet<u64>, OpenError> {
    let numbers: BTreeSet<u64> = names.iter().filter_map(|name| segment_number(name)).collect();
    let is_foreign = |name: &&String| FOREIGN.contains(&name.as_str()) || name.ends_with(".wal");
    match names.iter().find(is_foreign) {
        Some(name) if numbers.is_empty() => Err(OpenError::Foreign { name: name.clone() }),
        _ => Ok(numbers),
    }
}

/// How far the state machine is, as far as whoever opens the log tells.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Beside<'a> {
    /// Its durable index. What it lacks and the log has lost is refused.
    Index(Index),
    /// All about it. What it lacks and the log has lost is to come from the other members.
    Machine(&'a Machine),
}

impl<'a> Beside<'a> {
    pub(crate) fn applied(self) -> Index {
        match self {
            Beside::Index(index) => index,
            Beside::Machine(machine) => machine.applied.index,
        }
    }

    pub(crate) fn machine(self) -> Option<&'a Machine> {
        match self {
            Beside::Index(_) => None,
            Beside::Machine(machine) => Some(machine),
        }
    }
}

/// Reads the log.
pub(crate) fn survey<D: Disk>(disk: &D, beside: Beside<'_>) -> Result<Survey, OpenError> {
    let names = disk.list()?;
    let numbers = segment_numbers(&names)?;
    let mut leftovers: Vec<String> =
        names.iter().filter(|name| spare_number(name).is_some()).cloned().collect();
    let spare_number = names.iter().filter_map(|name| spare_number(name)).max().unwrap_or(0);
    let mut openings = Vec::new();
    for number in run_of(&numbers) {
        openings.push(Opening::read(disk, number)?);
    }
    let first = openings.first().ok_or(OpenError::NoLog)?.number;
    leftovers.extend(numbers.range(..first).map(|number| segment_name(*number)));
    let mut reader = Reader::begin(openings, beside)?;
    reader.drop_unbegun(disk, &mut leftovers)?;
    reader.walk(disk)?;
    Ok(reader.finish(leftovers, spare_number))
}

/// The newest unbroken run of segment numbers. What stands before a gap is left over from a cut;
/// if it is not, the log's base is above what the machine holds, and that is refused in the end.
fn run_of(numbers: &BTreeSet<u64>) -> Vec<u64> {
    let mut run: Vec<u64> = Vec::new();
    for number in numbers.iter().rev() {
        if run.last().is_some_and(|newer| *newer != number + 1) {
            break;
        }
        run.push(*number);
    }
    run.reverse();
    run
}

/// The beginning of a segment file.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) number: u64,
    /// `None` if neither copy is sound, or it belongs elsewhere.
    pub(crate) header: Option<SegmentHeader>,
}

impl Opening {
    fn read<D: Disk>(disk: &D, number: u64) -> Result<Opening, OpenError> {
        let file = disk.open(&segment_name(number))?;
        let header = match segment_header(&mut Window::new(&file)?) {
            Ok(header) if header.number == number => Some(header),
            Ok(_) | Err(HeaderFault::Bad) => None,
            Err(HeaderFault::Format(found)) => return Err(OpenError::Format { found }),
        };
        Ok(Opening { number, header })
    }
}
