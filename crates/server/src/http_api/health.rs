//! `/health`, `/livez` and `/readyz`.
//!
//! Responsible for what orchestrators ask: is the member alive (it answers a read of its own), is
//! it ready (it takes part in the cluster and its data are sound). Bodies and reasons are etcd's.

use axum::extract::State;
use http::{Method, StatusCode, Uri};
use jangada_kv::{AlarmKind, RangeRequest};
use serde::Serialize;

use super::{Answer, method_not_allowed, not_found, text, with_type};
use crate::backend::Backend;
use crate::edge::Context;
use crate::errors::ApiError;
use crate::metrics::HEALTH_CHECKS;

/// What `/health` answers, in this order.
#[derive(Serialize)]
struct HealthAnswer {
    health: &'static str,
    reason: String,
}

/// How fresh the read of a check must be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Read {
    Linearizable,
    Serializable,
}

/// Whether the member is well: no alarm, a leader, a read that succeeds.
pub(super) async fn health<B: Backend>(
    State(context): State<Context<B>>,
    method: Method,
    uri: Uri,
) -> Answer {
    if method != Method::GET {
        return method_not_allowed();
    }
    let query = Query::of(&uri);
    let read = if query.values("serializable").any(|value| value == "true") {
        Read::Serializable
    } else {
        Read::Linearizable
    };
    let result = check_health(&context, &query, read).await;
    let health = if result.is_ok() { "true" } else { "false" };
    let answer = HealthAnswer { health, reason: result.err().unwrap_or_default() };
    let body = serde_json::to_string(&answer).expect("two strings can be written as JSON");
    if answer.health == "true" {
        context.metrics.health_success.increment();
        with_type("text/plain; charset=utf-8", body)
    } else {
        context.metrics.health_failures.increment();
        text(StatusCode::SERVICE_UNAVAILABLE, &body)
    }
}

async fn check_health<B: Backend>(
    context: &Context<B>,
    query: &Query,
    read: Read,
) -> Result<(), String> {
    for alarm in context.backend.store().read().alarms() {
        let name = alarm_name(alarm.kind);
        if !query.values("exclude").any(|excluded| excluded == name) {
            return Err(format!("ALARM {name}"));
        }
    }
    if read == Read::Linearizable && context.backend.status().leader.is_none() {
        return Err("RAFT NO LEADER".to_owned());
    }
    check_read(context, read).await.map_err(|error| format!("RANGE ERROR:{error}"))
}

/// Whether the member is alive. A member that is not should be restarted.
pub(super) async fn livez<B: Backend>(
    State(context): State<Context<B>>,
    method: Method,
    uri: Uri,
) -> Answer {
    checks(&context, method, &uri, "livez").await
}

/// Whether the member is ready for clients. One that is not should be sent none.
pub(super) async fn readyz<B: Backend>(
    State(context): State<Context<B>>,
    method: Method,
    uri: Uri,
) -> Answer {
    checks(&context, method, &uri, "readyz").await
}

/// Runs the checks of an endpoint, or the one that the path names.
async fn checks<B: Backend>(
    context: &Context<B>,
    method: Method,
    uri: &Uri,
    endpoint: &str,
) -> Answer {
    if method != Method::GET {
        return method_not_allowed();
    }
    let query = Query::of(uri);
    let path = uri.path();
    let only = path.trim_start_matches('/').strip_prefix(endpoint).unwrap_or_default();
    let only = only.trim_start_matches('/');
    let mut report = String::new();
    let (mut found, mut failed) = (false, false);
    for (place, (kind, name)) in HEALTH_CHECKS.into_iter().enumerate() {
        if kind != endpoint || (!only.is_empty() && only != name) {
            continue;
        }
        found = true;
        if only.is_empty() && query.values("exclude").any(|excluded| excluded == name) {
            continue;
        }
        let result = check(context, name).await;
        let counts = &context.metrics.checks[place];
        match result {
            Ok(()) => {
                counts.last.set(1);
                counts.success.increment();
                report.push_str(&format!("[+]{name} ok\n"));
            }
            Err(error) => {
                failed = true;
                counts.last.set(0);
                counts.error.increment();
                report.push_str(&format!("[-]{name} failed: {error}\n"));
            }
        }
    }
    match (found, failed) {
        (false, _) => not_found(),
        (true, true) => text(StatusCode::SERVICE_UNAVAILABLE, &report),
        (true, false) if query.has("verbose") => text(StatusCode::OK, &format!("{report}ok")),
        (true, false) => text(StatusCode::OK, "ok"),
    }
}

async fn check<B: Backend>(context: &Context<B>, name: &str) -> Result<(), String> {
    let range_error = |error: ApiError| format!("range error: {error}");
    match name {
        "data_corruption" => {
            let alarms = context.backend.store().read().alarms();
            match alarms.iter().find(|alarm| alarm.kind == AlarmKind::Corrupt) {
                Some(alarm) => Err(format!("alarm activated: {}", alarm_name(alarm.kind))),
                None => Ok(()),
            }
        }
        "serializable_read" => check_read(context, Read::Serializable).await.map_err(range_error),
        "linearizable_read" => check_read(context, Read::Linearizable).await.map_err(range_error),
        "non_learner" if context.backend.status().is_learner => {
            Err("the member is a learner; promote it first".to_owned())
        }
        "non_learner" => Ok(()),
        other => panic!("the health check {other} is listed but not written"),
    }
}

/// Reads as a client would.
async fn check_read<B: Backend>(context: &Context<B>, read: Read) -> Result<(), ApiError> {
    if read == Read::Linearizable {
        context.backend.read_barrier().await?;
    }
    let range = RangeRequest {
        key: bytes::Bytes::from_static(b"health"),
        keys_only: true,
        limit: 1,
        ..RangeRequest::default()
    };
    let (_, response) = context.backend.store().range(&range);
    response?;
    Ok(())
}

/// The alarm's name in reasons and in `exclude`.
fn alarm_name(kind: AlarmKind) -> &'static str {
    match kind {
        AlarmKind::NoSpace => "NOSPACE",
        AlarmKind::Corrupt => "CORRUPT",
    }
}

/// A query of names and values that need no escapes: the names of alarms and checks, `true`.
struct Query(Vec<(String, String)>);

impl Query {
    fn of(uri: &Uri) -> Query {
        let query = uri.query().unwrap_or_default();
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (name.to_owned(), value.to_owned())
        });
        Query(pairs.collect())
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|pair| pair.0 == name)
    }

    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |pair| pair.0 == name).map(|pair| pair.1.as_str())
    }
}
