//! No replication: a task that applies what clients send to it.

use tokio::sync::{mpsc, oneshot};

use crate::clients::Cluster;
use crate::store::{Put, Store};

/// The task's inbox.
pub struct Floor {
    puts: mpsc::UnboundedSender<(Put, oneshot::Sender<u64>)>,
}

impl Floor {
    pub async fn start() -> Floor {
        let (puts, mut inbox) = mpsc::unbounded_channel::<(Put, oneshot::Sender<u64>)>();
        tokio::spawn(async move {
            let mut store = Store::default();
            while let Some((put, reply)) = inbox.recv().await {
                // A client that stops while it waits has gone.
                let _ = reply.send(store.apply(put));
            }
        });
        Floor { puts }
    }
}

impl Cluster for Floor {
    async fn put(&self, put: Put) -> u64 {
        let (reply, answer) = oneshot::channel();
        self.puts.send((put, reply)).expect("the task runs");
        answer.await.expect("the task answers")
    }

    async fn stop(&self) {}
}
