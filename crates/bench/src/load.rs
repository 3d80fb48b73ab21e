//! Load: so many clients, each with one request under way at a time, which ask again at once (closed loop)
//! or at a rate that is given (open loop).
//!
//! Invariants: 1. a request is counted once, as done or as an error; 2. no more requests begin
//! than were asked for.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jangada_server::errors::ApiError;
use serde::Serialize;
use tokio::task::JoinSet;
use tonic::Status;

use crate::connection::Access;
use crate::error::BenchError;
use crate::http2::Channel;
use crate::latency::{Latency, Recorder};
pub use crate::operation::{KeyOrder, Operation};
use crate::pace::Pace;
use crate::process::{self, Usage};
use crate::runtime;

/// How often progress is told and a stall is looked for.
const TICK: Duration = Duration::from_millis(200);
/// A client whose connection broke waits this long before it opens another: a dead server must
/// not be asked in a busy loop.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);
/// How long a client waits before it asks again what was refused as busy: by then a server that works
/// off what waits has taken on some.
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// The highest rate that may be asked for, in requests a second: far above what one thread makes.
const RATE_MAX: f64 = 1e7;
/// Kinds of error told apart; the rest is counted together.
const ERROR_KINDS_MAX: usize = 32;

/// What comes of a request that a server refuses because too much is under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Busy {
    /// It has failed.
    Fails,
    /// It is asked again after a pause, as often as it takes, and the refusals are counted apart.
    AskedAgain,
}

/// When to stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// After so many requests.
    Total(u64),
    /// After so much time; requests under way are waited for.
    Duration(Duration),
}

/// A run.
#[derive(Clone, Debug)]
pub struct Options {
    /// `host:port` of each member; connections take them in turn.
    pub endpoints: Vec<String>,
    /// How members are reached, and on whose behalf.
    pub access: Access,
    /// What each request does.
    pub operation: Operation,
    /// Clients, each with one request under way.
    pub clients: usize,
    /// Connections that the clients share.
    pub connections: usize,
    /// When to stop.
    pub stop: Stop,
    /// Requests a second, or none for as many as are answered. A request whose turn comes while all
    /// clients wait for answers begins late, and its time counts from when it was due.
    pub rate: Option<f64>,
    /// How many different keys there are.
    pub key_space: u64,
    /// In which order they are taken.
    pub key_order: KeyOrder,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// What comes of a request that is refused as busy.
    pub busy: Busy,
    /// After so long without any answer the run ends, and what is under way counts as an error.
    pub stall: Duration,
    /// The servers' processes, to tell what they used.
    pub pids: Vec<u32>,
    /// A folder on the disk that they write to, to tell what is written to that by all there is on this
    /// machine.
    pub disk: Option<PathBuf>,
    /// Decides keys and values.
    pub seed: u64,
}

/// How far a run is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Requests answered or failed.
    pub done: u64,
    /// Requests failed.
    pub errors: u64,
    /// Since the run began.
    pub elapsed: Duration,
}

/// What a run measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What each request did.
    pub operation: String,
    /// Clients.
    pub clients: usize,
    /// Connections.
    pub connections: usize,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// How many different keys there were.
    pub key_space: u64,
    /// From the first request to the last answer.
    pub seconds: f64,
    /// Answers a second.
    pub rate: f64,
    /// Requests a second that were asked for, if any.
    pub rate_asked: Option<f64>,
    /// How long answered requests took.
    pub latency: Latency,
    /// Failed requests by kind.
    pub errors: BTreeMap<String, u64>,
    /// How often a request was refused as busy and asked again.
    pub busy: u64,
    /// User and system time of this process for each request, in microseconds.
    pub client_cpu_us_per_request: f64,
    /// What the servers used, if their processes were named.
    pub servers: Option<ServerReport>,
    /// Bytes that were written to the disk for each request, if it was named and the system tells.
    pub disk_bytes_per_request: Option<f64>,
}

/// What all servers together used during a run.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct ServerReport {
    /// User and system time for each request, in microseconds.
    pub cpu_us_per_request: f64,
    /// Memory in use at the end, in bytes.
    pub resident_bytes: u64,
    /// The most memory that was in use since they began, in bytes, added up.
    pub resident_peak_bytes: u64,
}

impl ServerReport {
    /// What was used from one look to the next, in which so many requests were answered.
    pub(crate) fn between(before: Usage, after: Usage, requests: u64) -> ServerReport {
        let requests = requests.max(1) as f64;
        ServerReport {
            cpu_us_per_request: (after.cpu.saturating_sub(before.cpu)).as_secs_f64() * 1e6
                / requests,
            resident_bytes: after.resident_bytes,
            resident_peak_bytes: after.resident_peak_bytes,
        }
    }
}

impl Report {
    /// All failed requests.
    #[must_use]
    pub fn error_count(&self) -> u64 {
        self.errors.values().sum()
    }

    /// The failed requests in words: how many of each kind, the most frequent first.
    #[must_use]
    pub fn errors_text(&self) -> String {
        let mut kinds: Vec<_> = self.errors.iter().collect();
        kinds.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let texts: Vec<_> = kinds.iter().map(|(kind, count)| format!("{count} x {kind}")).collect();
        texts.join(", ")
    }
}

/// Drives the load and measures it, on a runtime of its own with one thread.
///
/// # Errors
///
/// An option that makes no sense, or no endpoint that answers. Requests that fail are part of the
/// report.
pub fn run(options: &Options, progress: impl Fn(Progress)) -> Result<Report, BenchError> {
    check(options)?;
    runtime::block_on(drive(options, progress))
}

fn check(options: &Options) -> Result<(), BenchError> {
    let problem = if options.clients == 0 || options.connections == 0 {
        "there must be at least one client and one connection"
    } else if options.clients < options.connections {
        "more connections than clients would stay idle; lower --connections"
    } else if options.endpoints.is_empty() {
        "there is no endpoint; name one with --endpoints"
    } else if options.key_space == 0 {
        "the key space must hold at least one key"
    } else if options.stop == Stop::Total(0) {
        "there must be at least one request"
    } else if options.rate.is_some_and(|rate| !(rate > 0.0 && rate <= RATE_MAX)) {
        "the rate must be above zero and at most ten million requests a second"
    } else {
        return Ok(());
    };
    Err(BenchError::Option { problem: problem.to_owned() })
}

async fn drive(options: &Options, progress: impl Fn(Progress)) -> Result<Report, BenchError> {
    let mut links = Vec::new();
    for number in 0..options.connections {
        links.push(Rc::new(Link::open(&options.endpoints, &options.access, number).await?));
    }
    let run = Rc::new(Run::new(options));
    let disk = || options.disk.as_deref().and_then(process::written_bytes);
    let (before, disk_before) = (process::usage_of_all(&options.pids), disk());
    let own_before = process::usage(std::process::id()).unwrap_or_default();
    let begin = Instant::now();
    let mut clients = JoinSet::new();
    for number in 0..options.clients {
        let link = Rc::clone(&links[number % links.len()]);
        clients.spawn_local(client(Rc::clone(&run), link, options.seed + number as u64));
    }
    wait(options, &run, &mut clients, begin, progress).await;
    let seconds = run.last_answer.get().duration_since(begin).as_secs_f64();
    let own_after = process::usage(std::process::id()).unwrap_or_default();
    let servers = before.zip(process::usage_of_all(&options.pids));
    let written = disk_before.zip(disk()).map(|(before, after)| after.saturating_sub(before));
    let latency = run.recorder.borrow().latency();
    let per_request = |cpu: Duration| cpu.as_secs_f64() * 1e6 / latency.count.max(1) as f64;
    Ok(Report {
        operation: options.operation.name(),
        clients: options.clients,
        connections: options.connections,
        value_bytes: options.value_bytes,
        key_space: options.key_space,
        seconds,
        rate: if seconds == 0.0 { 0.0 } else { latency.count as f64 / seconds },
        rate_asked: options.rate,
        latency,
        errors: run.errors.take(),
        busy: run.busy_count.get(),
        client_cpu_us_per_request: per_request(own_after.cpu.saturating_sub(own_before.cpu)),
        disk_bytes_per_request: written.map(|bytes| bytes as f64 / latency.count.max(1) as f64),
        servers: servers.map(|(before, after)| ServerReport::between(before, after, latency.count)),
    })
}

/// Waits until all clients are done, tells how far they are, and gives up on a stall.
async fn wait(
    options: &Options,
    run: &Run,
    clients: &mut JoinSet<()>,
    begin: Instant,
    progress: impl Fn(Progress),
) {
    let mut done_before = 0;
    let mut alive = Instant::now();
    loop {
        match tokio::time::timeout(TICK, clients.join_next()).await {
            Ok(None) => break,
            Ok(Some(_)) if !clients.is_empty() => continue,
            Ok(Some(_)) => break,
            Err(_) => {}
        }
        let answered = run.answered.get();
        let errors = run.failed.get();
        progress(Progress { done: answered + errors, errors, elapsed: begin.elapsed() });
        if answered != done_before {
            done_before = answered;
            alive = Instant::now();
        }
        if options.stall <= alive.elapsed() {
            let stuck = clients.len() as u64;
            clients.abort_all();
            for _ in 0..stuck {
                run.fail(format!("no answer within {:?}", options.stall));
            }
            break;
        }
    }
    let errors = run.failed.get();
    progress(Progress { done: run.answered.get() + errors, errors, elapsed: begin.elapsed() });
}

/// What all clients share. One thread drives them, so nothing is locked.
struct Run {
    operation: Operation,
    begun: Cell<u64>,
    total: u64,
    end: Option<Instant>,
    pace: Option<Pace>,
    key_space: u64,
    key_order: KeyOrder,
    value: Bytes,
    busy: Busy,
    busy_count: Cell<u64>,
    answered: Cell<u64>,
    failed: Cell<u64>,
    last_answer: Cell<Instant>,
    recorder: RefCell<Recorder>,
    errors: RefCell<BTreeMap<String, u64>>,
}

impl Run {
    fn new(options: &Options) -> Run {
        let mut random = fastrand::Rng::with_seed(options.seed);
        let value: Vec<u8> = (0..options.value_bytes).map(|_| random.u8(..)).collect();
        let now = Instant::now();
        let (total, end) = match options.stop {
            Stop::Total(total) => (total, None),
            Stop::Duration(duration) => (u64::MAX, Some(now + duration)),
        };
        Run {
            operation: options.operation,
            begun: Cell::new(0),
            total,
            end,
            pace: options.rate.map(Pace::start),
            key_space: options.key_space,
            key_order: options.key_order,
            value: Bytes::from(value),
            busy: options.busy,
            busy_count: Cell::new(0),
            answered: Cell::new(0),
            failed: Cell::new(0),
            last_answer: Cell::new(now),
            recorder: RefCell::new(Recorder::default()),
            errors: RefCell::new(BTreeMap::new()),
        }
    }

    /// The number of the next request, and when its time begins to count, if another one may begin; counts
    /// it. Waits until it is due where a rate was given.
    async fn begin(&self) -> Option<(u64, Instant)> {
        if let Some(pace) = &self.pace
            && !pace.wait().await
        {
            return None;
        }
        let (number, now) = (self.begun.get(), Instant::now());
        let begin = self.pace.as_ref().map_or(now, |pace| pace.due(number));
        if self.total <= number || self.end.is_some_and(|end| end <= begin) {
            if let Some(pace) = &self.pace {
                pace.end();
            }
            return None;
        }
        self.begun.set(number + 1);
        Some((number, begin))
    }

    fn answer(&self, begin: Instant, end: Instant) {
        self.answered.set(self.answered.get() + 1);
        self.last_answer.set(end);
        self.recorder.borrow_mut().record(end - begin);
    }

    /// Whether a request that got this answer is to be asked again; counts it.
    fn asks_again(&self, status: &Status) -> bool {
        let again =
            self.busy == Busy::AskedAgain && status.message() == ApiError::TooManyRequests.text();
        self.busy_count.set(self.busy_count.get() + u64::from(again));
        again
    }

    fn fail(&self, kind: String) {
        self.failed.set(self.failed.get() + 1);
        let mut errors = self.errors.borrow_mut();
        let kind = if errors.len() < ERROR_KINDS_MAX || errors.contains_key(&kind) {
            kind
        } else {
            "other".to_owned()
        };
        *errors.entry(kind).or_default() += 1;
    }
}

/// One connection that many clients share, opened again when it breaks.
struct Link {
    endpoints: Vec<String>,
    access: Access,
    number: usize,
    current: RefCell<Channel>,
    reopening: tokio::sync::Mutex<()>,
}

impl Link {
    /// Opens a connection to the endpoint of its number or, failing that, the next ones.
    async fn open(
        endpoints: &[String],
        access: &Access,
        number: usize,
    ) -> Result<Link, BenchError> {
        let current = open_any(endpoints, access, number).await?;
        Ok(Link {
            endpoints: endpoints.to_vec(),
            access: access.clone(),
            number,
            current: RefCell::new(current),
            reopening: tokio::sync::Mutex::new(()),
        })
    }

    fn channel(&self) -> Channel {
        self.current.borrow().clone()
    }

    /// Opens the connection again if it is lost; one of its clients does it for all.
    async fn reopen(&self) {
        let _guard = self.reopening.lock().await;
        if !self.current.borrow().is_closed() {
            return;
        }
        tokio::time::sleep(RECONNECT_PAUSE).await;
        if let Ok(current) = open_any(&self.endpoints, &self.access, self.number).await {
            self.current.replace(current);
        }
    }
}

async fn open_any(
    endpoints: &[String],
    access: &Access,
    number: usize,
) -> Result<Channel, BenchError> {
    let mut failure = BenchError::NoLeader;
    for offset in 0..endpoints.len() {
        let endpoint = &endpoints[(number + offset) % endpoints.len()];
        match Channel::open(endpoint, access).await {
            Ok(current) => return Ok(current),
            Err(problem) => {
                failure = BenchError::Unreachable { endpoint: endpoint.clone(), problem };
            }
        }
    }
    Err(failure)
}

async fn client(run: Rc<Run>, link: Rc<Link>, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut channel = link.channel();
    while let Some((number, begin)) = run.begin().await {
        let key = run.key_order.pick(number, run.key_space, &mut random);
        let answer = loop {
            match run.operation.request(&channel, key, &run.value, &mut random).await {
                Err(status) if run.asks_again(&status) => tokio::time::sleep(BUSY_PAUSE).await,
                answer => break answer,
            }
        };
        match answer {
            Ok(()) => run.answer(begin, Instant::now()),
            Err(status) => {
                run.fail(format!("{:?}: {}", status.code(), status.message()));
                link.reopen().await;
                channel = link.channel();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options {
            endpoints: vec!["127.0.0.1:1".to_owned()],
            access: Access::default(),
            operation: Operation::Put,
            clients: 2,
            connections: 1,
            stop: Stop::Total(10),
            rate: None,
            key_space: 100,
            key_order: KeyOrder::Sequential,
            value_bytes: 16,
            busy: Busy::Fails,
            stall: Duration::from_secs(1),
            pids: Vec::new(),
            disk: None,
            seed: 1,
        }
    }

    #[test]
    fn options_that_make_no_sense_are_refused() {
        let check = |change: fn(&mut Options), expect: &str| {
            let mut options = options();
            change(&mut options);
            let error = run(&options, |_| {}).expect_err("the options are bad").to_string();
            assert!(error.contains(expect), "{error}");
        };
        check(|o| o.clients = 0, "at least one client");
        check(|o| o.connections = 3, "would stay idle");
        check(|o| o.endpoints.clear(), "there is no endpoint");
        check(|o| o.key_space = 0, "at least one key");
        check(|o| o.stop = Stop::Total(0), "at least one request");
        check(|o| o.rate = Some(0.0), "the rate must");
        check(|o| o.endpoints = vec!["https://a:1".to_owned()], "TLS");
        check(|_| {}, "no endpoint answers");
    }

    #[test]
    fn no_more_requests_begin_than_were_asked_for() {
        let run = Run::new(&options());
        let begun = crate::runtime::block_on(async {
            let mut begun = 0;
            while run.begin().await.is_some() {
                begun += 1;
            }
            begun
        });
        assert_eq!(begun, 10, "load invariant 2");
    }

    #[test]
    fn errors_are_counted_by_kind_up_to_a_limit() {
        let run = Run::new(&options());
        for number in 0..2 * ERROR_KINDS_MAX {
            run.fail(format!("kind {number}"));
        }
        let errors = run.errors.take();
        assert_eq!(errors.values().sum::<u64>(), 2 * ERROR_KINDS_MAX as u64);
        assert_eq!(errors["other"], ERROR_KINDS_MAX as u64);
    }

    #[test]
    fn what_is_refused_as_busy_is_asked_again_only_where_that_is_wanted() {
        let status = |text: &str| Status::unknown(text);
        for (busy, text, again) in [
            (Busy::AskedAgain, ApiError::TooManyRequests.text(), true),
            (Busy::AskedAgain, "etcdserver: request timed out", false),
            (Busy::Fails, ApiError::TooManyRequests.text(), false),
        ] {
            let run = Run::new(&Options { busy, ..options() });
            assert_eq!(run.asks_again(&status(text)), again, "{busy:?}: {text}");
            assert_eq!(run.busy_count.get(), u64::from(again));
        }
    }
}
