//! The KV service.

use jangada_kv::{AlarmAction, AlarmKind, Command};
use jangada_server::Settings;
use jangada_server::backend::RequestError;
use jangada_server::errors::ApiError;
use jangada_server::proto::etcdserverpb as pb;
use jangada_server::proto::mvccpb::KeyValue;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::range_request::{SortOrder, SortTarget};
use pb::request_op::Request;
use pb::response_op::Response;
use tonic::Code;

use crate::support::{CLUSTER_ID, MEMBER_ID, Server, TERM, assert_refused, bytes};

fn put(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest { key: bytes(key), value: bytes(value), ..Default::default() }
}

fn get(key: &str) -> pb::RangeRequest {
    pb::RangeRequest { key: bytes(key), ..Default::default() }
}

fn all() -> pb::RangeRequest {
    pb::RangeRequest { key: bytes("\0"), range_end: bytes("\0"), ..Default::default() }
}

fn delete(key: &str, range_end: &str) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest { key: bytes(key), range_end: bytes(range_end), prev_kv: true }
}

fn op(request: Request) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

fn put_op(key: &str, value: &str) -> pb::RequestOp {
    op(Request::RequestPut(put(key, value)))
}

fn success(ops: Vec<pb::RequestOp>) -> pb::TxnRequest {
    pb::TxnRequest { success: ops, ..Default::default() }
}

fn compare(key: &str, result: CompareResult, union: Option<TargetUnion>) -> pb::Compare {
    let target = match union {
        Some(TargetUnion::Version(_)) | None => CompareTarget::Version,
        Some(TargetUnion::CreateRevision(_)) => CompareTarget::Create,
        Some(TargetUnion::ModRevision(_)) => CompareTarget::Mod,
        Some(TargetUnion::Value(_)) => CompareTarget::Value,
        Some(TargetUnion::Lease(_)) => CompareTarget::Lease,
    };
    pb::Compare {
        result: result.into(),
        target: target.into(),
        key: bytes(key),
        range_end: bytes(""),
        target_union: union,
    }
}

fn header(revision: i64) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader {
        cluster_id: CLUSTER_ID,
        member_id: MEMBER_ID,
        revision,
        raft_term: TERM,
    })
}

fn inner_header(revision: i64) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader { revision, ..Default::default() })
}

fn keys(kvs: &[KeyValue]) -> Vec<&str> {
    kvs.iter().map(|kv| std::str::from_utf8(&kv.key).expect("test keys are text")).collect()
}

#[tokio::test]
async fn put_then_get_with_headers_and_numbers() {
    let server = Server::start().await;
    let mut kv = server.kv().await;
    let empty = kv.range(get("a")).await.expect("it is served").into_inner();
    assert_eq!(empty, pb::RangeResponse { header: header(1), ..Default::default() });
    let answer = kv.put(put("a", "1")).await.expect("it is served").into_inner();
    assert_eq!(answer, pb::PutResponse { header: header(2), prev_kv: None });
    let request = pb::PutRequest { prev_kv: true, ..put("a", "2") };
    let answer = kv.put(request).await.expect("it is served").into_inner();
    let first = KeyValue {
        key: bytes("a"),
        create_revision: 2,
        mod_revision: 2,
        version: 1,
        value: bytes("1"),
        lease: 0,
    };
    assert_eq!(answer, pb::PutResponse { header: header(3), prev_kv: Some(first.clone()) });
    let answer = kv.range(get("a")).await.expect("it is served").into_inner();
    let second = KeyValue { mod_revision: 3, version: 2, value: bytes("2"), ..first.clone() };
    let expected =
        pb::RangeResponse { header: header(3), kvs: vec![second], more: false, count: 1 };
    assert_eq!(answer, expected);
    // At an older revision the header still tells the newest.
    let request = pb::RangeRequest { revision: 2, ..get("a") };
    let answer = kv.range(request).await.expect("it is served").into_inner();
    let expected = pb::RangeResponse { header: header(3), kvs: vec![first], more: false, count: 1 };
    assert_eq!(answer, expected);
}

#[tokio::test]
async fn range_passes_every_option_on() {
    let server = Server::start().await;
    let mut kv = server.kv().await;
    for (key, value) in [("a", "3"), ("b", "2"), ("c", "1"), ("a", "3")] {
        kv.put(put(key, value)).await.expect("it is served");
    }
    let cases = [
        (pb::RangeRequest { limit: 2, ..all() }, vec!["a", "b"], true),
        (pb::RangeRequest { limit: 3, ..all() }, vec!["a", "b", "c"], false),
        (pb::RangeRequest { count_only: true, ..all() }, vec![], false),
        (pb::RangeRequest { min_mod_revision: 4, ..all() }, vec!["a", "c"], false),
        (pb::RangeRequest { max_mod_revision: 3, ..all() }, vec!["b"], false),
        (pb::RangeRequest { min_create_revision: 3, ..all() }, vec!["b", "c"], false),
        (pb::RangeRequest { max_create_revision: 2, ..all() }, vec!["a"], false),
        (
            pb::RangeRequest { sort_order: SortOrder::Descend.into(), ..all() },
            vec!["c", "b", "a"],
            false,
        ),
        (
            pb::RangeRequest { sort_target: SortTarget::Value.into(), ..all() },
            vec!["c", "b", "a"],
            false,
        ),
        (
            pb::RangeRequest {
                sort_target: SortTarget::Mod.into(),
                sort_order: SortOrder::Ascend.into(),
                ..all()
            },
            vec!["b", "c", "a"],
            false,
        ),
        (pb::RangeRequest { range_end: bytes("b"), ..get("a") }, vec!["a"], false),
    ];
    for (request, expected, more) in cases {
        let count = if request.range_end == bytes("b") { 1 } else { 3 };
        let answer = kv.range(request.clone()).await.expect("it is served").into_inner();
        assert_eq!(keys(&answer.kvs), expected, "{request:?}");
        assert_eq!((answer.more, answer.count), (more, count), "{request:?}");
    }
    let request = pb::RangeRequest { keys_only: true, ..get("b") };
    let answer = kv.range(request).await.expect("it is served").into_inner();
    assert_eq!((answer.kvs[0].value.len(), answer.kvs[0].mod_revision), (0, 3));
}

/// More keys than are read at once.
#[tokio::test]
async fn a_long_range_comes_whole_and_others_are_served_meanwhile() {
    let server = Server::start().await;
    let mut kv = server.kv().await;
    let key = |at: usize| format!("key {at:04}");
    for at in 0..3_000 {
        kv.put(put(&key(at), "x")).await.expect("it is served");
    }
    let expected: Vec<String> = (0..3_000).map(key).collect();
    let (mut one, mut other) = (server.kv().await, server.kv().await);
    let (long, short) = tokio::join!(one.range(all()), other.range(get("key 0000")));
    let (long, short) = (long.expect("it is served").into_inner(), short.expect("it is served"));
    assert_eq!(keys(&long.kvs), expected);
    assert_eq!((long.header, long.more, long.count), (header(3_001), false, 3_000));
    assert_eq!(short.into_inner().count, 1);
    let limited = pb::RangeRequest { limit: 1_100, sort_order: SortOrder::Descend.into(), ..all() };
    let limited = kv.range(limited).await.expect("it is served").into_inner();
    let last: Vec<&str> = expected.iter().rev().take(1_100).map(String::as_str).collect();
    assert_eq!(keys(&limited.kvs), last);
    assert_eq!((limited.more, limited.count), (true, 3_000));
}

#[tokio::test]
async fn delete_range_answers_what_was_there() {
    let server = Server::start().await;
    let mut kv = server.kv().await;
    for key in ["a", "b", "c"] {
        kv.put(put(key, "v")).await.expect("it is served");
    }
    let answer = kv.delete_range(delete("a", "c")).await.expect("it is served").into_inner();
    assert_eq!((answer.header, answer.deleted), (header(5), 2));
    assert_eq!(keys(&answer.prev_kvs), ["a", "b"]);
    let answer = kv.delete_range(delete("a", "c")).await.expect("it is served").into_inner();
    assert_eq!((answer.header, answer.deleted), (header(5), 0), "nothing there, no new revision");
}

#[tokio::test]
async fn txn_answers_carry_the_revision_of_their_moment_alone() {
    let server = Server::start().await;
    let mut kv = server.kv().await;
    kv.put(put("a", "1")).await.expect("it is served");
    let request = pb::TxnRequest {
        compare: vec![compare("a", CompareResult::Equal, Some(TargetUnion::Value(bytes("1"))))],
        success: vec![
            op(Request::RequestDeleteRange(delete("c", ""))),
            op(Request::RequestRange(get("a"))),
            put_op("a", "2"),
            op(Request::RequestRange(get("a"))),
            op(Request::RequestTxn(success(vec![put_op("b", "3")]))),
            op(Request::RequestDeleteRange(delete("c", ""))),
        ],
        failure: vec![put_op("a", "no")],
    };
    let answer = kv.txn(request.clone()).await.expect("it is served").into_inner();
    assert_eq!((answer.header, answer.succeeded), (header(3), true));
    let responses: Vec<_> =
        answer.responses.into_iter().map(|op| op.response.expect("each is answered")).collect();
    let [nothing, before, put, after, txn, delete] = &responses[..] else {
        panic!("six answers: {responses:?}")
    };
    let Response::ResponseDeleteRange(nothing) = nothing else { panic!("a deletion: {nothing:?}") };
    assert_eq!((nothing.header, nothing.deleted), (inner_header(2), 0), "no change so far");
    for (range, revision, value) in [(before, 2, "1"), (after, 3, "2")] {
        let Response::ResponseRange(range) = range else { panic!("a range: {range:?}") };
        let found = (range.header, range.count, &range.kvs[0].value);
        assert_eq!(found, (inner_header(revision), 1, &bytes(value)));
    }
    let expected = pb::PutResponse { header: inner_header(3), prev_kv: None };
    assert_eq!(*put, Response::ResponsePut(expected));
    let Response::ResponseTxn(txn) = txn else { panic!("a transaction: {txn:?}") };
    assert_eq!((txn.header, txn.succeeded), (inner_header(0), true), "one within carries none");
    let expected = pb::PutResponse { header: inner_header(3), prev_kv: None };
    assert_eq!(txn.responses[0].response, Some(Response::ResponsePut(expected)));
    let Response::ResponseDeleteRange(delete) = delete else { panic!("a deletion: {delete:?}") };
    assert_eq!((delete.header, delete.deleted), (inner_header(3), 0));
    let answer = kv.txn(request).await.expect("it is served").into_inner();
    assert_eq!((answer.header, answer.succeeded), (header(4), false), "the value is another");
}

#[tokio::test]
async fn compares_follow_their_target_and_operand() {
    let server = Server::start().await;
    let mut kv = server.kv().await;
    kv.put(put("a", "1")).await.expect("it is served");
    use CompareResult::{Equal, Greater, Less, NotEqual};
    let mut odd_target = compare("a", NotEqual, Some(TargetUnion::Version(1)));
    odd_target.target = 77;
    let mut odd_result = compare("a", NotEqual, Some(TargetUnion::Version(1)));
    odd_result.result = 77;
    let value = Some(TargetUnion::Value(bytes("2")));
    let [mut odd_result_of_value, mut odd_result_of_none] =
        ["a", "none"].map(|key| compare(key, NotEqual, value.clone()));
    odd_result_of_value.result = 77;
    odd_result_of_none.result = 77;
    let mut crossed = compare("a", Equal, Some(TargetUnion::Version(0)));
    crossed.target = CompareTarget::Lease.into();
    let cases = [
        (compare("a", Equal, Some(TargetUnion::Version(1))), true),
        (compare("a", Greater, Some(TargetUnion::CreateRevision(1))), true),
        (compare("a", Less, Some(TargetUnion::ModRevision(2))), false),
        (compare("a", NotEqual, Some(TargetUnion::Value(bytes("2")))), true),
        (compare("a", Equal, Some(TargetUnion::Lease(0))), true),
        (compare("none", Equal, None), true),
        (compare("none", NotEqual, Some(TargetUnion::Value(bytes("x")))), false),
        (crossed, true),
        (odd_target, false),
        (odd_result, true),
        (odd_result_of_value, true),
        (odd_result_of_none, false),
    ];
    for (compare, expected) in cases {
        let request = pb::TxnRequest { compare: vec![compare.clone()], ..Default::default() };
        let answer = kv.txn(request).await.expect("it is served").into_inner();
        assert_eq!(answer.succeeded, expected, "{compare:?}");
        assert_eq!(answer.header, header(2));
    }
}

#[tokio::test]
async fn compact_makes_old_revisions_unreadable() {
    let server = Server::start().await;
    let mut kv = server.kv().await;
    for value in ["1", "2", "3"] {
        kv.put(put("a", value)).await.expect("it is served");
    }
    let request = pb::CompactionRequest { revision: 3, physical: true };
    let answer = kv.compact(request).await.expect("it is served").into_inner();
    assert_eq!(answer, pb::CompactionResponse { header: header(4) });
    let at = |revision| pb::RangeRequest { revision, ..get("a") };
    assert_refused(kv.range(at(2)).await, ApiError::Compacted);
    assert_eq!(kv.range(at(3)).await.expect("it is served").into_inner().kvs[0].version, 2);
    assert_refused(kv.range(at(5)).await, ApiError::FutureRevision);
    assert_refused(kv.compact(request).await, ApiError::Compacted);
    let request = pb::CompactionRequest { revision: 99, physical: false };
    assert_refused(kv.compact(request).await, ApiError::FutureRevision);
}

#[tokio::test]
async fn wrong_requests_are_refused_in_etcds_order() {
    let server = Server::with(Settings { max_txn_ops: 3, ..Settings::default() }).await;
    let mut kv = server.kv().await;
    assert_refused(kv.range(get("")).await, ApiError::EmptyKey);
    let request = pb::RangeRequest { sort_order: 9, ..get("") };
    assert_refused(kv.range(request).await, ApiError::EmptyKey);
    let request = pb::RangeRequest { sort_order: 9, ..get("a") };
    assert_refused(kv.range(request).await, ApiError::InvalidSortOption);
    let request = pb::RangeRequest { sort_target: -1, ..get("a") };
    assert_refused(kv.range(request).await, ApiError::InvalidSortOption);

    assert_refused(kv.put(put("", "v")).await, ApiError::EmptyKey);
    let request = pb::PutRequest { ignore_value: true, ..put("a", "v") };
    assert_refused(kv.put(request).await, ApiError::ValueProvided);
    let request = pb::PutRequest { ignore_lease: true, lease: 1, ..put("a", "v") };
    assert_refused(kv.put(request).await, ApiError::LeaseProvided);
    let request = pb::PutRequest { ignore_value: true, ..put("none", "") };
    assert_refused(kv.put(request).await, ApiError::KeyNotFound);
    let request = pb::PutRequest { lease: 5, ..put("a", "v") };
    assert_refused(kv.put(request).await, ApiError::LeaseNotFound);

    assert_refused(kv.delete_range(delete("", "b")).await, ApiError::EmptyKey);

    let unset = pb::RequestOp { request: None };
    let four = vec![unset.clone(); 4];
    assert_refused(kv.txn(success(four)).await, ApiError::TooManyOps);
    assert_refused(kv.txn(success(vec![unset.clone()])).await, ApiError::KeyNotFound);
    let nested = success(vec![put_op("a", "1"), put_op("b", "1"), put_op("c", "1")]);
    let request = success(vec![op(Request::RequestTxn(nested))]);
    assert_refused(kv.txn(request).await, ApiError::TooManyOps);
    let request = pb::TxnRequest {
        compare: vec![compare("", CompareResult::Equal, None)],
        ..success(vec![unset.clone()])
    };
    assert_refused(kv.txn(request).await, ApiError::EmptyKey);
    let request = success(vec![put_op("a", "1"), put_op("a", "2"), unset]);
    assert_refused(kv.txn(request).await, ApiError::KeyNotFound);
    let request = success(vec![put_op("a", "1"), put_op("a", "2")]);
    assert_refused(kv.txn(request).await, ApiError::DuplicateKey);
    let request = pb::TxnRequest {
        failure: vec![put_op("b", "1"), op(Request::RequestDeleteRange(delete("a", "c")))],
        ..Default::default()
    };
    assert_refused(kv.txn(request).await, ApiError::DuplicateKey);
    let odd_sort = pb::RangeRequest { sort_target: 6, ..get("a") };
    let request = success(vec![op(Request::RequestRange(odd_sort))]);
    assert_refused(kv.txn(request).await, ApiError::InvalidSortOption);

    let answer = kv.range(all()).await.expect("it is served").into_inner();
    assert_eq!((answer.count, answer.header), (0, header(1)), "nothing refused has changed a key");
}

#[tokio::test]
async fn a_request_too_large_is_refused_by_its_size_and_changes_nothing() {
    let limit = 1 << 20;
    let server = Server::with(Settings { max_request_bytes: limit, ..Settings::default() }).await;
    let mut kv = server.kv().await;
    assert_refused(kv.put(put("a", &"v".repeat(limit))).await, ApiError::RequestTooLarge);
    let ops = vec![put_op("a", &"v".repeat(limit / 2)), put_op("b", &"v".repeat(limit / 2))];
    assert_refused(kv.txn(success(ops)).await, ApiError::RequestTooLarge);
    let request = pb::DeleteRangeRequest { key: bytes(&"k".repeat(limit)), ..delete("", "") };
    assert_refused(kv.delete_range(request).await, ApiError::RequestTooLarge);
    // Beyond the allowance for messages the transport itself refuses.
    let status = kv.put(put("a", &"v".repeat(2 * limit))).await.expect_err("it is refused");
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().starts_with("grpc: received message larger than max ("), "{status}");
    assert_eq!(kv.range(all()).await.expect("it is served").into_inner().count, 0);
    // Just below the limit it fits, and comes back whole.
    let value = "v".repeat(limit - 64);
    kv.put(put("a", &value)).await.expect("it is served");
    let answer = kv.range(get("a")).await.expect("it is served").into_inner();
    assert_eq!(answer.kvs[0].value, bytes(&value));
}

#[tokio::test]
async fn only_linearizable_reads_take_a_barrier() {
    let server = Server::start().await;
    let mut kv = server.kv().await;
    let serializable = pb::RangeRequest { serializable: true, ..get("a") };
    let read = |range: &pb::RangeRequest| op(Request::RequestRange(range.clone()));
    let barriers = || server.fake.scripted().barriers_taken;
    kv.range(serializable.clone()).await.expect("it is served");
    kv.txn(success(vec![read(&serializable)])).await.expect("it is served");
    kv.put(put("a", "1")).await.expect("it is served");
    assert_eq!(barriers(), 0);
    kv.range(get("a")).await.expect("it is served");
    assert_eq!(barriers(), 1);
    kv.txn(success(vec![read(&serializable), read(&get("a"))])).await.expect("it is served");
    assert_eq!(barriers(), 2);
    server.fake.script(|script| script.barriers = Some(RequestError::LeaderChanged));
    assert_refused(kv.range(get("a")).await, ApiError::LeaderChanged);
    assert_refused(kv.txn(success(vec![read(&get("a"))])).await, ApiError::LeaderChanged);
    kv.range(serializable).await.expect("a read that may be stale needs no leader");
}

#[tokio::test]
async fn what_the_member_says_reaches_the_client_in_etcds_words() {
    let server = Server::start().await;
    let mut kv = server.kv().await;
    let cases = [
        (RequestError::NoLeader, "etcdserver: no leader", Code::Unavailable),
        (RequestError::NotLeader, "etcdserver: not leader", Code::FailedPrecondition),
        (RequestError::LeaderChanged, "etcdserver: leader changed", Code::Unavailable),
        (RequestError::Timeout, "etcdserver: request timed out", Code::Unavailable),
        (
            RequestError::TimeoutLeaderLost,
            "etcdserver: request timed out, possibly due to previous leader failure",
            Code::Unavailable,
        ),
        (
            RequestError::TimeoutConnectionLost,
            "etcdserver: request timed out, possibly due to connection lost",
            Code::Unavailable,
        ),
        (
            RequestError::TimeoutApplied,
            "etcdserver: request timed out, waiting for the applied index took too long",
            Code::Unavailable,
        ),
        (RequestError::Busy, "etcdserver: too many requests", Code::Unknown),
        (RequestError::Stopped, "etcdserver: server stopped", Code::Unavailable),
        (RequestError::TooLarge, "etcdserver: request is too large", Code::InvalidArgument),
    ];
    for (error, text, code) in cases {
        server.fake.script(|script| script.proposals = Some(error));
        let status = kv.put(put("a", "1")).await.expect_err("the member refuses");
        assert_eq!((status.message(), status.code()), (text, code));
        assert_eq!(error.to_string(), text);
    }
}

#[tokio::test]
async fn alarms_refuse_what_they_must() {
    let server = Server::start().await;
    let mut kv = server.kv().await;
    let raise = |kind| Command::Alarm { action: AlarmAction::Activate, member: 1, kind };
    server.fake.apply(&raise(AlarmKind::NoSpace));
    assert_refused(kv.put(put("a", "1")).await, ApiError::NoSpace);
    assert_refused(kv.txn(success(vec![put_op("a", "1")])).await, ApiError::NoSpace);
    kv.range(get("a")).await.expect("reads go on");
    kv.delete_range(delete("a", "")).await.expect("deletions go on");
    server.fake.apply(&raise(AlarmKind::Corrupt));
    assert_refused(kv.range(get("a")).await, ApiError::Corrupt);
}

#[tokio::test]
async fn metadata_may_demand_a_leader() {
    let server = Server::start().await;
    let mut kv = server.kv().await;
    let demand = |value: &'static str| {
        let read = pb::RangeRequest { serializable: true, ..get("a") };
        let mut request = tonic::Request::new(read);
        let value = tonic::metadata::MetadataValue::from_static(value);
        request.metadata_mut().insert("hasleader", value);
        request
    };
    kv.range(demand("true")).await.expect("there is a leader");
    server.fake.script(|script| script.leader = None);
    assert_refused(kv.range(demand("true")).await, ApiError::NoLeader);
    kv.range(demand("false")).await.expect("nothing is demanded");
}

#[tokio::test]
async fn a_learner_serves_stale_reads_alone() {
    let server = Server::start().await;
    server.fake.script(|script| script.is_learner = true);
    let mut kv = server.kv().await;
    assert_refused(kv.put(put("a", "1")).await, ApiError::NotSupportedForLearner);
    assert_refused(kv.range(get("a")).await, ApiError::NotSupportedForLearner);
    let read = pb::RangeRequest { serializable: true, ..get("a") };
    kv.range(read).await.expect("a read that may be stale is served");
}
