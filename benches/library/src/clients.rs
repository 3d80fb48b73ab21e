//! Clients that put one value after the other.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use jangada_measure::{Figure, cpu};

use crate::store::{Put, put_of};

/// A cluster that takes puts.
pub trait Cluster: Send + Sync + 'static {
    /// Puts, and answers with the revision once the leader has applied it.
    fn put(&self, put: Put) -> impl Future<Output = u64> + Send;

    /// Ends what runs for it.
    fn stop(&self) -> impl Future<Output = ()> + Send;
}

/// What clients do at the moment.
const WARM_UP: u8 = 0;
const MEASURE: u8 = 1;
const STOP: u8 = 2;

/// How much of the measured time a cluster gets before, to elect a leader and fill its buffers.
const WARM_UP_PART: u32 = 4;

/// How long the last put of a client may take: whoever waits longer is never answered.
const PATIENCE: Duration = Duration::from_secs(20);

/// Has so many clients put for so long.
pub async fn drive<C: Cluster>(cluster: C, proposers: usize, time: Duration) -> Vec<Figure> {
    let cluster = Arc::new(cluster);
    // Whoever leads answers.
    cluster.put(put_of(0, 0)).await;
    let phase = Arc::new(AtomicU8::new(WARM_UP));
    let clients: Vec<_> = (0..proposers)
        .map(|client| tokio::spawn(put_on(cluster.clone(), client, phase.clone())))
        .collect();
    tokio::time::sleep(time / WARM_UP_PART).await;
    let (begin, cpu_before) = (Instant::now(), cpu::process());
    phase.store(MEASURE, Ordering::Relaxed);
    tokio::time::sleep(time).await;
    phase.store(STOP, Ordering::Relaxed);
    let (elapsed, used) = (begin.elapsed(), cpu::process() - cpu_before);
    let mut puts = 0;
    for client in clients {
        let counted = tokio::time::timeout(PATIENCE, client).await;
        puts += counted.expect("every put is answered").expect("a client does not panic");
    }
    cluster.stop().await;
    let each = |sum: Duration| sum.as_secs_f64() * 1e6 / puts as f64;
    vec![
        Figure::new("puts", "/s", puts as f64 / elapsed.as_secs_f64()),
        Figure::new("CPU", "us/put", each(used)),
    ]
}

/// One client: how many of its puts were answered while it was measured.
async fn put_on<C: Cluster>(cluster: Arc<C>, client: usize, phase: Arc<AtomicU8>) -> u64 {
    let mut counted = 0;
    for number in 0.. {
        cluster.put(put_of(client, number)).await;
        match phase.load(Ordering::Relaxed) {
            WARM_UP => {}
            MEASURE => counted += 1,
            _ => break,
        }
    }
    counted
}
