//! `lease`: what makes keys go.

use std::io::{self, Write};
use std::time::Duration;

use jangada_server::proto::etcdserverpb as pb;
use pb::lease_client::LeaseClient;
use pb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseRevokeRequest, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
use serde_json::{Value, json};
use tonic::Status;
use tonic::codegen::tokio_stream;

use crate::arguments::{self, Format, Lease, LeaseCommand};
use crate::client::Client;
use crate::failure::Failure;
use crate::output;

/// Carries out a command of `lease`.
pub(crate) fn run(options: &arguments::Client, lease: &Lease) -> Result<(), Failure> {
    let format = options.output.unwrap_or(Format::Simple);
    match &lease.command {
        LeaseCommand::Grant { ttl } => grant(options, format, *ttl),
        LeaseCommand::Revoke(lease) => revoke(options, format, lease.id),
        LeaseCommand::Timetolive { lease, keys } => time_to_live(options, format, lease.id, *keys),
        LeaseCommand::List => list(options, format),
        LeaseCommand::KeepAlive { lease, once } => {
            Client::block_on(keep_alive(options, format, lease.id, *once))
        }
    }
}

/// A lease's id as it is written everywhere.
pub(crate) fn id_text(id: i64) -> String {
    format!("{id:016x}")
}

fn grant(options: &arguments::Client, format: Format, ttl: i64) -> Result<(), Failure> {
    let client = Client::new(options);
    let granted = Client::block_on(client.write(async |channel| {
        let request = LeaseGrantRequest { ttl, id: 0 };
        Ok(LeaseClient::new(channel).lease_grant(request).await?.into_inner())
    }))?;
    match format {
        Format::Simple => writeln!(io::stdout(), "{}", id_text(granted.id))?,
        Format::Table => {
            let row = vec![id_text(granted.id), granted.ttl.to_string()];
            output::print_table(&["lease", "ttl"], &[row])?;
        }
        Format::Json => output::print_json(&json!({
            "header": output::header_json(granted.header),
            "ID": granted.id,
            "TTL": granted.ttl,
        }))?,
    }
    Ok(())
}

fn revoke(options: &arguments::Client, format: Format, id: i64) -> Result<(), Failure> {
    let client = Client::new(options);
    let revoked = Client::block_on(client.write(async |channel| {
        Ok(LeaseClient::new(channel).lease_revoke(LeaseRevokeRequest { id }).await?.into_inner())
    }))?;
    if format == Format::Json {
        output::print_json(&json!({"header": output::header_json(revoked.header)}))?;
    }
    Ok(())
}

fn time_to_live(
    options: &arguments::Client,
    format: Format,
    id: i64,
    keys: bool,
) -> Result<(), Failure> {
    let client = Client::new(options);
    let told = Client::block_on(client.read(async |channel| {
        let request = LeaseTimeToLiveRequest { id, keys };
        let mut client = LeaseClient::new(channel).max_decoding_message_size(usize::MAX);
        Ok(client.lease_time_to_live(request).await?.into_inner())
    }))?;
    print_time_to_live(&told, format, keys)?;
    if told.ttl < 0 {
        let sentence = "there is no such lease, or it has ended; make one with 'lease grant'";
        return Err(Failure::Failed(sentence.to_owned()));
    }
    Ok(())
}

fn print_time_to_live(
    told: &LeaseTimeToLiveResponse,
    format: Format,
    keys: bool,
) -> Result<(), Failure> {
    let texts = || told.keys.iter().map(|key| key.escape_ascii().to_string());
    match format {
        Format::Simple if told.ttl < 0 => {}
        Format::Simple => {
            let mut out = io::stdout().lock();
            writeln!(out, "{} of {} s remain", told.ttl, told.granted_ttl)?;
            for key in texts() {
                writeln!(out, "{key}")?;
            }
        }
        Format::Table => {
            let row = vec![
                id_text(told.id),
                told.ttl.to_string(),
                told.granted_ttl.to_string(),
                texts().collect::<Vec<_>>().join(" "),
            ];
            output::print_table(&["lease", "remaining", "granted", "keys"], &[row])?;
        }
        Format::Json => {
            let mut value = json!({
                "header": output::header_json(told.header),
                "id": told.id,
                "ttl": told.ttl,
                "granted-ttl": told.granted_ttl,
            });
            if keys {
                let keys: Vec<Value> =
                    told.keys.iter().map(|key| json!(output::base64(key))).collect();
                value["keys"] = json!(keys);
            }
            output::print_json(&value)?;
        }
    }
    Ok(())
}

fn list(options: &arguments::Client, format: Format) -> Result<(), Failure> {
    let client = Client::new(options);
    let listed = Client::block_on(client.read(async |channel| {
        let mut client = LeaseClient::new(channel).max_decoding_message_size(usize::MAX);
        Ok(client.lease_leases(LeaseLeasesRequest {}).await?.into_inner())
    }))?;
    let ids = listed.leases.iter().map(|lease| lease.id);
    match format {
        Format::Simple => {
            let mut out = io::stdout().lock();
            for id in ids {
                writeln!(out, "{}", id_text(id))?;
            }
        }
        Format::Table => {
            let rows: Vec<_> = ids.map(|id| vec![id_text(id)]).collect();
            output::print_table(&["lease"], &rows)?;
        }
        Format::Json => {
            let leases: Vec<Value> = ids.map(|id| json!({"ID": id})).collect();
            let header = output::header_json(listed.header);
            output::print_json(&json!({"header": header, "leases": leases}))?;
        }
    }
    Ok(())
}

async fn keep_alive(
    options: &arguments::Client,
    format: Format,
    id: i64,
    once: bool,
) -> Result<(), Failure> {
    loop {
        // Each renewal has the command's time, at whichever member answers.
        let renewed = renew(&Client::new(options), id).await?;
        if renewed.ttl <= 0 {
            let sentence = "the lease is gone: its time was over, or it was revoked";
            return Err(Failure::Failed(sentence.to_owned()));
        }
        match format {
            Format::Json => output::print_json(&json!({
                "header": output::header_json(renewed.header),
                "ID": renewed.id,
                "TTL": renewed.ttl,
            }))?,
            Format::Simple | Format::Table => {
                writeln!(io::stdout(), "{} renewed for {} s", id_text(id), renewed.ttl)?;
            }
        }
        if once {
            return Ok(());
        }
        tokio::time::sleep(pause(renewed.ttl)).await;
    }
}

/// How long to wait before a lease of so many seconds is renewed again: a third, so that one renewal
/// may be lost.
pub(crate) fn pause(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or_default()) / 3
}

/// Renews a lease once. To ask twice does no harm.
pub(crate) async fn renew(client: &Client, id: i64) -> Result<LeaseKeepAliveResponse, Failure> {
    client
        .read(async |channel| {
            let requests = tokio_stream::iter([LeaseKeepAliveRequest { id }]);
            let answers = LeaseClient::new(channel).lease_keep_alive(requests).await?;
            let answer = answers.into_inner().message().await?;
            answer.ok_or_else(|| Status::unavailable("the stream ended without an answer"))
        })
        .await
}
