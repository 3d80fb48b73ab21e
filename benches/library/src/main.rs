//! Libraries that replicate a state machine, in one process: three nodes in memory, clients that put one
//! value after the other and are answered once it is applied on the leader.
//!
//! ```text
//! cargo run --release --manifest-path benches/library/Cargo.toml -- [--runs N] [--only TEXT]
//! ```
//!
//! Every library is used as its documentation says, with its own storage in memory where it has one,
//! and without serialization between nodes. The state machine, the clients, the allocator and the
//! runtime (tokio, two worker threads) are the same for all. A run starts a fresh cluster, lets it warm
//! up, and measures. Nobody compacts the log.
//!
//! The floor is a task that applies what clients send to it at once, with the same state machine and
//! nothing replicated.

mod clients;
mod peers;
mod store;

use std::future::Future;
use std::time::Duration;

use clap::Parser;
use jangada_measure::{Arguments, Figure, Subject, Suite};
use mimalloc::MiMalloc;

use clients::{Cluster, drive};
use peers::{
    floor::Floor, jangada::Jangada, omnipaxos::OmniPaxos, openraft::OpenRaft, raft_rs::RaftRs,
};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Members of each cluster.
pub const MEMBERS: u64 = 3;
/// Worker threads of the runtime that clients and nodes share.
const WORKERS: usize = 2;

/// Three nodes in memory: puts for each second, and what they cost.
#[derive(Parser)]
struct Options {
    /// How many clients put at the same time
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 256, 1024, 4096])]
    proposers: Vec<usize>,
    /// Only the libraries whose name contains this
    #[arg(long)]
    subject: Option<String>,
    #[command(flatten)]
    arguments: Arguments,
}

fn main() {
    let Options { proposers, subject, arguments } = Options::parse();
    let mut suite = Suite::new("library", &arguments);
    for proposers in proposers {
        let mut subjects = vec![
            Subject::new("jangada, as a task", move |time| {
                run(Jangada::as_task(), proposers, time)
            }),
            Subject::new("jangada, own thread", move |time| {
                run(Jangada::on_thread(), proposers, time)
            }),
            Subject::new("openraft 0.9", move |time| run(OpenRaft::start(), proposers, time)),
            Subject::new("raft-rs 0.7", move |time| run(RaftRs::start(), proposers, time)),
            Subject::new("omnipaxos 0.2", move |time| run(OmniPaxos::start(), proposers, time)),
            Subject::new("floor: one task", move |time| run(Floor::start(), proposers, time)),
        ];
        if let Some(wanted) = &subject {
            subjects.retain(|subject| subject.name().contains(wanted));
        }
        suite.scenario(&format!("{proposers} proposers"), subjects);
    }
    suite.finish();
}

/// One run, on a runtime of its own.
fn run<C: Cluster>(
    start: impl Future<Output = C>,
    proposers: usize,
    time: Duration,
) -> Vec<Figure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_time()
        .build()
        .expect("the machine can start threads");
    let figures = runtime.block_on(async move {
        let cluster = start.await;
        drive(cluster, proposers, time).await
    });
    runtime.shutdown_timeout(Duration::from_secs(5));
    figures
}
