//! Whether a certificate's holder connects from where its certificate says it lives.
//!
//! etcd's rule: a certificate without alternative names passes; otherwise the address that the
//! connection comes from must be one of its addresses, or one of its host names must lead to it, or the
//! name of that address must be one of its host names, wildcards included.

use std::net::IpAddr;

use crate::certificate::Certificate;

/// Checks the origin of a connection against the certificate that was shown on it.
///
/// # Errors
/// A sentence in etcd's words, if it comes from elsewhere.
pub async fn check_origin(certificate: &Certificate, remote: IpAddr) -> Result<(), String> {
    let remote = remote.to_canonical();
    let Certificate { host_names, addresses, .. } = certificate;
    if host_names.is_empty() && addresses.is_empty() || addresses.contains(&remote) {
        return Ok(());
    }
    if leads_here(host_names, remote).await || is_named(host_names, remote).await {
        return Ok(());
    }
    Err(format!("tls: \"{remote}\" does not match any of DNSNames {host_names:?} or {addresses:?}"))
}

/// Whether one of the names has this address.
async fn leads_here(names: &[String], remote: IpAddr) -> bool {
    for name in names.iter().filter(|name| !name.starts_with("*.")) {
        if let Ok(mut found) = tokio::net::lookup_host((name.as_str(), 0)).await
            && found.any(|address| address.ip().to_canonical() == remote)
        {
            return true;
        }
    }
    false
}

/// Whether the address has one of the names.
async fn is_named(names: &[String], remote: IpAddr) -> bool {
    if names.is_empty() {
        return false;
    }
    // The system's call blocks.
    let found = tokio::task::spawn_blocking(move || dns_lookup::lookup_addr(&remote)).await;
    let Ok(Ok(found)) = found else { return false };
    names.iter().any(|name| matches(name, found.trim_end_matches('.')))
}

/// A wildcard stands for anything before the rest, as in etcd.
fn matches(name: &str, found: &str) -> bool {
    match name.strip_prefix('*') {
        Some(rest) => rest.starts_with('.') && found.ends_with(rest),
        None => name == found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_stand_for_whatever_comes_before() {
        assert!(matches("*.etcd.svc", "a.etcd.svc"));
        assert!(matches("*.etcd.svc", "a.b.etcd.svc"));
        assert!(!matches("*.etcd.svc", "etcd.svc"));
        assert!(!matches("*etcd", "xetcd"));
        assert!(matches("a.b", "a.b"));
    }

    #[tokio::test]
    async fn a_certificate_counts_only_where_it_says_its_holder_lives() {
        let local: IpAddr = [127, 0, 0, 1].into();
        let check = async |names: &[&str], addresses: &[IpAddr]| {
            let certificate = Certificate {
                common_name: "a".to_owned(),
                host_names: names.iter().map(|name| (*name).to_owned()).collect(),
                addresses: addresses.to_vec(),
            };
            check_origin(&certificate, local).await
        };
        assert_eq!(check(&[], &[]).await, Ok(()));
        assert_eq!(check(&[], &[local]).await, Ok(()));
        assert_eq!(check(&["localhost"], &[]).await, Ok(()));
        let elsewhere: IpAddr = [10, 1, 2, 3].into();
        let sentence = check(&[], &[elsewhere]).await.expect_err("it lives elsewhere");
        assert!(sentence.contains("\"127.0.0.1\" does not match any of"), "{sentence}");
    }
}
