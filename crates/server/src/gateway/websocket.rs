//! Calls over a websocket, as etcd's gateway offers them to browsers, which cannot read an answer while
//! they still send.
//!
//! Responsible for a request's change to a websocket, and for what is said over it: each message of the
//! client is a piece of the body that a POST to the same path would have, each line of its answer is a
//! message. Not responsible for what either means. The server says goodbye at the end of the answer.
//!
//! A browser lets any page open a websocket to anywhere, so the origin is looked at here: for all else
//! the browser asks before it shows an answer to a page.

use std::pin::Pin;
use std::task::{Context as Task, Poll};

use axum::extract::FromRequestParts;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::response::IntoResponse;
use bytes::{Bytes, BytesMut};
use futures_util::stream::SplitSink;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::sync::mpsc;

use super::request::Rest;
use super::{Answer, answer_post, message_bytes_max, metadata};
use crate::backend::Backend;
use crate::connection::Place;
use crate::edge::Context;
use crate::grpc::methods::Method;
use crate::http_api;

/// The sub-protocol by which a browser shows a token: `Bearer`, and the token itself behind it.
const BEARER: &str = "Bearer";

/// Whether a request asks to go on as a websocket.
pub(crate) fn is_asked_for(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(header::UPGRADE);
    upgrade.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Changes to a websocket and makes the call over it.
pub(super) async fn open<B: Backend>(
    context: &Context<B>,
    method: Method,
    request: Request<axum::body::Body>,
) -> Answer {
    if !http_api::origin_may_connect(&request, &context.settings.cors) {
        let sentence = "the page is of an origin that --cors does not name; add the origin to it";
        return http_api::text(StatusCode::FORBIDDEN, sentence);
    }
    let (mut head, _) = request.into_parts();
    let upgrade = match WebSocketUpgrade::from_request_parts(&mut head, &()).await {
        Ok(upgrade) => upgrade,
        Err(refusal) => return refusal.into_response(),
    };
    let mut metadata = metadata(&head.headers);
    if let Some(token) = token(&head.headers) {
        metadata.insert("token", token);
    }
    let place = head.extensions.remove::<Place>();
    let context = context.clone();
    let limit = message_bytes_max(&context);
    upgrade.protocols([BEARER]).max_message_size(limit).max_frame_size(limit).on_upgrade(
        async move |socket| {
            converse(&context, method, metadata, socket).await;
            drop(place);
        },
    )
}

/// The token of `Sec-WebSocket-Protocol: Bearer, <token>`.
fn token(headers: &HeaderMap) -> Option<HeaderValue> {
    let protocols = headers.get(header::SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
    let (bearer, token) = protocols.split_once(',')?;
    let token = HeaderValue::from_str(token.trim()).ok()?;
    (bearer.trim() == BEARER).then_some(token)
}

/// Makes the call; ends when either side does.
async fn converse<B: Backend>(
    context: &Context<B>,
    method: Method,
    metadata: HeaderMap,
    socket: WebSocket,
) {
    let (mut to_client, mut from_client) = socket.split();
    // One, so that a client which sends faster than is read waits.
    let (to_call, pieces) = mpsc::channel(1);
    let reading = async {
        while let Some(Ok(message)) = from_client.next().await {
            let piece = match message {
                Message::Text(text) => Bytes::from(text),
                Message::Binary(bytes) => bytes,
                Message::Ping(_) | Message::Pong(_) => continue,
                Message::Close(_) => break,
            };
            // A call with one request takes no more; its client may still say goodbye.
            let _ = to_call.send(piece).await;
        }
    };
    let writing = async {
        let body = axum::body::Body::new(Pieces { pieces, ends: false });
        let call = answer_post(context, method, metadata, None, body, Rest::Leave);
        let answer = Box::pin(call).await;
        send_lines(answer.into_body(), &mut to_client).await;
    };
    tokio::select! {
        () = reading => {}
        () = writing => {}
    }
    // It may be gone; then nobody misses it.
    let _ = to_client.send(Message::Close(None)).await;
}

/// Sends each line of an answer, until the client is gone.
async fn send_lines(mut body: axum::body::Body, to_client: &mut SplitSink<WebSocket, Message>) {
    let mut gathered = BytesMut::new();
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        let mut from = gathered.len();
        gathered.extend_from_slice(&data);
        while let Some(at) = gathered[from..].iter().position(|byte| *byte == b'\n') {
            let line = gathered.split_to(from + at + 1).freeze();
            from = 0;
            if send_line(line.slice(..line.len() - 1), to_client).await.is_err() {
                return;
            }
        }
    }
    if !gathered.is_empty() {
        // The last line of what is no stream has no end. A client that is gone misses nothing.
        let _ = send_line(gathered.freeze(), to_client).await;
    }
}

async fn send_line(
    line: Bytes,
    to_client: &mut SplitSink<WebSocket, Message>,
) -> Result<(), axum::Error> {
    let text = Utf8Bytes::try_from(line).expect("answers are JSON or sentences");
    to_client.send(Message::Text(text)).await
}

/// What a client sends, as a body: a line for each message, as etcd has it.
struct Pieces {
    pieces: mpsc::Receiver<Bytes>,
    /// Whether the line that was begun is to be ended.
    ends: bool,
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if std::mem::take(&mut self.ends) {
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"\n")))));
        }
        self.pieces.poll_recv(task).map(|piece| {
            let piece = piece?;
            self.ends = true;
            Some(Ok(Frame::data(piece)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_as_the_second_protocol() {
        let token = |protocols: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocols));
            token(&headers)
        };
        assert_eq!(token("Bearer, abc.7"), Some(HeaderValue::from_static("abc.7")));
        assert_eq!(token("Bearer,abc"), Some(HeaderValue::from_static("abc")));
        for none in ["Bearer", "chat, abc", "abc"] {
            assert_eq!(token(none), None, "{none}");
        }
    }
}
