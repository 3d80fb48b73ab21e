//! The Auth service, and what users, roles and tokens do to every other one.

use jangada_kv::{AlarmAction, AlarmKind, Command};
use jangada_server::auth::{AuthSettings, TokenSettings};
use jangada_server::errors::ApiError as E;
use jangada_server::proto::authpb::{Permission, UserAddOptions, permission::Type};
use jangada_server::proto::etcdserverpb as pb;
use jangada_server::{Edge, Metrics, Settings};
use pb::auth_client::AuthClient;
use pb::cluster_client::ClusterClient;
use pb::kv_client::KvClient;
use pb::maintenance_client::MaintenanceClient;
use std::sync::Arc;
use std::time::Duration;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use crate::support::{Server, assert_refused, bytes};
use crate::watch_support::{Watching, on};

/// Hashes that take no time.
fn settings() -> Settings {
    let auth = AuthSettings { bcrypt_cost: 4, ..AuthSettings::default() };
    Settings { auth, ..Settings::default() }
}

/// Somebody who talks to a server, with a token or without.
#[derive(Clone)]
struct Client {
    channel: Channel,
    header: &'static str,
    token: Option<String>,
}

type Answer<T> = Result<Response<T>, Status>;

impl Client {
    async fn of(server: &Server) -> Client {
        Client { channel: server.channel().await, header: "token", token: None }
    }

    fn with(&self, token: impl Into<String>) -> Client {
        Client { token: Some(token.into()), ..self.clone() }
    }

    async fn login(&self, name: &str, password: &str) -> Answer<pb::AuthenticateResponse> {
        let (name, password) = (name.to_owned(), password.to_owned());
        let request = pb::AuthenticateRequest { name, password };
        AuthClient::new(self.channel.clone()).authenticate(request).await
    }

    /// The same client, as a user whose password is his name.
    async fn log_in(&self, name: &str) -> Client {
        let answer = self.login(name, name).await.expect("the password is right");
        self.with(answer.into_inner().token)
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            let value = MetadataValue::try_from(&token[..]).expect("it is a header");
            request.metadata_mut().insert(self.header, value);
        }
        request
    }

    async fn put(&self, key: &str) -> Answer<pb::PutResponse> {
        let request = pb::PutRequest { key: bytes(key), ..Default::default() };
        KvClient::new(self.channel.clone()).put(self.request(request)).await
    }

    async fn get(&self, key: &str, range_end: &str) -> Answer<pb::RangeResponse> {
        let (key, range_end) = (bytes(key), bytes(range_end));
        let request = pb::RangeRequest { key, range_end, ..Default::default() };
        KvClient::new(self.channel.clone()).range(self.request(request)).await
    }

    async fn run(&self, line: &str) -> Answer<pb::AuthEnableResponse> {
        let words: Vec<&str> = line.split(' ').collect();
        let word = |at: usize| words.get(at).copied().unwrap_or_default().to_owned();
        let mut auth = AuthClient::new(self.channel.clone());
        macro_rules! call {
            ($method:ident, $request:expr) => {
                auth.$method(self.request($request)).await.map(|answer| {
                    let header = answer.into_inner().header;
                    Response::new(pb::AuthEnableResponse { header })
                })
            };
        }
        match words[0] {
            "enable" => call!(auth_enable, pb::AuthEnableRequest {}),
            "disable" => call!(auth_disable, pb::AuthDisableRequest {}),
            "user-add" => call!(
                user_add,
                pb::AuthUserAddRequest { name: word(1), password: word(1), ..Default::default() }
            ),
            "user-add-bare" => {
                let options = Some(UserAddOptions { no_password: true });
                let name = word(1);
                call!(user_add, pb::AuthUserAddRequest { name, options, ..Default::default() })
            }
            "user-delete" => call!(user_delete, pb::AuthUserDeleteRequest { name: word(1) }),
            "passwd" => {
                let (name, password) = (word(1), word(2));
                let request =
                    pb::AuthUserChangePasswordRequest { name, password, ..Default::default() };
                call!(user_change_password, request)
            }
            "grant-role" => {
                let request = pb::AuthUserGrantRoleRequest { user: word(1), role: word(2) };
                call!(user_grant_role, request)
            }
            "revoke-role" => {
                let request = pb::AuthUserRevokeRoleRequest { name: word(1), role: word(2) };
                call!(user_revoke_role, request)
            }
            "role-add" => call!(role_add, pb::AuthRoleAddRequest { name: word(1) }),
            "role-delete" => call!(role_delete, pb::AuthRoleDeleteRequest { role: word(1) }),
            "grant" => {
                let perm = Permission {
                    perm_type: Type::Readwrite as i32,
                    key: bytes(&word(2)),
                    range_end: bytes(&word(3)),
                };
                let request =
                    pb::AuthRoleGrantPermissionRequest { name: word(1), perm: Some(perm) };
                call!(role_grant_permission, request)
            }
            "grant-nothing" => {
                let request = pb::AuthRoleGrantPermissionRequest { name: word(1), perm: None };
                call!(role_grant_permission, request)
            }
            "revoke" => {
                let (key, range_end) = (bytes(&word(2)), bytes(&word(3)));
                let request = pb::AuthRoleRevokePermissionRequest { role: word(1), key, range_end };
                call!(role_revoke_permission, request)
            }
            other => panic!("{other} is no call"),
        }
    }

    async fn run_all(&self, lines: &[&str]) {
        for line in lines {
            self.run(line).await.unwrap_or_else(|status| panic!("{line}: {status}"));
        }
    }

    async fn status(&self) -> Answer<pb::AuthStatusResponse> {
        let request = self.request(pb::AuthStatusRequest {});
        AuthClient::new(self.channel.clone()).auth_status(request).await
    }

    async fn user(&self, name: &str) -> Answer<pb::AuthUserGetResponse> {
        let request = self.request(pb::AuthUserGetRequest { name: name.to_owned() });
        AuthClient::new(self.channel.clone()).user_get(request).await
    }

    async fn role(&self, role: &str) -> Answer<pb::AuthRoleGetResponse> {
        let request = self.request(pb::AuthRoleGetRequest { role: role.to_owned() });
        AuthClient::new(self.channel.clone()).role_get(request).await
    }
}

const USERS: &[&str] = &[
    "user-add root",
    "grant-role root root",
    "role-add reads",
    "grant reads a c",
    "user-add u",
    "grant-role u reads",
    "user-add-bare bare",
];

/// A server whose users are in use, a client without a token, root and the user u, who may do what he
/// likes with [a, c).
async fn enabled() -> (Server, Client, Client, Client) {
    let server = Server::with(settings()).await;
    let nobody = Client::of(&server).await;
    nobody.run_all(USERS).await;
    nobody.run("enable").await.expect("root is there");
    let (root, user) = (nobody.log_in("root").await, nobody.log_in("u").await);
    (server, nobody, root, user)
}

#[tokio::test]
async fn users_and_roles_are_kept_while_they_are_not_in_use() {
    let server = Server::with(settings()).await;
    let client = Client::of(&server).await;
    assert_refused(client.run("enable").await, E::RootUserNotExist);
    assert_refused(client.login("u", "u").await, E::AuthNotEnabled);
    client.run_all(USERS).await;
    for (line, error) in [
        ("user-add u", E::UserAlreadyExists),
        ("user-add ", E::UserEmpty),
        ("user-delete ghost", E::UserNotFound),
        ("grant-role u ghost", E::RoleNotFound),
        ("revoke-role u root", E::RoleNotGranted),
        ("role-add reads", E::RoleAlreadyExists),
        ("role-add ", E::RoleEmpty),
        ("role-delete ghost", E::RoleNotFound),
        ("grant reads b a", E::InvalidAuthManagement),
        ("grant-nothing reads", E::PermissionNotGiven),
        ("revoke reads x y", E::PermissionNotGranted),
    ] {
        assert_refused(client.run(line).await, error);
    }
    let status = client.status().await.expect("nobody needs a name").into_inner();
    assert_eq!((status.enabled, status.auth_revision), (false, 1 + 7));
    assert_eq!(status.header.expect("there is one").revision, 1);
    let mut service = AuthClient::new(client.channel.clone());
    let listed = service.user_list(pb::AuthUserListRequest {}).await;
    let listed = listed.expect("nobody needs a name").into_inner();
    assert_eq!(listed.users, ["bare", "root", "u"]);
    assert_eq!(client.user("u").await.expect("u is there").into_inner().roles, ["reads"]);
    let role = client.role("reads").await.expect("reads is there").into_inner();
    let [permission] = &role.perm[..] else { panic!("{:?} is more than one", role.perm) };
    assert_eq!((&permission.key[..], &permission.range_end[..]), (&b"a"[..], &b"c"[..]));
    client.run("role-add root").await.expect("it is a name as any");
    let root = client.role("root").await.expect("root is there").into_inner();
    assert_eq!((&root.perm[0].key[..], &root.perm[0].range_end[..]), (&b""[..], &b"\0"[..]));
}

#[tokio::test]
async fn a_request_is_judged_by_its_token() {
    let (_server, nobody, root, user) = enabled().await;
    let refused = |answer| assert_refused::<pb::PutResponse>(answer, E::PermissionDenied);
    assert_refused(nobody.put("a").await, E::UserEmpty);
    assert_refused(nobody.get("a", "").await, E::UserEmpty);
    assert_refused(nobody.with("nonsense").put("a").await, E::InvalidAuthToken);
    assert_refused(nobody.with("nonsense").get("a", "").await, E::InvalidAuthToken);
    user.put("a").await.expect("u may");
    user.get("a", "c").await.expect("u may");
    refused(user.put("c").await);
    assert_refused(user.get("a", "d").await, E::PermissionDenied);
    root.put("c").await.expect("root may do everything");
    root.get("\0", "\0").await.expect("root may do everything");

    let token = user.token.clone().expect("u has one");
    let gateway = Client { header: "authorization", ..user.clone() };
    gateway.put("a").await.expect("the gateway's header does as well");
    gateway.with(format!("Bearer {token}")).put("a").await.expect("and with the scheme");

    // What is granted and taken counts at once.
    root.run_all(&["role-add more", "grant more c"]).await;
    refused(user.put("c").await);
    root.run("grant-role u more").await.expect("root may");
    user.put("c").await.expect("u may by now");
    root.run("role-delete more").await.expect("root may");
    refused(user.put("c").await);
}

#[tokio::test]
async fn every_service_asks_who_it_is() {
    let (server, nobody, root, user) = enabled().await;
    let compact = |client: &Client| {
        let request = client.request(pb::CompactionRequest { revision: 99, physical: false });
        let mut kv = KvClient::new(client.channel.clone());
        async move { kv.compact(request).await }
    };
    let alarm = |client: &Client, action| {
        let request = client.request(pb::AlarmRequest { action, member_id: 7, alarm: 1 });
        let mut maintenance = MaintenanceClient::new(client.channel.clone());
        async move { maintenance.alarm(request).await }
    };
    let status = |client: &Client| {
        let request = client.request(pb::StatusRequest {});
        let mut maintenance = MaintenanceClient::new(client.channel.clone());
        async move { maintenance.status(request).await }
    };
    let members = |client: &Client| {
        let request = client.request(pb::MemberListRequest { linearizable: true });
        let mut cluster = ClusterClient::new(client.channel.clone());
        async move { cluster.member_list(request).await }
    };
    let remove = |client: &Client| {
        let request = client.request(pb::MemberRemoveRequest { id: 4711 });
        let mut cluster = ClusterClient::new(client.channel.clone());
        async move { cluster.member_remove(request).await }
    };
    for (client, known, for_root) in [
        (&nobody, Some(E::UserEmpty), Some(E::UserEmpty)),
        (&nobody.with("x"), Some(E::InvalidAuthToken), Some(E::InvalidAuthToken)),
        (&user, None, Some(E::PermissionDenied)),
        (&root, None, None),
    ] {
        for answer in
            [status(client).await.err(), members(client).await.err(), alarm(client, 0).await.err()]
        {
            assert_eq!(answer.as_ref().map(Status::message), known.map(E::text));
        }
        let expected = |done: E| Some(for_root.unwrap_or(done).text());
        assert_eq!(
            compact(client).await.err().as_ref().map(Status::message),
            expected(E::FutureRevision)
        );
        assert_eq!(
            remove(client).await.err().as_ref().map(Status::message),
            expected(E::MemberNotFound)
        );
        for action in [1, 2] {
            let answer = alarm(client, action).await.err();
            assert_eq!(answer.as_ref().map(Status::message), for_root.map(E::text));
        }
        let answer = client.run("role-add x").await.err();
        assert_eq!(answer.as_ref().map(Status::message), for_root.map(E::text));
        let answer = client.run("user-add x").await.err();
        assert_eq!(answer.as_ref().map(Status::message), for_root.map(E::text));
        assert_eq!(
            client.status().await.err().as_ref().map(Status::message),
            for_root.map(E::text)
        );
    }
    // What a member does on its own account needs nobody's permission.
    let (action, kind) = (AlarmAction::Activate, AlarmKind::NoSpace);
    let reply = server.fake.apply(&Command::Alarm { action, member: 1, kind });
    assert!(reply.result.is_ok());
}

#[tokio::test]
async fn users_see_themselves_and_their_roles() {
    let (_server, nobody, root, user) = enabled().await;
    assert_eq!(user.user("u").await.expect("himself").into_inner().roles, ["reads"]);
    assert!(user.role("reads").await.is_ok());
    assert_refused(user.user("root").await, E::PermissionDenied);
    assert_refused(user.role("root").await, E::PermissionDenied);
    assert_refused(nobody.user("u").await, E::UserEmpty);
    assert!(root.user("u").await.is_ok() && root.role("reads").await.is_ok());
    assert_refused(root.user("ghost").await, E::UserNotFound);
    assert_refused(root.role("ghost").await, E::RoleNotFound);
}

#[tokio::test]
async fn a_login_needs_the_password() {
    let (_server, nobody, root, user) = enabled().await;
    assert_refused(nobody.login("u", "wrong").await, E::AuthFailed);
    assert_refused(nobody.login("ghost", "").await, E::AuthFailed);
    let bare = nobody.login("bare", "").await.expect_err("he has none");
    assert_eq!(bare.code(), Code::Unknown);
    assert!(bare.message().contains("password was given for no password user"));

    root.run("passwd u other").await.expect("root may");
    assert_refused(user.put("a").await, E::InvalidAuthToken);
    assert_refused(nobody.login("u", "u").await, E::AuthFailed);
    let answer = nobody.login("u", "other").await.expect("it is the new one").into_inner();
    nobody.with(answer.token).put("a").await.expect("u may");
    let long = pb::AuthUserAddRequest {
        name: "long".to_owned(),
        password: "x".repeat(73),
        ..Default::default()
    };
    let refused = AuthClient::new(root.channel.clone()).user_add(root.request(long)).await;
    assert_eq!(refused.expect_err("bcrypt would cut it").code(), Code::Unknown);
}

#[tokio::test]
async fn a_token_ends_when_it_is_not_used() {
    let (server, _nobody, _root, user) = enabled().await;
    let pass = |ms| server.fake.script(|script| script.time_ms += ms);
    for _ in 0..3 {
        pass(200_000);
        user.put("a").await.expect("it was used a short while ago");
    }
    pass(300_001);
    assert_refused(user.put("a").await, E::InvalidAuthToken);
}

#[tokio::test]
async fn another_member_over_the_same_state_takes_a_token() {
    let (server, _nobody, _root, user) = enabled().await;
    let edge = Edge::new(server.fake.clone(), settings(), Arc::new(Metrics::default()));
    let token = user.token.clone().expect("u has one");
    let mut metadata = http::HeaderMap::new();
    metadata.insert("token", token.parse().expect("it is a header"));
    let put = pb::PutRequest { key: bytes("a"), ..Default::default() };
    let message = bytes::Bytes::from(prost::Message::encode_to_vec(&put));
    let method = jangada_server::grpc::methods::Method::Put;
    let answer = edge.answer_message(method, &metadata, message).await;
    assert!(answer.is_ok(), "{answer:?}");
}

#[tokio::test]
async fn out_of_use_nobody_is_asked_and_a_second_use_takes_no_old_token() {
    let (_server, nobody, root, user) = enabled().await;
    assert_refused(nobody.run("disable").await, E::UserEmpty);
    assert_refused(user.run("disable").await, E::PermissionDenied);
    root.run("disable").await.expect("root may");
    nobody.put("z").await.expect("nobody is asked");
    nobody.with("nonsense").put("z").await.expect("nor looked at");
    nobody.run("enable").await.expect("root is there");
    assert_refused(root.put("z").await, E::InvalidAuthToken);
    nobody.log_in("root").await.put("z").await.expect("with a new one");
}

#[tokio::test]
async fn a_token_of_an_older_auth_revision_is_told_so() {
    let folder = tempfile::tempdir().expect("a folder is made");
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "of these tests").expect("the folder can be written");
    let options = format!("sign-method=HS256,priv-key={},ttl=10m", secret.display());
    let jwt = jangada_server::auth::Jwt::of_options(&options).expect("the options are good");
    let auth = AuthSettings { tokens: TokenSettings::Jwt(jwt), ..settings().auth };
    let server = Server::with(Settings { auth, ..settings() }).await;
    let nobody = Client::of(&server).await;
    nobody.run_all(USERS).await;
    nobody.run("enable").await.expect("root is there");
    let (root, user) = (nobody.log_in("root").await, nobody.log_in("u").await);
    user.put("a").await.expect("u may");
    root.run("role-add later").await.expect("root may");
    assert_refused(user.put("a").await, E::AuthOldRevision);
    assert_refused(user.get("a", "").await, E::AuthOldRevision);
    root.run("role-delete later").await.expect("what is root's is not judged by the revision");
    nobody.log_in("u").await.put("a").await.expect("with a new one");
    assert_refused(nobody.with("a.b.c").put("a").await, E::InvalidAuthToken);
}

#[test]
fn settings_hold_no_secret_in_print() {
    let printed = format!("{:?}", settings().auth.tokens);
    assert_eq!(printed, format!("Simple {{ ttl: {:?} }}", Duration::from_secs(300)));
}

#[tokio::test]
async fn a_watcher_needs_the_permission_to_read_its_range() {
    let (server, _nobody, root, user) = enabled().await;
    let refused =
        |code: &str, error: E| format!("rpc error: code = {code} desc = {}", error.text());
    let denied = refused("PermissionDenied", E::PermissionDenied);
    for (token, key, range_end, reason) in [
        (&user.token, "a", "c", String::new()),
        (&user.token, "a", "", String::new()),
        (&user.token, "a", "d", denied.clone()),
        (&user.token, "", "\0", denied.clone()),
        (&user.token, "a", "\0", denied),
        (&root.token, "", "\0", String::new()),
        (&None, "a", "", refused("InvalidArgument", E::UserEmpty)),
        (&Some("x".to_owned()), "a", "", refused("Unauthenticated", E::InvalidAuthToken)),
    ] {
        let mut watching = Watching::with(&server, |request| {
            if let Some(token) = token {
                let value = MetadataValue::try_from(&token[..]).expect("it is a header");
                request.metadata_mut().insert("token", value);
            }
        })
        .await
        .expect("the stream opens");
        let range_end_bytes = bytes(range_end);
        let create = pb::WatchCreateRequest { range_end: range_end_bytes, ..on(key) };
        let created = watching.create(create).await;
        assert_eq!(created.cancel_reason, reason, "{key:?} to {range_end:?}");
        assert_eq!((created.created, created.canceled), (true, !reason.is_empty()));
        assert_eq!(created.watch_id, if reason.is_empty() { 0 } else { -1 });
    }
}

#[tokio::test]
async fn a_range_as_a_stream_is_judged_as_a_range() {
    let (_server, nobody, _root, user) = enabled().await;
    let ask = |client: &Client, range_end: &str| {
        let (key, range_end) = (bytes("a"), bytes(range_end));
        let request = pb::RangeRequest { key, range_end, ..Default::default() };
        let request = client.request(request);
        let mut kv = KvClient::new(client.channel.clone());
        async move {
            let mut stream = kv.range_stream(request).await?.into_inner();
            stream.message().await
        }
    };
    assert!(ask(&user, "c").await.is_ok());
    let refusal = |answer: Result<_, Status>| {
        answer
            .map(|_: Option<pb::RangeStreamResponse>| ())
            .expect_err("it is refused")
            .message()
            .to_owned()
    };
    assert_eq!(refusal(ask(&user, "d").await), E::PermissionDenied.text());
    assert_eq!(refusal(ask(&nobody, "c").await), E::UserEmpty.text());
}
