//! What a run's log consists of.

mod read;

use chrono::{DateTime, Utc};
use protocol::{Failure, InstanceId, Lane, RequestId, RunId, Status, StepName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Payload;

pub use protocol::RunTimer as TimerName;

/// One message of a run's log.
#[derive(Clone, Debug, PartialEq)]
pub struct Fact {
    /// Its sequence in the stream; facts of a run are folded in this order.
    pub sequence: u64,
    /// When the broker stored it, by the broker's clock: the only clock that a run knows.
    pub at: DateTime<Utc>,
    /// What happened.
    pub event: Event,
}

/// What happened to a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// It began: `started`.
    Started(Box<Started>),
    /// A request or sub-run of a step ended: `step.<step>.<n>.outcome`.
    StepEnded {
        /// The step, or `undo_<step>`.
        step: StepName,
        /// The item, turn or branch, else 0.
        item: u64,
        /// How.
        outcome: Box<StepOutcome>,
    },
    /// A schedule that has not fired yet: `timer.<t>`. It tells nothing that the engine needs.
    TimerSet(TimerName),
    /// A timer came due: `timer.<t>.fired`.
    TimerFired(TimerName),
    /// Somebody says something from outside: `signal.<name>`.
    Signalled {
        /// The signal's name.
        name: StepName,
        /// What it carries.
        value: Payload,
    },
    /// Somebody wants it to end: `cancel`.
    CancelRequested {
        /// Why, in somebody's words.
        reason: String,
    },
    /// Nothing new is to begin: `pause`.
    PauseRequested,
    /// Go on: `resume`.
    ResumeRequested,
    /// A message in the log that is none of these; it changes nothing and is shown.
    Unreadable {
        /// Its subject behind the run's id.
        name: String,
        /// What is wrong with it.
        why: String,
    },
}

/// How a run began; the body of its first fact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Started {
    /// The whole definition, so that a newer version never changes a run.
    pub definition: Value,
    /// The input.
    pub input: Payload,
    /// The lane of its steps where they name none.
    #[serde(default)]
    pub lane: Lane,
    /// Until when it must be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<DateTime<Utc>>,
    /// How long it may take, where who asked for it says less than the workflow does.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "protocol::duration::optional")]
    #[schemars(with = "Option<String>")]
    pub timeout: Option<std::time::Duration>,
    /// The step's request that asked for it, if it is a sub-run. Its outcome goes into that run's log too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<RequestId>,
    /// The run that this one does again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<RunId>,
    /// What that one had done and is not done again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub copied: Vec<CopiedOutcome>,
}

/// An outcome that a run takes over from the one it does again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CopiedOutcome {
    /// The step.
    pub step: StepName,
    /// The item, turn or branch, else 0.
    pub item: u64,
    /// How it ended then.
    pub outcome: StepOutcome,
}

/// How a request or sub-run of a step ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepOutcome {
    /// How.
    pub status: Status,
    /// The result; null unless completed.
    #[serde(default)]
    pub output: Payload,
    /// The failure, unless completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// The attempt that it ended with.
    #[serde(default)]
    pub attempt: u32,
    /// The agent that did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
}
