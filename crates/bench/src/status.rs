//! Who is who in the cluster under test.

use std::time::Duration;

use jangada_server::proto::etcdserverpb::StatusRequest;
use jangada_server::proto::etcdserverpb::maintenance_client::MaintenanceClient;
use tonic::transport::Endpoint;

use crate::connection::authority;
use crate::error::BenchError;

/// How long a member may take to say who leads.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// What a member says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    /// Its id.
    pub member_id: u64,
    /// The leader's id as the member knows it; 0 for none.
    pub leader: u64,
    /// The member's term.
    pub term: u64,
}

/// Asks one member.
///
/// # Errors
///
/// [`BenchError::Unreachable`].
pub async fn standing(endpoint: &str) -> Result<Standing, BenchError> {
    let unreachable = |problem: String| {
        let endpoint = endpoint.to_owned();
        BenchError::Unreachable { endpoint, problem }
    };
    let authority = authority(endpoint).map_err(unreachable)?;
    let channel = Endpoint::from_shared(format!("http://{authority}"))
        .map_err(|error| unreachable(error.to_string()))?
        .connect_timeout(ANSWER_TIMEOUT)
        .timeout(ANSWER_TIMEOUT)
        .connect()
        .await
        .map_err(|error| unreachable(error.to_string()))?;
    let status = MaintenanceClient::new(channel)
        .status(StatusRequest {})
        .await
        .map_err(|status| unreachable(status.message().to_owned()))?
        .into_inner();
    Ok(Standing {
        member_id: status.header.map_or(0, |header| header.member_id),
        leader: status.leader,
        term: status.raft_term,
    })
}

/// The endpoint of the member that leads.
///
/// # Errors
///
/// [`BenchError::NoLeader`] when none of those that answer leads, or the last failure when none
/// answers.
pub async fn leader(endpoints: &[String]) -> Result<String, BenchError> {
    let mut failure = None;
    let mut highest: Option<(u64, &String)> = None;
    for endpoint in endpoints {
        match standing(endpoint).await {
            Ok(standing) if standing.member_id == standing.leader && standing.leader != 0 => {
                if highest.is_none_or(|(term, _)| term < standing.term) {
                    highest = Some((standing.term, endpoint));
                }
            }
            Ok(_) => failure = Some(BenchError::NoLeader),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    match (highest, failure) {
        (Some((_, endpoint)), _) => Ok(endpoint.clone()),
        (None, failure) => Err(failure.unwrap_or(BenchError::NoLeader)),
    }
}
