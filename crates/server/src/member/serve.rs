//! A member that serves: from the first accepted connection to an orderly end.
//!
//! Responsible for the order in which things end. A member that is told to stop and leads hands over
//! first, while it still serves; then it takes no more requests and answers those it has; then its
//! loop ends, then the engine. Whoever is told twice to stop stops at once: the log and the engine
//! bear that at any time.

use std::sync::Arc;
use std::time::Duration;

use jangada::net::Security as PeerSecurity;
use jangada::{Ended, Handle, NodeError};
use jangada_kv::{Command, EngineThread};
use jangada_tls::Acceptor;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::lessor::LessorDesk;
use super::machine::KvMachine;
use super::served::{Served, TokioTimer};
use super::{RunError, compaction, probe, texts, watch};
use crate::backend::Backend;
use crate::config::{Config, Listener, MemberId, Scheme};
use crate::connection::{self, Security};
use crate::lease::Lessor;
use crate::{Edge, Metrics};

/// Exit status of a process that was told twice to stop: what it had in hand is not finished.
const STOPPED_AT_ONCE: i32 = 1;

/// Where clients come in, and how other members are reached.
pub(super) struct Outside {
    pub(super) listeners: Vec<Listener>,
    /// What secures the connections of those whose URLs ask for it.
    pub(super) acceptor: Option<Arc<Acceptor>>,
    /// What secures the connections between members.
    pub(super) security: Arc<dyn PeerSecurity>,
}

/// Serves until told to stop, or until the member ends by itself.
pub(super) async fn serve(
    config: Config,
    opened: jangada::Opened<KvMachine>,
    engine: EngineThread,
    backend: Served,
    edge: Edge<Served>,
    metrics: Arc<Metrics>,
    outside: Outside,
) -> Result<(), RunError> {
    let handle = opened.handle();
    let figures = opened.figures();
    let election_timeout = config.election_timeout;
    let (stop, stopping) = tokio::sync::watch::channel(false);
    let mut accepting = Vec::new();
    let Outside { listeners, acceptor, security } = outside;
    let serving = edge.serving().clone();
    for Listener { url, socket, also } in listeners {
        let address = socket.local_addr()?;
        let listener = tokio::net::TcpListener::from_std(socket)?;
        tracing::info!("listening for client requests on {}", url.authority());
        let schemes = [Some(url.scheme()), also];
        let security = match acceptor.clone().filter(|_| schemes.contains(&Some(Scheme::Https))) {
            None => Security::Plain,
            Some(acceptor) if schemes.contains(&Some(Scheme::Http)) => Security::Either(acceptor),
            Some(acceptor) => Security::Tls(acceptor),
        };
        if !matches!(security, Security::Plain) {
            tracing::info!(address = %address, "serving client traffic securely");
        }
        if !matches!(security, Security::Tls(_)) {
            tracing::info!(address = %address, "serving client traffic insecurely");
        }
        let stopped = stopped(stopping.clone());
        accepting.push(tokio::task::spawn_local(connection::serve_secured(
            edge.clone(),
            listener,
            security,
            stopped,
        )));
    }
    let ids = backend.status();
    tracing::info!(
        local_member_id = %MemberId(ids.member_id),
        cluster_id = %format!("{:x}", ids.cluster_id),
        "started the member"
    );
    let probing = probe::probe(backend.clone(), security, Arc::clone(&metrics));
    let probing = tokio::task::spawn_local(probing);
    let spawn = |beside| drop(tokio::task::spawn_local(beside));
    let lessor = Lessor::new(election_timeout);
    let lessor = LessorDesk::new(&backend, metrics, lessor, TokioTimer, Box::new(spawn));
    let lessor = tokio::task::spawn_local(lessor.run());
    let mut member = tokio::task::spawn_local(opened.run());
    let compacting = config
        .auto_compaction
        .map(|settings| tokio::task::spawn_local(compaction::tend(settings, backend.clone())));
    let publishing = tokio::task::spawn_local(publish(backend.clone(), config));
    let watching = tokio::task::spawn_local(watch::watch(figures, backend, serving));
    let mut signals = Signals::open()?;
    let ended = tokio::select! {
        () = signals.stop() => None,
        ended = &mut member => Some(ended),
    };
    tracing::info!(by_itself = ended.is_some(), "stopping");
    let orderly = async {
        if ended.is_none() {
            hand_over(&handle, election_timeout).await;
        }
        publishing.abort();
        watching.abort();
        probing.abort();
        compacting.inspect(|compacting| compacting.abort());
        lessor.abort();
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
        let ended = ended.map_err(std::io::Error::other)?;
        engine.stop()?;
        judge(ended)
    };
    tokio::select! {
        ended = orderly => ended,
        () = signals.stop() => {
            tracing::warn!("told to stop once more; stopping at once");
            std::process::exit(STOPPED_AT_ONCE)
        }
    }
}

/// What tells the process to stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn open() -> std::io::Result<Signals> {
        let terminate = signal(SignalKind::terminate())?;
        Ok(Signals { terminate, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Resolves at the next signal to stop.
    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// If this member leads, has another lead, for an election timeout at most: then nobody needs to notice
/// that the leader is gone.
async fn hand_over(handle: &Handle<KvMachine>, election_timeout: Duration) {
    let standing = handle.status().standing;
    if standing.role != jangada::raft::RoleKind::Leader {
        return;
    }
    let handed = tokio::time::timeout(election_timeout, handle.transfer_leadership(None)).await;
    match handed {
        Ok(Ok(to)) => tracing::info!(to = %to, "handed leadership over"),
        Ok(Err(error)) => tracing::info!(%error, "stopping while leading"),
        Err(_) => tracing::info!("stopping while leading; nobody took over in time"),
    }
}

/// How the member ended. A member that was removed has done what it was told.
fn judge(ended: Result<(), NodeError>) -> Result<(), RunError> {
    match ended {
        Ok(()) => {
            tracing::info!("stopped");
            Ok(())
        }
        Err(NodeError::Ended(removed @ Ended::Removed(_))) => {
            tracing::warn!("the member has been permanently removed from the cluster");
            eprintln!("jangada: {removed}");
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
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
        id: backend.status().member_id,
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
