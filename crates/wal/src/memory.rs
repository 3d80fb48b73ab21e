//! A disk in memory: for members that live in one process and keep nothing, and for tests. What is
//! written stays for as long as a handle to the disk exists; every sync succeeds and does nothing.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use crate::disk::{Disk, File};

type Contents = Arc<Mutex<Vec<u8>>>;

/// A folder in memory. Clones share it.
#[derive(Clone, Default, Debug)]
pub struct MemoryDisk {
    files: Arc<Mutex<BTreeMap<String, Contents>>>,
}

/// An open file in memory.
#[derive(Clone, Debug)]
pub struct MemoryFile {
    contents: Contents,
}

/// The guarded value. A panic elsewhere leaves it whole, since every change is one statement.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryDisk {
    /// An empty folder.
    #[must_use]
    pub fn new() -> MemoryDisk {
        MemoryDisk::default()
    }

    /// A copy of the folder that shares nothing with it: what a backup would hold.
    #[must_use]
    pub fn snapshot(&self) -> MemoryDisk {
        let copy = |contents: &Contents| Arc::new(Mutex::new(lock(contents).clone()));
        let files = lock(&self.files).iter().map(|(name, c)| (name.clone(), copy(c))).collect();
        MemoryDisk { files: Arc::new(Mutex::new(files)) }
    }
}

impl Disk for MemoryDisk {
    type File = MemoryFile;

    fn create(&self, name: &str) -> io::Result<MemoryFile> {
        let mut files = lock(&self.files);
        if files.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let contents = Contents::default();
        files.insert(name.to_string(), Arc::clone(&contents));
        Ok(MemoryFile { contents })
    }

    fn open(&self, name: &str) -> io::Result<MemoryFile> {
        let files = lock(&self.files);
        let contents = files.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(MemoryFile { contents: Arc::clone(contents) })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = lock(&self.files);
        let contents = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_string(), contents);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        lock(&self.files).remove(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(lock(&self.files).keys().cloned().collect())
    }

    fn sync_directory(&self) -> io::Result<()> {
        Ok(())
    }
}

impl File for MemoryFile {
    fn length(&self) -> io::Result<u64> {
        Ok(lock(&self.contents).len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let contents = lock(&self.contents);
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let end = start.checked_add(buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        let bytes = contents.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn write_at(&self, offset: u64, slices: &[&[u8]]) -> io::Result<()> {
        let mut contents = lock(&self.contents);
        let mut at = usize::try_from(offset).map_err(io::Error::other)?;
        for slice in slices {
            let end = at.checked_add(slice.len()).ok_or(io::ErrorKind::InvalidInput)?;
            if contents.len() < end {
                contents.resize(end, 0);
            }
            contents[at..end].copy_from_slice(slice);
            at = end;
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
