//! The bytes of the two records of a handshake.
//!
//! Both begin with the magic and their own length, and end with a checksum over all before it.
//! A later version may put new fields between the known ones and the checksum; they are skipped.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use jangada_raft::NodeId;

/// The first bytes on every connection, in both directions. The line feed at its end makes a
/// text protocol's server answer at once instead of waiting for more.
pub const MAGIC: [u8; 8] = *b"jangada\n";

/// The size of this version's hello in bytes.
pub const HELLO_BYTES: usize = 76;

/// The size of this version's reply in bytes, with an empty sentence.
pub const REPLY_BYTES: usize = 60;

/// The largest record that is read: room for later versions' fields, and little enough that a
/// stranger cannot make a member hold much.
pub const RECORD_BYTES_MAX: usize = 1024;

/// The longest sentence of a refusal in bytes.
pub const SENTENCE_BYTES_MAX: usize = 512;

/// The most bytes of addresses in a hello, their lengths included: what a record has room for. Those
/// that do not fit are left out.
pub const HELLO_ADDRESSES_BYTES_MAX: usize = 768;

/// What a dialer says first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    /// The oldest version the dialer speaks.
    pub oldest: u16,
    /// The newest version the dialer speaks.
    pub newest: u16,
    /// The number of the lane the connection is for.
    pub lane: u8,
    /// The dialer's cluster.
    pub cluster: u64,
    /// The dialer.
    pub from: NodeId,
    /// The member the dialer looks for.
    pub to: NodeId,
    /// The life of the dialer's data directory.
    pub incarnation: u64,
    /// The life of the dialer's process.
    pub process: u64,
    /// The incarnation of the member looked for, if the dialer has met it before.
    pub to_incarnation: Option<u64>,
    /// The highest feature level that the dialer's program speaks; 0 when it does not say.
    pub level: u16,
    /// Where the dialer is found, so that an acceptor that has not heard of it can answer.
    pub addresses: Vec<String>,
}

/// What an acceptor answers: a welcome (code 0) or a refusal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// 0, or the number of a [`super::RefusalCode`].
    pub code: u8,
    /// The version to be used; 0 in a refusal.
    pub version: u16,
    /// The oldest version the acceptor speaks.
    pub oldest: u16,
    /// The newest version the acceptor speaks.
    pub newest: u16,
    /// The acceptor's cluster.
    pub cluster: u64,
    /// The acceptor.
    pub member: NodeId,
    /// The life of the acceptor's data directory.
    pub incarnation: u64,
    /// The life of the acceptor's process.
    pub process: u64,
    /// The highest feature level that the acceptor's program speaks; 0 when it does not say.
    pub level: u16,
    /// Why the dialer was refused; empty in a welcome. Once decoded it has no control characters.
    pub sentence: String,
}

/// Why bytes are not a record of a handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecordError {
    /// The other side speaks another protocol.
    Magic,
    /// The record's length is impossible.
    Length(u16),
    /// The checksum does not match.
    Checksum,
    /// The sentence is longer than the record.
    Sentence,
    /// The addresses are no addresses.
    Addresses,
}

impl std::fmt::Display for RecordError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RecordError::Magic => {
                write!(f, "the other side does not speak the protocol between members")
            }
            RecordError::Length(length) => {
                write!(f, "the handshake's length {length} is impossible")
            }
            RecordError::Checksum => write!(f, "the handshake's checksum does not match"),
            RecordError::Sentence => write!(f, "the handshake's sentence is longer than itself"),
            RecordError::Addresses => write!(f, "the addresses in the handshake are no addresses"),
        }
    }
}

impl std::error::Error for RecordError {}

impl Hello {
    /// The bytes of the hello.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let addresses = put_addresses(&self.addresses);
        let mut out = start(HELLO_BYTES + addresses.len());
        out.put_u16_le(self.oldest);
        out.put_u16_le(self.newest);
        out.put_u8(self.lane);
        out.put_u8(u8::from(self.to_incarnation.is_some()));
        out.put_u64_le(self.cluster);
        out.put_u64_le(self.from.0);
        out.put_u64_le(self.to.0);
        out.put_u64_le(self.incarnation);
        out.put_u64_le(self.process);
        out.put_u64_le(self.to_incarnation.unwrap_or(0));
        out.put_u16_le(self.level);
        out.put_u16_le(u16::try_from(addresses.len()).expect("bounded"));
        out.put_u32_le(0);
        out.put_slice(&addresses);
        finish(out)
    }

    /// Splits a hello off what has been received; `None` when more bytes are needed.
    ///
    /// # Errors
    /// What is wrong with the bytes, as soon as it can be told.
    pub fn decode(bytes: &mut BytesMut) -> Result<Option<Hello>, RecordError> {
        let Some(mut fields) = split_record(bytes, HELLO_BYTES)? else {
            return Ok(None);
        };
        let (oldest, newest) = (fields.get_u16_le(), fields.get_u16_le());
        let lane = fields.get_u8();
        let met = fields.get_u8() & 1 == 1;
        let cluster = fields.get_u64_le();
        let (from, to) = (NodeId(fields.get_u64_le()), NodeId(fields.get_u64_le()));
        let (incarnation, process) = (fields.get_u64_le(), fields.get_u64_le());
        let wanted = fields.get_u64_le();
        let to_incarnation = met.then_some(wanted);
        let (level, length) = (fields.get_u16_le(), usize::from(fields.get_u16_le()));
        fields.advance(4);
        let addresses = fields.get(..length).and_then(addresses_in);
        let addresses = addresses.ok_or(RecordError::Addresses)?;
        Ok(Some(Hello {
            oldest,
            newest,
            lane,
            cluster,
            from,
            to,
            incarnation,
            process,
            to_incarnation,
            level,
            addresses,
        }))
    }
}

/// Addresses, each behind its length; as many as there is room for.
pub(crate) fn put_addresses(addresses: &[String]) -> BytesMut {
    let mut out = BytesMut::new();
    for address in addresses {
        if HELLO_ADDRESSES_BYTES_MAX < out.len() + 2 + address.len() {
            break;
        }
        out.put_u16_le(u16::try_from(address.len()).expect("bounded"));
        out.put_slice(address.as_bytes());
    }
    out
}

/// Reads what [`put_addresses`] has written; `None` when it is something else. An address is text
/// without control characters, since it is shown in logs.
pub(crate) fn addresses_in(mut bytes: &[u8]) -> Option<Vec<String>> {
    if HELLO_ADDRESSES_BYTES_MAX < bytes.len() {
        return None;
    }
    let mut addresses = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<2>()?;
        let (text, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
        let text = std::str::from_utf8(text).ok()?;
        if text.chars().any(char::is_control) {
            return None;
        }
        addresses.push(text.to_owned());
        bytes = rest;
    }
    Some(addresses)
}

impl Reply {
    /// The bytes of the reply. A sentence that is too long is cut.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let sentence = cut(&self.sentence);
        let mut out = start(REPLY_BYTES + sentence.len());
        out.put_u8(self.code);
        out.put_u8(0);
        out.put_u16_le(self.version);
        out.put_u16_le(self.oldest);
        out.put_u16_le(self.newest);
        out.put_u64_le(self.cluster);
        out.put_u64_le(self.member.0);
        out.put_u64_le(self.incarnation);
        out.put_u64_le(self.process);
        out.put_u16_le(u16::try_from(sentence.len()).expect("sentences are cut"));
        out.put_u16_le(self.level);
        out.put_u16_le(0);
        out.put_slice(sentence.as_bytes());
        finish(out)
    }

    /// Splits a reply off what has been received; `None` when more bytes are needed.
    ///
    /// # Errors
    /// What is wrong with the bytes, as soon as it can be told.
    pub fn decode(bytes: &mut BytesMut) -> Result<Option<Reply>, RecordError> {
        let Some(mut fields) = split_record(bytes, REPLY_BYTES)? else {
            return Ok(None);
        };
        let code = fields.get_u8();
        fields.advance(1);
        let version = fields.get_u16_le();
        let (oldest, newest) = (fields.get_u16_le(), fields.get_u16_le());
        let cluster = fields.get_u64_le();
        let member = NodeId(fields.get_u64_le());
        let (incarnation, process) = (fields.get_u64_le(), fields.get_u64_le());
        let length = usize::from(fields.get_u16_le());
        let level = fields.get_u16_le();
        fields.advance(2);
        if fields.len() < length {
            return Err(RecordError::Sentence);
        }
        let sentence = clean(&fields[..length]);
        Ok(Some(Reply {
            code,
            version,
            oldest,
            newest,
            cluster,
            member,
            incarnation,
            process,
            level,
            sentence,
        }))
    }
}

/// The magic and the length, which are filled in by [`finish`].
fn start(capacity: usize) -> BytesMut {
    start_with(MAGIC, capacity)
}

/// As [`start`], with another magic.
pub(crate) fn start_with(magic: [u8; 8], capacity: usize) -> BytesMut {
    let mut out = BytesMut::with_capacity(capacity);
    out.put_slice(&magic);
    out.put_u16_le(0);
    out
}

pub(crate) fn finish(mut out: BytesMut) -> Bytes {
    let length = u16::try_from(out.len() + 4).expect("records are bounded");
    out[8..10].copy_from_slice(&length.to_le_bytes());
    let crc = crc32c::crc32c(&out);
    out.put_u32_le(crc);
    out.freeze()
}

/// Splits a record of at least `bytes_min` off `bytes` and gives what lies between its length and
/// its checksum.
fn split_record(bytes: &mut BytesMut, bytes_min: usize) -> Result<Option<Bytes>, RecordError> {
    split_record_of(MAGIC, bytes, bytes_min)
}

/// As [`split_record`], with another magic.
pub(crate) fn split_record_of(
    wanted: [u8; 8],
    bytes: &mut BytesMut,
    bytes_min: usize,
) -> Result<Option<Bytes>, RecordError> {
    let magic = bytes.len().min(MAGIC.len());
    if bytes[..magic] != wanted[..magic] {
        return Err(RecordError::Magic);
    }
    if bytes.len() < MAGIC.len() + 2 {
        return Ok(None);
    }
    let length = u16::from_le_bytes([bytes[8], bytes[9]]);
    if usize::from(length) < bytes_min || RECORD_BYTES_MAX < usize::from(length) {
        return Err(RecordError::Length(length));
    }
    if bytes.len() < usize::from(length) {
        return Ok(None);
    }
    let mut record = bytes.split_to(usize::from(length)).freeze();
    let crc = record.split_off(record.len() - 4);
    if crc32c::crc32c(&record).to_le_bytes() != crc[..] {
        return Err(RecordError::Checksum);
    }
    record.advance(MAGIC.len() + 2);
    Ok(Some(record))
}

/// At most [`SENTENCE_BYTES_MAX`] bytes of a sentence, cut between characters.
fn cut(sentence: &str) -> &str {
    let end = (0..=sentence.len().min(SENTENCE_BYTES_MAX))
        .rev()
        .find(|end| sentence.is_char_boundary(*end))
        .expect("0 is a boundary");
    &sentence[..end]
}

/// A foreign sentence, fit for a log: no line of it can pass for another entry.
fn clean(sentence: &[u8]) -> String {
    let sentence = String::from_utf8_lossy(&sentence[..sentence.len().min(SENTENCE_BYTES_MAX)]);
    sentence.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
