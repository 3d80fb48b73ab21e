//! What operators hold: changes of the membership and transfers of leadership as futures, and a view
//! of the members that tells when it changes.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use jangada_net::Basis;
use jangada_raft::{Configuration, MemberChange, NodeId};

use crate::handle::{Handle, block_on, lock};
use crate::machine::StateMachine;
use crate::member::{ChangeError, ConsultError, Ended, Event, TransferError};
use crate::record::Membership;

/// Where an answer is put, and who is to be woken.
struct Place<T> {
    answer: Option<T>,
    waker: Option<Waker>,
}

/// The place of one answer, shared by who asks and who answers.
pub(crate) struct Answering<T> {
    place: Arc<Mutex<Place<T>>>,
}

impl<T> Answering<T> {
    /// Answers, and wakes who waits.
    pub(crate) fn answer(self, answer: T) {
        let mut place = lock(&self.place);
        place.answer = Some(answer);
        let waker = place.waker.take();
        drop(place);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// A question that is under way from the call on, whether or not this is polled. Dropping it does not
/// take the question back.
pub struct Asked<T> {
    place: Arc<Mutex<Place<T>>>,
}

impl<T> Asked<T> {
    pub(crate) fn new() -> (Asked<T>, Answering<T>) {
        let place = Arc::new(Mutex::new(Place { answer: None, waker: None }));
        (Asked { place: place.clone() }, Answering { place })
    }

    /// Blocks the calling thread until there is an answer.
    #[must_use = "the answer says whether it happened"]
    pub fn wait(self) -> T {
        block_on(self)
    }
}

impl<T> Future for Asked<T> {
    type Output = T;

    /// # Panics
    /// If it is polled after the answer was given.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut place = lock(&self.place);
        match place.answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => {
                place.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// A question of an operator, or of the application, that is not answered.
pub(crate) enum Question {
    Change(Answering<Result<Configuration, ChangeError>>),
    Transfer(Answering<Result<NodeId, TransferError>>),
    Consult(Answering<Result<Bytes, ConsultError>>),
}

impl Question {
    /// The member is stopping.
    pub(crate) fn stopped(self) {
        match self {
            Question::Change(place) => place.answer(Err(ChangeError::Stopped)),
            Question::Transfer(place) => place.answer(Err(TransferError::Stopped)),
            Question::Consult(place) => place.answer(Err(ConsultError::Stopped)),
        }
    }
}

impl<M: StateMachine> Handle<M> {
    /// Changes the membership to the one named, whole. Any member may be asked; the leader does it.
    ///
    /// The future answers once the change is committed and applied on this member: with the
    /// configuration in force from there on. New voters that come in by way of catching up
    /// ([`CatchUp::First`](crate::CatchUp)) count as done when they are learners; the leader promotes
    /// them as soon as they hold the log. Voters that go count as gone when the new configuration is
    /// in force without them.
    pub fn change_members(
        &self,
        change: MemberChange,
    ) -> Asked<Result<Configuration, ChangeError>> {
        self.change_members_of(Basis::ANY, change)
    }

    /// As [`Handle::change_members`], but only if the members are still those of `basis`: a change names
    /// all of them, and of two that were made out at one time the later would undo the earlier. If they
    /// are others the answer is [`ChangeError::Overtaken`].
    pub fn change_members_of(
        &self,
        basis: Basis,
        mut change: MemberChange,
    ) -> Asked<Result<Configuration, ChangeError>> {
        change.voters.sort_unstable();
        change.learners.sort_unstable();
        let (asked, place) = Asked::new();
        self.ask(Question::Change(place), |ticket| Event::ChangeMembers { ticket, change, basis });
        asked
    }

    /// Has the leader hand over to `to`, or to the voter with most of the log. Any member may be
    /// asked. The future answers with the new leader. Meanwhile proposals wait, for an election
    /// timeout at most.
    pub fn transfer_leadership(&self, to: Option<NodeId>) -> Asked<Result<NodeId, TransferError>> {
        let (asked, place) = Asked::new();
        self.ask(Question::Transfer(place), |ticket| Event::TransferLeadership { ticket, to });
        asked
    }

    /// Stops the member as [`Handle::stop`] does, but if it leads, it first hands over to the voter with
    /// most of the log, for an election timeout at most: then the others need not notice that their
    /// leader is gone.
    pub fn hand_over_and_stop(&self) {
        self.begin_hand_over(Event::HandOver);
    }

    /// Who the members are, as of the last entry applied on this member, and who was removed.
    #[must_use]
    pub fn membership(&self) -> Arc<Membership> {
        self.status().record.membership
    }

    /// A view of the members that tells when it changes.
    #[must_use]
    pub fn watch_membership(&self) -> MembershipWatch<M> {
        let (place, membership) = self.begin_watch();
        MembershipWatch { handle: self.clone(), place, seen: membership }
    }

    /// Why the member has ended by itself, if it has.
    #[must_use]
    pub fn ended(&self) -> Option<Ended> {
        self.ended_by_itself()
    }

    /// Whether the cluster's version, as this member knows it, has reached `level`: then every member
    /// speaks what belongs to that level, and always will.
    #[must_use]
    pub fn may_propose(&self, level: u16) -> bool {
        level <= self.status().record.version
    }
}

/// A view of the members that tells when it changes.
pub struct MembershipWatch<M: StateMachine> {
    handle: Handle<M>,
    place: u64,
    seen: Arc<Membership>,
}

impl<M: StateMachine> MembershipWatch<M> {
    /// What was last seen.
    #[must_use]
    pub fn seen(&self) -> &Arc<Membership> {
        &self.seen
    }

    /// Waits until the members are others than those last seen; `None` when the member has stopped.
    /// Changes in between may be passed over.
    pub async fn changed(&mut self) -> Option<Arc<Membership>> {
        let MembershipWatch { handle, place, seen } = self;
        let next = std::future::poll_fn(|context| handle.poll_watch(*place, seen, context)).await;
        if let Some(membership) = &next {
            seen.clone_from(membership);
        }
        next
    }
}

impl<M: StateMachine> Drop for MembershipWatch<M> {
    fn drop(&mut self) {
        self.handle.end_watch(self.place);
    }
}
