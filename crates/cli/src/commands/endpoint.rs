//! `endpoint` and `defrag`: what is asked of each endpoint by itself.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use jangada_server::proto::etcdserverpb as pb;
use pb::kv_client::KvClient;
use pb::maintenance_client::MaintenanceClient;
use serde_json::{Value, json};
use tonic::Code;

use super::{member, status};
use crate::arguments::{self, Defrag, Endpoint, EndpointCommand, Format, Status};
use crate::client::Client;
use crate::failure::Failure;
use crate::output;

/// Runs one of the commands of `endpoint`.
pub(crate) fn run(options: &arguments::Client, endpoint: &Endpoint) -> Result<(), Failure> {
    let cluster = endpoint.cluster;
    match endpoint.command {
        EndpointCommand::Health => health(options, cluster),
        EndpointCommand::Status => status::run(options, &Status { cluster }),
        EndpointCommand::Hashkv { rev } => hashkv(options, cluster, rev),
    }
}

/// The endpoints that are named, or those of all members.
async fn endpoints(client: &Client, cluster: bool) -> Result<Vec<String>, Failure> {
    if !cluster {
        return Ok(client.endpoints().to_vec());
    }
    let members = member::list(client).await?.members;
    Ok(members.into_iter().flat_map(|member| member.client_ur_ls).collect())
}

/// Fails if one of the answers is none.
fn all_answered<T>(answers: &[(String, Result<T, String>)], what: &str) -> Result<(), Failure> {
    let failed = answers.iter().filter(|(_, answer)| answer.is_err()).count();
    if failed == 0 {
        return Ok(());
    }
    Err(Failure::Failed(format!("{failed} of {} endpoints {what}", answers.len())))
}

fn health(options: &arguments::Client, cluster: bool) -> Result<(), Failure> {
    let client = Client::new(options);
    let answers = Client::block_on(async {
        let mut answers: Vec<(String, Result<Duration, String>)> = Vec::new();
        for endpoint in endpoints(&client, cluster).await? {
            let answer = judge_health(&client, &endpoint).await;
            answers.push((endpoint, answer));
        }
        Ok::<_, Failure>(answers)
    })?;
    let row = |(endpoint, answer): &(String, Result<Duration, String>)| match answer {
        Ok(took) => vec![endpoint.clone(), "true".to_owned(), format!("{took:?}"), String::new()],
        Err(error) => vec![endpoint.clone(), "false".to_owned(), String::new(), error.clone()],
    };
    match options.output.unwrap_or(Format::Simple) {
        Format::Simple => {
            let mut out = io::stdout().lock();
            for (endpoint, answer) in &answers {
                match answer {
                    Ok(took) => writeln!(out, "{endpoint} is healthy: took {took:?}")?,
                    Err(error) => writeln!(out, "{endpoint} is unhealthy: {error}")?,
                }
            }
        }
        Format::Table => {
            let rows: Vec<_> = answers.iter().map(row).collect();
            output::print_table(&["endpoint", "health", "took", "error"], &rows)?;
        }
        Format::Json => {
            let answer = |(endpoint, answer): &(String, Result<Duration, String>)| match answer {
                Ok(took) => {
                    json!({"endpoint": endpoint, "health": true, "took": format!("{took:?}")})
                }
                Err(error) => json!({"endpoint": endpoint, "health": false, "error": error}),
            };
            output::print_json(&answers.iter().map(answer).collect::<Value>())?;
        }
    }
    all_answered(&answers, "are unhealthy")
}

/// How long a linearizable read takes; whoever may not read has been answered as well. An endpoint with
/// an alarm is unhealthy.
async fn judge_health(client: &Client, endpoint: &str) -> Result<Duration, String> {
    let begin = Instant::now();
    let read = async |channel| {
        let request = pb::RangeRequest { key: "health".into(), ..pb::RangeRequest::default() };
        match KvClient::new(channel).range(request).await {
            Err(status) if status.code() == Code::PermissionDenied => Ok(()),
            answer => answer.map(drop),
        }
    };
    client.ask(endpoint, read).await?;
    let took = begin.elapsed();
    let listed = async |channel| {
        let request = pb::AlarmRequest::default();
        Ok(MaintenanceClient::new(channel).alarm(request).await?.into_inner())
    };
    let alarms = client.ask(endpoint, listed).await?.alarms;
    if alarms.is_empty() {
        return Ok(took);
    }
    let names: Vec<&str> = alarms.iter().map(|alarm| alarm.alarm().as_str_name()).collect();
    Err(format!("active alarms: {}", names.join(", ")))
}

type Hashed = (String, Result<pb::HashKvResponse, String>);

fn hashkv(options: &arguments::Client, cluster: bool, rev: i64) -> Result<(), Failure> {
    let client = Client::new(options);
    let answers = Client::block_on(async {
        let endpoints = endpoints(&client, cluster).await?;
        let revision = match rev {
            0 => common_revision(&client, &endpoints).await,
            revision => revision,
        };
        let mut answers: Vec<Hashed> = Vec::new();
        for endpoint in endpoints {
            let hash = async |channel| {
                let request = pb::HashKvRequest { revision };
                Ok(MaintenanceClient::new(channel).hash_kv(request).await?.into_inner())
            };
            let answer = client.ask(&endpoint, hash).await;
            answers.push((endpoint, answer));
        }
        Ok::<_, Failure>(answers)
    })?;
    let row = |(endpoint, answer): &Hashed| match answer {
        Ok(answer) => vec![
            endpoint.clone(),
            answer.hash.to_string(),
            answer.hash_revision.to_string(),
            answer.compact_revision.to_string(),
        ],
        Err(error) => vec![endpoint.clone(), error.clone()],
    };
    match options.output.unwrap_or(Format::Simple) {
        Format::Simple => {
            let mut out = io::stdout().lock();
            answers.iter().try_for_each(|answer| writeln!(out, "{}", row(answer).join(", ")))?;
        }
        Format::Table => {
            let rows: Vec<_> = answers.iter().map(row).collect();
            output::print_table(&["endpoint", "hash", "revision", "compacted"], &rows)?;
        }
        Format::Json => {
            let answer = |(endpoint, answer): &Hashed| match answer {
                Ok(answer) => json!({
                    "Endpoint": endpoint,
                    "HashKV": {
                        "header": output::header_json(answer.header),
                        "hash": answer.hash,
                        "compact_revision": answer.compact_revision,
                        "hash_revision": answer.hash_revision,
                    },
                }),
                Err(error) => json!({"Endpoint": endpoint, "Error": error}),
            };
            output::print_json(&answers.iter().map(answer).collect::<Value>())?;
        }
    }
    all_answered(&answers, "did not answer")?;
    let mut hashes = answers.iter().filter_map(|(_, answer)| answer.as_ref().ok());
    let Some(first) = hashes.next() else { return Ok(()) };
    let figures = |answer: &pb::HashKvResponse| (answer.compact_revision, answer.hash);
    let differ = hashes
        .any(|other| figures(other).0 == figures(first).0 && figures(other).1 != figures(first).1);
    if differ {
        return Err(Failure::Failed(
            "the endpoints hold different histories; see 'alarm list' and the members' logs"
                .to_owned(),
        ));
    }
    Ok(())
}

/// The newest revision that every endpoint has; 0 where none can be found.
async fn common_revision(client: &Client, endpoints: &[String]) -> i64 {
    let mut lowest = i64::MAX;
    for endpoint in endpoints {
        let status = async |channel| {
            let request = pb::StatusRequest {};
            Ok(MaintenanceClient::new(channel).status(request).await?.into_inner())
        };
        let header = client.ask(endpoint, status).await.ok().and_then(|status| status.header);
        lowest = lowest.min(header.map_or(i64::MAX, |header| header.revision));
    }
    if lowest == i64::MAX { 0 } else { lowest }
}

/// Asks each endpoint to use its space well; prints each that has.
pub(crate) fn defrag(options: &arguments::Client, defrag: &Defrag) -> Result<(), Failure> {
    let client = Client::new(options);
    let answers = Client::block_on(async {
        let mut answers: Vec<(String, Result<Duration, String>)> = Vec::new();
        for endpoint in endpoints(&client, defrag.cluster).await? {
            let begin = Instant::now();
            let ask = async |channel| {
                let request = pb::DefragmentRequest {};
                MaintenanceClient::new(channel).defragment(request).await.map(drop)
            };
            let answer = client.ask(&endpoint, ask).await.map(|()| begin.elapsed());
            answers.push((endpoint, answer));
        }
        Ok::<_, Failure>(answers)
    })?;
    let mut out = io::stdout().lock();
    for (endpoint, answer) in &answers {
        match answer {
            Ok(took) => writeln!(out, "Finished defragmenting {endpoint}, took {took:?}")?,
            Err(error) => eprintln!("{endpoint}: {error}"),
        }
    }
    all_answered(&answers, "did not answer")
}
