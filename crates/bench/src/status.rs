//! Who is who in the cluster under test.

use std::time::Duration;

use jangada_server::proto::etcdserverpb::StatusRequest;
use jangada_server::proto::etcdserverpb::maintenance_client::MaintenanceClient;

use crate::connection::{self, Access};
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
pub async fn standing(endpoint: &str, access: &Access) -> Result<Standing, BenchError> {
    let unreachable = |problem: String| {
        let endpoint = endpoint.to_owned();
        BenchError::Unreachable { endpoint, problem }
    };
    let asking = async {
        let connection = connection::open(endpoint, access).await?;
        let origin = connection::origin(endpoint)?;
        let mut client = MaintenanceClient::with_origin(connection, origin);
        let status = client.status(StatusRequest {}).await;
        Ok(status.map_err(|status| status.message().to_owned())?.into_inner())
    };
    let asked = tokio::time::timeout(ANSWER_TIMEOUT, asking).await;
    let status = asked
        .unwrap_or_else(|_| Err(format!("no answer within {ANSWER_TIMEOUT:?}")))
        .map_err(unreachable)?;
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
pub async fn leader(endpoints: &[String], access: &Access) -> Result<String, BenchError> {
    let mut failure = None;
    let mut highest: Option<(u64, &String)> = None;
    for endpoint in endpoints {
        match standing(endpoint, access).await {
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
