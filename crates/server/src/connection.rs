//! Connections from clients.
//!
//! Responsible for accepting them, for speaking HTTP/1.1 or HTTP/2 on one port without being told
//! which, for securing them, for the limits of flow control, and for a stop that lets requests under way finish and
//! ends streams. Not responsible for what is asked.
//!
//! A connection stays on the runtime that it was accepted on: its streams share one lock, which on
//! a single thread nobody contends for.
//!
//! Invariants:
//! 1. No more connections are open than the settings allow; further ones wait in the kernel's queue.
//! 2. A connection that cannot be accepted never ends the accepting of others.
//! 3. A handshake of TLS that stalls delays nobody: each has a task and a limit of time, and beyond
//!    a number of them the oldest makes way for the newest.
//! 4. A client that does not say what it speaks is given up after a time (`patience.rs`).

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Request, Version, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use jangada_tls::{Acceptor, Certificate, Stream};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;

use crate::auth::CommonName;
use crate::backend::Backend;
use crate::edge::{Edge, Transport};
use crate::patience::{PREFACE_TIMEOUT, Patient};
use crate::settings::Settings;

/// The flow-control window of one stream: one request of the default size fits without waiting for
/// the other side's consent.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;

/// The flow-control window of one connection, shared by the uploads of all its streams.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// The largest header list: room for a long token, and no more.
const HEADER_BYTES_MAX: u32 = 64 << 10;

/// What one stream may have waiting to be sent.
const SEND_BUFFER_BYTES: usize = 1 << 20;

/// Streams of one connection that the client gave up before they were looked at. A client that gives
/// up a thousand requests at once does nothing wrong, so the library's 20 is too few.
const RESET_STREAMS_MAX: usize = 4096;

/// How long a client may take for the head of a request in HTTP/1.1.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// When a silent connection is probed for the first time, and how often then. Go's habit.
const TCP_KEEPALIVE: Duration = Duration::from_secs(15);

/// How long to wait when the system refuses another connection, for want of files or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long a handshake of TLS may take: several round trips around the globe, and a machine under
/// load at each end.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Handshakes of TLS under way at a time. Each holds some tens of KiB; clients that start together are
/// fewer, and those that make way try again.
const HANDSHAKES_MAX: usize = 1024;

/// The first byte of every handshake of TLS, and of no request over HTTP.
const TLS_RECORD: u8 = 0x16;

/// Whether connections are secured.
#[derive(Clone, Debug)]
pub enum Security {
    /// None is.
    Plain,
    /// All are.
    Tls(Arc<Acceptor>),
    /// Those are that begin so: URLs of both kinds share the port.
    Either(Arc<Acceptor>),
}

/// Serves clients in plain text; see [`serve_secured`].
pub async fn serve<B: Backend>(
    edge: Edge<B>,
    listener: TcpListener,
    stop: impl Future<Output = ()>,
) {
    serve_secured(edge, listener, Security::Plain, stop).await;
}

/// Serves clients on `listener` until `stop` resolves; then lets requests under way finish, for as
/// long as the settings say.
///
/// Runs on the runtime it is called on, connections included.
pub async fn serve_secured<B: Backend>(
    edge: Edge<B>,
    listener: TcpListener,
    security: Security,
    stop: impl Future<Output = ()>,
) {
    let settings = edge.settings().clone();
    let server = Arc::new(builder(&settings));
    let places = Arc::new(Semaphore::new(settings.connections_max));
    let graceful = GracefulShutdown::new();
    let mut handshakes = VecDeque::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if concerns_one_connection(&error) => continue,
            Err(error) => {
                tracing::warn!(%error, "rejected connection on client endpoint");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let edge = edge.for_connection();
        let server = Arc::clone(&server);
        let watcher = graceful.watcher();
        let acceptor = match &security {
            Security::Plain => {
                tokio::spawn(async move {
                    let peer = Peer { transport: Transport::Plain, name: None, place };
                    converse(&server, edge, stream, peer, watcher).await;
                });
                continue;
            }
            Security::Tls(acceptor) => (Arc::clone(acceptor), true),
            Security::Either(acceptor) => (Arc::clone(acceptor), false),
        };
        make_way(&mut handshakes);
        let finished = Handshake::default();
        let task = {
            let finished = finished.clone();
            tokio::spawn(async move {
                let secured = secure(stream, acceptor).await;
                finished.0.store(true, Ordering::Relaxed);
                if let Some((stream, name)) = secured {
                    let transport = match stream {
                        Stream::Plain(_) => Transport::Plain,
                        Stream::Tls(_) => Transport::Tls,
                    };
                    let peer = Peer { transport, name, place };
                    converse(&server, edge, stream, peer, watcher).await;
                }
            })
        };
        handshakes.push_back((finished, task.abort_handle()));
    }
    drop(listener);
    // What stays open ends with a status, so that its clients go elsewhere.
    edge.serving().stop();
    if tokio::time::timeout(settings.stop_timeout, graceful.shutdown()).await.is_err() {
        tracing::debug!("requests were still under way when the server stopped");
    }
}

/// Whether a handshake is over.
#[derive(Clone, Default)]
struct Handshake(Arc<AtomicBool>);

/// Makes room for another handshake (invariant 3).
fn make_way(handshakes: &mut VecDeque<(Handshake, AbortHandle)>) {
    if handshakes.len() < HANDSHAKES_MAX {
        return;
    }
    handshakes.retain(|(handshake, _)| !handshake.0.load(Ordering::Relaxed));
    if HANDSHAKES_MAX <= handshakes.len()
        && let Some((_, oldest)) = handshakes.pop_front()
    {
        oldest.abort();
    }
}

/// Shakes hands, or does without where both kinds are served. `None` when the client is turned away.
async fn secure(
    stream: TcpStream,
    (acceptor, always): (Arc<Acceptor>, bool),
) -> Option<(Stream<TcpStream>, Option<CommonName>)> {
    let remote = stream.peer_addr().ok()?;
    let shaking = async {
        let mut first = [0];
        if !always && (stream.peek(&mut first).await? == 0 || first[0] != TLS_RECORD) {
            return Ok((Stream::Plain(stream), None));
        }
        let (stream, certificate) = acceptor.accept(stream, remote.ip()).await?;
        let name = certificate.map(|Certificate { common_name, .. }| common_name);
        let name = name.filter(|name| !name.is_empty()).map(|name| CommonName(name.into()));
        Ok::<_, io::Error>((Stream::Tls(Box::new(stream)), name))
    };
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, shaking).await {
        Ok(Ok(secured)) => Some(secured),
        Ok(Err(error)) => {
            tracing::warn!(%remote, %error, "rejected connection on client endpoint");
            None
        }
        Err(_) => {
            let error = "the handshake of TLS takes too long";
            tracing::warn!(%remote, error, "rejected connection on client endpoint");
            None
        }
    }
}

/// What is known of the other side of a connection.
struct Peer {
    transport: Transport,
    name: Option<CommonName>,
    place: Place,
}

/// Answers one connection's requests until it ends, or goes on as what HTTP was asked to change to.
async fn converse<B: Backend>(
    server: &Builder<TokioExecutor>,
    edge: Edge<B>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    watcher: Watcher,
) {
    let Peer { transport, name, place } = peer;
    let service = service_fn(move |mut request: Request<Incoming>| {
        let edge = edge.clone();
        if let Some(name) = &name {
            request.extensions_mut().insert(name.clone());
        }
        if request.version() <= Version::HTTP_11 && request.headers().contains_key(header::UPGRADE)
        {
            request.extensions_mut().insert(place.clone());
        }
        async move { Ok::<_, Infallible>(edge.answer(request, transport).await) }
    });
    let stream = Patient::new(stream, PREFACE_TIMEOUT);
    let connection = server.serve_connection_with_upgrades(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection.into_owned()).await {
        tracing::debug!(%error, "a client's connection ended");
    }
}

/// A place held by one connection (invariant 1). What HTTP is changed to goes on holding it.
#[derive(Clone)]
pub(crate) struct Place {
    _permit: Arc<OwnedSemaphorePermit>,
}

async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> io::Result<(TcpStream, Place)> {
    let place = Arc::clone(places).acquire_owned().await.expect("the semaphore is never closed");
    let (stream, _) = listener.accept().await?;
    tune(&stream);
    Ok((stream, Place { _permit: Arc::new(place) }))
}

/// Small answers must leave at once, and a client that vanished must be noticed. A socket that
/// refuses either works all the same.
fn tune(stream: &TcpStream) {
    let keepalive = TcpKeepalive::new().with_time(TCP_KEEPALIVE).with_interval(TCP_KEEPALIVE);
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a client's socket refused TCP_NODELAY");
    }
    if let Err(error) = SockRef::from(stream).set_tcp_keepalive(&keepalive) {
        tracing::debug!(%error, "a client's socket refused TCP keepalive");
    }
}

/// Errors that belong to a connection which broke before it was accepted (invariant 2).
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

/// How connections are spoken to. Clients may ping as often as they like, with or without a call
/// under way: etcd's own send one every ten seconds at most, and nothing here counts them.
fn builder(settings: &Settings) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(settings.max_concurrent_streams)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(HEADER_BYTES_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_pending_accept_reset_streams(RESET_STREAMS_MAX)
        .max_local_error_reset_streams(RESET_STREAMS_MAX)
        .keep_alive_interval(settings.keepalive_interval)
        .keep_alive_timeout(settings.keepalive_timeout)
        .auto_date_header(false);
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    builder
}
