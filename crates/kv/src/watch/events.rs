//! Events: changes of keys, encoded once for all who watch.
//!
//! Responsible for the bytes of an event, which are those of the field `events` of etcd's
//! `WatchResponse`, tag and length included, so that a response is a head and events as they lie
//! here. The row of a put is the message that an event shows.
//!
//! Invariants:
//! 1. Events ascend by revision, and all events of the revisions covered are there.
//! 2. A put that makes its key shows nothing that it replaced; nor does one where that is compacted.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::OnceLock;

use bytes::Bytes;

use crate::KvError;
use crate::effects::{Batch, Replaced};
use crate::engine::{EngineError, Snapshot};
use crate::history::Lookup;
use crate::range::fetch;
use crate::record::{Content, Found, Name};
use crate::row::{Revision, RowError, RowView, decode_message, put_varint, varint_bytes};
use crate::shared::Shared;

/// The field `events` of a response, with a length.
const EVENTS_TAG: u8 = 11 << 3 | 2;
/// The field `type` of an event, and the value that means a deletion.
const TYPE_DELETE: [u8; 2] = [1 << 3, 1];
/// The field `kv` of an event, with a length.
const KV_TAG: u8 = 2 << 3 | 2;
/// The field `prev_kv` of an event, with a length.
const PREV_KV_TAG: u8 = 3 << 3 | 2;

/// What happened to a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EventKind {
    /// It was written.
    Put,
    /// It was deleted.
    Delete,
}

/// The events of some revisions.
pub struct Events {
    first: i64,
    last: i64,
    entries: Vec<Entry>,
    bytes: Bytes,
    /// What is kept of what was replaced.
    replaced: Vec<Replaced>,
    replaced_bytes: usize,
    /// The same events, with what they replaced.
    full: OnceLock<Full>,
}

struct Entry {
    revision: i64,
    /// Where the event's own message begins, behind its tag and length.
    body: usize,
    key: Range<usize>,
    end: usize,
    kind: EventKind,
    /// Whether the key existed before.
    replaces: bool,
}

struct Full {
    bytes: Bytes,
    ends: Vec<usize>,
}

/// Puts events together.
#[derive(Default)]
pub(super) struct Builder {
    entries: Vec<Entry>,
    bytes: Vec<u8>,
    replaced: Vec<Replaced>,
    replaced_bytes: usize,
}

impl Builder {
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len() + self.replaced_bytes
    }

    pub(super) fn last(&self) -> Option<i64> {
        self.entries.last().map(|entry| entry.revision)
    }

    /// Adds all that a batch has changed behind a revision.
    pub(super) fn batch(&mut self, batch: &Batch, after: i64) {
        let (start, offset) = (batch.place_behind(after), self.entries.len());
        for at in start..batch.len() {
            let (name, message) = batch.message(at);
            self.row(name, message).expect("effects: a row is what it was encoded as");
        }
        for kept in batch.replaced().iter().filter(|kept| start <= kept.at) {
            self.replaced_bytes += kept.content.value.len() + size_of::<Replaced>();
            self.replaced.push(Replaced { at: kept.at - start + offset, ..kept.clone() });
        }
    }

    /// Adds a change as the engine holds it.
    pub(super) fn row(&mut self, name: Name, message: &[u8]) -> Result<(), RowError> {
        let row = decode_message(message)?;
        let revision = name.revision.main;
        assert!(self.last() <= Some(revision), "events invariant 1");
        if name.tombstone {
            // The row of a deletion is its key alone; an event says when.
            let kv = RowView { key: row.key, main: revision, ..RowView::default() };
            let length = kv.encoded_bytes();
            let body = self.begin(TYPE_DELETE.len() + field_bytes(length));
            self.bytes.extend_from_slice(&TYPE_DELETE);
            self.bytes.push(KV_TAG);
            put_varint(&mut self.bytes, length as u64);
            let key = self.key_place(row.key);
            kv.encode(&mut self.bytes);
            self.end(revision, body, key, EventKind::Delete, true);
        } else {
            let body = self.begin(field_bytes(message.len()));
            self.bytes.push(KV_TAG);
            put_varint(&mut self.bytes, message.len() as u64);
            let key = self.key_place(row.key);
            self.bytes.extend_from_slice(message);
            self.end(revision, body, key, EventKind::Put, row.create != revision);
        }
        Ok(())
    }

    fn begin(&mut self, body_bytes: usize) -> usize {
        self.bytes.push(EVENTS_TAG);
        put_varint(&mut self.bytes, body_bytes as u64);
        self.bytes.len()
    }

    /// The key is the first field of the message that is about to be added.
    fn key_place(&self, key: &[u8]) -> Range<usize> {
        let start = self.bytes.len() + 1 + varint_bytes(key.len() as u64);
        start..start + key.len()
    }

    fn end(
        &mut self,
        revision: i64,
        body: usize,
        key: Range<usize>,
        kind: EventKind,
        replaces: bool,
    ) {
        let end = self.bytes.len();
        self.entries.push(Entry { revision, body, key, end, kind, replaces });
    }

    /// The events of the revisions from `first` to `last`.
    pub(super) fn finish(self, first: i64, last: i64) -> Events {
        assert!(first <= last && self.last() <= Some(last), "events invariant 1");
        let Builder { entries, mut bytes, mut replaced, replaced_bytes } = self;
        bytes.shrink_to_fit();
        replaced.shrink_to_fit();
        let (bytes, full) = (Bytes::from(bytes), OnceLock::new());
        Events { first, last, entries, bytes, replaced, replaced_bytes, full }
    }
}

impl Events {
    /// The first revision covered.
    #[must_use]
    pub fn first(&self) -> i64 {
        self.first
    }

    /// The last revision covered.
    #[must_use]
    pub fn last(&self) -> i64 {
        self.last
    }

    /// The number of events.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing happened in the revisions covered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The place of the first event at or behind a revision.
    #[must_use]
    pub fn place_of(&self, revision: i64) -> usize {
        self.entries.partition_point(|entry| entry.revision < revision)
    }

    /// The revision of the event at a place.
    #[must_use]
    pub fn revision(&self, at: usize) -> i64 {
        self.entries[at].revision
    }

    /// The key that the event at a place is about.
    #[must_use]
    pub fn key(&self, at: usize) -> &[u8] {
        &self.bytes[self.entries[at].key.clone()]
    }

    /// What happened to it.
    #[must_use]
    pub fn kind(&self, at: usize) -> EventKind {
        self.entries[at].kind
    }

    /// The memory that this takes, or will once somebody asked for what was replaced.
    pub(super) fn weight(&self) -> usize {
        let full = if self.replaced.is_empty() { 0 } else { self.bytes.len() };
        self.bytes.len() + full + 2 * self.replaced_bytes + self.entries.len() * size_of::<Entry>()
    }

    fn end(&self, at: usize) -> usize {
        at.checked_sub(1).map_or(0, |before| self.entries[before].end)
    }

    /// The bytes of some events that lie together.
    pub(super) fn bytes(&self, places: Range<usize>) -> Bytes {
        self.bytes.slice(self.end(places.start)..self.end(places.end))
    }

    pub(super) fn byte_length(&self, at: usize) -> usize {
        self.end(at + 1) - self.end(at)
    }

    /// The bytes of some events that lie together, with what they replaced; after
    /// [`Events::prepare_full`].
    pub(super) fn full_bytes(&self, places: Range<usize>) -> Bytes {
        let full = self.full.get().expect("events: what was replaced is looked up before");
        full.bytes.slice(full.end(places.start)..full.end(places.end))
    }

    pub(super) fn full_byte_length(&self, at: usize) -> usize {
        let full = self.full.get().expect("events: what was replaced is looked up before");
        full.end(at + 1) - full.end(at)
    }

    /// Sees to it that what the events replaced is there.
    pub(super) fn prepare_full(&self, shared: &Shared) -> Result<(), KvError> {
        if self.full.get().is_some() {
            return Ok(());
        }
        let full = self.with_replaced(self.find_replaced(shared)?);
        // Whoever was quicker has made the same.
        let _ = self.full.set(full);
        Ok(())
    }

    fn with_replaced(&self, replaced: VecDeque<Replaced>) -> Full {
        let (mut ends, mut replaced) = (Vec::with_capacity(self.len()), replaced);
        let mut bytes = Vec::with_capacity(self.weight());
        for (at, entry) in self.entries.iter().enumerate() {
            match replaced.front() {
                Some(before) if before.at == at => {
                    let Replaced { revision, content, .. } = before;
                    let name =
                        Name { revision: Revision { main: *revision, sub: 0 }, tombstone: false };
                    let row = content.row(self.key(at), name);
                    let (body, length) = (&self.bytes[entry.body..entry.end], row.encoded_bytes());
                    bytes.push(EVENTS_TAG);
                    put_varint(&mut bytes, (body.len() + field_bytes(length)) as u64);
                    bytes.extend_from_slice(body);
                    bytes.push(PREV_KV_TAG);
                    put_varint(&mut bytes, length as u64);
                    row.encode(&mut bytes);
                    replaced.pop_front();
                }
                _ => bytes.extend_from_slice(&self.bytes[self.end(at)..entry.end]),
            }
            ends.push(bytes.len());
        }
        Full { bytes: Bytes::from(bytes), ends }
    }

    /// What the events replaced: as it was kept, or else from the store.
    fn find_replaced(&self, shared: &Shared) -> Result<VecDeque<Replaced>, KvError> {
        let mut kept = self.replaced.iter().peekable();
        let mut found = VecDeque::new();
        let mut pending: Vec<(usize, Revision)> = Vec::new();
        let mut snapshot: Option<Box<dyn Snapshot>> = None;
        {
            let view = shared.read();
            let store = view.store();
            for (at, entry) in self.entries.iter().enumerate() {
                if kept.peek().is_some_and(|kept| kept.at == at) {
                    found.extend(kept.next().cloned());
                    continue;
                }
                // Invariant 2.
                if !entry.replaces || entry.revision <= store.compact_revision() {
                    continue;
                }
                let Some((_, record)) = store.keys().get(self.key(at)) else { continue };
                let (revision, content) = match record.find(entry.revision - 1) {
                    None => continue,
                    Some(Found::Newest(record)) => (record.newest().revision, record.content()),
                    Some(Found::Older(revision)) => match store.lookup(revision) {
                        Lookup::Here(content) => (revision, content),
                        Lookup::Engine => {
                            pending.push((found.len(), revision));
                            (revision, Content::default())
                        }
                    },
                };
                found.push_back(Replaced { at, revision: revision.main, content });
            }
            if !pending.is_empty() {
                let taken = store.history().snapshot();
                snapshot = Some(taken.map_err(|error| shared.fail(error))?);
            }
        }
        if let Some(snapshot) = snapshot {
            fetch_all(snapshot.as_ref(), &pending, &mut found)
                .map_err(|error| shared.fail(error))?;
        }
        Ok(found)
    }
}

fn fetch_all(
    snapshot: &dyn Snapshot,
    pending: &[(usize, Revision)],
    found: &mut VecDeque<Replaced>,
) -> Result<(), EngineError> {
    for (at, revision) in pending {
        found[*at].content = fetch(snapshot, *revision)?;
    }
    Ok(())
}

impl Full {
    fn end(&self, at: usize) -> usize {
        at.checked_sub(1).map_or(0, |before| self.ends[before])
    }
}

/// What a field with a length takes.
fn field_bytes(length: usize) -> usize {
    1 + varint_bytes(length as u64) + length
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Events({}..={}: {})", self.first, self.last, self.entries.len())
    }
}
