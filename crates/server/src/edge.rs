//! The API as one service: what every connection is given.
//!
//! Responsible for telling gRPC from HTTP by the request's version and content type, and for
//! holding what both need. Not responsible for connections.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Version, header};
use hyper::body::Incoming;
use tokio::sync::Semaphore;
use tonic::Status;

use crate::auth::{Asker, Guard};
use crate::backend::Backend;
use crate::backlog::Backlog;
use crate::body::{Body, RequestBody, StreamBody};
use crate::grpc;
use crate::grpc::methods::Method;
use crate::http_api;
use crate::metrics::Metrics;
use crate::serving::Serving;
use crate::settings::Settings;

/// The API of one member. A clone is another handle of the same.
#[derive(Clone, Debug)]
pub struct Edge<B> {
    inner: Arc<Inner<B>>,
}

/// Behind one reference count, for a handle is taken for every request.
#[derive(Debug)]
struct Inner<B> {
    context: Context<B>,
    http: axum::Router,
}

/// What a connection's bytes travel in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// As they are.
    Plain,
    /// In TLS.
    Tls,
}

/// What every request is answered from. A clone is another handle of the same.
#[derive(Clone, Debug)]
pub(crate) struct Context<B> {
    pub(crate) backend: B,
    pub(crate) settings: Arc<Settings>,
    pub(crate) metrics: Arc<Metrics>,
    /// Turns at sending a snapshot.
    pub(crate) snapshots: Arc<Semaphore>,
    pub(crate) guard: Arc<Guard>,
    /// Tells those who wait when nobody is served any more.
    pub(crate) serving: Serving,
    /// What the connection has not taken yet.
    pub(crate) backlog: Backlog,
}

/// How many snapshots are sent at a time: each takes a thread, and has the engine keep pages.
const SNAPSHOTS_MAX: usize = 2;

impl<B: Backend> Edge<B> {
    /// The API over a member.
    #[must_use]
    pub fn new(backend: B, settings: Settings, metrics: Arc<Metrics>) -> Edge<B> {
        let snapshots = Arc::new(Semaphore::new(SNAPSHOTS_MAX));
        let guard = Arc::new(Guard::new(&settings.auth));
        let (serving, backlog) = Default::default();
        let settings = Arc::new(settings);
        let context = Context { backend, settings, metrics, snapshots, guard, serving, backlog };
        let http = http_api::router(context.clone());
        Edge { inner: Arc::new(Inner { context, http }) }
    }

    /// The same for another connection: what one client does not take is held against itself alone.
    pub(crate) fn for_connection(&self) -> Edge<B> {
        let Inner { context, http } = &*self.inner;
        let backlog = context.backlog.of_another();
        let context = Context { backlog, ..context.clone() };
        Edge { inner: Arc::new(Inner { context, http: http.clone() }) }
    }

    /// Whether the member serves: to be told when it does no longer.
    #[must_use]
    pub fn serving(&self) -> &Serving {
        &self.inner.context.serving
    }

    /// What the API was told.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.inner.context.settings
    }

    /// Answers one gRPC call with one request and one answer, both without the wire: what the API
    /// does between the message that came and the message that goes. Needs no runtime: nothing in it
    /// waits but for the backend.
    ///
    /// # Errors
    /// The status that the client would get.
    pub async fn answer_message(
        &self,
        method: Method,
        metadata: &HeaderMap,
        message: Bytes,
    ) -> Result<Bytes, Status> {
        let asker = Asker::of_metadata(metadata);
        grpc::answer_message(&self.inner.context, method, asker, message).await
    }

    /// The same for a client whose certificate has this common name, which says who asks if the
    /// settings have it so (`--client-cert-auth`).
    ///
    /// # Errors
    /// The status that the client would get.
    pub async fn answer_message_of(
        &self,
        common_name: &str,
        method: Method,
        metadata: &HeaderMap,
        message: Bytes,
    ) -> Result<Bytes, Status> {
        let asker = Asker::of_certificate(metadata, common_name);
        grpc::answer_message(&self.inner.context, method, asker, message).await
    }

    /// Answers one gRPC call of many messages both ways, a watch or the renewal of leases, without
    /// the wire: requests come as gRPC frames them, and so do answers, the status last. Needs no
    /// runtime but who polls it: nothing in it waits but for the backend.
    ///
    /// # Errors
    /// The status that the client would get before any answer.
    ///
    /// # Panics
    /// If it is another method.
    pub async fn answer_stream<R>(
        &self,
        method: Method,
        metadata: &HeaderMap,
        requests: R,
    ) -> Result<StreamBody, Status>
    where
        R: http_body::Body<Data = Bytes, Error: std::fmt::Display> + Send + Unpin + 'static,
    {
        grpc::answer_stream(&self.inner.context, method, metadata, requests).await
    }

    /// Answers one request, of whatever kind.
    pub async fn answer(&self, request: Request<Incoming>, transport: Transport) -> Response<Body> {
        let Inner { context, http } = &*self.inner;
        if is_grpc(&request) {
            return grpc::answer(context, request.map(RequestBody::Wire)).await;
        }
        // Rare, and larger than the rest: it must not make the future of every call as large.
        Box::pin(http_api::answer(http, &context.settings, transport, request)).await
    }
}

/// gRPC needs trailers, and so HTTP/2.
fn is_grpc<T>(request: &Request<T>) -> bool {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    request.version() == Version::HTTP_2
        && content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}
