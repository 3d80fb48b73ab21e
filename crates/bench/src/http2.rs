//! A client of HTTP/2 that makes unary gRPC calls and costs next to nothing, since it shares the machine
//! with the servers that it measures.
//!
//! One task drives a connection. Whatever callers ask for while it works goes out in one write, and what
//! one read brings is handed to all callers at once. Frames are written and read in place; the header
//! fields of a request are a few bytes (see `headers.rs`).
//!
//! Sources: RFC 9113 (HTTP/2), RFC 7541 (header compression), gRPC over HTTP/2.
//!
//! Invariants: 1. no more streams are open than the server allows; 2. no more bytes of data are sent
//! than the windows of the connection and of the stream allow; 3. a call ends once.

mod frames;
mod headers;

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::HeaderValue;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::Status;

use self::frames::{
    HEADER_BYTES, Head, PAYLOAD_MAX, WINDOW_DEFAULT, WINDOW_MAX, flag, kind, setting,
};
use self::headers::{Answers, Requests, Said};
use crate::connection::{self, Access, Socket};

/// The most bytes of one answer.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// Bytes read at a time.
const READ_BYTES: usize = 64 << 10;
/// The server may send as much as that again once as much has come.
const WINDOW_STEP: u32 = WINDOW_MAX / 2;
/// What stands before each message of gRPC: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// A connection; a clone is another handle of the same one. It ends with the last handle.
#[derive(Clone)]
pub(crate) struct Channel {
    shared: Rc<RefCell<Shared>>,
    _handle: Rc<Handle>,
}

/// The last handle that goes tells the task that drives the connection.
struct Handle(Rc<RefCell<Shared>>);

impl Drop for Handle {
    fn drop(&mut self) {
        let mut shared = self.0.borrow_mut();
        shared.close("nobody needs the connection any more");
        shared.wake_driver();
    }
}

/// What callers and the driver share. One thread runs them all.
struct Shared {
    requests: Requests,
    answers: Answers,
    /// What is to be sent.
    out: Vec<u8>,
    driver: Option<Waker>,
    calls: HashMap<u32, Call>,
    /// The next stream's number.
    next: u32,
    streams_max: u32,
    /// Who waits until a stream may be opened.
    queue: VecDeque<Waker>,
    /// What may be sent on the connection, and on a stream from its beginning.
    window: i64,
    window_of_stream: i64,
    /// Messages that did not fit into the windows, in order.
    unsent: VecDeque<Unsent>,
    /// What has come since the server was told that it may send more.
    received: u32,
    settled: bool,
    closed: Option<String>,
}

/// A call under way.
struct Call {
    body: Vec<u8>,
    outcome: Option<Result<(), Status>>,
    waker: Option<Waker>,
}

/// What is left of a message that is being sent.
struct Unsent {
    stream: u32,
    window: i64,
    message: Bytes,
}

impl Channel {
    /// Opens a connection and learns what the server allows.
    ///
    /// # Errors
    ///
    /// A sentence on what went wrong.
    pub(crate) async fn open(endpoint: &str, access: &Access) -> Result<Channel, String> {
        let opening = async {
            let socket = connection::dial(endpoint, access).await?;
            begin(socket, endpoint, access.token.as_ref()).await
        };
        connection::in_time(opening).await
    }

    /// Whether no more calls can be made on it.
    pub(crate) fn is_closed(&self) -> bool {
        self.shared.borrow().closed.is_some()
    }

    /// Makes a call and answers the message that comes back.
    ///
    /// # Errors
    ///
    /// The status with which the server ends the call, or one that says that the connection is lost.
    pub(crate) async fn call(
        &self,
        path: &'static str,
        message: impl prost::Message,
    ) -> Result<Vec<u8>, Status> {
        let length = message.encoded_len();
        let mut framed = Vec::with_capacity(PREFIX_BYTES + length);
        framed.push(0);
        framed.extend_from_slice(&(length as u32).to_be_bytes());
        message.encode_raw(&mut framed);
        let mut framed = Some(framed);
        let mut place: Option<Place> = None;
        std::future::poll_fn(move |context| {
            let place = match &mut place {
                Some(place) => place,
                None => {
                    let mut shared = self.shared.borrow_mut();
                    let message = &mut framed;
                    let stream = ready!(shared.poll_begin(path, message, context))?;
                    place.insert(Place { shared: Rc::clone(&self.shared), stream })
                }
            };
            place.poll(context)
        })
        .await
    }
}

/// A call's place, given up with the call.
struct Place {
    shared: Rc<RefCell<Shared>>,
    stream: u32,
}

impl Place {
    fn poll(&self, context: &mut Context<'_>) -> Poll<Result<Vec<u8>, Status>> {
        let mut shared = self.shared.borrow_mut();
        let call = shared.calls.get_mut(&self.stream).expect("a place is that of a call");
        let Some(outcome) = call.outcome.take() else {
            if call.waker.as_ref().is_none_or(|waker| !waker.will_wake(context.waker())) {
                call.waker = Some(context.waker().clone());
            }
            return Poll::Pending;
        };
        Poll::Ready(outcome.and_then(|()| message_of(std::mem::take(&mut call.body))))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut shared = self.shared.borrow_mut();
        shared.calls.remove(&self.stream);
        shared.unsent.retain(|unsent| unsent.stream != self.stream);
        if let Some(waiting) = shared.queue.pop_front() {
            waiting.wake();
        }
    }
}

/// The message of an answer that holds one.
fn message_of(mut body: Vec<u8>) -> Result<Vec<u8>, Status> {
    let length = body.get(1..PREFIX_BYTES).and_then(frames::number);
    if body.first() == Some(&0) && length == Some((body.len() - PREFIX_BYTES) as u32) {
        body.drain(..PREFIX_BYTES);
        return Ok(body);
    }
    Err(Status::internal("the answer does not hold exactly one message that is not compressed"))
}

impl Shared {
    fn new(requests: Requests) -> Shared {
        let mut out = frames::PREFACE.to_vec();
        let settings = [(setting::ENABLE_PUSH, 0), (setting::INITIAL_WINDOW_SIZE, WINDOW_MAX)];
        frames::write_settings(&mut out, &settings);
        let more = WINDOW_MAX - WINDOW_DEFAULT as u32;
        frames::write(&mut out, kind::WINDOW_UPDATE, 0, 0, &more.to_be_bytes());
        Shared {
            requests,
            answers: Answers::new(),
            out,
            driver: None,
            calls: HashMap::new(),
            next: 1,
            streams_max: u32::MAX,
            queue: VecDeque::new(),
            window: WINDOW_DEFAULT,
            window_of_stream: WINDOW_DEFAULT,
            unsent: VecDeque::new(),
            received: 0,
            settled: false,
            closed: None,
        }
    }

    fn wake_driver(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }

    /// Opens a stream for a call and sends as much of it as may be sent; answers the stream's number.
    fn poll_begin(
        &mut self,
        path: &'static str,
        message: &mut Option<Vec<u8>>,
        context: &Context<'_>,
    ) -> Poll<Result<u32, Status>> {
        if let Some(problem) = &self.closed {
            return Poll::Ready(Err(Status::unavailable(problem.clone())));
        }
        if self.streams_max as usize <= self.calls.len() {
            self.queue.push_back(context.waker().clone());
            return Poll::Pending;
        }
        let stream = self.next;
        if frames::STREAM_MAX - 2 < stream {
            let problem = "the connection has had all the streams that it can have";
            self.close(problem);
            return Poll::Ready(Err(Status::unavailable(problem)));
        }
        self.next += 2;
        let begin = self.out.len();
        frames::write_head(&mut self.out, kind::HEADERS, flag::END_HEADERS, stream, 0);
        self.requests.write(path, &mut self.out);
        let length = (self.out.len() - begin - HEADER_BYTES) as u32;
        self.out[begin..begin + 3].copy_from_slice(&length.to_be_bytes()[1..]);
        let message = Bytes::from(message.take().expect("a call is begun once"));
        self.unsent.push_back(Unsent { stream, window: self.window_of_stream, message });
        self.calls.insert(stream, Call { body: Vec::new(), outcome: None, waker: None });
        self.send();
        self.wake_driver();
        Poll::Ready(Ok(stream))
    }

    /// Sends messages as far as the windows allow. One that fills its own stream's window holds up those
    /// behind it, which cannot be for long: servers give windows back as they read.
    fn send(&mut self) {
        while let Some(unsent) = self.unsent.front_mut() {
            let length = unsent.message.len();
            let may = self.window.min(unsent.window).clamp(0, PAYLOAD_MAX as i64) as usize;
            let now = length.min(may);
            if now == 0 {
                return;
            }
            let last = now == length;
            let flags = if last { flag::END_STREAM } else { 0 };
            let part = unsent.message.split_to(now);
            frames::write(&mut self.out, kind::DATA, flags, unsent.stream, &part);
            self.window -= now as i64;
            unsent.window -= now as i64;
            if last {
                self.unsent.pop_front();
            }
        }
    }

    fn close(&mut self, problem: &str) {
        if self.closed.is_none() {
            self.closed = Some(problem.to_owned());
        }
        for call in self.calls.values_mut() {
            call.end(Err(Status::unavailable(problem.to_owned())));
        }
        for waiting in self.queue.drain(..) {
            waiting.wake();
        }
    }

    /// Takes in a frame.
    fn take(&mut self, head: Head, payload: &[u8]) -> Result<(), String> {
        match head.kind {
            kind::DATA => {
                self.received += head.length as u32;
                if WINDOW_STEP <= self.received {
                    let more = std::mem::take(&mut self.received);
                    frames::write(&mut self.out, kind::WINDOW_UPDATE, 0, 0, &more.to_be_bytes());
                }
                let content = head.content(payload).ok_or("a DATA frame has too much padding")?;
                if let Some(call) = self.calls.get_mut(&head.stream) {
                    if ANSWER_BYTES_MAX < call.body.len() + content.len() {
                        return Err(format!("an answer has more than {ANSWER_BYTES_MAX} bytes"));
                    }
                    call.body.extend_from_slice(content);
                    if head.has(flag::END_STREAM) {
                        call.end(Err(Status::internal("the answer ended without a status")));
                    }
                }
            }
            kind::HEADERS => {
                let block = head.content(payload).ok_or("a HEADERS frame is too short")?;
                let said = self.answers.read(block).ok_or("header fields cannot be read")?;
                if let Some(call) = self.calls.get_mut(&head.stream) {
                    match said {
                        Said::Status(status) if status.code() == tonic::Code::Ok => {
                            call.end(Ok(()))
                        }
                        Said::Status(status) => call.end(Err(status)),
                        Said::Nothing if head.has(flag::END_STREAM) => {
                            call.end(Err(Status::internal("the answer ended without a status")));
                        }
                        Said::Nothing => {}
                    }
                }
            }
            kind::RST_STREAM => {
                let code = frames::number(payload).ok_or("a RST_STREAM frame is too short")?;
                if let Some(call) = self.calls.get_mut(&head.stream) {
                    let problem = format!("the server broke the call off with HTTP/2 error {code}");
                    call.end(Err(Status::unavailable(problem)));
                }
            }
            kind::SETTINGS if !head.has(flag::ACK) => self.settle(payload),
            kind::PING if !head.has(flag::ACK) => {
                frames::write(&mut self.out, kind::PING, flag::ACK, 0, payload);
            }
            kind::GOAWAY => {
                let last = frames::number(payload).ok_or("a GOAWAY frame is too short")?;
                let problem = "the server takes no more calls on this connection";
                self.closed.get_or_insert_with(|| problem.to_owned());
                for (_, call) in self.calls.iter_mut().filter(|(stream, _)| last < **stream) {
                    call.end(Err(Status::unavailable(problem)));
                }
                for waiting in self.queue.drain(..) {
                    waiting.wake();
                }
            }
            kind::WINDOW_UPDATE => {
                let more = frames::number(payload).ok_or("a WINDOW_UPDATE frame is too short")?;
                let of_stream = |unsent: &&mut Unsent| unsent.stream == head.stream;
                match head.stream {
                    0 => self.window += i64::from(more),
                    _ => {
                        if let Some(unsent) = self.unsent.iter_mut().find(of_stream) {
                            unsent.window += i64::from(more);
                        }
                    }
                }
                self.send();
            }
            _ => {}
        }
        Ok(())
    }

    fn settle(&mut self, payload: &[u8]) {
        for (name, value) in frames::settings(payload) {
            match name {
                setting::MAX_CONCURRENT_STREAMS => {
                    self.streams_max = value;
                    for waiting in self.queue.drain(..) {
                        waiting.wake();
                    }
                }
                setting::INITIAL_WINDOW_SIZE => {
                    let change = i64::from(value) - self.window_of_stream;
                    self.window_of_stream = i64::from(value);
                    for unsent in &mut self.unsent {
                        unsent.window += change;
                    }
                }
                // The first frame, before any call; nobody changes it later.
                setting::HEADER_TABLE_SIZE if !self.settled => self.requests.shrink(value),
                _ => {}
            }
        }
        self.settled = true;
        frames::write(&mut self.out, kind::SETTINGS, flag::ACK, 0, &[]);
        self.send();
    }
}

impl Call {
    fn end(&mut self, outcome: Result<(), Status>) {
        if self.outcome.is_none() {
            self.outcome = Some(outcome);
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        }
    }
}

/// Says hello and waits for what the server allows; then the connection drives itself.
async fn begin(
    socket: Socket,
    endpoint: &str,
    token: Option<&HeaderValue>,
) -> Result<Channel, String> {
    let (secured, authority) = (connection::is_secured(endpoint), connection::authority(endpoint)?);
    let requests = Requests::new(secured, authority, token);
    let shared = Rc::new(RefCell::new(Shared::new(requests)));
    let mut driver = Driver {
        socket,
        shared: Rc::clone(&shared),
        input: Vec::new(),
        fragments: None,
        output: Vec::new(),
        written: 0,
    };
    std::future::poll_fn(|context| {
        if driver.poll(context).is_ready() || shared.borrow().settled {
            return Poll::Ready(());
        }
        Poll::Pending
    })
    .await;
    if let Some(problem) = &shared.borrow().closed {
        return Err(problem.clone());
    }
    tokio::task::spawn_local(std::future::poll_fn(move |context| driver.poll(context)));
    Ok(Channel { _handle: Rc::new(Handle(Rc::clone(&shared))), shared })
}

/// Reads and writes.
struct Driver {
    socket: Socket,
    shared: Rc<RefCell<Shared>>,
    /// The beginning of a frame whose end has not come.
    input: Vec<u8>,
    /// The stream and the flags of a HEADERS frame that goes on in others, and what it held.
    fragments: Option<(Head, Vec<u8>)>,
    output: Vec<u8>,
    written: usize,
}

impl Driver {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let problem = match self.poll_both(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(problem) => problem,
        };
        let mut shared = self.shared.borrow_mut();
        shared.close(&problem);
        Poll::Ready(())
    }

    /// Ends when the connection does, with the reason.
    fn poll_both(&mut self, context: &mut Context<'_>) -> Poll<String> {
        {
            let mut shared = self.shared.borrow_mut();
            if let Some(problem) = shared.closed.clone()
                && shared.calls.is_empty()
            {
                return Poll::Ready(problem);
            }
            if shared.driver.as_ref().is_none_or(|driver| !driver.will_wake(context.waker())) {
                shared.driver = Some(context.waker().clone());
            }
        }
        let mut space = [std::mem::MaybeUninit::uninit(); READ_BYTES];
        loop {
            let mut read = ReadBuf::uninit(&mut space);
            match Pin::new(&mut self.socket).poll_read(context, &mut read) {
                Poll::Pending => break,
                Poll::Ready(Err(error)) => return Poll::Ready(error.to_string()),
                Poll::Ready(Ok(())) if read.filled().is_empty() => {
                    return Poll::Ready("the server closed the connection".to_owned());
                }
                Poll::Ready(Ok(())) => {
                    if let Err(problem) = self.take(read.filled()) {
                        return Poll::Ready(problem);
                    }
                }
            }
        }
        loop {
            if self.written == self.output.len() {
                self.output.clear();
                self.written = 0;
                std::mem::swap(&mut self.output, &mut self.shared.borrow_mut().out);
                if self.output.is_empty() {
                    return Poll::Pending;
                }
            }
            let rest = &self.output[self.written..];
            match ready!(Pin::new(&mut self.socket).poll_write(context, rest)) {
                Ok(0) => return Poll::Ready("the connection takes no more".to_owned()),
                Ok(count) => self.written += count,
                Err(error) => return Poll::Ready(error.to_string()),
            }
        }
    }

    /// Takes in what was read.
    fn take(&mut self, bytes: &[u8]) -> Result<(), String> {
        let mut joined = std::mem::take(&mut self.input);
        let mut read = if joined.is_empty() {
            bytes
        } else {
            joined.extend_from_slice(bytes);
            &joined
        };
        while let Some(head) = Head::read(read) {
            if PAYLOAD_MAX < head.length {
                return Err("a frame is longer than is allowed".to_owned());
            }
            let Some(payload) = read.get(HEADER_BYTES..HEADER_BYTES + head.length) else { break };
            read = &read[HEADER_BYTES + head.length..];
            self.take_frame(head, payload)?;
        }
        self.input = read.to_vec();
        Ok(())
    }

    /// Puts the parts of header fields together.
    fn take_frame(&mut self, mut head: Head, payload: &[u8]) -> Result<(), String> {
        let (mut first, mut block) = match self.fragments.take() {
            Some(fragments) if head.kind == kind::CONTINUATION => fragments,
            Some(_) => return Err("header fields are broken off".to_owned()),
            None if head.kind == kind::HEADERS && !head.has(flag::END_HEADERS) => {
                let content = head.content(payload).ok_or("a HEADERS frame is too short")?;
                head.flags &= !(flag::PADDED | flag::PRIORITY);
                self.fragments = Some((head, content.to_vec()));
                return Ok(());
            }
            None => return self.shared.borrow_mut().take(head, payload),
        };
        block.extend_from_slice(payload);
        if ANSWER_BYTES_MAX < block.len() {
            return Err("header fields have no end".to_owned());
        }
        if head.has(flag::END_HEADERS) {
            first.length = block.len();
            return self.shared.borrow_mut().take(first, &block);
        }
        self.fragments = Some((first, block));
        Ok(())
    }
}
