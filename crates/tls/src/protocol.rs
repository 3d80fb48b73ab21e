//! Versions and cipher suites, by the names that etcd's flags have for them.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{SupportedCipherSuite, SupportedProtocolVersion};

use crate::error::TlsError;

/// A version of TLS.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum TlsVersion {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

impl TlsVersion {
    /// Reads etcd's name of a version.
    ///
    /// # Errors
    /// A sentence that names those there are.
    pub fn parse(name: &str) -> Result<TlsVersion, TlsError> {
        match name {
            "TLS1.2" => Ok(TlsVersion::Tls12),
            "TLS1.3" => Ok(TlsVersion::Tls13),
            "TLS1.0" | "TLS1.1" => Err(TlsError::Setting(format!(
                "{name} is broken and not offered; use TLS1.2 or TLS1.3"
            ))),
            _ => Err(TlsError::Setting(format!(
                "unexpected TLS version {name:?}; use TLS1.2 or TLS1.3"
            ))),
        }
    }
}

/// The suites that can be chosen, by etcd's names. Those of TLS 1.3 are always offered with it, as in
/// etcd, whatever is chosen.
pub const CIPHER_SUITES: [(&str, SupportedCipherSuite); 11] = {
    use aws_lc_rs::cipher_suite as suite;
    [
        ("TLS_AES_128_GCM_SHA256", suite::TLS13_AES_128_GCM_SHA256),
        ("TLS_AES_256_GCM_SHA384", suite::TLS13_AES_256_GCM_SHA384),
        ("TLS_CHACHA20_POLY1305_SHA256", suite::TLS13_CHACHA20_POLY1305_SHA256),
        ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
        ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
        (
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
            suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        ),
        (
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
            suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        ),
        ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
        ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
        (
            "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
            suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        ),
        (
            "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
            suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        ),
    ]
};

/// What is spoken: versions and suites.
#[derive(Clone, Debug)]
pub struct Protocol {
    provider: Arc<CryptoProvider>,
    versions: Vec<&'static SupportedProtocolVersion>,
}

impl Default for Protocol {
    fn default() -> Protocol {
        Protocol::new(&[], None, None).expect("nothing is chosen")
    }
}

impl Protocol {
    /// The protocol with these suites (all when none is named) and versions between these, both
    /// included (1.2 and the newest when not said).
    ///
    /// # Errors
    /// A sentence, if a suite is not known or not offered, or nothing is left.
    pub fn new(
        suites: &[String],
        oldest: Option<TlsVersion>,
        newest: Option<TlsVersion>,
    ) -> Result<Protocol, TlsError> {
        let oldest = oldest.unwrap_or(TlsVersion::Tls12);
        let newest = newest.unwrap_or(TlsVersion::Tls13);
        if newest < oldest {
            return Err(TlsError::Setting(
                "the newest version of TLS is older than the oldest; let --tls-min-version be at \
                 most --tls-max-version"
                    .to_owned(),
            ));
        }
        if oldest == TlsVersion::Tls13 && !suites.is_empty() {
            return Err(TlsError::Setting(
                "cipher suites cannot be configured when only TLS1.3 is enabled; remove \
                 --cipher-suites"
                    .to_owned(),
            ));
        }
        let chosen: Vec<SupportedCipherSuite> =
            suites.iter().map(|name| suite(name)).collect::<Result<_, _>>()?;
        let mut provider = aws_lc_rs::default_provider();
        if !chosen.is_empty() {
            provider
                .cipher_suites
                .retain(|suite| suite.tls13().is_some() || chosen.contains(suite));
        }
        let versions = [
            (TlsVersion::Tls13, &rustls::version::TLS13),
            (TlsVersion::Tls12, &rustls::version::TLS12),
        ];
        let versions = versions.into_iter().filter(|(v, _)| oldest <= *v && *v <= newest);
        let versions: Vec<_> = versions.map(|(_, version)| version).collect();
        let left = provider.cipher_suites.iter();
        if left.filter(|suite| versions.contains(&suite.version())).count() == 0 {
            return Err(TlsError::Setting(
                "none of --cipher-suites belongs to a version between --tls-min-version and \
                 --tls-max-version"
                    .to_owned(),
            ));
        }
        Ok(Protocol { provider: Arc::new(provider), versions })
    }

    pub(crate) fn provider(&self) -> Arc<CryptoProvider> {
        Arc::clone(&self.provider)
    }

    pub(crate) fn versions(&self) -> &[&'static SupportedProtocolVersion] {
        &self.versions
    }
}

fn suite(name: &str) -> Result<SupportedCipherSuite, TlsError> {
    if let Some((_, suite)) = CIPHER_SUITES.iter().find(|(known, _)| *known == name) {
        return Ok(*suite);
    }
    let weak = ["_CBC_", "_RC4_", "_3DES_", "TLS_RSA_WITH_"];
    let why = match name.starts_with("TLS_") && weak.iter().any(|part| name.contains(part)) {
        true => "is weak and not offered",
        false => "is unknown",
    };
    let known: Vec<&str> = CIPHER_SUITES.iter().map(|(name, _)| *name).collect();
    Err(TlsError::Setting(format!(
        "the cipher suite {name:?} {why}; there are {}",
        known.join(", ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(suites: &[&str], oldest: Option<TlsVersion>, newest: Option<TlsVersion>) -> String {
        let suites: Vec<String> = suites.iter().map(|name| (*name).to_owned()).collect();
        Protocol::new(&suites, oldest, newest).expect_err("it is wrong").to_string()
    }

    #[test]
    fn what_is_unknown_or_weak_or_leaves_nothing_gets_a_sentence() {
        let (old, new) = (Some(TlsVersion::Tls12), Some(TlsVersion::Tls13));
        assert!(refused(&["TLS_FLY"], None, None).contains("\"TLS_FLY\" is unknown"));
        let weak = refused(&["TLS_RSA_WITH_AES_128_CBC_SHA"], None, None);
        assert!(weak.contains("is weak and not offered"), "{weak}");
        assert!(refused(&[], new, old).contains("is older than the oldest"));
        let one = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256";
        assert!(refused(&[one], new, None).contains("only TLS1.3 is enabled"));
        let left = refused(&["TLS_AES_128_GCM_SHA256"], None, old);
        assert!(left.contains("none of --cipher-suites"), "{left}");
        assert!(TlsVersion::parse("TLS1.1").is_err() && TlsVersion::parse("ssl").is_err());
    }

    #[test]
    fn a_chosen_suite_stands_beside_those_of_the_newest_version() {
        let one = ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256".to_owned()];
        let protocol = Protocol::new(&one, None, None).expect("it is known");
        let suites = &protocol.provider().cipher_suites;
        assert_eq!(suites.iter().filter(|suite| suite.tls13().is_none()).count(), 1);
        assert_eq!(suites.iter().filter(|suite| suite.tls13().is_some()).count(), 3);
        assert_eq!(protocol.versions().len(), 2);
    }
}
