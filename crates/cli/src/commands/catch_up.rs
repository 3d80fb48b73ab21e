//! `bench snapshot`: what it costs a cluster to bring an empty member up to date while clients write.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::Child;
use std::time::{Duration, Instant};

use jangada_bench::Access;
use jangada_bench::load::{self, Busy, KeyOrder, Operation, Report, Stop};
use jangada_server::errors::ApiError;
use jangada_server::proto::etcdserverpb::MemberAddRequest;
use jangada_server::proto::etcdserverpb::cluster_client::ClusterClient;
use serde::Serialize;
use serde_json::json;

use super::bench::time_text;
use super::compare::{Contestant, Workspace, spawn};
use crate::arguments::{self, Format, Snapshot};
use crate::client::Client;
use crate::dev::health;
use crate::dev::plan::Plan;
use crate::failure::Failure;
use crate::output;

/// How many members there are when the new one has come.
const MEMBERS: u16 = 4;
/// Without any answer for so long, a run ends.
const STALL: Duration = Duration::from_secs(20);
/// Clients that fill the store.
const FILLERS: usize = 256;
/// How long each run goes while the new member catches up; after each it is asked whether it has.
const STRETCH: Duration = Duration::from_secs(1);
/// What a member logs when it has been brought up to date by a snapshot.
const APPLIED: &str = "applied snapshot";

/// Writes of one stretch of time.
#[derive(Clone, Debug, Default, Serialize)]
struct Stretch {
    seconds: f64,
    writes: u64,
    rate: f64,
    /// The worst of the runs.
    p99_us: u64,
    max_us: u64,
    errors: u64,
    /// The errors by kind.
    errors_by_kind: BTreeMap<String, u64>,
    /// Of the first three members together, the most there was.
    resident_peak_bytes: u64,
}

impl Stretch {
    fn add(&mut self, report: &Report) {
        self.seconds += report.seconds;
        self.writes += report.latency.count;
        self.rate = self.writes as f64 / self.seconds.max(f64::EPSILON);
        self.p99_us = self.p99_us.max(report.latency.p99_us);
        self.max_us = self.max_us.max(report.latency.max_us);
        self.errors += report.error_count();
        for (kind, count) in &report.errors {
            *self.errors_by_kind.entry(kind.clone()).or_default() += count;
        }
        let resident = report.servers.map_or(0, |servers| servers.resident_bytes);
        self.resident_peak_bytes = self.resident_peak_bytes.max(resident);
    }
}

/// The new member; ended when dropped.
struct Newcomer(Child);

impl Drop for Newcomer {
    fn drop(&mut self) {
        // As with the others: its data goes with it.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Fills, measures, adds a member, measures until it has caught up, and prints both.
pub(crate) fn run(client: &arguments::Client, options: &Snapshot) -> Result<(), Failure> {
    let folder = Workspace::make(&options.dir)?;
    let own = std::env::current_exe()
        .map_err(|error| Failure::Failed(format!("this program has no path: {error}")))?;
    let plan = Plan::new(MEMBERS, options.base_port)?;
    let cluster = Contestant::start(&folder.path, "member", &own, options.base_port)?;
    eprintln!("writing {} keys of {} bytes", options.keys, options.val_size);
    let fill = measure(&cluster, options, FILLERS, Stop::Total(options.keys))?;
    if 0 < fill.busy {
        eprintln!("{} times a write was refused as busy, and asked again", fill.busy);
    }
    if 0 < fill.error_count() {
        return Err(Failure::Failed(format!(
            "{} writes failed while the store was filled: {}",
            fill.error_count(),
            fill.errors_text()
        )));
    }
    let mut before = Stretch::default();
    before.add(&measure(&cluster, options, options.clients, Stop::Duration(options.duration))?);

    let new = plan.members.last().expect("there are four");
    let endpoint = cluster.endpoints[0].clone();
    let peer_urls = vec![format!("http://{}", new.peer())];
    Client::block_on(add(endpoint, peer_urls, options.patience))?;
    let home = folder.path.join(format!("member-{}", new.name));
    let spawned = spawn(&own, &plan, new, &home, "existing")
        .map_err(|error| Failure::Failed(format!("the new member cannot be started: {error}")))?;
    let _newcomer = Newcomer(spawned);
    let begin = Instant::now();
    let mut during = Stretch::default();
    let took = loop {
        during.add(&measure(&cluster, options, options.clients, Stop::Duration(STRETCH))?);
        // It answers a linearizable read: it has applied all that was committed before.
        if Client::block_on(health::check(&new.endpoint())).is_ok() {
            break begin.elapsed();
        }
        if options.patience <= begin.elapsed() {
            let log = std::fs::read_to_string(home.with_extension("log")).unwrap_or_default();
            return Err(Failure::Failed(format!(
                "the new member has not caught up within {:?}; its log ends with: {}",
                options.patience,
                log.lines().last().unwrap_or_default()
            )));
        }
    };
    // It tells of snapshots once a second.
    std::thread::sleep(2 * STRETCH);
    let log = std::fs::read_to_string(home.with_extension("log")).unwrap_or_default();
    let by_snapshot = log.contains(APPLIED);
    let ratio = during.rate / before.rate.max(f64::EPSILON);
    if client.output == Some(Format::Json) {
        return Ok(output::print_json(&json!({
            "keys": options.keys,
            "busyWhileFilling": fill.busy,
            "valueBytes": options.val_size,
            "before": before,
            "during": during,
            "ratio": ratio,
            "caughtUpSeconds": took.as_secs_f64(),
            "bySnapshot": by_snapshot,
        }))?);
    }
    print(options, &before, &during, ratio, took)?;
    if !by_snapshot {
        eprintln!(
            "the log still reached back to the beginning, so no snapshot was needed; use more --keys"
        );
    }
    Ok(())
}

/// Has the cluster let the new member in. It refuses while its members have not been connected for long.
async fn add(endpoint: String, peer_urls: Vec<String>, patience: Duration) -> Result<(), Failure> {
    let client = Client::new(&arguments::Client {
        endpoints: vec![endpoint],
        discover: arguments::Discover::default(),
        login: arguments::Login::default(),
        output: None,
        timeout: patience,
        tls: arguments::Tls::default(),
    });
    let begin = Instant::now();
    loop {
        let request = MemberAddRequest { peer_ur_ls: peer_urls.clone(), is_learner: false };
        let added = client.write(async |channel| {
            Ok(ClusterClient::new(channel).member_add(request.clone()).await?.into_inner())
        });
        match added.await {
            Ok(_) => return Ok(()),
            Err(Failure::Failed(sentence))
                if sentence == ApiError::Unhealthy.text() && begin.elapsed() < patience =>
            {
                tokio::time::sleep(STRETCH).await;
            }
            Err(failure) => return Err(failure),
        }
    }
}

fn measure(
    cluster: &Contestant,
    options: &Snapshot,
    clients: usize,
    stop: Stop,
) -> Result<Report, Failure> {
    let filling = matches!(stop, Stop::Total(_));
    let options = load::Options {
        endpoints: cluster.endpoints.clone(),
        access: Access::default(),
        operation: Operation::Put,
        clients,
        connections: clients.min(16),
        stop,
        rate: None,
        key_space: options.keys,
        key_order: if filling { KeyOrder::Sequential } else { KeyOrder::Random },
        value_bytes: options.val_size,
        // What is measured is what a client sees; only the store that is measured on must be full.
        busy: if filling { Busy::AskedAgain } else { Busy::Fails },
        stall: STALL,
        pids: cluster.pids(),
        disk: None,
        seed: 1,
    };
    Ok(load::run(&options, |_| {})?)
}

fn print(
    options: &Snapshot,
    before: &Stretch,
    during: &Stretch,
    ratio: f64,
    took: Duration,
) -> io::Result<()> {
    let row = |what: &str, stretch: &Stretch| {
        vec![
            what.to_owned(),
            format!("{:.1}", stretch.seconds),
            format!("{:.0}", stretch.rate),
            time_text(stretch.p99_us),
            time_text(stretch.max_us),
            stretch.errors.to_string(),
            output::bytes_text(stretch.resident_peak_bytes),
        ]
    };
    let heading = ["writes", "s", "rate /s", "p99", "max", "errors", "memory of three"];
    output::print_table(&heading, &[row("before", before), row("meanwhile", during)])?;
    for (what, stretch) in [("before", before), ("meanwhile", during)] {
        for (kind, count) in &stretch.errors_by_kind {
            writeln!(io::stdout().lock(), "errors {what}: {count} x {kind}")?;
        }
    }
    writeln!(
        io::stdout().lock(),
        "meanwhile / before: {ratio:.2}; a member with an empty disk caught up on {} keys of {} B in \
         {:.1} s, {} clients writing",
        options.keys,
        options.val_size,
        took.as_secs_f64(),
        options.clients
    )
}
