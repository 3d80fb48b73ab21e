//! The server's configuration: flags, environment, file, URLs and the list of first members.

use std::ffi::OsString;
use std::path::PathBuf;

use jangada_server::config::{Config, Invocation, Scheme, Url};

use crate::sentence;

/// Reads the input as a line of flags, as variables, as a file, or as a URL; its first byte says
/// which.
///
/// # Panics
/// At the first thing that is wrong.
pub fn check(data: &[u8]) {
    let Some((mode, rest)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    match mode % 4 {
        0 => configuration(&words(text), &[]),
        1 => {
            let (variables, flags) = text.split_once("\n\n").unwrap_or((text, ""));
            let variables: Vec<(String, String)> = variables
                .lines()
                .filter_map(|line| line.split_once('='))
                .map(|(name, value)| (format!("ETCD_{name}"), value.to_owned()))
                .collect();
            configuration(&words(flags), &variables);
        }
        2 => file(text),
        _ => url(text),
    }
}

fn words(text: &str) -> Vec<String> {
    text.split('\n').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn parse(words: &[String], variables: &[(String, String)]) -> Option<Invocation> {
    let words = words.iter().map(OsString::from);
    match Invocation::parse(words, variables.iter().cloned()) {
        Ok(invocation) => Some(invocation),
        Err(error) => {
            sentence(&error);
            None
        }
    }
}

/// Whether a host that is no address is named: looking it up would ask the network.
fn asks_the_network(text: &str) -> bool {
    text.split("://").skip(1).any(|rest| {
        let rest = rest.split([',', '\n', ' ', '"', '\'']).next().unwrap_or_default();
        let host = rest.rsplit_once(':').map_or(rest, |(host, _)| host);
        let host = host.trim_matches(['[', ']']);
        !host.is_empty() && host != "localhost" && host.parse::<std::net::IpAddr>().is_err()
    })
}

fn configuration(words: &[String], variables: &[(String, String)]) {
    let mut told = words.join("\n");
    variables.iter().for_each(|(_, value)| told.push_str(value));
    // A file that is named would be looked for on this machine.
    if asks_the_network(&told) || told.contains("config-file") {
        return;
    }
    if variables.iter().any(|(name, _)| name == "ETCD_CONFIG_FILE") {
        return;
    }
    let Some(invocation) = parse(words, variables) else { return };
    let Invocation::Serve(config) = invocation else { return };
    sound(&config);
    let mut printing = words.to_vec();
    printing.push("--print-config".to_owned());
    match parse(&printing, variables) {
        Some(Invocation::Print(text)) => reads_back(&config, &text),
        other => panic!("what can be served can be printed: {other:?}"),
    }
}

/// The invariants of a configuration.
fn sound(config: &Config) {
    let ids: Vec<_> = config.initial.members.iter().map(|member| member.id).collect();
    assert!(ids.is_sorted_by(|one, other| one < other), "configuration invariant 1");
    assert!(!ids.is_empty(), "configuration invariant 1");
    for url in config.listen_peer_urls.iter().chain(&config.listen_client_urls) {
        assert!(url.scheme() == Scheme::Http, "configuration invariant 2");
        let local = url.host() == "localhost" || url.host().parse::<std::net::IpAddr>().is_ok();
        assert!(local, "configuration invariant 2");
    }
    assert!(!config.listen_peer_urls.is_empty() && !config.listen_client_urls.is_empty());
    assert!(5 * config.heartbeat_interval <= config.election_timeout, "configuration invariant 3");
    assert!(!config.heartbeat_interval.is_zero(), "a heartbeat takes time");
    config.warnings.iter().for_each(|warning| sentence(warning));
}

/// What is printed as a configuration file is one, and says the same. A setting that is left empty
/// in a file has its default, so a text that was set to nothing cannot be compared.
fn reads_back(config: &Config, text: &str) {
    if text.lines().any(|line| line.contains(": \"\"  # ") && !line.ends_with("# default")) {
        return;
    }
    let again = with_file(text);
    let Some(Invocation::Serve(again)) = again else {
        panic!("a configuration that was printed is a file: {text}")
    };
    let plain = |config: &Config| Config { warnings: Vec::new(), ..config.clone() };
    assert_eq!(format!("{:?}", plain(config)), format!("{:?}", plain(&again)), "{text}");
}

/// A file of this process, so that several can run side by side.
fn path() -> PathBuf {
    let thread = std::thread::current().id();
    std::env::temp_dir().join(format!("jangada-fuzz-{}-{thread:?}.yml", std::process::id()))
}

fn with_file(text: &str) -> Option<Invocation> {
    let path = path();
    std::fs::write(&path, text).expect("the folder for temporary files can be written");
    let words = ["--config-file".to_owned(), path.to_str().expect("the path is text").to_owned()];
    let invocation = parse(&words, &[]);
    std::fs::remove_file(&path).expect("the file is there");
    invocation
}

fn file(text: &str) {
    if asks_the_network(text) {
        return;
    }
    if let Some(Invocation::Serve(config)) = with_file(text) {
        sound(&config);
    }
}

fn url(text: &str) {
    match text.parse::<Url>() {
        Ok(url) => {
            assert_eq!(url.to_string(), text, "a URL keeps its spelling");
            let scheme = if url.scheme() == Scheme::Http { "http" } else { "https" };
            let again: Url =
                format!("{scheme}://{}", url.authority()).parse().expect("its parts are a URL");
            assert_eq!((again.host(), again.port()), (url.host(), url.port()));
        }
        Err(error) => sentence(&error),
    }
}

/// Flags, variables, files in both notations, URLs.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let flags = "--name\nb\n--data-dir\nd\n--listen-peer-urls\nhttp://127.0.0.1:22380\n\
        --initial-advertise-peer-urls\nhttp://127.0.0.1:22380\n\
        --listen-client-urls=http://localhost:22379,http://[::1]:22379\n\
        --advertise-client-urls\nhttp://127.0.0.1:22379\n\
        --initial-cluster\na=http://127.0.0.1:12380,b=http://127.0.0.1:22380\n\
        --initial-cluster-token\nt\n--heartbeat-interval=50\n--election-timeout\n0x400\n--pre-vote";
    let texts = [
        (0, flags),
        (
            0,
            "--quota-backend-bytes\n-1\n--grpc-keepalive-interval\n1h2m3.5s\n--cors=*\n--log-outputs\na,b",
        ),
        (0, "--inital-cluster\nx"),
        (0, "--version"),
        (1, "NAME=a\nMAX_TXN_OPS=1_000\nLOG_LEVEL=debug\n\n--log-format\nconsole"),
        (1, "INITAL_CLUSTER=a=b\nREPORTED_VERSION=3.5.1"),
        (2, "name: 'a'\nheartbeat-interval: 50\nwal-dir:\nlog-outputs: [stderr, /tmp/a.log]\n"),
        (2, "{\"name\": \"a\", \"election-timeout\": 5000, \"cors\": [\"*\"]}"),
        (2, "peer-transport-security:\n  cert-file: \"\"\nclient-transport-security: {}\n# end\n"),
        (2, "name: &a x\ndata-dir: *a\nquota-backend-bytes: 1e3\nenable-v2: false\n"),
        (3, "http://[::1]:2380"),
        (3, "https://localhost:1"),
    ];
    texts.into_iter().map(|(mode, text)| [&[mode][..], text.as_bytes()].concat()).collect()
}
