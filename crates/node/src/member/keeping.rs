//! The log as the member keeps it: what is written, what is told to be durable, and what is cut off.

use jangada_net::PeerMessage;
use jangada_raft::{Input, Position, Write, canon};

use super::{Effect, LogCut, LogWritten, Member};
use crate::machine::StateMachine;
use crate::snapshot::Snapshots;
use crate::tail::Tail;

/// How often it is looked whether the log can be cut (microseconds). It grows by this much more than
/// needed; cutting costs little.
pub(super) const CUT_INTERVAL_US: u64 = 1_000_000;

impl<M: StateMachine> Member<M> {
    /// Puts the frames of this step into the log under the names the module gave them.
    pub(super) fn write(&mut self, write: &Write) {
        if let Some(range) = &write.range {
            if write.anew.is_some() {
                self.tail = Tail::new(range.prev);
                self.log_begins = range.prev;
            } else {
                self.tail.truncate_after(range.prev);
            }
            let mut frames = std::mem::take(&mut self.incoming);
            for frame in frames.drain(..) {
                let position = frame.position();
                if position.index <= range.prev.index || range.last < position.index {
                    continue;
                }
                assert!(
                    range.term_at(position.index) == Some(position.term),
                    "member invariant 1: a frame enters under the name it was given"
                );
                self.time_ms = self.time_ms.max(frame.header().time_ms);
                self.tail.push(frame);
            }
            self.incoming = frames;
            assert!(
                self.tail.last() == range.last_position(),
                "member invariant 1: every entry of a write has its frame"
            );
        }
        self.writer.queue(write);
    }

    pub(super) fn write_log(&mut self) {
        let (tail, last) = (&self.tail, self.tail.last());
        let batch = self.writer.next(last, |after| {
            if after == last.index {
                return Vec::new();
            }
            tail.read(after.next(), last.index, u64::MAX)
        });
        if let Some(batch) = batch {
            self.effects.push(Effect::Write(batch));
        }
    }

    pub(super) fn log_written(&mut self, written: LogWritten) {
        self.disk.progressed();
        for (to, message) in self.writer.written(written) {
            self.effects.push(Effect::Send { to, message: PeerMessage::Raft(message) });
        }
        self.input(Input::Persisted { write: written.number, last: written.last });
        // Every note queued before this batch was handed out went with it; one queued since has its
        // own batch, and its peers wait for that one.
        if !self.writer.has_note() {
            for (peer, messages) in std::mem::take(&mut self.unmet) {
                for message in messages {
                    self.received(peer, message);
                }
            }
        }
    }

    /// Tells the machine how far it may make its own state durable: up to what is durable in this
    /// member's log *and* committed. Durable alone is not enough, for it can be taken back:
    ///
    /// ```text
    ///   log        7 8 9      9 is durable and not committed
    ///   append     7 8 9'     another leader replaces 9; the write of 9' is under way
    ///   commit 9'             by the disks of others: 9' is applied here
    /// ```
    ///
    /// A machine that took "9 is durable" for leave to store the effects of 9' would, after a crash,
    /// have applied an entry that its log does not hold.
    pub(super) fn tell_log_durable(&mut self) {
        let mut safe = self.raft.durable_index().min(self.raft.commit_index());
        if canon!(engine_stores_what_is_durable_alone) {
            safe = self.raft.durable_index();
        }
        if self.log_safe < safe {
            self.log_safe = safe;
            self.machine.log_durable(safe);
        }
    }

    /// Has the log cut behind what the machine holds durably, whoever lags: that one is sent a snapshot.
    /// Without snapshots the log is all there is to build a machine from, here or elsewhere.
    pub(super) fn cut_log(&mut self) {
        if self.now.monotonic_us < self.cut_at_us {
            return;
        }
        self.cut_at_us = self.now.monotonic_us + CUT_INTERVAL_US;
        if self.machine.snapshots() == Snapshots::None {
            return;
        }
        let mut index = self.machine_durable();
        if canon!(log_is_cut_ahead_of_the_engine) {
            index = self.settled();
        }
        if self.log_begins.index < index
            && let Some(term) = self.raft.term_at(index)
        {
            let up_to = Position { index, term };
            let configuration = self.raft.configuration_at(index);
            let configuration = configuration.expect("the log holds the entry").clone();
            let trailing_bytes = self.options.trailing_bytes_max;
            let log_bytes_max = self.options.transfer_log_bytes_max;
            let needed = self.needed_behind().map(|index| (index, log_bytes_max));
            let cut = LogCut { up_to, configuration, trailing_bytes, needed };
            self.effects.push(Effect::Cut(cut));
        }
    }
}
