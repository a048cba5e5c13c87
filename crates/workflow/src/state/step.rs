//! What has become of one step and of what was asked for it.

use chrono::{DateTime, Utc};
use protocol::{Failure, InstanceId, Status, codes, limits};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Payload, fact::StepOutcome};

/// Where a step, or one request of it, is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    /// It has not begun.
    #[default]
    Waiting,
    /// It has begun.
    Running,
    /// It has done what it is there for.
    Completed,
    /// It has failed for good.
    Failed,
    /// It does not happen: its condition is false, or what it needs did not end well.
    Skipped,
    /// It was cut off, or taken back while it ran.
    Cancelled,
}

/// What has become of one step.
#[derive(Debug, Default)]
pub(super) struct StepRun {
    pub(super) status: StepStatus,
    /// Ends that it still waits for.
    pub(super) needs_open: usize,
    /// Whether something of `needs` did not end well.
    pub(super) is_cut_off: bool,
    /// How many of `needs_any` ended well.
    pub(super) any_well: usize,
    /// Whether the step that this one stands in for has failed.
    pub(super) is_called: bool,
    pub(super) begun: Option<DateTime<Utc>>,
    pub(super) ended: Option<DateTime<Utc>>,
    /// Its place in the order in which things ended.
    pub(super) rank: u64,
    /// The number of the timer that it has set, and when that is due.
    pub(super) timer: Option<(u64, DateTime<Utc>)>,
    pub(super) output: Payload,
    pub(super) error: Option<Box<StepError>>,
    /// What was begun, by number: contiguous but for branches that a repeated run need not ask.
    pub(super) items: Vec<Item>,
    pub(super) counts: Counts,
    /// The list that a `foreach` goes through.
    pub(super) list: Vec<Payload>,
    /// What its gathered outputs take, in bytes.
    pub(super) gathered_bytes: usize,
    /// The branch that won.
    pub(super) winner: Option<usize>,
    /// Whether what runs was taken back.
    pub(super) is_withdrawn: bool,
}

/// A step's failure, as data and as expressions see it.
#[derive(Debug)]
pub(super) struct StepError {
    pub(super) failure: Failure,
    pub(super) json: Value,
}

/// How many items are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) running: usize,
    pub(super) completed: usize,
    pub(super) failed: usize,
    pub(super) cancelled: usize,
}

/// One request or sub-run of a step.
#[derive(Debug, Default)]
pub(super) struct Item {
    pub(super) status: StepStatus,
    pub(super) begun: Option<DateTime<Utc>>,
    pub(super) ended: Option<DateTime<Utc>>,
    pub(super) rank: u64,
    pub(super) attempt: u32,
    pub(super) instance: Option<InstanceId>,
    pub(super) is_withdrawn: bool,
    /// Whether anybody was asked, in this run or in the one that it does again.
    pub(super) is_asked: bool,
    /// Whether the run that this one does again had done it.
    pub(super) is_copied: bool,
    /// Whether anything has been done that an undo should take back.
    pub(super) is_effective: bool,
    pub(super) input: Payload,
    pub(super) output: Payload,
    pub(super) failure: Option<Box<Failure>>,
}

impl StepStatus {
    /// As expressions see it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
        }
    }
}

impl StepError {
    pub(super) fn new(failure: Failure) -> Box<Self> {
        let json = serde_json::to_value(&failure).unwrap_or_default();
        Box::new(Self { failure, json })
    }
}

impl StepRun {
    /// Turns a result into a failure that does not fit into the list of all results: that list is made here, of what is at
    /// hand.
    pub(super) fn bound_gathering(&mut self, outcome: &mut StepOutcome) {
        let bytes = match &outcome.output {
            _ if outcome.status != Status::Completed => return,
            Payload::Value(value) => Some(weight(value)),
            Payload::Held { .. } => None,
        };
        let gathered = bytes.map(|bytes| self.gathered_bytes.saturating_add(bytes));
        if let Some(gathered) = gathered.filter(|gathered| *gathered <= limits::BODY_BYTES_MAX) {
            self.gathered_bytes = gathered;
            return;
        }
        let message =
            "the results of all items together are too large for a list; have each stored, and give its address";
        outcome.status = Status::Failed;
        outcome.output = Payload::default();
        outcome.failure = Some(Failure::new(codes::RESULT_TOO_LARGE, message));
    }
}

impl Item {
    /// Takes an outcome. Taken back means cancelled; cancelled by anybody else means failed.
    pub(super) fn end(&mut self, outcome: StepOutcome, at: DateTime<Utc>, rank: u64) {
        self.status = match outcome.status {
            Status::Completed => StepStatus::Completed,
            Status::Cancelled if self.is_withdrawn => StepStatus::Cancelled,
            Status::Failed | Status::Expired | Status::Cancelled => StepStatus::Failed,
        };
        self.ended = Some(at);
        self.rank = rank;
        self.attempt = outcome.attempt;
        self.instance = outcome.instance;
        if self.status == StepStatus::Completed {
            self.output = outcome.output;
        } else {
            self.failure = Some(Box::new(outcome.failure.unwrap_or_else(|| unexplained(outcome.status))));
        }
    }

    pub(super) fn failure(&self) -> Failure {
        self.failure.as_deref().cloned().unwrap_or_else(|| unexplained(Status::Failed))
    }
}

impl Counts {
    pub(super) fn ended(&mut self, status: StepStatus) {
        self.running = self.running.saturating_sub(1);
        match status {
            StepStatus::Completed => self.completed += 1,
            StepStatus::Cancelled => self.cancelled += 1,
            _ => self.failed += 1,
        }
    }

    pub(super) fn all_ended(&self) -> usize {
        self.completed + self.failed + self.cancelled
    }
}

/// About what a value takes as JSON, in bytes.
pub(super) fn weight(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 5,
        Value::Number(_) => 9,
        Value::String(text) => text.len() + 3,
        Value::Array(list) => 2 + list.iter().map(weight).sum::<usize>(),
        Value::Object(map) => 2 + map.iter().map(|(key, value)| key.len() + 4 + weight(value)).sum::<usize>(),
    }
}

fn unexplained(status: Status) -> Failure {
    let code = match status {
        Status::Expired => codes::DEADLINE_EXCEEDED,
        Status::Cancelled => codes::CANCELLED,
        Status::Failed | Status::Completed => codes::HANDLER_FAILED,
    };
    Failure::new(code, format!("it ended as {status} and said no more"))
}
