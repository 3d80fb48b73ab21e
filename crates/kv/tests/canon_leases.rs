//! Known bugs about leases, put back one by one: each must show. A process of its own, since a bug is
//! put back for all of it.
#![cfg(feature = "canon")]

#[path = "harness/mod.rs"]
#[allow(dead_code, reason = "each test binary uses a part of it")]
mod harness;

use std::panic::catch_unwind;

use harness::leases::{a_deleted_key_leaves_its_lease, a_deposed_leader_ends_no_lease};
use jangada_kv::canon;

#[test]
fn each_bug_is_found() {
    let cases: [(&str, fn()); 2] = [
        ("deposed_lessor_ends_leases", a_deposed_leader_ends_no_lease),
        ("deleted_key_stays_with_its_lease", a_deleted_key_leaves_its_lease),
    ];
    for (bug, history) in cases {
        history();
        canon::put_back(Some(bug));
        let found = catch_unwind(history).is_err();
        canon::put_back(None);
        assert!(found, "{bug} is not found");
    }
}
