//! The options of `make-mirror`: etcdctl's, and where the other cluster is.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{Client, Discover, Login, Tls, duration};

/// What `jangada make-mirror --help` says at the end.
pub(crate) const MIRROR_AFTER_HELP: &str = "\
Copies every key as of one revision, then follows what happens from there on. What one revision of
the source changes is changed at the destination in one transaction, unless it is more than
--max-txn-ops. Keys come without their leases. What is at the destination and was never at the source
is left alone, also under the prefix.

Prints how many keys were written and deleted, every 30 s and at the end; with '-o json', also the
revision of the source that was reached. It ends when it is interrupted, when either cluster is gone
for longer than --timeout, and when the outcome of a write is not known; then it says with which --rev
to go on.

Examples:
  jangada make-mirror --endpoints a:2379,b:2379 mirror:2379
  jangada make-mirror mirror:2379 --prefix config/ --dest-prefix copies/config/
  jangada make-mirror mirror:2379 --rev 4711     what happens from revision 4711 on, and no copy
  jangada make-mirror mirror:2379 --dest-cacert ca.pem --dest-user mirror:secret";

/// Options of `make-mirror`.
#[derive(Args, Clone, Debug)]
pub(crate) struct MakeMirror {
    /// Members of the other cluster, as host:port divided by commas; tried in turn
    #[arg(required = true, num_args = 1, value_delimiter = ',')]
    pub(crate) destination: Vec<String>,
    /// Only keys that begin with this
    #[arg(long, default_value = "")]
    pub(crate) prefix: OsString,
    /// What keys begin with at the destination instead of --prefix
    #[arg(long)]
    pub(crate) dest_prefix: Option<OsString>,
    /// Take --prefix from the keys at the destination
    #[arg(long, conflicts_with = "dest_prefix")]
    pub(crate) no_dest_prefix: bool,
    /// The first revision to follow, without a copy; 0 to copy all keys first
    #[arg(long, default_value_t = 0)]
    pub(crate) rev: i64,
    /// The most changes in one transaction at the destination
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_txn_ops: u32,
    /// How often to print how far it is
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub(crate) every: Duration,
    #[command(flatten)]
    secured: DestinationTls,
    #[command(flatten)]
    login: DestinationLogin,
}

impl MakeMirror {
    /// The destination as the cluster of another command; no variable says anything about it.
    pub(crate) fn destination(&self, source: &Client) -> Client {
        let DestinationTls { cacert, cert, key, skip_verify, insecure_transport } = &self.secured;
        let (cacert, cert, key) = (cacert.clone(), cert.clone(), key.clone());
        Client {
            endpoints: self.destination.clone(),
            output: source.output,
            timeout: source.timeout,
            discover: Discover::default(),
            login: Login::alone(self.login.user.clone(), self.login.password.clone()),
            tls: Tls::alone([cacert, cert, key], *skip_verify, *insecure_transport),
        }
    }
}

/// How connections to the destination are secured.
#[derive(Args, Clone, Debug)]
struct DestinationTls {
    /// Authorities that must vouch for the destination, in PEM
    #[arg(id = "dest-cacert", long = "dest-cacert", value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// Certificate to show to the destination, in PEM
    #[arg(id = "dest-cert", long = "dest-cert", value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Key of --dest-cert, in PEM
    #[arg(id = "dest-key", long = "dest-key", value_name = "FILE")]
    key: Option<PathBuf>,
    /// Believe whoever answers as the destination
    #[arg(id = "dest-insecure-skip-tls-verify", long = "dest-insecure-skip-tls-verify")]
    skip_verify: bool,
    /// Whether a destination without a scheme is asked in plain text when no file is named [default:
    /// true]
    #[arg(id = "dest-insecure-transport", long = "dest-insecure-transport", num_args = 0..=1,
        require_equals = true, default_missing_value = "true")]
    insecure_transport: Option<bool>,
}

/// On whose behalf the destination is asked.
#[derive(Args, Clone)]
struct DestinationLogin {
    /// The user to ask the destination as, as NAME or NAME:PASSWORD; without a password it is asked
    /// for
    #[arg(id = "dest-user", long = "dest-user")]
    user: Option<String>,
    /// The password of --dest-user
    #[arg(id = "dest-password", long = "dest-password")]
    password: Option<String>,
}

/// A password is not to be printed.
impl std::fmt::Debug for DestinationLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DestinationLogin(user given: {})", self.user.is_some())
    }
}
