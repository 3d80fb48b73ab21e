//! The bare consensus module, driven by hand: three members, one election, one command committed.
//!
//! ```text
//! cargo run -p jangada-raft --example core
//! ```
//!
//! The module does nothing by itself: no thread, no clock, no socket, no file. Whoever drives it
//! feeds it inputs and carries out its outputs. Here that is done by a loop over three members, whose
//! disks answer at once and whose network loses nothing.

use std::collections::{BTreeMap, VecDeque};

use jangada_raft::{
    Configuration, HardState, Index, Input, Limits, Message, NodeId, Output, Position, Raft, Range,
    RoleKind, Start, Timer,
};

/// A message on its way.
struct Letter {
    from: NodeId,
    to: NodeId,
    message: Message,
}

/// Three members and the network between them.
struct Cluster {
    members: BTreeMap<NodeId, Raft>,
    network: VecDeque<Letter>,
}

fn main() {
    let ids = [NodeId(1), NodeId(2), NodeId(3)];
    let start = |id| Start {
        id,
        // What a new member finds on its disk: no term, no vote, no log.
        hard_state: HardState::default(),
        log: Range::empty(Position::default()),
        commit: Index(0),
        // All members start from the same configuration.
        configuration: Configuration::of_voters(ids),
        limits: Limits::default(),
        configurations: Vec::new(),
        recovering: None,
    };
    let members = ids.map(|id| (id, Raft::new(start(id)))).into();
    let mut cluster = Cluster { members, network: VecDeque::new() };

    println!("Member 1 has waited for a leader in vain: its election timer fires.");
    cluster.step(NodeId(1), Input::Timer(Timer::Election));
    cluster.deliver_all();

    let leader = cluster.members.values().find(|raft| raft.role() == RoleKind::Leader);
    let leader = leader.expect("somebody was elected").id();
    println!("\nA client brings a command of 100 bytes to member {leader}, the leader.");
    cluster.step(leader, Input::Propose { entries: 1, bytes: 100 });
    cluster.deliver_all();

    println!("\nA client wants to read what is committed, whoever leads by now.");
    cluster.step(leader, Input::Read);
    cluster.deliver_all();

    println!();
    for raft in cluster.members.values() {
        let (id, last, commit) = (raft.id(), raft.last_index(), raft.commit_index());
        println!("Member {id} holds the log up to {last} and knows {commit} to be committed.");
        assert_eq!((last, commit), (Index(2), Index(2)), "the no-op and the command");
    }
}

impl Cluster {
    /// One input, and then `Flush`: there are no more at hand.
    fn step(&mut self, id: NodeId, input: Input) {
        self.feed(id, input);
        self.feed(id, Input::Flush);
    }

    /// Steps a member and carries out what it asks for.
    fn feed(&mut self, id: NodeId, input: Input) {
        let mut outputs = Vec::new();
        self.members.get_mut(&id).expect("a member").step(input, &mut outputs);
        for output in outputs {
            match output {
                // A driver writes the entries' frames, syncs, and reports it then. A disk that
                // answers at once reports it here.
                Output::Write(write) => {
                    let last = self.members[&id].last_position();
                    println!(
                        "  {id} writes term {} and {}",
                        write.hard_state.term,
                        names(&write.range)
                    );
                    self.step(id, Input::Persisted { write: write.number, last });
                }
                // `SendAfter` waits for a write; here all are done, or about to be.
                Output::Send { to, message } | Output::SendAfter { to, message, .. } => {
                    self.network.push_back(Letter { from: id, to, message });
                }
                // Leave to send entries. The driver decides how many, attaches the payloads, and says
                // what it sent.
                Output::Grant(grant) => {
                    let (to, last) = (grant.peer, grant.range.last);
                    let message = Message::AppendRequest(grant.request(last));
                    self.network.push_back(Letter { from: id, to, message });
                    let bytes = 100 * grant.range.len();
                    self.feed(id, Input::Sent { peer: to, last, bytes });
                }
                Output::Changed(standing) => {
                    println!("  {id} is a {:?} in term {}", standing.role, standing.term);
                }
                Output::Commit(index) => println!("  {id} learns that {index} is committed"),
                Output::ReadsReady { index, .. } => {
                    println!("  {id} may read as soon as it has applied {index}");
                }
                // Names for the command and the no-op, and timers: a driver acts on these too.
                Output::Assigned { .. }
                | Output::NoOp { .. }
                | Output::Configured { .. }
                | Output::MembersChanged
                | Output::ChangeRefused(_)
                | Output::TransferEnded(_)
                | Output::SendSnapshot { .. }
                | Output::Recovered
                | Output::ProposalRefused(_)
                | Output::ReadQueued(_)
                | Output::ReadRefused(_)
                | Output::Restart(_) => {}
            }
        }
    }

    fn deliver_all(&mut self) {
        while let Some(Letter { from, to, message }) = self.network.pop_front() {
            self.step(to, Input::Receive { from, message });
        }
    }
}

fn names(range: &Option<Range>) -> String {
    match range {
        None => "no entry".to_owned(),
        Some(range) => format!("entries {} to {}", range.first(), range.last),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn three_members_commit_one_command() {
        super::main();
    }
}
