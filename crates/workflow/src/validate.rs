//! Looks at a definition beside the fleet that it is for: who is asked, and whether they take what they are given.

mod outputs;
#[cfg(test)]
mod tests;

use document::{Fault, Located, below, check_against};
use protocol::{Capability, WorkflowName};
use serde_json::{Value, json};

use crate::{
    Plan,
    plan::{Target, read},
    template,
};

/// What a fleet has.
pub struct World<'a> {
    /// The JSON Schema of a capability's input, `true` where it takes everything; none if nobody is known to serve it.
    pub capability: &'a dyn Fn(&Capability) -> Option<Value>,
    /// The JSON Schema of what a capability gives; none where nobody says.
    pub output: &'a dyn Fn(&Capability) -> Option<Value>,
    /// The JSON Schema of a workflow's input, `true` where it takes everything; none if it is not known.
    pub workflow: &'a dyn Fn(&WorkflowName) -> Option<Value>,
    /// Who serves a capability, besides the workflow of this name.
    pub server: &'a dyn Fn(&Capability, &WorkflowName) -> Option<Server>,
}

/// Who serves a capability.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Server {
    /// Agents do.
    Agents,
    /// This workflow does.
    Workflow(WorkflowName),
}

/// What was found.
#[derive(Debug, Default)]
pub struct Report {
    /// The plan and the definition as it is to be stored; none if there are faults.
    pub plan: Option<(Plan, Value)>,
    /// What is wrong, in the order of the text.
    pub faults: Vec<Fault>,
    /// What may be meant, and is most likely not, in the order of the text.
    pub warnings: Vec<Fault>,
}

/// Everything that can be found in the text of a definition, YAML or JSON, without a run.
pub fn validate(text: &str, world: &World<'_>) -> Report {
    let located = match read::locate(text) {
        Ok(located) => located,
        Err(faults) => return Report { faults, ..Report::default() },
    };
    let mut found = read::read(&located);
    let mut warnings = std::mem::take(&mut found.warnings);
    let serves = found.plan.as_ref().and_then(|plan| Some((plan.serves.clone()?, plan.workflow.clone())));
    let (faults, doubts) = outputs::check(&located, &found.reads, &found.asked, world);
    found.faults.extend(faults);
    warnings.extend(doubts);
    for (pointer, target) in std::mem::take(&mut found.asked) {
        if let (Target::Capability(asked), Some((capability, _))) = (&target, &serves)
            && asked == capability
        {
            let message = format!("this workflow serves `{asked}`: each of its runs would ask for another one");
            warnings.push(located.fault(&below(&pointer, "call"), message));
            continue;
        }
        let (key, schema) = match &target {
            Target::Capability(capability) => ("call", (world.capability)(capability)),
            Target::Workflow(workflow) => ("workflow", (world.workflow)(workflow)),
        };
        match schema {
            Some(schema) => check_with(&located, &pointer, &schema, &mut found.faults),
            None => warnings.push(located.fault(&below(&pointer, key), unknown(&target))),
        }
    }
    if let Some((capability, workflow)) = &serves
        && let Some(server) = (world.server)(capability, workflow)
    {
        found.faults.push(located.fault("/serves", served_twice(capability, &server)));
    }
    found.faults.sort_by_key(|fault| (fault.line, fault.column));
    warnings.sort_by_key(|fault| (fault.line, fault.column));
    match read::plan_of(found) {
        Ok(plan) => {
            let definition = read::stored(&located, &plan);
            Report { plan: Some((plan, definition)), faults: Vec::new(), warnings }
        }
        Err(faults) => Report { plan: None, faults, warnings },
    }
}

/// What is wrong with the input of a run.
pub fn input(plan: &Plan, input: &Value) -> Vec<Fault> {
    let mut faults = Vec::new();
    if let Some(schema) = &plan.input {
        check_against(&Located::of(input.clone()), "", schema, &[], &mut faults);
    }
    faults
}

fn served_twice(capability: &Capability, server: &Server) -> String {
    match server {
        Server::Agents => format!(
            "agents serve `{capability}`, and a request goes to one or the other: stop them first (`sortie agents list \
             --capability {capability}`), or serve another capability"
        ),
        Server::Workflow(other) => {
            format!("the workflow `{other}` serves `{capability}`: remove it or apply it without `serves` first")
        }
    }
}

fn unknown(target: &Target) -> String {
    match target {
        Target::Capability(capability) => {
            format!("no agent is known that serves `{capability}`; its requests would wait for one")
        }
        Target::Workflow(workflow) => {
            format!("there is no workflow `{workflow}`; its runs would wait until it is applied")
        }
    }
}

/// Whether literals are what is taken. What an expression gives is known later.
fn check_with(located: &Located, pointer: &str, schema: &Value, faults: &mut Vec<Fault>) {
    let at = below(pointer, "with");
    let Some(with) = located.value.pointer(&at) else {
        let nothing = Located::of(json!({}));
        let mut missing = Vec::new();
        check_against(&nothing, "", schema, &[], &mut missing);
        faults.extend(missing.into_iter().map(|fault| located.fault(pointer, format!("with: {}", fault.message))));
        return;
    };
    let mut open = Vec::new();
    open_texts(with, &at, &mut open);
    check_against(located, &at, schema, &open, faults);
}

fn open_texts(value: &Value, pointer: &str, open: &mut Vec<String>) {
    match value {
        Value::String(text) if template::has_expression(text) => open.push(pointer.to_owned()),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                open_texts(item, &below(pointer, &index.to_string()), open);
            }
        }
        Value::Object(map) => map.iter().for_each(|(key, item)| open_texts(item, &below(pointer, key), open)),
        _ => {}
    }
}
