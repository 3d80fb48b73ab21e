//! Logs made by the code that ships, with all that they ever held; and damage to them.

use std::sync::OnceLock;

use bytes::Bytes;
use jangada_entry::{Frame, Kind, encode_configuration};
use jangada_raft::{Configuration, HardState, Index, NodeId, Position, Term};
use jangada_wal::{Batch, Disk, File, Identity, MemoryDisk, Options, Wal};

use crate::Input;
use crate::entry::{GROUP, frame};

/// The unit of damage.
pub(crate) const SECTOR: usize = 512;

/// Small segments, so that short histories fill them.
pub(crate) fn options(seed: u64) -> Options {
    Options { segment_bytes_min: 4096, segment_bytes_max: 8192, spares: 1, seed: Some(seed) }
}

/// What the log held after one batch.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    pub(crate) hard_state: HardState,
    pub(crate) note: Bytes,
    pub(crate) configuration: Configuration,
    /// All entries, from index 1 on.
    pub(crate) frames: Vec<Frame>,
    /// The folder.
    pub(crate) disk: MemoryDisk,
}

/// A log's history.
#[derive(Debug)]
pub(crate) struct History {
    /// After each batch.
    pub(crate) moments: Vec<Moment>,
    /// For each batch, what the beginning of its segment says without it: what is dropped is dropped
    /// and what is in force is in force, but none of its entries is there. So it is after a crash in
    /// the middle of the batch, and when the segment has lost all but its header.
    pub(crate) beginnings: Vec<Moment>,
}

impl History {
    pub(crate) fn newest(&self) -> &Moment {
        self.moments.last().expect("a history has moments")
    }

    /// The frame of that name, whenever it was in the log.
    pub(crate) fn written(&self, position: Position) -> Option<&Frame> {
        self.moments
            .iter()
            .rev()
            .filter_map(|moment| moment.frames.get(position.index.0.checked_sub(1)? as usize))
            .find(|frame| frame.position() == position)
    }
}

/// Two histories: one only grows; in the other a new leader overwrites what an old one had left.
pub(crate) fn histories() -> &'static [History; 2] {
    static HISTORIES: OnceLock<[History; 2]> = OnceLock::new();
    HISTORIES.get_or_init(|| [history(&GROWS), history(&OVERWRITTEN)])
}

/// A batch: behind which index, up to which, in which term, and the bytes of each payload. A batch
/// without entries changes the vote.
type Plan = (u64, u64, u64, usize);

const GROWS: [Plan; 8] = [
    (0, 2, 1, 100),
    (2, 4, 1, 500),
    (4, 7, 1, 400),
    (7, 8, 1, 60),
    (8, 13, 1, 700),
    (13, 13, 2, 0),
    (13, 14, 2, 300),
    (14, 17, 2, 500),
];

const OVERWRITTEN: [Plan; 7] = [
    (0, 3, 1, 200),
    (3, 9, 2, 300),
    (5, 5, 3, 0),
    (5, 8, 3, 600),
    (8, 10, 3, 900),
    (7, 9, 5, 100),
    (9, 12, 5, 700),
];

fn history(plans: &[Plan]) -> History {
    let disk = MemoryDisk::new();
    let identity = Identity { cluster: 0xc, member: 1, incarnation: 9, group: GROUP };
    let mut configuration = Configuration::of_voters([1, 2, 3].map(NodeId));
    let (mut wal, _) = Wal::create(disk.clone(), options(1), identity, configuration.clone())
        .expect("memory works");
    let mut frames: Vec<Frame> = Vec::new();
    let mut note = Bytes::new();
    let mut moments = vec![Moment {
        hard_state: HardState::default(),
        note: note.clone(),
        configuration: configuration.clone(),
        frames: frames.clone(),
        disk: disk.snapshot(),
    }];
    let mut beginnings = Vec::new();
    for (at, (after, last, term, payload_bytes)) in plans.iter().copied().enumerate() {
        frames.truncate(after as usize);
        let hard_state = HardState { term: Term(term), vote: Some(NodeId(1)) };
        beginnings.push(Moment {
            hard_state,
            note: note.clone(),
            configuration: configuration.clone(),
            frames: frames.clone(),
            disk: disk.snapshot(),
        });
        let mut entries = Vec::new();
        for index in after + 1..=last {
            entries.push(if at == 0 && index == 2 {
                // The second entry of all changes the membership.
                configuration = Configuration::of_voters([1, 2, 3, 4].map(NodeId));
                frame(Kind::Configuration, index, term, &encode_configuration(&configuration))
            } else {
                frame(Kind::Command, index, term, &payload(index, term, payload_bytes))
            });
        }
        frames.extend(entries.iter().cloned());
        if at == 2 {
            note = Bytes::from_static(b"a note of this member");
        }
        let said = (at == 2).then(|| note.clone());
        wal.append(&Batch { hard_state, note: said, after: Index(after), entries: &entries })
            .expect("memory takes everything");
        if let Some(job) = wal.preparation() {
            wal.prepared(job.run(&disk)).expect("memory takes everything");
        }
        moments.push(Moment {
            hard_state,
            note: note.clone(),
            configuration: configuration.clone(),
            frames: frames.clone(),
            disk: disk.snapshot(),
        });
    }
    History { moments, beginnings }
}

/// A payload that no other entry has, without a zero in it.
fn payload(index: u64, term: u64, bytes: usize) -> Vec<u8> {
    let mut state = index.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ term << 32;
    (0..bytes)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_889);
            (state >> 33) as u8 | 1
        })
        .collect()
}

/// How bad the damage was.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Damage {
    /// Nothing was changed.
    None,
    /// A single bit.
    Bit,
    /// Anything else.
    Any,
}

/// Does to `disk` what the input says; `history` is where stale contents come from.
pub(crate) fn damage(disk: &MemoryDisk, history: &History, input: &mut Input<'_>) -> Damage {
    let mut done = Damage::None;
    while !input.is_empty() {
        let names = disk.list().expect("memory works");
        let Some(name) = names.get(usize::from(input.byte()) % names.len().max(1)).cloned() else {
            return done;
        };
        let mut contents = contents(disk, &name);
        let kind = input.byte() % 11;
        let place = usize::from(input.word()) % contents.len().max(1);
        let sector = place / SECTOR * SECTOR;
        let value = input.byte();
        done = if kind == 0 && done == Damage::None { Damage::Bit } else { Damage::Any };
        match kind {
            0 => {
                if let Some(byte) = contents.get_mut(place) {
                    *byte ^= 1 << (value & 7);
                }
            }
            1 => put(&mut contents, place, &[value]),
            2 => put(&mut contents, sector, &[value; SECTOR]),
            3 => {
                let end = (sector + SECTOR * usize::from(value)).min(contents.len());
                contents[sector.min(end)..end].fill(0);
            }
            4 => contents.truncate(place),
            5 => {
                // A write that went elsewhere.
                let from = usize::from(value) * SECTOR % contents.len().max(1);
                let end = (from + SECTOR).min(contents.len());
                let moved = contents[from..end].to_vec();
                put(&mut contents, sector, &moved);
            }
            6 => {
                let bytes = input.piece();
                put(&mut contents, place, bytes);
            }
            7 => {
                disk.remove(&name).expect("the file is there");
                continue;
            }
            8 => {
                // Another name: of a segment or a spare that is there, or is not.
                let number = u64::from(value & 0x0f);
                let prefix = if value & 0x80 == 0 { "segment" } else { "spare" };
                disk.rename(&name, &format!("{prefix}-{number:016x}")).expect("the file is there");
                continue;
            }
            _ => {
                // Writes that never reached the disk: the file, or a sector of it, as it was.
                let moment = &history.moments[usize::from(value) % history.moments.len()];
                if moment.disk.open(&name).is_err() {
                    continue;
                }
                let old = self::contents(&moment.disk, &name);
                if kind == 9 {
                    contents = old;
                } else if let Some(old) = old.get(sector..sector + SECTOR) {
                    put(&mut contents, sector, old);
                }
            }
        }
        replace(disk, &name, &contents);
    }
    done
}

/// Writes `bytes` where there is room for them.
fn put(contents: &mut [u8], at: usize, bytes: &[u8]) {
    let Some(room) = contents.get_mut(at..) else { return };
    let count = room.len().min(bytes.len());
    room[..count].copy_from_slice(&bytes[..count]);
}

/// All of a file.
pub(crate) fn contents(disk: &MemoryDisk, name: &str) -> Vec<u8> {
    let file = disk.open(name).expect("the file is there");
    let length = usize::try_from(file.length().expect("memory works")).expect("files are small");
    let mut contents = vec![0; length];
    file.read_at(0, &mut contents).expect("memory works");
    contents
}

/// Gives a file other contents.
pub(crate) fn replace(disk: &MemoryDisk, name: &str, contents: &[u8]) {
    if disk.open(name).is_ok() {
        disk.remove(name).expect("the file is there");
    }
    let file = disk.create(name).expect("the name is free");
    file.write_at(0, &[contents]).expect("memory takes everything");
}

/// Everything in a folder.
pub(crate) fn folder(disk: &MemoryDisk) -> Vec<(String, Vec<u8>)> {
    let names = disk.list().expect("memory works").into_iter();
    names.map(|name| (name.clone(), contents(disk, &name))).collect()
}
