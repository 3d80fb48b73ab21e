//! Where a setting's value comes from.

use std::fmt;

/// Where a value was found. A flag beats the environment; a configuration file replaces both.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Source {
    /// Nobody set it.
    Default,
    /// An environment variable.
    Environment,
    /// A command line flag.
    Flag,
    /// The configuration file.
    File,
}

impl Source {
    /// How a message names the setting, in the spelling its author used.
    #[must_use]
    pub fn label(self, name: &str) -> String {
        match self {
            Source::Default | Source::Flag => format!("--{name}"),
            Source::Environment => super::environment::variable_of(name),
            Source::File => format!("'{name}' in the configuration file"),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Source::Default => "default",
            Source::Environment => "environment",
            Source::Flag => "flag",
            Source::File => "file",
        })
    }
}
