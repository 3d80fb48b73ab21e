//! The commands about leases and their bytes (`docs/store-format.md`).

use bytes::{BufMut, Bytes, BytesMut};

use super::LeaseName;
use crate::command::{DecodeError, Reader, signed, unsigned};

/// A change to the leases.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LeaseCommand {
    /// A client is granted a lease.
    Grant {
        /// Its id, chosen by the client or by the member asked; not 0.
        id: i64,
        /// For how many seconds.
        ttl: i64,
    },
    /// A client ends a lease.
    Revoke {
        /// Its id.
        id: i64,
    },
    /// Leases are over. From the lessor, for its own term alone.
    Expire {
        /// The term in which the lessor leads.
        term: u64,
        /// Which.
        leases: Vec<LeaseName>,
    },
    /// So many seconds remain. From the lessor, for its own term alone.
    Checkpoint {
        /// The term in which the lessor leads.
        term: u64,
        /// The leases and their seconds.
        leases: Vec<(LeaseName, i64)>,
    },
}

const TAG_GRANT: u8 = 16;
const TAG_REVOKE: u8 = 17;
const TAG_EXPIRE: u8 = 18;
const TAG_CHECKPOINT: u8 = 19;

/// The tags of these commands.
pub(crate) const LEASE_TAGS: std::ops::RangeInclusive<u8> = TAG_GRANT..=TAG_CHECKPOINT;

/// Appends a command's bytes.
pub(crate) fn encode_lease(buffer: &mut BytesMut, command: &LeaseCommand) {
    match command {
        LeaseCommand::Grant { id, ttl } => {
            buffer.put_u8(TAG_GRANT);
            signed(buffer, *id);
            signed(buffer, *ttl);
        }
        LeaseCommand::Revoke { id } => {
            buffer.put_u8(TAG_REVOKE);
            signed(buffer, *id);
        }
        LeaseCommand::Expire { term, leases } => {
            buffer.put_u8(TAG_EXPIRE);
            unsigned(buffer, *term);
            unsigned(buffer, leases.len() as u64);
            leases.iter().for_each(|name| put_name(buffer, *name));
        }
        LeaseCommand::Checkpoint { term, leases } => {
            buffer.put_u8(TAG_CHECKPOINT);
            unsigned(buffer, *term);
            unsigned(buffer, leases.len() as u64);
            for (name, remaining) in leases {
                put_name(buffer, *name);
                signed(buffer, *remaining);
            }
        }
    }
}

fn put_name(buffer: &mut BytesMut, name: LeaseName) {
    signed(buffer, name.id);
    unsigned(buffer, name.granted);
}

/// Reads a command behind its tag.
pub(crate) fn decode_lease<'a, F: Fn(&'a [u8]) -> Bytes>(
    tag: u8,
    reader: &mut Reader<'a, F>,
) -> Result<LeaseCommand, DecodeError> {
    Ok(match tag {
        TAG_GRANT => LeaseCommand::Grant { id: reader.signed()?, ttl: reader.signed()? },
        TAG_REVOKE => LeaseCommand::Revoke { id: reader.signed()? },
        TAG_EXPIRE => {
            let (term, count) = (reader.unsigned()?, reader.count()?);
            let mut leases = Vec::new();
            for _ in 0..count {
                leases.push(name(reader)?);
            }
            LeaseCommand::Expire { term, leases }
        }
        TAG_CHECKPOINT => {
            let (term, count) = (reader.unsigned()?, reader.count()?);
            let mut leases = Vec::new();
            for _ in 0..count {
                leases.push((name(reader)?, reader.signed()?));
            }
            LeaseCommand::Checkpoint { term, leases }
        }
        other => return Err(DecodeError::Tag(other)),
    })
}

fn name<'a, F: Fn(&'a [u8]) -> Bytes>(
    reader: &mut Reader<'a, F>,
) -> Result<LeaseName, DecodeError> {
    Ok(LeaseName { id: reader.signed()?, granted: reader.unsigned()? })
}
