//! `put`, `get`, `del` and `compact`.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;

use bytes::Bytes;
use jangada_server::proto::etcdserverpb::kv_client::KvClient;
use jangada_server::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use jangada_server::proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse,
};
use jangada_server::proto::mvccpb::KeyValue;
use serde_json::{Value, json};

use crate::arguments::{self, Compact, Consistency, Del, Format, Get, Order, Put, SortBy};
use crate::client::{Channel, Client};
use crate::failure::Failure;
use crate::output::{self, KEY_HEADING};

/// The most bytes of a value read from the standard input: more than any server takes.
const VALUE_BYTES_MAX: u64 = 1 << 30;

/// A client of the KV service that takes answers of any size.
pub(crate) fn kv_client(channel: Channel) -> KvClient<Channel> {
    KvClient::new(channel).max_decoding_message_size(usize::MAX)
}

/// `put`.
pub(crate) fn put(options: &arguments::Client, put: &Put) -> Result<(), Failure> {
    let request = put_request(put, &mut io::stdin().lock())?;
    let client = Client::new(options);
    let response =
        Client::block_on(client.write(async |channel| {
            Ok(kv_client(channel).put(request.clone()).await?.into_inner())
        }))?;
    match options.output.unwrap_or(Format::Simple) {
        Format::Simple => print_put(&mut io::stdout().lock(), &response)?,
        Format::Json => output::print_json(&put_json(&response))?,
        Format::Table => {
            let rows: Vec<_> = response.prev_kv.iter().map(output::key_row).collect();
            output::print_table(KEY_HEADING, &rows)?;
        }
    }
    Ok(())
}

/// `get`.
pub(crate) fn get(options: &arguments::Client, get: &Get) -> Result<(), Failure> {
    let request = range_request(get)?;
    let client = Client::new(options);
    let response =
        Client::block_on(client.read(async |channel| {
            Ok(kv_client(channel).range(request.clone()).await?.into_inner())
        }))?;
    match options.output.unwrap_or(Format::Simple) {
        Format::Simple => print_range(&mut io::stdout().lock(), get, &response)?,
        Format::Json => output::print_json(&range_json(&response))?,
        Format::Table if get.count_only => {
            output::print_table(&["count"], &[vec![response.count.to_string()]])?;
        }
        Format::Table => {
            let rows: Vec<_> = response.kvs.iter().map(output::key_row).collect();
            output::print_table(KEY_HEADING, &rows)?;
        }
    }
    Ok(())
}

/// `del`.
pub(crate) fn delete(options: &arguments::Client, delete: &Del) -> Result<(), Failure> {
    let request = delete_request(delete)?;
    let client = Client::new(options);
    let response = Client::block_on(client.write(async |channel| {
        Ok(kv_client(channel).delete_range(request.clone()).await?.into_inner())
    }))?;
    match options.output.unwrap_or(Format::Simple) {
        Format::Simple => print_delete(&mut io::stdout().lock(), &response)?,
        Format::Json => output::print_json(&delete_json(&response))?,
        Format::Table => {
            output::print_table(&["deleted"], &[vec![response.deleted.to_string()]])?;
            if !response.prev_kvs.is_empty() {
                let rows: Vec<_> = response.prev_kvs.iter().map(output::key_row).collect();
                output::print_table(KEY_HEADING, &rows)?;
            }
        }
    }
    Ok(())
}

/// `compact`.
pub(crate) fn compact(options: &arguments::Client, compact: &Compact) -> Result<(), Failure> {
    let request = CompactionRequest { revision: compact.revision, physical: compact.physical };
    let client = Client::new(options);
    let response = Client::block_on(
        client.write(async |channel| Ok(kv_client(channel).compact(request).await?.into_inner())),
    )?;
    match options.output {
        Some(Format::Json) => {
            output::print_json(&json!({"header": output::header_json(response.header)}))?;
        }
        _ => writeln!(io::stdout().lock(), "compacted revision {}", compact.revision)?,
    }
    Ok(())
}

pub(super) fn bytes_of(text: &OsStr) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// The request of a `put`; without a value it is read from `input`.
pub(crate) fn put_request(put: &Put, input: &mut impl Read) -> Result<PutRequest, Failure> {
    let value = match &put.value {
        Some(_) if put.ignore_value => {
            let sentence = "a value and --ignore-value exclude each other; leave one out";
            return Err(Failure::Usage(sentence.to_owned()));
        }
        Some(value) => bytes_of(value),
        None if put.ignore_value => Bytes::new(),
        None => {
            let mut value = Vec::new();
            input.take(VALUE_BYTES_MAX).read_to_end(&mut value).map_err(|error| {
                Failure::Failed(format!("the value cannot be read from the input: {error}"))
            })?;
            Bytes::from(value)
        }
    };
    Ok(PutRequest {
        key: bytes_of(&put.key),
        value,
        lease: put.lease.unwrap_or(0),
        prev_kv: put.prev_kv,
        ignore_value: put.ignore_value,
        ignore_lease: put.ignore_lease,
    })
}

/// The request of a `get`.
pub(crate) fn range_request(get: &Get) -> Result<RangeRequest, Failure> {
    let (key, range_end) = range(&get.key, get.range_end.as_deref(), get.prefix, get.from_key)?;
    if get.keys_only && (get.count_only || get.print_value_only) {
        let sentence = "--keys-only excludes --count-only and --print-value-only; leave one out";
        return Err(Failure::Usage(sentence.to_owned()));
    }
    let order = match (get.order, get.sort_by) {
        (Some(Order::Ascend), _) | (None, Some(_)) => SortOrder::Ascend,
        (Some(Order::Descend), _) => SortOrder::Descend,
        (None, None) => SortOrder::None,
    };
    let target = match get.sort_by {
        Some(SortBy::Create) => SortTarget::Create,
        Some(SortBy::Modify) => SortTarget::Mod,
        Some(SortBy::Value) => SortTarget::Value,
        Some(SortBy::Version) => SortTarget::Version,
        Some(SortBy::Key) | None => SortTarget::Key,
    };
    Ok(RangeRequest {
        key,
        range_end,
        limit: get.limit,
        revision: get.rev,
        sort_order: order.into(),
        sort_target: target.into(),
        serializable: get.consistency == Consistency::S,
        keys_only: get.keys_only,
        count_only: get.count_only,
        min_mod_revision: get.min_mod_rev,
        max_mod_revision: get.max_mod_rev,
        min_create_revision: get.min_create_rev,
        max_create_revision: get.max_create_rev,
    })
}

/// The request of a `del`.
pub(crate) fn delete_request(delete: &Del) -> Result<DeleteRangeRequest, Failure> {
    let (key, range_end) =
        range(&delete.key, delete.range_end.as_deref(), delete.prefix, delete.from_key)?;
    Ok(DeleteRangeRequest { key, range_end, prev_kv: delete.prev_kv })
}

/// The key and range end on the wire: a single zero byte stands for "no end", and for the first
/// key there is.
pub(crate) fn range(
    key: &OsStr,
    range_end: Option<&OsStr>,
    prefix: bool,
    from_key: bool,
) -> Result<(Bytes, Bytes), Failure> {
    if usize::from(range_end.is_some()) + usize::from(prefix) + usize::from(from_key) > 1 {
        let sentence = "a range end, --prefix and --from-key exclude one another; leave one out";
        return Err(Failure::Usage(sentence.to_owned()));
    }
    let open = Bytes::from_static(&[0]);
    let first = if key.is_empty() && (prefix || from_key) { open.clone() } else { bytes_of(key) };
    let end = match range_end {
        Some(end) => bytes_of(end),
        None if from_key => open,
        None if prefix => prefix_end(key.as_bytes()).map_or(open, Bytes::from),
        None => Bytes::new(),
    };
    Ok((first, end))
}

/// The first key behind all that begin with the prefix; `None` if there is no such key.
pub(super) fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

fn print_line(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    out.write_all(bytes)?;
    out.write_all(b"\n")
}

fn print_key(out: &mut impl Write, kv: &KeyValue) -> io::Result<()> {
    print_line(out, &kv.key)?;
    print_line(out, &kv.value)
}

/// As etcdctl prints a put.
pub(crate) fn print_put(out: &mut impl Write, response: &PutResponse) -> io::Result<()> {
    writeln!(out, "OK")?;
    response.prev_kv.iter().try_for_each(|kv| print_key(out, kv))
}

/// As etcdctl prints a get: key and value on a line each.
pub(crate) fn print_range(
    out: &mut impl Write,
    get: &Get,
    response: &RangeResponse,
) -> io::Result<()> {
    if get.count_only {
        return writeln!(out, "{}", response.count);
    }
    for kv in &response.kvs {
        match (get.keys_only, get.print_value_only) {
            (_, true) => print_line(out, &kv.value)?,
            (true, _) => print_line(out, &kv.key)?,
            _ => print_key(out, kv)?,
        }
    }
    Ok(())
}

/// As etcdctl prints a deletion.
pub(crate) fn print_delete(out: &mut impl Write, response: &DeleteRangeResponse) -> io::Result<()> {
    writeln!(out, "{}", response.deleted)?;
    response.prev_kvs.iter().try_for_each(|kv| print_key(out, kv))
}

/// A put's answer with etcdctl's keys.
pub(crate) fn put_json(response: &PutResponse) -> Value {
    let mut value = json!({"header": output::header_json(response.header)});
    if let Some(kv) = &response.prev_kv {
        value["prev_kv"] = output::key_value_json(kv);
    }
    value
}

/// A range's answer with etcdctl's keys.
pub(crate) fn range_json(response: &RangeResponse) -> Value {
    let kvs: Vec<Value> = response.kvs.iter().map(output::key_value_json).collect();
    let mut value = json!({"header": output::header_json(response.header), "kvs": kvs, "count": response.count});
    if response.more {
        value["more"] = json!(true);
    }
    value
}

/// A deletion's answer with etcdctl's keys.
pub(crate) fn delete_json(response: &DeleteRangeResponse) -> Value {
    let mut value =
        json!({"header": output::header_json(response.header), "deleted": response.deleted});
    if !response.prev_kvs.is_empty() {
        value["prev_kvs"] = response.prev_kvs.iter().map(output::key_value_json).collect();
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_range(key: &str, end: Option<&str>, prefix: bool, from_key: bool) -> (Bytes, Bytes) {
        range(OsStr::new(key), end.map(OsStr::new), prefix, from_key).expect("a good range")
    }

    #[test]
    fn ranges_on_the_wire() {
        let pair = |a: &[u8], b: &[u8]| (Bytes::copy_from_slice(a), Bytes::copy_from_slice(b));
        assert_eq!(check_range("a", None, false, false), pair(b"a", b""));
        assert_eq!(check_range("a", Some("c"), false, false), pair(b"a", b"c"));
        assert_eq!(check_range("a/", None, true, false), pair(b"a/", b"a0"));
        assert_eq!(check_range("a", None, false, true), pair(b"a", b"\0"));
        assert_eq!(check_range("", None, true, false), pair(b"\0", b"\0"));
        assert_eq!(check_range("", None, false, true), pair(b"\0", b"\0"));
    }

    #[test]
    fn options_that_exclude_one_another_are_of_usage() {
        for (end, prefix, from_key) in
            [(Some("c"), true, false), (Some("c"), false, true), (None, true, true)]
        {
            let failure = range(OsStr::new("a"), end.map(OsStr::new), prefix, from_key);
            assert_eq!(failure.expect_err("a bad range").exit_status(), 2);
        }
    }

    #[test]
    fn the_end_of_a_prefix() {
        assert_eq!(prefix_end(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(prefix_end(b"\xff"), None);
        assert_eq!(prefix_end(b""), None);
    }

    #[test]
    fn a_put_without_a_value_reads_the_input() {
        let put = Put {
            key: "k".into(),
            value: None,
            lease: None,
            prev_kv: false,
            ignore_value: false,
            ignore_lease: false,
        };
        let request = put_request(&put, &mut &b"from input\n"[..]).expect("a good put");
        assert_eq!(request.value, Bytes::from("from input\n"));
        let ignoring = Put { ignore_value: true, value: Some("v".into()), ..put };
        assert!(put_request(&ignoring, &mut io::empty()).is_err());
    }
}
