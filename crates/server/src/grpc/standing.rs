//! An answer that stays open until the client ends it.

use bytes::Bytes;

use super::Call;

/// One message, and then nothing until the client goes.
pub struct Standing {
    message: Option<Bytes>,
    /// Counted as ended when the answer is dropped.
    _call: Call,
}

impl Standing {
    pub(crate) fn new(message: Bytes, call: Call) -> Standing {
        Standing { message: Some(message), _call: call }
    }

    /// The message, once.
    pub(crate) fn take(&mut self) -> Option<Bytes> {
        self.message.take()
    }
}

impl std::fmt::Debug for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Standing(message sent: {})", self.message.is_none())
    }
}
