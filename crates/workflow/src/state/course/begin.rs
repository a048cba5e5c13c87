//! How a step begins: its condition, then its action.

use std::sync::Arc;

use protocol::{Failure, Status, codes, time};
use serde_json::Value;

use super::{Course, Now, after, conclude::End, expression_failed};
use crate::{
    Payload,
    command::Order,
    fact::TimerName,
    plan::{Action, StepIndex, Wait},
    state::{scope::Locals, step::StepStatus},
};

/// Items of one `foreach`.
const ITEMS_MAX: usize = 100_000;

impl Course {
    /// Everything that it waits for has ended.
    pub(super) fn begin_step(&mut self, index: StepIndex, now: Now) {
        let program = Arc::clone(&self.program);
        let plan = program.plan().step(index);
        let step = &self.steps[index.0];
        let is_unneeded = program.fallback_of[index.0].is_some() && !step.is_called;
        if step.is_cut_off || (!plan.needs_any.is_empty() && step.any_well == 0) {
            return self.conclude(index, End::CutOff, now);
        }
        if is_unneeded {
            return self.conclude(index, End::Unneeded, now);
        }
        match plan.condition.as_ref().map(|condition| self.evaluate(condition, &Locals::default())) {
            None | Some(Ok(Value::Bool(true))) => {}
            Some(Ok(Value::Bool(false))) => return self.conclude(index, End::Unneeded, now),
            Some(Ok(_)) => {
                self.enter(index, now);
                let failure =
                    expression_failed(format!("the condition of step `{}` is neither true nor false", plan.name));
                return self.conclude(index, End::Failed(failure), now);
            }
            Some(Err(failure)) => {
                self.enter(index, now);
                return self.conclude(index, End::Failed(failure), now);
            }
        }
        self.enter(index, now);
        if let Err(failure) = self.act(index, &plan.action, now) {
            self.conclude(index, End::Failed(failure), now);
        }
    }

    fn enter(&mut self, index: StepIndex, now: Now) {
        let step = &mut self.steps[index.0];
        step.status = StepStatus::Running;
        step.begun = Some(now.at);
        self.active += 1;
    }

    fn act(&mut self, index: StepIndex, action: &Action, now: Now) -> Result<(), Failure> {
        match action {
            Action::Once(_) => self.ask(index, 0, &Locals::default(), now),
            Action::Repeat { .. } => self.begin_turn(index, now),
            Action::Race { branches } => self.begin_race(index, branches.len(), now),
            Action::ForEach { items, .. } => {
                let Value::Array(list) = self.evaluate(items, &Locals::default())? else {
                    return Err(expression_failed("`foreach` goes through a list, and this is none".to_owned()));
                };
                if list.len() > ITEMS_MAX {
                    let message = format!("a list of {} items is too long; {ITEMS_MAX} are the limit", list.len());
                    return Err(expression_failed(message));
                }
                self.steps[index.0].list = list.into_iter().map(Payload::from).collect();
                self.go_on_with(index, now);
            }
            Action::Wait(_) | Action::Signal { .. } | Action::Emit { .. } => match self.copied.remove(&(index, 0)) {
                Some(copied) if copied.status == Status::Completed => {
                    self.conclude(index, End::Completed(copied.output), now);
                }
                _ => return self.act_alone(index, action, now),
            },
        }
        Ok(())
    }

    fn act_alone(&mut self, index: StepIndex, action: &Action, now: Now) -> Result<(), Failure> {
        match action {
            Action::Wait(wait) => {
                let due = match wait {
                    Wait::For(duration) => after(now.at, *duration),
                    Wait::Until(moment) => match self.evaluate(moment, &Locals::default())? {
                        Value::String(text) => time::parse(&text).map_err(expression_failed)?,
                        other => return Err(expression_failed(format!("`{other}` is no moment to wait for"))),
                    },
                };
                self.set_timer(index, 0, due, now);
            }
            Action::Signal { name, timeout, .. } => {
                if let Some(value) = self.signals.take(name) {
                    self.signal_has_come(index, value, now);
                } else {
                    self.signals.wait(name, index);
                    if let Some(timeout) = timeout {
                        self.set_timer(index, 0, after(now.at, *timeout), now);
                    }
                }
            }
            Action::Emit { topic, with } => {
                let data = self.fill(with, &Locals::default())?;
                let step = self.program.plan().step(index).name.clone();
                self.orders.emit(now, Order::Emit { step, topic: topic.clone(), data });
                self.conclude(index, End::Completed(Payload::default()), now);
            }
            Action::Once(_) | Action::ForEach { .. } | Action::Repeat { .. } | Action::Race { .. } => {}
        }
        Ok(())
    }

    /// Has a timer fire, or acts as if it had where its time is past.
    pub(super) fn set_timer(&mut self, index: StepIndex, item: u64, due: chrono::DateTime<chrono::Utc>, now: Now) {
        if due <= now.at {
            return self.time_has_come(index, now);
        }
        self.steps[index.0].timer = Some((item, due));
        let step = self.program.plan().step(index).name.clone();
        self.orders.set_timer(now, TimerName::Step { step, item }, due);
    }

    /// A step's timer fired.
    pub(super) fn time_has_come(&mut self, index: StepIndex, now: Now) {
        let program = Arc::clone(&self.program);
        let end = match &program.plan().step(index).action {
            Action::Wait(_) => End::Completed(Payload::default()),
            Action::Signal { otherwise: Some(otherwise), .. } => match self.fill(otherwise, &Locals::default()) {
                Ok(output) => End::Completed(output),
                Err(failure) => End::Failed(failure),
            },
            Action::Signal { name, otherwise: None, .. } => {
                End::Failed(Failure::new(codes::SIGNAL_TIMEOUT, format!("no signal `{name}` came in time")))
            }
            Action::Repeat { .. } => return self.go_on(index, now),
            Action::Once(_) | Action::ForEach { .. } | Action::Race { .. } | Action::Emit { .. } => return,
        };
        self.conclude(index, end, now);
    }

    /// The signal that a step waits for is there.
    pub(super) fn signal_has_come(&mut self, index: StepIndex, value: Payload, now: Now) {
        self.conclude(index, End::Completed(value), now);
    }
}
