//! Who asks: many clients on all members, alone and in bursts, who go on when an answer does not come.
//!
//! Responsible for when which client asks what of whom, and for handing what happens to those who
//! judge and count. A client does without an answer what etcd's client does: what was not taken, or
//! changes nothing, it asks of another member; of a write that may have happened it does not know,
//! and some ask for the same again as for something new. Not responsible for what a right answer is
//! ([`super::oracle`]).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use jangada_kv::auth::{Auth, Permission};
use jangada_kv::{KvError, Lease, RangeRequest, Shared};
use jangada_raft::{Configuration, Index, NodeId, RoleKind};
use jangada_server::errors::ApiError;
use jangada_server::proto::mvccpb::KeyValue;

use super::coverage::{Coverage, Feature, Features, Outcome, Role};
use super::grammar::{Grammar, Mixture};
use super::keepers::Keepers;
use super::model::HeldLease;
use super::oracle::Oracle;
use super::request::{Kind, Request};
use super::service::{Answered, Became, CallId, Service, Told};
use super::users::{self, Change, Grant, Users};
use super::watchers::{Around, Watchers};
use crate::application::store::StoreApplication;
use crate::choices::Choices;
use crate::faults::{FAULTS, Fault, FaultCounts};
use crate::invariants::Violation;
use crate::run::Clients;
use crate::world::{Happened, World};

/// How long a client waits before it asks again what was not answered, in microseconds.
const BACK_OFF_US: (u64, u64) = (1_000, 200_000);

/// How long a client without much patience waits for an answer, in microseconds.
const PATIENCE_US: (u64, u64) = (500, 3_000_000);

/// One call in so many is made by a client without much patience.
const IMPATIENT: u64 = 20;

/// One call in so many goes to another member than the client's last.
const WANDERING: u64 = 4;

/// One call in so many demands that the member knows a leader.
const DEMANDING: u64 = 40;

/// How often it is drawn whether a burst begins, in microseconds, how likely, and how long it lasts.
const BURST_PERIOD_US: u64 = 1_000_000;
const BURST_ONE_IN: u64 = 10;
const BURST_US: (u64, u64) = (50_000, 300_000);

/// How long a client thinks during a burst at most, in microseconds.
const BURST_THINK_US: u64 = 10_000;

/// How often a client asks for the same again at most.
const ATTEMPTS_MAX: u32 = 4;

/// How long a fault counts as being about after it happened, in microseconds.
const ABOUT_US: u64 = 2_000_000;

/// After so many applied commands the oracle forgets what nobody can ask for any more.
const FORGET_COMMANDS: u64 = 512;

/// At how many past revisions members are compared in the end.
const PAST_REVISIONS: i64 = 16;

/// Timers of the caller's beside those of the clients' places.
const BURST_TOKEN: u64 = u64::MAX;
const CLOCK_TOKEN: u64 = u64::MAX - 1;
const SPACE_TOKEN: u64 = u64::MAX - 2;
const PATIENCE_TOKENS: u64 = 1 << 40;
const WATCH_TOKENS: u64 = 1 << 50;
const KEEP_TOKENS: u64 = 1 << 60;

/// How often servers look at the space on their disks, in microseconds.
const SPACE_PERIOD_US: u64 = 1_000_000;

/// The place of what servers ask by themselves.
const NO_CLIENT: u64 = u64::MAX;

/// Tells the clients' decisions from all others, so that a fault more or less changes none of them.
const LABEL: u64 = 0x636c_6965_6e74;

/// The same of whether clients use leases.
const LEASE_LABEL: u64 = 0x6c65_6173_6573;

/// The same of the decisions of those who watch.
const WATCH_LABEL: u64 = 0x7761_7463_6865;

/// The same of the decisions of those who keep leases, and of when lessors are late.
const KEEP_LABEL: u64 = 0x6b65_6570;
const LESSOR_LABEL: u64 = 0x6c65_7373_6f72;

/// The same of users.
const USER_LABEL: u64 = 0x0075_7365_7273;

/// Users are in use in one run of so many, and watchers in none of those.
const USERS_ONE_IN: u64 = 4;

/// How many clients change users, and how long they think at most, in microseconds: first they hurry.
const ADMINISTRATORS: u64 = 2;
const ADMINISTERS_US_MAX: u64 = 1_500_000;
const HURRIES_US_MAX: u64 = 60_000;

/// What the clients do.
#[derive(Clone, Debug)]
pub struct WorkloadOptions {
    /// How many clients there are, each with one request at a time.
    pub clients: u64,
    /// How many keys they share beside a dozen odd ones.
    pub keys: u64,
    /// How long a client thinks between an answer and its next request at most, in microseconds.
    pub think_us_max: u64,
    /// What they ask.
    pub mixture: Mixture,
    /// After so many answered requests the clients have had enough.
    pub requests_max: u64,
}

impl Default for WorkloadOptions {
    /// About 200 requests a second while nothing goes wrong, and more than 100 among faults.
    fn default() -> WorkloadOptions {
        WorkloadOptions {
            clients: 50,
            keys: 24,
            think_us_max: 400_000,
            mixture: Mixture::default(),
            requests_max: u64::MAX,
        }
    }
}

/// A client.
#[derive(Clone, Debug, Default)]
struct Client {
    /// Where it asked last, as a place among the members.
    member: usize,
    /// Who it is, once users are in use.
    name: Option<&'static str>,
    /// What it asks next, if not something new, and how often it has asked for it.
    again: Option<(Arc<Request>, u32)>,
}

/// A call under way.
#[derive(Clone, Debug)]
struct Pending {
    place: u64,
    request: Arc<Request>,
    kind: Kind,
    features: Features,
    attempts: u32,
}

/// What has gone wrong lately.
#[derive(Clone, Debug)]
struct Weather {
    counts: FaultCounts,
    until_us: [u64; FAULTS.len()],
}

impl Default for Weather {
    fn default() -> Weather {
        Weather { counts: FaultCounts::default(), until_us: [0; FAULTS.len()] }
    }
}

impl Weather {
    fn look(&mut self, counts: &FaultCounts, now_us: u64) {
        if self.counts == *counts {
            return;
        }
        for fault in FAULTS {
            if self.counts.of(fault) != counts.of(fault) {
                self.until_us[fault as usize] = now_us + ABOUT_US;
            }
        }
        self.counts = counts.clone();
    }

    fn about(&self, now_us: u64) -> impl Iterator<Item = Fault> {
        FAULTS.into_iter().filter(move |fault| now_us < self.until_us[*fault as usize])
    }
}

/// The clients, their servers' side and their judge.
pub struct Workload {
    options: WorkloadOptions,
    choices: Choices,
    grammar: Grammar,
    clients: Vec<Client>,
    pending: BTreeMap<CallId, Pending>,
    calls: u64,
    service: Service,
    oracle: Oracle,
    coverage: Coverage,
    weather: Weather,
    /// How far each member's engine is known to reach: further back it never starts again.
    durable: BTreeMap<NodeId, Index>,
    commands: u64,
    answered: u64,
    alarms_raised: u64,
    burst_until_us: u64,
    /// When the world is known to wake the service.
    wakes_at_us: u64,
    finished: bool,
    became: Vec<(CallId, Became)>,
    told: Vec<(CallId, Told)>,
    watchers: Watchers,
    keepers: Keepers,
    /// What administrators ask for first.
    first: VecDeque<Change>,
    /// Decides about what they ask for then.
    administers: Choices,
    /// In the calm, the members that are counted on.
    standing: Vec<NodeId>,
}

impl Workload {
    /// Clients with these options.
    #[must_use]
    pub fn new(options: WorkloadOptions) -> Workload {
        Workload {
            choices: Choices::of_seed(0),
            grammar: Grammar::new(options.mixture, options.keys),
            clients: vec![Client::default(); options.clients as usize],
            options,
            pending: BTreeMap::new(),
            calls: 0,
            service: Service::new(),
            oracle: Oracle::new(),
            coverage: Coverage::default(),
            weather: Weather::default(),
            durable: BTreeMap::new(),
            commands: 0,
            answered: 0,
            alarms_raised: 0,
            burst_until_us: 0,
            wakes_at_us: 0,
            finished: false,
            became: Vec::new(),
            told: Vec::new(),
            watchers: Watchers::default(),
            keepers: Keepers::default(),
            first: VecDeque::new(),
            administers: Choices::of_seed(0),
            standing: Vec::new(),
        }
    }

    /// What was asked and what came of it.
    #[must_use]
    pub fn coverage(&self) -> &Coverage {
        &self.coverage
    }

    /// How many alarms servers have raised because they had no space.
    #[must_use]
    pub fn alarms_raised(&self) -> u64 {
        self.alarms_raised
    }

    /// What the answers were compared with.
    #[must_use]
    pub fn oracle(&self) -> &Oracle {
        &self.oracle
    }

    fn pause(&mut self, world: &mut World<StoreApplication>, place: u64, range: (u64, u64)) {
        let after = self.choices.between(range.0, range.1);
        world.set_timer(after, place);
    }

    fn think(&mut self, world: &mut World<StoreApplication>, place: u64) {
        if place == NO_CLIENT {
            return;
        }
        let bursts = world.now_us() < self.burst_until_us;
        if self.options.clients <= place {
            let hurries = !self.first.is_empty();
            let longest = if hurries { HURRIES_US_MAX } else { ADMINISTERS_US_MAX };
            let after = self.administers.below(longest);
            return world.set_timer(after, place);
        }
        let longest = if bursts { BURST_THINK_US } else { self.options.think_us_max };
        self.pause(world, place, (0, longest.min(self.options.think_us_max)));
    }

    fn role(world: &World<StoreApplication>, member: NodeId) -> Role {
        match world.status(member).map(|status| status.standing) {
            None => Role::Down,
            Some(standing) if standing.role == RoleKind::Leader => Role::Leader,
            Some(standing) if standing.leader.is_some() => Role::Follower,
            Some(_) => Role::NoLeader,
        }
    }

    fn ask(&mut self, world: &mut World<StoreApplication>, place: u64) {
        if self.finished {
            return;
        }
        let members = world.members();
        let choices = &mut self.choices;
        let client = &mut self.clients[place as usize];
        if choices.below(WANDERING) == 0 {
            client.member = choices.below(members.len() as u64) as usize;
        }
        let member = members[client.member % members.len()];
        let (request, attempts) = match client.again.take() {
            Some((request, attempts)) => (request, attempts + 1),
            None if self.options.clients <= place => {
                let change = self.first.pop_front();
                let change = change.unwrap_or_else(|| Change::draw(&mut self.administers));
                (Arc::new(Request::Auth(change)), 1)
            }
            None => (Arc::new(self.grammar.next(choices)), 1),
        };
        let kind = request.kind();
        let demands_leader = choices.below(DEMANDING) == 0;
        let mut features = Features::of(&request);
        if demands_leader {
            features.add(Feature::DemandsLeader);
        }
        if 1 < attempts {
            features.add(Feature::Retried);
        }
        let now_us = world.now_us();
        self.weather.look(world.counts(), now_us);
        self.coverage.asked(kind, Workload::role(world, member), self.weather.about(now_us));
        self.calls += 1;
        let id = CallId(self.calls);
        let name = client.name;
        if !self.service.call(world, id, member, &request, demands_leader, name) {
            self.coverage.ended(kind, features, Outcome::Unreachable);
            return self.ask_again(world, place, request, attempts);
        }
        self.oracle.asked(id, member, Arc::clone(&request), demands_leader);
        self.oracle.names(id, name, world.process(member));
        if self.choices.below(IMPATIENT) == 0 {
            let after = self.choices.between(PATIENCE_US.0, PATIENCE_US.1);
            world.set_timer(after, PATIENCE_TOKENS + id.0);
        }
        self.pending.insert(id, Pending { place, request, kind, features, attempts });
    }

    /// The client asks another member for the same, unless it has asked often enough.
    fn ask_again(
        &mut self,
        world: &mut World<StoreApplication>,
        place: u64,
        request: Arc<Request>,
        attempts: u32,
    ) {
        let client = &mut self.clients[place as usize];
        client.member = (client.member + 1) % world.members().len();
        client.again = (attempts < ATTEMPTS_MAX).then_some((request, attempts));
        self.pause(world, place, BACK_OFF_US);
    }

    /// A call came to nothing, or to nothing that is known.
    fn failed(&mut self, world: &mut World<StoreApplication>, pending: Pending, outcome: Outcome) {
        let Pending { place, request, kind, features, attempts } = pending;
        self.coverage.ended(kind, features, outcome);
        if place == NO_CLIENT {
            return; // It looks again.
        }
        let promised_nothing =
            matches!(outcome, Outcome::Refused(ApiError::NoLeader | ApiError::TooManyRequests));
        // A write that may have happened: most go on, some ask again.
        if !kind.is_logged() || promised_nothing || self.choices.below(3) == 0 {
            return self.ask_again(world, place, request, attempts);
        }
        self.pause(world, place, BACK_OFF_US);
    }

    /// A call ends without an answer.
    fn unanswered(&mut self, world: &mut World<StoreApplication>, id: CallId, outcome: Outcome) {
        let Some(pending) = self.pending.remove(&id) else { return };
        self.oracle.gave_up(id);
        self.failed(world, pending, outcome);
    }

    fn answered(
        &mut self,
        world: &mut World<StoreApplication>,
        id: CallId,
        answered: &Answered,
    ) -> Result<(), Violation> {
        let learned = self.oracle.answered(id, answered)?;
        let mut pending = self.pending.remove(&id).expect("a call that is answered was pending");
        self.answered += 1;
        if let Some(revision) = learned.revision {
            self.grammar.revision = revision.max(self.grammar.revision);
            if let Request::Compact(compact) = &*pending.request {
                self.grammar.compacted = compact.revision.max(self.grammar.compacted);
            }
        }
        if let Request::Alarm(alarm) = &*pending.request
            && (pending.kind, alarm.action) == (Kind::AlarmChange, 1)
        {
            self.alarms_raised += u64::from(learned.outcome == Outcome::Ok);
        }
        pending.features.join(learned.shown);
        if answered.slices {
            pending.features.add(Feature::Sliced);
        }
        let unavailable = ApiError::NoLeader.code();
        match learned.outcome {
            Outcome::Refused(error)
                if error.code() == unavailable || error == ApiError::TooManyRequests =>
            {
                self.failed(world, pending, learned.outcome);
            }
            outcome => {
                self.coverage.ended(pending.kind, pending.features, outcome);
                self.think(world, pending.place);
            }
        }
        Ok(())
    }

    /// The oracle follows the log.
    fn follow(&mut self, world: &mut World<StoreApplication>) -> Result<(), Violation> {
        while let Some(command) = world.new_command() {
            let leased = self.oracle.applied(&command)?;
            self.keepers.leased(&leased, &self.oracle, world.now_us())?;
            self.commands += 1;
            if !self.commands.is_multiple_of(FORGET_COMMANDS) {
                continue;
            }
            for member in world.members() {
                let known = self.durable.entry(member).or_default();
                if let Some(status) = world.status(member) {
                    *known = status.machine_durable.max(*known);
                }
            }
            let oldest = self.durable.values().min().copied();
            oldest.iter().for_each(|oldest| self.oracle.forget(*oldest));
        }
        Ok(())
    }

    fn timer(&mut self, world: &mut World<StoreApplication>, token: u64) {
        match token {
            BURST_TOKEN => self.draw_burst(world),
            CLOCK_TOKEN => self.wakes_at_us = 0,
            SPACE_TOKEN => self.look_at_space(world),
            KEEP_TOKENS.. => {
                let place = (token - KEEP_TOKENS) as usize;
                let Workload { service, oracle, calls, keepers, .. } = self;
                keepers.act(world, service, oracle, calls, place);
                world.set_timer(self.keepers.pause(place), token);
            }
            WATCH_TOKENS.. => self.watch(world, token - WATCH_TOKENS),
            PATIENCE_TOKENS.. => {
                let id = CallId(token - PATIENCE_TOKENS);
                if self.pending.contains_key(&id) {
                    self.service.leave(id);
                    self.unanswered(world, id, Outcome::GivenUp);
                }
            }
            place => self.ask(world, place),
        }
    }

    /// A client that watches does something.
    fn watch(&mut self, world: &mut World<StoreApplication>, place: u64) {
        let Workload { service, oracle, grammar, calls, watchers, .. } = self;
        let mut around = Around { world, service, oracle, grammar, calls };
        watchers.act(&mut around, place as usize);
        world.set_timer(self.watchers.pause(), WATCH_TOKENS + place);
    }

    /// Clients say who they are, and some of them change who may do what.
    fn begin_users(&mut self, world: &mut World<StoreApplication>, choices: Choices) {
        self.administers = choices;
        self.first = Change::first().into();
        for place in 0..self.options.clients {
            self.clients[place as usize].name = users::at_place(place);
        }
        for place in self.options.clients..self.options.clients + ADMINISTRATORS {
            self.clients.push(Client { name: Some(users::ROOT), ..Client::default() });
            self.think(world, place);
        }
    }

    /// Every server looks at the space on its disk, and raises or ends the alarm.
    fn look_at_space(&mut self, world: &mut World<StoreApplication>) {
        world.set_timer(SPACE_PERIOD_US, SPACE_TOKEN);
        for member in world.standing_members() {
            let looked = self.service.looks_at_space(world, member);
            let Some((request, command)) = looked else { continue };
            let (request, kind, features) =
                (Arc::new(request), Kind::AlarmChange, Features::default());
            let now_us = world.now_us();
            self.weather.look(world.counts(), now_us);
            self.coverage.asked(kind, Workload::role(world, member), self.weather.about(now_us));
            self.calls += 1;
            let id = CallId(self.calls);
            let asked = Workload::asked_for_space(world, member);
            if !self.service.propose(world, id, asked, command) {
                continue;
            }
            self.oracle.asked(id, asked, Arc::clone(&request), false);
            let pending = Pending { place: NO_CLIENT, request, kind, features, attempts: 1 };
            self.pending.insert(id, pending);
        }
    }

    /// A server proposes its alarm by itself, also one that does not vote. Over the API that one is
    /// refused, so its leader is asked in its place.
    fn asked_for_space(world: &World<StoreApplication>, member: NodeId) -> NodeId {
        let Some(status) = world.status(member) else { return member };
        let Configuration { voters, outgoing, .. } = &*status.configuration;
        let votes = voters.contains(&member) || outgoing.contains(&member);
        if votes { member } else { status.standing.leader.unwrap_or(member) }
    }

    /// Sometimes all ask at once, again and again.
    fn draw_burst(&mut self, world: &mut World<StoreApplication>) {
        if self.finished {
            return;
        }
        world.set_timer(BURST_PERIOD_US, BURST_TOKEN);
        if self.choices.below(BURST_ONE_IN) == 0 {
            let lasts = self.choices.between(BURST_US.0, BURST_US.1);
            self.burst_until_us = world.now_us() + lasts;
        }
    }
}

/// A lease as a member knows it.
fn held(lease: &Lease) -> (i64, HeldLease) {
    let Lease { name, ttl, remaining } = *lease;
    (name.id, HeldLease { granted: Index(name.granted), ttl, remaining })
}

/// The users as a member knows them.
fn users_of(auth: &Auth) -> Users {
    let grant = |permission: &Permission| {
        let Permission { kind, key, range_end } = permission.clone();
        Grant { key, range_end, kind: kind as i32 }
    };
    let roles = auth.roles().iter();
    let users = auth.users().iter();
    Users {
        enabled: auth.is_enabled(),
        revision: auth.revision(),
        users: users.map(|(name, user)| (name.clone(), user.roles.clone())).collect(),
        roles: roles
            .map(|(name, role)| (name.clone(), role.permissions.iter().map(grant).collect()))
            .collect(),
    }
}

/// What a member holds at a revision, 0 for the newest.
fn contents(shared: &Shared, revision: i64) -> Result<(i64, Vec<KeyValue>), KvError> {
    let all = RangeRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        revision,
        ..RangeRequest::default()
    };
    let (newest, response) = shared.range(&all);
    let kvs = response?.kvs.into_iter().map(|kv| KeyValue {
        key: kv.key,
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        value: kv.value,
        lease: kv.lease,
    });
    Ok((newest, kvs.collect()))
}

impl Clients<StoreApplication> for Workload {
    fn begin(&mut self, world: &mut World<StoreApplication>) {
        world.watch_commands();
        self.choices = world.choices().apart(LABEL);
        for place in 0..self.options.clients {
            self.clients[place as usize].member = place as usize % world.members().len();
            self.pause(world, place, (0, self.options.think_us_max));
        }
        world.set_timer(BURST_PERIOD_US, BURST_TOKEN);
        world.set_timer(SPACE_PERIOD_US, SPACE_TOKEN);
        self.grammar.uses_leases = world.choices().apart(LEASE_LABEL).below(4) != 0;
        self.watchers = Watchers::draw(world.choices().apart(WATCH_LABEL));
        let mut choices = world.choices().apart(USER_LABEL);
        if choices.below(USERS_ONE_IN) == 0 {
            self.watchers = Watchers::default();
            self.begin_users(world, choices);
        }
        self.watchers.begin(&mut self.grammar);
        for place in 0..self.watchers.len() as u64 {
            world.set_timer(self.watchers.pause(), WATCH_TOKENS + place);
        }
        self.service.decide_lessors(world.choices().apart(LESSOR_LABEL));
        if self.grammar.uses_leases {
            self.keepers = Keepers::draw(world.choices().apart(KEEP_LABEL));
        }
        for place in 0..self.keepers.len() {
            world.set_timer(self.keepers.pause(place), KEEP_TOKENS + place as u64);
        }
    }

    fn turn(&mut self, world: &mut World<StoreApplication>) -> Result<(), Violation> {
        self.follow(world)?;
        if self.finished {
            self.standing = world.standing_members();
        }
        let mut ended = Vec::new();
        while let Some(happened) = world.happened() {
            if let Happened::Started { member } = happened {
                self.service.started(world, member);
                continue;
            }
            let token = self.service.happened(happened, &mut ended);
            for id in ended.drain(..) {
                self.watchers.lost(id);
                self.keepers.lost(id);
                self.unanswered(world, id, Outcome::Lost);
            }
            token.into_iter().for_each(|token| self.timer(world, token));
        }
        let mut became = std::mem::take(&mut self.became);
        let mut told = std::mem::take(&mut self.told);
        let wake_us = self.service.turn(world, &mut self.choices, &mut became, &mut told);
        for ordered in self.service.take_ordered() {
            self.oracle.ordered(ordered);
        }
        for (id, told) in told.drain(..) {
            self.keepers.told(id, &told, world.now_us())?;
            self.watchers.told(id, told, &mut self.grammar, &mut self.oracle)?;
        }
        self.told = told;
        for (id, became) in became.drain(..) {
            match became {
                Became::Proposed(origin) => self.oracle.proposed(id, origin)?,
                Became::Answered(answered) => {
                    let now_us = world.now_us();
                    if !self.keepers.answered(id, &answered, &self.oracle, now_us)? {
                        self.answered(world, id, &answered)?;
                    }
                }
                Became::Lost => {
                    self.keepers.lost(id);
                    self.unanswered(world, id, Outcome::Lost);
                }
            }
        }
        self.became = became;
        for (origin, caller) in self.service.take_enclosed() {
            self.oracle.enclosed(origin, caller)?;
        }
        self.keepers.look(world, &self.service)?;
        if let Some(wake_us) = wake_us
            && (self.wakes_at_us == 0 || wake_us < self.wakes_at_us)
        {
            self.wakes_at_us = wake_us;
            world.set_timer(wake_us.saturating_sub(world.now_us()), CLOCK_TOKEN);
        }
        Ok(())
    }

    fn have_enough(&self) -> bool {
        self.options.requests_max <= self.answered
    }

    fn finish(&mut self) {
        self.finished = true;
        self.watchers.finish();
        self.keepers.finish(&mut self.service);
    }

    /// Nobody waits, what was alarming is over, and whoever watches knows all.
    fn is_idle(&self) -> bool {
        self.service.is_idle()
            && !self.oracle.model().is_alarmed()
            && self.keepers.are_done()
            && self.watchers.are_told_all(&self.standing, &self.oracle)
    }

    /// Refusals by the API included.
    fn requests(&self) -> u64 {
        self.answered
    }

    /// All members hold what the model does, now and at past revisions.
    fn judge(&mut self, world: &mut World<StoreApplication>) -> Result<(), Violation> {
        self.follow(world)?;
        self.coverage.saw(self.watchers.figures());
        self.coverage.saw(self.keepers.figures());
        let now = self.oracle.model().now();
        let oldest = now.compacted.max(1);
        let step = ((now.revision - oldest) / PAST_REVISIONS).max(1) as usize;
        let past = (oldest..=now.revision).step_by(step);
        let past: Vec<i64> = past.chain([now.revision]).collect();
        let mut first_hash = None;
        for member in world.standing_members() {
            let machine = world.machine(member).expect("all have settled, so all live");
            let shared = machine.shared().clone();
            // A row that only a damaged engine has is refused, and not made up.
            let damaged = world.ledger().is_marked(member);
            let hash = shared.hash_kv(0);
            let unreadable = damaged && hash == Err(KvError::Corrupt);
            let first = if unreadable { hash } else { *first_hash.get_or_insert(hash) };
            let numbers = hash.map(|hash| (hash.revision, hash.compact_revision));
            let right = hash == first && numbers == Ok((now.revision, now.compacted));
            if !right && !unreadable {
                return Err(Violation {
                    invariant: "members hash to the same",
                    seen: format!("{member} has {hash:?}, the first {first:?}, the model {now:?}"),
                });
            }
            let leases = shared.read().leases();
            let leases: BTreeMap<i64, HeldLease> = leases.iter().map(held).collect();
            if leases != *self.oracle.model().leases() {
                return Err(Violation {
                    invariant: "members know the same leases",
                    seen: format!(
                        "{member} has {leases:?}, not {:?}",
                        self.oracle.model().leases()
                    ),
                });
            }
            let users = users_of(shared.read().auth());
            if users != *self.oracle.model().users_at(now) {
                return Err(Violation {
                    invariant: "members know the same users",
                    seen: format!(
                        "{member} has {users:?}, not {:?}",
                        self.oracle.model().users_at(now)
                    ),
                });
            }
            for revision in past.iter().copied() {
                let expected = self.oracle.model().contents(now, revision);
                let found = contents(&shared, revision).map_err(ApiError::from);
                let expected = expected.map(|kvs| (now.revision, kvs));
                if expected != found && !(damaged && found == Err(ApiError::Corrupt)) {
                    return Err(Violation {
                        invariant: "members hold what the log has made of them",
                        seen: format!(
                            "at revision {revision} member {member} holds {found:?}, the model \
                             {expected:?}"
                        ),
                    });
                }
            }
        }
        Ok(())
    }
}
