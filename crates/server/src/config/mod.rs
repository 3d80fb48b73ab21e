//! The server's configuration: etcd's flags, environment variables and configuration file, read,
//! checked and made into one [`Config`].
//!
//! Responsible for everything between the command line and the first start of a thread: parsing,
//! precedence, help, ids, URLs, sockets and the log's set-up. Not responsible for what the values
//! do. One table ([`table::GROUPS`]) drives parsing, help and the printed configuration.
//!
//! Invariants of a [`Config`]: 1. `initial` has at least one member;
//! 2. every listen URL is at an address or `localhost`, and its files are named if it is to be secured; 3. the election timeout is at
//! least five heartbeats.

mod arguments;
pub(crate) mod cluster;
mod compaction;
mod directory;
mod environment;
mod error;
mod file;
mod help;
mod ids;
mod listen;
mod log;
mod setting;
mod settings;
mod source;
mod suggest;
pub mod table;
mod timestamp;
mod tls;
mod url;
mod value;
mod warning;

#[cfg(test)]
mod config_tests;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

pub use cluster::{InitialCluster, Member};
pub use compaction::AutoCompaction;
pub use environment::variable_of;
pub use error::ConfigError;
pub use ids::{ClusterId, MemberId};
pub use listen::{Listener, Listeners};
pub use log::{LogConfig, LogFormat, LogLevel, install_log};
pub use setting::{Group, Kind, Setting, State};
pub use settings::Settings;
pub use source::Source;
pub use tls::{Tls, TlsSide};
pub use url::{Scheme, Url, UrlError};
pub use value::Value;
pub use warning::Warning;

use crate::auth::{AuthSettings, Jwt, TokenSettings};
use crate::discovery::Discovery;

/// etcd's limit for `--election-timeout`.
const ELECTION_MS_MAX: u64 = 50_000;
/// An election must survive the loss of a few heartbeats; etcd's factor.
const HEARTBEATS_PER_ELECTION: u64 = 5;
/// What a quota of 0 means, as in etcd.
const QUOTA_BYTES_DEFAULT: u64 = 2 << 30;
/// What an `--auth-token-ttl` of 0 means, as in etcd.
const TOKEN_TTL_DEFAULT: Duration = Duration::from_secs(300);
/// Above this etcd warns.
const QUOTA_BYTES_SUGGESTED: u64 = 8 << 30;
/// Above this etcd warns.
const REQUEST_BYTES_SUGGESTED: usize = 10 << 20;

/// What the command line asks the server to do.
#[derive(Debug)]
pub enum Invocation {
    /// Serve with this configuration.
    Serve(Box<Config>),
    /// Print this text to the standard output and end well.
    Print(String),
}

impl Invocation {
    /// Reads the words after the program's name (and after `server`), and the environment.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, as a sentence.
    pub fn parse(
        words: impl IntoIterator<Item = OsString>,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Invocation, ConfigError> {
        let settings = Settings::gather(words, variables)?;
        Ok(match settings.action() {
            Some("help") => Invocation::Print(help::help()),
            Some("version") => Invocation::Print(help::version(settings.text("reported-version"))),
            Some(_) => Invocation::Print(help::print_config(&settings)),
            None => Invocation::Serve(Box::new(Config::from_settings(&settings)?)),
        })
    }
}

/// Whether the cluster is to be formed or is there already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClusterState {
    /// The members named form a cluster, unless the data directory says they did before.
    New,
    /// The cluster is there: a member without data must be let in by the others.
    Existing,
}

/// Bounds on what clients may ask.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of one request.
    pub request_bytes_max: usize,
    /// Operations in one transaction.
    pub transaction_operations_max: usize,
    /// Bytes of data at which writes are refused; `None` for no limit.
    pub quota_backend_bytes: Option<u64>,
    /// Requests and streams open at once on one client connection.
    pub concurrent_streams_max: u32,
    /// How often an idle client connection is pinged; `None` for never.
    pub keepalive_interval: Option<Duration>,
    /// How long an unanswered ping keeps a connection open.
    pub keepalive_timeout: Duration,
    /// Learners in the cluster.
    pub learners_max: usize,
    /// How often a watcher that asks for it is told that nothing happened.
    pub watch_progress_interval: Duration,
}

/// A checked configuration. Holds no open file or socket: see [`Config::listen`].
#[derive(Clone, Debug)]
pub struct Config {
    /// This member's name.
    pub name: String,
    /// Where this member keeps its data; may not exist yet: see [`Config::create_directories`].
    pub data_dir: PathBuf,
    /// Where the log lives, `wal` in the data directory unless it is set.
    pub wal_dir: PathBuf,
    /// Addresses for the other members.
    pub listen_peer_urls: Vec<Url>,
    /// Addresses for clients.
    pub listen_client_urls: Vec<Url>,
    /// More addresses for metrics and health.
    pub listen_metrics_urls: Vec<Url>,
    /// How other members reach this one.
    pub advertise_peer_urls: Vec<Url>,
    /// How clients reach this member.
    pub advertise_client_urls: Vec<Url>,
    /// The members that are named, which only counts until this member has data of its own.
    pub initial: InitialCluster,
    /// Where the first members are named instead, if not by the flags: `initial` is this one alone then.
    pub discovery: Option<Discovery>,
    /// What tells clusters with the same URLs apart.
    pub cluster_token: String,
    /// Whether the cluster is to be formed.
    pub cluster_state: ClusterState,
    /// Whether all other members are given up, and this one goes on alone with the data it has.
    pub force_new_cluster: bool,
    /// Between a leader's heartbeats.
    pub heartbeat_interval: Duration,
    /// The shortest time without a leader until an election.
    pub election_timeout: Duration,
    /// Bounds on what clients may ask.
    pub limits: Limits,
    /// The origins of pages that may ask over HTTP; `*` for all.
    pub cors: Vec<String>,
    /// The host names that HTTP requests may be for; `*` for all.
    pub host_whitelist: Vec<String>,
    /// Tokens and passwords.
    pub auth: AuthSettings,
    /// How connections are secured.
    pub tls: Tls,
    /// Whether the API is offered over JSON, too.
    pub grpc_gateway: bool,
    /// Whether changes of the membership are refused that leave too few members that run.
    pub strict_reconfig: bool,
    /// What history is kept when nobody compacts by hand; `None` for all of it.
    pub auto_compaction: Option<AutoCompaction>,
    /// Bytes of the log that are kept for members that are behind.
    pub snapshot_catchup_bytes: u64,
    /// Whether the time of every call is measured.
    pub metrics_extensive: bool,
    /// `SO_REUSEPORT` on the listeners.
    pub reuse_port: bool,
    /// The etcd version told to clients: three numbers divided by dots.
    pub reported_version: String,
    /// What is logged, how and where.
    pub log: LogConfig,
    /// What to tell once there is a log.
    pub warnings: Vec<Warning>,
}

impl Config {
    /// Checks the settings against one another.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, as a sentence.
    pub fn from_settings(settings: &Settings) -> Result<Config, ConfigError> {
        let name = settings.text("name").to_owned();
        let data_dir = match settings.text("data-dir") {
            "" => PathBuf::from(format!("{name}.etcd")),
            path => PathBuf::from(path),
        };
        let wal_dir = match settings.text("wal-dir") {
            "" => data_dir.join("wal"),
            path => PathBuf::from(path),
        };
        let (heartbeat_interval, election_timeout) = timers(settings)?;
        let listen_peer_urls = listen_urls(settings, "listen-peer-urls")?;
        let listen_client_urls = listen_urls(settings, "listen-client-urls")?;
        let advertise_client_urls = advertised(settings)?;
        let advertise_peer_urls = settings.urls("initial-advertise-peer-urls").to_vec();
        for url in &advertise_peer_urls {
            cluster::check_peer_url("initial-advertise-peer-urls", url)?;
        }
        let token = settings.text("initial-cluster-token");
        let discovery = discovery(settings)?;
        let initial = first_members(settings, &name, &advertise_peer_urls, token)?;
        let mut warnings = settings.warnings().to_vec();
        let limits = limits(settings, &mut warnings);
        let tls = Tls::from_settings(settings, &mut warnings)?;
        let listen_metrics_urls = metrics_urls(settings)?;
        let addresses =
            tls::exposed(&[&listen_client_urls, &listen_peer_urls, &listen_metrics_urls]);
        if !addresses.is_empty() {
            warnings.push(Warning::PlainText { addresses });
        }
        Ok(Config {
            data_dir,
            wal_dir,
            listen_peer_urls,
            listen_client_urls,
            listen_metrics_urls,
            advertise_peer_urls,
            advertise_client_urls,
            initial,
            discovery,
            cluster_token: token.to_owned(),
            cluster_state: match settings.text("initial-cluster-state") {
                "existing" => ClusterState::Existing,
                _ => ClusterState::New,
            },
            force_new_cluster: settings.flag("force-new-cluster"),
            heartbeat_interval,
            election_timeout,
            limits,
            cors: settings.list("cors").to_vec(),
            host_whitelist: settings.list("host-whitelist").to_vec(),
            auth: auth(settings)?,
            snapshot_catchup_bytes: settings.integer("snapshot-catchup-bytes").unsigned_abs(),
            tls,
            grpc_gateway: settings.flag("enable-grpc-gateway"),
            strict_reconfig: settings.flag("strict-reconfig-check"),
            auto_compaction: AutoCompaction::from_settings(settings)?,
            metrics_extensive: settings.text("metrics") == "extensive",
            reuse_port: settings.flag("socket-reuse-port"),
            reported_version: reported_version(settings)?,
            log: LogConfig::from_settings(settings),
            warnings,
            name,
        })
    }

    /// This member among those that are named: only the flags of a member without data must say so.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NameNotInCluster`] or [`ConfigError::PeerUrlsDiffer`].
    pub fn own(&self) -> Result<&Member, ConfigError> {
        self.initial.own(&self.name, &self.advertise_peer_urls)
    }

    /// Asks who the first members are, where `--discovery-srv` says so. It takes as long as the resolver.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Discovery`], or [`ConfigError::InitialCluster`] if what is found is no cluster.
    pub fn discover(&mut self) -> Result<(), ConfigError> {
        let Some(discovery) = &self.discovery else { return Ok(()) };
        let members = discovery.members(&self.name, &self.advertise_peer_urls);
        let members = members.map_err(ConfigError::Discovery)?;
        tracing::info!(domain = discovery.domain, "the records name the members {members}");
        self.initial = InitialCluster::parse(&members, &self.cluster_token)?;
        Ok(())
    }
}

fn timers(settings: &Settings) -> Result<(Duration, Duration), ConfigError> {
    let milliseconds = |name| settings.integer(name).unsigned_abs();
    let heartbeat_ms = milliseconds("heartbeat-interval");
    let election_ms = milliseconds("election-timeout");
    if election_ms < heartbeat_ms * HEARTBEATS_PER_ELECTION {
        return Err(ConfigError::ElectionTooShort { election_ms, heartbeat_ms });
    }
    if ELECTION_MS_MAX < election_ms {
        return Err(ConfigError::ElectionTooLong { election_ms, limit_ms: ELECTION_MS_MAX });
    }
    Ok((Duration::from_millis(heartbeat_ms), Duration::from_millis(election_ms)))
}

fn listen_urls(settings: &Settings, name: &'static str) -> Result<Vec<Url>, ConfigError> {
    let urls = metrics_or_listen(settings, name)?;
    if urls.is_empty() {
        return Err(ConfigError::InvalidValue {
            name,
            source: settings.source(name),
            value: String::new(),
            expected: "at least one URL".to_owned(),
        });
    }
    Ok(urls)
}

fn metrics_urls(settings: &Settings) -> Result<Vec<Url>, ConfigError> {
    metrics_or_listen(settings, "listen-metrics-urls")
}

fn metrics_or_listen(settings: &Settings, name: &'static str) -> Result<Vec<Url>, ConfigError> {
    let urls = settings.urls(name);
    urls.iter().try_for_each(|url| listen::check(name, url))?;
    Ok(urls.to_vec())
}

/// As etcd: who chooses where to listen must say how clients get there.
fn advertised(settings: &Settings) -> Result<Vec<Url>, ConfigError> {
    let name = "advertise-client-urls";
    if settings.source("listen-client-urls") != Source::Default
        && settings.source(name) == Source::Default
    {
        return Err(ConfigError::AdvertiseMissing);
    }
    let urls = settings.urls(name);
    match urls.iter().find(|url| url.host().is_empty()) {
        Some(url) => Err(ConfigError::UnusableUrl {
            name,
            url: url.to_string(),
            problem: "it names no host; clients must be able to reach it".to_owned(),
        }),
        None => Ok(urls.to_vec()),
    }
}

fn discovery(settings: &Settings) -> Result<Option<Discovery>, ConfigError> {
    let (domain, resolver) =
        (settings.text("discovery-srv"), settings.text("discovery-srv-resolver"));
    if domain.is_empty() {
        return Ok(None);
    }
    if !settings.text("initial-cluster").is_empty() {
        return Err(ConfigError::InitialCluster {
            problem: "--discovery-srv says who the members are, too; set one of the two".to_owned(),
        });
    }
    let resolver = match resolver {
        "" => None,
        address => Some(address.parse().map_err(|_| ConfigError::InvalidValue {
            name: "discovery-srv-resolver",
            source: settings.source("discovery-srv-resolver"),
            value: address.to_owned(),
            expected: "an address with a port, such as 10.0.0.53:53".to_owned(),
        })?),
    };
    let name = settings.text("discovery-srv-name").to_owned();
    Ok(Some(Discovery { domain: domain.trim_end_matches('.').to_owned(), name, resolver }))
}

/// The members of `--initial-cluster` or, without it, this one alone under the URLs it advertises.
fn first_members(
    settings: &Settings,
    name: &str,
    advertised: &[Url],
    token: &str,
) -> Result<InitialCluster, ConfigError> {
    match settings.text("initial-cluster") {
        "" => {
            let alone: Vec<String> = advertised.iter().map(|url| format!("{name}={url}")).collect();
            InitialCluster::parse(&alone.join(","), token)
        }
        text => InitialCluster::parse(text, token),
    }
}

fn auth(settings: &Settings) -> Result<AuthSettings, ConfigError> {
    let ttl = match settings.integer("auth-token-ttl").unsigned_abs() {
        0 => TOKEN_TTL_DEFAULT,
        seconds => Duration::from_secs(seconds),
    };
    let problem = |problem: String| ConfigError::AuthToken { problem };
    let tokens = match settings.text("auth-token").split_once(',') {
        Some(("jwt", options)) => {
            let jwt = Jwt::of_options(options).map_err(|error| problem(error.to_string()))?;
            TokenSettings::Jwt(jwt)
        }
        None if settings.text("auth-token") == "simple" => TokenSettings::Simple { ttl },
        _ => return Err(problem("there are no such tokens".to_owned())),
    };
    let cost = settings.integer("bcrypt-cost");
    Ok(AuthSettings {
        tokens,
        bcrypt_cost: u32::try_from(cost).expect("the table bounds it"),
        certificates: settings.flag("client-cert-auth"),
    })
}

fn limits(settings: &Settings, warnings: &mut Vec<Warning>) -> Limits {
    let count = |name| usize::try_from(settings.integer(name)).expect("the table bounds it");
    let quota_backend_bytes = match settings.integer("quota-backend-bytes") {
        0 => Some(QUOTA_BYTES_DEFAULT),
        bytes => u64::try_from(bytes).ok(),
    };
    if let Some(bytes) = quota_backend_bytes.filter(|bytes| QUOTA_BYTES_SUGGESTED < *bytes) {
        warnings.push(Warning::LargeQuota { bytes, suggested: QUOTA_BYTES_SUGGESTED });
    }
    let request_bytes_max = count("max-request-bytes");
    if REQUEST_BYTES_SUGGESTED < request_bytes_max {
        let suggested = REQUEST_BYTES_SUGGESTED;
        warnings.push(Warning::LargeRequests { bytes: request_bytes_max, suggested });
    }
    let keepalive = settings.duration("grpc-keepalive-interval");
    Limits {
        request_bytes_max,
        transaction_operations_max: count("max-txn-ops"),
        quota_backend_bytes,
        concurrent_streams_max: u32::try_from(settings.integer("max-concurrent-streams"))
            .expect("the table bounds it"),
        keepalive_interval: (!keepalive.is_zero()).then_some(keepalive),
        keepalive_timeout: settings.duration("grpc-keepalive-timeout"),
        learners_max: count(given(settings, "max-learners", "experimental-max-learners")),
        watch_progress_interval: watch_progress_interval(settings),
    }
}

/// More often than this would be work for nothing; etcd's figure.
const WATCH_PROGRESS_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// The name by which a setting was given: its present one, or else its older one.
fn given(settings: &Settings, name: &'static str, older: &'static str) -> &'static str {
    if settings.source(name) == Source::Default { older } else { name }
}

fn watch_progress_interval(settings: &Settings) -> Duration {
    let name = "watch-progress-notify-interval";
    let name = given(settings, name, "experimental-watch-progress-notify-interval");
    settings.duration(name).max(WATCH_PROGRESS_INTERVAL_MIN)
}

/// Clients call int() on each part of it.
fn reported_version(settings: &Settings) -> Result<String, ConfigError> {
    let name = "reported-version";
    let text = settings.text(name);
    let parts: Vec<&str> = text.split('.').collect();
    let numeric = |part: &&str| part.parse::<u16>().is_ok_and(|n| n.to_string() == **part);
    if parts.len() == 3 && parts.iter().all(numeric) {
        return Ok(text.to_owned());
    }
    Err(ConfigError::InvalidValue {
        name,
        source: settings.source(name),
        value: text.to_owned(),
        expected: "three numbers divided by dots, such as 3.6.6".to_owned(),
    })
}
