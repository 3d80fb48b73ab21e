//! The end of serving: what stays open ends with a status that sends its client elsewhere.

use jangada_server::errors::ApiError;
use jangada_server::proto::etcdserverpb as pb;
use jangada_server::proto::health::HealthCheckRequest;
use jangada_server::proto::health::health_client::HealthClient;
use jangada_server::proto::v3electionpb::election_client::ElectionClient;
use jangada_server::proto::v3electionpb::{CampaignRequest, LeaderRequest, LeaderResponse};
use jangada_server::proto::v3lockpb::LockRequest;
use jangada_server::proto::v3lockpb::lock_client::LockClient;
use pb::lease_client::LeaseClient;
use pb::maintenance_client::MaintenanceClient;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::codegen::tokio_stream;
use tonic::{Response, Status, Streaming};

use crate::support::{Server, assert_refused, bytes};
use crate::watch_support::{Watching, on};

/// Everything that stays open for long.
struct Open {
    watching: Watching,
    keeping_alive: Streaming<pb::LeaseKeepAliveResponse>,
    /// Kept, so that the client's side stays open.
    _lease_ids: mpsc::UnboundedSender<pb::LeaseKeepAliveRequest>,
    observing: Streaming<LeaderResponse>,
    waiting: JoinHandle<Result<(), Status>>,
}

/// A stream of requests as they are given.
struct Given<T>(mpsc::UnboundedReceiver<T>);

impl<T> tokio_stream::Stream for Given<T> {
    type Item = T;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<T>> {
        self.0.poll_recv(context)
    }
}

impl Open {
    async fn of(server: &Server) -> Open {
        let mut watching = Watching::open(server).await;
        watching.create(on("a")).await;
        let (lease_ids, given) = mpsc::unbounded_channel();
        lease_ids.send(pb::LeaseKeepAliveRequest { id: 1 }).expect("it is open");
        let mut leases = LeaseClient::new(server.channel().await);
        let keeping_alive = leases.lease_keep_alive(Given(given)).await.expect("it opens");
        let mut keeping_alive = keeping_alive.into_inner();
        keeping_alive.message().await.expect("it goes on").expect("it is answered");

        let name = bytes("election");
        let campaign = CampaignRequest { name: name.clone(), ..CampaignRequest::default() };
        let mut election = ElectionClient::new(server.channel().await);
        election.campaign(campaign).await.expect("nobody leads yet");
        let observing = election.observe(LeaderRequest { name }).await.expect("it opens");
        let mut observing = observing.into_inner();
        observing.message().await.expect("it goes on").expect("there is a leader");

        let lock = || LockRequest { name: bytes("lock"), lease: 0 };
        let mut locks = LockClient::new(server.channel().await);
        locks.lock(lock()).await.expect("it is free");
        let waiting = tokio::spawn(async move { locks.lock(lock()).await.map(|_| ()) });
        let range = || pb::RangeRequest {
            key: bytes("lock/"),
            range_end: bytes("lock0"),
            count_only: true,
            ..pb::RangeRequest::default()
        };
        while server.kv().await.range(range()).await.expect("it is read").into_inner().count != 2 {
            tokio::task::yield_now().await;
        }
        Open { watching, keeping_alive, _lease_ids: lease_ids, observing, waiting }
    }

    /// Everything is ended for this reason.
    async fn assert_ended(mut self, reason: ApiError) {
        assert_refused(self.watching.try_next().await.map(Response::new), reason);
        assert_refused(self.keeping_alive.message().await.map(Response::new), reason);
        assert_refused(self.observing.message().await.map(Response::new), reason);
        let waited = self.waiting.await.expect("it does not panic");
        assert_refused(waited.map(Response::new), reason);
    }
}

#[tokio::test]
async fn a_stop_ends_what_stays_open_with_a_status() {
    let mut server = Server::start().await;
    let open = Open::of(&server).await;
    let mut health = HealthClient::new(server.channel().await);
    let request = HealthCheckRequest { service: String::new() };
    let mut health = health.watch(request).await.expect("it opens").into_inner();
    health.message().await.expect("it goes on").expect("it says how it is");
    server.stop();
    open.assert_ended(ApiError::Stopped).await;
    assert_refused(health.message().await.map(Response::new), ApiError::Stopped);
    server.task.await.expect("nothing holds the server up");
}

/// A member that is quarantined may hold what is wrong: it tells nobody.
#[tokio::test]
async fn a_member_that_is_set_aside_ends_its_streams_and_opens_none() {
    let server = Server::start().await;
    let open = Open::of(&server).await;
    server.fake.script(|script| script.is_quarantined = true);
    server.serving.set_aside(true);
    open.assert_ended(ApiError::Unhealthy).await;

    let watching = Watching::with(&server, |_| {}).await.map(|_| Response::new(()));
    assert_refused(watching, ApiError::Unhealthy);
    let mut leases = LeaseClient::new(server.channel().await);
    let requests = tokio_stream::iter([pb::LeaseKeepAliveRequest { id: 1 }]);
    assert_refused(leases.lease_keep_alive(requests).await, ApiError::Unhealthy);
    let mut maintenance = MaintenanceClient::new(server.channel().await);
    assert_refused(maintenance.snapshot(pb::SnapshotRequest {}).await, ApiError::Unhealthy);
    let request = pb::RangeRequest { key: bytes("a"), serializable: true, ..Default::default() };
    assert_refused(server.kv().await.range(request.clone()).await, ApiError::Corrupt);
    // Who looks after it sees it.
    maintenance.status(pb::StatusRequest {}).await.expect("it is answered");

    // Once it is whole again it serves.
    server.fake.script(|script| script.is_quarantined = false);
    server.serving.set_aside(false);
    server.kv().await.range(request).await.expect("it is served");
    Watching::open(&server).await.create(on("a")).await;
}
