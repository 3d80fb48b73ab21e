//! What can be asked: every request that the server answers, as the API's own messages.
//!
//! Responsible for naming requests and for turning them into the bytes that a client sends. What
//! sort of request one is, and which options it uses, is told from the message alone, so that
//! coverage does not rest on what whoever made it had in mind.

use bytes::Bytes;
use jangada_server::grpc::methods::Method;
use jangada_server::proto::etcdserverpb as pb;
use prost::Message;

use super::users::{Change, Needs};

/// One request.
#[derive(Clone, PartialEq, Debug)]
pub enum Request {
    /// Reads keys.
    Range(pb::RangeRequest),
    /// Writes a key.
    Put(pb::PutRequest),
    /// Deletes keys.
    DeleteRange(pb::DeleteRangeRequest),
    /// Compares, reads and writes.
    Txn(pb::TxnRequest),
    /// Forgets the past.
    Compact(pb::CompactionRequest),
    /// Lists the members.
    MemberList(pb::MemberListRequest),
    /// Lists alarms, or changes them.
    Alarm(pb::AlarmRequest),
    /// Makes a lease.
    LeaseGrant(pb::LeaseGrantRequest),
    /// Ends a lease, and deletes its keys.
    LeaseRevoke(pb::LeaseRevokeRequest),
    /// Lists the leases.
    LeaseLeases,
    /// Changes users, roles or permissions.
    Auth(Change),
    /// Asks how the member stands.
    Status,
    /// A method that is not served.
    Unserved(Method),
    /// Bytes that are not the method's message.
    Garbage(Method),
}

/// The sorts of requests that differ in the way they go.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(usize)]
#[allow(missing_docs, reason = "each is named as what it is")]
pub enum Kind {
    Range,
    SerializableRange,
    Put,
    DeleteRange,
    Txn,
    ReadOnlyTxn,
    SerializableTxn,
    Compact,
    MemberList,
    LinearizableMemberList,
    Alarm,
    Status,
    Unserved,
    Garbage,
    AlarmChange,
    LeaseGrant,
    LeaseRevoke,
    LeaseLeases,
    AuthChange,
}

/// Every kind, in order.
pub const KINDS: [Kind; 19] = [
    Kind::Range,
    Kind::SerializableRange,
    Kind::Put,
    Kind::DeleteRange,
    Kind::Txn,
    Kind::ReadOnlyTxn,
    Kind::SerializableTxn,
    Kind::Compact,
    Kind::MemberList,
    Kind::LinearizableMemberList,
    Kind::Alarm,
    Kind::Status,
    Kind::Unserved,
    Kind::Garbage,
    Kind::AlarmChange,
    Kind::LeaseGrant,
    Kind::LeaseRevoke,
    Kind::LeaseLeases,
    Kind::AuthChange,
];

impl Kind {
    /// The kind's name, as reports print it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Range => "range",
            Kind::SerializableRange => "range-serializable",
            Kind::Put => "put",
            Kind::DeleteRange => "delete-range",
            Kind::Txn => "txn",
            Kind::ReadOnlyTxn => "txn-read-only",
            Kind::SerializableTxn => "txn-serializable",
            Kind::Compact => "compact",
            Kind::MemberList => "member-list",
            Kind::LinearizableMemberList => "member-list-linearizable",
            Kind::Alarm => "alarm",
            Kind::Status => "status",
            Kind::Unserved => "unserved",
            Kind::Garbage => "garbage",
            Kind::AlarmChange => "alarm-change",
            Kind::LeaseGrant => "lease-grant",
            Kind::LeaseRevoke => "lease-revoke",
            Kind::LeaseLeases => "lease-list",
            Kind::AuthChange => "auth-change",
        }
    }

    /// Whether a request of this kind goes into the log, if nothing is wrong with it.
    #[must_use]
    pub fn is_logged(self) -> bool {
        matches!(
            self,
            Kind::Put
                | Kind::DeleteRange
                | Kind::Txn
                | Kind::Compact
                | Kind::AlarmChange
                | Kind::LeaseGrant
                | Kind::LeaseRevoke
                | Kind::AuthChange
        )
    }

    /// Whether the answer must show all that was acknowledged before the request.
    #[must_use]
    pub fn is_linearizable_read(self) -> bool {
        matches!(
            self,
            Kind::Range
                | Kind::ReadOnlyTxn
                | Kind::LinearizableMemberList
                | Kind::Alarm
                | Kind::LeaseLeases
        )
    }
}

/// Whether both branches hold nothing but reads. A transaction within counts as a write.
pub(crate) fn is_read_only(txn: &pb::TxnRequest) -> bool {
    use pb::request_op::Request::RequestRange;
    let reads = |op: &pb::RequestOp| matches!(op.request, Some(RequestRange(_)));
    txn.success.iter().chain(&txn.failure).all(reads)
}

fn is_serializable(txn: &pb::TxnRequest) -> bool {
    use pb::request_op::Request::RequestRange;
    txn.success
        .iter()
        .chain(&txn.failure)
        .all(|op| matches!(&op.request, Some(RequestRange(range)) if range.serializable))
}

impl Request {
    /// What sort of request it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Request::Range(range) if range.serializable => Kind::SerializableRange,
            Request::Range(_) => Kind::Range,
            Request::Put(_) => Kind::Put,
            Request::DeleteRange(_) => Kind::DeleteRange,
            Request::Txn(txn) if !is_read_only(txn) => Kind::Txn,
            Request::Txn(txn) if is_serializable(txn) => Kind::SerializableTxn,
            Request::Txn(_) => Kind::ReadOnlyTxn,
            Request::Compact(_) => Kind::Compact,
            Request::MemberList(list) if list.linearizable => Kind::LinearizableMemberList,
            Request::MemberList(_) => Kind::MemberList,
            // A change of no kind of alarm changes nothing.
            Request::Alarm(alarm) if alarm.action != 0 && alarm.alarm != 0 => Kind::AlarmChange,
            Request::Alarm(_) => Kind::Alarm,
            Request::LeaseGrant(_) => Kind::LeaseGrant,
            Request::LeaseRevoke(_) => Kind::LeaseRevoke,
            Request::LeaseLeases => Kind::LeaseLeases,
            Request::Auth(_) => Kind::AuthChange,
            Request::Status => Kind::Status,
            Request::Unserved(_) => Kind::Unserved,
            Request::Garbage(_) => Kind::Garbage,
        }
    }

    /// What the member that is asked needs of who asks before it looks at the request.
    #[must_use]
    pub fn needs(&self) -> Option<Needs> {
        match self {
            Request::LeaseGrant(_) | Request::LeaseRevoke(_) | Request::LeaseLeases => {
                Some(Needs::Known)
            }
            Request::MemberList(_) | Request::Status => Some(Needs::Known),
            Request::Alarm(alarm) if alarm.action == 0 => Some(Needs::Known),
            Request::Alarm(_) | Request::Unserved(Method::Snapshot) => Some(Needs::Root),
            _ => None,
        }
    }

    /// The method that is called.
    #[must_use]
    pub fn method(&self) -> Method {
        match self {
            Request::Range(_) => Method::Range,
            Request::Put(_) => Method::Put,
            Request::DeleteRange(_) => Method::DeleteRange,
            Request::Txn(_) => Method::Txn,
            Request::Compact(_) => Method::Compact,
            Request::MemberList(_) => Method::MemberList,
            Request::Alarm(_) => Method::Alarm,
            Request::LeaseGrant(_) => Method::LeaseGrant,
            Request::LeaseRevoke(_) => Method::LeaseRevoke,
            Request::LeaseLeases => Method::LeaseLeases,
            Request::Auth(change) => change.method(),
            Request::Status => Method::Status,
            Request::Unserved(method) | Request::Garbage(method) => *method,
        }
    }

    /// How many bytes the message takes.
    #[must_use]
    pub fn encoded_bytes(&self) -> usize {
        match self {
            Request::Range(message) => message.encoded_len(),
            Request::Put(message) => message.encoded_len(),
            Request::DeleteRange(message) => message.encoded_len(),
            Request::Txn(message) => message.encoded_len(),
            Request::Compact(message) => message.encoded_len(),
            _ => self.encode().len(),
        }
    }

    /// The message's bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let bytes = match self {
            Request::Range(message) => message.encode_to_vec(),
            Request::Put(message) => message.encode_to_vec(),
            Request::DeleteRange(message) => message.encode_to_vec(),
            Request::Txn(message) => message.encode_to_vec(),
            Request::Compact(message) => message.encode_to_vec(),
            Request::MemberList(message) => message.encode_to_vec(),
            Request::Alarm(message) => message.encode_to_vec(),
            Request::LeaseGrant(message) => message.encode_to_vec(),
            Request::LeaseRevoke(message) => message.encode_to_vec(),
            Request::Auth(change) => change.encode(),
            Request::LeaseLeases | Request::Status | Request::Unserved(_) => Vec::new(),
            // The first field, 100 bytes long, of which none follows.
            Request::Garbage(_) => vec![0x0a, 100],
        };
        bytes.into()
    }
}
