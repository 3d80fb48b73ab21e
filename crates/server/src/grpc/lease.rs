//! The Lease service.
//!
//! Responsible for its requests and answers, in etcd's order of refusals. What a lease is, is the
//! store's business; its time is counted by the member that leads (`crate::lease`), which any other
//! asks.

use bytes::Bytes;
use jangada_kv::auth::Access;
use jangada_kv::{Answer, Command, LEASE_TTL_MAX, Lease, LeaseAnswer, LeaseCommand};
use tonic::Status;

use super::header::header;
use super::messages::Requests;
use super::streams::{Inbound, Outbound};
use super::{Received, framing, kv};
use crate::auth::Asker;
use crate::backend::Backend;
use crate::edge::Context;
use crate::errors::ApiError;
use crate::proto::etcdserverpb as pb;

/// The most renewals of one stream that are asked of the leader together.
const KEEP_ALIVES_MAX: usize = 256;

/// How often another id is tried for a client that has named none. Ids are spread over 63 bits.
const IDS_TRIED_MAX: usize = 8;

/// What the answer says of a lease that is gone.
const GONE: i64 = -1;

/// Grants a lease.
pub(crate) async fn grant<B: Backend>(
    context: &Context<B>,
    asker: Asker<'_>,
    request: Received<pb::LeaseGrantRequest>,
) -> Result<Bytes, Status> {
    let pb::LeaseGrantRequest { ttl, id } = request.message;
    let (revision, lease) = granted(context, asker, id, ttl).await?;
    framing::encode(&pb::LeaseGrantResponse {
        header: Some(header(&context.backend, revision)),
        id: lease.name.id,
        ttl: lease.ttl,
        error: String::new(),
    })
}

/// Grants a lease of this id, or of another if it is 0; answers the revision too.
pub(super) async fn granted<B: Backend>(
    context: &Context<B>,
    asker: Asker<'_>,
    id: i64,
    ttl: i64,
) -> Result<(i64, Lease), ApiError> {
    if LEASE_TTL_MAX < ttl {
        return Err(ApiError::LeaseTtlTooLarge);
    }
    let ttl = ttl.max(context.backend.lease_ttl_min());
    let mut tried = 0;
    loop {
        tried += 1;
        let own = if id == 0 { context.backend.new_lease_id() } else { id };
        let command = Command::Lease(LeaseCommand::Grant { id: own, ttl });
        kv::check_quota(context, jangada_kv::cost(&command)).await?;
        match kv::propose_for(context, asker, command).await {
            Ok((revision, Answer::Lease(LeaseAnswer::Granted(lease)))) => {
                context.metrics.leases.granted.increment();
                let seconds = u64::try_from(lease.ttl).unwrap_or_default();
                context.metrics.leases.ttl.observe(std::time::Duration::from_secs(seconds));
                return Ok((revision, lease));
            }
            Ok(other) => panic!("a grant is answered as a grant, not by {other:?}"),
            Err(ApiError::LeaseExists) if id == 0 && tried < IDS_TRIED_MAX => {}
            Err(error) => return Err(error),
        }
    }
}

/// Ends a lease, and deletes its keys.
pub(crate) async fn revoke<B: Backend>(
    context: &Context<B>,
    asker: Asker<'_>,
    request: Received<pb::LeaseRevokeRequest>,
) -> Result<Bytes, Status> {
    let command = LeaseCommand::Revoke { id: request.message.id };
    let (revision, answer) = kv::propose_for(context, asker, Command::Lease(command)).await?;
    assert!(answer == Answer::Lease(LeaseAnswer::Revoked), "the end of a lease is answered as one");
    context.metrics.leases.revoked.increment();
    framing::encode(&pb::LeaseRevokeResponse { header: Some(header(&context.backend, revision)) })
}

/// Tells how much remains of a lease, and which keys hold it.
pub(crate) async fn time_to_live<B: Backend>(
    context: &Context<B>,
    asker: Asker<'_>,
    request: Received<pb::LeaseTimeToLiveRequest>,
) -> Result<Bytes, Status> {
    let pb::LeaseTimeToLiveRequest { id, keys } = request.message;
    let backend = &context.backend;
    kv::barrier(context).await?;
    let access = if keys { Access::LeaseRead(id) } else { Access::Known };
    let judged = context.guard.judge(backend, asker, access).await?;
    let mut response =
        pb::LeaseTimeToLiveResponse { id, ttl: GONE, ..pb::LeaseTimeToLiveResponse::default() };
    let known = {
        let view = backend.store().read();
        response.header = Some(header(backend, view.revision()));
        if keys && let Some(held) = view.lease_keys(id) {
            response.keys = held.cloned().collect();
        }
        view.lease(id)
    };
    judged.still_holds(backend.store())?;
    if let Some(lease) = known {
        let remaining = backend.leases_remaining(vec![id]).await.map_err(ApiError::from)?;
        // What the leader tells may be of another lease that was granted under this id meanwhile.
        kv::barrier(context).await?;
        let now = backend.store().read().lease(id);
        let same = now.is_some_and(|now| now.name == lease.name);
        match remaining.first().copied().flatten().filter(|_| same) {
            Some(seconds) => (response.ttl, response.granted_ttl) = (seconds, lease.ttl),
            // It has ended since.
            None => response.keys.clear(),
        }
    }
    framing::encode(&response)
}

/// Lists the leases, in the order of their ids.
pub(crate) async fn leases<B: Backend>(
    context: &Context<B>,
    _: Received<pb::LeaseLeasesRequest>,
) -> Result<Bytes, Status> {
    kv::barrier(context).await?;
    let (revision, leases) = {
        let view = context.backend.store().read();
        (view.revision(), view.leases())
    };
    let leases = leases.into_iter().map(|lease| pb::LeaseStatus { id: lease.name.id });
    framing::encode(&pb::LeaseLeasesResponse {
        header: Some(header(&context.backend, revision)),
        leases: leases.collect(),
    })
}

/// Renews leases as they are named, and answers each. What has come together is asked of the leader
/// together: some clients keep thousands of leases alive on one stream.
pub(crate) async fn keep_alive<B: Backend>(
    context: Context<B>,
    mut inbound: Inbound<impl Requests>,
    outbound: Outbound,
) -> Result<(), Status> {
    while let Some(pb::LeaseKeepAliveRequest { id }) = inbound.next().await? {
        let mut ids = vec![id];
        while ids.len() < KEEP_ALIVES_MAX
            && let Some(pb::LeaseKeepAliveRequest { id }) = inbound.now().await?
        {
            ids.push(id);
        }
        let backend = &context.backend;
        // Made before the renewal, as etcd's is.
        let header = header(backend, backend.store().read().revision());
        let renewed = backend.renew_leases(ids.clone()).await.map_err(ApiError::from)?;
        for (id, ttl) in ids.into_iter().zip(renewed) {
            let ttl = ttl.unwrap_or_default();
            outbound.send(&pb::LeaseKeepAliveResponse { header: Some(header), id, ttl }).await?;
        }
    }
    Ok(())
}
