//! Why a message cannot be sent, and why bytes are not a message.

use jangada_entry::{ConfigurationError, FrameError};
use jangada_raft::Position;

use super::{ENTRIES_MAX, MESSAGE_BYTES_MAX, PAYLOAD_BYTES_MAX, PROPOSALS_MAX};

/// Why a message cannot be sent. The fault is always the caller's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EncodeError {
    /// More entries than [`ENTRIES_MAX`].
    Entries(usize),
    /// More proposals or sequence numbers than [`PROPOSALS_MAX`].
    Proposals(usize),
    /// More bytes of payloads than [`PAYLOAD_BYTES_MAX`].
    Payload(usize),
    /// The frames' names are not those of the range.
    Frames,
    /// A membership beyond its bounds.
    Membership,
}

impl std::fmt::Display for EncodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            EncodeError::Entries(count) => {
                write!(
                    f,
                    "{count} entries are too many for one message: send at most {ENTRIES_MAX}"
                )
            }
            EncodeError::Proposals(count) => {
                write!(
                    f,
                    "{count} items are too many for one message: send at most {PROPOSALS_MAX}"
                )
            }
            EncodeError::Payload(bytes) => write!(
                f,
                "{bytes} bytes are too many for one message: send at most {PAYLOAD_BYTES_MAX}"
            ),
            EncodeError::Membership => write!(
                f,
                "the membership names too many members or addresses, or not in order: see \
                 wire::fits"
            ),
            EncodeError::Frames => {
                write!(f, "the entries are not those that the append names: attach the right ones")
            }
        }
    }
}

impl std::error::Error for EncodeError {}

/// Why bytes are not a message of this version. The connection they came on is closed: nothing
/// after them can be trusted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DecodeError {
    /// Fewer bytes than the header or the fixed part says.
    Short,
    /// More bytes than the message's parts account for.
    Long,
    /// The length field is impossible.
    Length(u32),
    /// The fixed part's length is impossible.
    FixedLength(u32),
    /// The checksum of header and fixed part does not match.
    Checksum,
    /// A type that this version does not know.
    Kind(u8),
    /// A flag or a reserved byte that this version does not use is set.
    Reserved,
    /// The message is of another group.
    Group {
        /// The group served here.
        ours: u64,
        /// The message's.
        theirs: u64,
    },
    /// An index, a term or a number beyond [`super::NUMBER_MAX`].
    Number(u64),
    /// A byte that stands for a choice has none of the known values.
    Choice(u8),
    /// More items than the limit for their kind.
    Count(u64),
    /// The range of entries contradicts itself, or terms fall along it.
    Range,
    /// The hint of a refused append does not lie before the entry that was refused.
    Hint,
    /// An entry is damaged.
    Frame(FrameError),
    /// A configuration among the entries cannot be read.
    Configuration(ConfigurationError),
    /// An entry's name is not the one that the range gives at its place.
    FrameName {
        /// The range's name.
        expected: Position,
        /// The entry's name.
        found: Position,
    },
    /// A forwarded proposal is damaged.
    ProposalChecksum,
    /// A part of a snapshot is damaged.
    ChunkChecksum,
    /// The membership wanted is beyond its bounds.
    Membership,
    /// The message does not belong on the lane it came on.
    Lane,
}

impl std::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DecodeError::Short => write!(f, "the message is cut short"),
            DecodeError::Long => write!(f, "the message is longer than its contents"),
            DecodeError::Length(length) => write!(
                f,
                "the message's length {length} is impossible (the most is {MESSAGE_BYTES_MAX})"
            ),
            DecodeError::FixedLength(length) => {
                write!(f, "the length {length} of the message's fixed part is impossible")
            }
            DecodeError::Checksum => write!(f, "the message's checksum does not match"),
            DecodeError::Kind(kind) => {
                write!(f, "the message is of type {kind}, which this version does not know")
            }
            DecodeError::Reserved => {
                write!(f, "the message sets bits that this version does not know")
            }
            DecodeError::Group { ours, theirs } => {
                write!(f, "the message is for group {theirs}, and this member serves group {ours}")
            }
            DecodeError::Number(number) => write!(f, "the number {number} is impossible"),
            DecodeError::Choice(value) => write!(f, "the value {value} is not among the choices"),
            DecodeError::Count(count) => write!(f, "{count} items are too many for one message"),
            DecodeError::Range => write!(f, "the range of entries contradicts itself"),
            DecodeError::Hint => write!(f, "the hint does not lie before the refused entry"),
            DecodeError::Frame(error) => error.fmt(f),
            DecodeError::Configuration(error) => error.fmt(f),
            DecodeError::FrameName { expected, found } => write!(
                f,
                "entry {} of term {} stands where entry {} of term {} should",
                found.index, found.term, expected.index, expected.term
            ),
            DecodeError::ProposalChecksum => {
                write!(f, "the checksum of a forwarded proposal does not match")
            }
            DecodeError::ChunkChecksum => {
                write!(f, "the checksum of a part of a snapshot does not match")
            }
            DecodeError::Membership => {
                write!(f, "the membership wanted is beyond its bounds")
            }
            DecodeError::Lane => write!(f, "the message does not belong on this connection's lane"),
        }
    }
}

impl std::error::Error for DecodeError {}

impl From<FrameError> for DecodeError {
    fn from(error: FrameError) -> DecodeError {
        DecodeError::Frame(error)
    }
}

impl From<ConfigurationError> for DecodeError {
    fn from(error: ConfigurationError) -> DecodeError {
        DecodeError::Configuration(error)
    }
}
