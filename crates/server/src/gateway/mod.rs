//! The API over JSON: each method of gRPC by a path, as etcd's gateway offers it.
//!
//! Responsible for paths, for JSON in the form of etcd's gateway (names as in the proto files, 64-bit
//! numbers as texts, bytes in base64, what has its default left out), for streams as lines, and for
//! HTTP's statuses. Not responsible for what a method does: a request is made into a call of gRPC and
//! answered by the same code, so every check and every count is the same.
//!
//! One table ([`paths::PATHS`]) says what is offered. Messages are translated by their description
//! (`proto/descriptors.bin`), so a method needs nothing but its row.

mod answer;
mod json;
mod paths;
mod request;
mod timeout;
mod websocket;

use http::{HeaderMap, HeaderValue, Method as HttpMethod, Request, StatusCode, header};
use prost_reflect::MethodDescriptor;
use tonic::{Code, Status};

use crate::backend::Backend;
use crate::body::RequestBody;
use crate::edge::Context;
use crate::grpc;
use crate::grpc::methods::{Flow, Method};
use crate::http_api;
use crate::settings::MESSAGE_OVERHEAD_BYTES;
use request::{JsonMessages, Refused, Rest};
use timeout::Deadline;

/// A method's description.
type Described = MethodDescriptor;

/// An answer over HTTP.
type Answer = http::Response<axum::body::Body>;

/// What metadata of gRPC are called over HTTP.
const METADATA_PREFIX: &str = "grpc-metadata-";

/// Answers one request.
pub(crate) async fn answer<B: Backend>(
    context: &Context<B>,
    request: Request<axum::body::Body>,
) -> Answer {
    let Some(method) = paths::method_of(request.uri().path()) else {
        return http_api::text(StatusCode::NOT_FOUND, "Not Found");
    };
    if websocket::is_asked_for(request.headers()) {
        return websocket::open(context, method, request).await;
    }
    if request.method() != HttpMethod::POST {
        let mut answer = http_api::text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
        answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        return answer;
    }
    let (head, body) = request.into_parts();
    let deadline = match timeout::of(&head.headers) {
        Ok(deadline) => deadline,
        Err(status) => return failed(&status),
    };
    answer_post(context, method, metadata(&head.headers), deadline, body, Rest::Read).await
}

/// Answers the JSON of a request.
async fn answer_post<B: Backend>(
    context: &Context<B>,
    method: Method,
    metadata: HeaderMap,
    deadline: Deadline,
    body: axum::body::Body,
    rest: Rest,
) -> Answer {
    let described = json::described(method);
    // A watch goes on without requests; what else is a stream ends with them.
    let refused = if method == Method::Watch { Refused::Break } else { Refused::End };
    let limit = message_bytes_max(context);
    let mut messages = JsonMessages::new(body, described.input(), limit, refused);
    let flow = method.description().flow;
    let begun = match flow {
        Flow::Unary | Flow::ServerStream => messages.only(rest).await,
        Flow::Bidirectional => messages.first().await,
    };
    if let Err(status) = begun {
        return failed(&status);
    }
    let refusal = messages.refusal();
    let call = call(method, metadata, messages);
    let answering = async {
        let response = grpc::answer(context, call).await;
        match Status::from_header_map(response.headers()) {
            Some(status) if status.code() != Code::Ok => Err(status),
            _ => Ok(response.into_body()),
        }
    };
    if flow == Flow::Unary {
        let answered =
            timeout::within(deadline, async { answer::only(answering.await?, &described).await });
        return match answered.await {
            Ok(text) => with_json(StatusCode::OK, text),
            Err(status) => failed(&status),
        };
    }
    let begun = match answering.await {
        Ok(body) => answer::Lines::begin(body, &described, deadline, refusal).await,
        Err(status) => Err(status),
    };
    match begun {
        Ok(lines) => with_json(StatusCode::OK, axum::body::Body::new(lines)),
        Err(status) => with_json(status_of(status.code()), answer::failure_line(&status)),
    }
}

/// The most bytes of a message's JSON. Base64 takes a third more, and so do names; more than twice is no
/// request.
fn message_bytes_max<B>(context: &Context<B>) -> usize {
    context.settings.max_request_bytes.saturating_add(MESSAGE_OVERHEAD_BYTES).saturating_mul(2)
}

/// The call that a request stands for.
fn call(method: Method, metadata: HeaderMap, messages: JsonMessages) -> Request<RequestBody> {
    let row = method.description();
    let mut call = Request::new(RequestBody::Local(Box::pin(messages)));
    *call.uri_mut() =
        format!("/{}/{}", row.service, row.name).parse().expect("names of methods make a path");
    *call.method_mut() = HttpMethod::POST;
    *call.version_mut() = http::Version::HTTP_2;
    *call.headers_mut() = metadata;
    call
}

/// The metadata that a request brings: its token, and whatever is marked as metadata. A client's
/// certificate says nothing here, as in etcd.
fn metadata(headers: &HeaderMap) -> HeaderMap {
    let mut metadata = HeaderMap::new();
    for (name, value) in headers {
        if let Some(name) = name.as_str().strip_prefix(METADATA_PREFIX)
            && let Ok(name) = http::HeaderName::try_from(name)
        {
            metadata.append(name, value.clone());
        }
    }
    if let Some(token) = headers.get(header::AUTHORIZATION) {
        let bytes = token.as_bytes();
        let bare = bytes.strip_prefix(b"Bearer ").unwrap_or(bytes);
        let bare = HeaderValue::from_bytes(bare).expect("part of a value is a value");
        metadata.insert("token", bare.clone());
        metadata.insert(header::AUTHORIZATION, bare);
    }
    metadata
}

/// The status of HTTP for a code of gRPC.
fn status_of(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::Cancelled => StatusCode::from_u16(499).expect("it is within the range"),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// What is said of a call whose client no longer waits.
fn too_late() -> Status {
    Status::deadline_exceeded("context deadline exceeded")
}

/// The form of etcd's gateway up to 3.5, which has that of its later ones in it.
fn failed(status: &Status) -> Answer {
    #[derive(serde::Serialize)]
    struct Failure<'a> {
        error: &'a str,
        code: i32,
        message: &'a str,
    }
    let message = status.message();
    let failure = Failure { error: message, code: status.code() as i32, message };
    let text = serde_json::to_vec(&failure).expect("a number and texts are JSON");
    with_json(status_of(status.code()), text)
}

fn with_json(status: StatusCode, body: impl Into<axum::body::Body>) -> Answer {
    let mut answer = Answer::new(body.into());
    *answer.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}
