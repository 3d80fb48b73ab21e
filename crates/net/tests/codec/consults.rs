//! What applications ask of the leader's, for the codec's tests.

use bytes::Bytes;
use jangada_net::wire::{self, CONSULT_BYTES_MAX, DecodeError, EncodeError};
use jangada_net::{ConsultRefusal, PeerMessage};
use proptest::prelude::*;

use super::{GROUP, raw, words};

fn bytes() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

pub(crate) fn consult() -> impl Strategy<Value = PeerMessage> {
    (any::<u64>(), any::<u64>(), bytes())
        .prop_map(|(process, number, bytes)| PeerMessage::Consult { process, number, bytes })
}

pub(crate) fn counsel() -> impl Strategy<Value = PeerMessage> {
    let refusal = prop::sample::select(ConsultRefusal::ALL.to_vec());
    let outcome = prop_oneof![bytes().prop_map(Ok), refusal.prop_map(Err)];
    (any::<u64>(), any::<u64>(), outcome)
        .prop_map(|(process, number, outcome)| PeerMessage::Counsel { process, number, outcome })
}

#[test]
fn what_is_no_consultation_is_refused() {
    let cases = [
        (raw(29, &words(&[1]), &[]), DecodeError::Short),
        (raw(30, &words(&[1, 1]), &[]), DecodeError::Short),
        (raw(30, &words(&[1, 1, 2]), &[]), DecodeError::Choice(2)),
        (raw(30, &words(&[1, 1, 0x0301]), &[]), DecodeError::Choice(3)),
        (raw(30, &words(&[1, 1, 0x0100]), &[]), DecodeError::Reserved),
        (raw(30, &words(&[1, 1, 1 << 16]), &[]), DecodeError::Reserved),
        (raw(30, &words(&[1, 1, 1, 5]), &[]), DecodeError::Long),
        (raw(29, &vec![0; 17 + CONSULT_BYTES_MAX], &[]), DecodeError::Long),
    ];
    for (bytes, expected) in cases {
        assert_eq!(wire::decode(GROUP, bytes), Err(expected), "{expected}");
    }
    let bytes = Bytes::from(vec![0; CONSULT_BYTES_MAX + 1]);
    let long = PeerMessage::Consult { process: 1, number: 1, bytes: bytes.clone() };
    assert_eq!(wire::measure(&long), Err(EncodeError::Payload(bytes.len())));
}
