//! Entry points for fuzzing: what has no way in from outside, and what must hold of it. Not part of
//! the crate's interface; only built for the package `jangada-fuzz`.

use bytes::{Bytes, BytesMut};

use crate::command::{Command, DecodeError, decode_member, member_body, view_put};
use crate::row::{Revision, RowKey, RowView, decode_message, unseal};

/// Reads a command by each of the ways that there are.
///
/// # Panics
/// If they disagree, or the command would not be encoded as it stands.
///
/// # Errors
/// The bytes are not a command.
pub fn check_command(payload: &Bytes, version: u16) -> Result<Command, DecodeError> {
    let shared = Command::decode(payload, version);
    let copied = Command::decode_copied(payload, version);
    assert_eq!(shared, copied, "both ways read the same");
    let view = view_put(payload, version);
    let command = match shared {
        Ok(command) => command,
        Err(error) => {
            assert!(!matches!(view, Ok(Some(_))), "what is no command is no put");
            return Err(error);
        }
    };
    let mut again = BytesMut::new();
    command.encode_into(&mut again);
    assert_eq!(again, payload, "a command has one encoding");
    match (&command, view) {
        (Command::Put(put), Ok(Some(view))) => {
            assert_eq!(
                (view.key, view.value, view.lease),
                (&put.key[..], &put.value[..], put.lease)
            );
            assert_eq!(
                (view.prev_kv, view.ignore_value, view.ignore_lease),
                (put.prev_kv, put.ignore_value, put.ignore_lease)
            );
        }
        (Command::Put(_), view) => panic!("a put is read in place: {view:?}"),
        (_, view) => assert_eq!(view, Ok(None), "what is no put is not read as one"),
    }
    Ok(command)
}

/// Reads a row's key. Answers whether it is one.
///
/// # Panics
/// If it would not be encoded as it stands.
#[must_use]
pub fn check_row_key(bytes: &[u8]) -> bool {
    let Ok((revision, tombstone)) = RowKey::decode(bytes) else { return false };
    let key = RowKey::new(revision, tombstone);
    assert_eq!(key.as_bytes(), bytes, "a row's key has one encoding");
    assert!(0 <= revision.main, "revisions count up");
    true
}

/// Reads a row's value as it is and, the second time, as a message whose checksum is made good.
/// Answers whether the message is one.
///
/// # Panics
/// If what is read would not be read alike once it is written again.
#[must_use]
pub fn check_row(row_key: &[u8], value: &[u8]) -> bool {
    if let Ok(message) = unseal(row_key, value) {
        assert!(message.len() + crate::row::ROW_CRC_BYTES == value.len());
    }
    let Ok(row) = decode_message(value) else { return false };
    let mut again = Vec::new();
    row.encode(&mut again);
    assert_eq!(again.len(), row.encoded_bytes(), "a row is as long as was measured");
    assert_eq!(decode_message(&again), Ok(row), "a row comes back");
    if let Ok((revision, tombstone)) = RowKey::decode(row_key) {
        let key = RowKey::new(revision, tombstone);
        let mut sealed = Vec::new();
        row.encode_sealed(&key, &mut sealed);
        assert_eq!(unseal(row_key, &sealed), Ok(&again[..]), "a sealed row comes back");
        let last = sealed.len() - 1;
        sealed[last / 2] ^= 1;
        assert!(unseal(row_key, &sealed).is_err(), "a flipped bit is noticed");
    }
    true
}

/// Reads the row of a published member. Answers whether it is one.
///
/// # Panics
/// If it would not be encoded as it stands.
#[must_use]
pub fn check_member(bytes: &[u8]) -> bool {
    let Ok(member) = decode_member(bytes) else { return false };
    let mut again = BytesMut::new();
    member_body(&mut again, &member);
    assert_eq!(again, bytes, "a member's row has one encoding");
    true
}

/// A row: its key, and its message.
#[must_use]
pub fn row(main: i64, sub: u32, key: &[u8], value: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let row_key = RowKey::new(Revision { main, sub }, value.is_empty());
    let mut message = Vec::new();
    RowView { key, create: 1, main, version: 3, value, lease: -1 }.encode(&mut message);
    (row_key.as_bytes().to_vec(), message)
}
