//! etcdctl's text form of a transaction: compares, an empty line, what to do when they hold, an
//! empty line, what to do when not.

use std::io;

use bytes::Bytes;
use clap::{Parser, Subcommand};
use jangada_server::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use jangada_server::proto::etcdserverpb::{Compare, RequestOp, TxnRequest, request_op};

use super::kv;
use crate::arguments::{Del, Get, Put};
use crate::failure::Failure;

/// An operation of a transaction, written as the command of the same name.
#[derive(Parser, Clone, PartialEq, Eq, Debug)]
#[command(no_binary_name = true, disable_help_flag = true, disable_help_subcommand = true)]
struct Line {
    #[command(subcommand)]
    operation: Operation,
}

/// What a branch may do.
#[derive(Subcommand, Clone, PartialEq, Eq, Debug)]
pub(super) enum Operation {
    /// Writes a key.
    Put(Put),
    /// Reads keys.
    Get(Get),
    /// Removes keys.
    Del(Del),
}

/// A transaction and, for printing its answer, the operations it was made of.
#[derive(Clone, Debug)]
pub(super) struct Transaction {
    /// What goes on the wire.
    pub request: TxnRequest,
    /// What happens when the compares hold.
    pub success: Vec<Operation>,
    /// What happens when not.
    pub failure: Vec<Operation>,
}

/// Reads a transaction.
///
/// # Errors
///
/// A sentence with the number of the line that is wrong.
pub(super) fn parse(text: &str) -> Result<Transaction, Failure> {
    let mut parts: [Vec<(usize, &str)>; 3] = Default::default();
    let mut part = 0;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() {
            part += 1;
            continue;
        }
        let Some(lines) = parts.get_mut(part) else {
            // Empty lines at the end do no harm; anything behind the third part does.
            return Err(wrong(number, "there are three parts: compares, then, else"));
        };
        lines.push((number, line));
    }
    let [compares, success, failure] = parts;
    let compare = compares
        .into_iter()
        .map(|(number, line)| parse_compare(line).map_err(|problem| wrong(number, &problem)))
        .collect::<Result<Vec<_>, _>>()?;
    let (success, success_ops) = parse_branch(&success)?;
    let (failure, failure_ops) = parse_branch(&failure)?;
    let request = TxnRequest { compare, success: success_ops, failure: failure_ops };
    Ok(Transaction { request, success, failure })
}

fn wrong(number: usize, problem: &str) -> Failure {
    Failure::Usage(format!("line {} of the transaction: {problem}", number + 1))
}

/// `target("key") = "operand"`.
fn parse_compare(line: &str) -> Result<Compare, String> {
    let malformed =
        || format!("'{line}' is no compare; write one as mod(\"key\") > \"0\", with quotes");
    let (target, rest) = line.split_once('(').ok_or_else(malformed)?;
    let (key, rest) = quoted(rest.trim_start()).ok_or_else(malformed)?;
    let rest = rest.trim_start().strip_prefix(')').ok_or_else(malformed)?.trim_start();
    let (relation, rest) = rest.split_at(rest.find(['"', ' ']).ok_or_else(malformed)?);
    let (operand, rest) = quoted(rest.trim_start()).ok_or_else(malformed)?;
    if !rest.trim().is_empty() {
        return Err(malformed());
    }
    let result = match relation {
        "=" => CompareResult::Equal,
        "!=" => CompareResult::NotEqual,
        ">" => CompareResult::Greater,
        "<" => CompareResult::Less,
        other => return Err(format!("'{other}' is no relation; write =, !=, < or >")),
    };
    let number = |radix| {
        let text = String::from_utf8_lossy(&operand).into_owned();
        i64::from_str_radix(&text, radix).map_err(|_| format!("'{text}' is not a number"))
    };
    let (target, operand) = match target.trim() {
        "ver" | "version" => (CompareTarget::Version, TargetUnion::Version(number(10)?)),
        "c" | "create" => (CompareTarget::Create, TargetUnion::CreateRevision(number(10)?)),
        "m" | "mod" => (CompareTarget::Mod, TargetUnion::ModRevision(number(10)?)),
        "val" | "value" => (CompareTarget::Value, TargetUnion::Value(Bytes::from(operand))),
        "lease" => (CompareTarget::Lease, TargetUnion::Lease(number(16)?)),
        other => {
            return Err(format!(
                "'{other}' cannot be compared; write value, version, create, mod or lease"
            ));
        }
    };
    Ok(Compare {
        result: result.into(),
        target: target.into(),
        key: Bytes::from(key),
        range_end: Bytes::new(),
        target_union: Some(operand),
    })
}

fn parse_branch(lines: &[(usize, &str)]) -> Result<(Vec<Operation>, Vec<RequestOp>), Failure> {
    let mut operations = Vec::new();
    let mut requests = Vec::new();
    for (number, line) in lines {
        let operation = parse_operation(line).map_err(|problem| wrong(*number, &problem))?;
        requests.push(request_of(&operation).map_err(|f| wrong(*number, &f.to_string()))?);
        operations.push(operation);
    }
    Ok((operations, requests))
}

fn parse_operation(line: &str) -> Result<Operation, String> {
    let words = words(line).ok_or_else(|| format!("'{line}' has a quote that does not end"))?;
    Line::try_parse_from(words).map(|line| line.operation).map_err(|error| {
        let told = error.to_string();
        let first = told.lines().next().unwrap_or_default().trim_start_matches("error: ");
        format!("'{line}' is no operation ({first}); write put, get or del with their options")
    })
}

fn request_of(operation: &Operation) -> Result<RequestOp, Failure> {
    let request = match operation {
        // The input is the transaction itself, so a put must bring its value.
        Operation::Put(put) if put.value.is_none() && !put.ignore_value => {
            return Err(Failure::Usage("a put needs a value here".to_owned()));
        }
        Operation::Put(put) => {
            request_op::Request::RequestPut(kv::put_request(put, &mut io::empty())?)
        }
        Operation::Get(get) => request_op::Request::RequestRange(kv::range_request(get)?),
        Operation::Del(delete) => {
            request_op::Request::RequestDeleteRange(kv::delete_request(delete)?)
        }
    };
    Ok(RequestOp { request: Some(request) })
}

/// A text in double quotes at the beginning, and what follows it. Go's escapes that matter for
/// keys and values are read: `\" \\ \n \r \t \0 \xHH`.
fn quoted(text: &str) -> Option<(Vec<u8>, &str)> {
    let inner = text.strip_prefix('"')?;
    let mut bytes = Vec::new();
    let mut letters = inner.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((bytes, &inner[at + 1..])),
            '\\' => match letters.next()?.1 {
                'n' => bytes.push(b'\n'),
                'r' => bytes.push(b'\r'),
                't' => bytes.push(b'\t'),
                '0' => bytes.push(0),
                'x' => {
                    let high = letters.next()?.1.to_digit(16)?;
                    let low = letters.next()?.1.to_digit(16)?;
                    bytes.push(u8::try_from(high * 16 + low).ok()?);
                }
                escaped @ ('"' | '\\' | '\'') => bytes.push(escaped as u8),
                _ => return None,
            },
            letter => bytes.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    None
}

/// Words divided by blanks; quotes of either kind keep blanks together, and in double quotes a
/// backslash keeps the next letter. `None` when a quote does not end.
fn words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            ' ' | '\t' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next()? {
                        '\'' => break,
                        letter => word.push(letter),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next()? {
                        '"' => break,
                        '\\' => word.push(letters.next()?),
                        letter => word.push(letter),
                    }
                }
            }
            letter => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_transaction() {
        let transaction = parse(
            "mod(\"key1\") > \"0\"\nvalue(\"k 2\")!=\"v\\\"q\"\n\n\
             put key1 \"overwrote key1\"\nget a --prefix --keys-only\n\n\
             del 'b c' --prev-kv\n\n",
        )
        .expect("a good transaction");
        let request = &transaction.request;
        assert_eq!(request.compare.len(), 2);
        assert_eq!(request.compare[0].key, "key1");
        assert_eq!(request.compare[0].target_union, Some(TargetUnion::ModRevision(0)));
        assert_eq!(request.compare[1].key, "k 2");
        assert_eq!(request.compare[1].result, i32::from(CompareResult::NotEqual));
        assert_eq!(request.compare[1].target_union, Some(TargetUnion::Value("v\"q".into())));
        assert_eq!((request.success.len(), request.failure.len()), (2, 1));
        let Some(request_op::Request::RequestPut(put)) = &request.success[0].request else {
            panic!("a put comes first: {:?}", request.success)
        };
        assert_eq!((&put.key[..], &put.value[..]), (&b"key1"[..], &b"overwrote key1"[..]));
        let Some(request_op::Request::RequestDeleteRange(delete)) = &request.failure[0].request
        else {
            panic!("a deletion stands else: {:?}", request.failure)
        };
        assert!(delete.prev_kv);
        assert_eq!(&delete.key[..], b"b c");
    }

    #[test]
    fn parts_may_be_empty() {
        let check = |text: &str, sizes: (usize, usize, usize)| {
            let request = parse(text).expect("a good transaction").request;
            let found = (request.compare.len(), request.success.len(), request.failure.len());
            assert_eq!(found, sizes, "{text:?}");
        };
        check("", (0, 0, 0));
        check("\nput a b\n", (0, 1, 0));
        check("\n\nput a b\n\n\n", (0, 0, 1));
        check("version(\"a\") = \"0\"\n\n\n", (1, 0, 0));
    }

    #[test]
    fn each_target_has_its_short_form() {
        for (text, target) in [
            ("ver(\"a\") = \"1\"", CompareTarget::Version),
            ("c(\"a\") < \"1\"", CompareTarget::Create),
            ("m(\"a\") > \"1\"", CompareTarget::Mod),
            ("val(\"a\") = \"1\"", CompareTarget::Value),
            ("lease(\"a\") = \"1f\"", CompareTarget::Lease),
        ] {
            let compare = parse_compare(text).expect("a good compare");
            assert_eq!(compare.target, i32::from(target), "{text}");
        }
        let escaped = parse_compare("value(\"\\x00\\n\") = \"\\\\\"").expect("a good compare");
        assert_eq!(&escaped.key[..], b"\0\n");
    }

    #[test]
    fn mistakes_name_their_line() {
        let check = |text: &str, line: usize, expect: &str| {
            let failure = parse(text).expect_err("a bad transaction");
            let sentence = failure.to_string();
            assert_eq!(failure.exit_status(), 2);
            assert!(sentence.starts_with(&format!("line {line} of")), "{sentence}");
            assert!(sentence.contains(expect), "{sentence}");
        };
        check("mod(key1) > \"0\"", 1, "is no compare");
        check("size(\"a\") = \"0\"", 1, "cannot be compared");
        check("mod(\"a\") >= \"0\"", 1, "is no relation");
        check("mod(\"a\") = \"x\"", 1, "not a number");
        check("mod(\"a\") = \"0\" x", 1, "is no compare");
        check("\nput a\n", 2, "needs a value");
        check("\nwatch a\n", 2, "write put, get or del");
        check("\nput a 'b\n", 2, "does not end");
        check("\nget a b --prefix\n", 2, "exclude one another");
        check("\n\n\nput a b\n", 4, "three parts");
    }

    /// Any text is a transaction or a sentence, and what is taken names an operation for each line.
    #[test]
    fn any_text_is_a_transaction_or_a_sentence() {
        const PIECES: [&str; 30] = [
            "mod",
            "value",
            "ver",
            "lease",
            "(",
            ")",
            "\"",
            "\"a\"",
            "\\",
            "\\x",
            "\\xff",
            "0",
            "-1",
            "=",
            "!=",
            ">",
            " ",
            "\t",
            "\n",
            "\n\n",
            "put ",
            "get ",
            "del ",
            "--prefix ",
            "--lease=1f ",
            "'",
            "a b ",
            "--",
            "\u{e9}",
            "\0",
        ];
        let mut random = fastrand::Rng::with_seed(7);
        let (mut taken, mut refused) = (0, 0);
        for _ in 0..3_000 {
            let pieces = random.usize(0..12);
            let text: String = (0..pieces).map(|_| PIECES[random.usize(0..PIECES.len())]).collect();
            match parse(&text) {
                Ok(transaction) => {
                    let Transaction { request, success, failure } = transaction;
                    assert_eq!(request.success.len(), success.len(), "{text:?}");
                    assert_eq!(request.failure.len(), failure.len(), "{text:?}");
                    let lines = text.lines().filter(|line| !line.trim().is_empty()).count();
                    let all = request.compare.len() + success.len() + failure.len();
                    assert_eq!(all, lines, "{text:?}");
                    taken += 1;
                }
                Err(failure) => {
                    let sentence = failure.to_string();
                    assert!(sentence.starts_with("line "), "{text:?}: {sentence}");
                    refused += 1;
                }
            }
        }
        assert!(100 < taken && 100 < refused, "{taken} taken, {refused} refused");
    }

    /// Whatever bytes a key has, they can be written between quotes.
    #[test]
    fn every_key_can_be_quoted() {
        let mut random = fastrand::Rng::with_seed(8);
        for _ in 0..1_000 {
            let key: Vec<u8> = (0..random.usize(0..20)).map(|_| random.u8(..)).collect();
            let mut text = String::from("\"");
            key.iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
            text.push_str("\" rest");
            assert_eq!(quoted(&text), Some((key, " rest")));
        }
    }
}
