//! The messages of an answer as JSON: one value, or lines.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http_body::Frame;
use http_body_util::BodyExt;
use prost_reflect::MessageDescriptor;
use serde_json::Value;
use tonic::{Code, Status};

use super::{Described, json, status_of};
use crate::body::{Body, BodyError};
use crate::grpc::framing::PREFIX_BYTES;

/// The one message of an answer.
///
/// # Errors
/// The status of a call that failed.
pub(super) async fn only(body: Body, described: &Described) -> Result<String, Status> {
    let collected = body.collect().await.map_err(|error| Status::internal(error.to_string()))?;
    if let Some(status) = collected.trailers().and_then(failure_of) {
        return Err(status);
    }
    let mut gathered = BytesMut::from(&collected.to_bytes()[..]);
    let message = split_message(&mut gathered);
    let message = message.ok_or_else(|| Status::internal("the call has no answer"))?;
    Ok(json::write(&described.output(), message)?.to_string())
}

/// The next whole message of what was gathered.
fn split_message(gathered: &mut BytesMut) -> Option<Bytes> {
    let prefix: &[u8; PREFIX_BYTES] = gathered.first_chunk()?;
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    if gathered.len() - PREFIX_BYTES < length {
        return None;
    }
    gathered.advance(PREFIX_BYTES);
    Some(gathered.split_to(length).freeze())
}

/// The status in the trailers, if it is none of success.
fn failure_of(trailers: &HeaderMap) -> Option<Status> {
    Status::from_header_map(trailers).filter(|status| status.code() != Code::Ok)
}

/// A stream of messages, each as a line `{"result":...}`; a failure is the last line.
pub(super) struct Lines {
    body: Body,
    kind: MessageDescriptor,
    gathered: BytesMut,
    is_over: bool,
}

impl Lines {
    pub(super) fn new(body: Body, described: &Described) -> Lines {
        Lines { body, kind: described.output(), gathered: BytesMut::new(), is_over: false }
    }

    fn line(&mut self, message: Bytes) -> Bytes {
        match json::write(&self.kind, message) {
            Ok(value) => line(&serde_json::json!({ "result": value })),
            Err(status) => self.last(&status),
        }
    }

    fn last(&mut self, status: &Status) -> Bytes {
        self.is_over = true;
        let http = status_of(status.code());
        line(&serde_json::json!({"error": {
            "grpc_code": status.code() as i32,
            "http_code": http.as_u16(),
            "message": status.message(),
            "http_status": http.canonical_reason().unwrap_or("Client Closed Request"),
        }}))
    }
}

fn line(value: &Value) -> Bytes {
    format!("{value}\n").into()
}

impl http_body::Body for Lines {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        loop {
            if this.is_over {
                return Poll::Ready(None);
            }
            if let Some(message) = split_message(&mut this.gathered) {
                return Poll::Ready(Some(Ok(Frame::data(this.line(message)))));
            }
            let frame = match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => {
                    let line = this.last(&Status::internal(error.to_string()));
                    return Poll::Ready(Some(Ok(Frame::data(line))));
                }
                None => {
                    this.is_over = true;
                    continue;
                }
            };
            match frame.into_data() {
                Ok(data) => this.gathered.extend_from_slice(&data),
                Err(frame) => {
                    if let Some(status) = frame.trailers_ref().and_then(failure_of) {
                        let line = this.last(&status);
                        return Poll::Ready(Some(Ok(Frame::data(line))));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::json::described;
    use crate::grpc::methods::Method;

    fn check(message: &str, code: Code, expect: Value) {
        let kind = described(Method::Watch);
        let mut lines = Lines::new(Body::Empty, &kind);
        let line = lines.last(&Status::new(code, message));
        let found: Value = serde_json::from_slice(&line).expect("a line is JSON");
        assert_eq!(found, expect);
        assert!(lines.is_over && line.ends_with(b"\n"));
    }

    #[test]
    fn a_failure_is_the_last_line() {
        let error = |code: i32, http: u16, text: &str, message: &str| {
            serde_json::json!({"error": {"grpc_code": code, "http_code": http, "http_status": text,
                "message": message}})
        };
        check("no", Code::Unavailable, error(14, 503, "Service Unavailable", "no"));
        check("gone", Code::Cancelled, error(1, 499, "Client Closed Request", "gone"));
    }

    #[test]
    fn messages_are_split_wherever_they_were_cut() {
        let bytes = [0, 0, 0, 0, 2, b'a', b'b', 0, 0, 0, 0, 0, 0];
        let mut gathered = BytesMut::new();
        let mut found = Vec::new();
        for byte in bytes {
            gathered.extend_from_slice(&[byte]);
            found.extend(split_message(&mut gathered));
        }
        assert_eq!(found, [Bytes::from_static(b"ab"), Bytes::new()]);
    }
}
