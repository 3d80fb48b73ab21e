//! `check perf`: whether a cluster bears a load, judged as etcdctl judges it.

use std::cell::RefCell;
use std::io::{self, Write};
use std::rc::Rc;
use std::time::{Duration, Instant};

use jangada_server::proto::etcdserverpb as pb;
use pb::kv_client::KvClient;
use serde_json::json;

use crate::arguments::{self, CheckCommand, CheckPerf, ClusterCheck, Format, PerfLoad};
use crate::client::{Channel, Client};
use crate::failure::Failure;
use crate::output;

/// What etcdctl writes: keys and values of so many bytes.
const KEY_BYTES: usize = 256;
const VALUE_BYTES: usize = 1024;

/// How many requests share a connection.
const CLIENTS_PER_CONNECTION: usize = 50;

/// What passes, as in etcdctl: so much of the rate, no request above the first, and a standard deviation
/// below the second, in seconds.
const RATE_PART_MIN: f64 = 0.9;
const SLOWEST_MAX: f64 = 0.5;
const DEVIATION_MAX: f64 = 0.1;

/// Runs a check.
pub(crate) fn run(options: &arguments::Client, check: &ClusterCheck) -> Result<(), Failure> {
    match &check.command {
        CheckCommand::Perf(perf) => self::perf(options, perf),
    }
}

/// Writes a second and clients for each load.
fn figures(load: PerfLoad) -> (u32, usize) {
    match load {
        PerfLoad::S => (150, 50),
        PerfLoad::M => (1000, 200),
        PerfLoad::L => (8000, 500),
        PerfLoad::Xl => (15_000, 1000),
    }
}

/// What the requests took, in seconds.
#[derive(Clone, Copy, Default)]
struct Taken {
    done: u64,
    failed: u64,
    sum: f64,
    squares: f64,
    slowest: f64,
}

impl Taken {
    fn add(&mut self, seconds: f64) {
        self.done += 1;
        self.sum += seconds;
        self.squares += seconds * seconds;
        self.slowest = self.slowest.max(seconds);
    }

    fn deviation(&self) -> f64 {
        let count = self.done.max(1) as f64;
        let mean = self.sum / count;
        (self.squares / count - mean * mean).max(0.0).sqrt()
    }
}

/// The load: requests are due one after the other at an even pace, whoever is free sends the next.
struct Pace {
    begin: Instant,
    end: Instant,
    rate: u32,
    next: u64,
    taken: Taken,
}

fn perf(options: &arguments::Client, perf: &CheckPerf) -> Result<(), Failure> {
    let (rate, clients) = figures(perf.load);
    let client = Client::new(options);
    let taken = Client::block_on(async {
        let (endpoint, first) = client.connect_any().await?;
        check_empty(&endpoint, first.clone(), &perf.prefix).await?;
        let mut channels = vec![first];
        while channels.len() < clients.div_ceil(CLIENTS_PER_CONNECTION) {
            channels.push(client.connect_any().await?.1);
        }
        let begin = Instant::now();
        let pace =
            Pace { begin, end: begin + perf.duration, rate, next: 0, taken: Taken::default() };
        let pace = Rc::new(RefCell::new(pace));
        let work = (0..clients).map(|number| {
            let channel = channels[number % channels.len()].clone();
            write(KvClient::new(channel), Rc::clone(&pace), perf.prefix.clone())
        });
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                let tasks: Vec<_> = work.map(tokio::task::spawn_local).collect();
                for task in tasks {
                    task.await.map_err(|error| Failure::Failed(error.to_string()))?;
                }
                Ok::<_, Failure>(())
            })
            .await?;
        remove(&endpoint, channels.swap_remove(0), &perf.prefix).await?;
        let taken = pace.borrow().taken;
        Ok::<_, Failure>(taken)
    })?;
    judge(options, perf, rate, &taken)
}

/// Only keys that this command has written are removed in the end, so there must be none before.
async fn check_empty(endpoint: &str, channel: Channel, prefix: &str) -> Result<(), Failure> {
    let request = pb::RangeRequest {
        key: prefix.to_owned().into(),
        range_end: end_of(prefix).into(),
        count_only: true,
        ..pb::RangeRequest::default()
    };
    let found = KvClient::new(channel).range(request).await;
    let found = found.map_err(|status| failed(endpoint, &status))?.into_inner();
    if found.count == 0 {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "there are {} keys under {prefix}; remove them, or name another --prefix",
        found.count
    )))
}

async fn remove(endpoint: &str, channel: Channel, prefix: &str) -> Result<(), Failure> {
    let request = pb::DeleteRangeRequest {
        key: prefix.to_owned().into(),
        range_end: end_of(prefix).into(),
        prev_kv: false,
    };
    let removed = KvClient::new(channel).delete_range(request).await;
    removed.map(drop).map_err(|status| failed(endpoint, &status))
}

fn failed(endpoint: &str, status: &tonic::Status) -> Failure {
    Failure::Failed(format!("{endpoint}: {}", status.message()))
}

/// One past the last key that begins with a prefix, which is text and so has no byte of all ones.
fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

/// Sends what is due until the time is over.
async fn write(mut kv: KvClient<Channel>, pace: Rc<RefCell<Pace>>, prefix: String) {
    loop {
        let (number, due, end) = {
            let mut pace = pace.borrow_mut();
            let number = pace.next;
            pace.next += 1;
            let after = Duration::from_secs_f64(number as f64 / f64::from(pace.rate));
            (number, pace.begin + after, pace.end)
        };
        if end <= due.max(Instant::now()) {
            return;
        }
        tokio::time::sleep_until(due.into()).await;
        let mut key = format!("{prefix}{number:016x}").into_bytes();
        key.resize(KEY_BYTES.max(key.len()), b'.');
        let value = vec![b'.'; VALUE_BYTES].into();
        let request = pb::PutRequest { key: key.into(), value, ..pb::PutRequest::default() };
        let begin = Instant::now();
        let answer = kv.put(request).await;
        let mut pace = pace.borrow_mut();
        match answer {
            Ok(_) => pace.taken.add(begin.elapsed().as_secs_f64()),
            Err(_) => pace.taken.failed += 1,
        }
    }
}

fn judge(
    options: &arguments::Client,
    perf: &CheckPerf,
    rate: u32,
    taken: &Taken,
) -> Result<(), Failure> {
    let reached = taken.done as f64 / perf.duration.as_secs_f64();
    let verdicts = [
        (
            reached >= RATE_PART_MIN * f64::from(rate),
            format!("Throughput is {reached:.0} of {rate} writes/s"),
        ),
        (taken.failed == 0, format!("{} requests failed", taken.failed)),
        (taken.slowest <= SLOWEST_MAX, format!("Slowest request took {:.6}s", taken.slowest)),
        (taken.deviation() <= DEVIATION_MAX, format!("Stddev is {:.6}s", taken.deviation())),
    ];
    let passes = verdicts.iter().all(|(passes, _)| *passes);
    if options.output == Some(Format::Json) {
        output::print_json(&json!({
            "pass": passes,
            "writes_per_second": reached,
            "writes_per_second_wanted": rate,
            "failed": taken.failed,
            "slowest_seconds": taken.slowest,
            "stddev_seconds": taken.deviation(),
        }))?;
    } else {
        let mut out = io::stdout().lock();
        for (passes, text) in &verdicts {
            writeln!(out, "{}: {text}", if *passes { "PASS" } else { "FAIL" })?;
        }
        writeln!(out, "{}", if passes { "PASS" } else { "FAIL" })?;
    }
    if passes { Ok(()) } else { Err(Failure::Told) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_what_was_taken() {
        let mut taken = Taken::default();
        [1.0, 3.0].into_iter().for_each(|seconds| taken.add(seconds));
        assert_eq!((taken.done, taken.slowest, taken.deviation()), (2, 3.0, 1.0));
        assert_eq!(Taken::default().deviation(), 0.0);
        assert_eq!(end_of("/check/"), b"/check0");
    }
}
