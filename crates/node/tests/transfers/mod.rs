//! Snapshots that are sent to a member behind the cut; the canon of known bugs sends them, too.

use jangada::raft::Index;

use super::cluster::Cluster;
use super::cluster::machines::Remembers;

/// Member 3 is away while the others apply so much that their logs are cut.
pub(crate) fn behind_the_cut<M: Remembers>() -> Cluster<M> {
    let mut cluster = Cluster::new(3);
    cluster.propose(3);
    cluster.settle();
    cluster.kill(3);
    cluster.propose(60);
    cluster.pass(3_000_000);
    for id in [1, 2] {
        let begins = cluster.member(id).status().log_begins.index;
        assert!(Index(4) < begins, "the log of {id} is cut: it begins behind {begins}");
    }
    cluster
}

/// It catches up, entries flow at once, and it starts again from what it was sent.
pub(crate) fn catches_up<M: Remembers>() {
    let mut cluster = behind_the_cut::<M>();
    cluster.start(3).expect("its disk is sound");
    cluster.settle();
    assert_eq!(cluster.member(3).status().snapshots_installed, 1);
    // Entries flow at once: the next command needs no other snapshot.
    cluster.propose(5);
    cluster.settle();
    assert_eq!(cluster.member(3).status().snapshots_installed, 1);
    cluster.kill(3);
    cluster.start(3).expect("the log was begun anew behind what the machine holds");
    cluster.settle();
    assert_eq!(cluster.member(3).status().snapshots_installed, 0);
}

/// Kills member 3 at its n-th effect, for every n until the snapshot is installed and entries flow.
pub(crate) fn crash_points<M: Remembers>() {
    let mut points = 0;
    for left in 0.. {
        let mut cluster = behind_the_cut::<M>();
        cluster.dies = Some((3, left));
        cluster.start(3).expect("its disk is sound");
        cluster.until("it dies or is there", |cluster| {
            let Some(process) = cluster.running.get(&3) else { return true };
            let status = process.member.status();
            0 < status.snapshots_installed && status.record.applied.index == status.commit
        });
        let survived = cluster.running.contains_key(&3);
        cluster.dies = None;
        if !survived {
            points += 1;
            cluster.start(3).expect("the old state or the new one");
        }
        cluster.propose(2);
        cluster.settle();
        if survived {
            break;
        }
    }
    assert!(5 < points, "{points} crash points were tried");
}
