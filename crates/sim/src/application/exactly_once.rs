//! Sessions, simulated: a machine that lists its commands, within [`Sessions`]. It keeps nothing itself;
//! the node saves its state, and a restart must find the sessions beside what they stand for.

use std::io;

use bytes::BufMut;
use jangada::{
    Bound, Options, Outcome, Piece, SessionCommand, SessionLimits, Sessions, SnapshotError,
    Snapshots, StateMachine,
};
use jangada_entry::Frame;
use jangada_raft::NodeId;

use crate::application::Application;
use crate::disk::DiskHandle;

/// Few sessions for a short time, so that runs of seconds see them end in every way.
pub const LIMITS: SessionLimits = SessionLimits {
    sessions_max: 5,
    replies_max: 4,
    session_bytes_max: 1 << 10,
    table_bytes_max: 16 << 10,
    timeout_ms: 2_000,
};

/// Members that save their state, and cut their logs, often enough for runs of seconds.
#[must_use]
pub fn member_options() -> Options {
    Options { save_after_bytes: 8 << 10, trailing_bytes_max: 4 << 10, ..Options::default() }
}

/// Replicates a [`List`] within sessions.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExactlyOnce;

/// Lists the numbers that its commands name, in order.
#[derive(Debug, Default)]
pub struct List {
    numbers: Vec<u64>,
}

impl List {
    /// The numbers, as often as they were applied.
    #[must_use]
    pub fn numbers(&self) -> &[u64] {
        &self.numbers
    }
}

/// The number that a command of the list names.
#[must_use]
pub fn number_of(command: &[u8]) -> u64 {
    command.try_into().map_or(0, u64::from_le_bytes)
}

impl StateMachine for List {
    /// The command's place in the list, from 1.
    type Reply = u64;

    fn apply(&mut self, commands: &[Frame], outcomes: &mut Vec<Outcome<u64>>) {
        for command in commands {
            self.numbers.push(number_of(command.payload()));
            let reply = self.numbers.len() as u64;
            outcomes.push(Outcome { reply, digest: reply });
        }
    }

    fn snapshots(&self) -> Snapshots {
        Snapshots::Whole
    }

    fn save(&self, out: &mut Vec<u8>) {
        self.numbers.iter().for_each(|number| out.put_u64_le(*number));
    }

    fn load(&mut self, state: &[u8]) -> Result<(), SnapshotError> {
        let (numbers, rest) = state.as_chunks::<8>();
        if !rest.is_empty() {
            return Err(SnapshotError::Unfit("it does not consist of numbers".to_owned()));
        }
        self.numbers = numbers.iter().map(|number| u64::from_le_bytes(*number)).collect();
        Ok(())
    }
}

impl Application for ExactlyOnce {
    type Machine = Sessions<List>;
    type Worker = ();

    fn open(&self, _: &DiskHandle, _: NodeId) -> io::Result<(Self::Machine, ())> {
        let sessions = Sessions::with_limits(List::default(), LIMITS);
        Ok((sessions.map_err(|error| io::Error::other(error.to_string()))?, ()))
    }

    fn work(&self, (): &mut (), _: u64) -> io::Result<Option<u64>> {
        Ok(None)
    }

    fn bounds(&self, sessions: &Sessions<List>) -> Vec<Bound> {
        let bound = |name, held: usize, max: usize| Bound {
            name,
            held: held as u64,
            max: max as u64,
            piece: Piece::Strict,
        };
        vec![
            bound("open sessions", sessions.open_sessions(), LIMITS.sessions_max),
            bound("session table, bytes", sessions.table_bytes(), LIMITS.table_bytes_max),
        ]
    }

    fn describe(&self, command: &[u8]) -> String {
        match SessionCommand::decode(command) {
            Some(SessionCommand::Propose { session, serial, answered_up_to, command }) => {
                let number = number_of(command);
                format!(
                    "add {number} as {serial} of session {session}, answered to {answered_up_to}"
                )
            }
            Some(command) => format!("{command:?}"),
            None => format!("{} bytes that are no command", command.len()),
        }
    }
}
