//! How a step ends, and whom that lets begin.

use std::sync::Arc;

use protocol::{Failure, codes};

use super::{Course, Now, Task};
use crate::{
    Payload,
    fact::TimerName,
    plan::{OnError, StepIndex},
    state::step::{StepError, StepStatus},
};

/// How a step ends.
#[derive(Debug)]
pub(super) enum End {
    Completed(Payload),
    Failed(Failure),
    /// It does not happen, and that is well: its condition is false, or what it stands in for did not fail.
    Unneeded,
    /// It does not happen, because what it needs did not end well.
    CutOff,
    /// The run stops.
    Cancelled,
}

impl Course {
    /// A step has ended.
    pub(super) fn conclude(&mut self, index: StepIndex, end: End, now: Now) {
        let rank = self.next_rank();
        let step = &mut self.steps[index.0];
        if step.status == StepStatus::Running {
            self.active -= 1;
        }
        self.open -= 1;
        step.ended = Some(now.at);
        step.rank = rank;
        step.status = match &end {
            End::Completed(_) => StepStatus::Completed,
            End::Failed(_) => StepStatus::Failed,
            End::Unneeded | End::CutOff => StepStatus::Skipped,
            End::Cancelled => StepStatus::Cancelled,
        };
        if let Some((item, _)) = step.timer.take() {
            let step = self.program.plan().step(index).name.clone();
            self.orders.clear_timer(now, TimerName::Step { step, item });
        }
        match end {
            End::Completed(output) => {
                self.steps[index.0].output = output;
                self.has_ended(index, true, now);
            }
            End::Unneeded => self.has_ended(index, true, now),
            End::CutOff => {
                self.steps[index.0].is_cut_off = true;
                self.has_ended(index, false, now);
            }
            End::Failed(failure) => self.has_failed(index, failure, now),
            End::Cancelled => {}
        }
    }

    fn has_failed(&mut self, index: StepIndex, failure: Failure, now: Now) {
        self.steps[index.0].error = Some(StepError::new(failure.clone()));
        if let Some(verdict) = &mut self.verdict {
            verdict.later.push((index, failure));
            return;
        }
        match self.program.plan().step(index).on_error {
            OnError::Fail => self.fail(index, &failure, now),
            OnError::Continue => self.settle(index, false, now),
            OnError::Fallback(fallback) => {
                self.steps[fallback.0].is_called = true;
                self.one_need_less(fallback);
            }
        }
    }

    /// It ended otherwise than with a failure: its fallback is not called.
    fn has_ended(&mut self, index: StepIndex, is_well: bool, now: Now) {
        if !self.is_running() {
            return;
        }
        if let OnError::Fallback(fallback) = self.program.plan().step(index).on_error {
            self.one_need_less(fallback);
        }
        self.settle(index, is_well, now);
    }

    /// Who waits for it, waits no more.
    fn settle(&mut self, index: StepIndex, is_well: bool, now: Now) {
        let program = Arc::clone(&self.program);
        let mut settled = index;
        loop {
            for edge in &program.edges[settled.0] {
                let dependent = &mut self.steps[edge.dependent.0];
                match (edge.is_strict, is_well) {
                    (true, false) => dependent.is_cut_off = true,
                    (false, true) => dependent.any_well += 1,
                    _ => {}
                }
                self.one_need_less(edge.dependent);
            }
            // What stands in for a failed step ends that one, too.
            let Some(failed) = program.fallback_of[settled.0].filter(|_| self.steps[settled.0].is_called) else {
                return;
            };
            if self.steps[settled.0].status == StepStatus::Skipped {
                let error = self.steps[failed.0].error.as_ref();
                let failure = error.map(|error| error.failure.clone());
                let failure = failure.unwrap_or_else(|| Failure::new(codes::STEP_FAILED, "it failed"));
                return self.fail(failed, &failure, now);
            }
            self.steps[failed.0].output = self.steps[settled.0].output.clone();
            settled = failed;
        }
    }

    fn one_need_less(&mut self, index: StepIndex) {
        let step = &mut self.steps[index.0];
        step.needs_open -= 1;
        if step.needs_open == 0 {
            self.agenda.push_back(Task::GoOn(index));
        }
    }
}
