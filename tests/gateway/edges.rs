//! Whom `--host-whitelist` and `--cors` let in, beside a real etcd.

use crate::support::cluster::{Cluster, Plan, Program};
use crate::support::http::Http;
use crate::websocket;

/// A member that knows one name beside its address, and one origin.
pub(crate) async fn start(program: Program) -> Cluster {
    let plan = Plan::new(program, 1).flag("host-whitelist", "db.example,127.0.0.1");
    plan.flag("cors", "https://a.example:443").start().await
}

const CORS: [&str; 3] =
    ["access-control-allow-origin", "access-control-allow-methods", "access-control-allow-headers"];

/// Each path with each method, host and origin: the same status and the same word to the browser.
pub(crate) async fn compare(version: &str, theirs: &Cluster, ours: &Cluster) {
    let urls = [&theirs.members[0].client_url, &ours.members[0].client_url];
    let [mut theirs, mut ours] = [Http::connect(urls[0]).await, Http::connect(urls[1]).await];
    // A page that gave its own name this machine's address asks for the name it has (CVE-2018-5702).
    let hosts =
        ["db.example", "db.example:2379", "127.0.0.1:1", "evil.example", "evil.example:2379"];
    let origins = ["https://a.example:443", "https://b.example:443", "null", ""];
    for (method, path) in [
        ("POST", "/v3/kv/range"),
        ("POST", "/v3beta/kv/range"),
        ("OPTIONS", "/v3/kv/range"),
        ("GET", "/version"),
        ("GET", "/health"),
        ("OPTIONS", "/health"),
        ("GET", "/metrics"),
        ("GET", "/nothing"),
    ] {
        for host in hosts {
            for origin in origins {
                let mut headers = vec![("host", host)];
                headers.extend((!origin.is_empty()).then_some(("origin", origin)));
                let body = if method == "POST" { r#"{"key":"YQ=="}"# } else { "" };
                let etcd = theirs.ask(method, path, &headers, body).await;
                let found = ours.ask(method, path, &headers, body).await;
                let what = format!("{method} {path} {headers:?} beside etcd {version}");
                assert_eq!(found.status, etcd.status, "{what}");
                for name in CORS {
                    assert_eq!(found.headers.get(name), etcd.headers.get(name), "{name}: {what}");
                }
                assert_eq!(found.status == 421, host.starts_with("evil"), "{what}");
            }
        }
    }
}

/// A browser does not ask before a page opens a websocket, so the server must; etcd does not.
pub(crate) async fn pages_open_no_websocket_from_elsewhere(ours: &Cluster) {
    let url = &ours.members[0].client_url;
    let open = async |origin| {
        let opened = websocket::open(url, "/v3/watch", &[("origin", origin)]).await;
        opened.err().map(|(status, _)| status)
    };
    assert_eq!(open("https://a.example:443").await, None);
    assert_eq!(open("https://b.example:443").await, Some(403));
    let evil = [("host", "evil.example")];
    let opened = websocket::open(url, "/v3/watch", &evil).await;
    assert_eq!(opened.err().map(|(status, _)| status), Some(421));
}
