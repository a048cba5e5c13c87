//! Every setting of an agent, as a table.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::{duration, limits, settings};

/// What a value may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A whole number.
    Integer {
        /// At least.
        min: u64,
        /// At most.
        max: u64,
    },
    /// A duration such as `10s`.
    Duration {
        /// At least.
        min: Duration,
        /// At most.
        max: Duration,
    },
    /// A wait between attempts such as `exponential; first=1s; cap=5m`.
    Backoff,
    /// A level (`error`, `warn`, `info`, `debug`, `trace`), or levels by module as in `info,broker=debug`.
    Level,
}

/// One setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Where it stands; `*` is any one key.
    pub path: &'static str,
    /// What it may be.
    pub shape: Shape,
    /// What it is unless something is said, as JSON; empty where that is another setting, or the agent's own.
    pub default: &'static str,
    /// Whether a running agent takes it over; else it needs a restart.
    pub is_live: bool,
    /// One line for people.
    pub description: &'static str,
}

const SECOND: Duration = Duration::from_secs(1);

/// All of them. Beside them stands `custom`, which is the agents' own and may hold anything.
pub const TABLE: &[Setting] = &[
    Setting {
        path: "slots",
        shape: Shape::Integer { min: 1, max: limits::SLOTS_MAX as u64 },
        default: "10",
        is_live: true,
        description: "Attempts at once, shared by all capabilities.",
    },
    Setting {
        path: "heartbeat",
        shape: Shape::Duration { min: SECOND, max: Duration::from_secs(60) },
        default: "\"10s\"",
        is_live: true,
        description: "How often an agent renews its registry entry, which stands three times as long.",
    },
    Setting {
        path: "log_level",
        shape: Shape::Level,
        default: "\"info,async_nats=warn\"",
        is_live: true,
        description: "What is logged: a level, or levels by module.",
    },
    Setting {
        path: "drain_grace",
        shape: Shape::Duration { min: Duration::ZERO, max: Duration::from_secs(3_600) },
        default: "\"30s\"",
        is_live: false,
        description: "How long attempts may go on after a stop was asked for.",
    },
    Setting {
        path: "capabilities.*.timeout",
        shape: Shape::Duration { min: Duration::from_millis(1), max: limits::TIMEOUT_MAX },
        default: "",
        is_live: false,
        description: "How long one attempt may take, where the request does not say.",
    },
    Setting {
        path: "capabilities.*.attempts",
        shape: Shape::Integer { min: 1, max: limits::ATTEMPTS_MAX as u64 },
        default: "",
        is_live: false,
        description: "Attempts in all, where the request does not say.",
    },
    Setting {
        path: "capabilities.*.backoff",
        shape: Shape::Backoff,
        default: "",
        is_live: false,
        description: "The wait between attempts, where the request does not say.",
    },
    Setting {
        path: "capabilities.*.slots",
        shape: Shape::Integer { min: 1, max: limits::SLOTS_MAX as u64 },
        default: "",
        is_live: false,
        description: "Slots that the capability may take at most.",
    },
];

/// The setting that a path names, if it is one of the table.
pub fn setting(path: &str) -> Option<&'static Setting> {
    TABLE.iter().find(|setting| {
        let (wanted, given) = (setting.path.split('.'), path.split('.'));
        wanted.clone().count() == given.clone().count()
            && wanted.zip(given).all(|(wanted, given)| wanted == "*" || wanted == given)
    })
}

/// The document of all defaults.
pub fn defaults() -> Value {
    let mut document = Value::Object(Map::new());
    for setting in TABLE {
        if let Ok(value) = serde_json::from_str(setting.default) {
            settings::set(&mut document, setting.path, value);
        }
    }
    document
}

/// The JSON Schema of a document.
pub fn schema() -> Value {
    let mut root = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings",
        "description": "Settings of agents, at `settings.global`, `settings.kind.<kind>` and `settings.instance.<instance>` in \
                        the configuration bucket, and in an agent's file. Layers are put one over another.",
        "type": "object",
        "additionalProperties": false,
        "properties": { "custom": {
            "type": "object",
            "description": "The agents' own settings. A secret is a reference: `secret://env/NAME` or `secret://file/PATH`."
        } },
    });
    for setting in TABLE {
        let mut at = &mut root;
        for key in setting.path.split('.') {
            if at.get("type").is_none() {
                *at = json!({ "type": "object" });
            }
            at = match key {
                "*" => &mut at["additionalProperties"],
                key => {
                    if at.get("additionalProperties").is_none() {
                        at["additionalProperties"] = Value::Bool(false);
                    }
                    &mut at["properties"][key]
                }
            };
        }
        *at = setting.schema();
    }
    root
}

impl Setting {
    fn schema(&self) -> Value {
        let text = |range: String| json!({ "type": "string", "description": format!("{} {range}", self.description) });
        let mut schema = match self.shape {
            Shape::Integer { min, max } => {
                json!({ "type": "integer", "minimum": min, "maximum": max, "description": self.description })
            }
            Shape::Duration { min, max } => {
                text(format!("A duration from {} to {}.", duration::format(min), duration::format(max)))
            }
            Shape::Backoff | Shape::Level => text(String::new().trim_end().to_owned()),
        };
        if let Ok(default) = serde_json::from_str::<Value>(self.default) {
            schema["default"] = default;
        }
        schema
    }
}
