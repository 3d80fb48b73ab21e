//! The log through its public border, where nothing breaks.

mod support;

use bytes::Bytes;
use jangada_raft::{Configuration, HardState, Index, NodeId};
use jangada_wal::{
    Anew, Batch, Disk, FileDisk, MemoryDisk, NOTE_BYTES_MAX, OpenError, Wal, WalError,
};
use support::{
    command, commands, configuration, configuration_entry, identity, options, position, term, vote,
};

fn create() -> (MemoryDisk, Wal<MemoryDisk>) {
    let disk = MemoryDisk::new();
    let (wal, _) = Wal::create(disk.clone(), options(1), identity(), configuration())
        .expect("an empty folder takes a log");
    (disk, wal)
}

fn append(
    wal: &mut Wal<MemoryDisk>,
    hard_state: HardState,
    after: u64,
    frames: &[jangada_entry::Frame],
) {
    let batch = Batch { hard_state, note: None, after: Index(after), entries: frames };
    wal.append(&batch).expect("a memory disk takes everything");
}

#[test]
fn a_new_log_is_empty_and_has_a_random_life() {
    let disk = MemoryDisk::new();
    assert!(!Wal::exists(&disk).expect("the disk works"));
    let (wal, recovered) = Wal::create(disk.clone(), options(1), identity(), configuration())
        .expect("an empty folder takes a log");
    assert!(Wal::exists(&disk).expect("the disk works"));
    assert_ne!(recovered.identity.incarnation, 0);
    assert_eq!(recovered.hard_state, HardState::default());
    assert!(recovered.range.is_empty());
    assert_eq!(recovered.configuration, configuration());
    assert_eq!(wal.first_index(), Index(1));
    let other = Wal::create(disk, options(2), identity(), configuration());
    assert!(matches!(other, Err(OpenError::Exists)));
}

#[test]
fn what_is_appended_is_read_before_and_after_opening() {
    let (disk, mut wal) = create();
    let frames = commands(1, 40, 1, 300);
    for (at, frame) in frames.iter().enumerate() {
        append(&mut wal, vote(1, 1), at as u64, std::slice::from_ref(frame));
    }
    assert_eq!(wal.read(Index(1), Index(40), u64::MAX).expect("sound"), frames);
    drop(wal);
    let (wal, recovered) = Wal::open(disk, options(2), Index(0)).expect("a sound log opens");
    assert_eq!(recovered.range.last, Index(40));
    assert_eq!(recovered.hard_state, vote(1, 1));
    assert_eq!(recovered.report.to_string(), "the log is clean");
    assert_eq!(wal.read(Index(1), Index(40), u64::MAX).expect("sound"), frames);
    let some = wal.read(Index(7), Index(40), 800).expect("sound");
    assert_eq!(some, frames[6..8]);
    let one = wal.read(Index(7), Index(40), 1).expect("sound");
    assert_eq!(one, frames[6..7]);
}

#[test]
fn dropped_entries_stay_dropped_and_their_configuration_is_taken_back() {
    let (disk, mut wal) = create();
    append(&mut wal, term(1), 0, &commands(1, 5, 1, 100));
    let two = Configuration::of_voters([NodeId(1), NodeId(2)]);
    append(&mut wal, term(1), 5, &[configuration_entry(6, 1, &two), command(7, 1, 10)]);
    drop(wal);
    let (mut wal, recovered) = Wal::open(disk.clone(), options(2), Index(0)).expect("opens");
    assert_eq!(recovered.configuration, two);
    append(&mut wal, term(2), 4, &commands(5, 8, 2, 50));
    drop(wal);
    let (wal, recovered) = Wal::open(disk, options(3), Index(0)).expect("opens");
    assert_eq!(recovered.configuration, configuration());
    assert_eq!(recovered.range.last_position(), position(8, 2));
    assert_eq!(recovered.range.term_at(Index(4)), Some(position(4, 1).term));
    assert_eq!(recovered.range.term_at(Index(5)), Some(position(5, 2).term));
    let frames = wal.read(Index(3), Index(8), u64::MAX).expect("sound");
    assert_eq!(frames[..2], commands(3, 4, 1, 100));
    assert_eq!(frames[2..], commands(5, 8, 2, 50));
}

#[test]
fn cutting_keeps_what_is_behind_and_the_note() {
    let (disk, mut wal) = create();
    let note = Bytes::from_static(b"peers");
    let batch =
        Batch { hard_state: term(1), note: Some(note.clone()), after: Index(0), entries: &[] };
    wal.append(&batch).expect("works");
    for index in 1..=60 {
        append(&mut wal, term(1), index - 1, &commands(index, index, 1, 400));
        if let Some(preparation) = wal.preparation() {
            wal.prepared(preparation.run(&disk)).expect("works");
        }
    }
    let before = wal.bytes();
    let base = wal.cut(position(50, 1), &configuration()).expect("works");
    assert!(Index(20) < base.index && base.index <= Index(50), "{base:?}");
    assert!(wal.bytes() < before);
    assert_eq!(wal.first_index(), base.index.next());
    let rest = wal.read(base.index.next(), Index(60), u64::MAX).expect("sound");
    assert_eq!(rest, commands(base.index.0 + 1, 60, 1, 400));
    drop(wal);
    let refused = Wal::open(disk.clone(), options(2), Index(base.index.0 - 1));
    assert!(matches!(refused, Err(OpenError::Missing { .. })));
    let (wal, recovered) = Wal::open(disk, options(2), Index(50)).expect("opens");
    assert_eq!(recovered.note, note);
    assert_eq!(recovered.range.prev, base);
    assert_eq!(wal.read(base.index.next(), Index(60), u64::MAX).expect("sound"), rest);
}

#[test]
fn a_cut_beyond_the_log_starts_it_anew() {
    let (disk, mut wal) = create();
    append(&mut wal, vote(3, 2), 0, &commands(1, 5, 1, 100));
    let two = Configuration::of_voters([NodeId(1), NodeId(2)]);
    assert_eq!(wal.cut(position(9, 3), &two).expect("works"), position(9, 3));
    append(&mut wal, vote(3, 2), 9, &commands(10, 11, 3, 100));
    drop(wal);
    let (wal, recovered) = Wal::open(disk, options(2), Index(9)).expect("opens");
    assert_eq!(recovered.range.prev, position(9, 3));
    assert_eq!(recovered.base_configuration, two);
    assert_eq!(recovered.hard_state, vote(3, 2));
    assert_eq!(wal.read(Index(10), Index(11), 0).expect("sound"), commands(10, 10, 3, 100));
}

#[test]
fn opening_again_and_again_takes_no_more_files() {
    let (disk, mut wal) = create();
    append(&mut wal, term(1), 0, &commands(1, 5, 1, 100));
    drop(wal);
    for seed in 2..20 {
        let (wal, recovered) = Wal::open(disk.clone(), options(seed), Index(0)).expect("opens");
        assert_eq!(recovered.range.last, Index(5));
        assert_eq!(wal.read(Index(1), Index(5), u64::MAX).expect("sound").len(), 5);
    }
    assert!(disk.list().expect("works").len() <= 4, "{:?}", disk.list());
}

#[test]
fn a_note_that_is_too_large_is_refused_and_nothing_is_written() {
    let (_, mut wal) = create();
    let note = Some(Bytes::from(vec![0; NOTE_BYTES_MAX + 1]));
    let batch = Batch { hard_state: term(1), note, after: Index(0), entries: &[] };
    assert!(matches!(wal.append(&batch), Err(WalError::NoteTooLarge { .. })));
    append(&mut wal, term(1), 0, &commands(1, 1, 1, 10));
}

#[test]
fn a_batch_larger_than_a_segment_gets_one_of_its_own() {
    let (disk, mut wal) = create();
    let frames = commands(1, 3, 1, 100_000);
    append(&mut wal, term(1), 0, &frames);
    append(&mut wal, term(1), 3, &commands(4, 4, 1, 10));
    drop(wal);
    let (wal, _) = Wal::open(disk, options(2), Index(0)).expect("opens");
    assert_eq!(wal.read(Index(1), Index(3), u64::MAX).expect("sound"), frames);
}

#[test]
fn a_real_folder_has_one_owner() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("a/b");
    let disk = FileDisk::open(&path).expect("the folder is made");
    let refused = FileDisk::open(&path).expect_err("the folder is taken").to_string();
    assert!(refused.contains(&std::process::id().to_string()), "{refused}");
    assert!(refused.contains(&path.display().to_string()), "{refused}");
    let (mut wal, _) =
        Wal::create(disk, options(1), identity(), configuration()).expect("a log is made");
    let frames = commands(1, 2000, 1, 33);
    let batch = Batch { hard_state: term(1), note: None, after: Index(0), entries: &frames };
    wal.append(&batch).expect("works");
    drop(wal);
    let disk = FileDisk::open(&path).expect("the folder is free again");
    let (wal, _) = Wal::open(disk, options(2), Index(0)).expect("opens");
    assert_eq!(wal.read(Index(1), Index(2000), u64::MAX).expect("sound"), frames);
}

#[test]
fn a_log_begun_anew_holds_nothing_but_what_is_in_force() {
    let (disk, mut wal) = create();
    append(&mut wal, vote(3, 2), 0, &commands(1, 40, 1, 300));
    let addresses =
        [(NodeId(2), vec!["http://two.example:2380".to_string()])].into_iter().collect();
    let configuration = Configuration {
        addresses,
        target: vec![NodeId(2)],
        ..Configuration::of_voters([NodeId(1)])
    };
    let anew = Anew {
        position: position(20, 4),
        configuration: configuration.clone(),
        hard_state: vote(5, 1),
        note: Some(Bytes::from_static(b"note")),
    };
    wal.begin_anew(&anew).expect("memory takes everything");
    assert_eq!((wal.base(), wal.last_position()), (position(20, 4), position(20, 4)));
    append(&mut wal, vote(5, 1), 20, &commands(21, 22, 5, 10));
    drop(wal);
    let (wal, recovered) = Wal::open(disk.clone(), options(2), Index(20)).expect("opens");
    assert_eq!(recovered.range.prev, position(20, 4));
    assert_eq!(recovered.base_configuration, configuration);
    assert_eq!((recovered.hard_state, &recovered.note[..]), (vote(5, 1), &b"note"[..]));
    assert_eq!(wal.read(Index(21), Index(22), 999).expect("sound"), commands(21, 22, 5, 10));
    let segments = disk.list().expect("works");
    assert_eq!(segments.iter().filter(|name| name.starts_with("segment")).count(), 2);
}
