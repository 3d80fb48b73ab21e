//! The Auth service: users, roles, permissions, tokens.
//!
//! Responsible for what becomes of a request: a command that carries no password, only what bcrypt made
//! of it, or a read after a barrier. Who may ask is judged where the command is applied.

use bytes::Bytes;
use jangada_kv::auth::{
    Access, AuthCommand, PasswordHash, Permission, PermissionKind, ROOT_ROLE, TOKEN_KEY_BYTES,
    TokenKey,
};
use jangada_kv::{Answer, Command};
use tonic::Status;

use super::methods::Method;
use super::{decode, framing, header::header, kv};
use crate::auth::Asker;
use crate::backend::Backend;
use crate::edge::Context;
use crate::errors::ApiError;
use crate::proto::authpb;
use crate::proto::etcdserverpb as pb;

/// How often a login is tried again because the user's password changed while it was checked.
const LOGINS_MAX: usize = 8;

/// etcd's sentence about a user who has no password, which is not among those of the table.
const NO_PASSWORD: &str = "auth: authentication failed, password was given for no password user";

/// Answers a call of the service.
pub(crate) async fn answer<B: Backend>(
    context: &Context<B>,
    method: Method,
    asker: Asker<'_>,
    message: Bytes,
) -> Result<Bytes, Status> {
    match method {
        Method::Authenticate => authenticate(context, decode(message)?.message).await,
        Method::AuthStatus => status(context, asker).await,
        Method::UserGet => user_get(context, asker, decode(message)?.message).await,
        Method::UserList => user_list(context, asker).await,
        Method::RoleGet => role_get(context, asker, decode(message)?.message).await,
        Method::RoleList => role_list(context, asker).await,
        _ => {
            let command = command(context, method, asker, message).await?;
            let revision = change(context, asker, command).await?;
            let header = header(&context.backend, revision);
            // All of them answer with a header alone, and so alike.
            framing::encode(&pb::AuthEnableResponse { header: Some(header) })
        }
    }
}

/// The command that a request for a change becomes.
async fn command<B: Backend>(
    context: &Context<B>,
    method: Method,
    asker: Asker<'_>,
    message: Bytes,
) -> Result<AuthCommand, Status> {
    Ok(match method {
        Method::AuthEnable => enable()?,
        Method::AuthDisable => AuthCommand::Disable,
        Method::UserAdd => {
            let pb::AuthUserAddRequest { name, password, options, .. } = decode(message)?.message;
            let no_password = options.is_some_and(|options| options.no_password);
            let password = if no_password {
                PasswordHash::default()
            } else {
                hash(context, asker, password).await?
            };
            AuthCommand::UserAdd { name, password, no_password }
        }
        Method::UserDelete => {
            let pb::AuthUserDeleteRequest { name } = decode(message)?.message;
            AuthCommand::UserDelete { name }
        }
        Method::UserChangePassword => {
            let pb::AuthUserChangePasswordRequest { name, password, .. } = decode(message)?.message;
            let password = hash(context, asker, password).await?;
            AuthCommand::UserChangePassword { name, password }
        }
        Method::UserGrantRole => {
            let pb::AuthUserGrantRoleRequest { user: name, role } = decode(message)?.message;
            AuthCommand::UserGrantRole { name, role }
        }
        Method::UserRevokeRole => {
            let pb::AuthUserRevokeRoleRequest { name, role } = decode(message)?.message;
            AuthCommand::UserRevokeRole { name, role }
        }
        Method::RoleAdd => {
            let pb::AuthRoleAddRequest { name: role } = decode(message)?.message;
            AuthCommand::RoleAdd { role }
        }
        Method::RoleDelete => {
            let pb::AuthRoleDeleteRequest { role } = decode(message)?.message;
            AuthCommand::RoleDelete { role }
        }
        Method::RoleGrantPermission => {
            let pb::AuthRoleGrantPermissionRequest { name: role, perm } = decode(message)?.message;
            let permission = permission(perm.ok_or(ApiError::PermissionNotGiven)?)?;
            AuthCommand::RoleGrantPermission { role, permission }
        }
        Method::RoleRevokePermission => {
            let pb::AuthRoleRevokePermissionRequest { role, key, range_end } =
                decode(message)?.message;
            AuthCommand::RoleRevokePermission { role, key, range_end }
        }
        other => unreachable!("{other:?} is no change of the Auth service"),
    })
}

/// Puts users in use, with a new key for tokens.
fn enable() -> Result<AuthCommand, Status> {
    let mut key = [0; TOKEN_KEY_BYTES];
    getrandom::fill(&mut key)
        .map_err(|error| Status::unavailable(format!("no randomness: {error}")))?;
    Ok(AuthCommand::Enable { key: TokenKey(key) })
}

/// Proposes a change; answers the store's revision.
async fn change<B: Backend>(
    context: &Context<B>,
    asker: Asker<'_>,
    command: AuthCommand,
) -> Result<i64, ApiError> {
    let (revision, answer) = kv::propose_for(context, asker, Command::Auth(command)).await?;
    assert!(answer == Answer::Auth, "a change of users is answered as one");
    Ok(revision)
}

/// What a password is held against. Who may not change users makes this member work for nothing, so he
/// is refused before, unless it is this member that is behind.
async fn hash<B: Backend>(
    context: &Context<B>,
    asker: Asker<'_>,
    password: String,
) -> Result<PasswordHash, Status> {
    if context.guard.judge(&context.backend, asker, Access::Root).await.is_err() {
        kv::barrier(context).await?;
        context.guard.judge(&context.backend, asker, Access::Root).await?;
    }
    context.guard.passwords.hash(password).await
}

fn permission(permission: authpb::Permission) -> Result<Permission, ApiError> {
    let kind = match permission.perm_type() {
        authpb::permission::Type::Read => PermissionKind::Read,
        authpb::permission::Type::Write => PermissionKind::Write,
        authpb::permission::Type::Readwrite => PermissionKind::ReadWrite,
    };
    if permission.perm_type != kind as i32 {
        return Err(ApiError::InvalidAuthManagement);
    }
    Ok(Permission { kind, key: permission.key, range_end: permission.range_end })
}

/// A token for a name and a password. The password is checked against what is known after a barrier,
/// so that one that was changed is refused everywhere at once.
async fn authenticate<B: Backend>(
    context: &Context<B>,
    request: pb::AuthenticateRequest,
) -> Result<Bytes, Status> {
    let pb::AuthenticateRequest { name, password } = request;
    for _ in 0..LOGINS_MAX {
        kv::barrier(context).await?;
        let user = {
            let view = context.backend.store().read();
            if !view.auth().is_enabled() {
                return Err(ApiError::AuthNotEnabled.into());
            }
            view.auth().users().get(&name).cloned().ok_or(ApiError::AuthFailed)?
        };
        if user.no_password {
            return Err(Status::unknown(NO_PASSWORD));
        }
        let passwords = &context.guard.passwords;
        if !passwords.is_right(password.clone(), user.password).await? {
            tracing::info!(user_name = name, "invalid password");
            return Err(ApiError::AuthFailed.into());
        }
        let (now, revision) = {
            let view = context.backend.store().read();
            let now = view.auth().users().get(&name).map(|user| user.generation);
            (now.filter(|_| view.auth().is_enabled()), view.revision())
        };
        if now != Some(user.generation) {
            continue;
        }
        // Users from elsewhere, such as an etcd's snapshot, come without a key.
        if context.backend.store().read().auth().token_key().is_none() {
            kv::propose(context, Command::Auth(enable()?)).await?;
        }
        let token = context.guard.issue(&context.backend, &name);
        // etcd's sentence, which is not among those of the table.
        let token = token
            .ok_or_else(|| Status::unknown("auth: token signing attempted with verify-only key"))?;
        let header = Some(header(&context.backend, revision));
        return framing::encode(&pb::AuthenticateResponse { header, token });
    }
    Err(ApiError::AuthOldRevision.into())
}

/// Judges a look at users after a barrier; answers the header.
async fn look<B: Backend>(
    context: &Context<B>,
    asker: Asker<'_>,
    access: Access<'_>,
) -> Result<Option<pb::ResponseHeader>, Status> {
    kv::barrier(context).await?;
    context.guard.judge(&context.backend, asker, access).await?;
    let revision = context.backend.store().read().revision();
    Ok(Some(header(&context.backend, revision)))
}

async fn status<B: Backend>(context: &Context<B>, asker: Asker<'_>) -> Result<Bytes, Status> {
    let header = look(context, asker, Access::Root).await?;
    let (enabled, auth_revision) = {
        let view = context.backend.store().read();
        (view.auth().is_enabled(), view.auth().revision())
    };
    framing::encode(&pb::AuthStatusResponse { header, enabled, auth_revision })
}

async fn user_get<B: Backend>(
    context: &Context<B>,
    asker: Asker<'_>,
    request: pb::AuthUserGetRequest,
) -> Result<Bytes, Status> {
    let header = look(context, asker, Access::User(&request.name)).await?;
    let roles = {
        let view = context.backend.store().read();
        let user = view.auth().users().get(&request.name);
        user.ok_or(ApiError::UserNotFound)?.roles.iter().cloned().collect()
    };
    framing::encode(&pb::AuthUserGetResponse { header, roles })
}

async fn user_list<B: Backend>(context: &Context<B>, asker: Asker<'_>) -> Result<Bytes, Status> {
    let header = look(context, asker, Access::Root).await?;
    let users = context.backend.store().read().auth().users().keys().cloned().collect();
    framing::encode(&pb::AuthUserListResponse { header, users })
}

async fn role_get<B: Backend>(
    context: &Context<B>,
    asker: Asker<'_>,
    request: pb::AuthRoleGetRequest,
) -> Result<Bytes, Status> {
    let header = look(context, asker, Access::Role(&request.role)).await?;
    let perm = {
        let view = context.backend.store().read();
        let role = view.auth().roles().get(&request.role).ok_or(ApiError::RoleNotFound)?;
        if request.role == ROOT_ROLE {
            // It may do everything, whatever was granted to it.
            vec![authpb::Permission {
                perm_type: authpb::permission::Type::Readwrite as i32,
                key: Bytes::new(),
                range_end: Bytes::from_static(b"\0"),
            }]
        } else {
            role.permissions.iter().map(listed).collect()
        }
    };
    framing::encode(&pb::AuthRoleGetResponse { header, perm })
}

fn listed(permission: &Permission) -> authpb::Permission {
    authpb::Permission {
        perm_type: permission.kind as i32,
        key: permission.key.clone(),
        range_end: permission.range_end.clone(),
    }
}

async fn role_list<B: Backend>(context: &Context<B>, asker: Asker<'_>) -> Result<Bytes, Status> {
    let header = look(context, asker, Access::Root).await?;
    let roles = context.backend.store().read().auth().roles().keys().cloned().collect();
    framing::encode(&pb::AuthRoleListResponse { header, roles })
}
