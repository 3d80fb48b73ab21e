//! Users and roles that come from elsewhere, as from a snapshot of etcd's.
//!
//! Responsible for what a state must be to be taken. Not responsible for where it comes from.

use std::collections::BTreeMap;

use super::{
    AUTH_NAMES_MAX, Auth, AuthNote, ROLE_PERMISSIONS_MAX, ROOT_USER, Role, Settings, TokenKey, User,
};

/// Users, roles and what stands beside them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AuthParts {
    /// Whether users are in use.
    pub enabled: bool,
    /// The auth revision; what is below the first one counts as that.
    pub revision: u64,
    /// The key that tokens are signed with. A state whose users are in use may lack it: then a member
    /// draws one with the first login.
    pub key: Option<TokenKey>,
    /// The users, by name.
    pub users: BTreeMap<String, User>,
    /// The roles, by name.
    pub roles: BTreeMap<String, Role>,
}

impl Auth {
    /// The state that these make.
    ///
    /// # Errors
    /// What is missing or too much, as a sentence.
    pub fn of_parts(parts: AuthParts) -> Result<Auth, &'static str> {
        let AuthParts { enabled, revision, key, users, roles } = parts;
        if AUTH_NAMES_MAX < users.len().max(roles.len()) {
            return Err("there are too many users or roles");
        }
        if roles.values().any(|role| ROLE_PERMISSIONS_MAX < role.permissions.len()) {
            return Err("a role has too many permissions");
        }
        let has_root = users.get(ROOT_USER).is_some_and(User::is_root);
        if enabled && !has_root {
            return Err("users are in use, and there is no user root with the role root"); // auth invariant 3
        }
        let mut auth = Auth::default();
        let revision = revision.max(auth.revision());
        auth.take(&AuthNote::Settings(Settings { enabled, revision, key }));
        for (name, role) in roles {
            auth.take(&AuthNote::Role(name, role));
        }
        for (name, user) in users {
            auth.take(&AuthNote::User(name, user));
        }
        Ok(auth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_in_use_need_root() {
        let key = Some(TokenKey([1; super::super::TOKEN_KEY_BYTES]));
        let root = User { roles: ["root".to_owned()].into(), ..User::default() };
        let users = BTreeMap::from([("root".to_owned(), root)]);
        let parts = AuthParts { enabled: true, revision: 7, key, users, ..AuthParts::default() };
        let auth = Auth::of_parts(parts.clone()).expect("root is there");
        assert_eq!((auth.is_enabled(), auth.revision(), auth.users().len()), (true, 7, 1));
        let bad = AuthParts { users: BTreeMap::new(), ..parts };
        assert!(Auth::of_parts(bad.clone()).is_err(), "{bad:?}");
        let unused = AuthParts { enabled: false, ..bad };
        assert!(Auth::of_parts(unused).is_ok(), "as long as they are not in use");
    }
}
