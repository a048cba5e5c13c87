//! What a run wants done. Each command has a name of its own, so that carrying it out twice is harmless.

use std::time::Duration;

use chrono::{DateTime, Utc};
use protocol::{Failure, Lane, RetryPolicy, Status, StepName};
use serde::Serialize;

use crate::{Payload, fact::TimerName, plan::Target};

/// What is to be done, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Command {
    /// The sequence of the fact that led to it. Below what the consumer has acknowledged it was carried out already.
    pub cause: u64,
    /// What to do.
    pub order: Order,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Ask an agent or start a sub-run, under the id that follows from run, step and item.
    Ask {
        /// The step, or `undo_<step>`.
        step: StepName,
        /// The item, turn or branch, else 0.
        item: u64,
        /// Who.
        target: Target,
        /// The input.
        input: Payload,
        /// The lane.
        lane: Lane,
        /// For one attempt.
        #[serde(with = "protocol::duration::optional")]
        timeout: Option<Duration>,
        /// For all of them.
        deadline: Option<DateTime<Utc>>,
        /// Attempts and back-off, where the step names them.
        retry: Option<RetryPolicy>,
    },
    /// Cancel what was asked. Its outcome comes into the log in any case.
    Withdraw {
        /// The step.
        step: StepName,
        /// The item, turn or branch, else 0.
        item: u64,
        /// Whom was asked.
        target: Target,
    },
    /// Have a timer fire into the log.
    SetTimer {
        /// Which.
        timer: TimerName,
        /// When.
        due: DateTime<Utc>,
    },
    /// A timer is not needed any more.
    ClearTimer {
        /// Which.
        timer: TimerName,
    },
    /// Publish an event under an id that follows from run and step.
    Emit {
        /// The step.
        step: StepName,
        /// The topic.
        topic: String,
        /// Its data.
        data: Payload,
    },
    /// It is over: store the outcome, tell the summary, purge the log.
    End(Ending),
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ending {
    /// How.
    pub status: Status,
    /// The result; null unless completed.
    pub output: Payload,
    /// What failed, unless completed.
    pub failure: Option<Failure>,
}
