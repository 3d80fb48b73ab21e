//! Asking, and making answers comparable: ids and terms are each cluster's own.

use jangada_server::proto::etcdserverpb::{
    CompactionResponse, DeleteRangeResponse, PutResponse, RangeResponse, ResponseHeader,
    TxnResponse, response_op,
};
use tonic::Status;

use crate::generator::Request;
use crate::support::client::Client;

/// An answer without what is a cluster's own.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Answer {
    Range(RangeResponse),
    Put(PutResponse),
    DeleteRange(DeleteRangeResponse),
    Txn(TxnResponse),
    Compact(CompactionResponse),
    /// The code and the text.
    Refused(i32, String),
    /// The question would have ended the process.
    NotAsked,
}

impl Answer {
    /// The store's revision as the answer names it.
    pub(crate) fn revision(&self) -> Option<i64> {
        let header = match self {
            Answer::Range(answer) => &answer.header,
            Answer::Put(answer) => &answer.header,
            Answer::DeleteRange(answer) => &answer.header,
            Answer::Txn(answer) => &answer.header,
            Answer::Compact(answer) => &answer.header,
            Answer::Refused(..) | Answer::NotAsked => return None,
        };
        header.as_ref().map(|header| header.revision)
    }

    /// Whether it was refused with this text.
    pub(crate) fn is_refused_with(&self, text: &str) -> bool {
        matches!(self, Answer::Refused(_, found) if found == text)
    }
}

/// Asks, and takes ids and terms out of the answer.
pub(crate) async fn ask(client: &mut Client, request: &Request) -> Answer {
    let answer = match request.clone() {
        Request::Range(request) => client.range(request).await.map(|mut answer| {
            strip(&mut answer.header);
            Answer::Range(answer)
        }),
        Request::Put(request) => client.put(request).await.map(|mut answer| {
            strip(&mut answer.header);
            Answer::Put(answer)
        }),
        Request::DeleteRange(request) => client.delete_range(request).await.map(|mut answer| {
            strip(&mut answer.header);
            Answer::DeleteRange(answer)
        }),
        Request::Txn(request) => client.txn(request).await.map(|mut answer| {
            strip_txn(&mut answer);
            Answer::Txn(answer)
        }),
        Request::Compact(request) => client.compact(request).await.map(|mut answer| {
            strip(&mut answer.header);
            Answer::Compact(answer)
        }),
    };
    answer.unwrap_or_else(|status: Status| {
        Answer::Refused(i32::from(status.code()), status.message().to_owned())
    })
}

fn strip(header: &mut Option<ResponseHeader>) {
    if let Some(header) = header {
        let revision = header.revision;
        *header = ResponseHeader { revision, ..ResponseHeader::default() };
    }
}

fn strip_txn(answer: &mut TxnResponse) {
    strip(&mut answer.header);
    for operation in &mut answer.responses {
        match &mut operation.response {
            Some(response_op::Response::ResponseRange(answer)) => strip(&mut answer.header),
            Some(response_op::Response::ResponsePut(answer)) => strip(&mut answer.header),
            Some(response_op::Response::ResponseDeleteRange(answer)) => strip(&mut answer.header),
            Some(response_op::Response::ResponseTxn(answer)) => strip_txn(answer),
            None => {}
        }
    }
}
