//! Snapshots between networked members, on real files and loopback sockets.

mod journals;

use std::path::Path;
use std::sync::Arc;

use jangada::{
    Frame, Node, NodeId, Options, Outcome, SnapshotError, Snapshots, StateMachine, StateView,
};

use journals::{config, places, propose};

/// A number and some ballast, kept in files by the node.
#[derive(Default)]
struct Sum {
    sum: u64,
    ballast: Arc<Vec<u8>>,
}

impl StateMachine for Sum {
    type Reply = u64;

    fn apply(&mut self, commands: &[Frame], outcomes: &mut Vec<Outcome<u64>>) {
        for command in commands {
            self.sum += command.payload().len() as u64;
            // More than a window of chunks.
            Arc::make_mut(&mut self.ballast).resize(3 << 20, 7);
            outcomes.push(Outcome { reply: self.sum, digest: self.sum });
        }
    }

    fn snapshots(&self) -> Snapshots {
        Snapshots::Whole
    }

    fn save(&self, _: &mut Vec<u8>) {
        unreachable!("a large state is not written on the member's thread")
    }

    fn view(&self) -> Option<StateView> {
        let (sum, ballast) = (self.sum, self.ballast.clone());
        Some(Box::new(move |out| {
            let thread = std::thread::current();
            assert_eq!(thread.name(), Some("jangada-snapshot"), "nobody waits for it");
            out.extend_from_slice(&sum.to_le_bytes());
            out.extend_from_slice(&ballast);
        }))
    }

    fn load(&mut self, state: &[u8]) -> Result<(), SnapshotError> {
        let unfit = || SnapshotError::Unfit("it has no number".to_owned());
        let (sum, ballast) = state.split_first_chunk::<8>().ok_or_else(unfit)?;
        *self = Sum { sum: u64::from_le_bytes(*sum), ballast: Arc::new(ballast.to_vec()) };
        Ok(())
    }
}

fn start(id: NodeId, members: &[(NodeId, String)], directory: &Path) -> Node<Sum> {
    let mut config = config(id, members, directory);
    config.options =
        Options { trailing_bytes_max: 64 << 10, save_after_bytes: 256 << 10, ..Options::default() };
    (config.log_options.segment_bytes_min, config.log_options.segment_bytes_max) =
        (64 << 10, 64 << 10);
    Node::start(config, Sum::default()).expect("a sound disk")
}

fn sum(node: &Node<Sum>) -> u64 {
    node.handle().read(|machine| machine.sum).wait().expect("a leader is found")
}

#[test]
fn a_member_behind_the_cut_is_sent_a_snapshot_and_all_start_again_from_files() {
    let directory = tempfile::tempdir().expect("a folder");
    let members = places(3);
    let all = || members.iter().map(|(id, _)| start(*id, &members, directory.path()));
    let mut nodes: Vec<Node<Sum>> = all().collect();
    propose(&nodes[0], b"three");
    nodes.remove(2).stop().expect("an orderly end");
    // Until the logs are cut behind a saved state.
    let cut = |nodes: &[Node<Sum>]| {
        nodes.iter().all(|node| 3 < node.handle().status().log_begins.index.0)
    };
    while !cut(&nodes) {
        propose(&nodes[0], &[1; 30_000]);
    }
    nodes.push(start(NodeId(3), &members, directory.path()));
    let expected = sum(&nodes[0]);
    assert_eq!(sum(&nodes[2]), expected);
    assert_eq!(nodes[2].handle().status().snapshots_installed, 1);
    propose(&nodes[2], b"and on");
    for node in nodes {
        node.stop().expect("an orderly end");
    }
    let nodes: Vec<Node<Sum>> = all().collect();
    for node in &nodes {
        assert!(sum(node) >= expected + 6, "nothing is forgotten");
        assert_eq!(node.handle().status().snapshots_installed, 0, "each has its own file");
    }
}
