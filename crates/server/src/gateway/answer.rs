//! The messages of an answer as JSON: one value, or lines.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http_body::Frame;
use http_body_util::BodyExt;
use prost_reflect::MessageDescriptor;
use tokio::time::Sleep;
use tonic::{Code, Status};

use super::request::Refusal;
use super::{Described, json, status_of, too_late};
use crate::body::{Body, BodyError};
use crate::grpc::framing::PREFIX_BYTES;

/// The one message of an answer.
///
/// # Errors
/// The status of a call that failed.
pub(super) async fn only(body: Body, described: &Described) -> Result<Vec<u8>, Status> {
    let collected = body.collect().await.map_err(|error| Status::internal(error.to_string()))?;
    if let Some(status) = collected.trailers().and_then(failure_of) {
        return Err(status);
    }
    let mut gathered = BytesMut::from(&collected.to_bytes()[..]);
    let message = split_message(&mut gathered);
    let message = message.ok_or_else(|| Status::internal("the call has no answer"))?;
    let mut text = Vec::new();
    json::write(&described.output(), message, &mut text)?;
    Ok(text)
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

/// The line that says how a stream failed.
pub(super) fn failure_line(status: &Status) -> Bytes {
    #[derive(serde::Serialize)]
    struct Line<'a> {
        error: Failure<'a>,
    }
    #[derive(serde::Serialize)]
    struct Failure<'a> {
        grpc_code: i32,
        http_code: u16,
        message: &'a str,
        http_status: &'a str,
    }
    let http = status_of(status.code());
    let error = Failure {
        grpc_code: status.code() as i32,
        http_code: http.as_u16(),
        message: status.message(),
        http_status: http.canonical_reason().unwrap_or("Client Closed Request"),
    };
    let mut line = serde_json::to_vec(&Line { error }).expect("numbers and texts are JSON");
    line.push(b'\n');
    line.into()
}

/// A stream of messages, each as a line `{"result":...}`; a failure is the last line.
pub(super) struct Lines {
    body: Body,
    kind: MessageDescriptor,
    gathered: BytesMut,
    /// The first line, read before the answer began.
    ahead: Option<Bytes>,
    /// When the client no longer waits.
    deadline: Option<Pin<Box<Sleep>>>,
    refusal: Refusal,
    is_over: bool,
}

impl Lines {
    /// The lines of a call's answer. Waits for the first one, so that a call that fails at once has a
    /// status of HTTP to say so.
    ///
    /// # Errors
    /// The status of a call that failed.
    pub(super) async fn begin(
        body: Body,
        described: &Described,
        deadline: Option<Pin<Box<Sleep>>>,
        refusal: Refusal,
    ) -> Result<Lines, Status> {
        let (kind, gathered) = (described.output(), BytesMut::new());
        let mut lines =
            Lines { body, kind, gathered, ahead: None, deadline, refusal, is_over: false };
        lines.ahead = poll_fn(|context| lines.poll_line(context)).await.transpose()?;
        Ok(lines)
    }

    fn poll_line(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        loop {
            if self.is_over {
                return Poll::Ready(None);
            }
            if let Some(message) = split_message(&mut self.gathered) {
                let line = self.line(message);
                self.is_over = line.is_err();
                return Poll::Ready(Some(line));
            }
            if let Some(deadline) = &mut self.deadline
                && deadline.as_mut().poll(context).is_ready()
            {
                self.is_over = true;
                return Poll::Ready(Some(Err(too_late())));
            }
            let failed =
                match ready!(http_body::Body::poll_frame(Pin::new(&mut self.body), context)) {
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) => {
                            self.gathered.extend_from_slice(&data);
                            continue;
                        }
                        Err(frame) => frame.trailers_ref().and_then(failure_of),
                    },
                    Some(Err(error)) => Some(Status::internal(error.to_string())),
                    None => None,
                };
            self.is_over = true;
            let status = self.refusal.get().cloned().or(failed);
            return Poll::Ready(status.map(Err));
        }
    }

    fn line(&self, message: Bytes) -> Result<Bytes, Status> {
        let mut line = Vec::from(b"{\"result\":");
        json::write(&self.kind, message, &mut line)?;
        line.extend_from_slice(b"}\n");
        Ok(line.into())
    }
}

impl http_body::Body for Lines {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(line) = self.ahead.take() {
            return Poll::Ready(Some(Ok(Frame::data(line))));
        }
        let line = ready!(self.poll_line(context));
        let line = line.map(|line| line.unwrap_or_else(|status| failure_line(&status)));
        Poll::Ready(line.map(|line| Ok(Frame::data(line))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_said_in_the_words_of_grpc_and_of_http() {
        let line = |code, text| failure_line(&Status::new(code, text));
        assert_eq!(
            line(Code::Unavailable, "no"),
            "{\"error\":{\"grpc_code\":14,\"http_code\":503,\"message\":\"no\",\
             \"http_status\":\"Service Unavailable\"}}\n"
        );
        assert_eq!(
            line(Code::Cancelled, "\"gone\""),
            "{\"error\":{\"grpc_code\":1,\"http_code\":499,\"message\":\"\\\"gone\\\"\",\
             \"http_status\":\"Client Closed Request\"}}\n"
        );
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
