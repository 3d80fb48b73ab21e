//! Your own state machine in the simulated world, in a few lines.
//!
//! Responsible for everything that a user does not want to write: an [`Application`] around a state
//! machine, clients that propose what a closure makes up, retry or not, read, and remember what they
//! were told. A [`Simulation`] is a [`Scenario`] like the world of the store: sweeps run it, and what
//! fails is told as a timeline and made smaller.
//!
//! What is checked without a word: all that the members themselves must keep, that every command is
//! applied on each member at the same place with the same effect, whatever restarts in between, and
//! that all work is finished once faults stop. [`Simulation::check`] and [`Simulation::reads`] add
//! what the state machine itself must keep.

use std::fmt::Debug;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use jangada::StateMachine;
use jangada_raft::NodeId;

use crate::application::Application;
use crate::application::desk::{Answer, Desk};
use crate::choices::Choices;
use crate::disk::DiskHandle;
use crate::invariants::Violation;
use crate::run::plan::Plan;
use crate::run::scenario::{Held, Scenario, held};
use crate::run::timeline::Who;
use crate::run::{Clients, Failure};
use crate::world::World;

/// How many clients there are unless a plan says otherwise.
const CLIENTS: u64 = 4;

/// How long a client thinks between an answer and its next request, in microseconds.
const THINK_US: (u64, u64) = (0, 40_000);

/// How long a client waits before it turns to another member, in microseconds.
const BACK_OFF_US: (u64, u64) = (1_000, 200_000);

/// What came of the clients' commands so far.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    /// The commands that were answered, in the order of the answers.
    pub acknowledged: Vec<Bytes>,
    /// The commands of which no client knows whether they happened or will happen. With
    /// [`Simulation::retrying`] there are none at the end.
    pub in_doubt: Vec<Bytes>,
}

type Open<M> = dyn Fn(&DiskHandle, NodeId) -> io::Result<M> + Send + Sync;
type Make = dyn Fn(&mut Choices, u64) -> Vec<u8> + Send + Sync;
type Check<M> = dyn Fn(&M, &Sent) -> Result<(), String> + Send + Sync;
type Words = dyn Fn(&[u8]) -> String + Send + Sync;
type ReadCheck<M> = dyn Fn(&M, &[Bytes]) -> Result<(), String> + Send + Sync;

/// A state machine to be simulated, and what its clients do.
pub struct Simulation<M> {
    name: &'static str,
    open: Arc<Open<M>>,
    commands: Arc<Make>,
    checks: Vec<(&'static str, Arc<Check<M>>)>,
    reads: Option<(&'static str, Arc<ReadCheck<M>>)>,
    words: Option<Arc<Words>>,
    retries: bool,
}

impl<M> Clone for Simulation<M> {
    fn clone(&self) -> Self {
        Simulation {
            name: self.name,
            open: Arc::clone(&self.open),
            commands: Arc::clone(&self.commands),
            checks: self.checks.clone(),
            reads: self.reads.clone(),
            words: self.words.clone(),
            retries: self.retries,
        }
    }
}

impl<M: StateMachine<Reply: Debug>> Simulation<M> {
    /// Simulates a state machine that keeps nothing beside the log: each start makes a new one, and
    /// the log is applied to it. `commands` makes up the command of this number, from 1.
    pub fn new(
        name: &'static str,
        machine: impl Fn() -> M + Send + Sync + 'static,
        commands: impl Fn(&mut Choices, u64) -> Vec<u8> + Send + Sync + 'static,
    ) -> Simulation<M> {
        Simulation::durable(name, move |_, _| Ok(machine()), commands)
    }

    /// Simulates a state machine that keeps something on its member's disk. `open` is called at each
    /// start of a member; it is given the disk, which forgets what was not synced when power goes.
    pub fn durable(
        name: &'static str,
        open: impl Fn(&DiskHandle, NodeId) -> io::Result<M> + Send + Sync + 'static,
        commands: impl Fn(&mut Choices, u64) -> Vec<u8> + Send + Sync + 'static,
    ) -> Simulation<M> {
        Simulation {
            name,
            open: Arc::new(open),
            commands: Arc::new(commands),
            checks: Vec::new(),
            reads: None,
            words: None,
            retries: false,
        }
    }

    /// Lets a client whose command may or may not have happened send the same command again, until
    /// it is answered. Otherwise it goes on with another.
    #[must_use]
    pub fn retrying(mut self) -> Self {
        self.retries = true;
        self
    }

    /// How a command reads in a timeline; otherwise its bytes are shown.
    #[must_use]
    pub fn describe(mut self, words: impl Fn(&[u8]) -> String + Send + Sync + 'static) -> Self {
        self.words = Some(Arc::new(words));
        self
    }

    /// Something that every member's machine must keep when all work is done.
    #[must_use]
    pub fn check(
        mut self,
        invariant: &'static str,
        holds: impl Fn(&M, &Sent) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.checks.push((invariant, Arc::new(holds)));
        self
    }

    /// Lets one request in four be a linearizable read. `holds` looks at the machine that the read
    /// runs on and at the commands that were answered before the read was asked for: all of them
    /// must show.
    #[must_use]
    pub fn reads(
        mut self,
        invariant: &'static str,
        holds: impl Fn(&M, &[Bytes]) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.reads = Some((invariant, Arc::new(holds)));
        self
    }
}

impl<M: StateMachine<Reply: Debug>> Scenario for Simulation<M> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        "a state machine of your own"
    }

    fn run(&self, plan: &Plan) -> Result<Held, Box<Failure>> {
        held(self.clone(), plan, Proposers::new(self.clone(), plan.clients.unwrap_or(CLIENTS)))
    }
}

impl<M: StateMachine<Reply: Debug>> Application for Simulation<M> {
    type Machine = M;
    type Worker = ();

    fn open(&self, disk: &DiskHandle, member: NodeId) -> io::Result<(M, ())> {
        Ok(((self.open)(disk, member)?, ()))
    }

    fn describe(&self, command: &[u8]) -> String {
        match &self.words {
            Some(words) => words(command),
            None => format!("\"{}\"", command.escape_ascii()),
        }
    }

    fn work(&self, (): &mut (), _: u64) -> io::Result<Option<u64>> {
        Ok(None)
    }
}

/// A request under way.
#[derive(Clone, Debug)]
enum Asked {
    Command { client: usize, command: Bytes },
    Read { client: usize, acknowledged: usize },
}

/// The clients: each has one request under way at a time.
struct Proposers<M> {
    simulation: Simulation<M>,
    desk: Desk<Asked>,
    /// What each client will send again.
    again: Vec<Option<Bytes>>,
    numbered: u64,
    reads: u64,
    sent: Sent,
    is_finished: bool,
}

fn violated(invariant: &'static str, member: NodeId, seen: String) -> Violation {
    Violation { invariant, seen: format!("member {member}: {seen}") }
}

impl<M: StateMachine<Reply: Debug>> Proposers<M> {
    fn new(simulation: Simulation<M>, clients: u64) -> Proposers<M> {
        Proposers {
            simulation,
            desk: Desk::new(),
            again: vec![None; clients as usize],
            numbered: 0,
            reads: 0,
            sent: Sent::default(),
            is_finished: false,
        }
    }

    fn pause(&self, world: &mut World<Simulation<M>>, client: usize, range: (u64, u64)) {
        let after = world.choices().between(range.0, range.1);
        world.set_timer(after, client as u64);
    }

    fn ask(&mut self, world: &mut World<Simulation<M>>, client: usize) {
        if self.is_finished && self.again[client].is_none() {
            return;
        }
        let members = world.members();
        let member = *world.choices().pick(&members);
        let reads = self.again[client].is_none() && self.simulation.reads.is_some();
        if reads && world.choices().below(4) == 0 {
            let asked = Asked::Read { client, acknowledged: self.sent.acknowledged.len() };
            match world.read(member) {
                Some(batch) => self.desk.reads(member, batch, asked),
                None => self.pause(world, client, BACK_OFF_US),
            }
            return;
        }
        let command = self.again[client].take().unwrap_or_else(|| {
            self.numbered += 1;
            (self.simulation.commands)(world.choices(), self.numbered).into()
        });
        match world.propose(member, &command, 1) {
            Some(origin) => self.desk.proposed(origin, Asked::Command { client, command }),
            None => {
                self.again[client] = Some(command);
                self.pause(world, client, BACK_OFF_US);
            }
        }
    }

    fn answered(
        &mut self,
        world: &mut World<Simulation<M>>,
        answer: Answer<Asked, M::Reply>,
    ) -> Result<(), Violation> {
        match answer {
            Answer::Replied(Asked::Command { client, command }, _) => {
                self.sent.acknowledged.push(command);
                self.pause(world, client, THINK_US);
            }
            Answer::ReadReady(Asked::Read { client, acknowledged }, member) => {
                let shown = self.simulation.reads.as_ref().zip(world.machine(member));
                if let Some(((invariant, holds), machine)) = shown {
                    holds(machine, &self.sent.acknowledged[..acknowledged])
                        .map_err(|seen| violated(invariant, member, seen))?;
                    self.reads += 1;
                }
                self.pause(world, client, THINK_US);
            }
            Answer::Refused(Asked::Command { client, command }) => {
                self.again[client] = Some(command);
                self.pause(world, client, BACK_OFF_US);
            }
            Answer::Doubtful(Asked::Command { client, command }) => {
                if self.simulation.retries {
                    let words = world.describe_command(&command);
                    let what = format_args!("client {client} does not know of {words}; it retries");
                    world.tell(Who::World, what);
                    self.again[client] = Some(command);
                } else {
                    self.sent.in_doubt.push(command);
                }
                self.pause(world, client, BACK_OFF_US);
            }
            Answer::Timer(client) => self.ask(world, client as usize),
            Answer::ReadFailed(Asked::Read { client, .. })
            | Answer::Refused(Asked::Read { client, .. })
            | Answer::Doubtful(Asked::Read { client, .. })
            | Answer::Replied(Asked::Read { client, .. }, _)
            | Answer::ReadReady(Asked::Command { client, .. }, _)
            | Answer::ReadFailed(Asked::Command { client, .. }) => {
                self.pause(world, client, BACK_OFF_US);
            }
        }
        Ok(())
    }
}

impl<M: StateMachine<Reply: Debug>> Clients<Simulation<M>> for Proposers<M> {
    fn begin(&mut self, world: &mut World<Simulation<M>>) {
        for client in 0..self.again.len() {
            self.pause(world, client, BACK_OFF_US);
        }
    }

    fn turn(&mut self, world: &mut World<Simulation<M>>) -> Result<(), Violation> {
        while let Some(happened) = world.happened() {
            for answer in self.desk.sort(happened) {
                self.answered(world, answer)?;
            }
        }
        Ok(())
    }

    fn finish(&mut self) {
        self.is_finished = true;
        if !self.simulation.retries {
            // A command that was refused never happened, and need not.
            self.again.fill(None);
        }
    }

    fn is_idle(&self) -> bool {
        self.desk.is_empty() && self.again.iter().all(Option::is_none)
    }

    fn judge(&mut self, world: &mut World<Simulation<M>>) -> Result<(), Violation> {
        for member in world.standing_members() {
            let Some(machine) = world.machine(member) else { continue };
            for (invariant, holds) in &self.simulation.checks {
                holds(machine, &self.sent).map_err(|seen| violated(invariant, member, seen))?;
            }
        }
        Ok(())
    }

    fn requests(&self) -> u64 {
        self.sent.acknowledged.len() as u64 + self.reads
    }
}
