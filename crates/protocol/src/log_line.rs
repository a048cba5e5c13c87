//! A log line that a process ships: one message at `log.<kind>.<instance>`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{InstanceId, Kind, limits, time::Timestamp};

/// The text of a line, and that of one field, in bytes; what is longer is cut.
const TEXT_BYTES_MAX: usize = 4_096;

/// Fields of a line; what is beyond is left out.
const FIELDS_MAX: usize = 32;

/// How much a line matters, the gravest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Level {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

impl Level {
    /// All levels, the gravest first.
    pub const ALL: [Self; 5] = [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl std::str::FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|level| level.word().eq_ignore_ascii_case(text.trim()));
        found.ok_or_else(|| format!("`{text}` is no level: error, warn, info, debug, trace"))
    }
}

/// One line of a process's log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogLine {
    /// When it was written, on the clock of the machine that wrote it.
    pub time: Timestamp,
    /// How much it matters.
    pub level: Level,
    /// What it says.
    pub message: String,
    /// The part of the program that says it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub target: String,
    /// What the process is an instance of.
    pub kind: Kind,
    /// The process.
    pub instance: InstanceId,
    /// The request that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// What was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability: Option<String>,
    /// Which attempt it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u64>,
    /// The W3C trace that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// Whatever else it carries.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub fields: Map<String, Value>,
}

impl LogLine {
    /// A line without more than its text.
    pub fn new(time: Timestamp, level: Level, message: impl Into<String>, kind: Kind, instance: InstanceId) -> Self {
        Self {
            time,
            level,
            message: message.into(),
            target: String::new(),
            kind,
            instance,
            request: None,
            capability: None,
            attempt: None,
            trace_id: None,
            fields: Map::new(),
        }
    }

    /// The line with every text and the number of fields within their bounds.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.message = limits::truncate(&self.message, TEXT_BYTES_MAX);
        self.fields = std::mem::take(&mut self.fields)
            .into_iter()
            .take(FIELDS_MAX)
            .map(|(name, value)| match value {
                Value::String(text) => (name, Value::String(limits::truncate(&text, TEXT_BYTES_MAX))),
                other => (name, other),
            })
            .collect();
        self
    }

    /// Reads what is stored at a kind's and instance's place. Whoever ships what is no such line ships a text.
    pub fn read(stored_at: Timestamp, kind: Kind, instance: InstanceId, body: &[u8]) -> Self {
        serde_json::from_slice(body).unwrap_or_else(|_| {
            Self::new(stored_at, Level::default(), String::from_utf8_lossy(body), kind, instance).bounded()
        })
    }
}

/// The trace id within a `traceparent`.
pub fn trace_id(traceparent: &str) -> Option<&str> {
    traceparent.split('-').nth(1).filter(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time;

    #[test]
    fn a_strangers_text_is_a_line_too() {
        let (kind, instance) = (Kind::parse("k").unwrap(), InstanceId::parse("i").unwrap());
        let at = time::parse("2030-01-01T00:00:00Z").unwrap();
        let line = LogLine::read(at, kind.clone(), instance.clone(), b"it rains");
        assert_eq!((line.message.as_str(), line.level, line.time), ("it rains", Level::Info, at));
        let written =
            LogLine { attempt: Some(2), ..LogLine::new(at, Level::Warn, "x", kind.clone(), instance.clone()) };
        let body = serde_json::to_vec(&written).unwrap();
        assert_eq!(LogLine::read(time::now(), kind, instance, &body), written);
    }

    #[test]
    fn a_line_is_bounded() {
        let (kind, instance) = (Kind::parse("k").unwrap(), InstanceId::parse("i").unwrap());
        let mut line = LogLine::new(time::now(), Level::Warn, "ä".repeat(9_000), kind, instance);
        line.fields = (0..100).map(|number| (number.to_string(), Value::from("x".repeat(9_000)))).collect();
        assert!(serde_json::to_vec(&line.bounded()).unwrap().len() < 140_000);
    }

    #[test]
    fn levels_are_ordered_and_read_from_their_words() {
        assert!(Level::Error < Level::Warn && Level::Debug < Level::Trace);
        for level in Level::ALL {
            assert_eq!(level.word().parse(), Ok(level));
        }
        assert!("loud".parse::<Level>().unwrap_err().contains("loud"));
    }

    #[test]
    fn a_trace_id_stands_in_its_traceparent() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(trace_id(&format!("00-{id}-00f067aa0ba902b7-01")), Some(id));
        assert_eq!([trace_id(""), trace_id("00-xyz-1-01")], [None, None]);
    }
}
