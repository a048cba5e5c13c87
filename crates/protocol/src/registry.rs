//! What an agent says of itself in the registry bucket, renewed while it lives and gone by itself when it does not.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Capability, InstanceId, Kind, time::Timestamp};

/// Where an agent is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum State {
    #[default]
    Starting,
    Ready,
    Paused,
    Draining,
    Stopped,
    Failed,
}

/// How an agent feels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Health {
    Healthy,
    Degraded,
    Unhealthy,
    #[default]
    Unknown,
}

/// One capability that an agent serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CapabilityEntry {
    /// Its name.
    pub name: Capability,
    /// One line for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Digest of the JSON Schema of its input, which stands at `schema.<digest>` in the state bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_schema: Option<String>,
    /// Digest of the JSON Schema of its output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<String>,
    /// Slots it may take at most, if it has a cap of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<usize>,
}

/// What an agent has done since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counts {
    /// Attempts whose result became a completed outcome.
    pub completed: u64,
    /// Requests given up.
    pub failed: u64,
    /// Attempts followed by another.
    pub retried: u64,
    /// Messages dropped because their outcome was already there.
    pub superseded: u64,
}

/// One agent in the registry, at key `<kind>.<instance>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AgentEntry {
    /// The process.
    pub instance: InstanceId,
    /// What it is an instance of.
    pub kind: Kind,
    /// Version of the kind.
    pub version: String,
    /// The machine it runs on.
    pub host: String,
    /// Its process id there.
    pub pid: u32,
    /// Where it is in its life.
    pub state: State,
    /// How it feels.
    pub health: Health,
    /// Why it feels so, where it is not healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_reason: Option<String>,
    /// What it serves.
    pub capabilities: Vec<CapabilityEntry>,
    /// How many attempts it runs at once.
    pub slots: usize,
    /// How many it runs now.
    pub slots_busy: usize,
    /// What it has done.
    pub counts: Counts,
    /// When it started, on the broker's clock.
    pub started_at: Timestamp,
    /// When it wrote this, on the broker's clock.
    pub seen_at: Timestamp,
    /// Whatever else its owner says of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

impl AgentEntry {
    /// Its key in the registry bucket.
    pub fn key(&self) -> String {
        format!("{}.{}", self.kind, self.instance)
    }

    /// The share of its slots that is taken: 0 when it is idle, 1 when it is full.
    pub fn load(&self) -> f64 {
        self.slots_busy as f64 / self.slots.max(1) as f64
    }

    /// Whether it takes nothing more, for good.
    pub fn is_leaving(&self) -> bool {
        matches!(self.state, State::Draining | State::Stopped | State::Failed)
    }

    /// Whether it has left: its entry stands there a while longer.
    pub fn is_gone(&self) -> bool {
        matches!(self.state, State::Stopped | State::Failed)
    }

    /// Whether it serves a capability.
    pub fn serves(&self, capability: &Capability) -> bool {
        self.capabilities.iter().any(|entry| entry.name == *capability)
    }
}
