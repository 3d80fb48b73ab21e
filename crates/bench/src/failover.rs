//! Kills a leader and measures the time without an acknowledged write.
//!
//! Several writers put a key of their own each time, with a short deadline, over all endpoints in
//! turn. The leader is killed with SIGKILL while they write; nothing is started again. In the end
//! every acknowledged write must be there, with its value.
//!
//! Invariants: 1. no key is written twice, so an acknowledged write can be told from any other;
//! 2. only an answer counts as an acknowledgement, and everything else as unknown.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jangada_server::proto::etcdserverpb::{PutRequest, RangeRequest};
use serde::Serialize;
use tokio::task::JoinSet;

use crate::connection::{self, Access};
use crate::error::BenchError;
use crate::process;
use crate::runtime;

/// A writer that cannot even connect waits this long before it asks the next member.
const REFUSED_PAUSE: Duration = Duration::from_millis(1);
/// Keys read back with one request.
const PAGE: i64 = 1000;
/// Attempts to read one page back, over all endpoints in turn.
const READ_ATTEMPTS: usize = 50;
/// Between two attempts to read.
const READ_PAUSE: Duration = Duration::from_millis(100);
/// How long one read may take.
const READ_DEADLINE: Duration = Duration::from_secs(5);

/// A run.
#[derive(Clone, Debug)]
pub struct Options {
    /// `host:port` of each member.
    pub endpoints: Vec<String>,
    /// How members are reached, and on whose behalf.
    pub access: Access,
    /// The leader's process.
    pub pid: u32,
    /// How many write at once.
    pub writers: usize,
    /// How long one write may take before its outcome counts as unknown.
    pub deadline: Duration,
    /// How long to write before the kill.
    pub before: Duration,
    /// How long to write after the cluster took writes again.
    pub after: Duration,
    /// How long the cluster may take until it takes writes again.
    pub patience: Duration,
    /// Bytes of a value.
    pub value_bytes: usize,
}

/// What a run measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The process killed.
    pub pid: u32,
    /// Writers.
    pub writers: usize,
    /// The deadline of one write, in milliseconds.
    pub deadline_ms: f64,
    /// The longest time without an acknowledged write that ends after the kill, in milliseconds.
    pub gap_ms: f64,
    /// From the kill to the first acknowledgement of a write that began after it, in milliseconds.
    pub first_write_ms: f64,
    /// The longest time without an acknowledged write before the kill, in milliseconds: what a
    /// gap is to be compared with.
    pub gap_before_ms: f64,
    /// Writes acknowledged before the kill.
    pub acknowledged_before: u64,
    /// Writes acknowledged after the kill.
    pub acknowledged_after: u64,
    /// Writes whose outcome is unknown: no answer in time, or an error.
    pub unknown: u64,
    /// What those were told.
    pub errors: BTreeMap<String, u64>,
    /// Acknowledged writes that were not there in the end, or had another value. Any is a fault.
    pub lost: Vec<String>,
}

/// Writes, kills, waits, and reads everything back.
///
/// # Errors
///
/// No endpoint answers, the process cannot be killed, or no write is acknowledged again.
pub fn run(options: &Options, tell: impl Fn(&str)) -> Result<Report, BenchError> {
    if options.writers == 0 || options.endpoints.is_empty() {
        let problem = "there must be at least one writer and one endpoint".to_owned();
        return Err(BenchError::Option { problem });
    }
    if !process::runs(options.pid) {
        let problem = "there is no such process".to_owned();
        return Err(BenchError::Process { pid: options.pid, problem });
    }
    runtime::block_on(drive(options, tell))
}

async fn drive(options: &Options, tell: impl Fn(&str)) -> Result<Report, BenchError> {
    let run = Rc::new(Run::new(options));
    let mut writers = JoinSet::new();
    for number in 0..options.writers {
        writers.spawn_local(writer(Rc::clone(&run), options.clone(), number));
    }
    tell(&format!("writing for {:?} before the kill", options.before));
    tokio::time::sleep(options.before).await;
    if run.acknowledged.borrow().is_empty() {
        return Err(BenchError::NothingAcknowledged);
    }
    let killed_at = Instant::now();
    process::kill(options.pid)
        .map_err(|problem| BenchError::Process { pid: options.pid, problem })?;
    tell(&format!("killed process {}", options.pid));
    let back = tokio::time::timeout(options.patience, run.first_after(killed_at)).await;
    if back.is_err() {
        return Err(BenchError::NotBack { seconds: options.patience.as_secs() });
    }
    tokio::time::sleep(options.after).await;
    run.stop.set(true);
    while writers.join_next().await.is_some() {}
    tell("reading every acknowledged write back");
    let lost = run.missing(&read_back(options, &run.prefix).await?);
    Ok(run.report(options, killed_at, lost))
}

/// A write that was answered.
struct Acknowledged {
    key: Bytes,
    begun: Instant,
    answered: Instant,
}

/// What all writers share. One thread drives them, so nothing is locked.
struct Run {
    prefix: String,
    value: Bytes,
    stop: Cell<bool>,
    acknowledged: RefCell<Vec<Acknowledged>>,
    unknown: Cell<u64>,
    errors: RefCell<BTreeMap<String, u64>>,
    news: tokio::sync::Notify,
}

impl Run {
    fn new(options: &Options) -> Run {
        Run {
            prefix: format!("bench-failover/{:016x}/", fastrand::u64(..)),
            value: Bytes::from(vec![b'v'; options.value_bytes]),
            stop: Cell::new(false),
            acknowledged: RefCell::new(Vec::new()),
            unknown: Cell::new(0),
            errors: RefCell::new(BTreeMap::new()),
            news: tokio::sync::Notify::new(),
        }
    }

    /// Waits for the acknowledgement of a write that began after the kill.
    async fn first_after(&self, killed_at: Instant) {
        loop {
            let news = self.news.notified();
            if self.acknowledged.borrow().last().is_some_and(|write| killed_at < write.begun) {
                return;
            }
            news.await;
        }
    }

    fn acknowledge(&self, key: Bytes, begun: Instant) {
        let answered = Instant::now();
        self.acknowledged.borrow_mut().push(Acknowledged { key, begun, answered });
        self.news.notify_waiters();
    }

    fn lose_sight(&self, kind: String) {
        self.unknown.set(self.unknown.get() + 1);
        *self.errors.borrow_mut().entry(kind).or_default() += 1;
    }

    /// Acknowledged writes that were not found with their value.
    fn missing(&self, found: &BTreeMap<Bytes, Bytes>) -> Vec<String> {
        let acknowledged = self.acknowledged.borrow();
        let lost = acknowledged.iter().filter(|write| found.get(&write.key) != Some(&self.value));
        lost.map(|write| String::from_utf8_lossy(&write.key).into_owned()).collect()
    }

    fn report(&self, options: &Options, killed_at: Instant, lost: Vec<String>) -> Report {
        let acknowledged = self.acknowledged.borrow();
        let times: Vec<Instant> = acknowledged.iter().map(|write| write.answered).collect();
        let (before, after) = gaps(&times, killed_at);
        let first = acknowledged
            .iter()
            .filter(|write| killed_at < write.begun)
            .map(|write| write.answered - killed_at)
            .min()
            .expect("the run goes on only after such a write");
        let acknowledged_before = times.iter().filter(|time| **time <= killed_at).count() as u64;
        Report {
            pid: options.pid,
            writers: options.writers,
            deadline_ms: milliseconds(options.deadline),
            gap_ms: milliseconds(after),
            first_write_ms: milliseconds(first),
            gap_before_ms: milliseconds(before),
            acknowledged_before,
            acknowledged_after: times.len() as u64 - acknowledged_before,
            unknown: self.unknown.get(),
            errors: self.errors.take(),
            lost,
        }
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The longest times between acknowledgements that end before the kill and after it. The times
/// are in order.
fn gaps(times: &[Instant], killed_at: Instant) -> (Duration, Duration) {
    let mut before = Duration::ZERO;
    let mut after = Duration::ZERO;
    for pair in times.windows(2) {
        let gap = pair[1] - pair[0];
        let side = if pair[1] <= killed_at { &mut before } else { &mut after };
        *side = gap.max(*side);
    }
    (before, after)
}

/// Writes one key after another, each with a deadline; goes to the next member when one fails.
async fn writer(run: Rc<Run>, options: Options, number: usize) {
    let mut member = number % options.endpoints.len();
    let mut client = None;
    let mut sequence = 0_u64;
    while !run.stop.get() {
        let Some(open) = client.as_mut() else {
            let endpoint = &options.endpoints[member];
            match tokio::time::timeout(
                options.deadline,
                connection::connect(endpoint, &options.access),
            )
            .await
            {
                Ok(Ok((_, open))) => client = Some(open),
                _ => {
                    member = (member + 1) % options.endpoints.len();
                    tokio::time::sleep(REFUSED_PAUSE).await;
                }
            }
            continue;
        };
        sequence += 1;
        let key = Bytes::from(format!("{}{number:04}/{sequence:012}", run.prefix));
        let request =
            PutRequest { key: key.clone(), value: run.value.clone(), ..PutRequest::default() };
        let begun = Instant::now();
        let problem = match tokio::time::timeout(options.deadline, open.put(request)).await {
            Ok(Ok(_)) => {
                run.acknowledge(key, begun);
                continue;
            }
            Ok(Err(status)) => format!("{:?}: {}", status.code(), status.message()),
            Err(_) => format!("no answer within {:?}", options.deadline),
        };
        run.lose_sight(problem);
        client = None;
        member = (member + 1) % options.endpoints.len();
        // A member that refuses at once must not be asked in a busy loop.
        tokio::time::sleep(REFUSED_PAUSE).await;
    }
}

/// Reads all keys of the run by way of the leader, page by page.
async fn read_back(options: &Options, prefix: &str) -> Result<BTreeMap<Bytes, Bytes>, BenchError> {
    let mut found = BTreeMap::new();
    let range_end = Bytes::from(format!("{}0", prefix.trim_end_matches('/')));
    let mut next = Bytes::from(prefix.to_owned());
    loop {
        let request = RangeRequest {
            key: next,
            range_end: range_end.clone(),
            limit: PAGE,
            ..RangeRequest::default()
        };
        let (page, more) = read_page(options, request).await?;
        let Some((last, _)) = page.last() else { return Ok(found) };
        let mut after = last.to_vec();
        after.push(0);
        next = Bytes::from(after);
        found.extend(page);
        if !more {
            return Ok(found);
        }
    }
}

type Page = (Vec<(Bytes, Bytes)>, bool);

async fn read_page(options: &Options, request: RangeRequest) -> Result<Page, BenchError> {
    let mut failure = (String::new(), String::new());
    for attempt in 0..READ_ATTEMPTS {
        let endpoint = &options.endpoints[attempt % options.endpoints.len()];
        match try_read(endpoint, &options.access, request.clone()).await {
            Ok(page) => return Ok(page),
            Err(problem) => failure = (endpoint.clone(), problem),
        }
        tokio::time::sleep(READ_PAUSE).await;
    }
    let (endpoint, problem) = failure;
    Err(BenchError::Unreachable { endpoint, problem })
}

async fn try_read(endpoint: &str, access: &Access, request: RangeRequest) -> Result<Page, String> {
    let (_, mut client) = connection::connect(endpoint, access).await?;
    let response = tokio::time::timeout(READ_DEADLINE, client.range(request))
        .await
        .map_err(|_| format!("no answer within {READ_DEADLINE:?}"))?
        .map_err(|status| status.message().to_owned())?
        .into_inner();
    Ok((response.kvs.into_iter().map(|kv| (kv.key, kv.value)).collect(), response.more))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options {
            endpoints: vec!["127.0.0.1:1".to_owned()],
            access: Access::default(),
            pid: u32::MAX,
            writers: 1,
            deadline: Duration::from_millis(1),
            before: Duration::ZERO,
            after: Duration::ZERO,
            patience: Duration::from_secs(1),
            value_bytes: 1,
        }
    }

    #[test]
    fn the_gap_is_the_longest_one_that_ends_after_the_kill() {
        let begin = Instant::now();
        let at = |milliseconds| begin + Duration::from_millis(milliseconds);
        let times = [at(0), at(7), at(10), at(100), at(105)];
        let (before, after) = gaps(&times, at(11));
        assert_eq!(before, Duration::from_millis(7));
        assert_eq!(after, Duration::from_millis(90));
    }

    #[test]
    fn an_acknowledged_write_that_is_gone_or_changed_is_lost() {
        let run = Run::new(&options());
        for key in ["a", "b", "c"] {
            run.acknowledge(Bytes::from(key), Instant::now());
        }
        let found = BTreeMap::from([
            (Bytes::from("a"), Bytes::from("v")),
            (Bytes::from("b"), Bytes::from("other")),
        ]);
        assert_eq!(run.missing(&found), ["b", "c"]);
    }

    #[test]
    fn nothing_is_written_when_there_is_nothing_to_kill() {
        let error = super::run(&options(), |_| {}).expect_err("no such process").to_string();
        assert!(error.contains("there is no such process"), "{error}");
    }
}
