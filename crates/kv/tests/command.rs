//! The bytes of commands: what is written is read back, and foreign bytes are refused.

use bytes::{Bytes, BytesMut};
use jangada_kv::{
    AlarmAction, AlarmKind, COMMAND_VERSION, Command, Compare, CompareResult, CompareTarget,
    DecodeError, DeleteRangeRequest, LeaseCommand, LeaseName, Member, PutFlags, PutRequest,
    RangeRequest, RequestOp, SortOrder, SortTarget, TXN_DEPTH_MAX, TxnRequest, encode_put,
    put_bytes_max,
};
use proptest::collection::vec;
use proptest::prelude::*;

fn encode(command: &Command) -> Bytes {
    let mut buffer = BytesMut::new();
    command.encode_into(&mut buffer);
    buffer.freeze()
}

fn decode(payload: &[u8]) -> Result<Command, DecodeError> {
    Command::decode(&Bytes::copy_from_slice(payload), COMMAND_VERSION)
}

fn text() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..200).prop_map(Bytes::from)
}

fn put() -> impl Strategy<Value = PutRequest> {
    (text(), text(), any::<i64>(), any::<[bool; 3]>()).prop_map(|(key, value, lease, flags)| {
        let [prev_kv, ignore_value, ignore_lease] = flags;
        PutRequest { key, value, lease, prev_kv, ignore_value, ignore_lease }
    })
}

fn delete() -> impl Strategy<Value = DeleteRangeRequest> {
    (text(), text(), any::<bool>()).prop_map(|(key, range_end, prev_kv)| DeleteRangeRequest {
        key,
        range_end,
        prev_kv,
    })
}

fn range() -> impl Strategy<Value = RangeRequest> {
    let order = prop::sample::select(vec![SortOrder::None, SortOrder::Ascend, SortOrder::Descend]);
    let target = prop::sample::select(vec![
        SortTarget::Key,
        SortTarget::Version,
        SortTarget::Create,
        SortTarget::Mod,
        SortTarget::Value,
    ]);
    (text(), text(), any::<[i64; 6]>(), order, target, any::<[bool; 2]>()).prop_map(
        |(key, range_end, numbers, sort_order, sort_target, [keys_only, count_only])| {
            let [limit, revision, min_mod, max_mod, min_create, max_create] = numbers;
            RangeRequest {
                key,
                range_end,
                limit,
                revision,
                sort_order,
                sort_target,
                keys_only,
                count_only,
                min_mod_revision: min_mod,
                max_mod_revision: max_mod,
                min_create_revision: min_create,
                max_create_revision: max_create,
            }
        },
    )
}

fn lease() -> impl Strategy<Value = LeaseCommand> {
    let name = || any::<(i64, u64)>().prop_map(|(id, granted)| LeaseName { id, granted });
    prop_oneof![
        any::<(i64, i64)>().prop_map(|(id, ttl)| LeaseCommand::Grant { id, ttl }),
        any::<i64>().prop_map(|id| LeaseCommand::Revoke { id }),
        (any::<u64>(), vec(name(), 0..5))
            .prop_map(|(term, leases)| LeaseCommand::Expire { term, leases }),
        (any::<u64>(), vec((name(), any::<i64>()), 0..5))
            .prop_map(|(term, leases)| LeaseCommand::Checkpoint { term, leases }),
    ]
}

fn compare() -> impl Strategy<Value = Compare> {
    let result = prop::sample::select(vec![
        CompareResult::Equal,
        CompareResult::Greater,
        CompareResult::Less,
        CompareResult::NotEqual,
    ]);
    let target = prop_oneof![
        any::<i64>().prop_map(CompareTarget::Version),
        any::<i64>().prop_map(CompareTarget::Create),
        any::<i64>().prop_map(CompareTarget::Mod),
        any::<i64>().prop_map(CompareTarget::Lease),
        text().prop_map(CompareTarget::Value),
    ];
    (result, target, text(), text()).prop_map(|(result, target, key, range_end)| Compare {
        result,
        target,
        key,
        range_end,
    })
}

fn txn() -> impl Strategy<Value = TxnRequest> {
    let leaf = prop_oneof![
        range().prop_map(RequestOp::Range),
        put().prop_map(RequestOp::Put),
        delete().prop_map(RequestOp::DeleteRange),
    ];
    let op = leaf.prop_recursive(3, 12, 3, |op| {
        (vec(compare(), 0..3), vec(op.clone(), 0..3), vec(op, 0..3)).prop_map(
            |(compare, success, failure)| RequestOp::Txn(TxnRequest { compare, success, failure }),
        )
    });
    (vec(compare(), 0..3), vec(op.clone(), 0..4), vec(op, 0..4))
        .prop_map(|(compare, success, failure)| TxnRequest { compare, success, failure })
}

fn command() -> impl Strategy<Value = Command> {
    let action = prop::sample::select(vec![AlarmAction::Activate, AlarmAction::Deactivate]);
    let kind = prop::sample::select(vec![AlarmKind::NoSpace, AlarmKind::Corrupt]);
    prop_oneof![
        put().prop_map(Command::Put),
        delete().prop_map(Command::DeleteRange),
        txn().prop_map(Command::Txn),
        (any::<i64>(), any::<bool>())
            .prop_map(|(revision, physical)| Command::Compact { revision, physical }),
        (action, any::<u64>(), kind).prop_map(|(action, member, kind)| Command::Alarm {
            action,
            member,
            kind
        }),
        (any::<u64>(), ".{0,20}", vec(".{0,30}", 0..4))
            .prop_map(|(id, name, client_urls)| Command::Member(Member { id, name, client_urls })),
        any::<u64>().prop_map(Command::RetractMember),
        lease().prop_map(Command::Lease),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(command in command()) {
        let payload = encode(&command);
        prop_assert_eq!(decode(&payload), Ok(command.clone()));
        // Every proper beginning is refused, and so is everything longer.
        let cut = payload.len() / 2;
        prop_assert!(decode(&payload[..cut]).is_err());
        prop_assert!(decode(&payload[..payload.len() - 1]).is_err());
        let longer = [&payload[..], &[0]].concat();
        prop_assert!(decode(&longer).is_err());
    }

    #[test]
    fn a_damaged_byte_is_refused_or_another_command(command in command(), at: usize, byte: u8) {
        let mut payload = encode(&command).to_vec();
        let at = at % payload.len();
        payload[at] = byte;
        if let Ok(found) = decode(&payload) {
            // One command has one encoding.
            prop_assert_eq!(encode(&found), payload);
        }
    }

    #[test]
    fn foreign_bytes_are_refused_or_read(payload in vec(any::<u8>(), 0..300)) {
        if let Ok(found) = decode(&payload) {
            prop_assert_eq!(encode(&found), payload);
        }
    }

    #[test]
    fn the_short_way_writes_the_same(put in put()) {
        let mut buffer = BytesMut::new();
        encode_put(&mut buffer, &put.key, &put.value, put.lease, PutFlags::of(&put));
        prop_assert!(buffer.len() <= put_bytes_max(&put.key, &put.value));
        prop_assert_eq!(buffer.freeze(), encode(&Command::Put(put)));
    }
}

#[test]
fn the_encoding_is_the_documented_one() {
    let put = Command::Put(PutRequest {
        key: Bytes::from_static(b"key"),
        value: Bytes::from_static(b"v"),
        lease: -2,
        prev_kv: true,
        ..PutRequest::default()
    });
    assert_eq!(encode(&put)[..], [1, 9, 3, 3, b'k', b'e', b'y', 1, b'v']);
    let compact = Command::Compact { revision: 300, physical: true };
    assert_eq!(encode(&compact)[..], [4, 0xd8, 0x04, 1]);
}

#[test]
fn keys_and_values_share_the_payloads_memory() {
    let payload = encode(&Command::Put(PutRequest {
        key: Bytes::from_static(b"key"),
        value: Bytes::from_static(b"value"),
        ..PutRequest::default()
    }));
    let Ok(Command::Put(put)) = Command::decode(&payload, COMMAND_VERSION) else {
        panic!("a put is read back as a put");
    };
    assert!(payload.as_ptr_range().contains(&put.key.as_ptr()));
    assert!(payload.as_ptr_range().contains(&put.value.as_ptr()));
}

#[test]
fn what_is_not_known_is_refused() {
    let payload = encode(&Command::Compact { revision: 1, physical: false });
    let newer = COMMAND_VERSION + 1;
    assert_eq!(Command::decode(&payload, newer), Err(DecodeError::Version(newer)));
    assert_eq!(decode(&[]), Err(DecodeError::Short));
    assert_eq!(decode(&[0]), Err(DecodeError::Tag(0)));
    assert_eq!(decode(&[7]), Err(DecodeError::Tag(7)), "a range stands only in a transaction");
    assert_eq!(decode(&[1, 0x10, 0, 0]), Err(DecodeError::Tag(0x10)), "an unknown flag");
    assert_eq!(decode(&[4, 0x80, 0, 0]), Err(DecodeError::Number), "a padded number");
    let endless = [&[4][..], &[0xff; 10], &[0]].concat();
    assert_eq!(decode(&endless), Err(DecodeError::Number), "a number beyond 64 bits");
    let huge = [&[1, 0][..], &[0xff; 9], &[1]].concat();
    assert_eq!(decode(&huge), Err(DecodeError::Short), "a length beyond the payload");
    assert_eq!(decode(&[6, 1, 1, 0xff, 0]), Err(DecodeError::Text));
    for error in [DecodeError::Version(9), DecodeError::Tag(9), DecodeError::Depth] {
        assert!(!error.to_string().is_empty());
    }
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| {
        let mut txn = TxnRequest::default();
        for _ in 1..depth {
            txn = TxnRequest { success: vec![RequestOp::Txn(txn)], ..TxnRequest::default() };
        }
        Command::Txn(txn)
    };
    let deepest = nested(TXN_DEPTH_MAX);
    assert_eq!(decode(&encode(&deepest)), Ok(deepest));
    assert_eq!(decode(&encode(&nested(TXN_DEPTH_MAX + 1))), Err(DecodeError::Depth));
    // Far deeper than any stack: no compares, one operation, a transaction, and again.
    let bottomless = [3].into_iter().chain([0, 1, 3].repeat(1 << 20)).collect::<Vec<u8>>();
    assert_eq!(decode(&bottomless), Err(DecodeError::Depth));
}
