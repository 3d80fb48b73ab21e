//! The way back of a log that has rotted: damaged entries come from other members, by name.
//!
//! Responsible for: asking for the entries whose names the log still knows, handing them to the log,
//! and giving them up when nobody has them; answering others who ask. Not responsible for: what is lost
//! without a trace, from which the consensus module recovers ([`jangada_raft::Start::recovering`]);
//! what the driver finds of either when it opens the log.
//!
//! Until all its entries are whole the member takes no part: it is as one that has not started yet.
//! Were it to vote or acknowledge, an entry could count as held here that nobody can read any more.
//!
//! Invariants:
//! 1. While entries are missing the consensus module hears nothing and says nothing.
//! 2. Entries are given up only when nobody who can be asked holds them; then the member recovers.

use std::collections::BTreeSet;

use jangada_entry::Frame;
use jangada_net::PeerMessage;
use jangada_raft::{Index, NodeId, Position, Raft, RecoveryNumber, Start};

use super::{Effect, LogRead, LogReader, Member};
use crate::machine::StateMachine;
use crate::tail::Tail;

/// How often a member that misses entries asks the next peer (microseconds).
const ASK_US: u64 = 200_000;

/// After this time without an entry they are given up if those that answer have none (microseconds):
/// whoever is not there by then may not come back soon.
const GIVE_UP_US: u64 = 30_000_000;

/// How often every peer is asked before entries are given up that one of them has cut off: they are in
/// its snapshots, and whoever does not answer may be gone for good.
const ASKS_FOR_WHAT_IS_CUT: usize = 2;

/// The most bytes of entries in one answer, unless it is a single entry.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// What is to be done about a log that has rotted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Mend {
    /// Take these in place of damaged ones; answered by [`Mended::Missing`].
    Repair(Vec<Frame>),
    /// Give the damaged entries up; answered by [`Mended::GaveUp`].
    GiveUp,
    /// The member has recovered: clear the log's mark; answered by [`Mended::Recovered`].
    EndRecovering,
}

/// What was done about a log that has rotted, durably.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mended {
    /// So many entries are still missing; none of them is when this is 0.
    Missing(usize),
    /// The log ends with this entry, and is marked as recovering.
    GaveUp(Position),
    /// The mark is gone.
    Recovered,
}

/// What a member knows while entries are missing.
pub(super) struct Mending {
    start: Start,
    /// The entries that are missing.
    missing: Vec<Position>,
    /// Who has spoken as a leader: the members may have changed while this one was away, and then all
    /// that it knows of may be gone. Those that are connected, at most.
    leaders: BTreeSet<NodeId>,
    /// Whoever has said that it does not hold the first of them.
    without: BTreeSet<NodeId>,
    /// Whether one of these has cut it off: a snapshot has what came of it.
    cut: bool,
    /// How often somebody was asked for it.
    asks: usize,
    asked_last: Option<NodeId>,
    ask_us: u64,
    progress_us: u64,
    /// Whether the log is at work.
    working: bool,
}

impl Mending {
    /// `None` if nothing is missing.
    pub(super) fn new(start: &Start, missing: Vec<Position>, now_us: u64) -> Option<Mending> {
        if missing.is_empty() {
            return None;
        }
        Some(Mending {
            start: start.clone(),
            missing,
            leaders: BTreeSet::new(),
            without: BTreeSet::new(),
            cut: false,
            asks: 0,
            asked_last: None,
            ask_us: now_us,
            progress_us: now_us,
            working: false,
        })
    }

    /// The last of the first missing entries that follow one another.
    fn last(&self) -> Index {
        let pairs = self.missing.windows(2);
        let follows = |pair: &&[Position]| pair[1].index == pair[0].index.next();
        let count = pairs.take_while(follows).count();
        self.missing[count].index
    }
}

impl<M: StateMachine> Member<M> {
    /// Whether entries of the log are missing, so that this member takes no part.
    pub(super) fn is_mending(&self) -> bool {
        self.mending.is_some()
    }

    /// A leader has spoken.
    pub(super) fn hears_leader(&mut self, peer: NodeId) {
        if let Some(mending) = &mut self.mending {
            mending.leaders.insert(peer);
        }
    }

    /// Asks the next peer for what is missing.
    pub(super) fn tend_mending(&mut self) {
        let now_us = self.now.monotonic_us;
        let Some(mending) = &mut self.mending else { return };
        if mending.working {
            return;
        }
        let Start { configuration, configurations, .. } = &mending.start;
        let members = configurations.last().map_or(configuration, |(_, newest)| newest);
        let peers = members.voters.iter().chain(&members.outgoing).chain(&members.learners);
        let peers = peers.chain(&mending.leaders).copied();
        let peers: BTreeSet<NodeId> = peers.filter(|peer| *peer != self.id).collect();
        let nobody = peers.iter().all(|peer| mending.without.contains(peer));
        let late = mending.progress_us + GIVE_UP_US <= now_us && !mending.without.is_empty();
        let cut = mending.cut && ASKS_FOR_WHAT_IS_CUT * peers.len() <= mending.asks;
        if nobody || late || (cut && mending.ask_us <= now_us) {
            mending.working = true;
            self.effects.push(Effect::Mend(Mend::GiveUp));
            return;
        }
        if now_us < mending.ask_us {
            return;
        }
        mending.ask_us = now_us + ASK_US;
        let next = peers.iter().find(|peer| mending.asked_last.is_none_or(|last| last < **peer));
        let Some(peer) = next.or(peers.first()).copied() else { return };
        mending.asked_last = Some(peer);
        mending.asks += 1;
        let (first, last) = (mending.missing[0], mending.last());
        self.send(peer, PeerMessage::FramesRequest { first, last });
    }

    pub(super) fn mending_next_us(&self) -> Option<u64> {
        self.mending.as_ref().filter(|mending| !mending.working).map(|mending| mending.ask_us)
    }

    /// A peer, whose log holds what follows `begins`, has answered what was asked.
    pub(super) fn frames_came(
        &mut self,
        from: NodeId,
        first: Position,
        begins: Index,
        frames: Vec<Frame>,
    ) {
        let Some(mending) = &mut self.mending else { return };
        if mending.working || mending.missing.first() != Some(&first) {
            return;
        }
        if frames.is_empty() {
            mending.without.insert(from);
            mending.cut |= first.index <= begins;
            return;
        }
        mending.working = true;
        let newest = frames.iter().map(|frame| frame.header().time_ms).max();
        self.time_ms = newest.map_or(self.time_ms, |time_ms| time_ms.max(self.time_ms));
        self.effects.push(Effect::Mend(Mend::Repair(frames)));
    }

    /// The log has done what it was asked.
    pub(super) fn mended(&mut self, mended: Mended) {
        let now_us = self.now.monotonic_us;
        let Some(mending) = &mut self.mending else {
            assert!(mended == Mended::Recovered, "the log does what it was asked");
            return;
        };
        mending.working = false;
        match mended {
            Mended::Missing(0) => self.mending = None,
            Mended::Missing(missing) if missing < mending.missing.len() => {
                let gone = mending.missing.len() - missing;
                mending.missing.drain(..gone);
                mending.without.clear();
                (mending.cut, mending.asks) = (false, 0);
                mending.ask_us = now_us;
                mending.progress_us = now_us;
            }
            // What came was not what was lost.
            Mended::Missing(_) => mending.without.extend(mending.asked_last),
            Mended::GaveUp(last) => self.start_recovering(last),
            Mended::Recovered => unreachable!("a member that mends does not recover yet"),
        }
    }

    /// The damaged entries were given up: the log ends before them.
    fn start_recovering(&mut self, last: Position) {
        let mending = self.mending.take().expect("it was given up");
        let mut start = mending.start;
        start.log = start.log.prefix(last.index);
        start.configurations.retain(|(index, _)| *index <= last.index);
        start.recovering = Some(RecoveryNumber(self.process));
        self.raft = Raft::new(start);
        self.tail = Tail::new(last);
    }

    // ---- for others ----

    /// A peer asks for entries by name.
    pub(super) fn frames_wanted(&mut self, from: NodeId, first: Position, last: Index) {
        if self.mending.as_ref().is_some_and(|mending| mending.working) {
            // The log may end before them soon. Whoever asks asks again.
            return;
        }
        let holds = self.log_begins.index < first.index
            && self.raft.term_at(first.index) == Some(first.term)
            && first.index <= last;
        if !holds {
            return self.answer_frames(from, first, Vec::new());
        }
        let last = last.min(self.raft.last_index());
        if self.tail.holds(first.index) {
            let frames = self.tail.read(first.index, last, ANSWER_BYTES_MAX);
            return self.answer_frames(from, first, frames);
        }
        // One read at a time for each.
        if self.frames_for.insert(from, first).is_none() {
            let (reader, from) = (LogReader::Frames(from), first.index);
            let last = last.min(self.tail.before().index);
            let bytes_max = ANSWER_BYTES_MAX;
            self.effects.push(Effect::Read(LogRead { reader, from, last, bytes_max }));
        }
    }

    /// The log has read what a peer asked for.
    pub(super) fn frames_read(&mut self, peer: NodeId, frames: Vec<Frame>) {
        let Some(first) = self.frames_for.remove(&peer) else { return };
        let same = frames.first().is_some_and(|frame| frame.position() == first);
        self.answer_frames(peer, first, if same { frames } else { Vec::new() });
    }

    fn answer_frames(&mut self, to: NodeId, first: Position, frames: Vec<Frame>) {
        let begins = self.log_begins.index;
        self.send(to, PeerMessage::FramesResponse { first, begins, frames });
    }
}
