//! What the API may be told: limits, versions and who may ask.
//!
//! The defaults are those of etcd 3.6; each field names the flag that changes it.

use std::time::Duration;

use crate::auth::AuthSettings;

/// What a message may exceed the limit for requests by, so that a request which is just too large
/// is refused with a sentence about requests and not one about messages. etcd's figure.
pub const MESSAGE_OVERHEAD_BYTES: usize = 512 << 10;

/// The versions that clients are told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Versions {
    /// The etcd version this server is compatible with, as `major.minor.patch`.
    pub server: String,
    /// The version that all members speak, as `major.minor.0`.
    pub cluster: String,
    /// The version of the store's format that etcd would report, as `major.minor.0`.
    pub storage: String,
}

/// Where the events for a watcher are cut into responses; no flag changes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WatchCuts {
    /// A response with events of several revisions ends once it has so many bytes, so that clients
    /// with a limit for messages, four megabytes with some, can read it.
    pub response_bytes: usize,
    /// The largest response in bytes for a watcher that takes fragments, if it has several events;
    /// `None` for that of the largest message.
    pub fragment_bytes: Option<usize>,
}

impl Default for WatchCuts {
    fn default() -> WatchCuts {
        WatchCuts { response_bytes: 1 << 20, fragment_bytes: None }
    }
}

/// The API's settings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// The versions that clients are told.
    pub version: Versions,
    /// The largest request, in bytes (`--max-request-bytes`).
    pub max_request_bytes: usize,
    /// The most operations in a transaction (`--max-txn-ops`).
    pub max_txn_ops: usize,
    /// The most streams of one connection (`--max-concurrent-streams`).
    pub max_concurrent_streams: u32,
    /// How long a connection may be silent before it is pinged (`--grpc-keepalive-interval`).
    pub keepalive_interval: Duration,
    /// How long a ping may go unanswered (`--grpc-keepalive-timeout`).
    pub keepalive_timeout: Duration,
    /// How often a watcher that wants to know is told that nothing happened
    /// (`--watch-progress-notify-interval`).
    pub watch_progress_interval: Duration,
    /// Where what a watcher is told is cut into responses.
    pub watch_cuts: WatchCuts,
    /// The shortest time without a leader until an election (`--election-timeout`).
    pub election_timeout: Duration,
    /// The most connections at a time. The default keeps them below the limit of open files.
    pub connections_max: usize,
    /// How long a graceful stop waits for requests under way.
    pub stop_timeout: Duration,
    /// Whether changes of the membership are refused that leave too few members that run
    /// (`--strict-reconfig-check`).
    pub strict_reconfig: bool,
    /// The most learners (`--max-learners`).
    pub learners_max: usize,
    /// Whether the API is offered over JSON, too (`--enable-grpc-gateway`).
    pub grpc_gateway: bool,
    /// The origins of pages that may ask over HTTP (`--cors`); `*` for all.
    pub cors: Vec<String>,
    /// The host names that HTTP requests may be for (`--host-whitelist`); `*` for all.
    pub host_whitelist: Vec<String>,
    /// Tokens and passwords.
    pub auth: AuthSettings,
}

impl Versions {
    /// The versions of a server that is compatible with `server`, a version of three parts.
    #[must_use]
    pub fn compatible_with(server: &str) -> Versions {
        let minor = minor_of(server);
        Versions {
            server: server.to_owned(),
            cluster: format!("{minor}.0"),
            storage: format!("{minor}.0"),
        }
    }

    /// The cluster's version as `major.minor`.
    #[must_use]
    pub fn cluster_minor(&self) -> String {
        minor_of(&self.cluster).to_owned()
    }
}

/// `major.minor` of `major.minor.patch`.
fn minor_of(version: &str) -> &str {
    version.rsplit_once('.').map_or(version, |(minor, _)| minor)
}

impl Default for Versions {
    fn default() -> Versions {
        Versions::compatible_with("3.6.0")
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            version: Versions::default(),
            max_request_bytes: 3 << 19,
            max_txn_ops: 128,
            max_concurrent_streams: u32::MAX,
            keepalive_interval: Duration::from_secs(2 * 60 * 60),
            keepalive_timeout: Duration::from_secs(20),
            watch_progress_interval: Duration::from_secs(10 * 60),
            watch_cuts: WatchCuts::default(),
            election_timeout: Duration::from_secs(1),
            connections_max: connections_max(),
            stop_timeout: Duration::from_secs(1),
            strict_reconfig: true,
            learners_max: 1,
            grpc_gateway: true,
            cors: vec!["*".to_owned()],
            host_whitelist: vec!["*".to_owned()],
            auth: AuthSettings::default(),
        }
    }
}

/// Files that are kept free for the log, the engine and the other members; etcd's figure.
const FILES_RESERVED: usize = 150;

/// As many connections as files may be open, less those that the member needs itself.
fn connections_max() -> usize {
    const UNLIMITED: usize = 1 << 20;
    let limit = crate::metrics::open_files_limit().map_or(UNLIMITED, |limit| limit as usize);
    limit.saturating_sub(FILES_RESERVED).clamp(64, UNLIMITED)
}
