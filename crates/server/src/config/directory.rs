//! Makes the directories a member writes to.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::Config;
use super::error::ConfigError;

/// Nobody but the owner reads a member's data.
const MODE: u32 = 0o700;

impl Config {
    /// Makes the data directory and the log's directory, with mode 0700, unless they are there.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Directory`], also when etcd's own data is found there: nothing is written
    /// into it.
    pub fn create_directories(&self) -> Result<(), ConfigError> {
        if self.data_dir.join("member").join("snap").exists() {
            return Err(ConfigError::Directory {
                name: "data-dir",
                path: self.data_dir.clone(),
                problem: "it holds the data of an etcd, which cannot be taken over in place; \
                          take a snapshot of it and restore that ('jangada snapshot --help')"
                    .to_owned(),
            });
        }
        create("data-dir", &self.data_dir)?;
        create("wal-dir", &self.wal_dir)
    }
}

fn create(name: &'static str, path: &Path) -> Result<(), ConfigError> {
    let unusable = |problem| ConfigError::Directory { name, path: path.to_owned(), problem };
    DirBuilder::new()
        .recursive(true)
        .mode(MODE)
        .create(path)
        .map_err(|error| unusable(format!("{error}; check the path and its permissions")))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use crate::config::config_tests::config;

    #[test]
    fn directories_are_private() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let data = folder.path().join("a").join("data");
        let config = config(&format!("--data-dir {}", data.display())).expect("a good line");
        config.create_directories().expect("the directory can be made");
        config.create_directories().expect("it may exist already");
        for path in [&config.data_dir, &config.wal_dir] {
            let mode = path.metadata().expect("it exists").permissions().mode();
            assert_eq!(mode & 0o777, 0o700);
        }
    }

    #[test]
    fn the_data_of_an_etcd_is_left_alone() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir_all(folder.path().join("member/snap")).expect("a directory");
        let line = format!("--data-dir {}", folder.path().display());
        let config = config(&line).expect("a good line");
        let error = config.create_directories().expect_err("etcd's data").to_string();
        assert!(error.contains("holds the data of an etcd"), "{error}");
        assert!(!config.wal_dir.exists());
    }
}
