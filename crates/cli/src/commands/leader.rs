//! `move-leader`: who leads.

use std::io::{self, Write};

use jangada_bench::status;
use jangada_server::proto::etcdserverpb::MoveLeaderRequest;
use jangada_server::proto::etcdserverpb::maintenance_client::MaintenanceClient;
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
    let mut leader = status::leader(client.endpoints()).await;
    if leader.is_err() {
        let members = member::list(client).await?.members;
        let urls: Vec<String> =
            members.into_iter().flat_map(|member| member.client_ur_ls).collect();
        leader = status::leader(&urls).await;
    }
    let leader = leader?;
    let from = status::standing(&leader).await?.member_id;
    let request = MoveLeaderRequest { target_id: to };
    let asked = client.ask(&leader, async |channel| {
        Ok(MaintenanceClient::new(channel).move_leader(request).await?.into_inner())
    });
    asked.await.map_err(Failure::Failed)?;
    Ok(from)
}
