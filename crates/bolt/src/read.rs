//! Walks a file that anybody may have written.
//!
//! Responsible for what can be wrong with pages: every number is held against the file before it is
//! used, and the walk ends, whatever the pages say. Not responsible for what entries mean.
//!
//! Invariants:
//! 1. No more is read, and no more memory is taken, than the file has bytes.
//! 2. No page is looked at twice and no byte belongs to two entries, so that a walk is no longer than the
//!    file.
//! 3. The keys of a bucket ascend.

use std::io;
use std::ops::Range;

use crate::format::{
    BRANCH, BUCKET_BYTES, ELEMENT_BYTES, IS_BUCKET, LEAF, META, META_BYTES, Meta,
    PAGE_HEADER_BYTES, u16_at, u32_at, u64_at,
};

/// The smallest and the largest page that is believed: what file systems have as theirs.
const PAGE_SIZES: std::ops::RangeInclusive<u32> = 512..=1 << 16;

/// The deepest tree that is believed: with two entries to a page it would fill any disk.
const DEPTH_MAX: usize = 48;

/// Where the bytes of a file come from.
pub trait Source {
    /// Fills `out` with the bytes from `offset` on.
    ///
    /// # Errors
    /// They cannot be read, or the file ends before.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;
}

impl Source for [u8] {
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).ok();
        let range = start.and_then(|start| Some(start..start.checked_add(out.len())?));
        let bytes = range.and_then(|range| self.get(range));
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

impl Source for std::fs::File {
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, out, offset)
    }
}

/// Why a file cannot be read.
#[derive(Debug)]
pub enum ReadError {
    /// Reading failed.
    Io(io::Error),
    /// Neither of the first pages is a sound meta page.
    NoDatabase,
    /// A page is not what it must be.
    Page {
        /// Its number.
        id: u64,
        /// What is wrong with it.
        what: &'static str,
    },
}

impl std::fmt::Display for ReadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ReadError::Io(error) => write!(f, "the file cannot be read: {error}"),
            ReadError::NoDatabase => write!(
                f,
                "the file is no database of etcd's: neither of its first two pages is sound; give a \
                 file that 'snapshot save' has written"
            ),
            ReadError::Page { id, what } => {
                write!(
                    f,
                    "page {id} of the file is damaged ({what}); take another copy of the file"
                )
            }
        }
    }
}

impl std::error::Error for ReadError {}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> ReadError {
        ReadError::Io(error)
    }
}

/// Why a walk ended early.
#[derive(Debug)]
pub enum WalkError<E> {
    /// The file cannot be read.
    Read(ReadError),
    /// The visitor's own error.
    Visit(E),
}

impl<E> From<ReadError> for WalkError<E> {
    fn from(error: ReadError) -> WalkError<E> {
        WalkError::Read(error)
    }
}

/// What a walk comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Item<'a> {
    /// A bucket begins; its entries follow.
    Bucket(&'a [u8]),
    /// An entry of the bucket that began last.
    Entry {
        /// The key.
        key: &'a [u8],
        /// The value.
        value: &'a [u8],
    },
}

/// A file that is open for reading.
pub struct Reader<'s, S: ?Sized> {
    source: &'s S,
    length: u64,
    meta: Meta,
}

impl<'s, S: Source + ?Sized> Reader<'s, S> {
    /// Opens a file of so many bytes.
    ///
    /// # Errors
    /// It is no database, or cannot be read.
    pub fn open(source: &'s S, length: u64) -> Result<Reader<'s, S>, ReadError> {
        let meta_at = |offset: u64| -> Result<Option<Meta>, ReadError> {
            let end = offset + (PAGE_HEADER_BYTES + META_BYTES) as u64;
            if length < end {
                return Ok(None);
            }
            let mut bytes = [0; PAGE_HEADER_BYTES + META_BYTES];
            source.read_at(offset, &mut bytes)?;
            let body = bytes[PAGE_HEADER_BYTES..].try_into().expect("that many");
            let sizes = |meta: &Meta| {
                meta.page_bytes.is_power_of_two() && PAGE_SIZES.contains(&meta.page_bytes)
            };
            Ok(Meta::decode(body).filter(sizes).filter(|_| u16_at(&bytes, 8) == META))
        };
        // If the first one is damaged nobody knows where the second stands.
        let first = meta_at(0)?;
        let mut sizes: Vec<u32> = first.iter().map(|meta| meta.page_bytes).collect();
        if sizes.is_empty() {
            sizes.extend((9..=16).map(|bits| 1_u32 << bits));
        }
        let mut newest = first;
        for size in sizes {
            let second = meta_at(u64::from(size))?.filter(|meta| meta.page_bytes == size);
            if let Some(second) = second
                && newest.is_none_or(|newest| newest.transaction < second.transaction)
            {
                newest = Some(second);
            }
        }
        let meta = newest.ok_or(ReadError::NoDatabase)?;
        Ok(Reader { source, length, meta })
    }

    /// The bytes of all pages in use or free: the file may be longer.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.meta.pages.saturating_mul(u64::from(self.meta.page_bytes))
    }

    /// Goes through all buckets and their entries, in order.
    ///
    /// # Errors
    /// The file is damaged, or `visit` fails.
    pub fn walk<E>(
        &self,
        visit: &mut dyn FnMut(Item<'_>) -> Result<(), E>,
    ) -> Result<(), WalkError<E>> {
        let pages = self.meta.pages.min(self.length / u64::from(self.meta.page_bytes));
        let words = usize::try_from(pages.div_ceil(64)).unwrap_or(usize::MAX);
        let mut walk = Walk { reader: self, seen: vec![0; words], pages, visit };
        walk.tree(self.meta.root, &mut Level::Buckets { last: None }, 0)
    }
}

/// Whether a tree holds buckets or entries; and the key that came last.
enum Level {
    Buckets { last: Option<Vec<u8>> },
    Entries { last: Option<Vec<u8>> },
}

struct Walk<'w, 's, S: ?Sized, E> {
    reader: &'w Reader<'s, S>,
    /// A bit for each page that was looked at.
    seen: Vec<u64>,
    pages: u64,
    visit: &'w mut dyn FnMut(Item<'_>) -> Result<(), E>,
}

impl<S: Source + ?Sized, E> Walk<'_, '_, S, E> {
    fn tree(&mut self, id: u64, level: &mut Level, depth: usize) -> Result<(), WalkError<E>> {
        let bad = |what| WalkError::from(ReadError::Page { id, what });
        if DEPTH_MAX < depth {
            return Err(bad("it lies too deep in its tree"));
        }
        let page = self.page(id)?;
        match u16_at(&page, 8) {
            LEAF => self.leaf(id, &page, level, depth),
            BRANCH => {
                for element in elements(&page).map_err(bad)? {
                    self.tree(u64_at(element, 8), level, depth + 1)?;
                }
                Ok(())
            }
            _ => Err(bad("it is neither a branch nor a leaf")),
        }
    }

    fn leaf(
        &mut self,
        id: u64,
        page: &[u8],
        level: &mut Level,
        depth: usize,
    ) -> Result<(), WalkError<E>> {
        let bad = |what| WalkError::from(ReadError::Page { id, what });
        let mut free = PAGE_HEADER_BYTES + usize::from(u16_at(page, 10)) * ELEMENT_BYTES;
        for (place, element) in elements(page).map_err(bad)?.enumerate() {
            let at = PAGE_HEADER_BYTES + place * ELEMENT_BYTES;
            let is_bucket = u32_at(element, 0) & IS_BUCKET != 0;
            let (key, value) = key_and_value(page, at, element).map_err(bad)?;
            // Otherwise a file could hold far more than it has bytes.
            if key.start < free {
                return Err(bad("its entries overlap"));
            }
            free = value.end;
            let (key, value) = (&page[key], &page[value]);
            let (Level::Buckets { last } | Level::Entries { last }) = &mut *level;
            if last.as_deref().is_some_and(|last| key <= last) {
                return Err(bad("its keys do not ascend")); // read invariant 3
            }
            let last = last.get_or_insert_default();
            last.clear();
            last.extend_from_slice(key);
            match level {
                Level::Buckets { .. } if is_bucket => {
                    (self.visit)(Item::Bucket(key)).map_err(WalkError::Visit)?;
                    self.bucket(id, value, depth)?;
                }
                Level::Entries { .. } if !is_bucket => {
                    (self.visit)(Item::Entry { key, value }).map_err(WalkError::Visit)?;
                }
                Level::Buckets { .. } => return Err(bad("it holds an entry outside of buckets")),
                Level::Entries { .. } => return Err(bad("it holds a bucket within a bucket")),
            }
        }
        Ok(())
    }

    fn bucket(&mut self, id: u64, value: &[u8], depth: usize) -> Result<(), WalkError<E>> {
        let bad = |what| WalkError::from(ReadError::Page { id, what });
        let (head, page) =
            value.split_at_checked(BUCKET_BYTES).ok_or_else(|| bad("a bucket is cut short"))?;
        let mut entries = Level::Entries { last: None };
        match u64_at(head, 0) {
            0 if page.len() < PAGE_HEADER_BYTES || u16_at(page, 8) != LEAF => {
                Err(bad("a bucket within it is no leaf"))
            }
            0 => self.leaf(id, page, &mut entries, depth),
            root => self.tree(root, &mut entries, depth + 1),
        }
    }

    /// Reads a page, with those that it goes on in.
    fn page(&mut self, id: u64) -> Result<Vec<u8>, ReadError> {
        let bad = |what| ReadError::Page { id, what };
        if self.pages <= id {
            return Err(bad("it lies behind the end of the file"));
        }
        let (word, bit) = ((id / 64) as usize, 1 << (id % 64));
        if self.seen[word] & bit != 0 {
            return Err(bad("it stands in two places of a tree")); // read invariant 2
        }
        self.seen[word] |= bit;
        let Reader { source, meta, .. } = self.reader;
        let size = meta.page_bytes as usize;
        let offset = id * u64::from(meta.page_bytes);
        let mut page = vec![0; size];
        source.read_at(offset, &mut page)?;
        if u64_at(&page, 0) != id {
            return Err(bad("it bears another number"));
        }
        let more = u64::from(u32_at(&page, 12));
        if self.pages - id <= more {
            return Err(bad("it goes on behind the end of the file")); // read invariant 1
        }
        // No overflow: so many bytes are in the file.
        page.resize(size * (more as usize + 1), 0);
        source.read_at(offset + size as u64, &mut page[size..])?;
        Ok(page)
    }
}

/// The elements of a page.
fn elements(page: &[u8]) -> Result<impl Iterator<Item = &[u8]>, &'static str> {
    let bytes = usize::from(u16_at(page, 10)) * ELEMENT_BYTES;
    let all = page.get(PAGE_HEADER_BYTES..PAGE_HEADER_BYTES + bytes);
    Ok(all.ok_or("it counts more elements than it has room for")?.chunks_exact(ELEMENT_BYTES))
}

/// Where the key and the value of a leaf's element stand in the page; the element stands at `at`.
fn key_and_value(
    page: &[u8],
    at: usize,
    element: &[u8],
) -> Result<(Range<usize>, Range<usize>), &'static str> {
    let [position, key, value] = [4, 8, 12].map(|at| u64::from(u32_at(element, at)));
    let start = at as u64 + position;
    let (middle, end) = (start + key, start + key + value);
    if (page.len() as u64) < end {
        return Err("an entry ends behind it");
    }
    // They lie within the page.
    let [start, middle, end] = [start, middle, end].map(|place| place as usize);
    Ok((start..middle, middle..end))
}
