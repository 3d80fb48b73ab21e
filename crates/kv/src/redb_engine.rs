//! The engine: redb behind the border of `engine.rs`.
//!
//! Tables (`docs/store-format.md`): `key` holds etcd's rows, `meta`, `members`, `alarm`, `lease`
//! and `auth` what stands beside them. Only durable commits. Opening reads every page and compares its checksum;
//! quick repair keeps what it takes to do so without rebuilding anything after a crash.

use std::fmt;
use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{BufMut, Bytes, BytesMut};
use redb::{
    CommitError, CursorError, Database, DatabaseError, Durability, ReadTransaction,
    ReadableDatabase, ReadableTable, StorageBackend, StorageError, TableDefinition, TableError,
    TransactionError, WriteTransaction,
};

use crate::aside::{Aside, is_closed};
use crate::auth::{Auth, AuthNote};
use crate::command::{Alarm, AlarmKind, Member, decode_member, member_body};
use crate::engine::{
    Engine, EngineError, Meta, Next, Removed, Snapshot, Table, Transaction, Visit,
};
use crate::guard::{Guarded, guarded};
use crate::lease::{Lease, LeaseName};
use crate::row::{ROW_CRC_BYTES, RowKey};
use crate::tally::Tally;

/// The version of the tables and their contents.
pub(crate) const FORMAT_VERSION: u64 = 1;

/// The engine's page cache. Small: current values are read from memory, and rows are appended at
/// the end of their table, so a few pages are hot. Measured with 500,000 puts: 8 MiB are as fast as
/// 32 and leave 30 MiB of memory to others.
const CACHE_BYTES: usize = 8 << 20;

const KEY: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("key");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const MEMBERS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("members");
/// The rows of a state that comes from another member, until it is whole.
const STAGED: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("staged");
/// The rows that such a state has replaced, until they are dropped.
const REPLACED: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("replaced");
/// Alarm kind and member.
const ALARM: TableDefinition<'_, (u8, u64), ()> = TableDefinition::new("alarm");

/// Leases by id.
const LEASE: TableDefinition<'_, i64, &[u8]> = TableDefinition::new("lease");
/// Users, roles and their settings.
const AUTH: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("auth");

const META_FORMAT: &str = "format";
const META_COMMITS: &str = "commits";
const META_APPLIED: &str = "applied_index";
const META_RECORD: &str = "record";
const META_REVISION: &str = "revision";
const META_SCHEDULED: &str = "scheduled_compact_revision";
const META_FINISHED: &str = "finished_compact_revision";
const META_ROWS: &str = "rows";
const META_ROWS_SUM: &str = "rows_sum";

/// The engine over one file.
pub(crate) struct RedbEngine {
    database: Guarded<Database>,
    file: Arc<dyn StorageBackend>,
    size: Arc<AtomicU64>,
    access: Access,
}

/// What may be done with the engine.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Write,
    Read,
}

/// A backend of any kind, with its size kept where it can be read without asking.
struct Sized {
    backend: Arc<dyn StorageBackend>,
    size: Arc<AtomicU64>,
}

struct RedbSnapshot(Guarded<ReadTransaction>);

struct RedbTransaction(Guarded<WriteTransaction>);

impl RedbEngine {
    /// Opens the file, or makes a new one in an empty backend.
    pub(crate) fn open(file: Arc<dyn StorageBackend>) -> Result<RedbEngine, EngineError> {
        guarded(|| {
            let size = Arc::new(AtomicU64::new(file.len().map_err(|error| io_error(&error))?));
            let backend = Sized { backend: Arc::clone(&file), size: Arc::clone(&size) };
            let mut database = database(backend)?;
            // A page that a disk has put elsewhere leaves an older one in its place, which is sound
            // by itself: only the checksums in the pages above it tell. A commit in two phases is
            // never taken back, so damage to one is an error.
            database.check_integrity().map_err(database_error)?;
            let engine = RedbEngine { database, file, size, access: Access::Write };
            engine.prepare()?;
            Ok(engine)
        })
    }

    /// Opens the file for reading alone; it is not written.
    pub(crate) fn open_aside(file: Arc<dyn StorageBackend>) -> Result<RedbEngine, EngineError> {
        guarded(|| {
            let size = Arc::new(AtomicU64::new(file.len().map_err(|error| io_error(&error))?));
            let backend = Aside::new(Arc::clone(&file)).map_err(|error| io_error(&error))?;
            Ok(RedbEngine { database: database(backend)?, file, size, access: Access::Read })
        })
    }

    /// Makes the tables of a new file; checks the format of an old one, and drops what is left there
    /// of a state that was being staged: nobody knows how to go on with it.
    fn prepare(&self) -> Result<(), EngineError> {
        let transaction = self.begin_write()?;
        {
            let mut meta = transaction.open_table(META).map_err(table_error)?;
            let version = number(&meta, META_FORMAT)?;
            match version {
                Some(FORMAT_VERSION) => {
                    drop(meta);
                    if drop_staged(&transaction)? {
                        transaction.commit().map_err(commit_error)?;
                    }
                    return Ok(());
                }
                Some(other) => return Err(EngineError::Format(other)),
                None => {}
            }
            transaction.open_table(KEY).map_err(table_error)?;
            transaction.open_table(MEMBERS).map_err(table_error)?;
            transaction.open_table(ALARM).map_err(table_error)?;
            transaction.open_table(LEASE).map_err(table_error)?;
            transaction.open_table(AUTH).map_err(table_error)?;
            insert(&mut meta, META_FORMAT, &FORMAT_VERSION.to_le_bytes())?;
        }
        transaction.commit().map_err(commit_error)
    }

    fn begin_write(&self) -> Result<WriteTransaction, EngineError> {
        let mut transaction = self.database.begin_write().map_err(transaction_error)?;
        transaction
            .set_durability(Durability::Immediate)
            .expect("redb: a transaction without savepoints takes any durability");
        transaction.set_quick_repair(true);
        Ok(transaction)
    }
}

fn database(backend: impl StorageBackend) -> Result<Guarded<Database>, EngineError> {
    let mut builder = Database::builder();
    let database = builder.set_cache_size(CACHE_BYTES).create_with_backend(backend);
    Ok(Guarded::new(database.map_err(database_error)?))
}

impl Engine for RedbEngine {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, EngineError> {
        guarded(|| {
            let transaction = self.database.begin_read().map_err(transaction_error)?;
            Ok(Box::new(RedbSnapshot(Guarded::new(transaction))) as Box<dyn Snapshot>)
        })
    }

    fn begin(&self) -> Result<Box<dyn Transaction>, EngineError> {
        guarded(|| match self.access {
            Access::Write => {
                let transaction = Guarded::new(self.begin_write()?);
                Ok(Box::new(RedbTransaction(transaction)) as Box<dyn Transaction>)
            }
            Access::Read => Err(EngineError::Unavailable),
        })
    }

    fn aside(&self) -> Result<Arc<dyn Engine>, EngineError> {
        Ok(Arc::new(RedbEngine::open_aside(Arc::clone(&self.file))?))
    }

    fn size(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }
}

impl Snapshot for RedbSnapshot {
    fn row(&self, row_key: &RowKey) -> Result<Option<Bytes>, EngineError> {
        guarded(|| {
            let table = self.0.open_table(KEY).map_err(table_error)?;
            let row = table.get(row_key.as_bytes()).map_err(storage_error)?;
            Ok(row.map(|row| Bytes::copy_from_slice(row.value())))
        })
    }

    fn rows_after(
        &self,
        table: Table,
        after: Option<&RowKey>,
        visit: &mut Visit<'_>,
    ) -> Result<(), EngineError> {
        guarded(|| {
            let table = match self.0.open_table(definition(table)) {
                // A state without rows has left nothing there.
                Err(TableError::TableDoesNotExist(_)) if table == Table::Staged => return Ok(()),
                opened => opened.map_err(table_error)?,
            };
            let start = after.map_or(Bound::Unbounded, |key| Bound::Excluded(key.as_bytes()));
            let rows = table.range::<&[u8]>((start, Bound::Unbounded)).map_err(storage_error)?;
            for row in rows {
                let (row_key, sealed) = row.map_err(storage_error)?;
                if visit(row_key.value(), sealed.value())? == Next::Stop {
                    break;
                }
            }
            Ok(())
        })
    }

    fn commits(&self) -> Result<u64, EngineError> {
        guarded(|| {
            let table = self.0.open_table(META).map_err(table_error)?;
            Ok(number(&table, META_COMMITS)?.unwrap_or_default())
        })
    }

    fn meta(&self) -> Result<Option<Meta>, EngineError> {
        guarded(|| {
            let table = self.0.open_table(META).map_err(table_error)?;
            let Some(applied) = number(&table, META_APPLIED)? else {
                return Ok(None);
            };
            let required = |name: &str| -> Result<u64, EngineError> {
                let value = number(&table, name)?;
                value.ok_or_else(|| EngineError::Meta(format!("{name} is not noted")))
            };
            let record = table.get(META_RECORD).map_err(storage_error)?;
            let record =
                record.ok_or_else(|| EngineError::Meta("no record is noted".to_owned()))?;
            let mut meta = Meta {
                commits: required(META_COMMITS)?,
                applied,
                record: Bytes::copy_from_slice(record.value()),
                revision: required(META_REVISION)? as i64,
                compact_scheduled: number(&table, META_SCHEDULED)?.map(|number| number as i64),
                compact_finished: number(&table, META_FINISHED)?.map(|number| number as i64),
                tally: Tally { rows: required(META_ROWS)?, sum: required(META_ROWS_SUM)? },
                members: Vec::new(),
                alarms: Vec::new(),
                leases: Vec::new(),
                auth: self.auth()?,
            };
            let members = self.0.open_table(MEMBERS).map_err(table_error)?;
            for row in members.iter().map_err(storage_error)? {
                let (id, bytes) = row.map_err(storage_error)?;
                let member = decode_sealed_member(bytes.value())
                    .filter(|member| member.id == id.value())
                    .ok_or_else(|| {
                        EngineError::Meta(format!("member {:x} is damaged", id.value()))
                    })?;
                meta.members.push(member);
            }
            let alarms = self.0.open_table(ALARM).map_err(table_error)?;
            for row in alarms.iter().map_err(storage_error)? {
                let (key, ()) =
                    row.map(|(key, value)| (key.value(), value.value())).map_err(storage_error)?;
                let kind = AlarmKind::of(key.0)
                    .map_err(|_| EngineError::Meta(format!("alarm {} is unknown", key.0)))?;
                meta.alarms.push(Alarm { kind, member: key.1 });
            }
            let leases = self.0.open_table(LEASE).map_err(table_error)?;
            for row in leases.iter().map_err(storage_error)? {
                let (id, bytes) = row.map_err(storage_error)?;
                let lease = decode_sealed_lease(id.value(), bytes.value());
                meta.leases.push(lease.ok_or_else(|| {
                    EngineError::Meta(format!("lease {:x} is damaged", id.value()))
                })?);
            }
            Ok(Some(meta))
        })
    }
}

impl RedbSnapshot {
    fn auth(&self) -> Result<Auth, EngineError> {
        let table = self.0.open_table(AUTH).map_err(table_error)?;
        let mut rows = Vec::new();
        for row in table.iter().map_err(storage_error)? {
            let (row_key, sealed) = row.map_err(storage_error)?;
            let row = unsealed(sealed.value());
            let row =
                row.ok_or_else(|| EngineError::Meta("a row of users is damaged".to_owned()))?;
            rows.push((row_key.value().to_vec(), row.to_vec()));
        }
        Auth::of_rows(rows).map_err(|error| EngineError::Meta(format!("a row of users: {error}")))
    }
}

impl Transaction for RedbTransaction {
    fn append(
        &mut self,
        table: Table,
        rows: &mut dyn Iterator<Item = (RowKey, &[u8])>,
    ) -> Result<(), EngineError> {
        guarded(|| {
            let mut table = self.0.open_table(definition(table)).map_err(table_error)?;
            let mut cursor =
                table.upper_bound_mut(Bound::<&[u8]>::Unbounded).map_err(storage_error)?;
            for (row_key, sealed) in rows {
                cursor.insert_before(row_key.as_bytes(), sealed).map_err(cursor_error)?;
            }
            cursor.close().map_err(storage_error)
        })
    }

    fn remove(&mut self, rows: &[RowKey]) -> Result<Removed, EngineError> {
        guarded(|| {
            let mut table = self.0.open_table(KEY).map_err(table_error)?;
            let mut removed = Removed::default();
            for row_key in rows {
                let row = table.remove(row_key.as_bytes()).map_err(storage_error)?;
                let Some(row) = row else {
                    let (revision, _) = RowKey::decode(row_key.as_bytes())
                        .expect("row: a key is what it was made as");
                    return Err(EngineError::Missing(revision));
                };
                let sealed = row.value();
                let message = sealed.len().saturating_sub(ROW_CRC_BYTES);
                removed.bytes += (row_key.as_bytes().len() + message) as u64;
                removed.tally.add(sealed);
            }
            Ok(removed)
        })
    }

    fn drop_staged(&mut self) -> Result<(), EngineError> {
        guarded(|| drop_staged(&self.0).map(|_| ()))
    }

    fn put_staged_in_force(&mut self, meta: &Meta) -> Result<(), EngineError> {
        guarded(|| {
            // A state without rows has left nothing there.
            drop(self.0.open_table(STAGED).map_err(table_error)?);
            self.0.delete_table(REPLACED).map_err(table_error)?;
            self.0.rename_table(KEY, REPLACED).map_err(table_error)?;
            self.0.rename_table(STAGED, KEY).map_err(table_error)?;
            self.0.delete_table(MEMBERS).map_err(table_error)?;
            self.0.delete_table(ALARM).map_err(table_error)?;
            self.0.delete_table(LEASE).map_err(table_error)?;
            drop(self.0.open_table(MEMBERS).map_err(table_error)?);
            drop(self.0.open_table(ALARM).map_err(table_error)?);
            drop(self.0.open_table(LEASE).map_err(table_error)?);
            self.0.delete_table(AUTH).map_err(table_error)?;
            drop(self.0.open_table(AUTH).map_err(table_error)?);
            Ok(())
        })?;
        meta.members.iter().try_for_each(|member| self.set_member(member))?;
        meta.alarms.iter().try_for_each(|alarm| self.set_alarm(*alarm, true))?;
        let leases = meta.leases.iter().map(|lease| (lease.name.id, Some(*lease)));
        self.set_leases(&leases.collect::<Vec<_>>())?;
        meta.auth.rows().try_for_each(|note| self.set_auth(&note))?;
        self.set_meta(meta)
    }

    fn set_member(&mut self, member: &Member) -> Result<(), EngineError> {
        guarded(|| {
            let mut table = self.0.open_table(MEMBERS).map_err(table_error)?;
            let mut row = BytesMut::new();
            member_body(&mut row, member);
            let crc = crc32c::crc32c(&row);
            row.put_u32_le(crc);
            table.insert(member.id, &row[..]).map_err(storage_error)?;
            Ok(())
        })
    }

    fn remove_member(&mut self, id: u64) -> Result<(), EngineError> {
        guarded(|| {
            let mut table = self.0.open_table(MEMBERS).map_err(table_error)?;
            table.remove(id).map_err(storage_error)?;
            Ok(())
        })
    }

    fn set_alarm(&mut self, alarm: Alarm, raised: bool) -> Result<(), EngineError> {
        guarded(|| {
            let mut table = self.0.open_table(ALARM).map_err(table_error)?;
            let key = (alarm.kind as u8, alarm.member);
            if raised {
                table.insert(key, ()).map_err(storage_error)?;
            } else {
                table.remove(key).map_err(storage_error)?;
            }
            Ok(())
        })
    }

    fn set_leases(&mut self, leases: &[(i64, Option<Lease>)]) -> Result<(), EngineError> {
        guarded(|| {
            let mut table = self.0.open_table(LEASE).map_err(table_error)?;
            for (id, lease) in leases {
                match lease {
                    Some(lease) => {
                        table.insert(*id, &sealed_lease(lease)[..]).map_err(storage_error)?;
                    }
                    None => {
                        table.remove(*id).map_err(storage_error)?;
                    }
                }
            }
            Ok(())
        })
    }

    fn set_auth(&mut self, note: &AuthNote) -> Result<(), EngineError> {
        guarded(|| {
            let mut table = self.0.open_table(AUTH).map_err(table_error)?;
            let row_key = note.row_key();
            match note.row() {
                Some(row) => {
                    let mut sealed = BytesMut::from(&row[..]);
                    sealed.put_u32_le(crc32c::crc32c(&row));
                    table.insert(&row_key[..], &sealed[..]).map_err(storage_error)?;
                }
                None => drop(table.remove(&row_key[..]).map_err(storage_error)?),
            }
            Ok(())
        })
    }

    fn set_meta(&mut self, meta: &Meta) -> Result<(), EngineError> {
        guarded(|| {
            let mut table = self.0.open_table(META).map_err(table_error)?;
            insert(&mut table, META_COMMITS, &meta.commits.to_le_bytes())?;
            if meta.applied == 0 {
                return Ok(());
            }
            insert(&mut table, META_APPLIED, &meta.applied.to_le_bytes())?;
            insert(&mut table, META_RECORD, &meta.record)?;
            insert(&mut table, META_REVISION, &meta.revision.to_le_bytes())?;
            insert(&mut table, META_ROWS, &meta.tally.rows.to_le_bytes())?;
            insert(&mut table, META_ROWS_SUM, &meta.tally.sum.to_le_bytes())?;
            insert_or_remove(&mut table, META_SCHEDULED, meta.compact_scheduled)?;
            insert_or_remove(&mut table, META_FINISHED, meta.compact_finished)
        })
    }

    fn commit(self: Box<Self>) -> Result<(), EngineError> {
        guarded(|| self.0.into_inner().commit().map_err(commit_error))
    }
}

fn insert(
    table: &mut redb::Table<'_, &'static str, &'static [u8]>,
    name: &str,
    value: &[u8],
) -> Result<(), EngineError> {
    table.insert(name, value).map_err(storage_error)?;
    Ok(())
}

/// A state from elsewhere may have no such revision where the one that it replaces has one.
fn insert_or_remove(
    table: &mut redb::Table<'_, &'static str, &'static [u8]>,
    name: &str,
    revision: Option<i64>,
) -> Result<(), EngineError> {
    if let Some(revision) = revision {
        return insert(table, name, &revision.to_le_bytes());
    }
    table.remove(name).map_err(storage_error)?;
    Ok(())
}

fn definition(table: Table) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    match table {
        Table::Rows => KEY,
        Table::Staged => STAGED,
    }
}

/// Drops what is staged and what a staged state has replaced. Answers whether there was anything.
fn drop_staged(transaction: &WriteTransaction) -> Result<bool, EngineError> {
    if canon!(leftover_of_a_restoration_is_kept) {
        return Ok(false);
    }
    let staged = transaction.delete_table(STAGED).map_err(table_error)?;
    let replaced = transaction.delete_table(REPLACED).map_err(table_error)?;
    Ok(staged || replaced)
}

fn number(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    name: &str,
) -> Result<Option<u64>, EngineError> {
    let Some(value) = table.get(name).map_err(storage_error)? else {
        return Ok(None);
    };
    let bytes = <[u8; 8]>::try_from(value.value());
    let bytes = bytes.map_err(|_| EngineError::Meta(format!("{name} is not a number")))?;
    Ok(Some(u64::from_le_bytes(bytes)))
}

fn decode_sealed_member(sealed: &[u8]) -> Option<Member> {
    decode_member(unsealed(sealed)?).ok()
}

/// A row without its checksum, if that is right.
fn unsealed(sealed: &[u8]) -> Option<&[u8]> {
    let (row, crc) = sealed.split_at_checked(sealed.len().checked_sub(4)?)?;
    (crc32c::crc32c(row).to_le_bytes() == *crc).then_some(row)
}

/// What a lease's checksum lies behind: when it was granted, for how long, what remains.
const LEASE_BODY_BYTES: usize = 24;

fn sealed_lease(lease: &Lease) -> [u8; LEASE_BODY_BYTES + ROW_CRC_BYTES] {
    let mut row = [0; LEASE_BODY_BYTES + ROW_CRC_BYTES];
    row[..8].copy_from_slice(&lease.name.granted.to_le_bytes());
    row[8..16].copy_from_slice(&lease.ttl.to_le_bytes());
    row[16..24].copy_from_slice(&lease.remaining.to_le_bytes());
    let crc = lease_crc(lease.name.id, &row[..LEASE_BODY_BYTES]);
    row[LEASE_BODY_BYTES..].copy_from_slice(&crc.to_le_bytes());
    row
}

fn lease_crc(id: i64, body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&id.to_le_bytes()), body)
}

fn decode_sealed_lease(id: i64, sealed: &[u8]) -> Option<Lease> {
    let (body, crc) = sealed.split_at_checked(LEASE_BODY_BYTES)?;
    if lease_crc(id, body).to_le_bytes() != *crc {
        return None;
    }
    let number = |at: usize| body[at..at + 8].try_into().map(u64::from_le_bytes).ok();
    let name = LeaseName { id, granted: number(0)? };
    Some(Lease { name, ttl: number(8)? as i64, remaining: number(16)? as i64 })
}

fn io_error(error: &io::Error) -> EngineError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            EngineError::NoSpace(error.to_string())
        }
        // What the engine says of a file whose first page is not its own.
        io::ErrorKind::InvalidData => EngineError::Corrupted(error.to_string()),
        _ if is_closed(error) => EngineError::Unavailable,
        _ => EngineError::Io(error.to_string()),
    }
}

fn storage_error(error: StorageError) -> EngineError {
    match error {
        StorageError::Io(error) => io_error(&error),
        StorageError::Corrupted(what) => EngineError::Corrupted(what),
        StorageError::PreviousIo | StorageError::DatabaseClosed => EngineError::Unavailable,
        other => EngineError::Io(other.to_string()),
    }
}

fn cursor_error(error: CursorError) -> EngineError {
    match error {
        CursorError::Storage(error) => storage_error(error),
        other => EngineError::Corrupted(other.to_string()),
    }
}

fn table_error(error: TableError) -> EngineError {
    match error {
        TableError::Storage(error) => storage_error(error),
        other => EngineError::Corrupted(other.to_string()),
    }
}

fn transaction_error(error: TransactionError) -> EngineError {
    match error {
        TransactionError::Storage(error) => storage_error(error),
        other => EngineError::Io(other.to_string()),
    }
}

fn commit_error(error: CommitError) -> EngineError {
    match error {
        CommitError::Storage(error) => storage_error(error),
        other => EngineError::Io(other.to_string()),
    }
}

fn database_error(error: DatabaseError) -> EngineError {
    match error {
        DatabaseError::Storage(error) => storage_error(error),
        other => EngineError::Corrupted(other.to_string()),
    }
}

impl fmt::Debug for Sized {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.backend.fmt(f)
    }
}

impl StorageBackend for Sized {
    fn len(&self) -> io::Result<u64> {
        self.backend.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.backend.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.backend.set_len(len)?;
        self.size.store(len, Ordering::Relaxed);
        Ok(())
    }

    /// A failed sync leaves open what is on the disk, so that even a lack of space is no reason to
    /// try again.
    fn sync_data(&self) -> io::Result<()> {
        self.backend
            .sync_data()
            .map_err(|error| io::Error::other(format!("the sync failed: {error}")))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.backend.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.backend.close()
    }
}
