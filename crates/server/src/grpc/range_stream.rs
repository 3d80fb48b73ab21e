//! Ranges as streams: the keys of a range at one revision, in as many messages as it takes.
//!
//! Responsible for never holding more of an answer than one slice. Header, count and whether there are
//! more come with the last message.

use std::pin::Pin;
use std::task::{Context as Task, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use jangada_kv::auth::Access;
use jangada_kv::{RangeRequest, RangeSlices, SortOrder, SortTarget};
use tonic::Status;

use super::{Call, Received, framing, header::header, kv};
use crate::auth::{Asker, Judged};
use crate::backend::Backend;
use crate::body::{BodyError, StreamBody};
use crate::convert;
use crate::edge::Context;
use crate::errors::ApiError;
use crate::proto::etcdserverpb as pb;

/// Checks a request and begins to answer it.
///
/// # Errors
/// The request cannot be streamed, or as for a range.
pub(crate) async fn range_stream<B: Backend>(
    context: &Context<B>,
    asker: Asker<'_>,
    request: Received<pb::RangeRequest>,
) -> Result<Answer<B>, Status> {
    let serializable = request.message.serializable;
    let range = convert::range(request.message)?;
    check(&range)?;
    if !serializable {
        kv::barrier(context).await?;
    }
    let access = Access::Read(&range.key, &range.range_end);
    let judged = context.guard.judge(&context.backend, asker, access).await?;
    let context = context.clone();
    let source = if RangeSlices::fit(&range) {
        Source::Slices(Box::new(RangeSlices::new(range)))
    } else {
        let (revision, response) = context.backend.store().range(&range);
        let response = response.map_err(ApiError::from)?;
        let response = convert::range_response(response, header(&context.backend, revision));
        Source::Whole(Some(Box::new(response)))
    };
    Ok(Answer { context, source, judged, pause: false })
}

/// etcd's conditions, in its order.
fn check(range: &RangeRequest) -> Result<(), Status> {
    if range.sort_target != SortTarget::Key || range.sort_order == SortOrder::Descend {
        return Err(Status::unimplemented("RangeStream does not support custom sort orders"));
    }
    let filters = [
        range.min_mod_revision,
        range.max_mod_revision,
        range.min_create_revision,
        range.max_create_revision,
    ];
    if filters.iter().any(|filter| *filter != 0) {
        return Err(Status::unimplemented("RangeStream does not support revision filters"));
    }
    Ok(())
}

/// What is left of an answer.
pub(crate) struct Answer<B> {
    context: Context<B>,
    source: Source,
    judged: Judged,
    /// Others have their turn before the next slice, the member's heartbeats among them.
    pause: bool,
}

enum Source {
    Slices(Box<RangeSlices>),
    /// A range of one key, or the count alone.
    Whole(Option<Box<pb::RangeResponse>>),
}

impl<B: Backend> Answer<B> {
    /// The next message; `None` behind the last.
    fn next(&mut self) -> Result<Option<Bytes>, Status> {
        let response = match &mut self.source {
            Source::Whole(response) => response.take().map(|response| *response),
            Source::Slices(slices) if slices.is_done() => None,
            Source::Slices(slices) => Some(self::slice(&self.context, slices)?),
        };
        let Some(response) = response else { return Ok(None) };
        let last = response.header.is_some();
        if last {
            self.judged.still_holds(self.context.backend.store())?;
            self.context.metrics.ranges.increment();
        }
        let response = pb::RangeStreamResponse { range_response: Some(response) };
        framing::encode(&response).map(Some)
    }

    /// The answer as a body, of a call.
    pub(crate) fn into_body(self, call: Call) -> StreamBody {
        RangeBody { answer: self, call, done: false }.boxed_unsync()
    }
}

/// The next slice that has any keys, or the last.
fn slice<B: Backend>(
    context: &Context<B>,
    slices: &mut RangeSlices,
) -> Result<pb::RangeResponse, Status> {
    let kvs = slices.next(context.backend.store()).map_err(ApiError::from)?;
    let mut response = pb::RangeResponse {
        kvs: kvs.into_iter().map(convert::key_value).collect(),
        ..pb::RangeResponse::default()
    };
    if slices.is_done() {
        response.header = Some(header(&context.backend, slices.revision()));
        response.more = slices.more();
        response.count = slices.count();
    }
    Ok(response)
}

struct RangeBody<B> {
    answer: Answer<B>,
    call: Call,
    done: bool,
}

/// Nothing in it is pinned in place.
impl<B> Unpin for RangeBody<B> {}

impl<B: Backend> Body for RangeBody<B> {
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
        if std::mem::take(&mut body.answer.pause) {
            task.waker().wake_by_ref();
            return Poll::Pending;
        }
        let status = match body.answer.next() {
            Ok(Some(message)) => {
                body.answer.pause = true;
                body.call.sent(message.len() - framing::PREFIX_BYTES);
                return Poll::Ready(Some(Ok(Frame::data(message))));
            }
            Ok(None) => Status::ok(""),
            Err(status) => status,
        };
        body.done = true;
        body.call.end(status.code());
        let trailers: HeaderMap = framing::trailers(&status);
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }
}
