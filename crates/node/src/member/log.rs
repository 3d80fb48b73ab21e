//! What the member asks of its log.
//!
//! One batch is outstanding at a time. Whatever the consensus module wants written meanwhile is
//! merged into the next one, so that one sync serves all that queued while the last one ran (group
//! commit). Messages that promise durability wait here for the write they rest on.

use std::collections::VecDeque;

use bytes::Bytes;
use jangada_entry::Frame;
use jangada_raft::{
    Configuration, HardState, Index, Message, NodeId, Position, Write, WriteNumber, canon,
};

/// A batch for the log: durable as a whole or not at all.
#[derive(Clone, Debug)]
pub struct LogBatch {
    /// The newest of the consensus module's writes that the batch holds.
    pub number: WriteNumber,
    /// The last entry of the log as of the batch.
    pub last: Position,
    /// The term and vote in force.
    pub hard_state: HardState,
    /// New notes of this member alone, if they changed.
    pub note: Option<Bytes>,
    /// Set when the log is first begun anew behind a snapshot: the last entry that it covers, which is
    /// at `after`, and the configuration in force there.
    pub anew: Option<(Position, Configuration)>,
    /// Everything in the log after this index is dropped before the entries are appended.
    pub after: Index,
    /// The entries to append.
    pub entries: Vec<Frame>,
}

/// A batch is durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogWritten {
    /// The batch's number.
    pub number: WriteNumber,
    /// The batch's last entry.
    pub last: Position,
}

/// For whom entries are read back from the log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LogReader {
    /// For a peer that is behind what is held in memory.
    Peer(NodeId),
    /// For this member's own state machine.
    Apply,
    /// For a peer whose log is damaged.
    Frames(NodeId),
}

/// Entries to read back from the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogRead {
    /// For whom.
    pub reader: LogReader,
    /// The first entry.
    pub from: Index,
    /// The last entry.
    pub last: Index,
    /// The most bytes, though at least one entry is read.
    pub bytes_max: u64,
}

/// Entries at or before `up_to` are no longer needed by this member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogCut {
    /// The last entry that may go.
    pub up_to: Position,
    /// The configuration in force at `up_to`.
    pub configuration: Configuration,
    /// The most bytes of entries that are kept all the same, for followers that lag.
    pub trailing_bytes: u64,
    /// What is behind this index is kept too, unless the log then retains more than so many bytes:
    /// somebody is being sent a snapshot that ends there.
    pub needed: Option<(Index, u64)>,
}

/// The most messages that wait for a write. They are votes and requests for votes, a few for each
/// election; a disk that has stalled for hundreds of elections is not worth more.
pub(super) const GATED_MESSAGES_MAX: usize = 1024;

/// Writes that were asked for and not handed to the log yet, merged.
#[derive(Debug)]
struct Pending {
    number: WriteNumber,
    hard_state: HardState,
    /// The newest of the merged writes that begin the log anew.
    anew: Option<(Position, Configuration)>,
    /// The lowest index that any of the merged writes left standing; `None` if none of them changed
    /// the log's entries.
    after: Option<Index>,
}

/// The log's part of the member.
#[derive(Debug)]
pub(super) struct Writer {
    hard_state: HardState,
    outstanding: Option<LogWritten>,
    pending: Option<Pending>,
    note: Option<Bytes>,
    number_last: WriteNumber,
    durable: WriteNumber,
    gated: VecDeque<(WriteNumber, NodeId, Message)>,
}

impl Writer {
    pub(super) fn new(hard_state: HardState) -> Writer {
        Writer {
            hard_state,
            outstanding: None,
            pending: None,
            note: None,
            number_last: WriteNumber(0),
            durable: WriteNumber(0),
            gated: VecDeque::new(),
        }
    }

    /// Takes a write of the consensus module; its entries are in the tail already.
    pub(super) fn queue(&mut self, write: &Write) {
        assert!(self.number_last < write.number, "writes are numbered upwards");
        self.number_last = write.number;
        self.hard_state = write.hard_state;
        let after = write.range.as_ref().map(|range| range.prev.index);
        let pending = self.pending.get_or_insert(Pending {
            number: write.number,
            hard_state: write.hard_state,
            anew: None,
            after: None,
        });
        pending.number = write.number;
        pending.hard_state = write.hard_state;
        if let (Some(configuration), Some(range)) = (&write.anew, &write.range) {
            // Nothing that was to be written before it stays.
            pending.anew = Some((range.prev, configuration.clone()));
            pending.after = after;
            return;
        }
        pending.after = match (pending.after, after) {
            (Some(_), Some(after)) if canon!(merged_writes_keep_the_last_cut) => Some(after),
            (Some(before), Some(after)) => Some(before.min(after)),
            (before, after) => before.or(after),
        };
    }

    /// Takes new notes of this member; they go out with the next batch.
    pub(super) fn queue_note(&mut self, note: Bytes) {
        self.note = Some(note);
        if self.pending.is_none() {
            let (number, hard_state) = (self.number_last, self.hard_state);
            self.pending = Some(Pending { number, hard_state, anew: None, after: None });
        }
    }

    /// Whether notes wait to go out.
    pub(super) fn has_note(&self) -> bool {
        self.note.is_some()
    }

    /// Keeps a message until the write `after` is durable; gives it back if it is already.
    pub(super) fn gate(
        &mut self,
        after: WriteNumber,
        to: NodeId,
        message: Message,
    ) -> Option<(NodeId, Message)> {
        if after <= self.durable || canon!(gated_message_is_sent_at_once) {
            return Some((to, message));
        }
        // The protocol repeats what is lost, the oldest first.
        if self.gated.len() == GATED_MESSAGES_MAX {
            self.gated.pop_front();
        }
        self.gated.push_back((after, to, message));
        None
    }

    /// The next batch, if something is to be written and none is outstanding. `entries` gives the
    /// entries behind an index, `last` names the log's last entry.
    pub(super) fn next(
        &mut self,
        last: Position,
        entries: impl FnOnce(Index) -> Vec<Frame>,
    ) -> Option<LogBatch> {
        if self.outstanding.is_some() {
            return None;
        }
        let Pending { number, hard_state, anew, after } = self.pending.take()?;
        self.outstanding = Some(LogWritten { number, last });
        let note = self.note.take();
        let (after, entries) = match after {
            Some(after) => (after, entries(after)),
            None => (last.index, Vec::new()),
        };
        Some(LogBatch { number, last, hard_state, note, anew, after, entries })
    }

    /// The outstanding batch is durable. Gives back the messages that waited for it.
    pub(super) fn written(
        &mut self,
        written: LogWritten,
    ) -> impl Iterator<Item = (NodeId, Message)> + '_ {
        assert!(self.outstanding == Some(written), "the log completes the batch it was given");
        self.outstanding = None;
        self.durable = written.number;
        let durable = self.durable;
        std::iter::from_fn(move || {
            self.gated.front().filter(|(after, _, _)| *after <= durable)?;
            self.gated.pop_front().map(|(_, to, message)| (to, message))
        })
    }

    /// How many messages wait for a write.
    pub(super) fn gated(&self) -> usize {
        self.gated.len()
    }

    /// Whether a batch is under way.
    pub(super) fn is_writing(&self) -> bool {
        self.outstanding.is_some()
    }

    /// Whether a batch is under way or waits.
    pub(super) fn is_busy(&self) -> bool {
        self.outstanding.is_some() || self.pending.is_some()
    }
}
