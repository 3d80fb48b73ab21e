//! The second method: search for an order, by values alone.
//!
//! Responsible for: splitting the history into groups of keys that never meet in one operation (a
//! history is linearizable if each group is), and for each group the search of Wing and Gong with
//! Lowe's memo: take any operation that no other one must precede, see whether its answer fits,
//! go on, and never enter a situation twice.
//!
//! What makes it practical for thousands of operations:
//!
//! * A situation is remembered as a fingerprint of 128 bits, kept up to date by each step: what was
//!   taken and the value of each key are sums of numbers that depend on one of them each. Two
//!   situations with one fingerprint would hide a violation, once in about 2^64 situations squared.
//!   Paths that part over the order of two writes and meet again once both are overwritten, at the
//!   latest where nothing is open, are thus gone through once.
//! * What is tried first is the order that the answers' revisions suggest, and for unknown outcomes the
//!   store's past. They are not believed, for every answer is still judged by values; they only make
//!   the first guess the right one in a history that is in order.
//! * An operation of unknown outcome that nothing suggests is tried first where the next known one
//!   fits only behind it, and last where it only shares a key with one that may come next. Where it
//!   shares none it is not tried: it could as well come later.
//!
//! Not looked at: revisions, versions, serializable reads, refused operations. An operation of
//! unknown outcome never returns; it may be taken at any moment after it was invoked, or never.
//! It is taken only where it changes something, and only after all known operations were tried.
//! The end of the run is one more read of all keys, after everything that returned.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::choices::mix;
use crate::history::{Action, Consistency, History, Operation, Outcome};

/// What the search says about one group of keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// An order was found.
    Linearizable,
    /// There is none.
    NotLinearizable {
        /// An operation that the longest partial order could not contain, as a position in the
        /// history; the number of operations if it is the read at the end.
        stuck_at: usize,
    },
    /// The limit of steps was reached first.
    Undecided,
}

/// Judges each group of keys of `history`: its operations, as positions in the history, and the
/// verdict. The search of one group takes at most `steps_max` steps.
pub fn check(history: &History, steps_max: u64) -> Vec<(Vec<usize>, Verdict)> {
    groups(history)
        .into_iter()
        .map(|(keys, operations)| {
            let verdict = Search::new(history, &keys, &operations).run(steps_max);
            (operations, verdict)
        })
        .collect()
}

/// Which operations are searched over: refused ones did nothing, serializable reads may be old, and
/// a read without an answer says nothing.
fn counts(history: &History, id: usize) -> bool {
    let operation = &history.operations[id];
    match (&operation.action, &operation.outcome) {
        (_, Outcome::Refused) => false,
        (Action::Read { consistency, .. }, outcome) => {
            *consistency == Consistency::Linearizable && *outcome != Outcome::Unknown
        }
        (Action::Write { .. }, _) => true,
    }
}

/// Joins keys that meet in one operation.
fn groups(history: &History) -> Vec<(Vec<Bytes>, Vec<usize>)> {
    let mut slots: BTreeMap<&Bytes, usize> = BTreeMap::new();
    let mut parents: Vec<usize> = Vec::new();
    let mut joined: Vec<(usize, usize)> = Vec::new();
    let all = history.operations.iter().enumerate().filter(|(id, _)| counts(history, *id));
    for (id, operation) in all {
        let mut first = None;
        for key in operation.action.keys() {
            let slot = *slots.entry(key).or_insert_with(|| {
                parents.push(parents.len());
                parents.len() - 1
            });
            let root = root_of(&parents, slot);
            match first {
                None => first = Some(root),
                Some(other) => parents[root] = root_of(&parents, other),
            }
        }
        if let Some(slot) = first {
            joined.push((slot, id));
        }
    }
    for key in history.contents.keys.keys() {
        slots.entry(key).or_insert_with(|| {
            parents.push(parents.len());
            parents.len() - 1
        });
    }
    let mut found: BTreeMap<usize, (Vec<Bytes>, Vec<usize>)> = BTreeMap::new();
    for (key, slot) in slots {
        found.entry(root_of(&parents, slot)).or_default().0.push(key.clone());
    }
    for (slot, id) in joined {
        found.entry(root_of(&parents, slot)).or_default().1.push(id);
    }
    found.into_values().collect()
}

fn root_of(parents: &[usize], mut slot: usize) -> usize {
    while parents[slot] != slot {
        slot = parents[slot];
    }
    slot
}

/// A value as a small number; 0 is "absent".
type Value = u32;

/// One operation, prepared: keys are positions in the state, values numbers.
struct Step {
    /// The position in the history.
    id: usize,
    invoked: u64,
    /// `None` for an unknown outcome.
    returned: Option<u64>,
    /// Where the answer says that it stands: a guess at the order, and no more.
    hint: (i64, u8),
    reads: Vec<(usize, Value)>,
    guards: Vec<(usize, Value)>,
    writes: Vec<(usize, Value)>,
    /// For a write with an answer: whether the guards held, and how many keys it deleted.
    answer: Option<(bool, i64)>,
}

impl Step {
    /// Every key that it reads, compares or writes.
    fn keys(&self) -> impl Iterator<Item = usize> + '_ {
        self.reads.iter().chain(&self.guards).chain(&self.writes).map(|(key, _)| *key)
    }

    /// Whether the answer fits the state before, and whether the guards held.
    fn fits(&self, state: &[Value]) -> Option<bool> {
        if self.reads.iter().any(|(key, value)| state[*key] != *value) {
            return None;
        }
        let held = self.guards.iter().all(|(key, value)| state[*key] == *value);
        let gone = |(key, value): &&(usize, Value)| *value == 0 && state[*key] != 0;
        let deleted = if held { self.writes.iter().filter(gone).count() as i64 } else { 0 };
        let changes = held && self.writes.iter().any(|(key, value)| state[*key] != *value);
        match self.answer {
            Some(answer) if answer != (held, deleted) => None,
            None if self.returned.is_none() && !changes => None,
            _ => Some(held),
        }
    }
}

/// A number of 128 bits for a fact; facts that hold together are added up.
fn fact(kind: u64, one: u64, other: u64) -> u128 {
    let low = mix(mix(kind ^ one.rotate_left(20)).wrapping_add(other));
    u128::from(low) | u128::from(mix(low ^ one ^ other.rotate_left(40))) << 64
}

/// A step that was taken: the way back, and what is left to try in its place.
struct Level {
    step: usize,
    before: Vec<(usize, Value)>,
    taken_below: usize,
    fingerprint: u128,
    candidates: Vec<usize>,
    next: usize,
}

struct Search {
    /// Known steps in the order of invocation, then the unknown ones.
    steps: Vec<Step>,
    known: usize,
    state: Vec<Value>,
    taken: Vec<bool>,
    /// All known steps below this position are taken.
    taken_below: usize,
    fingerprint: u128,
}

impl Search {
    fn new(history: &History, keys: &[Bytes], operations: &[usize]) -> Search {
        let slots: BTreeMap<&Bytes, usize> =
            keys.iter().enumerate().map(|(slot, key)| (key, slot)).collect();
        let mut numbers: BTreeMap<Bytes, Value> = BTreeMap::new();
        let mut number = |value: Option<&Bytes>| -> Value {
            let Some(value) = value else { return 0 };
            let next = Value::try_from(numbers.len() + 1).expect("fewer than 2^32 values");
            *numbers.entry(value.clone()).or_insert(next)
        };
        let hints = hints_of_unknown(history, operations);
        let mut steps: Vec<Step> = operations
            .iter()
            .map(|id| {
                let operation = &history.operations[*id];
                let mut step = Step {
                    id: *id,
                    invoked: operation.invoked,
                    returned: Some(operation.returned),
                    hint: hints.get(id).copied().unwrap_or_else(|| hint(operation)),
                    reads: Vec::new(),
                    guards: Vec::new(),
                    writes: Vec::new(),
                    answer: None,
                };
                match (&operation.action, &operation.outcome) {
                    (Action::Read { keys, .. }, Outcome::Read { found, .. }) => {
                        step.reads = keys
                            .iter()
                            .zip(found)
                            .map(|(key, found)| {
                                (slots[key], number(found.as_ref().map(|found| &found.value)))
                            })
                            .collect();
                    }
                    (Action::Write { guards, puts, deletes }, outcome) => {
                        step.guards = guards
                            .iter()
                            .map(|guard| (slots[&guard.key], number(guard.expected.as_ref())))
                            .collect();
                        let deletes = deletes.iter().map(|key| (slots[key], 0));
                        let puts =
                            puts.iter().map(|(key, value)| (slots[key], number(Some(value))));
                        step.writes = deletes.chain(puts).collect();
                        match outcome {
                            Outcome::Written { succeeded, deleted, .. } => {
                                step.answer = Some((*succeeded, *deleted));
                            }
                            _ => step.returned = None,
                        }
                    }
                    _ => step.returned = None,
                }
                step
            })
            .collect();
        let last = steps.iter().filter_map(|step| step.returned.max(Some(step.invoked))).max();
        let after_all = last.map_or(0, |last| last.saturating_add(1));
        steps.push(Step {
            id: history.operations.len(),
            invoked: after_all,
            returned: Some(after_all),
            hint: (i64::MAX, 1),
            reads: keys
                .iter()
                .map(|key| {
                    let found = history.contents.keys.get(key);
                    (slots[key], number(found.map(|found| &found.value)))
                })
                .collect(),
            guards: Vec::new(),
            writes: Vec::new(),
            answer: None,
        });
        steps.sort_by_key(|step| (step.returned.is_none(), step.invoked));
        let known = steps.iter().filter(|step| step.returned.is_some()).count();
        let (state, taken) = (vec![0; keys.len()], vec![false; steps.len()]);
        Search { steps, known, state, taken, taken_below: 0, fingerprint: 0 }
    }

    fn run(mut self, steps_max: u64) -> Verdict {
        let mut seen = BTreeSet::new();
        let mut furthest = 0;
        let mut candidates = self.candidates();
        let mut next = 0;
        let mut levels: Vec<Level> = Vec::new();
        for _ in 0..steps_max {
            let Some(step) = candidates.get(next).copied() else {
                let Some(level) = levels.pop() else {
                    return Verdict::NotLinearizable { stuck_at: self.steps[furthest].id };
                };
                (candidates, next) = self.take_back(level);
                continue;
            };
            next += 1;
            let Some(mut level) = self.take(step) else { continue };
            if self.taken_below == self.known {
                return Verdict::Linearizable;
            }
            furthest = furthest.max(self.taken_below);
            if !seen.insert(self.fingerprint) {
                self.take_back(level);
                continue;
            }
            level.candidates = std::mem::replace(&mut candidates, self.candidates());
            level.next = std::mem::replace(&mut next, 0);
            levels.push(level);
        }
        Verdict::Undecided
    }

    /// The steps that no other one must precede: those invoked before the first return among the
    /// known steps not taken.
    fn candidates(&self) -> Vec<usize> {
        let mut first_return = u64::MAX;
        let mut known = Vec::new();
        for step in self.taken_below..self.known {
            if first_return < self.steps[step].invoked {
                break;
            }
            if self.taken[step] {
                continue;
            }
            let returned = self.steps[step].returned.expect("known steps return");
            first_return = first_return.min(returned);
            known.push(step);
        }
        known.retain(|step| self.steps[*step].invoked <= first_return);
        let by_hint = |step: &usize| (self.steps[*step].hint, *step);
        let (hinted, unhinted): (Vec<usize>, Vec<usize>) = self
            .unknown_before(first_return, &known)
            .into_iter()
            .partition(|step| self.steps[*step].hint.0 < i64::MAX);
        known.extend(hinted);
        known.sort_by_key(by_hint);
        let first = known.first().copied();
        let first = first.filter(|step| self.steps[*step].fits(&self.state).is_none());
        let (mut all, rest): (Vec<usize>, Vec<usize>) =
            unhinted.into_iter().partition(|step| first.is_some_and(|f| self.helps(*step, f)));
        all.extend(known);
        all.extend(rest);
        all
    }

    /// Whether one step fits once an unknown one was taken.
    fn helps(&self, unknown: usize, step: usize) -> bool {
        let mut state = self.state.clone();
        for (key, value) in &self.steps[unknown].writes {
            state[*key] = *value;
        }
        self.steps[step].fits(&state).is_some()
    }

    /// The unknown steps that may be taken next and share a key with one of the `known` steps, or with
    /// an unknown one that does.
    fn unknown_before(&self, first_return: u64, known: &[usize]) -> Vec<usize> {
        let mut left: Vec<usize> = (self.known..self.steps.len())
            .take_while(|step| self.steps[*step].invoked <= first_return)
            .filter(|step| !self.taken[*step])
            .collect();
        let mut found = Vec::new();
        if left.is_empty() {
            return found;
        }
        let mut touched = vec![false; self.state.len()];
        known.iter().flat_map(|step| self.steps[*step].keys()).for_each(|key| touched[key] = true);
        loop {
            let touches = |step: &usize| self.steps[*step].keys().any(|key| touched[key]);
            let (more, rest): (Vec<usize>, Vec<usize>) = left.into_iter().partition(touches);
            if more.is_empty() {
                break;
            }
            more.iter()
                .flat_map(|step| self.steps[*step].keys())
                .for_each(|key| touched[key] = true);
            found.extend(more);
            left = rest;
        }
        found.sort_unstable();
        found
    }

    /// Takes a step, if its answer fits.
    fn take(&mut self, step: usize) -> Option<Level> {
        let held = self.steps[step].fits(&self.state)?;
        let mut level = Level {
            step,
            before: Vec::new(),
            taken_below: self.taken_below,
            fingerprint: self.fingerprint,
            candidates: Vec::new(),
            next: 0,
        };
        if held {
            for (key, value) in &self.steps[step].writes {
                let before = std::mem::replace(&mut self.state[*key], *value);
                level.before.push((*key, before));
                let of = |value: Value| fact(1, *key as u64, u64::from(value));
                self.fingerprint =
                    self.fingerprint.wrapping_add(of(*value)).wrapping_sub(of(before));
            }
        }
        self.taken[step] = true;
        self.fingerprint = self.fingerprint.wrapping_add(fact(2, step as u64, 0));
        while self.taken_below < self.known && self.taken[self.taken_below] {
            self.taken_below += 1;
        }
        Some(level)
    }

    /// Undoes the newest step; gives back what is left to try in its place.
    fn take_back(&mut self, level: Level) -> (Vec<usize>, usize) {
        self.taken[level.step] = false;
        for (key, before) in level.before.into_iter().rev() {
            self.state[key] = before;
        }
        self.taken_below = level.taken_below;
        self.fingerprint = level.fingerprint;
        (level.candidates, level.next)
    }
}

/// Where the store's past suggests that operations of unknown outcome stand: at the revision that holds
/// a value they put, or deletes a key that they were to delete.
fn hints_of_unknown(history: &History, operations: &[usize]) -> BTreeMap<usize, (i64, u8)> {
    let mut putters: BTreeMap<(&Bytes, &Bytes), usize> = BTreeMap::new();
    let mut deleters: BTreeMap<&Bytes, Vec<usize>> = BTreeMap::new();
    for id in operations.iter().rev() {
        let operation = &history.operations[*id];
        let Action::Write { puts, deletes, .. } = &operation.action else { continue };
        if operation.outcome != Outcome::Unknown {
            continue;
        }
        for (key, value) in puts {
            putters.insert((key, value), *id);
        }
        for key in deletes.iter().filter(|_| puts.is_empty()) {
            deleters.entry(key).or_default().push(*id);
        }
    }
    let mut hints = BTreeMap::new();
    for (revision, changes) in &history.observed {
        for change in changes {
            let id = match &change.value {
                Some(value) => putters.get(&(&change.key, value)).copied(),
                // Several may have done it; the first that were asked for are as good as any.
                None => deleters.get_mut(&change.key).and_then(Vec::pop),
            };
            if let Some(id) = id {
                hints.entry(id).or_insert((*revision, 0));
            }
        }
    }
    hints
}

/// Where an answer says that its operation stands: writes at their revision, all others behind it.
fn hint(operation: &Operation) -> (i64, u8) {
    match (operation.changed_at(), &operation.outcome) {
        (Some(revision), _) => (revision, 0),
        (None, Outcome::Read { revision, .. } | Outcome::Written { revision, .. }) => {
            (*revision, 1)
        }
        (None, Outcome::Refused | Outcome::Unknown) => (i64::MAX, 0),
    }
}
