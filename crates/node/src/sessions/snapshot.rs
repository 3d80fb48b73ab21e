//! Sessions in the snapshots of a machine that streams its own.
//!
//! The table of the view travels as a chunk before the machine's own, and again before each that a
//! resumed transfer begins with: the view may be newer then, and so is its table. A first byte tells
//! the two kinds of chunk apart, and whether a token to resume from is of the machine's own chunks.
//!
//! A machine within sessions leaves one byte of [`CHUNK_BYTES_MAX`](crate::CHUNK_BYTES_MAX) and of
//! [`RESUME_BYTES_MAX`](crate::RESUME_BYTES_MAX).

use std::sync::{Arc, Mutex, MutexGuard};

use bytes::{BufMut, Bytes, BytesMut};
use jangada_raft::{Index, canon};

use super::table::{SessionLimits, Table};
use super::{extend, split};
use crate::snapshot::{Chunk, SnapshotError, SnapshotReader, SnapshotStage, Turn};

/// A chunk that holds the table; a token behind which there is nothing of the machine's.
const TABLE: u8 = 0;

/// A chunk of the machine's; a token that it gave.
const MACHINE: u8 = 1;

/// What the machine is asked to resume from, for a token of [`Reader`].
pub(super) fn within(resume: Option<&[u8]>) -> Option<&[u8]> {
    match resume?.split_first()? {
        (&MACHINE, token) => Some(token),
        _ => None,
    }
}

fn marked(kind: u8, bytes: &[u8]) -> Bytes {
    let mut marked = BytesMut::with_capacity(1 + bytes.len());
    marked.put_u8(kind);
    marked.extend_from_slice(bytes);
    marked.freeze()
}

/// The view of a machine with the sessions as of the same index.
pub(super) struct Reader {
    machine: Box<dyn SnapshotReader>,
    notes: Bytes,
    /// The table's chunk, until it is read.
    table: Option<Chunk>,
    resumes: bool,
}

impl Reader {
    pub(super) fn new(
        machine: Box<dyn SnapshotReader>,
        resume: Option<&[u8]>,
        limits: SessionLimits,
    ) -> Result<Reader, SnapshotError> {
        let broken = |error| SnapshotError::Broken(format!("{error}"));
        let (notes, mut table) = split(&machine.record()).map_err(broken)?;
        if canon!(session_table_is_left_out_of_snapshots) {
            let mut empty = BytesMut::new();
            Table::new(limits).encode(&mut empty);
            table = empty.freeze();
        }
        let continues = within(resume).is_some() && machine.resumes();
        // Behind the table alone nothing of the machine is staged, so that any view continues.
        let resumes = continues || resume == Some(&[TABLE]);
        let resume = match resume {
            Some(token) if continues => Bytes::copy_from_slice(token),
            _ => Bytes::from_static(&[TABLE]),
        };
        let table = Chunk { bytes: marked(TABLE, &table), resume, is_last: false };
        Ok(Reader { machine, notes, table: Some(table), resumes })
    }
}

impl SnapshotReader for Reader {
    fn record(&self) -> Bytes {
        self.notes.clone()
    }

    fn resumes(&self) -> bool {
        self.resumes
    }

    fn next(&mut self, bytes_max: usize) -> Result<Chunk, SnapshotError> {
        if let Some(table) = self.table.take() {
            return Ok(table);
        }
        let Chunk { bytes, resume, is_last } = self.machine.next(bytes_max)?;
        Ok(Chunk { bytes: marked(MACHINE, &bytes), resume: marked(MACHINE, &resume), is_last })
    }
}

/// The table of a snapshot that has been staged, until the machine is told that it is installed.
pub(super) type Staged = Arc<Mutex<Option<Table>>>;

pub(super) fn lock(staged: &Staged) -> MutexGuard<'_, Option<Table>> {
    staged.lock().expect("nothing panics while the staged table is held")
}

/// Where a snapshot is put together, with its sessions.
pub(super) struct Stage {
    machine: Box<dyn SnapshotStage>,
    limits: SessionLimits,
    staged: Staged,
    /// What is wrong with the last order, or that the machine has nothing to do for it.
    order: Order,
}

enum Order {
    Machine,
    Own(Result<(), SnapshotError>),
}

impl Stage {
    pub(super) fn new(
        machine: Box<dyn SnapshotStage>,
        limits: SessionLimits,
        staged: Staged,
    ) -> Stage {
        *lock(&staged) = None;
        Stage { machine, limits, staged, order: Order::Own(Ok(())) }
    }

    fn unfit(sentence: String) -> Order {
        Order::Own(Err(SnapshotError::Unfit(sentence)))
    }
}

impl SnapshotStage for Stage {
    fn push(&mut self, chunk: Bytes) {
        self.order = match chunk.first() {
            Some(&TABLE) => match Table::decode(self.limits, &chunk[1..]) {
                Ok(table) => {
                    *lock(&self.staged) = Some(table);
                    Order::Own(Ok(()))
                }
                Err(error) => Stage::unfit(error.to_string()),
            },
            Some(&MACHINE) => {
                self.machine.push(chunk.slice(1..));
                Order::Machine
            }
            _ => Stage::unfit("the chunk was not made by a machine with sessions".to_owned()),
        };
    }

    fn finish(&mut self, applied: Index, record: Bytes) {
        let staged = lock(&self.staged);
        self.order = match &*staged {
            Some(table) => {
                self.machine.finish(applied, extend(&record, table));
                Order::Machine
            }
            None => Stage::unfit("there are no sessions in it".to_owned()),
        };
    }

    fn turn(&mut self) -> Result<Turn, SnapshotError> {
        match &self.order {
            Order::Machine => self.machine.turn(),
            Order::Own(result) => result.clone().map(|()| Turn::Done),
        }
    }
}
