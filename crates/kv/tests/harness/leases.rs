//! Chosen histories of leases: what is left of one, and of its keys.

use bytes::{Bytes, BytesMut};
use jangada_kv::{
    COMMAND_VERSION, Command, DeleteRangeRequest, Entry, LeaseCommand, LeaseName, Machine, Options,
    PutRequest,
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

fn grant() -> (u64, Command) {
    (5, Command::Lease(LeaseCommand::Grant { id: 7, ttl: 10 }))
}

fn put(term: u64) -> (u64, Command) {
    (term, Command::Put(PutRequest { key: "a".into(), lease: 7, ..PutRequest::default() }))
}

/// A leader that was deposed meanwhile ends a lease that the new one renews (etcd #15247).
pub(crate) fn a_deposed_leader_ends_no_lease() {
    let leases = vec![LeaseName { id: 7, granted: 1 }];
    let late = Command::Lease(LeaseCommand::Expire { term: 5, leases });
    let left = keys_after(&[grant(), put(6), (6, late)]);
    assert_eq!(left, Some(vec![Bytes::from("a")]), "a deposed leader ends no lease");
}

/// A deletion that forgets to detach: the key, put again, goes with a lease that it does not hold.
pub(crate) fn a_deleted_key_leaves_its_lease() {
    let delete = DeleteRangeRequest { key: "a".into(), ..DeleteRangeRequest::default() };
    let left = keys_after(&[grant(), put(5), (5, Command::DeleteRange(delete))]);
    assert_eq!(left, Some(vec![]), "a deleted key leaves its lease");
}
