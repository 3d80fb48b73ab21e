//! The way back from rot: what is lost is known by name and comes from elsewhere, or the log is
//! marked, durably, until the member has recovered.

mod support;

use jangada_entry::Frame;
use jangada_raft::{Configuration, HardState, Index, NodeId};
use jangada_wal::inspect::{Finding, inspect};
use jangada_wal::{Batch, Machine, OpenError, Recovered, Wal, WalError};
use support::fault::{FaultDisk, SECTOR, State};
use support::{command, commands, configuration, identity, options, position, vote};

/// A log of ten batches of two entries each.
fn log() -> (State, Vec<Frame>) {
    let disk = FaultDisk::new(State::default());
    let (mut wal, _) = Wal::create(disk.clone(), options(1), identity(), configuration())
        .expect("a sound disk takes a log");
    let frames = commands(1, 20, 1, 300);
    for (at, entries) in frames.chunks(2).enumerate() {
        let after = Index(2 * at as u64);
        wal.append(&Batch { hard_state: vote(1, 2), note: None, after, entries }).expect("works");
    }
    drop(wal);
    (disk.state(), frames)
}

/// Where the frames of an entry, and the headers of its batch, stand.
fn places(state: &State, index: u64) -> (String, usize, [usize; 2]) {
    let mut batch = (0, [0; 2]);
    let mut found = None;
    inspect(&FaultDisk::new(state.clone()), &mut |finding| match finding {
        Finding::Batch(finding) => {
            let start = finding.place.offset as usize;
            batch = (finding.place.segment, [start, start + finding.bytes as usize - SECTOR]);
        }
        Finding::Entry(entry) if entry.position.index == Index(index) => {
            let name = format!("segment-{:016x}", batch.0);
            found = Some((name, entry.place.offset as usize, batch.1));
        }
        _ => {}
    })
    .expect("a sound log can be looked at");
    found.expect("the entry is in the log")
}

fn machine(applied: u64, term: u64) -> Machine {
    Machine { applied: position(applied, term), configuration: configuration() }
}

fn open(disk: &FaultDisk, seed: u64, machine: &Machine) -> (Wal<FaultDisk>, Recovered) {
    Wal::open_beside(disk.clone(), options(seed), machine).expect("the log opens")
}

/// The payload of entry 7 is damaged.
fn faulty() -> (FaultDisk, Vec<Frame>) {
    let (mut state, frames) = log();
    let (name, frame, _) = places(&state, 7);
    state.contents(&name)[frame + 100] ^= 1;
    (FaultDisk::new(state), frames)
}

/// Both headers of the batch of entries 7 and 8 are damaged.
fn lost() -> (FaultDisk, Vec<Frame>) {
    let (mut state, frames) = log();
    let (name, _, headers) = places(&state, 7);
    for header in headers {
        state.contents(&name)[header + 20] ^= 1;
    }
    (FaultDisk::new(state), frames)
}

#[test]
fn a_damaged_payload_is_known_by_name_and_is_not_handed_out() {
    let (disk, frames) = faulty();
    for seed in 2..5 {
        let (wal, recovered) = open(&disk, seed, &machine(4, 1));
        assert_eq!(recovered.faulty, [position(7, 1)]);
        assert!(!recovered.recovering);
        assert_eq!(recovered.range.last, Index(20));
        assert_eq!(wal.read(Index(5), Index(20), u64::MAX).expect("sound"), frames[4..6]);
        let refused = wal.read(Index(7), Index(20), u64::MAX);
        assert!(matches!(refused, Err(WalError::Faulty { position: at }) if at == position(7, 1)));
        assert_eq!(wal.read(Index(8), Index(20), u64::MAX).expect("sound"), frames[7..]);
        let text = recovered.report.to_string();
        assert!(text.contains("1 entries are damaged"), "{text}");
    }
}

#[test]
fn the_log_begins_behind_a_damaged_payload_that_the_machine_has() {
    let (disk, frames) = faulty();
    for seed in 2..5 {
        // The machine has the first of the batch's two entries.
        let (wal, recovered) = open(&disk, seed, &machine(7, 1));
        assert!(recovered.faulty.is_empty() && !recovered.recovering);
        assert_eq!(recovered.range.prev, position(7, 1));
        assert_eq!(wal.read(Index(8), Index(20), u64::MAX).expect("sound"), frames[7..]);
    }
}

#[test]
fn a_damaged_payload_is_repaired_by_the_same_entry_and_by_nothing_else() {
    let (disk, frames) = faulty();
    let (mut wal, _) = open(&disk, 2, &machine(4, 1));
    let wrong = wal.repair(&[command(7, 1, 299)]);
    assert!(matches!(wrong, Err(WalError::NotTheEntry { position: at }) if at == position(7, 1)));
    let entries = commands(21, 22, 1, 50);
    let batch = Batch { hard_state: vote(1, 2), note: None, after: Index(20), entries: &entries };
    wal.append(&batch).expect("the log goes on meanwhile");
    assert_eq!(wal.repair(&frames[5..7]).expect("it is the one"), 0);
    assert!(wal.faulty().is_empty());
    let all = [&frames[..], &entries].concat();
    assert_eq!(wal.read(Index(1), Index(22), u64::MAX).expect("sound"), all);
    let batch = Batch { after: Index(22), entries: &commands(23, 23, 1, 50), ..batch };
    wal.append(&batch).expect("the log goes on behind");
    drop(wal);
    let (wal, recovered) = open(&disk, 3, &machine(4, 1));
    assert!(recovered.faulty.is_empty() && !recovered.recovering);
    assert_eq!(wal.read(Index(1), Index(22), u64::MAX).expect("sound"), all);
    assert_eq!(wal.last_position(), position(23, 1));
    drop(wal);
    let totals = inspect(&disk, &mut |_| ()).expect("it can be looked at");
    assert_eq!((totals.damaged, totals.dropped), (0, 1), "what was repaired counts no more");
}

#[test]
fn a_damaged_payload_that_is_overwritten_is_forgotten() {
    let (disk, _) = faulty();
    let (mut wal, _) = open(&disk, 2, &machine(4, 1));
    let entries = commands(6, 8, 2, 50);
    let batch = Batch { hard_state: vote(2, 1), note: None, after: Index(5), entries: &entries };
    wal.append(&batch).expect("works");
    assert!(wal.faulty().is_empty());
    drop(wal);
    let (wal, recovered) = open(&disk, 3, &machine(4, 1));
    assert!(recovered.faulty.is_empty());
    assert_eq!(wal.read(Index(6), Index(8), u64::MAX).expect("sound"), entries);
}

#[test]
fn damaged_payloads_that_are_given_up_leave_the_mark() {
    let (disk, frames) = faulty();
    let (mut wal, _) = open(&disk, 2, &machine(4, 1));
    assert_eq!(wal.give_up_faulty().expect("works"), position(6, 1));
    assert!(wal.is_recovering() && wal.faulty().is_empty());
    drop(wal);
    let (wal, recovered) = open(&disk, 3, &machine(4, 1));
    assert!(recovered.recovering);
    assert_eq!(wal.read(Index(1), Index(6), u64::MAX).expect("sound"), frames[..6]);
    assert_eq!(wal.last_position(), position(6, 1));
}

#[test]
fn a_loss_without_a_trace_is_marked_until_the_member_has_recovered() {
    let (disk, frames) = lost();
    for seed in 2..6 {
        let (mut wal, recovered) = open(&disk, seed, &machine(4, 1));
        assert!(recovered.recovering && wal.is_recovering());
        assert_eq!(recovered.range.last_position(), position(6, 1));
        assert_eq!(recovered.hard_state, vote(1, 2), "as later batches say");
        assert_eq!(wal.read(Index(1), Index(6), u64::MAX).expect("sound"), frames[..6]);
        // What a later segment says does not end it.
        let batch = Batch { hard_state: vote(1, 2), note: None, after: Index(5), entries: &[] };
        wal.append(&batch).expect("works");
        let batch = Batch { after: Index(5), entries: &frames[5..6], ..batch };
        wal.append(&batch).expect("works");
    }
    let (mut wal, _) = open(&disk, 6, &machine(4, 1));
    let batch =
        Batch { hard_state: vote(1, 2), note: None, after: Index(6), entries: &frames[6..] };
    wal.append(&batch).expect("replication goes on");
    wal.end_recovering().expect("works");
    drop(wal);
    let (wal, recovered) = open(&disk, 7, &machine(4, 1));
    assert!(!recovered.recovering);
    assert_eq!(wal.read(Index(1), Index(20), u64::MAX).expect("sound"), frames);
    let totals = inspect(&disk, &mut |_| ()).expect("it can be looked at");
    assert_eq!((totals.damaged, totals.dropped), (0, 1), "what was lost counts no more");
    assert!(!totals.recovering);
}

#[test]
fn the_only_voter_is_refused_and_nothing_is_changed() {
    let alone = Configuration::of_voters([NodeId(1)]);
    for damage in [lost, faulty] {
        let (disk, frames) = damage();
        let (mut state, _) = log();
        let sound = FaultDisk::new(state.clone());
        // The same damage in a log of a cluster of one.
        let own = FaultDisk::new(State::default());
        let (mut wal, _) = Wal::create(own.clone(), options(1), identity(), alone.clone())
            .expect("a sound disk takes a log");
        for (at, entries) in frames.chunks(2).enumerate() {
            let after = Index(2 * at as u64);
            let batch = Batch { hard_state: vote(1, 1), note: None, after, entries };
            wal.append(&batch).expect("works");
        }
        drop(wal);
        let mut own = own.state();
        for name in state.names() {
            let mut damaged = disk.state();
            let pairs = state.contents(&name).iter().zip(damaged.contents(&name).iter());
            let changed: Vec<usize> = pairs
                .enumerate()
                .filter_map(|(at, (one, other))| (one != other).then_some(at))
                .collect();
            for at in changed {
                own.contents(&name)[at] ^= 1;
            }
        }
        drop(sound);
        let disk = FaultDisk::new(own);
        disk.record();
        let machine = Machine { applied: position(4, 1), configuration: alone.clone() };
        let refused = Wal::open_beside(disk.clone(), options(2), &machine).map(|_| ());
        let error = refused.expect_err("nobody can give it back");
        assert!(matches!(error, OpenError::Alone { .. }), "{error}");
        assert!(error.to_string().contains("nothing was changed"), "{error}");
        assert_eq!(disk.recorded().len(), 1);
    }
}

#[test]
fn a_machine_that_is_ahead_of_the_log_is_followed() {
    for (applied, term, anew) in [(30, 3, true), (15, 2, true), (15, 1, false), (20, 1, false)] {
        let (state, frames) = log();
        let disk = FaultDisk::new(state);
        let (mut wal, recovered) = open(&disk, 2, &machine(applied, term));
        assert_eq!(recovered.report.anew, anew.then(|| position(applied, term)));
        if !anew {
            assert_eq!(wal.read(Index(1), Index(20), u64::MAX).expect("sound"), frames);
            continue;
        }
        assert_eq!(recovered.range.prev, position(applied, term));
        assert!(recovered.range.is_empty());
        let HardState { term: current, .. } = recovered.hard_state;
        assert_eq!(current.0, term, "no entry's term is above the member's");
        let entries = commands(applied + 1, applied + 2, term, 10);
        let after = Index(applied);
        let batch = Batch { hard_state: vote(term, 1), note: None, after, entries: &entries };
        wal.append(&batch).expect("works");
        drop(wal);
        let (wal, recovered) = open(&disk, 3, &machine(applied, term));
        assert_eq!(recovered.report.anew, None);
        let read = wal.read(Index(applied + 1), Index(applied + 2), u64::MAX);
        assert_eq!(read.expect("sound"), entries);
    }
}

#[test]
fn the_index_that_keeps_so_many_bytes_is_at_a_batch_behind_which_they_stand() {
    let (state, frames) = log();
    let (wal, _) = open(&FaultDisk::new(state), 2, &machine(4, 1));
    let size = frames[0].bytes().len() as u64;
    assert_eq!(wal.index_keeping(0), Index(20));
    assert_eq!(wal.index_keeping(2 * size - 1), Index(20));
    assert_eq!(wal.index_keeping(2 * size), Index(18));
    assert_eq!(wal.index_keeping(7 * size), Index(14));
    assert_eq!(wal.index_keeping(u64::MAX), Index(0));
}
