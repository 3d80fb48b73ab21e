//! A file in memory. What was not synced is lost when a copy is taken as after a crash.

use std::io;
use std::sync::{Arc, Mutex};

use jangada_kv::StorageBackend;

#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    file: Arc<Mutex<File>>,
}

#[derive(Debug, Default)]
struct File {
    bytes: Vec<u8>,
    synced: Vec<u8>,
    /// The file may not grow beyond this.
    bytes_max: Option<u64>,
}

impl Disk {
    pub(crate) fn of(bytes: Vec<u8>) -> Disk {
        let file = File { synced: bytes.clone(), bytes, ..File::default() };
        Disk { file: Arc::new(Mutex::new(file)) }
    }

    /// The file as a crash would leave it.
    pub(crate) fn crashed(&self) -> Disk {
        Disk::of(self.file.lock().expect("no test panics with the lock").synced.clone())
    }

    pub(crate) fn set_bytes_max(&self, bytes_max: Option<u64>) {
        self.file.lock().expect("no test panics with the lock").bytes_max = bytes_max;
    }

    /// Flips a bit wherever these bytes stand.
    pub(crate) fn damage(&self, bytes: &[u8]) {
        let mut file = self.file.lock().expect("no test panics with the lock");
        let mut at = 0;
        while let Some(end) = file.bytes.get(at..at + bytes.len()) {
            if end == bytes {
                file.bytes[at] ^= 1;
                at += bytes.len();
            } else {
                at += 1;
            }
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.file.lock().expect("no test panics with the lock").bytes.clone()
    }

    pub(crate) fn backend(&self) -> Option<Box<dyn StorageBackend>> {
        Some(Box::new(self.clone()))
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.lock().expect("no test panics with the lock").bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let file = self.file.lock().expect("no test panics with the lock");
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let bytes = file.bytes.get(start..start + out.len());
        out.copy_from_slice(bytes.ok_or_else(|| io::Error::other("read past the end"))?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut file = self.file.lock().expect("no test panics with the lock");
        if file.bytes_max.is_some_and(|bytes_max| bytes_max < len) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.bytes.resize(usize::try_from(len).map_err(io::Error::other)?, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut file = self.file.lock().expect("no test panics with the lock");
        file.synced = file.bytes.clone();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut file = self.file.lock().expect("no test panics with the lock");
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        file.bytes[start..start + data.len()].copy_from_slice(data);
        Ok(())
    }
}
