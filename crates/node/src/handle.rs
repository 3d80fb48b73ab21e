//! What a client of a member holds: proposals and linearizable reads as futures.
//!
//! Responsible for: handing what clients ask to the member's loop, in batches, and waking who waits.
//! A proposal costs one place in a ring, a read shares its batch; neither costs a channel or an
//! allocation of its own. Not responsible for: the loop itself, see [`crate::driver`].
//!
//! Invariants:
//! 1. Numbers of proposals rise by one and are never used twice within one life of the process.
//! 2. A read joins the batch that the loop has not taken yet, never an earlier one.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Wake, Waker};

use bytes::{Bytes, BytesMut};
use jangada_entry::{Draft, FRAME_BYTES_MAX, Kind, Origin};
use jangada_net::ConsultRefusal;
use jangada_raft::{Configuration, NodeId, Term};

use crate::consults::Desk;
use crate::machine::StateMachine;
use crate::member::{
    ChangeError, ConsultError, Consultation, Ended, Event, ProposeError, ReadBatch, Status, Ticket,
    TransferError,
};
use crate::questions::Question;
use crate::record::Membership;

/// The most proposals of one member's clients that are under way at a time: far above what a server
/// has connections for, low enough that the ring stays in the tens of megabytes.
const PROPOSALS_MAX: usize = 1 << 20;

/// Why a read was not served.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ReadError {
    /// No leader confirmed itself in time.
    NoLeader,
    /// This member's state is not what a majority has. Another member serves.
    Quarantined,
    /// The member is stopping.
    Stopped,
}

impl std::fmt::Display for ReadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ReadError::NoLeader => "no leader confirmed itself in time; try again",
            ReadError::Quarantined => {
                "this member's state differs from what a majority of the members has, so it serves \
                 nobody until it is replaced; ask another member"
            }
            ReadError::Stopped => "the member is stopping",
        })
    }
}

impl std::error::Error for ReadError {}

/// A question to the state machine, run by the loop.
type Query<M> = Box<dyn FnOnce(&M) + Send>;

/// A handle on a running member. Cheap to clone, usable from any thread and any async runtime.
pub struct Handle<M: StateMachine> {
    shared: Arc<Shared<M>>,
}

impl<M: StateMachine> Clone for Handle<M> {
    fn clone(&self) -> Self {
        Handle { shared: self.shared.clone() }
    }
}

/// What the handles and the loop share.
pub(crate) struct Shared<M: StateMachine> {
    process: u64,
    group: u64,
    inner: Mutex<Inner<M>>,
}

struct Inner<M: StateMachine> {
    /// What the loop has not taken yet.
    events: Vec<Event>,
    proposals: Ring<M::Reply>,
    /// The batch that reads join.
    open: Option<Arc<Batch<M>>>,
    under_way: BTreeMap<ReadBatch, Arc<Batch<M>>>,
    batch_last: u64,
    loop_waker: Option<Waker>,
    /// Questions of operators, by ticket.
    questions: BTreeMap<Ticket, Question>,
    ticket_last: u64,
    /// What this member's application is asked.
    desk: Desk,
    /// Who waits for other members, by the watch's number.
    watches: BTreeMap<u64, Option<Waker>>,
    watch_last: u64,
    status: Status,
    /// Why the member has ended by itself.
    ended: Option<Ended>,
    stops_when_handed_over: bool,
    stopping: bool,
    stopped: bool,
}

/// Reads that wait together.
struct Batch<M> {
    state: Mutex<BatchState<M>>,
}

struct BatchState<M> {
    outcome: Option<Result<(), ReadError>>,
    /// Each barrier that was polled has its place.
    wakers: Vec<Waker>,
    queries: Vec<Query<M>>,
}

/// The proposals under way, by number.
struct Ring<R> {
    /// The number of the first slot.
    first: u64,
    slots: VecDeque<Slot<R>>,
}

enum Slot<R> {
    Waiting(Option<Waker>),
    Answered(Result<R, ProposeError>),
    /// Nobody waits any more.
    Left,
}

impl<R> Ring<R> {
    fn push(&mut self) -> u64 {
        self.slots.push_back(Slot::Waiting(None));
        self.first + self.slots.len() as u64 - 1
    }

    fn slot(&mut self, sequence: u64) -> Option<&mut Slot<R>> {
        let at = usize::try_from(sequence.checked_sub(self.first)?).ok()?;
        self.slots.get_mut(at)
    }

    /// Answers a proposal, unless it has an answer or nobody waits.
    fn answer(&mut self, sequence: u64, answer: Result<R, ProposeError>, wake: &mut Vec<Waker>) {
        let Some(slot) = self.slot(sequence) else { return };
        if let Slot::Waiting(waker) = slot {
            wake.extend(waker.take());
            *slot = Slot::Answered(answer);
        }
    }

    fn leave(&mut self, sequence: u64) {
        if let Some(slot) = self.slot(sequence) {
            *slot = Slot::Left;
        }
        while let Some(Slot::Left) = self.slots.front() {
            self.slots.pop_front();
            self.first += 1;
        }
    }
}

/// Locks; a panic elsewhere under this lock has left the member in an unknown state.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no thread has panicked while it held the lock")
}

impl<M: StateMachine> Handle<M> {
    pub(crate) fn new(process: u64, group: u64, status: Status) -> Handle<M> {
        let inner = Inner {
            events: Vec::new(),
            proposals: Ring { first: 1, slots: VecDeque::new() },
            open: None,
            under_way: BTreeMap::new(),
            batch_last: 0,
            loop_waker: None,
            questions: BTreeMap::new(),
            ticket_last: 0,
            desk: Desk::default(),
            watches: BTreeMap::new(),
            watch_last: 0,
            status,
            ended: None,
            stops_when_handed_over: false,
            stopping: false,
            stopped: false,
        };
        Handle { shared: Arc::new(Shared { process, group, inner: Mutex::new(inner) }) }
    }

    /// Proposes a command. The future answers once the command is applied on *this* member, so
    /// that a client who reads here afterwards sees its own write.
    ///
    /// The command is under way from this call on, whether or not the future is polled. Dropping
    /// the future does not take it back.
    pub fn propose(&self, command: &[u8]) -> Proposed<M> {
        let mut buffer = Draft::buffer(command.len());
        buffer.extend_from_slice(command);
        self.propose_buffer(buffer, 1)
    }

    /// Proposes a command that was written into a [`Draft::buffer`], without copying it. `version`
    /// tells the state machine how the command is encoded. It is refused as
    /// [`ProposeError::TooNew`] until the cluster's version has reached what
    /// [`StateMachine::level_of`] says that encoding needs.
    pub fn propose_buffer(&self, buffer: BytesMut, version: u16) -> Proposed<M> {
        self.propose_event(buffer, version, Event::Propose)
    }

    /// As [`Handle::propose_buffer`], of a command that only the leader of this term may propose, and
    /// whose entry is of that term: if this member does not lead in it, the command is refused as
    /// [`ProposeError::NoLeader`]. It is never forwarded and never waits for a leader.
    pub fn propose_in_term(&self, buffer: BytesMut, version: u16, term: Term) -> Proposed<M> {
        self.propose_event(buffer, version, |draft| Event::ProposeInTerm { draft, term })
    }

    fn propose_event(
        &self,
        buffer: BytesMut,
        version: u16,
        event: impl FnOnce(Draft) -> Event,
    ) -> Proposed<M> {
        if FRAME_BYTES_MAX < buffer.len() {
            return Proposed::refused(self.shared.clone(), ProposeError::TooLarge);
        }
        let mut inner = lock(&self.shared.inner);
        if inner.stopped {
            return Proposed::refused(self.shared.clone(), ProposeError::Stopped);
        }
        if inner.status.record.version < M::level_of(version) {
            return Proposed::refused(self.shared.clone(), ProposeError::TooNew);
        }
        if PROPOSALS_MAX <= inner.proposals.slots.len() {
            return Proposed::refused(self.shared.clone(), ProposeError::Busy);
        }
        let sequence = inner.proposals.push();
        let origin = Origin { incarnation: self.shared.process, sequence };
        let draft = Draft::new(buffer, Kind::Command, version, self.shared.group, origin);
        inner.events.push(event(draft));
        wake_loop(inner);
        Proposed { shared: self.shared.clone(), sequence, refused: None, has_left: false }
    }

    /// Waits until everything that was committed anywhere in the cluster before this call is applied
    /// on this member: what is read here afterwards is linearizable (thesis section 6.4).
    ///
    /// The read is under way from this call on. All reads that come between two turns of the
    /// member's loop share one round to the quorum.
    pub fn read_barrier(&self) -> ReadBarrier<M> {
        self.join_batch(None)
    }

    /// Asks the state machine a question, linearizably. The question runs on the member's loop, so
    /// it should be short.
    pub fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&M) -> T + Send + 'static,
    ) -> Read<M, T> {
        let answer = Arc::new(Mutex::new(None));
        let place = answer.clone();
        let query: Query<M> = Box::new(move |machine| *lock(&place) = Some(question(machine)));
        Read { barrier: self.join_batch(Some(query)), answer }
    }

    fn join_batch(&self, query: Option<Query<M>>) -> ReadBarrier<M> {
        let mut inner = lock(&self.shared.inner);
        let batch = match &inner.open {
            Some(batch) => batch.clone(),
            None => {
                let outcome = inner.stopped.then_some(Err(ReadError::Stopped));
                let state = BatchState { outcome, wakers: Vec::new(), queries: Vec::new() };
                let batch = Arc::new(Batch { state: Mutex::new(state) });
                if !inner.stopped {
                    inner.batch_last += 1;
                    let number = ReadBatch(inner.batch_last);
                    inner.under_way.insert(number, batch.clone());
                    inner.open = Some(batch.clone());
                    inner.events.push(Event::Read(number));
                }
                batch
            }
        };
        lock(&batch.state).queries.extend(query);
        wake_loop(inner);
        ReadBarrier { batch, place: None }
    }

    /// How the member stood after its last step.
    #[must_use]
    pub fn status(&self) -> Status {
        lock(&self.shared.inner).status.clone()
    }

    /// Puts a question of an operator to the member.
    pub(crate) fn ask(&self, question: Question, event: impl FnOnce(Ticket) -> Event) {
        let mut inner = lock(&self.shared.inner);
        if inner.stopped {
            drop(inner);
            question.stopped();
            return;
        }
        inner.ticket_last += 1;
        let ticket = Ticket(inner.ticket_last);
        inner.questions.insert(ticket, question);
        inner.events.push(event(ticket));
        wake_loop(inner);
    }

    pub(crate) fn with_desk<T>(&self, act: impl FnOnce(&mut Desk) -> T) -> T {
        act(&mut lock(&self.shared.inner).desk)
    }

    pub(crate) fn begin_hand_over(&self, event: Event) {
        let mut inner = lock(&self.shared.inner);
        if std::mem::replace(&mut inner.stops_when_handed_over, true) {
            return;
        }
        inner.events.push(event);
        wake_loop(inner);
    }

    pub(crate) fn ended_by_itself(&self) -> Option<Ended> {
        lock(&self.shared.inner).ended
    }

    pub(crate) fn begin_watch(&self) -> (u64, Arc<Membership>) {
        let mut inner = lock(&self.shared.inner);
        inner.watch_last += 1;
        let place = inner.watch_last;
        inner.watches.insert(place, None);
        (place, inner.status.record.membership.clone())
    }

    pub(crate) fn end_watch(&self, place: u64) {
        if let Ok(mut inner) = self.shared.inner.lock() {
            inner.watches.remove(&place);
        }
    }

    /// Ready when the members are others than `seen`, or with `None` once the member has stopped.
    pub(crate) fn poll_watch(
        &self,
        place: u64,
        seen: &Arc<Membership>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Arc<Membership>>> {
        let mut inner = lock(&self.shared.inner);
        let membership = &inner.status.record.membership;
        if membership != seen {
            return Poll::Ready(Some(membership.clone()));
        }
        if inner.stopped {
            return Poll::Ready(None);
        }
        inner.watches.insert(place, Some(context.waker().clone()));
        Poll::Pending
    }

    /// Asks the member's loop to end. What is under way is answered with
    /// [`ProposeError::Stopped`]; it may or may not happen.
    pub fn stop(&self) {
        let mut inner = lock(&self.shared.inner);
        inner.stopping = true;
        wake_loop(inner);
    }

    /// Whether the member's loop has ended.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        lock(&self.shared.inner).stopped
    }

    pub(crate) fn shared(&self) -> &Arc<Shared<M>> {
        &self.shared
    }
}

/// Wakes the loop, outside the lock.
fn wake_loop<M: StateMachine>(mut inner: MutexGuard<'_, Inner<M>>) {
    let waker = inner.loop_waker.take();
    drop(inner);
    if let Some(waker) = waker {
        waker.wake();
    }
}

// ---- the loop's side ----

/// What the loop found when it looked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Inbox {
    Empty,
    Filled,
    Stopping,
}

impl<M: StateMachine> Shared<M> {
    /// Hands an event to the loop from outside it.
    pub(crate) fn push(&self, event: Event) {
        let mut inner = lock(&self.inner);
        inner.events.push(event);
        wake_loop(inner);
    }

    /// The number of the last proposal made; 0 before the first.
    pub(crate) fn proposed_last(&self) -> u64 {
        let inner = lock(&self.inner);
        inner.proposals.first + inner.proposals.slots.len() as u64 - 1
    }

    /// Takes everything that came, or leaves word whom to wake when something comes.
    pub(crate) fn take(&self, events: &mut Vec<Event>, waker: &Waker) -> Inbox {
        let mut inner = lock(&self.inner);
        if inner.stopping {
            return Inbox::Stopping;
        }
        if inner.events.is_empty() {
            match &mut inner.loop_waker {
                Some(known) => known.clone_from(waker),
                none => *none = Some(waker.clone()),
            }
            return Inbox::Empty;
        }
        inner.open = None; // handle invariant 2
        if events.is_empty() {
            std::mem::swap(events, &mut inner.events);
        } else {
            events.append(&mut inner.events);
        }
        Inbox::Filled
    }

    /// Answers proposals and read batches, and publishes how the member stands.
    pub(crate) fn answer(&self, answers: &mut Answers<M::Reply>, machine: &M, status: Status) {
        let mut wake = std::mem::take(&mut answers.wakers);
        let mut inner = lock(&self.inner);
        if status.record.membership != inner.status.record.membership {
            wake.extend(inner.watches.values_mut().filter_map(Option::take));
        }
        inner.status = status;
        inner.ended = inner.ended.or(answers.ended.take());
        inner.stopping |= std::mem::take(&mut answers.handed_over) && inner.stops_when_handed_over;
        let questions: Vec<_> = answers
            .questions
            .drain(..)
            .filter_map(|(ticket, answer)| Some((inner.questions.remove(&ticket)?, answer)))
            .collect();
        for asked in answers.consulted.drain(..) {
            match inner.desk.put(asked) {
                Ok(waker) => wake.extend(waker),
                Err(Consultation { from, .. }) => {
                    let outcome = Err(ConsultRefusal::Busy);
                    inner.events.push(Event::Counsel { to: from, outcome });
                }
            }
        }
        for (sequence, answer) in answers.proposals.drain(..) {
            inner.proposals.answer(sequence, answer, &mut wake);
        }
        if let Some(sequence_max) = answers.doubt_max.take() {
            for sequence in inner.proposals.first..=sequence_max {
                inner.proposals.answer(sequence, Err(ProposeError::InDoubt), &mut wake);
            }
        }
        // A batch stays under way until its questions are answered: should one panic, the others'
        // clients are told by `close`. Questions are asked without the lock, so that they may use a
        // handle.
        let batch_of = |(number, outcome): &(ReadBatch, Result<(), ReadError>)| {
            inner.under_way.get(number).map(|batch| (batch.clone(), *outcome))
        };
        let batches: Vec<_> = answers.reads.iter().filter_map(batch_of).collect();
        drop(inner);
        questions.into_iter().for_each(|(question, answer)| answer.give(question));
        wake.drain(..).for_each(Waker::wake);
        for (batch, outcome) in &batches {
            settle(batch, *outcome, Some(machine), &mut wake);
        }
        if !answers.reads.is_empty() {
            let mut inner = lock(&self.inner);
            for (number, _) in answers.reads.drain(..) {
                inner.under_way.remove(&number);
            }
        }
        wake.drain(..).for_each(Waker::wake);
        answers.wakers = wake;
    }

    /// Whether the loop was told to end, or has ended.
    pub(crate) fn is_stopping(&self) -> bool {
        lock(&self.inner).stopping
    }

    /// The loop has ended: nobody waits in vain.
    pub(crate) fn close(&self) {
        let mut wake = Vec::new();
        let mut inner = lock(&self.inner);
        inner.stopped = true;
        inner.stopping = true;
        inner.open = None;
        inner.events.clear();
        let end = inner.proposals.first + inner.proposals.slots.len() as u64;
        for sequence in inner.proposals.first..end {
            inner.proposals.answer(sequence, Err(ProposeError::Stopped), &mut wake);
        }
        for batch in std::mem::take(&mut inner.under_way).into_values() {
            settle(&batch, Err(ReadError::Stopped), None, &mut wake);
        }
        let questions = std::mem::take(&mut inner.questions);
        wake.extend(inner.watches.values_mut().filter_map(Option::take));
        wake.extend(inner.desk.close());
        drop(inner);
        questions.into_values().for_each(Question::stopped);
        wake.into_iter().for_each(Waker::wake);
    }
}

fn settle<M>(
    batch: &Batch<M>,
    outcome: Result<(), ReadError>,
    machine: Option<&M>,
    wake: &mut Vec<Waker>,
) {
    let queries = std::mem::take(&mut lock(&batch.state).queries);
    if let (Ok(()), Some(machine)) = (outcome, machine) {
        queries.into_iter().for_each(|query| query(machine));
    }
    let mut state = lock(&batch.state);
    state.outcome = Some(outcome);
    wake.append(&mut state.wakers);
}

/// What a turn of the loop answers.
pub(crate) struct Answers<R> {
    pub(crate) proposals: Vec<(u64, Result<R, ProposeError>)>,
    pub(crate) doubt_max: Option<u64>,
    pub(crate) reads: Vec<(ReadBatch, Result<(), ReadError>)>,
    pub(crate) questions: Vec<(Ticket, Answered)>,
    pub(crate) consulted: Vec<Consultation>,
    pub(crate) handed_over: bool,
    pub(crate) ended: Option<Ended>,
    wakers: Vec<Waker>,
}

/// The answer to a question of an operator.
pub(crate) enum Answered {
    Change(Result<Configuration, ChangeError>),
    Transfer(Result<NodeId, TransferError>),
    Consult(Result<Bytes, ConsultError>),
}

impl Answered {
    fn give(self, question: Question) {
        match (self, question) {
            (Answered::Change(answer), Question::Change(place)) => place.answer(answer),
            (Answered::Transfer(answer), Question::Transfer(place)) => place.answer(answer),
            (Answered::Consult(answer), Question::Consult(place)) => place.answer(answer),
            _ => unreachable!("a ticket names one question"),
        }
    }
}

impl<R> Default for Answers<R> {
    fn default() -> Self {
        Answers {
            proposals: Vec::new(),
            doubt_max: None,
            reads: Vec::new(),
            questions: Vec::new(),
            consulted: Vec::new(),
            handed_over: false,
            ended: None,
            wakers: Vec::new(),
        }
    }
}

// ---- the clients' side ----

/// A proposal under way.
pub struct Proposed<M: StateMachine> {
    shared: Arc<Shared<M>>,
    sequence: u64,
    refused: Option<ProposeError>,
    /// The answer was given, and its place in the ring with it.
    has_left: bool,
}

impl<M: StateMachine> Proposed<M> {
    fn refused(shared: Arc<Shared<M>>, reason: ProposeError) -> Proposed<M> {
        Proposed { shared, sequence: 0, refused: Some(reason), has_left: true }
    }

    /// Blocks the calling thread until the proposal is answered.
    ///
    /// # Errors
    /// As the future.
    pub fn wait(self) -> Result<M::Reply, ProposeError> {
        block_on(self)
    }
}

impl<M: StateMachine> Future for Proposed<M> {
    type Output = Result<M::Reply, ProposeError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Proposed { shared, sequence, refused, has_left } = self.get_mut();
        if let Some(reason) = refused {
            return Poll::Ready(Err(*reason));
        }
        assert!(!*has_left, "a proposal is not polled after its answer was given");
        let mut inner = lock(&shared.inner);
        let slot = inner.proposals.slot(*sequence).expect("the slot stays while it is waited for");
        match slot {
            Slot::Waiting(Some(waker)) => waker.clone_from(context.waker()),
            Slot::Waiting(none) => *none = Some(context.waker().clone()),
            Slot::Answered(_) => {
                let Slot::Answered(answer) = std::mem::replace(slot, Slot::Left) else {
                    unreachable!("the slot was just seen to hold an answer")
                };
                inner.proposals.leave(*sequence);
                *has_left = true;
                return Poll::Ready(answer);
            }
            Slot::Left => unreachable!("only who has left leaves its slot"),
        }
        Poll::Pending
    }
}

impl<M: StateMachine> Drop for Proposed<M> {
    fn drop(&mut self) {
        if !self.has_left
            && let Ok(mut inner) = self.shared.inner.lock()
        {
            inner.proposals.leave(self.sequence);
        }
    }
}

/// A linearizable read under way.
pub struct ReadBarrier<M: StateMachine> {
    batch: Arc<Batch<M>>,
    /// Where its waker is.
    place: Option<usize>,
}

impl<M: StateMachine> ReadBarrier<M> {
    /// Blocks the calling thread until the read may run.
    ///
    /// # Errors
    /// As the future.
    pub fn wait(self) -> Result<(), ReadError> {
        block_on(self)
    }
}

impl<M: StateMachine> Future for ReadBarrier<M> {
    type Output = Result<(), ReadError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let ReadBarrier { batch, place } = self.get_mut();
        let mut state = lock(&batch.state);
        if let Some(outcome) = state.outcome {
            return Poll::Ready(outcome);
        }
        match place {
            Some(place) => state.wakers[*place].clone_from(context.waker()),
            None => {
                *place = Some(state.wakers.len());
                state.wakers.push(context.waker().clone());
            }
        }
        Poll::Pending
    }
}

/// A question to the state machine under way.
pub struct Read<M: StateMachine, T> {
    barrier: ReadBarrier<M>,
    answer: Arc<Mutex<Option<T>>>,
}

impl<M: StateMachine, T> Read<M, T> {
    /// Blocks the calling thread until the question is answered.
    ///
    /// # Errors
    /// As the future.
    pub fn wait(self) -> Result<T, ReadError> {
        block_on(self)
    }
}

impl<M: StateMachine, T> Future for Read<M, T> {
    type Output = Result<T, ReadError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match Pin::new(&mut self.barrier).poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => {
                let answer = lock(&self.answer).take();
                Poll::Ready(Ok(answer.expect("questions run before their batch is settled")))
            }
        }
    }
}

/// Wakes a blocked thread.
pub(crate) struct Unpark(pub(crate) std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on the calling thread.
pub(crate) fn block_on<F: Future + Unpin>(mut future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match Pin::new(&mut future).poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}
