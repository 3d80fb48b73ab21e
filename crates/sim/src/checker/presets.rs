//! The bounds that are checked on every change, by hand, and at night.
//!
//! Responsible for choosing bounds. A preset is a row of scopes, each of which opens another corner:
//! to allow everything at once, even once, would be more states than there is time for. What no scope
//! of any preset reaches is said in the sentences of [`UNCOVERED`].

use jangada_raft::{Configuration, NodeId};

use super::bounds::{Bounds, Opening};

/// What the bounds leave out, and who looks at it instead.
pub const UNCOVERED: &[&str] = &[
    "changes of membership, snapshots and cut logs: the module does not change members yet, and cuts \
     are the simulator's",
    "grants that are honoured late or in part, and appends reported late: the core-only simulation's",
    "more than two faults, or two commands, along one path; more than three terms",
    "bytes: entries are all of one size, and no proposal is refused as busy",
];

/// A choice of bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Preset {
    /// A few seconds: for each change.
    Small,
    /// More than ten million states, in minutes.
    Default,
    /// More than a billion transitions.
    Nightly,
}

/// Bounds with a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scope {
    /// What is in the foreground.
    pub name: &'static str,
    /// The bounds.
    pub bounds: Bounds,
    /// The search stops at so many states.
    pub states_max: u64,
}

/// The most states of a scope at night: six such scopes are a billion transitions, and one of them
/// fits into four gigabytes.
const NIGHTLY_STATES_MAX: u64 = 60_000_000;

impl Preset {
    /// The preset's scopes, with another number of voters if one is given.
    #[must_use]
    pub fn scopes(self, members: Option<u64>) -> Vec<Scope> {
        let voters = members.unwrap_or(3);
        let mut scopes = match self {
            Preset::Small => small(voters),
            Preset::Default => default(voters),
            Preset::Nightly => nightly(voters),
        };
        if members.is_none() {
            scopes.extend(self.other_configurations());
        }
        scopes
    }

    /// Scopes whose voters are not the usual three.
    fn other_configurations(self) -> Vec<Scope> {
        let once = Bounds { terms_max: 1, elections_max: 1, ..Bounds::of_voters(4) };
        let alone = Bounds {
            proposals_max: 2,
            reads_max: 2,
            crashes_max: 2,
            faults_max: 2,
            elections_max: 3,
            terms_max: 3,
            ..Bounds::of_voters(1)
        };
        let scopes = vec![
            scope("one member", alone),
            scope("four members", once.clone()),
            scope("a learner", Bounds { configuration: learner(), ..once }),
        ];
        if self == Preset::Small {
            return scopes;
        }
        let two = Bounds {
            terms_max: 3,
            elections_max: 3,
            proposals_max: 1,
            crashes_max: 2,
            faults_max: 2,
            in_flight_max: 3,
            ..Bounds::of_voters(2)
        };
        let five = Bounds { in_flight_max: 4, ..Bounds::of_voters(5) };
        [scopes, vec![scope("two members", two), scope("five members", five)]].concat()
    }
}

fn scope(name: &'static str, bounds: Bounds) -> Scope {
    Scope { name, bounds, states_max: u64::MAX }
}

/// 1, 2 and 3 decide, 4 listens.
fn learner() -> Configuration {
    let configuration = Configuration::of_voters((1..=3).map(NodeId));
    Configuration { learners: vec![NodeId(4)], ..configuration }
}

/// A leader is there, and may be replaced once.
fn led(voters: u64) -> Bounds {
    Bounds {
        opening: Opening::Led,
        terms_max: 2,
        quiets_max: 1,
        in_flight_max: 3,
        ..Bounds::of_voters(voters)
    }
}

/// A leader is there and stays.
fn calm(voters: u64) -> Bounds {
    Bounds { elections_max: 0, quiets_max: 0, heartbeats_max: 1, ..led(voters) }
}

fn small(voters: u64) -> Vec<Scope> {
    let elections = Bounds { terms_max: 2, elections_max: 2, ..Bounds::of_voters(voters) };
    vec![
        scope(
            "elections and a crash",
            Bounds { in_flight_max: 2, crashes_max: 1, faults_max: 1, ..elections },
        ),
        scope("a new leader", Bounds { proposals_max: 1, ..led(voters) }),
        scope(
            "replication and a fault",
            Bounds {
                heartbeats_max: 0,
                proposals_max: 1,
                crashes_max: 1,
                losses_max: 1,
                duplicates_max: 1,
                disconnects_max: 1,
                faults_max: 1,
                ..calm(voters)
            },
        ),
        scope("reads", Bounds { in_flight_max: 4, proposals_max: 1, reads_max: 2, ..calm(voters) }),
        scope(
            "a leader that seems gone",
            Bounds {
                elections_max: 0,
                elections_soon_max: 2,
                peer_downs_max: 2,
                peer_ups_max: 1,
                faults_max: 2,
                ..led(voters)
            },
        ),
    ]
}

fn default(voters: u64) -> Vec<Scope> {
    let elections = Bounds { terms_max: 2, elections_max: 2, ..Bounds::of_voters(voters) };
    vec![
        scope("elections", Bounds { in_flight_max: 6, ..elections.clone() }),
        scope(
            "elections and a crash",
            Bounds { in_flight_max: 3, crashes_max: 1, faults_max: 1, ..elections },
        ),
        scope(
            "a new leader and a crash",
            Bounds { proposals_max: 1, crashes_max: 1, faults_max: 1, ..led(voters) },
        ),
        scope(
            "replication and a fault",
            Bounds {
                proposals_max: 2,
                crashes_max: 1,
                losses_max: 1,
                duplicates_max: 1,
                disconnects_max: 1,
                faults_max: 1,
                ..calm(voters)
            },
        ),
        scope("reads", Bounds { in_flight_max: 4, heartbeats_max: 1, reads_max: 2, ..led(voters) }),
        scope(
            "a leader that seems gone",
            Bounds {
                in_flight_max: 4,
                elections_max: 0,
                quiets_max: 0,
                elections_soon_max: 2,
                peer_downs_max: 2,
                peer_ups_max: 1,
                crashes_max: 1,
                faults_max: 3,
                ..led(voters)
            },
        ),
        scope(
            "reads and a crash",
            Bounds {
                heartbeats_max: 1,
                reads_max: 1,
                crashes_max: 1,
                faults_max: 1,
                ..led(voters)
            },
        ),
        scope(
            "a leader that loses its quorum",
            Bounds { heartbeats_max: 1, quorum_checks_max: 2, proposals_max: 1, ..led(voters) },
        ),
        scope(
            "inputs that come together",
            Bounds { proposals_max: 1, reads_max: 1, held_max: 2, ..calm(voters) },
        ),
    ]
}

fn nightly(voters: u64) -> Vec<Scope> {
    let fresh = Bounds { terms_max: 3, elections_max: 3, ..Bounds::of_voters(voters) };
    let faults = |bounds: Bounds| Bounds {
        crashes_max: 2,
        losses_max: 1,
        duplicates_max: 1,
        disconnects_max: 1,
        faults_max: 2,
        ..bounds
    };
    let mut scopes = vec![
        scope("elections in three terms", Bounds { in_flight_max: 4, ..fresh.clone() }),
        scope("elections and two faults", faults(Bounds { in_flight_max: 3, ..fresh })),
        scope(
            "a new leader and two faults",
            faults(Bounds { in_flight_max: 4, quiets_max: 2, proposals_max: 2, ..led(voters) }),
        ),
        scope(
            "replication and two faults",
            faults(Bounds { in_flight_max: 4, proposals_max: 2, ..calm(voters) }),
        ),
        scope(
            "reads and a fault",
            Bounds {
                in_flight_max: 4,
                heartbeats_max: 1,
                reads_max: 2,
                proposals_max: 1,
                crashes_max: 1,
                duplicates_max: 1,
                faults_max: 1,
                ..led(voters)
            },
        ),
        scope(
            "everything once",
            Bounds {
                in_flight_max: 4,
                elections_soon_max: 1,
                heartbeats_max: 1,
                quorum_checks_max: 1,
                proposals_max: 1,
                reads_max: 1,
                held_max: 1,
                peer_downs_max: 1,
                peer_ups_max: 1,
                disconnects_max: 1,
                losses_max: 1,
                duplicates_max: 1,
                crashes_max: 1,
                faults_max: 1,
                ..led(voters)
            },
        ),
    ];
    scopes.iter_mut().for_each(|scope| scope.states_max = NIGHTLY_STATES_MAX);
    [scopes, default(voters)].concat()
}
