//! Finds out what a log holds after a crash. Reads only: whatever is decided, the files stay as
//! they are until [`crate::Wal::open`] begins a segment behind what was found.

use std::collections::BTreeSet;

use bytes::Bytes;
use jangada_raft::{Configuration, HardState, Index, Position, Range, canon};

use crate::batch::BatchHeader;
use crate::disk::Disk;
use crate::error::OpenError;
use crate::judge::{Expected, Judged, judge, segment_header, was_begun};
use crate::layout::{Place, SECTOR, segment_name, segment_number, spare_number};
use crate::options::Identity;
use crate::segment::{HeaderFault, SegmentHeader};
use crate::state::LogState;
use crate::table::{Decision, Observed};
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
    /// What it starts behind.
    pub(crate) start: Position,
    /// Where its batches end.
    pub(crate) end: u64,
}

/// All that opening a log needs to know.
#[derive(Debug)]
pub(crate) struct Survey {
    pub(crate) identity: Identity,
    pub(crate) state: LogState,
    /// The segments in use, oldest first; at least one.
    pub(crate) segments: Vec<SegmentPlace>,
    /// The newest segment's header.
    pub(crate) newest: SegmentHeader,
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
const SEGMENT_BYTES_LEAST: u64 = 4 * SECTOR as u64;

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

/// Reads the log. `applied` is the state machine's durable index.
pub(crate) fn survey<D: Disk>(disk: &D, applied: Index) -> Result<Survey, OpenError> {
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
    let mut reader = Reader::begin(openings, applied)?;
    reader.drop_unbegun(disk, &mut leftovers)?;
    reader.walk(disk, &mut leftovers)?;
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
struct Opening {
    number: u64,
    /// `None` if neither copy is sound, or it belongs elsewhere.
    header: Option<SegmentHeader>,
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

/// What follows from what stands at one place.
struct Step {
    decision: Decision,
    judged: Judged,
}

/// Walks over the batches of a log, oldest first.
struct Reader {
    openings: Vec<Opening>,
    applied: Index,
    identity: Identity,
    state: LogState,
    segments: Vec<SegmentPlace>,
    last_batch: Option<BatchHeader>,
    sequence: u64,
    crc: u32,
    /// Whether entries between the log's end and the next segment's start are lost.
    hole: bool,
    report: Report,
}

impl Reader {
    fn begin(openings: Vec<Opening>, applied: Index) -> Result<Reader, OpenError> {
        let mut headers = openings.iter().filter_map(|opening| opening.header.as_ref());
        let Some(header) = headers.next() else {
            let place = Place { segment: openings[0].number, offset: 0 };
            return Err(OpenError::Rot { place, after: Index(0), durable_applied: applied });
        };
        let identity = header.identity;
        if let Some(other) = headers.find(|other| other.identity != identity) {
            return Err(OpenError::AnotherIdentity {
                expected: identity,
                found: other.identity,
                place: Place { segment: other.number, offset: 0 },
            });
        }
        let (start, configuration) = (header.start, header.configuration.clone());
        let state = LogState::new(start, configuration, header.hard_state, header.note.clone());
        Ok(Reader {
            openings,
            applied,
            identity,
            state,
            segments: Vec::new(),
            last_batch: None,
            sequence: 0,
            crc: 0,
            hole: false,
            report: Report::default(),
        })
    }

    /// The newest segment may have been named and not begun: then it does not count. A first
    /// segment is always begun, since it gets its name only when it is whole.
    fn drop_unbegun<D: Disk>(
        &mut self,
        disk: &D,
        leftovers: &mut Vec<String>,
    ) -> Result<(), OpenError> {
        let newest = self.openings.last().expect("there is a segment");
        let number = newest.number;
        let name = segment_name(number);
        let file = disk.open(&name)?;
        let mut window = Window::new(&file)?;
        let begun = match newest.header.clone() {
            // A segment's file has its length before it has its name.
            None => window.length() < SEGMENT_BYTES_LEAST || was_begun(&mut window, number),
            Some(header) => {
                let step = self.step(&mut window, &header, None, header.opening_bytes())?;
                let ended = matches!(step.decision, Decision::End | Decision::Torn);
                if ended && self.openings.len() == 1 {
                    let offset = header.opening_bytes();
                    return Err(self.rot(Place { segment: number, offset }));
                }
                if step.decision == Decision::Torn {
                    self.report.torn = Some(Place { segment: number, offset: 0 });
                }
                !ended
            }
        };
        if begun || self.openings.len() == 1 {
            return Ok(());
        }
        self.openings.pop();
        leftovers.push(name);
        Ok(())
    }

    fn rot(&self, place: Place) -> OpenError {
        OpenError::Rot { place, after: self.state.last, durable_applied: self.applied }
    }

    /// Looks at the batch at `offset` and decides. `next` is the segment that follows.
    fn step<F: crate::disk::File>(
        &self,
        window: &mut Window<'_, F>,
        header: &SegmentHeader,
        next: Option<usize>,
        offset: u64,
    ) -> Result<Step, OpenError> {
        let next_header = next.and_then(|next| self.openings[next].header.as_ref());
        let restated = self.next_sound(next);
        let first = offset == header.opening_bytes();
        let expected = Expected {
            salt: header.salt,
            place: Place { segment: header.number, offset },
            sequence: if first { header.sequence } else { self.sequence },
            previous_crc: if first { header.previous_crc } else { self.crc },
            group: header.identity.group,
            limit: next_header.map_or(window.length(), |next| next.previous_end),
        };
        let judged = judge(window, &expected, header.capacity);
        if let Some((index, kind)) = judged.frames.unknown {
            return Err(OpenError::UnknownEntry { index, kind });
        }
        let later = next.map_or(&[][..], |next| &self.openings[next..]);
        let starts = later.iter().filter_map(|opening| opening.header.as_ref());
        let limit = starts.map(|header| header.start.index).min();
        let observed = Observed {
            header: judged.header_good,
            trailer: judged.trailer_good,
            frames: judged.list.is_some()
                && (judged.frames.bad.is_empty() || canon!(damaged_entries_are_taken)),
            blank: (judged.blank && !canon!(torn_tail_counts_as_rot))
                || canon!(rot_counts_as_a_torn_tail),
            stated: (judged.stated || next.is_some()) && !canon!(rot_counts_as_a_torn_tail),
            configuration: judged.frames.configuration_bad,
            dispensable: judged.list.as_ref().is_some_and(|(list, _)| {
                limit.map_or(list.last().index, |limit| limit.min(list.last().index))
                    <= self.applied
                    || canon!(rot_is_cut_whatever_it_held)
            }),
            restated: restated.is_some_and(|next| next.start.index <= self.applied),
        };
        Ok(Step { decision: observed.decide(), judged })
    }

    /// The header of the first segment from `next` on whose header is sound.
    fn next_sound(&self, next: Option<usize>) -> Option<&SegmentHeader> {
        self.openings[next?..].iter().find_map(|opening| opening.header.as_ref())
    }

    fn walk<D: Disk>(&mut self, disk: &D, leftovers: &mut Vec<String>) -> Result<(), OpenError> {
        let newest = self.openings.last().expect("there is a segment");
        if newest.header.is_none() {
            return Err(self.rot(Place { segment: newest.number, offset: 0 }));
        }
        for at in 0..self.openings.len() {
            let next = (at + 1 < self.openings.len()).then_some(at + 1);
            let number = self.openings[at].number;
            let Some(header) = self.openings[at].header.clone() else {
                self.skip(Place { segment: number, offset: 0 }, next)?;
                leftovers.push(segment_name(number));
                continue;
            };
            self.enter(&header);
            let file = disk.open(&segment_name(number))?;
            let mut window = Window::new(&file)?;
            let end = self.walk_segment(&mut window, &header, next)?;
            self.segments.push(SegmentPlace { number, start: header.start, end });
        }
        if self.applied < self.state.base.index {
            let base = self.state.base.index;
            return Err(OpenError::Missing { base, durable_applied: self.applied });
        }
        Ok(())
    }

    /// A segment begins: what it says is in force, and what the log holds behind its start is
    /// dropped.
    fn enter(&mut self, header: &SegmentHeader) {
        let start = header.start;
        let first = self.segments.is_empty();
        let follows = first || (header.sequence, header.previous_crc) == (self.sequence, self.crc);
        let known = self.state.term_at(start.index) == Some(start.term);
        if !self.hole && follows && known {
            self.state.truncate(start.index);
        } else {
            self.state.reset(start, header.configuration.clone());
        }
        self.hole = false;
        self.state.hard_state = header.hard_state;
        self.state.note = header.note.clone();
        self.sequence = header.sequence;
        self.crc = header.previous_crc;
    }

    /// Takes the batches of one segment and tells where they end.
    fn walk_segment<F: crate::disk::File>(
        &mut self,
        window: &mut Window<'_, F>,
        header: &SegmentHeader,
        next: Option<usize>,
    ) -> Result<u64, OpenError> {
        let next_header = next.and_then(|next| self.openings[next].header.as_ref());
        let limit = next_header.map_or(u64::MAX, |next| next.previous_end);
        // A successor whose header is lost leaves the end open; what is whole is taken.
        let mut offset = header.opening_bytes();
        while offset < limit {
            let step = self.step(window, header, next, offset)?;
            let place = Place { segment: header.number, offset };
            match (step.decision, step.judged.list) {
                (Decision::Accept, Some((list, list_at))) => {
                    let configurations = step.judged.frames.configurations;
                    let whole = step.judged.header_good && step.judged.trailer_good;
                    self.report.mended += u64::from(!whole);
                    offset += list.batch_bytes();
                    self.accept(list, list_at, configurations, place)?;
                }
                (Decision::CutAfter, Some((list, _))) => {
                    offset += list.batch_bytes();
                    self.cut_after(&list, step.judged.frames.configurations, place);
                }
                (Decision::Torn, _) => {
                    self.report.torn = Some(place);
                    return Ok(offset);
                }
                (Decision::End, _) => return Ok(offset),
                (Decision::CutSegment, _) => {
                    self.skip(place, next)?;
                    return Ok(offset);
                }
                (Decision::Refuse | Decision::Accept | Decision::CutAfter, _) => {
                    return Err(self.rot(place));
                }
            }
        }
        Ok(offset)
    }

    fn accept(
        &mut self,
        list: BatchHeader,
        list_at: u64,
        configurations: Vec<(Index, Configuration)>,
        place: Place,
    ) -> Result<(), OpenError> {
        // A batch that is sound and belongs here follows on the entry before it.
        if list.after != self.state.last_position() {
            return Err(self.rot(place));
        }
        let before = self.state.hard_state;
        self.state.append(&list, list_at, configurations);
        if canon!(newest_vote_is_not_recovered) {
            self.state.hard_state = before;
        }
        self.sequence = list.sequence + 1;
        self.crc = list.crc;
        self.last_batch = Some(list);
        Ok(())
    }

    /// The batch's entries are lost and the machine has them: the log begins behind them.
    fn cut_after(
        &mut self,
        list: &BatchHeader,
        mut configurations: Vec<(Index, Configuration)>,
        place: Place,
    ) {
        let configuration = match configurations.pop() {
            Some((_, newest)) => newest,
            None => self.state.configuration_at(self.state.last).clone(),
        };
        self.state.reset(list.last(), configuration);
        self.state.hard_state = list.hard_state;
        if let Some(note) = &list.note {
            self.state.note = note.clone();
        }
        self.sequence = list.sequence + 1;
        self.crc = list.crc;
        self.last_batch = None;
        self.report.cut = Some(RotCut { place, base: self.state.base });
    }

    /// The rest of the segment is lost: the log begins with the next one.
    fn skip(&mut self, place: Place, next: Option<usize>) -> Result<(), OpenError> {
        let header = self.next_sound(next).filter(|header| header.start.index <= self.applied);
        let Some(base) = header.map(|header| header.start) else { return Err(self.rot(place)) };
        self.report.cut = Some(RotCut { place, base });
        self.hole = true;
        self.last_batch = None;
        Ok(())
    }

    fn finish(mut self, leftovers: Vec<String>, spare_number: u64) -> Survey {
        let newest = self.openings.pop().and_then(|opening| opening.header);
        let newest = newest.expect("the newest header is sound");
        Survey {
            identity: self.identity,
            state: self.state,
            segments: self.segments,
            last_batch: self.last_batch.filter(|last| last.place.segment == newest.number),
            newest,
            sequence: self.sequence,
            crc: self.crc,
            leftovers,
            spare_number,
            report: self.report,
        }
    }
}
