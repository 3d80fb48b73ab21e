//! The lessor of a member that runs: its clock, its proposals, and the questions that it answers.
//!
//! Responsible for driving the stepped [`Lessor`]. A question is answered only after this member's
//! leadership was confirmed by a round that began after the question came, which all that wait share.
//! The clock, and who runs what goes on beside, are given in: the server's are tokio's, the
//! simulator's its own.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jangada::entry::Draft;
use jangada::raft::{RoleKind, Term};
use jangada::{Consultation, Consultations, Handle};
use jangada_kv::{COMMAND_VERSION, Command, Shared};
use tokio::sync::Notify;

use super::served::{Served, Timer};
use crate::backend::Backend;
use crate::lease::{Answer, Lessor, Order, Question, Renewal};
use crate::machine::KvMachine;
use crate::metrics::Metrics;

/// How often the lessor looks at whether this member leads, and at what is over. A fifth of etcd's
/// interval, and little work: it looks at what is due alone.
const INTERVAL: Duration = Duration::from_millis(100);

/// Something that goes on beside the lessor, on its own thread.
pub type Beside = Pin<Box<dyn Future<Output = ()>>>;

/// The lessor of a member that runs, and what drives it.
pub struct LessorDesk<T> {
    handle: Handle<KvMachine>,
    store: Shared,
    metrics: Arc<Metrics>,
    timer: T,
    /// Runs what goes on beside.
    spawn: Box<dyn Fn(Beside)>,
    lessor: RefCell<Lessor>,
    /// An order was carried out, or this member leads no longer.
    moved: Notify,
}

impl<T: Timer> LessorDesk<T> {
    /// The desk of a lessor that does not lead yet. `timer` is the member's own clock; `spawn` runs a
    /// future to its end, on the thread that runs the desk.
    pub fn new<S: Timer>(
        backend: &Served<S>,
        metrics: Arc<Metrics>,
        lessor: Lessor,
        timer: T,
        spawn: Box<dyn Fn(Beside)>,
    ) -> Rc<LessorDesk<T>> {
        Rc::new(LessorDesk {
            handle: backend.handle().clone(),
            store: backend.store().clone(),
            metrics,
            timer,
            spawn,
            lessor: RefCell::new(lessor),
            moved: Notify::new(),
        })
    }

    /// Counts and answers until the member stops.
    pub async fn run(self: Rc<Self>) {
        let mut asked: Consultations<KvMachine> = self.handle.consultations();
        let mut advanced = self.timer.now();
        self.advance();
        loop {
            let left = (advanced + INTERVAL).saturating_sub(self.timer.now());
            if left.is_zero() {
                self.advance();
                advanced = self.timer.now();
                continue;
            }
            let Some(question) = self.timer.within(left, asked.next()).await else { continue };
            // Bounded by what may be under way at the members that ask.
            let Some(Consultation { from, bytes, .. }) = question else { return };
            let desk = Rc::clone(&self);
            (self.spawn)(Box::pin(async move {
                let answer = desk.answer(&bytes).await;
                desk.handle.counsel(from, answer);
            }));
        }
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.timer.now().as_micros()).unwrap_or(u64::MAX)
    }

    /// Steps the lessor, and proposes what it orders.
    fn advance(self: &Rc<Self>) {
        let status = self.handle.status();
        let (standing, applied) = (status.standing, status.record.applied);
        let leads = standing.role == RoleKind::Leader && applied.term == standing.term;
        let leads_in = leads.then_some(standing.term.0);
        let mut orders = Vec::new();
        {
            let mut lessor = self.lessor.borrow_mut();
            if lessor.leads_in() != leads_in {
                self.moved.notify_waiters();
            }
            lessor.step(self.now_us(), leads_in, &self.store, &mut orders);
        }
        for order in orders {
            (self.spawn)(Box::pin(Rc::clone(self).carry_out(order)));
        }
    }

    async fn carry_out(self: Rc<Self>, order: Order) {
        let Order { number, term, command } = order;
        let mut buffer = Draft::buffer(0);
        Command::Lease(command).encode_into(&mut buffer);
        let proposed = self.handle.propose_in_term(buffer, COMMAND_VERSION, Term(term)).await;
        let applied = proposed.is_ok_and(|reply| reply.result.is_ok());
        {
            let mut lessor = self.lessor.borrow_mut();
            let before = lessor.expired();
            lessor.done(self.now_us(), number, applied);
            self.metrics.leases.expired.add(lessor.expired() - before);
        }
        self.advance();
        self.moved.notify_waiters();
    }

    /// The answer to a question, or none if this member does not lead.
    async fn answer(self: &Rc<Self>, bytes: &[u8]) -> Option<Bytes> {
        let question = Question::decode(bytes).ok()?;
        self.handle.read_barrier().await.ok()?;
        self.advance();
        let seconds = match question {
            Question::Remaining(ids) => {
                let (lessor, now_us) = (self.lessor.borrow(), self.now_us());
                lessor.leads_in()?;
                ids.into_iter().map(|id| lessor.remaining(now_us, id)).collect()
            }
            Question::Renew(ids) => self.renew(&ids).await?,
        };
        Some(Answer(seconds).encode())
    }

    /// Renews leases, some of them if need be once what is under way about them is over.
    async fn renew(self: &Rc<Self>, ids: &[i64]) -> Option<Vec<Option<i64>>> {
        let mut seconds = vec![None; ids.len()];
        let mut left: Vec<usize> = (0..ids.len()).collect();
        loop {
            let mut moved = std::pin::pin!(self.moved.notified());
            moved.as_mut().enable();
            left = self.renew_some(ids, &left, &mut seconds)?;
            if left.is_empty() {
                return Some(seconds);
            }
            self.advance();
            moved.await;
            // Another leader may have come meanwhile.
            self.handle.read_barrier().await.ok()?;
            self.advance();
        }
    }

    /// Renews the leases at these places; answers the places of those that must wait, or nothing if this
    /// member does not lead.
    fn renew_some(
        &self,
        ids: &[i64],
        places: &[usize],
        seconds: &mut [Option<i64>],
    ) -> Option<Vec<usize>> {
        let (mut lessor, now_us) = (self.lessor.borrow_mut(), self.now_us());
        let mut wait = Vec::new();
        for place in places.iter().copied() {
            match lessor.renew(now_us, ids[place]) {
                Renewal::Renewed(ttl) => {
                    self.metrics.leases.renewed.increment();
                    seconds[place] = Some(ttl);
                }
                Renewal::Gone => seconds[place] = None,
                Renewal::Wait => wait.push(place),
                Renewal::NotLeading => return None,
            }
        }
        Some(wait)
    }
}
