//! What both implementations can do, so that one schedule drives either.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How many ticks an election timeout has; a heartbeat is one.
pub const ELECTION_TICKS: u64 = 10;

/// How many messages may pass in one settling before the cluster counts as never quiet.
const MESSAGES_MAX: usize = 1_000_000;

/// A cluster of one implementation, with its disks, payloads and network. Members are numbered from 1.
/// Elections begin only when the schedule says so.
pub trait Cluster {
    /// Lets a member's clock go on by one tick.
    fn tick(&mut self, member: u64);

    /// Lets a member's election timer fire.
    fn campaign(&mut self, member: u64);

    /// Proposes a command. Whether the member took it.
    fn propose(&mut self, member: u64, command: u64) -> bool;

    /// Delivers at most so many messages on each link, those on cut links to nowhere. Whether there
    /// were any.
    fn deliver(&mut self, links: &Links, each: usize) -> bool;

    /// Ends a member's process. Its disk holds everything that was written.
    fn crash(&mut self, member: u64);

    /// Starts it again.
    fn restart(&mut self, member: u64);

    /// Whether its process runs.
    fn runs(&self, member: u64) -> bool;

    /// Whether it believes to lead.
    fn leads(&self, member: u64) -> bool;

    /// The commands that it has applied, in order.
    fn applied(&self, member: u64) -> &[u64];

    /// The commands whose proposers have seen them committed, in that order.
    fn acknowledged(&self) -> &[u64];

    /// Delivers messages until there are none.
    fn settle(&mut self, links: &Links) {
        for _ in 0..MESSAGES_MAX {
            if !self.deliver(links, 1) {
                return;
            }
        }
        panic!("the cluster never comes to rest");
    }
}

/// Which links lose everything.
#[derive(Clone, Debug, Default)]
pub struct Links {
    cut: BTreeSet<(u64, u64)>,
}

impl Links {
    pub fn cut(&mut self, from: u64, to: u64) {
        self.cut.insert((from, to));
    }

    pub fn heal(&mut self) {
        self.cut.clear();
    }

    pub fn is_cut(&self, from: u64, to: u64) -> bool {
        self.cut.contains(&(from, to))
    }
}

/// Messages under way.
#[derive(Debug)]
pub struct Network<M> {
    links: BTreeMap<(u64, u64), VecDeque<M>>,
}

impl<M> Default for Network<M> {
    fn default() -> Network<M> {
        Network { links: BTreeMap::new() }
    }
}

impl<M> Network<M> {
    pub fn send(&mut self, from: u64, to: u64, message: M) {
        self.links.entry((from, to)).or_default().push_back(message);
    }

    /// Takes at most so many messages off each link; those on cut links are lost.
    pub fn take(&mut self, links: &Links, each: usize) -> (bool, Vec<(u64, u64, M)>) {
        let (mut any, mut taken) = (false, Vec::new());
        for ((from, to), link) in &mut self.links {
            for _ in 0..each {
                let Some(message) = link.pop_front() else { break };
                any = true;
                if !links.is_cut(*from, *to) {
                    taken.push((*from, *to, message));
                }
            }
        }
        (any, taken)
    }
}
