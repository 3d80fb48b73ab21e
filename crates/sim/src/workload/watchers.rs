//! Who watches: clients that hold streams of watchers on members, and go on elsewhere when they lose
//! them.
//!
//! Responsible for which watchers a client wants, from where on, and for what it does meanwhile: ask
//! for progress, end watchers, try what is refused, read late, go away. What it is told is judged by
//! [`super::watch_judge`].
//!
//! A client that has lost a watcher wants it again from behind what it was told: behind the last event,
//! as etcd's client does, or behind the revision up to which a response said that it goes.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use jangada_raft::NodeId;
use jangada_server::errors::ApiError;
use jangada_server::grpc::methods::Method;
use jangada_server::proto::etcdserverpb as pb;
use pb::watch_create_request::FilterType;
use pb::watch_request::RequestUnion;
use prost::Message;

use super::grammar::Grammar;
use super::oracle::Oracle;
use super::service::{CallId, Ending, Service, Told};
use super::watch_judge::{News, Slot, WatchJudge};
use crate::application::store::StoreApplication;
use crate::choices::Choices;
use crate::invariants::Violation;
use crate::world::World;

/// One seed in so many has nobody watch.
const NOBODY_ONE_IN: u64 = 4;

/// The most streams, and the most watchers of one.
const STREAMS_MAX: u64 = 6;
const WATCHERS_MAX: u64 = 5;

/// How long a client waits until it does something again at most, in microseconds, and how long in
/// the calm.
const ACT_US_MAX: u64 = 700_000;
const CALM_ACT_US: u64 = 150_000;

/// How far in the future a watcher may begin.
const AHEAD_MAX: u64 = 25;

/// A client with a stream.
#[derive(Clone, Debug, Default)]
struct Place {
    /// Where its stream is, as a place among the members.
    member: usize,
    call: Option<(CallId, NodeId)>,
    slots: Vec<Want>,
    /// Whether it does not read for now.
    stalls: bool,
}

/// A watcher that a client wants.
#[derive(Clone, Debug)]
struct Want {
    request: pb::WatchCreateRequest,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Lost,
    Asked,
    Lives(i64),
}

/// The clients that watch.
#[derive(Debug)]
pub struct Watchers {
    choices: Choices,
    places: Vec<Place>,
    judge: WatchJudge,
    figures: BTreeMap<&'static str, u64>,
    finished: bool,
}

/// What watchers need of those who ask.
pub struct Around<'a> {
    /// The world.
    pub world: &'a mut World<StoreApplication>,
    /// The server's side.
    pub service: &'a mut Service,
    /// The judge of the others' answers.
    pub oracle: &'a mut Oracle,
    /// Makes keys, and knows the revisions.
    pub grammar: &'a mut Grammar,
    /// How many calls there were.
    pub calls: &'a mut u64,
}

impl Default for Watchers {
    /// Nobody watches.
    fn default() -> Watchers {
        Watchers {
            choices: Choices::of_seed(0),
            places: Vec::new(),
            judge: WatchJudge::default(),
            figures: BTreeMap::new(),
            finished: false,
        }
    }
}

impl Watchers {
    /// The clients of a run: none in some of them.
    #[must_use]
    pub fn draw(mut choices: Choices) -> Watchers {
        if choices.below(NOBODY_ONE_IN) == 0 {
            return Watchers::default();
        }
        let places = (0..choices.between(1, STREAMS_MAX)).map(|place| Place {
            member: place as usize,
            slots: (0..choices.between(1, WATCHERS_MAX))
                .map(|_| Want { request: pb::WatchCreateRequest::default(), state: State::Lost })
                .collect(),
            ..Place::default()
        });
        let places = places.collect();
        Watchers { choices, places, ..Watchers::default() }
    }

    /// How many clients there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether nobody watches.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// What was told, by name.
    #[must_use]
    pub fn figures(&self) -> &BTreeMap<&'static str, u64> {
        &self.figures
    }

    /// The clients make up what they want.
    pub fn begin(&mut self, grammar: &mut Grammar) {
        let choices = &mut self.choices;
        for place in &mut self.places {
            place.slots.iter_mut().for_each(|want| want.request = wanted(choices, grammar));
        }
    }

    /// When a client acts next, in microseconds from now.
    pub fn pause(&mut self) -> u64 {
        self.choices.below(if self.finished { CALM_ACT_US } else { ACT_US_MAX })
    }

    /// Nothing new is wanted; what is lost is still looked for elsewhere.
    pub fn finish(&mut self) {
        self.finished = true;
    }

    /// Whether a stream is one of these clients'.
    #[must_use]
    pub fn owns(&self, id: CallId) -> bool {
        self.place_of(id).is_some()
    }

    /// Whether every watcher lives, on a member that is counted on, and was told everything.
    #[must_use]
    pub fn are_told_all(&self, standing: &[NodeId], oracle: &Oracle) -> bool {
        let events = oracle.model().events();
        self.places.iter().all(|place| {
            let lives = |want: &Want| matches!(want.state, State::Lives(_));
            place.call.is_some_and(|(id, member)| {
                !place.stalls
                    && standing.contains(&member)
                    && place.slots.iter().all(lives)
                    && self.judge.is_told_all(id, events)
            })
        })
    }

    fn count(&mut self, name: &'static str, number: u64) {
        *self.figures.entry(name).or_default() += number;
    }

    fn place_of(&self, id: CallId) -> Option<usize> {
        self.places.iter().position(|place| place.call.is_some_and(|(call, _)| call == id))
    }

    /// A client does something.
    pub fn act(&mut self, around: &mut Around<'_>, at: usize) {
        let standing = around.world.standing_members();
        if let Some((id, member)) = self.places[at].call {
            if self.places[at].stalls {
                self.places[at].stalls = false;
                around.service.reads(id, true);
            }
            if self.finished && !standing.contains(&member) {
                around.service.close(id);
                self.leaves(at);
            } else {
                return self.go_on(around, at, id);
            }
        }
        self.open(around, at);
    }

    fn open(&mut self, around: &mut Around<'_>, at: usize) {
        let members = match self.finished {
            true => around.world.standing_members(),
            false => around.world.members(),
        };
        let place = &mut self.places[at];
        let Some(member) = members.get(place.member % members.len().max(1)).copied() else {
            return;
        };
        let mut metadata = HeaderMap::new();
        if self.choices.below(4) == 0 && !self.finished {
            metadata.insert("hasleader", HeaderValue::from_static("true"));
        }
        *around.calls += 1;
        let id = CallId(*around.calls);
        let frames_max = *self.choices.pick(&[1, 64]);
        let service = &mut *around.service;
        if !service.open(around.world, id, member, Method::Watch, metadata, frames_max) {
            place.member += 1;
            return;
        }
        place.call = Some((id, member));
        self.judge.opened(id, member);
        self.count("watch streams", 1);
        self.want_lost(around, at, id);
    }

    /// Asks for the watchers that a client wants and has not.
    fn want_lost(&mut self, around: &mut Around<'_>, at: usize, id: CallId) {
        for slot in 0..self.places[at].slots.len() {
            let want = &mut self.places[at].slots[slot];
            if want.state != State::Lost {
                continue;
            }
            if want.request.start_revision < 0 {
                let (newest, kept) = (around.grammar.revision, around.grammar.compacted);
                want.request.start_revision = start(&mut self.choices, newest, kept);
            }
            want.state = State::Asked;
            let request = want.request.clone();
            self.create(around, id, Some(slot), request);
        }
    }

    fn create(
        &mut self,
        around: &mut Around<'_>,
        id: CallId,
        slot: Slot,
        request: pb::WatchCreateRequest,
    ) {
        let shown = self.shown(around, id);
        self.judge.create(id, slot, request.clone(), shown);
        send(around.service, id, RequestUnion::CreateRequest(request));
    }

    /// The revision that the process of a stream has shown.
    fn shown(&self, around: &Around<'_>, id: CallId) -> i64 {
        let process = around.service.process_of(id);
        process.map_or(0, |process| around.oracle.shown_revision(process))
    }

    /// A client with a stream does something about it.
    fn go_on(&mut self, around: &mut Around<'_>, at: usize, id: CallId) {
        self.want_lost(around, at, id);
        if self.finished {
            return;
        }
        match self.choices.below(14) {
            0..3 => {
                let shown = self.shown(around, id);
                self.judge.ask_progress(id, shown);
                let asks = pb::WatchProgressRequest::default();
                send(around.service, id, RequestUnion::ProgressRequest(asks));
            }
            3 => {
                self.places[at].stalls = true;
                around.service.reads(id, false);
            }
            4 | 5 => self.end_one(around, at, id),
            6 | 7 => {
                let request = refused(&mut self.choices, around.grammar, &self.places[at].slots);
                self.create(around, id, None, request);
            }
            8 if self.choices.below(3) == 0 => {
                around.service.close(id);
                self.leaves(at);
                self.places[at].member += self.choices.below(2) as usize;
            }
            _ => {}
        }
    }

    /// A client ends a watcher, and wants another in its place.
    fn end_one(&mut self, around: &mut Around<'_>, at: usize, id: CallId) {
        let place = &self.places[at];
        let live = place.slots.iter().filter_map(|want| match want.state {
            State::Lives(id) => Some(id),
            _ => None,
        });
        // Sometimes one that there is not.
        let mut known: Vec<i64> = live.collect();
        known.push(77);
        let watch_id = *self.choices.pick(&known);
        self.judge.cancel(id, watch_id);
        let ends = pb::WatchCancelRequest { watch_id };
        send(around.service, id, RequestUnion::CancelRequest(ends));
    }

    /// A client's stream is gone, and all watchers with it.
    fn leaves(&mut self, at: usize) {
        let place = &mut self.places[at];
        if let Some((id, _)) = place.call.take() {
            self.judge.closed(id);
        }
        place.stalls = false;
        place.slots.iter_mut().for_each(|want| want.state = State::Lost);
        self.count("watch streams lost", 1);
    }

    /// A stream is gone with its process.
    pub fn lost(&mut self, id: CallId) {
        if let Some(at) = self.place_of(id) {
            self.leaves(at);
            self.places[at].member += 1;
        }
    }

    /// A stream has told something.
    ///
    /// # Errors
    /// What must not be.
    pub fn told(
        &mut self,
        id: CallId,
        told: Told,
        grammar: &mut Grammar,
        oracle: &mut Oracle,
    ) -> Result<(), Violation> {
        let Some(at) = self.place_of(id) else { return Ok(()) };
        for message in told.messages {
            let model = oracle.model();
            let news = self.judge.take(id, message, model.events(), model.now())?;
            let revision = self.learn(at, news, grammar);
            oracle.saw(told.process, revision);
        }
        if let Some(ending) = told.ended {
            if let Ending::Refused(refusal) = &ending {
                let error = ApiError::of_text(&refusal.text);
                let may = match error {
                    Some(ApiError::NoLeader | ApiError::NotSupportedForLearner) => true,
                    Some(ApiError::Unhealthy) => true,
                    Some(ApiError::Corrupt) => told.is_sick,
                    _ => false,
                };
                if !may {
                    return Err(Violation {
                        invariant: "a stream ends for a reason",
                        seen: format!("{refusal:?}"),
                    });
                }
                self.count("watch streams refused or ended", 1);
            }
            self.lost(id);
            return Ok(());
        }
        if told.is_idle
            && let Some(revision) = oracle.model().revision_at(told.applied)
        {
            self.judge.waits(id, oracle.model().events(), revision)?;
        }
        Ok(())
    }

    /// What a client makes of a message. Answers the revision that it was shown, 0 for none.
    fn learn(&mut self, at: usize, news: News, grammar: &mut Grammar) -> i64 {
        let mut choices = self.choices.clone();
        let slots = &mut self.places[at].slots;
        let (name, number, seen) = match news {
            News::Created { slot, id, start } => {
                if let Some(slot) = slot {
                    slots[slot].state = State::Lives(id);
                    slots[slot].request.start_revision = start;
                }
                ("watchers", 1, 0)
            }
            News::Refused { slot } => {
                slot.into_iter().for_each(|slot| slots[slot].state = State::Lost);
                if let Some(slot) = slot {
                    // Its id is another's.
                    slots[slot].request.watch_id = 0;
                }
                ("watchers refused", 1, 0)
            }
            News::Events { slot, count, fragment, next: (behind, through) } => {
                if !fragment && let Some(slot) = slot {
                    let next = if choices.below(2) == 0 { behind } else { through };
                    let start = &mut slots[slot].request.start_revision;
                    *start = next.max(*start);
                }
                let name = if fragment { "events in fragments" } else { "events" };
                (name, count as u64, behind - 1)
            }
            News::Progress { slots: told, revision } => {
                for slot in told {
                    let start = &mut slots[slot].request.start_revision;
                    *start = (revision + 1).max(*start);
                }
                ("progress", 1, revision)
            }
            News::Ended { slot, compacted: 0 } => {
                if let Some(slot) = slot {
                    let request = wanted(&mut choices, grammar);
                    slots[slot] = Want { request, state: State::Lost };
                }
                ("watchers ended", 1, 0)
            }
            News::Ended { slot, compacted } => {
                if let Some(slot) = slot {
                    slots[slot].request.start_revision = compacted;
                    slots[slot].state = State::Lost;
                }
                ("watchers ended by a compaction", 1, 0)
            }
        };
        self.choices = choices;
        self.count(name, number);
        seen
    }
}

fn send(service: &mut Service, id: CallId, request: RequestUnion) {
    let request = pb::WatchRequest { request_union: Some(request) };
    service.send(id, &request.encode_to_vec());
}

/// A watcher that is not refused. Its start is below zero until it is known what there is.
fn wanted(choices: &mut Choices, grammar: &mut Grammar) -> pb::WatchCreateRequest {
    let (key, range_end) = match choices.below(4) {
        0 => (Bytes::from_static(b"\0"), Bytes::from_static(b"\0")),
        1 => (Bytes::new(), Bytes::from_static(b"\0")),
        2 => (Bytes::from_static(b"key-"), Bytes::from_static(b"key.")),
        _ => (grammar.key(choices), Bytes::new()),
    };
    let filters = match choices.below(10) {
        0 => vec![FilterType::Noput as i32],
        1 => vec![FilterType::Nodelete as i32],
        2 => vec![FilterType::Noput as i32, FilterType::Nodelete as i32],
        _ => Vec::new(),
    };
    pb::WatchCreateRequest {
        key,
        range_end,
        start_revision: -1,
        progress_notify: choices.below(3) == 0,
        filters,
        prev_kv: choices.below(2) == 0,
        watch_id: if choices.below(3) == 0 { choices.between(1, 6) as i64 } else { 0 },
        fragment: choices.below(3) == 0,
    }
}

/// Now, the past, the oldest there is, what is compacted, the future.
fn start(choices: &mut Choices, newest: i64, compacted: i64) -> i64 {
    let oldest = compacted.clamp(1, newest.max(1));
    match choices.below(10) {
        0..4 => 0,
        4..7 => oldest + choices.below((newest - oldest).max(0) as u64 + 1) as i64,
        7 => oldest,
        8 => (oldest - 1).max(1),
        _ => newest + 1 + choices.below(AHEAD_MAX) as i64,
    }
}

/// A watcher that is refused, or was.
fn refused(choices: &mut Choices, grammar: &mut Grammar, slots: &[Want]) -> pb::WatchCreateRequest {
    let mut request = wanted(choices, grammar);
    request.start_revision = 0;
    match choices.below(3) {
        0 => request.start_revision = -1 - choices.below(3) as i64,
        1 => {
            request.key = Bytes::from_static(b"key-2");
            request.range_end = Bytes::from_static(b"key-1");
        }
        _ => {
            let live = slots.iter().find_map(|want| match want.state {
                State::Lives(id) => Some(id),
                _ => None,
            });
            request.watch_id = live.unwrap_or(request.watch_id);
        }
    }
    request
}
