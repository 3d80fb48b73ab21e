//! Every crash point of short histories: after each step on the disk, the power is cut, or the
//! process killed, and whatever may be left is opened and compared with a model of the log.
//!
//! What must hold: nothing durable is lost, nothing appears that was not written, term and vote are
//! those of the model, and a cut of the power is never taken for rot while sectors are written whole
//! or not at all.

mod crash_points;
mod support;

use crash_points::{
    ALL, Dice, Drop, Effort, Large, Model, Operation, Prepare, Small, Tally, Vote,
    chosen_histories, crash, failed_syncs, released_segments, rotten_histories, run,
    short_histories,
};
use jangada_raft::Index;
use jangada_wal::{OpenError, Wal, WalError};
use support::fault::{Fault, FaultDisk, State};
use support::{configuration, identity, options};

#[test]
fn every_crash_point_of_every_history_of_up_to_three_operations() {
    let mut tally = Tally::default();
    short_histories(&mut tally);
    for seen in [tally.before, tally.after, tally.rotten, tally.torn, tally.reopened] {
        assert!(100 < seen, "{tally:?}");
    }
    assert!(0 < tally.no_log, "{tally:?}");
}

#[test]
fn every_crash_point_of_chosen_histories_of_six_operations() {
    let mut tally = Tally::default();
    chosen_histories(&mut tally);
    assert!(1000 < tally.states, "{tally:?}");
}

#[test]
fn every_crash_point_of_the_ways_back_from_rot() {
    let mut tally = Tally::default();
    rotten_histories(&mut tally);
    for seen in [tally.before, tally.after, tally.rotten] {
        assert!(100 < seen, "{tally:?}");
    }
}

#[test]
fn a_file_that_was_released_is_not_overwritten_before_its_release_is_durable() {
    let mut tally = Tally::default();
    released_segments(&mut tally);
    assert!(100 < tally.states && 10 < tally.reopened, "{tally:?}");
}

#[test]
fn crash_points_of_histories_of_six_operations_drawn_at_random() {
    let mut tally = Tally::default();
    let mut dice = Dice(3);
    for _ in 0..150 {
        let history: Vec<Operation> =
            (0..6).map(|_| ALL[dice.roll(ALL.len() as u64) as usize]).collect();
        crash(&history, Effort::Few, &mut tally, &mut dice);
    }
    assert!(1000 < tally.states, "{tally:?}");
}

#[test]
fn after_a_failed_sync_nothing_more_is_done_and_nothing_durable_is_lost() {
    let failures = failed_syncs();
    assert!(50 < failures, "{failures}");
}

#[test]
fn a_full_disk_leaves_the_log_as_it_was() {
    let mut full = 0;
    for history in [&[Large, Large][..], &[Large, Drop], &[Small, Small], &[Small]] {
        // What fails begins a segment; what follows begins another, or goes into the old one.
        for later in [&[Large, Drop, Small, Large, Small][..], &[Drop, Small], &[Drop, Vote]] {
            for writes in 0..4 {
                full += u64::from(fill_disk(history, later, Fault::Full(writes)));
                full += u64::from(fill_disk(history, later, Fault::FullLate(writes)));
            }
        }
    }
    assert!(30 < full, "{full}");
}

/// Lets a write after the history find no space, goes on when there is space again, and opens the
/// log; whether it came to that.
fn fill_disk(history: &[Operation], later: &[Operation], fault: Fault) -> bool {
    let disk = FaultDisk::new(State::default());
    let (mut wal, _) = Wal::create(disk.clone(), options(1), identity(), configuration())
        .expect("a sound disk takes a log");
    let mut model = Model::default();
    for operation in history {
        let (after, _) = model.after(*operation);
        run(&mut wal, &disk, &model, *operation, true).expect("the disk works");
        model = after;
    }
    disk.break_with(fault);
    let mut seen = false;
    // What was refused last, and not written over: it may be there.
    let mut refused = None;
    for operation in later {
        let (after, _) = model.after(*operation);
        match run(&mut wal, &disk, &model, *operation, true) {
            Ok(()) => {
                model = after;
                refused = None;
            }
            Err(WalError::Full) => {
                seen = true;
                refused = Some(after);
                disk.break_with(Fault::Full(u64::MAX));
                assert_eq!(wal.last_position(), model.position(model.last()));
            }
            Err(error) => panic!("{error}"),
        }
    }
    drop(wal);
    disk.break_with(Fault::Full(u64::MAX));
    let (wal, recovered) = Wal::open(disk, options(9), Index(0)).expect("a sound log opens");
    let whole = model.is(&wal, &recovered);
    let more = refused.is_some_and(|refused| refused.is(&wal, &recovered).is_ok());
    assert!(whole.is_ok() || more, "{history:?}, {later:?}, {fault:?}: {whole:?}");
    seen
}

#[test]
fn a_spare_that_found_no_space_is_not_tried_again_at_once() {
    let disk = FaultDisk::new(State::default());
    let (mut wal, _) = Wal::create(disk.clone(), options(1), identity(), configuration())
        .expect("a sound disk takes a log");
    disk.break_with(Fault::Full(0));
    let job = wal.preparation().expect("there is no spare");
    assert!(wal.preparation().is_none(), "one job at a time");
    assert!(matches!(wal.prepared(job.run(&disk)), Err(WalError::Full)));
    assert_eq!(disk.state().names().len(), 1, "what was half made is gone");
    disk.break_with(Fault::Full(u64::MAX));
    let mut model = Model::default();
    let mut batches = 0;
    while wal.preparation().is_none() {
        let (after, _) = model.after(Small);
        run(&mut wal, &disk, &model, Small, false).expect("there is space again");
        model = after;
        batches += 1;
        assert!(batches < 1000, "it is tried again some time");
    }
    assert!(100 < batches, "{batches}");
}

#[test]
fn a_log_with_a_spare_opens_on_a_full_disk() {
    let disk = FaultDisk::new(State::default());
    let (mut wal, _) = Wal::create(disk.clone(), options(1), identity(), configuration())
        .expect("a sound disk takes a log");
    let (model, _) = Model::default().after(Small);
    run(&mut wal, &disk, &Model::default(), Small, true).expect("the disk works");
    run(&mut wal, &disk, &model, Prepare, true).expect("the disk works");
    drop(wal);
    disk.break_with(Fault::FullForGood);
    let (wal, recovered) = Wal::open(disk.clone(), options(2), Index(0)).expect("a spare is there");
    model.is(&wal, &recovered).expect("nothing is lost");
    drop(wal);
    let refused = Wal::open(disk.clone(), options(3), Index(0)).map(|_| ());
    assert!(matches!(refused, Err(OpenError::Full)), "no spare is left");
    disk.break_with(Fault::Full(u64::MAX));
    let (wal, recovered) = Wal::open(disk, options(4), Index(0)).expect("there is space again");
    model.is(&wal, &recovered).expect("nothing is lost");
}
