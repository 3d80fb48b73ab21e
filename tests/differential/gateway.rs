//! The same requests as JSON over the gateway: the same JSON must come back.
//!
//! Requests are written in one of the forms that a gateway takes, by turns: fields under either of their
//! names, numbers as numbers or as texts, members of enumerations by name or by number. Answers are
//! compared as the values that their JSON is; where they differ they are made into the messages that they
//! are, for the table of known differences to judge.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use jangada_server::proto::etcdserverpb as pb;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::Value;

use crate::answers::Answer;
use crate::generator::{Generator, Request};
use crate::support::http::{Answered, Http};
use crate::{shorten, table};

/// How many requests each reference and Jangada are asked.
const REQUESTS: usize = 3_000;

static DESCRIPTORS: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let bytes = include_bytes!("../../crates/server/proto/descriptors.bin");
    DescriptorPool::decode(&bytes[..]).expect("the committed descriptions are whole")
});

/// The path of a request, and its JSON in one of eight forms.
fn written(request: &Request, form: usize) -> (&'static str, Vec<u8>) {
    let (path, name, bytes) = match request {
        Request::Range(request) => ("/v3/kv/range", "RangeRequest", request.encode_to_vec()),
        Request::Put(request) => ("/v3/kv/put", "PutRequest", request.encode_to_vec()),
        Request::DeleteRange(request) => {
            ("/v3/kv/deleterange", "DeleteRangeRequest", request.encode_to_vec())
        }
        Request::Txn(request) => ("/v3/kv/txn", "TxnRequest", request.encode_to_vec()),
        Request::Compact(request) => {
            ("/v3/kv/compaction", "CompactionRequest", request.encode_to_vec())
        }
    };
    let options = SerializeOptions::new()
        .stringify_64_bit_integers(form & 1 == 0)
        .use_proto_field_name(form & 2 == 0)
        .use_enum_numbers(form & 4 == 0);
    let kind = DESCRIPTORS.get_message_by_name(&format!("etcdserverpb.{name}"));
    let message = DynamicMessage::decode(kind.expect("it is described"), &bytes[..]);
    let mut json = Vec::new();
    let message = message.expect("it was encoded from such a message");
    message
        .serialize_with_options(&mut serde_json::Serializer::new(&mut json), &options)
        .expect("every request can be written");
    (path, json)
}

/// The message that an answer's JSON stands for.
fn read<M: Message + Default>(name: &str, value: &Value) -> M {
    let kind = DESCRIPTORS.get_message_by_name(&format!("etcdserverpb.{name}"));
    let message = DynamicMessage::deserialize(kind.expect("it is described"), value);
    let message = message.unwrap_or_else(|error| panic!("{error}: {value}"));
    message.transcode_to().expect("both are made of the same description")
}

/// What was answered: the status, the JSON without what is a cluster's own, and what it stands for.
fn heard(request: &Request, answered: &Answered) -> (u16, Value, Answer) {
    let mut value = answered.json();
    strip(&mut value);
    assert_eq!(answered.kind(), "application/json");
    let answer = match request {
        _ if answered.status != 200 => {
            assert_eq!(value["error"], value["message"], "{value}");
            let code = value["code"].as_i64().and_then(|code| i32::try_from(code).ok());
            let text = value["message"].as_str().expect("a refusal is a sentence").to_owned();
            Answer::Refused(code.expect("a refusal has a code"), text)
        }
        Request::Range(_) => Answer::Range(read::<pb::RangeResponse>("RangeResponse", &value)),
        Request::Put(_) => Answer::Put(read::<pb::PutResponse>("PutResponse", &value)),
        Request::DeleteRange(_) => {
            Answer::DeleteRange(read::<pb::DeleteRangeResponse>("DeleteRangeResponse", &value))
        }
        Request::Txn(_) => Answer::Txn(read::<pb::TxnResponse>("TxnResponse", &value)),
        Request::Compact(_) => {
            Answer::Compact(read::<pb::CompactionResponse>("CompactionResponse", &value))
        }
    };
    (answered.status, value, answer)
}

/// Takes ids and terms out of the header; those within a transaction have none.
fn strip(value: &mut Value) {
    if let Some(header) = value.get_mut("header").and_then(Value::as_object_mut) {
        for own in ["cluster_id", "member_id", "raft_term"] {
            header.remove(own);
        }
    }
}

/// Asks both, and says which known differences occurred.
pub(crate) async fn compare(seed: u64, version: &str, theirs: &mut Http, ours: &mut Http) {
    let mut generator = Generator::new(seed);
    let mut met: BTreeMap<&str, usize> = BTreeMap::new();
    let mut refusals = 0;
    for position in 0..REQUESTS {
        let request = generator.next();
        if table::is_deadly(version, &request) {
            continue;
        }
        let (path, json) = written(&request, position % 8);
        let (etcd, found) = tokio::join!(theirs.post(path, json.clone()), ours.post(path, json));
        let (status, expected, answer) = heard(&request, &etcd);
        let found = heard(&request, &found);
        refusals += usize::from(status != 200);
        if let Some(revision) = answer.revision() {
            generator.revision = generator.revision.max(revision);
            if let Request::Compact(request) = &request {
                generator.compacted = generator.compacted.max(request.revision);
            }
        }
        if (status, &expected) == (found.0, &found.1) {
            continue;
        }
        let known = table::DIFFERENCES.iter();
        let mut known =
            known.filter(|known| (known.explains)(version, &request, &answer, &found.2));
        match known.next() {
            Some(known) => *met.entry(known.name).or_default() += 1,
            None => panic!(
                "seed {seed}, request {position} over the gateway: {}\netcd {version} answers: \
                 {status} {}\nJangada answers: {} {}",
                shorten(&request),
                shorten(&expected),
                found.0,
                shorten(&found.1)
            ),
        }
    }
    println!("etcd {version}: {REQUESTS} requests over the gateway, {refusals} refused, {met:?}");
    assert!(REQUESTS / 50 < refusals, "bad requests must be among them: {refusals}");
}
