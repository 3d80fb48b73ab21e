//! What secures the connections between members, as the transport sees it.
//!
//! Responsible for the border alone: the transport hands sockets over and moves bytes, whoever
//! implements [`Security`] shakes hands, encrypts and judges certificates. Without one every
//! connection is in plain text.
//!
//! The dialling side has no future: it is written to from within [`crate::Transport::flush`], where
//! nothing may wait. So it is a state that is given bytes and gives bytes, as TLS libraries have it.

use std::future::Future;
use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// Secures connections between members.
pub trait Security: Send + Sync {
    /// Shakes hands on a connection that was accepted from `remote`. The transport limits the time.
    fn accept(&self, stream: TcpStream, remote: SocketAddr) -> Accepting<'_>;

    /// The state of a connection to `host`, before its first byte.
    ///
    /// # Errors
    /// If no connection can be secured at all, with the reason.
    fn dial(&self, host: &str) -> io::Result<Box<dyn Secured>>;
}

/// A handshake under way on the accepting side.
pub type Accepting<'a> = Pin<Box<dyn Future<Output = io::Result<Box<dyn Duplex>>> + 'a>>;

/// A connection of the accepting side, plain or secured, whose socket can be asked.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + AsFd {}

impl<T: AsyncRead + AsyncWrite + Unpin + AsFd> Duplex for T {}

/// A connection of the dialling side: plain bytes on the one side, secured ones on the other.
pub trait Secured {
    /// Whether the handshake goes on.
    fn is_handshaking(&self) -> bool;

    /// Whether secured bytes wait to be sent.
    fn wants_write(&self) -> bool;

    /// Writes secured bytes.
    ///
    /// # Errors
    /// Those of the socket.
    fn write_secured(&mut self, socket: &mut dyn Write) -> io::Result<usize>;

    /// Reads secured bytes and takes them in.
    ///
    /// # Errors
    /// Those of the socket, or [`io::ErrorKind::InvalidData`] when what came is refused.
    fn read_secured(&mut self, socket: &mut dyn Read) -> io::Result<usize>;

    /// How many plain bytes can be read.
    fn readable(&mut self) -> usize;

    /// Reads plain bytes; 0 at the orderly end.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when there are none.
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize>;

    /// Takes plain bytes, as many as there is room for.
    ///
    /// # Errors
    /// If the connection is broken.
    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize>;
}

/// Where other members are accepted.
#[derive(Debug)]
pub struct PeerListener {
    /// The socket.
    pub socket: std::net::TcpListener,
    /// Whether connections are secured.
    pub secured: bool,
}

impl PeerListener {
    /// For the runtime.
    pub(crate) fn into_async(self) -> io::Result<(TcpListener, bool)> {
        self.socket.set_nonblocking(true)?;
        Ok((TcpListener::from_std(self.socket)?, self.secured))
    }
}

impl From<std::net::TcpListener> for PeerListener {
    fn from(socket: std::net::TcpListener) -> PeerListener {
        PeerListener { socket, secured: false }
    }
}

/// Whether connections to an address are secured: it says so by its scheme.
#[must_use]
pub fn is_secured(address: &str) -> bool {
    address.starts_with("https://")
}

/// The host of `host:port`, without the brackets of an IPv6 address.
#[must_use]
pub fn host_of(address: &str) -> &str {
    let host = crate::host_port(address);
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

/// Why an address that asks for it cannot be dialled.
pub(crate) fn not_secured(address: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("{address} asks for TLS, and this member was started without it"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_stands_before_its_port() {
        assert_eq!(host_of("https://a.b:2380"), "a.b");
        assert_eq!(host_of("http://[::1]:2380/"), "::1");
        assert_eq!(host_of("10.0.0.1:1"), "10.0.0.1");
        assert!(is_secured("https://a:1") && !is_secured("http://a:1") && !is_secured("a:1"));
    }
}
