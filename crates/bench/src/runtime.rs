//! The thread that drives a benchmark.

use tokio::task::LocalSet;

/// Drives a future, and the tasks that it spawns locally, on a runtime of its own with one thread.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime of one thread needs nothing that can be missing");
    runtime.block_on(LocalSet::new().run_until(future))
}
