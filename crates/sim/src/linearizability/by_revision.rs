//! The first method: the store names a revision for everything it does, so the order is given and
//! only has to be checked.
//!
//! Responsible for: the order of revisions against real time; replaying the writes in that order
//! and comparing every answer, the guards and the end; resolving unknown outcomes by what the
//! store shows of itself. Not for finding an order: there is nothing to find.
//!
//! What is checked, and is the meaning of the numbers in [`Violation`]'s comments:
//! 1. Every revision was made by exactly one write that was asked for, at most one for each write,
//!    and by none that was refused.
//! 2. What returned before another operation was invoked stands before it. A serializable read may
//!    stand earlier than real time says, but never later.
//! 3. Every answer is what the replay gives at its revision: values, versions, guards, counts.
//! 4. The end is what the replay gives.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;

use crate::history::{Action, Change, Consistency, Found, History, Operation, Outcome};

/// What an orderly history contained.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// Acknowledged writes that changed something.
    pub changes: usize,
    /// Acknowledged writes that changed nothing: a guard failed or there was nothing to delete.
    pub idle_writes: usize,
    /// Linearizable reads.
    pub linearizable_reads: usize,
    /// Serializable reads.
    pub serializable_reads: usize,
    /// Writes of unknown outcome that turned out to have happened.
    pub unknown_happened: usize,
    /// Writes of unknown outcome that left no trace.
    pub unknown_vanished: usize,
    /// Operations that were refused.
    pub refused: usize,
}

/// Why a history is not the work of one store. Operations are positions in the history.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Violation {
    /// The history cannot be judged: a value is put twice.
    ValueUsedTwice {
        /// The second operation that puts it.
        operation: usize,
    },
    /// The history cannot be judged: an answer does not belong to the question, or a deletion of
    /// unknown outcome has guards or several keys and so cannot be recognised by its effect.
    Unusable {
        /// The operation.
        operation: usize,
    },
    /// (1) Two acknowledged writes name one revision.
    RevisionTakenTwice {
        /// The revision.
        revision: i64,
        /// The first.
        first: usize,
        /// The second.
        second: usize,
    },
    /// (1) The store shows a revision that no operation can have made.
    RevisionUnexplained {
        /// The revision.
        revision: i64,
    },
    /// (1) A write happened again at a second revision.
    AppliedTwice {
        /// The operation.
        operation: usize,
        /// The second revision.
        revision: i64,
    },
    /// (1) A write happened although its client was told that it did not.
    RefusedButApplied {
        /// The operation.
        operation: usize,
        /// The revision it was found at.
        revision: i64,
    },
    /// (1) An answer names a revision that the store has never reached, or one before the start.
    RevisionOutOfRange {
        /// The operation.
        operation: usize,
    },
    /// (2) `later` was invoked after `earlier` had returned, but stands before it: a stale read, or
    /// a revision that went back.
    OutOfOrder {
        /// The operation that returned first.
        earlier: usize,
        /// The operation that was invoked afterwards.
        later: usize,
    },
    /// (3) A read's answer is not the state at its revision.
    WrongRead {
        /// The operation.
        operation: usize,
        /// The key and the two states.
        mismatch: Box<Mismatch>,
    },
    /// (3) The guards held and the write was answered as failed, or the other way round.
    WrongGuards {
        /// The operation.
        operation: usize,
    },
    /// (3) The number of deleted keys is wrong.
    WrongDeleted {
        /// The operation.
        operation: usize,
    },
    /// (3) What the store shows of a revision is not what its writer asked for.
    WrongEffect {
        /// The operation.
        operation: usize,
        /// The revision.
        revision: i64,
    },
    /// (4) A key differs at the end.
    WrongEnd {
        /// The key and the two states.
        mismatch: Box<Mismatch>,
    },
}

/// A key that is not as the replay has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mismatch {
    /// The key.
    pub key: Bytes,
    /// What the replay has.
    pub expected: Option<Found>,
    /// What the store answered or holds.
    pub found: Option<Found>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::ValueUsedTwice { operation } => {
                write!(f, "operation {operation} puts a value that was put before; use each once")
            }
            Violation::Unusable { operation } => {
                write!(f, "operation {operation} cannot be judged: see history.rs for the rules")
            }
            Violation::RevisionTakenTwice { revision, first, second } => {
                write!(f, "operations {first} and {second} were both answered revision {revision}")
            }
            Violation::RevisionUnexplained { revision } => {
                write!(f, "no operation explains revision {revision}")
            }
            Violation::AppliedTwice { operation, revision } => {
                write!(f, "operation {operation} happened again at revision {revision}")
            }
            Violation::RefusedButApplied { operation, revision } => write!(
                f,
                "operation {operation} was answered as not done but happened at revision {revision}"
            ),
            Violation::RevisionOutOfRange { operation } => {
                write!(f, "operation {operation} names a revision that the store never had")
            }
            Violation::OutOfOrder { earlier, later } => write!(
                f,
                "operation {later} began after operation {earlier} had ended but does not see it"
            ),
            Violation::WrongRead { operation, mismatch } => {
                write!(f, "operation {operation} read {mismatch} at its revision")
            }
            Violation::WrongGuards { operation } => {
                write!(f, "operation {operation} was answered against its guards")
            }
            Violation::WrongDeleted { operation } => {
                write!(f, "operation {operation} was answered a wrong number of deleted keys")
            }
            Violation::WrongEffect { operation, revision } => write!(
                f,
                "revision {revision} does not hold what its writer, operation {operation}, asked for"
            ),
            Violation::WrongEnd { mismatch } => write!(f, "at the end the store has {mismatch}"),
        }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mismatch { key, expected, found } = self;
        write!(f, "{key:?} as {found:?} where the acknowledged writes give {expected:?}")
    }
}

impl std::error::Error for Violation {}

/// Where an operation stands: after the write of the revision, or as that write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Write(i64),
    After(i64),
}

impl Place {
    /// Compares revisions first: all that happens after a revision stands before the next one.
    fn order(self) -> (i64, u8) {
        match self {
            Place::Write(revision) => (revision, 0),
            Place::After(revision) => (revision, 1),
        }
    }
}

/// Judges `history`.
pub fn check(history: &History) -> Result<Summary, Violation> {
    let mut check = Check::new(history)?;
    check.place_acknowledged()?;
    check.find_floors();
    check.place_unknown()?;
    check.check_real_time()?;
    check.replay()?;
    Ok(check.summarize())
}

struct Check<'a> {
    history: &'a History,
    /// Who puts a value.
    writers: BTreeMap<(&'a Bytes, &'a Bytes), usize>,
    places: Vec<Option<Place>>,
    /// By revision, the write that made it.
    made_by: BTreeMap<i64, usize>,
    /// For each operation, the furthest one that had returned when it was invoked.
    floors: Vec<Option<usize>>,
}

impl<'a> Check<'a> {
    fn new(history: &'a History) -> Result<Check<'a>, Violation> {
        let mut writers = BTreeMap::new();
        for (id, operation) in history.operations.iter().enumerate() {
            if !is_usable(operation) {
                return Err(Violation::Unusable { operation: id });
            }
            let Action::Write { puts, .. } = &operation.action else { continue };
            for (key, value) in puts {
                if writers.insert((key, value), id).is_some() {
                    return Err(Violation::ValueUsedTwice { operation: id });
                }
            }
        }
        let places = vec![None; history.operations.len()];
        Ok(Check { history, writers, places, made_by: BTreeMap::new(), floors: Vec::new() })
    }

    fn operation(&self, id: usize) -> &'a Operation {
        &self.history.operations[id]
    }

    /// Every answered operation stands where its answer says.
    fn place_acknowledged(&mut self) -> Result<(), Violation> {
        for (id, operation) in self.history.operations.iter().enumerate() {
            let place = match operation.outcome {
                Outcome::Refused | Outcome::Unknown => continue,
                Outcome::Read { revision, .. } => Place::After(revision),
                Outcome::Written { revision, .. } => match operation.changed_at() {
                    Some(revision) => Place::Write(revision),
                    None => Place::After(revision),
                },
            };
            let (revision, _) = place.order();
            let lowest = self.history.first_revision + i64::from(matches!(place, Place::Write(_)));
            if revision < lowest || self.history.contents.revision < revision {
                return Err(Violation::RevisionOutOfRange { operation: id });
            }
            self.places[id] = Some(place);
            if let Place::Write(revision) = place
                && let Some(first) = self.made_by.insert(revision, id)
            {
                return Err(Violation::RevisionTakenTwice { revision, first, second: id });
            }
        }
        Ok(())
    }

    /// One sweep over time. Only answered operations return, so this needs no unknown outcome.
    fn find_floors(&mut self) {
        let operations = &self.history.operations;
        let mut invoked: Vec<usize> = (0..operations.len()).collect();
        invoked.sort_by_key(|id| operations[*id].invoked);
        let mut returned: Vec<usize> =
            (0..operations.len()).filter(|id| self.places[*id].is_some()).collect();
        returned.sort_by_key(|id| operations[*id].returned);
        self.floors = vec![None; operations.len()];
        let (mut next, mut furthest) = (0, None::<usize>);
        for id in invoked {
            while next < returned.len()
                && operations[returned[next]].returned < operations[id].invoked
            {
                let candidate = returned[next];
                let order = |id: usize| self.places[id].map(Place::order);
                if furthest.is_none_or(|best| order(best) < order(candidate)) {
                    furthest = Some(candidate);
                }
                next += 1;
            }
            self.floors[id] = furthest;
        }
    }

    /// Each revision that no acknowledged write made must be the work of a write of unknown
    /// outcome. A put is recognised by its value, a deletion by its key.
    fn place_unknown(&mut self) -> Result<(), Violation> {
        let first = self.history.first_revision + 1;
        for revision in first..=self.history.contents.revision {
            if self.made_by.contains_key(&revision) {
                continue;
            }
            let changes = self
                .history
                .observed
                .get(&revision)
                .ok_or(Violation::RevisionUnexplained { revision })?;
            let id = self
                .writer_of(revision, changes)
                .ok_or(Violation::RevisionUnexplained { revision })?;
            match self.operation(id).outcome {
                Outcome::Unknown if self.places[id].is_none() => {}
                Outcome::Refused | Outcome::Written { succeeded: false, .. } => {
                    return Err(Violation::RefusedButApplied { operation: id, revision });
                }
                _ => return Err(Violation::AppliedTwice { operation: id, revision }),
            }
            self.places[id] = Some(Place::Write(revision));
            self.made_by.insert(revision, id);
        }
        Ok(())
    }

    /// Deletions of one key differ only in how early they can have happened. Revisions are looked
    /// at in rising order, so any deletion that is possible for one is possible for all later ones,
    /// and the choice does not matter.
    fn writer_of(&self, revision: i64, changes: &[Change]) -> Option<usize> {
        let put = changes.iter().find_map(|change| Some((&change.key, change.value.as_ref()?)));
        if let Some(put) = put {
            return self.writers.get(&put).copied();
        }
        let [Change { key, value: None }] = changes else { return None };
        (0..self.history.operations.len()).find(|id| {
            let operation = self.operation(*id);
            let deletes = matches!(&operation.action, Action::Write { puts, deletes, .. }
                if puts.is_empty() && deletes.contains(key));
            let floor = self.floors[*id].and_then(|floor| self.places[floor]);
            operation.outcome == Outcome::Unknown
                && self.places[*id].is_none()
                && deletes
                && floor.is_none_or(|floor| floor.order() < (revision, 0))
        })
    }

    fn check_real_time(&self) -> Result<(), Violation> {
        for (later, place) in self.places.iter().enumerate() {
            let (Some(place), Some(earlier)) = (place, self.floors[later]) else { continue };
            if is_serializable(self.operation(later)) {
                continue;
            }
            let floor = self.places[earlier].expect("only placed operations are floors");
            if place.order() < floor.order() {
                return Err(Violation::OutOfOrder { earlier, later });
            }
        }
        Ok(())
    }

    fn replay(&self) -> Result<(), Violation> {
        let mut ordered: Vec<(Place, usize)> = self
            .places
            .iter()
            .enumerate()
            .filter_map(|(id, place)| Some(((*place)?, id)))
            .collect();
        ordered.sort_by_key(|(place, id)| (place.order(), *id));
        let mut state = BTreeMap::new();
        for (place, id) in ordered {
            match place {
                Place::Write(revision) => self.replay_change(&mut state, revision, id)?,
                Place::After(_) => self.compare_answer(&state, id)?,
            }
        }
        let end = &self.history.contents.keys;
        for key in state.keys().chain(end.keys()) {
            if let Some(mismatch) = compare(key, state.get(key), end.get(key)) {
                return Err(Violation::WrongEnd { mismatch });
            }
        }
        Ok(())
    }

    fn replay_change(
        &self,
        state: &mut BTreeMap<Bytes, Found>,
        revision: i64,
        id: usize,
    ) -> Result<(), Violation> {
        let operation = self.operation(id);
        let Action::Write { puts, deletes, .. } = &operation.action else {
            return Err(Violation::Unusable { operation: id });
        };
        if !guards_hold(&operation.action, state) {
            return Err(Violation::WrongGuards { operation: id });
        }
        let mut changes = Vec::new();
        for key in deletes {
            if state.remove(key).is_some() {
                changes.push(Change { key: key.clone(), value: None });
            }
        }
        if let Outcome::Written { deleted, .. } = operation.outcome
            && usize::try_from(deleted) != Ok(changes.len())
        {
            return Err(Violation::WrongDeleted { operation: id });
        }
        for (key, value) in puts {
            let (create_revision, version) = match state.get(key) {
                Some(before) => (before.create_revision, before.version + 1),
                None => (revision, 1),
            };
            let found =
                Found { value: value.clone(), create_revision, mod_revision: revision, version };
            state.insert(key.clone(), found);
            changes.push(Change { key: key.clone(), value: Some(value.clone()) });
        }
        if let Some(observed) = self.history.observed.get(&revision) {
            let mut observed = observed.clone();
            observed.sort_by(|a, b| a.key.cmp(&b.key));
            changes.sort_by(|a, b| a.key.cmp(&b.key));
            if observed != changes {
                return Err(Violation::WrongEffect { operation: id, revision });
            }
        }
        Ok(())
    }

    fn compare_answer(&self, state: &BTreeMap<Bytes, Found>, id: usize) -> Result<(), Violation> {
        let operation = self.operation(id);
        match (&operation.action, &operation.outcome) {
            (Action::Read { keys, .. }, Outcome::Read { found, .. }) => {
                for (key, found) in keys.iter().zip(found) {
                    if let Some(mismatch) = compare(key, state.get(key), found.as_ref()) {
                        return Err(Violation::WrongRead { operation: id, mismatch });
                    }
                }
                Ok(())
            }
            (Action::Write { deletes, .. }, Outcome::Written { succeeded, .. }) => {
                if guards_hold(&operation.action, state) != *succeeded {
                    return Err(Violation::WrongGuards { operation: id });
                }
                if *succeeded && deletes.iter().any(|key| state.contains_key(key)) {
                    return Err(Violation::WrongDeleted { operation: id });
                }
                Ok(())
            }
            _ => Err(Violation::Unusable { operation: id }),
        }
    }

    fn summarize(&self) -> Summary {
        let mut summary = Summary::default();
        for (id, operation) in self.history.operations.iter().enumerate() {
            let count = match (&operation.outcome, self.places[id]) {
                (Outcome::Refused, _) => &mut summary.refused,
                (Outcome::Unknown, Some(_)) => &mut summary.unknown_happened,
                (Outcome::Unknown, None) => &mut summary.unknown_vanished,
                (Outcome::Read { .. }, _) if is_serializable(operation) => {
                    &mut summary.serializable_reads
                }
                (Outcome::Read { .. }, _) => &mut summary.linearizable_reads,
                (Outcome::Written { .. }, Some(Place::Write(_))) => &mut summary.changes,
                (Outcome::Written { .. }, _) => &mut summary.idle_writes,
            };
            *count += 1;
        }
        summary
    }
}

fn is_serializable(operation: &Operation) -> bool {
    matches!(operation.action, Action::Read { consistency: Consistency::Serializable, .. })
}

/// Whether the answer belongs to the question, and an unknown deletion can be recognised.
fn is_usable(operation: &Operation) -> bool {
    match (&operation.action, &operation.outcome) {
        (Action::Read { keys, .. }, Outcome::Read { found, .. }) => keys.len() == found.len(),
        (Action::Read { .. }, outcome) => !matches!(outcome, Outcome::Written { .. }),
        (Action::Write { .. }, Outcome::Read { .. }) => false,
        (Action::Write { guards, puts, deletes }, Outcome::Unknown) => {
            !puts.is_empty() || (guards.is_empty() && deletes.len() == 1)
        }
        (Action::Write { .. }, _) => true,
    }
}

fn guards_hold(action: &Action, state: &BTreeMap<Bytes, Found>) -> bool {
    let Action::Write { guards, .. } = action else { return true };
    guards
        .iter()
        .all(|guard| state.get(&guard.key).map(|found| &found.value) == guard.expected.as_ref())
}

fn compare(key: &Bytes, expected: Option<&Found>, found: Option<&Found>) -> Option<Box<Mismatch>> {
    (expected != found).then(|| {
        let (expected, found) = (expected.cloned(), found.cloned());
        Box::new(Mismatch { key: key.clone(), expected, found })
    })
}
