//! Requests over HTTP/1.1, one after the other on one connection.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap};
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// A connection.
pub(crate) struct Http {
    sender: SendRequest<Full<Bytes>>,
    authority: String,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answered {
    /// The content type without its parameters.
    pub(crate) fn kind(&self) -> &str {
        let kind = self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        kind.unwrap_or_default().split(';').next().unwrap_or_default()
    }

    /// The body as one value of JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Http {
    /// Connects to the member at `url`.
    pub(crate) async fn connect(url: &str) -> Http {
        let (_, authority) = url.split_once("://").expect("it is a URL");
        let stream = TcpStream::connect(authority).await.expect("the member listens");
        let (sender, connection) = handshake(TokioIo::new(stream)).await.expect("nothing is said");
        // It ends when the sender goes, or with what the sender is told.
        tokio::spawn(connection);
        Http { sender, authority: authority.to_owned() }
    }

    /// Asks, and returns when the answer's head is there.
    ///
    /// # Errors
    /// The connection broke.
    pub(crate) async fn begin(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Response<Incoming>, hyper::Error> {
        let mut request = Request::builder().method(method).uri(path);
        if headers.iter().all(|(name, _)| !name.eq_ignore_ascii_case("host")) {
            request = request.header(HOST, &self.authority);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).expect("the request is well formed");
        self.sender.ready().await?;
        self.sender.send_request(request).await
    }

    /// Asks, and reads the whole answer.
    pub(crate) async fn ask(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answered {
        let response = self.begin(method, path, headers, body).await.expect("the member answers");
        let (head, body) = response.into_parts();
        let body = body.collect().await.expect("the answer is whole").to_bytes();
        Answered { status: head.status.as_u16(), headers: head.headers, body }
    }

    /// A POST of JSON.
    pub(crate) async fn post(&mut self, path: &str, body: impl Into<Bytes>) -> Answered {
        self.ask("POST", path, &[], body).await
    }
}
