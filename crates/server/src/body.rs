//! The body of an answer, whichever part of the API made it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};

use crate::grpc::{Outgoing, Standing};

/// What a body's source may fail with.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// A body that is polled for what it sends.
pub type StreamBody = http_body_util::combinators::UnsyncBoxBody<Bytes, BodyError>;

/// The body of a request: from a connection, or from within the server.
pub enum RequestBody {
    /// From a client.
    Wire(hyper::body::Incoming),
    /// Made by the gateway.
    Local(Pin<Box<dyn http_body::Body<Data = Bytes, Error = BodyError> + Send>>),
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            RequestBody::Wire(body) => Pin::new(body).poll_frame(context).map_err(Into::into),
            RequestBody::Local(body) => body.as_mut().poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            RequestBody::Wire(body) => body.is_end_stream(),
            RequestBody::Local(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            RequestBody::Wire(body) => body.size_hint(),
            RequestBody::Local(body) => body.size_hint(),
        }
    }
}

/// The body of an answer.
#[derive(Debug)]
pub enum Body {
    /// Nothing.
    Empty,
    /// One gRPC message with its prefix; then the trailers of a success.
    Message(Bytes),
    /// The same in several pieces, one behind the other.
    Pieces(VecDeque<Bytes>),
    /// The trailers of a success.
    Trailers,
    /// One gRPC message, and nothing until the client goes.
    Standing(Standing),
    /// gRPC messages that are made while they go out, and then their status.
    Outgoing(Outgoing),
    /// Messages as they come, and trailers at the end.
    Stream(StreamBody),
    /// An answer over HTTP.
    Http(axum::body::Body),
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Body::Empty => Poll::Ready(None),
            Body::Message(message) => {
                let message = std::mem::take(message);
                *self = Body::Trailers;
                Poll::Ready(Some(Ok(Frame::data(message))))
            }
            Body::Pieces(pieces) => {
                let piece = pieces.pop_front().unwrap_or_default();
                if pieces.is_empty() {
                    *self = Body::Trailers;
                }
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            Body::Trailers => {
                *self = Body::Empty;
                let mut trailers = HeaderMap::with_capacity(1);
                trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            Body::Standing(standing) => standing.poll(context).map(|frame| frame.map(Ok)),
            Body::Outgoing(outgoing) => outgoing.poll(context).map(|frame| frame.map(Ok)),
            Body::Stream(body) => Pin::new(body).poll_frame(context),
            Body::Http(body) => Pin::new(body).poll_frame(context).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Empty => true,
            Body::Message(_) | Body::Pieces(_) | Body::Trailers | Body::Standing(_) => false,
            Body::Outgoing(outgoing) => outgoing.is_ended(),
            Body::Stream(body) => body.is_end_stream(),
            Body::Http(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Empty => SizeHint::with_exact(0),
            Body::Http(body) => body.size_hint(),
            Body::Message(_)
            | Body::Pieces(_)
            | Body::Trailers
            | Body::Standing(_)
            | Body::Outgoing(_)
            | Body::Stream(_) => SizeHint::default(),
        }
    }
}
