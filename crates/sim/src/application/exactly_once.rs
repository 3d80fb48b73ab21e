//! Sessions, simulated: a machine that lists its commands, within [`Sessions`], and durable, so that a
//! restart must find the sessions beside what they stand for.
//!
//! The machine's file has two places, written in turn: a power cut leaves the one or the other.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{BufMut, Bytes, BytesMut};
use jangada::{Bound, Outcome, Piece, SessionCommand, SessionLimits, Sessions, StateMachine};
use jangada_entry::Frame;
use jangada_raft::{Index, NodeId};
use jangada_wal::{Disk, File};

use crate::application::Application;
use crate::choices::mix;
use crate::disk::{DiskHandle, SimFile};

/// Few sessions for a short time, so that runs of seconds see them end in every way.
pub const LIMITS: SessionLimits = SessionLimits {
    sessions_max: 5,
    replies_max: 4,
    session_bytes_max: 1 << 10,
    table_bytes_max: 16 << 10,
    timeout_ms: 2_000,
};

/// The machine's two places.
const FILES: [&str; 2] = ["list-0", "list-1"];

/// How long the worker waits before it looks again, in microseconds.
const LOOK_US: u64 = 20_000;

/// How long it waits for space, in microseconds.
const FULL_RETRY_US: u64 = 200_000;

/// Replicates a [`List`] within sessions.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExactlyOnce;

/// What is to be stored: up to where it is applied, and the bytes.
type Batch = (Index, Bytes);

#[derive(Debug, Default)]
struct Storing {
    /// Applied, and not known to stay in the log yet.
    waiting: Vec<Batch>,
    /// The newest that may be stored.
    ready: Option<Batch>,
    stored: Index,
}

type Shared = Arc<Mutex<Storing>>;

fn lock(shared: &Shared) -> MutexGuard<'_, Storing> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lists the numbers that its commands name, in order.
#[derive(Debug, Default)]
pub struct List {
    numbers: Vec<u64>,
    record: Option<Bytes>,
    shared: Shared,
}

impl List {
    /// The numbers, as often as they were applied.
    #[must_use]
    pub fn numbers(&self) -> &[u64] {
        &self.numbers
    }
}

/// The number that a command of the list names.
#[must_use]
pub fn number_of(command: &[u8]) -> u64 {
    command.try_into().map_or(0, u64::from_le_bytes)
}

impl StateMachine for List {
    /// The command's place in the list, from 1.
    type Reply = u64;

    fn apply(&mut self, commands: &[Frame], outcomes: &mut Vec<Outcome<u64>>) {
        for command in commands {
            self.numbers.push(number_of(command.payload()));
            let reply = self.numbers.len() as u64;
            outcomes.push(Outcome { reply, digest: reply });
        }
    }

    fn recovered(&self) -> Option<Bytes> {
        self.record.clone()
    }

    fn end_batch(&mut self, applied: Index, record: Bytes) {
        let mut bytes = BytesMut::new();
        bytes.put_u64_le(applied.0);
        bytes.put_u32_le(self.numbers.len() as u32);
        self.numbers.iter().for_each(|number| bytes.put_u64_le(*number));
        bytes.extend_from_slice(&record);
        lock(&self.shared).waiting.push((applied, bytes.freeze()));
    }

    fn log_durable(&mut self, index: Index) {
        let mut storing = lock(&self.shared);
        let may = storing.waiting.iter().take_while(|(applied, _)| *applied <= index).count();
        let newest = storing.waiting.drain(..may).next_back();
        storing.ready = newest.or(storing.ready.take());
    }

    fn durable_index(&self) -> Index {
        lock(&self.shared).stored
    }
}

/// Brings the list to the disk.
pub struct ListWorker {
    shared: Shared,
    files: [SimFile; 2],
    /// Which place is written next.
    next: usize,
}

/// What a place holds: the checksum, the length, the bytes. `None` if it was torn.
fn read(file: &SimFile) -> io::Result<Option<Bytes>> {
    let length = file.length()?;
    let Some(body_bytes) = length.checked_sub(8) else { return Ok(None) };
    let mut bytes = vec![0; length as usize];
    file.read_at(0, &mut bytes)?;
    let crc = u32::from_le_bytes(bytes[..4].try_into().expect("four bytes"));
    let held = u64::from(u32::from_le_bytes(bytes[4..8].try_into().expect("four bytes")));
    if body_bytes < held || held < 12 {
        return Ok(None);
    }
    let body = Bytes::from(bytes).slice(8..8 + held as usize);
    Ok((checksum(&body) == crc).then_some(body))
}

fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(1, |sum, byte| mix(sum ^ u64::from(*byte))) as u32
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

impl Application for ExactlyOnce {
    type Machine = Sessions<List>;
    type Worker = ListWorker;

    fn open(&self, disk: &DiskHandle, _: NodeId) -> io::Result<(Self::Machine, ListWorker)> {
        let files = [disk.open_or_create(FILES[0])?, disk.open_or_create(FILES[1])?];
        disk.sync_directory()?;
        let held = [read(&files[0])?, read(&files[1])?];
        let newest = (0..2)
            .filter(|at| held[*at].is_some())
            .max_by_key(|at| held[*at].as_ref().map_or(0, |body| word(body, 0)));
        let mut list = List::default();
        if let Some(body) = newest.and_then(|at| held[at].clone()) {
            let count = u32::from_le_bytes(body[8..12].try_into().expect("four bytes")) as usize;
            list.numbers = (0..count).map(|at| word(&body, 12 + 8 * at)).collect();
            list.record = Some(body.slice(12 + 8 * count..));
            lock(&list.shared).stored = Index(word(&body, 0));
        }
        let next = newest.map_or(0, |at| 1 - at);
        let worker = ListWorker { shared: list.shared.clone(), files, next };
        let sessions = Sessions::with_limits(list, LIMITS);
        Ok((sessions.map_err(|error| io::Error::other(error.to_string()))?, worker))
    }

    fn work(&self, worker: &mut ListWorker, _: u64) -> io::Result<Option<u64>> {
        let ready = lock(&worker.shared).ready.clone();
        let Some((applied, body)) = ready else {
            let waits = !lock(&worker.shared).waiting.is_empty();
            return Ok(waits.then_some(LOOK_US));
        };
        let file = &worker.files[worker.next];
        let (crc, length) = (checksum(&body), body.len() as u32);
        let written = file.write_at(0, &[&crc.to_le_bytes(), &length.to_le_bytes(), &body]);
        match written.and_then(|()| file.sync()) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                return Ok(Some(FULL_RETRY_US));
            }
            result => result?,
        }
        worker.next = 1 - worker.next;
        let mut storing = lock(&worker.shared);
        storing.stored = applied;
        storing.ready.take_if(|ready| ready.0 == applied);
        Ok(Some(LOOK_US))
    }

    fn bounds(&self, sessions: &Sessions<List>) -> Vec<Bound> {
        let bound = |name, held: usize, max: usize| Bound {
            name,
            held: held as u64,
            max: max as u64,
            piece: Piece::Strict,
        };
        vec![
            bound("open sessions", sessions.open_sessions(), LIMITS.sessions_max),
            bound("session table, bytes", sessions.table_bytes(), LIMITS.table_bytes_max),
        ]
    }

    fn describe(&self, command: &[u8]) -> String {
        match SessionCommand::decode(command) {
            Some(SessionCommand::Propose { session, serial, answered_up_to, command }) => {
                let number = number_of(command);
                format!(
                    "add {number} as {serial} of session {session}, answered to {answered_up_to}"
                )
            }
            Some(command) => format!("{command:?}"),
            None => format!("{} bytes that are no command", command.len()),
        }
    }
}
