//! The dialling side.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::error::TlsError;
use crate::files::{self, KeyPair};
use crate::protocol::Protocol;
use crate::reload::Reload;
use crate::verify::Anybody;

/// Whom to believe that it is who it says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trust {
    /// Whom the authorities of this file vouch for.
    File(PathBuf),
    /// Whom the authorities vouch for that this machine trusts.
    System,
    /// Anybody: what is sent is kept from listeners, not from whoever stands in between.
    Anybody,
}

/// What a dialling side is told.
#[derive(Clone, Debug)]
pub struct DialerSettings {
    /// What is shown to whoever asks for a certificate.
    pub own: Option<KeyPair>,
    /// Whom to believe.
    pub trust: Trust,
    /// The name that certificates must be for, instead of the host that is dialled.
    pub server_name: Option<String>,
    /// Versions and suites.
    pub protocol: Protocol,
    /// What is to be spoken over it, by the names of ALPN.
    pub spoken: Vec<Vec<u8>>,
}

/// Makes connections over TLS.
#[derive(Debug)]
pub struct Dialer {
    config: Reload<ClientConfig>,
    server_name: Option<String>,
}

impl Dialer {
    /// A dialer of these files.
    ///
    /// # Errors
    /// If a file cannot be read or used.
    pub fn open(settings: DialerSettings) -> Result<Dialer, TlsError> {
        let mut paths: Vec<PathBuf> = settings.own.iter().flat_map(KeyPair::paths).collect();
        if let Trust::File(path) = &settings.trust {
            paths.push(path.clone());
        }
        let server_name = settings.server_name.clone();
        Ok(Dialer { config: Reload::new(paths, move || config(&settings))?, server_name })
    }

    /// The state of a connection to `host`, before its first byte.
    ///
    /// # Errors
    /// If the host is neither a name nor an address, or the files cannot be used.
    pub fn begin(&self, host: &str) -> io::Result<ClientConnection> {
        let config = self.config.current().map_err(io::Error::other)?;
        ClientConnection::new(config, self.name(host)?).map_err(io::Error::other)
    }

    /// Shakes hands over a stream to `host`.
    ///
    /// # Errors
    /// If the handshake fails or the other side is not believed.
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        host: &str,
        stream: S,
    ) -> io::Result<TlsStream<S>> {
        let config = self.config.current().map_err(io::Error::other)?;
        TlsConnector::from(config).connect(self.name(host)?, stream).await
    }

    fn name(&self, host: &str) -> io::Result<ServerName<'static>> {
        let name = self.server_name.as_deref().unwrap_or(host);
        ServerName::try_from(name.to_owned()).map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is no host name"))
        })
    }
}

fn config(settings: &DialerSettings) -> Result<ClientConfig, TlsError> {
    let provider = settings.protocol.provider();
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(settings.protocol.versions())
        .map_err(|error| TlsError::Refused(error.to_string()))?;
    let builder = match &settings.trust {
        Trust::File(path) => builder.with_root_certificates(files::roots(path)?),
        Trust::System => builder.with_root_certificates(files::system_roots()),
        Trust::Anybody => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        }
    };
    let mut config = match &settings.own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let (chain, key) = own.read()?;
            builder.with_client_auth_cert(chain, key).map_err(|error| own.refused(&error))?
        }
    };
    config.alpn_protocols = settings.spoken.clone();
    // Crate invariant 2.
    config.resumption = Resumption::disabled();
    Ok(config)
}
