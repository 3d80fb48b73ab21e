//! Snapshots end to end (section 7): from a leader's state machine to a follower's, whatever dies or
//! breaks on the way.

mod cluster;
mod transfers;

use cluster::machines::{Streamed, Whole};
use cluster::{Cluster, options};
use jangada::Options;
use jangada::raft::Index;
use transfers::{behind_the_cut, catches_up, crash_points};

#[test]
fn a_follower_behind_the_cut_catches_up_and_entries_flow_at_once() {
    catches_up::<Streamed>();
}

#[test]
fn so_does_one_whose_machine_keeps_nothing_durable() {
    catches_up::<Whole>();
}

#[test]
fn a_crash_at_any_point_of_an_installation_leaves_the_old_state_or_the_new_one() {
    crash_points::<Streamed>();
}

#[test]
fn so_does_one_of_a_machine_that_keeps_nothing_durable() {
    crash_points::<Whole>();
}

#[test]
fn a_leader_that_dies_in_the_middle_is_followed_by_another_that_goes_on_behind_the_last_chunk() {
    let mut cluster = behind_the_cut::<Streamed>();
    cluster.start(3).expect("its disk is sound");
    cluster.until("a few chunks have come", |c| c.chunks.get(&3).is_some_and(|n| 20 <= *n));
    let leader = cluster.leader().expect("it sends");
    cluster.kill(leader);
    cluster.until("the others have a leader", |cluster| cluster.leader().is_some());
    cluster
        .until("the rest has come", |cluster| 0 < cluster.member(3).status().snapshots_installed);
    let came = cluster.chunks[&3];
    assert!(came < 63 + 15, "what was staged is not sent again: {came} chunks");
    cluster.start(leader).expect("its disk is sound");
    cluster.propose(2);
    cluster.settle();
}

#[test]
fn a_lane_that_breaks_is_gone_on_with_from_a_newer_view() {
    let mut cluster = behind_the_cut::<Streamed>();
    cluster.start(3).expect("its disk is sound");
    cluster.until("a few chunks have come", |c| c.chunks.get(&3).is_some_and(|n| 20 <= *n));
    let leader = cluster.leader().expect("it sends");
    cluster.no_snapshots.insert((leader, 3));
    cluster.propose(10);
    cluster.pass(1_000_000);
    let before = cluster.chunks[&3];
    assert_eq!(cluster.member(3).status().snapshots_installed, 0);
    cluster.no_snapshots.clear();
    cluster.settle();
    let after = cluster.chunks[&3] - before;
    assert!(after < 73 - 20 + 15, "what was staged is not sent again: {after} chunks");
}

#[test]
fn two_snapshots_in_quick_succession() {
    let mut cluster = behind_the_cut::<Streamed>();
    cluster.start(3).expect("its disk is sound");
    cluster.until("the first is there", |c| 0 < c.member(3).status().snapshots_installed);
    // Away again at once, for long enough to need another one.
    cluster.kill(3);
    cluster.propose(60);
    cluster.pass(12_000_000);
    cluster.propose(60);
    cluster.pass(12_000_000);
    cluster.start(3).expect("its disk is sound");
    cluster.settle();
    assert_eq!(cluster.member(3).status().snapshots_installed, 1);
}

#[test]
fn while_a_snapshot_is_sent_the_log_keeps_what_follows_it() {
    let mut cluster = behind_the_cut::<Streamed>();
    cluster.start(3).expect("its disk is sound");
    cluster.until("a few chunks have come", |c| c.chunks.get(&3).is_some_and(|n| 5 <= *n));
    cluster.propose(80);
    cluster.pass(2_000_000);
    cluster.settle();
    assert_eq!(cluster.member(3).status().snapshots_installed, 1, "one was enough");
}

#[test]
fn a_log_has_a_limit_whoever_lags() {
    let mut cluster = Cluster::<Streamed>::new(3);
    cluster.propose(1);
    cluster.kill(3);
    cluster.propose(300);
    cluster.pass(2_000_000);
    for id in [1, 2] {
        let bytes = cluster.log_bytes(id);
        assert!(bytes < 16 << 10, "the log of {id} takes {bytes} bytes");
    }
}

#[test]
fn a_member_whose_machine_is_lost_is_sent_a_snapshot_and_does_not_lead_before() {
    let mut cluster = Cluster::<Streamed>::new(3);
    cluster.propose(80);
    cluster.settle();
    cluster.pass(3_000_000);
    cluster.kill(1);
    cluster.disks[&1].machine.wipe();
    cluster.start(1).expect("the log is whole");
    assert!(cluster.member(1).status().needs_snapshot);
    cluster.until("it has been sent one", |cluster| {
        assert_ne!(cluster.leader(), Some(1), "it cannot serve");
        !cluster.member(1).status().needs_snapshot
    });
    cluster.propose(2);
    cluster.settle();
    assert_eq!(cluster.member(1).status().snapshots_installed, 1);
}

#[test]
fn a_machine_that_keeps_nothing_durable_starts_again_from_its_file() {
    let mut cluster = Cluster::<Whole>::new(3);
    cluster.propose(60);
    cluster.settle();
    cluster.pass(3_000_000);
    let begins = cluster.member(1).status().log_begins.index;
    assert!(Index(4) < begins, "the log is cut behind the file");
    for id in 1..=3 {
        cluster.kill(id);
    }
    for id in 1..=3 {
        cluster.start(id).expect("the file and the log go together");
        assert!(begins <= cluster.member(id).status().record.applied.index);
    }
    cluster.propose(3);
    cluster.settle();
}

#[test]
fn a_slow_receiver_costs_a_window_and_no_more() {
    let options = Options { snapshot_bytes_per_second: 2_000, ..options() };
    let mut cluster = Cluster::<Streamed>::with(3, options);
    cluster.propose(3);
    cluster.kill(3);
    cluster.propose(60);
    cluster.pass(3_000_000);
    cluster.start(3).expect("its disk is sound");
    cluster.until("it begins", |cluster| cluster.chunks.contains_key(&3));
    let before = cluster.chunks[&3];
    cluster.pass(500_000);
    let sent = cluster.chunks[&3] - before;
    assert!(0 < sent && sent < 40, "{sent} chunks of some 50 bytes in half a second");
    cluster.settle();
}
