//! What happened at each revision, as watchers are to be told.
//!
//! Written down by the model as it applies the log's requests; kept for a whole run, which makes some
//! thousands of events, since a client may watch from as far back as some member still can.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use jangada_server::proto::mvccpb::{self, KeyValue};

/// A change of one key.
#[derive(Clone, PartialEq, Debug)]
pub struct Event {
    /// The key.
    pub key: Bytes,
    /// What it is; `None` if it was deleted.
    pub kept: Option<KeyValue>,
    /// What it was before the revision.
    pub replaced: Option<KeyValue>,
}

/// The events of a run.
#[derive(Clone, Debug, Default)]
pub struct Events {
    by_revision: BTreeMap<i64, Vec<Event>>,
    /// Every revision that was compacted.
    compacted: BTreeSet<i64>,
}

/// A place among events: a revision, and how many of its events lie before.
pub type Place = (i64, usize);

impl Events {
    /// A key changes at a revision.
    pub fn changed(&mut self, revision: i64, event: Event) {
        self.by_revision.entry(revision).or_default().push(event);
    }

    /// What lies below a revision is compacted.
    pub fn compact(&mut self, revision: i64) {
        self.compacted.insert(revision);
    }

    /// Whether this revision was compacted at some time.
    #[must_use]
    pub fn was_compacted(&self, revision: i64) -> bool {
        self.compacted.contains(&revision)
    }

    /// The events from a place on up to a revision, in order, each with its place.
    pub fn between(&self, from: Place, through: i64) -> impl Iterator<Item = (Place, &Event)> {
        let last = through.max(from.0);
        self.by_revision
            .range(from.0..=last)
            .flat_map(|(revision, events)| {
                events.iter().enumerate().map(|(at, event)| ((*revision, at), event))
            })
            .filter(move |(place, _)| from <= *place && place.0 <= through)
    }
}

impl Event {
    /// The event as the API tells it.
    #[must_use]
    pub fn told(&self, revision: i64, with_replaced: bool) -> mvccpb::Event {
        let deletion =
            || KeyValue { key: self.key.clone(), mod_revision: revision, ..KeyValue::default() };
        let created = self.kept.as_ref().is_some_and(|kv| kv.create_revision == revision);
        let kind = match self.kept {
            Some(_) => mvccpb::event::EventType::Put,
            None => mvccpb::event::EventType::Delete,
        };
        mvccpb::Event {
            r#type: kind as i32,
            kv: Some(self.kept.clone().unwrap_or_else(deletion)),
            prev_kv: self.replaced.clone().filter(|_| with_replaced && !created),
        }
    }
}
