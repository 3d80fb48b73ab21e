//! Certificates of our own making (`--auto-tls`, `--peer-auto-tls`): they keep listeners out, and
//! vouch for nobody.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair as Key, KeyUsagePurpose};

use crate::error::TlsError;
use crate::files::{self, KeyPair};

const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The certificate and key in `folder`, made there for `hosts` and `years` if there are none.
///
/// # Errors
/// If they cannot be written, or those there are have expired.
pub fn self_signed(folder: &Path, hosts: &[String], years: u32) -> Result<KeyPair, TlsError> {
    let pair = KeyPair { certificate: folder.join("cert.pem"), key: folder.join("key.pem") };
    if pair.certificate.exists() && pair.key.exists() {
        return check_age(&pair).map(|()| pair);
    }
    if years == 0 {
        return Err(TlsError::Setting(
            "--self-signed-cert-validity is 0; a certificate must be good for a year or more"
                .to_owned(),
        ));
    }
    let refused = |error: rcgen::Error| {
        TlsError::Refused(format!("no certificate can be made for {}: {error}", hosts.join(", ")))
    };
    let mut names: Vec<String> = hosts.to_vec();
    names.sort();
    names.dedup();
    let mut params = CertificateParams::new(names).map_err(refused)?;
    params.distinguished_name.push(DnType::OrganizationName, "etcd");
    let now = SystemTime::now();
    params.not_before = now.into();
    params.not_after = (now + years * YEAR).into();
    params.key_usages = vec![KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = Key::generate().map_err(refused)?;
    let certificate = params.self_signed(&key).map_err(refused)?;
    let write = |path: &Path, text: &str| -> Result<(), TlsError> {
        let failed = |error| TlsError::File { path: path.to_owned(), error };
        let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path);
        file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(failed)
    };
    fs::create_dir_all(folder)
        .and_then(|()| fs::set_permissions(folder, Permissions::from_mode(0o700)))
        .map_err(|error| TlsError::File { path: folder.to_owned(), error })?;
    write(&pair.certificate, &certificate.pem())?;
    write(&pair.key, &key.serialize_pem())?;
    Ok(pair)
}

fn check_age(pair: &KeyPair) -> Result<(), TlsError> {
    let path = &pair.certificate;
    let found = files::certificates(path)?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&found[0])
        .map_err(|error| TlsError::content(path, "a certificate", error))?;
    if certificate.validity().is_valid() {
        return Ok(());
    }
    Err(TlsError::content(
        path,
        "a certificate that is good now",
        "remove it and its key to have \
         new ones made",
    ))
}
