//! One connection between two members, as a stepped part: bytes in, messages out; messages in,
//! bytes out. No socket, no clock, no task. The transport steps it with a socket's bytes, the
//! simulator with its own.
//!
//! - [`Outgoing`] is the dialer's end: the hello first, messages once the welcome has come.
//! - [`Incoming`] is the acceptor's end: judges the hello, then takes messages.
//!
//! Invariants:
//! 1. Messages leave in the order in which they were pushed, each whole or, when the connection
//!    breaks, not at all from the point where it broke.
//! 2. No message leaves before the welcome, and none is taken before it is given.
//! 3. What waits to be sent never exceeds its limit, save by one message that found nothing
//!    waiting.

mod queue;

use bytes::{Buf, Bytes, BytesMut};
use jangada_raft::NodeId;

use crate::handshake::{Hello, Identity, Known, Met, Refusal, Reply, judge, judge_welcome};
use crate::wire::{self, DecodeError, EncodeError};
use crate::{Lane, PeerMessage, inquiry};

pub use queue::SendQueue;

/// How much is read at a time, and the size that a receive buffer starts with: a typical batch of
/// entries in one read, and not much for each connection that idles.
pub const READ_BYTES: usize = 64 << 10;

/// With less room than this left, a receive buffer gets a new one: entries keep the old one alive,
/// so little of it should be wasted, and reads should not become small.
const SPARE_BYTES_MIN: usize = READ_BYTES / 4;

/// Why a message is not taken for sending.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PushError {
    /// The welcome has not come yet.
    NotOpen,
    /// Too much waits to be sent.
    Full,
    /// The message cannot be sent at all.
    Message(EncodeError),
}

/// The dialer's end of a connection.
#[derive(Debug)]
pub struct Outgoing {
    identity: Identity,
    hello: Hello,
    group: u64,
    queue: SendQueue,
    received: BytesMut,
    met: Option<Met>,
}

impl Outgoing {
    /// A connection to `to`, on which the hello waits to be sent. `incarnation` is the one that was
    /// met first under that id, if any. At most `queue_bytes_max` bytes of messages will wait.
    /// `addresses` are this member's own, for an acceptor that has not heard of it.
    #[must_use]
    pub fn dial(
        identity: Identity,
        to: NodeId,
        incarnation: Option<u64>,
        lane: Lane,
        group: u64,
        queue_bytes_max: usize,
        addresses: &[String],
    ) -> Outgoing {
        let hello =
            Hello { addresses: addresses.to_vec(), ..identity.hello(to, incarnation, lane) };
        let mut queue = SendQueue::new(queue_bytes_max);
        queue.push_bytes(&hello.encode());
        Outgoing { identity, hello, group, queue, received: BytesMut::new(), met: None }
    }

    /// Takes bytes that the acceptor sent. Gives whom the connection leads to, once, when the
    /// welcome is complete.
    ///
    /// # Errors
    /// The acceptor refused the connection, or ended it with a sentence, or what it sent is
    /// neither. The connection is of no more use.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Option<Met>, Refusal> {
        self.received.extend_from_slice(bytes);
        let Some(reply) = Reply::decode(&mut self.received).map_err(Refusal::record)? else {
            return Ok(None);
        };
        if self.met.is_some() {
            return Err(Refusal::told(&reply));
        }
        let met = judge_welcome(&self.identity, &self.hello, &reply)?;
        self.met = Some(met);
        Ok(self.met)
    }

    /// Whom the connection leads to, once the welcome has come.
    #[must_use]
    pub fn met(&self) -> Option<Met> {
        self.met
    }

    /// Puts a message behind those that wait.
    ///
    /// # Errors
    /// The message is not taken, and nothing of it will be sent.
    pub fn push(&mut self, message: &PeerMessage) -> Result<(), PushError> {
        let Some(met) = self.met else {
            return Err(PushError::NotOpen);
        };
        self.queue.push(met.version, self.group, message)
    }

    /// What waits to be sent.
    #[must_use]
    pub fn queue(&self) -> &SendQueue {
        &self.queue
    }

    /// What waits to be sent, to be advanced by what was.
    pub fn queue_mut(&mut self) -> &mut SendQueue {
        &mut self.queue
    }
}

/// What an acceptor does with a hello.
#[derive(Debug)]
pub enum Judged {
    /// The dialer is welcome: send the reply, then take its messages.
    Welcome {
        /// Whom the connection comes from.
        met: Met,
        /// Where it says it is found.
        addresses: Vec<String>,
        /// The bytes of the welcome.
        reply: Bytes,
    },
    /// The dialer is not: send the reply and close.
    Refused {
        /// Who it says it is.
        from: NodeId,
        /// Why.
        refusal: Refusal,
        /// The bytes of the refusal.
        reply: Bytes,
    },
    /// Somebody wants to know who it is: send the roster and close.
    Inquiry {
        /// Where it says it is found.
        addresses: Vec<String>,
    },
}

/// The acceptor's end of a connection.
#[derive(Debug)]
pub struct Incoming {
    identity: Identity,
    group: u64,
    buffer: BytesMut,
    met: Option<Met>,
}

impl Incoming {
    /// A connection that somebody opened.
    #[must_use]
    pub fn accept(identity: Identity, group: u64) -> Incoming {
        Incoming { identity, group, buffer: BytesMut::new(), met: None }
    }

    /// Where received bytes go: append to it, then step.
    ///
    /// The room in it grows with what has arrived, not with what was announced, so that the
    /// announcement of a large message costs nothing.
    pub fn buffer(&mut self) -> &mut BytesMut {
        if self.met.is_none() {
            self.buffer.reserve(crate::handshake::RECORD_BYTES_MAX);
            return &mut self.buffer;
        }
        if self.buffer.capacity() - self.buffer.len() < SPARE_BYTES_MIN {
            let wanted = self.message_bytes_missing().min(self.buffer.len()).max(READ_BYTES);
            self.buffer.reserve(wanted);
        }
        &mut self.buffer
    }

    /// Judges the hello, once it is complete; `known` says what is known of a member.
    ///
    /// # Errors
    /// What was received is no hello: close without an answer.
    ///
    /// # Panics
    /// If the connection has been judged already.
    pub fn judge(
        &mut self,
        known: impl FnOnce(NodeId) -> Known,
    ) -> Result<Option<Judged>, Refusal> {
        assert!(self.met.is_none(), "a connection is judged once");
        if inquiry::is_begun(&self.buffer) {
            let addresses = inquiry::decode(&mut self.buffer).map_err(Refusal::record)?;
            return Ok(addresses.map(|addresses| Judged::Inquiry { addresses }));
        }
        let Some(hello) = Hello::decode(&mut self.buffer).map_err(Refusal::record)? else {
            return Ok(None);
        };
        let judged = match judge(&self.identity, &hello, known) {
            Ok(met) => {
                self.met = Some(met);
                let reply = self.identity.welcome(met.version).encode();
                Judged::Welcome { met, addresses: hello.addresses, reply }
            }
            Err(refusal) => {
                let reply = self.identity.refuse(&refusal).encode();
                Judged::Refused { from: hello.from, refusal, reply }
            }
        };
        Ok(Some(judged))
    }

    /// Splits the next whole message off what was received, with its size in bytes; `None` when
    /// more bytes are needed.
    ///
    /// # Errors
    /// What was received is no message: send [`Incoming::farewell`] and close.
    ///
    /// # Panics
    /// If the connection has not been welcomed (invariant 2).
    pub fn next_message(&mut self) -> Result<Option<(PeerMessage, usize)>, DecodeError> {
        let met = self.met.expect("session invariant 2");
        if self.buffer.len() < wire::HEADER_BYTES {
            return Ok(None);
        }
        let length = wire::Header::decode(&self.buffer)?.length as usize;
        if self.buffer.len() < length {
            return Ok(None);
        }
        let mut bytes = self.buffer.split_to(length);
        wire::take_from_version(met.version, &mut bytes)?;
        let message = wire::decode(self.group, bytes.freeze())?;
        if message.lane() != met.lane {
            return Err(DecodeError::Lane);
        }
        Ok(Some((message, length)))
    }

    /// The last bytes on a connection on which something other than a message arrived, and the
    /// refusal in them; both sides so have the sentence.
    ///
    /// # Panics
    /// If the connection has not been welcomed (invariant 2).
    #[must_use]
    pub fn farewell(&self, error: DecodeError) -> (Refusal, Bytes) {
        let met = self.met.expect("session invariant 2");
        let refusal = Refusal::message(met.member, self.identity.member, error);
        let reply = self.identity.refuse(&refusal).encode();
        (refusal, reply)
    }

    /// The bytes still missing from the message that has begun to arrive; 0 when that is unknown.
    fn message_bytes_missing(&self) -> usize {
        let mut start = &self.buffer[..];
        if start.len() < 4 {
            return 0;
        }
        (start.get_u32_le() as usize).saturating_sub(self.buffer.len())
    }
}
