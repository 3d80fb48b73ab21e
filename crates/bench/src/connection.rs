//! One HTTP/2 connection to one endpoint, as cheap as a client can have it.
//!
//! A tonic channel puts a queue, a worker task and a reconnecting layer between the caller and the
//! connection; each costs a wake-up for every request. Here the caller speaks to the connection
//! itself, and whoever loses it asks for a new one.

use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use jangada_server::proto::etcdserverpb::kv_client::KvClient;
use tokio::net::TcpStream;
use tonic::body::Body;
use tower::Service;

/// How long a TCP connection may take to open; etcdctl's dial timeout.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Large enough that no answer of a benchmark waits for a window.
const WINDOW_BYTES: u32 = 8 << 20;
/// The most bytes of one answer.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// A connection; a clone is another handle of the same one.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    sender: http2::SendRequest<Body>,
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

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.sender.send_request(request))
    }
}

/// `host:port` of an endpoint, which may be written as a URL.
///
/// # Errors
///
/// A sentence: TLS is asked for, or there is no port.
pub(crate) fn authority(endpoint: &str) -> Result<&str, String> {
    if endpoint.starts_with("https://") {
        return Err(format!("{endpoint} asks for TLS, which is not built yet; write http://"));
    }
    let authority = endpoint.strip_prefix("http://").unwrap_or(endpoint).trim_end_matches('/');
    match authority.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(authority),
        _ => Err(format!("'{endpoint}' is not an endpoint; write host:port")),
    }
}

/// An endpoint as the origin of requests.
///
/// # Errors
///
/// As [`authority`].
pub(crate) fn origin(endpoint: &str) -> Result<Uri, String> {
    let authority = authority(endpoint)?;
    let uri = format!("http://{authority}").parse();
    uri.map_err(|error| format!("'{endpoint}' is not an endpoint: {error}"))
}

/// Opens a connection and gives it as a client of the KV service.
///
/// # Errors
///
/// A sentence on what went wrong.
pub(crate) async fn connect(endpoint: &str) -> Result<(Connection, KvClient<Connection>), String> {
    let authority = authority(endpoint)?;
    let origin = origin(endpoint)?;
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(authority))
        .await
        .map_err(|_| format!("no connection within {CONNECT_TIMEOUT:?}"))?
        .map_err(|error| error.to_string())?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    // The requests on it report the connection's end; its own result says the same again.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    let connection = Connection { sender };
    let client = KvClient::with_origin(connection.clone(), origin)
        .max_decoding_message_size(ANSWER_BYTES_MAX);
    Ok((connection, client))
}

#[cfg(test)]
mod tests {
    use super::authority;

    #[test]
    fn endpoints_are_read_with_and_without_a_scheme() {
        assert_eq!(authority("127.0.0.1:2379"), Ok("127.0.0.1:2379"));
        assert_eq!(authority("http://[::1]:2379/"), Ok("[::1]:2379"));
        assert!(authority("https://a:1").is_err_and(|sentence| sentence.contains("TLS")));
        assert!(authority("localhost").is_err());
        assert!(authority(":2379").is_err());
    }
}
