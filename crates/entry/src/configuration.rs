//! The encoding of a cluster configuration, as entries of kind [`crate::Kind::Configuration`] and
//! the log's segment headers carry it. The layout stands in `docs/log-format.md`.
//!
//! Invariants: (1) what decodes encodes back to the same bytes; (2) each list is sorted and holds
//! no member twice; (3) no list is longer than [`CONFIGURATION_MEMBERS_MAX`].

use std::collections::BTreeMap;

use jangada_raft::{Configuration, NodeId};

/// The most members in one list of a configuration. Raft clusters have a handful; the bound keeps
/// a damaged count from asking for memory, and a segment's header within a few sectors.
pub const CONFIGURATION_MEMBERS_MAX: usize = 256;

/// The newest version of the encoding. A configuration with neither target nor addresses is written
/// in version 1, which has no place for them, so that each has one encoding. One that was forced is
/// written in version 3, whatever it holds.
pub const CONFIGURATION_VERSION: u16 = 3;

/// The version of a configuration with target or addresses that nobody has forced.
const NOT_FORCED: u16 = 2;

/// The most addresses of one member.
pub const MEMBER_ADDRESSES_MAX: usize = 16;

/// The longest address in bytes: a host name of 253, a scheme and a port, with room to spare.
pub const ADDRESS_BYTES_MAX: usize = 512;

/// Version, and the lengths of the lists: three of them in version 1, then target and addresses.
const FIXED_BYTES: [usize; 2] = [8, 12];

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
    /// Of version 2, though version 1 could say it.
    Needless,
    /// An address is not text, too long, or one of too many of its member.
    Address,
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
            ConfigurationError::Needless => {
                write!(f, "the configuration has neither target nor addresses, and room for both")
            }
            ConfigurationError::Address => write!(
                f,
                "an address in the configuration is not text, is longer than {ADDRESS_BYTES_MAX} \
                 bytes, or is one of more than {MEMBER_ADDRESSES_MAX} of its member"
            ),
        }
    }
}

impl std::error::Error for ConfigurationError {}

/// The bytes of a configuration.
///
/// # Panics
/// If a list is longer than [`CONFIGURATION_MEMBERS_MAX`], not sorted, or names a member twice, or an
/// address is beyond its bounds: whoever changes membership checks that first.
#[must_use]
pub fn encode_configuration(configuration: &Configuration) -> Vec<u8> {
    let Configuration { voters, outgoing, learners, target, addresses, forced } = configuration;
    let is_plain = target.is_empty() && addresses.is_empty() && !forced;
    let version = match (is_plain, forced) {
        (true, _) => 1,
        (false, false) => NOT_FORCED,
        (false, true) => CONFIGURATION_VERSION,
    };
    let lists = [voters, outgoing, learners, target];
    let members: usize = lists.iter().map(|list| list.len()).sum();
    let mut bytes = Vec::with_capacity(FIXED_BYTES[1] + 8 * members + 64 * addresses.len());
    bytes.extend_from_slice(&version.to_le_bytes());
    for list in &lists[..if is_plain { 3 } else { 4 }] {
        assert!(is_sorted(list), "configuration invariant 2");
        put_count(&mut bytes, list.len(), CONFIGURATION_MEMBERS_MAX);
    }
    if !is_plain {
        put_count(&mut bytes, addresses.len(), CONFIGURATION_MEMBERS_MAX);
    }
    for member in lists.into_iter().flatten() {
        bytes.extend_from_slice(&member.0.to_le_bytes());
    }
    for (member, addresses) in addresses {
        bytes.extend_from_slice(&member.0.to_le_bytes());
        put_count(&mut bytes, addresses.len(), MEMBER_ADDRESSES_MAX);
        for address in addresses {
            put_count(&mut bytes, address.len(), ADDRESS_BYTES_MAX);
            bytes.extend_from_slice(address.as_bytes());
        }
    }
    bytes
}

/// Reads a configuration. All of `bytes` must be used.
///
/// # Errors
/// What is wrong with the bytes.
pub fn decode_configuration(bytes: &[u8]) -> Result<Configuration, ConfigurationError> {
    let mut rest = Rest { bytes, length: bytes.len() };
    let version = rest.word()?;
    let (lists, with_addresses) = match version {
        1 => (3, false),
        NOT_FORCED | CONFIGURATION_VERSION => (4, true),
        other => return Err(ConfigurationError::Version(other)),
    };
    let mut counts = [0; 5];
    for count in &mut counts[..lists + usize::from(with_addresses)] {
        *count = rest.word()?;
    }
    if let Some(count) = counts.iter().find(|c| CONFIGURATION_MEMBERS_MAX < usize::from(**c)) {
        return Err(ConfigurationError::Members(*count));
    }
    // Where there are no addresses the counts alone say how long it is.
    if counts[4] == 0 {
        let members = counts.iter().map(|c| usize::from(*c)).sum::<usize>();
        let expected = FIXED_BYTES[usize::from(with_addresses)] + 8 * members;
        if bytes.len() != expected {
            return Err(ConfigurationError::Length { expected, actual: bytes.len() });
        }
    }
    let mut list = |count: u16| (0..count).map(|_| rest.member()).collect::<Result<Vec<_>, _>>();
    let mut configuration = Configuration {
        voters: list(counts[0])?,
        outgoing: list(counts[1])?,
        learners: list(counts[2])?,
        target: list(counts[3])?,
        addresses: BTreeMap::new(),
        forced: version == CONFIGURATION_VERSION,
    };
    for _ in 0..counts[4] {
        let member = rest.member()?;
        let addresses = rest.addresses()?;
        let last = configuration.addresses.last_key_value();
        if last.is_some_and(|(before, _)| member <= *before) {
            return Err(ConfigurationError::Order);
        }
        configuration.addresses.insert(member, addresses);
    }
    if version == NOT_FORCED
        && configuration.target.is_empty()
        && configuration.addresses.is_empty()
    {
        return Err(ConfigurationError::Needless);
    }
    if !rest.bytes.is_empty() {
        let expected = bytes.len() - rest.bytes.len();
        return Err(ConfigurationError::Length { expected, actual: bytes.len() });
    }
    let Configuration { voters, outgoing, learners, target, .. } = &configuration;
    if ![voters, outgoing, learners, target].into_iter().all(|list| is_sorted(list)) {
        return Err(ConfigurationError::Order);
    }
    Ok(configuration)
}

fn put_count(bytes: &mut Vec<u8>, count: usize, count_max: usize) {
    assert!(count <= count_max, "configuration invariant 3");
    let count = u16::try_from(count).expect("configuration invariant 3");
    bytes.extend_from_slice(&count.to_le_bytes());
}

/// What is left to be read.
struct Rest<'a> {
    bytes: &'a [u8],
    length: usize,
}

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], ConfigurationError> {
        let Some((taken, rest)) = self.bytes.split_at_checked(count) else {
            let expected = self.length - self.bytes.len() + count;
            return Err(ConfigurationError::Length { expected, actual: self.length });
        };
        self.bytes = rest;
        Ok(taken)
    }

    fn word(&mut self) -> Result<u16, ConfigurationError> {
        let taken = self.take(2)?;
        Ok(u16::from_le_bytes(taken.try_into().expect("two bytes")))
    }

    fn member(&mut self) -> Result<NodeId, ConfigurationError> {
        let taken = self.take(8)?;
        Ok(NodeId(u64::from_le_bytes(taken.try_into().expect("eight bytes"))))
    }

    fn addresses(&mut self) -> Result<Vec<String>, ConfigurationError> {
        let count = self.word()?;
        if MEMBER_ADDRESSES_MAX < usize::from(count) {
            return Err(ConfigurationError::Address);
        }
        let mut addresses = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            let length = usize::from(self.word()?);
            if ADDRESS_BYTES_MAX < length {
                return Err(ConfigurationError::Address);
            }
            let text = std::str::from_utf8(self.take(length)?);
            addresses.push(text.map_err(|_| ConfigurationError::Address)?.to_owned());
        }
        Ok(addresses)
    }
}

/// Whether the list is sorted and names no member twice.
fn is_sorted(list: &[NodeId]) -> bool {
    list.windows(2).all(|pair| pair[0] < pair[1])
}
