//! The one codec of log entries.
//!
//! An entry is a *frame*: a header of fixed size and an opaque payload. The same bytes lie in
//! memory, on disk, on the wire and before the state machine. They are encoded once, when the
//! command is proposed, and shared by reference count; each border checks them with
//! [`Frame::decode`]. The layout is documented in `docs/log-format.md`.

mod configuration;

pub use configuration::{
    ADDRESS_BYTES_MAX, CONFIGURATION_MEMBERS_MAX, CONFIGURATION_VERSION, ConfigurationError,
    MEMBER_ADDRESSES_MAX, decode_configuration, encode_configuration,
};

use bytes::{Bytes, BytesMut};
use jangada_raft::{Index, Position, Term};

/// The size of a frame's header in bytes.
pub const HEADER_BYTES: usize = 64;

/// The largest frame, header included. A length beyond it is damage, not an entry.
pub const FRAME_BYTES_MAX: usize = 64 << 20;

/// What an entry is for. A number that is not listed stops the process: an entry that cannot be
/// understood is never skipped.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
    /// Starts a leader's term; no payload.
    NoOp = 0,
    /// A command for the state machine.
    Command = 1,
    /// A cluster configuration.
    Configuration = 2,
    /// Raises the cluster's version: [`encode_version`].
    Version = 3,
}

/// Names a proposal across the cluster: the life of the member that was asked, and a number within
/// that life. The member asked wakes its own waiter by it. Zero in both for entries nobody waits
/// for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Origin {
    /// Names one life of one member's process.
    pub incarnation: u64,
    /// The proposal's number within that life, from 1.
    pub sequence: u64,
}

/// Why bytes are not a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameError {
    /// Fewer bytes than a header, or than the header says.
    Short,
    /// The length field is impossible.
    Length(u32),
    /// The header's checksum does not match.
    HeaderChecksum,
    /// The payload's checksum does not match.
    PayloadChecksum,
    /// A kind that this version does not know.
    Kind(u8),
    /// A byte that this version leaves zero is not: what it says cannot be known.
    Reserved,
}

impl std::fmt::Display for FrameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FrameError::Short => write!(f, "the entry is cut short"),
            FrameError::Length(length) => write!(f, "the entry's length {length} is impossible"),
            FrameError::HeaderChecksum => write!(f, "the entry's header checksum does not match"),
            FrameError::PayloadChecksum => write!(f, "the entry's payload checksum does not match"),
            FrameError::Kind(kind) => {
                write!(f, "the entry is of kind {kind}, which this version does not know")
            }
            FrameError::Reserved => {
                write!(f, "the entry's header sets bits that this version does not know")
            }
        }
    }
}

impl std::error::Error for FrameError {}

/// A frame's header, decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// The frame's length in bytes, header included.
    pub length: u32,
    /// CRC-32C of the payload.
    pub payload_crc: u32,
    /// What the entry is for.
    pub kind: Kind,
    /// The version of the command's encoding.
    pub version: u16,
    /// The group whose log the entry belongs to.
    pub group: u64,
    /// The entry's name.
    pub position: Position,
    /// Milliseconds since the Unix epoch, stamped by the leader; never falls along a log.
    pub time_ms: u64,
    /// Who waits for it.
    pub origin: Origin,
}

/// An entry before it has a name: the payload, with room for the header in front.
#[derive(Debug)]
pub struct Draft {
    buffer: BytesMut,
    kind: Kind,
    version: u16,
    group: u64,
    origin: Origin,
    payload_crc: u32,
}

/// An entry: header and payload in one shared, immutable buffer.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    bytes: Bytes,
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// CRC-32C of a header: all of it but the checksum's own place.
fn header_crc(header: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&header[0..4]);
    crc32c::crc32c_append(crc, &header[8..HEADER_BYTES])
}

impl Kind {
    /// The kind of this number.
    ///
    /// # Errors
    /// A number that this version does not know.
    pub fn of(number: u8) -> Result<Kind, FrameError> {
        match number {
            0 => Ok(Kind::NoOp),
            1 => Ok(Kind::Command),
            2 => Ok(Kind::Configuration),
            3 => Ok(Kind::Version),
            other => Err(FrameError::Kind(other)),
        }
    }
}

/// The payload of an entry of [`Kind::Version`]: the cluster's version from there on.
#[must_use]
pub fn encode_version(version: u16) -> [u8; 2] {
    version.to_le_bytes()
}

/// Reads the payload of an entry of [`Kind::Version`]; `None` when it is none.
#[must_use]
pub fn decode_version(payload: &[u8]) -> Option<u16> {
    payload.try_into().ok().map(u16::from_le_bytes)
}

impl Header {
    /// Reads and checks a header. The payload is not looked at.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Header, FrameError> {
        if bytes.len() < HEADER_BYTES {
            return Err(FrameError::Short);
        }
        if u32_at(bytes, 4) != header_crc(bytes) {
            return Err(FrameError::HeaderChecksum);
        }
        let length = u32_at(bytes, 0);
        if (length as usize) < HEADER_BYTES || FRAME_BYTES_MAX < length as usize {
            return Err(FrameError::Length(length));
        }
        let kind = Kind::of(bytes[12])?;
        if bytes[13] != 0 {
            return Err(FrameError::Reserved);
        }
        Ok(Header {
            length,
            payload_crc: u32_at(bytes, 8),
            kind,
            version: u16::from_le_bytes([bytes[14], bytes[15]]),
            group: u64_at(bytes, 16),
            position: Position { index: Index(u64_at(bytes, 24)), term: Term(u64_at(bytes, 32)) },
            time_ms: u64_at(bytes, 40),
            origin: Origin { incarnation: u64_at(bytes, 48), sequence: u64_at(bytes, 56) },
        })
    }

    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(&self.length.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.payload_crc.to_le_bytes());
        bytes[12] = self.kind as u8;
        bytes[14..16].copy_from_slice(&self.version.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.group.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.position.index.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.position.term.0.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.time_ms.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.origin.incarnation.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.origin.sequence.to_le_bytes());
        let crc = header_crc(&bytes);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes
    }
}

impl Draft {
    /// A buffer for a payload of about `capacity` bytes, with room for the header in front. Append
    /// the payload to it and hand it to [`Draft::new`].
    #[must_use]
    pub fn buffer(capacity: usize) -> BytesMut {
        let mut buffer = BytesMut::with_capacity(HEADER_BYTES + capacity);
        buffer.resize(HEADER_BYTES, 0);
        buffer
    }

    /// A draft of what was written into a [`Draft::buffer`].
    ///
    /// # Panics
    /// If the buffer is shorter than a header, and so does not come from [`Draft::buffer`].
    #[must_use]
    pub fn new(buffer: BytesMut, kind: Kind, version: u16, group: u64, origin: Origin) -> Draft {
        assert!(HEADER_BYTES <= buffer.len(), "the buffer has room for the header");
        let payload_crc = crc32c::crc32c(&buffer[HEADER_BYTES..]);
        Draft { buffer, kind, version, group, origin, payload_crc }
    }

    /// The size of the frame it will be, in bytes.
    #[must_use]
    pub fn frame_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// The payload.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.buffer[HEADER_BYTES..]
    }

    /// Who waits for it.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// What the entry is for.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The version of the command's encoding.
    #[must_use]
    pub fn version(&self) -> u16 {
        self.version
    }

    /// The payload, sharing the draft's memory.
    #[must_use]
    pub fn into_payload(self) -> Bytes {
        self.buffer.freeze().slice(HEADER_BYTES..)
    }

    /// The entry, under the name and the time the leader gives it. Nothing is copied.
    #[must_use]
    pub fn stamp(mut self, position: Position, time_ms: u64) -> Frame {
        let length = u32::try_from(self.buffer.len()).expect("frames are bounded at the border");
        let header = Header {
            length,
            payload_crc: self.payload_crc,
            kind: self.kind,
            version: self.version,
            group: self.group,
            position,
            time_ms,
            origin: self.origin,
        };
        self.buffer[..HEADER_BYTES].copy_from_slice(&header.encode());
        Frame { bytes: self.buffer.freeze() }
    }
}

impl Frame {
    /// Splits the first frame off `bytes`, having checked both checksums. Nothing is copied.
    ///
    /// # Errors
    /// What is wrong with the bytes; they are then left as they were.
    pub fn decode(bytes: &mut Bytes) -> Result<Frame, FrameError> {
        let header = Header::decode(bytes)?;
        let length = header.length as usize;
        if bytes.len() < length {
            return Err(FrameError::Short);
        }
        if crc32c::crc32c(&bytes[HEADER_BYTES..length]) != header.payload_crc {
            return Err(FrameError::PayloadChecksum);
        }
        Ok(Frame { bytes: bytes.split_to(length) })
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> Header {
        Header::decode(&self.bytes).expect("a frame is checked where it is made")
    }

    /// The entry's name.
    #[must_use]
    pub fn position(&self) -> Position {
        Position { index: Index(u64_at(&self.bytes, 24)), term: Term(u64_at(&self.bytes, 32)) }
    }

    /// What the entry is for.
    #[must_use]
    pub fn kind(&self) -> Kind {
        Kind::of(self.bytes[12]).expect("a frame is checked where it is made")
    }

    /// The whole frame.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The payload.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.bytes[HEADER_BYTES..]
    }

    /// The payload, sharing the frame's memory.
    #[must_use]
    pub fn payload_bytes(&self) -> Bytes {
        self.bytes.slice(HEADER_BYTES..)
    }
}

impl std::fmt::Debug for Frame {
    /// The name and the size, never the payload: it may hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Position { index, term } = self.position();
        write!(f, "Frame({index} of term {term}, {} bytes)", self.bytes.len())
    }
}
