//! Users as they should be: who may do what, as plain as can be.
//!
//! Responsible for what changes of users, roles and permissions mean, and for judging a range of keys.
//! Written from etcd's rules, and shares no code with `jangada_kv::auth`: permissions stand in lists as
//! they were granted, and a range is covered if one can walk through it from grant to grant. Not
//! responsible for which parts of a request are judged ([`super::model`]).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use jangada_server::errors::ApiError;
use jangada_server::grpc::methods::Method;
use jangada_server::proto::authpb;
use jangada_server::proto::etcdserverpb as pb;
use prost::Message;

use super::model::contains;
use crate::choices::Choices;

/// The user who has to be there before users come into use, and the role that may do everything.
pub const ROOT: &str = "root";

/// The other users and the roles: few, so that they come and go.
const NAMES: [&str; 2] = ["ann", "bob"];
const ROLES: [&str; 2] = ["readers", "writers"];

/// What is granted and taken.
const RANGES: [(&[u8], &[u8]); 6] = [
    (b"key-", b"key."),
    (b"key-00", b"key-10"),
    (b"key-10", b"key-20"),
    (b"\0", b"\0"),
    (b"a", b"d"),
    (b"key-01", b""),
];

/// A change that an administrator asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "each is the request of its name")]
pub enum Change {
    Enable,
    Disable,
    UserAdd(String),
    UserDelete(String),
    UserGrantRole(String, String),
    UserRevokeRole(String, String),
    RoleAdd(String),
    RoleDelete(String),
    RoleGrant(String, Grant),
    RoleRevoke(String, Bytes, Bytes),
}

/// A permission as it was granted.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Grant {
    /// The first key.
    pub key: Bytes,
    /// The end, as requests name it.
    pub range_end: Bytes,
    /// 0 for reading, 1 for writing, 2 for both.
    pub kind: i32,
}

/// Who asks: a name, empty for nobody's, and the auth revision that he is judged by.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Caller {
    /// The name.
    pub name: String,
    /// The auth revision; 0 for nobody's.
    pub revision: u64,
}

/// What is needed of who asks before a request is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Needs {
    /// To say who he is.
    Known,
    /// The role `root`.
    Root,
}

/// The users, their roles and whether they are in use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Users {
    /// Whether they are in use.
    pub enabled: bool,
    /// The auth revision.
    pub revision: u64,
    /// The roles of each user.
    pub users: BTreeMap<String, BTreeSet<String>>,
    /// What each role permits.
    pub roles: BTreeMap<String, BTreeSet<Grant>>,
}

impl Default for Users {
    fn default() -> Users {
        Users { enabled: false, revision: 1, users: BTreeMap::new(), roles: BTreeMap::new() }
    }
}

impl Caller {
    fn is_nobody(&self) -> bool {
        self.name.is_empty() || self.revision == 0
    }
}

impl Users {
    /// Somebody of this name, or nobody, as a member that stands here knows him.
    #[must_use]
    pub fn caller(&self, name: Option<&str>) -> Caller {
        name.map_or(Caller::default(), |name| Caller {
            name: name.to_owned(),
            revision: self.revision,
        })
    }

    /// Whether somebody is what he has to be.
    ///
    /// # Errors
    /// As the API's.
    pub fn check(&self, caller: &Caller, needs: Needs) -> Result<(), ApiError> {
        match needs {
            _ if !self.enabled => Ok(()),
            _ if caller.is_nobody() => Err(ApiError::UserEmpty),
            Needs::Known => Ok(()),
            Needs::Root => match self.users.get(&caller.name) {
                None => Err(ApiError::UserNotFound),
                Some(roles) if roles.contains(ROOT) => Ok(()),
                Some(_) => Err(ApiError::PermissionDenied),
            },
        }
    }

    /// Whether somebody may read a range, or write it.
    ///
    /// # Errors
    /// As the API's.
    pub fn check_range(
        &self,
        caller: &Caller,
        writes: bool,
        key: &Bytes,
        range_end: &Bytes,
    ) -> Result<(), ApiError> {
        if !self.enabled {
            return Ok(());
        }
        if caller.is_nobody() {
            return Err(ApiError::UserEmpty);
        }
        if caller.revision < self.revision {
            return Err(ApiError::AuthOldRevision);
        }
        let roles = self.users.get(&caller.name).ok_or(ApiError::PermissionDenied)?;
        let grants = roles.iter().filter_map(|role| self.roles.get(role)).flatten();
        let other = i32::from(!writes);
        let grants: Vec<&Grant> = grants.filter(|grant| grant.kind != other).collect();
        let may = roles.contains(ROOT) || covers(&grants, key, range_end);
        if may { Ok(()) } else { Err(ApiError::PermissionDenied) }
    }

    /// Makes a change, of somebody who may.
    ///
    /// # Errors
    /// As the API's; nothing has changed.
    pub fn change(&mut self, change: &Change) -> Result<(), ApiError> {
        let known = |there: bool, error| if there { Ok(()) } else { Err(error) };
        let changed = match change {
            Change::Enable if self.enabled => false,
            Change::Enable => {
                let root = self.users.get(ROOT).ok_or(ApiError::RootUserNotExist)?;
                known(root.contains(ROOT), ApiError::RootRoleNotExist)?;
                // The auth revision stays.
                self.enabled = true;
                false
            }
            Change::Disable => std::mem::take(&mut self.enabled),
            Change::UserAdd(name) => {
                known(!self.users.contains_key(name), ApiError::UserAlreadyExists)?;
                self.users.insert(name.clone(), BTreeSet::new());
                true
            }
            Change::UserDelete(name) => {
                known(!self.enabled || name != ROOT, ApiError::InvalidAuthManagement)?;
                self.users.remove(name).ok_or(ApiError::UserNotFound)?;
                true
            }
            Change::UserGrantRole(name, role) => {
                let there = role == ROOT || self.roles.contains_key(role);
                let roles = self.users.get_mut(name).ok_or(ApiError::UserNotFound)?;
                known(there, ApiError::RoleNotFound)?;
                roles.insert(role.clone())
            }
            Change::UserRevokeRole(name, role) => {
                let needed = self.enabled && name == ROOT && role == ROOT;
                known(!needed, ApiError::InvalidAuthManagement)?;
                let roles = self.users.get_mut(name).ok_or(ApiError::UserNotFound)?;
                known(roles.remove(role), ApiError::RoleNotGranted)?;
                true
            }
            Change::RoleAdd(role) => {
                known(!self.roles.contains_key(role), ApiError::RoleAlreadyExists)?;
                self.roles.insert(role.clone(), BTreeSet::new());
                true
            }
            Change::RoleDelete(role) => {
                self.roles.remove(role).ok_or(ApiError::RoleNotFound)?;
                for roles in self.users.values_mut() {
                    roles.remove(role);
                }
                true
            }
            Change::RoleGrant(role, grant) => {
                let grants = self.roles.get_mut(role).ok_or(ApiError::RoleNotFound)?;
                grants.retain(|other| !other.is_of(&grant.key, &grant.range_end));
                grants.insert(grant.clone());
                true
            }
            Change::RoleRevoke(role, key, range_end) => {
                let grants = self.roles.get_mut(role).ok_or(ApiError::RoleNotFound)?;
                let before = grants.len();
                grants.retain(|grant| !grant.is_of(key, range_end));
                known(grants.len() < before, ApiError::PermissionNotGranted)?;
                true
            }
        };
        self.revision += u64::from(changed);
        Ok(())
    }
}

impl Grant {
    fn is_of(&self, key: &Bytes, range_end: &Bytes) -> bool {
        self.key == *key && self.range_end == *range_end
    }

    /// The key behind its last; `None` if it has no end.
    fn behind(&self) -> Option<Bytes> {
        match self.range_end.as_ref() {
            b"" => Some([&self.key[..], b"\0"].concat().into()),
            b"\0" => None,
            _ => Some(self.range_end.clone()),
        }
    }
}

/// Whether every key of a range is in some grant. A range that holds none counts as its first key.
fn covers(grants: &[&Grant], key: &Bytes, range_end: &Bytes) -> bool {
    let holds = |at: &Bytes| -> Vec<&&Grant> {
        grants.iter().filter(|grant| contains(&grant.key, &grant.range_end, at)).collect()
    };
    let open = range_end.as_ref() == b"\0";
    if !open && range_end <= key {
        return !holds(key).is_empty();
    }
    let mut at = key.clone();
    loop {
        let mut behind = Vec::new();
        for grant in holds(&at) {
            let Some(end) = grant.behind() else { return true };
            behind.push(end);
        }
        let Some(furthest) = behind.into_iter().max() else { return false };
        if !open && *range_end <= furthest {
            return true;
        }
        at = furthest;
    }
}

impl Change {
    /// The method that asks for it.
    #[must_use]
    pub fn method(&self) -> Method {
        match self {
            Change::Enable => Method::AuthEnable,
            Change::Disable => Method::AuthDisable,
            Change::UserAdd(_) => Method::UserAdd,
            Change::UserDelete(_) => Method::UserDelete,
            Change::UserGrantRole(..) => Method::UserGrantRole,
            Change::UserRevokeRole(..) => Method::UserRevokeRole,
            Change::RoleAdd(_) => Method::RoleAdd,
            Change::RoleDelete(_) => Method::RoleDelete,
            Change::RoleGrant(..) => Method::RoleGrantPermission,
            Change::RoleRevoke(..) => Method::RoleRevokePermission,
        }
    }

    /// The message's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self.clone() {
            Change::Enable | Change::Disable => Vec::new(),
            Change::UserAdd(name) => {
                let options = Some(authpb::UserAddOptions { no_password: true });
                pb::AuthUserAddRequest { name, options, ..Default::default() }.encode_to_vec()
            }
            Change::UserDelete(name) => pb::AuthUserDeleteRequest { name }.encode_to_vec(),
            Change::UserGrantRole(user, role) => {
                pb::AuthUserGrantRoleRequest { user, role }.encode_to_vec()
            }
            Change::UserRevokeRole(name, role) => {
                pb::AuthUserRevokeRoleRequest { name, role }.encode_to_vec()
            }
            Change::RoleAdd(name) => pb::AuthRoleAddRequest { name }.encode_to_vec(),
            Change::RoleDelete(role) => pb::AuthRoleDeleteRequest { role }.encode_to_vec(),
            Change::RoleGrant(name, Grant { key, range_end, kind }) => {
                let perm = Some(authpb::Permission { perm_type: kind, key, range_end });
                pb::AuthRoleGrantPermissionRequest { name, perm }.encode_to_vec()
            }
            Change::RoleRevoke(role, key, range_end) => {
                pb::AuthRoleRevokePermissionRequest { role, key, range_end }.encode_to_vec()
            }
        }
    }

    /// What has to be asked for before users can be in use, in order.
    #[must_use]
    pub fn first() -> Vec<Change> {
        let own = str::to_owned;
        let ([ann, bob], [readers, writers]) = (NAMES, ROLES);
        vec![
            Change::UserAdd(own(ROOT)),
            Change::UserGrantRole(own(ROOT), own(ROOT)),
            Change::UserAdd(own(ann)),
            Change::UserAdd(own(bob)),
            Change::RoleAdd(own(readers)),
            Change::RoleAdd(own(writers)),
            Change::RoleGrant(own(readers), grant(RANGES[3], 0)),
            Change::RoleGrant(own(writers), grant(RANGES[0], 2)),
            Change::UserGrantRole(own(ann), own(writers)),
            Change::UserGrantRole(own(bob), own(readers)),
            Change::Enable,
        ]
    }

    /// Any change.
    #[must_use]
    pub fn draw(choices: &mut Choices) -> Change {
        let anybody = |choices: &mut Choices| match choices.below(12) {
            0 => ROOT.to_owned(),
            _ => (*choices.pick(&NAMES)).to_owned(),
        };
        let role = (*choices.pick(&ROLES)).to_owned();
        let range = *choices.pick(&RANGES);
        match choices.below(20) {
            0 => Change::Disable,
            1..4 => Change::Enable,
            4 | 5 => Change::UserAdd(anybody(choices)),
            6 => Change::UserDelete(anybody(choices)),
            7 => Change::UserGrantRole(ROOT.to_owned(), ROOT.to_owned()),
            8 | 9 => Change::UserGrantRole(anybody(choices), role),
            10 => Change::UserRevokeRole(anybody(choices), role),
            11 => Change::UserRevokeRole(anybody(choices), ROOT.to_owned()),
            12 | 13 => Change::RoleAdd(role),
            14 => Change::RoleDelete(role),
            15..18 => Change::RoleGrant(role, grant(range, choices.below(3) as i32)),
            _ => {
                let (key, end) = range;
                Change::RoleRevoke(role, Bytes::from_static(key), Bytes::from_static(end))
            }
        }
    }
}

fn grant((key, end): (&'static [u8], &'static [u8]), kind: i32) -> Grant {
    let (key, range_end) = (Bytes::from_static(key), Bytes::from_static(end));
    Grant { key, range_end, kind }
}

/// Who asks at a client's place: mostly one who may do everything.
#[must_use]
pub fn at_place(place: u64) -> Option<&'static str> {
    match place % 10 {
        0..6 => Some(ROOT),
        6 | 7 => Some(NAMES[0]),
        8 => Some(NAMES[1]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covered(grants: &[(&'static [u8], &'static [u8])], key: &[u8], end: &[u8]) -> bool {
        let grants: Vec<Grant> = grants.iter().map(|range| grant(*range, 0)).collect();
        let grants: Vec<&Grant> = grants.iter().collect();
        covers(&grants, &Bytes::copy_from_slice(key), &Bytes::copy_from_slice(end))
    }

    #[test]
    fn a_range_is_covered_from_grant_to_grant() {
        assert!(covered(&[(b"a", b"c"), (b"c", b""), (b"c\0", b"f")], b"b", b"e"));
        assert!(!covered(&[(b"a", b"c"), (b"c\0", b"f")], b"b", b"e"));
        assert!(covered(&[(b"a", b"\0")], b"b", b"\0"));
        assert!(!covered(&[(b"a", b"z")], b"b", b"\0"));
        assert!(covered(&[(b"a", b"z")], b"b", b"a"));
        assert!(!covered(&[], b"b", b""));
    }

    #[test]
    fn who_may_do_what_follows_from_the_changes() {
        let mut users = Users::default();
        let (key, none) = (Bytes::from_static(b"key-05"), Bytes::new());
        for change in Change::first() {
            assert_eq!(users.check_range(&Caller::default(), true, &key, &none), Ok(()));
            users.change(&change).expect("they go in this order");
        }
        let check = |users: &Users, name, writes| {
            users.check_range(&users.caller(name), writes, &key, &none)
        };
        assert_eq!(check(&users, None, false), Err(ApiError::UserEmpty));
        assert_eq!(check(&users, Some("ann"), true), Ok(()));
        assert_eq!(check(&users, Some("bob"), true), Err(ApiError::PermissionDenied));
        assert_eq!(check(&users, Some("bob"), false), Ok(()));
        let early = users.caller(Some(ROOT));
        users.change(&Change::RoleDelete("writers".to_owned())).expect("it is there");
        assert_eq!(check(&users, Some("ann"), true), Err(ApiError::PermissionDenied));
        assert_eq!(users.check_range(&early, true, &key, &none), Err(ApiError::AuthOldRevision));
        assert_eq!(users.check(&early, Needs::Root), Ok(()));
    }
}
