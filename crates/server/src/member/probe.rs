//! How far the other members are: each is asked something now and then, and the time is noted.
//!
//! Responsible for etcd's `etcd_network_peer_round_trip_time_seconds`. The question goes over a
//! connection of its own, so that the time is the network's and not that of what waits to be sent.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jangada::net::{Security, round_trip};

use super::served::Served;
use crate::Metrics;
use crate::backend::Backend;

/// How often each member is asked; etcd's figure.
const INTERVAL: Duration = Duration::from_secs(5);

/// How long one answer may take. One that takes longer is not noted: the member is not there.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// Asks all others, again and again.
pub(super) async fn probe(backend: Served, security: Arc<dyn Security>, metrics: Arc<Metrics>) {
    let own = backend.status().member_id;
    loop {
        let others = backend.members().into_iter().filter(|member| member.id != own);
        let mut known = BTreeSet::new();
        for member in others {
            known.insert(member.id);
            let Some(url) = member.peer_urls.first().cloned() else { continue };
            let security = Arc::clone(&security);
            // It waits, so it does so on a thread where nothing else does.
            let asked = tokio::task::spawn_blocking(move || {
                round_trip(&url, Some(&*security), ANSWER_TIMEOUT)
            });
            if let Ok(Ok(took)) = asked.await {
                metrics.round_trips.observe(member.id, took);
            }
        }
        metrics.round_trips.retain(&known);
        tokio::time::sleep(INTERVAL).await;
    }
}
