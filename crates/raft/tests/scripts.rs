//! Scenario scripts: named interleavings as readable traces.
//!
//! Each file in `tests/scripts` is one claim, stated by its name. A line that starts with `>` is a
//! command; what follows it, up to the next command, comment (`#`) or empty line, is what the members
//! did, compared verbatim. To write the files anew, and then read the difference:
//!
//! ```text
//! REWRITE=1 cargo test -p jangada-raft --test scripts
//! ```
//!
//! # Commands
//!
//! Members are numbered from 1. After each command the members concerned are flushed, unless the
//! line ends in `...`: then more inputs follow. Messages wait on their link until they are delivered.
//!
//! | command | what happens |
//! |---|---|
//! | `cluster 3` | starts members 1 to 3 with empty logs |
//! | `configuration voters=1,2 outgoing=2,3 learners=4` | the same in a joint configuration with a learner |
//! | `limits append=30 messages=2 bytes=60 uncommitted=100` | bounds for members started later |
//! | `start 2 term=3 vote=1 log=1,1,2 commit=1` | starts a member with this durable state |
//! | `timer 1 election` | fires a timer: `heartbeat`, `quorum-check`, `quiet`, `election`, `soon`, `transfer` |
//! | `deliver 1->2`, `deliver 1->2 last`, `deliver 1->2 3`, `deliver all` | delivers the first, last or third message, or all until none is left |
//! | `drop 1->2`, `drop 1->2 3`, `drop all` | loses what waits on a link, or the third of it, or what waits on all |
//! | `duplicate 1->2`, `duplicate 1->2 3` | doubles the first or third message of a link |
//! | `persist 1`, `persist 1 all`, `persist all` | completes the oldest write, or all one after the other |
//! | `persist 1 merged 2` | completes the two oldest writes, which were merged, at once |
//! | `late 1 3 7/2` | a late completion of write 3, after which the log ended in 7/2 |
//! | `crash 1`, `crash 1 2` | stops a member; of its writes under way, the first 2 survive |
//! | `crash 1 2 applied 0` | as before, the state machine having kept what it had applied up to 0 |
//! | `restart 1` | starts it from its disk |
//! | `rot 1 2` | takes the log of member 1, which is down, back by its last 2 writes; it restarts recovering |
//! | `rot 1 to 5` | the same, entries up to 5 being left |
//! | `snapshot 1->3`, `snapshot 1->3 5/2` | the snapshot that was asked for arrives and is installed: of all that is applied, or one up to 5/2 that was made before |
//! | `snapshot 1->3 fails` | it is lost |
//! | `hold 3 5/2` | the state machine of member 3 holds a snapshot up to 5/2, and the module is not told |
//! | `install 3 5/2` | the module is told, too; with other members after `voters=1,2` or `learners=4` |
//! | `delivered 1 3 5`, `failed 1 3` | member 1 is told late how a snapshot for member 3 ended |
//! | `cut 1 5` | cuts the log, of which 5 becomes the last entry known by name only |
//! | `propose 1 3 100` | proposes 3 entries of 100 bytes in all (1 of 10) |
//! | `read 1` | asks for a read |
//! | `join 4` | starts a member that knows of no other |
//! | `change 1 voters=1,2,4 learners=5`, `change 1 voters=1,2 at-once` | asks for another membership |
//! | `transfer 1 2`, `transfer 1` | asks for another leader |
//! | `forget 2`, `step-down 1` | the driver gives the leader, or leadership, up |
//! | `down 2 1`, `up 2 1`, `unreachable 2 1` | what member 2 is told of member 1 |
//! | `sent 1 2 5` | reports that entries up to 5 were sent to member 2, as a late driver would |
//! | `flush 1` | flushes |
//! | `state`, `state 1` | prints what the members are |
//! | `settle` | delivers and persists everything, and prints the states and not the messages |
//! | `quietly <command>` | runs it and prints nothing |
//!
//! # Output
//!
//! `5/2` is the entry with index 5 and term 2. `1 -> 2` is a message sent, `2 <- 1` one delivered;
//! `after #3` says that it waits for write 3. A `mark` names a branch that the command reached.

mod harness;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use harness::{Cluster, Disk, Event, Snapshot};
use jangada_raft::{
    CatchUp, Configuration, HardState, Index, Input, Limits, MemberChange, NodeId, Output,
    Position, Raft, Term, Timer, WriteNumber, marks,
};

#[test]
fn the_scripts_hold() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the folder of scripts is there")
        .map(|entry| entry.expect("it can be listed").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    assert!(20 <= files.len(), "the scripts are found");
    let rewrite = std::env::var_os("REWRITE").is_some();
    let mut different = Vec::new();
    for path in files {
        let expected = std::fs::read_to_string(&path).expect("a script can be read");
        let name = path.file_stem().expect("a script has a name").to_string_lossy().into_owned();
        let Ok(actual) = std::panic::catch_unwind(|| Script::run(&expected)) else {
            different.push(format!("{name} fails"));
            continue;
        };
        if rewrite {
            std::fs::write(&path, &actual).expect("a script can be written");
        } else if without_marks(&actual) != without_marks(&expected) {
            different.push(format!("{name}:\n{}", first_difference(&expected, &actual)));
        }
    }
    assert!(different.is_empty(), "scripts differ:\n{}", different.join("\n"));
}

/// Marks exist with debug assertions only.
fn without_marks(text: &str) -> Vec<&str> {
    let keeps = |line: &&str| cfg!(debug_assertions) || !line.starts_with("mark ");
    text.lines().filter(keeps).collect()
}

fn first_difference(expected: &str, actual: &str) -> String {
    let (mut ours, mut theirs) = (actual.lines(), expected.lines());
    let mut line = 0;
    loop {
        line += 1;
        let (our, their) = (ours.next(), theirs.next());
        if our != their {
            return format!("  line {line}\n  expected: {their:?}\n  actual:   {our:?}");
        }
    }
}

struct Script {
    cluster: Cluster,
    text: String,
}

impl Script {
    /// Runs the commands of a script; the script as it should read.
    fn run(script: &str) -> String {
        let _ = marks::take();
        let mut run = Script { cluster: Cluster::new(0), text: String::new() };
        for line in script.lines() {
            let Some(command) = line.strip_prefix("> ") else {
                if line.is_empty() || line.starts_with('#') {
                    writeln!(run.text, "{line}").expect("a string grows");
                }
                continue;
            };
            writeln!(run.text, "{line}").expect("a string grows");
            match command.strip_prefix("quietly ") {
                Some(command) => run.mute(command),
                None => run.command(command),
            }
        }
        run.text
    }

    fn mute(&mut self, command: &str) {
        let length = self.text.len();
        self.command(command);
        self.text.truncate(length);
    }

    fn command(&mut self, command: &str) {
        let held = command.strip_suffix(" ...");
        let words: Vec<&str> = held.unwrap_or(command).split_whitespace().collect();
        let touched = self.execute(&words);
        if held.is_none() {
            for id in touched {
                self.cluster.flush(id);
            }
        }
        self.report();
    }

    /// Runs one command; the members to flush.
    fn execute(&mut self, words: &[&str]) -> Vec<NodeId> {
        let cluster = &mut self.cluster;
        match *words {
            ["cluster", count] => {
                let limits = cluster.limits;
                *cluster = Cluster::new(number(count));
                cluster.limits = limits;
                let ids: Vec<NodeId> = cluster.members.keys().copied().collect();
                ids.into_iter().for_each(|id| cluster.start(id, Disk::empty()));
                vec![]
            }
            ["configuration", ref settings @ ..] => {
                let limits = cluster.limits;
                *cluster = Cluster::with_configuration(parse_configuration(settings));
                cluster.limits = limits;
                let ids: Vec<NodeId> = cluster.members.keys().copied().collect();
                ids.into_iter().for_each(|id| cluster.start(id, Disk::empty()));
                vec![]
            }
            ["limits", ref settings @ ..] => {
                cluster.limits = parse_limits(settings);
                vec![]
            }
            ["start", id, ref settings @ ..] => {
                cluster.start(node(id), parse_disk(settings));
                vec![]
            }
            ["timer", id, timer] => self.input(id, Input::Timer(parse_timer(timer))),
            ["deliver", "all"] => self.deliver_all(),
            ["deliver", link, ref which @ ..] => self.deliver(link, which),
            ["drop", "all"] => {
                cluster.network.clear();
                vec![]
            }
            ["drop", link] => {
                cluster.network.remove(&parse_link(link));
                vec![]
            }
            ["drop", link, which] => {
                let waiting = cluster.network.get_mut(&parse_link(link));
                let waiting = waiting.expect("the link is in use");
                waiting.remove(place(which)).expect("so many messages wait");
                vec![]
            }
            ["duplicate", link, ref which @ ..] => {
                let at = which.first().map_or(0, |which| place(which));
                let link = cluster.network.get_mut(&parse_link(link)).expect("the link is in use");
                let message = link.get(at).expect("a message waits").clone();
                link.insert(at, message);
                vec![]
            }
            ["persist", "all"] => {
                let ids: Vec<NodeId> = cluster.members.keys().copied().collect();
                ids.iter().for_each(|id| while self.cluster.persist(*id) {});
                ids
            }
            ["persist", id] => {
                assert!(cluster.persist(node(id)), "a write is under way");
                vec![node(id)]
            }
            ["persist", id, "all"] => {
                while cluster.persist(node(id)) {}
                vec![node(id)]
            }
            ["persist", id, "merged", count] => {
                assert!(
                    cluster.persist_merged(node(id), place(count) + 1),
                    "so many are under way"
                );
                vec![node(id)]
            }
            ["late", id, write, last] => {
                let (write, last) = (WriteNumber(number(write)), parse_position(last));
                self.input(id, Input::Persisted { write, last })
            }
            ["crash", id] => {
                cluster.crash(node(id), 0);
                vec![]
            }
            ["crash", id, survive] => {
                cluster.crash(node(id), number(survive) as usize);
                vec![]
            }
            ["crash", id, survive, "applied", applied] => {
                cluster.crash_applied(node(id), number(survive) as usize, Index(number(applied)));
                vec![]
            }
            ["restart", id] => {
                cluster.restart(node(id));
                vec![]
            }
            ["rot", id, "to", last] => {
                cluster.rot_to(node(id), Index(number(last)));
                vec![]
            }
            ["rot", id, writes] => {
                cluster.rot(node(id), number(writes) as usize);
                vec![]
            }
            ["snapshot", link, "fails"] => {
                let (from, to) = parse_link(link);
                assert!(cluster.fail_snapshot(from, to), "a snapshot is under way");
                vec![from]
            }
            ["snapshot", link, ref last @ ..] => {
                let (from, to) = parse_link(link);
                let configuration = cluster.configuration.clone();
                let given = last.first().map(|last| parse_position(last));
                let given = given.map(|last| Snapshot { last, configuration });
                cluster.deliver_snapshot(from, to, given);
                vec![to, from]
            }
            ["hold", id, last] => {
                let configuration = cluster.configuration.clone();
                let last = parse_position(last);
                cluster.hold_snapshot(node(id), Snapshot { last, configuration });
                vec![]
            }
            ["install", id, last, ref settings @ ..] => {
                let last = parse_position(last);
                let configuration = match settings {
                    [] => cluster.configuration.clone(),
                    settings => parse_configuration(settings),
                };
                let snapshot = Snapshot { last, configuration: configuration.clone() };
                cluster.hold_snapshot(node(id), snapshot);
                self.input(id, Input::SnapshotInstalled { last, configuration })
            }
            ["delivered", id, peer, last] => {
                cluster.transfers.remove(&(node(id), node(peer)));
                let last = Index(number(last));
                self.input(id, Input::SnapshotDelivered { peer: node(peer), last })
            }
            ["failed", id, peer] => {
                cluster.transfers.remove(&(node(id), node(peer)));
                self.input(id, Input::SnapshotFailed(node(peer)))
            }
            ["cut", id, index] => {
                cluster.cut(node(id), Index(number(index)));
                vec![]
            }
            ["propose", id] => self.input(id, Input::Propose { entries: 1, bytes: 10 }),
            ["propose", id, entries] => {
                let entries = number(entries);
                self.input(id, Input::Propose { entries, bytes: entries * 10 })
            }
            ["propose", id, entries, bytes] => {
                self.input(id, Input::Propose { entries: number(entries), bytes: number(bytes) })
            }
            ["join", id] => {
                cluster.start(node(id), Disk::of_joiner());
                vec![]
            }
            ["change", id, ref settings @ ..] => {
                self.input(id, Input::ChangeMembers(parse_change(settings)))
            }
            ["transfer", id] => self.input(id, Input::TransferLeadership { to: None }),
            ["transfer", id, to] => {
                self.input(id, Input::TransferLeadership { to: Some(node(to)) })
            }
            ["forget", id] => self.input(id, Input::ForgetLeader),
            ["step-down", id] => self.input(id, Input::StepDown),
            ["read", id] => self.input(id, Input::Read),
            ["down", id, peer] => self.input(id, Input::PeerDown(node(peer))),
            ["up", id, peer] => self.input(id, Input::PeerUp(node(peer))),
            ["unreachable", id, peer] => self.input(id, Input::Unreachable(node(peer))),
            ["sent", id, peer, last] => {
                let last = Index(number(last));
                self.input(id, Input::Sent { peer: node(peer), last, bytes: 10 })
            }
            ["flush", id] => vec![node(id)],
            ["state"] => {
                let states: Vec<String> =
                    cluster.running().iter().map(|raft| state(raft)).collect();
                self.print(&states.join("\n"));
                vec![]
            }
            ["state", id] => {
                let state = state(cluster.raft(number(id)));
                self.print(&state);
                vec![]
            }
            ["settle"] => {
                cluster.settle();
                cluster.events.clear();
                let _ = marks::take();
                self.execute(&["state"])
            }
            _ => panic!("no such command: {words:?}"),
        }
    }

    fn input(&mut self, id: &str, input: Input) -> Vec<NodeId> {
        self.cluster.step(node(id), input);
        vec![node(id)]
    }

    fn deliver(&mut self, link: &str, which: &[&str]) -> Vec<NodeId> {
        let (from, to) = parse_link(link);
        let waiting = self.cluster.network.get_mut(&(from, to)).expect("the link is in use");
        let message = match which {
            ["last"] => waiting.pop_back(),
            [which] => waiting.remove(place(which)),
            _ => waiting.pop_front(),
        };
        let message = message.unwrap_or_else(|| panic!("no message waits on {link}"));
        self.print(&format!("{to} <- {from}: {message}"));
        self.cluster.step(to, Input::Receive { from, message });
        vec![to]
    }

    /// Delivers in rounds, each member being flushed between them as its driver would.
    fn deliver_all(&mut self) -> Vec<NodeId> {
        loop {
            let waiting: Vec<(NodeId, NodeId)> = self
                .cluster
                .network
                .iter()
                .filter(|(_, link)| !link.is_empty())
                .map(|(link, _)| *link)
                .collect();
            if waiting.is_empty() {
                return vec![];
            }
            for (from, to) in waiting {
                let touched = self.deliver(&format!("{from}->{to}"), &[]);
                touched.into_iter().for_each(|id| self.cluster.flush(id));
                self.report();
            }
        }
    }

    fn report(&mut self) {
        let mut timers: Vec<(NodeId, Vec<String>)> = Vec::new();
        for event in std::mem::take(&mut self.cluster.events) {
            match event {
                Event::Output(id, Output::Restart(timer)) => match timers.last_mut() {
                    Some((last, names)) if *last == id => names.push(timer.to_string()),
                    _ => timers.push((id, vec![timer.to_string()])),
                },
                Event::Stands(..) => {}
                Event::Output(id, output) => self.print(&format!("{id} {output}")),
                Event::Sent(from, to, message) => {
                    self.print(&format!("{from} -> {to}: {message}"));
                }
            }
        }
        for (id, mut names) in timers {
            names.dedup();
            self.print(&format!("{id} restarts {}", names.join(", ")));
        }
        for mark in marks::take() {
            self.print(&format!("mark {mark}"));
        }
    }

    fn print(&mut self, line: &str) {
        writeln!(self.text, "{line}").expect("a string grows");
    }
}

fn number(word: &str) -> u64 {
    word.parse().unwrap_or_else(|_| panic!("{word} is no number"))
}

/// A place in a row, counted from 1 in scripts.
fn place(word: &str) -> usize {
    number(word).checked_sub(1).expect("messages and writes are counted from 1") as usize
}

fn node(word: &str) -> NodeId {
    NodeId(number(word))
}

fn parse_link(word: &str) -> (NodeId, NodeId) {
    let (from, to) = word.split_once("->").expect("a link is written 1->2");
    (node(from), node(to))
}

fn parse_position(word: &str) -> Position {
    let (index, term) = word.split_once('/').expect("a position is written 5/2");
    Position { index: Index(number(index)), term: Term(number(term)) }
}

fn parse_timer(word: &str) -> Timer {
    match word {
        "heartbeat" => Timer::Heartbeat,
        "quorum-check" => Timer::QuorumCheck,
        "quiet" => Timer::Quiet,
        "election" => Timer::Election,
        "soon" => Timer::ElectionSoon,
        "transfer" => Timer::Transfer,
        _ => panic!("no such timer: {word}"),
    }
}

fn parse_limits(settings: &[&str]) -> Limits {
    let mut limits = Limits::default();
    for setting in settings {
        let (name, value) = setting.split_once('=').expect("a setting is written name=value");
        match name {
            "append" => limits.append_bytes_max = number(value),
            "messages" => limits.inflight_messages_max = number(value) as usize,
            "bytes" => limits.inflight_bytes_max = number(value),
            "uncommitted" => limits.uncommitted_bytes_max = number(value),
            _ => panic!("no such limit: {name}"),
        }
    }
    limits
}

fn parse_configuration(settings: &[&str]) -> Configuration {
    let mut configuration = Configuration::default();
    for setting in settings {
        let (name, ids) = setting.split_once('=').expect("a setting is written name=value");
        let ids = ids.split(',').map(node).collect();
        match name {
            "voters" => configuration.voters = ids,
            "outgoing" => configuration.outgoing = ids,
            "learners" => configuration.learners = ids,
            _ => panic!("no such list of members: {name}"),
        }
    }
    configuration
}

fn parse_change(settings: &[&str]) -> MemberChange {
    let mut change = MemberChange::default();
    for setting in settings {
        match setting.split_once('=') {
            Some(("voters", ids)) => change.voters = ids.split(',').map(node).collect(),
            Some(("learners", ids)) => change.learners = ids.split(',').map(node).collect(),
            None if *setting == "at-once" => change.catch_up = CatchUp::Skip,
            _ => panic!("no such setting: {setting}"),
        }
    }
    change
}

fn parse_disk(settings: &[&str]) -> Disk {
    let mut disk = Disk::empty();
    for setting in settings {
        let (name, value) = setting.split_once('=').expect("a setting is written name=value");
        match name {
            "term" => disk.hard_state = HardState { term: Term(number(value)), ..disk.hard_state },
            "vote" => disk.hard_state = HardState { vote: Some(node(value)), ..disk.hard_state },
            "from" => disk.start = parse_position(value),
            "log" => disk.terms = value.split(',').map(|term| Term(number(term))).collect(),
            "commit" => disk.applied = Index(number(value)),
            _ => panic!("no such setting: {name}"),
        }
    }
    disk
}

fn state(raft: &Raft) -> String {
    let first = raft.first_position().index.0 + 1;
    let term_at = |index| raft.term_at(Index(index)).expect("within the log").to_string();
    let terms: Vec<String> = (first..=raft.last_index().0).map(term_at).collect();
    let vote = raft.vote().map_or(String::new(), |vote| format!(" vote {vote}"));
    // The configuration that a cluster begins with goes without saying.
    let members = raft
        .configurations()
        .last()
        .map_or(String::new(), |(index, members)| format!(", members {members} by {index}"));
    let recovering = raft.recovering().map_or(String::new(), |n| format!(" recovering {}", n.0));
    format!(
        "{} is {}{vote}{recovering}, commit {}, durable {}, log [{}]{members}",
        raft.id(),
        raft.standing(),
        raft.commit_index(),
        raft.durable_index(),
        terms.join(" "),
    )
}
