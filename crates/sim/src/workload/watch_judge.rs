//! Judges every message of every watch stream, as soon as it is read, against the model's events.
//!
//! Responsible for what a watcher may be told next, and for what a stream must have said by the time it
//! has nothing more to say. Not responsible for who watches what ([`super::watchers`]).
//!
//! 1. A watcher is told each event that it watches for once, in the order of revisions, with the right
//!    values, from its start on: nothing between the start and what was told is missing.
//! 2. The events of a revision come in one response, save for fragments, which were asked for.
//! 3. Progress, and what a response says of the revision up to which it goes, promises nothing that has
//!    not been told, and nothing about a watcher that begins later.
//! 4. A watcher is ended for a compaction that there was, and only if it waits for what lies below.
//! 5. A stream that waits has told everything that its member has applied, and has answered.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jangada_raft::NodeId;
use jangada_server::errors::{ApiError, WATCH_DUPLICATE_ID, WATCH_EMPTY_RANGE};
use jangada_server::proto::etcdserverpb as pb;
use jangada_server::proto::mvccpb;
use pb::watch_create_request::FilterType;
use prost::Message;

use super::events::{Event, Events, Place};
use super::model::{Moment, contains};
use super::service::{CLUSTER_ID, CallId};
use crate::invariants::Violation;

/// What is compared when a stream is judged.
const NAME: &str = "watchers are told everything once and in order";

/// The watcher that stands for none, or for all of a stream.
const NO_WATCHER: i64 = -1;

/// A client's place for a watcher; none if it only tries.
pub type Slot = Option<usize>;

/// What a client learns from a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum News {
    /// A watcher was made.
    Created {
        /// For this place.
        slot: Slot,
        /// The watcher.
        id: i64,
        /// The first revision that it is told of.
        start: i64,
    },
    /// A watcher was not made.
    Refused {
        /// For this place.
        slot: Slot,
    },
    /// Events.
    Events {
        /// For the watcher of this place.
        slot: Slot,
        /// How many.
        count: usize,
        /// Whether the rest follows.
        fragment: bool,
        /// From where on a client can go on elsewhere: behind the last event, and behind what the
        /// response says it goes up to.
        next: (i64, i64),
    },
    /// Progress was told up to a revision, to these watchers.
    Progress {
        /// Their places.
        slots: Vec<usize>,
        /// The revision.
        revision: i64,
    },
    /// A watcher was ended, for this compaction if any.
    Ended {
        /// Of this place.
        slot: Slot,
        /// The oldest revision that there is; 0 if the client has ended it.
        compacted: i64,
    },
}

#[derive(Clone, Debug)]
struct Watcher {
    slot: Slot,
    wanted: pb::WatchCreateRequest,
    /// The next event is here or behind.
    at: Place,
}

/// A watcher that is asked for.
#[derive(Clone, Debug)]
struct Creating {
    slot: Slot,
    wanted: pb::WatchCreateRequest,
    /// What the process had shown when it was asked for.
    shown: i64,
}

#[derive(Debug)]
struct Stream {
    member: NodeId,
    creating: VecDeque<Creating>,
    /// Watchers whose end was asked for since the stream last waited, as often as it was: one of them
    /// may have been made again in between.
    cancelling: Vec<i64>,
    /// Of them, those that lived and must have ended by the time that it waits.
    ending: BTreeSet<i64>,
    watchers: BTreeMap<i64, Watcher>,
    /// Progress was asked for, and nothing has happened that would excuse silence.
    progress_due: bool,
}

/// Knows what every watcher was told.
#[derive(Debug, Default)]
pub struct WatchJudge {
    streams: BTreeMap<CallId, Stream>,
}

fn require(holds: bool, seen: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation { invariant: NAME, seen: seen() }) }
}

impl Watcher {
    fn wants(&self, event: &Event) -> bool {
        let left_out = |filter: FilterType| self.wanted.filters.contains(&(filter as i32));
        let filter = if event.kept.is_some() { FilterType::Noput } else { FilterType::Nodelete };
        let key: &bytes::Bytes = &first_key(&self.wanted);
        contains(key, &self.wanted.range_end, &event.key) && !left_out(filter)
    }

    /// The next event that it is to be told of, up to a revision.
    fn next<'a>(&self, events: &'a Events, through: i64) -> Option<(Place, &'a Event)> {
        events.between(self.at, through).find(|(_, event)| self.wants(event))
    }

    /// Nothing up to a revision is left untold.
    fn knows_all(&self, events: &Events, through: i64, why: &str) -> Result<(), Violation> {
        match self.next(events, through) {
            None => Ok(()),
            Some(((revision, _), event)) => require(false, || {
                format!(
                    "{why} up to {through}, and not told of {:?} of revision {revision}",
                    event.told(revision, self.wanted.prev_kv)
                )
            }),
        }
    }

    /// Goes on behind a revision.
    fn pass(&mut self, revision: i64) {
        self.at = self.at.max((revision + 1, 0));
    }
}

fn first_key(wanted: &pb::WatchCreateRequest) -> bytes::Bytes {
    if wanted.key.is_empty() { bytes::Bytes::from_static(b"\0") } else { wanted.key.clone() }
}

/// Why a watcher is refused whatever the store holds, but for an id that is taken.
fn rule(wanted: &pb::WatchCreateRequest) -> Result<(), &'static str> {
    if wanted.start_revision < 0 {
        return Err(ApiError::Compacted.text());
    }
    let (key, end) = (first_key(wanted), &wanted.range_end);
    if !end.is_empty() && end != &b"\0"[..] && *end <= key {
        return Err(WATCH_EMPTY_RANGE);
    }
    Ok(())
}

impl Stream {
    fn header(
        &self,
        response: &pb::WatchResponse,
        now: Moment,
    ) -> Result<pb::ResponseHeader, Violation> {
        let header = response.header.ok_or_else(|| Violation {
            invariant: NAME,
            seen: "a response without a header".to_owned(),
        })?;
        let from = (header.cluster_id, header.member_id);
        require(from == (CLUSTER_ID, self.member.0), || {
            "its header is another member's".to_owned()
        })?;
        require(header.revision <= now.revision, || {
            format!("its header names a revision behind {}", now.revision)
        })?;
        Ok(header)
    }

    fn take(
        &mut self,
        response: &pb::WatchResponse,
        events: &Events,
        now: Moment,
    ) -> Result<News, Violation> {
        let header = self.header(response, now)?;
        if response.created {
            return self.take_created(response, header.revision);
        }
        if response.canceled {
            return self.take_ended(response, events, now);
        }
        if response.events.is_empty() {
            return self.take_progress(response, events, header.revision);
        }
        let watcher = self.watchers.get_mut(&response.watch_id);
        let Some(watcher) = watcher else {
            return require(false, || "events for a watcher that is none".to_owned())
                .map(|()| unreachable!("just refused"));
        };
        let told = watcher_events(watcher, response, events, now)?;
        let slot = watcher.slot;
        let (count, fragment) = (response.events.len(), response.fragment);
        if fragment {
            require(watcher.wanted.fragment, || "a fragment nobody asked for".to_owned())?;
            return Ok(News::Events { slot, count, fragment, next: (told, told) });
        }
        require(told <= header.revision, || format!("its header names a revision before {told}"))?;
        watcher.knows_all(events, header.revision, "it is told")?;
        watcher.pass(header.revision);
        Ok(News::Events { slot, count, fragment, next: (told + 1, header.revision + 1) })
    }

    fn take_created(
        &mut self,
        response: &pb::WatchResponse,
        revision: i64,
    ) -> Result<News, Violation> {
        let Some(creating) = self.creating.pop_front() else {
            return require(false, || "a watcher that nobody asked for".to_owned())
                .map(|()| unreachable!("just refused"));
        };
        self.progress_due = false;
        let Creating { slot, wanted, shown } = creating;
        let is_used = wanted.watch_id != 0 && self.watchers.contains_key(&wanted.watch_id);
        let rule = rule(&wanted).and(if is_used { Err(WATCH_DUPLICATE_ID) } else { Ok(()) });
        if response.canceled {
            require(rule == Err(response.cancel_reason.as_str()), || {
                format!("{wanted:?} is refused, by rule {rule:?}")
            })?;
            require(response.watch_id == NO_WATCHER, || "a watcher that is none".to_owned())?;
            return Ok(News::Refused { slot });
        }
        let id = response.watch_id;
        require(rule.is_ok(), || format!("{wanted:?} is made, by rule {rule:?}"))?;
        let is_right = if wanted.watch_id == 0 {
            !self.watchers.contains_key(&id) && 0 <= id
        } else {
            id == wanted.watch_id
        };
        require(is_right, || format!("{wanted:?} is given an id that is taken"))?;
        require(shown <= revision, || {
            format!("it begins at {revision}, and {shown} had been shown by its member")
        })?;
        let start = if wanted.start_revision == 0 { revision + 1 } else { wanted.start_revision };
        self.watchers.insert(id, Watcher { slot, wanted, at: (start, 0) });
        Ok(News::Created { slot, id, start })
    }

    fn take_ended(
        &mut self,
        response: &pb::WatchResponse,
        events: &Events,
        now: Moment,
    ) -> Result<News, Violation> {
        let (id, compacted) = (response.watch_id, response.compact_revision);
        self.progress_due = false;
        let Some(watcher) = self.watchers.remove(&id) else {
            return require(false, || "the end of a watcher that is none".to_owned())
                .map(|()| unreachable!("just refused"));
        };
        self.ending.remove(&id);
        let slot = watcher.slot;
        if compacted == 0 {
            let asked = self.cancelling.iter().position(|asked| *asked == id);
            require(asked.is_some(), || "a watcher that its client has not ended".to_owned())?;
            asked.into_iter().for_each(|at| {
                self.cancelling.remove(at);
            });
            return Ok(News::Ended { slot, compacted });
        }
        // Invariant 4.
        let was = events.was_compacted(compacted) && compacted <= now.compacted;
        require(was, || format!("a compaction that was not, the last was {}", now.compacted))?;
        require(watcher.at.0 < compacted, || {
            format!("it has been told everything below {}", watcher.at.0)
        })?;
        Ok(News::Ended { slot, compacted })
    }

    /// Invariant 3.
    fn take_progress(
        &mut self,
        response: &pb::WatchResponse,
        events: &Events,
        revision: i64,
    ) -> Result<News, Violation> {
        let id = response.watch_id;
        let all = id == NO_WATCHER;
        if all {
            self.progress_due = false;
        } else {
            let asked = self.watchers.get(&id).is_some_and(|it| it.wanted.progress_notify);
            require(asked, || "progress of a watcher that has not asked".to_owned())?;
        }
        let mut slots = Vec::new();
        for (_, watcher) in self.watchers.iter_mut().filter(|(own, _)| all || **own == id) {
            require(watcher.wanted.start_revision <= revision, || {
                format!("progress up to {revision} of {:?}", watcher.wanted)
            })?;
            watcher.knows_all(events, revision, "it is told of progress")?;
            watcher.pass(revision);
            slots.extend(watcher.slot);
        }
        Ok(News::Progress { slots, revision })
    }
}

/// Invariant 1. Answers the revision of the last event.
fn watcher_events(
    watcher: &mut Watcher,
    response: &pb::WatchResponse,
    events: &Events,
    now: Moment,
) -> Result<i64, Violation> {
    let (with_replaced, mut last) = (watcher.wanted.prev_kv, 0);
    for told in &response.events {
        let Some((place, event)) = watcher.next(events, i64::MAX) else {
            return require(false, || format!("{told:?}, behind everything that happened"))
                .map(|()| unreachable!("just refused"));
        };
        let expected = event.told(place.0, with_replaced);
        // What was replaced may be compacted away.
        let is_whole = *told == expected;
        let right = is_whole
            || place.0 <= now.compacted
                && *told == mvccpb::Event { prev_kv: None, ..expected.clone() };
        require(right, || format!("{told:?}, where {expected:?} is next"))?;
        watcher.at = (place.0, place.1 + 1);
        last = place.0;
    }
    // Invariant 2.
    let is_split = watcher.next(events, last).is_some();
    require(response.fragment || !is_split, || format!("a part of revision {last}"))?;
    Ok(last)
}

impl WatchJudge {
    /// A stream begins.
    pub fn opened(&mut self, id: CallId, member: NodeId) {
        let (creating, cancelling, ending, watchers) = Default::default();
        let progress_due = false;
        let stream = Stream { member, creating, cancelling, ending, watchers, progress_due };
        self.streams.insert(id, stream);
    }

    /// A client asks for a watcher. `shown` is the revision that the member's process has shown.
    pub fn create(&mut self, id: CallId, slot: Slot, wanted: pb::WatchCreateRequest, shown: i64) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.progress_due = false;
            stream.creating.push_back(Creating { slot, wanted, shown });
        }
    }

    /// A client ends a watcher.
    pub fn cancel(&mut self, id: CallId, watcher: i64) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.progress_due = false;
            stream.cancelling.push(watcher);
            if stream.watchers.contains_key(&watcher) {
                stream.ending.insert(watcher);
            }
        }
    }

    /// A client asks for progress of a stream; `shown` is what its process has shown.
    pub fn ask_progress(&mut self, id: CallId, shown: i64) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let begun = |watcher: &Watcher| watcher.wanted.start_revision <= shown;
        stream.progress_due |= stream.creating.is_empty()
            && stream.cancelling.is_empty()
            && !stream.watchers.is_empty()
            && stream.watchers.values().all(begun);
    }

    /// A stream is gone.
    pub fn closed(&mut self, id: CallId) {
        self.streams.remove(&id);
    }

    /// A message was read.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn take(
        &mut self,
        id: CallId,
        message: bytes::Bytes,
        events: &Events,
        now: Moment,
    ) -> Result<News, Violation> {
        let stream = self.streams.get_mut(&id).expect("a stream that is read is open");
        let response = pb::WatchResponse::decode(message).map_err(|error| Violation {
            invariant: NAME,
            seen: format!("a response that cannot be decoded: {error}"),
        })?;
        stream.take(&response, events, now).map_err(|violation| {
            let (member, watcher) = (stream.member, stream.watchers.get(&response.watch_id));
            let said = format!("{response:?}").chars().take(2_000).collect::<String>();
            let seen = format!("{}; told by {member} to {watcher:?}: {said}", violation.seen);
            Violation { seen, ..violation }
        })
    }

    /// A stream waits whose member has applied everything up to a revision (invariant 5).
    ///
    /// # Errors
    /// What it should have said.
    pub fn waits(&mut self, id: CallId, events: &Events, revision: i64) -> Result<(), Violation> {
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        let member = stream.member;
        require(stream.creating.is_empty() && stream.ending.is_empty(), || {
            format!("{member} does not answer {:?}, nor end {:?}", stream.creating, stream.ending)
        })?;
        stream.cancelling.clear();
        require(!stream.progress_due, || format!("{member} does not tell of progress"))?;
        for (watcher_id, watcher) in &mut stream.watchers {
            let why = format!("{member} waits with watcher {watcher_id}");
            watcher.knows_all(events, revision, &why)?;
            watcher.pass(revision);
        }
        Ok(())
    }

    /// Whether every watcher of a stream has been told everything that there is.
    #[must_use]
    pub fn is_told_all(&self, id: CallId, events: &Events) -> bool {
        let Some(stream) = self.streams.get(&id) else { return false };
        stream.creating.is_empty()
            && stream.watchers.values().all(|watcher| watcher.next(events, i64::MAX).is_none())
    }
}
