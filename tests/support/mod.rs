//! What the tests with real processes share: starting clusters, asking them, finding foreign
//! programs.
//!
//! Every process started here ends with the test that started it, and every test has a limit of
//! time after which it fails loudly instead of hanging. No test asserts how fast anything is.

#![allow(dead_code, reason = "every test uses another part of this")]

pub(crate) mod certificates;
pub(crate) mod client;
pub(crate) mod cluster;
pub(crate) mod foreign;
pub(crate) mod http;
pub(crate) mod ports;
pub(crate) mod process;
pub(crate) mod raw;

use std::future::Future;
use std::time::Duration;

/// Runs a test on one thread and fails it when it hangs. The limit is a guard, far above what the
/// test needs.
pub(crate) fn run<F: Future>(limit: Duration, test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be built");
    runtime.block_on(async {
        // Dropped while the panic unwinds, so that its processes show their logs.
        let mut test = std::pin::pin!(test);
        let ended = tokio::time::timeout(limit, &mut test).await;
        ended.unwrap_or_else(|_| panic!("the test did not end within {limit:?}: it hangs"))
    })
}

/// Asks again and again, a little later each time, until there is an answer. The caller's
/// [`run`] limits the time.
pub(crate) async fn until<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}
