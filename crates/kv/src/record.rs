//! The versions of one key in memory.
//!
//! Responsible for finding the version of a key at a revision, and for staying small: the newest
//! version lies here whole, of an older one only its name, twelve bytes. What an older version
//! contains stands elsewhere (see `history.rs`).
//!
//! Invariants:
//! 1. Revisions ascend from the oldest to the newest.
//! 2. A tombstone has neither value nor version, create revision or lease.

use bytes::Bytes;

use crate::KeyValue;
use crate::row::{Revision, RowView};

/// Sub-revisions lie below this; the bit above marks a tombstone.
pub(crate) const SUB_END: u32 = 1 << 31;

/// What a version contains, its name apart.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Content {
    pub(crate) create: i64,
    pub(crate) version: i64,
    pub(crate) value: Bytes,
    pub(crate) lease: i64,
}

/// The name of a version and whether it is a deletion.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Name {
    pub(crate) revision: Revision,
    pub(crate) tombstone: bool,
}

/// One key's versions.
#[derive(Debug)]
pub(crate) struct Record {
    main: i64,
    create: i64,
    version: i64,
    value: Bytes,
    /// What most keys do not have.
    rare: Option<Box<Rare>>,
    /// The sub-revision and the tombstone bit.
    sub: u32,
}

#[derive(Debug, Default)]
struct Rare {
    lease: i64,
    /// From the oldest on.
    older: Vec<Packed>,
}

/// A [`Name`] in twelve bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Packed([u32; 3]);

/// A version that a record found.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Found<'a> {
    /// The newest one, which lies in memory.
    Newest(&'a Record),
    /// An older one, which must be looked up.
    Older(Revision),
}

impl Packed {
    fn new(name: Name) -> Packed {
        let main = name.revision.main as u64;
        Packed([(main >> 32) as u32, main as u32, pack_sub(name)])
    }

    fn main(self) -> i64 {
        (u64::from(self.0[0]) << 32 | u64::from(self.0[1])) as i64
    }

    fn name(self) -> Name {
        unpack(self.main(), self.0[2])
    }
}

fn pack_sub(name: Name) -> u32 {
    assert!(name.revision.sub < SUB_END, "record: a revision has fewer than 2^31 changes");
    name.revision.sub | if name.tombstone { SUB_END } else { 0 }
}

fn unpack(main: i64, sub: u32) -> Name {
    Name { revision: Revision { main, sub: sub & !SUB_END }, tombstone: sub & SUB_END != 0 }
}

impl Record {
    /// A key with one version.
    pub(crate) fn new(name: Name, content: Content) -> Record {
        let mut record =
            Record { main: 0, create: 0, version: 0, value: Bytes::new(), rare: None, sub: 0 };
        record.replace(name, content);
        record
    }

    /// The newest version's name.
    pub(crate) fn newest(&self) -> Name {
        unpack(self.main, self.sub)
    }

    /// Whether the key exists at the newest revision.
    pub(crate) fn is_live(&self) -> bool {
        self.sub & SUB_END == 0
    }

    pub(crate) fn create(&self) -> i64 {
        self.create
    }

    pub(crate) fn version(&self) -> i64 {
        self.version
    }

    pub(crate) fn value(&self) -> &Bytes {
        &self.value
    }

    pub(crate) fn lease(&self) -> i64 {
        self.rare.as_ref().map_or(0, |rare| rare.lease)
    }

    /// The newest version's content.
    pub(crate) fn content(&self) -> Content {
        Content {
            create: self.create,
            version: self.version,
            value: self.value.clone(),
            lease: self.lease(),
        }
    }

    /// Adds a version and returns the content of the one that was the newest.
    pub(crate) fn push(&mut self, name: Name, content: Content) -> Content {
        let newest = self.newest();
        assert!(newest.revision < name.revision, "record invariant 1");
        let rare = self.rare.get_or_insert_default();
        rare.older.push(Packed::new(newest));
        self.replace(name, content)
    }

    /// Adds the versions of `later`, all of them newer than those here.
    pub(crate) fn append(&mut self, mut later: Record) {
        let newest = self.newest();
        let first = later.names().next().expect("record: there is a newest version");
        assert!(newest.revision < first.revision, "record invariant 1");
        let mut rare = self.rare.take().unwrap_or_default();
        rare.older.push(Packed::new(newest));
        let of_later = later.rare.take().unwrap_or_default();
        rare.older.extend(of_later.older);
        rare.lease = of_later.lease;
        *self = Record { rare: Some(rare), ..later };
    }

    fn replace(&mut self, name: Name, content: Content) -> Content {
        let bare = content.create == 0 && content.version == 0 && content.lease == 0;
        assert!(!name.tombstone || (bare && content.value.is_empty()), "record invariant 2");
        let before = Content {
            create: self.create,
            version: self.version,
            lease: self.lease(),
            value: std::mem::replace(&mut self.value, content.value),
        };
        self.main = name.revision.main;
        self.sub = pack_sub(name);
        self.create = content.create;
        self.version = content.version;
        if content.lease != 0 || self.rare.is_some() {
            self.rare.get_or_insert_default().lease = content.lease;
        }
        before
    }

    /// The version that is in force at a revision: `None` if the key does not exist then.
    pub(crate) fn find(&self, revision: i64) -> Option<Found<'_>> {
        if self.main <= revision {
            return self.is_live().then_some(Found::Newest(self));
        }
        let older = &self.rare.as_ref()?.older;
        let end = older.partition_point(|packed| packed.main() <= revision);
        let name = older.get(end.checked_sub(1)?)?.name();
        (!name.tombstone).then_some(Found::Older(name.revision))
    }

    /// The names of all versions, from the oldest on.
    pub(crate) fn names(&self) -> impl Iterator<Item = Name> + '_ {
        let older = self.rare.as_ref().map_or(&[][..], |rare| &rare.older);
        older.iter().map(|packed| packed.name()).chain(std::iter::once(self.newest()))
    }

    /// The version that a compaction at `revision` keeps of those at or before it: the newest, but
    /// a deletion only if it stands exactly there.
    pub(crate) fn kept(&self, revision: i64) -> Option<Name> {
        let name = self.names().take_while(|name| name.revision.main <= revision).last()?;
        let there = name.revision.main == revision && !canon!(revision_falls_after_a_compaction);
        (!name.tombstone || there).then_some(name)
    }

    /// Forgets what a compaction at `revision` does not keep and reports each of it. Answers
    /// whether nothing is left of the key.
    ///
    /// What stands exactly at the revision stays until the next compaction, also where the same
    /// transaction has replaced it: a watcher may begin there and is to be told of it.
    pub(crate) fn compact(&mut self, revision: i64, removed: &mut Vec<Name>) -> Remainder {
        if self.rare.is_none() && self.is_live() {
            return Remainder::Some;
        }
        let off = i64::from(canon!(compaction_is_off_by_one));
        let kept = self.kept(revision - off);
        let all = off == 1 || canon!(revision_falls_after_a_compaction);
        let last = revision - i64::from(!all);
        let goes = |name: Name| name.revision.main <= last && Some(name) != kept;
        if goes(self.newest()) {
            removed.extend(self.names());
            return Remainder::Nothing;
        }
        if let Some(rare) = &mut self.rare {
            let end = rare.older.partition_point(|packed| goes(packed.name()));
            removed.extend(rare.older.drain(..end).map(Packed::name));
            if end > 0 {
                rare.older.shrink_to_fit();
            }
            if rare.older.is_empty() && rare.lease == 0 {
                self.rare = None;
            }
        }
        Remainder::Some
    }

    /// The newest version as a row's message.
    pub(crate) fn row<'a>(&'a self, key: &'a [u8]) -> RowView<'a> {
        row_view(key, self.newest(), self.create, self.version, &self.value, self.lease())
    }

    /// The newest version as an answer.
    pub(crate) fn key_value(&self, key: &Bytes) -> KeyValue {
        KeyValue {
            key: key.clone(),
            create_revision: self.create,
            mod_revision: self.main,
            version: self.version,
            value: self.value.clone(),
            lease: self.lease(),
        }
    }
}

/// What a compaction leaves of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Remainder {
    /// At least one version.
    Some,
    /// No version: the key is to be forgotten.
    Nothing,
}

impl Content {
    /// This content as a row's message.
    pub(crate) fn row<'a>(&'a self, key: &'a [u8], name: Name) -> RowView<'a> {
        row_view(key, name, self.create, self.version, &self.value, self.lease)
    }

    /// This content as an answer.
    pub(crate) fn key_value(self, key: Bytes, main: i64) -> KeyValue {
        KeyValue {
            key,
            create_revision: self.create,
            mod_revision: main,
            version: self.version,
            value: self.value,
            lease: self.lease,
        }
    }
}

/// A deletion's message holds the key alone, as etcd's does.
fn row_view<'a>(
    key: &'a [u8],
    name: Name,
    create: i64,
    version: i64,
    value: &'a [u8],
    lease: i64,
) -> RowView<'a> {
    let main = if name.tombstone { 0 } else { name.revision.main };
    RowView { key, create, main, version, value, lease }
}
