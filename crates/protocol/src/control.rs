//! What is said to running agents over core NATS. Losing such a message loses nothing: each is a hint for something
//! that also stands in a stream.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::RequestId;

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
