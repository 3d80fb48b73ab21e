//! `user`: who may ask.

use std::io::{self, IsTerminal, Write};

use jangada_server::proto::authpb::UserAddOptions;
use jangada_server::proto::etcdserverpb as pb;
use pb::auth_client::AuthClient;
use serde_json::json;

use super::auth::told;
use super::role;
use crate::arguments::{self, Passwd, User, UserAdd, UserCommand};
use crate::client::Client;
use crate::failure::Failure;

/// Shows or changes users.
pub(crate) fn run(options: &arguments::Client, user: &User) -> Result<(), Failure> {
    match &user.command {
        UserCommand::Add(add) => self::add(options, add),
        UserCommand::Passwd(passwd) => change_password(options, passwd),
        command => Client::block_on(one_call(options, command)),
    }
}

fn add(options: &arguments::Client, add: &UserAdd) -> Result<(), Failure> {
    let (name, password) = match (&add.new_user_password, add.name.split_once(':')) {
        _ if add.no_password => (add.name.clone(), String::new()),
        (Some(password), _) => (add.name.clone(), password.clone()),
        (None, Some((name, password))) => (name.to_owned(), password.to_owned()),
        (None, None) => (add.name.clone(), new_password(&add.name, add.interactive)?),
    };
    if name.is_empty() {
        return Err(Failure::Usage("empty user name is not allowed".to_owned()));
    }
    // The time that it took to type the password does not count.
    let client = Client::new(options);
    let request = pb::AuthUserAddRequest {
        name: name.clone(),
        password,
        options: Some(UserAddOptions { no_password: add.no_password }),
        ..Default::default()
    };
    let answer = Client::block_on(client.write(async |channel| {
        Ok(AuthClient::new(channel).user_add(request.clone()).await?.into_inner())
    }))?;
    told(options, answer.header, json!({}), &format!("User {name} created"))
}

fn change_password(options: &arguments::Client, passwd: &Passwd) -> Result<(), Failure> {
    let (name, password) = (passwd.name.clone(), new_password(&passwd.name, passwd.interactive)?);
    let client = Client::new(options);
    let request = pb::AuthUserChangePasswordRequest { name, password, ..Default::default() };
    let answer = Client::block_on(client.write(async |channel| {
        Ok(AuthClient::new(channel).user_change_password(request.clone()).await?.into_inner())
    }))?;
    told(options, answer.header, json!({}), "Password updated")
}

async fn one_call(options: &arguments::Client, command: &UserCommand) -> Result<(), Failure> {
    let client = Client::new(options);
    let (header, fields, text) = match command {
        UserCommand::Delete(user) => {
            let request = pb::AuthUserDeleteRequest { name: user.name.clone() };
            let answer = client.write(async |channel| {
                Ok(AuthClient::new(channel).user_delete(request.clone()).await?.into_inner())
            });
            (answer.await?.header, json!({}), format!("User {} deleted", user.name))
        }
        UserCommand::GrantRole(granted) => {
            let (user, role) = (granted.name.clone(), granted.role.clone());
            let text = format!("Role {role} is granted to user {user}");
            let request = pb::AuthUserGrantRoleRequest { user, role };
            let answer = client.write(async |channel| {
                Ok(AuthClient::new(channel).user_grant_role(request.clone()).await?.into_inner())
            });
            (answer.await?.header, json!({}), text)
        }
        UserCommand::RevokeRole(revoked) => {
            let (name, role) = (revoked.name.clone(), revoked.role.clone());
            let text = format!("Role {role} is revoked from user {name}");
            let request = pb::AuthUserRevokeRoleRequest { name, role };
            let answer = client.write(async |channel| {
                Ok(AuthClient::new(channel).user_revoke_role(request.clone()).await?.into_inner())
            });
            (answer.await?.header, json!({}), text)
        }
        UserCommand::Get(get) => {
            let request = pb::AuthUserGetRequest { name: get.name.clone() };
            let answer = client.read(async |channel| {
                Ok(AuthClient::new(channel).user_get(request.clone()).await?.into_inner())
            });
            let answer = answer.await?;
            let mut text = format!("User: {}", get.name);
            if get.detail {
                for name in &answer.roles {
                    let (_, permissions) = role::get(&client, name).await?;
                    text += &format!("\n\n{}", role::text(name, &permissions));
                }
            } else {
                text += "\nRoles:";
                answer.roles.iter().for_each(|role| text += &format!(" {role}"));
            }
            (answer.header, json!({"roles": answer.roles}), text)
        }
        UserCommand::List => {
            let answer = client.read(async |channel| {
                let request = pb::AuthUserListRequest {};
                Ok(AuthClient::new(channel).user_list(request).await?.into_inner())
            });
            let answer = answer.await?;
            (answer.header, json!({"users": answer.users}), answer.users.join("\n"))
        }
        UserCommand::Add(_) | UserCommand::Passwd(_) => {
            unreachable!("they are asked for a password before")
        }
    };
    told(options, header, fields, &text)
}

/// A password that is typed twice, or the first line of the standard input.
fn new_password(name: &str, interactive: bool) -> Result<String, Failure> {
    if !interactive {
        return first_line();
    }
    let first = typed(&format!("Password of {name}: "))?;
    let again = typed(&format!("Type password of {name} again for confirmation: "))?;
    if first != again {
        return Err(Failure::Failed("given passwords are different".to_owned()));
    }
    Ok(first)
}

/// A password that is typed without being shown.
pub(crate) fn typed(prompt: &str) -> Result<String, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::Usage(
            "a password is needed and there is no terminal to ask for it; give it with --password, \
             as name:password, or on the standard input with --interactive=false"
                .to_owned(),
        ));
    }
    io::stderr().write_all(prompt.as_bytes())?;
    let hidden = Hidden::begin()?;
    let line = first_line();
    drop(hidden);
    eprintln!();
    line
}

fn first_line() -> Result<String, Failure> {
    let mut line = String::new();
    io::stdin()
        .read_line(&mut line)
        .map_err(|error| Failure::Failed(format!("the password cannot be read: {error}")))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// A terminal that does not show what is typed, until this is dropped.
struct Hidden {
    before: rustix::termios::Termios,
}

impl Hidden {
    fn begin() -> io::Result<Hidden> {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
        let stdin = io::stdin();
        let before = tcgetattr(&stdin)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Flush, &silent)?;
        Ok(Hidden { before })
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        use rustix::termios::{OptionalActions, tcsetattr};
        // If it fails the terminal stays silent; there is nobody left to tell.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.before);
    }
}
