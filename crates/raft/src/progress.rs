//! What a leader knows about one peer: figure 2's `nextIndex[]` and `matchIndex[]`, and how much may
//! be under way to it.
//!
//! Responsible for deciding when the peer may be sent something, from where, and how much. Not
//! responsible for the log's terms (`log.rs`) or for sending.
//!
//! A peer whose log is not known is *probed*: one append at a time, until one is answered. Then the
//! leader *replicates*: appends follow one another without waiting, within a window of messages and
//! bytes (thesis §10.2.1). Anything that speaks of a loss leads back to probing. A peer that needs
//! what was cut off the log is sent a *snapshot* (§7), and nothing else until that is over:
//!
//! ```text
//!              a match is answered
//!   Probe  --------------------------->  Replicate
//!    ^  ^                                   |  |
//!    |  +-- a fresh conflict, Unreachable --+  |
//!    |                                         |
//!    |     delivered, or failed                v  what is next to be sent was cut off
//!    +---------------------------------  Snapshot   (also from Probe)
//! ```
//!
//! After a delivery the peer is probed behind the snapshot at once, after a failure at the cut once
//! it has answered a heartbeat: it may have got so far by itself, and if not it says so. The driver is
//! thus asked for one snapshot at a time, and for none to a peer that nobody can reach.
//!
//! Nothing may stall for ever on a message that was lost without notice. A probe that is not
//! answered is repeated when the peer next answers a heartbeat; and a replicating peer that owes
//! something when it answers a heartbeat is *nudged* with an empty append behind everything that was
//! sent to it, which it can only refuse if part of that was lost. Both happen at most once for each
//! firing of the heartbeat timer: read rounds are heartbeats too, and may come by the thousand.
//!
//! ```text
//!              match_index        next_index
//!                   v                 v
//!   ... -------------+-------+--------+---------------+
//!    durable there   | under way      | not sent      | last
//!   ... -------------+-------+--------+---------------+
//!                     window: two messages
//! ```
//!
//! Invariants:
//!
//! 1. `match_index < next_index`.
//! 2. `match_index` never falls while the leader leads, for followers' logs are durable; except for a
//!    peer that says itself that it may have lost something (`recovery.rs`).
//! 3. The window holds what was sent after `match_index`, in order; while probing, at most the probe.
//! 4. `window_bytes` is the sum of the window's bytes.
//! 5. Of a peer that is recovering nothing counts: no match, no read round, no sign of life.

use std::collections::VecDeque;

use crate::contract::{Index, Limits, ReadRound};
use crate::recovery::Recovery;

/// One peer, as its leader sees it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Progress {
    match_index: Index,
    next_index: Index,
    state: State,
    /// Sent and not answered: the last index and the bytes of each append with entries.
    window: VecDeque<Parcel>,
    window_bytes: u64,
    /// The commit index of the last grant.
    commit_granted: Index,
    /// The highest commit index that a sent message has told the peer, at most what it was sent.
    commit_sent: Index,
    /// The newest read round that the peer has confirmed.
    round: ReadRound,
    /// Whether the peer was heard since the last quorum check.
    heard: Heard,
    /// Whether the next answered heartbeat may repeat what seems lost.
    retry: Retry,
    /// Set while the peer is recovering.
    recovery: Option<Recovery>,
}

/// How the peer is sent entries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum State {
    /// One append at a time.
    Probe(Pause),
    /// As many as the window allows.
    Replicate(Nudge),
    /// None: it needs what was cut off the log, and the driver sends it a snapshot.
    Snapshot,
}

/// Whether a probe is under way.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Pause {
    /// A probe may be sent.
    Ready,
    /// A probe is under way, or there is no hope for one before the peer answers a heartbeat.
    Waiting,
}

/// Whether a replicating peer is sent an empty append though there is nothing new.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Nudge {
    /// No.
    Idle,
    /// Yes: it answered a heartbeat while it owed an answer to an append.
    Due,
}

/// Whether a peer gave a sign of life since the last quorum check.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Heard {
    Yes,
    No,
}

/// Whether the heartbeat timer has fired since something was last repeated.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Retry {
    Allowed,
    Used,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Parcel {
    last: Index,
    bytes: u64,
}

/// What may be sent to a peer: entries after `prev`, up to the log's end or none at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Offer {
    /// The entry before the first that is offered.
    pub(crate) prev: Index,
    /// The last entry that is offered.
    pub(crate) last: Index,
    /// The most bytes.
    pub(crate) bytes_max: u64,
}

impl Progress {
    /// A peer of which a new leader knows nothing: it guesses that the logs are equal (figure 2,
    /// "initialized to leader last log index + 1").
    pub(crate) fn new(next_index: Index) -> Progress {
        Progress {
            match_index: Index(0),
            next_index,
            state: State::Probe(Pause::Ready),
            window: VecDeque::new(),
            window_bytes: 0,
            commit_granted: Index(0),
            commit_sent: Index(0),
            round: ReadRound(0),
            heard: Heard::No,
            retry: Retry::Used,
            recovery: None,
        }
    }

    /// Up to where the peer's durable log counts: 0 while it is recovering.
    pub(crate) fn match_index(&self) -> Index {
        match self.recovery {
            Some(_) if !canon!(recovering_member_is_counted) => Index(0),
            _ => self.match_index,
        }
    }

    /// Up to where the peer's durable log equals the leader's, counted or not.
    #[cfg(test)]
    pub(crate) fn held(&self) -> Index {
        self.match_index
    }

    /// The highest commit index that a sent message has told the peer.
    pub(crate) fn commit_told(&self) -> Index {
        self.commit_sent
    }

    /// The peer's recovery, while it is recovering.
    pub(crate) fn recovery(&self) -> Option<Recovery> {
        self.recovery
    }

    /// The peer may have lost what it had acknowledged, so that nothing is known of it any more, the
    /// leader's log ending at `last`. A snapshot that is under way to it goes on.
    pub(crate) fn begin_recovery(&mut self, recovery: Recovery, last: Index) {
        self.recovery = Some(recovery);
        self.round = ReadRound(0);
        self.heard = Heard::No;
        if canon!(recovering_member_is_counted) {
            return;
        }
        self.match_index = Index(0);
        if self.state != State::Snapshot {
            self.become_probe(last.next(), Pause::Ready);
        }
    }

    /// The peer holds again all that it may have lost.
    pub(crate) fn end_recovery(&mut self) {
        self.recovery = None;
    }

    /// The appends and the bytes that are sent and not answered.
    pub(crate) fn window(&self) -> (usize, u64) {
        (self.window.len(), self.window_bytes)
    }

    #[cfg(test)]
    pub(crate) fn next_index(&self) -> Index {
        self.next_index
    }

    #[cfg(test)]
    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// Whether a snapshot is under way to the peer.
    pub(crate) fn is_in_snapshot(&self) -> bool {
        self.state == State::Snapshot
    }

    /// The newest read round that the peer has confirmed: none while it is recovering.
    pub(crate) fn round(&self) -> ReadRound {
        match self.recovery {
            Some(_) if !canon!(recovering_member_is_counted) => ReadRound(0),
            _ => self.round,
        }
    }

    /// Takes down a sign of life.
    pub(crate) fn hear(&mut self) {
        self.heard = Heard::Yes;
    }

    /// Whether the peer was heard since [`Progress::forget_heard`], and counts.
    pub(crate) fn is_heard(&self) -> bool {
        self.heard == Heard::Yes && self.recovery.is_none()
    }

    /// Starts a new interval of the quorum check.
    pub(crate) fn forget_heard(&mut self) {
        self.heard = Heard::No;
    }

    /// Takes down that the peer confirmed a read round.
    pub(crate) fn confirm(&mut self, round: ReadRound) {
        self.round = self.round.max(round);
    }

    /// What may be sent to the peer, the leader's log ending at `last`; `None` when it is to wait.
    pub(crate) fn offer(&self, last: Index, commit: Index, limits: &Limits) -> Option<Offer> {
        let prev = self.next_index.previous();
        let append = limits.append_bytes_max;
        match self.state {
            State::Probe(Pause::Waiting) | State::Snapshot => None,
            State::Probe(Pause::Ready) => {
                let bytes_max = append.min(limits.inflight_bytes_max);
                Some(Offer { prev, last, bytes_max })
            }
            State::Replicate(_) if prev < last && self.has_room(limits) => {
                let room = limits.inflight_bytes_max - self.window_bytes;
                Some(Offer { prev, last, bytes_max: append.min(room) })
            }
            State::Replicate(Nudge::Due) => Some(Offer { prev, last: prev, bytes_max: 0 }),
            // Nothing but the commit index is news. The peer uses it up to what it was sent.
            State::Replicate(Nudge::Idle)
                if prev == last && self.commit_sent < commit.min(prev) =>
            {
                Some(Offer { prev, last: prev, bytes_max: 0 })
            }
            State::Replicate(Nudge::Idle) => None,
        }
    }

    /// Takes down the commit index that a grant carries.
    pub(crate) fn granted(&mut self, commit: Index) {
        self.commit_granted = commit;
    }

    /// Takes down that entries up to `last` were sent.
    pub(crate) fn sent(&mut self, last: Index, bytes: u64) {
        self.commit_sent = self.commit_sent.max(self.commit_granted.min(last));
        match self.state {
            // The next index stays: it is what the answer will be about.
            State::Probe(_) => {
                self.state = State::Probe(Pause::Waiting);
                self.empty_window();
            }
            State::Replicate(_) => self.state = State::Replicate(Nudge::Idle),
            // Granted before, and of no interest any more: it lies before the snapshot.
            State::Snapshot => return,
        }
        // An append without entries takes no place, also where it speaks of the cut of the log, which
        // may lie past everything that the peer was sent: it is answered whatever else is under way.
        if self.next_index <= last && 0 < bytes {
            self.window.push_back(Parcel { last, bytes });
            self.window_bytes += bytes;
        }
        if let State::Replicate(_) = self.state {
            self.next_index = self.next_index.max(last.next());
        }
    }

    /// The peer's log equals the leader's up to `index`, durably. Says whether that is news.
    ///
    /// A match before `start`, where the leader's log begins, is true, and no answer to a probe: it was
    /// given before the snapshot behind which the peer is probed, and must not lead to another.
    pub(crate) fn advance(&mut self, index: Index, start: Index) -> bool {
        if index < self.match_index {
            mark!(stale_match_ignored);
            return false;
        }
        let news = self.match_index < index;
        self.match_index = index;
        while let Some(oldest) = self.window.front().filter(|oldest| oldest.last <= index) {
            self.window_bytes -= oldest.bytes;
            self.window.pop_front();
        }
        let is_answer = start <= index || self.next_index <= start;
        if let State::Probe(_) = self.state
            && is_answer
        {
            // Whatever was guessed before, from here on the logs are known to part nowhere. The rest
            // of a probe that fits is under way; after any other guess the peer needs what follows.
            if index < self.next_index.previous() {
                self.empty_window();
            }
            self.next_index = self.window.back().map_or(index, |probe| probe.last).next();
            self.state = State::Replicate(Nudge::Idle);
        }
        self.next_index = self.next_index.max(index.next());
        news
    }

    /// A refusal came: the peer does not hold the entry at `probe`, and both may agree up to `guess`. Says whether
    /// the answer is fresh: one that belongs to an earlier probe says nothing any more.
    pub(crate) fn regress(&mut self, probe: Index, guess: Index) -> bool {
        let stale = match self.state {
            State::Probe(_) => probe != self.next_index.previous(),
            State::Replicate(_) => probe <= self.match_index,
            // It was asked before the snapshot was begun.
            State::Snapshot => true,
        };
        if (stale || probe <= self.match_index) && !canon!(stale_rejection_is_taken) {
            mark!(stale_rejection_ignored);
            return false;
        }
        let mut next = self.next_index.min(probe).min(guess.next()).max(self.match_index.next());
        if canon!(hint_lowers_next_below_match) {
            next = guess.next();
        }
        // A probe that cannot go lower waits for the next heartbeat's answer: otherwise leader and
        // peer would send each other the same two messages as fast as they can.
        let pause = if next < self.next_index { Pause::Ready } else { Pause::Waiting };
        self.become_probe(next, pause);
        true
    }

    /// What was sent may be lost. The first such word allows one probe at once; a second one, while
    /// probing, does not: an unreachable peer must not keep its leader busy. The probe starts at the
    /// earliest where the leader's log does, at `start`: perhaps nothing was lost.
    ///
    /// A snapshot travels apart, and its end is told apart.
    pub(crate) fn lose(&mut self, start: Index) {
        match self.state {
            State::Probe(_) => self.state = State::Probe(Pause::Waiting),
            State::Replicate(_) => {
                self.become_probe(self.match_index.max(start).next(), Pause::Ready);
            }
            State::Snapshot => {}
        }
    }

    /// A snapshot is on its way to the peer from here on.
    pub(crate) fn become_snapshot(&mut self) {
        assert!(self.state != State::Snapshot, "one snapshot at a time");
        self.state = State::Snapshot;
        self.empty_window();
    }

    /// The peer has installed a snapshot that covers `last`.
    pub(crate) fn deliver(&mut self, last: Index) {
        if self.state != State::Snapshot {
            mark!(stale_delivery_ignored);
            return;
        }
        self.become_probe(self.match_index.max(last).next(), Pause::Ready);
    }

    /// The snapshot was not delivered, or nobody knows. Once the peer has answered a heartbeat it is
    /// asked whether it holds the leader's log from `start` on.
    pub(crate) fn fail(&mut self, start: Index) {
        if self.state != State::Snapshot {
            mark!(stale_failure_ignored);
            return;
        }
        self.become_probe(self.match_index.max(start).next(), Pause::Waiting);
    }

    /// The heartbeat timer has fired.
    pub(crate) fn allow_retry(&mut self) {
        self.retry = Retry::Allowed;
    }

    /// The peer answered a heartbeat, so it can be reached: what it owes since is asked for again,
    /// once for each firing of the timer.
    pub(crate) fn answer(&mut self, start: Index, last: Index) {
        if self.retry == Retry::Allowed {
            self.retry = Retry::Used;
            self.resume(start, last);
        }
    }

    /// The peer can be reached again. A probe that waited while the log was cut behind it starts where
    /// the log does, at `start`.
    pub(crate) fn resume(&mut self, start: Index, last: Index) {
        match self.state {
            State::Probe(_) if canon!(lost_probe_is_not_repeated) => {}
            State::Probe(_) => {
                self.become_probe(self.next_index.max(start.next()), Pause::Ready);
            }
            State::Replicate(_) if canon!(lost_window_is_not_noticed) => {}
            State::Replicate(_) if self.match_index < last => {
                mark!(owing_peer_nudged);
                self.state = State::Replicate(Nudge::Due);
            }
            State::Replicate(_) => {}
            State::Snapshot => {} // Its end is told by the driver.
        }
    }

    /// Whether the invariants above hold, the leader's log ending at `last`.
    pub(crate) fn is_well_formed(&self, last: Index, limits: &Limits) -> bool {
        let sum: u64 = self.window.iter().map(|parcel| parcel.bytes).sum();
        let mut pairs = self.window.iter().zip(self.window.iter().skip(1));
        let oldest = self.window.front().map_or(last, |parcel| parcel.last);
        let newest = self.window.back().map_or(self.match_index, |parcel| parcel.last);
        self.match_index < self.next_index
            && self.next_index <= last.next()
            && (newest < self.next_index || matches!(self.state, State::Probe(_)))
            && (self.window.is_empty() || self.match_index < oldest)
            && pairs.all(|(one, next)| one.last < next.last)
            && sum == self.window_bytes
            && self.window.len() <= limits.inflight_messages_max
            && (self.window.len() <= 1 || matches!(self.state, State::Replicate(_)))
    }

    fn has_room(&self, limits: &Limits) -> bool {
        self.window.len() < limits.inflight_messages_max
            && self.window_bytes < limits.inflight_bytes_max
    }

    fn become_probe(&mut self, next_index: Index, pause: Pause) {
        assert!(self.match_index < next_index, "progress invariant 1");
        self.next_index = next_index;
        self.state = State::Probe(pause);
        self.empty_window();
    }

    fn empty_window(&mut self) {
        self.window.clear();
        self.window_bytes = 0;
    }
}

#[cfg(test)]
#[path = "progress_tests.rs"]
mod tests;
