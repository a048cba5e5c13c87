//! What is remembered about one stored message in the state bucket: who died with it, and the tries of unique work.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{AttemptRecord, InstanceId};

/// A poison mark: written by a worker before it decodes and runs a message that was delivered before, taken back by
/// whoever gives the message back alive. Only a death leaves one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Mark {
    /// The workers that took the redelivered message, oldest first.
    pub takers: Vec<InstanceId>,
}

/// The tries of a unique request. They cannot ride in the message: it keeps its key while it waits, so it is never
/// published again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UniqueTries {
    /// Which attempt comes next, from 1.
    pub attempt: u32,
    /// How often it was put off.
    pub snoozes: u32,
    /// The code of what it was put off for, last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snoozed_for: Option<String>,
    /// The failed attempts so far.
    #[serde(default)]
    pub failures: Vec<AttemptRecord>,
}

/// The key of a poison mark.
pub fn mark_key(stream: &str, sequence: u64) -> String {
    format!("mark.{stream}.{sequence}")
}

/// The key of a unique request's tries.
pub fn tries_key(stream: &str, sequence: u64) -> String {
    format!("tries.{stream}.{sequence}")
}

/// The key that whoever examines a fleet writes, for a second, to learn whether the store takes anything.
pub const PROBE_KEY: &str = "probe.store";

/// The key of a JSON Schema that registry entries refer to by its digest.
pub fn schema_key(digest: &str) -> String {
    format!("schema.{digest}")
}
