//! The body of a stream of watchers: pulled by the connection, piece by piece.
//!
//! Invariants:
//! 1. No more than [`CHUNK_BYTES`] and one response wait to be written, whatever the watchers see: a
//!    client that does not read costs that and its cursors.
//! 2. A watcher is said to be made before anything else is said of it.

use std::pin::Pin;
use std::task::{Context as Task, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use jangada_kv::{KvError, WatchError, WatchOutput, WatchStep, WatchStream};
use tonic::Status;

use super::leader::LeaderWatch;
use super::outgoing::Outgoing;
use super::requests::{NO_WATCHER, answer};
use super::ticks::Ticks;
use crate::auth::{Asker, OwnedAsker};
use crate::backend::Backend;
use crate::body::BodyError;
use crate::edge::Context;
use crate::errors::ApiError;
use crate::grpc::header::header;
use crate::grpc::messages::Requests;
use crate::grpc::methods::Method;
use crate::grpc::{Call, framing, wants_leader};
use crate::proto::etcdserverpb as pb;
use crate::serving::Ended;
use crate::settings::MESSAGE_OVERHEAD_BYTES;

/// What is gathered before it is given to the connection: some frames of HTTP/2.
const CHUNK_BYTES: usize = 64 << 10;

/// How many parts of the history are looked at, and how many pieces given out, before others on the same
/// thread have their turn.
const STEPS_MAX: usize = 8;

/// How many requests are carried out in a row before what they ask for is looked at.
const REQUESTS_MAX: usize = 64;

/// Interval and up to a tenth of it, so that streams that were made together are not asked together.
const JITTER_FRACTION: u32 = 10;

/// A stream of watchers.
pub(super) struct WatchBody<B: Backend, R> {
    context: Context<B>,
    asker: OwnedAsker,
    requests: R,
    /// Whether the client may send more requests.
    requests_open: bool,
    stream: WatchStream,
    outgoing: Outgoing,
    /// Made with the first watcher that wants to be told.
    progress: Option<Ticks>,
    leader: Option<LeaderWatch>,
    /// Tells when nobody is served any more.
    serving: Ended,
    call: Call,
    ended: Option<Status>,
    /// Whether the trailers are out.
    done: bool,
    /// Pieces given out since the stream last waited.
    pieces: usize,
}

impl<B: Backend, R: Requests> WatchBody<B, R> {
    pub(super) fn new(
        context: &Context<B>,
        asker: Asker<'_>,
        requests: R,
        call: Call,
    ) -> WatchBody<B, R> {
        let election_timeout = context.settings.election_timeout;
        let leader = wants_leader(asker.headers)
            .then(|| LeaderWatch::new(&context.backend, election_timeout));
        WatchBody {
            stream: WatchStream::new(context.backend.store()),
            context: context.clone(),
            asker: asker.into_owned(),
            requests,
            requests_open: true,
            outgoing: Outgoing::default(),
            progress: None,
            leader,
            serving: context.serving.watch(),
            call,
            ended: None,
            done: false,
            pieces: 0,
        }
    }

    /// Reads requests and answers them.
    fn poll_requests(&mut self, task: &mut Task<'_>) -> Result<(), Status> {
        for _ in 0..REQUESTS_MAX {
            if !self.requests_open {
                return Ok(());
            }
            match self.requests.poll_next(task) {
                Poll::Pending => return Ok(()),
                Poll::Ready(None) => self.requests_open = false,
                Poll::Ready(Some(message)) => {
                    let message = message?;
                    self.call.received();
                    self.context.metrics.received_bytes.add(message.len() as u64);
                    self.carry_out(framing::decode(message)?)?;
                }
            }
        }
        task.waker().wake_by_ref();
        Ok(())
    }

    fn carry_out(&mut self, request: pb::WatchRequest) -> Result<(), Status> {
        use pb::watch_request::RequestUnion;
        if let Some(RequestUnion::CreateRequest(request)) = &request.request_union
            && request.progress_notify
            && self.progress.is_none()
        {
            let period = progress_period(&self.context);
            self.progress = Some(Ticks::new(&self.context.backend, period));
        }
        match answer(&self.context, self.asker.borrow(), &mut self.stream, request) {
            Some(response) => self.send(&response, Vec::new(), 0),
            None => Ok(()),
        }
    }

    /// Brings what the watchers see into the way out, up to a chunk. Answers whether there may be more.
    fn pump(&mut self) -> Result<bool, Status> {
        for _ in 0..STEPS_MAX {
            if CHUNK_BYTES <= self.outgoing.bytes() {
                return Ok(true);
            }
            match self.stream.step().map_err(status_of)? {
                WatchStep::Idle => return Ok(false),
                WatchStep::More => {}
                WatchStep::Send(output) => self.send_output(output)?,
            }
        }
        Ok(true)
    }

    fn send_output(&mut self, output: WatchOutput) -> Result<(), Status> {
        let revision = self.stream.revision();
        match output {
            WatchOutput::Events(mut delivery) => {
                let settings = &self.context.settings;
                let largest = settings.max_request_bytes + MESSAGE_OVERHEAD_BYTES;
                let limit = settings.watch_cuts.fragment_bytes.unwrap_or(largest);
                let enough = settings.watch_cuts.response_bytes;
                let watch_id = delivery.watcher();
                let mut head = self.head(watch_id, 0);
                while let Some(response) = delivery.next_response(enough, limit) {
                    if let Some(header) = &mut head.header {
                        header.revision = response.revision;
                    }
                    head.fragment = response.fragment;
                    self.context.metrics.watch_events.add(response.events as u64);
                    self.send(&head, response.slices, response.bytes)?;
                }
                Ok(())
            }
            WatchOutput::Compacted { id, compact_revision } => {
                let head = self.head(id, revision);
                let response = pb::WatchResponse { canceled: true, compact_revision, ..head };
                self.send(&response, Vec::new(), 0)
            }
            WatchOutput::Progress { id, revision } => {
                let response = self.head(id.unwrap_or(NO_WATCHER), revision);
                self.send(&response, Vec::new(), 0)
            }
        }
    }

    fn head(&self, watch_id: i64, revision: i64) -> pb::WatchResponse {
        let header = Some(header(&self.context.backend, revision));
        pb::WatchResponse { header, watch_id, ..pb::WatchResponse::default() }
    }

    fn send(
        &mut self,
        head: &pb::WatchResponse,
        slices: Vec<Bytes>,
        bytes: usize,
    ) -> Result<(), Status> {
        let sent = self.outgoing.add(head, slices, bytes)?;
        self.call.sent(sent);
        Ok(())
    }

    /// Does what there is to do; answers whether there may be more without waiting.
    fn go_on(&mut self, task: &mut Task<'_>) -> Result<bool, Status> {
        if let Poll::Ready(reason) = self.serving.poll(task) {
            return Err(reason.into());
        }
        self.poll_requests(task)?;
        if let Some(leader) = &mut self.leader
            && leader.poll_lost(&self.context.backend, task).is_ready()
        {
            return Err(ApiError::NoLeader.into());
        }
        if let Some(progress) = &mut self.progress {
            while progress.poll_tick(&self.context.backend, task).is_ready() {
                self.stream.interval_passed();
            }
        }
        if self.pump()? {
            return Ok(true);
        }
        self.stream.arm(task.waker());
        Ok(self.stream.has_news())
    }

    fn end(&mut self, status: &Status) -> HeaderMap {
        self.done = true;
        self.call.end(status.code());
        framing::trailers(status)
    }
}

/// Nothing in it is pinned in place.
impl<B: Backend, R> Unpin for WatchBody<B, R> {}

impl<B: Backend, R: Requests> Body for WatchBody<B, R> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        task: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let body = self.get_mut();
        if body.done {
            return Poll::Ready(None);
        }
        // A piece that is ready goes first; then whoever shares the thread may want to go on.
        let turn_over = STEPS_MAX <= body.pieces;
        if body.outgoing.bytes() == 0 && body.ended.is_none() && !turn_over {
            match body.go_on(task) {
                Ok(false) if body.outgoing.bytes() == 0 => {
                    body.outgoing.rest();
                    body.pieces = 0;
                    return Poll::Pending;
                }
                Ok(true) if body.outgoing.bytes() == 0 => {
                    task.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Ok(_) => {}
                Err(status) => body.ended = Some(status),
            }
        }
        if turn_over {
            body.pieces = 0;
            task.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(piece) = body.outgoing.take() {
            body.pieces += 1;
            body.stream.report();
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        let status = body.ended.take().unwrap_or_else(|| ApiError::WatchCanceled.into());
        Poll::Ready(Some(Ok(Frame::trailers(body.end(&status)))))
    }
}

/// The interval and some more, different for streams that are made one after the other.
fn progress_period<B: Backend>(context: &Context<B>) -> Duration {
    let interval = context.settings.watch_progress_interval;
    // Multiples of the golden ratio lie as far from each other as can be.
    let place = context.metrics.calls.of(Method::Watch).started.get();
    let part = u64::from(u16::MAX) & (place.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48);
    let part = u32::try_from(part).expect("it has sixteen bits");
    interval + interval / JITTER_FRACTION * part / u32::from(u16::MAX)
}

/// Why a stream ends. The client is to come again, unless there is nothing to come to.
fn status_of(error: WatchError) -> Status {
    match error {
        WatchError::Store(KvError::Corrupt) => ApiError::Corrupt.into(),
        WatchError::Store(_) | WatchError::Replaced => ApiError::Unhealthy.into(),
    }
}
