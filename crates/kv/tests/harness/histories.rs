//! Histories that a seed decides: a store that is changed, restarted after a crash and copied to
//! another, which breaks off, loses chunks and crashes in between. At each point what is found is what
//! was done.

use super::disk::Disk;
use super::{CHUNK, Content, Subject, record};
use jangada_kv::{Restoration, RestoreError, SnapshotStream};

/// How many steps a history has.
const STEPS: usize = 12;

/// After so many changes of its state while it is being copied a store stands still.
const INTERRUPTIONS_MAX: usize = 5;

/// Runs the history of a seed.
///
/// # Panics
/// If something is found that was not done, or not found that was.
pub(crate) fn run(seed: u64) {
    let (mut from, mut to) = (Disk::default(), Disk::default());
    let mut source = Subject::open(Some(&from));
    source.dice = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    source.work(20);
    let mut target = Subject::open(Some(&to));
    for _ in 0..STEPS {
        match source.roll(4) {
            0 => {
                let commands = source.roll(40) as usize;
                source.work(commands);
            }
            1 => {
                if source.roll(2) == 0 {
                    forget_a_deletion(&mut source);
                }
                source = restarted(source, &mut from);
            }
            2 => {
                source.settle();
                target = copied(&mut source, target, &mut to);
            }
            _ => source.settle(),
        }
    }
}

/// Compacts at the newest revision, which is a deletion.
fn forget_a_deletion(subject: &mut Subject) {
    subject.put("deleted", b"soon");
    subject.delete("deleted");
    subject.compact(subject.revision());
}

/// The store after a crash, once everything was durable.
fn restarted(mut subject: Subject, disk: &mut Disk) -> Subject {
    subject.settle();
    *disk = disk.crashed();
    let mut again = Subject::open(Some(disk));
    same(&again.content(), &subject.content(), "after a restart");
    assert_eq!(again.machine.recovered(), Some(record(subject.index)), "the record comes back");
    (again.dice, again.payloads) = (subject.dice, subject.payloads);
    again
}

/// Copies the state of one store to another, over everything that may come between; answers the
/// other one, with its life after that.
fn copied(source: &mut Subject, mut target: Subject, to: &mut Disk) -> Subject {
    let mut interruptions = 0;
    let mut restoration = target.machine.restore();
    'views: loop {
        let place = restoration.place();
        let stream = source.machine.snapshot(&place).expect("the disk is well");
        let mut stream = stream.expect("it has a state");
        if stream.is_at_beginning() && !place.is_empty() {
            restoration = target.machine.restore();
        }
        loop {
            let chunk = stream.next_chunk(CHUNK).expect("the disk is well");
            let chunk = chunk.expect("the end is not asked for twice");
            let interrupted = interruptions < INTERRUPTIONS_MAX;
            match source.roll(if interrupted { 30 } else { 10 }) {
                // Lost on the way: what comes behind it is not taken.
                0 => {
                    if lost(&mut stream, &mut restoration) {
                        break;
                    }
                    continue 'views;
                }
                10 => {
                    source.work(6);
                    source.settle();
                    interruptions += 1;
                }
                11 => {
                    source.work(10);
                    source.settle();
                    interruptions += 1;
                    continue 'views;
                }
                12 => {
                    interruptions += 1;
                    target = crashed(target, restoration, to);
                    restoration = target.machine.restore();
                    continue 'views;
                }
                _ => {}
            }
            restoration.push(&chunk).expect("the chunk follows");
            target.turn();
            if stream.is_ended() {
                break;
            }
        }
        break;
    }
    target.finish(&mut restoration);
    let applied = target.index;
    target.settle();
    source.settle();
    for index in applied..source.index {
        let payload = source.payloads[usize::try_from(index).expect("a few")].clone();
        target.apply_payload(&payload);
    }
    target.settle();
    same(&target.content(), &source.content(), "after a copy");
    let sizes = [&*source, &target].map(|one| one.machine.shared().read().size_in_use());
    assert_eq!(sizes[0], sizes[1], "a copy is as large, once what is compacted is gone");
    target
}

/// A chunk was lost: gives the next ones. Answers whether the end was taken all the same.
fn lost(stream: &mut SnapshotStream, restoration: &mut Restoration) -> bool {
    let mut taken = false;
    while let Some(chunk) = stream.next_chunk(CHUNK).expect("the disk is well") {
        match restoration.push(&chunk) {
            Err(RestoreError::Gap) => taken = false,
            Err(error) => panic!("{error}"),
            Ok(()) => taken = true,
        }
    }
    taken
}

/// The store after a crash while it was taking a state: what it was before.
fn crashed(mut target: Subject, restoration: Restoration, disk: &mut Disk) -> Subject {
    let left = target.roll(3);
    for _ in 0..left {
        target.turn();
    }
    let before = target.content();
    let dead = disk.crashed();
    drop((restoration, target));
    *disk = dead;
    let again = Subject::open(Some(disk));
    same(&again.content(), &before, "after a crash while a state was taken");
    again
}

fn same(found: &Content, expected: &Content, when: &str) {
    assert!(found == expected, "{when}: {found:?} instead of {expected:?}");
}

/// What the log may lose in a crash is not in the engine, however long that is let work.
pub(crate) fn the_engine_waits_for_the_log() {
    let disk = Disk::default();
    let mut subject = Subject::open(Some(&disk));
    subject.put("a", b"1");
    for _ in 0..100 {
        subject.turn_without_log();
    }
    assert_eq!(subject.machine.durable_index(), 0, "the log does not hold it durably");
    subject.settle();
    assert_eq!(subject.machine.durable_index(), subject.index, "now it does");
}
