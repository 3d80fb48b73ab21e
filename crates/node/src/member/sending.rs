//! Sending entries: grants of the consensus module are filled from memory, or from the log.
//!
//! Responsible for: attaching to each append exactly the frames that its range names. Not
//! responsible for: whom to send what, which the consensus module decides.

use jangada_entry::Frame;
use jangada_net::PeerMessage;
use jangada_raft::{Grant, Input, NodeId, canon};

use super::{Effect, LogRead, LogReader, Member};
use crate::machine::StateMachine;

impl<M: StateMachine> Member<M> {
    pub(super) fn send_granted(&mut self) {
        loop {
            self.input(Input::Flush);
            let mut sent_entries = false;
            let mut grants = std::mem::take(&mut self.grants);
            for grant in grants.drain(..) {
                sent_entries |= self.send_grant(grant);
            }
            self.grants = grants;
            // The module grants one append at a time; there may be room for more.
            if !sent_entries {
                return;
            }
        }
    }

    /// Uses a grant, or has its entries read back from the log. True if entries were sent.
    pub(super) fn send_grant(&mut self, grant: Grant) -> bool {
        if grant.range.is_empty() {
            self.send_append(&grant, Vec::new());
            return false;
        }
        let first = grant.range.first();
        if self.tail.holds(first) {
            let frames = self.tail.read(first, grant.range.last, grant.bytes_max);
            self.send_append(&grant, frames);
            return true;
        }
        let peer = grant.peer;
        let read = LogRead {
            reader: LogReader::Peer(peer),
            from: first,
            // What is held here may not have reached the log yet.
            last: match canon!(entries_are_read_back_before_they_are_written) {
                true => grant.range.last,
                false => grant.range.last.min(self.tail.before().index),
            },
            bytes_max: grant.bytes_max,
        };
        self.reading.insert(peer, grant);
        // Should a read be under way for an earlier grant, the right one follows its answer.
        if self.reads_under_way.insert(peer) {
            self.effects.push(Effect::Read(read));
        }
        false
    }

    pub(super) fn send_append(&mut self, grant: &Grant, frames: Vec<Frame>) {
        let last = frames.last().map_or(grant.range.prev.index, |frame| frame.position().index);
        let named_alike = frames.iter().all(|frame| {
            let position = frame.position();
            grant.range.term_at(position.index) == Some(position.term)
        });
        if !named_alike {
            // The log was overwritten while the entries were read; the peer is probed anew.
            self.input(Input::Unreachable(grant.peer));
            return;
        }
        let bytes = frames.iter().map(|frame| frame.bytes().len() as u64).sum();
        let request = grant.request(last);
        self.send(grant.peer, PeerMessage::Append { request, frames });
        self.input(Input::Sent { peer: grant.peer, last, bytes });
    }

    pub(super) fn log_read_for(&mut self, peer: NodeId, frames: Vec<Frame>) {
        assert!(self.reads_under_way.remove(&peer), "the log answers what it was asked");
        // No grant: leadership ended or the lane broke while the log was read.
        let Some(grant) = self.reading.remove(&peer) else { return };
        if frames.is_empty() {
            // They were cut off meanwhile: the module finds that the peer needs a snapshot.
            self.input(Input::Unreachable(peer));
            return;
        }
        let first = grant.range.first();
        let other = frames.first().is_none_or(|frame| frame.position().index != first);
        if other && !canon!(entries_of_an_earlier_grant_are_sent) {
            self.send_grant(grant);
            return;
        }
        let wanted = frames.into_iter().take_while(|f| f.position().index <= grant.range.last);
        self.send_append(&grant, wanted.collect());
    }
}
