//! What is in the buckets of an etcd, in the order of a file.

use jangada_kv::{Alarm, AlarmKind, EngineError, Lease};
use prost::Message;
use serde_json::{Value, json};

use super::{Exported, auth};
use crate::backend::Member;
use crate::proto::etcdserverpb as pb;

pub(super) const KEY: &[u8] = b"key";
pub(super) const META: &[u8] = b"meta";
pub(super) const LEASE: &[u8] = b"lease";
pub(super) const AUTH: &[u8] = b"auth";
pub(super) const ROLES: &[u8] = b"authRoles";
pub(super) const USERS: &[u8] = b"authUsers";

pub(super) const SCHEDULED: &[u8] = b"scheduledCompactRev";
pub(super) const FINISHED: &[u8] = b"finishedCompactRev";
const CONSISTENT_INDEX: &[u8] = b"consistent_index";
const TERM: &[u8] = b"term";
const CONF_STATE: &[u8] = b"confState";

/// Takes buckets and their entries, both in order.
pub(super) trait Buckets<E> {
    /// A bucket begins.
    fn bucket(&mut self, name: &[u8]) -> Result<(), E>;
    /// An entry of it.
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), E>;
}

impl<E> Buckets<E> for jangada_bolt::Content<'_, E> {
    fn bucket(&mut self, name: &[u8]) -> Result<(), E> {
        jangada_bolt::Content::bucket(self, name)
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), E> {
        jangada_bolt::Content::put(self, key, value)
    }
}

/// etcd's message of a lease.
#[derive(Clone, PartialEq, Message)]
pub(super) struct LeaseRow {
    #[prost(int64, tag = "1")]
    pub(super) id: i64,
    #[prost(int64, tag = "2")]
    pub(super) ttl: i64,
    #[prost(int64, tag = "3")]
    pub(super) remaining: i64,
}

/// Goes through all buckets.
pub(super) fn fill<E: From<EngineError>>(
    exported: &Exported,
    out: &mut dyn Buckets<E>,
) -> Result<(), E> {
    let Exported { state, term, members, removed } = exported;
    out.bucket(b"alarm")?;
    for alarm in alarms(state.alarms()) {
        out.put(&alarm, &[])?;
    }
    let users = state.auth();
    let of_auth =
        [(AUTH, auth::settings(users)), (ROLES, auth::roles(users)), (USERS, auth::users(users))];
    for (name, entries) in of_auth {
        out.bucket(name)?;
        entries.iter().try_for_each(|(key, value)| out.put(key, value))?;
    }
    out.bucket(b"cluster")?;
    out.bucket(KEY)?;
    let mut last = 0;
    state.rows(&mut |row_key, message| {
        last = revision_of(row_key).unwrap_or_default();
        out.put(row_key, message)
    })?;
    out.bucket(LEASE)?;
    for (key, lease) in leases(state.leases()) {
        out.put(&key, &lease)?;
    }
    out.bucket(b"members")?;
    for (name, json) in named(members) {
        out.put(&name, json.as_bytes())?;
    }
    out.bucket(b"members_removed")?;
    let mut gone: Vec<_> = removed.iter().map(|id| name_of(*id)).collect();
    gone.sort_unstable();
    for name in gone {
        out.put(&name, b"removed")?;
    }
    out.bucket(META)?;
    out.put(CONF_STATE, conf_state(members).to_string().as_bytes())?;
    out.put(CONSISTENT_INDEX, &state.applied().to_be_bytes())?;
    if let Some((revision, finished)) = state.compaction() {
        // etcd before 3.5.16 takes the newest row for the newest revision unless it knows of a
        // finished compaction behind that.
        if finished || last < revision {
            out.put(FINISHED, &revision_bytes(revision))?;
        }
        out.put(SCHEDULED, &revision_bytes(revision))?;
    }
    out.put(TERM, &term.to_be_bytes())
}

/// The hash over everything, as etcd's `Hash` makes it: every bucket's name and entries, but for what
/// differs from member to member.
pub(crate) fn hash(exported: &Exported) -> Result<u32, EngineError> {
    struct Hasher {
        hash: u32,
        in_meta: bool,
    }
    impl Buckets<EngineError> for Hasher {
        fn bucket(&mut self, name: &[u8]) -> Result<(), EngineError> {
            self.in_meta = name == META;
            self.hash = crc32c::crc32c_append(self.hash, name);
            Ok(())
        }

        fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), EngineError> {
            if !self.in_meta || (key != CONSISTENT_INDEX && key != TERM) {
                self.hash = crc32c::crc32c_append(self.hash, key);
                self.hash = crc32c::crc32c_append(self.hash, value);
            }
            Ok(())
        }
    }
    let mut hasher = Hasher { hash: 0, in_meta: false };
    fill(exported, &mut hasher)?;
    Ok(hasher.hash)
}

/// Entries of the bucket `members`. Ids are written without leading zeros, so that they sort otherwise
/// than as numbers.
fn named(members: &[Member]) -> Vec<(Vec<u8>, String)> {
    let entry = |member: &Member| (name_of(member.id), member_json(member).to_string());
    let mut entries: Vec<_> = members.iter().map(entry).collect();
    entries.sort_unstable();
    entries
}

/// Entries of the bucket `alarm`: messages, with nothing for a value.
fn alarms(alarms: &[Alarm]) -> Vec<Vec<u8>> {
    let message = |alarm: &Alarm| {
        let kind = match alarm.kind {
            AlarmKind::NoSpace => pb::AlarmType::Nospace,
            AlarmKind::Corrupt => pb::AlarmType::Corrupt,
        };
        pb::AlarmMember { member_id: alarm.member, alarm: kind.into() }.encode_to_vec()
    };
    let mut keys: Vec<Vec<u8>> = alarms.iter().map(message).collect();
    keys.sort_unstable();
    keys
}

/// Entries of the bucket `lease`. Ids are signed, and sorted as the bytes they are written as.
fn leases(leases: &[Lease]) -> Vec<([u8; 8], Vec<u8>)> {
    let entry = |lease: &Lease| {
        let Lease { name, ttl, remaining } = *lease;
        // No remainder stands for all of it.
        let remaining = if remaining == ttl { 0 } else { remaining };
        (name.id.to_be_bytes(), LeaseRow { id: name.id, ttl, remaining }.encode_to_vec())
    };
    let mut entries: Vec<_> = leases.iter().map(entry).collect();
    entries.sort_unstable();
    entries
}

/// A member's key: its id in hexadecimal digits.
fn name_of(id: u64) -> Vec<u8> {
    format!("{id:x}").into_bytes()
}

fn member_json(member: &Member) -> Value {
    let mut value = json!({"id": member.id, "peerURLs": member.peer_urls});
    if member.is_learner {
        value["isLearner"] = json!(true);
    }
    if !member.name.is_empty() {
        value["name"] = json!(member.name);
    }
    if !member.client_urls.is_empty() {
        value["clientURLs"] = json!(member.client_urls);
    }
    value
}

fn conf_state(members: &[Member]) -> Value {
    let ids = |learners: bool| -> Vec<u64> {
        let of = members.iter().filter(|member| member.is_learner == learners);
        of.map(|member| member.id).collect()
    };
    let mut value = json!({"voters": ids(false), "auto_leave": false});
    let learners = ids(true);
    if !learners.is_empty() {
        value["learners"] = json!(learners);
    }
    value
}

/// A revision as `meta` holds it: the key of a row.
fn revision_bytes(revision: i64) -> Vec<u8> {
    [revision.to_be_bytes().as_slice(), b"_", &0_u64.to_be_bytes()].concat()
}

/// The main revision of a row's key.
pub(super) fn revision_of(row_key: &[u8]) -> Option<i64> {
    row_key.first_chunk().map(|main| i64::from_be_bytes(*main))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A snapshot ended the member that was asked: one in sixteen ids is a digit shorter.
    #[test]
    fn members_are_in_the_order_of_their_names_however_long_these_are() {
        let member = |id| Member {
            id,
            name: String::new(),
            peer_urls: Vec::new(),
            client_urls: Vec::new(),
            is_learner: false,
            connection: crate::backend::Connection::default(),
        };
        let members = [0x0901_7aa3_bbec_8181, 0x1231_b920_f913_7579, 0xce91_44d0_f4b1_b8a7];
        let names: Vec<_> = named(&members.map(member)).into_iter().map(|(name, _)| name).collect();
        let expected = ["1231b920f9137579", "9017aa3bbec8181", "ce9144d0f4b1b8a7"];
        assert_eq!(names, expected.map(|name| name.as_bytes().to_vec()));
    }
}
