//! gRPC over HTTP/2, as far as a call with one request and one answer needs it.
//!
//! Responsible for the five bytes before a message and for the status after it. Messages are
//! decoded from the receive buffer without a copy and encoded once, prefix included. Streams of
//! requests are read by `messages.rs`.
//!
//! Invariants:
//! 1. No more than the limit is ever gathered for one message, whatever its prefix says.
//! 2. A request is read to its end before it is answered, so that the stream closes on both sides.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response, header};
use http_body_util::BodyExt;
use prost::Message;
use tonic::Status;

use crate::body::Body;

/// The size of the prefix: a flag for compression and the length.
pub(crate) const PREFIX_BYTES: usize = 5;

/// Reads the one message of a request.
///
/// # Errors
/// There is none, there are several, it is larger than `limit` bytes or compressed, or the client
/// went away.
pub(crate) async fn read_message<B>(mut body: B, limit: usize) -> Result<Bytes, Status>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let mut gathered = Gathered::default();
    while !body.is_end_stream() {
        let Some(frame) = body.frame().await else { break };
        let frame =
            frame.map_err(|error| Status::cancelled(format!("the request broke off: {error}")))?;
        if let Ok(data) = frame.into_data() {
            gathered.push(data, limit)?;
        }
    }
    gathered.message()
}

/// What has come of a message.
#[derive(Default)]
enum Gathered {
    #[default]
    Nothing,
    /// A single frame of the stream, as nearly always.
    One(Bytes),
    Many(BytesMut),
}

impl Gathered {
    fn push(&mut self, data: Bytes, limit: usize) -> Result<(), Status> {
        if data.is_empty() {
            return Ok(());
        }
        *self = match std::mem::take(self) {
            Gathered::Nothing => Gathered::One(data),
            Gathered::One(first) => {
                let mut all = BytesMut::with_capacity(first.len() + data.len());
                all.extend_from_slice(&first);
                all.extend_from_slice(&data);
                Gathered::Many(all)
            }
            Gathered::Many(mut all) => {
                all.extend_from_slice(&data);
                Gathered::Many(all)
            }
        };
        self.check(limit)
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Gathered::Nothing => &[],
            Gathered::One(bytes) => bytes,
            Gathered::Many(bytes) => bytes,
        }
    }

    /// Invariant 1.
    fn check(&self, limit: usize) -> Result<(), Status> {
        let bytes = self.bytes();
        let Some(length) = message_bytes(bytes) else { return Ok(()) };
        if bytes[0] != 0 {
            return Err(Status::unimplemented("compressed messages are not supported"));
        }
        if limit < length {
            return Err(Status::resource_exhausted(format!(
                "grpc: received message larger than max ({length} vs. {limit})"
            )));
        }
        if PREFIX_BYTES + length < bytes.len() {
            return Err(Status::internal("the request has more than one message"));
        }
        Ok(())
    }

    fn message(self) -> Result<Bytes, Status> {
        let bytes = match self {
            Gathered::Nothing => return Err(Status::internal("the request has no message")),
            Gathered::One(bytes) => bytes,
            Gathered::Many(bytes) => bytes.freeze(),
        };
        match message_bytes(&bytes) {
            Some(length) if PREFIX_BYTES + length == bytes.len() => Ok(bytes.slice(PREFIX_BYTES..)),
            _ => Err(Status::internal("the request's message is cut short")),
        }
    }
}

/// The length that the prefix names; `None` if the prefix is not complete.
pub(crate) fn message_bytes(bytes: &[u8]) -> Option<usize> {
    let length = bytes.get(1..PREFIX_BYTES)?;
    let length = u32::from_be_bytes(length.try_into().expect("four bytes"));
    Some(length as usize)
}

/// Decodes a message.
///
/// # Errors
/// The bytes are not that message.
pub(crate) fn decode<M: Message + Default>(bytes: Bytes) -> Result<M, Status> {
    M::decode(bytes)
        .map_err(|error| Status::internal(format!("grpc: error unmarshalling request: {error}")))
}

/// Encodes a message with its prefix.
///
/// # Errors
/// The message is larger than a prefix can say.
pub(crate) fn encode(message: &impl Message) -> Result<Bytes, Status> {
    let length = message.encoded_len();
    let prefix = prefix(length)?;
    let mut frame = BytesMut::with_capacity(PREFIX_BYTES + length);
    frame.put_slice(&prefix);
    message.encode(&mut frame).expect("the buffer has room for the message");
    Ok(frame.freeze())
}

/// The prefix of a message of this length.
///
/// # Errors
/// The message is larger than a prefix can say.
pub(crate) fn prefix(length: usize) -> Result<[u8; PREFIX_BYTES], Status> {
    let Ok(number) = u32::try_from(length) else {
        return Err(Status::resource_exhausted(format!(
            "grpc: trying to send message larger than max ({length} vs. {}); ask for less at a time",
            u32::MAX
        )));
    };
    let [a, b, c, d] = number.to_be_bytes();
    Ok([0, a, b, c, d])
}

/// The answer with a body that begins with a message made by [`encode`].
pub(crate) fn success(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// The trailers that end a stream.
pub(crate) fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    if status.add_header(&mut trailers).is_err() {
        // The text cannot be sent; the code can.
        trailers.insert("grpc-status", HeaderValue::from(status.code() as i32));
    }
    trailers
}

/// The answer that carries an error and nothing else.
pub(crate) fn failure(status: Status) -> Response<Body> {
    status.into_http::<()>().map(|()| Body::Empty)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use http_body::Frame;
    use tonic::Code;

    use super::*;

    /// A body that comes in the pieces given.
    struct Pieces(VecDeque<Bytes>);

    impl http_body::Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
        }
    }

    async fn read(bytes: &[u8], piece_bytes: usize, limit: usize) -> Result<Bytes, Status> {
        let pieces = bytes.chunks(piece_bytes).map(Bytes::copy_from_slice).collect();
        read_message(Pieces(pieces), limit).await
    }

    #[tokio::test]
    async fn a_message_is_read_however_it_is_cut() {
        let bytes = [0, 0, 0, 0, 3, b'a', b'b', b'c'];
        for piece_bytes in 1..=bytes.len() {
            let message = read(&bytes, piece_bytes, 3).await.expect("the message is whole");
            assert_eq!(message, "abc");
        }
    }

    #[tokio::test]
    async fn what_is_not_one_whole_message_is_refused() {
        let cases: [(&[u8], Code); 6] = [
            (&[], Code::Internal),
            (&[0, 0, 0], Code::Internal),
            (&[0, 0, 0, 0, 2, 7], Code::Internal),
            (&[0, 0, 0, 0, 1, 7, 7], Code::Internal),
            (&[1, 0, 0, 0, 1, 7], Code::Unimplemented),
            (&[0, 0, 0, 0, 4, 1, 2, 3, 4], Code::ResourceExhausted),
        ];
        for (bytes, code) in cases {
            for piece_bytes in 1..=bytes.len().max(1) {
                let status = read(bytes, piece_bytes, 3).await.expect_err("it is refused");
                assert_eq!(status.code(), code, "{bytes:?} in pieces of {piece_bytes}");
            }
        }
    }

    #[tokio::test]
    async fn an_empty_message_is_a_message() {
        assert_eq!(read(&[0; 5], 5, 3).await.expect("the message is whole"), "");
    }
}
