//! The JSON of a request as the messages of a call.
//!
//! Invariants:
//! 1. No more than the limit is gathered for one message.
//! 2. A method with one request gets exactly one, an empty one if nothing was sent.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use prost_reflect::MessageDescriptor;
use serde_json::Value;
use tonic::Status;

use super::json;
use crate::body::BodyError;
use crate::grpc::framing;

/// The messages of a call, made of JSON values one behind the other as they come.
pub(super) struct JsonMessages {
    body: axum::body::Body,
    kind: MessageDescriptor,
    limit: usize,
    gathered: BytesMut,
    /// Messages with their prefixes, to be read.
    ready: VecDeque<Bytes>,
    end: End,
}

/// What there is behind the messages that are ready.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// More may come; then the call's requests end with the body, or stay open.
    Body { stays_open: bool },
    /// Nothing.
    Nothing,
    /// Nothing, and the call stays open.
    Open,
}

impl JsonMessages {
    pub(super) fn new(body: axum::body::Body, kind: MessageDescriptor, limit: usize) -> Self {
        let end = End::Body { stays_open: false };
        JsonMessages { body, kind, limit, gathered: BytesMut::new(), ready: VecDeque::new(), end }
    }

    /// Reads the one message of a request that is none of a stream (invariant 2).
    ///
    /// # Errors
    /// It is no JSON or not this message.
    pub(super) async fn only(&mut self) -> Result<(), Status> {
        while let Some(frame) = self.body.frame().await {
            self.take(frame)?;
        }
        let message = match self.next_value()? {
            Some(value) => json::read(&self.kind, value)?,
            None if self.gathered.iter().all(u8::is_ascii_whitespace) => Bytes::new(),
            None => return Err(cut_short()),
        };
        self.push(&message)?;
        self.end = End::Nothing;
        Ok(())
    }

    /// Reads the first message of a stream; those behind it are read as they come. A stream that stays
    /// open does so after its last message.
    ///
    /// # Errors
    /// It is no JSON or not this message, or there is none.
    pub(super) async fn first(&mut self, stays_open: bool) -> Result<(), Status> {
        self.end = End::Body { stays_open };
        loop {
            if let Some(value) = self.next_value()? {
                let message = json::read(&self.kind, value)?;
                return self.push(&message);
            }
            match self.body.frame().await {
                Some(frame) => self.take(frame)?,
                None => return Err(cut_short()),
            }
        }
    }

    fn take(&mut self, frame: Result<Frame<Bytes>, axum::Error>) -> Result<(), Status> {
        let broke = |error| Status::cancelled(format!("the request broke off: {error}"));
        if let Ok(data) = frame.map_err(broke)?.into_data() {
            self.gathered.extend_from_slice(&data);
        }
        // Invariant 1.
        if self.limit < self.gathered.len() {
            return Err(crate::errors::ApiError::RequestTooLarge.into());
        }
        Ok(())
    }

    /// The next whole value of what was gathered.
    fn next_value(&mut self) -> Result<Option<Value>, Status> {
        let mut values = serde_json::Deserializer::from_slice(&self.gathered).into_iter();
        match values.next() {
            None => Ok(None),
            Some(Ok(value)) => {
                let used = values.byte_offset();
                let _ = self.gathered.split_to(used);
                Ok(Some(value))
            }
            Some(Err(error)) if error.is_eof() => Ok(None),
            Some(Err(error)) => Err(Status::invalid_argument(error.to_string())),
        }
    }

    fn push(&mut self, message: &Bytes) -> Result<(), Status> {
        let mut framed = BytesMut::with_capacity(framing::PREFIX_BYTES + message.len());
        framed.put_slice(&framing::prefix(message.len())?);
        framed.put_slice(message);
        self.ready.push_back(framed.freeze());
        Ok(())
    }
}

fn cut_short() -> Status {
    Status::invalid_argument("the request is no whole JSON value; send one object")
}

impl Body for JsonMessages {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        loop {
            if let Some(message) = this.ready.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(message))));
            }
            let stays_open = match this.end {
                End::Nothing => return Poll::Ready(None),
                // The connection notices by itself that the client has gone.
                End::Open => return Poll::Pending,
                End::Body { stays_open } => stays_open,
            };
            let read = match this.next_value() {
                Ok(None) => match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                    Some(frame) => this.take(frame),
                    None => {
                        this.end = if stays_open { End::Open } else { End::Nothing };
                        Ok(())
                    }
                },
                Ok(Some(value)) => {
                    json::read(&this.kind, value).and_then(|bytes| this.push(&bytes))
                }
                Err(error) => Err(error),
            };
            if let Err(status) = read {
                this.end = End::Nothing;
                return Poll::Ready(Some(Err(status.message().into())));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ready.is_empty() && self.end == End::Nothing
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::gateway::json::described;
    use crate::grpc::methods::Method;
    use crate::proto::etcdserverpb::LeaseKeepAliveRequest;

    /// A body that comes in the pieces given.
    struct Pieces(VecDeque<Bytes>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
        }
    }

    fn messages(text: &'static str, piece_bytes: usize) -> JsonMessages {
        let pieces = text.as_bytes().chunks(piece_bytes).map(Bytes::from_static).collect();
        let kind = described(Method::LeaseKeepAlive).input();
        JsonMessages::new(axum::body::Body::new(Pieces(pieces)), kind, 64)
    }

    async fn ids(mut messages: JsonMessages) -> Result<Vec<i64>, String> {
        messages.first(false).await.map_err(|status| status.message().to_owned())?;
        let mut ids = Vec::new();
        while let Some(frame) = messages.frame().await {
            let data = frame.map_err(|error| error.to_string())?.into_data().expect("data alone");
            let message = data.slice(framing::PREFIX_BYTES..);
            ids.push(LeaseKeepAliveRequest::decode(message).expect("it is one").id);
        }
        Ok(ids)
    }

    #[tokio::test]
    async fn values_behind_one_another_are_messages_however_they_are_cut() {
        for piece_bytes in 1..30 {
            let text = "{\"ID\": \"1\"}\n{\"ID\": 22} {} \n";
            assert_eq!(ids(messages(text, piece_bytes)).await, Ok(vec![1, 22, 0]));
        }
    }

    #[tokio::test]
    async fn what_is_no_json_or_too_much_is_refused() {
        for (text, expect) in [
            ("", "no whole JSON value"),
            ("{\"ID\": ", "no whole JSON value"),
            ("{,}", "key must be a string"),
            ("{\"ID\": 1}{\"ID\": \"x\"}", "invalid"),
            ("{\"ID\": 1, \"a\": [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]}", "too large"),
        ] {
            let error = ids(messages(text, 5)).await.expect_err("it is refused");
            assert!(error.contains(expect), "{text}: {error}");
        }
    }
}
