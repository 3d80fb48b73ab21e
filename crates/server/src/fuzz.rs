//! Entry points for fuzzing: what has no way in from outside, and what must hold of it. Not part of
//! the crate's interface; only built for the package `jangada-fuzz`.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::Frame;
use jangada_kv::{Command, Outcome, RangeRequest, RangeResponse, TxnRequest};
use prost::Message;
use tonic::Status;

use crate::convert;
use crate::grpc::framing;
use crate::proto::etcdserverpb as pb;

/// A body that comes in the pieces given.
struct Pieces(VecDeque<Bytes>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }
}

/// Reads the one message of a request whose body comes in these pieces.
///
/// # Errors
/// What the client is told.
pub fn read_message(pieces: VecDeque<Bytes>, limit: usize) -> Result<Bytes, Status> {
    let reading = pin!(framing::read_message(Pieces(pieces), limit));
    match reading.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(message) => message,
        Poll::Pending => panic!("every piece is there"),
    }
}

/// A request as the store takes it.
#[derive(Clone, PartialEq, Debug)]
pub enum Request {
    /// A read.
    Range(RangeRequest),
    /// A transaction of reads alone.
    Reads(TxnRequest),
    /// A change.
    Change(Command),
}

/// Which message a request's bytes are read as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// Reads keys.
    Range,
    /// Writes a key.
    Put,
    /// Deletes keys.
    DeleteRange,
    /// Compares, reads and writes.
    Txn,
    /// Forgets history.
    Compact,
}

/// Reads a request's message and checks it as the service does.
///
/// # Errors
/// What the client is told.
///
/// # Panics
/// If the message does not come back once it is encoded again.
pub fn request(method: Method, message: Bytes, max_txn_ops: usize) -> Result<Request, Status> {
    Ok(match method {
        Method::Range => Request::Range(convert::range(decode(message)?)?),
        Method::Put => Request::Change(Command::Put(convert::put(decode(message)?)?)),
        Method::DeleteRange => {
            Request::Change(Command::DeleteRange(convert::delete(decode(message)?)?))
        }
        Method::Txn => {
            let txn = convert::txn(decode(message)?, max_txn_ops)?;
            if jangada_kv::is_read_only(&txn) {
                return Ok(Request::Reads(txn));
            }
            Request::Change(Command::Txn(txn))
        }
        Method::Compact => {
            let pb::CompactionRequest { revision, physical } = decode(message)?;
            Request::Change(Command::Compact { revision, physical })
        }
    })
}

fn decode<M: Message + Default + PartialEq>(bytes: Bytes) -> Result<M, Status> {
    let message: M = framing::decode(bytes)?;
    let framed = framing::encode(&message)?;
    let limit = framed.len();
    let again = read_message(VecDeque::from([framed]), limit)?;
    assert!(framing::decode::<M>(again)? == message, "a message comes back");
    Ok(message)
}

/// The answer to a read, as it goes out.
#[must_use]
pub fn range_answer(revision: i64, response: RangeResponse) -> Bytes {
    let answer = convert::range_response(response, header(revision));
    framing::encode(&answer).expect("the answer is small")
}

/// The answer to a change, as it goes out.
///
/// # Errors
/// What the client is told.
pub fn change_answer(outcome: Outcome) -> Result<Bytes, Status> {
    use jangada_kv::Answer;
    let header = header(outcome.reply.revision);
    let answer = outcome.reply.result.map_err(crate::errors::ApiError::from)?;
    match answer {
        Answer::Put(response) => framing::encode(&convert::put_response(response, header)),
        Answer::DeleteRange(response) => {
            framing::encode(&convert::delete_response(response, header))
        }
        Answer::Txn(response) => framing::encode(&convert::txn_response(response, header)),
        Answer::Compact => framing::encode(&pb::CompactionResponse { header: Some(header) }),
        other => panic!("no request here is answered so: {other:?}"),
    }
}

fn header(revision: i64) -> pb::ResponseHeader {
    pb::ResponseHeader { cluster_id: 1, member_id: 2, revision, raft_term: 3 }
}
