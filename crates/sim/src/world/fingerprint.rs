//! What happened, as words for a hash: the trace's way to take in events without formatting them.
//!
//! Responsible for a hasher that is the same on every machine and in every build, and for naming
//! every part of an event or an effect to it. A payload is named by its length and its checksum; one
//! that has none yet, because it has not been stamped, enters whole.
//!
//! The matches name every variant and every field, so what is added to the contract must be added
//! here, too.

use std::fmt::{self, Write};
use std::hash::{Hash, Hasher};

use jangada::{Effect, Event, LogBatch, LogReader, Mend};
use jangada_entry::{Draft, Frame, HEADER_BYTES};
use jangada_net::{ForwardRefusal, PeerMessage};

use crate::choices::mix;

/// Odd, with about as many ones as zeros in no pattern (the fraction of the golden ratio).
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// A hasher whose result depends on nothing but what it is given, in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fingerprint {
    state: u64,
}

impl Fingerprint {
    /// Begins from a number: the hash over what came before.
    pub(crate) fn from(state: u64) -> Fingerprint {
        Fingerprint { state }
    }

    /// One word. The halves of the product are folded, so that high bits reach low ones.
    fn word(&mut self, word: u64) {
        let product = u128::from(self.state ^ word ^ MULTIPLIER) * u128::from(MULTIPLIER);
        self.state = (product as u64) ^ ((product >> 64) as u64).wrapping_add(self.state);
    }

    /// Whatever can only be written as text.
    pub(crate) fn text(&mut self, text: fmt::Arguments<'_>) {
        let mut words = Words { into: self, word: 0, filled: 0, length: 0 };
        words.write_fmt(text).expect("hashing text does not fail");
        words.end();
    }
}

impl Hasher for Fingerprint {
    fn finish(&self) -> u64 {
        mix(self.state)
    }

    fn write(&mut self, bytes: &[u8]) {
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            self.word(u64::from_le_bytes(chunk.try_into().expect("chunks of eight")));
        }
        let mut last = [0; 8];
        last[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
        self.word(u64::from_le_bytes(last));
        self.word(bytes.len() as u64);
    }

    fn write_u8(&mut self, number: u8) {
        self.word(u64::from(number));
    }

    fn write_u16(&mut self, number: u16) {
        self.word(u64::from(number));
    }

    fn write_u32(&mut self, number: u32) {
        self.word(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.word(number);
    }

    fn write_usize(&mut self, number: usize) {
        self.word(number as u64);
    }

    fn write_isize(&mut self, number: isize) {
        self.word(number as u64);
    }
}

/// Feeds formatted text into a fingerprint without building the text.
struct Words<'a> {
    into: &'a mut Fingerprint,
    word: u64,
    filled: u32,
    length: u64,
}

impl Words<'_> {
    fn end(self) {
        self.into.word(self.word);
        self.into.word(self.length);
    }
}

impl Write for Words<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.word |= u64::from(byte) << self.filled;
            self.filled += 8;
            if self.filled == 64 {
                self.into.word(self.word);
                (self.word, self.filled) = (0, 0);
            }
        }
        self.length += text.len() as u64;
        Ok(())
    }
}

/// An event that reaches a member.
pub(crate) fn event(event: &Event, into: &mut Fingerprint) {
    std::mem::discriminant(event).hash(into);
    match event {
        Event::Received { from, message } => {
            from.hash(into);
            peer_message(message, into);
        }
        Event::Hello { peer, incarnation, level } => (peer, incarnation, level).hash(into),
        Event::TurnedAway { by, reason } => (by, reason).hash(into),
        Event::ChangeMembers { ticket, change, basis } => (ticket, change, basis).hash(into),
        Event::TransferLeadership { ticket, to } => (ticket, to).hash(into),
        Event::ProposeInTerm { draft: proposed, term } => {
            draft(proposed, into);
            term.hash(into);
        }
        Event::Consult { ticket, bytes } => (ticket, bytes).hash(into),
        Event::Counsel { to, outcome } => (to, outcome).hash(into),
        Event::HandOver | Event::LogFull | Event::LogHasSpace => {}
        Event::PeerUp(peer)
        | Event::PeerDown(peer)
        | Event::LaneLost(peer)
        | Event::SnapshotsLost(peer)
        | Event::LaneUp(peer) => peer.hash(into),
        Event::LogWritten(written) => (written.number, written.last).hash(into),
        Event::LogRead { reader, frames: read } => {
            log_reader(*reader, into);
            frames(read, into);
        }
        Event::LogBegins(position) => position.hash(into),
        Event::Mended(mended) => into.text(format_args!("{mended:?}")),
        Event::SnapshotWorked(work) => work.name().hash(into),
        Event::StateSaved(saved) => saved.hash(into),
        Event::Propose(proposed) => draft(proposed, into),
        Event::Read(batch) => batch.hash(into),
    }
}

/// An effect that a member has. A reply is known as text only.
pub(crate) fn effect<R: fmt::Debug>(effect: &Effect<R>, into: &mut Fingerprint) {
    std::mem::discriminant(effect).hash(into);
    match effect {
        Effect::Write(batch) => log_batch(batch, into),
        Effect::Read(read) => {
            log_reader(read.reader, into);
            (read.from, read.last, read.bytes_max).hash(into);
        }
        Effect::Cut(cut) => {
            (cut.up_to, &cut.configuration, cut.trailing_bytes, cut.needed).hash(into);
        }
        Effect::Mend(Mend::Repair(repaired)) => frames(repaired, into),
        Effect::Mend(Mend::GiveUp | Mend::EndRecovering) => {}
        Effect::SnapshotWork(work) => work.name().hash(into),
        Effect::SaveState(state) => (state.applied, &state.record).hash(into),
        Effect::Send { to, message } => {
            to.hash(into);
            peer_message(message, into);
        }
        Effect::Reply { sequence, reply } => {
            sequence.hash(into);
            into.text(format_args!("{reply:?}"));
        }
        Effect::Refuse { sequence, reason } => (sequence, reason).hash(into),
        Effect::Doubt { sequence_max } => sequence_max.hash(into),
        Effect::ReadReady(batch) | Effect::ReadExpired(batch) | Effect::ReadRefused(batch) => {
            batch.hash(into);
        }
        Effect::Abort { stalled_us } => stalled_us.hash(into),
        Effect::Quarantined(quarantine) => quarantine.hash(into),
        Effect::HashesDiffer { index, hashes } => (index, hashes).hash(into),
        Effect::Changed(standing) => standing.hash(into),
        Effect::Stranger { peer, met, shown } => (peer, met, shown).hash(into),
        Effect::ChangeAnswered { ticket, outcome } => (ticket, outcome).hash(into),
        Effect::TransferAnswered { ticket, outcome } => (ticket, outcome).hash(into),
        Effect::Peers(peers) => (&peers.addresses, &peers.removed).hash(into),
        Effect::Consulted(asked) => {
            (asked.from, asked.term, &asked.bytes).hash(into);
        }
        Effect::Counselled { ticket, outcome } => (ticket, outcome).hash(into),
        Effect::HandedOver => {}
        Effect::Ends(ended) => ended.hash(into),
    }
}

fn peer_message(message: &PeerMessage, into: &mut Fingerprint) {
    std::mem::discriminant(message).hash(into);
    match message {
        PeerMessage::Raft(message) => message.hash(into),
        PeerMessage::Append { request, frames: sent } => {
            request.hash(into);
            frames(sent, into);
        }
        PeerMessage::Forward(proposals) => {
            into.write_usize(proposals.len());
            for proposal in proposals {
                (proposal.kind, proposal.version, proposal.origin).hash(into);
                into.write(&proposal.payload);
            }
        }
        PeerMessage::ForwardRefused { process, sequences, reason } => {
            (process, sequences.len()).hash(into);
            sequences.iter().for_each(|sequence| sequence.hash(into));
            into.write_u8(match reason {
                ForwardRefusal::NotLeader => 0,
                ForwardRefusal::Busy => 1,
                ForwardRefusal::NoSpace => 2,
            });
        }
        PeerMessage::Snapshot(message) => message.hash(into),
        PeerMessage::FramesRequest { first, last } => (first, last).hash(into),
        PeerMessage::FramesResponse { first, begins, frames: found } => {
            (first, begins).hash(into);
            frames(found, into);
        }
        PeerMessage::ReadIndexRequest { number } => number.hash(into),
        PeerMessage::ReadIndexResponse { number, index } => (number, index).hash(into),
        PeerMessage::Ask { process, number, ask } => {
            (process, number).hash(into);
            into.text(format_args!("{ask:?}"));
        }
        PeerMessage::Answer { process, number, answer } => {
            (process, number).hash(into);
            into.text(format_args!("{answer:?}"));
        }
        PeerMessage::Consult { process, number, bytes } => (process, number, bytes).hash(into),
        PeerMessage::Counsel { process, number, outcome } => {
            (process, number, outcome).hash(into);
        }
        PeerMessage::HashQuestion { index } => index.hash(into),
        PeerMessage::HashAnswer { index, hash } | PeerMessage::HashDiffers { index, hash } => {
            (index, hash).hash(into);
        }
    }
}

fn log_batch(batch: &LogBatch, into: &mut Fingerprint) {
    let LogBatch { number, last, hard_state, note, anew, after, entries } = batch;
    (number, last, hard_state, note.as_deref(), anew, after).hash(into);
    frames(entries, into);
}

fn log_reader(reader: LogReader, into: &mut Fingerprint) {
    match reader {
        LogReader::Peer(peer) => (1u8, peer).hash(into),
        LogReader::Apply => into.write_u8(0),
        LogReader::Frames(peer) => (2u8, peer).hash(into),
    }
}

fn frames(frames: &[Frame], into: &mut Fingerprint) {
    into.write_usize(frames.len());
    for frame in frames {
        // The header names the entry, its origin, its length and the checksum of its payload.
        into.write(&frame.bytes()[..HEADER_BYTES]);
    }
}

fn draft(draft: &Draft, into: &mut Fingerprint) {
    (draft.kind(), draft.version(), draft.origin()).hash(into);
    into.write(draft.payload());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fill: impl FnOnce(&mut Fingerprint)) -> u64 {
        let mut fingerprint = Fingerprint::from(7);
        fill(&mut fingerprint);
        fingerprint.finish()
    }

    #[test]
    fn order_content_length_and_what_came_before_count() {
        let one = of(|into| (1u64, 2u64).hash(into));
        assert_eq!(one, of(|into| (1u64, 2u64).hash(into)));
        assert_ne!(one, of(|into| (2u64, 1u64).hash(into)));
        assert_ne!(of(|into| into.write(b"a")), of(|into| into.write(b"a\0")));
        assert_ne!(of(|into| into.write(b"")), of(|_| ()));
        assert_ne!(Fingerprint::from(1).finish(), Fingerprint::from(2).finish());
    }

    #[test]
    fn text_is_the_same_however_it_is_pieced_together() {
        let whole = of(|into| into.text(format_args!("one and two and three")));
        let pieces = of(|into| into.text(format_args!("one {} two {}", "and", "and three")));
        assert_eq!(whole, pieces);
        assert_ne!(whole, of(|into| into.text(format_args!("one and two and three\0"))));
        assert_ne!(of(|into| into.text(format_args!(""))), of(|_| ()));
    }

    #[test]
    fn the_hash_never_changes() {
        // A trace hash that is written down must keep its meaning, on every machine.
        let hash = of(|into| {
            ("text", 3usize, Some(-4i64)).hash(into);
            into.text(format_args!("{:?}", [5]));
        });
        assert_eq!(hash, 2_048_130_616_291_449_842);
    }
}
