//! The bugs of the list that cannot be put back, and why.

/// A known bug that has no switch.
pub(crate) struct Other {
    pub(crate) number: &'static str,
    pub(crate) what: &'static str,
    pub(crate) seen: &'static str,
    /// Why this design cannot have it.
    pub(crate) why: &'static str,
}

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
