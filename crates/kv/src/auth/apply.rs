//! What the commands about users mean: etcd's checks, in its order, and its auth revision.

use bytes::Bytes;

use super::{
    AUTH_NAMES_MAX, AuthCommand, AuthNote, PasswordHash, Permission, ROLE_PERMISSIONS_MAX,
    ROOT_ROLE, ROOT_USER, Role, Settings, TokenKey, User,
};
use crate::KvError;
use crate::interval::Interval;
use crate::store::{Changes, Store};

/// What a command changes: nothing if it is empty, and then the auth revision stays.
type Notes = Result<Vec<AuthNote>, KvError>;

impl Store {
    /// Applies one command about users.
    pub(crate) fn apply_auth(
        &mut self,
        changes: &mut Changes,
        command: AuthCommand,
    ) -> Result<(), KvError> {
        let settings = self.auth().settings;
        let notes = match command {
            AuthCommand::Enable { key } => self.enable(key),
            AuthCommand::Disable if !settings.enabled => Ok(Vec::new()),
            AuthCommand::Disable => Ok(vec![raised(Settings { enabled: false, ..settings })]),
            AuthCommand::UserAdd { name, password, no_password } => {
                self.user_add(name, password, no_password)
            }
            AuthCommand::UserDelete { name } => self.user_delete(name),
            AuthCommand::UserChangePassword { name, password } => {
                self.user_change_password(name, password)
            }
            AuthCommand::UserGrantRole { name, role } => self.user_grant_role(name, role),
            AuthCommand::UserRevokeRole { name, role } => self.user_revoke_role(name, &role),
            AuthCommand::RoleAdd { role } => self.role_add(role),
            AuthCommand::RoleDelete { role } => self.role_delete(role),
            AuthCommand::RoleGrantPermission { role, permission } => {
                self.role_grant_permission(role, permission)
            }
            AuthCommand::RoleRevokePermission { role, key, range_end } => {
                self.role_revoke_permission(role, &key, &range_end)
            }
        };
        for note in notes? {
            changes.digest.mix(note.digest());
            self.change_auth(note);
        }
        Ok(())
    }

    /// etcd leaves the revision as it is. The key is a new one each time, so that no token of an
    /// earlier time is good for anything.
    fn enable(&self, key: TokenKey) -> Notes {
        let settings = self.auth().settings;
        if settings.enabled && settings.key.is_some() {
            return Ok(Vec::new());
        }
        let root = self.auth().users.get(ROOT_USER).ok_or(KvError::RootUserNotExist)?;
        if !root.is_root() {
            return Err(KvError::RootRoleNotExist);
        }
        Ok(vec![AuthNote::Settings(Settings { enabled: true, key: Some(key), ..settings })])
    }

    fn user_add(&self, name: String, password: PasswordHash, no_password: bool) -> Notes {
        let users = &self.auth().users;
        if name.is_empty() {
            return Err(KvError::UserEmpty);
        }
        if users.contains_key(&name) {
            return Err(KvError::UserAlreadyExists);
        }
        if AUTH_NAMES_MAX <= users.len() {
            return Err(KvError::NoSpace);
        }
        let password = if no_password { PasswordHash::default() } else { password };
        let generation = self.next_auth_revision();
        let user = User { password, no_password, generation, ..User::default() };
        self.noted(AuthNote::User(name, user))
    }

    fn user_delete(&self, name: String) -> Notes {
        if self.auth().is_enabled() && name == ROOT_USER {
            return Err(KvError::InvalidAuthManagement);
        }
        self.user(&name)?;
        self.noted(AuthNote::UserGone(name))
    }

    fn user_change_password(&self, name: String, password: PasswordHash) -> Notes {
        let mut user = self.user(&name)?.clone();
        if !user.no_password {
            user.password = password;
        }
        user.generation = self.next_auth_revision();
        self.noted(AuthNote::User(name, user))
    }

    /// The role `root` need not exist as one. Granted twice it is a change only once.
    fn user_grant_role(&self, name: String, role: String) -> Notes {
        let mut user = self.user(&name)?.clone();
        if role != ROOT_ROLE {
            self.role(&role)?;
        }
        if !user.roles.insert(role) {
            return Ok(Vec::new());
        }
        self.noted(AuthNote::User(name, user))
    }

    fn user_revoke_role(&self, name: String, role: &str) -> Notes {
        if self.auth().is_enabled() && name == ROOT_USER && role == ROOT_ROLE {
            return Err(KvError::InvalidAuthManagement);
        }
        let mut user = self.user(&name)?.clone();
        if !user.roles.remove(role) {
            return Err(KvError::RoleNotGranted);
        }
        self.noted(AuthNote::User(name, user))
    }

    fn role_add(&self, role: String) -> Notes {
        let roles = &self.auth().roles;
        if role.is_empty() {
            return Err(KvError::RoleEmpty);
        }
        if roles.contains_key(&role) {
            return Err(KvError::RoleAlreadyExists);
        }
        if AUTH_NAMES_MAX <= roles.len() {
            return Err(KvError::NoSpace);
        }
        self.noted(AuthNote::Role(role, Role::default()))
    }

    fn role_delete(&self, role: String) -> Notes {
        if self.auth().is_enabled() && role == ROOT_ROLE {
            return Err(KvError::InvalidAuthManagement);
        }
        self.role(&role)?;
        let mut notes = Vec::new();
        for (name, user) in self.auth().users.iter().filter(|(_, user)| user.roles.contains(&role))
        {
            let mut user = user.clone();
            user.roles.remove(&role);
            notes.push(AuthNote::User(name.clone(), user));
        }
        notes.push(AuthNote::RoleGone(role));
        notes.push(raised(self.auth().settings));
        Ok(notes)
    }

    /// A range that has a permission gets another one. etcd looks for it only at the first range with
    /// that key, so that a second one may keep what was to be taken from it.
    fn role_grant_permission(&self, role: String, permission: Permission) -> Notes {
        let Permission { key, range_end, .. } = &permission;
        let holds_none = matches!(Interval::new(key, range_end), Interval::Empty);
        if key.is_empty() || holds_none {
            return Err(KvError::InvalidAuthManagement);
        }
        let mut changed = self.role(&role)?.clone();
        let permissions = &mut changed.permissions;
        let same = |other: &&mut Permission| other.key == *key && other.range_end == *range_end;
        if let Some(present) = permissions.iter_mut().find(same) {
            present.kind = permission.kind;
        } else if ROLE_PERMISSIONS_MAX <= permissions.len() {
            return Err(KvError::NoSpace);
        } else {
            let at = permissions.partition_point(|other| other.key <= *key);
            permissions.insert(at, permission);
        }
        self.noted(AuthNote::Role(role, changed))
    }

    fn role_revoke_permission(&self, role: String, key: &Bytes, range_end: &Bytes) -> Notes {
        let mut changed = self.role(&role)?.clone();
        let before = changed.permissions.len();
        changed.permissions.retain(|other| other.key != *key || other.range_end != *range_end);
        if changed.permissions.len() == before {
            return Err(KvError::PermissionNotGranted);
        }
        self.noted(AuthNote::Role(role, changed))
    }

    fn user(&self, name: &str) -> Result<&User, KvError> {
        self.auth().users.get(name).ok_or(KvError::UserNotFound)
    }

    fn role(&self, role: &str) -> Result<&Role, KvError> {
        self.auth().roles.get(role).ok_or(KvError::RoleNotFound)
    }

    fn next_auth_revision(&self) -> u64 {
        self.auth().revision() + 1
    }

    /// One changed row, and the auth revision that it makes.
    fn noted(&self, note: AuthNote) -> Notes {
        Ok(vec![note, raised(self.auth().settings)])
    }
}

/// The settings at the next auth revision (auth invariant 1).
fn raised(settings: Settings) -> AuthNote {
    AuthNote::Settings(Settings { revision: settings.revision + 1, ..settings })
}
