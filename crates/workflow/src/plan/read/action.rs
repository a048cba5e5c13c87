//! What a step does: exactly one thing, with what belongs to it.

use std::time::Duration;

use document::{Retry, below};
use protocol::{Capability, Lane, WorkflowName, limits};
use serde_json::{Value, json};

use super::{Mentioner, Reader};
use crate::{
    definition::{
        BodyDefinition, PARALLEL_DEFAULT, RepeatDefinition, StepDefinition, SuccessDefinition, TURNS_DEFAULT,
        WaitDefinition,
    },
    plan::{Action, Body, Success, Target, Wait},
};

/// What may be said of a request.
#[derive(Clone, Default)]
pub(super) struct Knobs {
    lane: Option<Lane>,
    timeout: Option<Duration>,
    deadline: Option<Duration>,
    retry: Option<Retry>,
}

impl Knobs {
    pub(super) fn of_step(step: &StepDefinition) -> Self {
        Self { lane: step.lane, timeout: step.timeout, deadline: step.deadline, retry: step.retry.clone() }
    }

    pub(super) fn of_body(body: &BodyDefinition) -> Self {
        Self { lane: body.lane, timeout: body.timeout, deadline: body.deadline, retry: body.retry.clone() }
    }

    /// These, and others where nothing is said.
    pub(super) fn or(self, others: &Self) -> Self {
        Self {
            lane: self.lane.or(others.lane),
            timeout: self.timeout.or(others.timeout),
            deadline: self.deadline.or(others.deadline),
            retry: self.retry.or_else(|| others.retry.clone()),
        }
    }
}

/// Which keys mean something in which kind of step.
const BELONGS: [(&str, &[&str]); 10] = [
    ("with", &["call", "workflow", "emit"]),
    ("foreach", &["call", "workflow"]),
    ("max_parallel", &["foreach"]),
    ("success", &["foreach"]),
    ("otherwise", &["signal"]),
    ("lane", &["call", "workflow", "repeat", "race"]),
    ("timeout", &["call", "repeat", "race", "signal"]),
    ("deadline", &["call", "workflow", "repeat", "race"]),
    ("retry", &["call", "repeat", "race"]),
    ("undo", &["call", "workflow", "emit", "repeat", "race"]),
];

/// What a step can do.
const KINDS: [&str; 7] = ["call", "workflow", "wait", "signal", "emit", "repeat", "race"];

/// `call`, `workflow` and `with`.
type Asked<'a> = (Option<&'a Capability>, Option<&'a WorkflowName>, Option<&'a Value>);

impl Reader<'_> {
    pub(super) fn action(&mut self, index: usize, pointer: &str, step: &StepDefinition) -> Option<Action> {
        let kind = self.kind(pointer)?;
        self.check_belongings(pointer, kind);
        let by = Mentioner::Step(index);
        let knobs = Knobs::of_step(step);
        match kind {
            "wait" => self.wait(pointer, step.wait.as_ref()?, by),
            "signal" => {
                let otherwise =
                    step.otherwise.as_ref().map(|value| self.template(&below(pointer, "otherwise"), value, &[], by));
                if step.otherwise.is_some() && step.timeout.is_none() {
                    self.fault(&below(pointer, "otherwise"), "is never used without a `timeout`");
                }
                let otherwise = match otherwise {
                    None => None,
                    Some(template) => Some(template?),
                };
                Some(Action::Signal { name: step.signal.clone()?, timeout: step.timeout, otherwise })
            }
            "emit" => {
                let with = self.with(pointer, step.with.as_ref(), &[], by)?;
                Some(Action::Emit { topic: step.emit.clone()?, with })
            }
            "repeat" => self.repeat(pointer, step.repeat.as_ref()?, &knobs, by),
            "race" => {
                let mut branches = Vec::new();
                for (name, body) in step.race.as_ref()? {
                    let at = below(&below(pointer, "race"), name);
                    let knobs = Knobs::of_body(body).or(&knobs);
                    let asked = (body.call.as_ref(), body.workflow.as_ref(), body.with.as_ref());
                    let body = self.body(&at, asked, &knobs, &[], by);
                    branches.push(body.map(|body| (name.clone(), body)));
                }
                Some(Action::Race { branches: branches.into_iter().collect::<Option<_>>()? })
            }
            _ => {
                let asked = (step.call.as_ref(), step.workflow.as_ref(), step.with.as_ref());
                let Some(foreach) = &step.foreach else {
                    return self.body(pointer, asked, &knobs, &[], by).map(Action::Once);
                };
                let items = self.expression(&below(pointer, "foreach"), foreach, &[], by);
                let body = self.body(pointer, asked, &knobs, &["item", "index"], by);
                let success = match &step.success {
                    Some(SuccessDefinition::AtLeast(number)) => Success::AtLeast(*number),
                    Some(SuccessDefinition::Word(word)) if word == "any" => Success::Any,
                    _ => Success::All,
                };
                let max_parallel = step.max_parallel.unwrap_or(PARALLEL_DEFAULT);
                Some(Action::ForEach { items: items?, max_parallel, success, body: body? })
            }
        }
    }

    /// The one thing that the step does.
    fn kind(&mut self, pointer: &str) -> Option<&'static str> {
        let said: Vec<&str> = KINDS.into_iter().filter(|kind| self.says(pointer, kind)).collect();
        match said.as_slice() {
            [kind] => Some(KINDS.into_iter().find(|known| known == kind)?),
            [] => {
                self.fault(
                    pointer,
                    format!("does nothing; say one of {}", KINDS.map(|kind| format!("`{kind}`")).join(", ")),
                );
                None
            }
            [first, others @ ..] => {
                let message = format!("the step does `{first}` already; a step does one thing");
                for other in others {
                    self.fault(&below(pointer, other), message.clone());
                }
                None
            }
        }
    }

    fn says(&self, pointer: &str, key: &str) -> bool {
        self.located.value.pointer(&below(pointer, key)).is_some()
    }

    fn check_belongings(&mut self, pointer: &str, kind: &str) {
        for (key, kinds) in BELONGS {
            let belongs = kinds.contains(&kind) || (kinds == ["foreach"] && self.says(pointer, "foreach"));
            if belongs || !self.says(pointer, key) {
                continue;
            }
            let kinds: Vec<String> = kinds.iter().map(|kind| format!("`{kind}`")).collect();
            let hint = match (key, kind) {
                ("with", "repeat" | "race") => format!("; it belongs into the `{kind}`"),
                ("timeout", "workflow") => "; the workflow has its own, or say `deadline`".to_owned(),
                ("retry", "workflow") => "; its steps are tried again, as they say".to_owned(),
                _ => format!("; it belongs to {}", kinds.join(", ")),
            };
            self.fault(&below(pointer, key), format!("means nothing to a `{kind}` step{hint}"));
        }
    }

    fn wait(&mut self, pointer: &str, wait: &WaitDefinition, by: Mentioner) -> Option<Action> {
        let wait = match wait {
            WaitDefinition::For(duration) => Wait::For(*duration),
            WaitDefinition::Until { until } => {
                Wait::Until(self.expression(&format!("{pointer}/wait/until"), until, &[], by)?)
            }
        };
        Some(Action::Wait(wait))
    }

    fn repeat(&mut self, pointer: &str, repeat: &RepeatDefinition, knobs: &Knobs, by: Mentioner) -> Option<Action> {
        let at = below(pointer, "repeat");
        let asked = (repeat.call.as_ref(), repeat.workflow.as_ref(), repeat.with.as_ref());
        let body = self.body(&at, asked, knobs, &["turn", "last"], by);
        let until = self.expression(&below(&at, "until"), &repeat.until, &["turn", "last"], by);
        let turns_max = repeat.max.unwrap_or(TURNS_DEFAULT);
        Some(Action::Repeat { body: body?, until: until?, turns_max, pause: repeat.pause })
    }

    /// One request or one sub-run.
    pub(super) fn body(
        &mut self,
        pointer: &str,
        (call, workflow, with): Asked<'_>,
        knobs: &Knobs,
        locals: &[&'static str],
        by: Mentioner,
    ) -> Option<Body> {
        let target = match (call, workflow) {
            (Some(capability), None) => Some(Target::Capability(capability.clone())),
            (None, Some(name)) => Some(Target::Workflow(name.clone())),
            (None, None) => {
                self.fault(pointer, "says neither `call` nor `workflow`");
                None
            }
            (Some(_), Some(_)) => {
                self.fault(pointer, "says both `call` and `workflow`; it is one of them");
                None
            }
        };
        let with = self.with(pointer, with, locals, by);
        let target = target?;
        self.asked.push((pointer.to_owned(), target.clone()));
        let Knobs { lane, mut timeout, deadline, mut retry } = knobs.clone();
        if matches!(target, Target::Workflow(_)) {
            (timeout, retry) = (None, None);
        }
        if timeout.is_some_and(|timeout| timeout > limits::TIMEOUT_MAX) {
            self.fault(&below(pointer, "timeout"), "one attempt may take 7d at most");
        }
        Some(Body { target, with: with?, lane, timeout, deadline, retry: retry.map(|retry| retry.policy()) })
    }

    fn with(
        &mut self,
        pointer: &str,
        with: Option<&Value>,
        locals: &[&'static str],
        by: Mentioner,
    ) -> Option<crate::Template> {
        let nothing = json!({});
        self.template(&below(pointer, "with"), with.unwrap_or(&nothing), locals, by)
    }
}
