//! `role`: what users may do.

use bytes::Bytes;
use jangada_server::proto::authpb::{Permission, permission::Type};
use jangada_server::proto::etcdserverpb as pb;
use pb::auth_client::AuthClient;
use serde_json::{Value, json};

use super::auth::told;
use super::kv;
use crate::arguments::{self, PermissionKind, PermittedKeys, Role, RoleCommand};
use crate::client::Client;
use crate::failure::Failure;
use crate::output;

/// What stands for "no end".
const OPEN: &[u8] = b"\0";

/// Shows or changes roles.
pub(crate) fn run(options: &arguments::Client, role: &Role) -> Result<(), Failure> {
    Client::block_on(call(options, &role.command))
}

async fn call(options: &arguments::Client, command: &RoleCommand) -> Result<(), Failure> {
    let client = Client::new(options);
    let (header, fields, text) = match command {
        RoleCommand::Add(name) => {
            let role = &name.role;
            let request = pb::AuthRoleAddRequest { name: role.clone() };
            let answer = client.write(async |channel| {
                Ok(AuthClient::new(channel).role_add(request.clone()).await?.into_inner())
            });
            (answer.await?.header, json!({}), format!("Role {role} created"))
        }
        RoleCommand::Delete(name) => {
            let role = &name.role;
            let request = pb::AuthRoleDeleteRequest { role: role.clone() };
            let answer = client.write(async |channel| {
                Ok(AuthClient::new(channel).role_delete(request.clone()).await?.into_inner())
            });
            (answer.await?.header, json!({}), format!("Role {role} deleted"))
        }
        RoleCommand::Get(name) => {
            let (header, permissions) = get(&client, &name.role).await?;
            let listed: Vec<Value> = permissions.iter().map(permission_json).collect();
            (header, json!({"perm": listed}), text(&name.role, &permissions))
        }
        RoleCommand::List => {
            let answer = client.read(async |channel| {
                let request = pb::AuthRoleListRequest {};
                Ok(AuthClient::new(channel).role_list(request).await?.into_inner())
            });
            let answer = answer.await?;
            (answer.header, json!({"roles": answer.roles}), answer.roles.join("\n"))
        }
        RoleCommand::GrantPermission(grant) => {
            let (key, range_end) = range(&grant.keys)?;
            let kind = match grant.kind {
                PermissionKind::Read => Type::Read,
                PermissionKind::Write => Type::Write,
                PermissionKind::ReadWrite => Type::Readwrite,
            };
            let perm = Some(Permission { perm_type: kind as i32, key, range_end });
            let request = pb::AuthRoleGrantPermissionRequest { name: grant.role.clone(), perm };
            let answer = client.write(async |channel| {
                let mut client = AuthClient::new(channel);
                Ok(client.role_grant_permission(request.clone()).await?.into_inner())
            });
            (answer.await?.header, json!({}), format!("Role {} updated", grant.role))
        }
        RoleCommand::RevokePermission(revoke) => {
            let (key, range_end) = range(&revoke.keys)?;
            let text = revoked(&revoke.role, &key, &range_end);
            let role = revoke.role.clone();
            let request = pb::AuthRoleRevokePermissionRequest { role, key, range_end };
            let answer = client.write(async |channel| {
                let mut client = AuthClient::new(channel);
                Ok(client.role_revoke_permission(request.clone()).await?.into_inner())
            });
            (answer.await?.header, json!({}), text)
        }
    };
    told(options, header, fields, &text)
}

type Answer = (Option<pb::ResponseHeader>, Vec<Permission>);

/// What a role permits.
pub(super) async fn get(client: &Client, role: &str) -> Result<Answer, Failure> {
    let request = pb::AuthRoleGetRequest { role: role.to_owned() };
    let answer = client.read(async |channel| {
        Ok(AuthClient::new(channel).role_get(request.clone()).await?.into_inner())
    });
    let answer = answer.await?;
    Ok((answer.header, answer.perm))
}

/// etcdctl allows a prefix of nothing: every key.
fn range(keys: &PermittedKeys) -> Result<(Bytes, Bytes), Failure> {
    kv::range(&keys.key, keys.range_end.as_deref(), keys.prefix, keys.from_key)
}

/// What a role permits, as etcdctl prints it.
pub(super) fn text(role: &str, permissions: &[Permission]) -> String {
    let mut text = format!("Role {role}");
    for (heading, not) in [("KV Read:", Type::Write), ("KV Write:", Type::Read)] {
        text += &format!("\n{heading}");
        for permission in permissions.iter().filter(|permission| permission.perm_type() != not) {
            text += &format!("\n\t{}", range_text(permission));
        }
    }
    text
}

fn range_text(Permission { key, range_end, .. }: &Permission) -> String {
    let first = key.escape_ascii();
    if range_end.is_empty() {
        return first.to_string();
    }
    let mut text = if range_end == OPEN {
        format!("[{first}, <open ended>")
    } else {
        format!("[{first}, {})", range_end.escape_ascii())
    };
    if !key.is_empty() && kv::prefix_end(key).is_some_and(|end| end == *range_end) {
        text += &format!(" (prefix {first})");
    }
    text
}

fn revoked(role: &str, key: &Bytes, range_end: &Bytes) -> String {
    let (key, end) = (key.escape_ascii(), range_end.escape_ascii());
    if range_end.is_empty() {
        return format!("Permission of key {key} is revoked from role {role}");
    }
    if range_end == OPEN {
        return format!("Permission of range [{key}, <open ended> is revoked from role {role}");
    }
    format!("Permission of range [{key}, {end}) is revoked from role {role}")
}

/// A permission with etcdctl's keys: what is zero or empty is left out, as Go does.
fn permission_json(permission: &Permission) -> Value {
    let mut json = json!({"key": output::base64(&permission.key)});
    if permission.perm_type != 0 {
        json["permType"] = json!(permission.perm_type);
    }
    if !permission.range_end.is_empty() {
        json["range_end"] = json!(output::base64(&permission.range_end));
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permission(kind: Type, key: &'static str, range_end: &'static str) -> Permission {
        let (key, range_end) = (Bytes::from_static(key.as_bytes()), range_end.as_bytes().into());
        Permission { perm_type: kind as i32, key, range_end }
    }

    #[test]
    fn a_role_is_printed_as_etcdctl_does() {
        let permissions = [
            permission(Type::Read, "a", ""),
            permission(Type::Readwrite, "k/", "k0"),
            permission(Type::Write, "x", "\0"),
        ];
        let expected = "Role r\nKV Read:\n\ta\n\t[k/, k0) (prefix k/)\nKV Write:\n\t[k/, k0) \
                        (prefix k/)\n\t[x, <open ended>";
        assert_eq!(text("r", &permissions), expected);
    }
}
