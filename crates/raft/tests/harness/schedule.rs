//! Random schedules over a cluster: steps, losses, crashes, cuts and elections in any order, with
//! every fact held against every earlier one, and a recovery at the end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jangada_raft::{
    Configuration, Index, Input, Limits, NodeId, Output, Raft, ReadRound, RoleKind, Term, Timer,
    invariants,
};

use super::{Cluster, Event, Member};

/// Decides everything: first some bytes, one decision each, which a fuzzer changes; then a small
/// generator (xorshift64*), so that a schedule is the same everywhere and for ever.
pub(crate) struct Random {
    bytes: VecDeque<u8>,
    state: u64,
}

impl Random {
    pub(crate) fn of_seed(seed: u64) -> Random {
        let state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        Random { bytes: VecDeque::new(), state }
    }

    pub(crate) fn of_bytes(bytes: &[u8]) -> Random {
        let seed = bytes.iter().fold(bytes.len() as u64, |seed, byte| {
            (seed ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3).rotate_left(29)
        });
        Random { bytes: bytes.iter().copied().collect(), ..Random::of_seed(seed) }
    }

    fn below(&mut self, bound: u64) -> u64 {
        if let Some(byte) = self.bytes.pop_front() {
            return u64::from(byte) % bound;
        }
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        (self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

/// What outside observers know: facts that no later step may contradict.
#[derive(Default)]
pub(crate) struct Facts {
    leaders: BTreeMap<Term, NodeId>,
    /// For each committed entry its term, and the first term in which it was seen to be committed.
    committed: BTreeMap<Index, (Term, Term)>,
    /// For each read that waits: the member, its round, and the commit index when it came.
    reads: Vec<(NodeId, ReadRound, Index)>,
    pub(crate) reads_done: u64,
    pub(crate) elections: u64,
}

/// The faults of one schedule, in percent of the occasions. Most schedules have few kinds, so that
/// long quiet growth happens too.
struct Faults {
    loss: u64,
    duplication: u64,
    reordering: u64,
    crash: u64,
    slow_disk: u64,
    elections: u64,
    /// How often the links that work are drawn anew.
    partition: u64,
    /// The links that lose everything at the moment.
    cut: BTreeSet<(NodeId, NodeId)>,
}

impl Faults {
    fn draw(random: &mut Random) -> Faults {
        let mut some = |most: u64| if random.percent(50) { random.below(most) } else { 0 };
        Faults {
            loss: some(30),
            duplication: some(20),
            reordering: some(60),
            crash: some(6),
            slow_disk: some(90),
            elections: 1 + some(30),
            partition: some(4),
            cut: BTreeSet::new(),
        }
    }
}

impl Facts {
    pub(crate) fn highest(&self) -> Index {
        self.committed.keys().next_back().copied().unwrap_or_default()
    }

    /// Checks what a member did against what is known, and learns from it.
    fn observe(&mut self, cluster: &mut Cluster, id: NodeId) {
        for event in std::mem::take(&mut cluster.events) {
            let Event::Output(member, output) = event else { continue };
            let Some(raft) = cluster.members[&member].raft.as_ref() else { continue };
            match output {
                Output::Changed(standing) => {
                    self.reads.retain(|(reader, ..)| *reader != member);
                    if standing.role == RoleKind::Leader {
                        self.elections += 1;
                        let known = self.leaders.insert(standing.term, member);
                        assert!(known.is_none_or(|known| known == member), "election safety");
                        // A leader that is elected late, when a later term is at work, may lack what
                        // that one has committed.
                        let before = |(_, (_, at)): &(&Index, &(Term, Term))| *at < standing.term;
                        for (index, (term, _)) in self.committed.iter().filter(before) {
                            let held = raft.term_at(*index);
                            let cut = *index < raft.first_position().index;
                            assert!(cut || held == Some(*term), "leader completeness at {index}");
                        }
                    }
                }
                Output::Commit(commit) => {
                    for index in raft.first_position().index.0.max(1)..=commit.0 {
                        let term = raft.term_at(Index(index)).expect("committed is in the log");
                        let fact = self.committed.entry(Index(index));
                        let (known, _) = fact.or_insert((term, raft.term()));
                        assert!(*known == term, "state machine safety");
                    }
                }
                Output::ReadQueued(round) => {
                    let highest = self.highest();
                    self.reads.push((member, round, highest));
                }
                Output::ReadsReady { round, index } => {
                    self.reads.retain(|(reader, waits, committed)| {
                        let runs = *reader == member && *waits <= round;
                        assert!(!runs || *committed <= index, "a read misses what was committed");
                        self.reads_done += u64::from(runs);
                        !runs
                    });
                }
                _ => {}
            }
        }
        if !cluster.is_running(id) {
            self.reads.retain(|(reader, ..)| *reader != id);
        }
    }
}

/// One schedule. Returns how much came of it, so that a test can tell that something did.
pub(crate) fn run(mut random: Random, configuration: &Configuration, steps: u64) -> Facts {
    let mut faults = Faults::draw(&mut random);
    let mut cluster = Cluster::with_configuration(configuration.clone());
    let members = cluster.members.len() as u64;
    if random.percent(50) {
        // Tight bounds, so that windows fill.
        cluster.limits = Limits {
            append_bytes_max: 30,
            inflight_messages_max: 3,
            inflight_bytes_max: 60,
            uncommitted_bytes_max: 200,
        };
        (1..=members).for_each(|id| cluster.restart(NodeId(id)));
    }
    let mut facts = Facts::default();
    for step in 0..steps {
        let id = NodeId(1 + random.below(members));
        act(&mut cluster, &mut random, &mut faults, id);
        facts.observe(&mut cluster, id);
        if step % 16 == 0 {
            invariants::check_cluster(&cluster.running());
        }
    }
    heal(&mut cluster, &mut random, &mut facts);
    facts
}

fn act(cluster: &mut Cluster, random: &mut Random, faults: &mut Faults, id: NodeId) {
    let other = NodeId(1 + random.below(cluster.members.len() as u64));
    if !cluster.is_running(id) {
        if random.percent(10) {
            cluster.restart(id);
        }
        return;
    }
    if random.percent(faults.crash) && random.percent(20) {
        let survive = random.below(4) as usize;
        return cluster.crash(id, survive);
    }
    if random.percent(faults.partition) && random.percent(25) {
        faults.cut = draw_cut(random, cluster.members.len() as u64);
    }
    // A short tour: a member's patience ends while the others' has ended too.
    if random.percent(faults.elections) && random.percent(10) {
        cluster.members.keys().copied().collect::<Vec<_>>().into_iter().for_each(|other| {
            cluster.step(other, Input::Timer(Timer::Quiet));
        });
        cluster.step(id, Input::Timer(Timer::Election));
    }
    match random.below(100) {
        0..55 => receive(cluster, random, faults, id),
        55..70 if !random.percent(faults.slow_disk) => {
            cluster.persist(id);
        }
        55..70 => {}
        70..78 => cluster.step(id, Input::Propose { entries: 1 + random.below(3), bytes: 20 }),
        78..82 => cluster.step(id, Input::Read),
        82..87 => cluster.step(id, Input::Timer(Timer::Heartbeat)),
        87..89 => cluster.step(id, Input::Timer(Timer::Quiet)),
        89 if random.percent(30 + 2 * faults.elections) => {
            cluster.step(id, Input::Timer(Timer::Election));
        }
        90..92 => cluster.step(id, Input::Timer(Timer::ElectionSoon)),
        92 if random.percent(faults.elections) => {
            cluster.step(id, Input::Timer(Timer::QuorumCheck));
        }
        93 if random.percent(faults.elections) => cluster.step(id, Input::PeerDown(other)),
        94 => cluster.step(id, Input::PeerUp(other)),
        95 if random.percent(faults.loss) => cluster.step(id, Input::Unreachable(other)),
        96 => compact(cluster, random, id),
        _ => {}
    }
    if random.percent(70) {
        cluster.flush(id);
    }
}

/// Mostly none; else one member cut off, each link by a coin, or one direction only.
fn draw_cut(random: &mut Random, members: u64) -> BTreeSet<(NodeId, NodeId)> {
    let shape = random.below(4);
    let alone = NodeId(1 + random.below(members));
    let links =
        (1..=members).flat_map(|from| (1..=members).map(move |to| (NodeId(from), NodeId(to))));
    links
        .filter(|(from, to)| match shape {
            0 => false,
            1 => *from == alone || *to == alone,
            2 => *from == alone,
            _ => random.percent(40),
        })
        .collect()
}

fn receive(cluster: &mut Cluster, random: &mut Random, faults: &Faults, to: NodeId) {
    let from = NodeId(1 + random.below(cluster.members.len() as u64));
    let Some(link) = cluster.network.get_mut(&(from, to)).filter(|link| !link.is_empty()) else {
        return;
    };
    let place = if random.percent(faults.reordering) { random.below(link.len() as u64) } else { 0 };
    let message = link.remove(place as usize).expect("the place lies in the link");
    if random.percent(faults.loss) || faults.cut.contains(&(from, to)) {
        return;
    }
    if random.percent(faults.duplication) {
        link.push_back(message.clone());
    }
    cluster.step(to, Input::Receive { from, message });
}

/// Cuts a log where the node would: behind what everyone holds, the members that are down included.
fn compact(cluster: &mut Cluster, random: &mut Random, id: NodeId) {
    let bound = |member: &Member| {
        let durable = member.disk.names().last;
        let applied = |raft: &Raft| raft.durable_index().min(raft.commit_index());
        durable.min(member.raft.as_ref().map_or(member.disk.applied, applied))
    };
    let Some(bound) = cluster.members.values().map(bound).min() else { return };
    let start = cluster.raft(id.0).first_position().index;
    if bound <= start || !cluster.members[&id].pending.is_empty() {
        return;
    }
    cluster.cut(id, Index(start.0 + 1 + random.below(bound.0 - start.0)));
}

/// The faults stop. A leader must come, and everything that is proposed must be committed by all.
fn heal(cluster: &mut Cluster, random: &mut Random, facts: &mut Facts) {
    let ids: Vec<NodeId> = cluster.members.keys().copied().collect();
    for id in &ids {
        if !cluster.is_running(*id) {
            cluster.restart(*id);
        }
    }
    for _ in 0..200 {
        let id = ids[random.below(ids.len() as u64) as usize];
        let led = cluster.running().iter().any(|raft| raft.role() == RoleKind::Leader);
        for other in &ids {
            cluster.step(*other, Input::Timer(Timer::Heartbeat));
            if !led {
                cluster.step(*other, Input::Timer(Timer::Quiet));
            }
        }
        cluster.settle();
        if !led {
            cluster.step(id, Input::Timer(Timer::Election));
            cluster.settle();
        }
        facts.observe(cluster, id);
        let lasts = |raft: &&Raft| (raft.commit_index(), raft.last_position());
        let ends: BTreeSet<_> =
            cluster.running().iter().map(lasts).map(|(c, l)| (c, l.index, l.term)).collect();
        let equal = ends.len() == 1 && ends.iter().all(|(commit, last, _)| commit == last);
        if equal && led {
            invariants::check_cluster(&cluster.running());
            return;
        }
    }
    for raft in cluster.running() {
        eprintln!("{raft:#?}");
    }
    panic!("the cluster does not recover");
}
