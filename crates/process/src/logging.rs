//! Logs: events with fields on standard error, for people or for machines.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use crate::settings::{Environment, Faults, environment as variable};

/// What services log unless something else is said. The NATS client repeats what we log ourselves.
pub const LEVEL_DEFAULT: &str = "info,async_nats=warn";

/// The flags for it.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Logs")]
pub struct LogArgs {
    /// How to log: human or json [env: SORTIE_LOG_FORMAT] [default: human on a terminal, else json]
    #[arg(long, global = true, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// What to log: a level, or levels by module as in `info,broker=debug` [env: SORTIE_LOG]
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log_level: Option<String>,
}

/// How an event is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line for people.
    Human,
    /// A JSON object on a line.
    Json,
}

/// What to log and how, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// Defaults to human on a terminal, else JSON.
    pub format: LogFormat,
    /// In the syntax of `tracing`'s `EnvFilter`. Defaults to [`LEVEL_DEFAULT`] in services.
    pub level: String,
    /// Whether to colour. Defaults to yes on a terminal, unless NO_COLOR is set.
    pub colour: bool,
}

impl LogArgs {
    /// Puts flags and environment together; `level` is what is logged if nothing is said.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn resolve(&self, environment: &Environment, level: &str) -> Result<LogSettings, Faults> {
        let mut faults = Faults::new();
        let terminal = std::io::stderr().is_terminal();
        let format = match either(&self.log_format, "--log-format", environment, variable::LOG_FORMAT) {
            None if terminal => LogFormat::Human,
            None => LogFormat::Json,
            Some((place, text)) => LogFormat::from_str(text, true).unwrap_or_else(|_| {
                faults.add(place, format!("`{text}` is neither `human` nor `json`"));
                LogFormat::Human
            }),
        };
        let level = match either(&self.log_level, "--log-level", environment, variable::LOG) {
            None => level,
            Some((place, text)) => {
                if let Err(error) = EnvFilter::builder().parse(text) {
                    faults.add(place, format!("`{text}` is no level (error, warn, info, debug, trace): {error}"));
                }
                text
            }
        };
        let colour = terminal && environment.get(variable::NO_COLOR).is_none();
        faults.finish(LogSettings { format, level: level.to_owned(), colour })
    }
}

fn either<'a>(
    flag: &'a Option<String>,
    name: &'static str,
    environment: &'a Environment,
    variable: &'static str,
) -> Option<(&'static str, &'a str)> {
    match flag {
        Some(text) => Some((name, text)),
        None => environment.get(variable).map(|text| (variable, text)),
    }
}

/// Begins to log, panics included. In a process that logs already it changes nothing.
pub fn init(settings: &LogSettings) {
    let filter = EnvFilter::builder().parse_lossy(&settings.level);
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(settings.colour);
    let begun = match settings.format {
        LogFormat::Human => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    if begun.is_ok() && settings.format == LogFormat::Json {
        log_panics();
    }
}

/// A panic is told on standard error by Rust itself, in a form that readers of JSON lines trip over.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("a value that is no text");
        let location = panic.location().map(ToString::to_string);
        tracing::error!(panic.message = message, panic.location = location, "panicked");
    }));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use super::*;

    fn args(format: Option<&str>, level: Option<&str>) -> LogArgs {
        LogArgs { log_format: format.map(Into::into), log_level: level.map(Into::into) }
    }

    #[test]
    fn flags_go_before_the_environment() {
        let environment = Environment::of([(variable::LOG, "warn"), (variable::LOG_FORMAT, "JSON")]);
        let settings = args(None, None).resolve(&environment, "info").unwrap();
        assert_eq!((settings.format, settings.level.as_str()), (LogFormat::Json, "warn"));
        let settings = args(Some("human"), Some("debug,broker=trace")).resolve(&environment, "info").unwrap();
        assert_eq!((settings.format, settings.level.as_str()), (LogFormat::Human, "debug,broker=trace"));
        let settings = args(None, None).resolve(&Environment::default(), LEVEL_DEFAULT).unwrap();
        assert_eq!(settings.level, LEVEL_DEFAULT);
    }

    #[test]
    fn both_faults_are_told_with_where_they_stand() {
        let environment = Environment::of([(variable::LOG, "a=b=c")]);
        let faults = args(Some("xml"), None).resolve(&environment, "info").unwrap_err();
        let places: Vec<_> = faults.iter().map(|fault| fault.place.as_str()).collect();
        assert_eq!(places, ["--log-format", "SORTIE_LOG"]);
    }
}
