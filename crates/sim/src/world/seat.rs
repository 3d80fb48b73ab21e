//! A member's place in the world: its disk, which outlives its processes, and the process that lives
//! at the moment, with the log and the machine it has opened.
//!
//! Responsible for doing with the log what the shipped runtime's log thread does: one job after the
//! other, segments prepared beside it. Not responsible for time.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::io;

use jangada::{
    Effect, Event, FEATURE_LEVEL, Log, LogBatch, LogCut, LogRead, LogWritten, Member, MemberStart,
    Mend, Now, Record, SavedState, SnapshotWork, StartError, StateMachine, Turn, last_time_ms,
};
use jangada_net::handshake::NEWEST_VERSION;
use jangada_raft::{Configuration, HardState, NodeId, Range, RoleKind, Term};
use jangada_wal::{
    Identity, Machine as Holds, OpenError, Options, Preparation, Report, Space, Wal, WalError,
};

use crate::application::{Application, Seen, Witness};
use crate::disk::ledger::Damage;
use crate::disk::rot::Aim;
use crate::disk::{DiskHandle, SimDisk};
use crate::world::clocks::Clocks;
use crate::world::operator::address;
use crate::world::programs::Program;
use crate::world::sick::{Stall, WriteUnderWay};

/// The log's segments are small, so that runs of seconds roll and cut them.
const SEGMENT_BYTES: (u64, u64) = (64 << 10, 256 << 10);

/// How often it is looked whether a disk hangs no more, in microseconds.
const HUNG_LOOK_US: u64 = 100_000;

/// The cluster's id.
const CLUSTER: u64 = 0x6a61_6e67_6164_6121;

/// How a member came to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Origin {
    /// One of those that the cluster began with.
    Founds,
    /// Added later: it knows no members before it is told.
    Joins,
}

/// A member's place.
pub(crate) struct Seat<A: Application> {
    pub(crate) id: NodeId,
    pub(crate) origin: Origin,
    /// The version of its last process.
    pub(crate) program: Program,
    /// Whether it was removed and has stopped: it never comes back.
    pub(crate) gone: bool,
    /// Whom a server that joins is told of.
    pub(crate) roster: BTreeSet<NodeId>,
    /// Whom this life has met that its configuration does not hold.
    pub(crate) guests: BTreeSet<NodeId>,
    /// Who was removed, as this life knows.
    pub(crate) turns_away: BTreeSet<NodeId>,
    pub(crate) disk: SimDisk,
    /// Names the life of the disk's contents.
    pub(crate) incarnation: u64,
    /// Rises with each end of a process; what was to happen to an earlier one does not.
    pub(crate) life: u64,
    pub(crate) running: Option<Running<A>>,
    /// When the next step is due, if one is.
    pub(crate) step_at_us: Option<u64>,
    /// When the machine's worker works next, if it does.
    pub(crate) work_at_us: Option<u64>,
    /// When the member last began to stand still, and until when it does.
    pub(crate) paused_since_us: u64,
    pub(crate) paused_until_us: u64,
    /// What keeps the disk from completing syncs, or did last.
    pub(crate) stall: Option<Stall>,
    /// The write of the log that is under way.
    pub(crate) write: Option<WriteUnderWay>,
    pub(crate) clocks: Clocks,
    /// The bit that flips when the log is opened next.
    pub(crate) aim: Option<Aim>,
    /// The bit that has flipped, until the ledger has it.
    pub(crate) flipped: Option<Damage>,
    /// Whether the member has refused what its disk holds: it never comes back.
    pub(crate) refused: bool,
    /// How the member stood when all logs were compared last.
    pub(crate) stood: Option<(RoleKind, Term)>,
}

/// A process that lives.
pub(crate) struct Running<A: Application> {
    pub(crate) member: Member<Witness<A::Machine>>,
    wal: Wal<DiskHandle>,
    handle: DiskHandle,
    worker: A::Worker,
    /// Names this process.
    pub(crate) process: u64,
    /// The number of the last proposal.
    pub(crate) sequence: u64,
    /// The number of the last batch of reads.
    pub(crate) batch: u64,
    pub(crate) seen: Seen,
    pub(crate) inbox: Vec<Event>,
    pub(crate) effects: Vec<Effect<<A::Machine as StateMachine>::Reply>>,
    pub(crate) jobs: VecDeque<Job>,
    /// Whether the first job is under way.
    pub(crate) working: bool,
    /// Whether the member was told that its log wants space.
    log_full: bool,
    preparation: Option<Preparation>,
    /// What the log held at the start.
    pub(crate) hard_state: HardState,
    pub(crate) log: Range,
    pub(crate) report: Report,
}

/// What the log is asked to do.
#[derive(Debug)]
pub(crate) enum Job {
    Write(LogBatch),
    Read(LogRead),
    Cut(LogCut),
    Mend(Mend),
    Snapshot(SnapshotWork),
    Save(SavedState),
}

/// What became of a job.
pub(crate) enum LogOutcome {
    /// A part of it is done; the rest comes after the other jobs.
    More,
    Done(Event),
    /// The disk is full; the job is still the first.
    Full,
}

/// Why a process cannot go on.
#[derive(Debug)]
pub(crate) enum Upset {
    Io(io::Error),
    Open(OpenError),
    Wal(WalError),
    Start(String),
    /// The member was removed from its cluster.
    Removed(NodeId),
    /// The cluster has a version that the program does not speak.
    TooOld,
}

impl fmt::Display for Upset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Upset::Io(error) => error.fmt(f),
            Upset::Open(error) => error.fmt(f),
            Upset::Wal(error) => error.fmt(f),
            Upset::Start(text) => text.fmt(f),
            Upset::Removed(id) => write!(f, "member {id} was removed"),
            Upset::TooOld => f.write_str("the program is too old for the cluster"),
        }
    }
}

impl From<io::Error> for Upset {
    fn from(error: io::Error) -> Upset {
        Upset::Io(error)
    }
}

impl From<OpenError> for Upset {
    fn from(error: OpenError) -> Upset {
        Upset::Open(error)
    }
}

impl From<WalError> for Upset {
    fn from(error: WalError) -> Upset {
        Upset::Wal(error)
    }
}

impl Upset {
    pub(crate) fn is_full(&self) -> bool {
        match self {
            Upset::Io(error) => error.kind() == io::ErrorKind::StorageFull,
            Upset::Open(error) => matches!(error, OpenError::Full),
            Upset::Wal(error) => matches!(error, WalError::Full),
            Upset::Start(_) | Upset::Removed(_) | Upset::TooOld => false,
        }
    }
}

impl<A: Application> Seat<A> {
    pub(crate) fn new(id: NodeId, origin: Origin) -> Seat<A> {
        Seat {
            id,
            origin,
            program: Program { wire: NEWEST_VERSION, level: FEATURE_LEVEL },
            gone: false,
            roster: BTreeSet::new(),
            guests: BTreeSet::new(),
            turns_away: BTreeSet::new(),
            disk: SimDisk::new(),
            incarnation: 0x1000 + id.0,
            life: 0,
            running: None,
            step_at_us: None,
            work_at_us: None,
            paused_since_us: 0,
            paused_until_us: 0,
            stall: None,
            write: None,
            clocks: Clocks::default(),
            aim: None,
            flipped: None,
            refused: false,
            stood: None,
        }
    }

    /// The name of the next process, never used before.
    pub(crate) fn next_process(&self) -> u64 {
        (self.id.0 << 32) + self.life + 1
    }

    /// Opens log and machine and joins them in a member.
    pub(crate) fn open(
        &mut self,
        application: &A,
        members: &[NodeId],
        options: jangada::Options,
        now: Now,
        seed: u64,
    ) -> Result<Running<A>, Upset> {
        let handle = self.disk.handle();
        let (machine, worker) = application.open(&handle, self.id)?;
        let saved = SavedState::load(&handle).map_err(|e| Upset::Start(e.to_string()))?;
        let kept = saved.as_ref().map(|saved| saved.record.clone());
        let record = match kept.or_else(|| machine.recovered()) {
            Some(bytes) => Record::decode(&bytes).map_err(|e| Upset::Start(e.to_string()))?,
            None => Record::default(),
        };
        if let Some(aim) = self.aim.take() {
            self.flipped = aim.flip(&self.disk, record.applied.index);
        }
        let machine_holds = Holds {
            applied: record.applied,
            configuration: match record.membership.configuration() {
                // Nothing was applied yet.
                none if *none == Configuration::default() => self.first(members),
                known => known.clone(),
            },
        };
        let (wal, recovered) = self.open_log(&handle, &machine_holds, members, seed)?;
        let time_ms = last_time_ms(&wal, &recovered)?;
        let process = self.next_process();
        let start = MemberStart {
            id: self.id,
            group: 0,
            process,
            hard_state: recovered.hard_state,
            configuration: recovered.base_configuration,
            configurations: recovered.configurations,
            log: recovered.range.clone(),
            time_ms,
            note: recovered.note,
            level: self.program.level,
            faulty: recovered.faulty,
            recovering: recovered.recovering,
            saved,
            options,
            seed,
        };
        let (machine, seen) = Witness::new(machine, A::mistaken);
        let member = Member::new(now, start, machine).map_err(|error| match error {
            StartError::Removed(id) => Upset::Removed(id),
            StartError::Version { .. } => Upset::TooOld,
            error => Upset::Start(error.to_string()),
        })?;
        Ok(Running {
            member,
            wal,
            handle,
            worker,
            process,
            sequence: 0,
            batch: 0,
            seen,
            inbox: Vec::new(),
            effects: Vec::new(),
            jobs: VecDeque::new(),
            working: false,
            log_full: false,
            preparation: None,
            hard_state: recovered.hard_state,
            log: recovered.range,
            report: recovered.report,
        })
    }

    /// What the log begins with.
    fn first(&self, members: &[NodeId]) -> Configuration {
        match self.origin {
            Origin::Founds => founded(members),
            Origin::Joins => Configuration::default(),
        }
    }

    fn open_log(
        &self,
        handle: &DiskHandle,
        machine: &Holds,
        members: &[NodeId],
        seed: u64,
    ) -> Result<(Wal<DiskHandle>, jangada_wal::Recovered), Upset> {
        let (segment_bytes_min, segment_bytes_max) = SEGMENT_BYTES;
        let options = Options {
            segment_bytes_min,
            segment_bytes_max,
            seed: Some(seed),
            ..Options::default()
        };
        if Wal::exists(handle)? {
            return Ok(Wal::open_beside(handle.clone(), options, machine)?);
        }
        let identity = Identity {
            cluster: CLUSTER,
            member: self.id.0,
            incarnation: self.incarnation,
            group: 0,
        };
        Ok(Wal::create(handle.clone(), options, identity, self.first(members))?)
    }

    /// What the log would recover if the power went at this moment and took with it everything that
    /// is not synced, beside a machine that holds this much. Asked of a copy of the disk.
    pub(crate) fn read_back(&self, machine: &Holds) -> Result<(HardState, Range), Upset> {
        let copy = self.disk.durable_copy();
        let (_, recovered) = self.open_log(&copy.handle(), machine, &[], 0)?;
        Ok((recovered.hard_state, recovered.range))
    }

    /// Until when a sync that is under way is held up, if it is.
    pub(crate) fn held_up_until(&self, now_us: u64) -> Option<u64> {
        let until_us = self.stall.map_or(0, |stall| stall.until_us);
        (now_us < until_us).then(|| until_us.min(now_us + HUNG_LOOK_US))
    }

    /// Whether the log's first job is a write.
    pub(crate) fn writes(&self) -> bool {
        let job = self.running.as_ref().and_then(|running| running.jobs.front());
        matches!(job, Some(Job::Write(_)))
    }

    /// What the member is to be told about its log's space, if that has changed.
    pub(crate) fn log_space(&mut self) -> Option<Event> {
        let running = self.running.as_mut()?;
        let is_full = running.wal.space() == Space::Reserve;
        let changed = std::mem::replace(&mut running.log_full, is_full) != is_full;
        changed.then_some(if is_full { Event::LogFull } else { Event::LogHasSpace })
    }

    /// Whether there is to be another try to make a segment, though nobody writes.
    pub(crate) fn retries_space(&mut self) -> bool {
        let Some(running) = self.running.as_mut().filter(|running| running.log_full) else {
            return false;
        };
        running.wal.retry_space();
        running.wants_preparation()
    }

    /// Does the log's first job.
    pub(crate) fn do_job(&mut self) -> Result<LogOutcome, Upset> {
        let Some(running) = self.running.as_mut() else {
            return Err(Upset::Start("a process that does not live has no jobs".to_owned()));
        };
        let job = running.jobs.front().expect("a job is under way");
        let event = match job {
            Job::Write(batch) => match Log::append(&mut running.wal, batch) {
                Err(WalError::Full) => return Ok(LogOutcome::Full),
                result => {
                    result?;
                    Event::LogWritten(LogWritten { number: batch.number, last: batch.last })
                }
            },
            Job::Read(read) => {
                let frames = Log::read(&mut running.wal, read)?;
                Event::LogRead { reader: read.reader, frames }
            }
            Job::Cut(cut) => Event::LogBegins(Log::cut(&mut running.wal, cut)?),
            Job::Mend(mend) => match Log::mend(&mut running.wal, mend) {
                Err(WalError::Full) => return Ok(LogOutcome::Full),
                mended => Event::Mended(mended?),
            },
            Job::Snapshot(_) => return running.snapshot_turn(),
            Job::Save(state) => match state.save(&running.handle) {
                Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                    return Ok(LogOutcome::Full);
                }
                saved => {
                    saved?;
                    Event::StateSaved(state.told())
                }
            },
        };
        running.jobs.pop_front();
        running.working = false;
        Ok(LogOutcome::Done(event))
    }

    /// Prepares a segment.
    pub(crate) fn prepare(&mut self) -> Result<(), Upset> {
        let Some(running) = self.running.as_mut() else { return Ok(()) };
        if let Some(preparation) = running.preparation.take() {
            match running.wal.prepared(preparation.run(&running.handle)) {
                // Without space the log goes on with the segments it has.
                Ok(()) | Err(WalError::Full) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl<A: Application> Running<A> {
    /// Whether the log has something to prepare that is not under way.
    pub(crate) fn wants_preparation(&mut self) -> bool {
        if self.preparation.is_some() {
            return false;
        }
        self.preparation = self.wal.preparation();
        self.preparation.is_some()
    }

    /// Gives the first job, which is work on a snapshot, a turn.
    fn snapshot_turn(&mut self) -> Result<LogOutcome, Upset> {
        let Some(Job::Snapshot(mut work)) = self.jobs.pop_front() else {
            return Err(Upset::Start("the first job is another one".to_owned()));
        };
        self.working = false;
        match work.turn().map_err(Upset::Start)? {
            Turn::Done => Ok(LogOutcome::Done(Event::SnapshotWorked(work))),
            Turn::More | Turn::Wait(_) => {
                self.jobs.push_back(Job::Snapshot(work));
                Ok(LogOutcome::More)
            }
        }
    }

    /// Whether the log has something to do.
    pub(crate) fn is_busy(&self) -> bool {
        !self.jobs.is_empty() || !self.inbox.is_empty()
    }

    /// The bytes of the log's segments.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.wal.bytes()
    }

    pub(crate) fn worker(&mut self) -> &mut A::Worker {
        &mut self.worker
    }
}

/// What the cluster begins with.
fn founded(members: &[NodeId]) -> Configuration {
    let addresses = members.iter().map(|id| (*id, vec![address(*id)])).collect();
    Configuration { addresses, ..Configuration::of_voters(members.iter().copied()) }
}
