//! Bytes that rot: whatever is flipped, lost, zeroed or cut off, opening gives the true entries, or
//! refuses and changes nothing, or cuts where the table says. It never gives wrong ones.

mod rot_points;
mod support;

use jangada_raft::Index;
use jangada_wal::inspect::inspect;
use jangada_wal::{OpenError, Wal};
use rot_points::{Outcome, each_flipped_bit, each_lost_sector, each_way_back, lost_votes, truth};
use support::fault::{FaultDisk, SECTOR};
use support::{configuration, identity, options};

#[test]
fn each_flipped_bit_is_mended_cut_or_refused() {
    let seen = each_flipped_bit(&mut 0);
    assert!(seen.iter().all(|count| 500 < *count), "{seen:?}");
}

#[test]
fn each_lost_sector_is_mended_cut_or_refused() {
    let seen = each_lost_sector(&mut 0);
    assert_eq!(seen.len(), 4, "{seen:?}");
}

#[test]
fn from_each_rot_there_is_a_way_back() {
    let seen = each_way_back(&mut 0);
    assert_eq!(seen.len(), 4, "{seen:?}");
    assert!(seen.values().all(|count| 5 < *count), "{seen:?}");
}

#[test]
fn a_vote_that_may_be_lost_is_withheld_in_the_highest_term_that_is_seen() {
    let mut tried = 0;
    lost_votes(&mut tried);
    assert!(1 < tried, "{tried}");
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
    contents[16] = 3;
    let crc = crc32c::crc32c(&contents[12..length as usize]);
    contents[8..12].copy_from_slice(&crc.to_le_bytes());
    contents[SECTOR] ^= 1;
    let opened = Wal::open(FaultDisk::new(newer), options(2), Index(0));
    assert!(matches!(opened, Err(OpenError::Format { found: 3 })));

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
