//! What stands in a command that goes through sessions: whose it is, and under which number.

use bytes::{BufMut, BytesMut};
use jangada_entry::Draft;

/// Names a session: the index of the entry that opened it, so that no two are named alike.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionId(pub u64);

impl std::fmt::Display for SessionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A command for a machine within [`Sessions`](crate::Sessions). Each is a first byte that tells them
/// apart, then little-endian words, then what is the machine's own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SessionCommand<'a> {
    /// For the machine, without a session: applied as often as it stands in the log.
    Plain(&'a [u8]),
    /// Opens a session.
    Open,
    /// For the machine, at most once for each session and serial number.
    Propose {
        /// Whose it is.
        session: SessionId,
        /// Numbers the session's commands, from 1.
        serial: u64,
        /// The client has the answers to all of its commands up to this number.
        answered_up_to: u64,
        /// The machine's command.
        command: &'a [u8],
    },
    /// The session is in use.
    KeepAlive(SessionId),
    /// The session is no longer needed.
    Close(SessionId),
}

const PLAIN: u8 = 0;
const OPEN: u8 = 1;
const PROPOSE: u8 = 2;
const KEEP_ALIVE: u8 = 3;
const CLOSE: u8 = 4;

impl<'a> SessionCommand<'a> {
    /// The command's bytes, with room before them for a frame's header.
    #[must_use]
    pub fn encode(&self) -> BytesMut {
        let payload_bytes = match self {
            SessionCommand::Plain(command) => 1 + command.len(),
            SessionCommand::Open => 1,
            SessionCommand::Propose { command, .. } => 25 + command.len(),
            SessionCommand::KeepAlive(_) | SessionCommand::Close(_) => 9,
        };
        let mut buffer = Draft::buffer(payload_bytes);
        match self {
            SessionCommand::Plain(command) => {
                buffer.put_u8(PLAIN);
                buffer.extend_from_slice(command);
            }
            SessionCommand::Open => buffer.put_u8(OPEN),
            SessionCommand::Propose { session, serial, answered_up_to, command } => {
                buffer.put_u8(PROPOSE);
                buffer.put_u64_le(session.0);
                buffer.put_u64_le(*serial);
                buffer.put_u64_le(*answered_up_to);
                buffer.extend_from_slice(command);
            }
            SessionCommand::KeepAlive(session) => {
                buffer.put_u8(KEEP_ALIVE);
                buffer.put_u64_le(session.0);
            }
            SessionCommand::Close(session) => {
                buffer.put_u8(CLOSE);
                buffer.put_u64_le(session.0);
            }
        }
        buffer
    }

    /// Reads a command; `None` if the bytes are none.
    #[must_use]
    pub fn decode(payload: &'a [u8]) -> Option<SessionCommand<'a>> {
        let (tag, mut rest) = payload.split_first()?;
        let command = match *tag {
            PLAIN => return Some(SessionCommand::Plain(rest)),
            PROPOSE => {
                let session = SessionId(word(&mut rest)?);
                let (serial, answered_up_to) = (word(&mut rest)?, word(&mut rest)?);
                let command = rest;
                // The command itself cannot be answered yet, and 0 is the number before the first.
                return (answered_up_to < serial).then_some(SessionCommand::Propose {
                    session,
                    serial,
                    answered_up_to,
                    command,
                });
            }
            OPEN => SessionCommand::Open,
            KEEP_ALIVE => SessionCommand::KeepAlive(SessionId(word(&mut rest)?)),
            CLOSE => SessionCommand::Close(SessionId(word(&mut rest)?)),
            _ => return None,
        };
        rest.is_empty().then_some(command)
    }
}

/// Takes a little-endian word off the front.
pub(super) fn word(rest: &mut &[u8]) -> Option<u64> {
    let (word, after) = rest.split_first_chunk::<8>()?;
    *rest = after;
    Some(u64::from_le_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jangada_entry::{Kind, Origin};

    fn payload(command: &SessionCommand<'_>) -> Vec<u8> {
        Draft::new(command.encode(), Kind::Command, 1, 0, Origin::default()).payload().to_vec()
    }

    #[test]
    fn every_command_is_read_as_it_was_written_and_cut_short_is_none() {
        let session = SessionId(7);
        let propose =
            SessionCommand::Propose { session, serial: 3, answered_up_to: 2, command: b"add" };
        let fixed = [
            SessionCommand::Open,
            SessionCommand::KeepAlive(session),
            SessionCommand::Close(session),
        ];
        for command in fixed {
            let bytes = payload(&command);
            assert_eq!(SessionCommand::decode(&bytes), Some(command));
            assert_eq!(SessionCommand::decode(&bytes[..bytes.len() - 1]), None);
            assert_eq!(SessionCommand::decode(&[&bytes[..], b"x"].concat()), None);
        }
        let bytes = payload(&propose);
        assert_eq!(SessionCommand::decode(&bytes), Some(propose));
        assert!((0..25).all(|length| SessionCommand::decode(&bytes[..length]).is_none()));
        let plain = SessionCommand::Plain(b"");
        assert_eq!(SessionCommand::decode(&payload(&plain)), Some(plain));
        assert_eq!(SessionCommand::decode(&[5]), None);
    }

    #[test]
    fn a_command_that_is_answered_before_it_is_asked_is_none() {
        for (serial, answered_up_to) in [(0, 0), (1, 1), (1, 2)] {
            let command = SessionCommand::Propose {
                session: SessionId(1),
                serial,
                answered_up_to,
                command: b"",
            };
            assert_eq!(SessionCommand::decode(&payload(&command)), None);
        }
    }
}
