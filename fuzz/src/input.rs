//! Reads decisions off the front of an input.

/// What is left of an input. Once it is used up every number is zero, so that a short input is a
/// short story and not an error.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    /// An input.
    #[must_use]
    pub fn new(data: &'a [u8]) -> Input<'a> {
        Input { rest: data }
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// All that is left.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        *first
    }

    /// The next two bytes as a number.
    pub fn word(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// The next eight bytes as a number.
    pub fn number(&mut self) -> u64 {
        (0..8).fold(0, |number, at| number | u64::from(self.byte()) << (8 * at))
    }

    /// A number that counts up from 0: mostly small, now and then any up to 2^63 - 1.
    pub fn small(&mut self) -> u64 {
        match self.byte() {
            0xff => self.number() >> 1,
            byte => u64::from(byte),
        }
    }

    /// At most so many bytes.
    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(count.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// Some bytes, with their number in front: at most 255.
    pub fn piece(&mut self) -> &'a [u8] {
        let count = usize::from(self.byte());
        self.bytes(count)
    }
}
