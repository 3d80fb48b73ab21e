//! `member list`.

use std::io::{self, Write};

use jangada_server::proto::etcdserverpb::cluster_client::ClusterClient;
use jangada_server::proto::etcdserverpb::{Member, MemberListRequest, MemberListResponse};
use serde_json::{Value, json};

use crate::arguments::{self, Format, MemberCommand};
use crate::client::Client;
use crate::failure::Failure;
use crate::output;

/// Prints the members as the cluster names them.
pub(crate) fn run(options: &arguments::Client, member: &arguments::Member) -> Result<(), Failure> {
    match member.command {
        MemberCommand::List => {}
    }
    let response = Client::block_on(list(&Client::new(options)))?;
    match options.output.unwrap_or(Format::Simple) {
        Format::Simple => {
            let mut out = io::stdout().lock();
            for member in &response.members {
                writeln!(out, "{}", row(member).join(", "))?;
            }
        }
        Format::Table => {
            let rows: Vec<_> = response.members.iter().map(row).collect();
            let heading = ["id", "status", "name", "peer urls", "client urls", "learner"];
            output::print_table(&heading, &rows)?;
        }
        Format::Json => output::print_json(&list_json(&response))?,
    }
    Ok(())
}

/// Asks for the members.
pub(crate) async fn list(client: &Client) -> Result<MemberListResponse, Failure> {
    client
        .read(async |channel| {
            let request = MemberListRequest { linearizable: true };
            Ok(ClusterClient::new(channel).member_list(request).await?.into_inner())
        })
        .await
}

/// A member that has not started yet has told no name.
fn row(member: &Member) -> Vec<String> {
    vec![
        format!("{:x}", member.id),
        if member.name.is_empty() { "unstarted" } else { "started" }.to_owned(),
        member.name.clone(),
        member.peer_ur_ls.join(","),
        member.client_ur_ls.join(","),
        member.is_learner.to_string(),
    ]
}

fn list_json(response: &MemberListResponse) -> Value {
    let members: Vec<Value> = response
        .members
        .iter()
        .map(|member| {
            json!({
                "ID": member.id,
                "name": member.name,
                "peerURLs": member.peer_ur_ls,
                "clientURLs": member.client_ur_ls,
                "isLearner": member.is_learner,
            })
        })
        .collect();
    json!({"header": output::header_json(response.header), "members": members})
}
