//! Reading the engine's file while nothing can be written to it.
//!
//! Responsible for what a command needs that reads an old version while the engine waits for space.
//! An engine that failed to write gives nothing more out, and opening it anew writes. Here it is
//! opened with all writes kept in memory: the file stays as it is, and what was durable is read.
//!
//! Invariants:
//! 1. The file is not written.
//! 2. Nothing is read from the file once this is closed: whoever writes it again may use its pages
//!    anew.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use redb::StorageBackend;

/// What is kept of a write is kept in blocks of this size: the engine's pages are no smaller.
const BLOCK_BYTES: u64 = 4096;

/// The most blocks that are kept. Opening writes a header and the allocator's tables, some pages for
/// each gigabyte.
const BLOCKS_MAX: usize = 16 << 10;

/// A file with changes that are in memory alone.
pub(crate) struct Aside {
    file: Arc<dyn StorageBackend>,
    open: RwLock<bool>,
    changes: Mutex<Changes>,
}

struct Changes {
    length: u64,
    /// By number; each of [`BLOCK_BYTES`].
    blocks: BTreeMap<u64, Vec<u8>>,
}

impl Aside {
    pub(crate) fn new(file: Arc<dyn StorageBackend>) -> io::Result<Aside> {
        let changes = Changes { length: file.len()?, blocks: BTreeMap::new() };
        Ok(Aside { file, open: RwLock::new(true), changes: Mutex::new(changes) })
    }

    /// Reads from the file, zeros behind its end (invariant 2).
    fn read_file(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        if !*open {
            return Err(closed());
        }
        let there = self.file.len()?.saturating_sub(offset);
        let there = usize::try_from(there).map_or(out.len(), |there| there.min(out.len()));
        let (inside, behind) = out.split_at_mut(there);
        behind.fill(0);
        if inside.is_empty() { Ok(()) } else { self.file.read(offset, inside) }
    }
}

/// An error that says what [`is_closed`] recognises.
fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the file is read elsewhere again")
}

/// Whether a read failed because the file is read elsewhere again.
pub(crate) fn is_closed(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotConnected
}

/// The parts of a range that lie in one block each: the block, where the part begins within it, and
/// where it lies in the range.
fn parts(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == length {
            return None;
        }
        let at = offset + done as u64;
        let within = (at % BLOCK_BYTES) as usize;
        let end = length.min(done + BLOCK_BYTES as usize - within);
        let part = (at / BLOCK_BYTES, within, done..end);
        done = end;
        Some(part)
    })
}

impl fmt::Debug for Aside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aside").field("file", &self.file).finish_non_exhaustive()
    }
}

impl StorageBackend for Aside {
    fn len(&self) -> io::Result<u64> {
        Ok(self.changes.lock().unwrap_or_else(PoisonError::into_inner).length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.read_file(offset, out)?;
        let changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        if changes.blocks.is_empty() {
            return Ok(());
        }
        for (number, within, part) in parts(offset, out.len()) {
            if let Some(block) = changes.blocks.get(&number) {
                out[part.clone()].copy_from_slice(&block[within..within + part.len()]);
            }
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).length = length;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    /// Invariant 1.
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        for (number, within, part) in parts(offset, data.len()) {
            if !changes.blocks.contains_key(&number) {
                if changes.blocks.len() == BLOCKS_MAX {
                    return Err(io::Error::other("reading the store writes more than it should"));
                }
                let mut block = vec![0; BLOCK_BYTES as usize];
                self.read_file(number * BLOCK_BYTES, &mut block)?;
                changes.blocks.insert(number, block);
            }
            let block = changes.blocks.get_mut(&number).expect("aside: the block was just added");
            block[within..within + part.len()].copy_from_slice(&data[part]);
        }
        Ok(())
    }

    /// Waits for reads that are under way (invariant 2).
    fn close(&self) -> io::Result<()> {
        *self.open.write().unwrap_or_else(PoisonError::into_inner) = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;

    #[test]
    fn writes_are_read_back_and_the_file_stays() {
        let file: Arc<dyn StorageBackend> = Arc::new(InMemoryBackend::new());
        file.set_len(10_000).expect("memory has room");
        file.write(0, &[1; 10_000]).expect("memory has room");
        let aside = Aside::new(Arc::clone(&file)).expect("memory can be read");
        aside.set_len(20_000).expect("nothing is set in the file");
        aside.write(4_000, &[2; 5_000]).expect("memory has room");
        aside.write(9_990, &[3; 20]).expect("memory has room");
        let mut found = vec![9; 20_000];
        aside.read(0, &mut found).expect("it can be read");
        let expected = [vec![1; 4_000], vec![2; 5_000], vec![1; 990], vec![3; 20], vec![0; 9_990]];
        assert_eq!(found, expected.concat());
        assert_eq!((aside.len().ok(), file.len().ok()), (Some(20_000), Some(10_000)));
        file.read(0, &mut found[..10_000]).expect("memory can be read");
        assert_eq!(found[..10_000], vec![1; 10_000]);
        aside.close().expect("nothing to close");
        let error = aside.read(0, &mut [0]).expect_err("it is closed");
        assert!(is_closed(&error), "{error}");
    }
}
