//! What is said to running agents over core NATS, and what they answer. Losing such a message loses no work: a notice is
//! a hint for something that also stands in a stream, and who steers sees that no answer came.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Capability, Failure, InstanceId, Kind, RequestId,
    registry::{AgentEntry, State},
    time::Timestamp,
};

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

/// To `control.<instance>.set-slots`: how many attempts it may run at once from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetSlots {
    /// From 1 to 1,000. Fewer than run now: none is stopped, and none begins until enough have ended.
    #[schemars(range(min = 1, max = 1000))]
    pub slots: usize,
}

/// To `control.<instance>.set-log`: what it logs from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetLog {
    /// A level, or levels by module as in `info,sortie_worker=debug`; `default` is what it started with.
    pub level: String,
}

/// To every other verb that steers: nothing is to be said, so the body is empty or `{}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoArgument {}

/// What an agent answers to whoever steers it: what it did, or why it did not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ControlAnswer {
    /// Who answers.
    pub instance: InstanceId,
    /// What it is an instance of.
    pub kind: Kind,
    /// Where it is in its life now.
    pub state: State,
    /// What was done; none where it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
    /// Why it was refused; none where it was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Failure>,
}

/// What a verb did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "did", rename_all = "snake_case")]
pub enum Effect {
    /// It pulls no more, ends what it has and exits with 0.
    Draining {
        /// Requests that it still has.
        in_hand: usize,
    },
    /// It pulls no more, ends what it has and exits with 75, to be started again.
    Restarting {
        /// Requests that it still has.
        in_hand: usize,
    },
    /// It pulls no more until it is resumed.
    Paused {
        /// Requests that it still has.
        in_hand: usize,
    },
    /// It pulls.
    Resumed,
    /// It has as many slots.
    Slots {
        /// How many it had.
        before: usize,
        /// How many it has.
        now: usize,
        /// How many are taken; more than it has until enough attempts have ended.
        busy: usize,
    },
    /// It logs this.
    Log {
        /// What it logged.
        before: String,
        /// What it logs.
        now: String,
    },
    /// It stops these, as soon as their stored outcomes prove the cancel.
    Cancelled {
        /// How many of them run here.
        running: usize,
    },
}
