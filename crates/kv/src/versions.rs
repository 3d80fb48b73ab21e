//! Which commands may be proposed while members of several builds run together.
//!
//! A command of a version that a member does not know stops that member. So a version is proposed
//! only once the cluster's version, which is in the node's record and is raised when all members
//! speak it, says that everyone knows it. Applying asks nothing of the kind: what is in the log is
//! applied.

use crate::command::{COMMAND_VERSION, Command};

/// Each version of commands, and the cluster's version from which on it may be proposed. A new
/// version of commands gets a new line and, unless the cluster's version was raised for something
/// else of the same build, a new version of the cluster.
pub const COMMAND_VERSIONS: &[(u16, u32)] = &[(1, 1)];

/// The highest version of the cluster that this crate knows of.
pub const CLUSTER_VERSION: u32 = COMMAND_VERSIONS[COMMAND_VERSIONS.len() - 1].1;

/// The newest version of commands that may be proposed in a cluster of a version; `None` if there is
/// no such cluster.
#[must_use]
pub fn command_version_max(cluster_version: u32) -> Option<u16> {
    let known = COMMAND_VERSIONS.iter().rev();
    known.into_iter().find(|(_, from)| *from <= cluster_version).map(|(version, _)| *version)
}

impl Command {
    /// The version of the encoding that this command needs, which is the lowest that has it: the one
    /// to propose it with.
    #[must_use]
    pub fn version(&self) -> u16 {
        match self {
            Command::Put(_)
            | Command::DeleteRange(_)
            | Command::Txn(_)
            | Command::Compact { .. }
            | Command::Alarm { .. }
            | Command::Member(_)
            | Command::RetractMember(_)
            | Command::Lease(_)
            | Command::Auth(_)
            | Command::As(..) => COMMAND_VERSION,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_of_commands_has_its_line_and_none_is_proposed_too_early() {
        assert_eq!(COMMAND_VERSIONS.last().map(|(version, _)| *version), Some(COMMAND_VERSION));
        assert!(COMMAND_VERSIONS.is_sorted_by(|a, b| a.0 + 1 == b.0 && a.1 <= b.1));
        assert_eq!(command_version_max(0), None);
        for (version, cluster) in COMMAND_VERSIONS {
            assert!(Some(*version) <= command_version_max(*cluster));
            assert!(command_version_max(*cluster - 1) < Some(*version));
        }
        assert_eq!(command_version_max(CLUSTER_VERSION), Some(COMMAND_VERSION));
        assert_eq!(command_version_max(u32::MAX), Some(COMMAND_VERSION), "a newer cluster");
    }
}
