//! An answer of many messages, made elsewhere while it goes out.
//!
//! Responsible for the body: messages as they come, then the status. Whoever makes them waits while the
//! client does not take them, so no more are in memory than the channel has room for.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use tonic::{Code, Status};

use super::{Call, framing};
use crate::serving::Ended;

/// The messages of an answer.
pub struct Outgoing {
    /// Framed messages; an error ends the answer.
    messages: tokio::sync::mpsc::Receiver<Result<Bytes, Status>>,
    call: Call,
    /// Tells when nobody is served any more.
    serving: Ended,
    ended: bool,
}

impl Outgoing {
    pub(crate) fn new(
        messages: tokio::sync::mpsc::Receiver<Result<Bytes, Status>>,
        call: Call,
        serving: Ended,
    ) -> Outgoing {
        call.received();
        Outgoing { messages, call, serving, ended: false }
    }

    /// The next message, or the status behind the last one, once.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Frame<Bytes>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let status = match self.serving.poll(context) {
            Poll::Ready(reason) => {
                self.messages.close();
                reason.into()
            }
            Poll::Pending => match ready!(self.messages.poll_recv(context)) {
                Some(Ok(message)) => {
                    self.call.sent(message.len() - framing::PREFIX_BYTES);
                    return Poll::Ready(Some(Frame::data(message)));
                }
                Some(Err(status)) => status,
                None => Status::new(Code::Ok, ""),
            },
        };
        self.ended = true;
        self.call.end(status.code());
        let mut trailers = HeaderMap::with_capacity(2);
        // What cannot stand in a header is told by its code alone.
        if status.add_header(&mut trailers).is_err() {
            trailers.insert("grpc-status", http::HeaderValue::from(status.code() as i32));
        }
        Poll::Ready(Some(Frame::trailers(trailers)))
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }
}

impl std::fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Outgoing(ended: {})", self.ended)
    }
}
