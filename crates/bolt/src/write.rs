//! Makes a file, front to back.
//!
//! Responsible for the trees: entries come in order, so a page is full once and never looked at again;
//! it goes out, and its first key goes to the page above, which is treated alike. What is held in memory
//! is a page for each level (a longer one where an entry is longer than a page).
//!
//! The first pages name the root and the number of pages, which are known last. So the content is gone
//! through twice: [`plan`] counts, [`write()`] writes. Both must be given the same content.
//!
//! Invariants:
//! 1. Buckets ascend by name, and the entries of a bucket by key.
//! 2. Every page is in use: the list of free pages is empty.
//! 3. The second run makes as many pages as the first.

use crate::format::{
    BRANCH, BUCKET_BYTES, ELEMENT_BYTES, FREELIST, IS_BUCKET, LEAF, META, Meta, PAGE_BYTES,
    PAGE_HEADER_BYTES, page_header,
};

/// The pages before the trees: two metas and the list of free pages.
const FIRST_PAGES: u64 = 3;

/// A bucket that is not larger is kept in its parent's page, as bbolt keeps it.
const INLINE_BYTES_MAX: usize = PAGE_BYTES / 4;

/// What a file will be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    root: u64,
    pages: u64,
}

impl Plan {
    /// The length of the file, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.pages * PAGE_BYTES as u64
    }
}

/// Goes through the content and counts.
///
/// # Errors
/// Those of `content`.
///
/// # Panics
/// If names or keys do not ascend (write invariant 1).
pub fn plan<E>(content: impl FnOnce(&mut Content<'_, E>) -> Result<(), E>) -> Result<Plan, E> {
    let mut discard = |_: &[u8]| Ok(());
    run(&mut discard, content)
}

/// Writes a file: `out` is given its bytes in pieces of whole pages, front to back.
///
/// # Errors
/// Those of `out` and `content`.
///
/// # Panics
/// If names or keys do not ascend (write invariant 1), or the content is not that of the plan (3).
pub fn write<E>(
    plan: &Plan,
    out: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    content: impl FnOnce(&mut Content<'_, E>) -> Result<(), E>,
) -> Result<(), E> {
    for transaction in 0..2 {
        let meta = Meta {
            page_bytes: PAGE_BYTES as u32,
            root: plan.root,
            freelist: 2,
            pages: plan.pages,
            transaction,
        };
        out(&page(&page_header(transaction, META, 0, 0), &meta.encode()))?;
    }
    out(&page(&page_header(2, FREELIST, 0, 0), &[]))?; // write invariant 2
    let written = run(out, content)?;
    assert!(written == *plan, "write invariant 3");
    Ok(())
}

fn page(header: &[u8], body: &[u8]) -> Vec<u8> {
    let mut page = [header, body].concat();
    page.resize(PAGE_BYTES, 0);
    page
}

fn run<E>(
    out: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    content: impl FnOnce(&mut Content<'_, E>) -> Result<(), E>,
) -> Result<Plan, E> {
    let pages = Pages { out, next: FIRST_PAGES };
    let mut trees = Content { pages, root: Tree::default(), bucket: None };
    content(&mut trees)?;
    trees.end_bucket()?;
    let root = trees.root.finish(&mut trees.pages)?;
    Ok(Plan { root, pages: trees.pages.next })
}

/// Takes the content of a file.
pub struct Content<'o, E> {
    pages: Pages<'o, E>,
    root: Tree,
    bucket: Option<(Vec<u8>, Tree)>,
}

impl<E> Content<'_, E> {
    /// Begins a bucket.
    ///
    /// # Errors
    /// Those of whoever takes the bytes.
    ///
    /// # Panics
    /// If its name does not follow the one before (write invariant 1).
    pub fn bucket(&mut self, name: &[u8]) -> Result<(), E> {
        self.end_bucket()?;
        self.bucket = Some((name.to_vec(), Tree::default()));
        Ok(())
    }

    /// Adds an entry to the bucket.
    ///
    /// # Errors
    /// Those of whoever takes the bytes.
    ///
    /// # Panics
    /// If there is no bucket, or the key does not follow the one before (write invariant 1).
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), E> {
        let (_, tree) = self.bucket.as_mut().expect("an entry belongs to a bucket");
        tree.push(&mut self.pages, Element { flags: 0, key, value })
    }

    fn end_bucket(&mut self) -> Result<(), E> {
        let Some((name, tree)) = self.bucket.take() else { return Ok(()) };
        let value = match tree.inline() {
            Some(page) => [[0; BUCKET_BYTES].as_slice(), &page].concat(),
            None => {
                let root = tree.finish(&mut self.pages)?;
                [root.to_le_bytes(), 0_u64.to_le_bytes()].concat()
            }
        };
        let element = Element { flags: IS_BUCKET, key: &name, value: &value };
        self.root.push(&mut self.pages, element)
    }
}

/// Numbers pages and sends them out.
struct Pages<'o, E> {
    out: &'o mut dyn FnMut(&[u8]) -> Result<(), E>,
    next: u64,
}

impl<E> Pages<'_, E> {
    /// Sends a page out and answers its number.
    fn add(&mut self, open: &mut OpenPage, kind: u16) -> Result<u64, E> {
        let id = self.next;
        let bytes = open.take(id, kind);
        self.next += (bytes.len() / PAGE_BYTES) as u64;
        (self.out)(&bytes)?;
        Ok(id)
    }
}

#[derive(Clone, Copy)]
struct Element<'a> {
    flags: u32,
    key: &'a [u8],
    value: &'a [u8],
}

/// A tree that grows at its right edge.
#[derive(Default)]
struct Tree {
    /// The page that is being filled on each level, the leaf first.
    levels: Vec<OpenPage>,
    last_key: Option<Vec<u8>>,
}

impl Tree {
    fn push<E>(&mut self, pages: &mut Pages<'_, E>, element: Element<'_>) -> Result<(), E> {
        let follows = self.last_key.as_deref().is_none_or(|last| last < element.key);
        assert!(follows, "write invariant 1");
        let last = self.last_key.get_or_insert_default();
        last.clear();
        last.extend_from_slice(element.key);
        if self.levels.is_empty() {
            self.levels.push(OpenPage::default());
        }
        if !self.levels[0].has_room_for(element.key.len() + element.value.len()) {
            self.raise(pages, 0)?;
        }
        let Element { flags, key, value } = element;
        let words = [flags, 0, length_of(key.len()), length_of(value.len())];
        self.levels[0].add(key, value, words);
        Ok(())
    }

    /// Sends out the page of a level and names it in the one above.
    fn raise<E>(&mut self, pages: &mut Pages<'_, E>, level: usize) -> Result<(), E> {
        let kind = if level == 0 { LEAF } else { BRANCH };
        let first = self.levels[level].first_key.clone();
        let id = pages.add(&mut self.levels[level], kind)?;
        let above = level + 1;
        if self.levels.len() == above {
            self.levels.push(OpenPage::default());
        }
        if !self.levels[above].has_room_for(first.len()) {
            self.raise(pages, above)?;
        }
        self.levels[above].children += 1;
        self.levels[above].last_child = id;
        let words = [0, length_of(first.len()), id as u32, (id >> 32) as u32];
        self.levels[above].add(&first, &[], words);
        Ok(())
    }

    /// Sends out what is left and answers the root's number.
    fn finish<E>(mut self, pages: &mut Pages<'_, E>) -> Result<u64, E> {
        if self.levels.is_empty() {
            return pages.add(&mut OpenPage::default(), LEAF);
        }
        let mut level = 0;
        // The tree may grow by a level on the way.
        while level + 1 < self.levels.len() {
            self.raise(pages, level)?;
            level += 1;
        }
        let top = &mut self.levels[level];
        match (level, top.children) {
            (0, _) => pages.add(top, LEAF),
            // One page alone needs none above it.
            (_, 1) => Ok(top.last_child),
            _ => pages.add(top, BRANCH),
        }
    }

    /// The only page of a tree that is small enough to be kept in its parent.
    fn inline(&self) -> Option<Vec<u8>> {
        match self.levels.as_slice() {
            [] => Some(page_header(0, LEAF, 0, 0).to_vec()),
            [leaf] if leaf.bytes() <= INLINE_BYTES_MAX => Some(leaf.encode(0, LEAF)),
            _ => None,
        }
    }
}

/// A page that is being filled.
#[derive(Default)]
struct OpenPage {
    /// Where the key of each element stands among the data, and the element's words but for the
    /// position, which is known when the page is full.
    elements: Vec<(usize, [u32; 4])>,
    data: Vec<u8>,
    first_key: Vec<u8>,
    /// Of a branch: how many pages it names, and which it names last.
    children: usize,
    last_child: u64,
}

impl OpenPage {
    fn bytes(&self) -> usize {
        PAGE_HEADER_BYTES + self.elements.len() * ELEMENT_BYTES + self.data.len()
    }

    /// Whether an element with so many bytes of key and value goes in. One that is longer than a page
    /// stands alone.
    fn has_room_for(&self, bytes: usize) -> bool {
        self.elements.is_empty() || self.bytes() + ELEMENT_BYTES + bytes <= PAGE_BYTES
    }

    fn add(&mut self, key: &[u8], value: &[u8], words: [u32; 4]) {
        if self.elements.is_empty() {
            self.first_key = key.to_vec();
        }
        self.elements.push((self.data.len(), words));
        self.data.extend_from_slice(key);
        self.data.extend_from_slice(value);
    }

    fn encode(&self, id: u64, kind: u16) -> Vec<u8> {
        let pages = self.bytes().div_ceil(PAGE_BYTES);
        let overflow = length_of(pages - 1);
        let count = u16::try_from(self.elements.len()).expect("a page has room for 255");
        let mut bytes = Vec::with_capacity(pages * PAGE_BYTES);
        bytes.extend_from_slice(&page_header(id, kind, count, overflow));
        let data_at = PAGE_HEADER_BYTES + self.elements.len() * ELEMENT_BYTES;
        for (offset, element) in &self.elements {
            let mut words = *element;
            words[usize::from(kind == LEAF)] = length_of(data_at + offset - bytes.len());
            words.iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
        }
        bytes.extend_from_slice(&self.data);
        bytes
    }

    /// The whole page, and an empty one in its place.
    fn take(&mut self, id: u64, kind: u16) -> Vec<u8> {
        let mut bytes = self.encode(id, kind);
        bytes.resize(bytes.len().div_ceil(PAGE_BYTES) * PAGE_BYTES, 0);
        *self = OpenPage::default();
        bytes
    }
}

fn length_of(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("an entry is far shorter than 4 GiB")
}
