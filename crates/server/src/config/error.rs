//! What can be wrong with a configuration, each said in a sentence that tells what to do.
//!
//! Responsible for the texts alone; who finds the fault lives in the neighbouring modules.

use std::fmt::{self, Display};
use std::path::PathBuf;

use jangada_tls::TlsError;

use crate::discovery::DiscoveryError;

use super::source::Source;

/// Why the server cannot start with the settings it was given.
///
/// Each variant's [`Display`] is a sentence. None of them is returned after anything was written.
#[derive(Debug)]
pub enum ConfigError {
    /// A flag that no version of etcd and no version of this server knows.
    UnknownFlag {
        /// What was written, without dashes.
        name: String,
        /// The most similar flag there is.
        nearest: Option<&'static str>,
    },
    /// A word that is neither a flag nor a flag's value.
    UnexpectedArgument {
        /// The word.
        argument: String,
    },
    /// The last flag of the line needs a value and none follows.
    MissingValue {
        /// The flag.
        name: &'static str,
    },
    /// A command line argument that is not UTF-8.
    NotUtf8 {
        /// The argument, with what cannot be read replaced.
        argument: String,
    },
    /// A value that its setting cannot take.
    InvalidValue {
        /// The setting.
        name: &'static str,
        /// Where the value came from.
        source: Source,
        /// The value.
        value: String,
        /// What it should look like.
        expected: String,
    },
    /// A flag and its environment variable say different things (etcd stops here as well).
    Shadowed {
        /// The environment variable.
        variable: String,
        /// The flag that shadows it.
        flag: &'static str,
    },
    /// A feature that is not built, set to something that must not be ignored.
    Refused {
        /// The setting.
        name: &'static str,
        /// Where it was set.
        source: Source,
        /// Why it is refused and what to do instead.
        reason: &'static str,
    },
    /// The configuration file cannot be read.
    FileUnreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The configuration file is neither YAML nor JSON, or not a map of settings.
    FileMalformed {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        problem: String,
    },
    /// The configuration file has a key that is no setting.
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The most similar key there is.
        nearest: Option<&'static str>,
    },
    /// The election timeout leaves no room for lost heartbeats.
    ElectionTooShort {
        /// Milliseconds.
        election_ms: u64,
        /// Milliseconds.
        heartbeat_ms: u64,
    },
    /// The election timeout is above the limit.
    ElectionTooLong {
        /// Milliseconds.
        election_ms: u64,
        /// Milliseconds.
        limit_ms: u64,
    },
    /// `--listen-client-urls` without `--advertise-client-urls`.
    AdvertiseMissing,
    /// `--initial-cluster` cannot be read.
    InitialCluster {
        /// What is wrong with it.
        problem: String,
    },
    /// DNS does not say who the members are.
    Discovery(DiscoveryError),
    /// `--initial-cluster` does not name this member.
    NameNotInCluster {
        /// This member's name.
        name: String,
        /// The names that are there.
        members: Vec<String>,
    },
    /// This member's URLs in `--initial-cluster` are not those it advertises.
    PeerUrlsDiffer {
        /// This member's name.
        name: String,
        /// The URLs in `--initial-cluster`.
        cluster: Vec<String>,
        /// The URLs in `--initial-advertise-peer-urls`.
        advertised: Vec<String>,
    },
    /// A URL that cannot be used where it stands.
    UnusableUrl {
        /// The setting.
        name: &'static str,
        /// The URL.
        url: String,
        /// Why not, and what to write instead.
        problem: String,
    },
    /// The settings of TLS do not go together, or its files cannot be used.
    Tls(TlsError),
    /// A socket cannot be opened.
    Listen {
        /// The setting.
        name: &'static str,
        /// The URL.
        url: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// A directory cannot be made or is not usable.
    Directory {
        /// The setting.
        name: &'static str,
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A log output cannot be opened.
    LogOutput {
        /// The output.
        output: String,
        /// What is wrong with it.
        problem: String,
    },
    /// `--auth-token` cannot be used.
    AuthToken {
        /// What is wrong with it.
        problem: String,
    },
    /// `etcd gateway` and `etcd grpc-proxy` are programs of their own.
    SubCommand {
        /// The command.
        command: String,
    },
}

impl Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::UnknownFlag { name, nearest } => {
                write!(f, "there is no flag --{name}")?;
                match nearest {
                    Some(nearest) => write!(f, "; did you mean --{nearest}?"),
                    None => write!(f, "; --help lists all flags"),
                }
            }
            ConfigError::UnexpectedArgument { argument } => write!(
                f,
                "'{argument}' is not a flag; the server takes flags only, as --name value or \
                 --name=value, and a boolean flag takes its value after '=' alone"
            ),
            ConfigError::MissingValue { name } => {
                write!(f, "--{name} needs a value: write --{name}=<value>")
            }
            ConfigError::NotUtf8 { argument } => {
                write!(f, "the argument '{argument}' is not UTF-8; rename what it refers to")
            }
            ConfigError::InvalidValue { name, source, value, expected } => {
                write!(f, "{} cannot be '{value}'; it takes {expected}", source.label(name))
            }
            ConfigError::Tls(error) => error.fmt(f),
            ConfigError::Shadowed { variable, flag } => write!(
                f,
                "conflicting environment variable \"{variable}\" is shadowed by corresponding \
                 command-line flag --{flag} (either unset environment variable or disable flag)"
            ),
            ConfigError::Refused { name, source, reason } => {
                write!(f, "{} cannot be honoured: {reason}", source.label(name))
            }
            ConfigError::FileUnreadable { path, error } => write!(
                f,
                "the configuration file {} cannot be read ({error}); check --config-file",
                path.display()
            ),
            ConfigError::FileMalformed { path, problem } => write!(
                f,
                "the configuration file {} is not a YAML or JSON map of settings: {problem}",
                path.display()
            ),
            ConfigError::UnknownKey { path, key, nearest } => {
                write!(
                    f,
                    "the configuration file {} has '{key}', which is no setting",
                    path.display()
                )?;
                match nearest {
                    Some(nearest) => write!(f, "; did you mean '{nearest}'?"),
                    None => write!(f, "; remove it, or see --help for the settings there are"),
                }
            }
            ConfigError::ElectionTooShort { election_ms, heartbeat_ms } => write!(
                f,
                "--election-timeout[{election_ms}ms] should be at least as 5 times as \
                 --heartbeat-interval[{heartbeat_ms}ms]; raise the first or lower the second"
            ),
            ConfigError::ElectionTooLong { election_ms, limit_ms } => write!(
                f,
                "--election-timeout[{election_ms}ms] is too long; at most {limit_ms}ms are allowed"
            ),
            ConfigError::AdvertiseMissing => write!(
                f,
                "--advertise-client-urls is required when --listen-client-urls is set explicitly; \
                 give the URLs by which clients reach this member"
            ),
            ConfigError::InitialCluster { problem } => write!(
                f,
                "--initial-cluster cannot be used: {problem}; write \
                 name1=http://host1:2380,name2=http://host2:2380"
            ),
            ConfigError::Discovery(error) => error.fmt(f),
            ConfigError::NameNotInCluster { name, members } => write!(
                f,
                "couldn't find local name \"{name}\" in the initial cluster configuration, which \
                 names {}; set --name to one of them or add this member to --initial-cluster",
                members.join(", ")
            ),
            ConfigError::PeerUrlsDiffer { name, cluster, advertised } => write!(
                f,
                "--initial-cluster has {name}={} but --initial-advertise-peer-urls is {}; the two \
                 must name the same URLs",
                cluster.join(","),
                advertised.join(",")
            ),
            ConfigError::UnusableUrl { name, url, problem } => {
                write!(f, "--{name} cannot use {url}: {problem}")
            }
            ConfigError::Listen { name, url, error } => match error.kind() {
                std::io::ErrorKind::AddrInUse => write!(
                    f,
                    "listen {url}: address already in use; another process has this port: stop \
                     it, or choose another port with --{name}"
                ),
                std::io::ErrorKind::AddrNotAvailable => write!(
                    f,
                    "listen {url}: this machine has no such address; set --{name} to one of its \
                     own addresses or to 0.0.0.0"
                ),
                std::io::ErrorKind::PermissionDenied => write!(
                    f,
                    "listen {url}: permission denied; ports below 1024 need a privilege, choose \
                     a higher one with --{name}"
                ),
                _ => write!(f, "listen {url}: {error}; check --{name}"),
            },
            ConfigError::Directory { name, path, problem } => {
                write!(f, "the directory {} (--{name}) cannot be used: {problem}", path.display())
            }
            ConfigError::LogOutput { output, problem } => {
                write!(f, "--log-outputs cannot use '{output}': {problem}")
            }
            ConfigError::AuthToken { problem } => write!(
                f,
                "--auth-token cannot be used: {problem}; write simple, or \
                 jwt,sign-method=RS256,pub-key=file,priv-key=file"
            ),
            ConfigError::SubCommand { command } => write!(
                f,
                "'{command}' is not part of this server; point clients at the members directly, \
                 any member takes any request"
            ),
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ConfigError::FileUnreadable { error, .. } | ConfigError::Listen { error, .. } => {
                Some(error)
            }
            _ => None,
        }
    }
}

impl ConfigError {
    /// Whether the line or file as written is at fault, rather than the machine it runs on.
    ///
    /// The command line answers such a mistake with exit status 2.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        !matches!(
            self,
            ConfigError::FileUnreadable { .. }
                | ConfigError::Listen { .. }
                | ConfigError::Directory { .. }
                | ConfigError::Discovery(_)
                | ConfigError::LogOutput { .. }
        )
    }
}
