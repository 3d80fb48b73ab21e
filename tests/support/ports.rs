//! Free ports on the loopback.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Mutex;

use socket2::{Domain, Socket, Type};

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
        if !taken.contains(&port) && is_free(port) {
            taken.insert(port);
            return port;
        }
    }
}

/// Whether nobody listens there. The socket is bound and never listens: another test may be starting
/// a process at this moment, which holds a copy of the socket until it runs its own program, and a
/// copy that listened would keep the port from the member it is meant for.
pub(crate) fn is_free(port: u16) -> bool {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let bind = |socket: Socket| {
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())
    };
    Socket::new(Domain::IPV4, Type::STREAM, None).and_then(bind).is_ok()
}
