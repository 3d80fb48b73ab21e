//! The same requests to a real etcd's gateway and to ours, one after the other, and what each answered.

use serde_json::Value;

use crate::support::http::{Answered, Http};

/// What is known to differ in the answer to a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Known {
    Equal,
    /// Equal to 3.5's answer, but not to 3.4's, for this reason.
    Newer(&'static str),
    /// The text of a refusal: what Go's library says of JSON that it cannot read.
    Text,
    /// The whole answer; ours has this status, for this reason.
    Answer(u16, &'static str),
}

use Known::{Answer, Equal, Newer, Text};

const AS_3_6: &str =
    "as etcd's gateway does since 3.6, whose library reads JSON as protobuf has it";

/// Requests that are no stream, in an order in which they make sense. `a` is `YQ==`, `b` is `Yg==`.
const STEPS: &[(&str, &str, Known)] = &[
    ("kv/put", r#"{"key":"YQ==","value":"MQ=="}"#, Equal),
    ("kv/range", r#"{"key":"YQ=="}"#, Equal),
    ("kv/range", r#"{"key":"YQ==","limit":"7","nobody":[{"knows":1}]}"#, Equal),
    ("kv/range", r#"{"key":"YQ==","rangeEnd":"Yg=="}"#, Equal),
    ("kv/range", r#"{"key":"YQ==","range_end":"Yg==","count_only":true}"#, Equal),
    ("kv/range", r#"{"key":"YQ==","limit":null,"sort_order":"DESCEND"}"#, Equal),
    ("kv/range", r#"{"key":"Yg==","key":"YQ=="}"#, Equal),
    ("kv/range", r#"{"key":"YQ=="} {"key":"Yg=="}"#, Equal),
    ("kv/range", r#"{"key":"YQ=="} x"#, Equal),
    ("kv/range", "", Equal),
    ("kv/range", "  ", Equal),
    ("kv/range", "null", Equal),
    ("kv/range", r#"{"key":"YQ==","revision":"999999999"}"#, Equal),
    ("kv/range", r#"{"key":"a?"}"#, Text),
    ("kv/range", r#"{"key":1}"#, Text),
    ("kv/range", r#"{"key":"YQ==","limit":"x"}"#, Text),
    ("kv/range", r#"{"key":"YQ==","limit":1.5}"#, Text),
    ("kv/range", r#"{"key":"YQ==","limit":99999999999999999999}"#, Text),
    ("kv/range", r#"{"key":"YQ==","serializable":"true"}"#, Text),
    ("kv/range", r#"{"key":"YQ==","sort_order":"NOPE"}"#, Text),
    ("kv/range", r#"{"key":"YQ==","sort_order":"1"}"#, Text),
    ("kv/range", "{", Text),
    ("kv/range", "[]", Text),
    ("kv/range", "\"x\"", Text),
    ("kv/range", "{,}", Text),
    ("kv/range", "key=YQ%3D%3D", Text),
    ("kv/range", r#"{"key":"YQ"}"#, Answer(200, AS_3_6)),
    ("kv/range", r#"{"key":"Yf_-"}"#, Answer(200, AS_3_6)),
    ("kv/range", r#"{"key":"YQ==","limit":1.0}"#, Answer(200, AS_3_6)),
    ("kv/range", r#"{"key":"YQ==","limit":1e2}"#, Answer(200, AS_3_6)),
    ("kv/range", r#"{"key":"YQ==","sort_order":77}"#, Answer(400, "3.6 refuses unknown sorts")),
    (
        "kv/txn",
        r#"{"success":[{"request_range":{"key":"YQ=="},"request_delete_range":{"key":"eg=="}}]}"#,
        Answer(400, AS_3_6),
    ),
    ("kv/txn", r#"{"compare":[{"key":"YQ==","target":"VALUE"}],"failure":[{}]}"#, Equal),
    (
        "kv/txn",
        r#"{"compare":[{"key":"YQ==","target":"VALUE","result":0,"value":"MQ=="},
        {"key":"YQ==","target":2,"modRevision":"2"}],
        "success":[{"requestPut":{"key":"Yg==","value":"Mg=="}},{"request_range":{"key":"Yg=="}}]}"#,
        Equal,
    ),
    ("kv/deleterange", r#"{"key":"Yg==","prev_kv":true}"#, Equal),
    ("kv/put", r#"{"value":"MQ=="}"#, Equal),
    ("kv/put", r#"{"key":"YQ==","lease":"77"}"#, Equal),
    ("kv/compaction", r#"{"revision":"1000"}"#, Equal),
    ("lease/grant", r#"{"TTL":"100","ID":"123"}"#, Equal),
    ("lease/timetolive", r#"{"ID":"77","keys":true}"#, Equal),
    ("lease/leases", "{}", Equal),
    ("kv/lease/leases", "{}", Equal),
    ("lease/keepalive", r#"{"ID":"123"}"#, Equal),
    ("lease/keepalive", r#"{"ID":"123"}{"ID":"999"}"#, Equal),
    ("lease/keepalive", r#"{"ID":"x"}"#, Answer(400, "etcd: 500; the request is to blame")),
    (
        "lease/keepalive",
        r#"{"ID":"123"}{"ID":"x"}"#,
        Answer(200, "the last line says what is wrong"),
    ),
    ("lease/keepalive", "", Answer(400, "etcd: an empty answer")),
    ("lease/revoke", r#"{"ID":"123"}"#, Equal),
    ("lease/revoke", r#"{"ID":"123"}"#, Equal),
    ("kv/lease/revoke", r#"{"ID":"123"}"#, Equal),
    ("cluster/member/add", r#"{"peerURLs":["x"]}"#, Equal),
    ("maintenance/alarm", "{}", Newer("3.4 forgets the header")),
    ("maintenance/transfer-leadership", r#"{"targetID":"1"}"#, Equal),
    ("auth/authenticate", r#"{"name":"root","password":"x"}"#, Equal),
    ("auth/user/add", r#"{"name":"ada","password":"x"}"#, Equal),
    ("auth/user/add", r#"{"name":"ada","password":"x"}"#, Equal),
    ("auth/user/list", "{}", Equal),
    ("auth/user/get", r#"{"name":"nobody"}"#, Equal),
    ("auth/role/add", r#"{"name":"r"}"#, Equal),
    (
        "auth/role/grant",
        r#"{"name":"r","perm":{"permType":"READWRITE","key":"YQ==","range_end":"Yg=="}}"#,
        Equal,
    ),
    ("auth/role/grant", r#"{"name":"r","perm":{"permType":"READ","key":"Yw=="}}"#, Equal),
    ("auth/role/get", r#"{"role":"r"}"#, Equal),
    ("auth/role/list", "{}", Equal),
    ("auth/user/grant", r#"{"user":"ada","role":"r"}"#, Equal),
    ("auth/user/get", r#"{"name":"ada"}"#, Equal),
    ("auth/user/changepw", r#"{"name":"ada","password":"y"}"#, Equal),
    ("auth/user/revoke", r#"{"name":"ada","role":"r"}"#, Equal),
    ("auth/role/revoke", r#"{"role":"r","key":"YQ==","range_end":"Yg=="}"#, Equal),
    ("auth/role/delete", r#"{"role":"r"}"#, Equal),
    ("auth/user/delete", r#"{"name":"ada"}"#, Equal),
    ("auth/enable", "{}", Equal),
    ("auth/disable", "{}", Equal),
    ("lock/unlock", r#"{"key":"bG9jay8x"}"#, Equal),
    ("election/leader", r#"{"name":"bm9uZQ=="}"#, Equal),
    ("kv/fly", "{}", Equal),
    ("kv/put/", "{}", Equal),
];

/// Methods that are not POST, and headers: path, method, header, known difference.
const OTHERS: &[(&str, &str, (&str, &str), Known)] = &[
    ("/v3/kv/range", "GET", ("accept", "*/*"), Equal),
    ("/v3/kv/range", "PUT", ("accept", "*/*"), Equal),
    ("/v3/kv/range", "DELETE", ("accept", "*/*"), Equal),
    ("/v3/kv/range", "OPTIONS", ("origin", "http://a.example"), Equal),
    ("/v3/kv/range", "POST", ("content-type", "text/plain"), Equal),
    ("/v3/kv/range", "POST", ("grpc-timeout", "1n"), Equal),
    ("/v3/kv/range", "POST", ("grpc-timeout", "junk"), Equal),
    ("/v3/kv/range", "POST", ("grpc-timeout", "1H"), Equal),
    ("/v3beta/kv/range", "POST", ("accept", "*/*"), Equal),
    ("/v3alpha/kv/range", "POST", ("accept", "*/*"), Equal),
];

/// A status, a type, and each line of the body.
type Heard = (u16, String, Vec<Value>);

/// An answer without what is a cluster's own.
fn heard(answered: &Answered) -> Heard {
    let text = String::from_utf8_lossy(&answered.body);
    let value = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| Value::from(line));
    let mut lines: Vec<Value> = text.lines().map(value).collect();
    lines.iter_mut().for_each(strip);
    (answered.status, answered.kind().to_owned(), lines)
}

/// Takes ids and terms out of every header.
pub(crate) fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::Object(header) if name == "header" => {
                        for own in ["cluster_id", "member_id", "raft_term"] {
                            header.remove(own);
                        }
                    }
                    value => strip(value),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(strip),
        _ => {}
    }
}

fn compare(what: &str, version: &str, known: Known, etcd: &Answered, ours: &Answered) {
    let (mut etcd, mut ours) = (heard(etcd), heard(ours));
    if version.starts_with("3.4.") && etcd.0 == 412 {
        // Later ones answer 400 to what does not fit the state of things.
        etcd.0 = 400;
    }
    match known {
        Known::Newer(_) if version.starts_with("3.4.") => return,
        Known::Equal | Known::Newer(_) => {}
        Known::Text => {
            for (_, _, lines) in [&mut etcd, &mut ours] {
                for line in lines {
                    let text = line["message"].take();
                    assert!(text == line["error"].take() && text != "", "{what}: {text}");
                }
            }
        }
        Known::Answer(status, _) => {
            assert_eq!(ours.0, status, "{what}: {ours:?}");
            assert_ne!(etcd, ours, "{what}: the known difference is none");
            return;
        }
    }
    assert_eq!(ours, etcd, "{what}, beside etcd {version}");
}

/// Asks both the same, and demands the same answers.
pub(crate) async fn compare_all(version: &str, etcd: &str, ours: &str) {
    let (mut theirs, mut ours) = (Http::connect(etcd).await, Http::connect(ours).await);
    for (path, body, known) in STEPS {
        let path = format!("/v3/{path}");
        println!("POST {path} {body}");
        let (etcd, ours) = (theirs.post(&path, *body).await, ours.post(&path, *body).await);
        compare(&format!("{path} {body}"), version, *known, &etcd, &ours);
    }
    for (path, method, header, known) in OTHERS {
        let body = r#"{"key":"YQ=="}"#;
        let headers = [*header];
        println!("{method} {path} {header:?}");
        let etcd = theirs.ask(method, path, &headers, body).await;
        let ours = ours.ask(method, path, &headers, body).await;
        compare(&format!("{method} {path} {header:?}"), version, *known, &etcd, &ours);
    }
}
