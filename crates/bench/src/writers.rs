//! Clients that write as long as they are let, to see what something else costs them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use jangada_server::proto::etcdserverpb::PutRequest;
use tokio::task::JoinSet;

use crate::connection::{self, Access};
use crate::error::BenchError;
use crate::latency::{Latency, Recorder};

/// How many different keys they write.
const KEY_SPACE: u64 = 1000;

/// Writers on the thread that drives the benchmark.
pub(crate) struct Writers {
    run: Rc<Run>,
    tasks: JoinSet<()>,
}

struct Run {
    stop: Cell<bool>,
    recorder: RefCell<Recorder>,
    failed: Cell<u64>,
}

/// What writers have seen.
pub(crate) struct Written {
    pub(crate) latency: Latency,
    pub(crate) failed: u64,
}

impl Writers {
    /// Starts so many, each on a connection of its own with one request under way.
    ///
    /// # Errors
    ///
    /// An endpoint that does not answer.
    pub(crate) async fn start(
        endpoints: &[String],
        access: &Access,
        count: usize,
        value_bytes: usize,
    ) -> Result<Writers, BenchError> {
        let run = Rc::new(Run {
            stop: Cell::new(false),
            recorder: RefCell::default(),
            failed: Cell::new(0),
        });
        let mut tasks = JoinSet::new();
        let value = Bytes::from(vec![b'v'; value_bytes]);
        for number in 0..count {
            let endpoint = &endpoints[number % endpoints.len()];
            let connected = connection::connect(endpoint, access).await;
            let (_, mut client) = connected.map_err(|problem| BenchError::Unreachable {
                endpoint: endpoint.clone(),
                problem,
            })?;
            let (run, value) = (Rc::clone(&run), value.clone());
            let mut random = fastrand::Rng::with_seed(number as u64);
            tasks.spawn_local(async move {
                while !run.stop.get() {
                    let key = Bytes::from(format!("beside/{}", random.u64(0..KEY_SPACE)));
                    let value = value.clone();
                    let begin = Instant::now();
                    let put = PutRequest { key, value, ..PutRequest::default() };
                    match client.put(put).await {
                        Ok(_) => run.recorder.borrow_mut().record(begin.elapsed()),
                        Err(_) => run.failed.set(run.failed.get() + 1),
                    }
                }
            });
        }
        Ok(Writers { run, tasks })
    }

    /// What they have seen since this was asked last.
    pub(crate) fn take(&self) -> Written {
        let latency = self.run.recorder.take().latency();
        Written { latency, failed: self.run.failed.take() }
    }

    /// Ends them, and answers what they have seen since [`Writers::take`].
    pub(crate) async fn stop(mut self) -> Written {
        self.run.stop.set(true);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("a writer does not panic");
        }
        self.take()
    }
}
