//! The URLs that members and clients know one another by: a scheme, a host and a port.
//!
//! Nothing else is allowed, as in etcd: the text of peer URLs is what member ids are made from, so
//! a URL keeps the spelling its author gave it.

use std::fmt;
use std::str::FromStr;

/// What a URL speaks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Scheme {
    /// Plain TCP.
    Http,
    /// TLS.
    Https,
}

/// A validated `scheme://host:port`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Url {
    text: String,
    scheme: Scheme,
    host: String,
    port: u16,
}

impl Url {
    /// What it speaks.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host name or address; an IPv6 address without its brackets. May be empty.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `host:port`, with brackets where the host is an IPv6 address.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            return format!("[{}]:{}", self.host, self.port);
        }
        format!("{}:{}", self.host, self.port)
    }

    /// The text as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a text is not a URL; ends the sentence "it takes ...".
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UrlError(&'static str);

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for UrlError {}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Url, UrlError> {
        let (scheme, rest) = match text.split_once("://") {
            Some(("http", rest)) => (Scheme::Http, rest),
            Some(("https", rest)) => (Scheme::Https, rest),
            Some(("unix" | "unixs", _)) => {
                return Err(UrlError("TCP addresses only; unix sockets are not built"));
            }
            _ => return Err(UrlError("URLs that begin with http:// or https://")),
        };
        if rest.contains(['/', '?', '#']) {
            return Err(UrlError("URLs of scheme, host and port alone, without a path"));
        }
        if rest.contains(['@', ' ']) {
            return Err(UrlError("URLs without a user name and without blanks"));
        }
        let Some((host, port)) = rest.rsplit_once(':') else {
            return Err(UrlError("URLs with a port, such as http://localhost:2379"));
        };
        let port: u16 = port
            .parse()
            .map_err(|_| UrlError("URLs with a port between 0 and 65535 at their end"))?;
        let host = match (host.strip_prefix('['), host.strip_suffix(']')) {
            (Some(_), Some(_)) => &host[1..host.len() - 1],
            (None, None) if !host.contains(':') => host,
            _ => return Err(UrlError("IPv6 addresses in brackets, such as http://[::1]:2379")),
        };
        Ok(Url { text: text.to_owned(), scheme, host: host.to_owned(), port })
    }
}

/// Reads URLs divided by commas and sorts them, as etcd does; an empty text is an empty list.
///
/// # Errors
///
/// Names the first part that is no URL.
pub(super) fn parse_list(text: &str) -> Result<Vec<Url>, UrlError> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let mut urls: Vec<Url> =
        text.split(',').map(|part| part.trim().parse()).collect::<Result<_, _>>()?;
    urls.sort();
    Ok(urls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_urls_come_apart() {
        let check = |text: &str, host: &str, port: u16, authority: &str| {
            let url: Url = text.parse().expect("the text is a URL");
            assert_eq!((url.host(), url.port()), (host, port));
            assert_eq!(url.authority(), authority);
            assert_eq!(url.to_string(), text);
        };
        check("http://localhost:2379", "localhost", 2379, "localhost:2379");
        check("https://10.0.0.1:1", "10.0.0.1", 1, "10.0.0.1:1");
        check("http://[::1]:2380", "::1", 2380, "[::1]:2380");
        check("http://:2379", "", 2379, ":2379");
    }

    #[test]
    fn bad_urls_are_refused() {
        for text in [
            "",
            "localhost:2379",
            "ftp://localhost:1",
            "unix://a:1",
            "http://localhost",
            "http://localhost:",
            "http://localhost:70000",
            "http://localhost:1/path",
            "http://::1:2379",
            "http://[::1:2379",
            "http://user@host:1",
        ] {
            assert!(text.parse::<Url>().is_err(), "{text}");
        }
    }
}
