//! `make-mirror`: keeps the keys of one cluster at another.
//!
//! Not responsible for exactly one write each: what was sent and not answered ends the mirror with
//! the revision to go on from, since it may be applied later than what would be sent next.
//!
//! Invariants: 1. the destination is written in the order of the source's revisions; 2. a revision is
//! said to be mirrored only when all of it is at the destination; 3. writing a revision again, from
//! the place that was said, does no harm.

use std::cell::Cell;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use jangada_server::errors::ApiError;
use jangada_server::proto::etcdserverpb as pb;
use jangada_server::proto::mvccpb::{Event, event::EventType};
use pb::request_op::Request;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tonic::{Status, Streaming};

use super::kv::{bytes_of, kv_client, range};
use super::user::typed;
use super::watch::{is_loss, open};
use crate::arguments::{self, Format, MakeMirror};
use crate::client::{Channel, Client, is_refusal};
use crate::failure::Failure;
use crate::output;

/// Keys of a page at first, and at most: etcdctl's.
const PAGE_KEYS: (i64, i64) = (100, 1000);
/// What a page is to hold: small beside memory, and large beside what a question costs.
const PAGE_BYTES: usize = 4 << 20;
/// Bytes in a transaction of the copy; two thirds of what servers take by default.
const COPY_BYTES_MAX: usize = 1 << 20;
/// Between two attempts where nothing was sent.
const PAUSE: Duration = Duration::from_millis(200);

/// `make-mirror`.
pub(crate) fn run(options: &arguments::Client, mirror: &MakeMirror) -> Result<(), Failure> {
    if options.output == Some(Format::Table) {
        let sentence = "counts are printed one by one, not as a table; use simple or json";
        return Err(Failure::Usage(sentence.to_owned()));
    }
    let mut to = mirror.destination(options);
    to.login.complete(typed)?;
    let (from, end) = range(&mirror.prefix, None, true, false)?;
    let prefix = bytes_of(&mirror.prefix);
    let names = Names {
        to: match &mirror.dest_prefix {
            Some(other) => bytes_of(other),
            None if mirror.no_dest_prefix => Bytes::new(),
            None => prefix.clone(),
        },
        from: prefix,
    };
    let progress = Progress::default();
    Client::block_on(async {
        let mut work = Mirror {
            source: options,
            keys: (from, end),
            names,
            operations_max: mirror.max_txn_ops as usize,
            destination: Destination { options: &to, channel: None },
            progress: &progress,
        };
        let done = tokio::select! {
            failure = work.run(mirror.rev) => Err(failure),
            failed = print_at_intervals(options, &progress, mirror.every) => failed,
            interrupted = interrupted() => interrupted,
        };
        progress.print(options)?;
        done.map_err(|failure| progress.explain(failure))
    })
}

/// Waits for whoever wants this to end.
async fn interrupted() -> Result<(), Failure> {
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted.map_err(Failure::from),
        _ = terminated.recv() => Ok(()),
    }
}

async fn print_at_intervals(
    options: &arguments::Client,
    progress: &Progress,
    every: Duration,
) -> Result<(), Failure> {
    loop {
        tokio::time::sleep(every).await;
        progress.print(options)?;
    }
}

/// How far it is.
#[derive(Default)]
struct Progress {
    /// Keys that were written or deleted.
    mirrored: Cell<u64>,
    /// The first revision that is not mirrored; 0 while the copy is made.
    next: Cell<i64>,
    /// Whether what is next was compacted at the source.
    is_gone: Cell<bool>,
}

impl Progress {
    fn print(&self, options: &arguments::Client) -> io::Result<()> {
        let (mirrored, next) = (self.mirrored.get(), self.next.get());
        match options.output {
            Some(Format::Json) => {
                output::print_json(&json!({"mirrored": mirrored, "revision": (next - 1).max(0)}))
            }
            _ => writeln!(io::stdout(), "{mirrored}"),
        }
    }

    /// Says from where to go on.
    fn explain(&self, failure: Failure) -> Failure {
        if self.is_gone.get() {
            return failure;
        }
        match (failure, self.next.get()) {
            (Failure::Failed(sentence), 0) => {
                Failure::Failed(format!("{sentence}; the copy is not complete, so start again"))
            }
            (Failure::Failed(sentence), next) => Failure::Failed(format!(
                "{sentence}; everything before revision {next} is mirrored: go on with --rev={next}"
            )),
            (failure, _) => failure,
        }
    }
}

/// What keys are called on either side.
struct Names {
    from: Bytes,
    to: Bytes,
}

impl Names {
    fn at_destination(&self, key: &Bytes) -> Bytes {
        assert!(key.starts_with(&self.from), "the source was asked for keys of the prefix alone");
        if self.from == self.to {
            return key.clone();
        }
        let mut name = BytesMut::from(&self.to[..]);
        name.extend_from_slice(&key[self.from.len()..]);
        name.freeze()
    }

    /// Whether what is written would be seen again, were both clusters one.
    fn feed_themselves(&self) -> bool {
        self.to.starts_with(&self.from)
    }
}

/// The work.
struct Mirror<'a> {
    source: &'a arguments::Client,
    /// The first key, and the one past the last.
    keys: (Bytes, Bytes),
    names: Names,
    operations_max: usize,
    destination: Destination<'a>,
    progress: &'a Progress,
}

impl Mirror<'_> {
    /// Copies and follows; returns why it cannot go on.
    async fn run(&mut self, rev: i64) -> Failure {
        let (Ok(failure) | Err(failure)) = self.begin(rev).await;
        failure
    }

    async fn begin(&mut self, rev: i64) -> Result<Failure, Failure> {
        self.refuse_itself().await?;
        // As etcdctl does: nothing is before the first revision, so that it means a copy, too.
        let copied = if rev <= 1 { self.copy().await? } else { rev - 1 };
        self.progress.next.set(copied + 1);
        loop {
            let stream = self.watch().await?;
            match self.follow(stream).await {
                Followed::Lost => {}
                Followed::Failed(failure) => return Ok(failure),
            }
        }
    }

    /// A mirror into its own source would never end.
    async fn refuse_itself(&mut self) -> Result<(), Failure> {
        let request = pb::RangeRequest {
            key: self.keys.0.clone(),
            limit: 1,
            count_only: true,
            ..Default::default()
        };
        let ask = async |options: &arguments::Client| {
            let client = Client::new(options);
            let asked = client.read(async |channel| {
                let answer = kv_client(channel).range(request.clone()).await?.into_inner();
                Ok(answer.header.map_or(0, |header| header.cluster_id))
            });
            asked.await
        };
        let source = ask(self.source).await.map_err(|failure| of("source", failure))?;
        // Whoever may write there need not be one who may read.
        let destination = ask(self.destination.options).await.unwrap_or_default();
        if source == destination && self.names.feed_themselves() {
            return Err(Failure::Usage(
                "source and destination are the same cluster, and what is written would be mirrored \
                 again; name another destination, or a --dest-prefix outside of --prefix"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    /// Copies all keys as of one revision, which is returned.
    async fn copy(&mut self) -> Result<i64, Failure> {
        let (mut key, range_end) = self.keys.clone();
        let (mut revision, (mut limit, limit_max)) = (0, PAGE_KEYS);
        loop {
            let request = pb::RangeRequest {
                key,
                range_end: range_end.clone(),
                revision,
                limit,
                ..pb::RangeRequest::default()
            };
            let page = self.page(request).await?;
            if revision == 0 {
                revision = page.header.map_or(0, |header| header.revision);
            }
            let last = page.kvs.last().map(|kv| kv.key.clone());
            let keys = page.kvs.len().max(1);
            let (mut operations, mut bytes, mut page_bytes) = (Vec::new(), 0, 0);
            for kv in page.kvs {
                let size = kv.key.len() + kv.value.len();
                let is_full = operations.len() == self.operations_max
                    || COPY_BYTES_MAX < bytes + size && !operations.is_empty();
                if is_full {
                    self.write(std::mem::take(&mut operations)).await?;
                    bytes = 0;
                }
                bytes += size;
                page_bytes += size;
                operations.push(put(self.names.at_destination(&kv.key), kv.value));
            }
            self.write(operations).await?;
            match last.filter(|_| page.more) {
                Some(last) => key = [&last[..], &[0]].concat().into(),
                None => return Ok(revision),
            }
            let each = page_bytes.div_ceil(keys).max(1);
            limit = i64::try_from(PAGE_BYTES / each).unwrap_or(limit_max).clamp(1, limit_max);
        }
    }

    async fn page(&self, request: pb::RangeRequest) -> Result<pb::RangeResponse, Failure> {
        let client = Client::new(self.source);
        let asked = client.read(async |channel| {
            Ok(kv_client(channel).range(request.clone()).await?.into_inner())
        });
        asked.await.map_err(|failure| match failure {
            Failure::Failed(sentence) if sentence == ApiError::Compacted.text() => {
                Failure::Failed(format!(
                    "the source was compacted beyond revision {} while it was copied",
                    request.revision
                ))
            }
            failure => of("source", failure),
        })
    }

    /// A stream of what happens from the first revision that is not mirrored.
    async fn watch(&self) -> Result<Streaming<pb::WatchResponse>, Failure> {
        let request = pb::WatchCreateRequest {
            key: self.keys.0.clone(),
            range_end: self.keys.1.clone(),
            start_revision: self.progress.next.get(),
            // So that quiet keys are not found compacted when a connection is lost.
            progress_notify: true,
            fragment: true,
            ..pb::WatchCreateRequest::default()
        };
        let deadline = Instant::now() + self.source.timeout;
        loop {
            let opened = async {
                let channel = Client::new(self.source).connect_any().await?.1;
                Ok::<_, Failure>(open(channel, request.clone()).await)
            };
            let failure = match tokio::time::timeout(self.source.timeout, opened).await {
                Ok(Ok(Ok(stream))) => return Ok(stream),
                Ok(Ok(Err(status))) if is_loss(&status) => failed("source", &status),
                Ok(Ok(Err(status))) => return Err(failed("source", &status)),
                Ok(Err(failure)) => of("source", failure),
                Err(_) => Failure::Failed("the source: no answer".to_owned()),
            };
            if deadline <= Instant::now() {
                return Err(failure);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Mirrors what a stream tells.
    async fn follow(&mut self, mut stream: Streaming<pb::WatchResponse>) -> Followed {
        // What one revision changed, as far as it is known: it may go on in the next fragment.
        let mut changes: Vec<pb::RequestOp> = Vec::new();
        let mut revision = 0;
        loop {
            let response = match stream.message().await {
                Ok(Some(response)) => response,
                Ok(None) => return Followed::Lost,
                Err(status) if is_loss(&status) => return Followed::Lost,
                Err(status) => return Followed::Failed(failed("source", &status)),
            };
            if response.canceled {
                self.progress.is_gone.set(response.compact_revision != 0);
                return Followed::Failed(ended(&response));
            }
            let is_progress = response.events.is_empty() && !response.created;
            for event in response.events {
                let at = event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
                if revision < at {
                    if let Err(failure) = self.mirror(revision, std::mem::take(&mut changes)).await
                    {
                        return Followed::Failed(failure);
                    }
                    revision = at;
                }
                changes.extend(self.change(event));
            }
            if response.fragment {
                continue;
            }
            if let Err(failure) = self.mirror(revision, std::mem::take(&mut changes)).await {
                return Followed::Failed(failure);
            }
            if is_progress {
                let told = response.header.map_or(0, |header| header.revision);
                self.progress.next.set(self.progress.next.get().max(told + 1));
            }
        }
    }

    fn change(&self, event: Event) -> Option<pb::RequestOp> {
        let is_delete = event.r#type() == EventType::Delete;
        let kv = event.kv?;
        let key = self.names.at_destination(&kv.key);
        if !is_delete {
            return Some(put(key, kv.value));
        }
        let delete = pb::DeleteRangeRequest { key, ..pb::DeleteRangeRequest::default() };
        Some(pb::RequestOp { request: Some(Request::RequestDeleteRange(delete)) })
    }

    /// Writes what a revision changed.
    async fn mirror(&mut self, revision: i64, changes: Vec<pb::RequestOp>) -> Result<(), Failure> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut changes = changes.into_iter();
        loop {
            let operations: Vec<_> = changes.by_ref().take(self.operations_max).collect();
            if operations.is_empty() {
                self.progress.next.set(revision + 1);
                return Ok(());
            }
            self.write(operations).await?;
        }
    }

    async fn write(&mut self, operations: Vec<pb::RequestOp>) -> Result<(), Failure> {
        if operations.is_empty() {
            return Ok(());
        }
        let count = operations.len() as u64;
        self.destination.write(operations).await?;
        self.progress.mirrored.set(self.progress.mirrored.get() + count);
        Ok(())
    }
}

/// Why a stream is not followed any more.
enum Followed {
    Lost,
    Failed(Failure),
}

/// Where the mirror is.
struct Destination<'a> {
    options: &'a arguments::Client,
    channel: Option<Channel>,
}

impl Destination<'_> {
    /// Writes once, and again only what was refused without being proposed.
    async fn write(&mut self, operations: Vec<pb::RequestOp>) -> Result<(), Failure> {
        let request = pb::TxnRequest { success: operations, ..pb::TxnRequest::default() };
        let time = self.options.timeout;
        let deadline = Instant::now() + time;
        loop {
            let failure = match self.connect().await {
                Err(failure) => failure,
                Ok(channel) => {
                    let txn = async { kv_client(channel.clone()).txn(request.clone()).await };
                    match tokio::time::timeout(time, txn).await {
                        Ok(Ok(_)) => {
                            self.channel = Some(channel);
                            return Ok(());
                        }
                        Ok(Err(status)) if is_repeatable(&status) => failed("destination", &status),
                        Ok(Err(status)) => return Err(failed("destination", &status)),
                        Err(_) => {
                            let sentence = "the destination did not answer a write in time";
                            return Err(Failure::Failed(sentence.to_owned()));
                        }
                    }
                }
            };
            if deadline <= Instant::now() {
                return Err(failure);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn connect(&mut self) -> Result<Channel, Failure> {
        if let Some(channel) = self.channel.take() {
            return Ok(channel);
        }
        let connected = Client::new(self.options).connect_any().await;
        Ok(connected.map_err(|failure| of("destination", failure))?.1)
    }
}

/// Whether nothing was proposed, so that it may be sent again: by whom to ask elsewhere, or anew with
/// another token.
fn is_repeatable(status: &Status) -> bool {
    is_refusal(status) || status.message() == ApiError::InvalidAuthToken.text()
}

fn put(key: Bytes, value: Bytes) -> pb::RequestOp {
    let put = pb::PutRequest { key, value, ..pb::PutRequest::default() };
    pb::RequestOp { request: Some(Request::RequestPut(put)) }
}

fn ended(response: &pb::WatchResponse) -> Failure {
    Failure::Failed(match response.compact_revision {
        0 => format!("the source ended the watch: {}", response.cancel_reason),
        revision => format!(
            "the source was compacted at revision {revision} before all of that was mirrored; start \
             again without --rev, which copies all keys and leaves those that were deleted meanwhile"
        ),
    })
}

fn failed(side: &str, status: &Status) -> Failure {
    Failure::Failed(format!("the {side}: {}", status.message()))
}

fn of(side: &str, failure: Failure) -> Failure {
    match failure {
        Failure::Failed(sentence) => Failure::Failed(format!("the {side}: {sentence}")),
        failure => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(from: &'static str, to: &'static str) -> Names {
        Names { from: Bytes::from(from), to: Bytes::from(to) }
    }

    #[test]
    fn keys_change_their_prefix_once() {
        let check = |from, to, key: &'static str, expect: &'static str| {
            assert_eq!(names(from, to).at_destination(&Bytes::from(key)), expect, "{from} {to}");
        };
        check("", "", "a", "a");
        check("a/", "a/", "a/b", "a/b");
        check("a/", "b/", "a/a/c", "b/a/c");
        check("a/", "", "a/b", "b");
        check("", "copy/", "a", "copy/a");
    }

    #[test]
    fn a_mirror_into_its_own_keys_is_known() {
        assert!(names("", "copy/").feed_themselves() && names("a", "ab").feed_themselves());
        assert!(!names("a/", "b/").feed_themselves() && !names("a/", "").feed_themselves());
    }

    #[test]
    fn a_failure_says_from_where_to_go_on() {
        let progress = Progress::default();
        let explained =
            |progress: &Progress| progress.explain(Failure::Failed("x".into())).to_string();
        assert!(explained(&progress).contains("start again"));
        progress.next.set(7);
        assert!(explained(&progress).contains("--rev=7"));
    }
}
