//! What `/metrics` of a cluster says: every name that etcd's dashboard and alerts read, with true
//! values, and exactly what `docs/metrics.md` lists.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use support::cluster::{Cluster, Plan, Program, get_http};
use support::{foreign, run, until};

/// The hang guard.
const LIMIT: Duration = Duration::from_secs(180);

/// The names that the queries of etcd's alerts and dashboard read (`contrib/mixin` of etcd's
/// repository), and the least value that each has on a member of a cluster that has been written to;
/// of a histogram, that is its count.
const MIXIN: &[(&str, f64)] = &[
    ("etcd_disk_backend_commit_duration_seconds", 1.0),
    ("etcd_disk_wal_fsync_duration_seconds", 1.0),
    ("etcd_mvcc_db_total_size_in_bytes", 1.0),
    ("etcd_mvcc_db_total_size_in_use_in_bytes", 1.0),
    ("etcd_network_client_grpc_received_bytes_total", 1.0),
    ("etcd_network_client_grpc_sent_bytes_total", 1.0),
    ("etcd_network_peer_received_bytes_total", 1.0),
    ("etcd_network_peer_round_trip_time_seconds", 1.0),
    ("etcd_network_peer_sent_bytes_total", 1.0),
    ("etcd_network_peer_sent_failures_total", 0.0),
    ("etcd_server_has_leader", 1.0),
    ("etcd_server_leader_changes_seen_total", 1.0),
    ("etcd_server_proposals_applied_total", 1.0),
    ("etcd_server_proposals_committed_total", 1.0),
    ("etcd_server_proposals_failed_total", 0.0),
    ("etcd_server_proposals_pending", 0.0),
    ("etcd_server_quota_backend_bytes", 1.0),
    ("grpc_server_handled_total", 1.0),
    ("grpc_server_handling_seconds", 1.0),
    ("grpc_server_started_total", 1.0),
    ("process_resident_memory_bytes", 1.0),
];

/// An exposition: kinds by name, and sums of samples by name.
struct Exposition {
    kinds: BTreeMap<String, String>,
    sums: BTreeMap<String, f64>,
}

async fn exposition(cluster: &Cluster, member: usize) -> Exposition {
    let address = cluster.members[member].client_url.trim_start_matches("http://").to_owned();
    let answer = until(async || get_http(&address, "/metrics").await).await;
    let (mut kinds, mut sums) = (BTreeMap::new(), BTreeMap::new());
    for line in body(&answer).lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|l| l.split_once(' ')) {
            kinds.insert(name.to_owned(), kind.to_owned());
        } else if let Some((sample, value)) = line.rsplit_once(' ')
            && let Ok(value) = value.parse::<f64>()
        {
            let name = sample.split('{').next().unwrap_or(sample);
            *sums.entry(name.to_owned()).or_insert(0.0) += value;
        }
    }
    Exposition { kinds, sums }
}

/// The body of an HTTP answer, put together where it came in chunks.
fn body(answer: &str) -> String {
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
    if !head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        return body.to_owned();
    }
    let (mut whole, mut rest) = (String::new(), body);
    while let Some((size, chunk)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).expect("a chunk begins with its size");
        whole.push_str(&chunk[..size]);
        rest = chunk[size..].trim_start_matches("\r\n");
    }
    whole
}

impl Exposition {
    /// The sum of a metric over its labels; of a histogram, its observations.
    fn sum(&self, name: &str) -> Option<f64> {
        let is_histogram = self.kinds.get(name)? == "histogram";
        let name = if is_histogram { format!("{name}_count") } else { name.to_owned() };
        self.sums.get(&name).copied()
    }
}

#[test]
fn all_that_etcds_dashboard_and_alerts_read_is_served_with_true_values() {
    run(LIMIT, async {
        let cluster = Plan::new(Program::Jangada, 3).flag("metrics", "extensive").start().await;
        for member in 0..3 {
            let mut client = cluster.client(member);
            client.put_key("a", &member.to_string()).await.expect("a healthy cluster");
            client.get_key("a").await.expect("a healthy cluster");
        }
        for member in 0..3 {
            for (name, least) in MIXIN {
                // What is measured now and then comes within seconds.
                until(async || {
                    let sum = exposition(&cluster, member).await.sum(name);
                    let sum = sum.unwrap_or_else(|| panic!("{name} is not served"));
                    (*least <= sum).then_some(())
                })
                .await;
            }
        }
    });
}

/// The names and kinds in the tables of `docs/metrics.md`, but for those that only some systems have.
fn documented(part: &str) -> BTreeMap<String, String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
    let text = std::fs::read_to_string(path).expect("the document is there");
    let (_, rest) = text.split_once(&format!("## {part}\n")).expect("the document has this part");
    let part = rest.split("\n## ").next().unwrap_or(rest);
    let rows = part.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| {
        let (name, rest) = row.split_once('`')?;
        let kind = rest.trim_start_matches([' ', '|']).split(' ').next()?;
        Some((name.to_owned(), kind.to_owned()))
    })
    .collect()
}

#[test]
fn what_is_served_is_what_is_documented() {
    run(LIMIT, async {
        let cluster = Plan::new(Program::Jangada, 1).flag("metrics", "extensive").start().await;
        let served = exposition(&cluster, 0).await.kinds;
        let documented = documented("Served");
        for (name, kind) in &served {
            assert_eq!(documented.get(name), Some(kind), "{name} in docs/metrics.md");
        }
        for name in documented.keys() {
            assert!(served.contains_key(name), "{name} is documented and not served");
        }
    });
}

#[test]
fn what_etcd_serves_is_served_or_named_as_left_out() {
    let etcds = foreign::etcds();
    if etcds.is_empty() {
        return foreign::skip("etcd");
    }
    run(LIMIT, async {
        let (known, left_out) = (documented("Served"), documented("Left out"));
        for etcd in etcds {
            let version = etcd.version.clone();
            let theirs = Plan::new(Program::Etcd(etcd), 1).flag("metrics", "extensive");
            let theirs = theirs.start().await;
            for (name, kind) in exposition(&theirs, 0).await.kinds {
                // The Go runtime's own.
                if name.starts_with("go_") {
                    continue;
                }
                let ours = known.get(&name).or(left_out.get(&name));
                assert_eq!(ours, Some(&kind), "{name} of etcd {version} in docs/metrics.md");
            }
        }
    });
}
