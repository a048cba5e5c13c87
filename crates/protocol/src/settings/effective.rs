//! A whole document as typed data.

use std::{collections::BTreeMap, str::FromStr, time::Duration};

use serde_json::{Map, Value};

use super::{SettingFault, check, defaults, get, merge};
use crate::{Backoff, Capability, duration, settings::Layer};

/// What an agent goes by.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentSettings {
    /// Attempts at once. Defaults to 10.
    pub slots: usize,
    /// How often the registry entry is renewed. Defaults to 10 s.
    pub heartbeat: Duration,
    /// What is logged. Defaults to `info,async_nats=warn`.
    pub log_level: String,
    /// How long attempts may go on after a stop was asked for. Defaults to 30 s.
    pub drain_grace: Duration,
    /// What is said of single capabilities.
    pub capabilities: BTreeMap<Capability, CapabilitySettings>,
    /// The agent's own. Defaults to nothing.
    pub custom: Map<String, Value>,
}

/// What is said of one capability; what is not said is the agent's own choice.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CapabilitySettings {
    /// How long one attempt may take.
    pub timeout: Option<Duration>,
    /// Attempts in all.
    pub attempts: Option<u32>,
    /// The wait between them.
    pub backoff: Option<Backoff>,
    /// Slots it may take at most.
    pub slots: Option<usize>,
}

impl AgentSettings {
    /// Reads a document; what it does not say is the default.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read(document: &Value) -> Result<Self, Vec<SettingFault>> {
        let faults = check(document);
        if !faults.is_empty() {
            return Err(faults);
        }
        let whole = merge([(Layer::Default, defaults()), (Layer::Program, document.clone())]).document;
        // It was checked, so what is not there is only what has no default.
        let number = |path: &str| get(&whole, path).and_then(Value::as_u64);
        let text = |path: &str| get(&whole, path).and_then(Value::as_str);
        let time = |path: &str| text(path).and_then(|text| duration::parse(text).ok());
        let size = |path: &str| number(path).and_then(|number| usize::try_from(number).ok());
        let names = whole["capabilities"].as_object().into_iter().flat_map(Map::keys);
        let capabilities = names.filter_map(|name| {
            let path = |key: &str| format!("capabilities.{name}.{key}");
            let of = CapabilitySettings {
                timeout: time(&path("timeout")),
                attempts: number(&path("attempts")).and_then(|number| u32::try_from(number).ok()),
                backoff: text(&path("backoff")).and_then(|text| Backoff::from_str(text).ok()),
                slots: size(&path("slots")),
            };
            Some((Capability::parse(name).ok()?, of))
        });
        Ok(Self {
            slots: size("slots").unwrap_or(10),
            heartbeat: time("heartbeat").unwrap_or(Duration::from_secs(10)),
            log_level: text("log_level").unwrap_or("info").to_owned(),
            drain_grace: time("drain_grace").unwrap_or(Duration::from_secs(30)),
            capabilities: capabilities.collect(),
            custom: whole["custom"].as_object().cloned().unwrap_or_default(),
        })
    }
}
