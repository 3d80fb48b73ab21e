//! Clients of the store: they put, read, delete, compare and compact on all members, and keep the
//! history that the checkers judge.
//!
//! A client whose request may or may not have happened never asks for the same again: the request
//! stays open in the history, and the client goes on under another number.

use std::collections::BTreeMap;

use bytes::Bytes;
use jangada_kv::{
    Answer as StoreAnswer, COMMAND_VERSION, Command, Compare, CompareResult, CompareTarget,
    DeleteRangeRequest, KeyValue, KvError, PutRequest, RangeRequest, Reply, RequestOp, ResponseOp,
    Shared, TxnRequest, TxnResponse,
};
use jangada_raft::NodeId;

use crate::application::desk::{Answer, Desk};
use crate::application::store::{StoreApplication, encode};
use crate::history::{
    Action, Change, Consistency, Contents, Found, Guard, History, Operation, OperationId, Outcome,
};
use crate::invariants::Violation;
use crate::linearizability::by_revision::{self, Summary};
use crate::linearizability::online::{self, Online};
use crate::linearizability::{self, Fault};
use crate::run::Clients;
use crate::world::World;

/// How long a client waits before it turns to another member, in microseconds.
const BACK_OFF_US: (u64, u64) = (1_000, 200_000);

/// How many revisions stay readable behind a compaction at least.
const KEPT_REVISIONS: i64 = 20;

/// Who judges the history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Judges {
    /// The store's own revisions give the order: linear time, for any history.
    ByRevision,
    /// Also the search for any order that fits, which believes no revision. Its time rises steeply
    /// with the history: for a few hundred operations.
    ByRevisionAndSearch,
}

/// What the clients do.
#[derive(Clone, Debug)]
pub struct StoreLoad {
    /// How many clients there are, each with one request at a time.
    pub clients: u64,
    /// How many keys they share.
    pub keys: u64,
    /// How long a client thinks between an answer and its next request at most, in microseconds.
    pub think_us_max: u64,
    /// Of a hundred requests, how many are puts; the rest is a mixture of all others.
    pub puts_of_hundred: u64,
    /// After so many acknowledged puts the clients have had enough.
    pub puts_max: u64,
    /// Who judges the history.
    pub judges: Judges,
}

impl Default for StoreLoad {
    fn default() -> StoreLoad {
        StoreLoad {
            clients: 6,
            keys: 12,
            think_us_max: 20_000,
            puts_of_hundred: 40,
            puts_max: u64::MAX,
            judges: Judges::ByRevision,
        }
    }
}

/// A request under way.
#[derive(Clone, Debug)]
enum Asked {
    Write { place: u64, id: OperationId },
    Read { place: u64, id: OperationId, keys: Vec<Bytes> },
    Compaction { place: u64 },
}

impl Asked {
    fn place(&self) -> u64 {
        match self {
            Asked::Write { place, .. }
            | Asked::Read { place, .. }
            | Asked::Compaction { place } => *place,
        }
    }
}

/// The clients.
pub struct StoreClients {
    load: StoreLoad,
    desk: Desk<Asked>,
    history: History,
    /// Judges the history while it comes into being.
    online: Online,
    /// Whose command it is that the log names by its origin.
    asked_by: BTreeMap<(u64, u64), OperationId>,
    /// The number under which the client in each place asks.
    numbers: Vec<u32>,
    numbers_used: u32,
    values_used: u64,
    /// What the clients have seen keys hold, to compare with.
    seen: BTreeMap<Bytes, Bytes>,
    puts: u64,
    reads: u64,
    compactions: u64,
    /// Up to which revision the store's past has been looked at.
    observed_to: i64,
    summary: Option<Summary>,
    finished: bool,
    /// What a read that was answered at once was answered wrongly.
    misread: Option<Violation>,
}

fn key(number: u64) -> Bytes {
    format!("key-{number:02}").into()
}

fn range_of_all() -> RangeRequest {
    RangeRequest {
        key: Bytes::from_static(b"key-"),
        range_end: "key.".into(),
        ..Default::default()
    }
}

fn range_of(key: &Bytes) -> RangeRequest {
    RangeRequest { key: key.clone(), ..RangeRequest::default() }
}

fn found(kv: &KeyValue) -> Found {
    Found {
        value: kv.value.clone(),
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
    }
}

fn compare(guard: &Guard) -> Compare {
    let target = match &guard.expected {
        Some(value) => CompareTarget::Value(value.clone()),
        None => CompareTarget::Create(0),
    };
    let result = CompareResult::Equal;
    Compare { result, target, key: guard.key.clone(), range_end: Bytes::new() }
}

/// The command of a write: the plainest one that says it.
fn command(guards: &[Guard], puts: &[(Bytes, Bytes)], deletes: &[Bytes]) -> Command {
    let put = |(key, value): &(Bytes, Bytes)| PutRequest {
        key: key.clone(),
        value: value.clone(),
        ..PutRequest::default()
    };
    let delete = |key: &Bytes| DeleteRangeRequest { key: key.clone(), ..Default::default() };
    match (guards, puts, deletes) {
        ([], [one], []) => Command::Put(put(one)),
        ([], [], [one]) => Command::DeleteRange(delete(one)),
        _ => {
            let puts = puts.iter().map(|pair| RequestOp::Put(put(pair)));
            let deletes = deletes.iter().map(|key| RequestOp::DeleteRange(delete(key)));
            Command::Txn(TxnRequest {
                compare: guards.iter().map(compare).collect(),
                success: puts.chain(deletes).collect(),
                failure: Vec::new(),
            })
        }
    }
}

fn written(reply: &Reply) -> Outcome {
    let revision = reply.revision;
    match &reply.result {
        Ok(StoreAnswer::DeleteRange(response)) => {
            Outcome::Written { revision, succeeded: true, deleted: response.deleted }
        }
        Ok(StoreAnswer::Txn(TxnResponse { succeeded, responses })) => {
            let deleted = responses.iter().map(|response| match response {
                ResponseOp::DeleteRange(response) => response.deleted,
                _ => 0,
            });
            Outcome::Written { revision, succeeded: *succeeded, deleted: deleted.sum() }
        }
        Ok(_) => Outcome::Written { revision, succeeded: true, deleted: 0 },
        Err(_) => Outcome::Refused,
    }
}

/// Reads the keys at one moment.
fn read(shared: &Shared, keys: &[Bytes]) -> Result<Outcome, KvError> {
    if let [key] = keys {
        let (revision, response) = shared.range(&range_of(key));
        let found = vec![response?.kvs.first().map(found)];
        return Ok(Outcome::Read { revision, found });
    }
    let success = keys.iter().map(|key| RequestOp::Range(range_of(key))).collect();
    let request = TxnRequest { success, ..TxnRequest::default() };
    let (revision, response) = shared.txn_read(&request);
    let answers = response?.responses.into_iter().map(|response| match response {
        ResponseOp::Range(response) => response.kvs.first().map(found),
        other => panic!("a read is answered by {other:?}"),
    });
    Ok(Outcome::Read { revision, found: answers.collect() })
}

/// The keys that exist at a revision.
fn keys_at(shared: &Shared, revision: i64) -> Result<BTreeMap<Bytes, KeyValue>, KvError> {
    let request = RangeRequest { revision, ..range_of_all() };
    let kvs = shared.range(&request).1?.kvs;
    Ok(kvs.into_iter().map(|kv| (kv.key.clone(), kv)).collect())
}

impl StoreClients {
    /// Clients with this load.
    #[must_use]
    pub fn new(load: StoreLoad) -> StoreClients {
        StoreClients {
            numbers: (0..load.clients as u32).collect(),
            numbers_used: load.clients as u32,
            load,
            desk: Desk::new(),
            history: History::new(1),
            online: Online::new(1),
            asked_by: BTreeMap::new(),
            values_used: 0,
            seen: BTreeMap::new(),
            puts: 0,
            reads: 0,
            compactions: 0,
            observed_to: 1,
            summary: None,
            finished: false,
            misread: None,
        }
    }

    /// How many plain puts were acknowledged.
    #[must_use]
    pub fn puts(&self) -> u64 {
        self.puts
    }

    /// How many reads were answered.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.reads
    }

    /// How many compactions were answered.
    #[must_use]
    pub fn compactions(&self) -> u64 {
        self.compactions
    }

    /// What the history contained, once it has been judged.
    #[must_use]
    pub fn summary(&self) -> Option<&Summary> {
        self.summary.as_ref()
    }

    /// What the clients saw.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.history
    }

    fn pause(&self, world: &mut World<StoreApplication>, place: u64, range: (u64, u64)) {
        let after = world.choices().between(range.0, range.1);
        world.set_timer(after, place);
    }

    fn think(&self, world: &mut World<StoreApplication>, place: u64) {
        self.pause(world, place, (0, self.load.think_us_max));
    }

    /// The client of this place does not know what became of its request.
    fn give_up(&mut self, world: &mut World<StoreApplication>, place: u64) {
        self.numbers[place as usize] = self.numbers_used;
        self.numbers_used += 1;
        self.pause(world, place, BACK_OFF_US);
    }

    fn any_key(&self, world: &mut World<StoreApplication>) -> Bytes {
        // Some keys are more popular than others.
        let bound = world.choices().between(1, self.load.keys);
        key(world.choices().below(bound))
    }

    fn fresh_value(&mut self, world: &mut World<StoreApplication>) -> Bytes {
        self.values_used += 1;
        let mut value = format!("value-{}-", self.values_used).into_bytes();
        let bytes = if world.choices().below(32) == 0 { 6_000 } else { 64 };
        value.resize(bytes, b'.');
        value.into()
    }

    fn ask(&mut self, world: &mut World<StoreApplication>, place: u64) {
        if self.finished {
            return;
        }
        let members = world.members();
        let member = *world.choices().pick(&members);
        if world.choices().below(100) < self.load.puts_of_hundred {
            let action = Action::put(self.any_key(world), self.fresh_value(world));
            return self.write(world, place, member, action);
        }
        match world.choices().below(20) {
            0..=5 => self.read(world, place, member, 1, Consistency::Linearizable),
            6..=7 => self.read(world, place, member, 3, Consistency::Linearizable),
            8..=9 => self.read(world, place, member, 2, Consistency::Serializable),
            10..=12 => {
                let action = Action::delete(self.any_key(world));
                self.write(world, place, member, action);
            }
            13..=16 => {
                let key = self.any_key(world);
                let expected = self.seen.get(&key).cloned();
                let action = Action::compare_and_set(key, expected, self.fresh_value(world));
                self.write(world, place, member, action);
            }
            17..=18 => {
                let action = self.any_transaction(world);
                self.write(world, place, member, action);
            }
            _ => self.compact(world, place, member),
        }
    }

    fn any_transaction(&mut self, world: &mut World<StoreApplication>) -> Action {
        let mut keys: Vec<Bytes> = (0..4).map(|_| self.any_key(world)).collect();
        keys.sort();
        keys.dedup();
        let guard = keys[0].clone();
        let expected = self.seen.get(&guard).cloned();
        let guards = vec![Guard { key: guard, expected }];
        let deletes = keys.split_off(keys.len().min(2));
        let puts = keys.into_iter().map(|key| (key, self.fresh_value(world))).collect();
        Action::Write { guards, puts, deletes }
    }

    fn write(
        &mut self,
        world: &mut World<StoreApplication>,
        place: u64,
        member: NodeId,
        action: Action,
    ) {
        let Action::Write { guards, puts, deletes } = &action else { return };
        let payload = encode(&command(guards, puts, deletes));
        let Some(origin) = world.propose(member, &payload, COMMAND_VERSION) else {
            return self.pause(world, place, BACK_OFF_US);
        };
        let id = self.invoked(self.numbers[place as usize], world.now_us(), action);
        self.asked_by.insert((origin.incarnation, origin.sequence), id);
        self.desk.proposed(origin, Asked::Write { place, id });
    }

    fn read(
        &mut self,
        world: &mut World<StoreApplication>,
        place: u64,
        member: NodeId,
        count: u64,
        consistency: Consistency,
    ) {
        let mut keys: Vec<Bytes> = (0..count).map(|_| self.any_key(world)).collect();
        keys.sort();
        keys.dedup();
        let (client, now_us) = (self.numbers[place as usize], world.now_us());
        if consistency == Consistency::Serializable {
            let Some(machine) = world.machine(member) else {
                return self.pause(world, place, BACK_OFF_US);
            };
            if let Ok(outcome) = read(machine.shared(), &keys) {
                let action = Action::Read { keys, consistency };
                let id = self.invoked(client, now_us, action);
                let judged = self.returned(id, now_us, outcome);
                self.misread = self.misread.take().or(judged.err());
            }
            return self.think(world, place);
        }
        let Some(batch) = world.read(member) else {
            return self.pause(world, place, BACK_OFF_US);
        };
        let action = Action::Read { keys: keys.clone(), consistency };
        let id = self.invoked(client, now_us, action);
        self.desk.reads(member, batch, Asked::Read { place, id, keys });
    }

    /// Asks for a compaction, having looked at the past that it removes.
    fn compact(&mut self, world: &mut World<StoreApplication>, place: u64, member: NodeId) {
        let Some(machine) = world.machine(member) else {
            return self.pause(world, place, BACK_OFF_US);
        };
        let shared = machine.shared().clone();
        let revision = shared.read().revision() - KEPT_REVISIONS;
        if revision <= shared.read().compact_revision().max(1) {
            return self.think(world, place);
        }
        if self.observe(&shared, revision).is_err() {
            return self.think(world, place);
        }
        let payload = encode(&Command::Compact { revision, physical: false });
        match world.propose(member, &payload, COMMAND_VERSION) {
            Some(origin) => self.desk.proposed(origin, Asked::Compaction { place }),
            None => self.pause(world, place, BACK_OFF_US),
        }
    }

    /// Notes what the store shows of each revision up to this one.
    fn observe(&mut self, shared: &Shared, revision: i64) -> Result<(), KvError> {
        if revision <= self.observed_to {
            return Ok(());
        }
        let mut before = keys_at(shared, self.observed_to)?;
        for revision in self.observed_to + 1..=revision {
            let after = keys_at(shared, revision)?;
            let puts = after.values().filter(|kv| kv.mod_revision == revision);
            let mut changes: Vec<Change> = puts
                .map(|kv| Change { key: kv.key.clone(), value: Some(kv.value.clone()) })
                .collect();
            let gone = before.keys().filter(|key| !after.contains_key(*key));
            changes.extend(gone.map(|key| Change { key: key.clone(), value: None }));
            self.history.observed.insert(revision, changes);
            self.observed_to = revision;
            before = after;
        }
        Ok(())
    }

    fn answered(
        &mut self,
        world: &mut World<StoreApplication>,
        answer: Answer<Asked, Reply>,
    ) -> Result<(), Violation> {
        let now_us = world.now_us();
        match answer {
            Answer::Replied(Asked::Write { place, id }, reply) => {
                self.wrote(id, now_us, &reply)?;
                self.think(world, place);
            }
            Answer::Replied(Asked::Compaction { place }, _) => {
                self.compactions += 1;
                self.think(world, place);
            }
            Answer::ReadReady(Asked::Read { place, id, keys }, member) => {
                let machine = world.machine(member);
                let outcome = machine.map(|machine| read(machine.shared(), &keys));
                if let Some(Ok(outcome)) = outcome {
                    self.remember(&keys, &outcome);
                    self.returned(id, now_us, outcome)?;
                    self.reads += 1;
                    self.think(world, place);
                } else {
                    self.returned(id, now_us, Outcome::Unknown)?;
                    self.give_up(world, place);
                }
            }
            Answer::Refused(Asked::Write { place, id }) => {
                self.returned(id, now_us, Outcome::Refused)?;
                self.pause(world, place, BACK_OFF_US);
            }
            Answer::Refused(asked) | Answer::Doubtful(asked) | Answer::ReadFailed(asked) => {
                if let Asked::Write { id, .. } | Asked::Read { id, .. } = &asked {
                    self.returned(*id, now_us, Outcome::Unknown)?;
                }
                self.give_up(world, asked.place());
            }
            Answer::Replied(Asked::Read { .. }, _) | Answer::ReadReady(..) => {
                unreachable!("a read is answered as a read, and a write as a write")
            }
            Answer::Timer(place) => self.ask(world, place),
        }
        Ok(())
    }

    fn invoked(&mut self, client: u32, now_us: u64, action: Action) -> OperationId {
        let id = self.history.invoked(client, now_us, action.clone());
        self.online.invoked(id.position() as u64, action);
        id
    }

    fn returned(
        &mut self,
        id: OperationId,
        now_us: u64,
        outcome: Outcome,
    ) -> Result<(), Violation> {
        self.online.returned(id.position() as u64, &outcome).map_err(unfit)?;
        self.history.returned(id, now_us, outcome);
        Ok(())
    }

    /// Tells the judge what the log has decided since.
    fn hear_log(&mut self, world: &mut World<StoreApplication>) -> Result<(), Violation> {
        while let Some(command) = world.new_command() {
            let origin = (command.origin.incarnation, command.origin.sequence);
            if let Some(id) = self.asked_by.remove(&origin) {
                self.online.applied(id.position() as u64).map_err(unfit)?;
            }
        }
        Ok(())
    }

    fn wrote(&mut self, id: OperationId, now_us: u64, reply: &Reply) -> Result<(), Violation> {
        let outcome = written(reply);
        if outcome == Outcome::Refused {
            return Err(Violation {
                invariant: "a sound request is not refused",
                seen: format!("{reply:?}"),
            });
        }
        if matches!(reply.result, Ok(StoreAnswer::Put(_))) {
            self.puts += 1;
        }
        self.returned(id, now_us, outcome)
    }

    fn remember(&mut self, keys: &[Bytes], outcome: &Outcome) {
        let Outcome::Read { found, .. } = outcome else { return };
        for (key, found) in keys.iter().zip(found) {
            match found {
                Some(found) => self.seen.insert(key.clone(), found.value.clone()),
                None => self.seen.remove(key),
            };
        }
    }

    /// What a member holds.
    fn contents(shared: &Shared) -> Result<Contents, KvError> {
        let (revision, response) = shared.range(&range_of_all());
        let keys = response?.kvs.iter().map(|kv| (kv.key.clone(), found(kv))).collect();
        Ok(Contents { revision, keys })
    }
}

fn unfit(violation: online::Violation) -> Violation {
    Violation { invariant: "the history is linearizable", seen: violation.to_string() }
}

fn unreadable(error: KvError) -> Violation {
    Violation { invariant: "the store can be read at the end", seen: format!("{error:?}") }
}

impl Clients<StoreApplication> for StoreClients {
    fn begin(&mut self, world: &mut World<StoreApplication>) {
        world.watch_commands();
        for place in 0..self.load.clients {
            self.pause(world, place, BACK_OFF_US);
        }
    }

    fn turn(&mut self, world: &mut World<StoreApplication>) -> Result<(), Violation> {
        self.hear_log(world)?;
        while let Some(happened) = world.happened() {
            for answer in self.desk.sort(happened) {
                self.answered(world, answer)?;
            }
        }
        self.misread.take().map_or(Ok(()), Err)
    }

    fn have_enough(&self) -> bool {
        self.load.puts_max <= self.puts
    }

    fn requests(&self) -> u64 {
        let answered = |operation: &&Operation| operation.outcome != Outcome::Unknown;
        self.history.operations.iter().filter(answered).count() as u64 + self.compactions
    }

    fn finish(&mut self) {
        self.finished = true;
    }

    fn is_idle(&self) -> bool {
        self.desk.is_empty()
    }

    fn judge(&mut self, world: &mut World<StoreApplication>) -> Result<(), Violation> {
        let mut first: Option<Contents> = None;
        for member in world.standing_members() {
            let machine = world.machine(member).expect("all have settled, so all live");
            let shared = machine.shared().clone();
            let contents = StoreClients::contents(&shared).map_err(unreadable)?;
            if first.as_ref().is_some_and(|first| *first != contents) {
                return Err(Violation {
                    invariant: "members converge",
                    seen: format!("member {member} holds {contents:?}, the first {first:?}"),
                });
            }
            if first.is_none() {
                self.observe(&shared, contents.revision).map_err(unreadable)?;
                first = Some(contents);
            }
        }
        self.history.contents = first.unwrap_or_default();
        self.online.ends(&self.history.contents).map_err(unfit)?;
        let summary = match self.load.judges {
            Judges::ByRevision => by_revision::check(&self.history).map_err(Fault::ByRevision),
            Judges::ByRevisionAndSearch => {
                linearizability::check(&self.history).map(|approval| approval.summary)
            }
        };
        self.summary = Some(summary.map_err(|fault| Violation {
            invariant: "the history is linearizable",
            seen: fault.to_string(),
        })?);
        Ok(())
    }
}
