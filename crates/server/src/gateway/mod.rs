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

use http::{HeaderMap, HeaderValue, Method as HttpMethod, Request, StatusCode, header};
use prost_reflect::MethodDescriptor;
use tonic::{Code, Status};

use crate::backend::Backend;
use crate::body::RequestBody;
use crate::edge::Context;
use crate::grpc;
use crate::grpc::methods::{Flow, Method};
use crate::settings::MESSAGE_OVERHEAD_BYTES;
use request::JsonMessages;

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
        return failure(StatusCode::NOT_FOUND, Code::NotFound, "Not Found");
    };
    if request.method() != HttpMethod::POST {
        let text = "Method Not Allowed";
        return failure(StatusCode::METHOD_NOT_ALLOWED, Code::Unimplemented, text);
    }
    let described = json::described(method);
    let metadata = metadata(request.headers());
    // Base64 takes a third more, and so do names; more than twice is no request.
    let message_bytes_max =
        context.settings.max_request_bytes.saturating_add(MESSAGE_OVERHEAD_BYTES);
    let limit = message_bytes_max.saturating_mul(2);
    let mut messages = JsonMessages::new(request.into_body(), described.input(), limit);
    let flow = method.description().flow;
    let begun = match flow {
        Flow::Unary | Flow::ServerStream => messages.only().await,
        // What goes on is a stream that its sender ends, or a watch that waits for events.
        Flow::Bidirectional => messages.first(method == Method::Watch).await,
    };
    if let Err(status) = begun {
        return failed(&status);
    }
    let call = call(method, metadata, messages);
    let response = grpc::answer(context, call).await;
    if let Some(status) = Status::from_header_map(response.headers())
        && status.code() != Code::Ok
    {
        return failed(&status);
    }
    let body = response.into_body();
    match flow {
        Flow::Unary => match answer::only(body, &described).await {
            Ok(text) => with_json(StatusCode::OK, text),
            Err(status) => failed(&status),
        },
        Flow::ServerStream | Flow::Bidirectional => {
            let lines = answer::Lines::new(body, &described);
            let mut answer = Answer::new(axum::body::Body::new(lines));
            let kind = HeaderValue::from_static("application/json");
            answer.headers_mut().insert(header::CONTENT_TYPE, kind);
            answer
        }
    }
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

fn failed(status: &Status) -> Answer {
    failure(status_of(status.code()), status.code(), status.message())
}

fn failure(http: StatusCode, code: Code, message: &str) -> Answer {
    let body = serde_json::json!({"error": message, "code": code as i32, "message": message});
    with_json(http, body.to_string())
}

fn with_json(status: StatusCode, text: String) -> Answer {
    let mut answer = Answer::new(axum::body::Body::from(text));
    *answer.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}
