//! The accepting side.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::certificate::Certificate;
use crate::error::TlsError;
use crate::files::{self, KeyPair};
use crate::origin::check_origin;
use crate::protocol::Protocol;
use crate::reload::Reload;
use crate::verify::Clients;

/// What an accepting side is told.
#[derive(Clone, Debug)]
pub struct AcceptorSettings {
    /// What is shown to whoever connects.
    pub own: KeyPair,
    /// The authorities that must vouch for whoever connects. Without one nobody is asked for a
    /// certificate.
    pub trusted: Option<PathBuf>,
    /// The certificates that do not count any more.
    pub revoked: Option<PathBuf>,
    /// The common names that certificates may have; any when empty.
    pub common_names: Vec<String>,
    /// The host names that certificates may be for; any when empty.
    pub host_names: Vec<String>,
    /// Whether a certificate must come from where it says that its holder lives
    /// (see [`check_origin`]).
    pub check_origin: bool,
    /// Versions and suites.
    pub protocol: Protocol,
    /// What may be spoken over it, by the names of ALPN; anything when empty.
    pub spoken: Vec<Vec<u8>>,
}

/// Accepts connections over TLS.
#[derive(Debug)]
pub struct Acceptor {
    config: Reload<ServerConfig>,
    check_origin: bool,
}

impl Acceptor {
    /// An acceptor of these files.
    ///
    /// # Errors
    /// If a file cannot be read or used.
    pub fn open(settings: AcceptorSettings) -> Result<Acceptor, TlsError> {
        let mut paths: Vec<PathBuf> = settings.own.paths().collect();
        paths.extend(settings.trusted.iter().chain(&settings.revoked).cloned());
        let check_origin = settings.check_origin;
        Ok(Acceptor { config: Reload::new(paths, move || config(&settings))?, check_origin })
    }

    /// Shakes hands. Gives the stream and what the certificate of the other side says, if it showed
    /// one.
    ///
    /// # Errors
    /// If the handshake fails or the other side is not let in.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        remote: IpAddr,
    ) -> io::Result<(TlsStream<S>, Option<Certificate>)> {
        let config = self.config.current().map_err(io::Error::other)?;
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        let Some([shown, ..]) = stream.get_ref().1.peer_certificates() else {
            return Ok((stream, None));
        };
        let certificate = Certificate::read(shown).map_err(io::Error::other)?;
        if self.check_origin {
            check_origin(&certificate, remote).await.map_err(io::Error::other)?;
        }
        Ok((stream, Some(certificate)))
    }
}

fn config(settings: &AcceptorSettings) -> Result<ServerConfig, TlsError> {
    let (chain, key) = settings.own.read()?;
    let provider = settings.protocol.provider();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(settings.protocol.versions())
        .map_err(|error| TlsError::Refused(error.to_string()))?;
    let builder = match &settings.trusted {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let roots = Arc::new(files::roots(path)?);
            let by_authority = WebPkiClientVerifier::builder_with_provider(roots, provider)
                .build()
                .map_err(|error| TlsError::content(path, "certificates of authorities", error))?;
            let revoked = settings.revoked.as_deref().map(files::revoked).transpose()?;
            builder.with_client_cert_verifier(Arc::new(Clients {
                by_authority,
                revoked: revoked.unwrap_or_default(),
                common_names: settings.common_names.clone(),
                host_names: settings.host_names.clone(),
            }))
        }
    };
    let mut config =
        builder.with_single_cert(chain, key).map_err(|error| settings.own.refused(&error))?;
    config.alpn_protocols = settings.spoken.clone();
    // Crate invariant 2.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}
