//! The engine's file under damage that redb itself need not notice: what the store opens is what it
//! once committed, or it does not open and says why. Nothing in between, and no panic.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use jangada::{Frame, StateMachine};
use jangada_entry::{Draft, Kind, Origin};
use jangada_kv::{Command, PutRequest, RangeRequest};
use jangada_raft::{Index, NodeId, Position, Term};
use jangada_sim::application::store::{StoreApplication, encode};
use jangada_sim::{Application, Choices, SimDisk};
use jangada_wal::{Disk, File};

const ENGINE: &str = "engine";

/// A page of the engine.
const PAGE_BYTES: u64 = 4096;

/// What a store holds, by the index it has applied: the hash over all rows, and all keys.
type Contents = (u32, usize);

fn put(index: u64) -> Frame {
    let key = Bytes::from(format!("key-{:02}", index % 40));
    let value = Bytes::from(vec![index as u8; 200]);
    let command = encode(&Command::Put(PutRequest { key, value, ..PutRequest::default() }));
    let mut buffer = Draft::buffer(command.len());
    buffer.extend_from_slice(&command);
    let position = Position { index: Index(index), term: Term(1) };
    Draft::new(buffer, Kind::Command, 1, 0, Origin::default()).stamp(position, 0)
}

/// Opens the store and tells what it holds, and as of which index.
fn open(disk: &SimDisk) -> Result<(u64, Contents), String> {
    let opened = StoreApplication.open(&disk.handle(), NodeId(1));
    let (machine, _worker) = opened.map_err(|error| error.to_string())?;
    Ok((machine.durable_index().0, contents(&machine)?))
}

fn contents(machine: &<StoreApplication as Application>::Machine) -> Result<Contents, String> {
    let all = RangeRequest {
        key: Bytes::from_static(b"key-"),
        range_end: Bytes::from_static(b"key."),
        ..RangeRequest::default()
    };
    let keys = machine.shared().range(&all).1.map_err(|error| format!("{error:?}"))?.kvs.len();
    let hash = machine.shared().hash_kv(0).map_err(|error| format!("{error:?}"))?;
    Ok((hash.hash, keys))
}

/// A store that has committed some times: its file as of each commit, and what it held then.
fn history() -> (Vec<Vec<u8>>, BTreeMap<u64, Contents>) {
    let disk = SimDisk::new();
    let (mut machine, mut worker) =
        StoreApplication.open(&disk.handle(), NodeId(1)).expect("an empty disk takes a store");
    let (mut files, mut held) = (Vec::new(), BTreeMap::new());
    let mut now_us = 0;
    for commit in 0..6 {
        for index in commit * 50 + 1..=commit * 50 + 50 {
            machine.apply(&[put(index)], &mut Vec::new());
            machine.end_batch(Index(index), Bytes::from_static(b"record"));
            machine.log_durable(Index(index));
        }
        let applied = commit * 50 + 50;
        while machine.durable_index() < Index(applied) {
            now_us += 300_000;
            StoreApplication.work(&mut worker, now_us).expect("the disk is sound");
        }
        held.insert(applied, contents(&machine).expect("sound"));
        files.push(content(&disk));
    }
    (files, held)
}

fn content(disk: &SimDisk) -> Vec<u8> {
    let file = disk.handle().open(ENGINE).expect("there is an engine");
    let mut bytes = vec![0; file.length().expect("alive") as usize];
    file.read_at(0, &mut bytes).expect("readable");
    bytes
}

fn disk_with(bytes: &[u8]) -> SimDisk {
    let disk = SimDisk::new();
    let file = disk.handle().create(ENGINE).expect("created");
    file.write_at(0, &[bytes]).expect("written");
    file.sync().expect("synced");
    disk.handle().sync_directory().expect("synced");
    disk
}

/// How often damage did what.
#[derive(Debug, Default)]
struct Outcomes {
    same: u64,
    older: u64,
    told: u64,
    wrong: Vec<String>,
}

impl Outcomes {
    fn try_out(&mut self, what: &str, disk: &SimDisk, held: &BTreeMap<u64, Contents>) {
        let newest = *held.keys().next_back().expect("there is a commit");
        match catch_unwind(AssertUnwindSafe(|| open(disk))) {
            // Told by setting it aside, to begin empty: the others have what it held.
            Ok(Ok(_)) if disk.listing().iter().any(|(name, _)| name.ends_with(".damaged")) => {
                self.told += 1;
            }
            Ok(Ok((applied, contents))) => {
                let expected = held.get(&applied);
                if expected == Some(&contents) {
                    let count = if applied == newest { &mut self.same } else { &mut self.older };
                    *count += 1;
                } else {
                    let wrong = format!("{what}: at {applied} {contents:?}, was {expected:?}");
                    self.wrong.push(wrong);
                }
            }
            Ok(Err(_)) => self.told += 1,
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
                self.wrong.push(format!("{what}: panic: {}", text.unwrap_or_default()));
            }
        }
    }
}

#[test]
fn a_damaged_engine_opens_with_what_it_held_or_says_why_not() {
    let (files, held) = history();
    let newest = files.last().expect("there are commits");
    let mut outcomes = Outcomes::default();
    let mut choices = Choices::of_seed(1);
    let pages = newest.len() as u64 / PAGE_BYTES;
    let used = |page: &u64| {
        let start = (page * PAGE_BYTES) as usize;
        newest[start..start + PAGE_BYTES as usize].iter().any(|byte| *byte != 0)
    };
    for page in (0..pages).filter(used) {
        let start = page * PAGE_BYTES;
        for _ in 0..4 {
            let disk = disk_with(newest);
            let (offset, bit) = (start + choices.below(PAGE_BYTES), choices.below(8) as u8);
            disk.flip(ENGINE, offset, bit).expect("there is an engine");
            outcomes.try_out(&format!("bit {bit} of {offset}"), &disk, &held);
        }
        let disk = disk_with(newest);
        disk.spoil(ENGINE, start).expect("there is an engine");
        outcomes.try_out(&format!("unreadable {page}"), &disk, &held);
        // A write that was lost: the page is as it was some commits ago.
        for old in &files[..files.len() - 1] {
            let range = start as usize..(start + PAGE_BYTES) as usize;
            let Some(stale) = old.get(range.clone()).filter(|stale| *stale != &newest[range])
            else {
                continue;
            };
            let disk = disk_with(newest);
            disk.overwrite(ENGINE, start, stale).expect("there is an engine");
            outcomes.try_out(&format!("stale page {page}"), &disk, &held);
        }
        // A write that landed here.
        let other = choices.below(pages) * PAGE_BYTES;
        let page_of = newest[other as usize..(other + PAGE_BYTES) as usize].to_vec();
        let disk = disk_with(newest);
        disk.overwrite(ENGINE, start, &page_of).expect("there is an engine");
        outcomes.try_out(&format!("page {page} holds what {other} holds"), &disk, &held);
    }
    let Outcomes { same, older, told, wrong } = &outcomes;
    println!("{same} the same, {older} older, {told} told, {} wrong", wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(0 < *same && 0 < *told);
}
