//! The methods of the API, served or not.
//!
//! Responsible for their names and kinds: how a path becomes a method. Each has a place in
//! [`METHODS`], by which its counts are found without a search.

/// How requests and answers flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// One request, one answer.
    Unary,
    /// One request, many answers.
    ServerStream,
    /// Many of both.
    Bidirectional,
}

/// A method: its place in [`METHODS`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(usize)]
#[allow(missing_docs, reason = "each is named as the method it is")]
pub enum Method {
    Range,
    Put,
    DeleteRange,
    Txn,
    Compact,
    RangeStream,
    Watch,
    LeaseGrant,
    LeaseRevoke,
    LeaseKeepAlive,
    LeaseTimeToLive,
    LeaseLeases,
    MemberAdd,
    MemberRemove,
    MemberUpdate,
    MemberList,
    MemberPromote,
    Alarm,
    Status,
    Defragment,
    Hash,
    HashKv,
    Snapshot,
    MoveLeader,
    Downgrade,
    AuthEnable,
    AuthDisable,
    AuthStatus,
    Authenticate,
    UserAdd,
    UserGet,
    UserList,
    UserDelete,
    UserChangePassword,
    UserGrantRole,
    UserRevokeRole,
    RoleAdd,
    RoleGet,
    RoleList,
    RoleDelete,
    RoleGrantPermission,
    RoleRevokePermission,
    Lock,
    Unlock,
    Campaign,
    Proclaim,
    Leader,
    Observe,
    Resign,
    HealthCheck,
    HealthWatch,
}

/// What is known of a method.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// The method.
    pub method: Method,
    /// The service's full name.
    pub service: &'static str,
    /// The method's name.
    pub name: &'static str,
    /// How messages flow.
    pub flow: Flow,
}

const KV: &str = "etcdserverpb.KV";
const WATCH: &str = "etcdserverpb.Watch";
const LEASE: &str = "etcdserverpb.Lease";
const CLUSTER: &str = "etcdserverpb.Cluster";
const MAINTENANCE: &str = "etcdserverpb.Maintenance";
const AUTH: &str = "etcdserverpb.Auth";
const LOCK: &str = "v3lockpb.Lock";
const ELECTION: &str = "v3electionpb.Election";
const HEALTH: &str = "grpc.health.v1.Health";

const fn row(method: Method, service: &'static str, name: &'static str, flow: Flow) -> Description {
    Description { method, service, name, flow }
}

/// Every method, in the order of [`Method`].
pub const METHODS: [Description; 51] = {
    use Flow::{Bidirectional, ServerStream, Unary};
    use Method as M;
    [
        row(M::Range, KV, "Range", Unary),
        row(M::Put, KV, "Put", Unary),
        row(M::DeleteRange, KV, "DeleteRange", Unary),
        row(M::Txn, KV, "Txn", Unary),
        row(M::Compact, KV, "Compact", Unary),
        row(M::RangeStream, KV, "RangeStream", ServerStream),
        row(M::Watch, WATCH, "Watch", Bidirectional),
        row(M::LeaseGrant, LEASE, "LeaseGrant", Unary),
        row(M::LeaseRevoke, LEASE, "LeaseRevoke", Unary),
        row(M::LeaseKeepAlive, LEASE, "LeaseKeepAlive", Bidirectional),
        row(M::LeaseTimeToLive, LEASE, "LeaseTimeToLive", Unary),
        row(M::LeaseLeases, LEASE, "LeaseLeases", Unary),
        row(M::MemberAdd, CLUSTER, "MemberAdd", Unary),
        row(M::MemberRemove, CLUSTER, "MemberRemove", Unary),
        row(M::MemberUpdate, CLUSTER, "MemberUpdate", Unary),
        row(M::MemberList, CLUSTER, "MemberList", Unary),
        row(M::MemberPromote, CLUSTER, "MemberPromote", Unary),
        row(M::Alarm, MAINTENANCE, "Alarm", Unary),
        row(M::Status, MAINTENANCE, "Status", Unary),
        row(M::Defragment, MAINTENANCE, "Defragment", Unary),
        row(M::Hash, MAINTENANCE, "Hash", Unary),
        row(M::HashKv, MAINTENANCE, "HashKV", Unary),
        row(M::Snapshot, MAINTENANCE, "Snapshot", ServerStream),
        row(M::MoveLeader, MAINTENANCE, "MoveLeader", Unary),
        row(M::Downgrade, MAINTENANCE, "Downgrade", Unary),
        row(M::AuthEnable, AUTH, "AuthEnable", Unary),
        row(M::AuthDisable, AUTH, "AuthDisable", Unary),
        row(M::AuthStatus, AUTH, "AuthStatus", Unary),
        row(M::Authenticate, AUTH, "Authenticate", Unary),
        row(M::UserAdd, AUTH, "UserAdd", Unary),
        row(M::UserGet, AUTH, "UserGet", Unary),
        row(M::UserList, AUTH, "UserList", Unary),
        row(M::UserDelete, AUTH, "UserDelete", Unary),
        row(M::UserChangePassword, AUTH, "UserChangePassword", Unary),
        row(M::UserGrantRole, AUTH, "UserGrantRole", Unary),
        row(M::UserRevokeRole, AUTH, "UserRevokeRole", Unary),
        row(M::RoleAdd, AUTH, "RoleAdd", Unary),
        row(M::RoleGet, AUTH, "RoleGet", Unary),
        row(M::RoleList, AUTH, "RoleList", Unary),
        row(M::RoleDelete, AUTH, "RoleDelete", Unary),
        row(M::RoleGrantPermission, AUTH, "RoleGrantPermission", Unary),
        row(M::RoleRevokePermission, AUTH, "RoleRevokePermission", Unary),
        row(M::Lock, LOCK, "Lock", Unary),
        row(M::Unlock, LOCK, "Unlock", Unary),
        row(M::Campaign, ELECTION, "Campaign", Unary),
        row(M::Proclaim, ELECTION, "Proclaim", Unary),
        row(M::Leader, ELECTION, "Leader", Unary),
        row(M::Observe, ELECTION, "Observe", ServerStream),
        row(M::Resign, ELECTION, "Resign", Unary),
        row(M::HealthCheck, HEALTH, "Check", Unary),
        row(M::HealthWatch, HEALTH, "Watch", ServerStream),
    ]
};

impl Method {
    /// The method of a path `/service/name`.
    ///
    /// # Errors
    /// A sentence for the client that names what is not known.
    pub fn of_path(path: &str) -> Result<Method, String> {
        // The two hot ones before the search.
        match path {
            "/etcdserverpb.KV/Put" => return Ok(Method::Put),
            "/etcdserverpb.KV/Range" => return Ok(Method::Range),
            _ => {}
        }
        let Some((service, name)) = path.strip_prefix('/').and_then(|path| path.rsplit_once('/'))
        else {
            return Err(format!("malformed method name: {path:?}"));
        };
        let mut known = METHODS.iter().filter(|row| row.service == service).peekable();
        if known.peek().is_none() {
            return Err(format!("unknown service {service}"));
        }
        match known.find(|row| row.name == name) {
            Some(row) => Ok(row.method),
            None => Err(format!("unknown method {name} for service {service}")),
        }
    }

    /// The method's place in [`METHODS`].
    #[must_use]
    pub fn place(self) -> usize {
        self as usize
    }

    /// What is known of it.
    #[must_use]
    pub fn description(self) -> &'static Description {
        &METHODS[self.place()]
    }
}

impl Description {
    /// The labels of its counts: service, method, type.
    #[must_use]
    pub fn labels(&self) -> [(&'static str, &'static str); 3] {
        let kind = match self.flow {
            Flow::Unary => "unary",
            Flow::ServerStream => "server_stream",
            Flow::Bidirectional => "bidi_stream",
        };
        [("grpc_service", self.service), ("grpc_method", self.name), ("grpc_type", kind)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_stands_at_its_place_and_is_found_by_its_path() {
        for (place, row) in METHODS.iter().enumerate() {
            assert_eq!(row.method.place(), place, "{}", row.name);
            let path = format!("/{}/{}", row.service, row.name);
            assert_eq!(Method::of_path(&path), Ok(row.method));
        }
        assert_eq!(Method::HealthWatch.place() + 1, METHODS.len());
    }

    #[test]
    fn what_is_not_known_is_named() {
        let error = |path: &str| Method::of_path(path).expect_err("the path is unknown");
        assert_eq!(error("/a.B/C"), "unknown service a.B");
        assert_eq!(error("/etcdserverpb.KV/Fly"), "unknown method Fly for service etcdserverpb.KV");
        assert_eq!(error("Put"), "malformed method name: \"Put\"");
    }
}
