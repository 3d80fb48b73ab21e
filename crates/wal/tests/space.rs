//! A disk that fills up: the log learns of it before it needs the space, keeps a reserve for what
//! gets out of it, and goes on when there is space again.

mod support;

use jangada_raft::Index;
use jangada_wal::{Batch, Machine, Options, Space, Wal, WalError, Weight};
use support::fault::{Fault, FaultDisk, State};
use support::{command, configuration, identity, options, position, term};

/// A log with two segments ready.
fn create() -> (FaultDisk, Wal<FaultDisk>) {
    let disk = FaultDisk::new(State::default());
    let options = Options { spares: 2, segment_bytes_max: 8192, ..options(1) };
    let (mut wal, _) = Wal::create(disk.clone(), options, identity(), configuration())
        .expect("a sound disk takes a log");
    for _ in 0..2 {
        prepare(&disk, &mut wal).expect("there is space");
    }
    assert!(wal.preparation().is_none() && wal.spares_ready() == 2);
    (disk, wal)
}

fn prepare(disk: &FaultDisk, wal: &mut Wal<FaultDisk>) -> Result<(), WalError> {
    let job = wal.preparation().expect("there is something to do");
    wal.prepared(job.run(disk))
}

fn append(wal: &mut Wal<FaultDisk>, weight: Weight) -> Result<(), WalError> {
    let last = wal.last_position().index;
    let entries = [command(last.0 + 1, 1, 400)];
    wal.append_as(
        weight,
        &Batch { hard_state: term(1), note: None, after: last, entries: &entries },
    )
}

/// Fills the log until the disk is known to have no space.
fn fill(disk: &FaultDisk, wal: &mut Wal<FaultDisk>) {
    disk.break_with(Fault::FullForGood);
    while wal.spares_ready() == 2 {
        append(wal, Weight::Ordinary).expect("a segment is ready");
    }
    assert_eq!(wal.space(), Space::Plenty, "nobody has tried yet");
    assert!(matches!(prepare(disk, wal), Err(WalError::Full)));
}

#[test]
fn no_space_is_known_before_the_active_segment_is_full_and_the_reserve_is_kept() {
    let (disk, mut wal) = create();
    fill(&disk, &mut wal);
    assert_eq!(wal.space(), Space::Reserve);
    let last = wal.last_position();
    assert!(matches!(append(&mut wal, Weight::Ordinary), Err(WalError::Reserved)));
    assert_eq!(wal.last_position(), last, "nothing was written");
    append(&mut wal, Weight::Essential).expect("the active segment has room");
    // A segment of 4 KiB has room for some of these batches, and one stands in reserve.
    let mut written = 0;
    let refused = loop {
        match append(&mut wal, Weight::Essential) {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, WalError::Full) && wal.spares_ready() == 0);
    assert!(1 < written, "{written}");
    drop(wal);
    disk.break_with(Fault::Full(u64::MAX));
    let (wal, recovered) = Wal::open(disk, options(2), Index(0)).expect("a sound log opens");
    assert_eq!(recovered.range.last, wal.last_position().index);
    let frames = wal.read(Index(1), recovered.range.last, u64::MAX).expect("sound");
    assert_eq!(frames.len() as u64, recovered.range.last.0);
}

#[test]
fn a_batch_that_waits_for_a_larger_segment_than_those_that_are_ready_wants_space() {
    let (disk, mut wal) = create();
    disk.break_with(Fault::FullForGood);
    let last = wal.last_position().index;
    let entries = [command(last.0 + 1, 1, 20_000)];
    let batch = Batch { hard_state: term(1), note: None, after: last, entries: &entries };
    assert!(matches!(wal.append_as(Weight::Ordinary, &batch), Err(WalError::Full)));
    assert_eq!((wal.space(), wal.spares_ready()), (Space::Reserve, 2));
    disk.break_with(Fault::Full(u64::MAX));
    wal.append_as(Weight::Ordinary, &batch).expect("there is space again");
    while wal.preparation().is_some_and(|job| wal.prepared(job.run(&disk)).is_ok()) {}
    assert_eq!(wal.space(), Space::Plenty);
}

#[test]
fn an_ordinary_batch_never_takes_the_reserve_though_nobody_knew_that_the_disk_is_full() {
    let (disk, mut wal) = create();
    disk.break_with(Fault::FullForGood);
    let refused = loop {
        if let Err(error) = append(&mut wal, Weight::Ordinary) {
            break error;
        }
    };
    assert!(matches!(refused, WalError::Reserved), "{refused}");
    assert_eq!((wal.spares_ready(), wal.space()), (1, Space::Reserve));
    append(&mut wal, Weight::Essential).expect("this is what the reserve is for");
    assert_eq!(wal.spares_ready(), 0);
}

#[test]
fn what_a_cut_releases_is_space_again() {
    let (disk, mut wal) = create();
    fill(&disk, &mut wal);
    assert!(wal.preparation().is_none(), "it is not tried at once");
    let last = wal.last_position().index.0;
    wal.cut(position(last, 1), &configuration()).expect("works");
    // The reserve alone is not enough, and no file can grow; the released file does not need to.
    prepare(&disk, &mut wal).expect("the file is there");
    assert_eq!((wal.spares_ready(), wal.space()), (2, Space::Plenty));
    append(&mut wal, Weight::Ordinary).expect("there is space again");
}

#[test]
fn space_that_comes_back_is_noticed_when_its_owner_asks() {
    let (disk, mut wal) = create();
    fill(&disk, &mut wal);
    disk.break_with(Fault::Full(u64::MAX));
    assert!(wal.preparation().is_none(), "the log has no clock");
    wal.retry_space();
    assert_eq!(wal.space(), Space::Reserve, "not before it was tried");
    prepare(&disk, &mut wal).expect("there is space");
    assert_eq!(wal.space(), Space::Plenty);
    append(&mut wal, Weight::Ordinary).expect("there is space again");
}

#[test]
fn a_failed_sync_ends_the_log_also_while_there_is_no_space() {
    let (disk, mut wal) = create();
    fill(&disk, &mut wal);
    disk.break_with(Fault::Sync(0));
    assert!(matches!(append(&mut wal, Weight::Essential), Err(WalError::Io(_))));
    assert!(matches!(append(&mut wal, Weight::Essential), Err(WalError::Poisoned)));
    assert!(wal.preparation().is_none());
}

#[test]
fn a_full_disk_leaves_a_damaged_log_repairable_and_a_mark_clearable_later() {
    let (disk, mut wal) = create();
    for _ in 0..5 {
        append(&mut wal, Weight::Ordinary).expect("there is space");
    }
    drop(wal);
    let mut state = disk.state();
    let frame = command(3, 1, 400);
    let at = |bytes: &[u8]| bytes.windows(64).position(|window| window == &frame.bytes()[..64]);
    for name in state.names() {
        if let Some(at) = at(state.contents(&name)) {
            state.contents(&name)[at + 100] ^= 1;
        }
    }
    let disk = FaultDisk::new(state);
    let machine = Machine { applied: position(0, 0), configuration: configuration() };
    let (mut wal, recovered) =
        Wal::open_beside(disk.clone(), options(2), &machine).expect("the log opens");
    assert_eq!(recovered.faulty, [position(3, 1)]);
    disk.break_with(Fault::Full(0));
    assert!(matches!(wal.repair(std::slice::from_ref(&frame)), Err(WalError::Full)));
    assert_eq!(wal.faulty(), [position(3, 1)]);
    disk.break_with(Fault::Full(0));
    assert!(matches!(wal.give_up_faulty(), Err(WalError::Full)));
    assert!(!wal.is_recovering());
    disk.break_with(Fault::Full(u64::MAX));
    assert_eq!(wal.repair(&[]).expect("it is tried again with what has come"), 0);
    assert!(wal.faulty().is_empty());
    assert_eq!(wal.read(Index(3), Index(3), 1).expect("sound"), [frame]);
}
