//! How a run comes to its end: by itself, by a failure, by its time, by somebody's wish.

use std::sync::Arc;

use protocol::{Category, Failure, Status, codes, duration, limits};
use serde_json::{Value, json};

use super::{Course, Folded, Now, Phase, Shape, Verdict, conclude::End};
use crate::{
    Payload,
    command::Ending,
    plan::{StepIndex, Stop},
    state::{
        Why,
        scope::Locals,
        step::{StepStatus, weight},
    },
};

/// What a run's failure holds of a step's own, in bytes of its details: runs may be nested, and each level tells the one below.
const DETAILS_BYTES_MAX: usize = 64 * 1024;

/// Causes of a failure, nearest first.
const CAUSES_MAX: usize = 10;

/// Steps that failed after the end was decided, as far as they are told.
const LATER_TOLD_MAX: usize = 50;

impl Course {
    /// A step has failed for good.
    pub(super) fn fail(&mut self, index: StepIndex, failure: &Failure, now: Now) {
        let step = &self.program.plan().step(index).name;
        let message = format!("step `{step}` failed: {}: {}", failure.code, failure.message);
        let mut told = Failure::new(codes::STEP_FAILED, message).category(failure.category);
        told.severity = failure.severity;
        told.causes = [vec![failure.to_string()], failure.causes.clone()].concat();
        // The nearest ones, and what began it all.
        if told.causes.len() > CAUSES_MAX {
            let root = told.causes.len() - 1;
            told.causes.drain(CAUSES_MAX - 1..root);
        }
        let told = told.details(json!({ "step": step, "failure": bounded(failure) }));
        let is_withdrawing = self.program.plan().on_failure.stop == Stop::FailFast;
        self.stop(Status::Failed, told, is_withdrawing, now);
    }

    /// Somebody wants it to end.
    pub(super) fn cancel(&mut self, reason: &str, now: Now) -> Folded {
        let reason = limits::truncate(reason, limits::FAILURE_MESSAGE_BYTES_MAX / 2);
        let message = match reason.as_str() {
            "" => "the run was cancelled".to_owned(),
            reason => format!("the run was cancelled: {reason}"),
        };
        match self.phase {
            Phase::Running | Phase::Stopping => {
                match self.stop(Status::Cancelled, Failure::new(codes::CANCELLED, message), true, now) {
                    true => Folded::Changed,
                    false => Folded::Nothing(Why::Twice),
                }
            }
            Phase::Undoing | Phase::Ended => Folded::Nothing(Why::Undoing),
        }
    }

    /// Its timeout or its deadline is there. Says whether it made any difference.
    pub(super) fn time_is_up(&mut self, now: Now) -> bool {
        let is_deadline = self.due.is_some_and(|(_, is_deadline)| is_deadline);
        let (status, failure) = if is_deadline {
            let message = "the deadline passed before the run was done";
            (Status::Expired, Failure::new(codes::DEADLINE_EXCEEDED, message))
        } else {
            let timeout = self.timeout.map(duration::format).unwrap_or_default();
            (Status::Failed, Failure::new(codes::RUN_TIMEOUT, format!("the run was not done within {timeout}")))
        };
        self.stop(status, failure, true, now)
    }

    /// Nothing runs, nothing can begin, and something is left: no definition that was checked does that.
    pub(super) fn stalled(&mut self, now: Now) {
        let left =
            self.steps.iter().zip(&self.program.plan().steps).find(|(step, _)| step.status == StepStatus::Waiting);
        let name = left.map(|(_, step)| step.name.as_str()).unwrap_or_default();
        let message = format!("step `{name}` waits for what waits for it");
        self.stop(Status::Failed, Failure::new(codes::DEFINITION_INVALID, message), true, now);
    }

    /// All steps have ended.
    pub(super) fn complete(&mut self, now: Now) {
        let program = Arc::clone(&self.program);
        let output = program.plan().output.as_ref().map(|output| self.fill(output, &Locals::default()));
        match output.unwrap_or_else(|| Ok(Payload::default())) {
            Ok(output) => self.end(Ending { status: Status::Completed, output, failure: None }, now),
            Err(failure) => {
                self.stop(Status::Failed, failure, true, now);
            }
        }
    }

    /// Nothing new begins. What runs is waited for, after it was taken back or as long as it takes. The first reason to
    /// stop is the one that counts; a later one only takes back what still runs.
    /// Says whether it made any difference.
    fn stop(&mut self, status: Status, failure: Failure, is_withdrawing: bool, now: Now) -> bool {
        let is_first = self.phase == Phase::Running;
        if is_first {
            self.phase = Phase::Stopping;
            self.verdict = Some(Box::new(Verdict { status, failure, later: Vec::new(), is_withdrawn: false }));
            self.held.clear();
            for number in 0..self.steps.len() {
                self.stop_step(StepIndex(number), now);
            }
        }
        let Some(verdict) = &mut self.verdict else { return false };
        let is_news = is_withdrawing && !verdict.is_withdrawn;
        verdict.is_withdrawn |= is_withdrawing;
        if is_news {
            for number in 0..self.steps.len() {
                if self.steps[number].status == StepStatus::Running {
                    self.withdraw(StepIndex(number), now);
                }
            }
        }
        is_first || is_news
    }

    /// What has not begun does not begin, and what waits for no request waits no more.
    fn stop_step(&mut self, index: StepIndex, now: Now) {
        let step = &self.steps[index.0];
        match step.status {
            StepStatus::Waiting => self.conclude(index, End::CutOff, now),
            StepStatus::Running if self.action(index) == Shape::Alone || step.counts.running == 0 => {
                self.conclude(index, End::Cancelled, now);
            }
            _ => {}
        }
    }

    /// It is over.
    pub(super) fn end(&mut self, mut ending: Ending, now: Now) {
        if let (Some(failure), Some(verdict)) = (&mut ending.failure, &self.verdict) {
            let mut details = match failure.details.take() {
                Some(Value::Object(details)) => details,
                Some(other) => [("failure".to_owned(), other)].into_iter().collect(),
                None => serde_json::Map::new(),
            };
            if !verdict.later.is_empty() {
                let later = verdict.later.iter().take(LATER_TOLD_MAX);
                let told: Vec<Value> = later
                    .map(|(index, failure)| {
                        let step = &self.program.plan().step(*index).name;
                        json!({ "step": step, "code": failure.code, "message": failure.message })
                    })
                    .collect();
                details.insert("failed_later".to_owned(), json!(told));
            }
            if let Some(undone) = self.undo.report(&self.program) {
                details.insert("undo".to_owned(), undone);
            }
            failure.details = (!details.is_empty()).then_some(Value::Object(details));
            failure.retryable = false;
        }
        self.phase = Phase::Ended;
        self.ended = Some(now.at);
        self.ending = Some(Box::new(ending.clone()));
        self.orders.end(now, ending);
    }

    pub(super) fn end_as_decided(&mut self, now: Now) {
        let verdict = self.verdict.as_ref().map(|verdict| (verdict.status, verdict.failure.clone()));
        let (status, failure) = verdict.unwrap_or_else(|| {
            (Status::Failed, Failure::new(codes::STEP_FAILED, "it failed").category(Category::Unknown))
        });
        self.end(Ending { status, output: Payload::default(), failure: Some(failure) }, now);
    }
}

/// A failure as another one may hold it.
fn bounded(failure: &Failure) -> Failure {
    let mut failure = failure.clone();
    // They are told with the failure that holds this one.
    failure.causes.clear();
    failure.details = failure.details.filter(|details| weight(details) <= DETAILS_BYTES_MAX);
    failure
}
