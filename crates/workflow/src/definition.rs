//! The file that says what a workflow does.

mod formats;

use std::{collections::BTreeMap, time::Duration};

use document::{Document, Format, Retry};
use protocol::{Capability, Lane, StepName, WorkflowName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Steps in one workflow.
pub const STEPS_MAX: usize = 1_000;

/// How many items of a `foreach` are in flight at once where nothing is said.
pub const PARALLEL_DEFAULT: usize = 64;

/// How many items of a `foreach` may be in flight at once.
pub const PARALLEL_MAX: usize = 10_000;

/// How often a `repeat` is done at most where nothing is said.
pub const TURNS_DEFAULT: u64 = 100;

/// How often a `repeat` may be done at most.
pub const TURNS_MAX: u64 = 10_000;

/// Branches of one `race`.
pub const BRANCHES_MAX: usize = 64;

/// The name of a step with an `undo`, in bytes: its undoing is the step `undo_<name>`.
pub const UNDONE_NAME_BYTES_MAX: usize = 27;

/// What the names of undoings begin with.
pub const UNDO_PREFIX: &str = "undo_";

/// A workflow. Unknown keys are faults.
///
/// ```yaml
/// workflow: greet
/// version: 1.0.0
/// steps:
///   word: { call: pick-word }
///   say:  { needs: [word], call: say, with: { text: "${ steps.word.output }" } }
/// output: "${ steps.say.output }"
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Sortie workflow")]
pub struct Definition {
    /// Its name.
    #[schemars(with = "String", extend("format" = "sortie-workflow"))]
    pub workflow: WorkflowName,
    /// Its version: three numbers such as `1.0.0`, as semantic versions have.
    #[schemars(length(max = 64), extend("format" = "sortie-version"))]
    pub version: String,
    /// What it does, in a sentence. Defaults to nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 1024))]
    pub description: Option<String>,
    /// The capability whose requests start it too, as if an agent served it. Defaults to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("format" = "sortie-capability"))]
    pub serves: Option<Capability>,
    /// The JSON Schema of its input. Defaults to taking everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Value")]
    pub input: Option<Value>,
    /// How long a run may take, such as `1h`. Defaults to no limit.
    #[serde(default, with = "protocol::duration::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("format" = "sortie-while"))]
    pub timeout: Option<Duration>,
    /// How many runs there may be at once. Defaults to any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ConcurrencyDefinition")]
    pub concurrency: Option<ConcurrencyDefinition>,
    /// What happens when a step has failed for good.
    #[serde(default, skip_serializing_if = "OnFailureDefinition::is_default")]
    pub on_failure: OnFailureDefinition,
    /// The steps by name.
    #[schemars(extend(
        "propertyNames" = { "format": "sortie-step" }, "minProperties" = 1, "maxProperties" = 1000
    ))]
    pub steps: BTreeMap<StepName, StepDefinition>,
    /// The order in which steps are shown, and begun where several could be; `workflow apply` writes that of the text here.
    /// Defaults to each step behind what it needs, else by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>", length(max = 1000))]
    pub order: Vec<String>,
    /// The result of a run: JSON with `${ … }` in its texts. Defaults to null.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub output: Value,
}

/// One step. It has exactly one of `call`, `workflow`, `wait`, `signal`, `emit`, `repeat` and `race`; `foreach` stands before a `call` or
/// a `workflow`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StepDefinition {
    /// Steps that all must have ended well, or been skipped by their own `if`, before this one begins. Defaults to none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub needs: Vec<String>,
    /// Steps that all must have ended, at least one of them well, before this one begins. Defaults to none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub needs_any: Vec<String>,
    /// An expression. If it is false the step is skipped with output null, and what needs it goes on.
    #[serde(rename = "if", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub condition: Option<String>,
    /// A capability: one request.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("format" = "sortie-capability"))]
    pub call: Option<Capability>,
    /// A workflow: one run of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("format" = "sortie-workflow"))]
    pub workflow: Option<WorkflowName>,
    /// The input, or the data of an event: JSON with `${ … }` in its texts. Defaults to an empty map.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Value")]
    pub with: Option<Value>,
    /// An expression that gives a list: the step is done for each `item` (`index` from 0), its output is the list of outputs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub foreach: Option<String>,
    /// How many items are in flight at once. Defaults to 64.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "usize", range(min = 1, max = 10_000))]
    pub max_parallel: Option<usize>,
    /// How many items must succeed: `all`, `any` or a number. Defaults to `all`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "formats::success")]
    pub success: Option<SuccessDefinition>,
    /// Waits this long, or until a moment: `1h`, or `{ until: "${ … }" }`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "formats::wait")]
    pub wait: Option<WaitDefinition>,
    /// Waits for a signal of this name; the output is what it carries.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("format" = "sortie-signal"))]
    pub signal: Option<StepName>,
    /// The output where no signal came before the timeout: JSON with `${ … }` in its texts. Defaults to a failure, `signal_timeout`.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Value")]
    pub otherwise: Option<Value>,
    /// Publishes an event on this topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("format" = "sortie-topic"))]
    pub emit: Option<String>,
    /// Does the same again until it is enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RepeatDefinition")]
    pub repeat: Option<RepeatDefinition>,
    /// Does all at once; the first success wins, the others are cancelled.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        with = "BTreeMap<String, BodyDefinition>",
        extend("minProperties" = 2, "maxProperties" = 64, "propertyNames" = { "format": "sortie-branch" })
    )]
    pub race: Option<BTreeMap<String, BodyDefinition>>,
    /// The lane of its requests. Defaults to the run's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Lane")]
    pub lane: Option<Lane>,
    /// How long one attempt may take, or how long a signal is waited for. Defaults to the capability's, or to no limit.
    #[serde(with = "protocol::duration::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("format" = "sortie-while"))]
    pub timeout: Option<Duration>,
    /// How long all attempts together may take. Defaults to no limit.
    #[serde(with = "protocol::duration::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("format" = "sortie-while"))]
    pub deadline: Option<Duration>,
    /// When and how often a failed attempt is tried again. Defaults to the capability's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Retry")]
    pub retry: Option<Retry>,
    /// What its failure means: `fail`, `continue`, or `{ fallback: <step> }`. Defaults to `fail`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "formats::on_error")]
    pub on_error: Option<OnErrorDefinition>,
    /// What takes its effect back when the run fails or is cancelled. Defaults to nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "BodyDefinition")]
    pub undo: Option<BodyDefinition>,
}

/// One request or one sub-run: exactly one of `call` and `workflow`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BodyDefinition {
    /// A capability: one request.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("format" = "sortie-capability"))]
    pub call: Option<Capability>,
    /// A workflow: one run of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("format" = "sortie-workflow"))]
    pub workflow: Option<WorkflowName>,
    /// The input: JSON with `${ … }` in its texts. Defaults to an empty map.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Value")]
    pub with: Option<Value>,
    /// The lane. Defaults to the step's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Lane")]
    pub lane: Option<Lane>,
    /// How long one attempt may take. Defaults to the step's.
    #[serde(with = "protocol::duration::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("format" = "sortie-timeout"))]
    pub timeout: Option<Duration>,
    /// How long all attempts together may take. Defaults to the step's.
    #[serde(with = "protocol::duration::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("format" = "sortie-while"))]
    pub deadline: Option<Duration>,
    /// When and how often a failed attempt is tried again. Defaults to the step's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Retry")]
    pub retry: Option<Retry>,
}

/// The same again until it is enough: exactly one of `call` and `workflow`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RepeatDefinition {
    /// A capability: one request each turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("format" = "sortie-capability"))]
    pub call: Option<Capability>,
    /// A workflow: one run of it each turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("format" = "sortie-workflow"))]
    pub workflow: Option<WorkflowName>,
    /// The input; knows `turn` (from 0) and `last`, the output of the turn before. Defaults to an empty map.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Value")]
    pub with: Option<Value>,
    /// An expression: whether it is enough; knows `turn` and `last`, the output of the turn that has just ended.
    pub until: String,
    /// Turns at most; not enough after them is a failure, `turns_exhausted`. Defaults to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u64", range(min = 1, max = 10_000))]
    pub max: Option<u64>,
    /// The wait between two turns. Defaults to none.
    #[serde(default, with = "protocol::duration::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("format" = "sortie-while"))]
    pub pause: Option<Duration>,
}

/// How long a step waits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum WaitDefinition {
    /// This long, such as `10m`.
    For(#[serde(with = "protocol::duration::text")] Duration),
    /// Until a moment.
    Until {
        /// An expression that gives a moment as RFC 3339.
        until: String,
    },
}

/// How many items must succeed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SuccessDefinition {
    /// At least this many.
    AtLeast(u64),
    /// `all` or `any`.
    Word(String),
}

/// What a step's failure means.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OnErrorDefinition {
    /// `fail` or `continue`.
    Word(String),
    /// Another step is done instead.
    Fallback {
        /// Its name.
        fallback: String,
    },
}

/// What happens when a step has failed for good.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OnFailureDefinition {
    /// What becomes of the other steps. Defaults to `fail_fast`.
    pub stop: StopDefinition,
    /// Whether steps with an `undo` are undone. Defaults to true.
    pub undo: bool,
}

/// What becomes of the other steps of a run that has failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StopDefinition {
    /// What runs is cancelled.
    #[default]
    FailFast,
    /// What runs is waited for; nothing new begins.
    FinishWhatRuns,
}

/// How many runs there may be at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConcurrencyDefinition {
    /// Runs with the same key share the limit: text with `${ … }` in it, which knows `input`. Defaults to one key for all runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub key: Option<String>,
    /// Runs at once.
    #[schemars(range(min = 1, max = 100_000))]
    pub limit: u64,
    /// What happens to one more. Defaults to `queue`.
    #[serde(default)]
    pub then: ThenDefinition,
}

/// What happens to a run above the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ThenDefinition {
    /// It waits.
    #[default]
    Queue,
    /// It fails with `run_limit_reached`.
    Reject,
}

impl Document for Definition {
    const FORMATS: &'static [Format] = &formats::FORMATS;
}

impl Default for OnFailureDefinition {
    fn default() -> Self {
        Self { stop: StopDefinition::FailFast, undo: true }
    }
}

impl OnFailureDefinition {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A null that was written is a value, not its absence.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}
