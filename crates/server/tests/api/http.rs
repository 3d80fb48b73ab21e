//! The API over HTTP.

use jangada_kv::{AlarmAction, AlarmKind, Command};
use jangada_server::Settings;
use jangada_server::backend::RequestError;
use jangada_server::settings::Versions;

use crate::support::Server;

fn raise(kind: AlarmKind) -> Command {
    Command::Alarm { action: AlarmAction::Activate, member: 1, kind }
}

#[tokio::test]
async fn version_is_etcds_in_etcds_order() {
    let version = Versions::compatible_with("3.6.5");
    let server = Server::with(Settings { version, ..Settings::default() }).await;
    let answer = server.get("/version").await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (200, r#"{"etcdserver":"3.6.5","etcdcluster":"3.6.0","storage":"3.6.0"}"#)
    );
    assert_eq!(answer.header("content-type"), Some("application/json"));
}

#[tokio::test]
async fn health_names_what_is_wrong() {
    let server = Server::start().await;
    let yes = r#"{"health":"true","reason":""}"#;
    let no = |reason: &str| format!("{{\"health\":\"false\",\"reason\":\"{reason}\"}}\n");
    let answer = server.get("/health").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, yes));
    server.fake.script(|script| script.barriers = Some(RequestError::Timeout));
    let answer = server.get("/health").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.body, no("RANGE ERROR:etcdserver: request timed out"));
    server.fake.script(|script| script.leader = None);
    let answer = server.get("/health").await;
    assert_eq!((answer.status, answer.body), (503, no("RAFT NO LEADER")));
    let answer = server.get("/health?serializable=true").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, yes));
    server.fake.apply(&raise(AlarmKind::NoSpace));
    let answer = server.get("/health?serializable=true").await;
    assert_eq!((answer.status, answer.body), (503, no("ALARM NOSPACE")));
    let answer = server.get("/health?exclude=CORRUPT&serializable=true").await;
    assert_eq!(answer.status, 503);
    let answer = server.get("/health?exclude=NOSPACE&serializable=true").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, yes));
    server.fake.apply(&raise(AlarmKind::Corrupt));
    let answer = server.get("/health?exclude=NOSPACE").await;
    assert_eq!((answer.status, answer.body), (503, no("ALARM CORRUPT")));
}

#[tokio::test]
async fn livez_asks_this_member_alone() {
    let server = Server::start().await;
    server.fake.script(|script| {
        script.leader = None;
        script.barriers = Some(RequestError::NoLeader);
    });
    let answer = server.get("/livez").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok\n"));
    let answer = server.get("/livez?verbose").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "[+]serializable_read ok\nok\n"));
    assert_eq!(server.get("/livez/serializable_read").await.status, 200);
    assert_eq!(server.get("/livez/linearizable_read").await.status, 404);
}

#[tokio::test]
async fn readyz_names_each_check_that_fails() {
    let server = Server::start().await;
    let answer = server.get("/readyz?verbose").await;
    let all_well = "[+]data_corruption ok\n[+]linearizable_read ok\n[+]non_learner ok\n\
                    [+]serializable_read ok\nok\n";
    assert_eq!((answer.status, answer.body.as_str()), (200, all_well));
    server.fake.script(|script| {
        script.is_learner = true;
        script.barriers = Some(RequestError::NoLeader);
    });
    let answer = server.get("/readyz").await;
    assert_eq!(answer.status, 503);
    let failed = "[+]data_corruption ok\n\
                  [-]linearizable_read failed: range error: etcdserver: no leader\n\
                  [-]non_learner failed: the member is a learner; promote it first\n\
                  [+]serializable_read ok\n";
    assert!(answer.body.starts_with(failed), "{}", answer.body);
    let answer = server.get("/readyz?exclude=linearizable_read&exclude=non_learner").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok\n"));
    assert_eq!(server.get("/readyz/linearizable_read").await.status, 503);
    assert_eq!(server.get("/readyz/data_corruption").await.status, 200);
    server.fake.apply(&raise(AlarmKind::Corrupt));
    let answer = server.get("/readyz/data_corruption").await;
    assert_eq!(answer.status, 503);
    assert!(answer.body.starts_with("[-]data_corruption failed: alarm activated: CORRUPT\n"));
}

#[tokio::test]
async fn what_is_not_there_or_not_allowed_is_answered_as_go_does() {
    let server = Server::start().await;
    for path in ["/", "/v2/keys", "/config/local/log", "/health/x"] {
        let answer = server.get(path).await;
        assert_eq!((answer.status, answer.body.as_str()), (404, "404 page not found\n"), "{path}");
    }
    for path in ["/health", "/livez", "/readyz", "/version"] {
        let answer = server.http("POST", path, "Content-Length: 0\r\n").await;
        assert_eq!((answer.status, answer.body.as_str()), (405, "Method Not Allowed\n"), "{path}");
        assert_eq!(answer.header("allow"), Some("GET"));
    }
}

#[tokio::test]
async fn only_hosts_on_the_list_are_answered() {
    let host_whitelist = vec!["db.example".to_owned()];
    let server = Server::with(Settings { host_whitelist, ..Settings::default() }).await;
    let answer = server.http("GET", "/version", "Host: db.example:2379\r\n").await;
    assert_eq!(answer.status, 200);
    let answer = server.http("GET", "/version", "Host: evil.example\r\n").await;
    assert_eq!(answer.status, 421);
    assert!(answer.body.contains("--host-whitelist"), "{}", answer.body);
}

#[tokio::test]
async fn origins_are_told_whether_they_may_look() {
    let server = Server::start().await;
    let answer = server.http("OPTIONS", "/version", "Origin: https://a.example\r\n").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    let cors = vec!["https://a.example".to_owned()];
    let server = Server::with(Settings { cors, ..Settings::default() }).await;
    let answer = server.http("GET", "/version", "Origin: https://a.example\r\n").await;
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://a.example"));
    let answer = server.http("GET", "/version", "Origin: https://b.example\r\n").await;
    assert_eq!(answer.header("access-control-allow-origin"), None);
}
