//! The messages of a stream that a client sends, one after the other.
//!
//! Invariants:
//! 1. No more than one message and a frame of the connection is ever gathered.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tonic::Status;

use super::framing::{PREFIX_BYTES, message_bytes};

/// What brings requests.
pub(crate) trait Requests: Unpin {
    /// The next message, without its prefix; `None` once the client sends no more.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>>;
}

/// The messages of a request's body.
pub(crate) struct Messages<B> {
    body: B,
    gathered: BytesMut,
    limit: usize,
    ended: bool,
}

impl<B> Messages<B> {
    /// The messages of a body, each of at most `limit` bytes.
    pub(crate) fn new(body: B, limit: usize) -> Messages<B> {
        Messages { body, gathered: BytesMut::new(), limit, ended: false }
    }

    fn take(&mut self) -> Result<Option<Bytes>, Status> {
        let Some(length) = message_bytes(&self.gathered) else { return Ok(None) };
        if self.gathered[0] != 0 {
            return Err(Status::unimplemented("compressed messages are not supported"));
        }
        if self.limit < length {
            return Err(Status::resource_exhausted(format!(
                "grpc: received message larger than max ({length} vs. {})",
                self.limit
            )));
        }
        if self.gathered.len() < PREFIX_BYTES + length {
            return Ok(None);
        }
        self.gathered.advance(PREFIX_BYTES);
        let message = Bytes::copy_from_slice(&self.gathered[..length]);
        self.gathered.advance(length);
        if self.gathered.is_empty() {
            // Requests are rare: memory for the next is taken when it comes.
            self.gathered = BytesMut::new();
        }
        Ok(Some(message))
    }
}

impl<B> Requests for Messages<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        loop {
            if let Some(message) = self.take().transpose() {
                return Poll::Ready(Some(message));
            }
            if self.ended {
                let cut = !self.gathered.is_empty();
                let error = || Err(Status::internal("the last message is cut short"));
                return Poll::Ready(cut.then(error));
            }
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                None => self.ended = true,
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.gathered.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => {
                    let error = Status::cancelled(format!("the request broke off: {error}"));
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::task::Waker;

    use http_body_util::StreamBody;
    use tonic::Code;

    use super::*;

    fn read(bytes: &[u8], piece_bytes: usize, limit: usize) -> Result<Vec<Bytes>, Code> {
        let pieces: VecDeque<_> = bytes.chunks(piece_bytes).map(Bytes::copy_from_slice).collect();
        let frames = pieces.into_iter().map(|piece| Ok::<_, String>(http_body::Frame::data(piece)));
        let mut messages = Messages::new(StreamBody::new(Iter(frames)), limit);
        let mut found = Vec::new();
        loop {
            let next = messages.poll_next(&mut Context::from_waker(Waker::noop()));
            let Poll::Ready(next) = next else { panic!("all bytes are there") };
            match next {
                None => return Ok(found),
                Some(Ok(message)) => found.push(message),
                Some(Err(status)) => return Err(status.code()),
            }
        }
    }

    struct Iter<I>(I);

    impl<I: Iterator + Unpin> tonic::codegen::tokio_stream::Stream for Iter<I> {
        type Item = I::Item;

        fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<I::Item>> {
            Poll::Ready(self.0.next())
        }
    }

    #[test]
    fn messages_are_read_however_they_are_cut() {
        let bytes = [0, 0, 0, 0, 2, b'a', b'b', 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, b'c'];
        for piece_bytes in 1..=bytes.len() {
            let found = read(&bytes, piece_bytes, 2).expect("they are whole");
            assert_eq!(found, ["ab", "", "c"]);
        }
    }

    #[test]
    fn what_is_not_a_message_ends_the_stream() {
        let cases: [(&[u8], Code); 4] = [
            (&[0, 0, 0], Code::Internal),
            (&[0, 0, 0, 0, 2, 7], Code::Internal),
            (&[1, 0, 0, 0, 1, 7], Code::Unimplemented),
            (&[0, 0, 0, 0, 4, 1], Code::ResourceExhausted),
        ];
        for (bytes, code) in cases {
            for piece_bytes in 1..=bytes.len() {
                assert_eq!(read(bytes, piece_bytes, 3), Err(code), "{bytes:?}");
            }
        }
    }
}
