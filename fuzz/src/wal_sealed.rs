//! The headers of segments and batches; and opening and dumping logs whose headers were changed and
//! have good checksums: what no disk does, but what a file from elsewhere can be. Nothing panics, nothing is changed by a refusal, and what
//! opens opens again alike.

use jangada_raft::Index;
use jangada_wal::inspect::inspect;
use jangada_wal::{MemoryDisk, Wal};

use crate::logs::{damage, folder, histories, options, replace};
use crate::{Input, sentence};

/// The input: which history, what the state machine has applied, then the damage; or the contents of
/// a segment; or a header alone.
///
/// # Panics
/// At the first thing that is wrong.
pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let mode = input.byte();
    if mode & 7 == 7 {
        return crate::wal_header::check(input.rest());
    }
    let applied = Index(u64::from(input.byte()));
    let disk = if mode & 3 == 3 {
        let disk = MemoryDisk::new();
        replace(&disk, "segment-0000000000000001", input.rest());
        disk
    } else {
        let history = &histories()[usize::from(mode & 1)];
        let disk = history.newest().disk.snapshot();
        damage(&disk, history, &mut input);
        disk
    };
    for (name, mut contents) in folder(&disk) {
        jangada_wal::fuzz::seal(&mut contents);
        replace(&disk, &name, &contents);
    }
    let mut findings = 0_usize;
    let bytes: usize = folder(&disk).iter().map(|(_, contents)| contents.len()).sum();
    let looked = inspect(&disk, &mut |finding| {
        assert!(!finding.to_string().is_empty());
        findings += 1;
    });
    if let Err(error) = looked {
        sentence(&error);
    }
    // An entry takes a summary of 24 bytes, and damage to it is told behind it.
    assert!(findings <= 16 + bytes / 12, "a dump is bounded by the log: {findings} of {bytes}");
    let before = folder(&disk);
    match Wal::open(disk.clone(), options(2), applied) {
        Ok((wal, recovered)) => {
            drop(wal);
            let again = Wal::open(disk, options(3), applied);
            let (_, second) = again.expect("what opens once opens again");
            assert_eq!(second.range, recovered.range);
            assert_eq!(second.hard_state, recovered.hard_state);
        }
        Err(error) => {
            sentence(&error);
            assert!(before == folder(&disk), "a refusal changes nothing");
        }
    }
}

/// Changes to fields of headers, a segment that stands alone, and headers.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for history in 0..2_u8 {
        for at in (16..144_u8).step_by(8) {
            seeds.push(vec![history, 20, 0, 1, at, 0, 0xff]);
            seeds.push(vec![history, 20, 0, 1, at, 4, 0x80]);
        }
        let (_, mut contents) = folder(&histories()[usize::from(history)].newest().disk).remove(0);
        contents.truncate(4096);
        seeds.push([&[3, 20][..], &contents].concat());
    }
    seeds.extend(crate::wal_header::seeds().iter().map(|seed| [&[7][..], seed].concat()));
    seeds
}
