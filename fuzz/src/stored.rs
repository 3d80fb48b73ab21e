//! What lies in the log and in the engine: entries, commands of the store, the store's rows, and the
//! node's notes. Commands are also applied: they come from peers, and no member may stop or differ by one.

use bytes::{BufMut, Bytes, BytesMut};
use jangada::{Acquaintances, Index, Notes, Quarantine, Record};
use jangada_kv::fuzz::{check_command, check_member, check_row, check_row_key, row};
use jangada_kv::{
    AlarmAction, AlarmKind, COMMAND_VERSION, Command, Compare, CompareResult, CompareTarget,
    DeleteRangeRequest, Entry, Machine, Member, Options, PutRequest, RangeRequest, RequestOp,
    SortOrder, SortTarget, TxnRequest,
};

use crate::{Input, sentence};

/// Reads the input as one of all these, its first byte says which.
///
/// # Panics
/// At the first thing that is wrong.
pub fn check(data: &[u8]) {
    let Some((mode, rest)) = data.split_first() else { return };
    match mode % 6 {
        0 => command(rest),
        1 => commands(rest),
        2 => rows(rest),
        3 => {
            let _ = check_member(rest);
        }
        4 => notes(rest),
        _ => crate::entry::check(rest),
    }
}

fn command(data: &[u8]) {
    let payload = Bytes::copy_from_slice(data);
    if let Err(error) = check_command(&payload, COMMAND_VERSION) {
        sentence(&error);
    }
    let error = check_command(&payload, COMMAND_VERSION + 1);
    sentence(&error.expect_err("a version that nobody knows is refused"));
}

/// Applies what the pieces of the input say to two machines, one of which takes them one by one and
/// the other together: they must answer alike and end alike.
fn commands(data: &[u8]) {
    let mut input = Input::new(data);
    let open = || Machine::open(None, Options::default()).expect("memory opens");
    let (mut one, mut other) = (open(), open());
    let mut index = 0;
    let mut revision = 0;
    while !input.is_empty() {
        let payload = input.piece();
        index += 1;
        let entry =
            Entry { index, term: 1, time_ms: 1000 + index, version: COMMAND_VERSION, payload };
        let answers = [one.apply_one(entry), other.apply_one(entry)].map(|applied| {
            applied.map(|outcome| (outcome.digest, outcome.reply)).inspect_err(|error| {
                sentence(error);
                assert_eq!(error.index, index, "the entry is named");
            })
        });
        assert_eq!(answers[0], answers[1], "members answer alike");
        let decodes = check_command(&Bytes::copy_from_slice(payload), COMMAND_VERSION);
        let refused = answers[0].as_ref().err().map(|error| error.error);
        assert_eq!(refused, decodes.err(), "only what does not decode stops a member");
        if refused.is_some() {
            return;
        }
        one.end_batch(index, Bytes::new());
        let now = one.shared().read().revision();
        assert!(revision <= now, "revisions never fall");
        revision = now;
    }
    other.end_batch(index, Bytes::new());
    let ends = [&one, &other].map(|machine| {
        let range =
            RangeRequest { key: vec![0].into(), range_end: vec![0].into(), ..Default::default() };
        machine.shared().range(&range)
    });
    assert_eq!(ends[0], ends[1], "members end alike");
}

fn rows(data: &[u8]) {
    let mut input = Input::new(data);
    let tombstone = usize::from(input.byte() & 1);
    let key = input.bytes(17 + tombstone);
    let sound = check_row_key(key);
    let _ = check_row(key, input.rest());
    if !sound {
        let (key, _) = row(7, 1, b"k", b"");
        let _ = check_row(&key, input.rest());
    }
}

fn notes(data: &[u8]) {
    match Record::decode(data) {
        // Version 1 is read, and written anew in version 2.
        Ok(record) if data.starts_with(&[1, 0]) => {
            assert_eq!(Record::decode(&record.encode()), Ok(record), "a record stays what it is");
        }
        Ok(record) => assert_eq!(record.encode(), data, "a record has one encoding"),
        Err(error) => sentence(&error),
    }
    match Notes::decode(data) {
        Ok(notes) => {
            assert!(data.is_empty() || notes.encode() == data, "notes have one encoding");
        }
        Err(error) => sentence(&error),
    }
}

/// A command of each kind.
fn examples() -> Vec<Command> {
    let key = Bytes::from_static(b"key");
    let put = PutRequest {
        key: key.clone(),
        value: Bytes::from_static(b"value"),
        prev_kv: true,
        ..PutRequest::default()
    };
    let delete =
        DeleteRangeRequest { key: key.clone(), range_end: b"kez"[..].into(), prev_kv: true };
    let range = RangeRequest {
        key: key.clone(),
        range_end: b"\0"[..].into(),
        limit: 2,
        revision: 1,
        sort_order: SortOrder::Descend,
        sort_target: SortTarget::Value,
        ..RangeRequest::default()
    };
    let targets = [
        CompareTarget::Version(1),
        CompareTarget::Create(2),
        CompareTarget::Mod(3),
        CompareTarget::Value(b"value"[..].into()),
        CompareTarget::Lease(0),
    ];
    let compare = targets.map(|target| Compare {
        result: CompareResult::NotEqual,
        target,
        key: key.clone(),
        range_end: Bytes::new(),
    });
    let inner = TxnRequest {
        success: vec![RequestOp::Put(PutRequest { key: b"other"[..].into(), ..put.clone() })],
        ..TxnRequest::default()
    };
    vec![
        Command::Put(put.clone()),
        Command::Put(PutRequest { lease: -7, ignore_value: true, ..put.clone() }),
        Command::Txn(TxnRequest {
            compare: compare.to_vec(),
            success: vec![RequestOp::Range(range), RequestOp::Txn(inner)],
            failure: vec![RequestOp::Put(put), RequestOp::DeleteRange(delete.clone())],
        }),
        Command::DeleteRange(delete),
        Command::Compact { revision: 2, physical: true },
        Command::Alarm { action: AlarmAction::Activate, member: 1, kind: AlarmKind::NoSpace },
        Command::Alarm { action: AlarmAction::Deactivate, member: 0, kind: AlarmKind::NoSpace },
        Command::Member(Member {
            id: 1,
            name: "one".to_owned(),
            client_urls: vec!["http://localhost:2379".to_owned()],
        }),
    ]
}

/// Commands alone and one behind the other, rows, members, notes, entries.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    let mut story = BytesMut::from(&[1][..]);
    for command in examples() {
        let mut bytes = BytesMut::from(&[0][..]);
        command.encode_into(&mut bytes);
        story.put_u8(u8::try_from(bytes.len() - 1).expect("examples are short"));
        story.extend_from_slice(&bytes[1..]);
        if let Command::Member(_) = command {
            seeds.push([&[3][..], &bytes[2..]].concat());
        }
        seeds.push(bytes.to_vec());
    }
    seeds.push([&story[..], &story[1..]].concat());
    seeds.push(story.to_vec());
    for value in [&b""[..], b"value"] {
        let (key, message) = row(9, 2, b"key", value);
        seeds.push([&[2, u8::from(value.is_empty())][..], &key, &message].concat());
    }
    let mut record = Record::default();
    let position =
        jangada_raft::Position { index: jangada_raft::Index(1), term: jangada_raft::Term(3) };
    record.chain(position, 1000, 42);
    let mut met = Acquaintances::default();
    met.meet(jangada_raft::NodeId(2), 98);
    met.meet(jangada_raft::NodeId(7), 99);
    seeds.push([&[4][..], &record.encode()].concat());
    seeds.push([&[4][..], &met.encode()].concat());
    let quarantine = Some(Quarantine { index: Index(5), own: 6, others: 7 });
    seeds.push([&[4][..], &Notes { acquaintances: met, quarantine }.encode()].concat());
    seeds.extend(crate::entry::seeds().iter().map(|seed| [&[5][..], seed].concat()));
    seeds
}
