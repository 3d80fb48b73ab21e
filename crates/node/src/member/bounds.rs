//! How full a member's queues, windows and buffers are, each beside its limit.
//!
//! Responsible for looking. The limits are kept where each queue is filled; whoever watches a member
//! can hold them against what is seen.

use super::Member;
use super::log::GATED_MESSAGES_MAX;
use super::proposals::{DEADLINE_STEP_US, UNSETTLED_BYTES_MAX};
use super::received::UNMET_MESSAGES_MAX;
use crate::machine::StateMachine;

/// A queue, window or buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bound {
    /// What it is.
    pub name: &'static str,
    /// How much it holds, in the unit that the name says.
    pub held: u64,
    /// How much it may hold.
    pub max: u64,
    /// Whether what comes in one piece may go beyond the limit, by that piece.
    pub piece: Piece,
}

/// What one piece may do to a limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Piece {
    /// Nothing: the limit is never passed.
    Strict,
    /// A frame that comes while there is room is taken whole, however large.
    Frame,
    /// All that clients ask in one step is taken or refused together, whatever its size.
    Step,
}

impl<M: StateMachine> Member<M> {
    /// How full everything is that could grow: the queues that other members and clients fill.
    #[must_use]
    pub fn bounds(&self) -> [Bound; 9] {
        let limits = &self.options.limits;
        let window = self.raft.fullest_window();
        let unmet = self.unmet.values().map(Vec::len).max().unwrap_or(0);
        let bound = |name, held, max, piece| Bound { name, held, max, piece };
        let unsettled_bytes_max = self.options.tail_bytes_max + UNSETTLED_BYTES_MAX;
        // One for each step of time that a command can wait, and one being filled.
        let deadlines_max = self.options.leader_wait_us.div_ceil(DEADLINE_STEP_US) + 1;
        [
            bound(
                "uncommitted bytes",
                self.raft.uncommitted_bytes(),
                limits.uncommitted_bytes_max,
                Piece::Step,
            ),
            bound(
                "window to a peer, messages",
                window.0 as u64,
                limits.inflight_messages_max as u64,
                Piece::Strict,
            ),
            bound("window to a peer, bytes", window.1, limits.inflight_bytes_max, Piece::Frame),
            bound("held bytes", self.held_bytes, self.options.held_bytes_max, Piece::Strict),
            bound("tail bytes", self.tail.bytes(), unsettled_bytes_max, Piece::Step),
            bound(
                "messages that wait for a write",
                self.writer.gated() as u64,
                GATED_MESSAGES_MAX as u64,
                Piece::Strict,
            ),
            bound(
                "messages of a peer just met",
                unmet as u64,
                UNMET_MESSAGES_MAX as u64,
                Piece::Strict,
            ),
            bound("deadlines", self.deadlines.len() as u64, deadlines_max, Piece::Strict),
            bound(
                "open read rounds",
                self.raft.open_read_rounds() as u64,
                jangada_raft::OPEN_ROUNDS_MAX as u64,
                Piece::Strict,
            ),
        ]
    }
}
