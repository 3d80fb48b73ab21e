//! What can be written on the command line, save the server's flags, which are etcd's and have a
//! table of their own.

mod auth;
mod benches;
mod discovery;
mod leases;
mod maintenance;
mod members;
mod mirror;
mod sim;
mod sim_check;
mod tls;
mod watch;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use jangada_server::config::{Kind, Value};

use crate::failure::Failure;

pub(crate) use auth::{
    Auth, AuthCommand, Login, Passwd, PermissionKind, PermittedKeys, Role, RoleCommand, User,
    UserAdd, UserCommand,
};
pub(crate) use benches::{
    Bench, BenchCommand, Compare, ConnectionsBench, Failover, FloorBench, Keys, LeasesBench, Load,
    Measurable, Measured, Snapshot,
};
pub(crate) use discovery::Discover;
pub(crate) use leases::{Elect, Lease, LeaseCommand, Lock};
pub(crate) use maintenance::{
    CheckCommand, CheckPerf, ClusterCheck, Completion, Defrag, Endpoint, EndpointCommand, PerfLoad,
    SnapshotCommand, SnapshotFile, SnapshotRestore,
};
pub(crate) use members::{
    Alarm, AlarmCommand, Member, MemberAdd, MemberCommand, MemberId, MemberUpdate,
};
pub(crate) use mirror::{MIRROR_AFTER_HELP, MakeMirror};
pub(crate) use sim::{SIM_AFTER_HELP, Sim, SimCommand, Sweep};
pub(crate) use sim_check::Check;
pub(crate) use tls::Tls;
pub(crate) use watch::{LeftOut, WATCH_AFTER_HELP, WATCH_BENCH_AFTER_HELP, Watch, WatchBench};

/// Flags that may stand before a command; any other flag there is the server's.
pub(crate) const CLIENT_FLAGS: &[&str] = &[
    "endpoints",
    "output",
    "o",
    "timeout",
    "user",
    "password",
    "cacert",
    "cert",
    "key",
    "insecure-skip-tls-verify",
    "insecure-transport",
    "help",
    "h",
];

const AFTER_HELP: &str = "\
Exit status: 0 done, 1 failed, 2 wrong command line.

Examples:
  jangada dev                        three durable members on this machine
  jangada put greeting hello
  jangada get greeting
  jangada status
  jangada server --name a --data-dir data   one server; 'jangada server --help' lists the flags

With the server's flags and no command, or called by the name etcd, this is the server.";

/// Replicated, durable key-value store that speaks the etcd v3 API.
#[derive(Parser, Debug)]
#[command(name = "jangada", after_help = AFTER_HELP, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) client: Client,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command that asks a cluster.
#[derive(Args, Clone, Debug)]
pub(crate) struct Client {
    /// Members to ask, as host:port divided by commas; tried in turn [also: JANGADA_ENDPOINTS,
    /// ETCDCTL_ENDPOINTS; default: 127.0.0.1:2379]
    #[arg(long, global = true, value_delimiter = ',')]
    pub(crate) endpoints: Vec<String>,
    /// How to print results [default: what suits the command best]
    #[arg(long, short, global = true, value_enum)]
    pub(crate) output: Option<Format>,
    /// How long the command may take, all members together
    #[arg(long, global = true, default_value = "5s", value_parser = duration)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) discover: Discover,
    #[command(flatten)]
    pub(crate) login: Login,
    /// How members are connected to.
    #[command(flatten)]
    pub(crate) tls: Tls,
}

impl Client {
    /// Asks DNS for the endpoints, if it is to be asked.
    pub(crate) fn discover(&mut self) -> Result<(), Failure> {
        if let Some(found) = self.discover.find().map_err(Failure::Failed)? {
            self.endpoints = found.endpoints;
            self.tls.expect(found.server_name);
        }
        Ok(())
    }

    /// The members to ask: the flag, a variable, or the default.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        if !self.endpoints.is_empty() {
            return self.endpoints.clone();
        }
        ["JANGADA_ENDPOINTS", "ETCDCTL_ENDPOINTS"]
            .iter()
            .filter_map(|variable| std::env::var(variable).ok())
            .find(|list| !list.trim().is_empty())
            .unwrap_or_else(|| "127.0.0.1:2379".to_owned())
            .split(',')
            .map(|endpoint| endpoint.trim().to_owned())
            .filter(|endpoint| !endpoint.is_empty())
            .collect()
    }
}

/// How results are printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Format {
    /// Bare results, for people and shell scripts.
    Simple,
    /// A table.
    Table,
    /// JSON with etcdctl's keys; keys and values in base64.
    Json,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Run one member; takes etcd's flags, see 'jangada server --help'.
    #[command(disable_help_flag = true)]
    Server {
        /// etcd's flags.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        flags: Vec<OsString>,
    },
    /// Run a durable cluster on this machine, for trying things out.
    #[command(after_help = "\
Examples:
  jangada dev
  jangada dev --members 5 --dir /tmp/five
  jangada dev --fresh                forget what an earlier run wrote

Members listen on 127.0.0.1: the first on 2379 (clients) and 2380 (members), the second on
22379 and 22380, the third on 32379 and 32380, and so on. Ctrl-C stops them all; what they
wrote is there when the command runs again.")]
    Dev(Dev),
    /// Write a key.
    #[command(after_help = "\
Examples:
  jangada put greeting hello
  jangada put config < config.json   without a value, the standard input is the value
  jangada put -- -key -value")]
    Put(Put),
    /// Read keys.
    #[command(after_help = "\
Examples:
  jangada get greeting
  jangada get services/ --prefix --keys-only
  jangada get a z --limit 10 --order descend --sort-by modify
  jangada get greeting --rev 7 --print-value-only
  jangada get --from-key ''          every key
  jangada get greeting --consistency s   what the member asked has, possibly stale")]
    Get(Get),
    /// Remove keys; prints how many there were.
    #[command(
        visible_alias = "delete",
        after_help = "\
Examples:
  jangada del greeting
  jangada del services/ --prefix --prev-kv"
    )]
    Del(Del),
    /// Print what happens to keys, or run a program for each event.
    #[command(after_help = WATCH_AFTER_HELP)]
    Watch(Watch),
    /// Compare, then do one of two lists of things, all at one revision; read from the standard
    /// input.
    #[command(after_help = "\
The input has three parts divided by empty lines: compares, what to do when all hold, what to
do when not.

Example:
  jangada txn <<'END'
  version(\"greeting\") = \"0\"
  value(\"other\") != \"x\"

  put greeting hello

  get greeting
  END

A compare is value, version, create, mod or lease of a key in quotes, then =, !=, < or >, then
an operand in quotes. What to do is put, get or del with their options.")]
    Txn(Txn),
    /// Forget the history below a revision.
    #[command(
        visible_alias = "compaction",
        after_help = "\
Example:
  jangada compact 1000"
    )]
    Compact(Compact),
    /// Make, renew, show and end leases.
    Lease(Lease),
    /// Hold a lock, alone among all who ask for it, while a command runs or until interrupted.
    #[command(after_help = "\
Examples:
  jangada lock migrations -- ./migrate.sh
  jangada lock migrations            prints the key and its create revision, and holds the lock

The command finds the key in JANGADA_LOCK_KEY and its create revision in JANGADA_LOCK_REV. The
revision is a fencing token: greater than that of any holder before. Whoever loses its connection
for longer than --ttl loses the lock; what must not happen then is to be fenced by a transaction
that compares the create revision:

  create(\"migrations/694d8c0cf1e4a2b3\") = \"42\"")]
    Lock(Lock),
    /// Stand for election and lead until interrupted, or show who leads.
    #[command(after_help = "\
Examples:
  jangada elect scheduler host-a     waits to be elected, then prints key, value and revision
  jangada elect scheduler --listen   who leads, and who follows")]
    Elect(Elect),
    /// Show where each member stands: role, term, index, size, and who leads.
    #[command(after_help = "\
Examples:
  jangada status --endpoints 127.0.0.1:2379,127.0.0.1:22379,127.0.0.1:32379
  jangada status --cluster           every member that the first one knows

Exit status 1 when a member does not answer.")]
    Status(Status),
    /// Show the members of the cluster, or change who they are.
    Member(Member),
    /// Have the leader hand over to another member.
    #[command(after_help = "\
Example:
  jangada move-leader 8211f1d0f64f3269")]
    MoveLeader(MemberId),
    /// Show or end alarms, such as NOSPACE.
    Alarm(Alarm),
    /// Put users in use or out of it.
    Auth(Auth),
    /// Show or change users.
    User(User),
    /// Show or change roles: what users may do.
    Role(Role),
    /// Save a member's state to a file, examine such a file, or start a new cluster from one.
    Snapshot(SnapshotFile),
    /// Keep the keys of this cluster at another one, too.
    #[command(after_help = MIRROR_AFTER_HELP)]
    MakeMirror(MakeMirror),
    /// Ask each endpoint how it is.
    Endpoint(Endpoint),
    /// Have each endpoint use the space of what was removed; it does so by itself, too.
    #[command(after_help = "\
Example:
  jangada defrag --cluster

Nothing waits for it, and no member stops serving.")]
    Defrag(Defrag),
    /// Check whether the cluster is up to something.
    Check(ClusterCheck),
    /// Print the script by which a shell completes this command line.
    #[command(after_help = "\
Examples:
  jangada completion bash > /etc/bash_completion.d/jangada
  jangada completion zsh > ~/.zfunc/_jangada
  jangada completion fish > ~/.config/fish/completions/jangada.fish")]
    Completion(Completion),
    /// Read a member's log offline, also when it is damaged.
    Log(Log),
    /// Measure a cluster: this one's or a real etcd's.
    Bench(Bench),
    /// Run the code that ships in a simulated world in which everything goes wrong, from seeds.
    #[command(after_help = SIM_AFTER_HELP)]
    Sim(Sim),
}

/// Options of `dev`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Dev {
    /// Where everything is kept
    #[arg(long, default_value = "jangada-dev")]
    pub(crate) dir: PathBuf,
    /// How many members
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=6))]
    pub(crate) members: u16,
    /// Remove what an earlier run wrote; only ever a folder that this command made
    #[arg(long)]
    pub(crate) fresh: bool,
    /// The first member's port for clients; each next member adds 10000, the second 20000
    #[arg(long, default_value_t = 2379)]
    pub(crate) base_port: u16,
}

/// Options of `put`.
#[derive(Args, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Put {
    /// The key
    pub(crate) key: OsString,
    /// The value; without one, the standard input
    pub(crate) value: Option<OsString>,
    /// The lease to attach, in hexadecimal
    #[arg(long, value_parser = hexadecimal)]
    pub(crate) lease: Option<i64>,
    /// Print what the key had before
    #[arg(long)]
    pub(crate) prev_kv: bool,
    /// Keep the key's value, change its lease alone
    #[arg(long)]
    pub(crate) ignore_value: bool,
    /// Keep the key's lease
    #[arg(long)]
    pub(crate) ignore_lease: bool,
}

/// Options of `get`.
#[derive(Args, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Get {
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
    /// The most keys; 0 for all
    #[arg(long, default_value_t = 0)]
    pub(crate) limit: i64,
    /// The revision to read at; 0 for the newest
    #[arg(long, default_value_t = 0)]
    pub(crate) rev: i64,
    /// The order of the keys
    #[arg(long, value_enum, ignore_case = true)]
    pub(crate) order: Option<Order>,
    /// What to order by
    #[arg(long, value_enum, ignore_case = true)]
    pub(crate) sort_by: Option<SortBy>,
    /// Keys without values
    #[arg(long)]
    pub(crate) keys_only: bool,
    /// How many keys there are
    #[arg(long)]
    pub(crate) count_only: bool,
    /// Values without keys
    #[arg(long)]
    pub(crate) print_value_only: bool,
    /// l for linearizable, s for what the member asked has
    #[arg(long, value_enum, default_value = "l")]
    pub(crate) consistency: Consistency,
    /// Only keys changed at this revision or later
    #[arg(long, default_value_t = 0)]
    pub(crate) min_mod_rev: i64,
    /// Only keys changed at this revision or earlier
    #[arg(long, default_value_t = 0)]
    pub(crate) max_mod_rev: i64,
    /// Only keys created at this revision or later
    #[arg(long, default_value_t = 0)]
    pub(crate) min_create_rev: i64,
    /// Only keys created at this revision or earlier
    #[arg(long, default_value_t = 0)]
    pub(crate) max_create_rev: i64,
}

/// The order of keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Order {
    /// Smallest first.
    Ascend,
    /// Largest first.
    Descend,
}

/// What keys are ordered by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum SortBy {
    /// The create revision.
    Create,
    /// The key.
    Key,
    /// The revision of the last change.
    Modify,
    /// The value.
    Value,
    /// The version.
    Version,
}

/// Whom a read believes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Consistency {
    /// Linearizable.
    L,
    /// Serializable.
    S,
}

/// Options of `del`.
#[derive(Args, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Del {
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
    /// Print what was removed
    #[arg(long)]
    pub(crate) prev_kv: bool,
}

/// Options of `txn`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Txn {
    /// Accepted as etcdctl has it; the input is always read without prompts
    #[arg(long, short, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) interactive: Option<bool>,
}

/// Options of `compact`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Compact {
    /// The revision; it stays readable, all before it is forgotten
    pub(crate) revision: i64,
    /// Wait until the space is free
    #[arg(long)]
    pub(crate) physical: bool,
}

/// Options of `status`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Status {
    /// Ask every member that the first one knows
    #[arg(long)]
    pub(crate) cluster: bool,
}

/// The commands of `log`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Log {
    #[command(subcommand)]
    pub(crate) command: LogCommand,
}

/// What can be done with a log.
#[derive(Subcommand, Clone, Debug)]
pub(crate) enum LogCommand {
    /// Print what the log holds, batch by batch.
    #[command(after_help = "\
Example:
  jangada log dump default.etcd/wal")]
    Dump {
        /// The log's directory
        dir: PathBuf,
    },
    /// Check the log and say what recovery would make of it; exit status 1 when it is damaged.
    #[command(after_help = "\
Example:
  jangada log check default.etcd/wal")]
    Check {
        /// The log's directory
        dir: PathBuf,
    },
}

fn duration(text: &str) -> Result<Duration, String> {
    match Value::parse(Kind::Duration, text) {
        Ok(Value::Duration(duration)) if !duration.is_zero() => Ok(duration),
        _ => Err("write a duration such as 300ms, 5s or 1m".to_owned()),
    }
}

fn hexadecimal(text: &str) -> Result<i64, String> {
    i64::from_str_radix(text.trim_start_matches("0x"), 16)
        .map_err(|_| "write a lease's id in hexadecimal, as it was granted".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(std::iter::once("jangada").chain(line.split_whitespace()))
    }

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn options_of_the_client_stand_before_and_after_the_command() {
        for line in ["--endpoints a:1,b:2 get k -o json", "get k --endpoints a:1,b:2 -o json"] {
            let arguments = parse(line).expect("a good line");
            assert_eq!(arguments.client.endpoints(), ["a:1", "b:2"]);
            assert_eq!(arguments.client.output, Some(Format::Json));
            assert_eq!(arguments.client.timeout, Duration::from_secs(5));
        }
    }

    #[test]
    fn etcdctls_spellings_are_read() {
        for line in [
            "get k --order=ASCEND --sort-by=MODIFY",
            "get k --consistency=s",
            "txn --interactive=false",
            "compaction 5",
            "delete k --prefix",
            "put k v --lease=1a",
            "member add m4 --peer-urls=http://a:1,http://b:1 --learner",
            "member remove 8211f1d0f64f3269",
            "member update 8211f1d0f64f3269 --peer-urls=http://a:1",
            "member promote 8211f1d0f64f3269",
            "move-leader 8211f1d0f64f3269",
            "alarm disarm",
            "--user root:pw auth enable",
            "auth status --user=root --password=pw",
            "user add u:pw",
            "user add u --interactive=false",
            "user add u --new-user-password=pw",
            "user add u --no-password",
            "user passwd u --interactive=false",
            "user grant-role u r",
            "user get u --detail",
            "role grant-permission r readwrite a b",
            "role grant-permission r READ a --prefix",
            "role revoke-permission r a --from-key",
            "lease grant 60",
            "lease timetolive 694d8c0cf1e4a2b3 --keys",
            "lease keep-alive --once 694d8c0cf1e4a2b3",
            "lock name -- echo -n hello",
            "elect name value",
            "elect -l name",
            "make-mirror --prefix=a --no-dest-prefix --max-txn-ops=1 b:2379",
            "make-mirror b:2379 --dest-prefix x --dest-insecure-transport=false --dest-user=u:p",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn mistakes_are_of_usage() {
        for line in [
            "get",
            "put",
            "compact x",
            "bench failover",
            "member add m4",
            "member add m4 --peer-urls http://a:1 --learner --at-once",
            "member remove m4",
            "move-leader",
            "alarm",
            "lease",
            "lease grant",
            "lease revoke xyz",
            "elect name",
            "elect name value --listen",
            "bench put --total 1 --duration 1s",
            "make-mirror",
            "make-mirror b:1 --dest-prefix x --no-dest-prefix",
            "make-mirror b:1 --max-txn-ops 0",
            "nonsense",
        ] {
            assert_eq!(parse(line).expect_err(line).exit_code(), 2, "{line}");
        }
    }
}
