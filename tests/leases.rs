//! Leases, locks and elections among real processes: whoever leads, whoever is asked.
//!
//! A lease that is kept alive outlives its leader; one that is not ends, and its keys with it, and never
//! before its time. The same random requests go to a real etcd and to Jangada, and etcdctl and
//! `jangada` are run. No test asserts how late a lease ends.

mod support;

#[path = "leases/differential.rs"]
mod differential;
#[path = "leases/programs.rs"]
mod programs;

use std::time::{Duration, Instant};

use jangada_server::proto::etcdserverpb as pb;
use pb::lease_client::LeaseClient;
use pb::{LeaseGrantRequest, LeaseKeepAliveRequest, LeaseTimeToLiveRequest, PutRequest};
use support::cluster::Cluster;
use support::{run, until};
use tonic::Status;
use tonic::codegen::tokio_stream;
use tonic::transport::{Channel, Endpoint};

/// The seconds of the lease that is kept alive: longer than this machine stands still.
const KEPT: i64 = 8;

/// The seconds of the lease that nobody keeps alive.
const LEFT: i64 = 3;

/// The hang guard.
const LIMIT: Duration = Duration::from_secs(240);

/// A client of one member's leases.
pub(crate) fn leases(cluster: &Cluster, member: usize) -> LeaseClient<Channel> {
    LeaseClient::new(channel(cluster, member))
}

pub(crate) fn channel(cluster: &Cluster, member: usize) -> Channel {
    let url = cluster.members[member].client_url.clone();
    let endpoint = Endpoint::from_shared(url).expect("a URL that this test made");
    endpoint.connect_timeout(Duration::from_secs(2)).timeout(LIMIT).connect_lazy()
}

/// Renews a lease once; the seconds that it is counted from.
pub(crate) async fn renew(client: &mut LeaseClient<Channel>, id: i64) -> Result<i64, Status> {
    let requests = tokio_stream::iter([LeaseKeepAliveRequest { id }]);
    let mut answers = client.lease_keep_alive(requests).await?.into_inner();
    let answer = answers.message().await?;
    Ok(answer.ok_or_else(|| Status::unavailable("the stream has ended"))?.ttl)
}

async fn grant(cluster: &Cluster, member: usize, id: i64, ttl: i64) {
    until(async || {
        match leases(cluster, member).lease_grant(LeaseGrantRequest { id, ttl }).await {
            Ok(_) => Some(()),
            // An answer was lost.
            Err(status) if status.message().contains("already exists") => Some(()),
            Err(_) => None,
        }
    })
    .await;
}

async fn put(cluster: &Cluster, member: usize, key: &str, lease: i64) {
    let request = PutRequest { key: key.to_owned().into(), lease, ..PutRequest::default() };
    until(async || cluster.client(member).put(request.clone()).await.ok()).await;
}

/// Whether a key is there, by a linearizable read of a member that answers.
async fn exists(cluster: &Cluster, member: usize, key: &str) -> bool {
    until(async || cluster.client(member).get_key(key).await.ok()).await.is_some()
}

#[test]
fn a_lease_lives_while_it_is_kept_alive_through_the_death_of_its_leader() {
    run(LIMIT, async {
        let mut cluster = Cluster::three().await;
        let leader = cluster.leader().await;
        let [kept_by, other] = [(leader + 1) % 3, (leader + 2) % 3];
        grant(&cluster, kept_by, 1, KEPT).await;
        grant(&cluster, other, 2, LEFT).await;
        put(&cluster, kept_by, "kept", 1).await;
        put(&cluster, other, "left", 2).await;
        // Renewed once, by a member that follows: it is there until its time is over, since then.
        let renewed = Instant::now();
        let seconds = until(async || renew(&mut leases(&cluster, other), 2).await.ok()).await;
        assert_eq!(seconds, LEFT);

        let mut client = leases(&cluster, kept_by);
        let (mut killed, mut left_is_gone) = (false, false);
        let begin = Instant::now();
        // Until the lease that is left is gone, and the other has outlived its time.
        while !left_is_gone || begin.elapsed() < Duration::from_secs(KEPT as u64 + 1) {
            let seconds = until(async || renew(&mut client, 1).await.ok()).await;
            assert_eq!(seconds, KEPT, "the lease that is kept alive is gone");
            if !killed && Duration::from_secs(1) < renewed.elapsed() {
                cluster.kill(leader).await;
                killed = true;
            }
            if !left_is_gone && !exists(&cluster, other, "left").await {
                left_is_gone = true;
                let lived = renewed.elapsed();
                assert!(Duration::from_secs(LEFT as u64) <= lived, "it went after {lived:?}");
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert!(killed && exists(&cluster, other, "kept").await);
        let gone = LeaseTimeToLiveRequest { id: 2, keys: true };
        let told =
            until(async || leases(&cluster, other).lease_time_to_live(gone).await.ok()).await;
        assert_eq!(told.into_inner().ttl, -1);
        assert_eq!(until(async || renew(&mut client, 2).await.ok()).await, 0);

        // A member that was away has the same leases, from its engine and from the log.
        cluster.start(leader);
        cluster.ready(leader).await;
        let asked = LeaseTimeToLiveRequest { id: 1, keys: true };
        let told = until(async || {
            renew(&mut client, 1).await.ok()?;
            let answer = leases(&cluster, leader).lease_time_to_live(asked).await;
            answer.ok().map(tonic::Response::into_inner)
        })
        .await;
        assert_eq!((told.granted_ttl, told.keys.len()), (KEPT, 1));
    });
}

#[test]
fn very_many_leases_end_together_while_others_write() {
    run(LIMIT, async {
        let cluster = Cluster::three().await;
        let leader = cluster.leader().await;
        const LEASES: i64 = 3_000;
        const AT_ONCE: usize = 64;
        let ids: Vec<i64> = (1..=LEASES).collect();
        let granted = ids.chunks(ids.len().div_ceil(AT_ONCE)).map(|part| {
            let (mut client, part) = (leases(&cluster, leader), part.to_vec());
            let mut kv = cluster.client(leader);
            async move {
                for id in part {
                    let granted = client.lease_grant(LeaseGrantRequest { id, ttl: 10 }).await;
                    granted.expect("a healthy cluster");
                    let key = format!("leased/{id}").into();
                    let put = PutRequest { key, lease: id, ..PutRequest::default() };
                    kv.put(put).await.expect("the lease exists");
                }
            }
        });
        let tasks: Vec<_> = granted.map(tokio::spawn).collect();
        for task in tasks {
            task.await.expect("it does not panic");
        }
        let all = pb::RangeRequest {
            key: "leased/".into(),
            range_end: "leased0".into(),
            count_only: true,
            ..pb::RangeRequest::default()
        };
        let follower = (leader + 1) % 3;
        let (mut reader, mut writer) = (cluster.client(follower), cluster.client(follower));
        let mut written = 0;
        while 0 < reader.range(all.clone()).await.expect("a healthy cluster").count {
            writer.put_key("beside", &written.to_string()).await.expect("a healthy cluster");
            written += 1;
        }
        let listed = leases(&cluster, leader).lease_leases(pb::LeaseLeasesRequest {}).await;
        assert!(listed.expect("a healthy cluster").into_inner().leases.is_empty());
    });
}
