//! The crash points of short histories of the log: what is done, where it is cut off, what may be
//! left, and the model that it is compared with.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use jangada_raft::{Configuration, HardState, Index, NodeId, Position};
use jangada_wal::inspect::{Finding, inspect};
use jangada_wal::{Anew, Batch, Machine, Recovered, Wal, WalError};

use crate::support::fault::{Fate, Fault, FaultDisk, SECTOR, State};
use crate::support::{
    command, configuration, configuration_entry, identity, options, position, vote,
};

/// One step of a history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Operation {
    /// Appends one small entry.
    Small,
    /// Appends three entries over several sectors.
    Large,
    /// A new term and a vote, no entries.
    Vote,
    /// A new term that drops the last two entries and appends one.
    Drop,
    /// A configuration and a note.
    Configure,
    /// Everything so far is applied, durably; the log is cut behind it.
    Cut,
    /// A spare segment is made.
    Prepare,
    /// The process ends and opens the log again.
    Reopen,
    /// A snapshot has been installed; the log begins anew behind it.
    Anew,
    /// The process ends, the payload of an entry rots, and the log is opened again.
    RotPayload,
    /// The same, and the list of a batch with what it holds.
    RotList,
    /// What rotted comes from elsewhere.
    Repair,
    /// What rotted is given up.
    GiveUp,
    /// The member has recovered.
    EndRecovering,
}

pub(crate) use Operation::{
    Anew as BeginAnew, Configure, Cut, Drop, EndRecovering, GiveUp, Large, Prepare, Reopen, Repair,
    RotList, RotPayload, Small, Vote,
};

/// What befalls a log that does not rot.
pub(crate) const ALL: [Operation; 9] =
    [Small, Large, Vote, Drop, Configure, Cut, Prepare, Reopen, BeginAnew];

/// What the log must hold.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Model {
    pub(crate) hard_state: HardState,
    /// Term and size of payload of each entry ever written and not dropped; 0 bytes for a
    /// configuration.
    pub(crate) entries: BTreeMap<u64, (u64, usize)>,
    pub(crate) configurations: BTreeMap<u64, Configuration>,
    pub(crate) note: Bytes,
    pub(crate) applied: u64,
    /// Where the newest snapshot that was installed ends, and the configuration there.
    pub(crate) base: Position,
    pub(crate) base_configuration: Option<Configuration>,
    /// Entries whose payloads have rotted.
    pub(crate) faulty: BTreeSet<u64>,
    pub(crate) recovering: bool,
    /// Whether anything has rotted so far, which reports may tell of.
    pub(crate) has_rotted: bool,
}

impl Model {
    pub(crate) fn last(&self) -> u64 {
        self.entries.keys().next_back().copied().unwrap_or(self.base.index.0)
    }

    pub(crate) fn position(&self, index: u64) -> Position {
        match self.entries.get(&index) {
            Some((term, _)) => position(index, *term),
            None => self.base,
        }
    }

    /// The state machine beside the log.
    pub(crate) fn machine(&self) -> Machine {
        let applied = self.position(self.applied);
        Machine { applied, configuration: self.configuration_at(self.applied) }
    }

    pub(crate) fn frame(&self, index: u64) -> jangada_entry::Frame {
        let (term, bytes) = self.entries[&index];
        match self.configurations.get(&index) {
            Some(configuration) => configuration_entry(index, term, configuration),
            None => command(index, term, bytes),
        }
    }

    pub(crate) fn configuration(&self) -> Configuration {
        self.configuration_at(u64::MAX)
    }

    fn configuration_at(&self, index: u64) -> Configuration {
        let newest = self.configurations.range(..=index).next_back().map(|(_, newest)| newest);
        newest.or(self.base_configuration.as_ref()).cloned().unwrap_or_else(configuration)
    }

    /// Drops what is behind `after`, then adds entries of these sizes.
    pub(crate) fn write(&mut self, after: u64, sizes: &[usize]) {
        self.entries.retain(|index, _| *index <= after);
        self.configurations.retain(|index, _| *index <= after);
        self.faulty.retain(|index| *index <= after);
        for (at, size) in sizes.iter().enumerate() {
            let index = after + 1 + at as u64;
            self.entries.insert(index, (self.hard_state.term.0, *size));
        }
    }

    /// A snapshot is installed: of an entry inside the log, of another term, or of one behind it.
    fn begin_anew(&mut self) {
        let (last, term) = (self.last(), self.hard_state.term.0);
        let index = if self.applied + 3 <= last { last - 1 } else { last + 3 };
        self.write(0, &[]);
        self.base = position(index, term + 1);
        self.base_configuration =
            Some(Configuration::of_voters([NodeId(1), NodeId(2), NodeId(90 + term)]));
        self.applied = index;
        self.hard_state = vote(term + 2, 3);
        self.note = Bytes::from(format!("anew {index}"));
    }

    /// The entry whose payload rots next, if there is one that the machine lacks.
    fn victim(&self) -> Option<u64> {
        let index = self.last().checked_sub(1)?;
        let fit = self.applied < index && !self.configurations.contains_key(&index);
        (fit && self.entries.contains_key(&index)).then_some(index)
    }

    /// The model after an operation, and where its entries begin.
    pub(crate) fn after(&self, operation: Operation) -> (Model, u64) {
        let mut next = self.clone();
        let last = self.last();
        let term = self.hard_state.term.0;
        match operation {
            Small => next.write(last, &[100]),
            Large => next.write(last, &[700, 20, 900]),
            Vote => next.hard_state = vote(term + 1, term % 3 + 1),
            Drop => {
                next.hard_state = vote(term + 1, 2);
                let after = last.saturating_sub(2).max(self.applied);
                next.write(after, &[150]);
                return (next, after);
            }
            Configure => {
                next.write(last, &[0]);
                let members = [NodeId(1), NodeId(2), NodeId(3), NodeId(10 + last)];
                next.configurations.insert(last + 1, Configuration::of_voters(members));
                next.note = Bytes::from(format!("note {last}"));
            }
            Cut => next.applied = last,
            Prepare | Reopen | RotList => {}
            BeginAnew => next.begin_anew(),
            RotPayload => next.faulty.extend(self.victim()),
            Repair => next.faulty.clear(),
            GiveUp => {
                if let Some(first) = self.faulty.first() {
                    next.write(first - 1, &[]);
                    next.recovering = true;
                }
            }
            EndRecovering => next.recovering = false,
        }
        (next, last)
    }

    /// Whether this is what was recovered.
    pub(crate) fn is(&self, wal: &Wal<FaultDisk>, recovered: &Recovered) -> Result<(), String> {
        let base = recovered.range.prev;
        let check = |what: &str, holds: bool| if holds { Ok(()) } else { Err(what.to_string()) };
        check("hard state", recovered.hard_state == self.hard_state)?;
        check("note", recovered.note == self.note)?;
        check("recovering", recovered.recovering == self.recovering)?;
        check("configuration", recovered.configuration == self.configuration())?;
        let within = self.base.index <= base.index && base.index.0 <= self.applied;
        check("base", within && base == self.position(base.index.0))?;
        let first = base.index.next();
        let faulty: Vec<_> =
            self.faulty.range(first.0..).map(|index| self.position(*index)).collect();
        check("faulty", recovered.faulty == faulty && wal.faulty() == faulty)?;
        check("last", recovered.range.last_position() == self.position(self.last()))?;
        check("last", wal.last_position() == self.position(self.last()))?;
        let mut index = first;
        while index.0 <= self.last() {
            match wal.read(index, Index(self.last()), u64::MAX) {
                Ok(frames) => {
                    for frame in frames {
                        check("sound", !self.faulty.contains(&index.0))?;
                        check("entry", frame == self.frame(index.0))?;
                        index = index.next();
                    }
                }
                Err(WalError::Faulty { position }) => {
                    check("faulty", position == self.position(index.0))?;
                    check("faulty", self.faulty.contains(&index.0))?;
                    index = index.next();
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(())
    }
}

/// Runs one operation on the log.
pub(crate) fn run(
    wal: &mut Wal<FaultDisk>,
    disk: &FaultDisk,
    before: &Model,
    operation: Operation,
    spare: bool,
) -> Result<(), WalError> {
    let (after, from) = before.after(operation);
    match operation {
        Cut => {
            let up_to = after.position(after.applied);
            wal.cut(up_to, &after.configuration()).map(|_| ())
        }
        Prepare => {
            if spare && let Some(preparation) = wal.preparation() {
                return wal.prepared(preparation.run(disk));
            }
            Ok(())
        }
        Reopen | RotPayload | RotList => Ok(()),
        BeginAnew => wal.begin_anew(&Anew {
            position: after.base,
            configuration: after.configuration(),
            hard_state: after.hard_state,
            note: Some(after.note.clone()),
        }),
        Repair => {
            let frames: Vec<_> = before.faulty.iter().map(|index| before.frame(*index)).collect();
            wal.repair(&frames).map(|missing| assert_eq!(missing, 0))
        }
        GiveUp => wal.give_up_faulty().map(|_| ()),
        EndRecovering => wal.end_recovering(),
        Small | Large | Vote | Drop | Configure => {
            let entries: Vec<_> =
                (from + 1..=after.last()).map(|index| after.frame(index)).collect();
            let note = (after.note != before.note).then(|| after.note.clone());
            let hard_state = after.hard_state;
            wal.append(&Batch { hard_state, note, after: Index(from), entries: &entries })
        }
    }
}

/// Draws from a fixed seed.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) % below
    }
}

/// How much is tried at each crash point.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    Few,
    Many,
}

/// Fates of `count` unsynced sectors: all combinations where they are few, otherwise all lost, all
/// kept, each prefix, each one alone lost or kept or garbage, and some at random.
pub(crate) fn fates(count: usize, effort: Effort, dice: &mut Dice) -> Vec<Vec<Fate>> {
    let mut sets = Vec::new();
    if count <= 3 && effort == Effort::Many {
        for number in 0..4_usize.pow(count as u32) {
            let fate = |at: usize| match (number >> (2 * at)) & 3 {
                0 => Fate::Lost,
                1 => Fate::Kept,
                2 => Fate::Garbage,
                _ => Fate::Unreadable,
            };
            sets.push((0..count).map(fate).collect());
        }
        return sets;
    }
    sets.push(vec![Fate::Lost; count]);
    sets.push(vec![Fate::Kept; count]);
    if count == 0 {
        sets.pop();
        return sets;
    }
    let alone = if effort == Effort::Many { count } else { count.min(2) };
    for number in 0..alone {
        let at = if effort == Effort::Many { number } else { dice.roll(count as u64) as usize };
        for (rest, one) in [
            (Fate::Lost, Fate::Kept),
            (Fate::Kept, Fate::Lost),
            (Fate::Kept, Fate::Garbage),
            (Fate::Lost, Fate::Garbage),
            (Fate::Kept, Fate::Unreadable),
        ] {
            let mut set = vec![rest; count];
            set[at] = one;
            sets.push(set);
        }
        let prefix = |place: usize| if place < at { Fate::Kept } else { Fate::Lost };
        sets.push((0..count).map(prefix).collect());
    }
    let random = if effort == Effort::Many { 12 } else { 3 };
    for _ in 0..random {
        let whole = [Fate::Lost, Fate::Kept];
        sets.push((0..count).map(|_| whole[dice.roll(2) as usize]).collect());
    }
    sets
}

/// What happened, so that a test in which nothing was tried fails.
#[derive(Default, Debug)]
pub(crate) struct Tally {
    pub(crate) states: u64,
    pub(crate) before: u64,
    pub(crate) after: u64,
    pub(crate) rotten: u64,
    pub(crate) torn: u64,
    pub(crate) no_log: u64,
    pub(crate) reopened: u64,
}

/// What may be found when the power goes during an operation, the last one being what it comes to.
fn outcomes(before: &Model, after: &Model, operation: Operation) -> Vec<Model> {
    let mut found = before.clone();
    if operation == BeginAnew {
        // The machine is ahead of the old log, which begins anew behind it when it is opened.
        found = Model { note: before.note.clone(), ..after.clone() };
        found.hard_state = before.hard_state;
        if found.hard_state.term < after.base.term {
            found.hard_state = HardState { term: after.base.term, vote: None };
        }
    }
    // The machine may have been cut off from what it applied last; it holds at least what the log
    // was ever cut behind.
    found.applied = after.applied;
    vec![found, after.clone()]
}

/// Opens what a crash has left, and compares it with the models of what may be there. Whether all
/// sectors are whole that are left is told by `whole`.
pub(crate) fn check(
    left: &State,
    allowed: &[Model],
    created: bool,
    whole: bool,
    tally: &mut Tally,
    what: &dyn Fn() -> String,
) {
    tally.states += 1;
    let disk = FaultDisk::new(left.clone());
    if !created && !Wal::exists(&disk).expect("the folder is ours") {
        tally.no_log += 1;
        let made = Wal::create(disk, options(tally.states), identity(), configuration());
        assert!(made.is_ok(), "{}: {:?}", what(), made.err());
        return;
    }
    let deep = tally.states.is_multiple_of(7);
    if deep {
        disk.record();
    }
    let after = allowed.last().expect("something is allowed");
    let opened = Wal::open_beside(disk.clone(), options(tally.states), &after.machine());
    let (wal, recovered) = opened.unwrap_or_else(|error| panic!("{}: {error}", what()));
    let report = &recovered.report;
    let rotten = report.cut.is_some() || report.lost.is_some() || 0 < report.faulty;
    if rotten && !whole {
        // A disk that leaves garbage where a power cut came may make the last batch look rotten.
        let marked = recovered.recovering || !recovered.faulty.is_empty();
        assert!(
            marked || report.cut.is_some() || report.anew.is_some(),
            "{}: {recovered:?}",
            what()
        );
        tally.rotten += 1;
        return;
    }
    assert!(!rotten || after.has_rotted, "{}: no rot, and {report:?}", what());
    let fits: Vec<_> = allowed.iter().map(|model| model.is(&wal, &recovered)).collect();
    tally.before += u64::from(fits[0].is_ok());
    tally.after += u64::from(fits[fits.len() - 1].is_ok());
    tally.torn += u64::from(report.torn.is_some());
    let Some(now) = fits.iter().position(Result::is_ok) else {
        panic!("{}: none of what is allowed ({fits:?}): {recovered:?}", what())
    };
    if deep {
        check_again(&disk, allowed, &allowed[now], tally, what);
    }
}

/// What was recovered survives the next crash: during the opening itself, and after it.
///
/// A batch that was never acknowledged may be there when the process is killed and, the power being
/// cut before the opening has returned, be gone. Once it has returned, that is what stays.
pub(crate) fn check_again(
    disk: &FaultDisk,
    allowed: &[Model],
    now: &Model,
    tally: &mut Tally,
    what: &dyn Fn() -> String,
) {
    let states = disk.recorded();
    for (step, state) in states.iter().enumerate() {
        let returned = step + 1 == states.len();
        let count = state.dirty().len();
        let all = u32::MAX;
        for (fate, names) in
            [(Fate::Lost, 0), (Fate::Kept, 0), (Fate::Lost, all), (Fate::Kept, all)]
        {
            let left = state.after_power_cut(&vec![fate; count], names);
            let disk = FaultDisk::new(left);
            tally.reopened += 1;
            let opened = Wal::open_beside(disk, options(tally.reopened), &now.machine());
            let (wal, recovered) = opened.unwrap_or_else(|error| {
                panic!("{}, then in step {step} of opening: {error}", what())
            });
            let allowed = if returned { std::slice::from_ref(now) } else { allowed };
            let fits = allowed.iter().any(|model| model.is(&wal, &recovered).is_ok());
            assert!(fits, "{}, then in step {step} of opening: {recovered:?}", what());
        }
    }
}

/// Lets something rot in the log, and tells what follows.
fn rot(disk: &FaultDisk, before: &Model, operation: Operation) -> Model {
    let (mut after, _) = before.after(operation);
    let Some(victim) = before.victim() else { return after };
    after.has_rotted = true;
    let mut batches = Vec::new();
    let mut frame = None;
    inspect(disk, &mut |finding| match finding {
        Finding::Batch(batch) => batches.push(batch),
        Finding::Entry(entry) if entry.position.index.0 == victim => {
            frame = Some((entry.place.offset as usize, batches.len() - 1));
        }
        _ => {}
    })
    .expect("a sound log can be looked at");
    let (frame, batch) = frame.expect("the entry is in the log");
    let name = format!("segment-{:016x}", batches[batch].place.segment);
    if operation == RotPayload {
        disk.rot(&name, frame + 70);
        return after;
    }
    let (newest, batch) = (batch + 1 == batches.len(), &batches[batch]);
    if newest || batch.note_bytes.is_some() {
        return after;
    }
    let header = (128 + 24 * batch.entries).next_multiple_of(SECTOR);
    for at in [batch.place.offset, batch.place.offset + batch.bytes - header as u64] {
        disk.rot(&name, at as usize + 20);
    }
    after.write(batch.after.index.0, &[]);
    after.recovering = true;
    after.hard_state.vote.get_or_insert(NodeId(identity().member));
    after
}

/// Runs a history and crashes it at every step of its last operation.
pub(crate) fn crash(history: &[Operation], effort: Effort, tally: &mut Tally, dice: &mut Dice) {
    let (states, allowed) = run_history(history);
    let created_here = history.is_empty();
    for (step, state) in states.iter().enumerate() {
        let what = |how: &str| format!("{history:?}, killed after step {step}, {how}");
        // Each state is what an operation that returned has left, or one in its middle.
        let returned = step + 1 == states.len();
        let allowed = if returned { &allowed[allowed.len() - 1..] } else { &allowed[..] };
        let killed = state.after_kill();
        check(&killed, allowed, !created_here, true, tally, &|| what("cache kept"));
        let changes = state.changes().min(5) as u32;
        for names in 0..1_u32 << changes {
            for set in fates(state.dirty().len(), effort, dice) {
                let left = state.after_power_cut(&set, names);
                let whole = set.iter().all(|fate| matches!(fate, Fate::Lost | Fate::Kept));
                let how = || what(&format!("sectors {set:?}, names {names:b}"));
                check(&left, allowed, !created_here, whole, tally, &how);
            }
        }
    }
}

/// Runs a history; the states of the disk during its last operation, and what may be found in them.
fn run_history(history: &[Operation]) -> (Vec<State>, Vec<Model>) {
    let disk = FaultDisk::new(State::default());
    let mut model = Model::default();
    let mut allowed = vec![Model::default()];
    if history.is_empty() {
        disk.record();
    }
    let (wal, _) = Wal::create(disk.clone(), options(1), identity(), configuration())
        .expect("a sound disk takes a log");
    let mut wal = Some(wal);
    for (at, operation) in history.iter().enumerate() {
        let before = model;
        let (mut after, _) = before.after(*operation);
        let opens = matches!(operation, Reopen | RotPayload | RotList);
        if opens {
            drop(wal.take());
        }
        if matches!(operation, RotPayload | RotList) {
            after = rot(&disk, &before, *operation);
        }
        if at + 1 == history.len() {
            disk.record();
        }
        if opens {
            let seed = at as u64 + 50;
            let opened = Wal::open_beside(disk.clone(), options(seed), &after.machine());
            let (log, recovered) = opened.expect("the log opens");
            after.is(&log, &recovered).unwrap_or_else(|what| panic!("{history:?}: {what}"));
            wal = Some(log);
            allowed = vec![after.clone()];
        } else {
            let log = wal.as_mut().expect("the log is open");
            run(log, &disk, &before, *operation, true).expect("the disk works");
            allowed = outcomes(&before, &after, *operation);
        }
        model = after;
    }
    (disk.recorded(), allowed)
}

/// Histories in which something rots, and what becomes of it.
pub(crate) fn rotten_histories(tally: &mut Tally) {
    let mut dice = Dice(4);
    let beginnings: [&[Operation]; 5] = [
        &[Large, Large, Small],
        &[Large, Drop, Large, Small],
        &[Configure, Large, Large, Vote],
        &[Large, Cut, Large, Large],
        &[BeginAnew, Large, Large, Small],
    ];
    let ways: [&[Operation]; 9] = [
        &[RotPayload, Repair, Small],
        &[RotPayload, Large, Repair, Reopen],
        &[RotPayload, Prepare, Repair, Drop],
        &[RotPayload, GiveUp, EndRecovering, Small],
        &[RotPayload, Reopen, GiveUp, Drop, Reopen],
        &[RotPayload, Drop],
        &[RotPayload, BeginAnew],
        &[RotList, Large, Drop, Cut, EndRecovering, Reopen],
        &[RotList, Reopen, BeginAnew, Small, EndRecovering],
    ];
    for beginning in beginnings {
        for way in ways {
            let history = [beginning, way].concat();
            for length in beginning.len() + 1..=history.len() {
                crash(&history[..length], Effort::Few, tally, &mut dice);
            }
        }
    }
}

/// Segments are released and the process is killed before that is durable; a full disk makes the next
/// opening use one of their files, and the power is lost. What comes back must be what it was: a loss
/// of power is never taken for rot.
pub(crate) fn released_segments(tally: &mut Tally) {
    for history in
        [&[Large, Large, Cut][..], &[Large, Large, Large, Cut], &[Large, Large, BeginAnew]]
    {
        let (states, allowed) = run_history(history);
        for (step, state) in states.iter().enumerate() {
            let returned = step + 1 == states.len();
            let allowed = if returned { &allowed[allowed.len() - 1..] } else { &allowed[..] };
            let disk = FaultDisk::new(state.after_kill());
            disk.break_with(Fault::FullForGood);
            disk.record();
            let machine = allowed[allowed.len() - 1].machine();
            tally.reopened +=
                u64::from(Wal::open_beside(disk.clone(), options(70), &machine).is_ok());
            for (opening, state) in disk.recorded().iter().enumerate() {
                let count = state.dirty().len();
                for fate in [Fate::Lost, Fate::Kept] {
                    for names in 0..1_u32 << state.changes().min(5) {
                        let left = state.after_power_cut(&vec![fate; count], names);
                        let what = || {
                            format!(
                                "{history:?}, killed after step {step}, opened on a full disk \
                                 up to step {opening}, sectors {fate:?}, names {names:b}"
                            )
                        };
                        check(&left, allowed, true, true, tally, &what);
                    }
                }
            }
        }
    }
}

/// Every history of up to three operations.
pub(crate) fn short_histories(tally: &mut Tally) {
    let mut dice = Dice(1);
    crash(&[], Effort::Many, tally, &mut dice);
    for first in ALL {
        crash(&[first], Effort::Many, tally, &mut dice);
        for second in ALL {
            crash(&[first, second], Effort::Many, tally, &mut dice);
            for third in ALL {
                crash(&[first, second, third], Effort::Few, tally, &mut dice);
            }
        }
    }
}

/// Histories of four to six operations that were chosen.
pub(crate) fn chosen_histories(tally: &mut Tally) {
    let mut dice = Dice(2);
    let chosen: [[Operation; 6]; 9] = [
        [Small, Small, Small, Small, Small, Small],
        [Large, Large, Prepare, Large, Cut, Large],
        [Large, Drop, Drop, Reopen, Drop, Cut],
        [Large, Drop, Large, Cut, Prepare, Large],
        [Configure, Large, Drop, Drop, Vote, Reopen],
        [Large, Large, Drop, Cut, Reopen, Small],
        [Small, Reopen, Small, Reopen, Small, Reopen],
        [Large, Cut, Prepare, Large, Cut, Prepare],
        [Configure, Configure, Cut, Drop, Configure, Drop],
    ];
    for history in chosen {
        for length in 4..=history.len() {
            crash(&history[..length], Effort::Many, tally, &mut dice);
        }
    }
}

/// Breaks each of the first syncs of the last operation of some histories; how often it came to that.
pub(crate) fn failed_syncs() -> u64 {
    let mut failures = 0;
    for first in ALL {
        for second in ALL {
            for syncs in 0..4 {
                failures += u64::from(fail_sync(&[Large, first, second], syncs));
            }
        }
    }
    failures
}

/// Breaks the n-th sync of the last operation; whether it came to that.
pub(crate) fn fail_sync(history: &[Operation], syncs: u64) -> bool {
    let disk = FaultDisk::new(State::default());
    let (mut wal, _) = Wal::create(disk.clone(), options(1), identity(), configuration())
        .expect("a sound disk takes a log");
    let mut model = Model::default();
    for (at, operation) in history.iter().enumerate() {
        if at + 1 == history.len() {
            disk.break_with(Fault::Sync(syncs));
        }
        let (after, _) = model.after(*operation);
        match run(&mut wal, &disk, &model, *operation, true) {
            Ok(()) => model = after,
            Err(WalError::Io(_)) => {
                let batch = Batch {
                    hard_state: after.hard_state,
                    note: None,
                    after: wal.last_position().index,
                    entries: &[],
                };
                assert!(matches!(wal.write(&batch), Err(WalError::Poisoned)));
                assert!(matches!(wal.sync(), Err(WalError::Poisoned)));
                assert!(wal.preparation().is_none());
                let mut tally = Tally::default();
                let state = disk.state();
                let count = state.dirty().len();
                for fate in [Fate::Lost, Fate::Kept] {
                    for names in [0, u32::MAX] {
                        let left = state.after_power_cut(&vec![fate; count], names);
                        let what = || format!("{history:?} with sync {syncs} failing");
                        let allowed = outcomes(&model, &after, *operation);
                        check(&left, &allowed, true, true, &mut tally, &what);
                    }
                }
                return true;
            }
            Err(error) => panic!("{history:?}: {error}"),
        }
    }
    false
}
