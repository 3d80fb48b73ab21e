//! Which path stands for which method.

use crate::grpc::methods::Method;

/// Every path, in the order of etcd's own list.
pub(crate) const PATHS: &[(&str, Method)] = &[
    ("/v3/kv/range", Method::Range),
    ("/v3/kv/put", Method::Put),
    ("/v3/kv/deleterange", Method::DeleteRange),
    ("/v3/kv/txn", Method::Txn),
    ("/v3/kv/compaction", Method::Compact),
    ("/v3/watch", Method::Watch),
    ("/v3/lease/grant", Method::LeaseGrant),
    ("/v3/lease/revoke", Method::LeaseRevoke),
    ("/v3/kv/lease/revoke", Method::LeaseRevoke),
    ("/v3/lease/keepalive", Method::LeaseKeepAlive),
    ("/v3/lease/timetolive", Method::LeaseTimeToLive),
    ("/v3/kv/lease/timetolive", Method::LeaseTimeToLive),
    ("/v3/lease/leases", Method::LeaseLeases),
    ("/v3/kv/lease/leases", Method::LeaseLeases),
    ("/v3/cluster/member/add", Method::MemberAdd),
    ("/v3/cluster/member/remove", Method::MemberRemove),
    ("/v3/cluster/member/update", Method::MemberUpdate),
    ("/v3/cluster/member/list", Method::MemberList),
    ("/v3/cluster/member/promote", Method::MemberPromote),
    ("/v3/maintenance/alarm", Method::Alarm),
    ("/v3/maintenance/status", Method::Status),
    ("/v3/maintenance/defragment", Method::Defragment),
    ("/v3/maintenance/hash", Method::Hash),
    ("/v3/maintenance/hashkv", Method::HashKv),
    ("/v3/maintenance/snapshot", Method::Snapshot),
    ("/v3/maintenance/transfer-leadership", Method::MoveLeader),
    ("/v3/maintenance/downgrade", Method::Downgrade),
    ("/v3/auth/enable", Method::AuthEnable),
    ("/v3/auth/disable", Method::AuthDisable),
    ("/v3/auth/status", Method::AuthStatus),
    ("/v3/auth/authenticate", Method::Authenticate),
    ("/v3/auth/user/add", Method::UserAdd),
    ("/v3/auth/user/get", Method::UserGet),
    ("/v3/auth/user/list", Method::UserList),
    ("/v3/auth/user/delete", Method::UserDelete),
    ("/v3/auth/user/changepw", Method::UserChangePassword),
    ("/v3/auth/user/grant", Method::UserGrantRole),
    ("/v3/auth/user/revoke", Method::UserRevokeRole),
    ("/v3/auth/role/add", Method::RoleAdd),
    ("/v3/auth/role/get", Method::RoleGet),
    ("/v3/auth/role/list", Method::RoleList),
    ("/v3/auth/role/delete", Method::RoleDelete),
    ("/v3/auth/role/grant", Method::RoleGrantPermission),
    ("/v3/auth/role/revoke", Method::RoleRevokePermission),
    ("/v3/lock/lock", Method::Lock),
    ("/v3/lock/unlock", Method::Unlock),
    ("/v3/election/campaign", Method::Campaign),
    ("/v3/election/proclaim", Method::Proclaim),
    ("/v3/election/leader", Method::Leader),
    ("/v3/election/observe", Method::Observe),
    ("/v3/election/resign", Method::Resign),
];

/// The method of a path; `/v3beta/` is another name of `/v3/`, as in etcd.
pub(super) fn method_of(path: &str) -> Option<Method> {
    let rest = path.strip_prefix("/v3/").or_else(|| path.strip_prefix("/v3beta/"))?;
    let found = PATHS.iter().find(|(path, _)| path.strip_prefix("/v3/") == Some(rest));
    found.map(|(_, method)| *method)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::grpc::methods::METHODS;

    #[test]
    fn every_method_but_two_kinds_has_a_path_and_every_path_one_method() {
        let paths: BTreeSet<_> = PATHS.iter().map(|(path, _)| *path).collect();
        assert_eq!(paths.len(), PATHS.len());
        let offered: BTreeSet<_> = PATHS.iter().map(|(_, method)| method.place()).collect();
        let missing = METHODS.iter().filter(|row| !offered.contains(&row.method.place()));
        let missing: Vec<_> = missing.map(|row| row.name).collect();
        // As in etcd: the stream of a range is for gRPC alone, and health has paths of its own.
        assert_eq!(missing, ["RangeStream", "Check", "Watch"]);
    }

    #[test]
    fn the_former_name_of_the_api_leads_there_too() {
        assert_eq!(method_of("/v3beta/kv/put"), Some(Method::Put));
        assert_eq!(method_of("/v3/kv/put"), Some(Method::Put));
        assert_eq!(method_of("/v3alpha/kv/put"), None);
        assert_eq!(method_of("/v3/kv/put/"), None);
    }
}
