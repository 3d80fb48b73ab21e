//! The crash points of short histories of the log: what is done, where it is cut off, what may be
//! left, and the model that it is compared with.

use std::collections::BTreeMap;

use bytes::Bytes;
use jangada_raft::{Configuration, HardState, Index, NodeId, Position};
use jangada_wal::{Batch, OpenError, Recovered, Wal, WalError};

use crate::support::fault::{Fate, Fault, FaultDisk, State};
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
}

pub(crate) use Operation::{Configure, Cut, Drop, Large, Prepare, Reopen, Small, Vote};

pub(crate) const ALL: [Operation; 8] = [Small, Large, Vote, Drop, Configure, Cut, Prepare, Reopen];

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
}

impl Model {
    pub(crate) fn last(&self) -> u64 {
        self.entries.keys().next_back().copied().unwrap_or(0)
    }

    pub(crate) fn position(&self, index: u64) -> Position {
        let term = if index == 0 { 0 } else { self.entries[&index].0 };
        position(index, term)
    }

    pub(crate) fn frame(&self, index: u64) -> jangada_entry::Frame {
        let (term, bytes) = self.entries[&index];
        match self.configurations.get(&index) {
            Some(configuration) => configuration_entry(index, term, configuration),
            None => command(index, term, bytes),
        }
    }

    pub(crate) fn configuration(&self) -> Configuration {
        let newest = self.configurations.values().next_back();
        newest.cloned().unwrap_or_else(configuration)
    }

    /// Drops what is behind `after`, then adds entries of these sizes.
    pub(crate) fn write(&mut self, after: u64, sizes: &[usize]) {
        self.entries.retain(|index, _| *index <= after);
        self.configurations.retain(|index, _| *index <= after);
        for (at, size) in sizes.iter().enumerate() {
            let index = after + 1 + at as u64;
            self.entries.insert(index, (self.hard_state.term.0, *size));
        }
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
            Prepare | Reopen => {}
        }
        (next, last)
    }

    /// Whether this is what was recovered.
    pub(crate) fn is(&self, wal: &Wal<FaultDisk>, recovered: &Recovered) -> Result<(), String> {
        let base = recovered.range.prev;
        let check = |what: &str, holds: bool| if holds { Ok(()) } else { Err(what.to_string()) };
        check("hard state", recovered.hard_state == self.hard_state)?;
        check("note", recovered.note == self.note)?;
        check("configuration", recovered.configuration == self.configuration())?;
        check("base", base.index.0 <= self.applied && base == self.position(base.index.0))?;
        check("last", recovered.range.last_position() == self.position(self.last()))?;
        check("last", wal.last_position() == self.position(self.last()))?;
        if base.index.0 == self.last() {
            return Ok(());
        }
        let first = base.index.next();
        let read = wal.read(first, Index(self.last()), u64::MAX).map_err(|e| e.to_string())?;
        check("number of entries", read.len() as u64 == self.last() - base.index.0)?;
        for (at, frame) in read.iter().enumerate() {
            check("entry", *frame == self.frame(first.0 + at as u64))?;
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
        Reopen => Ok(()),
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
    pub(crate) refused: u64,
    pub(crate) torn: u64,
    pub(crate) no_log: u64,
    pub(crate) reopened: u64,
}

/// Opens what a crash has left, and compares it with the model before and after the operation.
/// Whether sectors that were not whole are among what is left is told by `whole`.
pub(crate) fn check(
    left: &State,
    models: [&Model; 2],
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
    // The machine may have been cut off from what it applied last; it holds at least what the log
    // was ever cut behind.
    let applied = Index(models[1].applied);
    let (wal, recovered) = match Wal::open(disk.clone(), options(tally.states), applied) {
        Ok(opened) => opened,
        Err(OpenError::Rot { .. }) if !whole => {
            tally.refused += 1;
            return;
        }
        Err(error) => panic!("{}: {error}", what()),
    };
    let mut before = models[0].clone();
    before.applied = models[1].applied;
    let [is_before, is_after] = [before.is(&wal, &recovered), models[1].is(&wal, &recovered)];
    tally.before += u64::from(is_before.is_ok());
    tally.after += u64::from(is_after.is_ok());
    tally.torn += u64::from(recovered.report.torn.is_some());
    let now = match (&is_before, &is_after) {
        (Ok(()), _) => before.clone(),
        (_, Ok(())) => models[1].clone(),
        (Err(first), Err(second)) => {
            panic!("{}: neither before ({first}) nor after ({second}): {recovered:?}", what())
        }
    };
    if deep {
        assert_eq!(wal.last_position(), now.position(now.last()));
        check_again(&disk, [&before, models[1]], &now, tally, what);
    }
}

/// What was recovered survives the next crash: during the opening itself, and after it.
///
/// A batch that was never acknowledged may be there when the process is killed and, the power being
/// cut before the opening has returned, be gone. Once it has returned, that is what stays.
pub(crate) fn check_again(
    disk: &FaultDisk,
    models: [&Model; 2],
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
            let opened = Wal::open(disk, options(tally.reopened), Index(now.applied));
            let (wal, recovered) = opened.unwrap_or_else(|error| {
                panic!("{}, then in step {step} of opening: {error}", what())
            });
            let allowed = if returned { [now, now] } else { models };
            let fits = allowed.iter().any(|model| model.is(&wal, &recovered).is_ok());
            assert!(fits, "{}, then in step {step} of opening: {recovered:?}", what());
        }
    }
}

/// Runs a history and crashes it at every step of its last operation.
pub(crate) fn crash(history: &[Operation], effort: Effort, tally: &mut Tally, dice: &mut Dice) {
    let disk = FaultDisk::new(State::default());
    let mut models = vec![Model::default()];
    let created_here = history.is_empty();
    if created_here {
        disk.record();
    }
    let (wal, _) = Wal::create(disk.clone(), options(1), identity(), configuration())
        .expect("a sound disk takes a log");
    let mut wal = Some(wal);
    for (at, operation) in history.iter().enumerate() {
        let before = models.last().expect("there is a model").clone();
        let (after, _) = before.after(*operation);
        if at + 1 == history.len() {
            disk.record();
        }
        let log = wal.as_mut().expect("the log is open");
        run(log, &disk, &before, *operation, true).expect("the disk works");
        if *operation == Reopen {
            drop(wal.take());
            let opened = Wal::open(disk.clone(), options(at as u64 + 50), Index(after.applied));
            let (log, recovered) = opened.expect("a sound log opens");
            after.is(&log, &recovered).expect("a sound log is whole");
            wal = Some(log);
        }
        models.push(after);
    }
    let states = disk.recorded();
    let last = models.len() - 1;
    let pair = [&models[last.saturating_sub(1)], &models[last]];
    for (step, state) in states.iter().enumerate() {
        let what = |how: &str| format!("{history:?}, killed after step {step}, {how}");
        // Each state is what an operation that returned has left, or one in its middle.
        let pair = if step + 1 == states.len() { [pair[1], pair[1]] } else { pair };
        let killed = state.after_kill();
        check(&killed, pair, !created_here, true, tally, &|| what("cache kept"));
        let changes = state.changes().min(5) as u32;
        for names in 0..1_u32 << changes {
            for set in fates(state.dirty().len(), effort, dice) {
                let left = state.after_power_cut(&set, names);
                let whole = set.iter().all(|fate| matches!(fate, Fate::Lost | Fate::Kept));
                let how = || what(&format!("sectors {set:?}, names {names:b}"));
                check(&left, pair, !created_here, whole, tally, &how);
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
                        check(&left, [&model, &after], true, true, &mut tally, &what);
                    }
                }
                return true;
            }
            Err(error) => panic!("{history:?}: {error}"),
        }
    }
    false
}
