//! The API over gRPC.
//!
//! Responsible for finding the method of a call, the checks that every call must pass, and counting
//! it. Messages are framed here and not by tonic, for that saves a fifth of a call's processor time;
//! the wire is the same.
//!
//! Invariants:
//! 1. Every call of a known method is counted once when it starts and once when it ends, by
//!    whichever way: a client that goes away counts as a cancelled call.

mod auth;
pub mod cluster;
mod election;
mod frame;
pub(crate) mod framing;
mod header;
mod health;
mod kv;
mod lease;
mod lock;
mod maintenance;
pub(crate) mod messages;
pub mod methods;
mod outgoing;
mod range_stream;
mod snapshot;
mod standing;
mod streams;
mod turns;
pub(crate) mod watch;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use prost::Message;
use tonic::{Code, Status};

use crate::auth::Asker;
use crate::backend::Backend;
use crate::body::{Body, RequestBody, StreamBody};
use crate::edge::Context;
use crate::errors::ApiError;
use crate::metrics::Metrics;
use crate::serving::Ended;
use crate::settings::MESSAGE_OVERHEAD_BYTES;
pub(crate) use frame::Frame;
use methods::Method;
pub use outgoing::Outgoing;
pub use standing::Standing;
use streams::{Inbound, Streaming};

/// Answers one call.
pub(crate) async fn answer<B: Backend>(
    context: &Context<B>,
    request: Request<RequestBody>,
) -> Response<Body> {
    let method = match Method::of_path(request.uri().path()) {
        Ok(method) => method,
        Err(sentence) => return framing::failure(Status::unimplemented(sentence)),
    };
    let call = Call::begin(&context.metrics, method);
    let asker = Asker::new(request.headers(), request.extensions());
    if let Err(status) = check_call(context, method, asker).await {
        return call.failed(status);
    }
    if method == Method::HealthWatch {
        let message = receive(context, request.into_body()).await;
        return match message.and_then(decode).and_then(health::watch) {
            Ok(frame) => call.standing(frame, context.serving.watch()),
            Err(status) => call.failed(status),
        };
    }
    if method == Method::Snapshot {
        let message = receive(context, request.into_body()).await;
        let request = message.and_then(decode);
        let begun = match request {
            Ok(request) => Box::pin(snapshot::begin(context, request)).await,
            Err(status) => Err(status),
        };
        return match begun {
            Ok(messages) => call.outgoing(messages, context.serving.watch()),
            Err(status) => call.failed(status),
        };
    }
    let (head, body) = request.into_parts();
    let asker = Asker::new(&head.headers, &head.extensions);
    match method {
        Method::Watch | Method::LeaseKeepAlive => {
            let requests = messages::Messages::new(body, message_bytes_max(context));
            return call.streaming(|call| stream_of(context, method, asker, requests, call));
        }
        Method::Observe => {
            let request = match receive(context, body).await.and_then(decode) {
                Ok(request) => request,
                Err(status) => return call.failed(status),
            };
            call.received();
            let (asker, serving) = (asker.into_owned(), context.serving.watch());
            let context = context.clone();
            return call.streaming(|call| {
                Streaming::body(call, serving, |to| election::observe(context, asker, request, to))
            });
        }
        Method::RangeStream => {
            let message = receive(context, body).await;
            let request = match message.and_then(decode) {
                Ok(request) => request,
                Err(status) => return call.failed(status),
            };
            call.received();
            return match Box::pin(range_stream::range_stream(context, asker, request)).await {
                Ok(answer) => call.streaming(|call| answer.into_body(call)),
                Err(status) => call.failed(status),
            };
        }
        _ => {}
    }
    match unary(context, method, asker, receive(context, body)).await {
        Ok(frame) => call.succeeded(context.backlog.count(frame)),
        Err(status) => call.failed(status),
    }
}

/// Answers a call whose message has been received: what is left of [`answer`] without the wire.
pub(crate) async fn answer_message<B: Backend>(
    context: &Context<B>,
    method: Method,
    asker: Asker<'_>,
    message: Bytes,
) -> Result<Bytes, Status> {
    let mut call = Call::begin(&context.metrics, method);
    let answered = match check_call(context, method, asker).await {
        Ok(()) => unary(context, method, asker, std::future::ready(Ok(message))).await,
        Err(error) => Err(error.into()),
    };
    match answered {
        Ok(frame) => {
            call.answered(frame.message_bytes());
            call.end(Code::Ok);
            Ok(frame.into_message())
        }
        Err(status) => {
            call.end(status.code());
            Err(status)
        }
    }
}

/// Answers a call of many messages both ways: what is left of [`answer`] without the wire.
pub(crate) async fn answer_stream<B: Backend, R>(
    context: &Context<B>,
    method: Method,
    metadata: &HeaderMap,
    requests: R,
) -> Result<StreamBody, Status>
where
    R: http_body::Body<Data = Bytes, Error: std::fmt::Display> + Send + Unpin + 'static,
{
    let mut call = Call::begin(&context.metrics, method);
    let asker = Asker::of_metadata(metadata);
    if let Err(error) = check_call(context, method, asker).await {
        let status = Status::from(error);
        call.end(status.code());
        return Err(status);
    }
    let requests = messages::Messages::new(requests, message_bytes_max(context));
    Ok(stream_of(context, method, asker, requests, call))
}

/// The answer to a call of many messages both ways.
fn stream_of<B: Backend>(
    context: &Context<B>,
    method: Method,
    asker: Asker<'_>,
    requests: impl messages::Requests + Send + 'static,
    call: Call,
) -> StreamBody {
    match method {
        Method::Watch => watch::watch(context, asker, requests, call),
        Method::LeaseKeepAlive => {
            let inbound = Inbound::new(requests, &call);
            let (context, serving) = (context.clone(), context.serving.watch());
            Streaming::body(call, serving, |to| lease::keep_alive(context, inbound, to))
        }
        other => panic!("{other:?} takes one message"),
    }
}

/// Answers a call with one request and one answer. The message is not waited for if the method is
/// not served.
async fn unary<B: Backend>(
    context: &Context<B>,
    method: Method,
    asker: Asker<'_>,
    message: impl Future<Output = Result<Bytes, Status>>,
) -> Result<Frame, Status> {
    let whole = match method {
        Method::Range => return kv::range(context, asker, decode(message.await?)?).await,
        Method::Put => kv::put(context, asker, decode(message.await?)?).await,
        Method::DeleteRange => kv::delete_range(context, asker, decode(message.await?)?).await,
        Method::Txn => kv::txn(context, asker, decode(message.await?)?).await,
        Method::Compact => kv::compact(context, asker, decode(message.await?)?).await,
        Method::MemberList => cluster::member_list(context, decode(message.await?)?).await,
        // Rare, and larger than the rest: they must not make the future of every call as large.
        Method::MemberAdd => {
            let request = decode(message.await?)?;
            Box::pin(cluster::member_add(context, asker.headers, request)).await
        }
        Method::MemberRemove => {
            Box::pin(cluster::member_remove(context, decode(message.await?)?)).await
        }
        Method::MemberUpdate => {
            Box::pin(cluster::member_update(context, decode(message.await?)?)).await
        }
        Method::MemberPromote => {
            Box::pin(cluster::member_promote(context, decode(message.await?)?)).await
        }
        Method::MoveLeader => {
            Box::pin(maintenance::move_leader(context, decode(message.await?)?)).await
        }
        Method::Hash => Box::pin(maintenance::hash(context, decode(message.await?)?)).await,
        Method::HashKv => Box::pin(maintenance::hash_kv(context, decode(message.await?)?)).await,
        Method::Defragment => maintenance::defragment(context, decode(message.await?)?),
        Method::Downgrade => {
            Box::pin(maintenance::downgrade(context, decode(message.await?)?)).await
        }
        Method::LeaseGrant => Box::pin(lease::grant(context, asker, decode(message.await?)?)).await,
        Method::LeaseRevoke => lease::revoke(context, asker, decode(message.await?)?).await,
        Method::LeaseTimeToLive => {
            Box::pin(lease::time_to_live(context, asker, decode(message.await?)?)).await
        }
        Method::LeaseLeases => lease::leases(context, decode(message.await?)?).await,
        // They may wait for long.
        Method::Lock => Box::pin(lock::lock(context, asker, decode(message.await?)?)).await,
        Method::Campaign => {
            Box::pin(election::campaign(context, asker, decode(message.await?)?)).await
        }
        Method::Unlock => Box::pin(lock::unlock(context, asker, decode(message.await?)?)).await,
        Method::Proclaim => {
            Box::pin(election::proclaim(context, asker, decode(message.await?)?)).await
        }
        Method::Resign => Box::pin(election::resign(context, asker, decode(message.await?)?)).await,
        Method::Leader => Box::pin(election::leader(context, asker, decode(message.await?)?)).await,
        Method::Alarm => maintenance::alarm(context, asker, decode(message.await?)?).await,
        Method::Status => maintenance::status(context, decode(message.await?)?),
        Method::AuthEnable
        | Method::AuthDisable
        | Method::AuthStatus
        | Method::Authenticate
        | Method::UserAdd
        | Method::UserGet
        | Method::UserList
        | Method::UserDelete
        | Method::UserChangePassword
        | Method::UserGrantRole
        | Method::UserRevokeRole
        | Method::RoleAdd
        | Method::RoleGet
        | Method::RoleList
        | Method::RoleDelete
        | Method::RoleGrantPermission
        | Method::RoleRevokePermission => {
            Box::pin(auth::answer(context, method, asker, message.await?)).await
        }
        Method::HealthCheck => health::check(decode(message.await?)?),
        _ => {
            let row = method.description();
            Err(Status::unimplemented(format!(
                "method {} of service {} is not served by this version",
                row.name, row.service
            )))
        }
    };
    whole.map(Frame::Whole)
}

/// A request's message and its size on the wire.
pub(crate) struct Received<M> {
    message: M,
    bytes: usize,
}

/// Reads the request's message.
async fn receive<B: Backend>(context: &Context<B>, body: RequestBody) -> Result<Bytes, Status> {
    let message = framing::read_message(body, message_bytes_max(context)).await?;
    context.metrics.received_bytes.add(message.len() as u64);
    Ok(message)
}

/// The most bytes of a message.
fn message_bytes_max<B>(context: &Context<B>) -> usize {
    context.settings.max_request_bytes.saturating_add(MESSAGE_OVERHEAD_BYTES)
}

/// Decodes the request.
fn decode<M: Message + Default>(message: Bytes) -> Result<Received<M>, Status> {
    let bytes = message.len();
    Ok(Received { message: framing::decode(message)?, bytes })
}

/// What is looked at before a call's message: what its metadata asks for, and who asks.
async fn check_call<B: Backend>(
    context: &Context<B>,
    method: Method,
    asker: Asker<'_>,
) -> Result<(), ApiError> {
    check_metadata(context, method, asker.headers)?;
    context.guard.check_method(&context.backend, method, asker).await
}

/// What the metadata of every call may ask for.
fn check_metadata<B: Backend>(
    context: &Context<B>,
    method: Method,
    metadata: &HeaderMap,
) -> Result<(), ApiError> {
    let status = context.backend.status();
    let for_learner = matches!(
        method,
        Method::Status
            | Method::Range
            | Method::Snapshot
            | Method::HealthCheck
            | Method::HealthWatch
    );
    if status.is_learner && !for_learner {
        return Err(ApiError::NotSupportedForLearner);
    }
    if status.is_quarantined {
        // What it holds may be wrong. Everything else is refused where it asks the leader.
        match method {
            Method::Range | Method::Txn => return Err(ApiError::Corrupt),
            // With a code that has clients look for another member.
            Method::Watch
            | Method::RangeStream
            | Method::LeaseKeepAlive
            | Method::Observe
            | Method::Snapshot => return Err(ApiError::Unhealthy),
            _ => {}
        }
    }
    if let Some(version) = metadata.get("client-api-version")
        && std::str::from_utf8(version.as_bytes()).is_err()
    {
        return Err(ApiError::InvalidClientApiVersion);
    }
    if wants_leader(metadata) && status.leader.is_none() {
        return Err(ApiError::NoLeader);
    }
    Ok(())
}

/// Whether the client wants to be refused while the member knows no leader.
pub(crate) fn wants_leader(metadata: &HeaderMap) -> bool {
    metadata.get("hasleader").is_some_and(|value| value == "true")
}

/// A call under way, counted (invariant 1).
pub(crate) struct Call {
    metrics: Arc<Metrics>,
    method: Method,
    /// When it began, if its time is measured.
    began: Option<Instant>,
    ended: bool,
}

impl Call {
    fn begin(metrics: &Arc<Metrics>, method: Method) -> Call {
        let metrics = Arc::clone(metrics);
        let counts = metrics.calls.of(method);
        counts.started.increment();
        let began = counts.begin();
        Call { metrics, method, began, ended: false }
    }

    fn succeeded(mut self, frame: Frame) -> Response<Body> {
        self.answered(frame.message_bytes());
        self.end(Code::Ok);
        framing::success(match frame {
            Frame::Whole(bytes) => Body::Message(bytes),
            Frame::Pieces(pieces) => Body::Pieces(pieces),
        })
    }

    /// A success that stays open until the client goes.
    fn standing(self, frame: Bytes, serving: Ended) -> Response<Body> {
        self.answered(frame.len() - framing::PREFIX_BYTES);
        framing::success(Body::Standing(Standing::new(frame, self, serving)))
    }

    /// A success of many messages.
    fn outgoing(
        self,
        messages: tokio::sync::mpsc::Receiver<Result<Bytes, Status>>,
        serving: Ended,
    ) -> Response<Body> {
        framing::success(Body::Outgoing(Outgoing::new(messages, self, serving)))
    }

    /// A success whose messages are made as the client takes them.
    fn streaming(self, body: impl FnOnce(Call) -> StreamBody) -> Response<Body> {
        framing::success(Body::Stream(body(self)))
    }

    /// Counts a request and its answer of so many bytes.
    fn answered(&self, bytes: usize) {
        self.received();
        self.sent(bytes);
    }

    /// Counts a message of the client.
    fn received(&self) {
        self.metrics.calls.of(self.method).received.increment();
    }

    /// Counts a message of so many bytes to the client.
    fn sent(&self, bytes: usize) {
        self.metrics.calls.of(self.method).sent.increment();
        self.metrics.sent_bytes.add(bytes as u64);
    }

    fn failed(mut self, status: impl Into<Status>) -> Response<Body> {
        let status = status.into();
        self.end(status.code());
        framing::failure(status)
    }

    /// Counts the end, once.
    pub(crate) fn end(&mut self, code: Code) {
        if !self.ended {
            self.ended = true;
            let counts = self.metrics.calls.of(self.method);
            counts.handled(code);
            counts.took(self.began);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}
