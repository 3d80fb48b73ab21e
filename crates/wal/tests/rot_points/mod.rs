//! A log whose bytes rot one after the other: what is damaged, and what may come out.

use std::collections::BTreeMap;

use bytes::Bytes;
use jangada_entry::Frame;
use jangada_raft::{Configuration, HardState, Index, NodeId};
use jangada_wal::inspect::{Finding, inspect};
use jangada_wal::{Batch, OpenError, Recovered, Wal};

use crate::support::fault::{FaultDisk, SECTOR, State};
use crate::support::{
    command, commands, configuration, configuration_entry, identity, options, vote,
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
