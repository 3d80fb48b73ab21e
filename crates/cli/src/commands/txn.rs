//! `txn`.

use std::io::{self, Read, Write};

use jangada_server::proto::etcdserverpb::{ResponseOp, TxnResponse, response_op};
use serde_json::{Value, json};

use super::kv;
use super::txn_text::{self, Operation};
use crate::arguments::{self, Format, Txn};
use crate::client::Client;
use crate::failure::Failure;
use crate::output;

/// The most bytes of a transaction's text: more than any server takes.
const TEXT_BYTES_MAX: u64 = 1 << 30;

/// Reads a transaction from the standard input, sends it, and prints its answer.
pub(crate) fn run(options: &arguments::Client, txn: &Txn) -> Result<(), Failure> {
    if txn.interactive == Some(true) {
        let sentence = "there are no prompts; write the transaction to the standard input";
        return Err(Failure::Usage(sentence.to_owned()));
    }
    let mut text = String::new();
    io::stdin().lock().take(TEXT_BYTES_MAX).read_to_string(&mut text).map_err(|error| {
        Failure::Failed(format!("the transaction cannot be read from the input: {error}"))
    })?;
    let transaction = txn_text::parse(&text)?;
    let client = Client::new(options);
    let response = Client::block_on(client.write(async |channel| {
        Ok(kv::kv_client(channel).txn(transaction.request.clone()).await?.into_inner())
    }))?;
    if options.output == Some(Format::Json) {
        return Ok(output::print_json(&txn_json(&response))?);
    }
    let branch = if response.succeeded { &transaction.success } else { &transaction.failure };
    Ok(print(&mut io::stdout().lock(), branch, &response)?)
}

/// As etcdctl prints a transaction: the branch taken, then each answer behind an empty line.
fn print(out: &mut impl Write, branch: &[Operation], response: &TxnResponse) -> io::Result<()> {
    writeln!(out, "{}", if response.succeeded { "SUCCESS" } else { "FAILURE" })?;
    for (operation, answer) in branch.iter().zip(&response.responses) {
        writeln!(out)?;
        match (operation, &answer.response) {
            (_, Some(response_op::Response::ResponsePut(put))) => kv::print_put(out, put)?,
            (Operation::Get(get), Some(response_op::Response::ResponseRange(range))) => {
                kv::print_range(out, get, range)?;
            }
            (_, Some(response_op::Response::ResponseDeleteRange(delete))) => {
                kv::print_delete(out, delete)?;
            }
            _ => writeln!(out, "the member answered something else than was asked")?,
        }
    }
    Ok(())
}

fn txn_json(response: &TxnResponse) -> Value {
    let responses: Vec<Value> = response.responses.iter().map(answer_json).collect();
    json!({
        "header": output::header_json(response.header),
        "succeeded": response.succeeded,
        "responses": responses,
    })
}

fn answer_json(answer: &ResponseOp) -> Value {
    match &answer.response {
        Some(response_op::Response::ResponseRange(range)) => {
            json!({"response_range": kv::range_json(range)})
        }
        Some(response_op::Response::ResponsePut(put)) => json!({"response_put": kv::put_json(put)}),
        Some(response_op::Response::ResponseDeleteRange(delete)) => {
            json!({"response_delete_range": kv::delete_json(delete)})
        }
        Some(response_op::Response::ResponseTxn(txn)) => json!({"response_txn": txn_json(txn)}),
        None => json!({}),
    }
}
