//! The simulated disk's rules, one by one.

use std::collections::BTreeSet;

use super::*;

/// The power goes; every other unsynced name is lost, and no sector is.
fn lose_power(disk: &SimDisk, seed: u64) {
    let strikes =
        &mut |fault, choices: &mut Choices| fault == Fault::NameLost && choices.below(2) == 0;
    disk.lose_power(&mut Choices::of_seed(seed), strikes);
}

fn written(disk: &SimDisk, name: &str, bytes: &[u8]) -> SimFile {
    let file = disk.handle().create(name).expect("created");
    file.write_at(0, &[bytes]).expect("written");
    file
}

fn contents(disk: &SimDisk, name: &str) -> Option<Vec<u8>> {
    let file = disk.handle().open(name).ok()?;
    let mut bytes = vec![0; file.length().expect("alive") as usize];
    file.read_at(0, &mut bytes).expect("readable");
    Some(bytes)
}

#[test]
fn a_killed_process_loses_nothing_and_its_handles_are_dead() {
    let disk = SimDisk::new();
    let handle = disk.handle();
    let file = written(&disk, "a", b"hello");
    disk.kill_process();
    assert_eq!(contents(&disk, "a").as_deref(), Some(&b"hello"[..]));
    assert!(file.write_at(0, &[b"late"]).is_err());
    assert!(file.sync().is_err());
    assert!(handle.list().is_err());
    assert_eq!(contents(&disk, "a").as_deref(), Some(&b"hello"[..]));
}

#[test]
fn a_name_that_was_not_synced_may_be_lost_though_its_file_was() {
    let mut found = BTreeSet::new();
    for seed in 0..50 {
        let disk = SimDisk::new();
        written(&disk, "a", b"hello").sync().expect("synced");
        lose_power(&disk, seed);
        found.insert(contents(&disk, "a"));
    }
    assert_eq!(found, BTreeSet::from([None, Some(b"hello".to_vec())]));
}

#[test]
fn synced_names_survive_and_unsynced_removals_may_come_back() {
    let mut found = BTreeSet::new();
    for seed in 0..50 {
        let disk = SimDisk::new();
        let handle = disk.handle();
        written(&disk, "a", b"a").sync().expect("synced");
        written(&disk, "b", b"b").sync().expect("synced");
        handle.sync_directory().expect("synced");
        handle.remove("a").expect("removed");
        assert_eq!(handle.list().expect("alive"), ["b"]);
        lose_power(&disk, seed);
        assert_eq!(contents(&disk, "b").as_deref(), Some(&b"b"[..]));
        found.insert(contents(&disk, "a"));
    }
    assert_eq!(found, BTreeSet::from([None, Some(b"a".to_vec())]));
}

#[test]
fn a_renaming_happens_whole_or_not_at_all() {
    let mut found = BTreeSet::new();
    for seed in 0..50 {
        let disk = SimDisk::new();
        written(&disk, "old", b"1").sync().expect("synced");
        written(&disk, "new", b"2").sync().expect("synced");
        disk.handle().sync_directory().expect("synced");
        disk.handle().rename("new", "old").expect("renamed");
        lose_power(&disk, seed);
        found.insert((contents(&disk, "old"), contents(&disk, "new")));
    }
    let before = (Some(b"1".to_vec()), Some(b"2".to_vec()));
    let after = (Some(b"2".to_vec()), None);
    assert_eq!(found, BTreeSet::from([before, after]));
}

#[test]
fn a_process_dies_in_the_operation_it_was_told_to() {
    let mut lengths = BTreeSet::new();
    for number in 1..=40 {
        let disk = SimDisk::new();
        let file = disk.handle().create("a").expect("created");
        disk.die_in_operation(number);
        let block = [7; 4 * SECTOR_BYTES];
        let writes =
            (0..).take_while(|write| file.write_at(write * block.len() as u64, &[&block]).is_ok());
        assert_eq!(writes.count() as u64, number - 1);
        assert!(disk.is_dead());
        assert!(disk.handle().create("b").is_err(), "a dead process does nothing more");
        disk.kill_process();
        let length = contents(&disk, "a").expect("the name stays").len();
        assert!(length / block.len() == number as usize - 1 || length.is_multiple_of(block.len()));
        lengths.insert(length % block.len());
    }
    assert!(1 < lengths.len(), "some writes were done in part: {lengths:?}");
}

#[test]
fn a_failed_sync_makes_nothing_durable() {
    let mut kept = BTreeSet::new();
    for seed in 0..50 {
        let disk = SimDisk::new();
        let file = written(&disk, "a", &[1; SECTOR_BYTES]);
        file.sync().expect("synced");
        disk.handle().sync_directory().expect("synced");
        file.write_at(0, &[&[2; SECTOR_BYTES]]).expect("written");
        disk.fail_sync(1);
        assert!(file.sync().is_err());
        lose_power(&disk, seed);
        kept.insert(contents(&disk, "a").expect("the name was durable")[0]);
    }
    assert_eq!(kept, BTreeSet::from([1, 2]));
}

#[test]
fn a_full_disk_takes_what_fits_and_overwrites_what_it_has() {
    let disk = SimDisk::new();
    disk.set_capacity(Some(1000));
    let file = disk.handle().create("a").expect("created");
    let error = file.write_at(0, &[&[1; 600], &[2; 600]]).expect_err("it is too much");
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(disk.used_bytes(), 1000);
    file.write_at(0, &[&[3; 1000]]).expect("what is allocated can be overwritten");
    assert!(file.write_at(1000, &[&[1]]).is_err());
    disk.set_capacity(None);
    file.write_at(1000, &[&[1]]).expect("there is room again");
}

#[test]
fn bits_rot_and_sectors_become_unreadable_at_rest() {
    let disk = SimDisk::new();
    written(&disk, "a", &[0; 2 * SECTOR_BYTES]).sync().expect("synced");
    disk.flip("a", 7, 0).expect("there is such a file");
    assert_eq!(contents(&disk, "a").expect("there")[7], 1);
    disk.spoil("a", 600).expect("there is such a file");
    let file = disk.handle().open("a").expect("there");
    assert!(file.read_at(512, &mut [0; 1]).is_err());
    assert!(file.read_at(0, &mut [0; 512]).is_ok());
    assert!(disk.flip("b", 0, 0).is_err());
}

#[test]
fn names_and_files_follow_the_trait() {
    let disk = SimDisk::new();
    let handle = disk.handle();
    written(&disk, "a", b"abc");
    let exists = handle.create("a").expect_err("there is one already");
    assert_eq!(exists.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(handle.open("b").expect_err("none").kind(), io::ErrorKind::NotFound);
    let file = handle.open("a").expect("there");
    file.write_at(2, &[b"xy", b"z"]).expect("written");
    assert_eq!(contents(&disk, "a").as_deref(), Some(&b"abxyz"[..]));
    let end = file.read_at(3, &mut [0; 3]).expect_err("beyond the end");
    assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(disk.counts().operations, 4);
    assert_eq!(disk.listing(), [("a".to_owned(), 5)]);
}

#[test]
fn a_failed_write_has_written_a_part_and_a_failed_read_nothing() {
    let mut parts = BTreeSet::new();
    for size in 1..30 {
        let disk = SimDisk::new();
        let file = written(&disk, "segment-1", &vec![1; size * SECTOR_BYTES]);
        disk.fail_write(1, Fault::WriteFailed);
        let error = file.write_at(0, &[&vec![2; size * SECTOR_BYTES]]).expect_err("fails");
        assert_ne!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(disk.failure(), Some(Fault::WriteFailed));
        disk.fail_read(1);
        assert!(file.read_at(0, &mut [0; 1]).is_err());
        let bytes = contents(&disk, "segment-1").expect("there");
        let done = bytes.iter().take_while(|byte| **byte == 2).count();
        assert!(done % SECTOR_BYTES == 0 && bytes[done..].iter().all(|byte| *byte == 1));
        parts.insert(done == 0);
        parts.insert(done == bytes.len());
        assert_eq!(disk.take_struck(), [Fault::WriteFailed, Fault::ReadFailed]);
    }
    assert_eq!(parts, BTreeSet::from([false, true]));
}

#[test]
fn a_write_that_stops_short_of_space_is_no_failure_and_can_be_tried_again() {
    let disk = SimDisk::new();
    let file = written(&disk, "engine", &[1; 4096]);
    disk.fail_write(1, Fault::WriteShort);
    let error = file.write_at(0, &[&[2; 4096]]).expect_err("fails");
    assert_eq!((error.kind(), disk.failure()), (io::ErrorKind::StorageFull, None));
    file.write_at(0, &[&[2; 4096]]).expect("written");
    assert_eq!(disk.take_struck(), [Fault::WriteShort]);
}

#[test]
fn a_process_dies_at_its_worst_moment_or_so_many_operations_behind() {
    for number in 0..3 {
        let disk = SimDisk::new();
        let handle = disk.handle();
        let file = written(&disk, "spare-1", &[1; 10]);
        disk.die_after(Moment::Renamed, number);
        file.sync().expect("not yet");
        let renamed = handle.rename("spare-1", "segment-1");
        assert_eq!(renamed.is_err(), number == 0);
        let mut later = 0;
        while file.write_at(0, &[&[2; 10]]).is_ok() {
            later += 1;
        }
        assert_eq!(later, number.saturating_sub(1));
        assert!(disk.is_dead());
        assert_eq!(disk.take_struck(), [Fault::CrashAtWorst]);
    }
}
