//! Logs: events with fields on standard error, for people or for machines, and shipped to the fleet's log.
//!
//! ```text
//!   tracing --+-- filter --> standard error
//!             +-- filter --> bounded channel --> shipper --> fleet.log.<kind>.<instance>
//! ```

mod collect;
mod fields;
mod logs;
mod ship;

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

pub use self::logs::{LevelError, Logs};
pub use self::ship::{Sender, Shipping};
use crate::settings::{Environment, Faults, environment as variable};

/// What services log unless something else is said. The NATS client repeats what we log ourselves.
pub const LEVEL_DEFAULT: &str = "info,async_nats=warn";

/// What is shipped unless something else is said.
pub const SHIPPED_DEFAULT: &str = "info";

/// Ships nothing, and stands for the filter that lets nothing through.
const OFF: &str = "off";

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
    /// What agents and coordinators ship to the fleet's log, which `sortie logs` shows: levels as above, or off
    /// [env: SORTIE_SHIP_LOGS] [default: info]
    #[arg(long, global = true, value_name = "LEVEL")]
    pub ship_logs: Option<String>,
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
    /// What is shipped to the fleet's log by processes that ship, in the same syntax; none for nothing. Defaults to
    /// [`SHIPPED_DEFAULT`].
    pub shipped: Option<String>,
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
        let mut levels = |flag, name, variable, default: &str| match either(flag, name, environment, variable) {
            None => default.to_owned(),
            Some((place, text)) => {
                if let Err(error) = filter_of(text) {
                    faults.add(place, error);
                }
                text.to_owned()
            }
        };
        let level = levels(&self.log_level, "--log-level", variable::LOG, level);
        let shipped = levels(&self.ship_logs, "--ship-logs", variable::SHIP_LOGS, SHIPPED_DEFAULT);
        let shipped = (!shipped.trim().eq_ignore_ascii_case(OFF)).then_some(shipped);
        let colour = terminal && environment.get(variable::NO_COLOR).is_none();
        faults.finish(LogSettings { format, level, shipped, colour })
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

/// A filter from levels. A word that is no level would else be taken for a module of which everything is logged, and all
/// others would fall silent.
fn filter_of(text: &str) -> Result<EnvFilter, String> {
    const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", OFF];
    let explain = |why: &str| format!("`{text}` is no level (error, warn, info, debug, trace, off): {why}");
    for part in text.split(',').map(str::trim) {
        let is_level = LEVELS.contains(&part.to_ascii_lowercase().as_str());
        let module = part.split('[').next().unwrap_or_default();
        if module.contains(char::is_whitespace) || !part.contains(['=', '[']) && !is_level {
            return Err(explain("levels by module are written like `info,sortie_worker=debug`"));
        }
    }
    EnvFilter::builder().parse(text).map_err(|error| explain(&error.to_string()))
}

/// Begins to log, panics included, and to collect for the fleet's log where the process ships. In a process that logs
/// already it changes nothing.
pub fn init(settings: &LogSettings, ships: bool) -> Logs {
    let shipped = settings.shipped.as_deref().filter(|_| ships);
    let logs = logs::begin(settings, shipped);
    if logs.is_ours() && settings.format == LogFormat::Json {
        log_panics();
    }
    logs
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
        LogArgs { log_format: format.map(Into::into), log_level: level.map(Into::into), ship_logs: None }
    }

    #[test]
    fn flags_go_before_the_environment() {
        let environment = Environment::of([(variable::LOG, "warn"), (variable::LOG_FORMAT, "JSON")]);
        let settings = args(None, None).resolve(&environment, "info").unwrap();
        assert_eq!((settings.format, settings.level.as_str()), (LogFormat::Json, "warn"));
        let settings = args(Some("human"), Some("debug,broker=trace")).resolve(&environment, "info").unwrap();
        assert_eq!((settings.format, settings.level.as_str()), (LogFormat::Human, "debug,broker=trace"));
        let settings = args(None, None).resolve(&Environment::default(), LEVEL_DEFAULT).unwrap();
        assert_eq!((settings.level.as_str(), settings.shipped.as_deref()), (LEVEL_DEFAULT, Some("info")));
        let environment = Environment::of([(variable::SHIP_LOGS, "OFF")]);
        assert_eq!(args(None, None).resolve(&environment, "info").unwrap().shipped, None);
    }

    #[test]
    fn a_word_that_is_no_level_is_no_module() {
        for good in ["info", "Debug", "off", "info,broker=debug", "broker=trace", "a[span]=debug"] {
            assert!(filter_of(good).is_ok(), "{good}");
        }
        for bad in ["verbose", "", "info,broker", "broker=loud", "info broker=debug"] {
            assert!(filter_of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn both_faults_are_told_with_where_they_stand() {
        let environment = Environment::of([(variable::LOG, "a=b=c")]);
        let faults = args(Some("xml"), None).resolve(&environment, "info").unwrap_err();
        let places: Vec<_> = faults.iter().map(|fault| fault.place.as_str()).collect();
        assert_eq!(places, ["--log-format", "SORTIE_LOG"]);
    }
}
