//! Users, roles and what they may do: etcd's Auth service as replicated state.
//!
//! Responsible for what the state is, for its rows and for the ranges that follow from it. What the
//! commands mean is in `apply.rs`, their bytes are in `command.rs`, and who may do what is decided in
//! `permit.rs` alone. Passwords come as hashes and tokens are made elsewhere: there is neither a clock
//! nor a random number here.
//!
//! Invariants:
//! 1. The auth revision is 1 at first, never falls, and rises with every change of users, roles and
//!    permissions and when users go out of use.
//! 2. What each user is granted is what his roles say, merged: computed again with every change.
//! 3. While users are in use there is a user `root` who has the role `root`, and a key for tokens; a
//!    state from elsewhere gets its key with the first login.

mod apply;
mod command;
mod parts;
mod permit;
mod rows;
mod spans;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::Bytes;

pub use command::{AuthCommand, Envelope};
pub use parts::AuthParts;
pub use permit::{Access, Caller};
pub(crate) use rows::{AuthNote, Settings};
use spans::Spans;

/// The user who is asked for before users come into use.
pub const ROOT_USER: &str = "root";

/// The role that may do everything.
pub const ROOT_ROLE: &str = "root";

/// The most users, and the most roles. All of them lie in memory and travel in one chunk of a
/// snapshot; at some hundred bytes each these are ten megabytes.
pub const AUTH_NAMES_MAX: usize = 1 << 17;

/// The most permissions of a role: a check of a user looks at none of them, but each change of the
/// role merges them anew for every user who has it.
pub const ROLE_PERMISSIONS_MAX: usize = 1 << 12;

/// The bytes of the key that tokens are signed with.
pub const TOKEN_KEY_BYTES: usize = 32;

/// A secret of a user: what bcrypt made of the password. Never printed.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct PasswordHash(pub Bytes);

/// The key that this cluster's tokens are signed with. Never printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenKey(pub [u8; TOKEN_KEY_BYTES]);

/// A user.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct User {
    /// What the password is held against; empty for a user without one.
    pub password: PasswordHash,
    /// Whether the user has no password, and so is known by a certificate alone.
    pub no_password: bool,
    /// The auth revision at which the user came or last got another password. A token made before is
    /// of no use after.
    pub generation: u64,
    /// The roles, in the order of their names.
    pub roles: BTreeSet<String>,
}

/// A role.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Role {
    /// What it permits, in the order of the keys.
    pub permissions: Vec<Permission>,
}

/// What may be done with keys.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum PermissionKind {
    /// Reading them.
    Read = 0,
    /// Writing and deleting them.
    Write = 1,
    /// Both.
    ReadWrite = 2,
}

/// A permission of a role, as it was granted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Permission {
    /// What may be done.
    pub kind: PermissionKind,
    /// The first key.
    pub key: Bytes,
    /// One past the last key; empty for `key` alone, a single zero byte for "no end".
    pub range_end: Bytes,
}

/// Users, roles and whether they are in use.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Auth {
    settings: Settings,
    users: BTreeMap<String, User>,
    roles: BTreeMap<String, Role>,
    /// By user (invariant 2). Who has no role is not in it.
    granted: BTreeMap<String, Granted>,
}

/// The ranges that a user's roles come to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Granted {
    read: Spans,
    write: Spans,
}

impl Auth {
    /// Whether users are in use: whether anything is refused for want of a permission.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.settings.enabled
    }

    /// The auth revision.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.settings.revision
    }

    /// The key that tokens are signed with; `None` as long as users have not been in use.
    #[must_use]
    pub fn token_key(&self) -> Option<&TokenKey> {
        self.settings.key.as_ref()
    }

    /// The users, by name.
    #[must_use]
    pub fn users(&self) -> &BTreeMap<String, User> {
        &self.users
    }

    /// The roles, by name.
    #[must_use]
    pub fn roles(&self) -> &BTreeMap<String, Role> {
        &self.roles
    }

    /// Takes a change over (invariant 2).
    pub(crate) fn take(&mut self, note: &AuthNote) {
        match note {
            AuthNote::Settings(settings) => {
                assert!(self.settings.revision <= settings.revision, "auth invariant 1");
                self.settings = *settings;
            }
            AuthNote::User(name, user) => {
                self.users.insert(name.clone(), user.clone());
                self.grant(name);
            }
            AuthNote::UserGone(name) => {
                self.users.remove(name);
                self.granted.remove(name);
            }
            AuthNote::Role(name, role) => {
                self.roles.insert(name.clone(), role.clone());
                self.grant_all_with(name);
            }
            AuthNote::RoleGone(name) => {
                self.roles.remove(name);
                self.grant_all_with(name);
            }
        }
    }

    fn grant_all_with(&mut self, role: &str) {
        let with = self.users.iter().filter(|(_, user)| user.roles.contains(role));
        let names: Vec<String> = with.map(|(name, _)| name.clone()).collect();
        names.iter().for_each(|name| self.grant(name));
    }

    fn grant(&mut self, name: &str) {
        let Some(user) = self.users.get(name).filter(|user| !user.roles.is_empty()) else {
            self.granted.remove(name);
            return;
        };
        let roles = user.roles.iter().filter_map(|role| self.roles.get(role));
        let permissions: Vec<&Permission> = roles.flat_map(|role| &role.permissions).collect();
        let spans = |not: PermissionKind| {
            let of_kind = permissions.iter().filter(|permission| permission.kind != not);
            Spans::of(of_kind.map(|permission| (&permission.key, &permission.range_end)))
        };
        let granted =
            Granted { read: spans(PermissionKind::Write), write: spans(PermissionKind::Read) };
        self.granted.insert(name.to_owned(), granted);
    }
}

impl User {
    /// Whether the user may do everything.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.roles.contains(ROOT_ROLE)
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "PasswordHash(none)" } else { "PasswordHash(***)" })
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey(***)")
    }
}
