//! Known bugs about users, put back one by one: each must let through what is refused without it. A
//! process of its own, since a bug is put back for all of it.
#![cfg(feature = "canon")]

#[path = "harness/mod.rs"]
#[allow(dead_code, reason = "each test binary uses a part of it")]
mod harness;

use harness::users::{REFUSED, is_refused};
use jangada_kv::canon;

#[test]
fn each_bug_is_found() {
    for bug in REFUSED {
        assert!(is_refused(bug), "{bug}, which is not put back");
        canon::put_back(Some(bug));
        let found = !is_refused(bug);
        canon::put_back(None);
        assert!(found, "{bug} is not found");
    }
}
