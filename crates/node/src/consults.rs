//! What an application holds to ask the leader's, and to answer while its own member leads.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use jangada_net::ConsultRefusal;

use crate::handle::Handle;
use crate::machine::StateMachine;
use crate::member::{ConsultError, Consultation, Consulter, Event};
use crate::questions::{Asked, Question};

/// The most questions that wait for this member's application to take them. As many as come from a
/// few members in the moment between two looks; who asks more is told to come again.
const CONSULTATIONS_MAX: usize = 4096;

/// The questions that wait for the application.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    /// Whether anybody answers.
    open: bool,
    waiting: VecDeque<Consultation>,
    waker: Option<Waker>,
}

impl Desk {
    /// Takes a question in; gives back one that nobody will answer.
    pub(crate) fn put(&mut self, asked: Consultation) -> Result<Option<Waker>, Consultation> {
        if !self.open || CONSULTATIONS_MAX <= self.waiting.len() {
            return Err(asked);
        }
        self.waiting.push_back(asked);
        Ok(self.waker.take())
    }

    /// The member has stopped: whom to tell.
    pub(crate) fn close(&mut self) -> Option<Waker> {
        self.open = false;
        self.waiting.clear();
        self.waker.take()
    }
}

impl<M: StateMachine> Handle<M> {
    /// Asks the application of whichever member leads, and answers what that says. A question is put
    /// to one leader, once, and is no proposal: nothing is written. Any member may be asked.
    ///
    /// The leader's application may have heard a question that ends with
    /// [`ConsultError::InDoubt`], so what is asked must bear to be asked again.
    pub fn consult_leader(&self, bytes: Bytes) -> Asked<Result<Bytes, ConsultError>> {
        let (asked, place) = Asked::new();
        self.ask(Question::Consult(place), |ticket| Event::Consult { ticket, bytes });
        asked
    }

    /// Answers a question that was asked of this member's application; `None` says that there is no
    /// answer, and that whoever asked may ask again.
    pub fn counsel(&self, to: Consulter, answer: Option<Bytes>) {
        let outcome = answer.ok_or(ConsultRefusal::Unanswered);
        self.shared().push(Event::Counsel { to, outcome });
    }

    /// From here on this member's application answers what the others' ask of the leader's, whenever
    /// this member leads. There is one who answers at a time.
    pub fn consultations(&self) -> Consultations<M> {
        self.with_desk(|desk| desk.open = true);
        Consultations { handle: self.clone() }
    }
}

/// What is asked of this member's application because its member leads; it is answered by
/// [`Handle::counsel`]. Dropped, it has questions refused.
pub struct Consultations<M: StateMachine> {
    handle: Handle<M>,
}

impl<M: StateMachine> Consultations<M> {
    /// The next question, if one waits.
    #[must_use]
    pub fn try_next(&mut self) -> Option<Consultation> {
        self.handle.with_desk(|desk| desk.waiting.pop_front())
    }

    /// Waits for the next question; `None` when the member has stopped.
    pub async fn next(&mut self) -> Option<Consultation> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Consultation>> {
        let stopped = self.handle.is_stopped();
        self.handle.with_desk(|desk| match desk.waiting.pop_front() {
            Some(asked) => Poll::Ready(Some(asked)),
            None if stopped || !desk.open => Poll::Ready(None),
            None => {
                desk.waker = Some(context.waker().clone());
                Poll::Pending
            }
        })
    }
}

impl<M: StateMachine> Drop for Consultations<M> {
    fn drop(&mut self) {
        self.handle.with_desk(|desk| desk.open = false);
    }
}
