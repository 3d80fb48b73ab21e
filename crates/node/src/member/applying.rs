//! Applying what is committed (member invariant 2).

use jangada_entry::{Frame, Kind};
use jangada_raft::canon;

use super::{Effect, LogRead, LogReader, Member};
use crate::machine::StateMachine;

impl<M: StateMachine> Member<M> {
    pub(super) fn apply(&mut self) {
        self.more_to_apply = false;
        let applied = self.record.applied.index;
        let commit = self.raft.commit_index();
        // What a snapshot will replace is not worth applying to.
        let waits = self.is_paused() || self.is_quarantined();
        if applied == commit || self.reading_to_apply || waits {
            return;
        }
        let from = applied.next();
        let bytes_max = self.options.apply_bytes_max;
        if self.tail.holds(from) {
            let frames = self.tail.read(from, commit, bytes_max);
            self.apply_frames(frames);
            self.more_to_apply = self.record.applied.index < self.raft.commit_index();
            return;
        }
        self.reading_to_apply = true;
        // What is held here may not have reached the log yet.
        let last = commit.min(self.tail.before().index);
        let read = LogRead { reader: LogReader::Apply, from, last, bytes_max };
        self.effects.push(Effect::Read(read));
    }

    /// Applies committed entries in order (member invariant 2).
    pub(super) fn apply_frames(&mut self, frames: Vec<Frame>) {
        let last = frames.last().expect("at least one entry is read").position();
        self.snapshots.keeping.applied(frames.iter().map(|f| f.bytes().len() as u64).sum());
        assert!(last.index <= self.raft.commit_index(), "member invariant 2: only committed");
        let mut commands = std::mem::take(&mut self.commands);
        commands.extend(frames.iter().filter(|f| f.kind() == Kind::Command).cloned());
        self.machine.apply(&commands, &mut self.outcomes);
        assert!(self.outcomes.len() == commands.len(), "one outcome for each command");
        commands.clear();
        self.commands = commands;
        let mut outcomes = self.outcomes.drain(..);
        for frame in &frames {
            let header = frame.header();
            if header.kind != Kind::Command {
                self.record.chain(header.position, header.time_ms, 0);
                self.hashes.chained(header.position.index, self.record.hash);
                continue;
            }
            let outcome = outcomes.next().expect("one outcome for each command");
            self.record.chain(header.position, header.time_ms, outcome.digest);
            self.hashes.chained(header.position.index, self.record.hash);
            let of_another_life = canon!(another_life_of_the_member_is_answered)
                && header.origin.incarnation >> 32 == self.process >> 32;
            if header.origin.incarnation == self.process || of_another_life {
                let sequence = header.origin.sequence;
                self.effects.push(Effect::Reply { sequence, reply: outcome.reply });
            }
        }
        drop(outcomes);
        for frame in &frames {
            match frame.kind() {
                Kind::Configuration => self.apply_configuration(frame),
                Kind::Version => self.apply_version(frame),
                Kind::NoOp | Kind::Command => {}
            }
        }
        self.machine.end_batch(last.index, self.record.encode());
    }
}
