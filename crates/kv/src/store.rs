//! The state: an ordered map from key to its versions, and the few things beside it.
//!
//! Responsible for what the state is and how single changes alter it. What commands mean is in
//! `apply.rs`, reads in `range.rs`; this file knows neither the log nor the engine's file.
//!
//! Invariants:
//! 1. The revision never falls and grows by at most one for each command, save one that ends several
//!    leases, each of which is a change by itself.
//! 2. `compact_revision <= revision`; no version that a read at or above it needs is forgotten.
//! 3. Whatever changes is also in the open batch.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use crate::auth::{Auth, AuthNote};
use crate::bulk::Bulk;
use crate::command::{Alarm, AlarmKind, Member};
use crate::digest::Digest;
use crate::effects::{Batch, Note};
use crate::engine::Meta;
use crate::history::{History, Lookup};
use crate::interval::Interval;
use crate::keys::Keys;
use crate::lease::Leases;
use crate::record::{Content, Name, Record};
use crate::row::{ROW_KEY_BYTES, Revision, RowView};
use crate::{DeleteRangeResponse, KeyValue};

/// The revision of an empty store: the first change makes 2, as in etcd.
const FIRST_REVISION: i64 = 1;

/// The compacted revision before any compaction, as etcd reports it.
const NEVER_COMPACTED: i64 = -1;

/// The replicated state.
pub(crate) struct Store {
    keys: Keys,
    revision: i64,
    compact_revision: i64,
    bytes: u64,
    alarms: BTreeSet<Alarm>,
    members: BTreeMap<u64, Member>,
    leases: Leases,
    auth: Auth,
    history: History,
    open: Batch,
    /// The revision up to which batches are sealed: what watchers see as the newest.
    sealed: i64,
    interest: Interest,
    /// The last batches of a store without an engine, while somebody watches.
    recent: VecDeque<Arc<Batch>>,
}

/// What watchers want to be kept for them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Interest {
    /// Whether anybody watches.
    pub(crate) events: bool,
    /// Whether anybody wants to see what was replaced.
    pub(crate) replaced: bool,
}

/// How many batches a store without an engine keeps for watchers: enough for one that is woken at once.
/// Whoever is further behind has them made from the rows.
const RECENT_BATCHES_MAX: usize = 1024;

/// The changes of one command.
pub(crate) struct Changes {
    main: i64,
    sub: u32,
    pub(crate) digest: Digest,
}

impl Changes {
    fn next(&mut self) -> Revision {
        let revision = Revision { main: self.main, sub: self.sub };
        self.sub += 1;
        revision
    }

    fn note(&mut self, name: Name, crc: u32) {
        self.digest.mix(name.revision.main as u64);
        self.digest.mix(u64::from(name.revision.sub) << 32 | u64::from(crc));
    }
}

/// A put whose lease and options are settled.
pub(crate) struct Write<'a> {
    pub(crate) key: &'a [u8],
    /// `None` keeps the value.
    pub(crate) value: Option<Bytes>,
    /// `None` keeps the lease.
    pub(crate) lease: Option<i64>,
    pub(crate) prev_kv: bool,
}

impl Store {
    pub(crate) fn new(history: History) -> Store {
        Store {
            keys: Keys::new(),
            revision: FIRST_REVISION,
            compact_revision: NEVER_COMPACTED,
            bytes: 0,
            alarms: BTreeSet::new(),
            members: BTreeMap::new(),
            leases: Leases::default(),
            auth: Auth::default(),
            history,
            open: Batch::default(),
            sealed: FIRST_REVISION,
            interest: Interest::default(),
            recent: VecDeque::new(),
        }
    }

    /// The revision up to which batches are sealed.
    pub(crate) fn sealed(&self) -> i64 {
        self.sealed
    }

    /// Keeps for watchers what they want, from now on.
    pub(crate) fn set_interest(&mut self, interest: Interest) {
        self.interest = interest;
        if !interest.events {
            self.recent.clear();
        }
    }

    /// The sealed batches that are in memory, from the oldest on.
    pub(crate) fn sealed_batches(&self) -> &VecDeque<Arc<Batch>> {
        match &self.history {
            History::Memory(_) => &self.recent,
            History::Engine { queue, .. } => queue,
        }
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    pub(crate) fn revision(&self) -> i64 {
        self.revision
    }

    pub(crate) fn compact_revision(&self) -> i64 {
        self.compact_revision
    }

    pub(crate) fn live(&self) -> u64 {
        self.keys.live()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn alarms(&self) -> &BTreeSet<Alarm> {
        &self.alarms
    }

    pub(crate) fn members(&self) -> &BTreeMap<u64, Member> {
        &self.members
    }

    pub(crate) fn leases(&self) -> &Leases {
        &self.leases
    }

    pub(crate) fn leases_mut(&mut self) -> &mut Leases {
        &mut self.leases
    }

    pub(crate) fn auth(&self) -> &Auth {
        &self.auth
    }

    pub(crate) fn history(&self) -> &History {
        &self.history
    }

    pub(crate) fn history_mut(&mut self) -> &mut History {
        &mut self.history
    }

    pub(crate) fn open(&self) -> &Batch {
        &self.open
    }

    pub(crate) fn open_mut(&mut self) -> &mut Batch {
        &mut self.open
    }

    pub(crate) fn is_raised(&self, kind: AlarmKind) -> bool {
        self.alarms.iter().any(|alarm| alarm.kind == kind)
    }

    /// Finds a superseded version's content.
    pub(crate) fn lookup(&self, revision: Revision) -> Lookup {
        match self.open.content(revision) {
            Some(content) if matches!(self.history, History::Engine { .. }) => {
                Lookup::Here(content)
            }
            _ => self.history.lookup(revision),
        }
    }

    /// Starts a command.
    pub(crate) fn begin(&self) -> Changes {
        Changes { main: self.revision + 1, sub: 0, digest: Digest::new() }
    }

    /// The revision that a reader within the command sees as the newest.
    pub(crate) fn revision_within(&self, changes: &Changes) -> i64 {
        if changes.sub == 0 { self.revision } else { changes.main }
    }

    /// Ends a command: its changes count as one revision.
    pub(crate) fn end(&mut self, changes: &Changes) {
        self.revision = self.revision_within(changes);
    }

    /// Ends a part of a command that counts as a revision by itself.
    pub(crate) fn end_part(&mut self, changes: &mut Changes) {
        self.end(changes);
        (changes.main, changes.sub) = (self.revision + 1, 0);
    }

    /// Writes a key.
    pub(crate) fn put(&mut self, changes: &mut Changes, write: Write<'_>) -> Option<KeyValue> {
        let name = Name { revision: changes.next(), tombstone: false };
        let Write { key, value, lease, prev_kv } = write;
        let Store { keys, open, history, bytes, leases, interest, .. } = self;
        let mut note = |row: &RowView<'_>| {
            let (crc, added) = open.push(name, row);
            changes.note(name, crc);
            *bytes += added;
        };
        let place = match keys.find(key) {
            Ok(place) => place,
            Err(place) => {
                let content = Content {
                    create: name.revision.main,
                    version: 1,
                    value: value.unwrap_or_default(),
                    lease: lease.unwrap_or_default(),
                };
                note(&content.row(key, name));
                let key = Bytes::copy_from_slice(key);
                if content.lease != 0 {
                    leases.moved(&key, 0, content.lease);
                }
                keys.insert(place, key, Record::new(name, content));
                return None;
            }
        };
        let (was, before, holds) = keys.change(place, |record| {
            let was = record.newest();
            let (create, version) = if was.tombstone {
                (name.revision.main, 1)
            } else {
                (record.create(), record.version() + 1)
            };
            let content = Content {
                create,
                version,
                value: value.unwrap_or_else(|| record.value().clone()),
                lease: lease.unwrap_or_else(|| record.lease()),
            };
            let holds = content.lease;
            let before = record.push(name, content);
            note(&record.row(key));
            (was, before, holds)
        });
        if before.lease != holds {
            let (key, _) = keys.get(key).expect("store: the key was just changed");
            leases.moved(key, before.lease, holds);
        }
        if was.tombstone {
            return None;
        }
        history.keep(was.revision, &before);
        if interest.replaced && was.revision.main < name.revision.main {
            open.keep_replaced(was.revision.main, before.clone());
        }
        prev_kv.then(|| before.key_value(Bytes::copy_from_slice(key), was.revision.main))
    }

    /// Deletes the keys of an interval.
    pub(crate) fn delete(
        &mut self,
        changes: &mut Changes,
        interval: Interval<'_>,
        prev_kv: bool,
    ) -> DeleteRangeResponse {
        let mut response = DeleteRangeResponse::default();
        let Some(bounds) = interval.bounds() else {
            return response;
        };
        let Store { keys, open, history, bytes, leases, interest, .. } = self;
        keys.for_each(bounds, |key, record| {
            if !record.is_live() {
                return;
            }
            let was = record.newest();
            let name = Name { revision: changes.next(), tombstone: true };
            let before = record.push(name, Content::default());
            let (crc, added) = open.push(name, &record.row(key));
            changes.note(name, crc);
            *bytes += added;
            if before.lease != 0 {
                leases.detach(key, before.lease);
            }
            history.keep(was.revision, &before);
            // What the same revision has put is not what was there before it.
            if interest.replaced && was.revision.main < name.revision.main {
                open.keep_replaced(was.revision.main, before.clone());
            }
            response.deleted += 1;
            if prev_kv {
                response.prev_kvs.push(before.key_value(key.clone(), was.revision.main));
            }
        });
        response
    }

    /// Takes note of a compaction. Its effect on reads is immediate; memory and engine follow in
    /// slices.
    pub(crate) fn compact_to(&mut self, revision: i64) {
        assert!(self.compact_revision < revision, "store invariant 2");
        assert!(revision <= self.revision, "store invariant 2");
        self.compact_revision = revision;
        self.open.notes.push(Note::Compacted(revision));
    }

    /// Forgets, from `start` on, what a compaction at `revision` does not keep of the next keys,
    /// some `keys_max` of them. Answers the key to go on from, or `None` at the end.
    pub(crate) fn forget(
        &mut self,
        revision: i64,
        start: Option<&Bytes>,
        keys_max: usize,
        removed: &mut Vec<Name>,
    ) -> Option<Bytes> {
        assert!(revision <= self.compact_revision, "store invariant 2");
        let Store { keys, history, bytes, .. } = self;
        keys.sweep(start.map(|key| &key[..]), keys_max, |key, record| {
            let before = removed.len();
            let remainder = record.compact(revision, removed);
            if let History::Memory(contents) = history {
                for name in &removed[before..] {
                    let content = contents.remove(&name.revision).unwrap_or_default();
                    *bytes -= row_bytes(*name, &content.row(key, *name));
                }
            }
            remainder
        })
    }

    /// Ends the open batch and puts it behind those that wait for the engine. Answers the bytes
    /// that wait because of it.
    pub(crate) fn seal(&mut self, applied: u64, record: Bytes) -> u64 {
        let History::Engine { queue, .. } = &mut self.history else {
            unreachable!("store: only an engine's batches are sealed");
        };
        self.open.applied = applied;
        self.open.record = record;
        self.open.revision = self.revision;
        self.open.since = std::mem::replace(&mut self.sealed, self.revision);
        // A batch that the writer or a reader holds is complete and stays as it is.
        if let Some(back) = queue.back_mut().and_then(Arc::get_mut)
            && back.has_room_for(&self.open)
        {
            let before = back.bytes();
            back.join(&mut self.open);
            return (back.bytes() - before) as u64;
        }
        let batch = std::mem::take(&mut self.open);
        let bytes = batch.bytes() as u64;
        queue.push_back(Arc::new(batch));
        bytes
    }

    /// Ends the open batch of a store without an engine. Nobody needs it but watchers.
    pub(crate) fn close(&mut self) {
        self.open.revision = self.revision;
        self.open.since = std::mem::replace(&mut self.sealed, self.revision);
        if !self.interest.events || self.open.since == self.revision {
            self.open.clear();
            return;
        }
        self.recent.push_back(Arc::new(std::mem::take(&mut self.open)));
        if RECENT_BATCHES_MAX < self.recent.len() {
            self.recent.pop_front();
        }
    }

    /// Lets go of the oldest batches, which the engine now holds durably, and of the bytes of rows
    /// that it has removed. The batches are handed out so that they are freed without the lock.
    pub(crate) fn release(&mut self, batches: usize, removed_bytes: u64) -> Vec<Arc<Batch>> {
        self.bytes -= removed_bytes;
        match &mut self.history {
            History::Memory(_) => Vec::new(),
            History::Engine { queue, .. } => queue.drain(..batches).collect(),
        }
    }

    /// Raises an alarm; answers whether it is new.
    pub(crate) fn raise(&mut self, alarm: Alarm) -> bool {
        let new = self.alarms.insert(alarm);
        if new {
            self.open.notes.push(Note::Raised(alarm));
        }
        new
    }

    /// Clears an alarm; answers whether it was raised.
    pub(crate) fn clear(&mut self, alarm: Alarm) -> bool {
        let raised = self.alarms.remove(&alarm);
        if raised {
            self.open.notes.push(Note::Cleared(alarm));
        }
        raised
    }

    /// Takes note of what a member publishes; what is known already is no change.
    pub(crate) fn publish(&mut self, member: Member) {
        if self.members.get(&member.id) == Some(&member) {
            return;
        }
        self.open.notes.push(Note::Member(member.clone()));
        self.members.insert(member.id, member);
    }

    /// Forgets what a member has published; answers whether there was anything.
    pub(crate) fn retract(&mut self, id: u64) -> bool {
        let known = self.members.remove(&id).is_some();
        if known {
            self.open.notes.push(Note::Retracted(id));
        }
        known
    }

    /// Changes a row about users.
    pub(crate) fn change_auth(&mut self, note: AuthNote) {
        self.auth.take(&note);
        self.open.notes.push(Note::Auth(note));
    }

    /// Adds a row read from the engine. Rows come in the order of their revisions; they are in force
    /// only after [`Store::restore_rest`].
    pub(crate) fn restore_row(&mut self, bulk: &mut Bulk, name: Name, row: &RowView<'_>) {
        self.bytes += row_bytes(name, row);
        self.revision = self.revision.max(name.revision.main);
        if let History::Memory(contents) = &mut self.history
            && !name.tombstone
        {
            contents.insert(name.revision, Content::of(row));
        }
        bulk.add(name, row);
        if bulk.is_full() {
            bulk.merge(&mut self.keys);
        }
    }

    /// Adds the last of the rows and what the engine holds beside them.
    ///
    /// # Errors
    /// A key holds this lease, and there is none.
    pub(crate) fn restore_rest(&mut self, mut bulk: Bulk, meta: &Meta) -> Result<(), i64> {
        bulk.merge(&mut self.keys);
        if let History::Memory(contents) = &mut self.history {
            for (_, record) in self.keys.iter() {
                contents.remove(&record.newest().revision);
            }
        }
        if let Some(compacted) = meta.compact_scheduled {
            self.compact_revision = compacted;
            if !canon!(revision_falls_after_a_compaction) {
                self.revision = self.revision.max(compacted);
            }
        }
        self.sealed = self.revision;
        self.members = meta.members.iter().map(|member| (member.id, member.clone())).collect();
        self.alarms = meta.alarms.iter().copied().collect();
        self.leases = Leases::restored(&meta.leases);
        for (key, record) in self.keys.iter() {
            // A deleted key holds none.
            let lease = record.lease();
            if lease != 0 && !self.leases.attach(key.clone(), lease) {
                return Err(lease);
            }
        }
        if !canon!(users_are_forgotten_at_a_restart) {
            self.auth = meta.auth.clone();
        }
        Ok(())
    }
}

/// What a row counts: its key and its message.
pub(crate) fn row_bytes(name: Name, row: &RowView<'_>) -> u64 {
    (ROW_KEY_BYTES + usize::from(name.tombstone) + row.encoded_bytes()) as u64
}
