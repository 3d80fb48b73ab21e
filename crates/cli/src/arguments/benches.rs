//! Options of benchmarks.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::{Consistency, WATCH_BENCH_AFTER_HELP, WatchBench, duration};

/// The commands of `bench`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Bench {
    #[command(subcommand)]
    pub(crate) command: BenchCommand,
}

/// What can be measured.
#[derive(Subcommand, Clone, Debug)]
pub(crate) enum BenchCommand {
    /// Write random keys.
    #[command(after_help = "\
Examples:
  jangada bench put --clients 1000 --connections 100 --duration 10s
  jangada bench put --dir jangada-dev        endpoints and processes of 'jangada dev'
  jangada bench put --total 100000 --pids 101,102,103 --output json
  jangada bench put --rate 2000              2000 a second, whatever becomes of those before
  jangada bench put --compare a:2379,b:2379,c:2379 --runs 5")]
    Put(Load),
    /// Read random keys; write some first, or every read finds nothing.
    #[command(after_help = "\
Examples:
  jangada bench get --clients 64
  jangada bench get --consistency s --duration 5s")]
    Get {
        #[command(flatten)]
        load: Load,
        /// l for linearizable, s for what the member asked has
        #[arg(long, value_enum, default_value = "l")]
        consistency: Consistency,
    },
    /// Write random keys in transactions with a condition.
    #[command(after_help = "\
Example:
  jangada bench txn --clients 64 --duration 10s")]
    Txn(Load),
    /// Read random keys most of the time, by way of the leader, and write them at others.
    #[command(after_help = "\
Examples:
  jangada bench mixed
  jangada bench mixed --reads 50 --key-order skewed --rate 5000")]
    Mixed {
        #[command(flatten)]
        load: Load,
        /// How many of a hundred requests read
        #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u8).range(..=100))]
        reads: u8,
    },
    /// Read random keys and those that follow them; write some first.
    #[command(after_help = "\
Examples:
  jangada bench put --total 100000 --key-order sequential
  jangada bench range --keys 100")]
    Range {
        #[command(flatten)]
        load: Load,
        /// How many keys each request reads
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
        keys: u64,
        /// l for linearizable, s for what the member asked has
        #[arg(long, value_enum, default_value = "l")]
        consistency: Consistency,
    },
    /// Kill the leader, measure the time without an acknowledged write, and check that none is
    /// lost.
    #[command(after_help = "\
Examples:
  jangada bench failover --dir jangada-dev   the leader of 'jangada dev'
  jangada bench failover --pid 4711 --endpoints a:2379,b:2379,c:2379

Exit status 1 when an acknowledged write is lost.")]
    Failover(Failover),
    /// Run a cluster of three of this server and of a real etcd, and print both with ratios.
    #[command(after_help = "\
Examples:
  jangada bench compare
  jangada bench compare --etcd /opt/etcd/etcd --clients 1,64 --duration 10s
  jangada bench compare --operations put,txn --runs 5 --output json

Both write to a folder made in --dir and removed in the end. Without an etcd, this server is
measured alone.")]
    Compare(Compare),
    /// Measure what the machine itself can do, and what a put cannot be faster than: an empty call into
    /// three bare processes that each write and sync.
    #[command(after_help = "\
Examples:
  jangada bench floor
  jangada bench floor --dir jangada-dev --runs 5   and one client's puts beside it, as a ratio")]
    Floor(FloorBench),
    /// Serve for 'bench floor'.
    #[command(hide = true)]
    FloorFollower {
        /// Where to write
        file: PathBuf,
    },
    /// Serve for 'bench floor'.
    #[command(hide = true)]
    FloorLeader {
        /// Where to write
        file: PathBuf,
        /// The followers' addresses
        followers: Vec<SocketAddr>,
    },
    /// Have watchers see every write of some clients, first without and then with streams that are
    /// never read.
    #[command(after_help = WATCH_BENCH_AFTER_HELP)]
    Watch(WatchBench),
    /// Open very many connections that do nothing, and print what each costs and what they cost clients
    /// that write.
    #[command(after_help = CONNECTIONS_BENCH_AFTER_HELP)]
    Connections(ConnectionsBench),
    /// Grant very many leases with a key each, let all of them end at the same moment, and print how long
    /// that takes and what it costs clients that write.
    #[command(after_help = LEASES_BENCH_AFTER_HELP)]
    Leases(LeasesBench),
    /// Fill a cluster of three, let an empty fourth member catch up by a snapshot while clients write,
    /// and print the rate meanwhile against the rate before.
    #[command(after_help = "\
Examples:
  jangada bench snapshot
  jangada bench snapshot --keys 100000 --duration 5s --output json

Writes to a folder made in --dir and removed in the end.")]
    Snapshot(Snapshot),
}

/// Options of `bench snapshot`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Snapshot {
    /// How many keys the cluster holds
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) keys: u64,
    /// Bytes of a value
    #[arg(long, default_value_t = 256)]
    pub(crate) val_size: usize,
    /// Clients that write, before and meanwhile
    #[arg(long, default_value_t = 64)]
    pub(crate) clients: usize,
    /// How long to write before
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub(crate) duration: Duration,
    /// How long the new member may take
    #[arg(long, default_value = "5m", value_parser = duration)]
    pub(crate) patience: Duration,
    /// Where to make the folder; choose the disk to measure
    #[arg(long, default_value = ".")]
    pub(crate) dir: PathBuf,
    /// The first member's port for clients
    #[arg(long, default_value_t = 4479)]
    pub(crate) base_port: u16,
}

/// Options of `bench compare`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Compare {
    /// The etcd to run
    #[arg(long, default_value = "etcd")]
    pub(crate) etcd: PathBuf,
    /// How many clients, one run each
    #[arg(long, value_delimiter = ',', default_value = "1,64,1000")]
    pub(crate) clients: Vec<usize>,
    /// What is measured, in this order
    #[arg(long, value_enum, value_delimiter = ',', default_value = "put,get,serializable-get")]
    pub(crate) operations: Vec<Measurable>,
    /// How long each run goes
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub(crate) duration: Duration,
    /// How often each is measured; medians are printed, and how far apart the ratios were
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) runs: u32,
    /// How many different keys
    #[arg(long, default_value_t = 100_000)]
    pub(crate) key_space: u64,
    /// Bytes of a value
    #[arg(long, default_value_t = 256)]
    pub(crate) val_size: usize,
    /// Where to make the folder; choose the disk to measure
    #[arg(long, default_value = ".")]
    pub(crate) dir: PathBuf,
    /// This server's first port; etcd's is 1000 above
    #[arg(long, default_value_t = 3479)]
    pub(crate) base_port: u16,
}

/// Options of the benchmarks that make one kind of request.
#[derive(Args, Clone, Debug)]
pub(crate) struct Load {
    /// Clients, each with one request under way at a time
    #[arg(long, default_value_t = 64)]
    pub(crate) clients: usize,
    /// Connections that the clients share [default: 16, or as many as clients]
    #[arg(long)]
    pub(crate) connections: Option<usize>,
    /// Stop after so many requests
    #[arg(long, conflicts_with = "duration")]
    pub(crate) total: Option<u64>,
    /// Stop after so long [default: 10s]
    #[arg(long, value_parser = duration)]
    pub(crate) duration: Option<Duration>,
    /// Make so many requests a second, answered or not, as long as a client is free; what one that is due
    /// waits for a free client counts as its time
    #[arg(long, value_name = "REQUESTS")]
    pub(crate) rate: Option<f64>,
    /// How many different keys
    #[arg(long, default_value_t = 100_000)]
    pub(crate) key_space: u64,
    /// Which keys are taken
    #[arg(long, value_enum, default_value = "random")]
    pub(crate) key_order: Keys,
    /// Bytes of a value
    #[arg(long, default_value_t = 256)]
    pub(crate) val_size: usize,
    /// Ask the leader alone
    #[arg(long)]
    pub(crate) target_leader: bool,
    /// The servers' processes, to tell what they use
    #[arg(long, value_delimiter = ',')]
    pub(crate) pids: Vec<u32>,
    /// The folder of a 'jangada dev': its endpoints and processes
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// Other servers to measure in turn with these, and to print ratios to
    #[arg(long, value_name = "ENDPOINTS", value_delimiter = ',')]
    pub(crate) compare: Vec<String>,
    /// The processes of those others
    #[arg(long, value_delimiter = ',', requires = "compare")]
    pub(crate) compare_pids: Vec<u32>,
    /// How often each is measured; medians are printed, and how far apart the ratios were
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) runs: u32,
    /// Where to measure the disk's floor; choose the disk that the servers write to
    #[arg(long, default_value = ".")]
    pub(crate) floor_dir: PathBuf,
    /// Leave the floors out
    #[arg(long)]
    pub(crate) no_floor: bool,
    /// Decides keys and values
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

/// Which keys a benchmark takes.
#[derive(Clone, Copy, ValueEnum, PartialEq, Eq, Debug)]
pub(crate) enum Keys {
    /// Any, each as likely as any other
    Random,
    /// Any, the n-th in proportion to 1/n: few keys are asked for often
    Skewed,
    /// One after the other, so that as many requests as keys take each once
    Sequential,
}

/// Options of `bench failover`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Failover {
    /// The leader's process
    #[arg(long, required_unless_present = "dir", conflicts_with = "dir")]
    pub(crate) pid: Option<u32>,
    /// The folder of a 'jangada dev': its endpoints, and the process of its leader
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// How many write at once
    #[arg(long, default_value_t = 8)]
    pub(crate) writers: usize,
    /// How long one write may take before its outcome counts as unknown
    #[arg(long, default_value = "100ms", value_parser = duration)]
    pub(crate) deadline: Duration,
    /// How long to write before the kill
    #[arg(long, default_value = "2s", value_parser = duration)]
    pub(crate) before: Duration,
    /// How long to write after the cluster is back
    #[arg(long, default_value = "2s", value_parser = duration)]
    pub(crate) after: Duration,
    /// How long the cluster may take to be back
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub(crate) patience: Duration,
    /// Bytes of a value
    #[arg(long, default_value_t = 256)]
    pub(crate) val_size: usize,
}

/// What `bench compare` measures.
#[derive(Clone, Copy, ValueEnum, PartialEq, Eq, Debug)]
pub(crate) enum Measurable {
    /// Writes of random keys
    Put,
    /// Linearizable reads of random keys
    Get,
    /// Serializable reads of random keys
    SerializableGet,
    /// Writes in transactions with a condition
    Txn,
    /// Nine linearizable reads for each write
    Mixed,
    /// Linearizable reads of 100 keys that follow each other
    Range,
}

/// Options of `bench floor`.
#[derive(Args, Clone, Debug)]
pub(crate) struct FloorBench {
    /// The folder of a 'jangada dev' whose puts are measured beside the floor; its leader is asked
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// How often each is measured, one after the other; medians are printed
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) runs: u32,
    /// How long each takes
    #[arg(long, default_value = "2s", value_parser = duration)]
    pub(crate) duration: Duration,
    /// Where to write; choose the disk that servers write to
    #[arg(long, default_value = ".")]
    pub(crate) floor_dir: PathBuf,
}

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
