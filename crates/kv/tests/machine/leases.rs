//! The rules of leases, each by name. The model test covers their combinations.

use bytes::{Bytes, BytesMut};
use jangada_kv::{
    AlarmAction, AlarmKind, Answer, COMMAND_VERSION, Command, Entry, KvError, LEASE_TTL_MAX,
    LeaseAnswer, LeaseChange, LeaseCommand, LeaseName, Machine, Options, Outcome, PutRequest,
    RangeRequest,
};

use crate::harness::Subject;
use crate::harness::disk::Disk;

/// A machine in memory whose entries have terms.
struct Led {
    machine: Machine,
    index: u64,
    term: u64,
}

impl Led {
    fn new() -> Led {
        let machine = Machine::open(None, Options::default()).expect("memory opens");
        Led { machine, index: 0, term: 5 }
    }

    fn apply(&mut self, command: &Command) -> Outcome {
        let mut payload = BytesMut::new();
        command.encode_into(&mut payload);
        self.index += 1;
        let (index, term, version) = (self.index, self.term, COMMAND_VERSION);
        let entry = Entry { index, term, time_ms: 0, version, payload: &payload };
        self.machine.apply_one(entry).expect("it decodes")
    }

    fn lease(&mut self, command: LeaseCommand) -> Result<LeaseAnswer, KvError> {
        match self.apply(&Command::Lease(command)).reply.result {
            Ok(Answer::Lease(answer)) => Ok(answer),
            Ok(other) => panic!("{other:?} is no answer about leases"),
            Err(error) => Err(error),
        }
    }

    fn grant(&mut self, id: i64) -> LeaseName {
        match self.lease(LeaseCommand::Grant { id, ttl: 10 }) {
            Ok(LeaseAnswer::Granted(lease)) => lease.name,
            other => panic!("it is not granted: {other:?}"),
        }
    }

    fn put(&mut self, key: &'static str, lease: i64) -> Result<Answer, KvError> {
        let put = PutRequest { key: key.into(), lease, ..PutRequest::default() };
        self.apply(&Command::Put(put)).reply.result
    }

    fn expire(&mut self, leases: &[LeaseName]) -> u64 {
        let (term, leases) = (self.term, leases.to_vec());
        match self.lease(LeaseCommand::Expire { term, leases }) {
            Ok(LeaseAnswer::Counted(count)) => count,
            other => panic!("{other:?}"),
        }
    }

    fn keys(&self, id: i64) -> Option<Vec<Bytes>> {
        let shared = self.machine.shared();
        shared.read().lease_keys(id).map(|keys| keys.cloned().collect())
    }

    fn revision(&self) -> i64 {
        self.machine.shared().read().revision()
    }

    fn exists(&self, key: &'static str) -> bool {
        let range = RangeRequest { key: key.into(), ..RangeRequest::default() };
        self.machine.shared().range(&range).1.expect("it is read").count == 1
    }
}

#[test]
fn a_deposed_lessor_ends_nothing() {
    let mut led = Led::new();
    let name = led.grant(7);
    led.put("a", 7).expect("the lease exists");
    let (old, leases) = (led.term, vec![name]);
    led.term += 1;
    let late = LeaseCommand::Expire { term: old, leases: leases.clone() };
    assert_eq!(led.lease(late), Ok(LeaseAnswer::Counted(0)));
    let late = LeaseCommand::Checkpoint { term: old, leases: vec![(name, 1)] };
    assert_eq!(led.lease(late), Ok(LeaseAnswer::Counted(0)));
    assert!(led.exists("a"));
    assert_eq!(led.machine.shared().read().lease(7).map(|lease| lease.remaining), Some(10));
    assert_eq!(led.expire(&leases), 1);
    assert!(!led.exists("a"));
}

#[test]
fn a_lease_granted_anew_is_not_ended_in_place_of_the_one_before() {
    let mut led = Led::new();
    let before = led.grant(7);
    led.lease(LeaseCommand::Revoke { id: 7 }).expect("it is there");
    led.grant(7);
    led.put("a", 7).expect("the lease exists");
    assert_eq!(led.expire(&[before]), 0);
    assert!(led.exists("a"));
}

#[test]
fn leases_that_end_together_are_a_revision_each_and_one_without_keys_is_none() {
    let mut led = Led::new();
    let names = [led.grant(1), led.grant(2), led.grant(3)];
    for (key, lease) in [("b", 1), ("a", 1), ("c", 3)] {
        led.put(key, lease).expect("the lease exists");
    }
    let before = led.revision();
    assert_eq!(led.expire(&names), 3);
    assert_eq!(led.revision(), before + 2);
    assert_eq!(led.expire(&names), 0);
    assert_eq!(led.revision(), before + 2);
}

#[test]
fn a_key_holds_the_lease_of_its_last_put_and_none_once_it_is_deleted() {
    let mut led = Led::new();
    led.grant(1);
    led.grant(2);
    let keep = PutRequest { key: "a".into(), ignore_lease: true, ..PutRequest::default() };
    led.put("a", 1).expect("the lease exists");
    led.put("b", 1).expect("the lease exists");
    led.apply(&Command::Put(keep));
    assert_eq!(led.keys(1), Some(vec!["a".into(), "b".into()]));
    led.put("a", 2).expect("the lease exists");
    assert_eq!((led.keys(1), led.keys(2)), (Some(vec!["b".into()]), Some(vec!["a".into()])));
    led.put("a", 0).expect("no lease is one");
    assert_eq!(led.keys(2), Some(vec![]));
    let delete = jangada_kv::DeleteRangeRequest { key: "b".into(), ..Default::default() };
    led.apply(&Command::DeleteRange(delete));
    assert_eq!(led.keys(1), Some(vec![]));
    led.put("b", 0).expect("no lease is one");
    led.lease(LeaseCommand::Revoke { id: 1 }).expect("it is there");
    assert!(led.exists("b"), "it was put anew without the lease");
    assert_eq!(led.put("c", 1), Err(KvError::LeaseNotFound));
}

#[test]
fn what_cannot_be_granted_is_refused_by_name() {
    let mut led = Led::new();
    led.grant(1);
    let mut grant = |id, ttl| led.lease(LeaseCommand::Grant { id, ttl });
    assert_eq!(grant(1, 10), Err(KvError::LeaseExists));
    assert_eq!(grant(0, 10), Err(KvError::LeaseNotFound));
    assert_eq!(grant(2, LEASE_TTL_MAX + 1), Err(KvError::LeaseTtlTooLarge));
    assert_eq!(grant(2, 0), Err(KvError::LeaseTtlTooLarge));
    let full =
        Command::Alarm { action: AlarmAction::Activate, member: 1, kind: AlarmKind::NoSpace };
    led.apply(&full);
    assert_eq!(led.lease(LeaseCommand::Grant { id: 2, ttl: 9 }), Err(KvError::NoSpace));
    assert_eq!(led.lease(LeaseCommand::Revoke { id: 1 }), Ok(LeaseAnswer::Revoked));
}

#[test]
fn members_that_know_other_leases_have_other_digests() {
    let digests = [1, 2].map(|id| {
        let mut led = Led::new();
        let name = led.grant(id);
        let first = led
            .apply(&Command::Lease(LeaseCommand::Checkpoint { term: 5, leases: vec![(name, 1)] }));
        let expire = LeaseCommand::Expire { term: 5, leases: vec![name] };
        (first.digest, led.apply(&Command::Lease(expire)).digest)
    });
    assert_ne!(digests[0].0, digests[1].0);
    assert_ne!(digests[0].1, digests[1].1);
}

#[test]
fn whoever_counts_hears_of_every_change_until_it_is_too_much() {
    let mut led = Led::new();
    let shared = led.machine.shared();
    let first = led.grant(1);
    assert_eq!(shared.lease_changes(), None, "nobody follows yet");
    assert_eq!(shared.follow_leases().len(), 1);
    let second = led.grant(2);
    led.lease(LeaseCommand::Checkpoint { term: 5, leases: vec![(first, 4)] }).expect("it is ours");
    led.expire(&[second]);
    let told = shared.lease_changes().expect("it is followed");
    let told: Vec<_> = told
        .iter()
        .map(|change| match change {
            LeaseChange::Is(lease) => (lease.name.id, Some(lease.remaining)),
            LeaseChange::Gone(lease) => (lease.name.id, None),
        })
        .collect();
    assert_eq!(told, [(2, Some(10)), (1, Some(4)), (2, None)]);
    assert_eq!(shared.lease_changes(), Some(vec![]));
    for round in 0..40_000 {
        led.lease(LeaseCommand::Checkpoint { term: 5, leases: vec![(first, 1 + round % 2)] })
            .expect("it is ours");
        led.grant(10 + round);
    }
    assert_eq!(shared.lease_changes(), None, "what is not taken is not kept for ever");
    assert_eq!(shared.follow_leases().len(), 40_001);
}

#[test]
fn many_leases_come_with_a_copy_in_several_chunks() {
    let (from, to) = (Disk::default(), Disk::default());
    let mut source = Subject::open(Some(&from));
    for id in 1..=100 {
        source.apply(&Command::Lease(LeaseCommand::Grant { id, ttl: id }));
    }
    source.put("a", b"b");
    source.settle();
    let chunks = source.chunks(&[]);
    assert!(4 < chunks.len(), "{} chunks", chunks.len());
    let mut target = Subject::open(Some(&to));
    let mut restoration = target.machine.restore();
    // One of leases is lost: nothing behind it is taken.
    restoration.push(&chunks[0]).expect("the rows come first");
    restoration.push(&chunks[1]).expect("then the first leases");
    for chunk in &chunks[3..] {
        assert_eq!(restoration.push(chunk), Err(jangada_kv::RestoreError::Gap));
    }
    // Whoever goes on there is sent the leases anew.
    let rest = source.chunks(&restoration.place());
    target.push(&mut restoration, &rest);
    target.finish(&mut restoration);
    target.settle();
    assert_eq!(target.content(), source.content());
    assert_eq!(Subject::open(Some(&to.crashed())).content(), source.content());
}
