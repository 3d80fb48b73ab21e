//! What the requests of a load do, and to which keys.

use bytes::Bytes;
use jangada_server::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use jangada_server::proto::etcdserverpb::request_op::Request;
use jangada_server::proto::etcdserverpb::{
    Compare, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use tonic::Status;

use crate::http2::Channel;

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
const TXN: &str = "/etcdserverpb.KV/Txn";

/// What each request does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Writes a value to a key.
    Put,
    /// Reads a key, by way of the leader.
    GetLinearizable,
    /// Reads a key as the member has it.
    GetSerializable,
    /// Writes a value to a key in a transaction with one condition, which holds.
    Txn,
    /// Reads a key by way of the leader, or writes it.
    Mixed {
        /// How many of a hundred requests read.
        reads_percent: u8,
    },
    /// Reads keys that follow each other, by way of the leader.
    RangeLinearizable {
        /// How many.
        keys: u64,
    },
    /// Reads keys that follow each other as the member has them.
    RangeSerializable {
        /// How many.
        keys: u64,
    },
}

impl Operation {
    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Operation::Put => "put".to_owned(),
            Operation::GetLinearizable => "get, linearizable".to_owned(),
            Operation::GetSerializable => "get, serializable".to_owned(),
            Operation::Txn => "txn".to_owned(),
            Operation::Mixed { reads_percent } => format!("mixed, {reads_percent} % reads"),
            Operation::RangeLinearizable { keys } => format!("range of {keys}, linearizable"),
            Operation::RangeSerializable { keys } => format!("range of {keys}, serializable"),
        }
    }

    /// Makes one request, about the key of this number.
    pub(crate) async fn request(
        self,
        channel: &Channel,
        number: u64,
        value: &Bytes,
        random: &mut fastrand::Rng,
    ) -> Result<(), Status> {
        let key = key(number);
        let put = |key| PutRequest { key, value: value.clone(), ..PutRequest::default() };
        let range = |key, keys, serializable| RangeRequest {
            key,
            range_end: if keys == 1 { Bytes::new() } else { self::key(number + keys) },
            serializable,
            ..RangeRequest::default()
        };
        let answer = match self {
            Operation::Put => channel.call(PUT, put(key)).await,
            Operation::GetLinearizable => channel.call(RANGE, range(key, 1, false)).await,
            Operation::GetSerializable => channel.call(RANGE, range(key, 1, true)).await,
            Operation::RangeLinearizable { keys } => {
                channel.call(RANGE, range(key, keys, false)).await
            }
            Operation::RangeSerializable { keys } => {
                channel.call(RANGE, range(key, keys, true)).await
            }
            Operation::Mixed { reads_percent } => match random.u8(..100) < reads_percent {
                true => channel.call(RANGE, range(key, 1, false)).await,
                false => channel.call(PUT, put(key)).await,
            },
            Operation::Txn => {
                let compare = Compare {
                    result: CompareResult::Greater.into(),
                    target: CompareTarget::Version.into(),
                    key: key.clone(),
                    target_union: Some(TargetUnion::Version(-1)),
                    ..Compare::default()
                };
                let success = vec![RequestOp { request: Some(Request::RequestPut(put(key))) }];
                let txn = TxnRequest { compare: vec![compare], success, ..TxnRequest::default() };
                channel.call(TXN, txn).await
            }
        };
        answer.map(drop)
    }
}

/// In which order keys are taken from the key space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyOrder {
    /// Any key, each as likely as any other.
    Random,
    /// Any key, the n-th in proportion to 1/n (Zipf's law with exponent one): few keys are asked for often.
    Skewed,
    /// Every key once, from the first on; after the last comes the first again.
    Sequential,
}

impl KeyOrder {
    /// The number of the key that the n-th request is about, of so many keys.
    pub(crate) fn pick(self, number: u64, key_space: u64, random: &mut fastrand::Rng) -> u64 {
        match self {
            KeyOrder::Random => random.u64(..key_space),
            KeyOrder::Skewed => {
                // The whole part of a number whose logarithm is evenly spread.
                let spread = (key_space as f64 + 1.0).powf(random.f64());
                (spread as u64 - 1).min(key_space - 1)
            }
            KeyOrder::Sequential => number % key_space,
        }
    }
}

/// A key of the key space: 16 bytes whatever its number.
pub(crate) fn key(number: u64) -> Bytes {
    Bytes::from(format!("bench/{number:010}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_sixteen_bytes() {
        assert_eq!(key(7).len(), 16);
    }

    #[test]
    fn keys_are_of_the_key_space_and_as_likely_as_is_said() {
        let mut random = fastrand::Rng::with_seed(1);
        for order in [KeyOrder::Random, KeyOrder::Skewed, KeyOrder::Sequential] {
            let mut counts = [0_u32; 10];
            for number in 0..100_000 {
                counts[order.pick(number, 10, &mut random) as usize] += 1;
            }
            let (first, last) = (f64::from(counts[0]), f64::from(counts[9]));
            let expected = match order {
                KeyOrder::Random | KeyOrder::Sequential => 1.0,
                // ln 2 to ln 11/10.
                KeyOrder::Skewed => 7.27,
            };
            let ratio = first / last;
            assert!((ratio / expected - 1.0).abs() < 0.1, "{order:?}: {counts:?}");
        }
        assert_eq!(KeyOrder::Skewed.pick(0, 1, &mut random), 0);
    }
}
