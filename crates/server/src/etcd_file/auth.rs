//! Users and roles in etcd's buckets, both ways.

use std::collections::BTreeMap;

use bytes::Bytes;
use jangada_kv::auth::{Auth, AuthParts, PasswordHash, Permission, PermissionKind, Role, User};
use prost::Message;

use super::file::SnapshotFileError;
use crate::proto::authpb;

pub(super) const ENABLED: &[u8] = b"authEnabled";
pub(super) const REVISION: &[u8] = b"authRevision";

/// Entries of a bucket.
pub(super) type Entries = Vec<(Vec<u8>, Vec<u8>)>;

/// Entries of `auth`. A cluster that never had users has none.
pub(super) fn settings(auth: &Auth) -> Entries {
    if *auth == Auth::default() {
        return Vec::new();
    }
    let enabled = vec![u8::from(auth.is_enabled())];
    let revision = auth.revision().to_be_bytes().to_vec();
    vec![(ENABLED.to_vec(), enabled), (REVISION.to_vec(), revision)]
}

/// Entries of `authRoles`.
pub(super) fn roles(auth: &Auth) -> Entries {
    let entry = |(name, role): (&String, &Role)| {
        let permission = |permission: &Permission| authpb::Permission {
            perm_type: match permission.kind {
                PermissionKind::Read => authpb::permission::Type::Read,
                PermissionKind::Write => authpb::permission::Type::Write,
                PermissionKind::ReadWrite => authpb::permission::Type::Readwrite,
            }
            .into(),
            key: permission.key.clone(),
            range_end: permission.range_end.clone(),
        };
        let key_permission = role.permissions.iter().map(permission).collect();
        let row = authpb::Role { name: Bytes::copy_from_slice(name.as_bytes()), key_permission };
        (name.clone().into_bytes(), row.encode_to_vec())
    };
    auth.roles().iter().map(entry).collect()
}

/// Entries of `authUsers`.
pub(super) fn users(auth: &Auth) -> Entries {
    let entry = |(name, user): (&String, &User)| {
        let row = authpb::User {
            name: Bytes::copy_from_slice(name.as_bytes()),
            password: user.password.0.clone(),
            roles: user.roles.iter().cloned().collect(),
            options: Some(authpb::UserAddOptions { no_password: user.no_password }),
        };
        (name.clone().into_bytes(), row.encode_to_vec())
    };
    auth.users().iter().map(entry).collect()
}

/// What was found in the three buckets.
#[derive(Default)]
pub(super) struct Found {
    enabled: bool,
    revision: u64,
    users: BTreeMap<String, User>,
    roles: BTreeMap<String, Role>,
}

impl Found {
    /// Takes an entry of `auth`.
    pub(super) fn setting(&mut self, key: &[u8], value: &[u8]) -> Result<(), SnapshotFileError> {
        match key {
            ENABLED => self.enabled = value == [1],
            REVISION => {
                let revision =
                    value.try_into().map_err(|_| bad("auth", "a number is cut short"))?;
                self.revision = u64::from_be_bytes(revision);
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes an entry of `authUsers`.
    pub(super) fn user(&mut self, value: &[u8]) -> Result<(), SnapshotFileError> {
        let row = authpb::User::decode(value).map_err(|_| bad("authUsers", "a user is none"))?;
        let name = name_of("authUsers", &row.name)?;
        let user = User {
            password: PasswordHash(row.password),
            no_password: row.options.is_some_and(|options| options.no_password),
            generation: 0,
            roles: row.roles.into_iter().collect(),
        };
        self.users.insert(name, user);
        Ok(())
    }

    /// Takes an entry of `authRoles`.
    pub(super) fn role(&mut self, value: &[u8]) -> Result<(), SnapshotFileError> {
        let row = authpb::Role::decode(value).map_err(|_| bad("authRoles", "a role is none"))?;
        let name = name_of("authRoles", &row.name)?;
        let permission = |permission: authpb::Permission| {
            let kind = match permission.perm_type() {
                authpb::permission::Type::Read => PermissionKind::Read,
                authpb::permission::Type::Write => PermissionKind::Write,
                authpb::permission::Type::Readwrite => PermissionKind::ReadWrite,
            };
            Permission { kind, key: permission.key, range_end: permission.range_end }
        };
        let permissions = row.key_permission.into_iter().map(permission).collect();
        self.roles.insert(name, Role { permissions });
        Ok(())
    }

    /// The users as a state without a key for tokens: whoever holds a copy of the file must not be able
    /// to make one. What tokens there were are of no use: all users count as new.
    pub(super) fn finish(mut self) -> Result<Auth, SnapshotFileError> {
        let Found { enabled, revision, .. } = self;
        for user in self.users.values_mut() {
            user.generation = revision;
        }
        let parts =
            AuthParts { enabled, revision, key: None, users: self.users, roles: self.roles };
        Auth::of_parts(parts).map_err(|problem| bad("auth", problem))
    }
}

fn name_of(bucket: &'static str, name: &Bytes) -> Result<String, SnapshotFileError> {
    String::from_utf8(name.to_vec()).map_err(|_| bad(bucket, "a name is not UTF-8"))
}

fn bad(bucket: &'static str, problem: &str) -> SnapshotFileError {
    SnapshotFileError::Entry { bucket, problem: problem.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_come_back_as_etcd_has_them() {
        let permission = |kind, key: &'static str, end: &'static str| Permission {
            kind,
            key: Bytes::from_static(key.as_bytes()),
            range_end: Bytes::from_static(end.as_bytes()),
        };
        let permissions = vec![
            permission(PermissionKind::Read, "a", ""),
            permission(PermissionKind::Write, "b", "\0"),
            permission(PermissionKind::ReadWrite, "c", "d"),
        ];
        let roles = BTreeMap::from([("r".to_owned(), Role { permissions })]);
        let user = |password: &'static [u8], roles: &[&str]| User {
            password: PasswordHash(Bytes::from_static(password)),
            no_password: password.is_empty(),
            generation: 9,
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        };
        let users = [("root", user(b"$2a$10$x", &["root"])), ("u", user(b"", &["r", "gone"]))];
        let users = users.map(|(name, user)| (name.to_owned(), user)).into();
        let parts = AuthParts { enabled: true, revision: 9, key: None, users, roles };
        let auth = Auth::of_parts(parts).expect("it is sound");
        let mut found = Found::default();
        for (key, value) in settings(&auth) {
            found.setting(&key, &value).expect("it is one");
        }
        roles_and_users(&auth, &mut found);
        assert_eq!(found.finish().expect("it is sound"), auth);
        assert_eq!(settings(&Auth::default()), []);
    }

    fn roles_and_users(auth: &Auth, found: &mut Found) {
        roles(auth).iter().for_each(|(_, value)| found.role(value).expect("it is one"));
        users(auth).iter().for_each(|(_, value)| found.user(value).expect("it is one"));
    }

    #[test]
    fn what_is_no_user_is_refused() {
        let mut found = Found::default();
        assert!(found.user(b"\xff").is_err() && found.role(b"\xff").is_err());
        assert!(found.user(b"\x0a\x01\xff").is_err(), "a name is text");
        assert!(found.setting(REVISION, b"short").is_err());
        found.setting(ENABLED, &[1]).expect("it is one");
        assert!(found.finish().is_err(), "there is no root");
    }
}
