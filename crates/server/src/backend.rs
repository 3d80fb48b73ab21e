//! The border between the API and the member that serves it.
//!
//! Responsible for naming what the API needs: proposing a command, confirming a read, reading the
//! store, knowing where the member stands. Not responsible for how: the member implements
//! [`Backend`] over the node, tests over a machine in memory.
//!
//! Invariants an implementation keeps:
//! 1. A proposal is answered when it is applied *on this member*, so that a read that follows here
//!    sees it (the client reads its own writes, §8).
//! 2. A read barrier joins the next round, never one already sent (§8, thesis §6.4).
//! 3. Every future ends within the request timeout, 5 s and two election timeouts, with one of the
//!    timeout errors if nothing better is known. The API sets no timer of its own for a request.
//! 4. A future that is dropped gives up the wait, not the command: that may still take effect.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::BytesMut;
use jangada_entry::Draft;
use jangada_kv::{Command, Reply, Shared};

use crate::errors::ApiError;
use crate::etcd_file::Exported;
use crate::membership::Change;
use crate::metrics::Exposition;

/// Room for a command of the usual size; a larger one makes its own.
const COMMAND_BYTES: usize = 512;

/// Why the member could not carry a request out. For a proposal, all but [`RequestError::Busy`],
/// [`RequestError::TooLarge`], [`RequestError::NotCapable`] and [`RequestError::NoLeader`] leave open whether the command takes
/// effect.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RequestError {
    /// The member knows no leader.
    NoLeader,
    /// The member does not lead, and the request is for the leader alone.
    NotLeader,
    /// The leader changed while the request was under way.
    LeaderChanged,
    /// No answer in time.
    Timeout,
    /// No answer in time, and the leader was lost meanwhile.
    TimeoutLeaderLost,
    /// No answer in time, and the connection to the leader was lost meanwhile.
    TimeoutConnectionLost,
    /// The read was confirmed, but applying did not catch up in time.
    TimeoutApplied,
    /// The member has more in hand than it can bear; nothing was proposed.
    Busy,
    /// The member is stopping.
    Stopped,
    /// The command is larger than an entry may be; nothing was proposed.
    TooLarge,
    /// Not all members speak the command's version; nothing was proposed.
    NotCapable,
    /// The disk of the leader's log is nearly full; nothing was proposed.
    NoSpace,
    /// The member's state differs from what a majority has, and it serves nobody; nothing was
    /// proposed.
    Corrupt,
}

impl std::fmt::Display for RequestError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(crate::errors::ApiError::from(*self).text())
    }
}

impl std::error::Error for RequestError {}

/// Where the member stands at this moment. Cheap to take: it is taken for every answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Status {
    /// The cluster.
    pub cluster_id: u64,
    /// This member.
    pub member_id: u64,
    /// The current term.
    pub term: u64,
    /// The leader, if one is known.
    pub leader: Option<u64>,
    /// The commit index.
    pub commit_index: u64,
    /// The last applied index.
    pub applied_index: u64,
    /// Whether this member is a learner.
    pub is_learner: bool,
    /// Whether this member's state differs from what a majority has, so that it serves nobody.
    pub is_quarantined: bool,
    /// How many leaders this member has seen come since it started.
    pub leader_changes: u64,
    /// Proposals made here that wait for their answer.
    pub proposals_pending: u64,
    /// Proposals made here that failed since the member started.
    pub proposals_failed: u64,
}

/// How much room the store takes, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sizes {
    /// The store's file.
    pub allocated: u64,
    /// Of it, what is in use.
    pub in_use: u64,
    /// The quota; 0 for none.
    pub quota: u64,
}

/// A member, as clients see it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Member {
    /// The member's id.
    pub id: u64,
    /// Its name; empty until it has published it.
    pub name: String,
    /// Where its peers reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; empty until it has published them.
    pub client_urls: Vec<String>,
    /// Whether it is a learner.
    pub is_learner: bool,
    /// How the member that is asked is connected to it.
    pub connection: Connection,
}

/// How a member is connected to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Connection {
    /// Not at all.
    #[default]
    None,
    /// For less than [`HEALTHY_AFTER`](crate::membership::HEALTHY_AFTER).
    Fresh,
    /// For longer; a member is always so connected to itself.
    Lasting,
}

/// Resolves once some time has passed.
pub type Pause = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The member behind the API.
pub trait Backend: Clone + Send + Sync + 'static {
    /// Proposes a command, encoded behind the room for its header in a buffer from
    /// [`Draft::buffer`], and answers its reply once this member has applied it (§8).
    ///
    /// # Errors
    /// See [`RequestError`].
    fn propose_encoded(
        &self,
        buffer: BytesMut,
    ) -> impl Future<Output = Result<Reply, RequestError>> + Send;

    /// Proposes a command that is yet to be encoded.
    ///
    /// # Errors
    /// See [`RequestError`].
    fn propose(
        &self,
        command: Command,
    ) -> impl Future<Output = Result<Reply, RequestError>> + Send {
        let mut buffer = Draft::buffer(COMMAND_BYTES);
        command.encode_into(&mut buffer);
        self.propose_encoded(buffer)
    }

    /// Resolves when this member has applied everything that was committed before the call, so that
    /// a read of [`Backend::store`] is linearizable (thesis §6.4).
    ///
    /// # Errors
    /// See [`RequestError`].
    fn read_barrier(&self) -> impl Future<Output = Result<(), RequestError>> + Send;

    /// The store of this member, as far as it has applied.
    fn store(&self) -> &Shared;

    /// Does work that takes long, such as a walk over all rows, where it holds up neither the member's
    /// loop nor requests. A runtime without threads does it at once.
    fn beside<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> R + Send + 'static,
    ) -> impl Future<Output = R> + Send {
        let store = self.store().clone();
        async move { work(&store) }
    }

    /// Waits, by this member's clock, whoever owns it: the runtime, or a simulation.
    fn pause(&self, time: Duration) -> Pause;

    /// The state of the store with everything that this member had applied when it was asked, and who
    /// the members were as of it.
    ///
    /// # Errors
    /// [`ApiError::Timeout`] if the engine does not hold it durably in time; [`ApiError::NoSpace`] or
    /// [`ApiError::Corrupt`] if it cannot be read.
    fn export(&self) -> impl Future<Output = Result<Exported, ApiError>> + Send;

    /// Where the member stands.
    fn status(&self) -> Status;

    /// The cluster's time, in milliseconds since the Unix epoch, as this member knows it: that of the
    /// last entry it has applied, and what has passed since by its own clock. Members' clocks are not
    /// compared with each other.
    fn time_ms(&self) -> u64;

    /// How much room the store takes.
    fn sizes(&self) -> Sizes;

    /// The quota, in bytes, that the store in use is held against; `None` for none.
    fn quota(&self) -> Option<u64>;

    /// The members of the cluster, in the order of their ids, as far as this member has applied.
    fn members(&self) -> Vec<Member>;

    /// Changes the membership, and answers once the change is in force and applied on this member. A
    /// voter that is to catch up first is then a learner that is waited for.
    ///
    /// # Errors
    /// Those of [`RequestError`]; and when the membership has changed since it was asked for,
    /// whatever makes the change impossible now.
    fn change_members(&self, change: Change) -> impl Future<Output = Result<(), ApiError>> + Send;

    /// Hands leadership over from this member to another voter, and answers once that one leads.
    ///
    /// # Errors
    /// [`ApiError::NotLeader`], [`ApiError::BadLeaderTransferee`], [`ApiError::TimeoutLeaderTransfer`]
    /// or those of [`RequestError`].
    fn transfer_leadership(&self, to: u64) -> impl Future<Output = Result<(), ApiError>> + Send;

    /// Has the leader count these leases from their full time again; answers for each how many seconds
    /// that is, `None` if there is no such lease. The leader's leadership was confirmed after the call,
    /// and what was committed before it is seen.
    ///
    /// # Errors
    /// See [`RequestError`]. Some of the leases may have been renewed.
    fn renew_leases(
        &self,
        ids: Vec<i64>,
    ) -> impl Future<Output = Result<Vec<Option<i64>>, RequestError>> + Send;

    /// How many whole seconds remain of these leases, as the leader counts; `None` for one that is not
    /// there.
    ///
    /// # Errors
    /// See [`RequestError`].
    fn leases_remaining(
        &self,
        ids: Vec<i64>,
    ) -> impl Future<Output = Result<Vec<Option<i64>>, RequestError>> + Send;

    /// The shortest time that a lease is granted for, in seconds.
    fn lease_ttl_min(&self) -> i64;

    /// An id for a lease that a client has not named; above 0, and very likely free.
    fn new_lease_id(&self) -> i64;

    /// Adds the metrics that the parts behind the member keep, when they are asked for.
    fn expose(&self, exposition: &mut Exposition);
}
