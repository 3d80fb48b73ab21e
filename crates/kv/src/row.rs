//! Rows: the versions of keys as the engine holds them, which is as etcd holds them.
//!
//! Responsible for the bytes of a row's key and value (`docs/store-format.md`). A row's value is
//! the `mvccpb.KeyValue` wire message and, behind it, four bytes of CRC-32C over the row's key and
//! the message. Without those four bytes it is etcd's row, byte for byte.
//!
//! Invariants:
//! 1. Row keys sort as their revisions do.
//! 2. A row never changes once written.

use bytes::BufMut;

/// The length of a row's key; a tombstone's has one byte more.
pub(crate) const ROW_KEY_BYTES: usize = 17;

/// The bytes behind a row's message.
pub(crate) const ROW_CRC_BYTES: usize = 4;

/// Names a change: the revision of the store and the place within it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Revision {
    /// The store's revision.
    pub main: i64,
    /// The place among the changes of that revision, from 0.
    pub sub: u32,
}

/// A row's key as bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RowKey {
    bytes: [u8; ROW_KEY_BYTES + 1],
    tombstone: bool,
}

/// A row's message, read in place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct RowView<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) create: i64,
    pub(crate) main: i64,
    pub(crate) version: i64,
    pub(crate) value: &'a [u8],
    pub(crate) lease: i64,
}

/// Why bytes are not a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RowError {
    /// The row's key has not the form of one.
    Key,
    /// The checksum does not match.
    Checksum,
    /// The message is malformed.
    Message,
}

impl std::fmt::Display for RowError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RowError::Key => write!(f, "its key is malformed"),
            RowError::Checksum => write!(f, "its checksum does not match"),
            RowError::Message => write!(f, "its message is malformed"),
        }
    }
}

impl RowKey {
    pub(crate) fn new(revision: Revision, tombstone: bool) -> RowKey {
        let mut bytes = [0; ROW_KEY_BYTES + 1];
        bytes[0..8].copy_from_slice(&revision.main.to_be_bytes());
        bytes[8] = b'_';
        bytes[9..17].copy_from_slice(&u64::from(revision.sub).to_be_bytes());
        bytes[17] = b't';
        RowKey { bytes, tombstone }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..ROW_KEY_BYTES + usize::from(self.tombstone)]
    }

    /// What row keys are sorted by.
    pub(crate) fn order(&self) -> &[u8; ROW_KEY_BYTES + 1] {
        &self.bytes
    }

    /// Reads a row's key; the flag says whether it is a tombstone's.
    pub(crate) fn decode(bytes: &[u8]) -> Result<(Revision, bool), RowError> {
        let (number, tombstone) = match bytes.len() {
            ROW_KEY_BYTES => (bytes, false),
            18 if bytes[17] == b't' => (&bytes[..ROW_KEY_BYTES], true),
            _ => return Err(RowError::Key),
        };
        let main = i64::from_be_bytes(number[0..8].try_into().expect("eight bytes"));
        let sub = u64::from_be_bytes(number[9..17].try_into().expect("eight bytes"));
        let sub = u32::try_from(sub).map_err(|_| RowError::Key)?;
        if number[8] != b'_' || main < 0 || sub >= crate::record::SUB_END {
            return Err(RowError::Key);
        }
        Ok((Revision { main, sub }, tombstone))
    }
}

impl RowView<'_> {
    /// Appends the message; fields at zero are left out.
    pub(crate) fn encode(&self, buffer: &mut Vec<u8>) {
        bytes_field(buffer, 1, self.key);
        number_field(buffer, 2, self.create);
        number_field(buffer, 3, self.main);
        number_field(buffer, 4, self.version);
        bytes_field(buffer, 5, self.value);
        number_field(buffer, 6, self.lease);
    }

    /// Appends the row's value, checksum included, and returns the checksum.
    pub(crate) fn encode_sealed(&self, row_key: &RowKey, buffer: &mut Vec<u8>) -> u32 {
        let start = buffer.len();
        self.encode(buffer);
        let crc = row_crc(row_key.as_bytes(), &buffer[start..]);
        buffer.put_u32_le(crc);
        crc
    }
}

/// Splits a row's value into the message and nothing: checks the checksum and drops it.
pub(crate) fn unseal<'a>(row_key: &[u8], sealed: &'a [u8]) -> Result<&'a [u8], RowError> {
    let length = sealed.len().checked_sub(ROW_CRC_BYTES).ok_or(RowError::Checksum)?;
    let (message, crc) = sealed.split_at(length);
    if row_crc(row_key, message).to_le_bytes() != *crc {
        return Err(RowError::Checksum);
    }
    Ok(message)
}

/// Reads a message.
pub(crate) fn decode_message(mut rest: &[u8]) -> Result<RowView<'_>, RowError> {
    let mut row = RowView::default();
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        match tag {
            0x0a => row.key = slice(&mut rest)?,
            0x10 => row.create = varint(&mut rest)? as i64,
            0x18 => row.main = varint(&mut rest)? as i64,
            0x20 => row.version = varint(&mut rest)? as i64,
            0x2a => row.value = slice(&mut rest)?,
            0x30 => row.lease = varint(&mut rest)? as i64,
            _ => return Err(RowError::Message),
        }
    }
    if row.key.is_empty() { Err(RowError::Message) } else { Ok(row) }
}

/// Appends a message that is there and its checksum: a row's value.
pub(crate) fn seal(row_key: &[u8], message: &[u8], buffer: &mut Vec<u8>) {
    buffer.extend_from_slice(message);
    buffer.put_u32_le(row_crc(row_key, message));
}

fn row_crc(row_key: &[u8], message: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(row_key), message)
}

fn bytes_field(buffer: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        buffer.push(number << 3 | 2);
        put_varint(buffer, bytes.len() as u64);
        buffer.extend_from_slice(bytes);
    }
}

fn number_field(buffer: &mut Vec<u8>, number: u8, value: i64) {
    if value != 0 {
        buffer.push(number << 3);
        put_varint(buffer, value as u64);
    }
}

pub(crate) fn put_varint(buffer: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        buffer.push((number as u8) | 0x80);
        number >>= 7;
    }
    buffer.push(number as u8);
}

fn varint(rest: &mut &[u8]) -> Result<u64, RowError> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, tail) = rest.split_first().ok_or(RowError::Message)?;
        *rest = tail;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(RowError::Message)
}

fn slice<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], RowError> {
    let length = usize::try_from(varint(rest)?).map_err(|_| RowError::Message)?;
    if length > rest.len() {
        return Err(RowError::Message);
    }
    let (bytes, tail) = rest.split_at(length);
    *rest = tail;
    Ok(bytes)
}

impl RowView<'_> {
    /// The length of the message.
    pub(crate) fn encoded_bytes(&self) -> usize {
        let bytes = |field: &[u8]| match field.len() {
            0 => 0,
            length => 1 + varint_bytes(length as u64) + length,
        };
        let number = |value: i64| match value {
            0 => 0,
            value => 1 + varint_bytes(value as u64),
        };
        let numbers = [self.create, self.main, self.version, self.lease];
        bytes(self.key) + bytes(self.value) + numbers.into_iter().map(number).sum::<usize>()
    }
}

pub(crate) fn varint_bytes(number: u64) -> usize {
    let bits = 64 - (number | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}
