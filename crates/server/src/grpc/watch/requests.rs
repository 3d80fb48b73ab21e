//! Requests of a stream of watchers, and the answers to them.

use jangada_kv::{WatchRefusal, WatchRequest, WatchStream};

use super::permission::check_watch;
use crate::auth::Asker;
use crate::backend::Backend;
use crate::edge::Context;
use crate::errors::{ApiError, WATCH_DUPLICATE_ID, WATCH_EMPTY_RANGE, status_text};
use crate::grpc::header::header;
use crate::proto::etcdserverpb as pb;
use pb::watch_create_request::FilterType;
use pb::watch_request::RequestUnion;

/// The watcher that stands for none, or for all of a stream.
pub(super) const NO_WATCHER: i64 = -1;

/// Carries a request out, and says what is to be answered at once, if anything.
pub(super) fn answer<B: Backend>(
    context: &Context<B>,
    asker: Asker<'_>,
    stream: &mut WatchStream,
    request: pb::WatchRequest,
) -> Option<pb::WatchResponse> {
    match request.request_union? {
        RequestUnion::CreateRequest(request) => Some(create(context, asker, stream, request)),
        RequestUnion::CancelRequest(request) => {
            // An unknown watcher is none to answer about, as in etcd.
            stream.cancel(request.watch_id).then(|| pb::WatchResponse {
                header: Some(header(&context.backend, stream.revision())),
                watch_id: request.watch_id,
                canceled: true,
                ..pb::WatchResponse::default()
            })
        }
        RequestUnion::ProgressRequest(_) => {
            stream.ask_progress();
            None
        }
    }
}

fn create<B: Backend>(
    context: &Context<B>,
    asker: Asker<'_>,
    stream: &mut WatchStream,
    request: pb::WatchCreateRequest,
) -> pb::WatchResponse {
    let header = Some(header(&context.backend, stream.revision()));
    let made = make(context, asker, stream, request);
    let created = pb::WatchResponse { header, created: true, ..pb::WatchResponse::default() };
    match made {
        Ok(watch_id) => pb::WatchResponse { watch_id, ..created },
        Err(cancel_reason) => {
            pb::WatchResponse { watch_id: NO_WATCHER, canceled: true, cancel_reason, ..created }
        }
    }
}

/// Makes a watcher, or says why not.
fn make<B: Backend>(
    context: &Context<B>,
    asker: Asker<'_>,
    stream: &mut WatchStream,
    request: pb::WatchCreateRequest,
) -> Result<i64, String> {
    let filters = |filter: FilterType| request.filters.contains(&(filter as i32));
    let (without_puts, without_deletes) =
        (filters(FilterType::Noput), filters(FilterType::Nodelete));
    let key = if request.key.is_empty() { b"\0".as_slice().into() } else { request.key };
    // A start below zero is refused before anything else is looked at, as in etcd.
    if 0 <= request.start_revision {
        check_watch(context, asker, &key, &request.range_end).map_err(status_text)?;
    }
    let watch = WatchRequest {
        id: request.watch_id,
        key,
        range_end: request.range_end,
        start_revision: request.start_revision,
        replaced: request.prev_kv,
        progress: request.progress_notify,
        fragments: request.fragment,
        without_puts,
        without_deletes,
    };
    stream.create(watch).map_err(|refusal| match refusal {
        WatchRefusal::Negative => ApiError::Compacted.text().to_owned(),
        WatchRefusal::EmptyRange => WATCH_EMPTY_RANGE.to_owned(),
        WatchRefusal::DuplicateId => WATCH_DUPLICATE_ID.to_owned(),
        WatchRefusal::TooMany => ApiError::TooManyRequests.text().to_owned(),
    })
}
