//! A trigger, ready to be asked what an event starts.

use protocol::{
    Failure, Headers, RunId, StepName, Subject, WorkflowName, codes,
    trigger::{Reaction, TriggerSpec},
};
use serde_json::{Value, json};

use crate::{
    Expression, Payload, Scope, StepInScope, Template,
    expression::{Names, Root},
    template,
};

/// A spec that was found right.
#[derive(Debug)]
pub struct Trigger {
    spec: TriggerSpec,
    condition: Option<Expression>,
    with: Template,
    /// The id of the run that is told.
    run: Option<Template>,
}

/// What is to be done for an event.
#[derive(Clone, Debug, PartialEq)]
pub enum Deed {
    /// A run of this workflow begins with this input.
    Start(WorkflowName, Value),
    /// This is asked with this input: a subject of work.
    Request(Subject, Value),
    /// This run is told this.
    Signal(RunId, StepName, Value),
}

impl Trigger {
    /// Checks and compiles a spec.
    ///
    /// # Errors
    /// Everything that is wrong with it, a sentence each.
    pub fn compile(spec: TriggerSpec) -> Result<Self, Vec<String>> {
        let mut faults: Vec<String> = spec.check_topic().err().into_iter().collect();
        let names = Names { has_step: &|_| false, locals: &["event"] };
        let condition = spec.condition.as_deref().and_then(|source| {
            let compiled = template::expression(source, &names);
            compiled.map_err(|found| faults.extend(found.iter().map(|fault| place("if", "", fault)))).ok()
        });
        let mut template = |key: &str, value: &Value| {
            let compiled = Template::compile(value, &names);
            compiled
                .map_err(|found| faults.extend(found.iter().map(|fault| place(key, &fault.pointer, &fault.fault))))
                .ok()
        };
        let with = template("with", &spec.with);
        let run = match &spec.then {
            Reaction::Signal { run, .. } => template("then.signal.run", &Value::String(run.clone())),
            Reaction::Start(_) | Reaction::Request { .. } => None,
        };
        let mentions =
            condition.iter().flat_map(|condition| condition.references().iter().map(|mention| &mention.root));
        let templates: Vec<template::Reference> = with.iter().chain(&run).flat_map(Template::references).collect();
        let roots = mentions.chain(templates.iter().map(|mention| &mention.reference.root));
        if let Some(other) = roots.into_iter().find(|root| !matches!(root, Root::Local("event"))) {
            let name = if matches!(other, Root::Run) { "run" } else { "input" };
            faults.push(format!("a trigger knows `event` and no `{name}`: event.data is what was published"));
        }
        match with {
            Some(with) if faults.is_empty() => Ok(Self { spec, condition, with, run }),
            _ => Err(faults),
        }
    }

    /// What it is made from.
    pub fn spec(&self) -> &TriggerSpec {
        &self.spec
    }

    /// What is to be done for an event on one of its topics; none if its condition does not hold.
    ///
    /// # Errors
    /// `expression_failed`; `invalid_input` where the run's id is none.
    pub fn deed(&self, event: &Value) -> Result<Option<Deed>, Failure> {
        let scope = Around { nothing: Payload::default(), none: Value::Null, event: Payload::from(event.clone()) };
        match self.condition.as_ref().map(|condition| condition.evaluate(&scope)).transpose()? {
            None | Some(Value::Bool(true)) => {}
            Some(Value::Bool(false)) => return Ok(None),
            Some(_) => return Err(Failure::new(codes::EXPRESSION_FAILED, "`if` is neither true nor false")),
        }
        let value = |template: &Template| match template.evaluate(&scope)? {
            Payload::Value(value) => Ok::<Value, Failure>(value.as_ref().clone()),
            // An event is at hand.
            Payload::Held { .. } => Ok(Value::Null),
        };
        let with = value(&self.with)?;
        Ok(Some(match &self.spec.then {
            Reaction::Start(workflow) => Deed::Start(workflow.clone(), with),
            Reaction::Request { capability, lane } => {
                Deed::Request(Subject::Request { lane: *lane, capability: capability.clone() }, with)
            }
            Reaction::Signal { name, .. } => {
                let run = self.run.as_ref().map_or(Ok(Value::Null), value)?;
                let text = run.as_str().map_or_else(|| run.to_string(), str::to_owned);
                let run = RunId::parse(&text)
                    .map_err(|error| Failure::new(codes::INVALID_INPUT, format!("the event names no run: {error}")))?;
                Deed::Signal(run, name.clone(), with)
            }
        }))
    }
}

/// An event as its expressions see it.
pub fn event(topic: &str, time: &str, headers: &Headers, data: Value) -> Value {
    let text = |name: &str| headers.get(name).map(str::to_owned);
    json!({
        "id": text("ce-id"),
        "source": text("ce-source"),
        "type": text("ce-type"),
        "topic": topic,
        "time": time,
        "data": data,
    })
}

fn place(key: &str, pointer: &str, fault: &crate::expression::Fault) -> String {
    let path = pointer.replace('/', ".");
    format!("{key}{path}: {}:{}: {}", fault.line, fault.column, fault.message)
}

struct Around {
    nothing: Payload,
    none: Value,
    event: Payload,
}

impl Scope for Around {
    fn input(&self) -> &Payload {
        &self.nothing
    }

    fn run(&self) -> &Value {
        &self.none
    }

    fn step(&self, _name: &str) -> Option<StepInScope<'_>> {
        None
    }

    fn local(&self, name: &str) -> Option<&Payload> {
        (name == "event").then_some(&self.event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trigger(spec: Value) -> Result<Trigger, Vec<String>> {
        Trigger::compile(serde_json::from_value(spec).unwrap())
    }

    fn paid(sum: i64) -> Value {
        event("order.paid", "2030-01-01T00:00:00Z", &Headers::new(), json!({ "sum": sum, "run": "order-7" }))
    }

    #[test]
    fn an_event_becomes_what_the_spec_says() {
        let start = trigger(json!({ "on": "order.paid", "if": "event.data.sum > 100", "then": { "start": "audit" } }));
        let start = start.unwrap();
        assert_eq!(start.deed(&paid(7)), Ok(None));
        let audit = WorkflowName::parse("audit").unwrap();
        assert_eq!(start.deed(&paid(700)), Ok(Some(Deed::Start(audit, json!({ "sum": 700, "run": "order-7" })))));

        let signal = json!({
            "on": "order.*", "with": { "topic": "${ event.topic }" },
            "then": { "signal": { "name": "paid", "run": "${ event.data.run }" } },
        });
        let told = Deed::Signal(
            RunId::parse("order-7").unwrap(),
            StepName::parse("paid").unwrap(),
            json!({ "topic": "order.paid" }),
        );
        assert_eq!(trigger(signal.clone()).unwrap().deed(&paid(1)), Ok(Some(told)));
        let nobody = event("order.paid", "", &Headers::new(), json!({ "run": "a.b" }));
        assert_eq!(trigger(signal).unwrap().deed(&nobody).unwrap_err().code, codes::INVALID_INPUT);

        let ask = trigger(
            json!({ "on": ">", "with": null, "then": { "request": { "capability": "echo", "lane": "bulk" } } }),
        );
        let deed = ask.unwrap().deed(&paid(1)).unwrap().unwrap();
        let Deed::Request(subject, Value::Null) = deed else { panic!("{deed:?}") };
        assert_eq!(subject.render(&protocol::Namespace::default()), "fleet.bulk.echo");
    }

    #[test]
    fn everything_that_is_wrong_is_told() {
        let faults = trigger(json!({
            "on": "a..b", "if": "event.data.x >", "with": { "a": ["${ steps.x.output }"] }, "then": { "start": "audit" },
        }));
        let faults = faults.unwrap_err();
        for part in ["on: ", "if: 1:", "with.a.0: 1:"] {
            assert!(faults.iter().any(|fault| fault.starts_with(part)), "{part} in {faults:?}");
        }
        let foreign = trigger(json!({ "on": "a", "if": "input.x == 1", "then": { "start": "audit" } })).unwrap_err();
        assert!(foreign[0].contains("no `input`"), "{foreign:?}");
    }

    #[test]
    fn what_is_no_truth_is_a_failure() {
        let odd = trigger(json!({ "on": "a", "if": "event.data.sum", "then": { "start": "audit" } })).unwrap();
        assert_eq!(odd.deed(&paid(1)).unwrap_err().code, codes::EXPRESSION_FAILED);
    }
}
