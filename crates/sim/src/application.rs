//! What is simulated beside the members themselves: the state machine that they replicate, and its
//! clients. [`tally`] is the smallest, [`store`] the one that ships (its clients of the API are in
//! [`crate::workload`]), and [`simulation`] takes anybody's.

pub mod desk;
pub mod exactly_once;
pub mod exactly_once_clients;
pub mod simulation;
pub mod store;
pub mod store_clients;
pub mod tally;
pub mod tally_clients;

use std::fmt::Debug;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use jangada::{
    Bound, Outcome, SnapshotError, SnapshotReader, SnapshotStage, Snapshots, StateMachine,
};
use jangada_entry::Frame;
use jangada_raft::{Index, NodeId};

use crate::disk::DiskHandle;
use crate::invariants::AppliedCommand;

/// A state machine to be replicated in a simulated world.
pub trait Application {
    /// The state machine.
    type Machine: StateMachine<Reply: Debug>;

    /// What the machine does beside applying, such as committing to its engine; `()` if nothing.
    type Worker;

    /// Opens the machine of a member that starts. What it keeps durably lies on the member's
    /// simulated disk; a machine that keeps nothing starts empty.
    ///
    /// # Errors
    /// If the disk fails, as it does when the process dies in the middle of it.
    fn open(&self, disk: &DiskHandle, member: NodeId) -> io::Result<(Self::Machine, Self::Worker)>;

    /// Lets the worker do a piece of its work. Answers after how many microseconds to call again;
    /// `None` for not before something has been applied.
    ///
    /// # Errors
    /// If the disk fails; the process then ends.
    fn work(&self, worker: &mut Self::Worker, now_us: u64) -> io::Result<Option<u64>>;

    /// What of the machine could grow, each beside its limit: looked at now and then.
    fn bounds(&self, _: &Self::Machine) -> Vec<Bound> {
        Vec::new()
    }

    /// A command in words, for the timeline of a failed run.
    fn describe(&self, command: &[u8]) -> String {
        format!("\"{}\"", command.escape_ascii())
    }
}

/// What a [`Witness`] has seen and the world has not taken yet.
pub(crate) type Seen = Arc<Mutex<Vec<AppliedCommand>>>;

/// Takes what was seen.
pub(crate) fn take(seen: &Seen) -> Vec<AppliedCommand> {
    std::mem::take(&mut seen.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A state machine that notes what is applied to it, and is otherwise the one it wraps.
#[derive(Debug)]
pub struct Witness<M> {
    machine: M,
    seen: Seen,
}

impl<M> Witness<M> {
    pub(crate) fn new(machine: M) -> (Witness<M>, Seen) {
        let seen = Seen::default();
        (Witness { machine, seen: Arc::clone(&seen) }, seen)
    }

    /// The state machine.
    pub fn machine(&self) -> &M {
        &self.machine
    }
}

impl<M: StateMachine> StateMachine for Witness<M> {
    type Reply = M::Reply;

    fn recovered(&self) -> Option<Bytes> {
        self.machine.recovered()
    }

    fn apply(&mut self, commands: &[Frame], outcomes: &mut Vec<Outcome<M::Reply>>) {
        let before = outcomes.len();
        self.machine.apply(commands, outcomes);
        assert!(outcomes.len() - before == commands.len(), "one outcome for each command");
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for (frame, outcome) in commands.iter().zip(&outcomes[before..]) {
            let header = frame.header();
            seen.push(AppliedCommand {
                position: header.position,
                payload_crc: header.payload_crc,
                time_ms: header.time_ms,
                origin: header.origin,
                digest: outcome.digest,
            });
        }
    }

    fn is_essential(&self, version: u16, command: &[u8]) -> bool {
        self.machine.is_essential(version, command)
    }

    fn end_batch(&mut self, applied: Index, record: Bytes) {
        self.machine.end_batch(applied, record);
    }

    fn log_durable(&mut self, index: Index) {
        self.machine.log_durable(index);
    }

    fn durable_index(&self) -> Index {
        self.machine.durable_index()
    }

    fn snapshots(&self) -> Snapshots {
        self.machine.snapshots()
    }

    fn save(&self, out: &mut Vec<u8>) {
        self.machine.save(out);
    }

    fn load(&mut self, state: &[u8]) -> Result<(), SnapshotError> {
        self.machine.load(state)
    }

    fn snapshot(
        &mut self,
        resume: Option<&[u8]>,
    ) -> Result<Box<dyn SnapshotReader>, SnapshotError> {
        self.machine.snapshot(resume)
    }

    fn stage(&mut self) -> Result<Box<dyn SnapshotStage>, SnapshotError> {
        self.machine.stage()
    }

    fn installed(&mut self) {
        self.machine.installed();
    }
}
