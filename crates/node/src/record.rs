//! The node's own notes: what it stores with the state machine, and what it stores in its log.
//!
//! The *record* goes with every applied batch into the state machine's own transaction, unread, and
//! comes back at start: which entry was applied last, the cluster's time as of it, and the running
//! hash over everything applied. The *acquaintances* are notes of this member alone, kept in its
//! log: under which incarnation it first met each peer.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use jangada_raft::{Index, NodeId, Position, Term};

/// The version of both encodings.
const VERSION: u16 = 1;

/// What the node remembers of everything applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Record {
    /// The last applied entry.
    pub applied: Position,
    /// The cluster's time of that entry, in milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// The running hash: chains index, term and the digest of the effects of every entry.
    pub hash: u64,
}

/// Why stored notes cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotesError {
    /// They are of a version that this program does not know.
    Version(u16),
    /// They are cut short or too long.
    Length(usize),
    /// They name a peer twice, or peers out of order.
    Order,
}

impl std::fmt::Display for NotesError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NotesError::Version(version) => write!(
                f,
                "the node's notes are of version {version}, which this program does not know; \
                 start a version of the program that is at least as new as the one that wrote them"
            ),
            NotesError::Length(length) => {
                write!(f, "the node's notes have an impossible length of {length} bytes")
            }
            NotesError::Order => {
                write!(f, "the node's notes name a peer twice, or peers out of order")
            }
        }
    }
}

impl std::error::Error for NotesError {}

/// A 64-bit mix of two words: the halves of their product after whitening. Every bit of the result
/// depends on every bit of both.
pub(crate) fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ 0x9e37_79b9_7f4a_7c15) * u128::from(b ^ 0xd1b5_4a32_d192_ed03 | 1);
    (product as u64) ^ ((product >> 64) as u64)
}

impl Record {
    /// Takes one applied entry into account.
    pub fn chain(&mut self, position: Position, time_ms: u64, digest: u64) {
        assert!(position.index == self.applied.index.next(), "entries are applied in order");
        self.applied = position;
        self.time_ms = time_ms;
        let name = mix(position.index.0, position.term.0.rotate_left(32));
        self.hash = mix(mix(self.hash, name), digest);
    }

    /// The record's bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(34);
        bytes.put_u16_le(VERSION);
        bytes.put_u64_le(self.applied.index.0);
        bytes.put_u64_le(self.applied.term.0);
        bytes.put_u64_le(self.time_ms);
        bytes.put_u64_le(self.hash);
        bytes.freeze()
    }

    /// Reads a record back.
    ///
    /// # Errors
    /// If the bytes are not a record of a known version.
    pub fn decode(bytes: &[u8]) -> Result<Record, NotesError> {
        let body = body_of(bytes)?;
        if body.len() != 32 {
            return Err(NotesError::Length(bytes.len()));
        }
        Ok(Record {
            applied: Position { index: Index(word(body, 0)), term: Term(word(body, 1)) },
            time_ms: word(body, 2),
            hash: word(body, 3),
        })
    }
}

fn body_of(bytes: &[u8]) -> Result<&[u8], NotesError> {
    let (version, body) = bytes.split_first_chunk::<2>().ok_or(NotesError::Length(bytes.len()))?;
    match u16::from_le_bytes(*version) {
        VERSION => Ok(body),
        other => Err(NotesError::Version(other)),
    }
}

fn word(body: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(body[at * 8..at * 8 + 8].try_into().expect("eight bytes"))
}

/// Under which incarnation this member first met each peer. A server that lost its disk comes back
/// under the same id with another incarnation; its votes and acknowledgements of old are gone, so it
/// must not be counted as the one that gave them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Acquaintances {
    met: BTreeMap<NodeId, u64>,
}

impl Acquaintances {
    /// The incarnation under which `peer` was met.
    #[must_use]
    pub fn of(&self, peer: NodeId) -> Option<u64> {
        self.met.get(&peer).copied()
    }

    /// Notes a peer met for the first time.
    ///
    /// # Panics
    /// If it was met before under another incarnation.
    pub fn meet(&mut self, peer: NodeId, incarnation: u64) {
        let before = self.met.insert(peer, incarnation);
        assert!(before.is_none_or(|met| met == incarnation), "a peer keeps its incarnation");
    }

    /// Every peer met, with its incarnation, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, u64)> + '_ {
        self.met.iter().map(|(peer, incarnation)| (*peer, *incarnation))
    }

    /// The notes' bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(2 + self.met.len() * 16);
        bytes.put_u16_le(VERSION);
        for (peer, incarnation) in &self.met {
            bytes.put_u64_le(peer.0);
            bytes.put_u64_le(*incarnation);
        }
        bytes.freeze()
    }

    /// Reads the notes back; no bytes at all are no acquaintances.
    ///
    /// # Errors
    /// If the bytes are not notes of a known version.
    pub fn decode(bytes: &[u8]) -> Result<Acquaintances, NotesError> {
        if bytes.is_empty() {
            return Ok(Acquaintances::default());
        }
        let body = body_of(bytes)?;
        if body.len() % 16 != 0 {
            return Err(NotesError::Length(bytes.len()));
        }
        let mut met = BTreeMap::new();
        for at in 0..body.len() / 16 {
            let (peer, incarnation) = (NodeId(word(body, at * 2)), word(body, at * 2 + 1));
            // Of a peer that stands there twice nobody knows which incarnation is the true one.
            if met.last_key_value().is_some_and(|(before, _)| peer <= *before) {
                return Err(NotesError::Order);
            }
            met.insert(peer, incarnation);
        }
        Ok(Acquaintances { met })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_come_back_as_they_were() {
        let mut record = Record::default();
        record.chain(Position { index: Index(1), term: Term(3) }, 1000, 42);
        assert_eq!(Record::decode(&record.encode()), Ok(record));
        let mut met = Acquaintances::default();
        met.meet(NodeId(7), 99);
        met.meet(NodeId(2), 98);
        assert_eq!(Acquaintances::decode(&met.encode()), Ok(met));
        assert_eq!(Acquaintances::decode(&[]), Ok(Acquaintances::default()));
    }

    #[test]
    fn unknown_versions_and_lengths_are_told() {
        assert_eq!(Record::decode(&[9, 0]), Err(NotesError::Version(9)));
        assert_eq!(Record::decode(&[1]), Err(NotesError::Length(1)));
        assert_eq!(Record::decode(&[1, 0, 5]), Err(NotesError::Length(3)));
        assert_eq!(Acquaintances::decode(&[1, 0, 5]), Err(NotesError::Length(3)));
    }

    /// Found while its fuzz target was written: the second note of a peer took the place of the first.
    #[test]
    fn a_peer_that_is_noted_twice_is_refused() {
        let mut met = Acquaintances::default();
        met.meet(NodeId(7), 99);
        let once = met.encode();
        let twice = [&once[..], &once[2..10], &98_u64.to_le_bytes()].concat();
        assert_eq!(Acquaintances::decode(&twice), Err(NotesError::Order));
    }

    #[test]
    fn the_hash_tells_order_term_and_effects_apart() {
        let run = |entries: &[(u64, u64)]| {
            let mut record = Record::default();
            for (at, (term, digest)) in entries.iter().enumerate() {
                let index = Index(at as u64 + 1);
                record.chain(Position { index, term: Term(*term) }, 0, *digest);
            }
            record.hash
        };
        let base = run(&[(1, 5), (1, 6), (2, 7)]);
        assert_ne!(base, run(&[(1, 6), (1, 5), (2, 7)]));
        assert_ne!(base, run(&[(1, 5), (2, 6), (2, 7)]));
        assert_ne!(base, run(&[(1, 5), (1, 6), (2, 8)]));
        assert_ne!(base, run(&[(1, 0), (1, 6), (2, 7)]));
    }
}
