//! Asking: the one place where a request or sub-run of a step begins and ends.

use std::sync::Arc;

use protocol::{Failure, Status};
use serde_json::Value;

use super::{Course, Now, Phase, Task, after};
use crate::{
    Expression, Payload, Template,
    command::Order,
    fact::StepOutcome,
    plan::{Action, Body, StepIndex, Target},
    program::Slot,
    state::{
        effect::may_have_taken_effect,
        orders::Withdrawn,
        scope::{Locals, RunScope},
        step::{Item, StepStatus},
    },
};

impl Course {
    pub(super) fn evaluate(&self, expression: &Expression, locals: &Locals) -> Result<Value, Failure> {
        expression.evaluate(&RunScope::new(self, locals))
    }

    pub(super) fn fill(&self, template: &Template, locals: &Locals) -> Result<Payload, Failure> {
        template.evaluate(&RunScope::new(self, locals))
    }

    /// Asks for one item, unless it is known already how that ends: the run that this one does again had done it, or its
    /// input cannot be made.
    pub(super) fn ask(&mut self, index: StepIndex, item: usize, locals: &Locals, now: Now) {
        let program = Arc::clone(&self.program);
        let Some(body) = body(&program.plan().step(index).action, item) else { return };
        let number = item as u64;
        let mut entry = Item { status: StepStatus::Running, begun: Some(now.at), ..Item::default() };
        match self.fill(&body.with, locals) {
            Err(failure) => {
                let outcome = StepOutcome { failure: Some(failure), ..nobodys(Status::Failed) };
                self.agenda.push_back(Task::Ended(index, number, Box::new(outcome)));
            }
            Ok(input) => {
                entry.is_asked = true;
                entry.input = input.clone();
                if let Some(outcome) = self.copied.remove(&(index, number)) {
                    entry.is_copied = true;
                    self.agenda.push_back(Task::Ended(index, number, Box::new(outcome)));
                } else {
                    self.order(Slot::Do(index), number, body, input, now);
                }
            }
        }
        let step = &mut self.steps[index.0];
        step.counts.running += 1;
        if step.items.len() <= item {
            step.items.resize_with(item + 1, Item::default);
        }
        step.items[item] = entry;
    }

    pub(super) fn order(&mut self, slot: Slot, item: u64, body: &Body, input: Payload, now: Now) {
        let name = match slot {
            Slot::Do(index) => Some(&self.program.plan().step(index).name),
            Slot::Undo(index) => self.program.undo_name(index),
        };
        let Some(step) = name.cloned() else { return };
        let order = Order::Ask {
            step,
            item,
            target: body.target.clone(),
            input,
            lane: body.lane.unwrap_or(self.lane),
            timeout: body.timeout,
            deadline: body.deadline.map(|deadline| after(now.at, deadline)),
            retry: body.retry,
        };
        self.orders.ask(now, slot, item, order);
    }

    /// What was begun has ended.
    pub(super) fn item_ended(&mut self, index: StepIndex, item: u64, mut outcome: StepOutcome, now: Now) {
        let Ok(place) = usize::try_from(item) else { return };
        let program = Arc::clone(&self.program);
        let action = &program.plan().step(index).action;
        let rank = self.next_rank();
        let step = &mut self.steps[index.0];
        if matches!(action, Action::ForEach { .. }) {
            step.bound_gathering(&mut outcome);
        }
        let Some(entry) = step.items.get_mut(place).filter(|entry| entry.status == StepStatus::Running) else { return };
        let is_sub_run = body(action, place).is_some_and(|body| matches!(body.target, Target::Workflow(_)));
        entry.is_effective = entry.is_asked && may_have_taken_effect(&outcome, is_sub_run);
        entry.end(outcome, now.at, rank);
        step.counts.ended(entry.status);
        if entry.status == StepStatus::Completed && step.winner.is_none() {
            step.winner = Some(place);
        }
        self.item_has_ended(index, place, now);
    }

    /// Takes back whatever a step has asked for and not got.
    pub(super) fn withdraw(&mut self, index: StepIndex, now: Now) {
        let step = &mut self.steps[index.0];
        if std::mem::replace(&mut step.is_withdrawn, true) {
            return;
        }
        for (place, entry) in step.items.iter_mut().enumerate() {
            if entry.status != StepStatus::Running {
                continue;
            }
            let item = place as u64;
            match self.orders.withdraw(now, Slot::Do(index), item) {
                Withdrawn::Nothing => {}
                Withdrawn::Ordered => entry.is_withdrawn = true,
                Withdrawn::Unasked => {
                    entry.is_withdrawn = true;
                    entry.is_asked = false;
                    let outcome = Box::new(nobodys(Status::Cancelled));
                    self.agenda.push_back(Task::Ended(index, item, outcome));
                }
            }
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.phase == Phase::Running
    }
}

/// What is asked for one item.
fn body(action: &Action, item: usize) -> Option<&Body> {
    match action {
        Action::Once(body) | Action::ForEach { body, .. } | Action::Repeat { body, .. } => Some(body),
        Action::Race { branches } => branches.get(item).map(|(_, body)| body),
        Action::Wait(_) | Action::Signal { .. } | Action::Emit { .. } => None,
    }
}

/// An outcome that nobody gave.
fn nobodys(status: Status) -> StepOutcome {
    StepOutcome { status, output: Payload::default(), failure: None, attempt: 0, instance: None }
}
