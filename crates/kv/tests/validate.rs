//! What a server refuses before it proposes: etcd's checks, rule by rule.

use bytes::Bytes;
use jangada_kv::{
    Command, Compare, CompareResult, CompareTarget, DeleteRangeRequest, KvError, PutRequest,
    RangeRequest, RequestOp, TXN_DEPTH_MAX, TxnRequest, check_delete, check_put, check_range,
    check_txn, cost, is_read_only,
};
use proptest::prelude::*;

fn put(key: &str) -> RequestOp {
    RequestOp::Put(PutRequest { key: Bytes::copy_from_slice(key.as_bytes()), ..Default::default() })
}

fn delete(key: &str, range_end: &str) -> RequestOp {
    RequestOp::DeleteRange(DeleteRangeRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        range_end: Bytes::copy_from_slice(range_end.as_bytes()),
        prev_kv: false,
    })
}

fn range(key: &str) -> RequestOp {
    let key = Bytes::copy_from_slice(key.as_bytes());
    RequestOp::Range(RangeRequest { key, ..Default::default() })
}

fn branches(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> TxnRequest {
    TxnRequest { compare: Vec::new(), success, failure }
}

fn within(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
    RequestOp::Txn(branches(success, failure))
}

fn check(ops: Vec<RequestOp>, expected: Result<(), KvError>, rule: &str) {
    let mirrored = branches(Vec::new(), ops.clone());
    assert_eq!(check_txn(&branches(ops, Vec::new()), 128), expected, "{rule}");
    assert_eq!(check_txn(&mirrored, 128), expected, "in the other branch: {rule}");
}

#[test]
fn a_key_is_written_once() {
    let duplicate = Err(KvError::DuplicateKey);
    check(vec![put("a"), put("b")], Ok(()), "different keys");
    check(vec![put("a"), put("a")], duplicate, "two puts of a key");
    check(vec![put("a"), delete("a", "")], duplicate, "a put and a deletion of a key");
    check(vec![delete("a", ""), put("a")], duplicate, "the order does not matter");
    check(vec![delete("a", "c"), put("b")], duplicate, "a put inside a deleted interval");
    check(vec![delete("a", "c"), put("a")], duplicate, "at its start");
    check(vec![delete("a", "c"), put("c")], Ok(()), "at its end, which is outside");
    check(vec![delete("b", "c"), put("a")], Ok(()), "before it");
    check(vec![delete("a", "c"), delete("b", "d")], Ok(()), "overlapping deletions");
    check(vec![delete("a", "c"), delete("b", "d"), put("cc")], duplicate, "in their union");
    check(vec![delete("b", "d"), delete("a", "e"), put("d")], duplicate, "one inside the other");
    check(vec![delete("a", ""), delete("a\0", ""), put("a\0\0")], Ok(()), "beside two points");
    check(vec![delete("c", "a"), put("b")], Ok(()), "an interval that ends before it starts");
    check(vec![delete("a", "\0"), put("b")], Ok(()), "etcd does not see into open intervals");
    check(vec![range("a"), put("a"), range("a")], Ok(()), "reads do not count");
    let apart = branches(vec![put("a")], vec![put("a"), delete("b", "")]);
    assert_eq!(check_txn(&apart, 128), Ok(()), "the branches exclude each other");
}

#[test]
fn a_key_is_written_once_within_nested_transactions() {
    let duplicate = Err(KvError::DuplicateKey);
    let exclusive = within(vec![put("a")], vec![put("a")]);
    check(vec![exclusive.clone()], Ok(()), "branches of one transaction within");
    check(vec![exclusive.clone(), put("a")], duplicate, "a level and one of its branches");
    check(vec![exclusive, within(vec![], vec![put("a")])], duplicate, "siblings");
    check(vec![within(vec![delete("a", "c")], vec![]), put("b")], duplicate, "a child deletes");
    check(vec![delete("a", "c"), within(vec![put("b")], vec![])], duplicate, "a child puts");
    let deep = within(vec![within(vec![], vec![put("b")])], vec![]);
    check(vec![deep, delete("a", "c")], duplicate, "a grandchild puts");
    let apart = within(vec![put("b")], vec![delete("a", "c")]);
    check(vec![apart], Ok(()), "one branch puts, the other deletes");
    let deletes = || within(vec![delete("a", "")], vec![]);
    let puts = || within(vec![put("a")], vec![]);
    check(vec![deletes(), puts()], duplicate, "an elder sibling deletes");
    check(vec![puts(), deletes()], Ok(()), "a younger sibling deletes");
    check(vec![within(vec![put("a"), put("a")], vec![])], duplicate, "in the child alone");
}

#[test]
fn operations_are_counted_by_level() {
    let many = |count: usize| (0..count).map(|at| put(&format!("{at:03}"))).collect::<Vec<_>>();
    let ops = |txn: &TxnRequest| check_txn(txn, 3);
    assert_eq!(ops(&branches(many(3), many(3))), Ok(()));
    assert_eq!(ops(&branches(many(4), Vec::new())), Err(KvError::TooManyOps));
    assert_eq!(ops(&branches(Vec::new(), many(4))), Err(KvError::TooManyOps));
    let compare = Compare {
        result: CompareResult::Equal,
        target: CompareTarget::Version(0),
        key: Bytes::from_static(b"k"),
        range_end: Bytes::new(),
    };
    let compares = TxnRequest { compare: vec![compare; 4], ..Default::default() };
    assert_eq!(ops(&compares), Err(KvError::TooManyOps));
    // One at this level leaves two for the next, and none is left two levels below that.
    let nested = |below: Vec<RequestOp>| branches(vec![within(below, Vec::new())], Vec::new());
    assert_eq!(ops(&nested(many(2))), Ok(()));
    assert_eq!(ops(&nested(many(3))), Err(KvError::TooManyOps));
    assert_eq!(ops(&nested(vec![within(many(1), vec![])])), Ok(()));
    assert_eq!(ops(&nested(vec![within(many(2), vec![])])), Err(KvError::TooManyOps));
}

#[test]
fn nesting_is_bounded_whatever_is_allowed() {
    let mut txn = TxnRequest::default();
    for _ in 1..TXN_DEPTH_MAX {
        txn = branches(vec![RequestOp::Txn(txn)], Vec::new());
    }
    assert_eq!(check_txn(&txn, usize::MAX), Ok(()));
    let deeper = branches(vec![RequestOp::Txn(txn)], Vec::new());
    assert_eq!(check_txn(&deeper, usize::MAX), Err(KvError::TooManyOps));
}

#[test]
fn fields_exclude_each_other() {
    let key = Bytes::from_static(b"k");
    let request = PutRequest { key: key.clone(), ..Default::default() };
    assert_eq!(check_put(&request), Ok(()));
    assert_eq!(check_put(&PutRequest::default()), Err(KvError::EmptyKey));
    let keeps = PutRequest { ignore_value: true, ignore_lease: true, ..request };
    assert_eq!(check_put(&keeps), Ok(()));
    let value = PutRequest { value: key, ..keeps.clone() };
    assert_eq!(check_put(&value), Err(KvError::ValueProvided));
    let lease = PutRequest { lease: 1, ..keeps };
    assert_eq!(check_put(&lease), Err(KvError::LeaseProvided));
    assert_eq!(check_range(&RangeRequest::default()), Err(KvError::EmptyKey));
    assert_eq!(check_delete(&DeleteRangeRequest::default()), Err(KvError::EmptyKey));
    check(vec![put("")], Err(KvError::EmptyKey), "in a transaction");
    check(vec![within(vec![range("")], vec![])], Err(KvError::EmptyKey), "and within");
}

#[test]
fn only_ranges_at_the_top_are_read_only() {
    assert!(is_read_only(&TxnRequest::default()));
    assert!(is_read_only(&branches(vec![range("a")], vec![range("b")])));
    assert!(!is_read_only(&branches(vec![range("a")], vec![put("b")])));
    assert!(!is_read_only(&branches(vec![within(vec![range("a")], vec![])], vec![])));
}

#[test]
fn the_costlier_branch_counts() {
    let put_cost = |key: &str| 256 + key.len() as u64;
    let txn = |success, failure| cost(&Command::Txn(branches(success, failure)));
    assert_eq!(txn(vec![put("a"), put("b")], vec![put("cc")]), 2 * put_cost("a"));
    assert_eq!(txn(vec![within(vec![], vec![put("a")])], vec![]), put_cost("a"));
    assert_eq!(txn(vec![range("a"), delete("a", "")], vec![]), 0);
}

/// The duplicate rule over flat branches, as one would check it by hand.
fn duplicates(ops: &[RequestOp]) -> bool {
    let puts: Vec<&Bytes> = ops
        .iter()
        .filter_map(|op| if let RequestOp::Put(put) = op { Some(&put.key) } else { None })
        .collect();
    let deleted = |key: &Bytes| {
        ops.iter().any(|op| match op {
            RequestOp::DeleteRange(d) if d.range_end.is_empty() => d.key == key,
            RequestOp::DeleteRange(d) => d.key <= key && *key < d.range_end,
            _ => false,
        })
    };
    puts.iter().enumerate().any(|(at, key)| puts[..at].contains(key) || deleted(key))
}

proptest! {
    #[test]
    fn the_union_of_intervals_forgets_none(
        ops in prop::collection::vec(
            prop_oneof![
                "[a-d]{1,2}".prop_map(|key| put(&key)),
                ("[a-d]{1,2}", "[a-d]{0,2}").prop_map(|(key, end)| delete(&key, &end)),
                ("[a-d]{1,2}", "[a-d]{0,2}").prop_map(|(key, end)| delete(&key, &end)),
            ],
            0..8,
        )
    ) {
        let expected = if duplicates(&ops) { Err(KvError::DuplicateKey) } else { Ok(()) };
        prop_assert_eq!(check_txn(&branches(ops, Vec::new()), 128), expected);
    }
}
