//! The file that `jangada dev` leaves in its folder: which processes it started, and where.
//!
//! It is the folder's marker as well: a folder without it was not made by `jangada dev`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::BenchError;

/// The file's name.
pub const NAME: &str = "jangada-dev.json";

/// All members.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ClusterFile {
    /// The process that started the members.
    pub pid: u32,
    /// In the order of their ports.
    pub members: Vec<DevMember>,
}

/// One member.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DevMember {
    /// Its name.
    pub name: String,
    /// Its process.
    pub pid: u32,
    /// `host:port` for clients.
    pub endpoint: String,
    /// `host:port` for the other members.
    pub peer: String,
}

impl ClusterFile {
    /// Where the file is in a folder.
    #[must_use]
    pub fn path(folder: &Path) -> PathBuf {
        folder.join(NAME)
    }

    /// Reads the file of a folder.
    ///
    /// # Errors
    ///
    /// [`BenchError::ClusterFile`].
    pub fn read(folder: &Path) -> Result<ClusterFile, BenchError> {
        let path = ClusterFile::path(folder);
        let text = std::fs::read(&path).map_err(|error| error.to_string());
        text.and_then(|text| serde_json::from_slice(&text).map_err(|error| error.to_string()))
            .map_err(|problem| BenchError::ClusterFile { path, problem })
    }

    /// Writes the file of a folder in one step, so that nobody reads half of it.
    ///
    /// # Errors
    ///
    /// [`BenchError::ClusterFile`].
    pub fn write(&self, folder: &Path) -> Result<(), BenchError> {
        let path = ClusterFile::path(folder);
        let beside = path.with_extension("json.new");
        let text = serde_json::to_vec_pretty(self).expect("names and numbers are always JSON");
        std::fs::write(&beside, text)
            .and_then(|()| std::fs::rename(&beside, &path))
            .map_err(|error| BenchError::ClusterFile { path, problem: error.to_string() })
    }

    /// The endpoints of all members.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|member| member.endpoint.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let member = DevMember {
            name: "m1".to_owned(),
            pid: 7,
            endpoint: "127.0.0.1:2379".to_owned(),
            peer: "127.0.0.1:2380".to_owned(),
        };
        let file = ClusterFile { pid: 6, members: vec![member] };
        file.write(folder.path()).expect("a writable directory");
        assert_eq!(ClusterFile::read(folder.path()).expect("it is there"), file);
        assert_eq!(file.endpoints(), ["127.0.0.1:2379"]);
    }

    #[test]
    fn a_folder_without_the_file_gets_a_sentence() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let error = ClusterFile::read(folder.path()).expect_err("there is none").to_string();
        assert!(error.contains("start a cluster with 'jangada dev'"), "{error}");
    }
}
