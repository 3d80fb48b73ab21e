//! Messages as JSON, by their description.

use std::sync::LazyLock;

use bytes::Bytes;
use prost::Message;
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions,
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

/// Fields that are not known are ignored, as etcd does since 3.6.
const READ: DeserializeOptions = DeserializeOptions::new().deny_unknown_fields(false);

/// The description of a method.
pub(super) fn described(method: Method) -> Described {
    let row = method.description();
    let service = DESCRIPTORS.get_service_by_name(row.service);
    let found = service.and_then(|service| service.methods().find(|m| m.name() == row.name));
    found.expect("the proto files have every method of the table")
}

/// The bytes of a message that came as JSON.
///
/// # Errors
/// The JSON is not that message.
pub(super) fn read(kind: &MessageDescriptor, value: Value) -> Result<Bytes, Status> {
    let message = DynamicMessage::deserialize_with_options(kind.clone(), value, &READ)
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    Ok(message.encode_to_vec().into())
}

/// The JSON of a message.
///
/// # Errors
/// The bytes are not that message.
pub(super) fn write(kind: &MessageDescriptor, bytes: Bytes) -> Result<Value, Status> {
    let internal = |error: &dyn std::fmt::Display| Status::internal(error.to_string());
    let message = DynamicMessage::decode(kind.clone(), bytes).map_err(|error| internal(&error))?;
    message
        .serialize_with_options(serde_json::value::Serializer, &WRITTEN)
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
            let bytes = read(&kind, value.clone()).expect("it is read");
            assert_eq!(RangeRequest::decode(bytes).expect("it is one"), expect, "{value}");
        };
        let key = Bytes::from_static(b"a\xff\xfe");
        let expect = RangeRequest { key, range_end: "b".into(), limit: 7, ..Default::default() };
        check(json!({"key": "Yf/+", "range_end": "Yg==", "limit": "7"}), expect.clone());
        check(json!({"key": "Yf_-", "rangeEnd": "Yg", "limit": 7, "nobody": [1]}), expect);
        let sorted = RangeRequest { sort_order: 2, sort_target: 1, ..Default::default() };
        check(json!({"sort_order": "DESCEND", "sort_target": "VERSION"}), sorted.clone());
        check(json!({"sort_order": 2, "sortTarget": 1, "key": null}), sorted);
        for wrong in [json!({"key": "?"}), json!({"limit": "x"}), json!([]), json!({"key": 1})] {
            assert!(read(&kind, wrong.clone()).is_err(), "{wrong}");
        }
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
        let written = write(&kind, status.encode_to_vec().into()).expect("it is one");
        let expect = json!({
            "header": {"cluster_id": "18446744073709551615", "revision": "2"},
            "version": "3.6.6",
            "raftAppliedIndex": "9",
        });
        assert_eq!(written, expect);
    }
}
