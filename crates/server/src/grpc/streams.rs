//! Calls of many messages whose work is one future: requests as they come, answers as they are made.
//!
//! Responsible for the order of answers and for the end of the call. The work behind a call is polled by
//! the answer's body, so it goes on only as fast as the client reads, and ends with the call. Not
//! responsible for framing (`messages.rs`) or for what is said.
//!
//! Invariants:
//! 1. At most [`ANSWERS_WAITING_MAX`] answers of a call wait for its client.
//! 2. The status follows the last answer.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use prost::Message;
use tokio::sync::mpsc;
use tonic::{Code, Status};

use super::framing::{self, PREFIX_BYTES};
use super::messages::Requests;
use super::methods::Method;
use super::{Call, Metrics};
use crate::body::{BodyError, StreamBody};
use crate::serving::Ended;

/// How many answers may wait: enough for the connection to send several at a time, few enough that a
/// client which does not read costs little.
const ANSWERS_WAITING_MAX: usize = 8;

/// The requests of a call.
pub(crate) struct Inbound<R> {
    requests: R,
    metrics: Arc<Metrics>,
    method: Method,
}

impl<R: Requests> Inbound<R> {
    pub(super) fn new(requests: R, call: &Call) -> Inbound<R> {
        Inbound { requests, metrics: Arc::clone(&call.metrics), method: call.method }
    }

    /// The next request; `None` when the client has said its last.
    ///
    /// # Errors
    /// It is too large, compressed, cut short or not that message, or the client went away.
    pub(crate) async fn next<M: Message + Default>(&mut self) -> Result<Option<M>, Status> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    /// The next request, if it is here already.
    ///
    /// # Errors
    /// As [`Inbound::next`].
    pub(crate) async fn now<M: Message + Default>(&mut self) -> Result<Option<M>, Status> {
        std::future::poll_fn(|context| {
            Poll::Ready(match self.poll_next(context) {
                Poll::Ready(next) => next,
                Poll::Pending => Ok(None),
            })
        })
        .await
    }

    fn poll_next<M: Message + Default>(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<M>, Status>> {
        let Some(message) = ready!(self.requests.poll_next(context)).transpose()? else {
            return Poll::Ready(Ok(None));
        };
        self.metrics.calls.of(self.method).received.increment();
        self.metrics.received_bytes.add(message.len() as u64);
        Poll::Ready(framing::decode(message).map(Some))
    }
}

/// Where the answers of a call go.
#[derive(Clone)]
pub(crate) struct Outbound {
    answers: mpsc::Sender<Bytes>,
}

impl Outbound {
    /// Sends an answer, once the client has read enough of those before.
    ///
    /// # Errors
    /// It is larger than a message may be, or nobody reads any more.
    pub(crate) async fn send(&self, message: &impl Message) -> Result<(), Status> {
        let sent = self.answers.send(framing::encode(message)?).await;
        sent.map_err(|_| Status::cancelled("the call has ended"))
    }
}

/// What makes the answers of a call.
type Work = Pin<Box<dyn Future<Output = Result<(), Status>> + Send>>;

/// The answers of a call and the work that makes them.
pub(super) struct Streaming {
    call: Call,
    work: Option<Work>,
    /// Tells when nobody is served any more.
    serving: Ended,
    answers: mpsc::Receiver<Bytes>,
    status: Option<Status>,
}

impl Streaming {
    /// Answers a call by what `work` sends; its result is the call's status.
    pub(super) fn body<F>(
        call: Call,
        serving: Ended,
        work: impl FnOnce(Outbound) -> F,
    ) -> StreamBody
    where
        F: Future<Output = Result<(), Status>> + Send + 'static,
    {
        let (sender, answers) = mpsc::channel(ANSWERS_WAITING_MAX);
        let work = Some(Box::pin(work(Outbound { answers: sender })) as Work);
        Streaming { call, work, serving, answers, status: None }.boxed_unsync()
    }
}

impl Body for Streaming {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let streaming = self.get_mut();
        loop {
            if let Poll::Ready(Some(answer)) = streaming.answers.poll_recv(context) {
                streaming.call.sent(answer.len().saturating_sub(PREFIX_BYTES));
                return Poll::Ready(Some(Ok(Frame::data(answer))));
            }
            if streaming.work.is_some()
                && let Poll::Ready(reason) = streaming.serving.poll(context)
            {
                streaming.work = None;
                streaming.status = Some(reason.into());
            }
            if let Some(work) = &mut streaming.work {
                match work.as_mut().poll(context) {
                    Poll::Ready(outcome) => {
                        streaming.work = None;
                        streaming.status = Some(outcome.err().unwrap_or_else(|| Status::ok("")));
                    }
                    // What it has sent meanwhile is taken at once.
                    Poll::Pending if streaming.answers.is_empty() => return Poll::Pending,
                    Poll::Pending => {}
                }
                continue;
            }
            let Some(status) = streaming.status.take() else {
                return Poll::Ready(None);
            };
            streaming.call.end(status.code());
            return Poll::Ready(Some(Ok(Frame::trailers(trailers(&status)))));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.work.is_none() && self.status.is_none() && self.answers.is_empty()
    }
}

fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    let written = status.add_header(&mut trailers);
    if written.is_err() {
        // A text that no header takes is not worth the status itself.
        let code = http::HeaderValue::from(Code::Unknown as i32);
        trailers.insert("grpc-status", code);
    }
    trailers
}
