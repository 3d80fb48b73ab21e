//! Ranges as streams.

use jangada_kv::{Command, PutRequest};
use jangada_server::proto::etcdserverpb as pb;
use pb::range_request::{SortOrder, SortTarget};
use tonic::Code;

use crate::support::{MEMBER_ID, Server, bytes};

fn fill(server: &Server, keys: usize) {
    for at in 0..keys {
        let (key, value) = (bytes(&format!("key {at:05}")), bytes("value"));
        server.fake.apply(&Command::Put(PutRequest { key, value, ..PutRequest::default() }));
    }
}

async fn stream(
    server: &Server,
    request: pb::RangeRequest,
) -> Result<Vec<pb::RangeResponse>, tonic::Status> {
    let mut stream = server.kv().await.range_stream(request).await?.into_inner();
    let mut responses = Vec::new();
    while let Some(message) = stream.message().await? {
        responses.push(message.range_response.expect("a message has a part of the answer"));
    }
    Ok(responses)
}

#[tokio::test]
async fn the_parts_of_a_stream_are_the_answer_of_a_range() {
    let server = Server::start().await;
    fill(&server, 3000);
    let all = pb::RangeRequest {
        key: bytes("key"),
        range_end: bytes("kez"),
        ..pb::RangeRequest::default()
    };
    for request in [
        all.clone(),
        pb::RangeRequest { limit: 1500, ..all.clone() },
        pb::RangeRequest { revision: 1000, ..all.clone() },
        pb::RangeRequest { count_only: true, ..all.clone() },
        pb::RangeRequest { keys_only: true, serializable: true, ..all.clone() },
        pb::RangeRequest { key: bytes("key 00007"), range_end: bytes(""), ..all.clone() },
        pb::RangeRequest { key: bytes("nothing"), range_end: bytes("nothinh"), ..all.clone() },
    ] {
        let whole = server.kv().await.range(request.clone()).await.expect("it is answered");
        let mut parts = stream(&server, request.clone()).await.expect("it is answered");
        let last = parts.pop().expect("there is a last message");
        assert_eq!(last.header.expect("the last has a header").member_id, MEMBER_ID);
        let mut joined = last;
        let plain =
            |part: &pb::RangeResponse| part.header.is_none() && !part.more && part.count == 0;
        assert!(parts.iter().all(plain), "only the last says how it ends");
        let keys = parts.into_iter().flat_map(|part| part.kvs).chain(joined.kvs);
        joined.kvs = keys.collect();
        assert_eq!(joined, whole.into_inner(), "{request:?}");
    }
    assert!(1 < stream(&server, all).await.expect("it is answered").len());
}

#[tokio::test]
async fn a_stream_is_refused_what_it_cannot_do() {
    let server = Server::start().await;
    fill(&server, 1);
    let descend = SortOrder::Descend as i32;
    let by_value = SortTarget::Value as i32;
    for request in [
        pb::RangeRequest { sort_order: descend, ..pb::RangeRequest::default() },
        pb::RangeRequest { sort_target: by_value, ..pb::RangeRequest::default() },
        pb::RangeRequest { min_mod_revision: 1, ..pb::RangeRequest::default() },
    ] {
        let request = pb::RangeRequest { key: bytes("k"), range_end: bytes("l"), ..request };
        let status = stream(&server, request).await.expect_err("it is refused");
        assert_eq!(status.code(), Code::Unimplemented);
    }
    let empty = stream(&server, pb::RangeRequest::default()).await.expect_err("it has no key");
    assert_eq!(empty.message(), "etcdserver: key is not provided");
}
