//! A client of one member, by the generated messages.

use std::time::Duration;

use jangada_server::proto::etcdserverpb::cluster_client::ClusterClient;
use jangada_server::proto::etcdserverpb::kv_client::KvClient;
use jangada_server::proto::etcdserverpb::maintenance_client::MaintenanceClient;
use jangada_server::proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, CompactionRequest, CompactionResponse, DeleteRangeRequest,
    DeleteRangeResponse, HashKvRequest, HashKvResponse, MemberAddRequest, MemberAddResponse,
    MemberListRequest, MemberListResponse, MemberPromoteRequest, MemberRemoveRequest,
    MemberUpdateRequest, MoveLeaderRequest, PutRequest, PutResponse, RangeRequest, RangeResponse,
    StatusRequest, StatusResponse, TxnRequest, TxnResponse,
};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

/// Above the server's own limit of a request's time (7 s), so that its answer is seen.
const REQUEST_LIMIT: Duration = Duration::from_secs(15);

/// Answers of a whole store are larger than the default of 4 MiB.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// A client of one member. It connects again by itself when the member comes back.
#[derive(Clone)]
pub(crate) struct Client {
    kv: KvClient<Channel>,
    maintenance: MaintenanceClient<Channel>,
    cluster: ClusterClient<Channel>,
}

impl Client {
    /// A client of the member at `url`; connects with the first request.
    pub(crate) fn new(url: &str) -> Client {
        let channel = Endpoint::from_shared(url.to_owned())
            .expect("a URL that this test made")
            .connect_timeout(Duration::from_secs(2))
            .timeout(REQUEST_LIMIT)
            .connect_lazy();
        Client {
            kv: KvClient::new(channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX),
            maintenance: MaintenanceClient::new(channel.clone()),
            cluster: ClusterClient::new(channel),
        }
    }

    pub(crate) async fn range(&mut self, request: RangeRequest) -> Result<RangeResponse, Status> {
        Ok(self.kv.range(request).await?.into_inner())
    }

    pub(crate) async fn put(&mut self, request: PutRequest) -> Result<PutResponse, Status> {
        Ok(self.kv.put(request).await?.into_inner())
    }

    pub(crate) async fn delete_range(
        &mut self,
        request: DeleteRangeRequest,
    ) -> Result<DeleteRangeResponse, Status> {
        Ok(self.kv.delete_range(request).await?.into_inner())
    }

    pub(crate) async fn txn(&mut self, request: TxnRequest) -> Result<TxnResponse, Status> {
        Ok(self.kv.txn(request).await?.into_inner())
    }

    pub(crate) async fn compact(
        &mut self,
        request: CompactionRequest,
    ) -> Result<CompactionResponse, Status> {
        Ok(self.kv.compact(request).await?.into_inner())
    }

    pub(crate) async fn status(&mut self) -> Result<StatusResponse, Status> {
        Ok(self.maintenance.status(StatusRequest {}).await?.into_inner())
    }

    pub(crate) async fn member_list(&mut self) -> Result<MemberListResponse, Status> {
        let request = MemberListRequest { linearizable: true };
        Ok(self.cluster.member_list(request).await?.into_inner())
    }

    pub(crate) async fn member_add(
        &mut self,
        peer_urls: &[String],
        is_learner: bool,
    ) -> Result<MemberAddResponse, Status> {
        let request = MemberAddRequest { peer_ur_ls: peer_urls.to_vec(), is_learner };
        Ok(self.cluster.member_add(request).await?.into_inner())
    }

    pub(crate) async fn member_remove(&mut self, id: u64) -> Result<(), Status> {
        self.cluster.member_remove(MemberRemoveRequest { id }).await.map(drop)
    }

    pub(crate) async fn member_update(
        &mut self,
        id: u64,
        peer_urls: &[String],
    ) -> Result<(), Status> {
        let request = MemberUpdateRequest { id, peer_ur_ls: peer_urls.to_vec() };
        self.cluster.member_update(request).await.map(drop)
    }

    pub(crate) async fn member_promote(&mut self, id: u64) -> Result<(), Status> {
        self.cluster.member_promote(MemberPromoteRequest { id }).await.map(drop)
    }

    pub(crate) async fn move_leader(&mut self, target_id: u64) -> Result<(), Status> {
        self.maintenance.move_leader(MoveLeaderRequest { target_id }).await.map(drop)
    }

    pub(crate) async fn alarm(&mut self, request: AlarmRequest) -> Result<AlarmResponse, Status> {
        Ok(self.maintenance.alarm(request).await?.into_inner())
    }

    pub(crate) async fn hash_kv(&mut self, revision: i64) -> Result<HashKvResponse, Status> {
        Ok(self.maintenance.hash_kv(HashKvRequest { revision }).await?.into_inner())
    }

    /// Puts one key.
    pub(crate) async fn put_key(&mut self, key: &str, value: &str) -> Result<i64, Status> {
        let request = PutRequest {
            key: key.to_owned().into(),
            value: value.to_owned().into(),
            ..PutRequest::default()
        };
        let header = self.put(request).await?.header;
        Ok(header.expect("every answer has a header").revision)
    }

    /// Reads one key's value.
    pub(crate) async fn get_key(&mut self, key: &str) -> Result<Option<String>, Status> {
        let request = RangeRequest { key: key.to_owned().into(), ..RangeRequest::default() };
        let kvs = self.range(request).await?.kvs;
        Ok(kvs.first().map(|kv| String::from_utf8_lossy(&kv.value).into_owned()))
    }
}
