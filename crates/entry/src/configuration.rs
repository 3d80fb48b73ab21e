//! The encoding of a cluster configuration, as entries of kind [`crate::Kind::Configuration`] and
//! the log's segment headers carry it. The layout stands in `docs/log-format.md`.
//!
//! Invariants: (1) what decodes encodes back to the same bytes; (2) each list is sorted and holds
//! no member twice; (3) no list is longer than [`CONFIGURATION_MEMBERS_MAX`].

use jangada_raft::{Configuration, NodeId};

/// The most members in one list of a configuration. Raft clusters have a handful; the bound keeps
/// a damaged count from asking for memory, and a segment's header within a few sectors.
pub const CONFIGURATION_MEMBERS_MAX: usize = 256;

/// The version of the encoding.
pub const CONFIGURATION_VERSION: u16 = 1;

/// Version, and the lengths of the three lists.
const FIXED_BYTES: usize = 8;

/// Why bytes are not a configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConfigurationError {
    /// Written by a version of Jangada that this one does not understand.
    Version(u16),
    /// A list is longer than [`CONFIGURATION_MEMBERS_MAX`].
    Members(u16),
    /// The bytes are shorter or longer than their counts say.
    Length {
        /// What the counts ask for.
        expected: usize,
        /// What there is.
        actual: usize,
    },
    /// A list is not sorted, or names a member twice.
    Order,
}

impl std::fmt::Display for ConfigurationError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ConfigurationError::Version(version) => write!(
                f,
                "the configuration is of version {version}, this version of jangada knows \
                 {CONFIGURATION_VERSION}; run a newer one"
            ),
            ConfigurationError::Members(count) => write!(
                f,
                "the configuration lists {count} members, more than {CONFIGURATION_MEMBERS_MAX}"
            ),
            ConfigurationError::Length { expected, actual } => {
                write!(f, "the configuration takes {expected} bytes, there are {actual}")
            }
            ConfigurationError::Order => {
                write!(f, "the configuration's members are not sorted or not unique")
            }
        }
    }
}

impl std::error::Error for ConfigurationError {}

/// The bytes of a configuration.
///
/// # Panics
/// If a list is longer than [`CONFIGURATION_MEMBERS_MAX`], not sorted, or names a member twice:
/// whoever changes membership checks that first.
#[must_use]
pub fn encode_configuration(configuration: &Configuration) -> Vec<u8> {
    let lists = [&configuration.voters, &configuration.outgoing, &configuration.learners];
    let members: usize = lists.iter().map(|list| list.len()).sum();
    let mut bytes = Vec::with_capacity(FIXED_BYTES + 8 * members);
    bytes.extend_from_slice(&CONFIGURATION_VERSION.to_le_bytes());
    for list in lists {
        assert!(list.len() <= CONFIGURATION_MEMBERS_MAX, "configuration invariant 3");
        assert!(is_sorted(list), "configuration invariant 2");
        let count = u16::try_from(list.len()).expect("configuration invariant 3");
        bytes.extend_from_slice(&count.to_le_bytes());
    }
    for member in lists.into_iter().flatten() {
        bytes.extend_from_slice(&member.0.to_le_bytes());
    }
    bytes
}

/// Reads a configuration. All of `bytes` must be used.
///
/// # Errors
/// What is wrong with the bytes.
pub fn decode_configuration(bytes: &[u8]) -> Result<Configuration, ConfigurationError> {
    if bytes.len() < FIXED_BYTES {
        return Err(ConfigurationError::Length { expected: FIXED_BYTES, actual: bytes.len() });
    }
    let word = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    if word(0) != CONFIGURATION_VERSION {
        return Err(ConfigurationError::Version(word(0)));
    }
    let counts = [word(2), word(4), word(6)];
    if let Some(count) = counts.iter().find(|c| CONFIGURATION_MEMBERS_MAX < usize::from(**c)) {
        return Err(ConfigurationError::Members(*count));
    }
    let expected = FIXED_BYTES + 8 * counts.iter().map(|c| usize::from(*c)).sum::<usize>();
    if bytes.len() != expected {
        return Err(ConfigurationError::Length { expected, actual: bytes.len() });
    }
    let mut members = bytes[FIXED_BYTES..]
        .chunks_exact(8)
        .map(|chunk| NodeId(u64::from_le_bytes(chunk.try_into().expect("eight bytes"))));
    let mut list = |count: u16| members.by_ref().take(usize::from(count)).collect::<Vec<_>>();
    let configuration = Configuration {
        voters: list(counts[0]),
        outgoing: list(counts[1]),
        learners: list(counts[2]),
    };
    let Configuration { voters, outgoing, learners } = &configuration;
    if ![voters, outgoing, learners].into_iter().all(|list| is_sorted(list)) {
        return Err(ConfigurationError::Order);
    }
    Ok(configuration)
}

/// Whether the list is sorted and names no member twice.
fn is_sorted(list: &[NodeId]) -> bool {
    list.windows(2).all(|pair| pair[0] < pair[1])
}
