//! The state machine: what is replicated.

use bytes::Bytes;
use jangada_entry::Frame;
use jangada_raft::Index;

use crate::snapshot::{SnapshotError, SnapshotReader, SnapshotStage, Snapshots, StateView};

/// What one applied command leaves behind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome<R> {
    /// For the client that waits, on the member it asked.
    pub reply: R,
    /// A digest of the command's *effects* (what was written, removed and answered). The node chains
    /// it into the running hash, by which members notice that they differ.
    pub digest: u64,
}

/// A deterministic state machine (§2): the same commands in the same order leave the same state
/// and the same outcomes on every member.
///
/// A machine that lives in memory implements [`StateMachine::apply`] alone; its log is never cut. With
/// [`StateMachine::save`] and [`StateMachine::load`] the node keeps snapshot files for it and cuts the
/// log behind them. One that keeps its state on disk implements the other methods too; the node then
/// cuts the log behind what is durable there, and sends a snapshot to whoever needs what was cut.
///
/// No clock, no randomness, no iteration in hash order. Time enters through the log:
/// [`jangada_entry::Header::time_ms`]. A panic stops the process: it is a broken invariant.
pub trait StateMachine: Send + 'static {
    /// The answer to a command.
    type Reply: Send + 'static;

    /// The cluster's version from which on every member understands commands of this encoding: see
    /// [`Handle::may_propose`](crate::Handle::may_propose). Before that they are not proposed.
    #[must_use]
    fn level_of(_version: u16) -> u16
    where
        Self: Sized,
    {
        0
    }

    /// Applies committed commands in order and pushes one outcome for each.
    fn apply(&mut self, commands: &[Frame], outcomes: &mut Vec<Outcome<Self::Reply>>);

    /// The record given with the last batch that was durable when the machine was opened; `None` if
    /// it starts empty. A machine that keeps nothing durable always starts empty, and the whole
    /// log is applied to it anew.
    fn recovered(&self) -> Option<Bytes> {
        None
    }

    /// Whether a command of this version, as it was proposed, is one that has to pass when the log's
    /// disk is nearly full: it frees space, or tells that there is none. It is asked before the command
    /// is in the log, of whichever member leads, and only while space is short.
    fn is_essential(&self, _version: u16, _command: &[u8]) -> bool {
        false
    }

    /// Ends a batch. `applied` is the last index it covers and `record` the node's own notes as of
    /// that index. A durable machine stores the batch's effects and the record in one transaction,
    /// unread, but not before [`StateMachine::log_durable`] has reached `applied`.
    fn end_batch(&mut self, _applied: Index, _record: Bytes) {}

    /// Up to `index` this member's own log is durable, and committed, so that it stays.
    fn log_durable(&mut self, _index: Index) {}

    /// The last index whose batch is durable in the machine itself; the log is cut only behind it.
    fn durable_index(&self) -> Index {
        Index(0)
    }

    /// What the machine offers of snapshots, the same in every life of it.
    fn snapshots(&self) -> Snapshots {
        Snapshots::None
    }

    /// Writes the whole state to `out`: for [`Snapshots::Whole`].
    ///
    /// It is called on the member's own thread. Nothing is applied, answered or heard until it returns,
    /// not even a leader's heartbeats are sent: fit for states that are written in a few milliseconds,
    /// some megabytes that is. A machine with more state offers a [`StateMachine::view`] as well. Called
    /// after [`Options::save_after_bytes`](crate::Options) of commands at the earliest, and for each
    /// follower that is sent a snapshot.
    fn save(&self, out: &mut Vec<u8>) {
        if let Some(write) = self.view() {
            write(out);
        }
    }

    /// A view of the whole state as it is now, which writes what [`StateMachine::save`] would write,
    /// later and on another thread: for [`Snapshots::Whole`], in place of `save`.
    ///
    /// Only making the view holds the member up, so it should be cheap beside writing the state: a clone
    /// of what is shared (an `Arc` of each large part, copied on the next write) or of a persistent
    /// collection. Its memory is kept until it is written, which takes as long as the disk needs.
    fn view(&self) -> Option<StateView> {
        None
    }

    /// Replaces the whole state by one that [`StateMachine::save`] has written, here or on another
    /// member: for [`Snapshots::Whole`]. It is called at start, and on a follower that has fetched a
    /// snapshot, which neither applies nor answers until it returns.
    ///
    /// # Errors
    /// [`SnapshotError::Unfit`] if the bytes are none; the state is then as it was.
    fn load(&mut self, _state: &[u8]) -> Result<(), SnapshotError> {
        Err(SnapshotError::Unfit("it takes none".to_owned()))
    }

    /// A view of the state that is at least as new as [`StateMachine::durable_index`]: for
    /// [`Snapshots::Streamed`]. `resume` is the token of the last chunk that a member has staged,
    /// perhaps of an older view, perhaps another member's; a machine that can goes on from there.
    ///
    /// # Errors
    /// Why there is none.
    fn snapshot(
        &mut self,
        _resume: Option<&[u8]>,
    ) -> Result<Box<dyn SnapshotReader>, SnapshotError> {
        Err(SnapshotError::Unavailable)
    }

    /// A place for another member's snapshot: for [`Snapshots::Streamed`]. It is empty: what an
    /// earlier one was given is forgotten.
    ///
    /// # Errors
    /// Why there is none.
    fn stage(&mut self) -> Result<Box<dyn SnapshotStage>, SnapshotError> {
        Err(SnapshotError::Unavailable)
    }

    /// The stage that was opened last has finished: from here on the machine's state is what was
    /// staged, [`StateMachine::durable_index`] included. Short: whatever takes long is the stage's.
    fn installed(&mut self) {}
}
