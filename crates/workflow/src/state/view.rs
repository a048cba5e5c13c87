//! What a run looks like: what `run show`, `run watch` and `run replay` print.

mod look;

use chrono::{DateTime, Utc};
use protocol::{Capability, Failure, InstanceId, RequestId, RunId, Status, StepName, WorkflowName};
use serde::{Serialize, Serializer};
use serde_json::json;

use super::step::StepStatus;
use crate::Payload;

/// A run at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct View {
    /// The run.
    pub run: RunId,
    /// The workflow; none before it started.
    pub workflow: Option<WorkflowName>,
    /// Its version.
    pub version: Option<String>,
    /// Where it is.
    pub status: RunStatus,
    /// How much of it is done, 0 to 100: steps, and items of those that go through a list.
    pub percent: u8,
    /// When it started.
    pub started: Option<DateTime<Utc>>,
    /// When it ended.
    pub ended: Option<DateTime<Utc>>,
    /// When it has to be over.
    pub due: Option<DateTime<Utc>>,
    /// The step's request that asked for it, if it is a sub-run.
    pub parent: Option<RequestId>,
    /// The run that this one does again.
    pub retry_of: Option<RunId>,
    /// The input.
    #[serde(serialize_with = "plainly")]
    pub input: Payload,
    /// The result; null unless completed.
    #[serde(serialize_with = "plainly")]
    pub output: Payload,
    /// Why it did not complete, or will not.
    pub failure: Option<Failure>,
    /// The steps, in the order of the definition.
    pub steps: Vec<StepView>,
    /// What was undone, in that order.
    pub undo: Vec<RequestView>,
    /// How much is still to be undone.
    pub undo_left: usize,
    /// Signals that came and that no step has taken.
    pub signals_kept: usize,
    /// The sequence of the last fact folded.
    pub last_sequence: u64,
}

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// It has not started.
    Waiting,
    /// Steps begin.
    Running,
    /// No step begins until it is resumed.
    Paused,
    /// It has failed or was cancelled; what runs is waited for.
    Stopping,
    /// What was done is taken back.
    Undoing,
    /// It is over.
    #[serde(untagged)]
    Ended(Status),
}

/// A step at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepView {
    /// Its name.
    pub name: StepName,
    /// What it does: `call`, `workflow`, `foreach`, `repeat`, `race`, `wait`, `signal`, `emit`.
    pub kind: &'static str,
    /// Where it is.
    pub status: StepStatus,
    /// When it began.
    pub begun: Option<DateTime<Utc>>,
    /// When it ended.
    pub ended: Option<DateTime<Utc>>,
    /// The steps that it needs.
    pub needs: Vec<StepName>,
    /// What it waits for now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<WaitsFor>,
    /// Its items by where they are, where it goes through a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub items: Option<ItemCounts>,
    /// What it asked for, by number.
    pub requests: Vec<RequestView>,
    /// Its output; null before its end.
    #[serde(serialize_with = "plainly")]
    pub output: Payload,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// The step whose output stands in for its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stood_in_by: Option<StepName>,
}

/// What a step waits for that is not the answer to a request.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitsFor {
    /// The end of these steps.
    Steps(Vec<StepName>),
    /// The run's going on.
    Resume,
    /// A moment.
    Moment(DateTime<Utc>),
    /// A signal.
    Signal {
        /// Its name.
        name: StepName,
        /// Until when.
        until: Option<DateTime<Utc>>,
    },
}

/// Items of a list by where they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ItemCounts {
    /// All.
    pub total: usize,
    /// Not begun.
    pub waiting: usize,
    /// Begun and not ended.
    pub running: usize,
    /// Ended well.
    pub completed: usize,
    /// Failed for good.
    pub failed: usize,
    /// Taken back.
    pub cancelled: usize,
}

/// A request or sub-run of a step at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RequestView {
    /// The step, or `undo_<step>`.
    pub step: StepName,
    /// The item, turn or branch, else 0.
    pub item: u64,
    /// The branch's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Who was asked, if an agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capability: Option<Capability>,
    /// Who was asked, if another workflow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow: Option<WorkflowName>,
    /// Where it is.
    pub status: StepStatus,
    /// When it was asked.
    pub begun: Option<DateTime<Utc>>,
    /// When its outcome came.
    pub ended: Option<DateTime<Utc>>,
    /// The attempt that it ended with; 0 before.
    pub attempt: u32,
    /// The agent that did it.
    pub agent: Option<InstanceId>,
    /// Whether it was taken over from the run that this one does again.
    pub is_copied: bool,
    /// Whether it was taken back.
    pub is_withdrawn: bool,
    /// The input.
    #[serde(serialize_with = "plainly")]
    pub input: Payload,
    /// The result; null unless completed.
    #[serde(serialize_with = "plainly")]
    pub output: Payload,
    /// Why it did not complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// The value itself; what is held elsewhere, as where that is.
fn plainly<S: Serializer>(payload: &Payload, serializer: S) -> Result<S::Ok, S::Error> {
    match payload {
        Payload::Value(value) => value.serialize(serializer),
        Payload::Held { reference, content_type } => {
            json!({ "held": { "reference": reference, "content_type": content_type } }).serialize(serializer)
        }
    }
}
