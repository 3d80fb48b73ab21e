//! The words of `auth`, `user` and `role`, and of who asks.

use std::ffi::OsString;

use clap::{Args, Subcommand, ValueEnum};

/// On whose behalf a cluster is asked.
#[derive(Args, Clone, Default)]
pub(crate) struct Login {
    /// The user to ask as, as NAME or NAME:PASSWORD; without a password it is asked for [also:
    /// JANGADA_USER, ETCDCTL_USER]
    #[arg(long, global = true)]
    user: Option<String>,
    /// The password of --user, which then may hold a colon [also: JANGADA_PASSWORD,
    /// ETCDCTL_PASSWORD]
    #[arg(long, global = true)]
    password: Option<String>,
    /// Whether variables say nothing here: they are about another cluster.
    #[arg(skip)]
    is_alone: bool,
}

/// A password is not to be printed.
impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Login(user given: {})", self.user.is_some())
    }
}

impl Login {
    /// What these options say, and no variable.
    pub(crate) fn alone(user: Option<String>, password: Option<String>) -> Login {
        Login { user, password, is_alone: true }
    }

    /// The user's name and password, once they are [complete](Login::complete).
    pub(crate) fn user(&self) -> Option<(String, String)> {
        let (name, password) = self.given()?;
        Some((name, password.unwrap_or_default()))
    }

    /// Asks for the password of a user who is named without one.
    pub(crate) fn complete<E>(
        &mut self,
        ask: impl FnOnce(&str) -> Result<String, E>,
    ) -> Result<(), E> {
        if let Some((name, None)) = self.given() {
            self.password = Some(ask("Password: ")?);
            self.user = Some(name);
        }
        Ok(())
    }

    /// The user's name, and the password if it was given: by a flag or else by a variable.
    fn given(&self) -> Option<(String, Option<String>)> {
        let variable = |names: [&str; 2]| {
            let names = names.iter().filter(|_| !self.is_alone);
            names.filter_map(|name| std::env::var(name).ok()).find(|value| !value.is_empty())
        };
        let flag = self.user.clone().filter(|user| !user.is_empty());
        let user = flag.or_else(|| variable(["JANGADA_USER", "ETCDCTL_USER"]))?;
        let password =
            self.password.clone().or_else(|| variable(["JANGADA_PASSWORD", "ETCDCTL_PASSWORD"]));
        Some(match (password, user.split_once(':')) {
            (Some(password), _) => (user, Some(password)),
            (None, Some((name, password))) => (name.to_owned(), Some(password.to_owned())),
            (None, None) => (user, None),
        })
    }
}

/// The commands of `auth`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Auth {
    #[command(subcommand)]
    pub(crate) command: AuthCommand,
}

/// What can be done with authentication.
#[derive(Subcommand, Clone, Copy, Debug)]
pub(crate) enum AuthCommand {
    /// Ask everybody who he is from now on; there must be a user root.
    #[command(after_help = "\
Example:
  jangada user add root
  jangada auth enable

The user root is given the role root if he does not have it.")]
    Enable,
    /// Let everybody do everything again.
    #[command(after_help = "\
Example:
  jangada --user root auth disable")]
    Disable,
    /// Show whether users are in use, and the auth revision.
    #[command(after_help = "\
Example:
  jangada --user root auth status")]
    Status,
}

/// The commands of `user`.
#[derive(Args, Clone, Debug)]
pub(crate) struct User {
    #[command(subcommand)]
    pub(crate) command: UserCommand,
}

/// What can be done with users.
#[derive(Subcommand, Clone, Debug)]
pub(crate) enum UserCommand {
    /// Add a user; the password is asked for.
    #[command(after_help = "\
Examples:
  jangada user add alice
  jangada user add alice:secret
  echo secret | jangada user add alice --interactive=false
  jangada user add alice --no-password      known by a client certificate alone")]
    Add(UserAdd),
    /// Remove a user.
    #[command(after_help = "\
Example:
  jangada user delete alice")]
    Delete(UserName),
    /// Show the roles of a user.
    #[command(after_help = "\
Example:
  jangada user get alice")]
    Get(UserGet),
    /// List the users.
    #[command(after_help = "\
Example:
  jangada user list")]
    List,
    /// Give a user another password; it is asked for.
    #[command(after_help = "\
Examples:
  jangada user passwd alice
  echo secret | jangada user passwd alice --interactive=false")]
    Passwd(Passwd),
    /// Give a user a role.
    #[command(after_help = "\
Example:
  jangada user grant-role alice reader")]
    GrantRole(UserRole),
    /// Take a role from a user.
    #[command(after_help = "\
Example:
  jangada user revoke-role alice reader")]
    RevokeRole(UserRole),
}

/// Options of `user add`.
#[derive(Args, Clone)]
pub(crate) struct UserAdd {
    /// The user's name, and the password if it is no secret
    #[arg(value_name = "NAME[:PASSWORD]")]
    pub(crate) name: String,
    /// The password
    #[arg(long)]
    pub(crate) new_user_password: Option<String>,
    /// Ask for the password twice; otherwise the standard input's first line is it
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = true,
        default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) interactive: bool,
    /// Add a user without a password
    #[arg(long)]
    pub(crate) no_password: bool,
}

/// A password is not to be printed.
impl std::fmt::Debug for UserAdd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.name.split(':').next().unwrap_or_default();
        write!(f, "UserAdd({name}, no password: {})", self.no_password)
    }
}

/// Names a user.
#[derive(Args, Clone, Debug)]
pub(crate) struct UserName {
    /// The user
    pub(crate) name: String,
}

/// Options of `user get`.
#[derive(Args, Clone, Debug)]
pub(crate) struct UserGet {
    /// The user
    pub(crate) name: String,
    /// Show what the user's roles permit, too
    #[arg(long)]
    pub(crate) detail: bool,
}

/// Options of `user passwd`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Passwd {
    /// The user
    pub(crate) name: String,
    /// Ask for the password twice; otherwise the standard input's first line is it
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = true,
        default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) interactive: bool,
}

/// Names a user and a role.
#[derive(Args, Clone, Debug)]
pub(crate) struct UserRole {
    /// The user
    pub(crate) name: String,
    /// The role
    pub(crate) role: String,
}

/// The commands of `role`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Role {
    #[command(subcommand)]
    pub(crate) command: RoleCommand,
}

/// What can be done with roles.
#[derive(Subcommand, Clone, Debug)]
pub(crate) enum RoleCommand {
    /// Add a role, which permits nothing yet.
    #[command(after_help = "\
Example:
  jangada role add reader")]
    Add(RoleName),
    /// Remove a role, also from the users who have it.
    #[command(after_help = "\
Example:
  jangada role delete reader")]
    Delete(RoleName),
    /// Show what a role permits.
    #[command(after_help = "\
Example:
  jangada role get reader")]
    Get(RoleName),
    /// List the roles.
    #[command(after_help = "\
Example:
  jangada role list")]
    List,
    /// Permit something to a role.
    #[command(after_help = "\
Examples:
  jangada role grant-permission reader read config/ --prefix
  jangada role grant-permission writer readwrite a m
  jangada role grant-permission all readwrite '' --prefix")]
    GrantPermission(GrantPermission),
    /// Take a permission from a role, named by its range as it was granted.
    #[command(after_help = "\
Example:
  jangada role revoke-permission reader config/ --prefix")]
    RevokePermission(RevokePermission),
}

/// Names a role.
#[derive(Args, Clone, Debug)]
pub(crate) struct RoleName {
    /// The role
    pub(crate) role: String,
}

/// What may be done with keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum PermissionKind {
    /// Reading them.
    Read,
    /// Writing and deleting them.
    Write,
    /// Both.
    #[value(name = "readwrite")]
    ReadWrite,
}

/// Options of `role grant-permission`.
#[derive(Args, Clone, Debug)]
pub(crate) struct GrantPermission {
    /// The role
    pub(crate) role: String,
    /// What may be done
    #[arg(value_enum, ignore_case = true)]
    pub(crate) kind: PermissionKind,
    #[command(flatten)]
    pub(crate) keys: PermittedKeys,
}

/// Options of `role revoke-permission`.
#[derive(Args, Clone, Debug)]
pub(crate) struct RevokePermission {
    /// The role
    pub(crate) role: String,
    #[command(flatten)]
    pub(crate) keys: PermittedKeys,
}

/// The keys of a permission.
#[derive(Args, Clone, Debug)]
pub(crate) struct PermittedKeys {
    /// The key, or the first one of a range
    pub(crate) key: OsString,
    /// One past the last key of the range
    pub(crate) range_end: Option<OsString>,
    /// All keys that begin with the key
    #[arg(long)]
    pub(crate) prefix: bool,
    /// All keys from the key on
    #[arg(long)]
    pub(crate) from_key: bool,
}
