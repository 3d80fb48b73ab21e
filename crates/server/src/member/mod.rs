//! A member's life: from a checked configuration to a served cluster, and an orderly end.
//!
//! Responsible for the order in which things are opened and closed. What is opened first is closed
//! last: the sockets (a port that is taken is the most common mistake, and nothing has been touched
//! yet), the log's lock, the store, the log, the transport, the API.
//!
//! Three threads do the work: this one, with the member's loop, its peers and its clients; the log's;
//! the engine's. Every hand-off between threads costs more than most of what is done on either side.

mod clock;
mod compaction;
mod connections;
mod files;
mod join;
mod lessor;
mod machine;
mod probe;
mod security;
mod serve;
mod served;
mod space;
mod start;
mod transfers;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use jangada::net::{PeerListener, Security, TransportLimits};
use jangada::raft::NodeId;
use jangada::wal::{FileDisk, OpenError};
use jangada::{Beginning, ForceError, NodeError, Options};
use jangada_kv::EngineError;

use crate::config::{ClusterState, Config, ConfigError, Url};
use crate::settings::Versions;
use crate::{Edge, Metrics, Settings};
use join::JoinError;
pub use lessor::{Beside, LessorDesk};
pub(crate) use machine::STORE_FILE;
pub use served::{Served, ServedMember, Timer, TokioTimer};
pub use space::{Sight, Space};
pub(crate) use start::Start;

/// Why a member did not run, or ended by itself.
#[derive(Debug)]
pub enum RunError {
    /// The configuration cannot be put into effect.
    Config(ConfigError),
    /// The log's folder cannot be opened.
    Log(OpenError),
    /// The store cannot be opened.
    Engine(EngineError),
    /// The member cannot run.
    Node(NodeError),
    /// The cluster that the member is to join does not let it in.
    Join(JoinError),
    /// The system refuses a runtime, a socket or a signal.
    System(std::io::Error),
}

impl std::fmt::Display for RunError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RunError::Config(error) => error.fmt(f),
            RunError::Log(error) => error.fmt(f),
            RunError::Engine(error) => error.fmt(f),
            RunError::Node(error) => error.fmt(f),
            RunError::Join(error) => error.fmt(f),
            RunError::System(error) => write!(f, "the system does not let the member run: {error}"),
        }
    }
}

impl std::error::Error for RunError {}

impl From<ConfigError> for RunError {
    fn from(error: ConfigError) -> RunError {
        RunError::Config(error)
    }
}

impl From<OpenError> for RunError {
    fn from(error: OpenError) -> RunError {
        RunError::Log(error)
    }
}

impl From<EngineError> for RunError {
    fn from(error: EngineError) -> RunError {
        RunError::Engine(error)
    }
}

impl From<NodeError> for RunError {
    fn from(error: NodeError) -> RunError {
        RunError::Node(error)
    }
}

impl From<JoinError> for RunError {
    fn from(error: JoinError) -> RunError {
        RunError::Join(error)
    }
}

impl From<std::io::Error> for RunError {
    fn from(error: std::io::Error) -> RunError {
        RunError::System(error)
    }
}

/// A broken invariant or a broken disk: the process stops, loudly, before it can do harm.
fn broken<T>(error: &dyn std::fmt::Display) -> T {
    tracing::error!("{error}");
    eprintln!("jangada: {error}");
    std::process::abort()
}

/// Runs a member until it is told to stop by SIGTERM or SIGINT, or is removed from its cluster.
///
/// # Errors
/// Why it could not run; nothing is lost.
pub fn run(mut config: Config) -> Result<(), RunError> {
    std::panic::set_hook(Box::new(|panic| broken(panic)));
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let has_log = start::has_log(&config)?;
    if !has_log {
        config.discover()?;
    }
    start::check_flags(&config, has_log)?;
    files::raise_limit();
    let listeners = config.listen()?;
    config.create_directories()?;
    let acceptor = security::of_clients(&config)?;
    let peer_security = security::of_peers(&config)?;
    let disk = FileDisk::open(&config.wal_dir)?;
    let start = match jangada::wal::owner(&disk)? {
        Some(found) => Start::of_log(&config, found),
        None if config.force_new_cluster => {
            return Err(NodeError::Force(ForceError::NoLog).into());
        }
        None if config.cluster_state == ClusterState::New => Start::first(&config)?,
        None => join::join(&config, &*peer_security)?,
    };
    let engine_options = jangada_kv::Options::default();
    let metrics = Arc::new(match config.metrics_extensive {
        true => Metrics::default().extensive(),
        false => Metrics::default(),
    });
    let commits = metrics.backend_commit.clone();
    let others = !config.force_new_cluster
        && (1 < start.members.len() || start.beginning == Beginning::Join);
    let (machine, engine) = machine::open(&config.data_dir, engine_options, commits, others)?;
    let store = machine.shared().clone();
    let peer_listeners = listeners.peer.into_iter().map(PeerListener::from).collect();
    let ids = (start.cluster, start.member);
    let security = Arc::clone(&peer_security);
    let node = node_config(&config, start, disk, peer_listeners, peer_security, &metrics);
    let opened = jangada::open(node, machine)?;
    tracing::info!(found = opened.recovered(), "opened the log");
    let member = ServedMember {
        handle: opened.handle(),
        figures: opened.figures(),
        store,
        cluster_id: ids.0,
        member_id: ids.1,
        election_timeout: config.election_timeout,
        request_timeout: request_timeout(&config),
        quota_bytes: config.limits.quota_backend_bytes.unwrap_or(0),
        again_bytes_max: AGAIN_BYTES_MAX,
        lease_ttl_min: crate::lease::ttl_min(config.heartbeat_interval, config.election_timeout),
        engine_lag_bytes_max: engine_options.engine_lag_bytes_max,
    };
    let backend = Served::new(member, TokioTimer);
    let edge = Edge::new(backend.clone(), settings(&config), Arc::clone(&metrics));
    let listeners = listeners.client.into_iter().chain(listeners.metrics).collect();
    let outside = serve::Outside { listeners, acceptor, security };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    let ended = local
        .block_on(&runtime, serve::serve(config, opened, engine, backend, edge, metrics, outside));
    // Looking up a peer's name may take long, and nobody waits for it any more.
    drop(local);
    runtime.shutdown_background();
    ended
}

fn texts(urls: &[Url]) -> Vec<String> {
    urls.iter().map(Url::to_string).collect()
}

fn request_timeout(config: &Config) -> Duration {
    Duration::from_secs(5) + 2 * config.election_timeout
}

fn node_config(
    config: &Config,
    start: Start,
    disk: FileDisk,
    listeners: Vec<PeerListener>,
    security: Arc<dyn Security>,
    metrics: &Metrics,
) -> jangada::Config {
    let micros = |duration: Duration| u64::try_from(duration.as_micros()).expect("bounded by etcd");
    let (fsync, written) = (metrics.wal_fsync.clone(), metrics.wal_written_bytes.clone());
    jangada::Config {
        cluster: start.cluster,
        group: 0,
        id: NodeId(start.member),
        members: start.members,
        beginning: start.beginning,
        force_alone: config.force_new_cluster,
        advertised: texts(&config.advertise_peer_urls),
        log_directory: config.wal_dir.clone(),
        log_disk: Some(disk),
        sync_observer: Some(Box::new(move |took, bytes| {
            fsync.observe(took);
            written.add(bytes);
        })),
        listeners,
        security: Some(security),
        options: Options {
            heartbeat_interval_us: micros(config.heartbeat_interval),
            election_timeout_us: micros(config.election_timeout),
            leader_wait_us: micros(request_timeout(config)),
            trailing_bytes_max: config.snapshot_catchup_bytes,
            ..Options::default()
        },
        log_options: jangada::wal::Options::default(),
        transport_limits: TransportLimits::default(),
    }
}

fn settings(config: &Config) -> Settings {
    let limits = &config.limits;
    let defaults = Settings::default();
    Settings {
        version: Versions::compatible_with(&config.reported_version),
        max_request_bytes: limits.request_bytes_max,
        max_txn_ops: limits.transaction_operations_max,
        max_concurrent_streams: limits.concurrent_streams_max,
        keepalive_interval: limits.keepalive_interval.unwrap_or(NEVER),
        keepalive_timeout: limits.keepalive_timeout,
        cors: config.cors.clone(),
        host_whitelist: config.host_whitelist.clone(),
        auth: config.auth.clone(),
        stop_timeout: STOP_TIMEOUT,
        strict_reconfig: config.strict_reconfig,
        learners_max: limits.learners_max,
        grpc_gateway: config.grpc_gateway,
        watch_progress_interval: limits.watch_progress_interval,
        election_timeout: config.election_timeout,
        ..defaults
    }
}

/// A copy of so much costs less than a microsecond, and a thousand of them little memory.
const AGAIN_BYTES_MAX: usize = 16 << 10;

/// How long a stop waits for requests under way. They take milliseconds; what is open for longer are
/// streams that end only with their connection. Whoever told the member to stop expects it to be gone
/// in a second or two, the engine's last transaction included.
const STOP_TIMEOUT: Duration = Duration::from_millis(500);

/// Longer than any connection lives, and no overflow when added to the time.
const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
