//! Watchers while clients write: how many events reach them, and what that costs writers and servers.
//!
//! All watchers watch everything that is written, so each write is as many events. Some streams may be
//! stalled: they are opened and never read.
//!
//! Invariants: 1. the run ends when every watcher that reads has seen every write, or nothing more
//! comes; 2. events are counted, not decoded, for that would measure this program.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::Request;
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use jangada_server::proto::etcdserverpb as pb;
use prost::Message;
use serde::Serialize;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tonic::body::Body;
use tower::Service;

use crate::connection::{self, Access, Connection};
use crate::error::BenchError;
use crate::latency::{Latency, Recorder};
use crate::load::ServerReport;
use crate::process;
use crate::runtime;

/// The keys written begin so.
const PREFIX: &str = "watched/";
/// One past all keys that begin so.
const PREFIX_END: &str = "watched0";
/// The prefix of a message.
const HEAD_BYTES: usize = 5;
/// The fields of a response that are looked at.
const CREATED_TAG: u8 = 3 << 3;
const EVENTS_TAG: u8 = 11 << 3 | 2;

/// A run.
#[derive(Clone, Debug)]
pub struct Options {
    /// `host:port` of each member; connections take them in turn.
    pub endpoints: Vec<String>,
    /// How members are reached, and on whose behalf.
    pub access: Access,
    /// Watchers, all streams together.
    pub watchers: usize,
    /// Streams that the watchers share.
    pub streams: usize,
    /// Connections that the streams share.
    pub connections: usize,
    /// Streams more that nobody reads, with as many watchers each as the others.
    pub stalled: usize,
    /// Clients that write, each with one request under way.
    pub writers: usize,
    /// How long they write.
    pub duration: Duration,
    /// How many different keys there are.
    pub key_space: u64,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// After so long without any event the run ends, however many are missing.
    pub stall: Duration,
    /// The servers' processes, to tell what they used.
    pub pids: Vec<u32>,
    /// Decides keys.
    pub seed: u64,
}

/// What a run measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Watchers that read.
    pub watchers: usize,
    /// Streams that were read.
    pub streams: usize,
    /// Streams that nobody read.
    pub stalled: usize,
    /// Clients that wrote.
    pub writers: usize,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// From the first write to the last event.
    pub seconds: f64,
    /// Events that came.
    pub events: u64,
    /// Events that did not.
    pub missing: u64,
    /// Events a second.
    pub events_per_second: f64,
    /// Writes a second, while there were any.
    pub writes_per_second: f64,
    /// How long writes took.
    pub latency: Latency,
    /// Writes that failed; whether they happened is not known.
    pub failed_writes: u64,
    /// What the servers used for each event, if their processes were named.
    pub servers: Option<ServerReport>,
}

/// Drives the load and measures it, on a runtime of its own with one thread.
///
/// # Errors
///
/// An option that makes no sense, no endpoint that answers, or a stream that breaks.
pub fn run(options: &Options) -> Result<Report, BenchError> {
    let counts = [options.watchers, options.streams, options.connections, options.writers];
    if counts.contains(&0) || options.key_space == 0 || options.endpoints.is_empty() {
        let problem = "watchers, streams, connections, writers and keys must each be at least one";
        return Err(BenchError::Option { problem: problem.to_owned() });
    }
    if options.watchers < options.streams || options.streams < options.connections {
        let problem = "there must be a watcher for each stream and a stream for each connection";
        return Err(BenchError::Option { problem: problem.to_owned() });
    }
    runtime::block_on(drive(options))
}

/// What everything shares. One thread drives it, so nothing is locked.
struct Run {
    created: Cell<usize>,
    events: Cell<u64>,
    last_event: Cell<Instant>,
    broken: RefCell<Option<String>>,
    recorder: RefCell<Recorder>,
    failed: Cell<u64>,
    changed: Notify,
}

async fn drive(options: &Options) -> Result<Report, BenchError> {
    let run = Rc::new(Run {
        created: Cell::new(0),
        events: Cell::new(0),
        last_event: Cell::new(Instant::now()),
        broken: RefCell::new(None),
        recorder: RefCell::default(),
        failed: Cell::new(0),
        changed: Notify::new(),
    });
    let mut readers = JoinSet::new();
    let mut links = Vec::new();
    for number in 0..options.connections {
        links.push(open(options, number).await?);
    }
    for number in 0..options.streams {
        // So that the first streams have one more where they do not go up.
        let watchers = (options.watchers + options.streams - 1 - number) / options.streams;
        let (endpoint, connection) = &links[number % links.len()];
        let body = open_all(connection, endpoint, watchers).await?;
        readers.spawn_local(read(Rc::clone(&run), body));
    }
    while run.created.get() < options.watchers && run.broken.borrow().is_none() {
        run.changed.notified().await;
    }
    let mut stalled = Vec::new();
    for number in 0..options.stalled {
        // Of its own connection: one that is not read closes the window for all on it.
        let (endpoint, connection) = open(options, number).await?;
        let watchers = options.watchers.div_ceil(options.streams);
        stalled.push((open_all(&connection, &endpoint, watchers).await?, connection));
    }
    let before = process::usage_of_all(&options.pids);
    let begin = Instant::now();
    let end = begin + options.duration;
    run.last_event.set(begin);
    let mut writers = JoinSet::new();
    for number in 0..options.writers {
        let endpoint = options.endpoints[number % options.endpoints.len()].clone();
        let (run, options) = (Rc::clone(&run), options.clone());
        writers.spawn_local(write(run, options, endpoint, number as u64, end));
    }
    while let Some(ended) = writers.join_next().await {
        ended.expect("a writer does not panic")?;
    }
    let writing = begin.elapsed().as_secs_f64();
    let latency = run.recorder.borrow().latency();
    let expected = latency.count * options.watchers as u64;
    // A write that failed may have happened, so there may be more.
    while run.events.get() < expected
        && run.last_event.get().elapsed() < options.stall
        && run.broken.borrow().is_none()
    {
        let _ = tokio::time::timeout(options.stall, run.changed.notified()).await;
    }
    if let Some(problem) = run.broken.take() {
        return Err(unreachable(&options.endpoints.join(","), problem));
    }
    let servers = before.zip(process::usage_of_all(&options.pids));
    let seconds = run.last_event.get().duration_since(begin).as_secs_f64();
    let events = run.events.get();
    drop(stalled);
    Ok(Report {
        watchers: options.watchers,
        streams: options.streams,
        stalled: options.stalled,
        writers: options.writers,
        value_bytes: options.value_bytes,
        seconds,
        events,
        missing: expected.saturating_sub(events),
        events_per_second: if seconds == 0.0 { 0.0 } else { events as f64 / seconds },
        writes_per_second: latency.count as f64 / writing,
        latency,
        failed_writes: run.failed.get(),
        servers: servers.map(|(before, after)| ServerReport::between(before, after, events)),
    })
}

async fn open(options: &Options, number: usize) -> Result<(String, Connection), BenchError> {
    let endpoint = &options.endpoints[number % options.endpoints.len()];
    let (connection, _) = connect(endpoint, &options.access).await?;
    Ok((endpoint.clone(), connection))
}

type KvClient = jangada_server::proto::etcdserverpb::kv_client::KvClient<Connection>;

async fn connect(endpoint: &str, access: &Access) -> Result<(Connection, KvClient), BenchError> {
    let connected = connection::connect(endpoint, access).await;
    connected.map_err(|problem| unreachable(endpoint, problem))
}

fn unreachable(endpoint: &str, problem: String) -> BenchError {
    BenchError::Unreachable { endpoint: endpoint.to_owned(), problem }
}

/// The requests of a stream: all at once, and then the client's side stays open.
struct Requests(Option<Bytes>);

impl http_body::Body for Requests {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.take().map_or(Poll::Pending, |bytes| Poll::Ready(Some(Ok(Frame::data(bytes)))))
    }
}

/// Opens a stream with so many watchers of everything that is written.
async fn open_all(
    connection: &Connection,
    endpoint: &str,
    watchers: usize,
) -> Result<Incoming, BenchError> {
    open_stream(connection, endpoint, watchers, PREFIX.as_bytes(), PREFIX_END.as_bytes()).await
}

/// Opens a stream with so many watchers of a range.
pub(crate) async fn open_stream(
    connection: &Connection,
    endpoint: &str,
    watchers: usize,
    key: &'static [u8],
    range_end: &'static [u8],
) -> Result<Incoming, BenchError> {
    use pb::watch_request::RequestUnion;
    let create = pb::WatchCreateRequest {
        key: Bytes::from_static(key),
        range_end: Bytes::from_static(range_end),
        ..pb::WatchCreateRequest::default()
    };
    let request = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let mut requests = BytesMut::new();
    for _ in 0..watchers {
        requests.put_u8(0);
        requests.put_u32(u32::try_from(request.encoded_len()).expect("it is small"));
        request.encode(&mut requests).expect("a buffer grows");
    }
    let problem = |problem: String| unreachable(endpoint, problem);
    let origin = connection::origin(endpoint).map_err(problem)?;
    let request = Request::post(format!("{origin}etcdserverpb.Watch/Watch"))
        .version(http::Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(Requests(Some(requests.freeze()))))
        .expect("the request is well formed");
    let mut connection = connection.clone();
    std::future::poll_fn(|context| connection.poll_ready(context))
        .await
        .map_err(|error| problem(error.to_string()))?;
    let response = connection.call(request).await.map_err(|error| problem(error.to_string()))?;
    match response.headers().get("grpc-message") {
        Some(message) => Err(problem(String::from_utf8_lossy(message.as_bytes()).into_owned())),
        None => Ok(response.into_body()),
    }
}

/// Reads a stream and counts what comes.
async fn read(run: Rc<Run>, mut body: Incoming) {
    let mut gathered = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => return broken(&run, error.to_string()),
        };
        let Ok(data) = frame.into_data() else { continue };
        gathered.extend_from_slice(&data);
        let (created, events) = match count(&mut gathered) {
            Some(counted) => counted,
            None => return broken(&run, "a response cannot be read".to_owned()),
        };
        run.created.set(run.created.get() + created);
        if 0 < events {
            run.events.set(run.events.get() + events);
            run.last_event.set(Instant::now());
        }
        run.changed.notify_one();
    }
    broken(&run, "the server has ended a stream".to_owned());
}

fn broken(run: &Run, problem: String) {
    run.broken.replace(Some(problem));
    run.changed.notify_one();
}

/// Takes the messages that are whole, and counts watchers that were made and events.
fn count(gathered: &mut BytesMut) -> Option<(usize, u64)> {
    let (mut created, mut events) = (0, 0);
    while HEAD_BYTES <= gathered.len() {
        let length = u32::from_be_bytes(gathered[1..HEAD_BYTES].try_into().expect("four bytes"));
        if gathered.len() < HEAD_BYTES + length as usize {
            break;
        }
        gathered.advance(HEAD_BYTES);
        let mut message = gathered.split_to(length as usize);
        while message.has_remaining() {
            let tag = message.get_u8();
            events += u64::from(tag == EVENTS_TAG);
            created += usize::from(tag == CREATED_TAG);
            let number = prost::encoding::decode_varint(&mut message).ok()?;
            if tag & 7 == 2 {
                let length = usize::try_from(number).ok()?;
                (length <= message.len()).then_some(())?;
                message.advance(length);
            }
        }
    }
    Some((created, events))
}

/// Writes until the end.
async fn write(
    run: Rc<Run>,
    options: Options,
    endpoint: String,
    number: u64,
    end: Instant,
) -> Result<(), BenchError> {
    let (_, mut client) = connect(&endpoint, &options.access).await?;
    let mut random = fastrand::Rng::with_seed(options.seed + number);
    let value = Bytes::from(vec![b'v'; options.value_bytes]);
    while Instant::now() < end {
        let key = Bytes::from(format!("{PREFIX}{}", random.u64(0..options.key_space)));
        let request = pb::PutRequest { key, value: value.clone(), ..pb::PutRequest::default() };
        let begin = Instant::now();
        match client.put(request).await {
            Ok(_) => run.recorder.borrow_mut().record(begin.elapsed()),
            Err(status) if run.failed.get() == 0 && run.recorder.borrow().latency().count == 0 => {
                return Err(unreachable(&endpoint, status.message().to_owned()));
            }
            Err(_) => run.failed.set(run.failed.get() + 1),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watchers_and_events_are_counted_however_messages_are_cut() {
        use jangada_server::proto::mvccpb::Event;
        let header = Some(pb::ResponseHeader { revision: 1 << 40, ..Default::default() });
        let created =
            pb::WatchResponse { header, created: true, watch_id: 7, ..Default::default() };
        let events = vec![Event::default(), Event { r#type: 1, ..Event::default() }];
        let told = pb::WatchResponse { header, events, ..Default::default() };
        let mut bytes = BytesMut::new();
        for message in [&created, &told, &created] {
            bytes.put_u8(0);
            bytes.put_u32(u32::try_from(message.encoded_len()).expect("it is small"));
            message.encode(&mut bytes).expect("a buffer grows");
        }
        for piece in 1..bytes.len() {
            let (mut gathered, mut counted) = (BytesMut::new(), (0, 0));
            for piece in bytes.chunks(piece) {
                gathered.extend_from_slice(piece);
                let (created, events) = count(&mut gathered).expect("they are well formed");
                counted = (counted.0 + created, counted.1 + events);
            }
            assert_eq!(counted, (2, 2));
        }
    }
}
