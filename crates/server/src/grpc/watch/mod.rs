//! The Watch service.
//!
//! Responsible for the stream's two directions: requests are turned into watchers, what the watchers
//! see into messages. Which events go to which watcher, and when progress may be said, is decided by
//! [`jangada_kv::WatchStream`].
//!
//! A stream has no task and no queue of its own: it goes on when the connection asks it for more to
//! send. While the client does not read, the connection does not ask.

mod body;
mod leader;
mod outgoing;
pub(crate) mod permission;
mod requests;
mod ticks;

use http_body_util::BodyExt;

use super::Call;
use super::messages::Requests;
use crate::auth::Asker;
use crate::backend::Backend;
use crate::body::StreamBody;
use crate::edge::Context;
use body::WatchBody;

/// A stream of watchers: its requests come in, its responses go out as long as the client wants any.
pub(crate) fn watch<B: Backend>(
    context: &Context<B>,
    asker: Asker<'_>,
    requests: impl Requests + Send + 'static,
    call: Call,
) -> StreamBody {
    WatchBody::new(context, asker, requests, call).boxed_unsync()
}
