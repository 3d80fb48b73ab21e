//! Messages as JSON, by their description.

use std::sync::LazyLock;

use bytes::Bytes;
use prost::Message;
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, Kind, MessageDescriptor, SerializeOptions,
};
use serde_json::Value;
use tonic::Status;

use super::Described;
use crate::grpc::methods::Method;

/// The description of every message and method, made of `proto/*.proto` (see the test `generated`).
static DESCRIPTORS: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(&include_bytes!("../../proto/descriptors.bin")[..])
        .expect("the committed descriptions are whole")
});

/// The form of etcd's gateway.
const WRITTEN: SerializeOptions = SerializeOptions::new()
    .stringify_64_bit_integers(true)
    .use_enum_numbers(false)
    .use_proto_field_name(true)
    .skip_default_fields(true);

/// How most requests are read.
const KNOWN: DeserializeOptions = DeserializeOptions::new();

/// How those are that have more than we know, which is ignored as in etcd.
const UNKNOWN: DeserializeOptions = DeserializeOptions::new().deny_unknown_fields(false);

/// The description of a method.
pub(super) fn described(method: Method) -> Described {
    let row = method.description();
    let service = DESCRIPTORS.get_service_by_name(row.service);
    let found = service.and_then(|service| service.methods().find(|m| m.name() == row.name));
    found.expect("the proto files have every method of the table")
}

/// The bytes of a message that came as JSON. `null` is an empty one, as in etcd.
///
/// # Errors
/// The JSON is not that message.
pub(super) fn read(kind: &MessageDescriptor, json: &[u8]) -> Result<Bytes, Status> {
    if json.trim_ascii() == b"null" {
        return Ok(Bytes::new());
    }
    let message = match parse(kind, json, &KNOWN) {
        Ok(message) => message,
        Err(_) => {
            let message = parse(kind, json, &UNKNOWN).map_err(invalid)?;
            check_names(kind, &serde_json::from_slice(json).map_err(invalid)?)?;
            message
        }
    };
    Ok(message.encode_to_vec().into())
}

fn parse(
    kind: &MessageDescriptor,
    json: &[u8],
    options: &DeserializeOptions,
) -> Result<DynamicMessage, serde_json::Error> {
    let mut values = serde_json::Deserializer::from_slice(json);
    let message = DynamicMessage::deserialize_with_options(kind.clone(), &mut values, options)?;
    values.end()?;
    Ok(message)
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err gives")]
fn invalid(error: serde_json::Error) -> Status {
    Status::invalid_argument(format!("the request is not the JSON of its message: {error}"))
}

/// Refuses a name that an enumeration does not have, which would pass for its default. The depth is
/// that of the JSON, which its reader limits.
fn check_names(kind: &MessageDescriptor, json: &Value) -> Result<(), Status> {
    let Value::Object(fields) = json else { return Ok(()) };
    for (name, json) in fields {
        let by_name = || kind.get_field_by_name(name);
        let Some(field) = kind.get_field_by_json_name(name).or_else(by_name) else { continue };
        let values = json.as_array().map_or(std::slice::from_ref(json), Vec::as_slice);
        for value in values {
            match (field.kind(), value) {
                (Kind::Message(kind), value) => check_names(&kind, value)?,
                (Kind::Enum(kind), Value::String(text))
                    if kind.get_value_by_name(text).is_none() =>
                {
                    let names: Vec<_> = kind.values().map(|v| v.name().to_owned()).collect();
                    return Err(Status::invalid_argument(format!(
                        "unknown value {text:?} for enum {}; it has {}",
                        kind.full_name(),
                        names.join(", ")
                    )));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Writes the JSON of a message behind what is there.
///
/// # Errors
/// The bytes are not that message.
pub(super) fn write(
    kind: &MessageDescriptor,
    bytes: Bytes,
    into: &mut Vec<u8>,
) -> Result<(), Status> {
    let internal = |error: &dyn std::fmt::Display| Status::internal(error.to_string());
    let message = DynamicMessage::decode(kind.clone(), bytes).map_err(|error| internal(&error))?;
    message
        .serialize_with_options(&mut serde_json::Serializer::new(into), &WRITTEN)
        .map_err(|error| internal(&error))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::grpc::methods::METHODS;
    use crate::proto::etcdserverpb::{RangeRequest, ResponseHeader, StatusResponse};

    #[test]
    fn every_method_is_described() {
        for row in METHODS {
            assert_eq!(described(row.method).name(), row.name);
        }
    }

    #[test]
    fn json_is_read_in_all_the_forms_that_a_gateway_takes() {
        let kind = described(Method::Range).input();
        let check = |value: Value, expect: RangeRequest| {
            let bytes = read(&kind, value.to_string().as_bytes()).expect("it is read");
            assert_eq!(RangeRequest::decode(bytes).expect("it is one"), expect, "{value}");
        };
        let key = Bytes::from_static(b"a\xff\xfe");
        let expect = RangeRequest { key, range_end: "b".into(), limit: 7, ..Default::default() };
        check(json!({"key": "Yf/+", "range_end": "Yg==", "limit": "7"}), expect.clone());
        check(json!({"key": "Yf_-", "rangeEnd": "Yg", "limit": 7, "nobody": [1]}), expect);
        let sorted = RangeRequest { sort_order: 2, sort_target: 1, ..Default::default() };
        check(json!({"sort_order": "DESCEND", "sort_target": "VERSION"}), sorted.clone());
        check(json!({"sort_order": 2, "sortTarget": 1, "key": null}), sorted);
        check(json!(null), RangeRequest::default());
        for wrong in [json!({"key": "?"}), json!({"limit": "x"}), json!([]), json!({"key": 1})] {
            assert!(read(&kind, wrong.to_string().as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_misspelt_name_is_refused_wherever_it_is() {
        let refused = |method, value: Value| {
            let error = read(&described(method).input(), value.to_string().as_bytes());
            error.expect_err("it is refused").message().to_owned()
        };
        assert_eq!(
            refused(Method::Range, json!({"sort_order": "DESC"})),
            "unknown value \"DESC\" for enum etcdserverpb.RangeRequest.SortOrder; it has NONE, \
             ASCEND, DESCEND"
        );
        let nested = json!({"success": [{"requestTxn": {"compare": [{"target": "VALU"}]}}]});
        assert!(refused(Method::Txn, nested).starts_with("unknown value \"VALU\" for enum"));
    }

    #[test]
    fn json_is_written_as_etcd_writes_it() {
        let kind = described(Method::Status).output();
        let header = ResponseHeader { cluster_id: u64::MAX, revision: 2, ..Default::default() };
        let status = StatusResponse {
            header: Some(header),
            version: "3.6.6".to_owned(),
            raft_applied_index: 9,
            ..Default::default()
        };
        let mut written = Vec::new();
        write(&kind, status.encode_to_vec().into(), &mut written).expect("it is one");
        let expect = "{\"header\":{\"cluster_id\":\"18446744073709551615\",\"revision\":\"2\"},\
                      \"version\":\"3.6.6\",\"raftAppliedIndex\":\"9\"}";
        assert_eq!(String::from_utf8(written).expect("JSON is text"), expect);
    }
}
