//! What a run that is done again need not do again.

use protocol::{Status, StepName, codes};

use super::{
    State,
    course::Course,
    step::{Item, StepRun, StepStatus},
};
use crate::{
    fact::{CopiedOutcome, StepOutcome},
    plan::{Action, StepIndex},
};

impl State {
    /// The outcomes that a new run of the same definition takes over from this one: of everything that completed, but for
    /// `from` and whatever depends on it. What was undone, or would have been, is done again, and so is what depends on that.
    ///
    /// # Errors
    /// A sentence, when the workflow has no such step.
    pub fn copied_outcomes(&self, from: Option<&StepName>) -> Result<Vec<CopiedOutcome>, String> {
        let Some(course) = self.course() else { return Ok(Vec::new()) };
        let plan = course.program.plan();
        let mut begin_again = course.undone();
        if let Some(from) = from {
            let names = || plan.steps.iter().map(|step| step.name.as_str()).collect::<Vec<_>>().join(", ");
            let found =
                plan.find(from).ok_or_else(|| format!("the workflow has no step `{from}`; it has {}", names()))?;
            begin_again.push(found);
        }
        let is_again = course.with_dependents(begin_again);
        let kept = (0..course.steps.len()).filter(|number| !is_again[*number]);
        Ok(kept.flat_map(|number| course.outcomes_of(StepIndex(number))).collect())
    }
}

impl Course {
    /// Steps whose effect was taken back, in part at least.
    fn undone(&self) -> Vec<StepIndex> {
        self.undo.done.iter().map(|undone| undone.step).collect()
    }

    /// Which steps are among these, or depend on them.
    fn with_dependents(&self, mut left: Vec<StepIndex>) -> Vec<bool> {
        let mut is_among = vec![false; self.steps.len()];
        while let Some(index) = left.pop() {
            if std::mem::replace(&mut is_among[index.0], true) {
                continue;
            }
            left.extend(self.program.edges[index.0].iter().map(|edge| edge.dependent));
            // The fallback of a step is begun by it, and its end is that step's.
            left.extend(
                self.program
                    .fallback_of
                    .iter()
                    .enumerate()
                    .filter_map(|(number, of)| (*of == Some(index)).then_some(StepIndex(number))),
            );
            left.extend(self.program.fallback_of[index.0]);
        }
        is_among
    }

    fn outcomes_of(&self, index: StepIndex) -> Vec<CopiedOutcome> {
        let plan = self.program.plan().step(index);
        let step = &self.steps[index.0];
        let copied = |item: u64, outcome: StepOutcome| CopiedOutcome { step: plan.name.clone(), item, outcome };
        let completed = || step.items.iter().enumerate().filter(|(_, item)| item.status == StepStatus::Completed);
        match &plan.action {
            Action::Wait(_) | Action::Signal { .. } | Action::Emit { .. } => {
                let outcome = StepOutcome {
                    status: Status::Completed,
                    output: step.output.clone(),
                    failure: None,
                    attempt: 0,
                    instance: None,
                };
                (step.status == StepStatus::Completed).then(|| copied(0, outcome)).into_iter().collect()
            }
            // Turns that were not enough are not enough again.
            Action::Repeat { .. } if step.is_exhausted() => Vec::new(),
            Action::Race { .. } => {
                let winner = step.winner.and_then(|winner| step.items.get(winner).map(|item| (winner, item)));
                winner.map(|(place, item)| copied(place as u64, outcome_of(item))).into_iter().collect()
            }
            _ => completed().map(|(place, item)| copied(place as u64, outcome_of(item))).collect(),
        }
    }
}

impl StepRun {
    fn is_exhausted(&self) -> bool {
        self.error.as_ref().is_some_and(|error| error.failure.code == codes::TURNS_EXHAUSTED)
    }
}

fn outcome_of(item: &Item) -> StepOutcome {
    StepOutcome {
        status: Status::Completed,
        output: item.output.clone(),
        failure: None,
        attempt: item.attempt,
        instance: item.instance.clone(),
    }
}
