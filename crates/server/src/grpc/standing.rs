//! An answer that stays open until the client ends it, or the server stops.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Frame;
use tonic::Status;

use super::{Call, framing};
use crate::serving::Ended;

/// One message, and then nothing until the client goes.
pub struct Standing {
    message: Option<Bytes>,
    /// Counted as cancelled when the answer is dropped.
    call: Call,
    serving: Ended,
    ended: bool,
}

impl Standing {
    pub(crate) fn new(message: Bytes, call: Call, serving: Ended) -> Standing {
        Standing { message: Some(message), call, serving, ended: false }
    }

    /// The message, and the status when nobody is served any more. That the client has gone, the
    /// connection notices by itself.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Frame<Bytes>>> {
        if let Some(message) = self.message.take() {
            return Poll::Ready(Some(Frame::data(message)));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        let status = Status::from(ready!(self.serving.poll(context)));
        self.ended = true;
        self.call.end(status.code());
        Poll::Ready(Some(Frame::trailers(framing::trailers(&status))))
    }
}

impl std::fmt::Debug for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Standing(message sent: {})", self.message.is_none())
    }
}
