//! Which partitions Raft survives, and which it does not: `docs/partitions.md`, shown. Each shape is
//! held for thirty election timeouts; then it heals, and all must be well.

use std::collections::{BTreeMap, BTreeSet};

use jangada_raft::{Index, NodeId, RoleKind, Term};
use jangada_sim::application::tally::TallyApplication;
use jangada_sim::world::Happened;
use jangada_sim::{Choices, Topology, World, WorldOptions};

/// The election timeout in microseconds.
const ELECTION_US: u64 = 1_000_000;

/// How long a cluster has to come to terms with a shape: old leaders step down, new ones are found.
const ADAPT_US: u64 = 10 * ELECTION_US;

/// How long a shape is held in all.
const HOLD_US: u64 = 30 * ELECTION_US;

/// How often a client of each member proposes.
const PROPOSE_US: u64 = 100_000;

struct Cluster {
    world: World<TallyApplication>,
    proposed: u64,
    /// Acknowledged proposals, by the member that was asked.
    acknowledged: BTreeMap<NodeId, u64>,
    /// Who led, and in which term.
    leaders: BTreeSet<(NodeId, Term)>,
}

impl Cluster {
    /// A cluster that has found its leader, and which it is.
    fn of(members: u64, seed: u64) -> (Cluster, NodeId) {
        let options = WorldOptions { members, ..WorldOptions::default() };
        let world = World::new(TallyApplication, options, Choices::of_seed(seed));
        let (acknowledged, leaders) = (BTreeMap::new(), BTreeSet::new());
        let mut cluster = Cluster { world, proposed: 0, acknowledged, leaders };
        // All processes start within a short while.
        cluster.pass(PROPOSE_US);
        cluster.serve(ADAPT_US);
        let leader = cluster.leader().expect("a cluster without faults has a leader");
        (cluster, leader)
    }

    /// Lets time pass, with clients of all members proposing.
    fn serve(&mut self, for_us: u64) {
        self.acknowledged.clear();
        self.leaders.clear();
        let end_us = self.world.now_us() + for_us;
        let mut next_us = self.world.now_us();
        while next_us < end_us {
            for member in self.world.members() {
                self.proposed += 1;
                let command = self.proposed.to_le_bytes();
                assert!(self.world.propose(member, &command, 1).is_some(), "nobody dies here");
            }
            next_us += PROPOSE_US;
            self.pass(next_us);
        }
    }

    /// Lets what is due by then happen.
    fn pass(&mut self, until_us: u64) {
        while self.world.advance(until_us).unwrap_or_else(|violation| panic!("{violation}")) {
            while let Some(happened) = self.world.happened() {
                if let Happened::Replied { origin, .. } = happened {
                    // A process is named by its member and its life.
                    *self.acknowledged.entry(NodeId(origin.incarnation >> 32)).or_default() += 1;
                }
            }
        }
        self.leaders.extend(self.leading());
    }

    fn leading(&self) -> Vec<(NodeId, Term)> {
        let standing = |member| Some((member, self.world.status(member)?.standing));
        let standings = self.world.members().into_iter().filter_map(standing);
        let leads = standings.filter(|(_, standing)| standing.role == RoleKind::Leader);
        leads.map(|(member, standing)| (member, standing.term)).collect()
    }

    /// The leader of the highest term.
    fn leader(&self) -> Option<NodeId> {
        self.leading().into_iter().max_by_key(|(_, term)| *term).map(|(member, _)| member)
    }

    fn others(&self, leader: NodeId) -> Vec<NodeId> {
        self.world.members().into_iter().filter(|member| *member != leader).collect()
    }

    fn commit(&self) -> Index {
        let commit = |member| self.world.status(member).map(|status| status.commit);
        self.world.members().into_iter().filter_map(commit).max().expect("members live")
    }

    /// Gives the network a shape and lets the cluster come to terms with it; then these members, and
    /// no others, must serve their clients, under one leader and in one term, for the whole rest of
    /// the time.
    fn survives(&mut self, topology: &Topology, serving: &[NodeId]) -> NodeId {
        self.world.shape(topology);
        self.serve(ADAPT_US);
        let leader = self.leader().unwrap_or_else(|| panic!("{topology}: nobody leads"));
        self.serve(HOLD_US - ADAPT_US);
        let proposals = (HOLD_US - ADAPT_US) / PROPOSE_US;
        for member in self.world.members() {
            let acknowledged = self.acknowledged.get(&member).copied().unwrap_or_default();
            if serving.contains(&member) {
                let most = proposals - 5;
                assert!(most <= acknowledged, "{topology}: {member} acknowledged {acknowledged}");
            } else {
                assert_eq!(acknowledged, 0, "{topology}: {member} serves");
            }
        }
        assert_eq!(self.leaders.len(), 1, "{topology}: {:?} led", self.leaders);
        leader
    }

    /// The network heals, and all is well within ten election timeouts and the time that clients wait
    /// for a leader.
    fn recovers(&mut self) {
        self.world.heal();
        self.serve(ADAPT_US);
        assert!(self.leader().is_some(), "nobody leads\n{}", self.world.describe());
        let end_us = self.world.now_us() + ADAPT_US;
        while !self.world.has_settled() {
            let now_us = self.world.now_us();
            assert!(now_us < end_us, "not settled\n{}", self.world.describe());
            self.pass(now_us + PROPOSE_US);
        }
        let machine = |member| self.world.machine(member).expect("it lives").count();
        let counts: BTreeSet<u64> = self.world.members().into_iter().map(machine).collect();
        assert_eq!(counts.len(), 1, "members have applied the same: {counts:?}");
    }
}

#[test]
fn full_cut_the_majority_goes_on_without_the_leader() {
    let (mut cluster, leader) = Cluster::of(5, 1);
    let others = cluster.others(leader);
    let topology = Topology::Sides(vec![leader, others[0]]);
    let successor = cluster.survives(&topology, &others[1..]);
    assert!(others[1..].contains(&successor));
    cluster.recovers();
}

#[test]
fn full_cut_the_leader_of_the_majority_stays() {
    let (mut cluster, leader) = Cluster::of(5, 2);
    let others = cluster.others(leader);
    let topology = Topology::Sides(others[..2].to_vec());
    let serving: Vec<NodeId> =
        cluster.world.members().into_iter().filter(|m| !others[..2].contains(m)).collect();
    assert_eq!(cluster.survives(&topology, &serving), leader);
    cluster.recovers();
}

#[test]
fn one_way_a_follower_that_cannot_be_heard_or_cannot_hear_disturbs_nobody() {
    for (seed, hears) in [(3, false), (4, true)] {
        let (mut cluster, leader) = Cluster::of(3, seed);
        let others = cluster.others(leader);
        let topology = match hears {
            true => Topology::OneWay(others[0], leader),
            false => Topology::OneWay(leader, others[0]),
        };
        let stays = cluster.survives(&topology, &[leader, others[1]]);
        assert_eq!(stays, leader);
        cluster.recovers();
    }
}

#[test]
fn bridge_the_leaders_side_and_the_bridge_go_on() {
    let (mut cluster, leader) = Cluster::of(5, 5);
    let others = cluster.others(leader);
    let topology = Topology::Bridge { bridge: others[0], side: vec![leader, others[1]] };
    let stays = cluster.survives(&topology, &[leader, others[0], others[1]]);
    assert_eq!(stays, leader);
    cluster.recovers();
}

/// The chained scenario of the OmniPaxos paper.
#[test]
fn chain_of_three_the_leader_at_its_end_stays() {
    let (mut cluster, leader) = Cluster::of(3, 6);
    let others = cluster.others(leader);
    let before = cluster.leading();
    let topology = Topology::Chain(vec![leader, others[0], others[1]]);
    let stays = cluster.survives(&topology, &[leader, others[0]]);
    assert_eq!((stays, cluster.leading()), (leader, before), "the same leader in the same term");
    cluster.recovers();
}

#[test]
fn chain_of_five_a_member_within_it_leads() {
    let (mut cluster, leader) = Cluster::of(5, 7);
    let others = cluster.others(leader);
    let row = vec![leader, others[0], others[1], others[2], others[3]];
    cluster.world.shape(&Topology::Chain(row.clone()));
    cluster.serve(ADAPT_US);
    let successor = cluster.leader().expect("a member within the chain leads");
    let place = row.iter().position(|member| *member == successor).expect("listed");
    let serving = &row[place - 1..=place + 1];
    assert_eq!(cluster.survives(&Topology::Chain(row.clone()), serving), successor);
    assert!(0 < place && place < 4, "it has two neighbours");
    cluster.recovers();
}

/// The quorum loss of the OmniPaxos paper: the leader reaches one member only, which reaches all.
#[test]
fn quorum_loss_the_one_member_that_reaches_all_leads() {
    let (mut cluster, leader) = Cluster::of(5, 8);
    let middle = cluster.others(leader)[0];
    let all = cluster.world.members();
    assert_eq!(cluster.survives(&Topology::Star(middle), &all), middle);
    cluster.recovers();
}

/// The constrained election of the OmniPaxos paper: the one member that reaches a quorum lacks
/// entries that are committed. Its voters must refuse it (§5.4.1), and reach nobody else.
#[test]
fn constrained_election_nobody_can_lead_until_the_network_heals() {
    let (mut cluster, leader) = Cluster::of(5, 9);
    let others = cluster.others(leader);
    let middle = others[0];
    // The middle falls behind.
    cluster.survives(&Topology::Sides(vec![middle]), &[leader, others[1], others[2], others[3]]);
    cluster.world.shape(&Topology::StarWithout { middle, alone: leader });
    cluster.serve(ADAPT_US);
    let commit = cluster.commit();
    cluster.serve(HOLD_US - ADAPT_US);
    assert_eq!(cluster.leaders, BTreeSet::new(), "nobody leads");
    assert_eq!((cluster.commit(), &cluster.acknowledged), (commit, &BTreeMap::new()));
    cluster.recovers();
}
