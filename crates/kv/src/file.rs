//! The engine's file on a real disk.

use std::path::{Path, PathBuf};

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

/// Sets a damaged file aside, for someone to look at, so that a new one can be opened in its place.
/// Another that was set aside before is replaced. Answers where it is.
///
/// # Errors
/// The file cannot be renamed, or its folder not be synced.
pub fn set_aside(path: &Path) -> std::io::Result<PathBuf> {
    let aside = path.with_extension("damaged");
    std::fs::rename(path, &aside)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    std::fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(aside)
}
