//! What the consensus module costs: all the leader's inputs of one replicated batch at three members,
//! from the proposal to the commit index being sent on.
//!
//! ```text
//! cargo run --release -p jangada-raft --example cost
//! ```
//!
//! The cost does not depend on the size of the batch, for the module sees names only. Nothing is
//! allocated in a steady state: the vector of outputs is reused, and its capacity is printed before
//! and after. The floor printed beside it is a step that has nothing to do.

use std::hint::black_box;
use std::time::Instant;

use jangada_raft::{
    AppendOutcome, AppendResponse, Configuration, HardState, Index, Input, Limits, Message, NodeId,
    Output, Position, PreVoteResponse, Raft, Range, RoleKind, Start, Term, Timer, VoteResponse,
    WriteNumber,
};

const BATCHES: u64 = 1_000_000;
const PEERS: [NodeId; 2] = [NodeId(2), NodeId(3)];

#[allow(clippy::disallowed_methods)] // a measurement reads the clock
fn main() {
    for entries in [1, 100, 10_000] {
        let mut bench = Bench::new();
        (0..1000).for_each(|_| bench.replicate(entries));
        let capacity = bench.out.capacity();
        let start = Instant::now();
        (0..BATCHES).for_each(|_| bench.replicate(entries));
        let nanoseconds = start.elapsed().as_nanos() as f64 / BATCHES as f64;
        assert_eq!(bench.raft.commit_index(), bench.raft.last_index(), "every batch is committed");
        println!(
            "a batch of {entries:>5} entries: {nanoseconds:6.0} ns for {} inputs; \
             outputs' capacity {capacity} before, {} after",
            bench.inputs / (BATCHES + 1000),
            bench.out.capacity(),
        );
    }
    let mut bench = Bench::new();
    let start = Instant::now();
    for _ in 0..BATCHES {
        bench.step(black_box(Input::Timer(Timer::Quiet)));
        bench.out.clear();
    }
    let nanoseconds = start.elapsed().as_nanos() as f64 / BATCHES as f64;
    println!("floor: a step that does nothing: {nanoseconds:.0} ns");
}

/// A leader whose peers and disk answer as soon as they are asked.
struct Bench {
    raft: Raft,
    out: Vec<Output>,
    written: WriteNumber,
    granted: Vec<(NodeId, Index)>,
    inputs: u64,
}

impl Bench {
    fn new() -> Bench {
        let raft = Raft::new(Start {
            id: NodeId(1),
            hard_state: HardState::default(),
            configuration: Configuration::of_voters([NodeId(1), NodeId(2), NodeId(3)]),
            log: Range::empty(Position::default()),
            commit: Index(0),
            limits: Limits::default(),
            configurations: Vec::new(),
            recovering: None,
        });
        let (out, granted) = (Vec::new(), Vec::new());
        let mut bench = Bench { raft, out, written: WriteNumber(0), granted, inputs: 0 };
        bench.step(Input::Timer(Timer::Election));
        let granted = PreVoteResponse { term: Term(1), granted: true };
        bench.receive(NodeId(2), Message::PreVoteResponse(granted));
        bench.persist();
        let vote = VoteResponse { term: Term(1), granted: true };
        bench.receive(NodeId(2), Message::VoteResponse(vote));
        assert_eq!(bench.raft.role(), RoleKind::Leader);
        bench.flush();
        bench.persist();
        PEERS.iter().for_each(|peer| bench.acknowledge(*peer));
        bench.flush();
        bench.inputs = 0;
        bench
    }

    fn replicate(&mut self, entries: u64) {
        self.step(Input::Propose { entries, bytes: entries * 100 });
        self.flush();
        self.persist();
        PEERS.iter().for_each(|peer| self.acknowledge(*peer));
        self.flush();
    }

    /// Lets everything go out, as a driver would: grants are honoured in full.
    fn flush(&mut self) {
        self.step(Input::Flush);
        for output in self.out.drain(..) {
            match output {
                Output::Write(write) => self.written = write.number,
                Output::Grant(grant) => self.granted.push((grant.peer, grant.range.last)),
                _ => {}
            }
        }
        for at in 0..self.granted.len() {
            let (peer, last) = self.granted[at];
            self.step(Input::Sent { peer, last, bytes: 100 });
        }
        self.granted.clear();
    }

    fn persist(&mut self) {
        for output in self.out.drain(..) {
            if let Output::Write(write) = output {
                self.written = write.number;
            }
        }
        let (write, last) = (self.written, self.raft.last_position());
        self.step(Input::Persisted { write, last });
    }

    fn acknowledge(&mut self, from: NodeId) {
        let outcome = AppendOutcome::Match(self.raft.last_index());
        let term = self.raft.term();
        self.receive(
            from,
            Message::AppendResponse(AppendResponse { term, outcome, recovering: None }),
        );
    }

    fn receive(&mut self, from: NodeId, message: Message) {
        self.step(Input::Receive { from, message });
    }

    fn step(&mut self, input: Input) {
        self.inputs += 1;
        self.raft.step(input, &mut self.out);
    }
}
