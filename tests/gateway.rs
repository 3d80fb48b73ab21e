//! The JSON gateway: beside a real etcd's, over websockets, and with clients of others.

mod support;

#[path = "gateway/edges.rs"]
mod edges;
#[path = "gateway/python.rs"]
mod python;
#[path = "gateway/transcript.rs"]
mod transcript;
#[path = "gateway/websocket.rs"]
mod websocket;

use std::time::Duration;

use serde_json::json;
use support::cluster::{Cluster, Plan, Program};
use support::http::Http;
use support::{foreign, run, until};

/// The hang guard.
const LIMIT: Duration = Duration::from_secs(180);

#[test]
fn the_gateway_answers_as_etcds_does() {
    foreign::beside_etcds(LIMIT, async |etcd| {
        let theirs = Plan::new(Program::Etcd(etcd.clone()), 1).start().await;
        let ours = Plan::new(Program::Jangada, 1).start().await;
        let urls = (&theirs.members[0].client_url, &ours.members[0].client_url);
        transcript::compare_all(&etcd.version, urls.0, urls.1).await;
        websocket::compare(&etcd.version, urls.0, urls.1).await;
    });
}

#[test]
fn hosts_and_origins_are_let_in_as_etcd_does() {
    let etcds = foreign::etcds();
    if etcds.is_empty() {
        return foreign::skip("etcd");
    }
    run(LIMIT, async {
        let ours = edges::start(Program::Jangada).await;
        for etcd in etcds {
            let version = etcd.version.clone();
            let theirs = edges::start(Program::Etcd(etcd)).await;
            edges::compare(&version, &theirs, &ours).await;
        }
        edges::pages_open_no_websocket_from_elsewhere(&ours).await;
    });
}

#[test]
fn calls_over_websockets_end_with_a_sentence_and_a_goodbye() {
    run(LIMIT, async {
        let cluster = Plan::new(Program::Jangada, 1).start().await;
        let url = &cluster.members[0].client_url;
        let open = async |path| websocket::open(url, path, &[]).await.expect("it is served");

        // A method with one request.
        let mut socket = open("/v3/kv/put").await;
        socket.send(r#"{"key":"YQ==","value":"MQ=="}"#).await;
        assert_eq!(socket.next().await, Some(json!({"header": {"revision": "2"}})));
        assert_eq!(socket.next().await, None);

        // Events come while the client's side is open, and requests are read while events come.
        let mut watch = open("/v3/watch").await;
        watch.send(r#"{"create_request":{"key":"YQ==","start_revision":2}}"#).await;
        assert_eq!(watch.next().await.expect("it is made")["result"]["created"], json!(true));
        let event = watch.next().await.expect("the put is seen");
        assert_eq!(event["result"]["events"][0]["kv"]["value"], "MQ==");
        watch.send(r#"{"progress_request":{}}"#).await;
        assert_eq!(watch.next().await.expect("it is told")["result"]["watch_id"], "-1");
        watch.send("no JSON").await;
        let last = watch.next().await.expect("the end is explained");
        assert_eq!(
            (&last["error"]["grpc_code"], &last["error"]["http_code"]),
            (&json!(3), &json!(400))
        );
        assert_eq!(watch.next().await, None);

        // Too much is refused before it is gathered.
        let mut socket = open("/v3/kv/put").await;
        socket.send_too_much(&format!(r#"{{"key":"{}"}}"#, "YQ==".repeat(2 << 20))).await;
        while socket.next().await.is_some() {}

        // What is no method, and what is no websocket.
        let refused = |result: Result<websocket::Socket, _>| result.err().map(|(status, _)| status);
        assert_eq!(refused(websocket::open(url, "/v3/kv/fly", &[]).await), Some(404));
        let version = [("sec-websocket-version", "8")];
        assert_eq!(refused(websocket::open(url, "/v3/watch", &version).await), Some(400));
    });
}

#[test]
fn a_token_is_shown_by_a_header_or_by_a_websockets_protocol() {
    run(LIMIT, async {
        let cluster = Cluster::three().await;
        let url = &cluster.members[0].client_url;
        let mut http = Http::connect(url).await;
        for (path, body) in [
            ("/v3/auth/user/add", r#"{"name":"root","password":"r"}"#),
            ("/v3/auth/role/add", r#"{"name":"root"}"#),
            ("/v3/auth/user/grant", r#"{"user":"root","role":"root"}"#),
            ("/v3/auth/enable", "{}"),
        ] {
            let answered = http.post(path, body).await;
            assert_eq!(answered.status, 200, "{path}: {answered:?}");
        }
        let answered = http.post("/v3/kv/range", r#"{"key":"YQ=="}"#).await;
        assert_eq!((answered.status, answered.json()["code"].clone()), (400, json!(3)));
        assert_eq!(answered.json()["message"], "etcdserver: user name is empty");
        let answered = http.post("/v3/maintenance/snapshot", "{}").await;
        assert_eq!(
            (answered.status, answered.json()["error"]["grpc_code"].clone()),
            (400, json!(3))
        );
        let wrong = http.post("/v3/auth/authenticate", r#"{"name":"root","password":"x"}"#).await;
        assert_eq!(wrong.status, 400);

        let answered =
            http.post("/v3/auth/authenticate", r#"{"name":"root","password":"r"}"#).await;
        let answered = answered.json();
        let token = answered["token"].as_str().expect("there is a token");
        // On another member, which may have to learn of the user first.
        let mut other = Http::connect(&cluster.members[1].client_url).await;
        for header in [token.to_owned(), format!("Bearer {token}")] {
            let headers = [("authorization", &*header)];
            let answered = other.ask("POST", "/v3/kv/range", &headers, r#"{"key":"YQ=="}"#).await;
            assert_eq!(answered.status, 200, "{answered:?}");
        }
        let headers = [("authorization", "none.1")];
        let answered = other.ask("POST", "/v3/kv/range", &headers, r#"{"key":"YQ=="}"#).await;
        assert_eq!((answered.status, answered.json()["code"].clone()), (401, json!(16)));

        let protocols = format!("Bearer, {token}");
        let watcher = until(async || {
            let headers = [("sec-websocket-protocol", &*protocols)];
            let mut watch =
                websocket::open(url, "/v3/watch", &headers).await.expect("it is served");
            assert_eq!(watch.protocol.as_deref(), Some("Bearer"));
            watch.send(r#"{"create_request":{"key":"YQ=="}}"#).await;
            let made = watch.next().await.expect("it is answered");
            (made["result"]["canceled"] != json!(true)).then_some(watch)
        });
        drop(watcher.await);
        let mut watch = websocket::open(url, "/v3/watch", &[]).await.expect("it is served");
        watch.send(r#"{"create_request":{"key":"YQ=="}}"#).await;
        let made = watch.next().await.expect("it is answered");
        assert_eq!(made["result"]["canceled"], json!(true), "{made}");
    });
}
