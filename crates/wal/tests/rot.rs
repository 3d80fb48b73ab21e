//! Bytes that rot: whatever is flipped, lost, zeroed or cut off, opening gives the true entries, or
//! refuses and changes nothing, or cuts where the table says. It never gives wrong ones.

mod support;

use bytes::Bytes;
use jangada_entry::Frame;
use jangada_raft::{Configuration, HardState, Index, NodeId};
use jangada_wal::inspect::{Finding, inspect};
use jangada_wal::{Batch, OpenError, Recovered, Wal};
use support::fault::{FaultDisk, SECTOR, State};
use support::{command, commands, configuration, configuration_entry, identity, options, vote};

/// A log of four segments with a configuration in the first and a note in the third.
struct Truth {
    state: State,
    frames: Vec<Frame>,
    configuration: Configuration,
    note: Bytes,
    hard_state: HardState,
    /// The first entry of the last batch.
    last_batch: u64,
    /// The segments' names, how many of their bytes are in use, and the last index before each.
    segments: Vec<(String, usize, u64)>,
}

fn truth() -> Truth {
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
enum Outcome {
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
    fn last(&self) -> u64 {
        self.frames.len() as u64
    }

    /// Opens a damaged copy and demands that nothing wrong comes out.
    fn open(&self, damaged: &State, applied: u64, what: &str) -> Outcome {
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

#[test]
fn each_flipped_bit_is_mended_cut_or_refused() {
    let truth = truth();
    let mut seen = [0; 3];
    for (name, used, _) in &truth.segments {
        for at in 0..*used {
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
    assert!(seen.iter().all(|count| 500 < *count), "{seen:?}");
}

#[test]
fn each_lost_sector_is_mended_cut_or_refused() {
    let truth = truth();
    let mut seen = std::collections::BTreeMap::new();
    for (name, used, before) in &truth.segments {
        for at in (0..*used).step_by(SECTOR) {
            for fill in [0x00, 0x5a] {
                for count in [1, 2, 3] {
                    let end = (at + count * SECTOR).min(*used);
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
    assert_eq!(seen.len(), 4, "{seen:?}");
}

#[test]
fn a_file_that_is_shorter_is_refused_or_cut() {
    let truth = truth();
    let mut refused = 0;
    for (at, (name, _, _)) in truth.segments.iter().enumerate() {
        let length = truth.state.clone().contents(name).len();
        for end in (0..length).step_by(SECTOR / 2) {
            let mut damaged = truth.state.clone();
            damaged.contents(name).truncate(end);
            for applied in [0, truth.last()] {
                let what = format!("{name} ends at byte {end}, {applied} applied");
                let outcome = truth.open(&damaged, applied, &what);
                // A segment that is followed by another may lose what is behind its batches.
                let spared = at + 1 < truth.segments.len() && truth.segments[at].1 <= end;
                match (spared, applied) {
                    (true, _) => assert_eq!(outcome, Outcome::Whole, "{what}"),
                    // What lacks a trailer only is whole.
                    (false, 0) => {
                        assert!(matches!(outcome, Outcome::Whole | Outcome::Refused), "{what}");
                        refused += u64::from(outcome == Outcome::Refused);
                    }
                    (false, _) => assert_ne!(outcome, Outcome::Shorter, "{what}"),
                }
            }
        }
    }
    assert!(50 < refused, "{refused}");
}

#[test]
fn a_segment_that_is_missing_is_noticed_when_it_is_needed() {
    let truth = truth();
    for (at, (name, _, _)) in truth.segments.iter().enumerate().take(3) {
        let mut damaged = truth.state.clone();
        damaged.forget(name);
        assert_eq!(truth.open(&damaged, 0, name), Outcome::Refused);
        let next = truth.segments[at + 1].2;
        assert_eq!(truth.open(&damaged, next - 1, name), Outcome::Refused);
        assert_eq!(truth.open(&damaged, next, name), Outcome::Cut);
    }
}

#[test]
fn rot_is_told_in_a_sentence_with_the_place_and_what_to_do() {
    let truth = truth();
    let (name, used, _) = &truth.segments[1];
    let mut damaged = truth.state.clone();
    damaged.contents(name)[used - SECTOR - 600] ^= 1;
    let disk = FaultDisk::new(damaged.clone());
    let error = Wal::open(disk, options(2), Index(0)).map(|_| ()).expect_err("it is rotten");
    let text = error.to_string();
    assert!(text.contains(name) && text.contains("behind entry 2"), "{text}");
    assert!(text.contains("remove this member from the cluster and add it anew"), "{text}");
    let disk = FaultDisk::new(damaged);
    let (_, recovered) = Wal::open(disk, options(2), Index(5)).expect("the machine has it");
    let text = recovered.report.to_string();
    assert!(text.contains(name) && text.contains("begins behind entry 4"), "{text}");
}

#[test]
fn inspection_names_the_damage_and_goes_on() {
    let truth = truth();
    let disk = FaultDisk::new(truth.state.clone());
    let mut lines = Vec::new();
    let totals = inspect(&disk, &mut |finding| lines.push(finding.to_string())).expect("works");
    assert_eq!((totals.segments, totals.damaged), (4, 0), "{lines:?}");
    // The batch that create wrote, and seven more.
    assert_eq!((totals.batches, totals.entries), (8, 17), "{lines:?}");
    let (name, used, _) = &truth.segments[1];
    let mut damaged = truth.state.clone();
    damaged.contents(name)[0] ^= 1;
    damaged.contents(name)[SECTOR] ^= 1;
    damaged.contents(name)[used - SECTOR] ^= 1;
    let disk = FaultDisk::new(damaged);
    let mut lines = Vec::new();
    let totals = inspect(&disk, &mut |finding| lines.push(finding.to_string())).expect("works");
    assert_eq!((totals.segments, totals.entries), (3, 17), "{lines:?}");
    assert_eq!(totals.damaged, 2, "{lines:?}");
    assert!(lines.contains(&format!("both headers of {name} are damaged")), "{lines:?}");
}

#[test]
fn folders_of_others_and_of_later_versions_are_told_apart() {
    let disk = jangada_wal::MemoryDisk::new();
    assert!(matches!(Wal::open(disk.clone(), options(1), Index(0)), Err(OpenError::NoLog)));
    jangada_wal::Disk::create(&disk, "member").expect("works");
    assert!(matches!(Wal::exists(&disk), Err(OpenError::Foreign { .. })));
    let made = Wal::create(disk, options(1), identity(), configuration());
    assert!(matches!(made, Err(OpenError::Foreign { .. })));

    let truth = truth();
    let name = &truth.segments[2].0;
    let mut newer = truth.state.clone();
    let contents = newer.contents(name);
    let length = u32::from_le_bytes([contents[12], contents[13], contents[14], contents[15]]);
    contents[16] = 2;
    let crc = crc32c::crc32c(&contents[12..length as usize]);
    contents[8..12].copy_from_slice(&crc.to_le_bytes());
    contents[SECTOR] ^= 1;
    let opened = Wal::open(FaultDisk::new(newer), options(2), Index(0));
    assert!(matches!(opened, Err(OpenError::Format { found: 2 })));

    let mut mixed = truth.state;
    let contents = mixed.contents(name);
    for start in [0, SECTOR] {
        contents[start + 40] ^= 1;
        let crc = crc32c::crc32c(&contents[start + 12..start + length as usize]);
        contents[start + 8..start + 12].copy_from_slice(&crc.to_le_bytes());
    }
    let opened = Wal::open(FaultDisk::new(mixed), options(2), Index(0));
    assert!(matches!(opened, Err(OpenError::AnotherIdentity { .. })));
}
