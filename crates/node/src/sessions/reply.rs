//! Replies that can be stored, to be given again.

use bytes::{BufMut, Bytes, BytesMut};

/// A reply that can be stored beside the session it belongs to and given again, on any member and
/// after any restart.
pub trait StoredReply: Clone + Send + 'static {
    /// Appends the reply's bytes.
    fn store(&self, bytes: &mut BytesMut);

    /// Reads back what [`StoredReply::store`] wrote, and nothing more or less; `None` if it is
    /// something else.
    fn restore(bytes: &Bytes) -> Option<Self>;
}

impl StoredReply for () {
    fn store(&self, _: &mut BytesMut) {}

    fn restore(bytes: &Bytes) -> Option<()> {
        bytes.is_empty().then_some(())
    }
}

impl StoredReply for bool {
    fn store(&self, bytes: &mut BytesMut) {
        bytes.put_u8(u8::from(*self));
    }

    fn restore(bytes: &Bytes) -> Option<bool> {
        match bytes[..] {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }
}

impl StoredReply for u64 {
    fn store(&self, bytes: &mut BytesMut) {
        bytes.put_u64_le(*self);
    }

    fn restore(bytes: &Bytes) -> Option<u64> {
        Some(u64::from_le_bytes(bytes[..].try_into().ok()?))
    }
}

impl StoredReply for i64 {
    fn store(&self, bytes: &mut BytesMut) {
        bytes.put_i64_le(*self);
    }

    fn restore(bytes: &Bytes) -> Option<i64> {
        Some(i64::from_le_bytes(bytes[..].try_into().ok()?))
    }
}

impl StoredReply for Bytes {
    fn store(&self, bytes: &mut BytesMut) {
        bytes.extend_from_slice(self);
    }

    fn restore(bytes: &Bytes) -> Option<Bytes> {
        Some(bytes.clone())
    }
}

impl StoredReply for Vec<u8> {
    fn store(&self, bytes: &mut BytesMut) {
        bytes.extend_from_slice(self);
    }

    fn restore(bytes: &Bytes) -> Option<Vec<u8>> {
        Some(bytes.to_vec())
    }
}

impl StoredReply for String {
    fn store(&self, bytes: &mut BytesMut) {
        bytes.extend_from_slice(self.as_bytes());
    }

    fn restore(bytes: &Bytes) -> Option<String> {
        String::from_utf8(bytes.to_vec()).ok()
    }
}

/// The first byte tells whether there is one.
impl<R: StoredReply> StoredReply for Option<R> {
    fn store(&self, bytes: &mut BytesMut) {
        bytes.put_u8(u8::from(self.is_some()));
        if let Some(reply) = self {
            reply.store(bytes);
        }
    }

    fn restore(bytes: &Bytes) -> Option<Option<R>> {
        match bytes.first()? {
            0 => (bytes.len() == 1).then_some(None),
            1 => R::restore(&bytes.slice(1..)).map(Some),
            _ => None,
        }
    }
}

/// The first byte tells which of the two it is.
impl<R: StoredReply, E: StoredReply> StoredReply for Result<R, E> {
    fn store(&self, bytes: &mut BytesMut) {
        bytes.put_u8(u8::from(self.is_err()));
        match self {
            Ok(reply) => reply.store(bytes),
            Err(error) => error.store(bytes),
        }
    }

    fn restore(bytes: &Bytes) -> Option<Result<R, E>> {
        match bytes.first()? {
            0 => R::restore(&bytes.slice(1..)).map(Ok),
            1 => E::restore(&bytes.slice(1..)).map(Err),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<R: StoredReply + PartialEq + std::fmt::Debug>(reply: R) {
        let mut bytes = BytesMut::new();
        reply.store(&mut bytes);
        assert_eq!(R::restore(&bytes.freeze()), Some(reply));
    }

    #[test]
    fn replies_come_back_as_they_were() {
        check(());
        check(true);
        check(u64::MAX);
        check(-5_i64);
        check(Bytes::from_static(b"abc"));
        check(b"abc".to_vec());
        check("abc".to_owned());
        check(Some(7_u64));
        check(None::<u64>);
        check(Ok::<u64, String>(7));
        check(Err::<u64, String>("no".to_owned()));
        check(Some(()));
        assert_eq!(u64::restore(&Bytes::from_static(b"short")), None);
        assert_eq!(Option::<u64>::restore(&Bytes::from_static(&[0, 1])), None);
        assert_eq!(bool::restore(&Bytes::from_static(&[2])), None);
    }
}
