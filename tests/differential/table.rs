//! The known differences, each with its name and its reason. Everything else must be equal.

use jangada_server::proto::etcdserverpb::range_request::SortTarget;
use jangada_server::proto::etcdserverpb::{
    RangeRequest, RangeResponse, RequestOp, TxnRequest, TxnResponse, request_op, response_op,
};
use jangada_server::proto::mvccpb::KeyValue;

use crate::answers::Answer;
use crate::generator::Request;

/// A difference that is known.
pub(crate) struct Difference {
    /// Its name, for messages.
    pub(crate) name: &'static str,
    /// Why it is there.
    pub(crate) reason: &'static str,
    /// Whether it explains that `etcd` of this version answered this and Jangada answered that.
    pub(crate) explains: fn(version: &str, request: &Request, etcd: &Answer, ours: &Answer) -> bool,
}

/// All of them.
pub(crate) const DIFFERENCES: [Difference; 2] = [UNKNOWN_SORT, TIES];

const UNKNOWN_SORT: Difference = Difference {
    name: "unknown sort",
    reason: "etcd 3.4 and 3.5 answer a sort order they do not know unsorted, and a sort target they \
             do not know ends their process (so it is not sent to them); etcd 3.6 refuses both",
    explains: |version, request, _, ours| {
        let refused = ours.is_refused_with("etcdserver: invalid sort option")
            || ours.is_refused_with("etcdserver: key is not provided");
        is_unknown_sort(request) && is_before(version, 3, 6) && refused
    },
};

const TIES: Difference = Difference {
    name: "ties",
    reason: "etcd leaves the order of keys with equal sort values to its language's library, which \
             changed between the builds (3.5.1 has a shell sort for up to twelve items, later \
             builds an insertion sort); ours are in key order, as in the later builds",
    explains: |version, request, etcd, ours| {
        version == "3.5.1"
            && match (request, etcd, ours) {
                (Request::Range(request), Answer::Range(etcd), Answer::Range(ours)) => {
                    is_equal_but_for_ties(request, etcd, ours)
                }
                (Request::Txn(request), Answer::Txn(etcd), Answer::Txn(ours)) => {
                    is_txn_equal_but_for_ties(request, etcd, ours)
                }
                _ => false,
            }
    },
};

/// Whether two answers to a sorted range have the same sort values in the same order, and, if no
/// limit cuts the ties apart, the same keys.
fn is_equal_but_for_ties(
    request: &RangeRequest,
    etcd: &RangeResponse,
    ours: &RangeResponse,
) -> bool {
    if etcd == ours {
        return true;
    }
    let by = |answer: &RangeResponse| -> Option<Vec<Vec<u8>>> {
        answer.kvs.iter().map(|kv| sort_value(request, kv)).collect()
    };
    let (Some(theirs_by), Some(ours_by)) = (by(etcd), by(ours)) else { return false };
    let keys = |answer: &RangeResponse| {
        let mut kvs = answer.kvs.clone();
        kvs.sort_by(|a, b| a.key.cmp(&b.key));
        kvs
    };
    let whole = etcd.more || keys(etcd) == keys(ours);
    let rest = (&etcd.header, etcd.more, etcd.count) == (&ours.header, ours.more, ours.count);
    theirs_by == ours_by && whole && rest
}

/// What a key is sorted by; `None` where the order is the keys' own and has no ties.
fn sort_value(request: &RangeRequest, kv: &KeyValue) -> Option<Vec<u8>> {
    let number = |number: i64| Some(number.to_be_bytes().to_vec());
    match SortTarget::try_from(request.sort_target).ok()? {
        SortTarget::Key => None,
        SortTarget::Version => number(kv.version),
        SortTarget::Create => number(kv.create_revision),
        SortTarget::Mod => number(kv.mod_revision),
        // Sorted before the values are left out.
        SortTarget::Value if request.keys_only => Some(Vec::new()),
        SortTarget::Value => Some(kv.value.to_vec()),
    }
}

fn is_txn_equal_but_for_ties(request: &TxnRequest, etcd: &TxnResponse, ours: &TxnResponse) -> bool {
    let branch = if etcd.succeeded { &request.success } else { &request.failure };
    let same = (&etcd.header, etcd.succeeded, etcd.responses.len())
        == (&ours.header, ours.succeeded, ours.responses.len());
    let pairs = etcd.responses.iter().zip(&ours.responses);
    same && branch.iter().zip(pairs).all(|(RequestOp { request }, (etcd, ours))| {
        match (request, &etcd.response, &ours.response) {
            (
                Some(request_op::Request::RequestRange(request)),
                Some(response_op::Response::ResponseRange(etcd)),
                Some(response_op::Response::ResponseRange(ours)),
            ) => is_equal_but_for_ties(request, etcd, ours),
            (
                Some(request_op::Request::RequestTxn(request)),
                Some(response_op::Response::ResponseTxn(etcd)),
                Some(response_op::Response::ResponseTxn(ours)),
            ) => is_txn_equal_but_for_ties(request, etcd, ours),
            (_, etcd, ours) => etcd == ours,
        }
    })
}

/// Whether the request must not be sent to an etcd of this version, because it would end it.
pub(crate) fn is_deadly(version: &str, request: &Request) -> bool {
    let unknown_target =
        matches!(request, Request::Range(range) if !(0..5).contains(&range.sort_target));
    unknown_target && is_before(version, 3, 6)
}

fn is_unknown_sort(request: &Request) -> bool {
    matches!(request, Request::Range(range)
        if !(0..3).contains(&range.sort_order) || !(0..5).contains(&range.sort_target))
}

fn is_before(version: &str, major: u32, minor: u32) -> bool {
    let mut parts = version.split('.').map_while(|part| part.parse::<u32>().ok());
    let found = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    found < (major, minor)
}

/// What is known to differ in the answers about members and alarms: etcd's line, and Jangada's.
const KNOWN_OF_MEMBERS: [(&str, &str); 4] = [
    // etcd forgets that a member is a learner when its URLs are updated (#13196 and others).
    (
        "list: [\"\" at [\"http://127.0.0.1:3\", \"http://127.0.0.1:2\"], learner false; ",
        "list: [\"\" at [\"http://127.0.0.1:2\", \"http://127.0.0.1:3\"], learner true; ",
    ),
    // etcd 3.4 and 3.5 raise an alarm without a kind; later ones do not.
    ("alarm Activate 7 None: [NONE of 7]", "alarm Activate 7 None: []"),
    ("alarm Deactivate 7 None: [NONE of 7]", "alarm Deactivate 7 None: []"),
    // etcd refuses reads while members differ, but not those that it answers without applying.
    (
        "get: Some(\"v\")\nalarm Deactivate 9 Corrupt",
        "get: refused, DataLoss: etcdserver: corrupt cluster\nalarm Deactivate 9 Corrupt",
    ),
];

/// What etcd answered about members, with what is known to differ put as Jangada has it.
pub(crate) fn known_of_members(transcript: &str) -> String {
    let known = KNOWN_OF_MEMBERS.iter();
    known.fold(transcript.to_owned(), |text, (theirs, ours)| text.replace(theirs, ours))
}
