//! The in-process runtime through the public border.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::Bytes;
use jangada::{
    Chunk, Ended, Frame, Index, LocalCluster, LocalMembers, MemberChange, NodeId, Options, Outcome,
    ProposeError, ReadError, SnapshotError, SnapshotReader, SnapshotStage, Snapshots, StateMachine,
    Turn,
};

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
fn a_member_that_is_removed_ends_and_the_others_go_on() {
    let cluster = cluster(3);
    let handles = cluster.handles();
    assert_eq!(handles[0].propose(b"a").wait(), Ok(1));
    assert_eq!(handles[1].transfer_leadership(Some(NodeId(3))).wait(), Ok(NodeId(3)));
    let voters = vec![NodeId(1), NodeId(2)];
    let change = MemberChange { voters: voters.clone(), ..MemberChange::default() };
    let configuration = handles[0].change_members(change).wait().expect("it is done");
    assert_eq!(configuration.voters, voters);
    assert_eq!(handles[1].propose(b"b").wait(), Ok(2));
    // Whatever waits at the removed member is told.
    while !handles[2].is_stopped() {
        let _ = handles[2].propose(b"").wait();
    }
    assert_eq!(handles[2].ended(), Some(Ended::Removed(NodeId(3))));
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

#[test]
fn a_question_may_use_a_handle() {
    let cluster = cluster(1);
    let handle = cluster.handles()[0].clone();
    let inner = handle.clone();
    let proposed = handle.read(move |_| inner.propose(b"abc")).wait().expect("a leader is found");
    assert_eq!(proposed.wait(), Ok(3));
}

/// Ends a cluster whose thread has panicked, which the cluster's end tells.
fn end_of_panicked(cluster: LocalCluster<impl StateMachine>) {
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(cluster)));
    assert!(ended.is_err(), "the panic is told");
}

#[test]
fn a_question_that_panics_leaves_nobody_waiting() {
    let cluster = cluster(1);
    let handle = cluster.handles()[0].clone();
    handle.read_barrier().wait().expect("a leader is found");
    let question = handle.read(|_: &Sum| -> u64 { panic!("a question that cannot be answered") });
    let beside = handle.read(|sum| sum.0);
    assert_eq!(question.wait(), Err(ReadError::Stopped));
    // It came in the same batch, or an earlier one, or after the end.
    assert!(matches!(beside.wait(), Ok(0) | Err(ReadError::Stopped)));
    assert_eq!(handle.propose(b"a").wait(), Err(ProposeError::Stopped));
    end_of_panicked(cluster);
}

/// Panics at the first command.
struct Broken;

impl StateMachine for Broken {
    type Reply = ();
    fn apply(&mut self, commands: &[Frame], _: &mut Vec<Outcome<()>>) {
        assert!(commands.is_empty(), "a broken invariant of the machine");
    }
}

#[test]
fn a_machine_that_panics_leaves_nobody_waiting() {
    let cluster = LocalCluster::start(3, Options::default(), |_| Broken).expect("it starts");
    let handle = cluster.handles()[0].clone();
    let waiting: Vec<_> = (0..10).map(|_| handle.propose(b"a")).collect();
    for proposed in waiting {
        assert_eq!(proposed.wait(), Err(ProposeError::Stopped));
    }
    assert_eq!(handle.read_barrier().wait(), Err(ReadError::Stopped));
    end_of_panicked(cluster);
}

/// How a stage stands: not begun, waiting for the test, let go by the test.
const NOT_BEGUN: u8 = 0;
const WAITING: u8 = 1;
const LET_GO: u8 = 2;

/// Counts; one of them miscounts once, and takes its snapshot only when the test lets it.
struct Slow {
    sum: u64,
    applied: Index,
    record: Bytes,
    lies_at: u64,
    staging: Arc<AtomicU8>,
    staged: Arc<std::sync::Mutex<Option<(Index, u64, Bytes)>>>,
}

impl StateMachine for Slow {
    type Reply = u64;

    fn apply(&mut self, commands: &[Frame], outcomes: &mut Vec<Outcome<u64>>) {
        for _ in commands {
            self.sum += 1;
            let digest = self.sum + u64::from(self.sum == self.lies_at);
            outcomes.push(Outcome { reply: self.sum, digest });
        }
    }

    fn end_batch(&mut self, applied: Index, record: Bytes) {
        (self.applied, self.record) = (applied, record);
    }

    fn durable_index(&self) -> Index {
        self.applied
    }

    fn snapshots(&self) -> Snapshots {
        Snapshots::Streamed
    }

    fn snapshot(&mut self, _: Option<&[u8]>) -> Result<Box<dyn SnapshotReader>, SnapshotError> {
        Ok(Box::new(View { sum: self.sum, record: self.record.clone() }))
    }

    fn stage(&mut self) -> Result<Box<dyn SnapshotStage>, SnapshotError> {
        let (staging, staged) = (self.staging.clone(), self.staged.clone());
        Ok(Box::new(Stage { sum: 0, finish: None, staging, staged }))
    }

    fn installed(&mut self) {
        let staged = self.staged.lock().expect("nobody panics under the lock").take();
        (self.applied, self.sum, self.record) = staged.expect("it was finished");
    }
}

struct View {
    sum: u64,
    record: Bytes,
}

impl SnapshotReader for View {
    fn record(&self) -> Bytes {
        self.record.clone()
    }

    fn resumes(&self) -> bool {
        false
    }

    fn next(&mut self, _: usize) -> Result<Chunk, SnapshotError> {
        let bytes = Bytes::copy_from_slice(&self.sum.to_le_bytes());
        Ok(Chunk { bytes, resume: Bytes::new(), is_last: true })
    }
}

struct Stage {
    sum: u64,
    finish: Option<(Index, Bytes)>,
    staging: Arc<AtomicU8>,
    staged: Arc<std::sync::Mutex<Option<(Index, u64, Bytes)>>>,
}

impl SnapshotStage for Stage {
    fn push(&mut self, chunk: Bytes) {
        self.sum = u64::from_le_bytes(chunk[..].try_into().expect("a sum"));
    }

    fn finish(&mut self, applied: Index, record: Bytes) {
        self.finish = Some((applied, record));
    }

    fn turn(&mut self) -> Result<Turn, SnapshotError> {
        if self.staging.load(Ordering::SeqCst) != LET_GO {
            self.staging.store(WAITING, Ordering::SeqCst);
            return Ok(Turn::Wait(1000));
        }
        if let Some((applied, record)) = self.finish.take() {
            let mut staged = self.staged.lock().expect("nobody panics under the lock");
            *staged = Some((applied, self.sum, record));
        }
        Ok(Turn::Done)
    }
}

#[test]
fn a_stage_that_waits_holds_up_no_other_member() {
    let staging = Arc::new(AtomicU8::new(NOT_BEGUN));
    let liar = 3;
    let machine = |id: NodeId| Slow {
        sum: 0,
        applied: Index(0),
        record: Bytes::new(),
        lies_at: if id.0 == liar { 5 } else { 0 },
        staging: staging.clone(),
        staged: Arc::default(),
    };
    let cluster = LocalCluster::start(3, Options::default(), machine).expect("it starts");
    let [one, two, odd] = cluster.handles() else { panic!("three members") };
    while staging.load(Ordering::SeqCst) == NOT_BEGUN {
        let _ = one.propose(b"a").wait();
    }
    assert!(odd.status().quarantine.is_some());
    // All members share one thread: it is there for those that do not wait.
    for handle in [one, two].into_iter().cycle().take(50) {
        handle.propose(b"b").wait().expect("a majority is whole");
    }
    assert!(odd.status().quarantine.is_some(), "it still waits");
    staging.store(LET_GO, Ordering::SeqCst);
    let counted = one.propose(b"c").wait().expect("a majority is whole");
    let read = loop {
        if let Ok(sum) = odd.read(|machine| machine.sum).wait() {
            break sum;
        }
    };
    assert_eq!(read, counted);
}

#[test]
fn members_run_as_a_task_beside_their_clients() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("the machine has timers").block_on(async {
        let members =
            LocalMembers::open(3, Options::default(), |_| Sum::default()).expect("empty members");
        let handles = members.handles().to_vec();
        let members = tokio::spawn(members.run());
        assert_eq!(handles[0].propose(&[1]).await, Ok(1));
        let clients: Vec<_> = (0..100)
            .map(|client| {
                let handle = handles[client % 3].clone();
                tokio::spawn(async move { handle.propose(&[1]).await })
            })
            .collect();
        for client in clients {
            assert!(client.await.expect("a client does not panic").is_ok());
        }
        assert_eq!(handles[2].read(|sum| sum.0).await, Ok(101));
        handles[1].stop();
        members.await.expect("the members end in order");
        assert_eq!(handles[0].propose(&[1]).await, Err(ProposeError::Stopped));
    });
}
