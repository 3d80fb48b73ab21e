//! `alarm`: what the members have raised.

use std::io::{self, Write};

use jangada_server::proto::etcdserverpb as pb;
use pb::alarm_request::AlarmAction;
use pb::maintenance_client::MaintenanceClient;
use pb::{AlarmMember, AlarmRequest, AlarmResponse};
use serde_json::{Value, json};

use crate::arguments::{self, Alarm, AlarmCommand, Format};
use crate::client::Client;
use crate::failure::Failure;
use crate::output;

/// Lists alarms, or ends them all.
pub(crate) fn run(options: &arguments::Client, alarm: &Alarm) -> Result<(), Failure> {
    let client = Client::new(options);
    let (header, alarms) = Client::block_on(async {
        let listed = list(&client).await?;
        match alarm.command {
            AlarmCommand::List => Ok((listed.header, listed.alarms)),
            AlarmCommand::Disarm => disarm(&client, listed).await,
        }
    })?;
    match options.output.unwrap_or(Format::Simple) {
        Format::Simple => {
            let mut out = io::stdout().lock();
            for alarm in &alarms {
                writeln!(out, "{}", row(alarm).join(" "))?;
            }
        }
        Format::Table => {
            let rows: Vec<_> = alarms.iter().map(row).collect();
            output::print_table(&["alarm", "member"], &rows)?;
        }
        Format::Json => {
            let alarms: Vec<Value> = alarms
                .iter()
                .map(|alarm| json!({"memberID": alarm.member_id, "alarm": alarm.alarm}))
                .collect();
            output::print_json(&json!({"header": output::header_json(header), "alarms": alarms}))?;
        }
    }
    Ok(())
}

async fn list(client: &Client) -> Result<AlarmResponse, Failure> {
    client
        .read(async |channel| {
            let request = AlarmRequest::default();
            Ok(MaintenanceClient::new(channel).alarm(request).await?.into_inner())
        })
        .await
}

type Answer = (Option<pb::ResponseHeader>, Vec<AlarmMember>);

/// Ends each alarm that was listed, and none that comes meanwhile.
async fn disarm(client: &Client, listed: AlarmResponse) -> Result<Answer, Failure> {
    let (mut header, mut ended) = (listed.header, Vec::new());
    for AlarmMember { member_id, alarm } in listed.alarms {
        let request = AlarmRequest { action: AlarmAction::Deactivate.into(), member_id, alarm };
        let answer = client.write(async |channel| {
            Ok(MaintenanceClient::new(channel).alarm(request).await?.into_inner())
        });
        let answer = answer.await?;
        header = answer.header;
        ended.extend(answer.alarms);
    }
    Ok((header, ended))
}

fn row(alarm: &AlarmMember) -> Vec<String> {
    vec![alarm.alarm().as_str_name().to_owned(), format!("{:x}", alarm.member_id)]
}
