//! The bounds that are checked on every change, by hand, and at night.
//!
//! Responsible for choosing bounds. A preset is a row of scopes, each of which opens another corner:
//! to allow everything at once, even once, would be more states than there is time for. What no scope
//! of any preset reaches is said in the sentences of [`UNCOVERED`].

use jangada_raft::{CatchUp, Configuration, MemberChange, NodeId};

use super::bounds::{Bounds, Opening};

/// What the bounds leave out, and who looks at it instead.
pub const UNCOVERED: &[&str] = &[
    "more than one cut, and more than one log that loses its end, along one path: the core-only \
     simulation's",
    "more than one change of the membership along one path, or more than four members in it: the \
     core-only simulation's",
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

/// The most states of a scope with cuts or rot by day: they are wide, and the others want their time.
const CUT_STATES_MAX: u64 = 1_000_000;

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
            scopes.extend(self.changes());
            scopes.extend(self.cuts());
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

impl Preset {
    /// Scopes in which the membership changes, or leadership is handed over.
    fn changes(self) -> Vec<Scope> {
        let replaced = Bounds {
            joiners: vec![NodeId(3)],
            changes: vec![wanted(&[1, 3], CatchUp::Skip)],
            changes_max: 1,
            heartbeats_max: 1,
            ..calm(2)
        };
        let removes_itself = Bounds {
            changes: vec![wanted(&[2], CatchUp::Skip)],
            changes_max: 1,
            transfer_timers_max: 1,
            ..calm(2)
        };
        let grows = Bounds {
            joiners: vec![NodeId(2)],
            changes: vec![wanted(&[1, 2], CatchUp::First)],
            changes_max: 1,
            heartbeats_max: 2,
            quorum_checks_max: 1,
            ..calm(1)
        };
        let handed_over =
            Bounds { heartbeats_max: 1, transfers_max: 1, transfer_timers_max: 1, ..calm(2) };
        let scopes = vec![
            scope("a member is replaced", replaced.clone()),
            scope("a leader removes itself", removes_itself.clone()),
            scope("a member is joined", grows.clone()),
            scope("leadership is handed over", Bounds { terms_max: 2, ..handed_over.clone() }),
        ];
        if self == Preset::Small {
            return scopes;
        }
        let crash = |bounds: Bounds| Bounds { crashes_max: 1, faults_max: 1, ..bounds };
        let elected = |bounds: Bounds| Bounds { elections_max: 1, quiets_max: 1, ..bounds };
        let more = vec![
            scope("a member is replaced, and another leads", elected(replaced.clone())),
            scope("a member is replaced, and a crash", crash(replaced)),
            scope("a leader removes itself, and a crash", crash(elected(removes_itself))),
            scope("a member is joined, and a crash", crash(grows)),
            scope(
                "any of three goes, and another leads",
                elected(Bounds {
                    changes: [[1, 2], [1, 3], [2, 3]].map(|it| wanted(&it, CatchUp::Skip)).into(),
                    changes_max: 1,
                    heartbeats_max: 0,
                    ..calm(3)
                }),
            ),
            scope(
                "leadership is handed over, and a fault",
                Bounds {
                    terms_max: 2,
                    losses_max: 1,
                    duplicates_max: 1,
                    transfers_max: 1,
                    transfer_timers_max: 1,
                    heartbeats_max: 0,
                    ..crash(calm(3))
                },
            ),
            scope("a leader is given up", Bounds { give_ups_max: 2, proposals_max: 1, ..led(3) }),
        ];
        [scopes, more].concat()
    }
}

impl Preset {
    /// Scopes in which logs are cut, and lose their end.
    fn cuts(self) -> Vec<Scope> {
        // One decides and the other listens: the fewest among whom one can be left behind.
        let listener =
            Configuration { learners: vec![NodeId(2)], ..Configuration::of_voters([NodeId(1)]) };
        let behind = Bounds {
            proposals_max: 1,
            cuts_max: 1,
            heartbeats_max: 2,
            disconnects_max: 1,
            snapshot_failures_max: 1,
            ..calm(3)
        };
        let alone = Bounds {
            configuration: listener,
            duplicates_max: 1,
            crashes_max: 1,
            faults_max: 2,
            ..behind.clone()
        };
        let loses = Bounds {
            proposals_max: 1,
            heartbeats_max: 2,
            crashes_max: 1,
            rots_max: 1,
            faults_max: 2,
            in_flight_max: 3,
            ..calm(3)
        };
        let scopes =
            vec![scope("a snapshot", alone), scope("a log that loses its end", loses.clone())];
        if self == Preset::Small {
            return scopes;
        }
        let behind = Bounds { heartbeats_max: 1, faults_max: 1, ..behind };
        let mut more = vec![
            scope("a snapshot among three", behind.clone()),
            scope(
                "a snapshot, and another leads",
                Bounds { elections_max: 1, quiets_max: 1, heartbeats_max: 0, ..behind },
            ),
            scope(
                "a log that loses its end, and another leads",
                Bounds { elections_max: 1, quiets_max: 1, ..loses.clone() },
            ),
            scope(
                "a log that loses its end, and two crashes",
                Bounds { crashes_max: 2, disconnects_max: 1, faults_max: 3, ..loses },
            ),
        ];
        more.iter_mut().for_each(|scope| scope.states_max = CUT_STATES_MAX);
        [scopes, more].concat()
    }
}

fn wanted(voters: &[u64], catch_up: CatchUp) -> MemberChange {
    let voters = voters.iter().map(|id| NodeId(*id)).collect();
    MemberChange { voters, catch_up, ..MemberChange::default() }
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
