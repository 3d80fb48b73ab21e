//! A path of deeds as a scenario script, in the language of the consensus module's scripts
//! (`crates/raft/tests/scripts`).
//!
//! Responsible for the words, commands and outputs both, so that what is printed replays there
//! verbatim. The language itself is described in `crates/raft/tests/scripts.rs`.

use std::fmt::Write as _;

use jangada_raft::{CatchUp, Limits, MemberChange, NodeId, Output, marks};

use super::bounds::Bounds;
use super::member::{Act, Ending, Ground, Member, Numbering, Refinement, Said, Turn};
use super::parcel::Parcel;
use super::stage::{Deed, Original, Stage, guarded};
use super::violation::Violation;

/// Tells how the deeds lead from the end of the opening to the violation.
pub(crate) fn told(
    bounds: &Bounds,
    opening: &[Deed],
    deeds: &[Deed],
    violation: &Violation,
) -> String {
    let ground = Ground::new(bounds, Numbering::Plain, Refinement::Unchecked);
    let mut script = Script { stage: Stage::new(bounds, &ground), ground, text: String::new() };
    script.line(&format!("# Broken: {}", violation.invariant));
    script.line(&format!("> {}", limits(&bounds.limits())));
    script.line(&format!("> {}", cluster(bounds)));
    bounds.joiners.iter().for_each(|joiner| script.line(&format!("> join {joiner}")));
    for deed in opening {
        let (command, _) = script.command(deed);
        script.line(&format!("> quietly {command}"));
        script.stage.perform(deed, &script.ground);
    }
    let _ = marks::take();
    for deed in deeds {
        if !script.perform(deed) {
            break;
        }
    }
    script.text
}

struct Script {
    stage: Stage,
    ground: Ground,
    text: String,
}

impl Script {
    /// Tells a deed; whether the cluster goes on.
    fn perform(&mut self, deed: &Deed) -> bool {
        let (command, id) = self.command(deed);
        if let Deed::Deliver { from, to, message, original: Original::Stays, .. } = deed
            && let Parcel::Word(_) = message
        {
            let which = self.which(*from, *to, message);
            self.line(&format!("> duplicate {from}->{to}{which}"));
        }
        if let Deed::Disconnect { member, peer, .. } = deed {
            self.line(&format!("> drop {member}->{peer}"));
        }
        self.line(&format!("> {command}"));
        let Script { stage, ground, .. } = self;
        let Ok(turn) = guarded(|| stage.perform(deed, ground)) else { return false };
        if let Deed::Deliver { from, to, message: Parcel::Word(message), .. } = deed {
            self.line(&format!("{to} <- {from}: {message}"));
        }
        self.report(id, &turn);
        true
    }

    fn command(&self, deed: &Deed) -> (String, NodeId) {
        let held = |ending: Ending| if ending == Ending::Held { " ..." } else { "" };
        match deed {
            Deed::Take { member, act, ending } => {
                (format!("{}{}", self.turn(*member, act), held(*ending)), *member)
            }
            Deed::Deliver { to, message: Parcel::Snapshot(term, covered), ending, .. } => {
                // A receiver whose disk does not hold the term installs nothing.
                let raft = self.stage.members[to].raft.as_ref();
                match raft.is_some_and(|raft| Member::installs(raft, *term)) {
                    true => (format!("install {to} {}{}", covered.last(), held(*ending)), *to),
                    false => (format!("flush {to}{}", held(*ending)), *to),
                }
            }
            Deed::Deliver { from, to, message: Parcel::Delivered(_, last), ending, .. } => {
                (format!("delivered {to} {from} {last}{}", held(*ending)), *to)
            }
            Deed::Lose { to, message: Parcel::Snapshot(..) | Parcel::Delivered(..), .. } => {
                (format!("flush {to}"), *to)
            }
            Deed::Deliver { from, to, message, ending, .. } => {
                let which = self.which(*from, *to, message);
                (format!("deliver {from}->{to}{which}{}", held(*ending)), *to)
            }
            Deed::Lose { from, to, message } => {
                let place = self.place(*from, *to, message) + 1;
                (format!("drop {from}->{to} {place}"), *to)
            }
            Deed::Disconnect { member, peer, ending } => {
                (format!("unreachable {member} {peer}{}", held(*ending)), *member)
            }
        }
    }

    fn turn(&self, id: NodeId, act: &Act) -> String {
        match act {
            Act::Receive { .. } => unreachable!("messages are delivered from their link"),
            Act::Timer(timer) => format!("timer {id} {timer}"),
            Act::PeerDown(peer) => format!("down {id} {peer}"),
            Act::PeerUp(peer) => format!("up {id} {peer}"),
            Act::Unreachable(peer) => format!("unreachable {id} {peer}"),
            Act::Propose => format!("propose {id}"),
            Act::Read => format!("read {id}"),
            Act::Change(wanted) => format!("change {id}{}", change(wanted)),
            Act::Transfer(to) => format!("transfer {id} {to}"),
            Act::ForgetLeader => format!("forget {id}"),
            Act::StepDown => format!("step-down {id}"),
            Act::Persist(1) => format!("persist {id}"),
            Act::Persist(count) => format!("persist {id} merged {count}"),
            Act::Crash { survive, applied } => {
                let most = self.stage.members[&id].applied_most();
                match *applied == most {
                    true if *survive == 0 => format!("crash {id}"),
                    true => format!("crash {id} {survive}"),
                    false => format!("crash {id} {survive} applied {applied}"),
                }
            }
            Act::Restart => format!("restart {id}"),
            Act::Cut => {
                format!("cut {id} {}", self.stage.members[&id].applied_most())
            }
            Act::SnapshotFailed(peer) => format!("failed {id} {peer}"),
            Act::Rot { kept } => format!("rot {id} to {kept}"),
            Act::Flush => format!("flush {id}"),
        }
    }

    /// Which message of its link, if not the first.
    fn which(&self, from: NodeId, to: NodeId, message: &Parcel) -> String {
        let place = self.place(from, to, message);
        if place == 0 { String::new() } else { format!(" {}", place + 1) }
    }

    /// The message's place among those on its link; snapshots travel apart.
    fn place(&self, from: NodeId, to: NodeId, message: &Parcel) -> usize {
        let link = &self.stage.links[&(from, to)];
        let place = link.iter().position(|other| other == message);
        let before = &link[..place.expect("the message is under way")];
        before.iter().filter(|other| matches!(other, Parcel::Word(_))).count()
    }

    fn report(&mut self, id: NodeId, turn: &Turn) {
        let mut timers: Vec<String> = Vec::new();
        for said in &turn.said {
            match said {
                Said::Output(Output::Restart(timer)) => timers.push(timer.to_string()),
                Said::Output(output) => self.line(&format!("{id} {output}")),
                Said::Sent(to, Parcel::Word(message)) => {
                    self.line(&format!("{id} -> {to}: {message}"));
                }
                Said::Sent(_, Parcel::Snapshot(..) | Parcel::Delivered(..)) => {}
            }
        }
        timers.dedup();
        if !timers.is_empty() {
            self.line(&format!("{id} restarts {}", timers.join(", ")));
        }
        for mark in marks::take() {
            self.line(&format!("mark {mark}"));
        }
    }

    fn line(&mut self, line: &str) {
        writeln!(self.text, "{line}").expect("a string grows");
    }
}

fn limits(limits: &Limits) -> String {
    let Limits { append_bytes_max, inflight_messages_max, .. } = limits;
    format!("limits append={append_bytes_max} messages={inflight_messages_max}")
}

fn cluster(bounds: &Bounds) -> String {
    let configuration = &bounds.configuration;
    let count = configuration.voters.len();
    let is_plain = configuration.outgoing.is_empty()
        && configuration.learners.is_empty()
        && configuration.voters.iter().map(|id| id.0).eq(1..=count as u64);
    if is_plain {
        return format!("cluster {count}");
    }
    let voters = list("voters", &configuration.voters);
    let outgoing = list("outgoing", &configuration.outgoing);
    format!("configuration{voters}{outgoing}{}", list("learners", &configuration.learners))
}

fn change(wanted: &MemberChange) -> String {
    let at_once = if wanted.catch_up == CatchUp::Skip { " at-once" } else { "" };
    format!("{}{}{at_once}", list("voters", &wanted.voters), list("learners", &wanted.learners))
}

fn list(name: &str, ids: &[NodeId]) -> String {
    let ids: Vec<String> = ids.iter().map(|id| id.0.to_string()).collect();
    if ids.is_empty() { String::new() } else { format!(" {name}={}", ids.join(",")) }
}
