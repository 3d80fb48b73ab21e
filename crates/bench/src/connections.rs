//! Very many connections that do nothing: what each costs the servers, and what they cost a client that
//! does something.
//!
//! Every connection has made one request. It may hold a stream with a watcher, too, as most clients do.

use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::Incoming;
use jangada_server::proto::etcdserverpb::RangeRequest;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::connection::{self, Access, Connection};
use crate::error::BenchError;
use crate::latency::Latency;
use crate::process;
use crate::runtime;
use crate::watch;
use crate::writers::{Writers, Written};

/// Connections that are being opened at a time.
const OPENING_MAX: usize = 64;

/// A run.
#[derive(Clone, Debug)]
pub struct Options {
    /// `host:port` of each member; connections take them in turn.
    pub endpoints: Vec<String>,
    /// How the members are reached.
    pub access: Access,
    /// How many connections.
    pub count: usize,
    /// Whether each has a stream with a watcher, of a key that nobody writes.
    pub watchers: bool,
    /// Clients that write, before and while the connections are there.
    pub writers: usize,
    /// For how long, each time.
    pub duration: Duration,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// The servers' processes, to tell what they used.
    pub pids: Vec<u32>,
}

/// What a run measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Connections that were opened and have been answered.
    pub connections: usize,
    /// Whether each has a stream with a watcher.
    pub watchers: bool,
    /// Connections that could not be opened.
    pub refused: usize,
    /// Connections that were gone in the end.
    pub lost: usize,
    /// How long it took to open them.
    pub opening_seconds: f64,
    /// What the servers' memory has grown by for each connection, if their processes were named.
    pub bytes_per_connection: Option<f64>,
    /// The servers' memory in the end, in bytes.
    pub resident_bytes: Option<u64>,
    /// The processor time that the servers took for a second in which only the connections were there, in
    /// milliseconds.
    pub idle_cpu_ms_per_second: Option<f64>,
    /// How long writes took before.
    pub latency_before: Latency,
    /// How long writes took while the connections were there.
    pub latency: Latency,
    /// Writes that failed.
    pub failed_writes: u64,
}

/// Opens the connections and measures, on a runtime of its own with one thread.
///
/// # Errors
///
/// An option that makes no sense, or no endpoint that answers.
pub fn run(options: &Options) -> Result<Report, BenchError> {
    if options.count == 0 || options.writers == 0 || options.endpoints.is_empty() {
        let problem = "there must be a connection, a writer and an endpoint at least";
        return Err(BenchError::Option { problem: problem.to_owned() });
    }
    process::raise_files_limit();
    runtime::block_on(drive(options))
}

/// A connection, and the stream on it.
type Held = (Connection, Option<Incoming>);

async fn drive(options: &Options) -> Result<Report, BenchError> {
    let before = written(options).await?;
    let empty = process::usage_of_all(&options.pids);
    let begin = Instant::now();
    let (held, refused) = open(options).await;
    let opening_seconds = begin.elapsed().as_secs_f64();
    if held.is_empty() {
        let problem = "none of the connections could be opened".to_owned();
        return Err(BenchError::Unreachable { endpoint: options.endpoints.join(","), problem });
    }
    let idle = process::usage_of_all(&options.pids);
    tokio::time::sleep(options.duration).await;
    let rested = process::usage_of_all(&options.pids);
    let with = written(options).await?;
    let lost = held.iter().filter(|(connection, _)| connection.is_closed()).count();
    let grown = empty.zip(rested).map(|(empty, full)| {
        full.resident_bytes.saturating_sub(empty.resident_bytes) as f64 / held.len() as f64
    });
    let cpu = idle.zip(rested).map(|(idle, rested)| {
        let took = rested.cpu.saturating_sub(idle.cpu).as_secs_f64();
        took * 1e3 / options.duration.as_secs_f64().max(1e-3)
    });
    Ok(Report {
        connections: held.len(),
        watchers: options.watchers,
        refused,
        lost,
        opening_seconds,
        bytes_per_connection: grown,
        resident_bytes: rested.map(|rested| rested.resident_bytes),
        idle_cpu_ms_per_second: cpu,
        latency_before: before.latency,
        latency: with.latency,
        failed_writes: before.failed + with.failed,
    })
}

async fn written(options: &Options) -> Result<Written, BenchError> {
    let Options { endpoints, access, writers, value_bytes, .. } = options;
    let writers = Writers::start(endpoints, access, *writers, *value_bytes).await?;
    tokio::time::sleep(options.duration).await;
    Ok(writers.stop().await)
}

/// Opens all, some at a time. Answers those that stand, and how many do not.
async fn open(options: &Options) -> (Vec<Held>, usize) {
    let (mut held, mut refused) = (Vec::with_capacity(options.count), 0);
    let mut opening = JoinSet::new();
    for number in 0..options.count {
        if OPENING_MAX <= opening.len() {
            keep(opening.join_next().await, &mut held, &mut refused);
        }
        let endpoint = options.endpoints[number % options.endpoints.len()].clone();
        opening.spawn_local(hold(endpoint, options.access.clone(), options.watchers));
    }
    while !opening.is_empty() {
        keep(opening.join_next().await, &mut held, &mut refused);
    }
    (held, refused)
}

type Opened = Option<Result<Result<Held, String>, tokio::task::JoinError>>;

fn keep(opened: Opened, held: &mut Vec<Held>, refused: &mut usize) {
    match opened.expect("one is being opened").expect("to open one does not panic") {
        Ok(connection) => held.push(connection),
        Err(_) => *refused += 1,
    }
}

async fn hold(endpoint: String, access: Access, watchers: bool) -> Result<Held, String> {
    let (connection, mut client) = connection::connect(&endpoint, &access).await?;
    let key = Bytes::from_static(b"nobody writes this");
    let range = RangeRequest { key, serializable: true, ..RangeRequest::default() };
    client.range(range).await.map_err(|status| status.message().to_owned())?;
    let stream = match watchers {
        true => {
            let (start, end) = (b"nobody writes this", b"nobody writes thit");
            let opened = watch::open_stream(&connection, &endpoint, 1, start, end).await;
            Some(opened.map_err(|error| error.to_string())?)
        }
        false => None,
    };
    Ok((connection, stream))
}
