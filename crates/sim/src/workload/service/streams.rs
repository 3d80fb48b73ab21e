//! Calls of many messages both ways: their bodies, polled by hand as a connection would.
//!
//! Responsible for bringing a client's messages to the server in gRPC's frames and the server's to the
//! client, for clients who do not read for a while, and for the end of a stream. Not responsible for
//! what the messages mean.
//!
//! 1. Whoever does not read has nothing made for him: his stream is not polled.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame};
use jangada_raft::{Index, NodeId};
use jangada_server::body::StreamBody;
use jangada_server::grpc::methods::Method;

use super::{CallId, CallWaker, Refusal, Service, lock};
use crate::application::store::StoreApplication;
use crate::world::World;

/// The bytes before each message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// What a stream has told its client in one turn.
#[derive(Debug)]
pub struct Told {
    /// The messages, in order.
    pub messages: Vec<Bytes>,
    /// How the stream has ended, if it has.
    pub ended: Option<Ending>,
    /// Whether the server has nothing more to say: everything there is was read.
    pub is_idle: bool,
    /// The process that told it.
    pub process: u64,
    /// The last entry that the member had applied for certain.
    pub applied: Index,
    /// Whether the disk of the member is damaged, or the member quarantined.
    pub is_sick: bool,
}

/// How a stream has ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ending {
    /// With its process, or with all that counts about it.
    Lost,
    /// By the server.
    Refused(Refusal),
}

type Opening = Pin<Box<dyn Future<Output = Result<StreamBody, Refusal>> + Send>>;

/// A stream of a client.
pub(super) struct Stream {
    member: NodeId,
    pub(super) process: u64,
    work: Work,
    waker: Waker,
    inbox: Inbox,
    gathered: BytesMut,
    /// Whether the client reads.
    reads: bool,
    /// How many frames the client takes at a time.
    frames_max: usize,
}

enum Work {
    Opening(Opening),
    Open(StreamBody),
}

/// What the client has sent and the server has not taken.
#[derive(Clone, Debug, Default)]
struct Inbox {
    inner: Arc<Mutex<(VecDeque<Bytes>, Option<Waker>)>>,
}

impl Body for Inbox {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut inner = lock(&self.inner);
        if let Some(frame) = inner.0.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(frame))));
        }
        inner.1 = Some(task.waker().clone());
        Poll::Pending
    }
}

/// What a poll came to, beside messages.
enum Polled {
    /// Nothing more for now.
    Pending,
    /// The client has taken what it takes at a time.
    Enough,
    Ended(Ending),
}

impl Stream {
    pub(super) fn member(&self) -> NodeId {
        self.member
    }

    fn poll(&mut self, messages: &mut Vec<Bytes>) -> Polled {
        let mut task = Context::from_waker(&self.waker);
        if let Work::Opening(opening) = &mut self.work {
            match opening.as_mut().poll(&mut task) {
                Poll::Pending => return Polled::Pending,
                Poll::Ready(Err(refusal)) => return Polled::Ended(Ending::Refused(refusal)),
                Poll::Ready(Ok(body)) => self.work = Work::Open(body),
            }
        }
        let Work::Open(body) = &mut self.work else { unreachable!("it has just been opened") };
        for _ in 0..self.frames_max {
            match Pin::new(&mut *body).poll_frame(&mut task) {
                Poll::Pending => return Polled::Pending,
                Poll::Ready(None) => return Polled::Ended(Ending::Lost),
                Poll::Ready(Some(Err(error))) => panic!("a body made of memory fails: {error}"),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.gathered.extend_from_slice(&data),
                    Err(frame) => {
                        let trailers = frame.into_trailers().expect("it is no data");
                        return Polled::Ended(Ending::Refused(refusal_of(&trailers)));
                    }
                },
            }
            while let Some(message) = take(&mut self.gathered) {
                messages.push(message);
            }
        }
        Polled::Enough
    }
}

/// The first whole message of what was gathered.
fn take(gathered: &mut BytesMut) -> Option<Bytes> {
    let length: [u8; 4] = gathered.get(1..PREFIX_BYTES)?.try_into().expect("there are four");
    let length = u32::from_be_bytes(length) as usize;
    if gathered.len() < PREFIX_BYTES + length {
        return None;
    }
    gathered.advance(PREFIX_BYTES);
    Some(gathered.split_to(length).freeze())
}

/// The status that trailers tell.
fn refusal_of(trailers: &HeaderMap) -> Refusal {
    let text = |name: &str| {
        let value = trailers.get(name).map(|value| value.as_bytes()).unwrap_or_default();
        String::from_utf8_lossy(&unescaped(value)).into_owned()
    };
    Refusal { code: text("grpc-status").parse().unwrap_or(-1), text: text("grpc-message") }
}

/// What `%20` and the like stand for.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let (mut plain, mut at) = (Vec::with_capacity(text.len()), 0);
    while at < text.len() {
        let code = text.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        let code = code.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match code.filter(|_| text[at] == b'%') {
            Some(byte) => {
                plain.push(byte);
                at += 3;
            }
            None => {
                plain.push(text[at]);
                at += 1;
            }
        }
    }
    plain
}

impl Service {
    /// Opens a stream on a member. False if its process does not live.
    pub fn open(
        &mut self,
        world: &World<StoreApplication>,
        id: CallId,
        member: NodeId,
        method: Method,
        metadata: HeaderMap,
        frames_max: usize,
    ) -> bool {
        let Some(process) = self.process(world, member) else { return false };
        let (number, edge) = (process.number, process.edge.clone());
        let inbox = Inbox::default();
        let requests = inbox.clone();
        let opening = async move {
            let opened = edge.answer_stream(method, &metadata, requests).await;
            opened.map_err(|status| Refusal {
                code: status.code() as i32,
                text: status.message().to_owned(),
            })
        };
        let waker = Waker::from(Arc::new(CallWaker { call: id, ready: Arc::clone(&self.ready) }));
        let stream = Stream {
            member,
            process: number,
            work: Work::Opening(Box::pin(opening)),
            waker,
            inbox,
            gathered: BytesMut::new(),
            reads: true,
            frames_max,
        };
        self.streams.insert(id, stream);
        lock(&self.ready.calls).push(id);
        true
    }

    /// The client sends a message.
    pub fn send(&mut self, id: CallId, message: &[u8]) {
        let Some(stream) = self.streams.get(&id) else { return };
        let mut framed = BytesMut::with_capacity(PREFIX_BYTES + message.len());
        framed.put_u8(0);
        framed.put_u32(u32::try_from(message.len()).expect("a request is not that long"));
        framed.put_slice(message);
        let waker = {
            let mut inner = lock(&stream.inbox.inner);
            inner.0.push_back(framed.freeze());
            inner.1.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }

    /// The client reads, or does not for a while (invariant 1).
    pub fn reads(&mut self, id: CallId, reads: bool) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.reads = reads;
            lock(&self.ready.calls).push(id);
        }
    }

    /// The process that serves a stream.
    #[must_use]
    pub fn process_of(&self, id: CallId) -> Option<u64> {
        self.streams.get(&id).map(|stream| stream.process)
    }

    /// The client goes.
    pub fn close(&mut self, id: CallId) {
        self.streams.remove(&id);
    }

    /// Ends the streams of members whose answers count for nothing.
    pub(super) fn end_astray(
        &mut self,
        world: &World<StoreApplication>,
        told: &mut Vec<(CallId, Told)>,
    ) {
        let members: Vec<NodeId> = self.processes.keys().copied().collect();
        for member in members.into_iter().filter(|member| world.is_astray(*member)) {
            let of_member = self.streams.iter().filter(|(_, stream)| stream.member == member);
            let lost: Vec<CallId> = of_member.map(|(id, _)| *id).collect();
            lost.iter().for_each(|id| drop(self.streams.remove(id)));
            told.extend(lost.into_iter().map(|id| (id, Told::lost())));
        }
    }

    /// Lets a stream go on. Answers whether it has to wait for another turn.
    pub(super) fn poll_stream(
        &mut self,
        world: &World<StoreApplication>,
        id: CallId,
        told: &mut Vec<(CallId, Told)>,
    ) {
        let Some(stream) = self.streams.get_mut(&id).filter(|stream| stream.reads) else { return };
        let status = world.status(stream.member).expect("streams end with their process");
        let mut messages = Vec::new();
        let polled = stream.poll(&mut messages);
        let (member, process) = (stream.member, stream.process);
        let disk = world.disk(member);
        if disk.is_dead() || disk.failure().is_some() || world.is_astray(member) {
            self.streams.remove(&id);
            told.push((id, Told::lost()));
            return;
        }
        let mut is_idle = false;
        let ended = match polled {
            Polled::Ended(ending) => {
                self.streams.remove(&id);
                Some(ending)
            }
            Polled::Enough => {
                lock(&self.ready.calls).push(id);
                None
            }
            // One that goes on by itself has more to say.
            Polled::Pending => {
                is_idle =
                    matches!(stream.work, Work::Open(_)) && !lock(&self.ready.calls).contains(&id);
                None
            }
        };
        if messages.is_empty() && ended.is_none() && !is_idle {
            return;
        }
        let applied = status.record.applied.index;
        let is_sick = status.quarantine.is_some() || world.ledger().is_marked(member);
        told.push((id, Told { messages, ended, is_idle, process, applied, is_sick }));
    }
}

impl Told {
    /// The stream is lost without a word.
    pub(super) fn lost() -> Told {
        Told {
            messages: Vec::new(),
            ended: Some(Ending::Lost),
            is_idle: false,
            process: 0,
            applied: Index(0),
            is_sick: false,
        }
    }
}
