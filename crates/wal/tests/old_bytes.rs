//! Bytes of foreign or earlier origin: no panic, and nothing old passes for new.

mod leftovers;
mod support;

use jangada_raft::Index;
use jangada_wal::inspect::inspect;
use jangada_wal::{Batch, Disk, File, Machine, OpenError, Wal};
use leftovers::{behind_the_end, contents, log, segments};
use proptest::prelude::*;
use support::{commands, configuration, options, position, term};

#[test]
fn what_stands_behind_the_end_never_passes() {
    let mut tried = 0;
    behind_the_end(&mut tried);
    assert!(50 < tried, "{tried}");
}

/// A segment's file that holds another segment, sound as that is, is not that segment.
#[test]
fn a_segment_under_another_name_is_refused() {
    let (disk, _) = log(1);
    let names = segments(&disk);
    disk.remove(&names[1]).expect("works");
    let copy = disk.create(&names[1]).expect("works");
    copy.write_at(0, &[&contents(&disk, &names[0])]).expect("works");
    let opened = Wal::open(disk, options(9), Index(0));
    assert!(matches!(opened, Err(OpenError::Rot { .. })));
}

/// A payload that holds a whole segment of the very log it is written to.
#[test]
fn a_copy_of_the_log_inside_a_payload_never_passes() {
    let (disk, last) = log(1);
    let newest = contents(&disk, segments(&disk).last().expect("there are segments"));
    let (mut wal, _) = Wal::open(disk.clone(), options(3), Index(0)).expect("a sound log opens");
    for shift in [0, 136, 296] {
        let mut payload = jangada_entry::Draft::buffer(newest.len());
        payload.resize(payload.len() + shift, 1);
        payload.extend_from_slice(&newest);
        let index = wal.last_position().index;
        let draft = jangada_entry::Draft::new(
            payload,
            jangada_entry::Kind::Command,
            1,
            support::GROUP,
            jangada_entry::Origin::default(),
        );
        let entry = draft.stamp(support::position(index.0 + 1, 1), 1);
        let entries = [entry];
        let batch = Batch { hard_state: term(1), note: None, after: index, entries: &entries };
        wal.append(&batch).expect("memory takes everything");
    }
    drop(wal);
    let (wal, recovered) = Wal::open(disk, options(4), Index(0)).expect("a sound log opens");
    assert_eq!(recovered.range.last, Index(last + 3));
    assert_eq!(
        wal.read(Index(1), Index(last), u64::MAX).expect("sound"),
        commands(1, last, 1, 300)
    );
}

/// What a damage does to a file.
#[derive(Clone, Debug)]
enum Change {
    Byte(usize, u8),
    Sector(usize, u8),
    Replace(Vec<u8>),
}

fn changes() -> impl Strategy<Value = Vec<(usize, Change)>> {
    let change = prop_oneof![
        6 => (0..6000_usize, any::<u8>()).prop_map(|(at, value)| Change::Byte(at, value)),
        3 => (0..12_usize, any::<u8>()).prop_map(|(at, value)| Change::Sector(at, value)),
        1 => prop::collection::vec(any::<u8>(), 0..3000).prop_map(Change::Replace),
    ];
    prop::collection::vec((any::<usize>(), change), 1..8)
}

proptest! {
    /// Opening and inspecting never panic; what opens is a stretch of the true log, and opens again.
    #[test]
    fn a_log_with_random_damage_opens_truly_or_not_at_all(
        damage in changes(),
        applied in 0..17_u64,
    ) {
        let (disk, last) = log(1);
        let names = disk.list().expect("works");
        for (file, change) in damage {
            let name = &names[file % names.len()];
            let file = disk.open(name).expect("the file is there");
            match change {
                Change::Byte(at, value) => file.write_at(at as u64, &[&[value]]),
                Change::Sector(at, value) => file.write_at(at as u64 * 512, &[&[value; 512]]),
                Change::Replace(bytes) => file.write_at(0, &[&bytes]),
            }
            .expect("memory takes everything");
        }
        inspect(&disk, &mut |finding| drop(finding.to_string())).expect("there is a log");
        let machine = Machine {
            applied: position(applied, applied.min(1)),
            configuration: configuration(),
        };
        if let Ok((wal, recovered)) = Wal::open_beside(disk.snapshot(), options(5), &machine) {
            let (first, end) = (recovered.range.first(), recovered.range.last);
            prop_assert!(recovered.range.prev.index.0 <= applied && applied <= end.0);
            for index in first.0..=end.0 {
                let faulty = recovered.faulty.contains(&position(index, 1));
                match wal.read(Index(index), Index(index), u64::MAX) {
                    Ok(read) => prop_assert_eq!(read, commands(index, index, 1, 300)),
                    Err(error) => prop_assert!(faulty, "{}", error),
                }
            }
        }
        if let Ok((wal, recovered)) = Wal::open(disk.clone(), options(5), Index(applied)) {
            let (first, end) = (recovered.range.first(), recovered.range.last);
            prop_assert!(recovered.range.prev.index.0 <= applied && end.0 <= last);
            if first <= end {
                let read = wal.read(first, end, u64::MAX).expect("what was accepted is sound");
                prop_assert_eq!(read, commands(first.0, end.0, 1, 300));
            }
            drop(wal);
            let (_, again) = Wal::open(disk, options(6), Index(applied)).expect("it opened once");
            prop_assert_eq!(again.range, recovered.range);
        }
    }
}
