//! Between those who give the chunks of a snapshot and the engine's writer, which puts them into the
//! file: the orders that wait, and what came of them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::chunk::Rows;
use crate::engine::Meta;
use crate::restore::{RestoreError, RestoreState};

/// Above this many waiting bytes no more chunks should be given. 4 MiB: sixteen chunks, enough for
/// the disk never to wait for the network, and little memory.
const WAITING_BYTES_MAX: usize = 4 << 20;

/// What the writer is to do about a state that comes from another member.
pub(crate) enum Order {
    /// Drop what is staged, and stage anew.
    Begin,
    /// Stage rows behind those that are.
    Rows(Rows),
    /// All rows are there: put them in force with the rest of the state.
    Finish(Box<Meta>),
    /// Drop what is staged.
    Abandon,
}

/// The orders that wait, and the end of them.
#[derive(Default)]
pub(crate) struct Staging {
    /// Read with every batch that is applied.
    finishing: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    orders: VecDeque<Order>,
    waiting_bytes: usize,
    /// Counts the restorations: what an earlier one says or came to does not count any more.
    number: u64,
    outcome: Option<Result<(), RestoreError>>,
    /// What was put in force and the machine does not know of yet.
    installed: Option<Meta>,
}

impl Staging {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins another restoration and answers its number.
    pub(crate) fn restart(&self, order: Option<Order>) -> u64 {
        let mut inner = self.inner();
        let number = inner.number + 1;
        *inner = Inner { number, orders: order.into_iter().collect(), ..Inner::default() };
        number
    }

    /// Adds an order to the restoration of this number.
    pub(crate) fn push(&self, number: u64, order: Order) {
        let mut inner = self.inner();
        if inner.number != number {
            return;
        }
        if matches!(order, Order::Finish(_)) && inner.outcome.is_none() {
            self.finishing.store(true, Ordering::Release);
        }
        inner.waiting_bytes += order.bytes();
        inner.orders.push_back(order);
    }

    pub(crate) fn has_room(&self) -> bool {
        self.inner().waiting_bytes < WAITING_BYTES_MAX
    }

    /// Whether a state is being put in force, or is and the machine does not know it yet.
    pub(crate) fn is_finishing(&self) -> bool {
        self.finishing.load(Ordering::Acquire)
    }

    /// The next order, and the restoration that it belongs to.
    pub(crate) fn pop(&self) -> Option<(u64, Order)> {
        let mut inner = self.inner();
        let order = inner.orders.pop_front()?;
        inner.waiting_bytes -= order.bytes();
        Some((inner.number, order))
    }

    /// Tells what came of a restoration: the state that is in force, or why it is not.
    pub(crate) fn end(&self, number: u64, outcome: Result<Meta, RestoreError>) {
        let mut inner = self.inner();
        if inner.number != number || inner.outcome.is_some() {
            return;
        }
        self.finishing.store(outcome.is_ok(), Ordering::Release);
        inner.outcome = Some(outcome.map(|meta| inner.installed = Some(meta)));
    }

    /// How far the restoration of this number has come.
    pub(crate) fn state(&self, number: u64) -> RestoreState {
        let inner = self.inner();
        match &inner.outcome {
            _ if inner.number != number => RestoreState::Failed(RestoreError::Replaced),
            None if self.is_finishing() => RestoreState::Finishing,
            None => RestoreState::Taking,
            Some(Ok(())) => RestoreState::Done,
            Some(Err(error)) => RestoreState::Failed(error.clone()),
        }
    }

    /// The state that was put in force, for the machine to go on from.
    pub(crate) fn take_installed(&self) -> Option<Meta> {
        let meta = self.inner().installed.take()?;
        self.finishing.store(false, Ordering::Release);
        Some(meta)
    }
}

impl Order {
    fn bytes(&self) -> usize {
        match self {
            Order::Rows(rows) => rows.bytes(),
            Order::Begin | Order::Finish(_) | Order::Abandon => 0,
        }
    }
}
