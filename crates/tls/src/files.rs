//! Files in PEM: certificates, keys, lists of revoked certificates.

use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use crate::error::TlsError;

/// A certificate with those that vouch for it, and its key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyPair {
    /// The certificates in PEM, the own one first.
    pub certificate: PathBuf,
    /// The key in PEM.
    pub key: PathBuf,
}

impl KeyPair {
    pub(crate) fn read(
        &self,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
        let chain = certificates(&self.certificate)?;
        let bytes = read(&self.key)?;
        let key = PrivateKeyDer::from_pem_slice(&bytes)
            .map_err(|error| TlsError::content(&self.key, "a private key in PEM", error))?;
        Ok((chain, key))
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = PathBuf> {
        [self.certificate.clone(), self.key.clone()].into_iter()
    }

    /// The sentence for a key that belongs to another certificate, or is of a kind that is not known.
    pub(crate) fn refused(&self, error: &rustls::Error) -> TlsError {
        TlsError::Refused(format!(
            "the certificate in {} and the key in {} cannot be used together: {error}",
            self.certificate.display(),
            self.key.display()
        ))
    }
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| TlsError::File { path: path.to_owned(), error })
}

/// All certificates of a file, at least one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    const EXPECTED: &str = "certificates in PEM";
    let bytes = read(path)?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::content(path, EXPECTED, error))?;
    match found.is_empty() {
        true => Err(TlsError::content(path, EXPECTED, "there is none")),
        false => Ok(found),
    }
}

/// The authorities of a file.
pub(crate) fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots
            .add(certificate)
            .map_err(|error| TlsError::content(path, "certificates of authorities", error))?;
    }
    Ok(roots)
}

/// The authorities that this machine trusts.
pub(crate) fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    // What a distribution ships may hold certificates that are of no use here; the rest counts.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// The serial numbers of the certificates that a file revokes, in PEM or DER. As etcd, the list is
/// believed because it lies in a file of this machine: neither its signature nor its age is checked.
pub(crate) fn revoked(path: &Path) -> Result<Vec<Vec<u8>>, TlsError> {
    let bytes = read(path)?;
    let mut lists: Vec<_> = CertificateRevocationListDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .unwrap_or_default();
    if lists.is_empty() {
        lists.push(CertificateRevocationListDer::from(bytes));
    }
    let mut serials = Vec::new();
    for list in lists {
        let (_, list) = x509_parser::parse_x509_crl(&list).map_err(|error| {
            TlsError::content(path, "a list of revoked certificates in PEM or DER", error)
        })?;
        serials.extend(list.iter_revoked_certificates().map(|entry| entry.raw_serial().to_vec()));
    }
    Ok(serials)
}
