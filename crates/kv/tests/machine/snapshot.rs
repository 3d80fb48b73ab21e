//! One machine's state brought to another: whole, in one step, whatever happens on the way.

use bytes::Bytes;
use jangada_kv::{AlarmAction, AlarmKind, Command, EngineError, RestoreError, RestoreState, Turn};

use crate::harness::disk::Disk;
use crate::harness::{CHUNK, Subject, histories, record};

fn disks() -> [(Option<Disk>, Option<Disk>); 4] {
    let disk = || Some(Disk::default());
    [(disk(), disk()), (None, None), (disk(), None), (None, disk())]
}

#[test]
fn a_restored_machine_is_its_source_and_goes_on_like_it() {
    for (from, to) in disks() {
        let mut source = Subject::open(from.as_ref());
        let mut target = Subject::open(to.as_ref());
        target.put("of its own", b"and gone afterwards");
        target.apply(&Command::Alarm {
            action: AlarmAction::Activate,
            member: 9,
            kind: AlarmKind::NoSpace,
        });
        for round in 0..6 {
            source.work(60);
            source.settle();
            if round % 2 == 0 {
                target.settle();
            }
            target.restore(&source.chunks(&[]));
            assert_eq!(target.content(), source.content(), "round {round}");
            if to.is_some() {
                assert_eq!(target.machine.durable_index(), source.index);
                assert_eq!(target.machine.shared().engine_lag_bytes(), 0);
            }
            let dice = source.dice;
            for subject in [&mut source, &mut target] {
                subject.dice = dice;
                subject.work(30);
                subject.settle();
            }
            assert_eq!(target.content(), source.content(), "after round {round}");
            let sizes = [&source, &target].map(|s| s.machine.shared().read().size_in_use());
            if from.is_some() && to.is_some() {
                assert_eq!(sizes[0], sizes[1], "once compactions are done");
            }
            if let Some(disk) = &to {
                let again = Subject::open(Some(&disk.crashed()));
                assert_eq!(again.content(), source.content(), "restarted after round {round}");
                assert_eq!(again.machine.recovered(), Some(record(source.index)));
            }
        }
    }
}

#[test]
fn a_state_without_a_row_is_taken_in_place_of_one_with_rows() {
    for (from, to) in disks() {
        let mut source = Subject::open(from.as_ref());
        source.apply(&Command::RetractMember(7));
        source.settle();
        let mut target = Subject::open(to.as_ref());
        target.work(20);
        target.restore(&source.chunks(&[]));
        assert_eq!(target.content(), source.content());
        target.put("goes", b"on");
        target.settle();
    }
}

#[test]
fn a_stream_that_broke_goes_on_in_a_newer_state() {
    let (mut resumed, mut begun_anew) = (0, 0);
    for seed in 1..20 {
        let (from, to) = (Disk::default(), Disk::default());
        let mut source = Subject::open(Some(&from));
        let mut target = Subject::open(Some(&to));
        source.dice = seed;
        source.work(80);
        source.settle();
        let mut restoration = target.machine.restore();
        for round in 0.. {
            let place = restoration.place();
            let chunks = source.chunks(&place);
            let stream = source.machine.snapshot(&place).expect("the disk is well");
            if stream.expect("it has a state").is_at_beginning() && !place.is_empty() {
                begun_anew += 1;
                restoration = target.machine.restore();
            } else {
                resumed += u32::from(!place.is_empty());
            }
            let count = (1 + source.roll(6) as usize).min(chunks.len());
            target.push(&mut restoration, &chunks[..count]);
            if count == chunks.len() {
                break;
            }
            // Later rounds are quiet, so that the stream comes to its end.
            if round < 6 {
                source.work(12);
            }
            // Now and then the rows of a compaction are removed only in part.
            for _ in 0..source.roll(40) {
                source.turn();
            }
        }
        target.finish(&mut restoration);
        target.settle();
        // The source goes on from the state that was taken: so must the target.
        source.settle();
        for index in target.index + 1..=source.index {
            assert_eq!(index, target.index + 1);
            let payload = source.payloads[usize::try_from(index).expect("it is small") - 1].clone();
            target.apply_payload(&payload);
        }
        target.settle();
        assert_eq!(target.content(), source.content(), "seed {seed}");
        let sizes = [&source, &target].map(|s| s.machine.shared().read().size_in_use());
        assert_eq!(sizes[0], sizes[1], "seed {seed}: what is compacted is gone");
        let again = Subject::open(Some(&to.crashed()));
        assert_eq!(again.content(), source.content(), "seed {seed}, restarted");
    }
    assert!(0 < resumed && 0 < begun_anew, "{resumed} times resumed, {begun_anew} begun anew");
}

#[test]
fn a_deletion_compacted_away_between_two_parts_is_not_undone() {
    for (read_behind, resumes) in [(false, false), (true, true)] {
        let mut source = Subject::open(Some(&Disk::default()));
        source.put("deleted later", &[1; CHUNK]);
        source.put("second", &[2; CHUNK]);
        if read_behind {
            source.delete("deleted later");
            source.put("third", &[3; CHUNK]);
        }
        source.settle();
        let mut target = Subject::open(Some(&Disk::default()));
        let mut restoration = target.machine.restore();
        let rows = source.chunks(&[]);
        target.push(&mut restoration, &rows[..rows.len() - 1]);
        if !read_behind {
            source.delete("deleted later");
        }
        source.compact(source.revision());
        source.put("fourth", b"");
        source.settle();
        let rest = source.chunks(&restoration.place());
        let stream = source.machine.snapshot(&restoration.place()).expect("well");
        assert_eq!(!stream.expect("it has a state").is_at_beginning(), resumes);
        if !resumes {
            assert_eq!(restoration.push(&rest[0]), Err(RestoreError::Apart));
            restoration = target.machine.restore();
        }
        target.push(&mut restoration, &rest);
        target.finish(&mut restoration);
        target.settle();
        assert_eq!(target.content(), source.content());
    }
}

#[test]
fn a_snapshot_is_of_one_state_while_commands_go_on() {
    let mut source = Subject::open(Some(&Disk::default()));
    source.work(100);
    source.settle();
    let (content, index) = (source.content(), source.index);
    let mut stream = source.machine.snapshot(&[]).expect("well").expect("it has a state");
    assert_eq!((stream.applied(), stream.record()), (index, &record(index)));
    let mut chunks = Vec::new();
    while let Some(chunk) = stream.next_chunk(CHUNK).expect("the disk is well") {
        chunks.push(chunk);
        source.work(10);
        source.settle();
    }
    let mut target = Subject::open(None);
    target.restore(&chunks);
    assert_eq!(target.content(), content);
}

#[test]
fn a_crash_at_any_point_leaves_the_old_state_or_the_new_one() {
    let mut source = Subject::open(Some(&Disk::default()));
    source.work(120);
    source.settle();
    let disk = Disk::default();
    let mut target = Subject::open(Some(&disk));
    target.work(30);
    target.settle();
    let (old, old_index) = (target.content(), target.index);
    let mut last_was_old = true;
    let mut check = |disk: &Disk| {
        let again = Subject::open(Some(&disk.crashed()));
        let found = again.content();
        let expected = if found == old { old_index } else { source.index };
        assert!(found == old || found == source.content(), "neither the old nor the new state");
        assert_eq!(again.machine.recovered(), Some(record(expected)));
        assert!(last_was_old || found != old, "the old state comes back");
        last_was_old = found == old;
    };
    let mut restoration = target.machine.restore();
    for chunk in source.chunks(&[]) {
        restoration.push(&chunk).expect("it follows");
        while target.turn() != Turn::Idle {
            check(&disk);
        }
    }
    restoration.finish(source.index, record(source.index)).expect("all is there");
    while target.turn() != Turn::Idle {
        check(&disk);
    }
    check(&disk);
    assert!(!last_was_old, "the new state is durable in the end");
}

#[test]
fn the_old_state_serves_and_changes_until_the_new_one_is_in_force() {
    let mut source = Subject::open(Some(&Disk::default()));
    source.work(80);
    source.settle();
    let mut target = Subject::open(Some(&Disk::default()));
    target.put("mine", b"1");
    let mut restoration = target.machine.restore();
    for (at, chunk) in source.chunks(&[]).iter().enumerate() {
        restoration.push(chunk).expect("it follows");
        target.put("mine", at.to_string().as_bytes());
        target.turn();
        let view = target.content();
        assert_eq!((view.keys, view.revision), (1, at as i64 + 3));
    }
    target.finish(&mut restoration);
    assert_eq!(target.content(), source.content());
}

#[test]
fn chunks_that_are_damaged_missing_or_misplaced_are_not_taken() {
    let mut source = Subject::open(Some(&Disk::default()));
    source.work(60);
    source.settle();
    let chunks = source.chunks(&[]);
    let mut target = Subject::open(Some(&Disk::default()));
    target.work(5);
    let before = target.content();
    let mut restoration = target.machine.restore();
    assert_eq!(restoration.push(&chunks[1]), Err(RestoreError::Gap));
    assert_eq!(restoration.push(&chunks[0]), Ok(()));
    assert_eq!(restoration.push(&chunks[0]), Err(RestoreError::Gap));
    assert_eq!(restoration.push(&chunks[2]), Err(RestoreError::Gap));
    for at in 0..chunks[1].len() {
        let mut damaged = chunks[1].to_vec();
        damaged[at] ^= 4;
        let refused = restoration.push(&damaged.into());
        assert!(matches!(refused, Err(RestoreError::Chunk(_))), "byte {at}: {refused:?}");
        let refused = restoration.push(&chunks[1].slice(..at));
        assert!(matches!(refused, Err(RestoreError::Chunk(_))), "{at} bytes: {refused:?}");
    }
    let all_but_last = &chunks[1..chunks.len() - 1];
    target.push(&mut restoration, all_but_last);
    assert_eq!(
        restoration.finish(source.index, Bytes::new()),
        Err(RestoreError::Incomplete),
        "the end has not come"
    );
    // An older state than the one that the rows are of may lack rows below them.
    source.put("newer", b"");
    source.settle();
    let newer = source.chunks(&restoration.place());
    assert_eq!(restoration.push(&newer[0]), Ok(()));
    assert_eq!(restoration.push(&chunks[chunks.len() - 1]), Err(RestoreError::Apart));
    drop(restoration);
    target.settle();
    assert_eq!(target.content(), before);
    target.restore(&source.chunks(&[]));
    assert_eq!(target.content(), source.content());
}

#[test]
fn a_source_that_is_behind_starts_from_the_first_row() {
    let mut ahead = Subject::open(Some(&Disk::default()));
    let mut behind = Subject::open(Some(&Disk::default()));
    for subject in [&mut ahead, &mut behind] {
        subject.work(50);
        subject.settle();
    }
    ahead.put("one more", b"");
    ahead.settle();
    let mut target = Subject::open(Some(&Disk::default()));
    let mut restoration = target.machine.restore();
    restoration.push(&ahead.chunks(&[])[0]).expect("it follows");
    let stream = behind.machine.snapshot(&restoration.place()).expect("well");
    assert!(stream.expect("it has a state").is_at_beginning());
}

#[test]
fn a_restoration_that_finds_no_space_fails_and_the_member_goes_on() {
    let mut source = Subject::open(Some(&Disk::default()));
    for at in 0..200 {
        source.put(&format!("key {at}"), &[at; 9_000]);
    }
    source.settle();
    let chunks = source.chunks(&[]);
    let mut outcomes = [0; 2];
    for room in (0..10).map(|step| step << 20) {
        let disk = Disk::default();
        let mut target = Subject::open(Some(&disk));
        target.work(20);
        target.settle();
        let before = target.content();
        let length = disk.bytes().len() as u64;
        disk.set_bytes_max(Some(length + room));
        let mut writer = target.machine.take_writer().expect("it has one");
        let mut restoration = target.machine.restore();
        let mut now_ms = 0;
        let mut step = |writer: &mut jangada_kv::EngineWriter| {
            now_ms += 100;
            match writer.turn(now_ms) {
                Ok(turn) => turn,
                Err(EngineError::NoSpace(_)) => {
                    writer.close();
                    disk.set_bytes_max(None);
                    writer.reopen(disk.backend().expect("a disk")).expect("there is space");
                    Turn::More
                }
                Err(error) => panic!("{error}"),
            }
        };
        for chunk in &chunks {
            restoration.push(chunk).expect("it follows");
            step(&mut writer);
        }
        restoration.finish(source.index, record(source.index)).expect("all is there");
        while step(&mut writer) != Turn::Idle {}
        match restoration.state() {
            RestoreState::Done => {
                outcomes[0] += 1;
                target.machine.installed();
                assert_eq!(target.content(), source.content());
            }
            RestoreState::Failed(RestoreError::Engine(EngineError::NoSpace(_))) => {
                outcomes[1] += 1;
                assert_eq!(target.content(), before);
            }
            other => panic!("{other:?}"),
        }
        let again = Subject::open(Some(&disk.crashed()));
        assert_eq!(again.content(), target.content(), "room {room}");
    }
    assert!(0 < outcomes[0] && 0 < outcomes[1], "{outcomes:?}");
}

#[test]
fn nothing_durable_is_no_snapshot() {
    for disk in [None, Some(Disk::default())] {
        let mut subject = Subject::open(disk.as_ref());
        assert!(subject.machine.snapshot(&[]).expect("well").is_none());
        if disk.is_some() {
            subject.put("key", b"not durable yet");
            assert!(subject.machine.snapshot(&[]).expect("well").is_none());
        }
    }
}

#[test]
fn a_restoration_that_is_given_up_leaves_nothing_behind() {
    let mut source = Subject::open(Some(&Disk::default()));
    source.work(300);
    source.settle();
    let chunks = source.chunks(&[]);
    let disk = Disk::default();
    let mut target = Subject::open(Some(&disk));
    target.work(10);
    target.settle();
    let mut size = 0;
    for round in 0..6 {
        let mut restoration = target.machine.restore();
        target.push(&mut restoration, &chunks[..chunks.len() - 1]);
        drop(restoration);
        target.settle();
        match round {
            0..3 => size = size.max(disk.bytes().len()),
            _ => assert!(disk.bytes().len() <= size, "the file does not grow"),
        }
    }
    let again = Subject::open(Some(&disk.crashed()));
    assert_eq!(again.content(), target.content());
}

#[test]
fn histories_with_restarts_and_snapshots_keep_what_was_done() {
    (1..=40).for_each(histories::run);
}

#[test]
fn a_stream_goes_on_while_the_rows_of_one_compaction_are_removed_in_parts() {
    let mut source = Subject::open(Some(&Disk::default()));
    for at in 0..2_000 {
        source.put(&format!("key {}", at % 50), b"a value of some length");
    }
    source.compact(source.revision());
    for at in 0..20 {
        source.put(&format!("behind {at}"), &[7; CHUNK]);
    }
    let mut target = Subject::open(Some(&Disk::default()));
    // Some of the rows are removed, and some are not yet.
    let rows = |source: &Subject| match source.machine.snapshot(&[]).expect("well") {
        Some(stream) if stream.applied() == source.index => Some(source.chunks(&[])),
        _ => None,
    };
    let first = loop {
        source.turn();
        if let Some(chunks) = rows(&source) {
            break chunks;
        }
    };
    let mut restoration = target.machine.restore();
    target.push(&mut restoration, &first[..first.len() - 5]);
    source.settle();
    let rest = source.chunks(&restoration.place());
    assert!(source.chunks(&[]).len() < first.len(), "more rows are removed");
    assert_eq!(rest.len(), 5, "the stream goes on");
    target.push(&mut restoration, &rest);
    target.finish(&mut restoration);
    target.settle();
    assert_eq!(target.content(), source.content());
    let sizes = [&source, &target].map(|s| s.machine.shared().read().size_in_use());
    assert_eq!(sizes[0], sizes[1]);
}
