//! Who keeps leases: clients that hold keep-alive streams on members, some eagerly and some now and
//! then, and ask how much remains.
//!
//! Responsible for which lease a client renews when, and where it goes on when it loses its stream.
//! What it is told is judged by [`super::lease_judge`].

use std::collections::{BTreeMap, VecDeque};

use http::{HeaderMap, HeaderValue};
use jangada_raft::{Index, NodeId, RoleKind};
use jangada_server::errors::ApiError;
use jangada_server::grpc::methods::Method;
use jangada_server::proto::etcdserverpb as pb;
use prost::Message;

use super::grammar::LEASES;
use super::lease_judge::{LeaseJudge, Span, Told as Remains};
use super::oracle::{Leased, Oracle};
use super::service::{Answered, CLUSTER_ID, CallId, Ending, Refusal, Service, Told};
use super::users::{ROOT, Users};
use crate::application::store::StoreApplication;
use crate::choices::Choices;
use crate::invariants::Violation;
use crate::world::World;

/// The most clients that keep leases.
const KEEPERS_MAX: u64 = 4;

/// How long a client waits until it does something again at most, in microseconds: one of these for
/// each. The first keeps what it keeps, the last loses it mostly.
const ACT_US_MAX: [u64; 3] = [400_000, 1_200_000, 4_000_000];

/// Leases of so many seconds or less are waited for in the end; others take too long.
const AWAITED_TTL_MAX: i64 = 3;

/// How often it is looked whether leases go in the calm, in microseconds.
const LOOK_US: u64 = 100_000;

/// A client with a stream.
#[derive(Clone, Debug, Default)]
struct Keeper {
    act_us_max: u64,
    /// What it keeps.
    favourite: i64,
    /// Where its stream is, as a place among the members.
    member: usize,
    call: Option<(CallId, NodeId)>,
    /// What it has asked for on the stream, and when, in order.
    asked: VecDeque<(i64, u64)>,
    /// Whether it does not read for now.
    stalls: bool,
}

/// A question how much remains.
#[derive(Clone, Copy, Debug)]
struct Asked {
    member: NodeId,
    id: i64,
    keys: bool,
    asked_us: u64,
    promised_us: u64,
    acknowledged: Index,
}

/// The clients that keep leases.
#[derive(Debug)]
pub struct Keepers {
    choices: Choices,
    keepers: Vec<Keeper>,
    asked: BTreeMap<CallId, Asked>,
    judge: LeaseJudge,
    figures: BTreeMap<&'static str, u64>,
    finished_us: Option<u64>,
    looked_us: u64,
    /// Who leads, in which term, and since when that is known.
    leads: (Option<(NodeId, u64)>, u64),
    /// What it had applied at the last look, and when it was seen last that nothing had followed though
    /// its log holds more.
    applied: Index,
    stuck_us: u64,
}

impl Default for Keepers {
    /// Nobody keeps anything.
    fn default() -> Keepers {
        Keepers {
            choices: Choices::of_seed(0),
            keepers: Vec::new(),
            asked: BTreeMap::new(),
            judge: LeaseJudge::default(),
            figures: BTreeMap::new(),
            finished_us: None,
            looked_us: 0,
            leads: (None, 0),
            applied: Index(0),
            stuck_us: 0,
        }
    }
}

/// Whether it is a user who is refused, since he is gone or permissions have just changed.
fn may_be_judged(refusal: &Refusal, oracle: &Oracle) -> bool {
    let error = ApiError::of_text(&refusal.text);
    let judged = matches!(error, Some(ApiError::PermissionDenied | ApiError::AuthOldRevision));
    let model = oracle.model();
    judged && *model.users_at(model.now()) != Users::default()
}

fn wrong(invariant: &'static str, seen: String) -> Violation {
    Violation { invariant, seen }
}

/// What is compared.
const ANSWER: &str = "leases are told as they are";

impl Keepers {
    /// The clients of a run.
    #[must_use]
    pub fn draw(mut choices: Choices) -> Keepers {
        let keepers = (0..choices.below(KEEPERS_MAX + 1)).map(|place| Keeper {
            act_us_max: *choices.pick(&ACT_US_MAX),
            favourite: *choices.pick(&LEASES),
            member: place as usize,
            ..Keeper::default()
        });
        let keepers = keepers.collect();
        Keepers { choices, keepers, ..Keepers::default() }
    }

    /// How many clients there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keepers.len()
    }

    /// Whether nobody keeps leases.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keepers.is_empty()
    }

    /// What was told and what came of leases, by name.
    #[must_use]
    pub fn figures(&self) -> &BTreeMap<&'static str, u64> {
        &self.figures
    }

    fn count(&mut self, name: &'static str, number: u64) {
        if 0 < number {
            *self.figures.entry(name).or_default() += number;
        }
    }

    /// When a client acts next, in microseconds from now.
    pub fn pause(&mut self, at: usize) -> u64 {
        self.choices.below(self.keepers[at].act_us_max)
    }

    /// Nothing is kept from here on.
    pub fn finish(&mut self, service: &mut Service) {
        self.finished_us = Some(0);
        for keeper in &mut self.keepers {
            if let Some((id, _)) = keeper.call.take() {
                service.close(id);
            }
            keeper.asked.clear();
        }
    }

    /// An entry has done something to leases.
    ///
    /// # Errors
    /// What was promised otherwise.
    pub fn leased(
        &mut self,
        leased: &Leased,
        oracle: &Oracle,
        now_us: u64,
    ) -> Result<(), Violation> {
        match leased {
            Leased::Nothing => {}
            Leased::Granted(id) => {
                let lease = oracle.model().leases()[id];
                self.judge.granted(*id, lease.granted, lease.ttl, now_us);
                self.count("leases granted", 1);
            }
            Leased::Revoked(id) => {
                self.judge.ended(*id, false, now_us)?;
                self.count("leases revoked", 1);
            }
            Leased::Carried(carried) => {
                for (id, lease) in &carried.ended {
                    self.judge.ended(*id, true, now_us)?;
                    self.count("leases expired", 1);
                    self.count("leases expired short", u64::from(lease.remaining < lease.ttl));
                }
                self.count("remainders noted", carried.noted);
                let late = carried.ended.is_empty() && carried.noted == 0;
                self.count("lessors' orders that came late", u64::from(late));
            }
        }
        Ok(())
    }

    /// A client does something.
    pub fn act(
        &mut self,
        world: &World<StoreApplication>,
        service: &mut Service,
        oracle: &Oracle,
        calls: &mut u64,
        at: usize,
    ) {
        if self.finished_us.is_some() {
            return;
        }
        let members = world.members();
        let Some((id, _)) = self.keepers[at].call else {
            return self.open(world, service, calls, at, &members);
        };
        if std::mem::take(&mut self.keepers[at].stalls) {
            service.reads(id, true);
        }
        match self.choices.below(12) {
            0 => {
                self.keepers[at].stalls = true;
                service.reads(id, false);
            }
            1 if self.choices.below(3) == 0 => {
                service.close(id);
                self.loses(at);
            }
            2..4 => self.ask(world, service, oracle, calls, &members),
            _ => {
                for _ in 0..self.choices.between(1, 3) {
                    let lease = match self.choices.below(4) {
                        0 => *self.choices.pick(&LEASES),
                        _ => self.keepers[at].favourite,
                    };
                    self.keepers[at].asked.push_back((lease, world.now_us()));
                    service.send(id, &pb::LeaseKeepAliveRequest { id: lease }.encode_to_vec());
                }
            }
        }
    }

    fn open(
        &mut self,
        world: &World<StoreApplication>,
        service: &mut Service,
        calls: &mut u64,
        at: usize,
        members: &[NodeId],
    ) {
        let keeper = &mut self.keepers[at];
        let member = members[keeper.member % members.len()];
        let mut metadata = HeaderMap::new();
        if self.choices.below(8) == 0 {
            metadata.insert("hasleader", HeaderValue::from_static("true"));
        }
        *calls += 1;
        let id = CallId(*calls);
        if service.open(world, id, member, Method::LeaseKeepAlive, metadata, 64) {
            keeper.call = Some((id, member));
            self.count("keep-alive streams", 1);
        } else {
            keeper.member += 1;
        }
    }

    /// Asks some member how much remains of a lease.
    fn ask(
        &mut self,
        world: &World<StoreApplication>,
        service: &mut Service,
        oracle: &Oracle,
        calls: &mut u64,
        members: &[NodeId],
    ) {
        let member = *self.choices.pick(members);
        let (id, keys) = (*self.choices.pick(&LEASES), self.choices.below(2) == 0);
        *calls += 1;
        let call = CallId(*calls);
        let message = pb::LeaseTimeToLiveRequest { id, keys }.encode_to_vec();
        let request = (Method::LeaseTimeToLive, message.into());
        if !service.call_method(world, call, member, request, false, Some(ROOT)) {
            return;
        }
        let asked = Asked {
            member,
            id,
            keys,
            asked_us: world.now_us(),
            promised_us: self.judge.promised_us(id),
            acknowledged: oracle.acknowledged(),
        };
        self.asked.insert(call, asked);
    }

    fn place_of(&self, id: CallId) -> Option<usize> {
        self.keepers.iter().position(|keeper| keeper.call.is_some_and(|(call, _)| call == id))
    }

    fn loses(&mut self, at: usize) {
        let keeper = &mut self.keepers[at];
        keeper.call = None;
        keeper.asked.clear();
        keeper.stalls = false;
        keeper.member += 1;
        self.count("keep-alive streams lost", 1);
    }

    /// A call or a stream is gone with its process.
    pub fn lost(&mut self, id: CallId) {
        if let Some(at) = self.place_of(id) {
            self.loses(at);
        }
        self.asked.remove(&id);
    }

    /// A stream has told something.
    ///
    /// # Errors
    /// What must not be.
    pub fn told(&mut self, id: CallId, told: &Told, now_us: u64) -> Result<(), Violation> {
        let Some(at) = self.place_of(id) else { return Ok(()) };
        let (_, member) = self.keepers[at].call.expect("it has just been found");
        for message in &told.messages {
            let answer = pb::LeaseKeepAliveResponse::decode(message.clone())
                .map_err(|error| wrong(ANSWER, error.to_string()))?;
            let Some((asked, asked_us)) = self.keepers[at].asked.pop_front() else {
                return Err(wrong(ANSWER, format!("nobody has asked for {answer:?}")));
            };
            let header = answer.header.unwrap_or_default();
            let names = (header.cluster_id, header.member_id, answer.id);
            if names != (CLUSTER_ID, member.0, asked) {
                return Err(wrong(ANSWER, format!("{answer:?} of {member} for lease {asked}")));
            }
            let span = Span { asked_us, told_us: now_us };
            self.judge.renewed(asked, answer.ttl, span)?;
            let name = if answer.ttl == 0 { "renewals of what was gone" } else { "renewals" };
            self.count(name, 1);
        }
        if let Some(ending) = &told.ended {
            if let Ending::Refused(refusal) = ending {
                self.may_refuse(refusal, told.is_sick)?;
                self.count("keep-alive streams refused or ended", 1);
            }
            self.loses(at);
        }
        Ok(())
    }

    /// A call is answered, if it is one of these clients'.
    ///
    /// # Errors
    /// What must not be.
    pub fn answered(
        &mut self,
        call: CallId,
        answered: &Answered,
        oracle: &Oracle,
        now_us: u64,
    ) -> Result<bool, Violation> {
        let Some(asked) = self.asked.remove(&call) else { return Ok(false) };
        let bytes = match &answered.result {
            Ok(bytes) => bytes.clone(),
            Err(refusal) if may_be_judged(refusal, oracle) => {
                self.count("remainders refused", 1);
                return Ok(true);
            }
            Err(refusal) => {
                self.may_refuse(refusal, answered.quarantined || answered.damaged)?;
                self.count("remainders refused", 1);
                return Ok(true);
            }
        };
        let answer = pb::LeaseTimeToLiveResponse::decode(bytes)
            .map_err(|error| wrong(ANSWER, error.to_string()))?;
        let header = answer.header.unwrap_or_default();
        let names = (header.cluster_id, header.member_id, answer.id);
        if names != (CLUSTER_ID, asked.member.0, asked.id) {
            return Err(wrong(ANSWER, format!("{answer:?} for {asked:?}")));
        }
        let (id, ttl, granted_ttl) = (answer.id, answer.ttl, answer.granted_ttl);
        let told = Remains { id, ttl, granted_ttl, keys: answer.keys };
        let span = Span { asked_us: asked.asked_us, told_us: now_us };
        self.judge.remains(&told, asked.promised_us, span)?;
        // The keys are those of some moment since everything that was known then.
        let (_, last) = answered.applied;
        if 0 <= ttl
            && let Some(moments) = oracle.model().moments(asked.acknowledged, last)
        {
            let is_shown = |keys: Option<Vec<bytes::Bytes>>| match (keys, asked.keys) {
                (None, _) => false,
                (Some(_), false) => told.keys.is_empty(),
                (Some(keys), true) => keys == told.keys,
            };
            let mut moments = moments.filter(|moment| moment.revision == header.revision);
            if !moments.any(|moment| is_shown(oracle.model().lease_keys(moment, id))) {
                return Err(wrong(ANSWER, format!("{told:?} at {}: {asked:?}", header.revision)));
            }
        }
        self.count("remainders told", 1);
        Ok(true)
    }

    fn may_refuse(&self, refusal: &Refusal, is_sick: bool) -> Result<(), Violation> {
        let may = match ApiError::of_text(&refusal.text) {
            Some(
                ApiError::NoLeader
                | ApiError::NotSupportedForLearner
                | ApiError::Timeout
                | ApiError::Unhealthy,
            ) => true,
            Some(ApiError::Corrupt) => is_sick,
            _ => false,
        };
        if may {
            Ok(())
        } else {
            Err(wrong("who keeps a lease is refused for a reason", format!("{refusal:?}")))
        }
    }

    /// Looks at the calm: whether what nobody keeps goes.
    ///
    /// # Errors
    /// What does not.
    pub fn look(
        &mut self,
        world: &World<StoreApplication>,
        service: &Service,
    ) -> Result<(), Violation> {
        let Some(finished_us) = &mut self.finished_us else { return Ok(()) };
        let now_us = world.now_us();
        if *finished_us == 0 {
            *finished_us = now_us;
        }
        if now_us < self.looked_us + LOOK_US {
            return Ok(());
        }
        self.looked_us = now_us;
        let finished_us = *finished_us;
        let leader = world.standing_members().into_iter().find_map(|member| {
            let status = world.status(member)?;
            let (standing, applied) = (status.standing, status.record.applied);
            let leads = standing.role == RoleKind::Leader
                && applied.term == standing.term
                && status.quarantine.is_none();
            leads.then_some((member, standing.term.0, applied.index, status.last))
        });
        // A leader whose majority has to be sent a snapshot first commits nothing meanwhile.
        if let Some((.., applied, last)) = leader
            && self.applied == applied
            && applied < last
        {
            self.stuck_us = now_us;
        }
        self.applied = leader.map_or(Index(0), |(.., applied, _)| applied);
        let leader = leader.map(|(member, term, ..)| (member, term));
        if self.leads.0 != leader {
            self.leads = (leader, now_us);
        }
        if leader.is_none() {
            return Ok(());
        }
        let since_us =
            finished_us.max(self.leads.1).max(self.stuck_us).max(service.counselled_us());
        self.judge.calm(since_us, now_us)
    }

    /// Whether nobody waits for an answer, and no lease is there that goes within seconds.
    #[must_use]
    pub fn are_done(&self) -> bool {
        self.asked.is_empty() && self.judge.are_gone(AWAITED_TTL_MAX)
    }
}
