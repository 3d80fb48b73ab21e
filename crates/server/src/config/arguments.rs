//! Reads the command line as Go's flag package does.
//!
//! One dash or two; `--flag=value` or `--flag value`; a boolean flag alone is true and takes a
//! value after `=` only; the last of several wins; `--` ends the flags.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::error::ConfigError;
use super::setting::Kind;
use super::table;

/// What a command line asks for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Arguments {
    /// Each flag that was given, with its text.
    pub flags: BTreeMap<&'static str, String>,
    /// A flag of [`table::ACTIONS`], if one was given.
    pub action: Option<&'static str>,
}

/// Reads the words after the program's name.
///
/// # Errors
///
/// An unknown flag, a flag without its value, a word that is no flag, or a word that is not UTF-8.
pub(super) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Arguments, ConfigError> {
    let mut words = words.into_iter().map(|word| {
        word.into_string()
            .map_err(|word| ConfigError::NotUtf8 { argument: word.to_string_lossy().into_owned() })
    });
    let mut arguments = Arguments::default();
    while let Some(word) = words.next().transpose()? {
        let Some(flag) = flag_of(&word) else {
            return Err(stray(word, words.next().transpose()?));
        };
        let (name, inline) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        if let Some(action) = action_of(name) {
            arguments.action.get_or_insert(action);
            continue;
        }
        let Some(setting) = table::find(name) else {
            return Err(ConfigError::UnknownFlag {
                name: name.to_owned(),
                nearest: table::nearest(name),
            });
        };
        let value = match (inline, setting.kind) {
            (Some(value), _) => value,
            (None, Kind::Bool) => "true".to_owned(),
            (None, _) => {
                words.next().transpose()?.ok_or(ConfigError::MissingValue { name: setting.name })?
            }
        };
        arguments.flags.insert(setting.name, value);
    }
    Ok(arguments)
}

/// The word without its dashes, if it is a flag.
fn flag_of(word: &str) -> Option<&str> {
    let flag = word.strip_prefix("--").or_else(|| word.strip_prefix('-'))?;
    (!flag.is_empty() && !flag.starts_with(['-', '='])).then_some(flag)
}

fn action_of(name: &str) -> Option<&'static str> {
    let name = if name == "h" { "help" } else { name };
    table::ACTIONS.iter().copied().find(|action| *action == name)
}

fn stray(word: String, next: Option<String>) -> ConfigError {
    if word == "gateway" || word == "grpc-proxy" {
        return ConfigError::SubCommand { command: word };
    }
    let argument = if word == "--" { next.unwrap_or(word) } else { word };
    ConfigError::UnexpectedArgument { argument }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_line(line: &str) -> Result<Arguments, String> {
        parse(line.split_whitespace().map(OsString::from)).map_err(|error| error.to_string())
    }

    fn check(line: &str, expect: &[(&'static str, &str)]) {
        let arguments = parse_line(line).expect("the line is good");
        let expect = expect.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        assert_eq!(arguments.flags, expect, "{line}");
    }

    #[test]
    fn both_dashes_and_both_forms_of_value() {
        check("--name a --data-dir=d", &[("name", "a"), ("data-dir", "d")]);
        check("-name a -data-dir=d", &[("name", "a"), ("data-dir", "d")]);
        check("--initial-cluster a=http://b:1", &[("initial-cluster", "a=http://b:1")]);
        check("--name=", &[("name", "")]);
        check("--name a --name b", &[("name", "b")]);
        check("--quota-backend-bytes -1", &[("quota-backend-bytes", "-1")]);
    }

    #[test]
    fn booleans_stand_alone() {
        check("--pre-vote --name a", &[("pre-vote", "true"), ("name", "a")]);
        check("--pre-vote=false", &[("pre-vote", "false")]);
        assert!(parse_line("--pre-vote false").expect_err("a stray word").contains("'false'"));
    }

    #[test]
    fn actions_are_told_apart() {
        for line in ["-h", "--help", "-help"] {
            assert_eq!(parse_line(line).expect("the line is good").action, Some("help"));
        }
        assert_eq!(parse_line("--version").expect("the line is good").action, Some("version"));
    }

    #[test]
    fn mistakes_get_a_sentence() {
        let check = |line: &str, expect: &str| {
            let error = parse_line(line).expect_err("the line is bad");
            assert!(error.contains(expect), "{line}: {error}");
        };
        check("--inital-cluster x", "did you mean --initial-cluster?");
        check("--qqqqqqqq", "--help lists all flags");
        check("--name", "--name needs a value");
        check("start", "'start' is not a flag");
        check("grpc-proxy start", "not part of this server");
    }
}
