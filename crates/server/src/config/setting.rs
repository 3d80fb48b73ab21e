//! What one row of the settings table says.
//!
//! The table drives parsing, help and the printed configuration alike: a setting is data, and no
//! code is written for one setting except where [`super::Config`] reads its value.

/// The shape of a setting's value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Go's booleans: `1 t T true TRUE True` and their opposites; a bare flag means true.
    Bool,
    /// A whole number within bounds, both included.
    Integer {
        /// The least value.
        min: i64,
        /// The greatest value.
        max: i64,
    },
    /// Go's durations (`300ms`, `1h2m3.5s`); in the file also integer nanoseconds.
    Duration,
    /// Any text.
    Text,
    /// Text that is never printed back.
    Secret,
    /// A path.
    Path,
    /// Items divided by commas; in the file also a list.
    List,
    /// URLs divided by commas, each with scheme, host and port.
    Urls,
    /// One of a few words.
    Choice(&'static [&'static str]),
}

/// What the server does with a setting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// It has the documented effect.
    Used,
    /// It is accepted, so that existing units and charts start, and one warning says why it has no
    /// effect here.
    NoEffect(&'static str),
    /// Its feature is not built and ignoring it would be dangerous: refused when it is set to
    /// anything but its default. The sentence says what to do.
    Refused(&'static str),
}

/// One row: a setting's name and all there is to know about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Setting {
    /// The flag without dashes; also the key in the configuration file. The environment variable
    /// follows from it.
    pub name: &'static str,
    /// The shape of its value.
    pub kind: Kind,
    /// The default, written as on the command line.
    pub default: &'static str,
    /// What it means, with its unit, for the help text.
    pub meaning: &'static str,
    /// What the server does with it.
    pub state: State,
}

impl Setting {
    /// A setting that has its documented effect.
    #[must_use]
    pub const fn used(
        name: &'static str,
        kind: Kind,
        default: &'static str,
        meaning: &'static str,
    ) -> Setting {
        Setting { name, kind, default, meaning, state: State::Used }
    }

    /// A setting that is accepted with a warning.
    #[must_use]
    pub const fn no_effect(
        name: &'static str,
        kind: Kind,
        default: &'static str,
        why: &'static str,
    ) -> Setting {
        Setting { name, kind, default, meaning: why, state: State::NoEffect(why) }
    }

    /// A setting that is refused unless it keeps its default.
    #[must_use]
    pub const fn refused(
        name: &'static str,
        kind: Kind,
        default: &'static str,
        reason: &'static str,
    ) -> Setting {
        Setting { name, kind, default, meaning: reason, state: State::Refused(reason) }
    }
}

/// Settings that belong together, in the order of the help text.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// The heading.
    pub title: &'static str,
    /// The rows.
    pub settings: &'static [Setting],
}
