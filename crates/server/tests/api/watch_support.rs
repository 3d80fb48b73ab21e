//! A client's side of a stream of watchers.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use jangada_server::proto::etcdserverpb as pb;
use jangada_server::proto::mvccpb::{Event, event::EventType};
use pb::watch_client::WatchClient;
use pb::watch_request::RequestUnion;
use tokio::sync::mpsc;
use tonic::codegen::tokio_stream::Stream;
use tonic::{Request, Status, Streaming};

use crate::support::{Server, bytes};

/// How long anything may take before the test is given up.
const HANG: Duration = Duration::from_secs(60);

/// Requests as they are given.
struct Requests(mpsc::UnboundedReceiver<pb::WatchRequest>);

impl Stream for Requests {
    type Item = pb::WatchRequest;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}

/// A stream of watchers.
pub(crate) struct Watching {
    requests: Option<mpsc::UnboundedSender<pb::WatchRequest>>,
    pub(crate) responses: Streaming<pb::WatchResponse>,
}

impl Watching {
    pub(crate) async fn open(server: &Server) -> Watching {
        Watching::with(server, |_| {}).await.expect("the stream opens")
    }

    /// A stream with metadata of its own.
    pub(crate) async fn with(
        server: &Server,
        change: impl FnOnce(&mut Request<()>),
    ) -> Result<Watching, Status> {
        let (requests, receiver) = mpsc::unbounded_channel();
        let mut head = Request::new(());
        change(&mut head);
        let request = head.map(|()| Requests(receiver));
        let mut client =
            WatchClient::new(server.channel().await).max_decoding_message_size(usize::MAX);
        let responses = client.watch(request).await?.into_inner();
        Ok(Watching { requests: Some(requests), responses })
    }

    pub(crate) fn ask(&self, request: RequestUnion) {
        let request = pb::WatchRequest { request_union: Some(request) };
        let requests = self.requests.as_ref().expect("the client has not closed its side");
        requests.send(request).expect("the stream is open");
    }

    /// Closes the client's side.
    pub(crate) fn close(&mut self) {
        self.requests = None;
    }

    pub(crate) async fn next(&mut self) -> pb::WatchResponse {
        self.try_next().await.expect("the stream goes on").expect("it has not ended")
    }

    pub(crate) async fn try_next(&mut self) -> Result<Option<pb::WatchResponse>, Status> {
        let next = tokio::time::timeout(HANG, self.responses.message()).await;
        next.expect("something comes")
    }

    /// Makes a watcher and answers what is said of it.
    pub(crate) async fn create(&mut self, request: pb::WatchCreateRequest) -> pb::WatchResponse {
        self.ask(RequestUnion::CreateRequest(request));
        let response = self.next().await;
        assert!(response.created);
        response
    }

    pub(crate) fn cancel(&self, watch_id: i64) {
        self.ask(RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id }));
    }

    pub(crate) fn ask_progress(&self) {
        self.ask(RequestUnion::ProgressRequest(pb::WatchProgressRequest {}));
    }
}

/// A watch on one key.
pub(crate) fn on(key: &str) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest { key: bytes(key), ..pb::WatchCreateRequest::default() }
}

/// A watch on everything.
pub(crate) fn on_all() -> pb::WatchCreateRequest {
    pb::WatchCreateRequest { range_end: bytes("\0"), ..on("") }
}

/// Events in short.
pub(crate) fn in_short(events: &[Event]) -> Vec<String> {
    events.iter().map(in_short_one).collect()
}

fn in_short_one(event: &Event) -> String {
    let kv = event.kv.as_ref().expect("an event is about a key");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let what = match event.r#type() {
        EventType::Put => format!("{}={}", text(&kv.key), text(&kv.value)),
        EventType::Delete => format!("{} gone", text(&kv.key)),
    };
    let before = match &event.prev_kv {
        Some(before) => format!(" was {}@{}", text(&before.value), before.mod_revision),
        None => String::new(),
    };
    format!("{what}@{}{before}", kv.mod_revision)
}
