//! Clients of [`ExactlyOnce`]: each adds its numbers one after the other, in a session, and asks again
//! whenever it is in doubt, now and then even when it is not.

use std::collections::{BTreeMap, BTreeSet};

use jangada::{SessionCommand, SessionId, SessionRefusal, SessionReply};

use crate::application::desk::{Answer, Desk};
use crate::application::exactly_once::{ExactlyOnce, LIMITS, member_options};
use crate::invariants::Violation;
use crate::run::plan::Plan;
use crate::run::scenario::{Held, Scenario};
use crate::run::{Clients, Failure, run};
use crate::workload::Coverage;
use crate::world::{World, WorldOptions};

/// How many clients there are unless a plan says otherwise: more than there may be sessions.
const CLIENTS: u64 = 6;

/// How long a client thinks between an answer and its next request, in microseconds.
const THINK_US: (u64, u64) = (0, 40_000);

/// How long a client waits before it turns to another member, in microseconds.
const BACK_OFF_US: (u64, u64) = (1_000, 200_000);

/// How long a client now and then forgets its session, in microseconds.
const NAP_US: (u64, u64) = (LIMITS.timeout_ms * 500, LIMITS.timeout_ms * 2_000);

/// What a client wants at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wants {
    Session,
    /// To add a number under a serial of its session.
    Number {
        session: SessionId,
        serial: u64,
        number: u64,
    },
}

#[derive(Clone, Copy, Debug)]
struct Client {
    wants: Wants,
    /// It was asked for, and may happen yet.
    in_doubt: bool,
    under_way: u64,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    client: usize,
    wants: Wants,
}

/// The clients.
#[derive(Debug)]
pub struct ExactlyOnceClients {
    clients: Vec<Client>,
    desk: Desk<Asked>,
    numbered: u64,
    /// The numbers that were answered, and their places.
    answered: BTreeMap<u64, u64>,
    /// The numbers whose session ended while they were in doubt.
    lost: BTreeSet<u64>,
    /// How many sessions ended before their client did.
    expired: u64,
    is_finished: bool,
}

/// The world of sessions.
#[derive(Clone, Copy, Debug, Default)]
pub struct SessionsScenario;

impl Scenario for SessionsScenario {
    fn name(&self) -> &'static str {
        "sessions"
    }

    fn about(&self) -> &'static str {
        "a list within sessions; every number that is added stands there once"
    }

    fn run(&self, plan: &Plan) -> Result<Held, Box<Failure>> {
        let mut clients = ExactlyOnceClients::new(plan.clients.unwrap_or(CLIENTS));
        let world = WorldOptions { member: member_options(), ..plan.world() };
        let choices = plan.seed.choices();
        let report = run(ExactlyOnce, world, choices, plan.duration_us, &mut clients)?;
        Ok(Held { report, requests: clients.requests(), coverage: Coverage::default() })
    }
}

impl ExactlyOnceClients {
    /// So many clients.
    #[must_use]
    pub fn new(clients: u64) -> ExactlyOnceClients {
        let client = Client { wants: Wants::Session, in_doubt: false, under_way: 0 };
        ExactlyOnceClients {
            clients: vec![client; clients as usize],
            desk: Desk::new(),
            numbered: 0,
            answered: BTreeMap::new(),
            lost: BTreeSet::new(),
            expired: 0,
            is_finished: false,
        }
    }

    /// How many numbers were answered.
    #[must_use]
    pub fn answered(&self) -> usize {
        self.answered.len()
    }

    /// How many sessions ended before their client did.
    #[must_use]
    pub fn expired(&self) -> u64 {
        self.expired
    }

    fn pause(&self, world: &mut World<ExactlyOnce>, client: usize, range: (u64, u64)) {
        let after = world.choices().between(range.0, range.1);
        world.set_timer(after, client as u64);
    }

    fn ask(&mut self, world: &mut World<ExactlyOnce>, client: usize) {
        let wants = self.clients[client].wants;
        // What may have happened is asked for until it is known.
        if self.is_finished && !(self.clients[client].in_doubt && wants != Wants::Session) {
            return;
        }
        let number;
        let command = match wants {
            Wants::Session => SessionCommand::Open,
            Wants::Number { session, serial, number: wanted } => {
                number = wanted.to_le_bytes();
                let answered_up_to = serial - 1;
                SessionCommand::Propose { session, serial, answered_up_to, command: &number }
            }
        };
        // The world makes the frame itself.
        let frame = jangada_entry::Draft::new(
            command.encode(),
            jangada_entry::Kind::Command,
            1,
            0,
            jangada_entry::Origin::default(),
        );
        let times = if world.choices().below(8) == 0 { 2 } else { 1 };
        for _ in 0..times {
            // At the end nobody waits for a member that stays cut off.
            let members = match self.is_finished {
                true => world.standing_members(),
                false => world.members(),
            };
            let member = *world.choices().pick(&members);
            if let Some(origin) = world.propose(member, frame.payload(), 1) {
                self.desk.proposed(origin, Asked { client, wants });
                self.clients[client].under_way += 1;
            }
        }
        if self.clients[client].under_way == 0 {
            self.pause(world, client, BACK_OFF_US);
        }
    }

    /// The client goes on with something else.
    fn wants(&mut self, world: &mut World<ExactlyOnce>, client: usize, wants: Wants) {
        self.clients[client] = Client { wants, in_doubt: false, under_way: 0 };
        let naps = world.choices().below(100) == 0;
        self.pause(world, client, if naps { NAP_US } else { THINK_US });
    }

    fn next_number(&mut self, session: SessionId, serial: u64) -> Wants {
        self.numbered += 1;
        Wants::Number { session, serial, number: self.numbered }
    }

    fn replied(
        &mut self,
        world: &mut World<ExactlyOnce>,
        asked: Asked,
        reply: &SessionReply<u64>,
    ) -> Result<(), Violation> {
        let Asked { client, wants } = asked;
        match (wants, reply) {
            (Wants::Session, SessionReply::Opened(session)) => {
                let wants = self.next_number(*session, 1);
                self.wants(world, client, wants);
            }
            (Wants::Number { session, serial, number }, SessionReply::Applied(place)) => {
                self.answered.insert(number, *place);
                let wants = self.next_number(session, serial + 1);
                self.wants(world, client, wants);
            }
            (Wants::Number { number, .. }, SessionReply::Refused(SessionRefusal::Unknown)) => {
                self.expired += 1;
                // Asked for twice at once, an earlier one may have been applied.
                if self.clients[client].in_doubt || 0 < self.clients[client].under_way {
                    self.lost.insert(number);
                }
                self.wants(world, client, Wants::Session);
            }
            _ => {
                return Err(Violation {
                    invariant: "a session answers what it was asked",
                    seen: format!("{wants:?} is answered by {reply:?}"),
                });
            }
        }
        Ok(())
    }

    fn answer(
        &mut self,
        world: &mut World<ExactlyOnce>,
        answer: Answer<Asked, SessionReply<u64>>,
    ) -> Result<(), Violation> {
        let (asked, reply, doubtful) = match answer {
            Answer::Timer(client) => {
                self.ask(world, client as usize);
                return Ok(());
            }
            Answer::Replied(asked, reply) => (asked, Some(reply), false),
            Answer::Refused(asked) => (asked, None, false),
            Answer::Doubtful(asked) => (asked, None, true),
            Answer::ReadReady(..) | Answer::ReadFailed(_) => return Ok(()),
        };
        let client = &mut self.clients[asked.client];
        if client.wants != asked.wants {
            return self.late(asked, reply);
        }
        client.under_way = client.under_way.saturating_sub(1);
        client.in_doubt |= doubtful;
        if let Some(reply) = reply {
            return self.replied(world, asked, &reply);
        }
        if client.under_way == 0 {
            self.pause(world, asked.client, BACK_OFF_US);
        }
        Ok(())
    }

    /// Another answer to what was answered before is the same, or none.
    fn late(&self, asked: Asked, reply: Option<SessionReply<u64>>) -> Result<(), Violation> {
        let (Wants::Number { number, .. }, Some(SessionReply::Applied(place))) =
            (asked.wants, reply)
        else {
            return Ok(());
        };
        match self.answered.get(&number) {
            Some(first) if *first != place => Err(Violation {
                invariant: "a duplicate gets the stored reply",
                seen: format!("number {number} was place {first} first and then {place}"),
            }),
            _ => Ok(()),
        }
    }
}

impl Clients<ExactlyOnce> for ExactlyOnceClients {
    fn begin(&mut self, world: &mut World<ExactlyOnce>) {
        for client in 0..self.clients.len() {
            self.pause(world, client, BACK_OFF_US);
        }
    }

    fn turn(&mut self, world: &mut World<ExactlyOnce>) -> Result<(), Violation> {
        while let Some(happened) = world.happened() {
            for answer in self.desk.sort(happened) {
                self.answer(world, answer)?;
            }
        }
        Ok(())
    }

    fn finish(&mut self) {
        self.is_finished = true;
    }

    fn is_idle(&self) -> bool {
        let knows = |client: &Client| !client.in_doubt || client.wants == Wants::Session;
        self.desk.is_empty() && self.clients.iter().all(knows)
    }

    fn judge(&mut self, world: &mut World<ExactlyOnce>) -> Result<(), Violation> {
        for member in world.standing_members() {
            let Some(sessions) = world.machine(member) else { continue };
            let mut listed = BTreeMap::new();
            for (at, number) in sessions.machine().numbers().iter().enumerate() {
                if let Some(before) = listed.insert(*number, at as u64 + 1) {
                    return Err(Violation {
                        invariant: "a command of a session is applied once",
                        seen: format!(
                            "member {member} has number {number} in places {before} and {}",
                            at + 1
                        ),
                    });
                }
            }
            for (number, place) in &self.answered {
                if listed.remove(number) != Some(*place) {
                    return Err(Violation {
                        invariant: "no acknowledged write is lost",
                        seen: format!("member {member} has not number {number} in place {place}"),
                    });
                }
            }
            // What is left was in doubt when its session ended.
            if let Some((number, _)) = listed.iter().find(|(number, _)| !self.lost.contains(number))
            {
                return Err(Violation {
                    invariant: "what was refused never happens",
                    seen: format!("member {member} has number {number}, which nobody was told of"),
                });
            }
        }
        Ok(())
    }

    fn requests(&self) -> u64 {
        self.answered.len() as u64
    }
}
