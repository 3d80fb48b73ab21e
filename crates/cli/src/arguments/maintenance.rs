//! The words of `snapshot`, `endpoint`, `defrag`, `check` and `completion`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

/// The commands of `snapshot`.
#[derive(Args, Clone, Debug)]
pub(crate) struct SnapshotFile {
    #[command(subcommand)]
    pub(crate) command: SnapshotCommand,
}

/// What can be done with snapshot files.
#[derive(Subcommand, Clone, Debug)]
pub(crate) enum SnapshotCommand {
    /// Save the state of one member to a file, and check its checksum.
    #[command(after_help = "\
Examples:
  jangada snapshot save backup.db
  jangada snapshot save etcd.db --endpoints 10.0.0.1:2379   a real etcd's, to move here

The first endpoint that can be reached is asked. The file is etcd's: etcdctl and etcdutl read it,
and a real etcd starts from it. --timeout is how long the member may be silent.")]
    Save {
        /// The file to write
        file: PathBuf,
    },
    /// Check a snapshot file and print its hash, revision, entries and size.
    #[command(after_help = "\
Examples:
  jangada snapshot status backup.db
  jangada snapshot status backup.db -o json")]
    Status {
        /// The file
        file: PathBuf,
    },
    /// Make the data directory of a member of a new cluster, from a file of ours or of etcd's.
    #[command(after_help = "\
Examples:
  jangada snapshot restore backup.db --data-dir data
  jangada snapshot restore backup.db --name a --data-dir a.data \\
      --initial-cluster a=http://10.0.0.1:2380,b=http://10.0.0.2:2380,c=http://10.0.0.3:2380 \\
      --initial-advertise-peer-urls http://10.0.0.1:2380

Restore each member from the same file, with its own --name and --initial-advertise-peer-urls, and
start all of them with the same flags. Revisions are raised and history is compacted, so that no
client takes the new cluster for the old one; --bump-revision=0 keeps both.")]
    Restore(SnapshotRestore),
}

/// Options of `snapshot restore`.
#[derive(Args, Clone, Debug)]
pub(crate) struct SnapshotRestore {
    /// The snapshot file
    pub(crate) file: PathBuf,
    /// The directory to make [default: NAME.etcd]
    #[arg(long)]
    pub(crate) data_dir: Option<PathBuf>,
    /// Where the log goes [default: inside the data directory]
    #[arg(long)]
    pub(crate) wal_dir: Option<PathBuf>,
    /// The member's name
    #[arg(long, default_value = "default")]
    pub(crate) name: String,
    /// All members of the new cluster, as name=url,name=url [default: this member alone]
    #[arg(long)]
    pub(crate) initial_cluster: Option<String>,
    /// Sets clusters apart that have the same URLs
    #[arg(long, default_value = "etcd-cluster")]
    pub(crate) initial_cluster_token: String,
    /// The URLs by which the other members reach this one
    #[arg(long, default_value = "http://localhost:2380")]
    pub(crate) initial_advertise_peer_urls: String,
    /// Take a file without a checksum, such as one out of a data directory
    #[arg(long)]
    pub(crate) skip_hash_check: bool,
    /// By how much to raise the revision; 0 keeps revisions and history
    #[arg(long, default_value_t = 1_000_000_000)]
    pub(crate) bump_revision: u64,
    /// Accepted as etcdutl has it: who raises the revision always compacts what lies before
    #[arg(long)]
    pub(crate) mark_compacted: bool,
}

/// The commands of `endpoint`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Endpoint {
    #[command(subcommand)]
    pub(crate) command: EndpointCommand,
    /// Ask every member that the first one knows
    #[arg(long, global = true)]
    pub(crate) cluster: bool,
}

/// What can be asked of each endpoint.
#[derive(Subcommand, Clone, Copy, Debug)]
pub(crate) enum EndpointCommand {
    /// Whether each endpoint answers a linearizable read; exit status 1 if one does not.
    #[command(after_help = "\
Examples:
  jangada endpoint health
  jangada endpoint health --cluster -o json")]
    Health,
    /// Where each endpoint stands; as 'jangada status'.
    #[command(after_help = "\
Example:
  jangada endpoint status --cluster")]
    Status,
    /// The hash of each endpoint's history up to a revision: members that hold the same agree.
    #[command(
        visible_alias = "hash",
        after_help = "\
Examples:
  jangada endpoint hashkv --cluster
  jangada endpoint hashkv --rev 1000

Without --rev the newest revision that all of them have is hashed."
    )]
    Hashkv {
        /// The revision to hash up to; 0 for the newest that all endpoints have
        #[arg(long, default_value_t = 0)]
        rev: i64,
    },
}

/// Options of `defrag`.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Defrag {
    /// Ask every member that the first one knows
    #[arg(long)]
    pub(crate) cluster: bool,
}

/// Options of `completion`.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Completion {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

/// The commands of `check`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ClusterCheck {
    #[command(subcommand)]
    pub(crate) command: CheckCommand,
}

/// What can be checked.
#[derive(Subcommand, Clone, Debug)]
pub(crate) enum CheckCommand {
    /// Whether the cluster bears a load of writes, by etcdctl's measure; exit status 1 if not.
    #[command(after_help = "\
Examples:
  jangada check perf
  jangada check perf --load l --duration 20s

It writes keys of 256 bytes with values of 1024 under the prefix, and removes them in the end. s, m,
l and xl are 150, 1000, 8000 and 15000 writes a second by 50, 200, 500 and 1000 clients. It passes
with 90 % of the rate, no write above 0.5 s, and a standard deviation below 0.1 s.")]
    Perf(CheckPerf),
}

/// Options of `check perf`.
#[derive(Args, Clone, Debug)]
pub(crate) struct CheckPerf {
    /// How much to write
    #[arg(long, value_enum, default_value = "s")]
    pub(crate) load: PerfLoad,
    /// What the keys begin with
    #[arg(long, default_value = "/etcdctl-check-perf/")]
    pub(crate) prefix: String,
    /// How long to write
    #[arg(long, default_value = "60s", value_parser = super::duration)]
    pub(crate) duration: Duration,
}

/// A load.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum PerfLoad {
    /// 150 writes a second.
    S,
    /// 1000.
    M,
    /// 8000.
    L,
    /// 15000.
    Xl,
}
