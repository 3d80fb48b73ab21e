//! A log whose bytes rot one after the other: what is damaged, and what may come out.

use std::collections::BTreeMap;

use bytes::Bytes;
use jangada_entry::Frame;
use jangada_raft::{Configuration, HardState, Index, NodeId, Term};
use jangada_wal::inspect::{Finding, inspect};
use jangada_wal::{Batch, Machine, OpenError, Recovered, Wal};

use crate::support::fault::{FaultDisk, SECTOR, State};
use crate::support::{
    command, commands, configuration, configuration_entry, identity, options, position, vote,
};

/// A log of four segments with a configuration in the first and a note in the third.
pub(crate) struct Truth {
    pub(crate) state: State,
    pub(crate) frames: Vec<Frame>,
    pub(crate) configuration: Configuration,
    pub(crate) note: Bytes,
    pub(crate) hard_state: HardState,
    /// The first entry of the last batch.
    pub(crate) last_batch: u64,
    /// The segments' names, how many of their bytes are in use, and the last index before each.
    pub(crate) segments: Vec<(String, usize, u64)>,
}

pub(crate) fn truth() -> Truth {
    let disk = FaultDisk::new(State::default());
    let (mut wal, _) = Wal::create(disk.clone(), options(1), identity(), configuration())
        .expect("a sound disk takes a log");
    let four = Configuration::of_voters([1, 2, 3, 4].map(NodeId));
    let note = Bytes::from_static(b"a note");
    let batches: Vec<(Vec<Frame>, Option<Bytes>)> = vec![
        (vec![command(1, 1, 100), configuration_entry(2, 1, &four)], None),
        (commands(3, 4, 1, 500), None),
        (commands(5, 7, 1, 400), Some(note.clone())),
        (commands(8, 8, 1, 60), None),
        (commands(9, 13, 1, 700), None),
        (commands(14, 14, 1, 300), None),
        (commands(15, 17, 1, 500), None),
    ];
    let hard_state = vote(1, 1);
    let mut frames: Vec<Frame> = Vec::new();
    for (entries, note) in &batches {
        let after = Index(frames.len() as u64);
        wal.append(&Batch { hard_state, note: note.clone(), after, entries }).expect("works");
        frames.extend(entries.iter().cloned());
        if let Some(job) = wal.preparation() {
            wal.prepared(job.run(&disk)).expect("works");
        }
    }
    drop(wal);
    let mut segments: Vec<(String, usize, u64)> = Vec::new();
    inspect(&disk, &mut |finding| match finding {
        Finding::Segment(segment) => {
            segments.push((format!("segment-{:016x}", segment.number), 0, segment.start.index.0));
        }
        Finding::Batch(batch) => {
            segments.last_mut().expect("a segment comes first").1 =
                (batch.place.offset + batch.bytes) as usize;
        }
        _ => {}
    })
    .expect("a sound log can be looked at");
    assert_eq!(segments.len(), 4, "{segments:?}");
    let state = disk.state();
    let (configuration, last_batch) = (four, 15);
    Truth { state, frames, configuration, note, hard_state, last_batch, segments }
}

/// What opening a damaged log came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// All is there.
    Whole,
    /// The log begins later.
    Cut,
    /// The last batch is gone.
    Shorter,
    /// Rot, or a hole, above the machine's index.
    Refused,
}

impl Truth {
    pub(crate) fn last(&self) -> u64 {
        self.frames.len() as u64
    }

    /// Opens a damaged copy and demands that nothing wrong comes out.
    pub(crate) fn open(&self, damaged: &State, applied: u64, what: &str) -> Outcome {
        let disk = FaultDisk::new(damaged.clone());
        disk.record();
        inspect(&disk, &mut |_| {}).unwrap_or_else(|error| panic!("{what}: {error}"));
        let opened = Wal::open(disk.clone(), options(2), Index(applied));
        let (wal, recovered) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let expected = matches!(error, OpenError::Rot { .. } | OpenError::Missing { .. });
                assert!(expected, "{what}: {error}");
                assert_eq!(disk.recorded().len(), 1, "{what}: a refusal changes nothing");
                return Outcome::Refused;
            }
        };
        let outcome = self.compare(&wal, &recovered, applied, what);
        drop(wal);
        let again = Wal::open(disk, options(3), Index(applied));
        let (wal, recovered) = again.unwrap_or_else(|error| panic!("{what}, again: {error}"));
        assert_eq!(self.compare(&wal, &recovered, applied, what), outcome, "{what}, again");
        outcome
    }

    fn compare(
        &self,
        wal: &Wal<FaultDisk>,
        recovered: &Recovered,
        applied: u64,
        what: &str,
    ) -> Outcome {
        let base = recovered.range.prev.index.0;
        let last = recovered.range.last.0;
        assert!(base <= applied, "{what}");
        assert_eq!(recovered.hard_state, self.hard_state, "{what}");
        assert_eq!(recovered.note, self.note, "{what}");
        assert_eq!(recovered.configuration, self.configuration, "{what}");
        assert!(last == self.last() || last == self.last_batch - 1, "{what}: ends at {last}");
        if base < last {
            let read = wal.read(Index(base + 1), Index(last), u64::MAX);
            let read = read.unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(read, self.frames[base as usize..last as usize], "{what}");
        }
        match (base, last == self.last()) {
            (0, true) => Outcome::Whole,
            (_, true) => Outcome::Cut,
            (_, false) => Outcome::Shorter,
        }
    }
}

/// What opening a damaged log beside its machine came to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Way {
    /// All is there that the machine lacks.
    Whole,
    /// The last batch is gone.
    Shorter,
    /// Entries are damaged whose names are known.
    Repaired,
    /// Entries are lost without a trace.
    Recovered,
}

impl Truth {
    /// The machine that holds the first entries.
    fn machine(&self, applied: u64) -> Machine {
        let configuration = if applied < 2 { configuration() } else { self.configuration.clone() };
        Machine { applied: position(applied, applied.min(1)), configuration }
    }

    /// Opens a damaged copy beside its machine, goes the way back from the rot, and demands that
    /// nothing wrong comes out on the way, and all in the end.
    pub(crate) fn way_back(&self, damaged: &State, applied: u64, what: &str) -> Way {
        let disk = FaultDisk::new(damaged.clone());
        let open = |seed: u64| {
            let opened = Wal::open_beside(disk.clone(), options(seed), &self.machine(applied));
            let (wal, recovered) = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
            self.check_beside(&wal, &recovered, applied, what);
            (wal, recovered)
        };
        let (mut wal, recovered) = open(2);
        let last = recovered.range.last.0;
        let missing = self.frames[last as usize..].to_vec();
        let batch = Batch {
            hard_state: self.hard_state,
            note: Some(self.note.clone()),
            after: Index(last),
            entries: &missing,
        };
        let way = match (recovered.recovering, recovered.faulty.is_empty()) {
            (true, _) => Way::Recovered,
            (false, false) => Way::Repaired,
            (false, true) if last == self.last() => Way::Whole,
            (false, true) => {
                assert_eq!(last, self.last_batch - 1, "{what}");
                Way::Shorter
            }
        };
        if way == Way::Recovered {
            // The mark survives a restart, and what is written meanwhile.
            drop(wal);
            let (log, recovered) = open(3);
            assert!(recovered.recovering, "{what}");
            wal = log;
        }
        wal.append(&batch).unwrap_or_else(|error| panic!("{what}: {error}"));
        let strange = command(self.last() + 1, 9, 10);
        wal.repair(&[strange]).expect("what nobody asked for is left alone");
        if let Some(position) = recovered.faulty.first() {
            let wrong = command(position.index.0, position.term.0, 3000);
            assert!(wal.repair(&[wrong]).is_err(), "{what}");
        }
        assert_eq!(wal.repair(&self.frames).expect("they are the ones"), 0, "{what}");
        if way == Way::Recovered {
            drop(wal);
            let (log, recovered) = open(4);
            assert!(recovered.recovering, "{what}");
            wal = log;
            wal.end_recovering().unwrap_or_else(|error| panic!("{what}: {error}"));
        }
        drop(wal);
        let (_, recovered) = open(5);
        assert!(recovered.faulty.is_empty() && !recovered.recovering, "{what}: {recovered:?}");
        assert_eq!(recovered.range.last.0, self.last(), "{what}");
        way
    }

    /// Whatever is in the log is true, and what is not is known.
    fn check_beside(&self, wal: &Wal<FaultDisk>, recovered: &Recovered, applied: u64, what: &str) {
        let (base, last) = (recovered.range.prev.index.0, recovered.range.last.0);
        assert!(base <= applied && applied <= last, "{what}: from {base} to {last}");
        assert_eq!(recovered.hard_state, self.hard_state, "{what}");
        if 2 <= last {
            assert_eq!(recovered.configuration, self.configuration, "{what}");
        }
        let kept = recovered.note == self.note || recovered.recovering;
        assert!(kept || last < self.last(), "{what}: {:?}", recovered.note);
        let faulty: Vec<u64> = recovered.faulty.iter().map(|position| position.index.0).collect();
        for index in base + 1..=last {
            match wal.read(Index(index), Index(index), u64::MAX) {
                Ok(frames) => assert_eq!(frames, self.frames[index as usize - 1..][..1], "{what}"),
                Err(error) => assert!(faulty.contains(&index), "{what}: {error}"),
            }
        }
    }
}

/// Goes the way back from each lost sector, and from a bit flipped in every so many bytes; how often
/// it was which.
pub(crate) fn each_way_back(tried: &mut u64) -> BTreeMap<Way, u64> {
    let truth = truth();
    let mut seen = BTreeMap::new();
    let mut go = |damaged: &State, applied: u64, what: &str| {
        *tried += 1;
        *seen.entry(truth.way_back(damaged, applied, what)).or_insert(0) += 1;
    };
    for (name, used, before) in &truth.segments {
        for at in (0..*used).step_by(SECTOR) {
            for fill in [0x00, 0x5a] {
                for count in [1, 2, 3] {
                    let end = (at + count * SECTOR).min(*used);
                    let mut damaged = truth.state.clone();
                    damaged.contents(name)[at..end].fill(fill);
                    for applied in [0, *before] {
                        let what = format!("{fill:#x} in {at}..{end} of {name}, {applied} applied");
                        go(&damaged, applied, &what);
                    }
                }
            }
        }
        for at in (0..*used).step_by(BITS_STEP) {
            let mut damaged = truth.state.clone();
            damaged.contents(name)[at] ^= 1 << (at % 8);
            go(&damaged, 0, &format!("bit in byte {at} of {name}"));
        }
    }
    seen
}

/// A log in whose terms nobody was voted for loses the rest of a file: votes may be gone, and are
/// withheld in the highest term that is seen.
pub(crate) fn lost_votes(tried: &mut u64) {
    let disk = FaultDisk::new(State::default());
    let (mut wal, _) = Wal::create(disk.clone(), options(1), identity(), configuration())
        .expect("a sound disk takes a log");
    for index in 1..=20 {
        let hard_state = HardState { term: Term(index), vote: None };
        let entries = commands(index, index, index, 300);
        let after = Index(index - 1);
        wal.append(&Batch { hard_state, note: None, after, entries: &entries }).expect("works");
    }
    drop(wal);
    let mut batches = Vec::new();
    inspect(&disk, &mut |finding| {
        if let Finding::Batch(batch) = finding {
            batches.push(batch);
        }
    })
    .expect("a sound log can be looked at");
    for (at, cut) in batches.iter().enumerate().filter(|(_, cut)| 2 <= cut.after.index.0) {
        *tried += 1;
        let mut damaged = disk.state();
        let name = format!("segment-{:016x}", cut.place.segment);
        damaged.contents(&name).truncate(cut.place.offset as usize + SECTOR / 2);
        let disk = FaultDisk::new(damaged);
        let machine = Machine { applied: position(2, 2), configuration: configuration() };
        let (_, recovered) =
            Wal::open_beside(disk, options(2), &machine).expect("the others have the rest");
        assert!(recovered.recovering, "cut in batch {at}");
        let HardState { term, vote } = recovered.hard_state;
        let before = batches[at - 1].hard_state.term;
        assert!(before <= term, "cut in batch {at}: {term}");
        assert_eq!(vote, Some(NodeId(identity().member)), "nobody else gets it");
    }
}

/// Every how many bytes a bit is flipped: so that every field is hit.
const BITS_STEP: usize = 3;

/// Flips a bit in each byte; how often the log was whole, refused, or cut.
pub(crate) fn each_flipped_bit(tried: &mut u64) -> [u64; 3] {
    let truth = truth();
    let mut seen = [0; 3];
    for (name, used, _) in &truth.segments {
        for at in 0..*used {
            *tried += 1;
            let mut damaged = truth.state.clone();
            damaged.contents(name)[at] ^= 1 << (at % 8);
            let what = |applied: u64| format!("bit in byte {at} of {name}, applied {applied}");
            // The machine has nothing: what is damaged is mended or refused, and never cut, for a
            // flipped bit leaves no sector blank.
            match truth.open(&damaged, 0, &what(0)) {
                Outcome::Whole => seen[0] += 1,
                Outcome::Refused => seen[1] += 1,
                other => panic!("{}: {other:?}", what(0)),
            }
            // The machine has everything: one flipped bit never stops the member.
            match truth.open(&damaged, truth.last(), &what(truth.last())) {
                Outcome::Whole => {}
                Outcome::Cut => seen[2] += 1,
                other => panic!("{}: {other:?}", what(truth.last())),
            }
        }
    }
    seen
}

/// Loses one to three sectors everywhere; how often it came to what.
pub(crate) fn each_lost_sector(tried: &mut u64) -> BTreeMap<String, u64> {
    let truth = truth();
    let mut seen = BTreeMap::new();
    for (name, used, before) in &truth.segments {
        for at in (0..*used).step_by(SECTOR) {
            for fill in [0x00, 0x5a] {
                for count in [1, 2, 3] {
                    let end = (at + count * SECTOR).min(*used);
                    *tried += 1;
                    let mut damaged = truth.state.clone();
                    damaged.contents(name)[at..end].fill(fill);
                    for applied in [0, *before, truth.last()] {
                        let what = format!("{fill:#x} in {at}..{end} of {name}, {applied} applied");
                        let outcome = truth.open(&damaged, applied, &what);
                        let newest = name == &truth.segments[3].0;
                        assert!(newest || outcome != Outcome::Shorter, "{what}");
                        if applied == 0 {
                            assert_ne!(outcome, Outcome::Cut, "{what}");
                        }
                        *seen.entry(format!("{outcome:?}")).or_insert(0) += 1;
                    }
                }
            }
        }
    }
    seen
}
