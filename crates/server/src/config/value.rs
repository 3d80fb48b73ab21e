//! Values of settings, read from the text that Go programs take.

use std::time::Duration;

use super::setting::Kind;
use super::url::{self, Url};

/// A value, checked against its setting's kind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// Of [`Kind::Bool`].
    Bool(bool),
    /// Of [`Kind::Integer`].
    Integer(i64),
    /// Of [`Kind::Duration`].
    Duration(Duration),
    /// Of [`Kind::Text`], [`Kind::Secret`], [`Kind::Path`] and [`Kind::Choice`].
    Text(String),
    /// Of [`Kind::List`].
    List(Vec<String>),
    /// Of [`Kind::Urls`], sorted.
    Urls(Vec<Url>),
}

impl Value {
    /// Reads a value of a kind.
    ///
    /// # Errors
    ///
    /// What the setting takes instead; ends the sentence "it takes ...".
    pub fn parse(kind: Kind, text: &str) -> Result<Value, String> {
        match kind {
            Kind::Bool => {
                parse_bool(text).map(Value::Bool).ok_or_else(|| "true or false".to_owned())
            }
            Kind::Integer { min, max } => parse_integer(text)
                .filter(|number| min <= *number && *number <= max)
                .map(Value::Integer)
                .ok_or_else(|| integer_range(min, max)),
            Kind::Duration => parse_duration(text)
                .map(Value::Duration)
                .ok_or_else(|| "a duration such as 300ms, 5s or 1h30m".to_owned()),
            Kind::Text | Kind::Secret | Kind::Path => Ok(Value::Text(text.to_owned())),
            Kind::List => Ok(Value::List(
                text.split(',')
                    .map(str::trim)
                    .filter(|s| !s.is_empty())
                    .map(str::to_owned)
                    .collect(),
            )),
            Kind::Urls => url::parse_list(text).map(Value::Urls).map_err(|error| error.to_string()),
            Kind::Choice(words) => words
                .contains(&text)
                .then(|| Value::Text(text.to_owned()))
                .ok_or_else(|| choice_list(words)),
        }
    }
}

fn integer_range(min: i64, max: i64) -> String {
    match (min, max) {
        (i64::MIN, i64::MAX) => "a whole number".to_owned(),
        (min, i64::MAX) => format!("a whole number of at least {min}"),
        (min, max) => format!("a whole number from {min} to {max}"),
    }
}

fn choice_list(words: &[&str]) -> String {
    let named: Vec<&str> = words.iter().copied().filter(|word| !word.is_empty()).collect();
    format!("one of {}", named.join(", "))
}

/// Go's `strconv.ParseBool`.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Go's `strconv.ParseInt` with base 0, without octal by a leading zero alone.
fn parse_integer(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let magnitude = match lower.get(..2) {
        Some("0x") => i128::from_str_radix(&lower[2..], 16),
        Some("0o") => i128::from_str_radix(&lower[2..], 8),
        Some("0b") => i128::from_str_radix(&lower[2..], 2),
        _ => lower.replace('_', "").parse(),
    }
    .ok()
    .filter(|magnitude| *magnitude >= 0)?;
    i64::try_from(if negative { -magnitude } else { magnitude }).ok()
}

/// Go's `time.ParseDuration`, without negative durations.
///
/// A sum of decimal numbers with units from nanoseconds to hours; `0` needs no unit.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    if text.is_empty() {
        return None;
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut nanoseconds: u128 = 0;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        nanoseconds = nanoseconds.checked_add(decimal_times(number, unit_nanoseconds(unit)?)?)?;
        rest = tail;
    }
    u64::try_from(nanoseconds).ok().filter(|n| i64::try_from(*n).is_ok()).map(Duration::from_nanos)
}

fn unit_nanoseconds(unit: &str) -> Option<u128> {
    Some(match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// A decimal number times a unit; digits below a nanosecond are dropped.
fn decimal_times(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut total = whole.checked_mul(unit)?;
    let mut place = unit;
    for digit in fraction.bytes() {
        if !digit.is_ascii_digit() {
            return None;
        }
        place /= 10;
        total = total.checked_add(u128::from(digit - b'0') * place)?;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_go_reads_them() {
        let check = |text: &str, expect: Option<u64>| {
            assert_eq!(parse_duration(text), expect.map(Duration::from_nanos), "{text}");
        };
        check("0", Some(0));
        check("300ms", Some(300_000_000));
        check("1.5h", Some(5_400_000_000_000));
        check("1h2m3.5s", Some(3_723_500_000_000));
        check(".5s", Some(500_000_000));
        check("10us", Some(10_000));
        check("10\u{b5}s", Some(10_000));
        check("5", None);
        check("", None);
        check("s", None);
        check(".s", None);
        check("1.2.3s", None);
        check("-1s", None);
        check("99999999999h", None);
    }

    #[test]
    fn integers_as_go_reads_them() {
        assert_eq!(parse_integer("1572864"), Some(1_572_864));
        assert_eq!(parse_integer("-1"), Some(-1));
        assert_eq!(parse_integer("0x10"), Some(16));
        assert_eq!(parse_integer("1_000"), Some(1000));
        assert_eq!(parse_integer("9223372036854775807"), Some(i64::MAX));
        assert_eq!(parse_integer("9223372036854775808"), None);
        assert_eq!(parse_integer("--1"), None);
        assert_eq!(parse_integer("1k"), None);
    }

    #[test]
    fn a_wrong_value_is_told_what_is_right() {
        let check = |kind, text, expect: &str| {
            assert_eq!(Value::parse(kind, text), Err(expect.to_owned()));
        };
        check(Kind::Bool, "yes", "true or false");
        check(Kind::Integer { min: 1, max: 5 }, "6", "a whole number from 1 to 5");
        check(Kind::Choice(&["", "new", "existing"]), "old", "one of new, existing");
        check(Kind::Urls, "http://a", "URLs with a port, such as http://localhost:2379");
    }
}
