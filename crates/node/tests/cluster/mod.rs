//! Members that are stepped together: their clock, their network and their disks are the test's. A
//! crash takes a process at any of its effects; its disks stay.

#![allow(dead_code, reason = "each test uses a part of it")]

pub(crate) mod machines;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jangada::entry::{Draft, Kind, Origin};
use jangada::net::{Lane, PeerMessage};
use jangada::raft::{Configuration, NodeId, RoleKind};
use jangada::wal::{Identity, Machine, MemoryDisk, Wal};
use jangada::{
    Effect, Event, FEATURE_LEVEL, Log, LogWritten, Member, MemberStart, Now, Options, Record,
    SavedState, SnapshotWork, StartError, Turn, UnsavedState,
};

use machines::{Kept, Remembers};

/// What outlives a process.
#[derive(Clone, Default)]
pub(crate) struct Disks {
    pub(crate) log: MemoryDisk,
    pub(crate) states: MemoryDisk,
    pub(crate) machine: Kept,
}

/// A process.
pub(crate) struct Process<M: Remembers> {
    pub(crate) member: Member<M>,
    wal: Wal<MemoryDisk>,
    events: Vec<Event>,
    works: VecDeque<(u64, SnapshotWork)>,
    /// States that are to be written and saved, and when.
    unsaved: VecDeque<(u64, UnsavedState)>,
}

/// How long it takes until a state is saved: long enough for more to be applied (microseconds).
const SAVING_US: u64 = 20_000;

pub(crate) struct Cluster<M: Remembers> {
    pub(crate) disks: BTreeMap<u64, Disks>,
    pub(crate) running: BTreeMap<u64, Process<M>>,
    pub(crate) options: Options,
    now_us: u64,
    lives: u64,
    sent: VecDeque<(u64, u64, PeerMessage)>,
    /// What is said about snapshots between these does not arrive.
    pub(crate) no_snapshots: BTreeSet<(u64, u64)>,
    /// A process that dies after so many effects more.
    pub(crate) dies: Option<(u64, usize)>,
    /// How many chunks were delivered to each member.
    pub(crate) chunks: BTreeMap<u64, usize>,
    proposed: u64,
    pub(crate) doubtful: BTreeMap<u64, u64>,
}

/// Small logs, so that a few entries are a lot.
pub(crate) fn options() -> Options {
    Options { trailing_bytes_max: 400, save_after_bytes: 300, ..Options::default() }
}

const GROUP: u64 = 0;

impl<M: Remembers> Cluster<M> {
    pub(crate) fn new(members: u64) -> Cluster<M> {
        Cluster::with(members, options())
    }

    pub(crate) fn with(members: u64, options: Options) -> Cluster<M> {
        let mut cluster = Cluster {
            disks: (1..=members).map(|id| (id, Disks::default())).collect(),
            running: BTreeMap::new(),
            options,
            now_us: 0,
            lives: 0,
            sent: VecDeque::new(),
            no_snapshots: BTreeSet::new(),
            dies: None,
            chunks: BTreeMap::new(),
            proposed: 0,
            doubtful: BTreeMap::new(),
        };
        (1..=members).for_each(|id| cluster.start(id).expect("an empty disk is sound"));
        cluster
    }

    /// Opens what the member's disks hold and lets it run.
    pub(crate) fn start(&mut self, id: u64) -> Result<(), StartError> {
        self.lives += 1;
        let disks = self.disks[&id].clone();
        let all = Configuration::of_voters(self.disks.keys().copied().map(NodeId));
        let machine = M::open(disks.machine);
        let saved = SavedState::load(&disks.states).expect("a sound disk");
        let record = saved.as_ref().map(|saved| saved.record.clone()).or(machine.recovered());
        let record = record.map(|bytes| Record::decode(&bytes).expect("a sound record"));
        let record = record.unwrap_or_default();
        let log_options = jangada::wal::Options {
            segment_bytes_min: 4096,
            segment_bytes_max: 4096,
            seed: Some(self.lives),
            ..jangada::wal::Options::default()
        };
        let opened = if Wal::exists(&disks.log).expect("a sound disk") {
            let configuration = match record.membership.configuration() {
                none if *none == Configuration::default() => all,
                known => known.clone(),
            };
            let machine = Machine { applied: record.applied, configuration };
            Wal::open_beside(disks.log, log_options, &machine)
        } else {
            let identity = Identity { cluster: 1, member: id, incarnation: id, group: GROUP };
            Wal::create(disks.log, log_options, identity, all)
        };
        let (wal, recovered) = opened.expect("the log can be opened");
        let start = MemberStart {
            id: NodeId(id),
            group: GROUP,
            process: self.lives,
            hard_state: recovered.hard_state,
            configuration: recovered.base_configuration,
            configurations: recovered.configurations,
            log: recovered.range,
            time_ms: 0,
            note: recovered.note,
            level: FEATURE_LEVEL,
            faulty: recovered.faulty,
            recovering: recovered.recovering,
            saved,
            options: self.options,
            seed: self.lives,
        };
        let now = Now { monotonic_us: self.now_us, wall_ms: 0 };
        let member = Member::new(now, start, machine)?;
        let (events, works, unsaved) = (Vec::new(), VecDeque::new(), VecDeque::new());
        self.running.insert(id, Process { member, wal, events, works, unsaved });
        for peer in self.disks.keys().copied().filter(|peer| *peer != id).collect::<Vec<_>>() {
            for (one, other) in [(id, peer), (peer, id)] {
                if let (true, Some(process)) =
                    (self.running.contains_key(&other), self.running.get_mut(&one))
                {
                    let level = FEATURE_LEVEL;
                    let (peer, incarnation) = (NodeId(other), other);
                    process.events.push(Event::Hello { peer, incarnation, level });
                    process.events.push(Event::PeerUp(peer));
                }
            }
        }
        Ok(())
    }

    /// Takes a process; what it has sent may be lost.
    pub(crate) fn kill(&mut self, id: u64) {
        self.running.remove(&id);
        self.sent.retain(|(from, to, _)| *from != id && *to != id);
        for process in self.running.values_mut() {
            process.events.push(Event::PeerDown(NodeId(id)));
            process.events.push(Event::LaneLost(NodeId(id)));
            process.events.push(Event::SnapshotsLost(NodeId(id)));
        }
    }

    pub(crate) fn member(&self, id: u64) -> &Member<M> {
        &self.running[&id].member
    }

    pub(crate) fn leader(&self) -> Option<u64> {
        let leads = |(_, process): &(&u64, &Process<M>)| {
            process.member.status().standing.role == RoleKind::Leader
        };
        let term = |(_, process): &(&u64, &Process<M>)| process.member.status().standing.term;
        self.running.iter().filter(leads).max_by_key(term).map(|(id, _)| *id)
    }

    /// Proposes commands on the leader, one after the other, and waits until all that live have
    /// applied them.
    pub(crate) fn propose(&mut self, count: u64) {
        for _ in 0..count {
            self.until("there is a leader", |cluster| cluster.leader().is_some());
            let leader = self.leader().expect("just seen");
            self.propose_on(leader);
            let wanted = self.proposed as usize;
            self.until("the leader has applied it", |cluster| {
                cluster
                    .running
                    .get(&leader)
                    .is_some_and(|p| wanted <= p.member.machine().rows().len())
                    || cluster.leader() != Some(leader)
            });
        }
    }

    /// Proposes a command on a leader whom nobody hears, and lets it reach that one's log.
    pub(crate) fn propose_unheard(&mut self, leader: u64) {
        let last = self.member(leader).status().last;
        self.propose_on(leader);
        self.until("it is in the log", |cluster| {
            last < cluster.member(leader).status().last
                && cluster.member(leader).raft().durable_index()
                    == cluster.member(leader).status().last
        });
    }

    fn propose_on(&mut self, leader: u64) {
        self.proposed += 1;
        let command = format!("command {:040}", self.proposed);
        let mut buffer = Draft::buffer(command.len());
        buffer.extend_from_slice(command.as_bytes());
        let origin = Origin { incarnation: 1_000_000, sequence: self.proposed };
        let draft = Draft::new(buffer, Kind::Command, 1, GROUP, origin);
        let process = self.running.get_mut(&leader).expect("it runs");
        process.events.push(Event::Propose(draft));
    }

    /// Waits until all that live have applied the same.
    pub(crate) fn settle(&mut self) {
        self.until("all have applied the same", |cluster| {
            let commit = cluster.running.values().map(|p| p.member.status().commit).max();
            let same = |p: &Process<M>| Some(p.member.status().record.applied.index) == commit;
            cluster.leader().is_some() && cluster.running.values().all(same)
        });
        let all: Vec<_> = self.running.values().map(|p| p.member.machine().rows()).collect();
        assert!(all.iter().all(|rows| *rows == all[0]), "all hold the same");
        let hashes: BTreeSet<u64> =
            self.running.values().map(|p| p.member.status().record.hash).collect();
        assert_eq!(hashes.len(), 1, "all have the same running hash");
    }

    /// Lets time pass until something holds.
    pub(crate) fn until(&mut self, what: &str, holds: impl Fn(&Cluster<M>) -> bool) {
        let end_us = self.now_us + 60_000_000;
        while !holds(self) {
            assert!(self.now_us < end_us, "in time: {what}");
            self.round();
        }
    }

    /// Lets so many microseconds pass.
    pub(crate) fn pass(&mut self, microseconds: u64) {
        let end_us = self.now_us + microseconds;
        while self.now_us < end_us {
            self.round();
        }
    }

    /// Everything that is due, and then time goes on.
    pub(crate) fn round(&mut self) {
        let mut idle = true;
        for id in self.running.keys().copied().collect::<Vec<_>>() {
            idle &= !self.step(id);
        }
        for (from, to, message) in std::mem::take(&mut self.sent) {
            idle = false;
            self.deliver(from, to, message);
        }
        if !idle {
            self.now_us += 10;
            return;
        }
        let works = self.running.values().flat_map(|p| p.works.iter().map(|(at, _)| *at));
        let unsaved = self.running.values().flat_map(|p| p.unsaved.iter().map(|(at, _)| *at));
        let next = self.running.values().map(|p| p.member.next_step_us());
        let next = next.chain(works).chain(unsaved).min();
        self.now_us = next.unwrap_or(0).max(self.now_us + 1);
    }

    fn deliver(&mut self, from: u64, to: u64, message: PeerMessage) {
        let on_snapshots = message.lane() == Lane::Snapshots;
        let cut = on_snapshots && self.no_snapshots.contains(&(from, to));
        if cut || !self.running.contains_key(&to) {
            if let Some(process) = self.running.get_mut(&from) {
                let lost = match message.lane() {
                    Lane::Snapshots => Event::SnapshotsLost(NodeId(to)),
                    _ => Event::LaneLost(NodeId(to)),
                };
                process.events.push(lost);
            }
            return;
        }
        use jangada::net::SnapshotMessage::Chunk;
        if matches!(message, PeerMessage::Snapshot(Chunk(_))) {
            *self.chunks.entry(to).or_default() += 1;
        }
        let process = self.running.get_mut(&to).expect("just seen");
        process.events.push(Event::Received { from: NodeId(from), message });
    }

    /// Steps a member if it has something to do.
    fn step(&mut self, id: u64) -> bool {
        let now = Now { monotonic_us: self.now_us, wall_ms: 0 };
        let mut worked = false;
        let works = std::mem::take(&mut self.running.get_mut(&id).expect("it runs").works);
        for (at, mut work) in works {
            let now_us = self.now_us;
            let process = self.running.get_mut(&id).expect("it runs");
            if now_us < at {
                process.works.push_back((at, work));
                continue;
            }
            worked = true;
            match work.turn().expect("the machine is sound") {
                Turn::Done => process.events.push(Event::SnapshotWorked(work)),
                Turn::More => process.works.push_back((now_us, work)),
                Turn::Wait(microseconds) => process.works.push_back((now_us + microseconds, work)),
            }
            // A piece of work is where a process can die as well.
            if self.dies_now(id) {
                return true;
            }
        }
        let process = self.running.get_mut(&id).expect("it runs");
        let due = |(at, _): &(u64, UnsavedState)| *at <= self.now_us;
        if process.unsaved.front().is_some_and(due) {
            let (_, state) = process.unsaved.pop_front().expect("just seen");
            let state = state.write();
            state.save(&self.disks[&id].states).expect("in memory");
            process.events.push(Event::StateSaved(state.told()));
        }
        if process.events.is_empty() && self.now_us < process.member.next_step_us() {
            return worked;
        }
        let mut events = std::mem::take(&mut process.events);
        let mut effects = Vec::new();
        process.member.step(now, &mut events, &mut effects);
        for effect in effects {
            if self.dies_now(id) {
                return true;
            }
            self.carry_out(id, effect);
        }
        true
    }

    fn dies_now(&mut self, id: u64) -> bool {
        let Some((who, left)) = &mut self.dies else { return false };
        if *who != id {
            return false;
        }
        if 0 < *left {
            *left -= 1;
            return false;
        }
        self.dies = None;
        self.kill(id);
        true
    }

    fn carry_out(&mut self, id: u64, effect: Effect<usize>) {
        let process = self.running.get_mut(&id).expect("it runs");
        let event = match effect {
            Effect::Write(batch) => {
                Log::append(&mut process.wal, &batch).expect("in memory");
                Event::LogWritten(LogWritten { number: batch.number, last: batch.last })
            }
            Effect::Read(read) => {
                let frames = Log::read(&mut process.wal, &read).expect("in memory");
                Event::LogRead { reader: read.reader, frames }
            }
            Effect::Cut(cut) => {
                Event::LogBegins(Log::cut(&mut process.wal, &cut).expect("in memory"))
            }
            Effect::Mend(mend) => {
                Event::Mended(Log::mend(&mut process.wal, &mend).expect("in memory"))
            }
            Effect::SaveState(state) => {
                return process.unsaved.push_back((self.now_us + SAVING_US, state));
            }
            Effect::SnapshotWork(work) => {
                let reads = matches!(work.name(), (_, _, "read"));
                let trusted = process.member.quarantine().is_none();
                assert!(trusted || !reads, "a quarantined member gives nobody its state");
                return process.works.push_back((0, work));
            }
            Effect::Send { to, message } => return self.sent.push_back((id, to.0, message)),
            Effect::Doubt { sequence_max } => {
                self.doubtful.insert(id, sequence_max);
                return;
            }
            _ => return,
        };
        process.events.push(event);
    }

    /// The bytes of a member's log.
    pub(crate) fn log_bytes(&self, id: u64) -> u64 {
        self.running[&id].wal.bytes()
    }
}
