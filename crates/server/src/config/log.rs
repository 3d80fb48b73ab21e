//! Log lines in etcd's form: one JSON object a line, or zap's console form.
//!
//! Responsible for the form, the level and the outputs. Events are `tracing`'s; an event's fields
//! follow `level`, `ts`, `caller` and `msg`. Libraries below the server are heard from `warn` on,
//! so that a level of `debug` stays readable. What is secret is kept out by whoever logs.

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Mutex;
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, SubscriberExt};

use super::error::ConfigError;
use super::settings::Settings;
use super::timestamp;

/// The least level that is logged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// The normal course of things.
    Info,
    /// What may need attention.
    Warn,
    /// What went wrong.
    Error,
}

/// The form of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// Columns divided by tabs, fields as JSON at the end.
    Console,
}

/// What is logged, how and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogConfig {
    /// The least level.
    pub level: LogLevel,
    /// The form of a line.
    pub format: LogFormat,
    /// `default`, `stderr`, `stdout`, `systemd/journal` (stderr, which the journal reads) or
    /// paths of files to append to.
    pub outputs: Vec<String>,
}

impl LogConfig {
    pub(super) fn from_settings(settings: &Settings) -> LogConfig {
        LogConfig {
            level: match settings.text("log-level") {
                "debug" => LogLevel::Debug,
                "info" => LogLevel::Info,
                "warn" => LogLevel::Warn,
                _ => LogLevel::Error,
            },
            format: match settings.text("log-format") {
                "console" => LogFormat::Console,
                _ => LogFormat::Json,
            },
            outputs: settings.list("log-outputs").to_vec(),
        }
    }
}

/// Opens the outputs and makes this the log of the process. Only the first call has an effect.
///
/// # Errors
///
/// [`ConfigError::LogOutput`] when a file cannot be opened.
pub fn install_log(config: &LogConfig) -> Result<(), ConfigError> {
    let outputs = config.outputs.iter().map(|o| Output::open(o)).collect::<Result<_, _>>()?;
    let layer = Lines { format: config.format, outputs: Mutex::new(outputs) };
    let level = match config.level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
    };
    let filter =
        Targets::new().with_default(level.min(LevelFilter::WARN)).with_target("jangada", level);
    let subscriber = tracing_subscriber::registry().with(layer.with_filter(filter));
    // A second call finds the first one's log in place, which is the promise made above.
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(())
}

enum Output {
    Stderr,
    Stdout,
    File(File),
}

impl Output {
    fn open(output: &str) -> Result<Output, ConfigError> {
        match output {
            "default" | "stderr" | "systemd/journal" => Ok(Output::Stderr),
            "stdout" => Ok(Output::Stdout),
            path => OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o600)
                .open(path)
                .map(Output::File)
                .map_err(|error| ConfigError::LogOutput {
                    output: output.to_owned(),
                    problem: format!("{error}; name a file that can be written, or stderr"),
                }),
        }
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        match self {
            Output::Stderr => io::stderr().lock().write_all(line),
            Output::Stdout => io::stdout().lock().write_all(line),
            Output::File(file) => file.write_all(line),
        }
    }
}

struct Lines {
    format: LogFormat,
    outputs: Mutex<Vec<Output>>,
}

thread_local! {
    /// Reused from line to line.
    static LINE: RefCell<String> = const { RefCell::new(String::new()) };
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        LINE.with(|line| {
            // A field whose formatting logs would come back here; that inner line is left out.
            let Ok(mut line) = line.try_borrow_mut() else { return };
            line.clear();
            format_event(self.format, event, SystemTime::now(), &mut line);
            let mut outputs = self.outputs.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            for output in outputs.iter_mut() {
                // A log that cannot be written must not stop a member, and there is nowhere to
                // tell it.
                let _ = output.write(line.as_bytes());
            }
        });
    }
}

fn format_event(format: LogFormat, event: &Event<'_>, now: SystemTime, line: &mut String) {
    let mut fields = Fields::default();
    event.record(&mut fields);
    let metadata = event.metadata();
    let level = level_name(metadata);
    match format {
        LogFormat::Json => {
            line.push_str("{\"level\":\"");
            line.push_str(level);
            line.push_str("\",\"ts\":\"");
            timestamp::append(line, now);
            line.push_str("\",\"caller\":");
            append_json(line, &caller(metadata));
            line.push_str(",\"msg\":");
            append_json(line, &fields.message);
            line.push_str(&fields.rest);
            line.push('}');
        }
        LogFormat::Console => {
            timestamp::append(line, now);
            write!(line, "\t{level}\t{}\t{}", caller(metadata), fields.message)
                .expect("writing to a string cannot fail");
            if let Some(rest) = fields.rest.strip_prefix(',') {
                line.push_str("\t{");
                line.push_str(rest);
                line.push('}');
            }
        }
    }
    line.push('\n');
}

fn level_name(metadata: &Metadata<'_>) -> &'static str {
    match *metadata.level() {
        tracing::Level::TRACE | tracing::Level::DEBUG => "debug",
        tracing::Level::INFO => "info",
        tracing::Level::WARN => "warn",
        tracing::Level::ERROR => "error",
    }
}

/// The last folder, the file and the line, as zap's short caller. `src` says nothing, so the
/// folder before it stands in its place.
fn caller(metadata: &Metadata<'_>) -> String {
    let path = metadata.file().unwrap_or("unknown");
    let mut parts = path.rsplit(['/', '\\']).filter(|part| *part != "src");
    let file = parts.next().unwrap_or("unknown");
    let line = metadata.line().unwrap_or(0);
    match parts.next() {
        Some(folder) => format!("{folder}/{file}:{line}"),
        None => format!("{file}:{line}"),
    }
}

fn append_json<T: serde::Serialize + ?Sized>(line: &mut String, value: &T) {
    line.push_str(&serde_json::to_string(value).expect("texts and numbers are always JSON"));
}

/// An event's message, and its other fields as `,"name":value` each.
#[derive(Default)]
struct Fields {
    message: String,
    rest: String,
}

impl Fields {
    fn append<T: serde::Serialize + ?Sized>(&mut self, field: &Field, value: &T) {
        self.rest.push(',');
        append_json(&mut self.rest, field.name().trim_start_matches("r#"));
        self.rest.push(':');
        append_json(&mut self.rest, value);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message.push_str(value),
            _ => self.append(field, value),
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.append(field, &value.to_string());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.append(field, &value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.append(field, &value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.append(field, &value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.append(field, &value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logs what `log` logs into a file and gives back its lines.
    fn lines(format: LogFormat, log: impl FnOnce()) -> Vec<String> {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("log");
        let output = Output::open(path.to_str().expect("a UTF-8 path")).expect("a writable file");
        let layer = Lines { format, outputs: Mutex::new(vec![output]) };
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, log);
        let text = std::fs::read_to_string(path).expect("the log is there");
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_line_is_one_json_object_with_etcds_keys() {
        let lines = lines(LogFormat::Json, || {
            tracing::warn!(count = 3, ok = true, address = "a \"b\"\n", r#type = ?Some(1), "said");
            tracing::info!("ready to serve client requests");
        });
        assert_eq!(lines.len(), 2);
        let first: serde_json::Value = serde_json::from_str(&lines[0]).expect("a JSON object");
        assert_eq!(first["level"], "warn");
        assert_eq!(first["msg"], "said");
        assert_eq!(first["count"], 3);
        assert_eq!(first["ok"], true);
        assert_eq!(first["address"], "a \"b\"\n");
        assert_eq!(first["type"], "Some(1)");
        let caller = first["caller"].as_str().expect("a text");
        assert!(caller.starts_with("config/log.rs:"), "{caller}");
        let time = first["ts"].as_str().expect("a text");
        assert!(time.starts_with("20") && time.ends_with('Z'), "{time}");
        assert!(lines[0].starts_with("{\"level\":\"warn\",\"ts\":\""), "{}", lines[0]);
        assert!(lines[1].contains("\"msg\":\"ready to serve client requests\"}"), "{}", lines[1]);
    }

    #[test]
    fn the_console_form_has_tabs() {
        let lines = lines(LogFormat::Console, || tracing::error!(code = 1, "bad"));
        let columns: Vec<&str> = lines[0].split('\t').collect();
        assert_eq!(columns[1], "error");
        assert_eq!(&columns[3..], ["bad", "{\"code\":1}"]);
    }

    #[test]
    fn an_output_that_cannot_be_opened_gets_a_sentence() {
        let Err(error) = Output::open("/nowhere/at/all") else { panic!("there is no such file") };
        assert!(error.to_string().contains("name a file that can be written"), "{error}");
    }
}
