//! Who am I? A new server that knows nothing but addresses, its own and those of some members, asks a
//! member over the peer port, before any handshake, and learns its cluster, its id and its peers.
//!
//! Responsible for: the two records, and asking ([`inquire`]). Nothing secret is told, and nobody
//! counts who asks. Not responsible for: adding the new server to the cluster, which comes first.

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use jangada_raft::NodeId;

use crate::handshake::{
    RECORD_BYTES_MAX, RecordError, addresses_in, finish, put_addresses, split_record_of, start_with,
};
use crate::security::{Secured, Security, host_of, is_secured, not_secured};

/// The first bytes of an inquiry.
const MAGIC: [u8; 8] = *b"jangada?";

/// The first bytes of a roster.
const ROSTER_MAGIC: [u8; 8] = *b"jangada!";

/// The size of an inquiry without addresses: magic, length, checksum.
const INQUIRY_BYTES: usize = 14;

/// The largest roster that is read: 256 members, each with a few addresses of common length.
const ROSTER_BYTES_MAX: usize = 256 << 10;

/// The bytes of a roster before its members: magic, length, cluster, version, member found, count.
const ROSTER_BYTES: usize = 8 + 4 + 8 + 2 + 9 + 2;

/// How long one member may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// The pause before all addresses are asked again.
const PAUSE: Duration = Duration::from_millis(200);

/// Who the members of a cluster are.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Roster {
    /// The cluster.
    pub cluster: u64,
    /// The cluster's version: a program that does not speak it cannot join.
    pub version: u16,
    /// The member whose addresses the asker has given as its own, if there is one.
    pub member: Option<NodeId>,
    /// All members, in the order of their ids.
    pub members: Vec<RosterMember>,
}

/// One member of a cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RosterMember {
    /// The member.
    pub id: NodeId,
    /// Whether it votes.
    pub is_voter: bool,
    /// Where it is found.
    pub addresses: Vec<String>,
}

/// Why a new server could not find out who it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum InquireError {
    /// No member could be reached, or none answered with a roster.
    Unreachable {
        /// The addresses tried, and the last one's failure.
        tried: String,
    },
    /// Members answered, and none of them has a member at these addresses.
    Unknown {
        /// The asker's own addresses.
        own: String,
        /// The members there are.
        members: String,
    },
}

impl std::fmt::Display for InquireError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            InquireError::Unreachable { tried } => write!(
                f,
                "no member of the cluster could be asked ({tried}); check the addresses of the \
                 members and that they run"
            ),
            InquireError::Unknown { own, members } => write!(
                f,
                "the cluster has no member at {own}; its members are {members}; add this server \
                 first (jangada member add) with exactly the addresses that it advertises"
            ),
        }
    }
}

impl std::error::Error for InquireError {}

/// The part of an address that is dialled: `host:port`, whatever scheme stands before it.
#[must_use]
pub fn host_port(address: &str) -> &str {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

/// Whether what was received begins like an inquiry rather than a handshake.
pub(crate) fn is_begun(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

/// The bytes of an inquiry of whoever is found at `own`.
fn encode(own: &[String]) -> Bytes {
    let addresses = put_addresses(own);
    let mut out = start_with(MAGIC, INQUIRY_BYTES + addresses.len());
    out.put_slice(&addresses);
    finish(out)
}

/// Reads an inquiry: where the asker is found. `None` when more bytes are needed.
pub(crate) fn decode(bytes: &mut BytesMut) -> Result<Option<Vec<String>>, RecordError> {
    let Some(record) = split_record_of(MAGIC, bytes, INQUIRY_BYTES)? else { return Ok(None) };
    addresses_in(&record).map(Some).ok_or(RecordError::Addresses)
}

impl Roster {
    /// The same roster for whoever is found at `own`.
    #[must_use]
    pub fn for_asker(&self, own: &[String]) -> Roster {
        let is_own = |address: &String| own.iter().any(|o| host_port(o) == host_port(address));
        let found = self.members.iter().find(|member| member.addresses.iter().any(is_own));
        Roster { member: found.map(|member| member.id), ..self.clone() }
    }

    /// The roster's bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(1024);
        out.put_slice(&ROSTER_MAGIC);
        out.put_u32_le(0);
        out.put_u64_le(self.cluster);
        out.put_u16_le(self.version);
        out.put_u8(u8::from(self.member.is_some()));
        out.put_u64_le(self.member.map_or(0, |member| member.0));
        out.put_u16_le(u16::try_from(self.members.len()).expect("clusters are small"));
        for RosterMember { id, is_voter, addresses } in &self.members {
            let addresses = put_addresses(addresses);
            out.put_u64_le(id.0);
            out.put_u8(u8::from(*is_voter));
            out.put_u16_le(u16::try_from(addresses.len()).expect("bounded"));
            out.put_slice(&addresses);
        }
        let length = u32::try_from(out.len() + 4).expect("clusters are small");
        out[8..12].copy_from_slice(&length.to_le_bytes());
        let crc = crc32c::crc32c(&out);
        out.put_u32_le(crc);
        out.freeze()
    }

    /// Reads a whole roster; `None` when it is none, or more bytes are needed.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Roster> {
        let length = roster_length(bytes)?;
        let record = bytes.get(..length)?;
        let (record, crc) = record.split_at_checked(length.checked_sub(4)?)?;
        if crc32c::crc32c(record).to_le_bytes() != crc {
            return None;
        }
        let mut fields = record.get(MAGIC.len() + 4..)?;
        let cluster = fields.try_get_u64_le().ok()?;
        let version = fields.try_get_u16_le().ok()?;
        let found = fields.try_get_u8().ok()?;
        let member = NodeId(fields.try_get_u64_le().ok()?);
        let count = fields.try_get_u16_le().ok()?;
        let mut members = Vec::new();
        for _ in 0..count {
            let id = NodeId(fields.try_get_u64_le().ok()?);
            let is_voter = fields.try_get_u8().ok()? == 1;
            let length = usize::from(fields.try_get_u16_le().ok()?);
            let (addresses, rest) = fields.split_at_checked(length)?;
            members.push(RosterMember { id, is_voter, addresses: addresses_in(addresses)? });
            fields = rest;
        }
        let member = (found == 1).then_some(member);
        fields.is_empty().then_some(Roster { cluster, version, member, members })
    }
}

/// The length that a roster announces; `None` when it is none.
fn roster_length(bytes: &[u8]) -> Option<usize> {
    let rest = bytes.strip_prefix(&ROSTER_MAGIC)?;
    let length = u32::from_le_bytes(*rest.first_chunk::<4>()?) as usize;
    (ROSTER_BYTES..=ROSTER_BYTES_MAX).contains(&length).then_some(length)
}

/// Asks the members at `addresses`, in turn and again until `timeout`, who the member found at
/// `own_addresses` is. Blocks the calling thread. An address is `host:port`, with a scheme or without;
/// those that begin with `https://` are asked over TLS by `security`.
///
/// # Errors
/// If nobody could be asked, or nobody knows a member at these addresses.
pub fn inquire(
    addresses: &[String],
    own_addresses: &[String],
    security: Option<&dyn Security>,
    timeout: Duration,
) -> Result<Roster, InquireError> {
    let until = Instant::now() + timeout;
    let mut known = None;
    let mut failure = "no address was given".to_owned();
    loop {
        for address in addresses {
            let left = until.saturating_duration_since(Instant::now()).min(ANSWER_TIMEOUT);
            match ask(address, own_addresses, security, left) {
                Ok(roster) if roster.member.is_some() => return Ok(roster),
                // One that lags behind may not have heard of the new member yet.
                Ok(roster) => known = Some(roster),
                Err(error) => failure = format!("{address}: {error}"),
            }
        }
        if addresses.is_empty() || until <= Instant::now() + PAUSE {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    Err(match known {
        Some(roster) => InquireError::Unknown {
            own: own_addresses.join(", "),
            members: roster
                .members
                .iter()
                .map(|member| format!("{} at {}", member.id, member.addresses.join(" and ")))
                .collect::<Vec<_>>()
                .join(", "),
        },
        None => InquireError::Unreachable { tried: failure },
    })
}

/// How long the member at `address` takes to answer, once it is connected to: the way there and back,
/// and what the member needs to look up who its peers are. Blocks the calling thread.
///
/// # Errors
/// If it cannot be reached, or does not answer as a member does.
pub fn round_trip(
    address: &str,
    security: Option<&dyn Security>,
    timeout: Duration,
) -> std::io::Result<Duration> {
    let mut stream = open(address, security, timeout)?;
    let begin = Instant::now();
    converse(&mut *stream, &[]).map(|_| begin.elapsed())
}

fn ask(
    address: &str,
    own: &[String],
    security: Option<&dyn Security>,
    timeout: Duration,
) -> std::io::Result<Roster> {
    converse(&mut *open(address, security, timeout)?, own)
}

/// A connection, in plain text or secured.
trait Conversation: Read + Write {}

impl<T: Read + Write> Conversation for T {}

/// Connects, and shakes hands if the connection is to be secured.
fn open(
    address: &str,
    security: Option<&dyn Security>,
    timeout: Duration,
) -> std::io::Result<Box<dyn Conversation>> {
    let secured = match (security, is_secured(address)) {
        (_, false) => None,
        (Some(security), true) => Some(security.dial(host_of(address))?),
        (None, true) => return Err(not_secured(address)),
    };
    let timeout = timeout.max(Duration::from_millis(1));
    let mut stream = Err(std::io::ErrorKind::AddrNotAvailable.into());
    for socket in host_port(address).to_socket_addrs()? {
        stream = TcpStream::connect_timeout(&socket, timeout);
        if stream.is_ok() {
            break;
        }
    }
    let stream = stream?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    match secured {
        None => Ok(Box::new(stream)),
        Some(secured) => {
            let mut stream = Blocking { stream, secured };
            stream.shake_hands()?;
            Ok(Box::new(stream))
        }
    }
}

/// Puts the question and reads the answer.
fn converse(stream: &mut dyn Conversation, own: &[String]) -> std::io::Result<Roster> {
    stream.write_all(&encode(own))?;
    stream.flush()?;
    let mut bytes = Vec::new();
    let mut part = [0; RECORD_BYTES_MAX];
    loop {
        if let Some(roster) = Roster::decode(&bytes) {
            return Ok(roster);
        }
        let count = stream.read(&mut part)?;
        if count == 0 || ROSTER_BYTES_MAX < bytes.len() + count {
            return Err(std::io::Error::other("it does not answer as a member does"));
        }
        bytes.extend_from_slice(&part[..count]);
    }
}

/// A secured connection on a socket that waits.
struct Blocking {
    stream: TcpStream,
    secured: Box<dyn Secured>,
}

impl Blocking {
    fn shake_hands(&mut self) -> std::io::Result<()> {
        self.flush()?;
        while self.secured.is_handshaking() {
            if self.secured.read_secured(&mut self.stream)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.flush()?;
        }
        Ok(())
    }
}

impl Read for Blocking {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        loop {
            self.flush()?;
            match self.secured.read(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                outcome => return outcome,
            }
            if self.secured.read_secured(&mut self.stream)? == 0 {
                return Ok(0);
            }
        }
    }
}

impl Write for Blocking {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.secured.write(&[IoSlice::new(bytes)])
    }

    fn flush(&mut self) -> std::io::Result<()> {
        while self.secured.wants_write() {
            self.secured.write_secured(&mut self.stream)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roster() -> Roster {
        let member = |id, address: &str| RosterMember {
            id: NodeId(id),
            is_voter: id < 3,
            addresses: vec![address.to_owned()],
        };
        let members = vec![member(1, "http://a:2380"), member(2, "b:2380"), member(3, "c:1")];
        Roster { cluster: 7, version: 1, member: None, members }
    }

    #[test]
    fn a_roster_comes_back_and_damage_is_seen() {
        let bytes = roster().encode();
        assert_eq!(Roster::decode(&bytes), Some(roster()));
        for at in 0..bytes.len() {
            assert_eq!(Roster::decode(&bytes[..at]), None, "cut at {at}");
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1;
            assert_eq!(Roster::decode(&damaged), None, "damaged at {at}");
        }
    }

    #[test]
    fn the_asker_is_found_whatever_scheme_its_address_has() {
        let at = |own: &str| roster().for_asker(&[own.to_owned()]).member;
        assert_eq!(at("a:2380"), Some(NodeId(1)));
        assert_eq!(at("http://b:2380/"), Some(NodeId(2)));
        assert_eq!(at("c:2"), None);
    }

    #[test]
    fn an_inquiry_comes_back() {
        let own = vec!["http://a:2380".to_owned(), "b:1".to_owned()];
        let mut bytes = BytesMut::from(&encode(&own)[..]);
        assert!(is_begun(&bytes));
        assert_eq!(decode(&mut bytes), Ok(Some(own)));
        assert!(bytes.is_empty());
    }
}
