//! `status`: where each member stands.

use std::collections::BTreeMap;
use std::io::{self, Write};

use jangada_server::proto::etcdserverpb::maintenance_client::MaintenanceClient;
use jangada_server::proto::etcdserverpb::{StatusRequest, StatusResponse};
use serde_json::{Value, json};

use super::member;
use crate::arguments::{self, Format, Status};
use crate::client::Client;
use crate::failure::Failure;
use crate::output;

const HEADING: &[&str] = &[
    "endpoint", "member", "name", "version", "size", "role", "term", "index", "applied", "leader",
    "errors",
];

/// Asks each member and prints a row for each, those that do not answer included.
pub(crate) fn run(options: &arguments::Client, status: &Status) -> Result<(), Failure> {
    let client = Client::new(options);
    let (rows, names) = Client::block_on(gather(&client, status.cluster))?;
    match options.output.unwrap_or(Format::Table) {
        Format::Table => {
            let rows: Vec<_> = rows.iter().map(|answer| row(answer, &names)).collect();
            output::print_table(HEADING, &rows)?;
        }
        Format::Simple => {
            let mut out = io::stdout().lock();
            for answer in &rows {
                writeln!(out, "{}", row(answer, &names).join(", "))?;
            }
        }
        Format::Json => {
            let rows: Vec<_> = rows.iter().map(|answer| row_json(answer, &names)).collect();
            output::print_json(&Value::Array(rows))?;
        }
    }
    let silent = rows.iter().filter(|(_, answer)| answer.is_err()).count();
    if silent == 0 {
        return Ok(());
    }
    Err(Failure::Failed(format!("{silent} of {} members did not answer", rows.len())))
}

type Answer = (String, Result<StatusResponse, String>);
type Names = BTreeMap<u64, String>;

/// The answers in the order of the endpoints, and the members' names by id.
async fn gather(client: &Client, cluster: bool) -> Result<(Vec<Answer>, Names), Failure> {
    let listed = member::list(client).await;
    let mut endpoints = client.endpoints().to_vec();
    if cluster {
        let members = &listed.as_ref().map_err(|f| Failure::Failed(f.to_string()))?.members;
        endpoints = members.iter().flat_map(|member| member.client_ur_ls.clone()).collect();
    }
    let mut answers = Vec::new();
    for endpoint in endpoints {
        let answer = client
            .ask(&endpoint, async |channel| {
                Ok(MaintenanceClient::new(channel).status(StatusRequest {}).await?.into_inner())
            })
            .await;
        answers.push((endpoint, answer));
    }
    // Without a leader there is no list, and a status without names is still worth printing.
    let members = listed.map(|listed| listed.members).unwrap_or_default();
    let names = members.into_iter().map(|member| (member.id, member.name)).collect();
    Ok((answers, names))
}

fn member_of(status: &StatusResponse) -> u64 {
    status.header.map_or(0, |header| header.member_id)
}

fn role(status: &StatusResponse) -> &'static str {
    if status.is_learner {
        "learner"
    } else if status.leader == 0 {
        "no leader"
    } else if status.leader == member_of(status) {
        "leader"
    } else {
        "follower"
    }
}

fn row((endpoint, answer): &Answer, names: &Names) -> Vec<String> {
    let status = match answer {
        Ok(status) => status,
        Err(problem) => {
            let mut row = vec![String::new(); HEADING.len()];
            row[0].clone_from(endpoint);
            row[HEADING.len() - 1].clone_from(problem);
            return row;
        }
    };
    let name = |id: u64| match names.get(&id) {
        Some(name) => name.clone(),
        None if id == 0 => "none".to_owned(),
        None => format!("{id:x}"),
    };
    let member = member_of(status);
    vec![
        endpoint.clone(),
        format!("{member:x}"),
        names.get(&member).cloned().unwrap_or_default(),
        status.version.clone(),
        output::bytes_text(status.db_size.unsigned_abs()),
        role(status).to_owned(),
        status.raft_term.to_string(),
        status.raft_index.to_string(),
        status.raft_applied_index.to_string(),
        name(status.leader),
        status.errors.join(", "),
    ]
}

fn row_json((endpoint, answer): &Answer, names: &Names) -> Value {
    let status = match answer {
        Ok(status) => status,
        Err(problem) => return json!({"Endpoint": endpoint, "Error": problem}),
    };
    json!({
        "Endpoint": endpoint,
        "Name": names.get(&member_of(status)),
        "Role": role(status),
        "Status": {
            "header": output::header_json(status.header),
            "version": status.version,
            "dbSize": status.db_size,
            "dbSizeInUse": status.db_size_in_use,
            "dbSizeQuota": status.db_size_quota,
            "leader": status.leader,
            "raftIndex": status.raft_index,
            "raftTerm": status.raft_term,
            "raftAppliedIndex": status.raft_applied_index,
            "isLearner": status.is_learner,
            "storageVersion": status.storage_version,
            "errors": status.errors,
        },
    })
}
