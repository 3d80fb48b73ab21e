//! The one table of settings: every flag of etcd up to its current main branch, and our own.
//!
//! Invariants (tested below): 1. names are unique; 2. each default is a value of its own kind.

use super::setting::Kind::{Bool, Choice, Duration, Integer, List, Path, Secret, Text, Urls};
use super::setting::{Group, Kind, Setting, State};

const COUNT: Kind = Integer { min: 0, max: i64::MAX };
const MILLISECONDS: Kind = Integer { min: 1, max: 600_000 };

const OLD_CA: &str = "use --trusted-ca-file and --client-cert-auth (--peer-trusted-ca-file and \
                      --peer-client-cert-auth)";
const DISCOVERY: &str = "discovery by a third cluster is left out on purpose, since it makes a start \
                         depend on that cluster; name the members with --initial-cluster, or in DNS \
                         with --discovery-srv";
const PROXY: &str = "etcd's v2 proxy is not part of this server; any member takes any request";
const GONE: &str = "etcd itself no longer has it";
const NO_BBOLT: &str = "the storage engine is not bbolt and paces itself";
const NO_TRACING: &str = "traces are left out; the metrics say how long calls take";
const NO_PROXY_EFFECT: &str = "the v2 proxy does not exist";
const NO_LEASE: &str = "what remains of leases is always kept over a change of the leader";
const NO_CHECK: &str = "members compare their running hash as they apply";
const NO_SNAPSHOT: &str = "the log is cut by bytes; see --snapshot-catchup-bytes";
const NO_SLOW_LOG: &str = "slow requests show in the metrics (--metrics=extensive), not in the log";
const PACED: &str = "compaction goes on in slices that yield by themselves";
const FIXED_TIMEOUT: &str = "peer connections are watched by heartbeats";

/// Every setting, in groups.
pub const GROUPS: &[Group] = &[
    Group { title: "Member", settings: MEMBER },
    Group { title: "Clustering", settings: CLUSTERING },
    Group { title: "Limits", settings: LIMITS },
    Group { title: "Security", settings: SECURITY },
    Group { title: "Logging and monitoring", settings: MONITORING },
    Group { title: "Features", settings: FEATURES },
    Group { title: "Of older versions", settings: OLDER },
];

const MEMBER: &[Setting] = &[
    Setting::used("name", Text, "default", "this member's name, unique in the cluster"),
    Setting::used("data-dir", Path, "", "where this member keeps its data (\"\": <name>.etcd)"),
    Setting::used("wal-dir", Path, "", "where the log lives (\"\": inside the data directory)"),
    Setting::used(
        "listen-peer-urls",
        Urls,
        "http://localhost:2380",
        "addresses on which other members reach this one",
    ),
    Setting::used(
        "listen-client-urls",
        Urls,
        "http://localhost:2379",
        "addresses on which clients reach this member (gRPC and HTTP on the same port)",
    ),
    Setting::used(
        "heartbeat-interval",
        MILLISECONDS,
        "100",
        "milliseconds between a leader's heartbeats",
    ),
    Setting::used(
        "election-timeout",
        MILLISECONDS,
        "1000",
        "milliseconds without a leader until an election; at least 5 heartbeats, at most 50000",
    ),
    Setting::used(
        "config-file",
        Path,
        "",
        "YAML or JSON file of settings; replaces all flags and variables",
    ),
    Setting::used(
        "force-new-cluster",
        Bool,
        "false",
        "the majority is lost for good: go on as the only member, with the data there is; start so once",
    ),
    Setting::used("socket-reuse-port", Bool, "false", "set SO_REUSEPORT on the listeners"),
    Setting::used("socket-reuse-address", Bool, "false", "set SO_REUSEADDR (always set here)"),
    Setting::used(
        "reported-version",
        Text,
        "3.6.6",
        "the etcd version told to clients by Status, /version and --version",
    ),
    Setting::used(
        "snapshot-catchup-bytes",
        COUNT,
        "67108864",
        "bytes of the log kept for members that are behind; farther behind they get a snapshot",
    ),
    Setting::no_effect("snapshot-count", COUNT, "10000", NO_SNAPSHOT),
    Setting::no_effect("snapshot-catchup-entries", COUNT, "5000", NO_SNAPSHOT),
    Setting::no_effect("max-snapshots", COUNT, "5", NO_SNAPSHOT),
    Setting::no_effect("max-wals", COUNT, "5", NO_SNAPSHOT),
    Setting::no_effect("initial-election-tick-advance", Bool, "true", "elections need no ticks"),
    Setting::no_effect("memory-mlock", Bool, "false", "the state machine is in memory already"),
    Setting::no_effect("backend-bbolt-freelist-type", Text, "map", NO_BBOLT),
    Setting::no_effect("backend-batch-interval", Duration, "0s", NO_BBOLT),
    Setting::no_effect("backend-batch-limit", COUNT, "0", NO_BBOLT),
    Setting::no_effect("raft-read-timeout", Duration, "5s", FIXED_TIMEOUT),
    Setting::no_effect("raft-write-timeout", Duration, "5s", FIXED_TIMEOUT),
    Setting::used("enable-grpc-gateway", Bool, "true", "offer the API over JSON, at /v3/..."),
    Setting::no_effect("feature-gates", Text, "", "there are no feature gates"),
    Setting::no_effect(
        "unsafe-no-fsync",
        Bool,
        "false",
        "the log is always synced: what is acknowledged is durable",
    ),
    Setting::refused(
        "listen-client-http-urls",
        Urls,
        "",
        "HTTP is served on --listen-client-urls, and --listen-metrics-urls adds ports for health \
         and metrics",
    ),
];

const CLUSTERING: &[Setting] = &[
    Setting::used(
        "initial-advertise-peer-urls",
        Urls,
        "http://localhost:2380",
        "the URLs by which other members reach this one",
    ),
    Setting::used(
        "initial-cluster",
        Text,
        "",
        "all first members, as name=url,name=url (\"\": this member alone)",
    ),
    Setting::used(
        "initial-cluster-state",
        Choice(&["new", "existing"]),
        "new",
        "new to form a cluster; existing for a member that restarts or joins",
    ),
    Setting::used(
        "initial-cluster-token",
        Text,
        "etcd-cluster",
        "sets clusters apart that have the same URLs",
    ),
    Setting::used(
        "advertise-client-urls",
        Urls,
        "http://localhost:2379",
        "the URLs by which clients reach this member",
    ),
    Setting::used(
        "strict-reconfig-check",
        Bool,
        "true",
        "refuse changes of the membership that leave too few members that run",
    ),
    Setting::no_effect("pre-vote", Bool, "true", "pre-vote is always on"),
    Setting::used("max-learners", COUNT, "1", "the most learners at a time"),
    Setting::used(
        "auto-compaction-mode",
        Choice(&["", "periodic", "revision"]),
        "periodic",
        "what --auto-compaction-retention counts: time, or revisions",
    ),
    Setting::used(
        "auto-compaction-retention",
        Text,
        "0",
        "history that is kept: hours, a duration such as 30m, or revisions (0: all of it)",
    ),
    Setting::refused("discovery", Text, "", DISCOVERY),
    Setting::refused("discovery-token", Secret, "", DISCOVERY),
    Setting::refused("discovery-endpoints", Text, "", DISCOVERY),
    Setting::used(
        "discovery-srv",
        Text,
        "",
        "domain whose SRV records _etcd-server-ssl._tcp and _etcd-server._tcp name all first members",
    ),
    Setting::used(
        "discovery-srv-name",
        Text,
        "",
        "tells clusters of one domain apart: _etcd-server-<name>._tcp",
    ),
    Setting::used(
        "discovery-srv-resolver",
        Text,
        "",
        "address and port of the DNS server that is asked for them (\"\": the system's)",
    ),
    Setting::refused("discovery-proxy", Text, "", DISCOVERY),
    Setting::no_effect("discovery-fallback", Text, "exit", DISCOVERY),
    Setting::no_effect("discovery-dial-timeout", Duration, "2s", DISCOVERY),
    Setting::no_effect("discovery-request-timeout", Duration, "5s", DISCOVERY),
    Setting::no_effect("discovery-keepalive-time", Duration, "2s", DISCOVERY),
    Setting::no_effect("discovery-keepalive-timeout", Duration, "6s", DISCOVERY),
    Setting::no_effect("discovery-insecure-transport", Bool, "true", DISCOVERY),
    Setting::no_effect("discovery-insecure-skip-tls-verify", Bool, "false", DISCOVERY),
    Setting::refused("discovery-cert", Path, "", DISCOVERY),
    Setting::refused("discovery-key", Path, "", DISCOVERY),
    Setting::refused("discovery-cacert", Path, "", DISCOVERY),
    Setting::refused("discovery-user", Text, "", DISCOVERY),
    Setting::refused("discovery-password", Secret, "", DISCOVERY),
];

const LIMITS: &[Setting] = &[
    Setting::used(
        "quota-backend-bytes",
        Integer { min: i64::MIN, max: i64::MAX },
        "0",
        "bytes of data at which writes are refused (0: 2 GiB; below 0: no limit)",
    ),
    Setting::used(
        "max-txn-ops",
        Integer { min: 1, max: u32::MAX as i64 },
        "128",
        "operations in one transaction",
    ),
    Setting::used(
        "max-request-bytes",
        Integer { min: 1, max: 1 << 30 },
        "1572864",
        "bytes of one request",
    ),
    Setting::used(
        "max-concurrent-streams",
        Integer { min: 1, max: u32::MAX as i64 },
        "4294967295",
        "requests and streams open at once on one client connection",
    ),
    Setting::used(
        "grpc-keepalive-interval",
        Duration,
        "2h",
        "how often the server pings an idle client connection (0: never)",
    ),
    Setting::used(
        "grpc-keepalive-timeout",
        Duration,
        "20s",
        "how long an unanswered ping keeps a connection open",
    ),
    Setting::no_effect(
        "grpc-keepalive-min-time",
        Duration,
        "5s",
        "clients may ping as often as they like",
    ),
];

const SECURITY: &[Setting] = &[
    Setting::used(
        "cert-file",
        Path,
        "",
        "certificate shown to clients, in PEM; read again on change",
    ),
    Setting::used("key-file", Path, "", "key of --cert-file, in PEM"),
    Setting::used(
        "client-cert-auth",
        Bool,
        "false",
        "clients must show a certificate that --trusted-ca-file vouches for",
    ),
    Setting::used(
        "client-cert-file",
        Path,
        "",
        "certificate of this member as a client of itself (not needed here)",
    ),
    Setting::used("client-key-file", Path, "", "key of --client-cert-file"),
    Setting::used(
        "client-crl-file",
        Path,
        "",
        "list of client certificates that do not count any more, in PEM or DER",
    ),
    Setting::used(
        "client-cert-allowed-hostname",
        Text,
        "",
        "host names, divided by commas, one of which a client's certificate must be for",
    ),
    Setting::used(
        "trusted-ca-file",
        Path,
        "",
        "authorities that must vouch for clients, in PEM; clients must then show a certificate",
    ),
    Setting::used(
        "auto-tls",
        Bool,
        "false",
        "make a certificate for clients in the data directory",
    ),
    Setting::used("peer-cert-file", Path, "", "certificate shown to other members, in PEM"),
    Setting::used("peer-key-file", Path, "", "key of --peer-cert-file, in PEM"),
    Setting::used(
        "peer-client-cert-auth",
        Bool,
        "false",
        "members must show a certificate that --peer-trusted-ca-file vouches for",
    ),
    Setting::used(
        "peer-client-cert-file",
        Path,
        "",
        "certificate shown when connecting to other members (\"\": --peer-cert-file)",
    ),
    Setting::used("peer-client-key-file", Path, "", "key of --peer-client-cert-file"),
    Setting::used(
        "peer-crl-file",
        Path,
        "",
        "list of members' certificates that do not count any more, in PEM or DER",
    ),
    Setting::used(
        "peer-trusted-ca-file",
        Path,
        "",
        "authorities that vouch for members, in PEM (\"\": those that this machine trusts)",
    ),
    Setting::used("peer-auto-tls", Bool, "false", "make a certificate for other members"),
    Setting::used(
        "peer-cert-allowed-cn",
        Text,
        "",
        "common names, divided by commas, one of which a member's certificate must have",
    ),
    Setting::used(
        "peer-cert-allowed-hostname",
        Text,
        "",
        "host names, divided by commas, one of which a member's certificate must be for",
    ),
    Setting::used(
        "peer-skip-client-san-verification",
        Bool,
        "false",
        "let a member connect from elsewhere than its certificate's alternative names say",
    ),
    Setting::used(
        "self-signed-cert-validity",
        COUNT,
        "1",
        "years for which certificates of --auto-tls and --peer-auto-tls are good",
    ),
    Setting::used(
        "cipher-suites",
        List,
        "",
        "cipher suites of TLS 1.2 (\"\": all that are sound); those of TLS 1.3 always count",
    ),
    Setting::used("tls-min-version", Text, "TLS1.2", "TLS1.2 or TLS1.3"),
    Setting::used("tls-max-version", Text, "", "TLS1.2 or TLS1.3 (\"\": the newest)"),
    Setting::used("cors", List, "*", "origins of pages that may ask over HTTP; * for all"),
    Setting::used(
        "host-whitelist",
        List,
        "*",
        "host names that HTTP requests may be for; * for all",
    ),
    Setting::used(
        "auth-token",
        Text,
        "simple",
        "tokens of users: simple, or jwt,sign-method=RS256,pub-key=file,priv-key=file,ttl=5m",
    ),
    Setting::used(
        "auth-token-ttl",
        COUNT,
        "300",
        "seconds that a simple token stays good without being used (0: 300)",
    ),
    Setting::used(
        "bcrypt-cost",
        Integer { min: 4, max: 31 },
        "10",
        "what a password's hash costs, as the power of two",
    ),
];

const MONITORING: &[Setting] = &[
    Setting::used(
        "log-level",
        Choice(&["debug", "info", "warn", "error", "dpanic", "panic", "fatal"]),
        "info",
        "the least level that is logged",
    ),
    Setting::used("log-format", Choice(&["json", "console"]), "json", "json or console"),
    Setting::used(
        "log-outputs",
        List,
        "default",
        "stderr, stdout, default (stderr), or paths of files",
    ),
    Setting::used("listen-metrics-urls", Urls, "", "more addresses for metrics and health"),
    Setting::no_effect("logger", Text, "zap", "there is one logger"),
    Setting::no_effect(
        "enable-log-rotation",
        Bool,
        "false",
        "let logrotate (with copytruncate) or journald rotate",
    ),
    Setting::no_effect(
        "log-rotation-config-json",
        Text,
        "",
        "let logrotate (with copytruncate) or journald rotate",
    ),
    Setting::no_effect(
        "enable-pprof",
        Bool,
        "false",
        "there is no Go runtime to profile; use perf, and the metrics",
    ),
    Setting::used(
        "metrics",
        Choice(&["basic", "extensive"]),
        "basic",
        "extensive adds histograms of how long calls take (grpc_server_handling_seconds)",
    ),
    Setting::no_effect("warning-apply-duration", Duration, "100ms", NO_SLOW_LOG),
    Setting::no_effect("warning-unary-request-duration", Duration, "300ms", NO_SLOW_LOG),
    Setting::no_effect("enable-distributed-tracing", Bool, "false", NO_TRACING),
    Setting::no_effect("distributed-tracing-address", Text, "localhost:4317", NO_TRACING),
    Setting::no_effect("distributed-tracing-service-name", Text, "etcd", NO_TRACING),
    Setting::no_effect("distributed-tracing-instance-id", Text, "", NO_TRACING),
    Setting::no_effect("distributed-tracing-sampling-rate", COUNT, "0", NO_TRACING),
];

const FEATURES: &[Setting] = &[
    Setting::no_effect("corrupt-check-time", Duration, "0s", NO_CHECK),
    Setting::no_effect("compact-hash-check-time", Duration, "1m", NO_CHECK),
    Setting::no_effect("compaction-batch-limit", COUNT, "1000", PACED),
    Setting::no_effect("compaction-sleep-interval", Duration, "10ms", PACED),
    Setting::used(
        "watch-progress-notify-interval",
        Duration,
        "10m",
        "how often a watcher that asks for it is told that nothing happened (at least 100ms)",
    ),
    Setting::no_effect(
        "bootstrap-defrag-threshold-megabytes",
        COUNT,
        "0",
        "space comes back in the background",
    ),
    Setting::no_effect(
        "downgrade-check-time",
        Duration,
        "5s",
        "no etcd reads this server's data, so that there is no downgrade",
    ),
];

const OLDER: &[Setting] = &[
    Setting::no_effect("enable-v2", Bool, "false", GONE),
    Setting::no_effect("v2-deprecation", Text, "", GONE),
    Setting::no_effect("debug", Bool, "false", "use --log-level=debug"),
    Setting::no_effect("log-output", Text, "default", "use --log-outputs"),
    Setting::no_effect("log-package-levels", Text, "", "use --log-level"),
    Setting::refused("proxy", Choice(&["off", "readonly", "on"]), "off", PROXY),
    Setting::no_effect("proxy-failure-wait", COUNT, "5000", NO_PROXY_EFFECT),
    Setting::no_effect("proxy-refresh-interval", COUNT, "30000", NO_PROXY_EFFECT),
    Setting::no_effect("proxy-dial-timeout", COUNT, "1000", NO_PROXY_EFFECT),
    Setting::no_effect("proxy-write-timeout", COUNT, "5000", NO_PROXY_EFFECT),
    Setting::no_effect("proxy-read-timeout", COUNT, "0", NO_PROXY_EFFECT),
    Setting::refused("ca-file", Path, "", OLD_CA),
    Setting::refused("peer-ca-file", Path, "", OLD_CA),
    Setting::no_effect("experimental-enable-v2v3", Text, "", GONE),
    Setting::no_effect("experimental-initial-corrupt-check", Bool, "false", NO_CHECK),
    Setting::no_effect("experimental-corrupt-check-time", Duration, "0s", NO_CHECK),
    Setting::no_effect("experimental-compact-hash-check-enabled", Bool, "false", NO_CHECK),
    Setting::no_effect("experimental-compact-hash-check-time", Duration, "1m", NO_CHECK),
    Setting::no_effect("experimental-enable-lease-checkpoint", Bool, "false", NO_LEASE),
    Setting::no_effect("experimental-enable-lease-checkpoint-persist", Bool, "false", NO_LEASE),
    Setting::no_effect("experimental-compaction-batch-limit", COUNT, "1000", PACED),
    Setting::no_effect("experimental-compaction-sleep-interval", Duration, "10ms", PACED),
    Setting::used(
        "experimental-watch-progress-notify-interval",
        Duration,
        "10m",
        "as --watch-progress-notify-interval, which counts if both are given",
    ),
    Setting::used(
        "experimental-peer-skip-client-san-verification",
        Bool,
        "false",
        "the same as --peer-skip-client-san-verification",
    ),
    Setting::no_effect("experimental-warning-apply-duration", Duration, "100ms", NO_SLOW_LOG),
    Setting::no_effect(
        "experimental-warning-unary-request-duration",
        Duration,
        "300ms",
        NO_SLOW_LOG,
    ),
    Setting::no_effect("experimental-backend-bbolt-freelist-type", Text, "map", NO_BBOLT),
    Setting::no_effect("experimental-memory-mlock", Bool, "false", NO_BBOLT),
    Setting::no_effect(
        "experimental-txn-mode-write-with-shared-buffer",
        Bool,
        "true",
        "transactions copy nothing",
    ),
    Setting::no_effect(
        "experimental-bootstrap-defrag-threshold-megabytes",
        COUNT,
        "0",
        "space comes back in the background",
    ),
    Setting::used(
        "experimental-max-learners",
        COUNT,
        "1",
        "as --max-learners, which counts if both are given",
    ),
    Setting::no_effect(
        "experimental-wait-cluster-ready-timeout",
        Duration,
        "5s",
        "a member serves when it can, and /readyz says so",
    ),
    Setting::no_effect(
        "experimental-stop-grpc-service-on-defrag",
        Bool,
        "false",
        "defragmentation stops nothing",
    ),
    Setting::no_effect("experimental-enable-distributed-tracing", Bool, "false", NO_TRACING),
    Setting::no_effect(
        "experimental-distributed-tracing-address",
        Text,
        "localhost:4317",
        NO_TRACING,
    ),
    Setting::no_effect("experimental-distributed-tracing-service-name", Text, "etcd", NO_TRACING),
    Setting::no_effect("experimental-distributed-tracing-instance-id", Text, "", NO_TRACING),
    Setting::no_effect("experimental-distributed-tracing-sampling-rate", COUNT, "0", NO_TRACING),
    Setting::no_effect("experimental-snapshot-catchup-entries", COUNT, "5000", NO_SNAPSHOT),
    Setting::no_effect("experimental-snapshot-catch-up-entries", COUNT, "5000", NO_SNAPSHOT),
    Setting::no_effect("experimental-downgrade-check-time", Duration, "5s", GONE),
    Setting::no_effect("experimental-set-member-localaddr", Bool, "false", "the system chooses"),
];

/// Every setting, group after group.
pub fn all() -> impl Iterator<Item = &'static Setting> {
    GROUPS.iter().flat_map(|group| group.settings)
}

/// The setting of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Setting> {
    all().find(|setting| setting.name == name)
}

/// Names that may follow a dash or stand in the file without being settings of the server: they
/// make the program print something and end.
pub const ACTIONS: &[&str] = &["help", "version", "print-config"];

/// The most similar name, for whoever mistyped one; settings that do something come first.
#[must_use]
pub fn nearest(name: &str) -> Option<&'static str> {
    let used = all().filter(|s| s.state == State::Used).map(|s| s.name);
    let others = all().filter(|s| s.state != State::Used).map(|s| s.name);
    super::suggest::nearest(name, used.chain(ACTIONS.iter().copied()).chain(others))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::value::Value;

    #[test]
    fn names_are_unique() {
        let names: BTreeSet<_> = all().map(|setting| setting.name).collect();
        assert_eq!(names.len(), all().count(), "table invariant 1");
    }

    #[test]
    fn each_default_is_a_value_of_its_kind() {
        for setting in all() {
            let parsed = Value::parse(setting.kind, setting.default);
            assert!(parsed.is_ok(), "table invariant 2: {} {parsed:?}", setting.name);
        }
    }

    #[test]
    fn a_mistyped_name_finds_its_neighbour() {
        assert_eq!(nearest("listen-client-url"), Some("listen-client-urls"));
        assert_eq!(nearest("datadir"), Some("data-dir"));
        assert_eq!(nearest("inital-cluster"), Some("initial-cluster"));
        assert_eq!(nearest("zzzzzzzzzzzz"), None);
    }
}
