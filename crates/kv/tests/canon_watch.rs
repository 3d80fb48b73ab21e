//! Known bugs about watches, put back one by one: the random histories of watchers must show each. A
//! process of its own, since a bug is put back for all of it.
#![cfg(feature = "canon")]

#[path = "harness/mod.rs"]
#[allow(dead_code, reason = "each test binary uses a part of it")]
mod harness;

use std::panic::catch_unwind;

use jangada_kv::canon;

/// How many histories may go by before a bug counts as not found.
const HISTORIES_MAX: u64 = 300;

#[test]
fn each_bug_is_found() {
    // Not what the failures say, which are wanted, but how long they take to come.
    std::panic::set_hook(Box::new(|_| {}));
    for bug in [
        // etcd #15220: progress up to a revision, before the events up to it.
        "watch_progress_overtakes_events",
        // etcd #20221: progress of a watcher that begins in the future.
        "watch_progress_before_its_start",
        // etcd #18089 in kind: events below a compaction are left out without a word.
        "watch_goes_on_below_a_compaction",
        // etcd's Restore before 3.4: what a snapshot brought is never told.
        "watch_jumps_over_a_snapshot",
        // What joining batches invites: the part that was read before is told again.
        "watch_reads_a_joined_batch_twice",
    ] {
        canon::put_back(Some(bug));
        let found = (1..=HISTORIES_MAX)
            .find(|seed| catch_unwind(|| harness::watching::run(*seed, true)).is_err());
        canon::put_back(None);
        let found = found.unwrap_or_else(|| {
            eprintln!("{bug} is not found");
            std::process::exit(1)
        });
        println!("{bug}: found by history {found}");
    }
}
