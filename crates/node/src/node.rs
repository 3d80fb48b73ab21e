//! The networked runtime: one member of a cluster in its own process, on a real disk and network.
//!
//! Three threads for a member: the *event thread* runs the member's loop, its connections and
//! whatever its owner runs beside them; the *log thread* owns the log and does nothing but write,
//! sync and read; the *background thread* prepares the log's segments ahead of time. A hand-off
//! between threads costs some 5 microseconds, so a batch makes two: to the log thread and back.
//!
//! A broken disk stops the process: after a failed write or sync nothing is known about the file
//! (Rebello et al., ATC '20). A full disk does not: the batch waits, nothing is acknowledged, and the
//! log is tried again each second.

mod forced;
mod peers;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::net::TcpListener;
use std::path::PathBuf;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jangada_net::handshake::RefusalCode;
use jangada_net::{
    ForwardRefusal, Lane, PeerListener, PeerMessage, PeerStats, Proposal, Security, SendError,
    Transport, TransportConfig, TransportEvent, TransportLimits, host_port, is_secured,
};
use jangada_raft::{Configuration, Index, NodeId, Standing};
use jangada_wal::{
    FileDisk, Identity, Machine, OpenError, Preparation, Prepared, Recovered, Space, Wal, WalError,
};

use crate::clock::Clock;
use crate::driver::{Driver, Io};
use crate::handle::{Handle, Inbox, Shared};
use crate::log::{Log, last_time_ms};
use crate::machine::StateMachine;
use crate::member::{
    Ended, Event, FEATURE_LEVEL, LogBatch, LogCut, LogRead, LogWritten, Member, MemberStart, Mend,
    Options, Peers, Quarantine, SnapshotWork, StartError, TurnedAway,
};
use crate::notes::Notes;
use crate::record::{Acquaintances, NotesError, Record};
use crate::saved::{SavedError, SavedState, UnsavedState};
use crate::snapshot_thread::{self, SnapshotJob};
pub use forced::ForceError;
use forced::go_on_alone;
use peers::Directory;

/// How a member is found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberAddress {
    /// The member.
    pub id: NodeId,
    /// Its addresses, each `host:port`, tried in order.
    pub addresses: Vec<String>,
}

/// How a member begins when it has no log yet. Once it has one, the log tells.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Beginning {
    /// With all the others of a new cluster, whose first configuration are the members of the
    /// [`Config`].
    #[default]
    Bootstrap,
    /// As a member that was added to a cluster. It learns the configuration from the log; the members
    /// of the [`Config`] (see [`jangada_net::inquire`]) are those that it knows how to find.
    Join,
}

/// Hears how long each batch of the log took to be durable, and how many bytes of entries it held. It
/// is called on the log's thread and should only note the figures.
pub type SyncObserver = Box<dyn Fn(Duration, u64) + Send>;

/// What a member needs to run.
pub struct Config {
    /// Names the cluster. Members of different clusters refuse one another.
    pub cluster: u64,
    /// The group whose log this is.
    pub group: u64,
    /// This member.
    pub id: NodeId,
    /// All members of the cluster, this one among them. Where the log knows of a configuration, that
    /// one counts, and addresses given here only where none stand there.
    pub members: Vec<MemberAddress>,
    /// How the member begins when it has no log yet.
    pub beginning: Beginning,
    /// Gives all other members up, for good: this one goes on as the only voter, with what its log holds.
    /// For an operator whose cluster has lost its majority and will not get it back; the others must
    /// never run again with the data they had. Of a member that is alone already nothing is changed.
    pub force_alone: bool,
    /// Where this member tells others that it is found; as it stands among the members when empty.
    pub advertised: Vec<String>,
    /// Where the log is kept. Created when absent.
    pub log_directory: PathBuf,
    /// The log's folder, if the caller has opened it before, to hold its lock while the state machine
    /// is opened.
    pub log_disk: Option<FileDisk>,
    /// Hears of each sync of the log.
    pub sync_observer: Option<SyncObserver>,
    /// Where peers are accepted; bound at start to this member's own addresses when empty.
    pub listeners: Vec<PeerListener>,
    /// What secures the connections between members, if anything does.
    pub security: Option<Arc<dyn Security>>,
    /// The member's bounds and intervals.
    pub options: Options,
    /// The log's sizes.
    pub log_options: jangada_wal::Options,
    /// The transport's bounds.
    pub transport_limits: TransportLimits,
}

impl Config {
    /// A member with defaults for everything but its id, where the members of its cluster are found
    /// (each `host:port`), and where it keeps its log.
    pub fn new(
        id: NodeId,
        members: impl IntoIterator<Item = (NodeId, String)>,
        log_directory: impl Into<PathBuf>,
    ) -> Config {
        let members = members.into_iter();
        Config {
            cluster: 0,
            group: 0,
            id,
            members: members
                .map(|(id, address)| MemberAddress { id, addresses: vec![address] })
                .collect(),
            beginning: Beginning::Bootstrap,
            force_alone: false,
            advertised: Vec::new(),
            log_directory: log_directory.into(),
            log_disk: None,
            sync_observer: None,
            listeners: Vec::new(),
            security: None,
            options: Options::default(),
            log_options: jangada_wal::Options::default(),
            transport_limits: TransportLimits::default(),
        }
    }
}

/// Why a member cannot run.
#[derive(Debug)]
pub enum NodeError {
    /// The log cannot be opened.
    Log {
        /// The folder.
        directory: PathBuf,
        /// Why.
        error: OpenError,
    },
    /// The log belongs to another member or cluster.
    Foreign {
        /// The folder.
        directory: PathBuf,
        /// Whose log it is.
        found: Identity,
        /// Whose log it should be.
        wanted: Identity,
    },
    /// Reading the log's last entry failed.
    Read(WalError),
    /// The state that was saved for the state machine cannot be read.
    Saved(SavedError),
    /// It cannot go on alone.
    Force(ForceError),
    /// The log and the state machine do not go together.
    Start(StartError),
    /// A listener cannot be bound or used.
    Listen {
        /// The address.
        address: String,
        /// Why.
        error: std::io::Error,
    },
    /// This member is not among the members.
    NotAMember(NodeId),
    /// The member is none any more.
    Ended(Ended),
    /// The system has no randomness or no thread to give.
    System(std::io::Error),
}

impl std::fmt::Display for NodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NodeError::Log { directory, error } => {
                write!(f, "the log in {} cannot be opened: {error}", directory.display())
            }
            NodeError::Foreign { directory, found, wanted } => write!(
                f,
                "the log in {} belongs to member {:x} of cluster {:x}, but this is member {:x} of \
                 cluster {:x}; start it with the flags it was created with, or give this member \
                 an empty data directory",
                directory.display(),
                found.member,
                found.cluster,
                wanted.member,
                wanted.cluster
            ),
            NodeError::Read(error) => error.fmt(f),
            NodeError::Saved(error) => error.fmt(f),
            NodeError::Force(error) => write!(f, "no cluster of this member alone: {error}"),
            NodeError::Start(error) => error.fmt(f),
            NodeError::Listen { address, error } => {
                write!(f, "cannot listen for peers on {address}: {error}")
            }
            NodeError::NotAMember(id) => {
                write!(f, "member {id} is not among the members; add it to the list")
            }
            NodeError::Ended(ended) => ended.fmt(f),
            NodeError::System(error) => write!(f, "the system does not let it run: {error}"),
        }
    }
}

impl std::error::Error for NodeError {}

impl From<StartError> for NodeError {
    fn from(error: StartError) -> NodeError {
        NodeError::Start(error)
    }
}

impl From<NotesError> for NodeError {
    fn from(error: NotesError) -> NodeError {
        NodeError::Start(StartError::Notes(error))
    }
}

/// Figures of a running member that its owner may show.
#[derive(Debug, Default)]
pub struct Figures {
    /// The bytes that the log retains.
    pub log_bytes: AtomicU64,
    /// Set while the log waits for space on its disk.
    pub log_full: AtomicBool,
    peers: Mutex<Vec<PeerStats>>,
}

impl Figures {
    /// Each peer's counters, as of the last second or so.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerStats> {
        self.peers.lock().expect("figures are only copied under the lock").clone()
    }
}

/// A member that has been opened and waits to be run.
pub struct Opened<M: StateMachine> {
    driver: Driver<M>,
    handle: Handle<M>,
    clock: Clock,
    wal: Wal<FileDisk>,
    disk: FileDisk,
    transport: TransportConfig,
    listeners: Vec<PeerListener>,
    acquaintances: Acquaintances,
    sync_observer: SyncObserver,
    figures: Arc<Figures>,
    recovered: String,
    directory: Directory,
}

/// Opens the log, recovers what it holds and joins it with the state machine.
///
/// # Errors
/// See [`NodeError`]; nothing is changed on disk when the log is not this member's.
pub fn open<M: StateMachine>(mut config: Config, machine: M) -> Result<Opened<M>, NodeError> {
    if !config.members.iter().any(|member| member.id == config.id) {
        return Err(NodeError::NotAMember(config.id));
    }
    let directory = &config.log_directory;
    let disk = match config.log_disk.take() {
        Some(disk) => disk,
        None => FileDisk::open(directory)
            .map_err(|error| NodeError::Log { directory: directory.clone(), error })?,
    };
    let saved = SavedState::load(&disk).map_err(NodeError::Saved)?;
    let applied = match &saved {
        Some(saved) => Some(saved.record.clone()),
        None => machine.recovered(),
    };
    let record = applied.map(|bytes| Record::decode(&bytes)).transpose()?.unwrap_or_default();
    let (wal, recovered) = open_log(&config, disk.clone(), &record)?;
    let (wal, recovered) = force(&config, wal, recovered, &record)?;
    let time_ms = last_time_ms(&wal, &recovered).map_err(NodeError::Read)?;
    let process = random()?;
    let Notes { acquaintances, quarantine } = Notes::decode(&recovered.note)?;
    let clock = Clock::start();
    let start = MemberStart {
        id: config.id,
        group: config.group,
        process,
        hard_state: recovered.hard_state,
        configuration: recovered.base_configuration.clone(),
        configurations: recovered.configurations.clone(),
        log: recovered.range.clone(),
        time_ms,
        note: recovered.note.clone(),
        level: FEATURE_LEVEL,
        faulty: recovered.faulty.clone(),
        recovering: recovered.recovering,
        saved,
        options: config.options,
        seed: random()?,
    };
    let member = Member::new(clock.now(), start, machine)?;
    if let Some(quarantine) = quarantine.filter(|_| member.quarantine().is_some()) {
        tell_quarantine(quarantine);
    }
    if let Some(concern) = member.concern() {
        tracing::warn!("{concern}");
    }
    let (driver, handle) = Driver::new(process, config.group, member);
    let listeners = listen(&mut config)?;
    let directory = Directory::new(config.id, config.beginning, &config.members);
    let addresses = match config.advertised.is_empty() {
        true => own_addresses(&config).cloned().collect(),
        false => config.advertised,
    };
    let transport = TransportConfig {
        cluster: config.cluster,
        group: config.group,
        member: config.id,
        incarnation: recovered.identity.incarnation,
        addresses,
        level: FEATURE_LEVEL,
        peers: directory.peers(&driver.member().peers()),
        limits: config.transport_limits,
        security: config.security,
    };
    let figures = Arc::new(Figures::default());
    figures.log_bytes.store(wal.bytes(), Ordering::Relaxed);
    Ok(Opened {
        driver,
        handle,
        clock,
        wal,
        disk,
        transport,
        listeners,
        acquaintances,
        sync_observer: config.sync_observer.unwrap_or_else(|| Box::new(|_, _| ())),
        figures,
        recovered: recovered.report.to_string(),
        directory,
    })
}

fn random() -> Result<u64, NodeError> {
    let drawn = getrandom::u64().map_err(|e| NodeError::System(std::io::Error::other(e)))?;
    Ok(drawn | 1) // never zero, which stands for "nobody"
}

/// What a log that was never cut begins with.
fn first_configuration(config: &Config) -> Configuration {
    match config.beginning {
        Beginning::Bootstrap => Configuration {
            addresses: config.members.iter().map(|m| (m.id, m.addresses.clone())).collect(),
            ..Configuration::of_voters(config.members.iter().map(|m| m.id))
        },
        // It counts for nothing, and counts nobody, before it has learnt of one.
        Beginning::Join => Configuration::default(),
    }
}

fn open_log(
    config: &Config,
    disk: FileDisk,
    record: &Record,
) -> Result<(Wal<FileDisk>, Recovered), NodeError> {
    let directory = config.log_directory.clone();
    let failed = |error| NodeError::Log { directory: directory.clone(), error };
    let mut identity = Identity {
        cluster: config.cluster,
        member: config.id.0,
        incarnation: random()?,
        group: config.group,
    };
    if !Wal::exists(&disk).map_err(&failed)? {
        if config.force_alone {
            return Err(NodeError::Force(ForceError::NoLog));
        }
        return Wal::create(
            disk,
            config.log_options.clone(),
            identity,
            first_configuration(config),
        )
        .map_err(failed);
    }
    let configuration = match record.membership.configuration() {
        // Nothing was applied yet, or by a version that did not note it.
        none if none.voters.is_empty() => first_configuration(config),
        known => known.clone(),
    };
    let machine = Machine { applied: record.applied, configuration };
    let options = config.log_options.clone();
    let (wal, recovered) = Wal::open_beside(disk, options, &machine).map_err(&failed)?;
    let found = recovered.identity;
    identity.incarnation = found.incarnation;
    if found != identity {
        return Err(NodeError::Foreign { directory, found, wanted: identity });
    }
    Ok((wal, recovered))
}

/// Makes this member the only one, if that was ordered.
fn force(
    config: &Config,
    mut wal: Wal<FileDisk>,
    mut recovered: Recovered,
    record: &Record,
) -> Result<(Wal<FileDisk>, Recovered), NodeError> {
    if !config.force_alone {
        return Ok((wal, recovered));
    }
    let addresses = match config.advertised.is_empty() {
        true => own_addresses(config).cloned().collect(),
        false => config.advertised.clone(),
    };
    let security = config.security.as_deref();
    let given_up = go_on_alone(config.id, &addresses, &mut wal, &mut recovered, record, security);
    let given_up = given_up.map_err(NodeError::Force)?;
    if given_up.is_empty() {
        tracing::warn!(
            "this member is alone already; do not order it to force a new cluster again"
        );
    } else {
        let given_up: Vec<_> = given_up.iter().map(ToString::to_string).collect();
        tracing::warn!(
            given_up = given_up.join(","),
            "FORCED A NEW CLUSTER of this member alone: what only the others held is lost, and they \
             must never run again with the data they have; empty their data directories, take the \
             order away, and add new members"
        );
    }
    Ok((wal, recovered))
}

fn listen(config: &mut Config) -> Result<Vec<PeerListener>, NodeError> {
    let given = std::mem::take(&mut config.listeners);
    if !given.is_empty() {
        return Ok(given);
    }
    own_addresses(config)
        .map(|address| {
            let listen = |error| NodeError::Listen { address: address.clone(), error };
            let socket = TcpListener::bind(host_port(address)).map_err(listen)?;
            Ok(PeerListener { socket, secured: is_secured(address) })
        })
        .collect()
}

/// Where this member stands among the members.
fn own_addresses(config: &Config) -> impl Iterator<Item = &String> {
    let own = config.members.iter().filter(|member| member.id == config.id);
    own.flat_map(|member| &member.addresses)
}

impl<M: StateMachine> Opened<M> {
    /// A handle on the member; what is asked of it waits until the member runs.
    #[must_use]
    pub fn handle(&self) -> Handle<M> {
        self.handle.clone()
    }

    /// The member's figures.
    #[must_use]
    pub fn figures(&self) -> Arc<Figures> {
        self.figures.clone()
    }

    /// What the log was found to hold, in a sentence.
    #[must_use]
    pub fn recovered(&self) -> &str {
        &self.recovered
    }

    /// Runs the member until [`Handle::stop`], or until it ends by itself. To be run in a `LocalSet` on a current-thread tokio
    /// runtime with I/O and time enabled.
    ///
    /// # Errors
    /// If the system refuses a thread or a socket, or with [`NodeError::Ended`] if the member was
    /// removed, or can be none any more for another reason.
    pub async fn run(self) -> Result<(), NodeError> {
        let Opened { driver, handle, clock, wal, disk, figures, .. } = self;
        let shared = handle.shared().clone();
        let snapshot_disk = disk.clone();
        let (jobs, log_thread) =
            start_log_thread(wal, disk, shared.clone(), self.sync_observer, figures.clone())?;
        let (snapshots, snapshot_thread) =
            snapshot_thread::start(snapshot_disk, shared.clone()).map_err(NodeError::System)?;
        let events: Rc<RefCell<Vec<Event>>> = Rc::default();
        let sink = {
            let shared = shared.clone();
            Rc::new(move |event| told(&shared, event))
        };
        let transport =
            Transport::start(self.transport, self.listeners, sink).map_err(NodeError::System)?;
        for (peer, incarnation) in self.acquaintances.iter() {
            transport.expect_incarnation(peer, Some(incarnation));
        }
        self.directory.tell(&transport, &driver.member().peers());
        let io = Network { transport, jobs, snapshots, events, directory: self.directory };
        let ended = run_loop(driver, &clock, io, &figures).await;
        snapshot_thread.join().map_err(|_| {
            NodeError::System(std::io::Error::other("the thread for snapshots has panicked"))
        })?;
        log_thread
            .join()
            .map_err(|_| NodeError::System(std::io::Error::other("the log thread has panicked")))?;
        ended.map_or(Ok(()), |ended| Err(NodeError::Ended(ended)))
    }
}

/// Runs the member's loop. Whatever came since the last turn is handled in one; other tasks of the
/// event thread that are ready run first, so batches form by themselves under load.
async fn run_loop<M: StateMachine>(
    mut driver: Driver<M>,
    clock: &Clock,
    mut io: Network,
    figures: &Figures,
) -> Option<Ended> {
    let mut armed = clock.instant(driver.member().next_step_us());
    let mut alarm = pin!(tokio::time::sleep_until(armed.into()));
    let mut figures_at = Instant::now();
    loop {
        // Most turns move the deadline back. The alarm is only ever moved forward; when it rings too
        // early it is set anew.
        let deadline = clock.instant(driver.member().next_step_us());
        if deadline < armed {
            armed = deadline;
            alarm.as_mut().reset(armed.into());
        }
        let inbox = poll_fn(|context| match driver.collect(context.waker()) {
            Inbox::Empty if driver.has_events() => Poll::Ready(Inbox::Filled),
            Inbox::Empty => alarm.as_mut().poll(context).map(|()| Inbox::Empty),
            found => Poll::Ready(found),
        })
        .await;
        if inbox == Inbox::Stopping {
            return None;
        }
        if inbox == Inbox::Empty {
            let deadline = clock.instant(driver.member().next_step_us());
            armed = deadline;
            alarm.as_mut().reset(armed.into());
            if Instant::now() < deadline {
                continue;
            }
        }
        driver.turn(clock.now(), &mut io);
        io.transport.flush();
        if let Some(ended) = driver.ended() {
            tracing::error!("{ended}");
            return Some(ended);
        }
        io.events.borrow_mut().drain(..).for_each(|event| driver.push(event));
        if FIGURES_INTERVAL <= figures_at.elapsed() {
            figures_at = Instant::now();
            *figures.peers.lock().expect("figures are only copied under the lock") =
                io.transport.stats();
        }
    }
}

/// How often the peers' counters are copied for whoever shows them.
const FIGURES_INTERVAL: Duration = Duration::from_secs(1);

/// The transport has something to tell.
fn told<M: StateMachine>(shared: &Shared<M>, event: TransportEvent) {
    match event {
        TransportEvent::Received { from, message } => {
            shared.push(Event::Received { from, message });
        }
        TransportEvent::TurnedAway { by, code } => {
            let reason = match code {
                RefusalCode::Removed => TurnedAway::Removed,
                RefusalCode::Wiped => TurnedAway::Wiped,
                _ => return,
            };
            shared.push(Event::TurnedAway { by, reason });
        }
        TransportEvent::Up { peer, incarnation, level } => {
            tracing::info!(peer = %peer, "peer became active");
            shared.push(Event::Hello { peer, incarnation, level });
            shared.push(Event::PeerUp(peer));
        }
        TransportEvent::Down { peer, reason } => {
            tracing::warn!(peer = %peer, reason = %reason, "peer became inactive");
            shared.push(Event::PeerDown(peer));
        }
        TransportEvent::LaneLost { peer, lane: Lane::Entries } => {
            shared.push(Event::LaneLost(peer));
        }
        TransportEvent::LaneUp { peer, lane: Lane::Entries } => shared.push(Event::LaneUp(peer)),
        TransportEvent::LaneLost { peer, lane: Lane::Snapshots } => {
            shared.push(Event::SnapshotsLost(peer));
        }
        TransportEvent::LaneLost { lane: Lane::Control, .. }
        | TransportEvent::LaneUp { lane: Lane::Control | Lane::Snapshots, .. } => {}
        TransportEvent::Refused { peer, sentence } => {
            let peer = peer.map(|peer| peer.to_string()).unwrap_or_default();
            tracing::warn!(peer, "{sentence}");
        }
    }
}

/// The world outside a networked member.
struct Network {
    transport: Transport,
    jobs: mpsc::Sender<Job>,
    snapshots: mpsc::Sender<SnapshotJob>,
    events: Rc<RefCell<Vec<Event>>>,
    directory: Directory,
}

/// As the log thread.
const SNAPSHOT_THREAD_LIVES: &str = "the thread for snapshots outlives the loop";

/// The log thread ends only after the loop has dropped its sender, or with the process.
const LOG_THREAD_LIVES: &str = "the log thread outlives the loop";

impl Io for Network {
    fn write(&mut self, batch: LogBatch) {
        self.jobs.send(Job::Write(batch)).expect(LOG_THREAD_LIVES);
    }

    fn read(&mut self, read: LogRead) {
        self.jobs.send(Job::Read(read)).expect(LOG_THREAD_LIVES);
    }

    fn cut(&mut self, cut: LogCut) {
        self.jobs.send(Job::Cut(cut)).expect(LOG_THREAD_LIVES);
    }

    fn mend(&mut self, mend: Mend) {
        self.jobs.send(Job::Mend(mend)).expect(LOG_THREAD_LIVES);
    }

    fn work(&mut self, work: SnapshotWork) {
        self.snapshots.send(SnapshotJob::Work(work)).expect(SNAPSHOT_THREAD_LIVES);
    }

    fn save(&mut self, state: UnsavedState) {
        self.snapshots.send(SnapshotJob::Save(state)).expect(SNAPSHOT_THREAD_LIVES);
    }

    fn send(&mut self, to: NodeId, message: PeerMessage) {
        let Err(error) = self.transport.send(to, &message) else { return };
        let lane = message.lane();
        match message {
            PeerMessage::Forward(proposals) => {
                self.events.borrow_mut().push(not_sent(to, &proposals, error));
            }
            _ if lane == Lane::Snapshots => {
                self.events.borrow_mut().push(Event::SnapshotsLost(to));
            }
            _ if lane == Lane::Entries => self.events.borrow_mut().push(Event::LaneLost(to)),
            // Small and urgent; the protocol repeats it.
            _ => {}
        }
    }

    fn changed(&mut self, standing: Standing) {
        let leader = standing.leader.map(|leader| leader.to_string()).unwrap_or_default();
        tracing::info!(term = standing.term.0, role = ?standing.role, leader, "raft state changed");
    }

    fn stranger(&mut self, peer: NodeId, met: u64, shown: u64) {
        tracing::warn!(
            peer = %peer,
            met = format!("{met:x}"),
            shown = format!("{shown:x}"),
            "the peer's data directory is not the one this member has met before; nothing of it \
             counts until it is removed and added as a new member"
        );
    }

    fn peers(&mut self, peers: Peers) {
        self.directory.tell(&self.transport, &peers);
    }

    fn abort(&mut self, stalled_us: u64) {
        let seconds = stalled_us / 1_000_000;
        let sentence = format!(
            "the log's disk has not finished a write for {seconds} seconds; the process stops, for \
             nobody is served by one that waits: look at the disk, then start it again"
        );
        tracing::error!("{sentence}");
        eprintln!("jangada: {sentence}");
        std::process::abort()
    }

    fn quarantined(&mut self, quarantine: Quarantine) {
        tell_quarantine(quarantine);
    }

    fn hashes_differ(&mut self, index: Index, hashes: BTreeMap<NodeId, u64>) {
        let hashes: Vec<_> = hashes.iter().map(|(id, hash)| format!("{id}: {hash:x}")).collect();
        tracing::error!(
            index = index.0,
            hashes = hashes.join(", "),
            "the members' states differ, and no majority holds one of them: find out which is right, \
             and replace the other members"
        );
    }
}

fn tell_quarantine(Quarantine { index, own, others }: Quarantine) {
    tracing::error!(
        index = index.0,
        own = format!("{own:x}"),
        others = format!("{others:x}"),
        "this member's state differs from what a majority of the members has: it serves nobody until \
         its state is replaced by another member's"
    );
}

/// What was not taken for sending will not happen: the clients need not be left in doubt. It is as if
/// the leader had refused it.
fn not_sent(leader: NodeId, proposals: &[Proposal], error: SendError) -> Event {
    let reason = match error {
        SendError::Full => ForwardRefusal::Busy,
        SendError::UnknownPeer | SendError::NotConnected | SendError::Message(_) => {
            ForwardRefusal::NotLeader
        }
    };
    let process = proposals.first().map_or(0, |proposal| proposal.origin.incarnation);
    let sequences = proposals.iter().map(|proposal| proposal.origin.sequence).collect();
    let message = PeerMessage::ForwardRefused { process, sequences, reason };
    Event::Received { from: leader, message }
}

// ---- the log thread ----

enum Job {
    Write(LogBatch),
    Read(LogRead),
    Cut(LogCut),
    Mend(Mend),
}

/// How long the log waits before it tries a full disk again.
const FULL_RETRY: Duration = Duration::from_secs(1);

/// How often it looks, meanwhile, whether the member was told to stop.
const STOP_POLL: Duration = Duration::from_millis(20);

fn start_log_thread<M: StateMachine>(
    wal: Wal<FileDisk>,
    disk: FileDisk,
    shared: Arc<Shared<M>>,
    sync_observer: SyncObserver,
    figures: Arc<Figures>,
) -> Result<(mpsc::Sender<Job>, JoinHandle<()>), NodeError> {
    let background = start_background_thread(disk)?;
    let (jobs, receiver) = mpsc::channel();
    let (preparing, is_full) = (false, false);
    let thread = LogThread { wal, shared, sync_observer, figures, background, preparing, is_full };
    let handle = std::thread::Builder::new()
        .name("jangada-log".into())
        .spawn(move || thread.run(&receiver))
        .map_err(NodeError::System)?;
    Ok((jobs, handle))
}

/// The thread that makes segments ready.
struct Background {
    preparations: mpsc::Sender<Preparation>,
    prepared: mpsc::Receiver<Prepared>,
    thread: JoinHandle<()>,
}

/// Starts the thread that makes segments ready. It ends with the log thread.
fn start_background_thread(disk: FileDisk) -> Result<Background, NodeError> {
    let (preparations, to_run) = mpsc::channel::<Preparation>();
    let (done, prepared) = mpsc::channel();
    let thread = std::thread::Builder::new()
        .name("jangada-prepare".into())
        .spawn(move || {
            let _whole = StopOnPanic;
            for preparation in to_run {
                if done.send(preparation.run(&disk)).is_err() {
                    return;
                }
            }
        })
        .map_err(NodeError::System)?;
    Ok(Background { preparations, prepared, thread })
}

/// Held by the threads on which the log depends. A panic there is a broken invariant or a broken
/// disk; without the thread the member would go on, and nobody would be answered.
struct StopOnPanic;

impl Drop for StopOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("jangada: the log has failed, and the process ends with it");
            std::process::abort();
        }
    }
}

struct LogThread<M: StateMachine> {
    wal: Wal<FileDisk>,
    shared: Arc<Shared<M>>,
    sync_observer: SyncObserver,
    figures: Arc<Figures>,
    background: Background,
    preparing: bool,
    /// What the member was told last.
    is_full: bool,
}

impl<M: StateMachine> LogThread<M> {
    fn run(mut self, jobs: &mpsc::Receiver<Job>) {
        let _whole = StopOnPanic;
        self.prepare();
        loop {
            // What is short of space looks from time to time whether there is some again, though
            // nobody writes.
            let job = match self.is_full {
                false => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
                true => jobs.recv_timeout(FULL_RETRY),
            };
            let job = match job {
                Ok(job) => job,
                Err(RecvTimeoutError::Timeout) => {
                    self.wal.retry_space();
                    self.prepare();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            };
            match job {
                Job::Write(batch) => self.write(&batch),
                Job::Read(read) => {
                    let frames = Log::read(&mut self.wal, &read).unwrap_or_else(|e| broken(&e));
                    self.shared.push(Event::LogRead { reader: read.reader, frames });
                }
                Job::Cut(cut) => {
                    let begins = Log::cut(&mut self.wal, &cut).unwrap_or_else(|e| broken(&e));
                    self.shared.push(Event::LogBegins(begins));
                }
                Job::Mend(mend) => {
                    if let Some(mended) = self.until_there_is_space(|wal| Log::mend(wal, &mend)) {
                        self.shared.push(Event::Mended(mended));
                    }
                }
            }
            self.prepare();
            self.figures.log_bytes.store(self.wal.bytes(), Ordering::Relaxed);
        }
        // The background thread has a handle on the log's folder: its lock is released with both.
        let Background { preparations, thread, .. } = self.background;
        drop(preparations);
        thread.join().expect("the background thread does not panic");
    }

    /// Makes a batch durable, however long the disk stays full. Told to stop while it is, the member
    /// ends without the batch, of which nothing was acknowledged.
    fn write(&mut self, batch: &LogBatch) {
        let started = Instant::now();
        if self.until_there_is_space(|wal| Log::append(wal, batch)).is_none() {
            return;
        }
        let bytes = batch.entries.iter().map(|entry| entry.bytes().len() as u64).sum();
        (self.sync_observer)(started.elapsed(), bytes);
        let (number, last) = (batch.number, batch.last);
        self.shared.push(Event::LogWritten(LogWritten { number, last }));
    }

    /// Does something with the log, however long its disk stays full; `None` if the member was told to
    /// stop meanwhile.
    fn until_there_is_space<T>(
        &mut self,
        mut act: impl FnMut(&mut Wal<FileDisk>) -> Result<T, WalError>,
    ) -> Option<T> {
        let done = loop {
            let error = match act(&mut self.wal) {
                Ok(done) => break done,
                Err(WalError::Full) => WalError::Full,
                Err(error) => broken(&error),
            };
            self.tell_space(Space::Reserve);
            tracing::error!("{error}; nothing is acknowledged until then");
            let retry_at = Instant::now() + FULL_RETRY;
            while Instant::now() < retry_at {
                if self.shared.is_stopping() {
                    return None;
                }
                std::thread::sleep(STOP_POLL);
            }
            self.wal.retry_space();
            self.prepare();
        };
        Some(done)
    }

    /// Takes segments that are ready and has the next ones made.
    fn prepare(&mut self) {
        while let Ok(prepared) = self.background.prepared.try_recv() {
            self.preparing = false;
            if let Err(error) = self.wal.prepared(prepared) {
                // Without space the log goes on with the segments it has.
                let WalError::Full = error else { broken(&error) };
            }
        }
        if !self.preparing
            && let Some(preparation) = self.wal.preparation()
        {
            self.preparing = self.background.preparations.send(preparation).is_ok();
        }
        self.tell_space(self.wal.space());
    }

    /// Tells the member when the log begins to want space, and when it has it again.
    fn tell_space(&mut self, space: Space) {
        let is_full = space == Space::Reserve;
        if std::mem::replace(&mut self.is_full, is_full) == is_full {
            return;
        }
        self.figures.log_full.store(is_full, Ordering::Relaxed);
        if is_full {
            tracing::error!("the disk of the log is nearly full: free some space");
            self.shared.push(Event::LogFull);
        } else {
            tracing::info!("the disk of the log has space again");
            self.shared.push(Event::LogHasSpace);
        }
    }
}

/// The disk failed: nothing is known about what it holds, so the process stops, loudly, and what it
/// finds when it starts again decides.
fn broken<T>(error: &WalError) -> T {
    tracing::error!("{error}");
    eprintln!("jangada: {error}");
    std::process::abort()
}

// ---- a member on a thread of its own ----

/// A member that runs on a thread of its own, for embedding where the caller has no event loop to
/// share. It stops when this is dropped.
pub struct Node<M: StateMachine> {
    handle: Handle<M>,
    figures: Arc<Figures>,
    thread: Option<JoinHandle<Result<(), NodeError>>>,
}

impl<M: StateMachine> Node<M> {
    /// Opens the member and runs it.
    ///
    /// # Errors
    /// See [`NodeError`].
    pub fn start(config: Config, machine: M) -> Result<Node<M>, NodeError> {
        let opened = open(config, machine)?;
        let (handle, figures) = (opened.handle(), opened.figures());
        let thread = std::thread::Builder::new()
            .name("jangada-node".into())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .map_err(NodeError::System)?;
                let ended = tokio::task::LocalSet::new().block_on(&runtime, opened.run());
                // Looking up a peer's name may take long, and nobody waits for it any more.
                runtime.shutdown_background();
                ended
            })
            .map_err(NodeError::System)?;
        Ok(Node { handle, figures, thread: Some(thread) })
    }

    /// A handle on the member.
    #[must_use]
    pub fn handle(&self) -> &Handle<M> {
        &self.handle
    }

    /// The member's figures.
    #[must_use]
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// Waits until the member has ended, by itself or because a handle told it to.
    ///
    /// # Errors
    /// What made it end, if it ended by itself.
    ///
    /// # Panics
    /// If the member's thread has panicked.
    pub fn wait(mut self) -> Result<(), NodeError> {
        let thread = self.thread.take().expect("the thread is joined once");
        thread.join().expect("the member's thread has not panicked")
    }

    /// Stops the member and waits until its log is closed.
    ///
    /// # Errors
    /// What made it end, if it ended by itself.
    ///
    /// # Panics
    /// If the member's thread has panicked.
    pub fn stop(self) -> Result<(), NodeError> {
        self.handle.stop();
        self.wait()
    }
}

impl<M: StateMachine> Drop for Node<M> {
    fn drop(&mut self) {
        self.handle.stop();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the member's thread has panicked");
        }
    }
}
