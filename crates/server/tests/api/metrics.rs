//! `/metrics`.

use jangada_server::proto::etcdserverpb as pb;

use crate::support::{Server, assert_refused, bytes};
use jangada_server::errors::ApiError;

/// The type of a metric in the text.
fn kind<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(&format!("# TYPE {name} ")))
}

/// The value of a sample in the text.
fn sample<'a>(text: &'a str, sample: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(&format!("{sample} ")))
}

#[tokio::test]
async fn names_and_types_are_etcds() {
    let server = Server::start().await;
    let answer = server.get("/metrics").await;
    assert_eq!(answer.status, 200);
    let content_type = answer.header("content-type").expect("it has a type");
    assert!(content_type.starts_with("text/plain; version=0.0.4"), "{content_type}");
    let text = answer.body.as_str();
    let expected = [
        ("etcd_server_has_leader", "gauge", "1"),
        ("etcd_server_is_leader", "gauge", "1"),
        ("etcd_server_is_learner", "gauge", "0"),
        ("etcd_server_leader_changes_seen_total", "counter", "3"),
        ("etcd_server_proposals_committed_total", "gauge", "1"),
        ("etcd_server_proposals_applied_total", "gauge", "0"),
        ("etcd_server_proposals_pending", "gauge", "2"),
        ("etcd_server_proposals_failed_total", "counter", "1"),
        ("etcd_server_quota_backend_bytes", "gauge", "2147483648"),
        ("etcd_server_health_success", "counter", "0"),
        ("etcd_server_health_failures", "counter", "0"),
        ("etcd_mvcc_db_total_size_in_bytes", "gauge", "4096"),
        ("etcd_mvcc_db_total_size_in_use_in_bytes", "gauge", "1024"),
        ("etcd_mvcc_put_total", "counter", "0"),
        ("etcd_debugging_auth_revision", "gauge", "1"),
        ("etcd_debugging_mvcc_keys_total", "gauge", "0"),
        ("etcd_debugging_mvcc_current_revision", "gauge", "1"),
        ("etcd_network_client_grpc_received_bytes_total", "counter", "0"),
    ];
    for (name, expected_kind, value) in expected {
        assert_eq!(kind(text, name), Some(expected_kind), "{name}");
        assert_eq!(sample(text, name), Some(value), "{name}");
    }
    for name in
        ["etcd_disk_wal_fsync_duration_seconds", "etcd_disk_backend_commit_duration_seconds"]
    {
        assert_eq!(kind(text, name), Some("histogram"), "{name}");
        assert_eq!(sample(text, &format!("{name}_bucket{{le=\"0.001\"}}")), Some("0"));
        assert_eq!(sample(text, &format!("{name}_bucket{{le=\"8.192\"}}")), Some("0"));
        assert_eq!(sample(text, &format!("{name}_bucket{{le=\"+Inf\"}}")), Some("0"));
        assert_eq!(sample(text, &format!("{name}_count")), Some("0"));
    }
    assert_eq!(sample(text, "etcd_server_id{server_id=\"8e9e05c52164694d\"}"), Some("1"));
    assert_eq!(sample(text, "etcd_cluster_version{cluster_version=\"3.6\"}"), Some("1"));
    assert_eq!(
        sample(text, "etcd_network_peer_sent_bytes_total{To=\"1\"}"),
        Some("42"),
        "the member adds its own"
    );
    assert!(!text.contains("_total_total"), "no ending is doubled");
    for name in ["process_resident_memory_bytes", "process_cpu_seconds_total", "os_fd_used"] {
        let value: f64 = sample(text, name).expect(name).parse().expect("it is a number");
        assert!(0.0 < value, "{name} is {value}");
    }
}

#[tokio::test]
async fn no_metric_is_written_twice_and_every_sample_has_a_type() {
    let server = Server::start().await;
    let text = server.get("/metrics").await.body;
    let mut names = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            names.push(rest.split(' ').next().expect("a name"));
        } else if !line.starts_with('#') {
            let name = names.last().expect("a type comes before its samples");
            assert!(line.starts_with(name), "{line} does not belong to {name}");
        }
    }
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[tokio::test]
async fn calls_are_counted_by_method_and_code() {
    let server = Server::start().await;
    let mut kv = server.kv().await;
    let put = pb::PutRequest { key: bytes("a"), value: bytes("1"), ..Default::default() };
    for _ in 0..3 {
        kv.put(put.clone()).await.expect("it is served");
    }
    assert_refused(kv.put(pb::PutRequest::default()).await, ApiError::EmptyKey);
    kv.range_stream(pb::RangeRequest::default()).await.expect_err("it has no key");
    let text = server.get("/metrics").await.body;
    let labels = "grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"";
    let count = |code: &str| {
        let name = format!("grpc_server_handled_total{{grpc_code=\"{code}\",{labels}}}");
        sample(&text, &name).expect("every code is listed").to_owned()
    };
    assert_eq!([count("OK"), count("InvalidArgument"), count("Unavailable")], ["3", "1", "0"]);
    assert_eq!(sample(&text, &format!("grpc_server_started_total{{{labels}}}")), Some("4"));
    assert_eq!(sample(&text, &format!("grpc_server_msg_sent_total{{{labels}}}")), Some("3"));
    assert_eq!(sample(&text, "etcd_mvcc_put_total"), Some("3"));
    let received = sample(&text, "etcd_network_client_grpc_received_bytes_total");
    assert_eq!(received, Some("18"), "three puts of six bytes, and an empty one");
    let stream = "grpc_server_handled_total{grpc_code=\"InvalidArgument\",\
                  grpc_method=\"RangeStream\",grpc_service=\"etcdserverpb.KV\",\
                  grpc_type=\"server_stream\"}";
    assert_eq!(sample(&text, stream), Some("1"));
}

#[tokio::test]
async fn health_checks_are_counted() {
    let server = Server::start().await;
    server.get("/health").await;
    server.get("/readyz").await;
    server.fake.script(|script| script.is_learner = true);
    server.get("/readyz").await;
    let text = server.get("/metrics").await.body;
    assert_eq!(sample(&text, "etcd_server_health_success"), Some("1"));
    let check = "name=\"non_learner\"";
    let last = format!("etcd_server_healthcheck{{{check},type=\"readyz\"}}");
    assert_eq!(sample(&text, &last), Some("0"));
    for status in ["success", "error"] {
        let name = format!(
            "etcd_server_healthchecks_total{{{check},status=\"{status}\",type=\"readyz\"}}"
        );
        assert_eq!(sample(&text, &name), Some("1"), "{status}");
    }
}
