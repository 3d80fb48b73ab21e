//! Very many leases that end together, with a key each, while clients write: how long it takes until all
//! are gone, and what that costs the writers.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jangada_server::proto::etcdserverpb::lease_client::LeaseClient;
use jangada_server::proto::etcdserverpb::{LeaseGrantRequest, PutRequest, RangeRequest};
use serde::Serialize;
use tokio::task::JoinSet;

use crate::connection::{self, Access, Connection};
use crate::error::BenchError;
use crate::latency::Latency;
use crate::process;
use crate::runtime;
use crate::writers::Writers;

/// The keys of leases begin so.
const PREFIX: &str = "leased/";
/// One past all keys that begin so.
const PREFIX_END: &str = "leased0";
/// Clients that grant.
const GRANTERS: usize = 128;
/// Connections that they share.
const CONNECTIONS: usize = 16;
/// Between two looks at what is left.
const LOOK: Duration = Duration::from_millis(100);

/// A run.
#[derive(Clone, Debug)]
pub struct Options {
    /// `host:port` of each member.
    pub endpoints: Vec<String>,
    /// How the members are reached.
    pub access: Access,
    /// How many leases.
    pub leases: u64,
    /// How long after the beginning they end, all of them.
    pub end_after: Duration,
    /// Clients that write.
    pub writers: usize,
    /// How long they write before anything else is done.
    pub before: Duration,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// How long it may take until all are gone.
    pub patience: Duration,
    /// The servers' processes, to tell what they used.
    pub pids: Vec<u32>,
}

/// What a run measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// How many leases ended.
    pub leases: u64,
    /// Leases granted a second, each with a key.
    pub granted_per_second: f64,
    /// From the moment at which they were to end until the last key was gone.
    pub ending_seconds: f64,
    /// Leases that were left when patience was.
    pub left: u64,
    /// How long writes took before.
    pub latency_before: Latency,
    /// How long writes took while leases ended.
    pub latency: Latency,
    /// Writes that failed.
    pub failed_writes: u64,
    /// The servers' memory in the end, in bytes, if their processes were named.
    pub resident_bytes: Option<u64>,
}

/// Grants the leases and measures their end, on a runtime of its own with one thread.
///
/// # Errors
///
/// An option that makes no sense, no endpoint that answers, or leases that could not be granted in time.
pub fn run(options: &Options) -> Result<Report, BenchError> {
    if options.leases == 0 || options.writers == 0 || options.endpoints.is_empty() {
        let problem = "there must be a lease, a writer and an endpoint at least";
        return Err(BenchError::Option { problem: problem.to_owned() });
    }
    runtime::block_on(drive(options))
}

async fn drive(options: &Options) -> Result<Report, BenchError> {
    let Options { endpoints, access, writers, value_bytes, .. } = options;
    let running = Writers::start(endpoints, access, *writers, *value_bytes).await?;
    tokio::time::sleep(options.before).await;
    let before = running.stop().await;

    let begin = Instant::now();
    let end = begin + options.end_after;
    grant(options, end).await?;
    let granted_per_second = options.leases as f64 / begin.elapsed().as_secs_f64();
    // One second is the least that time to live tells apart.
    tokio::time::sleep_until((end - Duration::from_secs(1)).into()).await;

    let running = Writers::start(endpoints, access, *writers, *value_bytes).await?;
    let (connection, mut client) = connect(&endpoints[0], access).await?;
    let given_up = end + options.patience;
    let left = loop {
        let left = Bytes::from_static(PREFIX.as_bytes());
        let range_end = Bytes::from_static(PREFIX_END.as_bytes());
        let range =
            RangeRequest { key: left, range_end, count_only: true, ..RangeRequest::default() };
        let answer = client.range(range).await;
        let left = answer.map_err(|status| unreachable(&endpoints[0], status.message()))?;
        let left = u64::try_from(left.into_inner().count).unwrap_or(0);
        if left == 0 || given_up <= Instant::now() {
            break left;
        }
        tokio::time::sleep(LOOK).await;
    };
    let ending_seconds = Instant::now().saturating_duration_since(end).as_secs_f64();
    drop(connection);
    let meanwhile = running.stop().await;
    Ok(Report {
        leases: options.leases - left,
        granted_per_second,
        ending_seconds,
        left,
        latency_before: before.latency,
        latency: meanwhile.latency,
        failed_writes: before.failed + meanwhile.failed,
        resident_bytes: process::usage_of_all(&options.pids).map(|usage| usage.resident_bytes),
    })
}

/// Grants all leases, each for the time that is left until the end.
async fn grant(options: &Options, end: Instant) -> Result<(), BenchError> {
    let mut links = Vec::new();
    for number in 0..CONNECTIONS {
        let endpoint = &options.endpoints[number % options.endpoints.len()];
        let (connection, client) = connect(endpoint, &options.access).await?;
        links.push((leases_of(connection, endpoint)?, client, endpoint.clone()));
    }
    let next = Rc::new(Cell::new(0));
    let mut granters = JoinSet::new();
    for number in 0..GRANTERS {
        let (mut leases, mut kv, endpoint) = links[number % links.len()].clone();
        let (next, count) = (Rc::clone(&next), options.leases);
        granters.spawn_local(async move {
            loop {
                let number = next.get();
                if number == count {
                    return Ok(());
                }
                next.set(number + 1);
                let rest = end.saturating_duration_since(Instant::now()).as_secs();
                // The shortest that servers grant by default.
                if rest < 2 {
                    let problem = format!(
                        "only {number} leases could be granted before they were to end; give them \
                         longer"
                    );
                    return Err(BenchError::Option { problem });
                }
                let ttl = i64::try_from(rest).unwrap_or(i64::MAX);
                let granted = leases.lease_grant(LeaseGrantRequest { id: 0, ttl }).await;
                let granted = granted.map_err(|status| unreachable(&endpoint, status.message()))?;
                let (key, lease) = (format!("{PREFIX}{number}"), granted.into_inner().id);
                let put = PutRequest { key: key.into(), lease, ..PutRequest::default() };
                let put = kv.put(put).await;
                put.map_err(|status| unreachable(&endpoint, status.message()))?;
            }
        });
    }
    while let Some(granter) = granters.join_next().await {
        granter.expect("a granter does not panic")?;
    }
    Ok(())
}

type KvClient = jangada_server::proto::etcdserverpb::kv_client::KvClient<Connection>;

async fn connect(endpoint: &str, access: &Access) -> Result<(Connection, KvClient), BenchError> {
    let connected = connection::connect(endpoint, access).await;
    connected.map_err(|problem| unreachable(endpoint, &problem))
}

fn leases_of(
    connection: Connection,
    endpoint: &str,
) -> Result<LeaseClient<Connection>, BenchError> {
    let origin = connection::origin(endpoint).map_err(|problem| unreachable(endpoint, &problem))?;
    Ok(LeaseClient::with_origin(connection, origin))
}

fn unreachable(endpoint: &str, problem: &str) -> BenchError {
    BenchError::Unreachable { endpoint: endpoint.to_owned(), problem: problem.to_owned() }
}
