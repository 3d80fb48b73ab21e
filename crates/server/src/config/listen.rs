//! Opens the sockets a member listens on.
//!
//! Hosts are treated as Go treats them, so that a swapped binary is reached in the same ways: an
//! unspecified address takes IPv4 and IPv6 alike, and `localhost` is its IPv4 address where the
//! machine has one.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};

use jangada::net::PeerListener;
use socket2::{Domain, Protocol, Socket, Type};

use super::Config;
use super::error::ConfigError;
use super::url::{Scheme, Url};

/// How many connections may wait to be accepted; the system's own limit is usually lower.
const BACKLOG: i32 = 4096;

/// An open socket and the URL it serves.
#[derive(Debug)]
pub struct Listener {
    /// As configured.
    pub url: Url,
    /// Not blocking, ready for a runtime.
    pub socket: TcpListener,
    /// The scheme of a second URL at the same address, where the two differ.
    pub also: Option<Scheme>,
}

impl From<Listener> for PeerListener {
    fn from(Listener { url, socket, .. }: Listener) -> PeerListener {
        PeerListener { socket, secured: url.scheme() == Scheme::Https }
    }
}

/// Everything a member listens on.
#[derive(Debug)]
pub struct Listeners {
    /// For the other members.
    pub peer: Vec<Listener>,
    /// For clients.
    pub client: Vec<Listener>,
    /// For metrics and health alone.
    pub metrics: Vec<Listener>,
}

impl Config {
    /// Opens every socket of the configuration, or none.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Listen`] for the first one that cannot be opened.
    pub fn listen(&self) -> Result<Listeners, ConfigError> {
        let open = |name, urls: &[Url]| {
            urls.iter().map(|url| self.open(name, url)).collect::<Result<Vec<Listener>, _>>()
        };
        let mut shared: Vec<(Url, Option<Scheme>)> = Vec::new();
        for url in &self.listen_client_urls {
            // URLs of both kinds may share a port.
            match shared.iter_mut().find(|(other, _)| other.authority() == url.authority()) {
                Some((other, also)) if other.scheme() != url.scheme() => *also = Some(url.scheme()),
                _ => shared.push((url.clone(), None)),
            }
        }
        let client = shared
            .into_iter()
            .map(|(url, also)| Ok(Listener { also, ..self.open("listen-client-urls", &url)? }));
        Ok(Listeners {
            peer: open("listen-peer-urls", &self.listen_peer_urls)?,
            client: client.collect::<Result<_, _>>()?,
            metrics: open("listen-metrics-urls", &self.listen_metrics_urls)?,
        })
    }

    fn open(&self, name: &'static str, url: &Url) -> Result<Listener, ConfigError> {
        bind(url, self.reuse_port)
            .map(|socket| Listener { url: url.clone(), socket, also: None })
            .map_err(|error| ConfigError::Listen { name, url: url.to_string(), error })
    }
}

/// A URL that can be listened on: at an address of this machine or `localhost`.
pub(super) fn check(name: &'static str, url: &Url) -> Result<(), ConfigError> {
    let host = url.host();
    if host == "localhost" || host.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    let problem =
        format!("expected IP in URL for binding, not '{host}'; 0.0.0.0 stands for all addresses");
    Err(ConfigError::UnusableUrl { name, url: url.to_string(), problem })
}

fn bind(url: &Url, reuse_port: bool) -> io::Result<TcpListener> {
    match url.host().parse::<IpAddr>() {
        Ok(ip) if ip.is_unspecified() => bind_everywhere(url.port(), reuse_port),
        Ok(ip) => bind_address(SocketAddr::new(ip, url.port()), reuse_port),
        Err(_) => bind_address(resolve(url)?, reuse_port),
    }
}

fn resolve(url: &Url) -> io::Result<SocketAddr> {
    (url.host(), url.port())
        .to_socket_addrs()?
        .min_by_key(|address| !address.is_ipv4())
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the host has no address"))
}

/// All addresses of both families, or of IPv4 where the machine has no IPv6.
fn bind_everywhere(port: u16, reuse_port: bool) -> io::Result<TcpListener> {
    match bind_address(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port), reuse_port) {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            bind_address(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port), reuse_port)
        }
        outcome => outcome,
    }
}

fn bind_address(address: SocketAddr, reuse_port: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        socket.set_only_v6(false)?;
    }
    // A restart must not wait for the old connections' TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    fn url(text: &str) -> Url {
        text.parse().expect("the text is a URL")
    }

    #[test]
    fn localhost_and_addresses_are_reached_over_ipv4() {
        for host in ["localhost", "127.0.0.1", "0.0.0.0"] {
            let listener = bind(&url(&format!("http://{host}:0")), false).expect("a free port");
            let port = listener.local_addr().expect("a bound socket").port();
            assert!(TcpStream::connect(("127.0.0.1", port)).is_ok(), "{host}");
        }
    }

    #[test]
    fn a_port_in_use_is_told_in_a_sentence() {
        let first = bind(&url("http://127.0.0.1:0"), false).expect("a free port");
        let port = first.local_addr().expect("a bound socket").port();
        for host in ["127.0.0.1", "0.0.0.0", "localhost"] {
            let url = url(&format!("http://{host}:{port}"));
            let error = bind(&url, false).expect_err("the port is taken");
            let name = "listen-client-urls";
            let sentence = ConfigError::Listen { name, url: url.to_string(), error }.to_string();
            assert!(sentence.contains("already in use"), "{sentence}");
            assert!(sentence.contains("--listen-client-urls"), "{sentence}");
        }
    }

    #[test]
    fn names_are_refused() {
        assert!(check("listen-client-urls", &url("http://localhost:1")).is_ok());
        assert!(check("listen-client-urls", &url("http://[::1]:1")).is_ok());
        assert!(check("listen-client-urls", &url("http://example.com:1")).is_err());
        assert!(check("listen-client-urls", &url("http://:1")).is_err());
        assert!(check("listen-client-urls", &url("https://127.0.0.1:1")).is_ok());
    }
}
