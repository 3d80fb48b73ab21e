//! Who the members are, as the Domain Name System says: SRV records (RFC 2782), read as etcd reads
//! them.
//!
//! Responsible for the names that are asked for, for what is made of the answers, and for which of the
//! members found is the one that asks. Not responsible for addresses: hosts are looked up by the
//! system, as when they are connected to.

use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;
use std::time::Duration;

use domain::base::iana::Rcode;
use domain::base::{Name, Question, Rtype};
use domain::rdata::Srv;
use domain::resolv::StubResolver;
use domain::resolv::stub::conf::{ResolvConf, ServerConf, Transport};

use crate::config::{Scheme, Url};

/// How long one name may take: the system's resolver asks each server twice within that.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// More members than any cluster has; what a resolver says beyond that is left out.
const RECORDS_MAX: usize = 256;

/// Where records about a cluster are found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Discovery {
    /// The domain (`--discovery-srv`).
    pub domain: String,
    /// What tells clusters of one domain apart (`--discovery-srv-name`); empty for none.
    pub name: String,
    /// The server that is asked (`--discovery-srv-resolver`); `None` for those of the system.
    pub resolver: Option<SocketAddr>,
}

/// Why the records do not say who the members are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DiscoveryError {
    /// Nobody is named, neither for TLS nor for plain text.
    Nobody {
        /// What was asked for, and what came of it.
        asked: Vec<String>,
    },
    /// The one that asks is not among the members.
    NotAmong {
        /// Its peer URLs.
        advertised: Vec<String>,
        /// The members that are named.
        found: Vec<String>,
    },
    /// The records name this member, and with another scheme than it has.
    Scheme {
        /// Its peer URL.
        advertised: String,
        /// The URL that the records give it.
        found: String,
    },
}

impl std::fmt::Display for DiscoveryError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DiscoveryError::Nobody { asked } => write!(
                f,
                "error querying DNS SRV records: {}; check the records and --discovery-srv",
                asked.join("; ")
            ),
            DiscoveryError::NotAmong { advertised, found } => write!(
                f,
                "cannot find the local member in SRV records: it advertises {}, and the records name \
                 {}; add a record for it, or correct --initial-advertise-peer-urls",
                advertised.join(","),
                found.join(",")
            ),
            DiscoveryError::Scheme { advertised, found } => write!(
                f,
                "bootstrap at {found} from DNS has scheme mismatch with expected peer {advertised}; \
                 _etcd-server-ssl is for https, _etcd-server for http"
            ),
        }
    }
}

impl std::error::Error for DiscoveryError {}

/// A record: where a service is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Place {
    priority: u16,
    host: String,
    port: u16,
}

impl Place {
    fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}:{}", self.host, self.port)
    }
}

impl Discovery {
    /// The first members as `--initial-cluster` has them; `own` is the name of the member that asks, and
    /// is given to what it advertises. The others are numbered: their names are not in the records.
    ///
    /// # Errors
    /// See [`DiscoveryError`].
    pub fn members(&self, own: &str, advertised: &[Url]) -> Result<String, DiscoveryError> {
        let found = self.places(&[("etcd-server-ssl", "https"), ("etcd-server", "http")])?;
        cluster(own, advertised, &found)
    }

    /// The endpoints for clients.
    ///
    /// # Errors
    /// [`DiscoveryError::Nobody`].
    pub fn endpoints(&self) -> Result<Vec<String>, DiscoveryError> {
        let found = self.places(&[("etcd-client-ssl", "https"), ("etcd-client", "http")])?;
        Ok(found.iter().map(|(scheme, place)| place.url(scheme)).collect())
    }

    /// The places of these services, each with its scheme; an error if there is none.
    fn places(
        &self,
        services: &[(&str, &'static str)],
    ) -> Result<Vec<(&'static str, Place)>, DiscoveryError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime of one thread needs nothing that can be missing");
        let (mut places, mut asked) = (Vec::new(), Vec::new());
        for (service, scheme) in services {
            let name = match self.name.as_str() {
                "" => format!("_{service}._tcp.{}", self.domain),
                suffix => format!("_{service}-{suffix}._tcp.{}", self.domain),
            };
            let answer = runtime.block_on(async {
                let answer = tokio::time::timeout(ANSWER_TIMEOUT, self.lookup(&name)).await;
                answer.unwrap_or_else(|_| Err("no answer".to_owned()))
            });
            match answer {
                Ok(found) if found.is_empty() => asked.push(format!("{name}: no records")),
                Ok(found) => places.extend(found.into_iter().map(|place| (*scheme, place))),
                Err(problem) => asked.push(format!("{name}: {problem}")),
            }
        }
        if places.is_empty() { Err(DiscoveryError::Nobody { asked }) } else { Ok(places) }
    }

    /// The records of one name, those to be preferred first.
    async fn lookup(&self, name: &str) -> Result<Vec<Place>, String> {
        let name = Name::<Vec<u8>>::from_str(name).map_err(|error| error.to_string())?;
        let resolver = match self.resolver {
            None => StubResolver::new(),
            Some(address) => {
                let mut settings = ResolvConf::new();
                settings.servers.push(ServerConf::new(address, Transport::UdpTcp));
                settings.finalize();
                StubResolver::from_conf(settings)
            }
        };
        let answer = resolver.query(Question::new_in(name, Rtype::SRV)).await;
        let answer = answer.map_err(|error| error.to_string())?;
        match answer.header().rcode() {
            Rcode::NOERROR => {}
            Rcode::NXDOMAIN => return Err("no such host".to_owned()),
            other => return Err(format!("the resolver answers {other}")),
        }
        let records = answer.answer().map_err(|error| error.to_string())?;
        let mut places: Vec<Place> = records
            .limit_to_in::<Srv<_>>()
            .filter_map(Result::ok)
            .take(RECORDS_MAX)
            .map(|record| Place {
                priority: record.data().priority(),
                host: record.data().target().to_string(),
                port: record.data().port(),
            })
            // A target of the root alone says that there is no such service.
            .filter(|place| !place.host.is_empty() && place.host != ".")
            .collect();
        places.iter_mut().for_each(|place| {
            let length = place.host.trim_end_matches('.').len();
            place.host.truncate(length);
        });
        // So that all members number the others alike.
        places.sort();
        Ok(places)
    }
}

/// `name=url` of each member, divided by commas.
fn cluster(
    own: &str,
    advertised: &[Url],
    found: &[(&str, Place)],
) -> Result<String, DiscoveryError> {
    let texts = || advertised.iter().map(Url::to_string).collect();
    let mut numbers = (0..).map(|number: u32| number.to_string()).filter(|name| name != own);
    let (mut parts, mut is_among) = (Vec::new(), false);
    for (scheme, place) in found {
        let url = place.url(scheme);
        let name = match advertised.iter().find(|own| is_at(own, place)) {
            Some(own) if own.scheme() != scheme_of(scheme) => {
                return Err(DiscoveryError::Scheme { advertised: own.to_string(), found: url });
            }
            Some(_) => {
                is_among = true;
                own.to_owned()
            }
            None => numbers.next().expect("numbers do not end"),
        };
        parts.push(format!("{name}={url}"));
    }
    if is_among {
        return Ok(parts.join(","));
    }
    let found = found.iter().map(|(scheme, place)| place.url(scheme)).collect();
    Err(DiscoveryError::NotAmong { advertised: texts(), found })
}

fn scheme_of(text: &str) -> Scheme {
    if text == "https" { Scheme::Https } else { Scheme::Http }
}

/// Whether a URL leads to a place: by its text or, failing that, by an address. A host that cannot be
/// looked up stands for itself alone.
fn is_at(url: &Url, place: &Place) -> bool {
    if url.port() != place.port {
        return false;
    }
    let addresses = |host: &str| -> Vec<SocketAddr> {
        (host, place.port).to_socket_addrs().map(Iterator::collect).unwrap_or_default()
    };
    url.host().eq_ignore_ascii_case(&place.host) || {
        let own = addresses(url.host());
        addresses(&place.host).iter().any(|address| own.contains(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(host: &str, port: u16) -> Place {
        Place { priority: 0, host: host.to_owned(), port }
    }

    fn urls(texts: &[&str]) -> Vec<Url> {
        texts.iter().map(|text| text.parse().expect("a good URL")).collect()
    }

    #[test]
    fn the_member_that_asks_has_its_name_and_the_others_numbers() {
        let found =
            [("http", place("b", 1)), ("http", place("localhost", 2)), ("http", place("a", 1))];
        let check = |own: &str, advertised: &[&str], expect: &str| {
            let text = cluster(own, &urls(advertised), &found).expect("it is among them");
            assert_eq!(text, expect);
        };
        check("m", &["http://127.0.0.1:2"], "0=http://b:1,m=http://localhost:2,1=http://a:1");
        check("0", &["http://A:1"], "1=http://b:1,2=http://localhost:2,0=http://a:1");
        check("m", &["http://a:1", "http://b:1"], "m=http://b:1,0=http://localhost:2,m=http://a:1");
    }

    #[test]
    fn one_that_is_not_named_or_otherwise_is_told_so() {
        let found = [("https", place("localhost", 2))];
        let error = cluster("m", &urls(&["http://localhost:3"]), &found).expect_err("not named");
        assert!(error.to_string().contains("records name https://localhost:2"), "{error}");
        let error = cluster("m", &urls(&["http://localhost:2"]), &found).expect_err("http");
        assert!(error.to_string().contains("scheme mismatch"), "{error}");
    }
}
