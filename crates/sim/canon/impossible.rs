//! The bugs of the list that cannot be put back, and why.

/// A known bug that has no switch.
pub(crate) struct Other {
    pub(crate) number: &'static str,
    pub(crate) what: &'static str,
    pub(crate) seen: &'static str,
    /// The feature it waits for, or why this design cannot have it.
    pub(crate) why: &'static str,
}

/// Bugs of what is not built yet.
pub(crate) const WAITING: &[Other] = &[
    Other {
        number: "29",
        what: "A deposed leader lets leases expire",
        seen: "etcd #15247",
        why: "leases",
    },
    Other {
        number: "#14571",
        what: "Authentication is not in force after a restart",
        seen: "etcd #14571",
        why: "authentication",
    },
    Other {
        number: "#15220, #15271",
        what: "Watch events out of order, or progress told too early",
        seen: "etcd #15220, #15271",
        why: "watches",
    },
    Other {
        number: "#17529, #18089, #19179, #20221, #20271",
        what: "Watch events lost, late, double or old",
        seen: "etcd",
        why: "watches",
    },
];

/// Bugs that this design cannot have.
pub(crate) const IMPOSSIBLE: &[Other] = &[
    Other {
        number: "2",
        what: "A follower acknowledges entries that its leader has not verified",
        seen: "copycat #266 in kind",
        why: "put back, it changed nothing in 20,000 schedules: what is acknowledged is the answer to an \
              append that starts where the logs part, and whatever lay behind it was cut off with it; \
              the acknowledgement is bounded by what was verified all the same",
    },
    Other {
        number: "7",
        what: "Two single-server changes from one base",
        seen: "raft-dev 2015",
        why: "there is no single-server change: joint consensus is the only mechanism",
    },
    Other {
        number: "",
        what: "A session expires by a member's own clock",
        seen: "LogCabin, before its cluster clock",
        why: "a state machine is given no clock: sessions see the time that stands in the entries, the \
              same on every member",
    },
    Other {
        number: "#14685",
        what: "A crash during defragmentation loses data",
        seen: "etcd #14685",
        why: "nothing is defragmented: the engine gives space back by itself, and the request succeeds \
              without touching the file",
    },
];
