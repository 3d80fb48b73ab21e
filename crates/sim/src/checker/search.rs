//! Breadth-first search through all that may happen, layer by layer.
//!
//! Responsible for which states have been seen, for the frontier, for the workers, and for finding the
//! way back to the beginning. Breadth first means that the first violation found is one of the
//! shortest.
//!
//! A layer is a list of chunks that workers take one by one; a worker keeps what follows for the next
//! layer. Seen states are kept by fingerprint in tables that are locked one by one. Beside it each new
//! state leaves eight bytes: its parent, and which of the parent's successors it is. The way back is
//! read from these, and then walked again from the beginning.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use jangada_raft::invariants::ClusterInvariant;

use super::bounds::Spent;
use super::expand::{Choice, Expander, State, Successors};
use super::fingerprint::Table;
use super::judge::judge;
use super::liveness;
use super::member::Member;
use super::stage::Deed;
use super::tables::{Memory, Tables};
use super::violation::Violation;

/// The most workers: a state's number has three bits for its worker.
pub(crate) const THREADS_MAX: usize = 8;

/// A state's number is its place in its worker's list.
const WORKER_SHIFT: u32 = 29;

/// The most states a worker numbers.
const NUMBERED_MAX: usize = 1 << WORKER_SHIFT;

/// The words of a chunk: small enough that workers end a layer together.
const CHUNK_WORDS: usize = 1 << 15;

/// The seen states are kept in so many tables.
const SHARDS: usize = 256;

/// What bounds the search beside the bounds of the cluster.
#[derive(Clone, Debug)]
pub(crate) struct Reach {
    pub(crate) threads: usize,
    pub(crate) states_max: u64,
    /// How many states are checked for liveness at most.
    pub(crate) liveness_max: u64,
    /// One state in so many is.
    pub(crate) liveness_one_in: u64,
    pub(crate) also: &'static [ClusterInvariant],
}

/// How far the search is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// Distinct states found.
    pub states: u64,
    /// Steps from one state to another that were taken, to states new and known.
    pub transitions: u64,
    /// Steps that were not taken because more messages would have been under way than the bounds say.
    pub pruned: u64,
    /// The layer: how many steps from the opening.
    pub depth: u64,
    /// States from which the faults were ended and everything had to finish.
    pub liveness_checks: u64,
}

/// Whether to go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Yes.
    Go,
    /// Enough.
    Stop,
}

/// How a search has ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Everything within the bounds was seen.
    Exhausted(Progress),
    /// It was stopped before.
    Stopped(Progress),
    /// Something does not hold after these deeds, which begin at the opening.
    Broken { progress: Progress, deeds: Vec<Deed>, violation: Violation },
}

/// Where something did not hold: after the choice of this number from the state of this number, or,
/// without a choice, in that state.
struct Found {
    number: u32,
    choice: Choice,
    violation: Violation,
}

struct Shared<'t> {
    tables: &'t Tables,
    reach: &'t Reach,
    shards: Vec<Mutex<Table<()>>>,
    chunks: Mutex<VecDeque<Vec<u32>>>,
    found: Mutex<Option<Found>>,
    stop: AtomicBool,
    states: AtomicU64,
    transitions: AtomicU64,
    pruned: AtomicU64,
    liveness_checks: AtomicU64,
}

struct Worker<'t> {
    index: u32,
    expander: Expander<'t>,
    successors: Successors,
    /// Parent and place among its successors, of each state that this worker found.
    trace: Vec<(u32, u32)>,
    next: Vec<Vec<u32>>,
    /// The clusters that have been judged.
    judged: Table<()>,
}

/// Searches from `root`.
pub(crate) fn search(
    tables: &Tables,
    reach: &Reach,
    root: &State,
    mut progress: impl FnMut(&Progress) -> Next,
) -> Ended {
    let shared = Shared::new(tables, reach);
    let mut workers: Vec<Worker> =
        (0..reach.threads as u32).map(|index| Worker::new(index, tables)).collect();
    workers[0].begin(&shared, root);
    let mut depth = 0;
    loop {
        let chunks: VecDeque<Vec<u32>> =
            workers.iter_mut().flat_map(|worker| std::mem::take(&mut worker.next)).collect();
        if chunks.is_empty() || shared.stop.load(Ordering::Relaxed) {
            break;
        }
        *shared.chunks.lock().expect("no worker panics with the chunks") = chunks;
        let mut tell = || progress(&shared.progress(depth));
        run_layer(&shared, &mut workers, &mut tell);
        depth += 1;
    }
    let progress = shared.progress(depth);
    let found = shared.found.lock().expect("no worker panics with the find").take();
    if let Some(Found { number, choice, violation }) = found {
        let deeds = way_to(&mut workers, root, number, choice);
        return Ended::Broken { progress, deeds, violation };
    }
    if shared.stop.load(Ordering::Relaxed) {
        return Ended::Stopped(progress);
    }
    Ended::Exhausted(progress)
}

/// Lets the workers empty the layer. The first one, on this thread, also tells the progress.
fn run_layer(shared: &Shared<'_>, workers: &mut [Worker<'_>], tell: &mut dyn FnMut() -> Next) {
    let (first, others) = workers.split_first_mut().expect("there is a worker");
    std::thread::scope(|scope| {
        for worker in others {
            scope.spawn(move || while worker.take_chunk(shared) {});
        }
        while first.take_chunk(shared) {
            if tell() == Next::Stop {
                shared.stop.store(true, Ordering::Relaxed);
            }
        }
    });
}

/// The deeds that lead to where something did not hold.
fn way_to(workers: &mut [Worker<'_>], root: &State, number: u32, choice: Choice) -> Vec<Deed> {
    let mut places = Vec::new();
    let mut number = number;
    loop {
        let worker = &workers[(number >> WORKER_SHIFT) as usize];
        let (parent, place) = worker.trace[number as usize & (NUMBERED_MAX - 1)];
        if parent == u32::MAX {
            break;
        }
        places.push(place);
        number = parent;
    }
    let expander = &mut workers[0].expander;
    let mut successors = Successors::default();
    let mut state = root.clone();
    let mut deeds = Vec::new();
    for place in places.into_iter().rev() {
        expander.expand(&state, &mut successors);
        let successor = &successors.list()[place as usize];
        deeds.push(expander.deed(&state, successor.choice));
        state = successor.state.clone();
    }
    deeds.push(expander.deed(&state, choice));
    deeds
}

impl<'t> Shared<'t> {
    fn new(tables: &'t Tables, reach: &'t Reach) -> Shared<'t> {
        Shared {
            tables,
            reach,
            shards: (0..SHARDS).map(|_| Mutex::new(Table::new())).collect(),
            chunks: Mutex::new(VecDeque::new()),
            found: Mutex::new(None),
            stop: AtomicBool::new(false),
            states: AtomicU64::new(0),
            transitions: AtomicU64::new(0),
            pruned: AtomicU64::new(0),
            liveness_checks: AtomicU64::new(0),
        }
    }

    fn progress(&self, depth: u64) -> Progress {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Progress {
            states: read(&self.states),
            transitions: read(&self.transitions),
            pruned: read(&self.pruned),
            depth,
            liveness_checks: read(&self.liveness_checks),
        }
    }

    /// Takes a state down; whether it is new.
    fn see(&self, print: u128) -> bool {
        let shard = (print >> 64) as usize % SHARDS;
        let mut table = self.shards[shard].lock().expect("no worker panics with the seen states");
        table.insert(print, ())
    }

    fn find(&self, number: u32, choice: Choice, violation: Violation) {
        let mut found = self.found.lock().expect("no worker panics with the find");
        found.get_or_insert(Found { number, choice, violation });
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl<'t> Worker<'t> {
    fn new(index: u32, tables: &'t Tables) -> Worker<'t> {
        Worker {
            index,
            expander: Expander::new(Memory::new(tables)),
            successors: Successors::default(),
            trace: Vec::new(),
            next: Vec::new(),
            judged: Table::new(),
        }
    }

    fn begin(&mut self, shared: &Shared<'_>, root: &State) {
        let print = self.expander.print(root);
        shared.see(print);
        shared.states.fetch_add(1, Ordering::Relaxed);
        self.trace.push((u32::MAX, 0));
        write(&mut self.next, root, 0);
    }

    /// Expands the states of a chunk; whether there was one and the search goes on.
    fn take_chunk(&mut self, shared: &Shared<'_>) -> bool {
        if shared.stop.load(Ordering::Relaxed) {
            return false;
        }
        let chunk = shared.chunks.lock().expect("no worker panics with the chunks").pop_front();
        let Some(chunk) = chunk else { return false };
        let members = shared.tables.bounds.members().len();
        let mut state = State::default();
        let mut rest = &chunk[..];
        while !rest.is_empty() {
            let number = read(&mut rest, members, &mut state);
            self.expand(shared, &state, number);
            if shared.stop.load(Ordering::Relaxed) {
                return false;
            }
        }
        true
    }

    fn expand(&mut self, shared: &Shared<'_>, state: &State, number: u32) {
        let mut successors = std::mem::take(&mut self.successors);
        self.expander.expand(state, &mut successors);
        if let Some((choice, violation)) = successors.violation.take() {
            shared.find(number, choice, violation);
        }
        shared.transitions.fetch_add(successors.list().len() as u64, Ordering::Relaxed);
        shared.pruned.fetch_add(successors.pruned, Ordering::Relaxed);
        for (place, successor) in successors.list().iter().enumerate() {
            if !shared.see(successor.print) {
                continue;
            }
            let found = shared.states.fetch_add(1, Ordering::Relaxed) + 1;
            if let Err(violation) = self.judge(shared, &successor.state, successor.print) {
                shared.find(number, successor.choice, violation);
            }
            if shared.reach.states_max <= found || NUMBERED_MAX - 2 <= self.trace.len() {
                shared.stop.store(true, Ordering::Relaxed);
            }
            let own = (self.index << WORKER_SHIFT) | self.trace.len() as u32;
            self.trace.push((number, place as u32));
            write(&mut self.next, &successor.state, own);
        }
        self.successors = successors;
    }

    fn judge(&mut self, shared: &Shared<'_>, state: &State, print: u128) -> Result<(), Violation> {
        let memory = &mut self.expander.memory;
        let seen = memory.past(state.past).seen;
        let seen = state
            .members
            .iter()
            .fold(seen, |sum, number| sum.wrapping_add(memory.member(*number).seen));
        let is_new = self.judged.insert(seen.max(1), ());
        let is_sampled = ((print >> 72) as u64).is_multiple_of(shared.reach.liveness_one_in)
            && shared.liveness_checks.load(Ordering::Relaxed) < shared.reach.liveness_max;
        if !is_new && !is_sampled {
            return Ok(());
        }
        let history = memory.past(state.past).history.clone();
        let members = state.members.iter().map(|number| memory.member(*number).member.clone());
        let members: Vec<Member> = members.collect();
        let configuration = &shared.tables.bounds.configuration;
        judge(members.iter(), &history.committed_log(), configuration, shared.reach.also)?;
        if is_sampled {
            shared.liveness_checks.fetch_add(1, Ordering::Relaxed);
            let packets = state.packets.iter().map(|number| {
                let packet = memory.packet(*number);
                (packet.from, packet.to, packet.message.clone())
            });
            let packets: Vec<_> = packets.collect();
            liveness::check(shared.tables, members, packets, history)?;
        }
        Ok(())
    }
}

/// Adds a state to the last chunk, or opens one.
fn write(chunks: &mut Vec<Vec<u32>>, state: &State, number: u32) {
    if chunks.last().is_none_or(|chunk| CHUNK_WORDS <= chunk.len()) {
        chunks.push(Vec::with_capacity(CHUNK_WORDS + 64));
    }
    let chunk = chunks.last_mut().expect("there is a chunk");
    chunk.extend_from_slice(&state.members);
    chunk.push(state.past);
    let spent = state.spent.0;
    chunk.extend([0, 32, 64, 96].map(|shift| (spent >> shift) as u32));
    chunk.push(number);
    chunk.push(state.packets.len() as u32);
    chunk.extend_from_slice(&state.packets);
}

/// Takes the first state off a chunk; its number.
fn read(rest: &mut &[u32], members: usize, state: &mut State) -> u32 {
    let (head, tail) = rest.split_at(members + 7);
    state.members.clear();
    state.members.extend_from_slice(&head[..members]);
    state.past = head[members];
    let spent = head[members + 1..members + 5].iter().rev();
    state.spent = Spent(spent.fold(0, |spent, word| (spent << 32) | u128::from(*word)));
    let (packets, tail) = tail.split_at(head[members + 6] as usize);
    state.packets.clear();
    state.packets.extend_from_slice(packets);
    *rest = tail;
    head[members + 5]
}
