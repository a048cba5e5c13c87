//! What the expressions of a run can name.

use std::cell::OnceCell;

use protocol::{StepName, time};
use serde_json::{Value, json};

use super::course::Course;
use crate::{Payload, Scope, StepInScope, plan::StepIndex, program::Slot};

static NULL: Value = Value::Null;

/// The names that an expression knows beside `input`, `run` and `steps`.
#[derive(Debug, Default)]
pub(super) struct Locals {
    item: Option<Payload>,
    index: Option<Payload>,
    turn: Option<Payload>,
    last: Option<Payload>,
}

/// A run as one expression sees it.
pub(super) struct RunScope<'a> {
    course: &'a Course,
    locals: &'a Locals,
    run: OnceCell<Value>,
}

impl Locals {
    /// Of one item of a list.
    pub(super) fn item(list: &[Payload], index: usize) -> Self {
        Self { item: list.get(index).cloned(), index: Some(number(index)), ..Self::default() }
    }

    /// Of one turn.
    pub(super) fn turn(turn: usize, last: Payload) -> Self {
        Self { turn: Some(number(turn)), last: Some(last), ..Self::default() }
    }

    /// With an output to look back at.
    pub(super) fn and_last(mut self, last: Payload) -> Self {
        self.last = Some(last);
        self
    }
}

fn number(number: usize) -> Payload {
    Payload::from(json!(number))
}

impl<'a> RunScope<'a> {
    pub(super) fn new(course: &'a Course, locals: &'a Locals) -> Self {
        Self { course, locals, run: OnceCell::new() }
    }
}

impl Scope for RunScope<'_> {
    fn input(&self) -> &Payload {
        &self.course.input
    }

    fn run(&self) -> &Value {
        self.run.get_or_init(|| {
            let plan = self.course.program.plan();
            json!({
                "id": self.course.run,
                "workflow": plan.workflow,
                "version": plan.version,
                "started": time::format(self.course.started),
            })
        })
    }

    fn step(&self, name: &str) -> Option<StepInScope<'_>> {
        let Some(Slot::Do(StepIndex(index))) = self.course.program.find(&StepName::parse(name).ok()?) else {
            return None;
        };
        let step = &self.course.steps[index];
        let error = step.error.as_ref().map_or(&NULL, |error| &error.json);
        Some(StepInScope { output: &step.output, status: step.status.as_str(), error })
    }

    fn local(&self, name: &str) -> Option<&Payload> {
        match name {
            "item" => self.locals.item.as_ref(),
            "index" => self.locals.index.as_ref(),
            "turn" => self.locals.turn.as_ref(),
            "last" => self.locals.last.as_ref(),
            _ => None,
        }
    }
}
