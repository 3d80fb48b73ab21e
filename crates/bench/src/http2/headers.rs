//! Header fields, compressed (HPACK, RFC 7541).
//!
//! Responsible for requests that cost a few bytes each, and for answers whose meaning is remembered.

use std::collections::HashMap;

use http::{HeaderMap, HeaderName, HeaderValue};
use loona_hpack::Decoder;
use tonic::Status;

/// The dynamic table that both sides have unless settings say otherwise (section 4.2), in bytes.
const TABLE_BYTES: usize = 4096;
/// What an entry takes beyond its name and value (section 4.1), in bytes.
const ENTRY_BYTES: usize = 32;
/// Entries of the static table (appendix A).
const STATIC_ENTRIES: usize = 61;
/// Blocks whose meaning is remembered at a time.
const REMEMBERED_MAX: usize = 64;

/// The header fields of requests on one connection.
pub(super) struct Requests {
    /// Those that every request has, with their place in the static table, if one has the name.
    common: Vec<(usize, &'static str, Vec<u8>)>,
    /// What the other side has in its table, the oldest first.
    table: Vec<(&'static str, Vec<u8>)>,
    table_bytes: usize,
    /// The most that it may have.
    table_max: usize,
    /// Whether the other side is still to be told that there is no table.
    told: bool,
    /// The block of each path, as it is once everything stands in the table.
    blocks: HashMap<&'static str, Vec<u8>>,
}

impl Requests {
    /// For requests to this authority, by a client of this token if there is one.
    pub(super) fn new(secured: bool, authority: &str, token: Option<&HeaderValue>) -> Requests {
        let scheme = if secured { &b"https"[..] } else { b"http" };
        let mut common = vec![
            (3, ":method", b"POST".to_vec()),
            (if secured { 7 } else { 6 }, ":scheme", scheme.to_vec()),
            (1, ":authority", authority.as_bytes().to_vec()),
            (31, "content-type", b"application/grpc".to_vec()),
            (0, "te", b"trailers".to_vec()),
        ];
        if let Some(token) = token {
            common.push((0, "token", token.as_bytes().to_vec()));
        }
        Requests {
            common,
            table: Vec::new(),
            table_bytes: 0,
            table_max: TABLE_BYTES,
            told: true,
            blocks: HashMap::new(),
        }
    }

    /// Does without a table if the other side, before the first request, says that it keeps a smaller one
    /// than usual: one less thing to agree about.
    pub(super) fn shrink(&mut self, table_max: u32) {
        if (table_max as usize) < TABLE_BYTES {
            (self.table_max, self.told) = (0, false);
        }
    }

    /// Appends the block of a request for this path.
    pub(super) fn write(&mut self, path: &'static str, out: &mut Vec<u8>) {
        if let Some(block) = self.blocks.get(path) {
            return out.extend_from_slice(block);
        }
        if !self.told {
            // A change of the table's size to zero (section 6.3).
            out.push(0x20);
            self.told = true;
        }
        let (begin, entries) = (out.len(), self.table.len());
        // Fields with a colon come first (RFC 9113, section 8.3).
        self.field(4, ":path", path.as_bytes(), out);
        for (index, name, value) in self.common.clone() {
            self.field(index, name, &value, out);
        }
        if self.table.len() == entries {
            self.blocks.insert(path, out[begin..].to_vec());
        } else {
            // What stood in the table has moved.
            self.blocks.clear();
        }
    }

    fn field(&mut self, index: usize, name: &'static str, value: &[u8], out: &mut Vec<u8>) {
        if matches!(name, ":method" | ":scheme") {
            return integer(0x80, 7, index, out);
        }
        let known = self.table.iter().rposition(|(n, v)| *n == name && v == value);
        if let Some(position) = known {
            return integer(0x80, 7, STATIC_ENTRIES + self.table.len() - position, out);
        }
        let bytes = name.len() + value.len() + ENTRY_BYTES;
        if self.table_bytes + bytes <= self.table_max {
            integer(0x40, 6, index, out);
            self.table.push((name, value.to_vec()));
            self.table_bytes += bytes;
        } else {
            integer(0x00, 4, index, out);
        }
        if index == 0 {
            string(name.as_bytes(), out);
        }
        string(value, out);
    }
}

/// An integer behind the bits of its first byte (section 5.1).
fn integer(bits: u8, prefix: u32, value: usize, out: &mut Vec<u8>) {
    let most = (1 << prefix) - 1;
    if value < most {
        return out.push(bits | value as u8);
    }
    out.push(bits | most as u8);
    let mut rest = value - most;
    while 128 <= rest {
        out.push(rest as u8 & 127 | 128);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// A string as it is (section 5.2).
fn string(value: &[u8], out: &mut Vec<u8>) {
    integer(0, 7, value.len(), out);
    out.extend_from_slice(value);
}

/// What the header fields of an answer say of its outcome.
#[derive(Clone, Debug)]
pub(super) enum Said {
    /// Nothing: more is to come.
    Nothing,
    /// How the call has ended.
    Status(Status),
}

/// The header fields of answers on one connection.
pub(super) struct Answers {
    decoder: Decoder<'static>,
    /// What blocks mean that only name places in the table, as long as that is the same.
    remembered: HashMap<Vec<u8>, Said>,
}

impl Answers {
    pub(super) fn new() -> Answers {
        Answers { decoder: Decoder::new(), remembered: HashMap::new() }
    }

    /// What a block says; `None` if it is none.
    pub(super) fn read(&mut self, block: &[u8]) -> Option<Said> {
        // Each byte is an indexed field (section 6.1), which changes nothing in the table.
        let indexed = block.iter().all(|byte| (0x80..0xff).contains(byte));
        if indexed {
            if let Some(said) = self.remembered.get(block) {
                return Some(said.clone());
            }
        } else {
            self.remembered.clear();
        }
        let mut fields = HeaderMap::new();
        let mut http_status = None;
        let decoded = self.decoder.decode_with_cb(block, |name, value| {
            if &name[..] == b":status" {
                http_status = Some(String::from_utf8_lossy(&value).into_owned());
            } else if let (Ok(name), Ok(value)) =
                (HeaderName::from_bytes(&name), HeaderValue::from_bytes(&value))
            {
                fields.append(name, value);
            }
        });
        decoded.ok()?;
        let said = match Status::from_header_map(&fields) {
            Some(status) => Said::Status(status),
            None => match http_status {
                Some(other) if other != "200" => {
                    Said::Status(Status::unknown(format!("the answer has HTTP status {other}")))
                }
                _ => Said::Nothing,
            },
        };
        if indexed && self.remembered.len() < REMEMBERED_MAX {
            self.remembered.insert(block.to_vec(), said.clone());
        }
        Some(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(decoder: &mut Decoder<'_>, block: &[u8]) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let fields = decoder.decode(block).expect("it is a block");
        fields.into_iter().map(|(name, value)| (text(&name), text(&value))).collect()
    }

    fn expected(path: &str) -> Vec<(String, String)> {
        let fields = [
            (":path", path),
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", "host:2379"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("token", "secret.1"),
        ];
        fields.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
    }

    #[test]
    fn requests_are_what_was_meant_and_soon_cost_a_byte_a_field() {
        let token = HeaderValue::from_static("secret.1");
        let mut requests = Requests::new(false, "host:2379", Some(&token));
        let mut decoder = Decoder::new();
        for (path, bytes) in
            [("/a", None), ("/a", Some(7)), ("/b", None), ("/a", Some(7)), ("/b", Some(7))]
        {
            let mut block = Vec::new();
            requests.write(path, &mut block);
            assert_eq!(decoded(&mut decoder, &block), expected(path));
            assert!(bytes.is_none_or(|bytes| block.len() == bytes), "{path}: {block:?}");
        }
    }

    #[test]
    fn a_server_without_a_table_is_told_everything_each_time() {
        let token = HeaderValue::from_static("secret.1");
        let mut requests = Requests::new(false, "host:2379", Some(&token));
        requests.shrink(0);
        let mut decoder = Decoder::new();
        decoder.set_max_allowed_table_size(0);
        for _ in 0..3 {
            let mut block = Vec::new();
            requests.write("/a", &mut block);
            assert_eq!(decoded(&mut decoder, &block), expected("/a"));
        }
    }

    #[test]
    fn integers_are_those_of_the_standards_examples() {
        // RFC 7541, appendix C.1.
        let written = |bits, prefix, value| {
            let mut out = Vec::new();
            integer(bits, prefix, value, &mut out);
            out
        };
        assert_eq!(written(0, 5, 10), [0b01010]);
        assert_eq!(written(0, 5, 1337), [0b11111, 0b1001_1010, 0b1010]);
        assert_eq!(written(0, 8, 42), [42]);
    }

    #[test]
    fn an_answer_is_remembered_until_the_table_moves() {
        let mut server = loona_hpack::Encoder::new();
        let mut answers = Answers::new();
        let mut ask = |code: &[u8]| {
            let block = server.encode([(&b"grpc-status"[..], code)]);
            let said = answers.read(&block);
            let Some(Said::Status(status)) = said else { panic!("it says how the call ended") };
            status.code() as i32
        };
        assert_eq!(ask(b"0"), 0);
        assert_eq!(ask(b"0"), 0);
        assert_eq!(ask(b"5"), 5);
        let mut answers = Answers::new();
        let block = loona_hpack::Encoder::new().encode([(&b":status"[..], &b"503"[..])]);
        assert!(matches!(answers.read(&block), Some(Said::Status(_))));
        let block = loona_hpack::Encoder::new().encode([(&b":status"[..], &b"200"[..])]);
        assert!(matches!(answers.read(&block), Some(Said::Nothing)));
        assert!(answers.read(&[0xff, 0xff, 0xff, 0xff, 0xff]).is_none());
    }
}
