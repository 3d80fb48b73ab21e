//! `Maintenance.Snapshot`: the state of this member as etcd's database file.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tonic::Status;

use super::{Received, framing};
use crate::backend::Backend;
use crate::edge::Context;
use crate::errors::ApiError;
use crate::etcd_file::{self, Piece};
use crate::proto::etcdserverpb as pb;

/// The pieces that wait for the client: a quarter of a megabyte.
const PIECES_MAX: usize = 8;

/// A client that takes nothing for so long is given up: the engine keeps the pages of the state that is
/// being sent, and its file grows meanwhile.
const STALL_MAX: Duration = Duration::from_secs(120);

/// Begins to send. What is sent is made on a thread of its own, as fast as the client takes it.
pub(crate) async fn begin<B: Backend>(
    context: &Context<B>,
    _: Received<pb::SnapshotRequest>,
) -> Result<mpsc::Receiver<Result<Bytes, Status>>, Status> {
    let turn = context.snapshots.clone().try_acquire_owned();
    let turn = turn.map_err(|_| Status::from(ApiError::TooManyRequests))?;
    let exported = context.backend.export().await?;
    let version = context.settings.version.storage.clone();
    let (sender, receiver) = mpsc::channel(PIECES_MAX);
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let give = |message| {
            let sending = tokio::time::timeout(STALL_MAX, sender.send(message));
            // A stalled client, or one that is gone, is given up.
            runtime.block_on(async { matches!(sending.await, Ok(Ok(()))) })
        };
        let mut take = |piece: Piece| {
            let message = framing::encode(&pb::SnapshotResponse {
                header: None, // etcd's has none
                remaining_bytes: piece.remaining,
                blob: piece.bytes.into(),
                version: version.clone(),
            });
            give(message)
        };
        tracing::info!(applied = exported.state.applied(), "sending a snapshot to a client");
        match etcd_file::send(&exported, &mut take) {
            Ok(()) => tracing::info!("sent a snapshot to a client"),
            Err(error) => {
                tracing::error!(%error, "the snapshot cannot be read");
                give(Err(ApiError::Corrupt.into()));
            }
        }
    });
    Ok(receiver)
}
