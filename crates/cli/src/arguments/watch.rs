//! The options of `watch`, and of its benchmark.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{Measured, duration};

/// What `jangada watch --help` says at the end.
pub(crate) const WATCH_AFTER_HELP: &str = "\
Each event is printed as etcdctl does: PUT or DELETE, with --prev-kv what was there before, the key,
the value. With a command behind '--', that is run for each event, with the event in the variables
ETCD_WATCH_REVISION, ETCD_WATCH_EVENT_TYPE, ETCD_WATCH_KEY and ETCD_WATCH_VALUE.

When the member that is watched goes away, the watch goes on at the next one behind the last event
that was printed. It ends when it is told to, or with exit status 1 when the history that it needs is
compacted.

Examples:
  jangada watch greeting
  jangada watch services/ --prefix --prev-kv
  jangada watch a z --rev 7              from revision 7 on, in the past or in the future
  jangada watch greeting --filter delete writes alone
  jangada watch greeting --count 1       wait for one event
  jangada watch config -o json
  jangada watch config -- systemctl reload my-service";

/// Options of `watch`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Watch {
    /// The key, or the first one of a range
    pub(crate) key: OsString,
    /// One past the last key of the range
    pub(crate) range_end: Option<OsString>,
    /// All keys that begin with the key
    #[arg(long)]
    pub(crate) prefix: bool,
    /// All keys from the key on
    #[arg(long)]
    pub(crate) from_key: bool,
    /// The first revision to print; 0 for what happens from now on
    #[arg(long, default_value_t = 0)]
    pub(crate) rev: i64,
    /// Print what was there before, too
    #[arg(long)]
    pub(crate) prev_kv: bool,
    /// Be told at intervals that nothing happened
    #[arg(long)]
    pub(crate) progress_notify: bool,
    /// Events to leave out
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) filter: Vec<LeftOut>,
    /// End after so many events
    #[arg(long)]
    pub(crate) count: Option<u64>,
    /// The program to run for each event, and its arguments
    #[arg(last = true)]
    pub(crate) command: Vec<OsString>,
}

/// Events that can be left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum LeftOut {
    /// Writes.
    Put,
    /// Deletions.
    Delete,
}

/// What `jangada bench watch --help` says at the end.
pub(crate) const WATCH_BENCH_AFTER_HELP: &str = "\
Works on any etcd v3 endpoints, so that servers can be set beside each other.

Examples:
  jangada bench watch --dir jangada-dev
  jangada bench watch --etcd etcd --output json
  jangada bench watch --watchers 100 --streams 10 --duration 5s
  jangada bench watch --endpoints a:2379 --pids 4711 --output json";

/// Options of `bench watch`.
#[derive(Args, Clone, Debug)]
pub(crate) struct WatchBench {
    #[command(flatten)]
    pub(crate) measured: Measured,
    /// Watchers, all streams together
    #[arg(long, default_value_t = 1000)]
    pub(crate) watchers: usize,
    /// Streams that they share
    #[arg(long, default_value_t = 100)]
    pub(crate) streams: usize,
    /// Connections that the streams share
    #[arg(long, default_value_t = 16)]
    pub(crate) connections: usize,
    /// Streams that are never read, in the second run; 0 for no second run
    #[arg(long, default_value_t = 1)]
    pub(crate) stalled: usize,
    /// Clients that write
    #[arg(long, default_value_t = 16)]
    pub(crate) writers: usize,
    /// How long they write, in each run
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub(crate) duration: Duration,
    /// How many different keys
    #[arg(long, default_value_t = 1000)]
    pub(crate) key_space: u64,
    /// Bytes of a value
    #[arg(long, default_value_t = 256)]
    pub(crate) val_size: usize,
    /// Decides keys
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}
