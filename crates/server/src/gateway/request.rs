//! The JSON of a request as the messages of a call.
//!
//! Invariants:
//! 1. No more than the limit is gathered for one message, and no byte is looked at twice to find its
//!    end, however small the pieces are in which it comes.
//! 2. A method with one request gets exactly one, an empty one if nothing was sent.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use prost_reflect::MessageDescriptor;
use tonic::Status;

use super::json;
use crate::body::BodyError;
use crate::grpc::framing;

/// What was wrong with a request of a stream that has begun: said in place of the call's own end.
#[derive(Clone, Default)]
pub(super) struct Refusal(Arc<OnceLock<Status>>);

impl Refusal {
    pub(super) fn get(&self) -> Option<&Status> {
        self.0.get()
    }

    fn set(&self, status: Status) {
        // The first one counts: nothing is read behind it.
        let _ = self.0.set(status);
    }
}

/// What becomes of a call when one of its requests is refused.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// Those before are answered; a call that ends with its requests then does.
    End,
    /// It breaks off: it would go on without requests.
    Break,
}

/// What becomes of what is behind the one message of a call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// It is read and forgotten, so that the connection can be used again.
    Read,
    /// It is not waited for: the client keeps its side open.
    Leave,
}

/// The messages of a call, made of JSON values one behind the other as they come.
pub(super) struct JsonMessages {
    body: axum::body::Body,
    kind: MessageDescriptor,
    limit: usize,
    gathered: BytesMut,
    extent: Extent,
    /// A message with its prefix, to be read.
    ready: Option<Bytes>,
    /// Whether nothing more is read.
    is_over: bool,
    refused: Refused,
    refusal: Refusal,
}

impl JsonMessages {
    pub(super) fn new(
        body: axum::body::Body,
        kind: MessageDescriptor,
        limit: usize,
        refused: Refused,
    ) -> Self {
        JsonMessages {
            body,
            kind,
            limit,
            gathered: BytesMut::new(),
            extent: Extent::default(),
            ready: None,
            is_over: false,
            refused,
            refusal: Refusal::default(),
        }
    }

    /// Where it is said that a request behind the first one was refused.
    pub(super) fn refusal(&self) -> Refusal {
        self.refusal.clone()
    }

    /// Reads the one message of a request that is none of a stream (invariant 2).
    ///
    /// # Errors
    /// It is no JSON or not this message.
    pub(super) async fn only(&mut self, rest: Rest) -> Result<(), Status> {
        let first = self.first_value().await?;
        self.is_over = true;
        let message = match first {
            Some(value) => json::read(&self.kind, &value)?,
            None => Bytes::new(),
        };
        self.push(&message)?;
        if rest == Rest::Read {
            self.gathered = BytesMut::new();
            while let Some(frame) = self.body.frame().await {
                self.take(frame)?;
            }
        }
        Ok(())
    }

    /// Reads the first message of a stream; those behind it are read as they come.
    ///
    /// # Errors
    /// It is no JSON or not this message, or there is none.
    pub(super) async fn first(&mut self) -> Result<(), Status> {
        let first = self.first_value().await?;
        let value = first.ok_or_else(|| {
            Status::invalid_argument("the request has no message; send a JSON object")
        })?;
        self.push(&json::read(&self.kind, &value)?)
    }

    /// `None` if there is nothing but white space.
    async fn first_value(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(value) = self.next_value(More::May) {
                return Ok(Some(value));
            }
            match self.body.frame().await {
                Some(frame) => self.take(frame)?,
                None => return self.last_value(),
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
    fn next_value(&mut self, more: More) -> Option<Bytes> {
        let end = self.extent.find_end(&self.gathered, more)?;
        self.extent = Extent::default();
        let value = self.gathered.split_to(end).freeze();
        if self.gathered.is_empty() {
            self.gathered = BytesMut::new();
        }
        Some(value)
    }

    /// What is left at the end of the body.
    fn last_value(&mut self) -> Result<Option<Bytes>, Status> {
        self.is_over = true;
        match self.next_value(More::None) {
            None if self.gathered.iter().all(u8::is_ascii_whitespace) => Ok(None),
            None => {
                Err(Status::invalid_argument("the request's JSON is cut short; send whole objects"))
            }
            value => Ok(value),
        }
    }

    fn push(&mut self, message: &[u8]) -> Result<(), Status> {
        let mut framed = BytesMut::with_capacity(framing::PREFIX_BYTES + message.len());
        framed.put_slice(&framing::prefix(message.len())?);
        framed.put_slice(message);
        self.ready = Some(framed.freeze());
        Ok(())
    }

    /// Reads on until a message is ready or the body is over.
    fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Status>> {
        while self.ready.is_none() && !self.is_over {
            let value = match self.next_value(More::May) {
                Some(value) => Some(value),
                None => match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                    Some(frame) => {
                        self.take(frame)?;
                        None
                    }
                    None => self.last_value()?,
                },
            };
            if let Some(value) = value {
                let message = json::read(&self.kind, &value)?;
                self.push(&message)?;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Body for JsonMessages {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Err(status) = ready!(self.poll_message(context)) {
            self.is_over = true;
            let sentence = status.message().to_owned();
            self.refusal.set(status);
            return Poll::Ready((self.refused == Refused::Break).then(|| Err(sentence.into())));
        }
        Poll::Ready(self.ready.take().map(|message| Ok(Frame::data(message))))
    }

    fn is_end_stream(&self) -> bool {
        self.ready.is_none() && self.is_over
    }
}

/// Whether bytes may follow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum More {
    May,
    None,
}

/// How far the first JSON value of what was gathered reaches, as far as that was looked at. What is
/// within it is for the reader of JSON to judge.
#[derive(Clone, Copy, Default)]
struct Extent {
    looked_at: usize,
    place: Place,
    depth: usize,
}

/// Where the next byte stands.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Before,
    /// In a value without brackets.
    Bare,
    Brackets,
    Text,
    Escape,
}

impl Extent {
    /// The end of the value. One without brackets ends with white space, or with everything.
    fn find_end(&mut self, bytes: &[u8], more: More) -> Option<usize> {
        while let Some(byte) = bytes.get(self.looked_at) {
            self.looked_at += 1;
            let is_space = byte.is_ascii_whitespace();
            self.place = match (self.place, byte) {
                (Place::Before, _) if is_space => Place::Before,
                (Place::Bare, _) if is_space => return Some(self.looked_at),
                (Place::Before | Place::Brackets, b'{' | b'[') => {
                    self.depth += 1;
                    Place::Brackets
                }
                (Place::Before | Place::Bare, _) => Place::Bare,
                (Place::Brackets, b'}' | b']') => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return Some(self.looked_at);
                    }
                    Place::Brackets
                }
                (Place::Brackets, b'"') => Place::Text,
                (Place::Text, b'"') => Place::Brackets,
                (Place::Text, b'\\') => Place::Escape,
                (Place::Text | Place::Escape, _) => Place::Text,
                (Place::Brackets, _) => Place::Brackets,
            };
        }
        (more == More::None && self.place == Place::Bare).then_some(self.looked_at)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

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
        let body = axum::body::Body::new(Pieces(pieces));
        JsonMessages::new(body, kind, 64, Refused::End)
    }

    /// The ids asked for, and what was wrong with what followed.
    async fn ids(mut messages: JsonMessages) -> (Vec<i64>, Option<String>) {
        if let Err(status) = messages.first().await {
            return (Vec::new(), Some(status.message().to_owned()));
        }
        let mut ids = Vec::new();
        while let Some(frame) = messages.frame().await {
            let data = frame.expect("it does not break").into_data().expect("data alone");
            let message = data.slice(framing::PREFIX_BYTES..);
            ids.push(LeaseKeepAliveRequest::decode(message).expect("it is one").id);
        }
        (ids, messages.refusal().get().map(|status| status.message().to_owned()))
    }

    #[tokio::test]
    async fn values_behind_one_another_are_messages_however_they_are_cut() {
        for piece_bytes in 1..40 {
            let text = "{\"ID\": \"1\"}\n{\"ID\": 22} {} \n{\"}\\\"{\": [{}]}null";
            let found = ids(messages(text, piece_bytes)).await;
            assert_eq!(found, (vec![1, 22, 0, 0, 0], None));
        }
    }

    #[tokio::test]
    async fn what_is_no_json_or_too_much_is_refused_behind_what_was_good() {
        let long = "{\"ID\": 1, \"a\": [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]}";
        for (text, good, expect) in [
            ("", 0, "no message"),
            ("{\"ID\": ", 0, "cut short"),
            ("{,}", 0, "key must be a string"),
            ("x", 0, "expected value"),
            ("{\"ID\": 1}{\"ID\": \"x\"}", 1, "invalid"),
            ("{\"ID\": 1}]", 1, "expected value"),
            ("{\"ID\": 1} {", 1, "cut short"),
            (long, 0, "too large"),
        ] {
            let (ids, error) = ids(messages(text, 5)).await;
            let error = error.expect("it is refused");
            assert!(ids.len() == good && error.contains(expect), "{text}: {ids:?} {error}");
        }
    }

    #[tokio::test]
    async fn a_method_with_one_request_takes_the_first_value_or_none() {
        for (text, expect) in [("{\"ID\": 7} x", 7), ("", 0), (" \n", 0), ("null", 0)] {
            let mut messages = messages(text, 3);
            messages.only(Rest::Read).await.expect("it is one");
            let frame = messages.frame().await.expect("there is one").expect("it does not break");
            let message = frame.into_data().expect("data alone").slice(framing::PREFIX_BYTES..);
            assert_eq!(LeaseKeepAliveRequest::decode(message).expect("it is one").id, expect);
            assert!(messages.frame().await.is_none() && messages.is_end_stream());
        }
    }
}
