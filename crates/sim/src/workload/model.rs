//! What the store should answer: a second store, as plain as can be.
//!
//! Responsible for the meaning of every request on a store that holds the effects of the log up to
//! some entry. Written from etcd's documentation and rules, and shares no code with `jangada_kv`: all
//! versions of a key stand in one list, and a look at a moment is a search through it. Not
//! responsible for refusals that need no store ([`super::rules`]), for headers beyond the revision,
//! nor for who may see which moment ([`super::oracle`]).
//!
//! 1. The moments' indexes and revisions only rise.
//! 2. Whatever a moment that is kept may be asked for is still in the lists.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use jangada_kv::{LeaseCommand, LeaseName};
use jangada_raft::Index;
use jangada_server::errors::ApiError;
use jangada_server::proto::etcdserverpb as pb;
use jangada_server::proto::mvccpb::KeyValue;
use pb::request_op::Request as Op;
use pb::response_op::Response as OpResponse;

use super::events::{Event, Events};
use super::request::Request;
use super::users::{Caller, Change, Needs, Users};

/// A key as one change left it.
#[derive(Clone, PartialEq, Debug)]
struct Version {
    /// The change's revision.
    revision: i64,
    /// `None` for a deletion.
    kept: Option<KeyValue>,
}

/// What the log's entries up to one have made of the store's numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    /// The entry; the moment lasts until the next one's.
    pub index: Index,
    /// The store's revision.
    pub revision: i64,
    /// The revision that was compacted last; -1 for none.
    pub compacted: i64,
    /// How often the alarms that are raised had changed.
    alarms: usize,
    /// How often leases had come or gone.
    leases: usize,
    /// How often users had changed.
    users: usize,
}

/// The answer to a request, as the API has it. Headers hold the revision and nothing else.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs, reason = "each is the answer to the request of its name")]
pub enum Answer {
    Range(pb::RangeResponse),
    Put(pb::PutResponse),
    DeleteRange(pb::DeleteRangeResponse),
    Txn(pb::TxnResponse),
    Compact(pb::CompactionResponse),
    MemberList(pb::MemberListResponse),
    Alarm(pb::AlarmResponse),
    LeaseGrant(pb::LeaseGrantResponse),
    LeaseRevoke(pb::LeaseRevokeResponse),
    LeaseLeases(pb::LeaseLeasesResponse),
    Auth(pb::AuthEnableResponse),
}

/// What a request comes to.
pub type Expected = Result<Answer, ApiError>;

/// The store.
#[derive(Clone, Debug)]
pub struct Model {
    keys: BTreeMap<Bytes, Vec<Version>>,
    moments: VecDeque<Moment>,
    /// The alarms that were raised, each the member and its kind, after each change of them.
    alarms: Vec<Alarms>,
    /// The ids of the leases that there are, after each change of them.
    leases: Vec<BTreeSet<i64>>,
    /// What there is to know of those that there are.
    held: BTreeMap<i64, HeldLease>,
    /// The users, after each change of them.
    users: Vec<Users>,
    events: Events,
}

/// A lease, as members are to know it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeldLease {
    /// The entry that granted it.
    pub granted: Index,
    /// For how many seconds it was granted.
    pub ttl: i64,
    /// The seconds that a new leader counts from.
    pub remaining: i64,
}

/// What an entry of a lessor's has come to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Carried {
    /// The leases that it ended.
    pub ended: Vec<(i64, HeldLease)>,
    /// Of how many it has noted what remains.
    pub noted: u64,
}

/// The shortest time that the simulated servers grant a lease for, in seconds.
pub const LEASE_TTL_MIN: i64 = 2;

/// Alarms that are raised, in the order in which they are listed: by kind, then by member.
type Alarms = BTreeSet<(i32, u64)>;

/// A look at the store.
#[derive(Clone, Copy)]
struct View<'a> {
    keys: &'a BTreeMap<Bytes, Vec<Version>>,
    /// The newest revision that is seen.
    revision: i64,
    compacted: i64,
    leases: &'a BTreeSet<i64>,
}

fn header(revision: i64) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader { revision, ..pb::ResponseHeader::default() })
}

/// A list of alarms.
fn listed<'a>(moment: Moment, alarms: impl Iterator<Item = &'a (i32, u64)>) -> Answer {
    let alarm = |(alarm, member_id): &(i32, u64)| {
        let (alarm, member_id) = (*alarm, *member_id);
        pb::AlarmMember { member_id, alarm }
    };
    let alarms = alarms.map(alarm).collect();
    Answer::Alarm(pb::AlarmResponse { header: header(moment.revision), alarms })
}

/// Whether a transaction may put something, whichever way it goes.
fn puts(txn: &pb::TxnRequest) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| match &op.request {
        Some(Op::RequestPut(_)) => true,
        Some(Op::RequestTxn(txn)) => puts(txn),
        _ => false,
    })
}

/// Whether a key lies in `[key, range_end)` as requests name it.
pub(super) fn contains(start: &Bytes, end: &Bytes, key: &Bytes) -> bool {
    match end.as_ref() {
        b"" => key == start,
        b"\0" => start <= key,
        _ => start <= key && key < end,
    }
}

impl<'a> View<'a> {
    /// A key at a revision.
    fn get(self, key: &Bytes, revision: i64) -> Option<&'a KeyValue> {
        let versions = self.keys.get(key)?;
        let newer = versions.partition_point(|version| version.revision <= revision);
        versions[..newer].last()?.kept.as_ref()
    }

    /// The keys of an interval that exist at a revision, in order.
    fn interval(self, start: &Bytes, end: &Bytes, revision: i64) -> Vec<&'a KeyValue> {
        if end.is_empty() {
            return self.get(start, revision).into_iter().collect();
        }
        let from_start = self.keys.range(start.clone()..).map(|(key, _)| key);
        let inside = from_start.take_while(|key| contains(start, end, key));
        inside.filter_map(|key| self.get(key, revision)).collect()
    }

    /// The keys that were put with a lease last, in order.
    fn keys_with(self, lease: i64) -> Vec<Bytes> {
        let all = Bytes::from_static(b"\0");
        let found = self.interval(&all, &all, self.revision).into_iter();
        found.filter(|kv| kv.lease == lease).map(|kv| kv.key.clone()).collect()
    }

    fn range(self, range: &pb::RangeRequest) -> Result<pb::RangeResponse, ApiError> {
        let revision = if range.revision <= 0 { self.revision } else { range.revision };
        if self.revision < revision {
            return Err(ApiError::FutureRevision);
        }
        if revision < self.compacted {
            return Err(ApiError::Compacted);
        }
        let mut kvs = self.interval(&range.key, &range.range_end, revision);
        let count = kvs.len() as i64;
        let header = header(self.revision);
        if range.count_only {
            return Ok(pb::RangeResponse { header, count, ..pb::RangeResponse::default() });
        }
        let limit = usize::try_from(range.limit).ok().filter(|limit| 0 < *limit);
        let bounds = [
            (range.min_mod_revision, range.max_mod_revision),
            (range.min_create_revision, range.max_create_revision),
        ];
        let filtered = bounds != [(0, 0); 2];
        // etcd fetches no more than it needs when nothing says otherwise: one key beyond the limit,
        // and only those are sorted by a target without an order.
        if let Some(limit) = limit
            && range.sort_order == 0
            && !filtered
        {
            kvs.truncate(limit.saturating_add(1));
        }
        for (number, (min, max)) in [
            (KeyValue::mod_revision_of as fn(&KeyValue) -> i64, bounds[0]),
            (KeyValue::create_revision_of, bounds[1]),
        ] {
            kvs.retain(|kv| (min == 0 || min <= number(kv)) && (max == 0 || number(kv) <= max));
        }
        sort(range, &mut kvs);
        let more = limit.is_some_and(|limit| limit < kvs.len());
        kvs.truncate(limit.unwrap_or(usize::MAX));
        let mut kvs: Vec<KeyValue> = kvs.into_iter().cloned().collect();
        if range.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
        }
        Ok(pb::RangeResponse { header, kvs, more, count })
    }

    /// A condition holds for every key of its interval; an interval without keys counts as one key
    /// that is not there.
    fn holds(self, compare: &pb::Compare) -> bool {
        let kvs = self.interval(&compare.key, &compare.range_end, self.revision);
        if kvs.is_empty() {
            let is_value = compare.target == i32::from(pb::compare::CompareTarget::Value);
            return !is_value && relation(compare, &KeyValue::default());
        }
        kvs.into_iter().all(|kv| relation(compare, kv))
    }

    fn all_hold(self, txn: &pb::TxnRequest) -> bool {
        txn.compare.iter().all(|compare| self.holds(compare))
    }

    fn branch(self, txn: &pb::TxnRequest) -> &[pb::RequestOp] {
        if self.all_hold(txn) { &txn.success } else { &txn.failure }
    }

    /// What must be so before a transaction begins: first of all its puts, then of all its ranges.
    fn check_puts(self, txn: &pb::TxnRequest) -> Result<(), ApiError> {
        self.branch(txn).iter().try_for_each(|op| match &op.request {
            Some(Op::RequestPut(put)) => {
                let keeps = put.ignore_value || put.ignore_lease;
                if keeps && self.get(&put.key, self.revision).is_none() {
                    return Err(ApiError::KeyNotFound);
                }
                self.check_lease(put)
            }
            Some(Op::RequestTxn(txn)) => self.check_puts(txn),
            _ => Ok(()),
        })
    }

    /// A key is put with a lease that there is, or without one.
    fn check_lease(self, put: &pb::PutRequest) -> Result<(), ApiError> {
        let known = put.lease == 0 || self.leases.contains(&put.lease);
        if known { Ok(()) } else { Err(ApiError::LeaseNotFound) }
    }

    fn check_ranges(self, txn: &pb::TxnRequest) -> Result<(), ApiError> {
        self.branch(txn).iter().try_for_each(|op| match &op.request {
            Some(Op::RequestRange(range)) if range.revision != 0 => {
                if self.revision < range.revision {
                    return Err(ApiError::FutureRevision);
                }
                if range.revision < self.compacted { Err(ApiError::Compacted) } else { Ok(()) }
            }
            Some(Op::RequestTxn(txn)) => self.check_ranges(txn),
            _ => Ok(()),
        })
    }
}

/// Who may do what with the store as it is.
#[derive(Clone, Copy)]
struct Judge<'a> {
    view: View<'a>,
    users: &'a Users,
}

impl Judge<'_> {
    /// Judges an entry of the log. One that names nobody is a member's own, where members have any.
    fn entry(self, caller: Option<&Caller>, request: &Request) -> Result<(), ApiError> {
        if !self.users.enabled {
            return Ok(());
        }
        let nobody = Caller::default();
        let named = caller.unwrap_or(&nobody);
        match request {
            Request::Put(put) => self.put(named, put),
            Request::DeleteRange(delete) => self.delete(named, delete),
            Request::Txn(txn) => self.txn(named, txn),
            Request::LeaseGrant(_) => self.users.check(named, Needs::Known),
            Request::LeaseRevoke(revoke) => self.lease(named, revoke.id),
            Request::Auth(_) => self.users.check(named, Needs::Root),
            Request::Compact(_) | Request::Alarm(_) => {
                caller.map_or(Ok(()), |caller| self.users.check(caller, Needs::Root))
            }
            other => panic!("{other:?} goes into no log"),
        }
    }

    fn range(self, caller: &Caller, range: &pb::RangeRequest) -> Result<(), ApiError> {
        self.users.check_range(caller, false, &range.key, &range.range_end)
    }

    fn put(self, caller: &Caller, put: &pb::PutRequest) -> Result<(), ApiError> {
        let none = Bytes::new();
        self.users.check_range(caller, true, &put.key, &none)?;
        if put.lease != 0 {
            self.lease(caller, put.lease)?;
        }
        if put.prev_kv { self.users.check_range(caller, false, &put.key, &none) } else { Ok(()) }
    }

    fn delete(self, caller: &Caller, delete: &pb::DeleteRangeRequest) -> Result<(), ApiError> {
        self.users.check_range(caller, true, &delete.key, &delete.range_end)?;
        if delete.prev_kv {
            self.users.check_range(caller, false, &delete.key, &delete.range_end)?;
        }
        Ok(())
    }

    /// Whoever ends a lease, or puts a key with it, may write all its keys.
    fn lease(self, caller: &Caller, id: i64) -> Result<(), ApiError> {
        self.users.check(caller, Needs::Known)?;
        if self.users.check(caller, Needs::Root).is_ok() {
            return Ok(());
        }
        let none = Bytes::new();
        let keys = self.view.keys_with(id);
        keys.iter().try_for_each(|key| self.users.check_range(caller, true, key, &none))
    }

    /// All branches are judged, whichever is taken.
    fn txn(self, caller: &Caller, txn: &pb::TxnRequest) -> Result<(), ApiError> {
        for compare in &txn.compare {
            self.users.check_range(caller, false, &compare.key, &compare.range_end)?;
        }
        txn.success.iter().chain(&txn.failure).try_for_each(|op| match &op.request {
            Some(Op::RequestRange(range)) => self.range(caller, range),
            Some(Op::RequestPut(put)) => self.put(caller, put),
            Some(Op::RequestDeleteRange(delete)) => self.delete(caller, delete),
            Some(Op::RequestTxn(txn)) => self.txn(caller, txn),
            None => panic!("an operation that is not set is refused beforehand"),
        })
    }
}

/// What the bounds of a range look at.
trait Numbers {
    fn mod_revision_of(kv: &KeyValue) -> i64;
    fn create_revision_of(kv: &KeyValue) -> i64;
}

impl Numbers for KeyValue {
    fn mod_revision_of(kv: &KeyValue) -> i64 {
        kv.mod_revision
    }

    fn create_revision_of(kv: &KeyValue) -> i64 {
        kv.create_revision
    }
}

/// Keys that the target does not tell apart stay in their order.
fn sort(range: &pb::RangeRequest, kvs: &mut [&KeyValue]) {
    use pb::range_request::{SortOrder, SortTarget};
    match range.sort_target() {
        SortTarget::Key => kvs.sort_by(|a, b| a.key.cmp(&b.key)),
        SortTarget::Version => kvs.sort_by_key(|kv| kv.version),
        SortTarget::Create => kvs.sort_by_key(|kv| kv.create_revision),
        SortTarget::Mod => kvs.sort_by_key(|kv| kv.mod_revision),
        SortTarget::Value => kvs.sort_by(|a, b| a.value.cmp(&b.value)),
    }
    if range.sort_order() != SortOrder::Descend {
        return;
    }
    match range.sort_target() {
        SortTarget::Key => kvs.sort_by(|a, b| b.key.cmp(&a.key)),
        SortTarget::Version => kvs.sort_by_key(|kv| std::cmp::Reverse(kv.version)),
        SortTarget::Create => kvs.sort_by_key(|kv| std::cmp::Reverse(kv.create_revision)),
        SortTarget::Mod => kvs.sort_by_key(|kv| std::cmp::Reverse(kv.mod_revision)),
        SortTarget::Value => kvs.sort_by(|a, b| b.value.cmp(&a.value)),
    }
}

/// Whether one key relates to the operand as the condition wants it. An operand of another kind than
/// the target counts as zero or empty. A target that does not exist is equal to anything, a relation
/// that does not exist always holds.
fn relation(compare: &pb::Compare, kv: &KeyValue) -> bool {
    use pb::compare::{CompareResult, CompareTarget, TargetUnion};
    let operand = compare.target_union.as_ref();
    let number = |number: i64, same: fn(&TargetUnion) -> Option<i64>| {
        number.cmp(&operand.and_then(same).unwrap_or(0))
    };
    let order = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Version) => number(kv.version, |operand| match operand {
            TargetUnion::Version(number) => Some(*number),
            _ => None,
        }),
        Ok(CompareTarget::Create) => number(kv.create_revision, |operand| match operand {
            TargetUnion::CreateRevision(number) => Some(*number),
            _ => None,
        }),
        Ok(CompareTarget::Mod) => number(kv.mod_revision, |operand| match operand {
            TargetUnion::ModRevision(number) => Some(*number),
            _ => None,
        }),
        Ok(CompareTarget::Lease) => number(kv.lease, |operand| match operand {
            TargetUnion::Lease(number) => Some(*number),
            _ => None,
        }),
        Ok(CompareTarget::Value) => match operand {
            Some(TargetUnion::Value(value)) => kv.value.cmp(value),
            _ => kv.value.cmp(&Bytes::new()),
        },
        Err(_) => std::cmp::Ordering::Equal,
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => order.is_eq(),
        Ok(CompareResult::Greater) => order.is_gt(),
        Ok(CompareResult::Less) => order.is_lt(),
        Ok(CompareResult::NotEqual) => order.is_ne(),
        Err(_) => true,
    }
}

impl Default for Model {
    fn default() -> Model {
        Model::new()
    }
}

impl Model {
    /// An empty store.
    #[must_use]
    pub fn new() -> Model {
        let first =
            Moment { index: Index(0), revision: 1, compacted: -1, alarms: 0, leases: 0, users: 0 };
        let (keys, moments) = (BTreeMap::new(), VecDeque::from([first]));
        let (alarms, leases) = (vec![Alarms::new()], vec![BTreeSet::new()]);
        let (held, events) = (BTreeMap::new(), Events::default());
        let users = vec![Users::default()];
        Model { keys, moments, alarms, leases, held, users, events }
    }

    /// The newest moment.
    #[must_use]
    pub fn now(&self) -> Moment {
        *self.moments.back().expect("there is always a moment")
    }

    /// What happened, as watchers are told it.
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// The revision of the store that holds the effects of the log up to an entry; `None` if that is no
    /// longer known.
    #[must_use]
    pub fn revision_at(&self, index: Index) -> Option<i64> {
        self.moments(index, index)?.next().map(|moment| moment.revision)
    }

    /// The entry that has made a revision; `None` if that is no longer known.
    #[must_use]
    pub fn index_of(&self, revision: i64) -> Option<Index> {
        let at = self.moments.partition_point(|moment| moment.revision < revision);
        let moment = self.moments.get(at)?;
        // An entry that ends several leases makes several revisions.
        (moment.revision == revision || 0 < at).then_some(moment.index)
    }

    /// The moments that an observer who stands somewhere in `first..=last` of the log may see; `None`
    /// if they are no longer kept.
    pub fn moments(&self, first: Index, last: Index) -> Option<impl Iterator<Item = Moment>> {
        let from = self.moments.partition_point(|moment| moment.index <= first).checked_sub(1)?;
        Some(self.moments.range(from..).take_while(move |moment| moment.index <= last).copied())
    }

    /// How many versions and moments are kept.
    #[must_use]
    pub fn kept(&self) -> (usize, usize) {
        (self.keys.values().map(Vec::len).sum(), self.moments.len())
    }

    fn view(&self, moment: Moment) -> View<'_> {
        View {
            keys: &self.keys,
            revision: moment.revision,
            compacted: moment.compacted,
            leases: &self.leases[moment.leases],
        }
    }

    /// Everything that exists at a moment, as a range of all keys at a revision.
    ///
    /// # Errors
    /// As the store.
    pub fn contents(&self, moment: Moment, revision: i64) -> Result<Vec<KeyValue>, ApiError> {
        let (key, range_end) = (Bytes::from_static(b"\0"), Bytes::from_static(b"\0"));
        let range = pb::RangeRequest { key, range_end, revision, ..Default::default() };
        self.view(moment).range(&range).map(|response| response.kvs)
    }

    /// The answer to a request that goes into no log, at a moment, of somebody of this name.
    ///
    /// # Panics
    /// If the request is one that goes into the log.
    pub fn read(&self, request: &Request, moment: Moment, name: Option<&str>) -> Expected {
        let view = self.view(moment);
        let caller = self.users_at(moment).caller(name);
        match request {
            Request::Range(range) => {
                self.judge(moment).range(&caller, range)?;
                view.range(range).map(Answer::Range)
            }
            Request::Txn(txn) => {
                self.judge(moment).txn(&caller, txn)?;
                view.check_ranges(txn)?;
                let responses = view.branch(txn).iter().map(|op| match &op.request {
                    Some(Op::RequestRange(range)) => Ok(pb::ResponseOp {
                        response: Some(OpResponse::ResponseRange(view.range(range)?)),
                    }),
                    other => panic!("{other:?} is no read"),
                });
                Ok(Answer::Txn(pb::TxnResponse {
                    header: header(moment.revision),
                    succeeded: view.all_hold(txn),
                    responses: responses.collect::<Result<_, ApiError>>()?,
                }))
            }
            Request::Alarm(alarm) => {
                let wanted = |(kind, member): &&(i32, u64)| {
                    alarm.action == 0
                        && (alarm.alarm == 0 || alarm.alarm == *kind)
                        && (alarm.member_id == 0 || alarm.member_id == *member)
                };
                Ok(listed(moment, self.alarms[moment.alarms].iter().filter(wanted)))
            }
            Request::LeaseLeases => {
                let leases = view.leases.iter().map(|id| pb::LeaseStatus { id: *id });
                let (header, leases) = (header(moment.revision), leases.collect());
                Ok(Answer::LeaseLeases(pb::LeaseLeasesResponse { header, leases }))
            }
            other => panic!("{other:?} is no read of the store"),
        }
    }

    /// The users at a moment.
    #[must_use]
    pub fn users_at(&self, moment: Moment) -> &Users {
        &self.users[moment.users]
    }

    fn judge(&self, moment: Moment) -> Judge<'_> {
        Judge { view: self.view(moment), users: self.users_at(moment) }
    }

    fn apply_auth(&mut self, after: &mut Moment, change: &Change) -> Expected {
        let mut users = self.users[after.users].clone();
        users.change(change)?;
        if users != self.users[after.users] {
            self.users.push(users);
            after.users = self.users.len() - 1;
        }
        Ok(Answer::Auth(pb::AuthEnableResponse { header: header(after.revision) }))
    }

    /// Applies the request of the log's next entry and answers what comes of it. `caller` is whom the
    /// entry names.
    ///
    /// # Panics
    /// If the request is one that goes into no log.
    pub fn apply(&mut self, index: Index, request: &Request, caller: Option<&Caller>) -> Expected {
        let before = self.now();
        assert!(before.index < index, "model invariant 1");
        let mut after = Moment { index, ..before };
        let judged = self.judge(before).entry(caller, request);
        let expected = match request {
            Request::Put(_) | Request::LeaseGrant(_) if self.lacks_space() => {
                Err(ApiError::NoSpace)
            }
            Request::Txn(txn) if self.lacks_space() && puts(txn) => Err(ApiError::NoSpace),
            _ if judged.is_err() => Err(judged.expect_err("just seen")),
            Request::Put(put) => self.apply_put(&mut after, put),
            Request::DeleteRange(delete) => {
                let response = self.delete(before, delete);
                after.revision += i64::from(0 < response.deleted);
                let header = header(after.revision);
                Ok(Answer::DeleteRange(pb::DeleteRangeResponse { header, ..response }))
            }
            Request::Txn(txn) => self.apply_txn(&mut after, txn),
            Request::Compact(compact) => self.apply_compact(&mut after, compact.revision),
            Request::Alarm(alarm) => Ok(self.apply_alarm(&mut after, alarm)),
            Request::LeaseGrant(grant) => self.apply_grant(&mut after, grant),
            Request::LeaseRevoke(revoke) => self.apply_revoke(&mut after, revoke.id),
            Request::Auth(change) => self.apply_auth(&mut after, change),
            other => panic!("{other:?} goes into no log"),
        };
        if after != (Moment { index, ..before }) {
            self.moments.push_back(after);
        }
        expected
    }

    /// Whether any alarm is raised.
    #[must_use]
    pub fn is_alarmed(&self) -> bool {
        !self.alarms[self.now().alarms].is_empty()
    }

    /// Whether a member has told that it has no space, so that nothing may be put.
    fn lacks_space(&self) -> bool {
        let nospace = i32::from(pb::AlarmType::Nospace);
        self.alarms[self.now().alarms].iter().any(|(kind, _)| *kind == nospace)
    }

    /// Raises an alarm, or ends it: for every member, if for member 0.
    fn apply_alarm(&mut self, after: &mut Moment, alarm: &pb::AlarmRequest) -> Answer {
        let mut alarms = self.alarms[after.alarms].clone();
        let named: Vec<(i32, u64)> = match alarm.action() {
            pb::alarm_request::AlarmAction::Activate => {
                alarms.insert((alarm.alarm, alarm.member_id));
                vec![(alarm.alarm, alarm.member_id)]
            }
            _ => {
                let ends = |(kind, member): &(i32, u64)| {
                    *kind == alarm.alarm && [0, *member].contains(&alarm.member_id)
                };
                let ended = alarms.iter().copied().filter(ends).collect();
                alarms.retain(|alarm| !ends(alarm));
                ended
            }
        };
        if alarms != self.alarms[after.alarms] {
            self.alarms.push(alarms);
            after.alarms = self.alarms.len() - 1;
        }
        listed(*after, named.iter())
    }

    /// The leases that there are.
    #[must_use]
    pub fn leases(&self) -> &BTreeMap<i64, HeldLease> {
        &self.held
    }

    /// The keys of a lease at a moment, in order; `None` if there was no such lease.
    #[must_use]
    pub fn lease_keys(&self, moment: Moment, id: i64) -> Option<Vec<Bytes>> {
        let view = self.view(moment);
        view.leases.contains(&id).then(|| view.keys_with(id))
    }

    /// Applies what a lessor has proposed, as the log's next entry.
    ///
    /// # Panics
    /// If it is something that clients ask.
    pub fn carry_out(&mut self, index: Index, command: &LeaseCommand) -> Carried {
        let before = self.now();
        assert!(before.index < index, "model invariant 1");
        let (mut after, mut carried) = (Moment { index, ..before }, Carried::default());
        let is_held = |held: &BTreeMap<i64, HeldLease>, name: &LeaseName| {
            held.get(&name.id).is_some_and(|lease| lease.granted.0 == name.granted)
        };
        match command {
            LeaseCommand::Expire { leases, .. } => {
                for name in leases {
                    if is_held(&self.held, name)
                        && let Some(lease) = self.end_lease(&mut after, name.id)
                    {
                        carried.ended.push((name.id, lease));
                    }
                }
            }
            LeaseCommand::Checkpoint { leases, .. } => {
                for (name, remaining) in leases {
                    if is_held(&self.held, name)
                        && let Some(lease) = self.held.get_mut(&name.id)
                    {
                        lease.remaining = *remaining;
                        carried.noted += 1;
                    }
                }
            }
            other => panic!("{other:?} is no lessor's"),
        }
        if after != (Moment { index, ..before }) {
            self.moments.push_back(after);
        }
        carried
    }

    /// Leases come and go.
    fn set_leases(&mut self, after: &mut Moment, leases: BTreeSet<i64>) {
        self.leases.push(leases);
        after.leases = self.leases.len() - 1;
    }

    fn apply_grant(&mut self, after: &mut Moment, grant: &pb::LeaseGrantRequest) -> Expected {
        let mut leases = self.leases[after.leases].clone();
        if grant.id == 0 {
            return Err(ApiError::LeaseNotFound);
        }
        if !leases.insert(grant.id) {
            return Err(ApiError::LeaseExists);
        }
        self.set_leases(after, leases);
        let ttl = grant.ttl.max(LEASE_TTL_MIN);
        self.held.insert(grant.id, HeldLease { granted: after.index, ttl, remaining: ttl });
        Ok(Answer::LeaseGrant(pb::LeaseGrantResponse {
            header: header(after.revision),
            id: grant.id,
            ttl,
            error: String::new(),
        }))
    }

    /// Ends a lease. Its keys are those that were put with it last.
    fn end_lease(&mut self, after: &mut Moment, id: i64) -> Option<HeldLease> {
        let before = *after;
        let mut leases = self.leases[after.leases].clone();
        if !leases.remove(&id) {
            return None;
        }
        let keys = self.view(before).keys_with(id);
        keys.iter().for_each(|key| self.change(before, key, None));
        after.revision += i64::from(!keys.is_empty());
        self.set_leases(after, leases);
        self.held.remove(&id)
    }

    fn apply_revoke(&mut self, after: &mut Moment, id: i64) -> Expected {
        self.end_lease(after, id).ok_or(ApiError::LeaseNotFound)?;
        Ok(Answer::LeaseRevoke(pb::LeaseRevokeResponse { header: header(after.revision) }))
    }

    fn apply_put(&mut self, after: &mut Moment, put: &pb::PutRequest) -> Expected {
        self.view(*after).check_lease(put)?;
        let keeps = put.ignore_value || put.ignore_lease;
        if keeps && self.view(*after).get(&put.key, after.revision).is_none() {
            return Err(ApiError::KeyNotFound);
        }
        let response = self.put(*after, put);
        after.revision += 1;
        let header = header(after.revision);
        Ok(Answer::Put(pb::PutResponse { header, ..response }))
    }

    fn apply_compact(&mut self, after: &mut Moment, revision: i64) -> Expected {
        if revision <= after.compacted {
            return Err(ApiError::Compacted);
        }
        if after.revision < revision {
            return Err(ApiError::FutureRevision);
        }
        after.compacted = revision;
        self.events.compact(revision);
        Ok(Answer::Compact(pb::CompactionResponse { header: header(after.revision) }))
    }

    fn apply_txn(&mut self, after: &mut Moment, txn: &pb::TxnRequest) -> Expected {
        let before = *after;
        self.view(before).check_puts(txn)?;
        self.view(before).check_ranges(txn)?;
        let mut changed = false;
        let response = self.run(before, txn, &mut changed);
        after.revision += i64::from(changed);
        Ok(Answer::Txn(pb::TxnResponse { header: header(after.revision), ..response }))
    }

    /// Runs a transaction. Its conditions, those of transactions within too, look at the store as it
    /// was `before` all of it.
    fn run(&mut self, before: Moment, txn: &pb::TxnRequest, changed: &mut bool) -> pb::TxnResponse {
        let succeeded = self.view(before).all_hold(txn);
        let branch = if succeeded { &txn.success } else { &txn.failure };
        let mut responses = Vec::with_capacity(branch.len());
        for op in branch {
            let response = match &op.request {
                Some(Op::RequestRange(range)) => {
                    let revision = before.revision + i64::from(*changed);
                    let seen = self.view(Moment { revision, ..before }).range(range);
                    OpResponse::ResponseRange(seen.expect("ranges are checked beforehand"))
                }
                Some(Op::RequestPut(put)) => {
                    let response = self.put(before, put);
                    *changed = true;
                    let header = header(before.revision + 1);
                    OpResponse::ResponsePut(pb::PutResponse { header, ..response })
                }
                Some(Op::RequestDeleteRange(delete)) => {
                    let response = self.delete(before, delete);
                    *changed |= 0 < response.deleted;
                    let header = header(before.revision + i64::from(*changed));
                    OpResponse::ResponseDeleteRange(pb::DeleteRangeResponse { header, ..response })
                }
                // The answer of a transaction within has a header without a revision, as etcd's.
                Some(Op::RequestTxn(txn)) => {
                    let response = self.run(before, txn, changed);
                    let header = header(0);
                    OpResponse::ResponseTxn(pb::TxnResponse { header, ..response })
                }
                None => panic!("an operation that is not set is refused beforehand"),
            };
            responses.push(pb::ResponseOp { response: Some(response) });
        }
        pb::TxnResponse { header: None, succeeded, responses }
    }

    /// Changes a key in the revision that follows `before`.
    fn change(&mut self, before: Moment, key: &Bytes, kept: Option<KeyValue>) {
        let revision = before.revision + 1;
        let replaced = self.view(before).get(key, before.revision).cloned();
        self.events.changed(revision, Event { key: key.clone(), kept: kept.clone(), replaced });
        self.keys.entry(key.clone()).or_default().push(Version { revision, kept });
    }

    fn put(&mut self, before: Moment, put: &pb::PutRequest) -> pb::PutResponse {
        let revision = before.revision + 1;
        let previous = self.view(before).get(&put.key, revision).cloned();
        let old = previous.as_ref();
        let value = match old {
            _ if !put.ignore_value => put.value.clone(),
            Some(old) => old.value.clone(),
            None => Bytes::new(),
        };
        let lease = if put.ignore_lease { old.map_or(0, |old| old.lease) } else { put.lease };
        let kv = KeyValue {
            key: put.key.clone(),
            create_revision: old.map_or(revision, |old| old.create_revision),
            mod_revision: revision,
            version: old.map_or(1, |old| old.version + 1),
            value,
            lease,
        };
        self.change(before, &put.key, Some(kv));
        pb::PutResponse { header: None, prev_kv: previous.filter(|_| put.prev_kv) }
    }

    fn delete(
        &mut self,
        before: Moment,
        delete: &pb::DeleteRangeRequest,
    ) -> pb::DeleteRangeResponse {
        let found = self.view(before).interval(&delete.key, &delete.range_end, before.revision + 1);
        let found: Vec<KeyValue> = found.into_iter().cloned().collect();
        for kv in &found {
            self.change(before, &kv.key, None);
        }
        let deleted = found.len() as i64;
        let prev_kvs = if delete.prev_kv { found } else { Vec::new() };
        pb::DeleteRangeResponse { header: None, deleted, prev_kvs }
    }

    /// Nobody can look any more at what was before this entry: lets go of what only such a one sees.
    pub fn forget(&mut self, before: Index) {
        let keep = self.moments.partition_point(|moment| moment.index <= before).max(1) - 1;
        self.moments.drain(..keep);
        let oldest = self.moments[0];
        if oldest.compacted < 0 {
            return;
        }
        self.keys.retain(|_, versions| {
            let newest = versions.partition_point(|version| version.revision <= oldest.compacted);
            // The newest version at the compacted revision stays readable, unless it says that the
            // key is not there.
            let from = match newest.checked_sub(1) {
                Some(at) if versions[at].kept.is_some() => at,
                _ => newest,
            };
            versions.drain(..from);
            !versions.is_empty()
        });
    }
}
