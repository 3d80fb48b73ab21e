//! The state machine that every library replicates: a map.

use std::collections::HashMap;

/// A command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Put {
    /// What to set.
    pub key: [u8; 16],
    /// To what.
    pub value: [u8; 16],
}

/// A put as bytes: key, then value.
pub const PUT_BYTES: usize = 32;

impl Put {
    /// As bytes, for libraries that replicate bytes.
    pub fn encode(&self) -> [u8; PUT_BYTES] {
        let mut bytes = [0; PUT_BYTES];
        bytes[..16].copy_from_slice(&self.key);
        bytes[16..].copy_from_slice(&self.value);
        bytes
    }

    /// Reads what [`Put::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Put {
        let (key, value) = bytes.split_at(16);
        Put {
            key: key.try_into().expect("a key of 16 bytes"),
            value: value.try_into().expect("a value of 16 bytes"),
        }
    }
}

/// What a client puts: 16 keys for each, one after the other.
pub fn put_of(client: usize, number: u64) -> Put {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&(client as u64).to_be_bytes());
    key[8..].copy_from_slice(&(number % 16).to_be_bytes());
    let mut value = [0; 16];
    value[..8].copy_from_slice(&number.to_be_bytes());
    Put { key, value }
}

/// The state.
#[derive(Default, Debug)]
pub struct Store {
    values: HashMap<[u8; 16], [u8; 16]>,
    revision: u64,
}

impl Store {
    /// Applies a command; the answer is its revision.
    pub fn apply(&mut self, put: Put) -> u64 {
        self.values.insert(put.key, put.value);
        self.revision += 1;
        self.revision
    }
}
