//! What the log's tests share: entries, and a log in memory.

#![allow(dead_code)]

pub(crate) mod fault;

use jangada_entry::{Draft, Frame, Kind, Origin, encode_configuration};
use jangada_raft::{Configuration, HardState, Index, NodeId, Position, Term};
use jangada_wal::{Identity, Options};

pub(crate) const GROUP: u64 = 7;

pub(crate) fn identity() -> Identity {
    Identity { cluster: 0xc, member: 1, incarnation: 0, group: GROUP }
}

pub(crate) fn configuration() -> Configuration {
    Configuration::of_voters([NodeId(1), NodeId(2), NodeId(3)])
}

/// Small segments, so that short histories fill them.
pub(crate) fn options(seed: u64) -> Options {
    Options { segment_bytes_min: 4096, segment_bytes_max: 16384, spares: 1, seed: Some(seed) }
}

pub(crate) fn position(index: u64, term: u64) -> Position {
    Position { index: Index(index), term: Term(term) }
}

pub(crate) fn term(term: u64) -> HardState {
    HardState { term: Term(term), vote: None }
}

pub(crate) fn vote(term: u64, vote: u64) -> HardState {
    HardState { term: Term(term), vote: Some(NodeId(vote)) }
}

/// A command whose payload no other (index, term) has.
pub(crate) fn command(index: u64, term: u64, payload_bytes: usize) -> Frame {
    let mut buffer = Draft::buffer(payload_bytes);
    let mut state = index.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (term << 32);
    for _ in 0..payload_bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        buffer.extend_from_slice(&[(state >> 33) as u8 | 1]);
    }
    let origin = Origin { incarnation: 5, sequence: index };
    Draft::new(buffer, Kind::Command, 1, GROUP, origin).stamp(position(index, term), 1000 + index)
}

/// Commands of one term.
pub(crate) fn commands(first: u64, last: u64, term: u64, payload_bytes: usize) -> Vec<Frame> {
    (first..=last).map(|index| command(index, term, payload_bytes)).collect()
}

/// A configuration entry.
pub(crate) fn configuration_entry(index: u64, term: u64, configuration: &Configuration) -> Frame {
    let mut buffer = Draft::buffer(64);
    buffer.extend_from_slice(&encode_configuration(configuration));
    Draft::new(buffer, Kind::Configuration, 1, GROUP, Origin::default())
        .stamp(position(index, term), 1000 + index)
}
