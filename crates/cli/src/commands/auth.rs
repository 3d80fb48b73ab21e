//! `auth`: whether users are in use.

use std::io::{self, Write};

use jangada_server::errors::ApiError;
use jangada_server::proto::etcdserverpb as pb;
use pb::auth_client::AuthClient;
use serde_json::{Map, Value, json};

use crate::arguments::{self, Auth, AuthCommand, Format};
use crate::client::Client;
use crate::failure::Failure;
use crate::output;

/// The name of the user, and of the role, who may do everything.
const ROOT: &str = "root";

/// Puts users in use or out of it, or tells whether they are.
pub(crate) fn run(options: &arguments::Client, auth: &Auth) -> Result<(), Failure> {
    let client = Client::new(options);
    match auth.command {
        AuthCommand::Enable => {
            let header = Client::block_on(enable(&client))?;
            told(options, header, json!({}), "Authentication Enabled")
        }
        AuthCommand::Disable => {
            let answer = Client::block_on(client.write(async |channel| {
                let request = pb::AuthDisableRequest {};
                Ok(AuthClient::new(channel).auth_disable(request).await?.into_inner())
            }))?;
            told(options, answer.header, json!({}), "Authentication Disabled")
        }
        AuthCommand::Status => {
            let answer = Client::block_on(client.read(async |channel| {
                let request = pb::AuthStatusRequest {};
                Ok(AuthClient::new(channel).auth_status(request).await?.into_inner())
            }))?;
            let (enabled, revision) = (answer.enabled, answer.auth_revision);
            let fields = json!({"enabled": enabled, "authRevision": revision});
            let text = format!("Authentication Status: {enabled}\nAuthRevision: {revision}");
            told(options, answer.header, fields, &text)
        }
    }
}

/// As etcdctl does, gives the user root the role root if that is all that is missing.
async fn enable(client: &Client) -> Result<Option<pb::ResponseHeader>, Failure> {
    let once = || {
        client.write(async |channel| {
            let request = pb::AuthEnableRequest {};
            Ok(AuthClient::new(channel).auth_enable(request).await?.into_inner())
        })
    };
    match once().await {
        Err(Failure::Failed(text)) if text == ApiError::RootRoleNotExist.text() => {}
        answer => return Ok(answer?.header),
    }
    client
        .write(async |channel| {
            let (user, role) = (ROOT.to_owned(), ROOT.to_owned());
            let request = pb::AuthUserGrantRoleRequest { user, role };
            Ok(AuthClient::new(channel).user_grant_role(request).await?.into_inner())
        })
        .await?;
    Ok(once().await?.header)
}

/// Prints an answer: the text, or JSON with the header and these fields.
pub(super) fn told(
    options: &arguments::Client,
    header: Option<pb::ResponseHeader>,
    fields: Value,
    text: &str,
) -> Result<(), Failure> {
    match options.output.unwrap_or(Format::Simple) {
        Format::Simple | Format::Table => {
            if !text.is_empty() {
                writeln!(io::stdout().lock(), "{text}")?;
            }
        }
        Format::Json => {
            let mut answer = Map::new();
            answer.insert("header".to_owned(), output::header_json(header));
            if let Value::Object(fields) = fields {
                answer.extend(fields);
            }
            output::print_json(&Value::Object(answer))?;
        }
    }
    Ok(())
}
