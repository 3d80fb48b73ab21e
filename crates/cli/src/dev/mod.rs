//! `dev`: a durable cluster of child processes on this machine.
//!
//! Responsible for starting members, saying when each is ready (or why not), noticing when one
//! ends, and stopping all. Not responsible for starting one again: killing a member and starting
//! it by hand is what the command is for.
//!
//! Invariants: 1. nothing is removed or written in a folder that this command did not make; 2. no
//! member outlives this process: it stops with its parent, however that one ends.

mod child;
mod folder;
pub(crate) mod health;
pub(crate) mod plan;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use jangada_bench::cluster_file::{ClusterFile, DevMember};
use jangada_bench::status;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::arguments::Dev;
use crate::client::Client;
use crate::failure::Failure;
use child::Child;
use folder::Folder;
use plan::Plan;

/// Between two looks at a member that is not ready.
const POLL: Duration = Duration::from_millis(50);
/// A member that takes longer gets a line that says what it waits for.
const SLOW: Duration = Duration::from_secs(3);
/// How long a member may take to stop; it hands leadership over and closes its log.
const STOP: Duration = Duration::from_secs(10);

/// Runs the cluster until it is told to stop.
pub(crate) fn run(options: &Dev, program: &OsString) -> Result<(), Failure> {
    let plan = Plan::new(options.members, options.base_port)?;
    let folder = Folder::prepare(&options.dir, options.fresh, &plan)?;
    Client::block_on(async {
        let signals = Signals::open()?;
        Cluster::start(plan, folder, program)?.live(signals).await
    })
}

/// What ends or disturbs a cluster.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    child: Signal,
}

/// Why [`Signals::next`] woke up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wake {
    Stop,
    Child,
}

impl Signals {
    fn open() -> Result<Signals, Failure> {
        let open = |kind| {
            signal(kind).map_err(|error| Failure::Failed(format!("no signals here: {error}")))
        };
        Ok(Signals {
            interrupt: open(SignalKind::interrupt())?,
            terminate: open(SignalKind::terminate())?,
            child: open(SignalKind::child())?,
        })
    }

    async fn next(&mut self) -> Wake {
        tokio::select! {
            _ = self.interrupt.recv() => Wake::Stop,
            _ = self.terminate.recv() => Wake::Stop,
            _ = self.child.recv() => Wake::Child,
        }
    }

    /// The next signal, or nothing within the time.
    async fn within(&mut self, time: Duration) -> Option<Wake> {
        tokio::time::timeout(time, self.next()).await.ok()
    }
}

struct Cluster {
    plan: Plan,
    folder: Folder,
    program: String,
    children: Vec<Child>,
    begin: Instant,
}

impl Cluster {
    fn start(plan: Plan, folder: Folder, program: &OsString) -> Result<Cluster, Failure> {
        let mut children = Vec::new();
        for member in &plan.members {
            children.push(Child::start(member, &plan, &folder)?);
        }
        let program = program.to_string_lossy().into_owned();
        let cluster = Cluster { plan, folder, program, children, begin: Instant::now() };
        cluster.write_file()?;
        Ok(cluster)
    }

    fn write_file(&self) -> Result<(), Failure> {
        let members =
            self.plan.members.iter().zip(&self.children).map(|(member, child)| DevMember {
                name: member.name.clone(),
                pid: child.pid(),
                endpoint: member.endpoint(),
                peer: member.peer(),
            });
        let file = ClusterFile { pid: std::process::id(), members: members.collect() };
        Ok(file.write(self.folder.path())?)
    }

    /// Waits until all are ready, says so, and goes on until told to stop or nobody is left.
    async fn live(mut self, mut signals: Signals) -> Result<(), Failure> {
        if self.wait_ready(&mut signals).await? == Wake::Stop {
            return self.stop(&mut signals).await;
        }
        self.welcome().await?;
        while self.children.iter().any(Child::runs) {
            if signals.next().await == Wake::Stop {
                return self.stop(&mut signals).await;
            }
            self.tell_ended();
        }
        Err(Failure::Failed("all members have ended; their logs say why".to_owned()))
    }

    /// Ends with [`Wake::Child`] when all are ready and with [`Wake::Stop`] when told to stop.
    async fn wait_ready(&mut self, signals: &mut Signals) -> Result<Wake, Failure> {
        let mut told = self.begin;
        let mut waiting: Vec<usize> = (0..self.children.len()).collect();
        loop {
            let mut reasons = Vec::new();
            let mut still = Vec::new();
            for number in waiting {
                let member = &self.plan.members[number];
                if let Err(reason) = health::check(&member.endpoint()).await {
                    reasons.push(format!("{} is not ready: {reason}", member.name));
                    still.push(number);
                }
            }
            waiting = still;
            if waiting.is_empty() {
                return Ok(Wake::Child);
            }
            if SLOW <= told.elapsed() {
                told = Instant::now();
                reasons.iter().for_each(|reason| eprintln!("{reason}"));
            }
            if signals.within(POLL).await == Some(Wake::Stop) {
                return Ok(Wake::Stop);
            }
            if let Some(sentence) = self.first_ended() {
                self.stop(signals).await?;
                return Err(Failure::Failed(sentence));
            }
        }
    }

    /// What became of the first member that ended before all were ready.
    fn first_ended(&mut self) -> Option<String> {
        let ended = self.children.iter_mut().find_map(|child| {
            child.ended().map(|how| format!("{} {how} before it was ready", child.name()))
        })?;
        let ends: Vec<String> = self.children.iter().filter_map(Child::last_words).collect();
        Some(format!("{ended}; its log ends with:\n{}", ends.join("\n")))
    }

    /// Says which members ended since the last look, and how to start each again.
    fn tell_ended(&mut self) {
        for child in &mut self.children {
            if let Some(how) = child.ended() {
                eprintln!(
                    "{} (process {}) {how}; start it again with:\n  {} server --config-file {} \
                     2>>{}",
                    child.name(),
                    child.pid(),
                    self.program,
                    child.config_path().display(),
                    child.log_path().display()
                );
            }
        }
    }

    async fn welcome(&self) -> io::Result<()> {
        let endpoints: Vec<String> = self.plan.members.iter().map(plan::Member::endpoint).collect();
        let leader = status::leader(&endpoints, &jangada_bench::Access::default()).await.ok();
        let mut out = io::stdout().lock();
        let (bold, plain) = if out.is_terminal() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        writeln!(
            out,
            "{bold}{} ready{plain} in {:.1} s; data and logs in {}\n",
            match self.children.len() {
                1 => "One member is".to_owned(),
                count => format!("{count} members are"),
            },
            self.begin.elapsed().as_secs_f64(),
            self.folder.path().display()
        )?;
        writeln!(out, "  {:<8}{:<10}{:<18}{:<18}role", "member", "process", "clients", "members")?;
        let mut leader_pid = None;
        for (member, child) in self.plan.members.iter().zip(&self.children) {
            let leads = leader.as_ref() == Some(&member.endpoint());
            if leads {
                leader_pid = Some(child.pid());
            }
            writeln!(
                out,
                "  {:<8}{:<10}{:<18}{:<18}{}",
                member.name,
                child.pid(),
                member.endpoint(),
                member.peer(),
                if leads { "leader" } else { "follower" }
            )?;
        }
        let program = &self.program;
        let all = endpoints.join(",");
        let last = endpoints.last().expect("there is at least one member");
        writeln!(out, "\n{bold}Try in another terminal:{plain}")?;
        writeln!(out, "  export JANGADA_ENDPOINTS={all}")?;
        writeln!(out, "  {program} put greeting hello")?;
        writeln!(out, "  {program} get greeting --endpoints {last}")?;
        writeln!(out, "  {program} status")?;
        if let Some(pid) = leader_pid.filter(|_| 2 < self.children.len()) {
            let folder = self.folder.path().display();
            writeln!(out, "  kill -9 {pid}    # the leader; the others go on, nothing is lost")?;
            writeln!(out, "  {program} bench failover --dir {folder}    # measures just that")?;
        }
        writeln!(out, "\nCtrl-C stops all members.")?;
        out.flush()
    }

    /// Asks all to stop at once, waits, and kills those that do not.
    async fn stop(&mut self, signals: &mut Signals) -> Result<(), Failure> {
        eprintln!("stopping");
        self.children.iter_mut().for_each(Child::terminate);
        let begin = Instant::now();
        while self.children.iter_mut().any(Child::still_runs) && begin.elapsed() < STOP {
            signals.within(POLL).await;
        }
        let mut clean = true;
        for child in &mut self.children {
            if child.still_runs() {
                eprintln!("{} did not stop within {STOP:?} and is killed", child.name());
                child.kill();
                clean = false;
            } else if !child.ended_well() {
                clean = false;
            }
        }
        if clean { Ok(()) } else { Err(Failure::Told) }
    }
}
