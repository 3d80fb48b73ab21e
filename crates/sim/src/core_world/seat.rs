//! One member of the core world: the module, the disk under it, and what its driver holds for it.
//!
//! Responsible for what survives the end of a life. Writes are completed as a real log does it: all
//! that waits when a sync begins goes out with it, in order.

use std::collections::VecDeque;

use jangada_raft::{
    Configuration, HardState, Index, Limits, Message, NodeId, Position, Raft, Range,
    RecoveryNumber, Start, Timer, Write, WriteNumber,
};

use crate::choices::MILLION;
use crate::specification::Name;
use crate::specification::names::Names;
use crate::world::queue::take_first;

/// The timers, each of which has one deadline.
pub(super) const TIMERS: [Timer; 6] = [
    Timer::Heartbeat,
    Timer::QuorumCheck,
    Timer::Quiet,
    Timer::Election,
    Timer::ElectionSoon,
    Timer::Transfer,
];

/// A time that never comes.
const NEVER: u64 = u64::MAX;

/// What survives a crash.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    hard_state: HardState,
    names: Names,
    /// The log is kept from here on.
    start: Index,
    /// What the state machine has durably applied.
    applied: Index,
    /// The newest snapshot that the state machine has installed.
    installed: Option<Carried>,
    /// Whether the log may have lost what was acknowledged.
    is_recovering: bool,
}

/// A snapshot: the names of all that it covers.
#[derive(Clone, Debug)]
pub(super) struct Carried(Names);

impl Carried {
    /// The names of all that it covers.
    pub(super) fn names(&self) -> &Names {
        &self.0
    }

    /// The last entry that it covers.
    pub(super) fn last(&self) -> Position {
        let Name { term, index } = self.0.last();
        Position { index, term }
    }
}

/// A write that is not known to be durable.
#[derive(Clone, Debug)]
struct Pending {
    write: Write,
    /// The names before a log that this write begins anew.
    anew: Option<Names>,
    /// The log's last entry as of this write.
    last: Position,
}

/// When a timer fires, and when the queue will look at it: restarting one costs no event.
#[derive(Clone, Copy, Debug)]
struct Alarm {
    deadline_us: u64,
    looked_at_us: u64,
}

/// One member.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    pub(super) id: NodeId,
    /// `None` while its process is down.
    pub(super) raft: Option<Raft>,
    pub(super) disk: Disk,
    /// Counts the lives, so that what was meant for an earlier one finds nobody.
    pub(super) life: u32,
    /// Nothing happens at the member before this.
    pub(super) paused_until_us: u64,
    /// How many microseconds its clock takes for a million.
    pub(super) tick_parts: u64,
    pending: VecDeque<Pending>,
    /// How many of the pending writes are being synced.
    syncing: usize,
    held: VecDeque<(WriteNumber, NodeId, Message)>,
    alarms: [Alarm; TIMERS.len()],
    /// Proposals that wait for their commit, and reads that wait for their round.
    pub(super) proposals: VecDeque<Position>,
    pub(super) reads: VecDeque<jangada_raft::ReadRound>,
}

/// How a life ends, as far as the disk is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lost {
    /// The process died: what the sync under way holds was written and survives.
    Unwritten,
    /// The machine died: the first so many of the writes under way survive, at most all of them.
    AllBut(usize),
}

impl Disk {
    /// The names of all that was ever written, and where the log that is kept begins, as a new life
    /// finds them.
    pub(super) fn kept(&mut self) -> (Names, Index) {
        self.joins();
        (self.names.clone(), self.start)
    }

    /// The kept log's names.
    fn log(&self) -> Range {
        let term = self.names.term_at(self.start).expect("the log is kept from within");
        let mut range = Range::empty(Position { index: self.start, term });
        for (term, first, last) in self.names.runs_after(self.start) {
            match range.is_empty() {
                true => range.first_term = term,
                false => range.more.push(jangada_raft::Run { term, first }),
            }
            range.last = last;
        }
        range
    }

    fn write(&mut self, pending: &Pending) {
        self.hard_state = pending.write.hard_state;
        if let Some(names) = &pending.anew {
            self.names = names.clone();
            self.start = pending.last.index;
            return;
        }
        if let Some(range) = &pending.write.range {
            self.names.splice(&range.into());
        }
        assert!(self.names.last() == Name::from(pending.last), "a write ends where it says");
    }

    /// How many entries the kept log has.
    pub(super) fn written(&self) -> u64 {
        self.names.last().index.0 - self.start.0
    }

    pub(super) fn is_recovering(&self) -> bool {
        self.is_recovering
    }

    /// All that may have been lost is there again.
    pub(super) fn recovers(&mut self) {
        self.is_recovering = false;
    }

    /// Of the kept log only the first entries are left, so many of them. What the state machine has
    /// applied is not needed from the log.
    pub(super) fn rots(&mut self, kept: u64) {
        let mut applied = self.names.clone();
        applied.truncate(self.applied);
        self.names.truncate(Index(self.start.0 + kept));
        self.is_recovering = true;
        if self.names.last().index < applied.last().index {
            self.start = applied.last().index;
            self.names = applied;
        }
    }

    /// The log joins a state machine that is ahead of it: it is begun anew.
    fn joins(&mut self) {
        let Some(Carried(covered)) = self.installed.take() else { return };
        if self.start < covered.last().index && !self.names.holds(covered.last()) {
            self.start = covered.last().index;
            self.names = covered;
        }
    }
}

impl Seat {
    pub(super) fn new(id: NodeId) -> Seat {
        Seat {
            id,
            raft: None,
            disk: Disk::default(),
            life: 0,
            paused_until_us: 0,
            tick_parts: u64::from(MILLION),
            pending: VecDeque::new(),
            syncing: 0,
            held: VecDeque::new(),
            alarms: [Alarm { deadline_us: NEVER, looked_at_us: NEVER }; TIMERS.len()],
            proposals: VecDeque::new(),
            reads: VecDeque::new(),
        }
    }

    /// Begins a life from the disk.
    pub(super) fn start(
        &mut self,
        (configuration, configurations): (Configuration, Vec<(Index, Configuration)>),
        limits: Limits,
    ) -> Start {
        self.life += 1;
        let recovering = self.disk.is_recovering;
        let start = Start {
            id: self.id,
            hard_state: self.disk.hard_state,
            configuration,
            log: self.disk.log(),
            commit: self.disk.applied,
            limits,
            configurations,
            recovering: recovering.then_some(RecoveryNumber(u64::from(self.life))),
        };
        self.raft = Some(Raft::new(start.clone()));
        start
    }

    /// Ends a life.
    pub(super) fn end(&mut self, lost: Lost) {
        let Some(raft) = self.raft.take() else { return };
        let survive = match lost {
            Lost::Unwritten => self.syncing,
            Lost::AllBut(survive) => survive,
        };
        // What is applied durably was committed, and durable in the member's own log.
        let applied = raft.commit_index().min(raft.durable_index());
        self.disk.applied = self.disk.applied.max(applied);
        for pending in self.pending.drain(..).take(survive) {
            self.disk.write(&pending);
        }
        self.life += 1;
        self.syncing = 0;
        self.held.clear();
        self.alarms = [Alarm { deadline_us: NEVER, looked_at_us: NEVER }; TIMERS.len()];
        self.proposals.clear();
        self.reads.clear();
    }

    /// Takes a write from the module.
    pub(super) fn write(&mut self, write: Write) {
        let last = self.raft.as_ref().expect("it runs").last_position();
        let installed = self.disk.installed.as_ref().filter(|_| write.anew.is_some());
        let anew = installed.map(|carried| carried.0.clone());
        assert!(anew.is_none() || anew.as_ref().map(Names::last) == Some(last.into()), "anew");
        self.pending.push_back(Pending { write, anew, last });
    }

    /// A snapshot of all that is applied.
    pub(super) fn snapshot(&self) -> Carried {
        let mut names = self.disk.names.clone();
        names.truncate(self.applied());
        Carried(names)
    }

    /// The state machine has installed a snapshot, unless it is ahead of that.
    pub(super) fn install(&mut self, carried: Carried) {
        let index = carried.last().index;
        let applied = self.raft.as_ref().map_or(self.disk.applied, Raft::commit_index);
        if applied.max(self.disk.applied) < index {
            self.disk.applied = index;
            self.disk.installed = Some(carried);
        }
    }

    /// Holds a message back until a write is durable.
    pub(super) fn hold(&mut self, after: WriteNumber, to: NodeId, message: Message) {
        self.held.push_back((after, to, message));
    }

    /// Begins a sync, if something is to be written and none is under way.
    pub(super) fn begins_sync(&mut self) -> bool {
        let begins = self.syncing == 0 && !self.pending.is_empty();
        if begins {
            self.syncing = self.pending.len();
        }
        begins
    }

    /// The sync is done: the newest write in it, and the log's end as of that.
    pub(super) fn ends_sync(&mut self) -> (WriteNumber, Position) {
        let mut newest = (WriteNumber(0), Position::default());
        for pending in self.pending.drain(..self.syncing) {
            self.disk.write(&pending);
            newest = (pending.write.number, pending.last);
        }
        self.syncing = 0;
        newest
    }

    /// The messages that waited for this write.
    pub(super) fn release(&mut self, write: WriteNumber, released: &mut Vec<(NodeId, Message)>) {
        while let Some((_, to, message)) = take_first(&mut self.held, |(after, ..)| *after <= write)
        {
            released.push((to, message));
        }
    }

    /// Whether no write is under way.
    pub(super) fn is_written(&self) -> bool {
        self.pending.is_empty()
    }

    /// How many writes are under way.
    pub(super) fn writes(&self) -> usize {
        self.pending.len()
    }

    /// How far the log may be cut: what is applied durably.
    pub(super) fn applied(&self) -> Index {
        let live = self.raft.as_ref();
        live.map_or(self.disk.applied, |raft| raft.commit_index().min(raft.durable_index()))
    }

    /// Where the member's log ends durably.
    pub(super) fn durable(&self) -> Index {
        let live = self.raft.as_ref();
        live.map_or(self.disk.names.last().index, Raft::durable_index)
    }

    /// Cuts the log before `index`, all of whose entries are durable and applied.
    pub(super) fn cut(&mut self, index: Index) {
        let Some(raft) = &mut self.raft else { return };
        let Some(term) = raft.term_at(index) else { return };
        raft.compact(Position { index, term });
        self.disk.start = self.disk.start.max(index);
        self.disk.applied = self.disk.applied.max(index);
    }

    /// Sets a timer. Answers when the queue has to look at it, if it will not do so in time.
    pub(super) fn set(&mut self, timer: Timer, at_us: u64) -> Option<u64> {
        let alarm = &mut self.alarms[timer as usize];
        alarm.deadline_us = at_us;
        if alarm.looked_at_us <= at_us {
            return None;
        }
        alarm.looked_at_us = at_us;
        Some(at_us)
    }

    /// The queue looks at a timer.
    pub(super) fn look(&mut self, timer: Timer, now_us: u64) -> Look {
        let alarm = &mut self.alarms[timer as usize];
        if alarm.looked_at_us != now_us {
            return Look::Stale;
        }
        if alarm.deadline_us <= now_us {
            *alarm = Alarm { deadline_us: NEVER, looked_at_us: NEVER };
            return Look::Fires;
        }
        alarm.looked_at_us = alarm.deadline_us;
        Look::Again(alarm.deadline_us)
    }
}

/// What the queue finds when it looks at a timer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Look {
    /// It fires.
    Fires,
    /// It was restarted; look again then.
    Again(u64),
    /// Another look comes first.
    Stale,
}
