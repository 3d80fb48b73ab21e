//! A sound log with changes in it, or anything at all in its place: opening and inspecting never
//! panic, and what opens once opens again.
//!
//! The input: the machine's index (1 byte), then changes of 4 bytes each: where (u16, in units of 4
//! bytes), what is done there, and with which value.

#![no_main]

use jangada_entry::{Draft, Kind, Origin};
use jangada_raft::{Configuration, HardState, Index, NodeId, Position, Term};
use jangada_wal::inspect::inspect;
use jangada_wal::{Batch, Disk, File, Identity, MemoryDisk, Options, Wal};
use libfuzzer_sys::fuzz_target;

fn options(seed: u64) -> Options {
    Options { segment_bytes_min: 8192, segment_bytes_max: 8192, spares: 1, seed: Some(seed) }
}

fn log() -> MemoryDisk {
    let disk = MemoryDisk::new();
    let identity = Identity { cluster: 1, member: 1, incarnation: 1, group: 0 };
    let configuration = Configuration::of_voters([NodeId(1)]);
    let (mut wal, _) = Wal::create(disk.clone(), options(1), identity, configuration)
        .expect("an empty folder takes a log");
    let hard_state = HardState { term: Term(1), vote: Some(NodeId(1)) };
    for index in 1..9 {
        let mut payload = Draft::buffer(600);
        payload.resize(payload.len() + 600, index as u8);
        let position = Position { index: Index(index), term: Term(1) };
        let draft = Draft::new(payload, Kind::Command, 1, 0, Origin::default());
        let entries = [draft.stamp(position, index)];
        let after = position.index.previous();
        wal.append(&Batch { hard_state, note: None, after, entries: &entries })
            .expect("memory takes everything");
    }
    disk
}

fuzz_target!(|data: &[u8]| {
    let Some((applied, changes)) = data.split_first() else { return };
    let disk = log();
    let names = disk.list().expect("memory works");
    for change in changes.chunks_exact(4) {
        let at = u64::from(u16::from_le_bytes([change[0], change[1]])) * 4;
        let file = disk.open(&names[usize::from(change[2] >> 2) % names.len()]);
        let file = file.expect("the file is there");
        match change[2] & 3 {
            0 => file.write_at(at, &[&[change[3]]]),
            1 => file.write_at(at, &[&[change[3]; 4]]),
            2 => file.write_at(at / 512 * 512, &[&[change[3]; 512]]),
            _ => file.write_at(0, &[data]),
        }
        .expect("memory takes everything");
    }
    let _ = inspect(&disk, &mut |finding| drop(finding.to_string()));
    let applied = Index(u64::from(*applied));
    let Ok((wal, recovered)) = Wal::open(disk.clone(), options(2), applied) else { return };
    let (first, last) = (wal.first_index(), wal.last_position().index);
    if first <= last {
        wal.read(first, last, u64::MAX).expect("what was accepted is sound");
    }
    drop(wal);
    let (_, again) = Wal::open(disk, options(3), applied).expect("what opens once opens again");
    assert_eq!(again.range, recovered.range);
    assert_eq!(again.hard_state, recovered.hard_state);
});
