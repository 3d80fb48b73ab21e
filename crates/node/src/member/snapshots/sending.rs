//! Sending snapshots: the leader's side of a transfer.
//!
//! Invariants:
//! 1. To one peer there is at most one transfer, and never more than [`TRANSFERS_MAX`] at a time.
//! 2. What is sent and not staged yet is at most [`WINDOW_BYTES`], or a single chunk.
//! 3. The consensus module is told of the end of each transfer that it has asked for, once, unless the
//!    term or the role has changed.

use std::collections::VecDeque;

use jangada_net::{PeerMessage, SnapshotChunk, SnapshotHead, SnapshotMessage, SnapshotRefusal};
use jangada_raft::{Index, Input, NodeId, Position, RoleKind, Term, canon};

use super::super::Member;
use super::whole::WholeReader;
use super::work::{SnapshotWork, Task};
use super::{RETRY_US, SILENCE_US, TRANSFERS_MAX, WINDOW_BYTES};
use crate::machine::StateMachine;
use crate::member::Effect;
use crate::record::Record;
use crate::snapshot::{Chunk, SnapshotError, SnapshotReader, Snapshots, WholeState};

/// Who wants a snapshot to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum By {
    /// The consensus module, for the peer needs what was cut off the log.
    Module,
    /// The peer, whose machine lacks what its log does not hold.
    Peer,
}

/// A snapshot that is to be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    by: By,
    at_least: Index,
    not_before_us: u64,
}

/// A transfer to a peer.
pub(super) struct Sending {
    transfer: u64,
    term: Term,
    by: By,
    at_least: Index,
    /// When the peer was heard last.
    heard_us: u64,
    /// Once the peer has accepted.
    stream: Option<Stream>,
}

/// What is read and sent.
struct Stream {
    /// The last entry that the view covers.
    last: Position,
    /// To go with the first chunk.
    head: Option<SnapshotHead>,
    /// While it is not read from.
    reader: Option<Box<dyn SnapshotReader>>,
    /// Read, and waiting for room in the window.
    chunk: Option<Chunk>,
    /// The last chunk that was sent.
    number: u64,
    /// The sizes of the chunks that are sent and not staged yet.
    outstanding: VecDeque<u64>,
    /// Whether the last chunk was read.
    is_read: bool,
}

impl Stream {
    fn has_room_for(&self, bytes: u64) -> bool {
        let outstanding: u64 = self.outstanding.iter().sum();
        self.outstanding.is_empty() || outstanding + bytes <= WINDOW_BYTES
    }
}

impl<M: StateMachine> Member<M> {
    /// The consensus module wants a snapshot to be sent.
    pub(in crate::member) fn snapshot_asked_for(&mut self, peer: NodeId, at_least: Index) {
        if !canon!(cut_log_sends_no_snapshot) {
            self.want_to_send(peer, By::Module, at_least);
        }
    }

    /// A peer wants to be sent a snapshot.
    pub(super) fn snapshot_wanted(&mut self, peer: NodeId, at_least: Index) {
        if self.raft.role() == RoleKind::Leader && self.machine.snapshots() != Snapshots::None {
            self.want_to_send(peer, By::Peer, at_least);
        }
    }

    fn want_to_send(&mut self, peer: NodeId, by: By, at_least: Index) {
        if let Some(sending) = self.snapshots.sending.get_mut(&peer) {
            if by == By::Module {
                sending.by = by;
            }
            return;
        }
        let failed_us = self.snapshots.failed_us.get(&peer);
        let not_before_us = failed_us.map_or(0, |failed_us| failed_us + RETRY_US);
        let wanted = Wanted { by, at_least, not_before_us };
        let known = self.snapshots.wanted.entry(peer).or_insert(wanted);
        known.at_least = known.at_least.max(at_least);
        if by == By::Module {
            known.by = by;
        }
    }

    /// Leadership ended, or began anew.
    pub(in crate::member) fn stop_sending(&mut self) {
        self.snapshots.wanted.clear();
        for peer in std::mem::take(&mut self.snapshots.sending).into_keys() {
            self.snapshots.send_failed(peer);
        }
        self.snapshots.failed_us.clear();
    }

    /// This member's state is not to be trusted: nobody gets it. What is wanted waits until it holds
    /// another state, or leads no more.
    pub(in crate::member) fn withdraw_snapshots(&mut self) {
        let peers: Vec<NodeId> = self.snapshots.sending.keys().copied().collect();
        peers.into_iter().for_each(|peer| self.sending_failed(peer));
    }

    /// Offers what is wanted, sends what there is room for, and gives up what nobody answers.
    pub(super) fn tend_sending(&mut self) {
        let now_us = self.now.monotonic_us;
        let is_silent = |sending: &Sending| sending.heard_us + SILENCE_US <= now_us;
        let silent = self.snapshots.sending.iter().filter(|(_, sending)| is_silent(sending));
        let silent: Vec<NodeId> = silent.map(|(peer, _)| *peer).collect();
        silent.into_iter().for_each(|peer| self.sending_failed(peer));
        self.offer();
        let peers: Vec<NodeId> = self.snapshots.sending.keys().copied().collect();
        peers.into_iter().for_each(|peer| self.send_chunks(peer));
    }

    fn offer(&mut self) {
        while !self.is_quarantined() && self.snapshots.sending.len() < TRANSFERS_MAX {
            let now_us = self.now.monotonic_us;
            let due = |wanted: &Wanted| wanted.not_before_us <= now_us;
            let next = self.snapshots.wanted.iter().find(|(_, wanted)| due(wanted));
            let Some((peer, Wanted { by, at_least, .. })) = next.map(|(p, w)| (*p, *w)) else {
                return;
            };
            self.snapshots.wanted.remove(&peer);
            self.snapshots.transfer_last += 1;
            let (transfer, term) = (self.snapshots.transfer_last, self.raft.term());
            let sending = Sending { transfer, term, by, at_least, heard_us: now_us, stream: None };
            self.snapshots.sending.insert(peer, sending);
            let offer = SnapshotMessage::Offer { transfer, term };
            self.send(peer, PeerMessage::Snapshot(offer));
        }
    }

    /// When there is something to do next for what is sent.
    pub(super) fn sending_next_us(&self) -> Option<u64> {
        let snapshots = &self.snapshots;
        let waits = |s: &Stream| {
            s.chunk.as_ref().is_some_and(|chunk| s.has_room_for(chunk.bytes.len() as u64))
        };
        let sending = snapshots.sending.values().map(|sending| match &sending.stream {
            Some(stream) if waits(stream) => snapshots.free_us,
            _ => sending.heard_us + SILENCE_US,
        });
        let may_offer = !self.is_quarantined() && snapshots.sending.len() < TRANSFERS_MAX;
        let wanted = snapshots.wanted.values().filter(|_| may_offer);
        sending.chain(wanted.map(|wanted| wanted.not_before_us)).min()
    }

    pub(super) fn heard_of_sending(&mut self, peer: NodeId, message: SnapshotMessage) {
        let now_us = self.now.monotonic_us;
        let (SnapshotMessage::Accept { transfer, .. }
        | SnapshotMessage::Staged { transfer, .. }
        | SnapshotMessage::Installed { transfer, .. }
        | SnapshotMessage::Refused { transfer, .. }) = message
        else {
            return;
        };
        // What is said of an earlier transfer is of no interest.
        let known = self.snapshots.sending.get_mut(&peer);
        let Some(sending) = known.filter(|sending| sending.transfer == transfer) else { return };
        sending.heard_us = now_us;
        match message {
            SnapshotMessage::Accept { resume, .. } if sending.stream.is_none() => {
                self.begin_stream(peer, resume.as_deref());
            }
            SnapshotMessage::Staged { number, .. } => {
                if let Some(stream) = &mut sending.stream {
                    let left = usize::try_from(stream.number.saturating_sub(number));
                    let left = left.expect("the window is small").min(stream.outstanding.len());
                    let staged = stream.outstanding.len() - left;
                    stream.outstanding.drain(..staged);
                }
            }
            SnapshotMessage::Installed { last, .. } => self.sending_succeeded(peer, last),
            SnapshotMessage::Refused { reason, .. } => {
                if reason == SnapshotRefusal::Unfit {
                    tracing::warn!(peer = %peer, "the peer does not take the snapshot");
                }
                self.sending_failed(peer);
            }
            _ => {}
        }
    }

    /// The peer has accepted: a view is taken.
    fn begin_stream(&mut self, peer: NodeId, resume: Option<&[u8]>) {
        let reader = match self.view(resume) {
            Ok(reader) => reader,
            Err(SnapshotError::Broken(sentence)) => panic!("{sentence}"),
            Err(_) => return self.sending_failed(peer),
        };
        let record = reader.record();
        let last = match Record::decode(&record) {
            Ok(record) => record.applied,
            Err(error) => panic!("the machine gives back the record it was given: {error}"),
        };
        let sending = self.snapshots.sending.get_mut(&peer).expect("the peer was just found");
        if last.index < sending.at_least {
            return self.sending_failed(peer);
        }
        // Whether it resumes is known once the first chunk is read.
        let head = SnapshotHead { last, record, resumes: false };
        sending.stream = Some(Stream {
            last,
            head: Some(head),
            reader: Some(reader),
            chunk: None,
            number: 0,
            outstanding: VecDeque::new(),
            is_read: false,
        });
        self.snapshots.send_begins(peer);
        self.send_chunks(peer);
    }

    fn view(&mut self, resume: Option<&[u8]>) -> Result<Box<dyn SnapshotReader>, SnapshotError> {
        match self.machine.snapshots() {
            Snapshots::None => Err(SnapshotError::Unavailable),
            Snapshots::Streamed => self.machine.snapshot(resume),
            Snapshots::Whole => {
                let record = self.record.encode();
                Ok(Box::new(WholeReader::new(record, WholeState::of(&self.machine), resume)))
            }
        }
    }

    /// Sends what is read and has room, and has the next chunk read.
    fn send_chunks(&mut self, peer: NodeId) {
        let (now_us, rate) = (self.now.monotonic_us, self.options.snapshot_bytes_per_second);
        let Some(sending) = self.snapshots.sending.get_mut(&peer) else { return };
        let Some(stream) = &mut sending.stream else { return };
        let size = stream.chunk.as_ref().map(|chunk| chunk.bytes.len() as u64);
        let may_go = size.is_some_and(|bytes| stream.has_room_for(bytes));
        let mut message = None;
        if may_go
            && self.snapshots.free_us <= now_us
            && let Some(Chunk { bytes, resume, is_last }) = stream.chunk.take()
        {
            let length = bytes.len() as u64;
            stream.number += 1;
            stream.outstanding.push_back(length);
            self.snapshots.free_us = now_us + length * 1_000_000 / rate.max(1);
            message = Some(SnapshotMessage::Chunk(SnapshotChunk {
                transfer: sending.transfer,
                term: sending.term,
                number: stream.number,
                head: stream.head.take(),
                is_last,
                resume,
                bytes,
            }));
        }
        let transfer = sending.transfer;
        if stream.chunk.is_none()
            && !stream.is_read
            && let Some(reader) = stream.reader.take()
        {
            let task = Task::Read { reader, outcome: None };
            self.effects.push(Effect::SnapshotWork(SnapshotWork { peer, transfer, task }));
        }
        if let Some(message) = message {
            self.send(peer, PeerMessage::Snapshot(message));
        }
    }

    /// A chunk was read.
    pub(super) fn chunk_read(
        &mut self,
        peer: NodeId,
        transfer: u64,
        reader: Box<dyn SnapshotReader>,
        outcome: Option<Result<Chunk, SnapshotError>>,
    ) {
        let known = self.snapshots.sending.get_mut(&peer);
        // The transfer was given up meanwhile.
        let Some(sending) = known.filter(|sending| sending.transfer == transfer) else { return };
        let Some(stream) = &mut sending.stream else { return };
        match outcome.expect("work that is handed back is done") {
            Ok(chunk) => {
                if let Some(head) = &mut stream.head {
                    head.resumes = reader.resumes();
                }
                stream.is_read = chunk.is_last;
                stream.chunk = Some(chunk);
                stream.reader = Some(reader);
            }
            Err(error) => {
                tracing::warn!(peer = %peer, "the snapshot cannot be read on: {error}");
                self.sending_failed(peer);
            }
        }
    }

    fn sending_succeeded(&mut self, peer: NodeId, last: Index) {
        let Some(sending) = self.snapshots.sending.remove(&peer) else { return };
        self.snapshots.failed_us.remove(&peer);
        self.snapshots.sent += 1;
        self.snapshots.send_succeeded(peer);
        // A view covers what is applied here, and so committed.
        let last = sending.stream.map_or(last, |s| s.last.index).min(self.raft.commit_index());
        let until_us = self.now.monotonic_us + SILENCE_US;
        self.snapshots.delivered.insert(peer, (last, until_us));
        if sending.by == By::Module {
            self.input(Input::SnapshotDelivered { peer, last });
        }
    }

    pub(super) fn sending_failed(&mut self, peer: NodeId) {
        let Some(sending) = self.snapshots.sending.remove(&peer) else { return };
        self.snapshots.failed_us.insert(peer, self.now.monotonic_us);
        self.snapshots.send_failed(peer);
        if sending.by == By::Module {
            self.input(Input::SnapshotFailed(peer));
        }
    }

    /// The lowest index behind which entries are needed by who is being sent a snapshot, or has just
    /// been.
    pub(in crate::member) fn needed_behind(&self) -> Option<Index> {
        let now_us = self.now.monotonic_us;
        let streams = self.snapshots.sending.values().filter_map(|s| s.stream.as_ref());
        let delivered = self.snapshots.delivered.values();
        let delivered = delivered.filter(|(_, until_us)| now_us < *until_us);
        streams.map(|s| s.last.index).chain(delivered.map(|(last, _)| *last)).min()
    }
}
