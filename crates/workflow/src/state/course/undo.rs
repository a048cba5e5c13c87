//! Undoing: what completed, or may have taken effect, is taken back in reverse order, one after the other.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use protocol::{Failure, InstanceId, Status};
use serde_json::{Value, json};

use super::{Course, Folded, Now, Phase, Shape};
use crate::{
    Payload,
    fact::StepOutcome,
    plan::StepIndex,
    program::{Program, Slot},
    state::{
        Why,
        scope::Locals,
        step::{Item, StepStatus},
    },
};

/// Failures of one step's undo that are told one by one.
const FAILURES_TOLD_MAX: usize = 20;

/// What is to be undone, what is, and what was.
#[derive(Debug, Default)]
pub(in crate::state) struct Undo {
    /// The last is the next.
    left: Vec<(StepIndex, u64)>,
    asked: BTreeSet<(StepIndex, u64)>,
    pub(in crate::state) done: Vec<Undone>,
}

/// One undo that has begun.
#[derive(Debug)]
pub(in crate::state) struct Undone {
    pub(in crate::state) step: StepIndex,
    pub(in crate::state) item: u64,
    pub(in crate::state) begun: DateTime<Utc>,
    pub(in crate::state) input: Payload,
    pub(in crate::state) end: Option<UndoEnd>,
}

/// How one undo ended.
#[derive(Debug)]
pub(in crate::state) struct UndoEnd {
    pub(in crate::state) at: DateTime<Utc>,
    pub(in crate::state) attempt: u32,
    pub(in crate::state) instance: Option<InstanceId>,
    /// None: it is undone.
    pub(in crate::state) failure: Option<Failure>,
}

impl Course {
    /// Nothing runs any more.
    pub(super) fn begin_undo(&mut self, now: Now) {
        self.phase = Phase::Undoing;
        if self.program.plan().on_failure.undo {
            self.undo.left = self.to_undo();
        }
        self.undo_next(now);
    }

    /// Steps and items, the last to end at the end.
    fn to_undo(&self) -> Vec<(StepIndex, u64)> {
        let mut found: Vec<(u64, (StepIndex, u64))> = Vec::new();
        for (number, step) in self.steps.iter().enumerate() {
            let index = StepIndex(number);
            if self.program.undo_name(index).is_none() {
                continue;
            }
            if self.action(index) == Shape::Alone {
                found.extend((step.status == StepStatus::Completed).then_some((step.rank, (index, 0))));
                continue;
            }
            let effective = step.items.iter().enumerate().filter(|(_, item)| item.is_effective);
            found.extend(effective.map(|(place, item)| (item.rank, (index, place as u64))));
        }
        found.sort_unstable_by_key(|(rank, _)| *rank);
        found.into_iter().map(|(_, what)| what).collect()
    }

    fn undo_next(&mut self, now: Now) {
        let program = Arc::clone(&self.program);
        while let Some((index, item)) = self.undo.left.pop() {
            let Some(body) = &program.plan().step(index).undo else { continue };
            let mut undone = Undone { step: index, item, begun: now.at, input: Payload::default(), end: None };
            match self.fill(&body.with, &self.undo_locals(index, item)) {
                Err(failure) => {
                    undone.end = Some(UndoEnd { at: now.at, attempt: 0, instance: None, failure: Some(failure) });
                    self.undo.done.push(undone);
                }
                Ok(input) => {
                    undone.input = input.clone();
                    self.undo.done.push(undone);
                    self.undo.asked.insert((index, item));
                    self.order(Slot::Undo(index), item, body, input, now);
                    return;
                }
            }
        }
        self.end_as_decided(now);
    }

    /// What the step's own input knew, with `last` the output of what is undone.
    fn undo_locals(&self, index: StepIndex, item: u64) -> Locals {
        let step = &self.steps[index.0];
        let place = usize::try_from(item).unwrap_or(usize::MAX);
        let output = step.items.get(place).map(|item: &Item| item.output.clone()).unwrap_or_default();
        match self.action(index) {
            Shape::ForEach => Locals::item(&step.list, place).and_last(output),
            Shape::Repeat => Locals::turn(place, output),
            Shape::Race => Locals::default().and_last(output),
            Shape::Once | Shape::Alone => Locals::default(),
        }
    }

    pub(super) fn undo_ended(&mut self, index: StepIndex, item: u64, outcome: &StepOutcome, now: Now) -> Folded {
        let current = self.undo.done.last_mut().filter(|undone| undone.step == index && undone.item == item);
        let Some(current) = current.filter(|undone| undone.end.is_none()) else {
            let was_asked = self.undo.asked.contains(&(index, item));
            return Folded::Nothing(if was_asked { Why::Twice } else { Why::NotAsked });
        };
        let mut entry = Item::default();
        entry.end(outcome.clone(), now.at, 0);
        current.end = Some(UndoEnd {
            at: now.at,
            attempt: entry.attempt,
            instance: entry.instance.clone(),
            failure: (outcome.status != Status::Completed).then(|| entry.failure()),
        });
        self.orders.ended(Slot::Undo(index), item);
        self.undo_next(now);
        Folded::Changed
    }
}

impl Undo {
    /// How many are still to begin.
    pub(in crate::state) fn left(&self) -> usize {
        self.left.len()
    }

    /// What was undone and what could not be, by step, in the order of undoing.
    pub(super) fn report(&self, program: &Program) -> Option<Value> {
        let mut steps: Vec<(StepIndex, Report)> = Vec::new();
        let mut places = BTreeMap::new();
        for undone in &self.done {
            let place = *places.entry(undone.step).or_insert(steps.len());
            if place == steps.len() {
                steps.push((undone.step, Report::default()));
            }
            steps[place].1.count(undone);
        }
        let report = |(index, report): &(StepIndex, Report)| {
            json!({
                "step": program.plan().step(*index).name,
                "undone": report.undone,
                "failed": report.failed,
                "failures": report.failures,
            })
        };
        (!steps.is_empty()).then(|| steps.iter().map(report).collect())
    }
}

/// What became of the undo of one step.
#[derive(Debug, Default)]
struct Report {
    undone: u64,
    failed: u64,
    failures: Vec<Value>,
}

impl Report {
    fn count(&mut self, undone: &Undone) {
        let Some(failure) = undone.end.as_ref().and_then(|end| end.failure.as_ref()) else {
            self.undone += 1;
            return;
        };
        self.failed += 1;
        if self.failures.len() < FAILURES_TOLD_MAX {
            self.failures.push(json!({ "item": undone.item, "code": failure.code, "message": failure.message }));
        }
    }
}
