//! What every runtime does with a member: hand it what came, step it, and carry out what it asks.
//!
//! A runtime owns the threads, the clock, the sockets and the files, and gives them to the driver as
//! an [`Io`].

use std::collections::BTreeMap;
use std::task::Waker;

use jangada_net::PeerMessage;
use jangada_raft::{Index, NodeId, Standing};

use crate::handle::{Handle, Inbox};
use crate::machine::StateMachine;
use crate::member::{
    Effect, Ended, Event, LogBatch, LogCut, LogRead, Member, Mend, Now, Peers, Quarantine,
    SnapshotWork,
};
use crate::saved::UnsavedState;
use crate::waiters::Waiters;

/// The world outside a member.
pub(crate) trait Io {
    /// Makes a batch durable; [`Event::LogWritten`] follows.
    fn write(&mut self, batch: LogBatch);
    /// Reads entries back; [`Event::LogRead`] follows.
    fn read(&mut self, read: LogRead);
    /// Cuts the log; [`Event::LogBegins`] follows.
    fn cut(&mut self, cut: LogCut);
    /// Does something about the log's damage; [`Event::Mended`] follows.
    fn mend(&mut self, mend: Mend);
    /// Gives work on a snapshot its turns; [`Event::SnapshotWorked`] follows.
    fn work(&mut self, work: SnapshotWork);
    /// Writes and saves a machine's state; [`Event::StateSaved`] follows.
    fn save(&mut self, state: UnsavedState);
    /// Sends to a peer; [`Event::LaneLost`] follows if it cannot be sent.
    fn send(&mut self, to: NodeId, message: PeerMessage);
    /// Role, term or leader changed.
    fn changed(&mut self, standing: Standing);
    /// A peer shows an incarnation it was not met under.
    fn stranger(&mut self, peer: NodeId, met: u64, shown: u64);
    /// Whom to be connected to has changed.
    fn peers(&mut self, peers: Peers);
    /// The log's disk is stuck: the process is to stop.
    fn abort(&mut self, stalled_us: u64);
    /// The member's state is not what a majority has.
    fn quarantined(&mut self, quarantine: Quarantine);
    /// The members' states differ, and nobody can tell who is right.
    fn hashes_differ(&mut self, index: Index, hashes: BTreeMap<NodeId, u64>);
}

/// A member with its clients.
pub(crate) struct Driver<M: StateMachine> {
    member: Member<M>,
    waiters: Waiters<M>,
    events: Vec<Event>,
    effects: Vec<Effect<M::Reply>>,
    ended: Option<Ended>,
}

impl<M: StateMachine> Driver<M> {
    pub(crate) fn new(process: u64, group: u64, member: Member<M>) -> (Driver<M>, Handle<M>) {
        let (waiters, handle) = Waiters::new(process, group, member.status());
        let (events, effects) = (Vec::new(), Vec::new());
        (Driver { member, waiters, events, effects, ended: None }, handle)
    }

    /// Takes what came; leaves word whom to wake if nothing did.
    pub(crate) fn collect(&mut self, waker: &Waker) -> Inbox {
        self.waiters.collect(&mut self.events, waker)
    }

    /// Hands the member an event from the runtime's own thread.
    pub(crate) fn push(&mut self, event: Event) {
        self.events.push(event);
    }

    pub(crate) fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// How many events wait for the next turn.
    pub(crate) fn events(&self) -> usize {
        self.events.len()
    }

    pub(crate) fn member(&self) -> &Member<M> {
        &self.member
    }

    /// Why the member has ended by itself, if it has: it is to be turned no more.
    pub(crate) fn ended(&self) -> Option<Ended> {
        self.ended
    }

    /// One turn: step, carry out, answer. Says whether somebody was answered.
    pub(crate) fn turn(&mut self, now: Now, io: &mut impl Io) -> bool {
        let mut answered = false;
        self.member.step(now, &mut self.events, &mut self.effects);
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Write(batch) => io.write(batch),
                Effect::Read(read) => io.read(read),
                Effect::Cut(cut) => io.cut(cut),
                Effect::Mend(mend) => io.mend(mend),
                Effect::SnapshotWork(work) => io.work(work),
                Effect::SaveState(state) => io.save(state),
                Effect::Send { to, message } => io.send(to, message),
                Effect::Changed(standing) => io.changed(standing),
                Effect::Stranger { peer, met, shown } => io.stranger(peer, met, shown),
                Effect::Peers(peers) => io.peers(peers),
                Effect::Abort { stalled_us } => io.abort(stalled_us),
                Effect::Quarantined(quarantine) => io.quarantined(quarantine),
                Effect::HashesDiffer { index, hashes } => io.hashes_differ(index, hashes),
                Effect::Ends(ended) => {
                    self.ended = Some(ended);
                    self.waiters.keep(Effect::Ends(ended));
                }
                answer @ (Effect::Reply { .. }
                | Effect::Refuse { .. }
                | Effect::Doubt { .. }
                | Effect::ReadReady(_)
                | Effect::ReadExpired(_)
                | Effect::ReadRefused(_)
                | Effect::ChangeAnswered { .. }
                | Effect::TransferAnswered { .. }
                | Effect::Consulted(_)
                | Effect::Counselled { .. }
                | Effect::HandedOver) => {
                    answered = true;
                    let left = self.waiters.keep(answer);
                    assert!(left.is_none(), "an answer is kept for who waits for it");
                }
            }
        }
        let status = self.member.status();
        self.waiters.answer(self.member.machine(), status);
        answered
    }
}
