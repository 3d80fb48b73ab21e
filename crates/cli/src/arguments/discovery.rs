//! Endpoints that are found in DNS: etcdctl's options.

use std::net::SocketAddr;

use clap::Args;
use jangada_server::discovery::Discovery;

/// Where endpoints are found, if not by `--endpoints`.
#[derive(Args, Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Discover {
    /// Domain whose SRV records _etcd-client-ssl._tcp and _etcd-client._tcp name the endpoints [also:
    /// JANGADA_DISCOVERY_SRV, ETCDCTL_DISCOVERY_SRV]
    #[arg(long, short = 'd', global = true, value_name = "DOMAIN")]
    discovery_srv: Option<String>,
    /// Tells clusters of one domain apart: _etcd-client-NAME._tcp [also: JANGADA_DISCOVERY_SRV_NAME and
    /// etcdctl's]
    #[arg(long, global = true, value_name = "NAME")]
    discovery_srv_name: Option<String>,
    /// The DNS server to ask, as address:port [default: those of the system; also:
    /// JANGADA_DISCOVERY_SRV_RESOLVER]
    #[arg(long, global = true, value_name = "ADDRESS")]
    discovery_srv_resolver: Option<SocketAddr>,
    /// Whether records for plain text count, and certificates may be for the hosts instead of the domain
    /// [default: true; also: JANGADA_INSECURE_DISCOVERY and etcdctl's]
    #[arg(long, global = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    insecure_discovery: Option<bool>,
}

/// What was found.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Found {
    /// Members to ask.
    pub(crate) endpoints: Vec<String>,
    /// The name that their certificates must have, if not that of their host.
    pub(crate) server_name: Option<String>,
}

impl Discover {
    /// Asks, if a domain is named.
    pub(crate) fn find(&self) -> Result<Option<Found>, String> {
        let domain = self.discovery_srv.clone().or_else(|| variable("DISCOVERY_SRV"));
        let Some(domain) = domain else { return Ok(None) };
        let resolver = match variable("DISCOVERY_SRV_RESOLVER")
            .filter(|_| self.discovery_srv_resolver.is_none())
        {
            None => self.discovery_srv_resolver,
            Some(text) => Some(text.parse().map_err(|_| {
                format!("the variable DISCOVERY_SRV_RESOLVER is '{text}'; write address:port")
            })?),
        };
        let name = self.discovery_srv_name.clone().or_else(|| variable("DISCOVERY_SRV_NAME"));
        let discovery =
            Discovery { domain: domain.clone(), name: name.unwrap_or_default(), resolver };
        let endpoints = discovery.endpoints().map_err(|error| error.to_string())?;
        let said = variable("INSECURE_DISCOVERY").and_then(|text| text.trim().parse().ok());
        chosen(domain, endpoints, self.insecure_discovery.or(said).unwrap_or(true)).map(Some)
    }
}

fn chosen(domain: String, mut endpoints: Vec<String>, insecure: bool) -> Result<Found, String> {
    if insecure {
        return Ok(Found { endpoints, server_name: None });
    }
    endpoints.retain(|endpoint| endpoint.starts_with("https://"));
    if endpoints.is_empty() {
        return Err(format!(
            "the records of {domain} name endpoints in plain text alone, and --insecure-discovery is \
             false; add records of _etcd-client-ssl._tcp"
        ));
    }
    Ok(Found { endpoints, server_name: Some(domain) })
}

/// The variable of that name, ours before etcdctl's.
fn variable(name: &str) -> Option<String> {
    ["JANGADA_", "ETCDCTL_"]
        .iter()
        .filter_map(|prefix| std::env::var(format!("{prefix}{name}")).ok())
        .find(|value| !value.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_counts_unless_it_is_ruled_out() {
        let found = || vec!["https://a:1".to_owned(), "http://b:1".to_owned()];
        let all = chosen("d".to_owned(), found(), true).expect("all count");
        assert_eq!(all, Found { endpoints: found(), server_name: None });
        let secured = chosen("d".to_owned(), found(), false).expect("one is secured");
        assert_eq!((secured.endpoints.len(), secured.server_name.as_deref()), (1, Some("d")));
        let plain = chosen("d".to_owned(), found().split_off(1), false);
        assert!(plain.expect_err("none is secured").contains("plain text alone"));
    }
}
