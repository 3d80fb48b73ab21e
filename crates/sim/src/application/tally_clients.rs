//! Clients of a [`Tally`]: they count together and see to it that the numbers rise.
//!
//! The answers number the commands, so linearizability is plain: what was asked after an answer was
//! there has a higher number, and a read shows at least as many commands.

use std::collections::BTreeSet;

use crate::application::desk::{Answer, Desk};
use crate::application::tally::{Tally, TallyApplication};
use crate::choices::mix;
use crate::invariants::Violation;
use crate::run::Clients;
use crate::world::{World, unique_payload};

/// How long a client thinks between an answer and its next request, in microseconds.
const THINK_US: (u64, u64) = (0, 20_000);

/// How long a client waits before it turns to another member, in microseconds.
const BACK_OFF_US: (u64, u64) = (1_000, 200_000);

/// A request under way.
#[derive(Clone, Copy, Debug)]
struct Asked {
    client: u64,
    /// The highest number that any client had seen when this one asked.
    floor: u64,
}

/// The clients.
#[derive(Debug)]
pub struct TallyClients {
    clients: u64,
    desk: Desk<Asked>,
    commands: u64,
    highest: u64,
    acknowledged: BTreeSet<u64>,
    reads: u64,
    finished: bool,
}

impl TallyClients {
    /// So many clients, each with one request at a time.
    #[must_use]
    pub fn new(clients: u64) -> TallyClients {
        TallyClients {
            clients,
            desk: Desk::new(),
            commands: 0,
            highest: 0,
            acknowledged: BTreeSet::new(),
            reads: 0,
            finished: false,
        }
    }

    /// How many commands were answered.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }

    /// How many reads were answered.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.reads
    }

    fn ask(&mut self, world: &mut World<TallyApplication>, client: u64) {
        if self.finished {
            return;
        }
        let members = world.members();
        let member = *world.choices().pick(&members);
        let asked = Asked { client, floor: self.highest };
        let is_read = world.choices().below(4) == 0;
        let taken = if is_read {
            world.read(member).map(|batch| self.desk.reads(member, batch, asked))
        } else {
            self.commands += 1;
            let bytes = if mix(self.commands).is_multiple_of(16) { 5_000 } else { 100 };
            let payload = unique_payload(self.commands, bytes);
            world.propose(member, &payload, 1).map(|origin| self.desk.proposed(origin, asked))
        };
        if taken.is_none() {
            self.pause(world, client, BACK_OFF_US);
        }
    }

    fn pause(&self, world: &mut World<TallyApplication>, client: u64, range: (u64, u64)) {
        let after = world.choices().between(range.0, range.1);
        world.set_timer(after, client);
    }

    fn answered(
        &mut self,
        world: &mut World<TallyApplication>,
        answer: Answer<Asked, u64>,
    ) -> Result<(), Violation> {
        match answer {
            Answer::Replied(asked, number) => {
                let fresh = self.acknowledged.insert(number);
                if !fresh || number <= asked.floor {
                    return Err(Violation {
                        invariant: "writes are linearizable",
                        seen: format!(
                            "a command became number {number} though {} was there when it was \
                             asked for (or {number} was given before)",
                            asked.floor
                        ),
                    });
                }
                self.highest = self.highest.max(number);
                self.pause(world, asked.client, THINK_US);
            }
            Answer::ReadReady(asked, member) => {
                // The process may have ended in the very step in which it could answer.
                let Some(count) = world.machine(member).map(Tally::count) else {
                    self.pause(world, asked.client, BACK_OFF_US);
                    return Ok(());
                };
                if count < asked.floor {
                    return Err(Violation {
                        invariant: "reads are linearizable",
                        seen: format!("a read shows {count} of {} commands", asked.floor),
                    });
                }
                self.reads += 1;
                self.highest = self.highest.max(count);
                self.pause(world, asked.client, THINK_US);
            }
            Answer::Refused(asked) | Answer::Doubtful(asked) | Answer::ReadFailed(asked) => {
                self.pause(world, asked.client, BACK_OFF_US);
            }
            Answer::Timer(client) => self.ask(world, client),
        }
        Ok(())
    }
}

impl Clients<TallyApplication> for TallyClients {
    fn begin(&mut self, world: &mut World<TallyApplication>) {
        for client in 0..self.clients {
            self.pause(world, client, BACK_OFF_US);
        }
    }

    fn turn(&mut self, world: &mut World<TallyApplication>) -> Result<(), Violation> {
        while let Some(happened) = world.happened() {
            for answer in self.desk.sort(happened) {
                self.answered(world, answer)?;
            }
        }
        Ok(())
    }

    fn requests(&self) -> u64 {
        self.acknowledged.len() as u64 + self.reads
    }

    fn finish(&mut self) {
        self.finished = true;
    }

    fn is_idle(&self) -> bool {
        self.desk.is_empty()
    }

    fn judge(&mut self, world: &mut World<TallyApplication>) -> Result<(), Violation> {
        for member in world.standing_members() {
            let count = world.machine(member).map_or(0, Tally::count);
            if count != world.invariants().commands() as u64 || count < self.highest {
                return Err(Violation {
                    invariant: "no acknowledged write is lost",
                    seen: format!(
                        "member {member} holds {count} commands of {}, the highest acknowledged \
                         is {}",
                        world.invariants().commands(),
                        self.highest
                    ),
                });
            }
        }
        Ok(())
    }
}
