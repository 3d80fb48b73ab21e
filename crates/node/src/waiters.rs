//! Who waits for a member's answers, as the member's loop sees it.
//!
//! Responsible for: handing the loop what clients ask through their [`Handle`]s, and handing clients
//! what the member answers. Every runtime of this crate has one beside its member; a runtime of
//! yours that steps a [`Member`](crate::Member) itself makes its own. Not responsible for the member.

use std::sync::Arc;
use std::task::Waker;

use crate::handle::{Answered, Answers, Handle, Inbox, ReadError, Shared};
use crate::machine::StateMachine;
use crate::member::{Effect, Event, Status};

/// The loop's side of the handles of one life of a member. When it is dropped, nobody waits in vain:
/// what is under way ends with [`ProposeError::Stopped`](crate::ProposeError).
pub struct Waiters<M: StateMachine> {
    shared: Arc<Shared<M>>,
    answers: Answers<M::Reply>,
}

impl<M: StateMachine> Waiters<M> {
    /// Nobody waits yet. `process` names this life of the process, never used before; `group` the
    /// group whose log the member keeps; `status` how the member stands.
    #[must_use]
    pub fn new(process: u64, group: u64, status: Status) -> (Waiters<M>, Handle<M>) {
        let handle = Handle::new(process, group, status);
        let shared = handle.shared().clone();
        (Waiters { shared, answers: Answers::default() }, handle)
    }

    /// Moves all that clients have asked since the last time into `events`, in order.
    pub fn take(&mut self, events: &mut Vec<Event>) {
        self.collect(events, Waker::noop());
    }

    /// The number of the last proposal that a handle has made; 0 before the first.
    #[must_use]
    pub fn proposed_last(&self) -> u64 {
        self.shared.proposed_last()
    }

    /// As [`Waiters::take`]; leaves word whom to wake if nothing came.
    pub(crate) fn collect(&mut self, events: &mut Vec<Event>, waker: &Waker) -> Inbox {
        self.shared.take(events, waker)
    }

    /// Keeps an effect that answers clients until [`Waiters::answer`]; gives any other one back.
    pub fn keep(&mut self, effect: Effect<M::Reply>) -> Option<Effect<M::Reply>> {
        match effect {
            Effect::Reply { sequence, reply } => self.answers.proposals.push((sequence, Ok(reply))),
            Effect::Refuse { sequence, reason } => {
                self.answers.proposals.push((sequence, Err(reason)));
            }
            Effect::Doubt { sequence_max } => self.answers.doubt_max = Some(sequence_max),
            Effect::ReadReady(batch) => self.answers.reads.push((batch, Ok(()))),
            Effect::ReadExpired(batch) => {
                self.answers.reads.push((batch, Err(ReadError::NoLeader)));
            }
            Effect::ReadRefused(batch) => {
                self.answers.reads.push((batch, Err(ReadError::Quarantined)));
            }
            Effect::ChangeAnswered { ticket, outcome } => {
                self.answers.questions.push((ticket, Answered::Change(outcome)));
            }
            Effect::TransferAnswered { ticket, outcome } => {
                self.answers.questions.push((ticket, Answered::Transfer(outcome)));
            }
            Effect::Consulted(asked) => self.answers.consulted.push(asked),
            Effect::Counselled { ticket, outcome } => {
                self.answers.questions.push((ticket, Answered::Consult(outcome)));
            }
            Effect::HandedOver => self.answers.handed_over = true,
            Effect::Ends(ended) => self.answers.ended = Some(ended),
            other => return Some(other),
        }
        None
    }

    /// Tells clients what was kept for them, and how the member stands after its step.
    pub fn answer(&mut self, machine: &M, status: Status) {
        self.shared.answer(&mut self.answers, machine, status);
    }
}

impl<M: StateMachine> Drop for Waiters<M> {
    fn drop(&mut self) {
        self.shared.close();
    }
}
