//! Part of the canon: a forwarded command that is sent again.
//!
//! Responsible for the one known bug that needs state of its own: after a broken connection to the
//! leader a member hands the commands over once more, though the first message may have arrived.

use jangada_entry::Draft;
use jangada_net::Proposal;
use jangada_raft::canon;

use super::Member;
use super::proposals::Submission;
use crate::machine::StateMachine;

/// How many of the newest commands are remembered.
const REMEMBERED_MAX: usize = 16;

impl<M: StateMachine> Member<M> {
    /// Keeps what is sent to the leader.
    pub(super) fn remember(&mut self, proposals: &[Proposal]) {
        if !canon!(forwarded_command_is_sent_again) {
            return;
        }
        self.sent_on.extend(proposals.iter().cloned());
        let old = self.sent_on.len().saturating_sub(REMEMBERED_MAX);
        self.sent_on.drain(..old);
    }

    /// Submits again what was sent to a leader that cannot be reached any more.
    pub(super) fn send_again(&mut self) {
        for Proposal { kind, version, origin, payload } in std::mem::take(&mut self.sent_on) {
            let mut buffer = Draft::buffer(payload.len());
            buffer.extend_from_slice(&payload);
            let draft = Draft::new(buffer, kind, version, self.group, origin);
            self.submissions.push(Submission::own(draft));
        }
    }
}
