//! What a configuration says that has no effect, or not the one its author may expect.

use std::fmt;
use std::path::PathBuf;

use super::source::Source;

/// Something to tell once at start. Each one's [`fmt::Display`] is a sentence.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Warning {
    /// A setting that is accepted and does nothing.
    NoEffect {
        /// The setting.
        name: &'static str,
        /// Where it was set.
        source: Source,
        /// Why it does nothing.
        why: &'static str,
    },
    /// A flag or variable beside a configuration file.
    ReplacedByFile {
        /// The setting.
        name: &'static str,
        /// Where it was set.
        source: Source,
        /// The file that replaces it.
        path: PathBuf,
    },
    /// A variable with etcd's prefix that belongs to no setting.
    UnknownVariable {
        /// The variable.
        variable: String,
        /// The most similar one there is.
        nearest: Option<String>,
    },
    /// A URL in plain text beside files of TLS.
    TlsIgnored {
        /// The setting of the URL.
        name: &'static str,
        /// The URL.
        url: String,
        /// The setting of the files.
        files: &'static str,
    },
    /// A certificate of our own making beside files of TLS.
    AutoTlsIgnored {
        /// The setting.
        name: &'static str,
        /// The setting of the files.
        files: &'static str,
    },
    /// Addresses that carry plain text and can be reached from other machines.
    PlainText {
        /// The URLs.
        addresses: Vec<String>,
    },
    /// A quota above what etcd suggests.
    LargeQuota {
        /// Bytes.
        bytes: u64,
        /// Bytes.
        suggested: u64,
    },
    /// A request size above what etcd suggests.
    LargeRequests {
        /// Bytes.
        bytes: usize,
        /// Bytes.
        suggested: usize,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::NoEffect { name, source, why } => {
                write!(f, "{} has no effect: {why}", source.label(name))
            }
            Warning::ReplacedByFile { name, source, path } => write!(
                f,
                "{} is ignored: the configuration file {} replaces flags and environment",
                source.label(name),
                path.display()
            ),
            Warning::UnknownVariable { variable, nearest } => {
                write!(f, "unrecognized environment variable {variable} is ignored")?;
                match nearest {
                    Some(nearest) => write!(f, "; did you mean {nearest}?"),
                    None => Ok(()),
                }
            }
            Warning::TlsIgnored { name, url, files } => write!(
                f,
                "the scheme of {url} in --{name} is http while --{files} is set: it carries plain \
                 text all the same; write https:// to secure it"
            ),
            Warning::AutoTlsIgnored { name, files } => {
                write!(f, "--{name} is ignored since --{files} is set")
            }
            Warning::PlainText { addresses } => write!(
                f,
                "PLAIN TEXT: {} can be reached from other machines, and whoever listens there reads \
                 all keys, values and passwords; secure it with https:// and --cert-file, --key-file \
                 (--peer-cert-file, --peer-key-file), or see that only trusted machines reach it",
                addresses.join(", ")
            ),
            Warning::LargeQuota { bytes, suggested } => write!(
                f,
                "--quota-backend-bytes={bytes} exceeds the recommended maximum of {suggested} bytes"
            ),
            Warning::LargeRequests { bytes, suggested } => write!(
                f,
                "--max-request-bytes={bytes} exceeds the recommended maximum of {suggested} bytes"
            ),
        }
    }
}
