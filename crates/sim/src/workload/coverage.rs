//! What was asked of whom while what went wrong, and what came of it.
//!
//! Responsible for counting and for saying what was never met. Not responsible for judging answers. A
//! workload that is too kind proves nothing, and nothing but counts tells that it is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jangada_server::errors::ApiError;
use jangada_server::proto::etcdserverpb as pb;
use pb::compare::TargetUnion;
use pb::request_op::Request as Op;

use super::request::{KINDS, Kind, Request};
use super::users::Change;
use crate::faults::{FAULTS, Fault};

/// How the member that is asked stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(usize)]
pub enum Role {
    /// It leads.
    Leader,
    /// It follows a leader.
    Follower,
    /// It knows no leader, and may be standing for election.
    NoLeader,
    /// Its process does not live.
    Down,
}

/// Every role, in order.
pub const ROLES: [Role; 4] = [Role::Leader, Role::Follower, Role::NoLeader, Role::Down];

impl Role {
    /// The role's name, as reports print it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Role::Leader => "leader",
            Role::Follower => "follower",
            Role::NoLeader => "no-leader",
            Role::Down => "down",
        }
    }
}

/// What came of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// An answer.
    Ok,
    /// One of the API's errors.
    Refused(ApiError),
    /// The method is not served.
    Unimplemented,
    /// The message could not be decoded.
    Undecodable,
    /// The process ended first.
    Lost,
    /// The client had no patience left.
    GivenUp,
    /// Nobody listened.
    Unreachable,
}

/// Where the outcomes that are not the API's errors stand, behind those.
const OTHERS: [(Outcome, &str); 6] = [
    (Outcome::Ok, "ok"),
    (Outcome::Unimplemented, "unimplemented"),
    (Outcome::Undecodable, "undecodable"),
    (Outcome::Lost, "lost"),
    (Outcome::GivenUp, "given-up"),
    (Outcome::Unreachable, "unreachable"),
];

/// How many errors the API has.
const ERRORS: usize = ApiError::DeadlineExceeded as usize + 1;

impl Outcome {
    fn place(self) -> usize {
        match self {
            Outcome::Refused(error) => error as usize,
            other => {
                let place = OTHERS.iter().position(|(known, _)| *known == other);
                ERRORS + place.expect("every outcome has its place")
            }
        }
    }

    /// Every outcome.
    pub fn all() -> impl Iterator<Item = Outcome> {
        ApiError::all().map(Outcome::Refused).chain(OTHERS.iter().map(|(outcome, _)| *outcome))
    }

    /// The outcome's name, as reports print it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Refused(error) => {
                let text = error.text();
                text.strip_prefix("etcdserver: ").unwrap_or(text)
            }
            other => OTHERS[other.place() - ERRORS].1,
        }
    }
}

macro_rules! features {
    ($($name:ident $text:literal $answered:ident,)*) => {
        /// What a request uses of the API.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        #[repr(usize)]
        #[allow(missing_docs, reason = "each is named as what it is")]
        pub enum Feature { $($name,)* }

        /// Every feature, in order.
        pub const FEATURES: &[Feature] = &[$(Feature::$name,)*];

        impl Feature {
            /// The feature's name, as reports print it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Feature::$name => $text,)* }
            }

            /// Whether a request that uses it can succeed.
            #[must_use]
            pub fn can_succeed(self) -> bool {
                match self { $(Feature::$name => features!(@ $answered),)* }
            }
        }
    };
    (@ answered) => { true };
    (@ refused) => { false };
}

features! {
    RangeKey "range: one key" answered,
    RangeInterval "range: interval" answered,
    RangeFromKey "range: from key on" answered,
    RangeNothing "range: empty interval" answered,
    RangeEmptyKey "range: no key" refused,
    RangeLimit "range: limit" answered,
    RangeNegativeLimit "range: negative limit" answered,
    RangeRevision "range: revision" answered,
    RangeNegativeRevision "range: negative revision" answered,
    RangeKeysOnly "range: keys only" answered,
    RangeCountOnly "range: count only" answered,
    RangeMinMod "range: min mod revision" answered,
    RangeMaxMod "range: max mod revision" answered,
    RangeMinCreate "range: min create revision" answered,
    RangeMaxCreate "range: max create revision" answered,
    SortKey "sort: by key" answered,
    SortVersion "sort: by version" answered,
    SortCreate "sort: by create revision" answered,
    SortMod "sort: by mod revision" answered,
    SortValue "sort: by value" answered,
    SortAscending "sort: ascending" answered,
    SortDescending "sort: descending" answered,
    SortUnordered "sort: target without order" answered,
    SortUnknown "sort: unknown" refused,
    PutValue "put: value" answered,
    PutEmptyValue "put: empty value" answered,
    PutLargeValue "put: value above 50 KiB" answered,
    PutPrevious "put: prev_kv" answered,
    PutIgnoreValue "put: ignore_value" answered,
    PutIgnoreLease "put: ignore_lease" answered,
    PutValueProvided "put: ignore_value and a value" refused,
    PutLease "put: lease" answered,
    PutEmptyKey "put: no key" refused,
    DeleteKey "delete: one key" answered,
    DeleteInterval "delete: interval" answered,
    DeleteFromKey "delete: from key on" answered,
    DeletePrevious "delete: prev_kv" answered,
    DeleteEmptyKey "delete: no key" refused,
    TxnEmpty "txn: empty" answered,
    TxnNested "txn: nested" answered,
    TxnNestedTwice "txn: nested twice" answered,
    TxnRange "txn: range" answered,
    TxnRangeRevision "txn: range at a revision" answered,
    TxnPut "txn: put" answered,
    TxnDelete "txn: delete" answered,
    TxnUnset "txn: operation left unset" refused,
    TxnCrowded "txn: more than 100 operations" answered,
    TxnMixed "txn: reads and writes" answered,
    CompareNone "compare: none" answered,
    CompareSeveral "compare: several" answered,
    CompareInterval "compare: interval" answered,
    CompareVersion "compare: version" answered,
    CompareCreate "compare: create revision" answered,
    CompareMod "compare: mod revision" answered,
    CompareValue "compare: value" answered,
    CompareLease "compare: lease" answered,
    CompareUnknown "compare: unknown target" answered,
    CompareForeign "compare: operand of another kind" answered,
    CompareEqual "compare: equal" answered,
    CompareGreater "compare: greater" answered,
    CompareLess "compare: less" answered,
    CompareNotEqual "compare: not equal" answered,
    CompareUnknownRelation "compare: unknown relation" answered,
    CompareEmptyKey "compare: no key" refused,
    LeaseGrant "lease: grant" answered,
    LeaseRevoke "lease: revoke" answered,
    LeaseLeases "lease: list" answered,
    AuthEnable "auth: users in use" answered,
    AuthDisable "auth: users out of use" answered,
    AuthUser "auth: a user, or a user's role" answered,
    AuthRole "auth: a role, or what it permits" answered,
    CompactLogical "compact: logical" answered,
    CompactPhysical "compact: physical" answered,
    MemberList "member list" answered,
    AlarmGet "alarm: get" answered,
    AlarmChange "alarm: change" answered,
    Status "status" answered,
    Unserved "a method that is not served" refused,
    Garbage "a garbled message" refused,
    DemandsLeader "metadata: hasleader" answered,
    Retried "asked again" answered,
    Succeeded "txn: success branch taken" answered,
    Failed "txn: failure branch taken" answered,
    More "range: limit cuts" answered,
    Sliced "range: read in slices" answered,
    DeletedNone "delete: nothing there" answered,
}

/// A set of features.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Features(u128);

const _: () = assert!(FEATURES.len() <= 128);

impl Features {
    /// What a request uses.
    #[must_use]
    pub fn of(request: &Request) -> Features {
        let mut features = Features::default();
        match request {
            Request::Range(range) => features.range(range),
            Request::Put(put) => features.put(put),
            Request::DeleteRange(delete) => features.delete(delete),
            Request::Txn(txn) => features.txn(txn, 0),
            Request::Compact(compact) if compact.physical => features.add(Feature::CompactPhysical),
            Request::Compact(_) => features.add(Feature::CompactLogical),
            Request::MemberList(_) => features.add(Feature::MemberList),
            Request::Alarm(alarm) if alarm.action == 0 => features.add(Feature::AlarmGet),
            Request::Alarm(_) => features.add(Feature::AlarmChange),
            Request::LeaseGrant(_) => features.add(Feature::LeaseGrant),
            Request::LeaseRevoke(_) => features.add(Feature::LeaseRevoke),
            Request::LeaseLeases => features.add(Feature::LeaseLeases),
            Request::Auth(change) => features.add(match change {
                Change::Enable => Feature::AuthEnable,
                Change::Disable => Feature::AuthDisable,
                Change::UserAdd(_)
                | Change::UserDelete(_)
                | Change::UserGrantRole(..)
                | Change::UserRevokeRole(..) => Feature::AuthUser,
                Change::RoleAdd(_)
                | Change::RoleDelete(_)
                | Change::RoleGrant(..)
                | Change::RoleRevoke(..) => Feature::AuthRole,
            }),
            Request::Status => features.add(Feature::Status),
            Request::Unserved(_) => features.add(Feature::Unserved),
            Request::Garbage(_) => features.add(Feature::Garbage),
        }
        features
    }

    /// Adds a feature.
    pub fn add(&mut self, feature: Feature) {
        self.0 |= 1 << feature as usize;
    }

    /// Adds another set's features.
    pub fn join(&mut self, other: Features) {
        self.0 |= other.0;
    }

    fn add_if(&mut self, holds: bool, feature: Feature) {
        self.0 |= u128::from(holds) << feature as usize;
    }

    fn iter(self) -> impl Iterator<Item = Feature> {
        FEATURES.iter().copied().filter(move |feature| self.0 >> (*feature as usize) & 1 == 1)
    }

    fn range(&mut self, range: &pb::RangeRequest) {
        self.add(match range.range_end.as_ref() {
            _ if range.key.is_empty() => Feature::RangeEmptyKey,
            b"" => Feature::RangeKey,
            b"\0" => Feature::RangeFromKey,
            end if end <= range.key.as_ref() => Feature::RangeNothing,
            _ => Feature::RangeInterval,
        });
        self.add_if(0 < range.limit, Feature::RangeLimit);
        self.add_if(range.limit < 0, Feature::RangeNegativeLimit);
        self.add_if(0 < range.revision, Feature::RangeRevision);
        self.add_if(range.revision < 0, Feature::RangeNegativeRevision);
        self.add_if(range.keys_only, Feature::RangeKeysOnly);
        self.add_if(range.count_only, Feature::RangeCountOnly);
        self.add_if(range.min_mod_revision != 0, Feature::RangeMinMod);
        self.add_if(range.max_mod_revision != 0, Feature::RangeMaxMod);
        self.add_if(range.min_create_revision != 0, Feature::RangeMinCreate);
        self.add_if(range.max_create_revision != 0, Feature::RangeMaxCreate);
        match range.sort_order {
            0 => self.add_if(range.sort_target != 0, Feature::SortUnordered),
            1 => self.add(Feature::SortAscending),
            2 => self.add(Feature::SortDescending),
            _ => self.add(Feature::SortUnknown),
        }
        if range.sort_order != 0 || range.sort_target != 0 {
            self.add(match range.sort_target {
                0 => Feature::SortKey,
                1 => Feature::SortVersion,
                2 => Feature::SortCreate,
                3 => Feature::SortMod,
                4 => Feature::SortValue,
                _ => Feature::SortUnknown,
            });
        }
    }

    fn put(&mut self, put: &pb::PutRequest) {
        if put.key.is_empty() {
            return self.add(Feature::PutEmptyKey);
        }
        if put.lease != 0 {
            return self.add(Feature::PutLease);
        }
        if put.ignore_value && !put.value.is_empty() {
            return self.add(Feature::PutValueProvided);
        }
        self.add_if(!put.value.is_empty(), Feature::PutValue);
        self.add_if(50 << 10 < put.value.len(), Feature::PutLargeValue);
        self.add_if(put.value.is_empty() && !put.ignore_value, Feature::PutEmptyValue);
        self.add_if(put.prev_kv, Feature::PutPrevious);
        self.add_if(put.ignore_value, Feature::PutIgnoreValue);
        self.add_if(put.ignore_lease, Feature::PutIgnoreLease);
    }

    fn delete(&mut self, delete: &pb::DeleteRangeRequest) {
        self.add(match delete.range_end.as_ref() {
            _ if delete.key.is_empty() => Feature::DeleteEmptyKey,
            b"" => Feature::DeleteKey,
            b"\0" => Feature::DeleteFromKey,
            _ => Feature::DeleteInterval,
        });
        self.add_if(delete.prev_kv, Feature::DeletePrevious);
    }

    fn txn(&mut self, txn: &pb::TxnRequest, depth: u64) {
        self.add_if(depth == 1, Feature::TxnNested);
        self.add_if(1 < depth, Feature::TxnNestedTwice);
        self.add_if(txn.compare.is_empty(), Feature::CompareNone);
        self.add_if(1 < txn.compare.len(), Feature::CompareSeveral);
        txn.compare.iter().for_each(|compare| self.compare(compare));
        let (mut reads, mut writes) = (false, false);
        for op in txn.success.iter().chain(&txn.failure) {
            match &op.request {
                Some(Op::RequestRange(range)) => {
                    self.add(Feature::TxnRange);
                    self.add_if(0 < range.revision, Feature::TxnRangeRevision);
                    self.range(range);
                    reads = true;
                }
                Some(Op::RequestPut(put)) => {
                    self.add(Feature::TxnPut);
                    self.put(put);
                    writes = true;
                }
                Some(Op::RequestDeleteRange(delete)) => {
                    self.add(Feature::TxnDelete);
                    self.delete(delete);
                    writes = true;
                }
                Some(Op::RequestTxn(txn)) => self.txn(txn, depth + 1),
                None => self.add(Feature::TxnUnset),
            }
        }
        let count = txn.success.len() + txn.failure.len();
        self.add_if(count == 0, Feature::TxnEmpty);
        self.add_if(100 < count, Feature::TxnCrowded);
        self.add_if(reads && writes, Feature::TxnMixed);
    }

    fn compare(&mut self, compare: &pb::Compare) {
        if compare.key.is_empty() {
            return self.add(Feature::CompareEmptyKey);
        }
        self.add_if(!compare.range_end.is_empty(), Feature::CompareInterval);
        self.add(match compare.target {
            0 => Feature::CompareVersion,
            1 => Feature::CompareCreate,
            2 => Feature::CompareMod,
            3 => Feature::CompareValue,
            4 => Feature::CompareLease,
            _ => Feature::CompareUnknown,
        });
        let own = match &compare.target_union {
            Some(TargetUnion::Version(_)) => compare.target == 0,
            Some(TargetUnion::CreateRevision(_)) => compare.target == 1,
            Some(TargetUnion::ModRevision(_)) => compare.target == 2,
            Some(TargetUnion::Value(_)) => compare.target == 3,
            Some(TargetUnion::Lease(_)) => compare.target == 4,
            None => false,
        };
        self.add_if(!own, Feature::CompareForeign);
        self.add(match compare.result {
            0 => Feature::CompareEqual,
            1 => Feature::CompareGreater,
            2 => Feature::CompareLess,
            3 => Feature::CompareNotEqual,
            _ => Feature::CompareUnknownRelation,
        });
    }
}

/// How many outcomes there are.
const OUTCOMES: usize = ERRORS + OTHERS.len();

/// What goes wrong while a request is asked: the faults, and nothing at all.
const WEATHERS: usize = FAULTS.len() + 1;

/// Counts of calls.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Coverage {
    /// By feature and outcome.
    features: Vec<[u64; OUTCOMES]>,
    /// By kind and outcome.
    kinds: Vec<[u64; OUTCOMES]>,
    /// By kind, weather and role.
    places: Vec<[[u64; ROLES.len()]; WEATHERS]>,
    /// What else was seen, by name.
    seen: BTreeMap<&'static str, u64>,
}

impl Default for Coverage {
    fn default() -> Coverage {
        Coverage {
            features: vec![[0; OUTCOMES]; FEATURES.len()],
            kinds: vec![[0; OUTCOMES]; KINDS.len()],
            places: vec![[[0; ROLES.len()]; WEATHERS]; KINDS.len()],
            seen: BTreeMap::new(),
        }
    }
}

impl Coverage {
    /// Counts a call that is made while these faults are about.
    pub fn asked(&mut self, kind: Kind, role: Role, faults: impl IntoIterator<Item = Fault>) {
        let places = &mut self.places[kind as usize];
        let mut quiet = true;
        for fault in faults {
            places[fault as usize][role as usize] += 1;
            quiet = false;
        }
        places[FAULTS.len()][role as usize] += u64::from(quiet);
    }

    /// Counts what came of a call.
    pub fn ended(&mut self, kind: Kind, features: Features, outcome: Outcome) {
        let place = outcome.place();
        self.kinds[kind as usize][place] += 1;
        for feature in features.iter() {
            self.features[feature as usize][place] += 1;
        }
    }

    /// What else was seen, by name: what streams were told.
    #[must_use]
    pub fn seen(&self) -> &BTreeMap<&'static str, u64> {
        &self.seen
    }

    /// Counts what else was seen.
    pub fn saw(&mut self, seen: &BTreeMap<&'static str, u64>) {
        for (name, count) in seen {
            *self.seen.entry(name).or_default() += count;
        }
    }

    /// Adds another run's counts.
    pub fn add(&mut self, other: &Coverage) {
        self.saw(&other.seen);
        let add = |sums: &mut [u64], counts: &[u64]| {
            sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        };
        for (sums, counts) in self.features.iter_mut().zip(&other.features) {
            add(sums, counts);
        }
        for (sums, counts) in self.kinds.iter_mut().zip(&other.kinds) {
            add(sums, counts);
        }
        for (sums, counts) in self.places.iter_mut().flatten().zip(other.places.iter().flatten()) {
            add(sums, counts);
        }
    }

    /// How many calls there were.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.kinds.iter().flatten().sum()
    }

    /// How many calls of this kind came to this.
    #[must_use]
    pub fn of_kind(&self, kind: Kind, outcome: Outcome) -> u64 {
        self.kinds[kind as usize][outcome.place()]
    }

    /// How many calls with this feature came to this.
    #[must_use]
    pub fn of_feature(&self, feature: Feature, outcome: Outcome) -> u64 {
        self.features[feature as usize][outcome.place()]
    }

    /// How many calls came to this.
    #[must_use]
    pub fn of_outcome(&self, outcome: Outcome) -> u64 {
        self.kinds.iter().map(|counts| counts[outcome.place()]).sum()
    }

    /// How many calls of this kind were made of a member in this role while this fault was about;
    /// `None` for while none was.
    #[must_use]
    pub fn of_place(&self, kind: Kind, fault: Option<Fault>, role: Role) -> u64 {
        let weather = fault.map_or(FAULTS.len(), |fault| fault as usize);
        self.places[kind as usize][weather][role as usize]
    }

    /// What came of each kind of request, then of each feature, by name: what happened at all.
    pub fn by_name(&self) -> impl Iterator<Item = (&'static str, Vec<(&'static str, u64)>)> + '_ {
        let happened = |counts: &[u64; OUTCOMES]| -> Vec<(&'static str, u64)> {
            let all = Outcome::all().map(|outcome| (outcome.name(), counts[outcome.place()]));
            all.filter(|(_, count)| 0 < *count).collect()
        };
        let kinds = KINDS.iter().map(|kind| (kind.name(), &self.kinds[*kind as usize]));
        let features =
            FEATURES.iter().map(|feature| (feature.name(), &self.features[*feature as usize]));
        let calls = kinds.chain(features).map(move |(name, counts)| (name, happened(counts)));
        calls.chain(self.seen.iter().map(|(name, count)| (*name, vec![("seen", *count)])))
    }

    /// What was never met: features that were never answered, or never refused if they cannot be
    /// answered, and kinds that were never asked of a role while a fault was about that did happen.
    #[must_use]
    pub fn blind_spots(&self) -> Vec<String> {
        let mut spots = Vec::new();
        for feature in FEATURES.iter().copied() {
            let total: u64 = self.features[feature as usize].iter().sum();
            let ok = self.of_feature(feature, Outcome::Ok);
            if feature.can_succeed() && ok == 0 {
                spots.push(format!("{} was never answered", feature.name()));
            } else if total == 0 {
                spots.push(format!("{} was never asked", feature.name()));
            }
        }
        let happened: BTreeSet<Fault> = FAULTS
            .into_iter()
            .filter(|fault| self.places.iter().flatten_place(*fault).any(|count| 0 < count))
            .collect();
        for kind in KINDS {
            for fault in &happened {
                let unmet = ROLES.iter().filter(|r| self.of_place(kind, Some(*fault), **r) == 0);
                for role in unmet {
                    spots.push(format!(
                        "{} was never asked of {} during {}",
                        kind.name(),
                        role.name(),
                        fault.name()
                    ));
                }
            }
        }
        spots
    }
}

/// The counts of one fault over all kinds and roles.
trait OfFault<'a> {
    fn flatten_place(self, fault: Fault) -> impl Iterator<Item = u64> + 'a;
}

impl<'a, I> OfFault<'a> for I
where
    I: Iterator<Item = &'a [[u64; ROLES.len()]; WEATHERS]> + 'a,
{
    fn flatten_place(self, fault: Fault) -> impl Iterator<Item = u64> + 'a {
        self.flat_map(move |places| places[fault as usize].iter().copied())
    }
}

/// One line of outcomes: the answered, then the others that happened.
fn outcomes(f: &mut fmt::Formatter<'_>, name: &str, counts: &[u64; OUTCOMES]) -> fmt::Result {
    write!(f, "{name:34} {:>9}", counts[Outcome::Ok.place()])?;
    let mut gap = "  ";
    for outcome in Outcome::all().filter(|outcome| *outcome != Outcome::Ok) {
        let count = counts[outcome.place()];
        if 0 < count {
            write!(f, "{gap}{} {count}", outcome.name())?;
            gap = ", ";
        }
    }
    writeln!(f)
}

impl fmt::Display for Coverage {
    /// What came of what, then who was asked while what went wrong, then what was never met.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:34} {:>9}  not answered", "request", "answered")?;
        for kind in KINDS {
            outcomes(f, kind.name(), &self.kinds[kind as usize])?;
        }
        for feature in FEATURES {
            outcomes(f, feature.name(), &self.features[*feature as usize])?;
        }
        writeln!(f, "\nasked of leader/follower/no leader/down while this was about:")?;
        for kind in KINDS {
            write!(f, "{}:", kind.name())?;
            for (weather, counts) in self.places[kind as usize].iter().enumerate() {
                if counts.iter().sum::<u64>() == 0 {
                    continue;
                }
                let name = FAULTS.get(weather).map_or("nothing", |fault| fault.name());
                let [leader, follower, none, down] = counts;
                write!(f, " {name} {leader}/{follower}/{none}/{down}")?;
            }
            writeln!(f)?;
        }
        for (name, count) in &self.seen {
            writeln!(f, "{name:34} {count:>9}")?;
        }
        let spots = self.blind_spots();
        writeln!(f, "\nnever met: {}", spots.len())?;
        spots.iter().try_for_each(|spot| writeln!(f, "  {spot}"))
    }
}
