//! Authorities and the certificates that they vouch for.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SerialNumber,
};

/// An authority, with its files in a folder.
pub(crate) struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate.
    pub(crate) file: PathBuf,
}

/// A certificate and its key.
#[derive(Clone)]
pub(crate) struct Issued {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    serial: u64,
}

impl Issued {
    /// Puts these files in the place of others, as whoever renews certificates does.
    pub(crate) fn replace(&self, other: &Issued) {
        for (from, to) in [(&self.key, &other.key), (&self.certificate, &other.certificate)] {
            let beside = to.with_extension("new");
            std::fs::copy(from, &beside).expect("a file can be copied");
            std::fs::rename(&beside, to).expect("a file can be moved");
        }
    }
}

impl Authority {
    /// An authority whose files begin with `name`.
    pub(crate) fn new(folder: &Path, name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("no names are good names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("keys can be made");
        let file = folder.join(format!("{name}.pem"));
        let certificate = params.self_signed(&key).expect("it can be signed");
        std::fs::write(&file, certificate.pem()).expect("a file can be written");
        Authority { folder: folder.to_owned(), issuer: Issuer::new(params, key), file }
    }

    /// A certificate with this common name, for these hosts.
    pub(crate) fn issue(&self, common_name: &str, hosts: &[&str]) -> Issued {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).expect("the hosts are well formed");
        let serial = u64::from(fastrand::u32(1..));
        params.serial_number = Some(SerialNumber::from(serial));
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("keys can be made");
        let signed = params.signed_by(&key, &self.issuer).expect("it can be signed");
        let path = |kind: &str| self.folder.join(format!("{common_name}-{serial}.{kind}"));
        let issued = Issued { certificate: path("crt"), key: path("key"), serial };
        std::fs::write(&issued.certificate, signed.pem()).expect("a file can be written");
        std::fs::write(&issued.key, key.serialize_pem()).expect("a file can be written");
        issued
    }

    /// Writes the list of these certificates, which do not count any more.
    pub(crate) fn revoke(&self, revoked: &[&Issued], file: &Path) {
        let now = SystemTime::now();
        let entry = |issued: &&Issued| RevokedCertParams {
            serial_number: SerialNumber::from(issued.serial),
            revocation_time: now.into(),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: now.into(),
            next_update: (now + Duration::from_secs(3600)).into(),
            crl_number: SerialNumber::from(fastrand::u64(1..)),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).expect("it can be signed");
        let text = list.pem().expect("it can be written");
        std::fs::write(file, text).expect("a file can be written");
    }
}
