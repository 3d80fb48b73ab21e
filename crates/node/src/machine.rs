//! The state machine: what is replicated.

use bytes::Bytes;
use jangada_entry::Frame;
use jangada_raft::Index;

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
/// A machine that lives in memory implements [`StateMachine::apply`] alone. One that keeps its state
/// on disk implements the other methods too; the node then cuts the log behind what is durable there.
///
/// No clock, no randomness, no iteration in hash order. Time enters through the log:
/// [`jangada_entry::Header::time_ms`]. A panic stops the process: it is a broken invariant.
pub trait StateMachine: Send + 'static {
    /// The answer to a command.
    type Reply: Send + 'static;

    /// Applies committed commands in order and pushes one outcome for each.
    fn apply(&mut self, commands: &[Frame], outcomes: &mut Vec<Outcome<Self::Reply>>);

    /// The record given with the last batch that was durable when the machine was opened; `None` if
    /// it starts empty. A machine that keeps nothing durable always starts empty, and the whole
    /// log is applied to it anew.
    fn recovered(&self) -> Option<Bytes> {
        None
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
}
