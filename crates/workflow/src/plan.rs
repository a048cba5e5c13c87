//! A checked definition in the form that the engine runs: steps are numbers, expressions are compiled.

mod order;
pub(crate) mod read;

#[cfg(test)]
mod tests;

use std::time::Duration;

use protocol::{Capability, Lane, RetryPolicy, StepName, WorkflowName};
use serde::Serialize;
use serde_json::Value;

use crate::{Expression, Template};

/// A workflow that was found right.
#[derive(Debug)]
pub struct Plan {
    /// Its name.
    pub workflow: WorkflowName,
    /// Its semantic version.
    pub version: String,
    /// The capability whose requests start it too.
    pub serves: Option<Capability>,
    /// The JSON Schema of its input.
    pub input: Option<Value>,
    /// How long a run may take; without it a run has no timer.
    pub timeout: Option<Duration>,
    /// How many runs there may be at once.
    pub concurrency: Option<Concurrency>,
    /// What happens when a step has failed for good.
    pub on_failure: OnFailure,
    /// The steps, in the order of the text.
    pub steps: Vec<Step>,
    /// The result of a run. Defaults to null.
    pub output: Option<Template>,
    /// Whether an expression looks into the input, so that it has to be at hand; what is only handed on may be held.
    pub is_input_read: bool,
}

/// A step's number: its place in [`Plan::steps`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepIndex(pub usize);

/// A node of a workflow.
#[derive(Debug)]
pub struct Step {
    /// Its name.
    pub name: StepName,
    /// Steps that all must have ended well (completed, or skipped by their own condition) before it begins.
    pub needs: Vec<StepIndex>,
    /// Steps that all must have ended, at least one of them well, before it begins.
    pub needs_any: Vec<StepIndex>,
    /// The steps that name it in `needs` or `needs_any`.
    pub dependents: Vec<StepIndex>,
    /// False: it is skipped with output null, and what needs it goes on.
    pub condition: Option<Expression>,
    /// What it does.
    pub action: Action,
    /// What its failure means.
    pub on_error: OnError,
    /// The step whose failure begins this one; it does not begin otherwise.
    pub fallback_of: Option<StepIndex>,
    /// What takes its effect back.
    pub undo: Option<Body>,
    /// Whether an expression looks into its output, so that it has to be at hand; what is only handed on may be held.
    pub is_output_read: bool,
}

/// What a step does.
#[derive(Debug)]
pub enum Action {
    /// One request or one sub-run.
    Once(Body),
    /// One for each item of a list, gathered in the order of the items.
    ForEach {
        /// A list.
        items: Expression,
        /// How many are in flight at once.
        max_parallel: usize,
        /// When the step has succeeded.
        success: Success,
        /// Done for each; knows `item` and `index`.
        body: Body,
    },
    /// The same again until it is enough; the output is the last turn's.
    Repeat {
        /// Done each turn; knows `turn` (from 0) and `last`, the output of the turn before (null in the first).
        body: Body,
        /// Whether it is enough; knows `turn` and `last`, the output of the turn that has just ended.
        until: Expression,
        /// Turns at most; still not enough after them is a failure, `turns_exhausted`.
        turns_max: u64,
        /// The wait between two turns.
        pause: Option<Duration>,
    },
    /// All at once, the first success wins, the others are cancelled. The output is the winner's.
    Race {
        /// The branches by name; a branch's item number is its place here.
        branches: Vec<(String, Body)>,
    },
    /// Goes on after a while, or at a moment.
    Wait(Wait),
    /// Goes on when a signal of this name has come, or had come before. The output is what the signal carries.
    Signal {
        /// The signal's name.
        name: StepName,
        /// How long it waits. Without one it waits for as long as the run lives.
        timeout: Option<Duration>,
        /// The output when nothing came in time; without one that is a failure, `signal_timeout`.
        otherwise: Option<Template>,
    },
    /// Publishes an event and goes on.
    Emit {
        /// The topic, tokens with dots between them.
        topic: String,
        /// The event's data.
        with: Template,
    },
}

/// Until when a step waits.
#[derive(Debug)]
pub enum Wait {
    /// This long from its beginning.
    For(Duration),
    /// Until the moment that this gives, RFC 3339; a moment that is past does not wait.
    Until(Expression),
}

/// One request, or one sub-run.
#[derive(Debug)]
pub struct Body {
    /// Who is asked.
    pub target: Target,
    /// The input.
    pub with: Template,
    /// The lane. Defaults to the run's.
    pub lane: Option<Lane>,
    /// For one attempt. Defaults to the capability's; for a sub-run its own timeout holds.
    pub timeout: Option<Duration>,
    /// For all attempts, from the moment it is asked.
    pub deadline: Option<Duration>,
    /// Defaults to the capability's.
    pub retry: Option<RetryPolicy>,
}

/// Who is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// An agent.
    Capability(Capability),
    /// Another workflow.
    Workflow(WorkflowName),
}

/// How many items of a `foreach` must succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Success {
    /// Every one; an empty list succeeds. One failure decides, and what has not begun does not begin.
    All,
    /// At least one, unless there are none at all.
    Any,
    /// At least this many.
    AtLeast(u64),
}

/// What a step's failure means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// The run fails.
    Fail,
    /// The run goes on; what needs the step is skipped.
    Continue,
    /// This step is done instead, and its output stands for the failed one's.
    Fallback(StepIndex),
}

/// What happens when a step has failed for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnFailure {
    /// What becomes of the rest.
    pub stop: Stop,
    /// Whether steps with an `undo` are undone.
    pub undo: bool,
}

/// What becomes of the other steps of a run that has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// What runs is cancelled.
    FailFast,
    /// What runs is waited for; nothing new begins.
    FinishWhatRuns,
}

/// How many runs there may be at once, of the workflow or per key.
#[derive(Debug)]
pub struct Concurrency {
    /// Runs with the same key share the limit; without one, all runs do.
    pub key: Option<Template>,
    /// Runs at once.
    pub limit: u64,
    /// What happens to one more.
    pub then: Exceeding,
}

/// What happens to a run above the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exceeding {
    /// It waits.
    Queue,
    /// It fails with `run_limit_reached`.
    Reject,
}

impl Plan {
    /// The step of a name.
    pub fn find(&self, name: &StepName) -> Option<StepIndex> {
        self.steps.iter().position(|step| step.name == *name).map(StepIndex)
    }

    /// The step of a number.
    pub fn step(&self, index: StepIndex) -> &Step {
        &self.steps[index.0]
    }
}
