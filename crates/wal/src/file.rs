//! The real disk: `std::fs`, and the system calls that it does not wrap.
//!
//! Responsible for: one folder with the rights of its owner alone, one owner process (a lock file,
//! held by `flock` for as long as a handle lives), vectored writes, `fdatasync`.

use std::fs;
use std::io::{self, IoSlice, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FlockOperation;

use crate::disk::{Disk, File};
use crate::error::OpenError;

const LOCK_NAME: &str = "lock";

/// The most slices one system call takes (`IOV_MAX` of Linux).
const SLICES_MAX: usize = 1024;

/// A folder on a real disk. Clones share its lock, so that a background thread can have a handle.
#[derive(Clone, Debug)]
pub struct FileDisk {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    directory: fs::File,
    /// Held, not used: closing it releases the lock. `None` when the folder is only looked at.
    lock: Option<fs::File>,
}

/// An open file on a real disk.
#[derive(Debug)]
pub struct FileDiskFile {
    file: fs::File,
}

impl FileDisk {
    /// Opens the folder, makes it (and what is above it) if need be, and takes its lock.
    ///
    /// # Errors
    /// [`OpenError::Locked`] if another process owns it; [`OpenError::Io`] if the disk fails.
    pub fn open(path: impl AsRef<Path>) -> Result<FileDisk, OpenError> {
        let path = path.as_ref();
        make_directory(path)?;
        let lock = lock(path)?;
        let directory = fs::File::open(path)?;
        directory.sync_all()?;
        let inner = Inner { path: path.to_path_buf(), directory, lock: Some(lock) };
        Ok(FileDisk { inner: Arc::new(inner) })
    }

    /// Opens the folder to look at it: nothing is made, locked or changed, and a process may own
    /// it at the same time. Every write fails.
    ///
    /// # Errors
    /// If there is no such folder, or the disk fails.
    pub fn read_only(path: impl AsRef<Path>) -> io::Result<FileDisk> {
        let path = path.as_ref();
        let directory = fs::File::open(path)?;
        let inner = Inner { path: path.to_path_buf(), directory, lock: None };
        Ok(FileDisk { inner: Arc::new(inner) })
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    fn at(&self, name: &str) -> PathBuf {
        self.inner.path.join(name)
    }

    /// Refuses a change through a handle that only looks.
    fn writable(&self) -> io::Result<()> {
        match self.inner.lock {
            Some(_) => Ok(()),
            None => Err(io::ErrorKind::PermissionDenied.into()),
        }
    }
}

/// Makes the folder and what is above it, each name durable in the folder above.
fn make_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    make_directory(parent)?;
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    fs::File::open(parent)?.sync_all()
}

/// Takes the folder's lock and writes this process's id into it, for others to read.
fn lock(path: &Path) -> Result<fs::File, OpenError> {
    let mut file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path.join(LOCK_NAME))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = String::new();
            let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            return Err(OpenError::Locked { directory: path.to_path_buf(), pid });
        }
        Err(error) => return Err(OpenError::Io(error.into())),
    }
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
}

impl Disk for FileDisk {
    type File = FileDiskFile;

    fn create(&self, name: &str) -> io::Result<FileDiskFile> {
        self.writable()?;
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(self.at(name))?;
        Ok(FileDiskFile { file })
    }

    fn open(&self, name: &str) -> io::Result<FileDiskFile> {
        let write = self.inner.lock.is_some();
        let file = fs::OpenOptions::new().read(true).write(write).open(self.at(name))?;
        Ok(FileDiskFile { file })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.writable()?;
        fs::rename(self.at(from), self.at(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.writable()?;
        fs::remove_file(self.at(name))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.inner.path)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != LOCK_NAME {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.inner.directory.sync_all()
    }
}

impl File for FileDiskFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write_at(&self, offset: u64, slices: &[&[u8]]) -> io::Result<()> {
        let mut at = offset;
        let mut slices: Vec<IoSlice<'_>> = slices.iter().map(|slice| IoSlice::new(slice)).collect();
        let mut rest = &mut slices[..];
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let some = &rest[..rest.len().min(SLICES_MAX)];
            let written = match rustix::io::pwritev(&self.file, some, at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => written,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            at += written as u64;
            IoSlice::advance_slices(&mut rest, written);
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fdatasync(&self.file)?)
    }
}
