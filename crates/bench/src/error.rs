//! Why a benchmark could not be carried out.

use std::fmt;
use std::path::PathBuf;

/// Each variant's [`fmt::Display`] is a sentence.
#[derive(Debug)]
pub enum BenchError {
    /// An option that makes no sense.
    Option {
        /// Which and why.
        problem: String,
    },
    /// None of the endpoints answers.
    Unreachable {
        /// The last endpoint tried.
        endpoint: String,
        /// What went wrong there.
        problem: String,
    },
    /// The cluster names no leader, so nothing can be killed.
    NoLeader,
    /// The process to kill is not there, or is not ours to kill.
    Process {
        /// Its id.
        pid: u32,
        /// What the system said.
        problem: String,
    },
    /// The file that `jangada dev` leaves in its folder cannot be used.
    ClusterFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A floor could not be measured.
    Floor {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        error: std::io::Error,
    },
    /// No write was acknowledged before the leader was to be killed.
    NothingAcknowledged,
    /// The cluster took no write again within the time allowed.
    NotBack {
        /// How long it was given.
        seconds: u64,
    },
}

impl fmt::Display for BenchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BenchError::Option { problem } => f.write_str(problem),
            BenchError::Unreachable { endpoint, problem } => write!(
                f,
                "no endpoint answers; the last one tried, {endpoint}, said: {problem}; check that \
                 the cluster runs and what --endpoints names"
            ),
            BenchError::NoLeader => write!(
                f,
                "no member says who leads, so there is no leader to kill; wait for an election, or \
                 name the process with --pid"
            ),
            BenchError::Process { pid, problem } => write!(
                f,
                "the process {pid} cannot be killed ({problem}); name the leader's process with \
                 --pid"
            ),
            BenchError::ClusterFile { path, problem } => write!(
                f,
                "{} cannot be used ({problem}); start a cluster with 'jangada dev', or name the \
                 leader's process with --pid",
                path.display()
            ),
            BenchError::Floor { what, error } => {
                write!(f, "the floor ({what}) cannot be measured: {error}")
            }
            BenchError::NothingAcknowledged => write!(
                f,
                "no write was acknowledged before the kill, so nothing was killed; check the \
                 cluster with 'jangada status'"
            ),
            BenchError::NotBack { seconds } => write!(
                f,
                "no write was acknowledged for {seconds} s after the kill; a cluster needs a \
                 majority of its members to go on, see 'jangada status'"
            ),
        }
    }
}

impl std::error::Error for BenchError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            BenchError::Floor { error, .. } => Some(error),
            _ => None,
        }
    }
}
