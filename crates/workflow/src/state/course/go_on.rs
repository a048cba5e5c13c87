//! What follows when something of a step has ended, or when it may begin more: by action.

use std::sync::Arc;

use protocol::{Failure, codes};
use serde_json::{Value, json};

use super::{Course, Now, after, conclude::End, expression_failed};
use crate::{
    Payload,
    plan::{Action, StepIndex, Stop, Success},
    state::{
        scope::Locals,
        step::{StepRun, StepStatus},
    },
};

/// Failures of items and branches that are told with the step's own.
const FAILURES_TOLD_MAX: usize = 10;

impl Course {
    /// A running step may begin more.
    pub(super) fn go_on_with(&mut self, index: StepIndex, now: Now) {
        let program = Arc::clone(&self.program);
        match &program.plan().step(index).action {
            Action::ForEach { max_parallel, success, .. } => self.go_through(index, *max_parallel, *success, now),
            Action::Repeat { .. } if self.steps[index.0].counts.running == 0 => self.begin_turn(index, now),
            _ => {}
        }
    }

    /// Something of a step has ended.
    pub(super) fn item_has_ended(&mut self, index: StepIndex, item: usize, now: Now) {
        let program = Arc::clone(&self.program);
        match &program.plan().step(index).action {
            Action::Once(_) => {
                let end = self.steps[index.0].end_of(item);
                self.conclude(index, end, now);
            }
            Action::ForEach { max_parallel, success, .. } => self.go_through(index, *max_parallel, *success, now),
            Action::Repeat { .. } => self.turn_has_ended(index, item, now),
            Action::Race { branches } => self.branch_has_ended(index, branches.len(), now),
            Action::Wait(_) | Action::Signal { .. } | Action::Emit { .. } => {}
        }
    }

    fn go_through(&mut self, index: StepIndex, max_parallel: usize, success: Success, now: Now) {
        let step = &self.steps[index.0];
        let total = step.list.len();
        let needed = success.needed(total);
        // Counts only what cannot succeed any more, so that the order of outcomes makes no difference.
        let is_hopeless = total - (step.counts.failed + step.counts.cancelled).min(total) < needed || needed > total;
        if is_hopeless {
            if self.program.plan().on_failure.stop == Stop::FailFast {
                self.withdraw(index, now);
            }
        } else if self.is_running() {
            while self.steps[index.0].counts.running < max_parallel.max(1) && self.steps[index.0].items.len() < total {
                if self.is_paused {
                    self.held.insert(index);
                    break;
                }
                let item = self.steps[index.0].items.len();
                let locals = Locals::item(&self.steps[index.0].list, item);
                self.ask(index, item, &locals, now);
            }
        }
        let step = &self.steps[index.0];
        let is_through = is_hopeless || !self.is_running() || step.items.len() == total;
        if step.counts.running > 0 || !is_through {
            return;
        }
        let end = if step.items.len() == total && step.counts.completed >= needed && needed <= total {
            End::Completed(step.gather())
        } else if needed > total || total - step.counts.failed.min(total) < needed {
            End::Failed(step.failures(codes::ITEMS_FAILED, &format!("of {total} items, {needed} must succeed")))
        } else {
            End::Cancelled
        };
        self.conclude(index, end, now);
    }

    /// Begins the turn after those that there were.
    pub(super) fn begin_turn(&mut self, index: StepIndex, now: Now) {
        if self.is_paused {
            self.held.insert(index);
            return;
        }
        let turn = self.steps[index.0].items.len();
        let last = self.steps[index.0].items.last().map(|item| item.output.clone()).unwrap_or_default();
        self.ask(index, turn, &Locals::turn(turn, last), now);
    }

    fn turn_has_ended(&mut self, index: StepIndex, turn: usize, now: Now) {
        let program = Arc::clone(&self.program);
        let Action::Repeat { until, turns_max, pause, .. } = &program.plan().step(index).action else { return };
        let step = &self.steps[index.0];
        if step.items[turn].status != StepStatus::Completed {
            let end = step.end_of(turn);
            return self.conclude(index, end, now);
        }
        let output = step.items[turn].output.clone();
        let end = match self.evaluate(until, &Locals::turn(turn, output.clone())) {
            Ok(Value::Bool(true)) => End::Completed(output),
            Ok(Value::Bool(false)) if turn as u64 + 1 >= *turns_max => {
                let message = format!("it was not enough after {} turns", turn + 1);
                End::Failed(Failure::new(codes::TURNS_EXHAUSTED, message))
            }
            Ok(Value::Bool(false)) if !self.is_running() => End::Cancelled,
            Ok(Value::Bool(false)) => {
                return match pause {
                    Some(pause) => self.set_timer(index, turn as u64 + 1, after(now.at, *pause), now),
                    None => self.begin_turn(index, now),
                };
            }
            Ok(_) => End::Failed(expression_failed("`until` is neither true nor false".to_owned())),
            Err(failure) => End::Failed(failure),
        };
        self.conclude(index, end, now);
    }

    /// Asks all branches. Where the run that this one does again knows the winner, the others are taken back unasked.
    pub(super) fn begin_race(&mut self, index: StepIndex, branches: usize, now: Now) {
        for branch in 0..branches {
            self.ask(index, branch, &Locals::default(), now);
        }
        if branches == 0 {
            let failure = Failure::new(codes::RACE_LOST, "there is no branch that could win");
            self.conclude(index, End::Failed(failure), now);
        }
    }

    fn branch_has_ended(&mut self, index: StepIndex, branches: usize, now: Now) {
        let step = &self.steps[index.0];
        if step.counts.running > 0 {
            if step.winner.is_some() {
                self.withdraw(index, now);
            }
            return;
        }
        let end = match step.winner {
            Some(winner) => End::Completed(step.items[winner].output.clone()),
            None if step.counts.cancelled > 0 => End::Cancelled,
            None => End::Failed(step.failures(codes::RACE_LOST, &format!("none of {branches} branches succeeded"))),
        };
        self.conclude(index, end, now);
    }
}

impl Success {
    /// How many of so many items must succeed.
    pub(crate) fn needed(self, total: usize) -> usize {
        match self {
            Self::All => total,
            Self::Any => total.min(1),
            Self::AtLeast(number) => usize::try_from(number).unwrap_or(usize::MAX),
        }
    }
}

impl StepRun {
    /// How a step of one request ends with it.
    fn end_of(&self, item: usize) -> End {
        let item = &self.items[item];
        match item.status {
            StepStatus::Completed => End::Completed(item.output.clone()),
            StepStatus::Cancelled => End::Cancelled,
            _ => End::Failed(item.failure()),
        }
    }

    /// The outputs in the order of the items; null where there is none.
    fn gather(&self) -> Payload {
        let output = |output: &Payload| match output {
            Payload::Value(value) => value.as_ref().clone(),
            Payload::Held { .. } => Value::Null,
        };
        Payload::from(Value::Array(self.items.iter().map(|item| output(&item.output)).collect()))
    }

    /// One failure for several, which tells the first of them.
    fn failures(&self, code: &str, message: &str) -> Failure {
        let failed = self.items.iter().enumerate().filter(|(_, item)| item.status == StepStatus::Failed);
        let told: Vec<Value> = failed
            .take(FAILURES_TOLD_MAX)
            .map(|(number, item)| {
                let failure = item.failure();
                json!({ "item": number, "code": failure.code, "message": failure.message })
            })
            .collect();
        let first = told.first().map(|first| {
            format!("; item {} failed: {}: {}", first["item"], text(first, "code"), text(first, "message"))
        });
        Failure::new(code, format!("{message}, and {} failed{}", self.counts.failed, first.unwrap_or_default()))
            .details(json!({ "failed": self.counts.failed, "completed": self.counts.completed, "first": told }))
    }
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}
