//! How connections to members are secured: etcdctl's options.

use std::path::PathBuf;

use clap::Args;
use jangada_tls::{Dialer, DialerSettings, KeyPair, Protocol, Trust};

/// How connections to members are secured.
#[derive(Args, Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Tls {
    /// Authorities that must vouch for members, in PEM [also: JANGADA_CACERT, ETCDCTL_CACERT; default:
    /// those that this machine trusts]
    #[arg(id = "tls-cacert", long = "cacert", global = true, value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// Certificate to show to members, in PEM [also: JANGADA_CERT, ETCDCTL_CERT]
    #[arg(id = "tls-cert", long = "cert", global = true, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Key of --cert, in PEM [also: JANGADA_KEY, ETCDCTL_KEY]
    #[arg(id = "tls-key", long = "key", global = true, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Believe whoever answers [also: JANGADA_INSECURE_SKIP_TLS_VERIFY and etcdctl's]
    #[arg(long, global = true)]
    insecure_skip_tls_verify: bool,
    /// Whether endpoints without a scheme are asked in plain text when no file is named [default: true;
    /// also: JANGADA_INSECURE_TRANSPORT and etcdctl's]
    #[arg(long, global = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    insecure_transport: Option<bool>,
    /// Whether variables say nothing here: they are about another cluster.
    #[arg(skip)]
    is_alone: bool,
    /// The name that certificates must have, if not that of the host.
    #[arg(skip)]
    server_name: Option<String>,
}

impl Tls {
    /// What these options say, and no variable; the files are authorities, certificate and key.
    pub(crate) fn alone(
        files: [Option<PathBuf>; 3],
        skip_verify: bool,
        insecure_transport: Option<bool>,
    ) -> Tls {
        let [cacert, cert, key] = files;
        let insecure_skip_tls_verify = skip_verify;
        Tls {
            cacert,
            cert,
            key,
            insecure_skip_tls_verify,
            insecure_transport,
            is_alone: true,
            server_name: None,
        }
    }

    /// Has certificates be for this name, if there is one.
    pub(crate) fn expect(&mut self, server_name: Option<String>) {
        self.server_name = server_name;
    }

    /// Whether an endpoint is asked over TLS: by its scheme or, if it has none, when anything but plain
    /// text was asked for.
    pub(crate) fn secures(&self, endpoint: &str) -> bool {
        match endpoint.split_once("://") {
            Some((scheme, _)) => scheme == "https",
            None => self.is_wanted(),
        }
    }

    fn is_wanted(&self) -> bool {
        let named = self.file("CACERT").is_some() || self.file("CERT").is_some();
        named || !self.flag("INSECURE_TRANSPORT", self.insecure_transport, true)
    }

    /// What makes the connections.
    pub(crate) fn dialer(&self) -> Result<Dialer, String> {
        let own = match (self.file("CERT"), self.file("KEY")) {
            (Some(certificate), Some(key)) => Some(KeyPair { certificate, key }),
            (None, None) => None,
            _ => return Err("--cert and --key go together; name both or none".to_owned()),
        };
        let skip = self.insecure_skip_tls_verify.then_some(true);
        let trust = match self.file("CACERT") {
            _ if self.flag("INSECURE_SKIP_TLS_VERIFY", skip, false) => Trust::Anybody,
            Some(path) => Trust::File(path),
            None => Trust::System,
        };
        let spoken = vec![b"h2".to_vec()];
        let protocol = Protocol::default();
        let server_name = self.server_name.clone();
        let settings = DialerSettings { own, trust, server_name, protocol, spoken };
        Dialer::open(settings).map_err(|error| error.to_string())
    }

    fn file(&self, name: &str) -> Option<PathBuf> {
        let option = match name {
            "CACERT" => &self.cacert,
            "CERT" => &self.cert,
            _ => &self.key,
        };
        option.clone().or_else(|| self.variable(name).map(PathBuf::from))
    }

    fn flag(&self, name: &str, option: Option<bool>, default: bool) -> bool {
        let said = option.or_else(|| self.variable(name).and_then(|text| text.trim().parse().ok()));
        said.unwrap_or(default)
    }

    /// The variable of that name, ours before etcdctl's.
    fn variable(&self, name: &str) -> Option<String> {
        ["JANGADA_", "ETCDCTL_"]
            .iter()
            .filter(|_| !self.is_alone)
            .filter_map(|prefix| std::env::var(format!("{prefix}{name}")).ok())
            .find(|value| !value.trim().is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_secured_by_its_scheme_or_by_the_files_that_are_named() {
        let plain = Tls::default();
        assert!(plain.secures("https://a:1"));
        assert!(!plain.secures("http://a:1") && !plain.secures("a:1"));
        let files = Tls { cacert: Some(PathBuf::from("ca.pem")), ..Tls::default() };
        assert!(files.secures("a:1") && !files.secures("http://a:1"));
        assert!(Tls { insecure_transport: Some(false), ..Tls::default() }.secures("a:1"));
        let half = Tls { cert: Some(PathBuf::from("a.pem")), ..Tls::default() };
        assert!(half.dialer().expect_err("the key is missing").contains("go together"));
    }
}
