//! openraft: log, state machine and network in memory, `client_write` on the leader.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::Cursor;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use openraft::error::{InstallSnapshotError, NetworkError, RPCError, RaftError};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use openraft::storage::{LogFlushed, LogState, RaftLogStorage, RaftStateMachine, Snapshot};
use openraft::{
    BasicNode, Config, EntryPayload, LogId, Raft, RaftLogReader, RaftSnapshotBuilder, SnapshotMeta,
    SnapshotPolicy, StorageError, StoredMembership, Vote,
};

use crate::MEMBERS;
use crate::clients::Cluster;
use crate::store::{Put, Store};

openraft::declare_raft_types!(
    Types:
        D = Put,
        R = u64,
);

type Node = Raft<Types>;
type Entry = openraft::Entry<Types>;
type RemoteError<E = openraft::error::Infallible> = RPCError<u64, BasicNode, RaftError<u64, E>>;

/// All nodes, once they have started: the network.
type Nodes = Arc<OnceLock<Vec<Node>>>;

/// A cluster whose first node leads.
pub struct OpenRaft {
    nodes: Nodes,
}

impl OpenRaft {
    pub async fn start() -> OpenRaft {
        let config = Config {
            election_timeout_min: 300,
            election_timeout_max: 600,
            heartbeat_interval: 100,
            snapshot_policy: SnapshotPolicy::Never,
            ..Config::default()
        };
        let config = Arc::new(config.validate().expect("a fine configuration"));
        let nodes = Nodes::default();
        let mut started = Vec::new();
        for id in 1..=MEMBERS {
            let network = Network { nodes: nodes.clone() };
            let node = Raft::new(id, config.clone(), network, Log::default(), Machine::default());
            started.push(node.await.expect("an empty node starts"));
        }
        assert!(nodes.set(started).is_ok(), "they start once");
        let cluster = OpenRaft { nodes };
        let members: BTreeMap<u64, BasicNode> =
            (1..=MEMBERS).map(|id| (id, BasicNode::default())).collect();
        cluster.first().initialize(members).await.expect("an empty cluster");
        let wait = cluster.first().wait(None);
        wait.current_leader(1, "the first node leads").await.expect("it was the first to stand");
        cluster
    }

    fn first(&self) -> &Node {
        &self.nodes.get().expect("they have started")[0]
    }
}

impl Cluster for OpenRaft {
    async fn put(&self, put: Put) -> u64 {
        self.first().client_write(put).await.expect("the leader stays").data
    }

    async fn stop(&self) {
        for node in self.nodes.get().expect("they have started") {
            node.shutdown().await.expect("no node panics");
        }
    }
}

// ---- the network ----

struct Network {
    nodes: Nodes,
}

/// A way to one node.
struct Connection {
    nodes: Nodes,
    place: usize,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: u64, _: &BasicNode) -> Connection {
        let place = usize::try_from(target - 1).expect("one of a few nodes");
        Connection { nodes: self.nodes.clone(), place }
    }
}

impl Connection {
    fn target(&self) -> &Node {
        &self.nodes.get().expect("they have started")[self.place]
    }
}

impl RaftNetwork<Types> for Connection {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RemoteError> {
        self.target().append_entries(request).await.map_err(lost)
    }

    async fn install_snapshot(
        &mut self,
        request: InstallSnapshotRequest<Types>,
        _: RPCOption,
    ) -> Result<InstallSnapshotResponse<u64>, RemoteError<InstallSnapshotError>> {
        self.target().install_snapshot(request).await.map_err(lost)
    }

    async fn vote(
        &mut self,
        request: VoteRequest<u64>,
        _: RPCOption,
    ) -> Result<VoteResponse<u64>, RemoteError> {
        self.target().vote(request).await.map_err(lost)
    }
}

/// A node that has stopped does not answer.
fn lost<E: std::error::Error + 'static, F: std::error::Error>(
    error: E,
) -> RPCError<u64, BasicNode, F> {
    RPCError::Network(NetworkError::new(&error))
}

// ---- the log ----

#[derive(Clone, Default)]
struct Log {
    kept: Arc<Mutex<Kept>>,
}

/// A log that begins at index 0 and loses nothing but its end.
#[derive(Default)]
struct Kept {
    entries: Vec<Entry>,
    vote: Option<Vote<u64>>,
}

impl Log {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect("nobody panics under this lock")
    }
}

fn place(index: u64) -> usize {
    usize::try_from(index).expect("held in memory")
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry>, StorageError<u64>> {
        let kept = self.kept();
        let begin = match range.start_bound() {
            Bound::Included(index) => place(*index),
            Bound::Excluded(index) => place(*index) + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(index) => place(*index) + 1,
            Bound::Excluded(index) => place(*index),
            Bound::Unbounded => kept.entries.len(),
        };
        let end = end.min(kept.entries.len());
        Ok(kept.entries[begin.min(end)..end].to_vec())
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Log;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError<u64>> {
        let last_log_id = self.kept().entries.last().map(|entry| entry.log_id);
        Ok(LogState { last_purged_log_id: None, last_log_id })
    }

    async fn get_log_reader(&mut self) -> Log {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Result<(), StorageError<u64>> {
        self.kept().vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<u64>>, StorageError<u64>> {
        Ok(self.kept().vote)
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<Types>,
    ) -> Result<(), StorageError<u64>>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        self.kept().entries.extend(entries);
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, from: LogId<u64>) -> Result<(), StorageError<u64>> {
        self.kept().entries.truncate(place(from.index));
        Ok(())
    }

    async fn purge(&mut self, _: LogId<u64>) -> Result<(), StorageError<u64>> {
        unreachable!("without snapshots nothing is purged")
    }
}

// ---- the state machine ----

#[derive(Default)]
struct Machine {
    store: Store,
    applied: Option<LogId<u64>>,
    membership: StoredMembership<u64, BasicNode>,
}

/// Nothing is ever built by it: snapshots are off.
struct Builder;

impl RaftSnapshotBuilder<Types> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, StorageError<u64>> {
        unreachable!("snapshots are off")
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = Builder;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId<u64>>, StoredMembership<u64, BasicNode>), StorageError<u64>> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<u64>, StorageError<u64>>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let entries = entries.into_iter();
        let mut revisions = Vec::with_capacity(entries.size_hint().0);
        for entry in entries {
            self.applied = Some(entry.log_id);
            revisions.push(match entry.payload {
                EntryPayload::Blank => 0,
                EntryPayload::Normal(put) => self.store.apply(put),
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(entry.log_id), membership);
                    0
                }
            });
        }
        Ok(revisions)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder
    }

    async fn begin_receiving_snapshot(
        &mut self,
    ) -> Result<Box<Cursor<Vec<u8>>>, StorageError<u64>> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        _: &SnapshotMeta<u64, BasicNode>,
        _: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError<u64>> {
        unreachable!("nobody sends a snapshot")
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, StorageError<u64>> {
        Ok(None)
    }
}
