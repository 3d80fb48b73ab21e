//! Jangada: the library's own cluster in memory, on a thread of its own or as a task.

use jangada::{
    Frame, Handle, LocalCluster, LocalMembers, Options, Outcome, ProposeError, StateMachine,
};
use tokio::task::JoinHandle;

use crate::MEMBERS;
use crate::clients::Cluster;
use crate::store::{Put, Store};

#[derive(Default)]
struct Machine(Store);

impl StateMachine for Machine {
    type Reply = u64;

    fn apply(&mut self, commands: &[Frame], outcomes: &mut Vec<Outcome<u64>>) {
        outcomes.extend(commands.iter().map(|command| {
            let reply = self.0.apply(Put::decode(command.payload()));
            Outcome { reply, digest: reply }
        }));
    }
}

/// What keeps the members running.
enum Keeper {
    Thread { _cluster: LocalCluster<Machine> },
    Task { _task: JoinHandle<()> },
}

/// A cluster, with the handle of its leader.
pub struct Jangada {
    leader: Handle<Machine>,
    _keeper: Keeper,
}

/// A short election timeout, since every run waits for an election. Nothing else differs from the default.
fn options() -> Options {
    Options { election_timeout_us: 100_000, heartbeat_interval_us: 20_000, ..Options::default() }
}

impl Jangada {
    pub async fn on_thread() -> Jangada {
        let cluster = LocalCluster::start(MEMBERS, options(), |_| Machine::default())
            .expect("empty members start");
        let leader = leader(cluster.handles()).await;
        Jangada { leader, _keeper: Keeper::Thread { _cluster: cluster } }
    }

    pub async fn as_task() -> Jangada {
        let members = LocalMembers::open(MEMBERS, options(), |_| Machine::default())
            .expect("empty members start");
        let handles = members.handles().to_vec();
        let task = tokio::spawn(members.run());
        let leader = leader(&handles).await;
        Jangada { leader, _keeper: Keeper::Task { _task: task } }
    }
}

/// The handle of the member that leads, once there is one.
async fn leader(handles: &[Handle<Machine>]) -> Handle<Machine> {
    let put = Put { key: [0; 16], value: [0; 16] };
    handles[0].propose(&put.encode()).await.expect("somebody leads in time");
    let leads = |handle: &&Handle<Machine>| {
        let standing = handle.status().standing;
        standing.leader == Some(jangada::NodeId(1 + place(handles, handle)))
    };
    handles.iter().find(leads).expect("it knows that it leads").clone()
}

/// The place of a handle among the others.
fn place(handles: &[Handle<Machine>], handle: &Handle<Machine>) -> u64 {
    let place = handles.iter().position(|other| std::ptr::eq(other, handle));
    place.expect("it is one of them") as u64
}

impl Cluster for Jangada {
    async fn put(&self, put: Put) -> u64 {
        loop {
            match self.leader.propose(&put.encode()).await {
                Ok(revision) => return revision,
                Err(ProposeError::Busy) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    }

    async fn stop(&self) {
        self.leader.stop();
    }
}
