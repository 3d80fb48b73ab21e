//! Requests and answers of the store: etcd's KV service without its wire format. Field meanings and
//! limits are those of etcd's `rpc.proto`.

use bytes::Bytes;

/// A key, its value and its history's numbers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KeyValue {
    /// The key; never empty.
    pub key: Bytes,
    /// The revision of the key's creation in its present life.
    pub create_revision: i64,
    /// The revision of the last change.
    pub mod_revision: i64,
    /// The number of changes in the present life, from 1.
    pub version: i64,
    /// The value.
    pub value: Bytes,
    /// The lease the key is attached to, or 0.
    pub lease: i64,
}

/// What a range is sorted by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SortTarget {
    /// The key.
    #[default]
    Key,
    /// The version.
    Version,
    /// The create revision.
    Create,
    /// The mod revision.
    Mod,
    /// The value.
    Value,
}

/// The direction of a sort.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SortOrder {
    /// As the store has it; ascending for a target other than the key.
    #[default]
    None,
    /// Smallest first.
    Ascend,
    /// Largest first.
    Descend,
}

/// Reads the keys in `[key, range_end)`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RangeRequest {
    /// The first key.
    pub key: Bytes,
    /// One past the last key; empty for `key` alone, a single zero byte for "no end".
    pub range_end: Bytes,
    /// The most keys to answer; 0 for all.
    pub limit: i64,
    /// The revision to read at; 0 or less for the newest.
    pub revision: i64,
    /// The sort's direction.
    pub sort_order: SortOrder,
    /// What to sort by.
    pub sort_target: SortTarget,
    /// Leave the values out.
    pub keys_only: bool,
    /// Answer the count alone.
    pub count_only: bool,
    /// Leave out keys changed before this revision; 0 for none.
    pub min_mod_revision: i64,
    /// Leave out keys changed after this revision; 0 for none.
    pub max_mod_revision: i64,
    /// Leave out keys created before this revision; 0 for none.
    pub min_create_revision: i64,
    /// Leave out keys created after this revision; 0 for none.
    pub max_create_revision: i64,
}

/// The answer to a [`RangeRequest`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RangeResponse {
    /// The keys, at most `limit`.
    pub kvs: Vec<KeyValue>,
    /// Whether the limit cut keys off.
    pub more: bool,
    /// The keys in range, before the limit and before the revision filters.
    pub count: i64,
}

/// Writes one key.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PutRequest {
    /// The key; not empty.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// The lease to attach to; 0 detaches.
    pub lease: i64,
    /// Answer the version before.
    pub prev_kv: bool,
    /// Keep the value, change the rest.
    pub ignore_value: bool,
    /// Keep the lease.
    pub ignore_lease: bool,
}

/// The answer to a [`PutRequest`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PutResponse {
    /// The version before, if it was asked for and there was one.
    pub prev_kv: Option<KeyValue>,
}

/// Deletes the keys in `[key, range_end)`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DeleteRangeRequest {
    /// The first key.
    pub key: Bytes,
    /// As in [`RangeRequest::range_end`].
    pub range_end: Bytes,
    /// Answer the versions before.
    pub prev_kv: bool,
}

/// The answer to a [`DeleteRangeRequest`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DeleteRangeResponse {
    /// The number of keys deleted.
    pub deleted: i64,
    /// The versions before, in key order, if asked for.
    pub prev_kvs: Vec<KeyValue>,
}

/// How a comparison's two sides must relate.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum CompareResult {
    /// Equal.
    #[default]
    Equal,
    /// The key's side is greater.
    Greater,
    /// The key's side is less.
    Less,
    /// Not equal.
    NotEqual,
}

/// What of a key is compared, and with what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CompareTarget {
    /// The version.
    Version(i64),
    /// The create revision.
    Create(i64),
    /// The mod revision.
    Mod(i64),
    /// The value.
    Value(Bytes),
    /// The lease.
    Lease(i64),
}

/// One condition of a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Compare {
    /// The relation.
    pub result: CompareResult,
    /// The target and the operand.
    pub target: CompareTarget,
    /// The first key.
    pub key: Bytes,
    /// As in [`RangeRequest::range_end`]; the condition must hold for every key in range.
    pub range_end: Bytes,
}

/// One operation of a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RequestOp {
    /// A read.
    Range(RangeRequest),
    /// A write.
    Put(PutRequest),
    /// A deletion.
    DeleteRange(DeleteRangeRequest),
    /// A transaction within.
    Txn(TxnRequest),
}

/// If all compares hold then `success`, else `failure`, in one revision.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TxnRequest {
    /// The conditions; none of them means true.
    pub compare: Vec<Compare>,
    /// What to do if they hold.
    pub success: Vec<RequestOp>,
    /// What to do if not.
    pub failure: Vec<RequestOp>,
}

/// One answer within a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ResponseOp {
    /// To a read.
    Range(RangeResponse),
    /// To a write.
    Put(PutResponse),
    /// To a deletion.
    DeleteRange(DeleteRangeResponse),
    /// To a transaction within.
    Txn(TxnResponse),
}

/// The answer to a [`TxnRequest`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TxnResponse {
    /// Whether the compares held.
    pub succeeded: bool,
    /// One answer for each operation of the branch taken.
    pub responses: Vec<ResponseOp>,
}

/// Why a request was refused. Deterministic: every member answers the same.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum KvError {
    /// A key that must be given is empty.
    EmptyKey,
    /// `ignore_value` or `ignore_lease` on a key that does not exist, or an operation left unset.
    KeyNotFound,
    /// `ignore_value` together with a value.
    ValueProvided,
    /// `ignore_lease` together with a lease.
    LeaseProvided,
    /// More operations than allowed.
    TooManyOps,
    /// One transaction writes a key twice.
    DuplicateKey,
    /// The revision asked for is compacted away.
    Compacted,
    /// The revision asked for does not exist yet.
    FutureRevision,
    /// The lease does not exist.
    LeaseNotFound,
    /// The NOSPACE alarm is raised.
    NoSpace,
    /// The CORRUPT alarm is raised.
    Corrupt,
    /// The id of a lease is taken.
    LeaseExists,
    /// A lease is asked for longer than one may be, or for no time.
    LeaseTtlTooLarge,
    /// Users cannot come into use: there is no user `root`.
    RootUserNotExist,
    /// Users cannot come into use: the user `root` lacks the role `root`.
    RootRoleNotExist,
    /// The user exists.
    UserAlreadyExists,
    /// No user is named, or nobody says who he is.
    UserEmpty,
    /// The user does not exist.
    UserNotFound,
    /// The role exists.
    RoleAlreadyExists,
    /// The role does not exist.
    RoleNotFound,
    /// No role is named.
    RoleEmpty,
    /// The user may not do this.
    PermissionDenied,
    /// The user does not have the role.
    RoleNotGranted,
    /// The role does not have the permission.
    PermissionNotGranted,
    /// The change of users is not allowed, or the permission is for no key.
    InvalidAuthManagement,
    /// Permissions changed after the token was made that the caller showed.
    AuthOldRevision,
}
