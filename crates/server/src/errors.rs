//! The one table of error texts and codes.
//!
//! Responsible for what a client reads when a request fails: clients match the text, some the code,
//! so both are etcd's to the letter. Not responsible for deciding that a request fails.
//!
//! Invariants:
//! 1. A row stands at its error's own place in the table.
//! 2. The code is the one on the wire, which for three errors is not the one etcd's client library
//!    shows: their texts reach the wire without a code of their own, as `Unknown`.

use jangada_kv::KvError;
use tonic::{Code, Status};

use crate::backend::RequestError;

/// Why a watch is refused whose range has no keys; as in etcd, of the stream and not of the call.
pub const WATCH_EMPTY_RANGE: &str = "mvcc: watcher range is empty";

/// Why a watch is refused whose id is in use.
pub const WATCH_DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";

/// An error as Go's gRPC prints it, which is what etcd tells within a stream, and what its clients look
/// for there.
#[must_use]
pub fn status_text(error: ApiError) -> String {
    let code = match error.code() {
        Code::Cancelled => "Canceled".to_owned(),
        code => format!("{code:?}"),
    };
    format!("rpc error: code = {code} desc = {}", error.text())
}

/// Every error that etcd's clients know by its text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(usize)]
pub enum ApiError {
    /// A key that must be given is empty.
    EmptyKey,
    /// A key that must exist does not, or an operation is left unset.
    KeyNotFound,
    /// `ignore_value` together with a value.
    ValueProvided,
    /// `ignore_lease` together with a lease.
    LeaseProvided,
    /// More operations in a transaction than allowed.
    TooManyOps,
    /// One transaction writes a key twice.
    DuplicateKey,
    /// The client's version is not text.
    InvalidClientApiVersion,
    /// A sort order or target that does not exist.
    InvalidSortOption,
    /// The revision is compacted away.
    Compacted,
    /// The revision does not exist yet.
    FutureRevision,
    /// The quota is used up.
    NoSpace,
    /// The lease does not exist.
    LeaseNotFound,
    /// The lease exists.
    LeaseExists,
    /// The lease is asked to live too long.
    LeaseTtlTooLarge,
    /// The watch was ended.
    WatchCanceled,
    /// The member exists.
    MemberExists,
    /// A member with these peer URLs exists.
    PeerUrlsExist,
    /// The change would leave too few started members.
    MemberNotEnoughStarted,
    /// The URLs are not URLs.
    MemberBadUrls,
    /// The member does not exist.
    MemberNotFound,
    /// The member is not a learner.
    MemberNotLearner,
    /// The learner is too far behind.
    LearnerNotReady,
    /// There are learners enough.
    TooManyLearners,
    /// The request is meant for another cluster.
    ClusterIdMismatch,
    /// The request is larger than allowed.
    RequestTooLarge,
    /// The member has more requests in hand than it can bear.
    TooManyRequests,
    /// There is no user `root`.
    RootUserNotExist,
    /// The user `root` lacks the role `root`.
    RootRoleNotExist,
    /// The user exists.
    UserAlreadyExists,
    /// No user is given.
    UserEmpty,
    /// The user does not exist.
    UserNotFound,
    /// The role exists.
    RoleAlreadyExists,
    /// The role does not exist.
    RoleNotFound,
    /// No role is given.
    RoleEmpty,
    /// The user or the password is wrong.
    AuthFailed,
    /// No permission is given.
    PermissionNotGiven,
    /// The user may not do this.
    PermissionDenied,
    /// The user does not have the role.
    RoleNotGranted,
    /// The role does not have the permission.
    PermissionNotGranted,
    /// Users are not in use.
    AuthNotEnabled,
    /// The token is unknown or has expired.
    InvalidAuthToken,
    /// The change of users is not allowed.
    InvalidAuthManagement,
    /// Users changed after the token was made.
    AuthOldRevision,
    /// This member knows no leader.
    NoLeader,
    /// This member does not lead.
    NotLeader,
    /// The leader changed while the request was under way; it may or may not take effect.
    LeaderChanged,
    /// The cluster's version does not allow it.
    NotCapable,
    /// This member is stopping.
    Stopped,
    /// No answer in time; the request may or may not take effect.
    Timeout,
    /// The same, and the leader was lost meanwhile.
    TimeoutLeaderFailed,
    /// The same, and the connection to the leader was lost meanwhile.
    TimeoutConnectionLost,
    /// The read could be confirmed, but this member is too far behind to answer it.
    TimeoutWaitingApplied,
    /// The member that shall lead did not take over in time.
    TimeoutLeaderTransfer,
    /// Too few members are healthy.
    Unhealthy,
    /// The members differ.
    Corrupt,
    /// A learner does not answer this.
    NotSupportedForLearner,
    /// The member that shall lead cannot.
    BadLeaderTransferee,
    /// The target version of a downgrade is no version.
    DowngradeVersionFormat,
    /// The target version of a downgrade is not the next lower one.
    DowngradeVersionInvalid,
    /// The cluster's version is not known yet.
    DowngradeClusterVersion,
    /// A downgrade is in progress.
    DowngradeInProgress,
    /// No downgrade is in progress.
    DowngradeNone,
    /// The request was given up by its sender.
    Canceled,
    /// The request's own deadline passed.
    DeadlineExceeded,
}

/// A row of the table: the error, its code on the wire and its text.
type Row = (ApiError, Code, &'static str);

/// The texts and codes, as of etcd 3.6.
const TABLE: [Row; 64] = {
    use ApiError as E;
    use Code as C;
    [
        (E::EmptyKey, C::InvalidArgument, "etcdserver: key is not provided"),
        (E::KeyNotFound, C::InvalidArgument, "etcdserver: key not found"),
        (E::ValueProvided, C::InvalidArgument, "etcdserver: value is provided"),
        (E::LeaseProvided, C::InvalidArgument, "etcdserver: lease is provided"),
        (E::TooManyOps, C::InvalidArgument, "etcdserver: too many operations in txn request"),
        (E::DuplicateKey, C::InvalidArgument, "etcdserver: duplicate key given in txn request"),
        (E::InvalidClientApiVersion, C::InvalidArgument, "etcdserver: invalid client api version"),
        (E::InvalidSortOption, C::InvalidArgument, "etcdserver: invalid sort option"),
        (E::Compacted, C::OutOfRange, "etcdserver: mvcc: required revision has been compacted"),
        (
            E::FutureRevision,
            C::OutOfRange,
            "etcdserver: mvcc: required revision is a future revision",
        ),
        (E::NoSpace, C::ResourceExhausted, "etcdserver: mvcc: database space exceeded"),
        (E::LeaseNotFound, C::NotFound, "etcdserver: requested lease not found"),
        (E::LeaseExists, C::FailedPrecondition, "etcdserver: lease already exists"),
        (E::LeaseTtlTooLarge, C::OutOfRange, "etcdserver: too large lease TTL"),
        (E::WatchCanceled, C::Cancelled, "etcdserver: watch canceled"),
        (E::MemberExists, C::FailedPrecondition, "etcdserver: member ID already exist"),
        (E::PeerUrlsExist, C::FailedPrecondition, "etcdserver: Peer URLs already exists"),
        (
            E::MemberNotEnoughStarted,
            C::Unknown,
            "etcdserver: re-configuration failed due to not enough started members",
        ),
        (E::MemberBadUrls, C::InvalidArgument, "etcdserver: given member URLs are invalid"),
        (E::MemberNotFound, C::NotFound, "etcdserver: member not found"),
        (
            E::MemberNotLearner,
            C::FailedPrecondition,
            "etcdserver: can only promote a learner member",
        ),
        (
            E::LearnerNotReady,
            C::FailedPrecondition,
            "etcdserver: can only promote a learner member which is in sync with leader",
        ),
        (
            E::TooManyLearners,
            C::FailedPrecondition,
            "etcdserver: too many learner members in cluster",
        ),
        (E::ClusterIdMismatch, C::FailedPrecondition, "etcdserver: cluster ID mismatch"),
        (E::RequestTooLarge, C::InvalidArgument, "etcdserver: request is too large"),
        (E::TooManyRequests, C::Unknown, "etcdserver: too many requests"),
        (E::RootUserNotExist, C::FailedPrecondition, "etcdserver: root user does not exist"),
        (
            E::RootRoleNotExist,
            C::FailedPrecondition,
            "etcdserver: root user does not have root role",
        ),
        (E::UserAlreadyExists, C::FailedPrecondition, "etcdserver: user name already exists"),
        (E::UserEmpty, C::InvalidArgument, "etcdserver: user name is empty"),
        (E::UserNotFound, C::FailedPrecondition, "etcdserver: user name not found"),
        (E::RoleAlreadyExists, C::FailedPrecondition, "etcdserver: role name already exists"),
        (E::RoleNotFound, C::FailedPrecondition, "etcdserver: role name not found"),
        (E::RoleEmpty, C::InvalidArgument, "etcdserver: role name is empty"),
        (
            E::AuthFailed,
            C::InvalidArgument,
            "etcdserver: authentication failed, invalid user ID or password",
        ),
        (E::PermissionNotGiven, C::InvalidArgument, "etcdserver: permission not given"),
        (E::PermissionDenied, C::PermissionDenied, "etcdserver: permission denied"),
        (E::RoleNotGranted, C::FailedPrecondition, "etcdserver: role is not granted to the user"),
        (
            E::PermissionNotGranted,
            C::FailedPrecondition,
            "etcdserver: permission is not granted to the role",
        ),
        (E::AuthNotEnabled, C::FailedPrecondition, "etcdserver: authentication is not enabled"),
        (E::InvalidAuthToken, C::Unauthenticated, "etcdserver: invalid auth token"),
        (E::InvalidAuthManagement, C::InvalidArgument, "etcdserver: invalid auth management"),
        (E::AuthOldRevision, C::InvalidArgument, "etcdserver: revision of auth store is old"),
        (E::NoLeader, C::Unavailable, "etcdserver: no leader"),
        (E::NotLeader, C::FailedPrecondition, "etcdserver: not leader"),
        (E::LeaderChanged, C::Unavailable, "etcdserver: leader changed"),
        (E::NotCapable, C::FailedPrecondition, "etcdserver: not capable"),
        (E::Stopped, C::Unavailable, "etcdserver: server stopped"),
        (E::Timeout, C::Unavailable, "etcdserver: request timed out"),
        (
            E::TimeoutLeaderFailed,
            C::Unavailable,
            "etcdserver: request timed out, possibly due to previous leader failure",
        ),
        (
            E::TimeoutConnectionLost,
            C::Unavailable,
            "etcdserver: request timed out, possibly due to connection lost",
        ),
        (
            E::TimeoutWaitingApplied,
            C::Unavailable,
            "etcdserver: request timed out, waiting for the applied index took too long",
        ),
        (
            E::TimeoutLeaderTransfer,
            C::Unknown,
            "etcdserver: request timed out, leader transfer took too long",
        ),
        (E::Unhealthy, C::Unavailable, "etcdserver: unhealthy cluster"),
        (E::Corrupt, C::DataLoss, "etcdserver: corrupt cluster"),
        (
            E::NotSupportedForLearner,
            C::FailedPrecondition,
            "etcdserver: rpc not supported for learner",
        ),
        (E::BadLeaderTransferee, C::FailedPrecondition, "etcdserver: bad leader transferee"),
        (
            E::DowngradeVersionFormat,
            C::InvalidArgument,
            "etcdserver: wrong downgrade target version format",
        ),
        (
            E::DowngradeVersionInvalid,
            C::InvalidArgument,
            "etcdserver: invalid downgrade target version",
        ),
        (
            E::DowngradeClusterVersion,
            C::FailedPrecondition,
            "etcdserver: cluster version not found during downgrade",
        ),
        (
            E::DowngradeInProgress,
            C::FailedPrecondition,
            "etcdserver: cluster has a downgrade job in progress",
        ),
        (E::DowngradeNone, C::FailedPrecondition, "etcdserver: no inflight downgrade job"),
        (E::Canceled, C::Cancelled, "etcdserver: request canceled"),
        (E::DeadlineExceeded, C::DeadlineExceeded, "etcdserver: context deadline exceeded"),
    ]
};

impl ApiError {
    /// Every error, in the table's order.
    pub fn all() -> impl Iterator<Item = ApiError> {
        TABLE.iter().map(|row| row.0)
    }

    /// The error of this text; how a client finds out what happened.
    #[must_use]
    pub fn of_text(text: &str) -> Option<ApiError> {
        TABLE.iter().find(|row| row.2 == text).map(|row| row.0)
    }

    /// The text, as on the wire.
    #[must_use]
    pub fn text(self) -> &'static str {
        self.row().2
    }

    /// The gRPC code, as on the wire.
    #[must_use]
    pub fn code(self) -> Code {
        self.row().1
    }

    fn row(self) -> &'static Row {
        let row = &TABLE[self as usize];
        assert!(row.0 == self, "error table invariant 1");
        row
    }
}

/// The answer to a downgrade that etcd would carry out.
pub(crate) fn no_downgrade(target: &str) -> Status {
    Status::failed_precondition(format!(
        "jangada: there is no downgrade to {target} in place; to move to an etcd of that version, take \
         a snapshot and restore it there"
    ))
}

/// The answer to an action upon a downgrade that is none: etcd's.
pub(crate) fn unknown_downgrade_action() -> Status {
    Status::unknown("etcdserver: unknown method")
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for ApiError {}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Status {
        Status::new(error.code(), error.text())
    }
}

impl From<KvError> for ApiError {
    fn from(error: KvError) -> ApiError {
        match error {
            KvError::EmptyKey => ApiError::EmptyKey,
            KvError::KeyNotFound => ApiError::KeyNotFound,
            KvError::ValueProvided => ApiError::ValueProvided,
            KvError::LeaseProvided => ApiError::LeaseProvided,
            KvError::TooManyOps => ApiError::TooManyOps,
            KvError::DuplicateKey => ApiError::DuplicateKey,
            KvError::Compacted => ApiError::Compacted,
            KvError::FutureRevision => ApiError::FutureRevision,
            KvError::LeaseNotFound => ApiError::LeaseNotFound,
            KvError::NoSpace => ApiError::NoSpace,
            KvError::Corrupt => ApiError::Corrupt,
            KvError::LeaseExists => ApiError::LeaseExists,
            KvError::LeaseTtlTooLarge => ApiError::LeaseTtlTooLarge,
            KvError::RootUserNotExist => ApiError::RootUserNotExist,
            KvError::RootRoleNotExist => ApiError::RootRoleNotExist,
            KvError::UserAlreadyExists => ApiError::UserAlreadyExists,
            KvError::UserEmpty => ApiError::UserEmpty,
            KvError::UserNotFound => ApiError::UserNotFound,
            KvError::RoleAlreadyExists => ApiError::RoleAlreadyExists,
            KvError::RoleNotFound => ApiError::RoleNotFound,
            KvError::RoleEmpty => ApiError::RoleEmpty,
            KvError::PermissionDenied => ApiError::PermissionDenied,
            KvError::RoleNotGranted => ApiError::RoleNotGranted,
            KvError::PermissionNotGranted => ApiError::PermissionNotGranted,
            KvError::InvalidAuthManagement => ApiError::InvalidAuthManagement,
            KvError::AuthOldRevision => ApiError::AuthOldRevision,
        }
    }
}

impl From<RequestError> for ApiError {
    fn from(error: RequestError) -> ApiError {
        match error {
            RequestError::NoLeader => ApiError::NoLeader,
            RequestError::NotLeader => ApiError::NotLeader,
            RequestError::LeaderChanged => ApiError::LeaderChanged,
            RequestError::Timeout => ApiError::Timeout,
            RequestError::TimeoutLeaderLost => ApiError::TimeoutLeaderFailed,
            RequestError::TimeoutConnectionLost => ApiError::TimeoutConnectionLost,
            RequestError::TimeoutApplied => ApiError::TimeoutWaitingApplied,
            RequestError::Busy => ApiError::TooManyRequests,
            RequestError::Stopped => ApiError::Stopped,
            RequestError::TooLarge => ApiError::RequestTooLarge,
            RequestError::NotCapable => ApiError::NotCapable,
            RequestError::NoSpace => ApiError::NoSpace,
            RequestError::Corrupt => ApiError::Corrupt,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_stands_at_its_own_place() {
        for (place, row) in TABLE.iter().enumerate() {
            assert_eq!(row.0 as usize, place, "{}", row.2);
        }
        assert_eq!(ApiError::DeadlineExceeded as usize + 1, TABLE.len());
    }

    #[test]
    fn texts_are_distinct_and_lead_back() {
        for error in ApiError::all() {
            assert_eq!(ApiError::of_text(error.text()), Some(error));
        }
        assert_eq!(ApiError::of_text("something else"), None);
    }

    #[test]
    fn three_errors_reach_the_wire_without_a_code_of_their_own() {
        let unknown: Vec<_> = ApiError::all().filter(|e| e.code() == Code::Unknown).collect();
        let expected = [
            ApiError::MemberNotEnoughStarted,
            ApiError::TooManyRequests,
            ApiError::TimeoutLeaderTransfer,
        ];
        assert_eq!(unknown, expected);
    }
}
