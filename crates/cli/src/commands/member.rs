//! `member`: the members, and changes of who they are.

use std::io::{self, Write};

use jangada_server::grpc::cluster::CATCH_UP_METADATA;
use jangada_server::proto::etcdserverpb as pb;
use pb::cluster_client::ClusterClient;
use pb::{Member, MemberListRequest, MemberListResponse, ResponseHeader};
use serde_json::{Map, Value, json};
use tonic::Request;

use super::advice;
use crate::arguments::{self, Format, MemberAdd, MemberCommand, MemberUpdate};
use crate::client::Client;
use crate::failure::Failure;
use crate::output;

/// Lists or changes the members.
pub(crate) fn run(options: &arguments::Client, member: &arguments::Member) -> Result<(), Failure> {
    let client = Client::new(options);
    let format = options.output.unwrap_or(Format::Simple);
    match &member.command {
        MemberCommand::List => print_list(format, &Client::block_on(list(&client))?),
        MemberCommand::Add(add) => {
            print_added(format, add, &Client::block_on(added(&client, add))?)
        }
        MemberCommand::Remove(member) => {
            let request = pb::MemberRemoveRequest { id: member.id };
            let response = Client::block_on(client.write(async |channel| {
                Ok(ClusterClient::new(channel).member_remove(request).await?.into_inner())
            }));
            let response = response.map_err(advice::given)?;
            let sentence = format!("Member {:x} removed from", member.id);
            print_change(format, &sentence, response.header, &response.members)
        }
        MemberCommand::Promote(member) => {
            let request = pb::MemberPromoteRequest { id: member.id };
            let response = Client::block_on(client.write(async |channel| {
                Ok(ClusterClient::new(channel).member_promote(request).await?.into_inner())
            }));
            let response = response.map_err(advice::given)?;
            let sentence = format!("Member {:x} promoted in", member.id);
            print_change(format, &sentence, response.header, &response.members)
        }
        MemberCommand::Update(MemberUpdate { id, peer_urls }) => {
            let request = pb::MemberUpdateRequest { id: *id, peer_ur_ls: peer_urls.clone() };
            let response = Client::block_on(client.write(async |channel| {
                Ok(ClusterClient::new(channel).member_update(request.clone()).await?.into_inner())
            }));
            let response = response.map_err(advice::given)?;
            let sentence = format!("Member {id:x} updated in");
            print_change(format, &sentence, response.header, &response.members)
        }
    }
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

async fn added(client: &Client, add: &MemberAdd) -> Result<pb::MemberAddResponse, Failure> {
    let message =
        pb::MemberAddRequest { peer_ur_ls: add.peer_urls.clone(), is_learner: add.learner };
    let answer = client.write(async |channel| {
        let mut request = Request::new(message.clone());
        if add.at_once {
            let value = "skip".parse().expect("the value is ASCII");
            request.metadata_mut().insert(CATCH_UP_METADATA, value);
        }
        Ok(ClusterClient::new(channel).member_add(request).await?.into_inner())
    });
    answer.await.map_err(advice::given)
}

fn print_list(format: Format, response: &MemberListResponse) -> Result<(), Failure> {
    match format {
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
        Format::Json => {
            output::print_json(&answer_json(response.header, &response.members, Map::new()))?;
        }
    }
    Ok(())
}

/// Prints who the new member is and, as etcdctl does, the environment to start it with.
fn print_added(
    format: Format,
    add: &MemberAdd,
    response: &pb::MemberAddResponse,
) -> Result<(), Failure> {
    let member = response.member.clone().unwrap_or_default();
    if format == Format::Json {
        let added = Map::from_iter([("member".to_owned(), member_json(&member))]);
        let answer = answer_json(response.header, &response.members, added);
        return Ok(output::print_json(&answer)?);
    }
    let cluster = response.header.map_or(0, |header| header.cluster_id);
    let mut out = io::stdout().lock();
    let role = if add.learner { " as a learner" } else { "" };
    writeln!(out, "Member {:x} added to cluster {cluster:x}{role}\n", member.id)?;
    Ok(out.write_all(environment(add, &member, &response.members).as_bytes())?)
}

/// What the new server is to be told, next to where it listens and keeps its data.
fn environment(add: &MemberAdd, member: &Member, members: &[Member]) -> String {
    let mut initial = Vec::new();
    for other in members {
        let name = if other.id == member.id { &add.name } else { &other.name };
        initial.extend(other.peer_ur_ls.iter().map(|url| format!("{name}={url}")));
    }
    format!(
        "ETCD_NAME=\"{}\"\nETCD_INITIAL_CLUSTER=\"{}\"\nETCD_INITIAL_ADVERTISE_PEER_URLS=\"{}\"\n\
         ETCD_INITIAL_CLUSTER_STATE=\"existing\"\n",
        add.name,
        initial.join(","),
        member.peer_ur_ls.join(",")
    )
}

fn print_change(
    format: Format,
    sentence: &str,
    header: Option<ResponseHeader>,
    members: &[Member],
) -> Result<(), Failure> {
    if format == Format::Json {
        return Ok(output::print_json(&answer_json(header, members, Map::new()))?);
    }
    let cluster = header.map_or(0, |header| header.cluster_id);
    Ok(writeln!(io::stdout().lock(), "{sentence} cluster {cluster:x}")?)
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

fn member_json(member: &Member) -> Value {
    json!({
        "ID": member.id,
        "name": member.name,
        "peerURLs": member.peer_ur_ls,
        "clientURLs": member.client_ur_ls,
        "isLearner": member.is_learner,
    })
}

/// Header and members, with what stands between them.
fn answer_json(
    header: Option<ResponseHeader>,
    members: &[Member],
    between: Map<String, Value>,
) -> Value {
    let mut answer = Map::new();
    answer.insert("header".to_owned(), output::header_json(header));
    answer.extend(between);
    let members = members.iter().map(member_json).collect();
    answer.insert("members".to_owned(), Value::Array(members));
    Value::Object(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_of_a_new_server_names_everyone() {
        let member = |id: u64, name: &str, urls: &[&str]| Member {
            id,
            name: name.to_owned(),
            peer_ur_ls: urls.iter().map(|url| (*url).to_owned()).collect(),
            ..Member::default()
        };
        let new = member(3, "", &["http://c:1", "http://c:2"]);
        let members =
            [member(1, "a", &["http://a:1"]), member(2, "b", &["http://b:1"]), new.clone()];
        let add = MemberAdd {
            name: "c".to_owned(),
            peer_urls: new.peer_ur_ls.clone(),
            learner: false,
            at_once: false,
        };
        assert_eq!(
            environment(&add, &new, &members),
            "ETCD_NAME=\"c\"\n\
             ETCD_INITIAL_CLUSTER=\"a=http://a:1,b=http://b:1,c=http://c:1,c=http://c:2\"\n\
             ETCD_INITIAL_ADVERTISE_PEER_URLS=\"http://c:1,http://c:2\"\n\
             ETCD_INITIAL_CLUSTER_STATE=\"existing\"\n"
        );
    }
}
