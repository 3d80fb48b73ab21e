//! A replicated counter.
//!
//! In one process: `cargo run -p jangada --example counter`
//! In three, each in a terminal of its own, with `1`, `2` and `3`:
//! `cargo run -p jangada --example counter -- 1`

use jangada::{Config, Frame, LocalCluster, Node, NodeId, Options, Outcome, StateMachine};

#[derive(Default)]
struct Counter(u64);

impl StateMachine for Counter {
    type Reply = u64;
    fn apply(&mut self, commands: &[Frame], outcomes: &mut Vec<Outcome<u64>>) {
        for command in commands {
            self.0 += command.payload().iter().map(|byte| u64::from(*byte)).sum::<u64>();
            outcomes.push(Outcome { reply: self.0, digest: self.0 });
        }
    }
}

type Failure = Box<dyn std::error::Error>;

fn in_one_process() -> Result<(), Failure> {
    let cluster = LocalCluster::start(3, Options::default(), |_| Counter::default())?;
    for (member, add) in [(0, 1), (1, 20), (2, 21)] {
        println!("the counter stands at {}", cluster.handles()[member].propose(&[add]).wait()?);
    }
    assert_eq!(cluster.handles()[1].read(|counter| counter.0).wait()?, 42);
    Ok(())
}

fn as_one_of_three(id: u64) -> Result<(), Failure> {
    let members = (1..=3).map(|id| (NodeId(id), format!("127.0.0.1:{}", 7440 + id)));
    let directory = std::env::temp_dir().join(format!("jangada-counter-{id}"));
    let node = Node::start(Config::new(NodeId(id), members, directory), Counter::default())?;
    loop {
        match node.handle().propose(&[1]).wait() {
            Ok(count) => println!("the counter stands at {count}"),
            Err(error) => println!("{error}"),
        }
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
}

fn main() -> Result<(), Failure> {
    match std::env::args().nth(1) {
        Some(id) => as_one_of_three(id.parse()?),
        None => in_one_process(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn counts_over_three_members() {
        super::in_one_process().expect("the example runs");
    }
}
