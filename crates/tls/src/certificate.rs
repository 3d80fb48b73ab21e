//! What a certificate says of its holder.

use std::net::IpAddr;

use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;

/// What a certificate says of its holder.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Certificate {
    /// The common name of the subject; empty if there is none. etcd's users can be named by it.
    pub common_name: String,
    /// The host names among the alternative names.
    pub host_names: Vec<String>,
    /// The addresses among the alternative names.
    pub addresses: Vec<IpAddr>,
}

impl Certificate {
    /// Reads a certificate.
    ///
    /// # Errors
    /// A sentence, if it cannot be read.
    pub fn read(der: &CertificateDer<'_>) -> Result<Certificate, String> {
        let (_, parsed) = x509_parser::parse_x509_certificate(der)
            .map_err(|error| format!("the certificate cannot be read: {error}"))?;
        let common_name = parsed.subject().iter_common_name().next();
        let common_name = common_name.and_then(|name| name.as_str().ok()).unwrap_or_default();
        let mut certificate =
            Certificate { common_name: common_name.to_owned(), ..Certificate::default() };
        let names = parsed
            .subject_alternative_name()
            .map_err(|error| format!("the certificate's names cannot be read: {error}"))?;
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::DNSName(name) => certificate.host_names.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => certificate.addresses.extend(address(bytes)),
                _ => {}
            }
        }
        Ok(certificate)
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

/// The serial number of a certificate, as it stands in it.
pub(crate) fn serial(der: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (_, parsed) = x509_parser::parse_x509_certificate(der).ok()?;
    Some(parsed.raw_serial().to_vec())
}
