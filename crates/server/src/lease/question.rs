//! What a member asks the leader about leases, and the leader's answer, as bytes
//! (`docs/wire-format.md`).

use bytes::{BufMut, Bytes, BytesMut};

/// The most leases in one question; 32 KiB, an eighth of what a question may have.
pub const LEASES_ASKED_MAX: usize = 4096;

const TAG_RENEW: u8 = 1;
const TAG_REMAINING: u8 = 2;

/// What the leader says of a lease that is not there.
const GONE: i64 = -1;

/// What is asked of the leader.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Question {
    /// To count these leases from their full time again. Each is answered by that time, in seconds.
    Renew(Vec<i64>),
    /// How many seconds remain of these leases.
    Remaining(Vec<i64>),
}

/// The leader's answer: for each lease of the question, in its order, seconds; `None` for a lease that
/// is not there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer(pub Vec<Option<i64>>);

/// The bytes are no question, or no answer to the one that was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

impl Question {
    /// The question's bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let (tag, ids) = match self {
            Question::Renew(ids) => (TAG_RENEW, ids),
            Question::Remaining(ids) => (TAG_REMAINING, ids),
        };
        let mut bytes = BytesMut::with_capacity(1 + 8 * ids.len());
        bytes.put_u8(tag);
        ids.iter().for_each(|id| bytes.put_i64_le(*id));
        bytes.freeze()
    }

    /// Reads a question.
    ///
    /// # Errors
    /// The bytes are none.
    pub fn decode(bytes: &[u8]) -> Result<Question, Malformed> {
        let (tag, rest) = bytes.split_first().ok_or(Malformed)?;
        let ids = numbers(rest)?;
        if LEASES_ASKED_MAX < ids.len() {
            return Err(Malformed);
        }
        match *tag {
            TAG_RENEW => Ok(Question::Renew(ids)),
            TAG_REMAINING => Ok(Question::Remaining(ids)),
            _ => Err(Malformed),
        }
    }
}

impl Answer {
    /// The answer's bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(8 * self.0.len());
        self.0.iter().for_each(|seconds| bytes.put_i64_le(seconds.unwrap_or(GONE)));
        bytes.freeze()
    }

    /// Reads the answer to a question about so many leases.
    ///
    /// # Errors
    /// The bytes are none.
    pub fn decode(bytes: &[u8], asked: usize) -> Result<Answer, Malformed> {
        let seconds = numbers(bytes)?;
        if seconds.len() != asked || seconds.iter().any(|seconds| *seconds < GONE) {
            return Err(Malformed);
        }
        let known = |seconds: i64| Some(seconds).filter(|seconds| *seconds != GONE);
        Ok(Answer(seconds.into_iter().map(known).collect()))
    }
}

fn numbers(bytes: &[u8]) -> Result<Vec<i64>, Malformed> {
    let (numbers, rest) = bytes.as_chunks::<8>();
    if !rest.is_empty() {
        return Err(Malformed);
    }
    Ok(numbers.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_nothing_else() {
        for question in [Question::Renew(vec![1, -5, i64::MAX]), Question::Remaining(vec![])] {
            let bytes = question.encode();
            assert_eq!(Question::decode(&bytes), Ok(question));
            assert_eq!(Question::decode(&[&bytes[..], &[0]].concat()), Err(Malformed));
        }
        assert_eq!(Question::decode(&[]), Err(Malformed));
        assert_eq!(Question::decode(&[3]), Err(Malformed));
        let long = Question::Renew(vec![7; LEASES_ASKED_MAX + 1]).encode();
        assert_eq!(Question::decode(&long), Err(Malformed));
        let answer = Answer(vec![Some(0), None, Some(60)]);
        assert_eq!(Answer::decode(&answer.encode(), 3), Ok(answer.clone()));
        assert_eq!(Answer::decode(&answer.encode(), 2), Err(Malformed));
        assert_eq!(Answer::decode(&(-2_i64).to_le_bytes(), 1), Err(Malformed));
    }
}
