//! A socket between members: its options, and writing to it without waiting.

use std::io::{ErrorKind, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use super::link::Link;
use crate::session::SendQueue;

/// How many unanswered questions make a connection broken.
const KEEPALIVE_PROBES: u32 = 3;

/// Small messages leave at once, and a machine that vanished is noticed by the system even when
/// nothing is sent, and when what is sent is never acknowledged.
pub(super) fn configure(stream: &TcpStream, keepalive: Duration) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let probes = TcpKeepalive::new()
        .with_time(keepalive)
        .with_interval((keepalive / KEEPALIVE_PROBES).max(Duration::from_secs(1)))
        .with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&probes)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_user_timeout(Some(keepalive))?;
    Ok(())
}

/// Whether the other side has closed the connection, and everything it sent has been read.
///
/// Asks the system itself: the runtime knows only what it has been told so far.
pub(super) fn is_closed_by_peer(stream: &impl AsFd) -> bool {
    matches!(SockRef::from(stream).peek(&mut [MaybeUninit::uninit()]), Ok(0))
}

/// How many slices one write takes: at more than a KiB for each that was not copied together, far
/// more bytes than a socket's buffer takes at once.
const SLICES_MAX: usize = 128;

/// Writes what waits until nothing does or the socket takes no more.
///
/// # Errors
/// The connection is broken.
pub(super) fn write(link: &Link, queue: &mut SendQueue) -> std::io::Result<()> {
    while !queue.is_empty() {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let filled = queue.fill(&mut slices);
        match link.try_write_vectored(&slices[..filled]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => queue.advance(count),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    link.flush()
}
