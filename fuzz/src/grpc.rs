//! Requests of clients: the framing of gRPC, the messages, and what the store makes of them. What
//! is taken from a client must be applied by every member, and answered.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};
use jangada_kv::{COMMAND_VERSION, Entry, Machine, Options};
use jangada_server::fuzz::{Method, Request, change_answer, range_answer, read_message, request};
use jangada_server::proto::etcdserverpb as pb;
use prost::Message;

use crate::Input;

/// The most bytes of a message.
const LIMIT: usize = 4096;

/// The most operations of a transaction.
const TXN_OPS_MAX: usize = 8;

const METHODS: [Method; 5] =
    [Method::Range, Method::Put, Method::DeleteRange, Method::Txn, Method::Compact];

/// Reads the input as one framed message, however it is cut; or as a client's requests, one behind
/// the other, each with its method and its length in front.
///
/// # Panics
/// At the first thing that is wrong.
pub fn check(data: &[u8]) {
    let Some((mode, rest)) = data.split_first() else { return };
    match mode & 1 {
        0 => framed(rest),
        _ => requests(rest),
    }
}

fn framed(data: &[u8]) {
    let Some((cut, bytes)) = data.split_first() else { return };
    let whole = read_message(VecDeque::from([Bytes::copy_from_slice(bytes)]), LIMIT);
    let pieces = bytes.chunks(1 + usize::from(*cut)).map(Bytes::copy_from_slice).collect();
    let cut = read_message(pieces, LIMIT);
    match (&whole, &cut) {
        (Ok(whole), Ok(cut)) => {
            assert_eq!(whole, cut);
            assert_eq!(bytes[5..], whole[..], "the message is what stands behind the prefix");
            assert!(bytes[0] == 0 && whole.len() <= LIMIT, "framing invariant 1");
        }
        (Err(whole), Err(cut)) => {
            assert_eq!(whole.code(), cut.code(), "an error does not depend on how bytes come");
            told(whole);
        }
        _ => panic!("a message does not depend on how its bytes come: {whole:?}, {cut:?}"),
    }
}

fn told(status: &tonic::Status) {
    assert_ne!(status.code(), tonic::Code::Ok);
    assert!(status.message().contains(' '), "an error is a sentence: {status:?}");
}

fn requests(data: &[u8]) {
    let mut input = Input::new(data);
    let mut machine = Machine::open(None, Options::default()).expect("memory opens");
    let mut index = 0;
    while !input.is_empty() {
        let method = METHODS[usize::from(input.byte()) % METHODS.len()];
        let message = Bytes::copy_from_slice(input.piece());
        match request(method, message, TXN_OPS_MAX) {
            Err(status) => told(&status),
            Ok(Request::Range(range)) => {
                let (revision, response) = machine.shared().range(&range);
                if let Ok(response) = response {
                    let limited = 0 < range.limit;
                    assert!(!limited || response.kvs.len() as i64 <= range.limit, "{range:?}");
                    assert!(response.kvs.len() as i64 <= response.count, "{range:?}");
                    whole(&range_answer(revision, response));
                }
            }
            Ok(Request::Reads(txn)) => {
                let (_, response) = machine.shared().txn_read(&txn);
                drop(response);
            }
            Ok(Request::Change(command)) => {
                let mut payload = BytesMut::new();
                command.encode_into(&mut payload);
                let payload = payload.freeze();
                let decoded = jangada_kv::fuzz::check_command(&payload, COMMAND_VERSION);
                assert_eq!(decoded.as_ref(), Ok(&command), "what a client may ask is applied");
                index += 1;
                let entry = Entry {
                    index,
                    term: 1,
                    time_ms: 5,
                    version: COMMAND_VERSION,
                    payload: &payload,
                };
                let outcome = machine.apply_one(entry).expect("what a client may ask is applied");
                machine.end_batch(index, Bytes::new());
                match change_answer(outcome) {
                    Ok(answer) => whole(&answer),
                    Err(status) => told(&status),
                }
            }
        }
    }
}

/// An answer is one message with its prefix.
fn whole(answer: &Bytes) {
    let message = read_message(VecDeque::from([answer.clone()]), answer.len());
    assert_eq!(message.map(|message| message.len() + 5).ok(), Some(answer.len()));
}

/// One request of each kind, framed; and all of them as a client's story.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    use pb::compare::{CompareResult, CompareTarget, TargetUnion};
    use pb::request_op::Request as Op;
    let key = Bytes::from_static(b"key");
    let put = pb::PutRequest {
        key: key.clone(),
        value: b"value"[..].into(),
        prev_kv: true,
        ..Default::default()
    };
    let range = pb::RangeRequest {
        key: key.clone(),
        range_end: b"kf"[..].into(),
        limit: 3,
        sort_order: 2,
        sort_target: 3,
        ..Default::default()
    };
    let delete =
        pb::DeleteRangeRequest { key: key.clone(), range_end: b"\0"[..].into(), prev_kv: true };
    let compare = pb::Compare {
        result: CompareResult::Greater.into(),
        target: CompareTarget::Version.into(),
        key,
        range_end: Bytes::new(),
        target_union: Some(TargetUnion::Version(0)),
    };
    let op = |request| pb::RequestOp { request: Some(request) };
    let inner = pb::TxnRequest {
        compare: vec![compare.clone()],
        success: vec![op(Op::RequestPut(pb::PutRequest {
            key: b"other"[..].into(),
            ..Default::default()
        }))],
        failure: vec![],
    };
    let txn = pb::TxnRequest {
        compare: vec![compare],
        success: vec![
            op(Op::RequestRange(range.clone())),
            op(Op::RequestPut(put.clone())),
            op(Op::RequestTxn(inner)),
        ],
        failure: vec![op(Op::RequestDeleteRange(delete.clone()))],
    };
    let compact = pb::CompactionRequest { revision: 2, physical: true };
    let messages = [
        (1, put.encode_to_vec()),
        (0, range.encode_to_vec()),
        (3, txn.encode_to_vec()),
        (2, delete.encode_to_vec()),
        (4, compact.encode_to_vec()),
        (0, range.encode_to_vec()),
    ];
    let mut story = BytesMut::from(&[1][..]);
    let mut seeds = Vec::new();
    for (method, message) in messages {
        let mut framed = BytesMut::from(&[0, 3, 0][..]);
        framed.put_u32(u32::try_from(message.len()).expect("seeds are small"));
        framed.extend_from_slice(&message);
        seeds.push(framed.to_vec());
        let mut told = BytesMut::from(&[1, method][..]);
        told.put_u8(u8::try_from(message.len()).expect("seeds are small"));
        told.extend_from_slice(&message);
        story.extend_from_slice(&told[1..]);
        seeds.push(told.to_vec());
    }
    seeds.push([&story[..], &story[1..]].concat());
    seeds
}
