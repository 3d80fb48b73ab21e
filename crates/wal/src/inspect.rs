//! Looks at a log from outside: offline, also when it is damaged, also while a process owns it.
//!
//! Responsible for: telling what stands in the files, in order. **Not** responsible for deciding
//! what a member may do with it: that is recovery's, which also knows the state machine's index.
//! Nothing is changed. Each segment is looked at on its own, and after damage the search goes on
//! with the next batch that is sound.

use jangada_entry::Header;
use jangada_raft::{Configuration, HardState, Index, Position};

use crate::batch::BatchHeader;
use crate::disk::{Disk, File};
use crate::error::OpenError;
use crate::judge::{Expected, Judged, check_frame, judge, record_at, segment_header};
use crate::layout::{Place, SECTOR, segment_name, spare_number};
use crate::options::Identity;
use crate::recover::segment_numbers;
use crate::segment::{HeaderFault, SegmentHeader};
use crate::window::Window;

/// What stands in a log, one thing at a time, in the order of the files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Finding {
    /// A segment begins.
    Segment(SegmentFinding),
    /// A batch.
    Batch(BatchFinding),
    /// An entry of the batch before.
    Entry(EntryFinding),
    /// Something is damaged.
    Damage(Damage),
    /// Something is damaged that no longer counts, since a later segment starts before it: it was
    /// repaired, or given up, or overwritten (§5.3).
    Dropped(Damage),
    /// A segment's batches end here.
    End {
        /// Where.
        place: Place,
        /// Why.
        end: End,
    },
    /// A file that is no part of the log.
    Spare {
        /// Its name.
        name: String,
    },
}

/// A segment's header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SegmentFinding {
    /// The segment's number.
    pub number: u64,
    /// The length of its file in bytes.
    pub file_bytes: u64,
    /// Whose log it is.
    pub identity: Identity,
    /// In force as of its first batch.
    pub hard_state: HardState,
    /// The entry behind which its entries follow; what earlier segments hold behind it is dropped.
    pub start: Position,
    /// The byte where the segment before ends.
    pub previous_end: u64,
    /// In force as of `start`.
    pub configuration: Configuration,
    /// The length of the note in force, in bytes.
    pub note_bytes: usize,
    /// Whether entries that were durable may be gone without a trace, so that the member neither votes
    /// nor counts while this is the newest segment.
    pub recovering: bool,
}

/// A batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BatchFinding {
    /// Where it stands.
    pub place: Place,
    /// Its length on disk in bytes.
    pub bytes: u64,
    /// Its number.
    pub sequence: u64,
    /// The term and vote in force.
    pub hard_state: HardState,
    /// The entry before its first.
    pub after: Position,
    /// Its number of entries.
    pub entries: usize,
    /// The length of its note in bytes, when it has one.
    pub note_bytes: Option<usize>,
    /// Whether header and trailer are both sound. One of them is.
    pub mirrored: bool,
}

/// An entry, as the batch lists it and as its frame says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EntryFinding {
    /// Its name.
    pub position: Position,
    /// Where its frame stands.
    pub place: Place,
    /// Its frame's length in bytes.
    pub bytes: u32,
    /// The number of its kind.
    pub kind: u8,
    /// Its header, when the frame is sound and of a known kind.
    pub header: Option<Header>,
}

/// Something damaged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Damage {
    /// Neither copy of a segment's header is sound.
    SegmentHeader {
        /// The segment.
        number: u64,
    },
    /// The segment is of a format that this version does not know.
    Format {
        /// The segment.
        number: u64,
        /// The format's version.
        found: u32,
    },
    /// A segment's file is shorter than its header says.
    Truncated {
        /// Where the file ends.
        place: Place,
        /// How long it was.
        file_bytes: u64,
    },
    /// From here to another place no batch is sound, though one was.
    Batch {
        /// From here.
        place: Place,
        /// To this byte of the same segment.
        until: u64,
    },
    /// One of a batch's two headers.
    Mirror {
        /// The batch.
        place: Place,
    },
    /// An entry's frame.
    Frame {
        /// Where it stands.
        place: Place,
        /// The entry.
        position: Position,
    },
}

/// Why a segment's batches end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Nothing has been written behind them.
    Unwritten,
    /// The next segment takes over here.
    Continued,
    /// A batch that is not whole: it was being written when the process or the power failed, or is
    /// being written by the log's owner just now.
    Torn,
}

/// How much was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    /// Segments in use.
    pub segments: u64,
    /// Batches.
    pub batches: u64,
    /// Entries, those included that a later segment drops.
    pub entries: u64,
    /// Damaged places that count.
    pub damaged: u64,
    /// Damaged places that a later segment drops.
    pub dropped: u64,
    /// Whether the newest segment whose header is sound says that the member has to recover.
    pub recovering: bool,
}

/// Tells `visit` of everything in the log.
///
/// # Errors
/// If there is no log, the folder is another program's, or the disk fails (a sector that cannot be
/// read is damage, not an error).
pub fn inspect<D: Disk>(disk: &D, visit: &mut dyn FnMut(Finding)) -> Result<Totals, OpenError> {
    let names = disk.list()?;
    let numbers: Vec<u64> = segment_numbers(&names)?.into_iter().collect();
    if numbers.is_empty() {
        return Err(OpenError::NoLog);
    }
    let mut totals = Totals::default();
    let mut starts = Starts::read(disk, &numbers)?;
    let mut count = |finding: Finding| {
        let finding = starts.see(finding);
        match &finding {
            Finding::Segment(segment) => {
                totals.segments += 1;
                totals.recovering = segment.recovering;
            }
            Finding::Batch(_) => totals.batches += 1,
            Finding::Entry(_) => totals.entries += 1,
            Finding::Damage(_) => totals.damaged += 1,
            Finding::Dropped(_) => totals.dropped += 1,
            Finding::End { .. } | Finding::Spare { .. } => {}
        }
        visit(finding);
    };
    for (at, number) in numbers.iter().enumerate() {
        let next = numbers.get(at + 1).filter(|next| **next == number + 1);
        let limit = match next {
            Some(next) => taken_over_at(disk, *next)?,
            None => None,
        };
        inspect_segment(disk, *number, limit, &mut count)?;
    }
    for name in names.into_iter().filter(|name| spare_number(name).is_some()) {
        count(Finding::Spare { name });
    }
    Ok(totals)
}

/// Behind which entries the segments start, and what has been read so far: tells what of the rest
/// counts.
struct Starts {
    /// The segments whose header is sound, oldest first.
    starts: Vec<(u64, Index)>,
    /// The segment that is being read.
    number: u64,
    /// The last entry before the place that is looked at.
    last: Index,
    /// The same, before the batch that is looked at.
    before: Index,
}

impl Starts {
    fn read<D: Disk>(disk: &D, numbers: &[u64]) -> Result<Starts, OpenError> {
        let mut starts = Vec::new();
        for number in numbers {
            let file = disk.open(&segment_name(*number))?;
            if let Ok(header) = segment_header(&mut Window::new(&file)?)
                && header.number == *number
            {
                starts.push((*number, header.start.index));
            }
        }
        Ok(Starts { starts, number: 0, last: Index(0), before: Index(0) })
    }

    /// Takes note of what is found, and says of damage whether it counts.
    fn see(&mut self, finding: Finding) -> Finding {
        let damage = match finding {
            Finding::Damage(damage) => damage,
            other => {
                self.follow(&other);
                return other;
            }
        };
        let last = match damage {
            Damage::SegmentHeader { number } => {
                self.number = number;
                self.last
            }
            Damage::Frame { position, .. } => position.index.previous(),
            Damage::Mirror { .. } => self.before,
            Damage::Format { .. } => return Finding::Damage(damage),
            Damage::Truncated { .. } | Damage::Batch { .. } => self.last,
        };
        let later = self.starts.iter().filter(|(number, _)| self.number < *number);
        let dropped = later.clone().any(|(_, start)| *start <= last);
        if dropped { Finding::Dropped(damage) } else { Finding::Damage(damage) }
    }

    fn follow(&mut self, finding: &Finding) {
        match finding {
            Finding::Segment(segment) => {
                self.number = segment.number;
                self.last = segment.start.index;
            }
            Finding::Batch(batch) => {
                self.before = batch.after.index;
                self.last = Index(batch.after.index.0 + batch.entries as u64);
            }
            _ => {}
        }
    }
}

/// Where the segment before `number` ends, when `number` was begun.
fn taken_over_at<D: Disk>(disk: &D, number: u64) -> Result<Option<u64>, OpenError> {
    let file = disk.open(&segment_name(number))?;
    let mut window = Window::new(&file)?;
    let Ok(header) = segment_header(&mut window) else { return Ok(None) };
    if header.number != number {
        return Ok(None);
    }
    let judged = judge(&mut window, &expected_first(&header, u64::MAX), header.capacity);
    let begun = judged.list.is_some() && judged.frames.bad.is_empty();
    Ok(begun.then_some(header.previous_end))
}

/// What the first batch of a segment must say.
fn expected_first(header: &SegmentHeader, limit: u64) -> Expected {
    Expected {
        salt: header.salt,
        place: Place { segment: header.number, offset: header.opening_bytes() },
        sequence: header.sequence,
        previous_crc: header.previous_crc,
        group: header.identity.group,
        limit,
    }
}

fn inspect_segment<D: Disk>(
    disk: &D,
    number: u64,
    limit: Option<u64>,
    visit: &mut dyn FnMut(Finding),
) -> Result<(), OpenError> {
    let file = disk.open(&segment_name(number))?;
    let mut window = Window::new(&file)?;
    let end = limit.unwrap_or(window.length()).min(window.length());
    let header = match segment_header(&mut window) {
        Ok(header) if header.number == number => header,
        Err(HeaderFault::Format(found)) => {
            visit(Finding::Damage(Damage::Format { number, found }));
            return Ok(());
        }
        Ok(_) | Err(HeaderFault::Bad) => {
            visit(Finding::Damage(Damage::SegmentHeader { number }));
            let Some(expected) = next_batch(&mut window, number, None, 0, end) else {
                return Ok(());
            };
            inspect_batches(&mut window, expected, None, limit, visit);
            return Ok(());
        }
    };
    visit(Finding::Segment(SegmentFinding {
        number,
        file_bytes: window.length(),
        identity: header.identity,
        hard_state: header.hard_state,
        start: header.start,
        previous_end: header.previous_end,
        configuration: header.configuration.clone(),
        note_bytes: header.note.len(),
        recovering: header.recovering,
    }));
    if window.length() < header.capacity {
        let place = Place { segment: number, offset: window.length() };
        visit(Finding::Damage(Damage::Truncated { place, file_bytes: header.capacity }));
    }
    let expected = expected_first(&header, end);
    inspect_batches(&mut window, expected, Some(header.capacity), limit, visit);
    Ok(())
}

/// What the first sound batch from `from` on says of itself.
fn next_batch<F: File>(
    window: &mut Window<'_, F>,
    number: u64,
    known: Option<&Expected>,
    from: u64,
    end: u64,
) -> Option<Expected> {
    let mut at = from;
    while at < end {
        let place = Place { segment: number, offset: at };
        let record = record_at(window, at).filter(|record| record.place == place);
        let fits = |record: &BatchHeader| known.is_none_or(|known| record.salt == known.salt);
        if let Some(record) = record.filter(fits) {
            return Some(Expected {
                salt: record.salt,
                place,
                sequence: record.sequence,
                previous_crc: record.previous_crc,
                // Without the segment's header, the first frame tells the group.
                group: known.map_or_else(|| group_of(window, &record), |known| known.group),
                limit: end,
            });
        }
        at += SECTOR as u64;
    }
    None
}

fn group_of<F: File>(window: &mut Window<'_, F>, record: &BatchHeader) -> u64 {
    let at = record.place.offset + record.frames_at();
    let bytes = window.bytes(at, jangada_entry::HEADER_BYTES as u64);
    bytes.and_then(|bytes| Header::decode(bytes).ok()).map_or(0, |header| header.group)
}

fn inspect_batches<F: File>(
    window: &mut Window<'_, F>,
    first: Expected,
    capacity: Option<u64>,
    limit: Option<u64>,
    visit: &mut dyn FnMut(Finding),
) {
    let mut expected = first;
    while expected.place.offset < expected.limit {
        let judged = judge(window, &expected, capacity.unwrap_or_default());
        let place = expected.place;
        if let Some((list, _)) = &judged.list {
            let torn = !judged.frames.bad.is_empty() && judged.blank && !judged.stated;
            if torn && limit.is_none() {
                visit(Finding::End { place, end: End::Torn });
                return;
            }
            visit_batch(window, &expected, &judged, list, visit);
            expected.place.offset += list.batch_bytes();
            expected.sequence = list.sequence + 1;
            expected.previous_crc = list.crc;
            continue;
        }
        let from = place.offset + SECTOR as u64;
        let next = next_batch(window, place.segment, Some(&expected), from, expected.limit);
        let damaged = limit.is_some() || judged.stated;
        if damaged {
            let until = next.as_ref().map_or(expected.limit, |next| next.place.offset);
            visit(Finding::Damage(Damage::Batch { place, until }));
        }
        match next {
            Some(next) => expected = next,
            None => {
                let end = match (damaged, limit, judged.blank) {
                    (_, Some(_), _) => End::Continued,
                    (true, None, _) | (false, None, true) => End::Unwritten,
                    (false, None, false) => End::Torn,
                };
                visit(Finding::End { place, end });
                return;
            }
        }
    }
    let end = if limit.is_some() { End::Continued } else { End::Unwritten };
    visit(Finding::End { place: expected.place, end });
}

/// Tells of a batch and its entries.
fn visit_batch<F: File>(
    window: &mut Window<'_, F>,
    expected: &Expected,
    judged: &Judged,
    list: &BatchHeader,
    visit: &mut dyn FnMut(Finding),
) {
    let place = expected.place;
    let mirrored = judged.header_good && judged.trailer_good;
    visit(Finding::Batch(BatchFinding {
        place,
        bytes: list.batch_bytes(),
        sequence: list.sequence,
        hard_state: list.hard_state,
        after: list.after,
        entries: list.entries.len(),
        note_bytes: list.note.as_ref().map(bytes::Bytes::len),
        mirrored,
    }));
    if !mirrored {
        visit(Finding::Damage(Damage::Mirror { place }));
    }
    let mut offset = place.offset + list.frames_at();
    let mut index = list.after.index;
    for summary in &list.entries {
        index = index.next();
        let position = Position { index, term: summary.term };
        let place = Place { segment: place.segment, offset };
        let bytes = window.bytes(offset, u64::from(summary.length)).unwrap_or_default();
        let found = check_frame(bytes, summary, index, expected.group);
        let header = found.good();
        let damaged = found.is_bad();
        visit(Finding::Entry(EntryFinding {
            position,
            place,
            bytes: summary.length,
            kind: summary.kind,
            header,
        }));
        if damaged {
            visit(Finding::Damage(Damage::Frame { place, position }));
        }
        offset += u64::from(summary.length);
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Finding::Segment(segment) => segment.fmt(f),
            Finding::Batch(batch) => batch.fmt(f),
            Finding::Entry(entry) => entry.fmt(f),
            Finding::Damage(damage) => damage.fmt(f),
            Finding::Dropped(damage) => write!(f, "{damage}; a later segment has dropped it"),
            Finding::End { place, end: End::Unwritten } => write!(f, "end at {place}"),
            Finding::End { place, end: End::Continued } => {
                write!(f, "end at {place}, the next segment goes on")
            }
            Finding::End { place, end: End::Torn } => {
                write!(f, "end at {place}, where a batch is not whole")
            }
            Finding::Spare { name } => write!(f, "{name} is no part of the log"),
        }
    }
}

/// `vote` as text.
fn vote(hard_state: HardState) -> String {
    hard_state.vote.map_or_else(|| "none".to_string(), |vote| vote.to_string())
}

/// A list of members as text.
fn members(list: &[jangada_raft::NodeId]) -> String {
    list.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

impl std::fmt::Display for SegmentFinding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Identity { cluster, member, incarnation, group } = self.identity;
        write!(
            f,
            "{} of {} bytes: cluster {cluster:x} member {member:x} life {incarnation:x} group \
             {group}, behind entry {} of term {}, term {} vote {}, voters [{}] outgoing [{}] \
             learners [{}], note of {} bytes{}",
            segment_name(self.number),
            self.file_bytes,
            self.start.index,
            self.start.term,
            self.hard_state.term,
            vote(self.hard_state),
            members(&self.configuration.voters),
            members(&self.configuration.outgoing),
            members(&self.configuration.learners),
            self.note_bytes,
            if self.recovering { ", recovering" } else { "" }
        )
    }
}

impl std::fmt::Display for BatchFinding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "batch {} at byte {} of {} bytes: term {} vote {}, {} entries behind {}",
            self.sequence,
            self.place.offset,
            self.bytes,
            self.hard_state.term,
            vote(self.hard_state),
            self.entries,
            self.after.index
        )?;
        match self.note_bytes {
            Some(bytes) => write!(f, ", note of {bytes} bytes"),
            None => Ok(()),
        }
    }
}

impl std::fmt::Display for EntryFinding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Position { index, term } = self.position;
        write!(f, "entry {index} of term {term} at byte {}", self.place.offset)?;
        write!(f, " of {} bytes: ", self.bytes)?;
        match self.header {
            Some(header) => write!(
                f,
                "{:?} version {} time {} from {:x}/{}",
                header.kind,
                header.version,
                header.time_ms,
                header.origin.incarnation,
                header.origin.sequence
            ),
            None => write!(f, "kind {}, not readable", self.kind),
        }
    }
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Damage::SegmentHeader { number } => {
                write!(f, "both headers of {} are damaged", segment_name(*number))
            }
            Damage::Format { number, found } => write!(
                f,
                "{} is of format {found}, which this version does not know",
                segment_name(*number)
            ),
            Damage::Truncated { place, file_bytes } => {
                write!(f, "the file ends at {place}, it had {file_bytes} bytes")
            }
            Damage::Batch { place, until } => {
                write!(f, "damage from {place} to byte {until}: no batch is sound")
            }
            Damage::Mirror { place } => {
                write!(f, "one of the two headers of the batch at {place} is damaged")
            }
            Damage::Frame { place, position: Position { index, term } } => {
                write!(f, "entry {index} of term {term} at {place} is damaged")
            }
        }
    }
}

impl Finding {
    /// The index of the entry, when it is one.
    #[must_use]
    pub fn index(&self) -> Option<Index> {
        match self {
            Finding::Entry(entry) => Some(entry.position.index),
            _ => None,
        }
    }
}
