//! The store that ships, in the simulated world: the server's own state machine, with its engine on
//! the member's simulated disk.

use std::io;

use bytes::{Bytes, BytesMut};
use jangada::{Bound, Piece};
use jangada_kv::{
    COMMAND_VERSION, Command, EngineError, EngineWriter, Machine, Options, Shared, Turn,
};
use jangada_raft::NodeId;
use jangada_server::machine::KvMachine;
use jangada_wal::Disk;

use crate::application::Application;
use crate::disk::DiskHandle;
use crate::disk::engine_file::EngineFile;

/// The engine's file on the member's disk.
const ENGINE_FILE: &str = "engine";

/// Where a damaged engine is kept for whoever looks for the reason.
const SET_ASIDE: &str = "engine.damaged";

/// The engine commits sooner than it ships to do, so that runs of seconds see many commits.
const COMMIT: Options =
    Options { commit_bytes: 64 << 10, commit_after_ms: 250, engine_lag_bytes_max: 64 << 20 };

/// How long a full disk is waited for before the engine's file is opened again, in microseconds.
const FULL_RETRY_US: u64 = 200_000;

/// Replicates the store.
#[derive(Clone, Copy, Debug, Default)]
pub struct StoreApplication;

/// Brings the store's changes into its engine.
pub struct StoreWorker {
    writer: EngineWriter,
    shared: Shared,
    disk: DiskHandle,
    /// The file had no space and is to be opened again.
    closed: bool,
}

/// A command's bytes.
#[must_use]
pub fn encode(command: &Command) -> Bytes {
    let mut buffer = BytesMut::new();
    command.encode_into(&mut buffer);
    buffer.freeze()
}

/// A command in a few words.
fn words(command: &Command) -> String {
    match command {
        Command::Put(put) => {
            format!("put {} = {}", put.key.escape_ascii(), put.value.escape_ascii())
        }
        Command::DeleteRange(delete) if delete.range_end.is_empty() => {
            format!("delete {}", delete.key.escape_ascii())
        }
        Command::DeleteRange(delete) => {
            let (key, end) = (delete.key.escape_ascii(), delete.range_end.escape_ascii());
            format!("delete from {key} to {end}")
        }
        Command::Txn(transaction) => {
            let (compares, success) = (transaction.compare.len(), transaction.success.len());
            format!("transaction: if {compares} hold, {success} operations")
        }
        Command::Compact { revision, .. } => format!("compact below revision {revision}"),
        other => format!("{other:?}"),
    }
}

fn io_error(error: EngineError) -> io::Error {
    match error {
        EngineError::NoSpace(text) => io::Error::new(io::ErrorKind::StorageFull, text),
        other => io::Error::other(other.to_string()),
    }
}

fn open_file(disk: &DiskHandle) -> io::Result<Box<EngineFile>> {
    let file = EngineFile::open(disk, ENGINE_FILE)?;
    disk.sync_directory()?;
    Ok(Box::new(file))
}

impl Application for StoreApplication {
    type Machine = KvMachine;
    type Worker = StoreWorker;

    fn open(&self, disk: &DiskHandle, _: NodeId) -> io::Result<(KvMachine, StoreWorker)> {
        let mut machine = match Machine::open(Some(open_file(disk)?), COMMIT) {
            // The others have the state, and bring it here.
            Err(error) if error.is_damage() => {
                disk.rename(ENGINE_FILE, SET_ASIDE)?;
                disk.sync_directory()?;
                Machine::open(Some(open_file(disk)?), COMMIT).map_err(io_error)?
            }
            opened => opened.map_err(io_error)?,
        };
        let writer = machine.take_writer().expect("a machine with an engine has a writer");
        let shared = machine.shared();
        let worker = StoreWorker { writer, shared, disk: disk.clone(), closed: false };
        Ok((KvMachine::new(machine), worker))
    }

    fn bounds(&self, machine: &KvMachine) -> Vec<Bound> {
        let held = machine.shared().engine_lag_bytes();
        let max = COMMIT.engine_lag_bytes_max;
        // What was taken before the limit was reached is still applied.
        vec![Bound { name: "engine lag, bytes", held, max, piece: Piece::Step }]
    }

    /// A put of another value.
    fn mistaken(command: &[u8]) -> Option<Bytes> {
        let bytes = Bytes::copy_from_slice(command);
        let Ok(Command::Put(mut put)) = Command::decode(&bytes, COMMAND_VERSION) else {
            return None;
        };
        let mut value = put.value.to_vec();
        *value.last_mut()? ^= 1;
        put.value = value.into();
        Some(encode(&Command::Put(put)))
    }

    fn describe(&self, command: &[u8]) -> String {
        match Command::decode(&Bytes::copy_from_slice(command), COMMAND_VERSION) {
            Ok(command) => words(&command),
            Err(_) => format!("{} bytes that are no command", command.len()),
        }
    }

    fn work(&self, worker: &mut StoreWorker, now_us: u64) -> io::Result<Option<u64>> {
        if let Some(fault) = worker.shared.fault() {
            return Err(io_error(fault));
        }
        if worker.closed {
            let reopened = open_file(&worker.disk)
                .and_then(|file| worker.writer.reopen(file).map_err(io_error));
            match reopened {
                Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                    return Ok(Some(FULL_RETRY_US));
                }
                result => result?,
            }
            worker.closed = false;
        }
        match worker.writer.turn(now_us / 1000) {
            Ok(Turn::More) => Ok(Some(0)),
            Ok(Turn::Wait(after_ms)) => Ok(Some(after_ms * 1000)),
            Ok(Turn::Idle) => Ok(None),
            Err(EngineError::NoSpace(_)) => {
                worker.writer.close();
                worker.closed = true;
                Ok(Some(FULL_RETRY_US))
            }
            Err(error) => Err(io_error(error)),
        }
    }
}
