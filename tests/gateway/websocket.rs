//! Calls over websockets, beside a real etcd.

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::transcript::strip;

/// An open websocket.
pub(crate) struct Socket {
    stream: WebSocketStream<TcpStream>,
    /// The sub-protocol that the server chose.
    pub(crate) protocol: Option<String>,
}

/// Opens one at a path of the member at `url`.
///
/// # Errors
/// The status and the sentence with which the member refuses.
pub(crate) async fn open(
    url: &str,
    path: &str,
    headers: &[(&'static str, &str)],
) -> Result<Socket, (u16, String)> {
    let (_, authority) = url.split_once("://").expect("it is a URL");
    let request = format!("ws://{authority}{path}").into_client_request();
    let mut request = request.expect("it is a URL");
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().expect("it can be a header"));
    }
    let stream = TcpStream::connect(authority).await.expect("the member listens");
    match client_async(request, stream).await {
        Ok((stream, response)) => {
            let protocol = response.headers().get("sec-websocket-protocol");
            let protocol = protocol.map(|value| value.to_str().expect("a word").to_owned());
            Ok(Socket { stream, protocol })
        }
        Err(Error::Http(response)) => {
            let body = response.body().clone().unwrap_or_default();
            Err((response.status().as_u16(), String::from_utf8_lossy(&body).into_owned()))
        }
        Err(error) => panic!("{path}: {error}"),
    }
}

impl Socket {
    pub(crate) async fn send(&mut self, text: &str) {
        self.stream.send(Message::text(text)).await.expect("the member listens");
    }

    /// Sends more than is taken, and may be cut off while it still speaks.
    pub(crate) async fn send_too_much(&mut self, text: &str) {
        let _ = self.stream.send(Message::text(text)).await;
    }

    /// The next message without what is a cluster's own; `None` when the member has said its last.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            match self.stream.next().await? {
                Ok(Message::Text(text)) => {
                    let text = text.as_str();
                    let value = serde_json::from_str(text);
                    let mut value = value.unwrap_or_else(|_| Value::from(text));
                    strip(&mut value);
                    return Some(value);
                }
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    async fn take(&mut self, count: usize) -> Vec<Value> {
        let mut taken = Vec::new();
        for _ in 0..count {
            taken.push(self.next().await.expect("the member says more"));
        }
        taken
    }
}

/// A path, what is sent, and how many messages come.
const CALLS: &[(&str, &[&str], usize)] = &[
    ("/v3/watch", &[r#"{"create_request":{"key":"YQ=="}}"#], 1),
    ("/v3beta/watch?method=POST", &[r#"{"create_request":{"key":"YQ=="}}"#], 1),
    ("/v3/watch", &[r#"{"create_request":"#, r#"{"key":"YQ=="}}"#], 1),
    (
        "/v3/watch",
        &[r#"{"create_request":{"key":"YQ==","watch_id":"7"}}{"cancel_request":{"watch_id":7}}"#],
        2,
    ),
    ("/v3/lease/keepalive", &[r#"{"ID":"998"}"#, r#"{"ID":"999"}"#], 2),
];

/// Says the same to both, and demands that both say the same.
pub(crate) async fn compare(version: &str, etcd: &str, ours: &str) {
    for (path, requests, count) in CALLS {
        println!("websocket {path} {requests:?}");
        let mut heard = Vec::new();
        for url in [etcd, ours] {
            let mut socket = open(url, path, &[]).await.expect("it is served");
            for request in *requests {
                socket.send(request).await;
            }
            heard.push(socket.take(*count).await);
        }
        assert_eq!(heard[1], heard[0], "{path} {requests:?} beside etcd {version}");
    }
    for url in [etcd, ours] {
        let bearer = [("sec-websocket-protocol", "Bearer, none")];
        let socket = open(url, "/v3/watch", &bearer).await.expect("it is served");
        assert_eq!(socket.protocol.as_deref(), Some("Bearer"));
    }
}
