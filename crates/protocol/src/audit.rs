//! Who changed what: one record for each act that steers a fleet, kept in the audit trail.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Operator, time::Timestamp};

/// One act, at `audit.<who>.<verb>`. It is stored before the act, so that no act goes unrecorded; whether the act then
/// succeeded, its target shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AuditRecord {
    /// Who did it.
    pub who: Operator,
    /// What was done, one subject token: `queue-pause`, `agent-drain`, `dead-replay`.
    pub verb: String,
    /// What it was done to: a capability, an instance, a request, a schedule.
    pub target: String,
    /// With what: the new values, a filter, a reason.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub detail: Value,
    /// When, on the broker's clock.
    pub at: Timestamp,
}
