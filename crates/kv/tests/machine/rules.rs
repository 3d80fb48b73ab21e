//! etcd's rules that are easy to get wrong, each by name. The model test covers their combinations.

use bytes::{Bytes, BytesMut};
use jangada_kv::{
    AlarmAction, AlarmKind, Answer, COMMAND_VERSION, Command, Compare, CompareResult,
    CompareTarget, DeleteRangeRequest, Entry, KeyValue, KvError, Machine, Options, PutRequest,
    RangeRequest, RangeResponse, Reply, RequestOp, ResponseOp, TxnRequest,
};

struct Subject {
    machine: Machine,
    index: u64,
}

impl Subject {
    fn new() -> Subject {
        let machine = Machine::open(None, Options::default()).expect("memory opens");
        Subject { machine, index: 0 }
    }

    fn apply(&mut self, command: Command) -> Reply {
        let mut payload = BytesMut::new();
        command.encode_into(&mut payload);
        self.index += 1;
        let (index, version) = (self.index, COMMAND_VERSION);
        let entry = Entry { index, term: 1, time_ms: 0, version, payload: &payload };
        let reply = self.machine.apply_one(entry).expect("it decodes").reply;
        self.machine.end_batch(self.index, Bytes::new());
        reply
    }

    fn put(&mut self, key: &'static str, value: &'static str) -> Reply {
        self.apply(Command::Put(put(key, value)))
    }

    fn delete(&mut self, key: &'static str, range_end: &'static str) -> Reply {
        self.apply(Command::DeleteRange(delete(key, range_end)))
    }

    fn txn(&mut self, compare: Vec<Compare>, success: Vec<RequestOp>) -> Reply {
        self.apply(Command::Txn(TxnRequest { compare, success, failure: Vec::new() }))
    }

    fn compact(&mut self, revision: i64) -> Result<Answer, KvError> {
        self.apply(Command::Compact { revision, physical: false }).result
    }

    fn alarm(&mut self, action: AlarmAction, kind: AlarmKind) {
        let reply = self.apply(Command::Alarm { action, member: 1, kind });
        assert!(matches!(reply.result, Ok(Answer::Alarm(alarms)) if alarms.len() == 1));
    }

    fn range(&self, range: RangeRequest) -> Result<RangeResponse, KvError> {
        self.machine.shared().range(&range).1
    }

    fn get(&self, key: &'static str, revision: i64) -> Result<Option<KeyValue>, KvError> {
        let response = self.range(RangeRequest { revision, ..range(key) })?;
        Ok(response.kvs.into_iter().next())
    }

    fn revision(&self) -> i64 {
        self.machine.shared().read().revision()
    }
}

fn put(key: &'static str, value: &'static str) -> PutRequest {
    PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() }
}

fn delete(key: &'static str, range_end: &'static str) -> DeleteRangeRequest {
    DeleteRangeRequest { key: key.into(), range_end: range_end.into(), prev_kv: false }
}

fn range(key: &'static str) -> RangeRequest {
    RangeRequest { key: key.into(), ..RangeRequest::default() }
}

fn numbers(kv: Option<KeyValue>) -> Option<(i64, i64, i64)> {
    kv.map(|kv| (kv.create_revision, kv.mod_revision, kv.version))
}

fn compare(key: &'static str, result: CompareResult, target: CompareTarget) -> Compare {
    Compare { result, target, key: key.into(), range_end: Bytes::new() }
}

fn succeeded(reply: Reply) -> bool {
    match reply.result {
        Ok(Answer::Txn(txn)) => txn.succeeded,
        other => panic!("not a transaction's answer: {other:?}"),
    }
}

#[test]
fn the_first_change_makes_revision_2() {
    let mut subject = Subject::new();
    assert_eq!(subject.revision(), 1);
    assert_eq!(subject.put("k", "v").revision, 2);
    assert_eq!(subject.put("k", "v").revision, 3, "an equal value is a change too");
}

#[test]
fn what_changes_nothing_makes_no_revision() {
    let mut subject = Subject::new();
    subject.put("k", "v");
    let reply = subject.delete("missing", "");
    assert_eq!(reply.revision, 2);
    assert!(matches!(reply.result, Ok(Answer::DeleteRange(d)) if d.deleted == 0));
    let ops = vec![RequestOp::DeleteRange(delete("x", "y")), RequestOp::Range(range("k"))];
    assert_eq!(subject.txn(Vec::new(), ops).revision, 2);
    assert_eq!(subject.txn(Vec::new(), Vec::new()).revision, 2);
    assert_eq!(subject.compact(2), Ok(Answer::Compact));
    assert_eq!(subject.revision(), 2);
    let refused = subject.apply(Command::Put(PutRequest { lease: 5, ..put("k", "v") }));
    assert_eq!((refused.revision, refused.result), (2, Err(KvError::LeaseNotFound)));
}

#[test]
fn a_new_life_starts_anew() {
    let mut subject = Subject::new();
    subject.put("k", "1");
    subject.put("k", "2");
    assert_eq!(numbers(subject.get("k", 0).expect("readable")), Some((2, 3, 2)));
    assert_eq!(subject.delete("k", "").revision, 4);
    assert_eq!(subject.get("k", 0), Ok(None));
    subject.put("k", "3");
    assert_eq!(numbers(subject.get("k", 0).expect("readable")), Some((5, 5, 1)));
    assert_eq!(numbers(subject.get("k", 3).expect("readable")), Some((2, 3, 2)));
    assert_eq!(subject.get("k", 4), Ok(None));
    assert_eq!(subject.get("k", 6), Err(KvError::FutureRevision));
    assert_eq!(numbers(subject.get("k", -1).expect("the newest")), Some((5, 5, 1)));
}

#[test]
fn one_transaction_is_one_revision() {
    let mut subject = Subject::new();
    subject.put("gone", "v");
    let ops = vec![
        RequestOp::Put(put("a", "1")),
        RequestOp::DeleteRange(delete("gone", "")),
        RequestOp::Range(RangeRequest { range_end: "\0".into(), ..range("\0") }),
        RequestOp::Range(RangeRequest { revision: 2, ..range("gone") }),
        RequestOp::Txn(TxnRequest {
            success: vec![RequestOp::Put(put("b", "2"))],
            ..TxnRequest::default()
        }),
    ];
    let reply = subject.txn(Vec::new(), ops);
    assert_eq!(reply.revision, 3);
    let Ok(Answer::Txn(txn)) = reply.result else {
        panic!("the transaction runs");
    };
    let ResponseOp::Range(seen) = &txn.responses[2] else {
        panic!("the third answer is a range's");
    };
    let keys: Vec<&[u8]> = seen.kvs.iter().map(|kv| &kv.key[..]).collect();
    assert_eq!(keys, [b"a"], "a range sees what was written before it");
    assert!(matches!(&txn.responses[3], ResponseOp::Range(old) if old.kvs.len() == 1));
    assert_eq!(numbers(subject.get("b", 0).expect("readable")), Some((3, 3, 1)));
}

#[test]
fn conditions_see_the_state_before_the_transaction() {
    let mut subject = Subject::new();
    let exists = compare("k", CompareResult::Greater, CompareTarget::Version(0));
    let within = TxnRequest {
        compare: vec![exists],
        success: vec![RequestOp::Put(put("seen", ""))],
        failure: vec![RequestOp::Put(put("unseen", ""))],
    };
    subject.txn(Vec::new(), vec![RequestOp::Put(put("k", "")), RequestOp::Txn(within)]);
    assert_eq!(subject.get("seen", 0), Ok(None));
    assert!(subject.get("unseen", 0).expect("readable").is_some());
}

#[test]
fn a_missing_key_has_no_value_and_zeros() {
    let mut subject = Subject::new();
    let value = || CompareTarget::Value(Bytes::new());
    for result in
        [CompareResult::Equal, CompareResult::NotEqual, CompareResult::Greater, CompareResult::Less]
    {
        assert!(!succeeded(subject.txn(vec![compare("k", result, value())], Vec::new())));
    }
    for target in [
        CompareTarget::Version(0),
        CompareTarget::Create(0),
        CompareTarget::Mod(0),
        CompareTarget::Lease(0),
    ] {
        let compare = compare("k", CompareResult::Equal, target);
        assert!(succeeded(subject.txn(vec![compare], Vec::new())));
    }
}

#[test]
fn a_condition_on_an_interval_holds_for_every_key() {
    let mut subject = Subject::new();
    subject.put("a", "1");
    subject.put("b", "1");
    subject.put("c", "2");
    let equal = |range_end: &'static str| Compare {
        range_end: range_end.into(),
        ..compare("a", CompareResult::Equal, CompareTarget::Value("1".into()))
    };
    assert!(succeeded(subject.txn(vec![equal("c")], Vec::new())));
    assert!(!succeeded(subject.txn(vec![equal("d")], Vec::new())));
    assert!(!succeeded(subject.txn(vec![equal("\0")], Vec::new())));
    let empty = Compare {
        range_end: "y".into(),
        ..compare("x", CompareResult::Equal, CompareTarget::Create(0))
    };
    assert!(succeeded(subject.txn(vec![empty], Vec::new())), "as for one missing key");
}

#[test]
fn a_refused_transaction_changes_nothing() {
    let mut subject = Subject::new();
    subject.put("k", "v");
    subject.put("k", "w");
    assert_eq!(subject.compact(3), Ok(Answer::Compact));
    let ops = |last: RequestOp| vec![RequestOp::Put(put("new", "")), last];
    let at = |revision| RequestOp::Range(RangeRequest { revision, ..range("k") });
    let keeps = PutRequest { ignore_value: true, ..put("missing", "") };
    let leased = PutRequest { lease: 9, ..put("k", "") };
    for (last, expected) in [
        (at(4), KvError::FutureRevision),
        (at(2), KvError::Compacted),
        (at(-1), KvError::Compacted),
        (RequestOp::Put(keeps), KvError::KeyNotFound),
        (RequestOp::Put(leased), KvError::LeaseNotFound),
    ] {
        let reply = subject.txn(Vec::new(), ops(last));
        assert_eq!((reply.revision, reply.result), (3, Err(expected)));
        assert_eq!(subject.get("new", 0), Ok(None));
    }
    assert!(subject.txn(Vec::new(), ops(at(3))).result.is_ok());
}

#[test]
fn a_put_keeps_what_it_is_told_to_keep() {
    let mut subject = Subject::new();
    let keeps = PutRequest { ignore_value: true, prev_kv: true, ..put("k", "") };
    let refused = subject.apply(Command::Put(keeps.clone()));
    assert_eq!(refused.result, Err(KvError::KeyNotFound));
    subject.put("k", "value");
    let Ok(Answer::Put(answer)) = subject.apply(Command::Put(keeps)).result else {
        panic!("the key exists");
    };
    let before = answer.prev_kv.expect("it was asked for");
    assert_eq!((before.mod_revision, &before.value[..]), (2, &b"value"[..]));
    let kv = subject.get("k", 0).expect("readable").expect("it exists");
    assert_eq!((kv.mod_revision, kv.version, &kv.value[..]), (3, 2, &b"value"[..]));
}

#[test]
fn the_count_precedes_limit_and_filters() {
    let mut subject = Subject::new();
    for key in ["a", "b", "c", "d"] {
        subject.put(key, key);
    }
    let all = || RangeRequest { range_end: "\0".into(), ..range("\0") };
    let read = |range: RangeRequest| {
        let response = subject.range(range).expect("readable");
        (response.kvs.len(), response.more, response.count)
    };
    assert_eq!(read(RangeRequest { limit: 3, ..all() }), (3, true, 4));
    assert_eq!(read(RangeRequest { limit: 4, ..all() }), (4, false, 4));
    assert_eq!(read(RangeRequest { limit: 1, min_mod_revision: 5, ..all() }), (1, false, 4));
    assert_eq!(read(RangeRequest { limit: 1, min_mod_revision: 4, ..all() }), (1, true, 4));
    assert_eq!(read(RangeRequest { limit: 1, count_only: true, ..all() }), (0, false, 4));
    let backwards = RangeRequest { range_end: "a".into(), ..range("c") };
    assert_eq!(read(backwards), (0, false, 0), "an end before the start is no error");
    let keys_only = RangeRequest { keys_only: true, ..all() };
    let first = &subject.range(keys_only).expect("readable").kvs[0];
    assert_eq!((first.version, first.value.is_empty()), (1, true));
}

#[test]
fn a_compaction_keeps_what_is_readable() {
    let mut subject = Subject::new();
    subject.put("k", "1");
    subject.put("k", "2");
    subject.delete("k", "");
    subject.put("other", "");
    assert_eq!(subject.machine.shared().read().compact_revision(), -1);
    assert_eq!(subject.compact(6), Err(KvError::FutureRevision));
    assert_eq!(subject.compact(3), Ok(Answer::Compact));
    assert_eq!(subject.compact(3), Err(KvError::Compacted));
    assert_eq!(subject.get("k", 2), Err(KvError::Compacted));
    assert_eq!(numbers(subject.get("k", 3).expect("exactly there")), Some((2, 3, 2)));
    assert_eq!(subject.compact(4), Ok(Answer::Compact));
    assert_eq!(subject.get("k", 4), Ok(None));
    let with_deletion = subject.machine.shared().read().size_in_use();
    assert_eq!(subject.compact(5), Ok(Answer::Compact));
    let without = subject.machine.shared().read().size_in_use();
    assert_eq!(with_deletion - without, 18 + 3, "a deletion stays while it is exactly there");
}

#[test]
fn alarms_refuse_what_they_must() {
    let mut subject = Subject::new();
    subject.put("k", "v");
    subject.alarm(AlarmAction::Activate, AlarmKind::NoSpace);
    assert_eq!(subject.put("k", "v").result, Err(KvError::NoSpace));
    let puts = vec![RequestOp::Put(put("k", ""))];
    let unreached = TxnRequest { failure: puts, ..TxnRequest::default() };
    assert_eq!(subject.apply(Command::Txn(unreached)).result, Err(KvError::NoSpace));
    assert!(subject.get("k", 0).is_ok());
    let deletes = vec![RequestOp::DeleteRange(delete("k", ""))];
    assert!(subject.txn(Vec::new(), deletes).result.is_ok());
    assert_eq!(subject.compact(3), Ok(Answer::Compact));
    subject.alarm(AlarmAction::Deactivate, AlarmKind::NoSpace);
    assert!(subject.put("k", "v").result.is_ok());
    subject.alarm(AlarmAction::Activate, AlarmKind::Corrupt);
    assert_eq!(subject.get("k", 0), Err(KvError::Corrupt));
    assert_eq!(subject.delete("k", "").result, Err(KvError::Corrupt));
    assert_eq!(subject.compact(4), Err(KvError::Corrupt));
    subject.alarm(AlarmAction::Deactivate, AlarmKind::Corrupt);
    assert!(subject.get("k", 0).is_ok());
}

#[test]
fn other_effects_have_other_digests() {
    let digest = |commands: &[(&'static str, &'static str)]| {
        let mut subject = Subject::new();
        let mut last = 0;
        for (key, value) in commands {
            let mut payload = BytesMut::new();
            Command::Put(put(key, value)).encode_into(&mut payload);
            subject.index += 1;
            let (index, version) = (subject.index, COMMAND_VERSION);
            let entry = Entry { index, term: 1, time_ms: 0, version, payload: &payload };
            last = subject.machine.apply_one(entry).expect("it decodes").digest;
        }
        last
    };
    let same = digest(&[("k", "v")]);
    assert_eq!(same, digest(&[("k", "v")]));
    assert_ne!(same, digest(&[("k", "w")]), "the value");
    assert_ne!(same, digest(&[("l", "v")]), "the key");
    assert_ne!(same, digest(&[("x", ""), ("k", "v")]), "the revision");
    assert_ne!(digest(&[("k", ""), ("k", "v")]), digest(&[("x", ""), ("k", "v")]), "the version");
}
