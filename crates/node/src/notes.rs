//! What a member keeps in its own log beside the entries, for itself alone: whom it has met, and that
//! it is quarantined.
//!
//! | bytes | of notes of version 2 |
//! |---|---|
//! | 0..2 | version: 2 |
//! | 2..26 | the quarantine: the index where the states differ, this member's hash there, the majority's |
//! | 26.. | the acquaintances, as notes of version 1 |
//!
//! Notes of a member that is not quarantined are its acquaintances alone, which are version 1.

use bytes::{BufMut, Bytes, BytesMut};
use jangada_raft::Index;

use crate::member::Quarantine;
use crate::record::{Acquaintances, NotesError};

/// The version of notes that hold a quarantine.
const QUARANTINED: u16 = 2;

/// The bytes of the version and the quarantine.
const QUARANTINE_BYTES: usize = 2 + 24;

/// A member's notes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Notes {
    /// Whom it has met.
    pub acquaintances: Acquaintances,
    /// Why it serves nobody until its state is another member's: a restart does not make it right.
    pub quarantine: Option<Quarantine>,
}

impl Notes {
    /// The notes' bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let met = self.acquaintances.encode();
        let Some(Quarantine { index, own, others }) = self.quarantine else { return met };
        let mut bytes = BytesMut::with_capacity(QUARANTINE_BYTES + met.len());
        bytes.put_u16_le(QUARANTINED);
        bytes.put_u64_le(index.0);
        bytes.put_u64_le(own);
        bytes.put_u64_le(others);
        bytes.extend_from_slice(&met);
        bytes.freeze()
    }

    /// Reads the notes back; no bytes at all are no notes.
    ///
    /// # Errors
    /// If the bytes are not notes of a known version.
    pub fn decode(bytes: &[u8]) -> Result<Notes, NotesError> {
        if !bytes.starts_with(&QUARANTINED.to_le_bytes()) {
            let acquaintances = Acquaintances::decode(bytes)?;
            return Ok(Notes { acquaintances, quarantine: None });
        }
        let split = bytes.split_at_checked(QUARANTINE_BYTES);
        let (head, met) = split.ok_or(NotesError::Length(bytes.len()))?;
        // It is said even when nobody was met: then it is empty, and not missing.
        if met.is_empty() {
            return Err(NotesError::Length(bytes.len()));
        }
        let word = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("8 bytes"));
        let quarantine = Quarantine { index: Index(word(2)), own: word(10), others: word(18) };
        Ok(Notes { acquaintances: Acquaintances::decode(met)?, quarantine: Some(quarantine) })
    }
}

#[cfg(test)]
mod tests {
    use jangada_raft::NodeId;

    use super::*;

    #[test]
    fn notes_come_back_as_they_were() {
        let mut notes = Notes::default();
        assert_eq!(Notes::decode(&[]), Ok(notes.clone()));
        for _ in 0..2 {
            assert_eq!(Notes::decode(&notes.encode()), Ok(notes.clone()));
            notes.acquaintances.meet(NodeId(7), 99);
            assert_eq!(Notes::decode(&notes.encode()), Ok(notes.clone()));
            notes = Notes::default();
            notes.quarantine = Some(Quarantine { index: Index(5), own: 6, others: u64::MAX });
        }
    }

    #[test]
    fn every_part_of_notes_that_are_cut_short_is_refused() {
        let quarantine = Some(Quarantine { index: Index(5), own: 6, others: 7 });
        let mut notes = Notes { quarantine, ..Notes::default() };
        notes.acquaintances.meet(NodeId(7), 99);
        let bytes = notes.encode();
        let whole = [QUARANTINE_BYTES + 2, bytes.len()];
        for length in (1..=bytes.len()).filter(|length| !whole.contains(length)) {
            assert!(Notes::decode(&bytes[..length]).is_err(), "{length} of {}", bytes.len());
        }
    }
}
