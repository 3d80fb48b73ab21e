//! The engine's file on a real disk.

use std::path::Path;

use redb::StorageBackend;
use redb::backends::FileBackend;

/// Opens the engine's file, or makes it, with access for its owner alone.
///
/// # Errors
/// The file cannot be opened, or another process has it open.
pub fn open_file(path: &Path) -> std::io::Result<Box<dyn StorageBackend>> {
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let backend = FileBackend::new(options.open(path)?).map_err(std::io::Error::other)?;
    Ok(Box::new(backend))
}
