//! The same random requests about leases to a real etcd and to Jangada.

use fastrand::Rng;
use jangada_server::proto::etcdserverpb as pb;
use pb::lease_client::LeaseClient;
use pb::{
    DeleteRangeRequest, LeaseGrantRequest, LeaseLeasesRequest, LeaseRevokeRequest,
    LeaseTimeToLiveRequest, PutRequest, RangeRequest,
};
use tonic::transport::Channel;
use tonic::{Response, Status};

use super::support::client::Client;
use super::support::cluster::{Cluster, Plan, Program};
use super::support::{foreign, run};
use super::{LIMIT, leases, renew};

/// How many requests each reference and Jangada are asked.
const REQUESTS: usize = 1_500;

/// One request.
#[derive(Clone, Debug)]
enum Request {
    Grant { id: i64, ttl: i64 },
    Revoke { id: i64 },
    KeepAlive { id: i64 },
    TimeToLive { id: i64, keys: bool },
    List,
    Put { key: u8, lease: i64, ignore_lease: bool },
    Delete { key: u8, all: bool },
    Range,
}

fn next(rng: &mut Rng) -> Request {
    // Few ids, so that requests meet.
    let id = match rng.u32(0..12) {
        0 => 0,
        1 => -7,
        2 => i64::MAX,
        _ => rng.i64(1..6),
    };
    match rng.u32(0..100) {
        0..20 => {
            let ttl = match rng.u32(0..10) {
                0 => 9_000_000_000,
                1 => 9_000_000_001,
                2 => i64::MAX,
                // Raised to the least, which would soon be over: the longer ones are compared.
                _ => rng.i64(1_000..2_000),
            };
            // etcd chooses another id than we do.
            Request::Grant { id: if id == 0 { 9 } else { id }, ttl }
        }
        20..30 => Request::Revoke { id },
        30..40 => Request::KeepAlive { id },
        40..55 => Request::TimeToLive { id, keys: rng.bool() },
        55..60 => Request::List,
        60..85 => {
            let ignore_lease = rng.u32(0..6) == 0;
            let lease = if ignore_lease { 0 } else { id };
            Request::Put { key: rng.u8(b'a'..b'f'), lease, ignore_lease }
        }
        85..92 => Request::Delete { key: rng.u8(b'a'..b'f'), all: rng.u32(0..4) == 0 },
        _ => Request::Range,
    }
}

/// Whom both are asked through.
struct Asked {
    leases: LeaseClient<Channel>,
    kv: Client,
}

fn refused(status: &Status) -> String {
    format!("{:?} {}", status.code(), status.message())
}

fn revision(header: Option<pb::ResponseHeader>) -> i64 {
    header.expect("there is a header").revision
}

impl Asked {
    fn new(cluster: &Cluster, member: usize) -> Asked {
        Asked { leases: leases(cluster, member), kv: cluster.client(member) }
    }

    /// The answer without what is a cluster's own, and without what only time decides.
    async fn ask(&mut self, request: &Request) -> String {
        self.answer(request).await.unwrap_or_else(|status| refused(&status))
    }

    async fn answer(&mut self, request: &Request) -> Result<String, Status> {
        let Asked { leases, kv } = self;
        Ok(match request.clone() {
            Request::Grant { id, ttl } => {
                let granted = leases.lease_grant(LeaseGrantRequest { id, ttl }).await?;
                let granted = granted.into_inner();
                format!("{} {} {}", revision(granted.header), granted.id, granted.ttl)
            }
            Request::Revoke { id } => {
                let revoked = leases.lease_revoke(LeaseRevokeRequest { id }).await?;
                format!("{}", revision(revoked.into_inner().header))
            }
            Request::KeepAlive { id } => renew(leases, id).await?.to_string(),
            Request::TimeToLive { id, keys } => {
                let request = LeaseTimeToLiveRequest { id, keys };
                let told = leases.lease_time_to_live(request).await?.into_inner();
                let mut keys = told.keys;
                // etcd tells them in any order.
                keys.sort();
                let is_there = 0 <= told.ttl;
                format!("{} {is_there} {} {keys:?}", told.id, told.granted_ttl)
            }
            Request::List => {
                let listed: Response<_> = leases.lease_leases(LeaseLeasesRequest {}).await?;
                let mut ids: Vec<i64> =
                    listed.into_inner().leases.iter().map(|lease| lease.id).collect();
                // A named difference: etcd lists them by the time that remains.
                ids.sort_unstable();
                format!("{ids:?}")
            }
            Request::Put { key, lease, ignore_lease } => {
                let (key, value) = (vec![key].into(), "value".into());
                let put = PutRequest { key, value, lease, ignore_lease, ..PutRequest::default() };
                revision(kv.put(put).await?.header).to_string()
            }
            Request::Delete { key, all } => {
                let range_end = if all { vec![0].into() } else { Default::default() };
                let key = vec![key].into();
                let delete = DeleteRangeRequest { key, range_end, prev_kv: true };
                let answer = kv.delete_range(delete).await?;
                format!("{} {:?}", revision(answer.header), answer.prev_kvs)
            }
            Request::Range => {
                let (key, range_end) = (vec![0].into(), vec![0].into());
                let range = RangeRequest { key, range_end, ..RangeRequest::default() };
                let answer = kv.range(range).await?;
                format!("{} {:?}", revision(answer.header), answer.kvs)
            }
        })
    }
}

#[test]
fn leases_are_what_they_are_in_etcd() {
    let etcds = foreign::etcds();
    if etcds.is_empty() {
        return foreign::skip("etcd");
    }
    let seed = std::env::var("JANGADA_SEED").map_or(1, |seed| seed.parse().expect("a number"));
    run(LIMIT, async {
        for etcd in &etcds {
            let reference = Plan::new(Program::Etcd(etcd.clone()), 1).start().await;
            let cluster = Cluster::three().await;
            let mut theirs = Asked::new(&reference, 0);
            let mut ours = Asked::new(&cluster, 1);
            let mut rng = Rng::with_seed(seed);
            for position in 0..REQUESTS {
                let request = next(&mut rng);
                let (expected, found) = tokio::join!(theirs.ask(&request), ours.ask(&request));
                assert_eq!(
                    found, expected,
                    "seed {seed}, request {position} to etcd {}: {request:?}",
                    etcd.version
                );
            }
        }
    });
}
