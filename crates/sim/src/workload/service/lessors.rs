//! The lessor of every simulated process: the driver that ships, by the clock of its member.
//!
//! Responsible for polling the driver and what goes on beside it, and for telling what they propose.
//! Not responsible for whether that is right.
//!
//! 1. The lessor of a process that is paused does nothing.
//! 2. It knows no time but its own member's clock, which may run faster or slower than the world's.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use jangada_entry::{Draft, Origin};
use jangada_kv::{COMMAND_VERSION, Command, LeaseCommand};
use jangada_raft::{NodeId, Term};
use jangada_server::lease::Lessor;
use jangada_server::{Beside, LessorDesk, Metrics, Served};

use super::{ELECTION_TIMEOUT, LATE_TURNS, Ready, Service, SimTimer, lock};
use crate::application::store::StoreApplication;
use crate::choices::Choices;
use crate::world::World;

/// How often the store is told what remains of long leases. As it ships it is five minutes; a run lasts
/// seconds.
const CHECKPOINT_INTERVAL: Duration = Duration::from_millis(1_500);

/// Something that a lessor has proposed.
#[derive(Clone, Debug)]
pub struct Ordered {
    /// The proposal.
    pub origin: Origin,
    /// The term in which the lessor counts.
    pub term: Term,
    /// What is proposed.
    pub command: LeaseCommand,
}

impl Ordered {
    pub(super) fn of(draft: &Draft, term: Term) -> Ordered {
        let bytes = bytes::Bytes::copy_from_slice(draft.payload());
        let command = match Command::decode(&bytes, COMMAND_VERSION) {
            Ok(Command::Lease(command)) => command,
            other => panic!("lessors alone propose in a term, and not {other:?}"),
        };
        Ordered { origin: draft.origin(), term, command }
    }
}

/// The lessor of a process.
pub(super) struct LessorOf {
    timer: SimTimer,
    /// The driver, and what goes on beside it.
    tasks: Vec<Beside>,
    /// What is to go on beside it.
    spawned: Rc<RefCell<Vec<Beside>>>,
    waker: Waker,
    /// When its clock is to be looked at, by the world's.
    due_us: u64,
}

/// Wakes the lessor of one process.
struct LessorWaker {
    process: u64,
    ready: Arc<Ready>,
}

impl Wake for LessorWaker {
    fn wake(self: Arc<Self>) {
        lock(&self.ready.lessors).push(self.process);
    }
}

impl LessorOf {
    pub(super) fn new(
        backend: &Served<SimTimer>,
        metrics: &Arc<Metrics>,
        process: u64,
        ready: &Arc<Ready>,
    ) -> LessorOf {
        let spawned: Rc<RefCell<Vec<Beside>>> = Rc::default();
        let beside = Rc::clone(&spawned);
        let spawn = Box::new(move |task| beside.borrow_mut().push(task));
        let lessor = Lessor::new(ELECTION_TIMEOUT).checkpoint_every(CHECKPOINT_INTERVAL);
        let timer = SimTimer::default();
        let desk = LessorDesk::new(backend, Arc::clone(metrics), lessor, timer.clone(), spawn);
        let waker = Waker::from(Arc::new(LessorWaker { process, ready: Arc::clone(ready) }));
        waker.wake_by_ref();
        LessorOf { timer, tasks: vec![Box::pin(desk.run())], spawned, waker, due_us: 0 }
    }

    /// Lets its clock go on (invariant 2).
    fn wind(&mut self, world: &World<StoreApplication>, member: NodeId) {
        let next_us = self.timer.advance(world.own_clock_us(member));
        self.due_us = next_us.map_or(u64::MAX, |own_us| world.when_own_clock(member, own_us));
    }

    fn poll(&mut self) {
        let mut task = Context::from_waker(&self.waker);
        loop {
            self.tasks.retain_mut(|beside| beside.as_mut().poll(&mut task).is_pending());
            let mut spawned = self.spawned.borrow_mut();
            if spawned.is_empty() {
                return;
            }
            self.tasks.append(&mut spawned);
        }
    }
}

impl Service {
    /// Decides from here on when lessors are late.
    pub fn decide_lessors(&mut self, choices: Choices) {
        self.lessor_choices = choices;
    }

    /// A process of a member has begun: its lessor, too.
    pub fn started(&mut self, world: &World<StoreApplication>, member: NodeId) {
        self.process(world, member);
    }

    /// What lessors have proposed since the last time.
    pub fn take_ordered(&mut self) -> Vec<Ordered> {
        std::mem::take(&mut self.ordered)
    }

    /// When a lessor answered a question last: nothing is renewed later than that.
    #[must_use]
    pub fn counselled_us(&self) -> u64 {
        self.counselled_us
    }

    /// Lets the clocks go on that have somebody to wake.
    pub(super) fn wind_lessors(&mut self, world: &World<StoreApplication>) {
        for (member, process) in &mut self.processes {
            if process.lessor.due_us <= world.now_us() {
                process.lessor.wind(world, *member);
            }
        }
    }

    /// When one of them is to be woken by its clock.
    pub(super) fn lessors_next_us(&self) -> Option<u64> {
        let due = self.processes.values().map(|process| process.lessor.due_us);
        due.min().filter(|due_us| *due_us < u64::MAX)
    }

    /// The processes whose lessors can go on.
    pub(super) fn ready_lessors(&mut self) -> Vec<u64> {
        let mut ready = std::mem::take(&mut self.late_lessors);
        ready.append(&mut lock(&self.ready.lessors));
        ready.sort_unstable();
        ready.dedup();
        ready
    }

    /// Lets them go on, but for some that have to wait for another turn.
    pub(super) fn poll_lessors(&mut self, world: &World<StoreApplication>, ready: Vec<u64>) {
        for number in ready {
            let of_number =
                |(_, process): &(&NodeId, &mut super::Process)| process.number == number;
            let Some((member, process)) = self.processes.iter_mut().find(of_number) else {
                continue;
            };
            if world.is_paused(*member) || self.lessor_choices.below(LATE_TURNS) == 0 {
                self.late_lessors.push(number); // invariant 1
                continue;
            }
            process.lessor.wind(world, *member);
            process.lessor.poll();
            process.lessor.wind(world, *member);
        }
    }
}
