//! What decides a run: a number, or a byte string that a fuzzer or a shrinker has written.

use std::fmt::{self, Write};
use std::str::FromStr;

use crate::choices::Choices;

/// How many bytes a seed has at most: a run of minutes draws about as many decisions.
pub const SEED_BYTES_MAX: usize = 1 << 20;

/// A seed. As text a number is written in decimal, a byte string in hexadecimal after `0x`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Seed {
    /// A number.
    Number(u64),
    /// A byte string: its bytes decide first, each one decision.
    Bytes(Vec<u8>),
}

impl Seed {
    /// The decisions that follow from it.
    #[must_use]
    pub fn choices(&self) -> Choices {
        match self {
            Seed::Number(number) => Choices::of_seed(*number),
            Seed::Bytes(bytes) => Choices::of_bytes(bytes),
        }
    }

    /// The seed so many after this one; a byte string has none after it.
    #[must_use]
    pub fn after(&self, count: u64) -> Option<Seed> {
        match self {
            Seed::Number(number) => Some(Seed::Number(number.wrapping_add(count))),
            Seed::Bytes(_) if count == 0 => Some(self.clone()),
            Seed::Bytes(_) => None,
        }
    }
}

impl Default for Seed {
    fn default() -> Seed {
        Seed::Number(0)
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Seed::Number(number) => write!(f, "{number}"),
            Seed::Bytes(bytes) => {
                let mut text = String::from("0x");
                for byte in bytes {
                    write!(text, "{byte:02x}")?;
                }
                f.write_str(&text)
            }
        }
    }
}

impl FromStr for Seed {
    type Err = String;

    fn from_str(text: &str) -> Result<Seed, String> {
        let Some(digits) = text.strip_prefix("0x") else {
            let number = text.parse().map_err(|_| {
                "write a seed as a number, or as bytes in hexadecimal after 0x".to_owned()
            })?;
            return Ok(Seed::Number(number));
        };
        if 2 * SEED_BYTES_MAX < digits.len() {
            return Err(format!("a seed has at most {SEED_BYTES_MAX} bytes"));
        }
        if !digits.len().is_multiple_of(2) || !digits.is_ascii() {
            return Err("bytes are written with two hexadecimal digits each".to_owned());
        }
        let byte = |place: usize| u8::from_str_radix(&digits[place..place + 2], 16);
        let bytes: Result<Vec<u8>, _> = (0..digits.len()).step_by(2).map(byte).collect();
        bytes.map(Seed::Bytes).map_err(|_| "that is not hexadecimal".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_read_as_it_is_written() {
        for text in ["0", "18446744073709551615", "0x", "0x00ff10"] {
            assert_eq!(text.parse::<Seed>().expect(text).to_string(), text);
        }
        for text in ["", "-1", "abc", "0x1", "0xzz", "0x\u{e9}"] {
            assert!(text.parse::<Seed>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_numbers_count_up() {
        assert_eq!(Seed::Number(u64::MAX).after(2), Some(Seed::Number(1)));
        let bytes = Seed::Bytes(vec![1]);
        assert_eq!((bytes.after(0), bytes.after(1)), (Some(bytes.clone()), None));
    }
}
