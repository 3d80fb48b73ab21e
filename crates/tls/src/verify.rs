//! Who is believed: the client's certificate on the accepting side, and nobody's in particular on a
//! dialling side that was told so.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use crate::certificate::{Certificate, serial};

/// Judges clients: first by the authorities, then by what else is asked of their certificates.
#[derive(Debug)]
pub(crate) struct Clients {
    pub(crate) by_authority: Arc<dyn ClientCertVerifier>,
    /// Serial numbers of revoked certificates.
    pub(crate) revoked: Vec<Vec<u8>>,
    /// One of these must be the common name, unless there are none.
    pub(crate) common_names: Vec<String>,
    /// For one of these the certificate must be, unless there are none.
    pub(crate) host_names: Vec<String>,
}

impl Clients {
    fn judge(&self, shown: &CertificateDer<'_>) -> Result<(), Error> {
        let refuse = || Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);
        if !self.common_names.is_empty() {
            let certificate = Certificate::read(shown).map_err(Error::General)?;
            if !self.common_names.contains(&certificate.common_name) {
                tracing::warn!(
                    common_name = certificate.common_name,
                    allowed = ?self.common_names,
                    "a certificate was shown whose common name is not allowed"
                );
                return Err(refuse());
            }
        }
        if !self.host_names.is_empty() {
            let parsed = ParsedCertificate::try_from(shown)?;
            let is_for = |name: &String| {
                ServerName::try_from(name.as_str())
                    .is_ok_and(|name| rustls::client::verify_server_name(&parsed, &name).is_ok())
            };
            if !self.host_names.iter().any(is_for) {
                tracing::warn!(
                    allowed = ?self.host_names,
                    "a certificate was shown that is not for an allowed host name"
                );
                return Err(refuse());
            }
        }
        Ok(())
    }
}

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.by_authority.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.by_authority.verify_client_cert(end_entity, intermediates, now)?;
        if !self.revoked.is_empty() {
            let is_revoked = |certificate: &CertificateDer<'_>| {
                serial(certificate).is_none_or(|serial| self.revoked.contains(&serial))
            };
            if is_revoked(end_entity) || intermediates.iter().any(is_revoked) {
                return Err(Error::InvalidCertificate(CertificateError::Revoked));
            }
        }
        self.judge(end_entity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_authority.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_authority.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_authority.supported_verify_schemes()
    }
}

/// Believes any server that holds the key of the certificate it shows: what etcd does with
/// certificates that members make themselves. It keeps listeners out and impostors in.
#[derive(Debug)]
pub(crate) struct Anybody(pub(crate) Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
