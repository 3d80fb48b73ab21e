//! How a command can fail, and the exit status that says so.

use std::fmt;

use jangada_bench::BenchError;
use jangada_server::config::ConfigError;

/// Why a command did not do what it was asked, as a sentence.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line is wrong; exit status 2.
    Usage(String),
    /// It could not be done; exit status 1.
    Failed(String),
    /// It could not be done and everything is told already; exit status 1.
    Told,
}

impl Failure {
    /// The process's exit status.
    pub(crate) fn exit_status(&self) -> u8 {
        match self {
            Failure::Usage(_) => 2,
            Failure::Failed(_) | Failure::Told => 1,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(sentence) | Failure::Failed(sentence) => f.write_str(sentence),
            Failure::Told => Ok(()),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        if error.is_usage() {
            return Failure::Usage(error.to_string());
        }
        Failure::Failed(error.to_string())
    }
}

impl From<BenchError> for Failure {
    fn from(error: BenchError) -> Failure {
        match error {
            BenchError::Option { problem } => Failure::Usage(problem),
            error => Failure::Failed(error.to_string()),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::Failed(format!("the output cannot be written: {error}"))
    }
}
