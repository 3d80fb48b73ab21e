//! Questions to the leader and their answers, for the codec's tests.

use jangada_net::wire::{self, DecodeError, EncodeError};
use jangada_net::{Answer, Ask, AskRefusal, Basis, PeerMessage};
use jangada_raft::{CatchUp, Configuration, Index, MemberChange, NodeId};
use proptest::prelude::*;

use super::{GROUP, raw, whole, words};

/// Sorted ids, none twice.
fn ids() -> impl Strategy<Value = Vec<NodeId>> {
    prop::collection::btree_set(any::<u64>(), 0..5)
        .prop_map(|ids| ids.into_iter().map(NodeId).collect())
}

prop_compose! {
    fn change()(
        voters in ids(),
        learners in ids(),
        addresses in prop::collection::btree_map(
            any::<u64>().prop_map(NodeId),
            prop::collection::vec("[a-z:/0-9]{0,20}", 0..3),
            0..4,
        ),
        skip in any::<bool>(),
    ) -> MemberChange {
        let catch_up = if skip { CatchUp::Skip } else { CatchUp::First };
        MemberChange { voters, learners, addresses, catch_up }
    }
}

pub(crate) fn ask() -> impl Strategy<Value = PeerMessage> {
    let to = prop::option::of(any::<u64>().prop_map(NodeId));
    let ask = prop_oneof![
        (change(), any::<u32>())
            .prop_map(|(change, basis)| Ask::ChangeMembers { change, basis: Basis(basis) }),
        to.prop_map(Ask::TransferLeadership)
    ];
    (any::<u64>(), any::<u64>(), ask).prop_map(|(process, number, ask)| PeerMessage::Ask {
        process,
        number,
        ask,
    })
}

pub(crate) fn answer() -> impl Strategy<Value = PeerMessage> {
    let changed = (0..1_u64 << 62, change(), ids()).prop_map(|(index, change, outgoing)| {
        let MemberChange { voters, learners, addresses, .. } = change;
        let target = outgoing.clone();
        let forced = index % 2 == 1;
        let configuration = Configuration { voters, outgoing, learners, target, addresses, forced };
        Answer::Changed { index: Index(index), configuration }
    });
    let answer = prop_oneof![
        changed,
        any::<u64>().prop_map(|to| Answer::Transferred(NodeId(to))),
        prop::sample::select(AskRefusal::ALL.to_vec()).prop_map(Answer::Refused),
    ];
    (any::<u64>(), any::<u64>(), answer).prop_map(|(process, number, answer)| PeerMessage::Answer {
        process,
        number,
        answer,
    })
}

#[test]
fn what_is_no_question_and_no_answer_is_refused() {
    let cases = [
        // Process, number, choice and detail; a transfer to nobody that names somebody.
        (raw(15, &words(&[1, 1, 1, 7]), &[]), DecodeError::Reserved),
        (raw(15, &words(&[1, 1, 0x0201]), &[]), DecodeError::Choice(2)),
        (raw(15, &words(&[1, 1, 9]), &[]), DecodeError::Choice(9)),
        (raw(15, &words(&[1, 1, 1 << 24]), &[]), DecodeError::Reserved),
        // A transfer rests on no members.
        (raw(15, &words(&[1, 1, 1 | 1 << 40, 0]), &[]), DecodeError::Reserved),
        (raw(15, &words(&[1, 1]), &[]), DecodeError::Short),
        (raw(16, &words(&[1, 1, 0x0D02]), &[]), DecodeError::Choice(13)),
        (raw(16, &words(&[1, 1, 0x0101, 5]), &[]), DecodeError::Reserved),
        (raw(16, &words(&[1, 1, 1, 5, 5]), &[]), DecodeError::Long),
    ];
    for (bytes, expected) in cases {
        assert_eq!(wire::decode(GROUP, bytes), Err(expected), "{expected}");
    }
}

#[test]
fn a_membership_beyond_its_bounds_is_neither_sent_nor_taken() {
    let of = |change: MemberChange| PeerMessage::Ask {
        process: 1,
        number: 1,
        ask: Ask::ChangeMembers { change, basis: Basis::ANY },
    };
    let unsorted = MemberChange { voters: vec![NodeId(2), NodeId(1)], ..MemberChange::default() };
    let far = MemberChange {
        addresses: [(NodeId(1), vec!["x".repeat(513)])].into(),
        ..MemberChange::default()
    };
    let many = MemberChange {
        addresses: (0..256).map(|id| (NodeId(id), vec!["x".repeat(300)])).collect(),
        ..MemberChange::default()
    };
    for change in [unsorted, far, many.clone()] {
        assert_eq!(wire::measure(&of(change)), Err(EncodeError::Membership));
    }
    // Each part of it within its bounds, and the whole too large.
    let answer = PeerMessage::Answer {
        process: 1,
        number: 1,
        answer: Answer::Changed {
            index: Index(1),
            configuration: Configuration { addresses: many.addresses, ..Configuration::default() },
        },
    };
    let bytes = whole(GROUP, &answer);
    let configuration = &bytes[wire::HEADER_BYTES + 32..];
    let fixed = [&words(&[1, 1, 0])[..], configuration].concat();
    assert_eq!(wire::decode(GROUP, raw(15, &fixed, &[])), Err(DecodeError::Membership));
}
