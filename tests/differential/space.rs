//! The same random requests while space is short: to clusters with the alarm NOSPACE raised, and to
//! clusters whose quota is used up from the beginning.
//!
//! Compared are whole answers, to requests of all kinds: reads and transactions with every option,
//! deletions and compactions, which pass, and writes and leases, which do not.

use fastrand::Rng;
use jangada_server::proto::etcdserverpb as pb;
use pb::lease_client::LeaseClient;
use tonic::codegen::tokio_stream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::answers::{Answer, ask};
use super::generator::{Generator, Request};
use super::support::client::Client;
use super::support::cluster::Cluster;
use super::{shorten, table};

/// Requests before the alarm, while it is raised, and after it.
const PHASES: [usize; 3] = [300, 500, 200];

/// Requests to clusters that never had space.
const WITHOUT_SPACE: usize = 250;

/// How a write is refused.
const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";

/// The member that is said to be out of space: none that could end the alarm by itself.
const MEMBER: u64 = 7;

/// One cluster, as it is asked.
struct Side {
    kv: Client,
    leases: LeaseClient<Channel>,
}

/// A request about leases.
#[derive(Clone, Copy, Debug)]
enum Lease {
    Grant(i64),
    Revoke(i64),
    KeepAlive(i64),
    TimeToLive(i64),
    List,
}

fn lease(rng: &mut Rng) -> Lease {
    let id = rng.i64(1..4);
    match rng.u8(0..6) {
        0..=1 => Lease::Grant(id),
        2 => Lease::Revoke(id),
        3 => Lease::KeepAlive(id),
        4 => Lease::TimeToLive(id),
        _ => Lease::List,
    }
}

impl Side {
    fn of(cluster: &Cluster) -> Side {
        let url = cluster.members[0].client_url.clone();
        let endpoint = Endpoint::from_shared(url).expect("a URL that this test made");
        Side { kv: cluster.client(0), leases: LeaseClient::new(endpoint.connect_lazy()) }
    }

    async fn alarms(&mut self, action: pb::alarm_request::AlarmAction) -> String {
        let (action, alarm) = (action.into(), pb::AlarmType::Nospace.into());
        let request = pb::AlarmRequest { action, member_id: MEMBER, alarm };
        let shown = |answer: pb::AlarmResponse| format!("{:?}", answer.alarms);
        self.kv.alarm(request).await.map_or_else(|status| refused(&status), shown)
    }

    async fn lease(&mut self, request: Lease) -> String {
        let answer: Result<String, Status> = async {
            let leases = &mut self.leases;
            Ok(match request {
                Lease::Grant(id) => {
                    let granted =
                        leases.lease_grant(pb::LeaseGrantRequest { id, ttl: 1000 }).await?;
                    granted.into_inner().ttl.to_string()
                }
                Lease::Revoke(id) => {
                    leases.lease_revoke(pb::LeaseRevokeRequest { id }).await?;
                    "revoked".to_owned()
                }
                Lease::KeepAlive(id) => {
                    let requests = tokio_stream::iter([pb::LeaseKeepAliveRequest { id }]);
                    let mut answers = leases.lease_keep_alive(requests).await?.into_inner();
                    format!("{:?}", answers.message().await?.map(|answer| answer.ttl))
                }
                Lease::TimeToLive(id) => {
                    let request = pb::LeaseTimeToLiveRequest { id, keys: true };
                    let told = leases.lease_time_to_live(request).await?.into_inner();
                    format!("{} {}", told.granted_ttl, 0 <= told.ttl)
                }
                Lease::List => {
                    let listed = leases.lease_leases(pb::LeaseLeasesRequest {}).await?.into_inner();
                    let mut ids: Vec<i64> = listed.leases.iter().map(|lease| lease.id).collect();
                    // A named difference: etcd lists them by the time that remains.
                    ids.sort_unstable();
                    format!("{ids:?}")
                }
            })
        }
        .await;
        answer.unwrap_or_else(|status| refused(&status))
    }
}

fn refused(status: &Status) -> String {
    format!("refused: {:?} {}", status.code(), status.message())
}

/// Whether a request writes inside a nested transaction: etcd does not count that as a write, and lets it
/// through while there is no space, after which the two stores would differ.
fn hides_a_put(request: &Request) -> bool {
    fn hides(txn: &pb::TxnRequest, depth: usize) -> bool {
        txn.success.iter().chain(&txn.failure).any(|operation| match &operation.request {
            Some(pb::request_op::Request::RequestPut(_)) => 0 < depth,
            Some(pb::request_op::Request::RequestTxn(txn)) => hides(txn, depth + 1),
            _ => false,
        })
    }
    matches!(request, Request::Txn(txn) if hides(txn, 0))
}

/// etcd looks at the quota before it looks at anything else of a request; we say what is wrong with one
/// that could never be carried out.
fn looks_at_the_quota_first(etcd: &Answer, ours: &Answer) -> bool {
    let bad = matches!(ours, Answer::Refused(code, _) if *code == Code::InvalidArgument as i32);
    bad && etcd.is_refused_with(NO_SPACE)
}

/// etcd 3.5.1 lets no transaction through once the quota is used up, not even one that adds nothing.
/// There is nothing to be deleted then, so the two stores stay alike.
fn refuses_every_transaction(version: &str, request: &Request, etcd: &Answer) -> bool {
    version == "3.5.1" && matches!(request, Request::Txn(_)) && etcd.is_refused_with(NO_SPACE)
}

/// Both, with what was seen.
struct Compared<'a> {
    version: &'a str,
    theirs: Side,
    ours: Side,
    generator: Generator,
    rng: Rng,
    /// Writes that were refused for want of space.
    without_space: usize,
    /// Answers to requests that need none.
    answered: usize,
}

impl Compared<'_> {
    async fn requests(&mut self, count: usize, phase: &str) {
        for position in 0..count {
            let at = format!("{phase}, request {position}, etcd {}", self.version);
            if self.rng.u8(0..8) == 0 {
                let request = lease(&mut self.rng);
                let Compared { theirs, ours, .. } = self;
                let (expected, found) = tokio::join!(theirs.lease(request), ours.lease(request));
                assert_eq!(found, expected, "{at}: {request:?}");
                continue;
            }
            let request = self.generator.next();
            if !table::is_deadly(self.version, &request) && !hides_a_put(&request) {
                self.request(&request, &at).await;
            }
        }
    }

    async fn request(&mut self, request: &Request, at: &str) {
        let Compared { version, theirs, ours, generator, .. } = self;
        let (expected, found) =
            tokio::join!(ask(&mut theirs.kv, request), ask(&mut ours.kv, request));
        if let Some(revision) = expected.revision() {
            generator.revision = generator.revision.max(revision);
            if let Request::Compact(request) = request {
                generator.compacted = generator.compacted.max(request.revision);
            }
        }
        let known = table::DIFFERENCES
            .iter()
            .any(|known| (known.explains)(version, request, &expected, &found))
            || looks_at_the_quota_first(&expected, &found)
            || refuses_every_transaction(version, request, &expected);
        assert!(
            expected == found || known,
            "{at}: {}\netcd answers: {}\nJangada answers: {}",
            shorten(request),
            shorten(&expected),
            shorten(&found)
        );
        match found {
            Answer::Refused(..) => {
                let no_space = found.is_refused_with(NO_SPACE);
                self.without_space += usize::from(no_space);
            }
            _ => self.answered += 1,
        }
    }

    async fn alarms(&mut self, action: pb::alarm_request::AlarmAction) {
        let Compared { theirs, ours, .. } = self;
        let (expected, found) = tokio::join!(theirs.alarms(action), ours.alarms(action));
        assert_eq!(found, expected, "{action:?}");
    }
}

fn compared<'a>(seed: u64, version: &'a str, theirs: &Cluster, ours: &Cluster) -> Compared<'a> {
    let (theirs, ours) = (Side::of(theirs), Side::of(ours));
    let (generator, rng) = (Generator::new(seed), Rng::with_seed(seed));
    Compared { version, theirs, ours, generator, rng, without_space: 0, answered: 0 }
}

/// Raises the alarm in between.
pub(crate) async fn compare_under_alarm(
    seed: u64,
    version: &str,
    theirs: &Cluster,
    ours: &Cluster,
) {
    use pb::alarm_request::AlarmAction::{Activate, Deactivate, Get};
    let mut both = compared(seed, version, theirs, ours);
    let [before, meanwhile, after] = PHASES;
    both.requests(before, "before the alarm").await;
    assert_eq!(both.without_space, 0, "there is space");
    both.alarms(Activate).await;
    both.alarms(Get).await;
    both.answered = 0;
    both.requests(meanwhile, "under the alarm").await;
    println!(
        "etcd {version}: under the alarm {} answers and {} refusals for want of space",
        both.answered, both.without_space
    );
    assert!(50 <= both.without_space && 50 <= both.answered, "seed {seed} does too little");
    both.alarms(Deactivate).await;
    both.without_space = 0;
    both.requests(after, "after the alarm").await;
    assert_eq!(both.without_space, 0, "there is space again");
}

/// Asks clusters whose quota is used up from the beginning.
pub(crate) async fn compare_without_space(
    seed: u64,
    version: &str,
    theirs: &Cluster,
    ours: &Cluster,
) {
    let mut both = compared(seed, version, theirs, ours);
    both.requests(WITHOUT_SPACE, "without space").await;
    println!(
        "etcd {version}: without space {} answers and {} refusals for want of it",
        both.answered, both.without_space
    );
    assert!(30 <= both.without_space && 30 <= both.answered, "seed {seed} does too little");
}
