//! A plan with what the engine looks up in it, made once and shared by all runs of the same definition.

use std::collections::HashMap;

use protocol::{Failure, StepName, codes};
use serde_json::Value;

use crate::{
    Plan,
    plan::{Action, OnError, StepIndex},
};

/// Faults of a definition that a run which cannot run tells.
const FAULTS_TOLD_MAX: usize = 3;

/// A plan in the form that runs are folded with.
#[derive(Debug)]
pub struct Program {
    pub(crate) plan: Plan,
    /// By step: who waits for its end, and how.
    pub(crate) edges: Vec<Vec<Edge>>,
    /// By step: the step whose failure begins it.
    pub(crate) fallback_of: Vec<Option<StepIndex>>,
    /// By step: what its undo is called in the log.
    undo_names: Vec<Option<StepName>>,
    by_name: HashMap<StepName, Slot>,
}

/// Somebody who waits for a step's end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Edge {
    pub(crate) dependent: StepIndex,
    /// By `needs`; else by `needs_any`.
    pub(crate) is_strict: bool,
}

/// What a name in the log stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Slot {
    /// A step.
    Do(StepIndex),
    /// The undo of a step.
    Undo(StepIndex),
}

impl Program {
    /// Reads the definition that a `started` fact holds.
    ///
    /// # Errors
    /// `definition_invalid`, with the first of the faults; `sortie workflow validate` tells them all.
    pub fn read(definition: &Value) -> Result<Self, Failure> {
        let plan = Plan::read(definition).map_err(|faults| {
            let told: Vec<String> = faults.iter().take(FAULTS_TOLD_MAX).map(ToString::to_string).collect();
            Failure::new(codes::DEFINITION_INVALID, format!("{} faults: {}", faults.len(), told.join("; ")))
        })?;
        Self::new(plan)
    }

    /// Prepares a plan.
    ///
    /// # Errors
    /// `definition_invalid` where names or fallbacks contradict each other; validation tells such faults earlier and better.
    pub fn new(plan: Plan) -> Result<Self, Failure> {
        let refused = |message: String| Failure::new(codes::DEFINITION_INVALID, message);
        let mut by_name = HashMap::with_capacity(plan.steps.len());
        let mut edges: Vec<Vec<Edge>> = vec![Vec::new(); plan.steps.len()];
        let mut fallback_of = vec![None; plan.steps.len()];
        let mut undo_names = Vec::with_capacity(plan.steps.len());
        for (number, step) in plan.steps.iter().enumerate() {
            let dependent = StepIndex(number);
            let undo_name = match step.undo {
                Some(_) => Some(StepName::parse(&format!("undo_{}", step.name)).map_err(|error| {
                    refused(format!("step `{}` with an undo has too long a name: {error}", step.name))
                })?),
                None => None,
            };
            let named = [
                Some((step.name.clone(), Slot::Do(dependent))),
                undo_name.clone().map(|name| (name, Slot::Undo(dependent))),
            ];
            for (name, slot) in named.into_iter().flatten() {
                if by_name.insert(name.clone(), slot).is_some() {
                    return Err(refused(format!("two steps are called `{name}` in the run's log")));
                }
            }
            undo_names.push(undo_name);
            for (needs, is_strict) in [(&step.needs, true), (&step.needs_any, false)] {
                for need in needs {
                    let edge = Edge { dependent, is_strict };
                    edges
                        .get_mut(need.0)
                        .ok_or_else(|| refused(format!("step `{}` needs no step", step.name)))?
                        .push(edge);
                }
            }
            if let OnError::Fallback(fallback) = step.on_error {
                let place = fallback_of.get_mut(fallback.0).filter(|place| place.is_none() && fallback != dependent);
                *place
                    .ok_or_else(|| refused(format!("the fallback of step `{}` is no step of its own", step.name)))? =
                    Some(dependent);
            }
        }
        Ok(Self { plan, edges, fallback_of, undo_names, by_name })
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Whether a held output of this step has to be at hand before its fact is folded.
    pub fn is_output_read(&self, step: &StepName) -> bool {
        let Some(Slot::Do(index)) = self.find(step) else { return false };
        let step = self.plan.step(index);
        // A list of outputs can only be gathered from what is at hand.
        step.is_output_read || matches!(step.action, Action::ForEach { .. })
    }

    /// Whether a held input of a run has to be at hand before its `started` is folded.
    pub fn is_input_read(&self) -> bool {
        self.plan.is_input_read
    }

    /// Whether a held signal of this name has to be at hand before its fact is folded.
    pub fn is_signal_read(&self, signal: &StepName) -> bool {
        let is_taken = |action: &Action| matches!(action, Action::Signal { name, .. } if name == signal);
        self.plan.steps.iter().any(|step| step.is_output_read && is_taken(&step.action))
    }

    pub(crate) fn find(&self, name: &StepName) -> Option<Slot> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn undo_name(&self, index: StepIndex) -> Option<&StepName> {
        self.undo_names[index.0].as_ref()
    }
}
