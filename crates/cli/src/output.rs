//! Prints results: bare, as tables, or as JSON with etcdctl's keys.

use std::io::{self, Write};

use comfy_table::{Table, presets};
use jangada_server::proto::etcdserverpb::ResponseHeader;
use jangada_server::proto::mvccpb::KeyValue;
use serde_json::{Map, Value, json};

/// Prints JSON on one line.
pub(crate) fn print_json(value: &Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, value)?;
    out.write_all(b"\n")
}

/// Prints rows under a heading.
pub(crate) fn print_table(heading: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    let mut table = Table::new();
    table.load_style(presets::ASCII_FULL_CONDENSED);
    table.set_header(heading.iter().copied());
    for row in rows {
        table.add_row(row);
    }
    writeln!(io::stdout().lock(), "{table}")
}

/// An answer's header with etcdctl's keys: zeros are left out, as Go does.
pub(crate) fn header_json(header: Option<ResponseHeader>) -> Value {
    let header = header.unwrap_or_default();
    let fields = [
        ("cluster_id", json!(header.cluster_id)),
        ("member_id", json!(header.member_id)),
        ("revision", json!(header.revision)),
        ("raft_term", json!(header.raft_term)),
    ];
    let set = fields.into_iter().filter(|(_, value)| *value != json!(0));
    Value::Object(set.map(|(name, value)| (name.to_owned(), value)).collect())
}

/// A key with etcdctl's keys: zeros and empty values are left out, as Go does.
pub(crate) fn key_value_json(kv: &KeyValue) -> Value {
    let mut map = Map::new();
    map.insert("key".to_owned(), json!(base64(&kv.key)));
    map.insert("create_revision".to_owned(), json!(kv.create_revision));
    map.insert("mod_revision".to_owned(), json!(kv.mod_revision));
    map.insert("version".to_owned(), json!(kv.version));
    if !kv.value.is_empty() {
        map.insert("value".to_owned(), json!(base64(&kv.value)));
    }
    if kv.lease != 0 {
        map.insert("lease".to_owned(), json!(kv.lease));
    }
    Value::Object(map)
}

/// Rows of the table of keys.
pub(crate) const KEY_HEADING: &[&str] =
    &["key", "value", "created", "modified", "version", "lease"];

/// One row of the table of keys; what is not text is escaped.
pub(crate) fn key_row(kv: &KeyValue) -> Vec<String> {
    vec![
        kv.key.escape_ascii().to_string(),
        kv.value.escape_ascii().to_string(),
        kv.create_revision.to_string(),
        kv.mod_revision.to_string(),
        kv.version.to_string(),
        if kv.lease == 0 { String::new() } else { format!("{:x}", kv.lease) },
    ]
}

/// A number of bytes as people read it.
pub(crate) fn bytes_text(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 1000.0 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}

/// Standard base64 with padding, as JSON has bytes.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let mut word = [0_u8; 3];
        word[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, word[0], word[1], word[2]]);
        for place in 0..4 {
            let index = (bits >> (18 - 6 * place)) & 63;
            let letter = ALPHABET[index as usize];
            text.push(if place <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_known_texts() {
        let check = |bytes: &[u8], expect: &str| assert_eq!(base64(bytes), expect);
        check(b"", "");
        check(b"f", "Zg==");
        check(b"fo", "Zm8=");
        check(b"foo", "Zm9v");
        check(b"foobar", "Zm9vYmFy");
        check(&[0xff, 0xfe, 0xfd], "//79");
    }

    #[test]
    fn bytes_as_people_read_them() {
        assert_eq!(bytes_text(0), "0 B");
        assert_eq!(bytes_text(999), "999 B");
        assert_eq!(bytes_text(20_480), "20.5 kB");
        assert_eq!(bytes_text(2_147_483_648), "2.1 GB");
    }

    #[test]
    fn a_header_says_what_is_known() {
        let header = ResponseHeader { revision: 7, ..ResponseHeader::default() };
        assert_eq!(header_json(Some(header)), json!({"revision": 7}));
    }

    #[test]
    fn a_key_has_etcdctls_names() {
        let kv = KeyValue { key: "a".into(), mod_revision: 2, ..KeyValue::default() };
        let expect = json!({"key": "YQ==", "create_revision": 0, "mod_revision": 2, "version": 0});
        assert_eq!(key_value_json(&kv), expect);
    }
}
