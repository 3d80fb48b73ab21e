//! Metrics under etcd's names.
//!
//! Responsible for the values that the API's own code counts, for handles that other parts may be
//! given to feed, and for writing all of it, together with what the member knows at that moment,
//! when `/metrics` is asked. Not responsible for what other parts count themselves: they add it
//! through [`Backend::expose`].

mod calls;
mod exposition;
mod leases;
mod process;
mod round_trips;
mod value;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use jangada_kv::AlarmKind;

use crate::backend::Backend;
use crate::errors::ApiError;
use crate::settings::Settings;

pub use calls::{CallCounts, Calls};
pub use exposition::{CONTENT_TYPE, Exposition, Family, Kind, Labels};
pub use leases::Leases;
pub use process::open_files_limit;
pub use round_trips::RoundTrips;
pub use value::{Counter, Gauge, Histogram};

/// The checks that `/livez` and `/readyz` run, by the endpoint's name and the check's.
pub const HEALTH_CHECKS: [(&str, &str); 5] = [
    ("livez", "serializable_read"),
    ("readyz", "data_corruption"),
    ("readyz", "linearizable_read"),
    ("readyz", "non_learner"),
    ("readyz", "serializable_read"),
];

/// The last result of a health check, and how often it had which.
#[derive(Debug, Default)]
pub struct CheckCounts {
    /// 1 after a success, 0 after a failure.
    pub last: Gauge,
    /// Successes.
    pub success: Counter,
    /// Failures.
    pub error: Counter,
}

/// The values that are counted here or fed by other parts.
#[derive(Debug)]
pub struct Metrics {
    /// How long syncs of the log take. The log's owner feeds it.
    pub wal_fsync: Arc<Histogram>,
    /// How long commits of the engine take. The engine's owner feeds it.
    pub backend_commit: Arc<Histogram>,
    /// Bytes that were written to the log. The log's owner feeds it.
    pub wal_written_bytes: Arc<Counter>,
    /// How far the other members are.
    pub round_trips: RoundTrips,
    /// Bytes of messages received from clients.
    pub received_bytes: Counter,
    /// Bytes of messages sent to clients.
    pub sent_bytes: Counter,
    /// Reads answered.
    pub ranges: Counter,
    /// Puts answered.
    pub puts: Counter,
    /// Deletions answered.
    pub deletes: Counter,
    /// Transactions answered.
    pub txns: Counter,
    /// Events sent to watchers.
    pub watch_events: Counter,
    /// Linearizable reads that could not be confirmed.
    pub read_indexes_failed: Counter,
    /// `/health` said yes.
    pub health_success: Counter,
    /// `/health` said no.
    pub health_failures: Counter,
    /// The results of the health checks, in the order of [`HEALTH_CHECKS`].
    pub checks: [CheckCounts; HEALTH_CHECKS.len()],
    /// Learners that were to become voters.
    pub promotions: Promotions,
    /// What is counted of leases.
    pub leases: Leases,
    /// gRPC calls.
    pub calls: Calls,
}

/// What became of the promotions that were asked for here.
#[derive(Debug, Default)]
pub struct Promotions {
    successes: Counter,
    failures: Mutex<BTreeMap<&'static str, u64>>,
}

impl Promotions {
    /// Counts a promotion, or the reason why there was none.
    ///
    /// # Panics
    /// If another thread has panicked while it counted.
    pub fn count(&self, failure: Option<ApiError>) {
        match failure {
            None => self.successes.increment(),
            Some(error) => *self.failures().entry(error.text()).or_default() += 1,
        }
    }

    fn failures(&self) -> MutexGuard<'_, BTreeMap<&'static str, u64>> {
        self.failures.lock().expect("counting does not panic")
    }

    fn expose(&self, exposition: &mut Exposition) {
        exposition.counter(
            "etcd_server_learner_promote_successes",
            "The total number of successful learner promotions while this member is leader.",
            &self.successes,
        );
        let mut family = exposition.family(
            "etcd_server_learner_promote_failures",
            Kind::Counter,
            "The total number of failed learner promotions (likely learner not ready) while this \
             member is leader.",
        );
        for (reason, count) in self.failures().iter() {
            family.sample(&[("Reason", *reason)], *count);
        }
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics {
            wal_fsync: Arc::new(Histogram::of_disk()),
            backend_commit: Arc::new(Histogram::of_disk()),
            wal_written_bytes: Arc::default(),
            round_trips: RoundTrips::default(),
            received_bytes: Counter::default(),
            sent_bytes: Counter::default(),
            ranges: Counter::default(),
            puts: Counter::default(),
            deletes: Counter::default(),
            txns: Counter::default(),
            watch_events: Counter::default(),
            read_indexes_failed: Counter::default(),
            health_success: Counter::default(),
            health_failures: Counter::default(),
            checks: std::array::from_fn(|_| CheckCounts::default()),
            promotions: Promotions::default(),
            leases: Leases::default(),
            calls: Calls::default(),
        }
    }
}

impl Metrics {
    /// Has the time of every call measured, too (`--metrics extensive`).
    #[must_use]
    pub fn extensive(self) -> Metrics {
        Metrics { calls: Calls::timed(), ..self }
    }

    /// The answer of `/metrics`.
    #[must_use]
    pub fn render(&self, backend: &impl Backend, settings: &Settings) -> String {
        let mut exposition = Exposition::default();
        expose_member(&mut exposition, backend, settings);
        expose_store(&mut exposition, backend);
        self.expose_counts(&mut exposition);
        self.expose_checks(&mut exposition);
        self.promotions.expose(&mut exposition);
        self.leases.expose(&mut exposition);
        self.round_trips.expose(&mut exposition);
        self.calls.expose(&mut exposition);
        process::expose(&mut exposition);
        backend.expose(&mut exposition);
        exposition.finish()
    }

    fn expose_counts(&self, exposition: &mut Exposition) {
        let counters: [(&str, &str, &Counter); 14] = [
            (
                "etcd_network_client_grpc_received_bytes_total",
                "The total number of bytes received from grpc clients.",
                &self.received_bytes,
            ),
            (
                "etcd_network_client_grpc_sent_bytes_total",
                "The total number of bytes sent to grpc clients.",
                &self.sent_bytes,
            ),
            ("etcd_mvcc_range_total", "Total number of ranges answered here.", &self.ranges),
            ("etcd_mvcc_put_total", "Total number of puts answered here.", &self.puts),
            ("etcd_mvcc_delete_total", "Total number of deletes answered here.", &self.deletes),
            ("etcd_mvcc_txn_total", "Total number of txns answered here.", &self.txns),
            (
                "etcd_debugging_mvcc_range_total",
                "Total number of ranges answered here.",
                &self.ranges,
            ),
            ("etcd_debugging_mvcc_put_total", "Total number of puts answered here.", &self.puts),
            (
                "etcd_debugging_mvcc_delete_total",
                "Total number of deletes answered here.",
                &self.deletes,
            ),
            ("etcd_debugging_mvcc_txn_total", "Total number of txns answered here.", &self.txns),
            (
                "etcd_debugging_mvcc_events_total",
                "Total number of events sent by this member.",
                &self.watch_events,
            ),
            (
                "etcd_server_read_indexes_failed_total",
                "The total number of failed read indexes seen.",
                &self.read_indexes_failed,
            ),
            (
                "etcd_server_health_success",
                "The total number of successful health checks.",
                &self.health_success,
            ),
            (
                "etcd_server_health_failures",
                "The total number of failed health checks.",
                &self.health_failures,
            ),
        ];
        for (name, help, counter) in counters {
            exposition.counter(name, help, counter);
        }
        exposition
            .family(
                "etcd_disk_wal_write_bytes_total",
                Kind::Gauge,
                "Total number of bytes written in WAL.",
            )
            .sample(&[], self.wal_written_bytes.get());
        exposition.histogram(
            "etcd_disk_wal_fsync_duration_seconds",
            "The latency distributions of fsync called by WAL.",
            &self.wal_fsync,
        );
        exposition.histogram(
            "etcd_disk_backend_commit_duration_seconds",
            "The latency distributions of commit called by backend.",
            &self.backend_commit,
        );
    }

    fn expose_checks(&self, exposition: &mut Exposition) {
        let mut family = exposition.family(
            "etcd_server_healthcheck",
            Kind::Gauge,
            "The result of each kind of healthcheck.",
        );
        for ((kind, name), counts) in HEALTH_CHECKS.into_iter().zip(&self.checks) {
            family.sample(&[("name", name), ("type", kind)], counts.last.get());
        }
        let mut family = exposition.family(
            "etcd_server_healthchecks_total",
            Kind::Counter,
            "The total number of each kind of healthcheck.",
        );
        for ((kind, name), counts) in HEALTH_CHECKS.into_iter().zip(&self.checks) {
            for (status, count) in [("error", &counts.error), ("success", &counts.success)] {
                family.sample(&[("name", name), ("status", status), ("type", kind)], count.get());
            }
        }
    }
}

fn expose_member(exposition: &mut Exposition, backend: &impl Backend, settings: &Settings) {
    let status = backend.status();
    let sizes = backend.sizes();
    let id = format!("{:x}", status.member_id);
    let labelled: [(&str, &str, &str, &str); 3] = [
        ("etcd_server_id", "Server or member ID in hexadecimal format.", "server_id", &id),
        (
            "etcd_server_version",
            "Which version is running.",
            "server_version",
            &settings.version.server,
        ),
        (
            "etcd_cluster_version",
            "Which version the cluster's members can all speak.",
            "cluster_version",
            &settings.version.cluster_minor(),
        ),
    ];
    for (name, help, label, value) in labelled {
        exposition.family(name, Kind::Gauge, help).sample(&[(label, value)], 1);
    }
    use Kind::{Counter, Gauge};
    let numbers: [(&str, Kind, &str, u64); 13] = [
        (
            "etcd_server_has_leader",
            Gauge,
            "Whether or not a leader exists. 1 is existence, 0 is not.",
            u64::from(status.leader.is_some()),
        ),
        (
            "etcd_server_is_leader",
            Gauge,
            "Whether or not this member is a leader. 1 if is, 0 otherwise.",
            u64::from(status.leader == Some(status.member_id)),
        ),
        (
            "etcd_server_is_learner",
            Gauge,
            "Whether or not this member is a learner. 1 if is, 0 otherwise.",
            u64::from(status.is_learner),
        ),
        (
            "etcd_server_leader_changes_seen_total",
            Counter,
            "The number of leader changes seen.",
            status.leader_changes,
        ),
        (
            "etcd_server_proposals_committed_total",
            Gauge,
            "The total number of consensus proposals committed.",
            status.commit_index,
        ),
        (
            "etcd_server_proposals_applied_total",
            Gauge,
            "The total number of consensus proposals applied.",
            status.applied_index,
        ),
        (
            "etcd_server_proposals_pending",
            Gauge,
            "The current number of pending proposals to commit.",
            status.proposals_pending,
        ),
        (
            "etcd_server_proposals_failed_total",
            Counter,
            "The total number of failed proposals seen.",
            status.proposals_failed,
        ),
        (
            "etcd_server_quota_backend_bytes",
            Gauge,
            "Current backend storage quota size in bytes.",
            sizes.quota,
        ),
        (
            "etcd_mvcc_db_total_size_in_bytes",
            Gauge,
            "Total size of the underlying database physically allocated in bytes.",
            sizes.allocated,
        ),
        (
            "etcd_debugging_mvcc_db_total_size_in_bytes",
            Gauge,
            "Total size of the underlying database physically allocated in bytes.",
            sizes.allocated,
        ),
        ("etcd_disk_defrag_inflight", Gauge, "Always 0: defragmentation stops nothing.", 0),
        (
            "etcd_mvcc_db_total_size_in_use_in_bytes",
            Gauge,
            "Total size of the underlying database logically in use in bytes.",
            sizes.in_use,
        ),
    ];
    for (name, kind, help, value) in numbers {
        exposition.family(name, kind, help).sample(&[], value);
    }
}

fn expose_store(exposition: &mut Exposition, backend: &impl Backend) {
    let watching = backend.store().watch_figures();
    let (revision, compact_revision, keys, alarms, auth_revision) = {
        let view = backend.store().read();
        let auth_revision = view.auth().revision();
        (view.revision(), view.compact_revision(), view.keys(), view.alarms(), auth_revision)
    };
    let gauge = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let numbers: [(&str, &str, i64); 8] = [
        (
            "etcd_debugging_auth_revision",
            "The current revision of auth store.",
            gauge(auth_revision),
        ),
        ("etcd_debugging_mvcc_current_revision", "The current revision of the store.", revision),
        (
            "etcd_debugging_mvcc_compact_revision",
            "The revision of the last compaction in the store.",
            compact_revision,
        ),
        ("etcd_debugging_mvcc_keys_total", "Total number of keys.", gauge(keys)),
        (
            "etcd_debugging_mvcc_watch_stream_total",
            "Total number of watch streams.",
            gauge(watching.streams),
        ),
        (
            "etcd_debugging_mvcc_watcher_total",
            "Total number of watchers.",
            gauge(watching.watchers),
        ),
        (
            "etcd_debugging_mvcc_slow_watcher_total",
            "Total number of watchers that have yet to look at something that happened.",
            gauge(watching.slow_watchers),
        ),
        (
            "etcd_debugging_mvcc_pending_events_total",
            "Total number of revisions that watch streams have yet to look at.",
            gauge(watching.pending),
        ),
    ];
    for (name, help, value) in numbers {
        exposition.family(name, Kind::Gauge, help).sample(&[], value);
    }
    let mut family = exposition.family(
        "etcd_debugging_server_alarms",
        Kind::Gauge,
        "Alarms that are raised, by the member they are about.",
    );
    for alarm in alarms {
        let kind = match alarm.kind {
            AlarmKind::NoSpace => "NOSPACE",
            AlarmKind::Corrupt => "CORRUPT",
        };
        family.sample(&[("server_id", &format!("{:x}", alarm.member)), ("alarm_type", kind)], 1);
    }
}
