//! The smallest application: it counts commands and chains them into a hash. It keeps nothing
//! durable, so each life replays the whole log; and its answers number the commands, so that order
//! and loss are plain to see.

use std::io;

use bytes::Bytes;
use jangada::{Outcome, StateMachine};
use jangada_entry::Frame;
use jangada_raft::{Index, NodeId};

use crate::application::Application;
use crate::choices::mix;
use crate::disk::DiskHandle;

/// Replicates a [`Tally`].
#[derive(Clone, Copy, Debug, Default)]
pub struct TallyApplication;

/// Counts commands.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    count: u64,
    hash: u64,
}

impl Tally {
    /// How many commands have been applied.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }
}

impl StateMachine for Tally {
    /// The command's number, from 1.
    type Reply = u64;

    fn recovered(&self) -> Option<Bytes> {
        None
    }

    fn apply(&mut self, commands: &[Frame], outcomes: &mut Vec<Outcome<u64>>) {
        for command in commands {
            self.count += 1;
            self.hash = mix(self.hash ^ u64::from(command.header().payload_crc));
            outcomes.push(Outcome { reply: self.count, digest: self.hash });
        }
    }

    fn end_batch(&mut self, _: Index, _: Bytes) {}

    fn log_durable(&mut self, _: Index) {}

    fn durable_index(&self) -> Index {
        Index(0)
    }
}

impl Application for TallyApplication {
    type Machine = Tally;
    type Worker = ();

    fn open(&self, _: &DiskHandle, _: NodeId) -> io::Result<(Tally, ())> {
        Ok((Tally::default(), ()))
    }

    fn work(&self, (): &mut (), _: u64) -> io::Result<Option<u64>> {
        Ok(None)
    }

    /// Counted alike, chained differently.
    fn mistaken(command: &[u8]) -> Option<Bytes> {
        let mut other = command.to_vec();
        *other.last_mut()? ^= 1;
        Some(other.into())
    }

    fn describe(&self, command: &[u8]) -> String {
        match command.first_chunk() {
            Some(number) => format!("command {}", u64::from_le_bytes(*number)),
            None => format!("a command of {} bytes", command.len()),
        }
    }
}
