//! `move-leader`: who leads.

use std::io::{self, Write};

use jangada_server::proto::etcdserverpb::maintenance_client::MaintenanceClient;
use jangada_server::proto::etcdserverpb::{MoveLeaderRequest, StatusRequest};
use serde_json::json;

use super::{advice, member};
use crate::arguments::{self, Format, MemberId};
use crate::client::Client;
use crate::failure::Failure;
use crate::output;

/// Has the leader, wherever it is, hand over to another member.
pub(crate) fn run(options: &arguments::Client, to: &MemberId) -> Result<(), Failure> {
    let client = Client::new(options);
    let from = Client::block_on(hand_over(&client, to.id)).map_err(advice::given)?;
    match options.output.unwrap_or(Format::Simple) {
        Format::Json => {
            output::print_json(
                &json!({"from": format!("{from:x}"), "to": format!("{:x}", to.id)}),
            )?;
        }
        Format::Simple | Format::Table => {
            let mut out = io::stdout().lock();
            writeln!(out, "Leadership transferred from {from:x} to {:x}", to.id)?;
        }
    }
    Ok(())
}

/// Only the leader can be asked. It is looked for among the endpoints, then among the members that
/// these know. Answers who led.
async fn hand_over(client: &Client, to: u64) -> Result<u64, Failure> {
    let mut leader = leader_among(client, client.endpoints()).await;
    if leader.is_err() {
        let members = member::list(client).await?.members;
        let urls: Vec<String> =
            members.into_iter().flat_map(|member| member.client_ur_ls).collect();
        leader = leader_among(client, &urls).await;
    }
    let (leader, from) = leader.map_err(Failure::Failed)?;
    let request = MoveLeaderRequest { target_id: to };
    let asked = client.ask(&leader, async |channel| {
        Ok(MaintenanceClient::new(channel).move_leader(request).await?.into_inner())
    });
    asked.await.map_err(Failure::Failed)?;
    Ok(from)
}

/// The endpoint and the id of the member that leads, or why none of these is known to.
async fn leader_among(client: &Client, endpoints: &[String]) -> Result<(String, u64), String> {
    let mut problem = "none of the members leads; wait for an election, or name more of them with \
                       --endpoints"
        .to_owned();
    for endpoint in endpoints {
        let status = client.ask(endpoint, async |channel| {
            Ok(MaintenanceClient::new(channel).status(StatusRequest {}).await?.into_inner())
        });
        match status.await {
            Ok(status) => {
                let own = status.header.map_or(0, |header| header.member_id);
                if own != 0 && own == status.leader {
                    return Ok((endpoint.clone(), own));
                }
            }
            Err(error) => problem = format!("{endpoint}: {error}"),
        }
    }
    Err(problem)
}
