//! The state machine against the naive model: every answer, at every revision, in memory and with
//! an engine, across compactions and restarts.

use crate::harness::disk::Disk;
use crate::model::{Model, TERM};
use bytes::{Bytes, BytesMut};
use jangada_kv::{
    Answer, COMMAND_VERSION, Command, Compare, CompareResult, CompareTarget, DeleteRangeRequest,
    Entry, LeaseCommand, LeaseName, Machine, Options, Outcome, PutRequest, RangeRequest, RequestOp,
    SortOrder, SortTarget, TxnRequest, is_read_only,
};
use proptest::collection::vec;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Apply(Command),
    /// What a lessor proposes, of these leases, in its own term or in another, perhaps of leases that
    /// were granted before.
    Expire(Vec<i64>, bool, bool),
    Checkpoint(i64, bool, i64),
    Read(RangeRequest),
    ReadTxn(TxnRequest),
    EndBatch,
    LogDurable,
    Turns(u8),
    Crash,
    Hash(i64),
}

/// One machine and what a node would keep beside it.
struct Subject {
    machine: Machine,
    disk: Option<Disk>,
    log: Vec<Bytes>,
    digests: Vec<u64>,
    /// Commands at the head of the log that the log itself holds durably.
    log_durable: usize,
    now_ms: u64,
}

/// Tiny commits, so that short sequences have many.
const OPTIONS: Options =
    Options { commit_bytes: 300, commit_after_ms: 50, engine_lag_bytes_max: 1 << 20 };

impl Subject {
    fn new(disk: Option<Disk>) -> Subject {
        let backend = disk.as_ref().and_then(Disk::backend);
        let machine = Machine::open(backend, OPTIONS).expect("an empty file opens");
        assert_eq!(machine.recovered(), None);
        Subject { machine, disk, log: Vec::new(), digests: Vec::new(), log_durable: 0, now_ms: 0 }
    }

    fn apply(&mut self, payload: &Bytes) -> Outcome {
        self.log.push(payload.clone());
        let outcome = self.machine.apply_one(entry(self.log.len(), payload)).expect("it decodes");
        self.digests.push(outcome.digest);
        outcome
    }

    fn end_batch(&mut self) {
        let applied = self.log.len() as u64;
        self.machine.end_batch(applied, Bytes::copy_from_slice(&applied.to_le_bytes()));
    }

    fn log_durable(&mut self) {
        self.log_durable = self.log.len();
        self.machine.log_durable(self.log_durable as u64);
    }

    fn turns(&mut self, count: u8) {
        for _ in 0..count {
            self.now_ms += 7;
            self.machine.engine_turn(self.now_ms).expect("the disk is well");
        }
    }

    /// Loses what was not durable in the engine, and replays it from the log.
    fn crash(&mut self) {
        let Some(disk) = &self.disk else {
            return;
        };
        let durable = self.machine.durable_index();
        assert!(durable <= self.log_durable as u64, "the engine is ahead of the log");
        let disk = disk.crashed();
        self.machine = Machine::open(disk.backend(), OPTIONS).expect("a synced file opens");
        self.disk = Some(disk);
        let recovered = self.machine.recovered().map_or(0, |record| {
            u64::from_le_bytes(record[..].try_into().expect("the record comes back as given"))
        });
        assert_eq!(recovered, durable);
        assert_eq!(self.machine.durable_index(), durable);
        for at in recovered as usize..self.log.len() {
            let replayed = self.machine.apply_one(entry(at + 1, &self.log[at]));
            let digest = replayed.expect("it decoded before").digest;
            assert_eq!(digest, self.digests[at], "the replay of {} has other effects", at + 1);
        }
        self.end_batch();
        self.machine.log_durable(self.log_durable as u64);
    }
}

fn entry(index: usize, payload: &Bytes) -> Entry<'_> {
    Entry { index: index as u64, term: TERM, time_ms: 0, version: COMMAND_VERSION, payload }
}

fn encode(command: &Command) -> Bytes {
    let mut buffer = BytesMut::new();
    command.encode_into(&mut buffer);
    buffer.freeze()
}

fn run(steps: Vec<Step>) {
    let mut model = Model::new();
    let mut subjects = [Subject::new(None), Subject::new(Some(Disk::default()))];
    for step in steps {
        match lessors(&model, step) {
            Step::Apply(command) => {
                let expected = model.apply(&command);
                let payload = encode(&command);
                let outcomes = subjects.each_mut().map(|subject| subject.apply(&payload));
                for outcome in &outcomes {
                    let found = (outcome.reply.revision, outcome.reply.result.clone());
                    assert_eq!(found, expected, "{command:?}");
                }
                assert_eq!(outcomes[0].digest, outcomes[1].digest);
            }
            Step::Expire(..) | Step::Checkpoint(..) => unreachable!("they are commands by now"),
            Step::Read(range) => read(&model, &subjects, &range),
            Step::ReadTxn(txn) => {
                if is_read_only(&txn) {
                    let (_, expected) = model.clone().apply(&Command::Txn(txn.clone()));
                    for subject in &subjects {
                        let (revision, found) = subject.machine.shared().txn_read(&txn);
                        assert_eq!(found.clone().map(Answer::Txn), expected, "{txn:?}");
                        assert_eq!(revision, model.revision());
                        assert_eq!(subject.machine.shared().read().txn_read(&txn), found);
                    }
                }
            }
            Step::EndBatch => subjects.iter_mut().for_each(Subject::end_batch),
            Step::LogDurable => subjects.iter_mut().for_each(Subject::log_durable),
            Step::Turns(count) => subjects.iter_mut().for_each(|subject| subject.turns(count)),
            Step::Crash => subjects.iter_mut().for_each(Subject::crash),
            Step::Hash(revision) => hash(&model, &subjects, revision),
        }
    }
    settle(&mut subjects);
    for subject in &mut subjects {
        subject.crash();
    }
    for revision in 0..=model.revision() + 1 {
        let range = RangeRequest { revision, ..everything() };
        read(&model, &subjects, &range);
        hash(&model, &subjects, revision);
    }
    settle(&mut subjects);
    let views = subjects.each_ref().map(|subject| subject.machine.shared());
    assert_eq!(views[0].read().size_in_use(), views[1].read().size_in_use());
    assert_eq!(views[1].engine_lag_bytes(), 0);
    for view in &views {
        assert_eq!(view.read().keys(), model.live());
        assert_eq!(view.read().compact_revision(), model.compact_revision());
        let view = view.read();
        assert_eq!(view.leases(), model.leases.values().copied().collect::<Vec<_>>());
        for id in model.leases.keys() {
            let keys = view.lease_keys(*id).expect("the lease was just seen");
            assert_eq!(keys.map(|key| key.to_vec()).collect::<Vec<_>>(), model.keys_of(*id));
        }
    }
}

/// Names the leases of a lessor's step as they are.
fn lessors(model: &Model, step: Step) -> Step {
    let name = |id: i64, stale: bool| {
        let granted = model.leases.get(&id).map_or(1, |lease| lease.name.granted);
        LeaseName { id, granted: granted - u64::from(stale) }
    };
    let term = |own: bool| if own { TERM } else { TERM + 1 };
    match step {
        Step::Expire(ids, own, stale) => {
            let leases = ids.into_iter().map(|id| name(id, stale)).collect();
            Step::Apply(Command::Lease(LeaseCommand::Expire { term: term(own), leases }))
        }
        Step::Checkpoint(id, own, remaining) => {
            let leases = vec![(name(id, false), remaining)];
            Step::Apply(Command::Lease(LeaseCommand::Checkpoint { term: term(own), leases }))
        }
        other => other,
    }
}

/// Ends all batches, and brings everything into the engine.
fn settle(subjects: &mut [Subject; 2]) {
    for subject in subjects {
        subject.end_batch();
        subject.log_durable();
        subject.turns(255);
        let expected = if subject.disk.is_some() { subject.log.len() as u64 } else { 0 };
        assert_eq!(subject.machine.durable_index(), expected);
        if subject.disk.is_none() {
            // A machine without an engine forgets with its batches.
            subject.end_batch();
        }
    }
}

fn everything() -> RangeRequest {
    let (key, range_end) = (Bytes::from_static(b"\0"), Bytes::from_static(b"\0"));
    RangeRequest { key, range_end, ..RangeRequest::default() }
}

fn read(model: &Model, subjects: &[Subject; 2], range: &RangeRequest) {
    let expected = model.range(range);
    for subject in subjects {
        let shared = subject.machine.shared();
        assert_eq!(shared.range(range), (model.revision(), expected.clone()), "{range:?}");
        assert_eq!(shared.read().range(range), expected, "{range:?}");
        assert_eq!(shared.fault(), None);
    }
}

fn hash(model: &Model, subjects: &[Subject; 2], revision: i64) {
    for subject in subjects {
        let found = subject.machine.shared().hash_kv(revision);
        assert_eq!(found.map(|found| found.hash), model.hash(revision), "at {revision}");
    }
}

fn key() -> impl Strategy<Value = Bytes> {
    prop::sample::select(vec!["a", "aa", "ab", "b", "b\0", "c", "d"]).prop_map(Bytes::from)
}

fn range_end() -> impl Strategy<Value = Bytes> {
    prop::sample::select(vec!["", "", "\0", "a", "b", "bb", "c", "z"]).prop_map(Bytes::from)
}

fn value() -> impl Strategy<Value = Bytes> {
    prop::sample::select(vec!["", "x", "y", "a longer value"]).prop_map(Bytes::from)
}

fn flag() -> impl Strategy<Value = bool> {
    prop::bool::weighted(0.3)
}

fn bound() -> impl Strategy<Value = i64> {
    prop_oneof![4 => Just(0i64), 1 => 0i64..20]
}

fn put() -> impl Strategy<Value = PutRequest> {
    let lease = prop_oneof![4 => Just(0i64), 3 => 1i64..4, 1 => Just(7i64)];
    (key(), value(), lease, flag(), prop::bool::weighted(0.1), prop::bool::weighted(0.1)).prop_map(
        |(key, value, lease, prev_kv, ignore_value, ignore_lease)| PutRequest {
            key,
            value: if ignore_value { Bytes::new() } else { value },
            lease: if ignore_lease { 0 } else { lease },
            prev_kv,
            ignore_value,
            ignore_lease,
        },
    )
}

fn delete() -> impl Strategy<Value = DeleteRangeRequest> {
    (key(), range_end(), flag()).prop_map(|(key, range_end, prev_kv)| DeleteRangeRequest {
        key,
        range_end,
        prev_kv,
    })
}

fn range(revision: impl Strategy<Value = i64>) -> impl Strategy<Value = RangeRequest> {
    let order = prop::sample::select(vec![SortOrder::None, SortOrder::Ascend, SortOrder::Descend]);
    let target = prop::sample::select(vec![
        SortTarget::Key,
        SortTarget::Key,
        SortTarget::Version,
        SortTarget::Create,
        SortTarget::Mod,
        SortTarget::Value,
    ]);
    let keys = (prop_oneof![key(), Just(Bytes::from_static(b"\0"))], range_end());
    let bounds = (bound(), bound(), bound(), bound());
    (keys, -1i64..5, revision, order, target, prop::bool::weighted(0.2), flag(), bounds).prop_map(
        |((key, range_end), limit, revision, sort_order, sort_target, count_only, keys_only, b)| {
            RangeRequest {
                key,
                range_end,
                limit,
                revision,
                sort_order,
                sort_target,
                keys_only,
                count_only,
                min_mod_revision: b.0,
                max_mod_revision: b.1,
                min_create_revision: b.2,
                max_create_revision: b.3,
            }
        },
    )
}

fn compare() -> impl Strategy<Value = Compare> {
    let result = prop::sample::select(vec![
        CompareResult::Equal,
        CompareResult::NotEqual,
        CompareResult::Greater,
        CompareResult::Less,
    ]);
    let target = prop_oneof![
        (0i64..3).prop_map(CompareTarget::Version),
        (0i64..12).prop_map(CompareTarget::Create),
        (0i64..12).prop_map(CompareTarget::Mod),
        (0i64..3).prop_map(CompareTarget::Lease),
        value().prop_map(CompareTarget::Value),
    ];
    (result, target, key(), range_end()).prop_map(|(result, target, key, range_end)| Compare {
        result,
        target,
        key,
        range_end,
    })
}

/// Mostly the newest revision: a refusal tells little.
fn revision_within() -> impl Strategy<Value = i64> {
    prop_oneof![6 => Just(0i64), 1 => -2i64..12]
}

fn txn() -> impl Strategy<Value = TxnRequest> {
    let leaf = prop_oneof![
        range(revision_within()).prop_map(RequestOp::Range),
        put().prop_map(RequestOp::Put),
        delete().prop_map(RequestOp::DeleteRange),
    ];
    let op = leaf.prop_recursive(3, 12, 3, |op| {
        (vec(compare(), 0..2), vec(op.clone(), 0..3), vec(op, 0..3)).prop_map(
            |(compare, success, failure)| RequestOp::Txn(TxnRequest { compare, success, failure }),
        )
    });
    (vec(compare(), 0..3), vec(op.clone(), 0..4), vec(op, 0..4))
        .prop_map(|(compare, success, failure)| TxnRequest { compare, success, failure })
}

fn read_txn() -> impl Strategy<Value = TxnRequest> {
    let ranges = || vec(range(revision_within()).prop_map(RequestOp::Range), 0..3);
    (vec(compare(), 0..2), ranges(), ranges()).prop_map(|(compare, success, failure)| TxnRequest {
        compare,
        success,
        failure,
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => put().prop_map(|put| Step::Apply(Command::Put(put))),
        3 => delete().prop_map(|delete| Step::Apply(Command::DeleteRange(delete))),
        6 => txn().prop_map(|txn| Step::Apply(Command::Txn(txn))),
        2 => (-1i64..30).prop_map(|revision| {
            Step::Apply(Command::Compact { revision, physical: false })
        }),
        6 => range(-1i64..25).prop_map(Step::Read),
        2 => read_txn().prop_map(Step::ReadTxn),
        4 => (1i64..4, 2i64..5).prop_map(|(id, ttl)| {
            Step::Apply(Command::Lease(LeaseCommand::Grant { id, ttl }))
        }),
        1 => (1i64..4).prop_map(|id| Step::Apply(Command::Lease(LeaseCommand::Revoke { id }))),
        1 => (vec(1i64..4, 1..3), prop::bool::weighted(0.8), prop::bool::weighted(0.2))
            .prop_map(|(ids, own, stale)| Step::Expire(ids, own, stale)),
        1 => (1i64..4, prop::bool::weighted(0.8), 1i64..3)
            .prop_map(|(id, own, remaining)| Step::Checkpoint(id, own, remaining)),
        4 => Just(Step::EndBatch),
        3 => Just(Step::LogDurable),
        5 => (1u8..12).prop_map(Step::Turns),
        1 => Just(Step::Crash),
        1 => (-1i64..25).prop_map(Step::Hash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_answer_is_the_models(steps in vec(step(), 1..60)) {
        run(steps);
    }
}
