//! The API over HTTP: health, metrics, version and the gateway, on the port of gRPC.
//!
//! Responsible for the paths, for who may ask (host names and origins) and for answering as Go's
//! library does where nothing is served. Everything but the
//! gateway is a question and changes nothing.

mod health;

use std::convert::Infallible;

use axum::Router;
use axum::extract::State;
use axum::routing::any;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use serde::Serialize;
use tower::Service;

use crate::backend::Backend;
use crate::body::Body;
use crate::edge::{Context, Transport};
use crate::gateway;
use crate::metrics;
use crate::settings::Settings;

/// The answer of a handler.
type Answer = Response<axum::body::Body>;

/// The paths.
pub(crate) fn router<B: Backend>(context: Context<B>) -> Router {
    let with_gateway = context.settings.grpc_gateway;
    let router = Router::new()
        .route("/version", any(version::<B>))
        .route("/metrics", any(exposition::<B>))
        .route("/health", any(health::health::<B>))
        .route("/livez", any(health::livez::<B>))
        .route("/livez/{check}", any(health::livez::<B>))
        .route("/readyz", any(health::readyz::<B>))
        .route("/readyz/{check}", any(health::readyz::<B>))
        .fallback(|| async { not_found() });
    let router = match with_gateway {
        true => router
            .route("/v3/{*path}", any(through_gateway::<B>))
            .route("/v3beta/{*path}", any(through_gateway::<B>)),
        false => router,
    };
    router.with_state(context)
}

/// Answers one request, if it may be asked.
pub(crate) async fn answer(
    router: &Router,
    settings: &Settings,
    transport: Transport,
    request: Request<Incoming>,
) -> Response<Body> {
    if !host_is_allowed(&request, transport, &settings.host_whitelist) {
        let sentence = "the request is for a host that --host-whitelist does not name; add the \
                        host to it, or ask by a name that it has";
        return text(StatusCode::MISDIRECTED_REQUEST, sentence).map(Body::Http);
    }
    let origin = allowed_origin(&request, &settings.cors);
    let mut response = if request.method() == Method::OPTIONS {
        Response::new(axum::body::Body::empty())
    } else {
        let answered: Result<Answer, Infallible> =
            router.clone().call(request.map(axum::body::Body::new)).await;
        answered.unwrap_or_else(|never| match never {})
    };
    if let Some(origin) = origin {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE"),
        );
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            HeaderValue::from_static("accept, content-type, authorization"),
        );
    }
    response.map(Body::Http)
}

/// What `/version` answers, in this order.
#[derive(Serialize)]
struct VersionAnswer<'a> {
    etcdserver: &'a str,
    etcdcluster: &'a str,
    storage: &'a str,
}

async fn version<B: Backend>(State(context): State<Context<B>>, method: Method) -> Answer {
    if method != Method::GET {
        return method_not_allowed();
    }
    let version = &context.settings.version;
    let answer = VersionAnswer {
        etcdserver: &version.server,
        etcdcluster: &version.cluster,
        storage: &version.storage,
    };
    let body = serde_json::to_string(&answer).expect("three strings can be written as JSON");
    with_type("application/json", body)
}

async fn through_gateway<B: Backend>(
    State(context): State<Context<B>>,
    request: Request<axum::body::Body>,
) -> Answer {
    gateway::answer(&context, request).await
}

async fn exposition<B: Backend>(State(context): State<Context<B>>) -> Answer {
    let body = context.metrics.render(&context.backend, &context.settings);
    with_type(metrics::CONTENT_TYPE, body)
}

/// Whether the request's host is on the list; `*` is everyone. A page that a browser loads from
/// elsewhere must not reach the store by giving its own name this machine's address (CVE-2018-5702).
/// Over TLS it cannot: the certificate has told the browser that it speaks to somebody else.
fn host_is_allowed<T>(request: &Request<T>, transport: Transport, list: &[String]) -> bool {
    if transport == Transport::Tls || list.is_empty() || list.iter().any(|host| host == "*") {
        return true;
    }
    let header = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = match (request.uri().host(), header) {
        (Some(host), _) => host,
        (None, Some(host)) => without_port(host),
        (None, None) => return false,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    list.iter().any(|allowed| allowed == host)
}

/// `host` of `host:port`; an IPv6 address keeps its brackets.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// The origin that the answer may be shown to, if any.
fn allowed_origin<T>(request: &Request<T>, list: &[String]) -> Option<HeaderValue> {
    if list.iter().any(|origin| origin == "*") {
        return Some(HeaderValue::from_static("*"));
    }
    let origin = request.headers().get(header::ORIGIN)?;
    list.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()).then(|| origin.clone())
}

/// Whether whoever asks may open a connection that the browser does not look after: any program, and a
/// page if its origin is on the list.
pub(crate) fn origin_may_connect<T>(request: &Request<T>, list: &[String]) -> bool {
    !request.headers().contains_key(header::ORIGIN) || allowed_origin(request, list).is_some()
}

fn with_type(content_type: &'static str, body: String) -> Answer {
    let mut response = Response::new(axum::body::Body::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A line of text.
pub(crate) fn text(status: StatusCode, line: &str) -> Answer {
    let mut response = with_type("text/plain; charset=utf-8", format!("{line}\n"));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn method_not_allowed() -> Answer {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
    response
}

fn not_found() -> Answer {
    text(StatusCode::NOT_FOUND, "404 page not found")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(uri: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).expect("the request is well formed")
    }

    #[test]
    fn a_host_is_known_by_its_name_alone() {
        let list = ["db.example".to_owned(), "::1".to_owned()];
        let plain = |request, list| host_is_allowed(&request, Transport::Plain, list);
        let allowed = |host| plain(request("/health", &[("host", host)]), &list[..]);
        assert!(allowed("db.example"));
        assert!(allowed("db.example:2379"));
        assert!(allowed("[::1]:2379"));
        assert!(!allowed("evil.example:2379"));
        assert!(!plain(request("/health", &[]), &list));
        assert!(plain(request("http://db.example:2379/health", &[]), &list));
        assert!(plain(request("/health", &[]), &["*".to_owned()]));
        let evil = request("/health", &[("host", "evil.example")]);
        assert!(host_is_allowed(&evil, Transport::Tls, &list));
    }

    #[test]
    fn an_origin_is_echoed_only_if_it_is_on_the_list() {
        let list = ["https://a.example".to_owned()];
        let allowed = |origin| allowed_origin(&request("/", &[("origin", origin)]), &list);
        assert_eq!(allowed("https://a.example").expect("it is on the list"), "https://a.example");
        assert_eq!(allowed("https://b.example"), None);
        assert_eq!(allowed_origin(&request("/", &[]), &["*".to_owned()]).expect("all are"), "*");
    }
}
