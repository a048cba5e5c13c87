//! Pictures of a plan: Mermaid for documents, plain text for terminals.

#[cfg(test)]
mod tests;

use std::fmt::Write;

use crate::{
    Plan,
    plan::{Action, OnError, Step, StepIndex, Target, Wait},
};

/// How much is shown of what a step does, in a terminal.
const WHAT_CHARS_MAX: usize = 48;

/// A Mermaid flowchart: what needs what, with dashed arrows for `needs_any` and dotted ones to fallbacks.
pub fn mermaid(plan: &Plan) -> String {
    let mut text = String::from("flowchart TD\n");
    for (index, step) in plan.steps.iter().enumerate() {
        let condition =
            step.condition.as_ref().map_or_else(String::new, |condition| format!("\nif {}", condition.source()));
        let label = quoted(&format!("{}\n{}{condition}", step.name, what(step)));
        let shape = match &step.action {
            Action::Signal { .. } | Action::Wait(_) => format!("([{label}])"),
            Action::ForEach { .. } | Action::Repeat { .. } => format!("[[{label}]]"),
            Action::Race { .. } => format!("{{{{{label}}}}}"),
            Action::Once(_) | Action::Emit { .. } => format!("[{label}]"),
        };
        // Writing to a String does not fail.
        let _ = writeln!(text, "    s{index}{shape}");
    }
    for (index, step) in plan.steps.iter().enumerate() {
        for need in &step.needs {
            let _ = writeln!(text, "    s{} --> s{index}", need.0);
        }
        for need in &step.needs_any {
            let _ = writeln!(text, "    s{} -.->|any| s{index}", need.0);
        }
        if let OnError::Fallback(fallback) = step.on_error {
            let _ = writeln!(text, "    s{index} -.->|on error| s{}", fallback.0);
        }
    }
    text
}

/// A drawing for terminals: level by level, what can begin together stands together, and each step says what it waits for.
pub fn terminal(plan: &Plan) -> String {
    let levels = levels(plan);
    let last = levels.iter().copied().max().unwrap_or_default();
    let name_width = plan.steps.iter().map(|step| step.name.as_str().len()).max().unwrap_or_default();
    let whats: Vec<String> = plan.steps.iter().map(|step| shortened(&what(step))).collect();
    let what_width = whats.iter().map(|what| what.chars().count()).max().unwrap_or_default();
    let mut text = format!("{} {}\n", plan.workflow, plan.version);
    for level in 0..=last {
        let here: Vec<usize> = (0..plan.steps.len()).filter(|step| levels[*step] == level).collect();
        if level > 0 && !here.is_empty() {
            text.push_str("│\n▼\n");
        }
        for (place, index) in here.iter().enumerate() {
            let (step, what) = (&plan.steps[*index], &whats[*index]);
            let corner = match (here.len(), place) {
                (1, _) => '─',
                (_, 0) => '┌',
                (count, place) if place + 1 == count => '└',
                _ => '├',
            };
            let line =
                format!("{corner} {:name_width$}  {what:what_width$}  {}", step.name.as_str(), waits_for(plan, step));
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
    text
}

/// At most [`WHAT_CHARS_MAX`] characters.
fn shortened(text: &str) -> String {
    if text.chars().count() <= WHAT_CHARS_MAX {
        return text.to_owned();
    }
    text.chars().take(WHAT_CHARS_MAX - 1).chain(['…']).collect()
}

/// How many steps at least are done one after the other before each.
fn levels(plan: &Plan) -> Vec<usize> {
    let mut levels = vec![0; plan.steps.len()];
    // Every pass sets at least one level right for good, and a plan has no cycles.
    for _ in 0..plan.steps.len() {
        let mut changed = false;
        for (index, step) in plan.steps.iter().enumerate() {
            let before = step.needs.iter().chain(&step.needs_any).chain(&step.fallback_of);
            let level = before.map(|need| levels[need.0] + 1).max().unwrap_or_default();
            changed |= level != levels[index];
            levels[index] = level;
        }
        if !changed {
            break;
        }
    }
    levels
}

/// What a step does, in a few words.
pub fn what(step: &Step) -> String {
    match &step.action {
        Action::Once(body) => target(&body.target),
        Action::ForEach { items, body, max_parallel, .. } => {
            format!("{} for each of {}, {max_parallel} at once", target(&body.target), items.source())
        }
        Action::Repeat { body, until, turns_max, .. } => {
            format!("{} until {}, {turns_max} times at most", target(&body.target), until.source())
        }
        Action::Race { branches } => {
            let names: Vec<&str> = branches.iter().map(|(name, _)| name.as_str()).collect();
            format!("race of {}", names.join(", "))
        }
        Action::Wait(Wait::For(duration)) => format!("wait {}", protocol::duration::format(*duration)),
        Action::Wait(Wait::Until(moment)) => format!("wait until {}", moment.source()),
        Action::Signal { name, timeout: Some(timeout), .. } => {
            format!("signal {name} within {}", protocol::duration::format(*timeout))
        }
        Action::Signal { name, timeout: None, .. } => format!("signal {name}"),
        Action::Emit { topic, .. } => format!("emit {topic}"),
    }
}

fn target(target: &Target) -> String {
    match target {
        Target::Capability(capability) => format!("call {capability}"),
        Target::Workflow(workflow) => format!("workflow {workflow}"),
    }
}

fn waits_for(plan: &Plan, step: &Step) -> String {
    let names = |steps: &[StepIndex]| -> String {
        let names: Vec<&str> = steps.iter().map(|index| plan.step(*index).name.as_str()).collect();
        names.join(", ")
    };
    let mut parts = Vec::new();
    if !step.needs.is_empty() {
        parts.push(format!("◄ {}", names(&step.needs)));
    }
    if !step.needs_any.is_empty() {
        parts.push(format!("◄ any of {}", names(&step.needs_any)));
    }
    if let Some(of) = step.fallback_of {
        parts.push(format!("◄ if {} fails", plan.step(of).name));
    }
    if let Some(condition) = &step.condition {
        parts.push(format!("if {}", condition.source()));
    }
    if step.on_error == OnError::Continue {
        parts.push("may fail".to_owned());
    }
    if let Some(undo) = &step.undo {
        parts.push(format!("undo: {}", target(&undo.target)));
    }
    parts.join("  ")
}

/// Text in a Mermaid node: its quotes and brackets would end it.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for each in text.chars() {
        match each {
            '\n' => quoted.push_str("<br/>"),
            '"' => quoted.push_str("#quot;"),
            '#' => quoted.push_str("#35;"),
            '<' => quoted.push_str("#lt;"),
            '>' => quoted.push_str("#gt;"),
            '`' => quoted.push_str("#96;"),
            each if each.is_control() => quoted.push(' '),
            each => quoted.push(each),
        }
    }
    quoted.push('"');
    quoted
}
