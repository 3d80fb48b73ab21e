//! Logs that have rotted while their member was away, and the way back from it.

mod cluster;

use cluster::machines::Whole;
use cluster::{Cluster, options};
use jangada::Options;
use jangada::wal::{Disk, File, MemoryDisk};

/// Three members whose machines keep nothing, so that all is in their logs.
fn cluster() -> Cluster<Whole> {
    let options = Options { save_after_bytes: 1 << 30, ..options() };
    let mut cluster = Cluster::with(3, options);
    cluster.propose(20);
    cluster.settle();
    cluster
}

/// Where the bytes stand in the log's files, each time.
fn places(disk: &MemoryDisk, wanted: &[u8]) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    for name in disk.list().expect("in memory") {
        let file = disk.open(&name).expect("in memory");
        let mut bytes = vec![0; file.length().expect("in memory") as usize];
        file.read_at(0, &mut bytes).expect("in memory");
        let at = bytes.windows(wanted.len()).enumerate().filter(|(_, window)| *window == wanted);
        found.extend(at.map(|(at, _)| (name.clone(), at as u64)));
    }
    found
}

fn flip(disk: &MemoryDisk, (name, at): &(String, u64)) {
    let file = disk.open(name).expect("in memory");
    let mut byte = [0];
    file.read_at(*at, &mut byte).expect("in memory");
    file.write_at(*at, &[&[byte[0] ^ 1]]).expect("in memory");
}

fn command(number: u64) -> Vec<u8> {
    format!("command {number:040}").into_bytes()
}

fn rot(cluster: &Cluster<Whole>, member: u64, numbers: impl IntoIterator<Item = u64>) {
    let disk = &cluster.disks[&member].log;
    for number in numbers {
        let places = places(disk, &command(number));
        assert!(!places.is_empty(), "command {number} stands in the log of {member}");
        places.iter().for_each(|place| flip(disk, place));
    }
}

#[test]
fn damaged_entries_come_from_other_members_by_name() {
    let mut cluster = cluster();
    cluster.kill(3);
    rot(&cluster, 3, [4, 5, 6, 9]);
    cluster.propose(3);
    cluster.start(3).expect("the names of its entries are known");
    cluster.settle();
    cluster.kill(3);
    cluster.start(3).expect("it is whole again");
    cluster.settle();
    assert_eq!(cluster.member(3).raft().recovering(), None, "nothing was given up");
}

#[test]
fn a_member_that_misses_entries_takes_no_part_and_gives_others_what_it_has() {
    let mut cluster = cluster();
    for id in 1..=3 {
        cluster.kill(id);
    }
    rot(&cluster, 1, [4]);
    rot(&cluster, 2, [7]);
    cluster.start(1).expect("the names of its entries are known");
    cluster.pass(5_000_000);
    assert_eq!(cluster.leader(), None, "it does not stand for election");
    assert_eq!(cluster.member(1).status().standing.term, cluster.member(1).raft().term());
    // The two have what the other lacks.
    cluster.start(2).expect("the names of its entries are known");
    cluster.propose(1);
    cluster.settle();
}

#[test]
fn what_nobody_holds_is_given_up_and_the_member_recovers() {
    let mut cluster = cluster();
    let leader = cluster.leader().expect("it has proposed");
    let others: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();
    // The leader alone gets one more entry.
    others.iter().for_each(|id| cluster.kill(*id));
    cluster.propose_unheard(leader);
    cluster.kill(leader);
    rot(&cluster, leader, [21]);
    others.iter().for_each(|id| cluster.start(*id).expect("its disk is sound"));
    cluster.until("the others have a leader", |cluster| cluster.leader().is_some());
    cluster.start(leader).expect("the names of its entries are known");
    cluster.settle();
    cluster.until("it has recovered", |c| c.member(leader).raft().recovering().is_none());
    cluster.kill(leader);
    cluster.start(leader).expect("it is whole again");
    assert_eq!(cluster.member(leader).raft().recovering(), None, "durably so");
    cluster.settle();
}

#[test]
fn what_the_others_have_cut_is_given_up_although_one_of_them_stays_away() {
    let mut cluster = Cluster::<Whole>::with(5, Options { save_after_bytes: 1 << 30, ..options() });
    cluster.propose(20);
    cluster.settle();
    (1..=5).for_each(|id| cluster.kill(id));
    rot(&cluster, 4, [9]);
    cluster.options = options();
    (1..=3).for_each(|id| cluster.start(id).expect("its disk is sound"));
    cluster.propose(40);
    let cut = |c: &Cluster<Whole>| (1..=3).all(|id| 30 < c.member(id).status().log_begins.index.0);
    cluster.until("the log is cut", cut);
    cluster.start(4).expect("the names of its entries are known");
    cluster.pass(10_000_000);
    assert_eq!(cluster.member(4).status().snapshots_installed, 1);
    cluster.start(5).expect("its disk is sound");
    cluster.settle();
}

#[test]
fn a_member_alone_refuses_what_nobody_can_give_back() {
    let mut cluster = Cluster::<Whole>::with(1, Options { save_after_bytes: 1 << 30, ..options() });
    cluster.propose(5);
    cluster.kill(1);
    rot(&cluster, 1, [3]);
    let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| cluster.start(1)));
    assert!(opened.is_err() || opened.is_ok_and(|started| started.is_err()), "it is told");
}
