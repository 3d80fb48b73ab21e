//! The member behind the API: [`Backend`] over the node.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use jangada::entry::Draft;
use jangada::net::Basis;
use jangada::raft::{Configuration, MemberChange};
use jangada::{
    ChangeError, ConsultError, Figures, Handle, NodeId, ProposeError, ReadError, TransferError,
};
use jangada_kv::{COMMAND_VERSION, Command, Reply, Shared};

use super::clock::ClusterClock;
use super::connections::Connections;
use super::transfers;
use crate::backend::{Backend, Connection, Member, Pause, RequestError, Sizes, Status};
use crate::errors::ApiError;
use crate::etcd_file::Exported;
use crate::lease::{self, Question};
use crate::machine::KvMachine;
use crate::membership::{self, Change};
use crate::metrics::{Exposition, Kind};

/// Ends waits. The member's runtime owns the clock, so it is given in: the server's is tokio's, the
/// simulator's stands still until something happens.
pub trait Timer: Clone + Send + Sync + 'static {
    /// What the future resolves to; `None` if it has not by `after` from now.
    fn within<F>(
        &self,
        after: Duration,
        future: F,
    ) -> impl Future<Output = Option<F::Output>> + Send
    where
        F: Future<Output: Send> + Send;

    /// Does work that takes long, elsewhere if the runtime has threads for it.
    fn beside<R: Send + 'static>(
        &self,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> impl Future<Output = R> + Send {
        async move { work() }
    }

    /// The time since some moment that stays the same; it never goes back.
    fn now(&self) -> Duration;
}

/// Tokio's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokioTimer;

impl Timer for TokioTimer {
    async fn within<F>(&self, after: Duration, future: F) -> Option<F::Output>
    where
        F: Future<Output: Send> + Send,
    {
        tokio::time::timeout(after, future).await.ok()
    }

    async fn beside<R: Send + 'static>(&self, work: impl FnOnce() -> R + Send + 'static) -> R {
        let done = tokio::task::spawn_blocking(work).await;
        done.expect("a panic ends the process, and the runtime outlives its requests")
    }

    fn now(&self) -> Duration {
        static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
        BEGIN.elapsed()
    }
}

/// The member, as the API's handlers hold it. A clone is another handle of the same.
#[derive(Clone)]
pub struct Served<T = TokioTimer> {
    inner: Arc<Inner<T>>,
}

/// What the handlers share.
struct Inner<T> {
    member: ServedMember,
    timer: T,
    counts: Counts,
    connections: Mutex<Connections>,
    clock: ClusterClock,
    /// One change of the membership at a time.
    changing: tokio::sync::Mutex<()>,
    /// Turns at work that takes long.
    beside: tokio::sync::Semaphore,
}

/// A member that is served.
pub struct ServedMember {
    /// Proposes and reads.
    pub handle: Handle<KvMachine>,
    /// Figures of the parts behind the member.
    pub figures: Arc<Figures>,
    /// The member's store.
    pub store: Shared,
    /// The cluster's id.
    pub cluster_id: u64,
    /// The member's id.
    pub member_id: u64,
    /// The shortest time without a leader until an election.
    pub election_timeout: Duration,
    /// How long a request may take: 5 s and two election timeouts, as etcd's.
    pub request_timeout: Duration,
    /// The quota, in bytes.
    pub quota_bytes: u64,
    /// The bytes of the largest command that is kept while it is proposed, to be proposed again if the
    /// leader is about to hand over; 0 to propose each once.
    pub again_bytes_max: usize,
    /// The shortest time that a lease is granted for, in seconds.
    pub lease_ttl_min: i64,
    /// By how many bytes the engine may lag before proposals are answered *busy*.
    pub engine_lag_bytes_max: u64,
}

/// What is counted here.
#[derive(Debug, Default)]
struct Counts {
    pending: AtomicU64,
    failed: AtomicU64,
    lease_ids: AtomicU64,
}

/// Counts a proposal as pending until it is dropped.
struct Pending<'a>(&'a AtomicU64);

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<T: Timer> Served<T> {
    /// Serves a member. `timer` measures how long requests take.
    #[must_use]
    pub fn new(member: ServedMember, timer: T) -> Served<T> {
        let (connections, clock, changing) = Default::default();
        let counts = Counts::default();
        let beside = tokio::sync::Semaphore::new(BESIDE_MAX);
        Served {
            inner: Arc::new(Inner { member, timer, counts, connections, clock, changing, beside }),
        }
    }

    /// The handle of the member.
    pub(super) fn handle(&self) -> &Handle<KvMachine> {
        &self.inner.member.handle
    }

    /// How the member stands, as the node says it.
    pub(super) fn node_status(&self) -> jangada::Status {
        self.inner.member.handle.status()
    }

    /// Looks at who is connected, now and then: `now` is the time since whenever.
    ///
    /// # Panics
    /// If another thread has panicked while it looked.
    pub fn observe_connections(&self, now: Duration) {
        let Inner { member, connections, .. } = &*self.inner;
        let mut connections = connections.lock().expect("looking at connections does not panic");
        connections.observe(now, &member.figures.peers());
        // Looked at now and then, it is never far behind.
        self.time_ms();
    }

    async fn proposed(&self, buffer: BytesMut) -> Result<Reply, RequestError> {
        let Inner { member, timer, counts, .. } = &*self.inner;
        let ServedMember { handle, store, request_timeout, .. } = member;
        if member.engine_lag_bytes_max < store.engine_lag_bytes() {
            return Err(RequestError::Busy);
        }
        counts.pending.fetch_add(1, Ordering::Relaxed);
        let _pending = Pending(&counts.pending);
        let again = (buffer.len() <= member.again_bytes_max).then(|| buffer.clone());
        let waits_for_leader = AtomicBool::new(false);
        let first = handle.propose_buffer(buffer, COMMAND_VERSION);
        let proposed = async {
            let mut answer = first.await;
            // A leader that hands over refuses what comes; there is another one in a moment. What is
            // refused so will not happen, so it may be proposed once more.
            for _ in 0..AGAIN_MAX {
                let (Err(ProposeError::NoLeader), Some(copy)) = (&answer, &again) else { break };
                waits_for_leader.store(true, Ordering::Relaxed);
                timer.within(LEADER_PAUSE, std::future::pending::<()>()).await;
                waits_for_leader.store(false, Ordering::Relaxed);
                answer = handle.propose_buffer(copy.clone(), COMMAND_VERSION).await;
            }
            answer
        };
        let answer = match timer.within(*request_timeout, proposed).await {
            Some(Ok(reply)) => Ok(reply),
            Some(Err(ProposeError::NoLeader)) => Err(RequestError::NoLeader),
            Some(Err(ProposeError::Busy)) => Err(RequestError::Busy),
            Some(Err(ProposeError::InDoubt)) => Err(RequestError::TimeoutLeaderLost),
            Some(Err(ProposeError::TooLarge)) => Err(RequestError::TooLarge),
            Some(Err(ProposeError::TooNew)) => Err(RequestError::NotCapable),
            Some(Err(ProposeError::NoSpace)) => Err(RequestError::NoSpace),
            Some(Err(ProposeError::Quarantined)) => Err(RequestError::Corrupt),
            Some(Err(ProposeError::Stopped)) => Err(RequestError::Stopped),
            None if waits_for_leader.load(Ordering::Relaxed) => Err(RequestError::NoLeader),
            None => Err(RequestError::Timeout),
        };
        if answer.is_err() {
            counts.failed.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }
}

/// How many walks over all rows go on at a time: each keeps a processor busy and pages of the engine in
/// use. The rest wait their turn.
const BESIDE_MAX: usize = 2;

/// How long to wait before looking again whether the engine holds something durably: a commit takes
/// some milliseconds.
const DURABLE_PAUSE: Duration = Duration::from_millis(5);

/// How long to wait before a command that no leader took is proposed again: a hand-over takes some
/// milliseconds.
const LEADER_PAUSE: Duration = Duration::from_millis(5);

/// How often, at most: for about as long as a hand-over may take, an election timeout.
const AGAIN_MAX: usize = 200;

/// How long to wait before the leader is asked again about leases: an election takes longer, and a
/// hand-over about as long.
const LESSOR_PAUSE: Duration = Duration::from_millis(20);

impl<T: Timer> Served<T> {
    /// Asks whoever leads, until it has answered. To ask twice does no harm.
    async fn ask_lessor(
        &self,
        question: &Question,
        asked: usize,
    ) -> Result<Vec<Option<i64>>, RequestError> {
        let Inner { member, timer, .. } = &*self.inner;
        let bytes = question.encode();
        let answered = async {
            loop {
                match member.handle.consult_leader(bytes.clone()).await {
                    Ok(bytes) => match lease::Answer::decode(&bytes, asked) {
                        Ok(answer) => return Ok(answer.0),
                        Err(lease::Malformed) => return Err(RequestError::NotCapable),
                    },
                    Err(ConsultError::Stopped) => return Err(RequestError::Stopped),
                    Err(ConsultError::TooLarge) => return Err(RequestError::TooLarge),
                    Err(ConsultError::NoLeader | ConsultError::Busy | ConsultError::InDoubt) => {
                        timer.within(LESSOR_PAUSE, std::future::pending::<()>()).await;
                    }
                }
            }
        };
        let answered = timer.within(member.request_timeout, answered).await;
        answered.unwrap_or(Err(RequestError::Timeout))
    }
}

/// How long to wait before a change of the membership is asked for again while another is under way.
const CHANGE_RETRY: Duration = Duration::from_millis(50);

/// How many election timeouts a learner may take to become a voter when it is promoted. It takes a round
/// of replication within one of them, and the leader looks once in each.
const PROMOTION_TIMEOUTS: u32 = 3;

impl<T: Timer> Served<T> {
    /// Changes the membership as it now is. What was asked of this member before is done first, and
    /// what others have asked is waited for.
    async fn change(&self, change: &Change) -> Result<(), ApiError> {
        let Inner { member, changing, timer, .. } = &*self.inner;
        let _turn = changing.lock().await;
        // What is made out from members that are others by now is made out anew.
        loop {
            match self.change_once(change).await {
                Ok(()) => break,
                Err(Step::Again) => {
                    timer.within(CHANGE_RETRY, std::future::pending::<()>()).await;
                }
                Err(Step::Failed(error)) => return Err(error),
            }
        }
        if let Change::Remove { id } = change
            && *id != member.member_id
        {
            // What it had published is of use to nobody; whether it is forgotten changes nothing.
            let _ = self.propose(Command::RetractMember(*id)).await;
        }
        Ok(())
    }

    async fn change_once(&self, change: &Change) -> Result<(), Step> {
        let Inner { member, .. } = &*self.inner;
        self.read_barrier().await.map_err(ApiError::from)?;
        let before = member.handle.membership().configuration().clone();
        let steps = membership::steps(&before, change)?;
        if let Change::Promote { id } = change {
            return self.promote(&before, steps, *id).await;
        }
        self.take_steps(&before, steps).await?;
        Ok(())
    }

    /// Takes one step after the other, each from where the one before has led, and says where the last
    /// has led.
    async fn take_steps(
        &self,
        before: &Configuration,
        steps: Vec<MemberChange>,
    ) -> Result<Configuration, Step> {
        let mut reached = before.clone();
        for (place, step) in steps.into_iter().enumerate() {
            match self.take_step(&reached, step).await {
                Ok(configuration) => reached = configuration,
                // Whoever was quicker knew what the first step had made; the second only says again
                // who is waited for.
                Err(ChangeError::Overtaken) if 0 < place => break,
                Err(error) => return Err(Step::of(error)),
            }
        }
        Ok(reached)
    }

    /// Asks for one step from these members, and again while another change is under way.
    async fn take_step(
        &self,
        before: &Configuration,
        step: MemberChange,
    ) -> Result<Configuration, ChangeError> {
        let Inner { member, timer, .. } = &*self.inner;
        let basis = Basis::of(before);
        loop {
            match member.handle.change_members_of(basis, step.clone()).await {
                Err(ChangeError::UnderWay | ChangeError::HandingOver | ChangeError::Busy) => {
                    timer.within(CHANGE_RETRY, std::future::pending::<()>()).await;
                }
                taken => return taken,
            }
        }
    }

    /// Makes a learner a voter, if it holds the log. One that does not is left a learner.
    async fn promote(
        &self,
        before: &Configuration,
        steps: Vec<MemberChange>,
        id: u64,
    ) -> Result<(), Step> {
        let Inner { member, timer, .. } = &*self.inner;
        if !member.store.read().members().iter().any(|published| published.id == id) {
            return Err(ApiError::LearnerNotReady.into()); // it has not started
        }
        let waits = self.take_steps(before, steps).await?;
        let votes = || member.handle.membership().configuration().voters.contains(&NodeId(id));
        let mut watch = member.handle.watch_membership();
        let promoted = async {
            while !votes() {
                if watch.changed().await.is_none() {
                    std::future::pending::<()>().await; // it stops: the request ends by its own limit
                }
            }
        };
        let patience = member.election_timeout * PROMOTION_TIMEOUTS;
        if timer.within(patience, promoted).await.is_some() {
            return Ok(());
        }
        match self.take_step(&waits, membership::as_it_is(before)).await {
            // Taken back, or made into something else by somebody else.
            Ok(_) | Err(ChangeError::Overtaken) if !votes() => {
                Err(ApiError::LearnerNotReady.into())
            }
            Ok(_) | Err(ChangeError::Overtaken) => Ok(()),
            Err(error) => Err(Step::of(error)),
        }
    }
}

/// Why a change was not made.
enum Step {
    /// The members are about to be others: the change is to be made out anew.
    Again,
    Failed(ApiError),
}

impl Step {
    fn of(error: ChangeError) -> Step {
        Step::Failed(match error {
            ChangeError::Overtaken
            | ChangeError::UnderWay
            | ChangeError::HandingOver
            | ChangeError::Busy => return Step::Again,
            ChangeError::NoLeader => ApiError::NoLeader,
            ChangeError::Impossible => ApiError::MemberBadUrls,
            ChangeError::RemovedBefore => ApiError::MemberNotFound,
            // Whoever is recovering counts as little as who has not started.
            ChangeError::Recovering => ApiError::MemberNotEnoughStarted,
            ChangeError::InDoubt => ApiError::TimeoutLeaderFailed,
            ChangeError::Stopped => ApiError::Stopped,
        })
    }
}

impl From<ApiError> for Step {
    fn from(error: ApiError) -> Step {
        Step::Failed(error)
    }
}

impl<T: Timer> Backend for Served<T> {
    async fn propose(&self, command: Command) -> Result<Reply, RequestError> {
        let mut buffer = Draft::buffer(0);
        command.encode_into(&mut buffer);
        self.proposed(buffer).await
    }

    fn propose_encoded(
        &self,
        buffer: BytesMut,
    ) -> impl Future<Output = Result<Reply, RequestError>> + Send {
        self.proposed(buffer)
    }

    async fn read_barrier(&self) -> Result<(), RequestError> {
        let Inner { member, timer, .. } = &*self.inner;
        let barrier = member.handle.read_barrier();
        match timer.within(member.request_timeout, barrier).await {
            Some(Ok(())) => Ok(()),
            Some(Err(ReadError::NoLeader)) | None => Err(RequestError::Timeout),
            Some(Err(ReadError::Quarantined)) => Err(RequestError::Corrupt),
            Some(Err(ReadError::Stopped)) => Err(RequestError::Stopped),
        }
    }

    fn store(&self) -> &Shared {
        &self.inner.member.store
    }

    async fn beside<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> R + Send + 'static,
    ) -> R {
        let Inner { member, timer, beside, .. } = &*self.inner;
        let _turn = beside.acquire().await.expect("nobody closes it");
        let store = member.store.clone();
        timer.beside(move || work(&store)).await
    }

    fn pause(&self, time: Duration) -> Pause {
        let timer = self.inner.timer.clone();
        Box::pin(async move {
            timer.within(time, std::future::pending::<()>()).await;
        })
    }

    async fn export(&self) -> Result<Exported, ApiError> {
        let Inner { member, timer, .. } = &*self.inner;
        let applied = self.status().applied_index;
        member.store.commit_soon(applied);
        let durable = async {
            while member.store.durable_index() < applied {
                timer.within(DURABLE_PAUSE, std::future::pending::<()>()).await;
            }
        };
        timer.within(member.request_timeout, durable).await.ok_or(ApiError::Timeout)?;
        let state = self.beside(Shared::export).await?;
        // A store that holds nothing has no record yet, and is as of no entry.
        let record = jangada::Record::decode(state.record()).unwrap_or_default();
        let configuration = record.membership.configuration();
        let unconnected = |_| Connection::None;
        let members = membership::members_of(configuration, state.members(), unconnected);
        let removed = record.membership.removed().iter().map(|id| id.0).collect();
        Ok(Exported { term: record.applied.term.0, members, removed, state })
    }

    fn status(&self) -> Status {
        let status = self.inner.member.handle.status();
        Status {
            cluster_id: self.inner.member.cluster_id,
            member_id: self.inner.member.member_id,
            term: status.standing.term.0,
            leader: status.standing.leader.map(|leader| leader.0),
            commit_index: status.commit.0,
            applied_index: status.record.applied.index.0,
            is_learner: membership::is_learner(
                status.record.membership.configuration(),
                self.inner.member.member_id,
            ),
            is_quarantined: status.quarantine.is_some(),
            leader_changes: status.leader_changes,
            proposals_pending: self.inner.counts.pending.load(Ordering::Relaxed),
            proposals_failed: self.inner.counts.failed.load(Ordering::Relaxed),
        }
    }

    fn time_ms(&self) -> u64 {
        let Inner { member, timer, clock, .. } = &*self.inner;
        clock.time_ms(member.handle.status().record.time_ms, timer.now())
    }

    fn sizes(&self) -> Sizes {
        let view = self.inner.member.store.read();
        Sizes {
            allocated: view.size(),
            in_use: view.size_in_use(),
            quota: self.inner.member.quota_bytes,
        }
    }

    fn quota(&self) -> Option<u64> {
        Some(self.inner.member.quota_bytes).filter(|quota| 0 < *quota)
    }

    async fn renew_leases(&self, ids: Vec<i64>) -> Result<Vec<Option<i64>>, RequestError> {
        let asked = ids.len();
        self.ask_lessor(&Question::Renew(ids), asked).await
    }

    async fn leases_remaining(&self, ids: Vec<i64>) -> Result<Vec<Option<i64>>, RequestError> {
        let asked = ids.len();
        self.ask_lessor(&Question::Remaining(ids), asked).await
    }

    fn lease_ttl_min(&self) -> i64 {
        self.inner.member.lease_ttl_min
    }

    /// Of this member, of a place in the log that a restart leaves behind, and of a number.
    fn new_lease_id(&self) -> i64 {
        let Inner { member, counts, .. } = &*self.inner;
        let number = counts.lease_ids.fetch_add(1, Ordering::Relaxed);
        let place = member.handle.status().record.applied.index.0;
        let mut id = member.member_id;
        for word in [place, number] {
            id = (id ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            id ^= id >> 32;
        }
        i64::try_from(id >> 1).expect("the highest bit is clear").max(1)
    }

    async fn change_members(&self, change: Change) -> Result<(), ApiError> {
        let Inner { member, timer, .. } = &*self.inner;
        let changed = timer.within(member.request_timeout, self.change(&change)).await;
        changed.unwrap_or(Err(ApiError::Timeout))
    }

    async fn transfer_leadership(&self, to: u64) -> Result<(), ApiError> {
        let Inner { member, timer, .. } = &*self.inner;
        let transferred = member.handle.transfer_leadership(Some(NodeId(to)));
        match timer.within(member.request_timeout, transferred).await {
            Some(Ok(_)) => Ok(()),
            Some(Err(TransferError::NoLeader)) => Err(ApiError::NoLeader),
            Some(Err(TransferError::NoVoter)) => Err(ApiError::BadLeaderTransferee),
            Some(Err(TransferError::TimedOut | TransferError::Replaced)) | None => {
                Err(ApiError::TimeoutLeaderTransfer)
            }
            Some(Err(TransferError::Busy)) => Err(ApiError::TooManyRequests),
            Some(Err(TransferError::InDoubt)) => Err(ApiError::LeaderChanged),
            Some(Err(TransferError::Stopped)) => Err(ApiError::Stopped),
        }
    }

    fn members(&self) -> Vec<Member> {
        let Inner { member, connections, .. } = &*self.inner;
        let membership = member.handle.membership();
        let published = member.store.read().members();
        let connections = connections.lock().expect("looking at connections does not panic");
        membership::members_of(membership.configuration(), &published, |id| {
            if id == member.member_id { Connection::Lasting } else { connections.of(id) }
        })
    }

    fn expose(&self, exposition: &mut Exposition) {
        let ServedMember { figures, handle, store, .. } = &self.inner.member;
        let log_bytes = figures.log_bytes.load(Ordering::Relaxed);
        exposition
            .family(
                "jangada_log_retained_bytes",
                Kind::Gauge,
                "Bytes of the log that are kept for a restart or for a member that is behind.",
            )
            .sample(&[], log_bytes);
        exposition
            .family(
                "jangada_engine_lag_bytes",
                Kind::Gauge,
                "Bytes of applied changes that the engine does not hold durably yet.",
            )
            .sample(&[], store.engine_lag_bytes());
        exposition
            .family(
                "jangada_log_disk_full",
                Kind::Gauge,
                "1 while the log waits for space on its disk.",
            )
            .sample(&[], u8::from(figures.log_full.load(Ordering::Relaxed)));
        let status = handle.status();
        transfers::write(&status.snapshots_by_peer, exposition);
        exposition
            .family(
                "etcd_server_snapshot_apply_in_progress_total",
                Kind::Gauge,
                "1 while this member waits for a snapshot, or installs one.",
            )
            .sample(&[], u8::from(status.needs_snapshot));
        exposition
            .family(
                "jangada_snapshots_sent_total",
                Kind::Counter,
                "The snapshots that this member has sent to others, to their end.",
            )
            .sample(&[], status.snapshots_sent);
        exposition
            .family(
                "jangada_snapshots_installed_total",
                Kind::Counter,
                "The snapshots of others that this member has installed.",
            )
            .sample(&[], status.snapshots_installed);
        exposition
            .family(
                "jangada_needs_snapshot",
                Kind::Gauge,
                "1 while this member serves nothing until it has been sent a snapshot.",
            )
            .sample(&[], u8::from(status.needs_snapshot));
        self.expose_peers(exposition);
    }
}

impl<T: Timer> Served<T> {
    fn expose_peers(&self, exposition: &mut Exposition) {
        let local = format!("{:x}", self.inner.member.member_id);
        let peers: Vec<_> = self.inner.member.figures.peers();
        let peers: Vec<_> = peers.iter().map(|stats| (format!("{}", stats.peer), stats)).collect();
        type Figure = fn(&jangada::net::PeerStats) -> u64;
        let by_pair: [(&str, &str, Kind, Figure); 3] = [
            ("etcd_network_known_peers", "The current number of known peers.", Kind::Gauge, |_| 1),
            (
                "etcd_network_active_peers",
                "The current number of active peer connections.",
                Kind::Gauge,
                |stats| u64::from(stats.up),
            ),
            (
                "etcd_network_disconnected_peers_total",
                "The total number of disconnected peers.",
                Kind::Counter,
                |stats| stats.lanes_lost,
            ),
        ];
        for (name, help, kind, figure) in by_pair {
            let mut family = exposition.family(name, kind, help);
            for (remote, stats) in &peers {
                family.sample(&[("Local", &local), ("Remote", remote)], figure(stats));
            }
        }
        let by_peer: [(&str, &str, &str, Figure); 4] = [
            (
                "etcd_network_peer_sent_bytes_total",
                "The total number of bytes sent to peers.",
                "To",
                |stats| stats.sent_bytes,
            ),
            (
                "etcd_network_peer_received_bytes_total",
                "The total number of bytes received from peers.",
                "From",
                |stats| stats.received_bytes,
            ),
            (
                "etcd_network_peer_sent_failures_total",
                "The total number of send failures from peers.",
                "To",
                |stats| stats.send_failures,
            ),
            (
                "etcd_network_peer_received_failures_total",
                "The total number of receive failures from peers.",
                "From",
                |stats| stats.receive_failures,
            ),
        ];
        for (name, help, label, figure) in by_peer {
            let mut family = exposition.family(name, Kind::Counter, help);
            for (peer, stats) in &peers {
                family.sample(&[(label, peer)], figure(stats));
            }
        }
    }
}
