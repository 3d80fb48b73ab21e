//! The second method: search for an order, by values alone.
//!
//! Responsible for: splitting the history into groups of keys that never meet in one operation (a
//! history is linearizable if each group is), and for each group the search of Wing and Gong with
//! Lowe's memo: take any operation that no other one must precede, see whether its answer fits,
//! go on, and never enter a situation twice.
//!
//! Not looked at: revisions, versions, serializable reads, refused operations. An operation of
//! unknown outcome never returns; it may be taken at any moment after it was invoked, or never.
//! It is taken only where it changes something, and only after all known operations were tried.
//! The end of the run is one more read of all keys, after everything that returned.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::history::{Action, Consistency, History, Outcome};

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

/// The value of each key of the group.
type State = Vec<Value>;

/// One operation, prepared: keys are positions in the state, values numbers.
struct Step {
    /// The position in the history.
    id: usize,
    invoked: u64,
    /// `None` for an unknown outcome.
    returned: Option<u64>,
    reads: Vec<(usize, Value)>,
    guards: Vec<(usize, Value)>,
    writes: Vec<(usize, Value)>,
    /// For a write with an answer: whether the guards held, and how many keys it deleted.
    answer: Option<(bool, i64)>,
}

impl Step {
    /// The state after this step, or `None` if its answer does not fit the state before.
    fn apply(&self, before: &State) -> Option<State> {
        if self.reads.iter().any(|(key, value)| before[*key] != *value) {
            return None;
        }
        let held = self.guards.iter().all(|(key, value)| before[*key] == *value);
        let mut after = before.clone();
        let mut deleted = 0;
        if held {
            for (key, value) in &self.writes {
                deleted += i64::from(*value == 0 && after[*key] != 0);
                after[*key] = *value;
            }
        }
        match self.answer {
            Some(answer) if answer != (held, deleted) => None,
            None if self.returned.is_none() && after == *before => None,
            _ => Some(after),
        }
    }
}

/// A situation: which steps were taken, and the state they left.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Situation {
    /// All known steps below this position are taken.
    taken_below: usize,
    /// The known steps taken above it, and the unknown ones.
    taken_more: BTreeSet<usize>,
    state: State,
}

/// One level of the search: the situation, and which step to try next.
struct Level {
    situation: Situation,
    next: usize,
    candidates: Vec<usize>,
}

struct Search {
    /// Known steps in the order of invocation, then the unknown ones.
    steps: Vec<Step>,
    known: usize,
    keys: usize,
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
        let mut steps: Vec<Step> = operations
            .iter()
            .map(|id| {
                let operation = &history.operations[*id];
                let mut step = Step {
                    id: *id,
                    invoked: operation.invoked,
                    returned: Some(operation.returned),
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
        Search { steps, known, keys: keys.len() }
    }

    fn run(&self, steps_max: u64) -> Verdict {
        let start =
            Situation { taken_below: 0, taken_more: BTreeSet::new(), state: vec![0; self.keys] };
        let mut seen = BTreeSet::new();
        let mut furthest = 0;
        let candidates = self.candidates(&start);
        let mut levels = vec![Level { situation: start, next: 0, candidates }];
        for _ in 0..steps_max {
            let Some(level) = levels.last_mut() else {
                return Verdict::NotLinearizable { stuck_at: self.steps[furthest].id };
            };
            let Some(step) = level.candidates.get(level.next).copied() else {
                levels.pop();
                continue;
            };
            level.next += 1;
            let Some(situation) = self.take(&level.situation, step) else { continue };
            if situation.taken_below == self.known {
                return Verdict::Linearizable;
            }
            furthest = furthest.max(situation.taken_below);
            if seen.insert(situation.clone()) {
                let candidates = self.candidates(&situation);
                levels.push(Level { situation, next: 0, candidates });
            }
        }
        Verdict::Undecided
    }

    /// The steps that no other one must precede: those invoked before the first return among the
    /// known steps not taken. Known ones come first.
    fn candidates(&self, situation: &Situation) -> Vec<usize> {
        let taken = |step: &usize| situation.taken_more.contains(step);
        let mut first_return = u64::MAX;
        let mut known = Vec::new();
        for step in (situation.taken_below..self.known).filter(|step| !taken(step)) {
            if first_return < self.steps[step].invoked {
                break;
            }
            let returned = self.steps[step].returned.expect("known steps return");
            first_return = first_return.min(returned);
            known.push(step);
        }
        known.retain(|step| self.steps[*step].invoked <= first_return);
        let unknown = (self.known..self.steps.len())
            .take_while(|step| self.steps[*step].invoked <= first_return)
            .filter(|step| !taken(step));
        known.extend(unknown);
        known
    }

    fn take(&self, before: &Situation, step: usize) -> Option<Situation> {
        let state = self.steps[step].apply(&before.state)?;
        let mut after = Situation {
            taken_below: before.taken_below,
            taken_more: before.taken_more.clone(),
            state,
        };
        after.taken_more.insert(step);
        while after.taken_below < self.known && after.taken_more.remove(&after.taken_below) {
            after.taken_below += 1;
        }
        Some(after)
    }
}
