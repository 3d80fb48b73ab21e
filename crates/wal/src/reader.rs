//! Walks over the batches of a log, oldest first, and takes what the table lets it take.
//!
//! Responsible for: the log as it is after a crash or rot, in memory. **Not** responsible for changing
//! any file.
//!
//! Invariants: (1) what is taken is contiguous; (2) of what is lost, the table and the machine's index
//! say that nobody needs it, or the log is marked as recovering, or opening fails; (3) a term or vote
//! that was seen anywhere is never taken back.

use jangada_raft::{Configuration, HardState, Index, NodeId, Position, canon};

use crate::batch::BatchHeader;
use crate::disk::{Disk, File};
use crate::error::OpenError;
use crate::judge::{Expected, Judged, judge, records, was_begun};
use crate::layout::{Place, segment_name};
use crate::options::Identity;
use crate::recover::{
    Beside, Lost, Opening, Report, RotCut, SEGMENT_BYTES_LEAST, SegmentPlace, Survey,
};
use crate::segment::SegmentHeader;
use crate::state::LogState;
use crate::table::{Decision, Observed};
use crate::window::Window;

/// The most bytes of damaged entries that are kept for the sake of their names. They are held in
/// memory while they are mended; what rots is a sector or a few, and where it is more the log ends
/// before them and the member recovers by replication.
const FAULTY_BYTES_MAX: u64 = 64 << 20;

/// What follows from what stands at one place.
struct Step {
    decision: Decision,
    judged: Judged,
    /// The later segment that the log goes on with, if the decision says so.
    target: Option<usize>,
}

/// How a segment was left.
enum Left {
    /// At its end.
    AtEnd,
    /// What is behind does not count: the log goes on with this opening.
    For(usize),
    /// What is behind is lost.
    Lost,
}

/// Walks over the batches of a log, oldest first.
pub(crate) struct Reader<'a> {
    openings: Vec<Opening>,
    beside: Beside<'a>,
    identity: Identity,
    state: LogState,
    segments: Vec<SegmentPlace>,
    last_batch: Option<BatchHeader>,
    last_is_faulty: bool,
    faulty_bytes: u64,
    /// Where the first damage stands whose entries are known, and the entry before its batch.
    first_fault: Option<Lost>,
    sequence: u64,
    crc: u32,
    /// Whether a segment has been entered, so that the state is the log's.
    entered: bool,
    /// Whether entries between the log's end and the next segment's start are lost.
    hole: bool,
    /// Whether the first batch of the newest segment was durable for certain: the segment is alone,
    /// or another was about to follow it.
    newest_is_begun: bool,
    report: Report,
}

impl<'a> Reader<'a> {
    pub(crate) fn begin(
        openings: Vec<Opening>,
        beside: Beside<'a>,
    ) -> Result<Reader<'a>, OpenError> {
        let mut headers = openings.iter().filter_map(|opening| opening.header.as_ref());
        let Some(header) = headers.next() else {
            let place = Place { segment: openings[0].number, offset: 0 };
            let durable_applied = beside.applied();
            return Err(OpenError::Rot { place, after: Index(0), durable_applied });
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
            newest_is_begun: openings.len() == 1,
            openings,
            beside,
            identity,
            state,
            segments: Vec::new(),
            last_batch: None,
            last_is_faulty: false,
            faulty_bytes: 0,
            first_fault: None,
            sequence: 0,
            crc: 0,
            entered: false,
            hole: false,
            report: Report::default(),
        })
    }

    /// The newest segment may have been named and not begun: then it does not count. A first
    /// segment is always begun, since it gets its name only when it is whole.
    pub(crate) fn drop_unbegun<D: Disk>(
        &mut self,
        disk: &D,
        leftovers: &mut Vec<String>,
    ) -> Result<(), OpenError> {
        if self.openings.len() == 1 {
            return Ok(());
        }
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
                if step.decision == Decision::Torn {
                    self.report.torn = Some(Place { segment: number, offset: 0 });
                }
                !matches!(step.decision, Decision::End | Decision::Torn)
            }
        };
        if !begun {
            self.openings.pop();
            leftovers.push(name);
            self.newest_is_begun = true;
        }
        Ok(())
    }

    fn rot(&self, place: Place) -> OpenError {
        self.rot_behind(Lost { place, after: self.state.last_position() })
    }

    fn rot_behind(&self, Lost { place, after }: Lost) -> OpenError {
        OpenError::Rot { place, after: after.index, durable_applied: self.beside.applied() }
    }

    /// Looks at the batch at `offset` and decides. `next` is the segment that follows.
    fn step<F: File>(
        &self,
        window: &mut Window<'_, F>,
        header: &SegmentHeader,
        next: Option<usize>,
        offset: u64,
    ) -> Result<Step, OpenError> {
        let next_header = next.and_then(|next| self.openings[next].header.as_ref());
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
        let applied = self.beside.applied();
        let later = next.map_or(&[][..], |next| &self.openings[next..]);
        let starts = later.iter().filter_map(|opening| opening.header.as_ref());
        let limit = starts.map(|header| header.start.index).min();
        let certain = first && self.newest_is_begun;
        let observed = Observed {
            header: judged.header_good,
            trailer: judged.trailer_good,
            frames: judged.list.is_some()
                && (judged.frames.bad.is_empty() || canon!(damaged_entries_are_taken)),
            blank: (judged.blank && !canon!(torn_tail_counts_as_rot))
                || canon!(rot_counts_as_a_torn_tail),
            stated: (judged.stated || next.is_some() || certain)
                && !canon!(rot_counts_as_a_torn_tail),
            configuration: judged.frames.configuration_bad,
            dispensable: judged.list.as_ref().is_some_and(|(list, _)| {
                limit.map_or(list.last().index, |limit| limit.min(list.last().index)) <= applied
                    || canon!(rot_is_cut_whatever_it_held)
            }),
            restated: self.restating(next).is_some(),
            superseded: self.superseding(next).is_some(),
        };
        let decision = observed.decide();
        let target = self.target(decision, next);
        Ok(Step { decision, judged, target })
    }

    fn target(&self, decision: Decision, next: Option<usize>) -> Option<usize> {
        match decision {
            Decision::Supersede => self.superseding(next),
            Decision::CutSegment => self.restating(next),
            _ => None,
        }
    }

    /// The first segment from `next` on that starts within what has been read: it drops whatever was
    /// behind its start, and restates what was in force.
    fn superseding(&self, next: Option<usize>) -> Option<usize> {
        let known = |header: &SegmentHeader| {
            self.entered
                && !self.hole
                && self.state.term_at(header.start.index) == Some(header.start.term)
        };
        self.first_from(next?, known)
    }

    /// The first segment from `next` on that starts within what the machine holds.
    fn restating(&self, next: Option<usize>) -> Option<usize> {
        self.first_from(next?, |header| header.start.index <= self.beside.applied())
    }

    fn first_from(&self, from: usize, fits: impl Fn(&SegmentHeader) -> bool) -> Option<usize> {
        let is_fit = |opening: &Opening| opening.header.as_ref().is_some_and(&fits);
        Some(from + self.openings[from..].iter().position(is_fit)?)
    }

    pub(crate) fn walk<D: Disk>(&mut self, disk: &D) -> Result<(), OpenError> {
        let mut at = 0;
        let mut forced = false;
        while at < self.openings.len() {
            let next = (at + 1 < self.openings.len()).then_some(at + 1);
            let number = self.openings[at].number;
            let left = match self.openings[at].header.clone() {
                Some(header) => {
                    self.enter(&header, forced);
                    let file = disk.open(&segment_name(number))?;
                    let mut window = Window::new(&file)?;
                    let (end, left) = self.walk_segment(&mut window, &header, next)?;
                    self.segments.push(SegmentPlace { number, start: header.start, end });
                    left
                }
                None => {
                    self.segments.push(SegmentPlace::void(number));
                    self.pass_lost_header(Place { segment: number, offset: 0 }, next)
                }
            };
            let to = match left {
                Left::AtEnd => at + 1,
                Left::For(target) => target,
                Left::Lost => {
                    self.lose(disk, at)?;
                    self.openings.len()
                }
            };
            forced = matches!(left, Left::For(_));
            let between = self.openings.get(at + 1..to).unwrap_or_default();
            self.segments.extend(between.iter().map(|opening| SegmentPlace::void(opening.number)));
            at = to;
        }
        self.check_what_is_missing()
    }

    /// What follows where neither copy of a segment's header is sound.
    fn pass_lost_header(&mut self, place: Place, next: Option<usize>) -> Left {
        let observed = Observed {
            stated: true,
            restated: self.restating(next).is_some(),
            superseded: self.superseding(next).is_some(),
            ..Observed::default()
        };
        let decision = observed.decide();
        self.pass(decision, self.target(decision, next), place)
    }

    /// Leaves a segment because of damage at `place`.
    fn pass(&mut self, decision: Decision, target: Option<usize>, place: Place) -> Left {
        self.last_batch = None;
        self.last_is_faulty = false;
        let Some(target) = target else {
            self.report.lost = Some(Lost { place, after: self.state.last_position() });
            return Left::Lost;
        };
        if decision == Decision::CutSegment {
            let header = self.openings[target].header.as_ref();
            let base = header.expect("only a sound header is a target").start;
            self.report.cut = Some(RotCut { place, base });
            self.hole = true;
        }
        Left::For(target)
    }

    /// A segment begins: what it says is in force, and what the log holds behind its start is
    /// dropped. It is `forced` when damage was passed by, so that the chain is broken.
    fn enter(&mut self, header: &SegmentHeader, forced: bool) {
        let start = header.start;
        let chained = (header.sequence, header.previous_crc) == (self.sequence, self.crc);
        // A segment begun behind a loss follows on what was sound then, whatever is readable now.
        let follows = !self.entered || forced || chained || header.recovering;
        let known = self.state.term_at(start.index) == Some(start.term);
        if !self.hole && follows && known {
            self.state.truncate(start.index);
        } else {
            self.state.reset(start, header.configuration.clone());
        }
        self.entered = true;
        self.hole = false;
        self.last_is_faulty = false;
        self.state.hard_state = header.hard_state;
        self.state.note = header.note.clone();
        self.state.recovering = header.recovering;
        self.sequence = header.sequence;
        self.crc = header.previous_crc;
    }

    /// Takes the batches of one segment and tells where they end and how it was left.
    fn walk_segment<F: File>(
        &mut self,
        window: &mut Window<'_, F>,
        header: &SegmentHeader,
        next: Option<usize>,
    ) -> Result<(u64, Left), OpenError> {
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
                (Decision::Keep, Some((list, list_at))) => {
                    self.faulty_bytes += bytes_of(&list, &step.judged.frames.bad);
                    if FAULTY_BYTES_MAX < self.faulty_bytes {
                        return Ok((offset, self.pass(Decision::Lose, None, place)));
                    }
                    offset += list.batch_bytes();
                    let configurations = step.judged.frames.configurations;
                    let after = self.state.last_position();
                    self.first_fault.get_or_insert(Lost { place, after });
                    self.accept(list, list_at, configurations, place)?;
                    self.keep_faulty(&step.judged.frames.bad, place);
                }
                (Decision::Torn, _) => {
                    self.report.torn = Some(place);
                    return Ok((offset, Left::AtEnd));
                }
                (Decision::End, _) => return Ok((offset, Left::AtEnd)),
                (decision, _) => return Ok((offset, self.pass(decision, step.target, place))),
            }
        }
        Ok((offset, Left::AtEnd))
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
        self.last_is_faulty = false;
        Ok(())
    }

    /// Some entries of the batch that was just taken are damaged, and known by name. The log begins
    /// behind those that the machine has: nobody needs to give them back.
    fn keep_faulty(&mut self, bad: &[Position], place: Place) {
        let applied = self.beside.applied();
        let (held, missing) = bad.split_at(bad.partition_point(|entry| entry.index <= applied));
        if let Some(last) = held.last() {
            self.state.advance_base(*last);
            self.report.cut = Some(RotCut { place, base: self.state.base });
        }
        self.state.keep_faulty(missing);
        self.last_batch = None;
        self.last_is_faulty = true;
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
        self.last_is_faulty = false;
        self.report.cut = Some(RotCut { place, base: self.state.base });
    }

    /// What stood in the opening at `at` from the damage on, and in all later ones, is lost: the log
    /// ends before it, and is marked. Term, vote and note are the newest that are seen anywhere.
    fn lose<D: Disk>(&mut self, disk: &D, at: usize) -> Result<(), OpenError> {
        let Lost { place, .. } = self.report.lost.expect("the loss has been noted");
        let Some(machine) = self.beside.machine() else { return Err(self.rot(place)) };
        if !self.entered {
            // Nothing tells behind what the log began; the machine holds what was before.
            self.state.reset(machine.applied, machine.configuration.clone());
            let applied = HardState { term: machine.applied.term, vote: None };
            self.state.hard_state = higher(self.state.hard_state, applied);
            self.entered = true;
        }
        self.report.lost = Some(Lost { place, after: self.state.last_position() });
        self.state.recovering = !canon!(lost_entries_leave_no_mark);
        let mut newest_note = (self.sequence, self.state.note.clone());
        for opening in &self.openings[at..] {
            let header = opening.header.as_ref();
            if let Some(header) = header {
                self.state.hard_state = higher(self.state.hard_state, header.hard_state);
                if newest_note.0 <= header.sequence {
                    newest_note = (header.sequence, header.note.clone());
                }
            }
            let file = disk.open(&segment_name(opening.number))?;
            let salt = header.map(|header| header.salt);
            records(&mut Window::new(&file)?, opening.number, salt, &mut |record| {
                self.state.hard_state = higher(self.state.hard_state, record.hard_state);
                if let Some(note) =
                    record.note.as_ref().filter(|_| newest_note.0 <= record.sequence)
                {
                    newest_note = (record.sequence, note.clone());
                }
            });
        }
        self.state.note = newest_note.1;
        // A vote of this term may be among what is lost. One for nobody but the member itself, which
        // does not stand in it, withholds it from everybody else.
        if !canon!(lost_vote_is_given_again) {
            self.state.hard_state.vote.get_or_insert(NodeId(self.identity.member));
        }
        Ok(())
    }

    /// Refuses what nobody can give back.
    fn check_what_is_missing(&self) -> Result<(), OpenError> {
        let applied = self.beside.applied();
        let base = self.state.base.index;
        // A machine that holds nothing though the log was cut behind it was lost since: it is given
        // another member's state. The log is whole.
        let machine_is_lost = self.beside.machine().is_some() && applied == Index(0);
        if applied < base && !machine_is_lost {
            return Err(OpenError::Missing { base, durable_applied: applied });
        }
        let fault = self.first_fault.filter(|_| !self.state.faulty().is_empty());
        let Some(lost) = self.report.lost.or(fault) else { return Ok(()) };
        let Some(machine) = self.beside.machine() else { return Err(self.rot_behind(lost)) };
        if self.is_alone(&machine.configuration) {
            return Err(OpenError::Alone { place: lost.place, after: lost.after.index });
        }
        Ok(())
    }

    /// Whether this member is the only voter of every configuration that is known.
    fn is_alone(&self, machines: &Configuration) -> bool {
        let stated = self.openings.iter().filter_map(|opening| opening.header.as_ref());
        let configurations = stated
            .map(|header| &header.configuration)
            .chain([self.state.configuration_at(self.state.last), machines]);
        let mut voters = configurations.flat_map(|c| c.voters.iter().chain(&c.outgoing)).peekable();
        voters.peek().is_some() && voters.all(|voter| *voter == NodeId(self.identity.member))
    }

    pub(crate) fn finish(mut self, leftovers: Vec<String>, spare_number: u64) -> Survey {
        let newest = self.openings.pop().expect("there is a segment");
        let of_newest = |last: &BatchHeader| last.place.segment == newest.number;
        Survey {
            identity: self.identity,
            state: self.state,
            segments: self.segments,
            last_batch: self.last_batch.filter(of_newest),
            last_is_faulty: self.last_is_faulty,
            newest,
            sequence: self.sequence,
            crc: self.crc,
            leftovers,
            spare_number,
            report: self.report,
        }
    }
}

/// The bytes of some of a batch's entries.
fn bytes_of(list: &BatchHeader, entries: &[Position]) -> u64 {
    let at = |position: &Position| (position.index.0 - list.after.index.0 - 1) as usize;
    entries.iter().map(|position| u64::from(list.entries[at(position)].length)).sum()
}

/// The later one of two; within a term, the one that tells of a vote.
fn higher(one: HardState, other: HardState) -> HardState {
    let votes = one.term == other.term && one.vote.is_none();
    let newer = one.term < other.term || votes;
    if newer { other } else { one }
}
