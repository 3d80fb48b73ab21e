//! The settings of TLS, for clients and between members.
//!
//! Responsible for reading them and for checking them against one another and against the URLs; what
//! they mean for a connection is `jangada-tls`'s business. The files are read later, when the data
//! directory is there.

use std::net::IpAddr;
use std::path::PathBuf;

use jangada_tls::{KeyPair, Protocol, TlsError, TlsVersion};

use super::error::ConfigError;
use super::settings::Settings;
use super::url::{Scheme, Url};
use super::warning::Warning;

/// How connections are secured.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Versions and suites, for both sides.
    pub protocol: Protocol,
    /// How long certificates of our own making are good, in years.
    pub self_signed_years: u32,
    /// Between clients and this member.
    pub client: TlsSide,
    /// Between members.
    pub peer: TlsSide,
}

/// The settings of one side.
#[derive(Clone, Debug, Default)]
pub struct TlsSide {
    /// What is shown to whoever connects.
    pub own: Option<KeyPair>,
    /// What is shown when connecting; that of `own` when not set.
    pub dialling: Option<KeyPair>,
    /// The authorities that vouch for others.
    pub trusted: Option<PathBuf>,
    /// The list of certificates that do not count any more.
    pub revoked: Option<PathBuf>,
    /// Whether whoever connects must show a certificate.
    pub client_cert_auth: bool,
    /// Whether this member makes its certificate itself.
    pub is_self_signed: bool,
    /// The common names that may connect; any when empty.
    pub common_names: Vec<String>,
    /// The host names that a certificate of whoever connects may be for; any when empty.
    pub host_names: Vec<String>,
    /// Whether whoever connects must come from where its certificate says that it lives.
    pub check_origin: bool,
}

/// The names of one side's settings.
struct Names {
    certificate: &'static str,
    key: &'static str,
    dialling_certificate: &'static str,
    dialling_key: &'static str,
    auth: &'static str,
    trusted: &'static str,
    revoked: &'static str,
    auto: &'static str,
    common_names: Option<&'static str>,
    host_names: &'static str,
    listen: &'static [&'static str],
}

const CLIENT: Names = Names {
    certificate: "cert-file",
    key: "key-file",
    dialling_certificate: "client-cert-file",
    dialling_key: "client-key-file",
    auth: "client-cert-auth",
    trusted: "trusted-ca-file",
    revoked: "client-crl-file",
    auto: "auto-tls",
    common_names: None,
    host_names: "client-cert-allowed-hostname",
    listen: &["listen-client-urls", "listen-metrics-urls"],
};

const PEER: Names = Names {
    certificate: "peer-cert-file",
    key: "peer-key-file",
    dialling_certificate: "peer-client-cert-file",
    dialling_key: "peer-client-key-file",
    auth: "peer-client-cert-auth",
    trusted: "peer-trusted-ca-file",
    revoked: "peer-crl-file",
    auto: "peer-auto-tls",
    common_names: Some("peer-cert-allowed-cn"),
    host_names: "peer-cert-allowed-hostname",
    listen: &["listen-peer-urls"],
};

impl Tls {
    /// Reads and checks the settings.
    pub(super) fn from_settings(
        settings: &Settings,
        warnings: &mut Vec<Warning>,
    ) -> Result<Tls, ConfigError> {
        let version = |name| match settings.text(name) {
            "" => Ok(None),
            text => TlsVersion::parse(text).map(Some).map_err(ConfigError::Tls),
        };
        let suites = settings.list("cipher-suites");
        let protocol =
            Protocol::new(suites, version("tls-min-version")?, version("tls-max-version")?)
                .map_err(ConfigError::Tls)?;
        let years = settings.integer("self-signed-cert-validity");
        let mut peer = side(settings, &PEER, warnings)?;
        peer.check_origin = !settings.flag("peer-skip-client-san-verification")
            && !settings.flag("experimental-peer-skip-client-san-verification");
        Ok(Tls {
            protocol,
            self_signed_years: u32::try_from(years).unwrap_or(u32::MAX),
            client: side(settings, &CLIENT, warnings)?,
            peer,
        })
    }
}

fn wrong(sentence: impl Into<String>) -> ConfigError {
    ConfigError::Tls(TlsError::Setting(sentence.into()))
}

fn side(
    settings: &Settings,
    names: &Names,
    warnings: &mut Vec<Warning>,
) -> Result<TlsSide, ConfigError> {
    let path = |name| match settings.text(name) {
        "" => None,
        path => Some(PathBuf::from(path)),
    };
    let pair = |certificate, key| match (path(certificate), path(key)) {
        (Some(certificate), Some(key)) => Ok(Some(KeyPair { certificate, key })),
        (None, None) => Ok(None),
        _ => Err(wrong(format!("--{certificate} and --{key} must both be present or both absent"))),
    };
    let names_of = |name| -> Vec<String> {
        let items = settings.text(name).split(',').map(str::trim);
        items.filter(|item| !item.is_empty()).map(str::to_owned).collect()
    };
    let found = TlsSide {
        own: pair(names.certificate, names.key)?,
        dialling: pair(names.dialling_certificate, names.dialling_key)?,
        trusted: path(names.trusted),
        revoked: path(names.revoked),
        client_cert_auth: settings.flag(names.auth),
        is_self_signed: settings.flag(names.auto),
        common_names: names.common_names.map(names_of).unwrap_or_default(),
        host_names: names_of(names.host_names),
        check_origin: false,
    };
    if found.own.is_some() && found.client_cert_auth && found.trusted.is_none() {
        return Err(wrong(format!(
            "--{} needs --{}: the authorities that must vouch for whoever connects",
            names.auth, names.trusted
        )));
    }
    if !found.common_names.is_empty() && !found.host_names.is_empty() {
        let common_names = names.common_names.expect("they were given under this name");
        return Err(wrong(format!(
            "--{common_names} and --{} are mutually exclusive: remove one",
            names.host_names
        )));
    }
    let asks = found.trusted.is_some() || found.client_cert_auth;
    let filters = [
        (!found.common_names.is_empty(), names.common_names.unwrap_or_default()),
        (!found.host_names.is_empty(), names.host_names),
        (found.revoked.is_some(), names.revoked),
    ];
    if let Some((_, name)) = filters.iter().find(|(is_set, _)| *is_set && !asks) {
        return Err(wrong(format!(
            "--{name} judges certificates, and without --{} nobody is asked for one",
            names.trusted
        )));
    }
    check_urls(settings, names, &found, warnings)?;
    Ok(found)
}

/// The URLs and the files must speak of the same thing.
fn check_urls(
    settings: &Settings,
    names: &Names,
    found: &TlsSide,
    warnings: &mut Vec<Warning>,
) -> Result<(), ConfigError> {
    for name in names.listen {
        for url in settings.urls(name) {
            match url.scheme() {
                Scheme::Https if found.own.is_none() && !found.is_self_signed => {
                    return Err(wrong(format!(
                        "TLS key/cert (--{}, --{}) must be provided for {url} of --{name}; --{} \
                         makes them, for a trial",
                        names.certificate, names.key, names.auto
                    )));
                }
                Scheme::Http if found.own.is_some() => {
                    let url = url.to_string();
                    warnings.push(Warning::TlsIgnored { name, url, files: names.certificate });
                }
                Scheme::Http | Scheme::Https => {}
            }
        }
    }
    if found.own.is_some() && found.is_self_signed {
        let (name, files) = (names.auto, names.certificate);
        warnings.push(Warning::AutoTlsIgnored { name, files });
    }
    Ok(())
}

/// The addresses that carry plain text and can be reached from other machines.
pub(super) fn exposed(urls: &[&[Url]]) -> Vec<String> {
    let is_exposed = |url: &&Url| {
        let is_local = url.host() == "localhost"
            || url.host().parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        url.scheme() == Scheme::Http && !is_local
    };
    urls.iter().copied().flatten().filter(is_exposed).map(Url::to_string).collect()
}
