//! Effect batches: what a run of commands changed, ready for the engine.
//!
//! Responsible for collecting the rows of a batch in the form in which the engine stores them, one
//! behind the other in one buffer, so that a put costs one copy and no allocation of its own. The
//! engine, the running hash, the logical size and reads of values that memory has let go feed on
//! this alone.
//!
//! Invariants:
//! 1. Rows ascend by revision, within a batch and from batch to batch.
//! 2. A batch names the last log index whose effects it holds, and holds all of them.
//! 3. A batch holds whole revisions: all changes above the one it begins behind, up to its last.

use bytes::Bytes;

use crate::auth::AuthNote;
use crate::command::{Alarm, Member};
use crate::lease::Lease;
use crate::record::{Content, Name};
use crate::row::{ROW_CRC_BYTES, Revision, RowKey, RowView, decode_message};

/// Small batches are joined until they hold this many bytes, so that a lone client does not leave a
/// trail of tiny buffers. Small, because the engine takes a batch whole and only once the log holds
/// its last entry durably.
const JOIN_BYTES_MAX: usize = 64 << 10;

/// What a batch does beside rows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Note {
    /// A member's name and client URLs.
    Member(Member),
    /// A member's name and client URLs are forgotten.
    Retracted(u64),
    /// An alarm is raised.
    Raised(Alarm),
    /// An alarm is cleared.
    Cleared(Alarm),
    /// A compaction is due up to this revision.
    Compacted(i64),
    /// A lease is there, as it stands.
    Lease(Lease),
    /// The lease of this id is gone.
    LeaseGone(i64),
    /// A row about users changes.
    Auth(AuthNote),
}

/// The effects of consecutive log entries.
#[derive(Clone, Debug, Default)]
pub(crate) struct Batch {
    /// The last log index covered.
    pub(crate) applied: u64,
    /// The node's record as of that index.
    pub(crate) record: Bytes,
    /// The store's revision as of that index.
    pub(crate) revision: i64,
    /// The store's revision before the batch.
    pub(crate) since: i64,
    rows: Vec<u8>,
    entries: Vec<Entry>,
    pub(crate) notes: Vec<Note>,
    /// What the rows have replaced, while somebody watches who wants to see it.
    replaced: Vec<Replaced>,
    replaced_bytes: usize,
}

/// The content that a row has taken the place of.
#[derive(Clone, Debug)]
pub(crate) struct Replaced {
    /// The row's place in its batch.
    pub(crate) at: usize,
    /// The revision of what was replaced.
    pub(crate) revision: i64,
    /// What it was.
    pub(crate) content: Content,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    name: Name,
    /// One past the row's last byte.
    end: usize,
}

impl Batch {
    /// Adds a row and returns its checksum and the bytes it counts.
    pub(crate) fn push(&mut self, name: Name, row: &RowView<'_>) -> (u32, u64) {
        if let Some(last) = self.entries.last() {
            assert!(last.name.revision < name.revision, "effects invariant 1");
        }
        let start = self.rows.len();
        let row_key = RowKey::new(name.revision, name.tombstone);
        let crc = row.encode_sealed(&row_key, &mut self.rows);
        self.entries.push(Entry { name, end: self.rows.len() });
        let message = self.rows.len() - start - ROW_CRC_BYTES;
        (crc, (row_key.as_bytes().len() + message) as u64)
    }

    /// The bytes that the batch occupies, roughly. The node's record is not among them: there is one
    /// in a batch however many batches were joined, and the next may be shorter than the one before,
    /// while a batch that is joined never gets smaller.
    pub(crate) fn bytes(&self) -> usize {
        self.rows.len()
            + self.entries.len() * size_of::<Entry>()
            + self.notes.len() * size_of::<Note>()
            + self.replaced_bytes
    }

    /// Keeps what the row added last has replaced.
    pub(crate) fn keep_replaced(&mut self, revision: i64, content: Content) {
        let at = self.entries.len().checked_sub(1).expect("effects: a row was added");
        self.replaced_bytes += content.value.len() + size_of::<Replaced>();
        self.replaced.push(Replaced { at, revision, content });
    }

    /// What the rows have replaced, as far as it is kept, from the first row on.
    pub(crate) fn replaced(&self) -> &[Replaced] {
        &self.replaced
    }

    /// The place of the first row behind a revision.
    pub(crate) fn place_behind(&self, revision: i64) -> usize {
        self.entries.partition_point(|entry| entry.name.revision.main <= revision)
    }

    /// A row's name and message.
    pub(crate) fn message(&self, at: usize) -> (Name, &[u8]) {
        let (_, sealed) = self.row(at);
        (self.entries[at].name, &sealed[..sealed.len() - ROW_CRC_BYTES])
    }

    /// The number of rows.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// A row's key and sealed value.
    pub(crate) fn row(&self, at: usize) -> (RowKey, &[u8]) {
        let start = if at == 0 { 0 } else { self.entries[at - 1].end };
        let Entry { name, end } = self.entries[at];
        (RowKey::new(name.revision, name.tombstone), &self.rows[start..end])
    }

    /// Where the batch ends among revisions. One without rows ends where the store stood.
    pub(crate) fn end(&self) -> Revision {
        let end = Revision { main: self.revision, sub: u32::MAX };
        self.entries.last().map_or(end, |entry| entry.name.revision)
    }

    /// What the version of this name contains, if it is in this batch.
    pub(crate) fn content(&self, revision: Revision) -> Option<Content> {
        let at = self.entries.binary_search_by_key(&revision, |entry| entry.name.revision).ok()?;
        let (_, sealed) = self.row(at);
        let message = &sealed[..sealed.len() - ROW_CRC_BYTES];
        let row = decode_message(message).expect("effects: a row is what it was encoded as");
        Some(Content::of(&row))
    }

    /// Whether another batch still fits behind this one.
    pub(crate) fn has_room_for(&self, next: &Batch) -> bool {
        self.bytes() + next.bytes() <= JOIN_BYTES_MAX
    }

    /// Puts another batch behind this one and leaves it empty.
    pub(crate) fn join(&mut self, next: &mut Batch) {
        assert!(self.applied <= next.applied, "effects invariant 2");
        assert!(self.revision == next.since, "effects invariant 3");
        let (offset, count) = (self.rows.len(), self.entries.len());
        self.replaced
            .extend(next.replaced.drain(..).map(|kept| Replaced { at: kept.at + count, ..kept }));
        self.replaced_bytes += std::mem::take(&mut next.replaced_bytes);
        self.rows.append(&mut next.rows);
        self.entries
            .extend(next.entries.drain(..).map(|entry| Entry { end: entry.end + offset, ..entry }));
        self.notes.append(&mut next.notes);
        self.applied = next.applied;
        self.revision = next.revision;
        self.record = std::mem::take(&mut next.record);
    }

    /// The leases that change, in order; `None` for one that is gone.
    pub(crate) fn leases(&self) -> Vec<(i64, Option<Lease>)> {
        let leases = self.notes.iter().filter_map(|note| match note {
            Note::Lease(lease) => Some((lease.name.id, Some(*lease))),
            Note::LeaseGone(id) => Some((*id, None)),
            _ => None,
        });
        leases.collect()
    }

    /// The last compaction in the batch.
    pub(crate) fn compacted(&self) -> Option<i64> {
        self.notes.iter().rev().find_map(|note| match note {
            Note::Compacted(revision) => Some(*revision),
            _ => None,
        })
    }

    /// Empties the batch; its buffers stay.
    pub(crate) fn clear(&mut self) {
        self.rows.clear();
        self.entries.clear();
        self.notes.clear();
        self.replaced.clear();
        self.replaced_bytes = 0;
    }
}

impl Content {
    /// What a row contains, in memory of its own.
    pub(crate) fn of(row: &RowView<'_>) -> Content {
        Content {
            create: row.create,
            version: row.version,
            value: Bytes::copy_from_slice(row.value),
            lease: row.lease,
        }
    }
}
