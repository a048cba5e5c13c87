//! Workflows by chance.

use proptest::prelude::*;
use serde_json::json;

use super::build::{
    Draft, PlanDraft, call, call_with, emit, for_each, plan, race, repeat, signal, sub_run, wait, wait_until,
};
use crate::plan::{Stop, Success};

/// Steps of one workflow.
const STEPS_MAX: usize = 9;

/// What a generated workflow may have in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kinds {
    /// Everything.
    All,
    /// Nothing whose result depends on who comes first, and no failure that ends the run.
    Unordered,
}

/// How one step is made, by numbers that chance gives; they shrink to the plainest step.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    kind: u8,
    size: u8,
    bits: u16,
    needs: [u8; 3],
    on_error: u8,
}

/// A workflow as chance made it; a plan cannot be cloned.
#[derive(Clone, Debug)]
pub(crate) struct Recipes {
    kinds: Kinds,
    steps: Vec<Recipe>,
    does_finish: bool,
    timeout: Option<u64>,
}

pub(crate) fn recipes(kinds: Kinds) -> impl Strategy<Value = Recipes> {
    let recipe = (0..14_u8, 0..4_u8, any::<u16>(), any::<[u8; 3]>(), 0..8_u8)
        .prop_map(|(kind, size, bits, needs, on_error)| Recipe { kind, size, bits, needs, on_error });
    let steps = prop::collection::vec(recipe, 0..STEPS_MAX);
    let timeout =
        prop::option::weighted(0.2, 5..40_u64).prop_map(move |timeout| timeout.filter(|_| kinds == Kinds::All));
    (steps, any::<bool>(), timeout).prop_map(move |(steps, does_finish, timeout)| Recipes {
        kinds,
        steps,
        does_finish,
        timeout,
    })
}

impl Recipe {
    fn is(&self, bit: u32) -> bool {
        self.bits & (1 << bit) != 0
    }

    fn action(&self, name: &str, kinds: Kinds) -> Draft {
        let list = json!((0..self.size).collect::<Vec<u8>>()).to_string();
        let pause = self.is(0).then_some(u64::from(self.size));
        let timeout = self.is(1).then_some(20);
        let otherwise = self.is(2).then(|| json!("none came"));
        let parallel = usize::from(self.size / 2) + 1;
        match (self.kind, kinds) {
            (0 | 1, _) => call(name),
            (2, _) => sub_run(name, "other"),
            (3, _) => for_each(name, &list, parallel, Success::Any),
            // Which items began depends on who came first.
            (4, Kinds::All) => for_each(name, &list, parallel, Success::All),
            (5, Kinds::All) => for_each(name, &list, parallel, Success::AtLeast(2)),
            (4 | 5, Kinds::Unordered) => for_each(name, &list, 10, Success::Any),
            (6, _) => repeat(name, "turn >= 1", u64::from(self.size) + 1, pause),
            (7, Kinds::All) => race(name, usize::from(self.size)),
            (8, _) => wait(name, u64::from(self.size)),
            (9, Kinds::All) => wait_until(name, if self.is(3) { "'tomorrow'" } else { "'2027-01-15T08:00:09Z'" }),
            (10, Kinds::All) => signal(name, if self.is(4) { "go" } else { "stop" }, timeout, otherwise),
            (11, _) => emit(name, json!("${ input }")),
            (12, _) => call_with(name, json!("${ input.missing }")),
            _ => call(name),
        }
    }
}

impl Recipes {
    pub(crate) fn plan(&self) -> PlanDraft {
        let mut drafts: Vec<Draft> = Vec::new();
        // A fallback is a step of its own, behind the one that it stands in for.
        let mut fallbacks: Vec<Draft> = Vec::new();
        for (number, recipe) in self.steps.iter().enumerate() {
            let name = format!("s{number}");
            let mut draft = recipe.action(&name, self.kinds);
            for need in recipe.needs.iter().filter(|need| **need < 128 && number > 0) {
                let need = format!("s{}", usize::from(*need) % number);
                draft = if recipe.is(5) { draft.needs_any(&[&need]) } else { draft.needs(&[&need]) };
            }
            draft = match recipe.bits >> 6 & 7 {
                0 => draft.when("false"),
                1 => draft.when("input == 1"),
                2 if number > 0 => draft.when(&format!("steps.s{}.status != 'failed'", number - 1)),
                _ => draft,
            };
            if recipe.is(9) {
                draft = draft.undo();
            }
            draft = match (recipe.on_error, self.kinds) {
                (0 | 1, Kinds::All) => draft,
                (2..=4, _) => {
                    let fallback = format!("f{number}");
                    let made = if recipe.is(10) { call(&fallback).undo() } else { call(&fallback) };
                    let is_fatal = recipe.is(11) && self.kinds == Kinds::All;
                    fallbacks.push(if is_fatal { made } else { made.go_on() });
                    draft.or(&fallback)
                }
                _ => draft.go_on(),
            };
            drafts.push(draft);
        }
        drafts.extend(fallbacks);
        let stop = if self.does_finish { Stop::FinishWhatRuns } else { Stop::FailFast };
        let plan = plan(drafts).on_failure(stop, true);
        match self.timeout {
            Some(timeout) => plan.timeout(timeout),
            None => plan,
        }
    }

    /// Whether the condition of each step looks only at what ended before it began.
    pub(crate) fn is_unordered(&self) -> bool {
        self.steps.iter().all(|recipe| recipe.bits >> 6 & 7 != 2)
    }
}
