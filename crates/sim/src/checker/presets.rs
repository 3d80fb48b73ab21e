//! The bounds that are checked on every change, by hand, and at night.
//!
//! Responsible for choosing bounds. A preset is a few scopes, each of which opens another corner:
//! to allow everything at once, once, would be more states than there is time for.

use super::bounds::{Bounds, Opening};

/// A choice of bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Preset {
    /// A few seconds.
    Small,
    /// Some ten million states, in minutes.
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
}

impl Preset {
    /// The preset's scopes, with another number of voters if one is given.
    #[must_use]
    pub fn scopes(self, members: Option<u64>) -> Vec<Scope> {
        let base = Bounds::of_voters(members.unwrap_or(3));
        match self {
            Preset::Small => vec![Scope {
                name: "elections",
                bounds: Bounds {
                    terms_max: 2,
                    elections_max: 2,
                    crashes_max: 1,
                    faults_max: 1,
                    ..base
                },
            }],
            Preset::Default | Preset::Nightly => vec![Scope {
                name: "replication",
                bounds: Bounds {
                    opening: Opening::Led,
                    terms_max: 2,
                    elections_max: 1,
                    quiets_max: 2,
                    proposals_max: 1,
                    crashes_max: 1,
                    losses_max: 1,
                    faults_max: 1,
                    ..base
                },
            }],
        }
    }
}
