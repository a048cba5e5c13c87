//! What is kept, as a table and one by one.

use client::StoredWorkflow;
use process::{ExitCode, Problem};
use protocol::{Capability, WorkflowName, duration, time};
use serde_json::Value;
use workflow::{
    Plan,
    plan::{Action, Body, Step, StepIndex, Target},
};

use crate::{output::Output, refusal, session::Session};

pub(super) async fn list(session: &Session) -> Result<ExitCode, Problem> {
    let all = session.client().await?.workflows().await.map_err(refusal::problem)?;
    session.output().show(&all, || match all.is_empty() {
        true => "there are no workflows; `sortie workflow apply --help` shows how to keep one".to_owned(),
        false => table(session.output(), &all),
    })?;
    Ok(ExitCode::Done)
}

pub(super) async fn one(name: &WorkflowName, version: Option<&str>, session: &Session) -> Result<ExitCode, Problem> {
    let client = session.client().await?;
    let stored = match version {
        None => client.workflow(name).await.map_err(refusal::problem)?,
        Some(version) => {
            let history = client.workflow_history(name).await.map_err(refusal::problem)?;
            history.into_iter().rev().find(|stored| stored.version() == version)
        }
    };
    let Some(stored) = stored else { return Err(unknown(name)) };
    session.output().show(&stored, || lines(session.output(), &stored))?;
    Ok(ExitCode::Done)
}

pub(super) async fn history(name: &WorkflowName, session: &Session) -> Result<ExitCode, Problem> {
    let all = session.client().await?.workflow_history(name).await.map_err(refusal::problem)?;
    if all.is_empty() {
        return Err(unknown(name));
    }
    session.output().show(&all, || {
        let rows = all.iter().map(|stored| {
            let at = stored.at.map(time::format).unwrap_or_default();
            [stored.revision.to_string(), stored.version().to_owned(), at]
        });
        session.output().table(&["REVISION", "VERSION", "APPLIED"], rows)
    })?;
    Ok(ExitCode::Done)
}

/// What is said of a name that is not kept.
pub(super) fn unknown(name: &WorkflowName) -> Problem {
    let problem = Problem::new(ExitCode::WorkFailed, format!("there is no such workflow {name}"));
    problem.advise("`sortie workflow list` shows what is kept")
}

fn table(output: Output, all: &[StoredWorkflow]) -> String {
    let rows = all.iter().map(|stored| {
        let (steps, serves, told) = match Plan::read(&stored.definition) {
            Ok(plan) => (plan.steps.len().to_string(), plan.serves, description(stored)),
            Err(_) => (String::new(), None, "cannot be run: apply it again".to_owned()),
        };
        let serves = serves.as_ref().map(Capability::to_string).unwrap_or_default();
        [stored.name.to_string(), stored.version().to_owned(), steps, serves, told]
    });
    output.table(&["NAME", "VERSION", "STEPS", "SERVES", "WHAT"], rows)
}

fn lines(output: Output, stored: &StoredWorkflow) -> String {
    let plan = match Plan::read(&stored.definition) {
        Ok(plan) => plan,
        Err(faults) => {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            return format!("{} cannot be run:\n{}", stored.name, faults.join("\n"));
        }
    };
    let mut head = vec![format!("{} {}", plan.workflow, plan.version)];
    head.extend(Some(description(stored)).filter(|text| !text.is_empty()));
    head.extend(plan.serves.as_ref().map(|capability| format!("serves {capability}")));
    head.extend(plan.timeout.map(|timeout| format!("may take {}", duration::format(timeout))));
    let names = |steps: &[StepIndex]| -> Vec<String> {
        steps.iter().map(|index| plan.step(*index).name.as_str().to_owned()).collect()
    };
    let rows = plan.steps.iter().map(|step| {
        let mut after = names(&step.needs);
        if !step.needs_any.is_empty() {
            after.push(format!("any of {}", names(&step.needs_any).join(", ")));
        }
        let failed = step.fallback_of.map(|index| format!("when {} fails", plan.step(index).name));
        after.extend(failed);
        [step.name.to_string(), what(step), after.join(", "), undo(step)]
    });
    format!("{}\n\n{}", head.join("\n"), output.table(&["STEP", "DOES", "AFTER", "UNDONE BY"], rows))
}

fn description(stored: &StoredWorkflow) -> String {
    stored.definition.get("description").and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn undo(step: &Step) -> String {
    step.undo.as_ref().map(target).unwrap_or_default()
}

fn what(step: &Step) -> String {
    let does = match &step.action {
        Action::Once(body) => target(body),
        Action::ForEach { max_parallel, body, .. } => format!("{} for each, {max_parallel} at once", target(body)),
        Action::Repeat { body, turns_max, .. } => format!("{} again, at most {turns_max} times", target(body)),
        Action::Race { branches } => {
            let branches: Vec<String> = branches.iter().map(|(_, body)| target(body)).collect();
            format!("the first of {}", branches.join(", "))
        }
        Action::Wait(workflow::plan::Wait::For(wait)) => format!("wait {}", duration::format(*wait)),
        Action::Wait(workflow::plan::Wait::Until(moment)) => format!("wait until {}", moment.source()),
        Action::Signal { name, timeout, .. } => {
            let bound = timeout.map(|timeout| format!(", at most {}", duration::format(timeout)));
            format!("wait for the signal {name}{}", bound.unwrap_or_default())
        }
        Action::Emit { topic, .. } => format!("tell {topic}"),
    };
    match &step.condition {
        Some(condition) => format!("{does}, if {}", condition.source()),
        None => does,
    }
}

fn target(body: &Body) -> String {
    match &body.target {
        Target::Capability(capability) => format!("call {capability}"),
        Target::Workflow(workflow) => format!("run {workflow}"),
    }
}
