//! A member that is quarantined and starts again: what its machine holds durably is as wrong as before.

mod cluster;

use cluster::Cluster;
use cluster::machines::Streamed;

/// A follower whose machine has done what no other did, and knows it, while nobody can send it a
/// snapshot.
fn quarantined() -> (Cluster<Streamed>, u64) {
    let mut cluster = Cluster::<Streamed>::new(3);
    cluster.propose(3);
    cluster.settle();
    let leader = cluster.leader().expect("it settled");
    let liar = (1..=3).find(|id| *id != leader).expect("there are three");
    for other in (1..=3).filter(|id| *id != liar) {
        cluster.no_snapshots.insert((other, liar));
    }
    cluster.disks[&liar].machine.lock().lies = true;
    cluster.propose(3);
    cluster.until("the liar is found", |c| c.member(liar).quarantine().is_some());
    cluster.disks[&liar].machine.lock().lies = false;
    cluster.pass(1_000_000);
    (cluster, liar)
}

#[test]
fn a_quarantined_member_that_starts_again_serves_nobody_until_it_is_replaced() {
    let (mut cluster, liar) = quarantined();
    let before = cluster.member(liar).quarantine();
    cluster.kill(liar);
    cluster.start(liar).expect("its disks are sound");
    assert_eq!(cluster.member(liar).quarantine(), before, "from the first moment on");
    let applied = cluster.member(liar).status().record.applied;
    cluster.propose(2);
    cluster.pass(5_000_000);
    assert_eq!(cluster.member(liar).quarantine(), before);
    assert_eq!(cluster.member(liar).status().record.applied, applied, "nothing more is applied");
    cluster.no_snapshots.clear();
    cluster.until("it is replaced", |c| c.member(liar).quarantine().is_none());
    cluster.propose(2);
    cluster.settle();
    // The notes say so, too.
    cluster.kill(liar);
    cluster.start(liar).expect("its disks are sound");
    assert_eq!(cluster.member(liar).quarantine(), None);
    cluster.settle();
}

/// It dies at every point between the finding and the end: either it does not know of it yet, and is
/// found once more, or it stays what it was.
#[test]
fn whenever_it_dies_it_is_replaced_in_the_end() {
    for effects in 0..60 {
        let (mut cluster, liar) = quarantined();
        cluster.no_snapshots.clear();
        cluster.dies = Some((liar, effects));
        cluster.until("it has died, or is replaced", |c| {
            c.dies.is_none() || c.member(liar).quarantine().is_none()
        });
        let died = cluster.dies.take().is_none();
        if died {
            cluster.start(liar).expect("its disks are sound");
        }
        cluster.propose(1);
        cluster.until("it is replaced", |c| c.member(liar).quarantine().is_none());
        cluster.settle();
    }
}

/// A leader that is sending its state to one of five when the others tell it that it is wrong.
#[test]
fn a_quarantined_leader_gives_nobody_its_state() {
    let mut cluster = Cluster::<Streamed>::new(5);
    cluster.propose(3);
    cluster.settle();
    let leader = cluster.leader().expect("it settled");
    let away = (1..=5).find(|id| *id != leader).expect("there are five");
    cluster.kill(away);
    cluster.propose(60);
    cluster.pass(3_000_000);
    assert_eq!(cluster.leader(), Some(leader), "nothing has happened to it");
    cluster.disks[&leader].machine.lock().lies = true;
    cluster.propose(1);
    cluster.start(away).expect("its disk is sound");
    cluster.until("it is found", |c| c.member(leader).quarantine().is_some());
    cluster.disks[&leader].machine.lock().lies = false;
    cluster.until("it is replaced", |c| c.member(leader).quarantine().is_none());
    cluster.propose(2);
    cluster.settle();
}
