//! What the clients of a store saw: the material the checkers judge.
//!
//! Responsible for the vocabulary (operations, outcomes, changes) and for recording it. Not
//! responsible for judging: that is [`crate::linearizability`].
//!
//! A history can be taken from simulated clients as well as from clients of real processes. Times
//! are positions on one monotone clock that all clients share; the unit does not matter.
//!
//! Invariants:
//! 1. An operation returns after it was invoked.
//! 2. A value is put at most once in a whole history, so that a value names its writer.

use std::collections::BTreeMap;

use bytes::Bytes;

/// What a read must promise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Consistency {
    /// Sees every write that was acknowledged before the read began (§8).
    Linearizable,
    /// A consistent state of some moment, perhaps an old one.
    Serializable,
}

/// A condition of a write: the key holds this value, or is absent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Guard {
    /// The key that is looked at.
    pub key: Bytes,
    /// The value it must hold; `None` if it must be absent.
    pub expected: Option<Bytes>,
}

/// What a client asked for. All keys of one action are read or written at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Reads keys.
    Read {
        /// The keys, each once.
        keys: Vec<Bytes>,
        /// What the read must promise.
        consistency: Consistency,
    },
    /// If all guards hold, puts and deletes; otherwise does nothing.
    Write {
        /// The conditions; none of them means true.
        guards: Vec<Guard>,
        /// Keys and their new values; no key twice, nor also among `deletes`.
        puts: Vec<(Bytes, Bytes)>,
        /// Keys to delete.
        deletes: Vec<Bytes>,
    },
}

impl Action {
    /// A read of one key.
    pub fn get(key: impl Into<Bytes>, consistency: Consistency) -> Action {
        Action::Read { keys: vec![key.into()], consistency }
    }

    /// An unconditional write of one key.
    pub fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Action {
        let puts = vec![(key.into(), value.into())];
        Action::Write { guards: Vec::new(), puts, deletes: Vec::new() }
    }

    /// An unconditional deletion of one key.
    pub fn delete(key: impl Into<Bytes>) -> Action {
        Action::Write { guards: Vec::new(), puts: Vec::new(), deletes: vec![key.into()] }
    }

    /// Writes one key if it still holds `expected`.
    pub fn compare_and_set(
        key: impl Into<Bytes>,
        expected: Option<Bytes>,
        value: impl Into<Bytes>,
    ) -> Action {
        let key = key.into();
        let guards = vec![Guard { key: key.clone(), expected }];
        Action::Write { guards, puts: vec![(key, value.into())], deletes: Vec::new() }
    }

    /// Every key the action reads, compares or writes.
    pub fn keys(&self) -> Vec<&Bytes> {
        match self {
            Action::Read { keys, .. } => keys.iter().collect(),
            Action::Write { guards, puts, deletes } => {
                let guards = guards.iter().map(|guard| &guard.key);
                guards.chain(puts.iter().map(|(key, _)| key)).chain(deletes).collect()
            }
        }
    }
}

/// A key as a read showed it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// The value.
    pub value: Bytes,
    /// The revision of the key's creation in its present life.
    pub create_revision: i64,
    /// The revision of the last change.
    pub mod_revision: i64,
    /// The number of puts in the present life, from 1.
    pub version: i64,
}

/// What a client learned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The answer to a read.
    Read {
        /// The store's revision at which the read happened.
        revision: i64,
        /// One item for each key asked for, in that order.
        found: Vec<Option<Found>>,
    },
    /// The answer to a write.
    Written {
        /// The write's revision; the store's if nothing changed.
        revision: i64,
        /// Whether the guards held.
        succeeded: bool,
        /// How many of the keys to delete were there.
        deleted: i64,
    },
    /// The store promised that nothing happened.
    Refused,
    /// The client does not know whether the write happened, or will still happen.
    Unknown,
}

/// One operation of one client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operation {
    /// Who asked. The operations of a client do not overlap.
    pub client: u32,
    /// When the request was about to leave.
    pub invoked: u64,
    /// When the answer was there; [`u64::MAX`] for an unknown outcome, which may happen at any
    /// later time.
    pub returned: u64,
    /// What was asked for.
    pub action: Action,
    /// What was learned.
    pub outcome: Outcome,
}

/// A change as the store itself shows it, when it is asked for its past after a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// The key.
    pub key: Bytes,
    /// The new value; `None` for a deletion.
    pub value: Option<Bytes>,
}

/// What the store holds at the end of a run.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Contents {
    /// The store's revision.
    pub revision: i64,
    /// Every key.
    pub keys: BTreeMap<Bytes, Found>,
}

/// All operations of a run on a store that was empty at its start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct History {
    /// The revision of the store before the first operation.
    pub first_revision: i64,
    /// The operations, in the order in which they were invoked.
    pub operations: Vec<Operation>,
    /// The changes of the revisions that no acknowledged write names: what the writes of unknown
    /// outcome did. Others may stand here too and are then compared with what their writer asked.
    pub observed: BTreeMap<i64, Vec<Change>>,
    /// The end.
    pub contents: Contents,
}

/// Names an operation that has not returned yet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct OperationId(usize);

impl OperationId {
    /// The operation's position in its history.
    #[must_use]
    pub fn position(self) -> usize {
        self.0
    }
}

impl History {
    /// A history of a store whose revision is `first_revision` and which holds no key.
    pub fn new(first_revision: i64) -> History {
        let contents = Contents { revision: first_revision, keys: BTreeMap::new() };
        History { first_revision, operations: Vec::new(), observed: BTreeMap::new(), contents }
    }

    /// Records that `client` is about to ask for `action`. Until [`History::returned`] says more,
    /// the outcome is unknown.
    pub fn invoked(&mut self, client: u32, now: u64, action: Action) -> OperationId {
        let outcome = Outcome::Unknown;
        let operation = Operation { client, invoked: now, returned: u64::MAX, action, outcome };
        self.operations.push(operation);
        OperationId(self.operations.len() - 1)
    }

    /// Records the end of an operation. An unknown outcome keeps it open for ever.
    pub fn returned(&mut self, id: OperationId, now: u64, outcome: Outcome) {
        let operation = &mut self.operations[id.0];
        assert!(operation.invoked <= now, "history invariant 1");
        assert!(operation.outcome == Outcome::Unknown, "an operation returns once");
        operation.returned = if outcome == Outcome::Unknown { u64::MAX } else { now };
        operation.outcome = outcome;
    }

    /// The revisions after the first that no acknowledged write names. Whoever records a history
    /// reads the store at each of them and notes what it finds under [`History::observed`].
    pub fn unclaimed_revisions(&self) -> Vec<i64> {
        let claimed: std::collections::BTreeSet<i64> =
            self.operations.iter().filter_map(Operation::changed_at).collect();
        let all = self.first_revision + 1..=self.contents.revision;
        all.filter(|revision| !claimed.contains(revision)).collect()
    }
}

impl Operation {
    /// The revision that this operation is known to have made.
    pub fn changed_at(&self) -> Option<i64> {
        let Action::Write { puts, .. } = &self.action else { return None };
        match self.outcome {
            Outcome::Written { revision, succeeded: true, deleted }
                if !puts.is_empty() || 0 < deleted =>
            {
                Some(revision)
            }
            _ => None,
        }
    }
}
