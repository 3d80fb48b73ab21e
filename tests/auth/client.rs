//! Requests about users and keys as a few words, and whoever sends them.

use jangada_server::proto::authpb::{Permission, permission::Type};
use jangada_server::proto::etcdserverpb as pb;
use pb::auth_client::AuthClient;
use pb::cluster_client::ClusterClient;
use pb::kv_client::KvClient;
use pb::maintenance_client::MaintenanceClient;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

/// A request: its kind and its words. A password is the user's name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Request(Vec<String>);

impl Request {
    pub(crate) fn of(line: &str) -> Request {
        Request(line.split(' ').map(str::to_owned).collect())
    }

    /// Anything, among few names and keys, so that most of it means something.
    pub(crate) fn random(dice: &mut fastrand::Rng) -> Request {
        let mut pick = |from: &[&str]| from[dice.usize(..from.len())].to_owned();
        let user = pick(&["u1", "u1", "u2", "u2", "u3", "ghost", "root", ""]);
        let role = pick(&["r1", "r1", "r2", "r2", "r3", "none", "root"]);
        let key = pick(&["a", "b", "c", "d", "e"]);
        // One end for each key: etcd treats two permissions of one first key in a way of its own.
        let permitted = pick(&["a c", "b", "c e", "d END", "e f"]);
        let range = pick(&["", "", "b", "c", "d", "f", "END"]);
        let kind = pick(&["read", "write", "readwrite"]);
        let line = match pick(&[
            "user-add",
            "user-delete",
            "grant-role",
            "grant-role",
            "revoke-role",
            "role-add",
            "role-delete",
            "grant",
            "grant",
            "revoke",
            "user-get",
            "user-list",
            "role-get",
            "role-list",
            "put",
            "put",
            "put-prev",
            "get",
            "get",
            "get-stale",
            "del",
            "del-prev",
            "txn",
            "txn",
            "txn-nested",
            "txn-read",
            "compact",
            "status",
            "enable",
            "passwd",
            "members",
            "hash-kv",
        ])
        .as_str()
        {
            name @ ("user-add" | "user-delete" | "user-get" | "passwd") => format!("{name} {user}"),
            name @ ("grant-role" | "revoke-role") => format!("{name} {user} {role}"),
            name @ ("role-add" | "role-delete" | "role-get") => format!("{name} {role}"),
            "grant" => format!("grant {role} {kind} {permitted}"),
            "revoke" => format!("revoke {role} {permitted}"),
            name @ ("put" | "put-prev") => format!("{name} {key}"),
            name @ ("get" | "get-stale" | "del" | "del-prev" | "txn" | "txn-nested"
            | "txn-read") => {
                format!("{name} {key} {range}")
            }
            name => name.to_owned(),
        };
        Request::of(&line)
    }

    fn word(&self, at: usize) -> String {
        self.0.get(at).cloned().unwrap_or_default()
    }

    fn bytes(&self, at: usize) -> bytes::Bytes {
        match self.word(at).as_str() {
            "END" => bytes::Bytes::from_static(b"\0"),
            word => bytes::Bytes::copy_from_slice(word.as_bytes()),
        }
    }
}

/// Whoever asks one member.
#[derive(Clone)]
pub(crate) struct Asker {
    channel: Channel,
}

impl Asker {
    pub(crate) fn new(url: &str) -> Asker {
        let endpoint = Endpoint::from_shared(url.to_owned()).expect("a URL that this test made");
        Asker { channel: endpoint.connect_lazy() }
    }

    /// A token for a user whose password is his name.
    pub(crate) async fn login(&mut self, user: &str) -> Result<String, Status> {
        let request = pb::AuthenticateRequest { name: user.to_owned(), password: user.to_owned() };
        let answer = AuthClient::new(self.channel.clone()).authenticate(request).await?;
        Ok(answer.into_inner().token)
    }

    /// Asks; the answer is what two clusters must have in common.
    pub(crate) async fn ask(
        &mut self,
        request: &Request,
        token: Option<&str>,
    ) -> Result<String, Status> {
        let mut auth = AuthClient::new(self.channel.clone());
        let mut kv = KvClient::new(self.channel.clone());
        macro_rules! call {
            ($client:ident.$method:ident($message:expr)) => {{
                let mut asked = tonic::Request::new($message);
                if let Some(token) = token {
                    let value = token.parse().expect("a token is a header");
                    asked.metadata_mut().insert("token", value);
                }
                let mut answer = $client.$method(asked).await?.into_inner();
                let revision = answer.header.take().map_or(0, |header| header.revision);
                Ok(format!("{revision} {answer:?}"))
            }};
        }
        let (one, two) = (request.word(1), request.word(2));
        match request.0[0].as_str() {
            "enable" => call!(auth.auth_enable(pb::AuthEnableRequest {})),
            "status" => call!(auth.auth_status(pb::AuthStatusRequest {})),
            "user-add" => {
                let (name, password) = (one.clone(), one);
                let message = pb::AuthUserAddRequest { name, password, ..Default::default() };
                call!(auth.user_add(message))
            }
            "passwd" => {
                let (name, password) = (one.clone(), one);
                let message =
                    pb::AuthUserChangePasswordRequest { name, password, ..Default::default() };
                call!(auth.user_change_password(message))
            }
            "user-delete" => call!(auth.user_delete(pb::AuthUserDeleteRequest { name: one })),
            "user-get" => call!(auth.user_get(pb::AuthUserGetRequest { name: one })),
            "user-list" => call!(auth.user_list(pb::AuthUserListRequest {})),
            "grant-role" => {
                call!(auth.user_grant_role(pb::AuthUserGrantRoleRequest { user: one, role: two }))
            }
            "revoke-role" => {
                let message = pb::AuthUserRevokeRoleRequest { name: one, role: two };
                call!(auth.user_revoke_role(message))
            }
            "role-add" => call!(auth.role_add(pb::AuthRoleAddRequest { name: one })),
            "role-delete" => call!(auth.role_delete(pb::AuthRoleDeleteRequest { role: one })),
            "role-get" => call!(auth.role_get(pb::AuthRoleGetRequest { role: one })),
            "role-list" => call!(auth.role_list(pb::AuthRoleListRequest {})),
            "grant" => {
                let kind = match two.as_str() {
                    "read" => Type::Read,
                    "write" => Type::Write,
                    _ => Type::Readwrite,
                };
                let (key, range_end) = (request.bytes(3), request.bytes(4));
                let perm = Some(Permission { perm_type: kind as i32, key, range_end });
                let message = pb::AuthRoleGrantPermissionRequest { name: one, perm };
                call!(auth.role_grant_permission(message))
            }
            "revoke" => {
                let (key, range_end) = (request.bytes(2), request.bytes(3));
                let message = pb::AuthRoleRevokePermissionRequest { role: one, key, range_end };
                call!(auth.role_revoke_permission(message))
            }
            "put" => call!(kv.put(put(request, false))),
            "put-prev" => call!(kv.put(put(request, true))),
            "get" => call!(kv.range(range(request, false))),
            "get-stale" => call!(kv.range(range(request, true))),
            "del" => call!(kv.delete_range(delete(request, false))),
            "del-prev" => call!(kv.delete_range(delete(request, true))),
            "compact" => {
                let message = pb::CompactionRequest { revision: 1 << 40, physical: false };
                call!(kv.compact(message))
            }
            "members" => {
                let mut cluster = ClusterClient::new(self.channel.clone());
                let mut asked = tonic::Request::new(pb::MemberRemoveRequest { id: 4711 });
                if let Some(token) = token {
                    let value = token.parse().expect("a token is a header");
                    asked.metadata_mut().insert("token", value);
                }
                cluster.member_remove(asked).await.map(|_| "removed".to_owned())
            }
            "hash-kv" => {
                let mut maintenance = MaintenanceClient::new(self.channel.clone());
                call!(maintenance.hash_kv(pb::HashKvRequest { revision: 1 << 40 }))
            }
            name => call!(kv.txn(txn(name, request))),
        }
    }
}

fn put(request: &Request, prev_kv: bool) -> pb::PutRequest {
    let (key, value) = (request.bytes(1), bytes::Bytes::from_static(b"v"));
    pb::PutRequest { key, value, prev_kv, ..Default::default() }
}

fn range(request: &Request, serializable: bool) -> pb::RangeRequest {
    let (key, range_end) = (request.bytes(1), request.bytes(2));
    pb::RangeRequest { key, range_end, serializable, ..Default::default() }
}

fn delete(request: &Request, prev_kv: bool) -> pb::DeleteRangeRequest {
    let (key, range_end) = (request.bytes(1), request.bytes(2));
    pb::DeleteRangeRequest { key, range_end, prev_kv }
}

fn txn(name: &str, request: &Request) -> pb::TxnRequest {
    use pb::request_op::Request as Op;
    let op = |op| pb::RequestOp { request: Some(op) };
    let compare = pb::Compare {
        key: request.bytes(1),
        result: pb::compare::CompareResult::Greater as i32,
        target: pb::compare::CompareTarget::Version as i32,
        target_union: Some(pb::compare::TargetUnion::Version(0)),
        ..Default::default()
    };
    let reads = op(Op::RequestRange(range(request, false)));
    let writes = op(Op::RequestPut(put(request, false)));
    match name {
        "txn-read" => pb::TxnRequest { compare: vec![], success: vec![reads], failure: vec![] },
        "txn" => {
            pb::TxnRequest { compare: vec![compare], success: vec![reads], failure: vec![writes] }
        }
        "txn-nested" => {
            let inner = pb::TxnRequest { success: vec![writes], ..Default::default() };
            let inner = op(Op::RequestTxn(inner));
            pb::TxnRequest { compare: vec![], success: vec![], failure: vec![inner] }
        }
        other => panic!("{other} is no request"),
    }
}

/// Why answers differ, where that is known and meant.
pub(crate) fn known(
    version: &str,
    request: &Request,
    expected: &str,
    found: &str,
) -> Option<&'static str> {
    let kind = request.0[0].as_str();
    let before_3_6 = version.starts_with("3.4") || version.starts_with("3.5");
    let denied = found.contains("permission denied")
        || found.contains("user name is empty")
        || found.contains("user name not found");
    // Compaction is for root since 3.6.
    if kind == "compact" && before_3_6 && denied && expected.contains("future revision") {
        return Some("compaction is for root");
    }
    // A nested transaction was not judged before CVE-2026-33343 was mended.
    if kind == "txn-nested" && denied && !expected.starts_with("refused") {
        return Some("nested transactions are judged");
    }
    if kind == "hash-kv" && before_3_6 && denied && expected.contains("Unknown auth: ") {
        return Some("refusals of maintenance have a code");
    }
    // etcd lets everybody see himself, and takes who has not logged in for the user of no name.
    if kind == "user-get"
        && request.word(1).is_empty()
        && found.ends_with("user name is empty")
        && expected.ends_with("user name not found")
    {
        return Some("the user of no name is nobody");
    }
    let unknown = expected.contains("unknown method") || expected.contains("Unimplemented");
    if kind == "role-get" && request.word(1) == "root" && before_3_6 && found.contains("key: b\"\"")
    {
        return Some("the role root permits everything, whatever was granted to it");
    }
    if kind == "status" && version.starts_with("3.4") && unknown {
        return Some("3.4 has no AuthStatus");
    }
    if kind == "status" && before_3_6 && denied && !expected.starts_with("refused") {
        return Some("AuthStatus is for root");
    }
    None
}
