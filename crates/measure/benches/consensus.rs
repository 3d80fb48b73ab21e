//! The consensus module alone: what all leader inputs of one replicated batch cost, in time and in
//! allocations.
//!
//! ```text
//! cargo bench -p jangada-measure --bench consensus
//! ```
//!
//! The floor is the bookkeeping that no leader can do without: one counter for each member, and the
//! counter that a majority has reached, once for each answer.

mod parts;

use std::hint::black_box;
use std::time::{Duration, Instant};

use clap::Parser;
use jangada_measure::{Arguments, Figure, Subject, Suite, cpu};
use parts::leader::Leader;

/// The size of an entry's frame: a small command behind its header. 4096 of them fit into one append.
const FRAME_BYTES: u64 = 128;
/// Batches between two looks at the clock.
const BATCHES: u64 = 256;

/// Time and allocations of all leader inputs of one replicated batch.
#[derive(Parser)]
struct Options {
    #[command(flatten)]
    arguments: Arguments,
}

fn main() {
    let Options { arguments } = Options::parse();
    let mut suite = Suite::new("consensus", &arguments);
    for members in [3, 5] {
        for entries in [1, 64, 4096] {
            let mut leader = Leader::elected(members);
            // Buffers take the size that they keep.
            (0..BATCHES).for_each(|_| leader.replicate(entries, entries * FRAME_BYTES));
            let mut floor = Floor::new(members);
            let ours = Subject::new("jangada-raft", |time| {
                per_batch(time, || leader.replicate(entries, entries * FRAME_BYTES))
            });
            let least =
                Subject::new("floor: counters", |time| per_batch(time, || floor.count(entries)));
            suite.scenario(&format!("{members} members, batch of {entries}"), vec![ours, least]);
        }
    }
    suite.finish();
}

/// Time and allocations of one batch.
fn per_batch(time: Duration, mut batch: impl FnMut()) -> Vec<Figure> {
    let mut batches = 0;
    let (begin, cpu_before) = (Instant::now(), cpu::thread());
    let allocations = allocation_counter::measure(|| {
        while begin.elapsed() < time {
            (0..BATCHES).for_each(|_| batch());
            batches += BATCHES;
        }
    });
    let elapsed_ns = begin.elapsed().as_secs_f64() * 1e9;
    let cpu_ns = (cpu::thread() - cpu_before).as_secs_f64() * 1e9;
    let each = |sum: f64| sum / batches as f64;
    vec![
        Figure::new("time", "ns/batch", each(elapsed_ns)),
        Figure::new("CPU", "ns/batch", each(cpu_ns)),
        Figure::new("allocations", "/batch", each(allocations.count_total as f64)),
    ]
}

/// One counter for each member.
struct Floor {
    holds: Vec<u64>,
    sorted: Vec<u64>,
    committed: u64,
}

impl Floor {
    fn new(members: u64) -> Floor {
        let holds: Vec<u64> = (0..members).map(|_| 0).collect();
        Floor { sorted: holds.clone(), holds, committed: 0 }
    }

    fn count(&mut self, entries: u64) {
        let last = black_box(self.holds[0] + entries);
        for member in 0..self.holds.len() {
            self.holds[black_box(member)] = last;
            self.sorted.copy_from_slice(&self.holds);
            self.sorted.sort_unstable();
            self.committed = black_box(self.sorted[(self.sorted.len() - 1) / 2]);
        }
        assert!(self.committed == last, "everybody holds the batch");
    }
}
