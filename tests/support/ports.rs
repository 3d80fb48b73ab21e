//! Free ports on the loopback.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::Mutex;

/// Below the range from which the kernel takes the local ports of outgoing connections, so that a
/// member that is killed finds its port free when it comes back.
const LOWEST: u16 = 12_000;
const HIGHEST: u16 = 31_000;

static TAKEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port on which nobody listens, given out once.
pub(crate) fn free_port() -> u16 {
    let mut taken = TAKEN.lock().expect("no test panics while it holds this");
    loop {
        let port = fastrand::u16(LOWEST..HIGHEST);
        if !taken.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            taken.insert(port);
            return port;
        }
    }
}
