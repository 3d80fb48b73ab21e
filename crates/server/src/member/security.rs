//! TLS of a running member: its files are opened, and joined with its listeners and its transport.

use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use jangada::net::{Accepting, Duplex, Secured, Security};
use jangada_tls::{
    Acceptor, AcceptorSettings, ClientConnection, Dialer, DialerSettings, KeyPair, Stream,
    TlsError, Trust, self_signed,
};
use tokio::net::TcpStream;

use crate::config::{Config, ConfigError, Scheme, TlsSide, Url};

/// Where certificates of our own making lie within the data directory, as in etcd.
const FIXTURES: &str = "fixtures";

/// What clients may speak over TLS.
const CLIENT_PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Opens the files of one side.
struct Files<'a> {
    config: &'a Config,
    side: &'a TlsSide,
    own: Option<KeyPair>,
}

impl<'a> Files<'a> {
    fn open(
        config: &'a Config,
        side: &'a TlsSide,
        name: &str,
        urls: &[&[Url]],
    ) -> Result<Files<'a>, TlsError> {
        let secured = || urls.iter().copied().flatten().filter(|url| url.scheme() == Scheme::Https);
        let own = match &side.own {
            None if side.is_self_signed && secured().next().is_some() => {
                let folder = config.data_dir.join(FIXTURES).join(name);
                let hosts: Vec<String> = secured().map(|url| url.host().to_owned()).collect();
                Some(self_signed(&folder, &hosts, config.tls.self_signed_years)?)
            }
            own => own.clone(),
        };
        Ok(Files { config, side, own })
    }

    fn acceptor(&self, spoken: &[&[u8]]) -> Result<Option<Arc<Acceptor>>, TlsError> {
        let Some(own) = self.own.clone() else { return Ok(None) };
        let side = self.side;
        // Nobody vouches for certificates that members make themselves.
        let is_self_signed = side.own.is_none();
        let settings = AcceptorSettings {
            own,
            trusted: side.trusted.clone().filter(|_| !is_self_signed),
            revoked: side.revoked.clone(),
            common_names: side.common_names.clone(),
            host_names: side.host_names.clone(),
            check_origin: side.check_origin,
            protocol: self.config.tls.protocol.clone(),
            spoken: spoken.iter().map(|name| name.to_vec()).collect(),
        };
        Acceptor::open(settings).map(|acceptor| Some(Arc::new(acceptor)))
    }

    fn dialer(&self) -> Result<Dialer, TlsError> {
        let side = self.side;
        let trust = match &side.trusted {
            _ if side.own.is_none() && side.is_self_signed => Trust::Anybody,
            Some(path) => Trust::File(path.clone()),
            None => Trust::System,
        };
        // As etcd: members that are found in DNS show certificates of their domain, unless authorities
        // of their own vouch for them.
        let discovery = self.config.discovery.as_ref().filter(|_| side.trusted.is_none());
        Dialer::open(DialerSettings {
            server_name: discovery.map(|discovery| discovery.domain.clone()),
            own: side.dialling.clone().or_else(|| self.own.clone()),
            trust,
            protocol: self.config.tls.protocol.clone(),
            spoken: Vec::new(),
        })
    }
}

/// What accepts clients over TLS, if any are.
///
/// # Errors
/// If a file cannot be used.
pub(super) fn of_clients(config: &Config) -> Result<Option<Arc<Acceptor>>, ConfigError> {
    let urls = [&*config.listen_client_urls, &*config.listen_metrics_urls];
    let files = Files::open(config, &config.tls.client, "client", &urls);
    files.and_then(|files| files.acceptor(&CLIENT_PROTOCOLS)).map_err(ConfigError::Tls)
}

/// What secures the connections between members.
///
/// # Errors
/// If a file cannot be used.
pub(super) fn of_peers(config: &Config) -> Result<Arc<dyn Security>, ConfigError> {
    let urls = [&*config.listen_peer_urls];
    let open = || {
        let files = Files::open(config, &config.tls.peer, "peer", &urls)?;
        Ok(Peers { acceptor: files.acceptor(&[])?, dialer: files.dialer()? })
    };
    open().map(|peers| Arc::new(peers) as Arc<dyn Security>).map_err(ConfigError::Tls)
}

/// Secures connections between members.
#[derive(Debug)]
struct Peers {
    acceptor: Option<Arc<Acceptor>>,
    dialer: Dialer,
}

impl Security for Peers {
    fn accept(&self, stream: TcpStream, remote: SocketAddr) -> Accepting<'_> {
        Box::pin(async move {
            let acceptor = self.acceptor.as_ref().ok_or_else(|| {
                io::Error::other("this member has no certificate; set --peer-cert-file")
            })?;
            let (stream, _) = acceptor.accept(stream, remote.ip()).await?;
            Ok(Box::new(Stream::Tls(Box::new(stream))) as Box<dyn Duplex>)
        })
    }

    fn dial(&self, host: &str) -> io::Result<Box<dyn Secured>> {
        Ok(Box::new(Dialled(self.dialer.begin(host)?)))
    }
}

/// A connection to another member.
struct Dialled(ClientConnection);

impl Secured for Dialled {
    fn is_handshaking(&self) -> bool {
        self.0.is_handshaking()
    }

    fn wants_write(&self) -> bool {
        self.0.wants_write()
    }

    fn write_secured(&mut self, mut socket: &mut dyn Write) -> io::Result<usize> {
        self.0.write_tls(&mut socket)
    }

    fn read_secured(&mut self, mut socket: &mut dyn Read) -> io::Result<usize> {
        let count = self.0.read_tls(&mut socket)?;
        let processed = self.0.process_new_packets();
        processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(count)
    }

    fn readable(&mut self) -> usize {
        // What cannot be processed is told by the next read.
        self.0.process_new_packets().map_or(0, |state| state.plaintext_bytes_to_read())
    }

    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.reader().read(bytes)
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.writer().write_vectored(slices)
    }
}
