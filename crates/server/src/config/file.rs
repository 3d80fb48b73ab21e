//! Reads settings from a configuration file in etcd's format: a YAML map (JSON is YAML too), keyed
//! by flag, with the TLS settings in two maps of their own.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value as Node;

use super::error::ConfigError;
use super::setting::Kind;
use super::source::Source;
use super::table;
use super::value::Value;

/// The most a configuration file may have; anything larger is not one.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads the file and checks each value.
///
/// # Errors
///
/// The file cannot be read, is no map, has an unknown key, or a value its setting cannot take.
pub(super) fn read(path: &Path) -> Result<BTreeMap<&'static str, Value>, ConfigError> {
    let unreadable = |error| ConfigError::FileUnreadable { path: path.to_owned(), error };
    let length = std::fs::metadata(path).map_err(unreadable)?.len();
    if FILE_BYTES_MAX < length {
        return Err(malformed(path, format!("it has {length} bytes, more than {FILE_BYTES_MAX}")));
    }
    parse(path, &std::fs::read_to_string(path).map_err(unreadable)?)
}

fn malformed(path: &Path, problem: String) -> ConfigError {
    ConfigError::FileMalformed { path: path.to_owned(), problem }
}

fn parse(path: &Path, text: &str) -> Result<BTreeMap<&'static str, Value>, ConfigError> {
    let root: Node = if text.trim().is_empty() {
        Node::Null
    } else {
        serde_saphyr::from_str(text).map_err(|error| malformed(path, error.to_string()))?
    };
    let mut settings = BTreeMap::new();
    match root {
        Node::Null => {}
        Node::Object(map) => {
            for (key, node) in map {
                match section_prefix(&key) {
                    Some(prefix) => read_section(path, &key, prefix, node, &mut settings)?,
                    None => read_key(path, &key, &key, &node, &mut settings)?,
                }
            }
        }
        _ => return Err(malformed(path, "write one 'setting: value' a line".to_owned())),
    }
    Ok(settings)
}

/// The prefix that the flags of a section have and its keys have not.
fn section_prefix(key: &str) -> Option<&'static str> {
    match key {
        "client-transport-security" => Some(""),
        "peer-transport-security" => Some("peer-"),
        _ => None,
    }
}

fn read_section(
    path: &Path,
    section: &str,
    prefix: &str,
    node: Node,
    settings: &mut BTreeMap<&'static str, Value>,
) -> Result<(), ConfigError> {
    let map = match node {
        Node::Null => return Ok(()),
        Node::Object(map) => map,
        _ => return Err(malformed(path, format!("'{section}' takes a map of settings"))),
    };
    for (key, node) in map {
        let name = match (key.as_str(), prefix) {
            ("allowed-cn", "peer-") => "peer-cert-allowed-cn".to_owned(),
            ("allowed-hostname", "peer-") => "peer-cert-allowed-hostname".to_owned(),
            ("allowed-hostname", _) => "client-cert-allowed-hostname".to_owned(),
            ("allowed-cns", "peer-") => "peer-cert-allowed-cn".to_owned(),
            ("allowed-hostnames", "peer-") => "peer-cert-allowed-hostname".to_owned(),
            ("crl-file", "") => "client-crl-file".to_owned(),
            ("skip-client-san-verification", "peer-") => {
                "peer-skip-client-san-verification".to_owned()
            }
            _ => format!("{prefix}{key}"),
        };
        read_key(path, &format!("{section}.{key}"), &name, &node, settings)?;
    }
    Ok(())
}

fn read_key(
    path: &Path,
    key: &str,
    name: &str,
    node: &Node,
    settings: &mut BTreeMap<&'static str, Value>,
) -> Result<(), ConfigError> {
    let Some(setting) = table::find(name) else {
        let nearest = table::nearest(name);
        return Err(ConfigError::UnknownKey {
            path: path.to_owned(),
            key: key.to_owned(),
            nearest,
        });
    };
    let value = match text_of(setting.kind, node) {
        Ok(None) => return Ok(()),
        Ok(Some(text)) => Value::parse(setting.kind, &text).map_err(|expected| (text, expected)),
        Err(expected) => Err((node.to_string(), expected)),
    };
    let value = value.map_err(|(value, expected)| ConfigError::InvalidValue {
        name: setting.name,
        source: Source::File,
        value: if setting.kind == Kind::Secret { "***".to_owned() } else { value },
        expected,
    })?;
    settings.insert(setting.name, value);
    Ok(())
}

/// The node as the text its flag would have; `None` for what is left empty.
fn text_of(kind: Kind, node: &Node) -> Result<Option<String>, String> {
    match node {
        Node::Null => Ok(None),
        Node::String(text) if text.is_empty() => Ok(None),
        Node::String(text) => Ok(Some(text.clone())),
        Node::Bool(flag) => Ok(Some(flag.to_string())),
        // etcd's file gives durations as integer nanoseconds.
        Node::Number(number) if kind == Kind::Duration => Ok(Some(format!("{number}ns"))),
        Node::Number(number) => Ok(Some(number.to_string())),
        Node::Array(items) => {
            let texts: Option<Vec<&str>> = items.iter().map(Node::as_str).collect();
            match (kind, texts) {
                (Kind::List | Kind::Urls, Some(texts)) => Ok(Some(texts.join(","))),
                (Kind::List | Kind::Urls, None) => Err("a list of texts".to_owned()),
                _ => Err("one value, not a list".to_owned()),
            }
        }
        Node::Object(_) => Err("one value, not a map".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn parse_text(text: &str) -> Result<BTreeMap<&'static str, Value>, String> {
        parse(Path::new("etcd.yml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn yaml_json_and_an_empty_file() {
        let yaml = parse_text("name: 'a'\nheartbeat-interval: 50\nwal-dir:\n").expect("good YAML");
        let json = parse_text(r#"{"name": "a", "heartbeat-interval": 50}"#).expect("good JSON");
        assert_eq!(yaml, json);
        assert_eq!(yaml["heartbeat-interval"], Value::Integer(50));
        assert!(!yaml.contains_key("wal-dir"));
        assert!(parse_text("").expect("an empty file").is_empty());
        assert!(parse_text("# only a comment\n").expect("an empty file").is_empty());
    }

    #[test]
    fn durations_are_nanoseconds_or_text() {
        let check = |text: &str| {
            let settings = parse_text(text).expect("good YAML");
            assert_eq!(
                settings["grpc-keepalive-timeout"],
                Value::Duration(Duration::from_secs(5)),
                "{text}"
            );
        };
        check("grpc-keepalive-timeout: 5000000000");
        check("grpc-keepalive-timeout: 5s");
    }

    #[test]
    fn lists_and_sections() {
        let settings = parse_text(
            "log-outputs: [stderr, /tmp/a.log]\npeer-transport-security:\n  cert-file: p.crt\n\
             client-transport-security:\n  client-cert-auth: true\n",
        )
        .expect("good YAML");
        let outputs = ["stderr", "/tmp/a.log"].map(str::to_owned).to_vec();
        assert_eq!(settings["log-outputs"], Value::List(outputs));
        assert_eq!(settings["peer-cert-file"], Value::Text("p.crt".to_owned()));
        assert_eq!(settings["client-cert-auth"], Value::Bool(true));
    }

    /// Found by the fuzz target `config`: a name with a delete in it was printed as it is, and no
    /// YAML file may have one.
    #[test]
    fn what_is_printed_reads_back_whatever_its_letters() {
        for name in
            ["a\u{7f}b", "\u{9b}\u{2028}\u{feff}", "\u{ffff}\t\"\\", "\u{e9}\u{1f6f6} # x: y"]
        {
            let words = ["--name", name, "--initial-cluster-token", name, "--print-config"];
            let settings = super::super::Settings::gather(words.map(Into::into), []);
            let settings = settings.expect("the flags are good");
            let printed = super::super::help::print_config(&settings);
            let read = parse_text(&printed).expect("what is printed is a file");
            assert_eq!(read["name"], Value::Text(name.to_owned()), "{printed}");
            assert_eq!(read["initial-cluster-token"], Value::Text(name.to_owned()));
        }
    }

    #[test]
    fn mistakes_get_a_sentence() {
        let check = |text: &str, expect: &str| {
            let error = parse_text(text).expect_err("the file is bad");
            assert!(error.contains(expect), "{text}: {error}");
        };
        check("nmae: a", "did you mean 'name'?");
        check("peer-transport-security: {cert-fle: a}", "'peer-transport-security.cert-fle'");
        check("- a\n- b", "not a YAML or JSON map");
        check("name: [a", "not a YAML or JSON map");
        check("name: a\nname: b", "not a YAML or JSON map");
        check("heartbeat-interval: fast", "it takes a whole number");
        check("name: [a, b]", "it takes one value, not a list");
        check("election-timeout: {a: 1}", "it takes one value, not a map");
    }
}
