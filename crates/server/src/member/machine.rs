//! The key-value store as the node's state machine.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use jangada::{Frame, Index, Outcome, StateMachine};
use jangada_kv::{EngineError, EngineThread, Entry, Machine, Options, Reply, Shared};

/// The engine's file in the member's folder.
const FILE: &str = "db";

/// The store, replicated.
pub(super) struct KvMachine {
    machine: Machine,
}

/// Opens the store in `directory`, and starts the thread that makes it durable.
pub(super) fn open(
    directory: &Path,
    options: Options,
) -> Result<(KvMachine, EngineThread), EngineError> {
    let io = |error: std::io::Error| EngineError::Io(error.to_string());
    let path: Arc<Path> = directory.join(FILE).into();
    let backend = jangada_kv::open_file(&path).map_err(io)?;
    let mut machine = Machine::open(Some(backend), options)?;
    let reopen = Box::new(move || jangada_kv::open_file(&path));
    let thread = EngineThread::start(&mut machine, reopen, |error| super::broken(error));
    let thread = thread.map_err(io)?.expect("a machine with an engine has its writer once");
    Ok((KvMachine { machine }, thread))
}

impl KvMachine {
    pub(super) fn shared(&self) -> Shared {
        self.machine.shared()
    }
}

impl StateMachine for KvMachine {
    type Reply = Reply;

    fn apply(&mut self, commands: &[Frame], outcomes: &mut Vec<Outcome<Reply>>) {
        let headers = commands.iter().map(|frame| (frame.header(), frame.payload()));
        let entries = headers.map(|(header, payload)| Entry {
            index: header.position.index.0,
            time_ms: header.time_ms,
            version: header.version,
            payload,
        });
        let applied = self.machine.apply(entries);
        let applied = applied.unwrap_or_else(|error| super::broken(&error));
        let outcome = |o: jangada_kv::Outcome| Outcome { reply: o.reply, digest: o.digest };
        outcomes.extend(applied.into_iter().map(outcome));
    }

    fn recovered(&self) -> Option<Bytes> {
        self.machine.recovered()
    }

    fn end_batch(&mut self, applied: Index, record: Bytes) {
        self.machine.end_batch(applied.0, record);
    }

    fn log_durable(&mut self, index: Index) {
        self.machine.log_durable(index.0);
    }

    fn durable_index(&self) -> Index {
        Index(self.machine.durable_index())
    }
}
