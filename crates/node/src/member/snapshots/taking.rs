//! Taking snapshots: the receiver's side of a transfer.
//!
//! ```text
//!   chunks -> staged -> all there -> the sender's term is durable here -> finished by the machine
//!          -> the machine's state is the snapshot's -> SnapshotInstalled -> the log, begun anew
//! ```
//!
//! Up to "finished" everything can be given up; from there on nothing can, and nothing is applied
//! until it is done.
//!
//! Invariants:
//! 1. The consensus module hears of a snapshot only once the machine holds it durably.
//! 2. From the order to finish until it is carried out nothing is applied.
//! 3. What waits to be staged is at most [`QUEUED_CHUNKS_MAX`] chunks.

use std::collections::VecDeque;

use bytes::Bytes;
use jangada_net::{PeerMessage, SnapshotChunk, SnapshotHead, SnapshotMessage, SnapshotRefusal};
use jangada_raft::{Index, Input, NodeId, Position, RoleKind, Term, Timer, canon};

use super::super::{Effect, Member};
use super::whole::WHOLE_BYTES_MAX;
use super::work::{Order, SnapshotWork, Task};
use super::{ALIVE_US, QUEUED_CHUNKS_MAX, RETRY_US, SILENCE_US, STAGE_KEPT_US};
use crate::machine::StateMachine;
use crate::record::Record;
use crate::saved::UnsavedState;
use crate::snapshot::{SnapshotError, SnapshotStage, Snapshots};

/// Where chunks go.
pub(super) enum Stage {
    /// Into the machine's own stage.
    Streamed(Box<dyn SnapshotStage>),
    /// Into memory, for a machine that keeps nothing durable.
    Whole(Vec<u8>),
}

/// A transfer from a leader.
pub(super) struct Taking {
    from: NodeId,
    transfer: u64,
    term: Term,
    head: Option<Head>,
    /// While it is not worked on.
    stage: Option<Stage>,
    queue: VecDeque<SnapshotChunk>,
    /// The last chunk that came, and the last one that is staged.
    arrived: u64,
    staged: u64,
    /// The token behind what is staged.
    resume: Option<Bytes>,
    phase: Phase,
    /// When the leader was heard last, and when it was told last that this member lives.
    heard_us: u64,
    told_us: u64,
}

/// What the snapshot is.
struct Head {
    last: Position,
    record: Record,
    record_bytes: Bytes,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Chunks come and are staged.
    Staging,
    /// All chunks are staged.
    Complete,
    /// The machine makes them its state (invariant 2).
    Finishing,
}

/// What is left of a transfer that broke.
pub(super) struct Kept {
    stage: Stage,
    resume: Bytes,
    until_us: u64,
}

impl<M: StateMachine> Member<M> {
    /// Whether nothing may be applied: the machine is being replaced, or lacks what comes before, or
    /// the log lacks entries.
    pub(in crate::member) fn is_paused(&self) -> bool {
        let finishing = |taking: &Taking| taking.phase == Phase::Finishing;
        self.snapshots.taking.as_ref().is_some_and(finishing)
            || self.snapshots.needed.is_some()
            || self.is_mending()
    }

    /// Whether this member's machine lacks what its log does not hold any more: it can neither apply
    /// nor lead until it has been sent a snapshot.
    pub(in crate::member) fn needs_snapshot(&self) -> bool {
        self.snapshots.needed.is_some()
    }

    /// This member's machine is to be replaced by a snapshot that covers this entry at least.
    pub(in crate::member) fn want_snapshot(&mut self, at_least: Index) {
        let needed = self.snapshots.needed.get_or_insert(at_least);
        *needed = at_least.max(*needed);
    }

    pub(super) fn heard_from_sender(&mut self, from: NodeId, message: SnapshotMessage) {
        match message {
            SnapshotMessage::Offer { transfer, term } => self.offered(from, transfer, term),
            SnapshotMessage::Chunk(chunk) => self.chunk_arrived(from, chunk),
            _ => {}
        }
    }

    fn say(&mut self, to: NodeId, message: SnapshotMessage) {
        self.send(to, PeerMessage::Snapshot(message));
    }

    fn turn_down(&mut self, to: NodeId, transfer: u64, reason: SnapshotRefusal) {
        self.say(to, SnapshotMessage::Refused { transfer, reason });
    }

    fn offered(&mut self, from: NodeId, transfer: u64, term: Term) {
        if self.machine.snapshots() == Snapshots::None {
            return self.turn_down(from, transfer, SnapshotRefusal::Unfit);
        }
        let of_a_later_term = self.snapshots.taking.as_ref().is_some_and(|t| term < t.term);
        if term < self.raft.term() || of_a_later_term || self.raft.role() == RoleKind::Leader {
            return self.turn_down(from, transfer, SnapshotRefusal::Stale);
        }
        if self.is_mending() {
            // The consensus module, which hears nothing now, could not be told of it.
            return self.turn_down(from, transfer, SnapshotRefusal::Busy);
        }
        self.give_up_taking();
        if self.snapshots.taking.is_some() || self.snapshots.returning.is_some() || self.is_saving()
        {
            // What is under way cannot be stopped, or not at once.
            return self.turn_down(from, transfer, SnapshotRefusal::Busy);
        }
        let now_us = self.now.monotonic_us;
        let resume = self.snapshots.kept.as_ref().map(|kept| kept.resume.clone());
        self.snapshots.taking = Some(Taking {
            from,
            transfer,
            term,
            head: None,
            stage: None,
            queue: VecDeque::new(),
            arrived: 0,
            staged: 0,
            resume: None,
            phase: Phase::Staging,
            heard_us: now_us,
            told_us: now_us,
        });
        self.say(from, SnapshotMessage::Accept { transfer, resume });
    }

    /// Ends the transfer that is under way, if it can be ended; what is staged is kept, for the next one
    /// to go on from.
    fn give_up_taking(&mut self) {
        let Some(taking) = self.snapshots.taking.take_if(|t| t.phase != Phase::Finishing) else {
            return;
        };
        let Taking { from, transfer, head, stage, resume, .. } = taking;
        self.snapshots.take_failed(from);
        match (stage, resume) {
            (Some(stage), Some(resume)) => {
                let until_us = self.now.monotonic_us + STAGE_KEPT_US;
                self.snapshots.kept = Some(Kept { stage, resume, until_us });
            }
            // The stage comes back with its work.
            (None, _) if head.is_some() => self.snapshots.returning = Some((from, transfer)),
            _ => {}
        }
    }

    /// The transfer is of no use: it ends, and what is staged is forgotten.
    fn drop_taking(&mut self) {
        self.give_up_taking();
        self.snapshots.kept = None;
    }

    fn refuse_taking(&mut self, reason: SnapshotRefusal) {
        if let Some(Taking { from, transfer, .. }) = &self.snapshots.taking {
            let (from, transfer) = (*from, *transfer);
            self.turn_down(from, transfer, reason);
        }
        self.drop_taking();
    }

    fn chunk_arrived(&mut self, from: NodeId, chunk: SnapshotChunk) {
        let now_us = self.now.monotonic_us;
        let known = self.snapshots.taking.as_mut();
        let fits = |t: &&mut Taking| t.from == from && t.transfer == chunk.transfer;
        let Some(taking) = known.filter(fits) else {
            // Of a transfer that was given up here.
            return self.turn_down(from, chunk.transfer, SnapshotRefusal::Stale);
        };
        if taking.phase != Phase::Staging || chunk.term != taking.term {
            return;
        }
        taking.heard_us = now_us;
        let in_order = chunk.number == taking.arrived + 1;
        let has_head = chunk.head.is_some() == (chunk.number == 1);
        if !in_order || !has_head || QUEUED_CHUNKS_MAX <= taking.queue.len() {
            return self.refuse_taking(SnapshotRefusal::Unfit);
        }
        taking.arrived = chunk.number;
        let head = chunk.head.clone();
        taking.queue.push_back(chunk);
        if let Some(head) = head {
            self.begin_taking(head);
        }
        self.stage_next();
    }

    /// The first chunk says what the snapshot is.
    fn begin_taking(&mut self, SnapshotHead { last, record: record_bytes, resumes }: SnapshotHead) {
        let record = match Record::decode(&record_bytes) {
            // What a later version of the cluster means by it is not known here.
            Ok(record) if record.applied == last && record.version <= self.levels.own => record,
            _ => return self.refuse_taking(SnapshotRefusal::Unfit),
        };
        if !self.is_news(last) {
            return self.hold_it_already(last.index);
        }
        let kept = self.snapshots.kept.take().filter(|_| resumes);
        let (stage, resume) = match (kept, self.machine.snapshots()) {
            (Some(kept), _) => (kept.stage, Some(kept.resume)),
            (None, Snapshots::Whole) => (Stage::Whole(Vec::new()), None),
            (None, _) => match self.machine.stage() {
                Ok(stage) => (Stage::Streamed(stage), None),
                Err(SnapshotError::Broken(sentence)) => panic!("{sentence}"),
                Err(error) => {
                    tracing::warn!("a snapshot is not taken: {error}");
                    return self.refuse_taking(SnapshotRefusal::Busy);
                }
            },
        };
        let was_kept = resume.is_some();
        let taking = self.snapshots.taking.as_mut().expect("a chunk of it has just come");
        if resumes && !was_kept {
            // What it follows on is gone.
            return self.refuse_taking(SnapshotRefusal::Stale);
        }
        taking.stage = Some(stage);
        taking.resume = resume;
        taking.head = Some(Head { last, record, record_bytes });
        let from = taking.from;
        self.snapshots.take_begins(from);
    }

    /// Whether a snapshot that covers `last` is wanted here.
    fn is_news(&self, last: Position) -> bool {
        match self.snapshots.needed {
            Some(needed) => needed <= last.index && self.record.applied.index <= last.index,
            None => self.raft.commit_index() < last.index,
        }
    }

    /// The log has caught up by itself.
    fn hold_it_already(&mut self, last: Index) {
        if let Some(Taking { from, transfer, .. }) = &self.snapshots.taking {
            let (from, transfer) = (*from, *transfer);
            self.snapshots.take_is_needless(from);
            self.say(from, SnapshotMessage::Installed { transfer, last });
        }
        self.drop_taking();
    }

    /// Has the next chunk staged.
    fn stage_next(&mut self) {
        let Some(taking) = &mut self.snapshots.taking else { return };
        if taking.phase != Phase::Staging || taking.head.is_none() {
            return;
        }
        let Some(stage) = taking.stage.take() else { return };
        let Some(chunk) = taking.queue.pop_front() else {
            taking.stage = Some(stage);
            return;
        };
        let SnapshotChunk { number, resume, is_last, bytes, .. } = chunk;
        let order = Order::Push { number, resume, is_last };
        let (peer, transfer) = (taking.from, taking.transfer);
        match stage {
            Stage::Streamed(mut stage) => {
                stage.push(bytes);
                let task = Task::Stage { stage, order, outcome: None };
                self.effects.push(Effect::SnapshotWork(SnapshotWork { peer, transfer, task }));
            }
            Stage::Whole(mut state) => {
                if WHOLE_BYTES_MAX < state.len() + bytes.len() {
                    return self.refuse_taking(SnapshotRefusal::Unfit);
                }
                state.extend_from_slice(&bytes);
                self.staged(peer, transfer, Stage::Whole(state), order, Ok(()));
                self.stage_next();
            }
        }
    }

    /// A stage has carried out its order.
    pub(super) fn staged(
        &mut self,
        from: NodeId,
        transfer: u64,
        stage: Stage,
        order: Order,
        outcome: Result<(), SnapshotError>,
    ) {
        let returns = self.snapshots.returning.take_if(|returning| *returning == (from, transfer));
        if returns.is_some() {
            if let (Ok(()), Order::Push { resume, .. }) = (outcome, order) {
                let until_us = self.now.monotonic_us + STAGE_KEPT_US;
                self.snapshots.kept = Some(Kept { stage, resume, until_us });
            }
            return;
        }
        let taking = self.snapshots.taking.as_mut().expect("its stage was being worked on");
        assert!((taking.from, taking.transfer) == (from, transfer), "one stage at a time");
        match (outcome, order) {
            (Ok(()), Order::Push { number, resume, is_last }) => {
                taking.stage = Some(stage);
                taking.staged = number;
                taking.resume = Some(resume);
                taking.told_us = self.now.monotonic_us;
                if is_last {
                    taking.phase = Phase::Complete;
                }
                self.say(from, SnapshotMessage::Staged { transfer, number });
                self.stage_next();
            }
            (Ok(()), Order::Finish) => self.finished(),
            (Err(error), _) => {
                tracing::warn!("the snapshot is not taken: {error}");
                let reason = match error {
                    SnapshotError::Unfit(_) => SnapshotRefusal::Unfit,
                    _ => SnapshotRefusal::Busy,
                };
                // The old state is as it was, and applying goes on.
                taking.phase = Phase::Staging;
                taking.head = None;
                self.refuse_taking(reason);
            }
        }
    }

    /// Goes on with what waits for something, tells the leader that this member lives, and gives up
    /// what nobody goes on with.
    pub(super) fn tend_taking(&mut self) {
        self.finish_taking();
        let now_us = self.now.monotonic_us;
        self.snapshots.kept.take_if(|kept| kept.until_us <= now_us);
        self.ask_for_snapshot();
        let Some(taking) = &mut self.snapshots.taking else { return };
        let works = taking.stage.is_none() && taking.head.is_some();
        let waits = taking.phase == Phase::Complete;
        if (works || waits) && taking.told_us + ALIVE_US <= now_us {
            taking.told_us = now_us;
            let (from, transfer, number) = (taking.from, taking.transfer, taking.staged);
            return self.say(from, SnapshotMessage::Staged { transfer, number });
        }
        if !works && !waits && taking.heard_us + SILENCE_US <= now_us {
            self.give_up_taking();
        }
    }

    pub(super) fn taking_next_us(&self) -> Option<u64> {
        let Some(taking) = &self.snapshots.taking else {
            let kept = self.snapshots.kept.as_ref().map(|kept| kept.until_us);
            let asks = self.snapshots.needed.map(|_| self.snapshots.ask_us);
            return kept.into_iter().chain(asks).min();
        };
        let works = taking.stage.is_none() && taking.head.is_some();
        if works || taking.phase == Phase::Complete {
            return Some(taking.told_us + ALIVE_US);
        }
        Some(taking.heard_us + SILENCE_US)
    }

    /// Asks the leader for what this member's machine lacks.
    fn ask_for_snapshot(&mut self) {
        let now_us = self.now.monotonic_us;
        let Some(at_least) = self.snapshots.needed else { return };
        let Some(leader) = self.leader().filter(|leader| *leader != self.id) else { return };
        if self.snapshots.taking.is_none() && self.snapshots.ask_us <= now_us {
            self.say(leader, SnapshotMessage::Wanted { at_least });
            self.snapshots.ask_us = now_us + RETRY_US;
        }
    }

    /// When all is staged, has the machine make it its state: once the term of the leader that has sent
    /// it, or a later one, is durable here (the consensus module's snapshots, "the term comes first").
    fn finish_taking(&mut self) {
        let Some(taking) = &self.snapshots.taking else { return };
        let Some(head) = &taking.head else { return };
        let (last, term, phase) = (head.last, taking.term, taking.phase);
        if phase != Phase::Finishing && !self.is_news(last) {
            return self.hold_it_already(last.index);
        }
        let term_is_durable = term <= self.raft.term() && self.raft.is_hard_state_durable();
        if phase != Phase::Complete || !term_is_durable || self.reading_to_apply {
            return;
        }
        let taking = self.snapshots.taking.as_mut().expect("there is one");
        let head = taking.head.as_ref().expect("it has one");
        let record_bytes = head.record_bytes.clone();
        let (peer, transfer) = (taking.from, taking.transfer);
        taking.phase = Phase::Finishing;
        match taking.stage.take().expect("nothing works on it") {
            Stage::Streamed(_) if canon!(staged_restore_is_taken_for_finished) => {
                self.finished();
            }
            Stage::Streamed(mut stage) => {
                let configuration = head.record.membership.configuration().clone();
                stage.finish(last.index, record_bytes);
                let task = Task::Stage { stage, order: Order::Finish, outcome: None };
                self.effects.push(Effect::SnapshotWork(SnapshotWork { peer, transfer, task }));
                if canon!(log_is_begun_anew_before_the_machine_is_durable) {
                    self.input(Input::SnapshotInstalled { last, configuration });
                }
            }
            Stage::Whole(state) => match self.machine.load(&state) {
                Ok(()) => {
                    let (applied, record) = (last.index, record_bytes);
                    let state = Bytes::from(state).into();
                    self.effects.push(Effect::SaveState(UnsavedState { applied, record, state }));
                }
                Err(error) => {
                    tracing::warn!("the snapshot is not taken: {error}");
                    let taking = self.snapshots.taking.as_mut().expect("there is one");
                    taking.phase = Phase::Staging;
                    taking.head = None;
                    self.refuse_taking(SnapshotRefusal::Unfit);
                }
            },
        }
    }

    /// What was saved for a machine that keeps nothing durable may be the snapshot.
    pub(super) fn taken_state_saved(&mut self, applied: Index) {
        let is_it = |taking: &Taking| {
            taking.phase == Phase::Finishing
                && taking.head.as_ref().is_some_and(|head| head.last.index == applied)
        };
        let whole = self.machine.snapshots() == Snapshots::Whole;
        if whole && self.snapshots.taking.as_ref().is_some_and(is_it) {
            self.finished();
        }
    }

    /// The machine holds the snapshot, durably: the node's notes, and then the consensus module, follow
    /// (invariant 1).
    fn finished(&mut self) {
        let taking = self.snapshots.taking.take().expect("it was being finished");
        let Taking { from, transfer, head, .. } = taking;
        let Head { last, record, .. } = head.expect("what is finished has a head");
        let skipped = canon!(staged_restore_is_taken_for_finished);
        if self.machine.snapshots() == Snapshots::Streamed && !skipped {
            self.machine.installed();
            assert!(last.index <= self.machine.durable_index(), "taking invariant 1");
        }
        assert!(self.record.applied.index <= last.index, "what is applied is never taken back");
        let configuration = record.membership.configuration().clone();
        self.time_ms = self.time_ms.max(record.time_ms);
        self.record = record;
        self.snapshots.installed += 1;
        self.snapshots.take_succeeded(from);
        self.snapshots.kept = None;
        if self.snapshots.needed.take().is_some() {
            // It was not let stand for election without its state.
            self.timers.restart(Timer::Election, self.now);
        }
        self.log_safe = self.log_safe.max(last.index);
        self.machine.log_durable(self.log_safe);
        self.replaced_by_snapshot();
        self.doubt_all();
        self.input(Input::SnapshotInstalled { last, configuration });
        self.members_changed();
        let installed = SnapshotMessage::Installed { transfer, last: last.index };
        self.say(from, installed);
    }

    /// Commands of this member's clients may have been among those that the snapshot covers: nobody
    /// will ever see their answers here.
    fn doubt_all(&mut self) {
        if 0 < self.sequence_last {
            self.effects.push(Effect::Doubt { sequence_max: self.sequence_last });
        }
    }
}
