//! The first method while the run goes on: each answer is judged when it comes.
//!
//! The log names the order of all writes, those of unknown outcome among them, and the store names
//! the revision of every answer. So a model that is told each command as it is applied knows what each
//! write must answer and what each revision holds. Work for each operation is constant but for the
//! lookup of its keys; memory is what is open, and the versions of the last [`WINDOW`] revisions.
//!
//! Responsible for: judging answers by that order and by real time. Not for finding the order (that
//! is the log's) nor for doubting it (that is [`search`](super::search)'s, which believes neither log
//! nor revisions).
//!
//! Called in the order in which things happen:
//! 1. An operation is invoked before its command is applied, and returns after.
//! 2. Commands are applied in the log's order, each once.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use bytes::Bytes;

use crate::history::{Action, Consistency, Contents, Found, Outcome};

/// How many revisions back a key's versions are kept. A serializable read on a member that has stood
/// still for seconds looks back thousands; one that looks back further is counted as not judged.
pub const WINDOW: i64 = 10_000;

/// Where something stands: a write at its revision, everything else behind it.
type Place = (i64, u8);

/// An operation that has not returned, or whose outcome is unknown and that may yet happen.
#[derive(Clone, Debug)]
struct Open {
    action: Action,
    /// The furthest place of all that had returned when it was invoked.
    floor: Place,
    /// What its answer must be, once its command is applied, and where it stands.
    done: Option<(Outcome, Place)>,
    /// Whether its client has given up.
    given_up: bool,
}

/// A version of a key: the revision that made it, and what it is; `None` after a deletion.
type Version = (i64, Option<Found>);

/// What was judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Judged {
    /// Answers that were in order.
    pub answers: u64,
    /// Operations of unknown outcome that happened.
    pub unknown_happened: u64,
    /// Reads that looked back further than the window.
    pub too_old: u64,
    /// The most operations that were open at a time.
    pub open_max: usize,
    /// The most versions that were kept at a time.
    pub versions_max: usize,
}

/// Why a history is not the work of one store. Operations by the numbers they were invoked under.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Violation {
    /// A command was applied that nobody waits for: it was applied before, or refused, or never
    /// asked for.
    Unexpected {
        /// The operation.
        operation: u64,
    },
    /// A write was acknowledged that is applied nowhere.
    NotApplied {
        /// The operation.
        operation: u64,
    },
    /// A refused write was applied.
    RefusedButApplied {
        /// The operation.
        operation: u64,
    },
    /// An answer does not belong to the question.
    Unusable {
        /// The operation.
        operation: u64,
    },
    /// An answer names a revision that the store has not reached, or one before its first.
    OutOfRange {
        /// The operation.
        operation: u64,
    },
    /// An operation stands before what had returned when it was invoked.
    OutOfOrder {
        /// The operation.
        operation: u64,
        /// The revision that had been answered.
        seen: i64,
    },
    /// An answer is not what the order gives.
    WrongAnswer {
        /// The operation.
        operation: u64,
        /// What the order gives.
        expected: Box<Outcome>,
        /// What was answered.
        found: Box<Outcome>,
    },
    /// The end is not what the order gives.
    WrongEnd {
        /// What the order gives.
        expected: Box<Contents>,
        /// What the store holds.
        found: Box<Contents>,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::Unexpected { operation } => {
                write!(f, "operation {operation} is applied and nobody waits for it")
            }
            Violation::NotApplied { operation } => {
                write!(f, "operation {operation} is acknowledged and was applied nowhere")
            }
            Violation::RefusedButApplied { operation } => {
                write!(f, "operation {operation} was answered as not done but was applied")
            }
            Violation::Unusable { operation } => {
                write!(f, "operation {operation} was answered what it did not ask")
            }
            Violation::OutOfRange { operation } => {
                write!(f, "operation {operation} names a revision that the store never had")
            }
            Violation::OutOfOrder { operation, seen } => write!(
                f,
                "operation {operation} began after revision {seen} had been answered but stands \
                 before it"
            ),
            Violation::WrongAnswer { operation, expected, found } => write!(
                f,
                "operation {operation} was answered {found:?} where the log's order gives \
                 {expected:?}"
            ),
            Violation::WrongEnd { expected, found } => {
                write!(
                    f,
                    "at the end the store holds {found:?}, the log's order gives {expected:?}"
                )
            }
        }
    }
}

impl std::error::Error for Violation {}

/// Judges a history as it comes into being.
#[derive(Clone, Debug)]
pub struct Online {
    first_revision: i64,
    revision: i64,
    versions: BTreeMap<Bytes, VecDeque<Version>>,
    /// Which keys changed at which revision, for those within the window.
    changed: VecDeque<(i64, Bytes)>,
    open: BTreeMap<u64, Open>,
    answered: Place,
    judged: Judged,
}

impl Online {
    /// A store at this revision that holds no key.
    #[must_use]
    pub fn new(first_revision: i64) -> Online {
        Online {
            first_revision,
            revision: first_revision,
            versions: BTreeMap::new(),
            changed: VecDeque::new(),
            open: BTreeMap::new(),
            answered: (first_revision, 0),
            judged: Judged::default(),
        }
    }

    /// What was judged so far.
    #[must_use]
    pub fn judged(&self) -> Judged {
        self.judged
    }

    /// A client is about to ask.
    ///
    /// # Panics
    /// If an operation of this number is open.
    pub fn invoked(&mut self, operation: u64, action: Action) {
        let open = Open { action, floor: self.answered, done: None, given_up: false };
        assert!(self.open.insert(operation, open).is_none(), "a number names one operation");
        self.judged.open_max = self.judged.open_max.max(self.open.len());
    }

    /// The next command of the log is this write's.
    ///
    /// # Errors
    /// If nobody waits for it.
    pub fn applied(&mut self, operation: u64) -> Result<(), Violation> {
        let unexpected = Violation::Unexpected { operation };
        let open = self.open.get(&operation).ok_or_else(|| unexpected.clone())?;
        let Action::Write { guards, puts, deletes } = open.action.clone() else {
            return Err(unexpected);
        };
        if open.done.is_some() {
            return Err(unexpected);
        }
        let value = |key: &Bytes| self.newest(key).map(|found| &found.value);
        let succeeded = guards.iter().all(|guard| value(&guard.key) == guard.expected.as_ref());
        let gone: Vec<Bytes> =
            deletes.into_iter().filter(|key| self.newest(key).is_some()).collect();
        let (gone, puts) = if succeeded { (gone, puts) } else { Default::default() };
        let changes = !gone.is_empty() || !puts.is_empty();
        let deleted = gone.len() as i64;
        if changes {
            self.revision += 1;
            gone.into_iter().for_each(|key| self.change(key, None));
            puts.into_iter().for_each(|(key, value)| self.change(key, Some(value)));
            self.forget();
        }
        let revision = self.revision;
        let place = (revision, u8::from(!changes));
        let answer = Outcome::Written { revision, succeeded, deleted };
        let open = self.open.get_mut(&operation).ok_or(unexpected)?;
        open.done = Some((answer, place));
        if open.given_up {
            self.open.remove(&operation);
            self.judged.unknown_happened += 1;
        }
        Ok(())
    }

    /// A client has its answer, or has given up.
    ///
    /// # Errors
    /// If it does not fit.
    pub fn returned(&mut self, operation: u64, outcome: &Outcome) -> Result<(), Violation> {
        let Some(mut open) = self.open.remove(&operation) else {
            return Err(Violation::Unusable { operation });
        };
        let place = match (&open.action, outcome) {
            (Action::Read { .. }, Outcome::Unknown | Outcome::Refused) => return Ok(()),
            (Action::Write { .. }, Outcome::Unknown) => {
                self.judged.unknown_happened += u64::from(open.done.is_some());
                if open.done.is_none() {
                    open.given_up = true;
                    self.open.insert(operation, open);
                }
                return Ok(());
            }
            (Action::Write { .. }, Outcome::Refused) => match open.done {
                Some(_) => return Err(Violation::RefusedButApplied { operation }),
                None => return Ok(()),
            },
            (Action::Write { .. }, Outcome::Written { .. }) => {
                let (expected, place) = open.done.ok_or(Violation::NotApplied { operation })?;
                agree(operation, expected, outcome)?;
                place
            }
            (Action::Read { keys, .. }, Outcome::Read { revision, found })
                if keys.len() == found.len() =>
            {
                self.judge_read(operation, keys, *revision, outcome)?;
                (*revision, 1)
            }
            _ => return Err(Violation::Unusable { operation }),
        };
        let may_be_old =
            matches!(open.action, Action::Read { consistency: Consistency::Serializable, .. });
        if place < open.floor && !may_be_old {
            return Err(Violation::OutOfOrder { operation, seen: open.floor.0 });
        }
        self.answered = self.answered.max(place);
        self.judged.answers += 1;
        Ok(())
    }

    /// The run is over, and the store holds this.
    ///
    /// # Errors
    /// If the order gives something else.
    pub fn ends(&self, contents: &Contents) -> Result<(), Violation> {
        let keys =
            self.versions.keys().filter_map(|key| Some((key.clone(), self.newest(key)?.clone())));
        let expected = Contents { revision: self.revision, keys: keys.collect() };
        if expected == *contents {
            return Ok(());
        }
        Err(Violation::WrongEnd { expected: Box::new(expected), found: Box::new(contents.clone()) })
    }

    fn judge_read(
        &mut self,
        operation: u64,
        keys: &[Bytes],
        revision: i64,
        outcome: &Outcome,
    ) -> Result<(), Violation> {
        if revision < self.first_revision || self.revision < revision {
            return Err(Violation::OutOfRange { operation });
        }
        if revision < self.revision - WINDOW {
            self.judged.too_old += 1;
            return Ok(());
        }
        let found = keys.iter().map(|key| self.at(key, revision).cloned()).collect();
        agree(operation, Outcome::Read { revision, found }, outcome)
    }

    fn newest(&self, key: &Bytes) -> Option<&Found> {
        self.versions.get(key)?.back()?.1.as_ref()
    }

    /// The key at a revision within the window.
    fn at(&self, key: &Bytes, revision: i64) -> Option<&Found> {
        let versions = self.versions.get(key)?;
        let behind = versions.partition_point(|(made_at, _)| *made_at <= revision);
        versions.get(behind.checked_sub(1)?)?.1.as_ref()
    }

    fn change(&mut self, key: Bytes, value: Option<Bytes>) {
        let mod_revision = self.revision;
        let before = self.newest(&key);
        let create_revision = before.map_or(mod_revision, |found| found.create_revision);
        let version = before.map_or(0, |found| found.version) + 1;
        let found = value.map(|value| Found { value, create_revision, mod_revision, version });
        self.changed.push_back((mod_revision, key.clone()));
        self.versions.entry(key).or_default().push_back((mod_revision, found));
        self.judged.versions_max = self.judged.versions_max.max(self.changed.len());
    }

    /// Lets go of versions that were replaced before the window began. Each change is looked at twice
    /// in a run: when it comes and when it leaves the window.
    fn forget(&mut self) {
        let begins = self.revision - WINDOW;
        while self.changed.front().is_some_and(|(revision, _)| *revision <= begins) {
            let Some((_, key)) = self.changed.pop_front() else { return };
            let Some(versions) = self.versions.get_mut(&key) else { continue };
            while versions.get(1).is_some_and(|(revision, _)| *revision <= begins) {
                versions.pop_front();
            }
            if versions.len() == 1 && versions[0].1.is_none() && versions[0].0 <= begins {
                self.versions.remove(&key);
            }
        }
    }
}

fn agree(operation: u64, expected: Outcome, found: &Outcome) -> Result<(), Violation> {
    if expected == *found {
        return Ok(());
    }
    let (expected, found) = (Box::new(expected), Box::new(found.clone()));
    Err(Violation::WrongAnswer { operation, expected, found })
}
