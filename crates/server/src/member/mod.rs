//! A member's life: from a checked configuration to a served cluster, and an orderly end.
//!
//! Responsible for the order in which things are opened and closed. What is opened first is closed
//! last: the sockets (a port that is taken is the most common mistake, and nothing has been touched
//! yet), the log's lock, the store, the log, the transport, the API.
//!
//! Three threads do the work: this one, with the member's loop, its peers and its clients; the log's;
//! the engine's. Every hand-off between threads costs more than most of what is done on either side.

mod machine;
mod served;

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jangada::net::TransportLimits;
use jangada::raft::NodeId;
use jangada::wal::{FileDisk, OpenError, Wal};
use jangada::{Beginning, MemberAddress, NodeError, Options};
use jangada_kv::{Command, EngineError, EngineThread};
use tokio::signal::unix::{SignalKind, signal};

use crate::backend::Backend;
use crate::config::{ClusterState, Config, ConfigError, Url};
use crate::settings::Versions;
use crate::{Edge, Metrics, Settings, connection};
use machine::KvMachine;
pub use served::{Served, ServedMember, Timer, TokioTimer};

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

/// Runs a member until it is told to stop by SIGTERM or SIGINT.
///
/// # Errors
/// Why it could not run; nothing is lost.
pub fn run(config: Config) -> Result<(), RunError> {
    std::panic::set_hook(Box::new(|panic| broken(panic)));
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let listeners = config.listen()?;
    config.create_directories()?;
    let disk = FileDisk::open(&config.wal_dir)?;
    refuse_to_join(&config, Wal::exists(&disk)?)?;
    let engine_options = jangada_kv::Options::default();
    let metrics = Arc::new(Metrics::default());
    let commits = metrics.backend_commit.clone();
    let others = 1 < config.members.len();
    let (machine, engine) = machine::open(&config.data_dir, engine_options, commits, others)?;
    let store = machine.shared().clone();
    let peer_listeners = listeners.peer.into_iter().map(|listener| listener.socket).collect();
    let node = node_config(&config, disk, peer_listeners, &metrics);
    let opened = jangada::open(node, machine)?;
    tracing::info!(found = opened.recovered(), "opened the log");
    let member = ServedMember {
        handle: opened.handle(),
        figures: opened.figures(),
        store,
        cluster_id: config.cluster_id.0,
        member_id: config.member_id.0,
        members: config.members.iter().map(|m| (m.id.0, texts(&m.peer_urls))).collect(),
        request_timeout: request_timeout(&config),
        quota_bytes: config.limits.quota_backend_bytes.unwrap_or(0),
        engine_lag_bytes_max: engine_options.engine_lag_bytes_max,
    };
    let backend = Served::new(member, TokioTimer);
    let edge = Edge::new(backend.clone(), settings(&config), metrics);
    let clients = listeners.client.into_iter().chain(listeners.metrics);
    let clients: Vec<(Url, TcpListener)> = clients.map(|l| (l.url, l.socket)).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    let ended = local.block_on(&runtime, serve(config, opened, engine, backend, edge, clients));
    // Looking up a peer's name may take long, and nobody waits for it any more.
    drop(local);
    runtime.shutdown_background();
    ended
}

/// A member without data that is told the cluster exists is to be let in by the others, and they
/// cannot do that. To form the cluster anew from such a member would give it votes that the life of
/// its data directory before this one may have given already.
fn refuse_to_join(config: &Config, has_log: bool) -> Result<(), ConfigError> {
    if has_log || config.cluster_state == ClusterState::New {
        return Ok(());
    }
    Err(ConfigError::Directory {
        name: "wal-dir",
        path: config.wal_dir.clone(),
        problem: "it holds no log, and --initial-cluster-state=existing is for a member that has \
                  one: joining a cluster that exists is not served by this version; check the path \
                  if this member ran before, or use --initial-cluster-state=new to form a cluster"
            .to_owned(),
    })
}

fn texts(urls: &[Url]) -> Vec<String> {
    urls.iter().map(Url::to_string).collect()
}

fn request_timeout(config: &Config) -> Duration {
    Duration::from_secs(5) + 2 * config.election_timeout
}

fn node_config(
    config: &Config,
    disk: FileDisk,
    listeners: Vec<TcpListener>,
    metrics: &Metrics,
) -> jangada::Config {
    let micros = |duration: Duration| u64::try_from(duration.as_micros()).expect("bounded by etcd");
    let address = |url: &Url| url.authority();
    let fsync = metrics.wal_fsync.clone();
    jangada::Config {
        cluster: config.cluster_id.0,
        group: 0,
        id: NodeId(config.member_id.0),
        members: config
            .members
            .iter()
            .map(|member| MemberAddress {
                id: NodeId(member.id.0),
                addresses: member.peer_urls.iter().map(address).collect(),
            })
            .collect(),
        beginning: Beginning::Bootstrap,
        advertised: Vec::new(),
        log_directory: config.wal_dir.clone(),
        log_disk: Some(disk),
        sync_observer: Some(Box::new(move |took, _| fsync.observe(took))),
        listeners,
        options: Options {
            heartbeat_interval_us: micros(config.heartbeat_interval),
            election_timeout_us: micros(config.election_timeout),
            leader_wait_us: micros(request_timeout(config)),
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
        stop_timeout: STOP_TIMEOUT,
        ..defaults
    }
}

/// How long a stop waits for requests under way. They take milliseconds; what is open for longer are
/// streams that end only with their connection. Whoever told the member to stop expects it to be gone
/// in a second or two, the engine's last transaction included.
const STOP_TIMEOUT: Duration = Duration::from_millis(500);

/// Longer than any connection lives, and no overflow when added to the time.
const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// Serves until told to stop.
async fn serve(
    config: Config,
    opened: jangada::Opened<KvMachine>,
    engine: EngineThread,
    backend: Served,
    edge: Edge<Served>,
    clients: Vec<(Url, TcpListener)>,
) -> Result<(), RunError> {
    let handle = opened.handle();
    let figures = opened.figures();
    let store = backend.store().clone();
    let (stop, stopping) = tokio::sync::watch::channel(false);
    let mut accepting = Vec::new();
    for (url, listener) in clients {
        let address = listener.local_addr()?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        tracing::info!("listening for client requests on {}", url.authority());
        tracing::info!(address = %address, "serving client traffic insecurely");
        let stopped = stopped(stopping.clone());
        accepting.push(tokio::task::spawn_local(connection::serve(
            edge.clone(),
            listener,
            stopped,
        )));
    }
    tracing::info!(
        local_member_id = %format!("{:x}", config.member_id.0),
        cluster_id = %format!("{:x}", config.cluster_id.0),
        "started the member"
    );
    let mut member = tokio::task::spawn_local(opened.run());
    let publishing = tokio::task::spawn_local(publish(backend, config));
    let watching = tokio::task::spawn_local(watch(figures, store));
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let ended = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        ended = &mut member => Some(ended),
    };
    tracing::info!(by_itself = ended.is_some(), "stopping");
    publishing.abort();
    watching.abort();
    stop.send_replace(true);
    for accepting in accepting {
        accepting.await.map_err(std::io::Error::other)?;
    }
    let ended = match ended {
        Some(ended) => ended,
        None => {
            handle.stop();
            member.await
        }
    };
    ended.map_err(std::io::Error::other)??;
    engine.stop()?;
    tracing::info!("stopped");
    Ok(())
}

async fn stopped(mut stopping: tokio::sync::watch::Receiver<bool>) {
    // An error means that the sender is gone, and then it is time to stop, too.
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// How long to wait before the member's name is published again after a failure.
const PUBLISH_RETRY: Duration = Duration::from_millis(500);

/// Publishes this member's name and client URLs in the store, as etcd's members do when they start.
async fn publish(backend: Served, config: Config) {
    let own = jangada_kv::Member {
        id: config.member_id.0,
        name: config.name.clone(),
        client_urls: texts(&config.advertise_client_urls),
    };
    loop {
        let known =
            backend.read_barrier().await.is_ok() && backend.store().read().members().contains(&own);
        if known || backend.propose(Command::Member(own.clone())).await.is_ok() {
            break;
        }
        tokio::time::sleep(PUBLISH_RETRY).await;
    }
    tracing::info!(
        name = config.name,
        client_urls = %own.client_urls.join(","),
        "published local member to cluster through raft"
    );
    tracing::info!("ready to serve client requests");
}

/// How often the log's size and the store's health are looked at.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Beyond this a retained log is worth a warning: a member is away, and the log is kept for it.
const LOG_WARNING_BYTES: u64 = 1 << 30;

/// Tells of compactions, warns when the log grows because it cannot be cut, each time it has doubled,
/// and ends the process when the engine could not be read, for what it holds is then not known.
async fn watch(figures: Arc<jangada::Figures>, store: jangada_kv::Shared) {
    let mut warn_at = LOG_WARNING_BYTES;
    let mut compacted = store.read().compact_revision();
    loop {
        tokio::time::sleep(WATCH_INTERVAL).await;
        let compact_revision = store.read().compact_revision();
        if compacted < compact_revision {
            // In effect at once; the space comes back in the background.
            tracing::info!(compact_revision, "finished scheduled compaction");
            compacted = compact_revision;
        }
        if let Some(fault) = store.fault() {
            broken(&fault)
        }
        let bytes = figures.log_bytes.load(Ordering::Relaxed);
        if warn_at <= bytes {
            tracing::warn!(
                bytes,
                "the log is kept because a member is away or the engine is behind; bring the \
                 member back, and watch the free space"
            );
            warn_at = bytes.saturating_mul(2);
        } else if bytes < LOG_WARNING_BYTES {
            warn_at = LOG_WARNING_BYTES;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Invocation;

    fn config(state: &str) -> Config {
        let words = [format!("--initial-cluster-state={state}").into()];
        match Invocation::parse(words, []).expect("a good line") {
            Invocation::Serve(config) => *config,
            Invocation::Print(text) => panic!("the line serves: {text}"),
        }
    }

    #[test]
    fn a_member_without_a_log_does_not_join_what_exists() {
        let error = refuse_to_join(&config("existing"), false).expect_err("it must be refused");
        let sentence = error.to_string();
        assert!(sentence.contains("holds no log"), "{sentence}");
        assert!(sentence.contains("--initial-cluster-state=new"), "{sentence}");
        refuse_to_join(&config("existing"), true).expect("a restart");
        refuse_to_join(&config("new"), false).expect("a new cluster");
        refuse_to_join(&config("new"), true).expect("a restart with the flags of the first start");
    }
}
