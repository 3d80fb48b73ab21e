//! Known bugs about leases, put back one by one: each must show. A process of its own, since a bug is
//! put back for all of it.
#![cfg(feature = "canon")]

use bytes::{Bytes, BytesMut};
use jangada_kv::{
    COMMAND_VERSION, Command, DeleteRangeRequest, Entry, LeaseCommand, LeaseName, Machine, Options,
    PutRequest, canon,
};

/// Applies commands, each with its term, and answers which keys of lease 7 are left, if it is there.
fn keys_after(commands: &[(u64, Command)]) -> Option<Vec<Bytes>> {
    let mut machine = Machine::open(None, Options::default()).expect("memory opens");
    for (index, (term, command)) in (1..).zip(commands) {
        let mut payload = BytesMut::new();
        command.encode_into(&mut payload);
        let (term, version) = (*term, COMMAND_VERSION);
        machine
            .apply_one(Entry { index, term, time_ms: 0, version, payload: &payload })
            .expect("it decodes");
    }
    let shared = machine.shared();
    shared.read().lease_keys(7).map(|keys| keys.cloned().collect())
}

#[test]
fn each_bug_is_found() {
    let grant = Command::Lease(LeaseCommand::Grant { id: 7, ttl: 10 });
    let put = Command::Put(PutRequest { key: "a".into(), lease: 7, ..PutRequest::default() });
    let delete = DeleteRangeRequest { key: "a".into(), ..DeleteRangeRequest::default() };
    let leases = vec![LeaseName { id: 7, granted: 1 }];
    let late = Command::Lease(LeaseCommand::Expire { term: 5, leases });
    // etcd #15247: a leader that was deposed meanwhile ends leases that the new one renews.
    let deposed = [(5, grant.clone()), (6, put.clone()), (6, late)];
    // A deletion that forgets to detach: the key, put again, goes with a lease that it does not hold.
    let detached = [(5, grant), (5, put), (5, Command::DeleteRange(delete))];
    let cases = [
        ("deposed_lessor_ends_leases", &deposed, Some(vec![Bytes::from("a")])),
        ("deleted_key_stays_with_its_lease", &detached, Some(vec![])),
    ];
    for (bug, commands, sound) in cases {
        assert_eq!(keys_after(commands), sound);
        canon::put_back(Some(bug));
        let found = keys_after(commands);
        canon::put_back(None);
        assert_ne!(found, sound, "{bug}");
    }
}
