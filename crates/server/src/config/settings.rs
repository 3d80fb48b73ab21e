//! All settings with their values, and where each came from.
//!
//! Invariants: 1. every setting of the table has a value of its kind; 2. a setting of state
//! refused has its default.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::arguments::{self, Arguments};
use super::environment::{self, Environment};
use super::error::ConfigError;
use super::file;
use super::setting::{Kind, Setting, State};
use super::source::Source;
use super::table;
use super::url::Url;
use super::value::Value;
use super::warning::Warning;

/// The merged settings: a flag beats the environment, a configuration file replaces both.
#[derive(Clone, PartialEq, Debug)]
pub struct Settings {
    values: BTreeMap<&'static str, (Value, Source)>,
    warnings: Vec<Warning>,
    action: Option<&'static str>,
}

impl Settings {
    /// Gathers the settings from the words after the program's name, the environment and, if
    /// either names one, the configuration file.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, as a sentence.
    pub fn gather(
        words: impl IntoIterator<Item = OsString>,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Settings, ConfigError> {
        let arguments = arguments::parse(words)?;
        let environment = environment::parse(variables);
        let mut settings =
            Settings { values: BTreeMap::new(), warnings: Vec::new(), action: arguments.action };
        match config_file(&arguments, &environment) {
            Some(path) => settings.take_file(&path, &arguments, &environment)?,
            None => settings.take_flags_and_environment(&arguments, &environment)?,
        }
        for (variable, nearest) in environment.unknown {
            settings.warnings.push(Warning::UnknownVariable { variable, nearest });
        }
        settings.judge()?;
        settings.fill_defaults();
        Ok(settings)
    }

    fn take_file(
        &mut self,
        path: &Path,
        arguments: &Arguments,
        environment: &Environment,
    ) -> Result<(), ConfigError> {
        for (name, value) in file::read(path)? {
            self.values.insert(name, (value, Source::File));
        }
        let flags = arguments.flags.keys().map(|name| (*name, Source::Flag));
        let variables = environment.settings.keys().map(|name| (*name, Source::Environment));
        for (name, source) in flags.chain(variables).filter(|(name, _)| *name != "config-file") {
            self.warnings.push(Warning::ReplacedByFile { name, source, path: path.to_owned() });
        }
        Ok(())
    }

    fn take_flags_and_environment(
        &mut self,
        arguments: &Arguments,
        environment: &Environment,
    ) -> Result<(), ConfigError> {
        for (name, text) in &environment.settings {
            self.take(name, text, Source::Environment)?;
        }
        for (name, text) in &arguments.flags {
            self.take(name, text, Source::Flag)?;
        }
        Ok(())
    }

    /// Takes one text. A flag that says something else than its variable is etcd's shadowing
    /// error; the same value twice is harmless.
    fn take(&mut self, name: &'static str, text: &str, source: Source) -> Result<(), ConfigError> {
        let setting = table::find(name).expect("the readers return names of the table alone");
        let value = Value::parse(setting.kind, text).map_err(|expected| {
            let value = if setting.kind == Kind::Secret { "***" } else { text }.to_owned();
            ConfigError::InvalidValue { name, source, value, expected }
        })?;
        if let Some((other, Source::Environment)) = self.values.get(name)
            && *other != value
        {
            let variable = environment::variable_of(name);
            return Err(ConfigError::Shadowed { variable, flag: name });
        }
        self.values.insert(name, (value, source));
        Ok(())
    }

    /// Refuses what must not be ignored and notes what has no effect.
    fn judge(&mut self) -> Result<(), ConfigError> {
        for (name, (value, source)) in &self.values {
            let setting = table::find(name).expect("only names of the table are taken");
            match setting.state {
                State::Used => {}
                State::NoEffect(why) => {
                    self.warnings.push(Warning::NoEffect { name, source: *source, why });
                }
                State::Refused(_) if *value == default_of(setting) => {}
                State::Refused(reason) => {
                    return Err(ConfigError::Refused { name, source: *source, reason });
                }
            }
        }
        Ok(())
    }

    fn fill_defaults(&mut self) {
        for setting in table::all() {
            self.values
                .entry(setting.name)
                .or_insert_with(|| (default_of(setting), Source::Default));
        }
        assert_eq!(self.values.len(), table::all().count(), "settings invariant 1");
    }

    /// What to tell in the log once there is one.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// `help`, `version` or `print-config`, if the command line asks for it.
    #[must_use]
    pub fn action(&self) -> Option<&'static str> {
        self.action
    }

    /// Where the setting's value came from.
    #[must_use]
    pub fn source(&self, name: &str) -> Source {
        self.values.get(name).expect("settings invariant 1").1
    }

    pub(super) fn value(&self, name: &str) -> &Value {
        &self.values.get(name).expect("settings invariant 1").0
    }

    pub(super) fn text(&self, name: &str) -> &str {
        match self.value(name) {
            Value::Text(text) => text,
            other => panic!("settings invariant 1: {name} is {other:?}, not a text"),
        }
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        match self.value(name) {
            Value::Bool(flag) => *flag,
            other => panic!("settings invariant 1: {name} is {other:?}, not a boolean"),
        }
    }

    pub(super) fn integer(&self, name: &str) -> i64 {
        match self.value(name) {
            Value::Integer(number) => *number,
            other => panic!("settings invariant 1: {name} is {other:?}, not an integer"),
        }
    }

    pub(super) fn duration(&self, name: &str) -> Duration {
        match self.value(name) {
            Value::Duration(duration) => *duration,
            other => panic!("settings invariant 1: {name} is {other:?}, not a duration"),
        }
    }

    pub(super) fn list(&self, name: &str) -> &[String] {
        match self.value(name) {
            Value::List(items) => items,
            other => panic!("settings invariant 1: {name} is {other:?}, not a list"),
        }
    }

    pub(super) fn urls(&self, name: &str) -> &[Url] {
        match self.value(name) {
            Value::Urls(urls) => urls,
            other => panic!("settings invariant 1: {name} is {other:?}, not URLs"),
        }
    }
}

fn default_of(setting: &Setting) -> Value {
    Value::parse(setting.kind, setting.default).expect("table invariant 2")
}

fn config_file(arguments: &Arguments, environment: &Environment) -> Option<PathBuf> {
    let flag = arguments.flags.get("config-file").filter(|path| !path.is_empty());
    flag.or_else(|| environment.settings.get("config-file")).map(PathBuf::from)
}
