//! What is said to running agents over core NATS. Losing such a message loses nothing: each is a hint for something
//! that also stands in a stream.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Capability, RequestId, registry::AgentEntry, time::Timestamp};

/// Requests that one inspection names at most, the oldest first.
pub const IN_HAND_MAX: usize = 1_000;

/// To `control.all.cancel`: these requests are cancelled, their outcomes already stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CancelNotice {
    /// The requests.
    pub ids: Vec<RequestId>,
}

/// To `progress.<request-id>`: how far a running attempt is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Progress {
    /// Done so far, from 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<f64>,
    /// One line for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Partial output for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
    /// Which attempt says this.
    #[serde(default)]
    pub attempt: u32,
}

/// The answer to `control.<instance>.inspect`: what an agent is and has in its hands at this moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Inspection {
    /// What stands in the registry, as it is now.
    pub entry: AgentEntry,
    /// The requests that it has begun and whose end is not stored yet, the oldest first, 1,000 at most.
    pub in_hand: Vec<InHand>,
}

/// One request in an agent's hands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InHand {
    /// The request.
    pub id: RequestId,
    /// What is asked for.
    pub capability: Capability,
    /// Which attempt it is, from 1.
    pub attempt: u32,
    /// Since when, on the broker's clock.
    pub since: Timestamp,
}
