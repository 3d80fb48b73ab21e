//! What `--help`, `--version` and `--print-config` print, all from the settings table.

use std::fmt::Write;

use super::environment::variable_of;
use super::setting::{Kind, Setting, State};
use super::settings::Settings;
use super::source::Source;
use super::table::{self, GROUPS};
use super::value::Value;

/// This program's own version.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// etcd's first line, which tools read, and our own version on a line of its own.
pub(super) fn version(reported: &str) -> String {
    format!(
        "etcd Version: {reported}\nJangada Version: {VERSION}\nOS/Arch: {}/{}\n",
        std::env::consts::OS,
        std::env::consts::ARCH
    )
}

/// All flags by group; those without effect are named at the end only.
pub(super) fn help() -> String {
    let mut text = String::from(
        "Serves the etcd v3 API from a replicated, durable key-value store.\n\n\
         Usage: jangada server [flags]\n\n\
         Flags take one dash or two, and their value after '=' or a blank. Each can be set by a\n\
         variable as well: --listen-client-urls by ETCD_LISTEN_CLIENT_URLS. A flag beats the\n\
         variable; a file given by --config-file replaces both.\n\n\
         Examples:\n  \
         jangada server --data-dir data\n  \
         jangada server --name a --initial-advertise-peer-urls http://10.0.0.1:2380 \\\n    \
         --listen-peer-urls http://10.0.0.1:2380 \\\n    \
         --listen-client-urls http://10.0.0.1:2379 \\\n    \
         --advertise-client-urls http://10.0.0.1:2379 \\\n    \
         --initial-cluster a=http://10.0.0.1:2380,b=http://10.0.0.2:2380,c=http://10.0.0.3:2380\n  \
         jangada server --config-file etcd.yml --print-config\n",
    );
    for group in GROUPS {
        let used: Vec<&Setting> =
            group.settings.iter().filter(|setting| setting.state == State::Used).collect();
        if !used.is_empty() {
            append_group(&mut text, group.title, &used);
        }
    }
    text.push_str("\nPrint and end:\n");
    for (flag, meaning) in [
        ("--help, -h", "this text"),
        ("--version", "the etcd version told to clients, and our own"),
        ("--print-config", "every setting in force and where it came from, as a config file"),
    ] {
        writeln!(text, "  {flag:<32}  {meaning}").expect("writing to a string cannot fail");
    }
    append_names(&mut text, "Accepted with a warning, without effect", |state| {
        matches!(state, State::NoEffect(_))
    });
    append_names(&mut text, "Not built yet, refused when set", |state| {
        matches!(state, State::Refused(_))
    });
    text
}

fn append_group(text: &mut String, title: &str, settings: &[&Setting]) {
    writeln!(text, "\n{title}:").expect("writing to a string cannot fail");
    for setting in settings {
        let default = if setting.default.is_empty() { "''" } else { setting.default };
        let flag = format!("--{} {default}", setting.name);
        if flag.len() <= 32 {
            writeln!(text, "  {flag:<32}  {}", setting.meaning)
        } else {
            writeln!(text, "  {flag}\n  {:<32}  {}", "", setting.meaning)
        }
        .expect("writing to a string cannot fail");
    }
}

/// Names divided by commas, wrapped at 96 columns.
fn append_names(text: &mut String, title: &str, wanted: impl Fn(State) -> bool) {
    const WIDTH: usize = 96;
    let names = table::all().filter(|setting| wanted(setting.state)).map(|setting| setting.name);
    let mut line = String::from(" ");
    writeln!(text, "\n{title}:").expect("writing to a string cannot fail");
    for name in names {
        if WIDTH < line.len() + name.len() + 1 {
            writeln!(text, "{line}").expect("writing to a string cannot fail");
            line = String::from(" ");
        }
        line.push(' ');
        line.push_str(name);
    }
    writeln!(text, "{line}").expect("writing to a string cannot fail");
}

/// A configuration file with every setting that has an effect, each with its source beside it.
pub(super) fn print_config(settings: &Settings) -> String {
    let mut text = String::new();
    for setting in table::all().filter(|setting| setting.name != "config-file") {
        let source = settings.source(setting.name);
        if setting.state != State::Used && source == Source::Default {
            continue;
        }
        let value = yaml(setting.kind, settings.value(setting.name));
        let origin = match source {
            Source::Environment => variable_of(setting.name),
            Source::Flag => format!("flag --{}", setting.name),
            Source::Default | Source::File => source.to_string(),
        };
        writeln!(text, "{}: {value}  # {origin}", setting.name)
            .expect("writing to a string cannot fail");
    }
    text
}

fn yaml(kind: Kind, value: &Value) -> String {
    match value {
        _ if kind == Kind::Secret => quote("***"),
        Value::Bool(flag) => flag.to_string(),
        Value::Integer(number) => number.to_string(),
        Value::Duration(duration) => duration.as_nanos().to_string(),
        Value::Text(text) => quote(text),
        Value::List(items) => quote(&items.join(",")),
        Value::Urls(urls) => {
            quote(&urls.iter().map(|url| url.as_str()).collect::<Vec<_>>().join(","))
        }
    }
}

/// A text between quotes. JSON leaves letters as they are that no YAML file may have.
fn quote(text: &str) -> String {
    let json = serde_json::to_string(text).expect("a text is always JSON");
    let mut quoted = String::with_capacity(json.len());
    for letter in json.chars() {
        let hidden =
            matches!(letter, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}');
        if letter.is_control() || hidden {
            write!(quoted, "\\u{:04x}", u32::from(letter))
                .expect("writing to a string cannot fail");
        } else {
            quoted.push(letter);
        }
    }
    quoted
}
