//! Opening and dumping logs that were damaged: whatever opens is what the log held at some moment,
//! never an invented entry.

use jangada_entry::{Frame, Kind};
use jangada_raft::{HardState, Index, Position};
use jangada_wal::inspect::{Finding, Totals, inspect};
use jangada_wal::{Batch, Machine, MemoryDisk, OpenError, Recovered, Wal};

use crate::entry::frame;
use crate::logs::{Damage, History, damage, folder, histories, options};
use crate::{Input, sentence};

/// The input: which history, what the state machine has applied, then the damage.
///
/// # Panics
/// At the first thing that is wrong.
pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let history = &histories()[usize::from(input.byte() & 1)];
    let newest = history.newest();
    let last = newest.frames.len() as u64;
    let applied = Index(u64::from(input.byte()) % (last + 2));
    let disk = newest.disk.snapshot();
    let damage = damage(&disk, history, &mut input);
    dump(&disk, history);
    beside(disk.snapshot(), history, applied, damage);
    let before = folder(&disk);
    let (wal, recovered) = match Wal::open(disk.clone(), options(2), applied) {
        Ok(opened) => opened,
        Err(error) => {
            sentence(&error);
            assert!(before == folder(&disk), "a refusal changes nothing");
            assert_ne!(damage, Damage::None, "a sound log opens");
            let last = Index(last);
            assert!(damage != Damage::Bit || applied < last, "a bit stops no member: {error}");
            return;
        }
    };
    let base = recovered.range.prev.index;
    assert!(base <= applied, "nothing that the state machine lacks is cut away");
    held_once(history, &recovered, &wal);
    match damage {
        Damage::Any => {}
        Damage::None => {
            assert_eq!((base, recovered.range.last), (Index(0), Index(last)), "all is there");
        }
        Damage::Bit => {
            assert_eq!(recovered.range.last, Index(last), "a bit takes nothing from the end");
            assert_eq!(recovered.hard_state, newest.hard_state);
        }
    }
    goes_on(disk, wal, &recovered, applied);
}

/// Opens the log beside its machine: nothing is invented, what is damaged is known by name, and the
/// mark of a loss stays until it is cleared.
fn beside(disk: MemoryDisk, history: &History, applied: Index, damage: Damage) {
    let newest = history.newest();
    let held = applied.0.checked_sub(1).map(|at| newest.frames.get(at as usize));
    let position = match held {
        None => Position::default(),
        Some(Some(frame)) => frame.position(),
        // A snapshot that reaches beyond the log.
        Some(None) => Position { index: applied, term: newest.hard_state.term },
    };
    let machine = Machine { applied: position, configuration: newest.configuration.clone() };
    let before = folder(&disk);
    let (wal, recovered) = match Wal::open_beside(disk.clone(), options(2), &machine) {
        Ok(opened) => opened,
        Err(error) => {
            sentence(&error);
            assert!(before == folder(&disk), "a refusal changes nothing");
            assert!(damage == Damage::Any, "neither a bit nor nothing stops a member: {error}");
            return;
        }
    };
    let range = &recovered.range;
    // An empty machine beside a log that was cut has lost its state, and is sent it.
    let is_lost = applied == Index(0);
    assert!(is_lost || range.prev.index <= applied, "the machine is followed");
    assert!(applied <= range.last, "the machine is followed");
    assert!(
        range.last_position().term <= recovered.hard_state.term,
        "no entry is ahead of its term"
    );
    if recovered.recovering && damage != Damage::Any {
        // The second entry of all changes the membership, without which nobody knows the others.
        let from_the_machine = range.last < Index(2) || recovered.report.anew.is_some();
        assert!(damage == Damage::Bit && from_the_machine, "a bit takes no other name");
    } else if damage != Damage::Any {
        assert_eq!(range.last, applied.max(Index(newest.frames.len() as u64)));
    }
    let mut index = range.first();
    while index <= range.last {
        match wal.read(index, index, u64::MAX) {
            Ok(frames) => {
                let written = history.written(frames[0].position());
                assert!(written == Some(&frames[0]), "no entry is invented: {frames:?}");
            }
            Err(error) => {
                let known = recovered.faulty.iter().any(|position| position.index == index);
                assert!(known, "what is damaged is known: {error}");
            }
        }
        index = index.next();
    }
    drop(wal);
    let (mut wal, again) =
        Wal::open_beside(disk, options(3), &machine).expect("what opened once opens again");
    assert_eq!((again.recovering, &again.faulty), (recovered.recovering, &recovered.faulty));
    wal.end_recovering().expect("memory takes everything");
    assert!(!wal.is_recovering());
}

/// Looks at every finding of a dump.
fn dump(disk: &MemoryDisk, history: &History) {
    let mut seen = Totals::default();
    let totals = inspect(disk, &mut |finding| {
        assert!(!finding.to_string().is_empty());
        match finding {
            Finding::Segment(segment) => {
                seen.segments += 1;
                seen.recovering = segment.recovering;
            }
            Finding::Batch(_) => seen.batches += 1,
            Finding::Damage(_) => seen.damaged += 1,
            Finding::Dropped(_) => seen.dropped += 1,
            Finding::Entry(entry) => {
                seen.entries += 1;
                if let Some(header) = entry.header {
                    let written = history.written(header.position);
                    assert_eq!(written.map(Frame::header), Some(header), "no entry is invented");
                }
            }
            Finding::End { .. } | Finding::Spare { .. } => {}
        }
    });
    match totals {
        Ok(totals) => assert_eq!(totals, seen),
        Err(error) => {
            sentence(&error);
            assert!(matches!(error, OpenError::NoLog), "{error}");
        }
    }
}

/// The log is what it was at one moment, from its base on.
fn held_once(history: &History, recovered: &Recovered, wal: &Wal<MemoryDisk>) {
    let (base, last) = (recovered.range.prev, recovered.range.last);
    let read = if base.index < last {
        wal.read(base.index.next(), last, u64::MAX).expect("what was accepted is sound")
    } else {
        Vec::new()
    };
    assert_eq!(read.len() as u64, last.0 - base.index.0, "every entry is read");
    for frame in &read {
        let written = history.written(frame.position());
        assert!(written == Some(frame), "no entry is invented: {frame:?}");
    }
    let fits = history.moments.iter().chain(&history.beginnings).any(|moment| {
        let held = moment.frames.get(base.index.0 as usize..);
        let at_base = base.index.0.checked_sub(1).map(|at| moment.frames.get(at as usize));
        let base_term = at_base.map(|frame| frame.map(|frame| frame.position()));
        held.is_some_and(|held| held == read)
            && base_term.is_none_or(|found| found == Some(base))
            && moment.hard_state == recovered.hard_state
            && moment.note == recovered.note
            && moment.configuration == recovered.configuration
    });
    assert!(fits, "the log is what it was at some moment: {recovered:?}");
}

/// What opens once opens again, alike, and takes another entry.
fn goes_on(disk: MemoryDisk, wal: Wal<MemoryDisk>, recovered: &Recovered, applied: Index) {
    drop(wal);
    let again = Wal::open(disk.clone(), options(3), applied);
    let (mut wal, second) = again.expect("what opens once opens again");
    assert_eq!(second.range, recovered.range);
    assert_eq!(second.hard_state, recovered.hard_state);
    assert_eq!((&second.note, &second.configuration), (&recovered.note, &recovered.configuration));
    let last = second.range.last;
    let term = second.hard_state.term.max(second.range.last_position().term);
    let added = frame(Kind::Command, last.0 + 1, term.0, b"and on");
    let vote = second.hard_state.vote.filter(|_| term == second.hard_state.term);
    let batch = Batch {
        hard_state: HardState { term, vote },
        note: None,
        after: last,
        entries: std::slice::from_ref(&added),
    };
    wal.append(&batch).expect("memory takes everything");
    drop(wal);
    let (wal, third) = Wal::open(disk, options(4), applied).expect("what was written opens");
    let end = Position { index: last.next(), term };
    assert_eq!(third.range.last_position(), end, "what was written is there");
    let read = wal.read(end.index, end.index, u64::MAX).expect("what was written is sound");
    assert_eq!(read, [added]);
}

/// No damage, and damage of each kind.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![vec![0, 0], vec![1, 200]];
    for kind in 0..11_u8 {
        for (history, applied) in [(0, 0), (0, 17), (1, 9)] {
            seeds.push(vec![history, applied, kind % 4, kind, kind * 21, 3, 65, 9, 1, 2, 3]);
        }
    }
    seeds
}
