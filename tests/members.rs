//! Members come and go, leaders are moved and stopped, servers lose their disks: real processes, real
//! disks, and clients that notice as little as may be.

mod support;

#[path = "chaos/workload.rs"]
mod workload;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jangada_server::proto::etcdserverpb::{PutRequest, RangeRequest};
use rustix::process::Signal;
use support::client::Client;
use support::cluster::{Cluster, Plan, Program, get_http};
use support::ports::free_port;
use support::{run, until};
use tonic::{Code, Status};
use workload::Workload;

/// Writes that must be acknowledged between two changes.
const WRITES_BETWEEN: usize = 100;

/// The hang guard.
const LIMIT: Duration = Duration::from_secs(300);

/// What a removed member says.
const REMOVED: &str = "the member has been permanently removed from the cluster";

/// Lets another member in, and waits until it serves.
async fn grow(cluster: &mut Cluster, present: &mut Vec<usize>, workload: &Workload) {
    let member = cluster.lay_out();
    cluster.join(member, present[0], false).await;
    cluster.ready(member).await;
    present.push(member);
    workload.ask(cluster, present);
    workload.acknowledged(WRITES_BETWEEN).await;
}

/// Removes a member, asking another one until it agrees, and waits until its process has ended.
async fn leave(cluster: &mut Cluster, present: &mut Vec<usize>, member: usize, id: u64) {
    present.retain(|other| *other != member);
    remove(cluster, *present.last().expect("others stay"), id).await;
    let status = cluster.process(member).ended().await;
    assert_eq!(status.code(), Some(0), "{}", cluster.process(member).tail());
    assert!(cluster.process(member).log().contains(REMOVED));
}

async fn remove(cluster: &Cluster, asked: usize, id: u64) {
    until(async || match cluster.client(asked).member_remove(id).await {
        Ok(()) => Some(()),
        // An answer was lost: it is gone already.
        Err(status) if status.code() == Code::NotFound => Some(()),
        Err(_) => None,
    })
    .await;
}

async fn ids(cluster: &Cluster, members: &[usize]) -> Vec<u64> {
    let mut ids = Vec::new();
    for member in members {
        ids.push(cluster.id(*member).await);
    }
    ids.sort_unstable();
    ids
}

/// The ids of the members, and that they vote, as one of them lists them.
async fn listed(cluster: &Cluster, asked: usize) -> Vec<u64> {
    let list = until(async || cluster.client(asked).member_list().await.ok()).await;
    assert!(list.members.iter().all(|member| !member.is_learner), "{list:?}");
    list.members.iter().map(|member| member.id).collect()
}

#[test]
fn every_member_is_replaced_under_load_and_nothing_is_lost() {
    run(LIMIT, async {
        let mut cluster = Cluster::three().await;
        let originals = [cluster.id(0).await, cluster.id(1).await, cluster.id(2).await];
        let workload = Workload::roaming(&cluster, 5);
        let mut present = vec![0, 1, 2];
        grow(&mut cluster, &mut present, &workload).await;
        grow(&mut cluster, &mut present, &workload).await;
        assert_eq!(listed(&cluster, 0).await, ids(&cluster, &present).await, "three became five");
        for (member, id) in originals.into_iter().enumerate() {
            leave(&mut cluster, &mut present, member, id).await;
            workload.ask(&cluster, &present);
            workload.acknowledged(WRITES_BETWEEN).await;
            if member == 0 {
                grow(&mut cluster, &mut present, &workload).await;
            }
        }
        assert_eq!(present, [3, 4, 5], "five became three, all of them new");
        assert_eq!(listed(&cluster, 3).await, ids(&cluster, &present).await);
        // Whatever was changed survives a restart of all.
        for member in [3, 4, 5] {
            cluster.process(member).signal(Signal::KILL);
        }
        for member in [3, 4, 5] {
            cluster.process(member).ended().await;
            cluster.start(member);
        }
        for member in [3, 4, 5] {
            cluster.ready(member).await;
        }
        workload.acknowledged(WRITES_BETWEEN).await;
        assert_eq!(listed(&cluster, 4).await, ids(&cluster, &present).await);
        workload.judge(&cluster).await;
    });
}

#[test]
fn a_new_member_catches_up_by_a_snapshot_while_writes_go_on() {
    run(LIMIT, async {
        let plan = Plan::new(Program::Jangada, 3).flag("snapshot-catchup-bytes", 1 << 20);
        let mut cluster = plan.start().await;
        let fillers = fill(&cluster).await;
        let stopped = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..3)
            .map(|member| {
                let client = cluster.client(member);
                tokio::spawn(put_until(client, format!("writer {member}"), stopped.clone()))
            })
            .collect();
        let member = cluster.lay_out();
        cluster.join(member, 0, false).await;
        cluster.ready(member).await;
        until(async || {
            let installed = metric(&cluster, member, "jangada_snapshots_installed_total ").await?;
            (0.0 < installed).then_some(())
        })
        .await;
        cluster.process(member).logged("applied snapshot").await;
        // Entries flow again behind the snapshot.
        cluster.client(0).put_key("after", "the snapshot").await.expect("a healthy cluster");
        let mut reader = cluster.client(member);
        let after = reader.get_key("after").await.expect("it serves");
        assert_eq!(after.as_deref(), Some("the snapshot"));
        stopped.store(true, Ordering::SeqCst);
        assert_eq!(count(&mut reader, "filler ").await, fillers);
        for (number, writer) in writers.into_iter().enumerate() {
            let (written, longest, error) = writer.await.expect("a writer does not panic");
            assert!(error.is_none(), "after {written} writes: {error:?}");
            println!("{written} writes meanwhile, the slowest took {longest:?}");
            assert_eq!(count(&mut reader, &format!("writer {number} ")).await, written);
        }
    });
}

/// Writes until the log no longer reaches back to the beginning. How many keys there are then.
async fn fill(cluster: &Cluster) -> u64 {
    const VALUE_BYTES: usize = 32 << 10;
    let mut client = cluster.client(0);
    let mut keys = 0;
    until(async || {
        for _ in 0..50 {
            let value = vec![b'.'; VALUE_BYTES].into();
            let key = format!("filler {keys}").into();
            let put = PutRequest { key, value, ..PutRequest::default() };
            client.put(put).await.expect("a healthy cluster");
            keys += 1;
        }
        let leader = cluster.leader().await;
        let retained = metric(cluster, leader, "jangada_log_retained_bytes ").await?;
        (retained < keys as f64 * VALUE_BYTES as f64 * 0.7).then_some(())
    })
    .await;
    keys
}

/// How many keys begin so, linearizably.
async fn count(client: &mut Client, prefix: &str) -> u64 {
    let mut end = prefix.as_bytes().to_vec();
    *end.last_mut().expect("a prefix is not empty") += 1;
    let request = RangeRequest {
        key: prefix.to_owned().into(),
        range_end: end.into(),
        count_only: true,
        ..RangeRequest::default()
    };
    let answer = client.range(request).await.expect("it serves");
    u64::try_from(answer.count).expect("a count is not negative")
}

/// A metric without labels; the name ends with a blank.
async fn metric(cluster: &Cluster, member: usize, name: &str) -> Option<f64> {
    let address = cluster.members[member].client_url.trim_start_matches("http://");
    let text = get_http(address, "/metrics").await?;
    text.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()
}

/// How often two are asked at once: so that their questions surely meet on the way, once at least.
const MEETINGS: usize = 5;

#[test]
fn of_changes_asked_of_two_members_at_once_none_is_lost() {
    run(LIMIT, async {
        let cluster = Cluster::three().await;
        for _ in 0..MEETINGS {
            let (first, second) = tokio::join!(added(&cluster, 0), added(&cluster, 1));
            let listed = cluster.client(2).member_list().await.expect("a healthy cluster").members;
            for id in [first, second] {
                assert!(listed.iter().any(|member| member.id == id), "{id:x} in {listed:?}");
                remove(&cluster, 2, id).await;
            }
            let listed = cluster.client(0).member_list().await.expect("a healthy cluster").members;
            assert_eq!(listed.len(), 3, "{listed:?}");
        }
    });
}

/// Adds a member that never starts, as `asked` lets it in, and says its id.
async fn added(cluster: &Cluster, asked: usize) -> u64 {
    let urls = [format!("http://127.0.0.1:{}", free_port())];
    let answer = until(async || cluster.client(asked).member_add(&urls, false).await.ok()).await;
    answer.member.expect("the new member is named").id
}

#[test]
fn a_removed_member_stops_and_does_not_come_back() {
    run(LIMIT, async {
        let mut cluster = Cluster::three().await;
        let mut present = vec![0, 1, 2];
        let id = cluster.id(0).await;
        leave(&mut cluster, &mut present, 0, id).await;
        cluster.client(1).put_key("kept", "yes").await.expect("two are a quorum of two");
        let said = cluster.process(0).log().len();
        cluster.start(0);
        let status = cluster.process(0).ended().await;
        let log = cluster.process(0).log()[said..].to_owned();
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(log.contains("was removed from the cluster"), "{log}");
        assert!(log.contains("jangada member add"), "it says what to do:\n{log}");
        // Emptied and added again, it is another member.
        std::fs::remove_dir_all(&cluster.members[0].data).expect("a folder can be removed");
        let again = cluster.join(0, 1, false).await;
        assert_ne!(again, id);
        cluster.ready(0).await;
        let kept = cluster.client(0).get_key("kept").await.expect("it serves");
        assert_eq!(kept.as_deref(), Some("yes"));
    });
}

#[test]
fn a_member_that_lost_its_disk_is_refused_and_told_what_to_do() {
    run(LIMIT, async {
        let mut cluster = Cluster::three().await;
        cluster.client(0).put_key("kept", "yes").await.expect("a healthy cluster");
        let id = cluster.id(2).await;
        cluster.kill(2).await;
        std::fs::remove_dir_all(&cluster.members[2].data).expect("a folder can be removed");
        let said = cluster.process(2).log().len();
        cluster.start(2);
        let status = cluster.process(2).ended().await;
        let log = cluster.process(2).log()[said..].to_owned();
        assert_eq!(status.code(), Some(1), "{log}");
        let advice = format!("jangada member remove {id:x}");
        assert!(log.contains("lost its data directory") && log.contains(&advice), "{log}");
        // It follows the advice.
        std::fs::remove_dir_all(&cluster.members[2].data).expect("a folder can be removed");
        until(async || cluster.client(0).member_remove(id).await.ok()).await;
        cluster.join(2, 0, false).await;
        cluster.ready(2).await;
        let kept = cluster.client(2).get_key("kept").await.expect("it serves");
        assert_eq!(kept.as_deref(), Some("yes"));
    });
}

/// What a member says that goes on alone, and one that must not.
const FORCED: &str = "FORCED A NEW CLUSTER";
const FORCE: &[&str] = &["--force-new-cluster"];

#[test]
fn the_last_of_three_goes_on_alone_and_lets_new_members_in() {
    const KEYS: u64 = 40;
    run(LIMIT, async {
        let mut cluster = Cluster::three().await;
        let lost = [cluster.id(0).await, cluster.id(1).await];
        for key in 0..KEYS {
            cluster.client(0).put_key(&format!("kept {key}"), "yes").await.expect("healthy");
        }
        assert_eq!(count(&mut cluster.client(2), "kept ").await, KEYS, "it holds all");
        lose(&mut cluster, 0).await;
        // While another one runs it is refused: two that go on alone would be two clusters.
        cluster.terminate(2).await;
        cluster.start_with(2, FORCE);
        let status = cluster.process(2).ended().await;
        assert_eq!(status.code(), Some(1), "{}", cluster.process(2).tail());
        assert!(cluster.process(2).log().contains("at least one of the other members"));
        lose(&mut cluster, 1).await;
        cluster.start_with(2, FORCE);
        cluster.ready(2).await;
        assert!(cluster.process(2).log().contains(FORCED), "{}", cluster.process(2).tail());
        assert_eq!(count(&mut cluster.client(2), "kept ").await, KEYS);
        assert_eq!(listed(&cluster, 2).await, ids(&cluster, &[2]).await);
        cluster.client(2).put_key("kept on", "yes").await.expect("one is a majority of one");
        // Without the order it is what it has become, and with it nothing more is given up.
        cluster.terminate(2).await;
        cluster.start(2);
        cluster.ready(2).await;
        let mut present = vec![2];
        for _ in 0..2 {
            let member = cluster.lay_out();
            cluster.join(member, 2, false).await;
            cluster.ready(member).await;
            present.push(member);
        }
        assert_eq!(listed(&cluster, 4).await, ids(&cluster, &present).await);
        // A lost one that is started as it was, on an empty disk, is told that it is none any more.
        cluster.start(0);
        let status = cluster.process(0).ended().await;
        assert_eq!(status.code(), Some(0), "{}", cluster.process(0).tail());
        assert!(cluster.process(0).log().contains(REMOVED), "{}", cluster.process(0).tail());
        // The new ones hold all, without the one that brought it over.
        cluster.kill(2).await;
        for member in [3, 4] {
            let mut client = cluster.client(member);
            let kept = until(async || client.get_key("kept on").await.ok()).await;
            assert_eq!(kept.as_deref(), Some("yes"));
            assert_eq!(count(&mut client, "kept ").await, KEYS + 1);
        }
        let now = listed(&cluster, 3).await;
        assert!(lost.iter().all(|id| !now.contains(id)), "{lost:x?} in {now:x?}");
    });
}

/// A member's machine burns.
async fn lose(cluster: &mut Cluster, member: usize) {
    cluster.kill(member).await;
    std::fs::remove_dir_all(&cluster.members[member].data).expect("a folder can be removed");
}

#[test]
fn a_new_cluster_is_not_forced_out_of_nothing() {
    run(LIMIT, async {
        let mut cluster = Plan::new(Program::Jangada, 1).prepare();
        cluster.start_with(0, FORCE);
        let status = cluster.process(0).ended().await;
        assert_eq!(status.code(), Some(1), "{}", cluster.process(0).tail());
        assert!(cluster.process(0).log().contains("there is no data to go on from"));
    });
}

#[test]
fn a_server_that_was_not_added_does_not_join() {
    run(LIMIT, async {
        let mut cluster = Plan::new(Program::Jangada, 1).start().await;
        let stranger = cluster.lay_out();
        let initial =
            format!("m1={},m2={}", cluster.members[0].peer_url, cluster.members[stranger].peer_url);
        cluster.claim(stranger, &initial);
        cluster.start(stranger);
        let status = cluster.process(stranger).ended().await;
        let log = cluster.process(stranger).log();
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(log.contains("unmatched member while checking PeerURLs"), "{log}");
        assert!(log.contains("jangada member add"), "{log}");
    });
}

/// Longer than any hand-over takes, and than a test waits for what comes by itself.
const ELECTION_TIMEOUT_MS: u64 = 5000;

/// Puts, one after the other; answers how many were acknowledged, the longest time that one took, and
/// the first error.
async fn put_until(
    mut client: Client,
    name: String,
    stopped: Arc<AtomicBool>,
) -> (u64, Duration, Option<Status>) {
    let (mut count, mut longest) = (0, Duration::ZERO);
    while !stopped.load(Ordering::SeqCst) {
        let begin = Instant::now();
        if let Err(status) = client.put_key(&format!("{name} {count}"), "x").await {
            return (count, longest, Some(status));
        }
        longest = longest.max(begin.elapsed());
        count += 1;
    }
    (count, longest, None)
}

#[test]
fn a_leader_that_is_told_to_stop_hands_over_and_fails_no_write() {
    run(LIMIT, async {
        let plan = Plan::new(Program::Jangada, 3).flag("election-timeout", ELECTION_TIMEOUT_MS);
        let mut cluster = plan.start().await;
        let leader = cluster.leader().await;
        let stopped = Arc::new(AtomicBool::new(false));
        let others: Vec<usize> = (0..3).filter(|member| *member != leader).collect();
        let writers: Vec<_> = (0..6)
            .map(|number| {
                let client = cluster.client(others[number % 2]);
                tokio::spawn(put_until(client, format!("writer {number}"), stopped.clone()))
            })
            .collect();
        let mut reader = cluster.client(others[0]);
        let written = async |reader: &mut Client, name: &str| {
            until(async || reader.get_key(name).await.ok().flatten()).await;
        };
        written(&mut reader, "writer 0 50").await;
        let status = cluster.terminate(leader).await;
        assert_eq!(status.code(), Some(0), "{}", cluster.process(leader).tail());
        assert!(cluster.process(leader).log().contains("handed leadership over"));
        assert!(others.contains(&cluster.leader().await));
        reader.put_key("after", "the stop").await.expect("the others serve");
        stopped.store(true, Ordering::SeqCst);
        for writer in writers {
            let (count, longest, error) = writer.await.expect("a writer does not panic");
            assert!(error.is_none(), "after {count} writes: {error:?}");
            println!("{count} writes, the slowest took {longest:?}");
            let bound = Duration::from_millis(ELECTION_TIMEOUT_MS);
            assert!(longest < bound, "nobody waits for an election");
        }
    });
}

#[test]
fn a_member_that_is_told_twice_to_stop_stops_at_once_and_loses_nothing() {
    run(LIMIT, async {
        let mut cluster = Plan::new(Program::Jangada, 1).start().await;
        cluster.client(0).put_key("kept", "yes").await.expect("a healthy member");
        cluster.process(0).signal(Signal::TERM);
        cluster.process(0).signal(Signal::TERM);
        cluster.process(0).ended().await;
        cluster.start(0);
        cluster.ready(0).await;
        let kept = cluster.client(0).get_key("kept").await.expect("a healthy member");
        assert_eq!(kept.as_deref(), Some("yes"));
    });
}
