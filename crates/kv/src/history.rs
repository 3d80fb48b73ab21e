//! Where the content of superseded versions is found.
//!
//! A machine without an engine keeps it in memory. One with an engine keeps it in the batches that
//! the engine does not hold durably yet; behind those, the engine's rows are the content.
//!
//! Invariants:
//! 1. A version that a record names is found in exactly the order: open batch, waiting batches,
//!    engine.
//! 2. A batch leaves the queue only after the engine holds it durably.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::effects::Batch;
use crate::engine::{Engine, EngineError, Snapshot};
use crate::record::Content;
use crate::row::Revision;

/// The content of superseded versions.
pub(crate) enum History {
    /// All of it, by revision.
    Memory(BTreeMap<Revision, Content>),
    /// What the engine does not hold durably, from the oldest on, and the engine.
    Engine {
        /// Behind the batches.
        engine: Arc<dyn Engine>,
        /// Before the engine.
        queue: VecDeque<Arc<Batch>>,
    },
}

/// Where a version's content is.
pub(crate) enum Lookup {
    /// Here.
    Here(Content),
    /// In the engine.
    Engine,
}

impl History {
    /// Finds a version, the open batch apart.
    pub(crate) fn lookup(&self, revision: Revision) -> Lookup {
        match self {
            History::Memory(contents) => {
                let content = contents.get(&revision);
                Lookup::Here(content.expect("history invariant 1").clone())
            }
            History::Engine { queue, .. } => {
                let at = queue.partition_point(|batch| batch.end() < revision);
                let found = queue.get(at).and_then(|batch| batch.content(revision));
                found.map_or(Lookup::Engine, Lookup::Here)
            }
        }
    }

    /// Keeps the content of a version that has been superseded, where nothing else does.
    pub(crate) fn keep(&mut self, revision: Revision, content: &Content) {
        if let History::Memory(contents) = self {
            contents.insert(revision, content.clone());
        }
    }

    /// Goes on reading what the engine held durably, although it failed for lack of space. Its writer
    /// puts an engine that can write in its place once there is space.
    pub(crate) fn read_aside(&mut self) -> Result<(), EngineError> {
        if let History::Engine { engine, .. } = self {
            let aside = engine.aside()?;
            *engine = aside;
        }
        Ok(())
    }

    /// The engine behind, if there is one.
    pub(crate) fn engine(&self) -> Option<&Arc<dyn Engine>> {
        match self {
            History::Memory(_) => None,
            History::Engine { engine, .. } => Some(engine),
        }
    }

    /// The engine's state from this moment on, whatever it goes on to write.
    pub(crate) fn snapshot(&self) -> Result<Box<dyn Snapshot>, EngineError> {
        match self {
            History::Memory(_) => unreachable!("history invariant 1: memory holds all of it"),
            History::Engine { engine, .. } => engine.snapshot(),
        }
    }
}
