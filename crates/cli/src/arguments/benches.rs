//! Options of benchmarks that may be run beside a real etcd.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::duration;

/// Which servers are measured: those that are named, or clusters made for the purpose.
#[derive(Args, Clone, Debug)]
pub(crate) struct Measured {
    /// The folder of a 'jangada dev': its endpoints and its processes
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// The servers' processes, to tell what they use
    #[arg(long, value_delimiter = ',')]
    pub(crate) pids: Vec<u32>,
    /// Start a cluster of three of this server and one of this etcd, and measure both
    #[arg(long, value_name = "PROGRAM", conflicts_with_all = ["dir", "pids"])]
    pub(crate) etcd: Option<PathBuf>,
    /// Where those write, in a folder removed in the end; choose the disk to measure
    #[arg(long, default_value = ".", requires = "etcd")]
    pub(crate) work_dir: PathBuf,
    /// The first port of this server's; etcd's is 1000 above
    #[arg(long, default_value_t = 5479, requires = "etcd")]
    pub(crate) base_port: u16,
}

/// What `jangada bench connections --help` says at the end.
pub(crate) const CONNECTIONS_BENCH_AFTER_HELP: &str = "\
Needs as many open files as connections, here and at the servers ('ulimit -n').

Examples:
  jangada bench connections --dir jangada-dev
  jangada bench connections --etcd etcd --output json
  jangada bench connections --count 1000 --watchers --endpoints a:2379 --pids 4711";

/// Options of `bench connections`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ConnectionsBench {
    #[command(flatten)]
    pub(crate) measured: Measured,
    /// How many connections
    #[arg(long, default_value_t = 10_000)]
    pub(crate) count: usize,
    /// Have a stream with a watcher on each
    #[arg(long)]
    pub(crate) watchers: bool,
    /// Clients that write, before and while the connections are there
    #[arg(long, default_value_t = 4)]
    pub(crate) writers: usize,
    /// For how long, each time
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub(crate) duration: Duration,
    /// Bytes of a value
    #[arg(long, default_value_t = 256)]
    pub(crate) val_size: usize,
}

/// What `jangada bench leases --help` says at the end.
pub(crate) const LEASES_BENCH_AFTER_HELP: &str = "\
Each lease has a key, and its time is chosen so that all of them are over at the same moment.

Examples:
  jangada bench leases --dir jangada-dev
  jangada bench leases --etcd etcd --output json
  jangada bench leases --leases 1000 --end-after 5s --endpoints a:2379";

/// Options of `bench leases`.
#[derive(Args, Clone, Debug)]
pub(crate) struct LeasesBench {
    #[command(flatten)]
    pub(crate) measured: Measured,
    /// How many leases
    #[arg(long, default_value_t = 100_000)]
    pub(crate) leases: u64,
    /// How long after the first is granted all of them end
    #[arg(long, default_value = "90s", value_parser = duration)]
    pub(crate) end_after: Duration,
    /// Clients that write, before and while leases end
    #[arg(long, default_value_t = 16)]
    pub(crate) writers: usize,
    /// How long they write before
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub(crate) before: Duration,
    /// Bytes of a value
    #[arg(long, default_value_t = 256)]
    pub(crate) val_size: usize,
    /// How long it may take until all leases are gone
    #[arg(long, default_value = "5m", value_parser = duration)]
    pub(crate) patience: Duration,
}
