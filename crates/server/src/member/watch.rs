//! What a member that runs looks at now and then: the log's size, the store's health, the space on
//! its disk, and who is connected.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use jangada_kv::{AlarmAction, AlarmKind, Command};

use super::broken;
use super::served::Served;
use super::space::{Sight, Space};
use crate::backend::{Backend, Connection};
use crate::serving::Serving;

/// How often.
const INTERVAL: Duration = Duration::from_secs(1);

/// The alarm CORRUPT is proposed again after so long, if the proposal was lost.
const TELL_AGAIN: Duration = Duration::from_secs(5);

/// Beyond this a retained log is worth a warning: a member is away, and the log is kept for it.
const LOG_WARNING_BYTES: u64 = 1 << 30;

/// Tells of compactions, warns when the log grows because it cannot be cut, each time it has doubled,
/// raises and ends the alarm NOSPACE for the disk, raises CORRUPT where nobody knows which member is
/// right (one that a majority contradicts is mended without it), and ends the process when the engine could not be
/// read, for what it holds is then not known. Ends the streams of a member that is quarantined.
pub(super) async fn watch(figures: Arc<jangada::Figures>, backend: Served, serving: Serving) {
    let store = backend.store().clone();
    let begin = Instant::now();
    let mut warn_at = LOG_WARNING_BYTES;
    let mut compacted = store.read().compact_revision();
    let mut snapshots = (0, 0);
    let mut space = Space::default();
    let mut corrupt_told: Option<Instant> = None;
    loop {
        tokio::time::sleep(INTERVAL).await;
        backend.observe_connections(begin.elapsed());
        let compact_revision = store.read().compact_revision();
        if compacted < compact_revision {
            // In effect at once; the space comes back in the background.
            tracing::info!(compact_revision, "finished scheduled compaction");
            compacted = compact_revision;
        }
        let standing = backend.node_status();
        serving.set_aside(standing.quarantine.is_some());
        if snapshots.0 < standing.snapshots_sent {
            tracing::info!(count = standing.snapshots_sent - snapshots.0, "sent database snapshot");
        }
        if snapshots.1 < standing.snapshots_installed {
            tracing::info!(applied = standing.record.applied.index.0, "applied snapshot");
        }
        snapshots = (standing.snapshots_sent, standing.snapshots_installed);
        if let Some(fault) = store.fault() {
            broken(&fault)
        }
        let disk_full = figures.log_full.load(Ordering::Relaxed) || standing.log_full;
        if let Some(command) = space.step(begin.elapsed(), &sight(&backend, disk_full)) {
            if disk_full {
                tracing::warn!(
                    "no space is left on the disk of the log; raising the alarm NOSPACE"
                );
            } else {
                tracing::info!(?command, "there is space again; ending the alarm NOSPACE");
            }
            // Nothing else here may wait for it. What is lost is proposed again.
            let backend = backend.clone();
            tokio::task::spawn_local(async move { backend.propose(command).await });
        }
        let told_lately = corrupt_told.is_some_and(|at| at.elapsed() < TELL_AGAIN);
        if let Some(index) = standing.hashes_differ
            && !told_lately
            && !store.read().is_raised(AlarmKind::Corrupt)
        {
            tracing::error!(
                index = index.0,
                "members differ, and no majority agrees; see which one"
            );
            corrupt_told = Some(Instant::now());
            let member = backend.status().member_id;
            let (action, kind) = (AlarmAction::Activate, AlarmKind::Corrupt);
            let (backend, command) = (backend.clone(), Command::Alarm { action, member, kind });
            tokio::task::spawn_local(async move { backend.propose(command).await });
        }
        let bytes = figures.log_bytes.load(Ordering::Relaxed);
        if warn_at <= bytes {
            tracing::warn!(
                bytes,
                "the log is kept because a member is away or the engine is behind; bring the \
                 member back, and watch the free space"
            );
            warn_at = bytes.saturating_mul(2);
        } else if bytes < LOG_WARNING_BYTES {
            warn_at = LOG_WARNING_BYTES;
        }
    }
}

fn sight(backend: &Served, disk_full: bool) -> Sight {
    let status = backend.status();
    let (in_use, alarms) = {
        let view = backend.store().read();
        (view.size_in_use(), view.alarms())
    };
    let raised = alarms.into_iter().filter(|alarm| alarm.kind == AlarmKind::NoSpace);
    let connected = backend.members().into_iter().filter(|m| m.connection != Connection::None);
    Sight {
        own: status.member_id,
        leads: status.leader == Some(status.member_id),
        disk_full,
        in_use,
        quota: backend.quota(),
        raised: raised.map(|alarm| alarm.member).collect(),
        connected: connected.map(|member| member.id).collect(),
    }
}
