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
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use jangada::{
    Bound, Outcome, SnapshotError, SnapshotReader, SnapshotStage, Snapshots, StateMachine,
    StateView,
};
use jangada_entry::{Draft, Frame, Header, Kind};
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

    /// What a machine whose memory has failed makes of a command: another command, whose effects
    /// differ and whose reply has the same form. `None` if there is none.
    fn mistaken(_command: &[u8]) -> Option<Bytes> {
        None
    }

    /// A command in words, for the timeline of a failed run.
    fn describe(&self, command: &[u8]) -> String {
        format!("\"{}\"", command.escape_ascii())
    }
}

/// What a [`Witness`] has seen and the world has not taken yet.
pub(crate) type Seen = Arc<Mutex<Sight>>;

/// What was seen of a machine, and what is to befall it.
#[derive(Debug, Default)]
pub(crate) struct Sight {
    /// What was applied.
    pub(crate) commands: Vec<AppliedCommand>,
    /// Whether the next command that can be mistaken is.
    pub(crate) errs: bool,
    /// Whether one was.
    pub(crate) erred: bool,
}

fn lock(seen: &Seen) -> MutexGuard<'_, Sight> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes what was seen; what is to befall the machine still does.
pub(crate) fn take(seen: &Seen) -> Sight {
    let mut sight = lock(seen);
    let errs = sight.errs;
    std::mem::replace(&mut sight, Sight { errs, ..Sight::default() })
}

/// Lets the machine mistake the next command that it can, or none after all.
pub(crate) fn let_err(seen: &Seen, errs: bool) {
    lock(seen).errs = errs;
}

/// A state machine that notes what is applied to it, and is otherwise the one it wraps, unless it is to
/// mistake a command.
#[derive(Debug)]
pub struct Witness<M> {
    machine: M,
    mistaken: fn(&[u8]) -> Option<Bytes>,
    seen: Seen,
}

impl<M> Witness<M> {
    pub(crate) fn new(machine: M, mistaken: fn(&[u8]) -> Option<Bytes>) -> (Witness<M>, Seen) {
        let seen = Seen::default();
        (Witness { machine, mistaken, seen: Arc::clone(&seen) }, seen)
    }

    /// The state machine.
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// The commands as a machine that is to err takes them: one is mistaken for another.
    fn as_taken(&self, commands: &[Frame]) -> Option<Vec<Frame>> {
        let mut sight = lock(&self.seen);
        if !sight.errs {
            return None;
        }
        let mistaken = |frame: &Frame| (self.mistaken)(frame.payload());
        let (place, other) = commands
            .iter()
            .enumerate()
            .find_map(|(place, frame)| Some((place, mistaken(frame)?)))?;
        let Header { position, version, time_ms, origin, group, .. } = commands[place].header();
        let mut buffer = Draft::buffer(other.len());
        buffer.extend_from_slice(&other);
        let draft = Draft::new(buffer, Kind::Command, version, group, origin);
        let mut taken = commands.to_vec();
        taken[place] = draft.stamp(position, time_ms);
        (sight.errs, sight.erred) = (false, true);
        Some(taken)
    }
}

impl<M: StateMachine> StateMachine for Witness<M> {
    type Reply = M::Reply;

    fn recovered(&self) -> Option<Bytes> {
        self.machine.recovered()
    }

    fn apply(&mut self, commands: &[Frame], outcomes: &mut Vec<Outcome<M::Reply>>) {
        let before = outcomes.len();
        let taken = self.as_taken(commands);
        self.machine.apply(taken.as_deref().unwrap_or(commands), outcomes);
        assert!(outcomes.len() - before == commands.len(), "one outcome for each command");
        let mut sight = lock(&self.seen);
        for (frame, outcome) in commands.iter().zip(&outcomes[before..]) {
            let header = frame.header();
            sight.commands.push(AppliedCommand {
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

    fn view(&self) -> Option<StateView> {
        self.machine.view()
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
