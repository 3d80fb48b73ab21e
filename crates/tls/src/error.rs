//! What can be wrong with files and settings of TLS.

use std::path::{Path, PathBuf};

/// Why TLS cannot be set up. Each one's [`std::fmt::Display`] is a sentence that says what to do.
#[derive(Debug)]
pub enum TlsError {
    /// A file cannot be read or written.
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A file does not hold what it should.
    Content {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A setting has a value that it cannot have.
    Setting(String),
    /// Certificate and key do not go together, or none of the versions and suites remains.
    Refused(String),
}

impl TlsError {
    pub(crate) fn content(
        path: &Path,
        expected: &'static str,
        problem: impl std::fmt::Display,
    ) -> TlsError {
        TlsError::Content { path: path.to_owned(), expected, problem: problem.to_string() }
    }
}

impl std::fmt::Display for TlsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TlsError::File { path, error } => {
                write!(
                    f,
                    "{} cannot be used: {error}; check the path and its rights",
                    path.display()
                )
            }
            TlsError::Content { path, expected, problem } => {
                write!(f, "{} does not hold {expected}: {problem}", path.display())
            }
            TlsError::Setting(sentence) | TlsError::Refused(sentence) => f.write_str(sentence),
        }
    }
}

impl std::error::Error for TlsError {}
