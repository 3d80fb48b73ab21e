//! Three real processes under load while they are killed and paused.
//!
//! Clients on all members put, delete, compare and read, and write down what they were answered;
//! the whole history must be linearizable, so nothing acknowledged is lost and nothing stale is
//! read. No test asserts how fast anything is: that writes resume is awaited.

mod support;

#[path = "chaos/workload.rs"]
mod workload;

use std::time::Duration;

use rustix::process::Signal;
use support::cluster::Cluster;
use support::run;
use workload::Workload;

/// How often the leader is killed.
const LEADER_KILLS: usize = 20;

/// How often a member is paused, and all members are killed.
const ROUNDS: usize = 4;

/// Writes that must be acknowledged between two faults, and during a pause.
const WRITES_BETWEEN: usize = 100;

/// The hang guard.
const LIMIT: Duration = Duration::from_secs(300);

#[test]
fn nothing_acknowledged_is_lost_when_leaders_are_killed_again_and_again() {
    run(LIMIT, async {
        let mut cluster = Cluster::three().await;
        let workload = Workload::start(&cluster, 1);
        for kill in 0..LEADER_KILLS {
            workload.acknowledged(WRITES_BETWEEN).await;
            let leader = cluster.leader().await;
            cluster.kill(leader).await;
            // Two members are left: they elect one of them and go on.
            workload.acknowledged(WRITES_BETWEEN).await;
            let next = cluster.leader().await;
            assert_ne!(next, leader, "kill {kill}");
            cluster.start(leader);
            cluster.ready(leader).await;
        }
        workload.acknowledged(WRITES_BETWEEN).await;
        let approval = workload.judge(&cluster).await;
        let summary = approval.summary;
        assert!(0 < summary.unknown_happened + summary.unknown_vanished, "kills must hit writes");
        assert!(2 * LEADER_KILLS * WRITES_BETWEEN <= summary.changes);
        assert!(0 < summary.linearizable_reads && 0 < summary.serializable_reads);
    });
}

#[test]
fn a_paused_follower_catches_up() {
    run(LIMIT, async {
        let mut cluster = Cluster::three().await;
        let workload = Workload::start(&cluster, 2);
        for _ in 0..ROUNDS {
            let follower = (cluster.leader().await + 1) % 3;
            cluster.process(follower).signal(Signal::STOP);
            workload.acknowledged(WRITES_BETWEEN).await;
            cluster.process(follower).signal(Signal::CONT);
            cluster.ready(follower).await;
            workload.acknowledged(WRITES_BETWEEN).await;
        }
        workload.judge(&cluster).await;
    });
}

/// The one that would serve stale reads, did it not ask the others before each read.
#[test]
fn a_paused_leader_does_not_know_better_when_it_wakes() {
    run(LIMIT, async {
        let mut cluster = Cluster::three().await;
        let workload = Workload::start(&cluster, 3);
        for _ in 0..ROUNDS {
            workload.acknowledged(WRITES_BETWEEN).await;
            let leader = cluster.leader().await;
            cluster.process(leader).signal(Signal::STOP);
            // The other two notice the silence and elect one of them.
            workload.acknowledged(WRITES_BETWEEN).await;
            cluster.process(leader).signal(Signal::CONT);
            cluster.ready(leader).await;
        }
        workload.judge(&cluster).await;
    });
}

#[test]
fn nothing_acknowledged_is_lost_when_all_members_are_killed_at_once() {
    run(LIMIT, async {
        let mut cluster = Cluster::three().await;
        let workload = Workload::start(&cluster, 4);
        for _ in 0..ROUNDS {
            workload.acknowledged(WRITES_BETWEEN).await;
            for member in 0..3 {
                cluster.process(member).signal(Signal::KILL);
            }
            for member in 0..3 {
                cluster.process(member).ended().await;
            }
            cluster.start_all().await;
        }
        workload.acknowledged(WRITES_BETWEEN).await;
        workload.judge(&cluster).await;
    });
}
