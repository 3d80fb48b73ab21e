//! Random schedules over a cluster: steps, losses, crashes, completions late or merged, cuts and
//! elections in any order, with every fact held against every earlier one; then the faults stop for a
//! connected majority, which must recover.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jangada_raft::{
    CatchUp, Configuration, Index, Input, Limits, MemberChange, Message, NodeId, Output, Raft,
    ReadRound, RoleKind, Term, Timer, invariants,
};

use super::{Cluster, Disk, Event, Member};

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
    /// The committed configurations.
    configurations: BTreeMap<Index, Configuration>,
    /// Who was asked by its leader to stand, and the term it would stand for.
    summoned: BTreeSet<(NodeId, Term)>,
    /// Who has leave to stand for which term, by whom.
    leaves: BTreeMap<(NodeId, Term), BTreeSet<NodeId>>,
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
    /// How often leadership is handed over, or the leader given up.
    transfers: u64,
    /// How often another membership is asked for.
    changes: u64,
    /// How often a log is cut without regard to the others.
    cuts: u64,
    /// How often a member restarts without what it last wrote to its log.
    rot: u64,
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
            transfers: some(20),
            changes: 0,
            cuts: some(100),
            rot: some(60),
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
            let (member, output) = match event {
                Event::Output(member, output) => (member, output),
                Event::Sent(voter, candidate, Message::PreVoteResponse(leave)) => {
                    if leave.granted {
                        self.leaves.entry((candidate, leave.term)).or_default().insert(voter);
                    }
                    continue;
                }
                Event::Sent(leader, to, Message::TimeoutNow(summons)) => {
                    self.summoned.insert((to, Term(summons.term.0 + 1)));
                    if let Some(raft) = cluster.members[&leader].raft.as_ref() {
                        let target = raft.transfer_target();
                        let over = raft.term() != summons.term || target.is_none();
                        assert!(over || target == Some(to), "the one asked for is asked to stand");
                    }
                    continue;
                }
                Event::Stands(candidate, term, configuration) => {
                    let leaves = self.leaves.get(&(candidate, term));
                    let gave = |id| id == candidate || leaves.is_some_and(|ids| ids.contains(&id));
                    let stands = configuration.agrees(gave);
                    assert!(
                        stands || self.summoned.contains(&(candidate, term)),
                        "who stands has the leave of a quorum (thesis §9.6)"
                    );
                    continue;
                }
                Event::Sent(..) => continue,
            };
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
                    for (index, configuration) in raft.configurations() {
                        if *index <= commit {
                            let known = self.configurations.entry(*index);
                            let known = known.or_insert_with(|| configuration.clone());
                            assert!(known == configuration, "committed configurations are equal");
                        }
                    }
                    // Also where its entry was cut off, or came with a snapshot.
                    let newest = self.configurations.range(..=commit).next_back();
                    let goes_by = raft.configuration_at(commit);
                    let is_cut = goes_by.is_none();
                    assert!(
                        is_cut || newest.is_none_or(|(_, newest)| Some(newest) == goes_by),
                        "the newest committed configuration is the one that is gone by"
                    );
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
pub(crate) fn run(random: Random, configuration: &Configuration, steps: u64) -> Facts {
    run_with_joiners(random, configuration, 0, steps)
}

/// One schedule in which the membership changes too, with so many more members that may join.
pub(crate) fn run_with_joiners(
    mut random: Random,
    configuration: &Configuration,
    joiners: u64,
    steps: u64,
) -> Facts {
    let mut faults = Faults::draw(&mut random);
    let mut cluster = Cluster::with_configuration(configuration.clone());
    if 0 < joiners {
        faults.changes = 20 + random.below(80);
        let members = cluster.members.len() as u64;
        let ids = (1..=joiners).map(|joiner| NodeId(members + joiner));
        ids.for_each(|id| cluster.start(id, Disk::of_joiner()));
    }
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
            if random.percent(faults.rot) && may_rot(cluster, id) {
                cluster.rot(id, 1 + random.below(4) as usize);
            }
            cluster.restart(id);
        }
        return;
    }
    if random.percent(15) {
        snapshot(cluster, random, id);
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
            let most = cluster.members[&id].pending.len() as u64;
            cluster.persist_merged(id, (1 + random.below(3)).min(most) as usize);
        }
        55..58 if random.percent(30) => {
            cluster.complete_again(id, 1 + random.below(6) as usize);
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
        96 => compact(cluster, random, faults, id),
        97 if random.percent(faults.changes) => {
            let change = draw_change(cluster, random);
            cluster.step(id, Input::ChangeMembers(change));
        }
        98 if random.percent(faults.transfers) => {
            let to = random.percent(70).then_some(other);
            cluster.step(id, Input::TransferLeadership { to });
        }
        99 if random.percent(faults.transfers) => match random.below(4) {
            0 => cluster.step(id, Input::ForgetLeader),
            1 => cluster.step(id, Input::StepDown),
            _ => cluster.step(id, Input::Timer(Timer::Transfer)),
        },
        _ => {}
    }
    if random.percent(70) {
        cluster.flush(id);
    }
}

/// Any membership of those that there are.
fn draw_change(cluster: &Cluster, random: &mut Random) -> MemberChange {
    let mut change = MemberChange::default();
    for id in cluster.members.keys() {
        match random.below(10) {
            0..5 => change.voters.push(*id),
            5..7 => change.learners.push(*id),
            _ => {}
        }
    }
    change.catch_up = if random.percent(50) { CatchUp::First } else { CatchUp::Skip };
    change
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

/// Something becomes of a snapshot that a member is sending: it arrives, as it was made when it was asked
/// for or later, or it is lost, or the receiver crashes before its log follows its state machine.
fn snapshot(cluster: &mut Cluster, random: &mut Random, from: NodeId) {
    let under_way = cluster.transfers.iter().filter(|((sender, _), _)| *sender == from);
    let all: Vec<_> = under_way.map(|((_, to), (term, made))| (*to, *term, made.clone())).collect();
    if all.is_empty() {
        return;
    }
    let (to, term, made) = all[random.below(all.len() as u64) as usize].clone();
    match random.below(10) {
        0..4 => {
            cluster.deliver_snapshot(from, to, None);
        }
        4..6 => {
            cluster.deliver_snapshot(from, to, Some(made));
        }
        6..8 => {
            cluster.fail_snapshot(from, to);
        }
        8 => {
            let raft = cluster.members[&to].raft.as_ref();
            if raft.is_some_and(|raft| term <= raft.term() && raft.is_hard_state_durable()) {
                cluster.hold_snapshot(to, made);
                cluster.crash(to, random.below(4) as usize);
                cluster.fail_snapshot(from, to);
            }
        }
        _ => {}
    }
    cluster.flush(to);
}

/// Whether a member may lose what it last wrote without the cluster coming to a stand: the others that
/// have lost nothing must be a quorum.
fn may_rot(cluster: &Cluster, id: NodeId) -> bool {
    is_sound(cluster, &BTreeSet::from([id]))
}

/// Cuts a log where the node would: behind what everyone holds, the members that are down included, or
/// behind what the member itself has applied.
fn compact(cluster: &mut Cluster, random: &mut Random, faults: &Faults, id: NodeId) {
    let bound = |member: &Member| {
        let durable = member.disk.names().last;
        let applied = |raft: &Raft| raft.durable_index().min(raft.commit_index());
        durable.min(member.raft.as_ref().map_or(member.disk.applied, applied))
    };
    let own = bound(&cluster.members[&id]);
    let least = cluster.members.values().map(bound).min();
    let bound = if random.percent(faults.cuts) { own } else { least.unwrap_or(own) };
    let start = cluster.raft(id.0).first_position().index;
    if bound <= start || !cluster.members[&id].pending.is_empty() {
        return;
    }
    cluster.cut(id, Index(start.0 + 1 + random.below(bound.0 - start.0)));
}

/// How many rounds of timers a majority has to recover in.
const ROUNDS_MAX: usize = 200;

/// The faults stop for a majority whose members all reach one another. A leader must come, and all
/// that is in its log must be committed; by every member of the majority, unless somebody outside
/// leads, whom not all of them may hear. Those outside are down, or linked to some of the others
/// only, in one direction or both.
fn heal(cluster: &mut Cluster, random: &mut Random, facts: &mut Facts) {
    let apart = draw_apart(cluster, random);
    if !is_sound(cluster, &apart) {
        return; // The membership has come to rest on one that is recovering.
    }
    let ids: Vec<NodeId> = cluster.members.keys().copied().collect();
    for id in &ids {
        let stays_down = apart.contains(id) && random.percent(40);
        match cluster.is_running(*id) {
            false if !stays_down => cluster.restart(*id),
            true if stays_down => cluster.crash(*id, random.below(4) as usize),
            _ => {}
        }
    }
    let links = ids.iter().flat_map(|from| ids.iter().map(move |to| (*from, *to)));
    let outer = links.filter(|(from, to)| apart.contains(from) || apart.contains(to));
    cluster.cut = outer.filter(|_| random.percent(60)).collect();
    for _ in 0..ROUNDS_MAX {
        ids.iter().for_each(|id| cluster.step(*id, Input::Timer(Timer::Heartbeat)));
        cluster.settle();
        let patient = hear(cluster, facts);
        if has_recovered(cluster, &apart) {
            invariants::check_cluster(&cluster.running());
            return disturb(cluster, random, facts, &apart);
        }
        ids.iter().for_each(|id| cluster.step(*id, Input::Timer(Timer::QuorumCheck)));
        ids.iter().for_each(|id| cluster.step(*id, Input::Timer(Timer::Transfer)));
        let lost: Vec<NodeId> = ids.iter().copied().filter(|id| !patient.contains(id)).collect();
        lost.iter().for_each(|id| cluster.step(*id, Input::Timer(Timer::Quiet)));
        if !lost.is_empty() {
            let id = lost[random.below(lost.len() as u64) as usize];
            cluster.step(id, Input::Timer(Timer::Election));
        }
        cluster.settle();
        hear(cluster, facts);
    }
    for raft in cluster.running() {
        eprintln!("{raft:#?}");
    }
    panic!("the cluster does not recover without {apart:?}, cut: {:?}", cluster.cut);
}

/// Somebody who lost patience, or believes the leader to be gone, unseats no leader that the others
/// hear (thesis §4.2.3, §9.6).
fn disturb(
    cluster: &mut Cluster,
    random: &mut Random,
    facts: &mut Facts,
    apart: &BTreeSet<NodeId>,
) {
    let leads = |raft: &&Raft| raft.role() == RoleKind::Leader;
    let leader = cluster.running().into_iter().filter(leads).max_by_key(|raft| raft.term());
    let Some((leader, term)) = leader.map(|raft| (raft.id(), raft.term())) else { return };
    let configuration = cluster.raft(leader.0).configuration().clone();
    let others = configuration.voters.clone();
    let other = others[random.below(others.len() as u64) as usize];
    let outside = cluster.members.keys().any(|id| {
        apart.contains(id) && cluster.is_running(*id) && term < cluster.raft(id.0).term()
    });
    // Those outside may not hear it, and give the leave that it takes.
    let alone = configuration.agrees(|id| id == other || apart.contains(&id));
    if other == leader || outside || alone || apart.contains(&leader) || apart.contains(&other) {
        return;
    }
    if random.percent(50) {
        cluster.step(other, Input::PeerDown(leader));
        cluster.step(other, Input::Timer(Timer::ElectionSoon));
    } else {
        cluster.step(other, Input::Timer(Timer::Quiet));
        cluster.step(other, Input::Timer(Timer::Election));
    }
    cluster.settle();
    cluster.step(leader, Input::Timer(Timer::Heartbeat));
    cluster.settle();
    facts.observe(cluster, other);
    let stays = cluster.raft(leader.0).standing();
    assert!(
        stays.role == RoleKind::Leader && stays.term == term,
        "{other} unseats {leader}, whom the others hear in term {term}"
    );
}

/// Every configuration that somebody may come to decide by: those in logs, written or not, or on
/// their way to one, and those that follow from them.
fn configurations_at_work(cluster: &Cluster) -> BTreeSet<Vec<NodeId>> {
    let mut all: Vec<Configuration> = Vec::new();
    for member in cluster.members.values() {
        let disk = &member.disk;
        all.extend(
            disk.configurations.last().map(|(_, newest)| newest.clone()).or(disk.base.clone()),
        );
        let pending = member.pending.iter().flat_map(|write| &write.configurations);
        all.extend(pending.map(|(_, configuration)| configuration.clone()));
        if let Some(raft) = &member.raft {
            all.push(raft.configuration().clone());
            all.push(raft.committed_configuration().clone());
        }
    }
    for message in cluster.network.values().flatten() {
        if let Message::AppendRequest(request) = message {
            all.extend(request.configurations.iter().map(|(_, it)| it.clone()));
        }
    }
    all.push(cluster.configuration.clone());
    let halves = all.into_iter().flat_map(|it| [it.voters, it.outgoing, it.target]);
    halves.filter(|half| !half.is_empty()).collect()
}

/// Whether those that have lost nothing and are not apart are a quorum by all that may be decided.
fn is_sound(cluster: &Cluster, apart: &BTreeSet<NodeId>) -> bool {
    let sound = |id| cluster.members[&id].disk.recovering.is_none() && !apart.contains(&id);
    let halves = configurations_at_work(cluster);
    halves.iter().all(|half| Configuration::of_voters(half.clone()).agrees(sound))
}

/// Members without which the others are still a quorum.
fn draw_apart(cluster: &Cluster, random: &mut Random) -> BTreeSet<NodeId> {
    let mut apart = BTreeSet::new();
    for _ in 0..random.below(cluster.members.len() as u64) {
        let id = NodeId(1 + random.below(cluster.members.len() as u64));
        let more: BTreeSet<NodeId> = apart.iter().copied().chain([id]).collect();
        if is_sound(cluster, &more) {
            apart = more;
        }
    }
    apart
}

/// Checks what has happened, and tells who has nothing to wait for an election for: leaders, and
/// those that set their election timer anew.
fn hear(cluster: &mut Cluster, facts: &mut Facts) -> BTreeSet<NodeId> {
    let heard = cluster.events.iter().filter_map(|event| match event {
        Event::Output(id, Output::Restart(Timer::Election)) => Some(*id),
        _ => None,
    });
    let leads = |raft: &&Raft| raft.role() == RoleKind::Leader;
    let leaders = cluster.running().into_iter().filter(leads).map(|raft| raft.id());
    let patient = heard.chain(leaders).collect();
    facts.observe(cluster, cluster.configuration.voters[0]);
    patient
}

fn has_recovered(cluster: &Cluster, apart: &BTreeSet<NodeId>) -> bool {
    let running = cluster.running();
    let leaders = running.iter().filter(|raft| raft.role() == RoleKind::Leader);
    let Some(leader) = leaders.max_by_key(|raft| raft.term()) else { return false };
    let outside = apart.contains(&leader.id());
    let members = leader.configuration();
    let waits = |id: &NodeId| outside || apart.contains(id);
    let done = leader.commit_index() == leader.last_index()
        && !members.is_joint()
        && members.voters.contains(&leader.id())
        && leader.transfer_target().is_none()
        && (members.target.is_empty() || members.target.iter().any(waits));
    let equal = |raft: &&Raft| {
        raft.commit_index() == leader.commit_index()
            && raft.recovering().is_none()
            && raft.last_position() == leader.last_position()
    };
    done && running
        .iter()
        .filter(|raft| !apart.contains(&raft.id()) && members.is_member(raft.id()))
        .all(|raft| outside || equal(raft))
}
