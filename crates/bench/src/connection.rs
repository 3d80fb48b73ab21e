//! One HTTP/2 connection to one endpoint, as cheap as a client can have it.
//!
//! A tonic channel puts a queue, a worker task and a reconnecting layer between the caller and the
//! connection; each costs a wake-up for every request. Here the caller speaks to the connection
//! itself, and whoever loses it asks for a new one.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderValue, Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use jangada_server::proto::etcdserverpb::kv_client::KvClient;
use jangada_tls::Dialer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tonic::body::Body;
use tower::Service;

/// How long a TCP connection may take to open; etcdctl's dial timeout.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Large enough that no answer of a benchmark waits for a window.
const WINDOW_BYTES: u32 = 8 << 20;
/// The most bytes of one answer.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// How members are reached, and on whose behalf they are asked.
#[derive(Clone, Default)]
pub struct Access {
    /// What secures the connections to endpoints that begin with `https://`.
    pub dialer: Option<Arc<Dialer>>,
    /// The token that says who asks.
    pub token: Option<HeaderValue>,
}

/// A token is not to be printed.
impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (secured, token) = (self.dialer.is_some(), self.token.is_some());
        write!(f, "Access(secured: {secured}, token given: {token})")
    }
}

/// A connection; a clone is another handle of the same one.
#[derive(Clone)]
pub(crate) struct Connection {
    sender: http2::SendRequest<Body>,
    token: Option<HeaderValue>,
}

impl Connection {
    /// Whether it is lost.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

impl Service<Request<Body>> for Connection {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = std::pin::Pin<
        Box<dyn Future<Output = Result<Response<Incoming>, hyper::Error>> + Send + 'static>,
    >;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.sender.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(token) = &self.token {
            request.headers_mut().insert("token", token.clone());
        }
        Box::pin(self.sender.send_request(request))
    }
}

/// `host:port` of an endpoint, which may be written as a URL.
///
/// # Errors
///
/// A sentence: there is no port, or another scheme.
pub(crate) fn authority(endpoint: &str) -> Result<&str, String> {
    let schemes = ["http://", "https://"];
    let rest = schemes.iter().find_map(|scheme| endpoint.strip_prefix(scheme));
    let authority = rest.unwrap_or(endpoint).trim_end_matches('/');
    match authority.rsplit_once(':') {
        Some((host, port))
            if !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok() =>
        {
            Ok(authority)
        }
        _ => Err(format!("'{endpoint}' is not an endpoint; write host:port")),
    }
}

/// The address of a service of an endpoint: scheme and authority.
///
/// # Errors
///
/// A sentence on what is wrong with the endpoint.
pub(crate) fn origin(endpoint: &str) -> Result<Uri, String> {
    let authority = authority(endpoint)?;
    let scheme = if is_secured(endpoint) { "https" } else { "http" };
    format!("{scheme}://{authority}")
        .parse()
        .map_err(|error| format!("'{endpoint}' is not an endpoint: {error}"))
}

/// Whether an endpoint asks for TLS.
pub(crate) fn is_secured(endpoint: &str) -> bool {
    endpoint.starts_with("https://")
}

/// Opens a connection and gives it as a client of the KV service.
///
/// # Errors
///
/// A sentence on what went wrong.
pub(crate) async fn connect(
    endpoint: &str,
    access: &Access,
) -> Result<(Connection, KvClient<Connection>), String> {
    let connection = open(endpoint, access).await?;
    let client = KvClient::with_origin(connection.clone(), origin(endpoint)?)
        .max_decoding_message_size(ANSWER_BYTES_MAX);
    Ok((connection, client))
}

/// Opens a connection, in plain text or secured.
///
/// # Errors
///
/// A sentence on what went wrong.
pub(crate) async fn open(endpoint: &str, access: &Access) -> Result<Connection, String> {
    let opening = async { begin(dial(endpoint, access).await?).await };
    Ok(Connection { sender: in_time(opening).await?, token: access.token.clone() })
}

/// Gives what opens a connection as long as it may take.
///
/// # Errors
///
/// A sentence: it took too long, or what went wrong.
pub(crate) async fn in_time<T>(
    opening: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    tokio::time::timeout(CONNECT_TIMEOUT, opening)
        .await
        .map_err(|_| format!("no connection within {CONNECT_TIMEOUT:?}"))?
}

/// What bytes go over, in plain text or secured.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Transport for T {}

/// Either kind of transport.
pub(crate) type Socket = Box<dyn Transport>;

/// Opens a transport to an endpoint.
///
/// # Errors
///
/// A sentence on what went wrong.
pub(crate) async fn dial(endpoint: &str, access: &Access) -> Result<Socket, String> {
    let authority = authority(endpoint)?;
    if is_secured(endpoint) && access.dialer.is_none() {
        return Err(format!("{endpoint} asks for TLS, and nothing is there to secure it"));
    }
    let stream = TcpStream::connect(authority).await.map_err(|error| error.to_string())?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let Some(dialer) = access.dialer.as_ref().filter(|_| is_secured(endpoint)) else {
        return Ok(Box::new(stream));
    };
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let stream = dialer.connect(host, stream).await.map_err(|error| error.to_string())?;
    Ok(Box::new(stream))
}

async fn begin(socket: Socket) -> Result<http2::SendRequest<Body>, String> {
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .handshake(TokioIo::new(socket))
        .await
        .map_err(|error| error.to_string())?;
    // The requests on it report the connection's end; its own result says the same again.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::authority;

    #[test]
    fn endpoints_are_read_with_and_without_a_scheme() {
        assert_eq!(authority("127.0.0.1:2379"), Ok("127.0.0.1:2379"));
        assert_eq!(authority("http://[::1]:2379/"), Ok("[::1]:2379"));
        assert_eq!(authority("https://a:1"), Ok("a:1"));
        assert!(authority("ftp://a:1").is_err());
        assert!(authority("localhost").is_err());
        assert!(authority(":2379").is_err());
    }
}
