//! The in-process runtime through the public border.

use jangada::{Frame, LocalCluster, Options, Outcome, StateMachine};

#[derive(Default)]
struct Sum(u64);

impl StateMachine for Sum {
    type Reply = u64;
    fn apply(&mut self, commands: &[Frame], outcomes: &mut Vec<Outcome<u64>>) {
        for command in commands {
            self.0 += command.payload().len() as u64;
            outcomes.push(Outcome { reply: self.0, digest: self.0 });
        }
    }
}

fn cluster(members: u64) -> LocalCluster<Sum> {
    LocalCluster::start(members, Options::default(), |_| Sum::default()).expect("it starts")
}

#[test]
fn proposals_on_every_member_count_once_and_are_seen_everywhere() {
    let cluster = cluster(3);
    let handles = cluster.handles();
    // Many at once, so that they share batches; the futures wait together.
    let proposals: Vec<_> = (0..3000).map(|n| handles[n % 3].propose(&[0; 2])).collect();
    let mut replies: Vec<u64> =
        proposals.into_iter().map(|p| p.wait().expect("a healthy cluster")).collect();
    replies.sort_unstable();
    let expected: Vec<u64> = (1..=3000).map(|n| n * 2).collect();
    assert_eq!(replies, expected, "every command was applied once, in one order");
    for handle in handles {
        assert_eq!(handle.read(|sum| sum.0).wait(), Ok(6000));
    }
    let hashes: Vec<u64> = handles
        .iter()
        .map(|handle| {
            handle.read_barrier().wait().expect("a healthy cluster");
            handle.status().record
        })
        .map(|record| record.hash)
        .collect();
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "the members applied the same");
}

#[test]
fn one_member_alone_serves() {
    let cluster = cluster(1);
    assert_eq!(cluster.handles()[0].propose(b"abc").wait(), Ok(3));
    assert_eq!(cluster.handles()[0].read(|sum| sum.0).wait(), Ok(3));
}

#[test]
fn a_dropped_future_takes_nothing_back() {
    let cluster = cluster(3);
    drop(cluster.handles()[0].propose(b"abc"));
    assert_eq!(cluster.handles()[0].propose(b"d").wait(), Ok(4));
}

#[test]
fn after_the_end_everybody_is_told() {
    let cluster = cluster(3);
    let handle = cluster.handles()[0].clone();
    assert_eq!(handle.propose(b"a").wait(), Ok(1));
    drop(cluster);
    assert!(handle.is_stopped());
    assert!(handle.propose(b"b").wait().is_err());
    assert!(handle.read_barrier().wait().is_err());
}
