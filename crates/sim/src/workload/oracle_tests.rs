//! Right answers pass, and every sort of wrong one is caught.

use jangada_raft::{Position, Term};
use jangada_server::grpc::methods::Method;
use jangada_server::proto::mvccpb::KeyValue;

use super::*;

const MEMBER: NodeId = NodeId(2);
const PROCESS: u64 = 7;
const TERM: u64 = 3;

/// An oracle, and a cluster that does as it is told.
struct Bench {
    oracle: Oracle,
    calls: u64,
    sequence: u64,
    index: u64,
    quarantined: bool,
}

impl Bench {
    fn new() -> Bench {
        Bench { oracle: Oracle::new(), calls: 0, sequence: 0, index: 0, quarantined: false }
    }

    fn ask(&mut self, request: Request) -> CallId {
        self.calls += 1;
        let id = CallId(self.calls);
        self.oracle.asked(id, MEMBER, Arc::new(request), false);
        id
    }

    /// Asks for something that is proposed.
    fn propose(&mut self, request: Request) -> (CallId, Origin) {
        let id = self.ask(request);
        self.sequence += 1;
        let origin = Origin { incarnation: PROCESS, sequence: self.sequence };
        self.oracle.proposed(id, origin).expect("it may be proposed");
        (id, origin)
    }

    fn apply(&mut self, origin: Origin) -> Result<(), Violation> {
        self.index += 1;
        let position = Position { index: Index(self.index), term: Term(TERM) };
        let command =
            AppliedCommand { position, payload_crc: 0, time_ms: 0, origin, digest: self.index };
        self.oracle.applied(&command).map(drop)
    }

    fn answer(&mut self, id: CallId, bytes: Vec<u8>) -> Result<Learned, Violation> {
        self.answer_at(id, Ok(bytes.into()), self.index)
    }

    fn refuse(&mut self, id: CallId, error: ApiError) -> Result<Learned, Violation> {
        let refusal = Refusal { code: error.code() as i32, text: error.text().to_owned() };
        self.answer_at(id, Err(refusal), self.index)
    }

    fn answer_at(
        &mut self,
        id: CallId,
        result: Result<Bytes, Refusal>,
        index: u64,
    ) -> Result<Learned, Violation> {
        let applied = (Index(index), Index(index));
        self.oracle.answered(
            id,
            &Answered {
                result,
                process: PROCESS,
                term: TERM,
                applied,
                slices: false,
                damaged: false,
                quarantined: self.quarantined,
            },
        )
    }

    /// A put that is proposed, applied and acknowledged.
    fn put(&mut self, key: &'static str, value: &'static str) {
        let before = self.oracle.model().now().revision;
        let (id, origin) = self.propose(put(key, value));
        self.apply(origin).expect("it was asked for");
        self.answer(id, put_answer(before + 1, None)).expect("the answer is right");
    }
}

fn header(revision: i64) -> Option<pb::ResponseHeader> {
    let member_id = MEMBER.0;
    Some(pb::ResponseHeader { cluster_id: CLUSTER_ID, member_id, revision, raft_term: TERM })
}

fn put(key: &'static str, value: &'static str) -> Request {
    let (key, value) = (key.into(), value.into());
    Request::Put(pb::PutRequest { key, value, prev_kv: true, ..pb::PutRequest::default() })
}

fn put_answer(revision: i64, prev_kv: Option<KeyValue>) -> Vec<u8> {
    pb::PutResponse { header: header(revision), prev_kv }.encode_to_vec()
}

fn get(key: &'static str, serializable: bool) -> Request {
    let key = key.into();
    Request::Range(pb::RangeRequest { key, serializable, ..pb::RangeRequest::default() })
}

fn get_answer(revision: i64, kvs: Vec<KeyValue>) -> Vec<u8> {
    let count = kvs.len() as i64;
    let header = header(revision);
    pb::RangeResponse { header, kvs, more: false, count }.encode_to_vec()
}

fn kv(key: &'static str, value: &'static str, revision: i64) -> KeyValue {
    KeyValue {
        key: key.into(),
        create_revision: revision,
        mod_revision: revision,
        version: 1,
        value: value.into(),
        lease: 0,
    }
}

#[track_caller]
fn caught(result: Result<impl std::fmt::Debug, Violation>, because: &str) {
    let violation = result.expect_err("it is wrong");
    assert!(violation.seen.contains(because), "{violation}");
}

#[test]
fn right_answers_pass() {
    let mut bench = Bench::new();
    bench.put("a", "one");
    let id = bench.ask(get("a", false));
    let learned = bench.answer(id, get_answer(2, vec![kv("a", "one", 2)])).expect("it is right");
    assert_eq!((learned.outcome, learned.revision), (Outcome::Ok, Some(2)));
    let (id, origin) = bench.propose(put("a", "two"));
    bench.apply(origin).expect("it was asked for");
    bench.answer(id, put_answer(3, Some(kv("a", "one", 2)))).expect("it is right");
    let id = bench.ask(put("", "nothing"));
    let learned = bench.refuse(id, ApiError::EmptyKey).expect("it is right");
    assert_eq!(learned.outcome, Outcome::Refused(ApiError::EmptyKey));
}

#[test]
fn a_wrong_revision_is_caught() {
    let mut bench = Bench::new();
    let (id, origin) = bench.propose(put("a", "one"));
    bench.apply(origin).expect("it was asked for");
    caught(bench.answer(id, put_answer(3, None)), "the model has");
    bench.put("b", "two");
    let id = bench.ask(get("b", false));
    caught(bench.answer(id, get_answer(4, vec![kv("b", "two", 3)])), "the model has");
}

#[test]
fn a_missing_previous_version_is_caught() {
    let mut bench = Bench::new();
    bench.put("a", "one");
    let (id, origin) = bench.propose(put("a", "two"));
    bench.apply(origin).expect("it was asked for");
    caught(bench.answer(id, put_answer(3, None)), "the model has");
}

#[test]
fn wrong_contents_are_caught() {
    for wrong in [
        vec![],
        vec![kv("a", "two", 2)],
        vec![kv("a", "one", 3)],
        vec![KeyValue { version: 2, ..kv("a", "one", 2) }],
        vec![kv("a", "one", 2), kv("b", "one", 2)],
    ] {
        let mut bench = Bench::new();
        bench.put("a", "one");
        let id = bench.ask(get("a", true));
        caught(bench.answer(id, get_answer(2, wrong)), "the model has");
    }
}

#[test]
fn a_stale_read_is_caught() {
    let mut bench = Bench::new();
    bench.put("a", "one");
    let early = bench.ask(get("a", false));
    bench.put("b", "two");
    let late = bench.ask(get("b", false));
    // Asked before the second put was acknowledged: either is right.
    let answer = get_answer(2, vec![kv("a", "one", 2)]);
    let result = bench.oracle.answered(
        early,
        &Answered {
            result: Ok(answer.into()),
            process: PROCESS + 1,
            term: TERM,
            applied: (Index(1), Index(1)),
            slices: false,
            damaged: false,
            quarantined: false,
        },
    );
    result.expect("it is right");
    caught(bench.answer_at(late, Ok(get_answer(2, Vec::new()).into()), 1), "was acknowledged");
}

#[test]
fn a_process_that_goes_back_is_caught() {
    let mut bench = Bench::new();
    bench.put("a", "one");
    bench.put("b", "two");
    let id = bench.ask(get("b", true));
    caught(bench.answer_at(id, Ok(get_answer(2, Vec::new()).into()), 1), "this process has shown");
}

#[test]
fn a_lost_write_is_caught() {
    let mut bench = Bench::new();
    let (id, _) = bench.propose(put("a", "one"));
    caught(bench.answer(id, put_answer(2, None)), "no member has applied it");
}

#[test]
fn a_doubled_write_is_caught() {
    let mut bench = Bench::new();
    let (_, origin) = bench.propose(put("a", "one"));
    bench.apply(origin).expect("it was asked for");
    caught(bench.apply(origin), "nobody asked for");
}

#[test]
fn a_write_of_unknown_outcome_may_happen_late_or_never() {
    let mut bench = Bench::new();
    let (lost, _) = bench.propose(put("a", "one"));
    let (late, origin) = bench.propose(put("a", "two"));
    bench.oracle.gave_up(lost);
    bench.refuse(late, ApiError::TimeoutLeaderFailed).expect("it may be in doubt");
    bench.put("b", "three");
    bench.apply(origin).expect("it may still happen");
    assert_eq!(bench.oracle.happened_unknown(), 1);
    let id = bench.ask(get("a", false));
    bench.answer(id, get_answer(3, vec![kv("a", "two", 3)])).expect("it has happened");
}

#[test]
fn what_was_promised_never_to_happen_is_caught_when_it_does() {
    let mut bench = Bench::new();
    let (id, origin) = bench.propose(put("a", "one"));
    bench.refuse(id, ApiError::NoLeader).expect("no leader was found");
    caught(bench.apply(origin), "was told it never is");
    let (id, origin) = bench.propose(put("a", "two"));
    bench.apply(origin).expect("it was asked for");
    caught(bench.refuse(id, ApiError::TooManyRequests), "it happened, and is refused");
}

#[test]
fn only_a_member_that_was_set_aside_calls_the_cluster_corrupt() {
    let mut bench = Bench::new();
    let (early, _) = bench.propose(put("a", "one"));
    caught(bench.refuse(early, ApiError::Corrupt), "the model has None");
    bench.quarantined = true;
    let (late, origin) = bench.propose(put("a", "two"));
    bench.refuse(late, ApiError::Corrupt).expect("it serves nobody");
    caught(bench.apply(origin), "was told it never is");
}

#[test]
fn a_write_before_what_it_followed_is_caught() {
    let mut bench = Bench::new();
    let (first, origin) = bench.propose(put("a", "one"));
    bench.index = 5;
    bench.apply(origin).expect("it was asked for");
    bench.answer(first, put_answer(2, None)).expect("the answer is right");
    let (_, origin) = bench.propose(put("a", "two"));
    bench.index = 3;
    caught(bench.apply(origin), "asked after 6 was acknowledged");
}

#[test]
fn a_refusal_without_a_reason_is_caught() {
    let mut bench = Bench::new();
    bench.put("a", "one");
    let id = bench.ask(get("a", true));
    caught(bench.refuse(id, ApiError::Compacted), "the model has");
    let id = bench.ask(get("a", true));
    caught(bench.refuse(id, ApiError::TimeoutLeaderFailed), "a read in doubt");
    let id = bench.ask(put("", "one"));
    caught(bench.refuse(id, ApiError::KeyNotFound), "it breaks the rule");
    let (id, origin) = bench.propose(put("b", "one"));
    bench.apply(origin).expect("it was asked for");
    caught(bench.refuse(id, ApiError::LeaseNotFound), "the model has");
    let id = bench.ask(put("", "one"));
    caught(bench.answer(id, put_answer(4, None)), "it is refused by rule");
}

/// Whether a leader is known is looked at before the method (seed 1091 of the world `store`).
#[test]
fn a_method_that_is_not_served_may_miss_the_leader_it_demands() {
    let mut bench = Bench::new();
    for (demands_leader, error) in
        [(true, ApiError::NoLeader), (false, ApiError::NoLeader), (true, ApiError::Compacted)]
    {
        bench.calls += 1;
        let id = CallId(bench.calls);
        let request = Arc::new(Request::Unserved(Method::LeaseGrant));
        bench.oracle.asked(id, MEMBER, request, demands_leader);
        let right = demands_leader && error == ApiError::NoLeader;
        assert_eq!(bench.refuse(id, error).is_ok(), right, "{error} {demands_leader}");
    }
}

#[test]
fn another_members_answer_is_caught() {
    for (cluster_id, member_id, raft_term) in
        [(1, MEMBER.0, TERM), (CLUSTER_ID, 1, TERM), (CLUSTER_ID, MEMBER.0, TERM + 1)]
    {
        let mut bench = Bench::new();
        let id = bench.ask(get("a", true));
        let header = Some(pb::ResponseHeader { cluster_id, member_id, revision: 1, raft_term });
        let answer = pb::RangeResponse { header, ..pb::RangeResponse::default() };
        caught(bench.answer(id, answer.encode_to_vec()), "its header is not");
    }
}

#[test]
fn what_must_not_be_proposed_is_caught() {
    let mut bench = Bench::new();
    let origin = Origin { incarnation: PROCESS, sequence: 1 };
    for request in [get("a", false), put("", "one")] {
        let id = bench.ask(request);
        caught(bench.oracle.proposed(id, origin), "a proposal of");
    }
}

#[test]
fn what_nobody_can_ask_for_is_forgotten() {
    let mut bench = Bench::new();
    for _ in 0..50 {
        let before = bench.oracle.model().now().revision;
        let (id, origin) = bench.propose(Request::Put(pb::PutRequest {
            key: "a".into(),
            value: "same".into(),
            ..pb::PutRequest::default()
        }));
        bench.apply(origin).expect("it was asked for");
        bench.answer(id, put_answer(before + 1, None)).expect("the answer is right");
    }
    let compact = pb::CompactionRequest { revision: 40, physical: false };
    let (id, origin) = bench.propose(Request::Compact(compact));
    bench.apply(origin).expect("it was asked for");
    let answer = pb::CompactionResponse { header: header(51) };
    bench.answer(id, answer.encode_to_vec()).expect("the answer is right");
    assert_eq!(bench.oracle.model().kept(), (50, 52));
    // A member that has not applied the compaction may still show all of it.
    bench.oracle.forget(Index(50));
    assert_eq!(bench.oracle.model().kept(), (50, 2));
    bench.oracle.forget(Index(51));
    assert_eq!(bench.oracle.model().kept(), (12, 1));
}
