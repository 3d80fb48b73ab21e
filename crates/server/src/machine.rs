//! The key-value store as the node's state machine: the one that members replicate, in a server and
//! in the simulator alike.
//!
//! Responsible for the translation between the node's words and the store's. Not responsible for
//! the engine's file or for the thread that makes it durable: whoever opens the machine is.

mod snapshots;

use bytes::Bytes;
use jangada::{
    Frame, Index, Outcome, SnapshotError, SnapshotReader, SnapshotStage, Snapshots, StateMachine,
    StateView,
};
use jangada_kv::{Command, Entry, LeaseCommand, Machine, Reply, RequestOp, Shared, TxnRequest};

/// The store, replicated.
pub struct KvMachine {
    machine: Machine,
    shared: Shared,
}

impl KvMachine {
    /// The store as a state machine. The machine's writer, if it has one, is to be taken before.
    #[must_use]
    pub fn new(machine: Machine) -> KvMachine {
        let shared = machine.shared();
        KvMachine { machine, shared }
    }

    /// The readers' side.
    #[must_use]
    pub fn shared(&self) -> &Shared {
        &self.shared
    }
}

/// Whether a transaction may put something.
fn puts(transaction: &TxnRequest) -> bool {
    transaction.success.iter().chain(&transaction.failure).any(|operation| match operation {
        RequestOp::Put(_) => true,
        RequestOp::Txn(nested) => puts(nested),
        RequestOp::Range(_) | RequestOp::DeleteRange(_) => false,
    })
}

impl StateMachine for KvMachine {
    type Reply = Reply;

    /// Applies commands.
    ///
    /// # Panics
    /// If a command is none that this version knows: to skip it would make this member differ from
    /// the others.
    fn apply(&mut self, commands: &[Frame], outcomes: &mut Vec<Outcome<Reply>>) {
        let headers = commands.iter().map(|frame| (frame.header(), frame.payload()));
        let entries = headers.map(|(header, payload)| Entry {
            index: header.position.index.0,
            term: header.position.term.0,
            time_ms: header.time_ms,
            version: header.version,
            payload,
        });
        let applied = self.machine.apply(entries).unwrap_or_else(|error| panic!("{error}"));
        let outcome = |o: jangada_kv::Outcome| Outcome { reply: o.reply, digest: o.digest };
        outcomes.extend(applied.into_iter().map(outcome));
    }

    /// Everything but what puts, and what grants leases.
    fn is_essential(&self, version: u16, command: &[u8]) -> bool {
        let command = match Command::decode(&Bytes::copy_from_slice(command), version) {
            Ok(Command::As(_, command)) => *command,
            Ok(command) => command,
            Err(_) => return false,
        };
        match command {
            Command::Put(_) | Command::Lease(LeaseCommand::Grant { .. }) => false,
            Command::Txn(transaction) => !puts(&transaction),
            _ => true,
        }
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

    fn snapshots(&self) -> Snapshots {
        if self.machine.has_engine() { Snapshots::Streamed } else { Snapshots::Whole }
    }

    fn view(&self) -> Option<StateView> {
        Some(snapshots::view(&self.machine))
    }

    fn load(&mut self, state: &[u8]) -> Result<(), SnapshotError> {
        snapshots::load(&mut self.machine, state)
    }

    fn snapshot(
        &mut self,
        resume: Option<&[u8]>,
    ) -> Result<Box<dyn SnapshotReader>, SnapshotError> {
        snapshots::read(&self.machine, resume)
    }

    fn stage(&mut self) -> Result<Box<dyn SnapshotStage>, SnapshotError> {
        Ok(Box::new(snapshots::Stage::new(self.machine.restore())))
    }

    fn installed(&mut self) {
        self.machine.installed();
    }
}
